"""Marks: the one loop has the averaged network measured on the way, and nothing of the training changes."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diffusion_lessons.support.processes import Processes
from diffusion_lessons.training.loop import Trainer, TrainingInterrupted, fit, train
from diffusion_lessons.training.tasks import Denoising
from tests.tiny_training import assert_same_run, saved_state, tiny_dataset, tiny_recipe

QUIET: dict[str, Any] = {"device": "cpu", "progress": False}


class Marked(Denoising):
    """A tiny training that keeps every network it is handed; a figure is a sum of weights."""

    def __init__(self, *marks: float, **changes: Any) -> None:
        super().__init__(tiny_recipe(**({"decay": "none", "dropout": 0.2} | changes)), tiny_dataset())
        self.marks, self.seen = marks, list[nn.Module]()

    def measured(self, network: nn.Module) -> dict[str, Any]:
        self.seen.append(network)
        torch.rand(3)  # other use of the global generator
        return {"sum": total(network), "training": network.training}


def total(network: nn.Module) -> float:
    return float(weights(network).double().abs().sum())


def weights(network: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in network.parameters()])


@contextmanager
def stop_at(step: int, action: Any) -> Iterator[None]:
    """Meanwhile `action` is called before that step."""
    plain = Trainer.step

    def stepping(self: Trainer, done: float) -> None:
        if self.state.step == step:
            action()
        plain(self, done)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "step", stepping)
        yield


class Killed(Exception):
    pass


def kill() -> None:
    raise Killed


def test_at_a_mark_stand_the_averaged_weights_of_a_run_that_ends_there(tmp_path: Path) -> None:
    task = Marked(5, 12)
    metrics = train(task, tmp_path, **QUIET)
    assert [(m["mark"], m["step"], m["training"]) for m in metrics["measured"]] == [
        (5, 5, False),
        (12, 12, False),
    ]
    for network, steps in zip(task.seen, (5, 12), strict=True):
        assert torch.equal(weights(network), weights(fit(Marked(steps=steps), "cpu")))
    assert metrics["measured"][0]["sum"] == total(task.seen[0])


def test_a_run_without_marks_reaches_the_same_weights(tmp_path: Path) -> None:
    train(Marked(3, 4, 9), tmp_path / "marked", **QUIET)
    assert train(Marked(), tmp_path / "plain", **QUIET)["measured"] == []
    ours, theirs = (saved_state(tmp_path / name)[0] for name in ("marked", "plain"))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("at", [2, 5, 6, 11])
@pytest.mark.parametrize("every", [0.0, 1e9])
def test_a_killed_run_goes_on_to_the_same_figures_bit_for_bit(tmp_path: Path, at: int, every: float) -> None:
    how = {"checkpoint_every": every}
    whole = train(Marked(5, 12, **how), tmp_path / "whole", **QUIET)
    with stop_at(at, kill), pytest.raises(Killed):
        train(Marked(5, 12, **how), tmp_path / "cut", **QUIET)
    task = Marked(5, 12, **how)
    metrics = train(task, tmp_path / "cut", resume=True, **QUIET)
    assert metrics["measured"] == whole["measured"]
    assert len(task.seen) == (2 if at < 5 else 1)  # what was measured is not measured again
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_nothing_of_the_training_is_lost_where_measuring_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(Marked(5, 12), tmp_path / "whole", **QUIET)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Marked, "measured", lambda self, network: kill())
        train(Marked(5, 12), tmp_path / "cut", **QUIET)
    assert saved_state(tmp_path / "cut")[1]["step"] == 5
    assert train(Marked(5, 12), tmp_path / "cut", resume=True, **QUIET)["measured"] == whole["measured"]
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_an_interrupt_does_not_wait_for_a_mark_that_can_be_measured_later(tmp_path: Path) -> None:
    interrupted = Marked(6)
    with (
        stop_at(5, lambda: os.kill(os.getpid(), signal.SIGINT)),
        pytest.raises(TrainingInterrupted, match="step 6"),
    ):
        train(interrupted, tmp_path / "cut", **QUIET)
    assert interrupted.seen == []
    train(Marked(6), tmp_path / "cut", resume=True, **QUIET)
    train(Marked(6), tmp_path / "whole", **QUIET)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")
    with stop_at(11, lambda: os.kill(os.getpid(), signal.SIGINT)):  # nothing goes on from here
        assert len(train(Marked(12), tmp_path / "end", **QUIET)["measured"]) == 1


def test_the_time_of_measuring_is_not_taken_from_the_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(self: Marked, network: nn.Module) -> dict[str, Any]:
        time.sleep(2.0)
        return {}

    monkeypatch.setattr(Marked, "measured", slow)
    metrics = train(Marked(0.005, 0.01, minutes=0.01), tmp_path, **QUIET)
    assert metrics["seconds"] < 2.0  # of 0.6; measuring took 4
    early, late = (each["step"] for each in metrics["measured"])
    assert 0 < early < late == metrics["steps"]


def test_marks_have_the_unit_of_the_budget(tmp_path: Path) -> None:
    metrics = train(Marked(20, 48, images=48), tmp_path, **QUIET)  # batches of 8
    assert [(m["mark"], m["step"]) for m in metrics["measured"]] == [(20, 3), (48, 6)]


@pytest.mark.parametrize("marks", [(0, 5), (5, 5), (8, 3), (5, 13), (-1,), (float("nan"),)])
def test_marks_that_cannot_be_reached_in_turn_are_refused(tmp_path: Path, marks: tuple[float, ...]) -> None:
    with pytest.raises(
        ValueError, match=r"marks rise from above 0 to at most the budget of 12 steps, got \["
    ):
        train(Marked(*marks), tmp_path, **QUIET)


def test_a_run_with_other_marks_is_another_run(tmp_path: Path) -> None:
    with stop_at(7, kill), pytest.raises(Killed):
        train(Marked(5, 12, checkpoint_every=0.0), tmp_path, **QUIET)
    with pytest.raises(ValueError, match=r"marks is \[5, 12\] there and \[5, 6, 12\] here"):
        train(Marked(5, 6, 12, checkpoint_every=0.0), tmp_path, resume=True, **QUIET)


def test_a_task_with_marks_says_what_is_measured(tmp_path: Path) -> None:
    task = Denoising(tiny_recipe(), tiny_dataset())
    task.marks = (5,)
    with pytest.raises(NotImplementedError, match="Denoising has marks and does not say what is measured"):
        train(task, tmp_path, **QUIET)
    assert saved_state(tmp_path)[1]["step"] == 5


def test_another_process_waits_and_measures_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[int] = []
    processes = Processes("cpu")
    task = Marked(1, 12)
    trainer = Trainer(task, tmp_path, processes)
    processes.rank, processes.wait = 1, lambda: waited.append(1)  # type: ignore[method-assign]
    trainer.state.step = 1
    trainer.measure(trainer.marked())
    assert (task.seen, len(waited), trainer.marked()) == ([], 1, [])
