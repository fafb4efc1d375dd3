"""`make gpu`: parts in order of worth, each done once, cut by the clock, with a log."""

import os
import subprocess
import sys
import time
from pathlib import Path
from zipfile import ZipFile

import pytest

from diffusion_lessons import experiments
from diffusion_lessons.makers.build import BUILDERS
from tests.benchmarks import gpu
from tests.benchmarks import run as bench
from tests.benchmarks.gpu import Part
from tests.benchmarks.sizes import SIZES


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
    ended = states([python("long", code, seconds=15), python("next", "")], tmp_path / "out")
    assert ended == {"long": "stopped by the clock", "next": "done"}
    assert saved.exists()
    assert not (tmp_path / "out" / "long.done").exists()
    monkeypatch.setattr(gpu, "LAST_WORDS", 0.5)
    stubborn = "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\ntime.sleep(60)"
    started = time.monotonic()
    ended = states([python("stubborn", stubborn, seconds=3)], tmp_path / "out")
    assert ended == {"stubborn": "stopped by the clock"}
    assert time.monotonic() - started < 20


def test_a_part_that_never_fits_its_seconds_keeps_no_other_from_its_turn(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "long.log").parent.mkdir()
    (out / "long.log").touch()  # begun by a call before
    counted = f"open({str(tmp_path / 'order')!r}, 'a').write('{{}} ')"
    states([python(name, counted.format(name)) for name in ("long", "new", "last")], out)
    assert (tmp_path / "order").read_text() == "new last long "


def test_what_does_not_fit_is_not_begun(tmp_path: Path) -> None:
    assert states([python("late", "")], tmp_path, seconds=gpu.LAST_WORDS + 1) == {"late": "no time"}


def test_every_part_names_what_exists(tmp_path: Path) -> None:
    todo = gpu.parts("some-gpu", tmp_path)
    assert todo[0].name == "tests"
    assert len({part.name for part in todo}) == len(todo)
    assert set(gpu.BENCHES) == set(bench.NAMES)
    assert set(gpu.EXPERIMENTS) <= set(experiments.names())
    assert set(gpu.RECIPES) <= set(BUILDERS)
    for _, sizes in gpu.BENCHES.values():
        assert set(sizes) <= set(SIZES)


def test_only_files_with_a_test_for_a_gpu_are_collected() -> None:
    files = gpu.tests_for_a_gpu()
    assert "tests/training/test_loop.py" in files
    assert "tests/test_gpu_script.py" not in files
    for file in files:
        assert gpu.MARK in (gpu.ROOT / file).read_text(encoding="utf-8")


def test_what_is_left_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "_gpu", lambda: "some-gpu")
    monkeypatch.setattr(gpu, "install", lambda folder, wheels: None)
    monkeypatch.setattr(sys, "argv", ["gpu", "--out", str(tmp_path / "out")])
    for ends, code, words in (
        ([""], 0, None),
        (["", "raise SystemExit(7)"], 1, "1 of 2 parts are left: 1; the same command goes on with them"),
    ):
        todo = [python(str(number), end) for number, end in enumerate(ends)]
        monkeypatch.setattr(gpu, "parts", lambda name, out, todo=todo: todo)
        assert gpu.main() == code
        last = capsys.readouterr().out.splitlines()[-1]
        assert (last == words) == (words is not None)
    monkeypatch.setattr(sys, "argv", ["gpu", "--minutes", "0", "--out", str(tmp_path / "late")])
    assert gpu.main() == 3
    assert "2 of 2 parts are left: 0, 1" in capsys.readouterr().out


def test_missing_packages_come_from_a_folder_of_wheels(tmp_path: Path) -> None:
    for name in ("torch-9", "triton-9", "nvidia_cublas_cu13-9", "numpy-9", "not_there_yet-1"):
        (tmp_path / f"{name}-py3-none-any.whl").touch()
    assert gpu.missing_wheels(tmp_path) == ["not-there-yet"]
    assert gpu.missing() == []  # the tests run where all is installed
    with pytest.raises(ValueError, match="no folder of wheels"):
        gpu.install(tmp_path / "packages", tmp_path / "nowhere")


def wheel(folder: Path, name: str) -> None:
    """A wheel of a package that holds one file."""
    about = f"{name}-1.0.dist-info"
    with ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as file:
        file.writestr(f"{name}.py", "here = True\n")
        file.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        file.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{about}/RECORD", "")


def test_a_wheel_is_installed_once_and_found_by_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    wheels, folder = tmp_path / "wheels", tmp_path / "packages"
    wheels.mkdir()
    wheel(wheels, "not_there_yet")
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("PYTHONPATH", "")
    gpu.install(folder, wheels)
    assert gpu.missing_wheels(wheels) == []
    assert states([python("part", "import not_there_yet")], tmp_path / "out") == {"part": "done"}
    monkeypatch.setattr(gpu, "_run_pip", lambda command: pytest.fail("it is installed"))
    gpu.install(folder, wheels)
    assert capfd.readouterr() == ("", "")


def test_what_pip_cannot_install_and_what_is_nowhere_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("PYTHONPATH", "")
    said: list[str] = []
    monkeypatch.setattr(gpu, "missing", lambda: ["onnxscript"])
    gpu.install(tmp_path / "packages", tmp_path, said.append)
    assert said == [f"not here, and not in {tmp_path}: onnxscript; parts that need them will fail"]
    (tmp_path / "broken-1.0-py3-none-any.whl").touch()
    with pytest.raises(ValueError, match="pip could not install"):
        gpu.install(tmp_path / "packages", tmp_path)


def test_exports_need_the_package_that_knows_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "_installed", lambda name: name != "onnxruntime")
    assert gpu.missing() == []
    monkeypatch.setattr(gpu, "_installed", lambda name: not name.startswith(("onnx", "ipywidgets", "pytest")))
    assert gpu.missing() == ["onnx", "onnxruntime-gpu", "onnxscript", "pytest"]


def test_without_a_gpu_one_line_says_so(tmp_path: Path) -> None:
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "tests.benchmarks.gpu", "--out", str(tmp_path / "out")]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=gpu.ROOT, timeout=120)
    assert run.returncode == 2
    assert run.stderr.startswith("error: PyTorch sees no CUDA device here")
    assert len(run.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()
