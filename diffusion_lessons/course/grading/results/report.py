"""The report's folder, and the counts that the command ends with."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from diffusion_lessons.course.grading.counting import NOWHERE
from diffusion_lessons.course.grading.grade import Graded
from diffusion_lessons.course.grading.intake.identify import Submission
from diffusion_lessons.course.grading.marks.rows import Row
from diffusion_lessons.course.grading.results import feedback, tables
from diffusion_lessons.course.grading.results.page import page
from diffusion_lessons.course.grading.results.writing import put
from diffusion_lessons.course.grading.roster import label

WRITERS: dict[str, Callable[[Graded], str]] = {
    "grades.csv": tables.as_csv,
    "gradebook.csv": tables.gradebook,
    "grades.json": tables.as_json,
    "report.html": page,
}


def write(graded: Graded, out: Path, tell: Callable[[str], None] = lambda line: None) -> list[Path]:
    """The tables, the report and a feedback copy of each notebook; `tell` gets lines for the instructor.

    Where a submission makes a writer fail, its texts are left out and its rows say so.
    """
    graded = feedback.write(graded, out / "feedback", tell)
    try:
        texts = _texts(graded)
    except Exception:
        texts = _texts(
            replace(graded, submissions=tuple(_writable(graded, each) for each in graded.submissions))
        )
    for name, text in texts.items():
        put(out / name, text)
    return [out / name for name in (*texts, "feedback") if (out / name).exists()]


def _texts(graded: Graded) -> dict[str, str]:
    return {name: writer(graded) for name, writer in WRITERS.items()}


def _writable(graded: Graded, each: Submission) -> Submission:
    try:
        _texts(replace(graded, submissions=(each,)))
    except Exception as error:
        why = f"The texts of this notebook could not be written ({type(error).__name__}: {error})."[:500]
        rows = tuple(
            Row(row.exercise, row.title, row.status, row.kind, why, given=row.given) for row in each.rows
        )
        return replace(each, rows=rows, notes=(why,))
    return each


def facts(graded: Graded) -> dict[str, Any]:
    """Counts, for programs."""
    rows = [row for each in graded.submissions for row in each.rows]
    there = [each for each in graded.submissions if each.found is not NOWHERE]
    return {
        "students": len({each.student.key for each in there if each.student.key}),
        "submissions": len(there),
        "not marked": sum(bool(each.problem) for each in there),
        "exercises": len(rows),
        "passed": sum(row.status == "passed" for row in rows),
        "limited": sum(row.limited for row in rows),
        "flagged": sum(bool(row.flags) for row in rows),
        "merges": [
            {"student": label(each.student), "paths": each.paths, "why": each.why} for each in graded.merges
        ],
        "not handed in": [label(each) for each in graded.missing()],
        "not on the roster": [label(each) for each in graded.strangers()],
        "protection": vars(graded.protection) if graded.protection else None,
    }


def words(graded: Graded) -> str:
    """Counts, and who was taken for one student or is missing, for people."""
    counts = facts(graded)
    parts = (
        ("submissions", "submissions, {passed} of {exercises} exercises passed"),
        ("not marked", "not marked (see the report)"),
        ("flagged", "answers to look at"),
        ("limited", "stopped at a limit: --again timeouts runs them alone"),
    )
    shown = [
        f"{counts[name]} {text.format(**counts)}"
        for name, text in parts
        if counts[name] or name == "submissions"
    ]
    lines = [f"{counts['students']} student{'s' * (counts['students'] != 1)}: {'; '.join(shown)}"]
    lines += [
        f"one student: {each['student']}: {', '.join(each['paths'])}. {each['why']}"
        for each in counts["merges"]
    ]
    for name in ("not handed in", "not on the roster"):
        lines += [f"{name}: {len(counts[name])} ({', '.join(counts[name])})"] if counts[name] else []
    return "\n".join(lines)
