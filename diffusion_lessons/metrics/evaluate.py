"""All figures of a set of made pictures in one dictionary, each with its uncertainty and with n beside it."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffusion_lessons.data.dataset import to_uint8
from diffusion_lessons.metrics.frechet import Statistics, frechet_between, frechet_error
from diffusion_lessons.metrics.intervals import share_error
from diffusion_lessons.metrics.kernel import kernel_distance, kernel_error
from diffusion_lessons.metrics.precision_recall import precision_recall
from diffusion_lessons.metrics.yardstick import Yardstick, features_and_classes
from diffusion_lessons.support.errors import unknown

TOLERANCE = 0.5  # how far beyond [−1, 1] floats may lie: a sampler that does not clip goes up to 0.3 there


def evaluate(
    samples: Tensor | np.ndarray,
    labels: Tensor | np.ndarray | None = None,
    yardstick: Yardstick | None = None,
    reference: str = "test",
    generator: torch.Generator | None = None,
) -> dict[str, Any]:
    """Distances to real pictures, precision, recall, and how often the wanted class (N,) is recognised.

    Samples are (N, C, H, W), or (N, H, W) for grey, uint8 or floats in [−1, 1], N ≥ D + 2, that is 66 with
    the bundled yardsticks (`zoo.yardstick("mnist")`). Floats are clamped and rounded to bytes first, so that
    what is measured is the picture one would save; more than `TOLERANCE` outside they are refused. The
    reference says which real pictures to compare with, those of the "test" or of the "train" split. Without a
    generator for the bootstrap the same input always gives the same result. Too few samples, shapes, ranges
    or labels that don't fit, NaN or infinity, what is no yardstick or has no such reference are a ValueError.

    The result holds only numbers and text. Every figure is {"value", "uncertainty"}; the uncertainty is one
    standard error over the draw of the samples, with the reference held fixed. With labels the samples count
    as drawn class by class, for the labels were chosen; without them "accuracy" is None. The Fréchet distance
    has a bias that falls as 1/n: compare it only between sets of the same n. The kernel distance has none for
    samples drawn at random; labels that go evenly round the classes take it a little below 0, for such a set
    is more even than chance (real digits: −0.04 at n = 1000).
    """
    if not isinstance(yardstick, Yardstick):
        raise ValueError(
            f"pictures are measured by a Yardstick, got {type(yardstick).__name__}: hand over "
            "zoo.yardstick('mnist') or zoo.yardstick('digits'), or make one with Yardstick.of"
        )
    if reference not in yardstick.references:
        raise unknown("reference split", reference, yardstick.references)
    real = yardstick.references[reference]
    x = torch.as_tensor(samples)
    x = x[:, None] if x.ndim == 3 else x  # (N, C, H, W)
    wanted = yardstick.check(x.shape, labels)
    made, predicted = features_and_classes(yardstick.classifier, _as_bytes(x))  # (N, D), (N,)
    n, some = len(made), real.sample[: len(made)]  # as many real as made ones, where there are enough
    shares = precision_recall(some, made)
    return {
        "n": n,
        "features": yardstick.name,
        "reference": {"split": reference, "n": real.statistics.n, "sample": len(real.sample)},
        "frechet": _figure(
            frechet_between(Statistics.of(made), real.statistics),
            frechet_error(made, real.statistics, generator, wanted),
        ),
        "kernel": _figure(
            kernel_distance(made, real.sample), kernel_error(made, real.sample, generator, wanted)
        ),
        "precision": _share(shares.precise, n),
        "recall": _share(shares.recalled, len(some)),
        "accuracy": None if wanted is None else _share(int((predicted == wanted).sum()), n),
    }


def figures(result: dict[str, Any]) -> dict[str, dict[str, float]]:
    """The figures of an `evaluate` by name, {"value", "uncertainty"} each, without what else it tells."""
    return {name: entry for name, entry in result.items() if isinstance(entry, dict) and "value" in entry}


def _as_bytes(x: Tensor) -> Tensor:
    if x.dtype == torch.uint8:
        return x
    if not x.is_floating_point():
        raise ValueError(f"samples must be uint8 or floats in [−1, 1], got {x.dtype}")
    low, high = float(x.min()), float(x.max())
    if low >= 0 or max(-low, high) > 1 + TOLERANCE:
        raise ValueError(
            f"floats must lie in [−1, 1], and at most {TOLERANCE} beyond, got {low:.3g} to {high:.3g}: "
            "pass uint8 for 0 to 255, 2·x − 1 for 0 to 1, or clamp them where they are meant to lie outside"
        )
    return to_uint8(x)


def _figure(value: float, uncertainty: float) -> dict[str, float]:
    return {"value": value, "uncertainty": uncertainty}


def _share(successes: int, n: int) -> dict[str, float]:
    return _figure(successes / n, share_error(successes, n))
