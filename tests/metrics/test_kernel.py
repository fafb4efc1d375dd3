import pytest
import torch

from diffusion_lessons.metrics import kernel, kernel_distance, kernel_error


def by_loops(a: torch.Tensor, b: torch.Tensor) -> float:
    """The unbiased estimate, written out pair by pair."""

    def k(x: torch.Tensor, y: torch.Tensor) -> float:
        return float((x @ y / len(x) + 1) ** 3)

    n, m = len(a), len(b)
    aa = sum(k(a[i], a[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    bb = sum(k(b[i], b[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return aa + bb - 2 * sum(k(x, y) for x in a for y in b) / (n * m)


def test_agrees_with_the_sum_over_pairs(generator: torch.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    a = torch.randn(7, 5, dtype=torch.float64, generator=generator)
    b = torch.randn(5, 5, dtype=torch.float64, generator=generator) + 1
    assert kernel_distance(a, b) == pytest.approx(by_loops(a, b), rel=1e-12)
    monkeypatch.setattr(kernel, "CHUNK", 3)
    assert kernel_distance(a, b) == pytest.approx(by_loops(a, b), rel=1e-12)


def test_unbiased_at_any_number_of_samples(generator: torch.Generator) -> None:
    """Where the Fréchet distance of the same sets is 22 at n = 100, this is 0 within its own spread."""
    for n in (20, 100, 500):
        draws = torch.tensor(
            [kernel_distance(*torch.randn(2, n, 64, generator=generator)) for _ in range(60)]
        )
        assert abs(draws.mean()) < 3 * draws.std() / 60**0.5
        assert draws.min() < 0 < draws.max()
    assert draws.abs().max() < 0.01


def test_known_value_for_a_shift(generator: torch.Generator) -> None:
    """In one dimension E k for unit Gaussians at μ, ν: E (xy + 1)³ = (m₃m₃' + 3·m₂m₂' + 3·m₁m₁' + 1)."""
    a = torch.randn(4000, 1, dtype=torch.float64, generator=generator)
    b = torch.randn(4000, 1, dtype=torch.float64, generator=generator) + 1
    # moments at 0: (0, 1, 0), at 1: (1, 2, 4); the distance is Σ weight·(difference of moments)²
    assert kernel_distance(a, b) == pytest.approx(3 * 1 + 3 * 1 + 16, rel=0.1)


def test_symmetric_and_blind_to_order(generator: torch.Generator) -> None:
    a, b = torch.randn(40, 3, generator=generator), torch.randn(30, 3, generator=generator) + 1
    d = kernel_distance(a, b)
    assert kernel_distance(b, a) == pytest.approx(d, rel=1e-12)
    assert kernel_distance(a[torch.randperm(40, generator=generator)], b) == pytest.approx(d, rel=1e-10)


def test_error_is_the_spread_over_repeated_draws(generator: torch.Generator) -> None:
    b = torch.randn(300, 8, generator=generator)
    sets = torch.randn(60, 200, 8, generator=generator) + 0.5
    spread = torch.tensor([kernel_distance(a, b) for a in sets]).std().item()
    assert kernel_error(sets[0], b) == pytest.approx(spread, rel=0.35)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (torch.zeros(1, 8), torch.zeros(20, 8), "n = 1 is too few"),
        (torch.zeros(20, 8), torch.zeros(20, 7), "got 8 and 7"),
        (torch.zeros(20), torch.zeros(20), r"\(N, D\)"),
        (torch.full((20, 8), float("nan")), torch.zeros(20, 8), "finite"),
    ],
)
def test_bad_input_is_refused(a: torch.Tensor, b: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kernel_distance(a, b)
