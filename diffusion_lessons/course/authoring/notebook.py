"""Notebooks as the build makes them: stable cell ids, no dates, the same bytes each time."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nbformat

from diffusion_lessons.course.authoring import alts, render, words
from diffusion_lessons.course.authoring.cells import ids, solved_code, student_code
from diffusion_lessons.course.authoring.render import Context, expand
from diffusion_lessons.course.authoring.source import Lesson, digest
from diffusion_lessons.course.exercises.mark import KEY
from diffusion_lessons.course.widgets.scrubber import renewed
from diffusion_lessons.support.files import atomic_write

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def student_notebook(lesson: Lesson, context: Context) -> nbformat.NotebookNode:
    """The notebook that a student opens: stubs, no outputs, cards with the expected figures."""
    notebook = _notebook(lesson, context, student_code)
    content = json.dumps([cell.source for cell in notebook.cells], ensure_ascii=False)
    notebook.metadata[KEY] = {"lesson": lesson.stem, "version": digest(content)[:16]}
    return notebook


def solved_notebook(lesson: Lesson, context: Context) -> nbformat.NotebookNode:
    """The same with its solutions, not executed yet, and with what its staleness is judged by."""
    notebook = _notebook(lesson, context, solved_code)
    notebook.metadata[KEY] = {
        "lesson": lesson.stem,
        "source_sha256": lesson.digest,
        "code_sha256": code_digest(lesson, context),
    }
    return notebook


def code_digest(lesson: Lesson, context: Context) -> str:
    """What executing depends on: the code as written, without the words of cards; the setup cell's text."""
    code = [render.setup_cell(lesson.number, context.repository)]
    code += [words.digested(solved_code(cell.source)) for cell in lesson.code]
    return digest(json.dumps(code, ensure_ascii=False))


def _notebook(lesson: Lesson, context: Context, code: Callable[[str], str]) -> nbformat.NotebookNode:
    notebook, names = nbformat.v4.new_notebook(), alts.names(lesson)
    for cell, name in zip(lesson.cells, ids(lesson), strict=True):
        if cell.kind == "code":
            shown = alts.replaced(code(cell.source), names)
            source = expand(replace(cell, source=shown), lesson, context).strip("\n")
            made = nbformat.v4.new_code_cell(source)
        else:
            made = nbformat.v4.new_markdown_cell(expand(cell, lesson, context))
        made.id = name
        made.metadata = nbformat.from_dict(cell.metadata)
        notebook.cells.append(made)
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNEL, "language_info": {"name": "python"}})
    return notebook


def take_outputs(fresh: nbformat.NotebookNode, old: nbformat.NotebookNode) -> None:
    """Give a notebook the outputs of another with the same code.

    Cards are made of the new words, and scrubbers have the script of today.
    """
    stored = [cell for cell in old.cells if cell.cell_type == "code"]
    for cell, before in zip((c for c in fresh.cells if c.cell_type == "code"), stored, strict=True):
        cell.outputs, cell.execution_count = before.outputs, before.execution_count
        words.renew(cell)
        for output in cell.outputs:
            if "text/html" in output.get("data", {}):
                output.data["text/html"] = renewed(output.data["text/html"])


def text_of(notebook: nbformat.NotebookNode) -> str:
    """A notebook as its file holds it."""
    return str(nbformat.writes(notebook)).rstrip("\n") + "\n"


def read_notebook(file: Path) -> nbformat.NotebookNode | None:
    """A notebook, or None where there is no file that holds one."""
    try:
        return nbformat.read(file, as_version=4)
    except (OSError, ValueError, nbformat.reader.NotJSONError):
        return None


def write(file: Path, text: str) -> bool:
    """Write a file whole or not at all, False where it says so; ValueError if its folder is not writable."""
    if file.exists() and file.read_text(encoding="utf-8") == text:
        return False
    with atomic_write(file) as partial:
        partial.write_bytes(text.encode("utf-8"))
    return True
