"""What the Linux kernel keeps a process from, by calls that Python has no function for.

Namespaces, privileges, files (Landlock) and system calls (seccomp): what a process gives up here, it and
its children have given up for good. Each function raises OSError where the kernel refuses or is too old.
"""

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

LINUX = sys.platform == "linux"
X86 = platform.machine() in ("x86_64", "AMD64")
ARM = platform.machine() in ("aarch64", "arm64")

NEW_USER, NEW_PROCESSES, NEW_NETWORK, NEW_IPC = 0x10000000, 0x20000000, 0x40000000, 0x08000000
DEATH_SIGNAL, KEEP_CAPABILITIES, SUBREAPER, NO_NEW_PRIVILEGES = 1, 8, 36, 38
_BOUNDING_DROP, _SET_SECCOMP = 24, 22
READ_ANY_FILE = 1 << 2  # the capability DAC_READ_SEARCH
_CAPSET = 126 if X86 else 91
_CAPABILITIES = 41  # the kernel knows so many by now; one that it lacks is refused, and that is fine


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _syscall(number: int, *arguments: object) -> int:
    call = _libc().syscall
    call.restype = ctypes.c_long
    return _checked(call(ctypes.c_long(number), *arguments))


def prctl(option: int, value: object = 0, extra: object = 0) -> None:
    """Set something of this process."""
    _checked(_libc().prctl(option, ctypes.c_ulong(value) if isinstance(value, int) else value, extra, 0, 0))


def unshare(flags: int) -> None:
    """Leave namespaces behind; new processes are in the new ones."""
    _checked(_libc().unshare(flags))


def rejoin_processes(own: int) -> None:
    """Make children again in the process namespace of an open file of /proc/self/ns/pid."""
    _checked(_libc().setns(own, NEW_PROCESSES))


def keep_capabilities(mask: int) -> None:
    """Give up every privilege of root but those of a mask."""
    for number in range(_CAPABILITIES):
        if not mask & 1 << number:
            try:
                prctl(_BOUNDING_DROP, number)
            except OSError:
                continue  # not allowed to without SETPCAP, and not needed: the sets below are emptied
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)(mask, mask, 0, 0, 0, 0)  # effective, permitted, inheritable; twice 32 bits
    _syscall(_CAPSET, ctypes.byref(header), ctypes.byref(sets))


# Landlock: files -----------------------------------------------------------------------------------

_CREATE, _ADD, _RESTRICT = 444, 445, 446
_EXECUTE, _WRITE, _READ, _LIST, _TRUNCATE, _DEVICE = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 14, 1 << 15
_ON_FILES = _EXECUTE | _WRITE | _READ | _TRUNCATE | _DEVICE
_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}  # version -> how many rights on files; 16 from the fifth on


