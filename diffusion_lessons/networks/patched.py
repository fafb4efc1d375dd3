"""Patching: a network works on small blocks of pixels instead of pixels, at a fraction of the cost."""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from diffusion_lessons.conditions import Condition


class Patched(nn.Module):
    """Fold patch×patch pixels into channels, run any network at the lower resolution, unfold.

    (B, C, H, W) becomes (B, C·patch², H/patch, W/patch) for the network inside and back, patch ≥ 1. Nothing
    is lost on the way, and convolutions cost patch² times less (pixel-unshuffle: Shi et al. 2016).
    """

    def __init__(self, network: nn.Module, patch: int = 2) -> None:
        super().__init__()
        if patch < 1:
            raise ValueError(f"a patch is at least one pixel wide, got {patch}")
        self.network, self.patch = network, patch

    def null_condition(self, batch: int) -> Any:
        """The null condition of the network inside."""
        return self.network.null_condition(batch)  # type: ignore[operator]

    def forward(self, x: Tensor, time: Tensor, condition: Condition = None) -> Tensor:
        """As the network inside, for x (B, C, H, W); height and width must be multiples of patch."""
        p, shape = self.patch, tuple(x.shape)
        if len(shape) != 4 or shape[2] % p or shape[3] % p:
            needed = f"patches of {p}×{p} pixels need (B, C, H, W) with H and W multiples of {p}"
            raise ValueError(f"{needed}, got shape {shape}")
        return F.pixel_shuffle(self.network(F.pixel_unshuffle(x, p), time, condition), p)
