"""Writing a model as ONNX: traced, compared with its network at other numbers of rows, then written whole."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diffusion_lessons.checkpoint import Checkpoint
from diffusion_lessons.onnx_files.card import FORMAT, graph_digest, sealed
from diffusion_lessons.onnx_files.parts import Part, parts_of
from diffusion_lessons.onnx_files.session import Session, needed
from diffusion_lessons.support.files import atomic_write, writable, writable_file
from diffusion_lessons.support.machine import versions

OPSET = 20  # of ONNX's operations: what ONNX Runtime and its web build have had since 2023
TRACED, COMPARED = 4, (1, 3, 7)  # rows: a file that knows only those it was traced with must not pass
TOLERANCE, HALF_TOLERANCE = 1e-4, 2e-2  # of the largest output, at least of 1; met: 8e-7 and 1.2e-3
LARGEST = 2**31 - 2**20  # bytes of a file: protobuf's limit, less room for all but the weights


def write_onnx(model: Any, out: Path, half: bool = False) -> list[dict[str, Any]]:
    """Write a model that `zoo.load` or `open_model` gives; the result tells of each file, its card without
    the model's description among it.

    A model of one part becomes the file `out`, which ends in .onnx; one of several the folder `out`, with a
    file for each. With `half` the weights of layers are kept in half precision and the arithmetic stays
    float32. Nothing is written unless every part agrees with its network: the largest difference, over
    random inputs of `COMPARED` rows, is at most `TOLERANCE`, with half weights `HALF_TOLERANCE`. A missing
    package, a network that ONNX cannot express or that is too large, and a place that cannot be written are
    a ValueError.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        needed(package)
    model = model.on("cpu", torch.contiguous_format) if isinstance(model, Checkpoint) else model
    description, parts = parts_of(model)
    files = _places(out, parts)
    graphs = {part.name: graph_of(part, half) for part in parts}
    measured = {part.name: _compared(part, graphs[part.name], half) for part in parts}
    digests = {name: graph_digest(graph) for name, graph in graphs.items()}
    told = []
    for part, file in reversed(list(zip(parts, files, strict=True))):  # the one that says what belongs, last
        card = {
            "format": FORMAT,
            "kind": description["kind"],
            "part": part.name,
            "parts": digests,
            "inputs": {name: [_kind(x), list(x.shape[1:])] for name, x in _examples(part, 1).items()},
            "outputs": list(part.outputs),
            "weights": "float16" if half else "float32",
            "difference": measured[part.name],
            "versions": versions("onnx", "onnxruntime"),
        }
        data = sealed(graphs[part.name], card | ({"model": description} if part is parts[0] else {}))
        with atomic_write(file) as partial:
            partial.write_bytes(data)
        told.append({"file": str(file), "bytes": len(data), **card})
    return told[::-1]


def _places(out: Path, parts: list[Part]) -> list[Path]:
    """Where each part goes, proved writable before minutes of work."""
    if len(parts) > 1:
        if out.exists() and not out.is_dir():
            raise ValueError(
                f"this model has {len(parts)} parts and {out} is a file: name a folder with --out"
            )
        return [writable(out) / f"{part.name}.onnx" for part in parts]
    if out.suffix != ".onnx":
        named = f"{out}.onnx" if out.name else "model.onnx"
        raise ValueError(f"an ONNX file's name ends in .onnx, got {out}: name it {named}")
    return [writable_file(out)]


# From a network to a graph -------------------------------------------------------------------------


class _Called(nn.Module):
    """A part as `torch.onnx` wants it: a module whose inputs are the graph's."""

    def __init__(self, part: Part) -> None:
        super().__init__()
        self.network, self.call = part.network, part.call

    def forward(self, *inputs: Tensor) -> Any:
        return self.call(self.network, *inputs)


def graph_of(part: Part, half: bool) -> bytes:
    """A part as a serialized ONNX model, with half weights or not; what cannot be one is a ValueError."""
    size = sum(weight.numel() * weight.element_size() for weight in part.network.state_dict().values())
    if size > LARGEST:
        raise ValueError(
            f"the weights of {part.name!r} are {size / 1e9:.1f} GB: an ONNX file holds 2 GB at most"
        )
    inputs, batch = _examples(part, TRACED), torch.export.Dim("batch", min=1)
    try:
        with _quiet():
            program = torch.onnx.export(
                _Called(part).eval(),
                tuple(inputs.values()),
                input_names=list(inputs),
                output_names=list(part.outputs),
                dynamic_shapes=(tuple({0: batch} for _ in inputs),),
                opset_version=OPSET,
                dynamo=True,
                optimize=True,
                verbose=False,
            )
            model = program.model_proto  # type: ignore[union-attr]
    except MemoryError:
        raise
    except Exception as error:  # whatever the tracer does not know
        why = " ".join(str(error).split())[:300]
        raise ValueError(
            f"{type(part.network).__name__} cannot be written as ONNX ({why}): give its forward operations "
            "and shapes that torch.onnx.export knows, and no choices that depend on values"
        ) from error
    if any(not value.type.tensor_type.shape.dim[0].dim_param for value in model.graph.input):
        raise ValueError(
            f"the graph of {type(part.network).__name__} takes {TRACED} rows and no other number: in its "
            "forward, x.shape[0] leaves the batch free and len(x) fixes it"
        )
    _bare(model)
    if half:
        _halve(model.graph)
    return bytes(model.SerializeToString())


def _bare(model: Any) -> None:
    """Leave out how the graph was traced: that is a fifth of a small file, and names local folders."""
    graph = model.graph
    del model.metadata_props[:], graph.value_info[:], graph.metadata_props[:]
    for entry in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        del entry.metadata_props[:]
        entry.doc_string = ""


def _halve(graph: Any) -> None:
    """Keep the weights of layers (tables, convolutions, matrices) in half precision, cast as they are used.

    ONNX Runtime casts them once, when it reads the file. Biases and norms stay as they are.
    """
    onnx = needed("onnx")
    casts = []
    for weight in graph.initializer:
        if weight.data_type == onnx.TensorProto.FLOAT and len(weight.dims) > 1:
            values = onnx.numpy_helper.to_array(weight)
            name, short = weight.name, f"{weight.name}.half"
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of numbers beyond half precision: the comparison finds them
                weight.CopyFrom(onnx.numpy_helper.from_array(values.astype("float16"), short))
            casts.append(onnx.helper.make_node("Cast", [short], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the tracer's words on packages that are not installed and on its own insides."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


# Compared with the network -------------------------------------------------------------------------


def _compared(part: Part, graph: bytes, half: bool) -> float:
    """The largest difference between graph and network; above the tolerance, or no number, a ValueError."""
    session, worst = Session(part.name, graph), torch.zeros(())
    for rows in COMPARED:
        inputs = _examples(part, rows)
        for ours, theirs in zip(part.answers(inputs), session(**inputs), strict=True):
            gap = (ours - theirs).abs().max() / ours.abs().max().clamp(min=1)
            worst = torch.maximum(worst, gap)  # NaN stays NaN
    tolerance = HALF_TOLERANCE if half else TOLERANCE
    if not worst <= tolerance:
        advice = ": leave out --half" if half else ", on this version of ONNX Runtime: please report it"
        raise ValueError(
            f"the graph of {part.name!r} differs from its network by {worst:.1e}, over {tolerance:g}{advice}"
        )
    return float(worst)


def _examples(part: Part, rows: int) -> dict[str, Tensor]:
    return part.draw(rows, torch.Generator().manual_seed(rows))


def _kind(x: Tensor) -> str:
    return str(x.dtype).removeprefix("torch.")
