"""Markers, header lines and placeholders: all that the build must understand before it can make a page."""

import re
from dataclasses import replace
from difflib import SequenceMatcher

from diffusion_lessons.course.authoring.cells import blocks
from diffusion_lessons.course.authoring.render import PLACEHOLDER, Context, expand
from diffusion_lessons.course.authoring.source import Lesson, Said
from diffusion_lessons.course.exercises.mark import BEGIN, BEGIN_STUDENT, END, END_STUDENT

MARKERS = (BEGIN, END, BEGIN_STUDENT, END_STUDENT)
KEYS = ("title", "question", "difficulty", "prerequisites")
MAX_SETUP_LINES = 8


def marker_problems(lesson: Lesson) -> Said:
    """Markers that do not pair, and comments that look like a misspelt marker."""
    for cell in lesson.cells:
        try:
            blocks(cell.source)
        except ValueError as error:
            at, message = error.args
            yield cell.line + at, "marker", message
        for number, line in cell.lines():
            if near := _looks_like_a_marker(line):
                yield number, "marker", f"{line.strip()!r} looks like '{near}': spell it so"


def _looks_like_a_marker(line: str) -> str | None:
    if not line.lstrip().startswith("#") or line.strip() in MARKERS:
        return None
    words = re.sub(r"[^A-Z]", "", line.upper())
    for marker in MARKERS:
        if SequenceMatcher(None, words, re.sub(r"[^A-Z]", "", marker)).ratio() > 0.8:
            return marker
    return None


def header_problems(lesson: Lesson, context: Context) -> Said:
    """The first cell's keys; the start page needs none."""
    missing = [key for key in KEYS if not lesson.header.get(key) and lesson.number != "00"]
    for key in missing:
        yield 2, "header", f"the first cell has no line '# {key}: …'"
    difficulty = lesson.header.get("difficulty", "1")
    if difficulty not in ("1", "2", "3"):
        yield 2, "header", f"difficulty is 1, 2 or 3, got {difficulty!r}"
    elif not missing:
        try:
            expand(lesson.cells[0], lesson, context)
        except ValueError as error:  # a lesson to know before this one that there is not
            yield 2, "header", str(error)


def placeholder_problems(lesson: Lesson, context: Context) -> Said:
    """`{{…}}` that mean nothing, or name what is not there."""
    for cell in lesson.cells[1:]:
        for number, line in cell.lines():
            if PLACEHOLDER.search(line):
                try:
                    expand(replace(cell, source=line), lesson, context)
                except ValueError as error:
                    yield number, "placeholder", str(error)
                except Exception as error:  # in the figure of a card
                    yield number, "placeholder", f"{type(error).__name__}: {error}"


def setup_problems(lesson: Lesson, context: Context) -> Said:
    """The setup cell holds `# {{setup}}` and stays within 8 lines of code."""
    for i in lesson.tagged("setup"):
        cell = lesson.cells[i]
        if "{{setup}}" not in cell.source:
            yield cell.line, "setup", "the setup cell holds the line '# {{setup}}': one text for all lessons"
            continue
        lines = sum(bool(line.strip()) for line in expand(cell, lesson, context).split("\n"))
        if lines > MAX_SETUP_LINES:
            yield cell.line, "setup", f"{lines} lines of setup; at most {MAX_SETUP_LINES}"
