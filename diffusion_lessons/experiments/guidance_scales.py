"""Fidelity and diversity over the guidance scale, by classifiers and without one (lessons 09 and 10).

All ways follow ∇ log p(x) + scale·∇ log p(y | x), so their scales compare: 0 is the unconditional model, and
1 would be the conditional one if p(y | x) were exact. They differ in whose p(y | x) it is:

- "classifier": a network trained on noisy pictures to name them; it guides the unconditional model;
- "classifier on labels": the same guides the conditional model, which has the 1 already: the scale of
  Dhariwal and Nichol (2021), which comes on top of it, is ours − 1;
- "clean classifier": one trained on clean pictures guides the unconditional model: asked about x̂₀, with the
  gradient through the denoiser (Bansal et al. 2023, section 3.1);
- "classifier-free": the difference of the denoiser's own estimates with the label and without (Ho and
  Salimans 2022, section 3.2, whose w is scale − 1);
- "interval": the same where 0.2 < σ/α ≤ 2, and scale 1 elsewhere (Kynkäänniemi et al. 2024).
"""

from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diffusion_lessons import zoo
from diffusion_lessons.checkpoint import Checkpoint
from diffusion_lessons.denoiser import Denoiser, NetworkDenoiser
from diffusion_lessons.experiments import Experiment, Row, pictures
from diffusion_lessons.guidance import (
    ClassifierFreeGuidance,
    ClassifierGuidance,
    Clip,
    Logits,
    guidance_interval,
)
from diffusion_lessons.paths import Level
from diffusion_lessons.support.machine import choose_device

LEAST = {
    "classifier": 0.0,
    "classifier-free": 0.0,
    "classifier on labels": 1.0,
    "clean classifier": 0.0,
    "interval": 1.0,
}
METHODS = tuple(LEAST)
SCALES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0)
INTERVAL = (0.2, 2.0)  # of σ/α
STEPS = 25
unconditional = partial(ClassifierFreeGuidance, scale=0.0)  # the denoiser asked without the label
FIGURES = ("frechet", "kernel", "precision", "recall", "accuracy")


class Shared(NamedTuple):
    """What all rows use: the model, and classifiers of noisy and of clean pictures."""

    model: Checkpoint
    noisy: Logits
    clean: Any
    device: torch.device


def settings(options: Row) -> list[Row]:
    """Every method from the scale on at which it is a way of its own."""
    return [
        {"method": method, "scale": scale} for scale in SCALES for method in METHODS if scale >= LEAST[method]
    ]


def prepare(options: Row) -> Shared:
    device, model = choose_device(options["device"]), pictures.opened(options["model"])
    noisy, clean = (zoo.load(f"{model.data}-{kind}") for kind in ("noisy-classifier", "classifier"))
    noisy.network.to(device)
    return Shared(model.on(device), noisy, clean.to(device), device)


def guided(method: str, scale: float, denoiser: NetworkDenoiser, noisy: Logits, clean: Any) -> Denoiser:
    """One of the `METHODS` at a scale, x₀ clipped."""

    def of_estimate(x: Tensor, level: Level) -> Tensor:
        return clean(denoiser(x, level, denoiser.null_condition(len(x))).x0)

    made: dict[str, Denoiser] = {
        "classifier": ClassifierGuidance(unconditional(denoiser), noisy, scale),
        "classifier on labels": ClassifierGuidance(denoiser, noisy, max(scale - 1, 0)),
        "clean classifier": ClassifierGuidance(unconditional(denoiser), of_estimate, scale),
        "classifier-free": ClassifierFreeGuidance(denoiser, scale),
        "interval": ClassifierFreeGuidance(denoiser, guidance_interval(scale, *INTERVAL)),
    }
    return Clip(made[method])


def draw(shared: Shared, method: str, scale: float, labels: Tensor, seed: int, steps: int = STEPS) -> Tensor:
    """Pictures (N, C, H, W) of the labels (N,), by DDIM; the noise is the same for all rows."""
    model, levels = shared.model, shared.model.path.levels(steps)
    denoiser = guided(method, scale, model.denoiser(), shared.noisy, shared.clean)
    return pictures.draw(denoiser, levels, labels.to(shared.device), model.shape, seed)


def measure(shared: Shared, row: Row, options: Row) -> Row:
    """Draw and evaluate: NAME and NAME_error, one standard error over the draw of the samples."""
    labels = pictures.labels_of(shared.model, options["n"])
    drawn = draw(shared, row["method"], row["scale"], labels, options["seed"])
    return pictures.measured(drawn, labels, shared.model.data)


COLUMNS = f"method scale {' '.join(FIGURES)} frechet_error seconds"
EXPERIMENT = Experiment(__name__, __doc__, COLUMNS, settings, prepare, measure)
