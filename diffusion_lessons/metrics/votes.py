"""Votes as files: what one person chose, and several people's files together."""

import json
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

from diffusion_lessons.metrics.preference import FIRST, SECOND, TIE, Vote
from diffusion_lessons.support.files import atomic_write, read_text

KIND = "votes"


def votes_as_text(votes: Sequence[Vote], ballot: str | None = None) -> str:
    """The votes as JSON, with a name of the ballot, so that no ballot is counted twice; None makes one up."""
    told = {"kind": KIND, "ballot": ballot or uuid4().hex, "votes": [list(vote) for vote in votes]}
    return json.dumps(told, ensure_ascii=False, indent=1) + "\n"


def save_votes(votes: Sequence[Vote], file: Path | str) -> None:
    """Write the votes to a file, whole or not at all (ValueError)."""
    with atomic_write(file) as partial:
        partial.write_text(votes_as_text(votes), encoding="utf-8")


def load_votes(*files: Path | str) -> list[Vote]:
    """The votes of all files, one behind the other.

    A file that is missing or holds no votes, and a ballot that was given before, are a ValueError that names
    the file.
    """
    every: list[Vote] = []
    seen: dict[str, Path] = {}
    for file in map(Path, files):
        ballot, votes = _read(file)
        if ballot in seen:
            raise ValueError(f"{file} holds the same ballot as {seen[ballot]}: give each file once")
        seen[ballot] = file
        every += votes
    return every


def _read(file: Path) -> tuple[str, list[Vote]]:
    try:
        told = json.loads(read_text(file))
        ballot, votes = str(told["ballot"]), [Vote(*map(str, vote)) for vote in told["votes"]]
        right = told["kind"] == KIND and all(vote.choice in (FIRST, SECOND, TIE) for vote in votes)
    except OSError as error:
        raise ValueError(f"cannot read {file}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{file} holds no votes: save them with the button of the ballot, or `save_votes`"
        ) from error
    if not right:
        raise ValueError(f"{file} holds no votes, or votes for what was not shown")
    return ballot, votes
