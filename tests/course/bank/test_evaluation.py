"""Answers to lesson 20 that are right in another form, and wrong ones that look right."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from diffusion_lessons.course import bank
from diffusion_lessons.course.bank.lesson_20 import frechet_distance, precision_recall
from diffusion_lessons.course.exercises.check import check


def _plain_strengths(wins: Tensor) -> tuple[Tensor, Tensor]:
    """In the dtype of the wins, without a cast."""
    games, theta = wins + wins.T, torch.zeros(len(wins))
    for _ in range(30):
        p = torch.sigmoid(theta[:, None] - theta[None])
        v = games * p * (1 - p)
        information = torch.diag(v.sum(1)) - v
        theta = theta + torch.linalg.pinv(information) @ (wins - games * p).sum(1)
    return theta - theta.mean(), torch.linalg.pinv(information)


def _shares_in_a_tensor(real: Tensor, made: Tensor, k: int) -> Tensor:
    return torch.tensor(precision_recall(real, made, k), dtype=torch.float64)


def _shares_in_an_array(real: Tensor, made: Tensor, k: int) -> Any:
    return _shares_in_a_tensor(real, made, k).numpy()


@pytest.mark.parametrize(
    ("id", "answer"),
    [("20.5", _shares_in_a_tensor), ("20.5", _shares_in_an_array), ("20.6", _plain_strengths)],
)
def test_a_right_answer_in_another_form_passes(id: str, answer: Callable[..., Any]) -> None:
    verdict = check(bank.get(id), answer)
    assert verdict.passed, verdict.message


def test_a_complex_distance_is_refused() -> None:
    def answer(a: Tensor, b: Tensor) -> Tensor:
        return torch.tensor(complex(frechet_distance(a, b)))

    verdict = check(bank.get("20.1"), answer)
    assert not verdict.passed and ".real" in verdict.message


def test_three_shares_are_refused() -> None:
    def answer(real: Tensor, made: Tensor, k: int) -> Tensor:
        return torch.tensor([*precision_recall(real, made, k), 0.0])

    assert not check(bank.get("20.5"), answer).passed
