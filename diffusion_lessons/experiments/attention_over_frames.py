"""Attention over the frames of a clip: factorised into space and time, against joint (lesson 14).

A clip has F frames of N = 16×16 places. Factorised, every place looks at the others of its frame, and then at
itself in the other frames: F·N² + N·F² scores. Joint, every place of every frame looks at all: (F·N)² scores.

A row holds the number of scores of each head by the formula, the bytes of the largest tensor that the
attention made when it was written out (`networks.attention.attention`), and the seconds of a call, written
out and fused: the median of `n` calls, at most 20, each after one that is not counted, and between the
quartiles. The width and the heads are those of the first level of `scenes-text`. It needs no model; all rows
take about a minute.
"""

import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from diffusion_lessons.experiments import Experiment, Row
from diffusion_lessons.experiments.clock import Largest, quartiles
from diffusion_lessons.networks.attention import attention
from diffusion_lessons.support.machine import choose_device

SIDE, HEADS, WIDTH = 16, 2, 24  # places of a side; heads, and the width of each
FRAMES = (1, 2, 4, 8, 16, 32)
CALLS = 20  # at most
WAYS = ("factorised", "joint")

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]  # of queries, keys and values (B, heads, N, width)


def scores(way: str, frames: int, places: int) -> int:
    """How many scores a head has, by the formula."""
    return (frames * places) ** 2 if way == "joint" else frames * places**2 + places * frames**2


def looked(way: str, clip: Tensor, look: Attention) -> Tensor:
    """Attention of a clip (F, places, heads, width) to itself, without layers around it: the same shape."""
    if way == "joint":
        every = clip.flatten(0, 1).transpose(0, 1)[None]  # (1, heads, F·places, width)
        return look(every, every, every)[0].transpose(0, 1).unflatten(0, clip.shape[:2])
    space = clip.transpose(1, 2)  # (F, heads, places, width)
    time = look(space, space, space).permute(2, 1, 0, 3)  # (places, heads, F, width)
    return look(time, time, time).permute(2, 0, 1, 3)


def settings(options: Row) -> list[Row]:
    return [{"frames": frames, "way": way} for frames in FRAMES for way in WAYS]


def prepare(options: Row) -> torch.device:
    return choose_device(options["device"])


@torch.no_grad()
def measure(device: torch.device, row: Row, options: Row) -> Row:
    shape = row["frames"], SIDE**2, HEADS, WIDTH
    clip = torch.randn(shape, generator=torch.Generator().manual_seed(options["seed"])).to(device)
    with Largest() as largest:
        looked(row["way"], clip, attention)
    calls = min(options["n"], CALLS)
    found: Row = {
        "scores": scores(row["way"], row["frames"], SIDE**2),
        "largest_bytes": largest.bytes,
        "calls": calls,
    }
    for name, look in (("written", attention), ("fused", scaled_dot_product_attention)):
        low, middle, high = seconds_of(lambda look=look: looked(row["way"], clip, look), calls, device)  # type: ignore[misc]
        found |= {name: middle, f"{name}_quartiles": [low, high]}
    return found


def seconds_of(call: Callable[[], Tensor], calls: int, device: torch.device) -> list[float]:
    """Lower quartile, median and upper quartile of the seconds of a call."""
    taken = []
    for _ in range(calls + 1):
        begun = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - begun)
    return quartiles(taken[1:])


COLUMNS = "frames way scores largest_bytes written fused"
EXPERIMENT = Experiment(__name__, __doc__, COLUMNS, settings, prepare, measure)
