"""Where two plain values differ, and what simple slip turns the one into the other."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from diffusion_lessons.course.values import Array, Opaque, Plain, Record, describe, number, shape_text


@dataclass(frozen=True)
class Difference:
    """The first way in which a given value is not the expected one.

    Args:
        kind: "none", "type", "keys", "length", "shape", "nonfinite", "value", "dtype" or "device".
        path: which part of the result, "" for all of it, "[1]", ".x0".
        sentence: what differs, in words.
        expected, given: the two, described.
        at: index of the largest difference, None where there is none to point at.
    """

    kind: str
    path: str
    sentence: str
    expected: str
    given: str
    at: tuple[int, ...] | None = None


def difference(
    expected: Plain, given: Plain, rtol: float, atol: float, strict: bool = True
) -> Difference | None:
    """The first difference, or None where the values agree: |given − expected| ≤ atol + rtol·|expected|.

    Args:
        strict: dtype, device and the kind of container count too.
    """
    return next(_differences(expected, given, rtol, atol, strict, ""), None)


def _differences(
    expected: Plain, given: Plain, rtol: float, atol: float, strict: bool, path: str
) -> Iterator[Difference]:
    if given is None and expected is not None:
        yield _different("none", path, "None was returned", expected, given)
    elif isinstance(expected, (Array, float, int, complex)) and not isinstance(expected, bool):
        yield from _numbers(expected, given, rtol, atol, strict, path)
    elif isinstance(expected, bool):
        yield from _truth(expected, given, path)
    elif isinstance(expected, str):
        if not isinstance(given, str):
            yield _different("type", path, f"a text was expected, and you gave {_a(given)}", expected, given)
        elif expected.strip().casefold() != given.strip().casefold():
            yield _different("value", path, "another text was expected", expected, given)
    elif isinstance(expected, (list, tuple, dict, Record)):
        for key, mine, theirs in _parts(expected, given, strict, path):
            if isinstance(theirs, Difference):
                yield theirs
                return
            yield from _differences(mine, theirs, rtol, atol, strict, path + key)
    elif type(expected) is not type(given) or describe(expected) != describe(given):
        yield _different("type", path, f"{_a(expected)} was expected, and you gave {_a(given)}", expected, given)


def _parts(
    expected: Plain, given: Plain, strict: bool, path: str
) -> Iterator[tuple[str, Plain, Plain | Difference]]:
    """The parts of a container with the names of their places, or one Difference of the containers."""
    if isinstance(expected, Record):
        if isinstance(given, Record):
            theirs, mine = given.fields, expected.fields
        elif not strict and isinstance(given, (list, tuple)):
            mine, theirs = expected.fields, dict(zip(expected.fields, given, strict=False))
        else:
            sentence = f"{_a(expected)} was expected, and you gave {_a(given)}"
            yield "", None, _different("type", path, sentence, expected, given)
            return
        names = {key: f".{key}" for key in mine}
    elif isinstance(expected, dict):
        if not isinstance(given, dict):
            sentence = f"a dict was expected, and you gave {_a(given)}"
            yield "", None, _different("type", path, sentence, expected, given)
            return
        mine, theirs = expected, given
        names = {key: f"[{key!r}]" for key in mine}
    else:
        if not isinstance(given, (list, tuple)):
            sentence = f"{len(expected)} results were expected, and you gave {_a(given)}"
            yield "", None, _different("type", path, sentence, expected, given)
            return
        if len(given) != len(expected):
            sentence = f"{len(expected)} results were expected, and you gave {len(given)}"
            yield "", None, _different("length", path, sentence, expected, given)
            return
        mine, theirs = dict(enumerate(expected)), dict(enumerate(given))
        names = {key: f"[{key}]" for key in mine}
    missing = [key for key in mine if key not in theirs]
    extra = [key for key in theirs if key not in mine]
    if missing or extra:
        what = [f"without {', '.join(map(repr, missing))}"] if missing else []
        what += [f"with {', '.join(map(repr, extra))} too many"] if extra else []
        sentence = f"your result comes {' and '.join(what)}"
        yield "", None, _different("keys", path, sentence, expected, given)
        return
    for key, value in mine.items():
        yield names[key], value, theirs[key]


def _truth(expected: bool, given: Plain, path: str) -> Iterator[Difference]:
    if isinstance(given, Array) and given.data is not None and given.data.size == 1:
        given = given.data.item()
    if not isinstance(given, (bool, int)):
        yield _different(
            "type", path, f"True or False was expected, and you gave {_a(given)}", expected, given
        )
    elif bool(given) != expected:
        yield _different("value", path, f"{expected} was expected", expected, given)


def _numbers(
    expected: Plain, given: Plain, rtol: float, atol: float, strict: bool, path: str
) -> Iterator[Difference]:
    mine, theirs = as_array(expected), as_array(given)
    if theirs is None:
        sentence = f"{_a(expected)} was expected, and you gave {_a(given)}"
        yield _different("type", path, sentence, expected, given)
        return
    if isinstance(expected, Array) and strict:
        sentence = _wrong_kind(expected, given)
        if sentence:
            yield _different("type", path, sentence, expected, given)
            return
    elif not isinstance(expected, Array) and theirs.size == 1:
        theirs = theirs.reshape(())  # one number is a number, in whatever it comes
    if theirs.shape != mine.shape or (isinstance(given, Array) and given.data is None):
        shape = given.shape if isinstance(given, Array) else theirs.shape
        sentence = f"your result has shape {shape_text(shape)}, expected was {shape_text(mine.shape)}"
        yield _different("shape", path, sentence, expected, given)
        return
    yield from _values(mine, theirs, rtol, atol, path, expected, given)
    if strict and isinstance(expected, Array) and isinstance(given, Array):
        if expected.dtype != given.dtype:
            sentence = f"the numbers are right, but their dtype is {given.dtype}, expected was {expected.dtype}"
            yield _different("dtype", path, sentence, expected, given)
        elif expected.device != given.device:
            sentence = f"the numbers are right, but they are on {given.device}, expected was {expected.device}"
            yield _different("device", path, sentence, expected, given)


def _wrong_kind(expected: Array, given: Plain) -> str | None:
    kinds = {"tensor": "a torch tensor", "array": "a numpy array"}
    if isinstance(given, Array) and given.kind == expected.kind:
        return None
    return f"{kinds[expected.kind]} was expected, and you gave {_a(given)}"


def _values(
    mine: np.ndarray, theirs: np.ndarray, rtol: float, atol: float, path: str, expected: Plain, given: Plain
) -> Iterator[Difference]:
    lost = ~np.isfinite(theirs) & np.isfinite(mine)
    if lost.any():
        at = _index(lost)
        what = "NaN" if np.isnan(theirs[at]) else "infinite"
        count = "" if lost.size == 1 else f": {int(lost.sum())} of {lost.size} entries, the first at {list(at)}"
        yield _different("nonfinite", path, f"your result is {what}{count}", expected, given, at)
        return
    wrong = ~close(mine, theirs, rtol, atol)
    if not wrong.any():
        return
    with np.errstate(all="ignore"):
        gap = np.where(wrong, np.nan_to_num(np.abs(theirs - mine), nan=np.inf), 0)
    at = _index(gap == gap.max())
    if mine.size == 1:
        sentence = f"expected {number(mine[at])}, yours {number(theirs[at])}"
    else:
        sentence = (
            f"{int(wrong.sum())} of {wrong.size} numbers differ, most at index {list(at)}: "
            f"expected {number(mine[at])}, yours {number(theirs[at])}"
        )
    yield _different("value", path, sentence, expected, given, at)


def _different(
    kind: str, path: str, sentence: str, expected: Plain, given: Plain, at: tuple[int, ...] | None = None
) -> Difference:
    return Difference(kind, path, sentence, describe(expected), describe(given), at)


def _index(mask: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(mask)), mask.shape))


def _a(value: Plain) -> str:
    """The kind of a value, with its article."""
    if isinstance(value, Array):
        return "a torch tensor" if value.kind == "tensor" else "a numpy array"
    if isinstance(value, (Record, Opaque)):
        name = value.type
        return f"{'an' if name[:1].upper() in 'AEIOU' else 'a'} {name}"
    names = {
        bool: "True or False", int: "a whole number", float: "a number", complex: "a complex number",
        str: "a text", list: "a list", tuple: "a tuple", dict: "a dict",
    }  # fmt: skip
    if isinstance(value, (list, tuple)):
        return f"{names[type(value)]} of {len(value)}"
    return names.get(type(value), "None")


def as_array(value: Plain) -> np.ndarray | None:
    """The numbers of a tensor, array or number in double precision, None for anything else."""
    if isinstance(value, Array):
        data = value.data
        if data is None:
            return np.zeros(0)
        return data.astype(np.complex128 if data.dtype.kind == "c" else np.float64)
    if isinstance(value, complex):
        return np.asarray(value)
    if isinstance(value, (float, int)):
        return np.asarray(value, dtype=np.float64)
    return None


def close(mine: np.ndarray, theirs: np.ndarray, rtol: float, atol: float) -> np.ndarray:
    """Entry by entry, |theirs − mine| ≤ atol + rtol·|mine|; the same infinity and NaN agree."""
    return np.isclose(theirs, mine, rtol=rtol, atol=atol, equal_nan=True)


# Simple slips --------------------------------------------------------------------------------------


def slip(
    pairs: list[tuple[Plain, Plain]], inputs: list[dict[str, Plain]], rtol: float, atol: float
) -> str | None:
    """The simple slip that explains every case, in a sentence, or None.

    Args:
        pairs: (expected, given) of each case.
        inputs: of each case, by name.
    """
    if not pairs or any(given is None for _, given in pairs):
        return None
    for test in (_swapped, _an_input, _reshaped):
        found = test(pairs, inputs, rtol, atol)
        if found:
            return found
    leaves = [leaf for expected, given in pairs for leaf in _leaves(expected, given)]
    if not leaves or any(e.shape != g.shape for e, g in leaves):
        return None
    mine = np.concatenate([np.ravel(e) for e, _ in leaves])
    theirs = np.concatenate([np.ravel(g) for _, g in leaves])
    return _scaled(mine, theirs, rtol, atol)


def _leaves(expected: Plain, given: Plain) -> list[tuple[np.ndarray, np.ndarray]]:
    mine, theirs = as_array(expected), as_array(given)
    if mine is not None and theirs is not None:
        return [(mine, theirs)]
    if isinstance(expected, Record) and isinstance(given, Record):
        expected, given = expected.fields, given.fields
    if isinstance(expected, dict) and isinstance(given, dict) and expected.keys() == given.keys():
        return [leaf for key in expected for leaf in _leaves(expected[key], given[key])]
    if isinstance(expected, (list, tuple)) and isinstance(given, (list, tuple)) and len(expected) == len(given):
        return [leaf for mine, theirs in zip(expected, given, strict=True) for leaf in _leaves(mine, theirs)]
    return []


def _scaled(mine: np.ndarray, theirs: np.ndarray, rtol: float, atol: float) -> str | None:
    """A factor, a sign, an offset or a power that turns all of our numbers into theirs."""
    if mine.size < 2 or not (np.isfinite(mine) & np.isfinite(theirs)).all() or np.ptp(np.abs(mine)) <= atol:
        return None  # one number, or the same number everywhere, is explained by anything
    if (np.abs(theirs) <= atol).all():
        return "Your result is zero everywhere."
    peak = np.argmax(np.abs(mine))
    factor = theirs[peak] / mine[peak]
    tries = [
        (-mine, "Your result has the opposite sign everywhere."),
        (factor * mine, f"Your result is {number(factor)} times ours everywhere."),
        (mine + (theirs - mine).mean(), f"Your result is ours plus {number((theirs - mine).mean())} everywhere."),
        (mine**2, "Your result is the square of ours."),
        (np.sqrt(np.abs(mine)), "Your result is the square root of ours."),
    ]
    if (np.abs(mine) > atol).all():
        tries.append((1 / mine, "Your result is one divided by ours."))
    if (np.abs(mine) < 30).all():
        tries.append((np.exp(mine), "Your result is the exponential of ours."))
    if (mine > 0).all():
        tries.append((np.log(mine), "Your result is the logarithm of ours."))
    for changed, sentence in tries:
        if close(changed, theirs, rtol, atol).all() and not close(mine, theirs, rtol, atol).all():
            return sentence
    return None


def _swapped(
    pairs: list[tuple[Plain, Plain]], inputs: list[dict[str, Plain]], rtol: float, atol: float
) -> str | None:
    def turned(expected: Plain, given: Plain) -> bool:
        pair = (list, tuple)
        return (
            isinstance(expected, pair)
            and isinstance(given, pair)
            and len(expected) == len(given) == 2
            and difference(list(expected)[::-1], list(given), rtol, atol, strict=False) is None
        )

    return "The two results are right, but in the other order." if all(turned(*p) for p in pairs) else None


def _an_input(
    pairs: list[tuple[Plain, Plain]], inputs: list[dict[str, Plain]], rtol: float, atol: float
) -> str | None:
    for name in inputs[0] if inputs else ():
        same = [
            as_array(given) is not None
            and name in values
            and difference(values[name], given, rtol, atol, strict=False) is None
            for (_, given), values in zip(pairs, inputs, strict=True)
        ]
        if all(same):
            return f"Your result is the input `{name}`, unchanged."
    return None


def _reshaped(
    pairs: list[tuple[Plain, Plain]], inputs: list[dict[str, Plain]], rtol: float, atol: float
) -> str | None:
    """The right numbers in a wrong shape: the first explanation that holds for every odd case."""
    sentences: list[str | None] = []
    for expected, given in pairs:
        mine, theirs = as_array(expected), as_array(given)
        if mine is None or theirs is None or (isinstance(given, Array) and given.data is None):
            return None
        if mine.shape == theirs.shape and close(mine, theirs, rtol, atol).all():
            continue  # a symmetric case, which every explanation fits
        sentences.append(_reshaped_one(mine, theirs, rtol, atol))
    return sentences[0] if sentences and len(set(sentences)) == 1 else None


def _reshaped_one(mine: np.ndarray, theirs: np.ndarray, rtol: float, atol: float) -> str | None:
    def agree(a: np.ndarray) -> bool:
        return a.shape == theirs.shape and bool(close(a, theirs, rtol, atol).all())

    if mine.ndim == theirs.ndim and 2 <= mine.ndim <= 5:
        for order in permutations(range(mine.ndim)):
            if agree(mine.transpose(order)):
                if mine.ndim == 2:
                    return "Your result is ours transposed: rows and columns are swapped."
                return f"The numbers are right, but the dimensions are in the order {order}."
    if mine.shape == theirs.shape:
        return None
    if mine.size == theirs.size and agree(mine.reshape(theirs.shape)):
        return "The numbers are right, but their shape is not."
    if theirs.size == 1 < mine.size:
        for reduced, name in ((mine.mean(), "mean"), (mine.sum(), "sum")):
            if close(reduced, theirs.ravel()[0], rtol, atol):
                return f"Your result is the {name} of ours over everything: one dimension too many was reduced."
    if theirs.size > mine.size:
        try:
            wide = np.broadcast_to(mine, theirs.shape)
        except ValueError:
            return None
        if agree(wide):
            return "The numbers are right, but repeated: broadcasting made a bigger tensor than was asked for."
    return None
