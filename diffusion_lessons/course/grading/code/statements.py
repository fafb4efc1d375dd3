"""A notebook's code as a row of statements that know what they bind and what they need.

Only a server's child reads students' code with these functions: some texts bring Python's own parser
down, and the process with it.
"""

import ast
import re
import symtable
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

Place = tuple[int, int]  # cell, and the statement's number in it
TRANSPARENT = ("time", "timeit", "capture", "prun", "matplotlib")  # cell magics with Python below them
COMPOUND = (ast.For, ast.AsyncFor, ast.While, ast.If, ast.With, ast.AsyncWith, ast.Try, ast.Match)
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@dataclass(frozen=True)
class Broken:
    """A cell that is no Python."""

    cell: int
    line: int
    message: str


@dataclass(frozen=True, eq=False)
class Statement:
    """One statement at the top of a cell."""

    place: Place
    node: ast.stmt

    @cached_property
    def names(self) -> tuple[frozenset[str], frozenset[str]]:
        """(bound here, needed from elsewhere)."""
        return _names(undecorated(self.node))

    @property
    def binds(self) -> frozenset[str]:
        return self.names[0]

    @property
    def needs(self) -> frozenset[str]:
        return self.names[1]

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
        """The id in `@exercise("02.1")` above it."""
        return next(filter(None, map(exercise_id, getattr(self.node, "decorator_list", ()))), None)

    @property
    def is_import(self) -> bool:
        return isinstance(self.node, (ast.Import, ast.ImportFrom))

    @property
    def is_definition(self) -> bool:
        return isinstance(self.node, DEFINITIONS)

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
        except SyntaxError as error:
            code.broken.append(Broken(cell, error.lineno or 1, error.msg))
            continue
        except (ValueError, RecursionError, MemoryError) as error:
            code.broken.append(Broken(cell, 1, str(error) or type(error).__name__))
            continue
        code.statements += [Statement((cell, i), node) for i, node in enumerate(tree.body)]
    return code


def parsed(source: str) -> tuple[str, ast.Module]:
    """A cell as Python, its magics and shell lines taken out, line by line the same.

    Raises:
        SyntaxError: it is no Python all the same.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "\d" in a text is the student's business
        try:
            return source, ast.parse(source)
        except SyntaxError:
            if (magic := re.match(r"\s*%%(\w+)", source)) and magic[1] not in TRANSPARENT:
                return "", ast.parse("")
            plain = "\n".join(map(_without_magic, source.split("\n")))
            return plain, ast.parse(plain)


def _without_magic(line: str) -> str:
    indent, rest = re.match(r"(\s*)(.*)", line).groups()  # type: ignore[union-attr]
    if rest.startswith(("%%", "%", "!", "?")) or re.search(r"\w\?{1,2}\s*$", rest):
        return f"{indent}pass"
    return re.sub(r"^([\w, ]+=\s*)[%!].*$", r"\1None", line)


def exercise_id(decorator: ast.expr) -> str | None:
    """The id in `exercise("02.1")`, however the name `exercise` is reached."""
    if not isinstance(decorator, ast.Call):
        return None
    called = decorator.func
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
    given = [*decorator.args, *(each.value for each in decorator.keywords)]
    if name == "exercise" and given and isinstance(given[0], ast.Constant):
        return str(given[0].value)
    return None


def undecorated(node: ast.stmt) -> ast.stmt:
    """A definition without its `@exercise("…")`; anything else as it is."""
    if not isinstance(node, DEFINITIONS):
        return node
    kept = [each for each in node.decorator_list if exercise_id(each) is None]
    if len(kept) == len(node.decorator_list):
        return node
    fields = {name: getattr(node, name) for name in node._fields} | {"decorator_list": kept}
    return ast.copy_location(type(node)(**fields), node)


def _names(node: ast.stmt) -> tuple[frozenset[str], frozenset[str]]:
    table = symtable.symtable(ast.unparse(node), "<cell>", "exec")
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
