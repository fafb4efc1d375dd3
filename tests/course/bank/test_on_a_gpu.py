"""Every right answer passes on a GPU, too, as the check of a lesson runs it there."""

import pytest

from diffusion_lessons.course import bank
from diffusion_lessons.course.exercises.exercise import Exercise
from diffusion_lessons.course.exercises.judging import judge
from diffusion_lessons.course.exercises.running import run
from tests.pretend_gpu import pretend_gpu

EXERCISES = bank.exercises()


@pytest.mark.parametrize("exercise", EXERCISES, ids=[each.id for each in EXERCISES])
def test_right_answers_pass_on_a_gpu(exercise: Exercise) -> None:
    with pretend_gpu():
        for place, function in enumerate((exercise.reference, *exercise.alternatives)):
            verdict = judge(exercise, run(exercise, function, device="cuda"))
            name = f"alternative {place}" if place else "the reference"
            assert verdict.passed, f"{name}, on case {verdict.case!r}: {verdict.message}"
