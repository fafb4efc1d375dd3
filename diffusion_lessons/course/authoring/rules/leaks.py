"""Proof that a student file holds no solution: the code is compared, the markers are not trusted.

A solution's *items* are the expressions that it computes with. The student's file, prose included,
must not compute the same: neither with the same names, nor, where the expression is long enough to
be no coincidence, with other names. Code that a debug exercise hands out on purpose is no secret.
"""

import ast
import copy
import re
import textwrap
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import nbformat

from diffusion_lessons.course.authoring.cells import Block, blocks, shown
from diffusion_lessons.course.authoring.source import Cell, Lesson, Said, parse
from diffusion_lessons.course.exercises.magics import without_magics
from diffusion_lessons.course.exercises.mark import STUB, decorated, is_stub

NAMED, RENAMED = 2, 5  # operations from which an expression counts, under the same and under other names
OPERATIONS = (ast.BinOp, ast.UnaryOp, ast.Call, ast.Compare, ast.Subscript, ast.BoolOp, ast.comprehension)
FENCE = re.compile(r"```(?:python|py)?\n(.*?)```", re.DOTALL)


def leak_problems(lesson: Lesson, student: nbformat.NotebookNode) -> Said:
    """One refusal for each solution that can be read in the student notebook."""
    known = _known(student)
    for cell in lesson.code:
        for block, secret in _secrets(cell):
            leaked = [item for item in secret if ast.dump(item) in known or _renamed(item) in known]
            if _tells(leaked, secret):
                said = ast.unparse(max(leaked, key=weight))
                yield cell.line + block.first, "leak", f"the student notebook holds this solution: {said!r}"


def stub_problems(lesson: Lesson, student: nbformat.NotebookNode) -> Said:
    """Exercises that a student would find without a stub, or with code behind it."""
    for cell, made in zip(lesson.cells, student.cells, strict=True):
        if cell.kind != "code" or any(block.kind == "STUDENT" for block in blocks(cell.source)):
            continue  # what a debug exercise hands out is no stub
        tree = parse(lesson, replace(cell, source=made.source))
        if decorated(tree) and STUB not in made.source:
            message = "this exercise has no '### BEGIN SOLUTION': nothing is left to do"
            yield cell.line, "stub", message
        elif decorated(tree) and _code_after_stub(tree):
            message = "code after the solution block, other than 'return name': is it part of it?"
            yield cell.line, "stub", message


def _code_after_stub(tree: ast.Module) -> bool:
    for node in ast.walk(tree):
        body: Any = getattr(node, "body", None)
        for i, statement in enumerate(body if isinstance(body, list) else ()):
            if is_stub(statement) and not all(map(_returns_names, body[i + 1 :])):
                return True
    return False


def _returns_names(statement: ast.stmt) -> bool:
    if not isinstance(statement, ast.Return):
        return False
    values = statement.value.elts if isinstance(statement.value, ast.Tuple) else [statement.value]
    return all(isinstance(value, ast.Name) for value in values)


# Comparing -----------------------------------------------------------------------------------------


def _secrets(cell: Cell) -> Iterator[tuple[Block, list[ast.expr]]]:
    """The solution blocks of a cell with their items, less what a STUDENT block shows."""
    marked = blocks(cell.source)
    told = {
        ast.dump(item)
        for block in marked
        if block.kind == "STUDENT"
        for item in _items(_parsed(cell, block, shown(block)))
    }
    for block in marked:
        if block.kind == "SOLUTION":
            items = _items(_parsed(cell, block, list(block.lines)))
            yield block, [item for item in items if ast.dump(item) not in told]


def _parsed(cell: Cell, block: Block, lines: list[str]) -> ast.Module:
    try:
        return ast.parse(textwrap.dedent("\n".join(lines)))
    except SyntaxError as error:
        error.lineno = cell.line + block.first + (error.lineno or 1)
        error.msg = f"a {block.kind} block holds whole statements: {error.msg}"
        raise


def _items(tree: ast.AST) -> list[ast.expr]:
    """The outermost expressions of every statement that do enough to be told apart."""
    if isinstance(tree, ast.expr):
        return [tree] if weight(tree) >= NAMED else []
    return [item for child in ast.iter_child_nodes(tree) for item in _items(child)]


def weight(tree: ast.AST) -> int:
    """The number of operations in an expression."""
    return sum(isinstance(node, OPERATIONS) for node in ast.walk(tree))


def _tells(leaked: list[ast.expr], secret: list[ast.expr]) -> bool:
    """Does this much of a solution give it away: its heart, or half of it?"""
    if not leaked:
        return False
    told, all_of_it = list(map(weight, leaked)), list(map(weight, secret))
    return max(told) == max(all_of_it) or 2 * sum(told) >= sum(all_of_it)


def _known(student: nbformat.NotebookNode) -> set[str]:
    """Every expression that the notebook writes down, as it stands and with its names numbered."""
    written = (node for cell in student.cells for code in _codes(cell) for node in ast.walk(code))
    long = [node for node in written if isinstance(node, ast.expr) and weight(node) >= NAMED]
    return {text for node in long for text in (ast.dump(node), _renamed(node))}


def _codes(cell: Any) -> Iterator[ast.Module]:
    if cell.cell_type == "code":
        comments = "\n".join(re.findall(r"(?m)^\s*#+ ?(.*)$", cell.source))
        texts = [without_magics(cell.source) or cell.source, comments]
    else:
        texts = FENCE.findall(cell.source) + re.findall(r"`([^`\n]+)`", cell.source)
    for text in texts:
        yield from _tried(text)


def _tried(text: str) -> Iterator[ast.Module]:
    """A text as code, whole or line by line where prose stands between."""
    try:
        yield ast.parse(textwrap.dedent(text))
    except SyntaxError:
        for line in text.split("\n"):
            with suppress(SyntaxError):
                yield ast.parse(line.strip())


def _renamed(node: ast.expr) -> str:
    """The expression with its names numbered in the order in which they appear, where it is long enough."""
    if weight(node) < RENAMED:
        return ast.dump(node)
    numbers: dict[str, str] = {}
    node = copy.deepcopy(node)
    for name in ast.walk(node):
        if isinstance(name, ast.Name):
            name.id = numbers.setdefault(name.id, f"n{len(numbers)}")
    return ast.dump(node)
