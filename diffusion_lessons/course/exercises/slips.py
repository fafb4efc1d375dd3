"""Simple slips that need no entry in the bank: a factor, a sign, swapped dimensions, an input handed back.

A slip is named only where it explains every number of every case.
"""

import math
from contextlib import suppress
from itertools import permutations

import numpy as np

from diffusion_lessons.course.exercises.compare import as_array, close, difference
from diffusion_lessons.course.exercises.values import Array, Fields, Plain

Inputs = dict[str, Plain]
Pairs = list[tuple[Plain, Plain]]
Arrays = list[tuple[np.ndarray, np.ndarray]]


def slip(pairs: Pairs, inputs: list[Inputs], rtol: float, atol: float) -> str | None:
    """The simple slip that explains every case, in a sentence, or None.

    `pairs` are (expected, given) of each case, `inputs` those of each case by name.
    """
    if not pairs or any(given is None for _, given in pairs):
        return None
    found = [(as_array(expected), as_array(given)) for expected, given in pairs]
    arrays = [(mine, theirs) for mine, theirs in found if mine is not None and theirs is not None]
    return (
        _swapped(pairs, rtol, atol)
        or _an_input(pairs, inputs, rtol, atol)
        or (_reshaped(arrays, rtol, atol) if len(arrays) == len(pairs) else None)
        or _scaled_alike([leaf for pair in pairs for leaf in _leaves(*pair)], rtol, atol)
        or (_scaled_by_case(arrays, inputs, rtol, atol) if len(arrays) == len(pairs) else None)
    )


def combination(expected: Plain, given: Plain, inputs: Inputs, at: tuple[int, ...] | None) -> str | None:
    """Both results as weighted sums of the inputs, where that is what they are.

    "Your result is 0.99·x + 0.02·noise, expected is 0.99·x + 0.141·noise." Levels may differ from
    sample to sample: then it is said of the sample with the largest difference.
    """
    mine, theirs = as_array(expected), as_array(given)
    if mine is None or theirs is None or mine.shape != theirs.shape or mine.ndim < 2 or not at:
        return None
    arrays = {name: as_array(value) for name, value in inputs.items()}
    terms = {name: array for name, array in arrays.items() if array is not None and array.shape == mine.shape}
    if not terms:
        return None
    terms[""] = np.ones_like(mine)  # a number on its own
    for row, said in ((slice(None), "Your"), (at[0], f"In sample {at[0]} your")):
        columns = np.stack([array[row].ravel() for array in terms.values()], 1)
        yours, ours = (_sum(list(terms), columns, each[row].ravel()) for each in (theirs, mine))
        if yours and ours:
            return f"{said} result is {yours}, expected is {ours}." if yours != ours else None
    return None


def _sum(names: list[str], columns: np.ndarray, y: np.ndarray) -> str:
    """The weighted sum of the columns that is y, to rounding, in words; nothing where none is."""
    entries, terms = columns.shape
    if entries < 4 * terms or not (np.isfinite(columns).all() and np.isfinite(y).all()):
        return ""
    weights, _, rank, _ = np.linalg.lstsq(columns, y, rcond=1e-6)
    if rank < terms or np.abs(columns @ weights - y).max() > 1e-5 * (1 + np.abs(y).max()):
        return ""
    parts = []
    for name, weight in zip(names, weights, strict=True):
        digits = f"{weight:.3g}"
        if name and digits in ("1", "-1"):
            parts.append(f"{digits[:-1]}{name}")
        elif abs(weight) >= 5e-6:
            parts.append(f"{digits}·{name}" if name else digits)
    return " + ".join(parts).replace("+ -", "− ").replace("-", "−") if parts else "zero"


# One slip each -------------------------------------------------------------------------------------


def _swapped(pairs: Pairs, rtol: float, atol: float) -> str | None:
    lists = all(isinstance(each, (list, tuple)) and len(each) == 2 for pair in pairs for each in pair)
    if lists and not any(difference(mine[::-1], yours, rtol, atol, strict=False) for mine, yours in pairs):
        return "The two results are right, but in the other order."
    return None


def _an_input(pairs: Pairs, inputs: list[Inputs], rtol: float, atol: float) -> str | None:
    for name in inputs[0]:
        if all(
            name in values
            and as_array(given) is not None
            and difference(values[name], given, rtol, atol, strict=False) is None
            for (_, given), values in zip(pairs, inputs, strict=True)
        ):
            return f"Your result is the input `{name}`, unchanged."
    return None


def _reshaped(arrays: Arrays, rtol: float, atol: float) -> str | None:
    """The right numbers in a wrong shape or order."""
    sentences = {
        _reshaped_one(mine, theirs, rtol, atol)
        for mine, theirs in arrays
        if mine.shape != theirs.shape or not close(mine, theirs, rtol, atol).all()
    }
    return sentences.pop() if len(sentences) == 1 else None


