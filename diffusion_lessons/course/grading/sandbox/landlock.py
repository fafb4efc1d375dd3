"""Landlock: from some moment on a process reads and writes only where it was allowed to."""

import ctypes
import os
from collections.abc import Iterable
from pathlib import Path

from diffusion_lessons.course.grading.sandbox.kernel import syscall

_CREATE, _ADD, _RESTRICT = 444, 445, 446
_EXECUTE, _WRITE, _READ, _LIST, _TRUNCATE, _DEVICE = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 14, 1 << 15
_ON_FILES = _EXECUTE | _WRITE | _READ | _TRUNCATE | _DEVICE
_KNOWN = {1: 13, 2: 14, 3: 15, 4: 15}  # version -> how many rights on files; 16 from the fifth on


class _Attributes(ctypes.Structure):
    _fields_ = [("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scoped", ctypes.c_uint64)]


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = [("access", ctypes.c_uint64), ("folder", ctypes.c_int32)]


def version() -> int:
    """Of the kernel's Landlock, 0 where it has none."""
    try:
        return syscall(_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    except OSError:
        return 0


def prepare(read: Iterable[Path], write: Iterable[Path]) -> int:
    """A set of rules, as an open file: what may be read, and what may be written too.

    Raises:
        OSError: the kernel has no Landlock.
    """
    known = version()
    every = (1 << _KNOWN.get(known, 16)) - 1
    network = 3 if known >= 4 else 0  # binding and connecting
    scoped = 3 if known >= 6 else 0  # abstract sockets and signals: to its own kind only
    size = 24 if known >= 6 else 16 if known >= 4 else 8
    attributes = _Attributes(every, network, scoped)
    rules = syscall(_CREATE, ctypes.byref(attributes), ctypes.c_size_t(size), ctypes.c_uint32(0))
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
        rule = _Beneath(access, handle)
        syscall(_ADD, ctypes.c_int(rules), ctypes.c_int(1), ctypes.byref(rule), ctypes.c_uint32(0))
    finally:
        os.close(handle)


def restrict(rules: int) -> None:
    """Hold this process and its children to the rules, for good. Needs NO_NEW_PRIVILEGES."""
    syscall(_RESTRICT, ctypes.c_int(rules), ctypes.c_uint32(0))
    os.close(rules)
