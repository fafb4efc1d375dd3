"""The blocks that U-Nets and classifiers are made of: residual block, down- and upsampling.

All are called as block(x, embedding); those that change the size have no use for the embedding.
"""

from torch import Tensor, nn
from torch.nn import functional as F


def zero_conv(in_channels: int, out_channels: int, kernel: int = 3) -> nn.Conv2d:
    """A convolution that starts at zero, so that what it ends starts as nothing."""
    conv = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2)
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv


class ResidualBlock(nn.Module):
    """(B, in, H, W) -> (B, out, H, W): two convolutions, between them scale and shift, and a shortcut.

    h = conv(silu(norm(x))); h = norm(h)·(1 + scale) + shift; x + conv(silu(h)): the scale-shift
    conditioning of Nichol and Dhariwal 2021 (section 3.1, "AdaGN" in Dhariwal and Nichol 2021). Without
    `embedding_dim` the block takes no embedding (a classifier's). `groups`, of the GroupNorms, divides both
    channel counts; dropout comes before the second convolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        embedding_dim: int | None = None,
        groups: int = 8,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm_1 = nn.GroupNorm(groups, in_channels)
        self.conv_1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.to_scale_shift = None if embedding_dim is None else nn.Linear(embedding_dim, 2 * out_channels)
        self.norm_2 = nn.GroupNorm(groups, out_channels)
        self.dropout = nn.Dropout(dropout)
        self.conv_2 = zero_conv(out_channels, out_channels)
        same = in_channels == out_channels
        self.shortcut = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        h = self.norm_2(self.conv_1(F.silu(self.norm_1(x))))
        if self.to_scale_shift is not None:
            scale, shift = self.to_scale_shift(embedding)[:, :, None, None].chunk(2, dim=1)  # (B, C, 1, 1)
            h = h * (1 + scale) + shift
        return self.shortcut(x) + self.conv_2(self.dropout(F.silu(h)))


class Downsample(nn.Module):
    """Halve height and width by a strided convolution: (B, C, H, W) -> (B, C, H/2, W/2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        return self.conv(x)


class Upsample(nn.Module):
    """Double height and width, then convolve: (B, C, H, W) -> (B, C, 2H, 2W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
