"""A piece: the answer to one exercise, cut out of a notebook's code with what it needs from there."""

import ast
import builtins
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from diffusion_lessons.course.exercises.exercise import Exercise
from diffusion_lessons.course.exercises.mark import exercise_id, first_line, same_level, undecorated
from diffusion_lessons.course.grading.code.statements import Statement, read

PACKAGE = "diffusion_lessons"
ALONE = frozenset(sys.stdlib_module_names) | {"torch", "numpy"}  # what a piece may import


@dataclass(frozen=True)
class Piece:
    """One exercise in the module."""

    exercise: Exercise
    whose: str  # "yours" or "ours"
    source: str  # the notebook that it comes from: what stands in one shares its names
    code: tuple[str, ...]  # statements: what it depends on, then the answer

    @property
    def statements(self) -> list[Statement]:
        return read(dict(enumerate(self.code))).statements


def cut(
    plan: Mapping[str, Any], exercise: Exercise, answer: Mapping[str, Any], source: str, whose: str = "yours"
) -> Piece:
    """An answer as a piece; other exercises, pieces themselves, are left out.

    Args:
        plan: what `grading.code.plan` says of a notebook.
        answer: one of its answers to the exercise.
    """
    answers = {id: each["answers"] for id, each in plan.items() if id != "cells"}
    others = {tuple(each["place"]) for id, found in answers.items() if id != exercise.id for each in found}
    own = [tuple(each["place"]) for each in answers[exercise.id]]
    wanted = [place for place in map(tuple, answer["slices"][0]["pieces"]) if place not in others - set(own)]
    code = [statement(plan["cells"][str(cell)], number) for cell, number in [*wanted, tuple(answer["place"])]]
    code = [each for each in code if not each.startswith("from __future__")]  # the file begins with it
    if answer["name"] != exercise.name:
        code.append(f"{exercise.name} = {answer['name']}")
    return Piece(exercise, whose, source, tuple(filter(None, code)))


def statement(text: str, number: int) -> str:
    """One statement of some code without the mark of its exercise; nothing where that is all of it."""
    body = ast.parse(text).body
    node, lines = body[number], text.split("\n")
    start, end = first_line(node), node.end_lineno or node.lineno
    alone = all(each.end_lineno < start or first_line(each) > end for each in body if each is not node)  # type: ignore
    if not alone:
        return ast.unparse(undecorated(node))
    dropped: set[int] = set()
    for each in same_level(node):
        for mark in getattr(each, "decorator_list", ()):
            if exercise_id(mark) is not None:
                dropped |= {*range(mark.lineno, mark.end_lineno + 1)}
    if isinstance(node, ast.Assign) and isinstance(call := node.value, ast.Call) and exercise_id(call.func):
        names = [ast.unparse(each) for each in node.targets]
        given = ast.unparse(call.args[0]) if call.args else "None"
        return "" if names == [given] else f"{' = '.join(names)} = {given}"
    return "\n".join(lines[line - 1] for line in range(start, end + 1) if line not in dropped)


def obstacle(piece: Piece, given: Sequence[str], exercises: Sequence[Exercise]) -> str:
    """Why a piece cannot stand in a file of its own, in a clause; nothing where it can.

    Args:
        given: names of the package that the file makes anew.
        exercises: those of its lesson, which are all in the file.
    """
    statements = piece.statements
    tops = {id(each.node) for each in statements}
    for node in (inner for each in statements for inner in ast.walk(each.node)):
        for module, name in imported(node):
            first = module.split(".")[0]
            if name == "*":
                return f"it needs `from {module} import *`: name what you import"
            if first not in ALONE and not (first == PACKAGE and name in given and id(node) in tops):
                return f"it needs `{module}{f'.{name}' if name else ''}`, and the file has torch alone"
    try:
        compile("\n".join(piece.code), "<piece>", "exec", dont_inherit=True)
    except SyntaxError:
        return "it is Python in a notebook only"
    known = {*dir(builtins), "__name__", "__file__", *given, *(each.name for each in exercises)}
    missing = {name for each in statements for name in each.needs} - known
    missing -= {name for each in statements for name in each.binds}
    return f"it needs `{min(missing)}`, which does not stand on its own" if missing else ""


def imported(node: ast.AST) -> Iterator[tuple[str, str]]:
    """(module, name) of what an import takes; the name is "" for the module itself."""
    if isinstance(node, ast.Import):
        yield from ((alias.name, "") for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        yield from (("." * node.level + (node.module or ""), alias.name) for alias in node.names)
