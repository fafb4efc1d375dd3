"""Fidelity and diversity over the guidance scale, with a classifier and without (lessons 09 and 10).

Both ways follow ∇ log p(x) + scale·∇ log p(y | x), so their scales compare: 0 is the unconditional model
in both, and 1 would be the conditional one in both if the classifier were exact. They differ in whose
p(y | x) it is. "classifier" takes it from a network of its own, trained on noisy pictures to name them;
"classifier-free" from the denoiser itself, as the difference of its estimates with the label and without
(Ho and Salimans 2022, section 3.2, whose w is scale − 1). The scale of Dhariwal and Nichol (2021) is ours
where they guide an unconditional model; where they guide a conditional one, theirs comes on top of its 1.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from diffusion_lessons import zoo
from diffusion_lessons.checkpoint import Checkpoint
from diffusion_lessons.denoiser import Condition, Denoiser, NetworkDenoiser
from diffusion_lessons.experiments import Experiment, Row
from diffusion_lessons.generate import labels_for
from diffusion_lessons.guidance import ClassifierFreeGuidance, ClassifierGuidance, Clip, NetworkClassifier
from diffusion_lessons.metrics import evaluate
from diffusion_lessons.paths import Level
from diffusion_lessons.samplers import sample
from diffusion_lessons.support.machine import choose_device, keep_freed_memory
from diffusion_lessons.targets import Estimate

METHODS = ("classifier", "classifier-free")
SCALES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0)
STEPS = 25
BATCH = 250
FIGURES = ("frechet", "kernel", "precision", "recall", "accuracy")


class Shared(NamedTuple):
    """What all rows use."""

    model: Checkpoint
    classifier: NetworkClassifier
    device: torch.device


def settings(options: Row) -> list[Row]:
    return [{"method": method, "scale": scale} for scale in SCALES for method in METHODS]


def prepare(options: Row) -> Shared:
    from diffusion_lessons.cli import open_model

    keep_freed_memory()
    device, model = choose_device(options["device"]), open_model(options["model"])
    classifier = zoo.load(f"{model.recipe['data']}-noisy-classifier")
    model.network.to(device)
    classifier.network.to(device)
    return Shared(model, classifier, device)


def unconditional(denoiser: NetworkDenoiser) -> Denoiser:
    """The denoiser asked without the label, whatever the condition is."""

    def without_label(x: Tensor, level: Level, condition: Condition = None) -> Estimate:
        return denoiser(x, level, denoiser.null_condition(len(x)))

    return without_label


def guided(method: str, scale: float, denoiser: NetworkDenoiser, classifier: Any) -> Denoiser:
    """One of the `METHODS` at a scale, x₀ clipped: both start from the unconditional model at scale 0."""
    if method == "classifier":
        return Clip(ClassifierGuidance(unconditional(denoiser), classifier, scale))
    return Clip(ClassifierFreeGuidance(denoiser, scale))


def draw(shared: Shared, method: str, scale: float, labels: Tensor, seed: int, steps: int = STEPS) -> Tensor:
    """Pictures (N, C, H, W) of the labels (N,), by DDIM; the noise is the same for all rows."""
    denoiser = guided(method, scale, shared.model.denoiser(), shared.classifier)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(len(labels), *shared.model.shape, generator=generator)
    levels = shared.model.path.levels(steps)
    batches = zip(noise.split(BATCH), labels.split(BATCH), strict=True)
    drawn = [sample(denoiser, x.to(shared.device), levels, y.to(shared.device)).cpu() for x, y in batches]
    return torch.cat(drawn)


def measure(shared: Shared, row: Row, options: Row, steps: int = STEPS) -> Row:
    """Draw and evaluate: NAME and NAME_error, one standard error over the draw of the samples."""
    labels = labels_for(shared.model, options["n"])
    assert labels is not None  # a model to guide has classes
    pictures = draw(shared, row["method"], row["scale"], labels, options["seed"], steps)
    result = evaluate(pictures, labels, shared.model.recipe["data"])
    return {name: result[name]["value"] for name in FIGURES} | {
        f"{name}_error": result[name]["uncertainty"] for name in FIGURES
    }


EXPERIMENT = Experiment(
    "guidance-scales",
    "Fidelity and diversity over the guidance scale, with a classifier and without (lessons 09 and 10)",
    ("method", "scale", *FIGURES, "frechet_error", "seconds"),
    settings,
    prepare,
    measure,
)
