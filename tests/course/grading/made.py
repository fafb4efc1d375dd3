"""Notebooks made in code, for the tests of the grader."""

import json
from pathlib import Path
from typing import Any

from diffusion_lessons.course.grading.intake.notebook import Notebook, read
from diffusion_lessons.course.grading.marking import mark
from diffusion_lessons.course.grading.marks.rows import Row
from diffusion_lessons.course.grading.sandbox import Limits, Worker

# Small enough for a test, large enough for a right answer on a busy machine.
LIMITS = Limits(seconds=6.0, memory=400 * 2**20, case=1.0)
SETUP = (
    'import torch\nfrom diffusion_lessons.course import exercise, setup\n\ndevice, generator = setup("02")'
)
HEAD = '@exercise("02.1")\ndef one_step(x, noise, beta):\n    """One step."""\n'
RIGHT = "    return torch.sqrt(1 - beta) * x + torch.sqrt(beta) * noise"
WRONG = "    return (1 - beta).sqrt() * x + beta * noise"
STUB = "    raise NotImplementedError  # your code here"
EQUAL = '@exercise("02.3")\ndef equal_time(alphas_cumprod):\n    return int((alphas_cumprod > 0.5).sum())'


def body(*lines: str) -> str:
    """The cell of exercise 02.1 with these lines in the function."""
    return HEAD + "\n".join(f"    {line}" for line in lines)


def cells(*sources: str, ids: tuple[str, ...] = ()) -> dict[str, Any]:
    """A notebook of code cells, as JSON holds it."""
    return {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3"}},
        "cells": [
            {
                "cell_type": "code",
                "id": ids[i] if i < len(ids) else f"cell-{i}",
                "metadata": {},
                "execution_count": None,
                "outputs": [],
                "source": source,
            }
            for i, source in enumerate(sources)
        ],
    }


def content(raw: dict[str, Any]) -> bytes:
    return json.dumps(raw).encode()


def write(file: Path, *sources: str, **metadata: Any) -> Path:
    """A notebook of code cells in a file."""
    raw = cells(*sources)
    raw["metadata"] |= metadata
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content(raw))
    return file


def notebook(*sources: str, ids: tuple[str, ...] = ()) -> Notebook:
    return read(content(cells(*sources, ids=ids)))


def marked(worker: Worker, *sources: str, ids: tuple[str, ...] = ()) -> dict[str, Row]:
    """The rows of lesson 02 by exercise."""
    return {row.exercise: row for row in mark(notebook(*sources, ids=ids), "02", worker)}


def kinds(row: Row) -> tuple[str, str]:
    return row.status, row.kind
