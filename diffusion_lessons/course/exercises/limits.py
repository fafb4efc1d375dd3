"""Calling a function that may loop, print without end, or raise anything.

The function runs in a thread of its own and the caller waits for at most the stated time, so the
verdict comes back on every system, Windows included. A thread that is over its time has an exception
raised inside it. Code that swallows exceptions gets another at each of its next lines. What can not
be stopped from inside the process is one long call in C: the thread is left behind, muted, and the
caller is told so; where that call also keeps the interpreter's lock (`sum(range(10**12))`), only
interrupting or restarting the kernel helps.
"""

import ctypes
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from traceback import walk_stack
from types import FrameType
from typing import Any

MAX_PRINTED = 2_000  # characters kept of what one call prints
MAX_LINES = 30
GRACE = 2.0  # seconds in which a thread over its time may still end
Place = tuple[str, int, str]  # file, line, function

_over_time: set[int] = set()  # threads that are being stopped
_clock: Callable[[], float] = time.perf_counter
_patience = 1.0


def count_cpu_time(patience: float) -> None:
    """From now on seconds are those of this process's CPU time: the same on a busy machine.

    `patience` seconds of the wall clock for each of them end a call that sleeps.
    """
    global _clock, _patience
    _clock, _patience = time.process_time, patience


class TimeUp(BaseException):
    """Raised inside a call that is over its time; not an Exception, so `except Exception` lets it by.

    An `except:` that swallows it gets the next one at its own next line: made and dropped in the
    thread that is being stopped, it makes every new line there raise again.
    """

    def __init__(self) -> None:
        super().__init__()
        _raise_at_next_line()

    def __del__(self) -> None:
        _raise_at_next_line()


def _raise_at_next_line() -> None:
    if threading.get_ident() not in _over_time:
        return
    sys.settrace(_raise)
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        frame.f_trace = _raise
        frame = frame.f_back


def _raise(frame: FrameType, event: str, argument: Any) -> Any:
    """A trace function: Python calls it at every line, and drops it when it raises."""
    if frame.f_code.co_filename == __file__:
        return None
    if event == "line":
        raise TimeUp
    return _raise


@dataclass
class Called:
    """What a call came to: a value or an error, or neither where it was stopped."""

    value: Any = None
    error: BaseException | None = None
    printed: str = ""
    seconds: float = 0.0
    stopped: bool = False  # it was over its time
    running: bool = False  # it could not even be stopped, and is still running in the background
    at: tuple[Place, ...] = ()  # (stopped) where it was then, outermost first


def call(function: Callable[[], Any], seconds: float | None) -> Called:
    """Call a function, for at most `seconds` (None: no limit, in the caller's own thread).

    The user's own KeyboardInterrupt is raised on; the call is stopped first.
    """
    real_out, real_error = _unwrapped(sys.stdout), _unwrapped(sys.stderr)
    begin, called = _clock(), Called()
    limit = None if _debugging() else seconds
    thread = threading.current_thread()
    if limit is not None:
        thread = threading.Thread(target=_work, args=(called, function), daemon=True, name="exercise")
    recorder = Recorder(real_out, thread)
    sys.stdout, sys.stderr = recorder, Recorder(real_error, thread, recorder)
    try:
        if limit is None:
            _fill(called, function)
        else:
            called = _wait(thread, called, limit)
    finally:
        if not called.running:  # else what it still prints stays out of the notebook
            sys.stdout, sys.stderr = real_out, real_error
    called.printed, called.seconds = recorder.text(), _clock() - begin
    return called


def _work(called: Called, function: Callable[[], Any]) -> None:
    try:
        _fill(called, function)
    except TimeUp:  # arrived after the function had ended
        pass
    finally:
        _over_time.discard(threading.get_ident())
        sys.settrace(None)


def _fill(called: Called, function: Callable[[], Any]) -> None:
    try:
        called.value = function()
    except BaseException as error:  # SystemExit too: an answer must not end the notebook
        if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
            raise  # the user's own
        called.error = error


def _wait(worker: threading.Thread, called: Called, seconds: float) -> Called:
    worker.start()
    try:
        _join(worker, seconds)
        if not worker.is_alive():
            return called
        frame = sys._current_frames().get(worker.ident or 0)
        at = places(walk_stack(frame))[::-1] if frame else ()
        _stop(worker)
    except KeyboardInterrupt:
        _stop(worker)
        raise
    return Called(stopped=True, running=worker.is_alive(), at=at)


def _join(worker: threading.Thread, seconds: float) -> None:
    end, last = _clock() + seconds, time.monotonic() + seconds * _patience
    while worker.is_alive() and (left := min(end - _clock(), last - time.monotonic())) > 0:
        worker.join(min(left, 0.1))  # short waits: Windows delivers Ctrl-C only between them


def places(frames: Iterable[tuple[FrameType, int]]) -> tuple[Place, ...]:
    """Where frames at their lines are."""
    return tuple((frame.f_code.co_filename, line, frame.f_code.co_name) for frame, line in frames)


def _stop(worker: threading.Thread) -> None:
    end = time.monotonic() + GRACE
    _over_time.add(worker.ident or 0)
    while worker.is_alive() and time.monotonic() < end:
        if worker.ident in _over_time:
            ident = ctypes.c_ulong(worker.ident or 0)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(TimeUp))
        worker.join(0.1)


def _debugging() -> bool:
    """Somebody is stepping through the code: no limit then."""
    with suppress(Exception):
        return bool(sys.modules["debugpy"].is_client_connected())
    return False


class Recorder:
    """A standard output that keeps the first of what one thread writes; other threads pass through."""

    def __init__(self, real: Any, thread: threading.Thread, into: "Recorder | None" = None) -> None:
        self.real = real
        self.thread = thread
        self.into = into or self
        self.kept: list[str] = []
        self.length = 0

    def write(self, text: str) -> int:
        if threading.current_thread() is not self.thread:
            return self.real.write(text)
        into = self.into
        if into.length < MAX_PRINTED:
            into.kept.append(text[: MAX_PRINTED - into.length])
        into.length += len(text)
        return len(text)

    def text(self) -> str:
        """What was written, cut, with a word on how much more there was."""
        text = "".join(self.kept)
        shown = "".join(text.splitlines(keepends=True)[:MAX_LINES])
        more = self.length - len(shown)
        return shown + (f"\n… and {more} more characters" if more else "")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


def _unwrapped(stream: Any) -> Any:
    """The stream below recorders whose threads, once left behind, have ended since."""
    while isinstance(stream, Recorder) and not stream.thread.is_alive():
        stream = stream.real
    return stream
