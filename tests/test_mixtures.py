"""The oracle itself: mixtures of Gaussians against quadrature, automatic differentiation and sampling."""

import math

import pytest
import torch
from torch import Tensor

from diffusion_lessons import EPSILON, FLOW, X0, GaussianMixture, Level, V, add_noise
from diffusion_lessons.targets import TARGETS
from tests.oracles import PATHS, per_sample, randn, seeded

DOUBLE = torch.float64
LINE = GaussianMixture(torch.tensor([[-1.0], [0.4], [2.0]], dtype=DOUBLE), [0.3, 0.1, 0.6], [1, 2, 3])
PLANE = GaussianMixture(torch.tensor([[-1.0, 0.5], [0.7, 1.1]], dtype=DOUBLE), [0.4, 0.2], [0.7, 0.3])
SHARES = [0.02, 0.2, 0.5, 0.9, 1.0]
GRID = torch.linspace(-12, 12, 24_001, dtype=DOUBLE)  # spacing 0.001


def integral(values: Tensor) -> Tensor:
    return values.sum(0) * 0.001


def normal(x: Tensor, mean: Tensor | float, std: Tensor | float) -> Tensor:
    mean, std = (torch.as_tensor(value, dtype=DOUBLE) for value in (mean, std))
    return torch.distributions.Normal(mean, std).log_prob(x).exp()


def data_density(x0: Tensor) -> Tensor:
    """p(x₀) of LINE, written down once more."""
    parts = zip((1 / 6, 2 / 6, 3 / 6), (-1.0, 0.4, 2.0), (0.3, 0.1, 0.6), strict=True)
    return sum(weight * normal(x0, mean, std) for weight, mean, std in parts)


def moments(x: float, level: Level) -> tuple[float, float]:
    """E[x₀ | x] and Var[x₀ | x] of LINE by quadrature over x₀."""
    share = data_density(GRID) * normal(torch.as_tensor(x, dtype=DOUBLE), level.alpha * GRID, level.sigma)
    share = share / integral(share)
    mean = integral(share * GRID)
    return float(mean), float(integral(share * (GRID - mean) ** 2))


@pytest.mark.parametrize("name", ["linear", "zero terminal", "straight"])
@pytest.mark.parametrize("share", [0.0, *SHARES])
def test_density_integrates_to_1_and_is_the_convolution(name, share) -> None:
    level = PATHS[name](share * PATHS[name].T)
    density = LINE.log_prob(GRID[:, None], level).exp()
    assert float(integral(density)) == pytest.approx(1, abs=1e-9)
    if share:
        point = torch.tensor([[0.7]], dtype=DOUBLE)
        convolved = integral(data_density(GRID) * normal(point[0], level.alpha * GRID, level.sigma))
        assert float(LINE.log_prob(point, level).exp()) == pytest.approx(float(convolved), rel=1e-6)
    else:
        torch.testing.assert_close(density, data_density(GRID))


