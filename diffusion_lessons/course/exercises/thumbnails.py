"""Small pictures of a verdict: what was given, what was expected, and where they differ."""

import io

import numpy as np
from PIL import Image

from diffusion_lessons.course.exercises.values import Array, Plain, number
from diffusion_lessons.course.exercises.verdict import Thumbnail

SMALLEST, LARGEST = 4, 128  # height and width that say something, and that stay small in the page


def thumbnails(expected: Plain, given: Plain, at: tuple[int, ...]) -> tuple[Thumbnail, ...]:
    """Yours, expected and their difference as PNG, or nothing where the values are no pictures.

    Both are (C, H, W), (B, H, W) or (B, C, H, W); the picture shown is that of `at`, the largest difference.
    """
    mine, theirs = _plane(expected, at), _plane(given, at)
    if mine is None or theirs is None or mine.shape != theirs.shape:
        return ()
    low, high = float(mine.min()), float(mine.max())
    if not np.isfinite([low, high]).all() or low == high:
        return ()
    gap = np.abs(np.nan_to_num(theirs, nan=high, posinf=high, neginf=low) - mine)
    scale = f"black is {number(low)} or less, white {number(high)} or more"
    top = float(gap.max())
    return (
        _drawn("yours", theirs, low, high, f"Your result as a picture; {scale}."),
        _drawn("expected", mine, low, high, f"The expected result as a picture; {scale}."),
        _drawn("difference", gap, 0, top or 1, f"Their difference; black is none, white is {number(top)}."),
    )


def _plane(value: Plain, at: tuple[int, ...]) -> np.ndarray | None:
    """(H, W) or (H, W, 3) of the one picture to show."""
    if not isinstance(value, Array) or value.data is None or value.data.ndim not in (3, 4):
        return None
    data, sides = value.data, value.data.shape[-2:]
    if data.dtype.kind not in "fiub" or not SMALLEST <= min(sides) <= max(sides) <= LARGEST:
        return None
    if data.ndim == 4:
        data = data[at[0]]
    elif data.shape[0] not in (1, 3):
        data = data[at[0]][None]  # (B, H, W)
    if len(data) == 3:
        return data.transpose(1, 2, 0).astype(np.float64)
    return data[at[-3] if len(data) > 1 else 0].astype(np.float64)


def _drawn(label: str, plane: np.ndarray, low: float, high: float, alt: str) -> Thumbnail:
    clean = np.nan_to_num(plane, nan=high, posinf=high, neginf=low)
    grey = ((clean - low) / (high - low)).clip(0, 1)
    buffer = io.BytesIO()
    Image.fromarray((grey * 255).round().astype(np.uint8)).save(buffer, "PNG")
    return Thumbnail(label, buffer.getvalue(), alt)
