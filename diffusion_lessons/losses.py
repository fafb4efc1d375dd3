"""One loss for every target: a weight on the error in x₀, carried over to what the network outputs.

Solving y for x₀ divides its error by −det/σ, so a weight w on |x₀ − x̂₀|² is the weight w·(σ/det)²
on |y − ŷ|². Every weight of the literature is then a function of the SNR alone.
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from diffusion_lessons.conditions import Condition
from diffusion_lessons.denoiser import network_time
from diffusion_lessons.paths import Level, NoisePath, add_noise, same_shape
from diffusion_lessons.targets import Target

Weight = Callable[[Level], Tensor]  # on the error in x₀, one for each time


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
    """min(SNR, γ): no level outweighs the others (Hang et al. 2023, section 3.4); γ ≤ 0 is a ValueError."""
    if not gamma > 0:
        raise ValueError(f"Min-SNR cuts the SNR at a γ above 0, got {gamma}")
    return lambda level: level.snr.clamp(max=gamma)


def p2(gamma: float = 1.0, k: float = 1.0) -> Weight:
    """SNR/(k + SNR)^γ: less weight on the cleanest levels (Choi et al. 2022, eq. 8).

    A k that is not above 0, or a γ below 0, is a ValueError.
    """
    if not (k > 0 and gamma >= 0):
        raise ValueError(f"P2 needs a k above 0 and a γ of at least 0, got k = {k} and γ = {gamma}")
    return lambda level: level.snr / (k + level.snr) ** gamma


def variational_bound(path: NoisePath) -> Weight:
    """½·(SNR(t − 1) − SNR(t)), the bound in nats (Kingma et al. 2021, eq. 13), for whole t ≥ 2.

    At t = 1 the bound holds the decoder instead (`vlb_terms`); there the weight of t = 2 is used. A path
    without these times, such as the straight one, is a ValueError.
    """
    if path.T < 2:
        raise ValueError(
            f"the bound is a sum over whole times, and this path ends at T = {path.T:g}: take another "
            "weight, or a discrete path"
        )
    return lambda level: bound_weight(path, level.t.clamp(min=2))


def bound_weight(path: NoisePath, t: Tensor) -> Tensor:
    """½·(SNR(t − 1) − SNR(t)) at whole times t ≥ 2: the weight of L_{t−1} on the error in x₀, in nats."""
    return (path(t - 1).snr - path(t).snr) / 2


def diffusion_loss(
    network: Callable[..., Tensor],
    path: NoisePath,
    target: Target,
    x0: Tensor,
    noise: Tensor,
    t: Tensor,
    condition: Condition = None,
    weight: Weight | None = None,
) -> Tensor:
    """Squared error of network(x, time, condition), averaged over each sample's entries: (B,) losses.

    x0 and noise are (B, ...), t is (B,) times above 0, as from `path.sample_times(B)`. The weight is on the
    error in x₀; None is the plain error of the target.
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
    classifier: Callable[..., Tensor], path: NoisePath, x0: Tensor, noise: Tensor, t: Tensor, labels: Tensor
) -> Tensor:
    """Cross-entropy of a classifier on noisy samples, one time each (Dhariwal and Nichol 2021, section 4).

    classifier(x, time) gives logits (B, classes) and labels (B,) are the classes of x0; x0, noise and t as in
    `diffusion_loss`. (B,) losses, in nats.
    """
    level = path(t)
    logits = classifier(add_noise(x0, noise, level), network_time(path, level, x0))
    return F.cross_entropy(logits.float(), labels, reduction="none")
