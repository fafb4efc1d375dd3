"""Exercises: each has its entry, its card and its cell; what the lesson holds of it agrees with the bank."""

import ast
import contextlib
import io
from collections.abc import Mapping
from dataclasses import replace
from traceback import extract_tb
from typing import Any

from diffusion_lessons.course.authoring.cells import solved_code, student_code
from diffusion_lessons.course.authoring.source import Answer, Cell, Lesson, Said, parse
from diffusion_lessons.course.exercises.check import check
from diffusion_lessons.course.exercises.mark import BEGIN_STUDENT, undecorated


def exercise_problems(lesson: Lesson, answers: list[Answer], bank: Mapping[str, Any]) -> Said:
    """Every exercise has its entry, its card and its cell, once."""
    for answer in answers:
        if answer.id not in bank:
            message = f"exercise {answer.id} has no entry in bank/lesson_{lesson.number}.py"
            yield answer.line, "bank", message
        elif bank[answer.id].name != answer.name:
            names = f"{bank[answer.id].name!r} in the bank and {answer.name!r} here"
            yield answer.line, "bank", f"exercise {answer.id} is called {names}"
        if "exercise" not in answer.cell.tags:
            yield answer.cell.line, "exercise", 'this cell needs tags=["exercise"]'
        card = f"{{{{exercise {answer.id}}}}}"
        before = lesson.cells[: lesson.cells.index(answer.cell)]
        if not before or card not in before[-1].source:
            yield answer.cell.line, "exercise", f"the cell above holds no {card}"
    last = {answer.id: answer for answer in answers}
    for missing in sorted(set(bank) - set(last)):
        yield 1, "bank", f"the bank's exercise {missing} is not in the lesson"
    for id in sorted({answer.id for answer in answers if answer is not last[answer.id]}):
        yield last[id].line, "exercise", f"exercise {id} is there twice"


def kind_problems(answers: list[Answer], bank: Mapping[str, Any]) -> Said:
    """Four to seven exercises, of two kinds or more, one of them "debug"."""
    kinds = [bank[answer.id].kind for answer in answers if answer.id in bank]
    if not 4 <= len(answers) <= 7:
        yield 1, "exercise", f"{len(answers)} exercises; a lesson has 4 to 7"
    if kinds and len(set(kinds)) < 2:
        yield 1, "exercise", f"all exercises are of the kind {kinds[0]!r}: mix them"
    if kinds and "debug" not in kinds:
        yield 1, "exercise", "no exercise is of the kind 'debug': one planted real bug a lesson"


def agreement_problems(lesson: Lesson, answers: list[Answer], bank: Mapping[str, Any]) -> Said:
    """Solutions that do not pass their exercise, and stubs that do not read "not attempted"."""
    space: dict[str, Any] = {"__name__": "lesson"}
    try:
        for cell in lesson.code:
            define(lesson, replace(cell, source=_same_lines(cell.source)), space)
    except Exception as error:
        yield _line_of(error, lesson), "bank", f"the definitions cannot be run alone: {_said(error)}"
        return
    for answer in answers:
        exercise = bank.get(answer.id)
        if exercise is None or answer.name not in space:
            continue
        verdict = check(exercise, space[answer.name])
        if not verdict.passed:
            message = f"the solution of {answer.id} does not pass it: {verdict.message}"
            if "is not defined" in verdict.message:
                message += " (an answer may use its arguments, imports, CONSTANTS and other functions, "
                message += "no variables)"
            yield answer.line, "bank", message
        own = dict(space)
        try:
            define(lesson, replace(answer.cell, source=student_code(answer.cell.source)), own)
        except Exception as error:
            yield answer.line, "bank", f"what the student finds at {answer.id} cannot be run: {_said(error)}"
            continue
        verdict = check(exercise, own[answer.name])
        if verdict.status != "not attempted":
            message = f"what the student finds at {answer.id} reads {verdict.status!r}, not 'not attempted'"
            yield answer.line, "bank", message


def define(lesson: Lesson, cell: Cell, space: dict[str, Any]) -> None:
    """Run a cell's imports, constants in CAPITALS, functions and classes, and nothing else of it."""
    nodes = [undecorated(node) for node in parse(lesson, cell).body if _defines(node)]
    for node in nodes:
        ast.increment_lineno(node, cell.line - 1)
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(ast.Module(nodes, []), str(lesson.file), "exec"), space)


def _same_lines(source: str) -> str:
    """The solved cell with as many lines as its source, so that errors name the right line."""
    return solved_code(source) if BEGIN_STUDENT in source else source


def _defines(node: ast.stmt) -> bool:
    if isinstance(node, ast.Assign):
        return all(isinstance(target, ast.Name) and target.id.isupper() for target in node.targets)
    return isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef)


def _line_of(error: BaseException, lesson: Lesson) -> int:
    frames = [frame for frame in extract_tb(error.__traceback__) if frame.filename == str(lesson.file)]
    return (frames and frames[-1].lineno) or 1


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
