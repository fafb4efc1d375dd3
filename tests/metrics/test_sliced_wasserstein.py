import math

import pytest
import torch
from scipy.stats import wasserstein_distance

from diffusion_lessons.metrics import sliced_wasserstein


@pytest.mark.parametrize(("n", "m"), [(100, 100), (100, 70), (7, 100), (1, 5)])
def test_agrees_with_scipy_in_one_dimension(n: int, m: int, generator: torch.Generator) -> None:
    a = torch.randn(n, 1, dtype=torch.float64, generator=generator)
    b = torch.randn(m, 1, dtype=torch.float64, generator=generator) * 2 + 1
    expected = wasserstein_distance(a[:, 0].numpy(), b[:, 0].numpy())
    assert sliced_wasserstein(a, b, p=1) == pytest.approx(expected, rel=1e-10)


def test_repeating_every_sample_changes_nothing(generator: torch.Generator) -> None:
    a, b = torch.randn(2, 30, 3, dtype=torch.float64, generator=generator)
    assert sliced_wasserstein(a.repeat(3, 1), b.repeat(2, 1)) == pytest.approx(
        sliced_wasserstein(a, b), rel=1e-10
    )


def test_a_shift_in_closed_form(generator: torch.Generator) -> None:
    """|δ|/√D for p = 2, within the spread over directions."""
    a = torch.randn(50, 10, dtype=torch.float64, generator=generator)
    shift = torch.randn(10, dtype=torch.float64, generator=generator)
    found = sliced_wasserstein(a, a + shift, projections=20_000, generator=generator)
    assert found == pytest.approx(shift.norm().item() / math.sqrt(10), rel=0.02)


def test_scaled_gaussians_in_closed_form(generator: torch.Generator) -> None:
    """N(0, 1) and N(0, c²) are |c − 1| apart along every direction."""
    a, b = torch.randn(2, 6_000, 5, dtype=torch.float64, generator=generator)
    assert sliced_wasserstein(a, 3 * b, projections=64) == pytest.approx(2, rel=0.03)


def test_pictures_are_flattened_and_order_does_not_matter(generator: torch.Generator) -> None:
    a, b = torch.randn(2, 20, 1, 4, 4, generator=generator)
    d = sliced_wasserstein(a, b)
    assert d == pytest.approx(sliced_wasserstein(a.flatten(1), b.flatten(1)), rel=1e-12)
    assert d == pytest.approx(sliced_wasserstein(b, a.flip(0)), rel=1e-12)
    assert sliced_wasserstein(a, a.flip(0)) == 0


def test_directions_come_from_the_generator(generator: torch.Generator) -> None:
    a, b = torch.randn(2, 20, 3, generator=generator)
    assert sliced_wasserstein(a, b) == sliced_wasserstein(a, b)
    assert sliced_wasserstein(a, b, 8, generator=generator) != sliced_wasserstein(
        a, b, 8, generator=generator
    )


def test_bad_input_is_refused() -> None:
    points = torch.zeros(5, 2)
    for bad, message in [
        ({"projections": 0}, "projections ≥ 1"),
        ({"p": 0.5}, "p ≥ 1"),
        ({"p": float("nan")}, "p ≥ 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            sliced_wasserstein(points, points, **bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"\(N, ...\)"):
        sliced_wasserstein(torch.zeros(5), points)
    with pytest.raises(ValueError, match="got 2 and 3"):
        sliced_wasserstein(points, torch.zeros(5, 3))
    with pytest.raises(ValueError, match="n = 0"):
        sliced_wasserstein(points, torch.zeros(0, 2))
    with pytest.raises(ValueError, match="finite"):
        sliced_wasserstein(points, torch.full((5, 2), float("nan")))
