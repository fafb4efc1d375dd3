"""What the grader knows of one exercise of one notebook at the end."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from diffusion_lessons.course.exercises.exercise import Exercise
from diffusion_lessons.course.exercises.verdict import Verdict
from diffusion_lessons.course.grading.marks.kinds import explained

MAX_TEXT = 2_000
ADDRESS = re.compile(r"\b0x[0-9a-f]{5,}\b")
LIMITS = ("timeout", "memory", "disk", "processes", "grader")  # kinds that another machine might not see


@dataclass(frozen=True)
class Row:
    """One exercise of one notebook.

    `kind` is one of `kinds.KINDS`.
    """

    exercise: str
    title: str
    status: str  # "passed", "not attempted" or "wrong"
    kind: str
    message: str  # the sentence
    misconception: str = ""  # the name of the one that explains every case
    details: str = ""  # where and how the result differs
    answer: str = ""  # the student's code
    cell: int | None = None  # its place in the notebook, from 0; None where there is none
    flags: tuple[str, ...] = ()  # what the instructor should look at, "calls the reference: …"
    notes: tuple[str, ...] = ()  # what else was seen
    given: float | None = None  # points that the instructor gave by hand
    comment: str = ""  # the instructor's

    @property
    def limited(self) -> bool:
        """A limit ended it."""
        return self.kind in LIMITS

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Row":
        return cls(**{**stored, "flags": tuple(stored["flags"]), "notes": tuple(stored["notes"])})


def row(exercise: Exercise, verdict: Verdict, answer: Mapping[str, Any] | None = None) -> Row:
    """The row of a verdict on an answer, which the plan describes."""
    lines = [f"line {line}, in {function}: {text}" for line, text, function in verdict.frames]
    facts = [("expected", verdict.expected), ("given", verdict.given)]
    lines += [f"{name}: {text}" for name, text in facts if text] + ([verdict.where] if verdict.where else [])
    if verdict.case and lines:
        lines.insert(0, f"case: {verdict.case}")
    if verdict.printed.strip() and verdict.status == "wrong":
        lines.append(f"printed: {verdict.printed.strip()}")
    return Row(
        exercise.id,
        exercise.title,
        verdict.status,
        verdict.kind if explained(verdict.kind) else "forged",  # a submission may make up its failure
        steady(verdict.message),
        verdict.misconception or "",
        steady("\n".join(lines)),
        answer["text"] if answer else "",
        answer["place"][0] if answer else None,
    )


def steady(text: str) -> str:
    """A text cut to size, the same in every run: addresses in memory are left out."""
    text = ADDRESS.sub("0x…", text).encode("utf-8", "replace").decode()
    return text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + " …"
