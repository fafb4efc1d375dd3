"""Samplers: what an oracle proves exactly, how fast they converge, and what they refuse."""

import math
from functools import partial
from itertools import pairwise, zip_longest

import pytest
import torch
from torch import Tensor

from diffusion_lessons import (
    EPSILON,
    X0,
    DiscreteVP,
    Estimate,
    GaussianMixture,
    Level,
    NetworkDenoiser,
    StraightPath,
    V,
    add_noise,
    ddim_step,
    ddpm_step,
    heun,
    invert,
    linear_betas,
    posterior,
    renoise,
    sample,
    trajectory,
)
from diffusion_lessons.paths import forward_kernel
from diffusion_lessons.samplers import SAMPLERS, there_and_back
from diffusion_lessons.targets import TARGETS
from tests.oracles import (
    PATHS,
    ZERO_TERMINAL,
    TrueNetwork,
    TrueX0,
    per_sample,
    randn,
    seeded,
    targets_and_paths,
    trigonometric_levels,
)

VARIANTS = {
    **SAMPLERS,
    "eta = 0.3": partial(trajectory, step=partial(ddim_step, eta=0.3)),
    "eta = 1": partial(trajectory, step=partial(ddim_step, eta=1.0)),
    "large variance": partial(trajectory, step=partial(ddpm_step, variance="large")),
    "heun scaled": partial(heun, coordinates="scaled"),
}
DETERMINISTIC = ["ddim", "heun", "dpmpp-2m", "heun scaled"]
MIXTURE = GaussianMixture(
    torch.tensor([[-1.0, 0.0], [1.0, 0.5], [0.0, -1.0]], dtype=torch.float64), [0.3, 0.2, 0.25]
)


SAMPLERS_AND_PATHS = [  # Heun's scaled coordinates need a signal at the start
    (sampler, name)
    for sampler in VARIANTS
    for name, path in PATHS.items()
    if sampler != "heun scaled" or path(path.T).alpha > 0
]


# An oracle: every sampler must return x₀ exactly -----------------------------------------------------


