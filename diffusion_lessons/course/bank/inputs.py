"""Inputs that many exercises need, drawn from the generator of their case.

Another seed gives other numbers: not only other pictures, but other times, steps, rates and schedules.
"""

import torch
from torch import Tensor

from diffusion_lessons.conditions import Condition
from diffusion_lessons.denoiser import Denoiser
from diffusion_lessons.paths import Level
from diffusion_lessons.schedules import cosine_betas, linear_betas
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


def data(generator: torch.Generator, *shape: int) -> Tensor:
    """(B, C, H, W) pictures, or (B, …) points, which lie beyond ±1 as well: there a clamp shows."""
    return blobs(generator, *shape) if len(shape) > 2 else normal(generator, *shape)


def number(generator: torch.Generator, low: float, high: float) -> float:
    """A number between two bounds, in three digits: a verdict prints it."""
    drawn = low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))
    return float(f"{drawn:.3g}")


def whole(generator: torch.Generator, low: int, high: int) -> int:
    """A whole number from low to high, both included."""
    return int(torch.randint(low, high + 1, (), generator=generator))


def several(generator: torch.Generator, n: int, low: int, high: int) -> list[int]:
    """n different whole numbers from low to high, in no order."""
    return (torch.randperm(high - low + 1, generator=generator)[:n] + low).tolist()


def falling(generator: torch.Generator, n: int, low: int, high: int, apart: int = 1) -> list[int]:
    """n falling whole numbers from high to low, neighbours at least so far apart."""
    drawn = several(generator, n, low, high - (n - 1) * (apart - 1))
    return [t + (apart - 1) * (n - 1 - i) for i, t in enumerate(sorted(drawn, reverse=True))]


def linear(generator: torch.Generator, T: int = 1000) -> Tensor:
    """β (T,) of a linear schedule with ends of its own; a short chain takes larger steps."""
    return linear_betas(T, 1e-4 * 1000 / T, number(generator, 0.015, 0.025) * min(1000 / T, 25))


def cosine(generator: torch.Generator, T: int = 1000) -> Tensor:
    """β (T,) of a cosine schedule with an offset of its own."""
    return cosine_betas(T, number(generator, 0.005, 0.02))


def gaussian(mean: float, spread: float) -> Denoiser:
    """The exact denoiser of pictures whose pixels are N(mean, spread²), each for itself; none at t = 0."""

    def denoise(x: Tensor, level: Level, condition: Condition = None) -> Estimate:
        alpha, sigma = level.like(x)
        gain = alpha * spread**2 / (alpha**2 * spread**2 + sigma**2)
        return Estimate.from_x0(mean + gain * (x - alpha * mean), x, level)

    return denoise
