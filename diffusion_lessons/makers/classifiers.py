"""How the classifiers that measure pictures are trained, and stored with their features of real pictures."""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from diffusion_lessons.checkpoint import read_tensors, write_tensors
from diffusion_lessons.data.dataset import Dataset
from diffusion_lessons.makers.augment import move, spoil
from diffusion_lessons.metrics.evaluate import features_and_classes
from diffusion_lessons.metrics.yardstick import Reference
from diffusion_lessons.networks import build, describe
from diffusion_lessons.networks.classifier import Classifier, ClassifierConfig

SPLITS = ("train", "test")
REFERENCE_SAMPLE = 2000  # features of real pictures that are stored for each split


@dataclass(frozen=True)
class ClassifierRecipe:
    """How a classifier is trained.

    Args:
        data: name of the data set, in its default size.
        epochs: passes over its train split.
        patch: of the classifier.
        batch: pictures a step.
        lr: peak learning rate, after a linear rise over the first tenth; it then falls linearly to 0.
        weight_decay: of AdamW.
        seed: of the initial weights, the order of the pictures, their changes and the reference sample.
    """

    data: str
    epochs: int
    patch: int = 1
    batch: int = 128
    lr: float = 3e-3
    weight_decay: float = 0.05
    seed: int = 0


def train_classifier(recipe: ClassifierRecipe, train: Dataset) -> Classifier:
    """A classifier trained on the pictures of `train`, whose features vary by 1 on average on them."""
    generator = torch.Generator().manual_seed(recipe.seed)
    channels, size, _ = train.shape
    config = ClassifierConfig(size, channels, len(train.classes), recipe.patch)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)  # the initial weights
        objective = Objective(Classifier(config))
    optimizer = torch.optim.AdamW(
        objective.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True
    )
    per_epoch = len(train) // recipe.batch
    steps = recipe.epochs * per_epoch
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(10 * (step + 1) / steps, (1 - step / steps) / 0.9)
    )
    progress = tqdm(total=steps, desc=f"training on {recipe.data}", unit="step", disable=None)
    for _ in range(recipe.epochs):
        order = torch.randperm(len(train), generator=generator)
        for index in order[: per_epoch * recipe.batch].split(recipe.batch):
            x, labels = train.batch(index)  # (B, C, H, W), (B,)
            optimizer.zero_grad()
            objective(x, labels, generator).backward()
            optimizer.step()
            schedule.step()
            progress.update()
    progress.close()
    normalise_features(objective.classifier, train)
    return objective.classifier.half().float().eval()  # what the file will hold


class Objective(nn.Module):
    """What a classifier is trained by: the class, and beside it what its features should not forget.

    Features that serve only to tell classes apart hold little else: noise and blur hardly move them, and
    as measures of pictures they are blind. So a linear layer, thrown away afterwards, must find in them the
    picture at half its size, and how much it was spoilt.
    """

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier
        c = classifier.config
        self.to_details = nn.Linear(c.num_features, c.in_channels * (c.image_size // 2) ** 2 + 2)

    def forward(self, x: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """The loss () of pictures (B, C, H, W) in [−1, 1] with their labels (B,)."""
        moved = move(x, generator)
        seen, amounts = spoil(moved, generator)
        features = self.classifier.features(seen)  # (B, D)
        details = self.to_details(features)
        picture = F.avg_pool2d(moved, 2).flatten(1)
        return (
            F.cross_entropy(self.classifier.classify(features), labels)
            + F.mse_loss(details[:, 2:], picture)
            + F.mse_loss(details[:, :2], amounts)
        )


@torch.no_grad()
def normalise_features(classifier: Classifier, train: Dataset) -> None:
    """Scale the features to an average variance of 1 on `train`; the logits stay what they are.

    Distances are then in the same units for every classifier: two sets of the same unit Gaussian.
    """
    features, _ = features_and_classes(classifier, train.images)
    scale = features.var(0).mean().sqrt()
    classifier.to_features.weight.div_(scale)
    classifier.to_features.bias.div_(scale)
    classifier.to_logits.weight.mul_(scale)  # ReLU(a·h) = a·ReLU(h)


def accuracy(classifier: Classifier, dataset: Dataset) -> float:
    """The share of pictures whose class is recognised."""
    _, classes = features_and_classes(classifier, dataset.images)
    return float((classes == dataset.labels).float().mean())


def attach_reference(classifier: Classifier, splits: dict[str, Dataset], seed: int) -> None:
    """Give the classifier the reference of its features on each split."""
    generator = torch.Generator().manual_seed(seed)
    for split, dataset in splits.items():
        features, _ = features_and_classes(classifier, dataset.images)
        classifier.reference[split] = Reference.of(features, REFERENCE_SAMPLE, generator)


def save_classifier(file: Path, classifier: Classifier) -> None:
    """Write weights in half precision, and the references, whole or not at all.

    Raises:
        ValueError: where the file cannot be written.
    """
    tensors = {f"network.{name}": weight.half() for name, weight in classifier.state_dict().items()}
    for split, reference in classifier.reference.items():
        tensors |= reference.tensors(split)
    description = {
        "kind": "classifier",
        "network": describe(classifier),
        "splits": list(classifier.reference),
    }
    write_tensors(file, tensors, description)


def load_classifier(file: Path) -> Classifier:
    """The classifier in a file, in float32 and evaluation mode, with its `reference`.

    Raises:
        ValueError: a file that is missing, cut short, damaged, or no classifier of this project.
    """
    tensors, description = read_tensors(file, kind="classifier")
    with torch.device("meta"):  # no random start for weights that are read
        classifier = build(description["network"])
    if not isinstance(classifier, Classifier):
        raise ValueError(f"{file} holds a {type(classifier).__name__}, not a Classifier")
    prefix = "network."
    weights = {k.removeprefix(prefix): t.float() for k, t in tensors.items() if k.startswith(prefix)}
    classifier.load_state_dict(weights, assign=True)
    classifier.reference = {split: Reference.from_tensors(tensors, split) for split in description["splits"]}
    return classifier.eval().requires_grad_(False)
