"""report.html: the class with its most frequent mistakes, then each student's answers and verdicts."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, Template

from diffusion_lessons.course.grading.grade import Graded
from diffusion_lessons.course.grading.intake.identify import Submission
from diffusion_lessons.course.grading.marks.points import Points
from diffusion_lessons.course.grading.marks.rows import Row
from diffusion_lessons.course.lessons import entries
from diffusion_lessons.course.student.cards import COLOURS, SIGNS

MOST = 3  # misconceptions of an exercise in the overview
HTML = Path(__file__).parent / "report.html.jinja"


def page(graded: Graded) -> str:
    """The whole report."""
    ordered = graded.by_student()
    students: defaultdict[str, list[Submission]] = defaultdict(list)
    lessons: defaultdict[str, list[Submission]] = defaultdict(list)
    for each in ordered:
        students[each.student].append(each)
        if each.counts and not each.problem:
            lessons[each.lesson].append(each)
    troubled = [(each.student, each.path, each.problem) for each in ordered if each.problem]
    rows = [(each.student, row) for each in ordered for row in each.rows]
    flagged = [(student, row.exercise, "; ".join(row.flags)) for student, row in rows if row.flags]
    text = HTML.read_text(encoding="utf-8")
    template = Template(text, autoescape=True, trim_blocks=True, undefined=StrictUndefined)
    whole = template.render(
        count=len(ordered),
        seed=graded.seed,
        lessons=[_lesson(number, lessons[number], graded.points) for number in sorted(lessons)],
        lists=[
            ("Not marked", ("student", "file", "why"), troubled),
            ("To look at", ("student", "exercise", "what was seen"), flagged),
        ],
        students=students,
        points=graded.points,
        signs=SIGNS,
        colours=COLOURS,
    )
    return whole + "\n"


def _lesson(number: str, submissions: Sequence[Submission], points: Points) -> dict[str, Any]:
    by_exercise: defaultdict[str, list[Row]] = defaultdict(list)
    for each in submissions:
        for row in each.rows:
            by_exercise[row.exercise].append(row)
    return {
        "number": number,
        "title": entries()[number].title if number in entries() else "",
        "count": len(submissions),
        "mean": _mean(points, [each.rows for each in submissions]),
        "exercises": [
            {
                "name": f"{id} {rows[0].title}",
                "statuses": Counter(row.status for row in rows),
                "mean": _mean(points, [(row,) for row in rows]),
                "mistakes": _mistakes(rows),
            }
            for id, rows in by_exercise.items()
        ],
    }


def _mean(points: Points, parts: Sequence[Sequence[Row]]) -> str:
    scores = [points.score(*rows) for rows in parts]
    return f"{sum(score.points for score in scores) / len(scores):.3g} of {scores[0].of:g}"


def _mistakes(rows: Sequence[Row]) -> list[tuple[int, str, str]]:
    """The misconceptions met most often, with their sentences; other kinds of wrong answers by kind."""
    wrong = [row for row in rows if row.status == "wrong"]
    names = Counter(row.misconception or row.kind for row in wrong)
    sentences = {row.misconception: row.message for row in wrong if row.misconception}
    ranked = sorted(names.items(), key=lambda each: (-each[1], each[0]))
    return [(count, name, sentences.get(name, "")) for name, count in ranked[:MOST]]
