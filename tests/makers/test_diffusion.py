"""The chain of trainings that makes the students of a bundled model."""

import json
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from diffusion_lessons import zoo
from diffusion_lessons.checkpoint import load_checkpoint
from diffusion_lessons.data import Dataset
from diffusion_lessons.makers import diffusion
from diffusion_lessons.makers.build import build
from diffusion_lessons.makers.diffusion import STAGES, ChainRecipe, repeat, train_chain


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


def test_another_seed_adds_its_figures_to_the_card_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "mnist-unet-1-step"
    shutil.copy(zoo.FOLDER / f"{name}.json", tmp_path)
    (tmp_path / "run").mkdir()
    shutil.copy(zoo.FOLDER / f"{name}.safetensors", tmp_path / "run" / "model.safetensors")
    before = zoo.card(name)
    monkeypatch.setattr(diffusion, "EVALUATED", 80)
    repeat(tmp_path / "run", name, tmp_path, 7, torch.device("cpu"), {"steps": 3})
    after = json.loads((tmp_path / f"{name}.json").read_text())
    told = after["other_seeds"].pop("7")
    assert told["training"] == {"steps": 3}
    assert told["hardware"]["device"] == "cpu"
    assert 0 < told["frechet"][0] < 10
    assert after == {**before, "other_seeds": after["other_seeds"]}


def test_another_seed_is_for_diffusion_models() -> None:
    with pytest.raises(ValueError, match="digits-classifier is no diffusion model of digits"):
        build(["digits-classifier"], seed=1)


@pytest.mark.parametrize("name", ["mnist-unet-4-steps", "mnist-unet-2-steps", "mnist-unet-1-step"])
def test_students_of_other_seeds_are_as_good(name: str) -> None:
    card = zoo.card(name)
    value, error = card["metrics"]["frechet"]
    assert sorted(card["other_seeds"]) == ["1", "2"]
    for other in card["other_seeds"].values():
        assert abs(other["frechet"][0] - value) < 2 * (error**2 + other["frechet"][1] ** 2) ** 0.5
