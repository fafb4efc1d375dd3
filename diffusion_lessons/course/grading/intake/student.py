"""Whose each notebook of a class is: from the notebook itself first, then from its path."""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from pathlib import PurePosixPath

from diffusion_lessons.course.grading.intake.notebook import Cell, Notebook, word
from diffusion_lessons.course.lessons import LESSONS

PLATFORMS = (
    re.compile(r"^(?P<name>.+?)_\d+_assignsubmission_(?:file|onlinetext)"),  # Moodle
    re.compile(r"^.+_(?P<name>[^_]+)_attempt_\d{4}-\d\d-\d\d"),  # Blackboard
    re.compile(r"^(?P<name>[^_]+?)(?:_LATE)?_\d+_\d{4,}(?:_|$)"),  # Canvas
)
ENDING = re.compile(r"(?i)(\.ipynb)?(\.json|\.txt|\.\w{1,5})?$")
COPY = re.compile(r"(?i)[\s_-]*(\(\d+\)|copy\d*|copy of|kopie|final|v\d+)$")
FOLDER = re.compile(r"(?i)(lessons?|notebooks?|submissions?|work|week)[\s_-]*\d{0,2}")  # of no one student

Known = tuple[PurePosixPath, Notebook | None, str]  # path, what was read, lesson; "" where there is none


def students(files: Sequence[Known]) -> list[tuple[str, str]]:
    """(student, a note) for each file.

    A name in a notebook counts unless two files of one lesson carry it and their paths tell them apart: then
    one was made from the other's.
    """
    stated = [name_in(notebook) if notebook else "" for _, notebook, _ in files]
    on_path = _on_paths([(path, lesson) for path, _, lesson in files])
    shared: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    known = list(zip(stated, on_path, [lesson for *_, lesson in files], strict=True))
    for name, path_name, lesson in known:
        shared[name, lesson].add(path_name)
    names = []
    for name, path_name, lesson in known:
        count = len(shared[name, lesson])
        if name and count > 1:
            names.append((path_name, f"{count} notebooks say that they are by {name}: named by its path."))
        else:
            names.append((name or path_name, ""))
    return names


def name_in(notebook: Notebook) -> str:
    """The student's name as the notebook holds it, "" where it holds none.

    `metadata.diffusion_lessons.student`, then `metadata.authors`, then the account with which Colab
    ran most of the cells.
    """
    authors = notebook.metadata.get("authors")
    for each in (notebook.own.get("student"), *(authors if isinstance(authors, list) else ())):
        if name := word(each.get("name") if isinstance(each, dict) else each):
            return name
    ran = Counter(filter(None, map(_colab_user, notebook.cells)))
    return min(ran, key=lambda each: (-ran[each], each)) if ran else ""


def _colab_user(cell: Cell) -> str:
    info = cell.metadata.get("executionInfo")
    user = info.get("user") if isinstance(info, dict) else None
    return word(user.get("displayName")) if isinstance(user, dict) else ""


def _on_paths(files: Sequence[tuple[PurePosixPath, str]]) -> list[str]:
    """Names from paths: of folders where each student has one, else of files.

    A file that tells no lesson is taken for one of the others' lessons.
    """
    handed_in = sorted({lesson for _, lesson in files if lesson})
    folders = [folder_name(path) for path, _ in files]
    inside = Counter((folder, lesson) for folder, (_, lesson) in zip(folders, files, strict=True))
    crowded = {folder for (folder, lesson), count in inside.items() if folder and lesson and count > 1}
    by_file = len(crowded) > len(set(filter(None, folders))) / 2
    return [
        file_name(path, [lesson] if lesson else handed_in)
        if not folder or (by_file and folder in crowded)
        else folder
        for folder, (path, lesson) in zip(folders, files, strict=True)
    ]


def folder_name(path: PurePosixPath) -> str:
    """The student's name as the folders of the path hold it, "" where there are none but lessons'."""
    stems = tuple(entry.stem for entry in LESSONS)
    folders = [part for part in path.parts[:-1] if not FOLDER.fullmatch(part) and not part.startswith(stems)]
    return next(filter(None, map(platform_name, folders)), folders[0] if folders else "")


def file_name(path: PurePosixPath, numbers: Collection[str]) -> str:
    """The student's name as the file's name holds it, the lesson's taken out.

    So are the numbers, two digits each, of the lessons it may be; others are the student's: "group 12".
    """
    stem = ENDING.sub("", path.name, count=1)
    rest = COPY.sub("", stem)
    for entry in LESSONS:
        for known in (entry.stem, entry.stem[3:]):
            rest = re.sub(rf"(?i)[\s_.-]*{re.escape(known)}[\s_.-]*", " ", rest)
    for number in numbers:
        rest = re.sub(rf"^\s*{number}[\s_-]+|[\s_-]+{number}\s*$", "", rest)
    name = stem if rest == stem else rest.strip(" _-.") or stem
    return platform_name(path.name) or name


def platform_name(part: str) -> str:
    """The student's name in what a learning platform calls a folder or a file, "" elsewhere."""
    match = next(filter(None, (platform.match(part) for platform in PLATFORMS)), None)
    return match["name"].strip() if match else ""
