"""A lesson's one source: the percent file read into cells that know their lines, and its exercises."""

import ast
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CELL_HEADER = re.compile(r"^# %%(?!%)")
# The tags that open a part of a lesson, in their order; `idea` opens three or four.
SECTIONS = (
    "header",
    "objectives",
    "setup",
    "see",
    "predict",
    "idea",
    "experiment",
    "play",
    "agreement",
    "pitfalls",
    "interview",
    "exit-quiz",
    "references",
)


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

    def problem(self, line: int, rule: str, message: str) -> Problem:
        """A refusal at a line of this file."""
        return Problem(f"{self.file.parent.name}/{self.file.name}", line, rule, message)

    def tagged(self, tag: str) -> list[int]:
        """The indices of the cells with a tag."""
        return [i for i, cell in enumerate(self.cells) if tag in cell.tags]


@dataclass(frozen=True)
class Answer:
    """The decorated function of one exercise, as the source holds it."""

    id: str
    name: str
    cell: Cell
    tree: ast.FunctionDef | ast.ClassDef

    @property
    def line(self) -> int:
        return self.cell.line + self.tree.lineno - 1


def read(file: Path) -> Lesson:
    """Read a percent file.

    Raises:
        ValueError: where the file name does not start with two digits, the first cell is no header,
            or the cells cannot be told apart.
    """
    import jupytext

    if not re.match(r"\d\d_\w+$", file.stem):
        raise ValueError(f"{file.name}: a lesson's file is called NN_name.py, with two digits")
    text = file.read_text(encoding="utf-8")
    starts = [number for number, line in enumerate(text.split("\n"), 1) if CELL_HEADER.match(line)]
    notebook = jupytext.reads(text, fmt="py:percent")
    if len(starts) != len(notebook.cells):
        raise ValueError(
            f"{file.name}: {len(starts)} lines start with '# %%' but {len(notebook.cells)} cells were read; "
            "start the file with a cell header and keep '# %%' out of the cells"
        )
    cells = tuple(
        Cell(
            cell.cell_type, cell.source, tuple(cell.metadata.get("tags", ())), start + 1, _kept(cell.metadata)
        )
        for cell, start in zip(notebook.cells, starts, strict=True)
    )
    if not cells or "header" not in cells[0].tags:
        raise ValueError(f'{file.name}:1: the first cell carries tags=["header"] and lines like "title: …"')
    return Lesson(file, cells, _keys(cells[0]), digest(text))


def digest(text: str) -> str:
    """SHA-256 of a text, whatever its line endings."""
    return hashlib.sha256(text.replace("\r\n", "\n").encode()).hexdigest()


def answers(lesson: Lesson) -> list[Answer]:
    """Every function or class under `@exercise("…")`, found by its decorator and not by tags.

    Raises:
        SyntaxError: with the line of the file, where a cell is not Python.
    """
    found = []
    for cell in lesson.cells:
        if cell.kind == "code":
            tree = parse(lesson, cell)
            found += [Answer(name, node.name, cell, node) for node, name in decorated(tree)]
    return found


def parse(lesson: Lesson, cell: Cell) -> ast.Module:
    """The cell's code, magics left out."""
    code = re.sub(r"(?m)^\s*[%!].*$", "pass", cell.source)
    try:
        return ast.parse(code)
    except SyntaxError as error:
        error.filename, error.lineno = str(lesson.file), cell.line + (error.lineno or 1) - 1
        raise


def decorated(tree: ast.Module) -> list[tuple[ast.FunctionDef | ast.ClassDef, str]]:
    """The functions and classes under `@exercise("…")`, with the exercise's number."""
    return [
        (node, str(call.args[0].value))
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        for call in node.decorator_list
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id == "exercise"
        and call.args
        and isinstance(call.args[0], ast.Constant)
    ]


def _keys(cell: Cell) -> dict[str, str]:
    pairs = (line.split(":", 1) for line in cell.source.split("\n") if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def _kept(metadata: dict[str, Any]) -> dict[str, Any]:
    return {key: metadata[key] for key in ("jupyter", "tags") if key in metadata}
