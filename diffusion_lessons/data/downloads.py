"""The folder where downloaded data lies: what is there is checked and used, what is missing is fetched."""

import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar
from urllib.parse import urlsplit

from diffusion_lessons.support.files import expanded

Content = TypeVar("Content")

VARIABLE = "DIFFUSION_LESSONS_DATA"
SECONDS_TO_ANSWER = 8.0
SECONDS_BETWEEN_BYTES = 30.0
IN_WORDS = {
    **dict.fromkeys(("ConnectTimeout", "ReadTimeout", "TimeoutError"), "no answer"),
    "ConnectionError": "no connection",
    "SSLError": "certificate refused",
    "ChunkedEncodingError": "cut off",
}


class DataError(ValueError):
    """Data that is missing, damaged or dangerous, and what to do about it."""


class DamagedError(DataError):
    """A file whose bytes are not those that were published."""


def data_folder() -> Path:
    """Where data lies: the folder that $DIFFUSION_LESSONS_DATA names, else this platform's cache folder."""
    import pooch

    named = os.environ.get(VARIABLE)
    return Path(expanded(named)).absolute() if named else Path(pooch.os_cache("diffusion-lessons"))


def load_cached(file: str, mirrors: Sequence[str], read: Callable[[Path], Content]) -> Content:
    """What `read` makes of a file of the data folder, which is downloaded if it isn't there.

    `file` is its path in the data folder, such as "mnist/train-images-idx3-ubyte.gz"; `mirrors` are addresses
    of folders that have it, ending in "/", in the order in which they are tried; `read` checks it, too, and
    raises `DamagedError` where the bytes are wrong. A download is checked before it gets its name, so the
    folder holds whole files only, also when two processes fetch the same one. A file that is there is never
    deleted. One that is damaged, or can't be read, fetched or written, is a DataError.
    """
    path = data_folder() / file
    missing = not path.exists()
    try:
        if missing:
            path.parent.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=path.parent).close()  # where it fails, no mirror is to blame
            _download(path, [mirror + path.name for mirror in mirrors], read)
        return read(path)
    except DamagedError as error:
        raise DataError(f"{path} is damaged ({error}): delete it, and it is downloaded anew") from error
    except OSError as error:
        cannot = "write to" if missing else "read"
        raise DataError(f"cannot {cannot} {path} ({reason(error)}): {_by_hand(path)}") from error


def check_sha256(data: bytes, expected: str) -> bytes:
    """The bytes themselves, or `DamagedError` where their SHA-256 is not the expected one."""
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise DamagedError(f"the SHA-256 of its content is {found[:12]}…, not {expected[:12]}…")
    return data


def downloader(chunk: int, bar: Any = False) -> Any:
    """What fetches a file by HTTP, `chunk` bytes at a time, with the patience of all downloads here."""
    import pooch

    timeout = (SECONDS_TO_ANSWER, SECONDS_BETWEEN_BYTES)
    headers = {"Accept-Encoding": "identity"}  # else a server may unpack the file on its way
    return pooch.HTTPDownloader(bar, chunk, timeout=timeout, headers=headers)


def _download(path: Path, urls: Sequence[str], check: Callable[[Path], object]) -> None:
    import pooch
    from tqdm import tqdm

    def fetch(url: str, file: str, _: object) -> None:
        """Fill pooch's temporary file and check it: by its content, as every mirror packs it differently."""
        with tqdm(desc=path.name, total=1, unit="B", unit_scale=True) as bar:  # pooch asks whether it is true
            downloader(1 << 16, bar)(url, file, None)
        check(Path(file))
        os.chmod(file, 0o644)  # as any other file: a temporary one is its owner's alone

    pooch.get_logger().setLevel("WARNING")  # else it advises the reader to pin a hash
    failures = []
    deadline = time.monotonic() + SECONDS_TO_ANSWER
    for url, answer in [(url, _ask(url)) for url in urls]:
        try:
            answer.result(max(0.0, deadline - time.monotonic()))
            pooch.retrieve(url, None, path.name, path.parent, downloader=fetch)
            return
        except (OSError, DamagedError) as failure:
            failures.append(f"{urlsplit(url).hostname}: {reason(failure)}")
    raise DataError(f"cannot download {path.name} ({'; '.join(failures)}): {_by_hand(path, *urls[-1:])}")


def _ask(url: str) -> Future[bool]:
    """Whether a mirror answers. All are asked at once, so that being offline costs seconds, not minutes."""
    import pooch

    answer: Future[bool] = Future()
    head = pooch.HTTPDownloader(timeout=SECONDS_TO_ANSWER)

    def ask() -> None:
        try:
            answer.set_result(head(url, None, None, check_only=True))
        except OSError as error:
            answer.set_exception(error)

    Thread(target=ask, daemon=True).start()
    return answer


def _by_hand(path: Path, url: str | None = None) -> str:
    get = f"get {url} elsewhere and put it" if url else f"put {path.name}"
    return f"{get} into {path.parent}, or set {VARIABLE} to a folder that has {path.parent.name}/{path.name}"


def reason(error: Exception) -> str:
    """What went wrong with a download or a file, in a few words."""
    response, name = getattr(error, "response", None), type(error).__name__
    if response is not None:
        return f"HTTP {response.status_code}"
    if isinstance(error, DamagedError):
        return str(error)
    return getattr(error, "strerror", None) or IN_WORDS.get(name, name)
