"""A GPU for machines without one: its tensors hold real numbers, say "cuda:0", and refuse what CUDA refuses.

A tensor is there when its storage is marked, so views and parameters are there with it. Every function
that is called with tensors goes through `PretendGPU`. What happens below is not seen: a backward pass, a
kernel, the dtypes and the roundings of a real GPU.
"""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")
SAME = "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!"
INDEX = "indices should be either on cpu or on the same device as the indexed tensor (cpu)"
NUMPY = (
    "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory."
)

MADE = {  # the device is the one asked for, whatever the numbers in it come from
    *("tensor", "as_tensor", "asarray", "zeros", "ones", "full", "empty", "eye", "arange", "linspace"),
    *("logspace", "rand", "randn", "randint", "randperm", "from_numpy", "tril_indices", "triu_indices"),
}
ANYWHERE = {  # a tensor elsewhere is copied, or only looked at from outside
    *("copy_", "_foreach_copy_", "expand_as", "view_as", "reshape_as", "new_tensor", "backward", "__set__"),
    *("_has_compatible_shallow_copy_type", "broadcast_tensors", "is_same_size", "__deepcopy__", "to"),
}
WHOLE = {  # not even a number is taken from the CPU here
    *("cat", "concat", "concatenate", "stack", "hstack", "vstack", "dstack", "column_stack", "embedding"),
    *("gather", "scatter", "scatter_", "index_select", "take", "equal", "searchsorted", "bucketize"),
}


def on_gpu(x: Tensor) -> bool:
    """Does a tensor lie on the pretend GPU?"""
    return getattr(_storage(x), "on_gpu", False)


def _storage(x: Tensor) -> Any:
    with torch._C.DisableTorchFunction():
        return x.untyped_storage() if x.layout == torch.strided else None


def _put(x: Tensor, there: bool) -> Tensor:
    """A tensor in the one place or the other: a copy where it is not there yet."""
    return _marked(x.clone(), there) if on_gpu(x) != there else x


def _marked(x: Tensor, there: bool) -> Tensor:
    if (storage := _storage(x)) is not None:
        storage.on_gpu = there
    return x


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return [each for part in inside for each in _tensors(part)]


def _is_device(value: Any) -> bool:
    return isinstance(value, torch.device) or (isinstance(value, str) and value != "")


