"""The recorded comparison of a GAN and diffusion: equal means for both, and what a row holds."""

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from diffusion_lessons.data import Dataset, to_float
from diffusion_lessons.experiments import find, recorded
from diffusion_lessons.experiments.gan_vs_diffusion import (
    ALONE,
    BEST_RATE,
    DECAYED,
    DIFFUSION,
    DIGITS,
    DRAWN,
    EXPERIMENT,
    GAN,
    GRID,
    HALF,
    ONE_RATE,
    RATES,
    SEEDS,
    SHOWN,
    SPECTRAL,
    SPREAD,
    STABLE,
    HeardDenoising,
    HeardGan,
    Shared,
    digits_task,
    grid_task,
    judged,
    levels,
    on_digits,
    on_grid,
    prepare,
)
from diffusion_lessons.networks import PointNetwork
from diffusion_lessons.networks.gan import Gan
from diffusion_lessons.training.adversarial import Adversarial

OPTIONS = {"model": "mnist-unet", "n": 100, "seed": 0, "device": "cpu"}


@pytest.fixture(scope="module")
def shared() -> Shared:
    return prepare(OPTIONS)


def row(model: str, lr: float = ONE_RATE, seed: int = 0) -> dict[str, Any]:
    return {"model": model, "lr": lr, "seed": seed}


def test_every_model_has_every_rate_and_seed() -> None:
    assert find("gan-vs-diffusion") is EXPERIMENT
    rows = EXPERIMENT.settings(OPTIONS)
    assert len({tuple(each.values()) for each in rows}) == len(rows)
    found = Counter((each["data"], each["model"]) for each in rows)
    assert all(found["grid", model] == len(RATES) * len(SEEDS) for model in (GAN, STABLE, HALF, DIFFUSION))
    assert all(found["grid", model + ALONE] == len(SEEDS) for model in (GAN, HALF, DIFFUSION))
    assert all(found["grid", model] == len(SEEDS) for model in (SPECTRAL, DECAYED)) and BEST_RATE in RATES
    assert all(found["digits", model] == len(SEEDS) for model in DIGITS)
    assert found["grid", "real"] == found["grid", "exact denoiser"] == found["digits", "real"] == 1


def test_the_grid_has_unit_variance_on_each_axis() -> None:
    x, mode = GRID.sample(100_000, torch.Generator().manual_seed(0))
    assert torch.allclose(x.std(0), torch.tensor(1.0), atol=0.01)
    assert float((x - GRID.means[mode]).std()) == pytest.approx(SPREAD, rel=0.01)


def test_generator_and_denoiser_have_about_as_many_parameters(shared: Shared) -> None:
    for task, most in ((grid_task, 0.03), (digits_task, 0.05)):
        gan, denoiser = (task(row(model), shared.grid).network for model in (STABLE, DIFFUSION))
        assert isinstance(gan, Gan)
        sizes = [sum(p.numel() for p in network.parameters()) for network in (gan.generator, denoiser)]
        assert sizes[1] == pytest.approx(sizes[0], rel=most)


def test_both_see_the_same_of_a_point(shared: Shared) -> None:
    for end, octaves in (("", 4), (ALONE, 0)):
        gan, denoiser = (grid_task(row(model + end), shared.grid).network for model in (GAN, DIFFUSION))
        assert isinstance(gan, Gan) and isinstance(denoiser, PointNetwork)
        assert gan.discriminator.config.octaves == denoiser.config.octaves == octaves  # type: ignore[union-attr]


def test_the_plain_gan_has_neither_penalty_nor_average_and_the_other_both(shared: Shared) -> None:
    plain, stable = (grid_task(row(model), shared.grid) for model in (GAN, STABLE))
    assert isinstance(plain, Adversarial) and isinstance(stable, Adversarial)
    assert (plain.plan.r1, plain.plan.ema_decay) == (0, 0)
    assert stable.plan.r1 > 0 and stable.plan.ema_decay > 0.9
    assert _differ(plain, stable) == {"r1", "r1_every", "ema_decay", "batch", "steps"}


def test_the_other_stabilised_gans_differ_in_one_thing(shared: Shared) -> None:
    gans = {model: grid_task(row(model), shared.grid) for model in (STABLE, HALF, DECAYED)}
    assert all(isinstance(each, Adversarial) for each in gans.values())
    assert _differ(gans[STABLE], gans[HALF]) == {"batch", "steps"}
    assert _differ(gans[HALF], gans[DECAYED]) == {"decay", "warmup"}
    denoiser = grid_task(row(DIFFUSION), shared.grid).plan
    assert (gans[DECAYED].plan.decay, gans[DECAYED].plan.warmup) == (denoiser.decay, denoiser.warmup)


