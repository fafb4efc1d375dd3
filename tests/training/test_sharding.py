"""Weights shared out over real processes (`accelerate launch --use_fsdp`): what one learns and writes."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from diffusion_lessons.checkpoint import load_checkpoint
from diffusion_lessons.data.captioned import scene_rows, scene_tokenizer
from diffusion_lessons.support.processes import Processes
from diffusion_lessons.support.sharding import is_shared
from diffusion_lessons.training.loop import Trainer, train
from diffusion_lessons.training.recipe import Recipe
from diffusion_lessons.training.run_folder import MODEL
from diffusion_lessons.training.text_to_image import TextToImage, prompted, text_config
from tests.launching import launch
from tests.tiny_training import saved_state

STEPS = 12
SHARDED = ("--use_fsdp", "--fsdp_version", "2")


def task(**changes: Any) -> TextToImage:
    tokenizer = scene_tokenizer()
    shape: dict[str, Any] = {"base_channels": 16, "channel_mults": (1, 2), "attention_levels": (1,)}
    shape |= {
        "head_dim": 16,
        "batch": 8,
        "steps": STEPS,
        "precision": "float32",
        "warmup": 3,
        "checkpoint_every": 1e9,
    }
    recipe = Recipe(data="scenes", **(shape | changes))
    rows = scene_rows(tokenizer, 16).kept(32)
    return TextToImage(recipe, rows, prompted(recipe, 3, text_config(tokenizer, 32, 1)), tokenizer)


def alone(folder: Path, resume: bool = False, **changes: Any) -> None:
    train(task(**changes), folder, resume, device="cpu", progress=False)


def curve(folder: Path) -> torch.Tensor:
    return torch.tensor(saved_state(folder)[1]["curve"]["points"])


def assert_near(a: Path, b: Path) -> None:
    (ours, told), (theirs, also_told) = saved_state(a), saved_state(b)
    assert told["step"] == also_told["step"] == STEPS
    assert ((curve(a) - curve(b)).abs() / curve(a)).max() < 1e-4
    assert {name: each.shape for name, each in ours.items()} == {
        name: each.shape for name, each in theirs.items()
    }
    one, other = (load_checkpoint(folder / MODEL).network.state_dict() for folder in (a, b))
    assert max(float((one[name] - other[name]).abs().max()) for name in one) < 0.005


@pytest.mark.slow
def test_two_processes_with_half_the_weights_each_learn_and_write_what_one_does(tmp_path: Path) -> None:
    alone(tmp_path / "one")
    both = launch(__file__, tmp_path / "two", how=SHARDED)
    assert both.returncode == 0, both.stderr[-3000:]
    assert_near(tmp_path / "one", tmp_path / "two")
    shares = [float(each) for each in re.findall(r"share (\S+)", both.stdout)]
    assert len(shares) == 2
    assert sum(shares) == pytest.approx(1, abs=0.02)  # a tensor of one row lies in one process
    assert max(shares) < 0.6
    first, last = curve(tmp_path / "two")[[0, -1]]
    assert last < 0.9 * first


@pytest.mark.slow
def test_a_run_goes_on_from_one_process_to_two_and_back(tmp_path: Path) -> None:
    alone(tmp_path / "one")
    killed = launch(__file__, tmp_path / "cut", "stop", how=SHARDED)
    assert "stopped at step 5" in killed.stderr
    assert saved_state(tmp_path / "cut")[1]["step"] == 5
    copy = {file.name: file.read_bytes() for file in (tmp_path / "cut").iterdir()}
    alone(tmp_path / "cut", resume=True)
    assert_near(tmp_path / "one", tmp_path / "cut")
    (tmp_path / "again").mkdir()
    for name, data in copy.items():
        (tmp_path / "again" / name).write_bytes(data)
    resumed = launch(__file__, tmp_path / "again", "resume", how=SHARDED)
    assert resumed.returncode == 0, resumed.stderr[-3000:]
    assert_near(tmp_path / "one", tmp_path / "again")


@pytest.mark.slow
def test_a_weight_that_is_lost_in_one_process_stops_all(tmp_path: Path) -> None:
    run = launch(__file__, tmp_path / "run", "nan", how=SHARDED)
    assert run.returncode != 0
    assert "NonFiniteLossError" in run.stderr
    assert saved_state(tmp_path / "run")[1]["step"] == 0


def main(folder: str, *options: str) -> None:
    """What each process does; "stop" ends it at step 5, "nan" spoils a weight of the second process alone."""
    plain = Trainer.step

    def step(self: Trainer, done: float) -> None:
        at, weights = self.state.step, list(self.state.network.parameters())
        assert all(is_shared(each) for each in [*weights, *self.state.ema.shadow.values()])
        if "stop" in options and at == 5:
            self.read()
            self.save(finished=False)
            raise SystemExit("stopped at step 5")
        if "nan" in options and at == 5 and self.processes.rank == 1:
            with torch.no_grad():
                weights[0].to_local().fill_(float("nan"))  # type: ignore[operator]
        plain(self, done)
        if self.state.step == STEPS:
            kept, every = (
                sum(each.to_local().numel() for each in weights),
                sum(each.numel() for each in weights),
            )  # type: ignore[operator]
            sys.stdout.write(f"share {kept / every}\n")

    Trainer.step = step  # type: ignore[method-assign]
    assert Processes("cpu").sharded
    alone(Path(folder), resume="resume" in options)


if __name__ == "__main__":
    main(*sys.argv[1:])
