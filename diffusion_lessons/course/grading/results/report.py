"""The report's folder, and the counts that the command ends with."""

from pathlib import Path
from typing import Any

from diffusion_lessons.course.grading.grade import Graded
from diffusion_lessons.course.grading.results import feedback, tables
from diffusion_lessons.course.grading.results.page import page
from diffusion_lessons.support.files import atomic_write


def write(graded: Graded, out: Path) -> list[Path]:
    """grades.csv, grades.json, report.html and a feedback copy of each notebook."""
    files = []
    for name, text in (
        ("grades.csv", tables.as_csv(graded)),
        ("grades.json", tables.as_json(graded)),
        ("report.html", page(graded)),
    ):
        with atomic_write(out / name) as partial:
            partial.write_bytes(text.encode("utf-8"))
        files.append(out / name)
    if feedback.write(graded, out / "feedback"):
        files.append(out / "feedback")
    return files


def facts(graded: Graded) -> dict[str, Any]:
    """Counts, for programs."""
    rows = [row for each in graded.submissions for row in each.rows]
    return {
        "submissions": len(graded.submissions),
        "not marked": sum(bool(each.problem) for each in graded.submissions),
        "exercises": len(rows),
        "passed": sum(row.status == "passed" for row in rows),
        "limited": sum(row.limited for row in rows),
        "flagged": sum(bool(row.flags) for row in rows),
        "protection": vars(graded.protection) if graded.protection else None,
    }


def words(graded: Graded) -> str:
    """Counts, for people."""
    counts = facts(graded)
    parts = (
        ("submissions", "submissions, {passed} of {exercises} exercises passed"),
        ("not marked", "not marked (see the report)"),
        ("flagged", "answers to look at"),
        ("limited", "stopped at a limit: --again timeouts runs them alone"),
    )
    return "; ".join(
        f"{counts[name]} {text.format(**counts)}"
        for name, text in parts
        if counts[name] or name == "submissions"
    )
