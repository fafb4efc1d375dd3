"""What to run for each exercise of a notebook: made by reading its code, in a process of its own."""

import ast
from collections.abc import Mapping, Sequence
from textwrap import dedent
from typing import Any, NamedTuple

from diffusion_lessons.course.exercises.exercise import Exercise
from diffusion_lessons.course.exercises.mark import DEFINITIONS, cell_id, ids_in, same_level
from diffusion_lessons.course.grading.code.reaching import REACHES_INSIDE, flags
from diffusion_lessons.course.grading.code.slicing import Slicer
from diffusion_lessons.course.grading.code.statements import (
    Broken,
    Code,
    Place,
    Statement,
    bound,
    exercise_of,
    read,
)

Cells = Mapping[int, tuple[str, str]]  # place in the notebook -> (id, source)
MOST = 5  # answers to one exercise that are looked at
MAX_SHOWN = 20_000  # characters of an answer's text


class Answer(NamedTuple):
    """A statement that answers an exercise, the part of it that does, and the name that this binds."""

    statement: Statement
    node: ast.stmt
    name: str


def plan(cells: Cells, exercises: Sequence[Exercise]) -> dict[str, Any]:
    """For each exercise its answers in cells of code, those that count first, with what each needs; JSON."""
    code = read({place: source for place, (_, source) in cells.items()})
    slicer = Slicer(code.statements)
    found: dict[str, Any] = {"cells": {str(place): text for place, text in code.cells.items()}}
    every = {exercise.id: answers(exercise, code, cells) for exercise in exercises}
    for i, exercise in enumerate(exercises):
        later = [each.statement for other in exercises[i + 1 :] for each in every[other.id]]
        tried = every[exercise.id][:MOST]
        found[exercise.id] = {
            "answers": [_described(exercise, one, every[exercise.id], later, code, slicer) for one in tried],
            "broken": broken(exercise, code, cells),
        }
    return found


def _described(
    exercise: Exercise,
    answer: Answer,
    rivals: list[Answer],
    later: list[Statement],
    code: Code,
    slicer: Slicer,
) -> dict[str, Any]:
    place = answer.statement.place
    # one_step = exercise("02.1")(one_step)
    wraps = isinstance(answer.node, ast.Assign) and answer.name in answer.statement.needs
    same = [each for each in rivals if each is not answer and each.name == answer.name]
    others = [] if wraps else [each.statement for each in same]
    others += [each for each in later if each.place > place]  # the notebook has not come to them yet
    pieces, before = (find(answer.statement, others) for find in (slicer.pieces, slicer.before))
    at = {each.place: each for each in code.statements}

    def said(places: list[Place]) -> list[str]:
        return flags(exercise, [*(at[place] for place in places), answer.statement])

    slices = [{"pieces": pieces, "flags": said(pieces)}]
    if before != pieces:  # those cells may call ours, the lessons' own do
        more = [each for each in said(before) if each.startswith(REACHES_INSIDE)]
        slices.append({"pieces": before, "flags": list(dict.fromkeys([*said(pieces), *more]))})
    first = min([answer.node.lineno, *(each.lineno for each in getattr(answer.node, "decorator_list", ()))])
    lines = code.cells[place[0]].split("\n")[first - 1 : answer.node.end_lineno]
    text = dedent("\n".join(lines))[:MAX_SHOWN]
    return {"place": place, "name": answer.name, "text": text, "slices": slices}


def answers(exercise: Exercise, code: Code, cells: Cells) -> list[Answer]:
    """The answers to an exercise, those that count first, however cells were moved, copied or merged.

    First what is decorated with its id, then what has its name, then what stands in its cell; of each the
    last first, as that is what running the notebook leaves behind. They may stand inside `if`, `try`, ….
    """
    own_id = cell_id(exercise.id)
    marked, named, own = [], [], []
    for statement in code.statements:
        for node in same_level(statement.node):
            id, names = exercise_of(node), bound(node)
            if id == exercise.id:
                marked.append(Answer(statement, node, min(names, default="")))
            elif id is None and exercise.name in names:
                named.append(Answer(statement, node, exercise.name))
            elif id is None and isinstance(node, DEFINITIONS) and cells[statement.place[0]][0] == own_id:
                own.append(Answer(statement, node, node.name))
    groups = (marked, named) if marked or named else (own[-1:],)
    found: dict[Statement, Answer] = {}
    for answer in (each for group in groups for each in reversed(group)):
        found.setdefault(answer.statement, answer)
    return list(found.values())


def broken(exercise: Exercise, code: Code, cells: Cells) -> list[Broken]:
    """Cells of an exercise that are no Python."""
    found = [(each, *cells[each.cell]) for each in code.broken]
    return [each for each, id, source in found if exercise.id in ids_in(source) or id == cell_id(exercise.id)]
