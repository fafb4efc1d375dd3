"""What a network is trained to output: y = p·x₀ + q·ε, one pair of coefficients a target.

With x = α·x₀ + σ·ε, any y gives both x₀ and ε: the 2×2 system has the determinant α·q − σ·p.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from diffusion_lessons.paths import Level, above_data, cast, same_shape


class Estimate(NamedTuple):
    """A guess at the clean sample and at the noise that keeps x = α·x₀ + σ·ε. Both (B, ...)."""

    x0: Tensor
    eps: Tensor

    @classmethod
    def from_x0(cls, x0: Tensor, x: Tensor, level: Level) -> "Estimate":
        """The estimate with this x₀; ε = (x − α·x₀)/σ follows, so that neither goes stale."""
        same_shape("x0 and x", x0, x)
        above_data(level)
        alpha, sigma = level.like(x)
        return cls(x0, (x - alpha * x0) / sigma)


@dataclass(frozen=True)
class Target:
    """A quantity y = p·x₀ + q·ε that a network can be trained to output."""

    name: str  # the word used on the command line and in checkpoints
    coefficients: Callable[[Level], tuple[Tensor, Tensor]]  # level -> (p, q), float64 with the level's shape

    def det(self, level: Level) -> Tensor:
        """α·q − σ·p: how well y and x together determine x₀ and ε; 0 where they don't."""
        p, q = self.coefficients(level)
        return level.alpha * q - level.sigma * p

    def of(self, x0: Tensor, eps: Tensor, level: Level) -> Tensor:
        """The value y = p·x₀ + q·ε that the network should output. x0, eps: (B, ...)."""
        same_shape("x0 and eps", x0, eps)
        p, q = self.coefficients(level)
        return cast(p, x0) * x0 + cast(q, x0) * eps

    def solve(self, y: Tensor, x: Tensor, level: Level) -> Estimate:
        """x₀ = (q·x − σ·y)/det, ε = (α·y − p·x)/det from an output y at x, both (B, ...), if det ≠ 0."""
        same_shape("the network's output and x", y, x)
        det = self.det(level)
        if bool((det == 0).any()):
            t, alpha, sigma = (each[det == 0].flatten()[0] for each in (level.t, level.alpha, level.sigma))
            raise ValueError(
                f"the target {self.name!r} cannot be solved at t = {t:g} (α = {alpha:g}, σ = {sigma:g}): "
                "use 'v' there"
            )
        y = y.to(x.dtype)  # a network may compute in half precision
        p, q = self.coefficients(level)
        x0 = cast(q / det, x) * x - cast(level.sigma / det, x) * y
        eps = cast(level.alpha / det, x) * y - cast(p / det, x) * x
        return Estimate(x0, eps)


def _constant(p: float, q: float) -> Callable[[Level], tuple[Tensor, Tensor]]:
    return lambda level: (torch.full_like(level.alpha, p), torch.full_like(level.alpha, q))


EPSILON = Target("epsilon", _constant(0, 1))  # Ho et al. 2020, eq. 14
X0 = Target("x0", _constant(1, 0))
V = Target("v", lambda level: (-level.sigma, level.alpha))  # Salimans and Ho 2022, appendix D
FLOW = Target("flow", _constant(-1, 1))  # Lipman et al. 2023; Liu et al. 2023, eq. 1

TARGETS = {target.name: target for target in (EPSILON, X0, V, FLOW)}
