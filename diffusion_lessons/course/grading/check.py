"""`diffusion-lessons check`: a student's own dry run of one notebook."""

from dataclasses import dataclass
from pathlib import Path

from diffusion_lessons.course import bank
from diffusion_lessons.course.grading.intake import who
from diffusion_lessons.course.grading.intake.identify import FOREIGN
from diffusion_lessons.course.grading.intake.reading import NoNotebook, read
from diffusion_lessons.course.grading.intake.submissions import find
from diffusion_lessons.course.grading.marking import mark
from diffusion_lessons.course.grading.results.rows import Row
from diffusion_lessons.course.grading.sandbox.watch import Limits
from diffusion_lessons.course.grading.sandbox.workers import Worker
from diffusion_lessons.course.student.cards import SIGNS, wrapped
from diffusion_lessons.course.student.class_seed import class_seed


@dataclass(frozen=True)
class Checked:
    """The rows of one notebook."""

    lesson: str
    rows: tuple[Row, ...]

    @property
    def passed(self) -> bool:
        """All of them."""
        return all(row.status == "passed" for row in self.rows)

    def words(self) -> str:
        """The table, and below each exercise that is not passed what is wrong with it."""
        width = max(len(row.title) for row in self.rows)
        lines = []
        for row in self.rows:
            lines.append(f"{SIGNS[row.status]} {row.exercise}  {row.title.ljust(width)}  {row.status}")
            if row.status == "wrong":
                lines += [
                    wrapped(text) for text in (row.message, *row.details.split("\n")[:8], *row.notes) if text
                ]
        done = sum(row.status == "passed" for row in self.rows)
        return "\n".join([*lines, f"{done} of {len(self.rows)} exercises passed"])


def check(file: Path, seed: int | None = None, limits: Limits | None = None) -> Checked:
    """Check a notebook as the grader would.

    Args:
        seed: of the cases, default those of the class, or what the lesson itself shows.

    Raises:
        ValueError: it is no notebook of this course.
    """
    found = find([file]) if file.is_file() else []
    if len(found) != 1:
        raise ValueError(f"no notebook {file}: give the .ipynb file of a lesson")
    try:
        notebook = read(found[0].content())
    except NoNotebook as error:
        raise ValueError(f"{file}: {error}") from None
    lesson, _ = who.lesson_of(notebook, found[0].path)
    if lesson not in bank.lessons():
        raise ValueError(f"{file}: {FOREIGN}")
    with Worker(limits=limits) as worker:
        rows = mark(notebook, lesson, worker, class_seed(file.parent) if seed is None else seed)
    return Checked(lesson, rows)
