"""What training tells and hears while it runs: losses without waiting for the device, a bar, Ctrl-C."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from diffusion_lessons.support.processes import Processes


@dataclass
class LossCurve:
    """The mean loss of each `stride` steps; the stride doubles before there are 1000 points.

    It is a function of the losses alone, so a resumed run draws the same curve.
    """

    stride: int = 1
    points: list[float] = field(default_factory=list)
    pending: list[float] = field(default_factory=list)

    def add(self, loss: float) -> None:
        """Take in the loss of the next step."""
        self.pending.append(loss)
        if len(self.pending) == self.stride:
            self.points.append(sum(self.pending) / self.stride)
            self.pending = []
        if len(self.points) == 1000:
            self.points = [(a + b) / 2 for a, b in zip(self.points[::2], self.points[1::2], strict=True)]
            self.stride *= 2

    @property
    def steps(self) -> list[int]:
        """The last step, counted from 1, of each point."""
        return [self.stride * (i + 1) for i in range(len(self.points))]

    def recent(self) -> float:
        """The mean of the last tenth: one batch's loss says little."""
        last = self.points[-max(1, len(self.points) // 10) :] or self.pending
        return sum(last) / len(last) if last else float("nan")


class Meter:
    """Losses and gradient norms of the last steps, kept on the device until somebody reads them.

    Reading waits for the device, so training reads about once a second, not at every step.
    """

    def __init__(self, processes: Processes, capacity: int = 100) -> None:
        self.processes = processes
        self.values = torch.zeros(capacity, 2, device=processes.device)
        self.count = 0

    @property
    def full(self) -> bool:
        return self.count == len(self.values)

    def add(self, loss: Tensor, norm: Tensor) -> None:
        """Note the loss and the gradient norm of a step, both 0-d, without reading them."""
        self.values[self.count, 0] = loss.detach()
        self.values[self.count, 1] = norm.detach()
        self.count += 1

    def read(self) -> list[tuple[float, float]]:
        """(loss, gradient norm) of each step since the last reading, the loss over all processes."""
        rows = self.processes.mean(self.values)[: self.count].tolist() if self.count else []
        self.count = 0
        return list(map(tuple, rows))


@contextmanager
def catch_interrupts() -> Iterator[threading.Event]:
    """An event that Ctrl-C (or SIGTERM) sets, so that a step is finished first; a second one breaks in."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # only the main thread gets signals
        yield asked
        return

    def ask(number: int, frame: Any) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def progress_bar(shown: bool) -> tqdm:
    """A bar over the share of the budget, with the time left."""
    layout = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
    return tqdm(total=100, desc="training", bar_format=layout, disable=not shown, smoothing=0.1)
