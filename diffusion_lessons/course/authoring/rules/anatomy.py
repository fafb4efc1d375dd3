"""The order and the parts of a lesson, held to the syllabus; the tags are described in docs/authoring.md."""

import ast
import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from diffusion_lessons.course.authoring.source import SECTIONS, Answer, Cell, Lesson, Problem, parse

OPTIONAL = ("agreement",)
KEYS = ("title", "question", "difficulty", "prerequisites")
NUMBER = re.compile(r"\b(\d\d\.\d+)\b")
TABLE = re.compile(r"(?m)^\|[ :|-]+\|$")
NOTICE = re.compile(r"(?i)\bwhat to notice\b")


def part(lesson: Lesson, start: int) -> list[Cell]:
    """The cells from one that opens a section to the next that does."""
    cells = [lesson.cells[start]]
    for cell in lesson.cells[start + 1 :]:
        if any(tag in SECTIONS for tag in cell.tags):
            break
        cells.append(cell)
    return cells


def calls(lesson: Lesson, cells: list[Cell], *names: str) -> int:
    """How often functions of these names are called in some cells."""
    found = 0
    for cell in cells:
        if cell.kind == "code":
            for node in ast.walk(parse(lesson, cell)):
                if isinstance(node, ast.Call):
                    name = (
                        node.func.attr
                        if isinstance(node.func, ast.Attribute)
                        else getattr(node.func, "id", "")
                    )
                    found += name in names
    return found


def header_problems(lesson: Lesson) -> Iterator[Problem]:
    """The first cell's keys."""
    for key in KEYS:
        if not lesson.header.get(key):
            yield lesson.problem(2, "header", f"the first cell has no line '# {key}: …'")
    if lesson.header.get("difficulty", "1") not in ("1", "2", "3"):
        yield lesson.problem(2, "header", f"difficulty is 1, 2 or 3, got {lesson.header['difficulty']!r}")


def section_problems(lesson: Lesson) -> Iterator[Problem]:
    """Every section is there, once (an idea three or four times), and in its place."""
    last = len(lesson.cells[-1].source.split("\n")) + lesson.cells[-1].line - 1
    places = {tag: lesson.tagged(tag) for tag in SECTIONS}
    for tag, where in places.items():
        if tag == "agreement" and not where and "agreement" not in lesson.header:
            message = (
                "no cell with the tag 'agreement'; no reference? 'agreement: none, because …' in the header"
            )
            yield lesson.problem(2, "section", message)
        elif not where and tag not in OPTIONAL:
            yield lesson.problem(last, "section", f"no cell with the tag '{tag}'")
        elif tag == "idea" and not 3 <= len(where) <= 4:
            yield lesson.problem(
                lesson.cells[where[-1]].line, "section", f"{len(where)} ideas; a lesson has 3 or 4"
            )
        elif tag != "idea" and len(where) > 1:
            yield lesson.problem(
                lesson.cells[where[1]].line, "section", f"a second cell with the tag '{tag}'"
            )
    order = [(i, tag) for i, cell in enumerate(lesson.cells) for tag in cell.tags if tag in SECTIONS]
    for (_, before), (i, tag) in pairwise(order):
        if SECTIONS.index(tag) < SECTIONS.index(before):
            yield lesson.problem(
                lesson.cells[i].line, "section", f"'{tag}' stands before '{before}' in a lesson"
            )


def objective_problems(lesson: Lesson, answers: list[Answer]) -> Iterator[Problem]:
    """Three to five objectives, each with the number of an exercise of this lesson."""
    for i in lesson.tagged("objectives")[:1]:
        bullets = [
            (number, line) for number, line in lesson.cells[i].lines() if re.match(r"\s*[-*\d.]+ ", line)
        ]
        if not 3 <= len(bullets) <= 5:
            yield lesson.problem(
                lesson.cells[i].line, "objectives", f"{len(bullets)} objectives; a lesson has 3 to 5"
            )
        known = {answer.id for answer in answers}
        for number, line in bullets:
            named = NUMBER.findall(line)
            if not named:
                yield lesson.problem(
                    number, "objectives", "this objective names no exercise, such as (exercise 02.1)"
                )
            for wrong in sorted(set(named) - known):
                yield lesson.problem(number, "objectives", f"this lesson has no exercise {wrong}")


def idea_problems(lesson: Lesson) -> Iterator[Problem]:
    """Intuition, an equation with its symbols, code, a figure and what to notice, in each idea."""
    for i in lesson.tagged("idea"):
        cells = part(lesson, i)
        line = cells[0].line
        prose = "\n\n".join(cell.source for cell in cells if cell.kind == "markdown")
        words = visible_words(cells[0].source)
        if words > 150:
            yield lesson.problem(line, "idea", f"{words} words of intuition; 150 are allowed")
        for what, found in (
            ("equation between $$ and $$", "$$" in prose),
            ("table of its symbols and shapes", TABLE.search(prose)),
            ("line 'What to notice: …'", NOTICE.search(prose)),
            ("figure", calls(lesson, cells, "figure", "picture", "strip", "scrub") or "![" in prose),
        ):
            if not found:
                yield lesson.problem(line, "idea", f"this idea has no {what}")
        for cell in cells:
            code = cell.kind == "code" and cell.visible and "exercise" not in cell.tags
            if code and len(cell.source.split("\n")) > 25:
                yield lesson.problem(cell.line, "idea", "more than 25 lines of code in a cell of an idea")


