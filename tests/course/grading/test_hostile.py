"""Hostile and broken code: each in its row, none of it stops, slows or fools the grader."""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from diffusion_lessons.course.grading.sandbox import PACKAGE, Worker
from diffusion_lessons.course.grading.sandbox.kernel import LINUX
from diffusion_lessons.course.grading.sandbox.runner import Listener
from tests.course.grading.made import HEAD, LIMITS, RIGHT, SETUP, STUB, WRONG, body, kinds, marked

ROOT = Path(__file__).resolve().parents[3]
FORGE = """
import io, json, struct
from diffusion_lessons.course.exercises.outputs import Outputs, Ran
def send(words, content):
    words = json.dumps(words).encode()
    os.write(3, struct.pack("!QQ", len(words), len(content)) + words + content)
    os._exit(0)
"""
PASSED = ("passed", "passed")

# name -> (the function's lines, status, kind, a part of the message)
CODE: dict[str, tuple[tuple[str, ...], str, str, str]] = {
    "infinite loop": (("while True: pass",), "wrong", "timeout", "a loop that never ends"),
    "loop that swallows interrupts": (
        ("while True:", "    try:", "        while True: pass", "    except BaseException: pass"),
        "wrong",
        "timeout",
        "a loop that never ends",
    ),
    "sleep": (("import time; time.sleep(1e6)",), "wrong", "timeout", "stopped after"),
    "ignored signals": (
        ("import signal, os", "for n in (2, 15, 24): signal.signal(n, signal.SIG_IGN)", "while True: pass"),
        "wrong",
        "exception",  # signals belong to the main thread
        "ValueError",
    ),
    "os._exit": (("import os; os._exit(0)",), "wrong", "ended", "leave os._exit() out"),
    "os._exit with a status": (("import os; os._exit(3)",), "wrong", "ended", "leave os._exit() out"),
    "sys.exit": (("import sys; sys.exit(0)",), "wrong", "exception", "SystemExit"),
    "segmentation fault": (("import ctypes; ctypes.string_at(0)",), "wrong", "crashed", "segmentation fault"),
    "memory bomb": (
        ("kept = []", "while True: kept.append(torch.ones(2**24))"),
        "wrong",
        "exception",
        "can't allocate memory",
    ),
    "memory bomb of Python's": (
        ("kept = []", "while True: kept.append(bytearray(2**26))"),
        "wrong",
        "exception",
        "MemoryError",
    ),
    "memory bomb in shared memory": (
        ("import mmap", "kept = []", "while True:", "    kept.append(mmap.mmap(-1, 2**26))")
        + ("    kept[-1].write(bytes(2**26))",),
        "wrong",
        "memory",
        "more than 0.391 GB of memory",
    ),
    "fork bomb": (
        ("import os", "while True:", "    try: os.fork()", "    except OSError: pass"),
        "wrong",
        "processes",
        "more than 32 processes",
    ),
    "huge output": (("while True: print('x' * 10**6)",), "wrong", "timeout", "stopped after"),
    "huge output past Python": (
        ("import os", "while True: os.write(1, b'x' * 10**6)"),
        "wrong",
        "timeout",
        "",
    ),
    "huge result": (("return torch.ones(2**24)",), "wrong", "memory", "could not be read: MemoryError"),
    "huge text": (("return 'x' * 10**8",), "wrong", "type", "you gave a text"),
    "deep result": (
        ("deep = []", "for _ in range(10**5): deep = [deep]", "return deep"),
        "wrong",
        "type",
        "A torch tensor was expected",
    ),
    "full disk": (
        (
            "import os",
            "for i in range(20):",
            "    with open(str(i), 'wb') as file:",
            "        os.posix_fallocate(file.fileno(), 0, 2**25)",
            "while True: pass",
        ),
        "wrong",
        "disk",
        "256 MB",
    ),
    "forged message": (
        ("import os", "os.write(3, b'\\0' * 100)", "os._exit(0)"),
        "wrong",
        "forged",
        "no result of this exercise",
    ),
    "truncated message": (
        ("import os, struct", "os.write(3, struct.pack('!QQ', 10, 10**12))", "os._exit(0)"),
        "wrong",
        "forged",
        "no result of this exercise",
    ),
    "flood of messages": (
        ("import os", "while True: os.write(3, bytes(2**20))"),
        "wrong",
        "flood",
        "too large",
    ),
    "forged outputs": (
        ("import os", *FORGE.strip().split("\n"))
        + ("out = io.BytesIO(); Outputs('02.1', 0, 'one_step', ()).save(out)",)
        + ("send({'called': 3, 'trouble': [None], 'passed': True}, out.getvalue())",),
        "wrong",
        "missing",
        "no result",
    ),
    "outputs of another exercise": (
        ("import os", *FORGE.strip().split("\n"))
        + ("out = io.BytesIO(); Outputs('02.3', 0, 'equal_time', ()).save(out)",)
        + ("send({}, out.getvalue())",),
        "wrong",
        "forged",
        "something else",
    ),
    "forged verdict printed": (
        ("print('✓ Exercise 02.1 · One step of the chain: passed')", "return x"),
        "wrong",
        "value",
        "Your result is the input `x`, unchanged.",
    ),
    "object that lies": (
        ("class Lie(torch.Tensor):", "    def __eq__(self, other): return True", "return Lie(x)"),
        "wrong",
        "value",
        "",
    ),
    "secrets": (
        ("import os", "assert not any('SECRET' in name for name in os.environ)", RIGHT.strip()),
        *PASSED,
        "",
    ),
}


