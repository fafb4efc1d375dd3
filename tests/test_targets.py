"""Four targets, four pairs of coefficients: each gives x₀ and ε back."""

import pytest
import torch

from diffusion_lessons import EPSILON, FLOW, X0, Estimate, StraightPath, Target, V, add_noise
from diffusion_lessons.targets import TARGETS
from tests.oracles import PATHS, ZERO_TERMINAL, per_sample, randn, solvable

SHARES = [0.001, 0.01, 0.3, 0.77, 0.999]


def levels(name):
    """Levels along a path, each alone and all in one batch."""
    path = PATHS[name]
    alone = [path(share * path.T) for share in SHARES]
    return [*alone, per_sample(*alone)]


def test_the_names_of_the_targets() -> None:
    assert {"epsilon": EPSILON, "x0": X0, "v": V, "flow": FLOW} == TARGETS


@pytest.mark.parametrize("name", PATHS)
def test_values_are_the_definitions_of_the_papers(name) -> None:
    x0, eps = randn(5, 2, 3, seed=1), randn(5, 2, 3, seed=2)
    for level in levels(name):
        alpha, sigma = level.like(x0)
        assert torch.equal(EPSILON.of(x0, eps, level), eps)
        assert torch.equal(X0.of(x0, eps, level), x0)
        assert torch.equal(V.of(x0, eps, level), alpha * eps - sigma * x0)
        assert torch.equal(FLOW.of(x0, eps, level), eps - x0)


def test_flow_is_the_velocity_of_the_straight_path() -> None:
    path, x0, eps = StraightPath(), randn(2, 3), randn(2, 3, seed=1)
    h = 1e-6
    slope = (add_noise(x0, eps, path(0.4 + h)) - add_noise(x0, eps, path(0.4 - h))) / (2 * h)
    torch.testing.assert_close(FLOW.of(x0, eps, path(0.4)), slope, rtol=1e-8, atol=1e-8)


