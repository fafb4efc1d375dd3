"""Clips drawn frame by frame, written to files, on the command line, and what is refused."""

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from diffusion_lessons import clips as room
from diffusion_lessons import filming
from diffusion_lessons.checkpoint import load_checkpoint, save_checkpoint
from diffusion_lessons.clips import film, save_clips
from diffusion_lessons.data.clips import Clips
from diffusion_lessons.generate import generate
from diffusion_lessons.training.text_to_image import parts_to_learn
from tests.command_line import error_line, last_json, run
from tests.tiny_checkpoint import tiny
from tests.tiny_video import WINDOW, tiny_video

TEXTS = ["a red circle moving left", "a small blue square moving up"]
HOW = {"steps": 2, "device": "cpu", "precision": "float32"}
MODEL = tiny_video()
TOLD = MODEL.prompts(TEXTS)


def test_the_first_frame_is_the_picture_of_what_is_there() -> None:
    clips = film(MODEL, TOLD, 3, **HOW)
    assert clips.shape == (2, 3, 3, 32, 32) and clips.device.type == "cpu"
    picture = {name: TOLD[name] for name in ("tokens", "mask")}
    alone = generate(replace(MODEL, shape=MODEL.shape[1:]), picture, **HOW)
    torch.testing.assert_close(clips[:, 0], alone, atol=1e-5, rtol=0)
    other = film(MODEL, MODEL.prompts(["a red circle moving right", TEXTS[1]]), 3, **HOW)
    torch.testing.assert_close(other[:, 0], clips[:, 0], atol=1e-5, rtol=0)
    assert float((other[0, 1] - clips[0, 1]).abs().max()) > 1e-4
    torch.testing.assert_close(other[1], clips[1], atol=1e-5, rtol=0)


def test_a_clip_depends_on_its_seed_and_its_place_alone() -> None:
    both = film(MODEL, TOLD, 4, seed=5, **HOW)
    torch.testing.assert_close(film(MODEL, TOLD, 4, seed=5, batch=1, **HOW), both, atol=1e-4, rtol=0)
    assert not torch.allclose(film(MODEL, TOLD, 4, seed=6, **HOW), both, atol=1e-2)
    # a longer clip begins as the shorter one
    torch.testing.assert_close(film(MODEL, TOLD, 6, seed=5, **HOW)[:, :4], both, atol=1e-4, rtol=0)


