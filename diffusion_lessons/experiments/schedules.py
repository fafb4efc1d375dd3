"""Fréchet distance of four noise schedules at the same budget, each with three seeds (lesson 05).

A network is trained along a schedule and sampled twice with the same steps and the same noise: along
its own schedule, and at the noise levels of the cosine schedule. The second takes what a schedule
does to sampling out of the comparison, and leaves what it does to training.
"""

import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from diffusion_lessons.checkpoint import load_checkpoint
from diffusion_lessons.data import to_uint8
from diffusion_lessons.experiments import Experiment, Row
from diffusion_lessons.experiments.pictures import SHOWN, Digits, digits, draw, headline, measured
from diffusion_lessons.guidance import Clip
from diffusion_lessons.paths import DiscreteVP, Level, NoisePath
from diffusion_lessons.schedules import cosine_betas
from diffusion_lessons.training.loop import train
from diffusion_lessons.training.recipe import Recipe
from diffusion_lessons.training.run_folder import MODEL
from diffusion_lessons.training.tasks import Denoising

SCHEDULES = ("linear", "scaled-linear", "cosine", "sigmoid")
SEEDS = 3
SAMPLING_STEPS = 20
# what is trained: only the path and the seed differ between rows
SMALL: Row = {"base_channels": 16, "head_dim": 16, "channel_mults": (1, 2), "attention_levels": (1,)}
RECIPE = Recipe("digits", steps=1000, lr=3e-3, patch=2, precision="float32", compile="off", **SMALL)
prepare = partial(digits, RECIPE)


def at_times_of(path: NoisePath, levels: list[Level]) -> list[Level]:
    """The levels with the times at which `path` has their log-SNR, its first or last where it has none."""
    times = [path.time_at(level.log_snr) * (level.sigma > 0) for level in levels]
    return [replace(level, t=t) for level, t in zip(levels, times, strict=True)]


def settings(options: Row) -> list[Row]:
    return [{"seed": options["seed"] + i, "schedule": name} for i in range(SEEDS) for name in SCHEDULES]


def measure(shared: Digits, row: Row, options: Row) -> Row:
    """Train one network, sample it along both lists of levels without guidance, and measure."""
    task = Denoising(replace(RECIPE, path=row["schedule"], seed=row["seed"]), shared.train)
    with tempfile.TemporaryDirectory() as folder:
        trained = train(task, folder, device=shared.device, progress=False)
        model = load_checkpoint(Path(folder) / MODEL).on(shared.device)
    denoiser, levels = Clip(model.denoiser()), model.path.levels(SAMPLING_STEPS)
    cosine = at_times_of(model.path, DiscreteVP(cosine_betas()).levels(SAMPLING_STEPS))
    labels = torch.arange(options["n"], device=shared.device) % 10
    drawn, along_cosine = (
        draw(denoiser, each, labels, shared.test.shape, row["seed"]).clamp(-1, 1) for each in (levels, cosine)
    )
    own, other = (measured(each, labels, "digits") for each in (drawn, along_cosine))
    return {
        "steps": trained["steps"],
        "loss": trained["loss"],
        **headline(own),
        **{name: own[name] for name in ("precision", "recall")},
        "frechet_cosine": other["frechet"],
        "uncertainty_cosine": other["frechet_error"],
        "pictures": to_uint8(drawn[:SHOWN]).numpy().tobytes().hex(),
    }


COLUMNS = "schedule seed frechet uncertainty frechet_cosine accuracy precision recall loss seconds"
EXPERIMENT = Experiment(__name__, __doc__, COLUMNS, settings, prepare, measure)
