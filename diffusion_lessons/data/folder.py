"""`folder:PATH`: your own pictures, a folder or zip with one subfolder for each class."""

import math
import os
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from io import FileIO
from pathlib import Path
from posixpath import splitext
from typing import BinaryIO, TypeVar

import numpy as np
import torch
from PIL import UnidentifiedImageError
from torch import Tensor
from tqdm import tqdm

from diffusion_lessons.data.dataset import Dataset, check_asked
from diffusion_lessons.data.downloads import DataError
from diffusion_lessons.data.layout import PictureFile, is_ignored, printable, sort_pictures
from diffusion_lessons.data.pictures import read_square
from diffusion_lessons.support.files import expanded
from diffusion_lessons.support.zips import RefusedZip, UnreadableZip, open_zip, zip_files

THREADS = 4
NAMES_SHOWN = 3
DARK = 0.25  # of the range of 16 bits: what 14 bits reach at most

Files = dict[str, Callable[[], BinaryIO]]
Reasons = dict[str, str]
Beside = TypeVar("Beside")


def folder(path: str | Path, split: str = "train", size: int | None = None) -> Dataset:
    """Pictures of any size and mode, cut to squares, from a folder or zip with one subfolder for each class.

    Which folders are classes, and which pictures are for testing, is told by `sort_pictures`; a folder
    without subfolders has neither classes nor labels. Hidden files are ignored, and links followed to files
    inside the folder only. Pictures are grey (C = 1) if all of them are, of both splits, and in colour
    (C = 3) otherwise. A zip is read where it lies; `size` is 32 by default.

    Files that are no readable pictures, or too large ones, are one UserWarning, with their number and first
    names; so are scans that look black, and folders that may be splits. No pictures at all, and a zip that
    unpacks to too much, are a DataError.
    """
    return pictures_and(lambda files, chosen: None, is_ignored, path, split, size)[0]


def pictures_and(
    beside: Callable[[Files, list[PictureFile]], Beside],
    ignored: Callable[[str], bool],
    path: str | Path,
    split: str = "train",
    size: int | None = None,
) -> tuple[Dataset, Beside]:
    """What `folder` gives, and what `beside` finds among all files for the pictures that were taken.

    Files that are `ignored`, and captions NAME.txt beside NAME.png, are no pictures, and are not missed.
    """
    test, size = check_asked(split, size, default=32)
    root = Path(expanded(path))
    with ExitStack() as stack:
        files, skipped = _list(root, stack)
        pictured = {splitext(name)[0] for name in files if not name.endswith(".txt")}
        told = {name for name in files if name.endswith(".txt") and splitext(name)[0] in pictured}
        found = sort_pictures(name for name in files if name not in told and not ignored(name))
        skipped |= found.left_out
        if not found.pictures:
            why = f" ({_some(skipped)})" if skipped else ""
            raise DataError(f"{root} has no pictures{why}: {_advice(skipped)}")
        images, chosen, classes, unreadable, dark = _read(root, found.pictures, files, size, test)
        more = beside(files, chosen)
    skipped |= unreadable
    total = len(skipped) + len(found.pictures) - len(unreadable)
    left = f"{len(skipped)} of {total} files skipped"
    for doubt in (f"{left}: {_some(skipped)}" if skipped else "", found.doubt, dark):
        if doubt:
            warnings.warn(f"{root}: {doubt}", stacklevel=4)  # in the eyes of who called `load_dataset`
    if not chosen:
        raise DataError(f"{root} has no pictures to {split} that can be read: for testing, {found.held_out}")
    others = len(found.pictures) - len(unreadable) - len(chosen)
    held_out = f"{others} more are for {'training' if test else f'testing ({found.held_out})'}"
    note = "; ".join([held_out, *[left] * bool(skipped)])
    labels = torch.tensor([classes.index(str(each.label)) for each in chosen]) if classes else None
    name = f"folder:{printable(root.absolute().name)}"
    return Dataset(name, images, labels, tuple(classes), note=note), more


def _some(skipped: Reasons) -> str:
    """A few of the files that are left out, and why: of each reason one, then any."""
    first = {why: name for name, why in reversed(skipped.items())}
    shown = [*dict.fromkeys([*reversed(first.values()), *skipped])][:NAMES_SHOWN]
    names = [f"{printable(name)} ({skipped[name]})" for name in shown]
    names += ["..."] * (len(skipped) > NAMES_SHOWN)
    return ", ".join(names)


def _advice(skipped: Reasons) -> str:
    if any(why.startswith("a link") for why in skipped.values()):
        return "links out of the folder are not followed: copy what they lead to into it"
    return "give a folder or zip of pictures, best with one subfolder for each class"


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
) -> tuple[Tensor, list[PictureFile], list[str], Reasons, str]:
    """The images (N, C, size, size) of one split, with their pictures; all classes; unreadable ones; a doubt.

    All pictures are read, also those of the other split, so that both splits have the same classes and C.
    """
    peaks: list[float] = []

    def read(picture: PictureFile) -> np.ndarray | str:
        """The picture, or the reason why it can't be read."""
        try:
            with files[picture.path]() as file:
                return read_square(file, size, peaks)
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
    labels = {picture.label for picture in pictures if picture.path not in unreadable}
    kept = torch.from_numpy(images[: len(chosen), : 3 if colour else 1]).contiguous()
    return kept, chosen, sorted(label for label in labels if label is not None), unreadable, _dark(peaks)


def _dark(peaks: list[float]) -> str:
    """What to say of 16-bit pictures none of which is bright: scans of 12 bits look black."""
    most = max(peaks, default=0.0)
    if not 0 < most < DARK:
        return ""
    bits = math.ceil(math.log2(most * 65535 + 1))
    return (
        f"the brightest value in {len(peaks)} 16-bit pictures is {most * 65535:.0f} of 65535, so that they "
        f"look nearly black: if they are scans of {bits} bits, multiply their values by {2 ** (16 - bits)}"
    )
