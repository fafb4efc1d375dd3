"""One loss for every target, its weights, and the variational bound term by term."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from diffusion_lessons import (
    EPSILON,
    FLOW,
    X0,
    DiscreteVP,
    Estimate,
    GaussianMixture,
    NetworkDenoiser,
    StraightPath,
    V,
    add_noise,
    cosine_betas,
    diffusion_loss,
    posterior,
    vlb_terms,
)
from diffusion_lessons.losses import (
    _log_bin_probability,
    classifier_loss,
    min_snr,
    p2,
    simple,
    snr_plus_one,
    truncated_snr,
    variational_bound,
)
from diffusion_lessons.targets import TARGETS
from tests.oracles import PATHS, ZERO_TERMINAL, TrueNetwork, TrueX0, randn, seeded

PATH = PATHS["cosine"]
WEIGHTS = {
    "simple": simple,
    "truncated snr": truncated_snr,
    "snr + 1": snr_plus_one,
    "min snr": min_snr(5.0),
    "p2": p2(0.5, 1.0),
    "bound": variational_bound(PATH),
}


class Constant(nn.Module):
    """Outputs its target for one fixed, wrong guess at x₀, whatever it is asked."""

    def __init__(self, guess: Tensor, path, target) -> None:
        super().__init__()
        self.guess, self.path, self.target = guess, path, target

    def forward(self, x: Tensor, time: Tensor, condition: object = None) -> Tensor:
        self.x, self.time, self.condition = x, time, condition
        level = self.path(time + 1 if isinstance(self.path, DiscreteVP) else time / 1000)
        return self.target.of(*Estimate.from_x0(self.guess, x, level), level)


# Weights -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("target", TARGETS)
def test_every_target_has_the_same_implied_weight_on_x0(weight, target) -> None:
    """The Min-SNR bug, min(SNR + 1, γ) for v, is a weight that depends on the target."""
    x0, noise, guess = (randn(5, 2, 3, 3, seed=seed) for seed in (1, 2, 3))
    t = torch.tensor([1, 20, 400, 800, 999])
    loss = diffusion_loss(
        Constant(guess, PATH, TARGETS[target]), PATH, TARGETS[target], x0, noise, t, weight=WEIGHTS[weight]
    )
    expected = WEIGHTS[weight](PATH(t)) * (x0 - guess).square().flatten(1).mean(1)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", ["linear", "straight", "zero terminal"])
def test_the_plain_error_of_a_target_is_a_weight_on_x0(name) -> None:
    path = PATHS[name]
    t = torch.tensor([0.01, 0.3, 0.8]) * path.T
    snr = path(t).snr
    x0, noise, guess = (randn(3, 4, seed=seed) for seed in (1, 2, 3))
    alpha, sigma = path(t).alpha, path(t).sigma
    implied = {
        "epsilon": snr,
        "x0": torch.ones(3),
        "v": ((alpha**2 + sigma**2) / sigma) ** 2,  # SNR + 1 where variance is preserved
        "flow": ((alpha + sigma) / sigma) ** 2,
    }
    for target_name, target in TARGETS.items():
        loss = diffusion_loss(Constant(guess, path, target), path, target, x0, noise, t)
        expected = implied[target_name] * (x0 - guess).square().mean(1)
        torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=0)


def test_simple_is_the_plain_error_in_epsilon_and_snr_plus_one_in_v() -> None:
    x0, noise = randn(3, 4, seed=1), randn(3, 4, seed=2)
    network = nn.Module()
    network.forward = lambda x, time, condition=None: torch.tanh(x)
    t = torch.tensor([1, 300, 1000])
    for target, weight in ((EPSILON, simple), (V, snr_plus_one)):
        plain = diffusion_loss(network, PATH, target, x0, noise, t)
        torch.testing.assert_close(diffusion_loss(network, PATH, target, x0, noise, t, weight=weight), plain)
    expected = (torch.tanh(add_noise(x0, noise, PATH(t))) - noise).square().mean(1)
    torch.testing.assert_close(
        diffusion_loss(network, PATH, EPSILON, x0, noise, t).double(), expected, rtol=1e-6, atol=0
    )


def test_weights_are_the_formulas_of_the_papers() -> None:
    level = PATH(torch.tensor([1, 200, 500, 800, 1000]))
    snr = level.alpha**2 / level.sigma**2
    torch.testing.assert_close(simple(level), snr)
    torch.testing.assert_close(truncated_snr(level), snr.clamp(min=1))
    torch.testing.assert_close(snr_plus_one(level), snr + 1)
    torch.testing.assert_close(min_snr()(level), snr.clamp(max=5))
    torch.testing.assert_close(min_snr(0.5)(level), snr.clamp(max=0.5))
    torch.testing.assert_close(p2()(level), level.alpha**2)  # SNR/(1 + SNR)
    torch.testing.assert_close(p2(0.5, 2)(level), snr / (2 + snr).sqrt())


# The loss ------------------------------------------------------------------------------------------


def test_a_true_network_loses_nothing_and_a_permuted_batch_shows() -> None:
    """The target must belong to the noise that made x_t: with another it no longer satisfies x = αx₀ + σε."""
    x0, noise, t = randn(6, 3, seed=1), randn(6, 3, seed=2), PATH.sample_times(6, seeded())
    for target in TARGETS.values():
        loss = diffusion_loss(TrueNetwork(x0, PATH, target), PATH, target, x0, noise, t)
        assert float(loss.max()) < 1e-10
        shifted = TrueNetwork(x0.roll(1, 0), PATH, target)
        assert float(diffusion_loss(shifted, PATH, target, x0, noise, t).min()) > 1e-6


def test_the_network_sees_the_noisy_sample_its_time_and_its_condition() -> None:
    x0, noise, t = randn(3, 2, 4, seed=1), randn(3, 2, 4, seed=2), torch.tensor([1.0, 40.0, 1000.0])
    network, condition = Constant(x0, PATH, V), {"label": torch.tensor([1, 2, 3])}
    loss = diffusion_loss(network, PATH, V, x0, noise, t, condition)
    assert torch.equal(network.x, add_noise(x0, noise, PATH(t)))
    assert network.time.tolist() == [0, 39, 999]
    assert network.time.dtype == x0.dtype
    assert network.condition is condition
    assert loss.shape == (3,)
    assert float(loss.abs().max()) < 1e-10


def test_losses_of_samples_do_not_depend_on_the_batch() -> None:
    x0, noise, guess = (randn(4, 3, seed=seed) for seed in (1, 2, 3))
    t = torch.tensor([1, 50, 600, 1000])
    network = Constant(guess, PATH, V)
    together = diffusion_loss(network, PATH, V, x0, noise, t, weight=min_snr())
    for i in range(4):
        one = slice(i, i + 1)
        network.guess = guess[one]
        alone = diffusion_loss(network, PATH, V, x0[one], noise[one], t[one], weight=min_snr())
        torch.testing.assert_close(alone, together[one])


def test_one_time_for_all_samples_is_allowed() -> None:
    x0, noise, guess = (randn(4, 3, seed=seed) for seed in (1, 2, 3))
    network = Constant(guess, PATH, V)
    all_at_once = diffusion_loss(network, PATH, V, x0, noise, torch.tensor(300.0), weight=min_snr())
    assert network.time.shape == (4,)
    each = diffusion_loss(network, PATH, V, x0, noise, torch.full((4,), 300.0), weight=min_snr())
    torch.testing.assert_close(all_at_once, each)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_losses_are_summed_in_float32_whatever_the_network_computes_in(dtype) -> None:
    x0, noise = 200 * torch.ones(2, 3000, dtype=dtype), torch.zeros(2, 3000, dtype=dtype)
    network = nn.Module()
    network.forward = lambda x, time, condition=None: torch.zeros_like(x)
    loss = diffusion_loss(network, PATH, X0, x0, noise, torch.tensor([1, 5]))
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, torch.full((2,), 40_000.0))  # squares and their sum overflow fp16


def test_gradients_reach_the_network_and_not_the_data() -> None:
    x0, noise = randn(4, 3, dtype=torch.float32), randn(4, 3, seed=1, dtype=torch.float32)
    linear = nn.Linear(3, 3)
    network = nn.Module()
    network.forward = lambda x, time, condition=None: linear(x)
    diffusion_loss(
        network, PATH, V, x0, noise, PATH.sample_times(4, seeded()), weight=min_snr()
    ).sum().backward()
    assert float(linear.weight.grad.abs().sum()) > 0
    assert x0.grad is None


def test_the_classifier_loss_of_the_exact_posterior_is_the_conditional_entropy() -> None:
    """Each sample at its own time, told as the network's; no classifier of noisy points can do better."""
    mixture = GaussianMixture(torch.tensor([[-1.0, 0.0], [1.0, 0.3]], dtype=torch.float64), [0.3, 0.5])
    x0, labels = mixture.sample(20_000, seeded(1))
    noise, t = randn(20_000, 2), PATH.sample_times(20_000, seeded(2))
    seen = []

    def exact(x: Tensor, time: Tensor) -> Tensor:
        seen.append(time)
        return mixture.log_joint(x, PATH(time + 1))

    loss = classifier_loss(exact, PATH, x0, noise, t, labels)  # type: ignore[arg-type]
    torch.testing.assert_close(seen[0], t - 1)
    posterior = mixture.posterior(add_noise(x0, noise, PATH(t)), PATH(t))
    entropy = -torch.xlogy(posterior, posterior).sum(1)
    assert loss.shape == (20_000,)
    assert float((loss - entropy).mean()) == pytest.approx(0, abs=4 * float(loss.std()) / 20_000**0.5)
    permuted = classifier_loss(exact, PATH, x0.flip(0), noise, t, labels)  # type: ignore[arg-type]
    assert permuted.mean() > loss.mean() + 0.3  # pictures out of step with their labels


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("weight", ["simple", "min snr", "snr + 1"])
def test_a_weight_that_is_not_finite_is_refused(target, weight) -> None:
    """For ε at zero terminal SNR: no silent NaN, no silent 0."""
    x, network = randn(2, 3), nn.Module()
    network.forward = lambda x, time, condition=None: x
    for t in (1.0, 1000.0):
        level = ZERO_TERMINAL(t)
        factor = WEIGHTS[weight](level) * (level.sigma / TARGETS[target].det(level)) ** 2
        times = torch.tensor([500.0, t])
        if factor.isfinite():
            loss = diffusion_loss(
                network, ZERO_TERMINAL, TARGETS[target], x, x, times, weight=WEIGHTS[weight]
            )
            assert bool(loss.isfinite().all())
        else:
            with pytest.raises(ValueError, match=f"not finite for the target '{target}' at t = {t:g}"):
                diffusion_loss(network, ZERO_TERMINAL, TARGETS[target], x, x, times, weight=WEIGHTS[weight])


