"""Which noise goes with which data: pairs that a flow has made itself, or the nearest of a batch.

A denoiser that is trained on independent pairs has to answer with the mean of many directions, so its ways
bend. Pairs whose lines do not cross leave one direction at each place, and the ways are straight.
"""

import numpy as np
import torch
from torch import Tensor

from diffusion_lessons.conditions import Condition, as_dict, taken
from diffusion_lessons.data.dataset import Dataset, Rows
from diffusion_lessons.denoiser import Denoiser
from diffusion_lessons.paths import Level, same_shape
from diffusion_lessons.samplers import heun, sample
from diffusion_lessons.training.recipe import Recipe
from diffusion_lessons.training.tasks import Batch, Denoising

NOISE = "noise"  # the condition of a row that is the noise it was made from


def pairs(
    denoiser: Denoiser,
    noise: Tensor,
    levels: list[Level],
    condition: Condition = None,
    classes: tuple[str, ...] = (),
    batch: int = 256,
) -> Dataset:
    """What Heun's method makes of noise (N, ...), each row with its noise: what `Reflow` learns from.

    The condition, labels (N,) with their classes or a dict, is that of the rows. They lie on the CPU.
    """
    parts = []
    for index in torch.arange(len(noise)).split(batch):
        start = noise[index]
        parts.append(sample(denoiser, start, levels, taken(condition, index, start.device), heun).cpu())
    told = {name: value.cpu() for name, value in as_dict(condition).items()}
    labels = told.pop("label", None)
    return Dataset("pairs", torch.cat(parts), labels, classes, {**told, NOISE: noise.cpu()})


class Reflow(Denoising):
    """Learn from fixed pairs of data and noise, whose lines hardly cross (Liu et al. 2023, algorithm 1).

    The data set is one of `pairs`; every time that a row is drawn, its own noise comes with it. The network,
    where one is given, is usually the flow that made the pairs: it goes on from there.
    """

    def __init__(
        self, recipe: Recipe, dataset: Rows, network: torch.nn.Module | None = None, start: str | None = None
    ) -> None:
        if NOISE not in dataset.rows(torch.zeros(1, dtype=torch.int64))[1]:
            raise ValueError(f"{dataset.name} has no {NOISE!r} for its rows: make them with `pairs`")
        super().__init__(recipe, dataset, network, start)

    def batch(self, step: int, most: int | None = None) -> Batch:
        x0, condition = self.batches(step, most)
        told = as_dict(condition).copy()
        noise = self.batches.laid_out(told.pop(NOISE))
        told_alone = told["label"] if told.keys() == {"label"} else told or None
        return Batch(x0, noise, self.times(step)[self.batches.share(most)], told_alone)


def minibatch_ot(x0: Tensor, noise: Tensor, groups: Tensor | None = None) -> Tensor:
    """The noise (B, ...) in another order: the one with the least sum of |x0 − noise|² (Tong et al. 2024).

    Data stay in their places, and so do their conditions. But if conditions are told to a network, noise must
    not say which one a row has: with `groups` (B,), such as labels, noise changes places within a group
    alone. So every row of a condition still starts from N(0, I), as samples will.
    """
    from scipy.optimize import linear_sum_assignment  # takes longer to import than all of this package

    same_shape("x0 and noise", x0, noise)
    costs = torch.cdist(x0.flatten(1).double(), noise.flatten(1).double()).square().cpu().numpy()
    if groups is not None:
        if groups.shape != (len(x0),):
            raise ValueError(f"groups have shape ({len(x0)},), one for each row, got {tuple(groups.shape)}")
        apart = (groups[:, None] != groups[None, :]).cpu().numpy()
        costs = np.where(apart, costs.sum() + 1, costs)
    _, order = linear_sum_assignment(costs)  # rows come in order: the noise of each
    return noise[torch.from_numpy(order).to(noise.device)]
