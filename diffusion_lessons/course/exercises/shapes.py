"""Slips of shape alone: our numbers with their dimensions swapped, joined, crossed, repeated or reduced."""

from collections.abc import Sequence
from contextlib import suppress
from itertools import permutations

import numpy as np

from diffusion_lessons.course.exercises.compare import close

Arrays = list[tuple[np.ndarray, np.ndarray]]  # (ours, theirs)
Slip = tuple[str, str] | None  # a sentence and the kind of slip
TABLE = (
    "Your result is a table, and ours is its diagonal: every entry met every other. Shapes (n, 1) and (n,) "
    "make such a table, and so does log_p[:, y], where log_p[range(len(y)), y] takes one entry a row."
)


def reshaped(arrays: Arrays, rtol: float, atol: float) -> Slip:
    """The slip of this kind that explains (ours, theirs) of each case; or None."""
    wrong = [
        (mine, theirs)
        for mine, theirs in arrays
        if mine.shape != theirs.shape or not close(mine, theirs, rtol, atol).all()
    ]
    sentences = {_one(mine, theirs, rtol, atol) for mine, theirs in wrong}
    found = sentences.pop() if len(sentences) == 1 else None
    return found or _longer([(mine.shape, theirs.shape) for mine, theirs in wrong])


def _one(mine: np.ndarray, theirs: np.ndarray, rtol: float, atol: float) -> Slip:
    def agree(a: np.ndarray) -> bool:
        return a.shape == theirs.shape and bool(close(a, theirs, rtol, atol).all())

    if mine.ndim == theirs.ndim and 2 <= mine.ndim <= 5:
        order = next((p for p in permutations(range(mine.ndim)) if agree(mine.transpose(p))), None)
        if order is not None and mine.ndim == 2:
            return "Your result is ours transposed: rows and columns are swapped.", "axis"
        if order is not None:
            return f"The numbers are right, but the dimensions are in the order {order}.", "axis"
    if mine.shape == theirs.shape:
        return None
    if mine.size == theirs.size and agree(mine.reshape(theirs.shape)):
        return "The numbers are right, but their shape is not.", "shape"
    for along, across in permutations(range(mine.ndim), 2):
        for n in range(2, 5):
            with suppress(ValueError):  # where ours has no n equal parts
                if agree(np.concatenate(np.split(mine, n, along), across)):
                    said = f"You joined along dimension {across} what belongs side by side along dimension"
                    return f"{said} {along}: dim={along}.", "axis"
    square = theirs.ndim == mine.ndim + 1 and theirs.shape == mine.shape[:1] + mine.shape
    if square and close(mine, np.moveaxis(theirs.diagonal(), -1, 0), rtol, atol).all():
        return TABLE, "shape"
    if theirs.size == 1 < mine.size:
        for reduced, name in ((mine.mean(), "mean"), (mine.sum(), "sum")):
            if close(reduced, theirs.ravel()[0], rtol, atol):
                said = f"Your result is the {name} of ours over everything"
                return f"{said}: one dimension too many was reduced.", "mean"
    with suppress(ValueError):  # shapes that do not broadcast
        if theirs.size > mine.size and agree(np.broadcast_to(mine, theirs.shape)):
            said = "The numbers are right, but repeated"
            return f"{said}: broadcasting made a bigger tensor than was asked for.", "shape"
    return None


def _longer(shapes: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]) -> Slip:
    """One dimension that is so many times as long in every case, whatever the numbers are."""
    found = set()
    for mine, theirs in shapes:
        other = [d for d in range(len(mine)) if len(mine) == len(theirs) and mine[d] != theirs[d]]
        if len(other) != 1 or not mine[other[0]]:
            return None
        found.add((other[0], theirs[other[0]] / mine[other[0]]))
    if len(shapes) < 2 or len(found) != 1:
        return None
    place, factor = found.pop()
    words = {0.5: "half", 2: "twice"}.get(factor)
    return (f"Dimension {place} of your result is {words} as long as ours.", "count") if words else None
