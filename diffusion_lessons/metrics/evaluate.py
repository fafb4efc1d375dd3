"""All figures of a set of made pictures in one dictionary, each with its uncertainty and with n beside it."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffusion_lessons import zoo
from diffusion_lessons.data.dataset import to_float, to_uint8
from diffusion_lessons.metrics.frechet import Statistics, frechet_between, frechet_error
from diffusion_lessons.metrics.intervals import share_error
from diffusion_lessons.metrics.kernel import kernel_distance, kernel_error
from diffusion_lessons.metrics.precision_recall import precision_recall
from diffusion_lessons.networks.classifier import Classifier
from diffusion_lessons.support.errors import unknown

BATCH = 500  # pictures in the classifier at a time


def evaluate(
    samples: Tensor | np.ndarray,
    labels: Tensor | np.ndarray | None = None,
    features: str | Classifier = "mnist",
    reference: str = "test",
    generator: torch.Generator | None = None,
) -> dict[str, Any]:
    """Distances to real pictures, precision, recall, and how often the wanted class is recognised.

    Floats are rounded to bytes first, so that what is measured is the picture one would save. The
    result holds only numbers and text. Every figure is {"value", "uncertainty"}; the uncertainty is one
    standard error over the draw of the samples, with the reference held fixed. With labels the samples count
    as drawn class by class, for the labels were chosen. The Fréchet distance has a bias that falls as 1/n:
    compare it only between sets of the same n.
    The kernel distance has none for samples drawn at random; labels that go evenly round the classes take
    it a little below 0, for such a set is more even than chance (real digits: −0.04 at n = 1000).

    Args:
        samples: (N, C, H, W), or (N, H, W) for grey: uint8, or floats in [−1, 1]. N ≥ D + 2, that is 66
            with the bundled features.
        labels: (N,) the wanted classes; without them "accuracy" is None.
        features: "mnist" or "digits" for the bundled classifiers, or a classifier with a `reference`.
        reference: which real pictures to compare with, those of the "test" or of the "train" split.
        generator: for the bootstrap; without one the same input always gives the same result.

    Raises:
        ValueError: for too few samples, shapes, ranges or labels that don't fit, NaN or infinity, an
            unknown name, or a classifier that has no such reference.
    """
    classifier = _find(features)
    if reference not in classifier.reference:
        raise unknown("reference split", reference, classifier.reference)
    real = classifier.reference[reference]
    pictures = _pictures(samples, classifier)  # (N, C, H, W) uint8
    needed = classifier.config.num_features + 2
    if len(pictures) < needed:
        raise ValueError(
            f"n = {len(pictures)} is too few to measure {needed - 2} features: make at least {needed} samples"
        )
    wanted = None if labels is None else _labels(labels, len(pictures), classifier.config.num_classes)

    made, predicted = features_and_classes(classifier, pictures)  # (N, D), (N,)
    yardstick = real.sample[: len(made)]  # as many real as made ones, where there are enough
    shares = precision_recall(yardstick, made)
    return {
        "n": len(made),
        "features": features if isinstance(features, str) else "custom",
        "reference": {"split": reference, "n": real.statistics.n, "sample": len(real.sample)},
        "frechet": _figure(
            frechet_between(Statistics.of(made), real.statistics),
            frechet_error(made, real.statistics, generator, wanted),
        ),
        "kernel": _figure(
            kernel_distance(made, real.sample), kernel_error(made, real.sample, generator, wanted)
        ),
        "precision": _figure(shares.precision, share_error(shares.precise, len(made))),
        "recall": _figure(shares.recall, share_error(shares.recalled, len(yardstick))),
        "accuracy": None if wanted is None else _share(predicted == wanted),
    }


@torch.no_grad()
def features_and_classes(classifier: Classifier, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Features (N, D), float32, and recognised classes (N,) of uint8 pictures, on the CPU.

    The pictures pass through the classifier in batches, on its own device.
    """
    device = next(classifier.parameters()).device
    features, classes = [], []
    for batch in pictures.split(BATCH):
        h = classifier.features(to_float(batch.to(device)))  # (B, D)
        features.append(h.float().cpu())
        classes.append(classifier.classify(h).argmax(1).cpu())
    return torch.cat(features), torch.cat(classes)


def _find(features: str | Classifier) -> Classifier:
    """The classifier that gives the features."""
    if isinstance(features, str):
        bundled = [name for name in zoo.names() if zoo.card(name)["kind"] == "classifier"]
        known = [name.removesuffix("-classifier") for name in bundled]
        if features not in known:
            raise unknown("features", features, known)
        features = zoo.load(f"{features}-classifier")
    if not isinstance(features, Classifier):
        raise ValueError(f"features must be a name or a Classifier, got {type(features).__name__}")
    if not features.reference:
        raise ValueError(
            "this classifier has no reference of real pictures: use one of the zoo, or set .reference"
        )
    return features


def _pictures(samples: Tensor | np.ndarray, classifier: Classifier) -> Tensor:
    """The samples as uint8 (N, C, H, W), fit for the classifier."""
    x, c = torch.as_tensor(samples), classifier.config
    if x.ndim == 3:
        x = x[:, None]  # (N, 1, H, W)
    expected = (c.in_channels, c.image_size, c.image_size)
    if x.ndim != 4 or tuple(x.shape[1:]) != expected:
        raise ValueError(
            f"these features are of pictures of shape {expected}, got samples of shape {tuple(x.shape)}: "
            "resize or pad them as the data set was, or choose other features"
        )
    if x.dtype == torch.uint8:
        return x
    if not x.is_floating_point():
        raise ValueError(f"samples must be uint8 or floats in [−1, 1], got {x.dtype}")
    if len(x) and (float(x.max()) > 16 or float(x.min()) >= 0):
        raise ValueError(
            f"floats must lie in [−1, 1], got {float(x.min()):.3g} to {float(x.max()):.3g}: "
            "pass uint8 for 0 to 255, or 2·x − 1 for 0 to 1"
        )
    return to_uint8(x)


def _labels(labels: Tensor | np.ndarray, n: int, num_classes: int) -> Tensor:
    y = torch.as_tensor(labels).cpu()
    if y.shape != (n,) or y.dtype.is_floating_point or y.dtype == torch.bool:
        raise ValueError(f"labels must be whole numbers of shape ({n},), got {y.dtype} {tuple(y.shape)}")
    outside = y[(y < 0) | (y >= num_classes)]
    if len(outside):
        raise ValueError(f"labels must lie in 0 to {num_classes - 1}, got {int(outside[0])}")
    return y.to(torch.int64)


def _figure(value: float, uncertainty: float) -> dict[str, float]:
    return {"value": value, "uncertainty": uncertainty}


def _share(correct: Tensor) -> dict[str, float]:
    successes = int(correct.sum())
    return _figure(successes / len(correct), share_error(successes, len(correct)))
