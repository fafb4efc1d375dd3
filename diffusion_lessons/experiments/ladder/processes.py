"""One process and two, by the clock on the wall: on a machine that has nothing else to do."""

import json
import os
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import torch

from diffusion_lessons.experiments.ladder.shared import Bench, Row
from diffusion_lessons.support.machine import cores
from diffusion_lessons.support.processes import launcher

IDLE = 25.0  # percent of the machine that others may use
STEPS, BATCH = 300, 64
DATA = "digits"
WORKERS = ((1, 1), (1, 2), (2, 1))  # processes, and threads of each


def settings(cuda: bool) -> list[Row]:
    most = torch.cuda.device_count() if cuda else cores()
    fit = [(n, threads) for n, threads in WORKERS if n <= most and (not cuda or threads == 1)]
    return [{"part": "processes", "processes": n, "threads": threads} for n, threads in fit if most > 1]


def measure(bench: Bench, row: Row) -> Row:
    """Pictures a second of a training that others do not slow down.

    On a busy machine it is a ValueError: what is measured so far is kept, and the same command goes on.
    """
    if (busy := psutil.cpu_percent(interval=2)) > IDLE:
        raise ValueError(
            f"{busy:.0f}% of this machine is busy, and the last rows time several processes by the clock on "
            "the wall: run the same command again when nothing else runs; the rows before are kept"
        )
    with TemporaryDirectory() as folder:
        command = launcher(row["processes"])
        command += ["-m", "diffusion_lessons", "train", DATA, "--steps", str(STEPS), "--batch", str(BATCH)]
        command += ["--out", folder, "--device", bench.device.type]
        command += ["--compile", "off", "--precision", "float32"]
        environment = os.environ | {"OMP_NUM_THREADS": str(row["threads"])}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise ValueError(f"training in {row['processes']} processes failed: {done.stderr.strip()[-300:]}")
        metrics = json.loads((Path(folder) / "metrics.json").read_text())
    return {"pictures_a_second": metrics["images_per_second"], "steps": STEPS, "batch": BATCH}
