"""Another seed, other numbers: an answer that knows those of one seed fails at another."""

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
import torch

from diffusion_lessons.course import bank
from diffusion_lessons.course.bank import inputs
from diffusion_lessons.course.exercises.check import check
from diffusion_lessons.course.exercises.compare import difference
from diffusion_lessons.course.exercises.exercise import Case, Exercise
from diffusion_lessons.course.exercises.running import Runner
from diffusion_lessons.course.exercises.values import Array, Fields, Plain, plain

SEEDS = (1, 2, 3, 4, 5)
ASKED = [each for each in bank.exercises() if each.kind != "predict"]  # a prediction takes no inputs
each_exercise = pytest.mark.parametrize("exercise", ASKED, ids=lambda exercise: exercise.id)
NOTHING_TO_DRAW = {  # one right answer, whatever is drawn
    ("06.1", "no layer at all: the pixel itself"),
    ("17.6", "never reached"),  # 0
}
FIXED = {  # they stand in the names of the cases
    "06.3": {"groups"},
    "09.4": {"y"},
    "14.6": {"causal"},
    "19.2": {"written"},
    "20.5": {"k"},
}


@cache
def results(exercise: Exercise, case: Case) -> list[Plain]:
    return [Runner(exercise, exercise.reference, seed, "cpu").run([case])[0].value for seed in SEEDS]


def others(exercise: Exercise, values: Sequence[Plain], rtol: float = 0, atol: float = 0) -> int:
    """How many of the values are not the first."""
    return sum(difference(values[0], each, rtol, atol) is not None for each in values[1:])


@each_exercise
def test_every_case_draws_its_inputs_and_has_other_results_at_another_seed(exercise: Exercise) -> None:
    for case in exercise.cases:
        if (exercise.id, case.name) in NOTHING_TO_DRAW:
            continue
        given = [plain(exercise.inputs(case, seed)) for seed in SEEDS]
        assert others(exercise, given) >= 2, f"{case.name}: the same inputs at seeds {SEEDS}"
        expected = results(exercise, case)
        assert others(exercise, expected, exercise.rtol, exercise.atol) >= 1, f"{case.name}: one result"


@each_exercise
def test_the_right_results_of_one_seed_pass_at_no_other(exercise: Exercise) -> None:
    """All cases together: no two of five seeds ask for the same."""
    of_cases = [results(exercise, case) for case in exercise.cases]
    of_seeds = [[values[place] for values in of_cases] for place in range(len(SEEDS))]
    for place, mine in enumerate(of_seeds):
        for other in of_seeds[place + 1 :]:
            assert difference(mine, other, exercise.rtol, exercise.atol) is not None


def scalars(exercise: Exercise, case: Case) -> Iterator[tuple[str, list[float]]]:
    """The inputs that are numbers, each with its values at all seeds."""
    drawn = [exercise.inputs(case, seed) for seed in SEEDS]
    for name, value in drawn[0].items():
        if isinstance(value, (int, float)):
            yield name, [each[name] for each in drawn]


def leaves(value: Plain) -> Iterator[Any]:
    """The tensors and numbers of a value."""
    if isinstance(value, Fields):
        value = value.fields
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    yield from () if parts else (value,)
    for part in parts:
        yield from leaves(part)


@each_exercise
def test_a_scalar_that_shapes_the_result_is_drawn_too(exercise: Exercise) -> None:
    """A factor, a time or a number of steps differs between seeds in one case at least."""
    drawn = [(name, values) for case in exercise.cases for name, values in scalars(exercise, case)]
    moved = {name for name, values in drawn if len(set(values)) > 1}
    assert {name for name, _ in drawn} - moved <= FIXED.get(exercise.id, set())


@each_exercise
def test_some_picture_is_not_square(exercise: Exercise) -> None:
    """Rows, columns, channels and pictures in other numbers: a dimension mistaken for another shows."""
    shapes = {
        leaf.shape
        for case in exercise.cases
        for leaf in leaves(plain(exercise.inputs(case)))
        if isinstance(leaf, Array) and len(leaf.shape) == 4
    }
    assert not shapes or any(len(set(shape)) == 4 for shape in shapes), shapes


@each_exercise
def test_right_answers_written_otherwise_pass_at_any_seed(exercise: Exercise) -> None:
    for seed in (100, 101):
        for place, answer in enumerate(exercise.alternatives):
            verdict = check(exercise, answer, seed)
            assert verdict.passed, f"alternative {place} at seed {seed}, {verdict.case!r}: {verdict.message}"


