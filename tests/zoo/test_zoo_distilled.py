"""The bundled students of the MNIST model, and the chain of trainings that makes them."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch

from diffusion_lessons import zoo
from diffusion_lessons.checkpoint import load_checkpoint
from diffusion_lessons.data import Dataset
from diffusion_lessons.generate import generate
from diffusion_lessons.makers import build
from diffusion_lessons.makers.distilled import STAGES, ChainRecipe, train_chain
from diffusion_lessons.metrics import evaluate
from diffusion_lessons.metrics.cost import count_evaluations

STUDENTS = {4: "mnist-unet-4-steps", 2: "mnist-unet-2-steps", 1: "mnist-unet-1-step"}


@pytest.mark.parametrize(("steps", "name"), STUDENTS.items())
def test_a_student_draws_its_teachers_digits_in_its_own_few_steps(steps: int, name: str) -> None:
    about, student = zoo.card(name), zoo.load(name)
    assert (zoo.FOLDER / f"{name}.safetensors").stat().st_size == about["bytes"] <= 1_400_000
    assert name in build.BUILDERS
    assert about["rebuild"] == f"python -m diffusion_lessons.makers.build {name}"
    assert about["metrics"]["sampling"] == {"sampler": "ddim", "precision": "float32", **student.sampling}
    assert student.sampling == {"steps": steps, "guidance": 1.0}
    assert about["metrics"]["recall"][0] > 0.3  # its digits are diverse

    labels = torch.arange(80) % 10
    with count_evaluations(student.network) as count:
        ours = generate(student, labels, seed=1, device="cpu")
    assert count.pictures == 80 * steps
    assert evaluate(ours, labels, "mnist")["accuracy"]["value"] >= 0.9  # of 80 samples a few may be odd
    theirs = generate(zoo.load("mnist-unet"), labels[:20], seed=1, steps=16, guidance=2.0, device="cpu")
    same, other = ours[:20] - theirs, ours[20:40] - theirs  # the same noise and class, the same class alone
    assert same.square().mean() < 0.5 * other.square().mean()


def test_each_stage_of_the_chain_has_half_the_steps() -> None:
    steps = list(STAGES)
    assert steps[0] == 32
    assert steps[-1] == 1
    assert all(before == 2 * after for before, after in pairwise(steps))


def test_a_chain_is_trained_stage_by_stage_and_gone_on_with(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (40, 1, 32, 32), generator=generator, dtype=torch.uint8)
    data = Dataset("mnist", images, torch.arange(40) % 10, tuple("0123456789"))
    chain = ChainRecipe(stages=((4, 1), (2, 1), (1, 1)))
    assert train_chain(chain, 4, data, tmp_path, "cpu") == tmp_path / "4"
    first = (tmp_path / "4" / "model.safetensors").read_bytes()
    assert train_chain(chain, 2, data, tmp_path, "cpu") == tmp_path / "2"
    assert (tmp_path / "4" / "model.safetensors").read_bytes() == first  # not trained again
    student = load_checkpoint(tmp_path / "2" / "model.safetensors")
    assert student.sampling == {"steps": 2, "guidance": 1.0}
    assert student.recipe["weight"] == "truncated-snr"
    assert student.recipe["class_dropout"] == 0
    with pytest.raises(ValueError, match=r"no student of 3 steps in this chain: it has \[4, 2, 1\]"):
        train_chain(chain, 3, data, tmp_path, "cpu")
