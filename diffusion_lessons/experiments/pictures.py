"""What experiments share: pictures drawn for labels, and what `evaluate` says of them, as columns."""

from typing import Any

import torch
from torch import Tensor

from diffusion_lessons import zoo
from diffusion_lessons.data import to_uint8
from diffusion_lessons.denoiser import Denoiser
from diffusion_lessons.metrics import evaluate
from diffusion_lessons.paths import Level
from diffusion_lessons.samplers import sample

BATCH = 250  # pictures drawn at a time
SHOWN = 10  # pictures that a row keeps, one a class


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
    """Every figure of `evaluate` as NAME and NAME_error, one standard error over the draw of the samples.

    The pictures are clamped: a step that adds noise to the end leaves some far outside of [−1, 1].
    """
    result = evaluate(pictures.clamp(-1, 1), labels, zoo.yardstick(data))
    entries = {name: entry for name, entry in result.items() if isinstance(entry, dict) and "value" in entry}
    values = {name: entry["value"] for name, entry in entries.items()}
    return values | {f"{name}_error": entry["uncertainty"] for name, entry in entries.items()}


def headline(figures: dict[str, Any]) -> dict[str, Any]:
    """The three figures that most tables show: Fréchet distance, its uncertainty, accuracy."""
    distance, error = figures["frechet"], figures["frechet_error"]
    return {"frechet": distance, "uncertainty": error, "accuracy": figures["accuracy"]}


def kept(pictures: Tensor) -> str:
    """The first pictures as a row keeps them: the bytes of (SHOWN, C, H, W), in hexadecimal."""
    return to_uint8(pictures[:SHOWN].clamp(-1, 1)).numpy().tobytes().hex()
