"""How the classifiers that measure pictures are trained and stored, with what their features are on real data."""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from diffusion_lessons.checkpoint import read_tensors, write_tensors
from diffusion_lessons.data.dataset import Dataset
from diffusion_lessons.metrics.evaluate import features_and_classes
from diffusion_lessons.metrics.reference import Reference
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
        degrees, zoom, shift: largest rotation, change of scale, and shift as a share of the side, with
            which each picture is changed anew each time.
        seed: of the initial weights, the order of the pictures, their changes and the reference sample.
    """

    data: str
    epochs: int
    patch: int = 1
    batch: int = 128
    lr: float = 3e-3
    weight_decay: float = 0.05
    degrees: float = 10.0
    zoom: float = 0.1
    shift: float = 1 / 16
    seed: int = 0


def train_classifier(recipe: ClassifierRecipe, train: Dataset) -> Classifier:
    """A classifier trained on the pictures of `train`, whose features vary by 1 on average on them."""
    generator = torch.Generator().manual_seed(recipe.seed)
    channels, size, _ = train.shape
    config = ClassifierConfig(size, channels, len(train.classes), recipe.patch)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)  # the initial weights
        classifier = Classifier(config)
    optimizer = torch.optim.AdamW(
        classifier.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True
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
            loss = F.cross_entropy(classifier(augment(x, recipe, generator)), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            progress.update()
    progress.close()
    normalise_features(classifier, train)
    return classifier.half().float().eval()  # what the file will hold


def augment(x: Tensor, recipe: ClassifierRecipe, generator: torch.Generator) -> Tensor:
    """Pictures (B, C, H, W) in [−1, 1], each a little turned, scaled and shifted; what comes in is black."""
    turn, zoom, *shift = (2 * torch.rand(4, len(x), generator=generator) - 1).unbind()  # (B,) each, in ±1
    angle, scale = turn * math.radians(recipe.degrees), 1 + recipe.zoom * zoom
    cos, sin = scale * angle.cos(), scale * angle.sin()
    right, down = (2 * recipe.shift * s for s in shift)  # a picture is 2 wide to affine_grid
    rows = [torch.stack([cos, -sin, right], 1), torch.stack([sin, cos, down], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), list(x.shape), align_corners=False)
    return F.grid_sample(x + 1, grid, align_corners=False) - 1


@torch.no_grad()
def normalise_features(classifier: Classifier, train: Dataset) -> None:
    """Scale the features to an average variance of 1 on `train`; the logits stay what they are.

    Distances are then in the same units for every classifier: two sets of the same unit Gaussian.
    """
    features, _ = features_and_classes(classifier, train.images)
    scale = features.var(0).mean().sqrt()
    classifier.to_features.weight /= scale
    classifier.to_features.bias /= scale
    classifier.to_logits.weight *= scale  # ReLU(a·h) = a·ReLU(h)


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
    classifier = build(description["network"])
    if not isinstance(classifier, Classifier):
        raise ValueError(f"{file} holds a {type(classifier).__name__}, not a Classifier")
    prefix = "network."
    weights = {k.removeprefix(prefix): t.float() for k, t in tensors.items() if k.startswith(prefix)}
    classifier.load_state_dict(weights)
    classifier.reference = {split: Reference.from_tensors(tensors, split) for split in description["splits"]}
    return classifier.eval().requires_grad_(False)
