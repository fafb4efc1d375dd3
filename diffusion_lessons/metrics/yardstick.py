"""What pictures are measured by: a classifier, and what its features are on real pictures.

The features of real pictures are kept small, so that measuring needs no data set.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from diffusion_lessons.checkpoint import CheckpointError, network_in, read_tensors, weights_of, write_tensors
from diffusion_lessons.data.dataset import Dataset, to_float
from diffusion_lessons.metrics.frechet import Statistics
from diffusion_lessons.networks import describe
from diffusion_lessons.networks.classifier import Classifier

BATCH = 500  # pictures in the classifier at a time
PARTS = ("mean", "covariance", "n", "sample")  # of a reference in a file
SAMPLE = 2000  # features of real pictures that are kept for each split


@dataclass(frozen=True, eq=False)
class Reference:
    """The features of the pictures of a split."""

    statistics: Statistics  # of all n of them, float64
    sample: Tensor  # (M, D), of M ≤ n pictures drawn at random, half precision in the file


@dataclass(frozen=True, eq=False)
class Yardstick:
    """What `evaluate` measures by: the classifier's features are compared, its classes tell the accuracy."""

    classifier: Classifier  # in evaluation mode
    references: Mapping[str, Reference]  # its features on real pictures, for each split: "train" and "test"
    name: str = "custom"  # what results call these features

    @classmethod
    def of(
        cls, classifier: Classifier, splits: Mapping[str, Dataset], seed: int = 0, name: str = "custom"
    ) -> "Yardstick":
        """A classifier with its features on the pictures of each split; the seed chooses those that are kept.

        Pictures of another shape than the classifier's and fewer than D + 2 of a split are a ValueError.
        """
        generator, references = torch.Generator().manual_seed(seed), {}
        for split, dataset in splits.items():
            features, _ = features_and_classes(classifier, dataset.images)
            chosen = torch.randperm(len(features), generator=generator)[:SAMPLE]
            references[split] = Reference(Statistics.of(features), features[chosen])
        return cls(classifier, references, name)

    def check(self, shape: Sequence[int], labels: Tensor | np.ndarray | None = None) -> Tensor | None:
        """Refuse samples of a shape (N, C, H, W) that cannot be measured, best before they are made.

        Pictures of another shape than the classifier's, fewer than D + 2, and labels that are not (N,) whole
        numbers of classes that it knows are a ValueError. Gives the labels as int64 on the CPU.
        """
        c = self.classifier.config
        expected, needed = (c.in_channels, c.image_size, c.image_size), c.num_features + 2
        if tuple(shape[1:]) != expected:
            raise ValueError(
                f"these features are of pictures of shape {expected}, got samples of shape {tuple(shape)}: "
                "resize or pad them as the data set was, or choose another yardstick"
            )
        if shape[0] < needed:
            raise ValueError(
                f"n = {shape[0]} is too few to measure {c.num_features} features: "
                f"make at least {needed} samples"
            )
        if labels is None:
            return None
        y = torch.as_tensor(labels).cpu()
        if y.shape != (shape[0],) or y.dtype.is_floating_point or y.dtype == torch.bool:
            wanted = f"whole numbers of shape ({shape[0]},)"
            raise ValueError(f"labels must be {wanted}, got {y.dtype} {tuple(y.shape)}")
        outside = y[(y < 0) | (y >= c.num_classes)]
        if len(outside):
            raise ValueError(f"labels must lie in 0 to {c.num_classes - 1}, got {int(outside[0])}")
        return y.to(torch.int64)

    def save(self, file: Path) -> None:
        """Write weights in half precision, and the references, whole or not at all (ValueError)."""
        tensors = weights_of(self.classifier, torch.float16)
        for split, reference in self.references.items():
            s = reference.statistics
            parts = (s.mean, s.covariance, torch.tensor(s.n), reference.sample.half())
            tensors |= {f"reference.{split}.{part}": t for part, t in zip(PARTS, parts, strict=True)}
        network = describe(self.classifier)
        write_tensors(file, tensors, {"kind": "classifier", "network": network, "splits": [*self.references]})

    @classmethod
    def load(cls, file: Path, name: str = "custom") -> "Yardstick":
        """The yardstick in a file; its classifier is in float32, in evaluation mode and on the CPU.

        A file that is missing, cut short, damaged or no classifier of this project is a ValueError.
        """
        tensors, description = read_tensors(file, kind="classifier")
        classifier = network_in(tensors, description["network"]).requires_grad_(False)
        if not isinstance(classifier, Classifier):
            raise CheckpointError(f"{file} holds a {type(classifier).__name__}, not a Classifier")
        references = {}
        for split in description["splits"]:
            mean, covariance, n, sample = (tensors[f"reference.{split}.{part}"] for part in PARTS)
            references[split] = Reference(Statistics(mean, covariance, int(n)), sample.float())
        return cls(classifier, references, name)


@torch.no_grad()
def features_and_classes(classifier: Classifier, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Features (N, D), float32, and classes (N,) of uint8 pictures, on the CPU; in batches, on its device."""
    device = next(classifier.parameters()).device
    features, classes = [], []
    for batch in pictures.split(BATCH):
        h = classifier.features(to_float(batch.to(device)))  # (B, D)
        features.append(h.float().cpu())
        classes.append(classifier.classify(h).argmax(1).cpu())
    return torch.cat(features), torch.cat(classes)
