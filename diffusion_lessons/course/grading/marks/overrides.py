"""Marks and comments that an instructor gives by hand: overrides.csv.

```csv
student,exercise,points,comment
Ann Lee,02.1,2,"right idea, shown at the board"
4711,02.4,,see me
```
"""

import re
from dataclasses import dataclass
from pathlib import Path

from diffusion_lessons.course import bank
from diffusion_lessons.course.grading.marks import sheets
from diffusion_lessons.support.errors import unknown

NAME = "overrides.csv"  # in the report's folder: used where no other file is given, and never written
COLUMNS = {
    "student": ("student", "id", "name", "fullname", "studentid", "identifier"),
    "exercise": ("exercise",),
    "points": ("points", "mark", "score", "grade"),
    "comment": ("comment", "comments", "note", "feedback"),
}


@dataclass(frozen=True)
class Override:
    """What an instructor decided on one exercise of one student."""

    place: str  # "overrides.csv, line 3"
    student: str  # an id or a name
    exercise: str
    points: float | None  # None: the marks stay as they are
    comment: str


def load(file: Path | None, folder: Path) -> list[Override]:
    """The overrides of a file, default those that lie in the report's folder.

    A line without a student, with an exercise that does not exist or with points that are no number is a
    ValueError that names the line.
    """
    if file is None:
        file = folder / NAME
        if not file.is_file():
            return []
    known = [exercise.id for exercise in bank.exercises()]
    found = []
    for line in sheets.read(file, COLUMNS):
        if not line["student"]:
            raise ValueError(f"{line.place}: the column `student` is empty; give an id or a name")
        if (id := _id(line["exercise"])) not in known:
            raise unknown(f"exercise in {line.place}:", line["exercise"], known)
        found.append(Override(line.place, line["student"], id, _points(line), line["comment"]))
    return found


def _id(text: str) -> str:
    """The id of an exercise, also where a spreadsheet took it for a number: 2.1 or 2,1."""
    match = re.fullmatch(r"(\d{1,2})[.,](\d+)", text)
    return f"{int(match[1]):02}.{int(match[2])}" if match else text


def _points(line: sheets.Line) -> float | None:
    text = line["points"]
    if not text:
        return None
    if not re.fullmatch(r"\d{1,6}([.,]\d{1,6})?", text):
        raise ValueError(f"{line.place}: points are a number from 0 on, or empty; got {text!r}")
    return float(text.replace(",", "."))
