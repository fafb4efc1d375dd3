"""Several real processes on the CPU, started as users start them; they talk over gloo."""

import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def launch(
    *program: object, processes: int = 2, how: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """`accelerate launch` of a file, or of -m and a module, with its options; `how` is for the launcher."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "accelerate.commands.launch", "--num_machines", "1"]
    command += ["--num_processes", str(processes), "--main_process_port", str(port)]
    command += ["--mixed_precision", "no", "--dynamo_backend", "no"]
    command += how or ("--multi_gpu",)  # its word for several processes, on a CPU too
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [*command, *map(str, program)], capture_output=True, text=True, env=environment, cwd=ROOT, timeout=240
    )
