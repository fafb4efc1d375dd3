"""How each kind of file on the shelf is read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from diffusion_lessons.checkpoint import (
    BETAS,
    WEIGHTS,
    CheckpointError,
    load_checkpoint,
    network_in,
    read_tensors,
)
from diffusion_lessons.data.tokenizer import Tokenizer
from diffusion_lessons.guidance import NetworkClassifier
from diffusion_lessons.metrics.yardstick import Yardstick
from diffusion_lessons.networks import Classifier, Vae
from diffusion_lessons.networks.clip import TextConfig, TwoTowers, VisionConfig
from diffusion_lessons.paths import DiscreteVP


def load_classifier(file: Path) -> Classifier:
    """The classifier of a yardstick, without its references."""
    return Yardstick.load(file).classifier


def load_noisy_classifier(file: Path) -> NetworkClassifier:
    """The classifier of noisy pictures in a file, on the CPU, in float32 and evaluation mode.

    A file that is missing, cut short, damaged or no such classifier is a CheckpointError.
    """
    tensors, description = read_tensors(file, kind="noisy-classifier")
    if BETAS not in tensors:
        raise CheckpointError(f"{file} holds no path")
    network = network_in(tensors, description["network"]).requires_grad_(False)
    return NetworkClassifier(network, DiscreteVP(tensors[BETAS]))


def load_autoencoder(file: Path) -> Vae:
    """The autoencoder in a file, as above; what is none is a CheckpointError."""
    tensors, description = read_tensors(file, kind="autoencoder")
    network = network_in(tensors, description["network"])
    assert isinstance(network, Vae)
    return network


def load_towers(file: Path) -> tuple[TwoTowers, Tokenizer]:
    """Text tower and image tower in a file, with the tokenizer of the texts, as above."""
    tensors, about = read_tensors(file, kind="towers")
    network = TwoTowers(TextConfig(**about["text"]), VisionConfig(**about["vision"]))
    network.load_state_dict({name.removeprefix(WEIGHTS): t.float() for name, t in tensors.items()})
    return network.eval(), Tokenizer.from_json(about["tokenizer"])


LOADERS: dict[str, Callable[[Path], Any]] = {
    "autoencoder": load_autoencoder,
    "classifier": load_classifier,
    "diffusion": load_checkpoint,
    "noisy-classifier": load_noisy_classifier,
    "towers": load_towers,
}
