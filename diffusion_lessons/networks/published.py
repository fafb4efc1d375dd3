"""The blocks of Stable Diffusion's networks, with the names of the published weights.

They differ from `blocks` in how the time comes in: it is added between the two convolutions.
"""

from torch import Tensor, nn
from torch.nn import functional as F


class Resnet(nn.Module):
    """(B, in, H, W) -> (B, out, H, W): two convolutions, between them the embedding, and a shortcut.

    Without `embedding_dim` the block takes none (the autoencoder's). `groups` divides both channel counts.
    """

    def __init__(
        self, in_channels: int, out_channels: int, embedding_dim: int | None, groups: int, eps: float
    ) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, in_channels, eps)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        if embedding_dim is not None:
            self.time_emb_proj = nn.Linear(embedding_dim, out_channels)
        self.norm2 = nn.GroupNorm(groups, out_channels, eps)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        same = in_channels == out_channels
        self.conv_shortcut = None if same else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        if embedding is not None:
            h = h + self.time_emb_proj(F.silu(embedding))[:, :, None, None]
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class Downsampler(nn.Module):
    """Halve height and width by a strided convolution.

    The U-Net pads all four sides; the autoencoder's encoder only the right and the lower one.
    """

    def __init__(self, channels: int, one_sided: bool = False) -> None:
        super().__init__()
        self.one_sided = one_sided
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=0 if one_sided else 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)) if self.one_sided else x)


class Upsampler(nn.Module):
    """Double height and width, or go to the size that is given, then convolve."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        size = size or (2 * x.shape[-2], 2 * x.shape[-1])
        return self.conv(F.interpolate(x, size=size, mode="nearest"))
