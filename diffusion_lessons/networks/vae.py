"""The autoencoder of latent diffusion: pictures to a small latent and back (Kingma and Welling 2014; Rombach
et al. 2022, section 3.1), with the names and details of the published weights.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Self

from torch import Tensor, nn
from torch.nn import functional as F

from diffusion_lessons.networks.attention import attend
from diffusion_lessons.networks.published import Downsampler, Resnet, Upsampler

EPS = 1e-6  # of every norm; the U-Net's have another


@dataclass(frozen=True)
class VaeConfig:
    """The shape of an autoencoder; the defaults are those of Stable Diffusion."""

    in_channels: int = 3  # of the picture
    latent_channels: int = 4
    widths: tuple[int, ...] = (128, 256, 512, 512)  # of the levels; each but the last halves height and width
    blocks_per_level: int = 2  # on the way down; one more on the way up
    groups: int = 32  # of the GroupNorms; divides every width
    patch: int = 1  # side of the squares of pixels that become channels first: less work at full size
    scale: float = 0.18215  # latents times this have a standard deviation of about 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))  # JSON has only lists
        if not self.widths or self.blocks_per_level < 1 or not self.scale > 0:
            raise ValueError(f"an autoencoder needs a level, a block and a scale above 0, got {self}")

    @property
    def factor(self) -> int:
        """By which a latent is smaller than its picture, to each side."""
        return self.patch * 2 ** (len(self.widths) - 1)


class Latents(NamedTuple):
    """A normal distribution over the latents of each picture, (B, latent_channels, h, w), before scaling."""

    mean: Tensor
    logvar: Tensor

    @classmethod
    def of(cls, moments: Tensor) -> Self:
        """From mean and log-variance stacked in the channels."""
        mean, logvar = moments.chunk(2, 1)
        return cls(mean, logvar.clamp(-30, 20))

    def sample(self, noise: Tensor) -> Tensor:
        """Mean plus standard deviation times noise, which is like the mean."""
        return self.mean + (0.5 * self.logvar).exp() * noise

    def kl(self) -> Tensor:
        """Divergence from N(0, I) in nats, a sum for each picture: (B,) (Kingma and Welling 2014, eq. 10)."""
        return 0.5 * (self.mean.square() + self.logvar.exp() - 1 - self.logvar).flatten(1).sum(1)


class Vae(nn.Module):
    """Pictures (B, C, H, W) in [-1, 1] to latents (B, latent_channels, H/f, W/f) and back."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        self.config = config
        latent = config.latent_channels
        self.encoder, self.decoder = VaeEncoder(config), VaeDecoder(config)
        self.quant_conv = nn.Conv2d(2 * latent, 2 * latent, 1)
        self.post_quant_conv = nn.Conv2d(latent, latent, 1)

    def moments(self, x: Tensor) -> Latents:
        """The distribution of the latents of pictures x; a shape that does not fit is a ValueError."""
        channels, factor = self.config.in_channels, self.config.factor
        if x.ndim != 4 or x.shape[1] != channels or x.shape[2] % factor or x.shape[3] % factor:
            wanted = f"(B, {channels}, H, W) with H and W multiples of {factor}"
            raise ValueError(f"the autoencoder takes {wanted}, got {tuple(x.shape)}")
        x = F.pixel_unshuffle(x.to(self.quant_conv.weight.dtype), self.config.patch)
        return Latents.of(self.quant_conv(self.encoder(x)))

    def encode(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """Scaled latents of pictures: what a diffusion model sees. Their mean, or with noise a sample."""
        latents = self.moments(x)
        return self.config.scale * (latents.mean if noise is None else latents.sample(noise))

    def decode(self, z: Tensor) -> Tensor:
        """Pictures from scaled latents; another number of channels is a ValueError."""
        if z.ndim != 4 or z.shape[1] != self.config.latent_channels:
            raise ValueError(f"latents are (B, {self.config.latent_channels}, h, w), got {tuple(z.shape)}")
        z = (z / self.config.scale).to(self.post_quant_conv.weight.dtype)  # that may be half precision
        return F.pixel_shuffle(self.decoder(self.post_quant_conv(z)), self.config.patch)

    def forward(self, x: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Pictures through their latents and back; mean and log-variance of the latents."""
        latents = self.moments(x)
        z = latents.mean if noise is None else latents.sample(noise)
        return self.decode(self.config.scale * z), *latents


class VaeAttention(nn.Module):
    """One head of self-attention over a picture's positions, (B, C, H, W) -> the same, and a residual."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.group_norm = nn.GroupNorm(groups, channels, EPS)
        self.to_q, self.to_k, self.to_v = (nn.Linear(channels, channels) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.group_norm(x).flatten(2).transpose(1, 2)  # (B, HW, C)
        y = self.to_out[0](attend(self.to_q(tokens), self.to_k(tokens), self.to_v(tokens), heads=1))
        return x + y.transpose(1, 2).reshape(x.shape)


class VaeMiddle(nn.Module):
    """A block, attention, a block."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(Resnet(channels, channels, None, groups, EPS) for _ in range(2))
        self.attentions = nn.ModuleList([VaeAttention(channels, groups)])

    def forward(self, x: Tensor) -> Tensor:
        return self.resnets[1](self.attentions[0](self.resnets[0](x)))


class VaeLevel(nn.Module):
    """Blocks at one size, then a change of size where there is one."""

    def __init__(self, in_channels: int, channels: int, blocks: int, groups: int, change: str = "") -> None:
        super().__init__()
        widths = [in_channels, *[channels] * blocks]
        self.resnets = nn.ModuleList(Resnet(a, b, None, groups, EPS) for a, b in pairwise(widths))
        if change == "down":
            self.downsamplers = nn.ModuleList([Downsampler(channels, one_sided=True)])
        elif change == "up":
            self.upsamplers = nn.ModuleList([Upsampler(channels)])
        self.change = {"down": "downsamplers", "up": "upsamplers"}.get(change)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.resnets:
            x = block(x)
        return getattr(self, self.change)[0](x) if self.change else x


class VaeEncoder(nn.Module):
    """Pictures to mean and log-variance."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        widths, groups = config.widths, config.groups
        self.conv_in = nn.Conv2d(config.in_channels * config.patch**2, widths[0], 3, padding=1)
        changes = ["down"] * (len(widths) - 1) + [""]
        self.down_blocks = nn.ModuleList(
            VaeLevel(a, b, config.blocks_per_level, groups, change)
            for a, b, change in zip((widths[0], *widths[:-1]), widths, changes, strict=True)
        )
        self.mid_block = VaeMiddle(widths[-1], groups)
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], EPS)
        self.conv_out = nn.Conv2d(widths[-1], 2 * config.latent_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for level in self.down_blocks:
            x = level(x)
        return self.conv_out(F.silu(self.conv_norm_out(self.mid_block(x))))


class VaeDecoder(nn.Module):
    """Latents to pictures."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        widths, groups = config.widths[::-1], config.groups
        self.conv_in = nn.Conv2d(config.latent_channels, widths[0], 3, padding=1)
        self.mid_block = VaeMiddle(widths[0], groups)
        changes = ["up"] * (len(widths) - 1) + [""]
        self.up_blocks = nn.ModuleList(
            VaeLevel(a, b, config.blocks_per_level + 1, groups, change)
            for a, b, change in zip((widths[0], *widths[:-1]), widths, changes, strict=True)
        )
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], EPS)
        self.conv_out = nn.Conv2d(widths[-1], config.in_channels * config.patch**2, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.mid_block(self.conv_in(z))
        for level in self.up_blocks:
            x = level(x)
        return self.conv_out(F.silu(self.conv_norm_out(x)))
