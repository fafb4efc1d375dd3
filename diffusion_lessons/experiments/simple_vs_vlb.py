"""Bits per dimension and samples of networks trained on L_simple and on the bound (Ho et al. 2020, table 2).

The bound is trained in two ways whose gradients have the same mean: its weight multiplies the loss, or
t is drawn in proportion to it (Nichol and Dhariwal 2021, section 3.3, draw t by importance too).
"""

import copy
import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from diffusion_lessons.data import Dataset, load_dataset, to_uint8
from diffusion_lessons.denoiser import NetworkDenoiser
from diffusion_lessons.experiments import Experiment, Row
from diffusion_lessons.guidance import Clip
from diffusion_lessons.losses import diffusion_loss, variational_bound, vlb_terms
from diffusion_lessons.metrics import evaluate
from diffusion_lessons.networks import UNet, UNetConfig
from diffusion_lessons.paths import DiscreteVP, stratified
from diffusion_lessons.samplers import ddpm_step, sample
from diffusion_lessons.schedules import linear_betas
from diffusion_lessons.support.machine import choose_device, keep_freed_memory
from diffusion_lessons.targets import EPSILON
from diffusion_lessons.training.ema import EMA
from diffusion_lessons.training.recipe import DECAYS

OBJECTIVES = ("simple", "bound, weighted", "bound, t drawn")
SEEDS = (0, 1, 2)
STEPS, BATCH, LR, WARMUP, EMA_DECAY = 1000, 32, 2e-3, 30, 0.999  # of training
SAMPLING_STEPS = 50
SHOWN = 10  # pictures kept of the first seed, one a class


class Shared(NamedTuple):
    """What all rows use."""

    train: Dataset
    test: Dataset
    path: DiscreteVP
    device: torch.device


def settings(options: Row) -> list[Row]:
    return [{"objective": objective, "seed": seed} for seed in SEEDS for objective in OBJECTIVES]


def prepare(options: Row) -> Shared:
    keep_freed_memory()
    train, test = load_dataset("digits", "train"), load_dataset("digits", "test")
    return Shared(train, test, DiscreteVP(linear_betas()), choose_device(options["device"]))


def weights(path: DiscreteVP) -> Tensor:
    """(T + 1,) the bound's weight on the error in ε, in nats; at t = 1 that of t = 2, at t = 0 none."""
    level = path(torch.arange(1, path.T + 1))
    w = variational_bound(path)(level) * (level.sigma / level.alpha) ** 2
    return torch.cat([w.new_zeros(1), w])


def train(shared: Shared, objective: str, seed: int, steps: int = STEPS) -> nn.Module:
    """A small U-Net with classes that predicts ε, its averaged weights; the same for the same seed."""
    dataset, path, device, w = shared.train, shared.path, shared.device, weights(shared.path)
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = UNet(UNetConfig(base_channels=16, head_dim=16, num_classes=len(dataset.classes))).to(device)
    ema, optimizer = EMA(network, EMA_DECAY), torch.optim.AdamW(network.parameters(), lr=LR)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = LR * min(1.0, (step + 1) / WARMUP) * DECAYS["cosine"](step / steps)
        index = torch.randint(len(dataset), (BATCH,), generator=generator)
        u = stratified(BATCH, generator)
        t = (u * path.T).floor().long() + 1
        if objective == "bound, t drawn":
            t = torch.searchsorted(w.cumsum(0) / w.sum(), u, right=True).clamp(1, path.T)
        noise = torch.randn(BATCH, *dataset.shape, generator=generator).to(device)
        images, labels = dataset.batch(index)
        loss = diffusion_loss(network, path, EPSILON, images.to(device), noise, t, labels.to(device))
        if objective == "bound, weighted":
            loss = loss * (w[t] / w[1:].mean()).to(loss)  # 1 on average, as with the others
        optimizer.zero_grad()
        loss.mean().backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        ema.update(network)
    averaged = copy.deepcopy(network)
    ema.copy_to(averaged)
    return averaged.eval()


def times(T: int) -> list[int]:
    """About thirty whole times from 2 to T, evenly spaced on a logarithmic scale."""
    spaced = torch.logspace(0, 1, 36, base=T / 2, dtype=torch.float64) * 2
    return sorted({int(t) for t in spaced.round().clamp(2, T)})


def bits(denoiser: Any, shared: Shared, seed: int) -> Row:
    """The bound in bits per dimension on the test split, term by term, and the error in ε over t.

    The error in ε is measured at `times`, interpolated over log t, and weighted exactly at every t.
    """
    images, labels = shared.test.batch(torch.arange(len(shared.test)))
    x0, labels = images.to(shared.device), labels.to(shared.device)
    at, generator = times(shared.path.T), torch.Generator(shared.device).manual_seed(seed)
    terms = vlb_terms(denoiser, shared.path, x0, at, labels, generator)
    w, every = weights(shared.path) / math.log(2), torch.arange(2, shared.path.T + 1)
    errors = terms.steps.double().cpu() / w[torch.tensor(at)][:, None]  # (n, B)
    steps = (w[every][:, None] * _interpolated(errors, torch.tensor(at), every)).sum(0)  # (B,)
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


def _interpolated(errors: Tensor, at: Tensor, every: Tensor) -> Tensor:
    """errors (n, B) at the times `at`, linear in log t at the times `every`: (len(every), B)."""
    after = torch.searchsorted(at, every).clamp(min=1)
    low, high = at[after - 1].double().log(), at[after].double().log()
    return torch.lerp(
        errors[after - 1], errors[after], ((every.double().log() - low) / (high - low))[:, None]
    )


def measure(shared: Shared, row: Row, options: Row) -> Row:
    """Train, then measure the bound on the test split and `n` samples, drawn without guidance."""
    seed = options["seed"] + row["seed"]
    denoiser = NetworkDenoiser(train(shared, row["objective"], seed), shared.path, EPSILON)
    with torch.no_grad():
        bound = bits(denoiser, shared, seed)
        labels = torch.arange(options["n"]) % len(shared.test.classes)
        generator = torch.Generator(shared.device).manual_seed(seed)
        pictures = [
            sample(
                Clip(denoiser),
                torch.randn(len(part), *shared.test.shape, generator=generator, device=shared.device),
                shared.path.levels(SAMPLING_STEPS),
                part.to(shared.device),
                step=ddpm_step,
                generator=generator,
            ).cpu()
            for part in labels.split(250)
        ]
    made = torch.cat(pictures).clamp(-1, 1)
    result = evaluate(made, labels, "digits")
    figures = {
        **bound,
        "frechet": result["frechet"]["value"],
        "uncertainty": result["frechet"]["uncertainty"],
        "accuracy": result["accuracy"]["value"],
    }
    if row["seed"] == SEEDS[0]:
        figures["pictures"] = to_uint8(made[:SHOWN]).numpy().tobytes().hex()  # (10, 1, 16, 16)
    return figures


EXPERIMENT = Experiment(
    "simple-vs-vlb",
    "L_simple against the variational bound: bits per dimension and samples (DDPM, table 2)",
    (
        "objective",
        "seed",
        "bits",
        "bits_error",
        "steps",
        "decoder",
        "frechet",
        "uncertainty",
        "accuracy",
        "seconds",
    ),
    settings,
    prepare,
    measure,
)
