"""`sample` and `evaluate` shared out over real processes: what one of them alone makes and says."""

import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from diffusion_lessons.checkpoint import save_checkpoint
from diffusion_lessons.support.processes import part
from tests.command_line import last_json, run
from tests.launching import launch
from tests.tiny_checkpoint import tiny


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    file = tmp_path / "tiny.safetensors"
    save_checkpoint(file, tiny())
    return file


def together(*args: object, processes: int = 2) -> subprocess.CompletedProcess[str]:
    return launch("-m", "diffusion_lessons", *args, "--device", "cpu", processes=processes)


@pytest.mark.parametrize(("n", "world"), [(7, 2), (6, 2), (2, 3), (0, 2), (5, 1)])
def test_parts_are_all_rows_once_and_as_equal_as_can_be(n: int, world: int) -> None:
    parts = [part(n, rank, world) for rank in range(world)]
    assert [row for each in parts for row in each] == list(range(n))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.slow
@pytest.mark.parametrize(("n", "world"), [(5, 2), (2, 3)])  # not divisible; fewer pictures than processes
def test_several_processes_draw_the_pictures_of_one(
    checkpoint: Path, tmp_path: Path, n: int, world: int
) -> None:
    how = ["sample", checkpoint, "--n", n, "--steps", 4, "--sampler", "ddpm", "--seed", 3]
    run(*how, "--device", "cpu", "--out", tmp_path / "one.npz")
    drawn = together(*how, "--out", tmp_path / "all.npz", "--json", processes=world)
    assert drawn.returncode == 0, drawn.stderr[-3000:]
    assert json.loads(drawn.stdout)["n"] == n  # one line, of one process
    with np.load(tmp_path / "one.npz") as one, np.load(tmp_path / "all.npz") as every:
        assert np.array_equal(one["x"], every["x"])
        assert np.array_equal(one["y"], every["y"])
    assert sorted(file.name for file in tmp_path.iterdir()) == ["all.npz", "one.npz", "tiny.safetensors"]


@pytest.mark.slow
def test_a_trajectory_is_drawn_together_too(checkpoint: Path, tmp_path: Path) -> None:
    how = ["sample", checkpoint, "--n", 3, "--steps", 3]
    run(*how, "--device", "cpu", "--out", tmp_path / "one.gif")
    drawn = together(*how, "--out", tmp_path / "all.gif")
    assert drawn.returncode == 0, drawn.stderr[-3000:]
    assert (tmp_path / "one.gif").read_bytes() == (tmp_path / "all.gif").read_bytes()


@pytest.mark.slow
def test_evaluate_measures_what_all_have_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    how = ["evaluate", "mnist-unet-1-step", "--n", 101, "--json"]
    run(*how, "--device", "cpu")
    alone = last_json(capsys)
    measured = together(*how)
    assert measured.returncode == 0, measured.stderr[-3000:]
    told = json.loads(measured.stdout)
    assert told.keys() == alone.keys()
    assert told["frechet"]["value"] == pytest.approx(alone["frechet"]["value"], rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("sample", "scenes-text", "--prompt", "a red circle", "--size", "63"), "multiple of"),
        (("sample", "scenes-text", "--prompt", "a red circle", "--n", "0"), "must be at least 1"),
        (("evaluate", "scenes-text", "--n", "3"), "n = 3 is too few"),
    ],
)
def test_an_error_is_said_once(tmp_path: Path, args: tuple[str, ...], words: str) -> None:
    refused = together(*args, *(["--out", tmp_path / "x.png"] if args[0] == "sample" else []))
    assert refused.returncode != 0
    assert refused.stdout == ""
    (said,) = re.findall(r"^error: .*$", refused.stderr, re.MULTILINE)
    assert words in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_doubt_about_a_prompt_is_said_once(tmp_path: Path) -> None:
    drawn = together(
        "sample", "scenes-text", "--prompt", "a red dog", "--steps", 1, "--out", tmp_path / "x.png"
    )
    assert drawn.returncode == 0, drawn.stderr[-3000:]
    assert drawn.stderr.count("warning: ") == 1
    assert (tmp_path / "x.png").exists()
