"""What the machine gives at best: matrix products of many sizes, and copies of memory."""

import torch

from diffusion_lessons.experiments.clock import quartiles
from diffusion_lessons.experiments.ladder.shared import Bench, Row

SIDES = (64, 256, 1024, 2048)  # of square matrices
COPIED = 256 * 2**20  # bytes: more than a cache holds
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}


def settings(cuda: bool) -> list[Row]:
    sides = (*SIDES, 8192) if cuda else SIDES
    products = [{"part": "machine", "dtype": dtype, "side": side} for dtype in DTYPES for side in sides]
    return [*products, {"part": "machine", "copied": COPIED}]


def measure(bench: Bench, row: Row) -> Row:
    """FLOPs, or bytes read and written, of a second: over the windows, of one thread on a CPU."""
    if "copied" in row:
        there = torch.zeros(row["copied"] // 4, device=bench.device)
        here = torch.empty_like(there)
        taken = bench.clock.in_turns({"": lambda: here.copy_(there)}, bench.windows, bench.seconds / 2)[""]
        return {"bytes_a_second": quartiles([2 * row["copied"] / each for each in taken])}
    side, drawn = row["side"], torch.Generator().manual_seed(bench.seed)
    a, b = (torch.randn(side, side, generator=drawn).to(bench.device, DTYPES[row["dtype"]]) for _ in range(2))
    taken = bench.clock.in_turns({"": lambda: a @ b}, bench.windows, bench.seconds / 2)[""]
    return {"flops_a_second": quartiles([2 * side**3 / each for each in taken])}
