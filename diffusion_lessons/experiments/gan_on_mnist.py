"""A GAN against diffusion on MNIST, with equal parameters and equal training time (lesson 13).

As the digits of `gan_vs_diffusion`, on 60,000 pictures of 32×32 pixels (28×28 in a black frame): the
generator has about as many parameters as the denoiser, which works on patches of 2×2 pixels, and the
discriminator comes on top. The GAN has R1 and averaged weights. Each model has the learning rate that it has
on digits; nothing was tuned on MNIST. Three seeds. Seconds are of the processor, summed over threads.
"""

from typing import NamedTuple

import torch

from diffusion_lessons import zoo
from diffusion_lessons.data import Dataset, load_dataset
from diffusion_lessons.experiments import Experiment, Row
from diffusion_lessons.experiments.gan_vs_diffusion import (
    DIFFUSION,
    DIGITS,
    ON_PICTURES,
    SEEDS,
    STABLE,
    HeardDenoising,
    HeardGan,
    exact,
    judged,
    learn,
    pictured,
    real_ones,
)
from diffusion_lessons.metrics import Yardstick
from diffusion_lessons.networks import (
    Discriminator,
    DiscriminatorConfig,
    Generator,
    GeneratorConfig,
    Patched,
    UNet,
    UNetConfig,
)
from diffusion_lessons.networks.gan import Gan
from diffusion_lessons.support.machine import choose_device
from diffusion_lessons.support.seeds import layers_seeded
from diffusion_lessons.training.adversarial import AdversarialPlan

STEPS = {STABLE: 4600, DIFFUSION: 4000}  # turns of a GAN, steps of a denoiser: about as many seconds
GENERATOR = GeneratorConfig(32, latent_dim=128, base_channels=16, channel_mults=(1, 1, 2, 4))
DISCRIMINATOR = DiscriminatorConfig(32, base_channels=16, channel_mults=(1, 1, 2, 4))
DENOISER = UNetConfig(in_channels=4, out_channels=4, base_channels=16, head_dim=16)  # of patches of 2×2


class Shared(NamedTuple):
    """What all rows use."""

    mnist: Dataset  # without labels
    yardstick: Yardstick
    device: torch.device


def prepare(options: Row) -> Shared:
    """MNIST, which is fetched where it is not yet on this machine."""
    images = load_dataset("mnist", "train").images
    return Shared(Dataset("mnist", images), zoo.yardstick("mnist"), choose_device(options["device"]))


def settings(options: Row) -> list[Row]:
    """Real pictures; then both models, one seed after the other."""
    rows = [("real", 0.0, 0), *((model, lr, seed) for seed in SEEDS for model, lr in DIGITS.items())]
    return [{"model": model, "lr": lr, "seed": options["seed"] + seed} for model, lr, seed in rows]


def task_of(row: Row, data: Dataset, steps: int | None = None) -> HeardGan | HeardDenoising:
    """The model of a row, untrained; without `steps`, as many as take the same time."""
    common: Row = {"lr": row["lr"], "seed": row["seed"], "batch": 32, "steps": steps or STEPS[row["model"]]}
    with layers_seeded(row["seed"]):
        if row["model"] == DIFFUSION:
            return HeardDenoising(exact(**common), data, Patched(UNet(DENOISER), 2))
        gan = Gan(Generator(GENERATOR), Discriminator(DISCRIMINATOR))
    return HeardGan(gan, AdversarialPlan(ema_decay=0.998, **common, **ON_PICTURES), data)


def measure(shared: Shared, row: Row, options: Row, steps: int | None = None) -> Row:
    """Train a model on MNIST; distances to real digits, precision, recall, and how even the classes are."""
    if row["model"] == "real":
        return judged(real_ones(shared.mnist.images, options["n"], row["seed"]), shared.yardstick)
    learnt = learn(task_of(row, shared.mnist, steps), shared.device)
    found = pictured(learnt, shared.mnist.shape, options["n"], shared.yardstick, shared.device)
    if row["seed"] != options["seed"]:
        del found["pictures"]  # the record keeps those of its first seed
    return found


COLUMNS = "model lr seed frechet precision recall kl training_seconds draw_seconds"
EXPERIMENT = Experiment(__name__, __doc__, COLUMNS, settings, prepare, measure)
