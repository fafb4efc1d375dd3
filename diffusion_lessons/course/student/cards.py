"""How a verdict, a hint and the table of progress look: HTML in a notebook, text everywhere else.

The HTML carries its own inline styles, takes text and background from the page (so a dark theme
stays dark), says in words and signs what it says in colour, and escapes all that a student wrote.
"""

import base64
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from textwrap import indent, wrap

from diffusion_lessons.course.exercises.exercise import Exercise, Picture, Verdict

SIGNS = {"passed": "✓", "not attempted": "○", "wrong": "✗", "hint": "?"}
COLOURS = {"passed": "#1b7f4b", "not attempted": "#7a7a7a", "wrong": "#c2571a", "hint": "#1a73e8"}
WIDTH = 96  # of text in a terminal
TABLE = "border-collapse:collapse;margin:6px 0;font-size:inherit"
CELL = "text-align:left;vertical-align:top;padding:2px 16px 2px 0"


@dataclass(frozen=True)
class Card:
    """Something to show, as text and as HTML; the last line of a cell or `show` displays it."""

    text: str
    html: str

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return self.html


def show(card: Card) -> None:
    """Display in a notebook, print elsewhere."""
    if sys.modules.get("IPython"):
        from IPython import get_ipython
        from IPython.display import display

        if get_ipython() is not None:
            display(card)
            return
    try:
        print(card.text)
    except UnicodeEncodeError:  # a terminal that has no ✓ or ᾱ
        encoding = getattr(sys.stdout, "encoding", None) or "ascii"
        print(card.text.encode(encoding, "replace").decode(encoding))


# Verdicts ------------------------------------------------------------------------------------------


def verdict_card(exercise: Exercise, verdict: Verdict, notes: Sequence[str] = ()) -> Card:
    """The verdict on an answer.

    Args:
        notes: sentences below it, such as which function the lesson goes on with.
    """
    said = {"passed": "passed", "not attempted": "not attempted yet", "wrong": "not right yet"}[
        verdict.status
    ]
    title = f"Exercise {exercise.id} · {exercise.title}: {said}"
    rows = _rows(verdict)
    return Card(
        _verdict_text(verdict, title, rows, notes),
        _frame(verdict.status, title, _verdict_html(verdict, rows, notes)),
    )


def _rows(verdict: Verdict) -> list[tuple[str, str]]:
    """The facts of the first case that differs, as (name, in words)."""
    rows = [(name, text) for name, text in verdict.inputs]
    if verdict.expected:
        rows.append(("expected", verdict.expected))
    if verdict.given:
        rows.append(("yours", verdict.given))
    return rows


def _heading(verdict: Verdict) -> str:
    return f"First case that {'differs' if verdict.given else 'fails'}: {verdict.case}"


def _verdict_text(verdict: Verdict, title: str, rows: list[tuple[str, str]], notes: Sequence[str]) -> str:
    parts = [f"{SIGNS[verdict.status]} {title}"]
    if verdict.message:
        parts.append(wrapped(verdict.message))
    for line, text, function in verdict.frames:
        parts.append(f"    line {line}, in {function}:  {text}")
    if verdict.case:
        parts.append(wrapped(_heading(verdict)))
    width = max((len(name) for name, _ in rows), default=0)
    parts += [f"    {name.ljust(width)}  {text}" for name, text in rows]
    if verdict.where:
        parts.append(wrapped(verdict.where))
    if verdict.printed.strip():
        parts.append("  Your code printed:\n" + indent(verdict.printed.rstrip("\n"), "    | "))
    parts += [wrapped(note) for note in notes]
    return "\n".join(parts)


def wrapped(text: str) -> str:
    """A paragraph of the width of a terminal, set in by two."""
    return "\n".join(wrap(text, WIDTH, initial_indent="  ", subsequent_indent="  ", break_long_words=False))


def _verdict_html(verdict: Verdict, rows: list[tuple[str, str]], notes: Sequence[str]) -> str:
    parts = [_paragraph(verdict.message)] if verdict.message else []
    if verdict.frames:
        lines = "\n".join(
            f"line {line}, in {escape(function)}:  {escape(text)}" for line, text, function in verdict.frames
        )
        parts.append(_preformatted(lines))
    if verdict.case:
        parts.append(_paragraph(_heading(verdict)))
    if rows:
        parts.append(_table(rows))
    if verdict.where:
        parts.append(_paragraph(verdict.where))
    if verdict.pictures:
        parts.append(_gallery(verdict.pictures))
    if verdict.printed.strip():
        parts.append(_paragraph("Your code printed:") + _preformatted(escape(verdict.printed.rstrip("\n"))))
    return "".join(parts) + "".join(_paragraph(note) for note in notes)


# Pieces of HTML ------------------------------------------------------------------------------------


