"""Whose each file is and of which lesson, over all that a class handed in."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import NamedTuple

from diffusion_lessons.course import bank
from diffusion_lessons.course.grading.intake import who
from diffusion_lessons.course.grading.intake.reading import NoNotebook, Notebook, read
from diffusion_lessons.course.grading.intake.submissions import Found
from diffusion_lessons.course.grading.results.rows import Marked

FOREIGN = "This is no notebook of this course: none of its exercises is in it."


@dataclass(frozen=True)
class Submission:
    """A file, what was read from it, and what is known of it before anything runs."""

    found: Found
    notebook: Notebook | None
    digest: str
    marked: Marked


def identify(found: Sequence[Found], lesson: str | None = None) -> list[Submission]:
    """Whose each file is, and of which lesson; in the order of the paths.

    Args:
        lesson: the one that was asked for; notebooks of others get no rows.
    """
    opened = [_read(each) for each in found]
    lessons = [_lesson(each, one.notebook, lesson) for each, one in zip(found, opened, strict=True)]
    names = _names(
        [each.path for each in found], [one.notebook for one in opened], [each[0] for each in lessons]
    )
    made = []
    for each, one, (number, trouble, note), (name, remark) in zip(found, opened, lessons, names, strict=True):
        notes = tuple(filter(None, (note, remark)))
        marked = Marked(str(each.path), name, number, one.problem or trouble, notes=notes)
        made.append(Submission(each, one.notebook, one.digest, marked))
    return made


class _Opened(NamedTuple):
    notebook: Notebook | None
    digest: str
    problem: str


def _read(found: Found) -> _Opened:
    try:
        content = found.content()
        return _Opened(read(content), hashlib.sha256(content).hexdigest(), "")
    except NoNotebook as error:
        return _Opened(None, "", str(error))


def _lesson(found: Found, notebook: Notebook | None, wanted: str | None) -> tuple[str, str, str]:
    """(lesson, problem, note)."""
    if notebook is None:
        return "", "", ""
    number, note = who.lesson_of(notebook, found.path)
    if number not in bank.lessons():
        return "", FOREIGN, ""
    if wanted is not None and number != wanted:
        return number, f"This is the notebook of lesson {number}; lesson {wanted} was asked for.", ""
    return number, "", note


def _names(
    paths: Sequence[PurePosixPath], notebooks: Sequence[Notebook | None], lessons: Sequence[str]
) -> list[tuple[str, str]]:
    """(student, a note) for each file.

    A name in a notebook counts unless two files of one lesson carry it and their paths tell them
    apart: then one was made from the other's.
    """
    stated = [who.name_in(notebook) if notebook else "" for notebook in notebooks]
    on_path = _path_names(paths, lessons)
    shared: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for name, path_name, lesson in zip(stated, on_path, lessons, strict=True):
        shared[name, lesson].add(path_name)
    names = []
    for name, path_name, lesson in zip(stated, on_path, lessons, strict=True):
        copied = name and len(shared[name, lesson]) > 1
        note = (
            f"{len(shared[name, lesson])} notebooks say that they are by {name}: named by its path."
            if copied
            else ""
        )
        names.append((path_name if copied or not name else name, note))
    return names


def _path_names(paths: Sequence[PurePosixPath], lessons: Sequence[str]) -> list[str]:
    """Names from paths: of folders where each student has one, else of files.

    A file that tells no lesson is taken for one of the others' lessons.
    """
    handed_in = sorted(set(filter(None, lessons)))
    folders = [who.folder_name(path) for path in paths]
    inside = Counter(zip(folders, lessons, strict=True))
    crowded = {folder for (folder, lesson), count in inside.items() if folder and lesson and count > 1}
    homes = {folder for folder in folders if folder}
    by_file = len(crowded) > len(homes) / 2
    return [
        who.file_name(path, [lesson] if lesson else handed_in)
        if not folder or (by_file and folder in crowded)
        else folder
        for path, folder, lesson in zip(paths, folders, lessons, strict=True)
    ]
