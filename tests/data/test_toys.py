import pytest
import torch

from diffusion_lessons.data.toys import TOYS, checkerboard, moons, ring, swiss_roll


@pytest.mark.parametrize("name", TOYS)
def test_points_are_reproducible_and_of_unit_scale(name: str) -> None:
    draw = TOYS[name]
    x = draw(2000, torch.Generator().manual_seed(1))
    assert x.shape == (2000, 2)
    assert x.dtype == torch.float32
    assert 0.85 < x.abs().amax() < 1.2
    assert x.mean(0).abs().amax() < 0.2
    assert torch.equal(x, draw(2000, torch.Generator().manual_seed(1)))
    assert not torch.equal(x, draw(2000, torch.Generator().manual_seed(2)))


@pytest.mark.parametrize("name", TOYS)
@pytest.mark.parametrize("n", [0, -3, 2.0])
def test_bad_counts_are_refused(name: str, n: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        TOYS[name](n, None)


def test_the_global_generator_is_left_alone_where_one_is_given() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    for draw in TOYS.values():
        draw(10, torch.Generator())
    assert torch.equal(torch.rand(3), expected)


def test_checkerboard_has_eight_even_squares(generator: torch.Generator) -> None:
    x = checkerboard(8000, generator)
    assert x.min() >= -1
    assert x.max() <= 1
    square = ((x + 1) * 2).long().clamp(max=3)  # (N, 2)
    assert (square.sum(1) % 2 == 0).all()
    counts = (square[:, 0] * 4 + square[:, 1]).bincount(minlength=16)
    assert counts[counts > 0].tolist() == pytest.approx([1000] * 8, abs=120)


def test_ring_has_eight_gaussians(generator: torch.Generator) -> None:
    x = ring(8000, generator, noise=0.05)
    sector = (torch.atan2(x[:, 1], x[:, 0]) / (torch.pi / 4)).round().long() % 8
    assert sector.bincount().tolist() == pytest.approx([1000] * 8, abs=120)
    first = x[sector == 2]
    assert first.mean(0).tolist() == pytest.approx([0, 0.8], abs=0.01)
    assert first.std(0).tolist() == pytest.approx([0.05, 0.05], rel=0.1)


def test_without_noise_points_lie_on_the_curves(generator: torch.Generator) -> None:
    x = moons(500, generator, noise=0) / 0.6
    x = torch.stack([x[:, 0] + 0.5, x[:, 1] / 1.2 + 0.25], 1)
    upper = (x.square().sum(1) - 1).abs() < 1e-4
    lower = ((x - torch.tensor([1, 0.5])).square().sum(1) - 1).abs() < 1e-4
    assert (upper | lower).all()
    assert 200 < upper.sum() < 300
    roll = swiss_roll(500, generator, noise=0)
    assert roll.norm(dim=1).amin() == pytest.approx(0.95 / 3, abs=0.02)
    assert roll.norm(dim=1).amax() == pytest.approx(0.95, abs=0.02)
