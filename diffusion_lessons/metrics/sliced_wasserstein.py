"""Sliced Wasserstein distance: two sets are compared along many random directions, where sorting is exact.

For samples of any kind: points of a plane, pictures, features (Rabin et al. 2011; Bonneel et al. 2015).
"""

import torch
from torch import Tensor

from diffusion_lessons.metrics.rows import two_sets


def sliced_wasserstein(
    a: Tensor, b: Tensor, projections: int = 256, p: float = 2.0, generator: torch.Generator | None = None
) -> float:
    """(mean over directions of W_pᵖ)^(1/p) between samples a (N, ...) and b (M, ...), in their own units.

    Samples are flattened to points. A shift by δ in D dimensions gives |δ|/√D (for p = 2). The `projections`
    are random directions; without a generator they are always the same. Shapes that don't fit, no
    projections, p < 1, NaN and infinity are a ValueError.
    """
    if projections < 1 or not p >= 1:
        raise ValueError(f"expected projections ≥ 1 and p ≥ 1, got {projections} and {p}")
    if a.ndim < 2 or b.ndim < 2:
        raise ValueError(f"samples have shape (N, ...), got {tuple(a.shape)} and {tuple(b.shape)}")
    a, b = two_sets(a.flatten(1), b.flatten(1), at_least=1)
    generator = generator or torch.Generator().manual_seed(0)
    directions = torch.randn(a.shape[1], projections, dtype=a.dtype, generator=generator)
    directions = directions / directions.norm(dim=0)  # (D, P), unit columns
    costs = _transport_cost(a @ directions, b @ directions, p)  # (P,)
    return float(costs.mean() ** (1 / p))


def _transport_cost(a: Tensor, b: Tensor, p: float) -> Tensor:
    """W_pᵖ of each column of (N, P) and (M, P), exactly: (P,).

    The i-th of n sorted points covers the shares (i/n, (i+1)/n] of the mass; between neighbouring
    borders of either set one point of each meets the other.
    """
    a, b = a.sort(dim=0).values, b.sort(dim=0).values
    n, m = len(a), len(b)
    whole = torch.lcm(torch.tensor(n), torch.tensor(m)).item()  # shares as integers: no rounding
    borders = torch.cat([torch.arange(0, whole + 1, whole // count) for count in (n, m)]).unique()
    starts, lengths = borders[:-1], borders.diff().to(a.dtype) / whole  # (S,)
    gaps = (a[starts // (whole // n)] - b[starts // (whole // m)]).abs() ** p  # (S, P)
    return lengths @ gaps
