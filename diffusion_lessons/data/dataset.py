"""A data set is rows by index: pictures, clips or latents, each with its conditions.

Pictures stay bytes in memory and become floats in [-1, 1] only where a batch is taken.
"""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from diffusion_lessons.support.errors import unknown

SPLITS = ("train", "test")
SIZES = range(8, 513)
NAMES_SHOWN = 10  # of classes, at most
RENDERED = 256  # rows at a time
LABEL = "label"  # the condition that says which class a row is of

Row = tuple[Tensor, dict[str, Tensor]]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Rows whole in memory; `to(device)` moves them, `batch(index)` takes some.

    Parts that don't fit together are a ValueError.
    """

    name: str  # what the set is called
    images: Tensor  # uint8 (N, C, H, W) or clips (N, F, C, H, W), C = 1 or 3; or floats (N, ...): latents
    labels: Tensor | None = None  # int64 (N,), each the index of a class; None where there are no classes
    classes: tuple[str, ...] = ()  # the classes' names, in the order of the labels
    conditions: Mapping[str, Tensor] = field(default_factory=dict)  # what else is known of each row: (N, ...)
    note: str = ""  # how the rows were chosen, for people

    def __post_init__(self) -> None:
        images, n = self.images, len(self)
        pictures = images.dtype == torch.uint8 and images.ndim in (4, 5) and images.shape[-3] in (1, 3)
        if not pictures and not (images.is_floating_point() and images.ndim >= 2):
            raise ValueError(
                "images must be uint8 of shape (N, C, H, W), or (N, F, C, H, W), with C = 1 or 3, or floats "
                f"(N, ...); got {images.dtype} of shape {tuple(images.shape)}"
            )
        if images.numel() == 0:
            raise ValueError(f"a data set needs at least one picture; got shape {tuple(images.shape)}")
        if self.labels is not None or self.classes:
            _check_labels(self.labels, self.classes, n)
        for name, condition in self._conditions().items():
            if len(condition) != n:
                raise ValueError(f"{len(condition)} rows of {name!r} for {n} pictures")
            if condition.device != images.device:
                raise ValueError(f"images are on {images.device} but {name!r} on {condition.device}")

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.shape))
        return f"Dataset({self.name!r}: {len(self)} pictures of {shape}, {len(self.classes)} classes)"

    def words(self) -> str:
        """What was loaded, in a line: pictures, classes, and how they were chosen."""
        names = ", ".join([*self.classes[:NAMES_SHOWN], *["…"] * (len(self.classes) > NAMES_SHOWN)])
        without = "with captions" if "tokens" in self.conditions else "no classes, so no labels"
        classes = f"classes: {len(self.classes)} ({names})" if names else without
        shape = "x".join(map(str, self.shape))
        return "; ".join(filter(None, [f"{self.name}: {len(self)} pictures of {shape}", classes, self.note]))

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one row: (C, H, W) of a picture."""
        return tuple(self.images.shape[1:])

    @property
    def length(self) -> int:
        """The number of rows."""
        return len(self)

    def to(self, device: torch.device | str) -> "Dataset":
        """The same rows on another device."""
        moved = {name: condition.to(device) for name, condition in self.conditions.items()}
        labels = None if self.labels is None else self.labels.to(device)
        return replace(self, images=self.images.to(device), labels=labels, conditions=moved)

    def rows(self, index: Tensor) -> Row:
        """The rows at positions (B,) int64 as they are stored, with their conditions, on the images' device.

        An index of another kind or outside of 0..N-1 is a ValueError; its values are looked at on the CPU
        only, since a GPU would have to be waited for.
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
        """The `rows` at these positions as floats (B, ...), pictures in [-1, 1], and their labels (B,).

        A set without labels is a ValueError.
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
    """Rows without end: row i is made when it is asked for, as a function of the seed and i alone."""

    name: str  # what the set is called
    shape: tuple[int, ...]  # of one row
    render: Callable[[int, Tensor], Row]  # (seed, index (B,)) -> rows (B, ...), uint8 or float, conditions
    seed: int = 0  # of the rows
    classes: tuple[str, ...] = ()  # names of the labels, where `render` gives any
    length = None  # it has no end

    def rows(self, index: Tensor) -> Row:
        """The rows at positions (B,), with their conditions, on the CPU; of another shape, a ValueError."""
        images, conditions = self.render(self.seed, index.cpu())
        if images.shape != (len(index), *self.shape):
            promised = f"{self.name} says that a row has shape {self.shape}"
            raise ValueError(f"{promised}; {len(index)} of them came as {tuple(images.shape)}")
        return images, conditions

    def words(self) -> str:
        """What there is to learn from, in a line."""
        return f"{self.name}: pictures of {'x'.join(map(str, self.shape))} without end, seed {self.seed}"

    def kept(self, n: int, workers: int = 0) -> Dataset:
        """The first n rows in memory, rendered by so many processes beside this one (0: by this one)."""
        images, first = self.rows(torch.arange(1))
        images = images.new_empty(n, *self.shape)
        told = {name: value.new_empty(n, *value.shape[1:]) for name, value in first.items()}
        parts = list(torch.arange(n).split(RENDERED))
        rendered: Any = DataLoader(parts, batch_size=None, num_workers=workers, collate_fn=self.rows)  # type: ignore[arg-type]
        for index, (rows, conditions) in zip(parts, rendered, strict=True):
            images[index] = rows
            for name, value in conditions.items():
                told[name][index] = value
        return Dataset(self.name, images, conditions=told, note=f"the first {n} rows of seed {self.seed}")

    def fingerprint(self) -> str:
        """Name, seed and a checksum of the first rows, so that another renderer shows."""
        images, conditions = self.rows(torch.arange(8))
        first = Dataset(self.name, images, conditions=conditions)
        return f"{self.name} seed {self.seed}: {first.fingerprint()}"


