"""How a verdict, a hint and the table of progress look: HTML in a notebook, text everywhere else.

The HTML carries its own inline styles, takes text and background from the page (so a dark theme
stays dark), says in words and signs what it says in colour, and escapes all that a student wrote.
"""

from collections.abc import Sequence
from html import escape
from textwrap import indent, wrap

from diffusion_lessons.course.exercises.exercise import Exercise
from diffusion_lessons.course.exercises.verdict import Thumbnail, Verdict
from diffusion_lessons.course.widgets.page import Card, emphasised, image_tag

SIGNS = {"passed": "✓", "not attempted": "○", "wrong": "✗", "hint": "?"}
SAID = {"passed": "passed", "not attempted": "not attempted yet", "wrong": "not right yet"}
COLOURS = {"passed": "#1b7f4b", "not attempted": "#7a7a7a", "wrong": "#c2571a", "hint": "#1a73e8"}
WIDTH = 96  # of text in a terminal
CELL = "text-align:left;vertical-align:top;padding:2px 16px 2px 0"
Part = tuple[str, str]  # of a card: the same as text and as HTML


def verdict_card(
    exercise: Exercise, verdict: Verdict, notes: Sequence[str] = (), *, first: bool = False, hints: int = 0
) -> Card:
    """The verdict on an answer.

    Args:
        notes: sentences below it, such as which function the lesson goes on with.
        first: at a first attempt what gives the answer away is folded in; a page opens it with a click.
        hints: how many were asked for; these are listed again, the others are folded in.
    """
    message = (first and verdict.first) or verdict.message
    more = [text for text in (message != verdict.message and verdict.message, verdict.where) if text]
    parts = [_paragraph(message)] if message else []
    if first and more:
        parts.append(_folded("Say more", [*map(_paragraph, more)]))
    if verdict.frames:
        lines = [f"line {line}, in {function}:  {text}" for line, text, function in verdict.frames]
        parts.append(_preformatted("\n".join(lines)))
    if verdict.case:
        parts.append(_paragraph(f"First case that {'differs' if verdict.given else 'fails'}: {verdict.case}"))
    results = ("expected", verdict.expected), ("yours", verdict.given)
    if rows := [*verdict.inputs, *(result for result in results if result[1])]:
        parts.append(_table("the case", rows, margin="    "))
    if verdict.where and not first:
        parts.append(_paragraph(verdict.where))
    if verdict.thumbnails:
        parts.append(("", _gallery(verdict.thumbnails)))
    if verdict.printed.strip():
        printed = verdict.printed.rstrip("\n")
        parts += [_paragraph("Your code printed:"), _preformatted(printed, margin="    | ")]
    parts += map(_paragraph, notes)
    if not verdict.passed:
        parts += _hints(exercise, hints)
    return _card(verdict.status, f"Exercise {exercise.id} · {exercise.title}: {SAID[verdict.status]}", parts)


def hint_card(exercise: Exercise, shown: int) -> Card:
    """Hint number `shown`, counted from 1, with those before it."""
    title = f"Exercise {exercise.id} · hint {shown} of {len(exercise.hints)}"
    more = f'`hint("{exercise.id}")` gives the next.' if shown < len(exercise.hints) else "That was the last."
    return _card("hint", title, [*_hints(exercise, shown), _paragraph(more)])


def _hints(exercise: Exercise, taken: int) -> list[Part]:
    """Those that were taken, open; each of the others is folded into the one before it."""
    total = len(exercise.hints)
    named = [(f"Hint {place} of {total}", hint) for place, hint in enumerate(exercise.hints, 1)]
    rest: list[Part] = []
    for name, hint in reversed(named[taken:]):
        rest = [_folded(name, [_paragraph(hint), *rest])]
    return [*(_paragraph(f"{name}: {hint}") for name, hint in named[:taken]), *rest]


def _folded(name: str, parts: Sequence[Part]) -> Part:
    """What a click opens, with no script and no kernel, in every notebook and exported page; not in text."""
    inside = "".join(html for _, html in parts)
    style = 'style="cursor:pointer"'
    return "", f'<details style="margin:6px 0"><summary {style}>{escape(name)}</summary>{inside}</details>'


