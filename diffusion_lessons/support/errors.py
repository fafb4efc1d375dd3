"""The one shape of an error about a name that does not exist, and an error in one line."""

from collections.abc import Iterable
from difflib import SequenceMatcher


def unknown(kind: str, given: object, known: Iterable[str]) -> ValueError:
    """The error for a name of a kind ("sampler") that is not one of `known`, with the nearest right one.

    Of several that are equally near it names the first.
    """
    names = list(known)
    alike = [SequenceMatcher(None, name, str(given)).ratio() for name in names]
    nearest = max(alike, default=0.0)
    hint = f"; did you mean {names[alike.index(nearest)]!r}?" if nearest >= 0.5 else ""
    return ValueError(f"unknown {kind} {given!r}: expected one of {', '.join(names)}{hint}")


def first_line(error: Exception) -> str:
    """What an error says, cut to one line of at most 200 characters; its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
