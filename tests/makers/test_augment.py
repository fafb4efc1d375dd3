"""How pictures are changed before a classifier learns from them."""

import pytest
import torch

from diffusion_lessons.makers.augment import blurred, move, spoil


def test_moving_pictures(generator: torch.Generator) -> None:
    x = torch.full((50, 1, 16, 16), -1.0)
    x[:, :, 5:11, 5:11] = 1
    torch.testing.assert_close(move(x, generator, 0, 0, 0), x)
    moved = move(x, generator)
    assert moved.min() >= -1
    assert moved.max() <= 1
    columns = torch.arange(16.0).expand(16, 16) - 7.5
    weights = (moved + 1) / (moved + 1).sum((2, 3), keepdim=True)
    centres = (weights * columns).sum((1, 2, 3))
    assert 0.8 < centres.abs().max() < 1.5  # a 16th of the side is one pixel
    assert centres.unique().numel() > 40


def test_pictures_turn_by_at_most_the_angle(generator: torch.Generator) -> None:
    bar = torch.full((200, 1, 32, 32), -1.0)
    bar[:, :, 14:18, 4:28] = 1
    weights = (move(bar, generator, degrees=10, zoom=0, shift=0) + 1).squeeze(1)  # (B, H, W)
    across, down = torch.meshgrid(torch.arange(32.0) - 15.5, torch.arange(32.0) - 15.5, indexing="xy")
    mixed, wide, high = ((weights * m).sum((1, 2)) for m in (across * down, across**2, down**2))
    angles = torch.rad2deg(0.5 * torch.atan2(2 * mixed, wide - high))
    assert 9 < angles.max() < 10.5
    assert -10.5 < angles.min() < -9


def test_spoilt_pictures_say_by_how_much(generator: torch.Generator) -> None:
    x = torch.zeros(2000, 1, 8, 8)
    x[:, :, 2:6, 2:6] = 0.5
    seen, amounts = spoil(x, generator)
    noise, blur = amounts.T
    clean = (noise == 0) & (blur == 0)
    assert clean.float().mean() == pytest.approx(0.5, abs=0.04)
    assert (blur > 0).float().mean() == pytest.approx(0.25, abs=0.04)
    assert torch.equal(seen[clean], x[clean])
    only_noise = (noise > 0.2) & (blur == 0)
    measured = (seen - x)[only_noise].std((1, 2, 3))
    torch.testing.assert_close(measured, 0.5 * noise[only_noise], rtol=0.35, atol=0.03)


def test_blur_keeps_the_light_and_the_channels_apart() -> None:
    x = torch.full((1, 2, 7, 7), -1.0)
    x[0, 1, 3, 3] = 1
    smooth = blurred(x)
    assert (smooth[0, 0] == -1).all()
    assert smooth[0, 1, 3, 3] == pytest.approx(2 / 4 - 1)
    assert (smooth + 1).sum() == pytest.approx(2)
