"""Slightly wrong answers made by the machine: the bank's right ones with one operation changed.

A boundary taken in or left out, floor for round, one round or one entry more or fewer, values cut to
[−1, 1] on the way, one decision for a whole batch: what people write and the cases must tell apart.
"""

import ast
import copy
import inspect
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any

from torch import Tensor

from diffusion_lessons.course.exercises.exercise import Exercise
from diffusion_lessons.course.exercises.judging import judge
from diffusion_lessons.course.exercises.outputs import Outputs
from diffusion_lessons.course.exercises.running import Runner

COMPARISONS = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}
ROUNDED = {
    "floor": ("round", "ceil"),
    "ceil": ("round", "floor"),
    "round": ("floor", "ceil"),
    "int": ("round",),
}
Rewrite = Callable[[ast.AST], Iterator[tuple[str, ast.AST]]]


@dataclass(frozen=True)
class Mutant:
    """A right answer with one change: `change` says which, as source."""

    exercise: Exercise
    change: str
    answer: Callable[..., Any]
    watched: bool  # it is a change to what `cut` and `first` are given, and void where that is nothing

    def missed(self) -> bool:
        """Is there something to change in it, and does it pass on every case?"""
        _changeable.clear()
        for case in self.exercise.cases:
            ran = Runner(self.exercise, self.answer, 0, "cpu", 2 * self.exercise.timeout).run([case])
            if not judge(self.exercise, Outputs(self.exercise.id, 0, "", ran), [case]).passed:
                return False
        return bool(_changeable) or not self.watched


def mutants(exercise: Exercise) -> Iterator[Mutant]:
    """Every change of every right answer of an exercise, once."""
    if exercise.kind == "predict":
        return  # it takes nothing that could be otherwise
    seen: set[str] = set()
    for where, roots in _answers(exercise):
        for change, answer in _changed(where, roots):
            if change not in seen:
                seen.add(change)
                yield Mutant(exercise, change, answer, "→ _cut(" in change or "→ _first(" in change)
    if not isinstance(exercise.reference, type):
        yield Mutant(exercise, "the result, cut to [−1, 1]", _result(exercise, cut), True)
        yield Mutant(exercise, "the first sample's numbers for all", _alike(exercise), True)
        yield Mutant(exercise, "what a function answers, cut to [−1, 1]", _answers_cut(exercise), True)


# Where the right answers are written -----------------------------------------------------------------


@cache
def _tree(module: str) -> ast.Module:
    return ast.parse(Path(str(sys.modules[module].__file__)).read_text(encoding="utf-8"))


def _answers(exercise: Exercise) -> Iterator[tuple[str, dict[str, str]]]:
    """Modules with the expressions in them that give right answers."""
    bank = f"diffusion_lessons.course.bank.lesson_{exercise.lesson}"
    for node in ast.walk(_tree(bank)):
        if isinstance(node, ast.Call) and any(_is_id(word, exercise.id) for word in node.keywords):
            words = {word.arg: word.value for word in node.keywords}
            right = [words["reference"], *words["alternatives"].elts]  # type: ignore[attr-defined]
            yield bank, {ast.unparse(each): ast.unparse(each) for each in right}
    home = exercise.reference.__module__
    if home != bank:
        yield home, {exercise.reference.__name__: exercise.reference.__name__}


def _is_id(word: ast.keyword, id: str) -> bool:
    return word.arg == "id" and isinstance(word.value, ast.Constant) and word.value.value == id


