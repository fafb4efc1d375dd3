"""The build: solutions/NN_name.py in, the student's notebook and the solved, executed one out.

    python -m diffusion_lessons.course.authoring.build [NN …] [--check | --student | --draft FOLDER]

A solved notebook is stale where its source's text has changed since; `--check` says so without
executing. It is executed again only where its code has changed (the setup cell's text included):
prose, exercise cards, headers and the words of quizzes are renewed in place. What the bank says of an
exercise is held against the solutions at every build and every check, so it makes nothing stale.
"""

import argparse
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import nbformat

from diffusion_lessons.course.authoring import alts, execute, ours, render, rules
from diffusion_lessons.course.authoring.notebook import (
    read_notebook,
    solved_notebook,
    student_notebook,
    take_outputs,
    text_of,
    write,
)
from diffusion_lessons.course.authoring.render import Context
from diffusion_lessons.course.authoring.repository import context_of, record, sources, with_old_pictures
from diffusion_lessons.course.authoring.source import Lesson, Problem, read
from diffusion_lessons.course.exercises.mark import KEY

NO_PAGE = ("marker", "header", "placeholder", "syntax")  # where these rules are broken, none can be made


class Refused(Exception):
    """A lesson that breaks rules; `problems` says which and where."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = sorted(set(problems), key=lambda each: (each.line, each.rule, each.message))

    @property
    def has_no_page(self) -> bool:
        return any(problem.rule in NO_PAGE for problem in self.problems)


# One lesson ----------------------------------------------------------------------------------------


def made_student(lesson: Lesson, context: Context) -> nbformat.NotebookNode:
    """The student notebook, held to every rule that needs no execution; Refused with all that is wrong."""
    try:
        refused = Refused(rules.source_problems(lesson, context))
        if refused.has_no_page:
            raise refused
        student = student_notebook(lesson, context)
        problems = refused.problems + rules.student_problems(lesson, student, context)
    except SyntaxError as error:
        raise Refused([lesson.problem(error.lineno or 1, "syntax", str(error.msg))]) from None
    if problems:
        raise Refused(problems)
    return student


def made_solved(
    lesson: Lesson, context: Context, old: nbformat.NotebookNode | None, threads: int = 2, timed: bool = False
) -> tuple[nbformat.NotebookNode, execute.Measured | None]:
    """The solved notebook with outputs, and the time it took where it had to be executed.

    Refused where a cell raised, never ended, or left outputs that break a rule.
    """
    solved, measured = solved_notebook(lesson, context), None
    if old and old.metadata.get(KEY, {}).get("code_sha256") == solved.metadata[KEY]["code_sha256"]:
        take_outputs(solved, old)
    else:
        machine = execute.machine(threads) if timed else {}
        measured = execute.Measured(_executed(solved, lesson, threads), machine)
    problems = rules.solved_problems(lesson, solved)
    if problems:
        raise Refused(problems)
    return solved, measured


def _executed(solved: nbformat.NotebookNode, lesson: Lesson, threads: int, **options: Any) -> float:
    try:
        return execute.run(solved, threads, alts=alts.text(lesson), **options)
    except execute.Failed as failed:
        line = lesson.cells[failed.cell].line
        raise Refused([lesson.problem(line, "execution", str(failed))]) from None


def build(
    file: Path,
    context: Context,
    student_only: bool = False,
    threads: int = 2,
    timed: bool = True,
    again: bool = False,
) -> list[str]:
    """Build one lesson and return one line for each file; where it is Refused nothing is written.

    The context is that of `context_of`. `threads` are torch's; `again` executes even where the code has
    not changed; `student_only` makes no solved notebook; `timed` records the run time,
    unless the machine was busy with something else.
    """
    lesson = read(file)
    context = with_old_pictures(replace(context, timings=render.read_timings(context.root)), lesson)
    student = made_student(lesson, context)
    if student_only:
        _for_the_package(lesson, context)
        return [_written(lesson.student, student)]
    old = None if again else read_notebook(lesson.solved)
    solved, measured = made_solved(lesson, context, old, threads, timed)
    if measured is not None and timed:  # the header states the new time
        context = replace(context, timings=record(context, lesson, measured))
        student, executed = student_notebook(lesson, context), solved
        solved = solved_notebook(lesson, context)
        take_outputs(solved, executed)
    _for_the_package(lesson, context)
    said = [_written(lesson.student, student), _written(lesson.solved, solved)]
    if measured is not None:
        said[1] += f", executed in {measured.seconds:.0f} s"
        said[1] += "; not recorded, because something else kept the machine busy" if measured.busy else ""
    return said


def _for_the_package(lesson: Lesson, context: Context) -> None:
    """Write what the package keeps of a lesson's source."""
    for part in (alts, ours):
        write(part.file(lesson, context.root), part.text(lesson))


