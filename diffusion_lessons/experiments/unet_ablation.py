"""What each part of the U-Net is worth: it is taken out, and the network trained again (lesson 06).

Every variant gets the same pictures, noise and number of steps, three times from other starts. What is
taken out is taken out around the shipped network: it has no switches for that. Beside them stands a
transformer of about as many parameters and FLOPs, under the same training.
"""

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from diffusion_lessons.data import Dataset
from diffusion_lessons.denoiser import NetworkDenoiser
from diffusion_lessons.experiments import Experiment, Row, pictures
from diffusion_lessons.experiments.pictures import Digits
from diffusion_lessons.losses import diffusion_loss
from diffusion_lessons.networks import DiT, DiTConfig, UNet, UNetConfig
from diffusion_lessons.paths import NoisePath
from diffusion_lessons.support.seeds import layers_seeded
from diffusion_lessons.targets import V
from diffusion_lessons.training import loop
from diffusion_lessons.training.tasks import Denoising, Task

CUT = ("full", "no skips", "no time", "no attention", "no skips, wider")
TRANSFORMER = "transformer"
VARIANTS = (*CUT, TRANSFORMER)
SEEDS = (0, 1, 2)
SAMPLING_STEPS = 25
TIMES = (10, 25, 50, 100, 200, 300, 400, 500, 600, 700, 800, 900, 975)  # where the loss is measured
BASE, WIDER = (16, 8), (18, 6)  # width of the first level, groups of the norms
SHAPE = DiTConfig(patch=2, width=64, depth=4, head_dim=16, num_classes=10)  # 64 tokens
RECIPE = replace(pictures.RECIPE, lr=3e-3)
TRANSFORMER_LR = 6e-3  # the better for it of 1.5e-3, 3e-3 and 6e-3, after as many steps
STEPS = 1000
prepare = partial(pictures.digits, RECIPE)


# The variants --------------------------------------------------------------------------------------


def without_skips(network: nn.Module) -> nn.Module:
    """The U-Net with its skips cut: the blocks on the way up are made anew, for their own channels alone.

    The network, a `UNet` or one with the same names, is changed in place, and returned.
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


def _own_channels(own: int, block: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """What a block is given, less the skip that stands behind its own channels."""
    return inputs[0][:, :own], *inputs[1:]


def _same_time(network: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """What a network is given, with the same time at every level."""
    return inputs[0], torch.zeros_like(inputs[1]), *inputs[2:]


def build(variant: str, seed: int = 0, unet: type[nn.Module] = UNet) -> nn.Module:
    """The network of one of the `VARIANTS` for 16×16 digits, its random start drawn from the seed.

    `unet` is what makes a network from a `UNetConfig`: ours, or a student's own.
    """
    if variant == TRANSFORMER:
        with layers_seeded(seed):
            return DiT(SHAPE)
    base, groups = WIDER if variant == "no skips, wider" else BASE
    size: Any = {"base_channels": base, "head_dim": base, "groups": groups, "num_classes": 10}
    config = UNetConfig(attention_levels=() if variant == "no attention" else (2,), **size)
    with layers_seeded(seed):
        network = unet(config)
        if variant.startswith("no skips"):
            without_skips(network)
    if variant == "no time":
        network.register_forward_pre_hook(_same_time)
    return network


# The measurement -----------------------------------------------------------------------------------


class Nameless(Denoising):
    """Denoising for a network that no checkpoint could describe: cut ones, or a class of one's own."""

    write = Task.write


def fit(
    network: nn.Module,
    dataset: Dataset,
    path: NoisePath,
    steps: int = STEPS,
    seed: int = 0,
    lr: float = RECIPE.lr,
) -> nn.Module:
    """Train a network on the target v; gives it, changed in place, with averaged weights, to evaluate.

    The work is done where the network is. The seed is of the order of the pictures, the times and the noise.
    """
    task = Nameless(replace(RECIPE, steps=steps, seed=seed, lr=lr), dataset, network)
    task.path = path
    averaged = loop.fit(task, next(network.parameters()).device)
    network.load_state_dict(averaged.state_dict())
    return network.eval()


@torch.no_grad()
def losses(
    network: nn.Module,
    dataset: Dataset,
    path: NoisePath,
    times: tuple[int, ...] = TIMES,
    most: int | None = None,
) -> Tensor:
    """The loss at each time on each of the first `most` pictures, None for all: (len(times), N).

    The noise is the same for every network.
    """
    device = next(network.parameters()).device
    x0, labels = (part.to(device) for part in dataset.batch(torch.arange(len(dataset))[:most]))
    rows = []
    for t in times:
        noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(t)).to(device)
        at = torch.full((len(x0),), float(t), dtype=torch.float64)
        rows.append(diffusion_loss(network, path, V, x0, noise, at, labels).cpu())
    return torch.stack(rows)


def settings(options: Row) -> list[Row]:
    rows = [(seed, variant) for seed in SEEDS for variant in CUT] + [(seed, TRANSFORMER) for seed in SEEDS]
    return [{"seed": options["seed"] + seed, "variant": variant} for seed, variant in rows]


def measure(shared: Digits, row: Row, options: Row, steps: int = STEPS) -> Row:
    """Train one network; its loss on held-out digits by noise level, and the digits that it draws."""
    network = build(row["variant"], row["seed"]).to(shared.device)
    lr = TRANSFORMER_LR if row["variant"] == TRANSFORMER else RECIPE.lr
    fit(network, shared.train, shared.path, steps, row["seed"], lr)
    loss, denoiser = losses(network, shared.test, shared.path), NetworkDenoiser(network, shared.path, V)
    levels, keep = shared.path.levels(SAMPLING_STEPS), row["seed"] == options["seed"]
    return {
        "steps": steps,
        "parameters": sum(p.numel() for p in network.parameters()),
        "loss": float(loss.mean()),
        "t": list(TIMES),
        "losses": [round(float(each), 5) for each in loss.mean(1)],
        **shared.measure(denoiser, levels, options["n"], row["seed"], keep),
    }


COLUMNS = "variant seed parameters loss frechet uncertainty accuracy seconds"
EXPERIMENT = Experiment(__name__, __doc__, COLUMNS, settings, prepare, measure)