@pytest.mark.parametrize(("sampler", "name"), SAMPLERS_AND_PATHS)
@pytest.mark.parametrize("n", [1, 2, 3, 7, 10, 64])
def test_with_an_oracle_every_sampler_returns_x0(sampler, name, n) -> None:
    """A skipped first or last step, or ᾱ of the wrong index, leaves noise here."""
    path = PATHS[name]
    x0, noise = randn(3, 2, 4, seed=1), randn(3, 2, 4, seed=2)
    for spacing in ("trailing", "linspace") if name == "straight" else ("trailing", "linspace", "leading"):
        levels = path.levels(n, spacing)
        x = sample(TrueX0(x0), add_noise(x0, noise, levels[0]), levels, sampler=VARIANTS[sampler])
        torch.testing.assert_close(x, x0, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("target", "name"), targets_and_paths())
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_with_a_true_network_every_target_returns_x0(target, name, sampler) -> None:
    path, x0, noise = PATHS[name], randn(3, 5, seed=1), randn(3, 5, seed=2)
    denoiser = NetworkDenoiser(TrueNetwork(x0, path, TARGETS[target]), path, TARGETS[target])
    levels = path.levels(7)
    x = sample(denoiser, add_noise(x0, noise, levels[0]), levels, sampler=SAMPLERS[sampler])
    torch.testing.assert_close(x, x0, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("n", [1, 4, 7, 300])
@pytest.mark.parametrize("spacing", ["trailing", "leading", "linspace"])
def test_visited_pairs_are_continuous_and_end_at_0(n, spacing) -> None:
    """For n that do not divide T too: the next time of a step is the time of the one after it."""
    levels, pairs = PATHS["linear"].levels(n, spacing), []

    def step(x: Tensor, estimate: Estimate, now: Level, next: Level, noise: Tensor | None = None) -> Tensor:
        pairs.append((float(now.t), float(next.t)))
        return ddim_step(x, estimate, now, next)

    denoiser = TrueX0(randn(1, 2))
    sample(denoiser, randn(1, 2, seed=1), levels, step=step)
    assert pairs == [(float(now.t), float(next.t)) for now, next in pairwise(levels)]
    assert pairs[-1][1] == 0
    assert denoiser.times == [now for now, _ in pairs]


@pytest.mark.parametrize("sampler", VARIANTS)
def test_every_level_is_yielded_with_its_sample_and_its_estimate(sampler) -> None:
    levels, x = PATHS["cosine"].levels(5), randn(4, 2)
    points = list(VARIANTS[sampler](MIXTURE, x, levels))
    assert [level for level, _, _ in points] == levels
    assert points[0][1] is x
    for level, point, estimate in points[:-1]:
        expected = MIXTURE(point, level)
        torch.testing.assert_close(estimate, expected)
        torch.testing.assert_close(add_noise(*estimate, level), point, rtol=1e-8, atol=1e-8)
    assert points[-1][2] is points[-2][2]
    torch.testing.assert_close(points[-1][1], points[-2][2].x0)  # the last step goes to x₀ itself


@pytest.mark.parametrize(
    ("sampler", "evaluations"), [("ddim", 6), ("ddpm", 6), ("dpmpp-2m", 6), ("heun", 11), ("heun scaled", 11)]
)
def test_the_price_of_a_sample(sampler, evaluations) -> None:
    denoiser = TrueX0(randn(1, 2))
    sample(denoiser, randn(1, 2), PATHS["cosine"].levels(6), sampler=VARIANTS[sampler])
    assert len(denoiser.times) == evaluations
    assert min(denoiser.times) > 0  # networks never train at t = 0


def test_one_step_is_the_estimate_itself() -> None:
    x, levels = randn(4, 2), PATHS["zero terminal"].levels(1)
    for sampler in SAMPLERS.values():
        torch.testing.assert_close(sample(MIXTURE, x, levels, sampler=sampler), MIXTURE(x, levels[0]).x0)


def test_conditions_reach_the_denoiser() -> None:
    labels, seen = torch.tensor([0, 1]), []

    def denoiser(x: Tensor, level: Level, condition: object = None) -> Estimate:
        seen.append(condition)
        return MIXTURE(x, level, condition)

    for sampler in VARIANTS.values():
        sample(denoiser, randn(2, 2), PATHS["cosine"].levels(3), labels, sampler=sampler)
    invert(denoiser, randn(2, 2), PATHS["cosine"].levels(3), labels)
    assert all(condition is labels for condition in seen)


# The Gaussian series and orders of convergence -------------------------------------------------------


def final_std(levels: list[Level], sampler=trajectory, c: float = 0.5, **options: object) -> float:
    """The standard deviation of the samples of N(0, c²): the update is linear, so one number is enough."""
    gaussian = GaussianMixture(torch.zeros(1, 1, dtype=torch.float64), c)
    return float(sample(gaussian, torch.ones(1, 1, dtype=torch.float64), levels, sampler=sampler, **options))


def test_the_gaussian_series_of_ddim() -> None:
    """The error in the standard deviation halves with each doubling of steps."""
    steps = (5, 10, 20, 40, 80)
    errors = [0.5 - final_std(trigonometric_levels(n)) for n in steps]
    assert [round(error, 3) for error in errors[:4]] == [0.136, 0.072, 0.037, 0.019]
    assert round(errors[4], 4) in (0.0095, 0.0096)  # 0.00955
    straight = [0.5 - final_std(StraightPath().levels(n)) for n in steps]
    assert [round(error, 3) for error in straight[:4]] == [0.131, 0.069, 0.036, 0.018]
    assert round(straight[4], 4) == 0.0092


def orders(errors: list[float]) -> list[float]:
    return [math.log2(abs(a / b)) for a, b in pairwise(errors)]


@pytest.mark.parametrize(
    ("sampler", "order"), [("ddim", 1), ("heun", 2), ("heun scaled", 2), ("dpmpp-2m", 2)]
)
@pytest.mark.parametrize("where", ["trigonometric", "straight", "cosine"])
def test_order_of_convergence_on_a_gaussian(sampler, order, where) -> None:
    """Between two levels, against the exact flow: x keeps its place in units of √(α²c² + σ²).

    Heun as the average of two estimates would be of order 1: the invariant cancels the correction.
    """
    errors = []
    for n in (32, 64, 128, 256):
        levels = {
            "trigonometric": lambda n: trigonometric_levels(n, 0.9, 0.2),
            "straight": lambda n: [
                StraightPath()(t) for t in torch.linspace(2, -2, n + 1).double().sigmoid()
            ],
            "cosine": lambda n: [PATHS["cosine"](900.0 - 700.0 * k / n) for k in range(n + 1)],
        }[where](n)
        stds = [float((0.25 * level.alpha**2 + level.sigma**2).sqrt()) for level in (levels[0], levels[-1])]
        errors.append(final_std(levels, VARIANTS[sampler]) - stds[1] / stds[0])
    assert orders(errors) == pytest.approx([order] * 3, abs=0.25)


@pytest.mark.parametrize(("sampler", "order"), [("ddim", 1), ("heun", 2)])
@pytest.mark.parametrize("where", ["trigonometric", "straight"])
def test_order_of_convergence_all_the_way_to_data(sampler, order, where) -> None:
    errors = []
    for n in (40, 80, 160, 320):
        levels = trigonometric_levels(n) if where == "trigonometric" else StraightPath().levels(n)
        errors.append(final_std(levels, VARIANTS[sampler]) - 0.5)
    assert orders(errors) == pytest.approx([order] * 3, abs=0.15)


@pytest.mark.parametrize(("sampler", "order"), [("ddim", 1), ("heun", 2), ("dpmpp-2m", 2)])
def test_order_of_convergence_on_a_mixture(sampler, order) -> None:
    """Where the flow is not linear: against many small steps of Heun."""
    x = randn(24, 2)
    fine = sample(MIXTURE, x, trigonometric_levels(1500, 0.9, 0.3), sampler=heun)
    errors = []
    for n in (60, 120, 240):
        last = sample(MIXTURE, x, trigonometric_levels(n, 0.9, 0.3), sampler=VARIANTS[sampler])
        errors.append(float((last - fine).square().mean().sqrt()))
    assert orders(errors) == pytest.approx([order] * 2, abs=0.35)


@pytest.mark.parametrize(
    "step", [ddpm_step, partial(ddpm_step, variance="large"), partial(ddim_step, eta=0.5)]
)
def test_ancestral_samples_of_a_gaussian_have_its_spread(step) -> None:
    """Mean and noise of each step, pushed through 1000 steps exactly: no sampling error."""
    gaussian, variance = GaussianMixture([[0.0]], 0.5), 1.0
    x, noise = torch.tensor([[1.0], [0.0]]), torch.tensor([[0.0], [1.0]])
    for now, next in pairwise(PATHS["linear"].levels(1000)):
        gain, kick = step(x, gaussian(x, now), now, next, noise).flatten().tolist()
        variance = gain**2 * variance + kick**2
    assert variance**0.5 == pytest.approx(0.5, rel=0.01)


# Steps -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PATHS)
def test_ddpm_is_ddim_with_eta_1(name) -> None:
    path, x, noise = PATHS[name], randn(3, 4), randn(3, 4, seed=1)
    for now, next in pairwise(path.levels(9)):
        estimate = Estimate.from_x0(randn(3, 4, seed=2), x, now)
        torch.testing.assert_close(
            ddpm_step(x, estimate, now, next, noise),
            ddim_step(x, estimate, now, next, noise, eta=1.0),
            rtol=1e-9,
            atol=1e-9,
        )


@pytest.mark.parametrize("eta", [0.0, 0.2, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("name", PATHS)
def test_eta_is_the_share_of_the_posterior_spread(eta, name) -> None:
    """Whatever η, x' given x₀ has the level's own mean and variance (Song et al. 2021, lemma 1)."""
    path = PATHS[name]
    now, next = path(0.7 * path.T), path(0.2 * path.T)
    x0, eps, noise = randn(1, 4, seed=1), randn(1, 4, seed=2), randn(1, 4, seed=3)
    x = add_noise(x0, eps, now)
    result = ddim_step(x, Estimate(x0, eps), now, next, noise, eta)
    std = eta * float(posterior(x0, x, now, next)[1]) ** 0.5
    direction = math.sqrt(float(next.sigma) ** 2 - std**2)
    torch.testing.assert_close(result, float(next.alpha) * x0 + direction * eps + std * noise)
    assert direction**2 + std**2 == pytest.approx(float(next.sigma) ** 2)


def test_on_the_straight_path_ddim_is_the_euler_step_of_flow_matching() -> None:
    path, x, velocity = StraightPath(), randn(2, 3), randn(2, 3, seed=1)
    for now, next in pairwise(path.levels(5)):
        estimate = TARGETS["flow"].solve(velocity, x, now)
        expected = x + float(next.t - now.t) * velocity
        torch.testing.assert_close(ddim_step(x, estimate, now, next), expected)


@pytest.mark.parametrize("sampler", ["ddpm", "large variance", "eta = 1"])
@pytest.mark.parametrize("name", PATHS)
def test_the_last_step_adds_no_noise(sampler, name) -> None:
    path, x, step = PATHS[name], randn(2, 3), VARIANTS[sampler].keywords["step"]
    for t in (0.01 * path.T, path.T):
        estimate = Estimate.from_x0(randn(2, 3, seed=1), x, path(t))
        last = step(x, estimate, path(t), path(0), 1e6 * randn(2, 3, seed=2))
        torch.testing.assert_close(last, estimate.x0)


@pytest.mark.parametrize("variance", ["small", "large"])
def test_a_sample_at_its_last_step_gets_no_noise_beside_others_that_do(variance) -> None:
    path, x, noise = PATHS["linear"], randn(3, 4), randn(3, 4, seed=1)
    pairs = [(path(100), path(0)), (path(500), path(300)), (path(1), path(0))]
    now, next = (per_sample(*side) for side in zip(*pairs, strict=True))
    estimate = Estimate.from_x0(randn(3, 4, seed=2), x, now)
    together = ddpm_step(x, estimate, now, next, noise, variance)
    for i, pair in enumerate(pairs):
        one = slice(i, i + 1)
        alone = ddpm_step(x[one], Estimate(estimate.x0[one], estimate.eps[one]), *pair, noise[one], variance)
        torch.testing.assert_close(together[one], alone)


def test_the_large_variance_is_that_of_the_forward_step() -> None:
    """σ̂² = 1 − ᾱ_t/ᾱ_s, β itself for one step; the mean stays the posterior's."""
    path, x = PATHS["linear"], randn(2, 3)
    for now, next in ((path(500), path(499)), (path(500), path(300)), (path(2), path(1))):
        estimate = Estimate.from_x0(randn(2, 3, seed=1), x, now)
        mean = posterior(estimate.x0, x, now, next)[0]
        for variance, expected in (
            ("small", posterior(x, x, now, next)[1]),
            ("large", 1 - (now.alpha / next.alpha) ** 2),
        ):
            kick = ddpm_step(x, estimate, now, next, torch.ones(2, 3), variance) - mean
            torch.testing.assert_close(kick**2, expected.expand(2, 3), rtol=1e-6, atol=0)
    assert float(1 - (path(500).alpha / path(499).alpha) ** 2) == pytest.approx(float(path.betas[499]))


def test_with_eta_0_the_variance_is_never_computed() -> None:
    """On a rising pair it is the root of a negative number, and 0 × NaN is NaN."""
    path, x = PATHS["linear"], randn(2, 3)
    estimate = Estimate(randn(2, 3, seed=1), randn(2, 3, seed=2))
    for now, next in (
        (path(100), path(900)),
        (path(0), path(1)),
        (path(0), path(0)),
        (path(1000), path(1000)),
    ):
        assert bool(ddim_step(x, estimate, now, next).isfinite().all())
        assert bool(ddim_step(x, estimate, now, next, noise=x).isfinite().all())


@pytest.mark.parametrize("eta", [1e-9, 0.5, 1.0])
def test_noise_on_a_rising_pair_is_refused(eta) -> None:
    x = randn(2, 3)
    for path in PATHS.values():
        now, next = path(0.1 * path.T), path(0.8 * path.T)
        estimate = Estimate.from_x0(x, x, now)
        with pytest.raises(ValueError, match="removes noise"):
            ddim_step(x, estimate, now, next, x, eta)
        with pytest.raises(ValueError, match="removes noise"):
            ddpm_step(x, estimate, now, next, x)
        with pytest.raises(ValueError, match="t = 0"):
            ddim_step(x, estimate, path(0), path(0), x, eta)


@pytest.mark.parametrize("eta", [-0.1, 1.1, math.nan])
def test_eta_outside_0_to_1_is_refused(eta) -> None:
    path, x = PATHS["linear"], randn(2, 3)
    with pytest.raises(ValueError, match="eta lies between 0"):
        ddim_step(x, Estimate(x, x), path(5), path(4), x, eta)


def test_noise_that_is_missing_or_would_broadcast_is_refused() -> None:
    path, x = PATHS["linear"], randn(2, 3)
    estimate = Estimate.from_x0(x, x, path(5))
    for step in (partial(ddim_step, eta=0.5), ddpm_step, partial(ddpm_step, variance="large")):
        with pytest.raises(ValueError, match="pass `noise`"):
            step(x, estimate, path(5), path(4))
        for shape in ((1, 3), (2, 1), (3,), ()):
            with pytest.raises(ValueError, match="x and noise must have the same shape"):
                step(x, estimate, path(5), path(4), torch.zeros(shape))


@pytest.mark.parametrize("next_time", [4, 0])
def test_an_unknown_variance_gets_the_nearest_right_one(next_time) -> None:
    path, x = PATHS["linear"], randn(2, 3)
    with pytest.raises(ValueError, match=r"unknown variance 'larger'.*did you mean 'large'"):
        ddpm_step(x, Estimate(x, x), path(5), path(next_time), x, variance="larger")


# Walking ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", VARIANTS)
def test_arguments_are_left_as_they_were(sampler) -> None:
    x, levels = randn(4, 2), PATHS["cosine"].levels(5)
    copy, times = x.clone(), [level.t.clone() for level in levels]
    last = sample(MIXTURE, x, levels, sampler=VARIANTS[sampler])
    assert torch.equal(x, copy)
    assert torch.equal(torch.stack([level.t for level in levels]), torch.stack(times))
    assert last.data_ptr() != x.data_ptr()


def test_the_noise_of_a_sample_comes_from_its_generator() -> None:
    x, levels = randn(4, 2), PATHS["cosine"].levels(5)
    options = {"sampler": SAMPLERS["ddpm"]}
    before = torch.get_rng_state()
    first, again, other = (
        sample(MIXTURE, x, levels, generator=seeded(seed), **options) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)
    assert torch.equal(torch.get_rng_state(), before)  # never the global one


@pytest.mark.parametrize(
    ("step", "asked"),
    [
        (ddim_step, []),
        (partial(ddim_step, eta=0.0), []),
        (partial(ddim_step, eta=0.5), [0, 1, 2, 3, 4]),
        (ddpm_step, [0, 1, 2, 3]),  # none on the step to t = 0
        (partial(ddpm_step, variance="large"), [0, 1, 2, 3]),
        (lambda x, estimate, now, next, noise: ddpm_step(x, estimate, now, next, noise), [0, 1, 2, 3, 4]),
    ],
)
def test_noise_is_drawn_only_where_a_step_asks_for_it(step, asked) -> None:
    x, levels, numbers = randn(4, 2), PATHS["cosine"].levels(5), []

    def noise(number: int) -> torch.Tensor:
        numbers.append(number)
        return randn(4, 2, seed=number)

    generator = seeded()
    untouched = generator.get_state()
    given = sample(MIXTURE, x, levels, step=step, generator=noise)
    assert numbers == asked
    assert torch.equal(given, sample(MIXTURE, x, levels, step=step, generator=noise))
    sample(MIXTURE, x, levels, step=step, generator=generator)
    assert torch.equal(generator.get_state(), untouched) is (asked == [])


def test_without_a_generator_one_is_made_and_the_global_one_stays() -> None:
    x, levels = randn(4, 2), PATHS["cosine"].levels(5)
    before = torch.get_rng_state()
    first, again = (sample(MIXTURE, x, levels, step=ddpm_step) for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("sampler", VARIANTS)
def test_interleaved_samplers_share_nothing(sampler) -> None:
    """A multistep method's history lives in its own generator, not in the function."""
    walk, path = VARIANTS[sampler], PATHS["cosine"]
    stochastic = sampler not in DETERMINISTIC
    jobs = [(randn(4, 2, seed=1), path.levels(9), 1), (randn(6, 2, seed=2), path.levels(5), 2)]

    def walkers():
        return [
            walk(MIXTURE, x, levels, **({"generator": seeded(seed)} if stochastic else {}))
            for x, levels, seed in jobs
        ]

    alone = [list(points) for points in walkers()]
    together = list(zip_longest(*walkers()))
    for i in (0, 1):
        mine = [pair[i] for pair in together if pair[i] is not None]
        assert len(mine) == len(alone[i])
        assert all(torch.equal(a[1], b[1]) for a, b in zip(mine, alone[i], strict=True))


def test_gradients_are_off_inside_and_the_callers_mode_is_kept_outside() -> None:
    modes = []

    def denoiser(x: Tensor, level: Level, condition: object = None) -> Estimate:
        modes.append(torch.is_grad_enabled())
        return MIXTURE(x, level)

    x = randn(2, 2).requires_grad_()
    for sampler in VARIANTS.values():
        for level, point, _ in sampler(denoiser, x, PATHS["cosine"].levels(3)):
            assert torch.is_grad_enabled()
            assert point.requires_grad == (level.t == 1000)  # the caller's own x
    assert not any(modes)


@pytest.mark.parametrize("sampler", VARIANTS)
def test_one_list_of_levels_for_each_sample(sampler) -> None:
    """Each sample walks as if alone, on its own levels and, where there is noise, with its own."""
    walk = VARIANTS[sampler]
    x, noise, path = randn(3, 2), randn(3, 2, seed=9), PATHS["linear"]
    lists = [path.levels(4), path.levels(4, "linspace"), path.levels(4, "leading")]
    together_levels = [per_sample(*levels) for levels in zip(*lists, strict=True)]

    def with_noise(noise: Tensor):
        if sampler in DETERMINISTIC:
            return walk
        step = walk.keywords["step"]
        return partial(
            trajectory, step=lambda x, estimate, now, next, _=None: step(x, estimate, now, next, noise)
        )

    together = sample(MIXTURE, x, together_levels, sampler=with_noise(noise))
    for i in range(3):
        one = slice(i, i + 1)
        alone = sample(MIXTURE, x[one], lists[i], sampler=with_noise(noise[one]))
        torch.testing.assert_close(together[one], alone, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("sampler", VARIANTS)
def test_samples_do_not_depend_on_the_batch_they_are_in(sampler) -> None:
    x, levels = randn(5, 2), PATHS["cosine"].levels(6)
    step = VARIANTS[sampler].keywords.get("step") if isinstance(VARIANTS[sampler], partial) else None

    def quiet(x, estimate, now, next, noise=None):
        return step(x, estimate, now, next, torch.zeros_like(x))

    walk = partial(trajectory, step=quiet) if step else VARIANTS[sampler]
    together = sample(MIXTURE, x, levels, sampler=walk)
    for i in range(5):
        torch.testing.assert_close(sample(MIXTURE, x[i : i + 1], levels, sampler=walk), together[i : i + 1])


@pytest.mark.parametrize("sampler", VARIANTS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_samplers_keep_the_dtype(sampler, dtype) -> None:
    x0, levels = randn(3, 2, 4).to(dtype), PATHS["cosine"].levels(5)
    points = list(VARIANTS[sampler](TrueX0(x0), randn(3, 2, 4, seed=1).to(dtype), levels))
    assert {point.dtype for _, point, _ in points} == {dtype}
    torch.testing.assert_close(
        points[-1][1], x0, rtol=8 * torch.finfo(dtype).eps, atol=8 * torch.finfo(dtype).eps
    )


@pytest.mark.parametrize("sampler", VARIANTS)
def test_an_empty_batch_stays_empty(sampler) -> None:
    x = torch.zeros(0, 2, dtype=torch.float64)
    assert sample(MIXTURE, x, PATHS["cosine"].levels(3), sampler=VARIANTS[sampler]).shape == (0, 2)


@pytest.mark.parametrize("sampler", VARIANTS)
def test_samplers_work_in_inference_mode(sampler) -> None:
    x, levels = randn(3, 2), PATHS["cosine"].levels(4)
    options = {} if sampler in DETERMINISTIC else {"generator": seeded()}
    with torch.inference_mode():
        inside = sample(MIXTURE, x, levels, sampler=VARIANTS[sampler], **options)
    options = {} if sampler in DETERMINISTIC else {"generator": seeded()}
    torch.testing.assert_close(
        inside.clone(), sample(MIXTURE, x, levels, sampler=VARIANTS[sampler], **options)
    )


@pytest.mark.parametrize("sampler", VARIANTS)
def test_fewer_than_two_levels_are_refused(sampler) -> None:
    for levels in ([], PATHS["cosine"].levels(3)[:1]):
        with pytest.raises(ValueError, match="at least two levels"):
            sample(MIXTURE, randn(2, 2), levels, sampler=VARIANTS[sampler])


def test_unknown_coordinates_get_the_nearest_right_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown coordinates 'scale'.*did you mean 'scaled'"):
        sample(MIXTURE, randn(2, 2), PATHS["cosine"].levels(3), sampler=heun, coordinates="scale")


# Zero terminal SNR, and σ = 0 at the end -------------------------------------------------------------


@pytest.mark.parametrize("sampler", [name for name in VARIANTS if name != "heun scaled"])
@pytest.mark.parametrize("path", [ZERO_TERMINAL, StraightPath()])
@pytest.mark.parametrize("n", [1, 2, 5, 30])
def test_from_zero_terminal_snr_samples_are_finite(sampler, path, n) -> None:
    for _, x, estimate in VARIANTS[sampler](MIXTURE, randn(50, 2), path.levels(n)):
        assert bool(x.isfinite().all() & estimate.x0.isfinite().all() & estimate.eps.isfinite().all())
    assert float(x.abs().max()) < 3  # where the data is


def test_scaled_coordinates_at_zero_terminal_snr_are_a_clear_error() -> None:
    for path in (ZERO_TERMINAL, StraightPath()):
        with pytest.raises(ValueError, match=r'α = 0.*coordinates="velocity"'):
            sample(MIXTURE, randn(2, 2), path.levels(3), sampler=heun, coordinates="scaled")


def test_epsilon_at_zero_terminal_snr_is_a_clear_error() -> None:
    denoiser = NetworkDenoiser(TrueNetwork(randn(2, 2), ZERO_TERMINAL, EPSILON), ZERO_TERMINAL, EPSILON)
    for sampler in SAMPLERS.values():
        with pytest.raises(ValueError, match="use 'v' there"):
            sample(denoiser, randn(2, 2), ZERO_TERMINAL.levels(3), sampler=sampler)


@pytest.mark.parametrize("sampler", VARIANTS)
def test_starting_at_t_0_is_a_clear_error(sampler) -> None:
    levels = PATHS["cosine"].levels(3)[::-1]
    with pytest.raises(ValueError, match="t = 0"):
        sample(MIXTURE, randn(2, 2), levels, sampler=VARIANTS[sampler])
    denoiser = NetworkDenoiser(TrueNetwork(randn(2, 2), PATHS["cosine"], X0), PATHS["cosine"], X0)
    with pytest.raises(ValueError, match="t = 0"):
        sample(denoiser, randn(2, 2), levels, sampler=VARIANTS[sampler])


@pytest.mark.parametrize("sampler", VARIANTS)
def test_the_last_step_ends_at_0_and_the_one_before_it_is_finite(sampler) -> None:
    """log 0 at the end (Heun, DPM-Solver++), or a last σ above 0 that leaves noise in the picture."""
    levels = PATHS["linear"].levels(6)
    assert float(levels[-1].sigma) == 0
    *_, before, last = list(VARIANTS[sampler](MIXTURE, randn(20, 2), levels))
    assert bool(before[1].isfinite().all())
    torch.testing.assert_close(last[1], last[2].x0)


# Inversion -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PATHS)
def test_inversion_is_finite_and_never_asks_at_t_0(name) -> None:
    times = []

    def denoiser(x: Tensor, level: Level, condition: object = None) -> Estimate:
        times.append(float(level.t))
        return MIXTURE(x, level)

    levels = PATHS[name].levels(10)
    x = invert(denoiser, MIXTURE.sample(20, seeded())[0], levels)
    assert bool(x.isfinite().all())
    rising = [float(level.t) for level in levels[::-1]]
    assert times == [rising[1], *rising[1:-1]]


def test_inversion_then_sampling_comes_back_and_closer_with_more_steps() -> None:
    x0, path = MIXTURE.sample(200, seeded())[0], PATHS["linear"]
    errors = []
    for n in (10, 40, 160, 640):
        levels = path.levels(n)
        back = sample(MIXTURE, invert(MIXTURE, x0, levels), levels)
        errors.append(float((back - x0).square().mean().sqrt()))
    assert all(b < a / 1.8 for a, b in pairwise(errors))
    assert errors[-1] < 0.03


def test_inversion_with_an_oracle_gives_the_noise_itself() -> None:
    x0, eps = randn(3, 4, seed=1), randn(3, 4, seed=2)
    for path in PATHS.values():
        levels = path.levels(7)
        noise = invert(lambda x, level, condition=None: Estimate(x0, eps), x0, levels)
        torch.testing.assert_close(noise, add_noise(x0, eps, levels[0]), rtol=1e-12, atol=1e-12)


def test_inverted_data_is_normal() -> None:
    x0, path = MIXTURE.sample(4000, seeded())[0], PATHS["cosine"]
    noise = invert(MIXTURE, x0, path.levels(200))
    torch.testing.assert_close(noise.mean(0), torch.zeros(2).double(), atol=0.06, rtol=0)
    torch.testing.assert_close(noise.T.cov(), torch.eye(2).double(), atol=0.1, rtol=0)


# Back up ---------------------------------------------------------------------------------------------


def test_renoise_after_a_step_has_the_statistics_of_the_level() -> None:
    """RePaint's move: down by the true posterior, up again by the chain, and back where it was."""
    path, generator = DiscreteVP(linear_betas(50, end=0.2)), seeded()
    x0 = torch.full((100_000, 1), 0.8, dtype=torch.float64)

    def noise() -> Tensor:
        return torch.randn(x0.shape, generator=generator, dtype=x0.dtype)

    now, next = path(30), path(20)
    x = add_noise(x0, noise(), now)
    down = ddpm_step(x, Estimate.from_x0(x0, x, now), now, next, noise())
    up = renoise(down, next, now, noise())
    for point, level in ((down, next), (up, now)):
        assert float(point.mean()) == pytest.approx(0.8 * float(level.alpha), abs=0.01)
        assert float(point.std()) == pytest.approx(float(level.sigma), rel=0.01)
    correlation = float(torch.corrcoef(torch.cat([down, up], 1).T)[0, 1])
    expected = float(forward_kernel(next, now)[0] * next.sigma / now.sigma)
    assert correlation == pytest.approx(expected, abs=0.01)


@pytest.mark.gpu
@pytest.mark.parametrize("sampler", VARIANTS)
def test_samplers_are_the_same_on_a_gpu(sampler) -> None:
    torch.manual_seed(0)
    linear, network, path = torch.nn.Linear(4, 4), torch.nn.Module(), PATHS["cosine"]
    network.linear = linear
    network.forward = lambda x, time, condition=None: torch.tanh(linear(x) + time[:, None] / 1000)
    x = randn(3, 4, dtype=torch.float32)
    for levels in (path.levels(5), [per_sample(*[level] * 3) for level in path.levels(5)]):
        walk, step = VARIANTS[sampler], None
        if sampler not in DETERMINISTIC:
            step = walk.keywords.get("step")

        def quiet(x, estimate, now, next, noise=None, step=step):
            return step(x, estimate, now, next, torch.ones_like(x))

        if step:
            walk = partial(trajectory, step=quiet)
        denoiser = NetworkDenoiser(network, path, V)
        network.cpu()
        here = sample(denoiser, x, levels, sampler=walk)
        network.cuda()
        there = sample(denoiser, x.cuda(), levels, sampler=walk)
        torch.testing.assert_close(there.cpu(), here, rtol=1e-3, atol=1e-3)


def test_repaint_walks_every_stretch_again_and_calls_only_on_the_way_down() -> None:
    levels = DiscreteVP(linear_betas(1000)).levels(250)
    walked = there_and_back(levels, jump=10, resample=10)
    rises = sum(float(b.t) > float(a.t) for a, b in pairwise(walked))
    assert (len(walked) - 1 - rises, rises) == (2410, 2160)  # diffusers' numbers for T = 250, j = r = 10
    assert walked[0].t == levels[0].t
    assert walked[-1].t == 0
    assert there_and_back(levels, resample=1) == levels
    with pytest.raises(ValueError, match="at least 1, got 0 and 10"):
        there_and_back(levels, jump=0)
    with pytest.raises(ValueError, match=r"whole and at least 1, got 10 and 2\.5"):
        there_and_back(levels, resample=2.5)  # type: ignore[arg-type]  # it went up for ever