def _changed(module: str, roots: dict[str, str]) -> Iterator[tuple[str, Callable[..., Any]]]:
    tree = _tree(module)
    written = {node.name: node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    for root in roots:
        expression = ast.parse(root, mode="eval")
        reached: dict[str, ast.AST] = {"": expression}
        waiting: list[ast.AST] = [expression]
        while waiting:
            for node in ast.walk(waiting.pop()):
                if isinstance(node, ast.Name) and node.id in written and node.id not in reached:
                    reached[node.id] = written[node.id]
                    waiting.append(written[node.id])
        for name, node in reached.items():
            for change, replaced in _rewritten(node):
                body = [replaced if name and each is node else each for each in tree.body]
                with suppress(Exception):  # the bank itself does not even load with it
                    answer = _made(module, body, expression if name else replaced)
                    yield f"{name}: {change}" if name else change, answer


def _made(module: str, body: list[Any], expression: Any) -> Callable[..., Any]:
    names: dict[str, Any] = {"__name__": module, "_cut": cut, "_first": first, **ROUNDING}
    exec(compile(ast.fix_missing_locations(ast.Module(body, [])), "<mutant>", "exec"), names)
    made: Callable[..., Any] = eval(compile(ast.fix_missing_locations(expression), "<mutant>", "eval"), names)
    return made


# One change each -------------------------------------------------------------------------------------


def _rewritten(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """(what was changed, a copy of the node with that change) for every place in it."""
    checks = {id(part) for each in ast.walk(node) if _is_check(each) for part in ast.walk(each)}
    for place, part in enumerate(ast.walk(node)):
        for new in _variants(part) if id(part) not in checks else ():
            changed = copy.deepcopy(node)
            target = next(each for at, each in enumerate(ast.walk(changed)) if at == place)
            yield f"{ast.unparse(part)} → {ast.unparse(new)}", _Replace(target, new).visit(changed)


def _is_check(node: ast.AST) -> bool:
    """Arguments that are refused: no case gives them."""
    return isinstance(node, ast.If) and all(isinstance(each, ast.Raise) for each in node.body)


class _Replace(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> Any:
        return self.new if node is self.old else self.generic_visit(node)


def _variants(node: ast.AST) -> Iterator[ast.AST]:
    node = copy.deepcopy(node)
    if isinstance(node, ast.Compare):
        for place, operator in enumerate(node.ops):
            if type(operator) in COMPARISONS:
                operators = list(node.ops)
                operators[place] = COMPARISONS[type(operator)]()
                yield ast.Compare(node.left, operators, node.comparators)
        yield _call("_first", node)
    elif isinstance(node, ast.Call):
        yield from _calls(node)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.FloorDiv):
        yield _call("_round", ast.BinOp(node.left, ast.Div(), node.right))
        yield ast.UnaryOp(ast.USub(), ast.BinOp(ast.UnaryOp(ast.USub(), node.left), node.op, node.right))
    elif isinstance(node, ast.BinOp) and not isinstance(node.op, (ast.Mod, ast.BitOr, ast.MatMult)):
        yield _call("_cut", node)
    elif isinstance(node, ast.Slice):
        for field in ("lower", "upper"):
            for by in (-1, 1) if (bound := getattr(node, field)) else ():
                yield ast.Slice(**{**vars(node), field: _plus(bound, by)})


def _calls(node: ast.Call) -> Iterator[ast.AST]:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if name == "range":
        for place, bound in enumerate(node.args):
            for by in (-1, 1):
                yield ast.Call(node.func, [*node.args[:place], _plus(bound, by), *node.args[place + 1 :]], [])
    elif name in ROUNDED:
        given = node.args[0] if node.args else node.func.value  # type: ignore[attr-defined]
        for other in ROUNDED[name]:
            yield _call("_" + other, given)


def _call(name: str, *arguments: ast.expr) -> ast.Call:
    return ast.Call(ast.Name(name, ast.Load()), list(arguments), [])


def _plus(node: ast.expr, by: int) -> ast.expr:
    return ast.BinOp(node, ast.Add(), ast.Constant(by))


def _rounding(name: str) -> Callable[[Any], Any]:
    def rounded(value: Any) -> Any:
        if isinstance(value, Tensor) and value.ndim:
            return getattr(value, name)()
        return {"floor": math.floor, "ceil": math.ceil, "round": round}[name](float(value))

    return rounded


ROUNDING = {f"_{name}": _rounding(name) for name in ("floor", "ceil", "round")}
_changeable: list[bool] = []  # that there was something for `cut` and `first` to change


def cut(value: Any) -> Any:
    """Pictures and points cut to [−1, 1]; anything else as it is."""
    if isinstance(value, Tensor) and value.is_floating_point() and value.ndim >= 2:
        _changeable.extend([True] * (value.numel() > len(value)))
        return value.clamp(-1, 1)
    return value


def first(value: Any) -> Any:
    """What holds for the first sample, for all of them."""
    if not isinstance(value, Tensor) or value.ndim == 0 or len(value) < 2:
        return value
    _changeable.append(True)
    return value[:1].expand_as(value)


def _result(exercise: Exercise, change: Callable[[Any], Any]) -> Callable[..., Any]:
    def answer(*args: Any, **kwargs: Any) -> Any:
        found = exercise.reference(*args, **kwargs)
        if isinstance(found, tuple):
            parts = [change(each) for each in found]
            return type(found)(*parts) if hasattr(found, "_fields") else tuple(parts)
        return change(found)

    answer.__signature__ = inspect.signature(exercise.reference)
    return answer


def _alike(exercise: Exercise) -> Callable[..., Any]:
    """Numbers of shape (B,) are taken from the first sample."""

    def answer(*args: Any, **kwargs: Any) -> Any:
        def same(value: Any) -> Any:
            return first(value) if isinstance(value, Tensor) and value.ndim == 1 else value

        return exercise.reference(*map(same, args), **{name: same(each) for name, each in kwargs.items()})

    answer.__signature__ = inspect.signature(exercise.reference)
    return answer


def _answers_cut(exercise: Exercise) -> Callable[..., Any]:
    """What a denoiser, or another function among the arguments, answers is cut: the first of two or more."""

    def answer(*args: Any, **kwargs: Any) -> Any:
        def cut_off(value: Any) -> Any:
            if not isinstance(value, FunctionType):
                return value

            def asked(*args: Any, **kwargs: Any) -> Any:
                found = value(*args, **kwargs)
                if not isinstance(found, tuple):
                    return cut(found)
                parts = (cut(found[0]), *found[1:])
                return type(found)(*parts) if hasattr(found, "_fields") else parts

            return asked

        given = {name: cut_off(value) for name, value in kwargs.items()}
        return exercise.reference(*map(cut_off, args), **given)

    answer.__signature__ = inspect.signature(exercise.reference)
    return answer
