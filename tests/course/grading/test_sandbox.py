"""What holds where a system has less, and that the messages of a hostile process harm nobody."""

import io
import json
import signal
import struct
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from diffusion_lessons.__main__ import main
from diffusion_lessons.course import bank
from diffusion_lessons.course.exercises.outputs import Outputs, Ran
from diffusion_lessons.course.exercises.values import Array
from diffusion_lessons.course.grading import check as checking
from diffusion_lessons.course.grading import marking
from diffusion_lessons.course.grading.code.plan import plan
from diffusion_lessons.course.grading.marking import mark
from diffusion_lessons.course.grading.marks.store import Store
from diffusion_lessons.course.grading.sandbox import (
    Ending,
    Limits,
    Protection,
    Worker,
    kernel,
    namespaces,
    watch,
    workers,
)
from diffusion_lessons.course.grading.sandbox.kernel import LINUX
from diffusion_lessons.course.grading.sandbox.protocol import (
    Message,
    TooLarge,
    Unreadable,
    read_outputs,
    unpack,
)
from diffusion_lessons.course.grading.sandbox.workers import environment
from tests.course.grading.made import HEAD, RIGHT, SETUP, body, kinds, marked, notebook, write

SMALL = Limits(seconds=6.0, memory=400 * 2**20, case=0.5)
LESS = [("namespaces",), ("namespaces", "user"), ("namespaces", "files", "calls", "user")]


@pytest.mark.skipif(not LINUX, reason="of Linux's parts")
@pytest.mark.parametrize("without", LESS, ids=" ".join)
def test_with_less_protection_verdicts_and_limits_hold_all_the_same(without: tuple[str, ...]) -> None:
    with Worker(SMALL, without=without) as worker:
        has = worker.protection()
        assert not any(getattr(has, name) for name in without)
        assert any(line.startswith("NOT here: ") for line in has.lines())
        for lines, expected in (
            ((RIGHT.strip(),), {("passed", "passed")}),
            (("while True: pass",), {("wrong", "timeout")}),
            (("import ctypes; ctypes.string_at(0)",), {("wrong", "crashed")}),
            (
                ("import os", "if os.fork() == 0:", "    os.setsid()", "    while True: pass", RIGHT.strip()),
                {("passed", "passed"), ("wrong", "forged")},  # both processes answer
            ),
        ):
            assert kinds(marked(worker, SETUP, body(*lines))["02.1"]) in expected
        assert worker.server is not None
        left = Path(f"/proc/{worker.server.pid}/task/{worker.server.pid}/children").read_text()
        assert left.strip() == ""


def test_where_nothing_can_be_forked() -> None:
    """As on Windows and macOS: a new process for each run."""
    with Worker(Limits(20.0, 2**30, 0.5), fork=False) as worker:
        rows = marked(worker, SETUP, HEAD + RIGHT)
        assert kinds(rows["02.1"]) == ("passed", "passed")
        assert kinds(marked(worker, SETUP, body("import os; os._exit(3)"))["02.1"]) == ("wrong", "ended")


@pytest.mark.skipif(not LINUX, reason="of Linux's limits")
def test_a_fork_bomb_takes_nothing_from_a_submission_beside_it() -> None:
    bomb = body("import os", "while True:", "    try: os.fork()", "    except OSError: pass")
    with Worker(SMALL) as one, Worker(SMALL) as other, ThreadPoolExecutor(1) as pool:
        started = pool.submit(marked, one, SETUP, bomb)
        beside = [kinds(marked(other, SETUP, HEAD + RIGHT)["02.1"])]
        while not started.done():
            beside.append(kinds(marked(other, SETUP, HEAD + RIGHT)["02.1"]))
        assert set(beside) == {("passed", "passed")}
        assert started.result()["02.1"].status == "wrong"


def test_protection_says_what_holds_and_what_does_not() -> None:
    assert (
        not [line for line in Protection(True, True, True, True, True).lines() if "NOT" in line] or not LINUX
    )
    assert all(line.startswith("NOT here: ") for line in Protection().lines())


def test_the_environment_holds_nothing_of_the_instructors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("HOME", "/home/instructor")
    assert not {"AWS_SECRET_ACCESS_KEY", "HOME"} & environment().keys()


def test_the_table_of_calls_has_each_number_once() -> None:
    for column in (0, 1):
        table = [*kernel.REFUSED.values(), *kernel.ON_ITSELF.values()]
        numbers = [each[column] for each in table if each[column] is not None]
        assert len(numbers) == len(set(numbers))


def test_a_server_that_is_lost_is_started_again() -> None:
    with Worker(SMALL) as worker:
        assert worker.ask({"do": "probe", "lesson": ""})[0] == Ending("done")
        assert worker.server is not None
        worker.server.kill()
        worker.server.wait()
        assert worker.ask({"do": "probe", "lesson": ""})[0] == Ending("done")
        worker.close()
        assert worker.ask({"do": "probe", "lesson": ""})[0] == Ending("server")


