"""An exported model draws what its model draws; a file that is not what it should be is refused."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
import torch

from diffusion_lessons import zoo
from diffusion_lessons.checkpoint import Checkpoint, CheckpointError
from diffusion_lessons.generate import generate, labels_for, walk
from diffusion_lessons.networks import DiT, DiTConfig, Vae, VaeConfig
from diffusion_lessons.onnx_files import session, writing
from diffusion_lessons.onnx_files.card import sealed, unsealed
from diffusion_lessons.onnx_files.opening import open_onnx
from diffusion_lessons.onnx_files.parts import Part
from diffusion_lessons.onnx_files.writing import write_onnx
from diffusion_lessons.painting import Canvas
from diffusion_lessons.paths import StraightPath
from diffusion_lessons.targets import FLOW
from tests.tiny_checkpoint import tiny

WORDS = ["a red circle", "a blue square"]


def drawn(model: Checkpoint, condition: Any, **how: Any) -> torch.Tensor:
    return generate(model, condition, 3, seed=5, device="cpu", precision="float32", steps=5, **how)


def apart(ours: Checkpoint, theirs: Checkpoint, condition: Any, **how: Any) -> float:
    """How far apart the pictures are that both draw from one seed."""
    pair = (drawn(model, condition, **how) for model in (ours, theirs))
    return float((next(pair) - next(pair)).abs().max())


@pytest.mark.parametrize(
    "how", [{}, {"guidance": 3.0}, {"sampler": "ddpm"}, {"sampler": "heun"}, {"batch": 2}]
)
def test_the_same_seed_draws_the_same_picture(digits: Path, how: dict[str, Any]) -> None:
    model, opened = tiny(), open_onnx(digits)
    assert apart(opened, model, labels_for(model, 3), **how) < 1e-3


def test_all_but_the_network_is_as_it_was(digits: Path) -> None:
    model, opened = tiny(), open_onnx(digits)
    assert (opened.shape, opened.classes, opened.target) == (model.shape, model.classes, model.target)
    assert (opened.recipe, opened.info, opened.sampling) == (model.recipe, model.info, model.sampling)
    assert torch.equal(opened.path.betas, model.path.betas)  # type: ignore[attr-defined]
    assert torch.equal(opened.network.null_condition(2), torch.tensor([3, 3]))  # type: ignore[operator]
    assert not list(opened.network.buffers()) and sum(p.numel() for p in opened.network.parameters()) == 0


def test_a_straight_path_and_no_labels(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = DiT(DiTConfig(width=16, depth=1, head_dim=8))
    torch.nn.init.normal_(network.linear_out.weight, std=0.1)
    model = Checkpoint(network.eval(), StraightPath(), FLOW, (), (1, 8, 8))
    write_onnx(model, tmp_path / "a.onnx")
    opened = open_onnx(tmp_path / "a.onnx")
    assert isinstance(opened.path, StraightPath)
    assert apart(opened, model, None) < 1e-3
    with pytest.raises(ValueError, match="without classes"):
        opened.network(torch.zeros(1, 1, 8, 8), torch.zeros(1), torch.zeros(1, dtype=torch.int64))


def test_a_text_model_in_parts(prompted: Checkpoint, parts: Path) -> None:
    assert sorted(file.name for file in parts.iterdir()) == [
        "decoder.onnx", "encoder.onnx", "network.onnx", "text.onnx"
    ]  # fmt: skip
    opened = open_onnx(parts)
    for words in (WORDS, ["", "ünïcode 🙂"]):
        said = [model.prompts([*words, "x"])["tokens"] for model in (prompted, opened)]
        assert torch.equal(*said)
    condition = prompted.prompts([*WORDS, "x"])
    assert apart(opened, prompted, condition) < 1e-3
    assert apart(opened, prompted, condition, negative=prompted.prompts(["blue"]), guidance=3.0) < 1e-3


def test_a_picture_to_begin_with_and_one_to_paint_over(prompted: Checkpoint, parts: Path) -> None:
    picture = torch.linspace(-1, 1, 3 * 16 * 16).view(1, 3, 16, 16)
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., :8] = 1
    condition, opened = prompted.prompts([*WORDS, "x"]), open_onnx(parts)
    for canvas in (Canvas(picture, 0.5), Canvas(picture, 1.0, mask)):
        assert apart(opened, prompted, condition, canvas=canvas) < 1e-3


@pytest.mark.slow
def test_the_bundled_model_that_paints_over_a_mask(tmp_path: Path) -> None:
    model = zoo.load("scenes-inpaint")
    write_onnx(model, tmp_path / "parts", half=True)  # bundled weights are in half precision already
    opened = open_onnx(tmp_path / "parts")
    picture, mask = torch.zeros(1, 3, 64, 64), torch.ones(1, 1, 64, 64)
    mask[..., :32] = 0
    condition = model.prompts(["a red circle"])
    assert apart(opened, model, condition, canvas=Canvas(picture, 1.0, mask)) < 1e-3
    with pytest.raises(ValueError, match="paints over a mask"):
        drawn(opened, condition)


def test_a_walk_step_by_step(digits: Path) -> None:
    model, opened = tiny(), open_onnx(digits)
    noise, labels = torch.randn(2, 1, 8, 8), torch.tensor([0, 2])
    ours, theirs = (list(walk(each, labels, noise, steps=4, precision="float32")) for each in (opened, model))
    for (_, x, estimate), (_, y, wanted) in zip(ours, theirs, strict=True):
        assert torch.allclose(x, y, atol=1e-4)
        assert (estimate is None) == (wanted is None)


def test_what_does_not_fit_the_graph_is_told(digits: Path, parts: Path) -> None:
    network, time = open_onnx(digits).network, torch.zeros(2)
    for x, t in ((torch.zeros(2, 1, 16, 16), time), (torch.zeros(3, 1, 8, 8), time), (torch.zeros(8), time)):
        with pytest.raises(ValueError, match=r"of shape \(B.*the size it was exported with"):
            network(x, t)
    for label in (-1, 4):
        with pytest.raises(ValueError, match="classes are 0 to 2, and 3 means no label"):
            network(torch.zeros(2, 1, 8, 8), time, torch.tensor([0, label]))
    opened = open_onnx(parts)
    with pytest.raises(ValueError, match="'network' takes x, time, context; got x, time"):
        opened.network.unet(torch.zeros(1, 4, 8, 8), torch.zeros(1), {})  # type: ignore[union-attr, operator]
    with pytest.raises(ValueError, match="the size it was exported with"):
        drawn(replace(opened, shape=(4, 16, 16)), opened.prompts(["x"] * 3))


def test_it_has_no_weights_to_save(digits: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown network 'OnnxNetwork'"):
        write_onnx(open_onnx(digits), tmp_path / "a.onnx")


# Files that are not what they should be -------------------------------------------------------------


def refused(file: Path, why: str) -> None:
    with pytest.raises(CheckpointError, match=why):
        open_onnx(file)


def test_files_that_are_missing_cut_short_damaged_or_no_onnx(digits: Path, tmp_path: Path) -> None:
    refused(tmp_path / "no.onnx", "cannot read the ONNX file .*No such file")
    data, file = digits.read_bytes(), tmp_path / "a.onnx"
    for length in (0, 1, 1000, len(data) // 2, len(data) - 1):
        file.write_bytes(data[:length])
        refused(file, "cut short")
    file.write_bytes(data + b"\0")
    refused(file, "cut short|damaged")
    for text in (b"\x89PNG\r\n", b"not a graph at all", b"\0" * 5000):
        file.write_bytes(text)
        refused(file, "no ONNX file")


def test_a_byte_that_flipped(digits: Path, tmp_path: Path) -> None:
    data, file = bytearray(digits.read_bytes()), tmp_path / "a.onnx"
    for place in range(len(data) // 40, len(data), len(data) // 20):  # weights, names, card
        data[place] ^= 4
        file.write_bytes(data)
        refused(file, "damaged|cut short")
        data[place] ^= 4


def foreign() -> onnx.ModelProto:
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch", 2])
    out = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["batch", 2])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Neg", ["x"], ["y"])], "foreign", [value], [out])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)


def test_a_file_of_somebody_else(tmp_path: Path) -> None:
    model, file = foreign(), tmp_path / "a.onnx"
    onnx.save(model, file)
    refused(file, "none that diffusion-lessons wrote")
    onnx.helper.set_model_props(model, {"diffusion_lessons": "a word"})
    onnx.save(model, file)
    refused(file, "is damaged")
    for card, why in (
        ({"format": 2}, "format 2, this version reads 1"),
        ({"format": 1}, "does not hold"),
        ({"format": 1, "kind": "model", "part": "network", "parts": {}}, "does not hold"),
        ({"format": 1, "kind": "model", "part": "network", "parts": {"../x": "1"}}, "name its folder"),
    ):
        file.write_bytes(sealed(foreign().SerializeToString(), card))
        refused(file, why)


def test_a_card_longer_than_a_byte_can_count() -> None:
    card = {"format": 1, "words": "x" * 100_000}
    data = sealed(b"graph", card)
    assert data.startswith(b"graph")
    model = onnx.ModelProto.FromString(data.removeprefix(b"graph"))
    assert unsealed(data, model.metadata_props[0].value) == card


def test_models_that_draw_nothing(tmp_path: Path) -> None:
    write_onnx(zoo.load("digits-classifier"), tmp_path / "a.onnx")
    refused(tmp_path / "a.onnx", "draws nothing, of the kind 'classifier'")


def test_parts_that_are_missing_alone_or_of_another_model(parts: Path, tmp_path: Path) -> None:
    for name in ("network", "decoder"):
        refused(parts / f"{name}.onnx", "one part of a model.*name its folder")
    shutil.copytree(parts, copy := tmp_path / "parts")
    (copy / "decoder.onnx").unlink()
    refused(copy, "cannot read the ONNX file .*decoder")
    shutil.copy(parts / "encoder.onnx", copy / "decoder.onnx")
    refused(copy, "not of the same model as the files beside it")


def test_an_export_that_was_stopped_between_two_parts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Alone it is no model, and over an older one it is no mixture of both."""
    vae = Vae(VaeConfig(widths=(8, 8), blocks_per_level=1, groups=8)).eval()
    model, sealing, tracing, done = (
        replace(tiny(channels=4), vae=vae),
        writing.sealed,
        writing.graph_of,
        list[str](),
    )
    traced: dict[str, bytes] = {}

    def once(part: Part, half: bool) -> bytes:
        traced[part.name] = traced.get(part.name) or tracing(part, half)
        return traced[part.name]

    def stopping(graph: bytes, card: dict[str, Any]) -> bytes:
        if done:
            raise KeyboardInterrupt
        done.append(card["part"])
        return sealing(graph, card)

    monkeypatch.setattr(writing, "graph_of", once)
    write_onnx(model, tmp_path / "old")
    assert apart(open_onnx(tmp_path / "old"), model, labels_for(model, 3)) < 1e-3
    monkeypatch.setattr(
        writing, "graph_of", lambda part, half: once(part, half) + b"\x32\x01x"
    )  # a doc string
    monkeypatch.setattr(writing, "sealed", stopping)
    for name in ("new", "old"):
        done.clear()
        with pytest.raises(KeyboardInterrupt):
            write_onnx(model, tmp_path / name)
        assert done == ["decoder"]
    with pytest.raises(ValueError, match=r"holds decoder.onnx and no network.onnx: .*was stopped"):
        zoo.open_model(str(tmp_path / "new"))
    (tmp_path / "new" / "model.safetensors").touch()  # files of a run, with somebody's export beside them
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        zoo.open_model(str(tmp_path / "new"))
    refused(tmp_path / "old", "decoder.onnx is not of the same model")


