"""Which statements train something: the grader never runs those."""

import ast
from collections.abc import Iterable, Iterator

from diffusion_lessons.course.grading.code.statements import Statement

TRAINERS = "diffusion_lessons.training"  # whatever comes from there


def training(statements: Iterable[Statement]) -> set[Statement]:
    """Statements that take gradient steps when they run, themselves or in a function that they call.

    A definition only defines; it is what calls it that trains.
    """
    statements = list(statements)
    names = _imported(statements)
    defined = {each.node.name: each.node for each in statements if isinstance(each.node, ast.FunctionDef)}
    while more := {name for name, node in defined.items() if name not in names and _trains(node, names)}:
        names |= more
    return {each for each in statements if not each.is_definition and _trains(each.node, names)}


def _imported(statements: list[Statement]) -> set[str]:
    return {
        alias.asname or alias.name
        for each in statements
        if isinstance(each.node, ast.ImportFrom) and (each.node.module or "").startswith(TRAINERS)
        for alias in each.node.names
        if alias.name[:1].islower()
    }


def _trains(node: ast.AST, names: set[str]) -> bool:
    if any(_called(call) == "backward" or _called(call) in names for call in _calls(node)):
        return True
    loops = (each for each in ast.walk(node) if isinstance(each, (ast.For, ast.comprehension)))
    return any(_called(call) == "steps" for loop in loops for call in _calls(loop.iter))


def _calls(node: ast.AST) -> Iterator[ast.Call]:
    return (each for each in ast.walk(node) if isinstance(each, ast.Call))


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
