"""Notebooks as they come: any nbformat, saved by anything, damaged or no notebook at all."""

import json
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from diffusion_lessons.course.exercises.mark import KEY

MAX_BYTES = 50 * 2**20
MAX_CELLS = 20_000
MAX_PARTS = 2_000_000  # objects and lists in a notebook: each takes more memory than its two bytes
KINDS = (
    (b"%PDF", "a PDF"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"\xd0\xcf\x11\xe0", "an old Office document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"Rar!", "a RAR archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"<!DOCTYPE html", "a web page"),
    (b"<html", "a web page"),
)


class NoNotebook(ValueError):
    """What a file is instead of a notebook, and what to do, in a sentence."""


def too_large(size: int, most: int = MAX_BYTES) -> str:
    """The sentence on a file that nobody should open."""
    sizes = f"The file has {size / 2**20:.0f} MB; at most {most // 2**20} are read."
    return f"{sizes} Clear all outputs and hand in again."


@dataclass(frozen=True)
class Cell:
    """One cell; `place` is its number in the notebook, from 0."""

    place: int
    kind: str  # "code" or anything else
    source: str
    id: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Notebook:
    """The parts of a notebook that a grader needs."""

    cells: tuple[Cell, ...]
    metadata: dict[str, Any]

    @property
    def code(self) -> list[Cell]:
        return [cell for cell in self.cells if cell.kind == "code"]

    @property
    def own(self) -> dict[str, Any]:
        """Our metadata; nothing where there is none that reads."""
        return _dict(self.metadata.get(KEY))


def word(value: Any) -> str:
    """A text of the metadata in one line; "" for anything else."""
    text = " ".join(value.split()) if isinstance(value, str) else ""
    return _whole(text)[:100]


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def author(notebook: Notebook) -> str:
    """The student's name as the notebook holds it, "" where it holds none.

    `metadata.diffusion_lessons.student`, then `metadata.authors`, then the account with which Colab
    ran most of the cells.
    """
    authors = notebook.metadata.get("authors")
    for each in (notebook.own.get("student"), *(authors if isinstance(authors, list) else ())):
        if name := word(each.get("name") if isinstance(each, dict) else each):
            return name
    ran = Counter(filter(None, map(_colab_user, notebook.cells)))
    return min(ran, key=lambda each: (-ran[each], each)) if ran else ""


def _colab_user(cell: Cell) -> str:
    info = cell.metadata.get("executionInfo")
    user = info.get("user") if isinstance(info, dict) else None
    return word(user.get("displayName")) if isinstance(user, dict) else ""


def read(content: bytes) -> Notebook:
    """Read a notebook of nbformat 2 to 4; raises NoNotebook, which says what it is instead."""
    raw = parsed(content)
    entries = [each for cells in cell_lists(raw) for each in cells]
    if len(entries) > MAX_CELLS:
        raise NoNotebook(f"The notebook has {len(entries)} cells; at most {MAX_CELLS} are read.")
    cells = tuple(_cell(place, each) for place, each in enumerate(entries) if isinstance(each, dict))
    return Notebook(cells, _dict(raw.get("metadata")))


def parsed(content: bytes) -> dict[str, Any]:
    """A notebook as JSON holds it; raises NoNotebook."""
    if not content.strip():
        raise NoNotebook("The file is empty.")
    for start, what in KINDS:
        if content.lstrip()[: len(start)].lower() == start.lower():
            raise NoNotebook(f"The file is {what}, not a notebook: hand in the .ipynb file.")
    if (parts := content.count(b"{") + content.count(b"[")) > MAX_PARTS:
        raise NoNotebook(
            f"The file is made of {parts} parts; at most {MAX_PARTS} are read: clear all outputs."
        )
    coding = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        raw = json.loads(content.decode(coding, "replace"), strict=False)
    except json.JSONDecodeError as error:
        cut = error.pos >= len(error.doc.rstrip()) - 1 or "Unterminated" in error.msg
        what = "ends in the middle" if cut else f"is damaged in line {error.lineno}"
        said = f"The file {what} and does not read as a notebook: save and hand in again."
        raise NoNotebook(said) from None
    except (ValueError, RecursionError):
        raise NoNotebook("The file does not read as a notebook: save and hand in again.") from None
    if not isinstance(raw, dict) or not cell_lists(raw):
        raise NoNotebook("The file is JSON, but not a notebook: hand in the .ipynb file.")
    return raw


def cell_lists(raw: dict[str, Any]) -> list[list[Any]]:
    """The lists of cells in a notebook: one from nbformat 4 on, one for each worksheet before."""
    sheets = raw.get("worksheets")
    holders = [raw, *(sheets if isinstance(sheets, list) else ())]
    return [cells for each in holders if isinstance(cells := _dict(each).get("cells"), list)]


def _cell(place: int, raw: dict[str, Any]) -> Cell:
    kind = str(raw.get("cell_type", ""))
    source = raw.get("source", raw.get("input", ""))  # "input" before nbformat 4
    text = "".join(map(str, source)) if isinstance(source, list) else str(source)
    text = _whole(text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", ""))
    metadata = _dict(raw.get("metadata"))
    id = raw.get("id") or metadata.get("id") or ""  # Colab keeps it in the metadata
    return Cell(place, kind, text, _whole(str(id)[:100]), metadata)


def _whole(text: str) -> str:
    """A text without halves of characters, which can not be written."""
    return text.encode("utf-8", "replace").decode()


def with_notes(content: bytes, notes: dict[int, str], summary: str) -> dict[str, Any]:
    """A notebook's JSON with Markdown below some cells (place -> text) and on top."""
    raw = parsed(content)
    identified = raw.get("nbformat") == 4 and raw.get("nbformat_minor") not in (None, 0, 1, 2, 3, 4)

    def made(text: str, name: str) -> dict[str, Any]:
        cell: dict[str, Any] = {"cell_type": "markdown", "metadata": {"tags": ["feedback"]}, "source": text}
        return cell | ({"id": f"feedback-{name}"} if identified else {})

    places = count()
    for cells in cell_lists(raw):
        kept: list[Any] = []
        for each, place in zip(cells, places, strict=False):
            kept += [each, made(notes[place], str(place))] if place in notes else [each]
        cells[:] = kept
    cell_lists(raw)[0].insert(0, made(summary, "summary"))
    return raw