class Rows(Protocol):
    """What training takes: rows by position. One with a method `order` says in which order they come."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def length(self) -> int | None: ...
    def rows(self, index: Tensor) -> Row: ...
    def words(self) -> str: ...
    def fingerprint(self) -> str: ...


def as_float(images: Tensor) -> Tensor:
    """Rows as float32: bytes become [-1, 1], floats stay what they are."""
    return to_float(images) if images.dtype == torch.uint8 else images.to(torch.float32)


def to_float(images: Tensor) -> Tensor:
    """Bytes 0..255 as float32 in [-1, 1], any shape; another dtype is a ValueError."""
    if images.dtype != torch.uint8:
        raise ValueError(f"to_float takes uint8 pictures (0..255); got {images.dtype}")
    return images.to(torch.float32) / 127.5 - 1


def to_uint8(x: Tensor) -> Tensor:
    """Floats in [-1, 1] as bytes, any shape: rounded, and clamped where they lie outside.

    It is the exact inverse of `to_float` on every byte. Another dtype, NaN and infinity (a sampler that
    diverged) are a ValueError.
    """
    if not x.is_floating_point():
        raise ValueError(f"to_uint8 takes floats in [-1, 1]; got {x.dtype}")
    if not bool(x.isfinite().all()):
        raise ValueError("to_uint8 takes finite floats in [-1, 1]; got NaN or infinity")
    return ((x.detach().to(torch.float32) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def resize(images: Tensor, size: int) -> Tensor:
    """Bytes (N, C, H, W) -> (N, C, size, size), bicubic, antialiased; the same bytes on every machine."""
    from PIL import Image

    if images.shape[2:] == (size, size):
        return images
    planes = images.flatten(0, 1).numpy()  # (N·C, H, W)
    out = np.empty((len(planes), size, size), np.uint8)
    for i, plane in enumerate(planes):
        out[i] = np.asarray(Image.fromarray(plane).resize((size, size), Image.Resampling.BICUBIC))
    return torch.from_numpy(out).view(*images.shape[:2], size, size)


def check_asked(split: str, size: int | None, default: int) -> tuple[bool, int]:
    """Whether a split is the one for testing, and the side of its pictures in pixels, `default` for None.

    A split that is none of `SPLITS` and a side that is none of `SIZES` are a ValueError.
    """
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    size = default if size is None else size
    if not isinstance(size, int) or size not in SIZES:
        raise ValueError(f"size must be a whole number of pixels in {SIZES[0]}..{SIZES[-1]}; got {size!r}")
    return split == "test", size


def _check_labels(labels: Tensor | None, classes: tuple[str, ...], count: int) -> None:
    if not isinstance(classes, tuple) or not classes or not all(isinstance(name, str) for name in classes):
        raise ValueError(f"classes must be a tuple of at least one name; got {classes!r}")
    if len(set(classes)) < len(classes):
        raise ValueError(f"classes must differ from each other; got {classes!r}")
    if labels is None or labels.dtype != torch.int64 or labels.shape != (count,):
        given = "none" if labels is None else f"{labels.dtype} of shape {tuple(labels.shape)}"
        raise ValueError(f"labels must be int64 of shape ({count},), one for each picture; got {given}")
    low, high, last = int(labels.min()), int(labels.max()), len(classes) - 1
    if low < 0 or high > last:
        raise ValueError(f"labels must lie in 0..{last} for {last + 1} classes; got {low}..{high}")