def test_a_good_end_is_done_where_cpu_time_has_no_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows."""
    monkeypatch.delattr(signal, "SIGXCPU", raising=False)
    assert [watch.ended(code, 5) for code in (0, 3)] == [Ending("done"), Ending("exit", 3)]


# Where namespaces are half there ---------------------------------------------------------------------

REFUSING = """
import sys
from diffusion_lessons.course.grading.sandbox import kernel, namespaces, server
def unshare(flags):
    if not flags & kernel.NEW_USER: raise PermissionError(1, "Operation not permitted")
def refuse(file, text): raise PermissionError(1, "Operation not permitted", file)
kernel.unshare, namespaces._tell_kernel = unshare, refuse
server.serve(sys.argv[2:])
"""


def _refuse(*arguments: object) -> None:
    raise PermissionError(1, "Operation not permitted")


@pytest.mark.skipif(not LINUX, reason="of Linux's parts")
@pytest.mark.parametrize("step", ["", "unshare", "_tell_kernel", "_own", "rejoin_processes"])
def test_namespaces_are_entered_only_where_each_step_works(
    step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under Ubuntu's AppArmor: the first step works and the map of users is refused."""
    steps = {"unshare": kernel, "rejoin_processes": kernel, "_tell_kernel": namespaces}
    for name, module in steps.items():
        monkeypatch.setattr(module, name, lambda *arguments: None)
    monkeypatch.setattr(namespaces.os, "geteuid", lambda: 1000)
    assert namespaces.work()
    if step:
        monkeypatch.setattr(steps.get(step, namespaces), step, _refuse)
        assert not namespaces.work()
        assert namespaces.enter() is None


@pytest.mark.skipif(not LINUX, reason="of Linux's parts")
def test_a_refused_map_of_users_costs_the_namespaces_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "refusing.py").write_text(REFUSING)
    own = environment()
    path = f"{own['PYTHONPATH']}:{tmp_path}"
    monkeypatch.setattr(workers, "environment", lambda: own | {"PYTHONPATH": path})
    monkeypatch.setattr(workers, "MODULE", "refusing")
    with Worker(SMALL) as worker:
        has = worker.protection()
        assert not has.namespaces
        assert "NOT here: the processes of a submission" in "\n".join(has.lines())
        assert kinds(marked(worker, SETUP, HEAD + RIGHT)["02.1"]) == ("passed", "passed")


def test_where_no_server_starts_nothing_is_said_of_the_notebook(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(workers, "MODULE", "no_such_module")
    with pytest.raises(SystemExit) as caught:
        main(["check", str(write(tmp_path / "02_forward_process.ipynb", SETUP, HEAD + RIGHT))])
    assert caught.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "can not be run here" in said.err


class Acting:
    """A worker that reads the code itself, and answers each request to run as it is told."""

    def __init__(self, ending: Ending, plans: tuple[Ending, ...] = ()) -> None:
        self.limits, self.ending, self.plans, self.asked = SMALL, ending, list(plans), []

    def ask(self, request: dict[str, Any]) -> tuple[Ending, bytes]:
        self.asked.append(request)
        if request["do"] != "plan":
            return self.ending, b""
        if self.plans:
            return self.plans.pop(0), b""
        return Ending("done"), Message(plan(request["cells"], bank.exercises("02"))).packed()


def test_a_server_that_is_lost_is_nobodys_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = mark(notebook(SETUP, HEAD + RIGHT), "02", Acting(Ending("server")))
    assert kinds(rows[0]) == ("not attempted", "grader")
    assert kinds(rows[1]) == ("not attempted", "missing")
    Store(tmp_path, 0, SMALL).keep("digest", "02", rows)
    assert Store(tmp_path, 0, SMALL).rows("digest", "02") is None  # run again the next time
    monkeypatch.setattr(checking, "mark", lambda *arguments: rows)
    with pytest.raises(OSError, match=r"02.1 of .*: submissions can not be run here"):
        checking.check(write(tmp_path / "02_forward_process.ipynb", SETUP, HEAD + RIGHT))


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        ("timeout", "timeout"),
        ("memory", "memory"),
        ("signal", "crashed"),
        ("exit", "flood"),
        ("done", "flood"),
    ],
)
def test_code_that_is_not_read_has_the_kind_of_what_ended_it(how: str, kind: str) -> None:
    rows = mark(notebook(SETUP, HEAD + RIGHT), "02", Acting(Ending("done"), (Ending(how, 11),)))
    assert {kinds(row) for row in rows} == {("wrong", kind)}
    assert "could not be read" in rows[0].message
    assert rows[0].limited == (kind in ("timeout", "memory"))


