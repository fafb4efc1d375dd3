"""Clocks and weights: CPU time does not wait, windows alternate, what lives at once is counted."""

import time

import pytest
import torch

from diffusion_lessons.experiments.clock import Alive, Clock, Largest, peak_bytes, quartiles

CPU = torch.device("cpu")


def test_cpu_time_does_not_count_waiting() -> None:
    clock = Clock(CPU)
    assert clock.seconds(lambda: time.sleep(0.2)) < 0.1
    begun = time.process_time()
    worked = clock.seconds(lambda: sum(range(3_000_000)))
    assert worked == pytest.approx(time.process_time() - begun, rel=0.3, abs=0.02)


def test_works_take_turns_in_windows_and_change_the_order() -> None:
    calls: list[str] = []
    clock = Clock(CPU)
    taken = clock.in_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 4, 0.0)
    assert [len(each) for each in taken.values()] == [4, 4]
    assert "".join(calls) == "aabb" + "ab" + "ba" + "ab" + "ba"


def test_a_window_is_filled_with_calls() -> None:
    calls = []

    def work() -> None:
        calls.append(sum(range(20_000)))

    Clock(CPU).in_turns({"": work}, windows=1, seconds=0.1)
    assert len(calls) > 20


def test_quartiles_in_significant_digits() -> None:
    assert quartiles([5.0, 1.0, 2.0, 3.0, 4.0]) == [2.0, 3.0, 4.0]
    assert quartiles([0.000123456], 2) == [0.00012] * 3


def test_the_largest_tensor_is_found_among_several_outputs() -> None:
    with Largest() as largest:
        torch.ones(100).max(dim=0)
        torch.ones(10, 10).sort(dim=0)  # indices are int64
    assert largest.bytes == 800


def test_what_lives_at_once_is_counted_and_what_died_is_not() -> None:
    def chain() -> None:
        x = torch.zeros(1000)
        for _ in range(5):
            x = x + 1  # two at a time

    assert peak_bytes(chain, CPU) == 2 * 4000
    given = torch.zeros(1000)
    assert peak_bytes(lambda: given.add_(1), CPU) == 0  # in place: nothing new
    assert peak_bytes(lambda: given[::2], CPU) == 0  # a view
    assert peak_bytes(lambda: [given + 1 for _ in range(3)], CPU) == 3 * 4000


def test_what_the_way_back_keeps_counts() -> None:
    x = torch.zeros(1000, requires_grad=True)

    def kept() -> None:
        y = x
        for _ in range(10):
            y = y.sin()
        y.sum().backward()

    with Alive() as alive:
        kept()
    assert alive.peak >= 10 * 4000
    x.grad = None
