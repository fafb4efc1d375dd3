"""report.html: one file, no script, nothing loaded; all that a student wrote is escaped."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from html import escape

from diffusion_lessons.course.grading.grade import Graded
from diffusion_lessons.course.grading.results.points import Points
from diffusion_lessons.course.grading.results.rows import Marked, Row
from diffusion_lessons.course.lessons import entries
from diffusion_lessons.course.student.cards import COLOURS, SIGNS

MOST = 3  # misconceptions of an exercise in the overview
STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 70em; margin: 2em auto; padding: 0 1em }
table { border-collapse: collapse; margin: 1em 0 }
th, td { text-align: left; vertical-align: top; padding: .25em 1em .25em 0; border-bottom: 1px solid #8884 }
td.number, th.number { text-align: right; white-space: nowrap }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #8881; padding: .5em 1em; margin: .5em 0 }
section { margin: 2em 0 }
article { border-left: 5px solid #7a7a7a; padding: .1em 1em; margin: 1em 0 }
h2, h3, h4, p { overflow-wrap: anywhere; margin: .5em 0 }
.flag { border: 1px solid #b00020; border-radius: 4px; padding: 0 .4em }
.quiet { opacity: .75 }
""" + "".join(
    f"article.{name.replace(' ', '-')} {{ border-color: {colour} }}\n" for name, colour in COLOURS.items()
)
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def page(graded: Graded) -> str:
    """The whole report."""
    marked = sorted(graded.marked, key=lambda each: (each.student.casefold(), each.lesson, each.path))
    students = list(dict.fromkeys(each.student for each in marked))
    links = ", ".join(f'<a href="#s{i}">{escape(name)}</a>' for i, name in enumerate(students))
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8"><title>Grades</title>',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<style>{STYLE}</style></head><body>",
        "<h1>Grades</h1>",
        f"<p>{len(students)} students, {len(marked)} notebooks; cases of seed {graded.seed}.</p>",
        *_overview(marked, graded.points),
        f"<nav aria-label='students'><p>{links}</p></nav>",
    ]
    for i, name in enumerate(students):
        inside = [_notebook(each, graded.points) for each in marked if each.student == name]
        parts.append(f'<section id="s{i}"><h2>{escape(name)}</h2>{"".join(inside)}</section>')
    return "\n".join([*parts, "</body></html>"]) + "\n"


def _overview(marked: Iterable[Marked], points: Points) -> list[str]:
    lessons: defaultdict[str, list[Marked]] = defaultdict(list)
    troubled = []
    for each in marked:
        if each.problem:
            troubled.append(each)
        elif each.counts:
            lessons[each.lesson].append(each)
    parts = []
    for lesson in sorted(lessons):
        title = entries()[lesson].title if lesson in entries() else ""
        parts.append(f"<h2>Lesson {escape(lesson)} · {escape(title)}</h2>" + _class(lessons[lesson], points))
    if troubled:
        rows = [(escape(each.student), escape(each.path), escape(each.problem)) for each in troubled]
        parts.append("<h2>Not marked</h2>" + _table(("student", "file", "why"), rows, ()))
    flagged = [(each, row) for each in marked for row in each.rows if row.flags]
    if flagged:
        rows = [
            (escape(each.student), escape(row.exercise), escape("; ".join(row.flags)))
            for each, row in flagged
        ]
        parts.append("<h2>To look at</h2>" + _table(("student", "exercise", "what was seen"), rows, ()))
    return parts


def _class(marked: list[Marked], points: Points) -> str:
    by_exercise: defaultdict[str, list[Row]] = defaultdict(list)
    for each in marked:
        for row in each.rows:
            by_exercise[row.exercise].append(row)
    rows = []
    for id, members in by_exercise.items():
        count = Counter(row.status for row in members)
        rows.append(
            (
                f"{escape(id)} {escape(members[0].title)}",
                *(str(count[status]) for status in ("passed", "wrong", "not attempted")),
                f"{sum(map(points.of, members)) / len(members):.3g} of {points.most(members[0]):g}",
                "<br>".join(_frequent(members)),
            )
        )
    head = ("exercise", "passed", "wrong", "not attempted", "mean points", "most frequent mistakes")
    total = sum(sum(map(points.of, each.rows)) for each in marked) / len(marked)
    most = sum(map(points.most, marked[0].rows))
    said = f"<p>{len(marked)} notebooks, on average {total:.3g} of {most:g} points.</p>"
    return said + _table(head, rows, (1, 2, 3, 4))


def _frequent(rows: list[Row]) -> list[str]:
    """The misconceptions met most often, with their sentences; other kinds of wrong answers by kind."""
    wrong = [row for row in rows if row.status == "wrong"]
    names = Counter(row.misconception or row.kind for row in wrong)
    sentences = {row.misconception: row.message for row in wrong if row.misconception}
    return [
        f"{count} × <b>{escape(name)}</b>"
        + (f' <span class="quiet">{escape(sentences[name])}</span>' if name in sentences else "")
        for name, count in sorted(names.items(), key=lambda each: (-each[1], each[0]))[:MOST]
    ]


def _notebook(marked: Marked, points: Points) -> str:
    got, most = sum(map(points.of, marked.rows)), sum(map(points.most, marked.rows))
    title = f"Lesson {marked.lesson}: {got:g} of {most:g} points" if marked.rows else "Not marked"
    parts = [f'<h3>{escape(title)}</h3><p class="quiet">{escape(marked.path)}</p>']
    parts += [f"<p>{escape(text)}</p>" for text in filter(None, (marked.problem, *marked.notes))]
    return "".join(parts + [_row(row, points) for row in marked.rows])


def _row(row: Row, points: Points) -> str:
    head = f"{SIGNS[row.status]} {row.exercise} {row.title}: {row.status}"
    head += f" ({points.of(row):g} of {points.most(row):g})"
    parts = [f'<article class="{row.status.replace(" ", "-")}"><h4>{escape(head)}</h4>']
    parts += [f'<p><span class="flag">look at it</span> {escape(flag)}</p>' for flag in row.flags]
    parts.append(f"<p>{escape(row.message)}</p>")
    if row.misconception:
        parts.append(f'<p class="quiet">misconception: {escape(row.misconception)}</p>')
    parts += [f'<p class="quiet">{escape(note)}</p>' for note in row.notes]
    if row.details:
        parts.append(
            f"<details><summary>where it differs</summary><pre>{escape(row.details)}</pre></details>"
        )
    if row.answer:
        shown = " open" if row.status == "wrong" else ""
        parts.append(
            f"<details{shown}><summary>the answer</summary><pre>{escape(row.answer)}</pre></details>"
        )
    return "".join([*parts, "</article>"])


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]], numbers: tuple[int, ...]) -> str:
    """A table of cells that are HTML already."""

    def kind(column: int) -> str:
        return ' class="number"' if column in numbers else ""

    top = "".join(f'<th scope="col"{kind(i)}>{escape(name)}</th>' for i, name in enumerate(head))
    body = "".join(
        "<tr>" + "".join(f"<td{kind(i)}>{cell}</td>" for i, cell in enumerate(row)) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
