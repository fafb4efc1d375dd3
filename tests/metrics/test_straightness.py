"""Straightness: 0 for lines, known for a Gaussian, and the figure of a paper's formula done by hand."""

import math

import pytest
import torch
from torch import Tensor

from diffusion_lessons import DiscreteVP, Estimate, GaussianMixture, OnPath, StraightPath, cosine_betas
from diffusion_lessons.metrics import straightness
from tests.oracles import TrueX0, randn

PATH = StraightPath()


def test_ways_to_one_point_are_straight() -> None:
    denoiser = TrueX0(randn(3, 2))
    assert straightness(denoiser, randn(3, 2, seed=1), PATH.levels(50)).tolist() == pytest.approx([0] * 3)


@pytest.mark.parametrize("std", [0.2, 0.5, 2.0])
def test_a_gaussian_is_known_in_closed_form(std: float) -> None:
    """Of N(0, s²) each way is x₁·√((1 − t)²s² + t²): its mean squared slope, less that of its chord."""
    x = torch.tensor([[1.0, -2.0]], dtype=torch.float64)
    gaussian = GaussianMixture(torch.zeros(1, 2, dtype=torch.float64), std)
    t = (torch.arange(200_000) + 0.5).double() / 200_000
    scale = ((1 - t) ** 2 * std**2 + t**2).sqrt()
    slope = (t - (1 - t) * std**2) / scale
    expected = 5 * float((slope**2).mean() - (1 - std) ** 2)
    found = straightness(gaussian, x, PATH.levels(4000))
    assert found.tolist() == pytest.approx([expected], rel=2e-3)


def test_every_entry_counts_and_every_sample_has_its_own() -> None:
    def bent(x: Tensor, level, condition: Tensor) -> Estimate:
        """Slope +c in the first half of the way and −c in the second: c² in each entry."""
        return Estimate.from_x0(x - level.t * (2 * (level.t > 0.5) - 1) * condition, x, level)

    c = torch.tensor([0.0, 1.0, 3.0], dtype=torch.float64).view(3, 1, 1)
    found = straightness(bent, torch.zeros(3, 2, 2, dtype=torch.float64), PATH.levels(10), c)
    assert found.tolist() == pytest.approx([0, 4, 36])


def test_a_single_step_is_straight_whatever_the_flow() -> None:
    clusters = GaussianMixture([[-1.0, 0.0], [1.0, 0.0]], 0.2)
    x = randn(10, 2).float()
    assert float(straightness(clusters, x, PATH.levels(1)).max()) < 1e-10
    assert float(straightness(clusters, x, PATH.levels(50)).min()) > 1e-3


def test_another_path_is_refused_and_comes_onto_this_one() -> None:
    clusters, cosine = GaussianMixture([[-1.0, 0.0], [1.0, 0.0]], 0.2), DiscreteVP(cosine_betas())
    with pytest.raises(ValueError, match=r"put the denoiser on it, OnPath"):
        straightness(clusters, randn(4, 2).float(), cosine.levels(20))
    own = straightness(clusters, randn(4, 2).float(), PATH.levels(20))
    moved = straightness(OnPath(clusters, cosine), randn(4, 2).float(), PATH.levels(20))
    assert torch.allclose(own, moved, atol=1e-4)
    assert math.isfinite(float(own.sum()))
