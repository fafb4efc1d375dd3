"""Which answers are pointed out as equal or nearly equal, and which are not."""

import time

import pytest

from diffusion_lessons.course import bank
from diffusion_lessons.course.grading.marks.alike import alike, stubs

LONG = '''\
@exercise("03.4")
def walk_back(predict_x0, x, noises, alpha_bars):
    """All steps."""
    for i in range(len(noises)):
        mean, variance = posterior(predict_x0(x, i), x, alpha_bars[i], alpha_bars[i + 1])
        std = (1 - alpha_bars[i] / alpha_bars[i + 1]).sqrt()
        x = mean + std * noises[i]
    return x
'''
OTHERWISE = """\
@exercise("03.4")
def walk_back(predict_x0, x, noises, alpha_bars):
    pairs = zip(alpha_bars[:-1], alpha_bars[1:])
    for step, ((kept, after), fresh) in enumerate(zip(pairs, noises)):
        guess = predict_x0(x, step)
        ratio = kept / after
        first = ratio.sqrt() * (1 - after) * x + after.sqrt() * (1 - ratio) * guess
        x = first / (1 - kept) + torch.sqrt(1 - ratio) * fresh
    return x
"""
RENAMED = LONG.replace("mean", "mu").replace("std", "s").replace(" i ", " step ").replace("[i", "[step")
SPACED = LONG.replace("        x = mean", "\n        # the draw\n        x  =  mean").replace(
    '"""All steps."""', '"Mine."'
)
EDITED = LONG.replace("mean + std * noises[i]", "noises[i] * std + mean")
SHORT = '@exercise("02.1")\ndef one_step(x, noise, beta):\n    return (1 - beta).sqrt() * x + beta * noise'


@pytest.mark.parametrize(
    ("answers", "stub", "found"),
    [
        ([LONG, OTHERWISE, LONG], "", [((0, 2), True)]),
        ([LONG, RENAMED.replace(", i)", ", step)"), OTHERWISE], "", [((0, 1), True)]),
        ([SPACED, OTHERWISE, LONG], "", [((0, 2), True)]),
        ([LONG, EDITED, OTHERWISE], "", [((0, 1), False)]),
        ([LONG, OTHERWISE], "", []),
        ([SHORT, SHORT], "", []),  # what the exercise makes of everybody's
        ([LONG] * 4 + [OTHERWISE] * 2, "", [((4, 5), True)]),  # more than a third has it: nobody's own
        ([LONG, EDITED, OTHERWISE], LONG, []),  # a debug exercise: one line was changed
        (["def f(:\n  'no end", "\ud83d", "", "((((" * 3000], "", []),
    ],
)
def test_what_is_pointed_out(
    answers: list[str], stub: str, found: list[tuple[tuple[int, ...], bool]]
) -> None:
    assert alike(answers, stub) == found


def test_the_work_is_bounded() -> None:
    """A class of 300 whose answers are long and share much."""
    answers = [LONG + "".join(f"x{j} = x * {i % (j + 2)} + {j}\n" for j in range(200)) for i in range(300)]
    begin = time.process_time()
    alike(answers)
    assert time.process_time() - begin < 20


def test_what_was_handed_out_is_known_for_every_exercise_of_a_lesson() -> None:
    assert set(stubs("02")) == {each.id for each in bank.exercises("02")}
    assert "your code here" in stubs("02")["02.1"]
    assert stubs("98") == {}
