"""For users of nbgrader: lessons as source notebooks with its cell metadata, and the test cells' check.

nbgrader runs a submission and its tests in one kernel, so code in that kernel can fool it;
`diffusion-lessons grade` cannot be fooled so. What is the same are the verdicts.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from diffusion_lessons.course import bank
from diffusion_lessons.course.exercises.check import check
from diffusion_lessons.course.exercises.exercise import Exercise
from diffusion_lessons.course.exercises.mark import BEGIN, END, STUB_LINE, cell_id, ids_in
from diffusion_lessons.course.exercises.stand_in import students_own
from diffusion_lessons.course.grading.marks.points import Points
from diffusion_lessons.course.grading.release import chosen
from diffusion_lessons.support.files import atomic_write

VERSION = 3  # of nbgrader's metadata
TEST = """\
from diffusion_lessons.course.grading.nbgrader import must_pass

must_pass("{id}", {name})"""
HIDDEN = """
### BEGIN HIDDEN TESTS
must_pass("{id}", {name}, seed={seed})
### END HIDDEN TESTS"""


def must_pass(id: str, answer: Any, seed: int = 0) -> None:
    """A test cell's one line: an AssertionError with the sentence that says what is wrong with an answer.

    `answer` is what the cell of the exercise ("02.1") left behind; where that is ours, the student's counts.
    """
    verdict = check(bank.get(id), students_own(answer), seed)
    if not verdict.passed:
        raise AssertionError(verdict.message or verdict.status)


def export(
    lessons: Iterable[str], folder: Path, points: Points | None = None, seed: int | None = None
) -> list[Path]:
    """Write each lesson as `source/ASSIGNMENT/NOTEBOOK.ipynb` into nbgrader's course folder.

    `seed` is of hidden tests on other cases, None for none. A lesson that does not exist is a ValueError.
    """
    written = []
    for file in chosen(lessons):
        notebook = json.loads(file.read_text(encoding="utf-8"))
        source = marked(notebook, file.name[:2], points or Points(), seed)
        written.append(folder / "source" / file.stem / file.name)
        with atomic_write(written[-1]) as partial:
            partial.write_text(json.dumps(source, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return written


def marked(notebook: dict[str, Any], lesson: str, points: Points, seed: int | None) -> dict[str, Any]:
    """A student notebook with nbgrader's metadata, and a locked test cell below each exercise."""
    exercises = {each.id: each for each in (bank.exercises(lesson) if lesson in bank.lessons() else ())}
    cells = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        ids = [id for id in ids_in(source) if id in exercises] if cell["cell_type"] == "code" else []
        if ids:
            cells += [_answer(cell, ids[0], source), _test(exercises[ids[0]], points, seed)]
        else:
            cells.append(cell)
    return {**notebook, "cells": cells, "nbformat": 4, "nbformat_minor": 5}


def _answer(cell: dict[str, Any], id: str, source: str) -> dict[str, Any]:
    """The student's cell. nbgrader puts its own stub into the solution's place; code that a student is
    handed on purpose has no such place, so that cell stays a plain one."""
    if not STUB_LINE.search(source):
        return cell
    region = STUB_LINE.sub(rf"\1{BEGIN}\n\g<0>\n\1{END}", source, count=1)
    about = _metadata(cell_id(id), grade=False, solution=True, locked=False)
    return {**cell, "source": region, "metadata": {**cell["metadata"], "nbgrader": about}}


def _test(exercise: Exercise, points: Points, seed: int | None) -> dict[str, Any]:
    source = TEST.format(id=exercise.id, name=exercise.name)
    if seed is not None:
        source += HIDDEN.format(id=exercise.id, name=exercise.name, seed=seed)
    name = f"test-{cell_id(exercise.id)}"
    about = _metadata(name, grade=True, solution=False, locked=True)
    about["points"] = points.points.get(exercise.id, points.default)
    return {
        "cell_type": "code",
        "execution_count": None,
        "id": name,
        "metadata": {"nbgrader": about},
        "outputs": [],
        "source": source,
    }


def _metadata(name: str, **rules: bool) -> dict[str, Any]:
    return {"grade_id": name, "schema_version": VERSION, "task": False, **rules}
