"""Which of many files are pictures of which class, and in which split, told from their paths alone."""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

TEST_EVERY = 10
TRAIN = ("train", "training")  # what folders of a ready-made split are called, the preferred names first
TEST = ("test", "testing", "val", "valid", "validation")
ENDINGS = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".avif", ".jp2")
IGNORED = ("__macosx", "thumbs.db", "desktop.ini")


class PictureFile(NamedTuple):
    """A picture that is not read yet."""

    path: str  # inside the folder or zip, with "/" between the parts
    label: str  # the name of its class
    test: bool  # whether it is for testing, and not for training


def sort_pictures(paths: Iterable[str]) -> tuple[list[PictureFile], list[str]]:
    """Pictures in the order of class and path, and the paths of files that lie in no class folder.

    A class is a folder at the top, with all that is below it. A single folder around the classes is looked
    through. Where the folders at the top are called "train" and "test" (or "val"), classes
    are the folders inside them; otherwise every tenth picture of a class is for testing.
    """
    parts = {path: path.split("/") for path in sorted(paths)}
    top = _enclosing_folders(list(parts.values()))
    ready = _ready_made({part[top] for part in parts.values() if len(part) > top + 1})
    at = top + 1 if ready else top  # which part of the path is the class
    by_class: dict[str, list[str]] = defaultdict(list)
    loose = []
    for path, part in parts.items():
        if len(part) <= at + 1:
            loose.append(path)
        elif not ready or part[top] in ready:
            label = unicodedata.normalize("NFC", part[at])  # a Mac writes "é" as two characters
            by_class[printable(label)].append(path)
    pictures = []
    for label, of_class in sorted(by_class.items()):
        for rank, path in enumerate(of_class, 1):
            test = ready[parts[path][top]] if ready else rank % TEST_EVERY == 0
            pictures.append(PictureFile(path, label, test))
    return pictures, loose


def is_ignored(path: str) -> bool:
    """Whether some part of the path is hidden, or what a system leaves behind."""
    return any(part.startswith(".") or part.lower() in IGNORED for part in path.split("/"))


def printable(path: str) -> str:
    """The path with a question mark for whatever a terminal or a JSON file would stumble over."""
    return "".join(character if character.isprintable() else "?" for character in path)


def _enclosing_folders(parts: list[list[str]]) -> int:
    """How many folders to go down until there are several folders, or pictures in the only one."""
    depth = 0
    while True:
        inside = [part for part in parts if len(part) > depth + 1]
        pictures = any(len(part) == depth + 2 and part[-1].lower().endswith(ENDINGS) for part in inside)
        deeper = any(len(part) > depth + 2 for part in inside)
        if len({part[depth] for part in inside}) != 1 or pictures or not deeper:
            return depth
        depth += 1


def _ready_made(folders: set[str]) -> dict[str, bool]:
    """Whether each folder of a ready-made split is for testing; nothing where the folders are classes."""
    names = {folder.lower(): folder for folder in folders}
    train, test = ([names[name] for name in split if name in names] for split in (TRAIN, TEST))
    both = train and test and names.keys() <= {*TRAIN, *TEST}
    return {train[0]: False, test[0]: True} if both else {}
