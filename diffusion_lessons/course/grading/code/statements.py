"""A notebook's code as a row of statements that know what they bind and what they need.

Only a server's child reads students' code with these functions: some texts bring Python's own parser
down, and the process with it.
"""

import ast
import symtable
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from diffusion_lessons.course.exercises.magics import parsed
from diffusion_lessons.course.exercises.mark import DEFINITIONS, exercise_id, undecorated

Place = tuple[int, int]  # cell, and the statement's number in it


class Broken(NamedTuple):
    """A cell that is no Python."""

    cell: int
    line: int
    message: str


@dataclass(frozen=True, eq=False)
class Statement:
    """One statement at the top of a cell."""

    place: Place
    node: ast.stmt
    binds: frozenset[str]  # names that it gives to others
    needs: frozenset[str]  # names that others must have given

    @cached_property
    def touches(self) -> frozenset[str]:
        """Names whose value is changed in place: `a[0] = …`, `a.b = …`."""
        targets: list[ast.expr] = []
        if isinstance(self.node, ast.Assign):
            targets = self.node.targets
        elif isinstance(self.node, (ast.AugAssign, ast.AnnAssign)):
            targets = [self.node.target]
        return frozenset(filter(None, map(_root, targets)))

    @cached_property
    def calls_on(self) -> str:
        """The name of a statement like `a.append(3)`."""
        call = self.node.value if isinstance(self.node, ast.Expr) else None
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
            return _root(call.func) or ""
        return ""

    @cached_property
    def exercise(self) -> str | None:
        """The id in `@exercise("02.1")` above it, or in `answer = exercise("02.1")(function)`."""
        calls = getattr(self.node, "decorator_list", [])
        if isinstance(self.node, ast.Assign) and isinstance(self.node.value, ast.Call):
            calls = [self.node.value.func]
        return next(filter(None, map(exercise_id, calls)), None)

    @property
    def is_definition(self) -> bool:
        return isinstance(self.node, DEFINITIONS)

    @property
    def can_answer(self) -> bool:
        return self.is_definition or isinstance(self.node, ast.Assign)

    @property
    def imports_all(self) -> bool:
        return isinstance(self.node, ast.ImportFrom) and any(each.name == "*" for each in self.node.names)


@dataclass
class Code:
    """All statements of a notebook in order, the cells they came from, and those that are no Python."""

    cells: dict[int, str] = field(default_factory=dict)  # as Python reads them
    statements: list[Statement] = field(default_factory=list)
    broken: list[Broken] = field(default_factory=list)


def read(sources: Mapping[int, str]) -> Code:
    """The statements of code cells by their place in the notebook."""
    code = Code()
    for cell, source in sources.items():
        try:
            code.cells[cell], tree = parsed(source)
            new = [Statement((cell, i), node, *_names(node)) for i, node in enumerate(tree.body)]
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            message = getattr(error, "msg", "") or str(error) or type(error).__name__
            code.broken.append(Broken(cell, getattr(error, "lineno", None) or 1, message))
        else:
            code.statements += new
    return code


def _names(node: ast.stmt) -> tuple[frozenset[str], frozenset[str]]:
    """Bound by a statement, and needed from elsewhere."""
    table = symtable.symtable(ast.unparse(undecorated(node)), "<cell>", "exec")
    symbols = table.get_symbols()
    binds = {each.get_name() for each in symbols if each.is_assigned() or each.is_imported()}
    needs = {each.get_name() for each in symbols if each.is_referenced()}
    for inner in _below(table):
        needs |= {each.get_name() for each in inner.get_symbols() if each.is_global()}
    own = binds if isinstance(node, DEFINITIONS) else set()
    return frozenset(binds), frozenset(needs - own)


def _below(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    for child in table.get_children():
        yield child
        yield from _below(child)


def _root(target: ast.expr) -> str | None:
    if not isinstance(target, (ast.Attribute, ast.Subscript)):
        return None
    inner: ast.expr = target
    while isinstance(inner, (ast.Attribute, ast.Subscript, ast.Call)):
        inner = inner.func if isinstance(inner, ast.Call) else inner.value
    return inner.id if isinstance(inner, ast.Name) else None
