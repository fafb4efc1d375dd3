"""What every measure asks of its input: rows of finite numbers, as wide on one side as on the other."""

import torch
from torch import Tensor


def rows(x: Tensor, at_least: int = 2, what: str = "features") -> Tensor:
    """x as float64 on the CPU, checked: (N, D), finite, N ≥ `at_least`; anything else is a ValueError."""
    if not isinstance(x, Tensor) or x.ndim != 2 or 0 in x.shape[1:]:
        given = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"{what} must be a tensor (N, D), a row for each sample; got {given}")
    if len(x) < at_least:
        raise ValueError(f"{what}: n = {len(x)} is too few, this needs at least {at_least} samples")
    x = x.detach().to("cpu").to(torch.float64)
    if not bool(x.isfinite().all()):
        bad = int((~x.isfinite()).any(1).sum())
        raise ValueError(f"{what} must be finite; {bad} of {len(x)} samples hold NaN or infinity")
    return x


def two_sets(a: Tensor, b: Tensor, at_least: int = 2) -> tuple[Tensor, Tensor]:
    """Both checked as in `rows`, and of the same width: (N, D) and (M, D)."""
    a, b = rows(a, at_least, "the first set"), rows(b, at_least, "the second set")
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"both sets need the same number of features, got {a.shape[1]} and {b.shape[1]}")
    return a, b
