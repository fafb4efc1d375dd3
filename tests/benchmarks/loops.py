"""What is repeated in a window of training: each project's own loop, or one loop for both."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffusion_lessons.data.dataset import Dataset
from diffusion_lessons.support.machine import keep_freed_memory
from diffusion_lessons.support.processes import Processes
from diffusion_lessons.training.loop import Trainer
from diffusion_lessons.training.recipe import Recipe
from diffusion_lessons.training.speed import SpeedMode
from diffusion_lessons.training.tasks import Denoising

from .peers import Example
from .sizes import Plain, Size
from .timing import Work

PICTURES = 1024  # of the made-up data set


def pictures(seed: int = 0) -> Tensor:
    """Random bytes (N, 3, 32, 32): what they show does not change what a step costs."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (PICTURES, 3, 32, 32), generator=generator, dtype=torch.uint8)


def ours_as_shipped(size: Size, batch: int, device: torch.device, seed: int = 0) -> Work:
    """A step of `train` in a long run, in the speed mode that it chooses, its losses read as it does."""
    keep_freed_memory()  # as the command line does
    images = pictures(seed)
    dataset = Dataset("noise", images, torch.zeros(len(images), dtype=torch.int64), ("noise",))
    recipe = Recipe(data="noise", minutes=60.0, batch=batch, seed=seed, **size.recipe())
    trainer = Trainer(Denoising(recipe, dataset), Path("never-written"), Processes(device))

    def step() -> None:
        if trainer.meter.full:
            trainer.read()
        trainer.step(done=0.5)

    return Work(step, batch, trainer.mode.matmuls, str(trainer.mode))


def theirs_as_shipped(size: Size, batch: int, device: torch.device, seed: int = 0) -> Work:
    """A step of diffusers' training example."""
    network = size.unet_2d_model().to(device).train()
    return Work(Example(network, pictures(seed), device, batch, seed).step, batch)


def same_for_both(network: nn.Module, batch: int, device: torch.device, mode: SpeedMode) -> Work:
    """A step of one and the same loop, so that only the network differs.

    In the given precision, compiled or not, channels-last, with the fused AdamW.
    """
    network = Plain(network).to(device=device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
    scaler = torch.amp.GradScaler(device.type, enabled=mode.precision == "fp16")
    generator = torch.Generator(device).manual_seed(0)
    x = torch.randn(batch, 3, 32, 32, generator=generator, device=device)
    x = x.contiguous(memory_format=torch.channels_last)  # (B, 3, 32, 32)
    time = 1000 * torch.rand(batch, generator=generator, device=device)  # (B,)
    forward = mode.cast(mode.compiled(network))

    def step() -> None:
        loss = F.mse_loss(forward(x, time), x)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)

    return Work(step, batch, mode.matmuls)
