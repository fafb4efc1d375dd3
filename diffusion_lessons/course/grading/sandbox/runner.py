"""In the submission's process: what its answer depends on is run, then the answer on its cases.

What the answer calls of ours is noted while it runs. That is no proof against somebody who means to hide
it, and need not be: whoever can do that can also copy the function.
"""

import inspect
import io
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any

import torch

from diffusion_lessons import course
from diffusion_lessons.course import bank
from diffusion_lessons.course.exercises import limits
from diffusion_lessons.course.exercises.exercise import Exercise
from diffusion_lessons.course.exercises.outputs import Failure, Frame, Outputs, Ran
from diffusion_lessons.course.exercises.running import own_frames, run
from diffusion_lessons.course.grading.code.plan import plan
from diffusion_lessons.course.grading.code.reaching import reference_functions
from diffusion_lessons.course.grading.sandbox.confinement import PACKAGE
from diffusion_lessons.course.grading.sandbox.pieces import Pieces, nothing
from diffusion_lessons.course.grading.sandbox.protocol import Message

PATIENCE = 4.0  # seconds of the wall clock for one of CPU time, before a call counts as asleep
PREPARING = 30.0  # seconds of CPU time for what an answer depends on
TORCH = str(Path(torch.__file__).parent)


def make_plan(request: Mapping[str, Any]) -> Message:
    """Answer a request to read a notebook's code."""
    cells = {int(place): (id, source) for place, (id, source) in request["cells"].items()}
    return Message(plan(cells, bank.exercises(request["lesson"])))


def run_answer(request: Mapping[str, Any]) -> Message:
    """Answer a request to run one answer: its outputs, and what was seen on the way."""
    exercise = bank.get(request["exercise"])
    ours = reference_functions(exercise)
    _hollow(exercise)
    limits.count_cpu_time(PATIENCE)
    module = ModuleType("__main__")
    sys.modules["__main__"] = module
    names = vars(module)
    names.update(exercise=course.exercise, display=nothing, get_ipython=nothing)
    pieces = Pieces(request["cells"], names, request["ours"])
    called = limits.call(lambda: pieces.prepare(request["pieces"]), PREPARING)
    trouble = list(pieces.trouble)
    if called.stopped:
        trouble.append("what stands above the answer took too long and was stopped")
    called = limits.call(lambda: pieces.run(tuple(request["place"])), PREPARING)
    listener = Listener(ours)  # only now: cells above an answer may call ours, the lessons' own do
    if called.error is not None or called.stopped:
        outputs = _undefined(exercise, called, request["seed"])
    elif request["name"] not in names:
        return Message({"undefined": True})
    else:
        outputs = run(exercise, names.get(request["name"]), seed=request["seed"], timeout=request["case"])
    buffer = io.BytesIO()
    outputs.save(buffer)
    return Message({"called": sorted(listener.called), "trouble": trouble[:5]}, buffer.getvalue())


def _hollow(exercise: Exercise) -> None:
    """This process needs the cases' inputs and the signature; what is right is judged elsewhere."""
    reference = exercise.reference
    object.__setattr__(exercise, "reference", _shell(reference))
    try:
        for case in exercise.cases:
            exercise.inputs(case)
    except NotImplementedError:  # this exercise's inputs are made with its reference
        object.__setattr__(exercise, "reference", reference)
    for name in ("misconceptions", "alternatives", "hints"):
        object.__setattr__(exercise, name, ())


def _shell(reference: Callable[..., Any]) -> Any:
    """Something with the signature of the reference and nothing in it."""

    def empty(*args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    if inspect.isclass(reference):
        return type(reference.__name__, (), {"__init__": empty})
    empty.__name__ = empty.__qualname__ = reference.__name__
    empty.__signature__ = inspect.signature(reference)  # type: ignore[attr-defined]
    return empty


class Listener:
    """Notes which of our functions an answer calls itself, in the threads that are started from now on."""

    def __init__(self, functions: dict[str, Any]) -> None:
        self.called: set[str] = set()
        self.codes: dict[CodeType, str] = {}
        for name, each in functions.items():
            for function in vars(each).values() if inspect.isclass(each) else [each]:
                if isinstance(function, FunctionType):
                    self.codes[function.__code__] = name
        threading.setprofile(self._note)

    def _note(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code in self.codes:
            caller = frame.f_back
            while caller is not None and caller.f_code.co_filename.startswith(TORCH):
                caller = caller.f_back  # a module's forward is called by torch, for somebody
            if caller is not None and not caller.f_code.co_filename.startswith(str(PACKAGE)):
                self.called.add(self.codes[frame.f_code])


def _undefined(exercise: Exercise, called: limits.Called, seed: int) -> Outputs:
    """The outputs of an answer that could not even be defined."""
    if called.stopped:
        failure = Failure("timeout", message=f"{PREPARING:g} s", frames=own_frames(called.at))
    else:
        error = called.error
        frames: tuple[Frame, ...] = ()
        if isinstance(error, SyntaxError):
            frames = (Frame(error.lineno or 1, (error.text or "").strip()[:300], "cell"),)
        failure = Failure("exception", type(error).__name__, str(error)[:1000], frames)
    return Outputs(exercise.id, seed, "", (Ran(exercise.cases[0].name, failure=failure),))
