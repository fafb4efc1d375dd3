"""Agreement with diffusers, a dependency of the tests alone.

Their times + 1 are ours, fed through explicit levels: their own classes disagree on spacings. Their
tables are float32 and so is every difference below; ours are float64. No step is compared where
their previous step is not the next one they visit (an n that does not divide T, with trailing).
"""

from functools import partial

import pytest
import torch
from diffusers import ClassifierFreeGuidance as Guider
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
)
from diffusers.training_utils import compute_density_for_timestep_sampling, compute_snr
from diffusers.utils import logging
from torch import Tensor, nn

from diffusion_lessons import (
    EPSILON,
    FLOW,
    X0,
    ClassifierFreeGuidance,
    Clip,
    DiscreteVP,
    Level,
    NetworkDenoiser,
    Rescale,
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
    sample,
    scaled_linear_betas,
)
from diffusion_lessons.losses import min_snr
from diffusion_lessons.times import logit_normal
from tests.oracles import PATHS, ZERO_TERMINAL, randn, seeded

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # theirs

SCALED = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
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
NETWORK = Smooth(PATH, EPSILON)
DENOISER = NetworkDenoiser(NETWORK, PATH, EPSILON)


def theirs(scheduler, x: Tensor, n: int, network: nn.Module = NETWORK, **options: object) -> Tensor:
    """Their sampling loop; x is N(0, I) and scaled as the scheduler wants it."""
    scheduler.set_timesteps(n)
    x = x * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        output = network(scheduler.scale_model_input(x, t), t.expand(len(x)).float())
        x = scheduler.step(output, t, x, **options).prev_sample
    return x


def levels(scheduler, path=PATH, every: int = 1) -> list[Level]:
    """Ours at their times; Heun visits all but the first twice, so every second is left out there."""
    times = scheduler.timesteps.double()
    return [path(t + 1) for t in (times[0], *times[1::every])] + [path(0)]


def in_float64(scheduler):
    """The same scheduler on a float64 table, where theirs is a float32 cumulative product."""
    scheduler.alphas_cumprod, scheduler.one = PATH.alphas_cumprod[1:], torch.ones((), dtype=torch.float64)
    return scheduler


def difference(ours: Tensor, reference: Tensor) -> float:
    assert ours.dtype == reference.dtype == torch.float32
    return float((ours - reference).abs().max())


def relative(ours: Tensor, reference: Tensor) -> float:
    return difference(ours, reference) / float(reference.abs().max())


# Schedules and tables --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "betas"),
    [
        (LINEAR, linear_betas()),
        (SCALED, scaled_linear_betas()),
        ({"beta_schedule": "squaredcos_cap_v2"}, cosine_betas()),
    ],
)
def test_schedules(options, betas) -> None:
    table = DDPMScheduler(**options).alphas_cumprod.double()
    torch.testing.assert_close(table, DiscreteVP(betas).alphas_cumprod[1:], rtol=2e-5, atol=0)


def test_rescaled_to_zero_terminal_snr() -> None:
    scheduler = DDIMScheduler(**SCALED, rescale_betas_zero_snr=True)
    before = DDIMScheduler(**SCALED).alphas_cumprod
    assert float(scheduler.alphas_cumprod[-1]) == float(ZERO_TERMINAL.alphas_cumprod[-1]) == 0
    assert float(scheduler.alphas_cumprod[0]) == pytest.approx(float(before[0]), rel=1e-6)
    torch.testing.assert_close(
        scheduler.alphas_cumprod.double(), ZERO_TERMINAL.alphas_cumprod[1:], rtol=1e-5, atol=1e-6
    )


