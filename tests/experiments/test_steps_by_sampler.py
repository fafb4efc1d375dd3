"""The recorded measurement over evaluations: what is drawn, and what is counted."""

from dataclasses import replace

import pytest
import torch

from diffusion_lessons.checkpoint import Checkpoint
from diffusion_lessons.experiments import find, recorded
from diffusion_lessons.experiments.steps_by_sampler import EXPERIMENT, STEPS, STUDENTS
from diffusion_lessons.networks import UNet, UNetConfig
from diffusion_lessons.paths import DiscreteVP
from diffusion_lessons.schedules import cosine_betas
from diffusion_lessons.targets import V

OPTIONS = {"model": "mnist-unet", "n": 100, "seed": 0, "device": "cpu"}


def models() -> dict[object, Checkpoint]:
    """A teacher and students that were never trained."""
    torch.manual_seed(0)
    network = UNet(UNetConfig(1, 1, 8, (1, 2), attention_levels=(), num_classes=10))
    path, classes = DiscreteVP(cosine_betas()), tuple("0123456789")
    teacher = Checkpoint(network, path, V, classes, (1, 16, 16), {"data": "digits"})
    students = {n: replace(teacher, info={"sampling": {"steps": n, "guidance": 1.0}}) for n in STUDENTS}
    return {"": teacher, **students}


def test_every_sampler_is_measured_at_every_number_of_steps() -> None:
    assert find("steps-by-sampler") is EXPERIMENT
    rows = [(row["sampler"], row["steps"]) for row in EXPERIMENT.settings({})]
    assert len(set(rows)) == len(rows) == 3 * len(STEPS) + len(STUDENTS)


@pytest.mark.parametrize(
    ("sampler", "steps", "evaluations"), [("ddpm", 3, 6), ("dpmpp-2m", 2, 4), ("distilled", 2, 2)]
)
def test_a_guided_step_counts_twice_and_a_students_once(sampler: str, steps: int, evaluations: float) -> None:
    row = EXPERIMENT.measure(models(), {"sampler": sampler, "steps": steps}, OPTIONS)
    assert row["evaluations"] == evaluations
    assert row["frechet"] > 1  # nothing was trained
    assert row["uncertainty"] > 0
    assert all(0 <= row[share] <= 1 for share in ("accuracy", "precision", "recall"))


def test_the_recorded_result_is_of_these_settings_and_shows_the_claim() -> None:
    result = recorded("steps-by-sampler")
    rows = {(row["settings"]["sampler"], row["settings"]["steps"]): row for row in result["rows"]}
    assert len(rows) == len(EXPERIMENT.settings({}))
    assert all(row["evaluations"] == row["guidance"] * row["settings"]["steps"] for row in result["rows"])
    for steps in STUDENTS:  # a student beats every sampler of its teacher at the same number of steps
        others = [rows[name, steps]["frechet"] for name in ("ddpm", "ddim", "dpmpp-2m")]
        assert rows["distilled", steps]["frechet"] < min(others)
