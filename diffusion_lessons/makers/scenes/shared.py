"""What the makers of all models of scenes use: rows, the stages of a training, and the card."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from diffusion_lessons.data.captioned import scene_rows
from diffusion_lessons.data.dataset import Dataset
from diffusion_lessons.data.tokenizer import Tokenizer
from diffusion_lessons.makers.cards import write_card
from diffusion_lessons.makers.diffusion import RUNS, trained
from diffusion_lessons.support.machine import cores
from diffusion_lessons.training.recipe import Plan
from diffusion_lessons.training.run_folder import MODEL
from diffusion_lessons.training.tasks import Task

SIZE, ROWS = 64, 2**17  # side of the pictures, and how many are learnt from
EVALUATED = 500  # captions of each kind that a model is measured on
WIDTH, LAYERS = 96, 3  # of the text tower

P = TypeVar("P", bound=Plan)


@dataclass(frozen=True)
class Stage(Generic[P]):
    """A part of a training: its plan, and what its captions are like."""

    plan: P
    style: str = "both"  # one of `captions.STYLES`
    form: int | None = None  # of all its scenes; None: every form comes
    rows: int = ROWS  # scenes that it learns from

    def to_json(self) -> dict[str, Any]:
        """What a card tells of it."""
        return {**self.plan.to_json(), "style": self.style, "form": self.form, "rows": self.rows}


def rows(n: int, tokenizer: Tokenizer, style: str = "both", **how: Any) -> Dataset:
    """Scenes to learn from, in memory, with their captions; how: `scene_rows`'s."""
    return scene_rows(tokenizer, SIZE, style=style, **how).kept(n, workers=cores() - 1)


def train_stages(
    name: str,
    stages: Sequence[Stage[P]],
    device: torch.device,
    task_of: Callable[[Stage[P], Path | None], Task],
) -> list[Path]:
    """Train stage after stage, and give their folders.

    `task_of` makes what a stage learns, given the model file of the stage before it, which the first has not.
    """
    runs: list[Path] = []
    for number, stage in enumerate(stages, 1):
        run = RUNS / name / str(number)
        trained(partial(task_of, stage, runs[-1] / MODEL if runs else None), run, device)
        runs.append(run)
    return runs


def seen_in(stages: Sequence[Stage[P]]) -> int:
    """How many scenes a training saw in all its stages, none counted twice."""
    return sum({(each.style, each.form, each.plan.seed): each.rows for each in stages}.values())


def write(
    name: str, folder: Path, facts: dict[str, Any], network: nn.Module, device: torch.device, seen: int = ROWS
) -> None:
    """Write the card of a model whose weights are in the folder, made of so many rows; print its figures."""
    facts["parameters"] = sum(p.numel() for p in network.parameters())
    facts["data"] = {"name": "scenes", "rows": seen, "licence": "rendered by this package, MIT"}
    write_card(name, folder, facts, device)
    print(f"{name}: {facts['metrics']}, {(folder / f'{name}.safetensors').stat().st_size:,} bytes")


def rounded_share(share: tuple[float, tuple[float, float]]) -> list[float]:
    """[share, lower end, upper end] of its 95 % interval, to four digits."""
    return [round(each, 4) for each in (share[0], *share[1])]
