"""Shards that tests make: each row's picture and caption tell which one it is."""

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image


def coloured(row: int, kind: str = "PNG") -> bytes:
    """A picture of 8×8 whose red is four times the number of the row, with a pattern in blue."""
    values = np.zeros((8, 8, 3), np.uint8)
    values[..., 0], values[..., 2] = row * 4, np.arange(8) * 30
    out = io.BytesIO()
    Image.fromarray(values).save(out, kind, lossless=True)
    return out.getvalue()


def write_shard(file: Path, members: dict[str, bytes]) -> None:
    """A tar of these members."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w") as tar:
        for name, data in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(data)
            tar.addfile(about, io.BytesIO(data))


def write_shards(folder: Path, shards: int, each: int) -> None:
    """000.tar, 001.tar … with so many rows each, numbered through: at most 64 in all."""
    for shard in range(shards):
        members = {}
        for row in range(shard * each, (shard + 1) * each):
            members |= {f"{row:06}.png": coloured(row), f"{row:06}.txt": f"shade number {row}".encode()}
        write_shard(folder / f"{shard:03}.tar", members)