def test_a_frame_sees_as_many_before_it_as_the_window_has(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def watched(model, condition, **how):
        before = condition.get("before")
        asked.append((model.shape[0] if before is not None else 0, 0 if before is None else before.shape[1]))
        return generate(model, condition, **how)

    monkeypatch.setattr(room, "generate", watched)
    film(MODEL, TOLD, 5, **HOW)
    assert asked == [(0, 0), (1, 1), (1, 2), (1, 2), (1, 2)]
    asked.clear()
    film(MODEL, TOLD, 4, together=2, **HOW)
    assert asked == [(0, 0), (2, 1), (1, 2)]


def test_a_clip_goes_on_from_a_picture() -> None:
    first = torch.rand(2, 3, 32, 32) * 2 - 1
    clips = film(MODEL, TOLD, 3, first=first, **HOW)
    assert MODEL.vae is not None
    with torch.no_grad():
        seen = MODEL.vae.decode(MODEL.vae.encode(first))
    torch.testing.assert_close(clips[:, 0], seen, atol=1e-5, rtol=0)
    one = film(MODEL, TOLD, 3, first=first[:1], **HOW)
    torch.testing.assert_close(one[0], clips[0], atol=1e-4, rtol=0)
    assert film(MODEL, TOLD, 1, first=first, **HOW).shape == (2, 1, 3, 32, 32)


def test_a_model_of_clips_is_what_it_was_when_it_comes_from_a_file(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a.safetensors", MODEL)
    again = load_checkpoint(tmp_path / "a.safetensors")
    torch.testing.assert_close(film(again, TOLD, 3, **HOW), film(MODEL, TOLD, 3, **HOW), atol=1e-5, rtol=0)
    assert {name: v.tolist() for name, v in again.prompts(TEXTS).items()} == {
        n: v.tolist() for n, v in TOLD.items()
    }


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match="draws pictures and no clips"):
        film(tiny(), torch.zeros(1, dtype=torch.int64))
    with pytest.raises(ValueError, match="at least 1 frame"):
        film(MODEL, TOLD, 0, **HOW)
    for together in (0, WINDOW):
        with pytest.raises(ValueError, match="1 to 2 frames at a time"):
            film(MODEL, TOLD, 3, together=together, **HOW)
    with pytest.raises(ValueError, match="first frames of 2 clips"):
        film(MODEL, TOLD, 3, first=torch.zeros(3, 3, 32, 32), **HOW)
    for first, said in (
        (torch.zeros(2, 3, 32, 32, dtype=torch.uint8), "got torch.uint8"),
        (torch.full((2, 3, 32, 32), torch.nan), "got NaN or infinity"),
    ):
        with pytest.raises(ValueError, match=rf"floats in \[−1, 1\], as `data.to_float` makes them; {said}"):
            film(MODEL, TOLD, 3, first=first, **HOW)
    with pytest.raises(ValueError, match=r"and whole ones; got 2\.5"):
        film(MODEL, TOLD, 2.5, **HOW)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a seed is a whole number"):
        film(MODEL, TOLD, 3, seed=-1, first=torch.zeros(2, 3, 32, 32), **HOW)
    with pytest.raises(ValueError, match="number of samples"):
        film(MODEL, {}, 3, **HOW)
    with pytest.raises(ValueError, match="of a model of clips"):
        parts_to_learn(MODEL)


# Files ---------------------------------------------------------------------------------------------


def test_clips_are_written_as_an_animation_a_strip_and_arrays(tmp_path: Path) -> None:
    clips = torch.linspace(-1, 1, 2 * 3 * 3 * 32 * 32).view(2, 3, 3, 32, 32)
    save_clips(clips, tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.n_frames == 3 and gif.size == (2 * 68 - 4, 64)
    save_clips(clips, tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").size == (3 * 68 - 4, 2 * 68 - 4)  # a row for each clip
    save_clips(clips, tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as arrays:
        assert arrays["x"].shape == (2, 3, 32, 32, 3) and arrays["x"].dtype == np.uint8
        assert arrays["x"][0, 0, 0, 0, 0] == 0 and arrays["x"][1, 2, 31, 31, 2] == 255
    with pytest.raises(ValueError, match=r"kind of file for clips '.jpg'"):
        save_clips(clips, tmp_path / "a.jpg")


# Command line --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("model") / "video.safetensors"
    save_checkpoint(file, MODEL)
    return file


FAST = ("--steps", 1, "--device", "cpu", "--json")


def test_a_prompt_becomes_a_gif(tmp_path: Path, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts = [word for text in TEXTS for word in ("--prompt", text)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run("sample", file, *prompts, "--out", tmp_path / "clip.gif", *FAST)
    assert last_json(capsys)["n"] == 2
    assert Image.open(tmp_path / "clip.gif").n_frames == 8
    run("sample", file, "--prompt", TEXTS[0], "--frames", 3, "--out", tmp_path / "a.npz", *FAST)
    with np.load(tmp_path / "a.npz") as arrays:
        assert arrays["x"].shape == (1, 3, 32, 32, 3)
    run("sample", file, "--frames", 2, "--out", tmp_path / "b.png", *FAST[:-1])
    assert capsys.readouterr().out.splitlines()[-2].startswith("1 clip in ")
    assert Image.open(tmp_path / "b.png").size == (2 * 68 - 4, 64)


def test_a_clip_begins_with_a_picture_of_ones_own(
    tmp_path: Path, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (50, 40), (200, 30, 30)).save(tmp_path / "own.png")
    how = ("--prompt", TEXTS[0], "--init", tmp_path / "own.png", "--frames", 2)
    run("sample", file, *how, "--out", tmp_path / "a.npz", *FAST)
    with np.load(tmp_path / "a.npz") as arrays:
        clip = arrays["x"]
    assert last_json(capsys)["init"] == str(tmp_path / "own.png")
    Image.new("RGB", (50, 40), (20, 30, 200)).save(tmp_path / "own.png")
    run("sample", file, *how, "--out", tmp_path / "b.npz", *FAST)
    with np.load(tmp_path / "b.npz") as arrays:
        assert (arrays["x"][0, 0] != clip[0, 0]).any()


def test_what_is_no_clip_and_no_picture_is_said_in_a_line(
    tmp_path: Path, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_checkpoint(picture := tmp_path / "tiny.safetensors", tiny())
    out = ("--out", tmp_path / "a.gif")
    assert "--frames is for models of clips" in error_line(capsys, "sample", picture, "--frames", 3, *out)
    Image.new("RGB", (8, 8)).save(tmp_path / "own.png")
    begun = ("sample", file, "--init", tmp_path / "own.png", *out)
    assert "leave out --mask and --strength" in error_line(capsys, *begun, "--strength", 0.5)
    assert "leave out --mask and --strength" in error_line(capsys, *begun, "--mask", tmp_path / "own.png")
    assert "at least 1 frame" in error_line(capsys, "sample", file, "--frames", 0, *out, *FAST)
    assert "by --prompt, not by --label" in error_line(capsys, "sample", file, "--label", 1, *out)
    assert "leave out --data" in error_line(capsys, "evaluate", file, "--data", "scenes")
    assert "too few" in error_line(capsys, "evaluate", file, "--n", 1)
    assert not (tmp_path / "a.gif").exists()


def test_words_that_no_caption_has_are_warned_of_and_motion_is_none(
    tmp_path: Path, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    how = ("sample", file, "--frames", 1, "--out", tmp_path / "a.png", *FAST)
    run(*how, "--prompt", "a red circle moving left")
    assert "warning" not in capsys.readouterr().err
    run(*how, "--prompt", "an elephant moving left")
    assert "don't have the word 'elephant'" in capsys.readouterr().err
    run(*how, "--prompt", "a red circle moving sideways")
    assert "one of left, right, up or down. It is drawn all the same" in capsys.readouterr().err


def test_clips_are_measured_by_how_they_move(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filming, "SIDE", 32)
    run("evaluate", file, "--n", 2, *FAST)
    told = json.loads(capsys.readouterr().out)
    assert {
        "from the caption",
        "from a first frame",
        "frames apart",
        "one frame held",
        "rendered",
    } <= told.keys()
    assert told["rendered"]["everything"]["value"] == 1
    assert told["one frame held"]["motion"]["value"] == 0 and told["one frame held"]["kept"]["value"] == 1
    run("evaluate", file, "--n", 2, *FAST[:-1])
    assert "one frame held" in capsys.readouterr().out
    with pytest.raises(ValueError, match="did you mean 'rendered'"):
        filming.clips_of("render", MODEL, torch.zeros(2, 4, 3, 32, 32), TEXTS[:2])


def test_true_clips_are_rendered_once_for_all_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filming, "SIDE", 32)
    sizes, render = [], Clips.render

    def counted(clips: Clips, *how: Any) -> torch.Tensor:
        sizes.append(how)
        return render(clips, *how)

    monkeypatch.setattr(Clips, "render", counted)
    filming.clips_measured(MODEL, 2, ("rendered", "one frame held", "from a first frame"), 3, **HOW)
    assert sizes == [(32, 3)]
