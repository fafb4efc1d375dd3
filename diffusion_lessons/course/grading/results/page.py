"""report.html: the class with its most frequent mistakes, then each student's answers and verdicts."""

from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import StrictUndefined, Template

from diffusion_lessons.course.grading.counting import ABSENT
from diffusion_lessons.course.grading.grade import Graded
from diffusion_lessons.course.grading.intake.identify import Submission
from diffusion_lessons.course.grading.marks.kinds import KINDS
from diffusion_lessons.course.grading.marks.points import Points
from diffusion_lessons.course.grading.marks.rows import Row
from diffusion_lessons.course.grading.results.tables import status
from diffusion_lessons.course.grading.roster import label
from diffusion_lessons.course.lessons import entries
from diffusion_lessons.course.student.cards import COLOURS, SIGNS

MOST = 3  # misconceptions of an exercise in the overview
HTML = Path(__file__).parent / "report.html.jinja"


class Answer(NamedTuple):
    """One row, whose it is and where it stands in the page."""

    name: str
    anchor: str
    row: Row


class Person(NamedTuple):
    """A student's part of the page."""

    name: str
    anchor: str
    work: list[tuple[Submission, list[Answer]]]


def page(graded: Graded) -> str:
    """The whole report."""
    handed_in: defaultdict[str, list[Submission]] = defaultdict(list)
    for each in graded.by_student():
        handed_in[each.student.key].append(each)
    people = [
        Person(name := label(student), f"s{i}", [
            (each, [Answer(name, f"s{i}-{k}-{row.exercise}", row) for row in each.rows])
            for k, each in enumerate(handed_in[student.key])
        ])
        for i, student in enumerate(graded.students())
    ]  # fmt: skip
    work = [mine for person in people for mine in person.work]
    numbers = sorted({each.lesson for each, rows in work if rows and each.counts})
    flagged = [(one, one.row) for _, rows in work for one in rows if one.row.flags]
    anchors = {student.key: f"s{i}" for i, student in enumerate(graded.students())}
    lists = [
        ("One student, several places", ("student", "places", "why"), [
            (label(each.student), "", (", ".join(each.paths), each.why)) for each in graded.merges
        ]),
        ("Nothing handed in", ("student",), [(label(each), "", ()) for each in graded.missing()]),
        ("Not on the roster", ("student",), [(label(each), "", ()) for each in graded.strangers()]),
        ("Not marked", ("student", "file", "why"), [
            (label(each.student), anchors.get(each.student.key, ""), (each.path, each.problem))
            for each in graded.by_student()
            if each.problem and each.problem != ABSENT
        ]),
        ("Answers to look at", ("student", "exercise", "what was seen"), [
            (one.name, one.anchor, (row.exercise, "; ".join(row.flags)))
            for one, row in sorted(flagged, key=lambda each: each[1].exercise)
        ]),
    ]  # fmt: skip
    whole = _template().render(
        graded=graded,
        files=sum(bool(each.path) for each in graded.submissions),
        lessons=[_lesson(number, people, graded.points) for number in numbers],
        lists=lists,
        people=people,
        status=status,
        kinds=KINDS,
        signs=SIGNS,
        colours=COLOURS,
    )
    return whole + "\n"


@cache
def _template() -> Template:
    text = HTML.read_text(encoding="utf-8")
    return Template(text, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)


def _lesson(number: str, people: Sequence[Person], points: Points) -> dict[str, Any]:
    """A lesson's numbers: those of each exercise, and a line for each student."""
    counting = {
        person.anchor: rows
        for person in people
        for each, rows in person.work
        if rows and each.counts and each.lesson == number
    }
    by_exercise: defaultdict[str, list[Answer]] = defaultdict(list)
    for rows in counting.values():
        for one in rows:
            by_exercise[one.row.exercise].append(one)
    return {
        "number": number,
        "title": entries()[number].title if number in entries() else "",
        "count": len(counting),
        "mean": _mean(points, list(counting.values())),
        "exercises": [
            {
                "id": id,
                "name": f"{id} {rows[0].row.title}",
                "statuses": {name: [one for one in rows if one.row.status == name] for name in KINDS},
                "mean": _mean(points, [[one] for one in rows]),
                "mistakes": _mistakes(rows),
            }
            for id, rows in by_exercise.items()
        ],
        "matrix": [(person, counting.get(person.anchor, ())) for person in people],
    }


def _mean(points: Points, parts: Sequence[Sequence[Answer]]) -> str:
    scores = [points.score(*(one.row for one in part)) for part in parts]
    return f"{sum(score.points for score in scores) / len(scores):.3g} of {scores[0].of:g}"


def _mistakes(rows: Sequence[Answer]) -> list[tuple[str, str, str, list[Answer]]]:
    """The mistakes met most often: name, kind, the sentence of a misconception, and whose they are."""
    made: defaultdict[tuple[str, str], list[Answer]] = defaultdict(list)
    for one in rows:
        if one.row.status == "wrong":
            made[one.row.misconception or one.row.kind, one.row.kind].append(one)
    ranked = sorted(made.items(), key=lambda each: (-len(each[1]), each[0]))[:MOST]
    return [
        (name, kind, whose[0].row.message if name != kind else "", whose) for (name, kind), whose in ranked
    ]
