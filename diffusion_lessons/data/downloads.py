"""The folder where downloaded data lies: what is there is checked and used, what is missing is fetched."""

import hashlib
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

Content = TypeVar("Content")

VARIABLE = "DIFFUSION_LESSONS_DATA"
SECONDS_TO_ANSWER = 8.0
SECONDS_BETWEEN_BYTES = 30.0
IN_WORDS = {
    "ConnectionError": "no connection",
    "ConnectTimeout": "no answer",
    "ReadTimeout": "no answer",
    "TimeoutError": "no answer",
    "SSLError": "certificate refused",
    "ChunkedEncodingError": "cut off",
}


class DataError(ValueError):
    """Data that is missing, damaged or dangerous, and what to do about it."""


class DamagedError(DataError):
    """A file whose bytes are not those that were published."""


def data_folder() -> Path:
    """Where data lies: the folder that $DIFFUSION_LESSONS_DATA names, else this platform's cache folder."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named).expanduser().absolute()
    import pooch

    return Path(pooch.os_cache("diffusion-lessons"))


def load_cached(file: str, mirrors: Sequence[str], read: Callable[[Path], Content]) -> Content:
    """What `read` makes of a file of the data folder, which is downloaded if it isn't there.

    A download is checked before it gets its name, so the folder holds whole files only, also when two
    processes fetch the same one. A file that is there is never deleted.

    Args:
        file: its path in the data folder, such as "mnist/train-images-idx3-ubyte.gz".
        mirrors: addresses of folders that have it, ending in "/", in the order in which they are tried.
        read: reads and checks the file; raises `DamagedError` where the bytes are wrong.

    Raises:
        DataError: for a file that is damaged, or can't be read, fetched or written.
    """
    path = data_folder() / file
    try:
        if not path.exists():
            return _download(path, [mirror + path.name for mirror in mirrors], read)
        return read(path)
    except DamagedError as error:
        raise DataError(f"{path} is damaged ({error}): delete it, and it is downloaded anew") from error
    except OSError as error:
        raise DataError(f"cannot read or write {path} ({_reason(error)}): {_by_hand(path)}") from error


def check_sha256(data: bytes, expected: str) -> bytes:
    """The bytes themselves, or `DamagedError` where their SHA-256 is not the expected one."""
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise DamagedError(f"the SHA-256 of its content is {found[:12]}…, not {expected[:12]}…")
    return data


def _download(path: Path, urls: Sequence[str], read: Callable[[Path], Content]) -> Content:
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.touch(exist_ok=False)
    except OSError as error:
        raise DataError(f"cannot write to {path.parent} ({_reason(error)}): {_by_hand(path)}") from error
    failures = []
    try:
        for url, silence in _ask(urls):
            try:
                if silence:
                    raise silence
                _fetch(url, part, path.name)
                content = read(part)
            except (OSError, DamagedError) as failure:
                failures.append(f"{urlsplit(url).hostname}: {_reason(failure)}")
                continue
            _put(part, path)
            return content
    finally:
        part.unlink(missing_ok=True)
    raise DataError(f"cannot download {path.name} ({'; '.join(failures)}): {_by_hand(path, urls[-1])}")


def _ask(urls: Sequence[str]) -> Iterator[tuple[str, OSError | None]]:
    """Ask all mirrors at once whether they are there, so that being offline costs seconds, not minutes."""
    import pooch

    head = pooch.HTTPDownloader(timeout=SECONDS_TO_ANSWER)
    silence: dict[str, OSError | None] = {url: TimeoutError() for url in urls}

    def ask(url: str) -> None:
        try:
            head(url, None, None, check_only=True)
            silence[url] = None
        except OSError as error:
            silence[url] = error

    threads = [threading.Thread(target=ask, args=(url,), daemon=True) for url in urls]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + SECONDS_TO_ANSWER
    for url, thread in zip(urls, threads, strict=True):
        thread.join(max(0.0, deadline - time.monotonic()))
        yield url, silence[url]


def _fetch(url: str, to: Path, name: str) -> None:
    import pooch
    from tqdm import tqdm

    with tqdm(desc=name, total=1, unit="B", unit_scale=True) as bar:  # pooch asks the bar whether it is true
        fetch = pooch.HTTPDownloader(
            progressbar=bar,
            chunk_size=1 << 16,
            timeout=(SECONDS_TO_ANSWER, SECONDS_BETWEEN_BYTES),
            headers={"Accept-Encoding": "identity"},  # else a server may unpack the file on its way
        )
        fetch(url, str(to), None)


def _put(part: Path, path: Path) -> None:
    with part.open("r+b") as file:
        os.fsync(file.fileno())
    try:
        os.replace(part, path)
    except PermissionError:  # Windows, where another process has put the same file there and reads it now
        if not path.exists():
            raise


def _by_hand(path: Path, url: str | None = None) -> str:
    get = f"get {url} elsewhere and put it" if url else f"put {path.name}"
    return f"{get} into {path.parent}, or set {VARIABLE} to a folder that has {path.parent.name}/{path.name}"


def _reason(error: Exception) -> str:
    response = getattr(error, "response", None)
    if response is not None:
        return f"HTTP {response.status_code}"
    if isinstance(error, DamagedError):
        return str(error)
    name = type(error).__name__
    return getattr(error, "strerror", None) or IN_WORDS.get(name, name)
