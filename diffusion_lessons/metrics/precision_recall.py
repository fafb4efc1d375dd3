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
    """Precision and recall of `made` samples against `real` ones.

    Args:
        real: features (N, D), N > k; best as many as made ones, for the balls shrink with the number.
        made: features (M, D), M > k.
        k: which neighbour a ball reaches to, ≥ 1; the paper uses 3.

    Too few samples, shapes that don't fit, NaN and infinity are a ValueError.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    real, made = two_sets(real, made, at_least=k + 1)
    precise, recalled = _covered(made, real, k), _covered(real, made, k)
    return PrecisionRecall(precise / len(made), recalled / len(real), precise, recalled)


def _covered(points: Tensor, centres: Tensor, k: int) -> int:
    """How many points (N, D) lie in a ball around one of the centres (M, D)."""
    radii = _radii(centres, k)  # (M,)
    return sum(int((_distances(chunk, centres) <= radii).any(1).sum()) for chunk in points.split(CHUNK))


def _radii(x: Tensor, k: int) -> Tensor:
    """Distance of each row to its k-th neighbour, itself not counted: (M,)."""
    return torch.cat([_distances(chunk, x).kthvalue(k + 1, dim=1).values for chunk in x.split(CHUNK)])


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances (N, M), computed so that equal rows are exactly 0 apart."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
