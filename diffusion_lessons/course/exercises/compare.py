"""Where two plain values differ, and by how much."""

from dataclasses import dataclass

import numpy as np

from diffusion_lessons.course.exercises.values import (
    Array,
    Opaque,
    Plain,
    Record,
    describe,
    number,
    shape_text,
)


@dataclass(frozen=True)
class Difference:
    """The first way in which a given value is not the expected one.

    Args:
        kind: "none", "type", "keys", "length", "shape", "nonfinite", "value", "dtype" or "device".
        path: which part of the result, "" for all of it, "[1]", ".x0".
        sentence: what differs, in words.
        expected, given: the two parts that differ.
        at: index of the largest difference, None where there is none to point at.
        side: "large" or "small", the side on which one number is off.
    """

    kind: str
    path: str
    sentence: str
    expected: Plain
    given: Plain
    at: tuple[int, ...] | None = None
    side: str = ""


def difference(
    expected: Plain, given: Plain, rtol: float, atol: float, strict: bool = True
) -> Difference | None:
    """The first difference, or None where |given − expected| ≤ atol + rtol·|expected| everywhere.

    Whole numbers are compared exactly. One number is a number, whether it comes as a float or as a
    tensor of one entry; where a tensor is expected it must be a tensor.

    Args:
        strict: dtype, device and the kind of container count too.
    """
    return _Comparison(rtol, atol, strict).of(expected, given, "")


def close(mine: np.ndarray, theirs: np.ndarray, rtol: float, atol: float) -> np.ndarray:
    """Entry by entry, |theirs − mine| ≤ atol + rtol·|mine|; the same infinity and NaN agree."""
    return np.isclose(theirs, mine, rtol=rtol, atol=atol, equal_nan=True)


def as_array(value: Plain) -> np.ndarray | None:
    """The numbers of a tensor, array or number in double precision, None for anything else."""
    if isinstance(value, Array):
        data = value.data
        if data is None:
            return None
        return data.astype(np.complex128 if data.dtype.kind == "c" else np.float64)
    if isinstance(value, complex):
        return np.asarray(value)
    return np.asarray(value, dtype=np.float64) if isinstance(value, (float, int)) else None


