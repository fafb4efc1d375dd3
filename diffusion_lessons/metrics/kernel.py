"""Kernel distance: the squared maximum mean discrepancy with a cubic kernel, KID (Bińkowski et al. 2018).

Unlike the Fréchet distance its estimate is unbiased: two sets of the same distribution are 0 apart on
average whatever n, so single figures may well lie below 0.
"""

import torch
from torch import Tensor

from diffusion_lessons.metrics.intervals import bootstrap_counts
from diffusion_lessons.metrics.rows import two_sets

CHUNK = 1024  # rows of the kernel matrix in memory at a time


def polynomial_kernel(a: Tensor, b: Tensor) -> Tensor:
    """k(a, b) = (aᵀb/D + 1)³, the kernel of KID: (N, D), (M, D) -> (N, M)."""
    return (a @ b.T / a.shape[1] + 1) ** 3


def kernel_distance(a: Tensor, b: Tensor) -> float:
    """The unbiased distance between features a (N, D) and b (M, D), N and M ≥ 2 (Gretton et al. 2012, eq. 3).

    Too few samples, shapes that don't fit, NaN and infinity are a ValueError.
    """
    a, b = two_sets(a, b)
    return float(_weighted_distance(a, b, torch.ones(1, len(a), dtype=a.dtype)))


def kernel_error(
    a: Tensor, b: Tensor, generator: torch.Generator | None = None, strata: Tensor | None = None
) -> float:
    """Standard error of `kernel_distance(a, b)`, from redrawing the samples of a, with b held fixed.

    It is too large by up to 2 where the distance is about 0. `strata` as for `bootstrap_counts`.
    """
    a, b = two_sets(a, b)
    return float(_weighted_distance(a, b, bootstrap_counts(len(a), generator=generator, strata=strata)).std())


def _weighted_distance(a: Tensor, b: Tensor, counts: Tensor) -> Tensor:
    """The distance for each of R ways to weight the samples of a, counts (R, N) -> (R,).

    A sample is never paired with itself, nor with a second drawing of itself.
    """
    once = torch.ones(1, len(b), dtype=b.dtype)
    between = _sum_over_kernel(a, b, counts, once) / (counts.sum(1) * len(b))
    return _mean_of_pairs(a, counts) + _mean_of_pairs(b, once) - 2 * between


def _mean_of_pairs(x: Tensor, counts: Tensor) -> Tensor:
    """Mean of k(xᵢ, xⱼ) over i ≠ j, weighted by counts (R, N): (R,)."""
    themselves = (x.square().mean(1) + 1) ** 3  # k(xᵢ, xᵢ), (N,)
    squares = counts.square()
    pairs = counts.sum(1).square() - squares.sum(1)
    return (_sum_over_kernel(x, x, counts, counts) - squares @ themselves) / pairs


def _sum_over_kernel(a: Tensor, b: Tensor, counts_a: Tensor, counts_b: Tensor) -> Tensor:
    """Σᵢⱼ counts_a[r, i]·k(aᵢ, bⱼ)·counts_b[r, j]: (R,)."""
    total = torch.zeros(len(counts_a), dtype=a.dtype)
    for chunk, weights in zip(a.split(CHUNK), counts_a.split(CHUNK, dim=1), strict=True):
        total += ((weights @ polynomial_kernel(chunk, b)) * counts_b).sum(1)
    return total
