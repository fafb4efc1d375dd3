"""A data set is rows by index: pictures, clips or latents, each with its conditions.

Pictures stay bytes in memory and become floats in [-1, 1] only where a batch is taken. Two kinds: `Dataset`
holds its rows, `Rendered` makes each when it is asked for, and so has no end.
"""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor

from diffusion_lessons.support.errors import unknown

SPLITS = ("train", "test")
SIZES = range(8, 513)
LABEL = "label"  # the condition that says which class a row is of

Row = tuple[Tensor, dict[str, Tensor]]


class Rows(Protocol):
    """What training asks of a data set.

    `length` is the number of rows, None for a set without end. `rows(index)` gives the rows at the positions
    (B,) as bytes or floats (B, ...), and their conditions, each (B, ...).
    """

    @property
    def name(self) -> str: ...

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def length(self) -> int | None: ...

    def rows(self, index: Tensor) -> Row: ...

    def fingerprint(self) -> str: ...


@dataclass(frozen=True, eq=False)
class Dataset:
    """Rows whole in memory; `to(device)` moves them, `batch(index)` takes some.

    Args:
        name: what the set is called.
        images: uint8 (N, C, H, W), or (N, F, C, H, W) for clips of F frames, C = 1 (grey) or 3 (red, green,
            blue); or floats (N, ...), such as latents.
        labels: int64 (N,), each the index of a class; None where there are no classes.
        classes: the classes' names, in the order of the labels.
        conditions: what else is known of each row by name, tensors (N, ...): tokens and their mask, say.

    Raises:
        ValueError: where these don't fit together.
    """

    name: str
    images: Tensor
    labels: Tensor | None = None
    classes: tuple[str, ...] = ()
    conditions: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_images(self.images)
        if self.labels is not None or self.classes:
            _check_labels(self.labels, self.classes, len(self.images))
        for name, condition in self._conditions().items():
            if len(condition) != len(self.images):
                raise ValueError(f"{len(condition)} rows of {name!r} for {len(self.images)} pictures")
            if condition.device != self.images.device:
                raise ValueError(f"images are on {self.images.device} but {name!r} on {condition.device}")

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.shape))
        return f"Dataset({self.name!r}: {len(self)} pictures of {shape}, {len(self.classes)} classes)"

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one row: (C, H, W) of a picture."""
        return tuple(self.images.shape[1:])

    @property
    def length(self) -> int:
        """The number of rows."""
        return len(self.images)

    def to(self, device: torch.device | str) -> "Dataset":
        """The same rows on another device."""
        moved = {name: condition.to(device) for name, condition in self.conditions.items()}
        labels = None if self.labels is None else self.labels.to(device)
        return replace(self, images=self.images.to(device), labels=labels, conditions=moved)

    def rows(self, index: Tensor) -> Row:
        """The rows at these positions as they are stored, with their conditions, on the images' device.

        Args:
            index: int64 (B,), each in 0..N-1. An index on the CPU is checked; one on a GPU is not, since
                looking at it would make the GPU wait.

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
        taken = {name: condition.index_select(0, index) for name, condition in self._conditions().items()}
        return self.images.index_select(0, index), taken

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """The rows at these positions as floats (B, ...), pictures in [-1, 1], with their labels (B,).

        Raises:
            ValueError: as `rows`, and for a set without labels.
        """
        if self.labels is None:
            raise ValueError(f"{self.name} has no labels: take its rows by rows(index)")
        images, conditions = self.rows(index)
        return as_float(images), conditions[LABEL]

    def fingerprint(self) -> str:
        """Shape and checksum of all rows: going on with other pictures would be another run."""
        crc = 0
        for tensor in (self.images, *self._conditions().values()):
            crc = zlib.crc32(tensor.cpu().contiguous().view(torch.uint8).numpy().data, crc)
        return f"{'x'.join(map(str, self.images.shape))} {crc:08x}"

    def _conditions(self) -> dict[str, Tensor]:
        return {**({} if self.labels is None else {LABEL: self.labels}), **self.conditions}


@dataclass(frozen=True, eq=False)
class Rendered:
    """Rows without end: row i is made when it is asked for, as a function of the seed and i alone.

    Args:
        name: what the set is called.
        shape: of one row.
        render: (seed, index (B,)) -> rows (B, ...), uint8 or floats, and their conditions by name.
        seed: of the rows.
        classes: names of the labels, where `render` gives any.
    """

    name: str
    shape: tuple[int, ...]
    render: Callable[[int, Tensor], Row]
    seed: int = 0
    classes: tuple[str, ...] = ()
    length = None

    def rows(self, index: Tensor) -> Row:
        """The rows at these positions (B,), with their conditions, on the CPU.

        Raises:
            ValueError: where `render` gives rows of another shape or number.
        """
        images, conditions = self.render(self.seed, index.cpu())
        if images.shape != (len(index), *self.shape):
            raise ValueError(
                f"{self.name} says that a row has shape {self.shape}; {len(index)} of them came as "
                f"{tuple(images.shape)}"
            )
        return images, conditions

    def fingerprint(self) -> str:
        """Name, seed and a checksum of the first rows, so that another renderer shows."""
        images, conditions = self.rows(torch.arange(8))
        first = Dataset(self.name, images, conditions=conditions)
        return f"{self.name} seed {self.seed}: {first.fingerprint()}"


def as_float(images: Tensor) -> Tensor:
    """Rows as float32: bytes become [-1, 1], floats stay what they are."""
    return to_float(images) if images.dtype == torch.uint8 else images.to(torch.float32)


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
    pictures = images.dtype == torch.uint8 and images.ndim in (4, 5) and images.shape[-3] in (1, 3)
    if not pictures and not (images.is_floating_point() and images.ndim >= 2):
        raise ValueError(
            "images must be uint8 of shape (N, C, H, W), or (N, F, C, H, W), with C = 1 or 3, or floats "
            f"(N, ...); got {images.dtype} of shape {tuple(images.shape)}"
        )
    if images.numel() == 0:
        raise ValueError(f"a data set needs at least one picture; got shape {tuple(images.shape)}")


def _check_labels(labels: Tensor | None, classes: tuple[str, ...], count: int) -> None:
    if not isinstance(classes, tuple) or not classes or not all(isinstance(name, str) for name in classes):
        raise ValueError(f"classes must be a tuple of at least one name; got {classes!r}")
    if len(set(classes)) < len(classes):
        raise ValueError(f"classes must differ from each other; got {classes!r}")
    if labels is None or labels.dtype != torch.int64 or labels.shape != (count,):
        given = "none" if labels is None else f"{labels.dtype} of shape {tuple(labels.shape)}"
        raise ValueError(f"labels must be int64 of shape ({count},), one for each picture; got {given}")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= len(classes):
        raise ValueError(
            f"labels must lie in 0..{len(classes) - 1} for {len(classes)} classes; got {low}..{high}"
        )
