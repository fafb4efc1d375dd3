"""Small expected figures: what an exercise's card shows, drawn with the reference."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def digits(count: int, size: int = 16) -> Tensor:
    """(count, 1, size, size) real handwritten digits, 0, 1, 2, …, in [-1, 1]."""
    from diffusion_lessons.data import load_dataset

    dataset = load_dataset("digits", "train", size)
    x, labels = dataset.batch(torch.arange(len(dataset)))
    return x[[int((labels == digit % 10).nonzero()[digit // 10]) for digit in range(count)]]


def noise(*shape: int, seed: int = 0) -> Tensor:
    """N(0, 1) from a seed of its own."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def strip(pictures: Sequence[Tensor], titles: Sequence[str]) -> Any:
    """A row of pictures with their titles.

    Args:
        pictures: each (1, H, W) or (3, H, W) in [-1, 1]; what lies outside is shown black or white.
    """
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(pictures), figsize=(1.25 * len(pictures), 1.5), squeeze=False)
    for axis, picture, title in zip(axes[0], pictures, titles, strict=True):
        pixels = ((picture.detach().float() + 1) / 2).clamp(0, 1).permute(1, 2, 0).numpy()  # (H, W, C)
        axis.imshow(pixels, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axis.set_title(title, fontsize=10)
        axis.axis("off")
    return figure
