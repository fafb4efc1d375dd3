"""How the classifier of noisy pictures is trained, measured and stored: its gradient guides sampling."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path as File
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from diffusion_lessons.checkpoint import BETAS, CheckpointError, read_tensors, write_tensors
from diffusion_lessons.data import Dataset, load_dataset
from diffusion_lessons.guidance import NetworkClassifier
from diffusion_lessons.losses import classifier_loss
from diffusion_lessons.makers.cards import DATA_LICENCES, provenance, write_card
from diffusion_lessons.metrics import wilson_interval
from diffusion_lessons.networks import build, describe
from diffusion_lessons.networks.classifier import Classifier, ClassifierConfig
from diffusion_lessons.paths import DiscreteVP, Level, add_noise
from diffusion_lessons.support.machine import choose_device
from diffusion_lessons.training.batches import Batches, seeded
from diffusion_lessons.training.recipe import PATHS

KIND = "noisy-classifier"
MEASURED = range(100, 1001, 100)  # times at which the card tells the accuracy
BATCH = 500  # pictures in the classifier at a time


@dataclass(frozen=True)
class NoisyRecipe:
    """How a classifier of noisy pictures is trained: each picture at a time of its own.

    Args:
        data: name of the data set, in its default size.
        epochs: passes over its train split.
        patch: of the classifier.
        path: noise schedule, a name of `PATHS` with discrete times.
        batch: pictures a step.
        lr: peak learning rate, after a linear rise over the first tenth; it then falls linearly to 0.
        weight_decay: of AdamW.
        seed: of the initial weights, the order of the pictures, times and noise.
    """

    data: str
    epochs: int
    patch: int = 1
    path: str = "cosine"
    batch: int = 64
    lr: float = 2e-3
    weight_decay: float = 0.05
    seed: int = 0

    def build_path(self) -> DiscreteVP:
        """The path that `path` names.

        Raises:
            ValueError: a path without discrete times, which the file could not hold.
        """
        path = PATHS[self.path]()
        if not isinstance(path, DiscreteVP):
            raise ValueError(f"a classifier of noisy pictures needs a discrete path, got {self.path!r}")
        return path


def train_noisy_classifier(
    recipe: NoisyRecipe, train: Dataset, device: torch.device | str = "cpu"
) -> NetworkClassifier:
    """A classifier of the pictures of `train` at every level of the recipe's path, in evaluation mode."""
    device, path, (channels, size, _) = torch.device(device), recipe.build_path(), train.shape
    config = ClassifierConfig(size, channels, len(train.classes), recipe.patch, time=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)  # the initial weights
        network = Classifier(config).to(device)
    batches = Batches(train, path, recipe.batch, 0.0, recipe.seed, device, channels_last=False)
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    steps = recipe.epochs * len(train) // recipe.batch
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(10 * (step + 1) / steps, (1 - step / steps) / 0.9)
    )
    for step in tqdm(range(steps), desc=f"training on noisy {recipe.data}", unit="step", disable=None):
        x0, noise, t, labels = batches(step)
        assert labels is not None  # a data set to classify has classes
        optimizer.zero_grad()
        classifier_loss(network, path, x0, noise, t, labels).mean().backward()
        optimizer.step()
        schedule.step()
    network = network.cpu().half().float().eval()  # what the file will hold
    return NetworkClassifier(network.requires_grad_(False), path)


@torch.no_grad()
def noisy_accuracy(
    classifier: NetworkClassifier, dataset: Dataset, level: Level, generator: torch.Generator | None = None
) -> int:
    """How many pictures of a data set are recognised at a level, each with noise of its own."""
    correct = 0
    for index in torch.arange(len(dataset)).split(BATCH):
        x0, labels = dataset.batch(index)
        noise = torch.randn(x0.shape, generator=generator)
        logits: Tensor = classifier(add_noise(x0, noise, level), level)  # (B, K)
        correct += int((logits.argmax(1) == labels).sum())
    return correct


