"""What the tests of the core share: paths to try, and denoisers and networks that know the truth."""

import math

import torch
from torch import Tensor, nn

from diffusion_lessons import (
    DiscreteVP,
    Estimate,
    Level,
    StraightPath,
    Target,
    cosine_betas,
    linear_betas,
    rescale_zero_terminal_snr,
    scaled_linear_betas,
    sigmoid_betas,
)
from diffusion_lessons.targets import TARGETS

SCHEDULES = [linear_betas, scaled_linear_betas, cosine_betas, sigmoid_betas]
ZERO_TERMINAL = DiscreteVP(rescale_zero_terminal_snr(scaled_linear_betas()))
PATHS = {
    "linear": DiscreteVP(linear_betas()),
    "scaled linear": DiscreteVP(scaled_linear_betas()),
    "cosine": DiscreteVP(cosine_betas()),
    "sigmoid": DiscreteVP(sigmoid_betas()),
    "zero terminal": ZERO_TERMINAL,
    "straight": StraightPath(),
}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=dtype)


def solvable(target: Target, level: Level) -> bool:
    """Whether the target says something about x₀ and ε at every time of the level."""
    return bool((target.det(level) != 0).all())


def targets_and_paths() -> list[tuple[str, str]]:
    """Every pair that can be sampled from t = T on."""
    return [
        (target, name)
        for target in TARGETS
        for name, path in PATHS.items()
        if solvable(TARGETS[target], path(path.T))
    ]


class TrueX0:
    """The denoiser that knows the clean sample."""

    def __init__(self, x0: Tensor) -> None:
        self.x0 = x0
        self.times: list[float] = []

    def __call__(self, x: Tensor, level: Level, condition: object = None) -> Estimate:
        self.times.append(float(level.t.max()))
        return Estimate.from_x0(self.x0, x, level)


class TrueNetwork(nn.Module):
    """The network that outputs the true value of its target, from nothing but x, the time and x₀."""

    def __init__(self, x0: Tensor, path: DiscreteVP | StraightPath, target: Target) -> None:
        super().__init__()
        self.x0, self.path, self.target = x0, path, target

    def forward(self, x: Tensor, time: Tensor, condition: object = None) -> Tensor:
        discrete = isinstance(self.path, DiscreteVP)
        level = self.path(time + 1 if discrete else time / 1000)
        return self.target.of(self.x0, Estimate.from_x0(self.x0, x, level).eps, level)


def trigonometric_levels(n: int, start: float = 1.0, end: float = 0.0) -> list[Level]:
    """α = cos and σ = sin of 0.9999·t·π/2, at uniform t."""
    angles = [(t, 0.9999 * t * math.pi / 2) for t in torch.linspace(start, end, n + 1, dtype=torch.float64)]
    return [Level(t, torch.cos(angle), torch.sin(angle)) for t, angle in angles]


def per_sample(*levels: Level) -> Level:
    """One level of shape (B,) from B levels of shape ()."""
    return Level(
        *(torch.stack([getattr(level, name) for level in levels]) for name in ("t", "alpha", "sigma"))
    )