@pytest.mark.parametrize("mixture", [LINE, PLANE])
@pytest.mark.parametrize("name", ["cosine", "zero terminal", "straight"])
@pytest.mark.parametrize("share", SHARES)
def test_score_is_the_gradient_of_log_prob(mixture, name, share) -> None:
    level = PATHS[name](share * PATHS[name].T)
    x = 2 * randn(50, mixture.means.shape[1])
    point = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(mixture.log_prob(point, level).sum(), point)
    torch.testing.assert_close(mixture.score(x, level), gradient, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("share", SHARES)
def test_posterior_is_the_rule_of_bayes(share) -> None:
    level = PATHS["cosine"](share * 1000)
    x = 2 * randn(50, 1)
    joint = torch.stack(
        [
            weight * normal(x[:, 0], level.alpha * mean, ((level.alpha * std) ** 2 + level.sigma**2).sqrt())
            for weight, mean, std in zip(LINE.weights, LINE.means[:, 0], LINE.stds, strict=True)
        ],
        1,
    )
    posterior = LINE.posterior(x, level)
    torch.testing.assert_close(posterior, joint / joint.sum(1, keepdim=True))
    torch.testing.assert_close(LINE.log_joint(x, level).exp(), joint)


@pytest.mark.parametrize("name", ["linear", "zero terminal", "straight"])
@pytest.mark.parametrize("share", SHARES)
def test_denoiser_is_the_mean_of_x0_by_quadrature(name, share) -> None:
    level = PATHS[name](share * PATHS[name].T)
    for x in (-2.0, 0.1, 1.3):
        estimate = LINE(torch.tensor([[x]], dtype=DOUBLE), level)
        mean, _ = moments(x, level)
        assert float(estimate.x0) == pytest.approx(mean, rel=1e-8)
        assert float(estimate.eps) == pytest.approx(
            (x - float(level.alpha) * mean) / float(level.sigma), rel=1e-6
        )


def test_denoiser_in_the_plane_is_the_mean_of_x0_by_importance_sampling() -> None:
    level = PATHS["cosine"](600)
    x0, _ = PLANE.sample(400_000, seeded())
    for x in torch.tensor([[0.3, -0.2], [-1.0, 1.0]], dtype=DOUBLE):
        share = (-(x - level.alpha * x0).square().sum(1) / (2 * level.sigma**2)).softmax(0)
        mean = (share[:, None] * x0).sum(0)
        error = ((share**2)[:, None] * (x0 - mean) ** 2).sum(0).sqrt()  # standard error of the estimate
        assert bool(((PLANE(x[None], level).x0[0] - mean).abs() < 4 * error).all())
        assert float(error.max()) < 0.003


def test_a_condition_names_the_component() -> None:
    """Given the component, x₀ and x are jointly Gaussian: condition one on the other."""
    level, x, labels = PATHS["linear"](300), randn(6, 2), torch.tensor([0, 1, 1, 0, 1, 0])
    alpha, sigma = float(level.alpha), float(level.sigma)
    mean, std = PLANE.means[labels], PLANE.stds[labels, None]
    expected = mean + alpha * std**2 / ((alpha * std) ** 2 + sigma**2) * (x - alpha * mean)
    torch.testing.assert_close(PLANE(x, level, labels).x0, expected)
    torch.testing.assert_close(PLANE(x, level, {"label": labels}).x0, expected)
    share = PLANE.posterior(x, level)[..., None]
    each = torch.stack([PLANE(x, level, torch.full((6,), k)).x0 for k in (0, 1)], 1)
    torch.testing.assert_close(PLANE(x, level).x0, (share * each).sum(1))


def test_the_estimate_keeps_the_invariant() -> None:
    for path in PATHS.values():
        for share in SHARES:
            level, x = path(share * path.T), randn(6, 2)
            torch.testing.assert_close(add_noise(*PLANE(x, level), level), x)


def test_a_single_gaussian_in_closed_form() -> None:
    gaussian = GaussianMixture([[0.0]], 0.5)
    x = torch.tensor([[0.8]])
    for share in SHARES:
        level = PATHS["cosine"](share * 1000)
        alpha, sigma = float(level.alpha), float(level.sigma)
        assert float(gaussian(x, level).x0) == pytest.approx(
            0.8 * alpha * 0.25 / (alpha**2 * 0.25 + sigma**2), rel=1e-5
        )
        loss, error = gaussian.optimal_loss(X0, level, n=10)
        assert loss == pytest.approx(0.25 * sigma**2 / (alpha**2 * 0.25 + sigma**2), rel=1e-5)
        assert error < 1e-6


@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 1.0])
def test_optimal_loss_in_x0_is_the_mean_variance_by_quadrature(share) -> None:
    level = PATHS["cosine"](share * 1000)
    grid = torch.linspace(-6, 6, 151, dtype=DOUBLE)  # x, spacing 0.08
    expected = sum(
        float(LINE.log_prob(x[None, None], level).exp()) * moments(float(x), level)[1] * 0.08 for x in grid
    )
    loss, error = LINE.optimal_loss(X0, level, n=50_000, generator=seeded())
    assert abs(loss - expected) < 4 * error
    assert error < 0.02 * expected


