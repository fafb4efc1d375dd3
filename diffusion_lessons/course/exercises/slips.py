"""Simple slips that need no entry in the bank: a factor, a sign, swapped dimensions, an input handed back.

A slip is named only where it explains every number of every case.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np

from diffusion_lessons.course.exercises.compare import as_array, close, difference, row_of
from diffusion_lessons.course.exercises.pieces import piece
from diffusion_lessons.course.exercises.shapes import Arrays, Slip, reshaped
from diffusion_lessons.course.exercises.values import Array, Fields, Plain

Inputs = dict[str, Plain]
Pairs = list[tuple[Plain, Plain]]


def slip(pairs: Pairs, inputs: list[Inputs], rtol: float, atol: float) -> Slip:
    """The simple slip that explains every case, in a sentence, and its kind; or None.

    `pairs` are (expected, given) of each case, `inputs` those of each case by name.
    """
    if not pairs or any(given is None for _, given in pairs):
        return None
    leaves = [leaf for pair in pairs for leaf in _leaves(*pair)]
    whole = leaves if len(leaves) == len(pairs) else []
    return (
        _swapped(pairs, rtol, atol)
        or _an_input(pairs, inputs, rtol, atol)
        or _off_by_one(pairs)
        or _not_rounded(pairs)
        or reshaped(whole, rtol, atol)
        or _changed(leaves, rtol, atol)
        or piece(whole, rtol, atol)
        or _by_an_input(whole, inputs, rtol, atol)
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
    for name, value in inputs.items():
        if isinstance(value, Fields):
            arrays |= {f"{name}.{part}": as_array(each) for part, each in value.fields.items()}
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


def _swapped(pairs: Pairs, rtol: float, atol: float) -> Slip:
    twos = [[list(parts_of(each).values()) for each in pair] for pair in pairs]
    both = all(len(each) == 2 for pair in twos for each in pair)
    if both and not any(difference(mine[::-1], yours, rtol, atol, strict=False) for mine, yours in twos):
        return "The two results are right, but in the other order.", "swap"
    return None


def _an_input(pairs: Pairs, inputs: list[Inputs], rtol: float, atol: float) -> Slip:
    for name in inputs[0]:
        if all(
            name in values
            and as_array(given) is not None
            and difference(values[name], given, rtol, atol, strict=False) is None
            for (_, given), values in zip(pairs, inputs, strict=True)
        ):
            return f"Your result is the input `{name}`, unchanged.", "missing"
    return None


def _leaves(expected: Plain, given: Plain) -> Arrays:
    mine, theirs = as_array(expected), as_array(given)
    if mine is not None and theirs is not None:
        return [(mine, theirs)]
    ours, yours = parts_of(expected), parts_of(given)
    if not ours or ours.keys() != yours.keys():
        return []
    return [leaf for key in ours for leaf in _leaves(ours[key], yours[key])]


def parts_of(value: Plain) -> dict[Any, Plain]:
    """The parts of a result by name or place; empty where it has none."""
    if isinstance(value, Fields):
        return value.fields
    if isinstance(value, (list, tuple)):
        return dict(enumerate(value))
    return value if isinstance(value, dict) else {}


def _ratios(a: np.ndarray) -> np.ndarray:
    return np.concatenate([a[:1], a[1:] / a[:-1]])


CHANGES: tuple[tuple[str, str, Callable[[np.ndarray], np.ndarray]], ...] = (
    ("Your result is zero everywhere.", "missing", np.zeros_like),
    ("Your result has the opposite sign everywhere.", "sign", np.negative),
    ("Your result is ours without its sign.", "sign", np.abs),
    ("Your result is 1 minus ours.", "formula", lambda a: 1 - a),
    ("Your result is the square of ours.", "root", np.square),
    ("Your result is the square root of ours.", "root", np.sqrt),
    ("Your result is one divided by ours.", "factor", np.reciprocal),
    ("Your result is the exponential of ours.", "formula", np.exp),
    ("Your result is the logarithm of ours.", "formula", np.log),
    ("Your result is ours cut to [−1, 1].", "extra", lambda a: a.clip(-1, 1)),
    ("Your result is ours, rounded down.", "rounding", np.floor),
    ("Your result is ours, rounded to whole numbers.", "rounding", np.round),
    ("Your numbers are ours, from the other end.", "direction", lambda a: a[::-1]),
    ("Your numbers are ours without the first.", "count", lambda a: a[1:]),
    ("Your numbers are ours without the last.", "count", lambda a: a[:-1]),
    ("Your result is the running product of ours.", "extra", lambda a: a.cumprod(0)),
    ("Your result is the running sum of ours.", "extra", lambda a: a.cumsum(0)),
    ("Ours is the running product of yours.", "missing", _ratios),
    ("Ours is the running sum of yours.", "missing", lambda a: np.diff(a, axis=0, prepend=0)),
)
SHIFTS = (  # of rows: ours here and yours there are the same
    ("Each of your numbers is ours of the place after it.", "index", slice(1, None), slice(None, -1)),
    ("Each of your numbers is ours of the place before it.", "index", slice(None, -1), slice(1, None)),
)


def _changed(leaves: Arrays, rtol: float, atol: float) -> Slip:
    """One change that turns all of our numbers into theirs."""
    if not leaves or any(np.iscomplexobj(each) for leaf in leaves for each in leaf):
        return None
    if not _tells(np.concatenate([mine.ravel() for mine, _ in leaves])) or not _evidence(leaves, rtol, atol):
        return None

    def fit(tried: Arrays) -> bool:
        return all(a.shape == b.shape and close(a, b, rtol, atol).all() for a, b in tried)

    with np.errstate(all="ignore"):
        for said, about, change in CHANGES:
            with suppress(IndexError, ValueError):  # of a single number
                if fit([(change(mine), theirs) for mine, theirs in leaves]):
                    return said, about
        rows = all(mine.ndim == 1 and len(theirs.shape) == 1 and len(mine) > 2 for mine, theirs in leaves)
        for said, about, ours, yours in SHIFTS if rows else ():
            if fit([(mine[ours], theirs[yours]) for mine, theirs in leaves]):
                return said, about
        return _by_a_constant(leaves, rtol, atol)


def _by_a_constant(leaves: Arrays, rtol: float, atol: float) -> Slip:
    if any(mine.shape != theirs.shape for mine, theirs in leaves):
        return None
    mine, theirs = (np.concatenate([leaf[side].ravel() for leaf in leaves]) for side in (0, 1))
    factor, offset = _factor(mine, theirs, rtol, atol), _constant(theirs - mine, mine, rtol, atol)
    if factor is not None:
        return f"Your result is {factor:.4g} times ours everywhere.".replace("-", "−"), "factor"
    if offset is not None:
        return (
            f"Your result is ours {'minus' if offset < 0 else 'plus'} {abs(offset):.4g} everywhere.",
            "formula",
        )
    return None


def _evidence(arrays: Arrays, rtol: float, atol: float) -> bool:
    """Is theirs another than ours in two cases, or in many numbers of one?"""
    other = [b.size if a.shape != b.shape else int((~close(a, b, rtol, atol)).sum()) for a, b in arrays]
    return sum(many > 0 for many in other) >= 2 or max(other) >= 8


def _tells(numbers: np.ndarray) -> bool:
    """Are there enough different finite numbers for a rule through them to mean something?"""
    return bool(np.isfinite(numbers).all()) and len(np.unique(np.round(np.abs(numbers), 6))) >= 4


def _factor(mine: np.ndarray, theirs: np.ndarray, rtol: float, atol: float) -> float | None:
    if not (np.isfinite(mine).all() and np.isfinite(theirs).all()):
        return None
    factor = float(mine @ theirs / (mine @ mine)) if mine.any() else 1.0
    return factor if close(factor * mine, theirs, rtol, atol).all() else None


# Numbers that change from case to case -------------------------------------------------------------


def _by_an_input(arrays: Arrays, inputs: list[Inputs], rtol: float, atol: float) -> Slip:
    """Ours times, plus or taken from a number that is another one in each case: an input, or its size."""
    for mine, theirs in arrays:
        if (
            mine.shape != theirs.shape
            or np.iscomplexobj(mine + theirs)
            or not np.isfinite(mine + theirs).all()
        ):
            return None
    if not arrays or not _evidence(arrays, rtol, atol):
        return None
    factors = [_factor(mine.ravel(), theirs.ravel(), rtol, atol) for mine, theirs in arrays]
    several = all(_tells(mine) for mine, _ in arrays)
    quantities = _quantities(inputs)
    for said, about, constants in (
        ("ours times {}", "factor", factors),
        ("ours divided by {}", "factor", [1 / f if f else None for f in factors]),
        ("ours plus {}", "formula", [_constant(theirs - mine, mine, rtol, atol) for mine, theirs in arrays]),
        ("ours minus {}", "formula", [_constant(mine - theirs, mine, rtol, atol) for mine, theirs in arrays]),
        ("{} minus ours", "formula", [_constant(mine + theirs, mine, rtol, atol) for mine, theirs in arrays]),
    ):
        if None in constants or not (several or len(set(constants)) >= 3):
            continue
        for name, values in quantities.items():
            if close(np.array(values), np.array(constants, dtype=float), max(rtol, 1e-6), 1e-9).all():
                tail = _mean_or_sum(said, name)
                return f"Your result is {said.format(name)}.{tail}", "mean" if tail else about
    return None


def changing_factor(pairs: Pairs, rtol: float, atol: float) -> Slip:
    """Ours times a number that no input explains."""
    arrays = [leaf for pair in pairs for leaf in _leaves(*pair)]
    if len(arrays) < len(pairs) or any(
        a.shape != b.shape or not _tells(a) or not _tells(b) for a, b in arrays
    ):
        return None
    factors = [_factor(mine.ravel(), theirs.ravel(), rtol, atol) for mine, theirs in arrays]
    first = next((factor for factor in factors if factor and abs(factor - 1) > rtol), None)
    if None in factors or first is None:
        return None
    said = f"Your result is ours times a number that changes from case to case, here {first:.4g}."
    return said.replace("-", "−"), "factor"


def _constant(gap: np.ndarray, mine: np.ndarray, rtol: float, atol: float) -> float | None:
    value = float(gap.mean())
    return value if np.isfinite(value) and (np.abs(gap - value) <= atol + rtol * np.abs(mine)).all() else None


def _quantities(inputs: list[Inputs]) -> dict[str, list[float]]:
    """What the inputs offer as a number in each case: themselves, and how many entries they have."""
    found: dict[str, list[float]] = {}
    for values in inputs:
        for name, value in values.items():
            for said, quantity in _of_input(name, value):
                found.setdefault(said, []).append(quantity)
    return {said: each for said, each in found.items() if len(each) == len(inputs)}


def _of_input(name: str, value: Plain) -> Iterator[tuple[str, float]]:
    data = as_array(value)
    if data is not None and data.size == 1 and not np.iscomplexobj(data):
        number = float(data.ravel()[0])
        yield f"`{name}`", number
        if number > 0:
            yield f"the square root of `{name}`", math.sqrt(number)
        yield f"the square of `{name}`", number**2
        yield f"(1 − `{name}`)", 1 - number
    elif isinstance(value, Array):
        yield f"the number of entries of `{name}`", math.prod(value.shape)
        sample = math.prod(value.shape[1:])
        yield f"the number of entries of a sample of `{name}`", sample
        yield f"the square root of the number of entries of a sample of `{name}`", math.sqrt(sample)
        for place, size in enumerate(value.shape):
            yield f"the size of `{name}` in dimension {place}", size
    elif isinstance(value, (list, tuple)):
        yield f"the length of `{name}`", len(value)


def _mean_or_sum(said: str, name: str) -> str:
    if "root" in name or ("the number of" not in name and "the size of" not in name):
        return ""
    return {
        "ours times {}": " Is it a sum where a mean belongs?",
        "ours divided by {}": " Is it a mean where a sum belongs?",
    }.get(said, "")


def _not_rounded(pairs: Pairs) -> Slip:
    """Ours are whole numbers, and what theirs round to."""
    leaves = [(row_of(mine), as_array(theirs)) for mine, theirs in pairs]
    if not all(type(each) is int for mine, _ in leaves for each in mine):
        return None
    if any(theirs is None or theirs.shape not in ((len(mine),), ()) for mine, theirs in leaves):
        return None
    for name, change in (("rounded", np.round), ("rounded down", np.floor), ("rounded up", np.ceil)):
        if all((change(theirs) == np.array(mine)).all() for mine, theirs in leaves if theirs is not None):
            return f"Your numbers are right, but not {name}: whole numbers are asked for.", "rounding"
    return None


def _off_by_one(pairs: Pairs) -> Slip:
    """Counts, places or times that are one off, all or some of them, and all to the same side."""
    leaves = [(row_of(mine), row_of(theirs)) for mine, theirs in pairs]
    whole = all(isinstance(each, int) for leaf in leaves for row in leaf for each in row)
    if not whole or any(len(a) != len(b) for a, b in leaves) or len({x for a, _ in leaves for x in a}) < 3:
        return None
    gaps = [b - a for mine, theirs in leaves for a, b in zip(mine, theirs, strict=True)]
    for side, said in ((1, "one more than ours"), (-1, "one less than ours")):
        if set(gaps) == {side}:
            return f"Your numbers are {said}, in every case.", "count"
        if set(gaps) == {0, side} and sum(map(abs, gaps)) >= 2:
            return f"Some of your numbers are right, the others are {said}.", ""
    return None
