"""The scheduler that Stable Diffusion 1 was published with, held to diffusers' and to what it promises."""

import pytest
import torch
from diffusers import PNDMScheduler

from diffusion_lessons.mixtures import GaussianMixture
from diffusion_lessons.paths import DiscreteVP, Level, add_noise
from diffusion_lessons.samplers import PLMS, plms, sample
from diffusion_lessons.schedules import scaled_linear_betas
from diffusion_lessons.targets import Estimate

PATH = DiscreteVP(scaled_linear_betas(1000, 0.00085, 0.012))
PUBLISHED = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}


def smooth(x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Some ε that depends on x and on the network's time."""
    return torch.tanh(x) * (1 + 0.3 * torch.sin(torch.as_tensor(index).double() / 200))


def denoiser(x: torch.Tensor, level: Level, condition: object = None) -> Estimate:
    eps, (alpha, sigma) = smooth(x, level.t - 1), level.like(x)
    return Estimate((x - sigma * eps) / alpha, eps)


@pytest.mark.parametrize("n", [4, 10, 50])
def test_with_the_published_settings_it_is_theirs(n: int) -> None:
    scheduler = PNDMScheduler(**PUBLISHED, skip_prk_steps=True, set_alpha_to_one=False)
    scheduler.alphas_cumprod = PATH.alphas_cumprod[1:]
    scheduler.final_alpha_cumprod = scheduler.alphas_cumprod[0]
    scheduler.set_timesteps(n)
    start = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    theirs = start
    for t in scheduler.timesteps:
        theirs = scheduler.step(smooth(theirs, t), t, theirs).prev_sample
    ours = sample(denoiser, start, PATH.levels(n, "stable-diffusion"), sampler=plms)
    assert torch.allclose(ours, theirs, rtol=1e-9, atol=1e-9)


def test_one_evaluation_a_step_and_one_more() -> None:
    levels, asked = PATH.levels(7, "stable-diffusion"), []

    def counting(x: torch.Tensor, level: Level, condition: object = None) -> Estimate:
        asked.append(float(level.t))
        return denoiser(x, level)

    points = list(plms(counting, torch.ones(1, 2), levels))
    times = [float(level.t) for level in levels]
    assert [float(level.t) for level, _, _ in points] == times
    assert asked == [times[0], times[1], *times[1:-1]]


@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_perfect_denoiser_arrives_with_any_number_of_steps(n: int) -> None:
    x0, noise = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    levels = PATH.levels(n, "leading")  # they end at t = 0, where nobody is asked
    x = sample(
        lambda x, level, condition: Estimate(x0, noise), add_noise(x0, noise, levels[0]), levels, sampler=plms
    )
    assert torch.allclose(x, x0)


def test_more_steps_pay_more_than_with_ddim() -> None:
    bell = GaussianMixture(torch.zeros(1, 1, dtype=torch.float64), 0.5)
    start = torch.ones(1, 1, dtype=torch.float64)

    def missed(n: int, **how: object) -> float:
        levels = [PATH(t) for t in torch.linspace(900, 20, n + 1, dtype=torch.float64)]
        exact = (levels[-1].alpha ** 2 * 0.25 + levels[-1].sigma ** 2) / (
            levels[0].alpha ** 2 * 0.25 + levels[0].sigma ** 2
        )
        return abs(float(sample(bell, start, levels, **how)) - float(exact.sqrt()))

    assert missed(40, sampler=plms) < 0.1 * missed(40)
    assert missed(80, sampler=plms) < missed(40, sampler=plms) / 4


def test_the_weights_of_each_row_sum_to_1() -> None:
    assert all(sum(weights) == pytest.approx(1) for weights in PLMS.values())
    assert all(len(weights) == count for count, weights in PLMS.items())
