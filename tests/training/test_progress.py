import math
import os
import signal
import threading
from dataclasses import asdict

import pytest
import torch

from diffusion_lessons.support.processes import Processes
from diffusion_lessons.training.progress import LossCurve, Meter, catch_interrupts


def test_curve_keeps_means_and_doubles_its_stride() -> None:
    curve = LossCurve()
    for loss in range(2500):
        curve.add(float(loss))
    assert curve.stride == 4
    assert len(curve.points) == 625
    assert curve.points[0] == 1.5  # mean of 0, 1, 2, 3
    assert curve.steps[0] == 4
    assert curve.steps[-1] == 2500
    assert curve.recent() == pytest.approx(sum(range(2252, 2500)) / 248)


@pytest.mark.parametrize("cut", [0, 1, 999, 1001, 1002, 2000, 2499])
def test_curve_goes_on_from_its_json_as_if_never_stopped(cut: int) -> None:
    losses = [math.sin(i) for i in range(2500)]
    whole, first = LossCurve(), LossCurve()
    for loss in losses:
        whole.add(loss)
    for loss in losses[:cut]:
        first.add(loss)
    second = LossCurve(**asdict(first))
    for loss in losses[cut:]:
        second.add(loss)
    assert asdict(second) == asdict(whole)


def test_empty_curve() -> None:
    assert math.isnan(LossCurve().recent())


def test_meter_gives_back_what_it_was_told_and_starts_anew() -> None:
    meter = Meter(Processes("cpu"), capacity=3)
    for i in range(3):
        assert not meter.full
        meter.add(torch.tensor(i + 0.5), torch.tensor(float(i)))
    assert meter.full
    assert meter.read() == [(0.5, 0.0), (1.5, 1.0), (2.5, 2.0)]
    assert meter.read() == []
    meter.add(torch.tensor(7.0), torch.tensor(8.0))
    assert meter.read() == [(7.0, 8.0)]


def test_first_interrupt_is_noted_the_second_breaks_in() -> None:
    before = signal.getsignal(signal.SIGINT)
    with catch_interrupts() as asked:
        assert not asked.is_set()
        os.kill(os.getpid(), signal.SIGINT)
        assert asked.is_set()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGINT) is before


def test_threads_that_get_no_signals_train_all_the_same() -> None:
    seen = []

    def work() -> None:
        with catch_interrupts() as asked:
            seen.append(asked.is_set())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]
