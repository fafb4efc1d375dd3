"""Lesson 07, the cost of sampling: the clock, spacing, a walk off its times, two steps in one, distilling."""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from diffusion_lessons.conditions import Condition
from diffusion_lessons.course.bank import figures
from diffusion_lessons.course.bank.descent import Descent
from diffusion_lessons.course.bank.inputs import (
    blobs,
    cosine,
    falling,
    gaussian,
    linear,
    normal,
    number,
    whole,
)
from diffusion_lessons.course.exercises.exercise import Case, Exercise, Misconception
from diffusion_lessons.denoiser import Denoiser
from diffusion_lessons.metrics.cost import run_seconds
from diffusion_lessons.mixtures import GaussianMixture
from diffusion_lessons.paths import DiscreteVP, Level, add_noise
from diffusion_lessons.samplers import sample
from diffusion_lessons.schedules import cosine_betas
from diffusion_lessons.targets import Estimate, V
from diffusion_lessons.training.distillation import distillation_target, two_steps

Make = Callable[[torch.Generator], dict[str, Any]]


# 07.1 The time of a run -----------------------------------------------------------------------------


def _sizes(pictures: int, batch: int) -> list[int]:
    """How many pictures each batch holds."""
    return [min(batch, pictures - start) for start in range(0, pictures, batch)]


def _guided(guidance: float) -> int:
    return 1 if guidance in (0, 1) else 2


def _by_batches(
    pictures: int, batch: int, steps: int, guidance: float, fixed: float, per_picture: float
) -> float:
    seconds = 0.0
    for size in _sizes(pictures, batch):
        for _ in range(steps):
            seconds += fixed + per_picture * size * _guided(guidance)
    return seconds


