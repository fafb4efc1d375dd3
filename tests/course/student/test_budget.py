import pytest
import torch

from diffusion_lessons.course.student import budget


@pytest.fixture(autouse=True)
def _no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(budget.VARIABLE, raising=False)


@pytest.mark.parametrize(
    ("setting", "steps", "samples"), [("full", 600, 512), ("small", 30, 64), ("large", 2400, 2048)]
)
def test_one_setting_scales_steps_and_samples(
    monkeypatch: pytest.MonkeyPatch, setting: str, steps: int, samples: int
) -> None:
    monkeypatch.setenv(budget.VARIABLE, setting)
    assert budget.name() == setting
    assert (budget.steps(600), budget.samples(512)) == (steps, samples)


def test_a_small_run_keeps_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(budget.VARIABLE, "small")
    assert budget.steps(10) == 2
    assert budget.steps(100, at_least=25) == 25
    assert budget.samples(16) == 8
    assert budget.samples(3, at_least=8) == 3  # never more than the lesson publishes


@pytest.mark.parametrize(("cuda", "expected"), [(True, "large"), (False, "full")])
def test_unset_it_is_large_on_cuda_and_full_elsewhere(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    assert budget.name() == expected
    monkeypatch.setenv(budget.VARIABLE, " FULL ")
    assert budget.name() == "full"


def test_an_unknown_setting_says_where_it_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(budget.VARIABLE, "smal")
    with pytest.raises(
        ValueError, match=r"unknown budget 'smal'.*did you mean 'small'.*DIFFUSION_LESSONS_BUDGET"
    ):
        budget.steps(10)


@pytest.mark.parametrize("given", [0, 2.5, -3])
def test_a_budget_is_a_whole_number(given: object) -> None:
    with pytest.raises(ValueError, match="whole number"):
        budget.steps(given)  # type: ignore[arg-type]