@each_exercise
def test_every_misconception_says_what_kind_of_slip_it_is(exercise: Exercise) -> None:
    assert [each.name for each in exercise.misconceptions if not each.about] == []


def wrong_at_the_boundary(alphas_cumprod: torch.Tensor) -> int:
    return int((alphas_cumprod < 0.5).nonzero()[0])


def known_schedules(alphas_cumprod: torch.Tensor) -> int | None:
    """Right for the two schedules that everybody uses, in 1000 steps."""
    return {(1001, 0.079): 260, (1001, 0.494): 497}.get(
        (len(alphas_cumprod), round(float(alphas_cumprod[500]), 3))
    )


def whole_strides(denoiser: Any, path: Any, steps: int, noise: torch.Tensor) -> torch.Tensor:
    stride, x = path.T // steps, noise
    times = [path.T - i * stride for i in range(steps)] + [0]
    for t, after in pairwise(times):
        x0, eps = denoiser(x, path(t))
        level = path(after)
        x = (level.alpha * x0 + level.sigma * eps).float()
    return x


def first_pair_decides(a: torch.Tensor, b: torch.Tensor, weight: float) -> torch.Tensor:
    if torch.equal(a[0], b[0]):
        return torch.lerp(a, b, weight)
    omega = torch.cosine_similarity(a.flatten(1), b.flatten(1)).clamp(-1, 1).acos()
    omega = omega.view(-1, *[1] * (a.ndim - 1))
    return (((1 - weight) * omega).sin() * a + (weight * omega).sin() * b) / omega.sin()


def clipped_x0(x: torch.Tensor, eps: torch.Tensor, alpha_bar: torch.Tensor) -> torch.Tensor:
    return ((x - (1 - alpha_bar).sqrt() * eps) / alpha_bar.sqrt()).clamp(-1, 1)


MISSED_BEFORE = {
    "02.3": (wrong_at_the_boundary, known_schedules),
    "03.2": (clipped_x0,),
    "05.4": (whole_strides,),
    "08.4": (first_pair_decides,),
    "10.1": (
        lambda labels, rate, num_classes, chance: torch.where(chance <= rate, num_classes, labels),
        lambda labels, rate, num_classes, chance: labels.masked_fill(chance[:1] < rate, num_classes),
    ),
    "10.4": (
        lambda level, scale, low, high: scale if low <= level.sigma / level.alpha < high else 1.0,
        lambda level, scale, low, high: scale if low < level.sigma / level.alpha < high else 1.0,
        lambda level, scale, low, high: scale if low <= level.sigma / level.alpha <= high else 1.0,
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("id", "answer"), [(id, answer) for id, answers in MISSED_BEFORE.items() for answer in answers]
)
@pytest.mark.parametrize("seed", [0, 7])
def test_a_boundary_a_clamp_and_a_decision_for_the_batch_are_noticed(id: str, answer: Any, seed: int) -> None:
    verdict = check(bank.get(id), answer, seed)
    assert verdict.status == "wrong"


@pytest.mark.parametrize("by", [0.49, -0.49, 0.0])
def test_equal_steps_may_be_rounded_either_way(by: float) -> None:
    """05.4 asks for equal steps: whether the times are rounded, and how, is left open."""

    def walk(denoiser: Any, path: Any, steps: int, noise: torch.Tensor) -> torch.Tensor:
        even = [path.T * k / steps for k in range(steps, -1, -1)]
        times = [min(max(round(t + by) if by else t, 0), path.T) for t in even]
        x = noise
        for t, after in pairwise(times):
            x0, eps = denoiser(x, path(t))
            x = (path(after).alpha * x0 + path(after).sigma * eps).float()
        return x

    verdict = check(bank.get("05.4"), walk, seed=3)
    assert verdict.passed, verdict.message


def test_what_is_drawn_lies_between_its_bounds() -> None:
    g = torch.Generator().manual_seed(0)
    for _ in range(50):
        assert 0.2 <= inputs.number(g, 0.2, 0.3) <= 0.3
        assert inputs.whole(g, 3, 5) in (3, 4, 5)
        drawn = inputs.several(g, 4, 2, 6)
        assert len(set(drawn)) == 4 and set(drawn) <= set(range(2, 7))
        times = inputs.falling(g, 4, 10, 100, apart=20)
        assert times[-1] >= 10 and times[0] <= 100
        assert all(one - other >= 20 for one, other in pairwise(times))
    assert inputs.number(g, 1.0, 1.0) == 1.0
