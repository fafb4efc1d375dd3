"""One loss for every target: a weight on the error in x₀, carried over to what the network outputs.

Solving y for x₀ divides its error by −det/σ, so a weight w on |x₀ − x̂₀|² is the weight w·(σ/det)²
on |y − ŷ|². Every weight of the literature is then a function of the SNR alone.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusion_lessons.denoiser import Condition, Denoiser, network_time
from diffusion_lessons.paths import Level, Path, add_noise, posterior, same_shape
from diffusion_lessons.targets import Target

Weight = Callable[[Level], Tensor]


# Weights on the error in x₀ -------------------------------------------------------------------------


def simple(level: Level) -> Tensor:
    """L_simple, the plain error in ε: SNR (Ho et al. 2020, eq. 14)."""
    return level.snr


def truncated_snr(level: Level) -> Tensor:
    """max(SNR, 1), so that noisy levels still count (Salimans and Ho 2022, section 4)."""
    return level.snr.clamp(min=1)


def snr_plus_one(level: Level) -> Tensor:
    """SNR + 1, the plain error in v on a variance-preserving path (Salimans and Ho 2022, section 4)."""
    return level.snr + 1


def min_snr(gamma: float = 5.0) -> Weight:
    """min(SNR, γ): no level outweighs the others (Hang et al. 2023, section 3.4)."""
    return lambda level: level.snr.clamp(max=gamma)


def p2(gamma: float = 1.0, k: float = 1.0) -> Weight:
    """SNR/(k + SNR)^γ: less weight on the cleanest levels (Choi et al. 2022, eq. 8)."""
    return lambda level: level.snr / (k + level.snr) ** gamma


def variational_bound(path: Path) -> Weight:
    """½·(SNR(t − 1) − SNR(t)), the bound in nats (Kingma et al. 2021, eq. 13), for whole t ≥ 2.

    At t = 1 the bound holds the decoder instead (`vlb_terms`); there the weight of t = 2 is used.
    """
    return lambda level: _bound_weight(path, level.t.clamp(min=2))


def _bound_weight(path: Path, t: Tensor) -> Tensor:
    return (path(t - 1).snr - path(t).snr) / 2


# The loss ------------------------------------------------------------------------------------------


def diffusion_loss(
    network: nn.Module,
    path: Path,
    target: Target,
    x0: Tensor,
    noise: Tensor,
    t: Tensor,
    condition: Condition = None,
    weight: Weight | None = None,
) -> Tensor:
    """Squared error of the network's output, averaged over each sample's entries.

    Args:
        network: called as network(x, time, condition).
        x0, noise: (B, ...), same shape.
        t: (B,) times above 0, as from `path.sample_times(B)`.
        condition: handed to the network.
        weight: on the error in x₀; None is the plain error of the target.

    Returns:
        (B,) losses.
    """
    level = path(t)
    output = network(add_noise(x0, noise, level), network_time(path, level, x0), condition)
    same_shape("the network's output and x0", output, x0)
    error = (output.float() - target.of(x0, noise, level).float()).square().flatten(1).mean(1)
    if weight is None:
        return error
    factor = weight(level) * (level.sigma / target.det(level)) ** 2
    if not bool(factor.isfinite().all()):
        raise ValueError(
            f"the weight is not finite for the target {target.name!r} at t = "
            f"{level.t[~factor.isfinite()][0].item():g}: sample times above 0; use 'v' at zero terminal SNR"
        )
    return factor.to(error.dtype).to(error.device, non_blocking=True) * error


def classifier_loss(
    classifier: nn.Module, path: Path, x0: Tensor, noise: Tensor, t: Tensor, labels: Tensor
) -> Tensor:
    """Cross-entropy of a classifier on noisy samples, one time each (Dhariwal and Nichol 2021, section 4).

    Args:
        classifier: called as classifier(x, time) -> logits (B, classes).
        x0, noise: (B, ...), same shape.
        t: (B,) times above 0, as from `path.sample_times(B)`.
        labels: (B,) the classes of x0.

    Returns:
        (B,) losses, in nats.
    """
    level = path(t)
    logits = classifier(add_noise(x0, noise, level), network_time(path, level, x0))
    return F.cross_entropy(logits.float(), labels, reduction="none")


# The variational bound, term by term ----------------------------------------------------------------


class VLBTerms(NamedTuple):
    """The bound on −log₂ p(x₀) in bits per dimension: prior + sum of steps + decoder, each (B,)."""

    prior: Tensor  # L_T: what the noisiest level still tells of x₀
    steps: Tensor  # (n, B): L_{t−1} at the times asked for
    decoder: Tensor  # L_0: the last step, to a discrete pixel value


@torch.no_grad()
def vlb_terms(
    denoiser: Denoiser,
    path: Path,
    x0: Tensor,
    times: list[int],
    condition: Condition = None,
    generator: torch.Generator | None = None,
    bins: int = 256,
) -> VLBTerms:
    """The terms of the variational bound (Ho et al. 2020, eq. 5; the decoder eq. 13).

    Args:
        x0: (B, ...) pictures with `bins` levels in [−1, 1].
        times: whole times from 2 to T at which to evaluate L_{t−1}. All of them sum to the bound;
            the mean over an even subset times T − 1 estimates that sum.
        bins: values a pixel can take.

    Returns:
        VLBTerms in bits per dimension.
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
        steps[row] = float(_bound_weight(path, torch.tensor(float(t)))) * error

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
