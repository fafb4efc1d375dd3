"""The grader's end of the servers: start them, ask them, start them again when a submission ended one."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import psutil

from diffusion_lessons.course.grading.sandbox.confinement import PACKAGE, Protection
from diffusion_lessons.course.grading.sandbox.kernel import LINUX
from diffusion_lessons.course.grading.sandbox.protocol import MAX_MESSAGE, Message, Unreadable, unpack
from diffusion_lessons.course.grading.sandbox.watch import Ending, Limits, ended, remove

MODULE = "diffusion_lessons.course.grading.sandbox.server"
MAX_HEAD = 4096  # bytes of what a server says of a request itself
SPARE = 60.0  # seconds after which a server that does not answer is given up
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
WINDOWS = ("SYSTEMROOT", "SYSTEMDRIVE", "WINDIR")
KEPT = (*WINDOWS, "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TEMP", "TMP", "TMPDIR")


def environment() -> dict[str, str]:
    """Nothing of the instructor's but what a program needs to start."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    ones = dict.fromkeys((*THREADS, "PYTHONDONTWRITEBYTECODE", "PYTHONUTF8"), "1")
    return kept | ones | {
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(PACKAGE.parent),
        "PYTHONHASHSEED": "0",
        "CUDA_VISIBLE_DEVICES": "",
        "MPLBACKEND": "agg",
        "DIFFUSION_LESSONS_PROGRESS": "off",
    }  # fmt: skip


class Worker:
    """One server, and what it has to be told with each request: the limits of one run.

    Without `fork` each run starts Python anew, which takes seconds; `without` names fields of `Protection`
    that are left out, as on a system that has not got them.
    """

    def __init__(
        self, limits: Limits | None = None, fork: bool = LINUX, without: Collection[str] = ()
    ) -> None:
        self.fork = fork
        self.without = tuple(without)
        self.limits = limits or Limits()
        self.server: subprocess.Popen[bytes] | None = None
        self.line: socket.socket | None = None  # to the server
        self.closed = False

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def protection(self) -> Protection:
        """What holds here, found out by a child that locks itself up; OSError where no server starts."""
        ending, content = self.ask({"do": "probe", "lesson": ""})
        with suppress(Unreadable, KeyError, TypeError):
            return Protection(**unpack(content).words["protection"])
        raise OSError(f"the process that runs submissions does not start here ({ending.how} {ending.number})")

    def ask(self, request: Mapping[str, Any]) -> tuple[Ending, bytes]:
        """How a request's process ended, and what it said; a lost server is replaced and asked once more."""
        words = {**request, "limits": asdict(self.limits)}
        for _ in range(2):
            if self.closed:
                break
            try:
                return self._served(words) if self.fork else self._once(words)
            except (OSError, Unreadable, ValueError):
                self._drop()
        return Ending("server"), b""

    def _served(self, words: Mapping[str, Any]) -> tuple[Ending, bytes]:
        if self.server is None or self.line is None or self.server.poll() is not None:
            self._drop()
            self.line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                self.server = _start("--serve", *self.without, line=theirs)
        self.line.settimeout(self.limits.seconds + SPARE)
        head = {name: words[name] for name in ("lesson", "limits")}  # all that the server reads itself
        with _in_memory(Message(dict(words)).packed()) as request, _in_memory() as reply:
            socket.send_fds(self.line, [json.dumps(head).encode()], [request.fileno(), reply.fileno()])
            said = self.line.recv(MAX_HEAD)
            if not said:
                raise ConnectionError("the server has ended")
            reply.seek(0)
            return Ending(**json.loads(said)), reply.read(MAX_MESSAGE + 1)

    def _once(self, words: Mapping[str, Any]) -> tuple[Ending, bytes]:
        """Where a process cannot be forked safely: a new one for each request, watched from here."""
        folder = Path(tempfile.mkdtemp(prefix="submission-"))
        process = _start("--once", *self.without)
        assert process.stdin and process.stdout
        read, kept = process.stdout.read, bytearray()
        listener = threading.Thread(target=lambda: kept.extend(_bounded(read)), daemon=True)
        listener.start()
        late = False
        try:
            with suppress(BrokenPipeError):
                process.stdin.write(Message({**words, "folder": str(folder)}).packed())
                process.stdin.close()
            end = time.monotonic() + self.limits.seconds
            while process.poll() is None and len(kept) <= MAX_MESSAGE and not late:
                time.sleep(0.01)
                late = time.monotonic() > end
        finally:
            _kill_tree(process)
            listener.join(5.0)  # a process that was left behind may keep the pipe open
            remove(folder)
        return Ending("timeout") if late else ended(process.wait(), len(kept)), bytes(kept)

    def close(self) -> None:
        """End the server and all that is left of it, for good."""
        self.closed = True
        self._drop()

    def _drop(self) -> None:
        if self.server is not None:
            with suppress(OSError), self.server:  # which closes its pipes and waits for it
                _kill_tree(self.server)
            self.server = None
        if self.line is not None:
            self.line.close()
            self.line = None


def _in_memory(content: bytes = b"") -> BinaryIO:
    """An open file that has no place on the disk, at its beginning."""
    file = os.fdopen(os.memfd_create("message"), "r+b")  # type: ignore[attr-defined,unused-ignore]
    file.write(content)
    file.seek(0)
    return file


def _start(*arguments: str, line: socket.socket | None = None) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-P", "-m", MODULE, *arguments],
        env=environment(),
        cwd=tempfile.gettempdir(),
        stdin=line.fileno() if line else subprocess.PIPE,
        stdout=subprocess.DEVNULL if line else subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for the grader, which ends its servers
    )


def _kill_tree(process: "subprocess.Popen[bytes]") -> None:
    """End a process, what is below it, and what stayed in its group when it was left behind."""
    below: list[psutil.Process] = []
    with suppress(psutil.Error):
        if process.poll() is None:  # else its number may be another's by now
            below = psutil.Process(process.pid).children(recursive=True)
    if os.name != "nt":
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
    for each in (*below, process):
        with suppress(psutil.Error, OSError):
            each.kill()


def _bounded(read: Callable[[int], bytes]) -> bytes:
    """All that a pipe gives until its end, but at most one byte more than a message may have."""
    parts, left = [], MAX_MESSAGE + 1
    while left > 0 and (part := read(min(left, 2**16))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)
