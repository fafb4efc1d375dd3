"""Answers that call ours instead of being one, and code that reaches into the checker.

Seen twice: in the code, and while it runs. Neither is proof against somebody who means to hide it,
and neither has to be: whoever can do that can also copy the function.
"""

import ast
import builtins
import inspect
import threading
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any

import torch

from diffusion_lessons.course.exercises.exercise import Exercise
from diffusion_lessons.course.grading.code.statements import Statement
from diffusion_lessons.course.grading.sandbox.sandbox import PACKAGE

OURS = "diffusion_lessons"
COURSE = f"{OURS}.course"
TORCH = str(Path(torch.__file__).parent)
FOR_LESSONS = ("budget", "quiz", "widgets")  # parts of the course that a notebook may open
AROUND = {  # what looks at the code that calls, or into the interpreter
    "gc",
    "ctypes",
    "inspect.currentframe",
    "inspect.stack",
    "sys._getframe",
    "sys.modules",
    "sys.setprofile",
    "sys.settrace",
    "threading.setprofile",
    "threading.settrace",
}


# What counts as ours --------------------------------------------------------------------------------


def reference_functions(exercise: Exercise) -> dict[str, Any]:
    """The reference, and the package's functions that it calls and no right alternative does; by name."""
    found = _package_functions(exercise.reference)
    allowed = {id(each) for one in exercise.alternatives for each in _package_functions(one).values()}
    kept = {name: each for name, each in found.items() if id(each) not in allowed}
    return {exercise.reference.__name__: exercise.reference} | kept


def _package_functions(function: Any) -> dict[str, Any]:
    """Functions of the system half that a function of the bank calls, itself or through the bank's own."""
    found: dict[str, Any] = {}
    seen: set[int] = set()
    waiting = [function]
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        module = getattr(one, "__module__", "") or ""
        if module.startswith(f"{COURSE}.") or not module.startswith(OURS):
            waiting += _globals(one)
        elif isinstance(one, FunctionType):
            found[one.__name__] = one
    return found


def _globals(function: Any) -> list[Any]:
    functions = (
        [each for each in vars(function).values() if isinstance(each, FunctionType)]
        if inspect.isclass(function)
        else [function]
        if isinstance(function, FunctionType)
        else []
    )
    found = []
    for each in functions:
        names = {name for code in _codes(each.__code__) for name in code.co_names}
        values = [each.__globals__[name] for name in names if name in each.__globals__]
        values += [cell.cell_contents for cell in each.__closure__ or () if _filled(cell)]
        found += [value for value in values if isinstance(value, FunctionType)]
    return found


def _codes(code: CodeType) -> list[CodeType]:
    inner = [each for each in code.co_consts if isinstance(each, CodeType)]
    return [code, *(found for each in inner for found in _codes(each))]


def _filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


# In the code ----------------------------------------------------------------------------------------


def flags(exercise: Exercise, statements: Iterable[Statement]) -> list[str]:
    """What a reader of the code should look at, in words; empty for most.

    Args:
        statements: the answer and what it depends on.
    """
    nodes = [each.node for each in statements]
    names = _imported(nodes)
    used = sorted({dotted for node in nodes for dotted in _used(node, names)})
    ours = {id(each) for each in reference_functions(exercise).values()}
    borrowed = [each.split(".")[-1] for each in used if each.startswith(OURS) and id(_resolved(each)) in ours]
    inside = [each for each in used if _is_inside(each) and each.split(".")[-1] not in borrowed]
    reached = [each for each in inside if not any(other.startswith(f"{each}.") for other in inside)]
    return [calls_reference(name) for name in dict.fromkeys(borrowed)] + [
        f"reaches into the checker: {each}" for each in reached
    ]


def calls_reference(name: str) -> str:
    """The words of one flag."""
    return f"calls the reference: {name}"


def _is_inside(dotted: str) -> bool:
    if not dotted.startswith(f"{COURSE}."):
        return any(dotted == each or dotted.startswith(f"{each}.") for each in AROUND)
    from diffusion_lessons import course

    first, *more = dotted.removeprefix(f"{COURSE}.").split(".")
    return first not in FOR_LESSONS and (bool(more) or first not in course.__all__)


def _imported(nodes: list[ast.stmt]) -> dict[str, str]:
    """Names that imports bind, anywhere in the code -> what they stand for."""
    found = {}
    for node in (inner for each in nodes for inner in ast.walk(each)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found[alias.asname or alias.name.split(".")[0]] = (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _used(node: ast.AST, names: dict[str, str]) -> Iterable[str]:
    for inner in ast.walk(node):
        if isinstance(inner, (ast.Name, ast.Attribute)) and (dotted := _dotted(inner, names)):
            yield dotted
        if isinstance(inner, ast.Call) and inner.args and isinstance(inner.args[0], ast.Constant):
            called = _dotted(inner.func, names) or getattr(inner.func, "id", "")
            if called in ("__import__", "importlib.import_module") and str(inner.args[0].value).startswith(
                OURS
            ):
                yield str(inner.args[0].value)


def _dotted(node: ast.expr, names: dict[str, str]) -> str:
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name) or node.id not in names:
        return ""
    return ".".join([names[node.id], *reversed(parts)])


def _resolved(dotted: str) -> Any:
    """The object of a dotted name of this package, or None."""
    value: Any = None
    parts = dotted.split(".")
    for i, part in enumerate(parts):
        inner = getattr(value, part, None) if i else None
        if inner is None and (i == 0 or isinstance(value, ModuleType)):
            try:
                inner = import_module(".".join(parts[: i + 1]))
            except ImportError:
                return None
        value = inner
    return value


# While it runs --------------------------------------------------------------------------------------


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


def shell(reference: Callable[..., Any]) -> Any:
    """Something with the signature of the reference and nothing in it."""

    def empty(*args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    if inspect.isclass(reference):
        return type(reference.__name__, (), {"__init__": empty, "__doc__": reference.__doc__})
    empty.__name__ = empty.__qualname__ = reference.__name__
    try:
        empty.__signature__ = inspect.signature(reference)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        return builtins.print  # as little to be known of it as of the reference
    return empty
