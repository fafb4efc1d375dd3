"""A picture to begin with: changed as a whole, or painted over where a mask says so.

Meng et al. 2022 (SDEdit: begin from the noised picture); Rombach et al. 2022, section 4.5 (inpainting).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusion_lessons.checkpoint import Checkpoint
from diffusion_lessons.conditions import Condition, as_dict
from diffusion_lessons.denoiser import Denoiser
from diffusion_lessons.guidance import Inpaint
from diffusion_lessons.networks import Prompted
from diffusion_lessons.paths import Level, add_noise


@dataclass(frozen=True)
class Canvas:
    """A picture (1, C, H, W) in [−1, 1] that every sample begins with.

    strength is the share of the walk that is walked: 1 begins with noise alone, less keeps more of the
    picture. mask (1, 1, H, W) is 1 where to paint, 0 where to keep.
    """

    picture: Tensor
    strength: float = 1.0
    mask: Tensor | None = None

    def __post_init__(self) -> None:
        if self.picture.ndim != 4 or len(self.picture) != 1:
            raise ValueError(f"one picture (1, C, H, W) to begin with, got {tuple(self.picture.shape)}")
        if not 0 < self.strength <= 1:
            raise ValueError(f"the strength is a share above 0, at most 1, got {self.strength}")
        if self.mask is not None and self.mask.shape != (1, 1, *self.picture.shape[2:]):
            wanted = (1, 1, *self.picture.shape[2:])
            raise ValueError(f"the mask of this picture is {wanted}, got {tuple(self.mask.shape)}")

    def finished(self, drawn: Tensor) -> Tensor:
        """Pictures (B, C, H, W) with what was to be kept put back exactly."""
        if self.mask is None:
            return drawn
        return torch.lerp(self.picture.to(drawn), drawn, (self.mask > 0.5).to(drawn))


class Begun:
    """A canvas made ready for a model: in its latents, on its device."""

    def __init__(self, canvas: Canvas, model: Checkpoint) -> None:
        device = next(model.network.parameters()).device
        picture = canvas.picture.to(device)
        self.canvas, self.known = canvas, _encoded(model, picture)
        self.mask = self.hidden = None
        if self.known.shape[1:] != model.shape:
            raise ValueError(f"the picture is {tuple(self.known.shape[1:])} for samples of {model.shape}")
        if canvas.mask is not None:
            mask = (canvas.mask > 0.5).to(picture)  # a cell is painted where any of its pixels is
            factor = mask.shape[-1] // self.known.shape[-1]
            self.mask = F.max_pool2d(mask, factor)
            self.hidden = _encoded(model, picture * (1 - mask))  # painted over with grey
        self.channels = isinstance(model.network, Prompted) and _takes_known(model.network)

    def start(self, noise: Tensor, levels: list[Level]) -> tuple[Tensor, list[Level]]:
        """Where to begin and the levels from there: noise, or the noised picture further down."""
        steps = len(levels) - 1
        skipped = steps - min(steps, max(1, int(steps * self.canvas.strength)))
        if not skipped:
            return noise, levels
        return add_noise(self.known.expand_as(noise), noise, levels[skipped]), levels[skipped:]

    def told(self, condition: Condition, batch: int) -> Condition:
        """The condition, with mask and masked picture for a network that was trained to see them."""
        if not self.channels or self.mask is None or self.hidden is None:
            return condition
        known = torch.cat([self.mask, self.hidden], 1).expand(batch, -1, -1, -1)
        return {**as_dict(condition), "known": known}

    def wrapped(self, denoiser: Denoiser) -> Denoiser:
        """The denoiser that keeps what is known, where the network was not trained to."""
        if self.mask is None or self.channels:
            return denoiser
        return Inpaint(denoiser, self.known, self.mask)


def _takes_known(network: Prompted) -> bool:
    config = network.config.unet
    return config.in_channels > config.out_channels


@torch.no_grad()
def _encoded(model: Checkpoint, picture: Tensor) -> Tensor:
    return picture if model.vae is None else model.vae.encode(picture)
