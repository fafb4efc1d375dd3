"""Where the lessons of a repository lie, and what their pages depend on besides their sources."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from diffusion_lessons.course import bank
from diffusion_lessons.course.authoring import execute, render
from diffusion_lessons.course.authoring.notebook import code_digest, read_notebook, write
from diffusion_lessons.course.authoring.render import Context
from diffusion_lessons.course.authoring.source import Lesson


@dataclass(frozen=True)
class Files:
    """Where a lesson's two notebooks lie: notebooks/NN_name.ipynb and solutions/NN_name.ipynb."""

    student: Path
    solved: Path

    @classmethod
    def of(cls, lesson: Lesson, root: Path) -> "Files":
        name = f"{lesson.stem}.ipynb"
        return cls(root / "notebooks" / name, root / "solutions" / name)


def sources(root: Path, numbers: list[str] | None = None) -> list[Path]:
    """The lessons' source files, all of them or those of some numbers.

    Raises:
        ValueError: a number that no file has.
    """
    found = sorted((root / "solutions").glob("[0-9][0-9]_*.py"))
    for number in numbers or ():
        if not any(file.stem.startswith(f"{number}_") for file in found):
            there = ", ".join(file.stem for file in found) or "none"
            raise ValueError(f"no solutions/{number}_….py: there are {there}")
    return [file for file in found if not numbers or file.stem[:2] in numbers]


def bank_of(number: str) -> Mapping[str, Any]:
    """A lesson's exercises by id; empty where the bank has no file for it."""
    if number not in bank.lessons():
        return {}
    return {exercise.id: exercise for exercise in bank.exercises(number)}


def context_of(root: Path) -> Context:
    """What all lessons of a repository share."""
    return Context(
        root=root,
        repository=render.repository_address(root),
        stems=tuple(file.stem for file in sources(root)),
        timings=render.read_timings(root),
        bank=bank_of,
    )


def with_old_pictures(context: Context, files: Files) -> Context:
    """The context with the pictures of the student notebook that is there."""
    return replace(context, old=render.pictures_in(read_notebook(files.student) or {}))


def record(context: Context, lesson: Lesson, measured: execute.Measured) -> dict[str, Any]:
    """Put a run time, with what it depends on, into solutions/timings.json; returns all of that file.

    A time that was taken on a busy machine is not stated, nor is that of other code.
    """
    before, code = render.read_timings(context.root), code_digest(lesson, context)
    timings = {
        stem: at for stem, at in before.items() if stem != lesson.stem or at.get("code_sha256") == code
    }
    if not measured.busy:
        seconds = round(measured.seconds, 1)
        timings[lesson.stem] = {"seconds": seconds, "code_sha256": code, **measured.machine}
    text = json.dumps(timings, indent=1, sort_keys=True, ensure_ascii=False)
    if timings != before:
        write(context.root / "solutions" / "timings.json", text + "\n")
    return timings
