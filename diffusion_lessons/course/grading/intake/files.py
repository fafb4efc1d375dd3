"""What was handed in: files, folders for each student, archives of a learning platform."""

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from diffusion_lessons.course.grading.intake.archives import STORE, TABLES, in_archive
from diffusion_lessons.course.grading.intake.found import (
    ARCHIVE,
    LINK,
    MAX_OTHERS,
    NOISE,
    Found,
    is_wanted,
    readable,
)
from diffusion_lessons.course.grading.intake.notebook import MAX_BYTES, too_large

MAX_FILES = 5_000  # notebooks and archives in a class's folder
OTHER = "Archives of this kind are not read: hand in the notebook itself, or a .zip."


def find(places: Iterable[Path], out: Path | None = None) -> list[Found]:
    """All files that may be submissions in some folders, archives or files, in the order of their paths.

    Of files that are neither notebooks nor archives, the first of each folder count. `out`, the folder of the
    report that is being written, and older reports are left out. A place that does not exist, or holds more
    notebooks than a class hands in, is a ValueError.
    """
    places = list(places)
    found: list[Found] = []
    for place in places:
        if not place.exists():
            raise ValueError(f"no folder, archive or notebook {place}: give what was handed in")
        if not place.is_dir():
            found += _of_file(place, readable(place.name))
        elif len(places) == 1:
            found += _in_folder(place, out)
        else:
            named = place.resolve().name
            found += [replace(each, path=readable(named) / each.path) for each in _in_folder(place, out)]
    return sorted(found, key=lambda each: str(each.path))


def _in_folder(root: Path, out: Path | None) -> Iterator[Found]:
    count = 0
    left_out = os.path.realpath(out) if out else ""
    unread: list[OSError] = []
    for place, folders, files in os.walk(root, onerror=unread.append):
        if STORE in folders and TABLES in files:  # an old report
            folders.clear()
            continue
        inside = [name for name in sorted(folders) if not NOISE.match(name)]
        links = [name for name in inside if os.path.islink(os.path.join(place, name))]
        kept = [name for name in inside if name not in links]
        folders[:] = [name for name in kept if os.path.realpath(os.path.join(place, name)) != left_out]
        names = [name for name in sorted([*files, *links]) if not NOISE.match(name)]
        others = [name for name in names if not is_wanted(name)][MAX_OTHERS:]
        count += sum(map(is_wanted, names))
        if count > MAX_FILES:
            raise ValueError(f"more than {MAX_FILES} notebooks in {root}: give the folder of one class")
        for name in sorted({*names}.difference(others)):
            file = Path(place) / name
            yield from _of_file(file, readable(*file.relative_to(root).parts))
    for error in unread:
        path = Path(os.fsdecode(error.filename or root))
        if path == root:
            raise ValueError(f"cannot read {root}: {error.strerror}")
        problem = f"The folder can not be read: {error.strerror}."
        yield Found(readable(*path.relative_to(root).parts), problem=problem, lost=True)


def _of_file(file: Path, path: PurePosixPath) -> Iterator[Found]:
    try:
        about = file.lstat()
    except OSError as error:
        yield Found(path, problem=f"The file can not be read: {error.strerror}.")
        return

    def opener() -> BinaryIO:
        return file.open("rb")

    if stat.S_ISLNK(about.st_mode):
        yield Found(path, problem=LINK)
    elif not stat.S_ISREG(about.st_mode):
        yield Found(path, problem="This is no ordinary file.")
    elif path.suffix.lower() == ".zip":
        yield from in_archive(opener, path)
    elif ARCHIVE.search(path.name):
        yield Found(path, problem=OTHER, lost=True)
    elif about.st_size > MAX_BYTES:
        yield Found(path, problem=too_large(about.st_size))
    else:
        yield Found(path, opener)
