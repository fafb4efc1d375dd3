"""The comparison on MNIST: equal means for both, and what a row holds. It needs no MNIST."""

import pytest
import torch

from diffusion_lessons import zoo
from diffusion_lessons.data import Dataset
from diffusion_lessons.experiments import find, recorded
from diffusion_lessons.experiments.gan_on_mnist import EXPERIMENT, STEPS, Shared, measure, task_of
from diffusion_lessons.experiments.gan_vs_diffusion import DIFFUSION, DIGITS, SHOWN, STABLE, HeardGan
from diffusion_lessons.networks.gan import Gan

OPTIONS = {"model": "mnist-unet", "n": 70, "seed": 0, "device": "cpu"}


@pytest.fixture(scope="module")
def shared() -> Shared:
    """Noise in place of digits: as many rows as the real pictures that a row is held against."""
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (100, 1, 32, 32), generator=random, dtype=torch.uint8)
    return Shared(Dataset("mnist", images), zoo.yardstick("mnist"), torch.device("cpu"))


def test_real_pictures_and_both_models_have_a_row_at_the_rates_of_digits() -> None:
    assert find("gan-on-mnist") is EXPERIMENT
    rows = EXPERIMENT.settings({"seed": 3})
    assert [row["model"] for row in rows] == ["real", *[STABLE, DIFFUSION] * 3]
    assert all(row["lr"] == DIGITS[row["model"]] for row in rows[1:])
    assert [row["seed"] for row in rows] == [3, 3, 3, 4, 4, 5, 5]


def test_generator_and_denoiser_have_about_as_many_parameters(shared: Shared) -> None:
    gan, denoiser = (
        task_of({"model": model, "lr": 1e-3, "seed": 0}, shared.mnist).network for model in DIGITS
    )
    assert isinstance(gan, Gan)
    sizes = [sum(p.numel() for p in network.parameters()) for network in (gan.generator, denoiser)]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.05)


def test_the_gan_has_its_stabilisers_and_both_see_batches_of_one_size(shared: Shared) -> None:
    gan, denoiser = (task_of({"model": model, "lr": 1e-3, "seed": 0}, shared.mnist) for model in DIGITS)
    assert isinstance(gan, HeardGan)
    assert gan.plan.r1 > 0 and gan.plan.ema_decay > 0.9
    assert gan.plan.batch == denoiser.plan.batch
    assert (gan.plan.steps, denoiser.plan.steps) == (STEPS[STABLE], STEPS[DIFFUSION])


def test_a_seed_decides_the_first_weights(shared: Shared) -> None:
    first, again, other = (
        task_of({"model": STABLE, "lr": 1e-3, "seed": seed}, shared.mnist).network for seed in (0, 0, 1)
    )
    pairs = list(zip(first.parameters(), again.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert any(not torch.equal(a, c) for a, _, c in pairs)


@pytest.mark.parametrize("model", ["real", STABLE, DIFFUSION])
def test_a_row_is_measured(shared: Shared, model: str) -> None:
    row = next(row for row in EXPERIMENT.settings(OPTIONS) if row["model"] == model)
    found = measure(shared, row, OPTIONS, steps=2)
    assert found["frechet"] > 3  # neither noise nor what two steps teach is near a digit
    assert 0 <= found["precision"] <= 1 and 0 <= found["recall"] <= 1
    if model != "real":
        assert found["steps"] == 2
        assert len(bytes.fromhex(found["pictures"])) == SHOWN * 1024
        assert "pictures" not in measure(shared, {**row, "seed": 1}, OPTIONS, steps=2)


def test_the_recorded_result_has_every_setting_and_equal_times() -> None:
    result = recorded("gan-on-mnist")
    assert [row["settings"] for row in result["rows"]] == EXPERIMENT.settings({"seed": 0})
    assert result["options"]["n"] == 1000
    spent: dict[str, list[float]] = {STABLE: [], DIFFUSION: []}
    for row in result["rows"]:
        model = row["settings"]["model"]
        if model != "real":
            assert row["steps"] == STEPS[model]
            spent[model].append(row["training_seconds"])
    gan, denoiser = (sum(each) / len(each) for each in spent.values())
    assert denoiser == pytest.approx(gan, rel=0.05)
