"""Fréchet distance: how far two sets of features are apart, seen as two Gaussians.

d² = |μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2·(Σ₁Σ₂)^½) (Heusel et al. 2017, eq. 6; Dowson and Landau 1982). Even two
sets of the same distribution are apart, by a bias that falls as 1/n (Chong and Forsyth 2020): n always
stands beside the distance, and only figures of the same n are comparable.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from diffusion_lessons.metrics.intervals import bootstrap_error
from diffusion_lessons.metrics.rows import rows, two_sets


@dataclass(frozen=True, eq=False)
class Statistics:
    """Mean (D,) and covariance (D, D), float64, of n samples' features; what doesn't fit is a ValueError."""

    mean: Tensor
    covariance: Tensor
    n: int

    def __post_init__(self) -> None:
        dim, mean, spread = self.mean.numel(), tuple(self.mean.shape), tuple(self.covariance.shape)
        if mean != (dim,) or spread != (dim, dim):
            raise ValueError(f"statistics are a mean (D,) and a covariance (D, D), got {mean} and {spread}")
        if not bool(self.mean.isfinite().all() and self.covariance.isfinite().all()):
            raise ValueError("the mean and the covariance must be finite, got NaN or infinity")

    @classmethod
    def of(cls, features: Tensor) -> "Statistics":
        """Of features (N, D); ValueError for N < D + 2, which leaves directions without any spread."""
        features = rows(features)
        n, dim = features.shape
        if n < dim + 2:
            raise ValueError(
                f"n = {n} is too few for {dim} features: their covariance needs at least {dim + 2} samples"
            )
        return cls.weighted(features, torch.ones(n, dtype=torch.float64))

    @classmethod
    def weighted(cls, features: Tensor, counts: Tensor) -> "Statistics":
        """Of features (N, D) in which row i occurs counts[i] times."""
        n = counts.sum()
        mean = counts @ features / n  # (D,)
        centred = features - mean
        covariance = (centred * counts[:, None]).T @ centred / (n - 1)  # (D, D)
        return cls(mean, covariance, int(n))


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """The (squared) Fréchet distance, as FID is, between features a (N, D) and b (M, D), N and M ≥ D + 2.

    Too few samples, shapes that don't fit, NaN and infinity are a ValueError.
    """
    a, b = two_sets(a, b)
    return frechet_between(Statistics.of(a), Statistics.of(b))


def frechet_between(a: Statistics, b: Statistics) -> float:
    """The (squared) Fréchet distance between two Gaussians; of different dimensions they are a ValueError.

    With any factors A·Aᵀ = Σ₁ and B·Bᵀ = Σ₂, tr (Σ₁Σ₂)^½ is the sum of the singular values of AᵀB:
    no square root of a matrix that is not symmetric, so nothing can turn out complex.
    """
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"both need the same number of features, got {len(a.mean)} and {len(b.mean)}")
    overlap = torch.linalg.svdvals(_factor(a.covariance).T @ _factor(b.covariance)).sum()
    shift = (a.mean - b.mean).square().sum()
    spread = a.covariance.trace() + b.covariance.trace() - 2 * overlap
    return float((shift + spread).clamp(min=0))  # rounding alone takes it below 0


def frechet_error(
    features: Tensor,
    reference: Statistics,
    generator: torch.Generator | None = None,
    strata: Tensor | None = None,
) -> float:
    """Standard error of the distance of features (N, D) to `reference`, from redrawing them.

    Too large by up to 2 where the distance is hardly more than its bias. `strata` as for `bootstrap_counts`.
    """
    features = rows(features)

    def distance(counts: Tensor) -> float:
        return frechet_between(Statistics.weighted(features, counts), reference)

    return bootstrap_error(distance, len(features), generator, strata)


def frechet_at_infinity(
    features: Tensor, reference: Statistics, sizes: int = 15, generator: torch.Generator | None = None
) -> float:
    """What the distance of features (N, D) to `reference` would be with infinitely many samples.

    The distance of n samples is about d∞ + c/n: it is measured for evenly spaced n from N/4 (or D + 2) to N,
    each of samples drawn anew without replacement, and the intercept of a line over 1/n is d∞ (Chong and
    Forsyth 2020, section 3). It may lie below 0. Without a generator the draws are always the same. Fewer
    than two sizes and too few samples for two of them are a ValueError.
    """
    features = rows(features)
    n, dim = features.shape
    least = max(n // 4, dim + 2)
    if sizes < 2 or n <= least:
        raise ValueError(
            f"a line needs two sizes of sets from {dim + 2} samples on, got n = {n} and {sizes} sizes"
        )
    generator = generator or torch.Generator().manual_seed(0)
    counts = torch.linspace(least, n, sizes, dtype=torch.float64).round()
    drawn = (features[torch.randperm(n, generator=generator)[: int(k)]] for k in counts)
    distances = [frechet_between(Statistics.of(some), reference) for some in drawn]
    line = torch.stack([torch.ones_like(counts), 1 / counts], 1)  # (sizes, 2)
    return float(torch.linalg.lstsq(line, torch.tensor(distances, dtype=torch.float64)[:, None]).solution[0])


def _factor(covariance: Tensor) -> Tensor:
    """A matrix F with F·Fᵀ = covariance (D, D); eigenvalues below 0 can only be rounding, and count as 0."""
    values, vectors = torch.linalg.eigh((covariance + covariance.T) / 2)
    return vectors * values.clamp(min=0).sqrt()
