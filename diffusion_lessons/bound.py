"""The variational bound on −log p(x₀), term by term, in bits per dimension (Ho et al. 2020, eq. 5)."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from diffusion_lessons.conditions import Condition
from diffusion_lessons.denoiser import Denoiser
from diffusion_lessons.losses import bound_weight
from diffusion_lessons.paths import Level, NoisePath, add_noise, posterior


class VLBTerms(NamedTuple):
    """The bound on −log₂ p(x₀) in bits per dimension: prior + sum of steps + decoder, each (B,)."""

    prior: Tensor  # L_T: what the noisiest level still tells of x₀
    steps: Tensor  # (n, B): L_{t−1} at the times asked for
    decoder: Tensor  # L_0: the last step, to a discrete pixel value


@torch.no_grad()
def vlb_terms(
    denoiser: Denoiser,
    path: NoisePath,
    x0: Tensor,
    times: list[int],
    condition: Condition = None,
    generator: torch.Generator | None = None,
    bins: int = 256,
) -> VLBTerms:
    """The terms of the bound (Ho et al. 2020, eq. 5; the decoder eq. 13) for pictures x0 (B, ...).

    A pixel of x0 takes one of `bins` values in [−1, 1]. L_{t−1} is evaluated at the given whole times, from 2
    to T: all of them sum to the bound; the mean over an even subset times T − 1 estimates that sum.
    """
    wrong = [t for t in times if not 2 <= t <= path.T]
    if wrong:
        raise ValueError(f"the bound's steps run from t = 2 to T = {path.T:g}, got {wrong[0]}")
    bits = 1 / math.log(2)

    def noised(level: Level) -> tuple[Tensor, Tensor]:
        noise = torch.randn(x0.shape, generator=generator, dtype=x0.dtype, device=x0.device)
        x = add_noise(x0, noise, level)
        return x, denoiser(x, level, condition).x0

    end = path(float(path.T))
    variance = float(end.sigma**2)
    prior = ((float(end.alpha**2) * x0**2) + variance - 1 - math.log(variance)).flatten(1).mean(1) / 2

    steps = x0.new_zeros(len(times), len(x0))
    for row, t in enumerate(times):
        error = (noised(path(float(t)))[1] - x0).square().flatten(1).mean(1)
        steps[row] = float(bound_weight(path, torch.tensor(float(t)))) * error

    first = path(1.0)
    mean = posterior(*noised(first)[::-1], first, path(0.0))[0]
    decoder = -_log_bin_probability(x0, mean, float(first.sigma), bins).flatten(1).mean(1)
    return VLBTerms(prior * bits, steps * bits, decoder * bits)


def _log_bin_probability(x: Tensor, mean: Tensor, std: float, bins: int) -> Tensor:
    """log of the mass that N(mean, std²) puts on the bin of each pixel; the end bins are open."""
    half = 1 / (bins - 1)
    above, below = (x + half - mean) / std, (x - half - mean) / std
    log_ndtr = torch.special.log_ndtr
    # the side where both tails are small keeps the difference accurate
    flip = (above + below) > 0
    high, low = torch.where(flip, -below, above), torch.where(flip, -above, below)
    inside = log_ndtr(high) + torch.log1p(-torch.exp(log_ndtr(low) - log_ndtr(high)).clamp(max=1 - 1e-7))
    ends = torch.where(x < -1 + half, log_ndtr(above), log_ndtr(-below))
    return torch.where(x.abs() > 1 - half, ends, inside)
