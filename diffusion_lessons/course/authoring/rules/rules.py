"""What the build refuses, and where: each rule is a small function that yields problems.

How a lesson is written, and which tag or line satisfies which rule, is told in docs/authoring.md.
The start page (lesson 00) has no anatomy and no lower limits; all other rules hold for it too.
"""

import ast
from collections.abc import Iterator, Mapping
from typing import Any

import nbformat

from diffusion_lessons.course.authoring.cells import solved_code
from diffusion_lessons.course.authoring.notebook import code_digest
from diffusion_lessons.course.authoring.render import PLACEHOLDER, Context, expand
from diffusion_lessons.course.authoring.rules import anatomy
from diffusion_lessons.course.authoring.rules.agreement import agreement_problems
from diffusion_lessons.course.authoring.rules.leaks import leak_problems, stub_problems
from diffusion_lessons.course.authoring.rules.pages import alt_problems, link_problems, output_problems
from diffusion_lessons.course.authoring.source import Answer, Lesson, Problem, answers, parse
from diffusion_lessons.course.lessons import built_in

MAX_CELL_LINES = 40
MAX_SETUP_LINES = 8
CELLS = (35, 55)
WORDS = (1200, 2000)
MAX_CODE_LINES = 300
MAX_BYTES = 1_000_000
MAX_SECONDS = 90


def source_problems(lesson: Lesson, context: Context) -> list[Problem]:
    """All that is wrong with a source, before a notebook is made of it.

    Raises:
        SyntaxError: where a cell is not Python.
    """
    found, bank = answers(lesson), context.bank(lesson.number)
    problems = list(placeholder_problems(lesson, context))
    problems += cell_problems(lesson)
    problems += setup_problems(lesson, context)
    problems += later_problems(lesson)
    problems += anatomy.exercise_problems(lesson, found, bank)
    if lesson.number != "00":
        problems += anatomy_problems(lesson, found, bank)
        problems += budget_problems(lesson)
    if not problems:  # the bank is asked about what is well formed
        problems += agreement_problems(lesson, found, bank)
    return problems


def anatomy_problems(lesson: Lesson, found: list[Answer], bank: Mapping[str, Any]) -> Iterator[Problem]:
    """The parts of a lesson that the syllabus asks for."""
    yield from anatomy.header_problems(lesson)
    yield from anatomy.section_problems(lesson)
    yield from anatomy.objective_problems(lesson, found)
    yield from anatomy.idea_problems(lesson)
    yield from anatomy.kind_problems(lesson, found, bank)
    yield from anatomy.ending_problems(lesson)


def student_problems(lesson: Lesson, student: nbformat.NotebookNode, context: Context) -> list[Problem]:
    """All that is wrong with the student's notebook."""
    problems = stub_problems(lesson, student) + leak_problems(lesson, student)
    problems += link_problems(lesson, student, context.root)
    problems += alt_problems(lesson, student)
    problems += size_problems(lesson, student)
    return problems


def solved_problems(lesson: Lesson, solved: nbformat.NotebookNode) -> list[Problem]:
    """All that is wrong with the solved, executed notebook."""
    problems = list(output_problems(lesson, solved))
    problems += size_problems(lesson, solved)
    if lesson.number != "00":
        problems += uncertainty_problems(lesson, solved)
    return problems


# Rules ---------------------------------------------------------------------------------------------


def placeholder_problems(lesson: Lesson, context: Context) -> Iterator[Problem]:
    """`{{…}}` that mean nothing, or name what is not there."""
    for cell in lesson.cells[1:]:
        for number, line in cell.lines():
            for _ in PLACEHOLDER.finditer(line):
                try:
                    expand(_alone(cell, line), lesson, context)
                except ValueError as error:
                    yield lesson.problem(number, "placeholder", str(error))
                break


def _alone(cell: Any, line: str) -> Any:
    from dataclasses import replace

    return replace(cell, source=line)


def cell_problems(lesson: Lesson) -> Iterator[Problem]:
    """Cells over 40 lines, as the reader sees them."""
    for cell in lesson.cells:
        source = solved_code(cell.source) if cell.kind == "code" else cell.source
        lines = len(source.split("\n"))
        if lines > MAX_CELL_LINES:
            yield lesson.problem(
                cell.line, "cell", f"{lines} lines; a cell has at most {MAX_CELL_LINES}: split it"
            )


def setup_problems(lesson: Lesson, context: Context) -> Iterator[Problem]:
    """The setup cell holds `# {{setup}}` and stays within 8 lines of code."""
    for i in lesson.tagged("setup"):
        cell = lesson.cells[i]
        if "{{setup}}" not in cell.source:
            yield lesson.problem(
                cell.line, "setup", "the setup cell holds the line '# {{setup}}': one text for all lessons"
            )
            continue
        lines = sum(bool(line.strip()) for line in expand(cell, lesson, context).split("\n"))
        if lines > MAX_SETUP_LINES:
            yield lesson.problem(cell.line, "setup", f"{lines} lines of setup; at most {MAX_SETUP_LINES}")


