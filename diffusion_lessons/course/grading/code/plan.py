"""What to run for each exercise of a notebook: made by reading its code, in a process of its own."""

from collections.abc import Mapping, Sequence
from typing import Any

from diffusion_lessons.course.exercises.exercise import Exercise
from diffusion_lessons.course.grading.code.answers import Answer, answers, broken
from diffusion_lessons.course.grading.code.borrowed import flags
from diffusion_lessons.course.grading.code.slicing import Slicer
from diffusion_lessons.course.grading.code.statements import Code, Place, read

MAX_SHOWN = 20_000  # characters of an answer's text


def plan(cells: Mapping[int, tuple[str, str]], exercises: Sequence[Exercise]) -> dict[str, Any]:
    """For each exercise its answers, those that count first, with what each needs; plain JSON.

    Args:
        cells: of code, place in the notebook -> (id, source).
    """
    ids = {place: id for place, (id, _) in cells.items()}
    sources = {place: source for place, (_, source) in cells.items()}
    code = read(sources)
    slicer = Slicer(code.statements)
    found: dict[str, Any] = {"cells": {str(place): text for place, text in code.cells.items()}}
    for exercise in exercises:
        here = answers(exercise, code, ids)
        no_python = broken(exercise, code, sources, ids)
        found[exercise.id] = {
            "answers": [_described(exercise, one, here, code, slicer) for one in here],
            "broken": [[each.cell, each.line, each.message] for each in no_python],
            "own": next((each.cell for each in no_python), here[0].statement.place[0] if here else None),
        }
    return found


def _described(
    exercise: Exercise, answer: Answer, rivals: list[Answer], code: Code, slicer: Slicer
) -> dict[str, Any]:
    wraps = answer.name in answer.statement.needs  # one_step = exercise("02.1")(one_step)
    same = [each for each in rivals if each is not answer and each.name == answer.name]
    others = [] if wraps else [each.statement for each in same]
    pieces = slicer.pieces(answer.statement, others)
    before = slicer.before(answer.statement, others)
    at = {each.place: each for each in code.statements}

    def said(places: list[Place]) -> list[str]:
        return flags(exercise, [*(at[place] for place in places), answer.statement])

    node = answer.statement.node
    first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", ()))])
    lines = code.cells[answer.statement.place[0]].split("\n")[first - 1 : node.end_lineno]
    seen = said(pieces)
    return {
        "place": answer.statement.place,
        "name": answer.name,
        "line": first,
        "text": "\n".join(lines)[:MAX_SHOWN],
        "pieces": pieces,
        "before": before,
        "flags": seen,
        "flags before": seen + [each for each in said(before) if "checker" in each and each not in seen],
    }
