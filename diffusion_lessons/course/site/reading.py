"""What the site shows of a lesson: its question, interview card, quizzes and formulas, read from its source.

Nothing is run: the calls of `interview_card`, `quiz` and `predict` are found in the syntax tree.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from diffusion_lessons.course.authoring.repository import sources
from diffusion_lessons.course.authoring.source import Cell, Lesson, parse, read
from diffusion_lessons.course.authoring.words import SHOWN, NotWrittenOut, arguments
from diffusion_lessons.course.lessons import LESSONS, Entry
from diffusion_lessons.course.student.quiz import Question

FORMULA = re.compile(r"\$\$(.+?)\$\$", re.DOTALL)
HERE = re.compile(r"\bthis (?:page|lesson)\b")
BELOW = re.compile(r"\b([Yy]ou (?:\S+ ){1,3}?)(?:below|above)\b")  # "You measure it below."


@dataclass(frozen=True)
class Interview:
    """An interview card: `follow_ups` are (question, answer), the answer "" where there is none."""

    question: str
    answer: str
    follow_ups: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Study:
    """A lesson as the site needs it; of one that is not written yet only `entry` says something."""

    entry: Entry
    question: str = ""
    difficulty: int = 0  # 1 to 3
    interview: Interview | None = None
    questions: tuple[Question, ...] = ()
    formulas: tuple[str, ...] = ()  # those that stand alone in the prose, LaTeX without the dollars

    @property
    def written(self) -> bool:
        return bool(self.question)


def studies(root: Path) -> list[Study]:
    """The twenty lessons of a repository in order; ValueError, with the place, for what cannot be read."""
    files = {file.stem: file for file in sources(root)}
    return [
        study(read(files[entry.stem])) if entry.stem in files else Study(entry)
        for entry in LESSONS
        if entry.number != "00"
    ]


def study(lesson: Lesson) -> Study:
    """One lesson's; ValueError where a card or a quiz is not written out, or the header lacks its lines."""
    entry = next((entry for entry in LESSONS if entry.stem == lesson.stem), None)
    if entry is None:
        raise ValueError(f"{lesson.file.name} is none of the lessons of course/lessons.py")
    question, difficulty = lesson.header.get("question", ""), lesson.header.get("difficulty", "")
    if not question or difficulty not in ("1", "2", "3"):
        raise ValueError(f"{lesson.file.name}: the header needs `question: …` and `difficulty: 1` (to 3)")
    cards: list[Interview] = []
    questions: list[Question] = []
    for cell in lesson.code:
        for call, name in _calls(lesson, cell):
            given, named = _given(call, lesson, cell)
            if name == "interview_card":
                cards.append(_interview(*given, **named))
            elif name == "predict":
                questions.append(Question(*given, **named))
            else:
                questions += given
    if len(cards) > 1:
        raise ValueError(f"{lesson.file.name}: a lesson has one interview card, here are {len(cards)}")
    apart = tuple(_apart(each, int(entry.number)) for each in questions)
    return Study(entry, question, int(difficulty), next(iter(cards), None), apart, _formulas(lesson))


def _apart(question: Question, number: int) -> Question:
    """A question as it reads outside its lesson: what was above or below stands in lesson so-and-so."""

    def said(text: str) -> str:
        return HERE.sub(f"lesson {number}", BELOW.sub(rf"\g<1>in lesson {number}", text))

    choices = [replace(each, text=said(each.text), why=said(each.why)) for each in question.choices]
    return replace(question, text=said(question.text), choices=choices)


def _calls(lesson: Lesson, cell: Cell) -> Iterator[tuple[ast.Call, str]]:
    if not any(name in cell.source for name in SHOWN):
        return
    for node in ast.walk(parse(lesson, cell)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in SHOWN:
            yield node, node.func.id


def _given(call: ast.Call, lesson: Lesson, cell: Cell) -> tuple[list[Any], dict[str, Any]]:
    try:
        return arguments(call)
    except NotWrittenOut as error:
        line = cell.line + error.line - 1
        raise ValueError(
            f"{lesson.file.name}:{line}: the site reads cards and quizzes without running them: write this "
            f"out as text, True, False, a list, a tuple, Choice(…) or Question(…): {error.code}"
        ) from None


def _interview(question: str, answer: str, follow_ups: Any = ()) -> Interview:
    pairs = ((each, "") if isinstance(each, str) else (each[0], each[1]) for each in follow_ups)
    return Interview(question, answer, tuple(pairs))


def _formulas(lesson: Lesson) -> tuple[str, ...]:
    """The formulas that stand open in the prose; those of folded derivations are left out."""
    prose = "\n\n".join(cell.source for cell in lesson.cells if cell.kind == "markdown")
    opened = re.sub(r"<details>.*?</details>", "", prose, flags=re.DOTALL)
    return tuple(" ".join(found.split()) for found in FORMULA.findall(opened))
