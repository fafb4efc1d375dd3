"""What is known of each file that a class handed in before anything runs: whose it is and of which lesson."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from diffusion_lessons.course import bank
from diffusion_lessons.course.grading.intake.archives import close_archives
from diffusion_lessons.course.grading.intake.found import Found
from diffusion_lessons.course.grading.intake.lesson import lesson_of
from diffusion_lessons.course.grading.intake.levels import common_folders
from diffusion_lessons.course.grading.intake.notebook import NoNotebook, Notebook, author, read
from diffusion_lessons.course.grading.intake.student import NOBODY, Student, students
from diffusion_lessons.course.grading.marks.rows import Row

FOREIGN = "This is no notebook of this course: none of its exercises is in it."
TEACHERS = "This is no student's file: left out."


@dataclass(frozen=True)
class Submission:
    """One file that was handed in, and all that is known of it."""

    found: Found
    notebook: Notebook | None = None  # what was read from it; None where it is no notebook
    digest: str = ""  # of its bytes
    student: Student = NOBODY
    place: str = ""  # the folder, or the file, that tells whose it is
    lesson: str = ""  # two digits; "" where there is none
    problem: str = ""  # why it has no rows, in a sentence
    rows: tuple[Row, ...] = ()  # of the lesson's exercises, once it is marked
    notes: tuple[str, ...] = ()  # what else the instructor should know
    late: bool = False  # the platform or a folder says so
    counts: bool = True  # False for an attempt that a better one of the same student replaces

    @property
    def path(self) -> str:
        """Of the file, as it was found; "" where there is none."""
        return str(self.found.path) if self.found.path.parts else ""

    @property
    def passed(self) -> int:
        """How many of its exercises."""
        return sum(row.status == "passed" for row in self.rows)


@dataclass(frozen=True)
class Merge:
    """A student whose work came from more than one place, or more than once for a lesson."""

    student: Student
    paths: tuple[str, ...]  # the places: folders, or files
    why: str  # one student, in a sentence


def merges(submissions: Iterable[Submission]) -> list[Merge]:
    """Every student with work from more than one place, or with attempts, in the order of the names."""
    work: defaultdict[str, list[Submission]] = defaultdict(list)
    for each in submissions:
        if each.student.key:
            work[each.student.key].append(each)
    made = []
    for mine in work.values():
        student, places = mine[0].student, tuple(dict.fromkeys(each.place for each in mine))
        times = Counter(each.lesson for each in mine if each.lesson)
        again = [each.path for each in mine if times[each.lesson] > 1]
        if len(places) > 1:
            why = f"All carry the id {student.id}." if student.id else "All carry this name."
            made.append(Merge(student, places, why))
        elif again:
            made.append(Merge(student, tuple(again), "These lie together: attempts of one student."))
    return sorted(made, key=lambda each: (each.student.name.casefold(), each.student.key))


def identify(found: Sequence[Found], lesson: str | None = None) -> list[Submission]:
    """Whose each file is, and of which lesson; in the order of the paths.

    A file that is no notebook counts only where nothing else came from the same student. Where one `lesson`
    is asked for, notebooks of others get a problem, and so no rows.
    """
    opened = [
        _opened(each, lesson) if each.is_notebook else Submission(each, problem=each.problem)
        for each in found
    ]
    said = [author(each.notebook) if each.notebook else "" for each in opened]
    whose = students([(each.found.path, each.lesson, name) for each, name in zip(opened, said, strict=True)])
    deepest = min((len(each.place.parts) for each in whose), default=1) - 1
    common = common_folders([each.path for each in found])[:deepest]
    mine: set[str] = {
        each.student.key
        for each, read in zip(whose, opened, strict=True)
        if read.found.is_notebook or read.found.lost
    }
    made = []
    for each, known in zip(opened, whose, strict=True):
        key = known.student.key
        if not (each.found.is_notebook or each.found.lost):
            if key in mine:
                continue
            mine |= {key} if key else set()
            each = replace(each, problem=TEACHERS) if not key else _opened(each.found, lesson)
        made.append(
            replace(
                each,
                found=replace(each.found, path=_below(each.found.path, common)),
                student=known.student,
                place=str(_below(known.place, common)),
                notes=(*filter(None, each.notes), *known.notes),
                late=known.late,
            )
        )
    close_archives()
    return made


def _below(path: PurePosixPath, common: Sequence[str]) -> PurePosixPath:
    return PurePosixPath(*path.parts[len(common) :])


def _opened(found: Found, wanted: str | None) -> Submission:
    try:
        content = found.content()
        notebook = read(content)
        number, note = lesson_of(notebook, found.path)
    except NoNotebook as error:
        return Submission(found, problem=str(error))
    except Exception as error:  # whatever is in it, the others are read
        said = str(error) or type(error).__name__
        return Submission(found, problem=f"The file can not be read as a notebook ({said[:200]}).")
    made = Submission(found, notebook, hashlib.sha256(content).hexdigest())
    if number not in bank.lessons():
        return replace(made, problem=FOREIGN)
    if wanted is not None and number != wanted:
        problem = f"This is the notebook of lesson {number}; lesson {wanted} was asked for."
        return replace(made, lesson=number, problem=problem)
    return replace(made, lesson=number, notes=(note,))
