"""Solvers that choose their own steps: scipy's, step for step, and never where no network was trained."""

import math

import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from diffusion_lessons import (
    DiscreteVP,
    Estimate,
    GaussianMixture,
    Level,
    OnPath,
    StraightPath,
    adaptive,
    cosine_betas,
    heun,
    sample,
)
from diffusion_lessons.runge_kutta import PAIRS
from tests.oracles import TrueX0, randn

MIXTURE = GaussianMixture(
    torch.tensor([[-1.0, 0.0], [1.0, 0.5], [0.0, -1.0]], dtype=torch.float64), [0.3, 0.2, 0.25]
)
PATH = StraightPath()
COSINE = DiscreteVP(cosine_betas())


class Watched:
    """A denoiser that remembers when it was asked."""

    def __init__(self, denoiser) -> None:
        self.denoiser, self.times = denoiser, []

    def __call__(self, x: Tensor, level: Level, condition=None) -> Estimate:
        self.times.append(float(level.t))
        return self.denoiser(x, level, condition)


def test_the_tables_are_consistent() -> None:
    """Each row sums to its node, and the weights of the error to 0."""
    for pair in PAIRS.values():
        assert [sum(row) for row in pair.rows] == pytest.approx(pair.nodes, abs=1e-14)
        assert sum(pair.error) == pytest.approx(0, abs=1e-14)
        assert len(pair.error) == len(pair.rows) + 1


