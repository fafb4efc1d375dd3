"""The data path without a network: how many pictures a second can be made ready for it."""

import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from PIL import Image
from torch import Tensor

from diffusion_lessons.data.captioned import scene_rows, scene_tokenizer
from diffusion_lessons.data.dataset import Dataset, Rows
from diffusion_lessons.data.scenes import draw
from diffusion_lessons.data.shards import Shards
from diffusion_lessons.experiments.clock import quartiles
from diffusion_lessons.experiments.ladder.shared import Bench, Row
from diffusion_lessons.training.batches import Batches

SIZE, BATCH, ROWS = 64, 32, 512  # side and number of the pictures: scenes, in colour
FORMATS = {"PNG": {}, "JPEG": {"quality": 90}}
SOURCES = ("bytes in memory", "JPEG in shards", "PNG in shards", "drawn when asked for")


def settings(cuda: bool) -> list[Row]:
    return [{"part": "data", "source": source} for source in SOURCES]


def measure(bench: Bench, row: Row) -> Row:
    """Pictures a second, as floats on the device in batches: over the windows."""
    with source(row["source"], bench.seed) as rows:
        batches, step = Batches(rows, BATCH, bench.seed, bench.device), iter(range(10**9))
        taken = bench.clock.in_turns({"": lambda: batches(next(step))}, bench.windows, bench.seconds)[""]
        shape = list(rows.shape)
    return {"pictures_a_second": quartiles([BATCH / each for each in taken]), "shape": shape}


@contextmanager
def source(name: str, seed: int) -> Iterator[Rows]:
    """The same scenes, kept in one way or another."""
    pictures = draw(seed, torch.arange(ROWS)).render(SIZE)
    if name == "bytes in memory":
        yield Dataset("scenes", pictures)
    elif name == "drawn when asked for":
        yield scene_rows(scene_tokenizer(), SIZE, seed=seed)
    else:
        with TemporaryDirectory() as folder:
            write_shard(Path(folder) / "000.tar", pictures, name.split()[0])
            yield Shards.open(str(Path(folder) / "000.tar"), SIZE)


def write_shard(file: Path, pictures: Tensor, format: str) -> None:
    """Pictures (N, 3, H, W) of bytes as a tar in WebDataset's convention."""
    with tarfile.open(file, "w") as tar:
        for i, picture in enumerate(pictures):
            encoded = io.BytesIO()
            Image.fromarray(picture.permute(1, 2, 0).numpy()).save(encoded, format, **FORMATS[format])
            for name, data in ((format.lower(), encoded.getvalue()), ("txt", b"a scene")):
                about = tarfile.TarInfo(f"{i:06}.{name.replace('jpeg', 'jpg')}")
                about.size = len(data)
                tar.addfile(about, io.BytesIO(data))