def _reshaped_one(mine: np.ndarray, theirs: np.ndarray, rtol: float, atol: float) -> str | None:
    def agree(a: np.ndarray) -> bool:
        return a.shape == theirs.shape and bool(close(a, theirs, rtol, atol).all())

    if mine.ndim == theirs.ndim and 2 <= mine.ndim <= 5:
        order = next((p for p in permutations(range(mine.ndim)) if agree(mine.transpose(p))), None)
        if order is not None and mine.ndim == 2:
            return "Your result is ours transposed: rows and columns are swapped."
        if order is not None:
            return f"The numbers are right, but the dimensions are in the order {order}."
    if mine.shape == theirs.shape:
        return None
    if mine.size == theirs.size and agree(mine.reshape(theirs.shape)):
        return "The numbers are right, but their shape is not."
    if theirs.size == 1 < mine.size:
        for reduced, name in ((mine.mean(), "mean"), (mine.sum(), "sum")):
            if close(reduced, theirs.ravel()[0], rtol, atol):
                said = f"Your result is the {name} of ours over everything"
                return f"{said}: one dimension too many was reduced."
    with suppress(ValueError):  # shapes that do not broadcast
        if theirs.size > mine.size and agree(np.broadcast_to(mine, theirs.shape)):
            said = "The numbers are right, but repeated"
            return f"{said}: broadcasting made a bigger tensor than was asked for."
    return None


def _scaled_alike(leaves: Arrays, rtol: float, atol: float) -> str | None:
    if not leaves or any(mine.shape != theirs.shape for mine, theirs in leaves):
        return None
    mine = np.concatenate([mine.ravel() for mine, _ in leaves])
    theirs = np.concatenate([theirs.ravel() for _, theirs in leaves])
    return _scaled(mine, theirs, rtol, atol)


def _scaled_by_case(arrays: Arrays, inputs: list[Inputs], rtol: float, atol: float) -> str | None:
    """A factor that is another one in each case: often the number of entries, a sum for a mean."""
    if any(mine.shape != theirs.shape for mine, theirs in arrays):
        return None
    factors = [_factor(mine.ravel(), theirs.ravel(), rtol, atol) for mine, theirs in arrays]
    first = next((i for i, factor in enumerate(factors) if factor and abs(factor - 1) > rtol), None)
    if None in factors or first is None or not _tells(*arrays[first]):
        return None
    factor = factors[first] or 0.0
    sizes = {
        math.prod(each.shape[start:])
        for each in inputs[first].values()
        if isinstance(each, Array)
        for start in range(len(each.shape))
    }
    tail = ""
    for ratio, guess in ((factor, "sum where a mean"), (1 / factor if factor else 0, "mean where a sum")):
        if not tail and any(size > 1 and abs(ratio / size - 1) < rtol for size in sizes):
            tail = f" Is it a {guess} belongs?"
    return f"Your result is ours times a number that changes from case to case, here {factor:.4g}.{tail}"


def _leaves(expected: Plain, given: Plain) -> Arrays:
    mine, theirs = as_array(expected), as_array(given)
    if mine is not None and theirs is not None:
        return [(mine, theirs)]
    if isinstance(expected, Fields) and isinstance(given, Fields):
        expected, given = expected.fields, given.fields
    if isinstance(expected, dict) and isinstance(given, dict) and expected.keys() == given.keys():
        return [leaf for key in expected for leaf in _leaves(expected[key], given[key])]
    lists = isinstance(expected, (list, tuple)) and isinstance(given, (list, tuple))
    if lists and len(expected) == len(given):
        return [leaf for pair in zip(expected, given, strict=True) for leaf in _leaves(*pair)]
    return []


def _tells(mine: np.ndarray, theirs: np.ndarray) -> bool:
    """Are there enough different finite numbers for a rule through them to mean something?"""
    finite = bool(np.isfinite(mine).all() and np.isfinite(theirs).all())
    return finite and len(np.unique(np.round(np.abs(mine), 6))) >= 4


def _factor(mine: np.ndarray, theirs: np.ndarray, rtol: float, atol: float) -> float | None:
    if not (np.isfinite(mine).all() and np.isfinite(theirs).all()) or np.iscomplexobj(mine + theirs):
        return None
    factor = float(mine @ theirs / (mine @ mine)) if mine.any() else 1.0
    return factor if close(factor * mine, theirs, rtol, atol).all() else None


def _scaled(mine: np.ndarray, theirs: np.ndarray, rtol: float, atol: float) -> str | None:
    """A factor, a sign, an offset or a power that turns all of our numbers into theirs."""
    if np.iscomplexobj(mine + theirs) or not _tells(mine, theirs) or close(mine, theirs, rtol, atol).all():
        return None
    if (np.abs(theirs) <= atol).all():
        return "Your result is zero everywhere."
    factor = _factor(mine, theirs, rtol, atol)
    if factor is not None:
        many = f"Your result is {factor:.4g} times ours everywhere.".replace("-", "−")
        return "Your result has the opposite sign everywhere." if abs(factor + 1) <= rtol else many
    offset = float((theirs - mine).mean())
    with np.errstate(all="ignore"):
        tries = {
            f"Your result is ours plus {offset:.4g} everywhere.".replace("-", "−"): mine + offset,
            "Your result is the square of ours.": mine**2,
            "Your result is the square root of ours.": np.sqrt(mine),
            "Your result is one divided by ours.": 1 / mine,
            "Your result is the exponential of ours.": np.exp(mine),
            "Your result is the logarithm of ours.": np.log(mine),
        }
    return next((said for said, changed in tries.items() if close(changed, theirs, rtol, atol).all()), None)
