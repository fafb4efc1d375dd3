"""Properties that hold for every shape, dtype, path, target and batch."""

from functools import partial
from itertools import pairwise
from typing import Any

import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from diffusion_lessons import (
    ClassifierFreeGuidance,
    ClassifierGuidance,
    Clip,
    DiscreteVP,
    Estimate,
    GaussianMixture,
    Level,
    NetworkDenoiser,
    Rescale,
    add_noise,
    ddim_step,
    ddpm_step,
    diffusion_loss,
    posterior,
    renoise,
    sample,
)
from diffusion_lessons.losses import min_snr, p2, simple, snr_plus_one, truncated_snr
from diffusion_lessons.samplers import SAMPLERS
from diffusion_lessons.targets import TARGETS
from tests.oracles import PATHS, TrueX0, randn, solvable

settings.register_profile(
    "core",
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
PROPERTY = settings(settings.get_profile("core"))

paths = st.sampled_from(list(PATHS.values()))
targets = st.sampled_from(list(TARGETS.values()))
dtypes = st.sampled_from([torch.float32, torch.float64])
shares = st.floats(0.02, 0.98)
shapes = st.lists(st.integers(1, 4), min_size=2, max_size=4).map(tuple)
seeds = st.integers(0, 2**20)


@st.composite
def levels(draw: st.DrawFn, path: Any, batch: int, low: float = 0.02, high: float = 0.98) -> Level:
    """One level for the batch, or one for each sample; whole and fractional times."""
    each = draw(st.booleans())
    times = [path.T * draw(st.floats(low, high)) for _ in range(batch if each else 1)]
    if isinstance(path, DiscreteVP) and draw(st.booleans()):
        times = [round(t) for t in times]
    return path(torch.tensor(times if each else times[0], dtype=torch.float64))


def tensors(shape: tuple[int, ...], dtype: torch.dtype, seed: int, n: int) -> list[Tensor]:
    return [randn(*shape, seed=seed + i).to(dtype) for i in range(n)]


def only(level: Level, i: int) -> Level:
    """The level of one sample."""
    return Level(*(value if value.ndim == 0 else value[i] for value in (level.t, level.alpha, level.sigma)))


def close(a: Tensor, b: Tensor, scale: float = 1.0) -> None:
    """To some roundings of numbers as large as `scale`."""
    assert a.dtype == b.dtype
    assert a.shape == b.shape
    tolerance = 50 * torch.finfo(a.dtype).eps * max(scale, 1.0)
    torch.testing.assert_close(a, b, rtol=50 * torch.finfo(a.dtype).eps, atol=tolerance)


def condition_number(target: Any, level: Level) -> float:
    """How far solving the 2×2 system magnifies a rounding."""
    p, q = target.coefficients(level)
    largest = torch.stack([p.abs(), q.abs(), level.alpha, level.sigma]).amax()
    return float((largest / target.det(level).abs()).max())


# Targets ---------------------------------------------------------------------------------------------


@PROPERTY
@given(st.data(), paths, targets, shapes, dtypes, seeds)
def test_solving_a_target_gives_back_x0_and_eps(data, path, target, shape, dtype, seed) -> None:
    level = data.draw(levels(path, shape[0]))
    assume(solvable(target, level))
    x0, eps = tensors(shape, dtype, seed, 2)
    copies = [x0.clone(), eps.clone()]
    estimate = target.solve(target.of(x0, eps, level), add_noise(x0, eps, level), level)
    size = 10 * condition_number(target, level)
    close(estimate.x0, x0, size)
    close(estimate.eps, eps, size)
    assert torch.equal(x0, copies[0])
    assert torch.equal(eps, copies[1])


@PROPERTY
@given(st.data(), paths, targets, shapes, dtypes, seeds)
def test_any_output_of_a_network_keeps_the_invariant(data, path, target, shape, dtype, seed) -> None:
    level = data.draw(levels(path, shape[0]))
    assume(solvable(target, level))
    y, x = tensors(shape, dtype, seed, 2)
    estimate = target.solve(y, x, level)
    close(add_noise(*estimate, level), x, 10 * condition_number(target, level))


# Wrappers --------------------------------------------------------------------------------------------


class Labelled(torch.nn.Module):
    """A network that treats each sample alone; label 3 is the null label."""

    def forward(self, x: Tensor, time: Tensor, condition: Any) -> Tensor:
        labels = condition["label"] if isinstance(condition, dict) else condition
        shift = (labels.to(x.dtype) + time / 1000).view(-1, *[1] * (x.ndim - 1))
        return torch.tanh(x + shift) + 0.3 * torch.sin(x * (1 + shift))

    def null_condition(self, batch: int) -> Tensor:
        return torch.full((batch,), 3)


def classifier(x: Tensor, level: Level) -> Tensor:
    features = x.flatten(1).sum(1, keepdim=True)
    return features * torch.tensor([1.0, -0.5, 0.2], dtype=x.dtype)


WRAPPERS = {
    "guidance": lambda denoiser: ClassifierFreeGuidance(denoiser, 3.0),
    "guidance at 0": lambda denoiser: ClassifierFreeGuidance(denoiser, 0.0),
    "negative": lambda denoiser: ClassifierFreeGuidance(denoiser, 2.0, torch.tensor([1])),
    "classifier": lambda denoiser: ClassifierGuidance(denoiser, classifier, 0.7),
    "rescale": lambda denoiser: Rescale(ClassifierFreeGuidance(denoiser, 3.0), 0.7),
    "clip": lambda denoiser: Clip(denoiser),
    "all": lambda denoiser: Clip(Rescale(ClassifierFreeGuidance(denoiser, 3.0), 0.7)),
    "classifier, rescaled": lambda denoiser: Clip(Rescale(ClassifierGuidance(denoiser, classifier, 0.7))),
}


@PROPERTY
@given(st.data(), paths, targets, st.sampled_from(list(WRAPPERS)), shapes, dtypes, st.booleans(), seeds)
def test_wrappers_keep_the_invariant_and_their_arguments_and_treat_each_sample_alone(
    data, path, target, name, shape, dtype, as_dict, seed
) -> None:
    level = data.draw(levels(path, shape[0], 0.1, 0.9))
    (x,) = tensors(shape, dtype, seed, 1)
    labels = torch.tensor(data.draw(st.lists(st.integers(0, 2), min_size=shape[0], max_size=shape[0])))
    denoiser = WRAPPERS[name](NetworkDenoiser(Labelled(), path, target))

    def ask(x: Tensor, level: Level, labels: Tensor) -> Estimate:
        return denoiser(x, level, {"label": labels} if as_dict else labels)

    copies = [value.clone() for value in (x, labels, level.t, level.alpha, level.sigma)]
    estimate = ask(x, level, labels)
    for value, copy in zip((x, labels, level.t, level.alpha, level.sigma), copies, strict=True):
        assert torch.equal(value, copy)
    assert not x.requires_grad

    size = 10 * condition_number(target, level) * float(1 / level.sigma.min() + 1)
    close(add_noise(*estimate, level), x, size)
    if "clip" in name or name == "all":
        assert float(estimate.x0.abs().max()) <= 1
    for i in range(shape[0]):
        one = ask(x[i : i + 1], only(level, i), labels[i : i + 1])
        size_one = size * float(estimate.x0.abs().max() + estimate.eps.abs().max() + 1)
        close(estimate.x0[i : i + 1], one.x0, size_one)
        close(estimate.eps[i : i + 1], one.eps, size_one)


# Moves and steps -------------------------------------------------------------------------------------


@PROPERTY
@given(st.data(), paths, shapes, dtypes, seeds, st.floats(0, 1))
def test_moves_and_steps_treat_each_sample_alone_and_keep_their_arguments(
    data, path, shape, dtype, seed, eta
) -> None:
    high = data.draw(levels(path, shape[0], 0.5, 1.0))
    low = data.draw(levels(path, shape[0], 0.0, 0.45))
    x, x0, noise = tensors(shape, dtype, seed, 3)

    def moves(x: Tensor, x0: Tensor, noise: Tensor, high: Level, low: Level) -> list[Tensor]:
        estimate = Estimate.from_x0(x0, x, high)
        return [
            add_noise(x0, noise, high),
            renoise(x, low, high, noise),
            posterior(x0, x, high, low)[0],
            *estimate,
            ddim_step(x, estimate, high, low),
            ddim_step(x, estimate, high, low, noise, eta),
            ddpm_step(x, estimate, high, low, noise),
            ddpm_step(x, estimate, high, low, noise, variance="large"),
        ]

    copies = [value.clone() for value in (x, x0, noise)]
    together = moves(x, x0, noise, high, low)
    assert all(torch.equal(value, copy) for value, copy in zip((x, x0, noise), copies, strict=True))
    for i in range(shape[0]):
        one = slice(i, i + 1)
        alone = moves(x[one], x0[one], noise[one], only(high, i), only(low, i))
        for a, b in zip(together, alone, strict=True):
            assert a.dtype == dtype
            close(a[one], b)


@PROPERTY
@given(paths, shapes, dtypes, seeds, st.integers(1, 8), st.sampled_from(list(SAMPLERS)))
def test_samplers_with_an_oracle_return_x0(path, shape, dtype, seed, n, sampler) -> None:
    x0, noise = tensors(shape, dtype, seed, 2)
    levels = path.levels(n)
    x = sample(TrueX0(x0), add_noise(x0, noise, levels[0]), levels, sampler=SAMPLERS[sampler])
    close(x, x0, 100)


# Losses and mixtures ---------------------------------------------------------------------------------


WEIGHTS = [None, simple, truncated_snr, snr_plus_one, min_snr(), p2()]


@PROPERTY
@given(st.data(), paths, targets, st.sampled_from(WEIGHTS), shapes, seeds)
def test_losses_treat_each_sample_alone_and_keep_their_arguments(
    data, path, target, weight, shape, seed
) -> None:
    level = data.draw(levels(path, shape[0]))
    assume(level.t.ndim == 1)
    x0, noise = tensors(shape, torch.float32, seed, 2)
    labels, t = torch.arange(shape[0]) % 3, level.t
    copies = [value.clone() for value in (x0, noise, t, labels)]
    loss = partial(diffusion_loss, Labelled(), path, target, weight=weight)
    together = loss(x0, noise, t, labels)
    assert together.shape == (shape[0],)
    assert bool((together >= 0).all())
    for value, copy in zip((x0, noise, t, labels), copies, strict=True):
        assert torch.equal(value, copy)
    for i in range(shape[0]):
        one = slice(i, i + 1)
        torch.testing.assert_close(loss(x0[one], noise[one], t[one], labels[one]), together[one])


@PROPERTY
@given(st.data(), paths, st.integers(1, 4), st.integers(1, 3), st.integers(1, 4), dtypes, seeds)
def test_mixtures_treat_each_point_alone(data, path, components, dims, batch, dtype, seed) -> None:
    means, x = tensors((components, dims), dtype, seed, 1)[0], tensors((batch, dims), dtype, seed + 1, 1)[0]
    mixture = GaussianMixture(means, data.draw(st.floats(0.1, 2)))
    level = data.draw(levels(path, batch))
    estimate = mixture(x, level)
    size = float(1 / level.sigma.min() ** 2)
    close(add_noise(*estimate, level), x, size)
    share = mixture.posterior(x, level)
    close(share.sum(1), torch.ones(batch, dtype=dtype))
    for i in range(batch):
        one = slice(i, i + 1)
        close(mixture(x[one], only(level, i)).x0, estimate.x0[one], size)
        close(mixture.log_prob(x[one], only(level, i)), mixture.log_prob(x, level)[one], size)


# Paths -----------------------------------------------------------------------------------------------


@PROPERTY
@given(paths, st.floats(0, 1), st.floats(0, 1))
def test_more_time_is_less_signal(path, a, b) -> None:
    early, late = path(min(a, b) * path.T), path(max(a, b) * path.T)
    assert float(late.alpha) <= float(early.alpha)
    assert float(late.sigma) >= float(early.sigma)
    assert float(late.snr) <= float(early.snr)


@PROPERTY
@given(st.lists(st.floats(1e-6, 0.999), min_size=1, max_size=40), st.floats(0, 1))
def test_any_betas_make_a_path(betas, share) -> None:
    path = DiscreteVP(betas)
    level = path(share * path.T)
    assert (
        float(level.alpha**2 + level.sigma**2) == 1.0
        or abs(float(level.alpha**2 + level.sigma**2) - 1) < 1e-12
    )
    assert float(level.alpha) >= 0
    for n in range(1, path.T + 1):
        for spacing in ("trailing", "leading", "linspace"):
            times = [float(level.t) for level in path.levels(n, spacing)]
            assert times[-1] == 0
            assert all(now > next for now, next in pairwise(times))
