"""Which rows a training step sees: a function of the seed and the step alone.

So a run that is resumed needs no generator state, and of several processes each draws the whole batch and
takes its share.
"""

import math
from collections.abc import Callable
from functools import lru_cache, partial

import torch
from torch import Tensor

from diffusion_lessons.conditions import Condition, dropped
from diffusion_lessons.data.dataset import LABEL, Dataset, Rows, as_float
from diffusion_lessons.support.processes import part
from diffusion_lessons.support.seeds import seeded


@lru_cache(maxsize=2)
def shuffled(seed: int, epoch: int, n: int) -> Tensor:
    """(n,) the rows of a data set in an order that is a function of the seed and the epoch."""
    return torch.randperm(n, generator=seeded("cpu", seed, "order", epoch))


def batch_index(
    seed: int, step: int, batch: int, n: int | None, order: Callable[[int, int], Tensor] | None = None
) -> Tensor:
    """(batch,) positions in a data set of n rows for a step: epoch after epoch, each in an order of its own.

    A batch may span the end of an epoch, so that each epoch sees every row exactly once. Without an end
    (n = None) every step takes rows that no step before it has seen. `order` gives the n positions from seed
    and epoch; by default any order is as likely as any other.
    """
    start = step * batch
    if n is None:
        return torch.arange(start, start + batch)
    order = order or partial(shuffled, n=n)
    first, *rest = range(start // n, (start + batch - 1) // n + 1)
    rows = order(seed, first)[start % n :][:batch]
    return torch.cat([rows, *(order(seed, epoch) for epoch in rest)])[:batch]


class Batches:
    """Draws the rows of any step, and replaces whole conditions by the null condition.

    Pictures stay bytes, on the device where they take less than a quarter of its free memory, and
    become floats a batch at a time; otherwise batches travel through pinned memory.

    Args:
        batch: rows a step, over all processes.
        seed: of the order and of what is dropped.
        layout: of pictures (B, C, H, W) in memory.
        dropout: share of the rows whose condition is dropped.
        null: (rows) -> their null condition, a network's `null_condition`.
        rank, world: this process among all; it takes the rank-th of `world` equal shares.
    """

    def __init__(
        self,
        dataset: Rows,
        batch: int,
        seed: int,
        device: torch.device | str = "cpu",
        layout: torch.memory_format = torch.channels_last,
        dropout: float = 0.0,
        null: Callable[[int], Condition] | None = None,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if batch % world:
            raise ValueError(f"a batch of {batch} cannot be shared equally by {world} processes")
        self.batch, self.seed, self.device, self.layout = batch, seed, torch.device(device), layout
        self.dropout, self.null = dropout, null
        self.mine = part(batch, rank, world)
        free = torch.cuda.mem_get_info(self.device)[0] if self.device.type == "cuda" else math.inf
        if isinstance(dataset, Dataset) and dataset.images.nbytes < free / 4:
            dataset = dataset.to(self.device)
        self.dataset: Rows = dataset

    def share(self, most: int | None = None) -> slice:
        """This process's part of a batch, at most so many rows of it."""
        mine = self.mine[:most]
        return slice(mine.start, mine.stop)

    def __call__(self, step: int, most: int | None = None) -> tuple[Tensor, Condition]:
        """This process's share of a step, at most so many rows of it: x0 (B, ...) and condition.

        Pictures are in [-1, 1]; the condition is labels (B,) where nothing else is known of a row.
        """
        share = self.share(most)
        order = getattr(self.dataset, "order", None)
        index = batch_index(self.seed, step, self.batch, self.dataset.length, order)
        images, conditions = self.dataset.rows(index[share])
        x0 = self.laid_out(as_float(self._moved(images)))
        known = {name: self._moved(value) for name, value in conditions.items()}
        condition: Condition = known[LABEL] if known.keys() == {LABEL} else known or None
        if self.dropout and self.null is not None:
            generator = seeded(self.device, self.seed, "labels", step)
            chance = torch.rand(self.batch, generator=generator, device=self.device)[share]
            condition = dropped(condition, self.null(len(x0)), chance < self.dropout)
        return x0, condition

    def laid_out(self, x: Tensor) -> Tensor:
        """Pictures (B, C, H, W) in the memory layout that was asked for; other ranks contiguous."""
        return x.contiguous(memory_format=self.layout if x.ndim == 4 else torch.contiguous_format)

    def _moved(self, rows: Tensor) -> Tensor:
        if self.device.type == "cuda" and not rows.is_cuda:
            rows = rows.pin_memory()
        return rows.to(self.device, non_blocking=True)
