"""What an answer depends on: the imports, definitions and constants that it uses, and theirs.

Found from the code. What code cannot show (a name that `exec` makes, a notebook that loads another)
ends in a NameError; for that case there is `before`, all that stands above the answer. What trains
something is never run.
"""

import ast
import builtins
from collections.abc import Iterable

from diffusion_lessons.course.grading.code.statements import Place, Statement

GIVEN = frozenset(dir(builtins)) | {"display", "get_ipython", "__name__", "__file__"}
IMPORTS = (ast.Import, ast.ImportFrom)
TRAINERS = "diffusion_lessons.training"  # whatever comes from there trains


class Slicer:
    """Slices of one notebook's statements."""

    def __init__(self, statements: list[Statement]) -> None:
        self.statements = statements
        self.trains = training(statements)
        self.binders: dict[str, list[Statement]] = {}
        for each in statements:
            for name in each.binds if each not in self.trains else ():
                self.binders.setdefault(name, []).append(each)

    def pieces(self, answer: Statement, rivals: Iterable[Statement] = ()) -> list[Place]:
        """The places of what an answer depends on, in order; without it and other answers to its exercise."""
        excluded = {answer, *rivals}
        found: set[Statement] = set()
        waiting = set(answer.needs)
        known: set[str] = set()
        while waiting - known:
            name = (waiting - known).pop()
            known.add(name)
            new = [each for each in self._binders(name, answer) if each not in excluded | found]
            found.update(new)
            waiting.update(need for each in new for need in each.needs)
        missing = known - GIVEN - {name for each in found for name in each.binds}
        if missing:
            found.update(each for each in self.statements if each.imports_all)
        return sorted(each.place for each in found)

    def _binders(self, name: str, answer: Statement) -> list[Statement]:
        binders = self.binders.get(name, [])
        above = [each for each in binders if each.place < answer.place]
        plain = not any(each.is_definition or isinstance(each.node, IMPORTS) for each in binders)
        changes = [
            each
            for each in self.statements
            if each.place < answer.place
            and each not in self.trains
            and (name in each.touches or (plain and binders and name == each.calls_on))
        ]
        return (above or binders) + changes

    def before(self, answer: Statement, rivals: Iterable[Statement] = ()) -> list[Place]:
        """All that stands above an answer, but what trains."""
        excluded = {answer, *rivals} | self.trains
        return [each.place for each in self.statements if each.place < answer.place and each not in excluded]


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
    loops = [each.iter for each in ast.walk(node) if isinstance(each, (ast.For, ast.comprehension))]
    return bool(_called(node) & (names | {"backward"})) or any("steps" in _called(each) for each in loops)


def _called(node: ast.AST) -> set[str]:
    """The last names of what is called anywhere in some code."""
    calls = [each.func for each in ast.walk(node) if isinstance(each, ast.Call)]
    return {each.attr if isinstance(each, ast.Attribute) else getattr(each, "id", "") for each in calls}
