"""How every command begins and ends: shared options, the last words, errors in one line."""

import codecs
import errno
import json as json_module
import os
import re
import select
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Annotated, Any

import torch
from tyro.conf import arg

from diffusion_lessons.support.processes import is_first

Json = Annotated[bool, arg(help="end with one line of JSON on standard output")]
Device = Annotated[str | None, arg(help="cpu, cuda, mps; a GPU where there is one if left out")]

CLOSED = (errno.EPIPE, errno.EINVAL)  # what POSIX and Windows say of a pipe that nobody reads
TRACEBACK = "DIFFUSION_LESSONS_TRACEBACK"  # set to anything, errors come with where they arose
PATIENCE = 5.0  # seconds by which a launcher has ended all processes, once one has ended in an error
NO_MEMORY = re.compile(  # a CPU, an Apple GPU and several libraries say it in a RuntimeError
    "out of memory|not enough memory|(can't|cannot|failed to|unable to) allocate|alloc_failed|bad_alloc|"
    "invalid buffer size|storage size calculation overflowed|integer multiplication overflow",
    re.IGNORECASE,
)
TOO_LARGE = re.compile("overflow when unpacking|too (large|big) to convert", re.IGNORECASE)
SPELT = {"✓": "+", "✗": "x", "○": "o", "…": "...", "−": "-", "±": "+/-", "→": "->", "·": "*", "×": "x"}


class OwnWarning(UserWarning):
    """What this process alone has seen: said also where it is not the first of several."""


def report(json: bool, facts: dict[str, Any], words: str, files: Sequence[Path]) -> None:
    """The end of a command: words and paths for people, or one line for programs."""
    if json:
        print(json_module.dumps(facts))
        return
    print(words)
    for file in files:
        print(f"  {file}")


def guarded(command: Callable[[], object]) -> None:
    """Run a command; what a user can mend becomes one line and exit code 2, a warning one line too.

    A character that the terminal or file cannot hold is spelt another way. A reader that has gone ends the
    command in silence, with 141. What nobody foresaw is 3, in one line that asks for a report.

    Of several processes the first speaks. Another waits before it says an error: where the first has it too,
    the launcher has ended both by then, and it is said once.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="spelt")
    try:
        with warnings.catch_warnings(), _first_speaks():
            command()
        if sys.stdout is not None:
            sys.stdout.flush()  # a full disk or a closed pipe shows only here
        return
    except BaseException as error:
        words, code = _last_words(error)
        if isinstance(error, OSError) and error.errno in CLOSED and error.filename is None and _unread():
            words, code = "", 141
        _let_go_of_full_streams()
        if words and not is_first():
            time.sleep(PATIENCE)
        with suppress(OSError, ValueError):
            if os.environ.get(TRACEBACK) and not isinstance(error, SystemExit):
                traceback.print_exception(error)
            if words:
                print(words, file=sys.stderr, flush=True)
    sys.exit(code)


@contextmanager
def _first_speaks() -> Iterator[None]:
    """Warnings are a line each; all that a process prints which is not the first goes nowhere."""
    first, stderr = is_first(), sys.stderr

    def said(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        if first or issubclass(category, OwnWarning):
            print(f"warning: {_line(message)}", file=stderr)

    warnings.showwarning = said
    if first:
        yield
        return
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


def _last_words(error: BaseException) -> tuple[str, Any]:
    """What a command says before it ends in this error, and its exit code."""
    line = _line(error)[:1000]
    if isinstance(error, SystemExit):
        return "", error.code
    if isinstance(error, KeyboardInterrupt):
        return f"\n{line or 'stopped'}", 130
    foreign = isinstance(error, (RuntimeError, OSError, OverflowError))  # of torch, numpy or the system
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (foreign and NO_MEMORY.search(line)):
        return "error: out of memory: try a smaller batch, size or n, or --device cpu", 2
    if (foreign or isinstance(error, ValueError)) and TOO_LARGE.search(line):
        return f"error: a number that was given is too large ({line})", 2
    if isinstance(error, (ValueError, OSError, ImportError)):
        return f"error: {line or type(error).__name__}", 2
    what = f"{type(error).__name__}: {line}" if line else type(error).__name__
    how = f"please report it, with the command and what it prints where {TRACEBACK}=1 is set"
    return f"error: this is a fault of diffusion-lessons ({what}): {how}", 3


def _line(message: object) -> str:
    return " ".join(str(message).split())


def _spelt(error: UnicodeError) -> tuple[str, int]:
    """What stands for the characters that an encoding does not have."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    odd = error.object[error.start : error.end]
    return "".join(SPELT.get(character, "?") for character in odd), error.end


codecs.register_error("spelt", _spelt)


def _unread() -> bool:
    """Has the reader of an output gone? Where the system cannot tell, it is taken to be so."""
    if not hasattr(select, "poll"):
        return True
    poll = select.poll()
    for stream in filter(None, (sys.stdout, sys.stderr)):
        with suppress(OSError, ValueError):
            poll.register(stream.fileno(), 0)
    return bool(poll.poll(0))


def _let_go_of_full_streams() -> None:
    """Have Python's last flush of a stream that takes nothing any more fail nowhere."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
