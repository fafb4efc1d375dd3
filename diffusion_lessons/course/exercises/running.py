"""Running an answer on the cases of its exercise, whatever the answer does."""

import contextlib
import dis
import inspect
import linecache
import random
import site
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from functools import cache
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
from diffusion_lessons.course.exercises.values import Plain, plain

PACKAGE = str(Path(__file__).parents[2])
REPEAT_WITHIN = 1.0  # seconds: a case that took longer is not run a second time


def run(
    exercise: Exercise,
    function: Any,
    cases: Sequence[Case] | None,
    seed: int,
    timeout: float | None,
    device: str,
) -> Outputs:
    """See `Exercise.run`."""
    cases = exercise.cases if cases is None else cases
    limit = exercise.timeout if timeout is None else timeout
    name = str(getattr(function, "__name__", ""))
    failure = before_calling(exercise, function)
    if failure is not None:
        return Outputs(exercise.id, seed, name, (Ran(cases[0].name, failure=failure),), device)
    ran: list[Ran] = []
    with undisturbed():
        for case in cases:
            ran.append(_run_case(exercise, function, case, seed, limit, device, repeat=not ran))
            if _kind(ran[-1]) == "timeout":
                break  # the others would only take as long
    return Outputs(exercise.id, seed, name, tuple(ran), device)


def answers(
    exercise: Exercise, function: Callable[..., Any], cases: Sequence[Case], seed: int, device: str = "cpu"
) -> Outputs:
    """What a function of the bank's own gives: no limit, no second run, kept for the next time."""
    key = (function, tuple((case.name, case.make) for case in cases), seed, device)
    if key not in exercise._answers:
        with undisturbed():
            ran = tuple(
                _run_case(exercise, function, case, seed, None, device, repeat=False) for case in cases
            )
        exercise._answers[key] = Outputs(exercise.id, seed, "", ran, device)
    return exercise._answers[key]


def _kind(ran: Ran) -> str:
    return "" if ran.failure is None else ran.failure.kind


def _run_case(
    exercise: Exercise,
    function: Callable[..., Any],
    case: Case,
    seed: int,
    limit: float | None,
    device: str,
    repeat: bool,
) -> Ran:
    def once() -> tuple[limits.Called, Plain, tuple[str, ...]]:
        inputs = moved(exercise.inputs(case, seed), device)
        before = plain(inputs)
        given = dict(inputs)  # the answer may rebind nothing of ours
        call = exercise.call
        called = limits.call(lambda: function(**given) if call is None else call(function, **given), limit)
        if inspect.iscoroutine(called.value):
            called.value.close()  # else Python complains of it later, in another cell
        value = plain(called.value)
        after = plain(inputs) if not called.running else before
        changed = tuple(key for key in before if difference(before[key], after[key], 0, 0) is not None)
        return called, value, changed

    called, value, mutated = once()
    failure = _failure(called, limit)
    called.error = None  # its frames hold all that the answer had in memory
    repeats = None
    if repeat and failure is None and called.seconds < REPEAT_WITHIN:
        again, second, _ = once()
        same = again.error is None and not again.stopped
        repeats = same and difference(value, second, exercise.rtol, exercise.atol) is None
    return Ran(case.name, value, failure, mutated, repeats, called.printed, called.seconds)


def moved(inputs: Any, device: str) -> Any:
    """Inputs with their tensors on a device; levels and other objects stay as they are."""
    if isinstance(inputs, dict):
        return {name: moved(value, device) for name, value in inputs.items()}
    return inputs.to(device) if isinstance(inputs, torch.Tensor) else inputs


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Work that leaves the global random numbers as they were, and that no default device touches."""
    python, numbers = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
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
    if untouched(function):
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
    lines = list(dis.get_instructions(code))
    return all(
        line.opname in empty and (line.opname not in ("LOAD_CONST", "RETURN_CONST") or line.argval is None)
        for line in lines
    )


def signature_problem(exercise: Exercise, function: Callable[..., Any]) -> str | None:
    """How the arguments of an answer differ from those it will be called with, in a sentence."""
    wanted = _parameters(exercise.reference)
    found = _parameters(function)
    if wanted is None or found is None or inspect.isclass(function):
        return None  # built-ins without a signature; a class shows it when it is made
    names = [name for name, each in wanted.items() if each.kind in NAMED]
    called = f"{exercise.name}({', '.join(names)})"
    kinds = {each.kind for each in found.values()}
    takes_all = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD} <= kinds
    missing = [] if takes_all else [name for name in names if name not in found]
    if any(wanted[name].default is not inspect.Parameter.empty for name in missing):
        used = {name for case in exercise.cases for name in exercise.inputs(case)}
        missing = [name for name in missing if name in used]  # what nobody gives may be left out
    extra = [
        name
        for name, each in found.items()
        if name not in names and each.default is each.empty and each.kind in NAMED
    ]
    if len(missing) == 1 and len(extra) == 1:
        return f"The argument `{extra[0]}` should be called `{missing[0]}`: the lesson calls {called}."
    if missing:
        return f"Your function does not take {_list(missing)}: the lesson calls {called}."
    if extra:
        return f"Your function asks for {_list(extra)} too, which nobody gives it: the lesson calls {called}."
    in_order = [name for name, each in found.items() if name in names and each.kind != each.KEYWORD_ONLY]
    if not takes_all and in_order != [name for name in names if name in found]:
        return f"Your function takes its arguments in another order: the lesson calls {called}."
    return None


NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def _parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter] | None:
    try:
        return dict(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return None


def _list(names: list[str]) -> str:
    quoted = [f"`{name}`" for name in names]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"


# After the call ------------------------------------------------------------------------------------


def _failure(called: limits.Called, limit: float | None) -> Failure | None:
    if called.stopped:
        return Failure(
            "timeout", message=f"{limit:g} s", frames=own_frames(called.at), running=called.running
        )
    error = called.error
    if error is None:
        return None
    places = [
        (code.co_filename, line, code.co_name)
        for code, line in ((frame.f_code, line) for frame, line in walk_tb(error.__traceback__))
    ]
    unwritten = isinstance(error, NotImplementedError) and bool(places) and not foreign(places[-1][0])
    kind = "not implemented" if unwritten else "exception"
    return Failure(kind, type(error).__name__, _text(error), own_frames(places))


def _text(error: BaseException) -> str:
    try:
        return str(error)[:1000]
    except Exception:
        return ""


def own_frames(places: Sequence[tuple[str, int, str]]) -> tuple[Frame, ...]:
    """The student's own lines among (file, line, function), the outermost two and the innermost two."""
    frames = [
        Frame(line, linecache.getline(file, line).strip()[:300], name)
        for file, line, name in places
        if not foreign(file)
    ]
    return tuple(frames if len(frames) <= 4 else frames[:2] + frames[-2:])


def foreign(filename: str) -> bool:
    """Is this file ours, Python's or a library's, and so not the student's?"""
    return filename.startswith("<frozen") or normcase(filename).startswith(_foreign_folders())


@cache
def _foreign_folders() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    folders = [PACKAGE, *(paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib"))]
    folders += [*site.getsitepackages(), site.getusersitepackages()]
    return tuple(normcase(folder) + sep for folder in folders if folder)
