"""Two players in turns: losses and R1 against what is known, one loop, one file, and a run that resumes."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusion_lessons.checkpoint import CheckpointError
from diffusion_lessons.data import Dataset
from diffusion_lessons.networks import (
    Discriminator,
    DiscriminatorConfig,
    Generator,
    GeneratorConfig,
    PointConfig,
    PointNetwork,
)
from diffusion_lessons.networks.gan import Gan, draw
from diffusion_lessons.support.seeds import layers_seeded
from diffusion_lessons.training.adversarial import (
    Adversarial,
    AdversarialPlan,
    discriminator_loss,
    generator_loss,
    load_generator,
    r1_penalty,
)
from diffusion_lessons.training.loop import Trainer, fit, train
from diffusion_lessons.training.run_folder import METRICS, MODEL, STATE
from tests.tiny_training import assert_same_run, saved_state, tiny_dataset

QUIET: dict[str, Any] = {"device": "cpu", "progress": False}


def plan(**changes: Any) -> AdversarialPlan:
    return AdversarialPlan(**({"steps": 20, "batch": 16, "checkpoint_every": 1e9} | changes))


def point_pair(octaves: int = 0, width: int = 16) -> Gan:
    with layers_seeded(0):
        generator = PointNetwork(PointConfig(width=width))
        return Gan(generator, PointNetwork(PointConfig(out_dim=1, width=width, octaves=octaves)))


def clouds(n: int = 400, at: tuple[float, float] = (0.0, 0.0)) -> Dataset:
    """Points around two places."""
    random = torch.Generator().manual_seed(0)
    side = torch.arange(n)[:, None] % 2 * 2.0 - 1
    return Dataset("clouds", side + torch.tensor(at) + 0.1 * torch.randn(n, 2, generator=random))


def on_points(**changes: Any) -> Adversarial:
    return Adversarial(point_pair(), plan(**changes), clouds())


def on_pictures(**changes: Any) -> Adversarial:
    with layers_seeded(0):
        generator = Generator(GeneratorConfig(8, latent_dim=6, base_channels=8, channel_mults=(1, 2)))
        judge = Discriminator(DiscriminatorConfig(8, base_channels=8, channel_mults=(1, 2)))
    return Adversarial(Gan(generator, judge), plan(**changes), tiny_dataset())


# The losses ----------------------------------------------------------------------------------------


def test_losses_are_the_binary_cross_entropies_of_the_paper(generator: torch.Generator) -> None:
    real, made = torch.randn(2, 9, generator=generator)
    ones, zeros = torch.ones(9), torch.zeros(9)
    bce = F.binary_cross_entropy_with_logits
    assert discriminator_loss(real, made) == pytest.approx(float(bce(real, ones) + bce(made, zeros)))
    assert generator_loss(made) == pytest.approx(float(bce(made, ones)))
    flat = torch.zeros(9)
    assert discriminator_loss(flat, flat) == pytest.approx(2 * math.log(2))


def test_signs_real_up_made_down_and_the_generator_the_other_way() -> None:
    real, made = torch.randn(2, 9).requires_grad_()
    of_real, of_made = torch.autograd.grad(discriminator_loss(real, made), [real, made])
    (of_generator,) = torch.autograd.grad(generator_loss(made), made)
    assert (of_real < 0).all() and (of_made > 0).all() and (of_generator < 0).all()


@pytest.mark.parametrize("logit", [-30.0, -1000.0])
def test_a_generator_that_is_found_out_still_has_a_gradient(logit: float) -> None:
    made = torch.full((4,), logit, requires_grad=True)
    loss = generator_loss(made)
    loss.backward()
    assert made.grad is not None
    assert torch.allclose(made.grad, torch.full((4,), -0.25))
    assert loss.isfinite()


# R1 ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2,), (3, 4, 4)])
def test_r1_of_a_linear_discriminator_is_half_gamma_of_its_weight_squared(shape: tuple[int, ...]) -> None:
    """Of the logit itself, and for each sample alone: neither a sigmoid nor the batch comes in."""
    w = torch.randn(shape, dtype=torch.float64)
    for n in (1, 7):
        x = torch.randn(n, *shape, dtype=torch.float64, requires_grad=True)
        found = r1_penalty(x, (x * w).flatten(1).sum(1) + 3, gamma=10.0)
        assert torch.allclose(found, torch.full((n,), 5 * float(w.square().sum()), dtype=torch.float64))


def test_r1_is_of_each_samples_own_slope() -> None:
    x = torch.tensor([[1.0, 2.0], [0.0, 0.0], [-3.0, 0.0]], requires_grad=True)
    assert torch.allclose(r1_penalty(x, x.square().sum(1) / 2, 1.0), x.detach().square().sum(1) / 2)


def test_r1_teaches_the_discriminator() -> None:
    w = torch.tensor([3.0, -4.0], requires_grad=True)
    x = torch.randn(5, 2, requires_grad=True)
    (gradient,) = torch.autograd.grad(r1_penalty(x, x @ w, 0.5).mean(), w)
    assert torch.allclose(gradient, 0.5 * w)


def test_r1_needs_an_x_that_asks_for_gradients() -> None:
    with pytest.raises(ValueError, match="requires_grad_"):
        r1_penalty(torch.zeros(2, 2), torch.zeros(2), 1.0)


# The task ------------------------------------------------------------------------------------------


def test_players_take_turns_and_the_data_are_the_discriminators() -> None:
    task = on_points(r1_every=3).place()
    turns = [task.batch(step) for step in range(12)]
    assert [turn.real is None for turn in turns] == [False, True] * 6
    assert [turn.penalised for turn in turns[::2]] == [True, False, False] * 2
    assert turns[2].real is not None
    assert torch.equal(turns[2].real, task.batches(1)[0])  # no row is skipped
    assert not torch.equal(turns[0].latent, turns[1].latent)
    assert not any(turn.penalised for turn in map(on_points(r1=0.0).place().batch, range(4)))


def test_each_step_moves_one_player_and_leaves_nothing_in_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    before: dict[str, Tensor] = {}
    moved: list[set[str]] = []
    plain = Trainer.step

    def step(self: Trainer, done: float) -> None:
        weights = dict(self.state.network.named_parameters())
        before.update({name: weight.detach().clone() for name, weight in weights.items()})
        plain(self, done)
        moved.append({name.split(".")[0] for name, w in weights.items() if not torch.equal(w, before[name])})
        assert all(weight.grad is None for weight in weights.values())

    monkeypatch.setattr(Trainer, "step", step)
    fit(on_points(steps=6, weight_decay=0.1), "cpu")
    assert moved == [{"discriminator"}, {"generator"}] * 3


def test_gradients_of_the_discriminator_are_those_of_a_fresh_one() -> None:
    task = on_points().place()
    weights = dict(task.network.discriminator.named_parameters())
    task.loss(task.network, task.batch(1)).backward()  # the generator's turn
    task.loss(task.network, task.batch(2)).backward()
    fresh = on_points().place()
    fresh.loss(fresh.network, fresh.batch(2)).backward()
    for name, weight in fresh.network.discriminator.named_parameters():
        assert torch.equal(weight.grad, weights[name].grad)  # type: ignore[arg-type]


def test_a_lazy_penalty_has_the_mean_gradient_of_one_at_every_turn() -> None:
    def penalty(every: int, step: int) -> float:
        with_it, without = (on_points(r1=r1, r1_every=every).place() for r1 in (0.7, 0.0))
        losses = [float(task.loss(task.network, task.batch(step)).detach()) for task in (with_it, without)]
        return losses[0] - losses[1]

    each = penalty(1, 0)
    assert each > 0
    assert penalty(4, 0) == pytest.approx(4 * each, rel=1e-2)
    assert penalty(4, 2) == 0 != penalty(1, 2)


def test_the_loss_is_the_sum_of_its_parts() -> None:
    task = on_points(r1=0.3).place()
    turn = task.batch(0)
    x = turn.real.clone().requires_grad_()  # type: ignore[union-attr]
    real, made = task.network(turn.latent, x)
    expected = discriminator_loss(real, made) + r1_penalty(x, real, 0.3).mean()
    assert torch.allclose(task.loss(task.network, turn), expected)
    assert not turn.real.requires_grad  # type: ignore[union-attr]


def test_a_gan_finds_two_clouds_off_the_middle() -> None:
    task = Adversarial(point_pair(width=32), plan(steps=1500, lr=3e-3, batch=64), clouds(at=(0.5, -0.2)))
    x = draw(fit(task, "cpu").generator, 400)  # type: ignore[arg-type]
    places = torch.tensor([[-0.5, -1.2], [1.5, 0.8]])
    distance, nearest = torch.cdist(x, places).min(1)
    assert (distance < 0.5).float().mean() > 0.8
    assert 0.2 < nearest.float().mean() < 0.8


class Tracked(nn.Module):
    """A generator with a buffer that training changes, as batch norm has."""

    latent_dim = 2
    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, latent: Tensor) -> Tensor:
        if self.training:
            self.seen.add_(1)
        return self.linear(latent)


def test_buffers_are_averaged_and_written_too(tmp_path: Path) -> None:
    task = Adversarial(Gan(Tracked(), point_pair().discriminator), plan(), clouds())
    train(task, tmp_path, **QUIET)
    tensors, _ = saved_state(tmp_path)
    assert 0 < tensors["ema.generator.seen"] < task.network.generator.seen  # type: ignore[operator]


# The run -------------------------------------------------------------------------------------------


class Killed(Exception):
    pass


@pytest.mark.parametrize("at", [1, 2, 13])
@pytest.mark.parametrize("make", [on_points, on_pictures])
def test_a_killed_run_goes_on_to_the_same_weights_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Any, at: int
) -> None:
    train(make(r1_every=2), tmp_path / "whole", **QUIET)
    plain = Trainer.step

    def step(self: Trainer, done: float) -> None:
        if self.state.step == at:
            raise Killed
        plain(self, done)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Trainer, "step", step)
        train(make(r1_every=2, checkpoint_every=0.0), tmp_path / "cut", **QUIET)
    train(make(r1_every=2, checkpoint_every=0.0), tmp_path / "cut", resume=True, **QUIET)
    (whole, _), (cut, told) = saved_state(tmp_path / "whole"), saved_state(tmp_path / "cut")
    assert whole.keys() == cut.keys()
    assert [name for name in whole if not torch.equal(whole[name], cut[name])] == []
    assert told["step"] == 20
    updates = {name: float(count) for name, count in cut.items() if name.startswith("updates.")}
    assert set(updates.values()) == {10.0}  # each player was changed in half of the steps
    assert sorted(file.name for file in (tmp_path / "cut").iterdir()) == [METRICS, MODEL, STATE]


def test_the_file_of_a_run_is_a_generator_to_draw_from(tmp_path: Path) -> None:
    train(on_pictures(), tmp_path, **QUIET)
    generator = load_generator(tmp_path / MODEL)
    averaged = saved_state(tmp_path)[0]
    weights = dict(generator.named_parameters())
    assert all(torch.equal(weights[name], averaged[f"ema.generator.{name}"]) for name in weights)
    assert not generator.training
    assert draw(generator, 3).shape == (3, 1, 8, 8)
    with pytest.raises(CheckpointError, match="cannot read"):
        load_generator(tmp_path / "none.safetensors")
    with pytest.raises(CheckpointError, match="holds a training state, not a generator"):
        load_generator(tmp_path / STATE)


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"r1": 0.5}, "r1 is 0.1 there and 0.5 here"), ({"beta1": 0.0}, "beta1 is 0.5 there and 0.0 here")],
)
def test_another_penalty_or_momentum_is_another_run(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    train(on_points(), tmp_path, **QUIET)
    with pytest.raises(ValueError, match=said):
        train(on_points(steps=30, **changes), tmp_path, resume=True, **QUIET)


def test_a_longer_budget_goes_on_from_a_finished_run(tmp_path: Path) -> None:
    train(on_points(steps=20), tmp_path / "short", **QUIET)
    train(on_points(steps=31), tmp_path / "short", resume=True, **QUIET)
    train(on_points(steps=31), tmp_path / "long", **QUIET)
    assert_same_run(tmp_path / "short", tmp_path / "long")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"r1": -0.1}, "r1 is a number that is not negative"),
        ({"r1": math.nan}, "r1 is a number that is not negative"),
        ({"r1": math.inf}, "r1 is a number that is not negative"),
        ({"r1_every": 0}, "a whole one from 1 on; got 0.1 and 0"),
        ({"r1_every": 1.5}, r"a whole one from 1 on; got 0.1 and 1\.5"),
        ({"beta1": 1.0}, r"beta1 is a share in \[0, 1\), got 1.0"),
        ({"precision": "bf16"}, "unknown precision 'bf16': expected one of float32"),
        ({"compile": "on"}, "unknown compile 'on': expected one of off"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        plan(**changes)


def test_several_processes_are_refused() -> None:
    with pytest.raises(ValueError, match="a GAN is trained by one process, got 2"):
        on_points().place("cpu", 0, 2)
