"""Fréchet distance of four noise schedules at the same budget, each with three seeds (lesson 05).

A network is trained along a schedule and sampled twice with the same steps and the same noise: along
its own schedule, and at the noise levels of the cosine schedule. The second takes what a schedule
does to sampling out of the comparison, and leaves what it does to training.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diffusion_lessons.checkpoint import load_checkpoint
from diffusion_lessons.data import load_dataset
from diffusion_lessons.experiments import Experiment, Row
from diffusion_lessons.experiments.pictures import draw, headline, measured
from diffusion_lessons.generate import labels_for
from diffusion_lessons.guidance import Clip
from diffusion_lessons.paths import DiscreteVP, Level, NoisePath
from diffusion_lessons.schedules import cosine_betas
from diffusion_lessons.support.machine import choose_device
from diffusion_lessons.training.loop import train
from diffusion_lessons.training.recipe import Recipe
from diffusion_lessons.training.run_folder import MODEL
from diffusion_lessons.training.tasks import Denoising

SCHEDULES = ("linear", "scaled-linear", "cosine", "sigmoid")
SEEDS = 3
TRAINING_STEPS = 1000
SAMPLING_STEPS = 20
SMALL: Row = {
    "base_channels": 16,
    "channel_mults": (1, 2),
    "attention_levels": (1,),
    "head_dim": 16,
    "patch": 2,
}


def recipe(schedule: str, seed: int, steps: int = TRAINING_STEPS) -> Recipe:
    """What is trained: only the path and the seed differ between rows."""
    return Recipe(
        "digits", steps=steps, path=schedule, seed=seed, lr=3e-3, precision="float32", compile="off", **SMALL
    )


def at_times_of(path: NoisePath, levels: list[Level]) -> list[Level]:
    """The levels with the times at which `path` has their log-SNR, its first or last where it has none."""
    known = torch.stack([path(float(t)).log_snr for t in range(1, int(path.T) + 1)]).numpy()  # (T,), falling
    wanted = torch.stack([level.log_snr for level in levels]).numpy()
    times = np.interp(-wanted, -known, np.arange(1.0, path.T + 1))
    return [
        Level(torch.tensor(t if level.sigma > 0 else 0.0, dtype=torch.float64), level.alpha, level.sigma)
        for t, level in zip(times, levels, strict=True)
    ]


def settings(options: Row) -> list[Row]:
    return [{"seed": options["seed"] + i, "schedule": name} for i in range(SEEDS) for name in SCHEDULES]


def prepare(options: Row) -> Any:
    return load_dataset("digits", "train")


def measure(dataset: Any, row: Row, options: Row, steps: int = TRAINING_STEPS) -> Row:
    """Train one network, sample it along both lists of levels without guidance, and measure."""
    device, task = (
        choose_device(options["device"]),
        Denoising(recipe(row["schedule"], row["seed"], steps), dataset),
    )
    with tempfile.TemporaryDirectory() as folder:
        trained = train(task, folder, device=device, progress=False)
        model = load_checkpoint(Path(folder) / MODEL).on(device)
    denoiser, labels = Clip(model.denoiser()), labels_for(model, options["n"])
    assert labels is not None  # digits have classes
    own = model.path.levels(SAMPLING_STEPS)
    cosine = at_times_of(model.path, DiscreteVP(cosine_betas()).levels(SAMPLING_STEPS))
    drawn = (draw(denoiser, levels, labels, model.shape, row["seed"], device) for levels in (own, cosine))
    figures, along_cosine = (measured(pictures, labels, "digits") for pictures in drawn)
    return {
        "steps": trained["steps"],
        "loss": trained["loss"],
        **headline(figures),
        "frechet_cosine": along_cosine["frechet"],
        "uncertainty_cosine": along_cosine["frechet_error"],
    }


COLUMNS = "schedule seed frechet uncertainty frechet_cosine accuracy loss seconds"
EXPERIMENT = Experiment(__name__, __doc__, COLUMNS, settings, prepare, measure)
