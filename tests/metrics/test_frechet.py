import pytest
import scipy.linalg
import torch
from torch import Tensor

from diffusion_lessons.metrics import (
    Statistics,
    frechet_at_infinity,
    frechet_between,
    frechet_distance,
    frechet_error,
)


def gaussian(mean: Tensor, covariance: Tensor) -> Statistics:
    return Statistics(mean.double(), covariance.double(), 1000)


def random_covariance(dim: int, generator: torch.Generator, rank: int | None = None) -> Tensor:
    factor = torch.randn(dim, rank or 2 * dim, dtype=torch.float64, generator=generator)
    return factor @ factor.T / factor.shape[1]


def test_closed_form_for_diagonal_covariances() -> None:
    a = gaussian(torch.tensor([0.0, 1.0, 2.0]), torch.diag(torch.tensor([1.0, 4.0, 9.0])))
    b = gaussian(torch.tensor([3.0, 1.0, 2.0]), torch.diag(torch.tensor([4.0, 4.0, 1.0])))
    # |(3, 0, 0)|² + (1 − 2)² + 0 + (3 − 1)²
    assert frechet_between(a, b) == pytest.approx(9 + 1 + 4, abs=1e-12)


def test_agrees_with_the_matrix_square_root(generator: torch.Generator) -> None:
    first, second = random_covariance(20, generator), random_covariance(20, generator)
    shift = torch.randn(20, dtype=torch.float64, generator=generator)
    root = scipy.linalg.sqrtm((first @ second).numpy()).real
    expected = shift.square().sum() + (first + second).trace() - 2 * root.trace()
    zero = torch.zeros(20, dtype=torch.float64)
    found = frechet_between(gaussian(zero, first), gaussian(shift, second))
    assert found == pytest.approx(expected.item(), rel=1e-9)


def test_covariances_without_full_rank_stay_finite_and_exact(generator: torch.Generator) -> None:
    mean = torch.zeros(30, dtype=torch.float64)
    flat = random_covariance(30, generator, rank=3)
    assert frechet_between(gaussian(mean, flat), gaussian(mean, flat)) == pytest.approx(0, abs=1e-10)
    # against nothing at all, what is left is all of the spread
    nothing = gaussian(mean, torch.zeros(30, 30))
    assert frechet_between(gaussian(mean, flat), nothing) == pytest.approx(flat.trace().item(), rel=1e-12)


def test_symmetric_and_blind_to_order_and_rotation(generator: torch.Generator) -> None:
    a = torch.randn(300, 8, generator=generator)
    b = torch.randn(200, 8, generator=generator) * 1.3 + 0.2
    turn = torch.linalg.qr(torch.randn(8, 8, generator=generator, dtype=torch.float64)).Q
    d = frechet_distance(a, b)
    assert d > 0.3
    assert frechet_distance(b, a) == pytest.approx(d, rel=1e-9)
    assert frechet_distance(a[torch.randperm(300, generator=generator)], b) == pytest.approx(d, rel=1e-9)
    assert frechet_distance(a.double() @ turn, b.double() @ turn) == pytest.approx(d, rel=1e-9)


def test_the_bias_falls_with_the_number_of_samples(generator: torch.Generator) -> None:
    """Two sets of n of one 64-d Gaussian: 22.2 ± 0.7 apart at n = 100, 0.55 ± 0.02 at n = 4000."""

    def apart(n: int) -> float:
        a, b = torch.randn(2, n, 64, dtype=torch.float64, generator=generator)
        return frechet_distance(a, b)

    distances = [apart(n) for n in (100, 250, 1000, 4000)]
    assert distances[0] == pytest.approx(21.7, abs=2)
    assert distances[3] == pytest.approx(0.55, abs=0.06)
    assert distances[0] > 2 * distances[1] > 4 * distances[2] > 8 * distances[3]


def test_statistics_are_those_of_numpy(generator: torch.Generator) -> None:
    features = torch.randn(50, 4, generator=generator)
    s = Statistics.of(features)
    torch.testing.assert_close(s.mean, features.double().mean(0))
    torch.testing.assert_close(s.covariance, torch.cov(features.double().T))
    assert s.n == 50


