"""Interpolation of noise: on the arc, the length stays; on the line between, it does not."""

import math

import pytest
import torch

from diffusion_lessons import slerp
from tests.oracles import randn

WEIGHTS = (0.0, 0.1, 0.25, 0.5, 0.8, 1.0)


def test_the_ends_are_the_two_noises() -> None:
    a, b = randn(3, 1, 4, 4, seed=1), randn(3, 1, 4, 4, seed=2)
    torch.testing.assert_close(slerp(a, b, 0.0), a)
    torch.testing.assert_close(slerp(a, b, 1.0), b)


@pytest.mark.parametrize("weight", WEIGHTS)
def test_it_moves_at_an_even_pace_around_the_circle(weight) -> None:
    """Between two unit vectors at an angle: from one to the other, and never off the circle."""
    for angle in (0.3, math.pi / 2, 3.0):
        a = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
        b = torch.tensor([[math.cos(angle), math.sin(angle)]], dtype=torch.float64)
        expected = torch.tensor([[math.cos(weight * angle), math.sin(weight * angle)]], dtype=torch.float64)
        torch.testing.assert_close(slerp(a, b, weight), expected)


@pytest.mark.parametrize("weight", WEIGHTS)
def test_noise_keeps_its_spread_and_a_straight_line_loses_it(weight) -> None:
    a, b = randn(8, 3, 64, 64, seed=1), randn(8, 3, 64, 64, seed=2)
    assert float(slerp(a, b, weight).std()) == pytest.approx(1, abs=0.01)
    line = float(torch.lerp(a, b, weight).std())
    assert line == pytest.approx(math.sqrt(weight**2 + (1 - weight) ** 2), abs=0.01)  # 0.71 in the middle


def test_each_sample_has_an_angle_and_may_have_a_weight_of_its_own() -> None:
    a, b, weights = randn(4, 2, 5, seed=1), randn(4, 2, 5, seed=2), torch.tensor([0.0, 0.3, 0.5, 1.0])
    together = slerp(a, b, weights)
    for i, weight in enumerate(weights.tolist()):
        torch.testing.assert_close(together[i : i + 1], slerp(a[i : i + 1], b[i : i + 1], weight))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_same_noise_twice_is_that_noise(dtype) -> None:
    """As a formula it is 0/0."""
    a = randn(3, 8, dtype=dtype)
    for other in (a, 2 * a, a * (1 + 1e-7)):
        torch.testing.assert_close(slerp(a, other, 0.5), (a + other) / 2)


def test_nothing_is_changed_and_the_dtype_stays() -> None:
    a, b = randn(2, 5, seed=1).float(), randn(2, 5, seed=2).float()
    before = a.clone(), b.clone()
    assert slerp(a, b, torch.tensor(0.3, dtype=torch.float64)).dtype == torch.float32
    assert torch.equal(a, before[0])
    assert torch.equal(b, before[1])


def test_opposite_noises_and_other_shapes_are_refused() -> None:
    a = randn(2, 5)
    with pytest.raises(ValueError, match="opposite directions"):
        slerp(a, -a, 0.5)
    with pytest.raises(ValueError, match=r"a and b must have the same shape"):
        slerp(a, randn(2, 6), 0.5)


@pytest.mark.gpu
def test_slerp_is_the_same_on_a_gpu() -> None:
    a, b = randn(2, 5, seed=1).float(), randn(2, 5, seed=2).float()
    torch.testing.assert_close(slerp(a.cuda(), b.cuda(), 0.3).cpu(), slerp(a, b, 0.3))
