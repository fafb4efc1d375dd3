"""Which answers in a folder of notebooks pass, as pieces; and of the others, why they do not count."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diffusion_lessons.course import bank
from diffusion_lessons.course.grading import sandbox
from diffusion_lessons.course.grading.intake.files import find
from diffusion_lessons.course.grading.intake.identify import Submission, identify
from diffusion_lessons.course.grading.intake.notebook import Notebook, word
from diffusion_lessons.course.grading.marking import mark, planned
from diffusion_lessons.course.grading.marks.rows import Row
from diffusion_lessons.course.mine.assembly import given
from diffusion_lessons.course.mine.ours import exercises
from diffusion_lessons.course.mine.pieces import Piece, cut, obstacle
from diffusion_lessons.course.student.class_seed import class_seed

MOST = 120  # characters of a reason


@dataclass
class Collected:
    """A student's pieces by exercise, and for each exercise without one the reason."""

    pieces: dict[str, Piece] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)  # lines on notebooks that cannot be read or are not there
    name: str = ""  # the student's, where a notebook says it


def collect(work: Path, tell: Callable[[str], None] = lambda line: None) -> Collected:
    """Run the exercises of all notebooks in a folder, as `check` does, and keep what passes.

    A notebook that cannot be read costs its own pieces alone. Where one lesson has several notebooks, the
    first answer that passes counts.

    Raises:
        ValueError: no such folder, or no notebook of this course in it.
        OSError: submissions cannot be run here.
    """
    if not work.is_dir():
        raise ValueError(f"no folder {work}: give the one with your notebooks, which `lab` has made")
    files = sorted(work.glob("*.ipynb"))
    found = [each for each in (identify(find(files)) if files else ()) if each.lesson or not each.notebook]
    if not any(each.lesson for each in found):
        raise ValueError(f"no notebook of this course in {work}: give the folder with yours")
    made = Collected()
    made.notes = [f"{each.path}: {each.problem}" for each in found if each.problem]
    with sandbox.Worker() as worker:
        for each in found:
            if each.notebook and not each.problem:
                before = len(made.pieces)
                _take(made, each, each.notebook, worker, class_seed(work))
                tell(f"{each.path}: {len(made.pieces) - before} pieces")
    there = {each.lesson for each in found if not each.problem}
    absent = sorted({exercise.lesson for exercise in exercises()} - there)
    if absent:
        made.notes.append(f"no notebook of lesson {', '.join(absent)} could be read")
    for exercise in exercises():
        if exercise.id not in made.pieces:
            made.why.setdefault(exercise.id, "no notebook of this lesson")
    return made


def _take(made: Collected, each: Submission, notebook: Notebook, worker: sandbox.Worker, seed: int) -> None:
    made.name = made.name or word(notebook.own.get("student"))
    rows = {row.exercise: row for row in mark(notebook, each.lesson, worker, seed)}
    _, plan = planned(notebook, each.lesson, worker)
    for exercise in exercises():
        if exercise.lesson != each.lesson or exercise.id in made.pieces:
            continue
        row = rows[exercise.id]
        answer = _answer(row, plan.get(exercise.id, {}))
        piece = cut(plan, exercise, answer, each.path) if answer else None
        why = _reason(row) if not piece else obstacle(piece, given(), bank.exercises(each.lesson))
        if piece and not why:
            made.pieces[exercise.id] = piece
            made.why.pop(exercise.id, None)
        else:
            made.why.setdefault(exercise.id, f"right, but {why}" if piece else why)


def _answer(row: Row, found: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The answer that passed, among those that were found."""
    if row.status != "passed":
        return None
    same = (
        each
        for each in found.get("answers", ())
        if (each["place"][0], each["text"]) == (row.cell, row.answer)
    )
    return next(same, None)


def _reason(row: Row) -> str:
    if row.status == "passed":
        return "right, but it cannot be cut out of its notebook"
    said = " ".join(row.message.split())
    said = said if len(said) <= MOST else f"{said[:MOST]}…"
    return "not attempted" if row.status == "not attempted" else f"not right yet: {said}"
