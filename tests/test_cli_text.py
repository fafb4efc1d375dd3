"""Text models on the command line: trained, sampled, measured; and what is said where that cannot be."""

import json
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from diffusion_lessons import zoo
from diffusion_lessons.checkpoint import load_checkpoint, save_checkpoint
from diffusion_lessons.makers.prompting import asked
from diffusion_lessons.makers.scenes import text
from diffusion_lessons.metrics.captions_met import Met
from diffusion_lessons.training.loop import Trainer
from diffusion_lessons.training.text_to_image import WrongCaptions, widened
from tests.command_line import error_line, last_json, run
from tests.tiny_checkpoint import tiny

TO = ("--device", "cpu", "--json")
SMALL = ("--base-channels", 16, "--head-dim", 16, "--batch", 4, "--precision", "float32")


def few(patch: pytest.MonkeyPatch) -> None:
    """Scenes enough for a test, to learn from and to be wrong about."""
    patch.setattr(text.live_task, "__defaults__", (None, None, None, 8))
    patch.setattr(text, "WrongCaptions", partial(WrongCaptions, rows=4))


@pytest.fixture(autouse=True)
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    few(monkeypatch)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two steps."""
    folder = tmp_path_factory.mktemp("runs") / "a"
    with pytest.MonkeyPatch.context() as patch:
        few(patch)
        run("train", "scenes", "--steps", 2, *SMALL, "--out", folder, "--device", "cpu")
    return folder


# Training -------------------------------------------------------------------------------------------


def test_scenes_are_learnt_as_the_bundled_model_was(model: Path) -> None:
    made = load_checkpoint(model / "model.safetensors")
    usual = replace(text.RECIPE, steps=2, base_channels=16, head_dim=16, batch=4, precision="float32")
    assert made.recipe == json.loads(json.dumps(usual.to_json()))
    assert made.vae is not None and made.vae.config == zoo.load("scenes-vae").config
    assert made.tokenizer is not None
    assert made.shape == (4, 16, 16)
    assert (model / "log.jsonl").exists()  # what wrong captions cost


def test_training_goes_on_from_the_bundled_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    how = ("--steps", 1, "--lr", 1e-9, "--batch", 2, "--ema-decay", 0, "--precision", "float32")
    run("train", "scenes", *how, "--from", "scenes-text", "--captions", "--out", tmp_path / "b", *TO)
    assert last_json(capsys)["from"] == "scenes-text"
    ours = load_checkpoint(tmp_path / "b" / "model.safetensors").network.state_dict()
    theirs = zoo.load("scenes-text").network.state_dict()
    assert all(torch.allclose(weight, theirs[name], atol=1e-6) for name, weight in ours.items())


def test_a_killed_run_of_scenes_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    how = ("train", "scenes", "--steps", 3, *SMALL, "--checkpoint-every", 0)
    run(*how, "--out", tmp_path / "whole", *TO)
    step = Trainer.step

    def stop(self: Trainer, done: float) -> None:
        if self.state.step == 2:
            raise KeyboardInterrupt
        step(self, done)

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(Trainer, "step", stop)
        run(*how, "--out", tmp_path / "killed", *TO)
    run(*how, "--out", tmp_path / "killed", "--resume", *TO)
    assert last_json(capsys)["steps"] == 3
    a, b = (load_checkpoint(tmp_path / each / "model.safetensors") for each in ("whole", "killed"))
    weights = b.network.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in a.network.state_dict().items())


def test_what_cannot_be_learnt_is_said_before_anything_is_rendered(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "rows", None)
    new = ("--steps", 1, "--out", tmp_path / "c")
    assert "did you mean 'scenes'?" in error_line(capsys, "train", "scene", *new)
    assert "name the data right behind `train`" in error_line(
        capsys, "train", "--steps", 1, "scenes", *new[2:]
    )
    assert "name the data right behind `train`" in error_line(
        capsys, "train", "digits", "--data", "mnist", *new
    )
    assert "learnt at 64 pixels" in error_line(capsys, "train", "scenes", "--size", 32, *new)
    said = error_line(capsys, "train", "scenes", "--from", "mnist-unet", *new)
    assert "a model without captions" in said
    said = error_line(capsys, "train", "scenes", "--from", model, *new)
    assert "widths is (16, 32) there and (48, 96) here" in said
    assert "already holds a run" in error_line(capsys, "train", "scenes", "--steps", 1, "--out", model)
    painter, made = tmp_path / "painter.safetensors", load_checkpoint(model / "model.safetensors")
    save_checkpoint(painter, replace(made, network=widened(made.network, known=5)))  # type: ignore[arg-type]
    assert "that paints over a mask" in error_line(capsys, "train", "scenes", "--from", painter, *new)


# Sampling -------------------------------------------------------------------------------------------


def test_several_prompts_are_rows_of_a_grid(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = ("--prompt", "a red circle", "--prompt", "a blue square")
    how = ("--steps", 1, *prompts, "--n", 3, *TO)
    run("sample", model, *how, "--out", tmp_path / "x.png")
    said = last_json(capsys)
    assert (said["n"], said["prompt"]) == (6, ["a red circle", "a blue square"])
    assert Image.open(tmp_path / "x.png").size == (3 * 66 - 2, 2 * 66 - 2)
    run("sample", model, *how, "--out", tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as arrays:
        assert arrays["x"].shape == (6, 64, 64, 3)
    run("sample", model, *how, "--out", tmp_path / "x.gif")
    assert Image.open(tmp_path / "x.gif").size == (3 * 66 - 2, 2 * 66 - 2)


@pytest.mark.parametrize(
    ("prompt", "warning"),
    [
        ("a red circle", ""),
        ("", ""),
        ("a purple fox", "captions of scenes don't have the word 'fox'"),
        ("\U0001f98a", "no caption of a scene"),
        ("a red circle and " * 20 + "a blue square", "1 of 1 texts are longer than 24 tokens and were cut"),
    ],
)
def test_an_odd_prompt_is_drawn_with_a_warning(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str], prompt: str, warning: str
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        run("sample", model, "--prompt", prompt, "--steps", 1, "--out", tmp_path / "x.png", *TO)
    out, err = capsys.readouterr()
    assert json.loads(out.strip().splitlines()[-1])["n"] == 1
    assert warning in err
    assert warning or "warning" not in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--prompt", "a", "--label", 1], "told what to draw by --prompt, not by --label"),
        (["--label", 1], "told what to draw by --prompt, not by --label"),
        (["--prompt", "a", "--n", 0], "at least 1, got 0"),
        (["--prompt", "a", "--size", 66], "a multiple of 4; got 66"),
        (["--prompt", "a", "--size", -8], "a multiple of 4; got -8"),
        (["--prompt", "a", "--guidance", -1], "a guidance scale is a number ≥ 0"),
        (["--prompt", "a", "--guidance", "nan"], "a guidance scale is a number ≥ 0"),
        (["--prompt", "a", "--guidance", 1, "--negative", "b"], "it needs --guidance above 1"),
        (["--prompt", "a", "--strength", 0.5], "give it with --init"),
    ],
)
def test_a_bad_wish_is_one_line(
    model: Path, capsys: pytest.CaptureFixture[str], options: list[object], message: str
) -> None:
    assert message in error_line(capsys, "sample", model, *options)


def test_a_model_without_captions_takes_no_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "tiny.safetensors"
    save_checkpoint(file, tiny())
    for options in (["--prompt", "a"], ["--prompt", "a", "--label", "b"], ["--negative", "a"]):
        assert "it takes no prompt" in error_line(capsys, "sample", file, *options)


def test_a_model_that_paints_over_a_mask_asks_for_one(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made, file = load_checkpoint(model / "model.safetensors"), tmp_path / "painter.safetensors"
    save_checkpoint(file, replace(made, network=widened(made.network, known=5)))  # type: ignore[arg-type]
    picture = tmp_path / "x.png"
    Image.new("RGB", (64, 64)).save(picture)
    asked_to = ("sample", file, "--prompt", "a red circle", "--steps", 1)
    for command in (asked_to, (*asked_to, "--init", picture), ("evaluate", file, "--n", 4)):
        assert "give a picture and a mask (`sample` with --init and --mask" in error_line(capsys, *command)


def test_a_mask_lies_over_its_picture(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both are cut to squares: a mask of other proportions would paint at another place."""
    picture, wide, small = tmp_path / "x.jpg", tmp_path / "wide.png", tmp_path / "small.png"
    turned = Image.new("RGB", (200, 100), "white")
    exif = turned.getexif()
    exif[0x0112] = 6  # to be shown upright, 100 wide and 200 high
    turned.save(picture, exif=exif)
    Image.new("L", (200, 100)).save(wide)
    Image.new("L", (50, 100)).save(small)
    asked_to = ("sample", model, "--prompt", "a red circle", "--steps", 1, "--init", picture, "--mask")
    said = error_line(capsys, *asked_to, wide)
    assert "wide.png has 200×100 pixels and the picture" in said
    assert "100×200: a mask lies over its picture" in said
    assert "small.png is white nowhere" in error_line(capsys, *asked_to, small)
    Image.new("L", (50, 100), 255).save(small)
    run(*asked_to, small, "--out", tmp_path / "out.png")


