"""What an answer depends on: the imports, definitions and constants that it uses, and theirs.

Found from the code. What code cannot show (a name that `exec` makes, a notebook that loads another)
ends in a NameError; for that case there is `before`, all that stands above the answer. What trains
something is never run.
"""

import ast
import builtins
from collections import defaultdict
from collections.abc import Iterable

from diffusion_lessons.course.exercises.mark import DEFINITIONS, same_level
from diffusion_lessons.course.grading.code.statements import Place, Statement

GIVEN = frozenset(dir(builtins)) | {"display", "get_ipython", "__name__", "__file__"}
IMPORTS = (ast.Import, ast.ImportFrom)
TRAINERS = "diffusion_lessons.training"  # whatever comes from there trains


class Slicer:
    """Slices of one notebook's statements."""

    def __init__(self, statements: list[Statement]) -> None:
        self.statements = statements
        self.trains = training(statements)
        self.binders: defaultdict[str, list[Statement]] = defaultdict(list)
        self.changers: defaultdict[str, list[Statement]] = defaultdict(list)
        for each in statements:
            if each not in self.trains:
                for name in each.binds:
                    self.binders[name].append(each)
                for name in each.touches | {each.calls_on}:
                    self.changers[name].append(each)

    def pieces(self, answer: Statement, rivals: Iterable[Statement] = ()) -> list[Place]:
        """The places of what an answer depends on, in order; without it and other answers to its exercise."""
        excluded = {answer, *rivals}
        found: set[Statement] = set()
        waiting = set(answer.needs)
        known: set[str] = set()
        while waiting:
            if (name := waiting.pop()) in known:
                continue
            known.add(name)
            new = [each for each in self._binders(name, answer) if each not in excluded | found]
            found.update(new)
            waiting.update(need for each in new for need in each.needs)
        missing = known - GIVEN - {name for each in found for name in each.binds}
        found.update(each for each in self.statements if each.changes_the_language)
        if missing:
            found.update(each for each in self.statements if each.imports_all)
        return sorted(each.place for each in found - excluded)

    def _binders(self, name: str, answer: Statement) -> list[Statement]:
        binders = self.binders[name]
        above = [each for each in binders if each.place < answer.place]
        plain = not any(each.is_definition or isinstance(each.node, IMPORTS) for each in binders)
        changes = [
            each
            for each in self.changers[name]
            if each.place < answer.place and (name in each.touches or (plain and binders))
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
    trainers = _imported(statements) | {"backward"}
    callers: defaultdict[str, list[str]] = defaultdict(list)
    for node in (node for each in statements for node in same_level(each.node)):
        if isinstance(node, ast.FunctionDef):
            inside = list(ast.walk(node))
            if _trains(inside, trainers):
                trainers.add(node.name)
            for name in _called(inside):
                callers[name].append(node.name)
    waiting = list(trainers)
    while waiting:
        new = set(callers[waiting.pop()]) - trainers
        trainers |= new
        waiting += new
    return {each for each in statements if not each.is_definition and _trains(_running(each.node), trainers)}


def _running(statement: ast.stmt) -> list[ast.AST]:
    """What runs with a statement, and not what it only defines."""
    found: list[ast.AST] = [statement]
    for node in found:  # which grows on the way
        found += (each for each in ast.iter_child_nodes(node) if not isinstance(each, DEFINITIONS))
    return found


def _imported(statements: list[Statement]) -> set[str]:
    return {
        alias.asname or alias.name
        for each in statements
        if isinstance(each.node, ast.ImportFrom) and (each.node.module or "").startswith(TRAINERS)
        for alias in each.node.names
        if alias.name[:1].islower()
    }


def _trains(nodes: list[ast.AST], trainers: set[str]) -> bool:
    loops = [each.iter for each in nodes if isinstance(each, (ast.For, ast.comprehension))]
    return bool(_called(nodes) & trainers) or any("steps" in _called(ast.walk(each)) for each in loops)


def _called(nodes: Iterable[ast.AST]) -> set[str]:
    """The last names of what is called among the nodes of some code."""
    calls = [each.func for each in nodes if isinstance(each, ast.Call)]
    return {each.attr if isinstance(each, ast.Attribute) else getattr(each, "id", "") for each in calls}
