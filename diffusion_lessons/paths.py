"""Paths from data to noise: a time goes in, the level of noise at that time comes out.

A noisy sample is x = α·x₀ + σ·ε, ε ~ N(0, I). Time runs one way everywhere: t = 0 is data, t = T is noise.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from diffusion_lessons.schedules import checked_betas
from diffusion_lessons.support.errors import unknown
from diffusion_lessons.times import Warp, stratified

SPACINGS = ("trailing", "leading", "linspace", "stable-diffusion")


@dataclass(frozen=True)
class Level:
    """How much data and how much noise a sample holds: x = alpha·x₀ + sigma·ε. float64 on the CPU."""

    t: Tensor  # time, () or (B,)
    alpha: Tensor  # factor of the data, same shape
    sigma: Tensor  # factor of the noise (a standard deviation), same shape

    @property
    def snr(self) -> Tensor:
        """Signal-to-noise ratio α²/σ² (infinite at t = 0)."""
        return (self.alpha / self.sigma) ** 2

    @property
    def log_snr(self) -> Tensor:
        """log(α²/σ²), the coordinate in which all schedules can be compared (Kingma et al. 2021)."""
        return 2 * (self.alpha.log() - self.sigma.log())

    def like(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(alpha, sigma) in the dtype, on the device and with the rank of x, ready to multiply it."""
        return cast(self.alpha, x), cast(self.sigma, x)


def cast(coefficient: Tensor, x: Tensor) -> Tensor:
    """A coefficient of shape () or (B,) made ready to multiply x (B, ...)."""
    if not x.is_floating_point():
        raise ValueError(
            f"noise is mixed into floats, got {x.dtype}: turn pictures into floats in [-1, 1] first"
        )
    coefficient = coefficient.to(x.dtype)
    if coefficient.ndim == 0:
        return coefficient  # a 0-d CPU tensor meets a tensor of any device without a copy
    if coefficient.ndim != 1 or len(coefficient) != len(x):
        raise ValueError(
            f"a level of shape {tuple(coefficient.shape)} does not fit a batch of shape {tuple(x.shape)}: "
            "give one time for all samples, or one for each"
        )
    return coefficient.to(x.device, non_blocking=True).view(-1, *[1] * (x.ndim - 1))


# Paths ---------------------------------------------------------------------------------------------


class NoisePath(Protocol):
    """What samplers, losses and denoisers ask of a path."""

    @property
    def T(self) -> float: ...
    def __call__(self, t: Tensor | float) -> Level: ...
    def levels(self, n: int, spacing: str = "trailing") -> list[Level]: ...
    def sample_times(
        self, batch: int, generator: torch.Generator | None = None, warp: Warp | None = None
    ) -> Tensor: ...
    def time_at(self, log_snr: Tensor) -> Tensor: ...
    def network_time(self, t: Tensor) -> Tensor: ...