def _differ(one: HeardGan | HeardDenoising, other: HeardGan | HeardDenoising) -> set[str]:
    return {name for name, value in one.plan.to_json().items() if value != other.plan.to_json()[name]}


def test_spectral_norm_stands_in_place_of_r1(shared: Shared) -> None:
    """No layer of the discriminator stretches any direction; the generator is as it was."""
    stable, spectral = (grid_task(row(model), shared.grid) for model in (STABLE, SPECTRAL))
    assert isinstance(stable, Adversarial) and isinstance(spectral, Adversarial)
    assert _differ(stable, spectral) == {"r1"} and spectral.plan.r1 == 0
    judge = spectral.network.discriminator
    for _ in range(50):  # each call in training goes on with the power iteration
        judge(torch.zeros(1, 2))
    layers = [layer for layer in judge.modules() if isinstance(layer, nn.Linear)]
    sizes = [float(torch.linalg.matrix_norm(layer.weight.detach(), 2)) for layer in layers]
    assert len(layers) == 4 and sizes == pytest.approx([1.0] * 4, abs=0.02)
    pairs = zip(stable.network.generator.parameters(), spectral.network.generator.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert on_grid(shared, row(SPECTRAL), steps=20)["discriminator_loss"] > 0


def test_a_gan_of_a_row_is_timed_counted_and_heard(shared: Shared) -> None:
    found = on_grid(shared, row(STABLE), steps=20)
    assert found["covered"] <= 1  # ten turns each train next to nothing
    assert {"discriminator_loss", "generator_loss", "width", "kl"} <= found.keys()
    assert 0 < found["draw_seconds"] < found["training_seconds"]
    assert found == {**found, "steps": 20}


def test_a_denoiser_of_a_row_is_timed_counted_and_heard(shared: Shared) -> None:
    found = on_grid(shared, row(DIFFUSION), steps=5)
    assert found["covered"] == 0
    assert found["loss"] > 0.5
    assert {"draw_seconds", "width_even_times"} <= found.keys()
    assert "generator_loss" not in found


def test_even_times_make_modes_too_narrow_though_the_denoiser_is_exact(shared: Shared) -> None:
    """The last of 50 even steps starts at a noise wider than a mode; crowding the steps mends it."""
    found = on_grid(shared, row("exact denoiser"))
    assert found["covered"] == 25
    assert found["width"] == pytest.approx(1, abs=0.06)
    assert found["width_even_times"] < 0.6


def test_levels_crowd_near_the_data() -> None:
    path = digits_task(row(DIFFUSION), prepare(OPTIONS).digits, 1).path  # type: ignore[union-attr]
    times = [float(level.t) for level in levels(path, 10)]
    assert times[0] == path.T and times[-1] == 0
    gaps = [a - b for a, b in pairwise(times)]
    assert gaps == sorted(gaps, reverse=True)


@pytest.mark.parametrize("model", [STABLE, DIFFUSION])
def test_a_row_of_digits_is_measured(shared: Shared, model: str) -> None:
    found = on_digits(shared, row(model), 70, steps=2)
    assert found["frechet"] > 3
    assert 0 <= found["precision"] <= 1 and 0 <= found["recall"] <= 1
    assert len(bytes.fromhex(found["pictures"])) == SHOWN * 256


def test_real_digits_are_nearly_even_and_one_class_is_not(shared: Shared) -> None:
    found = on_digits(shared, row("real"), 1000)
    assert found["kl"] < 0.01 and found["least_share"] > 0.08
    assert found["precision"] > 0.85 and found["recall"] > 0.8
    images = shared.digits.images[:1].expand(100, -1, -1, -1)
    one = judged(to_float(images), shared.yardstick)
    assert one["kl"] == pytest.approx(2.302585, abs=1e-5)
    assert one["recall"] < 0.1


def test_the_recorded_result_has_every_setting() -> None:
    result = recorded("gan-vs-diffusion")
    rows = result["rows"]
    assert [each["settings"] for each in rows] == EXPERIMENT.settings({"seed": 0})
    assert result["options"]["n"] == 1000
    tiny = Dataset("none", torch.zeros(1, 2))
    for each in rows:
        told = each["settings"]
        if told["lr"]:
            make = grid_task if told["data"] == "grid" else digits_task
            assert each["steps"] == make(told, tiny).plan.steps
    assert DRAWN == 2500
