"""grades.csv for a spreadsheet, grades.json for programs."""

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

from diffusion_lessons.course.grading.grade import Graded

COLUMNS = ["student", "lesson", "exercise", "status", "kind", "misconception", "points", "of", "counts"]
COLUMNS += ["message", "flags", "notes", "file"]


def table(graded: Graded) -> Iterator[dict[str, Any]]:
    """A row for each student and exercise, and below them the total of the notebook."""
    for each in graded.by_student():
        same = {"student": each.student, "lesson": each.lesson, "file": each.path, "counts": each.counts}
        for row in each.rows:
            texts = {"flags": "; ".join(row.flags), "notes": " ".join(row.notes)}
            yield row.to_json() | same | texts | graded.points.score(row)._asdict()
        yield same | {
            "exercise": "total",
            "status": "not marked" if each.problem else f"{each.passed} of {len(each.rows)} passed",
            "message": each.problem,
            "notes": " ".join(each.notes),
            **graded.points.score(*each.rows)._asdict(),
        }


def as_csv(graded: Graded) -> str:
    """The table for a spreadsheet; a text that a spreadsheet would take for a formula is quoted."""
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\r\n")
    writer.writeheader()
    for row in table(graded):
        words = {"counts": "yes" if row["counts"] else "no"}
        words |= {name: f"{row[name]:.6g}" for name in ("points", "of")}
        writer.writerow({name: words.get(name) or _harmless(row.get(name, "")) for name in COLUMNS})
    return "\ufeff" + buffer.getvalue()  # the mark by which a spreadsheet knows UTF-8


def _harmless(value: Any) -> str:
    text = " ".join(str(value).split())
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text


def as_json(graded: Graded) -> str:
    """All that is known, the answers included."""
    score = graded.points.score
    submissions = [
        {
            "student": each.student,
            "lesson": each.lesson,
            "file": each.path,
            "counts": each.counts,
            "problem": each.problem,
            "notes": each.notes,
            **score(*each.rows)._asdict(),
            "exercises": [row.to_json() | score(row)._asdict() for row in each.rows],
        }
        for each in graded.submissions
    ]
    whole = {"seed": graded.seed, "submissions": submissions}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"