def test_one_long_cell_costs_itself_where_the_code_is_not_read() -> None:
    long = "x = 1\n" * 5_000
    marked_too = f"{long}\n{HEAD.replace('02.1', '02.3')}{RIGHT}"
    acting = Acting(Ending("exit"), (Ending("signal", 11),))
    rows = mark(notebook(SETUP, long, HEAD + RIGHT, marked_too), "02", acting)
    assert [kinds(rows[i]) for i in (0, 2)] == [("wrong", "ended"), ("not attempted", "missing")]
    assert rows[2].message == "Cell 4 holds this exercise and is too long to read."
    assert rows[2].cell == 3


def test_a_notebook_is_bounded_before_it_is_sent() -> None:
    acting = Acting(Ending("exit"))
    rows = mark(notebook(*[" \n"] * 5_000, HEAD + RIGHT), "02", acting)
    assert len(acting.asked[0]["cells"]) == 1
    assert rows[0].cell == 5_000
    acting = Acting(Ending("exit"))
    rows = mark(notebook(HEAD + RIGHT, *["x = 1\n" * 3_000] * 250), "02", acting)
    assert not acting.asked
    assert {row.kind for row in rows} == {"flood"}


def test_a_submission_has_a_time_for_all_of_its_exercises(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10**6, 5))  # every look at it takes five seconds; there are four times six
    monkeypatch.setattr(marking, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    answers = [HEAD.replace("02.1", each.id) + RIGHT for each in bank.exercises("02") for _ in range(9)]
    acting = Acting(Ending("timeout"))
    rows = mark(notebook(SETUP, *answers), "02", acting)
    assert {kinds(row) for row in rows} == {("wrong", "timeout")}
    assert len(acting.asked) == 1 + 4
    monkeypatch.setattr(marking, "time", SimpleNamespace(monotonic=lambda: next(clock) * 10))
    last = mark(notebook(SETUP, *answers), "02", Acting(Ending("timeout")))[-1]
    assert "had used up the 24 s" in last.message
    assert last.limited


# What one submission leaves ---------------------------------------------------------------------------

SCAN = """
import re
found = set()
with open("/proc/self/mem", "rb", 0) as memory:
    for line in open("/proc/self/maps"):
        first, last = (int(each, 16) for each in line.split()[0].split("-"))
        if "rw" in line.split()[1] and last - first < 2**28:
            memory.seek(first)
            try: found |= set(re.findall(rb"MARK[0-9]{12}", memory.read(last - first)))
            except OSError: pass
assert not found, found
"""


@pytest.mark.skipif(not LINUX, reason="of Linux's parts")
def test_a_submission_finds_nothing_of_another_in_its_memory() -> None:
    """Neither what was asked nor what was sent back; where it may read its own memory, to be sure."""
    with Worker(Limits(30.0, 2**30, 20.0), without=("files", "calls", "user")) as worker:
        sent = body("return 'MA' + 'RK' + '7' * 12", *(f"# MARK{i:012}" for i in range(2_000)))
        for _ in range(3):
            assert kinds(marked(worker, SETUP, sent)["02.1"]) == ("wrong", "type")
        row = marked(worker, SETUP, body(*SCAN.strip().split("\n"), RIGHT.strip()))["02.1"]
        assert kinds(row) == ("passed", "passed"), row.message[:300]


# Folders --------------------------------------------------------------------------------------------


@pytest.mark.skipif(not LINUX, reason="of POSIX's rights")
def test_a_folder_goes_however_it_was_left(tmp_path: Path) -> None:
    deep = tmp_path / "deep"
    deep.mkdir()
    at = deep
    for _ in range(40):
        at = at / ("x" * 40)
        at.mkdir()
    (at / "file").touch()
    (deep / "closed").mkdir(mode=0)
    watch.remove(deep)
    assert not deep.exists()
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    (tmp_path / "link").symlink_to(kept)
    watch.remove(tmp_path / "link")
    assert [file.name for file in tmp_path.rglob("*")] == ["kept", "file"]
    watch.remove(tmp_path / "gone")


# Messages -------------------------------------------------------------------------------------------


def outputs(value: object = None) -> bytes:
    buffer = io.BytesIO()
    Outputs("02.1", 0, "one_step", (Ran("case", value),)).save(buffer)
    return buffer.getvalue()


def test_messages_come_back_as_they_were_sent() -> None:
    message = Message({"a": [1, "β"]}, b"\0\1")
    assert unpack(message.packed()) == message
    assert read_outputs(outputs([1, 2.0, "x"])).cases[0].value == [1, 2.0, "x"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 15,
        b"\xff" * 100,
        struct.pack("!QQ", 2, 0) + b"[]",
        struct.pack("!QQ", 4, 0) + b"{{{{",
        struct.pack("!QQ", 10**5, 0) + b"[" * 10**5,
        Message({}, b"x").packed()[:-1],
        Message({}, b"x").packed() + b"y",
        Message({"a": "b" * 5_000_000}).packed(),
        struct.pack("!QQ", 2**63, 2**63) + b"x" * 20,
    ],
)
def test_what_is_no_message_is_unreadable(data: bytes) -> None:
    with pytest.raises(Unreadable):
        unpack(data)


