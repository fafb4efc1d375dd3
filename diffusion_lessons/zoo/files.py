"""How each kind of file on the shelf is read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from diffusion_lessons.checkpoint import BETAS, CheckpointError, load_checkpoint, read_tensors
from diffusion_lessons.guidance import NetworkClassifier
from diffusion_lessons.metrics.yardstick import Yardstick
from diffusion_lessons.networks import Classifier, build
from diffusion_lessons.paths import DiscreteVP


def load_classifier(file: Path) -> Classifier:
    """The classifier of a yardstick, without its references."""
    return Yardstick.load(file).classifier


def load_noisy_classifier(file: Path) -> NetworkClassifier:
    """The classifier of noisy pictures in a file, on the CPU, in float32 and evaluation mode.

    A file that is missing, cut short, damaged or no such classifier is a CheckpointError.
    """
    tensors, description = read_tensors(file, kind="noisy-classifier")
    betas = tensors.pop(BETAS, None)
    if betas is None:
        raise CheckpointError(f"{file} holds no path")
    with torch.device("meta"):  # no random start for weights that are read
        network = build(description["network"])
    weights = {name.removeprefix("network."): weight.float() for name, weight in tensors.items()}
    network.load_state_dict(weights, assign=True)
    return NetworkClassifier(network.eval().requires_grad_(False), DiscreteVP(betas))


LOADERS: dict[str, Callable[[Path], Any]] = {
    "classifier": load_classifier,
    "diffusion": load_checkpoint,
    "noisy-classifier": load_noisy_classifier,
}
