"""Quality over training for targets and weights of the loss, learning rates tuned, three seeds (lesson 17).

Every cell, a target with a weight, trains the same network on the same digits and noise. After each of the
`marks` of training, 300 pictures of the averaged weights are drawn by DDIM and held against the test split.
The learning rate does not decay: the network at a mark does not know where training ends. That of a cell is
the best of `TRIED` at the first mark, with a seed that is not compared.

Two networks: the package's U-Net on 16×16 digits, and a residual MLP on the original 8×8, upsampled before
they are measured. "plain" is the plain squared error of the target: a weight of SNR on the error in x₀ for
epsilon, 1 for x0, SNR + 1 for v. So "simple", a weight of SNR, with v or x0 is the same loss as the plain
one of epsilon, with another target. The grid is cut to about an hour of one core: the U-Net has each
target's plain error and Min-SNR; P2, truncated SNR and SNR on v and x0 are tried on the MLP alone.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from diffusion_lessons.conditions import Condition, label_of
from diffusion_lessons.data import Dataset, load_dataset, to_float, to_uint8
from diffusion_lessons.data.dataset import resize
from diffusion_lessons.denoiser import NetworkDenoiser
from diffusion_lessons.experiments import Experiment, Row, pictures
from diffusion_lessons.experiments.pictures import SHOWN, draw, headline
from diffusion_lessons.guidance import Clip
from diffusion_lessons.networks.embedding import LabelEmbedding, TimeEmbedding
from diffusion_lessons.support.machine import choose_device
from diffusion_lessons.support.seeds import layers_seeded
from diffusion_lessons.training.loop import train
from diffusion_lessons.training.recipe import Recipe
from diffusion_lessons.training.tasks import Denoising

SIZE = 16  # of the pictures that are measured
SEEDS, SAMPLING_STEPS = 3, 20
TRIED = (1e-3, 2e-3, 4e-3)  # learning rates
RECIPE = replace(pictures.RECIPE, batch=64, base_channels=16, head_dim=16, decay="none")

# (target, weight) -> the networks that have this cell, each with the best of `TRIED`
RATES = {
    ("epsilon", "plain"): {"mlp": 2e-3, "unet": 4e-3},
    ("epsilon", "min-snr"): {"unet": 4e-3},
    ("v", "plain"): {"mlp": 2e-3, "unet": 2e-3},
    ("v", "min-snr"): {"mlp": 1e-3, "unet": 2e-3},
    ("v", "p2"): {"mlp": 1e-3},
    ("v", "simple"): {"mlp": 1e-3},
    ("x0", "plain"): {"mlp": 4e-3, "unet": 1e-3},
    ("x0", "min-snr"): {"mlp": 4e-3, "unet": 2e-3},
    ("x0", "truncated-snr"): {"mlp": 1e-3},
    ("x0", "simple"): {"mlp": 1e-3},
}


class ResidualMlp(nn.Module):
    """A network without convolutions for pictures (B, 1, H, W) with labels."""

    def __init__(self, pixels: int = 64, width: int = 128, blocks: int = 3, classes: int = 10) -> None:
        super().__init__()
        self.time, self.label = TimeEmbedding(64, width), LabelEmbedding(classes, width)
        self.enter, self.leave = nn.Linear(pixels, width), nn.Linear(width, pixels)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width)
            )
            for _ in range(blocks)
        )

    def forward(self, x: Tensor, time: Tensor, condition: Condition = None) -> Tensor:
        """x (B, 1, H, W), time (B,), labels (B,): like x."""
        labels = label_of(condition)
        if labels is None:
            raise ValueError("this network is told a label of each picture, and got none")
        told = self.time(time) + self.label(labels)
        h = self.enter(x.flatten(1))
        for block in self.blocks:
            h = h + block(h + told)
        return self.leave(h).view_as(x)


@dataclass(frozen=True)
class Kind:
    """A network, what it learns from, and how long."""

    size: int  # side of its pictures
    build: Callable[[], nn.Module] | None  # None is the recipe's U-Net
    marks: tuple[int, ...]  # steps of training


KINDS = {"mlp": Kind(8, ResidualMlp, (250, 500, 1000)), "unet": Kind(SIZE, None, (125, 250, 500))}


class Shared(NamedTuple):
    """What all rows use."""

    digits: dict[int, Dataset]  # by the side of a picture
    device: torch.device


def prepare(options: Row) -> Shared:
    """The digits of both sizes."""
    sizes = {kind.size for kind in KINDS.values()}
    return Shared({n: load_dataset("digits", size=n) for n in sizes}, choose_device(options["device"]))


def settings(options: Row) -> list[Row]:
    """Learning rates first; then the seeds in turn, so that a stopped run has all cells of the same seeds."""
    cells = [
        {"network": name, "target": target, "weight": weight}
        for name in KINDS
        for (target, weight), rates in RATES.items()
        if name in rates
    ]
    first = options["seed"]
    tried = [{**cell, "lr": lr, "seed": first + SEEDS} for cell in cells for lr in TRIED]
    return [*tried, *({**cell, "seed": first + i} for i in range(SEEDS) for cell in cells)]


class Marked(Denoising):
    """A row's training, measured at its marks."""

    def __init__(self, shared: Shared, row: Row, options: Row, marks: tuple[int, ...]) -> None:
        kind, self.options, self.marks = KINDS[row["network"]], options, marks
        target, weight = row["target"], row["weight"]
        best = RATES[target, weight][row["network"]]
        told: Row = {"target": target, "weight": weight, "lr": row.get("lr", best)}
        recipe: Recipe = replace(RECIPE, steps=marks[-1], seed=row["seed"], size=kind.size, **told)
        with layers_seeded(row["seed"]):
            network = kind.build() if kind.build else None
        super().__init__(recipe, shared.digits[kind.size], network)

    @torch.no_grad()
    def measured(self, network: nn.Module) -> Row:
        """The headline of n digits, all classes in turn; the row's seed decides their noise."""
        denoiser = Clip(NetworkDenoiser(network, self.path, self.target))
        labels, levels = (
            torch.arange(self.options["n"], device=self.device) % 10,
            self.path.levels(SAMPLING_STEPS),
        )
        drawn = to_uint8(draw(denoiser, levels, labels, self.dataset.shape, self.plan.seed).clamp(-1, 1))
        drawn = resize(drawn, SIZE)
        shown = drawn[:SHOWN].numpy().tobytes().hex()
        return {**headline(pictures.measured(to_float(drawn), labels, "digits")), "pictures": shown}


def measure(shared: Shared, row: Row, options: Row, marks: tuple[int, ...] = ()) -> Row:
    """Train to the last mark, a learning rate that is tried to the first; the figures at each."""
    marks = marks or KINDS[row["network"]].marks
    task = Marked(shared, row, options, marks[:1] if "lr" in row else marks)
    with tempfile.TemporaryDirectory() as folder:
        trained = train(task, folder, device=shared.device, progress=False)
    found = trained["measured"]
    keep = "lr" not in row and row["seed"] == options["seed"]  # pictures
    columns: dict[str, list[Any]] = {name: [each[name] for each in found] for name in found[0]}
    kept = {"pictures": columns.pop("pictures")[-1]}
    return {
        "rate": task.plan.lr,
        "parameters": trained["parameters"],
        "seconds_a_step": trained["seconds"] / trained["steps"],
        "marks": columns.pop("mark"),
        "at_marks": columns,
        **{name: values[-1] for name, values in columns.items() if name != "step"},
        **(kept if keep else {}),
    }


COLUMNS = "network target weight seed rate frechet uncertainty accuracy seconds"
EXPERIMENT = Experiment(__name__, __doc__, COLUMNS, settings, prepare, measure)
