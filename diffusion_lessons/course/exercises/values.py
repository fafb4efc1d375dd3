"""Plain values: what a function returned, as numpy arrays and nothing that can run code.

A result is turned into plain data where it was made, and everything after that (comparing, saving,
passing to another process) works on data alone.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch

MAX_ENTRIES = 2**24  # of one array; a larger one keeps its shape and loses its data
MAX_ITEMS = 10_000  # of all lists and dicts in one value
MAX_TEXT = 10_000
MAX_DEPTH = 12


@dataclass(frozen=True, eq=False)
class Array:
    """A tensor or a numpy array; dtypes that numpy lacks (bfloat16) are held as float32."""

    data: np.ndarray | None  # None where there were more than MAX_ENTRIES numbers
    shape: tuple[int, ...]
    dtype: str  # as torch or numpy names it, "float32"
    device: str  # "cpu", "cuda:0"; empty for a numpy array
    kind: str  # "tensor" or "array"
    graph: bool = False  # a gradient can flow back through it


@dataclass(frozen=True)
class Fields:
    """An object with named fields, such as a Level or an Estimate."""

    type: str
    fields: dict[str, Any]


@dataclass(frozen=True)
class Opaque:
    """Something that is not data: a function, a generator, a module."""

    type: str
    text: str


Plain = Any  # None | bool | int | float | complex | str | Array | list | tuple | dict | Fields | Opaque


def plain(value: Any) -> Plain:
    """A copy of a value as plain data; what is not data becomes `Opaque`."""
    try:
        return _plain(value, [MAX_ITEMS], 0)
    except Exception as error:  # an object of the student's own may raise from anything
        return Opaque(type(value).__name__, f"could not be read: {type(error).__name__}")


def _plain(value: Any, left: list[int], depth: int) -> Plain:
    left[0] -= 1
    if left[0] < 0 or depth > MAX_DEPTH:
        return Opaque(type(value).__name__, "too large to show")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, torch.Tensor):
        return _tensor(value)
    if isinstance(value, (np.ndarray, np.generic)):
        return _array(value)
    if isinstance(value, int):
        return int(value) if value.bit_length() < 1024 else Opaque("int", "too large to show")
    if isinstance(value, (float, complex)):
        return complex(value) if isinstance(value, complex) else float(value)
    if isinstance(value, str):
        return str(value[:MAX_TEXT])
    fields = _names(value)
    if fields is not None:
        return Fields(type(value).__name__, {k: _plain(getattr(value, k), left, depth + 1) for k in fields})
    if isinstance(value, (list, tuple)):
        items = [_plain(item, left, depth + 1) for item in value[:MAX_ITEMS]]
        return items if isinstance(value, list) else tuple(items)
    if isinstance(value, dict):
        named = ((k if isinstance(k, (str, int)) else repr(k)[:100], v) for k, v in value.items())
        return {k: _plain(v, left, depth + 1) for k, v in islice(named, MAX_ITEMS)}
    name = getattr(value, "__name__", None)
    return Opaque(type(value).__name__, name if isinstance(name, str) else "")


def _names(value: Any) -> list[str] | None:
    if isinstance(value, type):
        return None
    if dataclasses.is_dataclass(value):
        return [f.name for f in dataclasses.fields(value)]
    names = getattr(value, "_fields", None)  # a named tuple
    return list(names) if isinstance(value, tuple) and names else None


def _tensor(value: torch.Tensor) -> Array:
    data = None
    if value.numel() <= MAX_ENTRIES and value.device.type != "meta":
        still = value.detach().to_dense() if value.layout != torch.strided else value.detach()
        still = still.cpu().resolve_conj().resolve_neg()
        if still.dtype.is_floating_point and still.dtype not in (torch.float32, torch.float64):
            still = still.to(torch.float32)
        data = still.numpy().copy()
    dtype = str(value.dtype).removeprefix("torch.")
    return Array(data, tuple(value.shape), dtype, str(value.device), "tensor", value.requires_grad)


def _array(value: np.ndarray | np.generic) -> Plain:
    array = np.asarray(value)
    if array.dtype.kind not in "biufc":
        return Opaque("numpy array", f"dtype {array.dtype}")
    if isinstance(value, np.generic):
        return array.item()
    data = array.copy() if array.size <= MAX_ENTRIES else None
    return Array(data, array.shape, str(array.dtype), "", "array")


def to_json(value: Plain, arrays: list[np.ndarray]) -> Any:
    """A plain value as what JSON can hold; the numbers of its arrays are appended to `arrays`."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return {"float": repr(value)}
    if isinstance(value, complex):
        return {"complex": [repr(value.real), repr(value.imag)]}
    if isinstance(value, Array):
        if value.data is not None:
            arrays.append(value.data)
        index = None if value.data is None else len(arrays) - 1
        about = [value.dtype, value.device, value.kind, "graph" * value.graph]
        return {"array": index, "shape": list(value.shape), "about": about}
    if isinstance(value, Fields):
        return {"record": value.type, "fields": {k: to_json(v, arrays) for k, v in value.fields.items()}}
    if isinstance(value, Opaque):
        return {"opaque": [value.type, value.text]}
    if isinstance(value, dict):
        return {"dict": [[k, to_json(v, arrays)] for k, v in value.items()]}
    return {"tuple" if isinstance(value, tuple) else "list": [to_json(v, arrays) for v in value]}


