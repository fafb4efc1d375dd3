"""Windows of ours and theirs in turn, so that a machine that speeds up or slows down cancels out."""

import math
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch


@dataclass(frozen=True)
class Timing:
    """How long and on what clock.

    Args:
        device: a CUDA device is timed by its own events, all others by the clock of the machine.
        windows: of each side.
        seconds: a window, about.
        cpu_time: count the seconds this process computed rather than those that passed: for a machine that
            others use too, with one thread.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    windows: int = 5
    seconds: float = 4.0
    cpu_time: bool = False

    def steps(self, side: "Side") -> int:
        """How many steps fill a window, after two that warm up (compilation, caches, allocation)."""
        side.seconds(1, self)
        slow = side.seconds(1, self) >= self.seconds
        return 1 if slow else max(1, math.ceil(self.seconds / max(side.seconds(1, self), 1e-9)))


class Side(Protocol):
    """What is timed: here, or in a process of its own."""

    images: int

    def seconds(self, steps: int, timing: Timing) -> float:
        """Seconds that so many steps take."""
        ...

    def profile(self) -> list[str]:
        """Where the time goes."""
        ...


@dataclass(frozen=True)
class Work:
    """Something to be timed, in this process.

    Args:
        step: does it once.
        images: pictures a step.
        context: what is entered around each window, for flags that are global (TF32).
        mode: the speed mode it runs in, where it chose one.
    """

    step: Callable[[], Any]
    images: int
    context: Callable[[], AbstractContextManager[Any]] = nullcontext
    mode: str = ""

    def seconds(self, steps: int, timing: Timing) -> float:
        """Seconds that so many steps take."""
        with self.context():
            if timing.device.type == "cuda":
                return _cuda_seconds(self.step, steps)
            clock = time.process_time if timing.cpu_time else time.perf_counter
            start = clock()
            for _ in range(steps):
                self.step()
            return clock() - start

    def profile(self, steps: int = 2, top: int = 8) -> list[str]:
        """The operations that take most of the time, a line each: share, calls a step, name."""
        cuda = torch.cuda.is_available()
        activities = [torch.profiler.ProfilerActivity.CPU]
        activities += [torch.profiler.ProfilerActivity.CUDA] if cuda else []
        with self.context(), torch.profiler.profile(activities=activities) as profiler:
            for _ in range(steps):
                self.step()
            if cuda:
                torch.cuda.synchronize()
        name = "self_device_time_total" if cuda else "self_cpu_time_total"
        events = sorted(profiler.key_averages(), key=lambda event: -getattr(event, name))
        total = sum(getattr(event, name) for event in events) or 1
        return [f"{getattr(e, name) / total:6.1%} {e.count / steps:7.0f}×  {e.key}" for e in events[:top]]


@dataclass(frozen=True)
class Comparison:
    """Images a second in each window, ours and theirs measured one after the other."""

    ours: list[float]
    theirs: list[float]

    @property
    def ratios(self) -> list[float]:
        return [a / b for a, b in zip(self.ours, self.theirs, strict=True)]

    @property
    def ratio(self) -> float:
        """The median of the windows' ratios."""
        return statistics.median(self.ratios)


def side_by_side(ours: Side, theirs: Side, timing: Timing) -> Comparison:
    """Time both in windows that alternate, each pair in the order opposite to the pair before."""
    sides = (ours, theirs)
    steps = [timing.steps(side) for side in sides]
    rates: tuple[list[float], list[float]] = ([], [])
    for window in range(timing.windows):
        for i in (0, 1) if window % 2 == 0 else (1, 0):
            rates[i].append(steps[i] * sides[i].images / sides[i].seconds(steps[i], timing))
    return Comparison(*rates)


def _cuda_seconds(step: Callable[[], Any], steps: int) -> float:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    begin.record()
    for _ in range(steps):
        step()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1000
