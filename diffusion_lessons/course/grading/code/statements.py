"""A notebook's code as a row of statements that know what they bind and what they need.

Only a server's child reads students' code with these functions: some texts bring Python's own parser
down, and the process with it.
"""

import ast
import symtable
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from diffusion_lessons.course.exercises.magics import NO_PYTHON, parsed
from diffusion_lessons.course.exercises.mark import DEFINITIONS, exercise_id, undecorated

AWAIT = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT  # as in a notebook
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

    @property
    def is_definition(self) -> bool:
        return isinstance(self.node, DEFINITIONS)

    @property
    def changes_the_language(self) -> bool:
        """`from __future__ import …`, which holds from there on."""
        return isinstance(self.node, ast.ImportFrom) and self.node.module == "__future__"

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
    """The statements of code cells by their place in the notebook.

    As in IPython, a cell that does not parse gives none, and one with a statement that does not compile
    (`def f(a, a)`, a late `global`) gives those above it.
    """
    code = Code()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for cell, source in sources.items():
            try:
                code.cells[cell], tree = parsed(source)
                lines = code.cells[cell].encode().split(b"\n")
                for i, node in enumerate(tree.body):
                    compile(ast.Module([node], []), "<cell>", "exec", AWAIT, dont_inherit=True)
                    code.statements.append(Statement((cell, i), node, *_names(node, lines)))
            except NO_PYTHON as error:
                deep = isinstance(error, (RecursionError, MemoryError))
                message = "nested too deeply" if deep else getattr(error, "msg", "") or str(error)
                code.broken.append(Broken(cell, getattr(error, "lineno", None) or 1, message))
    return code


def exercise_of(node: ast.stmt) -> str | None:
    """The id in `@exercise("02.1")` above a statement, or in `answer = exercise("02.1")(function)`."""
    calls = getattr(node, "decorator_list", [])
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
        calls = [node.value.func]
    return next(filter(None, map(exercise_id, calls)), None)


def bound(node: ast.stmt) -> list[str]:
    """The names that a definition or an assignment gives to others; none for anything else."""
    if isinstance(node, DEFINITIONS):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else ()
    stored = (each for target in targets for each in ast.walk(target) if isinstance(each, ast.Name))
    return [each.id for each in stored if isinstance(each.ctx, ast.Store)]


def _names(node: ast.stmt, lines: list[bytes]) -> tuple[frozenset[str], frozenset[str]]:
    """Bound by a statement, and needed from elsewhere; the mark of its exercise needs nothing."""
    first, last = node.lineno - 1, node.end_lineno or node.lineno
    own = lines[first:last]
    own[-1] = own[-1][: node.end_col_offset]
    own[0] = own[0][node.col_offset :]
    table = symtable.symtable(b"\n".join(own).decode(), "<cell>", "exec")
    symbols = table.get_symbols()
    binds = {each.get_name() for each in symbols if each.is_assigned() or each.is_imported()}
    needs = {each.get_name() for each in symbols if each.is_referenced()}
    for inner in _below(table):
        needs |= {each.get_name() for each in inner.get_symbols() if each.is_global()}
    if isinstance(node, DEFINITIONS):
        needs -= binds
        kept = getattr(undecorated(node), "decorator_list", [])
        needs |= {each.id for one in kept for each in ast.walk(one) if isinstance(each, ast.Name)}
    return frozenset(binds), frozenset(needs)


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
