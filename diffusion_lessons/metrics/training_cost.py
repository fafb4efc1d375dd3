"""What training a Stable Diffusion costs by count: FLOPs and memory of its real size, against published runs.

`python -m diffusion_lessons.metrics.training_cost` prints the tables of docs/scale.md. Networks are made on
the meta device: shapes without numbers, so a laptop counts in half a minute what a cluster computes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from diffusion_lessons.networks.clip import TextConfig, TextTransformer
from diffusion_lessons.networks.counting import storage_of
from diffusion_lessons.networks.unet_text import TextUNet, TextUNetConfig
from diffusion_lessons.networks.vae import Vae, VaeConfig

SD1 = TextUNetConfig()
SD2 = TextUNetConfig(heads=(5, 10, 20, 20), context=1024, linear=True)
TOKENS = 77
PEAK = {"A100": 312e12, "H100": 989e12}  # FLOP/s of dense bf16 matrix products, by NVIDIA's data sheets
BYTES = {"weights": 4, "gradients": 4, "moments of AdamW": 8, "averaged weights": 4}  # of a parameter
HOURS_SD1 = 150_000  # A100-hours on Stable Diffusion 1's model card


@dataclass(frozen=True)
class Stage:
    """A part of a published run: pictures of one size that were learnt from."""

    pixels: int
    pictures: float


@dataclass(frozen=True)
class Throughput:
    """Pictures per second that one GPU was measured to learn from (the U-Net alone, latents made ahead)."""

    pixels: int
    gpus: int
    pictures: float

    def used(self, config: TextUNetConfig) -> float:
        """The share of the GPUs' peak that the counted FLOPs are."""
        return self.pictures / self.gpus * learning(config, self.pixels) / PEAK["A100"]


BATCH = 2048
STEPS_SD1 = {256: 237_000, 512: 194_000 + 515_000 + 195_000}  # of the checkpoints 1.1, 1.2 and 1.3
RUN_SD1 = tuple(Stage(pixels, BATCH * steps) for pixels, steps in STEPS_SD1.items())
RUN_SD2 = (Stage(256, 1_126_400_000), Stage(512, 1_740_800_000))  # MosaicML's
MEASURED = (
    Throughput(256, 8, 1100),
    Throughput(512, 8, 290),
    Throughput(256, 128, 11600),
    Throughput(512, 128, 4590),
)
DAYS_SD2 = {8: 81.33, 128: 5.51}  # MosaicML's, by the number of A100s


def counted(run: Callable[[], object]) -> int:
    """FLOPs of matrix products and convolutions, attention written out."""
    from torch.utils.flop_counter import FlopCounterMode

    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


def _call(config: TextUNetConfig, pixels: int) -> tuple[TextUNet, Callable[[], Tensor]]:
    side = pixels // 8
    with torch.device("meta"):
        network, x, time = TextUNet(config), torch.empty(1, 4, side, side), torch.empty(1)
        told = {"context": torch.empty(1, TOKENS, config.context)}
    return network, lambda: network(x, time, told)


@cache
def learning(config: TextUNetConfig, pixels: int) -> int:
    """FLOPs of one picture in training: the U-Net forwards and backwards."""
    _, call = _call(config, pixels)
    return counted(lambda: call().sum().backward())


@cache
def drawing(config: TextUNetConfig, pixels: int) -> int:
    """FLOPs of one picture in one evaluation of the U-Net."""
    _, call = _call(config, pixels)
    with torch.no_grad():
        return counted(call)


@cache
def encoding(pixels: int) -> int:
    """FLOPs of encoding one picture and its caption, where that is done while training."""
    with torch.device("meta"), torch.no_grad():
        vae, picture = Vae(VaeConfig()), torch.empty(1, 3, pixels, pixels)
        tower, tokens = TextTransformer(TextConfig()), torch.zeros(1, TOKENS, dtype=torch.int64)
        return counted(lambda: vae.moments(picture)) + counted(lambda: tower(tokens))


def flops_of(run: tuple[Stage, ...], config: TextUNetConfig, encoded: bool) -> float:
    """FLOPs of a whole run; `encoded` says that latents and texts were made ahead."""
    return sum(
        stage.pictures * (learning(config, stage.pixels) + (0 if encoded else encoding(stage.pixels)))
        for stage in run
    )


def hours(flops: float, used: float, gpu: str = "A100") -> float:
    """GPU-hours for so many FLOPs at a share of the peak that is used."""
    return flops / (used * PEAK[gpu] * 3600)


@cache
def parameters(config: TextUNetConfig) -> int:
    """The U-Net's number of parameters."""
    return sum(p.numel() for p in _call(config, 256)[0].parameters())


@cache
def kept(config: TextUNetConfig, pixels: int) -> tuple[int, int]:
    """Numbers that one picture leaves for the way back: with fused attention, and with maps written out."""
    return kept_by(*_call(config, pixels))


