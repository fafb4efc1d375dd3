"""How sure a measured figure is: a standard error by redrawing the samples, an interval for a share."""

import math
from collections.abc import Callable

import torch
from torch import Tensor


def bootstrap_counts(n: int, repeats: int, generator: torch.Generator | None = None) -> Tensor:
    """How often each of n samples is drawn when n are drawn with replacement: (repeats, n), float64.

    Every row sums to n. Without a generator the draws are always the same ones.
    """
    if n < 2 or repeats < 2:
        raise ValueError(f"a bootstrap needs at least 2 samples and 2 repeats, got n = {n} and {repeats}")
    generator = generator or torch.Generator().manual_seed(0)
    drawn = torch.randint(n, (repeats, n), generator=generator)
    counts = torch.zeros(repeats, n, dtype=torch.float64)
    return counts.scatter_add_(1, drawn, torch.ones(repeats, n, dtype=torch.float64))


def bootstrap_error(
    statistic: Callable[[Tensor], float], n: int, repeats: int = 100, generator: torch.Generator | None = None
) -> float:
    """Standard error of a statistic of n samples, by the bootstrap (Efron 1979).

    Args:
        statistic: counts (n,) -> figure, counts[i] being how often sample i was drawn.
        n: number of samples.
        repeats: redrawings; 100 give the error to about 7 %.
        generator: for the draws; without one they are always the same.
    """
    figures = [statistic(counts) for counts in bootstrap_counts(n, repeats, generator)]
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
