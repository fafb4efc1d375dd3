"""The process that has loaded the package once and has a child for each submission: `python -m …`.

Never started by hand: `workers` starts it with a clean environment and talks to it through its standard
input and output. It runs no student's code itself. Where a system cannot fork safely it is started anew for
each request (`--once`), runs that request itself and ends.
"""

import gc
import os
import sys
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from diffusion_lessons.course.grading.sandbox import confinement
from diffusion_lessons.course.grading.sandbox.protocol import Message, read
from diffusion_lessons.course.grading.sandbox.watch import Limits, remove, watch

PIPE = 3  # where a submission's process finds its end, and no other open file


def serve(without: Collection[str]) -> None:
    """Answer requests until the grader closes the pipe."""
    number = os.getpid()
    # Before anything is loaded: it goes on in a child.
    namespace = None if "namespaces" in without else confinement.enter_namespaces()
    requests, replies = _take_pipes()
    setting = confinement.Setting(number, namespace, tuple(without))
    confinement.adopt_orphans()
    _load()
    from diffusion_lessons.course import bank

    gc.freeze()
    while (request := read(requests)) is not None:
        if (lesson := request.words["lesson"]) in bank.lessons():
            bank.exercises(lesson)  # loaded once, here, for all the children
        replies.write(_run(request.words, setting).packed())
        replies.flush()


def once(without: Collection[str]) -> None:
    """Run one request in this process; its message goes to standard output, and nothing else does."""
    requests, replies = _take_pipes()
    request = read(requests)
    if request is not None:
        _load()
        setting = confinement.Setting(os.getpid(), without=tuple(without))
        _answer(request.words, Path(request.words["folder"]), replies.fileno(), setting)


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Our ends of the pipes; what writes to standard output from here on writes nowhere."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    return requests, replies


def _load() -> None:
    """Import what most submissions need, so that no child has to."""
    import torch

    from diffusion_lessons.course.grading.sandbox import pieces

    for name in ("generate", "training.loop", "course.student.session", "course.grading.sandbox.runner"):
        import_module(f"diffusion_lessons.{name}")
    torch.set_num_threads(1)
    pieces.silence()


def _run(words: Mapping[str, Any], setting: confinement.Setting) -> Message:
    """One request, in a child and a folder of its own."""
    limits = Limits(**words["limits"])
    folder = Path(tempfile.mkdtemp(prefix="submission-"))
    receive, send = os.pipe()
    if setting.namespace is not None:
        confinement.fresh_namespace(setting.namespace)
    child = os.fork()
    if not child:
        _answer(words, folder, send, setting)
    os.close(send)
    try:
        ending, content = watch(child, receive, folder, limits, setting.namespace is not None)
    finally:
        os.close(receive)
        remove(folder)
    return Message(asdict(ending), content)


def _answer(words: Mapping[str, Any], folder: Path, pipe: int, setting: confinement.Setting) -> NoReturn:
    """Lock this process up, do what a request asks for, send what there is to say, and end."""
    status = 70
    try:
        os.dup2(pipe, PIPE)
        os.closerange(PIPE + 1, 1024)
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
            data = data[os.write(PIPE, data) :]
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