@pytest.mark.parametrize("method", PAIRS)
@pytest.mark.parametrize("tolerance", [1e-2, 1e-4, 1e-7])
@pytest.mark.parametrize("last", [0.0, 0.2])
def test_it_is_scipys_solver_step_for_step(method, tolerance, last) -> None:
    x, levels = randn(20, 2), [PATH(1.0), PATH(last)]

    def slope(t, flat):
        estimate = MIXTURE(torch.from_numpy(flat).view_as(x), PATH(t))
        return (estimate.eps - estimate.x0).flatten().numpy()

    options = {"method": method.upper(), "rtol": tolerance, "atol": tolerance / 10}
    theirs = solve_ivp(slope, (1.0, max(last, 1e-3)), x.flatten().numpy(), **options)
    ours = Watched(MIXTURE)
    points = list(adaptive(ours, x, levels, method=method, rtol=tolerance, atol=tolerance / 10))
    assert len(ours.times) == theirs.nfev
    if last == 0:  # they stop at the least time: from there the last estimate is what is drawn
        level, x0, estimate = points.pop()
        assert float(level.t) == 0
        torch.testing.assert_close(x0, estimate.x0)
    assert [float(level.t) for level, _, _ in points] == pytest.approx(theirs.t.tolist(), abs=1e-9)
    reached = torch.from_numpy(theirs.y.T.copy()).view(-1, *x.shape)
    torch.testing.assert_close(torch.stack([x for _, x, _ in points]), reached, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("method", PAIRS)
def test_it_never_asks_at_t_0_nor_beyond_the_ends(method) -> None:
    """A solver of another library asks at t = −0.024, and ours would ask a network at 0."""
    for least in (1e-3, 0.02):
        asked = Watched(MIXTURE)
        *_, (level, x, _) = adaptive(asked, randn(50, 2), PATH.levels(1), method=method, least=least)
        assert min(asked.times) == least
        assert max(asked.times) == 1
        assert float(level.t) == 0
        assert bool(x.isfinite().all())


@pytest.mark.parametrize("start", [1e-3, 4e-4])
def test_from_the_least_time_on_there_is_one_step_and_one_question(start) -> None:
    asked = Watched(MIXTURE)
    points = list(adaptive(asked, randn(5, 2), [PATH(start), PATH(0.0)]))
    assert asked.times == [start]
    assert [float(level.t) for level, _, _ in points] == [start, 0.0]
    torch.testing.assert_close(points[1][1], points[0][2].x0)


def test_every_point_has_the_estimate_that_was_made_there() -> None:
    points = list(adaptive(MIXTURE, randn(8, 2), [PATH(1.0), PATH(0.1)]))
    assert len(points) > 3
    for level, x, estimate in points:
        torch.testing.assert_close(estimate, MIXTURE(x, level))


@pytest.mark.parametrize("method", PAIRS)
def test_a_smaller_tolerance_costs_more_and_comes_closer(method) -> None:
    x = randn(100, 2)
    truth = sample(MIXTURE, x, PATH.levels(4000), sampler=heun)
    gaps, costs = [], []
    for tolerance in (1e-2, 1e-4, 1e-6):
        asked = Watched(MIXTURE)
        options = {"rtol": tolerance, "atol": tolerance, "least": 1e-6}
        made = sample(asked, x, PATH.levels(1), sampler=adaptive, method=method, **options)
        gaps.append(float((made - truth).abs().max()))
        costs.append(len(asked.times))
    assert costs == sorted(costs)
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 3e-4


def test_a_straight_flow_is_walked_in_as_few_steps_as_it_may() -> None:
    """Towards one point all ways are straight: the error is 0, and each step ten times as long."""
    asked = TrueX0(randn(3, 2))
    points = list(adaptive(asked, randn(3, 2, seed=1), PATH.levels(1)))
    torch.testing.assert_close(points[-1][1], asked.x0, rtol=1e-6, atol=1e-6)
    assert len(points) <= 5


def test_a_denoiser_of_another_path_comes_on_it(generator) -> None:
    """The exact denoiser is exact on every path: what is drawn is the data."""
    x = torch.randn(20_000, 2, generator=generator)
    clusters = GaussianMixture([[-1.0, 0.0], [1.0, 0.0]], 0.2, [0.25, 0.75])
    made = sample(OnPath(clusters, COSINE), x, PATH.levels(1), sampler=adaptive, least=0.007)
    assert float((made[:, 0] > 0).double().mean()) == pytest.approx(0.75, abs=0.015)
    assert float(made[:, 1].std()) == pytest.approx(0.2, abs=0.01)
    with pytest.raises(ValueError, match="not those of the straight path: put the denoiser on it"):
        sample(clusters, x, COSINE.levels(1), sampler=adaptive)


def test_the_dtype_is_kept_and_an_empty_batch_stays_empty() -> None:
    for dtype in (torch.float32, torch.float64):
        clusters = GaussianMixture(torch.zeros(1, 2, dtype=dtype), 0.5)
        made = sample(clusters, torch.ones(0, 2, dtype=dtype), PATH.levels(1), sampler=adaptive)
        assert made.shape == (0, 2)
        made = sample(clusters, torch.ones(5, 2, dtype=dtype), PATH.levels(1), sampler=adaptive)
        assert made.dtype == dtype
        torch.testing.assert_close(made, torch.full_like(made, 0.5), rtol=0.02, atol=0.02)


def test_a_denoiser_that_fails_is_said() -> None:
    def broken(x: Tensor, level: Level, condition=None) -> Estimate:
        return Estimate(x * math.nan, x)

    with pytest.raises(ValueError, match="answer at t = 1 is not finite"):
        sample(broken, randn(2, 2), PATH.levels(1), sampler=adaptive)

    def jumping(x: Tensor, level: Level, condition=None) -> Estimate:
        high = 1e9 * float(level.t < 0.5)
        return Estimate(torch.full_like(x, high), x)

    with pytest.raises(ValueError, match=r"no step from t = 0\.5\d* is short enough"):
        sample(jumping, randn(2, 2), PATH.levels(1), sampler=adaptive, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"method": "rk54"}, "did you mean 'rk45'"),
        ({"rtol": 0.0}, "must lie above 0, got rtol=0.0"),
        ({"atol": -1.0}, "must lie above 0"),
        ({"atol": math.nan}, "must lie above 0"),
        ({"least": 0.0}, "must lie above 0"),
        ({"levels": [PATH(1.0)]}, "needs two levels, got 1"),
        ({"levels": [PATH(0.2), PATH(0.7)]}, r"must fall, from noise to data, got t = 0\.2 to 0\.7"),
        ({"levels": [PATH(torch.ones(2)), PATH(torch.zeros(2))]}, "give one time for all"),
    ],
)
def test_bad_input_is_said(changes, said) -> None:
    options = {"levels": PATH.levels(1), **changes}
    with pytest.raises(ValueError, match=said):
        sample(MIXTURE, randn(2, 2), sampler=adaptive, **options)
