"""Watching a submission's process from outside, and ending all of it when it is over its limits."""

import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from diffusion_lessons.course.grading.sandbox.protocol import MAX_MESSAGE

PAUSE = 0.02  # seconds between two looks
DISK = 256 * 2**20  # bytes in its folder
ENTRIES = 5_000
MOST_PROCESSES = 32


@dataclass(frozen=True)
class Limits:
    """Of one run of a submission."""

    seconds: float = 120.0  # of the clock on the wall, and of CPU time
    memory: int = 4 * 2**30  # bytes, over all its processes, on top of what the package itself takes
    case: float | None = None  # seconds of CPU time for one case; None takes the exercise's own


@dataclass(frozen=True)
class Ending:
    """How a submission's process ended."""

    how: str  # "done", "exit", "signal", "timeout", "memory", "disk", "processes", "flood" (it sent too much)
    number: int = 0  # of the exit or of the signal


def watch(child: int, reply: int, folder: Path, limits: Limits, namespaces: bool) -> Ending:
    """How a child process ended, or was ended; its open file `reply` is weighed and not read.

    `child` is its number as this process knows it; with `namespaces` it is the first of its own namespace.
    """
    end = time.monotonic() + limits.seconds
    base = _memory("self")
    ending, status, looks, pause = None, None, 0, 0.001
    while ending is None and status is None:
        time.sleep(pause)
        pause = min(1.5 * pause, PAUSE)
        finished, code = os.waitpid(child, os.WNOHANG)
        status = code if finished else None
        looks += 1
        if os.fstat(reply).st_size > MAX_MESSAGE:
            ending = Ending("flood")
        elif time.monotonic() > end:
            ending = Ending("timeout")
        elif looks % 3 == 0:
            ending = _too_much(base, limits)
        elif looks % 25 == 1 and _too_full(folder):
            ending = Ending("disk")
    if status is None:
        with suppress(OSError):
            os.kill(child, signal.SIGKILL)
    _end_all(namespaces)
    return ending or ended(os.waitstatus_to_exitcode(status or 0), os.fstat(reply).st_size)


def ended(code: int, sent: int) -> Ending:
    """How a process ended by itself: from its exit's code (a signal's number, negative) and bytes sent."""
    if sent > MAX_MESSAGE:
        return Ending("flood")
    if code < 0 and -code == getattr(signal, "SIGXCPU", None):
        return Ending("timeout")
    return Ending("done") if code == 0 else Ending("signal" if code < 0 else "exit", abs(code))


def own_process() -> psutil.Process:
    """This process under the number that it has in /proc: in a namespace it knows itself by another."""
    return psutil.Process(int(os.readlink("/proc/self")))


def _below() -> list[psutil.Process]:
    """All processes below this one; empty where /proc does not show them."""
    with suppress(psutil.Error, OSError):
        return own_process().children(recursive=True)
    return []


def _end_all(namespaces: bool) -> None:
    """End what a submission left running, and take it off the system's list.

    With the first process of a namespace the kernel ends all in it; there /proc has other numbers.
    """
    end = time.monotonic() + 5
    while time.monotonic() < end:
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        left = _below()
        if not left:
            return
        for each in () if namespaces else left:
            with suppress(psutil.Error):
                each.kill()
        time.sleep(0.002)


def _too_much(base: int, limits: Limits) -> Ending | None:
    below = _below()
    if len(below) > MOST_PROCESSES:
        return Ending("processes")
    if sum(max(_memory(each.pid) - base, 0) for each in below) > limits.memory:
        return Ending("memory")
    return None


def _memory(number: int | str) -> int:
    """Bytes of memory that belong to no file, in RAM or swapped out.

    psutil has no such number: `rss` counts files, `uss` needs rights and leaves out what children share.
    """
    with suppress(OSError):
        text = Path(f"/proc/{number}/status").read_text()
        names = ("RssAnon:", "RssShmem:", "VmSwap:")
        return sum(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith(names))
    return 0


def _too_full(folder: Path) -> bool:
    size, entries, waiting = 0, 0, [str(folder)]
    while waiting:
        with suppress(OSError), os.scandir(waiting.pop()) as found:
            for entry in found:
                entries += 1
                with suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        size += entry.stat(follow_symlinks=False).st_size
                if entries > ENTRIES or size > DISK:
                    return True
    return False


def remove(folder: Path) -> None:
    """Remove a folder with all that a submission left in it, however deep and whatever its rights."""
    if folder.is_symlink():
        folder.unlink()
        return
    with suppress(RecursionError):
        for root, folders, _ in os.walk(folder):
            for place in (os.path.join(root, name) for name in folders):
                with suppress(OSError):
                    if not os.path.islink(place):
                        os.chmod(place, 0o700)
        shutil.rmtree(folder, ignore_errors=True)
    if folder.exists() and os.name == "posix":  # too deep for Python
        subprocess.run(["rm", "-rf", "--", str(folder)], check=False, capture_output=True)
