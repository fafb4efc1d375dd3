"""The recorded measurement over evaluations: what is drawn, and what is counted."""

from dataclasses import replace

import pytest
import torch

from diffusion_lessons.checkpoint import Checkpoint
from diffusion_lessons.experiments import find, pictures, recorded
from diffusion_lessons.experiments.pictures import STUDENTS
from diffusion_lessons.experiments.steps_by_sampler import EXPERIMENT, STEPS
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


def test_every_sampler_is_measured_at_every_number_of_steps_and_both_scales() -> None:
    assert find("steps-by-sampler") is EXPERIMENT
    rows = [(row["sampler"], row["steps"], row["guidance"]) for row in EXPERIMENT.settings({})]
    assert len(set(rows)) == len(rows) == 1 + len(STUDENTS) + 2 * 3 * len(STEPS)


@pytest.mark.parametrize(
    ("sampler", "steps", "guidance", "evaluations"),
    [("ddpm", 3, 2.0, 6), ("dpmpp-2m", 2, 1.0, 2), ("distilled", 2, 1.0, 2), ("real", 0, 1.0, 0)],
)
def test_a_guided_step_counts_twice_and_all_others_once(
    sampler: str, steps: int, guidance: float, evaluations: float
) -> None:
    row = EXPERIMENT.measure(models(), {"sampler": sampler, "steps": steps, "guidance": guidance}, OPTIONS)
    assert row["evaluations"] == evaluations
    assert row["uncertainty"] > 0
    assert all(0 <= row[share] <= 1 for share in ("accuracy", "precision", "recall"))
    if sampler == "real":
        assert row["frechet"] < 1
        assert row["accuracy"] > 0.95
    else:
        assert row["frechet"] > 1  # nothing was trained


def test_real_pictures_are_balanced_and_drawn_by_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []
    labels: list[torch.Tensor] = []

    def measured(drawn: torch.Tensor, y: torch.Tensor, data: str) -> dict[str, float]:
        seen.append(drawn)
        labels.append(y)
        return {}

    monkeypatch.setattr(pictures, "measured", measured)
    for seed in (0, 0, 1):
        pictures.real("digits", OPTIONS | {"seed": seed})
    assert labels[0].bincount().tolist() == [10] * 10
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])


def test_the_recorded_result_is_of_these_settings_and_shows_the_claim() -> None:
    result = recorded("steps-by-sampler")
    rows = {tuple(row["settings"].values()): row for row in result["rows"]}
    assert set(rows) == {tuple(row.values()) for row in EXPERIMENT.settings(result["options"])}
    for (_, steps, guidance), row in rows.items():
        assert row["evaluations"] == guidance * steps
    for steps in (1, 2):  # a student beats every sampler of its teacher at the same number of evaluations
        others = [rows[name, steps, 1.0]["frechet"] for name in ("ddpm", "ddim", "dpmpp-2m")]
        assert rows["distilled", steps, 1.0]["frechet"] < min(others)
    best = min(rows["distilled", steps, 1.0]["frechet"] for steps in STUDENTS)
    assert rows["dpmpp-2m", 8, 1.0]["frechet"] < best  # and 8 evaluations of the teacher beat every student
    assert rows["real", 0, 1.0]["frechet"] < min(
        row["frechet"] for key, row in rows.items() if key[0] != "real"
    )
