"""What an answer reaches for that it should not need: the functions it is to write, and the checker.

Read from the code; what is called while it runs is noted there. Neither is proof against somebody who
means to hide it, and neither has to be: whoever can do that can also copy the function.
"""

import ast
import inspect
import pkgutil
from collections.abc import Iterable
from contextlib import suppress
from types import CodeType, FunctionType
from typing import Any

from diffusion_lessons import course
from diffusion_lessons.course.exercises.exercise import Exercise
from diffusion_lessons.course.grading.code.statements import Statement

CALLS_REFERENCE, REACHES_INSIDE = "calls the reference: ", "reaches into the checker: "  # flags begin so
OURS = "diffusion_lessons"
COURSE = f"{OURS}.course"
FOR_LESSONS = ("budget", "quiz", "widgets", "student.budget", "student.quiz")  # a notebook may open them
FRAMES = ("inspect.currentframe", "inspect.stack", "sys._getframe")
TRACES = ("sys.setprofile", "sys.settrace", "threading.setprofile", "threading.settrace")
AROUND = ("gc", "ctypes", "sys.modules", *FRAMES, *TRACES)  # what looks into the interpreter


def flags(exercise: Exercise, statements: Iterable[Statement]) -> list[str]:
    """What a reader of an answer, and of what it depends on, should look at, in words; empty for most."""
    nodes = [each.node for each in statements]
    names = _imported(nodes)
    used = sorted({dotted for node in nodes for dotted in _used(node, names)})
    ours = {id(each) for each in reference_functions(exercise).values()}
    borrowed = [each.split(".")[-1] for each in used if each.startswith(OURS) and id(_resolved(each)) in ours]
    inside = [each for each in used if _is_inside(each) and each.split(".")[-1] not in borrowed]
    following = zip(inside, [*inside[1:], ""], strict=False)  # sorted: what goes on from a name comes next
    reached = [each for each, other in following if not other.startswith(f"{each}.")]
    called = [CALLS_REFERENCE + name for name in dict.fromkeys(borrowed)]
    return called + [REACHES_INSIDE + each for each in reached]


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
            waiting += _functions_named_in(one)
        elif isinstance(one, FunctionType):
            found[one.__name__] = one
    return found


def _functions_named_in(function: Any) -> list[FunctionType]:
    """The functions that a function, or the methods of a class, name as globals or close over."""
    found: list[Any] = []
    for each in vars(function).values() if inspect.isclass(function) else [function]:
        if isinstance(each, FunctionType):
            names = {name for code in _codes(each.__code__) for name in code.co_names}
            found += [each.__globals__.get(name) for name in names]
            found += inspect.getclosurevars(each).nonlocals.values()
    return [each for each in found if isinstance(each, FunctionType)]


def _codes(code: CodeType) -> list[CodeType]:
    inner = [each for each in code.co_consts if isinstance(each, CodeType)]
    return [code, *(found for each in inner for found in _codes(each))]


def _is_inside(dotted: str) -> bool:
    """Is this a name of the checker's, or one that looks into the interpreter?"""
    if not dotted.startswith(f"{COURSE}."):
        return _is_of(AROUND, dotted)
    name = dotted.removeprefix(f"{COURSE}.")
    return name not in course.__all__ and not _is_of(FOR_LESSONS, name)


def _is_of(modules: Iterable[str], dotted: str) -> bool:
    return any(dotted == each or dotted.startswith(f"{each}.") for each in modules)


def _imported(nodes: Iterable[ast.AST]) -> dict[str, str]:
    """Names that imports bind, anywhere in the code -> what they stand for."""
    found = {}
    for node in (inner for each in nodes for inner in ast.walk(each)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.split(".")[0]
                found[alias.asname or first] = alias.name if alias.asname else first
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _used(node: ast.AST, names: dict[str, str]) -> Iterable[str]:
    """Dotted names of imported things; modules of ours too that are imported by a call."""
    for inner in ast.walk(node):
        if isinstance(inner, (ast.Name, ast.Attribute)) and (dotted := _dotted(inner, names)):
            yield dotted
        if isinstance(inner, ast.Call) and inner.args and isinstance(inner.args[0], ast.Constant):
            called = _dotted(inner.func, names) or getattr(inner.func, "id", "")
            module = str(inner.args[0].value)
            if called in ("__import__", "importlib.import_module") and module.startswith(OURS):
                yield module


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
    with suppress(ImportError, AttributeError, ValueError):
        return pkgutil.resolve_name(dotted)
    return None
