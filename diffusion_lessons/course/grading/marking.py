"""Marking one notebook: its answers run in the servers' children, and are judged here."""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from diffusion_lessons.course import bank
from diffusion_lessons.course.exercises.check import named
from diffusion_lessons.course.exercises.exercise import Exercise
from diffusion_lessons.course.exercises.judging import judge
from diffusion_lessons.course.exercises.mark import cell_id, ids_in
from diffusion_lessons.course.exercises.outputs import Outputs
from diffusion_lessons.course.exercises.verdict import Verdict
from diffusion_lessons.course.grading import endings, sandbox
from diffusion_lessons.course.grading.code.reaching import CALLS_REFERENCE
from diffusion_lessons.course.grading.intake.notebook import Cell, Notebook
from diffusion_lessons.course.grading.marks.rows import Row, row

MAX_CODE = 4_000_000  # characters of a notebook's code that are read
LONG = 20_000  # characters of a cell that is left out where reading all of them fails
FOR_ALL = 4  # times the seconds of one exercise: what a notebook has for all of its exercises
NOT_THERE = ("not attempted", "missing", "No cell of this exercise was found in the notebook.")
# The bank's answers are kept for the next submission, and random numbers are global.
_judging = threading.Lock()


def mark(notebook: Notebook, lesson: str, worker: sandbox.Worker, seed: int = 0) -> tuple[Row, ...]:
    """A row for each exercise of a lesson of the bank ("02"), each judged by itself on the seed's cases.

    OSError where no process that runs submissions is to be had.
    """
    exercises = bank.exercises(lesson)
    end = time.monotonic() + FOR_ALL * worker.limits.seconds
    ending, plan = planned(notebook, lesson, worker)
    if not plan:
        return tuple(row(each, endings.unread(ending, worker.limits, each)) for each in exercises)
    rows: list[Row] = []
    for i, exercise in enumerate(exercises):
        passed = {each.exercise for each in rows if each.status == "passed"}
        ours = [each.id for each in exercises[:i] if each.id not in passed]
        marker = _Marker(exercise, plan["cells"], notebook.cells, worker, seed, ours, end)
        rows.append(marker.row(plan[exercise.id]))
    return tuple(rows)


def planned(notebook: Notebook, lesson: str, worker: sandbox.Worker) -> tuple[sandbox.Ending, dict[str, Any]]:
    """What to run for each exercise, found in a process of its own; nothing where no code could be read."""
    cells = {cell.place: cell for cell in notebook.code if cell.source.strip()}
    ending, plan = _plan(cells, lesson, worker)
    short = {place: cell for place, cell in cells.items() if len(cell.source) < LONG}
    if not plan and len(short) < len(cells):  # one bad cell costs that cell
        ending, plan = _plan(short, lesson, worker)
    return ending, plan


def _plan(
    cells: Mapping[int, Cell], lesson: str, worker: sandbox.Worker
) -> tuple[sandbox.Ending, dict[str, Any]]:
    if sum(len(cell.source) for cell in cells.values()) > MAX_CODE:
        return sandbox.Ending("flood"), {}
    given = {place: (cell.id, cell.source) for place, cell in cells.items()}
    ending, content = worker.ask({"do": "plan", "lesson": lesson, "cells": given})
    if ending.how == "server":
        raise OSError(endings.LOST)
    try:
        plan = sandbox.unpack(content).words
    except sandbox.Unreadable:
        return ending, {}
    if error := str(plan.get("error", "")):
        if not error.startswith("MemoryError"):
            raise RuntimeError(f"its code could not be read, {error[:300]}")  # a fault of ours
        return sandbox.Ending("memory"), {}
    return ending, plan


