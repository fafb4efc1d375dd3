"""Noise schedules: the β of each step of a discrete diffusion, float64 of shape (T,)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def linear_betas(T: int = 1000, start: float = 1e-4, end: float = 0.02) -> Tensor:
    """β rising evenly from `start` to `end` (Ho et al. 2020, section 4), for T steps."""
    return torch.linspace(start, end, _steps(T), dtype=torch.float64)


def scaled_linear_betas(T: int = 1000, start: float = 0.00085, end: float = 0.012) -> Tensor:
    """√β rising evenly: the schedule of latent diffusion (Rombach et al. 2022)."""
    return torch.linspace(start**0.5, end**0.5, _steps(T), dtype=torch.float64) ** 2


def cosine_betas(T: int = 1000, s: float = 0.008, max_beta: float = 0.999) -> Tensor:
    """ᾱ(t) = cos²((t/T + s)/(1 + s)·π/2), β clipped at `max_beta` (Nichol and Dhariwal 2021, eq. 17)."""
    t = torch.arange(_steps(T) + 1, dtype=torch.float64) / T
    alphas_cumprod = torch.cos((t + s) / (1 + s) * math.pi / 2) ** 2
    return (1 - alphas_cumprod[1:] / alphas_cumprod[:-1]).clamp(max=max_beta)


def sigmoid_betas(T: int = 1000, start: float = -3.0, end: float = 3.0, tau: float = 1.0) -> Tensor:
    """ᾱ(t) a falling sigmoid between `start` and `end` (Jabri et al. 2022; Chen 2023, algorithm 1)."""
    t = torch.arange(_steps(T) + 1, dtype=torch.float64) / T
    curve = torch.sigmoid((t * (end - start) + start) / tau)
    alphas_cumprod = (curve[-1] - curve) / (curve[-1] - curve[0])
    return (1 - alphas_cumprod[1:] / alphas_cumprod[:-1]).clamp(max=0.999)


def rescale_zero_terminal_snr(betas: Tensor) -> Tensor:
    """Shift and scale √ᾱ so that ᾱ_T = 0 and ᾱ_1 is kept, for T ≥ 2 (Lin et al. 2023, algorithm 1)."""
    betas = checked_betas(betas)
    if len(betas) < 2:
        raise ValueError("rescaling needs at least two betas: the first is kept, the last becomes 1")
    root = (1 - betas).cumprod(0).sqrt()
    root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    alphas_cumprod = torch.cat([root.new_ones(1), root**2])
    return 1 - alphas_cumprod[1:] / alphas_cumprod[:-1]


def _steps(T: int) -> int:
    if not isinstance(T, int) or T < 1:
        raise ValueError(f"a schedule needs a whole number of steps T ≥ 1, got {T!r}")
    return T


def checked_betas(betas: Tensor | Sequence[float]) -> Tensor:
    betas = torch.as_tensor(betas, dtype=torch.float64, device="cpu").detach()
    if betas.ndim != 1 or len(betas) == 0:
        raise ValueError(f"betas must have shape (T,) with T ≥ 1, got {tuple(betas.shape)}")
    if not bool(((betas > 0) & (betas <= 1)).all()):
        raise ValueError(f"every β must lie in (0, 1], got {betas.min():.3g} to {betas.max():.3g}")
    if bool((betas[:-1] == 1).any()):
        raise ValueError("only the last β may be 1: after it no signal is left")
    return betas
