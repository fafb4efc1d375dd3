"""Whose notebook it is, and of which lesson: from the notebook itself first, then from its path."""

import re
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import PurePosixPath
from typing import Any

from diffusion_lessons.course import bank
from diffusion_lessons.course.grading.intake.reading import KEY, Notebook
from diffusion_lessons.course.lessons import LESSONS

MARK = re.compile(r"exercise\(\s*['\"](\d\d)\.\d+['\"]")
ID = re.compile(r"(?:exercise|card)-(\d\d)-\d+")
PLATFORMS = (
    re.compile(r"^(?P<name>.+?)_\d+_assignsubmission_(?:file|onlinetext)"),  # Moodle
    re.compile(r"^.+_(?P<name>[^_]+)_attempt_\d{4}-\d\d-\d\d"),  # Blackboard
    re.compile(r"^(?P<name>[^_]+?)(?:_LATE)?_\d+_\d{4,}(?:_|$)"),  # Canvas
)
COPY = re.compile(r"(?i)[\s_-]*(\(\d+\)|copy\d*|copy of|kopie|final|v\d+)$")


def name_in(notebook: Notebook) -> str:
    """The student's name as the notebook holds it, "" where it holds none.

    `metadata.diffusion_lessons.student`, then `metadata.authors`, then the account with which Colab
    ran most of the cells.
    """
    own = notebook.metadata.get(KEY)
    if isinstance(own, dict) and (name := _word(own.get("student"))):
        return name
    authors = notebook.metadata.get("authors")
    for each in authors if isinstance(authors, list) else ():
        if name := _word(each.get("name") if isinstance(each, dict) else each):
            return name
    ran = Counter(filter(None, map(_colab_user, notebook.cells)))
    return min(ran, key=lambda each: (-ran[each], each)) if ran else ""


def _colab_user(cell: Any) -> str:
    info = cell.metadata.get("executionInfo")
    user = info.get("user") if isinstance(info, dict) else None
    return _word(user.get("displayName")) if isinstance(user, dict) else ""


def _word(value: Any) -> str:
    text = " ".join(value.split()) if isinstance(value, str) else ""
    return text.encode("utf-8", "replace").decode()[:100]


def folder_name(path: PurePosixPath) -> str:
    """The student's name as the folders of the path hold it, "" where there are none but lessons'."""
    folders = [part for part in path.parts[:-1] if not _is_lesson(part)]
    return next(filter(None, map(platform_name, folders)), folders[0] if folders else "")


def file_name(path: PurePosixPath, numbers: Collection[str]) -> str:
    """The student's name as the file's name holds it, the lesson's taken out.

    Args:
        numbers: two digits each, of the lessons it may be; others are the student's: "group 12".
    """
    stem = re.sub(r"(?i)(\.ipynb)?(\.json|\.txt|\.\w{1,5})?$", "", path.name, count=1)
    return platform_name(path.name) or _without_lesson(stem, numbers)


def platform_name(part: str) -> str:
    """The student's name in what a learning platform calls a folder or a file, "" elsewhere."""
    match = next(filter(None, (platform.match(part) for platform in PLATFORMS)), None)
    return match["name"].strip() if match else ""


def _is_lesson(part: str) -> bool:
    return bool(re.fullmatch(r"(?i)(lessons?|notebooks?|submissions?|work|week)[\s_-]*\d{0,2}", part)) or any(
        part.startswith(entry.stem) for entry in LESSONS
    )


def _without_lesson(stem: str, numbers: Collection[str]) -> str:
    rest = COPY.sub("", stem)
    for entry in LESSONS:
        for known in (entry.stem, entry.stem[3:]):
            rest = re.sub(rf"(?i)[\s_.-]*{re.escape(known)}[\s_.-]*", " ", rest)
    for number in numbers:
        rest = re.sub(rf"^\s*{number}[\s_-]+|[\s_-]+{number}\s*$", "", rest)
    return rest.strip(" _-.") or stem if rest != stem else stem


def lesson_of(notebook: Notebook, path: PurePosixPath) -> tuple[str, str]:
    """(two digits, a note), the digits "" where it is no lesson of this course.

    What its cells are counts most, then what the notebook says of itself, then the names of its
    functions; the path decides only between lessons that the content leaves open.
    """
    stated = _stated(notebook)
    marks = Counter(
        number for cell in notebook.cells for number in {*ID.findall(cell.id), *MARK.findall(cell.source)}
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
    on_path = _on_path(path, named)
    if on_path:
        return on_path, ""
    sure = [number for number, share in named.items() if share > 0.5 and number != "00"]
    return (sure[0], "") if len(sure) == 1 else ("", "")


def _stated(notebook: Notebook) -> str:
    own = notebook.metadata.get(KEY)
    stem = _word(own.get("lesson")) if isinstance(own, dict) else ""
    return stem[:2] if re.match(r"\d\d(_|$)", stem) else ""


def _by_names(notebook: Notebook) -> dict[str, float]:
    """Lessons by the share of their exercises whose names the notebook defines."""
    defined = {
        name
        for cell in notebook.code
        for name in re.findall(r"(?m)^(?:async )?(?:def|class) (\w+)|^(\w+) *=", cell.source)
        for name in name
        if name
    }
    shares = {}
    for number in bank.lessons():
        names = [each.name for each in bank.exercises(number)]
        if share := sum(name in defined for name in names) / len(names):
            shares[number] = share
    return dict(sorted(shares.items(), key=lambda each: (-each[1], each[0])))


def _on_path(path: PurePosixPath, among: Any) -> str:
    numbers: Iterator[str] = (entry.number for entry in LESSONS if entry.stem[3:] in str(path).lower())
    return next((number for number in numbers if number in among), "")
