"""Files that are written whole or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


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
