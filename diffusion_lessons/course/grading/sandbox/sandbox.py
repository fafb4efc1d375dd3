"""What a submission's process is kept from, each as far as the system has it.

Linux has most of it: namespaces (no network, no other process in sight), Landlock (no file outside),
a filter of system calls, limits. macOS has the limits, Windows has none of it. `Protection` says
which of them hold here, in lines that the grader prints.
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

from diffusion_lessons.course.grading.sandbox import kernel, landlock, seccomp
from diffusion_lessons.course.grading.sandbox.protection import Protection
from diffusion_lessons.course.grading.sandbox.watch import MOST_PROCESSES

PACKAGE = Path(__file__).resolve().parents[3]
# Who a submission is where the grader is root: nobody's own number, and another for each server, as
# the kernel counts a user's processes together. Small containers have only small numbers.
USERS = ((0x70000000, 2**22), (60600, 500))  # (first, how many)
# The kernel's limit on processes: above the watcher's, so that a fork bomb has the same row wherever it
# runs. Root without a user of its own is not bound by the kernel's.
PROCESSES = 2 * MOST_PROCESSES
OPEN_FILES = 256
LARGEST_FILE = 64 * 2**20  # bytes


@dataclass(frozen=True)
class Setting:
    """What the children of one server have in common.

    Args:
        number: of the server's process, as it was before it entered namespaces.
        namespaces: it is in its own.
        without: fields of `Protection` to leave out, for tests: as on a system that lacks them.
    """

    number: int
    namespaces: bool = False
    without: tuple[str, ...] = ()


# In the server --------------------------------------------------------------------------------------


def enter_namespaces() -> bool:
    """Go on in namespaces without a network and without other processes, where the system allows it.

    Goes on in a child: the first process of a process namespace is one that is born there. Its
    parent, this process, stays behind only to end with the same status.
    """
    if not kernel.LINUX or not _unshare():
        return False
    kernel.prctl(kernel.DEATH_SIGNAL, signal.SIGKILL)
    inside = os.fork()
    if inside:
        _, status = os.waitpid(inside, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 255)
    kernel.prctl(kernel.DEATH_SIGNAL, signal.SIGKILL)
    return True


def _unshare() -> bool:
    flags = kernel.NEW_PROCESSES | kernel.NEW_NETWORK | kernel.NEW_IPC
    user, group = os.geteuid(), os.getegid()
    if user == 0:
        with suppress(OSError):
            kernel.unshare(flags)
            return True
    try:
        kernel.unshare(flags | kernel.NEW_USER)
    except OSError:
        return False  # forbidden to users without privileges, or in this container
    with suppress(OSError):
        Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    return True


def own_processes() -> int | None:
    """An open file of this process's own namespace, for `fresh_processes`."""
    with suppress(OSError):
        return os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    return None


def fresh_processes(own: int) -> None:
    """The next child is the first process of a namespace of its own: when it ends, all in it end."""
    kernel.rejoin_processes(own)
    kernel.unshare(kernel.NEW_PROCESSES)


def adopt_orphans() -> None:
    """Children of children become this process's own when they are left behind, so that it finds them."""
    with suppress(OSError):
        kernel.prctl(kernel.SUBREAPER, 1)


# In the submission's process ------------------------------------------------------------------------


def enter(folder: Path, memory: int, seconds: int, setting: Setting) -> Protection:
    """Lock this process up, for good.

    Args:
        folder: its own, the only place where it may write.
        memory: bytes of data.
        seconds: of CPU time.
    """
    namespaces, without = setting.namespaces, setting.without
    has = Protection(namespaces=namespaces)
    if os.name == "nt":
        return has
    with suppress(OSError):  # already the first of its session
        os.setsid()
    os.umask(0o077)
    if not kernel.LINUX:
        has.limits = _limit(memory, seconds, 0)
        return has
    rules = None if "files" in without else _rules(folder)
    has.user = (
        os.geteuid() == 0
        and "user" not in without
        and _become_nobody(folder, setting.number, rules is not None)
    )
    if not has.user:
        with suppress(OSError):
            kernel.keep_capabilities(0)
    others = 0 if namespaces or has.user else _threads_of(os.geteuid())
    has.limits = _limit(_data() + memory, seconds, others + PROCESSES)
    with suppress(OSError):
        kernel.prctl(kernel.DEATH_SIGNAL, signal.SIGKILL)
    try:
        kernel.prctl(kernel.NO_NEW_PRIVILEGES, 1)
        if rules is not None:
            landlock.restrict(rules)
            has.files = True
        if "calls" not in without:
            seccomp.install()
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
        return landlock.prepare(map(Path, places), [folder, Path("/dev/null")])
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


def _data() -> int:
    """Bytes of data that this process has already, the package's and torch's."""
    return int(Path("/proc/self/statm").read_text().split()[5]) * os.sysconf("SC_PAGE_SIZE")


def _threads_of(user: int) -> int:
    """How many threads a user runs: the limit on processes counts them."""
    count = 0
    for entry in os.scandir("/proc"):
        with suppress(OSError, ValueError):
            if entry.name.isdigit() and entry.stat().st_uid == user:
                count += len(os.listdir(f"/proc/{entry.name}/task"))
    return count


def _limit(memory: int, seconds: int, processes: int) -> bool:
    import resource

    wanted = {
        "RLIMIT_CORE": 0,
        "RLIMIT_CPU": seconds,
        "RLIMIT_FSIZE": LARGEST_FILE,
        "RLIMIT_NOFILE": OPEN_FILES,
        "RLIMIT_NPROC": processes,
        "RLIMIT_DATA": memory,
    }
    if not kernel.LINUX:
        del wanted["RLIMIT_NPROC"]  # counts all that the user runs, the grader's own among it
    held = True
    for name, value in wanted.items():
        number = getattr(resource, name)
        hard = resource.getrlimit(number)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        try:
            resource.setrlimit(number, (value, value))
        except (OSError, ValueError):
            held = False
    return held
