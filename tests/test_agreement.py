"""Agreement with diffusers, a dependency of the tests alone.

Their times + 1 are ours, fed through explicit levels: their own classes disagree on spacings. Their
tables are float32 and so is every difference below; ours are float64. No step is compared where
their previous step is not the next one they visit (an n that does not divide T, with trailing).
"""

import warnings
from functools import partial

import pytest
import torch
from oracles import PATHS, ZERO_TERMINAL, randn, seeded
from torch import Tensor, nn

from diffusion_lessons import (
    EPSILON,
    FLOW,
    X0,
    Clip,
    DiscreteVP,
    Estimate,
    Level,
    NetworkDenoiser,
    StraightPath,
    V,
    add_noise,
    cosine_betas,
    ddim_step,
    ddpm_step,
    diffusion_loss,
    dpmpp_2m,
    heun,
    linear_betas,
    posterior,
    sample,
    scaled_linear_betas,
    trajectory,
)
from diffusion_lessons.losses import min_snr

diffusers = pytest.importorskip("diffusers")

LINEAR = {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}
PATH = PATHS["linear"]


class Smooth(nn.Module):
    """A fixed network that behaves like a trained one: the best guess where each pixel is N(μ(x, t), ¼).

    Its outputs stay of unit size at every time, for every target.
    """

    def __init__(self, path, target) -> None:
        super().__init__()
        self.path, self.target = path, target
        self.first, self.second = randn(8, 3, 3, 3, seed=1).float(), randn(3, 8, 3, 3, seed=2).float() / 5

    def forward(self, x: Tensor, time: Tensor, condition: object = None) -> Tensor:
        conv = partial(nn.functional.conv2d, padding=1)
        t = (time / 1000).view(-1, 1, 1, 1)
        hidden = nn.functional.silu(conv(x, self.first) / 5 + t)
        mean = torch.tanh(conv(hidden, self.second) - t)
        level = self.path(time + 1 if isinstance(self.path, DiscreteVP) else time / 1000)
        alpha, sigma = level.like(x)
        offset = (x - alpha * mean) / (alpha**2 / 4 + sigma**2)
        return self.target.of(mean + alpha / 4 * offset, sigma * offset, level)


NOISE = randn(2, 3, 8, 8, dtype=torch.float32)


def theirs(scheduler, network: nn.Module, x: Tensor, n: int, **options: object) -> Tensor:
    """Their sampling loop; x is N(0, I) and scaled as the scheduler wants it."""
    scheduler.set_timesteps(n)
    x = x * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        output = network(scheduler.scale_model_input(x, t), t.expand(len(x)).float())
        x = scheduler.step(output, t, x, **options).prev_sample
    return x


def levels(scheduler, path, every: int = 1) -> list[Level]:
    """Ours at their times; `every` skips the second of each pair that Heun visits twice."""
    times = scheduler.timesteps.double()
    times = torch.cat([times[:1], times[1::every]])if every > 1 else times
    return [path(float(t) + 1) for t in times] + [path(0)]


def difference(ours: Tensor, reference: Tensor) -> float:
    assert ours.dtype == reference.dtype == torch.float32
    return float((ours - reference).abs().max())


def relative(ours: Tensor, reference: Tensor) -> float:
    return difference(ours, reference) / float(reference.abs().max())