def from_json(stored: Any, arrays: list[np.ndarray]) -> Plain:
    """The plain value that `to_json` stored.

    ValueError, KeyError, TypeError or IndexError where it did not come from `to_json`.
    """
    if stored is None or isinstance(stored, (bool, int, str)):
        return stored
    if "float" in stored:
        return float(stored["float"])
    if "complex" in stored:
        return complex(*map(float, stored["complex"]))
    if "array" in stored:
        return _stored_array(stored, arrays)
    if "record" in stored:
        return Fields(str(stored["record"]), {k: from_json(v, arrays) for k, v in stored["fields"].items()})
    if "opaque" in stored:
        type_name, text = map(str, stored["opaque"])
        return Opaque(type_name, text)
    if "dict" in stored:
        return {k: from_json(v, arrays) for k, v in stored["dict"]}
    if "tuple" in stored:
        return tuple(from_json(v, arrays) for v in stored["tuple"])
    return [from_json(v, arrays) for v in stored["list"]]


def _stored_array(stored: dict[str, Any], arrays: list[np.ndarray]) -> Array:
    dtype, device, kind, graph = map(str, stored["about"])
    shape = tuple(map(int, stored["shape"]))
    data = None if stored["array"] is None else arrays[stored["array"]]
    if data is not None and (data.shape != shape or data.dtype.kind not in "biufc"):
        raise ValueError(f"a stored array is {data.dtype} {data.shape} and should have shape {shape}")
    return Array(data, shape, dtype, device, kind, bool(graph))


# In words ------------------------------------------------------------------------------------------


def number(value: Any, digits: int = 6) -> str:
    """A number in at most so many significant digits."""
    if isinstance(value, (bool, np.bool_, complex)) or value is None:
        return str(value)
    if isinstance(value, (int, np.integer)):
        return str(int(value))
    return f"{float(value):.{digits}g}".replace("-", "−") if np.isfinite(value) else str(float(value))


def describe(value: Plain, at: tuple[int, ...] | None = None) -> str:
    """What a value is, in one line: type, dtype, shape, and its numbers or their range.

    `at` is the place of a list or row that the line should show.
    """
    if isinstance(value, Array):
        return _describe_array(value, at)
    if isinstance(value, Fields):
        inside = ", ".join(f"{k} = {_short(v)}" for k, v in value.fields.items())
        return f"{value.type}({inside})"
    if isinstance(value, Opaque):
        text = f" {value.text}" if value.text else ""
        return f"a {value.type}{text}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k!r}: {_short(v)}" for k, v in list(value.items())[:6]) + "}"
    if isinstance(value, (list, tuple)):
        inside = _around(value, at, _short)
        return f"[{inside}]" if isinstance(value, list) else f"({inside})"
    return repr(value[:200]) if isinstance(value, str) else number(value)


def _around(values: Sequence[Any], at: tuple[int, ...] | None, said: Callable[[Any], str]) -> str:
    """Six neighbours in words, the place to look at among them."""
    start = max(0, min(at[0] - 2, len(values) - 6)) if at else 0
    shown = [said(each) for each in values[start : start + 6]]
    return ", ".join(["…"] * (start > 0) + shown + ["…"] * (start + 6 < len(values)))


def _short(value: Plain) -> str:
    return describe(value) if not isinstance(value, Fields) else f"a {value.type}"


def _describe_array(value: Array, at: tuple[int, ...] | None = None) -> str:
    what = "" if value.kind == "tensor" else "numpy "
    where = "" if value.device in ("", "cpu") else f" on {value.device}"
    head = f"{what}{value.dtype} {value.shape}{where}"
    data = value.data
    if data is None or data.size == 0:
        return f"{head}, {'empty' if data is not None else 'too large to show'}"
    if data.size <= 6:
        numbers = ", ".join(number(x, 4) for x in data.ravel())
        return f"{head}: {numbers}"
    if at and data.ndim == 1:
        return f"{head}: {_around(data.tolist(), at, lambda x: number(x, 4))}"
    if data.dtype.kind == "c":
        return head
    finite = data[np.isfinite(data)]
    lost = data.size - finite.size
    extent = f", from {number(finite.min(), 3)} to {number(finite.max(), 3)}" if finite.size else ""
    return f"{head}{extent}" + (f", {lost} of {data.size} NaN or infinite" if lost else "")
