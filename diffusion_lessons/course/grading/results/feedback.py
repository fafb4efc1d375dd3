"""A copy of each notebook with the verdicts below the answers, for the student."""

import json
import re
from collections import defaultdict
from pathlib import Path, PurePosixPath

from diffusion_lessons.course.grading.grade import Graded
from diffusion_lessons.course.grading.intake.identify import Submission
from diffusion_lessons.course.grading.intake.notebook import NoNotebook, with_notes
from diffusion_lessons.course.grading.marks.points import Points
from diffusion_lessons.course.grading.marks.rows import Row
from diffusion_lessons.course.student.cards import SIGNS
from diffusion_lessons.support.files import atomic_write


def write(graded: Graded, folder: Path) -> list[Path]:
    """Write a copy of every notebook that was marked; where, in the order of the submissions."""
    written: list[Path] = []
    taken: set[str] = set()
    for each in graded.submissions:
        if not each.rows:
            continue
        try:
            raw = noted(each, graded.points)
        except NoNotebook:
            continue  # gone or changed since it was read
        file = folder / _free(each.found.path, taken)
        with atomic_write(file) as partial:
            partial.write_text(json.dumps(raw, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        written.append(file)
    return written


def noted(submission: Submission, points: Points) -> dict[str, object]:
    """The notebook's JSON with a cell below each answer and a summary on top; raises NoNotebook."""
    notes: defaultdict[int | None, list[str]] = defaultdict(list)
    table = ["| exercise | | points |", "|---|---|---|"]
    for row in submission.rows:
        notes[row.cell].append(note(row, points))
        title = row.title.replace("|", "\\|")
        table.append(f"| {row.exercise} {title} | {SIGNS[row.status]} {row.status} | {points.score(row)} |")
    head = f"## Feedback: {points.score(*submission.rows)} points"
    summary = "\n\n".join([head, "\n".join(table), *notes.pop(None, [])])
    below = {cell: "\n\n".join(texts) for cell, texts in notes.items() if cell is not None}
    return with_notes(submission.found.content(), below, summary)


def note(row: Row, points: Points) -> str:
    """The Markdown on one exercise."""
    head = f"**{SIGNS[row.status]} Exercise {row.exercise}: {row.status}**"
    parts = [f"{head} ({points.score(row)} points)", row.message]
    if row.details:
        fence = "`" * max(3, 1 + max(map(len, re.findall("`+", row.details)), default=0))
        parts.append(f"{fence}text\n{row.details}\n{fence}")
    return "\n\n".join(parts)


def _free(path: PurePosixPath, taken: set[str]) -> Path:
    """A path that every system can write, and that no other notebook has."""
    parts = [re.sub(r'[<>:"\\|?*\x00-\x1f]', "_", part).strip(" .")[:120] or "_" for part in path.parts]
    stem = re.sub(r"(?i)\.ipynb(\.json|\.txt)?$", "", parts[-1]) or "_"
    name, number = stem, 1
    while (key := "/".join([*parts[:-1], name]).casefold()) in taken:
        number += 1
        name = f"{stem} ({number})"
    taken.add(key)
    return Path(*parts[:-1], f"{name}.ipynb")
