"""Running an answer on the cases of its exercise, whatever the answer does."""

import contextlib
import functools
import inspect
import linecache
import random
import site
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from os.path import normcase, sep
from pathlib import Path
from traceback import walk_tb
from types import FunctionType
from typing import Any

import numpy as np
import torch

from diffusion_lessons.course.exercises import limits
from diffusion_lessons.course.exercises.compare import difference
from diffusion_lessons.course.exercises.exercise import Case, Exercise
from diffusion_lessons.course.exercises.outputs import Failure, Frame, Outputs, Ran
from diffusion_lessons.course.exercises.unread import instructions, unread
from diffusion_lessons.course.exercises.values import Plain, plain
from diffusion_lessons.course.exercises.watching import SEED, Watched, generators, learning, reached, stir

PACKAGE = str(Path(__file__).parents[2])
REPEAT_WITHIN = 1.0  # seconds: a case that took longer is not run a second time


def run(
    exercise: Exercise,
    function: Any,
    cases: Sequence[Case] | None = None,
    seed: int = 0,
    timeout: float | None = None,
    device: str = "cpu",
) -> Outputs:
    """Run an answer, whatever it is, on some cases (default all of the exercise's).

    Never raises for what the answer does, and needs no expected value. Another seed gives other numbers
    in the same cases; `timeout` is in seconds for one case, default the exercise's own; `device` is where
    the input tensors are.
    """
    cases = exercise.cases if cases is None else cases
    failure = before_calling(exercise, function)
    if failure is not None:
        ran: tuple[Ran, ...] = (Ran(cases[0].name, failure=failure),)
    else:
        limit = exercise.timeout if timeout is None else timeout
        ran = Runner(exercise, function, seed, device, limit).run(cases, repeat=True)
    name = str(getattr(function, "__name__", ""))
    return Outputs(exercise.id, seed, name, ran, device, () if failure else unread(exercise, function))


@dataclass(frozen=True)
class Runner:
    """Runs a function on cases; `limit` in seconds for one of them, None for no limit.

    `watched`: what the answer is called with is noted, and what it does to that.
    """

    exercise: Exercise
    function: Callable[..., Any]
    seed: int
    device: str
    limit: float | None = None
    watched: bool = True

    def run(self, cases: Sequence[Case], repeat: bool = False) -> tuple[Ran, ...]:
        """Each case in turn, until one is over its time: the others would only take as long.

        `repeat` calls a second time with the inputs of the first case.
        """
        ran: list[Ran] = []
        with undisturbed():
            for case in cases:
                ran.append(self.case(case, repeat and not ran))
                if ran[-1].failure is not None and ran[-1].failure.kind == "timeout":
                    break
        return tuple(ran)

    def case(self, case: Case, repeat: bool) -> Ran:
        stir(1)
        called, value, watched = self.once(case)
        failure, changed, ended = _failure(called, self.limit), dict(watched.changed), generators()
        called.error = None  # its frames hold all that the answer had in memory
        printed, seconds, repeats = called.printed, called.seconds, None
        if repeat and failure is None and seconds < REPEAT_WITHIN:
            stir(2)
            again, second, _ = self.once(case)
            same = difference(value, second, self.exercise.rtol, self.exercise.atol) is None
            repeats = same and again.error is None and not again.stopped
            alike = any(one == other for one, other in zip(ended, generators(), strict=True))
            changed |= {SEED: None} if alike and self.exercise.kind != "predict" else {}
        probed = self.exercise.trains and self.watched and failure is None
        gradients = self.gradients(case) if probed else None
        ran = Ran(case.name, value, failure, tuple(changed), repeats, printed, seconds, gradients)
        return replace(ran, calls=tuple(watched.calls))

    def once(self, case: Case) -> tuple[limits.Called, Plain, Watched]:
        """The call, its value, and what it did to the arguments of the answer."""
        inputs, call = moved(self.exercise.inputs(case, self.seed), self.device), self.exercise.call
        if call is None or inspect.isclass(self.function):
            watched = Watched(self.whole)
            run: Callable[..., Any] = watched if self.watched else self.whole
        else:
            watched = Watched(self.function, signature(self.exercise.reference))
            run = functools.partial(call, watched if self.watched else self.function)
        called = limits.call(lambda: run(**inputs), self.limit)
        if inspect.iscoroutine(called.value):
            called.value.close()  # else Python complains of it later, in another cell
        return called, plain(called.value), watched

    def whole(self, **inputs: Any) -> Any:
        """The answer called as its exercise says."""
        call = self.exercise.call
        return call(self.function, **inputs) if call else self.function(**inputs)

    def gradients(self, case: Case) -> Plain:
        """The gradients that reach what is trained, or why the call fails where there are gradients."""
        inputs, leaves = moved(self.exercise.inputs(case, self.seed), self.device), {}
        for name in self.exercise.trains:
            inputs[name], leaves[name] = learning(inputs[name])
        called = limits.call(lambda: reached(self.whole(**inputs), leaves), self.limit)
        if called.error is not None:
            return f"{type(called.error).__name__}: {_text(called.error)}"
        return None if called.stopped else called.value


def moved(inputs: Any, device: str) -> Any:
    """Inputs with their tensors on a device; levels, schedules and other objects stay as they are."""
    if isinstance(inputs, dict) and not _schedules(inputs.values()):
        return {name: moved(value, device) for name, value in inputs.items()}
    return inputs.to(device) if isinstance(inputs, torch.Tensor) else inputs


