"""Modes counted: real samples have all, a blur has none, and a width is what it is."""

import math

import pytest
import torch
from torch import Tensor

from diffusion_lessons.metrics import count_modes

SIDE = torch.tensor([-2.0, -1, 0, 1, 2])
CENTRES, STD = torch.cartesian_prod(SIDE, SIDE), 0.05


def real(n: int = 2500, modes: int = 25, std: float = STD, seed: int = 0) -> Tensor:
    """n samples, evenly of the first so many modes."""
    random = torch.Generator().manual_seed(seed)
    return CENTRES[torch.arange(n) % modes] + std * torch.randn(n, 2, generator=random)


def test_real_samples_have_every_mode_evenly_and_as_wide() -> None:
    found = count_modes(real(20_000), CENTRES, STD)
    assert (found.covered, len(found.shares)) == (25, 25)
    assert found.good == pytest.approx(1 - math.exp(-4.5), abs=3e-3)  # within 3 deviations in a plane
    assert found.kl < 1e-3
    assert found.width == pytest.approx(1, abs=0.02)
    assert sum(found.shares) / 25 == pytest.approx(found.good)


@pytest.mark.parametrize("factor", [0.1, 0.5])
def test_narrow_modes_are_told(factor: float) -> None:
    assert count_modes(real(std=factor * STD), CENTRES, STD).width == pytest.approx(factor, rel=0.03)


def test_a_blur_covers_no_mode_though_some_samples_hit() -> None:
    random = torch.Generator().manual_seed(0)
    blur = 5 * torch.rand(2500, 2, generator=random) - 2.5
    found = count_modes(blur, CENTRES, STD)
    assert sum(share > 0 for share in found.shares) > 20  # by one hit each, most would count
    assert found.covered == 0
    assert found.good == pytest.approx(25 * math.pi * 0.15**2 / 25, abs=0.02)


def test_lost_modes_show_in_count_and_kl() -> None:
    found = count_modes(real(modes=5), CENTRES, STD)
    assert found.covered == 5
    assert found.kl == pytest.approx(math.log(5), abs=1e-6)
    one = count_modes(real(modes=1), CENTRES, STD)
    assert (one.covered, one.kl) == (1, pytest.approx(math.log(25)))


def test_a_mode_counts_from_a_fifth_of_its_share() -> None:
    few = torch.cat([CENTRES.repeat(100, 1), CENTRES[:1].repeat(0, 1)])
    for hits, covered in ((20, 25), (19, 24)):
        x = torch.cat([few[few.ne(CENTRES[0]).any(1)], CENTRES[:1].repeat(hits, 1)])
        x = torch.cat([x, CENTRES[1:2].repeat(2500 - len(x), 1)])
        assert count_modes(x, CENTRES, STD).covered == covered


def test_none_near_gives_no_width_and_no_error() -> None:
    found = count_modes(CENTRES[:3] + 0.4, CENTRES, STD)
    assert (found.covered, found.good) == (0, 0.0)
    assert math.isnan(found.width)


def test_what_cannot_be_counted_is_refused() -> None:
    with pytest.raises(ValueError, match="std above 0"):
        count_modes(real(), CENTRES, 0.0)
    with pytest.raises(ValueError, match="counted in a plane"):
        count_modes(torch.zeros(4, 3), torch.zeros(2, 3), STD)
    with pytest.raises(ValueError, match="finite"):
        count_modes(torch.full((4, 2), math.nan), CENTRES, STD)
    with pytest.raises(ValueError, match="same number of features"):
        count_modes(torch.zeros(4, 3), CENTRES, STD)
