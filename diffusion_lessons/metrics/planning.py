"""What a model of pictures would cost, before anything is trained: FLOPs, memory, seconds and money.

FLOPs and kept numbers are counted on a network of the real size without numbers in it. The rest is formulas:

- a picture: evaluations × FLOPs of one, and the decoder's; a training: pictures × forward and backward pass;
- memory: bytes of a parameter × parameters, and in training bytes × kept numbers × batch;
- seconds: FLOPs/(peak × share), with the peak of NVIDIA's data sheets (`training_cost.PEAK`) or any other;
- money: hours × price. The share that is reached and the price are for the reader to set.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from diffusion_lessons.metrics.cost import passes
from diffusion_lessons.metrics.training_cost import BYTES, counted, kept_by
from diffusion_lessons.networks import UNet, UNetConfig, Vae, VaeConfig

LATENTS = 4  # channels of latents: as in Stable Diffusion, whose autoencoder is `VaeConfig()`
FACTOR = 8  # pixels to a side of a latent
MULTS = (1, 2, 4, 4)  # widths of the U-Net's levels, over that of the first
BLOCKS, HEAD = 2, 32  # a level; width of a head
ATTENDS = 32  # the largest side of a grid on which it attends
HALF = 2  # bytes of a number in bf16


@dataclass(frozen=True)
class Counts:
    """What one picture costs a network, by count."""

    parameters: int
    flops: int  # of one evaluation
    training_flops: int  # forwards and backwards
    kept: int  # numbers that are kept for the way back, attention fused
    decoder_flops: int = 0  # of the autoencoder, once a picture; 0 in pixels
    decoder_parameters: int = 0


@dataclass(frozen=True)
class Costs:
    """FLOPs, bytes, seconds and money of drawing a picture and of a whole training."""

    picture_flops: float
    picture_seconds: float
    picture_money: float
    drawing_bytes: float  # weights in bf16
    training_flops: float
    training_seconds: float
    training_money: float
    training_bytes: float  # weights, gradients, moments, averages; and what a batch keeps


@cache
def counts(pixels: int, latents: bool, width: int) -> Counts:
    """A U-Net of the first width `width` for pictures of `pixels` a side, in latents or in pixels.

    It attends on grids of at most `ATTENDS` a side; with latents the published autoencoder's decoder comes on
    top. Sides that cannot be halved three times, and widths that no head divides, are a ValueError.
    """
    side, channels = (pixels // FACTOR, LATENTS) if latents else (pixels, 3)
    if width % HEAD or side % 2 ** (len(MULTS) - 1) or side < 1 or width < 1 or (latents and pixels % FACTOR):
        raise ValueError(
            f"expected a width that is a multiple of {HEAD} and a grid that halves {len(MULTS) - 1} times, "
            f"got {width=} and a grid of {side}×{side}"
        )
    sides = [side // 2**level for level in range(len(MULTS))]
    attends = tuple(level for level, each in enumerate(sides) if each <= ATTENDS)
    config = UNetConfig(channels, channels, width, MULTS, BLOCKS, attends, HEAD)
    with torch.device("meta"):
        network, x, time = UNet(config), torch.empty(1, channels, side, side), torch.empty(1)
    flops, learning, kept = _counted(network, lambda: network(x, time))
    parameters = sum(p.numel() for p in network.parameters())
    return Counts(parameters, flops, learning, kept, *(_decoder(pixels) if latents else ()))


def _counted(network: nn.Module, call: Callable[[], Tensor]) -> tuple[int, int, int]:
    """FLOPs of an evaluation, of forward and backward pass, and the numbers kept between the two."""
    from torch.utils.flop_counter import FlopCounterMode

    answers: list[Tensor] = []

    def kept_call() -> Tensor:
        answers.append(call())
        return answers[0]

    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        kept, _ = kept_by(network, kept_call)
        forward = counter.get_total_flops()
        answers.pop().sum().backward()
    return int(forward), int(counter.get_total_flops()), kept


@cache
def _decoder(pixels: int) -> tuple[int, int]:
    side = pixels // FACTOR
    with torch.device("meta"), torch.no_grad():
        vae, latents = Vae(VaeConfig()), torch.empty(1, LATENTS, side, side)
        flops = counted(lambda: vae.decode(latents))
        return flops, sum(p.numel() for p in vae.decoder.parameters())


def planned(
    counts: Counts,
    steps: int,
    guidance: float,
    pictures: float,
    batch: int,
    peak: float,
    share: float,
    price: float,
) -> Costs:
    """What drawing one picture and learning from so many costs.

    Args:
        steps, guidance: of the sampler, one evaluation a step, two with guidance.
        pictures: that are learnt from, over the whole training; latents are made ahead and not counted.
        batch: pictures at a time on the GPU, for memory.
        peak: FLOPs a second that the GPU has at best; share: of them that are reached, in (0, 1].
        price: money for an hour of the GPU.

    Raises:
        ValueError: a share out of range, a negative price, another that is not positive, NaN, infinity.
    """
    positive = all(0 < number < math.inf for number in (steps, pictures, batch, peak))
    if not (positive and 0 < share <= 1 and 0 <= price < math.inf):
        raise ValueError(
            f"expected positive numbers, a share in (0, 1] and a price of at least 0, got {steps=}, "
            f"{pictures=}, {batch=}, {peak=}, {share=}, {price=}"
        )
    a_picture = steps * passes(guidance) * counts.flops + counts.decoder_flops
    a_training = pictures * counts.training_flops
    seconds = [flops / (peak * share) for flops in (a_picture, a_training)]
    money = [each / 3600 * price for each in seconds]
    kept = sum(BYTES.values()) * counts.parameters + HALF * batch * counts.kept
    drawing = HALF * (counts.parameters + counts.decoder_parameters)
    return Costs(a_picture, seconds[0], money[0], drawing, a_training, seconds[1], money[1], kept)