class DiscreteVP:
    """The variance-preserving path of DDPM: α² = ᾱ_t, σ² = 1 − ᾱ_t (Ho et al. 2020, eq. 4).

    betas is (T,), each in (0, 1]; only the last may be 1 (zero terminal SNR). Times are real numbers in
    [0, T]. At whole times ᾱ is exact; between them log-SNR is interpolated, and ᾱ itself in an interval
    where log-SNR is infinite at one end.
    """

    def __init__(self, betas: Tensor | Sequence[float]) -> None:
        self.betas = checked_betas(betas)
        self.T = len(self.betas)
        self.alphas_cumprod = torch.cat([self.betas.new_ones(1), (1 - self.betas).cumprod(0)])  # (T + 1,)

    def __call__(self, t: Tensor | float) -> Level:
        """The level at time t, a number or (B,), each in [0, T]."""
        t = _checked_times(t, self.T)
        below = t.floor().clamp(max=self.T - 1).long()
        fraction = t - below
        low, high = self.alphas_cumprod[below], self.alphas_cumprod[below + 1]
        logit = torch.lerp(low.logit(), high.logit(), fraction)
        between = torch.where(logit.isfinite(), logit.sigmoid(), torch.lerp(low, high, fraction))
        alphas_cumprod = torch.where(fraction == 0, low, torch.where(fraction == 1, high, between))
        return Level(t, alphas_cumprod.sqrt(), (1 - alphas_cumprod).sqrt())

    def levels(self, n: int, spacing: str = "trailing") -> list[Level]:
        """n + 1 levels from noise to data, for n steps, 1 to T; the last is t = 0.

        "trailing" starts at T; "leading" starts about T/n below T; "linspace" starts at T and makes its last
        step from t = 1 (Lin et al. 2023, table 2). "stable-diffusion" is what that model was published with:
        "leading", one later, and the last level is t = 1, which holds a little noise.
        """
        if not isinstance(n, int) or not 1 <= n <= self.T:
            raise ValueError(f"the number of steps must be a whole number from 1 to T = {self.T}, got {n!r}")
        if spacing == "trailing":
            times = torch.arange(n, 0, -1, dtype=torch.float64).mul(self.T).div(n).round()
        elif spacing == "leading":
            times = torch.arange(n - 1, -1, -1, dtype=torch.float64) * (self.T // n) + 1
        elif spacing == "linspace":
            times = torch.linspace(self.T, 1, n, dtype=torch.float64).round()
        elif spacing == "stable-diffusion":
            times = torch.arange(n - 1, -1, -1, dtype=torch.float64) * (self.T // n) + 2
            return [self(t) for t in (*times, 1.0)]
        else:
            raise unknown("spacing", spacing, SPACINGS)
        return [self(t) for t in (*times, 0.0)]

    def sample_times(
        self, batch: int, generator: torch.Generator | None = None, warp: Warp | None = None
    ) -> Tensor:
        """(batch,) whole times, uniform on 1 … T, one from each of `batch` equal strata.

        A warp, such as `logit_normal()`, draws more of some: it moves shares of T.
        """
        shares = stratified(batch, generator)
        return ((shares if warp is None else warp(shares)) * self.T).floor().clamp(max=self.T - 1) + 1

    def time_at(self, log_snr: Tensor) -> Tensor:
        """The time in [1, T] with a log-SNR, () or (B,); the first or the last where there is none."""
        wanted = log_snr.sigmoid().clamp(min=self.alphas_cumprod[-1])  # ᾱ
        above = torch.searchsorted(-self.alphas_cumprod, -wanted).clamp(min=1)
        low, high = self.alphas_cumprod[above - 1], self.alphas_cumprod[above]
        between = (low.logit() - wanted.logit()) / (low.logit() - high.logit())
        finite = low.logit().isfinite() & high.logit().isfinite()
        return (above - 1 + torch.where(finite, between, (low - wanted) / (low - high))).clamp(min=1)

    def network_time(self, t: Tensor) -> Tensor:
        """What a network is told: t − 1, the index that published weights expect."""
        return t - 1


class StraightPath:
    """The straight path of flow matching: α = 1 − t, σ = t, T = 1 (Lipman et al. 2023, eq. 22)."""

    T = 1.0

    def __call__(self, t: Tensor | float) -> Level:
        """The level at time t, a number or (B,), each in [0, 1]."""
        t = _checked_times(t, self.T)
        return Level(t, 1 - t, t)

    def levels(self, n: int, spacing: str = "trailing") -> list[Level]:
        """n + 1 evenly spaced levels from t = 1 to t = 0. "leading" has no meaning here."""
        if not isinstance(n, int) or n < 1:
            raise ValueError(f"the number of steps must be a whole number ≥ 1, got {n!r}")
        if spacing not in SPACINGS:
            raise unknown("spacing", spacing, SPACINGS)
        if spacing in ("leading", "stable-diffusion"):
            raise ValueError(
                f'"{spacing}" spacing belongs to discrete paths: use "trailing" on a straight path'
            )
        return [self(t) for t in torch.linspace(1, 0, n + 1, dtype=torch.float64)]

    def sample_times(
        self, batch: int, generator: torch.Generator | None = None, warp: Warp | None = None
    ) -> Tensor:
        """(batch,) times, uniform on (0, 1], one from each of `batch` equal strata; a warp moves them."""
        times = 1 - stratified(batch, generator)
        return times if warp is None else warp(times)

    def time_at(self, log_snr: Tensor) -> Tensor:
        """The time in [0, 1] with a log-SNR, () or (B,)."""
        return (-log_snr / 2).sigmoid()

    @staticmethod
    def check(levels: list[Level]) -> None:
        """Refuse levels of another path where only the slope dx/dt = ε − x₀ of this one is right."""
        if any(
            ((level.alpha - 1 + level.t).abs() + (level.sigma - level.t).abs() > 1e-9).any()
            for level in levels
        ):
            raise ValueError(
                "the levels are not those of the straight path: put the denoiser on it, "
                "OnPath(denoiser, path), and take StraightPath().levels(n)"
            )

    def network_time(self, t: Tensor) -> Tensor:
        """What a network is told: 1000·t, the range that time embeddings are made for."""
        return 1000 * t


def _checked_times(t: Tensor | float, T: float) -> Tensor:
    t = torch.as_tensor(t, dtype=torch.float64, device="cpu").detach()
    if t.ndim > 1:
        raise ValueError(f"times have shape () or (B,), got {tuple(t.shape)}")
    outside = t[~((t >= 0) & (t <= T))]
    if len(outside):
        raise ValueError(f"times must lie in [0, {T:g}] (0 is data, {T:g} is noise), got {outside[0].item()}")
    return t


# Moving along a path -------------------------------------------------------------------------------


def add_noise(x0: Tensor, noise: Tensor, level: Level) -> Tensor:
    """Jump from data x0 (B, ...) to a level, one or one a sample: x = α·x₀ + σ·ε (Ho et al. 2020, eq. 4)."""
    same_shape("x0 and noise", x0, noise)
    alpha, sigma = level.like(x0)
    return alpha * x0 + sigma * noise


def renoise(x: Tensor, now: Level, to: Level, noise: Tensor) -> Tensor:
    """Go up from x (B, ...) at `now` to a noisier level, by the forward process (Ho et al. 2020, eq. 2)."""
    same_shape("x and noise", x, noise)
    ratio, std = forward_kernel(now, to)
    return cast(ratio, x) * x + cast(std, x) * noise


def posterior(x0: Tensor, x: Tensor, now: Level, next: Level) -> tuple[Tensor, Tensor]:
    """Mean and variance of q(x_next | x_now, x₀) on the way down (Ho et al. 2020, eq. 6 and 7).

    x0 is data and x the sample at level `now`, as the mean both (B, ...); `next` has no less signal. The
    variance is float64 with the levels' shape; 0 where `next` is t = 0.
    """
    same_shape("x0 and x", x0, x)
    above_data(now)
    ratio, std = forward_kernel(next, now)
    from_x = ratio * next.sigma**2 / now.sigma**2
    from_x0 = next.alpha * std**2 / now.sigma**2
    variance = (next.sigma * std / now.sigma) ** 2
    return cast(from_x0, x) * x0 + cast(from_x, x) * x, variance


def forward_kernel(clean: Level, noisy: Level) -> tuple[Tensor, Tensor]:
    """(ratio, std), float64, of q(x_noisy | x_clean) = N(ratio·x_clean, std²); `noisy` has no more signal."""
    ratio = noisy.alpha / clean.alpha
    variance = noisy.sigma**2 - (ratio * clean.sigma) ** 2
    if not bool((variance >= -1e-12).all()) or not bool((ratio <= 1 + 1e-12).all()):
        raise ValueError(
            f"the step from t = {clean.t.tolist()} to t = {noisy.t.tolist()} removes noise: "
            "the forward process goes up, from t = 0 (data) to T (noise)"
        )
    return ratio, variance.clamp(min=0).sqrt()


def above_data(level: Level) -> None:
    """Refuse t = 0 where there must be noise to speak of."""
    if bool((level.sigma == 0).any()):
        raise ValueError("at t = 0 there is no noise to estimate or to remove: ask at a time above 0")


def same_shape(what: str, a: Tensor, b: Tensor) -> None:
    """Refuse two tensors that broadcasting would combine into something nobody meant."""
    if a.shape != b.shape:
        raise ValueError(f"{what} must have the same shape, got {tuple(a.shape)} and {tuple(b.shape)}")
