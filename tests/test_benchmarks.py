"""The harness of the benchmarks: fair sizes, honest verdicts, windows that alternate."""

import subprocess
import sys

import pytest
import torch

from tests.benchmarks.memory import peak_of_this_process
from tests.benchmarks.run import row, table
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


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from Linux's /proc")
def test_the_peak_of_a_process_is_its_own() -> None:
    ballast = torch.ones(300_000_000, dtype=torch.uint8)
    code = "from tests.benchmarks.memory import peak_of_this_process; print(peak_of_this_process())"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert peak_of_this_process() > int(child.stdout) + 0.5 * len(ballast)
