"""Every exercise of every lesson is held to the same: later lessons come in with no change here."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from diffusion_lessons.course import bank
from diffusion_lessons.course.bank.validation import validate
from diffusion_lessons.course.exercises.check import check
from diffusion_lessons.course.exercises.exercise import Case, Exercise, Misconception
from diffusion_lessons.paths import DiscreteVP
from diffusion_lessons.schedules import cosine_betas, linear_betas


@pytest.mark.parametrize("exercise", bank.exercises(), ids=lambda exercise: exercise.id)
def test_the_exercise_holds_all_that_is_asked(exercise: Exercise) -> None:
    assert validate(exercise) == []


@pytest.mark.parametrize(
    ("exercise", "name"),
    [(exercise, each.name) for exercise in bank.exercises() for each in exercise.misconceptions],
    ids=lambda value: value.id if isinstance(value, Exercise) else value,
)
def test_each_misconception_is_told_its_own_sentence(exercise: Exercise, name: str) -> None:
    """On cases that the public bank does not show, too."""
    verdict = check(exercise, exercise.misconception(name).function, seed=1234)
    if name == exercise.planted:
        assert (verdict.status, verdict.kind) == ("not attempted", "planted")
    else:
        assert (verdict.status, verdict.misconception) == ("wrong", name)
        assert verdict.message == exercise.misconception(name).sentence


def test_lesson_02_has_the_exercises_of_the_syllabus() -> None:
    assert [each.id for each in bank.exercises("02")] == [f"02.{n}" for n in range(1, 7)]
    assert [each.kind for each in bank.exercises("02")].count("debug") == 1


def test_the_figure_of_02_3_says_in_words_what_it_shows() -> None:
    equal_time = bank.get("02.3")
    for betas in (linear_betas(), cosine_betas()):
        assert f"{equal_time.reference(DiscreteVP(betas).alphas_cumprod)} for the" in equal_time.figure_alt


def test_an_unknown_exercise_gets_the_nearest_right_one() -> None:
    with pytest.raises(ValueError, match=r"unknown exercise '2\.1'.*did you mean '02\.1'"):
        bank.get("2.1")
    with pytest.raises(ValueError, match=r"unknown lesson with exercises '99'"):
        bank.exercises("99")


# The validation itself -------------------------------------------------------------------------------


def double(x: torch.Tensor) -> torch.Tensor:
    return 2 * x


def triple(x: torch.Tensor) -> torch.Tensor:
    return 3 * x


def numbers(n: int) -> Callable[[torch.Generator], dict[str, Any]]:
    return lambda g: {"x": torch.randn(n, generator=g)}


def good(**changes: Any) -> Exercise:
    sentence = "You did the {} of it, and twice the input is what was asked for."
    fields: dict[str, Any] = {
        "id": "99.1",
        "name": "double",
        "title": "Double",
        "kind": "implement",
        "difficulty": 1,
        "minutes": 1,
        "reference": double,
        "cases": [Case(f"{n} numbers", numbers(n)) for n in (3, 5, 8)],
        "misconceptions": [
            Misconception("triple", triple, sentence.format("triple"), "factor"),
            Misconception("square", lambda x: x**2, sentence.format("square"), "root"),
            Misconception("half", lambda x: x / 2, sentence.format("half"), "factor"),
        ],
        "alternatives": [lambda x: x + x, lambda x: x * 2],
        "hints": ("Think.", "2·x", "return … * x"),
    }
    return Exercise(**fields | changes)


def changed_input(x: torch.Tensor) -> torch.Tensor:
    return x.mul_(2)


def twin() -> list[Misconception]:
    first, *others = good().misconceptions
    return [first, *others, replace(first, name="triple-again", sentence=first.sentence + " Again.")]


DRAWS = torch.Generator().manual_seed(0)
WEAK: dict[str, tuple[dict[str, Any], str]] = {
    "too few cases": ({"cases": good().cases[:2]}, "2 cases, at least 3"),
    "too few misconceptions": ({"misconceptions": good().misconceptions[:2]}, "2 misconceptions"),
    "too few alternatives": ({"alternatives": [lambda x: x + x]}, "1 alternatives"),
    "two hints": ({"hints": ("Think.", "2·x")}, "three different hints"),
    "one sentence for two": (
        {"misconceptions": [replace(each, sentence="x" * 50) for each in good().misconceptions]},
        "a sentence of its own",
    ),
    "cases from a global generator": (
        {"cases": [Case(str(n), lambda g: {"x": torch.randn(4, generator=DRAWS)}) for n in range(3)]},
        "gives other inputs the second time",
    ),
    "reference changes its input": ({"reference": changed_input}, "changes its input 'x'"),
    "reference raises": ({"reference": lambda x: x.nothing}, "the reference raises"),
    "reference returns no data": ({"reference": lambda x: lambda: x}, "what is not data"),
    "a misconception that is right": (
        {"misconceptions": [*good().misconceptions, Misconception("sum", lambda x: x + x, "y" * 50)]},
        "'sum' passes",
    ),
    "two misconceptions alike": ({"misconceptions": twin()}, "'triple-again' reads 'triple'"),
    "a wrong alternative": ({"alternatives": [lambda x: x + x, triple]}, "alternative 2 does not pass"),
    "no kind of slip": (
        {"misconceptions": [replace(each, about="") for each in good().misconceptions]},
        "'square' needs `about`, the kind of slip",
    ),
    "debug without a bug": ({"kind": "debug"}, "names its `planted` bug"),
    "a planted bug that is right": (
        {"kind": "debug", "planted": "fine", "misconceptions": [
            *good().misconceptions, Misconception("fine", double, "z" * 50)]},
        "the reference does not pass",
    ),
    "a figure without words": ({"figure": lambda reference: None}, "figure_alt"),
    "a figure of its own": ({"figure": lambda reference: 3, "figure_alt": "x" * 30}, "a matplotlib"),
}  # fmt: skip


def test_a_good_exercise_is_accepted() -> None:
    assert validate(good()) == []


@pytest.mark.parametrize("weakness", WEAK)
def test_a_weak_exercise_is_told_what_it_lacks(weakness: str) -> None:
    changes, expected = WEAK[weakness]
    problems = validate(good(**changes))
    assert any(expected in problem for problem in problems), problems
    assert all(problem.startswith("exercise 99.1: ") for problem in problems)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"id": "2.1"}, 'like "02.1"'),
        ({"kind": "implment"}, "did you mean 'implement'"),
        ({"difficulty": 4}, "difficulty is 1, 2 or 3"),
        ({"trains": ("y",)}, "trains 'y', and no case gives it"),
        ({"planted": "tripel"}, "did you mean 'triple'"),
        ({"cases": good().cases[:1] * 2}, "two cases are named"),
        ({"misconceptions": good().misconceptions[:1] * 2}, "two misconceptions are named"),
    ],
)
def test_a_malformed_exercise_is_refused(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        good(**changes)
