"""`folder:PATH`: your own pictures, a folder or zip with one subfolder for each class."""

import os
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from io import FileIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import UnidentifiedImageError
from torch import Tensor
from tqdm import tqdm

from diffusion_lessons.data.dataset import Dataset, check_asked
from diffusion_lessons.data.downloads import DataError
from diffusion_lessons.data.layout import TEST_EVERY, PictureFile, is_ignored, printable, sort_pictures
from diffusion_lessons.data.pictures import read_square
from diffusion_lessons.support.zips import RefusedZip, UnreadableZip, open_zip, zip_files

THREADS = 4
NAMES_SHOWN = 3

Files = dict[str, Callable[[], BinaryIO]]
Reasons = dict[str, str]


def folder(path: str | Path, split: str = "train", size: int | None = None) -> Dataset:
    """Pictures of any size and mode, cut to squares, from a folder or zip with one subfolder for each class.

    Classes are the subfolders that hold pictures, at any depth, in the order of their names; a single folder
    around them is looked through. Every tenth picture of a class, in the order of the paths, is for testing,
    unless the classes lie in folders called "train" and "test" (or "val"). Hidden files are ignored, and
    links followed to files inside the folder only. Pictures are grey (C = 1) if all of them are, of both
    splits, and in colour (C = 3) otherwise. A zip is read where it lies; `size` is 32 by default.

    Files that are no readable pictures are one UserWarning, with their number and first names. No classes or
    pictures, and a zip or picture that unpacks to too much, are a DataError.
    """
    test, size = check_asked(split, size, default=32)
    root = Path(path).expanduser()
    with ExitStack() as stack:
        files, skipped = _list(root, stack)
        pictures, loose = sort_pictures(name for name in files if not is_ignored(name))
        if not pictures:
            raise DataError(f"{root} has no pictures in subfolders: make one subfolder for each class")
        images, chosen, classes, unreadable = _read(root, pictures, files, size, test)
    skipped |= dict.fromkeys(loose, "in no class folder") | unreadable
    if skipped:
        names = [f"{printable(name)} ({why})" for name, why in list(skipped.items())[:NAMES_SHOWN]]
        names += ["..."] * (len(skipped) > NAMES_SHOWN)
        total = len(skipped) + len(pictures) - len(unreadable)
        message = f"{root}: {len(skipped)} of {total} files skipped: {', '.join(names)}"
        warnings.warn(message, stacklevel=3)  # in the eyes of who called `load_dataset`
    if not chosen:
        why = f"of {TEST_EVERY}, one is for testing"
        raise DataError(f"{root} has no pictures to {split} that can be read: {why}")
    labels = torch.tensor([classes.index(picture.label) for picture in chosen])
    return Dataset(f"folder:{printable(root.absolute().name)}", images, labels, tuple(classes))


def _list(root: Path, stack: ExitStack) -> tuple[Files, Reasons]:
    """What opens each file, by its path inside the folder or zip; and why others are left out."""
    if root.is_dir():
        return _folder_files(root)
    if not root.is_file():
        raise DataError(f"there is no folder or zip at {root.absolute()}")
    try:
        return zip_files(stack.enter_context(open_zip(root))), {}
    except UnreadableZip as error:
        raise DataError(f"{root} is neither a folder nor a readable zip ({error})") from error
    except RefusedZip as error:
        trusted = "If you trust it, unpack it and give the folder"
        raise DataError(f"{root} is refused: {error}. {trusted}") from error


def _folder_files(root: Path) -> tuple[Files, Reasons]:
    files: Files = {}
    skipped: Reasons = {}
    inside = os.path.realpath(root)

    def note(error: OSError) -> None:
        skipped[Path(error.filename).relative_to(root).as_posix()] = error.strerror or "not readable"

    for place, folders, names in os.walk(root, onerror=note):
        folders[:] = [name for name in folders if not is_ignored(name)]
        for name in folders + [name for name in names if not is_ignored(name)]:
            path = Path(place, name)
            key = path.relative_to(root).as_posix()
            if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(inside):
                skipped[key] = "a link out of the folder"
            elif path.is_symlink() and path.is_dir():
                skipped[key] = "a link to a folder"
            elif path.is_file():
                files[key] = partial(FileIO, path)
            elif not path.is_dir():
                skipped[key] = "not a file"
    return files, skipped


def _read(
    root: Path, pictures: list[PictureFile], files: Files, size: int, test: bool
) -> tuple[Tensor, list[PictureFile], list[str], Reasons]:
    """The images (N, C, size, size) of one split, with their pictures; all classes; and what is unreadable.

    All pictures are read, also those of the other split, so that both splits have the same classes and C.
    """

    def read(picture: PictureFile) -> np.ndarray | str:
        """The picture, or the reason why it can't be read."""
        try:
            with files[picture.path]() as file:
                return read_square(file, size)
        except DataError as error:
            raise DataError(f"{printable(picture.path)} in {root} is refused: {error}") from error
        except UnidentifiedImageError:
            return "not a picture"
        except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
            return printable(str(error))[:80] or type(error).__name__

    images = np.empty((sum(picture.test == test for picture in pictures), 3, size, size), np.uint8)
    chosen: list[PictureFile] = []
    unreadable: Reasons = {}
    colour = False
    with ThreadPoolExecutor(THREADS) as pool:
        results = tqdm(pool.map(read, pictures), root.name, len(pictures), delay=1)
        for picture, result in zip(pictures, results, strict=True):
            if isinstance(result, str):
                unreadable[picture.path] = result
                continue
            colour = colour or bool((result != result[..., :1]).any())
            if picture.test == test:
                images[len(chosen)] = result.transpose(2, 0, 1)
                chosen.append(picture)
    classes = sorted({picture.label for picture in pictures if picture.path not in unreadable})
    kept = torch.from_numpy(images[: len(chosen), : 3 if colour else 1]).contiguous()
    return kept, chosen, classes, unreadable
