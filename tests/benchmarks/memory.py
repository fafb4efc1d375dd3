"""Peak memory of training, each side in a process of its own."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from .loops import our_trainer, ours_as_shipped, theirs_as_shipped
from .sizes import SIZES

STEPS = 6


def peak(side: str, size: str, batch: int, device: torch.device) -> int:
    """Bytes at the peak of a few steps: of the process on a CPU, of the allocator on a GPU."""
    with tempfile.TemporaryDirectory() as folder:
        if side == "ours":
            work = ours_as_shipped(our_trainer(SIZES[size], batch, device, Path(folder)))
        else:
            work = theirs_as_shipped(SIZES[size].unet_2d_model(), batch, device)
        with work.context():
            for _ in range(STEPS):
                work.step()
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return peak_of_this_process()


def peak_of_this_process() -> int:
    """Bytes of resident memory at the peak.

    On Linux not by `getrusage`, whose figure a process inherits from the one that started it.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return next(
            int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if "VmHWM" in line
        )
    import resource  # not on Windows, where this is not measured

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measured(size: str, batch: int, device: torch.device) -> dict[str, Any]:
    """Peaks of both, in megabytes, and ours over theirs."""
    peaks = {}
    for side in ("ours", "theirs"):
        command = [sys.executable, "-m", "tests.benchmarks.memory", side, size, str(batch), str(device)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks[side] = json.loads(done.stdout.splitlines()[-1]) / 1e6
    return {**peaks, "batch": batch, "ratio": peaks["ours"] / peaks["theirs"]}


if __name__ == "__main__":
    side, size, batch, device = sys.argv[1:]
    print(peak(side, size, int(batch), torch.device(device)))
