"""Small pictures of a verdict: what was given, what was expected, and where they differ."""

import io

import numpy as np
from PIL import Image

from diffusion_lessons.course.exercises.exercise import Picture
from diffusion_lessons.course.exercises.values import Array, Plain, number

SMALLEST, LARGEST = 4, 128  # height and width that say something, and that stay small in the page


def pictures(expected: Plain, given: Plain, at: tuple[int, ...] | None) -> tuple[Picture, ...]:
    """Yours, expected and their difference as PNG, or nothing where the values are no pictures.

    Args:
        expected, given: (C, H, W), (B, H, W) or (B, C, H, W), the same shape.
        at: index of the largest difference: its picture is the one to show.
    """
    mine, theirs = _planes(expected, at), _planes(given, at)
    if mine is None or theirs is None or mine.shape != theirs.shape:
        return ()
    low, high = float(mine.min()), float(mine.max())
    if not np.isfinite([low, high]).all() or low == high:
        return ()
    gap = np.abs(np.nan_to_num(theirs, nan=high, posinf=high, neginf=low) - mine)
    scale = f"black is {number(low)} or less, white {number(high)} or more"
    top = float(gap.max())
    return (
        _picture("yours", theirs, low, high, f"Your result as a picture; {scale}."),
        _picture("expected", mine, low, high, f"The expected result as a picture; {scale}."),
        _picture(
            "difference", gap, 0.0, top or 1.0, f"Their difference; black is none, white is {number(top)}."
        ),
    )


def _planes(value: Plain, at: tuple[int, ...] | None) -> np.ndarray | None:
    """(H, W) or (H, W, 3) of the one picture to show."""
    if not isinstance(value, Array) or value.data is None or value.data.ndim not in (3, 4):
        return None
    data = value.data
    if (
        data.dtype.kind not in "fiub"
        or not SMALLEST <= min(data.shape[-2:]) <= max(data.shape[-2:]) <= LARGEST
    ):
        return None
    if data.ndim == 4:
        data = data[at[0] if at else 0]
    elif data.shape[0] not in (1, 3):
        data = data[at[0] if at else 0][None]  # (B, H, W)
    if len(data) == 3:
        return data.transpose(1, 2, 0).astype(np.float64)
    channel = at[-3] if at and len(data) > 1 else 0
    return data[channel].astype(np.float64)


def _picture(label: str, plane: np.ndarray, low: float, high: float, alt: str) -> Picture:
    clean = np.nan_to_num(plane, nan=high, posinf=high, neginf=low)
    grey = ((clean - low) / (high - low)).clip(0, 1)
    buffer = io.BytesIO()
    Image.fromarray((grey * 255).round().astype(np.uint8)).save(buffer, "PNG")
    return Picture(label, buffer.getvalue(), alt)