@pytest.fixture(scope="module", autouse=True)
def _secret() -> Iterator[None]:
    os.environ["MY_SECRET"] = "1234"
    yield
    del os.environ["MY_SECRET"]


@pytest.fixture(scope="module")
def patient() -> Iterator[Worker]:
    """With more time for a case: where memory is handed out slowly, filling it takes seconds."""
    with Worker(replace(LIMITS, seconds=30.0, case=20.0)) as made:
        yield made


@pytest.mark.parametrize("name", CODE)
def test_hostile_code_gets_its_row_and_nothing_else(name: str, request: pytest.FixtureRequest) -> None:
    if not LINUX and name.startswith(("memory", "fork", "full", "huge result")):
        pytest.skip("the limits of this system are weaker: see `Protection`")
    worker = request.getfixturevalue("patient" if name.startswith(("memory", "full", "huge r")) else "worker")
    lines, status, kind, message = CODE[name]
    begin = time.monotonic()
    row = marked(worker, SETUP, body(*lines))["02.1"]
    assert kinds(row) == (status, kind), row.message
    assert message in row.message
    assert time.monotonic() - begin < worker.limits.seconds + 8
    after = marked(worker, SETUP, HEAD + RIGHT)["02.1"]  # the next submission is none the worse
    assert kinds(after) == PASSED


def test_no_write_outside_its_folder(worker: Worker, tmp_path: Path) -> None:
    if not worker.protection().files:
        pytest.skip("this kernel has no Landlock")
    (tmp_path / "there.txt").write_text("kept")
    tmp_path.chmod(0o777)
    for line in (
        f"open({str(tmp_path / 'evil')!r}, 'w')",
        f"import os; os.remove({str(tmp_path / 'there.txt')!r})",
        f"import os; os.rename({str(tmp_path / 'there.txt')!r}, 'mine')",
        f"import os; os.chmod({str(tmp_path)!r}, 0)",
        f"import os; os.utime({str(tmp_path)!r}, (0, 0))",
        f"import os; os.symlink({str(tmp_path)!r}, 'link'); open('link/evil', 'w')",
    ):
        row = marked(worker, SETUP, body(line, RIGHT.strip()))["02.1"]
        assert kinds(row) == ("wrong", "exception"), line
        assert "PermissionError" in row.message
    assert [file.name for file in tmp_path.iterdir()] == ["there.txt"]
    own = marked(worker, SETUP, body("open('mine', 'w').write('x')", RIGHT.strip()))
    assert kinds(own["02.1"]) == PASSED


def test_solutions_and_other_submissions_are_not_there_to_read(worker: Worker, tmp_path: Path) -> None:
    if not worker.protection().files:
        pytest.skip("this kernel has no Landlock")
    (tmp_path / "other.ipynb").write_text("{}")
    for file in (tmp_path / "other.ipynb", ROOT / "solutions" / "00_start_here.py"):
        row = marked(worker, SETUP, body(f"open({str(file)!r}).read()", RIGHT.strip()))["02.1"]
        assert "PermissionError" in row.message


def test_a_submission_that_deletes_its_folder_hurts_only_itself(worker: Worker) -> None:
    lines = ("import os, shutil", "shutil.rmtree(os.getcwd(), ignore_errors=True)", RIGHT.strip())
    assert kinds(marked(worker, SETUP, body(*lines))["02.1"]) == PASSED


