"""The grader's end of the servers: start them, ask them, start them again when a submission ended one."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from diffusion_lessons.course.grading.sandbox.kernel import LINUX
from diffusion_lessons.course.grading.sandbox.protection import Protection
from diffusion_lessons.course.grading.sandbox.protocol import MAX_MESSAGE, Message, Unreadable, bounded, read
from diffusion_lessons.course.grading.sandbox.sandbox import PACKAGE
from diffusion_lessons.course.grading.sandbox.watch import Ending, Limits, remove

MODULE = "diffusion_lessons.course.grading.sandbox.server"
SPARE = 60.0  # seconds after which a server that does not answer is given up
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
KEPT = (
    "SYSTEMROOT",
    "SYSTEMDRIVE",
    "WINDIR",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "TEMP",
    "TMP",
    "TMPDIR",
)


def environment() -> dict[str, str]:
    """Nothing of the instructor's but what a program needs to start."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    return kept | dict.fromkeys(THREADS, "1") | {
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(PACKAGE.parent),
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUTF8": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "MPLBACKEND": "agg",
        "DIFFUSION_LESSONS_PROGRESS": "off",
    }  # fmt: skip


class Worker:
    """One server, and what it has to be told with each request.

    Args:
        limits: of one run.
        fork: let the server fork; else each run starts Python anew, which takes seconds.
        without: fields of `Protection` that are left out, as on a system that has not got them.
    """

    def __init__(
        self, limits: Limits | None = None, fork: bool = LINUX, without: Collection[str] = ()
    ) -> None:
        self.fork = fork
        self.without = tuple(without)
        self.limits = limits or Limits()
        self.server: subprocess.Popen[bytes] | None = None
        self.closed = False

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def protection(self) -> Protection:
        """What holds here, found out by a child that locks itself up.

        Raises:
            OSError: no server can be started.
        """
        ending, content = self.ask({"do": "probe", "lesson": ""})
        with suppress(Unreadable, KeyError, TypeError):
            from diffusion_lessons.course.grading.sandbox.protocol import unpack

            return Protection(**unpack(content).words["protection"])
        raise OSError(f"the process that runs submissions does not start here ({ending.how} {ending.number})")

    def ask(self, request: Mapping[str, Any]) -> tuple[Ending, bytes]:
        """Have a request run; how its process ended, and what it said.

        A server that does not answer any more is ended, and the next request gets a new one.
        """
        words = {**request, "limits": asdict(self.limits)}
        if self.closed:
            return Ending("server"), b""
        try:
            return self._served(words) if self.fork else self._once(words)
        except (OSError, Unreadable, ValueError):
            self._drop()
            return Ending("server"), b""

    def _served(self, words: Mapping[str, Any]) -> tuple[Ending, bytes]:
        if self.server is None or self.server.poll() is not None:
            self._drop()
            self.server = _start("--serve", *self.without)
        server = self.server
        assert server.stdin and server.stdout
        late = threading.Timer(self.limits.seconds + SPARE, server.kill)
        late.start()
        try:
            server.stdin.write(Message(dict(words)).packed())
            server.stdin.flush()
            reply = read(server.stdout)  # type: ignore[arg-type]
        finally:
            late.cancel()
        if reply is None:
            raise Unreadable("the server has ended")
        return Ending(**reply.words), reply.content

    def _once(self, words: Mapping[str, Any]) -> tuple[Ending, bytes]:
        """Where a process cannot be forked safely: a new one for each request, watched from here."""
        folder = Path(tempfile.mkdtemp(prefix="submission-"))
        process = _start("--once", *self.without)
        assert process.stdin and process.stdout
        read, kept = process.stdout.read, bytearray()
        listener = threading.Thread(target=lambda: kept.extend(bounded(read)), daemon=True)
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
        code = process.wait()
        if late or code == -getattr(signal, "SIGXCPU", 0):
            return Ending("timeout"), b""
        if len(kept) > MAX_MESSAGE:
            return Ending("flood"), b""
        ending = Ending("done") if code == 0 else Ending("signal" if code < 0 else "exit", abs(code))
        return ending, bytes(kept)

    def close(self) -> None:
        """End the server and all that is left of it, for good."""
        self.closed = True
        self._drop()

    def _drop(self) -> None:
        if self.server is not None:
            _kill_tree(self.server)
            self.server.wait()
            for stream in (self.server.stdin, self.server.stdout):
                with suppress(OSError):
                    stream.close()  # type: ignore[union-attr]
            self.server = None


def _start(*arguments: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-P", "-m", MODULE, *arguments]
    return subprocess.Popen(
        command,
        env=environment(),
        cwd=tempfile.gettempdir(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for the grader, which ends its servers
    )


def _kill_tree(process: "subprocess.Popen[bytes]") -> None:
    if os.name == "nt":
        if process.poll() is None and (taskkill := shutil.which("taskkill")):
            command = [taskkill, "/F", "/T", "/PID", str(process.pid)]
            subprocess.run(command, capture_output=True, check=False)
    else:
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
    with suppress(OSError):
        process.kill()
