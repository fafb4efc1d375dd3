"""The peers, run the way their own examples run them.

The settings are those of diffusers' examples/unconditional_image_generation/train_unconditional.py:
float32, eager, plain memory layout, batch 16, noise as target, 1000 steps of a linear schedule, AdamW with
learning rate 1e-4, betas (0.95, 0.999) and weight decay 1e-6, 500 steps of warm-up and then a cosine over
100 epochs, gradients clipped at 1, an EMA (`--use_ema`, as in its README). Left out, in its favour: the
decoding and resizing of files, tracking, checkpoints.
"""

import importlib
import logging
import math
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

BATCH, EPOCHS = 16, 100
EXAMPLE: dict[str, Any] = {
    "batch": BATCH,
    "precision": "float32",
    "schedule": "linear, T = 1000",
    "target": "epsilon",
    "optimizer": "AdamW(lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6)",
    "lr_schedule": f"500 steps of warm-up, cosine over {EPOCHS} epochs",
    "grad_clip": 1.0,
    "ema": "warm-up with power 3/4, at most 0.9999",
}


def find(package: str) -> tuple[ModuleType | None, str]:
    """The package, or None and why it cannot be used here."""
    try:
        return importlib.import_module(package), ""
    except ImportError as error:
        return None, f"{package} is not installed ({error})"
    except Exception as error:  # torchvision without its operators raises RuntimeError
        return None, f"{package} cannot be imported here ({type(error).__name__}: {error})"


def lucidrains_unet() -> tuple[nn.Module | None, str]:
    """The U-Net of denoising-diffusion-pytorch of about 36 M parameters, or None and why not."""
    package, why = find("denoising_diffusion_pytorch")
    if package is None:
        return None, why
    unet = package.Unet(
        dim=144, dim_mults=(1, 2, 2, 2), full_attn=(False, True, False, False), flash_attn=True
    )
    return unet, ""


class Example:
    """The training loop of diffusers' example, a step at a time.

    Args:
        network: a UNet2DModel, on the device.
        images: uint8 (N, C, H, W) on the CPU.
        seed: of the order of the pictures; noise and times come from the global generator, as there.
    """

    def __init__(
        self, network: Any, images: Tensor, device: torch.device, batch: int = BATCH, seed: int = 0
    ) -> None:
        from diffusers import DDPMScheduler
        from diffusers.optimization import get_scheduler
        from diffusers.training_utils import EMAModel

        self.network, self.device, self.batch = network, device, batch
        self.noise_scheduler = DDPMScheduler(num_train_timesteps=1000, beta_schedule="linear")
        self.optimizer = torch.optim.AdamW(
            network.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8
        )
        self.loader = DataLoader(
            TensorDataset(images.float() / 127.5 - 1),
            batch_size=batch,
            shuffle=True,
            generator=torch.Generator().manual_seed(seed),
        )
        self.lr_scheduler = get_scheduler(
            "cosine", self.optimizer, num_warmup_steps=500, num_training_steps=len(self.loader) * EPOCHS
        )
        self.ema = EMAModel(
            network.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=3 / 4
        )
        self.ema.to(device)
        self.batches = self._forever()
        self.losses: list[float] = []

    def _forever(self) -> Iterator[Tensor]:
        while True:
            for (batch,) in self.loader:
                yield batch

    def step(self) -> None:
        """One step; the loss is read at each, as there for the progress bar."""
        clean = next(self.batches).to(self.device)  # (B, C, H, W)
        noise = torch.randn(clean.shape, device=self.device)
        t = torch.randint(0, 1000, (len(clean),), device=self.device)
        noisy = self.noise_scheduler.add_noise(clean, noise, t)
        loss = F.mse_loss(self.network(noisy, t).sample.float(), noise)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.lr_scheduler.step()
        self.optimizer.zero_grad()
        self.ema.step(self.network.parameters())
        self.losses.append(loss.item())


def sample(
    network: Any, scheduler: str, n: int, steps: int, generator: torch.Generator, batch: int = 256
) -> Tensor:
    """Pictures by diffusers' own pipeline for "ddpm" or "ddim", as they come: (n, C, H, W) uint8."""
    pictures = []
    pipeline = sampling_pipeline(network, scheduler)
    for start in range(0, n, batch):
        made = pipeline(
            batch_size=min(batch, n - start), num_inference_steps=steps, output_type="np", generator=generator
        ).images  # (B, H, W, C) in [0, 1]
        pictures.append(torch.from_numpy(made).permute(0, 3, 1, 2))
    return (torch.cat(pictures) * 255).round().to(torch.uint8)


def sampling_pipeline(network: Any, scheduler: str) -> Any:
    """DDPMPipeline or DDIMPipeline around a network, without its progress bar."""
    import diffusers

    logging.getLogger("diffusers").setLevel(logging.ERROR)
    kind = scheduler.upper()
    levels = getattr(diffusers, f"{kind}Scheduler")(num_train_timesteps=1000, beta_schedule="linear")
    pipeline = getattr(diffusers, f"{kind}Pipeline")(unet=network, scheduler=levels)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def finite(losses: list[float]) -> bool:
    """Whether training stayed in bounds."""
    return all(math.isfinite(loss) for loss in losses)
