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
        Case(
            "the two ends, the middle, and three values between",
            lambda g: {"x": torch.cat([torch.tensor([-1.0, 0.0, 1.0]), 2 * torch.rand(3, generator=g) - 1])},
        ),
        Case("three pictures", lambda g: {"x": blobs(g, 3, 1, 8, 6)}),
        Case("two colour pictures", lambda g: {"x": blobs(g, 2, 3, 4, 6)}),
    ],
    misconceptions=[
        Misconception(
            "brackets-missing",
            lambda x: x + 1 / 2,
            "You wrote x + 1/2: the division comes before the sum, so −1 becomes −0.5. Add first, in "
            "brackets, then halve.",
            about="order",
        ),
        Misconception(
            "halved-too-early",
            lambda x: x / 2 + 1,
            "You halved x and then added a whole 1, so the range is [0.5, 1.5] now. Halve the 1 too.",
            about="factor",
        ),
        Misconception(
            "not-halved",
            lambda x: x + 1,
            "You moved the range to [0, 2] and left it twice too wide: halve it.",
            about="missing",
        ),
        Misconception(
            "not-moved",
            lambda x: x / 2,
            "You halved the range but did not move it: it is [−0.5, 0.5] now. Its lower end belongs at 0.",
            about="missing",
        ),
        Misconception(
            "cut-off",
            lambda x: x.clamp(0, 1),
            "You cut the values off at 0, so the darker half of the picture is gone. Move and shrink the "
            "range instead; no two values may become one.",
            about="formula",
        ),
        Misconception(
            "the-other-way",
            lambda x: x * 2 - 1,
            "This is the way from [0, 1] to [−1, 1]. Here x comes in [−1, 1], and [0, 1] is to come out.",
            about="direction",
        ),
        Misconception(
            "moved-by-a-half",
            lambda x: (x + 0.5) / 2,
            "You moved the range by ½, and its lower end lies at −1: it takes a whole 1 to bring it to 0.",
            about="factor",
        ),
        Misconception(
            "own-ends",
            lambda x: (x - x.min()) / (x.max() - x.min()),
            "You stretched each tensor between its own smallest and largest value. A grey picture would "
            "become black and white: the ends of the range are −1 and 1, whatever is in the picture.",
            about="formula",
        ),
        Misconception(
            "sign-lost",
            lambda x: x.abs(),
            "You dropped the sign, so that black and white become the same. Move and shrink the range "
            "instead; no two values may become one.",
            about="sign",
        ),
        Misconception(
            "sigmoid",
            lambda x: x.sigmoid(),
            "A sigmoid does end between 0 and 1, but −1 becomes 0.27 and 1 becomes 0.73, on a curve. What is "
            "asked for is a straight line from −1 ↦ 0 to 1 ↦ 1.",
            about="formula",
        ),
        Misconception(
            "to-255",
            lambda x: (x + 1) * 127.5,
            "You went on to 0 … 255, the bytes of a picture file. Asked is the range [0, 1].",
            about="reading",
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
