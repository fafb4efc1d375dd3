"""A labelled set of pictures: bytes in memory, floats in [-1, 1] only where a batch is taken."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from diffusion_lessons.support.errors import unknown

SPLITS = ("train", "test")
SIZES = range(8, 513)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Pictures with their labels, whole in memory; `to(device)` moves them, `batch(index)` takes some.

    Args:
        name: what the set is called.
        images: uint8 of shape (N, C, H, W), C = 1 (grey) or 3 (red, green, blue).
        labels: int64 of shape (N,), each the index of a class.
        classes: the classes' names, in the order of the labels.

    Raises:
        ValueError: where these don't fit together.
    """

    name: str
    images: Tensor  # (N, C, H, W)
    labels: Tensor  # (N,)
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        _check_images(self.images)
        _check_classes(self.classes)
        labels, count = self.labels, len(self.images)
        if labels.dtype != torch.int64 or labels.shape != (count,):
            raise ValueError(
                f"labels must be int64 of shape ({count},), one for each picture; "
                f"got {labels.dtype} of shape {tuple(labels.shape)}"
            )
        if labels.device != self.images.device:
            raise ValueError(f"images are on {self.images.device} but labels on {labels.device}")
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= len(self.classes):
            raise ValueError(
                f"labels must lie in 0..{len(self.classes) - 1} for {len(self.classes)} classes; "
                f"got {low}..{high}"
            )

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.shape))
        return f"Dataset({self.name!r}: {len(self)} pictures of {shape}, {len(self.classes)} classes)"

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape (C, H, W) of one picture."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def to(self, device: torch.device | str) -> "Dataset":
        """The same pictures and labels on another device."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """The pictures at these positions as floats, with their labels, on the images' device.

        Args:
            index: int64 of shape (B,), each in 0..N-1. An index on the CPU is checked; one on a GPU is not,
                since looking at it would make the GPU wait.

        Returns:
            x of shape (B, C, H, W), float32 in [-1, 1], and labels of shape (B,), int64.

        Raises:
            ValueError: for an index of another kind, or out of range.
        """
        kind, shape = index.dtype, tuple(index.shape)
        if kind != torch.int64 or len(shape) != 1:
            raise ValueError(f"index must be int64 of shape (B,); got {kind} of shape {shape}")
        if index.device.type == "cpu" and bool(((index < 0) | (index >= len(self))).any()):
            low, high = int(index.min()), int(index.max())
            raise ValueError(f"index must lie in 0..{len(self) - 1}; got {low}..{high}")
        index = index.to(self.images.device, non_blocking=True)
        return to_float(self.images.index_select(0, index)), self.labels.index_select(0, index)


def to_float(images: Tensor) -> Tensor:
    """Bytes 0..255 as float32 in [-1, 1], any shape.

    Raises:
        ValueError: where the pictures are not uint8.
    """
    if images.dtype != torch.uint8:
        raise ValueError(f"to_float takes uint8 pictures (0..255); got {images.dtype}")
    return images.to(torch.float32) / 127.5 - 1


def to_uint8(x: Tensor) -> Tensor:
    """Floats in [-1, 1] as bytes, any shape: rounded, and clamped where they lie outside.

    It is the exact inverse of `to_float` on every byte.

    Raises:
        ValueError: where x is not of a floating dtype, or holds NaN or infinity (a sampler that diverged).
    """
    if not x.is_floating_point():
        raise ValueError(f"to_uint8 takes floats in [-1, 1]; got {x.dtype}")
    if not bool(x.isfinite().all()):
        raise ValueError("to_uint8 takes finite floats in [-1, 1]; got NaN or infinity")
    return ((x.detach().to(torch.float32) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def check_split(split: str) -> str:
    """The name of a split as it is, or a ValueError where it is neither "train" nor "test"."""
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    return split


def check_size(size: int | None, default: int) -> int:
    """The side of the pictures in pixels, `default` for None, or a ValueError where it is none of `SIZES`."""
    if size is None:
        return default
    if not isinstance(size, int) or size not in SIZES:
        raise ValueError(f"size must be a whole number of pixels in {SIZES[0]}..{SIZES[-1]}; got {size!r}")
    return size


def _check_images(images: Tensor) -> None:
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(
            "images must be uint8 of shape (N, C, H, W) with C = 1 or 3; "
            f"got {images.dtype} of shape {tuple(images.shape)}"
        )
    if images.numel() == 0:
        raise ValueError(f"a data set needs at least one picture; got shape {tuple(images.shape)}")


def _check_classes(classes: tuple[str, ...]) -> None:
    if not isinstance(classes, tuple) or not classes or not all(isinstance(name, str) for name in classes):
        raise ValueError(f"classes must be a tuple of at least one name; got {classes!r}")
    if len(set(classes)) < len(classes):
        raise ValueError(f"classes must differ from each other; got {classes!r}")
