"""What experiments share: a training on digits, drawing, and what `evaluate` says of pictures, as columns."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from diffusion_lessons import zoo
from diffusion_lessons.data import Dataset, load_dataset, to_uint8
from diffusion_lessons.denoiser import Denoiser
from diffusion_lessons.metrics import evaluate
from diffusion_lessons.paths import Level
from diffusion_lessons.samplers import sample
from diffusion_lessons.support.machine import choose_device
from diffusion_lessons.training.recipe import Recipe

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


def digits(recipe: Recipe, options: dict[str, Any]) -> Digits:
    """Both splits, the recipe's path, and the device of the options."""
    train, test = load_dataset("digits", "train"), load_dataset("digits", "test")
    return Digits(train, test, recipe.build_path(), choose_device(options["device"]))


def draw(
    denoiser: Denoiser,
    levels: list[Level],
    labels: Tensor,
    shape: tuple[int, ...],
    seed: int,
    device: torch.device | str,
    **options: Any,
) -> Tensor:
    """Pictures (N, C, H, W) of the labels (N,), on the CPU; the seed alone decides the noise they start from.

    Args:
        denoiser: on the device.
        **options: for `sample`; the default is DDIM.
    """
    noise = torch.randn(len(labels), *shape, generator=torch.Generator().manual_seed(seed))
    batches = zip(noise.split(BATCH), labels.split(BATCH), strict=True)
    drawn = [sample(denoiser, x.to(device), levels, y.to(device), **options).cpu() for x, y in batches]
    return torch.cat(drawn)


def measured(pictures: Tensor, labels: Tensor, data: str) -> dict[str, Any]:
    """Every figure of `evaluate` as NAME and NAME_error, one standard error over the draw of the samples."""
    result = evaluate(pictures, labels, zoo.yardstick(data))
    entries = {name: entry for name, entry in result.items() if isinstance(entry, dict) and "value" in entry}
    values = {name: entry["value"] for name, entry in entries.items()}
    return values | {f"{name}_error": entry["uncertainty"] for name, entry in entries.items()}


def headline(figures: dict[str, Any]) -> dict[str, Any]:
    """The three figures that most tables show: Fréchet distance, its uncertainty, accuracy."""
    distance, error = figures["frechet"], figures["frechet_error"]
    return {"frechet": distance, "uncertainty": error, "accuracy": figures["accuracy"]}


def kept(pictures: Tensor) -> str:
    """The first pictures as a row keeps them: the bytes of (SHOWN, C, H, W), in hexadecimal."""
    return to_uint8(pictures[:SHOWN]).numpy().tobytes().hex()
