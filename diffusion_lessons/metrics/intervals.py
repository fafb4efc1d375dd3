"""How sure a measured figure is: a standard error by redrawing the samples, an interval for a share."""

import math
from collections.abc import Callable

import torch
from torch import Tensor


def bootstrap_counts(
    n: int, repeats: int = 100, generator: torch.Generator | None = None, strata: Tensor | None = None
) -> Tensor:
    """How often each of n samples is drawn when n are drawn with replacement: (repeats, n), float64.

    100 repeats give an error to about 7 %. Without a generator the draws are always the same. With strata,
    (n,) whole numbers, samples are redrawn within each stratum, as is right where the numbers in them were
    chosen: pictures made for given labels, say. Fewer than 2 samples or repeats and strata of another shape
    are a ValueError.
    """
    if n < 2 or repeats < 2:
        raise ValueError(f"a bootstrap needs at least 2 samples and 2 repeats, got n = {n} and {repeats}")
    strata = torch.zeros(n, dtype=torch.int64) if strata is None else strata
    if strata.shape != (n,):
        raise ValueError(f"strata must have shape ({n},), got {tuple(strata.shape)}")
    generator = generator or torch.Generator().manual_seed(0)
    counts = torch.zeros(repeats, n, dtype=torch.float64)
    for stratum in strata.unique():
        members = (strata == stratum).nonzero().squeeze(1)  # (M,)
        drawn = members[torch.randint(len(members), (repeats, len(members)), generator=generator)]
        counts.scatter_add_(1, drawn, torch.ones(drawn.shape, dtype=torch.float64))
    return counts


def bootstrap_error(
    statistic: Callable[[Tensor], float],
    n: int,
    generator: torch.Generator | None = None,
    strata: Tensor | None = None,
) -> float:
    """Standard error of a statistic of n samples, by the bootstrap (Efron 1979).

    The statistic is a function of counts (n,), how often each sample was drawn; the rest is as for
    `bootstrap_counts`.
    """
    figures = [statistic(counts) for counts in bootstrap_counts(n, generator=generator, strata=strata)]
    return float(torch.tensor(figures, dtype=torch.float64).std())


def wilson_interval(successes: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """(low, high) of a share of `successes` in n, z standard errors wide (Wilson 1927).

    It stays within 0 to 1 and, unlike p ± z·√(p(1 − p)/n), is not empty at 0 or n successes.
    """
    if n < 1 or not 0 <= successes <= n or z <= 0:
        raise ValueError(f"expected 0 ≤ successes ≤ n, n ≥ 1 and z > 0; got {successes} of {n}, z = {z}")
    share, spread = successes / n, z * z / n
    centre = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / n + spread / (4 * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def share_error(successes: int, n: int) -> float:
    """Standard error of a share: half the Wilson interval at z = 1, so it is never 0."""
    low, high = wilson_interval(successes, n, z=1.0)
    return (high - low) / 2
