"""Slips that hold everywhere: the reference with another argument, part for part, where it is sure."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from diffusion_lessons.course.bank import lesson_13, lesson_14
from diffusion_lessons.course.exercises.check import check
from diffusion_lessons.course.exercises.exercise import Case, Exercise, Misconception
from diffusion_lessons.course.exercises.supposing import SUPPOSED


def blend(x: Tensor, noise: Tensor, t: Tensor, kept: Tensor, scale: float, steps: int) -> Tensor:
    share = kept[t].view(-1, 1)
    return (share.sqrt() * x + scale * (1 - share).sqrt() * noise) / (1 + steps)


def make(n: int, steps: int) -> Callable[[torch.Generator], dict[str, Any]]:
    def drawn(g: torch.Generator) -> dict[str, Any]:
        return {
            "x": torch.randn(n, 5, generator=g),
            "noise": torch.randn(n, 5, generator=g),
            "t": torch.randperm(8, generator=g)[:n] + 1,
            "kept": torch.rand(10, generator=g).sort(descending=True).values,
            "scale": 1.5 + float(torch.rand((), generator=g)),
            "steps": steps,
        }

    return drawn


BLEND = Exercise(
    id="99.3",
    name="blend",
    title="Blend",
    kind="implement",
    difficulty=1,
    minutes=1,
    reference=blend,
    cases=[Case(f"{n} rows", make(n, n + 1)) for n in (3, 4, 6)],
    misconceptions=[],
    alternatives=[],
    hints=("a", "b", "c"),
)

SLIPS: dict[str, tuple[Callable[[dict[str, Any]], dict[str, Any]], str]] = {
    "swapped": (lambda it: {"x": it["noise"], "noise": it["x"]}, "`x` and `noise` in each other's place"),
    "taken twice": (lambda it: {"noise": it["x"]}, "`x` in the place of `noise`"),
    "left out": (lambda it: {"noise": 0 * it["noise"]}, "0 in the place of `noise`: is it left out?"),
    "sign": (lambda it: {"x": -it["x"]}, "−`x` in the place of `x`"),
    "previous": (lambda it: {"t": it["t"] - 1}, "`t` − 1"),
    "next": (lambda it: {"t": it["t"] + 1}, "`t` + 1"),
    "root": (lambda it: {"kept": it["kept"] ** 2}, "the square of `kept`"),
    "batch": (lambda it: {"t": it["t"][:1].expand(len(it["t"]))}, "the first entry of `t`, for all of them,"),
    "other end": (lambda it: {"kept": it["kept"].flip(0)}, "`kept` from its other end"),
    "product": (lambda it: {"kept": it["kept"].cumprod(0)}, "the running product of `kept`"),
    "count": (lambda it: {"steps": it["steps"] - 1}, "`steps` − 1"),
    "ignored": (lambda it: {"scale": 1.0}, "with 1 in the place of `scale`"),
    "clipped": (lambda it: {"x": it["x"].clamp(-1, 1)}, "`x` cut to [−1, 1]"),
    "halved": (lambda it: {"noise": it["noise"] / 2}, "half of `noise`"),
    "other order": (lambda it: {"noise": it["noise"].flip(0)}, "`noise` from its other end"),
}


@pytest.mark.parametrize("name", SLIPS)
def test_the_reference_with_another_argument_explains_an_answer(name: str) -> None:
    change, said = SLIPS[name]

    def answer(x: Tensor, noise: Tensor, t: Tensor, kept: Tensor, scale: float, steps: int) -> Tensor:
        given = {"x": x, "noise": noise, "t": t, "kept": kept, "scale": scale, "steps": steps}
        return blend(**given | change(given))

    verdict = check(BLEND, answer)
    assert verdict.kind == "value"
    assert verdict.message.startswith("Your result is what ours gives with ")
    assert said in verdict.message
    assert "what ours gives" not in verdict.first  # nothing of that at a first attempt
    assert "numbers differ, most at index" in verdict.first
    assert "It looks like a slip in " in verdict.first


def follow(ask: Callable[[Tensor], tuple[Tensor, Tensor]], x: Tensor) -> Tensor:
    for _ in range(3):
        guess, rest = ask(x)
        x = 0.9 * guess + 0.1 * rest
    return x


def asking(answer: Callable[..., Any], x: Tensor) -> Any:
    def ask(x: Tensor) -> tuple[Tensor, Tensor]:
        return 1.1 * x, x.sin()

    return answer(ask, x)


FOLLOW = replace(
    BLEND,
    name="follow",
    reference=follow,
    call=asking,
    cases=[Case(f"{n} rows", lambda g, n=n: {"x": 2 * torch.randn(n, 5, generator=g)}) for n in (3, 4, 6)],
)


def test_what_a_function_among_the_arguments_answers_may_be_cut_or_kept() -> None:
    def cut(ask: Callable[[Tensor], tuple[Tensor, Tensor]], x: Tensor) -> Tensor:
        return follow(lambda x: (ask(x)[0].clamp(-1, 1), ask(x)[1]), x)

    def kept(ask: Callable[[Tensor], tuple[Tensor, Tensor]], x: Tensor) -> Tensor:
        first = ask(x)
        return follow(lambda x: first, x)

    assert "with the answers of `ask` cut to [−1, 1]" in check(FOLLOW, cut).message
    assert "with the answers of `ask` kept from the first call" in check(FOLLOW, kept).message
    assert check(FOLLOW, follow).passed


def test_an_answer_that_fits_in_one_case_only_is_told_nothing() -> None:
    def sometimes(x: Tensor, noise: Tensor, t: Tensor, kept: Tensor, scale: float, steps: int) -> Tensor:
        return (
            blend(noise, x, t, kept, scale, steps) if len(x) < 4 else blend(x, noise, t, kept, scale, steps)
        )

    assert "what ours gives" not in check(BLEND, sometimes).message


def test_where_many_changes_give_the_same_none_is_named() -> None:
    """The scale counts only as a switch: what stands there instead cannot be told."""

    def switched(x: Tensor, scale: float) -> Tensor:
        return 2 * x if scale > 1 else 5 * x + 1

    cases = [
        Case(f"{n}", lambda g, n=n: {"x": torch.randn(n, generator=g), "scale": 0.1 * n}) for n in (4, 5, 6)
    ]
    exercise = replace(BLEND, reference=switched, cases=cases)
    assert "what ours gives" not in check(exercise, lambda x, scale: 2 * x).message


def walk(x: Tensor, levels: list[float], noises: Tensor) -> Tensor:
    for level, noise in zip(levels, noises, strict=True):
        x = level * torch.sin(x) + noise
    return x


def through(answer: Any, x: Tensor, noises: Tensor) -> Any:
    return answer(x, [1.0 / (k + 1) for k in range(len(noises))], noises)


def noises(n: int) -> Callable[[torch.Generator], dict[str, Any]]:
    return lambda g: {"x": torch.randn(2, 3, generator=g), "noises": torch.randn(n, 2, 3, generator=g)}


WALK = replace(BLEND, reference=walk, call=through, cases=[Case(f"{n} rounds", noises(n)) for n in (3, 5, 4)])
ROUNDS: dict[str, tuple[Callable[..., Any], str]] = {
    "return inside": (lambda x, v, w: walk(x, v[:1], w[:1]), "does a `return` stand inside the loop?"),
    "last missing": (lambda x, v, w: walk(x, v[:-1], w[:-1]), "without the last round"),
    "first missing": (lambda x, v, w: walk(x, v[1:], w[1:]), "without the first round"),
    "all reversed": (lambda x, v, w: walk(x, v[::-1], w.flip(0)), "all rounds in the other order"),
    "levels reversed": (lambda x, v, w: walk(x, v[::-1], w), "`levels` from its other end"),
}


@pytest.mark.parametrize("name", ROUNDS)
def test_rounds_of_a_loop(name: str) -> None:
    wrong, said = ROUNDS[name]
    verdict = check(WALK, lambda x, levels, noises: wrong(x, levels, noises))
    assert said in verdict.message


def spread(x: Tensor, n: int) -> tuple[Tensor, Tensor]:
    return x.mean(0), x.var(0) / n


PAIR = replace(
    BLEND,
    reference=spread,
    cases=[Case(f"{n}", lambda g, n=n: {"x": torch.randn(n, 9, generator=g), "n": n - 1}) for n in (4, 6, 9)],
)


def test_one_part_of_several_is_told_from_the_others() -> None:
    part = "Right in your result: the first result. Not right: the second result."
    root = check(PAIR, lambda x, n: (x.mean(0), x.var(0).div(n).sqrt()))
    assert root.message.startswith(
        f"{part} Your result is the square root of ours. In the second result: 9 of 9"
    )
    assert root.first.startswith(f"{part} In the second result: 9 of 9 numbers differ")
    times = check(PAIR, lambda x, n: (x.mean(0), x.var(0)))
    assert times.message.startswith(f"{part} Your result is ours times `n`.")
    assert check(PAIR, lambda x, n: (x.mean(0) + 1, x.var(0))).message.startswith(
        "In the first result: 9 of 9"
    )


def test_no_name_of_the_harness_reaches_a_student() -> None:
    """`call` names what it returns, and cases name what it is given: a student knows neither."""

    def call(answer: Any, drawn: Tensor, count: int) -> Any:
        mean, variance = answer(drawn, count)
        return {"the mean of all": mean, "x0": variance}

    cases = [
        Case(f"{n}", lambda g, n=n: {"drawn": torch.randn(n, 9, generator=g), "count": n - 1})
        for n in (4, 6, 9)
    ]
    verdict = check(replace(PAIR, call=call, cases=cases), lambda x, n: (x.mean(0), x.var(0)))
    text = f"{verdict.message} {verdict.first} {verdict.where}"
    assert "result[" not in text
    assert "drawn" not in text + str(verdict.inputs)
    assert "Right in your result: the mean of all. Not right: `x0`." in text
    assert [name for name, _ in verdict.inputs] == ["x", "n"]


NUMBER = replace(
    BLEND,
    reference=lambda x, rate: float(x.sum()),
    cases=[
        Case(f"{n}", lambda g, n=n: {"x": torch.randn(n, generator=g), "rate": n / 3}) for n in (3, 5, 8, 11)
    ],
)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda x, rate: float(x.sum() * rate), "Your result is ours times `rate`."),
        (lambda x, rate: float(x.sum() / rate), "Your result is ours divided by `rate`."),
        (lambda x, rate: float(x.sum() + rate), "Your result is ours plus `rate`."),
        (lambda x, rate: float(rate - x.sum()), "Your result is `rate` minus ours."),
        (lambda x, rate: float(x.mean()), "Your result is ours divided by the number of entries of `x`."),
        (lambda x, rate: float(1 - x.sum()), "Your result is 1 minus ours."),
    ],
)
def test_single_numbers_are_told_by_the_inputs(answer: Callable[..., Any], said: str) -> None:
    assert check(NUMBER, answer).message.startswith(said)


def test_a_mistake_of_an_earlier_exercise_is_known_in_the_later_one() -> None:
    sentence = "You squared the level, and it is a factor already."
    wrong = Misconception("squared", lambda x, level: level**2 * x, sentence)
    earlier = replace(BLEND, id="99.1", name="turned", reference=turned, misconceptions=[wrong])
    later = replace(WALK, reference=turned_down, builds_on=[earlier])
    verdict = check(later, lambda x, levels, noises: turned_down(x, [level**2 for level in levels], noises))
    assert verdict.message.startswith(f"In what `turned` does, or in how it is called: {sentence}")
    assert "factor" not in verdict.first


def split(x: Tensor, a: float, b: float, a_next: float, b_next: float) -> Tensor:
    return a_next * x + b_next * torch.sin(x) / b - a / torch.tensor(b)


def levels(end: bool) -> Callable[[torch.Generator], dict[str, Any]]:
    def drawn(g: torch.Generator) -> dict[str, Any]:
        a, b, a_next, b_next = (0.2 + torch.rand(4, generator=g)).tolist()
        x = torch.randn(4, 3, generator=g)
        return {"x": x, "a": a, "b": b, "a_next": a_next, "b_next": 0.0 if end else b_next}

    return drawn


SPLIT = replace(BLEND, reference=split, cases=[Case(f"{n}", levels(n == 2)) for n in range(3)])


def test_two_levels_in_each_others_place_are_told_though_one_case_divides_by_0() -> None:
    """The answer guards its division, so that case is another one than ours would be."""
    answer = lambda x, a, b, a_next, b_next: split(x, a_next, max(b_next, 1e-3), a, b)  # noqa: E731
    said = "with `a_next` and `b_next` in the place of those of now, and the other way round."
    assert said in check(SPLIT, answer).message


@pytest.mark.parametrize("at", [1.5, 2.0])
def test_a_number_written_in_where_an_argument_belongs_is_told(at: float) -> None:
    def scaled(x: Tensor, k: float = 1.5) -> Tensor:
        return torch.sin(k * x) - k

    cases = [Case(f"{n}", lambda g, n=n: {"x": torch.randn(9, generator=g), "k": 2.5 + n}) for n in range(3)]
    verdict = check(replace(BLEND, reference=scaled, cases=cases), lambda x, k: scaled(x + 0 * k, at))
    assert f"with {at:g} for `k`, whatever comes in: is it written into your code?" in verdict.message


def test_an_answer_that_is_nan_in_places_is_told_what_it_is() -> None:
    """All over it would tell nothing: many a mistake ends there."""
    root = replace(
        BLEND,
        reference=lambda x: (x - 0.4).sqrt() + x,
        cases=[Case(f"{n}", lambda g, n=n: {"x": 0.4 + 0.5 * torch.rand(n, generator=g)}) for n in (6, 9)],
    )
    in_part = check(root, lambda x: (0.6 - x).sqrt() + 1 - x)
    assert in_part.kind == "nonfinite" and "with 1 − `x` in the place of `x`" in in_part.message
    all_over = check(root, lambda x: (-x - 0.4).sqrt() - x)
    assert all_over.kind == "nonfinite" and "ours gives" not in all_over.message


def _lost(value: Any) -> Any:
    """The same result with NaN in the place of every number."""
    return tuple(each * math.nan for each in value) if isinstance(value, tuple) else value * math.nan


@pytest.mark.parametrize("exercise", [lesson_13.LOSSES, lesson_14.LOSS], ids=["13.1", "14.4"])
def test_results_in_parts_that_are_nan_all_over_tell_no_slip(exercise: Exercise) -> None:
    """The root of a negative logit, and a mean over no frames, are NaN as well: that says nothing."""
    verdict = check(exercise, lambda *args, **given: _lost(exercise.reference(*args, **given)))
    assert verdict.kind == "nonfinite"
    assert SUPPOSED not in verdict.message and "NaN" in verdict.message


def test_what_else_a_wrong_answer_does_is_said_beside_it() -> None:
    def in_place(x: Tensor, noise: Tensor, t: Tensor, kept: Tensor, scale: float, steps: int) -> Tensor:
        return blend(x, noise, t, kept.mul_(0.9).add_(0.05), scale, steps)

    def seeded(x: Tensor, noise: Tensor, t: Tensor, kept: Tensor, scale: float, steps: int) -> Tensor:
        torch.manual_seed(3)
        return blend(x, noise + torch.randn_like(noise), t, kept, scale, steps)

    assert "also changes its argument `kept`" in check(BLEND, in_place).message
    assert "also sets the seed of the global generator" in check(BLEND, seeded).message


def test_a_prediction_without_its_return_is_no_empty_cell() -> None:
    def guess() -> Any:
        "The one"

    chosen = replace(BLEND, kind="predict", reference=lambda: "the one", choices=("the one", "the other"))
    chosen = replace(chosen, cases=[Case("once", lambda g: {})])
    assert check(chosen, guess).message == "Your function returned None: `return` your answer."


def turned(x: Tensor, level: float) -> Tensor:
    return level * x


def turned_down(x: Tensor, levels: list[float], noises: Tensor) -> Tensor:
    for level in levels:
        x = turned(x, level)
    return x + noises[0]
