"""The line under a cell that trains: how far it is, the loss, how long it still takes."""

import sys
import time
from collections.abc import Iterator
from typing import Any

EVERY = 0.25  # seconds between two changes of the line


class Watched:
    """`range(steps)`, with a line that shows the loss and the time left; outside a notebook, no line.

        for step in (steps := Watched(budget.steps(600))):
            loss = …
            steps.tell(loss)

    What is no whole number from 1 on is a ValueError.
    """

    def __init__(self, steps: int, name: str = "step") -> None:
        if not isinstance(steps, int) or steps < 1:
            raise ValueError(f"a loop has a whole number of steps from 1 on, got {steps!r}")
        self.steps, self.name, self.told = steps, name, ""
        self.handle: Any = None
        self.due = 0.0

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[int]:
        begin, done = time.perf_counter(), 0
        try:
            for step in range(self.steps):
                yield step
                done = step + 1
                now = time.perf_counter()
                if now >= self.due:
                    self.due = now + EVERY
                    left = (now - begin) / done * (self.steps - done)
                    self._show(f"{self.name} {done} of {self.steps}{self.told}, {left:.0f} s left")
        finally:
            seconds = time.perf_counter() - begin
            whole = f"{self.steps} {self.name}s"
            said = whole if done == self.steps else f"stopped after {done} of {whole}"
            self._show(f"{said}{self.told}, {seconds:.0f} s")

    def tell(self, loss: Any) -> None:
        """The loss of this step, a number or a tensor of one entry; it is read a few times a second."""
        if time.perf_counter() >= self.due:
            value = float(loss.item() if hasattr(loss, "item") else loss)
            self.told = f", loss {value:.4g}"

    def _show(self, line: str) -> None:
        if not sys.modules.get("IPython"):
            return
        from IPython import get_ipython
        from IPython.display import display

        if get_ipython() is None:
            return
        content = {"text/plain": line}
        if self.handle is None:
            self.handle = display(content, raw=True, display_id=True)
        else:
            self.handle.update(content, raw=True)
