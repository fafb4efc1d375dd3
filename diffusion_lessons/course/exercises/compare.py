"""Where two plain values differ, and by how much."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from diffusion_lessons.course.exercises.values import Array, Fields, Opaque, Plain, describe, number

NUMBERS = (Array, float, int, complex)
KINDS = {int: "a whole number", float: "a number", complex: "a complex number", str: "a text", dict: "a dict"}


@dataclass(frozen=True)
class Difference:
    """The first way in which a given value is not the expected one: in words, and the parts that differ."""

    kind: str  # "none", "type", "keys", "length", "shape", "nonfinite", "value", "dtype", "device" or "graph"
    sentence: str
    expected: Plain
    given: Plain
    at: tuple[int, ...] | None = None  # index of the largest difference
    side: str = ""  # "large" or "small", the side on which one number is off
    path: str = ""  # which part of the result, "" for all of it, "[1]", ".x0"


def difference(
    expected: Plain, given: Plain, rtol: float, atol: float, strict: bool = True
) -> Difference | None:
    """The first difference, or None where |given − expected| ≤ atol + rtol·|expected| everywhere.

    Whole numbers are compared exactly. One number is a number, whether it comes as a float or as a
    tensor of one entry; where a tensor is expected it must be a tensor. If `strict`, dtype, device and
    the kind of container count too.
    """
    return _Comparison(rtol, atol, strict).of(expected, given)


def close(mine: np.ndarray, theirs: np.ndarray, rtol: float, atol: float) -> np.ndarray:
    """Entry by entry, |theirs − mine| ≤ atol + rtol·|mine|; the same infinity and NaN agree."""
    return np.isclose(theirs, mine, rtol=rtol, atol=atol, equal_nan=True)


def as_array(value: Plain) -> np.ndarray | None:
    """The numbers of a tensor, array, number or list in double precision, None for anything else."""
    if isinstance(value, Array):
        data = value.data
        if data is None:
            return None
        return data.astype(np.complex128 if data.dtype.kind == "c" else np.float64)
    if isinstance(value, (list, tuple)) and len(value) > 1:
        numbers = all(isinstance(each, (int, float)) and not isinstance(each, bool) for each in value)
        return np.asarray(value, dtype=np.float64) if numbers else None
    if isinstance(value, complex):
        return np.asarray(value)
    return np.asarray(value, dtype=np.float64) if isinstance(value, (float, int)) else None


@dataclass(frozen=True)
class _Comparison:
    rtol: float
    atol: float
    strict: bool

    def of(self, expected: Plain, given: Plain) -> Difference | None:
        if given is None and expected is not None:
            return Difference("none", "None was returned", expected, given)
        if isinstance(expected, bool):
            return self._truth(expected, given)
        if isinstance(expected, NUMBERS):
            return self._numbers(expected, given)
        if isinstance(expected, Fields) and isinstance(given, (list, tuple)) and not self.strict:
            given = Fields(expected.type, dict(zip(expected.fields, given, strict=False)))
        for kind in (str, Fields, dict, (list, tuple)):
            if isinstance(expected, kind) and isinstance(given, kind):
                return self._parts(expected, given)
        same = type(expected) is type(given) and describe(expected) == describe(given)
        return None if same else _other_type(expected, given)

    def _truth(self, expected: bool, given: Plain) -> Difference | None:
        if isinstance(given, Array) and given.data is not None and given.data.size == 1:
            given = given.data.item()
        if not isinstance(given, (bool, int)):
            return _other_type(expected, given)
        same = bool(given) == expected
        return None if same else Difference("value", f"{expected} was expected", expected, given)

    def _parts(self, expected: Plain, given: Plain) -> Difference | None:
        """Two texts, or the parts of two values of the same kind, one by one."""
        if isinstance(expected, str):
            same = expected.strip().casefold() == given.strip().casefold()
            return None if same else Difference("value", "another text was expected", expected, given)
        if isinstance(expected, Fields):
            return self._members(expected.fields, given.fields, ".{}")
        if isinstance(expected, dict):
            return self._members(expected, given)
        if len(given) != len(expected):
            sentence = f"{len(expected)} results were expected, and you gave {len(given)}"
            return Difference("length", sentence, expected, given)
        if as_array(expected) is not None and as_array(given) is not None:
            return self._values(expected, given) or self._whole(expected, given)
        return self._members(dict(enumerate(expected)), dict(enumerate(given)))

    def _whole(self, expected: Plain, given: Plain) -> Difference | None:
        """Where the numbers are right: are they floats, and ours Python's whole numbers?"""
        floats = [each for each in row_of(given) if isinstance(each, float) or "float" in _dtype(each)]
        if not self.strict or not floats or not all(type(each) is int for each in row_of(expected)):
            return None
        several = len(row_of(expected)) > 1
        said = f"the number{'s are' if several else ' is'} right, but {'one is ' if several else ''}a float"
        return Difference("type", f"{said}: whole numbers are asked for, int(…)", expected, given)

    def _members(self, expected: dict, given: dict, name: str = "[{!r}]") -> Difference | None:
        missing = [repr(key) for key in expected if key not in given]
        extra = [repr(key) for key in given if key not in expected]
        if missing or extra:
            what = [f"lacks {', '.join(missing)}"] if missing else []
            what += [f"has {', '.join(extra)} too many"] if extra else []
            return Difference("keys", f"your result {' and '.join(what)}", expected, given)
        for key in expected:
            if found := self.of(expected[key], given[key]):
                return replace(found, path=name.format(key) + found.path)
        return None

    def _numbers(self, expected: Plain, given: Plain) -> Difference | None:
        wanted = isinstance(expected, Array) and self.strict
        if not isinstance(given, NUMBERS) or (wanted and getattr(given, "kind", "") != expected.kind):
            return _other_type(expected, given)
        shape_or_values = self._shape_and_values(expected, given)
        return shape_or_values or self._whole(expected, given) or self._dtype_and_device(expected, given)

    def _shape_and_values(self, expected: Plain, given: Plain) -> Difference | None:
        mine, theirs = as_array(expected), as_array(given)
        shape = given.shape if isinstance(given, Array) else ()
        if theirs is not None and theirs.size == 1 and not isinstance(expected, Array):
            theirs, shape = theirs.reshape(()), ()
        wanted = expected.shape if isinstance(expected, Array) else ()
        if shape != wanted:
            sentence = f"your result has shape {shape}, expected was {wanted}"
            return Difference("shape", sentence, expected, given)
        if mine is None or theirs is None:  # too large to be kept: the shapes are all there is to compare
            same = mine is None and theirs is None
            return None if same else Difference("type", "your result holds no numbers", expected, given)
        return self._values(expected, given)

    def _values(self, expected: Plain, given: Plain) -> Difference | None:
        """Where the shapes are the same."""
        mine, theirs = as_array(expected), as_array(given)
        assert mine is not None and theirs is not None
        theirs = theirs.reshape(mine.shape)
        lost = ~np.isfinite(theirs) & np.isfinite(mine)
        if lost.any():
            at = _index(lost)
            what = "NaN (not a number)" if np.isnan(theirs[at]) else "infinite"
            where = f" in {int(lost.sum())} of {lost.size} entries, the first at {list(at)}"
            sentence = f"your result is {what}{where if lost.size > 1 else ''}"
            return Difference("nonfinite", sentence, expected, given, at)
        kinds = (
            [expected.dtype] if isinstance(expected, Array) else [type(x).__name__ for x in row_of(expected)]
        )
        exact = all("int" in kind for kind in kinds)
        wrong = ~close(mine, theirs, *((0, 1e-9) if exact else (self.rtol, self.atol)))
        if not wrong.any():
            return None
        with np.errstate(all="ignore"):
            gap = np.where(wrong, np.nan_to_num(np.abs(theirs - mine), nan=np.inf), 0)
        at = _index(gap == gap.max())
        sentence, side = f"expected {number(mine[at])}, yours {number(theirs[at])}", ""
        if mine.size > 1:
            many = f"{int(wrong.sum())} of {wrong.size} numbers differ"
            if isinstance(expected, (list, tuple)):
                at = _index(wrong)
                one = f"expected {number(mine[at])}, yours {number(theirs[at])}"
                sentence = f"{many}, the first at index {at[0]}: {one}"
            else:
                sentence = f"{many}, most at index {list(at)}: {sentence}"
        elif not np.iscomplexobj(mine - theirs):
            side = "large" if theirs[at] > mine[at] else "small"
        return Difference("value", sentence, expected, given, at, side)

    def _dtype_and_device(self, expected: Plain, given: Plain) -> Difference | None:
        """Where the numbers are right."""
        if not self.strict or not isinstance(given, Array):
            return None
        if given.graph and not getattr(expected, "graph", False):
            sentence = "the numbers are right, but the result still holds the graph of how they were computed"
            return Difference("graph", sentence, expected, given)
        if not isinstance(expected, Array):
            return None
        for kind in ("dtype", "device"):
            mine, theirs = getattr(expected, kind), getattr(given, kind)
            if mine != theirs:
                sentence = f"the numbers are right, but their {kind} is {theirs}, expected was {mine}"
                return Difference(kind, sentence, expected, given)
        return None


def _dtype(value: Plain) -> str:
    return value.dtype if isinstance(value, Array) else ""


def row_of(value: Plain) -> list[Any]:
    """The entries of a list, or the one value that there is."""
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _index(mask: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(mask)), mask.shape))


def _other_type(expected: Plain, given: Plain) -> Difference:
    sentence = f"{kind_of(expected)} was expected, and you gave {kind_of(given)}"
    return Difference("type", sentence, expected, given)


def kind_of(value: Plain) -> str:
    """The kind of a value, with its article."""
    if isinstance(value, Array):
        return "a torch tensor" if value.kind == "tensor" else "a numpy array"
    if isinstance(value, (Fields, Opaque)):
        return f"{'an' if value.type[:1].upper() in 'AEIOU' else 'a'} {value.type}"
    if isinstance(value, (list, tuple)):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, bool):
        return str(value)
    return KINDS.get(type(value), "None")
