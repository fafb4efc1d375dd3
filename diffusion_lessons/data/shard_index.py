"""Where the pictures and captions of a shard lie: found in one pass over the headers of its tar.

A shard follows WebDataset's convention: members of the same name up to its first dot are one row, key.jpg
(png, webp) with key.txt, or with key.json that has a "caption" or "text". Where each row lies is known, so
any is read by itself: a step's rows are a function of seed and step, and nothing is replayed on resuming.
"""

import json
import posixpath
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np

from diffusion_lessons.data.layout import printable
from diffusion_lessons.support.files import atomic_write

PICTURES = ("jpg", "jpeg", "png", "webp")
CAPTIONS = ("txt", "json")  # of two the first
LARGEST = 100_000_000  # bytes of a member, at most
BLOCK = 512  # bytes of a tar's header
NAMES_SHOWN = 3
BESIDE = ".index.json"  # what the index of a shard is called: its address with this behind


class NoIndex(ValueError):
    """Bytes that are no index of a shard."""


@dataclass(frozen=True, eq=False)
class Index:
    """The rows of a shard: (n, 5) int64, start and size of picture and caption in bytes, and 1 for JSON."""

    size: int  # of the tar, in bytes
    rows: np.ndarray
    faults: tuple[str, ...] = field(default=())  # what is left out and why, in words

    def __post_init__(self) -> None:
        starts, sizes = self.rows[:, 0:4:2], self.rows[:, 1:4:2]
        if (self.rows < 0).any() or (starts + sizes > self.size).any() or (sizes > LARGEST).any():
            raise NoIndex("it names places that lie outside the shard")

    def save(self, file: Path) -> None:
        """Write it as JSON, whole or not at all."""
        told = {"size": self.size, "faults": self.faults, "rows": self.rows.tolist()}
        with atomic_write(file) as partial:
            partial.write_text(json.dumps(told), encoding="utf-8")

    @classmethod
    def load(cls, text: bytes) -> Self:
        """The index that was saved; other bytes are a `NoIndex`."""
        try:
            told = json.loads(text)
            rows = np.asarray(told["rows"], dtype=np.int64).reshape(-1, 5)
            return cls(int(told["size"]), rows, tuple(map(str, told["faults"])))
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise NoIndex(f"no index of a shard ({error})") from error


def indexed(file: Path) -> Index:
    """The index of a tar, from one pass over it; what is damaged in it is told by the index's `faults`."""
    size, faults = file.stat().st_size, []
    pictures: dict[str, tuple[int, int]] = {}
    captions: dict[str, dict[str, tuple[int, int]]] = {}
    try:
        with tarfile.open(file, "r:") as tar:
            for member in tar:
                if not member.isreg() or not 0 < member.size <= LARGEST:
                    continue
                folder, base = posixpath.split(member.name)
                stem, _, ending = base.partition(".")
                key, place = posixpath.join(folder, stem), (member.offset_data, member.size)
                if sum(place) > size:
                    break
                if ending.lower() in PICTURES:
                    pictures.setdefault(key, place)
                elif ending.lower() in CAPTIONS:
                    captions.setdefault(key, {}).setdefault(ending.lower(), place)
            end = tar.offset
    except (tarfile.TarError, EOFError, OverflowError, ValueError, UnicodeError) as error:
        reason = printable(str(error))[:80]
        if not pictures:
            return Index(size, np.empty((0, 5), np.int64), (f"no uncompressed tar ({reason})",))
        faults.append(f"damaged ({reason})")
        end = None
    rows = [
        (*pictures[key], *told[kind], kind == "json")
        for key, told in captions.items()
        if key in pictures
        for kind in [next(kind for kind in CAPTIONS if kind in told)]
    ]
    if end is not None and (broken := _broken_end(file, end)):
        faults.append(f"{broken}: {len(rows)} rows of it are whole")
    for names, what in (
        (pictures.keys() - captions.keys(), "pictures without a caption"),
        (captions.keys() - pictures.keys(), "captions without a picture"),
    ):
        if names:
            shown = ", ".join(map(printable, sorted(names)[:NAMES_SHOWN]))
            faults.append(f"{len(names)} {what} ({shown}{', ...' * (len(names) > NAMES_SHOWN)})")
    if not rows and not faults:
        faults.append("it has no pictures with captions")
    return Index(size, np.array(rows, np.int64).reshape(-1, 5), tuple(faults))


def _broken_end(file: Path, end: int) -> str:
    """What is wrong where `tarfile` stopped reading: a whole tar has a block of zeros there."""
    with file.open("rb") as tar:
        tar.seek(end)
        block = tar.read(BLOCK)
    if len(block) < BLOCK:
        return "cut short"
    return "damaged within" if any(block) else ""


def caption(data: bytes, is_json: bool) -> str:
    """The words of a caption's member; ValueError where there are none."""
    text = data.decode("utf-8-sig")
    if is_json:
        told = json.loads(text)
        told = told if isinstance(told, dict) else {}
        text = next((told[name] for name in ("caption", "text") if isinstance(told.get(name), str)), "")
        if not text:
            raise ValueError('no "caption" in its JSON')
    return " ".join(text.split())


def member_name(file: Path, start: int) -> str:
    """The name of the member whose bytes start there, from the header before them."""
    with file.open("rb") as tar:
        tar.seek(max(0, start - BLOCK))
        name = tar.read(100).split(b"\0")[0]
    return printable(name.decode("utf-8", "replace"))
