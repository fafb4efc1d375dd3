"""Fidelity and diversity over the guidance scale, with a classifier and without (lessons 09 and 10).

Both ways follow ∇ log p(x) + scale·∇ log p(y | x), so their scales compare: 0 is the unconditional model
in both, and 1 would be the conditional one in both if the classifier were exact. They differ in whose
p(y | x) it is. "classifier" takes it from a network of its own, trained on noisy pictures to name them;
"classifier-free" from the denoiser itself, as the difference of its estimates with the label and without
(Ho and Salimans 2022, section 3.2, whose w is scale − 1). The scale of Dhariwal and Nichol (2021) is ours
where they guide an unconditional model; where they guide a conditional one, theirs comes on top of its 1.
"""

from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diffusion_lessons import zoo
from diffusion_lessons.checkpoint import Checkpoint
from diffusion_lessons.denoiser import Denoiser, NetworkDenoiser
from diffusion_lessons.experiments import Experiment, Row, pictures
from diffusion_lessons.guidance import ClassifierFreeGuidance, ClassifierGuidance, Clip, NetworkClassifier
from diffusion_lessons.support.machine import choose_device

METHODS = ("classifier", "classifier-free")
SCALES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0)
STEPS = 25
unconditional = partial(ClassifierFreeGuidance, scale=0.0)  # the denoiser asked without the label
FIGURES = ("frechet", "kernel", "precision", "recall", "accuracy")


class Shared(NamedTuple):
    """What all rows use."""

    model: Checkpoint
    classifier: NetworkClassifier
    device: torch.device


def settings(options: Row) -> list[Row]:
    return [{"method": method, "scale": scale} for scale in SCALES for method in METHODS]


def prepare(options: Row) -> Shared:
    device, model = choose_device(options["device"]), zoo.open_model(options["model"])
    classifier = zoo.load(f"{model.recipe['data']}-noisy-classifier")
    classifier.network.to(device)
    return Shared(model.on(device), classifier, device)


def guided(method: str, scale: float, denoiser: NetworkDenoiser, classifier: Any) -> Denoiser:
    """One of the `METHODS` at a scale, x₀ clipped: both start from the unconditional model at scale 0."""
    if method == "classifier":
        return Clip(ClassifierGuidance(unconditional(denoiser), classifier, scale))
    return Clip(ClassifierFreeGuidance(denoiser, scale))


def draw(shared: Shared, method: str, scale: float, labels: Tensor, seed: int, steps: int = STEPS) -> Tensor:
    """Pictures (N, C, H, W) of the labels (N,), by DDIM; the noise is the same for all rows."""
    model, levels = shared.model, shared.model.path.levels(steps)
    denoiser = guided(method, scale, model.denoiser(), shared.classifier)
    return pictures.draw(denoiser, levels, labels.to(shared.device), model.shape, seed)


def measure(shared: Shared, row: Row, options: Row) -> Row:
    """Draw and evaluate: NAME and NAME_error, one standard error over the draw of the samples."""
    labels = pictures.labels_of(shared.model, options["n"])
    drawn = draw(shared, row["method"], row["scale"], labels, options["seed"])
    return pictures.measured(drawn, labels, shared.model.recipe["data"])


COLUMNS = f"method scale {' '.join(FIGURES)} frechet_error seconds"
EXPERIMENT = Experiment(__name__, __doc__, COLUMNS, settings, prepare, measure)
