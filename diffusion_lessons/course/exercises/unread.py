"""Arguments that stand nowhere in an answer: read off its code, before it is called."""

import dis
import inspect
from collections.abc import Callable
from types import CodeType
from typing import Any

from diffusion_lessons.course.exercises.exercise import Exercise

HIDDEN = {"locals", "vars", "eval", "exec"}  # with one of these a name is read that is not written


def unread(exercise: Exercise, function: Any) -> tuple[str, ...]:
    """The arguments that the reference and every alternative read, and this function does not."""
    read = _read(function)
    known = [_read(each) for each in (exercise.reference, *exercise.alternatives)]
    if read is None or any(each is None for each in known):
        return ()
    needed = set.intersection(*filter(None, known), set(inspect.signature(exercise.reference).parameters))
    return tuple(sorted(needed - read)) if needed & read else ()  # a function that reads nothing is a stub


def _read(function: Callable[..., Any]) -> set[str] | None:
    """The names that a function reads; None where its code does not tell."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    takes_all = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS
    if code is None or inspect.isclass(function) or code.co_flags & takes_all or HIDDEN & set(code.co_names):
        return None
    names = set(code.co_cellvars)  # a function inside it reads them
    lines = instructions(code)
    if lines is None:
        return None
    for line in lines:
        if "LOAD" in line.opname:
            names |= set(line.argval) if isinstance(line.argval, tuple) else {line.argval}
    return names


def instructions(code: CodeType) -> list[dis.Instruction] | None:
    """What a function's code does; None where a number in it is too long for Python to write down."""
    try:
        return list(dis.get_instructions(code))
    except ValueError:
        return None
