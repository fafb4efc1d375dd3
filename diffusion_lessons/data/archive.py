"""A zip is read without unpacking it to disk, and refused where unpacking it would do harm."""

import io
import re
import stat
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO

from diffusion_lessons.data.downloads import DataError

MAX_FILES = 1_000_000
MAX_BYTES = 20 * 2**30  # of all files together
MAX_FILE_BYTES = 400 * 2**20
MAX_RATIO = 200  # of unpacked to packed bytes, where that is more than HARMLESS_BYTES
HARMLESS_BYTES = 256 * 2**20


def open_zip(path: Path) -> zipfile.ZipFile:
    """The opened archive.

    Raises:
        DataError: where the file is no readable zip.
    """
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise DataError(f"{path} is neither a folder nor a readable zip ({error})") from error


def zip_files(archive: zipfile.ZipFile) -> dict[str, Callable[[], BinaryIO]]:
    """The archive's files: path in the archive, with "/" between its parts, and what opens it.

    Raises:
        DataError: for a name that leads outside, a link, a password, and for more files, bytes or compression
            than the limits above.
    """
    files = {}
    for info in archive.infolist():
        name = info.filename.replace("\\", "/")
        if name.startswith("/") or re.match("[A-Za-z]:", name) or ".." in name.split("/"):
            raise _refused(archive, f"{info.filename!r} would unpack outside of its folder")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise _refused(archive, f"{info.filename!r} is a link")
        if name.endswith("/"):
            continue
        if info.flag_bits & 1:
            raise _refused(archive, f"{info.filename!r} has a password")
        if info.file_size > MAX_FILE_BYTES:
            raise _refused(archive, f"{info.filename!r} unpacks to {info.file_size:,} bytes")
        files[name] = info
    _check_sizes(archive, list(files.values()))
    return {name: partial(_open, archive, info) for name, info in files.items()}


def _check_sizes(archive: zipfile.ZipFile, files: list[zipfile.ZipInfo]) -> None:
    unpacked = sum(info.file_size for info in files)
    packed = Path(str(archive.filename)).stat().st_size
    if len(files) > MAX_FILES:
        raise _refused(archive, f"{len(files):,} files are more than {MAX_FILES:,}")
    if unpacked > MAX_BYTES:
        raise _refused(archive, f"it unpacks to {unpacked:,} bytes, more than {MAX_BYTES:,}")
    if unpacked > max(HARMLESS_BYTES, MAX_RATIO * packed):
        raise _refused(archive, f"it unpacks to {unpacked:,} bytes, {unpacked // packed:,} times its size")


def _open(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> BinaryIO:
    return io.BytesIO(archive.read(info))  # at most info.file_size bytes, whatever the data say


def _refused(archive: zipfile.ZipFile, why: str) -> DataError:
    return DataError(f"{archive.filename} is refused: {why}. If you trust it, unpack it and give the folder")