@dataclass(frozen=True)
class _Marker:
    exercise: Exercise
    code: Mapping[str, str]  # of cells, as Python reads it
    cells: Sequence[Cell]
    worker: sandbox.Worker
    seed: int
    ours: list[str]  # exercises before this one that have not passed: where it uses one, it gets ours
    end: float  # of the notebook's time

    def row(self, found: Mapping[str, Any]) -> Row:
        """The row of the first answer that was attempted, else of what stands in its place."""
        answers, broken = found["answers"], found["broken"]
        first: Row | None = None
        for answer in answers:
            made = self.answer(answer)
            if made.status != "not attempted" or made.kind == "grader":
                if len(answers) > 1:
                    cell = answer["place"][0] + 1
                    note = f"{len(answers)} answers were found; the one in cell {cell} counts."
                    made = replace(made, notes=(*made.notes, note))
                return made
            first = first or made
        if broken:
            cell, line, message = broken[-1]
            said = f"Cell {cell + 1}, line {line} is not Python: {message}."
            return replace(row(self.exercise, self.verdict("wrong", "syntax", said)), cell=cell)
        return self.lying_elsewhere() or first or row(self.exercise, self.verdict(*NOT_THERE))

    def lying_elsewhere(self) -> Row | None:
        """The row where the exercise's cell is no code any more, or was too long to read."""
        own = cell_id(self.exercise.id)
        for cell in reversed(self.cells):
            marked = self.exercise.id in ids_in(cell.source) and "def " in cell.source
            read = str(cell.place) in self.code or (cell.kind == "code" and len(cell.source) < LONG)
            if read or not cell.source.strip() or not (marked or cell.id == own):
                continue
            is_now = f"is {cell.kind.capitalize()} now: turn it back into code"
            what = "is too long to read" if cell.kind == "code" else is_now
            said = f"Cell {cell.place + 1} holds this exercise and {what}."
            return replace(
                row(self.exercise, self.verdict("not attempted", "missing", said)), cell=cell.place
            )
        return None

    def verdict(self, status: str, kind: str, message: str) -> Verdict:
        return Verdict(self.exercise.id, status, kind, message)

    def answer(self, answer: Mapping[str, Any]) -> Row:
        """The row of one answer; where a name is missing, once more with all that stands above it."""
        tried: list[Row] = []
        for needed in answer["slices"]:
            made, lacking = self.run(answer, needed)
            tried.append(made)
            if not lacking:
                return made
        return tried[0]

    def run(self, answer: Mapping[str, Any], needed: Mapping[str, Any]) -> tuple[Row, bool]:
        """The row, and whether a name was missing."""
        exercise, limits = self.exercise, self.worker.limits
        if time.monotonic() > self.end:
            verdict = endings.no_time_left(exercise, FOR_ALL * limits.seconds)
            return row(exercise, verdict, answer), False
        used = {str(cell) for cell, _ in (answer["place"], *needed["pieces"])}
        request = {
            "do": "run",
            "lesson": exercise.lesson,
            "exercise": exercise.id,
            "seed": self.seed,
            "cells": {cell: text for cell, text in self.code.items() if cell in used},
            "pieces": needed["pieces"],
            "place": answer["place"],
            "name": answer["name"],
            "ours": self.ours,
            "case": limits.case,
        }
        ending, content = self.worker.ask(request)
        verdict, words, lacking = endings.ended(ending, limits, exercise), {}, False
        if ending.how == "done" and content:
            try:
                message = sandbox.unpack(content)
                words = message.words
                if "error" in words:
                    verdict = endings.unsent(exercise, str(words["error"])[:300])
                elif "undefined" in words:
                    verdict = endings.undefined(exercise, answer["name"])
                else:
                    outputs = sandbox.read_outputs(message.content)
                    failures = [each.failure for each in outputs.cases if each.failure]
                    lacking = any(each.type == "NameError" for each in failures)
                    verdict = judged(exercise, outputs, self.seed)
                    raised = [f"{each.type}: {each.message}" for each in failures]
                    verdict = endings.environment(verdict, raised + _texts(words, "trouble") * lacking)
                    verdict = named(exercise, verdict, answer["name"], outputs.name)
            except sandbox.TooLarge:
                verdict = endings.ended(sandbox.Ending("flood"), limits, exercise)
            except sandbox.Unreadable as error:
                verdict = endings.forged(exercise, str(error))
        seen = [CALLS_REFERENCE + name[:100] for name in _texts(words, "called")]
        trouble = [text[:300] for text in _texts(words, "trouble")] if verdict.status == "wrong" else []
        flags = tuple(dict.fromkeys([*needed["flags"], *seen]))
        return replace(row(exercise, verdict, answer), flags=flags, notes=tuple(trouble)), lacking


def _texts(words: Mapping[str, Any], name: str) -> list[str]:
    """A list of texts in words that the submission may have made up."""
    found = words.get(name)
    return [str(each) for each in found[:5]] if isinstance(found, list) else []


def judged(exercise: Exercise, outputs: Outputs, seed: int) -> Verdict:
    """The verdict on outputs of which nobody knows who wrote them."""
    if outputs.exercise != exercise.id or outputs.seed != seed or outputs.device != "cpu":
        return endings.forged(exercise, "the outputs are of something else")
    try:
        with _judging:
            return judge(exercise, outputs, seed=seed)
    except Exception as error:  # numbers that nothing can be computed with
        return endings.forged(exercise, type(error).__name__)
