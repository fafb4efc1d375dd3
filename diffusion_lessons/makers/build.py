"""Make the bundled weights and their cards anew: `python -m diffusion_lessons.makers.build NAME`."""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffusion_lessons.data import Dataset, load_dataset
from diffusion_lessons.makers.cards import DATA_LICENCES, figures, provenance, write_card
from diffusion_lessons.makers.classifiers import (
    SPLITS,
    ClassifierRecipe,
    accuracy,
    attach_reference,
    load_classifier,
    save_classifier,
    train_classifier,
)
from diffusion_lessons.makers.diffusion import RUNS, build_diffusion
from diffusion_lessons.makers.distilled import build_student
from diffusion_lessons.makers.noisy import NoisyRecipe, build_noisy_classifier
from diffusion_lessons.metrics import evaluate, wilson_interval
from diffusion_lessons.support.errors import unknown
from diffusion_lessons.training.loop import TrainingInterrupted
from diffusion_lessons.training.recipe import Recipe
from diffusion_lessons.zoo import FOLDER

FLOOR_SIZES = (100, 500, 1000)  # numbers of real pictures that are measured as if they were made


def build_classifier(recipe: ClassifierRecipe, name: str, folder: Path) -> None:
    """Train the classifier, write NAME.safetensors and NAME.json, and print what it reached."""
    splits = {split: load_dataset(recipe.data, split) for split in SPLITS}
    started, cpu_started = time.perf_counter(), time.process_time()
    classifier = train_classifier(recipe, splits["train"])
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    attach_reference(classifier, splits, recipe.seed)
    file = folder / f"{name}.safetensors"
    save_classifier(file, classifier)

    classifier = load_classifier(file)  # what is measured is what was stored
    test = splits["test"]
    share = accuracy(classifier, test)
    size, channels = classifier.config.image_size, classifier.config.in_channels
    write_card(
        name,
        folder,
        {
            "kind": "classifier",
            "title": f"classifier of {recipe.data} at {size}×{size}: its features measure made pictures",
            "input": f"({channels}, {size}, {size}), floats in [−1, 1]",
            "classes": list(test.classes),
            "network": {
                "config": asdict(classifier.config),
                "parameters": sum(p.numel() for p in classifier.parameters()),
                "precision": "weights and sample features float16, statistics float64",
            },
            "data": {
                "name": recipe.data,
                "licence": DATA_LICENCES[recipe.data],
                **{split: provenance(dataset) for split, dataset in splits.items()},
            },
            "recipe": asdict(recipe),
            "metrics": {
                "test_accuracy": round(share, 4),
                "test_accuracy_95": [
                    round(end, 4) for end in wilson_interval(round(share * len(test)), len(test))
                ],
                "train_accuracy": round(accuracy(classifier, splits["train"]), 4),
                "floor_of_real_train_pictures": floor(classifier, splits["train"], recipe.seed),
            },
            "training": {"seconds": round(seconds), "cpu_seconds": round(cpu_seconds)},
        },
    )
    print(
        f"{file}: test accuracy {share:.4f} (n = {len(test)}), {seconds:.0f} s, {file.stat().st_size:,} bytes"
    )


def floor(classifier: Any, dataset: Dataset, seed: int) -> list[dict[str, Any]]:
    """What real pictures get measured as if they were made: nothing made can be asked to do better."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(dataset), generator=generator)
    chosen = [balanced(dataset.labels, order, n) for n in FLOOR_SIZES]
    measured = [evaluate(dataset.images[index], dataset.labels[index], classifier) for index in chosen]
    return [{"n": len(index)} | figures(result) for index, result in zip(chosen, measured, strict=True)]


def balanced(labels: Tensor, order: Tensor, n: int) -> Tensor:
    """The first n positions of `order`, as many of each class."""
    classes = labels.unique()
    return torch.cat([order[labels[order] == label][: n // len(classes)] for label in classes])


BUILDERS: dict[str, Callable[[str, Path], None]] = {
    "digits-classifier": partial(build_classifier, ClassifierRecipe("digits", epochs=100)),
    "mnist-classifier": partial(build_classifier, ClassifierRecipe("mnist", epochs=5, patch=2)),
    "mnist-noisy-classifier": partial(build_noisy_classifier, NoisyRecipe("mnist", epochs=5, patch=2)),
    "mnist-unet": partial(build_diffusion, Recipe(data="mnist", steps=8000)),
    "mnist-unet-4-steps": partial(build_student, 4),
    "mnist-unet-2-steps": partial(build_student, 2),
    "mnist-unet-1-step": partial(build_student, 1),
}


def main(args: list[str] | None = None) -> int:
    """Build the named models. Exit codes: 0 done, 2 bad input, 130 stopped."""
    parser = argparse.ArgumentParser(prog="python -m diffusion_lessons.makers.build", description=__doc__)
    parser.add_argument("names", nargs="+", metavar="NAME", help=", ".join(BUILDERS))
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder to write to (the package's own)")
    given = parser.parse_args(args)
    try:
        for name in given.names:
            if name not in BUILDERS:
                raise unknown("zoo model", name, BUILDERS)
        for name in given.names:
            BUILDERS[name](name, given.out)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except TrainingInterrupted:
        print(f"stopped; the same command goes on with the run in {RUNS}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
