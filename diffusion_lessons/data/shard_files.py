"""Shards by address: which ones a pattern names, where each lies on this machine, and what its index is.

A remote shard is fetched when it is asked for, into a folder that forgets those used longest ago.
"""

import glob
import hashlib
import itertools
import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from diffusion_lessons.data.downloads import SECONDS_BETWEEN_BYTES, DataError, data_folder, downloader, reason
from diffusion_lessons.data.shard_index import BESIDE, Index, NoIndex, indexed
from diffusion_lessons.support.files import expanded

ROOM = "DIFFUSION_LESSONS_SHARDS_GB"  # how much of remote shards is kept on this machine
USUAL_ROOM = 20.0
KEPT = 6  # shards that are kept whatever their size: those between which rows are drawn, and more
TRIES = 3
MOST = 1_000_000  # shards that a pattern may name
BRACES = re.compile(r"\{([^{}]*)\}")


def addresses(pattern: str) -> list[str]:
    """The shards of a pattern: braces {000..099} or {a,b}, and for files on this machine * and ?.

    Several patterns are told apart by "::". One that cannot be read or names nothing is a DataError.
    """
    found: list[str] = []
    for each in filter(None, pattern.split("::")):
        for name in itertools.islice(_unfolded(each), MOST + 1):
            if "://" in name and not is_remote(name):
                raise DataError(f"{name} is nothing that is fetched here: give files, or http:// or https://")
            wild = glob.has_magic(name) and not is_remote(name)
            if "*" in name and is_remote(name):
                raise DataError(
                    f"{name} cannot be searched from here: name its shards by braces, {{000..099}}"
                )
            found += sorted(glob.glob(expanded(name))) if wild else [expanded(name)]
    if not found:
        given = pattern or "an empty pattern"
        raise DataError(
            f"{given} names no shards: expected files such as data-{{000..099}}.tar or data-*.tar"
        )
    if len(found) > MOST:
        raise DataError(f"{pattern} names more than {MOST:,} shards")
    return list(dict.fromkeys(found))


def is_remote(address: str) -> bool:
    """Whether a shard is fetched."""
    return address.startswith(("http://", "https://"))


def short(address: str) -> str:
    """What a shard is called: the last part of its address."""
    return urlsplit(address).path.rsplit("/", 1)[-1] if is_remote(address) else Path(address).name


def at_hand(address: str) -> Path:
    """The file of a shard on this machine, fetched where it has to be.

    A file that is not there is an OSError, one that cannot be fetched a DataError.
    """
    if not is_remote(address):
        return Path(address)
    file = _kept(address, "")
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        _fetch(address, file)
        _forget(file.parent)
    with suppress(OSError):
        os.utime(file)
    return file


def index_of(address: str) -> Index:
    """The index of a shard: as kept here, else as it lies beside the shard, else from one pass over it.

    What cannot be had is a DataError or an OSError.
    """
    stamp = ""
    if not is_remote(address):
        about = os.stat(address)
        stamp = f"{about.st_size} {about.st_mtime_ns}"
    kept = _kept(address, stamp).with_suffix(BESIDE)
    for read in (kept.read_bytes, lambda: _beside(address)):
        with suppress(OSError, NoIndex, DataError):
            index = Index.load(read())
            if is_remote(address) or index.size == about.st_size:
                break
    else:
        index = indexed(at_hand(address))
    if not kept.exists():
        with suppress(ValueError):  # nowhere to keep it: it is made anew the next time
            index.save(kept)
    return index


def _unfolded(pattern: str) -> Iterator[str]:
    found = BRACES.search(pattern)
    if found is None:
        if "{" in pattern or "}" in pattern:
            raise DataError(f"the braces in {pattern} cannot be read: expected {{000..099}} or {{a,b}}")
        yield pattern
        return
    between = re.fullmatch(r"(\d+)\.\.(\d+)", found[1])
    if between:
        first, last = between.groups()
        choices: Iterator[str] = (
            str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)
        )
    elif ".." in found[1]:
        raise DataError(f"{found[0]} in {pattern} cannot be read: expected two whole numbers, {{000..099}}")
    else:
        choices = iter(found[1].split(","))
    for choice in choices:
        yield from _unfolded(pattern[: found.start()] + choice + pattern[found.end() :])


def _kept(address: str, stamp: str) -> Path:
    whole = address if is_remote(address) else str(Path(address).absolute())
    digest = hashlib.sha256(f"{whole} {stamp}".encode()).hexdigest()[:16]
    return data_folder() / "shards" / f"{digest}-{short(address)[-80:]}.shard"


def _beside(address: str) -> bytes:
    """The index that lies beside a shard."""
    if not is_remote(address):
        return Path(address + BESIDE).read_bytes()
    file = _kept(address + BESIDE, "").with_suffix(".fetched")
    file.parent.mkdir(parents=True, exist_ok=True)
    _fetch(address + BESIDE, file, tries=1)
    text = file.read_bytes()
    file.unlink()
    return text


def _fetch(address: str, file: Path, tries: int = TRIES) -> None:
    """Fetch a file unless another process does so already: then wait for it."""
    partial = file.with_suffix(".partial")
    get = downloader(1 << 20)
    while not file.exists():
        try:
            partial.open("xb").close()
        except FileExistsError:
            with suppress(OSError):
                if time.time() - partial.stat().st_mtime > 2 * SECONDS_BETWEEN_BYTES:
                    partial.unlink()  # whoever fetched it is gone
            time.sleep(0.1)
            continue
        try:
            for left in reversed(range(tries)):
                try:
                    get(address, partial, None)
                    break
                except (OSError, ValueError) as error:
                    refused = getattr(getattr(error, "response", None), "status_code", 500) < 500
                    if refused or not left:
                        raise DataError(f"cannot fetch {address} ({reason(error)})") from error
                    time.sleep(1)
            partial.replace(file)
        finally:
            with suppress(OSError):
                partial.unlink(missing_ok=True)


def _forget(folder: Path) -> None:
    """Delete the shards used longest ago, until what is kept fits into its room."""
    try:
        room = float(os.environ.get(ROOM, USUAL_ROOM)) * 1e9
    except ValueError:
        raise DataError(f"{ROOM} is a number of gigabytes, got {os.environ[ROOM]!r}") from None
    found = []
    for file in folder.glob("*.shard"):
        with suppress(OSError):
            found.append((file.stat().st_mtime, file.stat().st_size, file))
    total = 0
    for place, (_, size, file) in enumerate(sorted(found, reverse=True)):
        total += size
        if total > room and place >= KEPT:
            with suppress(OSError):  # another process reads it, on Windows
                file.unlink()
