"""The variational bound, term by term, against distributions whose divergences and entropies are known."""

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from diffusion_lessons import (
    EPSILON,
    DiscreteVP,
    GaussianMixture,
    NetworkDenoiser,
    add_noise,
    cosine_betas,
    posterior,
    vlb_terms,
)
from diffusion_lessons.bound import _log_bin_probability
from diffusion_lessons.losses import variational_bound
from tests.oracles import PATHS, ZERO_TERMINAL, TrueNetwork, TrueX0, randn, seeded


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
    path = PATHS["cosine"]
    weight = variational_bound(path)
    assert float(weight(path(1))) == float(weight(path(2))) == float((path(1).snr - path(2).snr) / 2)
    levels = path(torch.arange(1, 1001))
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
        vlb_terms(TrueX0(randn(2, 3)), PATHS["cosine"], randn(2, 3), times)


def test_epsilon_at_zero_terminal_snr_is_a_clear_error_in_the_bound() -> None:
    x0 = randn(2, 3)
    denoiser = NetworkDenoiser(TrueNetwork(x0, ZERO_TERMINAL, EPSILON), ZERO_TERMINAL, EPSILON)
    with pytest.raises(ValueError, match="use 'v' there"):
        vlb_terms(denoiser, ZERO_TERMINAL, x0, [1000])
