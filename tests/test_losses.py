"""One loss for every target, and its weights."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from diffusion_lessons import (
    EPSILON,
    FLOW,
    X0,
    DiscreteVP,
    Estimate,
    GaussianMixture,
    StraightPath,
    V,
    add_noise,
    diffusion_loss,
    vlb_terms,
)
from diffusion_lessons.losses import (
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


@pytest.mark.parametrize("path", ["cosine", "zero terminal"])
def test_cut_weights_rise_with_the_snr_and_are_cut_on_their_own_side(path) -> None:
    """A maximum in the place of the minimum, or the other way round, is a bug that trains."""
    level = PATHS[path](torch.arange(1000, 0, -1))  # from noise to data
    for weight in (min_snr(5.0), truncated_snr, p2()):
        assert bool((weight(level).diff() >= 0).all())
        assert bool(weight(level).isfinite().all())
    assert float(min_snr(5.0)(level).max()) == 5
    assert float(min_snr(5.0)(level)[0]) == pytest.approx(float(level.snr[0]))
    assert float(truncated_snr(level).min()) == 1
    assert float(truncated_snr(level)[-1]) == pytest.approx(float(level.snr[-1]))
    assert float(p2()(level).max()) < 1


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


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: min_snr(0.0), "a γ above 0, got 0.0"),
        (lambda: min_snr(math.nan), "a γ above 0, got nan"),
        (lambda: p2(k=0.0), "a k above 0 and a γ of at least 0, got k = 0.0"),
        (lambda: p2(gamma=-1.0), "got k = 1.0 and γ = -1.0"),
        (lambda: variational_bound(StraightPath()), "this path ends at T = 1"),
    ],
)
def test_weights_that_make_no_sense_are_refused(make, said) -> None:
    with pytest.raises(ValueError, match=said):
        make()


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
