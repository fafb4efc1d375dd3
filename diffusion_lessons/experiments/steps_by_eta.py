"""Fréchet distance over the number of steps and η: the table of DDIM (Song et al. 2021, table 1).

η = 0 is DDIM, η = 1 ancestral sampling with the posterior's variance, and "large" the variance σ̂
of the forward step, which DDPM used with 1000 steps.

As in the paper the times run from about T down to 1, so that the last step, 1 to 0, is tiny ("linspace"):
noise that is too much at t = 1 is there to stay.
"""

from functools import partial
from typing import Any

from diffusion_lessons.experiments import Experiment, Row
from diffusion_lessons.experiments.pictures import generated, headline, opened
from diffusion_lessons.samplers import ddim_step, ddpm_step

STEPS = (5, 10, 20, 50, 100, 250, 1000)
SPACING = "linspace"
NOISE = {
    "0": partial(ddim_step, eta=0.0),
    "0.5": partial(ddim_step, eta=0.5),
    "1": partial(ddim_step, eta=1.0),
    "large": partial(ddpm_step, variance="large"),
}


def settings(options: Row) -> list[Row]:
    return [{"steps": steps, "eta": eta} for steps in STEPS for eta in NOISE]


def prepare(options: Row) -> Any:
    return opened(options["model"])


def measure(model: Any, row: Row, options: Row) -> Row:
    """Sample without guidance (scale 1), so that only the sampler differs between rows."""
    how = {"steps": row["steps"], "spacing": SPACING, "guidance": 1.0, "step": NOISE[row["eta"]]}
    return headline(generated(model, options, **how))


COLUMNS = "steps eta frechet uncertainty accuracy seconds"
EXPERIMENT = Experiment(__name__, __doc__, COLUMNS, settings, prepare, measure)
