"""Several real processes on the CPU, started as users start them; they talk over gloo."""

import os
import subprocess
from pathlib import Path

from diffusion_lessons.support.processes import launcher

ROOT = Path(__file__).parents[1]


def launch(
    *program: object, processes: int = 2, how: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """`accelerate launch` of a file, or of -m and a module, with its options; `how` is for the launcher."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [*launcher(processes, how), *map(str, program)],
        capture_output=True,
        text=True,
        env=environment,
        cwd=ROOT,
        timeout=240,
    )
