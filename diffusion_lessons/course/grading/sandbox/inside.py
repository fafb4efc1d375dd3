"""In the submission's process: its pieces are run, its answer is given the cases, its outputs are sent."""

import ast
import io
import linecache
import sys
from collections.abc import Collection, Mapping, Sequence
from types import CodeType, ModuleType
from typing import Any

from diffusion_lessons.course import bank
from diffusion_lessons.course.exercises import limits, running
from diffusion_lessons.course.exercises.exercise import Exercise
from diffusion_lessons.course.exercises.outputs import Failure, Frame, Outputs, Ran
from diffusion_lessons.course.grading.code.borrowed import Listener, reference_functions, shell
from diffusion_lessons.course.grading.code.plan import plan
from diffusion_lessons.course.grading.code.statements import DEFINITIONS, Statement, undecorated
from diffusion_lessons.course.grading.sandbox import quiet
from diffusion_lessons.course.grading.sandbox.protocol import Message
from diffusion_lessons.course.student import session

PATIENCE = 4.0  # seconds of the wall clock for one of CPU time, before a call counts as asleep
PREPARING = 30.0  # seconds of CPU time for what an answer depends on
AWAIT = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT


def make_plan(request: Mapping[str, Any]) -> Message:
    """Answer a request to read a notebook's code."""
    cells = {int(place): (id, source) for place, (id, source) in request["cells"].items()}
    return Message(plan(cells, bank.exercises(request["lesson"])))


def run_answer(request: Mapping[str, Any]) -> Message:
    """Answer a request to run one answer: its outputs, and what was seen on the way."""
    exercise = bank.get(request["exercise"])
    ours = reference_functions(exercise)
    _take_away(exercise)
    limits.count_cpu_time(PATIENCE)
    module = ModuleType("__main__")
    sys.modules["__main__"] = module
    names = vars(module)
    names.update(exercise=quiet.exercise, display=lambda *shown, **how: None, get_ipython=lambda: None)
    pieces = Pieces(request["cells"], names, request["ours"])
    called = limits.call(lambda: pieces.prepare(request["pieces"]), PREPARING)
    trouble = list(pieces.trouble)
    if called.stopped:
        trouble.append("what stands above the answer took too long and was stopped")
    called = limits.call(lambda: pieces.run(tuple(request["place"])), PREPARING)
    listener = Listener(ours)  # only now: cells above an answer may call ours, the lessons' own do
    if called.error is not None or called.stopped:
        outputs = _undefined(exercise, called, request["seed"])
    else:
        answer = names.get(request["name"])
        outputs = exercise.run(answer, seed=request["seed"], timeout=request["case"])
    buffer = io.BytesIO()
    outputs.save(buffer)
    return Message({"called": sorted(listener.called), "trouble": trouble[:5]}, buffer.getvalue())


def _take_away(exercise: Exercise) -> None:
    """This process needs the cases' inputs and the signature; what is right is judged elsewhere."""
    reference = exercise.reference
    object.__setattr__(exercise, "reference", shell(reference))
    try:
        for case in exercise.cases:
            exercise.inputs(case)
    except NotImplementedError:  # this exercise's inputs are made with its reference
        object.__setattr__(exercise, "reference", reference)
    for name in ("misconceptions", "alternatives", "hints"):
        object.__setattr__(exercise, name, ())


class Pieces:
    """Single statements of cells, run in one namespace under the line numbers of their cells."""

    def __init__(self, cells: Mapping[str, str], names: dict[str, Any], ours: Collection[str] = ()) -> None:
        self.names = names
        self.ours = ours
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
        id = Statement((cell, number), node).exercise
        if id is not None and id in self.ours and isinstance(node, DEFINITIONS):
            self.names[node.name] = session.stand_in(bank.get(id), self.names[node.name])

    def run_import(self, node: ast.Import | ast.ImportFrom, alias: ast.alias, cell: int) -> None:
        fields = {name: getattr(node, name) for name in node._fields} | {"names": [alias]}
        try:
            self.execute(ast.copy_location(type(node)(**fields), node), cell)
        except Exception as error:
            self.trouble.append(f"cannot import {alias.name}: {type(error).__name__}: {error}"[:300])

    def execute(self, node: ast.stmt, cell: int) -> None:
        code: CodeType = compile(ast.Module([node], []), _file(cell), "exec", AWAIT, dont_inherit=True)
        if code.co_flags & 0x80:  # a coroutine: there is an `await` at the top of the cell
            import asyncio

            asyncio.run(eval(code, self.names))
        else:
            exec(code, self.names)


def _file(cell: int) -> str:
    return f"<cell {cell + 1}>"


def _undefined(exercise: Exercise, called: limits.Called, seed: int) -> Outputs:
    """The outputs of an answer that could not even be defined."""
    if called.stopped:
        failure = Failure("timeout", message=f"{PREPARING:g} s", frames=running.own_frames(called.at))
    else:
        error = called.error
        frames: tuple[Frame, ...] = ()
        if isinstance(error, SyntaxError):
            frames = (Frame(error.lineno or 1, (error.text or "").strip()[:300], "cell"),)
        failure = Failure("exception", type(error).__name__, str(error)[:1000], frames)
    return Outputs(exercise.id, seed, "", (Ran(exercise.cases[0].name, failure=failure),))
