"""Pictures to train a classifier on: each is moved a little, and half of them are spoilt by noise or blur."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def move(
    x: Tensor, generator: torch.Generator, degrees: float = 10.0, zoom: float = 0.1, shift: float = 1 / 16
) -> Tensor:
    """Pictures (B, C, H, W) in [−1, 1], each turned, scaled and shifted at random; outside is black.

    The degrees, the zoom and the shift, a share of the side, are the largest. The generator is on x's device.
    """
    turn, grow, *shifts = (2 * _uniform(x, generator) - 1).unbind()  # (B,) each, in ±1
    angle, scale = turn * math.radians(degrees), 1 + zoom * grow
    cos, sin = scale * angle.cos(), scale * angle.sin()
    right, down = (2 * shift * s for s in shifts)  # a picture is 2 wide to affine_grid
    matrix = torch.stack([cos, -sin, right, sin, cos, down], 1).unflatten(1, (2, 3))  # (B, 2, 3)
    grid = F.affine_grid(matrix, list(x.shape), align_corners=False)
    return F.grid_sample(x + 1, grid, align_corners=False) - 1


def spoil(x: Tensor, generator: torch.Generator, noise: float = 0.5) -> tuple[Tensor, Tensor]:
    """Pictures (B, C, H, W) in [−1, 1], half of them noisy and half of those blurred too, and by how much.

    That is (B, 2): noise and blur of each, from 0 to 1; `noise` is the largest standard deviation. The
    generator is on the device of x.
    """
    spoilt, blurry, *amounts = _uniform(x, generator)  # (B,) each
    some = spoilt < 0.5
    grain, blur = amounts[0] * some, amounts[1] * (some & (blurry < 0.5))
    x = torch.lerp(x, blurred(blurred(x)), blur.view(-1, 1, 1, 1))
    grains = torch.randn(x.shape, generator=generator, device=x.device)
    x = (x + noise * grain.view(-1, 1, 1, 1) * grains).clamp(-1, 1)
    return x, torch.stack([grain, blur], 1)


def blurred(x: Tensor) -> Tensor:
    """Pictures (B, C, H, W) smoothed by weights 1, 2, 1 in both directions; outside is black."""
    weights = torch.tensor([1.0, 2.0, 1.0], device=x.device) / 4
    kernel = torch.outer(weights, weights).expand(x.shape[1], 1, 3, 3)
    return F.conv2d(x + 1, kernel, padding=1, groups=x.shape[1]) - 1


def _uniform(x: Tensor, generator: torch.Generator) -> Tensor:
    """Four numbers in [0, 1) for each picture: (4, B)."""
    return torch.rand(4, len(x), generator=generator, device=x.device)
