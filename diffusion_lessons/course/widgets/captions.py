"""The line under a frame: t, ᾱ_t and the signal-to-noise ratio of its level."""

import math
from collections.abc import Sequence

from diffusion_lessons.paths import Level


def describe(levels: Sequence[Level]) -> list[str]:
    """One caption for each level: t, ᾱ_t (α and σ off the variance-preserving path) and the SNR.

    Args:
        levels: with one time each, shape ().
    """
    for level in levels:
        if level.t.numel() != 1:
            shape = tuple(level.t.shape)
            raise ValueError(f"a caption needs a level of one time, got times of shape {shape}")
    numbers = [(level.t.item(), level.alpha.item(), level.sigma.item()) for level in levels]
    preserving = all(abs(alpha**2 + sigma**2 - 1) < 1e-6 for _, alpha, sigma in numbers)
    return [_caption(t, alpha, sigma, preserving) for t, alpha, sigma in numbers]


def _caption(t: float, alpha: float, sigma: float, preserving: bool) -> str:
    if preserving:
        signal = alpha**2
        amount = f"ᾱ_t = {signal:.4f}" if signal >= 0.001 or signal == 0 else f"ᾱ_t = {signal:.1e}"
    else:
        amount = f"α = {alpha:.3f} · σ = {sigma:.3f}"
    return f"t = {t:.4g} · {amount} · {_snr(alpha, sigma)}".replace("-", "−")


def _snr(alpha: float, sigma: float) -> str:
    if sigma == 0:
        return "SNR = ∞"
    if alpha == 0:
        return "SNR = 0"
    snr = (alpha / sigma) ** 2
    return f"SNR = {snr:.3g} ({10 * math.log10(snr):+.1f} dB)"
