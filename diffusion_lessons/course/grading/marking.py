"""Marking one notebook: its answers run in the servers' children, and are judged here."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from signal import Signals
from typing import Any

from diffusion_lessons.course import bank
from diffusion_lessons.course.exercises.check import named
from diffusion_lessons.course.exercises.exercise import Exercise
from diffusion_lessons.course.exercises.judging import judge
from diffusion_lessons.course.exercises.outputs import Outputs
from diffusion_lessons.course.exercises.verdict import Verdict
from diffusion_lessons.course.grading import sandbox
from diffusion_lessons.course.grading.code.reaching import CALLS_REFERENCE
from diffusion_lessons.course.grading.intake.notebook import Notebook
from diffusion_lessons.course.grading.marks.rows import Row, row

MISSING = "No cell of this exercise was found in the notebook."
# The bank's answers are kept for the next submission, and random numbers are global.
_judging = threading.Lock()


def mark(notebook: Notebook, lesson: str, worker: sandbox.Worker, seed: int = 0) -> tuple[Row, ...]:
    """A row for each exercise of a lesson of the bank ("02"), each judged by itself on the seed's cases."""
    exercises = bank.exercises(lesson)
    cells = {cell.place: (cell.id, cell.source) for cell in notebook.code}
    ending, content = worker.ask({"do": "plan", "lesson": lesson, "cells": cells})
    try:
        plan = sandbox.unpack(content).words
        wanted = [plan[exercise.id] for exercise in exercises]
    except (sandbox.Unreadable, KeyError):
        said = f"The code of this notebook could not be read ({ended(ending, worker.limits).message})"
        return tuple(row(each, Verdict(each.id, "wrong", "syntax", said)) for each in exercises)
    rows: list[Row] = []
    for exercise, found in zip(exercises, wanted, strict=True):
        passed = {each.exercise for each in rows if each.status == "passed"}
        ours = [each.id for each in exercises if each is not exercise and each.id not in passed]
        rows.append(_Marker(exercise, plan["cells"], worker, seed, ours).row(found))
    return tuple(rows)


@dataclass(frozen=True)
class _Marker:
    exercise: Exercise
    cells: Mapping[str, str]
    worker: sandbox.Worker
    seed: int
    ours: list[str]  # exercises that have not passed: where this answer uses one, it gets ours

    def row(self, found: Mapping[str, Any]) -> Row:
        """The row of the first answer that was attempted."""
        answers, broken = found["answers"], found["broken"]
        first: Row | None = None
        for answer in answers:
            made = self.answer(answer)
            if made.status != "not attempted":
                if len(answers) > 1:
                    cell = answer["place"][0] + 1
                    note = f"{len(answers)} answers were found; the one in cell {cell} counts."
                    made = replace(made, notes=(*made.notes, note))
                return made
            first = first or made
        if broken:
            cell, line, message = broken[-1]
            said = f"Cell {cell + 1}, line {line} is not Python: {message}."
            return replace(row(self.exercise, Verdict(self.exercise.id, "wrong", "syntax", said)), cell=cell)
        return first or row(self.exercise, Verdict(self.exercise.id, "not attempted", "missing", MISSING))

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
        exercise = self.exercise
        used = {str(cell) for cell, _ in (answer["place"], *needed["pieces"])}
        request = {
            "do": "run",
            "lesson": exercise.lesson,
            "exercise": exercise.id,
            "seed": self.seed,
            "cells": {cell: text for cell, text in self.cells.items() if cell in used},
            "pieces": needed["pieces"],
            "place": answer["place"],
            "name": answer["name"],
            "ours": self.ours,
            "case": self.worker.limits.case,
        }
        ending, content = self.worker.ask(request)
        verdict, words, lacking = ended(ending, self.worker.limits, exercise), {}, False
        if ending.how == "done" and content:
            try:
                message = sandbox.unpack(content)
                words = message.words
                if "error" in words:
                    verdict = unsent(exercise, str(words["error"])[:300])
                else:
                    outputs = sandbox.read_outputs(message.content)
                    lacking = any(each.failure and each.failure.type == "NameError" for each in outputs.cases)
                    verdict = judged(exercise, outputs, self.seed)
                    verdict = named(exercise, verdict, answer["name"], outputs.name)
            except sandbox.Unreadable as error:
                verdict = forged(exercise, str(error))
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
        return forged(exercise, "the outputs are of something else")
    try:
        with _judging:
            return judge(exercise, outputs, seed=seed)
    except Exception as error:  # numbers that nothing can be computed with
        return forged(exercise, type(error).__name__)


def forged(exercise: Exercise, why: str) -> Verdict:
    """What came back is nothing that the exercise's code gives."""
    return Verdict(exercise.id, "wrong", "forged", f"What came back is no result of this exercise ({why}).")


def unsent(exercise: Exercise, why: str) -> Verdict:
    """It ran, and what it gave could not be sent."""
    limits = {"MemoryError": "memory", "RuntimeError: can't start new thread": "processes"}
    kind = next((kind for start, kind in limits.items() if why.startswith(start)), "forged")
    return Verdict(exercise.id, "wrong", kind, f"What your code returned could not be read: {why}.")


def ended(ending: sandbox.Ending, limits: sandbox.Limits, exercise: Exercise | None = None) -> Verdict:
    """The verdict on code whose process ended without a result."""
    kinds = {"done": "ended", "exit": "ended", "signal": "crashed", "server": "grader"}
    by_itself = "Your code ended its process before it gave a result: leave os._exit() out."
    said = {
        "done": by_itself,
        "exit": by_itself,
        "signal": f"Your code brought Python itself down ({_signal(ending.number)}).",
        "timeout": f"Your code was stopped after {limits.seconds:g} s: is there a loop that never ends?",
        "memory": f"Your code was stopped: it took more than {limits.memory / 2**30:.3g} GB of memory.",
        "disk": f"Your code was stopped: it wrote more than {sandbox.DISK // 2**20} MB on the disk.",
        "processes": f"Your code was stopped: it started more than {sandbox.MOST_PROCESSES} processes.",
        "flood": "Your code was stopped: what it returned is too large.",
        "server": "The process that runs submissions was lost: run this one again, alone.",
    }[ending.how]
    return Verdict(exercise.id if exercise else "", "wrong", kinds.get(ending.how, ending.how), said)


def _signal(number: int) -> str:
    words = {"SIGSEGV": "segmentation fault", "SIGABRT": "abort", "SIGKILL": "it was killed"}
    try:
        name = Signals(number).name
    except ValueError:
        return f"status {number}"
    return words.get(name, name)
