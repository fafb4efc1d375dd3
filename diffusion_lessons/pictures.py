"""Pictures that people look at: grids, animations, loss curves."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffusion_lessons.data import to_uint8
from diffusion_lessons.support.files import atomic_write


def grid(x: Tensor, columns: int | None = None, gap: int = 2, scale: int | None = None) -> np.ndarray:
    """Tile pictures (N, C, H, W), floats in [−1, 1] or uint8, C = 1 or 3, into one, uint8 (rows, columns, 3).

    They stand row by row on a white ground, `columns` in a row (about a square where left out), `gap` pixels
    apart before scaling. `scale` is a whole factor; None makes each picture about 64 pixels high.
    """
    if x.ndim != 4 or x.shape[1] not in (1, 3) or len(x) == 0:
        raise ValueError(f"a grid needs pictures (N, 1 or 3, H, W) with N ≥ 1, got {tuple(x.shape)}")
    pictures = (x if x.dtype == torch.uint8 else to_uint8(x)).cpu().expand(-1, 3, -1, -1)
    n, _, height, width = pictures.shape
    columns = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    sheet = pictures.new_full((3, rows * (height + gap) - gap, columns * (width + gap) - gap), 255)
    for i, picture in enumerate(pictures):
        top, left = (i // columns) * (height + gap), (i % columns) * (width + gap)
        sheet[:, top : top + height, left : left + width] = picture
    scale = scale or max(1, round(64 / height))
    return sheet.permute(1, 2, 0).repeat_interleave(scale, 0).repeat_interleave(scale, 1).numpy()


def save_png(sheet: np.ndarray, file: Path) -> None:
    """Write (H, W, 3) uint8 as a PNG."""
    from PIL import Image

    with atomic_write(file) as partial:
        Image.fromarray(sheet).save(partial, format="PNG")


def save_gif(
    sheets: Sequence[np.ndarray], file: Path, seconds: float = 3.0, hold: float = 1.5, loops: int = 0
) -> None:
    """Write (H, W, 3) uint8 frames as a GIF that rests on its last frame for `hold` seconds.

    `loops` is how often it is played again, 0 for without end.
    """
    from PIL import Image

    frames = [Image.fromarray(sheet).quantize(64) for sheet in sheets]
    each = max(20, round(1000 * seconds / len(frames)))
    times = [each] * (len(frames) - 1) + [round(1000 * hold)]
    with atomic_write(file) as partial:
        frames[0].save(partial, "GIF", save_all=True, append_images=frames[1:], duration=times, loop=loops)


def save_npz(pictures: Tensor, file: Path, **others: Tensor) -> None:
    """Write pictures or clips (..., C, H, W), floats in [−1, 1], as .npz: x, and others by their names.

    x is bytes, (..., H, W, 3), or (..., H, W) where C is 1.
    """
    x = to_uint8(pictures).movedim(-3, -1).numpy()
    arrays = {
        "x": x[..., 0] if x.shape[-1] == 1 else x,
        **{name: each.numpy() for name, each in others.items()},
    }
    with atomic_write(file) as partial, partial.open("wb") as handle:
        np.savez_compressed(handle, **arrays)  # type: ignore[arg-type]


def save_loss(steps: Sequence[float], losses: Sequence[float], file: Path, title: str) -> None:
    """Draw the training loss over steps, on a logarithmic scale."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes: Any = figure.add_subplot()
    axes.plot(steps, losses, marker="." if len(steps) < 60 else None)
    axes.set(xlabel="training step", ylabel="loss (mean squared error of the target)", yscale="log")
    axes.set_title(title)
    axes.grid(alpha=0.3, which="both")
    with atomic_write(file) as partial:
        figure.savefig(partial, format="png", dpi=120)