def test_add_noise_and_velocity() -> None:
    """One unit in the last place from the same table.

    With our own table it is 2e-6: at small times their 1 − ᾱ, a float32 difference of nearly equal
    numbers, is off by 2e-4 of itself. The float64 product is the right one.
    """
    scheduler, t = DDPMScheduler(**LINEAR), torch.arange(1000)
    x0, noise = randn(1000, 3, seed=1).float(), randn(1000, 3, seed=2).float()
    table = scheduler.alphas_cumprod.double()
    same, own = Level(t + 1.0, table.sqrt(), (1 - table).sqrt()), PATH(t + 1)
    for ours, reference in (
        (partial(add_noise, x0, noise), scheduler.add_noise(x0, noise, t)),
        (partial(V.of, x0, noise), scheduler.get_velocity(x0, noise, t)),
    ):
        assert difference(ours(same), reference) < 5e-7
        assert difference(ours(own), reference) < 5e-6
    assert float(((1 - table) / own.sigma**2 - 1).abs().max()) > 1e-4  # theirs, at the smallest times


def test_min_snr_weights() -> None:
    """min(SNR, γ)/SNR on ε and min(SNR, γ)/(SNR + 1) on v, with their SNR."""
    scheduler, t = DDPMScheduler(**LINEAR), torch.arange(1000)
    snr = compute_snr(scheduler, t).double()
    table = scheduler.alphas_cumprod.double()
    same, own = Level(t + 1.0, table.sqrt(), (1 - table).sqrt()), PATH(t + 1)
    torch.testing.assert_close(same.snr, snr, rtol=5e-7, atol=0)
    torch.testing.assert_close(own.snr, snr, rtol=3e-4, atol=0)  # their float32 again
    for target, reference in ((EPSILON, snr.clamp(max=5) / snr), (V, snr.clamp(max=5) / (snr + 1))):
        factor = min_snr(5.0)(same) * (same.sigma / target.det(same)) ** 2
        torch.testing.assert_close(factor, reference, rtol=1e-6, atol=0)


def test_the_min_snr_loss_is_theirs() -> None:
    """Their training script's loss, for ε and for v."""
    scheduler = DDPMScheduler(**LINEAR)
    x0, noise = randn(6, 3, 8, 8, seed=1).float(), randn(6, 3, 8, 8, seed=2).float()
    t = torch.tensor([30, 100, 300, 500, 700, 999])
    snr = compute_snr(scheduler, t)
    x = scheduler.add_noise(x0, noise, t)
    for target, truth, divisor in ((EPSILON, noise, snr), (V, scheduler.get_velocity(x0, noise, t), snr + 1)):
        network = Smooth(PATH, target)
        errors = (network(x, t.float()) - truth).square().flatten(1).mean(1)
        reference = snr.clamp(max=5) / divisor * errors
        ours = diffusion_loss(network, PATH, target, x0, noise, t + 1, weight=min_snr(5.0))
        torch.testing.assert_close(ours, reference, rtol=1e-4, atol=1e-6)


# Samplers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("n", [1, 10, 20, 50, 100])
def test_ddim(spacing, n) -> None:
    scheduler = DDIMScheduler(**LINEAR, clip_sample=False, timestep_spacing=spacing)
    reference = theirs(scheduler, NOISE, n)
    assert difference(sample(DENOISER, NOISE, levels(scheduler)), reference) < 8e-5


@pytest.mark.parametrize("eta", [0.3, 1.0])
@pytest.mark.parametrize("clip", [False, True])
def test_ddim_with_noise_and_clipping(eta, clip) -> None:
    """Clipping agrees where they recompute ε; by default theirs leaves it stale."""
    scheduler = DDIMScheduler(**LINEAR, clip_sample=clip)
    reference = theirs(scheduler, 2 * NOISE, 20, generator=seeded(), eta=eta, use_clipped_model_output=clip)
    denoiser = Clip(DENOISER) if clip else DENOISER
    step = partial(ddim_step, eta=eta)
    ours = sample(denoiser, 2 * NOISE, levels(scheduler), step=step, generator=seeded())
    assert relative(ours, reference) < 4e-6
    if clip:
        stale = theirs(scheduler, 2 * NOISE, 20, generator=seeded(), eta=eta)
        assert relative(ours, stale) > 1e-3