def _schedules(inputs: Iterable[Any]) -> bool:
    """Are all numbers rows in double precision? Those are schedules and levels, on the CPU everywhere."""
    floats = [each for each in inputs if isinstance(each, torch.Tensor) and each.is_floating_point()]
    return bool(floats) and all(each.dtype == torch.float64 and each.ndim <= 1 for each in floats)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Work that leaves the global random numbers as they were, and that no default device touches."""
    python, numbers = random.getstate(), np.random.get_state()
    try:
        # not where it is the CPU anyway: there torch.as_tensor would take a tensor off the GPU
        default = (
            contextlib.nullcontext() if torch.get_default_device().type == "cpu" else torch.device("cpu")
        )
        with torch.random.fork_rng(devices=[]), default:
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numbers)


# Before the call -----------------------------------------------------------------------------------


def before_calling(exercise: Exercise, function: Any) -> Failure | None:
    """What can be said of an answer without running it."""
    wanted = "class" if inspect.isclass(exercise.reference) else "function"
    if not callable(function) or inspect.isclass(function) != (wanted == "class"):
        found = "class" if inspect.isclass(function) else type(function).__name__
        return Failure("not callable", found, wanted)
    if untouched(function) and not _said(exercise, function):
        return Failure("untouched")
    sentence = signature_problem(exercise, function)
    return Failure("signature", message=sentence) if sentence else None


def untouched(function: Callable[..., Any]) -> bool:
    """Nothing stands in the body: `pass`, `...`, or a docstring alone."""
    if inspect.isclass(function):
        return not any(isinstance(each, FunctionType) for each in vars(function).values())
    code = getattr(function, "__code__", None)
    if code is None:
        return False
    empty = {"RESUME", "NOP", "RETURN_VALUE", "LOAD_CONST", "RETURN_CONST", "COPY_FREE_VARS"}
    constants = ("LOAD_CONST", "RETURN_CONST")
    lines = instructions(code)
    return lines is not None and all(
        line.opname in empty and (line.opname not in constants or line.argval is None) for line in lines
    )


def _said(exercise: Exercise, function: Callable[..., Any]) -> bool:
    """Does one of the texts to choose from stand in the body, without its `return`?"""
    text = (inspect.getdoc(function) or "").strip().casefold()
    return text in [choice.strip().casefold() for choice in exercise.choices]


def signature_problem(exercise: Exercise, function: Callable[..., Any]) -> str | None:
    """How the arguments of an answer differ from those it will be called with, in a sentence."""
    ours, theirs = signature(exercise.reference), signature(function)
    if ours is None or theirs is None or inspect.isclass(function):
        return None  # built-ins without a signature; a class shows it when it is made
    wanted, found = ours.parameters, theirs.parameters
    names = [name for name, each in wanted.items() if each.kind in NAMED]
    calls = f"the lesson calls {exercise.name}({', '.join(names)})."
    kinds = {each.kind for each in found.values()}
    takes_all = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD} <= kinds
    missing = [] if takes_all else [name for name in names if name not in found]
    if any(wanted[name].default is not inspect.Parameter.empty for name in missing):
        used = {name for case in exercise.cases for name in exercise.inputs(case)}
        missing = [name for name in missing if name in used]  # what nobody gives may be left out
    asked = [name for name, each in found.items() if each.default is each.empty and each.kind in NAMED]
    extra = [name for name in asked if name not in names]
    if len(missing) == 1 and len(extra) == 1:
        return f"The argument `{extra[0]}` should be called `{missing[0]}`: {calls}"
    if missing:
        return f"Your function does not take {_list(missing)}: {calls}"
    if extra:
        return f"Your function asks for {_list(extra)} too, which nobody gives it: {calls}"
    in_order = [name for name, each in found.items() if name in names and each.kind != each.KEYWORD_ONLY]
    if not takes_all and in_order != [name for name in names if name in found]:
        return f"Your function takes its arguments in another order: {calls}"
    return None


NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def signature(function: Callable[..., Any]) -> inspect.Signature | None:
    """A function's signature, None for a built-in that has none."""
    with contextlib.suppress(TypeError, ValueError):
        return inspect.signature(function)
    return None


def _list(names: list[str]) -> str:
    quoted = [f"`{name}`" for name in names]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"


# After the call ------------------------------------------------------------------------------------


def _failure(called: limits.Called, limit: float | None) -> Failure | None:
    if called.stopped:
        frames = own_frames(called.at)
        return Failure("timeout", message=f"{limit:g} s", frames=frames, running=called.running)
    error = called.error
    if error is None:
        return None
    places = limits.places(walk_tb(error.__traceback__))
    unwritten = isinstance(error, NotImplementedError) and bool(places) and not foreign(places[-1][0])
    kind = "not implemented" if unwritten else "exception"
    return Failure(kind, type(error).__name__, _text(error), own_frames(places))


def _text(error: BaseException) -> str:
    with contextlib.suppress(Exception):
        return str(error)[:1000]
    return ""


def own_frames(places: Sequence[limits.Place]) -> tuple[Frame, ...]:
    """The student's own lines among some places, the outermost two and the innermost two."""
    frames = [
        Frame(line, linecache.getline(file, line).strip()[:300], name)
        for file, line, name in places
        if not foreign(file)
    ]
    return tuple(frames if len(frames) <= 4 else frames[:2] + frames[-2:])


def foreign(filename: str) -> bool:
    """Is this file ours, Python's or a library's, and so not the student's?"""
    return filename.startswith("<frozen") or normcase(filename).startswith(_foreign_folders())


@functools.cache
def _foreign_folders() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    folders = [PACKAGE, *(paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib"))]
    folders += [*site.getsitepackages(), site.getusersitepackages()]
    return tuple(normcase(folder) + sep for folder in folders if folder)
