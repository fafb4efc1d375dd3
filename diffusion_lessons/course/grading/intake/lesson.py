"""Of which lesson a notebook is: from the notebook itself first, then from its path."""

import re
from collections import Counter
from collections.abc import Collection
from pathlib import PurePosixPath

from diffusion_lessons.course import bank
from diffusion_lessons.course.exercises.mark import ids_in, ids_in_cell_id
from diffusion_lessons.course.grading.intake.notebook import Notebook, word
from diffusion_lessons.course.lessons import LESSONS


def lesson_of(notebook: Notebook, path: PurePosixPath) -> tuple[str, str]:
    """(two digits, a note), the digits "" where it is no lesson of this course.

    What its cells are counts most, then what the notebook says of itself, then the names of its
    functions; the path decides only between lessons that the content leaves open.
    """
    stated = _stated(notebook)
    marks = Counter(
        number
        for cell in notebook.cells
        for number in {id[:2] for id in (*ids_in_cell_id(cell.id), *ids_in(cell.source))}
    )
    if marks:
        most = max(marks.values())
        best = sorted(number for number in marks if marks[number] == most)
        lesson = stated if stated in best else _on_path(path, best) or best[0]
        note = f"The notebook says lesson {stated}; its exercises are those of {lesson}." if stated else ""
        return lesson, note if stated != lesson else ""
    if stated:
        return stated, ""
    named = _by_names(notebook)
    sure = [number for number, share in named.items() if share >= 0.5 and number != "00"]
    return _on_path(path, named) or (sure[0] if len(sure) == 1 else ""), ""


def _stated(notebook: Notebook) -> str:
    stem = word(notebook.own.get("lesson"))
    return stem[:2] if re.match(r"\d\d(_|$)", stem) else ""


def _by_names(notebook: Notebook) -> dict[str, float]:
    """Lessons by the share of their exercises whose names the notebook defines."""
    defined = {
        name
        for cell in notebook.code
        for names in re.findall(r"(?m)^(?:async )?(?:def|class) (\w+)|^(\w+) *=", cell.source)
        for name in names
    }
    shares = {}
    for number in bank.lessons():
        names = [each.name for each in bank.exercises(number)]
        if share := sum(name in defined for name in names) / len(names):
            shares[number] = share
    return shares


def _on_path(path: PurePosixPath, among: Collection[str]) -> str:
    """The first lesson whose name is in the path."""
    numbers = (entry.number for entry in LESSONS if entry.stem[3:] in str(path).lower())
    return next((number for number in numbers if number in among), "")