# Providers -----------------------------------------------------------------------------------------


def test_a_provider_that_is_not_here_names_what_is(digits: Path) -> None:
    with pytest.raises(ValueError, match="unknown provider 'gpu': expected one of cpu, cuda, tensorrt"):
        open_onnx(digits, "gpu")
    for name in {"cuda", "tensorrt"}:
        if session.PROVIDERS[name][0] not in onnxruntime.get_available_providers():
            with pytest.raises(ValueError, match=f"no provider '{name}' here, it has .*cpu.*onnxruntime-gpu"):
                open_onnx(digits, name)


class Pretended:
    """ONNX Runtime's session as it is where a GPU's libraries are there, or only seem to be."""

    def __init__(self, starts: bool, asked: list[Any]) -> None:
        self.starts, self.asked, self.plain = starts, asked, onnxruntime.InferenceSession

    def __call__(self, graph: bytes, options: Any, providers: list[tuple[str, dict[str, str]]]) -> Any:
        self.asked.append(dict(providers))
        made = self.plain(graph, options, providers=[("CPUExecutionProvider", {})])
        made.get_providers = lambda: [*self.asked[-1]] if self.starts else ["CPUExecutionProvider"]
        return made


@pytest.mark.parametrize("name", ["cuda", "tensorrt"])
def test_a_provider_that_is_here_is_asked_first(
    name: str, digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds, asked = list(session.PROVIDERS[name]), list[Any]()
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: kinds)
    monkeypatch.setattr(onnxruntime, "InferenceSession", Pretended(True, asked))
    assert apart(open_onnx(digits, name), tiny(), labels_for(tiny(), 3)) < 1e-3
    (told,) = asked
    assert list(told) == kinds
    assert told["CUDAExecutionProvider"] == {"use_tf32": "0"}  # float32 is float32
    monkeypatch.setattr(onnxruntime, "InferenceSession", Pretended(False, asked))
    with pytest.raises(ValueError, match=f"'{name}' is installed but does not start"):
        open_onnx(digits, name)
