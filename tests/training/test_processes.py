"""Training under a launcher: real processes that talk over gloo."""

import os
import sys
from pathlib import Path

import pytest
import torch

from diffusion_lessons.networks import Classifier, ClassifierConfig
from diffusion_lessons.support.processes import Processes
from diffusion_lessons.training.loop import train
from diffusion_lessons.training.recipe import Plan
from diffusion_lessons.training.tasks import Classification, Denoising
from tests.launching import launch
from tests.tiny_training import saved_state, tiny_dataset, tiny_recipe

STEPS = 50


def recipe(**changes: object):  # type: ignore[no-untyped-def]
    return tiny_recipe(**({"steps": STEPS, "batch": 16} | changes))


def classification() -> Classification:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Classifier(ClassifierConfig(8, num_classes=3, base_channels=8, channel_mults=(1, 2)))
    plan = Plan(steps=STEPS, batch=16, lr=3e-3, precision="float32", checkpoint_every=1e9)
    return Classification(network, plan, tiny_dataset())


class Marked(Denoising):
    """Measured by the first process, never by another."""

    marks = (20, STEPS)

    def measured(self, network: torch.nn.Module) -> dict[str, bool]:
        assert os.environ.get("RANK", "0") == "0"
        return {"training": network.training}


def curve(folder: Path) -> torch.Tensor:
    return torch.tensor(saved_state(folder)[1]["curve"]["points"])


@pytest.mark.slow
def test_two_processes_follow_the_losses_of_one(tmp_path: Path) -> None:
    alone = train(Denoising(recipe(), tiny_dataset()), tmp_path / "one", device="cpu", progress=False)
    run = launch(__file__, tmp_path / "two")
    assert run.returncode == 0, run.stderr[-3000:]
    (ours, told), (theirs, also_told) = saved_state(tmp_path / "one"), saved_state(tmp_path / "two")
    assert told["step"] == also_told["step"] == STEPS
    a, b = curve(tmp_path / "one"), curve(tmp_path / "two")
    assert len(a) == len(b) == STEPS
    assert ((a - b).abs() / a).max() < 1e-4
    assert a[-5:].mean() < 0.8 * a[:5].mean()  # they learn, and the same
    drift = max(float((ours[n] - theirs[n]).abs().max()) for n in ours if n.startswith("network."))
    assert drift < 0.02
    assert alone["processes"] == 1
    assert '"processes": 2' in (tmp_path / "two" / "metrics.json").read_text()
    passed = saved_state(tmp_path / "two" / "marked")[1]["measured"]
    assert passed == [{"mark": at, "step": at, "training": False} for at in (20, STEPS)]

    train(classification(), tmp_path / "classifier", device="cpu", progress=False)  # any other task, too
    a, b = curve(tmp_path / "classifier"), curve(tmp_path / "two" / "classifier")
    assert len(a) == len(b) == STEPS
    assert ((a - b).abs() / a).max() < 1e-3
    assert a[-5:].mean() < 0.5 * a[:5].mean()


@pytest.mark.slow
def test_a_run_of_two_processes_is_resumed_by_one_and_errors_are_told(tmp_path: Path) -> None:
    stopped = launch(__file__, tmp_path / "run", "stop")
    assert stopped.returncode != 0
    assert "stopped at step 30" in stopped.stderr
    assert saved_state(tmp_path / "run")[1]["step"] == 30
    train(Denoising(recipe(), tiny_dataset()), tmp_path / "run", resume=True, device="cpu", progress=False)
    train(Denoising(recipe(), tiny_dataset()), tmp_path / "one", device="cpu", progress=False)
    a, b = curve(tmp_path / "one"), curve(tmp_path / "run")
    assert ((a - b).abs() / a).max() < 1e-4


def test_alone_nothing_is_asked_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    alone = Processes("cpu")
    assert alone.accelerator is None
    assert (alone.rank, alone.world, alone.device) == (0, 1, torch.device("cpu"))
    network, values = torch.nn.Linear(1, 1), torch.arange(3.0)
    assert alone.wrap(network) is network
    assert alone.mean(values) is values
    assert alone.share([1.5, 0.0]) == [1.5, 0.0]
    alone.wait()


def test_missing_accelerate_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(ValueError, match="pip install accelerate"):
        Processes("cpu")


def main(folder: str, *options: str) -> None:
    """What each process does: train, and for "stop" be interrupted at step 25 on the first process."""
    import signal

    from diffusion_lessons.training.loop import Trainer

    if "stop" in options:
        plain = Trainer.step

        def step(self: Trainer, done: float) -> None:
            if self.state.step == 25 and self.processes.world == 2 and self.processes.rank == 0:
                os.kill(os.getpid(), signal.SIGINT)
            plain(self, done)

        Trainer.step = step  # type: ignore[method-assign]
    train(Denoising(recipe(), tiny_dataset()), folder, device="cpu", progress=False)
    train(classification(), Path(folder) / "classifier", device="cpu", progress=False)
    train(Marked(recipe(), tiny_dataset()), Path(folder) / "marked", device="cpu", progress=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
