"""Running a built notebook from top to bottom, and making its outputs fit to be stored."""

import os
import platform
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import nbformat

TIMEOUT = 180  # seconds a cell may take
VOLATILE = ("application/vnd.jupyter.widget-view+json",)


def run(notebook: nbformat.NotebookNode, threads: int = 2, timeout: int = TIMEOUT, budget: str = "full") -> float:
    """Execute a notebook in place in a kernel of its own, in an empty folder, and return its seconds.

    Args:
        notebook: its outputs are replaced.
        threads: torch threads of the kernel.
        timeout: seconds that one cell may take.
        budget: see `diffusion_lessons.course.budget`.

    Raises:
        nbclient.exceptions.CellExecutionError: where a cell raised.
        nbclient.exceptions.CellTimeoutError, DeadKernelError: where one never ended or killed the kernel.
    """
    from nbclient import NotebookClient

    with tempfile.TemporaryDirectory() as folder:
        environment = environment_of(budget, threads, Path(folder))
        client = NotebookClient(
            notebook,
            timeout=timeout,
            kernel_name="python3",
            resources={"metadata": {"path": folder}},
            record_timing=False,
            store_widget_state=False,
        )
        start = time.perf_counter()
        client.execute(env=environment)
        return time.perf_counter() - start


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
    notebook.metadata["language_info"] = {"name": "python"}
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", ()):
            data: dict[str, Any] = output.get("data", {})
            if len(data) > 1:
                for kind in VOLATILE:
                    data.pop(kind, None)
            if isinstance(data.get("text/plain"), str):
                data["text/plain"] = re.sub(r" at 0x[0-9a-f]{6,}", "", data["text/plain"])


def hardware() -> str:
    """This machine in words for a header: "2 CPU cores", or the GPU's name."""
    import torch

    if torch.cuda.is_available():
        return f"one {torch.cuda.get_device_name()}"
    return f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} CPU cores"


def machine() -> dict[str, Any]:
    """What a measured time depends on: hardware, versions, and how busy the machine was."""
    import torch

    return {
        "hardware": hardware(),
        "processor": processor(),
        "python": platform.python_version(),
        "torch": torch.__version__.split("+")[0],
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
    }


def processor() -> str:
    """The processor's name as its system gives it."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    return found[1].strip() if found else platform.processor() or platform.machine()
