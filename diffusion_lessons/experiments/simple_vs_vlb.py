"""Bits per dimension and samples of networks trained on L_simple and on the bound (Ho et al. 2020, table 2).

The bound is trained in two ways whose gradients have the same mean: its weight multiplies the loss, or
t is drawn in proportion to it (Nichol and Dhariwal 2021, section 3.3, draw t by importance too).
"""

import math
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from diffusion_lessons.bound import vlb_terms
from diffusion_lessons.denoiser import NetworkDenoiser
from diffusion_lessons.experiments import Experiment, Row, pictures
from diffusion_lessons.experiments.pictures import Digits
from diffusion_lessons.losses import variational_bound
from diffusion_lessons.paths import DiscreteVP
from diffusion_lessons.samplers import ddpm_step
from diffusion_lessons.support.seeds import seeded
from diffusion_lessons.targets import EPSILON
from diffusion_lessons.times import stratified
from diffusion_lessons.training.loop import fit
from diffusion_lessons.training.recipe import Recipe
from diffusion_lessons.training.tasks import Denoising

OBJECTIVES = ("simple", "bound, weighted", "bound, t drawn")
SEEDS = (0, 1, 2)
SAMPLING_STEPS = 50
RECIPE = replace(pictures.RECIPE, base_channels=16, head_dim=16, path="linear", target=EPSILON.name)
prepare = partial(pictures.digits, RECIPE)


def settings(options: Row) -> list[Row]:
    return [{"objective": objective, "seed": seed} for seed in SEEDS for objective in OBJECTIVES]


def weights(path: DiscreteVP) -> Tensor:
    """(T + 1,) the bound's weight on the error in ε, in nats; at t = 1 that of t = 2, at t = 0 none."""
    level = path(torch.arange(1, path.T + 1))
    w = variational_bound(path)(level) * (level.sigma / level.alpha) ** 2
    return torch.cat([w.new_zeros(1), w])


class Bounding(Denoising):
    """Learn ε on digits by one of the `OBJECTIVES`."""

    path: DiscreteVP

    def __init__(self, objective: str, recipe: Recipe, shared: Digits) -> None:
        super().__init__(recipe, shared.train)
        self.bound, self.drawn = weights(self.path), objective == "bound, t drawn"
        if objective == "bound, weighted":
            weight, mean = variational_bound(self.path), self.bound[1:].mean()
            self.weight = lambda level: weight(level) / mean  # 1 on average on ε, as with the others

    def times(self, step: int) -> Tensor:
        if not self.drawn:
            return super().times(step)
        u, shares = stratified(self.plan.batch, self.seeded("times", step)), self.bound.cumsum(0)
        return torch.searchsorted(shares / shares[-1], u, right=True).clamp(1, self.path.T).double()


def train(shared: Digits, objective: str, seed: int, steps: int = 1000) -> nn.Module:
    """A small U-Net with classes that predicts ε, its averaged weights; the same for the same seed."""
    return fit(Bounding(objective, replace(RECIPE, steps=steps, seed=seed), shared), shared.device)


def bits(denoiser: Any, shared: Digits, seed: int) -> Row:
    """The bound in bits per dimension on the test split, term by term, and the error in ε over t.

    The error in ε is measured at about thirty whole times from 2 to T, evenly spaced on a logarithmic scale,
    interpolated over log t, and weighted exactly at every t.
    """
    x0, labels = (part.to(shared.device) for part in shared.test.batch(torch.arange(len(shared.test))))
    T, generator = shared.path.T, torch.Generator(shared.device).manual_seed(seed)
    spaced = torch.logspace(0, 1, 36, base=T / 2, dtype=torch.float64) * 2
    at = sorted({int(t) for t in spaced.round().clamp(2, T)})
    terms = vlb_terms(denoiser, shared.path, x0, at, labels, generator)
    w, every = weights(shared.path) / math.log(2), np.arange(2, T + 1)
    errors = terms.steps.double().cpu() / w[at][:, None]  # (n, B)
    share = [np.interp(np.log(every), np.log(at), one) for one in np.eye(len(at))]  # of each time at every t
    steps = torch.from_numpy(np.stack(share)) @ w[every] @ errors  # (B,)
    prior, decoder = terms.prior.double().cpu(), terms.decoder.double().cpu()
    total = prior + steps + decoder
    return {
        "bits": float(total.mean()),
        "bits_error": float(total.std() / len(total) ** 0.5),
        "prior": float(prior.mean()),
        "steps": float(steps.mean()),
        "decoder": float(decoder.mean()),
        "t": at,
        "error_in_eps": [round(float(error), 5) for error in errors.mean(1)],
    }


def measure(shared: Digits, row: Row, options: Row, steps: int = 1000) -> Row:
    """Train, then measure the bound on the test split and `n` samples, drawn without guidance."""
    seed, keep = options["seed"] + row["seed"], row["seed"] == SEEDS[0]
    denoiser = NetworkDenoiser(train(shared, row["objective"], seed, steps), shared.path, EPSILON)
    levels, generator = shared.path.levels(SAMPLING_STEPS), seeded(shared.device, seed, "steps")
    how = {"step": ddpm_step, "generator": generator}  # other noise than what the pictures start from
    drawn = shared.measure(denoiser, levels, options["n"], seed, keep, **how)
    return bits(denoiser, shared, seed) | drawn


COLUMNS = "objective seed bits bits_error steps decoder frechet uncertainty accuracy seconds"
EXPERIMENT = Experiment(__name__, __doc__, COLUMNS, settings, prepare, measure)
