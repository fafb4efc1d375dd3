"""The course's commands: lab · check · mine · release · grade."""

import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from diffusion_lessons.support.console import Json, report
from diffusion_lessons.support.files import writable
from diffusion_lessons.support.seeds import checked_seed

UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
LEAST = 64 * 2**20  # bytes: below this hardly any tensor can be made


def lab(
    folder: Annotated[
        Positional[Path], arg(help="what you work in; nothing there is ever overwritten")
    ] = Path("work"),
    port: Annotated[int | None, arg(help="the first free one from 8888 on if left out")] = None,
    browser: Annotated[bool, arg(help="open a browser")] = True,
) -> None:
    """Copy the lessons into a folder of your own and open JupyterLab there."""
    from diffusion_lessons.course.student.lab import lab as open_lab

    sys.exit(open_lab(folder, browser, port))


def check(
    notebook: Annotated[Positional[Path], arg(help="your notebook, NN_….ipynb")],
    seed: Annotated[
        int | None, arg(help="of the cases; your class's, or those of the lesson if left out")
    ] = None,
    json: Json = False,
) -> None:
    """Check a notebook as the grader will; exits with 0 only where every exercise passes."""
    from diffusion_lessons.course.grading import check as checking

    checked_seed(seed or 0)
    done = checking.check(notebook, seed)
    passed = done.passed == len(done.rows)
    facts = {"lesson": done.lesson, "passed": passed, "exercises": [row.to_json() for row in done.rows]}
    report(json, facts, checking.words(done.rows), [])
    if not passed:
        sys.exit(1)


def mine(
    work: Annotated[Positional[Path], arg(help="the folder with your notebooks")] = Path("work"),
    out: Annotated[Path, arg(help="for my_diffusion.py and its digits; never over work of yours")] = Path(
        "my_diffusion"
    ),
    minutes: Annotated[float, arg(help="of training")] = 1.0,
    steps: Annotated[int | None, arg(help="train so many steps instead")] = None,
    json: Json = False,
) -> None:
    """Put your answers that pass into one file that needs only torch, train it, and draw ten digits."""
    from diffusion_lessons.course.mine import running

    made = running.mine(work, out, minutes, steps, partial(print, file=sys.stderr, flush=True))
    report(json, made.facts(), made.words(), [out / running.FILE, out / running.PICTURE])
    if made.stopped:
        raise KeyboardInterrupt


def release(
    lessons: Annotated[Positional[tuple[str, ...]], arg(help="two digits each: 01 02 03")],
    out: Annotated[Path, arg(help="the archive, or with --nbgrader nbgrader's course folder")] = Path(
        "course.zip"
    ),
    seed: Annotated[int | None, arg(help="of cases that the published lessons do not show")] = None,
    wheel: Annotated[
        Path | None, arg(help="of this package; built here if left out and it has no public repository")
    ] = None,
    nbgrader: Annotated[bool, arg(help="write nbgrader's source notebooks instead")] = False,
    points: Annotated[Path | None, arg(help="points.toml; with --nbgrader")] = None,
    json: Json = False,
) -> None:
    """Put student notebooks, install lines and the class's seed into one archive."""
    from diffusion_lessons.course.grading import nbgrader as exporting
    from diffusion_lessons.course.grading import release as releasing
    from diffusion_lessons.course.grading.marks.points import load

    checked_seed(seed or 0)
    if nbgrader:
        files = exporting.export(lessons, out, load(points), seed)
        report(json, {"files": [str(file) for file in files]}, f"{len(files)} source notebooks", files)
        return
    names = releasing.release(lessons, out, seed, wheel)
    facts = {"out": str(out), "files": names, "seed": seed}
    report(json, facts, "\n".join(f"  {name}" for name in names), [out])


def grade(
    folders: Annotated[
        Positional[tuple[Path, ...]], arg(help="what was handed in: folders, zips, notebooks")
    ],
    out: Annotated[
        Path, arg(help="folder for grades.csv, gradebook.csv, grades.json, report.html and feedback/")
    ] = Path("report"),
    jobs: Annotated[int, arg(help="submissions at a time")] = 2,
    points: Annotated[Path | None, arg(help="points.toml; one point an exercise if left out")] = None,
    timeout: Annotated[float, arg(help="seconds for one exercise of one submission")] = 120.0,
    memory: Annotated[str, arg(help="for one submission: 4G, 500M")] = "4G",
    seed: Annotated[int, arg(help="of the cases; 0 is what the lessons show")] = 0,
    lesson: Annotated[str | None, arg(help="two digits: give notebooks of other lessons no marks")] = None,
    again: Annotated[tuple[str, ...], arg(help='mark anew: "timeouts", a student, a part of a path')] = (),
    count: Annotated[Literal["best", "last"], arg(help="which of a student's attempts counts")] = "best",
    roster: Annotated[Path | None, arg(help="the class as CSV: id, name, section")] = None,
    overrides: Annotated[
        Path | None,
        arg(help="your marks as CSV: student, exercise, points, comment; overrides.csv in --out if left out"),
    ] = None,
    json: Json = False,
) -> None:
    """Grade a class: run what was handed in, judge it, write a report. Goes on where it was stopped."""
    from diffusion_lessons.course.grading import roster as rosters
    from diffusion_lessons.course.grading.grade import grade as run
    from diffusion_lessons.course.grading.marks import overrides as by_hand
    from diffusion_lessons.course.grading.marks.points import load
    from diffusion_lessons.course.grading.results.report import facts, words, write
    from diffusion_lessons.course.grading.sandbox import Limits

    if not folders:
        raise ValueError("nothing to grade: give the folder, archive or notebooks that were handed in")
    if not 0 < timeout < float("inf"):
        raise ValueError(f"--timeout is a number of seconds above 0, got {timeout:g}")
    limits, seed = Limits(timeout, _bytes(memory)), checked_seed(seed)
    worth, given = load(points), by_hand.load(overrides, out)
    enrolled = None if roster is None else rosters.load(roster)
    writable(out)
    bar = sys.stderr.isatty() or not json
    tell = partial(print, file=sys.stderr)
    graded = run(folders, out, jobs, worth, limits, seed, lesson, again, tell, bar, count, enrolled, given)
    report(json, facts(graded), words(graded), write(graded, out, tell))


def _bytes(text: str) -> int:
    """Bytes in "4G", "500M" or plain; a ValueError where it is none, or too little to run anything."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)i?B?", text.strip(), re.IGNORECASE)
    if not found:
        raise ValueError(f"--memory is a size such as 4G or 500M, got {text!r}")
    size = int(float(found[1]) * UNITS[found[2].upper()])
    if size < LEAST:
        raise ValueError(f"--memory is at least {LEAST // 2**20}M, got {text!r}")
    return size


COMMANDS: dict[str, Callable[..., None]] = {
    "lab": lab,
    "check": check,
    "mine": mine,
    "release": release,
    "grade": grade,
}
