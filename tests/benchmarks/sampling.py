"""DDIM in 25 steps, each project by its own command."""

import torch

from diffusion_lessons.checkpoint import Checkpoint
from diffusion_lessons.generate import generate
from diffusion_lessons.paths import DiscreteVP
from diffusion_lessons.schedules import linear_betas
from diffusion_lessons.support.machine import keep_freed_memory
from diffusion_lessons.targets import EPSILON

from .peers import sample
from .sizes import Size
from .timing import Work

STEPS = 25


def at_a_time(device: torch.device) -> int:
    """How many pictures both sample at a time."""
    return 256 if device.type == "cuda" else 32


def our_sampling(size: Size, device: torch.device) -> Work:
    """`generate`, as the command line calls it, without labels."""
    keep_freed_memory()  # as the command line does
    images = at_a_time(device)
    model = Checkpoint(size.ours().eval(), DiscreteVP(linear_betas()), EPSILON, (), (3, 32, 32))
    return Work(lambda: generate(model, None, images, steps=STEPS, device=device), images)


def their_sampling(size: Size, device: torch.device) -> Work:
    """diffusers' DDIMPipeline."""
    images = at_a_time(device)
    network = size.unet_2d_model().to(device).eval()
    generator = torch.Generator(device).manual_seed(0)
    return Work(lambda: sample(network, "ddim", images, STEPS, generator), images)
