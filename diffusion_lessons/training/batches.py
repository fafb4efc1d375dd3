"""What each training step sees: pictures, times, noise, dropped labels, all functions of (seed, step).

No generator lives longer than a step. So a run that is resumed needs no generator state to go on as
if nothing had happened, and several processes can each draw the global batch and take their share.
"""

import copy
import hashlib
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from diffusion_lessons.data.dataset import Dataset, to_float
from diffusion_lessons.paths import Path


class Batch(NamedTuple):
    """The arguments of the loss for one step (this process's share of them)."""

    x0: Tensor  # (B, C, H, W) in [-1, 1]
    noise: Tensor  # (B, C, H, W)
    t: Tensor  # (B,) float64 on the CPU
    labels: Tensor | None  # (B,), some of them the null id


def seed_of(*key: object) -> int:
    """A seed that is a function of the key alone, different for different keys."""
    text = "/".join(map(str, key)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def seeded(device: torch.device | str, *key: object) -> torch.Generator:
    """A generator whose stream is a function of the key alone."""
    return torch.Generator(device).manual_seed(seed_of(*key))


def drop_labels(labels: Tensor, rate: float, null_id: int, generator: torch.Generator | None) -> Tensor:
    """New labels, each the null id with probability `rate` (Ho and Salimans 2022, algorithm 1).

    Args:
        labels: (B,); unchanged.
        generator: on the device of the labels.
    """
    dropped = torch.rand(labels.shape, generator=generator, device=labels.device) < rate
    return labels.masked_fill(dropped, null_id)


def batch_index(seed: int, step: int, batch: int, n: int) -> Tensor:
    """(batch,) positions in a data set of n for a step: epoch after epoch, each in an order of its own.

    A batch may span the end of an epoch, so that each epoch sees every picture exactly once.
    """
    position = torch.arange(step * batch, (step + 1) * batch)
    epoch, place = position // n, position % n
    index = torch.empty_like(position)
    for e in range(int(epoch[0]), int(epoch[-1]) + 1):
        index[epoch == e] = _order(seed, e, n)[place[epoch == e]]
    return index


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, n: int) -> Tensor:
    return torch.randperm(n, generator=seeded("cpu", seed, "order", epoch))


class Batches:
    """Draws the batch of any step.

    Pictures stay bytes, on the device where they take less than a quarter of its free memory, and
    become floats a batch at a time; otherwise batches travel through pinned memory.

    Args:
        dataset: with images (N, C, H, W).
        path: whose times are drawn.
        batch: size of the batch, over all processes.
        class_dropout: share of labels replaced by the null id.
        channels_last: memory layout of the pictures.
    """

    def __init__(
        self,
        dataset: Dataset,
        path: Path,
        batch: int,
        class_dropout: float,
        seed: int,
        device: torch.device,
        channels_last: bool = True,
    ) -> None:
        self.path, self.batch, self.class_dropout, self.seed = path, batch, class_dropout, seed
        self.device = device
        self.share = slice(0, batch)
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        self.null_id = len(dataset.classes)
        self.images = dataset.images.to(device) if _fits(dataset.images, device) else dataset.images
        self.labels = dataset.labels.to(device)

    def shared(self, rank: int, world: int) -> "Batches":
        """The same batches, of which this process takes the share of `rank` among `world`."""
        if self.batch % world:
            raise ValueError(f"a batch of {self.batch} cannot be shared equally by {world} processes")
        mine = copy.copy(self)
        mine.share = slice(rank * self.batch // world, (rank + 1) * self.batch // world)
        return mine

    def __call__(self, step: int, most: int | None = None) -> Batch:
        """This process's share of the batch of a step, at most so many pictures of it."""
        share = (
            self.share
            if most is None
            else slice(self.share.start, min(self.share.stop, self.share.start + most))
        )
        index = batch_index(self.seed, step, self.batch, len(self.images))
        images = self._pictures(index[share])
        shape = (self.batch, *images.shape[1:])
        noise = torch.randn(shape, generator=self._seeded("noise", step), device=self.device)[share]
        times = self.path.sample_times(self.batch, seeded("cpu", self.seed, "times", step))
        labels = None
        if self.null_id:
            labels = self.labels.index_select(0, index.to(self.device, non_blocking=True))
            labels = drop_labels(labels, self.class_dropout, self.null_id, self._seeded("labels", step))
            labels = labels[share]
        x0 = to_float(images).contiguous(memory_format=self.format)
        return Batch(x0, noise.contiguous(memory_format=self.format), times[share], labels)

    def _pictures(self, index: Tensor) -> Tensor:
        if self.images.device == self.device:
            return self.images.index_select(0, index.to(self.device, non_blocking=True))
        images = self.images.index_select(0, index)
        if self.device.type == "cuda":
            images = images.pin_memory()
        return images.to(self.device, non_blocking=True)

    def _seeded(self, purpose: str, step: int) -> torch.Generator:
        return seeded(self.device, self.seed, purpose, step)


def _fits(images: Tensor, device: torch.device) -> bool:
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return images.nbytes < free / 4
