"""What each part of the U-Net is worth: it is taken out, and the network trained again (lesson 06).

Every variant gets the same pictures, noise and number of steps, three times from other starts. What is
taken out is taken out around the shipped network: it has no switches for that.
"""

from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from diffusion_lessons.data import Dataset, load_dataset, to_float, to_uint8
from diffusion_lessons.denoiser import Condition, NetworkDenoiser
from diffusion_lessons.experiments import Experiment, Row
from diffusion_lessons.guidance import Clip
from diffusion_lessons.losses import diffusion_loss
from diffusion_lessons.metrics import evaluate
from diffusion_lessons.networks import UNet, UNetConfig
from diffusion_lessons.paths import Path
from diffusion_lessons.samplers import sample
from diffusion_lessons.support.machine import choose_device, keep_freed_memory
from diffusion_lessons.targets import V
from diffusion_lessons.training.batches import Batches
from diffusion_lessons.training.ema import EMA
from diffusion_lessons.training.recipe import Recipe

VARIANTS = ("full", "no skips", "no time", "no attention", "no skips, wider")
SEEDS = (0, 1, 2)
STEPS = 1000
SAMPLING_STEPS = 25
TIMES = (10, 25, 50, 100, 200, 300, 400, 500, 600, 700, 800, 900, 975)  # where the loss is measured
SHOWN = 10  # pictures kept of the first seed, one a class
BASE, WIDER = (16, 8), (18, 6)  # width of the first level, groups of the norms
RECIPE = Recipe("digits", steps=STEPS, lr=3e-3, class_dropout=0.0, channels_last=False)


# The variants --------------------------------------------------------------------------------------


class TimeBlind(nn.Module):
    """A network that is told the same time at every level."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, time: Tensor, condition: Condition = None) -> Tensor:
        return self.network(x, torch.zeros_like(time), condition)


def without_skips(network: nn.Module) -> nn.Module:
    """The U-Net with its skips cut: the blocks on the way up are made anew, for their own channels alone.

    Args:
        network: a `UNet`, or one with the same names; changed in place, and returned.
    """
    layers: Any = network
    own = layers.middle_2.conv_2.out_channels
    for stage in layers.up:
        if isinstance(stage, nn.ModuleList):
            block: Any = stage[0]
            width, told = block.conv_2.out_channels, block.to_scale_shift.in_features
            stage[0] = type(block)(own, width, told, block.norm_1.num_groups)
            stage[0].register_forward_pre_hook(partial(_own_channels, own))
            own = width
    return network


def _own_channels(own: int, block: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """What a block is given, less the skip that stands behind its own channels."""
    return inputs[0][:, :own], *inputs[1:]


def build(variant: str, seed: int = 0, unet: type[nn.Module] = UNet) -> nn.Module:
    """The network of a variant for 16×16 digits, its random start drawn from the seed.

    Args:
        variant: one of `VARIANTS`.
        unet: what makes a network from a `UNetConfig`: ours, or a student's own.
    """
    levels = () if variant == "no attention" else (2,)
    base, groups = WIDER if variant == "no skips, wider" else BASE
    config = UNetConfig(
        base_channels=base, head_dim=base, attention_levels=levels, num_classes=10, groups=groups
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = unet(config)
        if variant.startswith("no skips"):
            without_skips(network)
    return TimeBlind(network) if variant == "no time" else network


# The measurement -----------------------------------------------------------------------------------


def fit(network: nn.Module, dataset: Dataset, path: Path, steps: int = STEPS, seed: int = 0) -> nn.Module:
    """Train a network on the target v; returns it with its averaged weights, in evaluation mode.

    Args:
        network: changed in place; where it is, the work is done.
        seed: of the order of the pictures, the times and the noise.
    """
    device = next(network.parameters()).device
    batches = Batches(dataset, path, RECIPE.batch, RECIPE.class_dropout, seed, device, RECIPE.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=RECIPE.weight_decay)
    ema = EMA(network, RECIPE.ema_decay)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = RECIPE.learning_rate(step, step / steps)
        loss = diffusion_loss(network, path, V, *batches(step)).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), RECIPE.grad_clip)
        optimizer.step()
        ema.update(network)
    ema.copy_to(network)
    return network.eval()


@torch.no_grad()
def losses(
    network: nn.Module, dataset: Dataset, path: Path, times: tuple[int, ...] = TIMES, most: int | None = None
) -> Tensor:
    """The loss on each picture at each time, with the same noise for every network: (len(times), N).

    Args:
        most: of the first so many pictures; None is all of them.
    """
    device = next(network.parameters()).device
    images, labels = to_float(dataset.images[:most]).to(device), dataset.labels[:most].to(device)
    rows = []
    for t in times:
        noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(t)).to(device)
        at = torch.full((len(images),), float(t), dtype=torch.float64)
        rows.append(diffusion_loss(network, path, V, images, noise, at, labels).cpu())
    return torch.stack(rows)


def draw(network: nn.Module, path: Path, labels: Tensor, seed: int = 0) -> Tensor:
    """A 16×16 digit for each label (N,), without guidance: (N, 1, 16, 16) in [−1, 1], on the CPU."""
    device = next(network.parameters()).device
    noise = torch.randn(len(labels), 1, 16, 16, generator=torch.Generator().manual_seed(seed)).to(device)
    denoiser, levels = Clip(NetworkDenoiser(network, path, V)), path.levels(SAMPLING_STEPS)
    return sample(denoiser, noise, levels, labels.to(device)).clamp(-1, 1).cpu()


# The experiment ------------------------------------------------------------------------------------


class Shared(NamedTuple):
    """What all rows use."""

    train: Dataset
    test: Dataset
    path: Path
    device: torch.device


def settings(options: Row) -> list[Row]:
    return [{"seed": options["seed"] + seed, "variant": variant} for seed in SEEDS for variant in VARIANTS]


def prepare(options: Row) -> Shared:
    keep_freed_memory()
    train, test = load_dataset("digits", "train"), load_dataset("digits", "test")
    return Shared(train, test, RECIPE.build_path(), choose_device(options["device"]))


def measure(shared: Shared, row: Row, options: Row, steps: int = STEPS) -> Row:
    """Train one network; its loss on held-out digits by noise level, and the digits that it draws."""
    network = build(row["variant"], row["seed"]).to(shared.device)
    parameters = sum(p.numel() for p in network.parameters())
    fit(network, shared.train, shared.path, steps, row["seed"])
    loss = losses(network, shared.test, shared.path)
    labels = torch.arange(options["n"]) % len(shared.test.classes)
    pictures = draw(network, shared.path, labels, row["seed"])
    result = evaluate(pictures, labels, "digits")
    figures = {
        "steps": steps,
        "parameters": parameters,
        "loss": float(loss.mean()),
        "t": list(TIMES),
        "losses": [round(float(each), 5) for each in loss.mean(1)],
        "frechet": result["frechet"]["value"],
        "uncertainty": result["frechet"]["uncertainty"],
        "accuracy": result["accuracy"]["value"],
    }
    if row["seed"] == options["seed"]:
        figures["pictures"] = to_uint8(pictures[:SHOWN]).numpy().tobytes().hex()  # (10, 1, 16, 16)
    return figures


EXPERIMENT = Experiment(
    "unet-ablation",
    "A U-Net without its skips, its time embedding or its attention, at the same budget (lesson 06)",
    ("variant", "seed", "parameters", "loss", "frechet", "uncertainty", "accuracy", "seconds"),
    settings,
    prepare,
    measure,
)