def file_rules(read: Iterable[Path], write: Iterable[Path]) -> int:
    """A set of rules, as an open file: what may be read, and what may be written too."""
    version = _syscall(_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    every = (1 << _RIGHTS.get(version, 16)) - 1
    network = 3 if version >= 4 else 0  # binding and connecting
    scoped = 3 if version >= 6 else 0  # abstract sockets and signals: to its own kind only
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    attributes = struct.pack("=QQQ", every, network, scoped)  # landlock_ruleset_attr
    rules = _syscall(_CREATE, attributes, ctypes.c_size_t(size), ctypes.c_uint32(0))
    for places, access in ((read, _EXECUTE | _READ | _LIST), (write, every)):
        for place in places:
            _allow(rules, place, access & every)
    return rules


def _allow(rules: int, place: Path, access: int) -> None:
    try:
        handle = os.open(place, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # there is no such place here
    try:
        access &= -1 if place.is_dir() else _ON_FILES
        rule = struct.pack("=Qi", access, handle)  # landlock_path_beneath_attr
        _syscall(_ADD, ctypes.c_int(rules), ctypes.c_int(1), rule, ctypes.c_uint32(0))
    finally:
        os.close(handle)


def restrict_files(rules: int) -> None:
    """From now on read and write only where the rules say. Needs NO_NEW_PRIVILEGES."""
    _syscall(_RESTRICT, ctypes.c_int(rules), ctypes.c_uint32(0))
    os.close(rules)


# seccomp: system calls -----------------------------------------------------------------------------

# An answer to an exercise needs none of these. Many of them close what Landlock leaves open.
# A refused call is a PermissionError in Python, which is reported like any other.
_CALLS = {  # name, its number on x86-64 and on arm64, "-" where the architecture has no such call
    "the network": "socket 41 198",
    "other programs": "execve 59 221, execveat 322 281",
    "other processes": "ptrace 101 117, process_vm_readv 310 270, process_vm_writev 311 271,"
    " pidfd_getfd 438 438, pidfd_open 434 434, pidfd_send_signal 424 424, kcmp 312 272,"
    " process_madvise 440 440, process_mrelease 448 448, move_pages 279 239, migrate_pages 256 238,"
    " setpriority 141 140, ioprio_set 251 30, shmget 29 194, semget 64 190, msgget 68 186",
    "namespaces and mounts": "unshare 272 97, setns 308 268, mount 165 40, umount2 166 39",
    "the kernel": "bpf 321 280, perf_event_open 298 241, userfaultfd 323 282, io_uring_setup 425 425",
    "keys": "add_key 248 217, request_key 249 218, keyctl 250 219",
    "files without a place": "open_by_handle_at 304 265, memfd_create 319 279, memfd_secret 447 447",
    "rights of files": "chmod 90 -, fchmod 91 52, fchmodat 268 53, fchmodat2 452 452",
    "their owners": "chown 92 -, fchown 93 55, lchown 94 -, fchownat 260 54",
    "their attributes": "setxattr 188 5, lsetxattr 189 6, fsetxattr 190 7, removexattr 197 14,"
    " lremovexattr 198 15, fremovexattr 199 16, setxattrat 463 463, removexattrat 466 466",
    "their times": "utime 132 -, utimes 235 -, futimesat 261 -, utimensat 280 88",
}
# Calls that a process may make on itself and on no other. pthreads, abort() and OpenMP need some of them.
_CALLS_ON_ITSELF = (
    "kill 62 129, tkill 200 130, tgkill 234 131, rt_sigqueueinfo 129 138, rt_tgsigqueueinfo 297 240,"
    " prlimit64 302 261, sched_setaffinity 203 122, sched_setscheduler 144 119, sched_setparam 142 118,"
    " sched_setattr 314 274"
)


def _table(calls: str) -> dict[str, tuple[int | None, ...]]:
    rows = map(str.split, calls.split(","))
    return {name: tuple(None if each == "-" else int(each) for each in numbers) for name, *numbers in rows}


REFUSED = {name: numbers for calls in _CALLS.values() for name, numbers in _table(calls).items()}
ON_ITSELF = _table(_CALLS_ON_ITSELF)
_FCNTL, _SET_OWNER = (72, 25), (8, 15)  # who gets the signals of a file: F_SETOWN, F_SETOWN_EX
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _KILL, _REFUSE = 0x7FFF0000, 0x80000000, 0x00050000 | errno.EPERM
_ARCHITECTURE = 0xC000003E if X86 else 0xC00000B7


def refuse_calls() -> None:
    """Refuse the calls of the tables from now on, to this process and its children. Needs NO_NEW_PRIVILEGES.

    Its children are others to it, and it is another to them.
    """
    if not (X86 or ARM):
        raise OSError(errno.ENOSYS, "no table of system calls for this architecture")
    mine = 0 if X86 else 1
    # (code, lines to skip where it holds, where it does not, value); at 4 is the architecture, at 0 the call
    lines = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, _ARCHITECTURE), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, 0)]
    if X86:
        lines += [(_AT_LEAST, 0, 1, 0x40000000), (_RETURN, 0, 0, _REFUSE)]  # the calls of another table
    for numbers in REFUSED.values():
        if (number := numbers[mine]) is not None:
            lines += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _REFUSE)]
    for numbers in ON_ITSELF.values():
        lines += _where(numbers[mine], 0, (0, os.getpid()), _ALLOW, _REFUSE)
    lines += _where(_FCNTL[mine], 1, _SET_OWNER, _REFUSE, _ALLOW)
    lines.append((_RETURN, 0, 0, _ALLOW))
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in lines))  # sock_filter
    prctl(_SET_SECCOMP, 2, struct.pack("HP", len(lines), ctypes.addressof(code)))  # sock_fprog


def _where(
    number: int | None, argument: int, values: tuple[int, int], then: int, otherwise: int
) -> list[tuple[int, int, int, int]]:
    """Lines that end a call by whether an argument, whose low half counts, is one of two values."""
    return [
        (_EQUAL, 0, 5, number or 0),
        (_LOAD, 0, 0, 16 + 8 * argument),
        (_EQUAL, 2, 0, values[0]),
        (_EQUAL, 1, 0, values[1]),
        (_RETURN, 0, 0, otherwise),
        (_RETURN, 0, 0, then),
    ]
