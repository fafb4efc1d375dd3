"""What is said of shapes, of arguments that are not read, of results at times, of inputs of a class."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from diffusion_lessons.course import bank
from diffusion_lessons.course.exercises.check import check
from diffusion_lessons.course.exercises.exercise import Case, Exercise, Misconception
from diffusion_lessons.course.exercises.judging import judge
from diffusion_lessons.course.exercises.outputs import Outputs
from diffusion_lessons.course.exercises.running import run, untouched
from diffusion_lessons.course.exercises.unread import unread


def exercise(reference: Any, make: Callable[[torch.Generator, int], dict[str, Any]], **more: Any) -> Exercise:
    cases = [Case(f"{n}", lambda g, n=n: make(g, n)) for n in (4, 6, 9)]  # type: ignore[misc]
    return Exercise(
        id="99.5",
        name="answer",
        title="Answer",
        kind="implement",
        difficulty=1,
        minutes=1,
        reference=reference,
        cases=cases,
        misconceptions=[],
        alternatives=[],
        hints=("a", "b", "c"),
        **more,
    )


def drawn(g: torch.Generator, n: int) -> dict[str, Any]:
    return {"x": torch.randn(n, 5, generator=g), "scale": 1 + n / 8, "count": n}


# Shapes --------------------------------------------------------------------------------------------


def waves(x: Tensor, scale: float, count: int) -> Tensor:
    return torch.cat([(scale * x).sin() / count, (scale * x).cos() / count], dim=1)


def row(x: Tensor, scale: float, count: int) -> Tensor:
    return scale * x.square().sum(1) / count


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        (waves, lambda x, s, n: torch.cat([(s * x).sin() / n, (s * x).cos() / n]), "along dimension 0 what"),
        (waves, lambda x, s, n: torch.cat(2 * [x.tan() * s / n], 1)[:, ::2], "1 of your result is half as"),
        (waves, lambda x, s, n: waves(x, s, n).repeat(2, 1) + 1, "Dimension 0 of your result is twice as"),
        (row, lambda x, s, n: row(x, s, n) + row(x, s, n)[:, None] - row(x, s, n), "ours is its diagonal"),
        (row, lambda x, s, n: row(x, s, n)[:, None] * torch.eye(len(x)), "ours is its diagonal"),
    ],
)
def test_slips_of_shape(right: Any, wrong: Any, said: str) -> None:
    verdict = check(exercise(right, drawn), lambda x, scale, count: wrong(x, scale, count))
    assert (verdict.kind, said in verdict.message) == ("shape", True), verdict.message
    assert said not in verdict.first


def test_a_shape_that_is_wrong_in_another_way_each_time_is_no_slip() -> None:
    verdict = check(exercise(row, drawn), lambda x, scale, count: scale * torch.ones(17) / count)
    assert verdict.message.startswith("Your result has shape (17,)")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda x, scale, count: [7 * k / 3 for k in range(count)], "but not rounded:"),
        (lambda x, scale, count: [7 * k // 3 + 0.3 + (7 * k % 3) / 9 for k in range(count)], "rounded"),
        (lambda x, scale, count: [7 * k // 3 + 0.9 for k in range(count)], "but not rounded down:"),
    ],
)
def test_numbers_that_were_not_rounded(wrong: Any, said: str) -> None:
    reference = lambda x, scale, count: [7 * k // 3 for k in range(count)]  # noqa: E731
    if said == "but not rounded:":
        reference = lambda x, scale, count: [round(7 * k / 3) for k in range(count)]  # noqa: E731
    verdict = check(exercise(reference, drawn), wrong)
    assert said in verdict.message, verdict.message


# Arguments that are not read -----------------------------------------------------------------------


def test_an_argument_that_is_not_read_is_said(tmp_path: Path) -> None:
    task = exercise(row, drawn)
    verdict = check(task, lambda x, scale, count: x.abs().sum(1) * 0.37 / count**2)
    assert verdict.message.endswith("Your function does not use its argument `scale`.")
    assert "`scale`" not in verdict.first
    both = check(task, lambda x, scale, count: x.exp().sum(1))
    assert both.message.endswith("Your function does not use its arguments `count` and `scale`.")

    outputs = run(task, lambda x, scale, count: x.abs().sum(1) * 0.37 / count**2)
    outputs.save(tmp_path / "o.npz")
    stored = Outputs.load(tmp_path / "o.npz")
    assert stored.unread == outputs.unread == ("scale",)
    assert judge(task, stored).message == verdict.message
    assert "markup" not in judge(task, replace(stored, unread=("<b>markup</b>",))).message


def inside(x: Tensor, scale: float, count: int) -> Tensor:
    def one(v: Tensor) -> Tensor:
        return v * scale

    return torch.stack([one(v) for v in x]).sum(1) / count


def by_name(x: Tensor, scale: float, count: int) -> Tensor:
    return x.sum(1) * eval("scale") / count


@pytest.mark.parametrize(
    "answer",
    [
        inside,
        by_name,
        torch.no_grad()(lambda x, scale, count: x.sum(1) * scale / count),
        lambda **given: given["x"].sum(1),
        lambda x, scale, count: torch.ones(3),  # reads nothing at all: that is no slip
    ],
)
def test_what_is_read_another_way_counts_as_read(answer: Any) -> None:
    assert run(exercise(row, drawn), answer).unread == ()


def test_what_a_right_answer_may_leave_out_is_not_missed() -> None:
    task = exercise(row, drawn)
    spared = replace(task, alternatives=[lambda x, scale, count: row(x, 1 + len(x) / 8, count)])
    assert run(spared, lambda x, scale, count: x.sum(1) / count).unread == ()


# A result at times, a class, gradients left on ------------------------------------------------------


def test_none_for_some_inputs_is_not_a_return_that_is_missing() -> None:
    def at_times(x: Tensor, scale: float, count: int) -> Tensor | None:  # type: ignore[return]  # noqa: RET503
        if scale > 1.6:
            return row(x, scale, count)

    task = exercise(row, drawn)
    assert check(task, at_times).message.startswith("None was returned for some inputs, and not for all")
    assert (
        check(task, lambda x, scale, count: print(x.sum() * scale, count)).message
        == "None was returned. Is the `return` missing?"
    )

    several = replace(task, call=lambda answer, x, scale, count: [answer(x, s, count) for s in (1.5, 1.7)])
    assert check(several, at_times).message.startswith("None was returned for some inputs")
    never = check(several, lambda x, scale, count: print(x.sum() * scale, count)).message
    assert never == "In the first result: None was returned. Is the `return` missing?"
    pair = exercise(lambda x, scale, count: (row(x, scale, count), x), drawn)
    half = check(pair, lambda x, scale, count: (row(x, scale, count), None)).message
    assert "for some inputs" not in half


def test_a_return_inside_the_loop_is_known_beside_a_case_without_a_round() -> None:
    def total(steps: list[float]) -> float:
        size = 1.0
        for step in steps:
            size += step**2
        return size

    def first_alone(steps: list[float]) -> float | None:  # type: ignore[return]  # noqa: RET503
        size = 1.0
        for step in steps:
            size += step**2
            return size

    task = exercise(total, lambda g, n: {"steps": [] if n == 9 else torch.rand(n, generator=g).tolist()})
    assert "does a `return` stand inside the loop?" in check(task, first_alone).message


class Scaled:
    def __init__(self, scale: float) -> None:
        self.scale = scale

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        return self.scale * x * (1 + t.view(-1, 1))


def test_inputs_of_a_class_may_be_others() -> None:
    class FirstForAll(Scaled):
        def __call__(self, x: Tensor, t: Tensor) -> Tensor:
            return super().__call__(x, t[:1])

    class Thousandth(Scaled):
        def __call__(self, x: Tensor, t: Tensor) -> Tensor:
            return super().__call__(x, t / 1000)

    task = exercise(
        Scaled,
        lambda g, n: {
            "x": torch.randn(n, 3, generator=g),
            "t": torch.rand(n, generator=g),
            "scale": 1 + n / 9,
        },
        call=lambda answer, x, t, scale: answer(scale)(x, t),
    )
    assert "with the first entry of `t`, for all of them," in check(task, FirstForAll).message
    assert "with `t`/1000 in the place of `t`" in check(task, Thousandth).message


def test_gradients_that_are_left_on_are_told_and_put_back() -> None:
    def left_on(x: Tensor, scale: float, count: int) -> Tensor:
        torch.set_grad_enabled(True)
        return row(x, scale, count)

    def sampler(answer: Any, **given: Any) -> Tensor:
        with torch.no_grad():
            made = answer(**given)
            assert not torch.is_grad_enabled()
            return made

    verdict = check(exercise(row, drawn, call=sampler), left_on)
    assert verdict.kind == "mutated"
    assert "switches the gradients on or off for all that comes after" in verdict.message
    with_block = check(exercise(row, drawn, call=sampler), torch.enable_grad()(row))
    assert with_block.passed, with_block.message


def test_a_detached_result_is_not_taken_for_one_that_changes_its_argument() -> None:
    def loss(x: Tensor, scale: Tensor) -> Tensor:
        return (x * scale).square().sum(1)

    def changes_x(x: Tensor, scale: Tensor) -> Tensor:
        x *= scale
        return x.square().sum(1)

    task = exercise(
        loss,
        lambda g, n: {"x": torch.randn(n, 3, generator=g), "scale": torch.rand(3, generator=g)},
        trains=("scale",),
    )
    detached = Misconception("detached", lambda x, scale: loss(x, scale.detach()), "Detached.", "gradient")
    task = replace(task, misconceptions=[detached])
    assert check(task, detached.function).misconception == "detached"
    assert check(task, changes_x).kind == "mutated"


def test_a_number_too_long_to_be_written_down_stands_in_the_way_of_nothing() -> None:
    space: dict[str, object] = {}
    exec(f"def answer(x, noise, beta):\n    large = 0x{'f' * 5000}\n    return beta", space)
    assert not untouched(space["answer"])  # type: ignore[arg-type]
    assert unread(bank.get("02.1"), space["answer"]) == ()