@pytest.mark.parametrize(
    ("spacing", "n"),
    [("leading", 10), ("trailing", 10), ("trailing", 20), ("leading", 100), ("trailing", 500)],
)
def test_ddpm_with_the_same_generator(spacing, n) -> None:
    """4e-6 of the largest value, once their table is float64.

    Out of the box it holds to 20 steps; at 500 it is 8e-5, because they take β as 1 − ᾱ_t/ᾱ_s in
    float32. On the float64 table their own code agrees with ours, so that is where it comes from.
    """
    options = {**LINEAR, "clip_sample": False, "timestep_spacing": spacing}
    scheduler = in_float64(DDPMScheduler(**options))
    exact = theirs(scheduler, NOISE, n, generator=seeded())
    plain = theirs(DDPMScheduler(**options), NOISE, n, generator=seeded())
    for step in (ddpm_step, partial(ddim_step, eta=1.0)):
        ours = sample(DENOISER, NOISE, levels(scheduler), step=step, generator=seeded())
        assert relative(ours, exact) < 4e-6
        assert relative(ours, plain) < (4e-6 if n <= 20 else 3e-4)


@pytest.mark.parametrize("variance", ["small", "large"])
@pytest.mark.parametrize(
    ("target", "prediction"), [(EPSILON, "epsilon"), (X0, "sample"), (V, "v_prediction")]
)
def test_ddpm_with_both_variances_and_every_target_they_have(variance, target, prediction) -> None:
    scheduler = DDPMScheduler(
        **LINEAR, clip_sample=False, variance_type=f"fixed_{variance}", prediction_type=prediction
    )
    network = Smooth(PATH, target)
    reference = theirs(scheduler, NOISE, 20, network, generator=seeded())
    step = partial(ddpm_step, variance=variance)
    denoiser = NetworkDenoiser(network, PATH, target)
    ours = sample(denoiser, NOISE, levels(scheduler), step=step, generator=seeded())
    assert relative(ours, reference) < 4e-6


def test_ddpm_with_clipping() -> None:
    scheduler = DDPMScheduler(**LINEAR, clip_sample=True)
    reference = theirs(scheduler, 2 * NOISE, 20, generator=seeded())
    ours = sample(Clip(DENOISER), 2 * NOISE, levels(scheduler), step=ddpm_step, generator=seeded())
    assert relative(ours, reference) < 4e-6


@pytest.mark.parametrize("n", [1, 5, 20, 50])
def test_v_prediction_from_zero_terminal_snr(n) -> None:
    scheduler = DDIMScheduler(
        **SCALED,
        clip_sample=False,
        rescale_betas_zero_snr=True,
        prediction_type="v_prediction",
        timestep_spacing="trailing",
    )
    network = Smooth(ZERO_TERMINAL, V)
    reference = theirs(scheduler, NOISE, n, network)
    denoiser = NetworkDenoiser(network, ZERO_TERMINAL, V)
    assert difference(sample(denoiser, NOISE, levels(scheduler, ZERO_TERMINAL)), reference) < 1e-5


def scaled_start(scheduler, start: Level) -> Tensor:
    """Their x is ours divided by α: noise of a standard deviation far above 1."""
    return NOISE * scheduler.init_noise_sigma * start.alpha.float()


WHOLE_TIMES = [("linspace", 10), ("linspace", 28), ("trailing", 10), ("trailing", 50), ("leading", 20)]


@pytest.mark.parametrize(("spacing", "n"), WHOLE_TIMES)
def test_euler(spacing, n) -> None:
    """DDIM in other coordinates. At whole times only: between them they interpolate σ/α, we log-SNR."""
    scheduler = EulerDiscreteScheduler(**LINEAR, timestep_spacing=spacing)
    reference = theirs(scheduler, NOISE, n)
    visited = levels(scheduler)
    assert difference(sample(DENOISER, scaled_start(scheduler, visited[0]), visited), reference) < 3e-5


