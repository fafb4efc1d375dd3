"""A lesson's one source: the percent file read into cells that know their lines, and its exercises."""

import ast
import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diffusion_lessons.course.exercises.magics import parsed
from diffusion_lessons.course.exercises.mark import decorated

CELL_HEADER = re.compile(r"(?m)^# %%(?!%)")
# The tags that open a part of a lesson, in their order; `idea` opens three to five.
SECTIONS = (
    *("header", "objectives", "setup", "see", "guess", "predict", "idea", "experiment", "play", "agreement"),
    *("pitfalls", "interview", "exit-quiz", "references"),
)
# What a rule yields: a line of the file, the rule's name, what is wrong and what to do.
Said = Iterator[tuple[int, str, str]]


@dataclass(frozen=True)
class Problem:
    """One refusal: where, which rule, and what to do."""

    file: str
    line: int
    rule: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.rule}: {self.message}"


@dataclass(frozen=True)
class Cell:
    """One cell as its author wrote it; `line` is that of the cell's first line in the file."""

    kind: str  # "markdown" or "code"
    source: str
    tags: tuple[str, ...]
    line: int
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def visible(self) -> bool:
        """False for code that the reader sees folded away."""
        return not self.metadata.get("jupyter", {}).get("source_hidden", False)

    def lines(self) -> Iterator[tuple[int, str]]:
        """(line number in the file, text) of each line."""
        yield from enumerate(self.source.split("\n"), self.line)

    def line_of(self, text: str) -> int:
        """The line of the file where the cell holds a text, its first line where it does not."""
        return next((number for number, line in self.lines() if text in line), self.line)


@dataclass(frozen=True)
class Lesson:
    """A lesson's source: `number` is two digits, `header` the keys of its first cell."""

    file: Path
    cells: tuple[Cell, ...]
    header: dict[str, str]
    digest: str

    @property
    def stem(self) -> str:
        return self.file.stem

    @property
    def number(self) -> str:
        return self.stem[:2]

    @property
    def student(self) -> Path:
        """The notebook that students open: notebooks/NN_name.ipynb."""
        return self.file.parents[1] / "notebooks" / f"{self.stem}.ipynb"

    @property
    def solved(self) -> Path:
        """The solved, executed notebook: solutions/NN_name.ipynb."""
        return self.file.with_suffix(".ipynb")

    @property
    def code(self) -> list[Cell]:
        return [cell for cell in self.cells if cell.kind == "code"]

    def problem(self, line: int, rule: str, message: str) -> Problem:
        """A refusal at a line of this file."""
        return Problem(f"{self.file.parent.name}/{self.file.name}", line, rule, message)

    def problems(self, *said: Iterable[tuple[int, str, str]]) -> list[Problem]:
        """What some rules say of this file."""
        return [self.problem(*each) for rule in said for each in rule]

    def tagged(self, tag: str) -> list[int]:
        """The indices of the cells with a tag."""
        return [i for i, cell in enumerate(self.cells) if tag in cell.tags]

    def part(self, start: int) -> list[Cell]:
        """The cells from one that opens a section to the next that does."""
        opens = (i for i in range(start + 1, len(self.cells)) if set(self.cells[i].tags) & set(SECTIONS))
        return list(self.cells[start : next(opens, None)])


@dataclass(frozen=True)
class Answer:
    """The decorated function of one exercise, as the source holds it; `line` is that of its name."""

    id: str
    name: str
    cell: Cell
    line: int


def read(file: Path) -> Lesson:
    """Read a percent file.

    ValueError where its name is not NN_name.py, its first cell no header, or its cells cannot be told apart.
    """
    import jupytext

    if not re.match(r"\d\d_\w+$", file.stem):
        raise ValueError(f"{file.name}: a lesson's file is called NN_name.py, with two digits")
    text = text_in(file)
    starts = [text.count("\n", 0, found.start()) + 1 for found in CELL_HEADER.finditer(text)]
    notebook = jupytext.reads(text, fmt="py:percent")
    if len(starts) != len(notebook.cells):
        raise ValueError(
            f"{file.name}: {len(starts)} lines start with '# %%' but {len(notebook.cells)} cells were read; "
            "start the file with a cell header and keep '# %%' out of the cells"
        )
    cells = tuple(map(_cell, notebook.cells, starts))
    if not cells or "header" not in cells[0].tags:
        raise ValueError(f'{file.name}:1: the first cell carries tags=["header"] and lines like "title: …"')
    return Lesson(file, cells, header_in(text), digest(text))


def text_in(file: Path) -> str:
    """A source's text; ValueError where it is not UTF-8."""
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file.name}: no text in UTF-8: {error}") from None


def header_in(text: str) -> dict[str, str]:
    """The keys of the first cell: its lines `# key: value`."""
    first = CELL_HEADER.split(text, maxsplit=2)[1:2]
    return dict(re.findall(r"(?m)^# *([^:\n]+?) *: *(.*?) *$", "".join(first)))


def digest(text: str) -> str:
    """SHA-256 of a text, whatever its line endings."""
    return hashlib.sha256(text.replace("\r\n", "\n").encode()).hexdigest()


def answers(lesson: Lesson) -> list[Answer]:
    """What stands under `@exercise("…")`, found by its decorator and not by tags; raises as `parse` does."""
    return [
        Answer(id, node.name, cell, cell.line + node.lineno - 1)
        for cell in lesson.code
        for node, id in decorated(parse(lesson, cell))
    ]


def parse(lesson: Lesson, cell: Cell) -> ast.Module:
    """The cell's code, magics left out; raises SyntaxError with the line of the file."""
    try:
        return parsed(cell.source)[1]
    except SyntaxError as error:
        error.filename, error.lineno = str(lesson.file), cell.line + (error.lineno or 1) - 1
        raise


def _cell(cell: Any, start: int) -> Cell:
    kept = {key: cell.metadata[key] for key in ("jupyter", "tags") if key in cell.metadata}
    return Cell(cell.cell_type, cell.source, tuple(kept.get("tags", ())), start + 1, kept)