@pytest.mark.parametrize("mixture", [LINE, PLANE])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["cosine", "straight"])
def test_optimal_loss_is_the_error_of_the_best_denoiser(mixture, target, name) -> None:
    """Squared error of the denoiser in the target itself, by Monte Carlo on other draws."""
    target, path = TARGETS[target], PATHS[name]
    for share in (0.05, 0.5, 0.95):
        level = path(share * path.T)
        generator = seeded(1)
        x0, _ = mixture.sample(50_000, generator)
        eps = torch.randn(x0.shape, generator=generator, dtype=DOUBLE)
        estimate = mixture(add_noise(x0, eps, level), level)
        errors = (target.of(x0, eps, level) - target.of(*estimate, level)).square().mean(1)
        loss, error = mixture.optimal_loss(target, level, n=20_000, generator=seeded())
        spread = math.hypot(error, float(errors.std()) / 50_000**0.5)
        assert abs(loss - float(errors.mean())) < 4 * spread
        assert spread < 0.03 * loss


def test_optimal_losses_of_the_targets_are_one_loss() -> None:
    """The same uncertainty of x₀, times (det/σ)²."""
    for path in PATHS.values():
        level = path(0.4 * path.T)
        alpha, sigma = float(level.alpha), float(level.sigma)
        x0, eps, v, flow = (
            PLANE.optimal_loss(target, level, generator=seeded())[0] for target in (X0, EPSILON, V, FLOW)
        )
        assert eps == pytest.approx(x0 * (alpha / sigma) ** 2, rel=1e-9)
        assert v == pytest.approx(x0 * ((alpha**2 + sigma**2) / sigma) ** 2, rel=1e-9)
        assert flow == pytest.approx(x0 * ((alpha + sigma) / sigma) ** 2, rel=1e-9)


def test_optimal_loss_in_float32_is_not_lost_to_rounding() -> None:
    """On clean levels the variance of x₀ given x is far below x₀² itself."""
    means, level = [[30.0, -20.0], [10.0, 20.0]], PATHS["linear"](1)
    single, double = (
        GaussianMixture(torch.tensor(means, dtype=dtype), 0.5).optimal_loss(X0, level)[0]
        for dtype in (torch.float32, torch.float64)
    )
    sigma2 = float(level.sigma**2)
    assert double == pytest.approx(0.25 * sigma2 / (0.25 * (1 - sigma2) + sigma2), rel=1e-6)
    assert single == pytest.approx(double, rel=1e-4)


