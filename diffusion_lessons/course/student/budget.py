"""How much work a lesson does, counted in steps and samples and scaled by one setting.

The setting is the environment variable DIFFUSION_LESSONS_BUDGET: `full` is what the lessons publish,
`small` is for runs that only test that everything works, `large` is for a GPU. Unset, it is `large`
where there is a CUDA device and `full` where there is none (Apple's GPUs count as none: they are
about as fast as the published times assume).
"""

import os

import torch

from diffusion_lessons.support.errors import unknown

VARIABLE = "DIFFUSION_LESSONS_BUDGET"
STEPS = {"small": 1 / 20, "full": 1.0, "large": 4.0}  # factor on training steps
SAMPLES = {"small": 1 / 8, "full": 1.0, "large": 4.0}  # factor on samples drawn and measured


def name() -> str:
    """The setting in force: "full", "small" or "large".

    Raises:
        ValueError: the environment variable holds another word.
    """
    given = os.environ.get(VARIABLE, "").strip().lower()
    if not given:
        return "large" if torch.cuda.is_available() else "full"
    if given not in STEPS:
        raise ValueError(f"{unknown('budget', given, STEPS)} (set by the environment variable {VARIABLE})")
    return given


def steps(full: int, at_least: int = 2) -> int:
    """Training steps under the budget.

    Args:
        full: steps at `full`, as published.
        at_least: fewer make no sense here; `full` where that is less.
    """
    return _scaled(full, STEPS[name()], at_least)


def samples(full: int, at_least: int = 8) -> int:
    """Samples drawn, or measured, under the budget. Arguments as `steps`."""
    return _scaled(full, SAMPLES[name()], at_least)


def _scaled(full: int, factor: float, at_least: int) -> int:
    if not isinstance(full, int) or full < 1:
        raise ValueError(f"a budget is given as a whole number ≥ 1, its value at `full`; got {full!r}")
    return max(round(full * factor), min(full, at_least))
