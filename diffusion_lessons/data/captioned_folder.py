"""`folder:PATH` with captions: pictures of one's own, and what is said of each.

Two conventions are read, those of Hugging Face's ImageFolder and of the trainers of Stable Diffusion: a
`metadata.jsonl` or `metadata.csv` with `file_name` (from its own folder) and `text`; or x.txt beside x.png.
"""

import csv
import io
import json
import posixpath
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from diffusion_lessons.data.dataset import Dataset
from diffusion_lessons.data.downloads import DataError
from diffusion_lessons.data.folder import Files, pictures_and
from diffusion_lessons.data.layout import PictureFile, is_ignored, printable
from diffusion_lessons.data.tokenizer import CONTEXT, Tokenizer

TABLES = ("metadata.jsonl", "metadata.csv")
LARGEST = 100_000_000  # bytes of a file with captions
TOKENS = 4096  # of a tokenizer that is learnt from captions, at most
NAMES_SHOWN = 3


def captioned_folder(
    path: str | Path, split: str = "train", size: int | None = None
) -> tuple[Dataset, list[str]]:
    """The pictures of a folder or zip, as `folder` reads them, and a caption for each; there are no classes.

    Pictures without a caption, or with an empty one, keep the empty text; one UserWarning counts and names
    them, another the rows of tables that name a file which is not there. No captions at all, and a table that
    cannot be read, are a DataError.
    """
    pictures, (texts, missing, empty, lost) = pictures_and(_captions, _no_picture, path, split, size)
    if not any(texts):
        raise DataError(
            f"{path} has pictures but no captions: write what is seen in NAME.png into NAME.txt beside it, "
            "or give a metadata.jsonl or metadata.csv with file_name and text"
        )
    for names, fault in ((missing, "have no caption"), (empty, "have an empty caption")):
        if names:
            said = f"{len(names)} of {len(texts)} pictures {fault} ({_some(names)})"
            warnings.warn(f"{path}: {said}: they are learnt without words", stacklevel=2)
    if lost:
        said = f"captions of files that are not there: {len(lost)} ({_some(lost)}), which are left out"
        warnings.warn(f"{path}: {said}", stacklevel=2)
    without = f"{len(missing) + len(empty)} without a caption"
    note = "; ".join(filter(None, [pictures.note, without if missing or empty else ""]))
    return replace(pictures, labels=None, classes=(), note=note), texts


def tokenizer_of(texts: list[str]) -> Tokenizer:
    """A tokenizer learnt from these captions, with room for the longest up to CLIP's context."""
    learnt = Tokenizer.train(texts, TOKENS)
    longest = max(len(learnt.encode(text)) for text in texts)
    return Tokenizer(learnt.merges, context=max(3, min(longest, CONTEXT)))


def _some(names: list[str]) -> str:
    return ", ".join(map(printable, names[:NAMES_SHOWN])) + ", ..." * (len(names) > NAMES_SHOWN)


def _no_picture(name: str) -> bool:
    file = posixpath.basename(name).lower()
    return is_ignored(name) or file in TABLES or file.endswith(".txt")


def _captions(files: Files, chosen: list[PictureFile]) -> tuple[list[str], list[str], list[str], list[str]]:
    """A text for each picture, "" where there is none; the pictures that have none, those that have an empty
    one, and the files that tables name and that are not there."""
    table = dict(_tables(files))
    by_name = {name.lower(): name for name in files}
    texts: list[str] = []
    missing: list[str] = []
    empty: list[str] = []
    for picture in chosen:
        text = table.get(picture.path)
        if text is None:
            beside = by_name.get(f"{posixpath.splitext(picture.path)[0]}.txt".lower())
            text = None if beside is None else _text(files, beside)
        words = " ".join((text or "").split())
        texts.append(words)
        if not words:
            (missing if text is None else empty).append(picture.path)
    return texts, missing, empty, [name for name in table if name not in files]


def _tables(files: Files) -> Iterator[tuple[str, str]]:
    """The rows of all tables: a picture's path, and its caption."""
    for name in files:
        folder, file = posixpath.split(name)
        if file.lower() not in TABLES:
            continue
        read = _lines if file.lower().endswith("l") else _rows
        for number, row in read(name, _text(files, name)):
            if not isinstance(row, dict) or not isinstance(row.get("file_name"), str):
                raise DataError(f"{printable(name)}, row {number}: it names no picture as file_name")
            if not isinstance(text := row.get("text"), str):
                raise DataError(f"{printable(name)}, row {number}: its text is {text!r}, and no caption")
            yield posixpath.normpath(posixpath.join(folder, row["file_name"])), text


def _lines(name: str, text: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.split("\n"), 1):  # other ends of lines may stand in a caption
        if line.strip():
            try:
                yield number, json.loads(line)
            except ValueError as error:
                raise DataError(f"{printable(name)}, row {number}: no JSON ({error})") from error


def _rows(name: str, text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    rows = csv.DictReader(io.StringIO(text))
    if lacks := {"file_name", "text"} - set(rows.fieldnames or ()):
        raise DataError(f"{printable(name)} has no column {min(lacks)!r}: it needs file_name and text")
    try:
        yield from enumerate(rows, 2)
    except csv.Error as error:
        raise DataError(f"{printable(name)}: no CSV ({error})") from error


def _text(files: Files, name: str) -> str:
    with files[name]() as file:
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise DataError(f"{printable(name)} is larger than {LARGEST:,} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{printable(name)} is no UTF-8 text ({error.reason})") from error
