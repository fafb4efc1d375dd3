"""The task of CLIP: to find a picture's caption among all, and a caption's picture (Radford et al. 2021)."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusion_lessons.checkpoint import weights_of, write_tensors
from diffusion_lessons.data.dataset import Rows
from diffusion_lessons.data.tokenizer import Tokenizer
from diffusion_lessons.networks.clip import TwoTowers, contrastive_loss
from diffusion_lessons.training.recipe import Plan
from diffusion_lessons.training.tasks import Forward, Task


class Contrast(Task):
    """Learn which of the batch's captions is a picture's, and which picture a caption's.

    The rows have "tokens"; where they have "wrong" captions too, a picture is told from those of its own as
    well: a batch alone never asks what is left of what, since two captions hardly ever have the same words.
    """

    network: TwoTowers

    def __init__(self, network: TwoTowers, plan: Plan, dataset: Rows, tokenizer: Tokenizer) -> None:
        super().__init__(network, plan, dataset)
        self.tokenizer = tokenizer

    def write(self, file: Path, network: nn.Module, info: Mapping[str, Any]) -> None:
        """The towers with their tokenizer."""
        write_towers(file, network, self.tokenizer, info)

    def loss(self, forward: Forward, batch: Any) -> Tensor:
        pictures, told = batch
        tokens, wrong = told["tokens"], told.get("wrong")
        if wrong is None:
            return contrastive_loss(forward(pictures, tokens))
        rows = len(tokens)
        logits = forward(pictures, torch.cat([tokens, wrong.flatten(0, 1)]))  # (B, B + B·wrongs)
        own = logits[:, rows:].unflatten(1, (rows, -1)).diagonal().T  # (B, wrongs): those of its own picture
        each = torch.arange(rows, device=logits.device)
        to_text = F.cross_entropy(torch.cat([logits[:, :rows], own], 1), each)
        return (to_text + F.cross_entropy(logits[:, :rows].T, each)) / 2


def write_towers(
    file: Path,
    network: nn.Module,
    tokenizer: Tokenizer,
    info: Mapping[str, Any],
    dtype: torch.dtype | None = None,
) -> None:
    """Write both towers and the tokenizer of their texts, as `zoo.load` reads them."""
    assert isinstance(network, TwoTowers)
    shapes = {"text": asdict(network.text.config), "vision": asdict(network.vision.config)}
    about = {"kind": "towers", **shapes, "tokenizer": tokenizer.to_json(), "info": dict(info)}
    write_tensors(file, weights_of(network, dtype), about)
