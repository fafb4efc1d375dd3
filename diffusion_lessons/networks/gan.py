"""Two players: a generator that makes a sample from a latent, a discriminator that tells it from real ones.

Goodfellow et al. 2014. The pair for pictures is convolutional; points take a `PointNetwork` for each.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from diffusion_lessons.networks.blocks import ResidualBlock, Upsample

SLOPE = 0.2  # of the discriminator's leaky ReLU (Radford et al. 2016, section 3)


@dataclass(frozen=True)
class GeneratorConfig:
    """The shape of a `Generator`."""

    image_size: int = 16  # height and width of the pictures; divisible by 2^(levels − 1)
    out_channels: int = 1  # colour channels
    latent_dim: int = 64
    base_channels: int = 32  # width of the finest level
    channel_mults: tuple[int, ...] = (1, 2, 2)  # each level's width over it, the finest first
    groups: int = 8  # of the GroupNorms; divides every width

    def __post_init__(self) -> None:
        object.__setattr__(self, "channel_mults", tuple(self.channel_mults))  # JSON has only lists
        _check(self, self.latent_dim)


@dataclass(frozen=True)
class DiscriminatorConfig:
    """The shape of a `Discriminator`."""

    image_size: int = 16
    in_channels: int = 1
    base_channels: int = 32
    channel_mults: tuple[int, ...] = (1, 2, 2)

    def __post_init__(self) -> None:
        object.__setattr__(self, "channel_mults", tuple(self.channel_mults))
        _check(self)


class Generator(nn.Module):
    """A latent (B, Z) to a picture (B, C, H, W) in (−1, 1): coarse features, doubled level by level.

    The norms are of each sample alone: with batch norm, a picture would depend on its neighbours.
    """

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        *_, coarsest = widths = [config.base_channels * mult for mult in config.channel_mults]
        self.side = config.image_size // 2 ** (len(widths) - 1)
        self.stem = nn.Linear(config.latent_dim, coarsest * self.side**2)
        self.blocks = nn.ModuleList()
        channels = coarsest
        for level, width in reversed(list(enumerate(widths))):
            self.blocks.append(ResidualBlock(channels, width, groups=config.groups))
            if level > 0:
                self.blocks.append(Upsample(width))
            channels = width
        self.norm_out = nn.GroupNorm(config.groups, channels)
        self.conv_out = nn.Conv2d(channels, config.out_channels, 3, padding=1)

    @property
    def latent_dim(self) -> int:
        """Numbers of a latent."""
        return self.config.latent_dim

    def forward(self, latent: Tensor) -> Tensor:
        """Pictures (B, C, H, W) of latents (B, Z); another shape is a ValueError."""
        if latent.ndim != 2 or latent.shape[1] != self.latent_dim:
            wanted, given = f"(B, {self.latent_dim})", tuple(latent.shape)
            raise ValueError(f"the generator takes latents {wanted}, got shape {given}")
        h = self.stem(latent).view(len(latent), -1, self.side, self.side)
        for block in self.blocks:
            h = block(h)
        return torch.tanh(self.conv_out(F.silu(self.norm_out(h))))


class Discriminator(nn.Module):
    """A picture (B, C, H, W) to a logit (B, 1), above 0 for real: strided convolutions and no norm at all."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        widths = [config.base_channels * mult for mult in config.channel_mults]
        self.stem = nn.Conv2d(config.in_channels, widths[0], 3, padding=1)
        self.downs = nn.ModuleList(
            nn.Conv2d(before, width, 4, stride=2, padding=1) for before, width in pairwise(widths)
        )
        self.last = nn.Conv2d(widths[-1], widths[-1], 3, padding=1)
        side = config.image_size // 2 ** (len(widths) - 1)
        self.out = nn.Linear(widths[-1] * side**2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, 1) of pictures (B, C, H, W); another shape is a ValueError."""
        c = self.config
        expected = (c.in_channels, c.image_size, c.image_size)
        if x.ndim != 4 or x.shape[1:] != expected:
            raise ValueError(f"the discriminator takes pictures (B, {expected}), got {tuple(x.shape)}")
        h = x
        for layer in (self.stem, *self.downs, self.last):
            h = F.leaky_relu(layer(h), SLOPE)
        return self.out(h.flatten(1))


class Gan(nn.Module):
    """Both players as one network, so that they are saved, averaged and counted together.

    The generator takes latents (B, Z) and says their size as `latent_dim`; the discriminator gives one logit
    a sample.
    """

    def __init__(self, generator: nn.Module, discriminator: nn.Module) -> None:
        super().__init__()
        self.generator, self.discriminator = generator, discriminator

    def forward(self, latent: Tensor, real: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """The logits of one player's turn: gradients reach that player alone.

        The generator's turn, without real samples: logits (B,) of what is made of the latents (B, Z). The
        discriminator's: those of the real samples (B, ...) and of what is made, (B,) each.
        """
        if real is None:
            frozen = {name: weight.detach() for name, weight in self.discriminator.named_parameters()}
            return functional_call(self.discriminator, frozen, (self.generator(latent),)).flatten()
        with torch.no_grad():
            made = self.generator(latent)
        return self.discriminator(real).flatten(), self.discriminator(made).flatten()


@torch.no_grad()
def draw(generator: nn.Module, n: int, random: torch.Generator | None = None) -> Tensor:
    """n samples (n, ...) of a generator, made where it is: one evaluation, of latents from N(0, I).

    The latents are drawn on the CPU, from `random` or always the same ones. n below 1 is a ValueError.
    """
    if n < 1:
        raise ValueError(f"the number of samples must be at least 1, got {n}")
    random = torch.Generator().manual_seed(0) if random is None else random
    latents = torch.randn(n, int(generator.latent_dim), generator=random)  # type: ignore[arg-type]
    return generator(latents.to(next(generator.parameters()).device))


def _check(config: GeneratorConfig | DiscriminatorConfig, *others: int) -> None:
    mults, size = config.channel_mults, config.image_size
    if not mults or min(*mults, size, config.base_channels, *others, 1) < 1:
        raise ValueError(f"a player needs at least one of everything, got {config}")
    if size % 2 ** (len(mults) - 1):
        raise ValueError(f"image_size must be a multiple of {2 ** (len(mults) - 1)} here, got {size}")
