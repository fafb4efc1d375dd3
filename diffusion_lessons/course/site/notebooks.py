"""A solved notebook as a page of the site: its cells as they are, answers folded in."""

import base64
import re
from dataclasses import dataclass
from html import unescape
from typing import Any

import nbformat

PICTURE = re.compile(r'<img[^>]*\salt="([^"]+)"[^>]*\ssrc="data:image/png;base64,([A-Za-z0-9+/=]+)"')
ELSEWHERE = re.compile(r"!\[([^\]]*)\]\(https?://[^)]*\)")  # a picture that would come from the network
VIEW = "application/vnd.jupyter.widget-view+json"  # its manager would come from the network
SOLUTION = {"code_prompt_show": "Show our solution", "code_prompt_hide": "Hide our solution"}
SETUP = {"code_prompt_show": "Show the setup", "code_prompt_hide": "Hide the setup"}


@dataclass(frozen=True)
class Picture:
    """A picture of a lesson and the words for those who cannot see it."""

    png: bytes
    alt: str


def site_notebook(solved: nbformat.NotebookNode, facts: str) -> nbformat.NotebookNode:
    """The notebook for Sphinx, nothing executed: `facts` is Markdown put at the end of its first cell.

    Code that is folded away in the notebook is left out, solutions and the setup are folded in. A picture
    with a web address, such as Colab's badge, is its words.
    """
    made = nbformat.from_dict({**solved, "cells": [], "metadata": {"kernelspec": solved.metadata.kernelspec}})
    for cell in solved.cells:
        shown = nbformat.from_dict(cell)
        shown.metadata = nbformat.from_dict(_folding(cell))
        if cell.cell_type == "markdown":
            shown.source = ELSEWHERE.sub(r"\1", cell.source)
        for output in shown.get("outputs", ()):
            output.get("data", {}).pop(VIEW, None)
        made.cells.append(shown)
    made.cells[0].source += f"\n{facts}"
    return made


def _folding(cell: Any) -> dict[str, Any]:
    """The cell's metadata: what myst-nb leaves out or folds in."""
    tags = cell.metadata.get("tags", [])
    if cell.metadata.get("jupyter", {}).get("source_hidden"):
        return {"tags": ["remove-input"]}
    if "exercise" in tags:
        return {"tags": ["hide-input"], "mystnb": SOLUTION}
    return {"tags": ["hide-input"], "mystnb": SETUP} if "setup" in tags else {}


def first_picture(solved: nbformat.NotebookNode) -> Picture | None:
    """The first picture of the section "See it first", or of the whole where there is no such section."""
    start = next((i for i, cell in enumerate(solved.cells) if "see" in cell.metadata.get("tags", ())), 0)
    for cell in solved.cells[start:]:
        for output in cell.get("outputs", ()):
            if found := PICTURE.search(output.get("data", {}).get("text/html", "")):
                return Picture(base64.b64decode(found[2]), unescape(found[1]))
    return None
