"""A notebook's cell as Python reads it: IPython's magics, shell lines and `name?` taken out.

Every line keeps its number. IPython's own transformer says where a cell speaks to it; where that is not
installed, Python's tokens do. What then stands there is decided here, once for both.
"""

import ast
import re
import tokenize
import warnings
from contextlib import suppress
from typing import Any

try:
    from IPython.core.inputtransformer2 import TransformerManager
except ImportError:
    TransformerManager = None  # type: ignore[assignment,misc]

TRANSPARENT = ("time", "timeit", "capture", "prun", "memit", "matplotlib")  # cell magics with Python below
MAX_STEPS = 100  # of IPython's transformer, one for each magic: it reads the whole cell for every one
MAX_FOR_IPYTHON = 20_000  # characters of a cell, therefore
NO_PYTHON = (SyntaxError, ValueError, RecursionError, MemoryError)  # what Python's parser raises
CELL_MAGIC = re.compile(r"(\s*)%%(\w+)[^\n]*")
PROMPTS = (re.compile(r"In \[\d+\]: ?|\s*\.{3,}: ?"), re.compile(r"(>>>|\.\.\.)( |$)"))
SPACE = " \t\f"


def parsed(source: str) -> tuple[str, ast.Module]:
    """A cell as Python, and its tree; one of `NO_PYTHON` where it is none all the same."""
    text = without_magics(source)
    return text, _tree(text)


def without_magics(source: str) -> str:
    """The cell with `pass` where it speaks to IPython, None where it asks it for a value.

    What is Python stays as it is; a cell in another language ("%%bash") is empty.
    """
    text, head = source, ""
    for _ in range(MAX_STEPS):
        if not PROMPTS[0].match(text):  # `In [3]: x = 1` is Python, too
            with suppress(*NO_PYTHON):
                _tree(text)
                return head + text
        text = _clean(text)
        magic = CELL_MAGIC.match(text)
        if not magic:
            break
        if magic[2] not in TRANSPARENT:
            return ""
        head += "\n" * magic[1].count("\n") + "pass"
        text = text[magic.end() :]
    whole = TransformerManager is not None and len(text) < MAX_FOR_IPYTHON
    return head + (_by_ipython(text) if whole else _by_tokens(text))


def _tree(text: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "\d" in a text is its author's business
        return ast.parse(text)


def _clean(text: str) -> str:
    """A cell without the indentation and the prompts that stand before all of it."""
    lines = text.split("\n")
    first = next((i for i, line in enumerate(lines) if line.strip()), 0)
    indent = lines[first][: len(lines[first]) - len(lines[first].lstrip(SPACE))]
    lines = [line.removeprefix(indent) for line in lines]
    for prompt in PROMPTS:
        if prompt.match(lines[first]):
            lines = [line[found.end() :] if (found := prompt.match(line)) else line for line in lines]
    return "\n".join(lines)


def _by_ipython(text: str) -> str:
    """Found step by step by IPython's own transformer."""
    manager: Any = TransformerManager()
    lines = [f"{line}\n" for line in text.split("\n")]
    for _ in range(MAX_STEPS):
        try:
            changed, after = manager.do_one_token_transform(lines)
        except SyntaxError:  # no Python: the parser says it better
            break
        at = next((i for i, (old, new) in enumerate(zip(lines, after, strict=False)) if old != new), None)
        if not changed or at is None:
            break
        end = at + 1 + len(lines) - len(after)
        before, asked, _ = after[at].partition("get_ipython().")
        column = len(before) if asked else len(lines[at]) - len(lines[at].lstrip())
        lines[at:end] = [f"{line}\n" for line in _in_python([line[:-1] for line in lines[at:end]], column)]
    else:
        return _by_tokens("".join(lines)[:-1])
    return "".join(lines)[:-1]


def _by_tokens(text: str) -> str:
    """Found statement by statement: Python's tokens say where one begins."""
    lines = text.split("\n")
    at = 0
    while at < len(lines):
        end, column = _statement(lines, at)
        if column is not None:
            lines[at:end] = _in_python(lines[at:end], column)
        at = end
    return "\n".join(lines)


def _statement(lines: list[str], at: int) -> tuple[int, int | None]:
    """The line after the statement that begins in a line, and the column where it speaks to IPython."""
    start = len(lines[at]) - len(lines[at].lstrip())
    if lines[at][start : start + 1] in tuple("%!?/,;"):
        return _continued(lines, at), start
    following = (f"{lines[i]}\n" for i in range(at, len(lines)))
    depth, before = 0, ["", ""]
    with suppress(tokenize.TokenError, SyntaxError):  # it never ends: the parser says it better
        for token in tokenize.generate_tokens(lambda: next(following, "")):
            text, (row, column) = token.string, token.start
            if text in ("%", "!") and before[-1] == "=" and not depth and row == 1:
                return _continued(lines, at), column
            if token.type == tokenize.NEWLINE or (token.type == tokenize.NL and not depth):
                asks = before[-1] == "?" and re.fullmatch(r"[\w*\]]+", before[-2].rstrip("?"))
                return at + row, start if asks else None
            if token.type in (tokenize.OP, tokenize.ERRORTOKEN):
                depth = max(depth + (text in tuple("([{")) - (text in tuple(")]}")), 0)
            if text.strip() and token.type != tokenize.COMMENT and not text == before[-1] == "?":
                before = [before[-1], text]
    return len(lines), None


def _continued(lines: list[str], at: int) -> int:
    while lines[at].endswith("\\") and at + 1 < len(lines):
        at += 1
    return at + 1


def _in_python(lines: list[str], column: int) -> list[str]:
    """Lines that speak to IPython from a column on, as Python: `%time x = f()` runs, `/f x` calls."""
    before = lines[0][:column]
    said = " ".join(line.rstrip("\\").strip() for line in (lines[0][column:], *lines[1:]))
    wants = "eval" if before.strip() else "exec"
    name, _, rest = said.partition(" ")
    python = "None" if before.strip() else "pass"
    if name == "%time":
        with suppress(*NO_PYTHON):
            ast.parse(rest.strip(), mode=wants)
            python = rest.strip() or python
    elif name[:1] in tuple("/,;") and name[1:]:
        given = {"/": rest, ",": ", ".join(f'"{each}"' for each in rest.split()), ";": f'"{rest}"'}
        python = f"{name[1:]}({given[name[0]]})"
    return [before + python, *[""] * (len(lines) - 1)]