def _frame(kind: str, title: str, inside: str) -> str:
    return (
        f'<div role="group" aria-label="{escape(title)}" style="border:1px solid {COLOURS[kind]};'
        f"border-left:6px solid {COLOURS[kind]};border-radius:4px;padding:8px 14px;margin:4px 0;"
        'max-width:52em;line-height:1.45">'
        f'<p style="margin:2px 0"><strong>{SIGNS[kind]} {escape(title)}</strong></p>{inside}</div>'
    )


def _paragraph(text: str) -> str:
    """A paragraph, with `code` in backquotes."""
    pieces = escape(text).split("`")
    if len(pieces) % 2 == 0:  # an odd backquote, in a message of the student's own
        pieces = [escape(text)]
    marked = "".join(f"<code>{piece}</code>" if place % 2 else piece for place, piece in enumerate(pieces))
    return f'<p style="margin:6px 0">{marked}</p>'


def _preformatted(escaped: str) -> str:
    style = "margin:6px 0;padding-left:12px;white-space:pre-wrap;font-family:monospace"
    return f'<pre style="{style}">{escaped}</pre>'


def _table(rows: Sequence[tuple[str, str]]) -> str:
    body = "".join(
        f'<tr style="background:none"><th scope="row" style="{CELL}">{escape(name)}</th>'
        f'<td style="{CELL}">{escape(text)}</td></tr>'
        for name, text in rows
    )
    return f'<table aria-label="the case" style="{TABLE}">{body}</table>'


def _gallery(pictures: Sequence[Picture]) -> str:
    shown = "".join(
        '<figure style="display:inline-block;margin:4px 14px 4px 0;text-align:center">'
        f'<img alt="{escape(each.alt)}" src="data:image/png;base64,{base64.b64encode(each.png).decode()}" '
        'style="width:112px;image-rendering:pixelated;border:1px solid #888"/>'
        f"<figcaption>{escape(each.label)}</figcaption></figure>"
        for each in pictures
    )
    return f'<div style="margin:4px 0">{shown}</div>'


# Hints and progress --------------------------------------------------------------------------------


def hint_card(exercise: Exercise, shown: int) -> Card:
    """Hint number `shown`, counted from 1."""
    title = f"Exercise {exercise.id} · hint {shown} of {len(exercise.hints)}"
    text = exercise.hints[shown - 1]
    more = f'`hint("{exercise.id}")` gives the next.' if shown < len(exercise.hints) else "That was the last."
    return Card(
        f"{SIGNS['hint']} {title}\n{wrapped(text)}\n{wrapped(more)}",
        _frame("hint", title, _paragraph(text) + _paragraph(more)),
    )


def progress_card(
    lessons: Sequence[tuple[str, int, int]], rows: Sequence[Sequence[str]], note: str = ""
) -> Card:
    """The table of progress.

    Args:
        lessons: (lesson, passed, exercises).
        rows: (id, title, status, checks, hints) of the exercises to list.
        note: a sentence below, such as where it is kept.
    """
    head = ("exercise", "", "status", "checks", "hints")
    done, total = sum(p for _, p, _ in lessons), sum(n for _, _, n in lessons)
    title = f"{done} of {total} exercises passed"
    summary = " · ".join(f"lesson {lesson}: {passed} of {count}" for lesson, passed, count in lessons)
    return Card(
        _progress_text(title, summary, head, rows, note), _progress_html(title, summary, head, rows, note)
    )


def _signed(status: str) -> str:
    return f"{SIGNS.get(status, SIGNS['not attempted'])} {status}"


def _progress_text(
    title: str, summary: str, head: Sequence[str], rows: Sequence[Sequence[str]], note: str
) -> str:
    table = [list(head), *([*row[:2], _signed(row[2]), *row[3:]] for row in rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    lines = [
        "  " + "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in table
    ]
    return "\n".join([title, wrapped(summary), *(lines if rows else []), *([wrapped(note)] if note else [])])


def _progress_html(
    title: str, summary: str, head: Sequence[str], rows: Sequence[Sequence[str]], note: str
) -> str:
    cell = f'style="{CELL};white-space:nowrap"'
    top = "".join(f'<th scope="col" {cell}>{escape(name or "title")}</th>' for name in head)
    body = "".join(
        f'<tr style="background:none"><th scope="row" {cell}>{escape(row[0])}</th>'
        + "".join(f"<td {cell}>{escape(each)}</td>" for each in (row[1], _signed(row[2]), *row[3:]))
        + "</tr>"
        for row in rows
    )
    table = f'<table aria-label="exercises" style="{TABLE}"><tr>{top}</tr>{body}</table>' if rows else ""
    kind = "passed" if title.split()[0] == title.split()[2] else "not attempted"
    inside = _paragraph(summary) + table + (_paragraph(note) if note else "")
    return _frame(kind, title, inside)