def test_weights_count_as_repeated_rows(generator: torch.Generator) -> None:
    features = torch.randn(6, 2, dtype=torch.float64, generator=generator)
    weighted = Statistics.weighted(features, torch.tensor([2.0, 0, 1, 3, 0, 0]).double())
    repeated = Statistics.of(features[[0, 0, 2, 3, 3, 3]])
    torch.testing.assert_close(weighted.mean, repeated.mean)
    torch.testing.assert_close(weighted.covariance, repeated.covariance)


def test_error_is_the_spread_over_repeated_draws(generator: torch.Generator) -> None:
    reference = gaussian(torch.zeros(4), torch.eye(4))
    sets = torch.randn(100, 400, 4, dtype=torch.float64, generator=generator) + 0.5
    spread = torch.tensor([frechet_between(Statistics.of(x), reference) for x in sets]).std().item()
    assert frechet_error(sets[0], reference) == pytest.approx(spread, rel=0.3)
    assert frechet_error(sets[0], reference) == frechet_error(sets[0], reference)


@pytest.mark.parametrize("shift", [0.0, 0.1])
def test_at_infinity_the_bias_is_gone(shift: float, generator: torch.Generator) -> None:
    """Twenty sets of the same few samples: their distances lie above the truth, the intercepts about it."""
    reference, truth = gaussian(torch.zeros(16), torch.eye(16)), 16 * shift**2
    sets = torch.randn(20, 200, 16, dtype=torch.float64, generator=generator) + shift
    plain = torch.tensor([frechet_between(Statistics.of(x), reference) for x in sets])
    at_infinity = torch.tensor([frechet_at_infinity(x, reference) for x in sets])
    error = float(at_infinity.std()) / 20**0.5
    assert abs(float(at_infinity.mean()) - truth) < 4 * error
    assert float(plain.mean()) - truth > 6 * abs(float(at_infinity.mean()) - truth)
    assert frechet_at_infinity(sets[0], reference) == frechet_at_infinity(sets[0], reference)


def test_at_infinity_the_line_is_the_least_squares_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusion_lessons.metrics import frechet

    monkeypatch.setattr(frechet, "frechet_between", lambda some, reference: 3 + 40 / some.n)
    found = frechet_at_infinity(torch.randn(400, 5), gaussian(torch.zeros(5), torch.eye(5)))
    assert found == pytest.approx(3, abs=1e-9)


@pytest.mark.parametrize(("n", "sizes"), [(6, 15), (7, 15), (400, 1)])
def test_too_little_for_a_line_is_refused(n: int, sizes: int) -> None:
    with pytest.raises(ValueError, match="two sizes of sets from 7 samples on"):
        frechet_at_infinity(torch.randn(n, 5), gaussian(torch.zeros(5), torch.eye(5)), sizes)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (torch.zeros(9, 8), torch.zeros(20, 8), "n = 9 is too few for 8 features.* at least 10"),
        (torch.zeros(20, 8), torch.zeros(20, 7), "same number of features, got 8 and 7"),
        (torch.zeros(20, 8, 1), torch.zeros(20, 8), r"\(N, D\).*got \(20, 8, 1\)"),
        (torch.full((20, 8), float("nan")), torch.zeros(20, 8), "first set must be finite; 20 of 20"),
        (torch.zeros(20, 8), torch.full((20, 8), float("inf")), "second set must be finite"),
    ],
)
def test_bad_input_is_refused(a: Tensor, b: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        frechet_distance(a, b)


def test_bad_statistics_are_refused() -> None:
    with pytest.raises(ValueError, match=r"mean \(D,\) and a covariance"):
        Statistics(torch.zeros(3), torch.zeros(3, 2), 10)
    with pytest.raises(ValueError, match="NaN"):
        Statistics(torch.zeros(2), torch.full((2, 2), float("nan")), 10)
    with pytest.raises(ValueError, match="got 3 and 2"):
        frechet_between(gaussian(torch.zeros(3), torch.eye(3)), gaussian(torch.zeros(2), torch.eye(2)))
