"""The bundled students of the MNIST model."""

import pytest
import torch

from diffusion_lessons import zoo
from diffusion_lessons.generate import generate
from diffusion_lessons.makers import build
from diffusion_lessons.metrics import evaluate
from diffusion_lessons.metrics.cost import count_evaluations

STUDENTS = {4: "mnist-unet-4-steps", 2: "mnist-unet-2-steps", 1: "mnist-unet-1-step"}


@pytest.mark.parametrize(("steps", "name"), STUDENTS.items())
def test_a_student_draws_its_teachers_digits_in_its_own_few_steps(steps: int, name: str) -> None:
    about, student = zoo.card(name), zoo.load(name)
    assert (zoo.FOLDER / f"{name}.safetensors").stat().st_size == about["bytes"] <= 1_400_000
    assert name in build.BUILDERS
    assert about["rebuild"] == f"python -m diffusion_lessons.makers {name}"
    assert about["metrics"]["sampling"] == {"sampler": "ddim", "precision": "float32", **student.sampling}
    assert student.sampling == {"steps": steps, "guidance": 1.0}
    assert about["recipe"]["guidance"] == 1.0  # of its teacher: they compare at equal evaluations
    assert about["metrics"]["recall"][0] > 0.6  # its digits are diverse

    labels = torch.arange(80) % 10
    with count_evaluations(student.network) as count:
        ours = generate(student, labels, seed=1, device="cpu")
    assert count.pictures == 80 * steps
    assert (
        evaluate(ours, labels, zoo.yardstick("mnist"))["accuracy"]["value"] >= 0.9
    )  # of 80 samples a few may be odd
    theirs = generate(zoo.load("mnist-unet"), labels[:20], seed=1, steps=16, guidance=1.0, device="cpu")
    same, other = ours[:20] - theirs, ours[20:40] - theirs  # the same noise and class, the same class alone
    assert same.square().mean() < 0.5 * other.square().mean()
