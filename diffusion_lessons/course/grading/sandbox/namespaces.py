"""Going on without a network and without other processes in sight, where the kernel allows all of it."""

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from diffusion_lessons.course.grading.sandbox import kernel


def enter() -> int | None:
    """Go on in namespaces without a network and without other processes, where the system allows all of it.

    Goes on in a child, with an open file of the process namespace for `fresh`: the first process
    of such a namespace is one that is born there. This one stays behind only to end with the same status.
    """
    if not kernel.LINUX or not work():
        return None
    _unshare()
    kernel.prctl(kernel.DEATH_SIGNAL, signal.SIGKILL)
    if os.fork():
        _, status = os.wait()
        os._exit(os.waitstatus_to_exitcode(status) & 255)
    kernel.prctl(kernel.DEATH_SIGNAL, signal.SIGKILL)
    return _own()


def work() -> bool:
    """Tried in children: a system may allow the first step, which has no way back, and refuse a later one."""

    def first() -> bool:
        _unshare()
        return _in_child(second)

    def second() -> bool:
        fresh(_own())
        return _in_child(lambda: True)

    return _in_child(first)


def _in_child(step: Callable[[], bool]) -> bool:
    """Does a step succeed in a process of its own?"""
    child = os.fork()
    if not child:
        status = 1
        try:
            status = 0 if step() else 1
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1] == 0


def _unshare() -> None:
    flags = kernel.NEW_PROCESSES | kernel.NEW_NETWORK | kernel.NEW_IPC
    user, group = os.geteuid(), os.getegid()
    if user == 0:
        with suppress(OSError):
            kernel.unshare(flags)
            return
    kernel.unshare(flags | kernel.NEW_USER)
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{user} {user} 1"),
        ("gid_map", f"{group} {group} 1"),
    ):
        _tell_kernel(f"/proc/self/{name}", text)


def _tell_kernel(file: str, text: str) -> None:
    Path(file).write_text(text)


def _own() -> int:
    return os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)


def fresh(own: int) -> None:
    """The next child is the first process of a namespace of its own: when it ends, all in it end."""
    kernel.rejoin_processes(own)
    kernel.unshare(kernel.NEW_PROCESSES)