def kept_by(network: nn.Module, call: Callable[[], Tensor]) -> tuple[int, int]:
    """Numbers that a call of a network leaves for the way back: without attention's maps, and with them.

    Weights are there anyway and do not count.
    """
    weights = {storage_of(p) for p in network.parameters()}
    saved: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        saved[storage_of(tensor)] = tensor
        return tensor

    with (
        sdpa_kernel(SDPBackend.MATH),
        _Maps() as maps,
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        output = call()
    held = {place: t for place, t in saved.items() if place not in weights}
    written = {place: t for place, t in held.items() if place in maps.places}
    every, of_maps = (
        sum(t.untyped_storage().nbytes() // t.element_size() for t in each.values())
        for each in (held, written)
    )
    del output
    return every - of_maps, every


class _Maps(TorchDispatchMode):
    """Where the results of all softmaxes lie."""

    def __init__(self) -> None:
        super().__init__()
        self.places: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        if "softmax" in str(function):
            self.places.add(storage_of(made))
        return made


def tables() -> list[str]:
    """The lines of docs/scale.md that are computed."""
    return [
        *_table("one picture, Stable Diffusion 1 | 256 px | 512 px", _of_a_picture()),
        "",
        *_table("Stable Diffusion 1, the whole run | counted", _of_a_run()),
        "",
        *_table("MosaicML's Stable Diffusion 2, the U-Net alone | counted", _of_measured_runs()),
        "",
        *_table("ten times Stable Diffusion 1 | counted", _of_ten_times()),
    ]


def _table(head: str, rows: dict[str, str]) -> list[str]:
    rule = "|---" * (head.count("|") + 1)
    return [f"| {head} |", f"{rule}|", *(f"| {name} | {figure} |" for name, figure in rows.items())]


def _of_a_picture() -> dict[str, str]:
    rows = {
        "U-Net, one evaluation, GFLOP": [drawing(SD1, pixels) for pixels in (256, 512)],
        "U-Net, forwards and backwards, GFLOP": [learning(SD1, pixels) for pixels in (256, 512)],
        "encoding picture and caption, GFLOP": [encoding(pixels) for pixels in (256, 512)],
    }
    return {name: " | ".join(f"{each / 1e9:,.0f}" for each in counts) for name, counts in rows.items()}


def _of_a_run() -> dict[str, str]:
    flops, used, per = flops_of(RUN_SD1, SD1, encoded=False), MEASURED[1].used(SD2), sum(BYTES.values())
    memory, fused, written = per * parameters(SD1) / 1e9, *(2 * count / 1e9 for count in kept(SD1, 512))
    share = flops / PEAK["A100"] / HOURS_SD1 / 3600
    learnt = "; ".join(f"{stage.pictures / 1e9:.2f}" for stage in RUN_SD1)
    return {
        "pictures learnt from at 256 px; at 512 px": f"{learnt} billion",
        "FLOPs, encoding included": f"{flops:.2e}",
        f"the share of what {HOURS_SD1:,} A100-hours could do": f"{share:.1%}",
        f"A100-hours, if {used:.0%} of the peak were used": f"{hours(flops, used):,.0f}",
        "parameters of the U-Net": f"{parameters(SD1):,}",
        f"{', '.join(BYTES)}: {per} bytes each": f"{memory:.1f} GB",
        "the same over 8 processes with `--use_fsdp`": f"{memory / 8:.1f} GB each",
        "kept for the way back of a 512 px picture in bf16, attention fused": f"{fused:.1f} GB",
        "the same with attention's maps written out": f"{written:.1f} GB",
    }


def _of_measured_runs() -> dict[str, str]:
    flops = flops_of(RUN_SD2, SD2, encoded=True)
    windows = {
        f"share of the peak that {each.gpus} A100s used at {each.pixels} px": f"{each.used(SD2):.0%}"
        for each in MEASURED
    }
    whole = {
        f"the same over the whole run on {gpus} A100s": f"{flops / (gpus * days * 86400 * PEAK['A100']):.0%}"
        for gpus, days in DAYS_SD2.items()
    }
    return {"FLOPs of the whole run": f"{flops:.2e}", **windows, **whole}


def _of_ten_times() -> dict[str, str]:
    flops, used = 10 * flops_of(RUN_SD1, SD1, encoded=False), MEASURED[1].used(SD2)
    memory = 10 * sum(BYTES.values()) * parameters(SD1) / 1e9
    days = {gpu: hours(flops, used, gpu) / 256 / 24 for gpu in PEAK}
    return {
        f"A100-hours for its FLOPs, if {used:.0%} of the peak are used": f"{hours(flops, used):,.0f}",
        **{
            f"days on 256 {gpu}s at the same share of their peak": f"{each:.0f}" for gpu, each in days.items()
        },
        f"its parameters: {', '.join(BYTES)}": f"{memory:.0f} GB",
        "the same over 8 processes; over 64": f"{memory / 8:.1f}; {memory / 64:.1f} GB each",
    }


if __name__ == "__main__":
    print("\n".join(tables()))
