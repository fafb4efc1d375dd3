"""What the parts of the ladder share: the model, the clock, and a way against the one it is held against."""

from dataclasses import dataclass
from typing import Any

import torch

from diffusion_lessons.checkpoint import Checkpoint
from diffusion_lessons.experiments.clock import Clock, Work, quartiles

Row = dict[str, Any]
WINDOWS, SECONDS = 7, 0.4  # at most, and of each


@dataclass(frozen=True)
class Bench:
    """Where and how a row is measured."""

    model: Checkpoint  # on the CPU
    device: torch.device
    seed: int = 0
    windows: int = WINDOWS
    seconds: float = SECONDS

    @property
    def clock(self) -> Clock:
        return Clock(self.device)

    @property
    def cuda(self) -> bool:
        return self.device.type == "cuda"

    def against(self, base: Work, way: Work, each: float = 1, base_each: float = 1) -> Row:
        """Seconds of a picture each way, in turn, and how many times faster the second is.

        `each` and `base_each` say how many pictures a call makes. All are [lower quartile, median, upper
        quartile] over the windows; `faster` is the ratio in each pair of windows.
        """
        taken = self.clock.in_turns({"base": base, "way": way}, self.windows, self.seconds)
        before = [seconds / base_each for seconds in taken["base"]]
        after = [seconds / each for seconds in taken["way"]]
        faster = [b / a for b, a in zip(before, after, strict=True)]
        return {
            "seconds_a_picture": quartiles(after),
            "base_seconds_a_picture": quartiles(before),
            "faster": quartiles(faster),
            "windows": self.windows,
        }
