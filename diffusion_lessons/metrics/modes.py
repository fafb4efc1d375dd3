"""Modes of a mixture: how many are covered by samples, how evenly, and how wide each came out.

"One sample near it" would let a blur cover most modes, so a mode counts from a share of what is its due.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from diffusion_lessons.metrics.rows import rows, two_sets

REACH = 3.0  # standard deviations within which a sample is good (Lin et al. 2018, section 4.1)
SHARE = 0.2  # of its due, from which on a mode counts as covered


class Modes(NamedTuple):
    """What samples make of K modes that all have the same due."""

    covered: int  # modes with at least `SHARE` of n/K good samples
    good: float  # share of the samples within `REACH` standard deviations of a centre
    kl: float  # KL of the samples' shares, each counted for its nearest centre, from even ones; in nats
    width: float  # typical deviation of good samples on an axis, over that of true ones; NaN without any
    shares: tuple[float, ...]  # of each mode, good samples over its due


def count_modes(x: Tensor, centres: Tensor, std: float) -> Modes:
    """Count the modes in samples x (N, 2): Gaussians of deviation `std` around centres (K, 2), all as likely.

    Even real samples have a KL of about (K − 1)/(2N). The width is the root mean square of the modes' own
    deviations around their own means, each mode weighing as many as it has good samples, less the one that a
    mean takes; 1 is right. Samples of another width, std ≤ 0, NaN and infinity are a ValueError.
    """
    x, centres = two_sets(rows(x, what="samples"), rows(centres, 1, "centres"), at_least=1)
    if x.shape[1] != 2 or not (std > 0 and math.isfinite(std)):
        raise ValueError(f"modes are counted in a plane, with a std above 0; got {x.shape[1]}-d and {std}")
    n, k = len(x), len(centres)
    distance, nearest = torch.cdist(x, centres).min(1)  # (N,), (N,)
    good = distance <= REACH * std
    found = torch.bincount(nearest[good], minlength=k)  # (K,)
    shares = torch.bincount(nearest, minlength=k) / n
    kl = float(torch.special.xlogy(shares, shares * k).sum())
    due = found.double() * k / n
    width = _spread(x[good], nearest[good], k) / (std * _kept_spread())
    return Modes(int((due >= SHARE).sum()), float(good.double().mean()), kl, width, tuple(due.tolist()))


def _spread(x: Tensor, mode: Tensor, k: int) -> float:
    """Root mean square deviation on an axis of x (M, 2) from the mean of its mode (M,)."""
    count = torch.bincount(mode, minlength=k)  # (K,)
    sums = torch.zeros(k, 2, dtype=x.dtype).index_add(0, mode, x)
    offset = x - (sums / count.clamp(min=1)[:, None])[mode]
    freedom = int((count - 1).clamp(min=0).sum())
    return math.sqrt(float(offset.square().sum()) / (2 * freedom)) if freedom else math.nan


def _kept_spread() -> float:
    """The deviation on an axis of N(0, I) in a plane, kept only within `REACH`: a little below 1.

    Of r² = s, exponential with mean 2 and cut at REACH², half the mean is the variance on an axis.
    """
    cut = REACH**2 / 2
    return math.sqrt(1 - cut * math.exp(-cut) / (1 - math.exp(-cut)))
