"""Runs notebooks cell by cell in one IPython shell: `python lesson_runner.py FOLDER NOTEBOOK …`.

Prints one JSON object for each notebook: the errors, the seconds, and the status of each exercise.
Cheaper than kernels, with the same `display` and the same magics; widgets show their plain text.
"""

import io
import json
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import nbformat


def main(folder: Path, files: list[Path]) -> None:
    import matplotlib as mpl
    from IPython.core.interactiveshell import InteractiveShell

    from diffusion_lessons.course.student.progress import Progress, keep, kept

    mpl.use("agg")
    shell = InteractiveShell.instance()
    for i, file in enumerate(files):
        shell.reset()
        keep(Progress(folder / f"progress-{i}.json"))
        start = time.perf_counter()
        errors = run(shell, nbformat.read(file, as_version=4))
        seconds = round(time.perf_counter() - start, 1)
        statuses = {id: kept()[id]["status"] for id in _exercises(file)}
        print(json.dumps({"errors": errors, "seconds": seconds, "statuses": statuses}), flush=True)


def run(shell: Any, notebook: nbformat.NotebookNode) -> list[str]:
    """What went wrong, cell by cell; goes on after a cell that raised, as a reader would."""
    errors = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                result = shell.run_cell(cell.source, store_history=False)
            raised = result.error_before_exec or result.error_in_exec
            if raised is not None:
                errors.append(f"{cell.id}: {type(raised).__name__}: {raised}")
    return errors


def _exercises(file: Path) -> list[str]:
    number = file.name[:2]
    from diffusion_lessons.course import bank

    return [exercise.id for exercise in bank.exercises(number)] if number in bank.lessons() else []


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
