"""The grade command: what was typed into what `grade` takes, and what it found into files."""

import re
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from diffusion_lessons.course.grading.grade import Graded, grade
from diffusion_lessons.course.grading.results import feedback, tables
from diffusion_lessons.course.grading.results.page import page
from diffusion_lessons.course.grading.results.points import load
from diffusion_lessons.course.grading.sandbox.watch import Limits
from diffusion_lessons.support.files import whole, writable

UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
LEAST = 64 * 2**20  # bytes: below this hardly any tensor can be made


def run(
    folders: Sequence[Path],
    out: Path,
    jobs: int,
    points: Path | None,
    timeout: float,
    memory: str,
    seed: int,
    lesson: str | None,
    again: Collection[str],
    bar: bool,
) -> tuple[dict[str, Any], str, list[Path]]:
    """Grade and write the report; (facts, words, files) for the end of the command.

    Raises:
        ValueError: whatever was typed wrong, in one line.
    """
    if not folders:
        raise ValueError("nothing to grade: give the folder, archive or notebooks that were handed in")
    if not 0 < timeout < float("inf"):
        raise ValueError(f"--timeout is a number of seconds above 0, got {timeout:g}")
    limits = Limits(timeout, size(memory))
    worth = load(points)
    writable(out)
    graded = grade(folders, out, jobs, worth, limits, seed, lesson, again, _tell, bar)
    return facts(graded), words(graded), write(graded, out)


def _tell(line: str) -> None:
    print(line, file=sys.stderr)


def size(text: str) -> int:
    """Bytes in "4G", "500M" or plain.

    Raises:
        ValueError: it is none, or too little to run anything.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)i?B?", text.strip(), re.IGNORECASE)
    if not found:
        raise ValueError(f"--memory is a size such as 4G or 500M, got {text!r}")
    bytes = int(float(found[1]) * UNITS[found[2].upper()])
    if bytes < LEAST:
        raise ValueError(f"--memory is at least {LEAST // 2**20}M, got {text!r}")
    return bytes


def write(graded: Graded, out: Path) -> list[Path]:
    """grades.csv, grades.json, report.html and a feedback copy of each notebook."""
    texts = {
        "grades.csv": tables.as_csv(graded),
        "grades.json": tables.as_json(graded),
        "report.html": page(graded),
    }
    files = []
    for name, text in texts.items():
        with whole(out / name) as partial:
            partial.write_bytes(text.encode("utf-8"))
        files.append(out / name)
    if feedback.write(graded, out / "feedback"):
        files.append(out / "feedback")
    return files


def facts(graded: Graded) -> dict[str, Any]:
    """Counts, for programs."""
    rows = [row for each in graded.marked for row in each.rows]
    return {
        "submissions": len(graded.marked),
        "not marked": sum(bool(each.problem) for each in graded.marked),
        "exercises": len(rows),
        "passed": sum(row.status == "passed" for row in rows),
        "limited": sum(row.limited for row in rows),
        "flagged": sum(bool(row.flags) for row in rows),
        "protection": graded.protection.to_json() if graded.protection else None,
    }


def words(graded: Graded) -> str:
    """Counts, for people."""
    counts = facts(graded)
    parts = [
        f"{counts['submissions']} submissions, {counts['passed']} of {counts['exercises']} exercises passed"
    ]
    if counts["not marked"]:
        parts.append(f"{counts['not marked']} not marked (see the report)")
    if counts["flagged"]:
        parts.append(f"{counts['flagged']} answers to look at")
    if counts["limited"]:
        parts.append(f"{counts['limited']} stopped at a limit: --again timeouts runs them alone")
    return "; ".join(parts)
