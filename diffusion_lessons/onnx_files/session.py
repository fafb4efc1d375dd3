"""ONNX Runtime: a graph, ready to evaluate on a provider."""

import importlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from diffusion_lessons.support.errors import unknown

PROVIDERS = {  # what to ask for, the next where an operation has no kernel in the one before
    "cpu": ("CPUExecutionProvider",),
    "cuda": ("CUDAExecutionProvider", "CPUExecutionProvider"),
    "tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"),
}
FLOAT32 = {"CUDAExecutionProvider": {"use_tf32": "0"}}  # it multiplies in TF32 unless told not to
DTYPES = {"tensor(float)": torch.float32, "tensor(int64)": torch.int64}
ERRORS_ONLY = 3  # of ONNX Runtime's levels of logging


def needed(package: str) -> Any:
    """A package that only ONNX files need; where it is missing, a ValueError that says how to get it."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        how = "pip install --constraint constraints.txt --editable '.[onnx]'"
        raise ValueError(f"ONNX files need the package {package} ({error}): {how}") from error


def checked_provider(name: str) -> str:
    """A provider that is here; an unknown one, and one that is not, are a ValueError that says what is."""
    if name not in PROVIDERS:
        raise unknown("provider", name, PROVIDERS)
    there = needed("onnxruntime").get_available_providers()
    if PROVIDERS[name][0] not in there:
        here = ", ".join(each for each, kinds in PROVIDERS.items() if kinds[0] in there)
        raise ValueError(
            f"ONNX Runtime has no provider {name!r} here, it has {here}: cuda and tensorrt come with the "
            "package onnxruntime-gpu, in the place of onnxruntime"
        )
    return name


class Session:
    """A graph from tensors by name to its outputs, on the device of the first input.

    It computes with as many threads as torch. A graph that ONNX Runtime cannot read is a ValueError.
    """

    def __init__(self, name: str, graph: bytes, provider: str = "cpu") -> None:
        kinds = PROVIDERS[checked_provider(provider)]
        runtime = needed("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), ERRORS_ONLY
        try:
            chosen = [(kind, FLOAT32.get(kind, {})) for kind in kinds]
            self.session = runtime.InferenceSession(graph, options, providers=chosen)
        except Exception as error:  # its errors share no other class
            raise ValueError(f"ONNX Runtime cannot read it: {_line(error)}") from error
        if self.session.get_providers()[0] != kinds[0]:  # it goes on without one that does not start
            raise ValueError(f"the provider {provider!r} is installed but does not start here: take cpu")
        self.name = name
        self.inputs = {
            each.name: (each.shape[1:], DTYPES.get(each.type)) for each in self.session.get_inputs()
        }

    @property
    def metadata(self) -> dict[str, str]:
        """What stands beside the graph."""
        return dict(self.session.get_modelmeta().custom_metadata_map)

    def __call__(self, **inputs: Tensor) -> tuple[Tensor, ...]:
        """The outputs for inputs of as many rows each; names or shapes that don't fit are a ValueError."""
        self._check(inputs)
        device = next(iter(inputs.values())).device
        arrays = {
            name: inputs[name].detach().to("cpu", dtype).contiguous().numpy()
            for name, (_, dtype) in self.inputs.items()
        }
        try:
            return tuple(torch.from_numpy(y).to(device) for y in self.session.run(None, arrays))
        except Exception as error:
            raise RuntimeError(f"ONNX Runtime could not evaluate {self.name!r}: {_line(error)}") from error

    def __deepcopy__(self, _: dict[int, Any]) -> "Session":
        """Itself: nothing in it changes."""
        return self

    def _check(self, inputs: Mapping[str, Tensor]) -> None:
        if inputs.keys() != self.inputs.keys():
            raise ValueError(f"{self.name!r} takes {', '.join(self.inputs)}; got {', '.join(inputs)}")
        rows = {value.shape[0] if value.ndim else 0 for value in inputs.values()}
        for name, (shape, _) in self.inputs.items():
            given = tuple(inputs[name].shape)
            if list(given[1:]) != list(shape) or len(rows) > 1:
                wanted = ", ".join(map(str, ("B", *shape)))
                raise ValueError(
                    f"{self.name!r} takes {name!r} of shape ({wanted}), one B for all inputs, got {given}: "
                    "an ONNX file has the size it was exported with"
                )


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
