"""The one shape of an error about a name that does not exist."""

from collections.abc import Iterable
from difflib import get_close_matches


def unknown(kind: str, given: object, known: Iterable[str]) -> ValueError:
    """The error for a name of a kind ("sampler") that is not one of `known`, with the nearest right one."""
    names = list(known)
    near = get_close_matches(str(given), names, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return ValueError(f"unknown {kind} {given!r}: expected one of {', '.join(names)}{hint}")
