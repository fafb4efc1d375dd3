import pytest
import torch

from diffusion_lessons.metrics import precision_recall


def cluster(centre: float, n: int, generator: torch.Generator) -> torch.Tensor:
    return torch.randn(n, 4, generator=generator) * 0.1 + centre


def test_the_same_set_is_covered_by_itself(generator: torch.Generator) -> None:
    x = torch.randn(200, 8, generator=generator)
    assert precision_recall(x, x) == (1.0, 1.0, 200, 200)


def test_sets_far_apart(generator: torch.Generator) -> None:
    result = precision_recall(cluster(0, 100, generator), cluster(10, 80, generator))
    assert result == (0.0, 0.0, 0, 0)


def test_a_lost_mode_costs_recall_and_an_invented_one_precision(generator: torch.Generator) -> None:
    one, two = cluster(0, 100, generator), cluster(10, 100, generator)
    both = torch.cat([one, two])
    lost = precision_recall(real=both, made=one)
    assert (lost.precision, lost.recall) == (1.0, 0.5)
    invented = precision_recall(real=one, made=both)
    assert (invented.precision, invented.recall) == (0.5, 1.0)


def test_balls_reach_to_the_kth_neighbour() -> None:
    """On a line at 0, 1, 3, 7 the first neighbours are 1, 1, 2, 4 away, the second ones 3, 2, 3, 6."""
    real = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    made = torch.tensor([[-1.0], [-1.1], [11.0], [11.1], [13.0], [13.1]])
    assert precision_recall(real, made, k=1).precise == 2  # −1 and 11
    assert precision_recall(real, made, k=2).precise == 5  # all but 13.1


def test_draws_of_one_distribution_cover_each_other(generator: torch.Generator) -> None:
    a, b = torch.randn(2, 1500, 4, generator=generator)
    result = precision_recall(a, b)
    assert min(result.precision, result.recall) > 0.9


def test_blind_to_order(generator: torch.Generator) -> None:
    a, b = torch.randn(100, 6, generator=generator), torch.randn(80, 6, generator=generator) * 1.5
    shuffled = precision_recall(a[torch.randperm(100)], b[torch.randperm(80)])
    assert precision_recall(a, b) == shuffled
    assert 0 < shuffled.precision < 1


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        precision_recall(torch.zeros(9, 2), torch.zeros(9, 2), k=0)
    with pytest.raises(ValueError, match=r"n = 3 is too few.*at least 4"):
        precision_recall(torch.zeros(9, 2), torch.zeros(3, 2), k=3)
    with pytest.raises(ValueError, match="got 2 and 3"):
        precision_recall(torch.zeros(9, 2), torch.zeros(9, 3))
    with pytest.raises(ValueError, match="finite"):
        precision_recall(torch.zeros(9, 2), torch.full((9, 2), float("nan")))
