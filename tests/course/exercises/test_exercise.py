"""Running an answer and judging what it gave: every kind of wrong answer gets its own message."""

import io
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from diffusion_lessons.course.bank import get
from diffusion_lessons.course.exercises import check as checking
from diffusion_lessons.course.exercises.exercise import Case, Exercise, Misconception
from diffusion_lessons.course.exercises.judging import judge
from diffusion_lessons.course.exercises.outputs import Outputs
from diffusion_lessons.course.exercises.running import run
from diffusion_lessons.course.exercises.values import Array
from diffusion_lessons.course.exercises.verdict import Verdict


def scale(x: Tensor, factor: Tensor) -> Tensor:
    return x * factor


def make(factor: float, *shape: int) -> Callable[[torch.Generator], dict[str, Any]]:
    return lambda g: {"x": torch.randn(shape, generator=g), "factor": torch.tensor(factor)}


def swap_in_place(x: Tensor, factor: Tensor) -> Tensor:
    return x.copy_(x + factor)


SCALE = Exercise(
    id="99.1",
    name="scale",
    title="Scale",
    kind="implement",
    difficulty=1,
    minutes=1,
    reference=scale,
    cases=[
        Case("pictures", make(2.0, 2, 3, 5, 4)),
        Case("more pictures", make(0.5, 3, 1, 6, 6)),
        Case("numbers", make(-1.0, 7)),
    ],
    misconceptions=[
        Misconception("division", lambda x, factor: x / factor, "You divided where you should multiply."),
        Misconception("in-place-sum", swap_in_place, "You added the factor, and into the caller's own x."),
        Misconception("sum", lambda x, factor: x + factor, "You added the factor: multiply by it."),
        Misconception("view", lambda x, factor: x.view(-1, 5, 4) * factor, "You gave x one shape for all."),
        Misconception("double", lambda x, factor: x.double() * factor, "You made float64 of it: no need to."),
    ],
    alternatives=[lambda x, factor: factor * x],
    hints=("a", "b", "c"),
    timeout=2.0,
)


def check(answer: Any, exercise: Exercise = SCALE, seed: int = 0) -> Verdict:
    return checking.check(exercise, answer, seed)


# Right answers --------------------------------------------------------------------------------------


def test_a_right_answer_passes_on_these_and_on_hidden_cases() -> None:
    verdict = check(scale)
    assert (verdict.status, verdict.kind, verdict.message) == ("passed", "passed", "Right on all 3 cases.")
    assert check(scale, seed=77).passed
    assert check(lambda x, factor, unused=3: x * factor).passed
    assert check(lambda *args, **kwargs: scale(*args, **kwargs)).passed


def test_an_optional_argument_that_nobody_gives_may_be_left_out() -> None:
    def scale_more(x: Tensor, factor: Tensor, power: float = 1.0) -> Tensor:
        return x * factor**power

    wide = replace(SCALE, reference=scale_more)
    assert check(scale, wide).passed
    cases = [Case("powers", lambda g: {"x": torch.ones(2), "factor": torch.tensor(2.0), "power": 2.0})]
    assert "does not take `power`" in check(scale, replace(wide, cases=cases)).message


def test_cases_are_the_same_for_a_seed_and_others_for_another() -> None:
    case = SCALE.cases[0]
    assert torch.equal(SCALE.inputs(case, 3)["x"], SCALE.inputs(case, 3)["x"])
    assert not torch.equal(SCALE.inputs(case, 3)["x"], SCALE.inputs(case, 4)["x"])
    assert SCALE.inputs(case)["x"].flatten()[:3].tolist() == pytest.approx(
        [0.6479, -0.0928, 0.2588], abs=1e-3
    )


def test_a_check_leaves_the_notebooks_random_numbers_alone() -> None:
    def draws(x: Tensor, factor: Tensor) -> Tensor:
        torch.rand(3), np.random.rand(3), random.random()
        return x * factor

    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    expected = torch.rand(2).tolist(), np.random.rand(2).tolist(), random.random()
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    assert check(draws).passed
    assert (torch.rand(2).tolist(), np.random.rand(2).tolist(), random.random()) == expected


