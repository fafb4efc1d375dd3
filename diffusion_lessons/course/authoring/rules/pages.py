"""What a page may hold: links that lead somewhere, pictures with words, outputs fit to be read."""

import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import nbformat

from diffusion_lessons.course.authoring.notebook import read_notebook
from diffusion_lessons.course.authoring.source import Cell, Lesson, Said

LINK = re.compile(r"(?<!!)\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^)\s]+)\)|<a\s[^>]*href=[\"']([^\"']+)[\"']")
PICTURE = re.compile(r"!\[([^\]]*)\]\(")
IMAGE_TAG = re.compile(r"<img\b[^>]*>", re.IGNORECASE)
ELSEWHERE = re.compile(r"^[a-z][a-z0-9+.-]*:", re.IGNORECASE)
PATHS = re.compile(r"(?:/home/|/Users/|/root/|/tmp/|[A-Z]:\\\\Users\\\\)[\w./\\-]*")
MIN_ALT = 10  # characters


def link_problems(lesson: Lesson, notebook: nbformat.NotebookNode, root: Path) -> Said:
    """Relative links that lead to no file, and anchors that no page has."""
    for cell, text in _prose(lesson, notebook):
        for found in LINK.finditer(text):
            target = unquote(found[1] or found[2])
            if ELSEWHERE.match(target):
                continue
            file, _, anchor = target.partition("#")
            page = root / "notebooks" / (file or f"{lesson.stem}.ipynb")
            if file and not _is_lesson(file, root):
                message = f"{target} is no lesson; students have the notebooks alone"
                yield cell.line_of(target), "link", message
            elif anchor and anchor not in _anchors(page, lesson, notebook):
                yield cell.line_of(target), "link", f"no heading or <a id> is called #{anchor}"


def _prose(lesson: Lesson, notebook: nbformat.NotebookNode) -> Iterator[tuple[Cell, str]]:
    """The markdown cells, each with its text on the page."""
    for cell, made in zip(lesson.cells, notebook.cells, strict=True):
        if made.cell_type == "markdown":
            yield cell, made.source


def _is_lesson(name: str, root: Path) -> bool:
    """A notebook beside this one that is there, or whose source is (it is built in the same run)."""
    stem = Path(name).stem
    return name == f"{stem}.ipynb" and (root / "solutions" / f"{stem}.py").exists()


def _anchors(page: Path, lesson: Lesson, notebook: nbformat.NotebookNode) -> set[str]:
    found: set[str] = set()
    shown = notebook if page.stem == lesson.stem else read_notebook(page)
    for cell in shown.cells if shown else ():
        if cell.cell_type == "markdown":
            found.update(re.findall(r"<a\s[^>]*id=[\"']([^\"']+)", cell.source))
            for heading in re.findall(r"(?m)^#+ +(.+?)\s*$", cell.source):
                found.add(heading.replace(" ", "-"))
                found.add(re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-"))
    return found


def alt_problems(lesson: Lesson, notebook: nbformat.NotebookNode) -> Said:
    """Pictures in the prose without words that say what they show."""
    for cell, text in _prose(lesson, notebook):
        for found in PICTURE.finditer(text):
            if len(found[1].strip()) < MIN_ALT:
                message = f"a picture with alt text {found[1]!r}: say what it shows"
                yield cell.line_of("!["), "alt", message
        for tag in IMAGE_TAG.findall(text):
            if not _has_alt(tag):
                yield cell.line_of("<img"), "alt", "an <img> without alt text: say what it shows"


def output_problems(lesson: Lesson, solved: nbformat.NotebookNode) -> Said:
    """Errors, warnings, pictures without words and local paths among the stored outputs."""
    for cell, made in zip(lesson.cells, solved.cells, strict=True):
        if made.cell_type != "code":
            continue
        if made.execution_count is None and made.source.strip():
            yield cell.line, "output", "this cell was never executed"
        if "nbval-check-output" in cell.tags and not made.outputs:
            yield cell.line, "output", "tagged nbval-check-output, but nothing is printed to check"
        for output in made.outputs:
            for rule, message in _about(output):
                yield cell.line, rule, message


def _about(output: Any) -> Iterator[tuple[str, str]]:
    if output.output_type == "error":
        yield "output", f"an error is stored: {output.ename}: {output.evalue}"
        return
    if output.output_type == "stream" and output.name == "stderr":
        yield "output", f"this cell writes to standard error: {output.text.strip()[:200]!r}"
    data = output.get("data", {})
    if "text/html" not in data and any(kind.startswith("image/") for kind in data):
        yield "alt", "a plain image has no alt text in JupyterLab: show it with figure(fig, alt='…')"
    page = re.sub(r"(?s)<script\b.*?</script>", "", data.get("text/html", ""))
    if not all(_has_alt(tag) for tag in IMAGE_TAG.findall(page)):
        yield "alt", "a picture of this cell's output has no alt text"
    texts = [output.get("text", ""), data.get("text/plain", ""), re.sub(r"base64,[^\"']+", "", page)]
    for text in texts:
        if found := PATHS.search(html.unescape(text)):
            yield "output", f"a path of the machine that built it is stored: {found[0]!r}"


def _has_alt(tag: str) -> bool:
    found = re.search(r"""\balt=(?:"([^"]*)"|'([^']*)')""", tag)
    return found is not None and len((found[1] or found[2] or "").strip()) >= MIN_ALT
