"""The task of an autoencoder: to draw a picture again from its latents, and to keep those near N(0, I)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from diffusion_lessons.checkpoint import weights_of, write_tensors
from diffusion_lessons.data.dataset import as_float
from diffusion_lessons.networks import describe
from diffusion_lessons.networks.vae import Latents, Vae
from diffusion_lessons.training.tasks import Forward, Task

KL = 4e-3  # weight of the divergence, a sum for each picture, over the number of its pixels and channels
MEASURED = 512  # pictures that the scale of the latents is measured on


class Seen(NamedTuple):
    """This process's share of a step."""

    x: Tensor  # (B, C, H, W)
    noise: Tensor  # like the latents


class Autoencoding(Task):
    """Learn |x − x̂| + 2·(x − x̂)², a mean over pixels, and the latents' divergence (Rombach et al. 2022).

    The network is a `Vae` whose scale is 1 while it learns; the one that is written has the scale with which
    its latents have a standard deviation of 1.
    """

    network: Vae

    def batch(self, step: int, most: int | None = None) -> Seen:
        x, _ = self.batches(step, most)
        latent = torch.empty(len(x), self.network.config.latent_channels, *self._side(x), device=x.device)
        return Seen(x, self.noise(step, latent, most))

    def loss(self, forward: Forward, batch: Seen) -> Tensor:
        drawn, mean, logvar = forward(batch.x, batch.noise)
        error = drawn - batch.x
        divergence = Latents(mean, logvar).kl().mean() / batch.x[0].numel()
        return (error.abs() + 2 * error.square()).mean() + KL * divergence

    def write(self, file: Path, network: nn.Module, info: Mapping[str, Any]) -> None:
        """The weights, and the scale measured with them."""
        rows, _ = self.batches.dataset.rows(torch.arange(min(MEASURED, self.dataset.length or MEASURED)))
        about = describe(network)
        about["config"] |= {"scale": latent_scale(network, as_float(rows).to(self.device))}
        write_tensors(
            file, weights_of(network), {"kind": "autoencoder", "network": about, "info": dict(info)}
        )

    def _side(self, x: Tensor) -> tuple[int, int]:
        return x.shape[2] // self.network.config.factor, x.shape[3] // self.network.config.factor


@torch.no_grad()
def latent_scale(network: nn.Module, x: Tensor) -> float:
    """What latents of pictures x (B, C, H, W) are multiplied by to have a standard deviation of 1.

    Rombach et al. 2022, appendix G; the deviation is that of samples, over all channels and places.
    """
    assert isinstance(network, Vae)
    latents = network.moments(x)
    variance = latents.mean.var() + latents.logvar.exp().mean()
    return float(variance**-0.5)
