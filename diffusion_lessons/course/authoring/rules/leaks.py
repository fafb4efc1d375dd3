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
from typing import Any

import nbformat

from diffusion_lessons.course.authoring.cells import STUB, Block, blocks, uncomment
from diffusion_lessons.course.authoring.source import Cell, Lesson, Problem

NAMED, RENAMED = 2, 5  # operations from which an expression counts, under the same and under other names
OPERATIONS = (ast.BinOp, ast.UnaryOp, ast.Call, ast.Compare, ast.Subscript, ast.BoolOp, ast.comprehension)
FENCE = re.compile(r"```(?:python|py)?\n(.*?)```", re.DOTALL)


def leak_problems(lesson: Lesson, student: nbformat.NotebookNode) -> list[Problem]:
    """One refusal for each solution that can be read in the student notebook."""
    named, renamed = _known(student)
    problems = []
    for cell in lesson.cells:
        if cell.kind != "code":
            continue
        for block, secret in _secrets(lesson, cell):
            leaked = [item for item in secret if ast.dump(item) in named or _is_renamed(item, renamed)]
            if _tells(leaked, secret):
                message = f"the student notebook holds this solution: {ast.unparse(_heaviest(leaked))!r}"
                problems.append(lesson.problem(cell.line + block.first, "leak", message))
    return problems


def stub_problems(lesson: Lesson, student: nbformat.NotebookNode) -> list[Problem]:
    """Exercises that a student would find without a stub, or with code behind it."""
    problems = []
    for cell, made in zip(lesson.cells, student.cells, strict=True):
        if cell.kind == "code" and "@exercise(" in made.source:
            handed_out = any(block.kind == "STUDENT" for block in blocks(cell.source))
            if STUB not in made.source and not handed_out:
                message = "this exercise has no '### BEGIN SOLUTION': nothing is left to do"
                problems.append(lesson.problem(cell.line, "stub", message))
            elif not handed_out and _code_after_stub(made.source):
                message = "code after the solution block, other than 'return name': is it part of it?"
                problems.append(lesson.problem(cell.line, "stub", message))
    return problems


def _code_after_stub(source: str) -> bool:
    for node in ast.walk(ast.parse(source)):
        body = getattr(node, "body", None)
        if not isinstance(body, list):
            continue
        for i, statement in enumerate(body):
            stub = isinstance(statement, ast.Raise) and "NotImplementedError" in ast.dump(statement)
            if stub and any(not _returns_names(after) for after in body[i + 1 :]):
                return True
    return False


def _returns_names(statement: ast.stmt) -> bool:
    if not isinstance(statement, ast.Return):
        return False
    values = statement.value.elts if isinstance(statement.value, ast.Tuple) else [statement.value]
    return all(isinstance(value, ast.Name) for value in values)


# Comparing -----------------------------------------------------------------------------------------


def _secrets(lesson: Lesson, cell: Cell) -> Iterator[tuple[Block, list[ast.expr]]]:
    """The solution blocks of a cell with their items, less what a STUDENT block shows."""
    marked = blocks(cell.source)
    shown = {
        ast.dump(item)
        for block in marked
        if block.kind == "STUDENT"
        for item in _items(_parsed(lesson, cell, block, [uncomment(line) for line in block.lines]))
    }
    for block in marked:
        if block.kind == "SOLUTION":
            items = _items(_parsed(lesson, cell, block, list(block.lines)))
            yield block, [item for item in items if ast.dump(item) not in shown]


def _parsed(lesson: Lesson, cell: Cell, block: Block, lines: list[str]) -> ast.Module:
    try:
        return ast.parse(textwrap.dedent("\n".join(lines)))
    except SyntaxError as error:
        error.lineno = cell.line + block.first + (error.lineno or 1)
        error.msg = f"a {block.kind} block holds whole statements: {error.msg}"
        raise


def _items(tree: ast.AST) -> list[ast.expr]:
    """The outermost expressions of every statement that do enough to be told apart."""
    found: list[ast.expr] = []

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.expr):
            if weight(node) >= NAMED:
                found.append(node)
            return
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(tree)
    return found


def weight(tree: ast.AST) -> int:
    """The number of operations in an expression."""
    return sum(isinstance(node, OPERATIONS) for node in ast.walk(tree))


def _tells(leaked: list[ast.expr], secret: list[ast.expr]) -> bool:
    """Does this much of a solution give it away: its heart, or half of it?"""
    if not leaked:
        return False
    heart = weight(_heaviest(secret))
    return weight(_heaviest(leaked)) == heart or 2 * sum(map(weight, leaked)) >= sum(map(weight, secret))


def _heaviest(items: list[ast.expr]) -> ast.expr:
    return max(items, key=weight)


def _is_renamed(item: ast.expr, renamed: set[str]) -> bool:
    return weight(item) >= RENAMED and _renamed(item) in renamed


def _known(student: nbformat.NotebookNode) -> tuple[set[str], set[str]]:
    """Every expression that the notebook writes down, as it stands and with its names numbered."""
    named, renamed = set(), set()
    for cell in student.cells:
        for code in _codes(cell):
            for node in ast.walk(code):
                if isinstance(node, ast.expr) and weight(node) >= NAMED:
                    named.add(ast.dump(node))
                    if weight(node) >= RENAMED:
                        renamed.add(_renamed(node))
    return named, renamed


def _codes(cell: Any) -> Iterator[ast.Module]:
    if cell.cell_type == "code":
        texts = [re.sub(r"(?m)^(\s*)[%!].*$", r"\1pass", cell.source)]
        texts += ["\n".join(re.findall(r"(?m)^\s*#+ ?(.*)$", cell.source))]  # code in comments
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
            try:
                yield ast.parse(line.strip())
            except SyntaxError:
                continue


def _renamed(node: ast.expr) -> str:
    """The expression with its names numbered in the order in which they appear."""
    numbers: dict[str, str] = {}
    node = copy.deepcopy(node)
    for name in ast.walk(node):
        if isinstance(name, ast.Name):
            name.id = numbers.setdefault(name.id, f"n{len(numbers)}")
    return ast.dump(node)
