"""Cells that show a card or a quiz are words: other words run no lesson again, and are shown all the same.

Their calls are read from the syntax tree, never run: what is given to them must be written out, as texts,
True and False, lists, tuples, `Choice` and `Question`.
"""

import ast
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import nbformat

from diffusion_lessons.course.student.quiz import Choice, Question, interview_card, predict, quiz
from diffusion_lessons.course.widgets.page import Card

SHOWN: dict[str, Callable[..., Card]] = {"interview_card": interview_card, "predict": predict, "quiz": quiz}
MADE_OF = {"Choice": Choice, "Question": Question}


class NotWrittenOut(ValueError):
    """Something in a call that would have to be run; `line` is that of the parsed code."""

    def __init__(self, node: ast.expr) -> None:
        self.line, self.code = node.lineno, ast.unparse(node)[:60]
        super().__init__(f"line {self.line}: {self.code} is not written out")


def arguments(call: ast.Call) -> tuple[list[Any], dict[str, Any]]:
    """What a call is given, by place and by name; NotWrittenOut, or what `Choice` and `Question` refuse."""
    given = [_value(each) for each in call.args]
    return given, {str(each.arg): _value(each.value) for each in call.keywords}


def _value(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.List(elts=parts):
            return [_value(each) for each in parts]
        case ast.Tuple(elts=parts):
            return tuple(_value(each) for each in parts)
        case ast.Call(func=ast.Name(id=name)) if name in MADE_OF:
            given, named = arguments(node)
            return MADE_OF[name](*given, **named)
    raise NotWrittenOut(node)


def digested(source: str) -> str:
    """The code of a cell as far as executing depends on it: of a card, that it stands there."""
    call = card_of(source)
    if call is None:
        return source
    imports = [ast.unparse(each) for each in ast.parse(source).body[:-1]]
    return "\n".join([*imports, f"{ast.unparse(call.func)}(…)"])


def renew(cell: nbformat.NotebookNode) -> None:
    """Give an executed cell that shows a card or a quiz the output that its words have now."""
    call = card_of(cell.source)
    shown = [output for output in cell.outputs if "text/html" in output.get("data", {})]
    if call is not None and shown:
        given, named = arguments(call)
        card = SHOWN[ast.unparse(call.func)](*given, **named)
        shown[-1].data = nbformat.from_dict({"text/html": card._repr_html_(), "text/plain": repr(card)})


def card_of(source: str) -> ast.Call | None:
    """The call of a cell that is imports and a card or a quiz whose words are written out; else None."""
    try:
        body = ast.parse(source).body
    except SyntaxError:  # a magic
        return None
    if not body or not all(isinstance(each, ast.Import | ast.ImportFrom) for each in body[:-1]):
        return None
    match body[-1]:
        case ast.Expr(value=ast.Call(func=ast.Name(id=name)) as call) if name in SHOWN:
            with suppress(ValueError, TypeError):  # such as a choice without its reason: running it says so
                arguments(call)
                return call
    return None
