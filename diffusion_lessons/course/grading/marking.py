"""Marking one notebook: its answers run in the servers' children, and are judged here."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from signal import Signals
from typing import Any

from diffusion_lessons.course import bank
from diffusion_lessons.course.exercises import messages
from diffusion_lessons.course.exercises.exercise import Exercise, Verdict
from diffusion_lessons.course.exercises.outputs import Outputs
from diffusion_lessons.course.grading.code.borrowed import calls_reference
from diffusion_lessons.course.grading.intake.reading import Notebook
from diffusion_lessons.course.grading.results.rows import Row, row
from diffusion_lessons.course.grading.sandbox.protocol import Unreadable, read_outputs, unpack
from diffusion_lessons.course.grading.sandbox.watch import DISK, MOST_PROCESSES, Ending, Limits
from diffusion_lessons.course.grading.sandbox.workers import Worker

MISSING = "No cell of this exercise was found in the notebook."
_judging = (
    threading.Lock()
)  # the bank's answers are kept for the next submission, and random numbers are global


def mark(notebook: Notebook, lesson: str, worker: Worker, seed: int = 0) -> tuple[Row, ...]:
    """A row for each exercise of a lesson, each judged by itself.

    Args:
        lesson: two digits; the bank has it.
        seed: of the cases.
    """
    exercises = bank.exercises(lesson)
    cells = {cell.place: (cell.id, cell.source) for cell in notebook.code}
    ending, content = _asked(worker, {"do": "plan", "lesson": lesson, "cells": cells})
    try:
        plan = unpack(content).words
        wanted = [plan[exercise.id] for exercise in exercises]
    except (Unreadable, KeyError):
        said = f"The code of this notebook could not be read ({ended(ending, worker.limits).message})"
        return tuple(row(each, Verdict(each.id, "wrong", "syntax", said)) for each in exercises)
    marker = _Marker(lesson, plan["cells"], worker, seed)
    rows: list[Row] = []
    for exercise, found in zip(exercises, wanted, strict=True):
        passed = {each.exercise for each in rows if each.status == "passed"}
        ours = [each.id for each in exercises if each is not exercise and each.id not in passed]
        rows.append(marker.row(exercise, found, ours))
    return tuple(rows)


def _asked(worker: Worker, request: Mapping[str, Any]) -> tuple[Ending, bytes]:
    """What a request gives; once more where the server itself was lost."""
    ending, content = worker.ask(request)
    return worker.ask(request) if ending.how == "server" else (ending, content)


@dataclass(frozen=True)
class _Marker:
    lesson: str
    cells: Mapping[str, str]
    worker: Worker
    seed: int

    def row(self, exercise: Exercise, found: Mapping[str, Any], ours: list[str]) -> Row:
        """The row of the first answer that was attempted."""
        answers, broken = found["answers"], found["broken"]
        first: Row | None = None
        for answer in answers:
            made = self.answer(exercise, answer, ours)
            if made.status != "not attempted":
                if len(answers) > 1:
                    note = (
                        f"{len(answers)} answers were found; the one in cell {answer['place'][0] + 1} counts."
                    )
                    made = replace(made, notes=(*made.notes, note))
                return made
            first = first or made
        if broken:
            cell, line, message = broken[-1]
            said = f"Cell {cell + 1}, line {line} is not Python: {message}."
            return replace(row(exercise, Verdict(exercise.id, "wrong", "syntax", said)), cell=cell)
        return first or row(exercise, Verdict(exercise.id, "not attempted", "missing", MISSING))

    def answer(self, exercise: Exercise, answer: Mapping[str, Any], ours: list[str]) -> Row:
        """The row of one answer; where a name is missing, once more with all that stands above it."""
        made, lacking = self.run(exercise, answer, ours, "pieces", "flags")
        if lacking and answer["before"] != answer["pieces"]:
            again, still = self.run(exercise, answer, ours, "before", "flags before")
            if not still:
                return again
        return made

    def run(
        self, exercise: Exercise, answer: Mapping[str, Any], ours: list[str], pieces: str, flags: str
    ) -> tuple[Row, bool]:
        """The row, and whether a name was missing."""
        places = [tuple(answer["place"]), *map(tuple, answer[pieces])]
        used = {str(cell) for cell, _ in places}
        request = {
            "do": "run",
            "lesson": self.lesson,
            "exercise": exercise.id,
            "seed": self.seed,
            "cells": {cell: text for cell, text in self.cells.items() if cell in used},
            "pieces": answer[pieces],
            "place": answer["place"],
            "name": answer["name"],
            "ours": ours,
            "case": self.worker.limits.case,
        }
        ending, content = _asked(self.worker, request)
        verdict, words = ended(ending, self.worker.limits, exercise), {}
        lacking = False
        if ending.how == "done" and content:
            try:
                message = unpack(content)
                words = message.words
                if "error" in words:
                    verdict = unsent(exercise, str(words["error"])[:300])
                else:
                    outputs = read_outputs(message.content)
                    lacking = any(each.failure and each.failure.type == "NameError" for each in outputs.cases)
                    verdict = judged(exercise, outputs, self.seed)
                    verdict = named(exercise, answer["name"], outputs.name, verdict)
            except Unreadable as error:
                verdict = forged(exercise, str(error))
        seen = [calls_reference(str(name)[:100]) for name in _texts(words, "called")]
        flagged = dict.fromkeys([*answer[flags], *seen])
        trouble = [text[:300] for text in _texts(words, "trouble")] if verdict.status == "wrong" else []
        return replace(row(exercise, verdict, answer), flags=tuple(flagged), notes=tuple(trouble)), lacking


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
            return exercise.judge(outputs, seed=seed)
    except Exception as error:  # numbers that nothing can be computed with
        return forged(exercise, type(error).__name__)


def named(exercise: Exercise, bound: str, own: str, verdict: Verdict) -> Verdict:
    """The same verdict as in the notebook where the function has another name than later cells use."""
    right = exercise.name in (bound, own) or own == "<lambda>"
    if right or verdict.status == "not attempted" or verdict.kind == "not callable":
        return verdict
    return Verdict(exercise.id, "wrong", "name", messages.misnamed(exercise, bound))


def forged(exercise: Exercise, why: str) -> Verdict:
    """What came back is nothing that the exercise's code gives."""
    said = f"What came back is no result of this exercise ({why})."
    return Verdict(exercise.id, "wrong", "forged", said)


