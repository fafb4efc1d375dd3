"""The command line: what it writes, what it says, and that no traceback reaches a user."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from diffusion_lessons.__main__ import COMMANDS
from diffusion_lessons.checkpoint import read_tensors, save_checkpoint, write_tensors
from tests.command_line import last_json, refused, run
from tests.tiny_checkpoint import tiny

TINY = [
    "--base-channels",
    "8",
    "--channel-mults",
    "1",
    "2",
    "--attention-levels",
    "--head-dim",
    "8",
    "--batch",
    "8",
    "--precision",
    "float32",
]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    file = tmp_path / "tiny.safetensors"
    save_checkpoint(file, tiny())
    return file


def test_train_then_sample_then_evaluate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    run("train", "digits", "--steps", 3, *TINY, "--out", folder, "--device", "cpu", "--json")
    trained = last_json(capsys)
    assert trained["steps"] == 3
    assert json.loads((folder / "metrics.json").read_text())["steps"] == 3

    run("sample", folder, "--n", 3, "--steps", 2, "--out", tmp_path / "x.npz", "--device", "cpu", "--json")
    drawn = last_json(capsys)
    assert (drawn["n"], drawn["sampling_precision"]) == (3, "auto")
    with np.load(tmp_path / "x.npz") as arrays:
        assert arrays["x"].shape == (3, 16, 16)
        assert arrays["x"].dtype == np.uint8
        assert arrays["y"].tolist() == [0, 1, 2]

    run("evaluate", folder, "--n", 100, "--steps", 1, "--device", "cpu", "--json")
    measured = last_json(capsys)
    assert (measured["n"], measured["sampling_precision"]) == (100, "auto")
    for name in ("frechet", "kernel", "precision", "recall", "accuracy"):
        assert measured[name]["uncertainty"] >= 0


def test_captions_beside_pictures_are_learnt_and_prompted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    foxes = tmp_path / "foxes"
    foxes.mkdir()
    for i in range(12):
        Image.fromarray(np.full((9, 9, 3), 20 * i, np.uint8)).save(foxes / f"{i:02}.png")
        (foxes / f"{i:02}.txt").write_text(f"{'a dark' if i < 6 else 'a light'} fox")
    data, to = f"folder:{foxes}", ("--device", "cpu", "--json")
    how = ("--captions", "--size", 16, "--steps", 2, *TINY)
    run("train", data, *how, "--out", tmp_path / "a", *to)
    assert "with captions" in capsys.readouterr().err
    sampled = ("--steps", 2, "--out", tmp_path / "x.png", *to)
    run("sample", tmp_path / "a", "--prompt", "a dark fox", "--negative", "a light one", *sampled)
    assert last_json(capsys)["n"] == 1
    run("train", data, *how, "--out", tmp_path / "b", "--from", tmp_path / "a", *to)
    assert last_json(capsys)["from"] == str(tmp_path / "a")
    assert "takes no prompt" in refused(capsys, "sample", "mnist-unet", "--prompt", "a fox", *sampled)
    said = refused(capsys, "train", "digits", "--captions", "--steps", 1, "--out", tmp_path / "c")
    assert "--captions is for pictures of your own, folder:PATH" in said
    said = refused(capsys, "train", data, *how, "--out", tmp_path / "d", "--from", "mnist-unet")
    assert "a model without captions" in said
    (foxes / "metadata.csv").write_text("file_name\n")
    assert "has no column 'text'" in refused(capsys, "train", data, *how, "--out", tmp_path / "e")


def test_a_distilled_model_brings_its_own_steps_and_guidance(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, to = tmp_path / "student.safetensors", ("--out", tmp_path / "x.png", "--device", "cpu")
    save_checkpoint(file, replace(tiny(), info={"sampling": {"steps": 2, "guidance": 1.0}}))
    run("sample", file, "--n", 3, *to, "--json")
    said = last_json(capsys)
    assert (said["steps"], said["guidance"]) == (2, 1)
    run("sample", file, "--n", 3, "--steps", 4, *to, "--json")
    out, err = capsys.readouterr()
    assert json.loads(out.strip().splitlines()[-1])["steps"] == 4
    assert "warning: this model was distilled for 2 steps" in err
    assert "Traceback" not in err


def test_the_same_seed_gives_the_same_picture(checkpoint: Path, tmp_path: Path) -> None:
    for name, seed in (("a.png", 1), ("b.png", 1), ("c.png", 2)):
        run(
            "sample",
            checkpoint,
            "--n",
            4,
            "--steps",
            3,
            "--seed",
            seed,
            "--out",
            tmp_path / name,
            "--device",
            "cpu",
        )
    a, b, c = ((tmp_path / name).read_bytes() for name in ("a.png", "b.png", "c.png"))
    assert a == b
    assert a != c


def test_sample_writes_an_animation_and_one_class(checkpoint: Path, tmp_path: Path) -> None:
    run(
        "sample",
        checkpoint,
        "--n",
        2,
        "--steps",
        3,
        "--label",
        "b",
        "--out",
        tmp_path / "w.gif",
        "--device",
        "cpu",
    )
    assert (tmp_path / "w.gif").read_bytes().startswith(b"GIF8")
    run(
        "sample",
        checkpoint,
        "--n",
        2,
        "--steps",
        3,
        "--label",
        2,
        "--out",
        tmp_path / "w.npz",
        "--device",
        "cpu",
    )
    with np.load(tmp_path / "w.npz") as arrays:
        assert arrays["y"].tolist() == [2, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--steps", "0"], "from 1 to T = 100, got 0"),
        (["--steps", "500"], "from 1 to T = 100, got 500"),
        (["--n", "0"], "at least 1, got 0"),
        (["--label", "7"], "out of range: this model knows 0 to 2"),
        (["--guidance", "-1"], "a guidance scale is a number ≥ 0"),
        (["--guidance", "nan"], "a guidance scale is a number ≥ 0"),
        (["--sampler", "heunn"], "did you mean 'heun'?"),
        (["--device", "gpu"], "no device 'gpu' here"),
        (["--out", "x.jpeg"], "expected one of .png, .gif, .npz"),
        (["--device", "cuda:99"], "no device 'cuda:99' here: expected one of cpu"),
        (["--n", "1000000000000"], "out of memory: try a smaller"),
        (["--n", "99999999999999999999"], "a number that was given is too large"),
        (["--seed", "18446744073709551615"], "a seed is a whole number from 0 to 2^63 - 1"),
        (["--seed", "-1"], "a seed is a whole number from 0 to 2^63 - 1"),
        (["--out=~nosuchuser/x.png"], "nobody here is called ~nosuchuser"),
        (["--label", "~nosuchuser/x"], "nobody here is called ~nosuchuser"),
    ],
)
def test_bad_options_of_sample_are_one_line(
    checkpoint: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    said = refused(capsys, "sample", checkpoint, *options)
    assert said.startswith("error: ")
    assert message in said
    assert len(said.strip().splitlines()) == 1


def test_what_is_no_checkpoint_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], checkpoint: Path
) -> None:
    assert "no checkpoint 'nowhere'" in refused(capsys, "sample", "nowhere")
    assert "cannot read" in refused(capsys, "sample", tmp_path / "missing.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(checkpoint.read_bytes()[:1000])
    assert "cut short" in refused(capsys, "sample", tmp_path / "cut.safetensors")
    (tmp_path / "note.safetensors").write_text("hello")
    assert "no safetensors file" in refused(capsys, "evaluate", tmp_path / "note.safetensors")


def test_bad_training_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", tmp_path / "run"]
    assert "did you mean 'digits'?" in refused(capsys, "train", "digit", "--steps", 1, *out)
    assert "exactly one budget" in refused(capsys, "train", "digits", *out)
    assert "exactly one budget" in refused(capsys, "train", "digits", "--steps", 1, "--minutes", 1, *out)
    assert "did you mean 'cosine'?" in refused(
        capsys, "train", "digits", "--steps", 1, "--path", "cosin", *out
    )
    (tmp_path / "file").write_text("")
    said = refused(capsys, "train", "digits", "--steps", 1, "--out", tmp_path / "file")
    assert "cannot write into the folder" in said


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["train", "folder:~nosuchuser/x", "--steps", 1, "--out", "t"], "nobody here is called ~nosuchuser"),
        (["train", "digits", "--steps", 1, "--seed", 2**64 - 1, "--out", "t"], "a seed is a whole number"),
        (["train", "digits", "--steps", 1, "--from", "nowhere", "--out", "t"], "no checkpoint 'nowhere'"),
        (["experiment", "steps-by-eta", "--seed", -3], "a seed is a whole number"),
        (
            ["experiment", "steps-by-eta", "--out", "folder.json"],
            "folder.json is a folder: name a file in it",
        ),
        (
            ["experiment", "steps-by-eta", "--model", "bare.safetensors"],
            "does not say what it was trained on",
        ),
        (["sample", "bare.safetensors", "--out", "folder.png"], "folder.png is a folder: name a file in it"),
        (["sample", "folder.png"], "cannot read the checkpoint folder.png"),
        (["evaluate", "bare.safetensors", "--n", 70], "does not say what it was trained on"),
        (["evaluate", "torn.safetensors"], "does not hold a model this version can build"),
        (["release", "00", "--seed", 2**63], "a seed is a whole number"),
        (["grade", "folder.png", "--seed", -1], "a seed is a whole number"),
        (["check", "x.ipynb", "--seed", -1], "a seed is a whole number"),
    ],
)
def test_other_bad_input_is_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    args: list[object],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "folder.json").mkdir()
    save_checkpoint(tmp_path / "bare.safetensors", replace(tiny(), recipe={}))
    tensors, description = read_tensors(tmp_path / "bare.safetensors", "model")
    write_tensors(tmp_path / "torn.safetensors", tensors, {**description, "recipe": ["digits"]})
    said = refused(capsys, *args)
    assert said.startswith("error: ")
    assert message in said
    assert len(said.strip().splitlines()) == 1


def test_the_home_folder_is_meant_in_every_spelling(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    few = ["--n", 2, "--steps", 1, "--device", "cpu"]
    run("sample", "~/tiny.safetensors", *few, "--out=~/a.npz")
    run("sample", "~/tiny.safetensors", *few, "--out", "~/b/c.png")
    folder_of(tmp_path, classes=2, each=10)
    run("train", "folder:~/pictures", "--size", 16, "--steps", 1, *TINY, "--out=~/run", "--device", "cpu")
    assert (
        "pictures of 1x16x16; classes: 2 (class 0, class 1); 2 more are for testing"
        in capsys.readouterr().err
    )
    assert {"a.npz", "b", "run"} <= {file.name for file in tmp_path.iterdir()}
    assert not (tmp_path / "~").exists()


def test_pictures_without_classes_are_learnt_without_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flat = folder_of(tmp_path, classes=1, each=30) / "class 0"
    to = ["--out", tmp_path / "run", "--device", "cpu"]
    run("train", f"folder:{flat}", "--size", 16, "--steps", 2, *TINY, *to)
    assert (
        "27 pictures of 1x16x16; no classes, so no labels; 3 more are for testing" in capsys.readouterr().err
    )
    run("sample", tmp_path / "run", "--n", 2, "--steps", 1, "--out", tmp_path / "x.png", "--device", "cpu")
    assert "telling classes apart" in refused(capsys, "evaluate", tmp_path / "run", "--n", 70)


def test_a_run_goes_on_where_its_pictures_have_moved_and_others_start_from_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = folder_of(tmp_path, classes=2, each=10)
    how = ["--size", 16, *TINY, "--device", "cpu", "--json"]
    run("train", f"folder:{pictures}", "--steps", 2, *how, "--out", tmp_path / "a")
    pictures = pictures.rename(tmp_path / "moved")
    run("train", f"folder:{pictures}", "--steps", 4, *how, "--out", tmp_path / "a", "--resume")
    assert last_json(capsys)["steps"] == 4
    run("train", f"folder:{pictures}", "--steps", 1, *how, "--out", tmp_path / "b", "--from", tmp_path / "a")
    assert last_json(capsys)["from"] == str(tmp_path / "a")
    said = refused(
        capsys, "train", "digits", "--steps", 1, *how, "--out", tmp_path / "c", "--from", tmp_path / "a"
    )
    assert "num_classes is 2 there and 10 here" in said
    (pictures / "class 0/0.png").unlink()
    said = refused(
        capsys, "train", f"folder:{pictures}", "--steps", 9, *how, "--out", tmp_path / "a", "--resume"
    )
    assert "trained on other pictures than these" in said
    assert "go on with the same pictures" in said


def test_unknown_commands_and_options_exit_with_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert "trian" in refused(capsys, "trian")
    assert "--stpes" in refused(capsys, "sample", "x", "--stpes", 3)


def test_zoo_lists_the_bundled_weights(capsys: pytest.CaptureFixture[str]) -> None:
    run("zoo", "--json")
    assert {"digits-classifier", "mnist-classifier"} <= last_json(capsys).keys()
    run("zoo", "mnist-classifier")
    assert json.loads(capsys.readouterr().out)["metrics"]
    assert "did you mean 'mnist-classifier'?" in refused(capsys, "zoo", "mnist-clasifier")


def test_the_module_runs_as_a_program() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "diffusion_lessons", "--help"], capture_output=True, text=True, check=True
    )
    assert all(command in shown.stdout for command in COMMANDS)


# Measuring ------------------------------------------------------------------------------------------


@pytest.fixture
def never_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    def generate(*args: object, **how: object) -> None:
        raise AssertionError("pictures were drawn before it was known that they can be measured")

    monkeypatch.setattr("diffusion_lessons.generate.generate", generate)


def folder_of(tmp_path: Path, classes: int, each: int) -> Path:
    """Pictures of 16×16: stripes as wide as the class says, with noise."""

    generator = np.random.default_rng(0)
    for label in range(classes):
        (tmp_path / "pictures" / f"class {label}").mkdir(parents=True)
        stripes = (np.arange(16) // (label + 1) % 2 * 180)[None].repeat(16, 0)
        for number in range(each):
            picture = (stripes + generator.integers(0, 60, (16, 16))).astype(np.uint8)
            Image.fromarray(picture).save(tmp_path / "pictures" / f"class {label}" / f"{number}.png")
    return tmp_path / "pictures"


@pytest.mark.usefixtures("never_sampled")
def test_what_cannot_be_measured_is_said_before_a_picture_is_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def saved(recipe: dict[str, Any], name: str = "m") -> Path:
        save_checkpoint(tmp_path / f"{name}.safetensors", replace(tiny(None), recipe=recipe))
        return tmp_path / f"{name}.safetensors"

    monkeypatch.setenv("DIFFUSION_LESSONS_DATA", str(tmp_path / "data"))
    digits, bare = saved({"data": "digits"}), saved({}, "bare")
    assert "name the data set with --data" in refused(capsys, "evaluate", bare)
    assert "did you mean 'digits'" in refused(capsys, "evaluate", bare, "--data", "digts")
    few = folder_of(tmp_path, classes=2, each=20)
    said = refused(capsys, "evaluate", saved({"data": f"folder:{few}"}, "few"))
    assert "cannot be measured: its train split has 36 pictures, and a yardstick needs at least 66" in said
    one = folder_of(tmp_path / "one", classes=1, each=120)
    assert "split has 1 of them" in refused(capsys, "evaluate", saved({"data": f"folder:{one}"}, "one"))
    assert "there is no folder or zip" in refused(capsys, "evaluate", digits, "--data", "folder:nowhere")
    assert "holds a model, not a classifier" in refused(capsys, "evaluate", digits, "--yardstick", digits)
    labelled = tmp_path / "labelled.safetensors"
    save_checkpoint(labelled, tiny())
    said = refused(capsys, "evaluate", labelled, "--data", f"folder:{few}")
    assert "the model knows the classes a, b, c, and folder:" in said
    assert "has class 0, class 1" in said
    said = refused(capsys, "evaluate", digits, "--yardstick", "mnist-classifier")
    assert "is of pictures (1, 32, 32) in 10 classes, and digits has (1, 8, 8)" in said


def test_a_model_of_ones_own_pictures_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The yardstick is trained once on the pictures' labels, kept, and its accuracy told."""
    monkeypatch.setenv("DIFFUSION_LESSONS_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("diffusion_lessons.makers.yardsticks.STEPS", 60)
    data, run_folder = f"folder:{folder_of(tmp_path, 2, 400)}", tmp_path / "run"
    options = ["--steps", 2, "--size", 16, "--out", run_folder, "--device", "cpu"]
    run("train", data, *TINY, *options)
    capsys.readouterr()
    for kept in (False, True):
        run("evaluate", run_folder, "--n", 70, "--steps", 1, "--device", "cpu", "--json")
        out, err = capsys.readouterr()
        measured = json.loads(out.strip().splitlines()[-1])
        assert measured["frechet"]["value"] > 0
        assert measured["features"] == data
        assert ("training a classifier on its labels" in err) is not kept
        recognised = float(err.split("the yardstick recognises ")[1].split("%")[0])
        assert recognised > 90
