"""A GAN against diffusion, with equal parameters and equal training time (lesson 13).

Both learn a grid of 25 Gaussians, at four learning rates, and digits; the generator has about as many
parameters as the denoiser, and the discriminator comes on top. The GAN is trained plainly, with R1 and
averaged weights, and with spectral norm in place of R1. On the grid denoiser and discriminator see sines of
the coordinates, and at one rate also the coordinates alone. Seconds are of the processor, over all threads.

The GAN was tuned more than the denoiser: γ and how often, decay, batch, Adam's β, activation, size of the
latent and sines of it, in 31 trials of one seed each. Three of them were then measured on the seeds recorded
here: the best is `STABLE`, the others are `HALF` and `DECAYED`. The denoiser had 3 trials: two rates, two
widths.
"""

import time
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from diffusion_lessons import zoo
from diffusion_lessons.data import Dataset, load_dataset, to_float, to_uint8
from diffusion_lessons.denoiser import Denoiser, NetworkDenoiser
from diffusion_lessons.experiments import Experiment, Row
from diffusion_lessons.experiments.pictures import BATCH
from diffusion_lessons.guidance import Clip
from diffusion_lessons.metrics import Yardstick, count_modes, evaluate, features_and_classes
from diffusion_lessons.metrics.evaluate import figures
from diffusion_lessons.mixtures import GaussianMixture
from diffusion_lessons.networks import (
    Discriminator,
    DiscriminatorConfig,
    Generator,
    GeneratorConfig,
    PointConfig,
    PointNetwork,
    UNet,
    UNetConfig,
)
from diffusion_lessons.networks.gan import Gan, draw
from diffusion_lessons.paths import Level, NoisePath
from diffusion_lessons.samplers import sample
from diffusion_lessons.support.machine import choose_device
from diffusion_lessons.support.seeds import layers_seeded
from diffusion_lessons.targets import V
from diffusion_lessons.training.adversarial import Adversarial, AdversarialPlan
from diffusion_lessons.training.loop import fit
from diffusion_lessons.training.recipe import Recipe
from diffusion_lessons.training.tasks import Denoising, Forward, Task

SEEDS = (0, 1, 2)
RATES = (3e-4, 1e-3, 3e-3, 1e-2)  # peak learning rates on the grid
ONE_RATE = 1e-3  # of what is measured at one rate only
GAN, STABLE, SPECTRAL, DIFFUSION = "gan", "gan, r1 and ema", "gan, spectral norm and ema", "diffusion"
HALF, DECAYED = STABLE + ", batch 128", STABLE + ", batch 128, decay"  # the stabilised GAN, otherwise
ALONE = ", no sines"  # end of a model's name where it sees the coordinates alone

POINTS, DRAWN = 50_000, 2500  # to train on and to count modes in (as Lin et al. 2018, section 4.1)
SIDE, SPREAD = torch.tensor([-4.0, -2.0, 0.0, 2.0, 4.0]) / 8**0.5, 0.05 / 8**0.5  # unit variance on an axis
GRID = GaussianMixture(torch.cartesian_prod(SIDE, SIDE), SPREAD)
LEVELS = 50  # steps of a sampler on the grid
BEST_RATE = 3e-3  # of the stabilised GAN
GRID_STEPS = 7000  # of the denoiser: about as many seconds as the turns of a GAN below
AVERAGED: Row = {"ema_decay": 0.998, "r1_every": 4}
PLANS: dict[str, Row] = {
    GAN: {"steps": 6000, "r1": 0.0, "ema_decay": 0.0},
    STABLE: {"steps": 5000, "r1": 0.3, "batch": 256, **AVERAGED},
    SPECTRAL: {"steps": 5000, "r1": 0.0, "batch": 256, **AVERAGED},
    HALF: {"steps": 6000, "r1": 0.3, **AVERAGED},
    DECAYED: {"steps": 6000, "r1": 0.3, "decay": "cosine", "warmup": 30, **AVERAGED},
}
TIMED = 1000  # points that are timed


