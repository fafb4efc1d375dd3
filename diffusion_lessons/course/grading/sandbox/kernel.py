"""The few calls of the Linux kernel that Python has no function for."""

import ctypes
import os
import platform
import sys

LINUX = sys.platform == "linux"
X86 = platform.machine() in ("x86_64", "AMD64")
ARM = platform.machine() in ("aarch64", "arm64")

NEW_USER, NEW_PROCESSES, NEW_NETWORK, NEW_IPC = 0x10000000, 0x20000000, 0x40000000, 0x08000000
DEATH_SIGNAL, KEEP_CAPABILITIES, BOUNDING_DROP, SET_SECCOMP = 1, 8, 24, 22
SUBREAPER, NO_NEW_PRIVILEGES = 36, 38
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


def syscall(number: int, *arguments: object) -> int:
    """A system call by its number; a negative result is an OSError.

    Raises:
        OSError: the kernel refuses, or does not know the call.
    """
    call = _libc().syscall
    call.restype = ctypes.c_long
    return _checked(call(ctypes.c_long(number), *arguments))


def prctl(option: int, value: object = 0, extra: object = 0) -> None:
    """Set something of this process; raises OSError."""
    _checked(_libc().prctl(option, ctypes.c_ulong(value) if isinstance(value, int) else value, extra, 0, 0))


def unshare(flags: int) -> None:
    """Leave namespaces behind; new processes are in the new ones. Raises OSError."""
    _checked(_libc().unshare(flags))


def rejoin_processes(own: int) -> None:
    """Make children again in the process namespace of an open file of /proc/self/ns/pid."""
    _checked(_libc().setns(own, NEW_PROCESSES))


def keep_capabilities(mask: int) -> None:
    """Give up every privilege of root but those of a mask, for good. Raises OSError."""
    for number in range(_CAPABILITIES):
        if not mask & 1 << number:
            try:
                prctl(BOUNDING_DROP, number)
            except OSError:
                continue  # not allowed to without SETPCAP, and not needed: the sets below are emptied
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)(mask, mask, 0, 0, 0, 0)  # effective, permitted, inheritable; twice 32 bits
    syscall(_CAPSET, ctypes.byref(header), ctypes.byref(sets))