def accuracies(classifier: NetworkClassifier, test: Dataset, seed: int) -> list[dict[str, Any]]:
    """The accuracy at each time of `MEASURED`, with an interval of 95 %."""
    rows = []
    for t in MEASURED:
        level = classifier.path(float(t))
        correct = noisy_accuracy(classifier, test, level, seeded("cpu", seed, "accuracy", t))
        interval = [round(end, 4) for end in wilson_interval(correct, len(test))]
        row = {"t": t, "log_snr": round(float(level.log_snr), 2), "test_accuracy": correct / len(test)}
        rows.append(row | {"test_accuracy_95": interval})
    return rows


def save_noisy_classifier(file: File, classifier: NetworkClassifier) -> None:
    """Write weights in half precision and the path, whole or not at all.

    Raises:
        ValueError: a file that cannot be written, or a path that is not discrete.
    """
    if not isinstance(classifier.path, DiscreteVP):
        raise ValueError(f"the file holds a discrete path, got {type(classifier.path).__name__}")
    tensors = {f"network.{name}": weight.half() for name, weight in classifier.network.state_dict().items()}
    tensors[BETAS] = classifier.path.betas
    write_tensors(file, tensors, {"kind": KIND, "network": describe(classifier.network)})


def load_noisy_classifier(file: File) -> NetworkClassifier:
    """The classifier in a file, on the CPU, in float32 and evaluation mode.

    Raises:
        CheckpointError: a file that is missing, cut short, damaged, or no classifier of noisy pictures.
    """
    tensors, description = read_tensors(file, kind=KIND)
    betas = tensors.pop(BETAS, None)
    if betas is None:
        raise CheckpointError(f"{file} holds no path")
    with torch.device("meta"):  # no random start for weights that are read
        network = build(description["network"])
    weights = {name.removeprefix("network."): weight.float() for name, weight in tensors.items()}
    network.load_state_dict(weights, assign=True)
    return NetworkClassifier(network.eval().requires_grad_(False), DiscreteVP(betas))


def build_noisy_classifier(recipe: NoisyRecipe, name: str, folder: File) -> None:
    """Train the classifier, write NAME.safetensors and NAME.json, and print what it reached."""
    device = choose_device()
    splits = {split: load_dataset(recipe.data, split) for split in ("train", "test")}
    started, cpu_started = time.perf_counter(), time.process_time()
    classifier = train_noisy_classifier(recipe, splits["train"], device)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    file = folder / f"{name}.safetensors"
    save_noisy_classifier(file, classifier)

    classifier = load_noisy_classifier(file)  # what is measured is what was stored
    network, test = classifier.network, splits["test"]
    assert isinstance(network, Classifier)
    rows = accuracies(classifier, test, recipe.seed)
    channels, size, _ = test.shape
    write_card(
        name,
        folder,
        {
            "kind": KIND,
            "title": f"classifier of noisy {recipe.data} at {size}×{size}: its gradient guides sampling",
            "input": f"({channels}, {size}, {size}), data in [−1, 1] noised along the {recipe.path} path",
            "classes": list(test.classes),
            "network": {
                "config": asdict(network.config),
                "parameters": sum(p.numel() for p in network.parameters()),
                "precision": "weights float16",
            },
            "data": {
                "name": recipe.data,
                "licence": DATA_LICENCES[recipe.data],
                **{split: provenance(dataset) for split, dataset in splits.items()},
            },
            "recipe": asdict(recipe),
            "metrics": {"n": len(test), "over_levels": rows},
            "training": {"seconds": round(seconds), "cpu_seconds": round(cpu_seconds)},
        },
        str(device),
    )
    shares = ", ".join(f"{row['test_accuracy']:.3f} at t = {row['t']}" for row in rows)
    print(f"{file}: test accuracy {shares} (n = {len(test)}), {file.stat().st_size:,} bytes")
