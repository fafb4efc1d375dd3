"""What everything shown in a lesson has in common: one piece of HTML that needs no kernel and no network.

A thing shown is an object whose HTML the notebook keeps, so it looks the same in JupyterLab, in a
reopened notebook, in exported HTML and on GitHub. An untrusted notebook loses <script>, <style>,
aria-* and data-* (JupyterLab's sanitizer), so the HTML must say the same without them.
"""

import base64
import html
import json
import os
import re
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from traceback import extract_tb
from typing import Any

ALTS = "alts"  # the folder beside this file with the alt texts of each lesson
ALTS_VARIABLE = "DIFFUSION_LESSONS_ALTS"  # those of a lesson that is being built


@dataclass(frozen=True, repr=False)
class Card:
    """Something to show, as text and as HTML; the last line of a cell or `show` displays it."""

    text: str
    html: str

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return self.html


def show(*things: Any) -> None:
    """Show several things in one cell, in order; outside a notebook, print them.

    The last line of a cell needs no `show`.
    """
    if sys.modules.get("IPython"):
        from IPython import get_ipython
        from IPython.display import display

        if get_ipython() is not None:
            display(*things)
            return
    for thing in things:
        try:
            print(repr(thing))
        except UnicodeEncodeError:  # a terminal that has no ✓ or ᾱ
            encoding = getattr(sys.stdout, "encoding", None) or "ascii"
            print(repr(thing).encode(encoding, "replace").decode(encoding))


def markup(text: str) -> str:
    """Text as HTML: everything escaped; `code`, **bold** and *emphasis* understood."""
    escaped = html.escape(text, quote=False)
    coded = re.sub(r"`([^`]+)`", r"<code>\1</code>", escaped)
    return emphasised(re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", coded))


def emphasised(escaped: str) -> str:
    """Escaped text with its *stressed words* marked; only words count, so a * b * c stays, as does code."""

    def mark(found: re.Match[str]) -> str:
        return f"<em>{found[1]}</em>" if found[1] else found[0]

    return re.sub(r"<code>.*?</code>|(?<![\w*])\*([A-Za-z]+(?:[ -][A-Za-z]+)*)\*(?![\w*])", mark, escaped)


def image_tag(png: bytes, alt: str, css: str = "max-width: 100%; height: auto") -> str:
    """A PNG inside the page, with the words for those who cannot see it."""
    data = base64.b64encode(png).decode("ascii")
    return f'<img alt="{html.escape(required_alt(alt))}" style="{css}" src="data:image/png;base64,{data}">'


def required_alt(alt: object) -> str:
    """The alt text, or an error that says why there must be one.

    "figure 02.7" is the seventh text of lesson 02: it is taken from the package's own.

    Raises:
        ValueError: nothing, or fewer than ten characters, was given.
    """
    if not isinstance(alt, str) or len(alt.strip()) < 10:
        raise ValueError(
            f"a picture needs alt text that says what it shows, got {alt!r}: write one sentence "
            "with the claim, such as alt='Loss falls from 0.9 to 0.1 in 300 steps'"
        )
    words = " ".join(alt.split())
    named = re.fullmatch(r"figure (\d\d)\.(\d+)", words)
    with suppress(IndexError):  # of another edition
        return " ".join(_alts(named[1])[int(named[2]) - 1].split()) if named else words
    return words


@cache
def _alts(lesson: str) -> list[str]:
    file = Path(__file__).parent / ALTS / f"{lesson}.json"
    with suppress(OSError):
        return json.loads(os.environ.get(ALTS_VARIABLE) or file.read_text(encoding="utf-8"))
    return []


def error_box(error: BaseException, doing: str) -> str:
    """An exception as HTML, so that it never vanishes in a callback."""
    frames = extract_tb(error.__traceback__)
    line = f" (line {frames[-1].lineno} of {frames[-1].name})" if frames else ""
    return (
        '<div role="alert" style="border-left: 4px solid #b3261e; padding: 4px 12px">'
        f"<strong>{html.escape(doing)} failed.</strong> "
        f"<code>{html.escape(f'{type(error).__name__}: {error}')}</code>{html.escape(line)}</div>"
    )
