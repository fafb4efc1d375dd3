"""The task of a GAN: two players that learn in turns, each from what the other does.

The losses are the non-saturating ones (Goodfellow et al. 2014, section 3), and the stabiliser is R1, the
gradient penalty on real samples (Mescheder et al. 2018, eq. 9).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusion_lessons.checkpoint import CheckpointError, network_in, read_tensors, weights_of, write_tensors
from diffusion_lessons.data.dataset import Rows
from diffusion_lessons.networks import describe, known
from diffusion_lessons.networks.gan import Gan
from diffusion_lessons.training.recipe import Plan
from diffusion_lessons.training.tasks import Forward, Task

KIND = "generator"  # of the file that a run leaves


# The losses ----------------------------------------------------------------------------------------


def discriminator_loss(real: Tensor, made: Tensor) -> Tensor:
    """−log D on real and −log(1 − D) on made samples, D the sigmoid of logits (B,): 0-d, 2·ln 2 for D = ½."""
    return F.softplus(-real).mean() + F.softplus(made).mean()


def generator_loss(made: Tensor) -> Tensor:
    """−log D of logits (B,) of made samples: 0-d. Its gradient does not vanish where they are told apart.

    The minimax loss, log(1 − D), has the same fixed point, and no gradient left at a logit of −30.
    """
    return F.softplus(-made).mean()


def r1_penalty(x: Tensor, logits: Tensor, gamma: float) -> Tensor:
    """γ/2·|∇ₓ D(x)|² of each sample (B,), the logits (B,) having been computed from x (B, ...).

    Of the logit, not of its sigmoid or loss. It is differentiable: the discriminator learns to be flat on
    real samples. An x that asks for no gradient is a ValueError.
    """
    if not x.requires_grad:
        raise ValueError("R1 is a gradient at x: call x.requires_grad_() before the discriminator sees it")
    (slope,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    return gamma / 2 * slope.flatten(1).square().sum(1)


# The task ------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class AdversarialPlan(Plan):
    """How a GAN is trained; each step is one player's turn, the discriminator's first."""

    lr: float = 1e-3
    warmup: int = 0
    decay: str = "none"  # type: ignore[assignment]
    weight_decay: float = 0.0
    grad_clip: float | None = None
    precision: str = "float32"  # type: ignore[assignment]
    compile: str = "off"  # type: ignore[assignment]
    channels_last: bool = False
    beta1: float = 0.5  # of AdamW: how long gradients are remembered
    beta2: float = 0.9  # and their squares
    r1: float = 0.1  # γ of the penalty; 0 for none
    r1_every: int = (
        1  # turns of the discriminator between two with the penalty, which then weighs as much more
    )

    # R1 differentiates twice, which compiled and lower precision modes were not checked for
    names: ClassVar = {**Plan.names, "precision": ("float32",), "compile": ("off",)}
    shares: ClassVar = ("ema_decay", "beta1", "beta2")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.r1 < math.inf or self.r1_every < 1 or self.r1_every % 1:
            given = f"got {self.r1} and {self.r1_every}"
            raise ValueError(
                f"r1 is a number that is not negative, and r1_every a whole one from 1 on; {given}"
            )


class Turn(NamedTuple):
    """What one player sees in a step."""

    latent: Tensor  # (B, Z)
    real: Tensor | None  # (B, ...) for the discriminator, None for the generator
    penalised: bool = False  # whether R1 is due


class Adversarial(Task):
    """Learn to make the rows of a data set, against a discriminator that learns to tell them.

    The network is a `Gan`; what a run leaves is its generator alone, with averaged weights, a file for
    `load_generator`. One process trains it.
    """

    plan: AdversarialPlan
    network: Gan

    def __init__(self, network: Gan, plan: AdversarialPlan, dataset: Rows) -> None:
        super().__init__(network, plan, dataset)
        self.betas = (plan.beta1, plan.beta2)

    def place(self, device: torch.device | str = "cpu", rank: int = 0, world: int = 1) -> Self:
        if world > 1:
            raise ValueError(f"a GAN is trained by one process, got {world}: start it without a launcher")
        return super().place(device, rank, world)

    def batch(self, step: int, most: int | None = None) -> Turn:
        """The discriminator's turn at even steps, the generator's at odd ones."""
        turn, generators = divmod(step, 2)
        latent = self.noise(step, torch.empty(0, int(self.network.generator.latent_dim)), most)  # type: ignore[arg-type]
        if generators:
            return Turn(latent, None)
        real, _ = self.batches(turn, most)
        return Turn(latent, real, self.plan.r1 > 0 and turn % self.plan.r1_every == 0)

    def loss(self, forward: Forward, batch: Turn) -> Tensor:
        if batch.real is None:
            return generator_loss(forward(batch.latent))
        x = batch.real.detach().requires_grad_(batch.penalised)
        real, made = forward(batch.latent, x)
        loss = discriminator_loss(real, made)
        if batch.penalised:
            loss = loss + self.plan.r1_every * r1_penalty(x, real, self.plan.r1).mean()
        return loss

    def write(self, file: Path, network: nn.Module, info: Mapping[str, Any]) -> None:
        """The generator, to draw from; one that `networks.build` cannot make again, as bare weights."""
        generator = network.generator
        assert isinstance(generator, nn.Module)
        if not known(generator):
            return super().write(file, generator, info)
        about = {"network": describe(generator), "recipe": self.plan.to_json(), "info": dict(info)}
        return write_tensors(file, weights_of(generator), {"kind": KIND, **about})


def load_generator(file: Path | str) -> nn.Module:
    """The generator of a finished or stopped run's file, for `networks.gan.draw`: on the CPU, to evaluate.

    A file that is missing, damaged or holds no generator is a CheckpointError.
    """
    tensors, description = read_tensors(file, KIND)
    try:
        return network_in(tensors, description["network"])
    except (KeyError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{file} does not hold a generator this version can build: {error}") from error
