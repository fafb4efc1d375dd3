"""Attention over the number of tokens, written out and fused: what is computed, moved and kept."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from diffusion_lessons.experiments.clock import Largest, quartiles
from diffusion_lessons.experiments.ladder.shared import Bench, Row
from diffusion_lessons.networks.attention import attention
from diffusion_lessons.networks.counting import attention_bytes, attention_flops

HEADS, WIDTH = 2, 32  # heads, and the width of each
TOKENS = (64, 256, 1024, 4096)
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}
LOOKS: dict[str, Callable[..., Tensor]] = {"written": attention, "fused": scaled_dot_product_attention}


def settings(cuda: bool) -> list[Row]:
    dtypes = list(DTYPES) if cuda else ["float32"]
    tokens = (*TOKENS, 16384) if cuda else TOKENS
    return [{"part": "attention", "dtype": dtype, "tokens": n} for dtype in dtypes for n in tokens]


def measure(bench: Bench, row: Row) -> Row:
    """FLOPs and bytes by formula, the largest tensor, and seconds, with and without the way back."""
    n, dtype = row["tokens"], DTYPES[row["dtype"]]
    drawn = torch.Generator().manual_seed(bench.seed)
    given = [torch.randn(1, HEADS, n, WIDTH, generator=drawn).to(bench.device, dtype) for _ in range(3)]
    learnt = [each.clone().requires_grad_() for each in given]
    found: Row = {"flops": attention_flops(n, WIDTH, HEADS), "windows": bench.windows}

    def trained(look: Callable[..., Tensor]) -> object:
        return torch.autograd.grad(look(*learnt).sum(), learnt)

    works: dict[str, Callable[[], object]] = {}
    answers: dict[str, Tensor] = {}
    with torch.no_grad():
        for name, look in LOOKS.items():
            with Largest() as largest:
                answers[name] = look(*given)
            moved = attention_bytes(n, WIDTH, HEADS, given[0].element_size(), written=name == "written")
            found |= {f"{name}_largest_bytes": largest.bytes, f"{name}_bytes_moved": moved}
            works[name] = partial(look, *given)
        found["apart"] = float(f"{float((answers['written'] - answers['fused']).abs().max()):.2g}")
        taken = bench.clock.in_turns(works, bench.windows, bench.seconds / 2)
    back = {f"{name}_trained": partial(trained, look) for name, look in LOOKS.items()}
    taken |= bench.clock.in_turns(back, bench.windows, bench.seconds / 2)
    return found | {f"{name}_seconds": quartiles(each) for name, each in taken.items()}
