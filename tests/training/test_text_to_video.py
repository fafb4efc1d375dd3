"""Clips are learnt from frames that each have a time of their own, in seconds and with tiny networks."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from diffusion_lessons.checkpoint import load_checkpoint
from diffusion_lessons.clips import film
from diffusion_lessons.data.captioned import scene_tokenizer
from diffusion_lessons.data.clips import STILL, asked, clip_rows
from diffusion_lessons.networks import Video
from diffusion_lessons.paths import add_noise
from diffusion_lessons.training.loop import Trainer, train
from diffusion_lessons.training.recipe import Recipe
from diffusion_lessons.training.run_folder import LOG, MODEL, logged
from diffusion_lessons.training.text_to_video import (
    CLEAN,
    FIRST_CLEAN,
    TextToVideo,
    WrongMotions,
    clip_error,
    clip_latents,
    reversed_,
)
from tests.tiny_video import tiny_network, tiny_vae

TOKENIZER = scene_tokenizer()
QUIET: dict[str, Any] = {"device": "cpu", "progress": False}


def recipe(**changes: Any) -> Recipe:
    how = {"steps": 2, "batch": 4, "precision": "float32", "time_power": 0.5, "data": "clips"} | changes
    return Recipe(**how)  # type: ignore[arg-type]


def task(
    plan: Recipe | None = None, window: int = 3, network: Video | None = None, **how: Any
) -> TextToVideo:
    vae = tiny_vae()
    rows = clip_latents(vae, clip_rows(TOKENIZER, 32, 5).kept(12), seed=0)
    return TextToVideo(
        plan or recipe(), rows, network or tiny_network(TOKENIZER), TOKENIZER, vae, window, **how
    )


def test_latents_are_those_of_each_frame_with_the_clips_conditions() -> None:
    vae, clips = tiny_vae(), clip_rows(TOKENIZER, 32, 3).kept(4)
    made = clip_latents(vae, clips, seed=0)
    assert made.shape == (3, 4, 8, 8) and len(made) == 4
    assert torch.equal(made.conditions["moving"], clips.conditions["moving"])
    alone = clip_latents(vae, replace(clips, images=clips.images[:1], conditions={}), seed=0)
    torch.testing.assert_close(made.images[0], alone.images[0], atol=1e-5, rtol=0)


def test_a_step_sees_windows_of_its_rows() -> None:
    learnt = task(window=3).place()
    batch = learnt.batch(7)
    assert batch.x0.shape == batch.noise.shape == (4, 3, 4, 8, 8) and batch.t.shape == (4, 3)
    rows, _ = learnt.batches(7)
    for window, clip in zip(batch.x0, rows, strict=True):
        assert any(torch.equal(window, clip[k : k + 3]) for k in range(3))
    again = task(window=3).place().batch(7)
    assert all(torch.equal(a, b) for a, b in zip(batch[:3], again[:3], strict=True))
    assert not torch.equal(learnt.batch(8).t, batch.t)


def test_two_processes_see_what_one_sees() -> None:
    whole = task().place().batch(3)
    halves = [task().place(rank=rank, world=2).batch(3) for rank in range(2)]
    for k in range(3):
        assert torch.equal(torch.cat([half[k] for half in halves]), whole[k])


def test_frames_are_clean_as_often_as_said_and_noisy_at_times_of_their_own() -> None:
    learnt = task(recipe(batch=64)).place()
    t = torch.cat([learnt.batch(step).t for step in range(20)])
    clean = (t == 0).double().mean(0)
    assert abs(float(clean[0]) - FIRST_CLEAN) < 0.04 and bool((abs(clean[1:] - CLEAN) < 0.05).all())
    noisy = t[:, 1:][(t[:, 1:] > 0).all(1)]
    assert bool((noisy[:, 0] != noisy[:, 1]).double().mean() > 0.9)
    assert abs(float(torch.corrcoef(noisy.T)[0, 1])) < 0.1


def test_the_network_gets_each_frame_at_its_own_level_and_is_asked_for_that_noise() -> None:
    """x = αx₀ + σε with the noise that the target is made of; a clean frame is told time 0."""
    learnt = task().place()
    batch, seen = learnt.batch(0), []

    def network(x: torch.Tensor, time: torch.Tensor, condition: Any) -> torch.Tensor:
        seen.append((x, time))
        level = learnt.path(batch.t.flatten())
        aim = learnt.target.of(batch.x0.flatten(0, 1), batch.noise.flatten(0, 1), level)
        return aim.unflatten(0, batch.t.shape)

    assert float(learnt.loss(network, batch)) == 0
    x, time = seen[0]
    assert torch.equal(time.double(), (batch.t - 1).clamp(min=0))
    for row in range(4):
        for frame in range(3):
            level = learnt.path(batch.t[row, frame])
            wanted = add_noise(batch.x0[row, frame], batch.noise[row, frame], level)
            torch.testing.assert_close(x[row, frame], wanted)
    clean = batch.t == 0
    assert bool(clean.any()) and torch.equal(x[clean], batch.x0[clean])


def test_clean_frames_cost_nothing() -> None:
    learnt = task().place()
    batch = learnt.batch(0)
    error = clip_error(lambda x, time, condition: 0 * x, learnt, *batch)
    loss = learnt.loss(lambda x, time, condition: 0 * x, batch)
    assert float(loss) == pytest.approx(float(error[batch.t > 0].mean()), rel=1e-5)
    all_clean = batch._replace(t=torch.zeros_like(batch.t))
    assert float(learnt.loss(lambda x, time, condition: 0 * x, all_clean)) == 0


def test_the_layers_over_time_alone_learn_and_what_is_written_draws_clips(tmp_path: Path) -> None:
    network = tiny_network(TOKENIZER, reach=3)
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    over_time = set(network.over_time())
    train(task(recipe(ema_decay=0.0), network=network), tmp_path / "run", **QUIET)
    made = load_checkpoint(tmp_path / "run" / MODEL)
    changed = {name for name, w in made.network.state_dict().items() if not torch.equal(w, before[name])}
    assert changed and changed <= over_time and len(changed) > 0.9 * len(over_time)
    assert made.shape == (3, 4, 8, 8)
    clips = film(made, made.prompts(["a red circle moving left"]), 3, steps=1, device="cpu")
    assert clips.shape == (1, 3, 3, 32, 32)


def test_a_network_that_has_just_been_inflated_can_learn(tmp_path: Path) -> None:
    """Its first layers over time get what no gradient is asked for: on a CPU that once ended the process."""
    network = tiny_network(TOKENIZER, fresh=True)
    zeros = {name for name, weight in network.over_time().items() if not weight.any()}
    train(task(recipe(ema_decay=0.0), network=network), tmp_path / "run", **QUIET)
    made = load_checkpoint(tmp_path / "run" / MODEL).network.state_dict()
    assert zeros and all(bool(made[name].any()) for name in zeros if name.endswith(".weight"))


def test_a_killed_run_goes_on_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = recipe(steps=3, checkpoint_every=0.0)
    train(task(plan), tmp_path / "whole", **QUIET)
    step = Trainer.step

    def stop(self: Trainer, done: float) -> None:
        if self.state.step == 2:
            raise KeyboardInterrupt
        step(self, done)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "step", stop)
        train(task(plan), tmp_path / "killed", **QUIET)
    train(task(plan), tmp_path / "killed", resume=True, **QUIET)
    a, b = (load_checkpoint(tmp_path / each / MODEL).network.state_dict() for each in ("whole", "killed"))
    assert all(torch.equal(weight, b[name]) for name, weight in a.items())


def test_what_wrong_motion_costs_is_logged(tmp_path: Path) -> None:
    probe = WrongMotions(tiny_vae(), TOKENIZER, rows=2, times=(700.0,))
    train(task(probe=probe), tmp_path / "run", **QUIET)
    last = logged(tmp_path / "run" / LOG)[-1]
    assert {"frame 2 at 700", "frame 3 at 700", "frame 2 at 700, right"} <= last.keys()
    assert last["frame 2 at 700"] != 0  # the text reaches the layers over time


def test_opposite_captions_differ_in_the_motion_alone() -> None:
    texts = ["a red circle moving left", "a blue square moving down", "a green cross"]
    assert reversed_(texts) == ["a red circle moving right", "a blue square moving up", "a green cross"]
    assert asked(reversed_(texts)[2]).motion == STILL


@pytest.mark.parametrize("window", [0, 1, 6])
def test_a_window_that_is_none_is_refused(window: int) -> None:
    with pytest.raises(ValueError, match=f"of clips of 5; got {window}"):
        task(window=window)