def unsent(exercise: Exercise, why: str) -> Verdict:
    """It ran, and what it gave could not be sent."""
    limits = {"MemoryError": "memory", "RuntimeError: can't start new thread": "processes"}
    kind = next((kind for start, kind in limits.items() if why.startswith(start)), "forged")
    return Verdict(exercise.id, "wrong", kind, f"What your code returned could not be read: {why}.")


def ended(ending: Ending, limits: Limits, exercise: Exercise | None = None) -> Verdict:
    """The verdict on code whose process ended without a result."""
    sizes = f"{limits.memory / 2**30:.3g} GB of memory", f"{DISK // 2**20} MB on the disk"
    kind, said = {
        "done": ("ended", "Your code ended its process before it gave a result: leave os._exit() out."),
        "exit": ("ended", "Your code ended its process before it gave a result: leave os._exit() out."),
        "signal": ("crashed", f"Your code brought Python itself down ({_signal(ending.number)})."),
        "timeout": (
            "timeout",
            f"Your code was stopped after {limits.seconds:g} s: is there a loop that never ends?",
        ),
        "memory": ("memory", f"Your code was stopped: it took more than {sizes[0]}."),
        "disk": ("disk", f"Your code was stopped: it wrote more than {sizes[1]}."),
        "processes": (
            "processes",
            f"Your code was stopped: it started more than {MOST_PROCESSES} processes.",
        ),
        "flood": ("flood", "Your code was stopped: what it returned is too large."),
    }.get(ending.how, ("grader", "The process that runs submissions was lost: run this one again, alone."))
    return Verdict(exercise.id if exercise else "", "wrong", kind, said)


def _signal(number: int) -> str:
    try:
        return {"SIGSEGV": "segmentation fault", "SIGABRT": "abort", "SIGKILL": "it was killed"}.get(
            name := Signals(number).name, name
        )
    except ValueError:
        return f"status {number}"
