"""Names given anew in code: only where they mean what the module holds, never a parameter or an attribute."""

import ast
import re
from collections.abc import Iterator, Mapping
from typing import Any

from diffusion_lessons.course.exercises.mark import DEFINITIONS

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
SCOPES = (*FUNCTIONS, *COMPREHENSIONS, ast.ClassDef)


def renamed(code: str, names: Mapping[str, str]) -> str:
    """Code of a module with other names for what stands at its top (old -> new); its layout stays."""
    if not names:
        return code
    changes = _Changes(names)
    tree = changes.visit(ast.parse(code))
    lines = [line.encode() for line in code.split("\n")]  # Python counts columns in bytes
    for line, column, old in sorted(changes.places, reverse=True):
        text = lines[line - 1]
        found = re.compile(rb"\b" + old.encode() + rb"\b").search(text, column)
        if found:
            lines[line - 1] = text[: found.start()] + names[old].encode() + text[found.end() :]
    made = b"\n".join(lines).decode()
    return made if _is(made, tree) else ast.unparse(tree)  # Python 3.11 misplaces names in f-strings


def _is(code: str, tree: ast.AST) -> bool:
    try:
        return ast.dump(ast.parse(code)) == ast.dump(tree)
    except SyntaxError:
        return False


class _Changes(ast.NodeTransformer):
    """Renames in a tree, and notes where."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self.names = names
        self.scopes: list[tuple[bool, set[str]]] = []  # is it a class? and its own names
        self.places: list[tuple[int, int, str]] = []  # line, column, old name

    def _new(self, name: str, node: Any) -> str:
        hidden = any(
            name in own for i, (of_class, own) in enumerate(reversed(self.scopes)) if i == 0 or not of_class
        )
        if name not in self.names or hidden:
            return name
        self.places.append((node.lineno, node.col_offset, name))
        return self.names[name]

    def visit_Name(self, node: ast.Name) -> ast.AST:
        node.id = self._new(node.id, node)
        return node

    def visit_Global(self, node: ast.Global) -> ast.AST:
        node.names = [self.names.get(name, name) for name in node.names]
        return node

    def visit_alias(self, node: ast.alias) -> ast.AST:
        bound = node.asname or node.name
        new = self._new(bound, node)
        node.asname = new if new != bound else node.asname
        return node

    def generic_visit(self, node: ast.AST) -> ast.AST:
        if not isinstance(node, SCOPES):
            return super().generic_visit(node)
        if isinstance(node, DEFINITIONS):
            node.name = self._new(node.name, node)
        inner: list[tuple[str, Any]] = []
        for field, value in ast.iter_fields(node):  # what stands outside of the new scope first
            if field in ("body", "elt", "key", "value", "generators"):
                inner.append((field, value))
            elif field == "args":
                for each in (*value.defaults, *filter(None, value.kw_defaults)):
                    self.visit(each)
                for arg in ast.walk(value):
                    if isinstance(arg, ast.arg) and arg.annotation:
                        self.visit(arg.annotation)
            else:
                self._all(value)
        if isinstance(node, COMPREHENSIONS):
            self.visit(node.generators[0].iter)
        self.scopes.append((isinstance(node, ast.ClassDef), set(_own(node))))
        for _, value in inner:
            self._all(value)
        self.scopes.pop()
        return node

    def _all(self, value: Any) -> None:
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, ast.AST):
                self.visit(each)


def _own(scope: ast.AST) -> Iterator[str]:
    """The names that a function, class or comprehension binds for itself."""
    shared = {name for node in _inside(scope) if isinstance(node, (ast.Global)) for name in node.names}
    for node in _inside(scope):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            found = node.id
        elif isinstance(node, DEFINITIONS):
            found = node.name
        elif isinstance(node, ast.alias):
            found = (node.asname or node.name).split(".")[0]
        elif isinstance(node, ast.arg):
            found = node.arg
        else:
            found = getattr(node, "name", None) or getattr(node, "rest", None) or ""  # except, match
        if isinstance(found, str) and found and found not in shared:
            yield found


def _inside(scope: ast.AST) -> Iterator[ast.AST]:
    """All nodes of a scope; of scopes within it the node alone, and what `:=` binds out of comprehensions."""
    waiting = list(ast.iter_child_nodes(scope))
    if isinstance(scope, DEFINITIONS):
        outside = [*scope.decorator_list, *getattr(scope, "bases", ())]
        waiting = [each for each in waiting if each not in outside]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, COMPREHENSIONS):
            waiting += [each.target for each in ast.walk(node) if isinstance(each, ast.NamedExpr)]
        elif not isinstance(node, SCOPES):
            waiting += ast.iter_child_nodes(node)
