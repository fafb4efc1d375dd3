"""One loop for every task: what holds for denoisers holds for classifiers, and for a task nobody foresaw."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusion_lessons.checkpoint import read_tensors
from diffusion_lessons.data import Dataset, load_dataset
from diffusion_lessons.data.dataset import Rendered
from diffusion_lessons.metrics import Yardstick
from diffusion_lessons.networks import Classifier, ClassifierConfig
from diffusion_lessons.paths import DiscreteVP
from diffusion_lessons.schedules import cosine_betas
from diffusion_lessons.training.loop import Trainer, TrainingInterrupted, fit, train
from diffusion_lessons.training.recipe import Plan
from diffusion_lessons.training.run_folder import METRICS, MODEL, STATE
from diffusion_lessons.training.speed import SpeedMode
from diffusion_lessons.training.tasks import Classification, Denoising, Task
from tests.tiny_training import Deaf, assert_same_run, saved_state, tiny_dataset, tiny_recipe

QUIET: dict[str, Any] = {"device": "cpu", "progress": False}


def plan(**changes: Any) -> Plan:
    usual = {"steps": 20, "batch": 16, "warmup": 3, "precision": "float32", "checkpoint_every": 1e9}
    return Plan(**(usual | changes))


def seeded_network(make: Any) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make()


def classifier(noisy: bool = False, **changes: Any) -> Classification:
    config = ClassifierConfig(8, num_classes=3, base_channels=8, channel_mults=(1, 2), time=noisy)
    path = DiscreteVP(cosine_betas(100)) if noisy else None
    return Classification(seeded_network(lambda: Classifier(config)), plan(**changes), tiny_dataset(), path)


class Squeeze(nn.Module):
    """Digits of 16×16 through four numbers and back."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.decode = nn.Linear(256, 4), nn.Linear(4, 256)

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(torch.tanh(self.encode(x.flatten(1)))).view_as(x)


class Autoencoding(Task):
    """A whole new kind of training: a network, a plan, rows and a loss; noise is drawn by the step."""

    def batch(self, step: int, most: int | None = None) -> tuple[Tensor, Tensor]:
        x, _ = super().batch(step, most)
        return x + 0.1 * self.noise(step, x, most), x

    def loss(self, forward: Any, batch: tuple[Tensor, Tensor]) -> Tensor:
        seen, wanted = batch
        return F.mse_loss(forward(seen), wanted)


def autoencoder(**changes: Any) -> Autoencoding:
    return Autoencoding(seeded_network(Squeeze), plan(lr=1e-2, **changes), load_dataset("digits"))


TASKS = {
    "clean": classifier,
    "noisy": lambda **changes: classifier(noisy=True, **changes),
    "autoencoder": autoencoder,
}


class Killed(Exception):
    pass


@pytest.mark.parametrize("kind", TASKS)
@pytest.mark.parametrize("at", [1, 13])
def test_a_killed_run_of_any_task_goes_on_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, at: int
) -> None:
    whole = train(TASKS[kind](), tmp_path / "whole", **QUIET)
    plain = Trainer.step

    def step(self: Trainer, done: float) -> None:
        if self.state.step == at:
            raise Killed
        plain(self, done)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Trainer, "step", step)
        train(TASKS[kind](checkpoint_every=0.0), tmp_path / "cut", **QUIET)
    metrics = train(TASKS[kind](checkpoint_every=0.0), tmp_path / "cut", resume=True, **QUIET)
    assert metrics["curve"] == whole["curve"]
    here, there = saved_state(tmp_path / "cut")[0], saved_state(tmp_path / "whole")[0]
    assert here.keys() == there.keys()
    assert all(torch.equal(here[name], there[name]) for name in here)
    assert metrics["curve"]["loss"][-1] < metrics["curve"]["loss"][0]
    assert sorted(file.name for file in (tmp_path / "cut").iterdir()) == [METRICS, MODEL, STATE]


def test_the_file_of_a_new_task_holds_its_averaged_weights(tmp_path: Path) -> None:
    train(autoencoder(), tmp_path, **QUIET)
    tensors, description = read_tensors(tmp_path / MODEL, "network")
    assert description["recipe"]["lr"] == 1e-2
    network = Squeeze()
    network.load_state_dict({name.removeprefix("network."): t for name, t in tensors.items()})
    assert torch.equal(network.encode.weight, saved_state(tmp_path)[0]["ema.encode.weight"])


def test_interrupted_classifiers_say_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Trainer.step

    def step(self: Trainer, done: float) -> None:
        if self.state.step == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        plain(self, done)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", step)
        with pytest.raises(TrainingInterrupted, match=r"stopped at step 6, 30% of the budget.*--resume"):
            train(classifier(), tmp_path / "cut", **QUIET)
    train(classifier(), tmp_path / "cut", resume=True, **QUIET)
    train(classifier(), tmp_path / "whole", **QUIET)
    assert_same_run(tmp_path / "cut", tmp_path / "whole")