def _written(file: Path, notebook: nbformat.NotebookNode) -> str:
    written = write(file, text_of(notebook))
    return f"{file.parent.name}/{file.name}: {'written' if written else 'unchanged'}"


def check(file: Path, context: Context) -> list[Problem]:
    """What is wrong or stale about a lesson, without executing it."""
    lesson = read(file)
    context = with_old_pictures(context, lesson)
    try:
        student = made_student(lesson, context)
    except Refused as refused:
        return refused.problems
    stale, solved, fresh = [], read_notebook(lesson.solved), solved_notebook(lesson, context)
    current = solved is not None and _made_of(solved) == _made_of(fresh)
    if not lesson.student.exists() or lesson.student.read_text(encoding="utf-8") != text_of(student):
        stale.append(f"notebooks/{lesson.student.name} is not what the source says")
    for what, part in (("alt texts", alts), ("solutions", ours)):
        kept = part.file(lesson, context.root)
        if not kept.exists() or kept.read_text(encoding="utf-8") != part.text(lesson):
            stale.append(f"{kept.relative_to(context.root)} holds other {what} than the source")
    if not current:
        what = "is missing or broken" if solved is None else "was made from another source"
        stale.append(f"solutions/{lesson.solved.name} {what}")
    again = f"run `python -m diffusion_lessons.course.authoring.build {lesson.number}`"
    problems = [lesson.problem(1, "stale", f"{what}: {again}") for what in stale]
    if solved is not None and current:
        problems += rules.solved_problems(lesson, solved) + rules.time_problems(lesson, context)
    return problems


def _made_of(solved: nbformat.NotebookNode) -> list[Any]:
    return [solved.metadata.get(KEY), *((cell.id, cell.source) for cell in solved.cells)]


def draft(file: Path, context: Context, folder: Path, threads: int = 2) -> list[str | Problem]:
    """Both notebooks of a half-written lesson in a folder, the solved one executed, errors and all.

    Refused only where no page can be made of it.
    """
    lesson = read(file)
    said: list[str | Problem] = []
    try:
        student = made_student(lesson, context)
    except Refused as refused:
        if refused.has_no_page:
            raise
        said, student = [*refused.problems], student_notebook(lesson, context)
    solved = solved_notebook(lesson, context)
    seconds = _executed(solved, lesson, threads, allow_errors=True)
    said += rules.solved_problems(lesson, solved)
    write(folder / f"{lesson.stem}.ipynb", text_of(student))
    write(folder / f"{lesson.stem}.solved.ipynb", text_of(solved))
    return [*said, f"{folder / lesson.stem}.ipynb and .solved.ipynb: a draft, executed in {seconds:.0f} s"]


# The command line ----------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    """Build or check lessons; returns 1 where one was refused or is stale, 2 where called wrongly."""
    given = _parser().parse_args(arguments)
    failed = False
    try:
        if min(given.jobs, given.threads) < 1:
            raise ValueError("--jobs and --threads are whole numbers from 1 on")
        root = given.root.resolve()
        one = partial(_one, given=given, context=context_of(root) if given.jobs == 1 else None)
        files = sources(root, given.numbers)
        files.sort(key=lambda file: (file.stem[:2] == "00", file.stem))  # it tells of the others' times
        with ExitStack() as stack:
            each: Iterable[list[str | Problem]] = map(one, files)
            if given.jobs > 1:  # solutions are run, and watched for what they leave behind in a process
                pool = ProcessPoolExecutor(given.jobs, mp_context=get_context("spawn"))
                each = stack.enter_context(pool).map(one, files)
            for lines in each:
                for line in lines:
                    print(line, flush=True)
                    failed |= isinstance(line, Problem)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return int(failed)


def _one(file: Path, given: argparse.Namespace, context: Context | None) -> list[str | Problem]:
    """What is said of one lesson. A process of several makes a context of its own."""
    context = context or context_of(given.root.resolve())
    try:
        if given.check:
            return [*check(file, context)]
        if given.draft:
            return draft(file, context, given.draft, given.threads)
        return [*build(file, context, given.student, given.threads, given.jobs == 1, given.again)]
    except Refused as refused:
        return [*refused.problems]


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
