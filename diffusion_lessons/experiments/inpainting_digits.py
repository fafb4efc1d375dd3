"""Digits whose lower half is painted without a label, in the ways that need no training (lesson 15).

The digits are the model's own, of all classes in turn, guided; then the same model paints the lower half of
each again, and nobody tells it which digit it is. The ways are those of `inpainting`, and "original" is the
digits as they were. A row holds the share that a classifier reads as the digit that it was, with its 95 %
interval (Wilson); the seam in units of [−1, 1], with its standard error; and the calls a picture took. Both
uncertainties are over the digits and noises of one seed. Another digit need not be a mistake: half of a 3 may
belong to a 2. All rows of 500 digits take about ten minutes on one CPU core.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from diffusion_lessons import zoo
from diffusion_lessons.checkpoint import Checkpoint
from diffusion_lessons.experiments import Experiment, Row
from diffusion_lessons.experiments.guidance_scales import unconditional
from diffusion_lessons.experiments.inpainting import APART, CALLS, GUIDANCE, STEPS, walked
from diffusion_lessons.experiments.pictures import draw, labels_of, opened
from diffusion_lessons.guidance import ClassifierFreeGuidance, Clip
from diffusion_lessons.metrics.intervals import wilson_interval
from diffusion_lessons.metrics.seam import seam
from diffusion_lessons.support.machine import choose_device

BATCH = 50


class Halves(NamedTuple):
    """What there is to fill, and who does it and who reads it."""

    model: Checkpoint
    reader: Any
    labels: Tensor  # (N,)
    digits: Tensor  # (N, C, H, W) in [−1, 1]
    noise: Tensor  # like them, that all walks begin with
    mask: Tensor  # (1, 1, H, W), 1 in the lower half


def lower_half(shape: tuple[int, ...]) -> Tensor:
    """The mask (1, 1, H, W) of pictures (C, H, W): 1 in the lower half."""
    mask = torch.zeros(1, 1, *shape[1:])
    mask[:, :, shape[1] // 2 :] = 1
    return mask


@torch.no_grad()
def filled(halves: Halves, way: str, step: str, steps: int, seed: int) -> Tensor:
    """The digits with their lower halves painted, (N, C, H, W); what is known is put back exactly."""
    model, mask = halves.model, halves.mask.to(halves.labels.device)
    denoiser = Clip(unconditional(model.denoiser()))
    batches = zip(*(each.split(BATCH) for each in (halves.digits, halves.noise, halves.labels)), strict=True)
    made = []
    for at, (digits, noise, labels) in enumerate(batches):
        known, x = digits.to(labels.device), noise.to(labels.device)
        own = (seed + 1) * APART + at  # of no other draw
        made.append(walked(denoiser, x, model.path, known, mask, way, step, steps, labels, own).cpu())
    return torch.lerp(halves.digits, torch.cat(made), halves.mask)


def settings(options: Row) -> list[Row]:
    walks = [("original", "none", 0), ("pasted", "ddim", STEPS), ("replaced", "ddim", STEPS)]
    walks += [("clean", "ddim", STEPS), ("replaced", "ancestral", CALLS), ("resampled", "ancestral", STEPS)]
    return [dict(zip(("way", "step", "steps"), walk, strict=True)) for walk in walks]


@torch.no_grad()
def prepare(options: Row) -> Halves:
    device = choose_device(options["device"])
    model = opened(options["model"]).on(device)
    labels = labels_of(model, options["n"]).to(device)
    guided = Clip(ClassifierFreeGuidance(model.denoiser(), GUIDANCE))
    digits = draw(guided, model.path.levels(STEPS), labels, model.shape, options["seed"]).clamp(-1, 1)
    noise = torch.randn(digits.shape, generator=torch.Generator().manual_seed(options["seed"] + 1))
    reader = zoo.load(f"{model.data}-classifier").to(device)
    return Halves(model, reader, labels, digits, noise, lower_half(model.shape))


@torch.no_grad()
def measure(halves: Halves, row: Row, options: Row) -> Row:
    way = row["way"]
    made = halves.digits if way == "original" else filled(halves, **row, seed=options["seed"])
    read = halves.reader(made.clamp(-1, 1).to(halves.labels.device)).argmax(1) == halves.labels
    jumps = seam(made, halves.mask.expand(len(made), -1, -1, -1))
    right, n = int(read.sum()), len(made)
    low, high = wilson_interval(right, n)
    return {
        "n": n,
        "calls": CALLS if way == "resampled" else row["steps"],
        "read": round(right / n, 4),
        "low": round(low, 4),
        "high": round(high, 4),
        "seam": round(float(jumps.mean()), 4),
        "seam_error": round(float(jumps.std() / n**0.5), 4),
    }


COLUMNS = "way step steps calls read low high seam seam_error"
EXPERIMENT = Experiment(__name__, __doc__, COLUMNS, settings, prepare, measure)
