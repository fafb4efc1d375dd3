"""`diffusion-lessons check`: a student's own dry run of one notebook."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from diffusion_lessons.course.grading.endings import LOST
from diffusion_lessons.course.grading.intake.files import find
from diffusion_lessons.course.grading.intake.identify import Submission, identify
from diffusion_lessons.course.grading.marking import mark
from diffusion_lessons.course.grading.marks.rows import Row
from diffusion_lessons.course.grading.sandbox import Limits, Worker
from diffusion_lessons.course.student.cards import SIGNS, wrapped
from diffusion_lessons.course.student.class_seed import class_seed


def check(file: Path, seed: int | None = None, limits: Limits | None = None) -> Submission:
    """Check a notebook as the grader would; what is none of this course is a ValueError.

    OSError where this machine cannot run it, which says nothing of the notebook. `seed` is of the cases, by
    default the class's, or that of those which the lesson itself shows.
    """
    found = identify(find([file])) if file.is_file() else []
    if len(found) != 1:
        raise ValueError(f"no notebook {file}: give the .ipynb file of a lesson")
    if found[0].notebook is None or found[0].problem:
        raise ValueError(f"{file}: {found[0].problem}")
    with Worker(limits=limits) as worker:
        seed = class_seed(file.parent) if seed is None else seed
        rows = mark(found[0].notebook, found[0].lesson, worker, seed)
    if lost := [row for row in rows if row.kind == "grader"]:
        raise OSError(f"{lost[0].exercise} of {file}: {LOST}")
    return replace(found[0], rows=rows)


def words(rows: Sequence[Row]) -> str:
    """The table, and below each exercise that is not passed what is wrong with it."""
    width = max(len(row.title) for row in rows)
    lines = []
    for row in rows:
        lines.append(f"{SIGNS[row.status]} {row.exercise}  {row.title.ljust(width)}  {row.status}")
        if row.status == "wrong":
            lines += map(wrapped, filter(None, (row.message, *row.details.split("\n")[:8], *row.notes)))
    passed = sum(row.status == "passed" for row in rows)
    return "\n".join([*lines, f"{passed} of {len(rows)} exercises passed"])
