"""A notebook's cell as Python reads it: IPython's magics, shell lines and `name?` taken out.

Every line keeps its number. Where IPython is not installed, lines are read one by one.
"""

import ast
import re
import warnings
from contextlib import suppress
from typing import Any

try:
    from IPython.core.inputtransformer2 import TransformerManager
except ImportError:
    TransformerManager = None  # type: ignore[assignment,misc]

TRANSPARENT = ("time", "timeit", "capture", "prun", "matplotlib")  # cell magics with Python below them
MAX_STEPS = 100  # of IPython's transformer, one for each magic: it reads the whole cell for every one


def parsed(source: str) -> tuple[str, ast.Module]:
    """A cell as Python, and its tree; SyntaxError where it is no Python all the same."""
    text = without_magics(source)
    return text, _tree(text)


def without_magics(source: str) -> str:
    """The cell with `pass` where it speaks to IPython, None where it asks it for a value.

    What is Python stays as it is; a cell in another language ("%%bash") is empty.
    """
    with suppress(SyntaxError):
        _tree(source)
        return source
    magic = re.match(r"\s*%%(\w+)", source)
    if magic and magic[1] not in TRANSPARENT:
        return ""
    if TransformerManager is None:
        return _by_lines(source)
    return _by_ipython(source)


def _tree(text: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "\d" in a text is its author's business
        return ast.parse(text)


def _by_ipython(source: str) -> str:
    """IPython's own steps, but what it makes longer or shorter keeps its lines."""
    manager: Any = TransformerManager()
    kept = source.splitlines(keepends=True)
    for clean in manager.cleanup_transforms:  # empty lines at the top, common indentation, prompts
        kept = clean(kept)
    text = "".join(kept)
    text = "\n" * (source.count("\n") - text.count("\n")) + text
    lines = [line + "\n" for line in text.split("\n")]
    for _ in range(MAX_STEPS):
        try:
            changed, after = manager.do_one_token_transform(lines)
        except SyntaxError:  # no Python: the parser says it better
            break
        at = next((i for i, (old, new) in enumerate(zip(lines, after, strict=False)) if old != new), None)
        if not changed or at is None:
            break
        plain = re.sub(r"^(\s*)get_ipython\(\).*", r"\1pass", after[at])
        plain = re.sub(r"=\s*get_ipython\(\).*", "= None", plain)
        lines = [*after[:at], plain, *["\n"] * (len(lines) - len(after)), *after[at + 1 :]]
    else:
        return _by_lines("".join(lines)[:-1])
    return "".join(lines)[:-1]


def _by_lines(source: str) -> str:
    return "\n".join(map(_without_magic, source.split("\n")))


def _without_magic(line: str) -> str:
    indent, rest = re.match(r"(\s*)(.*)", line).groups()  # type: ignore[union-attr]
    if rest.startswith(("%", "!", "?")) or re.search(r"\w\?{1,2}\s*$", rest):
        return f"{indent}pass"
    return re.sub(r"^([\w, ]+=\s*)[%!].*$", r"\1None", line)
