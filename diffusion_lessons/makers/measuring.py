"""A bundled classifier is made, measured as it is stored, and described on its card."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffusion_lessons.data import Dataset, load_dataset
from diffusion_lessons.data.dataset import SPLITS
from diffusion_lessons.guidance import NetworkClassifier
from diffusion_lessons.makers.cards import data_facts, rounded, write_card
from diffusion_lessons.makers.classifiers import (
    ClassifierRecipe,
    accuracy,
    save_noisy_classifier,
    train_classifier,
)
from diffusion_lessons.metrics import Yardstick, evaluate, wilson_interval
from diffusion_lessons.metrics.yardstick import BATCH
from diffusion_lessons.paths import Level, add_noise
from diffusion_lessons.support.machine import choose_device
from diffusion_lessons.support.seeds import seeded
from diffusion_lessons.zoo.files import load_noisy_classifier

FLOOR_SIZES = (100, 500, 1000)  # numbers of real pictures that are measured as if they were made
TIMES = range(100, 1001, 100)  # at which the card of a noisy classifier tells the accuracy


def build_classifier(recipe: ClassifierRecipe, name: str, folder: Path) -> None:
    """Train a classifier by its recipe; write NAME.safetensors, and NAME.json of what was measured on it."""
    splits = {split: load_dataset(recipe.data, split) for split in SPLITS}
    test, file, device = splits["test"], folder / f"{name}.safetensors", choose_device()
    started, cpu_started = time.perf_counter(), time.process_time()
    classifier = train_classifier(recipe, splits["train"], device, progress=True)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started

    channels, size, _ = test.shape
    if recipe.path is None:
        Yardstick.of(classifier, splits, recipe.seed).save(file)
        facts: dict[str, Any] = {
            "kind": "classifier",
            "title": f"classifier of {recipe.data} at {size}×{size}: its features measure made pictures",
            "input": f"({channels}, {size}, {size}), floats in [−1, 1]",
            "metrics": recognition(Yardstick.load(file, recipe.data), splits, recipe.seed),
        }
    else:
        save_noisy_classifier(file, NetworkClassifier(classifier, recipe.build_path()))
        facts = {
            "kind": "noisy-classifier",
            "title": f"classifier of noisy {recipe.data} at {size}×{size}: its gradient guides sampling",
            "input": f"({channels}, {size}, {size}), data in [−1, 1] noised along the {recipe.path} path",
            "metrics": {
                "n": len(test),
                "over_levels": accuracies(load_noisy_classifier(file), test, recipe.seed),
            },
        }
    stored = "weights float16" + ", sample features too, statistics float64" * (recipe.path is None)
    facts |= {
        "classes": list(test.classes),
        "network": {
            "config": asdict(classifier.config),
            "parameters": sum(p.numel() for p in classifier.parameters()),
            "precision": stored,
        },
        "data": data_facts(splits),
        "recipe": asdict(recipe),
        "training": {"seconds": round(seconds), "cpu_seconds": round(cpu_seconds)},
    }
    write_card(name, folder, facts, device)
    rows = facts["metrics"].get("over_levels", [facts["metrics"]])
    each = (f"{row['test_accuracy']:.4f}" + (f" at t = {row['t']}" if "t" in row else "") for row in rows)
    said = f"test accuracy {', '.join(each)} (n = {len(test)})"
    print(f"{file}: {said}, {seconds:.0f} s, {file.stat().st_size:,} bytes")


def recognition(yardstick: Yardstick, splits: dict[str, Dataset], seed: int) -> dict[str, Any]:
    """What the card of a yardstick tells: accuracies, and what real pictures get, measured as if made.

    Nothing made can be asked to do better than real pictures.
    """
    train, test = splits["train"], splits["test"]
    assert train.labels is not None  # a data set to classify has labels
    share = accuracy(yardstick.classifier, test)
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
    chosen = [balanced(train.labels, order, n) for n in FLOOR_SIZES]
    measured = [evaluate(train.images[index], train.labels[index], yardstick) for index in chosen]
    return {
        "test_accuracy": round(share, 4),
        "test_accuracy_95": _interval(round(share * len(test)), len(test)),
        "train_accuracy": round(accuracy(yardstick.classifier, train), 4),
        "floor_of_real_train_pictures": [{"n": each["n"]} | rounded(each) for each in measured],
    }


def balanced(labels: Tensor, order: Tensor, n: int) -> Tensor:
    """The first n positions of `order`, as many of each class."""
    classes = labels.unique()
    return torch.cat([order[labels[order] == label][: n // len(classes)] for label in classes])


def accuracies(classifier: NetworkClassifier, test: Dataset, seed: int) -> list[dict[str, Any]]:
    """The accuracy at each of `TIMES`, with an interval of 95 %."""
    rows = []
    for t in TIMES:
        level = classifier.path(float(t))
        correct = noisy_accuracy(classifier, test, level, seeded("cpu", seed, "accuracy", t))
        row = {"t": t, "log_snr": round(float(level.log_snr), 2), "test_accuracy": correct / len(test)}
        rows.append(row | {"test_accuracy_95": _interval(correct, len(test))})
    return rows


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


def _interval(correct: int, n: int) -> list[float]:
    return [round(end, 4) for end in wilson_interval(correct, n)]
