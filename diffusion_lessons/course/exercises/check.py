"""Checking an answer: it is run and judged in one call."""

from dataclasses import replace
from typing import Any

import torch

from diffusion_lessons.course.exercises.exercise import Exercise
from diffusion_lessons.course.exercises.judging import judge
from diffusion_lessons.course.exercises.running import run
from diffusion_lessons.course.exercises.verdict import Verdict


def check(exercise: Exercise, function: Any, seed: int = 0) -> Verdict:
    """Run an answer on all cases and judge it; arguments as for `run`."""
    return judge(exercise, run(exercise, function, seed=seed))


def check_on_the_gpu(exercise: Exercise, function: Any) -> Verdict | None:
    """Where the lesson runs on a GPU: what is wrong there with an answer that is right on the CPU."""
    if not torch.cuda.is_available():
        return None
    cases = exercise.cases[:1]
    try:
        if run(exercise, exercise.reference, cases, device="cuda").cases[0].failure is not None:
            return None  # an exercise that belongs on the CPU
        verdict = judge(exercise, run(exercise, function, cases, device="cuda"), cases)
    except RuntimeError:
        return None  # there is a GPU, and nothing can be put on it
    if verdict.kind not in ("exception", "device", "type"):
        return None  # the numbers were judged on the CPU, and are rounded otherwise here
    said = "On the CPU your function is right; on the GPU, where this lesson runs, it is not."
    return replace(verdict, message=f"{said} {verdict.message}")


def named(exercise: Exercise, verdict: Verdict, bound: str, own: str) -> Verdict:
    """The verdict, or, where the function has another name than later cells use, that it has.

    `bound` is the name under which later cells find the answer, `own` the function's `__name__`.
    """
    right = exercise.name in (bound, own) or own == "<lambda>"
    if right or verdict.status == "not attempted" or verdict.kind == "not callable":
        return verdict
    said = f"Your function is called `{bound}`: call it `{exercise.name}`, the name that later cells use."
    return Verdict(exercise.id, "wrong", "name", said)
