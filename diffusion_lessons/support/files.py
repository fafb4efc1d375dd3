"""Files that are written whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def whole(file: Path | str) -> Iterator[Path]:
    """A temporary file beside `file` that takes its place when the block ends well.

    The bytes are on the disk before the name changes, so that a crash leaves the old file or the
    new one, never a part. Where the block fails, the old file stays and the temporary one goes.

    Raises:
        ValueError: where the folder cannot be written or the disk is full; says which and what to do.
    """
    file = Path(file)
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        with partial.open("rb+") as handle:
            os.fsync(handle.fileno())
        partial.replace(file)
        _sync_folder(file.parent)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ValueError(
            f"cannot write {file}: {reason}; free some space or choose another folder"
        ) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make the new name itself last; Windows has no handle for that and needs none."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def writable(folder: Path | str) -> Path:
    """The folder, made and proved writable, so that a long job does not fail at its end.

    Raises:
        ValueError: where nothing can be written there.
    """
    folder = Path(folder)
    probe = folder / f".probe.{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        reason = error.strerror or str(error)
        raise ValueError(
            f"cannot write into the folder {folder}: {reason}; choose another with --out"
        ) from error
    return folder
