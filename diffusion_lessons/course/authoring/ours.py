"""Our own solutions in the package: what stands in `my_diffusion.py` where a student's answer is missing.

Of a lesson's cells of code the exercises' are kept whole, of the others what an answer can depend on:
imports, definitions and plain numbers. `mine` takes from them what each answer needs.
"""

import ast
import json
from contextlib import suppress
from pathlib import Path

from diffusion_lessons.course.authoring.cells import ids, solved_code
from diffusion_lessons.course.authoring.source import Lesson
from diffusion_lessons.course.exercises.magics import parsed
from diffusion_lessons.course.exercises.mark import DEFINITIONS, first_line


def file(lesson: Lesson, root: Path) -> Path:
    """Where the solutions of a lesson lie in a repository."""
    return root / "diffusion_lessons" / "course" / "mine" / "ours" / f"{lesson.number}.json"


def text(lesson: Lesson) -> str:
    """What that file holds: cells' ids -> their code."""
    found = {
        id: solved_code(cell.source) if "exercise" in cell.tags else _needed(cell.source)
        for id, cell in zip(ids(lesson), lesson.cells, strict=True)
        if cell.kind == "code" and "setup" not in cell.tags
    }
    return json.dumps({id: code for id, code in found.items() if code}, indent=1, ensure_ascii=False) + "\n"


def _needed(source: str) -> str:
    text, tree = parsed(source)
    lines = text.split("\n")
    found: list[str] = []
    for node in filter(_is_needed, tree.body):
        found += lines[first_line(node) - 1 : node.end_lineno]
    return "\n".join(found)


def _is_needed(node: ast.stmt) -> bool:
    if not isinstance(node, ast.Assign):
        return isinstance(node, (ast.Import, ast.ImportFrom, *DEFINITIONS))
    with suppress(ValueError, TypeError, SyntaxError):
        found = ast.literal_eval(node.value)  # numbers too in a row: `T, s = 1000, 0.008`
        return all(
            isinstance(each, (int, float)) for each in (found if isinstance(found, tuple) else (found,))
        )
    return False
