"""grades.csv for a spreadsheet, grades.json for programs."""

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

from diffusion_lessons.course.grading.grade import Graded

COLUMNS = (
    "student",
    "lesson",
    "exercise",
    "status",
    "kind",
    "misconception",
    "points",
    "of",
    "counts",
    "message",
    "flags",
    "notes",
    "file",
)


def table(graded: Graded) -> Iterator[dict[str, Any]]:
    """A row for each student and exercise, and below them the total of the notebook."""
    points = graded.points
    for each in sorted(graded.marked, key=lambda each: (each.student.casefold(), each.lesson, each.path)):
        same = {"student": each.student, "lesson": each.lesson, "file": each.path, "counts": each.counts}
        for row in each.rows:
            yield same | {
                "exercise": row.exercise,
                "status": row.status,
                "kind": row.kind,
                "misconception": row.misconception,
                "points": points.of(row),
                "of": points.most(row),
                "message": row.message,
                "flags": "; ".join(row.flags),
                "notes": " ".join(row.notes),
            }
        yield same | {
            "exercise": "total",
            "status": "not marked" if each.problem else f"{each.passed} of {len(each.rows)} passed",
            "kind": "",
            "misconception": "",
            "points": sum(map(points.of, each.rows)),
            "of": sum(map(points.most, each.rows)),
            "message": each.problem,
            "flags": "",
            "notes": " ".join(each.notes),
        }


def as_csv(graded: Graded) -> str:
    """The table for a spreadsheet; a text that a spreadsheet would take for a formula is quoted."""
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\r\n")
    writer.writeheader()
    for row in table(graded):
        words = {"counts": "yes" if row["counts"] else "no"}
        words |= {name: _number(row[name]) for name in ("points", "of")}
        writer.writerow({**{name: _harmless(row[name]) for name in COLUMNS}, **words})
    return "\ufeff" + buffer.getvalue()  # the mark by which a spreadsheet knows UTF-8


def _number(value: float) -> str:
    return f"{value:.6g}"


def _harmless(value: Any) -> str:
    text = " ".join(str(value).split())
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text


def as_json(graded: Graded) -> str:
    """All that is known, the answers included."""
    marked = [
        {
            "student": each.student,
            "lesson": each.lesson,
            "file": each.path,
            "counts": each.counts,
            "problem": each.problem,
            "notes": list(each.notes),
            "points": sum(map(graded.points.of, each.rows)),
            "of": sum(map(graded.points.most, each.rows)),
            "exercises": [
                row.to_json() | {"points": graded.points.of(row), "of": graded.points.most(row)}
                for row in each.rows
            ],
        }
        for each in graded.marked
    ]
    whole = {"seed": graded.seed, "submissions": marked}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"
