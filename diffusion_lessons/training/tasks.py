"""Tasks: what there is to learn. The loop asks a task for a network, the batch of a step and its loss.

A new kind of model needs a new task, here or anywhere else, and no second loop: `train` brings budget,
averaged weights, precision and its check, several processes, crash safety and resuming.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusion_lessons.checkpoint import Checkpoint, save_checkpoint, weights_of, write_tensors
from diffusion_lessons.conditions import Condition, label_of
from diffusion_lessons.data.dataset import Rows
from diffusion_lessons.losses import classifier_loss, diffusion_loss
from diffusion_lessons.networks import describe, known
from diffusion_lessons.paths import NoisePath
from diffusion_lessons.support.seeds import seeded
from diffusion_lessons.targets import TARGETS
from diffusion_lessons.training.batches import Batches
from diffusion_lessons.training.recipe import Plan, Recipe

Forward = Callable[..., Any]


class Task:
    """A network, a plan, rows of a data set, and a loss on them; subclasses say what a batch holds besides.

    The network's random start is drawn already. Everything that is drawn later is a function of the plan's
    seed and the step, so that a run can be killed anywhere and resumed.
    """

    dropout = 0.0  # share of the rows whose condition is dropped
    start: str | None = None  # the name of the weights that the network starts from, for the run's record
    marks: Sequence[float] = ()  # when `measured` is asked: budget that is spent then, in its unit, rising
    betas = (0.9, 0.999)  # of AdamW

    def __init__(self, network: nn.Module, plan: Plan, dataset: Rows) -> None:
        self.network, self.plan, self.dataset = network, plan, dataset

    def place(self, device: torch.device | str = "cpu", rank: int = 0, world: int = 1) -> Self:
        """Move the network and make the batches, for one of `world` processes; called before all else."""
        unit, budget = self.plan.budget
        if not all(early < late <= budget for early, late in pairwise([0, *self.marks])):
            raise ValueError(
                f"marks rise from above 0 to at most the budget of {budget:g} {unit}, got {list(self.marks)}"
            )
        self.device = torch.device(device)
        self.layout = self.plan.layout(self.device)
        self.network.to(device=self.device, memory_format=self.layout)  # type: ignore[call-overload]
        drawn = self.dataset, self.plan.batch, self.plan.seed, self.device, self.layout
        null = getattr(self.network, "null_condition", None)
        self.batches = Batches(*drawn, self.dropout, null, rank, world)
        return self

    def seeded(self, purpose: str, step: int, device: torch.device | str = "cpu") -> torch.Generator:
        """A generator that is a function of the plan's seed, the purpose and the step alone."""
        return seeded(device, self.plan.seed, purpose, step)

    def batch(self, step: int, most: int | None = None) -> Any:
        """What this process learns from at a step, at most so many rows: by default x0 and condition."""
        return self.batches(step, most)

    def noise(self, step: int, x0: Tensor, most: int | None = None) -> Tensor:
        """N(0, I) for the rows of `batch(step, most)`, like x0."""
        generator = self.seeded("noise", step, self.device)
        noise = torch.randn((self.plan.batch, *x0.shape[1:]), generator=generator, device=self.device)
        return self.batches.laid_out(noise[self.batches.share(most)])

    def loss(self, forward: Forward, batch: Any) -> Tensor:
        """The mean loss of a batch, 0-d. `forward` is the network, run as the speed mode runs it."""
        raise NotImplementedError(f"{type(self).__name__} does not say what its loss is")

    def watched(self, network: nn.Module) -> dict[str, float]:
        """Figures that the run logs with each checkpoint, of the network as `write` gets it; none here."""
        return {}

    def measured(self, network: nn.Module) -> Mapping[str, Any]:
        """Figures of the network at a mark, as `write` gets it: plain values, kept in the run's metrics.

        One process measures while the others wait, and the time is not taken from the budget.
        """
        raise NotImplementedError(f"{type(self).__name__} has marks and does not say what is measured there")

    def write(self, file: Path, network: nn.Module, info: Mapping[str, Any]) -> None:
        """Write what is kept of a run, whole or not at all.

        The network has averaged weights and is in evaluation mode; info tells steps, seconds, versions.
        """
        about = {"kind": "network", "recipe": self.plan.to_json(), "info": dict(info)}
        write_tensors(file, weights_of(network), about)


class Batch(NamedTuple):
    """This process's share of the arguments of the diffusion loss for one step."""

    x0: Tensor  # (B, ...), pictures in [-1, 1]
    noise: Tensor  # like x0
    t: Tensor  # (B,) float64 on the CPU
    condition: Condition  # B rows, some of them the null condition


class Denoising(Task):
    """Learn the recipe's target along its path: pixels, latents or clips, under any condition.

    The network is the recipe's, or one that is given; `start` is the name of the weights it comes with.
    """

    plan: Recipe

    def __init__(
        self, recipe: Recipe, dataset: Rows, network: nn.Module | None = None, start: str | None = None
    ) -> None:
        super().__init__(recipe.build_network(dataset) if network is None else network, recipe, dataset)
        self.start = start
        self.path, self.target = recipe.build_path(), TARGETS[recipe.target]
        self.weight, self.dropout = recipe.build_weight(self.path), recipe.class_dropout

    def batch(self, step: int, most: int | None = None) -> Batch:
        x0, condition = self.batches(step, most)
        t = self.times(step)[self.batches.share(most)]
        return Batch(x0, self.noise(step, x0, most), t, condition)

    def times(self, step: int) -> Tensor:
        """(batch,) the times of a step, over all processes."""
        return self.path.sample_times(self.plan.batch, self.seeded("times", step), self.plan.build_warp())

    def loss(self, forward: Forward, batch: Batch) -> Tensor:
        return diffusion_loss(forward, self.path, self.target, *batch, self.weight).mean()

    def write(self, file: Path, network: nn.Module, info: Mapping[str, Any]) -> None:
        """A checkpoint to sample from; of a network that `networks.build` cannot make again, its weights."""
        if not known(network):
            return super().write(file, network, info)
        classes, shape = tuple(self.dataset.classes), tuple(self.dataset.shape)
        model = Checkpoint(network, self.path, self.target, classes, shape, self.plan.to_json(), info)
        return save_checkpoint(file, model)


class Classification(Task):
    """Learn to name classes by network(x) -> logits (B, K); with a path, of noisy x by network(x, time)."""

    def __init__(self, network: nn.Module, plan: Plan, dataset: Rows, path: NoisePath | None = None) -> None:
        super().__init__(network, plan, dataset)
        if not dataset.classes:
            raise ValueError(f"{dataset.name} has no classes to tell apart")
        self.path = path

    def batch(self, step: int, most: int | None = None) -> Any:
        x0, condition = self.batches(step, most)
        labels = label_of(condition)
        if self.path is None:
            return x0, labels
        times = self.path.sample_times(self.plan.batch, self.seeded("times", step))
        return x0, self.noise(step, x0, most), times[self.batches.share(most)], labels

    def write(self, file: Path, network: nn.Module, info: Mapping[str, Any]) -> None:
        """The weights; of a clean `Classifier` as a file that pictures can be measured by."""
        if self.path is not None or not known(network):
            return super().write(file, network, info)
        about = {"kind": "classifier", "network": describe(network), "splits": [], "info": dict(info)}
        return write_tensors(file, weights_of(network), about)

    def loss(self, forward: Forward, batch: Any) -> Tensor:
        if self.path is None:
            x0, labels = batch
            return F.cross_entropy(forward(x0), labels)
        return classifier_loss(forward, self.path, *batch).mean()