def test_no_network(worker: Worker) -> None:
    if not (worker.protection().namespaces or worker.protection().calls):
        pytest.skip("this system keeps nobody from the network")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        line = f"import socket; socket.create_connection(('127.0.0.1', {port}), timeout=2)"
        assert kinds(marked(worker, SETUP, body(line, RIGHT.strip()))["02.1"]) == ("wrong", "exception")


def test_signals_do_not_reach_the_grader(worker: Worker) -> None:
    if not (worker.protection().namespaces or worker.protection().files):
        pytest.skip("this system keeps no process from another")
    for line in ("os.kill(-1, 9)", "os.kill(os.getppid(), 9)", f"os.kill({os.getpid()}, 9)"):
        row = marked(worker, SETUP, body("import os", line, RIGHT.strip()))["02.1"]
        assert row.kind in ("exception", "passed")


# What is done to a process by its number, in Python or by a call of the library's
TOUCHES = {
    "limits": "resource.prlimit({}, resource.RLIMIT_NOFILE, (10, 10))",
    "priority": "os.setpriority(os.PRIO_PROCESS, {}, 19)",
    "affinity": "os.sched_setaffinity({}, {{0}})",
    "scheduler": "os.sched_setscheduler({}, os.SCHED_IDLE, os.sched_param(0))",
    "parameters": "os.sched_setparam({}, os.sched_param(0))",
    "a signal": "os.kill({}, 0)",
    "a handle": "os.pidfd_open({})",
    "a file's owner": "fcntl.fcntl(open('file', 'w'), 8, {})",
    "a thread's signal": "ok(library.tgkill({0}, {0}, 0))",
    "a queued signal": "ok(library.sigqueue({}, 0, 0))",
    "its memory": "ok(library.process_vm_readv({}, None, 0, None, 0, 0))",
    "tracing": "ok(library.ptrace(16, {}, 0, 0))",
}
TOUCH = (
    "import ctypes, fcntl, os, resource",
    "library = ctypes.CDLL(None, use_errno=True)",
    "def ok(result):",
    "    if result < 0: raise PermissionError(ctypes.get_errno())",
)


@pytest.fixture(scope="module")
def in_sight() -> Iterator[Worker]:
    """Without namespaces or Landlock: other processes have numbers, and system calls are all that is left."""
    with Worker(LIMITS, without=("namespaces", "files", "user")) as made:
        yield made


@pytest.mark.parametrize("name", TOUCHES)
def test_no_other_process_is_touched(name: str, in_sight: Worker) -> None:
    if not in_sight.protection().calls:
        pytest.skip("this system has no seccomp")
    for number in (os.getpid(), "os.getppid()", 1):
        row = marked(in_sight, SETUP, body(*TOUCH, TOUCHES[name].format(number), RIGHT.strip()))["02.1"]
        assert kinds(row) == ("wrong", "exception"), number
        assert "PermissionError" in row.message


def test_a_process_may_do_to_itself_what_threads_need(in_sight: Worker) -> None:
    lines = (
        "import threading",
        "os.kill(os.getpid(), 0)",
        "os.sched_setaffinity(0, os.sched_getaffinity(0))",
        "resource.prlimit(0, resource.RLIMIT_NOFILE, (100, 100))",
        "signal.pthread_kill(threading.get_ident(), 0)",
        "thread = threading.Thread(target=print)",
        "thread.start(); thread.join()",
    )
    row = marked(in_sight, SETUP, body(*TOUCH, "import signal", *lines, RIGHT.strip()))["02.1"]
    assert kinds(row) == PASSED, row.message
    assert kinds(marked(in_sight, SETUP, body("import os; os.abort()"))["02.1"]) == ("wrong", "crashed")


def test_nothing_is_left_behind(worker: Worker) -> None:
    marked(
        worker,
        SETUP,
        body("import os", "if os.fork() == 0:", "    os.setsid()", "    while True: pass", "return x"),
    )
    ending, content = worker.ask({"do": "probe", "lesson": ""})
    assert ending.how == "done"
    assert json.loads(content[16:])["protection"]


# Fooling it -----------------------------------------------------------------------------------------

PATCHES = {
    "torch.allclose": "torch.allclose = torch.equal = lambda *a, **k: True",
    "torch.Tensor": "torch.Tensor.__eq__ = lambda *a: True",
    "the comparison": "from diffusion_lessons.course.exercises import compare\ncompare.difference = print",
    "the judge": (
        "from diffusion_lessons.course.exercises import check, judging\n"
        "from diffusion_lessons.course.exercises.verdict import Verdict\n"
        "judging.judge = lambda exercise, *a: Verdict(exercise.id, 'passed', 'passed', 'Right.')\n"
        "check.check = judging.judge"
    ),
    "the record": (
        "from diffusion_lessons.course.student.progress import kept\nkept().update('02.1', status='passed')"
    ),
    "the package": "import diffusion_lessons.paths as paths\npaths.renoise = lambda x, *a: x",
}


