"""What everything shown in a lesson has in common: one piece of HTML that needs no kernel and no network.

A thing shown is an object whose HTML the notebook keeps, so it looks the same in JupyterLab, in a
reopened notebook, in exported HTML and on GitHub. An untrusted notebook loses <script>, <style>,
aria-* and data-* (JupyterLab's sanitizer), so the HTML must say the same without them.
"""

import base64
import html
import re
from typing import Any, Protocol


class Shown(Protocol):
    """Anything with one HTML form and a stable plain one."""

    def _repr_html_(self) -> str: ...


def show(*things: Any) -> None:
    """Show several things in one cell, in order; the last line of a cell needs no `show`."""
    try:
        from IPython.display import display
    except ImportError:
        print(*map(repr, things), sep="\n")
    else:
        display(*things)


def markup(text: str) -> str:
    """Text as HTML: everything escaped, `code` and **bold** understood."""
    escaped = html.escape(text, quote=False)
    coded = re.sub(r"`([^`]+)`", r"<code>\1</code>", escaped)
    return re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", coded)


def image_tag(png: bytes, alt: str, css: str = "max-width: 100%; height: auto") -> str:
    """A PNG inside the page, with the words for those who cannot see it."""
    data = base64.b64encode(png).decode("ascii")
    return f'<img alt="{html.escape(required_alt(alt))}" style="{css}" src="data:image/png;base64,{data}">'


def required_alt(alt: object) -> str:
    """The alt text, or an error that says why there must be one.

    Raises:
        ValueError: nothing, or fewer than ten characters, was given.
    """
    if not isinstance(alt, str) or len(alt.strip()) < 10:
        raise ValueError(
            f"a picture needs alt text that says what it shows, got {alt!r}: write one sentence "
            "with the claim, such as alt='Loss falls from 0.9 to 0.1 in 300 steps'"
        )
    return " ".join(alt.split())


def error_box(error: BaseException, doing: str) -> str:
    """An exception as HTML, so that it never vanishes in a callback."""
    where = error.__traceback__
    while where is not None and where.tb_next is not None:
        where = where.tb_next
    line = f" (line {where.tb_lineno} of {where.tb_frame.f_code.co_name})" if where is not None else ""
    return (
        '<div role="alert" style="border-left: 4px solid #b3261e; padding: 4px 12px">'
        f"<strong>{html.escape(doing)} failed.</strong> "
        f"<code>{html.escape(f'{type(error).__name__}: {error}')}</code>{html.escape(line)}</div>"
    )
