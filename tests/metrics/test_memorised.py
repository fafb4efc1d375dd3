"""Copies are told from samples that know nothing of the training set."""

import pytest
import torch

from diffusion_lessons.metrics import nearer_to_training


def points(n: int, seed: int) -> torch.Tensor:
    return torch.randn(n, 8, generator=torch.Generator().manual_seed(seed))


def test_fresh_samples_are_nearer_to_either_half_of_the_time() -> None:
    share, low, high = nearer_to_training(points(1200, 1), points(500, 2), points(500, 3))
    assert low < 0.5 < high
    assert high - low < 0.06
    assert low < share < high


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_copies_are_nearer_to_the_training_set(noise: float) -> None:
    training = points(700, 2)
    made = training[:600] + noise * points(600, 5)
    assert nearer_to_training(made, training, points(700, 3)).share > 0.97
    assert nearer_to_training(made, points(700, 3), training).share < 0.03


def test_the_share_is_that_of_plain_distances() -> None:
    made, training, held_out = points(40, 1), points(30, 2), points(30, 3)
    nearer = torch.cdist(made, training).min(1).values < torch.cdist(made, held_out).min(1).values
    assert nearer_to_training(made, training, held_out).share == pytest.approx(float(nearer.float().mean()))


def test_a_larger_training_set_is_refused() -> None:
    with pytest.raises(ValueError, match="51 training samples against 50 held out"):
        nearer_to_training(points(9, 1), points(51, 2), points(50, 3))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="same number of features"):
        nearer_to_training(points(9, 1), points(50, 2)[:, :3], points(50, 3))
    with pytest.raises(ValueError, match="NaN"):
        nearer_to_training(points(9, 1), points(50, 2), points(50, 3) * torch.nan)
