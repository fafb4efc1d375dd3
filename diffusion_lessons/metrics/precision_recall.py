"""Precision and recall: what share of the made pictures is real-looking, and of the real ones covered.

Each set is seen as the union of balls around its samples that reach to the k-th neighbour
(Kynkäänniemi et al. 2019, eq. 1 and 2).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from diffusion_lessons.metrics.rows import two_sets

CHUNK = 1024  # rows of the distance matrix in memory at a time


class PrecisionRecall(NamedTuple):
    """Shares from 0 to 1, and the counts they come from."""

    precision: float  # made samples that lie among the real ones
    recall: float  # real samples that lie among the made ones
    precise: int
    recalled: int


def precision_recall(real: Tensor, made: Tensor, k: int = 3) -> PrecisionRecall:
    """Precision and recall of made samples' features (M, D) against real ones' (N, D), N and M > k ≥ 1.

    A ball reaches to its k-th neighbour; the paper uses 3. Best take as many real samples as made ones, for
    balls shrink with the number. Too few samples, shapes that don't fit, NaN and infinity are a ValueError.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    real, made = two_sets(real, made, at_least=k + 1)
    precise, recalled = _covered(made, real, k), _covered(real, made, k)
    return PrecisionRecall(precise / len(made), recalled / len(real), precise, recalled)


def _covered(points: Tensor, centres: Tensor, k: int) -> int:
    """How many points (N, D) lie in a ball around one of the centres (M, D)."""
    # (M,) distance of each centre to its k-th neighbour: the nearest of all, itself, is not counted
    radii = torch.cat([_distances(c, centres).kthvalue(k + 1, dim=1).values for c in centres.split(CHUNK)])
    return sum(int((_distances(chunk, centres) <= radii).any(1).sum()) for chunk in points.split(CHUNK))


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances (N, M), computed so that equal rows are exactly 0 apart."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