class PretendGPU(TorchFunctionMode):
    """Calls every function of torch on the CPU, after the rules of CUDA."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = dict(kwargs or {}), getattr(function, "__name__", "")
        if name == "__get__":
            return self.attribute(function, args)
        if name in ("to", "cuda", "cpu") and args and isinstance(args[0], Tensor):
            return self.moved(function, name, *args, **kwargs)
        if name == "grad" and getattr(function, "__module__", "") == "torch.autograd":
            return self.gradients(function, args, kwargs)
        if name in ("numpy", "__array__") and on_gpu(args[0]):
            raise TypeError(NUMPY)
        if name == "get_device" and on_gpu(args[0]):
            return 0
        if name == "_parse_to":
            return function(*args, **kwargs)
        if name == "pin_memory":
            return args[0].clone()
        there = self.place(name, args, kwargs)
        if name == "__getitem__":
            self.check_index(*args)
        elif name == "__setitem__":
            self.check_set(*args)
        elif name not in MADE | ANYWHERE:
            self.check(name, args, kwargs)
        for each in (*args, *kwargs.values()):
            if isinstance(each, torch.Generator) and (each.device.type == "cuda") != there:
                wanted = "cuda" if there else "cpu"
                raise RuntimeError(
                    f"Expected a '{wanted}' device type for generator but found '{each.device.type}'"
                )
        if kwargs.get("device") is not None and torch.device(kwargs["device"]).type == "cuda":
            kwargs["device"] = CPU
        given = [_storage(each) for each in _tensors([*args, *kwargs.values()])]
        result = function(*args, **kwargs)
        if name == "__iter__":
            result = list(result)
        for each in _tensors(result):
            if not any(_storage(each) is one for one in given):  # a view, or the tensor itself, stays put
                _marked(each, there)
            elif name in MADE and on_gpu(each) != there:
                return _put(each, there)
        return iter(result) if name == "__iter__" else result

    @staticmethod
    def attribute(function: Any, args: Any) -> Any:
        x, name = args[0], function.__self__.__name__
        there = on_gpu(x)
        if there and name in ("device", "is_cuda", "is_cpu"):
            return {"device": GPU, "is_cuda": True, "is_cpu": False}[name]
        value = function(*args)
        return _marked(value, there) if there and isinstance(value, Tensor) else value

    @staticmethod
    def moved(function: Any, name: str, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if name == "cuda":
            return _put(x, True)
        there = on_gpu(x) and name == "to"
        for each in (*args, *kwargs.values()):
            if isinstance(each, Tensor):
                there = on_gpu(each)
            elif _is_device(each):
                there = torch.device(each).type == "cuda"
        args = tuple(CPU if _is_device(each) else each for each in args)
        kwargs = {key: CPU if _is_device(each) else each for key, each in kwargs.items()}
        result = function(x, *args, **kwargs)
        if _storage(result) is _storage(x):
            return _put(result, there)
        return _marked(result, there)

    @staticmethod
    def gradients(function: Any, args: Any, kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        wanted = kwargs["inputs"] if "inputs" in kwargs else args[1]
        places = [on_gpu(each) for each in _tensors(wanted)]
        return tuple(
            each if each is None else _put(each, there) for each, there in zip(result, places, strict=True)
        )

    @staticmethod
    def place(name: str, args: Any, kwargs: Any) -> bool:
        """Is what comes out on the GPU?"""
        if kwargs.get("device") is not None:
            return torch.device(kwargs["device"]).type == "cuda"
        if name in MADE:
            return bool(args) and isinstance(args[0], Tensor) and on_gpu(args[0]) and args[0].ndim > 0
        if name in ANYWHERE and args and isinstance(args[0], Tensor):
            return on_gpu(args[0])
        return any(map(on_gpu, _tensors([*args, *kwargs.values()])))

    @staticmethod
    def check(name: str, args: Any, kwargs: Any) -> None:
        """Tensors of two devices meet only where those of the CPU are single numbers, not written to."""
        tensors = _tensors([*args, *kwargs.values()])
        here = [each for each in tensors if not on_gpu(each)]
        if not here or len(here) == len(tensors):
            return
        own = name.startswith("__i") and name != "__iter__"
        in_place = own or (name.endswith("_") and not name.endswith("__"))
        written = _tensors(args[:1]) if in_place else []
        written += _tensors(kwargs.get("out"))
        if name in WHOLE or any(each.dim() > 0 or any(each is one for one in written) for each in here):
            raise RuntimeError(f"{SAME} (when checking {name})")

    @staticmethod
    def check_index(x: Tensor, index: Any) -> None:
        if not on_gpu(x) and any(on_gpu(each) and each.dim() > 0 for each in _tensors([index])):
            raise RuntimeError(INDEX)

    @classmethod
    def check_set(cls, x: Tensor, index: Any, value: Any) -> None:
        cls.check_index(x, index)
        listed = any(each.dim() > 0 for each in _tensors([index]))  # else the value is copied
        if listed and isinstance(value, Tensor) and value.dim() > 0 and on_gpu(value) != on_gpu(x):
            raise RuntimeError(SAME)


class _Anyone(type(torch._C.Generator)):  # type: ignore[misc]
    """A generator made before is one, too."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, torch._C.Generator)


class Generator(torch._C.Generator, metaclass=_Anyone):
    """A random generator that may say it is on the GPU."""

    def __new__(cls, device: Any = "cpu") -> "Generator":
        made = super().__new__(cls)
        made.place = GPU if torch.device(device).type == "cuda" else CPU
        return made

    place: torch.device

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return self.place


@contextlib.contextmanager
def pretend_gpu() -> Iterator[None]:
    """Here, and in threads that are started here, there is a GPU."""
    run = threading.Thread.run

    def run_there(thread: threading.Thread) -> None:
        with PretendGPU():
            run(thread)

    with (
        patch.object(threading.Thread, "run", run_there),
        patch.object(torch, "Generator", Generator),
        patch.object(torch.cuda, "is_available", lambda: True),
        patch.object(torch.cuda, "device_count", lambda: 1),
        patch.object(torch.cuda, "get_device_name", lambda device=None: "Pretend GPU"),
        patch.object(torch.cuda, "mem_get_info", lambda device=None: (2**34, 2**34)),
        patch.object(torch.cuda, "is_bf16_supported", lambda including_emulation=True: False),
        PretendGPU(),
    ):
        yield
