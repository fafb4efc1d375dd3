"""How the times of a training batch are drawn: shares of T in even strata, and warps that move them."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

Warp = Callable[[Tensor], Tensor]  # uniform shares of T in, those to be trained at out


def stratified(batch: int, generator: torch.Generator | None = None) -> Tensor:
    """(batch,) float64 numbers in [0, 1), the i-th uniform on [i/batch, (i + 1)/batch).

    Each is uniform over a shuffled batch, and their mean varies far less than that of independent
    draws (Kingma et al. 2021, appendix I.1 uses the same idea).
    """
    if batch < 1:
        raise ValueError(f"a batch needs at least one sample, got {batch}")
    u = torch.rand(batch, generator=generator, dtype=torch.float64, device="cpu")
    return (torch.arange(batch, dtype=torch.float64) + u) / batch


def logit_normal(mean: float = 0.0, std: float = 1.0) -> Warp:
    """Shares whose logit is N(mean, std²): most in the middle (Esser et al. 2024, section 3.1).

    A std that is not above 0 is a ValueError.
    """
    if not (math.isfinite(mean) and 0 < std < math.inf):
        raise ValueError(f"a logit-normal needs a finite mean and a std above 0, got {mean} and {std}")
    return lambda shares: (mean + std * torch.special.ndtri(shares)).sigmoid()
