"""Flat shapes with smooth edges, as tensors: the paint of `scenes`.

A pixel at the edge is covered by the share that the signed distance of its centre gives.
"""

from collections.abc import Callable

import torch
from torch import Tensor

COLOURS = {
    "red": (215, 35, 40),
    "orange": (240, 110, 0),
    "yellow": (235, 195, 0),
    "green": (45, 155, 65),
    "cyan": (60, 195, 225),
    "blue": (35, 70, 200),
    "purple": (145, 50, 165),
    "black": (25, 25, 25),
}
RADII = (8.0, 12.5)  # of small and large shapes, in a picture of 64 px
REACH = 1.1  # no shape reaches further from its centre, to either side, than this many radii

Distance = Callable[[Tensor, Tensor, Tensor], Tensor]  # of (x, y) from a shape of radius r, negative inside


def _circle(x: Tensor, y: Tensor, r: Tensor) -> Tensor:
    return torch.hypot(x, y) - r


def _square(x: Tensor, y: Tensor, r: Tensor) -> Tensor:
    return torch.maximum(x.abs(), y.abs()) - 0.886 * r  # of the circle's area


def _triangle(x: Tensor, y: Tensor, r: Tensor) -> Tensor:
    """Equilateral, pointing up, 1.9 r high; the centre is that of the box around it."""
    half = 0.95 * r
    side = 0.866 * x.abs() - 0.5 * (y + half)  # the slanted sides; y grows downwards
    return torch.maximum(side, y - half)


def _cross(x: Tensor, y: Tensor, r: Tensor) -> Tensor:
    long, short = torch.maximum(x.abs(), y.abs()), torch.minimum(x.abs(), y.abs())
    return torch.maximum(long - r, short - 0.36 * r)


_DISTANCES: dict[str, Distance] = dict(circle=_circle, square=_square, triangle=_triangle, cross=_cross)
SHAPES = tuple(_DISTANCES)


def coverage(shape: Tensor, centre: Tensor, radius: Tensor, size: int) -> Tensor:
    """The share of each pixel that a shape covers, float32 (..., size, size), 0 to 1.

    shape (...,) is an index of SHAPES; centre (..., 2) x and y, and radius (...,), in pixels.
    """
    flat, centre, radius = shape.flatten(), centre.reshape(-1, 2, 1, 1), radius.reshape(-1, 1, 1)
    at = torch.arange(size) + 0.5
    covered = torch.empty(len(flat), size, size)
    for kind, distance in enumerate(_DISTANCES.values()):
        mine = (flat == kind).nonzero()[:, 0]
        x, y = at - centre[mine, 0], at[:, None] - centre[mine, 1]  # (n, 1, size), (n, size, 1)
        covered[mine] = (0.5 - distance(x, y, radius[mine])).clamp(0, 1)
    return covered.view(*shape.shape, size, size)


def painted(covered: Tensor, colour: Tensor, ground: Tensor) -> Tensor:
    """Pictures uint8 (B, 3, H, W): shapes (B, K, H, W) in colours (B, K), the last on top, on greys (B,)."""
    paint = torch.tensor(list(COLOURS.values()), dtype=torch.float32)[colour]  # (B, K, 3)
    picture = ground.float()[:, None, None, None].expand(-1, 3, *covered.shape[-2:])
    for k in range(covered.shape[1]):
        picture = torch.lerp(picture, paint[:, k, :, None, None], covered[:, k, None])
    return picture.round().to(torch.uint8)
