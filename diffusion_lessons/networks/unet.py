"""The U-Net: down to coarse features, up again to the picture, with skips that keep the detail.

(B, C, H, W) and a time (B,) go in, (B, C', H, W) comes out (Ronneberger et al. 2015; Ho et al.
2020, appendix B; Dhariwal and Nichol 2021, section 3).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffusion_lessons.networks.attention import SelfAttention
from diffusion_lessons.networks.blocks import Downsample, ResidualBlock, Upsample, zero_conv
from diffusion_lessons.networks.embedding import LabelEmbedding, TimeEmbedding


@dataclass(frozen=True)
class UNetConfig:
    """The shape of a U-Net.

    Args:
        in_channels, out_channels: of the picture and of the output.
        base_channels: width of the first level.
        channel_mults: width of each level as a multiple of it; each level halves height and width.
        blocks_per_level: residual blocks on the way down; one more on the way up.
        attention_levels: which levels attend, counted from 0, the finest. The middle attends where
            the last level does.
        head_dim: width of one attention head.
        num_classes: of the label condition; None for none.
        dropout: rate inside the residual blocks.
        groups: of the GroupNorms; divides every width.
    """

    in_channels: int = 1
    out_channels: int = 1
    base_channels: int = 32
    channel_mults: tuple[int, ...] = (1, 2, 2)
    blocks_per_level: int = 1
    attention_levels: tuple[int, ...] = (2,)
    head_dim: int = 32
    num_classes: int | None = None
    dropout: float = 0.0
    groups: int = 8

    def __post_init__(self) -> None:
        object.__setattr__(self, "channel_mults", tuple(self.channel_mults))  # JSON has only lists
        object.__setattr__(self, "attention_levels", tuple(self.attention_levels))
        levels = range(len(self.channel_mults))
        if not self.channel_mults or min(self.channel_mults) < 1 or self.blocks_per_level < 1:
            raise ValueError(f"a U-Net needs at least one level, block and multiple of the width, got {self}")
        if any(level not in levels for level in self.attention_levels):
            raise ValueError(
                f"attention_levels must lie in 0 to {len(levels) - 1}, got {self.attention_levels}"
            )


class UNet(nn.Module):
    """A convolutional U-Net with time, label and attention.

    Every residual block is told the time (and the label) by a scale and a shift; every block on
    the way down hands its output across to one on the way up. The output starts at zero.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        base, groups, last = config.base_channels, config.groups, len(config.channel_mults) - 1
        embedding_dim = 4 * base

        def block(in_channels: int, out_channels: int) -> ResidualBlock:
            return ResidualBlock(in_channels, out_channels, embedding_dim, groups, config.dropout)

        def attend(level: int, channels: int) -> nn.Module:
            attends = level in config.attention_levels
            return SelfAttention(channels, config.head_dim, groups) if attends else nn.Identity()

        self.time_embedding = TimeEmbedding(base, embedding_dim)
        self.label_embedding = (
            None if config.num_classes is None else LabelEmbedding(config.num_classes, embedding_dim)
        )
        self.stem = nn.Conv2d(config.in_channels, base, 3, padding=1)

        channels, skips = base, [base]  # skips: the widths that wait for the way up
        self.down = nn.ModuleList()
        for level, mult in enumerate(config.channel_mults):
            for _ in range(config.blocks_per_level):
                width = base * mult
                self.down.append(nn.ModuleList([block(channels, width), attend(level, width)]))
                channels = width
                skips.append(channels)
            if level < last:
                self.down.append(Downsample(channels))
                skips.append(channels)

        self.middle_1 = block(channels, channels)
        self.middle_attention = attend(last, channels)
        self.middle_2 = block(channels, channels)

        self.up = nn.ModuleList()
        for level, mult in reversed(list(enumerate(config.channel_mults))):
            for _ in range(config.blocks_per_level + 1):
                width = base * mult
                self.up.append(nn.ModuleList([block(channels + skips.pop(), width), attend(level, width)]))
                channels = width
            if level > 0:
                self.up.append(Upsample(channels))

        self.norm_out = nn.GroupNorm(groups, channels)
        self.conv_out = zero_conv(channels, config.out_channels)

    def null_condition(self, batch: int) -> Tensor | None:
        """(batch,) labels that mean "no label"; None where the network takes no labels."""
        return None if self.label_embedding is None else self.label_embedding.null(batch)

    def forward(self, x: Tensor, time: Tensor, condition: Tensor | dict[str, Tensor] | None = None) -> Tensor:
        """The output (B, C', H, W) for noisy pictures.

        Args:
            x: (B, C, H, W).
            time: (B,), on a scale of 0 to 1000, as `path.network_time` gives it.
            condition: labels (B,) int64, a dict that holds them as "label", or None for no label.

        Raises:
            ValueError: a shape that does not fit, a label out of range, labels for a network without.
        """
        self._check(x, time)
        embedding = F.silu(self.time_embedding(time) + self._embed_label(condition, len(x)))  # (B, E)

        h = self.stem(x)
        skips = [h]
        for layer in self.down:
            h = layer(h) if isinstance(layer, Downsample) else layer[1](layer[0](h, embedding))  # type: ignore[index]
            skips.append(h)

        h = self.middle_1(h, embedding)
        h = self.middle_attention(h)
        h = self.middle_2(h, embedding)

        for layer in self.up:
            if isinstance(layer, Upsample):
                h = layer(h)
            else:
                h = layer[1](layer[0](torch.cat([h, skips.pop()], dim=1), embedding))  # type: ignore[index]
        return self.conv_out(F.silu(self.norm_out(h)))

    def _embed_label(self, condition: Tensor | dict[str, Tensor] | None, batch: int) -> Tensor | float:
        labels = condition.get("label") if isinstance(condition, dict) else condition
        if self.label_embedding is None:
            if labels is not None:
                raise ValueError("this network was built without classes: set num_classes, or pass no labels")
            return 0.0
        if labels is None:
            labels = self.label_embedding.null(batch)
        if len(labels) != batch:
            raise ValueError(f"{len(labels)} labels for a batch of {batch}: give one for each picture")
        return self.label_embedding(labels)

    def _check(self, x: Tensor, time: Tensor) -> None:
        halvings = len(self.config.channel_mults) - 1
        step = 2**halvings
        if x.ndim != 4 or x.shape[1] != self.config.in_channels:
            raise ValueError(
                f"the network takes (B, {self.config.in_channels}, H, W), got shape {tuple(x.shape)}"
            )
        if x.shape[2] % step or x.shape[3] % step:
            raise ValueError(
                f"{halvings + 1} levels halve height and width {halvings} times: both "
                f"must be multiples of {step}, got {x.shape[2]}×{x.shape[3]}"
            )
        if time.shape != x.shape[:1]:
            raise ValueError(
                f"one time for each of {len(x)} pictures, shape ({len(x)},), got {tuple(time.shape)}"
            )