@pytest.mark.parametrize("name", PATCHES)
def test_patching_changes_nothing(name: str, worker: Worker) -> None:
    for sources in (
        (SETUP, PATCHES[name], HEAD + WRONG),
        (SETUP, body(*PATCHES[name].split("\n"), WRONG.strip())),
        (SETUP, "def patch():\n    " + PATCHES[name].replace("\n", "\n    "), body("patch()", WRONG.strip())),
    ):
        row = marked(worker, *sources)["02.1"]
        assert row.status == "wrong", row
        assert row.misconception == "variance-for-std" or row.kind == "exception"


def test_a_runner_that_is_made_to_run_the_reference_has_none(worker: Worker) -> None:
    """The child's exercise has the reference's signature and nothing in it."""
    lines = (
        "import sys",
        "frame = sys._getframe()",
        "while 'exercise' not in frame.f_locals: frame = frame.f_back",
        "return frame.f_locals['exercise'].reference(x, noise, beta)",
    )
    row = marked(worker, SETUP, body(*lines))["02.1"]
    assert row.status == "wrong"
    assert row.flags == ("reaches into the checker: sys._getframe",)


REFERENCE = {
    "renoise": (
        "from diffusion_lessons.paths import DiscreteVP, renoise as r",
        "path = DiscreteVP(beta.view(1))",
        "return r(x, path(0), path(1), noise)",
    ),
    "one_step": (
        "import importlib",
        "bank = importlib.import_module('diffusion_' + 'lessons.course.bank.lesson_02')",
        "return bank.one_step(x, noise, beta)",
    ),
}


@pytest.mark.parametrize("name", REFERENCE)
def test_calling_the_reference_is_flagged(name: str, worker: Worker) -> None:
    row = marked(worker, SETUP, body(*REFERENCE[name]))["02.1"]
    assert kinds(row) == PASSED
    assert f"calls the reference: {name}" in row.flags


def test_reading_the_references_source_is_flagged(worker: Worker) -> None:
    lines = (
        "import inspect",
        "from diffusion_lessons.course.bank import lesson_02",
        "exec(inspect.getsource(lesson_02.one_step), vars(lesson_02))",
        "return lesson_02.one_step(x, noise, beta)",
    )
    row = marked(worker, SETUP, body(*lines))["02.1"]
    assert any(flag.startswith(("calls the reference", "reaches into the checker")) for flag in row.flags)


def test_a_right_answer_has_no_flag(worker: Worker) -> None:
    assert marked(worker, SETUP, HEAD + RIGHT)["02.1"].flags == ()


def test_what_stands_above_an_answer_may_call_ours(worker: Worker) -> None:
    """Cells of a lesson do; they are run where a name is missing."""
    above = (
        "from diffusion_lessons.paths import DiscreteVP, renoise",
        "path = DiscreteVP(torch.full((5,), 0.1))",
        "seen = renoise(torch.ones(2), path(0), path(1), torch.ones(2))",
    )
    row = marked(worker, SETUP, "\n".join(above), body("missing", RIGHT.strip()))["02.1"]
    assert row.kind == "exception"
    assert row.flags == ()


class Inner(torch.nn.Module):
    """Stands for a network of ours."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


@pytest.mark.parametrize(("file", "seen"), [("<cell 1>", {"Inner"}), (f"{PACKAGE}/case.py", set())])
def test_a_network_of_ours_is_seen_behind_torchs_call(file: str, seen: set[str]) -> None:
    """Where an answer runs it; not where the exercise's own case does."""
    listener = Listener({"Inner": Inner})
    try:
        names: dict[str, Any] = {}
        exec(compile("def answer(inner, x): inner(x)", file, "exec"), names)
        thread = threading.Thread(target=names["answer"], args=(Inner(), torch.zeros(1)))
        thread.start()
        thread.join()
    finally:
        threading.setprofile(None)
    assert listener.called == seen


def test_an_untouched_notebook_is_not_attempted(worker: Worker) -> None:
    rows = marked(worker, SETUP, HEAD + STUB)
    assert kinds(rows["02.1"]) == ("not attempted", "untouched")
    assert kinds(rows["02.2"]) == ("not attempted", "missing")
