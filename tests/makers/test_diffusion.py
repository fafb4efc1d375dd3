"""The chain of trainings that makes the students of a bundled model."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch

from diffusion_lessons.checkpoint import load_checkpoint
from diffusion_lessons.data import Dataset
from diffusion_lessons.makers.diffusion import STAGES, ChainRecipe, train_chain


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