@dataclass(frozen=True)
class _Comparison:
    rtol: float
    atol: float
    strict: bool

    def of(self, expected: Plain, given: Plain, path: str) -> Difference | None:
        if given is None and expected is not None:
            return Difference("none", path, "None was returned", expected, given)
        if isinstance(expected, bool):
            return self._truth(expected, given, path)
        if isinstance(expected, (Array, float, int, complex)):
            return self._numbers(expected, given, path)
        if isinstance(expected, str):
            return self._text(expected, given, path)
        if isinstance(expected, Record):
            return self._record(expected, given, path)
        if isinstance(expected, dict):
            if not isinstance(given, dict):
                return _other_type(expected, given, path)
            return self._members(expected, given, {key: f"[{key!r}]" for key in expected}, path)
        if isinstance(expected, (list, tuple)):
            return self._list(expected, given, path)
        same = type(expected) is type(given) and describe(expected) == describe(given)
        return None if same else _other_type(expected, given, path)

    def _truth(self, expected: bool, given: Plain, path: str) -> Difference | None:
        if isinstance(given, Array) and given.data is not None and given.data.size == 1:
            given = given.data.item()
        if not isinstance(given, (bool, int)):
            return _other_type(expected, given, path)
        if bool(given) == expected:
            return None
        return Difference("value", path, f"{expected} was expected", expected, given)

    def _text(self, expected: str, given: Plain, path: str) -> Difference | None:
        if not isinstance(given, str):
            return _other_type(expected, given, path)
        if expected.strip().casefold() == given.strip().casefold():
            return None
        return Difference("value", path, "another text was expected", expected, given)

    def _record(self, expected: Record, given: Plain, path: str) -> Difference | None:
        if isinstance(given, (list, tuple)) and not self.strict:
            given = Record(expected.type, dict(zip(expected.fields, given, strict=False)))
        if not isinstance(given, Record):
            return _other_type(expected, given, path)
        return self._members(expected.fields, given.fields, {key: f".{key}" for key in expected.fields}, path)

    def _list(self, expected: list | tuple, given: Plain, path: str) -> Difference | None:
        if not isinstance(given, (list, tuple)):
            return _other_type(expected, given, path)
        if len(given) != len(expected):
            sentence = f"{len(expected)} results were expected, and you gave {len(given)}"
            return Difference("length", path, sentence, expected, given)
        names = {place: f"[{place}]" for place in range(len(expected))}
        return self._members(dict(enumerate(expected)), dict(enumerate(given)), names, path)

    def _members(self, expected: dict, given: dict, names: dict, path: str) -> Difference | None:
        missing = [repr(key) for key in expected if key not in given]
        extra = [repr(key) for key in given if key not in expected]
        if missing or extra:
            what = [f"lacks {', '.join(missing)}"] if missing else []
            what += [f"has {', '.join(extra)} too many"] if extra else []
            return Difference("keys", path, f"your result {' and '.join(what)}", expected, given)
        found = (self.of(expected[key], given[key], path + names[key]) for key in expected)
        return next((each for each in found if each is not None), None)

    def _numbers(self, expected: Plain, given: Plain, path: str) -> Difference | None:
        wanted = isinstance(expected, Array) and self.strict
        if as_array(given) is None and not isinstance(given, Array):
            return _other_type(expected, given, path)
        if wanted and not (isinstance(given, Array) and given.kind == expected.kind):
            return _other_type(expected, given, path)
        return self._shape_and_values(expected, given, path) or (self._kind(expected, given, path))

    def _shape_and_values(self, expected: Plain, given: Plain, path: str) -> Difference | None:
        mine, theirs = as_array(expected), as_array(given)
        shape = given.shape if isinstance(given, Array) else ()
        if theirs is not None and theirs.size == 1 and not isinstance(expected, Array):
            theirs, shape = theirs.reshape(()), ()
        if mine is None:
            return _other_type(expected, given, path)
        if theirs is None or shape != mine.shape:
            sentence = f"your result has shape {shape_text(shape)}, expected was {shape_text(mine.shape)}"
            return Difference("shape", path, sentence, expected, given)
        lost = ~np.isfinite(theirs) & np.isfinite(mine)
        if lost.any():
            return _not_finite(theirs, lost, expected, given, path)
        exact = isinstance(expected, int) or (isinstance(expected, Array) and "int" in expected.dtype)
        wrong = ~close(mine, theirs, *((0, 1e-9) if exact else (self.rtol, self.atol)))
        return _off(mine, theirs, wrong, expected, given, path) if wrong.any() else None

    def _kind(self, expected: Plain, given: Plain, path: str) -> Difference | None:
        """dtype and device, where the numbers are right."""
        if not self.strict or not isinstance(expected, Array) or not isinstance(given, Array):
            return None
        for kind, mine, theirs in (
            ("dtype", expected.dtype, given.dtype),
            ("device", expected.device, given.device),
        ):
            if mine != theirs:
                sentence = f"the numbers are right, but their {kind} is {theirs}, expected was {mine}"
                return Difference(kind, path, sentence, expected, given)
        return None


def _not_finite(theirs: np.ndarray, lost: np.ndarray, expected: Plain, given: Plain, path: str) -> Difference:
    at = _index(lost)
    what = "NaN (not a number)" if np.isnan(theirs[at]) else "infinite"
    where = f" in {int(lost.sum())} of {lost.size} entries, the first at {list(at)}" if lost.size > 1 else ""
    return Difference("nonfinite", path, f"your result is {what}{where}", expected, given, at)


def _off(
    mine: np.ndarray, theirs: np.ndarray, wrong: np.ndarray, expected: Plain, given: Plain, path: str
) -> Difference:
    with np.errstate(all="ignore"):
        gap = np.where(wrong, np.nan_to_num(np.abs(theirs - mine), nan=np.inf), 0)
    at = _index(gap == gap.max())
    values = f"expected {number(mine[at])}, yours {number(theirs[at])}"
    if mine.size == 1:
        side = "" if np.iscomplexobj(mine - theirs) else "large" if theirs[at] > mine[at] else "small"
        return Difference("value", path, values, expected, given, at, side)
    sentence = f"{int(wrong.sum())} of {wrong.size} numbers differ, most at index {list(at)}: {values}"
    return Difference("value", path, sentence, expected, given, at)


def _index(mask: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(mask)), mask.shape))


def _other_type(expected: Plain, given: Plain, path: str) -> Difference:
    sentence = f"{kind_of(expected)} was expected, and you gave {kind_of(given)}"
    return Difference("type", path, sentence, expected, given)


def kind_of(value: Plain) -> str:
    """The kind of a value, with its article."""
    if isinstance(value, Array):
        return "a torch tensor" if value.kind == "tensor" else "a numpy array"
    if isinstance(value, (Record, Opaque)):
        return f"{'an' if value.type[:1].upper() in 'AEIOU' else 'a'} {value.type}"
    if isinstance(value, (list, tuple)):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, bool):
        return str(value)
    names = {
        int: "a whole number",
        float: "a number",
        complex: "a complex number",
        str: "a text",
        dict: "a dict",
    }
    return names.get(type(value), "None")
