"""What a run of sampling costs: how often the network is asked, and how long that takes."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn


def passes(guidance: float = 1.0) -> int:
    """Pictures that the network sees for each one that is made: 2 with guidance, without its condition too.

    At scale 1 (plain conditional) and at 0 (unconditional) one pass is enough.
    """
    return 1 if guidance in (0, 1) else 2


def run_seconds(
    pictures: int, batch: int, steps: int, guidance: float, fixed: float, per_picture: float
) -> float:
    """Seconds of a run with one evaluation a step: each costs `fixed`, and `per_picture` for what it sees.

    The pictures come in batches of at most `batch`, the last of which may be smaller. A guided evaluation is
    one call with twice the pictures.
    """
    if pictures < 1 or batch < 1 or steps < 1:
        raise ValueError(f"expected whole numbers ≥ 1, got {pictures=}, {batch=}, {steps=}")
    calls = math.ceil(pictures / batch)
    return steps * (calls * fixed + passes(guidance) * pictures * per_picture)


@dataclass
class Count:
    """How often a network was asked."""

    calls: int = 0
    pictures: int = 0  # that it saw in all of them


@contextmanager
def count_evaluations(network: nn.Module) -> Iterator[Count]:
    """Count what a network is asked while this lasts, whoever asks.

    `with count_evaluations(model.network) as count: ...` and then `count.pictures / n` evaluations were
    spent on each of n pictures.
    """
    count = Count()

    def seen(module: nn.Module, given: tuple[Any, ...]) -> None:
        count.calls += 1
        count.pictures += len(given[0])

    handle = network.register_forward_pre_hook(seen)
    try:
        yield count
    finally:
        handle.remove()
