"""How long a lesson may be: cells, words, code, bytes and seconds."""

import re

import nbformat

from diffusion_lessons.course.authoring.cells import solved_code
from diffusion_lessons.course.authoring.notebook import code_digest
from diffusion_lessons.course.authoring.render import Context
from diffusion_lessons.course.authoring.source import Lesson, Said

MAX_CELL_LINES = 40
CELLS = (45, 80)
WORDS = (1500, 3000)
MAX_CODE_LINES = 300
MAX_BYTES = 1_000_000
MAX_SECONDS = 90


def cell_problems(lesson: Lesson) -> Said:
    """Cells over 40 lines, as the reader sees them."""
    for cell in lesson.cells:
        source = solved_code(cell.source) if cell.kind == "code" else cell.source
        lines = source.count("\n") + 1
        if lines > MAX_CELL_LINES:
            yield cell.line, "cell", f"{lines} lines; a cell has at most {MAX_CELL_LINES}: split it"


def budget_problems(lesson: Lesson) -> Said:
    """Cells, words and visible lines of code within the syllabus."""
    words = sum(visible_words(cell.source) for cell in lesson.cells[1:] if cell.kind == "markdown")
    visible = "\n".join(solved_code(cell.source) for cell in lesson.code if cell.visible)
    code = sum(bool(line.strip()) for line in visible.split("\n"))
    if not CELLS[0] <= len(lesson.cells) <= CELLS[1]:
        yield 1, "budget", f"{len(lesson.cells)} cells; a lesson has {CELLS[0]} to {CELLS[1]}"
    if not WORDS[0] <= words <= WORDS[1]:
        yield 1, "budget", f"{words} visible words; a lesson has {WORDS[0]} to {WORDS[1]}"
    if code > MAX_CODE_LINES:
        yield 1, "budget", f"{code} visible lines of code; a lesson has at most {MAX_CODE_LINES}"


def size_problems(lesson: Lesson, notebook: nbformat.NotebookNode) -> Said:
    """Notebooks of a megabyte and more."""
    size = len(nbformat.writes(notebook).encode())
    if size >= MAX_BYTES:
        sizes = [len(str(cell)) for cell in notebook.cells]
        message = f"the notebook has {size / 1e6:.2f} MB; it stays under 1 MB, and this cell has most of it"
        yield lesson.cells[sizes.index(max(sizes))].line, "budget", message


def time_problems(lesson: Lesson, context: Context) -> Said:
    """The run time is that of this code, and no more than 90 s; the start page states none."""
    if lesson.number == "00":
        return
    measured = context.timings.get(lesson.stem)
    command = f"python -m diffusion_lessons.course.authoring.build {lesson.number} --again"
    again = f"run `{command}` while the machine does nothing else"
    if measured is None:
        yield 1, "time", f"its run time was never measured: {again}"
    elif measured.get("code_sha256") != code_digest(lesson, context):
        yield 1, "time", f"its run time is that of other code: {again}"
    elif measured["seconds"] > MAX_SECONDS:
        yield 1, "time", f"it ran for {measured['seconds']:.0f} s; at most {MAX_SECONDS}, or {again}"


def visible_words(markdown: str) -> int:
    """Words that a reader reads: no folded text, formulas, code, tables, pictures or tags."""
    text = re.sub(r"(?s)<details>.*?</details>|\$\$.*?\$\$|```.*?```|<!--.*?-->", " ", markdown)
    text = re.sub(r"(?m)^\s*\|.*$", " ", text)
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)|<[^>]+>|\{\{[^}]*\}\}", " ", text)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    return len(re.findall(r"\S*\w\S*", text))
