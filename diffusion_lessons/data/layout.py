"""Which of many files are pictures of which class, and in which split, told from their paths alone."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple
from unicodedata import normalize

TEST_EVERY = 10
TRAIN = ("train", "training")  # what folders of a ready-made split are called, the preferred names first
TEST = ("test", "testing", "val", "valid", "validation", "eval", "dev")
AROUND = re.compile(r"[ _-]?(set|split|data|images)$")  # what may stand behind such a name
ENDINGS = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".avif", ".jp2")
IGNORED = ("__macosx", "thumbs.db", "desktop.ini")


class PictureFile(NamedTuple):
    """A picture that is not read yet."""

    path: str  # inside the folder or zip, with "/" between the parts
    label: str | None  # the name of its class; None where there are no classes
    test: bool  # whether it is for testing, and not for training


class Sorted(NamedTuple):
    """What `sort_pictures` made of a folder."""

    pictures: list[PictureFile]  # in the order of class and path
    left_out: dict[str, str]  # other files, and why each is none of them
    held_out: str  # which pictures are for testing, in words
    doubt: str = ""  # what somebody should look at; nothing where all is clear


class _Plan(NamedTuple):
    """Which folders tell split and class, counted from the first not around all; -1 where none does."""

    split: int = -1
    label: int = -1
    splits: Mapping[str, bool] = {}  # the folders that are splits, and whether they are for testing


def sort_pictures(paths: Iterable[str]) -> Sorted:
    """Tell class and split of each picture.

    A class is a folder at the top, with all that is below it; without folders there are no classes. A single
    folder around all is looked through. Splits are folders called "train" and "test" (or "val" …), around the
    classes, inside each of them, or with pictures alone; what lies beside them is left out. Where there are
    none, every tenth picture of a class is for testing.
    """
    parts = {path: path.split("/") for path in sorted(paths)}
    shape = [part for part in parts.values() if part[-1].lower().endswith(ENDINGS)] or [*parts.values()]
    top = _enclosing_folders(shape)
    around = max(shape, key=len, default=[])[:top]
    inside = [part[top:-1] for part in shape]  # the folders of each picture that tell
    plan = _plan(inside)
    beside = f"beside {' and '.join(f'{name}/' for name in plan.splits)}"
    by_class: dict[str | None, list[str]] = defaultdict(list)
    left_out = {}
    for path, part in parts.items():
        folders = part[top:-1]
        if plan.splits and len(folders) > plan.split and folders[plan.split] not in plan.splits:
            left_out[path] = beside
        elif part[:top] != around or len(folders) <= max(plan.split, plan.label):
            left_out[path] = "in no class folder"
        else:  # a Mac writes "é" as two characters
            label = None if plan.label < 0 else printable(normalize("NFC", folders[plan.label]))
            by_class[label].append(path)
    ready = plan.splits if any(plan.splits.values()) else {}
    pictures = []
    for label, of_class in sorted(by_class.items(), key=lambda item: item[0] or ""):
        for rank, path in enumerate(of_class, 1):
            test = ready.get(parts[path][top + plan.split], rank % TEST_EVERY == 0)
            pictures.append(PictureFile(path, label, test))
    every = f"every {TEST_EVERY}th" + ("" if plan.label < 0 else " of a class")
    held_out = next((f"those in {name}/" for name, test in plan.splits.items() if test), every)
    odd = sorted({f"{name}/" for folders in inside for name in folders if _role(name)})
    doubt = f"{', '.join(odd)}: taken for no split, so that what is in there is trained on like all else"
    return Sorted(pictures, left_out, held_out, doubt if odd and not plan.splits else "")


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
        pictures = any(len(part) == depth + 2 for part in inside)
        deeper = any(len(part) > depth + 2 for part in inside)
        if len({part[depth] for part in inside}) != 1 or pictures or not deeper:
            return depth
        depth += 1


def _plan(inside: list[list[str]]) -> _Plan:
    """What the folders that pictures lie in, the outer ones first, say of splits and classes."""
    first = {folders[0] for folders in inside if folders}
    pairs = {(folders[0], folders[1]) for folders in inside if len(folders) > 1}
    deep = {outer for outer, _ in pairs}
    if splits := _splits(deep):
        return _Plan(0, 1, splits)
    if splits := _splits(first):
        train = next(iter(splits))
        if train in deep:  # the pictures for testing have no classes
            return _Plan(0, 1, {train: False})
        if not deep and all(map(_role, first)):
            return _Plan(0, -1, splits)
    if splits := _splits({inner for _, inner in pairs}):
        train = next(iter(splits))
        if all((outer, train) in pairs for outer in first):
            return _Plan(1, 0, splits)
    return _Plan(label=0) if first else _Plan()


def _splits(folders: set[str]) -> dict[str, bool]:
    """The folder to train on and the one to test with, False and True; nothing where one is missing."""
    chosen: dict[str, bool] = {}
    for (test, _), name in sorted((role, name) for name in folders if (role := _role(name))):
        if test not in chosen.values():
            chosen[name] = test
    return chosen if len(chosen) == 2 else {}


def _role(folder: str) -> tuple[bool, int] | None:
    """Whether a folder of that name is for testing, and the rank of the name; None where it is no split."""
    word = AROUND.sub("", folder.lower())
    for test, names in ((False, TRAIN), (True, TEST)):
        if word in names:
            return test, names.index(word)
    return None
