"""A text model learns from shards: by one process or two, killed and resumed, on the command line."""

import re
from pathlib import Path

import pytest
import torch

from diffusion_lessons.training.loop import Trainer
from tests.command_line import error_line, last_json, run
from tests.launching import launch
from tests.tiny_shards import write_shard, write_shards
from tests.tiny_training import saved_state

SMALL = ["--captions", "--size", "16", "--base-channels", "16", "--channel-mults", "1", "2"]
SMALL += ["--attention-levels", "1", "--head-dim", "16", "--batch", "4", "--precision", "float32"]
SMALL += ["--device", "cpu", "--checkpoint-every", "0"]


@pytest.fixture
def pattern(data_dir: Path, tmp_path: Path) -> str:
    write_shards(tmp_path / "made", shards=3, each=6)
    return f"shards:{tmp_path}/made/{{000..002}}.tar"


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DIFFUSION_LESSONS_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def test_a_killed_run_goes_on_to_the_same_weights_bit_for_bit(
    pattern: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run("train", pattern, "--steps", 8, *SMALL, "--out", tmp_path / "whole", "--json")  # 18 rows, 32 seen
    assert last_json(capsys)["steps"] == 8
    plain = Trainer.step

    def killed(self: Trainer, done: float) -> None:
        if self.state.step == 5:
            raise ZeroDivisionError
        plain(self, done)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", killed)
        with pytest.raises(SystemExit):
            run("train", pattern, "--steps", 8, *SMALL, "--out", tmp_path / "cut")
    assert saved_state(tmp_path / "cut")[1]["step"] == 5
    (tmp_path / "made").rename(tmp_path / "moved")
    moved = pattern.replace("made", "moved")
    run("train", moved, "--steps", 8, *SMALL, "--out", tmp_path / "cut", "--resume")
    theirs = saved_state(tmp_path / "cut")[1]["recipe"]["data"]
    assert theirs == moved
    for folder in ("whole", "cut"):
        assert saved_state(tmp_path / folder)[1]["step"] == 8
    ours, other = saved_state(tmp_path / "whole")[0], saved_state(tmp_path / "cut")[0]
    assert all(torch.equal(ours[name], other[name]) for name in ours)
    run("sample", tmp_path / "cut", "--prompt", "shade number 3", "--steps", 1, "--out", tmp_path / "x.png")


def test_other_shards_are_not_gone_on_with(
    pattern: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("train", pattern, "--steps", 2, *SMALL, "--out", tmp_path / "run")
    other = pattern.replace("002", "001")
    said = error_line(capsys, "train", other, "--steps", 4, *SMALL, "--out", tmp_path / "run", "--resume")
    assert "other pictures" in said
    again = ["train", pattern, "--steps", 4, *SMALL, "--out", tmp_path / "more", "--from", "scenes-text"]
    assert "learnt as pixels" in error_line(capsys, *again)


@pytest.mark.parametrize(
    ("data", "options", "words"),
    [
        ("shards:nowhere/*.tar", SMALL, "names no shards"),
        ("shards:nowhere/{0..1}.tar", SMALL, "no shard of"),
        ("shards:nowhere/*.tar", SMALL[1:], "add --captions"),
        ("digits", SMALL, "--captions is for"),
    ],
)
def test_bad_input_is_one_line(
    data: str,
    options: list[str],
    words: str,
    data_dir: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert words in error_line(capsys, "train", data, "--steps", 2, *options, "--out", tmp_path / "run")


@pytest.mark.slow
def test_two_processes_learn_what_one_does_and_name_a_damaged_shard_once(
    pattern: str, tmp_path: Path
) -> None:
    write_shard(tmp_path / "made" / "001.tar", {})
    run("train", pattern, "--steps", 6, *SMALL, "--out", tmp_path / "one")
    both = launch(
        "-m", "diffusion_lessons", "train", pattern, "--steps", 6, *SMALL, "--out", tmp_path / "two"
    )
    assert both.returncode == 0, both.stderr[-3000:]
    assert len(re.findall("^warning: shard 001.tar.*it is skipped$", both.stderr, re.MULTILINE)) == 1
    a, b = (torch.tensor(saved_state(tmp_path / name)[1]["curve"]["points"]) for name in ("one", "two"))
    assert len(a) == 6
    assert ((a - b).abs() / a).max() < 1e-4
