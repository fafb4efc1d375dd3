"""Noise schedules: their formulas, their ends, and what is refused."""

import math

import pytest
import torch

from diffusion_lessons import (
    DiscreteVP,
    cosine_betas,
    linear_betas,
    rescale_zero_terminal_snr,
    scaled_linear_betas,
    sigmoid_betas,
)
from tests.oracles import SCHEDULES


def test_linear_betas_are_those_of_ddpm() -> None:
    betas = linear_betas()
    assert betas.dtype == torch.float64
    assert len(betas) == 1000
    torch.testing.assert_close(betas[[0, 1, -1]], torch.tensor([1e-4, 1e-4 + 0.0199 / 999, 0.02]).double())
    # Ho et al. 2020: almost nothing of the data is left at T, KL about 1e-5 bits a dimension
    assert float((1 - betas).prod()) == pytest.approx(4.0358e-5, rel=1e-4)


def test_scaled_linear_betas_are_even_in_their_roots() -> None:
    roots = scaled_linear_betas().sqrt()
    assert float(roots.diff().std() / roots.diff().mean()) < 1e-9
    torch.testing.assert_close(roots[[0, -1]].square(), torch.tensor([0.00085, 0.012]).double())


def test_cosine_betas_follow_the_formula_and_exactly_one_is_clipped() -> None:
    betas = cosine_betas()
    assert betas.dtype == torch.float64
    assert int((betas == 0.999).sum()) == 1
    assert float(betas[-1]) == 0.999
    t = torch.arange(1000, dtype=torch.float64) / 1000
    expected = (torch.cos((t + 0.008) / 1.008 * math.pi / 2) / math.cos(0.008 / 1.008 * math.pi / 2)) ** 2
    torch.testing.assert_close(DiscreteVP(betas).alphas_cumprod[:-1], expected, rtol=1e-9, atol=0)


def test_sigmoid_betas_follow_the_formula_and_exactly_one_is_clipped() -> None:
    betas = sigmoid_betas(100, start=-3, end=3, tau=0.7)
    assert int((betas == 0.999).sum()) == 1
    t = torch.arange(100, dtype=torch.float64) / 100
    low, high, at = (torch.sigmoid(torch.as_tensor(v).double() / 0.7) for v in (-3, 3, t * 6 - 3))
    expected = (high - at) / (high - low)
    torch.testing.assert_close(DiscreteVP(betas).alphas_cumprod[:-1], expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("T", [1, 2, 10, 1000, 4000])
def test_every_schedule_falls_from_data_to_noise(schedule, T) -> None:
    alphas_cumprod = DiscreteVP(schedule(T)).alphas_cumprod
    assert alphas_cumprod.shape == (T + 1,)
    assert float(alphas_cumprod[0]) == 1.0
    assert bool((alphas_cumprod.diff() < 0).all())
    assert float(alphas_cumprod[-1]) > 0


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("T", [0, -3, 2.5, None])
def test_a_schedule_wants_a_whole_number_of_steps(schedule, T) -> None:
    with pytest.raises(ValueError, match="whole number of steps"):
        schedule(T)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_zero_terminal_snr_ends_at_zero_and_keeps_the_first(schedule) -> None:
    before = schedule()
    copy = before.clone()
    betas = rescale_zero_terminal_snr(before)
    assert torch.equal(before, copy)
    old, new = DiscreteVP(before).alphas_cumprod, DiscreteVP(betas).alphas_cumprod
    assert float(betas[-1]) == 1.0
    assert float(new[-1]) == 0.0
    assert float(new[1]) == pytest.approx(float(old[1]), rel=1e-12)
    torch.testing.assert_close(rescale_zero_terminal_snr(betas), betas, rtol=1e-9, atol=1e-12)
    end = DiscreteVP(betas)(1000)
    assert (float(end.alpha), float(end.sigma), float(end.snr)) == (0.0, 1.0, 0.0)
    assert float(end.log_snr) == -math.inf


@pytest.mark.parametrize(
    ("betas", "words"),
    [
        (torch.zeros(0), r"shape \(T,\)"),
        (torch.full((2, 3), 0.1), r"shape \(T,\)"),
        ([0.1, 0.0, 0.1], r"\(0, 1\]"),
        ([0.1, 1.2], r"\(0, 1\]"),
        ([0.1, math.nan], r"\(0, 1\]"),
        ([0.1, 1.0, 0.2], "only the last"),
    ],
)
def test_bad_betas_are_refused(betas, words) -> None:
    with pytest.raises(ValueError, match=words):
        DiscreteVP(betas)


def test_rescaling_wants_two_betas() -> None:
    with pytest.raises(ValueError, match="at least two"):
        rescale_zero_terminal_snr(torch.tensor([0.1]))


def test_numbers_are_not_rounded_to_float32_on_the_way() -> None:
    assert float(DiscreteVP([0.1]).betas) == 0.1
