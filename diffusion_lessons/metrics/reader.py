"""The reader of scenes: from a picture to the objects it shows. It is the yardstick of text-to-image models.

It learns nothing and knows no model: it looks for regions that differ from the ground, takes the nearest
colour of the palette, and holds each region against all shapes drawn at its place with its area. Where none
fits it says that it cannot tell. Its card, how often it is right, refuses and is wrong, is the recorded
experiment `reader-accuracy`.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from diffusion_lessons.data.captions import SIZES
from diffusion_lessons.data.scenes import SIDE
from diffusion_lessons.data.shapes import COLOURS, SHAPES, coverage

STANDS_OUT = (
    48.0  # distance of a colour from the ground's from which on it is no ground; bytes, root of squares
)
SPECK = 12.0  # area below which a region is dirt and no object, in pixels of a picture of 64
LEAST = 64  # side to which smaller pictures are enlarged, for shapes to have more than a few pixels
SMOOTH = 0.6  # standard deviation of the blur before all else, in the same pixels
FITS = 0.8  # overlap of a region with a shape, from which on it is that shape
CLEARLY = 0.04  # by which the best shape has to overlap more than the second
NEAR = 75.0  # a colour of the palette is meant up to this distance
BETWEEN = (9.4, 10.7)  # radii that are neither small nor large


@dataclass(frozen=True)
class Seen:
    """One object that was read."""

    shape: str
    colour: str
    size: str  # of captions.SIZES
    x: float  # of the centre, in units of scenes.SIDE
    y: float  # downwards


def read_scenes(pictures: Tensor) -> list[tuple[Seen, ...] | None]:
    """What each picture shows, bytes (B, 3, S, S); None where the reader cannot tell.

    Pictures of another kind or shape are a ValueError.
    """
    if pictures.dtype != torch.uint8 or pictures.ndim != 4 or pictures.shape[1] != 3:
        raise ValueError(f"the reader takes uint8 (B, 3, S, S), got {pictures.dtype} {tuple(pictures.shape)}")
    if pictures.shape[2] != pictures.shape[3]:
        raise ValueError(f"the reader takes square pictures, got {tuple(pictures.shape)}")
    drawn = pictures.cpu().float()
    if drawn.shape[-1] < LEAST:
        drawn = F.interpolate(drawn, (LEAST, LEAST), mode="bicubic", antialias=True)
    return [_read(picture) for picture in drawn.numpy()]


def _read(picture: np.ndarray) -> tuple[Seen, ...] | None:
    unit = picture.shape[-1] / SIDE
    smooth = ndimage.gaussian_filter(picture, SMOOTH * unit, axes=(1, 2))
    edge = np.concatenate([smooth[:, 0], smooth[:, -1], smooth[:, :, 0], smooth[:, :, -1]], 1)
    ground = np.median(edge, 1)[:, None, None]
    away = np.linalg.norm(smooth - ground, axis=0)
    regions, number = ndimage.label(away > STANDS_OUT)
    seen = []
    for box, k in zip(ndimage.find_objects(regions), range(1, number + 1), strict=True):
        inside = regions == k
        if inside.sum() < SPECK * unit**2:
            continue
        found = _object(picture, smooth, ground, away, inside, box, unit)
        if found is None:
            return None
        seen.append(found)
    return tuple(seen)


def _object(
    picture: np.ndarray,
    smooth: np.ndarray,
    ground: np.ndarray,
    away: np.ndarray,
    inside: np.ndarray,
    box: tuple[slice, slice],
    unit: float,
) -> Seen | None:
    core = inside & (away >= np.quantile(away[inside], 0.5))
    mean = np.median(smooth[:, core], 1)
    name = _colour(mean)
    if name is None:
        return None
    # the share of each pixel that the object covers: how far it is on the way from ground to object
    way = mean[:, None, None] - ground
    covered = ((smooth - ground) * way).sum(0) / (way**2).sum()
    near = ndimage.binary_dilation(inside, iterations=max(1, round(unit)))
    covered = torch.from_numpy(np.where(near, covered.clip(0, 1), 0).astype(np.float32))
    return _shape(covered, name, unit)


def _colour(mean: np.ndarray) -> str | None:
    apart = np.linalg.norm(_PALETTE - mean, axis=1)
    first, second = np.argsort(apart)[:2]
    certain = apart[first] < NEAR and apart[first] < 0.7 * apart[second]
    return list(COLOURS)[first] if certain else None


def _shape(covered: Tensor, colour: str, unit: float) -> Seen | None:
    size, area = covered.shape[-1], float(covered.sum())
    at = torch.arange(size) + 0.5
    centroid = torch.stack([(covered.sum(0) * at).sum(), (covered.sum(1) * at).sum()]) / area
    radius = (area / _AREA).sqrt()  # (shapes,) with which each shape has this area
    centre = centroid - _OFFSET * radius[:, None]
    drawn = coverage(torch.arange(len(SHAPES)), centre, radius, size)
    overlaps = torch.stack(
        [_overlap(drawn, covered), _overlap((drawn > 0.5).float(), (covered > 0.5).float())]
    )
    (first, second), order = (
        overlaps.topk(2).values.T,
        overlaps.argmax(1),
    )  # soft edges; and hard ones, for blur
    best = order[0]
    r, (x, y) = float(radius[best]) / unit, (centre[best] / unit).tolist()
    fits = first.max() >= FITS and (first - second).max() >= CLEARLY and order[0] == order[1]
    if not fits or BETWEEN[0] < r < BETWEEN[1] or not 6 < r < 16:
        return None
    return Seen(SHAPES[int(best)], colour, SIZES[int(r > BETWEEN[0])], x, y)


def _overlap(shapes: Tensor, region: Tensor) -> Tensor:
    """What each shape (shapes, H, W) and a region (H, W) share of what they cover together."""
    return torch.minimum(shapes, region).sum((1, 2)) / torch.maximum(shapes, region).sum((1, 2))


def _moments() -> tuple[Tensor, Tensor]:
    """Area of each shape, and where its centroid is beside its centre, at radius 1."""
    big = coverage(
        torch.arange(len(SHAPES)), torch.full((len(SHAPES), 2), 64.0), torch.full((len(SHAPES),), 50.0), 128
    )
    area, at = big.sum((1, 2)), torch.arange(128) + 0.5 - 64
    offset = torch.stack([(big.sum(1) * at).sum(1), (big.sum(2) * at).sum(1)], 1) / area[:, None]
    return area / 50**2, offset / 50


_PALETTE = np.array(list(COLOURS.values()), np.float32)
_AREA, _OFFSET = _moments()
