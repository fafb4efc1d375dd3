"""Where a notebook answers an exercise, however its cells were moved, copied, merged or renamed."""

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass

from diffusion_lessons.course.exercises.exercise import Exercise
from diffusion_lessons.course.grading.code.statements import Broken, Code, Statement, exercise_id

MOST = 5  # answers to one exercise that are looked at


@dataclass(frozen=True)
class Answer:
    """A statement that answers an exercise; `name` is what it binds."""

    statement: Statement
    name: str


def answers(exercise: Exercise, code: Code, ids: Mapping[int, str]) -> list[Answer]:
    """The answers to an exercise, those that count first.

    First what is decorated with its id, then what has its name, then what stands in its cell; of
    each the last first, as that is what running the notebook leaves behind.

    Args:
        ids: of the cells.
    """
    marked = [Answer(each, _name(each)) for each in code.statements if _marks(each) == exercise.id]
    named = [
        Answer(each, exercise.name)
        for each in code.statements
        if _marks(each) is None and exercise.name in each.binds and _can_answer(each)
    ]
    own = [
        Answer(each, _name(each))
        for each in code.statements
        if own_cell(exercise, ids.get(each.place[0], "")) and _marks(each) is None and each.is_definition
    ]
    groups = (marked, named, () if marked or named else own[-1:])
    found = {each.statement: each for group in groups for each in reversed(group)}
    return list(found.values())[:MOST]


def broken(
    exercise: Exercise, code: Code, sources: Mapping[int, str], ids: Mapping[int, str]
) -> list[Broken]:
    """Cells of an exercise that are no Python."""
    mark = re.compile(rf"exercise\(\s*['\"]{re.escape(exercise.id)}['\"]")
    return [
        each
        for each in code.broken
        if mark.search(sources[each.cell]) or own_cell(exercise, ids.get(each.cell, ""))
    ]


def own_cell(exercise: Exercise, id: str) -> bool:
    """Is this the id that the build gave to the exercise's cell?"""
    return id == "exercise-" + exercise.id.replace(".", "-")


def _marks(statement: Statement) -> str | None:
    if statement.exercise is not None:
        return statement.exercise
    value = getattr(statement.node, "value", None)  # answer = exercise("02.1")(function)
    if isinstance(statement.node, ast.Assign) and isinstance(value, ast.Call):
        return exercise_id(value.func)
    return None


def _name(statement: Statement) -> str:
    return str(getattr(statement.node, "name", None) or min(statement.binds, default=""))


def _can_answer(statement: Statement) -> bool:
    return statement.is_definition or isinstance(statement.node, ast.Assign)
