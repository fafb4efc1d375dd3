"""What the tests of training share: a data set and a recipe that train in milliseconds a step."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diffusion_lessons.checkpoint import read_tensors
from diffusion_lessons.data import Dataset
from diffusion_lessons.training.recipe import Recipe
from diffusion_lessons.training.run_folder import STATE
from diffusion_lessons.training.tasks import Denoising


def tiny_dataset(seed: int = 0) -> Dataset:
    """50 pictures of 8×8 in three classes: a bright block whose place is the class, with noise."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 60, (50, 1, 8, 8), generator=generator, dtype=torch.uint8)
    labels = torch.arange(50) % 3
    for image, label in zip(images, labels.tolist(), strict=True):
        image[:, 2 * label : 2 * label + 3] += 180
    return Dataset("tiny", images, labels, ("top", "middle", "bottom"))


def tiny_recipe(**changes: Any) -> Recipe:
    """A U-Net of 26 thousand parameters, batches of 8, exact arithmetic."""
    recipe: dict[str, Any] = {
        "data": "tiny",
        "base_channels": 8,
        "channel_mults": (1, 2),
        "attention_levels": (1,),
        "head_dim": 8,
        "batch": 8,
        "warmup": 3,
        "precision": "float32",
        "checkpoint_every": 1e9,
    }
    if not {"steps", "images", "minutes"} & changes.keys():
        recipe["steps"] = 12
    return Recipe(**(recipe | changes))


def tiny_task(**changes: Any) -> Denoising:
    """Both together."""
    return Denoising(tiny_recipe(**changes), tiny_dataset())


class Deaf(nn.Module):
    """A network whose weights never hear of the loss: right outputs, gradients of zero."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> Tensor:
        y = self.network(*inputs)
        return y.detach() + 0 * y


def saved_state(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The tensors and the description of the state in a folder, without what depends on the clock."""
    tensors, description = read_tensors(folder / STATE, "training state")
    return tensors, {key: value for key, value in description.items() if key != "seconds"}


def assert_same_run(a: Path, b: Path) -> None:
    """Weights, averages, moments, curve and counters of two runs are the same, bit for bit."""
    (ours, told), (theirs, also_told) = saved_state(a), saved_state(b)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    assert told == also_told
