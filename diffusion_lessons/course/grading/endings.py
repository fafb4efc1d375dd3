"""What is said of an answer that gave nothing to judge, or something that no answer gives."""

import re
import sys
from collections.abc import Iterable
from importlib.machinery import PathFinder
from signal import Signals

from diffusion_lessons.course.exercises.exercise import Exercise
from diffusion_lessons.course.exercises.verdict import Verdict
from diffusion_lessons.course.grading import sandbox

LOST = "submissions can not be run here: the process that runs them does not start, or is lost"
_PACKAGE = re.compile(r"ModuleNotFoundError: No module named '(\w{1,100})")
_FILE = re.compile(r"FileNotFoundError: (.{1,200})")


def forged(exercise: Exercise, why: str) -> Verdict:
    """What came back is nothing that the exercise's code gives."""
    return Verdict(exercise.id, "wrong", "forged", f"What came back is no result of this exercise ({why}).")


def unsent(exercise: Exercise, why: str) -> Verdict:
    """It ran, and what it gave could not be sent."""
    limits = {"MemoryError": "memory", "RuntimeError: can't start new thread": "processes"}
    kind = next((kind for start, kind in limits.items() if why.startswith(start)), "forged")
    return Verdict(exercise.id, "wrong", kind, f"What your code returned could not be read: {why}.")


def undefined(exercise: Exercise, name: str) -> Verdict:
    """Its statement ran, and bound nothing."""
    said = f"Running this cell does not define `{name}`: is it under a condition that does not hold?"
    return Verdict(exercise.id, "not attempted", "missing", said)


def no_time_left(exercise: Exercise, seconds: float) -> Verdict:
    """The exercises before it took all that a submission has."""
    said = (
        f"This exercise was not run: the notebook had used up the {seconds:g} s that it has for all of them."
    )
    return Verdict(exercise.id, "wrong", "timeout", said)


def environment(verdict: Verdict, raised: Iterable[str]) -> Verdict:
    """The verdict, or, where an error comes from what is not there where this is graded, that it is not."""
    for text in raised if verdict.kind == "exception" else ():
        if (found := _PACKAGE.search(text)) and not _is_installed(found[1]):
            what = (
                f"The package `{found[1]}` is not installed where this was graded, and there is no such file"
            )
        elif found := _FILE.search(text):
            what = f"A file that your code reads is not there where this was graded ({found[1]})"
        else:
            continue
        said = f"{what}: do without it, or ask your instructor for it. Only the notebook itself is run."
        return Verdict(verdict.exercise, "wrong", "environment", said, frames=verdict.frames)
    return verdict


def _is_installed(package: str) -> bool:
    return package in sys.stdlib_module_names or PathFinder.find_spec(package) is not None


def ended(ending: sandbox.Ending, limits: sandbox.Limits, exercise: Exercise) -> Verdict:
    """The verdict on code whose process ended without a result."""
    if ending.how == "server":
        return Verdict(
            exercise.id, "not attempted", "grader", f"{LOST.capitalize()}: run this one again, alone."
        )
    kinds = {"done": "ended", "exit": "ended", "signal": "crashed"}
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
    }[ending.how]
    return Verdict(exercise.id, "wrong", kinds.get(ending.how, ending.how), said)


def unread(ending: sandbox.Ending, limits: sandbox.Limits, exercise: Exercise) -> Verdict:
    """The verdict on each exercise of a notebook whose code took too much to read."""
    words = {
        "signal": ("crashed", f"it brings Python's own parser down ({_signal(ending.number)})"),
        "timeout": ("timeout", f"it took more than {limits.seconds:g} s"),
        "memory": ("memory", f"it took more than {limits.memory / 2**30:.3g} GB of memory"),
    }
    kind, why = words.get(ending.how, ("flood", "there is too much of it"))
    said = f"The code of this notebook could not be read: {why}."
    return Verdict(exercise.id, "wrong", kind, said)


def _signal(number: int) -> str:
    words = {"SIGSEGV": "segmentation fault", "SIGABRT": "abort", "SIGKILL": "it was killed"}
    try:
        name = Signals(number).name
    except ValueError:
        return f"status {number}"
    return words.get(name, name)
