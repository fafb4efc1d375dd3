"""Which folders of a class hold students, and which are students: found by looking at all paths together."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from os.path import commonpath
from pathlib import PurePosixPath

Names = tuple[str, ...]


@dataclass(frozen=True)
class Way:
    """What may be a student's name on the way to one file, from the outside in."""

    names: Names  # in one spelling
    by_file: bool  # the last one is the file's, the others are folders'
    lesson: str  # "" where it is not known


def common_folders(paths: Sequence[PurePosixPath]) -> Names:
    """The folders that all files lie in; none around a single one."""
    return PurePosixPath(commonpath([path.parent for path in paths])).parts if len(paths) > 1 else ()


def holders(ways: Iterable[Way]) -> set[Names]:
    """The folders that hold several students, each as the names on the way to it.

    A single folder around everything holds them if anything in it has different names. Of several folders
    all do, if at least half of them have several names of one lesson in them (a section has, a student's own
    folder with an attempt or two does not), and taking these names for students leaves fewer doubles (names
    such as "first.ipynb" come again in every student's folder).
    """
    found: set[Names] = set()
    active, depth = list(ways), 1
    while active:
        folders = {way.names[:depth] for way in active if len(way.names) > depth or not way.by_file}
        alone = len({way.names[:depth] for way in active}) == 1
        new = folders if (_splits(active, depth) if alone else _crowded(active, depth, folders)) else set()
        found |= new
        active = [way for way in active if way.names[:depth] in new and len(way.names) > depth]
        depth += 1
    return found


def _splits(ways: list[Way], depth: int) -> bool:
    """Do the names below tell anything apart?"""
    deepest = max(len(way.names) for way in ways)
    below = (
        {way.names[depth:end] for way in ways if len(way.names) >= end}
        for end in range(depth + 1, deepest + 1)
    )
    return any(len(names) > 1 for names in below)


def _crowded(ways: list[Way], depth: int, folders: set[Names]) -> bool:
    """Are these folders sections of a class rather than students?"""
    files = {(way.names[:depth], way.names[depth : depth + 1], way.lesson) for way in ways if way.lesson}
    files = {each for each in files if each[0] in folders}
    inside: defaultdict[tuple[Names, str], set[Names]] = defaultdict(set)
    for folder, name, lesson in files:
        inside[folder, lesson] |= {name} if name else set()
    crowded = {folder for (folder, _), names in inside.items() if len(names) > 1}
    as_names = {(name or folder, lesson) for folder, name, lesson in files}
    return 2 * len(crowded) >= len(folders) > 0 and len(as_names) > len(inside)


def are_sections(inside: Mapping[str, Mapping[Names, Collection[str]]], stated: bool) -> bool:
    """Do folders tell people of one name apart, or do the same people hand in into each (one for each task)?

    `inside` has the lessons by name and by folder. Whoever is in two folders with the same lesson is two
    people, as a rule: more of these than of others, and the folders are sections. Folders that nothing but
    their place makes sections also have few names in common.
    """
    several = [list(folders.values()) for folders in inside.values() if len(folders) > 1]
    same = sum(len({*lessons}) < len(lessons) for lessons in map(_flat, several))
    few = 2 * len(several) <= len(inside)
    return 2 * same >= len(several) and (stated or few)


def _flat(groups: Iterable[Collection[str]]) -> list[str]:
    return [each for group in groups for each in {*group} - {""}]
