"""Names in the one module: equal things share a name, others that would collide get their lesson's number."""

import ast
import builtins
import sys
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence

from diffusion_lessons.course.grading.code.statements import Statement, read
from diffusion_lessons.course.mine.names import renamed
from diffusion_lessons.course.mine.pieces import PACKAGE, Piece

GLUE = ""  # the source of what is no piece
IMPORTS = (ast.Import, ast.ImportFrom)


class Keeper:
    """Gives every name of every source its name in the module, first come first served."""

    def __init__(self, glue: Sequence[str], pieces: Sequence[Piece], kept: Collection[str]) -> None:
        """`pieces` in their order; `kept` are the exercises that the glue calls: they keep their names."""
        self.lesson = {GLUE: ""} | {piece.source: piece.exercise.lesson for piece in pieces}
        self.taken: dict[str, object] = dict.fromkeys(dir(builtins), "builtin")  # name here -> what it is
        self.exercises: dict[tuple[str, str], str] = {}  # lesson and name there -> name here
        self.others: dict[tuple[str, str], str] = {}  # source and name there -> name here
        self.helpers: dict[tuple[str, str], list[tuple[str, Statement]]] = defaultdict(list)
        self.imports: dict[str, tuple[str, str]] = {}  # name here -> module, and the name in it or ""
        self.submodules: set[str] = set()
        self.written: set[object] = set()

        self._note(GLUE, glue)
        for source, name in list(self.helpers):
            self.name(source, name)
        for piece in sorted(pieces, key=lambda piece: piece.exercise.id not in kept):
            each = piece.exercise
            self.exercises[each.lesson, each.name] = self._free(each.name, each.lesson, ("exercise", each.id))
        for piece in pieces:
            self._note(piece.source, piece.code)

    def name(self, source: str, name: str) -> str:
        """The name here of what a source calls so; what it does not bind keeps its name."""
        lesson, key = self.lesson[source], (source, name)
        if (lesson, name) in self.exercises:
            return self.exercises[lesson, name]
        if key not in self.others and key in self.helpers:
            self.others[key] = self._free(name, lesson, self._meaning(source, name))
        return self.others.get(key, name)

    def code(self, source: str, code: Sequence[str]) -> list[str]:
        """Statements as the module has them, without imports and without what is written there already."""
        made = []
        for text, each in _statements(code):
            names = {name: self.name(source, name) for name in each.binds | each.needs}
            text = renamed(text, {old: new for old, new in names.items() if old != new})
            mark: object = text if each.binds else (source, text)
            if mark not in self.written and not isinstance(each.node, IMPORTS):
                self.written.add(mark)
                made.append(text)
        return made

    def import_lines(self) -> str:
        """All imports: those of Python, then the others."""
        whole = {module: f"import {module}" for module in self.submodules}
        parts: dict[str, list[str]] = defaultdict(list)
        for new, (module, name) in sorted(self.imports.items()):
            if name:
                parts[module].append(name if name == new else f"{name} as {new}")
            else:
                whole[f"{module} {new}"] = f"import {module}" + ("" if module == new else f" as {new}")
        lines = [*sorted(whole.values()), *(f"from {m} import {', '.join(parts[m])}" for m in sorted(parts))]
        ours = [line for line in lines if line.split()[1].split(".")[0] in sys.stdlib_module_names]
        blocks = ["from __future__ import annotations"], ours, [line for line in lines if line not in ours]
        return "\n\n".join("\n".join(block) for block in blocks if block)

    def _note(self, source: str, code: Sequence[str]) -> None:
        for text, each in _statements(code):
            if isinstance(each.node, IMPORTS):
                for bound, module, name in _imported(each.node):
                    self._import(source, bound, module, name)
            elif all(text != known for bound in each.binds for known, _ in self.helpers[source, bound]):
                for bound in each.binds:
                    self.helpers[source, bound].append((text, each))

    def _import(self, source: str, bound: str, module: str, name: str) -> None:
        if module.split(".")[0] == PACKAGE:  # the glue has it
            self.others[source, bound] = name
            return
        if not name and "." in module and bound == module.split(".")[0]:
            self.submodules.add(module)
            module = bound
        new = self._free(bound, self.lesson[source], ("import", module, name))
        self.others[source, bound], self.imports[new] = new, (module, name)

    def _free(self, name: str, lesson: str, what: object) -> str:
        """The first name like this one that is free, or stands for just this."""
        new, tries = name, 1
        while self.taken.get(new, what) != what:
            new = f"{name}_{lesson}" if tries == 1 else f"{name}_{lesson}_{tries}"
            tries += 1
        self.taken[new] = what
        return new

    def _meaning(self, source: str, name: str) -> object:
        """The code that binds a name, and all that this needs of its source."""
        found: dict[str, object] = {}
        waiting = [name]
        while waiting:
            each = waiting.pop()
            if each not in found and (source, each) in self.helpers:
                found[each] = tuple(text for text, _ in self.helpers[source, each])
                waiting += [need for _, one in self.helpers[source, each] for need in one.needs]
            elif each not in found:
                found[each] = self.name(source, each)
        return frozenset(found.items())


def _statements(code: Sequence[str]) -> Iterator[tuple[str, Statement]]:
    return zip(code, read(dict(enumerate(code))).statements, strict=True)


def _imported(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, str, str]]:
    """The name that each part of an import binds, its module, and the name in that or ""."""
    for alias in node.names:
        if isinstance(node, ast.ImportFrom):
            yield alias.asname or alias.name, node.module or "", alias.name
        elif alias.asname and "." in alias.name:  # import a.b as c
            module, _, name = alias.name.rpartition(".")
            yield alias.asname, module, name
        else:
            yield alias.asname or alias.name.split(".")[0], alias.name, ""
