# ruff: noqa: B012, B018, E722, SIM105  (the loops are written as people write them)
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from diffusion_lessons.course.exercises import limits

LIMIT = 0.3
PATIENCE = 60.0  # seconds for what ends by itself, also on a busy machine


@pytest.fixture(autouse=True)
def _streams_come_back() -> Iterator[None]:
    out, error = sys.stdout, sys.stderr
    yield
    sys.stdout, sys.stderr = out, error


def test_a_value_an_error_and_what_was_printed_come_back() -> None:
    def speak() -> int:
        print("said")
        print("complained", file=sys.stderr)
        return 3

    before = sys.stdout
    called = limits.call(speak, LIMIT)
    assert (called.value, called.error, called.stopped) == (3, None, False)
    assert called.printed == "said\ncomplained\n"
    assert sys.stdout is before

    called = limits.call(lambda: 1 // 0, LIMIT)
    assert isinstance(called.error, ZeroDivisionError)
    assert isinstance(limits.call(sys.exit, LIMIT).error, SystemExit)


def test_without_a_limit_it_runs_in_the_callers_own_thread() -> None:
    assert limits.call(threading.current_thread, None).value is threading.current_thread()


def forever() -> None:
    while True:
        pass


def swallow_exceptions() -> None:
    while True:
        try:
            1 / 0
        except Exception:
            pass


def swallow_everything() -> None:
    while True:
        try:
            time.sleep(0.001)
        except:
            pass


def swallow_everything_twice() -> None:
    while True:
        try:
            while True:
                try:
                    sum(range(1000))
                except BaseException:
                    continue
        except BaseException:
            pass


def never_leaves_finally() -> None:
    while True:
        try:
            time.sleep(0.001)
        finally:
            continue


def swallow_in_a_helper() -> None:
    def helper() -> int:
        try:
            time.sleep(0.001)
            return 1
        except:
            return 2

    while helper():
        pass


def print_forever() -> None:
    while True:
        try:
            print("x" * 50)
        except BaseException:
            pass


LOOPS = [
    forever,
    swallow_exceptions,
    swallow_everything,
    swallow_everything_twice,
    never_leaves_finally,
    swallow_in_a_helper,
    print_forever,
]


@pytest.mark.parametrize("loop", LOOPS)
def test_a_loop_in_python_is_stopped_whatever_it_swallows(loop: Callable[[], None]) -> None:
    threads = threading.active_count()
    begin = time.monotonic()
    called = limits.call(loop, LIMIT)
    assert called.stopped
    assert not called.running
    assert time.monotonic() - begin >= LIMIT
    assert threading.active_count() == threads
    assert any(function == loop.__name__ for _, _, function in called.at)
    assert sys.gettrace() is None or "coverage" in repr(sys.gettrace())


def test_one_that_can_not_be_stopped_is_left_behind_and_muted(capsys: pytest.CaptureFixture[str]) -> None:
    """A call in C ends when it ends; the caller goes on, and hears nothing from it."""
    done = threading.Event()

    def block() -> None:
        done.wait(20)  # one call in C, from the interpreter's point of view
        print("too late")

    called = limits.call(block, LIMIT)
    assert called.stopped
    assert called.running
    print("the caller speaks")
    left = next(each for each in threading.enumerate() if each.name == "exercise")
    done.set()
    left.join(5)
    assert not left.is_alive()
    assert capsys.readouterr().out == "the caller speaks\n"
    muted = sys.stdout
    limits.call(lambda: None, LIMIT)
    assert isinstance(muted, limits.Recorder)
    assert not isinstance(sys.stdout, limits.Recorder)  # the mute is taken off with the thread's end


def test_what_is_printed_is_kept_up_to_a_bound() -> None:
    printed = limits.call(lambda: print("a" * 5000), PATIENCE).printed
    assert printed.startswith("a" * limits.MAX_PRINTED + "\n… and ")
    assert f"{5001 - limits.MAX_PRINTED} more characters" in printed
    printed = limits.call(lambda: print("\n".join(map(str, range(100)))), PATIENCE).printed
    assert printed.splitlines()[limits.MAX_LINES - 1] == str(limits.MAX_LINES - 1)
    assert len(printed.splitlines()) <= limits.MAX_LINES + 2


def test_a_value_returned_after_the_time_is_no_value() -> None:
    def late() -> int:
        try:
            time.sleep(LIMIT + 0.2)
        except BaseException:
            pass
        return 3

    called = limits.call(late, LIMIT)
    assert called.stopped
    assert called.value is None


def test_the_users_interrupt_is_no_error_of_a_call_in_their_own_thread() -> None:
    """Else an interrupted reference would be remembered as one that fails."""

    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        limits.call(interrupted, None)
    assert isinstance(limits.call(interrupted, LIMIT).error, KeyboardInterrupt)  # the answer's own doing


def test_the_users_interrupt_stops_the_call_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(worker: threading.Thread, seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(limits, "_join", interrupted)
    threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        limits.call(forever, LIMIT)
    assert threading.active_count() == threads
