"""The build: solutions/NN_name.py in, the student's notebook and the solved, executed one out.

    python -m diffusion_lessons.course.build [NN …] [--check] [--student] [--draft FOLDER]

A solved notebook is stale where its source's text has changed since; `--check` says so without
executing. It is executed again only where its code has changed (the setup cell's text included):
prose, exercise cards and headers are renewed in place. What the bank says of an exercise is held
against the solutions at every build and every check, so it makes nothing stale.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nbformat

from diffusion_lessons.course import execute, render, rules
from diffusion_lessons.course.cells import ids, marker_problems, solved_code, student_code
from diffusion_lessons.course.render import Context, expand
from diffusion_lessons.course.source import Lesson, Problem, digest, read

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
KEY = "diffusion_lessons"  # of our metadata in a notebook


class Refused(Exception):
    """A lesson that breaks rules; `problems` says which and where."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


@dataclass(frozen=True)
class Files:
    """Where a lesson's two notebooks lie."""

    student: Path
    solved: Path


def files_of(lesson: Lesson, root: Path) -> Files:
    """notebooks/NN_name.ipynb and solutions/NN_name.ipynb."""
    name = f"{lesson.stem}.ipynb"
    return Files(root / "notebooks" / name, root / "solutions" / name)


def sources(root: Path, numbers: list[str] | None = None) -> list[Path]:
    """The lessons' source files, all of them or those of some numbers.

    Raises:
        ValueError: a number that no file has.
    """
    found = sorted((root / "solutions").glob("[0-9][0-9]_*.py"))
    if not numbers:
        return found
    missing = [number for number in numbers if not any(file.stem.startswith(number) for file in found)]
    if missing:
        raise ValueError(f"no solutions/{missing[0]}_….py: there are {', '.join(f.stem for f in found) or 'none'}")
    return [file for file in found if any(file.stem.startswith(number) for number in numbers)]


def bank_of(number: str) -> Mapping[str, Any]:
    """A lesson's exercises by number, from the bank; empty where the bank has no file for it."""
    name = f"diffusion_lessons.course.bank.lesson_{number}"
    if find_spec(name) is None:
        return {}
    return {exercise.id: exercise for exercise in import_module(name).EXERCISES}


def context_of(root: Path) -> Context:
    """What all lessons of a repository share."""
    return Context(
        root=root,
        repository=render.repository_address(root),
        stems=tuple(file.stem for file in sources(root)),
        timings=render.read_timings(root),
        bank=bank_of,
    )


# Notebooks -----------------------------------------------------------------------------------------


def student_notebook(lesson: Lesson, context: Context) -> nbformat.NotebookNode:
    """The notebook that a student opens: stubs, no outputs, cards with the expected figures."""
    notebook = _notebook(lesson, context, student_code)
    content = json.dumps([cell.source for cell in notebook.cells], ensure_ascii=False)
    notebook.metadata[KEY] = {"lesson": lesson.stem, "version": digest(content)[:16]}
    return notebook


def solved_notebook(lesson: Lesson, context: Context) -> nbformat.NotebookNode:
    """The same with its solutions, not executed yet."""
    notebook = _notebook(lesson, context, solved_code)
    notebook.metadata[KEY] = {
        "lesson": lesson.stem,
        "source_sha256": lesson.digest,
        "code_sha256": code_digest(lesson, context),
    }
    return notebook


def code_digest(lesson: Lesson, context: Context) -> str:
    """What executing depends on: the code as written, and the setup cell's text."""
    code = [render.setup_cell(lesson.number, context.repository)]
    code += [solved_code(cell.source) for cell in lesson.cells if cell.kind == "code"]
    return digest(json.dumps(code, ensure_ascii=False))


def _notebook(lesson: Lesson, context: Context, code: Any) -> nbformat.NotebookNode:
    notebook = nbformat.v4.new_notebook()
    for cell, name in zip(lesson.cells, ids(lesson), strict=True):
        if cell.kind == "code":
            source = expand(replace(cell, source=code(cell.source)), lesson, context).strip("\n")
            made = nbformat.v4.new_code_cell(source)
        else:
            made = nbformat.v4.new_markdown_cell(expand(cell, lesson, context))
        made.id = name
        made.metadata = nbformat.from_dict(cell.metadata)
        notebook.cells.append(made)
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNEL, "language_info": {"name": "python"}})
    return notebook


def text_of(notebook: nbformat.NotebookNode) -> str:
    """A notebook's bytes: keys sorted, one space of indent, a newline at the end."""
    return json.dumps(notebook, sort_keys=True, indent=1, ensure_ascii=False) + "\n"


def read_notebook(file: Path) -> nbformat.NotebookNode | None:
    """A notebook, or None where there is none."""
    return nbformat.read(file, as_version=4) if file.exists() else None