def test_singular_points_are_the_ones_that_mathematics_has() -> None:
    """Which of the cases above are refused, so that the test above cannot pass by refusing all."""
    x, network = randn(1, 3), nn.Module()
    network.forward = lambda x, time, condition=None: x

    def refused(target, t, weight):
        try:
            diffusion_loss(network, ZERO_TERMINAL, target, x, x, torch.tensor([t]), weight=weight)
        except ValueError:
            return True
        return False

    assert all(refused(target, 0.0, weight) for target in TARGETS.values() for weight in (simple, None))
    assert refused(EPSILON, 1000.0, min_snr())
    assert not any(refused(target, 1000.0, min_snr()) for target in (X0, V, FLOW))
    assert not any(refused(target, t, None) for target in TARGETS.values() for t in (1.0, 1000.0))


@pytest.mark.parametrize("shape", [(1, 3), (2, 1), (3,)])
def test_shapes_that_would_broadcast_are_refused(shape) -> None:
    x, network = randn(2, 3), nn.Module()
    network.forward = lambda x, time, condition=None: torch.zeros(shape)
    with pytest.raises(ValueError, match="the network's output and x0 must have the same shape"):
        diffusion_loss(network, PATH, V, x, x, torch.tensor([1, 2]))
    with pytest.raises(ValueError, match="x0 and noise must have the same shape"):
        diffusion_loss(network, PATH, V, x, torch.zeros(shape), torch.tensor([1, 2]))
    with pytest.raises(ValueError, match="does not fit a batch"):
        diffusion_loss(network, PATH, V, x, x, torch.tensor([1, 2, 3]))


