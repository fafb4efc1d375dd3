"""How an exercise is known in a notebook: by its decorator, its cell's id, its stub, its solution's marks.

The build and its rules, the grader, the export to nbgrader and the identification of notebooks all ask
here. What is Python is asked as Python (`exercise_id`, `decorated`, `is_stub`); a cell that need not be
is asked as text (`ids_in`).
"""

import ast
import re
from collections.abc import Iterator

KEY = "diffusion_lessons"  # of our metadata in a notebook
STUB = "raise NotImplementedError  # your code here"
STUB_LINE = re.compile(r"(?m)^([ \t]*)raise NotImplementedError\b.*$")
# nbgrader's convention, and our own for what a student starts from instead of a stub
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
BEGIN_STUDENT, END_STUDENT = "### BEGIN STUDENT", "### END STUDENT"
MARKER = re.compile(r"\s*### (BEGIN|END) (SOLUTION|STUDENT)\s*")
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
_CALL = re.compile(r"exercise\(\s*['\"](\d\d\.\d+)['\"]")
_CELL = re.compile(r"(?:exercise|card)-(\d\d)-(\d+)")


def exercise_id(call: ast.expr) -> str | None:
    """The id in `exercise("02.1")`, however the name `exercise` is reached; None for anything else."""
    if not isinstance(call, ast.Call):
        return None
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    given = [*call.args, *(each.value for each in call.keywords)]
    if name == "exercise" and given and isinstance(given[0], ast.Constant):
        return str(given[0].value)
    return None


def decorated(tree: ast.Module) -> list[tuple[Definition, str]]:
    """The functions and classes under `@exercise("…")` at the top of some code, each with its id."""
    return [
        (node, id)
        for node in tree.body
        if isinstance(node, DEFINITIONS)
        for id in map(exercise_id, node.decorator_list)
        if id is not None
    ]


def same_level(statement: ast.stmt) -> Iterator[ast.stmt]:
    """A statement, then those in it that bind names where it stands itself: in `if`, `try`, `with`, loops."""
    waiting: list[ast.AST] = [statement]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.stmt):
            yield node
        if not isinstance(node, DEFINITIONS):
            inner = ast.iter_child_nodes(node)
            waiting += reversed([each for each in inner if not isinstance(each, ast.expr)])


def first_line(node: ast.stmt) -> int:
    """Where a statement begins, its decorators included."""
    return min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", ()))])


def undecorated(node: ast.stmt) -> ast.stmt:
    """A definition without its `@exercise("…")`; anything else as it is."""
    if not isinstance(node, DEFINITIONS):
        return node
    kept = [each for each in node.decorator_list if exercise_id(each) is None]
    if len(kept) == len(node.decorator_list):
        return node
    fields = {name: getattr(node, name) for name in node._fields} | {"decorator_list": kept}
    return ast.copy_location(type(node)(**fields), node)


def is_stub(statement: ast.stmt) -> bool:
    """Is this the line that stands where the student's code belongs?"""
    return isinstance(statement, ast.Raise) and "NotImplementedError" in ast.dump(statement)


def ids_in(text: str) -> list[str]:
    """The ids of the exercises that a cell's text marks with `exercise("…")`, Python or not."""
    return _CALL.findall(text)


def cell_id(id: str, kind: str = "exercise") -> str:
    """What the build calls the cell of an exercise, or its card: "exercise-02-1", "card-02-1"."""
    return f"{kind}-" + re.sub(r"\W", "-", id)


def ids_in_cell_id(name: str) -> list[str]:
    """The exercises whose cell or card this id names, also where an editor added to it."""
    return [f"{lesson}.{number}" for lesson, number in _CELL.findall(name)]
