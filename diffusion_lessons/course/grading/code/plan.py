"""What to run for each exercise of a notebook: made by reading its code, in a process of its own."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from diffusion_lessons.course.exercises.exercise import Exercise
from diffusion_lessons.course.exercises.mark import cell_id, ids_in
from diffusion_lessons.course.grading.code.reaching import REACHES_INSIDE, flags
from diffusion_lessons.course.grading.code.slicing import Slicer
from diffusion_lessons.course.grading.code.statements import Broken, Code, Place, Statement, read

Cells = Mapping[int, tuple[str, str]]  # place in the notebook -> (id, source)
MOST = 5  # answers to one exercise that are looked at
MAX_SHOWN = 20_000  # characters of an answer's text


class Answer(NamedTuple):
    """A statement that answers an exercise; `name` is what it binds."""

    statement: Statement
    name: str


def plan(cells: Cells, exercises: Sequence[Exercise]) -> dict[str, Any]:
    """For each exercise its answers in cells of code, those that count first, with what each needs; JSON."""
    code = read({place: source for place, (_, source) in cells.items()})
    slicer = Slicer(code.statements)
    found: dict[str, Any] = {"cells": {str(place): text for place, text in code.cells.items()}}
    for exercise in exercises:
        here = answers(exercise, code, cells)
        found[exercise.id] = {
            "answers": [_described(exercise, one, here, code, slicer) for one in here],
            "broken": broken(exercise, code, cells),
        }
    return found


def _described(
    exercise: Exercise, answer: Answer, rivals: list[Answer], code: Code, slicer: Slicer
) -> dict[str, Any]:
    wraps = answer.name in answer.statement.needs  # one_step = exercise("02.1")(one_step)
    same = [each for each in rivals if each is not answer and each.name == answer.name]
    others = [] if wraps else [each.statement for each in same]
    pieces, before = (find(answer.statement, others) for find in (slicer.pieces, slicer.before))
    at = {each.place: each for each in code.statements}

    def said(places: list[Place]) -> list[str]:
        return flags(exercise, [*(at[place] for place in places), answer.statement])

    slices = [{"pieces": pieces, "flags": said(pieces)}]
    if before != pieces:  # those cells may call ours, the lessons' own do
        more = [each for each in said(before) if each.startswith(REACHES_INSIDE)]
        slices.append({"pieces": before, "flags": list(dict.fromkeys([*said(pieces), *more]))})
    node = answer.statement.node
    first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", ()))])
    lines = code.cells[answer.statement.place[0]].split("\n")[first - 1 : node.end_lineno]
    return {
        "place": answer.statement.place,
        "name": answer.name,
        "text": "\n".join(lines)[:MAX_SHOWN],
        "slices": slices,
    }


def answers(exercise: Exercise, code: Code, cells: Cells) -> list[Answer]:
    """The answers to an exercise, those that count first, however cells were moved, copied or merged.

    First what is decorated with its id, then what has its name, then what stands in its cell; of each the
    last first, as that is what running the notebook leaves behind.
    """
    own_id = cell_id(exercise.id)
    unmarked = [each for each in code.statements if each.exercise is None and each.can_answer]
    own = [each for each in unmarked if each.is_definition and cells[each.place[0]][0] == own_id]
    marked = [Answer(each, _name(each)) for each in code.statements if each.exercise == exercise.id]
    named = [Answer(each, exercise.name) for each in unmarked if exercise.name in each.binds]
    groups = (marked, named) if marked or named else ([Answer(each, _name(each)) for each in own[-1:]],)
    found = {each.statement: each for group in groups for each in reversed(group)}
    return list(found.values())[:MOST]


def broken(exercise: Exercise, code: Code, cells: Cells) -> list[Broken]:
    """Cells of an exercise that are no Python."""
    found = [(each, *cells[each.cell]) for each in code.broken]
    return [each for each, id, source in found if exercise.id in ids_in(source) or id == cell_id(exercise.id)]


def _name(statement: Statement) -> str:
    return str(getattr(statement.node, "name", None) or min(statement.binds, default=""))
