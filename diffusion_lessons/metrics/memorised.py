"""Whether made pictures are copies: are they nearer to the training pictures than to others of the kind?

Metrics that compare sets of features cannot tell: a generator that gives back its training pictures is at the
floor of all of them. So samples are compared with what was held out, too (as Meehan et al. 2020 do, by a test
of distances).
"""

from typing import NamedTuple

from torch import Tensor

from diffusion_lessons.metrics.intervals import wilson_interval
from diffusion_lessons.metrics.rows import two_sets

CHUNK = 512  # samples compared at a time


class Nearer(NamedTuple):
    """The share of samples that lie nearer to the training set, and its 95 % interval (Wilson)."""

    share: float  # about 1/2 for samples that know nothing of which pictures were trained on, 1 for copies
    low: float
    high: float


def nearer_to_training(made: Tensor, training: Tensor, held_out: Tensor) -> Nearer:
    """The share of made samples (M, D) that have a training sample (N, D) nearer than any held out.

    Rows are pixels or features. Both sets have to be as large, or the larger one would be nearer by its
    number alone: anything else, shapes that don't fit, NaN and infinity are a ValueError. Equal distances
    count as not nearer.
    """
    if len(training) != len(held_out):
        raise ValueError(
            f"{len(training)} training samples against {len(held_out)} held out: take as many of each, the "
            "larger set would be nearer by its number alone"
        )
    made, training = two_sets(made, training)
    _, held_out = two_sets(made, held_out)
    count = sum(
        int((_nearest(chunk, training) < _nearest(chunk, held_out)).sum()) for chunk in made.split(CHUNK)
    )
    return Nearer(count / len(made), *wilson_interval(count, len(made)))


def _nearest(points: Tensor, others: Tensor) -> Tensor:
    """The squared distance of each point (N, D) to the nearest of the others (M, D): (N,)."""
    squares = others.square().sum(1)  # (M,)
    distances: Tensor = squares - 2 * points @ others.T
    return distances.min(1).values + points.square().sum(1)
