"""Slips that leave our numbers as they are: a piece of them, a pile, another order, a bound, a rounding.

Like those of `slips`, one is named only where it explains every number of every case.
"""

from collections.abc import Callable, Iterator

import numpy as np

from diffusion_lessons.course.exercises.compare import close, number
from diffusion_lessons.course.exercises.shapes import Arrays, Slip

Close = Callable[[np.ndarray, np.ndarray], bool]  # are they of one shape, and near enough?
RETURN = "does a `return` stand inside the loop?"


def piece(arrays: Arrays, rtol: float, atol: float) -> Slip:
    """The slip of this kind that explains (ours, theirs) of each case; or None."""
    if not arrays or any(np.iscomplexobj(each) for pair in arrays for each in pair):
        return None

    def near(mine: np.ndarray, theirs: np.ndarray) -> bool:
        return mine.shape == theirs.shape and bool(close(mine, theirs, rtol, atol).all())

    wrong = [(mine, theirs) for mine, theirs in arrays if not near(mine, theirs)]
    if len(wrong) < 2 and sum(theirs.size for _, theirs in wrong) < 8:
        return None
    for said, about, holds in (*_one_of_ours(near), *_a_pile(near), *_another_order(near)):
        if all(holds(mine, theirs) for mine, theirs in wrong):
            return said, about
    return _always_the_same(arrays, rtol, atol) or _cut_off(wrong, near) or _single_precision(wrong)


Rule = tuple[str, str, Callable[[np.ndarray, np.ndarray], bool]]


def _one_of_ours(near: Close) -> Iterator[Rule]:
    """The first entry of ours or the last: alone, or with zeros where the others belong."""
    for which, place, tail in (("first", 0, f": {RETURN}"), ("last", -1, ".")):
        yield (
            f"Your result is the {which} entry of ours alone{tail}",
            "count",
            lambda mine, theirs, place=place: (  # type: ignore[misc]
                mine.ndim > 0
                and len(mine) > 1
                and (near(mine[place], theirs) or (theirs.shape[:1] == (1,) and near(mine[place], theirs[0])))
            ),
        )
    yield (
        f"The first entry of your result is right, and all others are 0: {RETURN}",
        "count",
        lambda mine, theirs: (
            mine.ndim > 0 and mine.shape == theirs.shape and near(mine[0], theirs[0]) and not theirs[1:].any()
        ),
    )


def _a_pile(near: Close) -> Iterator[Rule]:
    """Ours among others of its shape: what a loop kept of every round."""
    for which, place in (("last", -1), ("first", 0)):
        yield (
            f"Your result is a pile of several, and its {which} entry is ours: return that one alone.",
            "extra",
            lambda mine, theirs, place=place: (  # type: ignore[misc]
                theirs.ndim == mine.ndim + 1 and len(theirs) > 0 and near(mine, theirs[place])
            ),
        )
    for which, rest in (("start", slice(1, None)), ("end", slice(-1))):
        yield (
            f"Your numbers are ours, and one more at the {which}.",
            "count",
            lambda mine, theirs, rest=rest: theirs.ndim == 1 and near(mine, theirs[rest]),  # type: ignore[misc]
        )
    yield (
        "Your result holds ours and more: return only those that are asked for.",
        "extra",
        lambda mine, theirs: (
            mine.ndim == theirs.ndim == 1
            and len(theirs) > len(mine) > 0
            and all(np.isclose(theirs, each, rtol=1e-6, atol=0).any() for each in mine)
        ),
    )


def _another_order(near: Close) -> Iterator[Rule]:
    def shuffled(mine: np.ndarray, theirs: np.ndarray) -> bool:
        same = mine.shape == theirs.shape and mine.ndim == 1
        return same and len(mine) > 2 and near(np.sort(mine), np.sort(theirs))

    said = "Your numbers are ours in another order: is something sorted? Each belongs where its input stands."
    yield said, "order", shuffled


def _always_the_same(arrays: Arrays, rtol: float, atol: float) -> Slip:
    """One number, whatever comes in, where ours is another from case to case."""
    values = np.concatenate([theirs.ravel() for _, theirs in arrays])
    ours = np.concatenate([each.ravel() for each, _ in arrays])
    if len(arrays) < 3 or not values.size or not np.isfinite(values).all() or (values != values[0]).any():
        return None
    if len(np.unique(np.round(ours, 6))) < 3:
        return None
    return f"Your result is {number(values[0])} in every case, whatever comes in.", "input"


def _cut_off(wrong: Arrays, near: Close) -> Slip:
    """Ours with no number above or below a bound, the same bound in each case."""
    for where, bound, cut in (("above", np.max, np.minimum), ("below", np.min, np.maximum)):
        if any(mine.size < 2 or mine.shape != theirs.shape for mine, theirs in wrong):
            continue
        bounds = [float(bound(theirs)) for _, theirs in wrong]
        alike = bool(np.isclose(bounds, bounds[0], rtol=1e-6, atol=0).all())
        some = any((theirs != bounds[0]).any() for _, theirs in wrong)
        some &= sum(int((theirs == bounds[0]).sum()) for _, theirs in wrong) > 1
        if alike and some and all(near(cut(mine, bounds[0]), theirs) for mine, theirs in wrong):
            return f"Your result is ours with everything {where} {number(bounds[0])} cut off.", "extra"
    return None


def _single_precision(wrong: Arrays) -> Slip:
    """Near ours, which need all digits, and without those that float32 cannot hold."""

    def single(a: np.ndarray) -> bool:
        return bool((a.astype(np.float32) == a).all())

    for mine, theirs in wrong:
        if mine.shape != theirs.shape or not mine.size or single(mine) or not single(theirs):
            return None
        if np.abs(theirs - mine).max() > 1e-4 * np.abs(mine).max():
            return None
    return (
        "Your result is ours but for rounding: is something on the way in float32, not float64?",
        "rounding",
    )
