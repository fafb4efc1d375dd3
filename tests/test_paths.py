"""Paths, their schedules and the kernels that move along them."""

import math
from itertools import pairwise

import pytest
import torch

from diffusion_lessons import DiscreteVP, Level, StraightPath, add_noise, linear_betas, posterior, renoise
from diffusion_lessons.paths import forward_kernel
from diffusion_lessons.times import logit_normal, stratified
from tests.oracles import PATHS, ZERO_TERMINAL, per_sample, randn, seeded

DISCRETE = [name for name, path in PATHS.items() if isinstance(path, DiscreteVP)]


# Levels --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DISCRETE)
def test_whole_times_are_exact_and_t_0_is_data(name) -> None:
    path = PATHS[name]
    level = path(torch.arange(path.T + 1))
    assert torch.equal(level.alpha, path.alphas_cumprod.sqrt())
    assert torch.equal(level.sigma, (1 - path.alphas_cumprod).sqrt())
    assert (float(path(0).alpha), float(path(0).sigma)) == (1.0, 0.0)
    assert float(path(0).snr) == float(path(0).log_snr) == math.inf
    torch.testing.assert_close(level.alpha**2 + level.sigma**2, torch.ones(path.T + 1).double())


@pytest.mark.parametrize("name", PATHS)
def test_levels_fall_everywhere_between_whole_times_too(name) -> None:
    path = PATHS[name]
    level = path(torch.linspace(0, path.T, 7001, dtype=torch.float64))
    assert bool((level.alpha.diff() < 0).all())
    assert bool((level.sigma.diff() > 0).all())
    assert bool(level.alpha.isfinite().all() & level.sigma.isfinite().all())


def test_between_whole_times_log_snr_is_interpolated() -> None:
    path = PATHS["linear"]
    low, high = path(400).log_snr, path(401).log_snr
    torch.testing.assert_close(path(400.25).log_snr, 0.75 * low + 0.25 * high, rtol=1e-9, atol=0)


def test_where_log_snr_is_infinite_alphas_cumprod_is_interpolated() -> None:
    first = float(ZERO_TERMINAL.alphas_cumprod[1])
    assert float(ZERO_TERMINAL(0.25).alpha ** 2) == pytest.approx(1 - 0.25 * (1 - first), rel=1e-12)
    last = float(ZERO_TERMINAL.alphas_cumprod[-2])
    assert float(ZERO_TERMINAL(999.5).alpha ** 2) == pytest.approx(last / 2, rel=1e-12)


def test_the_straight_path() -> None:
    level = StraightPath()(torch.tensor([0.0, 0.25, 1.0]))
    assert level.t.dtype == level.alpha.dtype == torch.float64
    assert level.alpha.tolist() == [1.0, 0.75, 0.0]
    assert level.sigma.tolist() == [0.0, 0.25, 1.0]


@pytest.mark.parametrize("name", PATHS)
def test_a_level_has_the_shape_of_its_time_and_lives_in_float64_on_the_cpu(name) -> None:
    path = PATHS[name]
    for t, shape in ((1, ()), (0.5, ()), (torch.tensor(1.0), ()), (torch.ones(3, dtype=torch.long), (3,))):
        for value in (path(t).t, path(t).alpha, path(t).sigma, path(t).snr):
            assert value.shape == shape
            assert value.dtype == torch.float64
            assert value.device.type == "cpu"
    assert path(torch.zeros(0)).alpha.shape == (0,)


def test_numbers_are_not_rounded_to_float32_on_the_way() -> None:
    assert float(StraightPath()(0.1).t) == float(StraightPath()(0.1).sigma) == 0.1


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("t", [-1e-9, 1000.001, math.nan, torch.tensor([0.5, -1.0])])
def test_times_outside_the_path_are_refused(name, t) -> None:
    with pytest.raises(ValueError, match=r"times must lie in \[0, "):
        PATHS[name](t)


def test_of_many_times_the_first_that_is_outside_is_named() -> None:
    with pytest.raises(ValueError, match=r"is noise\), got 1\.5$"):
        StraightPath()(torch.tensor([0.5, 1.5, -1.0]))


