"""The comparison on MNIST: equal means for both, and what a row holds. It needs no MNIST."""

import pytest
import torch

from diffusion_lessons import zoo
from diffusion_lessons.data import Dataset
from diffusion_lessons.experiments import find
from diffusion_lessons.experiments.gan_on_mnist import EXPERIMENT, STEPS, Shared, measure, task_of
from diffusion_lessons.experiments.gan_vs_diffusion import DIFFUSION, SHOWN, STABLE
from diffusion_lessons.networks.gan import Gan

OPTIONS = {"n": 70, "seed": 0, "device": "cpu"}


@pytest.fixture(scope="module")
def shared() -> Shared:
    """Noise in place of digits: as many rows as the real pictures that a row is held against."""
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (100, 1, 32, 32), generator=random, dtype=torch.uint8)
    return Shared(Dataset("mnist", images), zoo.yardstick("mnist"), torch.device("cpu"))


def test_real_pictures_and_both_models_have_a_row() -> None:
    assert find("gan-on-mnist") is EXPERIMENT
    rows = EXPERIMENT.settings({"seed": 3})
    assert [row["model"] for row in rows] == ["real", STABLE, DIFFUSION]
    assert {row["seed"] for row in rows} == {3}


def test_generator_and_denoiser_have_about_as_many_parameters(shared: Shared) -> None:
    rows = EXPERIMENT.settings(OPTIONS)
    gan, denoiser = (task_of(row, shared.mnist).network for row in rows[1:])
    assert isinstance(gan, Gan)
    sizes = [sum(p.numel() for p in network.parameters()) for network in (gan.generator, denoiser)]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.05)
    assert [task_of(row, shared.mnist).plan.steps for row in rows[1:]] == [STEPS[STABLE], STEPS[DIFFUSION]]


@pytest.mark.parametrize("model", ["real", STABLE, DIFFUSION])
def test_a_row_is_measured(shared: Shared, model: str) -> None:
    row = next(row for row in EXPERIMENT.settings(OPTIONS) if row["model"] == model)
    found = measure(shared, row, OPTIONS, steps=2)
    assert found["frechet"] > 3  # neither noise nor what two steps teach is near a digit
    assert 0 <= found["precision"] <= 1 and 0 <= found["recall"] <= 1
    if model != "real":
        assert found["steps"] == 2
        assert len(bytes.fromhex(found["pictures"])) == SHOWN * 1024
