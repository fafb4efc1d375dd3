"""The order and the parts of a lesson, held to the syllabus; the tags are described in docs/authoring.md."""

import ast
import re
from itertools import pairwise

import nbformat

from diffusion_lessons.course.authoring.rules.limits import visible_words
from diffusion_lessons.course.authoring.source import SECTIONS, Answer, Cell, Lesson, Said, parse

OPTIONAL = ("agreement",)
NUMBER = re.compile(r"\b(\d\d\.\d+)\b")
TABLE = re.compile(r"(?m)^\|[ :|-]+\|$")
NOTICE = re.compile(r"(?i)\bwhat to notice\b")
EXACT = re.compile(r"(?i)§|\bsection|\beq\.|\balgorithm|\bappendix|\btable")


def calls(lesson: Lesson, cells: list[Cell], *names: str) -> int:
    """How often functions of these names are called in some cells."""
    called = [
        getattr(node.func, "attr", getattr(node.func, "id", ""))
        for cell in cells
        if cell.kind == "code"
        for node in ast.walk(parse(lesson, cell))
        if isinstance(node, ast.Call)
    ]
    return sum(map(called.count, names))


def section_problems(lesson: Lesson) -> Said:
    """Every section is there, once (an idea three to five times), and in its place."""
    cells = lesson.cells
    last = cells[-1].source.count("\n") + cells[-1].line
    for tag in SECTIONS:
        where = lesson.tagged(tag)
        if tag == "agreement" and not where and "agreement" not in lesson.header:
            message = "no cell with the tag 'agreement'; no reference? "
            yield 2, "section", message + "'agreement: none, because …' in the header"
        elif not where and tag not in OPTIONAL:
            yield last, "section", f"no cell with the tag '{tag}'"
        elif tag == "idea" and not 3 <= len(where) <= 5:
            yield cells[where[-1]].line, "section", f"{len(where)} ideas; a lesson has 3 to 5"
        elif tag != "idea" and len(where) > 1:
            yield cells[where[1]].line, "section", f"a second cell with the tag '{tag}'"
    order = [(cell.line, tag) for cell in cells for tag in cell.tags if tag in SECTIONS]
    for (_, before), (line, tag) in pairwise(order):
        if SECTIONS.index(tag) < SECTIONS.index(before):
            yield line, "section", f"'{tag}' stands before '{before}' in a lesson"


def objective_problems(lesson: Lesson, answers: list[Answer]) -> Said:
    """Three to five objectives, each with the number of an exercise of this lesson."""
    known = {answer.id for answer in answers}
    for cell, *_ in _parts(lesson, "objectives"):
        bullets = [(number, line) for number, line in cell.lines() if re.match(r"\s*[-*\d.]+ ", line)]
        if not 3 <= len(bullets) <= 5:
            yield cell.line, "objectives", f"{len(bullets)} objectives; a lesson has 3 to 5"
        for number, line in bullets:
            named = NUMBER.findall(line)
            if not named:
                yield number, "objectives", "this objective names no exercise, such as (exercise 02.1)"
            for wrong in sorted(set(named) - known):
                yield number, "objectives", f"this lesson has no exercise {wrong}"


def idea_problems(lesson: Lesson) -> Said:
    """Intuition, an equation with its symbols, code, a figure and what to notice, in each idea."""
    for cells in map(lesson.part, lesson.tagged("idea")):
        prose = "\n\n".join(cell.source for cell in cells if cell.kind == "markdown")
        words = visible_words(cells[0].source)
        if words > 150:
            yield cells[0].line, "idea", f"{words} words of intuition; 150 are allowed"
        for what, found in (
            ("equation between $$ and $$", "$$" in prose),
            ("table of its symbols and shapes", TABLE.search(prose)),
            ("line 'What to notice: …'", NOTICE.search(prose)),
            ("figure", calls(lesson, cells, "figure", "picture", "strip", "scrub") or "![" in prose),
        ):
            if not found:
                yield cells[0].line, "idea", f"this idea has no {what}"
        for cell in cells:
            code = cell.kind == "code" and cell.visible and "exercise" not in cell.tags
            if code and cell.source.count("\n") + 1 > 25:
                yield cell.line, "idea", "more than 25 lines of code in a cell of an idea"


def content_problems(lesson: Lesson) -> Said:
    """What the other sections must hold: from guess and predict to the references and the way on."""
    for cell, *_ in _parts(lesson, "guess"):
        if "?" not in cell.source or not re.search(r"(?s)<details>.*<summary>.*</details>", cell.source):
            message = "an open question, and what can be said to it folded in <details><summary>…</details>"
            yield cell.line, "guess", f"this section holds {message}"
    wanted = {
        "predict": (("predict", "quiz"), 1, 1, "one question: call predict(…)"),
        "interview": (("interview_card",), 1, 1, "one interview_card(…)"),
        "exit-quiz": (("Question",), 3, 5, "3 to 5 Question(…)"),
    }
    for tag, (names, low, high, what) in wanted.items():
        for cells in _parts(lesson, tag):
            if not low <= calls(lesson, cells, *names) <= high:
                yield cells[0].line, tag, f"this section holds {what}"
    for tag in ("play", "agreement", "experiment"):
        for cells in _parts(lesson, tag):
            if all(cell.kind != "code" for cell in cells):
                yield cells[0].line, tag, "this section has no code: its figures are measured"
    for cells in _parts(lesson, "references"):
        text = "\n".join(cell.source for cell in cells)
        if not EXACT.search(text):
            yield cells[0].line, "references", "references name sections or equations of the papers"
        on = f"{{{{lesson {int(lesson.number) + 1:02d}}}}}"
        if lesson.number != "20" and on not in text:
            yield cells[0].line, "references", f"the way on is missing: {on}"


def uncertainty_problems(lesson: Lesson, solved: nbformat.NotebookNode) -> Said:
    """The experiment's result, in its prose or its output, comes with an uncertainty."""
    for i in lesson.tagged("experiment"):
        cells = solved.cells[i : i + len(lesson.part(i))]
        text = "\n".join(str(cell.source) + str(cell.get("outputs", "")) for cell in cells)
        if not any(word in text for word in ("±", "interval", "standard error")):
            message = "no '±' or interval: a measurement has an uncertainty"
            yield lesson.cells[i].line, "experiment", message


def _parts(lesson: Lesson, tag: str) -> list[list[Cell]]:
    """The section that the first cell with a tag opens; none where there is no such cell."""
    return [lesson.part(i) for i in lesson.tagged(tag)[:1]]