def write(file: Path, text: str) -> bool:
    """Write a file whole or not at all; False where it already says so."""
    if file.exists() and file.read_text(encoding="utf-8") == text:
        return False
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
        os.chmod(name, 0o644)
        os.replace(name, file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return True


# Building ------------------------------------------------------------------------------------------


def made_student(lesson: Lesson, context: Context, files: Files) -> nbformat.NotebookNode:
    """The student notebook, held to every rule that needs no execution.

    Raises:
        Refused: with all that is wrong.
    """
    problems = marker_problems(lesson)
    if problems:
        raise Refused(problems)
    try:
        problems = rules.source_problems(lesson, context)
        context = with_old_pictures(context, files)
        student = student_notebook(lesson, context)
        problems += rules.student_problems(lesson, student, context)
    except SyntaxError as error:
        raise Refused([lesson.problem(error.lineno or 1, "syntax", str(error.msg))]) from None
    if problems:
        raise Refused(sorted(set(problems), key=lambda problem: problem.line))
    return student


def with_old_pictures(context: Context, files: Files) -> Context:
    """The context with the pictures of the student notebook that is there."""
    old = read_notebook(files.student)
    return replace(context, old=render.pictures_in(old) if old else {})


def made_solved(lesson: Lesson, context: Context, files: Files, threads: int = 2) -> tuple[nbformat.NotebookNode, float | None]:
    """The solved notebook with outputs, and the seconds it took where it had to be executed."""
    context = with_old_pictures(context, files)
    fresh, old = solved_notebook(lesson, context), read_notebook(files.solved)
    seconds = None
    if old is not None and old.metadata.get(KEY, {}).get("code_sha256") == fresh.metadata[KEY]["code_sha256"]:
        take_outputs(fresh, old)
    else:
        seconds = execute.run(fresh, threads)
        execute.clean(fresh)
        fresh.metadata["kernelspec"] = KERNEL
    problems = rules.solved_problems(lesson, fresh)
    if problems:
        raise Refused(problems)
    return fresh, seconds


def take_outputs(fresh: nbformat.NotebookNode, old: nbformat.NotebookNode) -> None:
    """Give a notebook the outputs that another with the same code has."""
    stored = [cell for cell in old.cells if cell.cell_type == "code"]
    for cell, before in zip((c for c in fresh.cells if c.cell_type == "code"), stored, strict=True):
        cell.outputs, cell.execution_count = before.outputs, before.execution_count


def build(file: Path, context: Context, student_only: bool = False, threads: int = 2, timed: bool = True) -> list[str]:
    """Build one lesson and return one line for each file.

    Raises:
        Refused: with all that is wrong; then nothing is written.
    """
    lesson = read(file)
    files = files_of(lesson, context.root)
    student = made_student(lesson, context, files)
    if student_only:
        return [_line(files.student, write(files.student, text_of(student)))]
    solved, seconds = made_solved(lesson, context, files, threads)
    if seconds is not None and timed:
        context = replace(context, timings=record(context.root, lesson, seconds))
        student = student_notebook(lesson, with_old_pictures(context, files))
        take_outputs(renewed := solved_notebook(lesson, with_old_pictures(context, files)), solved)
        solved = renewed
    lines = [_line(files.student, write(files.student, text_of(student)))]
    lines += [_line(files.solved, write(files.solved, text_of(solved)), seconds)]
    return lines


def _line(file: Path, written: bool, seconds: float | None = None) -> str:
    took = f", executed in {seconds:.0f} s" if seconds is not None else ""
    return f"{file.parent.name}/{file.name}: {'written' if written else 'unchanged'}{took}"


def record(root: Path, lesson: Lesson, seconds: float) -> dict[str, Any]:
    """Put a lesson's run time, with what it depends on, into solutions/timings.json and return all of it."""
    timings = render.read_timings(root)
    timings.setdefault("lessons", {})[lesson.stem] = {"seconds": round(seconds, 1), **execute.machine()}
    write(root / "solutions" / "timings.json", json.dumps(timings, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    return timings


def check(file: Path, context: Context) -> list[Problem]:
    """What is wrong or stale about a lesson, without executing it."""
    lesson = read(file)
    files = files_of(lesson, context.root)
    try:
        student = made_student(lesson, context, files)
    except Refused as refused:
        return refused.problems
    again = f"run `python -m diffusion_lessons.course.build {lesson.number}`"
    problems = []
    if not files.student.exists() or files.student.read_text(encoding="utf-8") != text_of(student):
        problems.append(lesson.problem(1, "stale", f"notebooks/{files.student.name} is not what the source says: {again}"))
    solved = read_notebook(files.solved)
    if solved is None:
        return [*problems, lesson.problem(1, "stale", f"solutions/{files.solved.name} is missing: {again}")]
    fresh = solved_notebook(lesson, with_old_pictures(context, files))
    same = [(c.id, c.source) for c in solved.cells] == [(c.id, c.source) for c in fresh.cells]
    if solved.metadata.get(KEY) != fresh.metadata[KEY] or not same:
        problems.append(lesson.problem(1, "stale", f"solutions/{files.solved.name} was made from another source: {again}"))
    return [*problems, *rules.solved_problems(lesson, solved)]


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns 1 where a lesson was refused or is stale."""
    parser = argparse.ArgumentParser(prog="python -m diffusion_lessons.course.build", description=__doc__.split("\n")[0])
    parser.add_argument("numbers", nargs="*", metavar="NN", help="lessons by number; all of them by default")
    parser.add_argument("--check", action="store_true", help="fail where a file is stale or a rule is broken; execute nothing")
    parser.add_argument("--student", action="store_true", help="make the student notebooks only; execute nothing")
    parser.add_argument("--jobs", type=int, default=1, help="lessons at a time; run times are recorded with 1 only")
    parser.add_argument("--threads", type=int, default=2, help="torch threads of each lesson")
    parser.add_argument("--root", type=Path, default=Path.cwd(), help="the repository (default: here)")
    given = parser.parse_args(arguments)
    context = context_of(given.root.resolve())
    failed = False

    def one(file: Path) -> list[str] | list[Problem]:
        try:
            if given.check:
                return check(file, context)
            return build(file, context, given.student, given.threads, timed=given.jobs == 1)
        except Refused as refused:
            return refused.problems

    with ThreadPoolExecutor(given.jobs) as pool:
        for outcome in pool.map(one, sources(context.root, given.numbers)):
            for line in outcome:
                print(line, flush=True)
                failed |= isinstance(line, Problem)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