def test_another_task_cannot_go_on_with_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(Autoencoding):
        pass

    train(autoencoder(), tmp_path, **QUIET)
    with pytest.raises(ValueError, match="task is 'Autoencoding' there and 'Other' here"):
        train(Other(Squeeze(), autoencoder().plan, load_dataset("digits")), tmp_path, resume=True, **QUIET)


def test_speed_modes_are_checked_for_a_classifier_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SpeedMode, "compiled", lambda mode, net: Deaf(net) if mode.compile else net)
    with pytest.warns(RuntimeWarning, match=r"compiled bf16 refused.*training goes on in eager bf16"):
        metrics = train(classifier(precision="bf16", compile="on"), tmp_path, **QUIET)
    assert metrics["mode"] == "eager bf16"


@pytest.mark.parametrize("noisy", [False, True])
def test_processes_share_the_batch_of_a_classifier(noisy: bool) -> None:
    whole = classifier(noisy).place().batch(3)
    parts = [classifier(noisy).place("cpu", rank, 2).batch(3) for rank in range(2)]
    for value, *shares in zip(whole, *parts, strict=True):
        assert torch.equal(torch.cat(shares), value)


def test_a_classifier_learns_to_name_held_out_pictures() -> None:
    network = fit(classifier(steps=80, lr=5e-3), "cpu")
    x, labels = tiny_dataset(seed=1).batch(torch.arange(50))
    assert not network.training
    with torch.no_grad():
        assert (network(x).argmax(1) == labels).float().mean() > 0.9


def test_the_file_of_a_clean_classifier_is_one_to_measure_by(tmp_path: Path) -> None:
    train(classifier(steps=5), tmp_path, **QUIET)
    found = Yardstick.load(tmp_path / MODEL)
    assert found.classifier.config.num_classes == 3
    x, _ = tiny_dataset().batch(torch.arange(4))
    assert found.classifier(x).shape == (4, 3)
    assert torch.equal(found.classifier.to_logits.bias, saved_state(tmp_path)[0]["ema.to_logits.bias"])


def test_a_gradient_without_a_limit_is_told_as_none(tmp_path: Path) -> None:
    metrics = train(classifier(grad_clip=None, steps=3), tmp_path, **QUIET)
    assert metrics["steps"] == 3
    assert read_tensors(tmp_path / STATE, "training state")[1]["recipe"]["grad_clip"] is None


def test_a_training_that_is_thrown_away_does_not_promise_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainer, "step", lambda self, done: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt, match="nothing of this training is kept"):
        fit(classifier(), "cpu")


def test_a_classifier_needs_classes() -> None:
    pictures = Dataset("bare", torch.zeros(4, 1, 8, 8, dtype=torch.uint8))
    with pytest.raises(ValueError, match="bare has no classes to tell apart"):
        Classification(Squeeze(), plan(), pictures)


def test_a_denoiser_is_trained_on_a_set_without_end(tmp_path: Path) -> None:
    seen: list[int] = []

    def render(seed: int, index: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        seen.extend(index.tolist())
        labels = (index + seed) % 2
        pictures = torch.where(labels.bool(), 250, 5).to(torch.uint8).view(-1, 1, 1, 1)
        return pictures.expand(-1, 1, 8, 8), {"label": labels}

    rows = Rendered("halves", (1, 8, 8), render, seed=3, classes=("dark", "light"))
    recipe = tiny_recipe(steps=40, lr=8e-3)
    whole = train(Denoising(recipe, rows), tmp_path / "whole", **QUIET)
    assert max(seen) == 40 * recipe.batch - 1
    losses = whole["curve"]["loss"]
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
    train(Denoising(recipe, rows), tmp_path / "again", **QUIET)
    assert_same_run(tmp_path / "whole", tmp_path / "again")


@pytest.mark.parametrize("shape", [(5, 1, 8, 8), (4, 8, 8)], ids=["clips", "latents"])
def test_rows_may_have_a_frame_axis_or_be_floats(shape: tuple[int, ...]) -> None:
    """A network of any kind: only the rows' first axis is the batch."""

    class Shrink(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.zeros(()))

        def forward(self, x: Tensor, time: Tensor, condition: Any = None) -> Tensor:
            return self.scale * x

    generator = torch.Generator().manual_seed(0)
    rows = torch.rand(20, *shape, generator=generator)
    images = (rows * 255).to(torch.uint8) if len(shape) == 4 else rows
    task = Denoising(tiny_recipe(steps=4), Dataset("rows", images), Shrink())
    batch = task.place().batch(0)
    assert batch.x0.shape == batch.noise.shape == (8, *shape)
    assert batch.condition is None
    assert fit(task, "cpu").scale.item() != 0