@pytest.mark.parametrize("name", PATHS)
def test_times_of_the_wrong_rank_are_refused(name) -> None:
    with pytest.raises(ValueError, match=r"shape \(\) or \(B,\)"):
        PATHS[name](torch.ones(2, 1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_like_casts_to_the_sample_and_keeps_its_dtype(dtype) -> None:
    x = torch.ones(2, 3, 4, 5, dtype=dtype)
    one, each = PATHS["cosine"](500), PATHS["cosine"](torch.tensor([1.0, 999.0]))
    assert [value.shape for value in one.like(x)] == [(), ()]
    assert [value.shape for value in each.like(x)] == [(2, 1, 1, 1), (2, 1, 1, 1)]
    for level in (one, each):
        for value, exact in zip(level.like(x), (level.alpha, level.sigma), strict=True):
            assert value.dtype == (value * x).dtype == dtype
            torch.testing.assert_close(value.flatten(), exact.to(dtype).flatten())


def test_levels_stay_off_the_device_until_cast() -> None:
    """Apple's GPUs have no float64: only values already in the dtype of x may go to its device."""
    x = torch.empty(2, 3, device="meta", dtype=torch.float16)
    level = PATHS["linear"](torch.tensor([5.0, 6.0]))
    alpha, _ = level.like(x)
    assert (alpha.device.type, alpha.dtype, level.alpha.device.type) == ("meta", torch.float16, "cpu")
    assert (PATHS["linear"](5).like(x)[0] * x).device.type == "meta"


@pytest.mark.parametrize("batch", [1, 3, 5])
def test_one_time_for_each_sample_or_one_for_all(batch) -> None:
    level = PATHS["linear"](torch.full((batch,), 10.0))
    with pytest.raises(ValueError, match="one time for all samples, or one for each"):
        level.like(torch.ones(4, 2))


def test_a_level_of_rank_two_is_refused() -> None:
    level = Level(*(torch.ones(4, 1) for _ in range(3)))
    with pytest.raises(ValueError, match="does not fit a batch"):
        level.like(torch.ones(4, 2))


# Spacings ------------------------------------------------------------------------------------------


def times(path, n: int, spacing: str = "trailing") -> list[float]:
    return [float(level.t) for level in path.levels(n, spacing)]


def test_leading_starts_far_below_T_and_trailing_at_T() -> None:
    path = PATHS["linear"]
    assert times(path, 10, "leading") == [901, 801, 701, 601, 501, 401, 301, 201, 101, 1, 0]
    assert times(path, 10, "trailing") == [1000, 900, 800, 700, 600, 500, 400, 300, 200, 100, 0]
    assert times(path, 10, "linspace") == [1000, 889, 778, 667, 556, 445, 334, 223, 112, 1, 0]


def test_one_step() -> None:
    path = PATHS["linear"]
    assert times(path, 1, "trailing") == times(path, 1, "linspace") == [1000, 0]
    assert times(path, 1, "leading") == [1, 0]
    assert times(StraightPath(), 1) == [1, 0]


@pytest.mark.parametrize("T", [1, 2, 7, 50, 64])
@pytest.mark.parametrize("spacing", ["trailing", "leading", "linspace"])
def test_every_number_of_steps_gives_falling_whole_times_that_end_at_0(T, spacing) -> None:
    """For n that do not divide T too, where other projects step to the wrong place."""
    path = DiscreteVP(linear_betas(T))
    for n in range(1, T + 1):
        visited = times(path, n, spacing)
        assert len(visited) == n + 1
        assert visited[-1] == 0
        assert all(now > next for now, next in pairwise(visited))
        assert all(t == int(t) and 0 <= t <= T for t in visited)
        if spacing != "leading":
            assert visited[0] == T
    assert times(path, T, spacing) == list(range(T, -1, -1))


@pytest.mark.parametrize("n", [1, 3, 7, 50])
@pytest.mark.parametrize("spacing", ["trailing", "linspace"])
def test_the_straight_path_is_evenly_spaced(n, spacing) -> None:
    assert times(StraightPath(), n, spacing) == pytest.approx([k / n for k in range(n, -1, -1)], abs=1e-15)


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("n", [0, -1, 2.0, None, "10"])
def test_a_bad_number_of_steps_is_refused(name, n) -> None:
    with pytest.raises(ValueError, match="number of steps must be a whole number"):
        PATHS[name].levels(n)


def test_more_steps_than_T_are_refused() -> None:
    with pytest.raises(ValueError, match=r"from 1 to T = 1000, got 1001"):
        PATHS["linear"].levels(1001)


@pytest.mark.parametrize("name", PATHS)
def test_an_unknown_spacing_gets_the_nearest_right_one(name) -> None:
    with pytest.raises(ValueError, match=r"unknown spacing 'trailling'.*did you mean 'trailing'"):
        PATHS[name].levels(5, "trailling")


def test_leading_has_no_meaning_on_the_straight_path() -> None:
    with pytest.raises(ValueError, match="belongs to discrete paths"):
        StraightPath().levels(5, "leading")


# Times for training and for networks ---------------------------------------------------------------


def test_stratified_draws_have_one_number_in_each_stratum() -> None:
    u = stratified(1000, seeded())
    assert u.dtype == torch.float64
    assert torch.equal((u * 1000).floor(), torch.arange(1000, dtype=torch.float64))
    assert 0.4 < float((u * 1000 % 1).mean()) < 0.6
    assert torch.equal(u, stratified(1000, seeded()))
    assert not torch.equal(u, stratified(1000, seeded(1)))


def test_discrete_times_are_whole_and_uniform_on_1_to_T() -> None:
    path = DiscreteVP(linear_betas(8))
    generator = seeded()
    drawn = torch.cat([path.sample_times(100, generator) for _ in range(80)])
    assert drawn.dtype == torch.float64
    counts = torch.bincount(drawn.long(), minlength=9)
    assert int(counts[0]) == 0
    assert len(counts) == 9
    assert bool(((counts[1:] - 1000).abs() < 80).all())  # stratified: far closer than independent draws


def test_a_batch_of_T_visits_every_time_once() -> None:
    assert PATHS["linear"].sample_times(1000, seeded()).tolist() == list(range(1, 1001))


def test_straight_times_are_uniform_and_never_0() -> None:
    drawn = StraightPath().sample_times(10_000, seeded())
    assert float(drawn.min()) > 0
    assert float(drawn.max()) <= 1
    assert float(drawn.mean()) == pytest.approx(0.5, abs=1e-4)
    assert float(drawn.var()) == pytest.approx(1 / 12, abs=1e-4)


def test_the_smallest_draw_is_noise_and_not_data(monkeypatch) -> None:
    """Draws lie in [0, 1): a straight time is 1 minus that, since at t = 0 there is nothing to learn."""
    monkeypatch.setattr(
        "diffusion_lessons.paths.stratified", lambda batch, generator=None: torch.zeros(batch)
    )
    assert StraightPath().sample_times(2).tolist() == [1, 1]
    assert PATHS["linear"].sample_times(2).tolist() == [1, 1]


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("batch", [0, -2])
def test_an_empty_batch_of_times_is_refused(name, batch) -> None:
    with pytest.raises(ValueError, match="at least one sample"):
        PATHS[name].sample_times(batch)


@pytest.mark.parametrize("name", PATHS)
def test_a_time_is_found_again_by_its_snr(name) -> None:
    """Between whole times too, and where no signal is left."""
    path = PATHS[name]
    times = (
        torch.linspace(1e-3, 1, 777).double() * (path.T - 1) + 1 if path.T > 1 else torch.linspace(0, 1, 99)
    )
    found = path.time_at(path(times).log_snr)
    torch.testing.assert_close(found, times.double(), rtol=1e-7, atol=1e-9)
    one = path.time_at(path(path.T).log_snr)
    assert (one.shape, float(one)) == ((), path.T)


@pytest.mark.parametrize("name", DISCRETE)
def test_a_time_beyond_the_snr_of_a_path_is_its_first_or_last(name) -> None:
    path = PATHS[name]
    beyond = torch.tensor([-math.inf, -1e3, 1e3, math.inf], dtype=torch.float64)
    assert path.time_at(beyond).tolist() == [path.T, path.T, 1, 1]
    assert DiscreteVP([0.3]).time_at(beyond).tolist() == [1] * 4


# Warps ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (-0.5, 0.6), (1.0, 1.4)])
@pytest.mark.parametrize("name", ["cosine", "straight"])
def test_logit_normal_times_have_the_density_that_the_paper_gives(name, mean, std) -> None:
    """Esser et al. 2024, section 3.1, bin by bin."""
    path, n = PATHS[name], 200_000
    drawn = path.sample_times(n, seeded(), logit_normal(mean, std)) / path.T
    assert bool(((drawn > 0) & (drawn <= 1)).all())
    drawn -= 0.5 / path.T if path.T > 1 else 0  # a whole time stands for the share of T that ends there
    edges = torch.linspace(0.01, 0.99, 50).double()
    found = torch.histogram(drawn, edges).hist / n / 0.02
    middle = (edges[1:] + edges[:-1]) / 2
    expected = (-((middle.logit() - mean) ** 2) / (2 * std**2)).exp() / (
        std * math.sqrt(2 * math.pi) * middle * (1 - middle)
    )
    assert float((found - expected).abs().max()) < 0.06


def test_a_logit_normal_is_drawn_by_the_batch_and_by_the_seed() -> None:
    path, warp = StraightPath(), logit_normal()
    one, two = (path.sample_times(64, seeded(seed), warp) for seed in (0, 1))
    assert torch.equal(one, path.sample_times(64, seeded(), warp))
    assert not torch.equal(one, two)
    assert float(one.median()) == pytest.approx(0.5, abs=0.02)  # one from each stratum, warped
    assert torch.equal(
        path.sample_times(64, seeded(), lambda shares: shares), path.sample_times(64, seeded())
    )


def test_a_warp_to_the_very_end_stays_on_the_path() -> None:
    path = PATHS["cosine"]
    assert path.sample_times(4, seeded(), torch.ones_like).tolist() == [path.T] * 4
    assert path.sample_times(4, seeded(), torch.zeros_like).tolist() == [1] * 4


@pytest.mark.parametrize(("mean", "std"), [(0.0, 0.0), (0.0, -1.0), (math.nan, 1.0), (0.0, math.inf)])
def test_a_logit_normal_without_a_spread_is_refused(mean, std) -> None:
    with pytest.raises(ValueError, match="finite mean and a std above 0"):
        logit_normal(mean, std)


def test_network_times_are_what_published_weights_expect() -> None:
    t = torch.tensor([1.0, 1000.0], dtype=torch.float64)
    assert PATHS["linear"].network_time(t).tolist() == [0, 999]
    assert StraightPath().network_time(t[:1] / 4).tolist() == [250]


# Moving along a path -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PATHS)
def test_add_noise_is_alpha_x0_plus_sigma_noise(name) -> None:
    path = PATHS[name]
    x0, noise = randn(3, 2, 4, seed=1), randn(3, 2, 4, seed=2)
    for t in (0.0, 0.3 * path.T, 1.0 * path.T):
        level = path(t)
        expected = float(level.alpha) * x0 + float(level.sigma) * noise
        torch.testing.assert_close(add_noise(x0, noise, level), expected, rtol=1e-14, atol=1e-14)
    assert torch.equal(add_noise(x0, noise, path(0)), x0)


@pytest.mark.parametrize("name", DISCRETE)
def test_add_noise_is_the_chain_of_one_step_kernels(name) -> None:
    """A confusion of t and t − 1 shows here: mean and variance of the chain, in closed form."""
    path = PATHS[name]
    mean, variance = 1.0, 0.0
    for t, beta in enumerate(path.betas.tolist(), start=1):
        mean, variance = math.sqrt(1 - beta) * mean, (1 - beta) * variance + beta
        if t in (1, 2, 3, 500, 999, 1000):
            level = path(t)
            assert float(level.alpha) == pytest.approx(mean, rel=1e-9)
            assert float(level.sigma**2) == pytest.approx(variance, rel=1e-9)
            assert [float(v) for v in forward_kernel(path(t - 1), level)] == pytest.approx(
                [math.sqrt(1 - beta), math.sqrt(beta)], rel=1e-7
            )


def test_the_chain_of_renoise_has_the_moments_of_add_noise() -> None:
    path = DiscreteVP(linear_betas(20, end=0.3))
    x0 = torch.full((200_000, 1), 0.7, dtype=torch.float64)
    generator, x = seeded(), x0
    for t in range(20):
        x = renoise(x, path(t), path(t + 1), torch.randn(x.shape, generator=generator, dtype=x.dtype))
    end = path(20)
    assert float(x.mean()) == pytest.approx(0.7 * float(end.alpha), abs=4 * float(end.sigma) / 200_000**0.5)
    assert float(x.std()) == pytest.approx(float(end.sigma), rel=4 / 400_000**0.5)


@pytest.mark.parametrize("name", PATHS)
def test_renoise_in_two_jumps_is_one_jump(name) -> None:
    path = PATHS[name]
    low, middle, high = (path(share * path.T) for share in (0.1, 0.4, 0.8))
    (r1, s1), (r2, s2), (r, s) = (
        forward_kernel(*pair) for pair in ((low, middle), (middle, high), (low, high))
    )
    torch.testing.assert_close(r1 * r2, r)
    torch.testing.assert_close((r2 * s1) ** 2 + s2**2, s**2)
    torch.testing.assert_close(r * low.alpha, high.alpha)
    torch.testing.assert_close((r * low.sigma) ** 2 + s**2, high.sigma**2)
    x, noise = randn(2, 3), randn(2, 3, seed=1)
    torch.testing.assert_close(renoise(x, low, high, noise), float(r) * x + float(s) * noise)
    assert torch.equal(renoise(x, low, low, noise), x)


@pytest.mark.parametrize("name", PATHS)
def test_going_down_with_renoise_is_refused(name) -> None:
    path = PATHS[name]
    with pytest.raises(ValueError, match="removes noise"):
        renoise(randn(2, 3), path(0.8 * path.T), path(0.4 * path.T), randn(2, 3))
    with pytest.raises(ValueError, match="removes noise"):  # one sample of two
        renoise(randn(2, 3), path(torch.tensor([0.5, 0.5])), path(torch.tensor([0.6, 0.4])), randn(2, 3))
    with pytest.raises(ValueError, match="removes noise"):
        posterior(randn(2, 3), randn(2, 3), path(0.4 * path.T), path(0.8 * path.T))


def test_moves_need_no_path_that_preserves_variance() -> None:
    """α = 1 throughout, as in variance-exploding models: only σ tells up from down."""
    low, high = (Level(*torch.tensor([sigma, 1.0, sigma]).double()) for sigma in (0.5, 1.3))
    assert [float(v) for v in forward_kernel(low, high)] == pytest.approx([1, 1.2], rel=1e-6)
    with pytest.raises(ValueError, match="removes noise"):
        forward_kernel(high, low)


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize(("low", "high"), [(0.2, 0.7), (0.001, 0.002), (0.999, 1.0), (0.5, 1.0)])
def test_posterior_is_the_joint_gaussian_conditioned(name, low, high) -> None:
    """(x_s, x_t) given x₀ is a Gaussian in two dimensions: condition it by brute force."""
    path = PATHS[name]
    next, now = path(low * path.T), path(high * path.T)
    ratio = float(now.alpha / next.alpha)
    cov = ratio * float(next.sigma) ** 2
    x0, x = randn(4, seed=1), randn(4, seed=2)
    gain = cov / float(now.sigma) ** 2
    expected = float(next.alpha) * x0 + gain * (x - float(now.alpha) * x0)
    mean, variance = posterior(x0, x, now, next)
    torch.testing.assert_close(mean, expected, rtol=1e-7, atol=1e-9)
    assert float(variance) == pytest.approx(float(next.sigma) ** 2 - gain * cov, rel=1e-6, abs=1e-12)


def test_posterior_is_the_formula_of_ddpm() -> None:
    path = PATHS["linear"]
    x0, x = randn(4, seed=1), randn(4, seed=2)
    for t in (2, 10, 1000):
        beta, before, bar = (float(v) for v in (path.betas[t - 1], *path.alphas_cumprod[t - 1 : t + 1]))
        expected = before**0.5 * beta / (1 - bar) * x0 + (1 - beta) ** 0.5 * (1 - before) / (1 - bar) * x
        mean, variance = posterior(x0, x, path(t), path(t - 1))
        torch.testing.assert_close(mean, expected, rtol=1e-8, atol=1e-8)
        assert float(variance) == pytest.approx((1 - before) / (1 - bar) * beta, rel=1e-8)


@pytest.mark.parametrize("name", PATHS)
def test_posterior_variance_is_0_only_on_the_last_step(name) -> None:
    path = PATHS[name]
    levels = path.levels(10)
    for now, next in pairwise(levels):
        mean, variance = posterior(randn(2, 3), randn(2, 3, seed=1), now, next)
        assert bool(mean.isfinite().all())
        assert (float(variance) == 0) == (float(next.t) == 0)
    assert torch.equal(mean, randn(2, 3))  # the mean of the last step is x₀ itself


def test_a_posterior_at_t_0_is_refused() -> None:
    path = PATHS["linear"]
    with pytest.raises(ValueError, match="t = 0"):
        posterior(randn(2, 3), randn(2, 3), path(0), path(0))
    with pytest.raises(ValueError, match="t = 0"):  # one sample of two
        posterior(randn(2, 3), randn(2, 3), path(torch.tensor([5, 0])), path(torch.tensor([4, 0])))


@pytest.mark.parametrize("name", PATHS)
def test_moves_with_one_level_for_each_sample(name) -> None:
    path = PATHS[name]
    x, noise = randn(3, 2, 2, seed=1), randn(3, 2, 2, seed=2)
    shares = ((0.1, 0.2), (0.3, 0.9), (0.0, 1.0))
    lows, highs = ([path(pair[i] * path.T) for pair in shares] for i in (0, 1))
    low, high = per_sample(*lows), per_sample(*highs)
    moved = {
        "noised": add_noise(x, noise, high),
        "renoised": renoise(x, low, high, noise),
        "mean": posterior(x, noise, high, low)[0],
        "variance": posterior(x, noise, high, low)[1],
    }
    for i in range(3):
        one = slice(i, i + 1)
        alone = {
            "noised": add_noise(x[one], noise[one], highs[i]),
            "renoised": renoise(x[one], lows[i], highs[i], noise[one]),
            "mean": posterior(x[one], noise[one], highs[i], lows[i])[0],
            "variance": posterior(x[one], noise[one], highs[i], lows[i])[1],
        }
        for key, value in alone.items():
            torch.testing.assert_close(moved[key][one].squeeze(0), value.squeeze(0), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("shape", [(1, 3), (2, 1), (3,), ()])
def test_shapes_that_would_broadcast_are_refused(shape) -> None:
    path, x = PATHS["linear"], randn(2, 3)
    with pytest.raises(ValueError, match="x0 and noise must have the same shape"):
        add_noise(x, torch.zeros(shape), path(5))
    with pytest.raises(ValueError, match="x and noise must have the same shape"):
        renoise(x, path(5), path(6), torch.zeros(shape))
    with pytest.raises(ValueError, match="x0 and x must have the same shape"):
        posterior(torch.zeros(shape), x, path(6), path(5))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool])
def test_pictures_that_are_not_floats_are_refused(dtype) -> None:
    """Cast to uint8, α and σ are 0: the result would be black, not noisy."""
    x0 = torch.ones(2, 3, dtype=dtype)
    with pytest.raises(ValueError, match="float"):
        add_noise(x0, torch.randn(2, 3, generator=seeded()), PATHS["linear"](5))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_moves_keep_the_dtype_of_the_sample(dtype) -> None:
    path = PATHS["cosine"]
    x, noise = randn(2, 3).to(dtype), randn(2, 3, seed=1).to(dtype)
    now, next = path(torch.tensor([10, 990])), path(torch.tensor([9, 500]))
    results = (add_noise(x, noise, now), renoise(x, next, now, noise), posterior(x, noise, now, next)[0])
    exact = (
        add_noise(x.double(), noise.double(), now),
        renoise(x.double(), next, now, noise.double()),
        posterior(x.double(), noise.double(), now, next)[0],
    )
    tolerance = 4 * torch.finfo(dtype).eps
    for result, truth in zip(results, exact, strict=True):
        assert result.dtype == dtype
        torch.testing.assert_close(result.double(), truth, rtol=tolerance, atol=4 * tolerance)


def test_an_empty_batch_stays_empty() -> None:
    path, x = PATHS["linear"], torch.zeros(0, 3)
    assert add_noise(x, x, path(5)).shape == add_noise(x, x, path(torch.zeros(0))).shape == (0, 3)
    assert renoise(x, path(5), path(6), x).shape == posterior(x, x, path(6), path(5))[0].shape == (0, 3)


@pytest.mark.gpu
@pytest.mark.parametrize("name", PATHS)
def test_moves_are_the_same_on_a_gpu(name) -> None:
    path = PATHS[name]
    x, noise = randn(3, 2, 4, dtype=torch.float32), randn(3, 2, 4, seed=1, dtype=torch.float32)
    for now, next in (
        (path(0.5 * path.T), path(0.2 * path.T)),
        (path(torch.tensor([0.5, 0.6, 1.0])), path(torch.tensor([0.1, 0.0, 0.9]))),
    ):
        for move in (
            lambda x, noise, now, next: add_noise(x, noise, now),
            lambda x, noise, now, next: renoise(x, next, now, noise),
            lambda x, noise, now, next: posterior(x, noise, now, next)[0],
        ):
            there = move(x.cuda(), noise.cuda(), now, next)
            assert there.is_cuda
            torch.testing.assert_close(there.cpu(), move(x, noise, now, next), rtol=1e-6, atol=1e-6)
