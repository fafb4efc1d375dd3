"""Running a built notebook from top to bottom, and making its outputs fit to be stored."""

import os
import platform
import re
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

from diffusion_lessons.course.widgets.page import ALTS_VARIABLE

TIMEOUT = 180  # seconds a cell may take
WIDGET = "application/vnd.jupyter.widget-view+json"


class Failed(Exception):
    """A cell that raised, never ended or took the kernel with it; `cell` is its index."""

    def __init__(self, cell: int, message: str) -> None:
        super().__init__(message)
        self.cell = cell


def run(
    notebook: nbformat.NotebookNode,
    threads: int = 2,
    timeout: int = TIMEOUT,
    budget: str = "full",
    allow_errors: bool = False,
    alts: str = "[]",
) -> float:
    """Execute a notebook in place, in a kernel and an empty folder of its own, and return its seconds.

    Its outputs are replaced, and made fit to be stored. The kernel has so many torch threads, one cell
    `timeout` seconds; for the budget see `diffusion_lessons.course.student.budget`; `alts` are the lesson's
    alt texts. Failed where a cell never ended, killed the kernel, or raised, unless `allow_errors` goes on
    after it.
    """
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    at = [0]  # the cell that is running
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=timeout,
            kernel_name="python3",
            resources={"metadata": {"path": folder}},
            allow_errors=allow_errors,
            record_timing=False,
            store_widget_state=False,
            coalesce_streams=True,  # what is printed at once may come in two messages
            on_cell_start=lambda cell, cell_index: at.__setitem__(0, cell_index),
        )
        start = time.perf_counter()
        try:
            client.execute(env={**environment_of(budget, threads, Path(folder)), ALTS_VARIABLE: alts})
        except CellExecutionError as error:
            raise Failed(at[0], f"{error.ename}: {error.evalue}") from None
        except CellTimeoutError:
            raise Failed(at[0], f"this cell did not end within {timeout} s") from None
        except DeadKernelError:
            raise Failed(at[0], "the kernel died in this cell (out of memory?)") from None
        seconds = time.perf_counter() - start
    clean(notebook)
    return seconds


def environment_of(budget: str, threads: int, folder: Path) -> dict[str, str]:
    """The environment of a lesson's process: budget, threads, and progress kept in `folder` alone."""
    return {
        **os.environ,
        "DIFFUSION_LESSONS_BUDGET": budget,
        "DIFFUSION_LESSONS_PROGRESS": str(folder / "progress.json"),
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "JUPYTER_PREFER_ENV_PATH": "1",
        "PYTHONHASHSEED": "0",
    }


def clean(notebook: nbformat.NotebookNode) -> None:
    """Drop from a notebook what differs from run to run or means nothing without its kernel."""
    notebook.metadata.pop("widgets", None)
    notebook.metadata["language_info"] = nbformat.from_dict({"name": "python"})
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", ()):
            data: dict[str, Any] = output.get("data", {})
            if len(data) > 1:
                data.pop(WIDGET, None)
            if isinstance(data.get("text/plain"), str):
                data["text/plain"] = re.sub(r" at 0x[0-9a-f]{6,}", "", data["text/plain"])


@dataclass(frozen=True)
class Measured:
    """How long a notebook took, and on what; `machine` is empty where it was not looked at."""

    seconds: float
    machine: dict[str, Any]

    @property
    def busy(self) -> bool:
        """Was more than a quarter of the machine taken by something else just before?"""
        return bool(self.machine.get("busy_percent", 0) > 25)


def machine(threads: int) -> dict[str, Any]:
    """What a measured time depends on: hardware, versions, this machine's speed, and how busy it is."""
    import psutil
    import torch

    from diffusion_lessons.course.student.start import images_per_second
    from diffusion_lessons.support.machine import choose_device, cores, hardware

    facts = hardware(choose_device())
    busy = psutil.cpu_percent(interval=1)
    torch.set_num_threads(threads)
    return {
        "hardware": f"one {facts['gpu']}" if "gpu" in facts else f"{cores()} CPU cores",
        "processor": facts["processor"],
        "python": platform.python_version(),
        "torch": torch.__version__.split("+")[0],
        "images_per_second": round(images_per_second()),
        "busy_percent": busy,
    }