def archive(compression: int, **files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as made:
        for name, data in files.items():
            made.writestr(f"{name}.npy", data)
    return buffer.getvalue()


def array(value: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, value, allow_pickle=True)
    return buffer.getvalue()


def record(value: object) -> bytes:
    words = {"format": 1, "exercise": "02.1", "seed": 0, "name": "", "device": "cpu", "cases": value}
    return array(np.frombuffer(json.dumps(words).encode(), np.uint8))


def case(value: str) -> bytes:
    """A record of one case with this value."""
    return record(json.loads(f'[{{"case": "c", "value": {value}, {REST}}}]'))


def nested(depth: int) -> str:
    return '{"list": [' * depth + "1" + "]}" * depth


REST = '"failure": null, "mutated": [], "repeats": null, "printed": "", "seconds": 0'
NO_ARRAY = '{"array": 7, "shape": [], "about": ["", "", ""]}'


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\x03\x04",
        archive(zipfile.ZIP_DEFLATED, record=bytes(10**6)),
        archive(zipfile.ZIP_STORED, record=array(np.array([{"a": 1}], dtype=object))),
        archive(zipfile.ZIP_STORED, record=record([{"case": 1}])),
        archive(zipfile.ZIP_STORED, record=case(nested(30))),
        archive(zipfile.ZIP_STORED, record=case('{"list": [' + "1," * 20_000 + "1]}")),
        archive(zipfile.ZIP_STORED, record=case(NO_ARRAY)),
        outputs()[:-30],
    ],
)
def test_what_is_no_outputs_is_unreadable(data: bytes) -> None:
    with pytest.raises(Unreadable):
        read_outputs(data)


@pytest.mark.parametrize(
    "data",
    [
        outputs(["x" * 10_000] * 600),
        outputs([Array(np.zeros(1), (1,), "float64", "cpu", "tensor")] * 9_000) + b"PK\x01\x02" * 1_001,
    ],
    ids=["a record", "arrays"],
)
def test_what_costs_too_much_to_read_is_too_large(data: bytes) -> None:
    begin = time.process_time()
    with pytest.raises(TooLarge):
        read_outputs(data)
    assert time.process_time() - begin < 1


def test_large_arrays_keep_their_shapes_alone() -> None:
    small, large = (np.zeros(size, np.uint8) for size in (2**20, 2**21))
    arrays = [Array(each, each.shape, "uint8", "cpu", "tensor") for each in (small, large, small)]
    first, second, third = read_outputs(outputs(arrays)).cases[0].value
    assert first.data is not None
    assert (second.data, second.shape, third.data) == (None, (2**21,), None)


@pytest.mark.parametrize(
    "value",
    [
        [1.0] * 9_990,
        {str(i): 1 for i in range(9_990)},
        "x" * 9_999,
        10**4_000,
        float("nan"),
        [[1.0] * 99] * 90,
        Array(np.full((2,) * 21, np.nan, np.float32), (2,) * 21, "float32", "cpu", "tensor"),
        Array(np.full(2**21, 2**62), (2**21,), "int64", "cpu", "tensor"),
        Array(np.zeros((0, 10**9)), (0, 10**9), "float64", "cpu", "tensor"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_comes_back_is_judged_quickly(value: object) -> None:
    found = read_outputs(outputs(value))
    begin = time.process_time()
    verdict = marking.judged(bank.get("02.1"), found, 0)
    assert verdict.status == "wrong"
    assert time.process_time() - begin < 8
    assert len(verdict.message) < 5_000


def test_an_array_that_claims_to_be_large_is_unreadable() -> None:
    header = array(np.zeros(1)).replace(b"(1,)", b"(1" + b"0" * 9 + b",)", 1)
    with pytest.raises(Unreadable):
        read_outputs(archive(zipfile.ZIP_STORED, record=header))


def test_texts_are_cut() -> None:
    ran = Ran("c", 1.0, printed="x" * 5_000, mutated=("y" * 200,) * 50)
    buffer = io.BytesIO()
    Outputs("02.1", 0, "n" * 10**4, (ran,) * 200).save(buffer)
    found = read_outputs(buffer.getvalue())
    assert (len(found.name), len(found.cases)) == (100, 100)
    assert (len(found.cases[0].printed), len(found.cases[0].mutated)) == (4000, 20)