DIGITS = {STABLE: 2e-3, DIFFUSION: 3e-3}  # learning rate of each on digits
ON_PICTURES: Row = {"beta1": 0.0, "beta2": 0.99, "r1": 1.0, "r1_every": 4}  # of a GAN
GENERATOR = GeneratorConfig(latent_dim=128, base_channels=16, channel_mults=(1, 2, 4))
DISCRIMINATOR = DiscriminatorConfig(base_channels=16, channel_mults=(1, 2, 4))
DENOISER = UNetConfig(base_channels=16, head_dim=16)
DIGIT_TURNS, DIGIT_STEPS = 1900, 820  # of a GAN, of a denoiser: about as many seconds
SAMPLING_STEPS = 25
SHOWN = 20  # pictures that a row keeps, as bytes in hexadecimal


# Training ------------------------------------------------------------------------------------------


class Heard(Task):
    """A task that keeps what its losses were, each player's apart."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.heard: dict[str, list[Tensor]] = {}

    def loss(self, forward: Forward, batch: Any) -> Tensor:
        value = super().loss(forward, batch)
        self.heard.setdefault(self.turn(batch), []).append(value.detach())
        return value

    def turn(self, batch: Any) -> str:
        """Whose loss a batch is for, as a column of the result."""
        return "loss"

    def last(self) -> Row:
        """The mean of each player's last tenth."""
        return {
            name: float(torch.stack(all[-(len(all) // 10 or 1) :]).mean()) for name, all in self.heard.items()
        }


class HeardGan(Heard, Adversarial):
    def turn(self, batch: Any) -> str:
        return "generator_loss" if batch.real is None else "discriminator_loss"


class HeardDenoising(Heard, Denoising):
    pass


class Learnt(NamedTuple):
    """A trained model, and what its training said."""

    network: Any  # the generator or the denoiser's network, on the device
    path: NoisePath | None  # of a denoiser
    row: Row

    def denoiser(self) -> NetworkDenoiser:
        assert self.path is not None
        return NetworkDenoiser(self.network, self.path, V)


def learn(task: HeardGan | HeardDenoising, device: torch.device) -> Learnt:
    """Train, with the seconds of the processor."""
    began = time.process_time()
    network: Any = fit(task, device)
    spent = time.process_time() - began
    row = {"steps": task.plan.steps, "training_seconds": round(spent, 2), **task.last()}
    if isinstance(task, HeardDenoising):
        return Learnt(network, task.path, row | {"parameters": _count(network)})
    counts = {"discriminator_parameters": _count(network.discriminator)}
    return Learnt(network.generator, None, row | {"parameters": _count(network.generator)} | counts)


def _count(network: Any) -> int:
    return sum(weight.numel() for weight in network.parameters())


# The grid ------------------------------------------------------------------------------------------


def grid_task(row: Row, data: Dataset, steps: int | None = None) -> HeardGan | HeardDenoising:
    """The model of a row on the grid, untrained; without `steps`, as many as take the same time."""
    name, octaves = row["model"].removesuffix(ALONE), 0 if row["model"].endswith(ALONE) else 4
    common: Row = {"lr": row["lr"], "seed": row["seed"], "batch": 128}
    with layers_seeded(row["seed"]):
        if name == DIFFUSION:
            shape = PointConfig(width=96, octaves=octaves, time=True, activation="silu")
            return HeardDenoising(exact(steps=steps or GRID_STEPS, **common), data, PointNetwork(shape))
        gan = Gan(PointNetwork(PointConfig()), PointNetwork(PointConfig(out_dim=1, octaves=octaves)))
        if name == SPECTRAL:
            spectral_norm_on(gan.discriminator)
    plan = common | PLANS[name] | ({} if steps is None else {"steps": steps})
    return HeardGan(gan, AdversarialPlan(**plan), data)


def spectral_norm_on(network: nn.Module) -> None:
    """Divide the weights of each linear layer by their largest singular value (Miyato et al. 2018, eq. 8)."""
    for layer in [each for each in network.modules() if isinstance(each, nn.Linear)]:
        spectral_norm(layer)


def exact(**changes: Any) -> Recipe:
    """A recipe without labels, in plain arithmetic."""
    plain: dict[str, Any] = {"precision": "float32", "compile": "off", "channels_last": False}
    return Recipe(class_dropout=0.0, weight_decay=0.0, **plain, **changes)


def levels(path: NoisePath, n: int = LEVELS, power: float = 2.0) -> list[Level]:
    """n + 1 levels at the times T·(1 − i/n)^power: a power above 1 has more of them near the data."""
    return [path(float(path.T) * (1 - i / n) ** power) for i in range(n + 1)]


def counted(x: Tensor) -> Row:
    found = count_modes(x, GRID.means, SPREAD)
    return {"covered": found.covered, "good": found.good, "kl": found.kl, "width": found.width}


def walked(denoiser: Denoiser, n: int, at: list[Level], device: torch.device) -> Tensor:
    noise = torch.randn(n, 2, generator=torch.Generator().manual_seed(0))
    return sample(denoiser, noise.to(device), at).cpu()


def on_grid(shared: "Shared", row: Row, steps: int | None = None) -> Row:
    """Train a model on the grid; what `count_modes` says of what it draws, and the time of 1,000 points."""
    if row["model"] == "real":
        return counted(GRID.sample(DRAWN, torch.Generator().manual_seed(row["seed"]))[0])
    if row["model"] == "exact denoiser":
        path = exact(steps=1).build_path()
        return drawn_twice(GRID, path, shared.device)
    learnt = learn(grid_task(row, shared.grid, steps), shared.device)
    if learnt.path is None:
        made = counted(draw(learnt.network, DRAWN).cpu())
        return {**learnt.row, **made, "draw_seconds": timed(lambda: draw(learnt.network, TIMED))}
    denoiser, at = learnt.denoiser(), levels(learnt.path)
    seconds = timed(lambda: walked(denoiser, TIMED, at, shared.device))
    return {**learnt.row, **drawn_twice(denoiser, learnt.path, shared.device), "draw_seconds": seconds}


def drawn_twice(denoiser: Denoiser, path: NoisePath, device: torch.device) -> Row:
    """The figures with levels that crowd near the data; with even times, the width alone."""
    even = counted(walked(denoiser, DRAWN, levels(path, power=1.0), device))
    return {**counted(walked(denoiser, DRAWN, levels(path), device)), "width_even_times": even["width"]}


def timed(make: Any) -> float:
    """Seconds of the processor for a call: the least of three, after one that is not timed."""
    make()
    spent = []
    for _ in range(3):
        began = time.process_time()
        make()
        spent.append(time.process_time() - began)
    return round(min(spent), 5)


# Digits --------------------------------------------------------------------------------------------


def digits_task(row: Row, data: Dataset, steps: int | None = None) -> HeardGan | HeardDenoising:
    """The model of a row on 16×16 digits, untrained; without `steps`, as many as take the same time."""
    common: Row = {"lr": row["lr"], "seed": row["seed"], "batch": 32}
    with layers_seeded(row["seed"]):
        if row["model"] == DIFFUSION:
            return HeardDenoising(exact(steps=steps or DIGIT_STEPS, **common), data, UNet(DENOISER))
        gan = Gan(Generator(GENERATOR), Discriminator(DISCRIMINATOR))
    plan = AdversarialPlan(steps=steps or DIGIT_TURNS, ema_decay=0.995, **common, **ON_PICTURES)
    return HeardGan(gan, plan, data)


def on_digits(shared: "Shared", row: Row, n: int, steps: int | None = None) -> Row:
    """Train a model on digits; distances to real ones, precision, recall, and how even the classes are."""
    if row["model"] == "real":
        return judged(real_ones(shared.digits.images, n, row["seed"]), shared.yardstick)
    learnt = learn(digits_task(row, shared.digits, steps), shared.device)
    return pictured(learnt, shared.digits.shape, n, shared.yardstick, shared.device)


def real_ones(images: Tensor, n: int, seed: int) -> Tensor:
    """n of the pictures of a data set, drawn at random."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    return to_float(images[order[:n]])


def pictured(
    learnt: Learnt, shape: tuple[int, ...], n: int, yardstick: Yardstick, device: torch.device
) -> Row:
    """What `judged` says of n pictures that a model draws, the seconds for 1,000, and the first of them."""
    began = time.process_time()
    if learnt.path is None:
        made = draw(learnt.network, n).cpu()
    else:
        denoiser, at = Clip(learnt.denoiser()), learnt.path.levels(SAMPLING_STEPS)
        noise = torch.randn(n, *shape, generator=torch.Generator().manual_seed(0))
        made = torch.cat([sample(denoiser, z.to(device), at).cpu() for z in noise.split(BATCH)])
    spent = time.process_time() - began
    made, seconds = made.clamp(-1, 1), round(spent * 1000 / n, 4)
    row = {**learnt.row, **judged(made, yardstick), "draw_seconds": seconds}
    return row | {"pictures": to_uint8(made[:SHOWN]).numpy().tobytes().hex()}


def judged(pictures: Tensor, yardstick: Yardstick) -> Row:
    """What `evaluate` says, and the KL of the recognised classes' shares from even ones, in nats."""
    found = figures(evaluate(pictures, None, yardstick))
    _, classes = features_and_classes(yardstick.classifier, to_uint8(pictures))
    shares = torch.bincount(classes, minlength=10).double() / len(classes)
    named = ("frechet", "precision", "recall")
    return {
        **{name: found[name]["value"] for name in named},
        **{f"{name}_error": found[name]["uncertainty"] for name in named},
        "kl": float(torch.special.xlogy(shares, 10 * shares).sum()),
        "least_share": float(shares.min()),
    }


# The experiment ------------------------------------------------------------------------------------


class Shared(NamedTuple):
    """What all rows use."""

    grid: Dataset
    digits: Dataset  # without labels
    yardstick: Yardstick
    device: torch.device


def prepare(options: Row) -> Shared:
    points = GRID.sample(POINTS, torch.Generator().manual_seed(options["seed"]))[0]
    images = load_dataset("digits", "train").images
    device = choose_device(options["device"])
    return Shared(Dataset("grid", points), Dataset("digits", images), zoo.yardstick("digits"), device)


def settings(options: Row) -> list[Row]:
    """What nothing can be expected to beat; then the grid, one seed of all models before the next; digits."""
    floors = (("grid", "real"), ("grid", "exact denoiser"), ("digits", "real"))
    rows = [(data, model, 0.0, 0) for data, model in floors]
    for seed in SEEDS:
        rows += [("grid", model, lr, seed) for lr in RATES for model in (GAN, STABLE, HALF, DIFFUSION)]
        rows += [("grid", model, BEST_RATE, seed) for model in (DECAYED, SPECTRAL)]
        rows += [("grid", model + ALONE, ONE_RATE, seed) for model in (GAN, HALF, DIFFUSION)]
    rows += [("digits", model, lr, seed) for seed in SEEDS for model, lr in DIGITS.items()]
    return [
        {"data": data, "model": model, "lr": lr, "seed": options["seed"] + seed}
        for data, model, lr, seed in rows
    ]


def measure(shared: Shared, row: Row, options: Row) -> Row:
    return on_grid(shared, row) if row["data"] == "grid" else on_digits(shared, row, options["n"])


COLUMNS = "data model lr seed covered good kl width frechet precision recall training_seconds draw_seconds"
EXPERIMENT = Experiment(__name__, __doc__, COLUMNS, settings, prepare, measure)
