"""What experiments time and weigh by: windows in turn, the largest tensor, and the most bytes at once."""

import os
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from diffusion_lessons.networks.counting import storage_of

Work = Callable[[], object]


@dataclass(frozen=True)
class Clock:
    """Seconds of work on a device: on a GPU those that pass until it is done, on a CPU those it computes.

    CPU time is what this process and its children that have ended were given: on a machine that others use,
    too, waiting for them does not count. With several threads their seconds add up.
    """

    device: torch.device

    def now(self) -> float:
        """A time to subtract from a later one."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            return time.perf_counter()
        children = os.times()
        return time.process_time() + children.children_user + children.children_system

    def seconds(self, work: Work, calls: int = 1) -> float:
        """Of one of so many calls."""
        begun = self.now()
        for _ in range(calls):
            work()
        return (self.now() - begun) / calls

    def in_turns(self, works: Mapping[str, Work], windows: int, seconds: float) -> dict[str, list[float]]:
        """Seconds of a call, window by window; all works in turn, each second time in the opposite order.

        A window lasts about so many seconds, at least a call; two calls that warm up are not counted. So a
        machine that gets slower or faster does so for all.
        """
        calls = {}
        for name, work in works.items():
            self.seconds(work)
            calls[name] = max(1, round(seconds / max(self.seconds(work), 1e-9)))
        taken: dict[str, list[float]] = {name: [] for name in works}
        for window in range(windows):
            for name in list(works) if window % 2 == 0 else reversed(list(works)):
                taken[name].append(self.seconds(works[name], calls[name]))
        return taken


def quartiles(values: list[float], digits: int = 4) -> list[float]:
    """Lower quartile, median and upper quartile, in so many significant digits."""
    places = torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)
    found = torch.tensor(values, dtype=torch.float64).quantile(places)
    return [float(f"{each:.{digits}g}") for each in found.tolist()]


class Largest(TorchDispatchMode):
    """The bytes of the largest tensor that any operation makes while this lasts."""

    bytes = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        for each in tree_leaves(made):
            if isinstance(each, Tensor):
                self.bytes = max(self.bytes, each.numel() * each.element_size())
        return made


class Alive(TorchDispatchMode):
    """`peak`: the most bytes of tensors made while this lasts that were there at once.

    What an operation takes and gives back inside itself is not seen, so of fused ones it is what comes out.
    """

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[int, int] = {}  # bytes of each storage, by where it lies
        self.peak = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = {storage_of(each) for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)}
        made = function(*args, **(kwargs or {}))
        for each in tree_leaves(made):
            if isinstance(each, Tensor) and storage_of(each) not in {*before, *self.held}:
                place, storage = storage_of(each), each.untyped_storage()
                self.held[place] = storage.nbytes()
                weakref.finalize(storage, self.held.pop, place, None)
        self.peak = max(self.peak, sum(self.held.values()))
        return made


def peak_bytes(work: Work, device: torch.device) -> int:
    """The most bytes that a call of `work` has at once beyond what is there before it.

    On a GPU the allocator tells them, and the call has been made once before; on a CPU they are counted.
    """
    if device.type == "cuda":
        work()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before
    with Alive() as alive:
        work()
    return alive.peak