@pytest.mark.parametrize(("spacing", "n"), WHOLE_TIMES)
def test_heun(spacing, n) -> None:
    scheduler = HeunDiscreteScheduler(beta_start=1e-4, beta_end=0.02, timestep_spacing=spacing)
    reference = theirs(scheduler, NOISE, n)
    visited = levels(scheduler, every=2)
    assert len(visited) == n + 1
    start = scaled_start(scheduler, visited[0])
    ours = sample(DENOISER, start, visited, sampler=heun, coordinates="scaled")
    assert difference(ours, reference) < 1e-4


@pytest.mark.parametrize("spacing", ["linspace", "trailing"])
@pytest.mark.parametrize("n", [5, 10, 20, 25, 50])
def test_dpm_solver_multistep(spacing, n) -> None:
    """On both sides of the 15 steps below which they lower the order at the end."""
    scheduler = DPMSolverMultistepScheduler(timestep_spacing=spacing)
    reference = theirs(scheduler, NOISE, n)
    assert difference(sample(DENOISER, NOISE, levels(scheduler), sampler=dpmpp_2m), reference) < 2e-4


@pytest.mark.parametrize("n", [1, 4, 10, 28])
def test_flow_matching_euler(n) -> None:
    """At shift 1 only: elsewhere they have applied it twice. 5e-7 of the largest value."""
    scheduler, path = FlowMatchEulerDiscreteScheduler(shift=1), StraightPath()
    network = Smooth(path, FLOW)
    scheduler.set_timesteps(n)
    x = NOISE
    for t in scheduler.timesteps:
        x = scheduler.step(network(x, t.expand(len(x))), t, x).prev_sample
    visited = [path(sigma.double()) for sigma in scheduler.sigmas]
    assert relative(sample(NetworkDenoiser(network, path, FLOW), NOISE, visited), x) < 5e-7


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (-0.5, 0.6)])
def test_logit_normal_times(mean, std) -> None:
    """Their draws are independent and ours one from each stratum: the deciles are the same."""
    theirs = compute_density_for_timestep_sampling("logit_normal", 200_000, mean, std, generator=seeded())
    ours = StraightPath().sample_times(200_000, seeded(), logit_normal(mean, std))
    shares = torch.linspace(0.1, 0.9, 9).double()
    deciles = (times.double().quantile(shares).float() for times in (ours, theirs))
    assert difference(*deciles) < 3e-3


# Guidance --------------------------------------------------------------------------------------------


class Labelled(Smooth):
    """The same, moved a little by the label; 3 means none."""

    def forward(self, x: Tensor, time: Tensor, condition: Tensor) -> Tensor:
        return super().forward(x, time) + 0.2 * torch.sin(condition.float()).view(-1, 1, 1, 1) * x

    def null_condition(self, batch: int) -> Tensor:
        return torch.full((batch,), 3)


@pytest.mark.parametrize("scale", [0.0, 1.0, 4.0, 7.5])
@pytest.mark.parametrize("rescale", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("level", [PATH(20), PATH(600)])
def test_classifier_free_guidance_in_both_ways_of_counting(scale, rescale, level) -> None:
    """One unit in the last place. Given x₀, theirs does what ours does; rescaling ε is another thing."""
    logging.set_verbosity_error()  # their guiders announce that they may change
    denoiser, labels = NetworkDenoiser(Labelled(PATH, EPSILON), PATH, EPSILON), torch.tensor([0, 2])
    plain, none = (denoiser(NOISE, level, each) for each in (labels, torch.tensor([3, 3])))
    guidance = ClassifierFreeGuidance(denoiser, scale)
    ours = Rescale(guidance, rescale)(NOISE, level, labels)
    for options in (
        {"guidance_scale": scale},
        {"guidance_scale": scale - 1, "use_original_formulation": True},
    ):
        guider = Guider(guidance_rescale=rescale, **options)
        assert relative(ours.x0, guider.forward(plain.x0, none.x0).pred) < 2e-6
        theirs_on_eps = guider.forward(plain.eps, none.eps).pred
        if rescale == 0:
            assert relative(guidance(NOISE, level, labels).eps, theirs_on_eps) < 2e-6
        elif scale > 1:
            assert relative(ours.eps, theirs_on_eps) > 1e-3
