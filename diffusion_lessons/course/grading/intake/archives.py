"""What lies in zip archives, and in archives within them: each is opened once, and read where it lies."""

from collections import Counter
from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import PurePosixPath
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, cast
from zipfile import ZipFile, ZipInfo

from diffusion_lessons.course.grading.intake.found import (
    LINK,
    MAX_OTHERS,
    NOISE,
    Found,
    Opener,
    is_wanted,
    readable,
)
from diffusion_lessons.course.grading.intake.notebook import MAX_BYTES, too_large
from diffusion_lessons.support import zips
from diffusion_lessons.support.zips import UnreadableZip

MAX_INNER = 200 * 2**20  # bytes of an archive within an archive
MAX_FILES = 5_000  # notebooks and archives in an archive
MAX_FILES_INNER = 500  # in an archive within an archive
MAX_DEPTH = 2  # archives in archives
MAX_DIRECTORY = 16 * 2**20  # bytes of an archive's list of files, some 150,000 of them
MAX_RATIO, HARMLESS = 200, 16 * 2**20  # of unpacked to packed bytes, where that is more than so many
IN_MEMORY = 16 * 2**20  # a larger archive within an archive is unpacked to a file without a name
TABLES, STORE = "grades.json", ".marked"  # what the folder of an old report has

Entry = tuple[tuple[str, ...], ZipInfo]  # a file's parts, and where it is


def in_archive(opener: Opener, path: PurePosixPath, depth: int = 0) -> Iterator[Found]:
    """What is in an archive, or the archive itself with what is wrong with it.

    Of files that are neither notebooks nor archives, the first of each folder count.
    """
    try:
        entries = _entries(opener)
    except Exception as error:  # whatever it is made of, the others are read
        yield Found(path, problem=f"The archive can not be opened: {error}.", lost=True)
        return
    most = MAX_FILES_INNER if depth else MAX_FILES
    wanted = sum(is_wanted(parts[-1]) for parts, _ in entries)
    problem = "" if entries else "The archive is empty."
    if wanted > most:
        problem = f"The archive holds {wanted} files; at most {most} are read."
    if entries and all(entry.flag_bits & 1 for _, entry in entries):
        problem = "The archive has a password: hand in without one."
    if problem:
        yield Found(path, problem=problem, lost=True)
        return
    others: Counter[tuple[str, ...]] = Counter()  # by folder
    for parts, entry in entries:
        others[parts[:-1]] += not is_wanted(parts[-1])
        if is_wanted(parts[-1]) or others[parts[:-1]] <= MAX_OTHERS:
            yield from _of_entry(opener, entry, path.with_suffix("") / readable(*parts), depth)


def _of_entry(opener: Opener, entry: ZipInfo, path: PurePosixPath, depth: int) -> Iterator[Found]:
    is_zip = path.suffix.lower() == ".zip"
    size, most = entry.file_size, MAX_INNER if is_zip else MAX_BYTES
    if zips.is_link(entry):
        yield Found(path, problem=LINK)
    elif entry.flag_bits & 1:
        yield Found(path, problem="The file has a password: hand in without one.", lost=is_zip)
    elif size > most:
        yield Found(path, problem=too_large(size, most), lost=is_zip)
    elif size > max(HARMLESS, MAX_RATIO * entry.compress_size):
        problem = f"The file unpacks to {size / 2**20:.0f} MB, more than {MAX_RATIO} times its size."
        yield Found(path, problem=problem, lost=is_zip)
    elif is_zip and depth < MAX_DEPTH:
        yield from in_archive(partial(_unpacked, opener, entry), path, depth + 1)
    elif is_zip:
        problem = f"Archives lie in each other here, more than {MAX_DEPTH} deep: hand in the notebook itself."
        yield Found(path, problem=problem, lost=True)
    else:
        yield Found(path, partial(_member, opener, entry))


def _entries(opener: Opener) -> list[Entry]:
    """The files of an archive, without noise and old reports."""
    files: list[Entry] = []
    for entry in _opened(opener).infolist():
        name = zips.name_in_zip(entry)
        parts = tuple(part for part in name.split("/") if part not in ("", ".", ".."))
        if parts and not name.endswith("/"):
            files.append((parts, entry))
    stores = {parts[: parts.index(STORE)] for parts, _ in files if STORE in parts}
    reports = stores & {parts[:-1] for parts, _ in files if parts[-1] == TABLES}
    return [
        (parts, entry)
        for parts, entry in files
        if not any(NOISE.match(part) for part in parts)
        and not (reports and any(parts[:end] in reports for end in range(len(parts))))
    ]


@lru_cache(maxsize=MAX_DEPTH + 1)
def _opened(opener: Opener) -> ZipFile:
    """An archive, open as long as its files are read: they are asked for one after the other."""
    stream = opener()
    if zips.directory_size(stream) > MAX_DIRECTORY:
        raise UnreadableZip("its list of files is too long")
    archive = zips.open_zip(stream)
    if sum(entry.compress_size for entry in archive.infolist()) > stream.seek(0, 2):
        raise UnreadableZip("its files lie over each other")
    return archive


def close_archives() -> None:
    """Let go of the archives that were read last."""
    _opened.cache_clear()


def _member(opener: Opener, entry: ZipInfo) -> BinaryIO:
    """One file of an archive, opened."""
    return zips.read_entry(_opened(opener), entry)


def _unpacked(opener: Opener, entry: ZipInfo) -> BinaryIO:
    """An archive in an archive, opened."""
    target = cast(BinaryIO, SpooledTemporaryFile(IN_MEMORY))  # noqa: SIM115
    zips.read_entry(_opened(opener), entry, target)
    return target
