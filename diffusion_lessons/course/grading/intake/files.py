"""What was handed in: files, folders for each student, archives of a learning platform."""

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from zipfile import ZipInfo

from diffusion_lessons.course.grading.intake.notebook import MAX_BYTES, NoNotebook
from diffusion_lessons.support.zips import UnreadableZip, is_link, name_in_zip, open_zip, read_entry

MAX_INNER = 200 * 2**20  # bytes of an archive within an archive
MAX_FILES = 5_000
MAX_DEPTH = 2  # archives in archives
NOTEBOOK = re.compile(r"\.ipynb(\.(json|txt))?$", re.IGNORECASE)
NOISE = re.compile(r"(?i)^(\.|__macosx$|__pycache__$|desktop\.ini$|thumbs\.db$|progress(\.damaged)?\.json$)")
LINK = "This is a link and no file: links are not followed. Hand in the notebook itself."
Opener = Callable[[], BinaryIO]


@dataclass(frozen=True)
class Found:
    """A file that may hold a submission."""

    path: PurePosixPath  # within the folder or archive that was given; archives on the way are folders
    open: Opener | None = None  # opens it; None where `problem` says why nobody should
    problem: str = ""

    @property
    def is_notebook(self) -> bool:
        """By its name; what it holds is another matter."""
        return bool(NOTEBOOK.search(self.path.name))

    @property
    def folder(self) -> str:
        """The first on its path; "" where there is none."""
        return self.path.parts[0] if len(self.path.parts) > 1 else ""

    def content(self) -> bytes:
        """Its bytes, read anew each time: a class's notebooks need not fit into memory.

        What is too large, or cannot be read, is a NoNotebook.
        """
        if self.open is None:
            raise NoNotebook(self.problem)
        try:
            with self.open() as stream:
                content = stream.read(MAX_BYTES + 1)
        except (OSError, UnreadableZip) as error:
            raise NoNotebook(f"The file can not be read: {error}.") from None
        if len(content) > MAX_BYTES:
            raise NoNotebook(too_large(len(content)))
        return content


def find(places: Iterable[Path], out: Path | None = None) -> list[Found]:
    """All submissions in some folders, archives or files, in the order of their paths.

    A file that is no notebook counts only where nothing else came from the same student. `out`, the folder
    of the report that is being written, is left out. A place that does not exist, or holds more files than a
    class hands in, is a ValueError.
    """
    places = list(places)
    found: list[Found] = []
    for place in places:
        if not place.exists():
            raise ValueError(f"no folder, archive or notebook {place}: give what was handed in")
        is_folder = place.is_dir()
        inside = list(_in_folder(place, out) if is_folder else _of_file(place, PurePosixPath(place.name)))
        if len(places) > 1 and is_folder and not any(each.folder for each in inside):
            student = place.resolve().name  # a folder for each
            inside = [replace(each, path=student / each.path) for each in inside]
        found += inside
    found = sorted(_without_common(found), key=lambda each: str(each.path))
    homes = {each.folder for each in found if each.is_notebook}
    first: dict[str, Found] = {}  # of those whose first part no notebook has
    for each in found:
        if not each.is_notebook and each.path.parts[0] not in homes:
            first.setdefault(each.path.parts[0], each)
    return [each for each in found if each.is_notebook or first.get(each.path.parts[0]) is each]


def _without_common(found: list[Found]) -> list[Found]:
    """Paths without the folders that all of them share: the archive's own, as a rule."""
    while len(found) > 1 and found[0].folder and len({each.folder for each in found}) == 1:
        found = [replace(each, path=PurePosixPath(*each.path.parts[1:])) for each in found]
    return found


def too_large(size: int) -> str:
    """The sentence on a file that nobody should open."""
    sizes = f"The file has {size / 2**20:.0f} MB; at most {MAX_BYTES // 2**20} are read."
    return f"{sizes} Clear all outputs and hand in again."


def _in_folder(root: Path, out: Path | None) -> Iterator[Found]:
    count = 0
    left_out = os.path.realpath(out) if out else ""
    for place, folders, files in os.walk(root):
        inside = [name for name in sorted(folders) if not NOISE.match(name)]
        links = [name for name in inside if os.path.islink(os.path.join(place, name))]
        kept = [name for name in inside if name not in links]
        folders[:] = [name for name in kept if os.path.realpath(os.path.join(place, name)) != left_out]
        for name in sorted([*files, *links]):
            if not NOISE.match(name):
                count += 1
                file = Path(place) / name
                yield from _of_file(file, PurePosixPath(*map(_readable, file.relative_to(root).parts)))
        if count > MAX_FILES:
            raise ValueError(f"more than {MAX_FILES} files in {root}: give the folder of one class")


def _readable(name: str) -> str:
    """A name, whatever its bytes were."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


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
        yield from _of_archive(opener, path, 0)
    elif about.st_size > MAX_BYTES:
        yield Found(path, problem=too_large(about.st_size))
    else:
        yield Found(path, opener)


def _of_archive(opener: Opener, path: PurePosixPath, depth: int) -> Iterator[Found]:
    """What is in an archive, or the archive itself with what is wrong with it."""
    try:
        with opener() as stream, open_zip(stream) as archive:
            entries = [entry for entry in archive.infolist() if not name_in_zip(entry).endswith("/")]
    except (OSError, UnreadableZip) as error:
        yield Found(path, problem=f"The archive can not be opened: {error}.")
        return
    if len(entries) > MAX_FILES:
        yield Found(path, problem=f"The archive holds {len(entries)} files; at most {MAX_FILES} are read.")
        return
    for entry in entries:
        parts = [part for part in name_in_zip(entry).split("/") if part not in ("", ".", "..")]
        if not parts or any(NOISE.match(part) for part in parts):
            continue
        inner = path.with_suffix("") / PurePosixPath(*map(_readable, parts))
        member = partial(_member, opener, entry)
        if inner.suffix.lower() == ".zip" and depth < MAX_DEPTH and entry.file_size <= MAX_INNER:
            yield from _of_archive(member, inner, depth + 1)
        elif entry.file_size > MAX_BYTES:
            yield Found(inner, problem=too_large(entry.file_size))
        elif is_link(entry):
            yield Found(inner, problem=LINK)
        else:
            yield Found(inner, member)


def _member(opener: Opener, entry: ZipInfo) -> BinaryIO:
    """One file of an archive, opened."""
    with opener() as stream, open_zip(stream) as archive:
        return read_entry(archive, entry)