def _by_sum(
    pictures: int, batch: int, steps: int, guidance: float, fixed: float, per_picture: float
) -> float:
    seen = pictures if guidance == 1 or guidance == 0 else 2 * pictures
    calls = -(-pictures // batch)
    return steps * calls * fixed + steps * seen * per_picture


def _whole_batches_only(
    pictures: int, batch: int, steps: int, guidance: float, fixed: float, per_picture: float
) -> float:
    calls = pictures // batch
    return steps * (calls * fixed + _guided(guidance) * calls * batch * per_picture)


def _last_batch_filled(
    pictures: int, batch: int, steps: int, guidance: float, fixed: float, per_picture: float
) -> float:
    calls = math.ceil(pictures / batch)
    return steps * calls * (fixed + _guided(guidance) * batch * per_picture)


def _run(
    batches: Callable[[torch.Generator], tuple[int, int]],
    steps: tuple[int, int],
    guidance: Callable[[torch.Generator], float],
) -> Make:
    return lambda g: {
        **dict(zip(("pictures", "batch"), batches(g), strict=True)),
        "steps": whole(g, *steps),
        "guidance": guidance(g),
        "fixed": number(g, 0.02, 0.1),
        "per_picture": number(g, 0.002, 0.01),
    }


def _remainder(g: torch.Generator) -> tuple[int, int]:
    """Some full batches and one that is less than half full."""
    batch = whole(g, 30, 70)
    return batch * whole(g, 2, 4) + whole(g, 3, batch // 2 - 1), batch


def _full(g: torch.Generator) -> tuple[int, int]:
    batch = whole(g, 20, 70)
    return batch * whole(g, 1, 3), batch


def _one(g: torch.Generator) -> tuple[int, int]:
    return 1, whole(g, 30, 70)


def _at(low: float, high: float) -> Callable[[torch.Generator], float]:
    return lambda g: number(g, low, high)


def _run_figure(reference: Callable[..., float]) -> Any:
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(4.6, 2.4), layout="constrained")
    steps = [1, 4, 10, 25, 50, 100]
    for guidance, mark in ((1.0, "o-"), (2.0, "s--")):
        seconds = [reference(1000, 64, n, guidance, 0.004, 0.002) for n in steps]
        axis.plot(steps, seconds, mark, label=f"guidance {guidance:g}")
    axis.set(xlabel="steps", ylabel="seconds")
    axis.set_title("1000 pictures in batches of 64", fontsize=10)
    axis.legend(frameon=False)
    return figure


RUN = Exercise(
    id="07.1",
    name="predict_seconds",
    title="Predict the time of a run",
    kind="implement",
    difficulty=1,
    minutes=10,
    reference=run_seconds,
    cases=[
        Case("guided, the last batch less than half full", _run(_remainder, (20, 50), _at(1.5, 7.5))),
        Case("the same at guidance 1", _run(_remainder, (20, 50), _at(1.0, 1.0))),
        Case("a single picture, some 1000 steps", _run(_one, (900, 1000), _at(1.0, 1.0))),
        Case("full batches without any condition: guidance 0", _run(_full, (5, 15), _at(0.0, 0.0))),
        Case("full batches, guidance between 0 and 1", _run(_full, (5, 15), _at(0.8, 0.95))),
        Case(
            "a scale below 0, which leads away from the condition", _run(_remainder, (5, 15), _at(-2.0, -0.5))
        ),
    ],
    misconceptions=[
        Misconception(
            "guidance-is-free",
            lambda pictures, batch, steps, guidance, fixed, per_picture: run_seconds(
                pictures, batch, steps, 1.0, fixed, per_picture
            ),
            "You left guidance out. With guidance the network sees every picture twice, once with its "
            "condition and once without.",
            about="missing",
        ),
        Misconception(
            "always-twice",
            lambda pictures, batch, steps, guidance, fixed, per_picture: run_seconds(
                pictures, batch, steps, 2.0, fixed, per_picture
            ),
            "You doubled the pictures at every scale. At guidance 1 the answer is the conditional one alone, "
            "and at 0 the unconditional one alone: one evaluation is enough.",
            about="factor",
        ),
        Misconception(
            "twice-at-zero",
            lambda pictures, batch, steps, guidance, fixed, per_picture: run_seconds(
                pictures, batch, steps, 2.0 if guidance != 1 else 1.0, fixed, per_picture
            ),
            "At guidance 0 you count two evaluations. There only the unconditional answer is left, so one is "
            "enough, as at guidance 1.",
            about="boundary",
        ),
        Misconception(
            "twice-above-one-only",
            lambda pictures, batch, steps, guidance, fixed, per_picture: run_seconds(
                pictures, batch, steps, 2.0 if guidance > 1 else 1.0, fixed, per_picture
            ),
            "You count two evaluations above guidance 1 only. A scale between 0 and 1 mixes both answers as "
            "well: all but 0 and 1 need two.",
            about="boundary",
        ),
        Misconception(
            "two-calls",
            lambda pictures, batch, steps, guidance, fixed, per_picture: (
                _guided(guidance) * run_seconds(pictures, batch, steps, 1.0, fixed, per_picture)
            ),
            "You doubled the fixed cost too. Both halves of a guided step go through the network in one "
            "call, with twice the pictures.",
            about="factor",
        ),
        Misconception(
            "fixed-for-each-picture",
            lambda pictures, batch, steps, guidance, fixed, per_picture: (
                steps * pictures * (fixed + _guided(guidance) * per_picture)
            ),
            "You pay the fixed cost for every picture. It is paid once a call, and a call serves a whole "
            "batch: that is what batches are for.",
            about="count",
        ),
        Misconception(
            "fixed-once",
            lambda pictures, batch, steps, guidance, fixed, per_picture: (
                steps * (fixed + _guided(guidance) * pictures * per_picture)
            ),
            "You pay the fixed cost once a step, as if all pictures went in one call. Each batch takes its "
            "own walk, so it is paid once a step for every batch.",
            about="count",
        ),
        Misconception(
            "fixed-once-a-walk",
            lambda pictures, batch, steps, guidance, fixed, per_picture: (
                math.ceil(pictures / batch) * fixed + steps * _guided(guidance) * pictures * per_picture
            ),
            "You pay the fixed cost once for each batch. Each of its steps is a call of the network of its "
            "own, and each call pays it.",
            about="count",
        ),
        Misconception(
            "part-of-a-call",
            lambda pictures, batch, steps, guidance, fixed, per_picture: (
                steps * (pictures / batch * fixed + _guided(guidance) * pictures * per_picture)
            ),
            "You divided pictures by batch and kept the fraction. A batch that is not full is a whole call "
            "all the same: round up.",
            about="rounding",
        ),
        Misconception(
            "last-batch-forgotten",
            _whole_batches_only,
            "You counted whole batches only. What is left over makes one more batch, a smaller one.",
            about="missing",
        ),
        Misconception(
            "last-batch-filled",
            _last_batch_filled,
            "You charged the last batch as a full one. The fixed cost is the same, but it holds only the "
            "pictures that are left.",
            about="count",
        ),
        Misconception(
            "levels-counted",
            lambda pictures, batch, steps, guidance, fixed, per_picture: run_seconds(
                pictures, batch, steps + 1, guidance, fixed, per_picture
            ),
            "You counted one evaluation too many: n steps go through n + 1 levels, but at the last one, "
            "t = 0, nothing is asked any more.",
            about="count",
        ),
        Misconception(
            "twice-at-one",
            lambda pictures, batch, steps, guidance, fixed, per_picture: run_seconds(
                pictures, batch, steps, 2.0 if guidance > 0 else 0.0, fixed, per_picture
            ),
            "At guidance 1 you count two evaluations. There the conditional answer alone is left, so one is "
            "enough, as at guidance 0.",
            about="boundary",
        ),
        Misconception(
            "one-batch-too-many",
            lambda pictures, batch, steps, guidance, fixed, per_picture: (
                steps * ((pictures // batch + 1) * fixed + _guided(guidance) * pictures * per_picture)
            ),
            "You counted pictures // batch + 1 batches. Where all batches are full that is one too many: "
            "round up, math.ceil(pictures / batch).",
            about="count",
        ),
        Misconception(
            "calls-cut-off",
            lambda pictures, batch, steps, guidance, fixed, per_picture: (
                steps * (pictures // batch * fixed + _guided(guidance) * pictures * per_picture)
            ),
            "You cut the fraction of pictures / batch off, or rounded to the nearest whole number. What is "
            "left over makes one more call, with a smaller batch: round up.",
            about="rounding",
        ),
        Misconception(
            "batch-for-pictures",
            lambda pictures, batch, steps, guidance, fixed, per_picture: (
                steps * (math.ceil(pictures / batch) * fixed + _guided(guidance) * batch * per_picture)
            ),
            "You count the pictures of a single batch. In each step *all* pictures are seen once, or twice "
            "with guidance.",
            about="input",
        ),
        Misconception(
            "one-step",
            lambda pictures, batch, steps, guidance, fixed, per_picture: run_seconds(
                pictures, batch, 1, guidance, fixed, per_picture
            ),
            "That is the time of a single step. The run takes `steps` of them.",
            about="missing",
        ),
        Misconception(
            "scale-for-looks",
            lambda pictures, batch, steps, guidance, fixed, per_picture: (
                steps * (math.ceil(pictures / batch) * fixed + guidance * pictures * per_picture)
            ),
            "You multiplied by the scale. How strong the guidance is costs nothing: what counts is whether "
            "each picture is evaluated once or twice.",
            about="input",
        ),
        Misconception(
            "one-look-at-both-ends-turned",
            lambda pictures, batch, steps, guidance, fixed, per_picture: run_seconds(
                pictures, batch, steps, 2.0 if guidance in (0, 1) else 1.0, fixed, per_picture
            ),
            "The condition is turned round: at guidance 0 and 1 one evaluation is enough, and all other "
            "scales need two.",
            about="boundary",
        ),
        Misconception(
            "steps-on-the-calls-only",
            lambda pictures, batch, steps, guidance, fixed, per_picture: (
                steps * math.ceil(pictures / batch) * fixed + _guided(guidance) * pictures * per_picture
            ),
            "Only the calls are multiplied by the steps. In every step the network sees all pictures anew: "
            "`steps` belongs to both parts.",
            about="missing",
        ),
        Misconception(
            "doubled-calls-alone",
            lambda pictures, batch, steps, guidance, fixed, per_picture: (
                steps * (_guided(guidance) * math.ceil(pictures / batch) * fixed + pictures * per_picture)
            ),
            "You doubled the calls, and not the pictures that the network sees. With guidance each call "
            "holds every picture of its batch twice, and is still one call.",
            about="input",
        ),
        Misconception(
            "scale-from-1-up",
            lambda pictures, batch, steps, guidance, fixed, per_picture: (
                steps * (math.ceil(pictures / batch) * fixed + max(1, guidance) * pictures * per_picture)
            ),
            "You multiplied by the scale, from 1 on. What counts is whether each picture is evaluated once "
            "or twice, and not how strong the guidance is.",
            about="input",
        ),
        Misconception(
            "guidance-fills-batches",
            lambda pictures, batch, steps, guidance, fixed, per_picture: (
                steps
                * (
                    math.ceil(_guided(guidance) * pictures / batch) * fixed
                    + _guided(guidance) * pictures * per_picture
                )
            ),
            "You let the second evaluations fill batches of their own. Both halves of a guided step go "
            "through the network in one call: the number of calls stays what it was.",
            about="count",
        ),
        Misconception(
            "larger-part",
            lambda pictures, batch, steps, guidance, fixed, per_picture: max(
                steps * math.ceil(pictures / batch) * fixed,
                steps * _guided(guidance) * pictures * per_picture,
            ),
            "You took the larger of the two costs. They are paid one after the other: add them.",
            about="formula",
        ),
        Misconception(
            "batch-over-pictures",
            lambda pictures, batch, steps, guidance, fixed, per_picture: (
                steps * (math.ceil(batch / pictures) * fixed + _guided(guidance) * pictures * per_picture)
            ),
            "The fraction is upside down: there are pictures / batch batches, rounded up.",
            about="direction",
        ),
        Misconception(
            "once-below-0",
            lambda pictures, batch, steps, guidance, fixed, per_picture: run_seconds(
                pictures, batch, steps, 1.0 if guidance <= 0 else guidance, fixed, per_picture
            ),
            "You count one evaluation at every scale up to 0. Only at exactly 0 is one enough: a scale "
            "below 0 mixes both answers, too.",
            about="boundary",
        ),
        Misconception(
            "twice-but-at-0",
            lambda pictures, batch, steps, guidance, fixed, per_picture: run_seconds(
                pictures, batch, steps, 2.0 if guidance else 0.0, fixed, per_picture
            ),
            "At guidance 1 you count two evaluations. There the conditional answer alone is left: one is "
            "enough at exactly 0 and at exactly 1.",
            about="boundary",
        ),
        Misconception(
            "nothing-at-0",
            lambda pictures, batch, steps, guidance, fixed, per_picture: (
                run_seconds(pictures, batch, steps, guidance, fixed, per_picture)
                - (guidance == 0) * steps * pictures * per_picture
            ),
            "At guidance 0 you count no evaluation. The unconditional answer is left, and it costs one.",
            about="boundary",
        ),
    ],
    alternatives=[_by_batches, _by_sum],
    hints=(
        "Split the cost into what is paid for each call of the network and what is paid for each picture it "
        "sees. Count the calls, and count the pictures.",
        "Calls: steps · ⌈pictures/batch⌉. Pictures seen: steps · pictures, twice that with guidance. "
        "Guidance 1 and 0 need one evaluation only.",
        "`calls = steps * math.ceil(…)`, `seen = steps * pictures * (1 if guidance in (…) else 2)`, then "
        "`calls * … + seen * …`.",
    ),
    figure=_run_figure,
    figure_alt="Seconds for 1000 pictures over the number of steps, two straight lines through 0: at 100 "
    "steps about 206 s at guidance 1 and about 406 s at guidance 2.",
)


# 07.2 Spacing ---------------------------------------------------------------------------------------


def spaced_times(T: int, n: int, spacing: str) -> list[int]:
    """The times of `DiscreteVP.levels`: n + 1 whole numbers, falling, the last is 0."""
    path = DiscreteVP([0.5] * T)
    return [int(level.t) for level in path.levels(n, spacing)]


def _spaced(**changed: Callable[[int, int], Sequence[float]]) -> Callable[..., list[int]]:
    """A wrong answer: the times of some spacings are other ones."""

    def answer(T: int, n: int, spacing: str) -> list[int]:
        if spacing in changed:
            return [round(t) for t in changed[spacing](T, n)]
        return spaced_times(T, n, spacing)

    return answer


def _cut_off(T: int, n: int, spacing: str) -> list[int]:
    """Fractions cut off instead of rounded."""
    if spacing == "leading":
        return spaced_times(T, n, spacing)
    if spacing == "trailing":
        return [T * k // n for k in range(n, -1, -1)]
    return [*(1 + (T - 1) * k // (n - 1) for k in reversed(range(n))), 0]


def _spaced_by_hand(T: int, n: int, spacing: str) -> list[int]:
    times, stride = [], T // n
    for k in range(n):
        if spacing == "trailing":
            times.append(round(T - k * T / n))
        elif spacing == "leading":
            times.append(1 + stride * (n - 1 - k))
        else:
            times.append(round(T - k * (T - 1) / (n - 1)))
    times.append(0)
    return times


def _spaced_by_torch(T: int, n: int, spacing: str) -> list[int]:
    if spacing == "trailing":
        times = torch.linspace(T, 0, n + 1, dtype=torch.float64)[:-1]
    elif spacing == "leading":
        times = (torch.arange(n) * (T // n)).flip(0) + 1.0
    else:
        times = torch.linspace(T, 1, n, dtype=torch.float64)
    return [*times.round().int().tolist(), 0]


def _rounded_up(T: int, n: int, spacing: str) -> list[int]:
    """Fractions rounded up."""
    if spacing == "leading":
        return spaced_times(T, n, spacing)
    if spacing == "trailing":
        return [-(-T * k // n) for k in range(n, -1, -1)]
    return [*(1 - (-(T - 1) * k // (n - 1)) for k in reversed(range(n))), 0]


def _space(n: Sequence[int], T: tuple[int, int], spacing: str, whole_stride: bool = False) -> Make:
    """One of several n and a T between two bounds, which n divides or not.

    With n odd, or for "linspace" even, no fraction is exactly ½, which people round up or to the even side.
    """

    def make(g: torch.Generator) -> dict[str, Any]:
        chosen = n[whole(g, 0, len(n) - 1)]
        longest = whole(g, *T) // chosen * chosen
        if spacing == "linspace":
            longest += 1  # now n − 1 can divide T − 1 only where n and n − 1 both do
        left = 0 if whole_stride else whole(g, chosen // 2 + 1, chosen - 1)
        return {"T": longest + left, "n": chosen, "spacing": spacing}

    return make


def _halves(spacing: str) -> Make:
    """Fractions of exactly ½, some above an even number and some above an odd one.

    The number of gaps is a power of 2: no way to compute a ½ then rounds it off.
    """

    def make(g: torch.Generator) -> dict[str, Any]:
        gaps = 2 ** whole(g, 3, 5)
        T = gaps * whole(g, 30, 40) + gaps // 2
        linspace = spacing == "linspace"
        return {"T": T + linspace, "n": gaps + linspace, "spacing": spacing}

    return make


def _half_up(t: float) -> int:
    return math.floor(t + 0.5)


def _half_down(t: float) -> int:
    return math.ceil(t - 0.5)


def _rounded_by(rounding: Callable[[float], int]) -> Callable[..., list[int]]:
    """The three spacings with fractions rounded in another way."""

    def answer(T: int, n: int, spacing: str) -> list[int]:
        if spacing == "leading":
            return spaced_times(T, n, spacing)
        if spacing == "trailing":
            return [rounding(T * k / n) for k in range(n, -1, -1)]
        return [*(rounding(1 + (T - 1) * k / (n - 1)) for k in reversed(range(n))), 0]

    return answer


def _space_figure(reference: Callable[..., list[int]]) -> Any:
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(5.4, 1.8), layout="constrained")
    names = ("linspace", "leading", "trailing")
    for row, (name, mark) in enumerate(zip(names, "^so", strict=True)):
        times = reference(1000, 7, name)
        axis.plot(times, [row] * len(times), mark + "-", color="black", linewidth=0.8)
    axis.set(xlabel="t, 7 steps", xlim=(1020, -20), ylim=(-0.6, 2.6))
    axis.set_yticks(range(3), names)
    return figure


def _all_ints(answer: Callable[..., Any], T: int, n: int, spacing: str) -> Any:
    """The list, or that it is or holds what is no Python number: some of that would pass as one."""
    times = answer(T, n, spacing)
    if isinstance(times, Tensor):
        return "a tensor"
    held = times if isinstance(times, (list, tuple)) else []
    if any(isinstance(t, Tensor) for t in held):
        return "a list that holds tensors"
    return "a list that holds numpy numbers" if any(isinstance(t, np.generic) for t in held) else times


SPACE = Exercise(
    id="07.2",
    name="spaced_times",
    title="Three ways to space n steps",
    kind="reproduce",
    difficulty=2,
    minutes=15,
    reference=spaced_times,
    cases=[
        Case("trailing, a whole stride", _space([5, 10, 20], (950, 1050), "trailing", whole_stride=True)),
        Case("leading, a whole stride", _space([5, 10, 20], (950, 1050), "leading", whole_stride=True)),
        Case("linspace, of some 1000 times", _space([6, 8, 10, 12], (950, 1050), "linspace")),
        Case("trailing, not a whole stride", _space([7, 13, 27, 31], (950, 1050), "trailing")),
        Case("leading, not a whole stride", _space([7, 13, 27, 31], (950, 1050), "leading")),
        Case("linspace, of some 100 times", _space([4, 6, 8], (90, 120), "linspace")),
        Case("trailing, half a time over at every second one", _halves("trailing")),
        Case("linspace, half a time over at every second one", _halves("linspace")),
    ],
    misconceptions=[
        Misconception(
            "zero-missing",
            lambda T, n, spacing: spaced_times(T, n, spacing)[:-1],
            "The final 0 is missing. Without it nothing leads from the last noisy time to the picture, and n "
            "times make only n − 1 steps.",
            about="missing",
        ),
        Misconception(
            "rising",
            lambda T, n, spacing: spaced_times(T, n, spacing)[::-1],
            "Your times rise. A sampler starts at the noisy end: the largest time comes first, 0 last.",
            about="direction",
        ),
        Misconception(
            "leading-from-zero",
            _spaced(leading=lambda T, n: [T // n * k for k in reversed(range(n))] + [0]),
            "Your leading times are multiples of the stride, so the last noisy one is t = 0, which is the "
            "data. Published code counts its levels from 0; the same levels are one higher here.",
            about="index",
        ),
        Misconception(
            "leading-stride-fraction",
            _spaced(leading=lambda T, n: [T * k / n + 1 for k in reversed(range(n))] + [0]),
            "Your leading stride is T/n. This spacing uses the whole number T // n, and for that reason "
            "starts even further below T where n does not divide T.",
            about="rounding",
        ),
        Misconception(
            "leading-starts-at-T",
            _spaced(leading=lambda T, n: [T - T // n * k for k in range(n)] + [0]),
            "Your leading times start at T. They lead their strides from below: 1, 1 + stride, 1 + 2·stride, "
            "…, so the first is about a stride below T. (That this is a fault is another matter.)",
            about="level",
        ),
        Misconception(
            "trailing-whole-stride",
            _spaced(trailing=lambda T, n: [T - T // n * k for k in range(n)] + [0]),
            "Your trailing stride is T // n. Where n does not divide T the remainder piles up in the last "
            "step, which becomes longer than all others. Take T·k/n and round each time by itself.",
            about="rounding",
        ),
        Misconception(
            "trailing-below-T",
            _spaced(trailing=lambda T, n: [T * k / n for k in reversed(range(n))] + [0]),
            "Your trailing times begin a stride below T, and the last noisy one is 0 already. They are the "
            "ends of the strides: T·k/n for k = n, …, 1.",
            about="level",
        ),
        Misconception(
            "cut-off",
            _cut_off,
            "You cut the fractions off. The times are rounded to the nearest whole number.",
            about="rounding",
        ),
        Misconception(
            "linspace-to-zero",
            _spaced(linspace=lambda T, n: [T * k / n for k in reversed(range(n + 1))]),
            "Your linspace goes evenly down to 0, which is what trailing does. It goes from T to t = 1, both "
            "included, in n times; the step from 1 to 0 comes after that.",
            about="level",
        ),
        Misconception(
            "linspace-one-more",
            _spaced(linspace=lambda T, n: [T - k * (T - 1) / n for k in range(n + 1)] + [0]),
            "There is one time too many: from T to 1, both included, there are n times, with n − 1 gaps "
            "between them. The n-th step is the one from 1 to 0.",
            about="count",
        ),
        Misconception(
            "rounded-up",
            _rounded_up,
            "You rounded the fractions up. The times are rounded to the nearest whole number.",
            about="rounding",
        ),
        Misconception(
            "counted-from-zero",
            lambda T, n, spacing: [t - 1 for t in spaced_times(T, n, spacing)[:-1]] + [0],
            "Your times are one too low: published code counts the noisy levels from 0 to T − 1. Here t = 0 "
            "is the data, and the same levels are one higher.",
            about="index",
        ),
        Misconception(
            "trailing-for-all",
            lambda T, n, spacing: spaced_times(T, n, "trailing"),
            "You give the trailing times whatever is asked for. `spacing` says which of the three it is.",
            about="input",
        ),
        Misconception(
            "linspace-stride-of-n",
            _spaced(linspace=lambda T, n: [T - k * (T - 1) / n for k in range(n)] + [0]),
            "Your linspace has strides of (T − 1)/n, so it does not come down to t = 1. Between n times "
            "there are n − 1 gaps.",
            about="count",
        ),
        Misconception(
            "linspace-from-below-T",
            _spaced(linspace=lambda T, n: [1 + (T - 2) * k / (n - 1) for k in reversed(range(n))] + [0]),
            "Your linspace starts at T − 1. It goes from T itself to t = 1, both included.",
            about="boundary",
        ),
        Misconception(
            "leading-trailing-swapped",
            _spaced(
                trailing=lambda T, n: spaced_times(T, n, "leading"),
                leading=lambda T, n: spaced_times(T, n, "trailing"),
            ),
            "Leading and trailing have changed places. Trailing times are the noisy ends of the strides, T "
            "first; leading ones start a stride below T.",
            about="swap",
        ),
        Misconception(
            "zero-missing-in-trailing",
            _spaced(trailing=lambda T, n: [T * k / n for k in range(n, 0, -1)]),
            "The final 0 is missing where spacing is trailing. Every spacing has n times and then 0.",
            about="missing",
        ),
        Misconception(
            "leading-stride-rounded",
            _spaced(leading=lambda T, n: [1 + k * round(T / n) for k in reversed(range(n))] + [0]),
            "You rounded the stride of leading to the nearest whole number. It is cut off: T // n.",
            about="rounding",
        ),
        Misconception(
            "leading-cut-off-late",
            _spaced(leading=lambda T, n: [1 + k * T // n for k in reversed(range(n))] + [0]),
            "You cut off each k·T/n. In leading the stride itself is a whole number, T // n, and only then "
            "multiplied by k.",
            about="rounding",
        ),
        Misconception(
            "linspace-from-a-gap-below-T",
            _spaced(linspace=lambda T, n: [1 + k * (T - 1) / n for k in reversed(range(n))] + [0]),
            "Your linspace has strides of (T − 1)/n, so it starts below T. Between n times there are n − 1 "
            "gaps.",
            about="count",
        ),
        Misconception(
            "trailing-stride-rounded",
            _spaced(trailing=lambda T, n: [T - k * round(T / n) for k in range(n)] + [0]),
            "You rounded the stride of trailing before you multiplied, so its error adds up from step to "
            "step. Take T·k/n and round each time by itself.",
            about="rounding",
        ),
        Misconception(
            "trailing-by-range",
            _spaced(trailing=lambda T, n: [*range(T, 0, -(T // n)), 0]),
            "Your trailing times go down from T in whole strides of T // n. Where n does not divide T the "
            "strides fall short of 0, and there are too many of them. Take T·k/n and round each time by "
            "itself.",
            about="rounding",
        ),
        Misconception(
            "a-tensor",
            lambda T, n, spacing: torch.tensor(spaced_times(T, n, spacing)),
            "You returned a tensor. Asked is a list of Python ints: .tolist() makes one of it.",
            about="shape",
        ),
        Misconception(
            "tensors-in-the-list",
            lambda T, n, spacing: [torch.tensor(t) for t in spaced_times(T, n, spacing)],
            "Your list holds tensors. Asked are Python ints: .tolist() makes them of a tensor, int(…) of a "
            "single number.",
            about="shape",
        ),
        Misconception(
            "halves-up",
            _rounded_by(_half_up),
            "You round a half up. round() goes to the even neighbour: round(2.5) is 2, and round(3.5) is 4.",
            about="rounding",
        ),
        Misconception(
            "halves-down",
            _rounded_by(_half_down),
            "You round a half down. round() goes to the even neighbour: round(2.5) is 2, and round(3.5) is "
            "4.",
            about="rounding",
        ),
        Misconception(
            "floats",
            lambda T, n, spacing: [float(t) for t in spaced_times(T, n, spacing)],
            "The numbers are right, but they are floats. Asked is a list of Python ints: "
            "int(…), or round(…) with one argument.",
            about="reading",
        ),
        Misconception(
            "numpy-numbers",
            lambda T, n, spacing: [np.int64(t) for t in spaced_times(T, n, spacing)],
            "Your list holds numpy's numbers. Asked is a list of Python ints: .tolist() makes some of an "
            "array, int(…) of one number.",
            about="reading",
        ),
        Misconception(
            "trailing-halves-up",
            _spaced(trailing=lambda T, n: [*((2 * T * k + n) // (2 * n) for k in range(n, 0, -1)), 0]),
            'In "trailing" you round a half up. round() goes to the even neighbour: round(2.5) is 2.',
            about="rounding",
        ),
        Misconception(
            "trailing-cut-off",
            _spaced(trailing=lambda T, n: [*(T * k // n for k in range(n, 0, -1)), 0]),
            'In "trailing" you cut the fractions off. They go to the nearest whole number: round(…).',
            about="rounding",
        ),
        Misconception(
            "linspace-cut-off",
            _spaced(linspace=lambda T, n: [*(1 + (T - 1) * k // (n - 1) for k in reversed(range(n))), 0]),
            'In "linspace" you cut the fractions off. They go to the nearest whole number: round(…).',
            about="rounding",
        ),
        Misconception(
            "linspace-to-zero-twice",
            _spaced(linspace=lambda T, n: [*(T * k / (n - 1) for k in reversed(range(n))), 0]),
            'In "linspace" your n times run from T to 0, so that 0 comes twice. They run from T to 1, and 0 '
            "follows.",
            about="boundary",
        ),
    ],
    alternatives=[_spaced_by_hand, _spaced_by_torch],
    hints=(
        "n steps need n + 1 times, and the last is always 0. The three differ in where the first n lie.",
        "trailing: round(T·k/n) for k = n … 1. leading: 1 + k·(T // n) for k = n − 1 … 0. linspace: n even "
        "times from T down to 1, rounded.",
        '`if spacing == "trailing": times = [round(…) for k in range(n, 0, -1)]`, the same for the others '
        "with their own formula, then `return times + [0]`.",
    ),
    call=_all_ints,
    figure=_space_figure,
    figure_alt="Seven steps of 1000 in three rows. Trailing: from 1000 evenly to 0. Leading: from 853 with "
    "strides of 142 to 1, then 0. Linspace: from 1000 evenly to 1, then 0.",
)


# 07.3 Debug: a stride of its own --------------------------------------------------------------------


def walk_times(denoiser: Denoiser, path: DiscreteVP, times: Sequence[float], x: Tensor) -> Tensor:
    """DDIM through the given times and from the last of them to 0."""
    return sample(denoiser, x, [path(float(t)) for t in (*times, 0)])


def _on_cloud(
    answer: Callable[..., Any], betas: Tensor, mean: float, spread: float, times: list[int], x: Tensor
) -> Any:
    return answer(gaussian(mean, spread), DiscreteVP(betas), times, x)


def _walk(pairs: Callable[[int, list[int]], Sequence[tuple[float, float]]]) -> Callable[..., Tensor]:
    """A walk over other pairs of times."""

    def walk(denoiser: Denoiser, path: DiscreteVP, times: list[int], x: Tensor) -> Tensor:
        for t, after in pairs(path.T, times):
            estimate = denoiser(x, path(float(t)))
            x = add_noise(estimate.x0, estimate.eps, path(float(max(after, 0))))
        return x

    return walk


def _next_asked(denoiser: Denoiser, path: DiscreteVP, times: list[int], x: Tensor) -> Tensor:
    for after in [*times[1:], 0]:
        estimate = denoiser(x, path(float(max(after, 1))))
        x = add_noise(estimate.x0, estimate.eps, path(float(after)))
    return x


def _first_noise_again(denoiser: Denoiser, path: DiscreteVP, times: list[int], x: Tensor) -> Tensor:
    noise = x
    for t, after in pairwise([*times, 0]):
        x = add_noise(denoiser(x, path(float(t))).x0, noise, path(float(after)))
    return x


def _asked_at_the_start(denoiser: Denoiser, path: DiscreteVP, times: list[int], x: Tensor) -> Tensor:
    for after in [*times[1:], 0]:
        estimate = denoiser(x, path(float(times[0])))
        x = add_noise(estimate.x0, estimate.eps, path(float(after)))
    return x


def _guess_for_x(denoiser: Denoiser, path: DiscreteVP, times: list[int], x: Tensor) -> Tensor:
    for t in times:
        x = denoiser(x, path(float(t))).x0
    return x


def _walk_by_index(denoiser: Denoiser, path: DiscreteVP, times: list[int], x: Tensor) -> Tensor:
    for i in range(len(times)):
        after = path(float(times[i + 1])) if i + 1 < len(times) else path(0.0)
        x0, eps = denoiser(x, path(float(times[i])))
        x = float(after.alpha) * x0 + float(after.sigma) * eps
    return x


def _walk_backwards(denoiser: Denoiser, path: DiscreteVP, times: list[int], x: Tensor) -> Tensor:
    left = [*times]
    while left:
        t = left.pop(0)
        estimate = denoiser(x, path(float(t)))
        x = add_noise(estimate.x0, estimate.eps, path(float(left[0] if left else 0)))
    return x


def _cloud(
    betas: Callable[[torch.Generator], Tensor], times: Callable[[torch.Generator], list[int]], *shape: int
) -> Make:
    return lambda g: {
        "betas": betas(g),
        "mean": number(g, 0.2, 0.6),
        "spread": number(g, 0.3, 0.6),
        "times": times(g),
        "x": normal(g, *shape),
    }


def _of_1000(spacing: str, *counts: int) -> Callable[[torch.Generator], list[int]]:
    """One of several numbers of steps."""
    return lambda g: spaced_times(1000, counts[whole(g, 0, len(counts) - 1)], spacing)[:-1]


def _walk_figure(reference: Callable[..., Tensor]) -> Any:
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(4.6, 2.3), layout="constrained")
    path, counts = DiscreteVP(cosine_betas()), [10, 25, 50, 150, 400]
    x = figures.noise(4000)
    spreads = [
        float(reference(gaussian(0.5, 0.5), path, spaced_times(1000, n, "trailing")[:-1], x).std())
        for n in counts
    ]
    axis.semilogx(counts, spreads, "o-", label="your walk")
    axis.axhline(0.5, color="gray", linestyle="--", label="data")
    axis.set(xlabel="steps", ylabel="spread of samples", ylim=(0.3, 0.7))
    axis.set_xticks(counts, [str(n) for n in counts])
    axis.minorticks_off()
    axis.legend(frameon=False)
    return figure


def _asked_at_0(denoiser: Denoiser, path: DiscreteVP, times: list[int], x: Tensor) -> Tensor:
    for after in [*times[1:], 0]:
        x = add_noise(*denoiser(x, path(float(after))), path(float(after)))
    return x


def _guess_and_noise_swapped(denoiser: Denoiser, path: DiscreteVP, times: list[int], x: Tensor) -> Tensor:
    for t, after in pairwise([*times, 0]):
        eps, x0 = denoiser(x, path(float(t)))
        x = add_noise(x0, eps, path(float(after)))
    return x


WALK = Exercise(
    id="07.3",
    name="walk_times",
    title="The more steps, the worse",
    kind="debug",
    difficulty=2,
    minutes=12,
    reference=walk_times,
    cases=[
        Case("some 25 trailing steps of 1000", _cloud(cosine, _of_1000("trailing", 21, 24, 28), 2, 1, 8, 6)),
        Case("some ten linspace steps of 1000", _cloud(cosine, _of_1000("linspace", 9, 11, 12), 3, 1, 4, 5)),
        Case("five uneven steps, not from T", _cloud(linear, lambda g: falling(g, 5, 40, 950, apart=60), 20)),
    ],
    planted="stride-of-its-own",
    misconceptions=[
        Misconception(
            "stride-of-its-own",
            _walk(lambda T, times: [(t, t - T // len(times)) for t in times]),
            "The walk computes where each step ends from a stride of its own, T // n, and does not look at "
            "the times it was given.",
            about="level",
        ),
        Misconception(
            "stride-rounded",
            _walk(lambda T, times: [(t, t - round(T / len(times))) for t in times]),
            "You rounded the stride to the nearest whole number. Steps still end where no next one begins, a "
            "little less often. There is nothing to compute: the next time is in the list.",
            about="rounding",
        ),
        Misconception(
            "stride-fraction",
            _walk(lambda T, times: [(t, t - T / len(times)) for t in times]),
            "Your stride is now T/n exactly. That fits evenly spaced times up to rounding, but not linspace "
            "and not uneven ones. There is nothing to compute: the next time is in the list.",
            about="level",
        ),
        Misconception(
            "stride-of-the-first-time",
            _walk(lambda T, times: [(t, t - times[0] // len(times)) for t in times]),
            "Your stride is now made of times[0]. Steps still end where no next one begins. There is nothing "
            "to compute: the next time is in the list.",
            about="level",
        ),
        Misconception(
            "first-gap-for-all",
            _walk(lambda T, times: [(t, t - (times[0] - times[1])) for t in times]),
            "You took the first gap for all of them. Gaps differ, by rounding or on purpose. Take each next "
            "time from the list.",
            about="level",
        ),
        Misconception(
            "last-step-skipped",
            _walk(lambda T, times: list(pairwise(times))),
            "Each step now ends where the next begins: the cause is found. But the last one, from the last "
            "time to 0, is gone, and its noise stays in the picture.",
            about="count",
        ),
        Misconception(
            "first-step-skipped",
            _walk(lambda T, times: list(pairwise([*times[1:], 0]))),
            "Each step now ends where the next begins, but you start at the second time: noise of T is taken "
            "for a picture of a later level.",
            about="count",
        ),
        Misconception(
            "last-step-long",
            _walk(lambda T, times: [*pairwise(times[:-1]), (times[-2], 0)]),
            "The list is used up one time too early: you go from the last but one straight to 0, and one "
            "evaluation less is made than was paid for.",
            about="count",
        ),
        Misconception(
            "asked-at-the-next-level",
            _next_asked,
            "You ask the denoiser about the level where the step ends. x is still at the level where it "
            "begins, with more noise than it is told.",
            about="level",
        ),
        Misconception(
            "first-noise-again",
            _first_noise_again,
            "You mix the noise of the start back in at every step. DDIM goes on with the noise that the "
            "denoiser sees in x now, ε̂.",
            about="input",
        ),
        Misconception(
            "ends-at-1",
            _walk(lambda T, times: list(pairwise([*times, 1]))),
            "Each step now ends where the next begins: the cause is found. But the last one ends at t = 1, "
            "with a little noise left. It ends at 0, the data.",
            about="level",
        ),
        Misconception(
            "starts-at-T",
            _walk(lambda T, times: list(pairwise([T, *times[1:], 0]))),
            "Each step now ends where the next begins, but you start at path.T. x is noise at times[0], "
            "which need not be T.",
            about="level",
        ),
        Misconception(
            "always-asked-at-the-start",
            _asked_at_the_start,
            "You ask the denoiser about times[0] at every step. After the first step x is at a cleaner "
            "level: ask about the time where the step begins.",
            about="level",
        ),
        Misconception(
            "lands-cleaner",
            _walk(lambda T, times: [(t, max(after - 1, 0)) for t, after in pairwise([*times, 0])]),
            "Each step ends one time below where the next begins. A step from t to t' leaves x at t' itself.",
            about="level",
        ),
        Misconception(
            "guess-for-x",
            _guess_for_x,
            "You put the guess x̂₀ in the place of x, with no noise. x is then no sample of the next time: "
            "mix x̂₀ and ε̂ at its level.",
            about="input",
        ),
        Misconception(
            "no-step-at-all",
            _walk(lambda T, times: [(t, t) for t in times]),
            "Each of your steps ends at the level where it begins, so x never moves. It ends at the next "
            "time of the list.",
            about="level",
        ),
        Misconception(
            "one-time-a-step",
            _walk(lambda T, times: [(t, t - 1) for t in times]),
            "Each of your steps goes down by a single time, t − 1, whatever the list says. It ends at the "
            "next time of the list.",
            about="level",
        ),
        Misconception(
            "one-step-alone",
            _walk(lambda T, times: list(pairwise([*times, 0]))[:1]),
            "You took a single step: does the `return` stand inside the loop?",
            about="count",
        ),
        Misconception(
            "asked-at-0",
            _asked_at_0,
            "You asked the denoiser at t = 0, where there is no noise to be seen. Ask at the time where "
            "each step begins; where x has come to 0, the walk is over.",
            about="level",
        ),
        Misconception(
            "times-of-its-own",
            _walk(
                lambda T, times: list(
                    pairwise([T - round(k * T / len(times)) for k in range(len(times) + 1)])
                )
            ),
            "You made even times of your own, from path.T to 0. The walk goes through the times that it is "
            "given, which need not be even, nor start at T.",
            about="input",
        ),
        Misconception(
            "guess-and-noise-swapped",
            _guess_and_noise_swapped,
            "x̂₀ and ε̂ have changed places: the denoiser gives x̂₀ first, then ε̂.",
            about="swap",
        ),
    ],
    alternatives=[_walk_by_index, _walk_backwards],
    hints=(
        "Follow the times, not the pictures: print, for 30 steps, where each step ends and where the next "
        "one begins. Should they not be the same?",
        "A step from t to t' leaves x at the level t', so the next question must be about t'. The n times "
        "and a final 0 are all the places there are: each step goes from one to the next.",
        "`for t, after in zip(times, times[1:] + […]):`, then as before, without `stride`.",
    ),
    call=_on_cloud,
    figure=_walk_figure,
    figure_alt="Spread of samples over the number of steps, from 10 to 400: it rises from 0.43 towards the "
    "data's 0.5 and stays there.",
)


# 07.4 The target of a student ----------------------------------------------------------------------


def _scaled(level: Level) -> tuple[float, float]:
    return float(level.alpha), float(level.sigma)


def _target_solved(x: Tensor, reached: Tensor, now: Level, next: Level) -> Tensor:
    """The two equations x = αx̃₀ + σε̃ and reached = α'x̃₀ + σ'ε̃, solved by Cramer's rule."""
    (a, s), (b, u) = _scaled(now), _scaled(next)
    return (s * reached - u * x) / (s * b - u * a)


def _target_by_matrix(x: Tensor, reached: Tensor, now: Level, next: Level) -> Tensor:
    system = torch.tensor([_scaled(now), _scaled(next)], dtype=torch.float64, device=x.device)
    both = torch.stack([x, reached]).double().flatten(1)
    return torch.linalg.solve(system, both)[0].view_as(x).to(x.dtype)


def _target_wrong(formula: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """An answer from x, reached, α, σ, α', σ'."""

    def answer(x: Tensor, reached: Tensor, now: Level, next: Level) -> Tensor:
        return formula(x, reached, *_scaled(now), *_scaled(next))

    return answer


def _pair(
    betas: Callable[[torch.Generator], Tensor], t: tuple[int, int], step: tuple[int, int], *shape: int
) -> Make:
    """A noisy picture, and where two steps of an exact teacher lead from it; its guess lies beyond ±1."""

    def make(g: torch.Generator) -> dict[str, Any]:
        path, time = DiscreteVP(betas(g)), whole(g, *t)
        after = max(time - whole(g, *step), 0)
        now, middle, next = path(time), path((time + after) / 2), path(after)
        picture = blobs(g, *shape)
        x = add_noise(picture, normal(g, *shape), now)
        return {
            "x": x,
            "reached": two_steps(gaussian(number(g, -1.0, -0.7), 0.8), x, now, middle, next),
            "now": now,
            "next": next,
        }

    return make


def _on_levels(answer: Callable[..., Any], x: Tensor, reached: Tensor, now: Level, next: Level) -> Any:
    return answer(x, reached, now, next)


def _target_figure(reference: Callable[..., Tensor]) -> Any:
    path, digit = DiscreteVP(cosine_betas()), figures.digits(4)[3:]
    now, middle, next = path(600), path(450), path(300)
    album = GaussianMixture(figures.digits(10).flatten(1), stds=0.3)

    def teacher(x: Tensor, level: Level, condition: Condition = None) -> Estimate:
        return Estimate(*(part.view_as(x) for part in album(x.flatten(1), level)))

    x = add_noise(digit, figures.noise(1, 1, 16, 16, seed=1), now)
    reached = two_steps(teacher, x, now, middle, next)
    target = reference(x, reached, now, next)
    pictures = [x[0], reached[0], teacher(x, now).x0[0], target[0]]
    return figures.strip(pictures, ["x, t = 600", "t = 300", "first x̂₀", "x̃₀"])


TARGET = Exercise(
    id="07.4",
    name="student_x0",
    title="Two steps in one",
    kind="reproduce",
    difficulty=2,
    minutes=12,
    reference=distillation_target,
    cases=[
        Case("a step half-way", _pair(cosine, (550, 650), (250, 350), 3, 1, 12, 10)),
        Case("the first of a few steps, from T", _pair(cosine, (1000, 1000), (200, 350), 2, 1, 8, 6)),
        Case("the last step, to t = 0", _pair(cosine, (200, 350), (350, 350), 2, 3, 8, 6)),
        Case("the whole way, from T to 0", _pair(linear, (1000, 1000), (1000, 1000), 2, 1, 6, 8)),
    ],
    misconceptions=[
        Misconception(
            "reached-itself",
            _target_wrong(lambda x, r, a, s, b, u: r),
            "You took what was reached for the picture. That holds only where the step ends at t = 0; before "
            "that it still holds noise.",
            about="formula",
        ),
        Misconception(
            "noise-ignored",
            _target_wrong(lambda x, r, a, s, b, u: r / b),
            "You divided what was reached by α'. That removes the factor, but the noise in it is still "
            "there: first subtract its share, (σ'/σ)·x.",
            about="missing",
        ),
        Misconception(
            "brackets",
            _target_wrong(lambda x, r, a, s, b, u: r - u / s * x / (b - u / s * a)),
            "Python divides before it subtracts, so only the second part is divided. Put the difference "
            "above in brackets.",
            about="order",
        ),
        Misconception(
            "ratio-missing-above",
            _target_wrong(lambda x, r, a, s, b, u: (r - x) / (b - u / s * a)),
            "You weighed x by σ'/σ below and not above. The noise drops out only where x itself is weighed: "
            "reached − (σ'/σ)·x.",
            about="missing",
        ),
        Misconception(
            "x-taken-for-x0",
            _target_wrong(lambda x, r, a, s, b, u: (x - s * (r - b * x) / torch.tensor(u)) / a),
            "You took x for the picture when you worked out the noise in what was reached. Both are unknown: "
            "use both equations, and let ε̃ drop out.",
            about="input",
        ),
        Misconception(
            "denominator-forgotten",
            _target_wrong(lambda x, r, a, s, b, u: r - u / s * x),
            "The noise is gone, but what is left is the picture times α' − (σ'/σ)·α. Divide by that.",
            about="missing",
        ),
        Misconception(
            "divided-by-alpha-next",
            _target_wrong(lambda x, r, a, s, b, u: (r - u / s * x) / b),
            "You divided by α' alone. Subtracting (σ'/σ)·x took some of the picture away too, so its factor "
            "is α' − (σ'/σ)·α.",
            about="factor",
        ),
        Misconception(
            "signs",
            _target_wrong(lambda x, r, a, s, b, u: (r + u / s * x) / (b + u / s * a)),
            "You added (σ'/σ)·x. It is subtracted, above and below: that is how the noise drops out.",
            about="sign",
        ),
        Misconception(
            "variances-for-factors",
            _target_wrong(lambda x, r, a, s, b, u: (r - (u / s) ** 2 * x) / (b - (u / s) ** 2 * a)),
            "You weighed x by σ'²/σ², a ratio of variances. What multiplies ε̃ in the two equations is σ and "
            "σ'.",
            about="root",
        ),
        Misconception(
            "sigma-next-alone",
            _target_wrong(lambda x, r, a, s, b, u: (r - u * x) / (b - u * a)),
            "You weighed x by σ' alone. x holds σ·ε̃: to cancel the σ'·ε̃ in what was reached, weigh it by "
            "σ'/σ.",
            about="missing",
        ),
        Misconception(
            "signal-matched",
            _target_wrong(lambda x, r, a, s, b, u: (r - b / a * x) / (u - b / a * s)),
            "You removed the picture and solved for the noise: this is ε̃. Remove the noise instead, and x̃₀ "
            "is left.",
            about="formula",
        ),
        Misconception(
            "levels-swapped",
            _target_wrong(lambda x, r, a, s, b, u: (x - u / s * r) / (a - u / s * b)),
            "x and what was reached have changed places. x is at `now`, with α and σ; reached is at `next`, "
            "with α' and σ'.",
            about="swap",
        ),
        Misconception(
            "clipped",
            _target_wrong(lambda x, r, a, s, b, u: ((r - u / s * x) / (b - u / s * a)).clamp(-1, 1)),
            "You cut the target to [−1, 1]. With another x̃₀ the student's step no longer lands where the "
            "teacher's two do.",
            about="extra",
        ),
        Misconception(
            "signal-of-one",
            _target_wrong(lambda x, r, a, s, b, u: (r - u / s * x) / (1 - u / s)),
            "You divided by 1 − σ'/σ, as if the picture were at full strength in both. It is α·x̃₀ in x and "
            "α'·x̃₀ in what was reached: divide by α' − (σ'/σ)·α.",
            about="factor",
        ),
        Misconception(
            "ordinary-guess",
            _target_wrong(lambda x, r, a, s, b, u: (x - s * r) / a),
            "You took what was reached for the noise in x. It is a picture at `next`: two equations, x and "
            "reached, hold the same x̃₀ and the same ε̃.",
            about="input",
        ),
        Misconception(
            "noise-of-this-level",
            _target_wrong(lambda x, r, a, s, b, u: (r - u * (x - a * r) / s) / b),
            "You took what was reached for x̃₀ when you worked out the noise in x. Both are unknown: use "
            "both equations, and let ε̃ drop out.",
            about="input",
        ),
        Misconception(
            "ratio-upside-down",
            _target_wrong(
                lambda x, r, a, s, b, u: (r - torch.tensor(s) / u * x) / (b - torch.tensor(s) / u * a)
            ),
            "Your ratio is upside down, and infinite where the step ends at the data. To turn the noise of "
            "x, σ·ε̃, into σ'·ε̃, weigh x by σ'/σ.",
            about="factor",
        ),
        Misconception(
            "ratio-at-the-wrong-alpha",
            _target_wrong(lambda x, r, a, s, b, u: (r - u / s * x) / (u / s * b - a)),
            "σ'/σ stands at the wrong α. What is left of the picture has the factor α' − (σ'/σ)·α.",
            about="swap",
        ),
        Misconception(
            "ratio-missing-below",
            _target_wrong(lambda x, r, a, s, b, u: (r - u / s * x) / (b - a)),
            "You weighed x by σ'/σ above and not below. The picture in x is weighed as well: α' − (σ'/σ)·α.",
            about="missing",
        ),
        Misconception(
            "subtracted-as-they-are",
            _target_wrong(lambda x, r, a, s, b, u: (r - x) / (b - a)),
            "You subtracted x as it is. The noise is σ·ε̃ in x and σ'·ε̃ in what was reached: it drops out "
            "only after x is weighed by σ'/σ.",
            about="missing",
        ),
        Misconception(
            "roots-again",
            _target_wrong(
                lambda x, r, a, s, b, u: (r - (u / s) ** 0.5 * x) / (b**0.5 - (u / s) ** 0.5 * a**0.5)
            ),
            "You took roots of α and σ. They are factors already: ᾱ is α², of which one takes the root.",
            about="root",
        ),
        Misconception(
            "alphas-exchanged-below",
            _target_wrong(lambda x, r, a, s, b, u: (r - u / s * x) / (a - u / s * b)),
            "Below the line α and α' have changed places. x has the factor σ'/σ above, so its α has it "
            "below: α' − (σ'/σ)·α.",
            about="swap",
        ),
    ],
    alternatives=[_target_solved, _target_by_matrix],
    hints=(
        "The student's single step is a DDIM step with unknown x̃₀ and ε̃. You know where it starts and where "
        "it must end: two equations.",
        "x = α·x̃₀ + σ·ε̃ and reached = α'·x̃₀ + σ'·ε̃. Multiply the first by σ'/σ and subtract: ε̃ is gone.",
        "`keep = next.sigma / now.sigma`, then `(reached - … * x) / (… - … * now.alpha)`.",
    ),
    call=_on_levels,
    figure=_target_figure,
    figure_alt="A noisy digit 3 at t = 600; the same at t = 300 after two steps, less noisy; the teacher's "
    "first guess, a blur; and the student's target x̃₀, a little clearer than that guess.",
)


# 07.5 What a student is shown -----------------------------------------------------------------------


def student_example(
    teacher: Denoiser, x0: Tensor, noise: Tensor, levels: list[Level], i: int
) -> tuple[Tensor, Tensor]:
    """The student's noisy x at its i-th step, and the v whose step lands where the teacher's two do."""
    now, middle, next = levels[2 * i : 2 * i + 3]
    x = add_noise(x0, noise, now)
    target = distillation_target(x, two_steps(teacher, x, now, middle, next), now, next)
    return x, V.of(*Estimate.from_x0(target, x, now), now)


CENTRES = 1.4 * torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
RING = GaussianMixture(CENTRES, 0.1)


def _on_ring(answer: Callable[..., Any], x0: Tensor, noise: Tensor, betas: Tensor, n: int, i: int) -> Any:
    ring = GaussianMixture(CENTRES.to(x0.device), 0.1)

    def teacher(x: Tensor, level: Level, condition: Condition = None) -> Estimate:
        return ring(x, level)

    return answer(teacher, x0, noise, DiscreteVP(betas).levels(n), i)


def _shown(
    x0: Tensor, noise: Tensor, now: Level, next: Level, reached: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    x = add_noise(x0, noise, now)
    target = distillation_target(x, reached(x), now, next)
    return x, V.of(*Estimate.from_x0(target, x, now), now)


def _student_places(
    teacher: Denoiser, x0: Tensor, noise: Tensor, levels: list[Level], i: int
) -> tuple[Tensor, Tensor]:
    now, middle, next = levels[i : i + 3]
    return _shown(x0, noise, now, next, lambda x: two_steps(teacher, x, now, middle, next))


def _one_long_step(
    teacher: Denoiser, x0: Tensor, noise: Tensor, levels: list[Level], i: int
) -> tuple[Tensor, Tensor]:
    now = levels[2 * i]
    x = add_noise(x0, noise, now)
    return x, V.of(*teacher(x, now), now)


def _first_step_only(
    teacher: Denoiser, x0: Tensor, noise: Tensor, levels: list[Level], i: int
) -> tuple[Tensor, Tensor]:
    now, middle, next = levels[2 * i : 2 * i + 3]
    return _shown(x0, noise, now, next, lambda x: sample(teacher, x, [now, middle]))


def _middle_forgotten(
    teacher: Denoiser, x0: Tensor, noise: Tensor, levels: list[Level], i: int
) -> tuple[Tensor, Tensor]:
    now, middle, next = levels[2 * i : 2 * i + 3]

    def reached(x: Tensor) -> Tensor:
        halfway = sample(teacher, x, [now, middle])
        estimate = teacher(halfway, now)
        return add_noise(estimate.x0, estimate.eps, next)

    return _shown(x0, noise, now, next, reached)


def _renoised(
    teacher: Denoiser, x0: Tensor, noise: Tensor, levels: list[Level], i: int
) -> tuple[Tensor, Tensor]:
    now, middle, next = levels[2 * i : 2 * i + 3]

    def reached(x: Tensor) -> Tensor:
        halfway = add_noise(teacher(x, now).x0, noise, middle)
        return sample(teacher, halfway, [middle, next])

    return _shown(x0, noise, now, next, reached)


def _second_answer(
    teacher: Denoiser, x0: Tensor, noise: Tensor, levels: list[Level], i: int
) -> tuple[Tensor, Tensor]:
    now, middle, _ = levels[2 * i : 2 * i + 3]
    x = add_noise(x0, noise, now)
    return x, V.of(*teacher(sample(teacher, x, [now, middle]), middle), now)


def _solved_half_way(
    teacher: Denoiser, x0: Tensor, noise: Tensor, levels: list[Level], i: int
) -> tuple[Tensor, Tensor]:
    now, middle, next = levels[2 * i : 2 * i + 3]
    x = add_noise(x0, noise, now)
    halfway = sample(teacher, x, [now, middle])
    target = distillation_target(halfway, sample(teacher, halfway, [middle, next]), middle, next)
    return x, V.of(*Estimate.from_x0(target, x, now), now)


def _plain_training(
    teacher: Denoiser, x0: Tensor, noise: Tensor, levels: list[Level], i: int
) -> tuple[Tensor, Tensor]:
    now = levels[2 * i]
    return add_noise(x0, noise, now), V.of(x0, noise, now)


def _changed_v(v: Callable[..., Tensor]) -> Callable[..., tuple[Tensor, Tensor]]:
    """An answer whose v is made otherwise, from x̃₀, ε̃, the noise that was drawn, α and σ."""

    def answer(
        teacher: Denoiser, x0: Tensor, noise: Tensor, levels: list[Level], i: int
    ) -> tuple[Tensor, Tensor]:
        x, right = student_example(teacher, x0, noise, levels, i)
        target = V.solve(right, x, levels[2 * i])
        return x, v(target.x0, target.eps, noise, *_scaled(levels[2 * i]))

    return answer


def _with_x_in_v(
    teacher: Denoiser, x0: Tensor, noise: Tensor, levels: list[Level], i: int
) -> tuple[Tensor, Tensor]:
    x, right = student_example(teacher, x0, noise, levels, i)
    a, s = _scaled(levels[2 * i])
    return x, a * x - s * V.solve(right, x, levels[2 * i]).x0


def _reached_for_the_target(
    teacher: Denoiser, x0: Tensor, noise: Tensor, levels: list[Level], i: int
) -> tuple[Tensor, Tensor]:
    now, middle, next = levels[2 * i : 2 * i + 3]
    x = add_noise(x0, noise, now)
    return x, V.of(*Estimate.from_x0(two_steps(teacher, x, now, middle, next), x, now), now)


def _clean_input(
    teacher: Denoiser, x0: Tensor, noise: Tensor, levels: list[Level], i: int
) -> tuple[Tensor, Tensor]:
    return x0, student_example(teacher, x0, noise, levels, i)[1]


def _example_by_hand(
    teacher: Denoiser, x0: Tensor, noise: Tensor, levels: list[Level], i: int
) -> tuple[Tensor, Tensor]:
    a, s = _scaled(levels[2 * i])
    start = x = a * x0 + s * noise
    for k in (2 * i, 2 * i + 1):
        guess, eps = teacher(x, levels[k])
        b, u = _scaled(levels[k + 1])
        x = b * guess + u * eps
    target = (x - u / s * start) / (b - u / s * a)
    return start, (a * start - target) / s


def _example_by_sample(
    teacher: Denoiser, x0: Tensor, noise: Tensor, levels: list[Level], i: int
) -> tuple[Tensor, Tensor]:
    three = [levels[2 * i], levels[2 * i + 1], levels[2 * i + 2]]
    x = add_noise(x0, noise, three[0])
    target = _target_solved(x, sample(teacher, x, three), three[0], three[2])
    a, s = _scaled(three[0])
    return x, a * (x - a * target) / s - s * target


def _example(steps: tuple[int, int], i: Callable[[torch.Generator, int], int], count: int) -> Make:
    """The student's step i(generator, its steps) of so many."""

    def make(g: torch.Generator) -> dict[str, Any]:
        x0, noise, n = RING.sample(count, g)[0], normal(g, count, 2), whole(g, *steps)
        return {"x0": x0, "noise": noise, "betas": cosine(g), "n": 2 * n, "i": i(g, n)}

    return make


def _example_figure(reference: Callable[..., tuple[Tensor, Tensor]]) -> Any:
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(3.6, 3.4), layout="constrained")
    levels = DiscreteVP(cosine_betas()).levels(8)
    data = RING.sample(60, torch.Generator().manual_seed(4))[0]
    x, v = reference(RING, data, figures.noise(60, 2, seed=3), levels, 3)
    ends = V.solve(v, x, levels[6]).x0
    axis.plot(*torch.stack([x, ends]).permute(2, 0, 1).numpy(), "-", marker="", color="gray", linewidth=0.7)
    axis.plot(*x.T.numpy(), "o", markersize=3, color="#0072B2", label="x at t = 250")
    axis.plot(*ends.T.numpy(), "s", markersize=3, color="#D55E00", label="x̃₀ from v")
    axis.set(xlim=(-2.4, 2.4), ylim=(-2.4, 3.2))
    axis.legend(frameon=False, fontsize=9, ncols=2, loc="upper center")
    return figure


def _v_of_the_end(
    teacher: Denoiser, x0: Tensor, noise: Tensor, levels: list[Level], i: int
) -> tuple[Tensor, Tensor]:
    x, right = student_example(teacher, x0, noise, levels, i)
    target, (b, u) = V.solve(right, x, levels[2 * i]), _scaled(levels[2 * i + 2])
    return x, b * target.eps - u * target.x0


def _from_the_clean_end(
    teacher: Denoiser, x0: Tensor, noise: Tensor, levels: list[Level], i: int
) -> tuple[Tensor, Tensor]:
    return student_example(teacher, x0, noise, levels, (len(levels) - 1) // 2 - 1 - i)


def _starts_in_the_middle(
    teacher: Denoiser, x0: Tensor, noise: Tensor, levels: list[Level], i: int
) -> tuple[Tensor, Tensor]:
    now, middle, next = levels[2 * i + 1], levels[2 * i + 2], levels[min(2 * i + 3, len(levels) - 1)]
    if middle.sigma == 0:
        return _shown(x0, noise, now, next, lambda x: sample(teacher, x, [now, middle]))
    return _shown(x0, noise, now, next, lambda x: two_steps(teacher, x, now, middle, next))


def _teachers_noise_in_v(
    teacher: Denoiser, x0: Tensor, noise: Tensor, levels: list[Level], i: int
) -> tuple[Tensor, Tensor]:
    now, middle = levels[2 * i : 2 * i + 2]
    x, right = student_example(teacher, x0, noise, levels, i)
    eps = teacher(sample(teacher, x, [now, middle]), middle).eps
    return x, V.of(V.solve(right, x, now).x0, eps, now)


def _teachers_first_noise_in_v(
    teacher: Denoiser, x0: Tensor, noise: Tensor, levels: list[Level], i: int
) -> tuple[Tensor, Tensor]:
    now = levels[2 * i]
    x, right = student_example(teacher, x0, noise, levels, i)
    return x, V.of(V.solve(right, x, now).x0, teacher(x, now).eps, now)


def _teacher_shown_the_data(
    teacher: Denoiser, x0: Tensor, noise: Tensor, levels: list[Level], i: int
) -> tuple[Tensor, Tensor]:
    now, middle, next = levels[2 * i : 2 * i + 3]

    def reached(x: Tensor) -> Tensor:
        halfway = add_noise(*teacher(x0, now), middle)
        return sample(teacher, halfway, [middle, next])

    return _shown(x0, noise, now, next, reached)


def _first_noise_kept(
    teacher: Denoiser, x0: Tensor, noise: Tensor, levels: list[Level], i: int
) -> tuple[Tensor, Tensor]:
    now, middle, next = levels[2 * i : 2 * i + 3]

    def reached(x: Tensor) -> Tensor:
        guess, eps = teacher(x, now)
        return add_noise(teacher(add_noise(guess, eps, middle), middle)[0], eps, next)

    return _shown(x0, noise, now, next, reached)


def _end_for_the_input(
    teacher: Denoiser, x0: Tensor, noise: Tensor, levels: list[Level], i: int
) -> tuple[Tensor, Tensor]:
    x, right = student_example(teacher, x0, noise, levels, i)
    now, middle, next = levels[2 * i : 2 * i + 3]
    return two_steps(teacher, x, now, middle, next), right


EXAMPLE = Exercise(
    id="07.5",
    name="student_example",
    title="What a student is shown",
    kind="stretch",
    difficulty=3,
    minutes=15,
    reference=student_example,
    builds_on=[TARGET],
    cases=[
        Case("second of a few student steps", _example((3, 4), lambda g, n: 1, 12)),
        Case("the first of them", _example((3, 4), lambda g, n: 0, 5)),
        Case("the last of them: it ends at the data", _example((2, 3), lambda g, n: n - 1, 5)),
        Case("one in between", _example((4, 5), lambda g, n: whole(g, 2, n - 2), 12)),
        Case("one step for all", _example((1, 1), lambda g, n: 0, 6)),
    ],
    misconceptions=[
        Misconception(
            "places-of-the-student",
            _student_places,
            "You took levels i, i + 1 and i + 2. The list holds the teacher's levels: a student's step spans "
            "two of them, so its i-th begins at place 2·i.",
            about="index",
        ),
        Misconception(
            "one-long-step",
            _one_long_step,
            "You used the teacher's answer at the start as it is: that teaches one long step of the teacher. "
            "Let it take two steps, by way of the middle level.",
            about="missing",
        ),
        Misconception(
            "first-step-only",
            _first_step_only,
            "You let the teacher take one step, to the middle, and solved as if it had arrived at the end. "
            "The second step is missing.",
            about="missing",
        ),
        Misconception(
            "middle-level-forgotten",
            _middle_forgotten,
            "In the second step you ask the teacher with the level of the start. Half-way the level is the "
            "middle one.",
            about="level",
        ),
        Misconception(
            "second-answer",
            _second_answer,
            "You took the teacher's second answer as the target. The first half of the step is not in it: "
            "from x, a step with it ends elsewhere. Solve for the x̃₀ that ends where the teacher does.",
            about="formula",
        ),
        Misconception(
            "solved-from-the-middle",
            _solved_half_way,
            "Solved from the place half-way, x̃₀ is only the teacher's second answer. The student makes the "
            "whole step: it starts at x.",
            about="input",
        ),
        Misconception(
            "noised-anew",
            _renoised,
            "Half-way you mixed the teacher's x̂₀ with the noise that was drawn at first. A DDIM step goes "
            "on with the teacher's own ε̂.",
            about="input",
        ),
        Misconception(
            "plain-training",
            _plain_training,
            "This is the ordinary target, made of x0 and noise: the student would learn the average of all "
            "pictures that x could come from. Its target is where the teacher leads from x.",
            about="input",
        ),
        Misconception(
            "drawn-noise-in-v",
            _changed_v(lambda x0, eps, noise, a, s: a * noise - s * x0),
            "Your v mixes x̃₀ with the noise that was drawn. The noise that belongs to x̃₀ is another one: "
            "ε̃ = (x − α·x̃₀)/σ.",
            about="input",
        ),
        Misconception(
            "noise-of-the-teacher-in-v",
            _teachers_noise_in_v,
            "Your v mixes x̃₀ with the teacher's last ε̂. The noise that belongs to x̃₀ is another one: "
            "ε̃ = (x − α·x̃₀)/σ.",
            about="input",
        ),
        Misconception(
            "noise-not-divided",
            _changed_v(lambda x0, eps, noise, a, s: a * s * eps - s * x0),
            "You did not divide by σ: ε̃ = (x − α·x̃₀)/σ.",
            about="missing",
        ),
        Misconception(
            "teacher-shown-the-data",
            _teacher_shown_the_data,
            "The teacher is shown x0. It starts where the student does: at the noisy x.",
            about="input",
        ),
        Misconception(
            "v-turned-round",
            _changed_v(lambda x0, eps, noise, a, s: s * x0 - a * eps),
            "The sign of your v is turned round: v = α·ε̃ − σ·x̃₀.",
            about="sign",
        ),
        Misconception(
            "factors-swapped",
            _changed_v(lambda x0, eps, noise, a, s: s * eps - a * x0),
            "α and σ have changed places in v. It is α·ε̃ − σ·x̃₀: at T, where α is 0, all of it is picture.",
            about="swap",
        ),
        Misconception(
            "x0-returned",
            _changed_v(lambda x0, eps, noise, a, s: x0),
            "You returned x̃₀. It is right; the network predicts v = α·ε̃ − σ·x̃₀.",
            about="reading",
        ),
        Misconception(
            "eps-returned",
            _changed_v(lambda x0, eps, noise, a, s: eps),
            "You returned ε̃. It is right; the network predicts v = α·ε̃ − σ·x̃₀.",
            about="reading",
        ),
        Misconception(
            "v-added",
            _changed_v(lambda x0, eps, noise, a, s: a * eps + s * x0),
            "You added the two parts of v. It is α·ε̃ − σ·x̃₀, a difference.",
            about="sign",
        ),
        Misconception(
            "factors-left-out",
            _changed_v(lambda x0, eps, noise, a, s: eps - x0),
            "You took ε̃ − x̃₀, which is the velocity of another path. Here v = α·ε̃ − σ·x̃₀.",
            about="missing",
        ),
        Misconception(
            "x-in-v",
            _with_x_in_v,
            "You put x in the place of ε̃. v is made of the noise that belongs to x̃₀: ε̃ = (x − α·x̃₀)/σ.",
            about="input",
        ),
        Misconception(
            "reached-for-the-target",
            _reached_for_the_target,
            "You took where the teacher arrives for the picture. It still holds noise: solve for the x̃₀ "
            "that one step takes there, with your student_x0.",
            about="input",
        ),
        Misconception(
            "clean-input",
            _clean_input,
            "The v is right, but as input you returned the clean data. The student is shown what the teacher "
            "started from, the noisy x.",
            about="input",
        ),
        Misconception(
            "v-of-the-end",
            _v_of_the_end,
            "Your v is put together with α and σ of the level where the step ends. The student answers at "
            "x: take those of the level where it starts.",
            about="level",
        ),
        Misconception(
            "from-the-clean-end",
            _from_the_clean_end,
            "You counted the student's steps from the clean end. levels[0] is the noisiest, and step 0 "
            "starts there.",
            about="direction",
        ),
        Misconception(
            "starts-in-the-middle",
            _starts_in_the_middle,
            "You start at levels[2·i + 1], in the middle of the student's step. Its i-th step begins at "
            "place 2·i.",
            about="index",
        ),
        Misconception(
            "first-noise-kept",
            _first_noise_kept,
            "In the second half you mix the teacher's new x̂₀ with its ε̂ of the first. Each half-step "
            "takes both from the teacher's answer there.",
            about="input",
        ),
        Misconception(
            "end-for-the-input",
            _end_for_the_input,
            "v is right. But for the student's input you return the place where the teacher arrives. The "
            "student starts where the teacher does: x at the first level.",
            about="input",
        ),
        Misconception(
            "first-noise-of-the-teacher-in-v",
            _teachers_first_noise_in_v,
            "You took the teacher's first ε̂ for ε̃. v is made of x̃₀ and of the noise that makes up x with "
            "it: ε̃ = (x − α·x̃₀)/σ.",
            about="input",
        ),
    ],
    alternatives=[_example_by_hand, _example_by_sample],
    hints=(
        "Noise the data as in ordinary training. Then forget where x came from: the teacher takes two steps "
        "from it, and the student should do the same in one.",
        "x = α·x0 + σ·noise at the first of three levels; two DDIM steps; x̃₀ from your student_x0; "
        "ε̃ = (x − α·x̃₀)/σ; v = α·ε̃ − σ·x̃₀.",
        "`now, middle, after = levels[2 * i], …, …`, `x = …`, `guess, eps = teacher(x, now)`, and the step "
        "to `middle`; the same again to `after`; `target = student_x0(…)`; `return x, …`.",
    ),
    call=_on_ring,
    figure=_example_figure,
    figure_alt="60 noisy points at t = 250, the last of four student steps, each joined by a line to its x̃₀, "
    "which lies in one of four clusters on a ring.",
)


# 07.6 The loop that makes a student ---------------------------------------------------------------------


def distil(
    teacher: Denoiser,
    student: Any,
    optimizer: Any,
    levels: list[Level],
    draw: Callable[..., Any],
    watched: Any,
    lr: float,
) -> Any:
    """Train a student to make in one step what its teacher makes in two."""
    n = len(levels) // 2
    for k in watched:
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 - k / len(watched))
        i, x0, noise = draw(n)
        now = levels[2 * i]
        with torch.no_grad():
            x, v = student_example(teacher, x0, noise, levels, i)
        weight = max(float(now.alpha) ** 2, float(now.sigma) ** 2)
        loss = weight * (student.v(x, now) - v).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watched.tell(loss)
    return student


class TinyNetwork(nn.Module):
    """The smallest student: v = a·x + b·α + c·σ, and with it a denoiser."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights.double())

    def v(self, x: Tensor, level: Level) -> Tensor:
        alpha, sigma = _scaled(level)
        return self.weights[0] * x + self.weights[1] * alpha + self.weights[2] * sigma

    def forward(self, x: Tensor, level: Level, condition: Condition = None) -> Estimate:
        return V.solve(self.v(x, level), x, level)


class Rounds:
    """What stands for `Watched`: so many rounds, and the losses that it was told."""

    def __init__(self, rounds: int) -> None:
        self.rounds, self.losses, self.begun = rounds, list[float](), 0

    def __len__(self) -> int:
        return self.rounds

    def __iter__(self) -> Iterator[int]:
        for k in range(self.rounds):
            self.begun += 1
            yield k

    def tell(self, loss: Any) -> None:
        self.losses.append(float(loss.detach() if isinstance(loss, Tensor) else loss))


def _weights(given: Any) -> Any:
    """Those of a student, or what was returned in its place."""
    if isinstance(given, TinyNetwork):
        return given.weights.detach().clone()
    return None if given is None else "not a student"


def _on_tiny(
    answer: Callable[..., Any],
    n: int,
    place: list[float],
    x0: Tensor,
    noise: Tensor,
    own: Tensor,
    taught: Tensor,
    lr: float,
) -> dict[str, Any]:
    """Some rounds with a student of n steps; `place` says which step each is about, as a share of all."""
    teacher, student, watched = TinyNetwork(own), TinyNetwork(taught), Rounds(len(place))
    rounds, asked = iter(zip(place, x0.double(), noise.double(), strict=True)), list[int]()

    def draw(steps: int) -> tuple[int, Tensor, Tensor]:
        share, *pair = next(rounds)
        asked.append(int(steps))
        return int(share * steps), pair[0], pair[1]

    levels = DiscreteVP(cosine_betas()).levels(2 * n)
    given = answer(teacher, student, Descent([student.weights], lr=0.03), levels, draw, watched, lr)
    return {
        "steps of the student, as draw was told": asked,
        "losses": torch.tensor(watched.losses, dtype=torch.float64),
        "weights of the student that was returned": _weights(given),
        "gradients reached the teacher": teacher.weights.grad is not None,
        "rounds that `watched` has counted": watched.begun,
    }


def _rounds(n: tuple[int, int], rounds: int, *shape: int) -> Make:
    """Rounds at steps of their own, the first of them not the first step; teacher and student differ."""

    def make(g: torch.Generator) -> dict[str, Any]:
        steps = whole(g, *n)
        first = whole(g, 1, steps - 1) if steps > 1 else 0
        places = [first, *(whole(g, 0, steps - 1) for _ in range(rounds - 1))]
        return {
            "n": steps,
            "place": [(i + 0.5) / steps for i in places],
            "x0": normal(g, rounds, *shape),
            "noise": normal(g, rounds, *shape),
            "own": 0.3 * normal(g, 3),
            "taught": 0.3 * normal(g, 3),
            "lr": number(g, 0.1, 0.3),
        }

    return make


def _loop(
    shown: Callable[..., tuple[Tensor, Tensor]] | None = None,
    loss: Callable[[Any, Tensor, Tensor, Level], Tensor] | None = None,
    steps: Callable[[list[Level]], int] = lambda levels: len(levels) // 2,
    place: Callable[[int], int] = lambda i: 2 * i,
    calls: Sequence[str] = ("zero_grad", "backward", "step", "tell"),
    graph: bool = False,
    rate: Callable[[float, int, int], float] | None = lambda lr, k, n: lr * (1 - k / n),
) -> Callable[..., Any]:
    """The loop of the exercise with one part changed."""

    def weighed(student: Any, x: Tensor, v: Tensor, now: Level) -> Tensor:
        alpha, sigma = _scaled(now)
        return max(alpha, sigma) ** 2 * (student.v(x, now) - v).square().mean()

    def answer(
        teacher: Denoiser,
        student: Any,
        optimizer: Any,
        levels: list[Level],
        draw: Any,
        watched: Any,
        lr: float,
    ) -> Any:
        for k in watched:
            if rate is not None:
                optimizer.param_groups[0]["lr"] = rate(lr, k, len(watched))
            i, x0, noise = draw(steps(levels))
            with torch.set_grad_enabled(graph):
                x, v = (shown or student_example)(teacher, x0, noise, levels, i)
            found = (loss or weighed)(student, x, v, levels[place(i)])
            does = {
                "zero_grad": optimizer.zero_grad,
                "backward": found.backward,
                "step": optimizer.step,
                "tell": lambda found=found: watched.tell(found),
            }
            for call in calls:
                does[call]()
        return student

    return answer


def _weighed_by(weight: Callable[[float, float], float]) -> Callable[..., Any]:
    """The loop with another weight of the loss, from α and σ."""
    return _loop(
        loss=lambda student, x, v, now: weight(*_scaled(now)) * (student.v(x, now) - v).square().mean()
    )


def _by_guesses(student: Any, x: Tensor, v: Tensor, now: Level) -> Tensor:
    """The same loss by way of x̂₀: max(SNR, 1)·‖x̂₀ − x̃₀‖², with x̂₀ = αx − σv."""
    alpha, sigma = _scaled(now)
    off = V.solve(student.v(x, now), x, now).x0 - V.solve(v, x, now).x0
    return max((alpha / sigma) ** 2, 1.0) * off.square().mean()


def _guesses_unweighed(student: Any, x: Tensor, v: Tensor, now: Level) -> Tensor:
    alpha, sigma = _scaled(now)
    off = V.solve(student.v(x, now), x, now).x0 - V.solve(v, x, now).x0
    return max(alpha, sigma) ** 2 * off.square().mean()


def _first_round_only(
    teacher: Denoiser, student: Any, optimizer: Any, levels: list[Level], draw: Any, watched: Any, lr: float
) -> Any:
    return distil(teacher, student, optimizer, levels, draw, _FirstOf(watched), lr)


class _FirstOf:
    """The first round of another, as where `return` stands inside the loop."""

    def __init__(self, whole: Any) -> None:
        self.tell, self.whole = whole.tell, whole

    def __len__(self) -> int:
        return len(self.whole)

    def __iter__(self) -> Iterator[int]:
        return islice(self.whole, 1)


def _copied(
    teacher: Any, student: Any, optimizer: Any, levels: list[Level], draw: Any, watched: Any, lr: float
) -> Any:
    student.load_state_dict(teacher.state_dict())
    return distil(teacher, student, optimizer, levels, draw, watched, lr)


class _Numbers:
    """Rounds that are counted past `watched`."""

    def __init__(self, whole: Any) -> None:
        self.tell, self.whole = whole.tell, whole

    def __len__(self) -> int:
        return len(self.whole)

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.whole)))


def _counted_by_itself(
    teacher: Denoiser, student: Any, optimizer: Any, levels: list[Level], draw: Any, watched: Any, lr: float
) -> Any:
    return distil(teacher, student, optimizer, levels, draw, _Numbers(watched), lr)


def _teacher_returned(
    teacher: Denoiser, student: Any, optimizer: Any, levels: list[Level], draw: Any, watched: Any, lr: float
) -> Any:
    distil(teacher, student, optimizer, levels, draw, watched, lr)
    return teacher


def _loss_returned(
    teacher: Denoiser, student: Any, optimizer: Any, levels: list[Level], draw: Any, watched: Any, lr: float
) -> Any:
    distil(teacher, student, optimizer, levels, draw, watched, lr)
    return torch.zeros(())


def _compounded(
    teacher: Denoiser, student: Any, optimizer: Any, levels: list[Level], draw: Any, watched: Any, lr: float
) -> Any:
    rates = list[float]()

    def rate(lr: float, k: int, n: int) -> float:
        rates.append((rates[-1] if rates else lr) * (1 - k / n))
        return rates[-1]

    return _loop(rate=rate)(teacher, student, optimizer, levels, draw, watched, lr)


def _weighed_at_the_end(
    teacher: Denoiser, student: Any, optimizer: Any, levels: list[Level], draw: Any, watched: Any, lr: float
) -> Any:
    ends = {id(now): after for now, after in zip(levels[::2], levels[2::2], strict=False)}

    def loss(student: Any, x: Tensor, v: Tensor, now: Level) -> Tensor:
        return max(_scaled(ends[id(now)])) ** 2 * (student.v(x, now) - v).square().mean()

    return _loop(loss=loss)(teacher, student, optimizer, levels, draw, watched, lr)


def _by_students_steps(
    teacher: Denoiser, student: Any, optimizer: Any, levels: list[Level], draw: Any, watched: Any, lr: float
) -> Any:
    loop = _loop(rate=lambda lr, k, n: lr * (1 - k / (len(levels) // 2)))
    return loop(teacher, student, optimizer, levels, draw, watched, lr)


def _taught_by_itself(
    teacher: Denoiser, student: Any, optimizer: Any, levels: list[Level], draw: Any, watched: Any, lr: float
) -> Any:
    return distil(student, student, optimizer, levels, draw, watched, lr)


def _distil_by_hand(
    teacher: Denoiser, student: Any, optimizer: Any, levels: list[Level], draw: Any, watched: Any, lr: float
) -> Any:
    places, rates = levels[::2], torch.linspace(lr, 0, len(watched) + 1, dtype=torch.float64).tolist()
    for k in watched:
        optimizer.param_groups[0]["lr"] = rates[k]
        i, x0, noise = draw(len(places) - 1)
        with torch.no_grad():
            x, v = _example_by_hand(teacher, x0, noise, levels, i)
        level = places[i]
        error = (student.v(x, level) - v) ** 2
        snr = float(level.alpha / level.sigma) ** 2
        loss = error.sum() / error.numel() * max(snr, 1) / (1 + snr)
        optimizer.zero_grad()
        loss.backward()
        watched.tell(loss.item())
        optimizer.step()
    return student


def _distil_figure(reference: Callable[..., Any]) -> Any:
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(4.6, 2.6), layout="constrained")
    given = DISTIL.inputs(Case("figure", _rounds((2, 2), 40, 64, 2)), 0)
    for name, own, line in (("a teacher", [0.4, -0.3, 0.2], "-"), ("itself as teacher", None, "--")):
        start = torch.tensor([-0.3, 0.5, -0.5])
        taught = given | {"taught": start, "own": start if own is None else torch.tensor(own), "lr": 0.2}
        losses = _on_tiny(reference, **taught)["losses"]
        axis.plot(losses.numpy(), line, marker="", label=name)
    axis.set(xlabel="training step", ylabel="loss", ylim=(0, None))
    axis.legend(frameon=False)
    return figure


DISTIL = Exercise(
    id="07.6",
    name="distil",
    title="The loop that makes a student",
    kind="implement",
    difficulty=3,
    minutes=25,
    reference=distil,
    builds_on=(EXAMPLE,),
    cases=[
        Case("four rounds, a student of some steps", _rounds((3, 8), 4, 6, 2)),
        Case("three rounds, a student of two steps", _rounds((2, 2), 3, 5, 3)),
        Case("four rounds, a student of one step", _rounds((1, 1), 4, 4, 2)),
    ],
    misconceptions=[
        Misconception(
            "weight-forgotten",
            _weighed_by(lambda a, s: 1.0),
            "The weight max(α², σ²) is missing from your loss. It lies between ½ and 1, so the student would "
            "learn all the same, with the times in the middle counted too much.",
            about="missing",
        ),
        Misconception(
            "weight-without-squares",
            _weighed_by(max),
            "Your weight is max(α, σ), without the squares. It is max(α², σ²).",
            about="root",
        ),
        Misconception(
            "smaller-weight",
            _weighed_by(lambda a, s: min(a, s) ** 2),
            "Your weight takes the smaller of α² and σ². At T, where α is 0, the student of one step would "
            "learn nothing at all. It is the larger one.",
            about="factor",
        ),
        Misconception(
            "truncated-snr-on-v",
            _weighed_by(lambda a, s: max((a / s) ** 2, 1.0)),
            "You weighed the error of v by max(SNR, 1). That is the weight of the error of x₀; seen from v "
            "it is max(α², σ²).",
            about="factor",
        ),
        Misconception(
            "x0-compared",
            _loop(loss=_guesses_unweighed),
            "You compared x₀ with x̃₀. The loss compares what the student answers, student.v(x, level), with "
            "the v of student_example.",
            about="input",
        ),
        Misconception(
            "guess-for-the-answer",
            _loop(
                loss=lambda student, x, v, now: (
                    max(_scaled(now)) ** 2 * (student(x, now).x0 - v).square().mean()
                )
            ),
            "You called the student as a denoiser and compared its x₀ with v. What it answers is "
            "student.v(x, level).",
            about="input",
        ),
        Misconception(
            "absolute-error",
            _loop(
                loss=lambda student, x, v, now: max(_scaled(now)) ** 2 * (student.v(x, now) - v).abs().mean()
            ),
            "You took the mean of the absolute errors. The loss is the mean of the squared ones.",
            about="root",
        ),
        Misconception(
            "wrong-level-told",
            _loop(place=lambda i: i),
            "You tell the student the level at place i. The list holds the teacher's levels: a student's "
            "step spans two of them, so its i-th begins at place 2·i.",
            about="level",
        ),
        Misconception(
            "next-level-told",
            _loop(place=lambda i: 2 * i + 1),
            "You tell the student the level half-way. Its step begins one place earlier, at 2·i: that is "
            "where x lies.",
            about="level",
        ),
        Misconception(
            "steps-of-the-teacher",
            _loop(steps=lambda levels: len(levels) - 1),
            "You ask draw for the steps of the teacher, or for as many as it has levels. A list of 2·n + 1 "
            "levels belongs to a student of n steps.",
            about="count",
        ),
        Misconception(
            "one-step-too-many",
            _loop(steps=lambda levels: (len(levels) + 1) // 2),
            "You rounded up: 2·n + 1 levels make n steps of the student, len(levels) // 2.",
            about="count",
        ),
        Misconception(
            "plain-training",
            _loop(shown=_plain_training),
            "Your target is made of x0 and noise: this is ordinary training. The student learns from the "
            "teacher, by the v of student_example.",
            about="input",
        ),
        Misconception(
            "taught-by-itself",
            _taught_by_itself,
            "The student teaches itself: student_example was given the student. Its first argument is the "
            "teacher.",
            about="input",
        ),
        Misconception(
            "gradients-through-the-teacher",
            _loop(graph=True),
            "The student learns the right thing, but gradients flow through the teacher, too: that costs "
            "time and memory, and fills its weights' .grad. Make the example inside torch.no_grad().",
            about="gradient",
        ),
        Misconception(
            "gradients-never-cleared",
            _loop(calls=("backward", "step", "tell")),
            "optimizer.zero_grad() is missing. Gradients add up until they are cleared, so the second step "
            "would also go where the first one went.",
            about="missing",
        ),
        Misconception(
            "step-without-a-gradient",
            _loop(calls=("backward", "zero_grad", "step", "tell")),
            "The weights never move: optimizer.step() is missing, or the gradients are cleared between "
            "backward and step. The order is zero_grad, backward, step.",
            about="order",
        ),
        Misconception(
            "stepped-twice",
            _loop(calls=("zero_grad", "backward", "step", "step", "tell")),
            "The optimizer steps twice with one gradient. One example, one loss, one step.",
            about="extra",
        ),
        Misconception(
            "rate-not-set",
            _loop(rate=None),
            "You leave the learning rate as the optimizer has it. Before each training step set it in every "
            'one of optimizer.param_groups: group["lr"] = …',
            about="missing",
        ),
        Misconception(
            "rate-constant",
            _loop(rate=lambda lr, k, n: lr),
            "Your learning rate stays at lr. It falls in a straight line, from lr at the first training step "
            "towards 0 after the last.",
            about="factor",
        ),
        Misconception(
            "rate-one-step-early",
            _loop(rate=lambda lr, k, n: lr * (1 - (k + 1) / n)),
            "Your learning rate is one training step ahead: the first one has lr itself, and the last one is "
            "not yet 0.",
            about="index",
        ),
        Misconception(
            "rate-by-the-students-steps",
            _by_students_steps,
            "You divide k by the number of the student's steps. What counts here is the number of training "
            "steps, len(watched).",
            about="count",
        ),
        Misconception(
            "rate-rises",
            _loop(rate=lambda lr, k, n: lr * k / n),
            "Your learning rate rises from 0. It begins at lr and falls: lr·(1 − k/n) at training step k "
            "of n.",
            about="direction",
        ),
        Misconception(
            "loss-not-told",
            _loop(calls=("zero_grad", "backward", "step")),
            "Nobody hears of your losses: give each of them to watched.tell(loss).",
            about="missing",
        ),
        Misconception(
            "loss-summed",
            _loop(
                loss=lambda student, x, v, now: (
                    max(_scaled(now)) ** 2 * (student.v(x, now) - v).square().sum()
                )
            ),
            "You added the squared errors up. Take their mean, so that a step does not grow with the batch.",
            about="mean",
        ),
        Misconception(
            "returned-inside-the-loop",
            _first_round_only,
            "Only one training step was made: `return` stands inside the loop.",
            about="order",
        ),
        Misconception(
            "loss-returned",
            _loss_returned,
            "What you returned is no student. Return the one that was trained: `return student`.",
            about="reading",
        ),
        Misconception(
            "teacher-returned",
            _teacher_returned,
            "You returned the teacher. The student is what was trained.",
            about="reading",
        ),
        Misconception(
            "watched-passed-by",
            _counted_by_itself,
            "The student is right, but your loop does not go over `watched` itself: it shows the loss and "
            "the time left only to `for k in watched:`.",
            about="reading",
        ),
        Misconception(
            "rate-0-at-the-last",
            _loop(rate=lambda lr, k, n: lr * (1 - k / max(n - 1, 1))),
            "Your learning rate is 0 in the last training step, which changes nothing then. It is divided "
            "by the number of steps: lr·(1 − k/n) reaches 0 only after the last one.",
            about="count",
        ),
        Misconception(
            "summed-over-the-entries",
            _loop(
                loss=lambda student, x, v, now: (
                    max(_scaled(now)) ** 2 * (student.v(x, now) - v).square().flatten(1).sum(1).mean()
                )
            ),
            "You added the squared errors of each sample up, and took the mean over the batch alone. It is "
            "the mean over all entries.",
            about="mean",
        ),
        Misconception(
            "copied-from-the-teacher",
            _copied,
            "You copied the teacher's weights to the student first. Whether it starts from them is the "
            "caller's business: train the student as it comes.",
            about="extra",
        ),
        Misconception(
            "rate-compounded",
            _compounded,
            "You lower the rate that the step before has left, so that it falls faster and faster. It is "
            "lr·(1 − k/n), each time from lr itself.",
            about="formula",
        ),
        Misconception(
            "weight-of-the-end",
            _weighed_at_the_end,
            "Your weight is that of the level where the student's step ends. It is that of its start, where "
            "the student is asked.",
            about="level",
        ),
    ],
    alternatives=[_distil_by_hand, _loop(loss=_by_guesses)],
    hints=(
        "It is the training loop that you know: draw, make input and target, compare, go down the gradient. "
        "Only the target is new, and your student_example makes it.",
        "n = len(levels) // 2. The student is told levels[2·i]. Loss: max(α², σ²) times the mean of "
        "(student.v(x, level) − v)². Rate: lr·(1 − k/rounds). Then zero_grad, backward, step, tell.",
        '`for k in watched:`, set `group["lr"]` in each of optimizer.param_groups, `i, x0, noise = draw(…)`, '
        "`with torch.no_grad(): x, v = student_example(…)`, `loss = … * (student.v(x, …) - v).square()"
        ".mean()`, three calls, `watched.tell(loss)`. After the loop, `return student`.",
    ),
    call=_on_tiny,
    figure=_distil_figure,
    figure_alt="Loss over 40 training steps of a student with three weights. Taught by a teacher, it starts "
    "near 0.1, jumps to 0.5 and falls unevenly to about 0.02. Taught by itself, it is near 0 from the start: "
    "a low loss alone says nothing.",
)

EXERCISES = [RUN, SPACE, WALK, TARGET, EXAMPLE, DISTIL]
