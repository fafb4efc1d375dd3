"""Files: where they are, what people write in them, and how they are written: whole or not at all."""

import codecs
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def expanded(path: str | Path) -> str:
    """The path with the home folder in the place of "~" or "~user"; no such user is a ValueError."""
    whole = os.path.expanduser(path)
    user = Path(whole).parts[0] if whole.startswith("~") else ""
    if user not in ("", whole) and not os.path.lexists(user):
        raise ValueError(f"{path}: nobody here is called {user}; for a folder of that name write ./{path}")
    return whole


def read_text(file: Path) -> str:
    """A text file that somebody wrote: UTF-8, with a byte order mark or without, or UTF-16 with one.

    Other bytes are a UnicodeDecodeError, a ValueError.
    """
    data = file.read_bytes()
    marked = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return data.decode("utf-16" if marked else "utf-8-sig")


@contextmanager
def atomic_write(file: Path | str) -> Iterator[Path]:
    """A temporary file beside `file` that takes its place when the block ends well.

    The bytes are on the disk before the name changes, so that a crash leaves the old file or the new one,
    never a part. Where the block fails, the old file stays and the temporary one goes. A folder that cannot
    be written and a full disk are a ValueError that says which and what to do.
    """
    file = Path(file)
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        with partial.open("rb+") as handle:
            os.fsync(handle.fileno())
        partial.replace(file)
        if os.name != "nt":  # make the new name itself last; Windows has no handle for that and needs none
            folder = os.open(file.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    except OSError as error:
        why = error.strerror or error
        raise ValueError(f"cannot write {file}: {why}; free some space or choose another folder") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def writable(folder: Path | str) -> Path:
    """The folder, made and proved writable, else a ValueError: a long job is not to fail at its end."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        advice = f"{error.strerror or error}; choose another with --out"
        raise ValueError(f"cannot write into the folder {folder}: {advice}") from error
    return folder


def writable_file(file: Path) -> Path:
    """The file, its folder made and proved writable; where that fails, or it is a folder, a ValueError."""
    if file.is_dir():
        raise ValueError(f"{file} is a folder: name a file in it, such as {file / 'out'}{file.suffix}")
    writable(file.parent)
    return file
