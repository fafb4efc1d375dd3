"""Our own solutions as pieces, from what the build keeps of each lesson (`authoring.ours`)."""

import json
from functools import cache
from pathlib import Path

from diffusion_lessons.course import bank
from diffusion_lessons.course.exercises.exercise import Exercise
from diffusion_lessons.course.grading.code.plan import plan
from diffusion_lessons.course.mine.pieces import Piece, cut

FOLDER = Path(__file__).parent / "ours"


def exercises() -> list[Exercise]:
    """The exercises whose answers are code: all but those that predict."""
    return [exercise for exercise in bank.exercises() if exercise.kind != "predict"]


def ours(exercise: Exercise) -> Piece:
    """Our solution; ValueError where this installation has none."""
    found = _lesson(exercise.lesson)
    if not found.get(exercise.id, {}).get("answers"):
        again = f"python -m diffusion_lessons.course.authoring.build {exercise.lesson}"
        raise ValueError(f"our solution of exercise {exercise.id} is not in this installation: run `{again}`")
    return cut(found, exercise, found[exercise.id]["answers"][0], f"ours of {exercise.lesson}", "ours")


@cache
def _lesson(lesson: str) -> dict:
    file = FOLDER / f"{lesson}.json"
    cells = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return plan(dict(enumerate(cells.items())), bank.exercises(lesson))
