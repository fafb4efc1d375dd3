"""The process that has loaded the package once and has a child for each submission: `python -m …`.

Never started by hand: `workers` starts it with a clean environment and talks to it through its
standard input and output. It runs no student's code itself. Where a system cannot fork safely it is
started anew for each request (`--once`), runs that request itself and ends.
"""

import gc
import os
import sys
import tempfile
from collections.abc import Collection, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

from diffusion_lessons.course.grading.sandbox import sandbox
from diffusion_lessons.course.grading.sandbox.protection import Protection
from diffusion_lessons.course.grading.sandbox.protocol import Message, read
from diffusion_lessons.course.grading.sandbox.sandbox import Setting
from diffusion_lessons.course.grading.sandbox.watch import Limits, remove, watch


def serve(without: Collection[str]) -> None:
    """Answer requests until the grader closes the pipe."""
    number = os.getpid()
    # Before anything is loaded: it goes on in a child.
    namespaces = "namespaces" not in without and sandbox.enter_namespaces()
    requests, replies = _take_pipes()
    own = sandbox.own_processes() if namespaces else None
    setting = Setting(number, namespaces, tuple(without))
    sandbox.adopt_orphans()
    load()
    gc.freeze()
    while (request := read(requests)) is not None:
        _preload(request.words)
        reply = _run(request.words, own, setting)
        replies.write(reply.packed())
        replies.flush()


def once(without: Collection[str]) -> None:
    """Run one request in this process; its message goes to standard output, and nothing else does."""
    requests, replies = _take_pipes()
    request = read(requests)
    if request is None:
        return
    load()
    words = request.words
    limits = Limits(**words["limits"])
    has = sandbox.enter(
        Path(words["folder"]),
        limits.memory,
        int(limits.seconds) + 1,
        Setting(os.getpid(), without=tuple(without)),
    )
    os.chdir(words["folder"])
    message = answer(words, has)
    replies.write(message.packed())
    replies.flush()
    os._exit(0)


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Our ends of the pipes; what writes to standard output from here on writes nowhere."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    return requests, replies


def load() -> None:
    """Import what most submissions need, so that no child has to."""
    import torch

    from diffusion_lessons.course.grading.sandbox import quiet

    for name in ("generate", "training.loop", "course.student.session", "course.grading.sandbox.inside"):
        import_module(f"diffusion_lessons.{name}")
    torch.set_num_threads(1)
    quiet.install()


def _preload(words: Mapping[str, Any]) -> None:
    from diffusion_lessons.course import bank

    if words["lesson"] in bank.lessons():
        bank.exercises(words["lesson"])


def answer(words: Mapping[str, Any], has: Protection) -> Message:
    """Do what a request asks for."""
    from diffusion_lessons.course.grading.sandbox import inside

    if words["do"] == "plan":
        return inside.make_plan(words)
    if words["do"] == "run":
        return inside.run_answer(words)
    return Message({"protection": has.to_json()})


def _run(words: Mapping[str, Any], own: int | None, setting: Setting) -> Message:
    """One request, in a child and a folder of its own."""
    limits = Limits(**words["limits"])
    folder = Path(tempfile.mkdtemp(prefix="submission-"))
    receive, send = os.pipe()
    if own is not None:
        sandbox.fresh_processes(own)
    child = os.fork()
    if not child:
        _child(words, folder, send, limits, setting)
    os.close(send)
    try:
        ending, content = watch(child, receive, folder, limits, setting.namespaces)
    finally:
        os.close(receive)
        remove(folder)
    return Message(ending.to_json(), content)


def _child(words: Mapping[str, Any], folder: Path, send: int, limits: Limits, setting: Setting) -> None:
    """Never returns: what is to be said goes through the pipe."""
    status = 70
    try:
        os.dup2(send, 3)
        os.closerange(4, 1024)
        os.chdir(folder)
        os.environ.update(HOME=str(folder), TMPDIR=str(folder), MPLCONFIGDIR=str(folder))
        tempfile.tempdir = None
        has = sandbox.enter(folder, limits.memory, int(limits.seconds) + 1, setting)
        try:
            message = answer(words, has)
        except Exception as error:  # out of memory, say, where its outputs are written
            message = Message({"error": f"{type(error).__name__}: {error}"[:500]})
        data = memoryview(message.packed())
        while data:
            data = data[os.write(3, data) :]
        status = 0
    finally:
        os._exit(status)


if __name__ == "__main__":
    if sys.argv[1] == "--once":
        once(sys.argv[2:])
    else:
        serve(sys.argv[2:])
