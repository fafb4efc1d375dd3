"""`export`, and what takes its files: sample, evaluate; train and others refuse them in one line."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from diffusion_lessons.checkpoint import Checkpoint, save_checkpoint
from tests.command_line import error_line, last_json, run
from tests.tiny_checkpoint import tiny

SAMPLE = ("--n", 4, "--steps", 4, "--precision", "float32", "--device", "cpu", "--json")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A checkpoint of 8×8 digits."""
    save_checkpoint(tmp_path / "a.safetensors", tiny(10))
    return tmp_path / "a.safetensors"


def test_export_and_sample(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "new" / "a.onnx"
    run("export", model, "--out", file, "--json")
    (told,) = last_json(capsys)["files"]
    assert told["file"] == str(file)
    assert told["difference"] < 1e-5
    for name, how in ((file, ("--provider", "cpu")), (model, ())):
        run("sample", name, *how, *SAMPLE, "--out", tmp_path / f"{name.suffix[1:]}.npz")
    ours, theirs = (np.load(tmp_path / f"{kind}.npz") for kind in ("onnx", "safetensors"))
    assert np.array_equal(ours["y"], theirs["y"])
    assert np.abs(ours["x"].astype(int) - theirs["x"]).max() <= 1  # bytes, rounded
    run("sample", file, *SAMPLE, "--out", tmp_path / "walk.gif")


def test_its_words(model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing of what the tracer says, on either stream."""
    run("export", model, "--out", tmp_path / "a.onnx", "--half")
    out, err = capfd.readouterr()
    assert err == ""
    first, second = out.splitlines()
    assert first.startswith("agrees with the network to ")
    assert second.strip() == str(tmp_path / "a.onnx")


def test_a_text_model_is_a_folder(
    prompted: Checkpoint, parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    published = prompted.info["published"]
    for name in (parts, published):
        run("sample", name, "--prompt", "a red circle", *SAMPLE, "--out", tmp_path / f"{Path(name).name}.npz")
    ours, theirs = (np.load(tmp_path / f"{Path(name).name}.npz")["x"] for name in (parts, published))
    assert np.abs(ours.astype(int) - theirs).max() <= 1
    said = error_line(
        capsys, "sample", parts, "--prompt", "x", "--size", 64, *SAMPLE, "--out", tmp_path / "b.png"
    )
    assert "an ONNX file has the size it was exported with" in said


def test_evaluate_takes_it(digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(
        "train",
        "digits",
        "--steps",
        2,
        "--base-channels",
        8,
        "--head-dim",
        8,
        "--out",
        tmp_path,
        "--device",
        "cpu",
    )
    run("export", tmp_path, "--out", tmp_path / "a.onnx")
    results = []
    for name in (tmp_path / "a.onnx", tmp_path):
        run("evaluate", name, "--n", 70, "--steps", 2, "--precision", "float32", "--device", "cpu", "--json")
        results.append(last_json(capsys)["frechet"]["value"])
    assert results[0] == pytest.approx(results[1], rel=1e-3)


def test_what_a_user_can_mend_is_one_line(
    model: Path,
    digits: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "b.onnx"
    assert "expected a file" in error_line(capsys, "export", "no-such-model", "--out", out)
    assert "ends in .onnx" in error_line(capsys, "export", model, "--out", tmp_path / "b.bin")
    assert "name it model.onnx" in error_line(capsys, "export", model, "--out", "")
    assert "unknown network 'OnnxNetwork'" in error_line(capsys, "export", digits, "--out", out)
    assert "it has cpu" in error_line(capsys, "sample", digits, "--provider", "tensorrt", *SAMPLE)
    assert "export" in error_line(capsys, "sample", model, "--provider", "cpu", *SAMPLE)
    said = error_line(capsys, "train", "digits", "--from", digits, "--steps", 1, "--out", tmp_path / "run")
    assert "weights are fixed" in said
    assert not (tmp_path / "run" / "model.safetensors").exists()
    (tmp_path / "cut.onnx").write_bytes(digits.read_bytes()[:5000])
    assert "cut short" in error_line(capsys, "sample", tmp_path / "cut.onnx", *SAMPLE)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert "need the package onnxruntime" in error_line(capsys, "sample", digits, *SAMPLE)
    assert "need the package onnxruntime" in error_line(capsys, "export", model, "--out", out)
    assert not out.exists()


def test_files_are_opened_without_what_writes_them(digits: Path) -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['onnx', 'onnxscript']))\n"
        "from diffusion_lessons.zoo import open_model\n"
        f"print(open_model({str(digits)!r}).shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(1, 8, 8)"


def test_it_computes_with_as_many_threads_as_torch(digits: Path) -> None:
    from diffusion_lessons.zoo import open_model

    options = open_model(str(digits)).network.session.session.get_session_options()  # type: ignore[union-attr]
    assert options.intra_op_num_threads == torch.get_num_threads()
