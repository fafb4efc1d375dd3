"""Inputs that many exercises need, drawn from the generator of their case."""

import torch
from torch import Tensor

from diffusion_lessons.conditions import Condition
from diffusion_lessons.denoiser import Denoiser
from diffusion_lessons.paths import Level
from diffusion_lessons.targets import Estimate


def blobs(generator: torch.Generator, *shape: int) -> Tensor:
    """(..., H, W) smooth pictures in [-1, 1]: in a verdict's small pictures one sees what went wrong."""
    *batch, height, width = shape
    rows = torch.linspace(-1, 1, height).view(-1, 1)
    columns = torch.linspace(-1, 1, width)
    centre = torch.rand(*batch, 2, 1, 1, generator=generator) - 0.5
    distance = (rows - centre[..., 0, :, :]) ** 2 + (columns - centre[..., 1, :, :]) ** 2
    return 2 * torch.exp(-4 * distance) - 1


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    """Numbers from N(0, 1), float32."""
    return torch.randn(*shape, generator=generator)


def gaussian(mean: float, spread: float) -> Denoiser:
    """The exact denoiser of pictures whose pixels are N(mean, spread²), each for itself; none at t = 0."""

    def denoise(x: Tensor, level: Level, condition: Condition = None) -> Estimate:
        alpha, sigma = level.like(x)
        gain = alpha * spread**2 / (alpha**2 * spread**2 + sigma**2)
        return Estimate.from_x0(mean + gain * (x - alpha * mean), x, level)

    return denoise
