"""A copy of each notebook with the verdicts below the answers, for the student."""

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath

from diffusion_lessons.course.grading.counting import NOWHERE
from diffusion_lessons.course.grading.grade import Graded
from diffusion_lessons.course.grading.intake.archives import close_archives
from diffusion_lessons.course.grading.intake.identify import Submission
from diffusion_lessons.course.grading.intake.notebook import with_notes
from diffusion_lessons.course.grading.marks.points import Points
from diffusion_lessons.course.grading.marks.rows import Row
from diffusion_lessons.course.grading.marks.store import FOLDER
from diffusion_lessons.course.grading.results.writing import put
from diffusion_lessons.course.student.cards import SIGNS

LONGEST = 120  # bytes of a name, of which file systems take 255, and Windows 260 for a whole path
RECORD = "feedback.json"  # beside the rows that are kept: name -> SHA-256 of what was written


def write(graded: Graded, folder: Path, tell: Callable[[str], None]) -> Graded:
    """Write a copy of every notebook that was marked; the same with a note on those that could not be.

    What this wrote before of notebooks that are gone is removed; what was changed since is kept and told.
    """
    submissions = list(graded.submissions)
    written: dict[str, str] = {}
    taken: set[str] = set()
    for i, each in enumerate(submissions):
        if not each.rows or each.found is NOWHERE:
            continue
        try:
            text = json.dumps(noted(each, graded.points), indent=1, ensure_ascii=False) + "\n"
            file = _free(each.found.path, taken)
            put(folder / file, text)
        except Exception as error:  # whatever is in it, the others get theirs
            why = f"No feedback could be written ({str(error) or type(error).__name__})."[:500]
            submissions[i] = replace(each, notes=(*each.notes, why))
        else:
            written[file.as_posix()] = _digest(folder / file)
    close_archives()
    _without_old(folder, written, tell)
    return replace(graded, submissions=tuple(submissions))


def _without_old(folder: Path, written: Mapping[str, str], tell: Callable[[str], None]) -> None:
    """Take away what an earlier run wrote, and keep in mind what this one did."""
    record = folder.parent / FOLDER / RECORD
    try:
        before = dict(json.loads(record.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        before = {}
    old = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*.ipynb")}
    gone = {name: file for name, file in old.items() if name not in written}
    for name, file in gone.items():
        if before.get(name) == _digest(file):
            file.unlink()
            for home in file.relative_to(folder).parents[:-1]:
                with suppress(OSError):  # somebody else's feedback lies there
                    (folder / home).rmdir()
    kept = sorted(name for name, file in gone.items() if file.exists())
    if removed := len(gone) - len(kept):
        tell(f"feedback of {removed} notebooks that are gone was removed")
    if kept:
        tell(f"in {folder}, but not of this run: {', '.join(kept)}")
    put(record, json.dumps(dict(written) | {name: before[name] for name in kept if name in before}))


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


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
    if row.comment:
        parts.append(f"**Your instructor says:** {row.comment}")
    if row.details:
        fence = "`" * max(3, 1 + max(map(len, re.findall("`+", row.details)), default=0))
        parts.append(f"{fence}text\n{row.details}\n{fence}")
    return "\n\n".join(parts)


def _free(path: PurePosixPath, taken: set[str]) -> Path:
    """A path that every system can write, and that no other notebook has. No folder ends in ".ipynb"."""
    parts = [re.sub(r'[<>:"\\|?*\x00-\x1f]', "_", part) for part in path.parts]
    parts = [re.sub(r"(?i)(\.ipynb(\.json|\.txt)?)+$", "", part.strip(" .")) for part in parts]
    parts = [
        part.encode("utf-8", "replace")[:LONGEST].decode("utf-8", "ignore").strip(" .") for part in parts
    ]
    *folders, stem = [part or "_" for part in parts]
    if len("/".join(folders)) > LONGEST:
        folders = [*folders[:1], *folders[1:][-1:]]
    name, number = stem, 1
    while (key := "/".join([*folders, name]).casefold()) in taken:
        number += 1
        name = f"{stem} ({number})"
    taken.add(key)
    return Path(*folders, f"{name}.ipynb")
