"""One file that may hold a submission, and how it is opened."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO

from diffusion_lessons.course.grading.intake.notebook import MAX_BYTES, NoNotebook, too_large
from diffusion_lessons.support.zips import UnreadableZip

NOTEBOOK = re.compile(r"(?i)\.ipynb(\.(json|txt))?$")
ARCHIVE = re.compile(r"(?i)\.(zip|7z|rar|tar|tgz|tar\.\w{1,4})$")
NOISE = re.compile(r"(?i)^(\.|__macosx$|__pycache__$|desktop\.ini$|thumbs\.db$|progress(\.damaged)?\.json$)")
LINK = "This is a link and no file: links are not followed. Hand in the notebook itself."
MAX_OTHERS = 100  # files of a folder that are neither: each may be what a student took for a notebook
MAX_PARTS = 20  # of a path: what lies deeper is shown without the folders between
Opener = Callable[[], BinaryIO]


@dataclass(frozen=True)
class Found:
    """A file that may hold a submission."""

    path: PurePosixPath  # within what was given; archives on the way are folders
    open: Opener | None = None  # opens it; None where `problem` says why nobody should
    problem: str = ""
    lost: bool = False  # nobody can tell what is in it: an archive or a folder that can not be read

    @property
    def is_notebook(self) -> bool:
        """By its name; what it holds is another matter."""
        return bool(NOTEBOOK.search(self.path.name))

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


def is_wanted(name: str) -> bool:
    """Is it a notebook or an archive, by its name?"""
    return bool(NOTEBOOK.search(name) or ARCHIVE.search(name))


def readable(*parts: str) -> PurePosixPath:
    """A path that can be shown and written, whatever its bytes were; other names stay other names."""
    shown = [re.sub("[\ud800-\udfff]", lambda half: f"%{ord(half[0]) & 255:02X}", part) for part in parts]
    return PurePosixPath(*shown[: MAX_PARTS - 1], *shown[MAX_PARTS - 1 :][-1:])
