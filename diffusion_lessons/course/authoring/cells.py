"""From a source cell to the student's and to the solved one: markers, stubs and stable ids."""

import hashlib
import re
from collections import Counter
from dataclasses import dataclass
from difflib import SequenceMatcher

from diffusion_lessons.course.authoring.source import SECTIONS, Cell, Lesson, Problem, decorated, parse

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
BEGIN_STUDENT, END_STUDENT = "### BEGIN STUDENT", "### END STUDENT"
MARKERS = (BEGIN, END, BEGIN_STUDENT, END_STUDENT)
STUB = "raise NotImplementedError  # your code here"


@dataclass(frozen=True)
class Block:
    """The lines between a pair of markers; `first` and `last` are those of the markers in the cell."""

    kind: str  # "SOLUTION" or "STUDENT"
    first: int
    last: int
    lines: tuple[str, ...]


def blocks(source: str) -> list[Block]:
    """The marked blocks of a cell.

    Raises:
        ValueError: where markers do not pair; its first argument is the line within the cell, from 0.
    """
    found: list[Block] = []
    lines = source.split("\n")
    opened: tuple[str, int] | None = None
    for i, line in enumerate(lines):
        mark = line.strip()
        if mark in (BEGIN, BEGIN_STUDENT):
            if opened:
                raise ValueError(i, f"'{mark}' inside the block that line {opened[1] + 1} of the cell opens")
            opened = mark.removeprefix("### BEGIN "), i
        elif mark in (END, END_STUDENT):
            kind = mark.removeprefix("### END ")
            if opened is None or opened[0] != kind:
                raise ValueError(i, f"'{mark}' has no '### BEGIN {kind}' before it")
            found.append(Block(kind, opened[1], i, tuple(lines[opened[1] + 1 : i])))
            opened = None
    if opened:
        raise ValueError(opened[1], f"'### BEGIN {opened[0]}' is never closed")
    return found


def student_code(source: str) -> str:
    """The cell without its solutions: a stub, or the STUDENT block that follows, stands in their place."""
    lines, marked = source.split("\n"), blocks(source)
    for i in reversed(range(len(marked))):
        block = marked[i]
        if block.kind == "STUDENT":
            put = [uncomment(line) for line in block.lines]
        elif i + 1 < len(marked) and marked[i + 1].kind == "STUDENT":
            put = []
        else:
            put = [re.match(r"\s*", lines[block.first]).group() + STUB]  # type: ignore[union-attr]
        lines[block.first : block.last + 1] = put
    return "\n".join(lines)


def solved_code(source: str) -> str:
    """The cell without markers and without what only students get."""
    lines = source.split("\n")
    for block in reversed(blocks(source)):
        lines[block.first : block.last + 1] = [] if block.kind == "STUDENT" else block.lines
    return "\n".join(lines)


def uncomment(line: str) -> str:
    """One line of a STUDENT block as the student gets it."""
    return re.sub(r"^(\s*)# ?", r"\1", line, count=1)


def marker_problems(lesson: Lesson) -> list[Problem]:
    """Markers that do not pair, and comments that look like a misspelt marker."""
    problems = []
    for cell in lesson.cells:
        try:
            blocks(cell.source)
        except ValueError as error:
            at, message = error.args
            problems.append(lesson.problem(cell.line + at, "marker", message))
        for number, line in cell.lines():
            near = _looks_like_a_marker(line)
            if near:
                problems.append(
                    lesson.problem(number, "marker", f"{line.strip()!r} looks like '{near}': spell it so")
                )
    return problems


def _looks_like_a_marker(line: str) -> str | None:
    if not line.lstrip().startswith("#") or line.strip() in MARKERS:
        return None
    words = re.sub(r"[^A-Z]", "", line.upper())
    for marker in MARKERS:
        if SequenceMatcher(None, words, re.sub(r"[^A-Z]", "", marker)).ratio() > 0.8:
            return marker
    return None


def ids(lesson: Lesson) -> list[str]:
    """One id for each cell, from what its author wrote and not from where it stands.

    An exercise's cell is `exercise-02-1` whatever its code, its card `card-02-1`, the only cell
    with a section's tag has the tag's name; any other is named by a hash of its source.
    """
    tags = Counter(tag for cell in lesson.cells for tag in cell.tags)
    seen: Counter[str] = Counter()
    names = []
    for cell in lesson.cells:
        name = _name(lesson, cell, tags)
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return names


def _name(lesson: Lesson, cell: Cell, tags: Counter[str]) -> str:
    card = re.search(r"\{\{exercise (\d\d)\.(\d+)\}\}", cell.source)
    if cell.kind == "markdown" and card:
        return f"card-{card[1]}-{card[2]}"
    if cell.kind == "code" and "exercise" in cell.tags:
        found = decorated(parse(lesson, cell))
        if found:
            return "exercise-" + re.sub(r"\W", "-", found[0][1])
    for tag in cell.tags:
        if tag in SECTIONS and tags[tag] == 1:
            return tag
    return "c" + hashlib.sha256(f"{cell.kind}\n{cell.source}".encode()).hexdigest()[:10]
