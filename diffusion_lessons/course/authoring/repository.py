"""Where the lessons of a repository lie, and what their pages depend on besides their sources."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from diffusion_lessons.course import bank
from diffusion_lessons.course.authoring import execute, render
from diffusion_lessons.course.authoring.notebook import code_digest, read_notebook, write
from diffusion_lessons.course.authoring.render import Context
from diffusion_lessons.course.authoring.source import Lesson, header_in, text_in
from diffusion_lessons.course.lessons import UNBUILT, repository_address


def sources(root: Path, numbers: list[str] | None = None) -> list[Path]:
    """The lessons' source files, all or those of some numbers; ValueError for one that no file has."""
    found = sorted((root / "solutions").glob("[0-9][0-9]_*.py"))
    for number in numbers or ():
        if not any(file.stem.startswith(f"{number}_") for file in found):
            there = ", ".join(file.stem for file in found) or "none"
            raise ValueError(f"no solutions/{number}_….py: there are {there}")
    return [file for file in found if not numbers or file.stem[:2] in numbers]


def bank_of(number: str) -> Mapping[str, Any]:
    """A lesson's exercises by id, none where the bank has no file for it; ValueError for a broken one."""
    if number not in bank.lessons():
        return {}
    try:
        return {exercise.id: exercise for exercise in bank.exercises(number)}
    except Exception as error:
        raise ValueError(f"bank/lesson_{number}.py: {type(error).__name__}: {error}") from error


def built(root: Path) -> dict[str, str]:
    """Public names and modules of the system -> the lesson that builds them, "00" where none has to.

    A lesson says it in its header (`builds: Level, paths`). Two that say that they build the same are a
    ValueError.
    """
    says = {file.stem[:2]: header_in(text_in(file)).get("builds", "") for file in sources(root)}
    found: dict[str, str] = {}
    for number, names in (says | {"00": UNBUILT}).items():
        for name in re.findall(r"[\w.]+", names):
            if name in found:
                raise ValueError(f"lessons {found[name]} and {number} both say that they build {name}")
            found[name] = number
    return found


def context_of(root: Path) -> Context:
    """What all lessons of a repository share; ValueError or OSError where it is none or cannot be read."""
    return Context(
        root=root,
        repository=repository_address(root),
        stems=tuple(file.stem for file in sources(root)),
        timings=render.read_timings(root),
        bank=bank_of,
        built=built(root),
    )


def with_old_pictures(context: Context, lesson: Lesson) -> Context:
    """The context with the pictures of the student notebook that is there."""
    return replace(context, old=render.pictures_in(read_notebook(lesson.student) or {}))


def record(context: Context, lesson: Lesson, measured: execute.Measured) -> dict[str, Any]:
    """Put a run time, with what it depends on, into solutions/timings.json; returns all of that file.

    A time that was taken on a busy machine is not stated, nor is that of other code.
    """
    before, code = render.read_timings(context.root), code_digest(lesson, context)
    timings = dict(before)
    if timings.get(lesson.stem, {}).get("code_sha256") != code:
        timings.pop(lesson.stem, None)
    if not measured.busy:
        seconds = round(measured.seconds, 1)
        timings[lesson.stem] = {"seconds": seconds, "code_sha256": code, **measured.machine}
    text = json.dumps(timings, indent=1, sort_keys=True, ensure_ascii=False)
    if timings != before:
        write(context.root / "solutions" / "timings.json", text + "\n")
    return timings
