# mypy: ignore-errors
"""What the exercises are handed, made anew without the package."""

from typing import NamedTuple

from torch import Tensor, nn


class Level(NamedTuple):
    """How much picture and how much noise a sample holds: x = alpha·x₀ + sigma·ε."""

    t: Tensor
    alpha: Tensor
    sigma: Tensor

    @property
    def log_snr(self):
        return 2 * (self.alpha.log() - self.sigma.log())


class Estimate(NamedTuple):
    """What a denoiser says of a noisy sample: the picture and the noise in it."""

    x0: Tensor
    eps: Tensor


class LabelEmbedding(nn.Module):
    """A learnt vector for each class, and one more, of id `num_classes`, for "no label"."""

    def __init__(self, num_classes, dim):
        super().__init__()
        self.table = nn.Embedding(num_classes + 1, dim)

    def forward(self, labels):
        return self.table(labels)


def zero_conv(in_channels, out_channels, kernel=3):
    """A convolution that starts at zero, so that what it ends starts as nothing."""
    conv = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2)
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)
    return conv