def test_a_default_device_of_the_notebook_does_not_reach_the_cases() -> None:
    with torch.device("meta"):
        assert check(scale).passed


# Each wrong answer has its message -------------------------------------------------------------------


async def waits(x: Tensor, factor: Tensor) -> Tensor:
    return x * factor


def yields(x: Tensor, factor: Tensor) -> Iterator[Tensor]:
    yield x * factor


def mutates(x: Tensor, factor: Tensor) -> Tensor:
    x *= factor
    return x.clone()


def recurses(x: Tensor, factor: Tensor) -> Tensor:
    return recurses(x, factor)


def unwritten_for_numbers(x: Tensor, factor: Tensor) -> Tensor:
    if x.ndim == 1:
        raise NotImplementedError
    return x * factor


def undefined(x: Tensor, factor: Tensor) -> Tensor:
    return x * nothing  # type: ignore[name-defined]  # noqa: F821


WRONG: dict[str, tuple[Any, str, str]] = {
    "forgotten return": (lambda x, factor: print(), "none", "Is the `return` missing?"),
    "not a function": (3, "not callable", "what you gave is of type int"),
    "a class": (nn.Linear, "not callable", "what you gave is of type class"),
    "argument renamed": (lambda x, c: x * c, "signature", "`c` should be called `factor`"),
    "argument missing": (lambda x: x, "signature", "does not take `factor`"),
    "argument too many": (lambda x, factor, t: x, "signature", "asks for `t` too, which nobody gives it"),
    "arguments swapped": (lambda factor, x: x * factor, "signature", "in another order"),
    "by name only": (lambda x, *, factor: x * factor, "signature", "in another order"),
    "async": (waits, "type", "a coroutine. Write `def` in place of"),
    "yield": (yields, "type", "a generator. Did you write `yield`"),
    "a number": (lambda x, factor: 3, "type", "you gave a whole number."),
    "numpy": (lambda x, factor: (x * factor).numpy(), "type", "you gave a numpy array"),
    "float16": (lambda x, factor: (x * factor).half(), "value", "The dtype is float16, too"),
    "int": (lambda x, factor: (x * factor).int(), "value", "The dtype is int32, too"),
    "shape": (lambda x, factor: (x * factor)[:1], "shape", "has shape (1, 3, 5, 4), expected was"),
    "NaN": (lambda x, factor: (x * factor).log(), "nonfinite", "is NaN (not a number) in 51 of 120"),
    "infinite": (lambda x, factor: x / 0, "nonfinite", "is infinite in 120 of 120 entries"),
    "opposite sign": (lambda x, factor: -x * factor, "value", "has the opposite sign everywhere."),
    "in place": (mutates, "mutated", "your function changes its argument `x`"),
    "draws noise": (lambda x, factor: x * factor + torch.randn(()), "random", "gave two different results"),
    "raises": (lambda x, factor: x @ factor, "exception", "raised RuntimeError: both arguments to"),
    "undefined name": (undefined, "exception", "NameError: name 'nothing' is not defined. Is it spelt"),
    "exit": (lambda x, factor: sys.exit(), "exception", "SystemExit. Leave exit() out"),
    "recursion": (recurses, "exception", "RecursionError: maximum recursion depth"),
    "half written": (unwritten_for_numbers, "not implemented", "Part of it is still to be written."),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_each_kind_of_wrong_answer_has_its_own_message(name: str) -> None:
    answer, kind, message = WRONG[name]
    verdict = check(answer)
    assert (verdict.status, verdict.kind, verdict.misconception) == ("wrong", kind, None)
    assert message in verdict.message


def test_one_sample_factors_that_do_not_broadcast_get_a_tip() -> None:
    def unshaped(x: Tensor, factor: Tensor) -> Tensor:
        return x * factor.expand(len(x))

    assert "becomes (B, 1, 1, 1) before it multiplies (B, C, H, W)" in check(unshaped).message


@pytest.mark.parametrize(
    "body", ["pass", "...", '"""Only words."""', "raise NotImplementedError  # your code here"]
)
def test_a_stub_reads_not_attempted(body: str) -> None:
    space: dict[str, Any] = {}
    exec(compile(f"def scale(x, factor):\n    {body}\n", "<cell>", "exec"), space)
    verdict = check(space["scale"])
    assert (verdict.status, verdict.kind) == ("not attempted", "untouched")
    if "raise" in body:
        assert "Replace `raise NotImplementedError` (line 2) with your code" in verdict.message


def test_an_error_of_torchs_own_is_no_stub() -> None:
    """torch raises NotImplementedError for what a backend lacks."""
    verdict = check(lambda x, factor: torch.empty(2, device="meta").numpy())
    assert verdict.status == "wrong"
    assert verdict.kind == "exception"


def test_a_loop_is_stopped_and_its_line_is_shown() -> None:
    def loops(x: Tensor, factor: Tensor) -> Tensor:
        print("in the loop")
        while True:
            factor = factor + 1

    verdict = check(loops, replace(SCALE, timeout=1.5))
    assert verdict.kind == "timeout"
    assert "stopped after 1.5 s" in verdict.message
    assert verdict.frames[-1][1:] in (("factor = factor + 1", "loops"), ("while True:", "loops"))
    assert verdict.printed == "in the loop\n"
    outputs = run(replace(SCALE, timeout=9.0), loops, timeout=0.2)  # a grader sets its own
    assert [ran.case for ran in outputs.cases] == ["pictures"]
    assert "after 0.2 s" in judge(SCALE, outputs).message


def test_only_the_students_own_frames_are_shown() -> None:
    def inner(x: Tensor) -> Tensor:
        return torch.nn.functional.conv2d(x, x.sum())

    def outer(x: Tensor, factor: Tensor) -> Tensor:
        return inner(x)

    verdict = check(outer)
    assert [frame[1:] for frame in verdict.frames] == [
        ("return inner(x)", "outer"),
        ("return torch.nn.functional.conv2d(x, x.sum())", "inner"),
    ]
    assert verdict.frames[1][0] == inner.__code__.co_firstlineno + 1
    assert len(check(recurses).frames) == 4  # of a thousand


def test_an_error_that_can_not_even_be_printed() -> None:
    class Hostile(Exception):
        def __str__(self) -> str:
            raise ValueError("no")

    def raises(x: Tensor, factor: Tensor) -> Tensor:
        raise Hostile

    assert check(raises).message == "Your code raised Hostile."


@pytest.mark.filterwarnings("ignore:careful")
def test_what_the_answer_prints_is_kept_and_bounded() -> None:
    def prints(x: Tensor, factor: Tensor) -> Tensor:
        print("shape", tuple(x.shape))
        warnings.warn("careful", stacklevel=1)
        print("x" * 10**6)
        return x * factor

    verdict = check(prints)
    assert verdict.passed
    assert verdict.printed.startswith("shape (2, 3, 5, 4)\n")
    assert len(verdict.printed) < 2100


def test_the_same_answer_from_call_to_call() -> None:
    calls: list[int] = []

    def counts(x: Tensor, factor: Tensor) -> Tensor:
        calls.append(1)
        return x * factor * len(calls)

    assert check(counts).kind == "random"


# Misconceptions -------------------------------------------------------------------------------------


def test_a_misconception_is_named_with_case_inputs_place_and_pictures() -> None:
    verdict = check(lambda x, factor: factor + x)
    assert (verdict.kind, verdict.misconception) == ("misconception", "sum")
    assert verdict.message == "You added the factor: multiply by it."
    assert verdict.case == "pictures"
    assert verdict.inputs[0][0] == "x"
    assert verdict.inputs[1] == ("factor", "float32 (): 2")
    assert verdict.expected.startswith("float32 (2, 3, 5, 4), from −7.1 to 5.5")
    assert "120 of 120 numbers differ, most at index [1, 2, 4, 3]: expected −7.0953, yours" in verdict.where
    assert verdict.where.endswith("Your result is x + 2, expected is 2·x.")
    assert [picture.label for picture in verdict.thumbnails] == ["yours", "expected", "difference"]


def test_the_place_of_a_misconception_begins_as_a_sentence_does() -> None:
    def own_stride(layers: list[tuple[int, int]]) -> int:
        return 1 + sum((kernel - 1) * stride for kernel, stride in layers)

    verdict = check(own_stride, get("06.1"))
    assert verdict.misconception == "own-stride-alone"
    assert verdict.where.startswith("Expected ")


def test_a_misconception_may_raise_or_be_a_dtype_or_change_its_input() -> None:
    assert check(lambda x, factor: torch.reshape(x, (-1, 5, 4)) * factor).misconception == "view"
    assert check(lambda x, factor: (x * factor).double()).misconception == "double"
    assert check(swap_in_place).misconception == "in-place-sum"
    assert (
        check(lambda x, factor: x.double() + factor).misconception == "sum"
    )  # its dtype is beside the point


def test_a_misconception_that_raises_is_told_from_other_errors_of_its_type() -> None:
    """A RuntimeError may be anything: the sentence belongs to the one that says the same."""

    def no_gradient(x: Tensor, factor: Tensor) -> Tensor:
        return torch.autograd.grad((x.detach() * factor.detach()).sum(), x)[0]

    sentence = "You asked for a gradient where none is kept: switch it on with torch.enable_grad()."
    exercise = replace(
        SCALE, misconceptions=[*SCALE.misconceptions, Misconception("no-grad", no_gradient, sentence)]
    )
    assert check(no_gradient, exercise).message == sentence
    assert check(lambda x, factor: x.sum().backward(), exercise).misconception == "no-grad"
    other = check(lambda x, factor: x @ factor, exercise)
    assert other.misconception is None
    assert other.message.startswith("Your code raised RuntimeError: both arguments to")


def test_one_case_that_does_not_fit_is_enough_to_name_nothing() -> None:
    verdict = check(lambda x, factor: x + factor if x.ndim > 1 else x - 3)
    assert verdict.misconception is None
    assert verdict.message.startswith("120 of 120 numbers differ")


def test_a_planted_bug_reads_not_attempted_until_something_changes() -> None:
    debug = replace(SCALE, kind="debug", planted="sum")
    verdict = check(lambda x, factor: factor + x, debug)
    assert (verdict.status, verdict.kind) == ("not attempted", "planted")
    assert "still there" in verdict.message
    assert check(lambda x, factor: x / factor, debug).misconception == "division"
    assert check(scale, debug).passed


def test_the_index_of_the_largest_difference_picks_the_picture() -> None:
    def spoils_one(x: Tensor, factor: Tensor) -> Tensor:
        result = x * factor
        if x.ndim == 4:
            result[-1, 0, 4, 3] += 3.0
        return result

    verdict = check(spoils_one)
    assert "1 of 120 numbers differ, most at index [1, 0, 4, 3]" in verdict.message
    difference = np.asarray(Image.open(io.BytesIO(verdict.thumbnails[2].png)))
    assert difference.shape == (5, 4, 3)  # three channels: a colour picture
    assert difference[4, 3].tolist() == [255, 0, 0]
    assert difference.sum() == 255
    assert "white is 3" in verdict.thumbnails[2].alt


# Predictions ----------------------------------------------------------------------------------------

WHEN = replace(
    SCALE,
    kind="predict",
    reference=lambda: 0.37,
    cases=[Case("your answer", lambda g: {})],
    misconceptions=[Misconception("half", lambda: 0.5, "Half is what one expects; it falls faster.")],
    rtol=0.05,
)
PICK = replace(
    WHEN,
    reference=lambda: "B",
    choices=("A", "B", "C"),
    misconceptions=[Misconception("A", lambda: "A", "A forgets that the noise has a variance too.")],
)


def test_a_prediction_is_right_within_its_tolerance() -> None:
    assert check(lambda: 0.38, WHEN).passed
    assert check(lambda: torch.tensor([0.37]), WHEN).passed
    assert check(lambda: " b", PICK).passed


@pytest.mark.parametrize(
    ("exercise", "answer", "message"),
    [
        (WHEN, 0.1, "Your answer is too small."),
        (WHEN, 3, "Your answer is too large."),
        (WHEN, 0.5, "Half is what one expects; it falls faster."),
        (WHEN, None, "Your function returned None: `return` your answer."),
        (WHEN, "x", "A number was expected, and you gave a text."),
        (PICK, "C", "Your answer is not the right one."),
        (PICK, "D", "'D' is none of the choices: return one of 'A', 'B', 'C'."),
        (PICK, "a", "A forgets that the noise has a variance too."),
    ],
)
def test_a_wrong_prediction_is_explained_and_not_given_away(
    exercise: Exercise, answer: Any, message: str
) -> None:
    verdict = check(lambda: [answer][0], exercise)
    assert verdict.message == message
    assert verdict.expected == verdict.where == verdict.case == ""
    assert "0.37" not in str(verdict)
    assert "'B'" not in str(verdict).replace(message, "")


# Classes, and results of several parts ---------------------------------------------------------------


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.linear(x)


def use(module: Any, width: int, x: Tensor) -> tuple[Tensor, Tensor]:
    made = module(width)
    for parameter in made.parameters():
        nn.init.constant_(parameter, 0.1)
    result = made(x)
    result.sum().backward()
    return result, made.linear.weight.grad


MODULE = replace(
    SCALE,
    name="Residual",
    reference=Residual,
    call=use,
    cases=[Case(str(n), lambda g, n=n: {"width": n, "x": torch.randn(4, n, generator=g)}) for n in (2, 3, 5)],
    misconceptions=[],
)


def test_a_class_is_an_answer_where_the_exercise_says_how_to_use_it() -> None:
    class NoShortcut(Residual):
        def forward(self, x: Tensor) -> Tensor:
            return self.linear(x)

    class Cut(Residual):
        def forward(self, x: Tensor) -> Tensor:
            return x + self.linear(x.detach()).detach() + self.linear(x) * 0

    class Unwritten(nn.Module):
        def __init__(self, width: int) -> None:
            raise NotImplementedError

    assert check(Residual, MODULE).passed
    right = "Right in your result: the second result. Not right: the first result."
    assert f"{right} In the first result: 8 of 8" in check(NoShortcut, MODULE).message
    cut = check(Cut, MODULE).message
    assert cut.startswith("Right in your result: the first result. Not right: the second result. ")
    assert "Your result is zero everywhere. In the second result: 4 of 4" in cut
    assert check(Unwritten, MODULE).status == "not attempted"
    assert check(type("Empty", (), {}), MODULE).status == "not attempted"
    assert "asks for a class named `Residual`" in check(scale, MODULE).message


# Between processes ----------------------------------------------------------------------------------


def answers() -> list[Any]:
    return [
        scale,
        lambda x, factor: x + factor,
        lambda x, factor: None,
        lambda x: x,
        mutates,
        recurses,
        yields,
        3,
    ]


@pytest.mark.parametrize("number", range(8))
def test_a_verdict_is_the_same_from_a_file(tmp_path: Path, number: int) -> None:
    outputs = run(SCALE, answers()[number], seed=9)
    outputs.save(tmp_path / "outputs.npz")
    assert judge(SCALE, Outputs.load(tmp_path / "outputs.npz"), seed=9) == judge(SCALE, outputs, seed=9)
    buffer = io.BytesIO()
    outputs.save(buffer)
    buffer.seek(0)
    assert judge(SCALE, Outputs.load(buffer)) == judge(SCALE, outputs)


def test_the_side_that_runs_holds_no_expected_value() -> None:
    def must_not_be_called(x: Tensor, factor: Tensor) -> Tensor:
        raise AssertionError("the reference was called")

    blind = replace(SCALE, reference=must_not_be_called, misconceptions=[])
    outputs = run(blind, lambda x, factor: x + factor)
    assert [ran.failure for ran in outputs.cases] == [None] * 3


def test_the_judge_judges_its_own_cases_and_seed() -> None:
    """Whoever writes the outputs can neither leave a case out nor choose an easier one."""
    outputs = run(SCALE, scale)
    short = replace(outputs, cases=outputs.cases[:1])
    verdict = judge(SCALE, short)
    assert (verdict.status, verdict.kind) == ("wrong", "missing")
    assert not judge(SCALE, outputs, seed=1).passed
    assert judge(SCALE, run(SCALE, scale, seed=1), seed=1).passed
    with pytest.raises(ValueError, match=r"of exercise 02\.1, this is 99\.1"):
        judge(SCALE, run(get("02.1"), scale))


def test_a_changed_exercise_keeps_no_answers_of_the_old_one() -> None:
    assert check(scale).passed
    halved = replace(SCALE, call=lambda answer, x, factor: answer(x, factor) / 2)
    assert check(scale, halved).passed
    assert check(lambda x, factor: x + factor, halved).misconception == "sum"


def test_other_cases_can_be_given() -> None:
    cases = [Case("zeros", lambda g: {"x": torch.zeros(3), "factor": torch.tensor(1.0)})]
    outputs = run(SCALE, lambda x, factor: x, cases)
    assert [ran.case for ran in outputs.cases] == ["zeros"]
    assert judge(SCALE, outputs, cases).passed


@pytest.mark.parametrize("content", [b"", b"not a file of numbers", b"PK\x03\x04 a torn zip"])
def test_a_damaged_file_is_a_clear_error(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "outputs.npz"
    file.write_bytes(content)
    with pytest.raises(ValueError, match="not a file of outputs"):
        Outputs.load(file)


def test_a_forged_file_is_a_clear_error_and_runs_nothing(tmp_path: Path) -> None:
    file = tmp_path / "outputs.npz"
    np.savez(file, record=np.array([print], dtype=object))
    with pytest.raises(ValueError, match="not a file of outputs"):
        Outputs.load(file)
    np.savez(file, record=np.frombuffer(b'{"format": 1, "exercise": "99.1"}', np.uint8))
    with pytest.raises(ValueError, match="not a file of outputs"):
        Outputs.load(file)
    with pytest.raises(FileNotFoundError):
        Outputs.load(tmp_path / "none.npz")


def test_outputs_on_another_device_are_told_from_ours() -> None:
    outputs = run(SCALE, scale)
    value = outputs.cases[0].value
    assert isinstance(value, Array)
    moved = replace(outputs.cases[0], value=replace(value, device="cuda:0"))
    verdict = judge(SCALE, replace(outputs, cases=(moved, *outputs.cases[1:])))
    assert verdict.kind == "device"
    assert "they" not in verdict.message
    assert "their device is cuda:0, expected was cpu. Make new tensors on the device" in verdict.message


@pytest.mark.gpu
def test_an_answer_that_stays_on_the_cpu_is_found_on_the_gpu() -> None:
    cases = SCALE.cases[:1]
    assert judge(SCALE, run(SCALE, scale, cases, device="cuda"), cases).passed
    back = judge(SCALE, run(SCALE, lambda x, factor: (x * factor).cpu(), cases, device="cuda"), cases)
    assert back.kind == "device"
    mixed = judge(SCALE, run(SCALE, lambda x, factor: x * torch.ones(4), cases, device="cuda"), cases)
    assert mixed.kind == "exception"
    assert "Make new tensors on the device of the inputs: torch.zeros(" in mixed.message


def test_what_should_hold_is_said_as_it_is() -> None:
    exercise = replace(
        SCALE, reference=lambda x, factor: {"x is kept": True}, misconceptions=[], alternatives=[]
    )
    said = check(lambda x, factor: {"x is kept": False}, exercise).message
    assert said.startswith("This should hold, and does not: x is kept.")


def test_a_part_is_named_though_its_name_holds_an_apostrophe() -> None:
    weights = "the network's weights"
    exercise = replace(
        SCALE, reference=lambda x, factor: {weights: x * factor}, misconceptions=[], alternatives=[]
    )
    said = check(lambda x, factor: {weights: x * factor + 1}, exercise).message
    assert "In the network's weights: 120 of 120 numbers differ" in said
