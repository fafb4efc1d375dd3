"""How much memory a process has held at most."""

from pathlib import Path

import torch


def peak(device: torch.device) -> int:
    """Bytes at the peak so far: of this process on a CPU, of the allocator on a GPU."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_of_this_process()


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
