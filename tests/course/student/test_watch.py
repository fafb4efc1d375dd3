"""The line under a training cell."""

import IPython
import pytest
import torch

from diffusion_lessons.course import Watched
from diffusion_lessons.course.student import watch


class Shell:
    """A notebook that notes what is shown."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def display(self, content: dict[str, str], raw: bool, display_id: bool = True) -> "Shell":
        self.lines.append(content["text/plain"])
        return self

    def update(self, content: dict[str, str], raw: bool) -> None:
        self.lines.append(content["text/plain"])


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> Shell:
    shell = Shell()
    monkeypatch.setattr(IPython, "get_ipython", lambda: shell)
    monkeypatch.setattr("IPython.display.display", shell.display)
    return shell


def test_it_counts_tells_the_loss_and_ends_with_the_time(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr(watch.time, "perf_counter", lambda: float(next(clock)))
    seen = []
    for step in (steps := Watched(3)):
        seen.append(step)
        steps.tell(torch.tensor(1.0 / (step + 1), requires_grad=True))
    assert seen == list(range(len(steps))) == [0, 1, 2]
    assert shell.lines[0] == "step 1 of 3, loss 1, 4 s left"
    assert shell.lines[1].startswith("step 2 of 3, loss 0.5, ")
    assert shell.lines[-1] == "3 steps, loss 0.3333, 7 s"


def test_it_is_shown_a_few_times_a_second_at_most(shell: Shell) -> None:
    for _ in Watched(100_000):
        pass
    assert len(shell.lines) < 20


def test_a_loop_that_is_stopped_says_so(shell: Shell) -> None:
    with pytest.raises(KeyboardInterrupt):
        for step in Watched(5, "round"):
            if step == 2:
                raise KeyboardInterrupt
    assert shell.lines[-1].startswith("stopped after 2 of 5 rounds, ")


def test_outside_a_notebook_nothing_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(Watched(3)) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("steps", [0, -1, 2.5, None])
def test_a_number_of_steps_that_is_none(steps: object) -> None:
    with pytest.raises(ValueError, match="from 1 on, got"):
        Watched(steps)  # type: ignore[arg-type]
