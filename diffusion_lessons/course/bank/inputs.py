"""Inputs that many exercises need, drawn from the generator of their case."""

import torch
from torch import Tensor


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
