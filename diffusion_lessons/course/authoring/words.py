"""Cells that show a card or a quiz are words: other words run no lesson again, and are shown all the same."""

import ast

import nbformat

from diffusion_lessons.course.student.quiz import Choice, Question, interview_card, predict, quiz

SHOWN = {"interview_card": interview_card, "predict": predict, "quiz": quiz}
MADE_OF = {"Choice": Choice, "Question": Question}


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
        code = compile(ast.Expression(call), "<card>", "eval")
        card = eval(code, {"__builtins__": {}, **SHOWN, **MADE_OF})
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
            names = {node.id for node in ast.walk(call) if isinstance(node, ast.Name)}
            return call if names <= {*SHOWN, *MADE_OF} else None
    return None