def progress_card(
    lessons: Sequence[tuple[str, int, int]], rows: Sequence[Sequence[str]], *notes: str
) -> Card:
    """The table of progress.

    Args:
        lessons: (lesson, passed, exercises).
        rows: (id, title, status, checks, hints) of the exercises to list.
        notes: sentences below, such as where it is kept.
    """
    done, total = sum(passed for _, passed, _ in lessons), sum(count for _, _, count in lessons)
    parts = [_paragraph(" · ".join(f"lesson {name}: {passed} of {count}" for name, passed, count in lessons))]
    if rows:
        signed = [(*row[:2], f"{SIGNS.get(row[2], '○')} {row[2]}", *row[3:]) for row in rows]
        head = ("exercise", "title", "status", "checks", "hints")
        parts.append(_table("exercises", signed, head, margin="  "))
    kind = "passed" if done == total else "not attempted"
    return _card(kind, f"{done} of {total} exercises passed", [*parts, *map(_paragraph, notes)])


def wrapped(text: str) -> str:
    """A paragraph of the width of a terminal, set in by two."""
    return "\n".join(
        wrap(
            text,
            WIDTH,
            initial_indent="  ",
            subsequent_indent="  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    )


# Pieces --------------------------------------------------------------------------------------------


def _card(kind: str, title: str, parts: Sequence[Part]) -> Card:
    html = (
        f'<div role="group" aria-label="{escape(title)}" style="border:1px solid {COLOURS[kind]};'
        f"border-left:6px solid {COLOURS[kind]};border-radius:4px;padding:8px 14px;margin:4px 0;"
        'max-width:52em;line-height:1.45">'
        f'<p style="margin:2px 0"><strong>{SIGNS[kind]} {escape(title)}</strong></p>'
    )
    text = [f"{SIGNS[kind]} {title}", *(text for text, _ in parts if text)]
    return Card("\n".join(text), html + "".join(part for _, part in parts) + "</div>")


def _paragraph(text: str) -> Part:
    """A paragraph, with `code` in backquotes and *stressed words*."""
    pieces = escape(text).split("`")
    if len(pieces) % 2 == 0:  # an odd backquote, in a message of the student's own
        pieces = [escape(text)]
    marked = "".join(f"<code>{piece}</code>" if place % 2 else piece for place, piece in enumerate(pieces))
    return wrapped(text), f'<p style="margin:6px 0">{emphasised(marked)}</p>'


def _preformatted(text: str, margin: str = "    ") -> Part:
    style = "margin:6px 0;padding-left:12px;white-space:pre-wrap;font-family:monospace"
    return indent(text, margin), f'<pre style="{style}">{escape(text)}</pre>'


def _table(name: str, rows: Sequence[Sequence[str]], head: Sequence[str] = (), margin: str = "") -> Part:
    lines = [head, *rows] if head else rows
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
    style = f'style="{CELL};white-space:nowrap"' if head else f'style="{CELL}"'
    top = "".join(f'<th scope="col" {style}>{escape(cell)}</th>' for cell in head)
    body = "".join(
        f'<tr style="background:none"><th scope="row" {style}>{escape(first)}</th>'
        + "".join(f"<td {style}>{escape(cell)}</td>" for cell in others)
        + "</tr>"
        for first, *others in rows
    )
    table = f'<table aria-label="{name}" style="border-collapse:collapse;margin:6px 0;font-size:inherit">'
    return indent("\n".join(text), margin), f"{table}{f'<tr>{top}</tr>' if top else ''}{body}</table>"


def _gallery(thumbnails: Sequence[Thumbnail]) -> str:
    shown = "".join(
        '<figure style="display:inline-block;margin:4px 14px 4px 0;text-align:center">'
        f"{image_tag(each.png, each.alt, 'width:112px;image-rendering:pixelated;border:1px solid #888')}"
        f"<figcaption>{escape(each.label)}</figcaption></figure>"
        for each in thumbnails
    )
    return f'<div style="margin:4px 0">{shown}</div>'
