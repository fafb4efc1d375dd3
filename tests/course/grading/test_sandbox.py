"""What holds where a system has less, and that the messages of a hostile process harm nobody."""

import io
import json
import signal
import struct
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from diffusion_lessons.course.exercises.outputs import Outputs, Ran
from diffusion_lessons.course.grading.sandbox import Ending, Limits, Protection, Worker, kernel, watch
from diffusion_lessons.course.grading.sandbox.kernel import LINUX
from diffusion_lessons.course.grading.sandbox.protocol import Message, Unreadable, read, read_outputs, unpack
from diffusion_lessons.course.grading.sandbox.workers import environment
from tests.course.grading.made import HEAD, RIGHT, SETUP, body, kinds, marked

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
        numbers = [each[column] for each in kernel.REFUSED.values() if each[column] is not None]
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
    stream = io.BytesIO(message.packed() * 2)
    assert [read(stream), read(stream), read(stream)] == [message, message, None]
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


def test_an_array_that_claims_to_be_large_is_unreadable() -> None:
    header = array(np.zeros(1)).replace(b"(1,)", b"(1" + b"0" * 9 + b",)", 1)
    with pytest.raises(Unreadable):
        read_outputs(archive(zipfile.ZIP_STORED, record=header))


def test_texts_are_cut() -> None:
    ran = Ran("c", 1.0, printed="x" * 10**5, mutated=("y" * 10**4,) * 100)
    buffer = io.BytesIO()
    Outputs("02.1", 0, "n" * 10**4, (ran,) * 200).save(buffer)
    found = read_outputs(buffer.getvalue())
    assert (len(found.name), len(found.cases)) == (100, 100)
    assert (len(found.cases[0].printed), len(found.cases[0].mutated)) == (4000, 20)