def later_problems(lesson: Lesson) -> Iterator[Problem]:
    """What a later lesson builds is used only with the words "you build this in lesson N"."""
    prose = "\n".join(cell.source for cell in lesson.cells if cell.kind == "markdown")
    for line, module, name in uses(lesson):
        where = built_in(module, name)
        what = f"{module}.{name}" if module and name else name or module
        if where is None:
            message = f"nothing says which lesson builds {what}: add it to course/catalogue.py"
            yield lesson.problem(line, "later", message)
        elif lesson.number != "00" and where > lesson.number and f"{{{{built-in {where}}}}}" not in prose:
            yield lesson.problem(
                line, "later", f"{what} is built in lesson {where}: say so with {{{{built-in {where}}}}}"
            )


def uses(lesson: Lesson) -> Iterator[tuple[int, str, str | None]]:
    """(line, module, name) of everything a lesson takes from the package, by import or by dot."""
    for cell in lesson.cells:
        if cell.kind != "code":
            continue
        for node in ast.walk(parse(lesson, cell)):
            line = cell.line + getattr(node, "lineno", 1) - 1
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "diffusion_lessons":
                module = (node.module or "").removeprefix("diffusion_lessons").lstrip(".")
                yield from ((line, module, alias.name) for alias in node.names)
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    if alias.name.startswith("diffusion_lessons."):
                        yield line, alias.name.removeprefix("diffusion_lessons."), None
            elif (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "diffusion_lessons"
            ):
                yield line, "", node.attr


def budget_problems(lesson: Lesson) -> Iterator[Problem]:
    """Cells, words and visible lines of code within the syllabus."""
    words = sum(anatomy.visible_words(cell.source) for cell in lesson.cells[1:] if cell.kind == "markdown")
    code = sum(
        bool(line.strip())
        for cell in lesson.cells
        if cell.kind == "code" and cell.visible
        for line in solved_code(cell.source).split("\n")
    )
    if not CELLS[0] <= len(lesson.cells) <= CELLS[1]:
        yield lesson.problem(1, "budget", f"{len(lesson.cells)} cells; a lesson has {CELLS[0]} to {CELLS[1]}")
    if not WORDS[0] <= words <= WORDS[1]:
        yield lesson.problem(1, "budget", f"{words} visible words; a lesson has {WORDS[0]} to {WORDS[1]}")
    if code > MAX_CODE_LINES:
        yield lesson.problem(
            1, "budget", f"{code} visible lines of code; a lesson has at most {MAX_CODE_LINES}"
        )


def size_problems(lesson: Lesson, notebook: nbformat.NotebookNode) -> Iterator[Problem]:
    """Notebooks of a megabyte and more."""
    size = len(nbformat.writes(notebook).encode())
    if size >= MAX_BYTES:
        largest = max(notebook.cells, key=lambda cell: len(str(cell)))
        line = lesson.cells[notebook.cells.index(largest)].line
        message = f"the notebook has {size / 1e6:.2f} MB; it stays under 1 MB, and this cell has most of it"
        yield lesson.problem(line, "budget", message)


def uncertainty_problems(lesson: Lesson, solved: nbformat.NotebookNode) -> Iterator[Problem]:
    """The experiment's result, in its prose or its output, comes with an uncertainty."""
    for i in lesson.tagged("experiment"):
        cells = solved.cells[i : i + len(anatomy.part(lesson, i))]
        text = "\n".join(str(cell.source) + str(cell.get("outputs", "")) for cell in cells)
        if not any(word in text for word in ("±", "interval", "standard error")):
            yield lesson.problem(
                lesson.cells[i].line, "experiment", "no '±' or interval: a measurement has an uncertainty"
            )


def time_problems(lesson: Lesson, context: Context) -> Iterator[Problem]:
    """The run time is that of this code, and no more than 90 s; the start page states none."""
    if lesson.number == "00":
        return
    measured = context.timings.get(lesson.stem)
    command = f"python -m diffusion_lessons.course.authoring.build {lesson.number} --again"
    again = f"`{command}` while the machine does nothing else"
    if measured is None:
        yield lesson.problem(1, "time", f"its run time was never measured: run {again}")
    elif measured.get("code_sha256") != code_digest(lesson, context):
        yield lesson.problem(1, "time", f"its run time is that of other code: run {again}")
    elif measured["seconds"] > MAX_SECONDS:
        yield lesson.problem(
            1, "time", f"it ran for {measured['seconds']:.0f} s; at most {MAX_SECONDS}, or run {again}"
        )
