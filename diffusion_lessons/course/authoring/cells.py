"""From a source cell to the student's and to the solved one: blocks, stubs and stable ids."""

import hashlib
import re
from collections import Counter
from dataclasses import dataclass

from diffusion_lessons.course.authoring.source import SECTIONS, Cell, Lesson, parse
from diffusion_lessons.course.exercises.mark import MARKER, STUB, cell_id, decorated


@dataclass(frozen=True)
class Block:
    """The lines between a pair of markers; `first` and `last` are those of the markers in the cell."""

    kind: str  # "SOLUTION" or "STUDENT"
    first: int
    last: int
    lines: tuple[str, ...]


def blocks(source: str) -> list[Block]:
    """The marked blocks of a cell where they pair, else ValueError (line in the cell, from 0; message)."""
    found: list[Block] = []
    lines = source.split("\n")
    opened: tuple[str, int] | None = None
    for i, line in enumerate(lines):
        if not (mark := MARKER.fullmatch(line)):
            continue
        if mark[1] == "BEGIN":
            if opened:
                before = f"inside the block that line {opened[1] + 1} of the cell opens"
                raise ValueError(i, f"'{line.strip()}' {before}")
            opened = mark[2], i
        elif opened is None or opened[0] != mark[2]:
            raise ValueError(i, f"'{line.strip()}' has no '### BEGIN {mark[2]}' before it")
        else:
            found.append(Block(mark[2], opened[1], i, tuple(lines[opened[1] + 1 : i])))
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
            put = shown(block)
        elif i + 1 < len(marked) and marked[i + 1].kind == "STUDENT":
            put = []
        else:
            put = [lines[block.first].partition("#")[0] + STUB]
        lines[block.first : block.last + 1] = put
    return "\n".join(lines)


def solved_code(source: str) -> str:
    """The cell without markers and without what only students get."""
    lines = source.split("\n")
    for block in reversed(blocks(source)):
        lines[block.first : block.last + 1] = [] if block.kind == "STUDENT" else block.lines
    return "\n".join(lines)


def shown(block: Block) -> list[str]:
    """The lines of a STUDENT block as the student gets them, one "# " taken off."""
    return [re.sub(r"^(\s*)# ?", r"\1", line, count=1) for line in block.lines]


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
    card = re.search(r"\{\{exercise (\d\d\.\d+)\}\}", cell.source)
    if cell.kind == "markdown" and card:
        return cell_id(card[1], "card")
    if cell.kind == "code" and "exercise" in cell.tags:
        for _, id in decorated(parse(lesson, cell)):
            return cell_id(id)
    for tag in cell.tags:
        if tag in SECTIONS and tags[tag] == 1:
            return tag
    return "c" + hashlib.sha256(f"{cell.kind}\n{cell.source}".encode()).hexdigest()[:10]
