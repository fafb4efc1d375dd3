"""Runs the solved notebooks again, in real kernels and at the full budget, and compares.

    python -m diffusion_lessons.course.authoring.rerun [NN …] [--workers 2]

nbval holds every cell to "no error", and the cells tagged `nbval-check-output` to the text that is
stored. Pictures are never compared. It compares nothing where a cell has no execution count, and waits
half an hour for a dead kernel, so both are seen to here.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from diffusion_lessons.course.authoring.execute import TIMEOUT, environment_of
from diffusion_lessons.course.authoring.notebook import read_notebook
from diffusion_lessons.course.authoring.repository import sources

TAG = "nbval-check-output"


def unchecked(file: Path) -> list[str]:
    """The ids of cells that nbval would let pass without comparing; ValueError where there is no notebook."""
    notebook = read_notebook(file)
    if notebook is None:
        raise ValueError(f"{file.name} is missing or no notebook: build it first")
    tagged = [cell for cell in notebook.cells if TAG in cell.metadata.get("tags", ())]
    return [cell.id for cell in tagged if cell.execution_count is None or not cell.outputs]


def rerun(files: list[Path], workers: int = 2, budget: str = "full", timeout: int = TIMEOUT) -> int:
    """Run copies of solved notebooks; returns 0 where all agree.

    ValueError where a notebook is missing, or its tagged cells have nothing stored to compare with.
    """
    for file in files:
        if cells := unchecked(file):
            raise ValueError(f"{file.name}: nothing is stored for the cells {cells}: build it first")
    with tempfile.TemporaryDirectory() as folder:
        for file in files:
            shutil.copy(file, folder)
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull]
        command += ["--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout", str(timeout)]
        if min(workers, len(files)) > 1:
            command += ["-n", str(min(workers, len(files))), "--dist", "loadfile"]
        command += ["--rootdir", ".", *(file.name for file in files)]
        return subprocess.call(command, cwd=folder, env=environment_of(budget, 1, Path(folder)))


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m diffusion_lessons.course.authoring.rerun",
        description="Run the solved notebooks again and compare.",
    )
    parser.add_argument("numbers", nargs="*", metavar="NN", help="lessons by number; all of them by default")
    parser.add_argument("--workers", type=int, default=2, help="notebooks at a time, one torch thread each")
    parser.add_argument("--root", type=Path, default=Path.cwd(), help="the repository (default: here)")
    given = parser.parse_args(arguments)
    try:
        files = [file.with_suffix(".ipynb") for file in sources(given.root, given.numbers)]
        return rerun(files, given.workers)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
