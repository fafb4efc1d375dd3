"""What is written agrees with its network at any number of rows, or is not written."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from diffusion_lessons import zoo
from diffusion_lessons.checkpoint import Checkpoint
from diffusion_lessons.networks import DiT, DiTConfig, Patched, Prompted, UNet
from diffusion_lessons.onnx_files import writing
from diffusion_lessons.onnx_files.card import KEY
from diffusion_lessons.onnx_files.parts import Part, parts_of
from diffusion_lessons.onnx_files.writing import write_onnx
from diffusion_lessons.paths import StraightPath
from diffusion_lessons.targets import FLOW
from tests.tiny_checkpoint import tiny

SHELF = ["digits-classifier", "mnist-noisy-classifier", "mnist-unet", "scenes-clip", "scenes-text"]


def card_of(file: Path) -> dict[str, Any]:
    (entry,) = onnx.load(file).metadata_props
    assert entry.key == KEY
    return json.loads(entry.value)["card"]


def gap(part: Part, file: Path, rows: int) -> float:
    """The largest difference at so many rows, by ONNX Runtime alone."""
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    inputs = part.draw(rows, torch.Generator().manual_seed(100 + rows))
    said = session.run(list(part.outputs), {name: x.numpy() for name, x in inputs.items()})
    pairs = zip(part.answers(inputs), said, strict=True)
    gaps = [(ours - torch.from_numpy(theirs)).abs().max() / ours.abs().max() for ours, theirs in pairs]
    return float(torch.stack(gaps).max())


def agrees(model: Any, out: Path, half: bool = False, most: float = 1e-5) -> list[dict[str, Any]]:
    told = write_onnx(model, out, half)
    _, parts = parts_of(model)
    assert [each["part"] for each in told] == [part.name for part in parts]
    for part, each in zip(parts, told, strict=True):
        assert each["difference"] <= most
        for rows in (1, 2, 5, 11):  # none of those it was traced or compared with, but the first
            assert gap(part, Path(each["file"]), rows) <= most
    return told


@pytest.mark.slow
@pytest.mark.parametrize("name", SHELF)
def test_each_kind_of_network_on_the_shelf(name: str, tmp_path: Path) -> None:
    agrees(zoo.load(name), tmp_path / "model.onnx")


def test_the_shelf_has_no_other_kind() -> None:
    """Those that are left out above are of the same classes."""

    def kinds(names: list[str]) -> set[str]:
        return {type(part.network).__name__ for name in names for part in parts_of(zoo.load(name))[1]}

    assert kinds([name for name in zoo.names() if name != "scenes-video"]) == kinds(SHELF)


def test_a_model_of_clips_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a model of clips cannot be written as ONNX"):
        write_onnx(zoo.load("scenes-video"), tmp_path / "clips.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_transformer_behind_patches_on_a_straight_path(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Patched(DiT(DiTConfig(4, 4, width=16, depth=1, head_dim=8)), 2)
    for weight in network.parameters():
        nn.init.normal_(weight, std=0.1)
    agrees(Checkpoint(network, StraightPath(), FLOW, (), (1, 8, 8)), tmp_path / "dit.onnx")


@pytest.mark.parametrize("classes", [3, None])
def test_a_network_with_labels_and_one_without(classes: int | None, tmp_path: Path) -> None:
    (told,) = agrees(tiny(classes), tmp_path / "a.onnx")
    assert ("label" in told["inputs"]) == (classes is not None)
    assert told["inputs"]["x"] == ["float32", [1, 8, 8]]


def test_one_vector_for_a_whole_text(prompted: Checkpoint, tmp_path: Path) -> None:
    network = prompted.network
    assert isinstance(network, Prompted)
    pooled = Prompted(replace(network.config, pooled=True))
    pooled.load_state_dict(network.state_dict())
    told = agrees(replace(prompted, network=pooled.eval(), vae=None), tmp_path / "parts")
    assert told[0]["inputs"]["context"][1][0] == 1


def test_weights_in_half_precision_that_were_so_before_change_nothing(tmp_path: Path) -> None:
    model = tiny()
    for weight in model.network.parameters():
        weight.data = weight.data.half().float()
    (whole,) = agrees(model, tmp_path / "whole.onnx")
    (half,) = agrees(model, tmp_path / "half.onnx", half=True)
    assert half["weights"] == "float16"
    assert half["bytes"] < 0.75 * whole["bytes"]


def test_weights_in_half_precision_keep_to_their_tolerance(tmp_path: Path) -> None:
    (told,) = agrees(tiny(), tmp_path / "half.onnx", half=True, most=2e-3)
    assert told["difference"] > 1e-5  # they were rounded


def test_weights_beyond_half_precision_are_refused(tmp_path: Path) -> None:
    model = tiny()
    next(model.network.parameters()).data.flatten()[0] = 1e5
    with pytest.raises(ValueError, match=r"differs from its network by .*leave out --half"):
        write_onnx(model, tmp_path / "a.onnx", half=True)
    assert list(tmp_path.iterdir()) == []


def test_the_card_says_what_the_file_is(digits: Path) -> None:
    card, model = card_of(digits), tiny()
    assert card["kind"] == "model"
    assert card["outputs"] == ["output"]
    assert card["model"]["classes"] == ["a", "b", "c"]
    assert card["model"]["null_label"] == 3
    assert card["model"]["recipe"] == {"data": "digits"}
    assert card["model"]["betas"] == model.path.betas.tolist()  # type: ignore[attr-defined]
    onnx.checker.check_model(onnx.load(digits), full_check=True)


def test_nothing_in_it_tells_of_the_machine_that_wrote_it(digits: Path) -> None:
    data = digits.read_bytes()
    assert b".py" not in data
    assert str(Path.cwd()).encode() not in data


def test_the_same_model_makes_the_same_bytes_and_stays_as_it_is(digits: Path, tmp_path: Path) -> None:
    model = tiny()
    model.network.train()
    before = {name: weight.clone() for name, weight in model.network.state_dict().items()}
    write_onnx(model, tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == digits.read_bytes()
    assert model.network.training
    assert all(torch.equal(before[name], weight) for name, weight in model.network.state_dict().items())


# What cannot be written ----------------------------------------------------------------------------


def test_a_network_that_knows_one_number_of_rows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plain = UNet.forward
    monkeypatch.setattr(
        UNet, "forward", lambda self, x, *told: plain(self, x.reshape(len(x), 1, 8, 8), *told)
    )
    with pytest.raises(ValueError, match=r"UNet.*x\.shape\[0\]"):
        write_onnx(tiny(), tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_onnx_cannot_express(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def choosing(self: UNet, x: Tensor, time: Tensor, condition: Any = None) -> Tensor:
        return x if x.sum() > 0 else -x

    monkeypatch.setattr(UNet, "forward", choosing)
    with pytest.raises(ValueError, match="UNet cannot be written as ONNX"):
        write_onnx(tiny(), tmp_path / "a.onnx")


@pytest.mark.parametrize(("bias", "why"), [(0.01, "1.0e-02, over"), (torch.nan, "nan, over")])
def test_a_graph_that_computes_something_else(
    bias: float, why: str, graph: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = tiny()
    model.network.conv_out.bias.data += bias  # type: ignore[union-attr, operator]
    monkeypatch.setattr(writing, "graph_of", lambda part, half: graph)
    with pytest.raises(ValueError, match=f"differs from its network by {why}"):
        write_onnx(model, tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_network_of_ones_own_and_what_is_no_model(tmp_path: Path) -> None:
    class Mine(UNet):
        pass

    with pytest.raises(ValueError, match="unknown network 'Mine'"):
        write_onnx(replace(tiny(), network=Mine(tiny().network.config)), tmp_path / "a.onnx")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no model that can be written as ONNX: str"):
        write_onnx("mnist-unet", tmp_path / "a.onnx")


def test_more_than_a_file_can_hold(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(writing, "LARGEST", 1000)
    with pytest.raises(ValueError, match="an ONNX file holds 2 GB at most"):
        write_onnx(tiny(), tmp_path / "a.onnx")


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_told(package: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(ValueError, match=rf"need the package {package} .*pip install .*\[onnx\]"):
        write_onnx(tiny(), tmp_path / "a.onnx")


# Where it cannot be written ------------------------------------------------------------------------


def test_places_that_cannot_be_written(prompted: Checkpoint, tmp_path: Path) -> None:
    """All said before anything is traced."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder.onnx").mkdir()
    for model, place, why in (
        (tiny(), tmp_path / "a.png", r"ends in \.onnx"),
        (tiny(), tmp_path / "folder.onnx", "is a folder"),
        (tiny(), tmp_path / "file" / "a.onnx", "cannot write into the folder"),
        (prompted, tmp_path / "file", "has 4 parts and .* is a file"),
        (prompted, tmp_path / "file" / "parts", "cannot write into the folder"),
    ):
        with pytest.raises(ValueError, match=why):
            write_onnx(model, place)
    assert (tmp_path / "file").read_text() == "mine"


def test_stopped_in_the_middle_the_old_file_stays(
    digits: Path, graph: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (file := tmp_path / "a.onnx").write_bytes(digits.read_bytes())

    def stop(self: Path, data: bytes) -> int:
        with self.open("wb") as handle:
            handle.write(data[:100])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", stop)
    monkeypatch.setattr(writing, "graph_of", lambda part, half: graph)
    with pytest.raises(KeyboardInterrupt):
        write_onnx(replace(tiny(), classes=("d", "e", "f")), file)
    monkeypatch.undo()
    assert [each.name for each in tmp_path.iterdir()] == ["a.onnx"]
    assert file.read_bytes() == digits.read_bytes()
