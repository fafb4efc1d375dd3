"""`make gpu`: parts in order of worth, each done once, cut by the clock, with a log."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from diffusion_lessons import experiments
from diffusion_lessons.makers.build import BUILDERS
from tests.benchmarks import gpu
from tests.benchmarks import run as bench
from tests.benchmarks.gpu import Part


def python(name: str, code: str, seconds: float = 60) -> Part:
    return Part(name, seconds, ("-c", code))


def states(todo: list[Part], out: Path, seconds: float = 100) -> dict[str, str]:
    return gpu.run(todo, out, time.monotonic() + seconds, say=lambda line: None)


def test_a_part_that_is_done_is_not_done_again(tmp_path: Path) -> None:
    counted = f"open({str(tmp_path / 'counted')!r}, 'a').write('x'); print('hello')"
    todo = [python("first", counted), python("broken", "raise SystemExit(7)"), python("last", "")]
    ended = states(todo, tmp_path / "out")
    assert (ended["first"], ended["last"]) == ("done", "done")
    assert ended["broken"].startswith("failed (7): ")
    assert (tmp_path / "out" / "first.log").read_text() == "hello\n"
    again = states(todo, tmp_path / "out")
    assert (again["first"], again["last"]) == ("done before", "done before")
    assert again["broken"].startswith("failed")
    assert (tmp_path / "counted").read_text() == "x"


def test_the_clock_cuts_a_part_which_may_save_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = tmp_path / "saved"
    code = (
        "import time, pathlib\n"
        "try:\n    time.sleep(60)\n"
        f"except KeyboardInterrupt:\n    pathlib.Path({str(saved)!r}).touch()\n"
    )
    ended = states([python("long", code, seconds=4), python("next", "")], tmp_path / "out")
    assert ended == {"long": "stopped by the clock", "next": "done"}
    assert saved.exists()
    assert not (tmp_path / "out" / "long.done").exists()
    monkeypatch.setattr(gpu, "LAST_WORDS", 0.5)
    stubborn = "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\ntime.sleep(60)"
    started = time.monotonic()
    ended = states([python("stubborn", stubborn, seconds=3)], tmp_path / "out")
    assert ended == {"stubborn": "stopped by the clock"}
    assert time.monotonic() - started < 20


def test_what_does_not_fit_is_not_begun(tmp_path: Path) -> None:
    assert states([python("late", "")], tmp_path, seconds=gpu.LAST_WORDS + 1) == {"late": "no time"}


def test_every_part_names_what_exists(tmp_path: Path) -> None:
    todo = gpu.parts("some-gpu", tmp_path)
    assert todo[0].name == "tests"
    assert len({part.name for part in todo}) == len(todo)
    assert set(gpu.BENCHES) == set(bench.NAMES)
    assert set(gpu.EXPERIMENTS) <= set(experiments.names())
    assert set(gpu.RECIPES) <= set(BUILDERS)


def test_missing_packages_come_from_a_folder_of_wheels(tmp_path: Path) -> None:
    for name in ("torch-9-py3-none-any.whl", "numpy-9-py3-none-any.whl", "not_there_yet-1-py3-none-any.whl"):
        (tmp_path / name).touch()
    assert gpu.missing_wheels(tmp_path) == ["not-there-yet"]
    assert gpu.missing() == []  # the tests run where all is installed
    with pytest.raises(ValueError, match="no folder of wheels"):
        gpu.install(tmp_path / "packages", tmp_path / "nowhere")


def test_without_a_gpu_one_line_says_so(tmp_path: Path) -> None:
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "tests.benchmarks.gpu", "--out", str(tmp_path / "out")]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=gpu.ROOT, timeout=120)
    assert run.returncode == 2
    assert run.stderr.startswith("error: PyTorch sees no CUDA device here")
    assert len(run.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()
