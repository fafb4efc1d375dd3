"""Alt texts out of sight: they tell what a figure shows, and its code stands above it.

The source has `alt="Left: …"`, the notebooks have `alt="figure 02.7"`; the words lie in the package, where
`widgets.page` finds them again.
"""

import ast
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from diffusion_lessons.course.authoring.source import Lesson
from diffusion_lessons.course.exercises.magics import parsed
from diffusion_lessons.course.widgets.page import ALTS


def names(lesson: Lesson) -> dict[str, str]:
    """The alt texts of a lesson's code, in order -> what stands in their place: "figure 02.1"."""
    texts = [str(node.value) for cell in lesson.code for node in _alts(cell.source)]
    return {text: f"figure {lesson.number}.{i}" for i, text in enumerate(dict.fromkeys(texts), 1)}


def replaced(source: str, names: Mapping[str, str]) -> str:
    """A cell's code with a name in place of each alt text."""
    for node in reversed(_alts(source)):
        if name := names.get(str(node.value)):
            lines = source.encode().split(b"\n")  # Python counts columns in bytes
            first, last = node.lineno - 1, (node.end_lineno or 0) - 1
            before, after = lines[first][: node.col_offset], lines[last][node.end_col_offset :]
            lines[first : last + 1] = [before + json.dumps(name).encode() + after]
            source = b"\n".join(lines).decode()
    return source


def file(lesson: Lesson, root: Path) -> Path:
    """Where the words of a lesson lie in a repository."""
    return root / "diffusion_lessons" / "course" / "widgets" / ALTS / f"{lesson.number}.json"


def text(lesson: Lesson) -> str:
    """What that file holds."""
    return json.dumps(list(names(lesson)), indent=1, ensure_ascii=False) + "\n"


def _alts(source: str) -> list[ast.Constant]:
    """The texts given as `alt` in a call, in the order of the code; none where it is no Python."""
    with suppress(SyntaxError):
        found = [
            keyword.value
            for node in ast.walk(parsed(source)[1])
            if isinstance(node, ast.Call)
            for keyword in node.keywords
            if keyword.arg == "alt" and isinstance(keyword.value, ast.Constant)
        ]
        return sorted(found, key=lambda node: (node.lineno, node.col_offset))
    return []
