"""The lesson's solutions and stubs, taken out of it and held against the bank."""

import ast
import contextlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from diffusion_lessons.course.authoring.cells import solved_code, student_code
from diffusion_lessons.course.authoring.source import Answer, Lesson, Problem, decorated, parse


def agreement_problems(lesson: Lesson, answers: list[Answer], bank: Mapping[str, Any]) -> Iterator[Problem]:
    """Solutions that do not pass their exercise, and stubs that do not read "not attempted"."""
    try:
        space = definitions(lesson)
    except Exception as error:
        yield lesson.problem(
            _line_of(error, lesson), "bank", f"the definitions cannot be run alone: {_said(error)}"
        )
        return
    for answer in answers:
        exercise = bank.get(answer.id)
        if exercise is None or answer.name not in space:
            continue
        verdict = exercise.check(space[answer.name])
        if not verdict.passed:
            message = f"the solution of {answer.id} does not pass it: {verdict.message}"
            if "is not defined" in verdict.message:
                message += (
                    " (an answer may use its arguments, imports, CONSTANTS and other functions, no variables)"
                )
            yield lesson.problem(answer.line, "bank", message)
        verdict = exercise.check(stub(lesson, answer, space))
        if verdict.status != "not attempted":
            message = f"what the student finds at {answer.id} reads {verdict.status!r}, not 'not attempted'"
            yield lesson.problem(answer.line, "bank", message)


def definitions(lesson: Lesson) -> dict[str, Any]:
    """The lesson's imports, constants in CAPITALS, functions and classes, solved and run by themselves."""
    space: dict[str, Any] = {"__name__": "lesson"}
    for cell in lesson.cells:
        if cell.kind == "code":
            solved = replace(cell, source=_same_lines(cell.source))
            tree = parse(lesson, solved)
            kept = [node for node in tree.body if _defines(node)]
            _run(kept, cell.line, lesson, space)
    return space


def _same_lines(source: str) -> str:
    """The solved cell with as many lines as its source, so that errors name the right line."""
    return source if "### BEGIN STUDENT" not in source else solved_code(source)


def stub(lesson: Lesson, answer: Answer, space: dict[str, Any]) -> Any:
    """The exercise's function as a student first finds it."""
    tree = parse(lesson, replace(answer.cell, source=student_code(answer.cell.source)))
    kept = [node for node in tree.body if _defines(node)]
    own = dict(space)
    _run(kept, answer.cell.line, lesson, own)
    return own[answer.name]


def _defines(node: ast.stmt) -> bool:
    if isinstance(node, ast.Assign):
        return all(isinstance(target, ast.Name) and target.id.isupper() for target in node.targets)
    return isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef)


def _run(nodes: list[ast.stmt], line: int, lesson: Lesson, space: dict[str, Any]) -> None:
    exercises = {id(node) for node, _ in decorated(ast.Module(nodes, []))}
    for node in nodes:
        if id(node) in exercises:
            node.decorator_list = []  # type: ignore[attr-defined]
        ast.increment_lineno(node, line - 1)
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(ast.Module(nodes, []), str(lesson.file), "exec"), space)


def _line_of(error: BaseException, lesson: Lesson) -> int:
    trace, line = error.__traceback__, 1
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(lesson.file):
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
