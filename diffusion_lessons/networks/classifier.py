"""A small convolutional classifier: it names digits, and its features are what pictures are measured by.

`diffusion_lessons.metrics` compares pictures by its penultimate layer. With `time=True` it also takes
the time of a noisy picture, as a classifier that guides sampling must (Dhariwal and Nichol 2021).
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from diffusion_lessons.networks.blocks import Downsample, ResidualBlock
from diffusion_lessons.networks.embedding import TimeEmbedding


@dataclass(frozen=True)
class ClassifierConfig:
    """The shape of a `Classifier`."""

    image_size: int = 16  # height and width of the pictures; divisible by patch · 2^(levels − 1)
    in_channels: int = 1  # colour channels of the pictures
    num_classes: int = 10  # K
    patch: int = 1  # pixels a side that are folded into channels before the first convolution
    base_channels: int = 24  # width of the first level
    channel_mults: tuple[int, ...] = (1, 2, 2)  # each level's width over it; each halves height and width
    num_features: int = 64  # size D of the penultimate layer
    time: bool = False  # whether the network also takes the time of a noisy picture
    groups: int = 8  # of the GroupNorms; divides every width

    def __post_init__(self) -> None:
        object.__setattr__(self, "channel_mults", tuple(self.channel_mults))  # JSON has only lists
        numbers = (self.image_size, self.in_channels, self.num_classes, self.patch, self.base_channels)
        if not self.channel_mults or min(*numbers, *self.channel_mults, self.num_features, self.groups) < 1:
            raise ValueError(f"a classifier needs at least one of everything, got {self}")
        if self.image_size % self.stride:
            needed = f"a multiple of {self.stride} (patch · 2^(levels − 1))"
            raise ValueError(f"image_size must be {needed}, got {self.image_size}")

    @property
    def stride(self) -> int:
        """How many pixels a side one position of the last level spans."""
        return int(self.patch * 2 ** (len(self.channel_mults) - 1))


class Classifier(nn.Module):
    """Pictures in [−1, 1] to logits, by way of D features."""

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        base, groups = config.base_channels, config.groups
        embedding_dim = 4 * base if config.time else None
        widths = [base * mult for mult in config.channel_mults]

        self.time_embedding = TimeEmbedding(base, 4 * base) if config.time else None
        self.stem = nn.Conv2d(config.in_channels * config.patch**2, base, 3, padding=1)
        self.blocks = nn.ModuleList(
            ResidualBlock(before, width, embedding_dim, groups)
            for before, width in zip([base, *widths[:-1]], widths, strict=True)
        )
        self.downs = nn.ModuleList([nn.Identity(), *(Downsample(width) for width in widths[:-1])])
        self.norm = nn.GroupNorm(groups, widths[-1])
        positions = (config.image_size // config.stride) ** 2
        self.to_features = nn.Linear(widths[-1] * positions, config.num_features)
        self.to_logits = nn.Linear(config.num_features, config.num_classes)

    def features(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        """The penultimate layer (B, D), before its activation, of pictures (B, C, H, W) in [−1, 1].

        A classifier with `time=True`, and no other, takes the time (B,) as `path.network_time` gives it.
        Another shape, a time where none belongs and none where one does are a ValueError.
        """
        c = self.config
        expected = (c.in_channels, c.image_size, c.image_size)
        if x.ndim != 4 or x.shape[1:] != expected:
            raise ValueError(f"the classifier takes pictures (B, {expected}), got {tuple(x.shape)}")
        batch = x.shape[0]
        if c.time and (time is None or time.shape != (batch,)):
            given = None if time is None else tuple(time.shape)
            raise ValueError(f"this classifier takes a time of shape ({batch},) for each batch, got {given}")
        if not c.time and time is not None:
            raise ValueError("this classifier takes no time: build it with ClassifierConfig(time=True)")
        embed = self.time_embedding
        embedding = None if embed is None else F.silu(embed(time))  # (B, 4·base)
        h = self.stem(F.pixel_unshuffle(x, c.patch))  # (B, base, H/patch, W/patch)
        for down, block in zip(self.downs, self.blocks, strict=True):
            h = block(down(h), embedding)  # (B, width, H, W), half as high and wide at each level
        return self.to_features(F.silu(self.norm(h)).flatten(1))  # (B, D)

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        """Logits (B, K) of pictures (B, C, H, W); all else is as for `features`."""
        return self.classify(self.features(x, time))

    def classify(self, features: Tensor) -> Tensor:
        """Logits (B, K) of features (B, D)."""
        return self.to_logits(F.relu(features))
