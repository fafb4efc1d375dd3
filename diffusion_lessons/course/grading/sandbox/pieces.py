"""A notebook's statements, run one by one, in a course that checks, shows and installs nothing."""

import __future__

import ast
import asyncio
import linecache
from collections.abc import Callable, Collection, Mapping, Sequence
from types import CodeType
from typing import Any

import torch

from diffusion_lessons import course
from diffusion_lessons.course import bank
from diffusion_lessons.course.exercises import limits
from diffusion_lessons.course.exercises.mark import decorated, same_level, undecorated
from diffusion_lessons.course.exercises.stand_in import stand_in
from diffusion_lessons.course.grading.code.statements import AWAIT

KEPT = ("budget", "exercise", "setup")  # of the course's functions and modules


def silence() -> None:
    """Put quiet functions in the place of the course's own, in this process."""
    for name in course.__all__:
        if name.islower() and name not in KEPT:
            setattr(course, name, nothing)
    course.exercise = exercise
    course.setup = setup


def nothing(*args: Any, **kwargs: Any) -> None:
    """In the place of what shows something in a notebook."""


def exercise(id: str) -> Callable[[Any], Any]:
    """In the place of `@exercise("02.1")`: whatever stands below stays what it is."""
    return lambda given: given


def setup(lesson: str, seed: int = 0) -> tuple[torch.device, torch.Generator]:
    """In the place of the setup cell's: the CPU, and the same generator."""
    torch.manual_seed(seed)
    return torch.device("cpu"), torch.Generator().manual_seed(seed)


class Pieces:
    """Single statements of cells, run in one namespace under the line numbers of their cells.

    `ours` are exercises of which our own function is there: in the place of the one that a statement defines,
    and where none does.
    """

    def __init__(self, cells: Mapping[str, str], names: dict[str, Any], ours: Collection[str] = ()) -> None:
        self.names = names
        self.ours = ours
        self.flags = AWAIT
        for exercise in map(bank.get, ours):
            names[exercise.name] = stand_in(exercise, None)
        self.trouble: list[str] = []
        self.trees: dict[int, list[ast.stmt]] = {}
        for place, source in cells.items():
            self.trees[int(place)] = ast.parse(source).body
            lines = [f"{line}\n" for line in source.split("\n")]
            linecache.cache[_file(int(place))] = (len(source), None, lines, _file(int(place)))

    def prepare(self, places: Sequence[Sequence[int]]) -> None:
        """Run statements one by one; what one of them raises is noted, and the next one runs."""
        for cell, number in places:
            try:
                self.run((cell, number))
            except limits.TimeUp:
                raise
            except BaseException as error:  # sys.exit() too
                line = self.trees[cell][number].lineno
                said = str(error).split("\n")[0][:200]
                self.trouble.append(f"line {line} of cell {cell + 1} raised {type(error).__name__}: {said}")

    def run(self, place: tuple[int, ...]) -> None:
        """Run one statement; an import of several names goes on after one that is missing."""
        cell, number = place
        node = self.trees[cell][number]
        if isinstance(node, (ast.Import, ast.ImportFrom)) and len(node.names) > 1:
            for alias in node.names:
                self.run_import(node, alias, cell)
            return
        self.execute(undecorated(node), cell)
        for definition, id in decorated(ast.Module(list(same_level(node)), [])):
            if id in self.ours and definition.name in self.names:
                self.names[definition.name] = stand_in(bank.get(id), self.names[definition.name])

    def run_import(self, node: ast.Import | ast.ImportFrom, alias: ast.alias, cell: int) -> None:
        fields = {name: getattr(node, name) for name in node._fields} | {"names": [alias]}
        try:
            self.execute(ast.copy_location(type(node)(**fields), node), cell)
        except Exception as error:
            self.trouble.append(f"cannot import {alias.name}: {type(error).__name__}: {error}"[:300])

    def execute(self, node: ast.stmt, cell: int) -> None:
        if isinstance(node, ast.ImportFrom) and node.module == "__future__":  # holds from here on
            for alias in node.names:
                self.flags |= getattr(__future__, alias.name).compiler_flag
        code: CodeType = compile(ast.Module([node], []), _file(cell), "exec", self.flags, dont_inherit=True)
        if code.co_flags & 0x80:  # a coroutine: there is an `await` at the top of the cell
            asyncio.run(eval(code, self.names))
        else:
            exec(code, self.names)


def _file(cell: int) -> str:
    return f"<cell {cell + 1}>"
