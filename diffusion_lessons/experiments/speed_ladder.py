"""What makes training and sampling faster: each rung alone and together, against plain PyTorch (lesson 19).

The network is that of the bundled MNIST model: small. Each rung and the way it is held against run in turn,
in windows of about half a second, so that a machine that slows down does so for both; rows hold the quartiles
of the windows. **On a CPU seconds are CPU time of one thread**: the machine may be shared with others, though
not without an effect (caches and clock rate are shared, too). On a GPU they are those of the clock,
synchronised, and the same command makes a record of its own. Compilation and export say what their set-up
takes. `n` is of no use here but that fewer than seven windows are measured where it is smaller.

The last rows, one process against two, are timed by the clock on the wall: they end the run with an error
where the machine is busy, and the same command goes on there later. All others take three quarters of
an hour, those that compile the longest, so they come last.
"""

import torch

from diffusion_lessons import zoo
from diffusion_lessons.experiments import Experiment, Row
from diffusion_lessons.experiments.ladder import (
    attention,
    data,
    machine,
    processes,
    sampling,
    stages,
    training,
)
from diffusion_lessons.experiments.ladder.shared import WINDOWS, Bench
from diffusion_lessons.support.machine import choose_device, keep_freed_memory

PARTS = {
    "machine": machine,
    "stages": stages,
    "data": data,
    "attention": attention,
    "sampling": sampling,
    "training": training,
    "processes": processes,
}


def settings(options: Row) -> list[Row]:
    cuda = choose_device(options["device"]).type == "cuda"
    rows = [row for part in PARTS.values() for row in part.settings(cuda)]
    return sorted(rows, key=lambda row: (row["part"] == "processes", "compiled" in row.get("rung", "")))


def prepare(options: Row) -> Bench:
    keep_freed_memory()  # as the command line does
    windows = max(1, min(options["n"], WINDOWS))
    return Bench(zoo.open_model(options["model"]), choose_device(options["device"]), options["seed"], windows)


def measure(bench: Bench, row: Row, options: Row) -> Row:
    """With one thread, so that CPU time is what the clock would tell on an idle machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return PARTS[row["part"]].measure(bench, row)
    finally:
        torch.set_num_threads(threads)


COLUMNS = "part rung tokens side dtype source faster seconds_a_picture peak_bytes seconds"
EXPERIMENT = Experiment(__name__, __doc__, COLUMNS, settings, prepare, measure)
