"""How classifiers are trained: of clean pictures, whose features measure, and of noisy ones, that guide."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusion_lessons.checkpoint import BETAS, weights_of, write_tensors
from diffusion_lessons.data.dataset import Dataset
from diffusion_lessons.guidance import NetworkClassifier
from diffusion_lessons.makers.augment import move, spoil
from diffusion_lessons.metrics.yardstick import features_and_classes
from diffusion_lessons.networks import Classifier, ClassifierConfig, describe
from diffusion_lessons.paths import DiscreteVP
from diffusion_lessons.support.seeds import layers_seeded
from diffusion_lessons.training.loop import fit
from diffusion_lessons.training.recipe import PATHS, Plan
from diffusion_lessons.training.tasks import Classification, Forward

EXACT: Any = {"precision": "float32", "compile": "off", "channels_last": False, "grad_clip": None}


@dataclass(frozen=True)
class ClassifierRecipe:
    """How a classifier is trained."""

    data: str  # name of the data set, in its default size
    epochs: float  # passes over its train split
    patch: int = 1  # of the classifier
    path: str | None = None  # of noisy pictures, a name of `PATHS` with discrete times; None for clean ones
    batch: int = 128  # pictures a step
    lr: float = 3e-3  # peak learning rate, after a linear rise over the first tenth; it falls linearly to 0
    weight_decay: float = 0.05  # of AdamW
    seed: int = 0  # of the initial weights, the order of the pictures, their changes, times and noise

    def plan(self, n: int) -> Plan:
        """The plan of a training on n pictures."""
        steps = max(1, int(self.epochs * n / self.batch))
        own: Any = {"batch": self.batch, "lr": self.lr, "weight_decay": self.weight_decay, "seed": self.seed}
        return Plan(steps=steps, warmup=steps // 10, decay="linear", ema_decay=0.0, **own, **EXACT)

    def build_path(self) -> DiscreteVP:
        """The path that `path` names; without discrete times no file could hold it: a ValueError."""
        path = PATHS[self.path]() if self.path else None
        if not isinstance(path, DiscreteVP):
            raise ValueError(f"a classifier of noisy pictures needs a discrete path, got {self.path!r}")
        return path

    def build_network(self, train: Dataset) -> Classifier:
        """The classifier of the pictures, its random start drawn from the seed."""
        channels, size, _ = train.shape
        time = self.path is not None
        config = ClassifierConfig(size, channels, len(train.classes), self.patch, time=time)
        with layers_seeded(self.seed):
            return Classifier(config)


class WithDetails(nn.Module):
    """A classifier, and beside it a linear layer that is thrown away afterwards."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier
        c = classifier.config
        self.to_details = nn.Linear(c.num_features, c.in_channels * (c.image_size // 2) ** 2 + 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, K) and details (B, 2 + C·H/2·W/2) of pictures (B, C, H, W)."""
        features = self.classifier.features(x)  # (B, D)
        return self.classifier.classify(features), self.to_details(features)


class Describing(Classification):
    """Learn the class, and beside it what features should not forget.

    Features that serve only to tell classes apart hold little else: noise and blur hardly move them, and
    as measures of pictures they are blind. So a linear layer must find in them the picture at half its
    size, and how much it was spoilt.
    """

    def __init__(self, classifier: Classifier, plan: Plan, dataset: Dataset) -> None:
        with layers_seeded(plan.seed):
            network = WithDetails(classifier)
        super().__init__(network, plan, dataset)

    def batch(self, step: int, most: int | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Pictures moved, the same spoilt (B, C, H, W), by how much (B, 2), and their labels (B,)."""
        x0, labels = super().batch(step, most)
        generator = self.seeded("changes", step, self.device)
        moved = move(x0, generator)
        return moved, *spoil(moved, generator), labels

    def loss(self, forward: Forward, batch: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
        moved, seen, amounts, labels = batch
        logits, details = forward(seen)
        known = torch.cat([amounts, F.avg_pool2d(moved, 2).flatten(1)], 1)
        wrong = (details - known).square()
        return F.cross_entropy(logits, labels) + wrong[:, :2].mean() + wrong[:, 2:].mean()


def train_classifier(
    recipe: ClassifierRecipe, train: Dataset, device: torch.device | str = "cpu", progress: bool = False
) -> Classifier:
    """The recipe's classifier on the CPU, as a file will hold it: rounded to half precision.

    The features of one of clean pictures vary by 1 on average on those of `train`.
    """
    network, plan = recipe.build_network(train), recipe.plan(len(train))
    classifier: Any
    if recipe.path is None:
        classifier = fit(Describing(network, plan, train), device, progress).classifier
        normalise_features(classifier, train)
    else:
        classifier = fit(Classification(network, plan, train, recipe.build_path()), device, progress)
    return classifier.cpu().half().float().eval().requires_grad_(False)


@torch.no_grad()
def normalise_features(classifier: Classifier, train: Dataset) -> None:
    """Scale the features to an average variance of 1 on `train`; the logits stay what they are.

    Distances are then in the same units for every classifier: two sets of the same unit Gaussian.
    """
    features, _ = features_and_classes(classifier, train.images)
    scale = features.var(0).mean().sqrt().to(classifier.to_features.weight.device)
    classifier.to_features.weight.div_(scale)
    classifier.to_features.bias.div_(scale)
    classifier.to_logits.weight.mul_(scale)  # ReLU(a·h) = a·ReLU(h)


def accuracy(classifier: Classifier, dataset: Dataset) -> float:
    """The share of pictures whose class is recognised."""
    _, classes = features_and_classes(classifier, dataset.images)
    assert dataset.labels is not None  # a data set to classify has labels
    return float((classes == dataset.labels).float().mean())


def save_noisy_classifier(file: Path, classifier: NetworkClassifier) -> None:
    """Write weights in half precision and the path, whole or not at all; it must be discrete (ValueError)."""
    if not isinstance(classifier.path, DiscreteVP):
        raise ValueError(f"the file holds a discrete path, got {type(classifier.path).__name__}")
    tensors = {**weights_of(classifier.network, torch.float16), BETAS: classifier.path.betas}
    write_tensors(file, tensors, {"kind": "noisy-classifier", "network": describe(classifier.network)})
