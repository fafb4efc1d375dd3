"""grades.csv and gradebook.csv for a spreadsheet, grades.json for programs."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from diffusion_lessons.course.grading.counting import ABSENT
from diffusion_lessons.course.grading.grade import Graded
from diffusion_lessons.course.grading.intake.identify import Submission

COLUMNS = ["student", "lesson", "exercise", "status", "kind", "misconception", "points", "of", "counts"]
COLUMNS += ["late", "id", "section", "message", "comment", "flags", "notes", "file"]


def table(graded: Graded) -> Iterator[dict[str, Any]]:
    """A row for each student and exercise, and below them the total of the notebook."""
    for each in graded.by_student():
        same = {"lesson": each.lesson, "file": each.path, "counts": each.counts} | _whose(each)
        for row in each.rows:
            texts = {"flags": "; ".join(row.flags), "notes": " ".join(row.notes)}
            yield row.to_json() | same | texts | graded.points.score(row)._asdict()
        yield same | {
            "exercise": "total",
            "status": status(each),
            "message": each.problem,
            "notes": " ".join(each.notes),
            **graded.points.score(*each.rows)._asdict(),
        }


def _whose(each: Submission) -> dict[str, Any]:
    student = each.student
    return {"student": student.name, "id": student.id, "section": student.section, "late": each.late}


def status(each: Submission) -> str:
    """What became of a notebook, in words."""
    if each.problem:
        return "not handed in" if each.problem == ABSENT else "not marked"
    return f"{each.passed} of {len(each.rows)} passed"


def as_csv(graded: Graded) -> str:
    """The table for a spreadsheet."""
    return _sheet(COLUMNS, table(graded))


def gradebook(graded: Graded) -> str:
    """A row for each student with the points of each lesson, for the import into a platform's gradebook.

    What nobody handed in, or nobody could mark, is empty. In the order of the roster, where there is one.
    """
    counting = [each for each in graded.submissions if each.counts and each.rows]
    lessons = sorted({each.lesson for each in counting})
    rows = []
    for student in graded.students():
        mine = {each.lesson: each for each in counting if each.student.key == student.key}
        points = {lesson: graded.points.score(*each.rows).points for lesson, each in mine.items()}
        rows.append(
            {"id": student.id, "name": student.name, "section": student.section}
            | {f"lesson {lesson}": points.get(lesson, "") for lesson in lessons}
            | {
                "total": sum(points.values()) if mine else "",
                "late": any(each.late for each in mine.values()),
            }
        )
    return _sheet(["id", "name", "section", *(f"lesson {each}" for each in lessons), "total", "late"], rows)


def _sheet(columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> str:
    """CSV for a spreadsheet; a text that it would take for a formula is quoted."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(row.get(name, "")) for name in columns])
    return "\ufeff" + buffer.getvalue()  # the mark by which a spreadsheet knows UTF-8


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float | int):
        return f"{value:.6g}"
    text = " ".join(str(value).split())
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text


def as_json(graded: Graded) -> str:
    """All that is known, the answers included."""
    score = graded.points.score
    submissions = [
        {
            "lesson": each.lesson,
            "file": each.path,
            "counts": each.counts,
            "problem": each.problem,
            "notes": each.notes,
            **_whose(each),
            **score(*each.rows)._asdict(),
            "exercises": [row.to_json() | score(row)._asdict() for row in each.rows],
        }
        for each in graded.submissions
    ]
    whole = {"seed": graded.seed, "count": graded.count, "submissions": submissions}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"
