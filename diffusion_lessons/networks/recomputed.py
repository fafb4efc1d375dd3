"""Activation checkpointing: blocks that are computed again on the way back, in place of being kept."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint


@contextmanager
def recomputed(network: nn.Module, kinds: tuple[type[nn.Module], ...]) -> Iterator[int]:
    """For the length of a block every module of these kinds keeps its inputs alone for the way back.

    What lies inside is computed a second time then, with the same random numbers, so gradients are the same
    (Chen et al. 2016, *Training Deep Nets with Sublinear Memory Cost*). Gives the number of such modules; of
    modules in one another the outer one is taken. None is a ValueError.
    """
    chosen: list[nn.Module] = []
    for module in network.modules():
        if isinstance(module, kinds) and not any(module in each.modules() for each in chosen):
            chosen.append(module)
    if not chosen:
        names = ", ".join(kind.__name__ for kind in kinds)
        raise ValueError(f"{type(network).__name__} has no module of the kind {names}")
    for module in chosen:
        module.forward = partial(checkpoint, module.forward, use_reentrant=False)
    try:
        yield len(chosen)
    finally:
        for module in chosen:
            del module.forward