# Measuring ------------------------------------------------------------------------------------------


def test_a_model_of_scenes_is_measured_by_its_captions(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def perfect(model: object, condition: dict[str, Any], **how: object) -> torch.Tensor:
        (split,) = (each for each in ("test", "held-out") if asks(condition) == asked(4, each)[1])
        x = asked(4, split)[0].render(64).float() / 127.5 - 1
        return x if split == "test" else -x  # a model that fails where training showed nothing

    def asks(condition: dict[str, Any]) -> list[str]:
        tokenizer = load_checkpoint(model / "model.safetensors").tokenizer
        assert tokenizer is not None
        return [tokenizer.decode(row) for row in condition["tokens"].tolist()]

    monkeypatch.setattr("diffusion_lessons.makers.prompting.generate", perfect)
    run("evaluate", model, "--n", 8, *TO)
    said = last_json(capsys)
    assert (said["n"], said["data"], said["towers"], said["guidance"]) == (8, "scenes", "scenes-clip", 2)
    for split, share in (("test", 1), ("held-out", 0)):
        told = said[split]
        assert set(told) == {"n", *Met.__dataclass_fields__, "everything", "clip_score", "real_clip_score"}
        assert told["everything"]["value"] == share
        low, high = told["everything"]["interval"]
        assert low <= share <= high and high - low > 0.3  # of four pictures
        real, drawn = told["real_clip_score"], told["clip_score"]
        assert (real == drawn) is (share == 1)
        assert 0 < real["value"] <= 2.5
    run("evaluate", model, "--n", 8, "--device", "cpu")
    shown = capsys.readouterr().out
    assert "test (n = 4)" in shown
    assert "100.0% (51.0% to 100.0%)" in shown


def test_any_text_model_can_be_asked_for_scenes_and_no_other(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    foxes = tmp_path / "foxes.safetensors"
    made = load_checkpoint(model / "model.safetensors")
    save_checkpoint(foxes, replace(made, recipe={"data": "folder:nowhere"}))
    run("evaluate", foxes, "--data", "scenes", "--n", 4, "--steps", 1, *TO)
    assert last_json(capsys)["test"]["n"] == 2
    digits = tmp_path / "digits.safetensors"
    save_checkpoint(digits, tiny())
    assert "it takes no prompt" in error_line(capsys, "evaluate", digits, "--data", "scenes", "--n", 4)
    assert "leave out --yardstick" in error_line(capsys, "evaluate", model, "--yardstick", "mnist-classifier")
    assert "n = 1 is too few" in error_line(capsys, "evaluate", model, "--n", 1)


def test_what_can_be_measured_of_captions_of_ones_own_is_said(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIFFUSION_LESSONS_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("diffusion_lessons.makers.yardsticks.STEPS", 5)
    generator, folder = np.random.default_rng(0), tmp_path / "pictures"
    for kind, colour in (("red", (200, 0, 0)), ("blue", (0, 0, 200))):
        (folder / kind).mkdir(parents=True)
        for i in range(400):
            pixels = generator.integers(0, 56, (16, 16, 3)) + np.array(colour)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / kind / f"{i}.png")
            (folder / kind / f"{i}.txt").write_text(f"a {kind} square")
    data = f"folder:{folder}"
    how = ("--size", 16, "--captions", "--steps", 2, *SMALL, "--device", "cpu")
    run("train", data, *how, "--out", tmp_path / "a")
    capsys.readouterr()
    run("evaluate", tmp_path / "a", "--n", 70, "--steps", 1, *TO)
    out, err = capsys.readouterr()
    told = json.loads(out.strip().splitlines()[-1])
    assert told["frechet"]["value"] > 0
    assert told["accuracy"] is None
    assert "not whether captions are met" in err
    said = error_line(capsys, "evaluate", tmp_path / "a", "--data", f"{data}/red", "--n", 70)
    assert "telling classes apart" in said
    assert "can be measured of scenes alone, with --data scenes" in said
    assert "and not on digits" in error_line(capsys, "evaluate", tmp_path / "a", "--data", "digits")
