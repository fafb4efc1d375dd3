"""Locking a submission's process up, each lock as far as the system has it, and saying which hold.

Linux has most of them: namespaces (no network, no other process in sight), Landlock (no file outside),
a filter of system calls, limits. macOS has the limits, Windows has none of it.
"""

import ctypes
import os
import signal
import site
import sys
import sysconfig
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from diffusion_lessons.course.grading.sandbox import kernel
from diffusion_lessons.course.grading.sandbox.watch import MOST_PROCESSES, Limits, own_process

PACKAGE = Path(__file__).resolve().parents[3]
# Who a submission is where the grader is root: nobody's own number, and another for each server, as
# the kernel counts a user's processes together. Small containers have only small numbers.
USERS = ((0x70000000, 2**22), (60600, 500))  # (first, how many)
# The kernel's limit on processes: above the watcher's, so that a fork bomb has the same row wherever it
# runs. Root without a user of its own is not bound by the kernel's.
PROCESSES = 2 * MOST_PROCESSES
OPEN_FILES = 256
LARGEST_FILE = 64 * 2**20  # bytes
ADVICE = " (a container or virtual machine with nothing of yours in it prevents that)"


@dataclass
class Protection:
    """What holds here."""

    namespaces: bool = False
    files: bool = False
    calls: bool = False
    user: bool = False
    limits: bool = False

    def lines(self) -> list[str]:
        """What holds, and what does not and what that means, in sentences for the instructor."""
        own = "you can" if not self.user else "anybody can"
        alone = self.namespaces or self.calls
        said = [
            (
                self.limits and kernel.LINUX,
                "CPU time, memory, processes and file size are limited",
                "only the wall clock is limited"
                + (", and CPU time" if self.limits else "")
                + ": a submission can fill the memory and the disk, and stop this machine",
            ),
            (alone, "no network", "submissions can reach the network, and send away what they read"),
            (
                self.files,
                "no file outside its folder is written, and only Python and the package are read (Landlock)",
                f"submissions can read and write wherever {own}, other submissions and the report included",
            ),
            (
                self.namespaces,
                "no other process in sight, and all of a submission's ended with it",
                "the processes of a submission are looked for and ended, and one that hides goes on running"
                + ("" if alone else "; it can stop and change your other programs"),
            ),
            (
                self.calls,
                "no other programs, no touch of other processes, no changes to the rights of files (seccomp)",
                f"submissions can start other programs, with {'no' if self.user else 'all'} rights of yours",
            ),
        ]
        return [yes if holds else f"NOT here: {no}{ADVICE}" for holds, yes, no in said]


@dataclass(frozen=True)
class Setting:
    """What the children of one server have in common."""

    number: int  # of the server's process, as it was before it entered namespaces
    namespace: int | None = None  # of its processes, as an open file; None where it could not enter one
    without: tuple[str, ...] = ()  # fields of `Protection` to leave out, for tests: as where they are lacking


def adopt_orphans() -> None:
    """Children of children become this process's own when they are left behind, so that it finds them."""
    with suppress(OSError):
        kernel.prctl(kernel.SUBREAPER, 1)


def enter(folder: Path, limits: Limits, setting: Setting) -> Protection:
    """Lock a submission's process, this one, up for good.

    `folder` is its own, the only place where it may write; memory is limited on top of what it has already.
    """
    has = Protection(namespaces=setting.namespace is not None)
    if os.name == "nt":
        return has
    with suppress(OSError):  # already the first of its session
        os.setsid()
    os.umask(0o077)
    memory, seconds = limits.memory, int(limits.seconds) + 1
    if not kernel.LINUX:
        has.limits = _limit(memory, seconds)
        return has
    rules = None if "files" in setting.without else _rules(folder)
    if os.geteuid() == 0 and "user" not in setting.without:
        has.user = _become_nobody(folder, setting.number, rules is not None)
    if not has.user:
        with suppress(OSError):
            kernel.keep_capabilities(0)
    others = 0 if has.namespaces or has.user else _threads_of(os.getuid())
    has.limits = _limit(own_process().memory_info().data + memory, seconds, others + PROCESSES)
    with suppress(OSError):
        kernel.prctl(kernel.DEATH_SIGNAL, signal.SIGKILL)
    try:
        kernel.prctl(kernel.NO_NEW_PRIVILEGES, 1)
        if rules is not None:
            kernel.restrict_files(rules)
            has.files = True
        if "calls" not in setting.without:
            kernel.refuse_calls()
            has.calls = True
    except (OSError, AttributeError, ctypes.ArgumentError):
        pass  # an older kernel: `has` says what came of it
    return has


def _rules(folder: Path) -> int | None:
    paths = sysconfig.get_paths()
    places = [paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")]
    places += [sys.prefix, sys.base_prefix, sys.exec_prefix, *site.getsitepackages(), str(PACKAGE)]
    places += ["/usr", "/lib", "/lib64", "/bin", "/opt", "/etc/ld.so.cache", "/etc/localtime", "/dev/zero"]
    places += ["/dev/urandom", "/dev/random", "/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system/cpu"]
    try:
        return kernel.file_rules(map(Path, places), [folder, Path("/dev/null")])
    except OSError:
        return None


def _become_nobody(folder: Path, number: int, files_are_guarded: bool) -> bool:
    """Root's submissions run as a user that owns nothing but the folder.

    That user may read any file where Landlock says which: Python itself often lies in root's home.
    """
    readable = all(map(_others_can_read, (PACKAGE, Path(sys.prefix), Path(sys.base_prefix))))
    if not files_are_guarded and not readable:
        return False
    for first, count in USERS:
        user = first + number % count
        with suppress(OSError):  # a container may have no such number
            os.chown(folder, user, user)
            kernel.prctl(kernel.KEEP_CAPABILITIES, 1)
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
            kernel.keep_capabilities(kernel.READ_ANY_FILE if files_are_guarded else 0)
            return True
    return False


def _others_can_read(place: Path) -> bool:
    return all(each.stat().st_mode & 0o005 == 0o005 for each in (place, *place.parents))


def _threads_of(user: int) -> int:
    """How many threads a user runs: the limit on processes counts them."""
    found = [each.info for each in psutil.process_iter(["uids", "num_threads"])]
    return sum(each["num_threads"] or 0 for each in found if each["uids"] and each["uids"].real == user)


def _limit(memory: int, seconds: int, processes: int | None = None) -> bool:
    import resource

    wanted = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_CPU: seconds,
        resource.RLIMIT_FSIZE: LARGEST_FILE,
        resource.RLIMIT_NOFILE: OPEN_FILES,
        resource.RLIMIT_DATA: memory,
    }
    if processes is not None:  # it counts all that the user runs, on macOS the grader's own among it
        wanted[resource.RLIMIT_NPROC] = processes
    held = True
    for limit, value in wanted.items():
        hard = resource.getrlimit(limit)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        try:
            resource.setrlimit(limit, (value, value))
        except (OSError, ValueError):
            held = False
    return held
