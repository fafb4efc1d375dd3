"""A zip is read where it lies: nothing is unpacked to disk, and no file is read beyond the size it states.

What is wrong with an archive is a ValueError of this file; each reader words it for its own users.
"""

import re
import stat
import zipfile
from collections.abc import Callable
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
    return entry.filename.replace("\\", "/")


def is_link(entry: zipfile.ZipInfo) -> bool:
    """Would the entry unpack to a symbolic link?"""
    return stat.S_ISLNK(entry.external_attr >> 16)


def read_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> BinaryIO:
    """One file's content, at most `entry.file_size` bytes whatever the data say.

    One that is damaged, has a password or is longer than the archive claims is an UnreadableZip.
    """
    try:
        with archive.open(entry) as file:
            return BytesIO(file.read(entry.file_size + 1))
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
