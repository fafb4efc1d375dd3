"""A side in a process of its own, the way its users run it.

How a process keeps the memory that it frees makes a difference of up to a fifth here, and is set for
the whole process: what one side sets must neither help nor hinder the other.
"""

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

import torch

from .memory import peak
from .timing import Timing, Work


class Apart:
    """Times the work that `make` gives, made and done in a process of its own.

    Args:
        make: a function of a module, or a `partial` of one.
    """

    def __init__(self, make: Callable[[], Work]) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, make), daemon=True)
        self.process.start()
        theirs.close()
        self.images, self.mode = self._ask("about")

    def seconds(self, steps: int, timing: Timing) -> float:
        """Seconds that so many steps take."""
        return self._ask("seconds", steps, timing)

    def profile(self) -> list[str]:
        """Where the time goes, a line for each operation."""
        return self._ask("profile")

    def peak(self, device: torch.device) -> int:
        """Bytes of memory at the peak so far."""
        return self._ask("peak", device)

    def _ask(self, *question: Any) -> Any:
        try:
            self.pipe.send(question)
            return self.pipe.recv()
        except (EOFError, ConnectionError):
            self.process.join()
            raise RuntimeError(
                f"a side of the benchmark ended with code {self.process.exitcode}; what it printed is above"
            ) from None

    def __enter__(self) -> "Apart":
        return self

    def __exit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.pipe.close()
        self.process.join()


def _serve(pipe: Connection, make: Callable[[], Work]) -> None:
    work = make()
    answers: dict[str, Callable[..., Any]] = {
        "about": lambda: (work.images, work.mode),
        "seconds": work.seconds,
        "profile": work.profile,
        "peak": peak,
    }
    while True:
        try:
            question, *given = pipe.recv()
        except EOFError:
            return
        pipe.send(answers[question](*given))