def exercise_problems(lesson: Lesson, answers: list[Answer], bank: Mapping[str, Any]) -> Iterator[Problem]:
    """Every exercise has its entry, its card and its cell, and the kinds differ."""
    for answer in answers:
        if answer.id not in bank:
            message = f"exercise {answer.id} has no entry in bank/lesson_{lesson.number}.py"
            yield lesson.problem(answer.line, "bank", message)
        elif bank[answer.id].name != answer.name:
            names = f"{bank[answer.id].name!r} in the bank and {answer.name!r} here"
            yield lesson.problem(answer.line, "bank", f"exercise {answer.id} is called {names}")
        if "exercise" not in answer.cell.tags:
            yield lesson.problem(answer.cell.line, "exercise", 'this cell needs tags=["exercise"]')
        card = f"{{{{exercise {answer.id}}}}}"
        before = lesson.cells[: lesson.cells.index(answer.cell)]
        if not before or card not in before[-1].source:
            yield lesson.problem(answer.cell.line, "exercise", f"the cell above holds no {card}")
    numbers = [answer.id for answer in answers]
    for missing in sorted(set(bank) - set(numbers)):
        yield lesson.problem(1, "bank", f"the bank's exercise {missing} is not in the lesson")
    for twice in sorted({number for number in numbers if numbers.count(number) > 1}):
        line = next(answer.line for answer in reversed(answers) if answer.id == twice)
        yield lesson.problem(line, "exercise", f"exercise {twice} is there twice")


def kind_problems(lesson: Lesson, answers: list[Answer], bank: Mapping[str, Any]) -> Iterator[Problem]:
    """Three to five exercises, of at least three kinds where there are so many, one of them "debug"."""
    kinds = [bank[answer.id].kind for answer in answers if answer.id in bank]
    if not 3 <= len(answers) <= 5:
        yield lesson.problem(1, "exercise", f"{len(answers)} exercises; a lesson has 3 to 5")
    if kinds and len(set(kinds)) < 2:
        yield lesson.problem(1, "exercise", f"all exercises are of the kind {kinds[0]!r}: mix them")
    if kinds and "debug" not in kinds:
        yield lesson.problem(
            1, "exercise", "no exercise is of the kind 'debug': one planted real bug a lesson"
        )


def ending_problems(lesson: Lesson) -> Iterator[Problem]:
    """Predict, play, agreement, interview card, exit quiz, references and the way on hold what they must."""
    wanted = {
        "predict": (("predict", "quiz"), 1, 1, "one question: call predict(…)"),
        "interview": (("interview_card",), 1, 1, "one interview_card(…)"),
        "exit-quiz": (("Question",), 3, 5, "3 to 5 Question(…)"),
    }
    for tag, (names, low, high, what) in wanted.items():
        for i in lesson.tagged(tag)[:1]:
            if not low <= calls(lesson, part(lesson, i), *names) <= high:
                yield lesson.problem(lesson.cells[i].line, tag, f"this section holds {what}")
    for tag in ("play", "agreement", "experiment"):
        for i in lesson.tagged(tag)[:1]:
            if all(cell.kind != "code" for cell in part(lesson, i)):
                yield lesson.problem(
                    lesson.cells[i].line, tag, "this section has no code: its figures are measured"
                )
    for i in lesson.tagged("references")[:1]:
        text = "\n".join(cell.source for cell in part(lesson, i))
        if not re.search(r"§|\bsection|\beq\.|\balgorithm|\bappendix|\btable", text, re.IGNORECASE):
            yield lesson.problem(
                lesson.cells[i].line, "references", "references name sections or equations of the papers"
            )
        on = f"{{{{lesson {int(lesson.number) + 1:02d}}}}}"
        if lesson.number != "20" and on not in text:
            yield lesson.problem(lesson.cells[i].line, "references", f"the way on is missing: {on}")


def visible_words(markdown: str) -> int:
    """Words that a reader reads: no folded text, formulas, code, tables, pictures or tags."""
    text = re.sub(r"(?s)<details>.*?</details>|\$\$.*?\$\$|```.*?```|<!--.*?-->", " ", markdown)
    text = re.sub(r"(?m)^\s*\|.*$", " ", text)
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)|<[^>]+>|\{\{[^}]*\}\}", " ", text)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    return len(re.findall(r"\S*\w\S*", text))
