"""n points in the plane, float32 (n, 2), for lessons and tests that want to see a whole distribution.

The random numbers come from `generator`; n below 1 is a ValueError.
"""

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor


def moons(n: int, generator: Generator | None = None, noise: float = 0.04) -> Tensor:
    """Two half circles that reach into each other, about within [-1, 1]²; `noise` is the blur's deviation."""
    _check(n)
    angle = math.pi * torch.rand(n, generator=generator)  # (n,)
    lower = torch.rand(n, generator=generator) < 0.5
    x = torch.where(lower, 1 - angle.cos(), angle.cos()) - 0.5
    y = torch.where(lower, 0.5 - angle.sin(), angle.sin()) - 0.25
    return 0.6 * torch.stack([x, 1.2 * y], dim=1) + noise * torch.randn(n, 2, generator=generator)


def swiss_roll(n: int, generator: Generator | None = None, noise: float = 0.02) -> Tensor:
    """A spiral of one and a half turns, evenly covered along the angle, blurred like `moons`."""
    _check(n)
    angle = math.pi * (1.5 + 3 * torch.rand(n, generator=generator))  # (n,)
    spiral = torch.stack([angle.cos(), angle.sin()], dim=1) * angle[:, None] / (4.5 * math.pi)  # (n, 2)
    return 0.95 * spiral + noise * torch.randn(n, 2, generator=generator)


def checkerboard(n: int, generator: Generator | None = None) -> Tensor:
    """The eight dark squares of a board of 4x4, evenly covered, within [-1, 1]²."""
    _check(n)
    column = torch.randint(4, (n,), generator=generator)
    row = 2 * torch.randint(2, (n,), generator=generator) + column % 2
    corner = torch.stack([column, row], dim=1)  # (n, 2), in squares
    return (corner + torch.rand(n, 2, generator=generator)) / 2 - 1


def ring(n: int, generator: Generator | None = None, noise: float = 0.06) -> Tensor:
    """Eight Gaussians of standard deviation `noise`, centred on a circle of radius 0.8."""
    _check(n)
    angle = torch.randint(8, (n,), generator=generator) * (math.pi / 4)  # (n,)
    centre = 0.8 * torch.stack([angle.cos(), angle.sin()], dim=1)  # (n, 2)
    return centre + noise * torch.randn(n, 2, generator=generator)


Draw = Callable[[int, Generator | None], Tensor]
TOYS: dict[str, Draw] = dict(moons=moons, swiss_roll=swiss_roll, checkerboard=checkerboard, ring=ring)


def _check(n: int) -> None:
    if not isinstance(n, int) or n < 1:
        raise ValueError(f"n must be a whole number of points, at least 1; got {n!r}")
