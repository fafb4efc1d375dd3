"""Votes in files: written whole, read back, merged, and no ballot counted twice."""

from pathlib import Path

import pytest

from diffusion_lessons.metrics.preference import Vote
from diffusion_lessons.metrics.votes import load_votes, save_votes

MINE = [Vote("a", "b", "first"), Vote("é", "a", "tie")]
YOURS = [Vote("b", "é", "second")]


def test_what_was_saved_comes_back_and_files_are_put_together(tmp_path: Path) -> None:
    save_votes(MINE, tmp_path / "mine.json")
    save_votes(YOURS, tmp_path / "yours.json")
    assert load_votes(tmp_path / "mine.json", tmp_path / "yours.json") == MINE + YOURS
    assert load_votes() == []


def test_the_same_ballot_is_not_counted_twice(tmp_path: Path) -> None:
    save_votes(MINE, tmp_path / "mine.json")
    (tmp_path / "copy.json").write_bytes((tmp_path / "mine.json").read_bytes())
    with pytest.raises(ValueError, match=r"copy\.json holds the same ballot as .*mine\.json"):
        load_votes(tmp_path / "mine.json", tmp_path / "copy.json")


def test_two_people_who_chose_the_same_are_two(tmp_path: Path) -> None:
    for name in ("mine.json", "yours.json"):
        save_votes(MINE, tmp_path / name)
    assert len(load_votes(tmp_path / "mine.json", tmp_path / "yours.json")) == 4


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        '{"kind": "run", "ballot": "1", "votes": []}',
        '{"kind": "votes", "ballot": "1", "votes": [["a", "b"]]}',
        '{"kind": "votes", "ballot": "1", "votes": [["a", "b", "left"]]}',
        '{"kind": "votes", "ballot": "1", "votes": 3}',
    ],
)
def test_what_holds_no_votes_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "other.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"other\.json holds no votes"):
        load_votes(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot read .*none\.json"):
        load_votes(tmp_path / "none.json")
