"""The U-Net: down to coarse features, up again to the picture, with skips that keep the detail.

Ronneberger et al. 2015; Ho et al. 2020, appendix B; Dhariwal and Nichol 2021, section 3.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffusion_lessons.conditions import Condition, label_of
from diffusion_lessons.networks.attention import SelfAttention
from diffusion_lessons.networks.blocks import Downsample, ResidualBlock, Upsample, zero_conv
from diffusion_lessons.networks.embedding import LabelEmbedding, TimeEmbedding


@dataclass(frozen=True)
class UNetConfig:
    """The shape of a U-Net."""

    in_channels: int = 1  # of the picture
    out_channels: int = 1  # of the output
    base_channels: int = 32  # width of the first level
    channel_mults: tuple[int, ...] = (1, 2, 2)  # each level's width over it; each halves height and width
    blocks_per_level: int = 1  # residual blocks on the way down; one more on the way up
    attention_levels: tuple[int, ...] = (2,)  # 0 is the finest; the middle attends where the last does
    head_dim: int = 32  # width of one attention head
    num_classes: int | None = None  # of the label condition; None for none
    dropout: float = 0.0  # rate inside the residual blocks
    groups: int = 8  # of the GroupNorms; divides every width

    def __post_init__(self) -> None:
        object.__setattr__(self, "channel_mults", tuple(self.channel_mults))  # JSON has only lists
        object.__setattr__(self, "attention_levels", tuple(self.attention_levels))
        levels = range(len(self.channel_mults))
        if not self.channel_mults or min(self.channel_mults) < 1 or self.blocks_per_level < 1:
            raise ValueError(f"a U-Net needs at least one level, block and multiple of the width, got {self}")
        if any(level not in levels for level in self.attention_levels):
            given = self.attention_levels
            raise ValueError(f"attention_levels must lie in 0 to {levels[-1]}, got {given}")


class Stage(nn.ModuleList):
    """A residual block, then attention or nothing: the layers "0" and "1" of a checkpoint's names."""

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        block, attend = self
        return attend(block(x, embedding))


class UNet(nn.Module):
    """A convolutional U-Net with time, label and attention: (B, C, H, W) -> (B, C', H, W), zero at its start.

    Every residual block is told the time (and the label) by a scale and a shift; every block on
    the way down hands its output across to one on the way up.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        base, groups, last = config.base_channels, config.groups, len(config.channel_mults) - 1
        widths = [base * mult for mult in config.channel_mults]
        embedding_dim, classes = 4 * base, config.num_classes

        def stage(channels: int, level: int) -> Stage:
            width = widths[level]
            block = ResidualBlock(channels, width, embedding_dim, groups, config.dropout)
            attends = level in config.attention_levels
            return Stage([block, SelfAttention(width, config.head_dim, groups) if attends else nn.Identity()])

        self.time_embedding = TimeEmbedding(base, embedding_dim)
        self.label_embedding = None if classes is None else LabelEmbedding(classes, embedding_dim)
        self.stem = nn.Conv2d(config.in_channels, base, 3, padding=1)

        self.down, skips = nn.ModuleList(), [base]  # skips: the widths that wait for the way up
        for level, width in enumerate(widths):
            for _ in range(config.blocks_per_level):
                self.down.append(stage(skips[-1], level))
                skips.append(width)
            if level < last:
                self.down.append(Downsample(width))
                skips.append(width)

        channels = widths[-1]
        self.middle_1, self.middle_attention = stage(channels, last)
        self.middle_2 = ResidualBlock(channels, channels, embedding_dim, groups, config.dropout)

        self.up = nn.ModuleList()
        for level, width in reversed(list(enumerate(widths))):
            for _ in range(config.blocks_per_level + 1):
                self.up.append(stage(channels + skips.pop(), level))
                channels = width
            if level > 0:
                self.up.append(Upsample(channels))

        self.norm_out = nn.GroupNorm(groups, channels)
        self.conv_out = zero_conv(channels, config.out_channels)

    def null_condition(self, batch: int) -> Tensor | None:
        """(batch,) labels that mean "no label"; None where the network takes no labels."""
        return None if self.label_embedding is None else self.label_embedding.null(batch)

    def forward(self, x: Tensor, time: Tensor, condition: Condition = None) -> Tensor:
        """The output (B, C', H, W) for noisy pictures x (B, C, H, W) at `path.network_time`s (B,), 0 to 1000.

        `condition` is labels (B,) int64, a dict that holds them as "label", or None for no label. A shape
        that does not fit, a label out of range and labels for a network without are a ValueError.
        """
        labels = label_of(condition)
        self._check(x, time, labels)
        embedding = self.time_embedding(time)  # (B, E)
        if self.label_embedding is not None:
            labels = self.label_embedding.null(x.shape[0]) if labels is None else labels
            embedding = embedding + self.label_embedding(labels)
        embedding = F.silu(embedding)

        h = self.stem(x)
        skips = [h]
        for layer in self.down:
            h = layer(h, embedding)
            skips.append(h)

        h = self.middle_2(self.middle_attention(self.middle_1(h, embedding)), embedding)

        for layer in self.up:
            if isinstance(layer, Stage):
                h = torch.cat([h, skips.pop()], dim=1)
            h = layer(h, embedding)
        return self.conv_out(F.silu(self.norm_out(h)))

    def _check(self, x: Tensor, time: Tensor, labels: Tensor | None) -> None:
        shape, channels, halved = tuple(x.shape), self.config.in_channels, len(self.config.channel_mults) - 1
        if len(shape) != 4 or shape[1] != channels:
            raise ValueError(f"the network takes (B, {channels}, H, W), got shape {shape}")
        batch, _, height, width = shape
        if height % 2**halved or width % 2**halved or 0 in (height, width):
            why = f"{halved + 1} levels halve height and width {halved} times"
            raise ValueError(f"{why}: both must be multiples of {2**halved}, got {height}×{width}")
        if time.shape != (batch,):
            given = tuple(time.shape)
            raise ValueError(f"one time for each of {batch} pictures, shape ({batch},), got {given}")
        if labels is not None and self.label_embedding is None:
            raise ValueError("this network was built without classes: set num_classes, or pass no labels")
        if labels is not None and labels.shape[0] != batch:
            raise ValueError(f"{labels.shape[0]} labels for a batch of {batch}: give one for each picture")
