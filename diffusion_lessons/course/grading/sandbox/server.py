"""The process that has loaded the package once and has a child for each submission: `python -m …`.

Never started by hand: `workers` starts it with a clean environment and talks to it through its standard
input, a socket. It runs no student's code itself. Where a system cannot fork safely it is started anew for
each request (`--once`), runs that request itself and ends.
"""

import gc
import json
import os
import socket
import sys
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from diffusion_lessons.course.grading.sandbox import confinement, namespaces
from diffusion_lessons.course.grading.sandbox.protocol import Message, unpack
from diffusion_lessons.course.grading.sandbox.watch import Ending, Limits, remove, watch

REPLY = 3  # where a submission's process writes what it sends, and no other open file
MAX_HEAD = 4096  # bytes of what the server itself reads of a request


def serve(without: Collection[str]) -> None:
    """Answer requests until the grader closes the line.

    What a request says of a submission, and the reply, lie in files in memory that this process hands on
    unread: what it has had in its own memory, its next child could find there.
    """
    number = os.getpid()
    # Before anything is loaded: it goes on in a child.
    namespace = None if "namespaces" in without else namespaces.enter()
    line = socket.socket(fileno=os.dup(0))
    _to_nowhere()
    setting = confinement.Setting(number, namespace, tuple(without))
    confinement.adopt_orphans()
    _load()
    from diffusion_lessons.course import bank

    gc.freeze()
    while True:
        head, files, *_ = socket.recv_fds(line, MAX_HEAD, 2)
        if not head:
            return
        words, (request, reply) = json.loads(head), files
        if words["lesson"] in bank.lessons():
            bank.exercises(words["lesson"])  # loaded once, here, for all the children
        ending = _run(request, reply, Limits(**words["limits"]), setting)
        line.send(json.dumps(asdict(ending)).encode())
        os.close(request)
        os.close(reply)


def once(without: Collection[str]) -> None:
    """Run one request in this process; its message goes to standard output, and nothing else does."""
    request, reply = os.dup(0), os.dup(1)
    _to_nowhere()
    _load()
    words = _read(request)
    _answer(words, Path(words["folder"]), reply, confinement.Setting(os.getpid(), without=tuple(without)))


def _to_nowhere() -> None:
    """What reads standard input or writes to standard output from here on finds nothing there."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)


def _load() -> None:
    """Import what most submissions need, so that no child has to."""
    import torch

    from diffusion_lessons.course.grading.sandbox import pieces

    for name in ("generate", "training.loop", "course.student.session", "course.grading.sandbox.runner"):
        import_module(f"diffusion_lessons.{name}")
    torch.set_num_threads(1)
    pieces.silence()


def _run(request: int, reply: int, limits: Limits, setting: confinement.Setting) -> Ending:
    """One request, in a child and a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="submission-"))
    if setting.namespace is not None:
        namespaces.fresh(setting.namespace)
    child = os.fork()
    if not child:
        try:
            _answer(_read(request), folder, reply, setting)
        finally:
            os._exit(70)
    try:
        return watch(child, reply, folder, limits, setting.namespace is not None)
    finally:
        remove(folder)


def _read(request: int) -> dict[str, Any]:
    """The words of a request, which may be as long as a notebook."""
    with open(request, "rb", closefd=False) as file:
        data = file.read()
    return unpack(data, len(data)).words


def _answer(words: Mapping[str, Any], folder: Path, reply: int, setting: confinement.Setting) -> NoReturn:
    """Lock this process up, do what a request asks for, send what there is to say, and end."""
    status = 70
    try:
        os.dup2(reply, REPLY)
        os.closerange(REPLY + 1, 1024)
        os.chdir(folder)
        os.environ.update(HOME=str(folder), TMPDIR=str(folder), MPLCONFIGDIR=str(folder))
        tempfile.tempdir = None
        has = confinement.enter(folder, Limits(**words["limits"]), setting)
        try:
            message = _message(words, has)
        except Exception as error:  # out of memory, say, where its outputs are written
            message = Message({"error": f"{type(error).__name__}: {error}"[:500]})
        data = memoryview(message.packed())
        while data:
            data = data[os.write(REPLY, data) :]
        status = 0
    finally:
        os._exit(status)


def _message(words: Mapping[str, Any], has: confinement.Protection) -> Message:
    from diffusion_lessons.course.grading.sandbox import runner

    if words["do"] == "plan":
        return runner.make_plan(words)
    if words["do"] == "run":
        return runner.run_answer(words)
    return Message({"protection": vars(has)})


if __name__ == "__main__":
    (once if sys.argv[1] == "--once" else serve)(sys.argv[2:])
