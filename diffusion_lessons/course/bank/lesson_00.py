"""The start page: one small exercise to try the machinery on."""

import torch
from torch import Tensor

from diffusion_lessons.course.bank.inputs import blobs
from diffusion_lessons.course.exercises.exercise import Case, Exercise, Misconception


def to_unit(x: Tensor) -> Tensor:
    """From [−1, 1], the range of the networks, to [0, 1], the range of pictures."""
    return (x + 1) / 2


TO_UNIT = Exercise(
    id="00.1",
    name="to_unit",
    title="From [−1, 1] to [0, 1]",
    kind="implement",
    difficulty=1,
    minutes=2,
    reference=to_unit,
    cases=[
        Case("the two ends and the middle", lambda g: {"x": torch.tensor([-1.0, 0.0, 1.0])}),
        Case("two pictures", lambda g: {"x": blobs(g, 2, 1, 8, 8)}),
        Case("three colour pictures that are not square", lambda g: {"x": blobs(g, 3, 3, 4, 6)}),
    ],
    misconceptions=[
        Misconception(
            "brackets-missing",
            lambda x: x + 1 / 2,
            "You wrote x + 1/2: the division comes before the sum, so −1 becomes −0.5. Add first, in "
            "brackets, then halve.",
        ),
        Misconception(
            "halved-too-early",
            lambda x: x / 2 + 1,
            "You halved x and then added a whole 1, so the range is [0.5, 1.5] now. Halve the 1 too.",
        ),
        Misconception(
            "not-halved",
            lambda x: x + 1,
            "You moved the range to [0, 2] and left it twice too wide: halve it.",
        ),
        Misconception(
            "not-moved",
            lambda x: x / 2,
            "You halved the range but did not move it: it is [−0.5, 0.5] now. Its lower end belongs at 0.",
        ),
        Misconception(
            "cut-off",
            lambda x: x.clamp(0, 1),
            "You cut the values off at 0, so the darker half of the picture is gone. Move and shrink the "
            "range instead; no two values may become one.",
        ),
    ],
    alternatives=[lambda x: 0.5 * x + 0.5, lambda x: x.add(1).div(2), lambda x: x - (x - 1) / 2],
    hints=(
        "The range [−1, 1] is 2 wide and starts at −1; the range [0, 1] is 1 wide and starts at 0. So it has "
        "to be moved and shrunk.",
        "A line through two points: −1 ↦ 0 and 1 ↦ 1. Its slope is 1/2.",
        "One line: `return (x + …) / …`.",
    ),
)

EXERCISES = [TO_UNIT]
