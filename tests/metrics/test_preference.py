"""Strengths from votes: the likeliest ones, honest where there are none, with errors that cover."""

import itertools
import math
from collections.abc import Sequence

import choix
import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from diffusion_lessons.metrics.preference import FIRST, SECOND, TIE, Vote, bradley_terry, first_chosen

NAMES, TRUE = "abcde", np.array([1.0, 0.4, 0.0, -0.5, -0.9])


def drawn(n: int, seed: int = 0, nu: float = 0.0) -> list[Vote]:
    """Votes from known strengths."""
    random = np.random.default_rng(seed)
    votes = []
    for _ in range(n):
        i, j = random.choice(len(TRUE), 2, replace=False)
        odds = np.exp([TRUE[i], TRUE[j], (TRUE[i] + TRUE[j]) / 2]) * [1, 1, nu]
        choice = random.choice([FIRST, SECOND, TIE], p=odds / odds.sum())
        votes.append(Vote(NAMES[i], NAMES[j], str(choice)))
    return votes


def in_order(votes: Sequence[Vote]) -> np.ndarray:
    ratings = bradley_terry(votes)
    return np.array([ratings.strengths[ratings.names.index(name)].item() for name in NAMES])


def test_the_strengths_are_the_likeliest_by_another_optimizer() -> None:
    votes = drawn(300, nu=0.7)

    def loss(p: np.ndarray) -> float:
        total = 0.0
        for first, second, choice in votes:
            a, b = p[NAMES.index(first)], p[NAMES.index(second)]
            logits = [a, b, (a + b) / 2 + p[-1]]
            total += np.logaddexp.reduce(logits) - logits[[FIRST, SECOND, TIE].index(choice)]
        return total

    best = minimize(loss, np.zeros(6), method="BFGS", options={"gtol": 1e-8}).x
    assert np.abs(in_order(votes) - (best[:5] - best[:5].mean())).max() < 1e-6
    assert math.log(bradley_terry(votes).tie) == pytest.approx(best[-1], abs=1e-6)


def test_without_ties_the_strengths_are_those_of_choix() -> None:
    votes = drawn(400)
    wins = [(v.first, v.second) if v.choice == FIRST else (v.second, v.first) for v in votes]
    theirs = choix.ilsr_pairwise(5, [(NAMES.index(w), NAMES.index(l)) for w, l in wins], alpha=0, tol=1e-12)
    assert np.abs(in_order(votes) - (theirs - theirs.mean())).max() < 1e-7


def test_two_things_have_the_odds_of_their_votes() -> None:
    ratings = bradley_terry([Vote("x", "y", FIRST)] * 3 + [Vote("x", "y", SECOND)])
    difference, error = ratings.difference("x", "y")
    assert difference == pytest.approx(math.log(3))
    assert error == pytest.approx(math.sqrt(1 / 3 + 1 / 1))  # of a log odds
    assert ratings.chosen("x", "y")[0] == pytest.approx(0.75)
    assert ratings.names == ("x", "y")
    assert ratings.tie == 0
    assert ratings.difference("y", "x")[0] == -difference


def test_the_errors_cover_the_truth_as_often_as_they_say() -> None:
    inside = []
    for seed in range(60):
        ratings = bradley_terry(drawn(150, seed, nu=0.5))
        for a, b in itertools.combinations(NAMES, 2):
            difference, error = ratings.difference(a, b)
            true = TRUE[NAMES.index(a)] - TRUE[NAMES.index(b)]
            inside.append(abs(difference - true) < 1.96 * error)
    assert 0.92 < np.mean(inside) < 0.98


def test_a_thing_that_is_added_changes_no_other() -> None:
    votes = drawn(200)
    more = [*votes, Vote("a", "z", FIRST), Vote("a", "z", SECOND)]
    before, after = bradley_terry(votes), bradley_terry(more)
    assert after.difference("b", "c")[0] == pytest.approx(before.difference("b", "c")[0], abs=1e-7)
    assert float(after.strengths.mean()) == pytest.approx(0, abs=1e-12)
    assert after.difference("a", "z")[0] == pytest.approx(0, abs=1e-7)


def test_ties_say_that_things_are_alike() -> None:
    lost = [Vote("x", "y", SECOND)]
    few, many = (
        bradley_terry([Vote("x", "y", FIRST)] * 2 + lost + [Vote("x", "y", TIE)] * n) for n in (1, 50)
    )
    assert few.difference("x", "y")[0] == pytest.approx(many.difference("x", "y")[0])  # of decided votes
    assert few.tie < many.tie


@pytest.mark.parametrize(
    ("votes", "words"),
    [
        ([], "no votes"),
        ([Vote("a", "a", FIRST)], "between two things, got 'a' twice"),
        ([Vote("a", "b", "left")], "'left'"),
        ([Vote("a", "b", TIE)], "all votes are ties"),
        ([Vote("a", "b", FIRST)] * 5, "no finite strengths: [ab] never lost"),
        ([Vote(*pair, choice) for pair in ("ab", "cd") for choice in (FIRST, SECOND)], "never met"),
        (drawn(100) + [Vote("a", "king", SECOND)], "no finite strengths: king never lost"),
    ],
)
def test_votes_that_give_no_strengths_are_refused(votes: list[Vote], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        bradley_terry(votes)


def test_an_unknown_name_is_said() -> None:
    with pytest.raises(ValueError, match="'q'"):
        bradley_terry(drawn(100)).chosen("a", "q")


def test_the_order_of_showing_is_measured_on_decided_votes() -> None:
    votes = [Vote("a", "b", FIRST)] * 30 + [Vote("b", "a", SECOND)] * 10 + [Vote("a", "b", TIE)] * 99
    share, low, high = first_chosen(votes)
    assert share == 0.75
    assert 0.5 < low < share < high < 1
    with pytest.raises(ValueError, match="got 0 of 0"):
        first_chosen(votes[-1:])


def test_large_and_lopsided_counts_end_at_the_top() -> None:
    votes = [Vote("a", "b", FIRST)] * 9999 + [Vote("a", "b", SECOND)]
    votes += [Vote("b", "c", FIRST)] * 9999 + [Vote("b", "c", SECOND)]
    ratings = bradley_terry(votes)
    assert ratings.difference("a", "c")[0] == pytest.approx(2 * math.log(9999), rel=1e-6)
    assert torch.linalg.eigvalsh(ratings.covariance).min() > -1e-9
