"""What is known of each file that a class handed in before anything runs: whose it is and of which lesson."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from diffusion_lessons.course import bank
from diffusion_lessons.course.grading.intake.files import Found
from diffusion_lessons.course.grading.intake.lesson import lesson_of
from diffusion_lessons.course.grading.intake.notebook import NoNotebook, Notebook, read
from diffusion_lessons.course.grading.intake.student import students
from diffusion_lessons.course.grading.marks.rows import Row

FOREIGN = "This is no notebook of this course: none of its exercises is in it."


@dataclass(frozen=True)
class Submission:
    """One file that was handed in, and all that is known of it."""

    found: Found
    notebook: Notebook | None = None  # what was read from it; None where it is no notebook
    digest: str = ""  # of its bytes
    student: str = ""
    lesson: str = ""  # two digits; "" where there is none
    problem: str = ""  # why it has no rows, in a sentence
    rows: tuple[Row, ...] = ()  # of the lesson's exercises, once it is marked
    notes: tuple[str, ...] = ()  # what else the instructor should know
    counts: bool = True  # False for an attempt that a better one of the same student replaces

    @property
    def path(self) -> str:
        """Of the file, as it was found."""
        return str(self.found.path)

    @property
    def passed(self) -> int:
        """How many of its exercises."""
        return sum(row.status == "passed" for row in self.rows)


def identify(found: Sequence[Found], lesson: str | None = None) -> list[Submission]:
    """Whose each file is, and of which lesson; in the order of the paths.

    Where one `lesson` is asked for, notebooks of others get a problem, and so no rows.
    """
    opened = [_opened(each, lesson) for each in found]
    names = students([(each.found.path, each.notebook, each.lesson) for each in opened])
    return [
        replace(each, student=name, notes=tuple(filter(None, (*each.notes, note))))
        for each, (name, note) in zip(opened, names, strict=True)
    ]


def _opened(found: Found, wanted: str | None) -> Submission:
    try:
        content = found.content()
        notebook = read(content)
    except NoNotebook as error:
        return Submission(found, problem=str(error))
    made = Submission(found, notebook, hashlib.sha256(content).hexdigest())
    number, note = lesson_of(notebook, found.path)
    if number not in bank.lessons():
        return replace(made, problem=FOREIGN)
    if wanted is not None and number != wanted:
        problem = f"This is the notebook of lesson {number}; lesson {wanted} was asked for."
        return replace(made, lesson=number, problem=problem)
    return replace(made, lesson=number, notes=(note,))
