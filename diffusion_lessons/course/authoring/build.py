"""The build: solutions/NN_name.py in, the student's notebook and the solved, executed one out.

    python -m diffusion_lessons.course.authoring.build [NN …] [--check | --student | --draft FOLDER]

A solved notebook is stale where its source's text has changed since; `--check` says so without
executing. It is executed again only where its code has changed (the setup cell's text included):
prose, exercise cards and headers are renewed in place. What the bank says of an exercise is held
against the solutions at every build and every check, so it makes nothing stale.
"""

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import nbformat

from diffusion_lessons.course.authoring import execute, render
from diffusion_lessons.course.authoring.cells import marker_problems
from diffusion_lessons.course.authoring.notebook import (
    KEY,
    read_notebook,
    solved_notebook,
    student_notebook,
    take_outputs,
    text_of,
    write,
)
from diffusion_lessons.course.authoring.render import Context
from diffusion_lessons.course.authoring.repository import (
    Files,
    context_of,
    record,
    sources,
    with_old_pictures,
)
from diffusion_lessons.course.authoring.rules import rules
from diffusion_lessons.course.authoring.source import Lesson, Problem, read


class Refused(Exception):
    """A lesson that breaks rules; `problems` says which and where."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = sorted(set(problems), key=lambda problem: problem.line)


# One lesson ----------------------------------------------------------------------------------------


def made_student(lesson: Lesson, context: Context) -> nbformat.NotebookNode:
    """The student notebook, held to every rule that needs no execution.

    Raises:
        Refused: with all that is wrong.
    """
    problems = marker_problems(lesson)
    try:
        problems = problems or rules.source_problems(lesson, context)
        if any(problem.rule in ("marker", "header", "placeholder") for problem in problems):
            raise Refused(problems)  # no page can be made of it
        student = student_notebook(lesson, context)
        problems += rules.student_problems(lesson, student, context)
    except SyntaxError as error:
        raise Refused([lesson.problem(error.lineno or 1, "syntax", str(error.msg))]) from None
    if problems:
        raise Refused(problems)
    return student


def made_solved(
    lesson: Lesson, context: Context, old: nbformat.NotebookNode | None, threads: int = 2, timed: bool = False
) -> tuple[nbformat.NotebookNode, execute.Measured | None]:
    """The solved notebook with outputs, and the time it took where it had to be executed.

    Raises:
        Refused: a cell raised, never ended, or left outputs that break a rule.
    """
    solved, measured = solved_notebook(lesson, context), None
    if (
        old is not None
        and old.metadata.get(KEY, {}).get("code_sha256") == solved.metadata[KEY]["code_sha256"]
    ):
        take_outputs(solved, old)
    else:
        machine = execute.machine(threads) if timed else {}
        try:
            seconds = execute.run(solved, threads)
        except execute.Failed as failed:
            line = lesson.cells[failed.cell].line
            raise Refused([lesson.problem(line, "execution", str(failed))]) from None
        measured = execute.Measured(seconds, machine)
    problems = rules.solved_problems(lesson, solved)
    if problems:
        raise Refused(problems)
    return solved, measured


def build(
    file: Path,
    context: Context,
    student_only: bool = False,
    threads: int = 2,
    timed: bool = True,
    again: bool = False,
) -> list[str]:
    """Build one lesson and return one line for each file; where it is refused nothing is written.

    Args:
        file: the source.
        context: from `context_of`.
        student_only: make no solved notebook.
        threads: torch threads to execute with.
        timed: record the run time, unless the machine was busy with something else.
        again: execute even where the code has not changed.

    Raises:
        Refused: with all that is wrong.
    """
    lesson = read(file)
    files = Files.of(lesson, context.root)
    context = with_old_pictures(replace(context, timings=render.read_timings(context.root)), files)
    student = made_student(lesson, context)
    if student_only:
        return [_line(files.student, write(files.student, text_of(student)))]
    old = None if again else read_notebook(files.solved)
    solved, measured = made_solved(lesson, context, old, threads, timed)
    if measured is not None and timed:
        context = replace(context, timings=record(context, lesson, measured))
        student, executed = student_notebook(lesson, context), solved
        solved = solved_notebook(lesson, context)
        take_outputs(solved, executed)
    return [
        _line(files.student, write(files.student, text_of(student))),
        _line(files.solved, write(files.solved, text_of(solved)), measured),
    ]


def check(file: Path, context: Context) -> list[Problem]:
    """What is wrong or stale about a lesson, without executing it."""
    lesson = read(file)
    files = Files.of(lesson, context.root)
    context = with_old_pictures(context, files)
    try:
        student = made_student(lesson, context)
    except Refused as refused:
        return refused.problems
    problems = []

    def stale(what: str) -> None:
        again = f"{what}: run `python -m diffusion_lessons.course.authoring.build {lesson.number}`"
        problems.append(lesson.problem(1, "stale", again))

    if not files.student.exists() or files.student.read_text(encoding="utf-8") != text_of(student):
        stale(f"notebooks/{files.student.name} is not what the source says")
    solved, fresh = read_notebook(files.solved), solved_notebook(lesson, context)
    if solved is None:
        stale(f"solutions/{files.solved.name} is missing or broken")
        return problems
    same = [(cell.id, cell.source) for cell in solved.cells] == [
        (cell.id, cell.source) for cell in fresh.cells
    ]
    if solved.metadata.get(KEY) != fresh.metadata[KEY] or not same:
        stale(f"solutions/{files.solved.name} was made from another source")
        return problems
    return [*problems, *rules.solved_problems(lesson, solved), *rules.time_problems(lesson, context)]


def draft(file: Path, context: Context, folder: Path, threads: int = 2) -> list[str | Problem]:
    """Both notebooks of a half-written lesson in a folder, the solved one executed, errors and all.

    Raises:
        Refused: where no page can be made of it.
    """
    lesson, said = read(file), []
    try:
        student = made_student(lesson, context)
    except Refused as refused:
        if any(problem.rule in ("marker", "header", "placeholder", "syntax") for problem in refused.problems):
            raise
        said, student = list[str | Problem](refused.problems), student_notebook(lesson, context)
    solved = solved_notebook(lesson, context)
    seconds = execute.run(solved, threads, allow_errors=True)
    said += rules.solved_problems(lesson, solved)
    for made, name in ((student, f"{lesson.stem}.ipynb"), (solved, f"{lesson.stem}.solved.ipynb")):
        write(folder / name, text_of(made))
    return [*said, f"{folder / lesson.stem}.ipynb and .solved.ipynb: a draft, executed in {seconds:.0f} s"]


def _line(file: Path, written: bool, measured: execute.Measured | None = None) -> str:
    line = f"{file.parent.name}/{file.name}: {'written' if written else 'unchanged'}"
    if measured is None:
        return line
    busy = "; not recorded, because something else kept the machine busy" if measured.busy else ""
    return f"{line}, executed in {measured.seconds:.0f} s{busy}"


# The command line ----------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    """Build or check lessons; returns 1 where one was refused or is stale, 2 where called wrongly."""
    given = _parser().parse_args(arguments)
    failed = False

    def one(file: Path) -> list[Any]:
        try:
            if given.check:
                return list(check(file, context))
            if given.draft:
                return draft(file, context, given.draft, given.threads)
            return list(build(file, context, given.student, given.threads, given.jobs == 1, given.again))
        except Refused as refused:
            return list(refused.problems)

    try:
        context = context_of(given.root.resolve())
        with ThreadPoolExecutor(given.jobs) as pool:
            files = sources(context.root, given.numbers)
            files.sort(key=lambda file: (file.stem[:2] == "00", file.stem))  # it tells of the others' times
            for lines in pool.map(one, files):
                for line in lines:
                    print(line, flush=True)
                    failed |= isinstance(line, Problem)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return int(failed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m diffusion_lessons.course.authoring.build",
        description="From solutions/NN_name.py to the student's and the solved notebook.",
    )
    add = parser.add_argument
    add("numbers", nargs="*", metavar="NN", help="lessons by number; all of them by default")
    add("--check", action="store_true", help="fail where a file is stale or a rule broken; execute nothing")
    add("--student", action="store_true", help="make the student notebooks only; execute nothing")
    add("--draft", type=Path, metavar="FOLDER", help="put half-written lessons there, whatever the rules say")
    add("--again", action="store_true", help="execute even where the code has not changed")
    add("--jobs", type=int, default=1, help="lessons at a time; run times are recorded with 1 only")
    add("--threads", type=int, default=2, help="torch threads of each lesson")
    add("--root", type=Path, default=Path.cwd(), help="the repository (default: here)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
