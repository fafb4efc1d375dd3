"""`shards:PATTERN`: pictures with captions in tars, more than memory or disk hold.

Each row is read when a step wants it, by its place in its shard. An epoch takes the shards in an order of its
own, a few at a time, and shuffles the rows of those few: so shards pass by one after another, and what a step
sees is still a function of seed and step alone.
"""

import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from io import BytesIO
from typing import Self

import numpy as np
import torch
from PIL import UnidentifiedImageError
from torch import Tensor
from tqdm import tqdm

from diffusion_lessons.data.dataset import Row, check_asked
from diffusion_lessons.data.downloads import DataError
from diffusion_lessons.data.layout import printable
from diffusion_lessons.data.pictures import read_square
from diffusion_lessons.data.shard_files import addresses, at_hand, index_of, is_remote, short
from diffusion_lessons.data.shard_index import Index, caption, member_name
from diffusion_lessons.support.console import OwnWarning
from diffusion_lessons.support.seeds import seeded

WINDOW = 4  # shards whose rows are shuffled with one another
THREADS = 4
NAMES_SHOWN = 20  # of damaged rows, at most

Told = Callable[[list[str]], dict[str, Tensor]]


@dataclass(frozen=True, eq=False)
class Shards:
    """The rows of all shards, numbered one shard after another; `told` makes a condition of captions."""

    name: str
    shards: tuple[str, ...]  # their addresses
    indexes: tuple[Index, ...]
    size: int  # of the pictures, in pixels
    told: Told | None = None
    classes: tuple[str, ...] = ()
    skipped: dict[int, str] = field(default_factory=dict)  # rows found damaged so far, and their names

    @classmethod
    def open(cls, pattern: str, size: int | None = None) -> Self:
        """The shards of a pattern; pictures are cut to squares of `size` pixels, 32 by default.

        What is damaged, missing or without a caption is left out, with one UserWarning for each shard. No row
        at all is a DataError.
        """
        _, size = check_asked("train", size, default=32)
        kept, indexes = [], []
        for address in tqdm(addresses(pattern), "shards", delay=1):
            index, faults = None, []
            try:
                index = index_of(address)
                faults = list(index.faults)
            except (DataError, OSError) as error:
                faults = [getattr(error, "strerror", None) or str(error)]
            if faults:
                skipped = "" if index is not None and len(index.rows) else "; it is skipped"
                warnings.warn(
                    f"shard {printable(short(address))}: {'; '.join(faults)}{skipped}", stacklevel=2
                )
            if index is not None and len(index.rows):
                kept.append(address)
                indexes.append(index)
        if not kept:
            raise DataError(
                f"no shard of {pattern} has a row that can be read: a shard is an uncompressed tar of "
                "key.jpg, .png or .webp with key.txt, or with key.json that has a caption"
            )
        return cls(f"shards:{printable(pattern)}", tuple(kept), tuple(indexes), size)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one row: (C, H, W)."""
        return (3, self.size, self.size)

    @property
    def length(self) -> int:
        """The number of rows, those among them that will be found damaged."""
        return int(self._starts[-1])

    def rows(self, index: Tensor) -> Row:
        """The rows at positions (B,), with their conditions, on the CPU.

        In the place of one that cannot be decoded stands the next that can; an OwnWarning names it, once.
        """
        before = len(self.skipped)
        with ThreadPoolExecutor(THREADS) as pool:
            read = list(pool.map(self._row, index.tolist()))
        for number, name in enumerate([*self.skipped.values()][before:], before + 1):
            if number <= NAMES_SHOWN:
                last = "; more are skipped without a word" if number == NAMES_SHOWN else ""
                warnings.warn(f"{name}; it is skipped{last}", OwnWarning, stacklevel=2)
        pictures = torch.from_numpy(np.stack([picture for picture, _ in read])).permute(0, 3, 1, 2)
        if self.told is None:
            return pictures.contiguous(), {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of captions that are cut, step after step: `words` tells it
            return pictures.contiguous(), self.told([text for _, text in read])

    def order(self, seed: int, epoch: int) -> Tensor:
        """(length,) the positions in the order of an epoch."""
        return _order(tuple(self._starts.tolist()), seed, epoch)

    def captions(self, most: int) -> list[str]:
        """So many captions, or all there are: those of the first rows in an order of their own."""
        texts = []
        for row in self.order(0, 0)[:most].tolist():
            try:
                texts.append(self._words(row))
            except Missing:
                raise
            except ValueError:
                continue  # named when its row is wanted
        return texts

    def words(self) -> str:
        """What there is to learn from, in a line."""
        return (
            f"{self.name}: {self.length} pictures of {'x'.join(map(str, self.shape))} in {len(self.shards)} "
            f"shards, with captions, shuffled among {WINDOW} shards at a time; long captions are cut"
        )

    def fingerprint(self) -> str:
        """A checksum of the shards' names, and of where their rows lie."""
        crc = 0
        for address, index in zip(self.shards, self.indexes, strict=True):
            crc = zlib.crc32(index.rows.tobytes(), zlib.crc32(short(address).encode(), crc))
        return f"{self.length}x{'x'.join(map(str, self.shape))} {crc:08x}"

    @cached_property
    def _starts(self) -> np.ndarray:
        return np.cumsum([0, *(len(index.rows) for index in self.indexes)])

    def _row(self, row: int) -> tuple[np.ndarray, str]:
        """Picture and caption of a row, or of the next that is not damaged."""
        for shift in range(self.length):
            at = (row + shift) % self.length
            if at in self.skipped:
                continue
            try:
                return read_square(BytesIO(self._bytes(at, 0)), self.size), self._words(at)
            except Missing:
                raise
            except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
                unknown = isinstance(error, UnidentifiedImageError)  # whose words name a place in memory
                why = "no picture" if unknown else printable(str(error))[:80]
                self.skipped[at] = f"{self._name(at)} cannot be read ({why})"
        raise DataError(
            f"no picture of {self.name} can be read; the first: {self.skipped[row % self.length]}"
        )

    def _words(self, row: int) -> str:
        shard, place = self._place(row)
        return caption(self._bytes(row, 2), bool(self.indexes[shard].rows[place, 4]))

    def _place(self, row: int) -> tuple[int, int]:
        shard = int(np.searchsorted(self._starts, row, side="right")) - 1
        return shard, row - int(self._starts[shard])

    def _bytes(self, row: int, column: int) -> bytes:
        """What lies at the place that two columns of the index name; a `Missing` shard is no damaged row."""
        shard, place = self._place(row)
        address, index = self.shards[shard], self.indexes[shard]
        start, size = index.rows[place, column : column + 2].tolist()
        for again in (True, False):
            try:
                with at_hand(address).open("rb") as file:
                    if file.seek(0, 2) != index.size:
                        raise Missing(
                            f"{address} has changed: it had {index.size} bytes, and has {file.tell()}"
                        )
                    file.seek(start)
                    return file.read(size)
            except FileNotFoundError as error:
                if not (again and is_remote(address)):  # else another process has just made room
                    raise Missing(f"{address} is gone since training began") from error
            except (DataError, OSError) as error:
                raise Missing(str(error)) from error
        raise AssertionError

    def _name(self, row: int) -> str:
        shard, place = self._place(row)
        start = int(self.indexes[shard].rows[place, 0])
        address = self.shards[shard]
        return f"{member_name(at_hand(address), start)} in shard {printable(short(address))}"


class Missing(DataError):
    """A shard that was there when it was indexed, and now cannot be read."""


@lru_cache(maxsize=2)
def _order(starts: tuple[int, ...], seed: int, epoch: int) -> Tensor:
    generator = seeded("cpu", seed, "shards", epoch)
    windows = torch.randperm(len(starts) - 1, generator=generator).split(WINDOW)
    rows = [
        torch.cat([torch.arange(starts[shard], starts[shard + 1]) for shard in window.tolist()])
        for window in windows
    ]
    return torch.cat([each[torch.randperm(len(each), generator=generator)] for each in rows])
