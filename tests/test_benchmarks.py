"""The harness of the benchmarks: fair sizes, honest verdicts, windows that alternate."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.benchmarks import exported
from tests.benchmarks import run as benchmarks
from tests.benchmarks.apart import Apart
from tests.benchmarks.memory import peak_of_this_process
from tests.benchmarks.run import Bench, row, table
from tests.benchmarks.sizes import SIZES, parity
from tests.benchmarks.timing import Comparison, Timing, Work, side_by_side


@pytest.mark.parametrize("name", ["small", "medium"])
def test_both_sides_cost_the_same(name: str) -> None:
    ours, theirs = parity(SIZES[name])
    assert abs(ours.parameters / theirs.parameters - 1) <= 0.05
    assert abs(ours.flops / theirs.flops - 1) <= 0.05


def test_sizes_that_differ_are_refused() -> None:
    from dataclasses import replace

    with pytest.raises(ValueError, match="times their parameters"):
        parity(replace(SIZES["small"], theirs={"time_embedding_dim": 1024}))


def test_windows_alternate_and_count_pictures() -> None:
    order: list[str] = []
    ours = Work(lambda: order.append("ours"), images=4)
    theirs = Work(lambda: order.append("theirs"), images=2)
    found = side_by_side(ours, theirs, Timing(windows=3, seconds=1e-9))
    assert len(found.ours) == len(found.theirs) == 3
    assert order[-6:] == ["ours", "theirs", "theirs", "ours", "ours", "theirs"]
    assert Comparison([4.0, 9.0, 2.0], [2.0, 3.0, 2.0]).ratio == 2.0


def test_the_table_says_what_falls_short() -> None:
    rows = [
        row("fast enough", 1.4, 1.3),
        row("too slow", 1.2, 1.3, {"ratios": [1.1, 1.3], "profile": {"ours": ["99 % conv"]}}),
        row("too large", 1.1, 1.0, most=True),
        {"title": "not here", "skipped": "not installed"},
    ]
    lines = table(rows).splitlines()
    assert "BELOW" not in lines[0]
    assert "(1.10 to 1.30)" in lines[1]
    assert "BELOW the bar" in lines[1]
    assert "99 % conv" in lines[2]
    assert "ABOVE the bar" in lines[3]
    assert "skipped: not installed" in lines[4]


def asked(out: Path, *sizes: str, **changes: Any) -> SimpleNamespace:
    told = {"names": ["memory"], "out": out, "seconds": 1.0, "windows": 1, "window_seconds": 1e-9}
    return SimpleNamespace(**told | {"cpu_time": False, "device": "cpu", "sizes": list(sizes)} | changes)


def figures(out: Path) -> dict[str, float]:
    return {each["title"]: each["figure"] for each in json.loads(out.read_text())["memory"]["rows"]}


def test_rows_are_kept_one_by_one_and_those_of_other_sizes_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure = 1.0

    def measured(bench: Bench) -> Iterator[dict[str, Any]]:
        for size in bench.sizes:
            if size == "large":
                raise KeyboardInterrupt
            yield row(f"{size}, as shipped (mode {figure})", figure, 1.0)

    monkeypatch.setitem(benchmarks.NAMES, "memory", measured)
    out = tmp_path / "x.json"
    with pytest.raises(KeyboardInterrupt):
        benchmarks.bench(asked(out, "small", "large"))
    assert list(figures(out).values()) == [1.0]
    benchmarks.bench(asked(out, "medium"))
    figure = 2.0
    benchmarks.bench(asked(out, "small"))
    assert list(figures(out).items()) == [
        ("medium, as shipped (mode 1.0)", 1.0),
        ("small, as shipped (mode 2.0)", 2.0),
    ]
    benchmarks.bench(asked(out, "small", cpu_time=True))  # by another clock: no row of the other
    assert list(figures(out).values()) == [2.0]


def test_without_a_provider_what_needs_none_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    here = torch.device("cpu")
    assert exported.cannot_run(here) == ""
    assert "has no provider 'cuda' here" in exported.cannot_run(torch.device("cuda"))
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert "need the package onnxscript" in exported.cannot_run(here)
    bench = Bench(here, 1.0, Timing(windows=1, seconds=1e-9), ["small"])
    monkeypatch.setattr(bench, "apart", lambda make, *given: Work(lambda: None, 1))
    monkeypatch.setattr(bench, "peaks", lambda title, *given, **how: row(title, 1.0, 1.0))
    (told,) = bench.onnx()
    assert "onnxscript" in told["skipped"]


def own_process() -> Work:
    ballast = torch.ones(50_000_000, dtype=torch.uint8)
    return Work(lambda: ballast.sum(), images=3, mode=str(os.getpid()))


def broken() -> Work:
    raise ValueError("no such network")


def test_a_side_apart_is_timed_in_a_process_of_its_own() -> None:
    timing = Timing(windows=2, seconds=1e-9)
    with Apart(own_process) as ours, Apart(own_process) as theirs:
        assert len({ours.mode, theirs.mode, str(os.getpid())}) == 3
        assert ours.images == 3
        found = side_by_side(ours, theirs, timing)
        assert min(found.ours + found.theirs) > 0
        assert any("aten::sum" in line for line in ours.profile())
        assert ours.peak(torch.device("cpu")) > 50_000_000
    assert ours.process.exitcode == 0


def test_a_side_that_fails_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="ended with code 1; what it printed is above"):
        Apart(broken)
    assert "no such network" in capfd.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from Linux's /proc")
def test_the_peak_of_a_process_is_its_own() -> None:
    ballast = torch.ones(300_000_000, dtype=torch.uint8)
    code = "from tests.benchmarks.memory import peak_of_this_process; print(peak_of_this_process())"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert peak_of_this_process() > int(child.stdout) + 0.5 * len(ballast)
