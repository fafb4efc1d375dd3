"""What experiments share: a training on digits, drawing, and what `evaluate` says of pictures, as columns."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from diffusion_lessons import zoo
from diffusion_lessons.checkpoint import Checkpoint
from diffusion_lessons.data import Dataset, load_dataset, to_float, to_uint8
from diffusion_lessons.denoiser import Denoiser
from diffusion_lessons.experiments import Row
from diffusion_lessons.generate import generate, labels_for
from diffusion_lessons.guidance import Clip
from diffusion_lessons.metrics.evaluate import evaluate, figures
from diffusion_lessons.paths import Level
from diffusion_lessons.samplers import sample
from diffusion_lessons.support.machine import choose_device
from diffusion_lessons.training.recipe import Recipe

STUDENTS = {1: "1-step", 2: "2-steps", 4: "4-steps"}  # steps -> end of a student's name, after its teacher's
BATCH = 250  # pictures drawn at a time
SHOWN = 10  # pictures that a row keeps, one a class
RECIPE = Recipe(
    "digits", steps=1000, class_dropout=0.0, precision="float32", compile="off", channels_last=False
)


class Digits(NamedTuple):
    """What all rows of a training on digits use."""

    train: Dataset
    test: Dataset
    path: Any
    device: torch.device

    def measure(
        self, denoiser: Denoiser, levels: list[Level], n: int, seed: int, keep: bool = False, **how: Any
    ) -> Row:
        """The headline of n digits, all classes in turn, drawn without guidance as by `draw`.

        Where they are to be kept, the first go along: the bytes of (SHOWN, C, H, W), in hexadecimal.
        """
        labels = torch.arange(n, device=self.device) % 10
        drawn = draw(Clip(denoiser), levels, labels, self.test.shape, seed, **how).clamp(-1, 1)
        shown = {"pictures": to_uint8(drawn[:SHOWN]).numpy().tobytes().hex()} if keep else {}
        return headline(measured(drawn, labels, "digits")) | shown


def digits(recipe: Recipe, options: Row) -> Digits:
    """Both splits, the recipe's path, and the device of the options."""
    train, test = load_dataset("digits", "train"), load_dataset("digits", "test")
    return Digits(train, test, recipe.build_path(), choose_device(options["device"]))


def opened(name: str) -> Checkpoint:
    """A model by file or name; without labels, or of data without a bundled yardstick, a ValueError."""
    model = zoo.open_model(name)
    zoo.yardstick(model.data)
    if not model.classes:
        raise ValueError(f"these tables are of models with labels, and {name} has none")
    return model


def labels_of(model: Checkpoint, n: int) -> Tensor:
    """(n,) going round the classes, which a model of these tables has."""
    labels = labels_for(model, n)
    assert labels is not None
    return labels


def draw(
    denoiser: Denoiser, levels: list[Level], labels: Tensor, shape: tuple[int, ...], seed: int, **how: Any
) -> Tensor:
    """Pictures (N, C, H, W) of the labels (N,), on the CPU; the seed alone decides the noise they start from.

    The denoiser is on the labels' device. The rest is for `sample`; the default is DDIM.
    """
    noise = torch.randn(len(labels), *shape, generator=torch.Generator().manual_seed(seed))
    batches = zip(noise.split(BATCH), labels.split(BATCH), strict=True)
    drawn = [sample(denoiser, x.to(y.device), levels, y, **how).cpu() for x, y in batches]
    return torch.cat(drawn)


def generated(model: Checkpoint, options: Row, **how: Any) -> Row:
    """What `measured` says of the pictures that `generate` makes, n of them, all classes in turn.

    They are clamped: the noise of σ̂ (`steps_by_eta`) stays in the last picture, and reaches far outside.
    """
    labels = labels_of(model, options["n"])
    own: Any = {"seed": options["seed"], "device": options["device"], "precision": "float32"}
    return measured(generate(model, labels, **own, **how).clamp(-1, 1), labels, model.data)


def measured(pictures: Tensor, labels: Tensor, data: str) -> Row:
    """Every figure of `evaluate` as NAME and NAME_error, one standard error over the draw of the samples."""
    found = figures(evaluate(pictures, labels, zoo.yardstick(data)))
    values = {name: figure["value"] for name, figure in found.items()}
    return values | {f"{name}_error": figure["uncertainty"] for name, figure in found.items()}


def headline(row: Row) -> Row:
    """The three figures that most tables show: Fréchet distance, its uncertainty, accuracy."""
    return {"frechet": row["frechet"], "uncertainty": row["frechet_error"], "accuracy": row["accuracy"]}


def real(data: str, options: Row) -> Row:
    """What `measured` says of n real pictures, as many of each class, drawn from the training split."""
    dataset = load_dataset(data, "train")
    labels, each = dataset.labels, options["n"] // len(dataset.classes)
    if labels is None:
        raise ValueError("these tables are of pictures with labels, and these have none")
    order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(options["seed"]))
    rows = torch.cat([order[labels[order] == k][:each] for k in range(len(dataset.classes))])
    return measured(to_float(dataset.images[rows]), labels[rows], data)