def test_v_is_the_velocity_in_the_angle() -> None:
    """Salimans and Ho 2022, appendix D: v = dx/dφ with α = cos φ, σ = sin φ."""
    path, x0, eps = PATHS["cosine"], randn(2, 3), randn(2, 3, seed=1)
    level = path(300)
    phi, h = torch.atan2(level.sigma, level.alpha), 1e-6
    x = [torch.cos(phi + d) * x0 + torch.sin(phi + d) * eps for d in (-h, h)]
    torch.testing.assert_close(V.of(x0, eps, level), (x[1] - x[0]) / (2 * h), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", PATHS)
def test_determinants(name) -> None:
    for level in levels(name):
        torch.testing.assert_close(EPSILON.det(level), level.alpha)
        torch.testing.assert_close(X0.det(level), -level.sigma)
        torch.testing.assert_close(V.det(level), level.alpha**2 + level.sigma**2)
        torch.testing.assert_close(FLOW.det(level), level.alpha + level.sigma)
        one = torch.ones_like(level.alpha)
        torch.testing.assert_close(FLOW.det(level) if name == "straight" else V.det(level), one)


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("target", TARGETS)
def test_solving_gives_back_x0_and_eps(name, target) -> None:
    x0, eps = randn(5, 2, 3, seed=1), randn(5, 2, 3, seed=2)
    for level in levels(name):
        x = add_noise(x0, eps, level)
        estimate = TARGETS[target].solve(TARGETS[target].of(x0, eps, level), x, level)
        torch.testing.assert_close(estimate.x0, x0, rtol=1e-7, atol=1e-7)
        torch.testing.assert_close(estimate.eps, eps, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("target", TARGETS)
def test_solving_a_wrong_output_keeps_the_invariant(name, target) -> None:
    """x = α·x₀ + σ·ε for any output of a network, however wrong."""
    x, y = randn(5, 2, 3, seed=1), randn(5, 2, 3, seed=2)
    for level in levels(name):
        estimate = TARGETS[target].solve(y, x, level)
        torch.testing.assert_close(add_noise(*estimate, level), x, rtol=1e-7, atol=1e-7)
        torch.testing.assert_close(TARGETS[target].of(*estimate, level), y, rtol=1e-7, atol=1e-7)


def test_a_new_target_is_a_new_pair() -> None:
    """x₀ + ε, which no table has: nothing else need know of it."""
    total = Target("sum", lambda level: (torch.ones_like(level.alpha), torch.ones_like(level.alpha)))
    x0, eps, level = randn(2, 3), randn(2, 3, seed=1), PATHS["linear"](300)
    estimate = total.solve(x0 + eps, add_noise(x0, eps, level), level)
    torch.testing.assert_close(estimate, Estimate(x0, eps))


def test_epsilon_at_zero_terminal_snr_is_a_clear_error_and_v_is_finite() -> None:
    y, x = randn(2, 3), randn(2, 3, seed=1)
    said = r"'epsilon' cannot be solved at t = 1000 \(α = 0, σ = 1\): use 'v' there$"
    for level in (ZERO_TERMINAL(1000), ZERO_TERMINAL(torch.tensor([999, 1000]))):  # the time that is at fault
        with pytest.raises(ValueError, match=said):
            EPSILON.solve(y, x, level)
    estimate = V.solve(y, x, ZERO_TERMINAL(1000))
    assert torch.equal(estimate.x0, -y)
    assert torch.equal(estimate.eps, x)


def test_x0_at_t_0_is_a_clear_error() -> None:
    with pytest.raises(ValueError, match="'x0' cannot be solved at t = 0"):
        X0.solve(randn(2, 3), randn(2, 3), PATHS["linear"](0))


@pytest.mark.parametrize("name", PATHS)
def test_targets_at_both_ends(name) -> None:
    path, x0, eps = PATHS[name], randn(2, 3), randn(2, 3, seed=1)
    for target in TARGETS.values():
        for level in (path(0), path(path.T)):
            x = add_noise(x0, eps, level)
            if solvable(target, level):
                torch.testing.assert_close(
                    target.solve(target.of(x0, eps, level), x, level), Estimate(x0, eps), rtol=1e-7, atol=1e-7
                )
            else:
                with pytest.raises(ValueError, match="cannot be solved"):
                    target.solve(x, x, level)


def test_an_estimate_from_x0_holds_the_noise_that_is_left() -> None:
    x0, eps = randn(3, 2, seed=1), randn(3, 2, seed=2)
    for level in levels("cosine")[:-1] + [PATHS["cosine"](torch.tensor([1, 500, 1000]))]:
        estimate = Estimate.from_x0(x0, add_noise(x0, eps, level), level)
        assert estimate.x0 is x0
        torch.testing.assert_close(estimate.eps, eps, rtol=1e-7, atol=1e-7)


def test_an_estimate_from_x0_at_t_0_is_refused() -> None:
    path = PATHS["cosine"]
    for level in (path(0), path(torch.tensor([0, 5]))):
        with pytest.raises(ValueError, match="at t = 0 there is no noise"):
            Estimate.from_x0(randn(2, 3), randn(2, 3), level)


@pytest.mark.parametrize("shape", [(1, 3), (2, 1), (3,), ()])
def test_shapes_that_would_broadcast_are_refused(shape) -> None:
    level, x, other = PATHS["linear"](5), randn(2, 3), torch.zeros(shape)
    with pytest.raises(ValueError, match="x0 and eps must have the same shape"):
        V.of(x, other, level)
    with pytest.raises(ValueError, match="the network's output and x must have the same shape"):
        V.solve(other, x, level)
    with pytest.raises(ValueError, match="x0 and x must have the same shape"):
        Estimate.from_x0(other, x, level)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("target", TARGETS)
def test_targets_keep_the_dtype(target, dtype) -> None:
    x0, eps = randn(2, 3).to(dtype), randn(2, 3, seed=1).to(dtype)
    for level in (PATHS["cosine"](500), PATHS["cosine"](torch.tensor([400, 600]))):
        y = TARGETS[target].of(x0, eps, level)
        estimate = TARGETS[target].solve(y, add_noise(x0, eps, level), level)
        assert {y.dtype, estimate.x0.dtype, estimate.eps.dtype} == {dtype}
        tolerance = 16 * torch.finfo(dtype).eps
        torch.testing.assert_close(estimate, Estimate(x0, eps), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("target", TARGETS)
def test_an_empty_batch_stays_empty(target) -> None:
    x, level = torch.zeros(0, 3), PATHS["linear"](5)
    assert TARGETS[target].solve(TARGETS[target].of(x, x, level), x, level).x0.shape == (0, 3)


@pytest.mark.gpu
@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("target", TARGETS)
def test_targets_are_the_same_on_a_gpu(name, target) -> None:
    x0, eps = (randn(5, 2, 3, seed=seed, dtype=torch.float32) for seed in (1, 2))
    for level in levels(name)[1:-2]:
        y, x = TARGETS[target].of(x0, eps, level), add_noise(x0, eps, level)
        there = TARGETS[target].solve(y.cuda(), x.cuda(), level)
        here = TARGETS[target].solve(y, x, level)
        torch.testing.assert_close(there.x0.cpu(), here.x0, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(there.eps.cpu(), here.eps, rtol=1e-4, atol=1e-4)
