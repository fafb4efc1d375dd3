"""Our numbers in part, in a pile, in another order, cut off or rounded; and what must not be taken for it."""

from collections.abc import Callable

import numpy as np
import pytest

from diffusion_lessons.course.exercises.pieces import piece

DRAWN = np.random.default_rng(0)
OURS = [DRAWN.normal(size=n) for n in (5, 3, 7)]
ROWS = [DRAWN.normal(size=(n, 2, 3)) for n in (4, 6)]
Change = Callable[[np.ndarray], np.ndarray]


def said(change: Change, ours: list[np.ndarray] = OURS) -> str:
    return (piece([(each, change(each)) for each in ours], 1e-4, 1e-5) or ("", ""))[0]


def shuffled(a: np.ndarray) -> np.ndarray:
    return np.concatenate([a[2:], a[:2]])


PIECES: dict[str, tuple[Change, list[np.ndarray], str]] = {
    "first as a batch": (lambda a: a[:1], ROWS, "the first entry of ours alone: does a `return`"),
    "first as a number": (lambda a: a[0], OURS, "the first entry of ours alone: does a `return`"),
    "last": (lambda a: a[-1], ROWS, "the last entry of ours alone."),
    "zeros after the first": (lambda a: np.concatenate([a[:1], 0 * a[1:]]), ROWS, "all others are 0: does a"),
    "all rounds": (lambda a: np.stack([a + 2, a + 1, a]), ROWS, "a pile of several, and its last entry is"),
    "pile from ours on": (lambda a: np.stack([a, a + 1]), ROWS, "its first entry is ours"),
    "one before": (lambda a: np.concatenate([[9.0], a]), OURS, "and one more at the start"),
    "one after": (lambda a: np.concatenate([a, [9.0]]), OURS, "and one more at the end"),
    "among others": (lambda a: np.concatenate([[8.0, 9.0], a[::-1]]), OURS, "holds ours and more"),
    "sorted": (np.sort, OURS, "in another order"),
    "turned": (shuffled, OURS, "in another order"),
    "constant": (lambda a: np.array(2.5), OURS, "Your result is 2.5 in every case, whatever comes in."),
    "cut above": (lambda a: a.clip(max=0.1), OURS, "everything above 0.1 cut off"),
    "cut below": (lambda a: a.clip(min=-0.2), ROWS, "everything below −0.2 cut off"),
}


@pytest.mark.parametrize("name", PIECES)
def test_what_was_done_to_our_numbers_is_named(name: str) -> None:
    change, ours, expected = PIECES[name]
    assert expected in said(change, ours)


def test_ours_but_for_rounding_is_single_precision() -> None:
    single = [(each, each.astype(np.float32).astype(float)) for each in ROWS]
    found = piece(single, 1e-12, 1e-12)
    assert found is not None and "in float32, not float64" in found[0]
    assert piece([(mine, mine + 1e-7) for mine in ROWS], 1e-12, 1e-12) is None  # off, and in all digits


OTHERS: dict[str, Change] = {
    "right": lambda a: a,
    "NaN": lambda a: np.full_like(a, np.nan),
    "NaN in part": lambda a: np.where(a > 0, np.nan, a),
    "another": lambda a: a + 0.3 * a**2,
    "smaller at the top": lambda a: np.where(a == a.max(), a - 0.1, a),
    "nothing": lambda a: a[:0],
    "a number": lambda a: np.array(len(a) + 0.5),
    "longer": lambda a: np.arange(len(a) + 2.0),
}


@pytest.mark.parametrize("name", OTHERS)
def test_nothing_is_named_where_it_is_something_else(name: str) -> None:
    assert said(OTHERS[name]) == ""


def test_one_case_of_a_few_numbers_is_too_little() -> None:
    assert said(np.sort, OURS[:1]) == ""
    assert said(lambda a: a[:1], [ROWS[0], ROWS[0][:1]]) == ""
