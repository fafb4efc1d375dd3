"""Mixtures of Gaussians: data whose optimal denoiser is known exactly, the oracle of tests and lessons.

If x₀ comes from component k with N(μ_k, s_k²·I), then x at a level comes from N(α·μ_k, (α²s_k² + σ²)·I),
and everything that a network would have to learn follows in closed form.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusion_lessons.conditions import Condition, label_of
from diffusion_lessons.paths import Level, add_noise, cast
from diffusion_lessons.targets import Estimate, Target


class GaussianMixture:
    """A mixture of K isotropic Gaussians in D dimensions; as a callable, its exact denoiser.

    means are (K, D); stds (K,) ≥ 0, or one for all; weights (K,) positive, normalised, equal where left out.
    """

    def __init__(
        self,
        means: Tensor | Sequence[Sequence[float]],
        stds: Tensor | Sequence[float] | float,
        weights: Tensor | Sequence[float] | None = None,
    ) -> None:
        self.means = torch.as_tensor(means)
        if self.means.ndim != 2 or not self.means.is_floating_point():
            raise ValueError(f"means must be floats of shape (K, D), got {tuple(self.means.shape)}")
        K = len(self.means)
        stds, weights = (
            torch.as_tensor(v, dtype=self.means.dtype).to(self.means.device)
            for v in (stds, [1.0] * K if weights is None else weights)
        )
        fits = stds.shape in [(), (1,), (K,)] and weights.shape == (K,)
        if not fits or not bool((weights > 0).all() & (stds >= 0).all()):
            raise ValueError(f"a mixture of {K} needs {K} positive weights and stds ≥ 0")
        self.stds = stds.expand(K)
        self.weights = weights / weights.sum()

    def sample(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """n draws: points (n, D) and the components they came from (n,)."""
        labels = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        mean = self.means[labels]
        noise = torch.randn(mean.shape, generator=generator, dtype=mean.dtype, device=mean.device)
        return mean + self.stds[labels, None] * noise, labels

    def log_joint(self, x: Tensor, level: Level) -> Tensor:
        """log p(x, k) of noisy points x (B, D) and each component: (B, K). Also a classifier's logits."""
        offset, variance = self._around_components(x, level)
        distance, dims = offset.square().sum(-1), self.means.shape[1]
        return self.weights.log() - distance / (2 * variance) - dims / 2 * (2 * math.pi * variance).log()

    def log_prob(self, x: Tensor, level: Level) -> Tensor:
        """log density of noisy points x (B, D) at a level: (B,)."""
        return self.log_joint(x, level).logsumexp(-1)

    def posterior(self, x: Tensor, level: Level) -> Tensor:
        """p(k | x), the share of each component in noisy points x (B, D): (B, K)."""
        return self.log_joint(x, level).softmax(-1)

    def score(self, x: Tensor, level: Level) -> Tensor:
        """∇ log p(x) = −E[ε | x]/σ of noisy points x (B, D): (B, D) (Song et al. 2021b, eq. 7)."""
        return -self(x, level).eps / level.like(x)[1]

    def __call__(self, x: Tensor, level: Level, condition: Condition = None) -> Estimate:
        """E[x₀ | x] and E[ε | x], the best possible estimate. A condition (B,) names the component."""
        mean, _ = self.component_moments(x, level)
        labels = label_of(condition)
        share = self.posterior(x, level) if labels is None else F.one_hot(labels, mean.shape[1]).to(x.dtype)
        return Estimate.from_x0((share[..., None] * mean).sum(1), x, level)

    def component_moments(self, x: Tensor, level: Level) -> tuple[Tensor, Tensor]:
        """Mean (B, K, D) and variance (B, K) of x₀ given noisy points x (B, D) and the component."""
        offset, variance = self._around_components(x, level)
        alpha, sigma = level.like(x)
        gain = alpha * self.stds**2 / variance  # (B, K)
        return self.means + gain[..., None] * offset, (self.stds * sigma) ** 2 / variance

    def _around_components(self, x: Tensor, level: Level) -> tuple[Tensor, Tensor]:
        """x − α·μ_k (B, K, D) and the variance α²s_k² + σ² (B, K) of the noisy components."""
        K, dims = self.means.shape
        if x.ndim != 2 or x.shape[1] != dims:
            raise ValueError(f"points must have shape (B, {dims}), got {tuple(x.shape)}")
        alpha, sigma = level.like(x)
        centre = (alpha * self.means.flatten()).reshape(-1, K, dims)  # (1 or B, K, D)
        return x[:, None] - centre, ((alpha * self.stds) ** 2 + sigma**2).expand(len(x), -1)

    def optimal_loss(
        self, target: Target, level: Level, n: int = 20_000, generator: torch.Generator | None = None
    ) -> tuple[float, float]:
        """The loss that no network can beat: E|y − E[y | x]|² a dimension, and its standard error.

        The variance of x₀ given x is exact; the mean over x is of n draws (exact for one Gaussian).
        """
        x0, _ = self.sample(n, generator)
        noise = torch.randn(x0.shape, generator=generator, dtype=x0.dtype, device=x0.device)
        x = add_noise(x0, noise, level)
        mean, variance = self.component_moments(x, level)
        share = self.posterior(x, level)
        between = mean - (share[..., None] * mean).sum(1, keepdim=True)  # (n, K, D)
        spread = (share * (variance + between.square().mean(-1))).sum(1)  # (n,)
        spread = spread * cast((target.det(level) / level.sigma) ** 2, spread)
        return float(spread.mean()), float(spread.std() / math.sqrt(n))
