"""A zip is read where it lies: nothing is unpacked to disk, and no file is read beyond the size it states.

What is wrong with an archive is a ValueError of this file; each reader words it for its own users.
"""

import re
import shutil
import stat
import zipfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

MAX_FILES = 1_000_000
MAX_BYTES = 20 * 2**30  # of all files together
MAX_FILE_BYTES = 400 * 2**20
MAX_RATIO = 200  # of unpacked to packed bytes, where that is more than HARMLESS_BYTES
HARMLESS_BYTES = 256 * 2**20


class UnreadableZip(ValueError):
    """It is no zip, or a damaged one."""


class RefusedZip(ValueError):
    """Unpacking it would do harm; says why."""


def open_zip(file: Path | BinaryIO) -> zipfile.ZipFile:
    """The opened archive; what is none is an UnreadableZip."""
    try:
        return zipfile.ZipFile(file)
    except Exception as error:  # zipfile raises many kinds on damaged archives
        raise UnreadableZip(str(error) or type(error).__name__) from error


def name_in_zip(entry: zipfile.ZipInfo) -> str:
    """An entry's path in its archive, with "/" between its parts and, for a folder, at its end."""
    name = entry.filename
    if not entry.flag_bits & 0x800:  # many programs write UTF-8 and do not say so
        with suppress(UnicodeError):
            name = name.encode("cp437").decode()
    return name.replace("\\", "/")


def directory_size(stream: BinaryIO) -> int:
    """Bytes of the list of files, which opening an archive reads at once, as the archive's end has it."""
    stream.seek(max(0, stream.seek(0, 2) - 2**16 - 200))
    end = stream.read()
    fields = ((end.rfind(b"PK\5\6"), 12, 4), (end.rfind(b"PK\6\6"), 40, 8))
    sizes = [
        int.from_bytes(end[at + skip : at + skip + size], "little") for at, skip, size in fields if at >= 0
    ]
    return max((size for size in sizes if size != 2**32 - 1), default=0)


def is_link(entry: zipfile.ZipInfo) -> bool:
    """Would the entry unpack to a symbolic link?"""
    return stat.S_ISLNK(entry.external_attr >> 16)


def read_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: BinaryIO | None = None) -> BinaryIO:
    """One file's content, at most `entry.file_size` bytes whatever the data say; in `target` if given.

    One that is damaged, has a password or is longer than the archive claims is an UnreadableZip.
    """
    target = BytesIO() if target is None else target
    try:
        with archive.open(entry) as file:
            shutil.copyfileobj(file, target, 2**20)
        target.seek(0)
        return target
    except Exception as error:  # so do its decoders
        raise UnreadableZip(str(error) or type(error).__name__) from error


def zip_files(archive: zipfile.ZipFile) -> dict[str, Callable[[], BinaryIO]]:
    """The files of an archive in which nothing is wrong: path in the archive, and what opens it.

    A name that leads outside, a link, a password, and more files, bytes or compression than the limits above
    are a RefusedZip.
    """
    files = {}
    for entry in archive.infolist():
        name = name_in_zip(entry)
        if name.startswith("/") or re.match("[A-Za-z]:", name) or ".." in name.split("/"):
            raise RefusedZip(f"{entry.filename!r} would unpack outside of its folder")
        if is_link(entry):
            raise RefusedZip(f"{entry.filename!r} is a link")
        if name.endswith("/"):
            continue
        if entry.flag_bits & 1:
            raise RefusedZip(f"{entry.filename!r} has a password")
        if entry.file_size > MAX_FILE_BYTES:
            raise RefusedZip(f"{entry.filename!r} unpacks to {entry.file_size:,} bytes")
        files[name] = entry
    unpacked = sum(entry.file_size for entry in files.values())
    packed = Path(str(archive.filename)).stat().st_size
    if len(files) > MAX_FILES:
        raise RefusedZip(f"{len(files):,} files are more than {MAX_FILES:,}")
    if unpacked > MAX_BYTES:
        raise RefusedZip(f"it unpacks to {unpacked:,} bytes, more than {MAX_BYTES:,}")
    if unpacked > max(HARMLESS_BYTES, MAX_RATIO * packed):
        raise RefusedZip(f"it unpacks to {unpacked:,} bytes, {unpacked // packed:,} times its size")
    return {name: partial(read_entry, archive, entry) for name, entry in files.items()}
