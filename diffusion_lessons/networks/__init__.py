"""Networks, one idea a file, and their plain descriptions: network(x (B, C, H, W), time (B,), condition).

Those with conditions have `null_condition(batch)`; none has buffers that a checkpoint would not hold.
"""

from dataclasses import asdict
from typing import Any

from torch import nn

from diffusion_lessons.networks.classifier import Classifier, ClassifierConfig
from diffusion_lessons.networks.dit import DiT, DiTConfig
from diffusion_lessons.networks.gan import Discriminator, DiscriminatorConfig, Generator, GeneratorConfig
from diffusion_lessons.networks.patched import Patched
from diffusion_lessons.networks.points import PointConfig, PointNetwork
from diffusion_lessons.networks.prompted import Prompted, PromptedConfig
from diffusion_lessons.networks.unet import UNet, UNetConfig
from diffusion_lessons.networks.vae import Vae, VaeConfig
from diffusion_lessons.networks.video import Video, VideoConfig
from diffusion_lessons.support.errors import unknown

__all__ = [
    "Classifier",
    "ClassifierConfig",
    "DiT",
    "DiTConfig",
    "Discriminator",
    "DiscriminatorConfig",
    "Generator",
    "GeneratorConfig",
    "Patched",
    "PointConfig",
    "PointNetwork",
    "Prompted",
    "PromptedConfig",
    "UNet",
    "UNetConfig",
    "Vae",
    "VaeConfig",
    "Video",
    "VideoConfig",
    "build",
    "describe",
    "known",
]

NETWORKS: dict[str, Any] = {
    "UNet": (UNet, UNetConfig),
    "Classifier": (Classifier, ClassifierConfig),
    "DiT": (DiT, DiTConfig),
    "Vae": (Vae, VaeConfig),
    "Prompted": (Prompted, PromptedConfig),
    "PointNetwork": (PointNetwork, PointConfig),
    "Generator": (Generator, GeneratorConfig),
    "Discriminator": (Discriminator, DiscriminatorConfig),
    "Video": (Video, VideoConfig),
}


def describe(network: nn.Module) -> dict[str, Any]:
    """What `build` needs to make a network again, ready for JSON; one that is not `known` is a ValueError."""
    if isinstance(network, Patched):
        return {"name": "Patched", "patch": network.patch, "network": describe(network.network)}
    if not known(network):
        raise unknown("network", type(network).__name__, [*NETWORKS, "Patched"])
    return {"name": type(network).__name__, "config": asdict(network.config)}  # type: ignore[call-overload]


def known(network: nn.Module) -> bool:
    """Whether `build` can make the network again; one of somebody else's with the same name is not known."""
    inside = network.network if isinstance(network, Patched) else network
    return NETWORKS.get(type(inside).__name__, (None,))[0] is type(inside)


def build(description: dict[str, Any]) -> nn.Module:
    """A fresh network from its description; what is none is a ValueError."""
    try:
        name = description["name"]
        if name == "Patched":
            return Patched(build(description["network"]), description["patch"])
        if name not in NETWORKS:
            raise unknown("network", name, [*NETWORKS, "Patched"])
        network, config = NETWORKS[name]
        return network(config(**description["config"]))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not the description of a network ({error}): {description!r}") from error