def test_pictures_in_uint8_are_refused() -> None:
    network = nn.Module()
    network.forward = lambda x, time, condition=None: x
    with pytest.raises(ValueError, match=r"turn pictures into floats in \[-1, 1\]"):
        diffusion_loss(
            network, PATH, V, torch.ones(2, 3).byte(), torch.ones(2, 3), PATH.sample_times(2, seeded())
        )


# Training reaches what is reachable ------------------------------------------------------------------


class MLP(nn.Module):
    def __init__(self, width: int = 64) -> None:
        super().__init__()
        sizes = [2 + 7, width, width, width]
        layers = [layer for pair in pairwise(sizes) for layer in (nn.Linear(*pair), nn.SiLU())]
        self.layers = nn.Sequential(*layers, nn.Linear(width, 2))

    def forward(self, x: Tensor, time: Tensor, condition: object = None) -> Tensor:
        t = time[:, None] / 1000
        waves = t * torch.tensor([1.0, 2.0, 4.0]) * math.pi / 2
        return self.layers(torch.cat([x, t, waves.sin(), waves.cos()], 1))


@pytest.mark.parametrize(("path", "target"), [(StraightPath(), FLOW), (PATHS["cosine"], V)])
def test_a_small_network_learns_to_within_2_percent_of_the_irreducible_loss(path, target) -> None:
    """Both losses on the same held-out draws, so that their difference is that of the networks alone."""
    data = GaussianMixture([[-1.0, 0.0], [1.0, 0.5], [0.0, -1.0]], [0.3, 0.2, 0.25], [0.5, 0.3, 0.2])
    generator, steps = seeded(), 500
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = MLP()

    def draw(n: int) -> tuple[Tensor, Tensor, Tensor]:
        x0, _ = data.sample(n, generator)
        return x0, torch.randn(x0.shape, generator=generator), path.sample_times(n, generator)

    optimizer = torch.optim.Adam(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    for _ in range(steps):
        loss = diffusion_loss(network, path, target, *draw(512)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()

    class Best(nn.Module):
        def forward(self, x: Tensor, time: Tensor, condition: object = None) -> Tensor:
            level = path(t)
            return target.of(*data(x, level), level)

    x0, noise, t = draw(50_000)
    with torch.no_grad():
        reached = float(diffusion_loss(network, path, target, x0, noise, t).mean())
        best = float(diffusion_loss(Best(), path, target, x0, noise, t).mean())
    assert best < reached < 1.02 * best
    promised, _ = data.optimal_loss(target, path(t), len(t), seeded(1))
    assert promised == pytest.approx(best, rel=0.02)  # on other draws


# The variational bound -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["linear", "cosine", "zero terminal"])
@pytest.mark.parametrize("t", [2, 3, 10, 500, 999, 1000])
def test_the_bound_weight_is_the_divergence_of_two_posteriors(name, t) -> None:
    """KL(q(x_{t−1} | x_t, x₀) ‖ q(x_{t−1} | x_t, x̂₀)), by torch.distributions."""
    path = PATHS[name]
    x0, guess, noise = (randn(6, 4, seed=seed) for seed in (1, 2, 3))
    now, next = path(t), path(t - 1)
    x = add_noise(x0, noise, now)
    (true, variance), (wrong, _) = posterior(x0, x, now, next), posterior(guess, x, now, next)
    std = variance.sqrt()
    divergence = kl_divergence(Normal(true, std), Normal(wrong, std))
    weighted = variational_bound(path)(now) * (x0 - guess).square()
    torch.testing.assert_close(weighted, divergence, rtol=1e-6, atol=1e-12)
    steps = vlb_terms(TrueX0(guess), path, x0, [t], generator=seeded()).steps
    torch.testing.assert_close(steps, divergence.mean(1)[None] / math.log(2), rtol=1e-6, atol=1e-12)


def test_at_t_1_the_bound_weight_is_that_of_t_2() -> None:
    weight = variational_bound(PATH)
    assert float(weight(PATH(1))) == float(weight(PATH(2))) == float((PATH(1).snr - PATH(2).snr) / 2)
    levels = PATH(torch.arange(1, 1001))
    assert bool((weight(levels).isfinite() & (weight(levels) > 0)).all())


@pytest.mark.parametrize("name", ["linear", "zero terminal"])
def test_the_prior_is_its_divergence_from_the_standard_normal(name) -> None:
    path, x0 = DiscreteVP(PATHS[name].betas[::100] * 1.0), randn(3, 4)
    end = path(path.T)
    zero = torch.zeros(3, 4, dtype=torch.float64)
    expected = kl_divergence(Normal(end.alpha * x0, end.sigma.expand(3, 4)), Normal(zero, zero + 1))
    prior = vlb_terms(TrueX0(x0), path, x0, []).prior
    torch.testing.assert_close(prior, expected.mean(1) / math.log(2), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("bins", [2, 16, 256])
@pytest.mark.parametrize("std", [0.003, 0.01, 0.3, 2.0])
def test_the_decoder_is_a_distribution_over_pixel_values(bins, std) -> None:
    pixels = torch.linspace(-1, 1, bins, dtype=torch.float64)
    for mean in (-1.3, -1.0, -0.41, 0.0, 0.999):
        log_p = _log_bin_probability(pixels, torch.full_like(pixels, mean), std, bins)
        assert float(log_p.exp().sum()) == pytest.approx(1, abs=1e-6)
        edges = torch.cat(
            [torch.tensor([-math.inf]), (pixels[1:] + pixels[:-1]) / 2, torch.tensor([math.inf])]
        )
        expected = torch.special.ndtr((edges - mean) / std).diff()
        torch.testing.assert_close(log_p.exp(), expected, rtol=1e-5, atol=1e-12)
        single = _log_bin_probability(pixels.float(), torch.full((bins,), mean), std, bins)
        assert bool(single.isfinite().all())
        torch.testing.assert_close(single.double(), log_p, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("name", ["linear", "cosine", "zero terminal"])
def test_every_term_is_finite_even_for_a_hopeless_denoiser(name) -> None:
    """At t = 1 the posterior's variance is 0 and its logarithm −∞: the decoder stands there instead."""
    x0 = torch.tensor([[-1.0, 1.0, 0.0]])
    terms = vlb_terms(TrueX0(-x0), PATHS[name], x0, [2, 3, 999, 1000], generator=seeded())
    assert terms.prior.shape == terms.decoder.shape == (1,)
    assert terms.steps.shape == (4, 1)
    for term in terms:
        assert bool(term.isfinite().all())
        assert bool((term >= 0).all())


def test_the_decoder_costs_what_the_last_step_leaves() -> None:
    """A denoiser that knows x₀ pays nothing but the width of the last step."""
    pixels = torch.linspace(-1, 1, 256, dtype=torch.float64)
    x0 = pixels[[3, 100, 200]][None]
    std = float(PATHS["linear"](1).sigma)
    mass = torch.special.ndtr(torch.tensor(1 / 255 / std)).double() * 2 - 1
    decoder = vlb_terms(TrueX0(x0), PATHS["linear"], x0, []).decoder
    assert float(decoder) == pytest.approx(-math.log2(mass), rel=1e-5)


def test_the_bound_of_the_best_denoiser_approaches_the_entropy_from_above() -> None:
    """Data of three pixel values, so the true −log p is the entropy, and the best denoiser is known.

    Few bins (11), so that the decoder, whose width is σ at t = 1, costs nothing: what is left
    of the gap comes from the number of steps, and falls as 1/T.
    """
    shares = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    points = GaussianMixture(torch.tensor([[-0.6], [0.2], [0.4]], dtype=torch.float64), 0.0, shares)
    entropy = float(-(shares * shares.log2()).sum())
    gaps = []
    for T in (50, 400):
        generator = seeded()
        x0, _ = points.sample(8000, generator)
        terms = vlb_terms(
            points, DiscreteVP(cosine_betas(T)), x0, list(range(2, T + 1)), generator=generator, bins=11
        )
        total = terms.prior + terms.steps.sum(0) + terms.decoder
        error = float(total.std()) / len(x0) ** 0.5
        assert float(total.mean()) > entropy - 4 * error
        assert float(terms.decoder.mean()) < 0.05
        gaps.append(float(total.mean()) - entropy)
    assert 0 < gaps[1] < 0.06 * entropy
    assert 5 < gaps[0] / gaps[1] < 13


def test_the_steps_of_the_bound_sum_to_the_mutual_information() -> None:
    """½∫mmse d SNR is the information about x₀ in x_t (Guo, Shamai and Verdú 2005): exact for a Gaussian."""
    c2, path, first = 0.25, DiscreteVP(cosine_betas(4000)), 20  # below, SNR falls by a factor a step
    level = path(torch.arange(first + 1, 4001))
    error = c2 * level.sigma**2 / (level.alpha**2 * c2 + level.sigma**2)
    total = float((variational_bound(path)(level) * error).sum())
    information = float((torch.log1p(c2 * path(first).snr) - torch.log1p(c2 * path(4000).snr)) / 2)
    assert information < total < 1.03 * information


def test_an_even_subset_of_times_estimates_the_sum() -> None:
    gaussian, path = GaussianMixture([[0.0]], 0.5), DiscreteVP(cosine_betas(100))
    x0, _ = gaussian.sample(4000, seeded())
    all_times = vlb_terms(gaussian, path, x0, list(range(2, 101)), generator=seeded(1)).steps
    some = vlb_terms(gaussian, path, x0, list(range(3, 101, 2)), generator=seeded(2)).steps
    assert float(some.mean() * 99) == pytest.approx(float(all_times.sum(0).mean()), rel=0.2)


@pytest.mark.parametrize("times", [[1], [0, 5], [1001], [2, -1]])
def test_times_without_a_step_of_the_bound_are_refused(times) -> None:
    with pytest.raises(ValueError, match=r"from t = 2 to T = 1000, got"):
        vlb_terms(TrueX0(randn(2, 3)), PATH, randn(2, 3), times)


def test_epsilon_at_zero_terminal_snr_is_a_clear_error_in_the_bound() -> None:
    x0 = randn(2, 3)
    denoiser = NetworkDenoiser(TrueNetwork(x0, ZERO_TERMINAL, EPSILON), ZERO_TERMINAL, EPSILON)
    with pytest.raises(ValueError, match="use the target 'v'"):
        vlb_terms(denoiser, ZERO_TERMINAL, x0, [1000])


@pytest.mark.gpu
def test_losses_and_bound_are_the_same_on_a_gpu() -> None:
    torch.manual_seed(0)
    linear, network = nn.Linear(3, 3), nn.Module()
    network.linear = linear
    network.forward = lambda x, time, condition=None: torch.tanh(linear(x) + time[:, None] / 1000)
    x0, noise = randn(4, 3, dtype=torch.float32), randn(4, 3, seed=1, dtype=torch.float32)
    t = PATH.sample_times(4, seeded())
    for weight in (None, min_snr(), variational_bound(PATH)):
        here = diffusion_loss(network.cpu(), PATH, V, x0, noise, t, weight=weight)
        there = diffusion_loss(network.cuda(), PATH, V, x0.cuda(), noise.cuda(), t, weight=weight)
        torch.testing.assert_close(there.cpu(), here, rtol=1e-4, atol=1e-5)
    terms = vlb_terms(TrueX0(x0.cuda() + 0.1), PATH, x0.cuda(), [2, 500, 1000])
    torch.testing.assert_close(
        terms.steps.cpu(), vlb_terms(TrueX0(x0 + 0.1), PATH, x0, [2, 500, 1000]).steps, rtol=1e-4, atol=1e-6
    )
