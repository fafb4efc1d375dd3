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
from torch import Tensor

from diffusion_lessons.checkpoint import load_checkpoint
from diffusion_lessons.data import load_dataset
from diffusion_lessons.denoiser import Condition
from diffusion_lessons.experiments import Experiment, Row
from diffusion_lessons.generate import labels_for
from diffusion_lessons.guidance import Clip
from diffusion_lessons.metrics import evaluate
from diffusion_lessons.paths import DiscreteVP, Level
from diffusion_lessons.paths import Path as NoisePath
from diffusion_lessons.samplers import sample
from diffusion_lessons.schedules import cosine_betas
from diffusion_lessons.support.machine import choose_device
from diffusion_lessons.targets import Estimate
from diffusion_lessons.training.loop import train
from diffusion_lessons.training.recipe import Recipe
from diffusion_lessons.training.run_folder import MODEL

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
    device = choose_device(options["device"])
    with tempfile.TemporaryDirectory() as folder:
        figures = train(
            recipe(row["schedule"], row["seed"], steps), dataset, folder, device=device, progress=False
        )
        model = load_checkpoint(Path(folder) / MODEL)
    model.network.to(device).eval()
    denoiser, labels = Clip(model.denoiser()), labels_for(model, options["n"])
    assert labels is not None  # digits have classes
    generator = torch.Generator().manual_seed(row["seed"])
    noise = torch.randn(options["n"], *model.shape, generator=generator).to(device)

    def conditional(x: Tensor, level: Level, condition: Condition = None) -> Estimate:
        return denoiser(x, level, labels.to(device))

    own = model.path.levels(SAMPLING_STEPS)
    cosine = at_times_of(model.path, DiscreteVP(cosine_betas()).levels(SAMPLING_STEPS))
    results = [evaluate(sample(conditional, noise, levels), labels, "digits") for levels in (own, cosine)]
    return {
        "steps": figures["steps"],
        "loss": figures["loss"],
        "frechet": results[0]["frechet"]["value"],
        "uncertainty": results[0]["frechet"]["uncertainty"],
        "accuracy": results[0]["accuracy"]["value"],
        "frechet_cosine": results[1]["frechet"]["value"],
        "uncertainty_cosine": results[1]["frechet"]["uncertainty"],
    }


EXPERIMENT = Experiment(
    "schedules",
    "Fréchet distance of four schedules at the same budget (lesson 05)",
    ("schedule", "seed", "frechet", "uncertainty", "frechet_cosine", "accuracy", "loss", "seconds"),
    settings,
    prepare,
    measure,
)
