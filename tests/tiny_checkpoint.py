"""A model small enough to sample from in milliseconds."""

import torch

from diffusion_lessons.checkpoint import Checkpoint
from diffusion_lessons.networks import UNet, UNetConfig
from diffusion_lessons.paths import DiscreteVP
from diffusion_lessons.schedules import cosine_betas
from diffusion_lessons.targets import V


def tiny(num_classes: int | None = 3, channels: int = 1) -> Checkpoint:
    """A checkpoint whose network was never trained but whose output is not zero."""
    torch.manual_seed(0)
    config = UNetConfig(channels, channels, 8, (1, 2), attention_levels=(), num_classes=num_classes)
    network = UNet(config)
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    classes = tuple("abc"[: num_classes or 0])
    return Checkpoint(
        network, DiscreteVP(cosine_betas(100)), V, classes, (channels, 8, 8), {"data": "digits"}
    )
