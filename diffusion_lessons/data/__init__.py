"""Real data for diffusion models: pictures with labels, and points in the plane."""

from collections.abc import Callable

from diffusion_lessons.data import cifar, digits, mnist
from diffusion_lessons.data.dataset import Dataset, to_float, to_uint8
from diffusion_lessons.data.downloads import DataError
from diffusion_lessons.data.toys import TOYS
from diffusion_lessons.support.errors import unknown

__all__ = ["DATASETS", "SCENES", "TOYS", "DataError", "Dataset", "load_dataset", "to_float", "to_uint8"]

DATASETS: dict[str, Callable[[str, int | None], Dataset]] = {
    "digits": digits.digits,
    "mnist": mnist.mnist,
    "fashion_mnist": mnist.fashion_mnist,
    "cifar10": cifar.cifar10,
}
FOLDER = "folder:"
SHARDS = "shards:"  # pictures with captions in tars: `data.shards`
SCENES = "scenes"  # rendered without end, with captions: `data.captioned`


def load_dataset(name: str, split: str = "train", size: int | None = None) -> Dataset:
    """One of `DATASETS` by its name, or "folder:PATH": a folder or zip with one subfolder for each class.

    `split` is "train" or "test"; `size` the side of the pictures in pixels, by default 16 for the digits and
    32 for all others. Another name, split or size is a ValueError; data that is missing, damaged or dangerous
    a DataError (a ValueError too).
    """
    if name.startswith(FOLDER) and name != FOLDER:
        from diffusion_lessons.data.folder import folder

        return folder(name.removeprefix(FOLDER), split, size)
    if name == SCENES:
        raise ValueError("scenes are rendered without end: take their rows from data.captioned.scene_rows")
    if name.startswith(SHARDS):
        raise ValueError(
            "shards are read row by row, with their captions: open them by data.shards.Shards.open"
        )
    if name not in DATASETS:
        raise unknown("data set", name, [*DATASETS, SCENES, f"{FOLDER}PATH", f"{SHARDS}PATTERN"])
    return DATASETS[name](split, size)