def test_optimal_loss_with_one_level_for_each_draw() -> None:
    path, n = PATHS["cosine"], 4000
    levels = [path(100), path(700)]
    each = per_sample(*(levels * (n // 2)))
    loss, error = PLANE.optimal_loss(V, each, n, seeded())
    alone = [PLANE.optimal_loss(V, level, 100_000, seeded(1))[0] for level in levels]
    assert abs(loss - sum(alone) / 2) < 4 * error
    assert error < 0.05 * loss


def test_components_without_width_are_points() -> None:
    points = GaussianMixture(torch.tensor([[-1.0], [1.0]], dtype=DOUBLE), 0.0)
    level, x = PATHS["cosine"](500), randn(8, 1)
    alpha, sigma = level.like(x)
    torch.testing.assert_close(points(x, level).x0, torch.tanh(alpha * x / sigma**2))


def test_samples_have_the_moments_and_the_shares_of_their_components() -> None:
    x, labels = LINE.sample(100_000, seeded())
    assert (x.shape, x.dtype, labels.shape, labels.dtype) == ((100_000, 1), DOUBLE, (100_000,), torch.int64)
    for k, (weight, mean, std) in enumerate(
        zip((1 / 6, 2 / 6, 3 / 6), (-1.0, 0.4, 2.0), (0.3, 0.1, 0.6), strict=True)
    ):
        mine = x[labels == k]
        assert len(mine) / 100_000 == pytest.approx(weight, abs=0.006)
        assert float(mine.mean()) == pytest.approx(mean, abs=4 * std / len(mine) ** 0.5)
        assert float(mine.std()) == pytest.approx(std, rel=0.02)
    assert torch.equal(x, LINE.sample(100_000, seeded())[0])


def test_weights_are_normalised_in_the_precision_of_the_means() -> None:
    mixture = GaussianMixture(torch.zeros(3, 1, dtype=DOUBLE), 1.0, [0.1, 0.2, 0.7])
    torch.testing.assert_close(
        mixture.weights, torch.tensor([0.1, 0.2, 0.7], dtype=DOUBLE), rtol=1e-15, atol=0
    )
    assert GaussianMixture([[0.0], [1.0]], 1.0).weights.tolist() == [0.5, 0.5]


def test_one_level_for_each_sample() -> None:
    path, x = PATHS["straight"], randn(3, 2)
    alone = [path(share) for share in (0.1, 0.6, 1.0)]
    level = per_sample(*alone)
    for i in range(3):
        one = x[i : i + 1]
        torch.testing.assert_close(PLANE(x, level).x0[i : i + 1], PLANE(one, alone[i]).x0)
        torch.testing.assert_close(PLANE(x, level).eps[i : i + 1], PLANE(one, alone[i]).eps)
        torch.testing.assert_close(PLANE.log_prob(x, level)[i : i + 1], PLANE.log_prob(one, alone[i]))
        torch.testing.assert_close(PLANE.score(x, level)[i : i + 1], PLANE.score(one, alone[i]))


def test_an_empty_batch_stays_empty() -> None:
    level, x = PATHS["linear"](5), torch.zeros(0, 2, dtype=DOUBLE)
    assert PLANE(x, level).x0.shape == (0, 2)
    assert PLANE.log_prob(x, level).shape == (0,)


@pytest.mark.parametrize(
    ("means", "stds", "weights", "words"),
    [
        ([0.0, 1.0], 1.0, None, r"shape \(K, D\)"),
        (torch.zeros(2, 1, dtype=torch.long), 1.0, None, "floats"),
        ([[0.0], [1.0]], [1.0, -1.0], None, "stds ≥ 0"),
        ([[0.0], [1.0]], [1.0, 1.0, 1.0], None, "stds ≥ 0"),
        ([[0.0], [1.0]], math.nan, None, "stds ≥ 0"),
        ([[0.0], [1.0]], 1.0, [1.0], "positive weights"),
        ([[0.0], [1.0]], 1.0, [1.0, 0.0], "positive weights"),
        ([[0.0], [1.0]], 1.0, [1.0, math.nan], "positive weights"),
    ],
)
def test_bad_mixtures_are_refused(means, stds, weights, words) -> None:
    with pytest.raises(ValueError, match=words):
        GaussianMixture(means, stds, weights)


@pytest.mark.parametrize("shape", [(4,), (4, 1), (4, 3), (1, 4, 2), (2, 2, 2)])
def test_points_of_the_wrong_shape_are_refused(shape) -> None:
    """Points (B, 1) would broadcast against means (K, 2) without a word."""
    x, level = torch.zeros(shape, dtype=DOUBLE), PATHS["linear"](5)
    for ask in (PLANE, PLANE.log_prob, PLANE.score, PLANE.posterior, PLANE.component_moments):
        with pytest.raises(ValueError, match=r"points must have shape \(B, 2\)"):
            ask(x, level)


@pytest.mark.gpu
def test_a_mixture_is_the_same_on_a_gpu() -> None:
    there = GaussianMixture(PLANE.means.cuda(), PLANE.stds, PLANE.weights)
    x, level = randn(5, 2), PATHS["cosine"](torch.tensor([1, 5, 100, 900, 1000]))
    torch.testing.assert_close(there(x.cuda(), level).x0.cpu(), PLANE(x, level).x0)
    torch.testing.assert_close(there.score(x.cuda(), level).cpu(), PLANE.score(x, level))
