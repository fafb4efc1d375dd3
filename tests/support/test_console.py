"""How a command ends: one line for whatever goes wrong, and an output that is never lost."""

import os
import re
import subprocess
import sys
import time
import warnings
from typing import Any

import numpy as np
import pytest
import torch

from diffusion_lessons.support.console import PATIENCE, TRACEBACK, OwnWarning, guarded


def ended(capsys: pytest.CaptureFixture[str], error: BaseException) -> tuple[Any, str]:
    """Exit code and last words of a command that ends in this error."""

    def command() -> None:
        raise error

    with pytest.raises(SystemExit) as stop:
        guarded(command)
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert len(said.strip().splitlines()) <= 1
    return stop.value.code, said.strip()


NO_MEMORY = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"
    ),
    RuntimeError(
        "[enforce fail at ..\\c10\\core\\impl\\alloc_cpu.cpp:72] data. DefaultCPUAllocator: not enough memory"
    ),
    RuntimeError(
        "MPS backend out of memory (MPS allocated: 9.05 GB, other allocations: 6.4 MB, max allowed: 9.07 GB)"
    ),
    RuntimeError("Invalid buffer size: 24.00 GB"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("Storage size calculation overflowed with sizes=[9223372036854775807, 4]"),
    OSError(12, "Cannot allocate memory"),
]


@pytest.mark.parametrize("error", NO_MEMORY, ids=lambda error: str(error)[:40])
def test_no_memory_is_said_whoever_says_it(capsys: pytest.CaptureFixture[str], error: BaseException) -> None:
    code, said = ended(capsys, error)
    assert code == 2
    assert said.startswith("error: out of memory: try a smaller batch")


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.empty(2**50),
        lambda: torch.arange(10**12) * 2,
        lambda: torch.empty(2**62, 4),
        lambda: np.empty(2**52),
        lambda: np.empty((2**30, 2**30), np.uint8),
        lambda: bytearray(2**60),
    ],
)
def test_real_ways_to_want_too_much(capsys: pytest.CaptureFixture[str], make: Any) -> None:
    with pytest.raises(SystemExit) as stop:
        guarded(make)
    assert stop.value.code == 2
    assert "out of memory" in capsys.readouterr().err


@pytest.mark.parametrize("make", [lambda: torch.arange(10**20), lambda: torch.Generator().manual_seed(2**64)])
def test_numbers_that_no_machine_holds(capsys: pytest.CaptureFixture[str], make: Any) -> None:
    with pytest.raises(SystemExit) as stop:
        guarded(make)
    assert stop.value.code == 2
    assert "error: a number that was given is too large" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ValueError("two\nlines"), 2, "error: two lines"),
        (IsADirectoryError(21, "Is a directory", "x.png"), 2, "error: [Errno 21] Is a directory: 'x.png'"),
        (ModuleNotFoundError("No module named 'accelerate'"), 2, "error: No module named 'accelerate'"),
        (ValueError(), 2, "error: ValueError"),
        (KeyboardInterrupt(), 130, "stopped"),
        (KeyboardInterrupt("the run is saved"), 130, "the run is saved"),
        (SystemExit(1), 1, ""),
    ],
)
def test_what_one_can_mend_is_a_line(
    capsys: pytest.CaptureFixture[str], error: BaseException, code: int, words: str
) -> None:
    assert ended(capsys, error) == (code, words)


@pytest.mark.parametrize(
    "error", [KeyError("data"), AssertionError(), TypeError("no\nlen()"), RuntimeError("odd")]
)
def test_what_nobody_foresaw_asks_for_a_report(capsys: pytest.CaptureFixture[str], error: Exception) -> None:
    code, said = ended(capsys, error)
    assert code == 3
    assert said.startswith(f"error: this is a fault of diffusion-lessons ({type(error).__name__}")
    assert f"{TRACEBACK}=1" in said


def test_a_traceback_is_there_for_whoever_asks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TRACEBACK, "1")
    with pytest.raises(SystemExit):
        guarded(lambda: {}["data"])
    said = capsys.readouterr().err
    assert re.search(r"Traceback .*KeyError: 'data'.*error: this is a fault", said, re.DOTALL)


def test_a_warning_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    guarded(lambda: warnings.warn("one\n  thing", stacklevel=1))
    assert capsys.readouterr().err == "warning: one thing\n"


# Where the output goes -------------------------------------------------------------------------------


def program(body: str, encoding: str = "utf-8", **options: Any) -> subprocess.Popen[bytes]:
    script = f"from diffusion_lessons.support.console import guarded\nguarded(lambda: {body})"
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.Popen([sys.executable, "-c", script], env=environment, **pipes)


@pytest.mark.parametrize(
    ("encoding", "printed"),
    [
        ("cp1252", "+ x o 1 ± 2 -> ?"),
        ("ascii", "+ x o 1 +/- 2 -> ?"),
        ("cp437", "+ x o 1 ± 2 -> ?"),
        ("utf-8", "✓ ✗ ○ 1 ± 2 → 猫"),
    ],
)
def test_what_a_code_page_lacks_is_spelt(encoding: str, printed: str) -> None:
    out, err = program("print('✓ ✗ ○ 1 ± 2 → 猫')", encoding).communicate()
    assert (out.decode(encoding).strip(), err) == (printed, b"")


def test_a_name_that_is_no_text_is_printed_too() -> None:
    out, err = program("print('a\\udcff')").communicate()
    assert (out.strip(), err) == (b"a?", b"")


def test_an_error_is_spelt_too() -> None:
    running = program("(_ for _ in ()).throw(ValueError('✗ 猫'))", "ascii")
    assert running.communicate()[1].strip() == b"error: x ?"
    assert running.returncode == 2


@pytest.mark.skipif(os.name != "posix", reason="asks what POSIX pipes do")
@pytest.mark.parametrize("length", [10, 100_000])
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_reader_that_has_gone_ends_it_in_silence(length: int, stream: str) -> None:
    read, write = os.pipe()
    os.close(read)
    running = program(f"print('x' * {length}, file=__import__('sys').{stream})", **{stream: write})
    os.close(write)
    out, err = running.communicate()
    assert not out
    assert not err
    assert running.returncode == 141


def test_a_broken_pipe_of_something_else_is_said() -> None:
    running = program("(_ for _ in ()).throw(BrokenPipeError(32, 'Broken pipe'))")
    assert b"error: [Errno 32] Broken pipe" in running.communicate()[1]
    assert running.returncode == 2


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no full device here")
def test_a_full_disk_is_said() -> None:
    with open("/dev/full", "wb") as full:
        running = program("print('x')", stdout=full)
        assert b"No space left on device" in running.communicate()[1]
        assert running.returncode == 2


def test_of_several_processes_the_first_speaks_and_another_says_what_it_alone_knows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)

    def command() -> None:
        print("words")
        print("more", file=sys.stderr)
        warnings.warn("of all", UserWarning, stacklevel=1)
        warnings.warn("of one", OwnWarning, stacklevel=1)
        raise ValueError("what")

    for rank, said in (("1", ["warning: of one"]), ("0", ["more", "warning: of all", "warning: of one"])):
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setenv("RANK", rank)
        with pytest.raises(SystemExit) as stop:
            guarded(command)
        assert stop.value.code == 2
        out, err = capsys.readouterr()
        assert err.splitlines() == [*said, "error: what"]
        assert out.split() == (["words"] if rank == "0" else [])
        assert slept == [PATIENCE]  # the first waits for nobody
