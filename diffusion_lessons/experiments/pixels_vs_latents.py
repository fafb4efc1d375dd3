"""Diffusion in patches of pixels and in latents at equal training time, three seeds each (lesson 11).

The same scenes of 64×64 pixels, the same kind of network and of training; what differs is the tensor that is
noised. Patches of 4×4 pixels have the grid of the latents, 16×16, and so the same cost: what is left between
the two is what the autoencoder itself is worth. Its own training, once for all, is not in these seconds.

After each of `MARKS` seconds of training a row says how good the pictures of the averaged weights are: the
share in which the reader tells what they show, and the Fréchet distance of their vectors in `scenes-clip`.
Two rows are trained on nothing: real scenes, and real scenes encoded and decoded, as floor and ceiling. All
spaces share a learning rate; for the first seed, others are tried as well, up to the first mark.
"""

import tempfile
import zlib
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from diffusion_lessons import zoo
from diffusion_lessons.data.captioned import scene_rows, scene_tokenizer
from diffusion_lessons.data.dataset import Dataset, as_float, to_uint8
from diffusion_lessons.data.scenes import draw
from diffusion_lessons.denoiser import NetworkDenoiser
from diffusion_lessons.experiments import Experiment, Row
from diffusion_lessons.metrics import Statistics, frechet_between, frechet_error, wilson_interval
from diffusion_lessons.metrics.reader import read_scenes
from diffusion_lessons.networks import Vae
from diffusion_lessons.samplers import sample
from diffusion_lessons.support.machine import choose_device
from diffusion_lessons.training.loop import train
from diffusion_lessons.training.recipe import Recipe
from diffusion_lessons.training.tasks import Denoising
from diffusion_lessons.training.text_to_image import latents_of

SIZE = 64  # side of the pictures
ROWS, REAL = 2**13, 2000  # pictures that are learnt from, and that are held against
SEEDS, MARKS = 3, (50.0, 100.0, 200.0)  # seconds of training
LR, TRIED = 2e-3, (1e-3, 4e-3)  # learning rates: of the comparison, and those tried besides
SAMPLING_STEPS, BATCH, SHOWN = 25, 64, 4  # of the sampler; pictures drawn at a time, and kept by a row
SMALL: Row = {"base_channels": 24, "head_dim": 24, "precision": "float32", "compile": "off"}
RECIPE = Recipe(
    "scenes", size=SIZE, minutes=MARKS[-1] / 60, batch=32, decay="none", class_dropout=0.0, **SMALL
)


@dataclass(frozen=True)
class Space:
    """What is noised, and the network's shape: all attend where their grid is 8×8."""

    patch: int  # side of the squares of pixels that become channels; 1 for latents
    levels: tuple[int, ...]  # widths of the network's levels
    target: str = "v"


SPACES = {
    "latents": Space(1, (1, 2)),
    "patches of 4": Space(4, (1, 2)),
    "patches of 4, x0": Space(4, (1, 2), "x0"),
    "patches of 2": Space(2, (1, 2, 2)),  # how this package diffuses pixels, from 32 a side on
}
UNTRAINED = ("real", "real, decoded")  # what a perfect model would draw, in pixels and in latents


class Shared(NamedTuple):
    """What all rows use."""

    vae: Vae
    pictures: Dataset
    latents: Dataset
    real: Statistics  # of the vectors of held-out scenes
    towers: nn.Module
    device: torch.device


def prepare(options: Row, rows: int = ROWS, real: int = REAL) -> Shared:
    """The scenes, their latents, and the statistics of others."""
    device = choose_device(options["device"])
    vae, (towers, _) = zoo.load("scenes-vae"), zoo.load("scenes-clip")
    kept = scene_rows(scene_tokenizer(), SIZE, seed=options["seed"]).kept(rows)
    pictures = Dataset(kept.name, kept.images)  # without captions: nothing is told
    latents = latents_of(vae, pictures, options["seed"], device)
    held_out = as_float(draw(0, torch.arange(real), "test").render(SIZE))
    statistics = Statistics.of(vectors(towers.to(device), held_out))
    return Shared(vae.to(device), pictures, latents, statistics, towers, device)


@torch.no_grad()
def vectors(towers: nn.Module, pictures: Tensor) -> Tensor:
    """(N, 64) of pictures (N, 3, 64, 64) in [-1, 1], on the CPU."""
    device = next(towers.parameters()).device
    vision: Any = towers.vision
    return torch.cat([vision(part.to(device)).cpu() for part in pictures.split(BATCH)]).double()


def settings(options: Row) -> list[Row]:
    seed = options["seed"]
    compared = [{"seed": seed + i, "space": name, "lr": LR} for i in range(SEEDS) for name in SPACES]
    tried = [{"seed": seed, "space": name, "lr": lr} for lr in TRIED for name in SPACES]
    return [*({"seed": seed, "space": name} for name in UNTRAINED), *compared, *tried]


class Racing(Denoising):
    """What a row trains, measured after so many seconds of training."""

    def __init__(self, shared: Shared, row: Row, options: Row, marks: tuple[float, ...]) -> None:
        space, self.shared, self.row, self.options = SPACES[row["space"]], shared, row, options
        shape: Row = {"channel_mults": space.levels, "attention_levels": (len(space.levels) - 1,)}
        told: Row = {"seed": row["seed"], "lr": row["lr"], "patch": space.patch, "target": space.target}
        recipe = replace(RECIPE, minutes=marks[-1] / 60, **told, **shape)
        super().__init__(recipe, shared.latents if row["space"] == "latents" else shared.pictures)
        self.marks = [mark / 60 for mark in marks]

    @torch.no_grad()
    def measured(self, network: nn.Module) -> Row:
        """How good n pictures are; the seed of a row decides their noise."""
        shared, generator = self.shared, torch.Generator().manual_seed(self.row["seed"])
        denoiser = NetworkDenoiser(network, self.path, self.target)
        noise = torch.randn(self.options["n"], *self.dataset.shape, generator=generator)
        drawn = []
        for part in noise.split(BATCH):
            x = sample(denoiser, part.to(shared.device), self.path.levels(SAMPLING_STEPS)).float()
            drawn.append((shared.vae.decode(x) if self.row["space"] == "latents" else x).clamp(-1, 1).cpu())
        return judged(shared, torch.cat(drawn))


def measure(shared: Shared, row: Row, options: Row, marks: tuple[float, ...] = MARKS) -> Row:
    """Train for the seconds of the last mark; the pictures at each of them, and the cost of a step."""
    if row["space"] in UNTRAINED:
        return floor(shared, row, options)
    marks = marks if row["lr"] == LR else marks[:1]
    task = Racing(shared, row, options, marks)
    with tempfile.TemporaryDirectory() as folder:
        trained = train(task, folder, device=shared.device, progress=False)
    found = trained["measured"]
    columns = {name: [each[name] for each in found] for name in found[0] if name not in ("mark", "pictures")}
    shown = row["seed"] == options["seed"] and row["lr"] == LR
    kept = {"pictures": found[-1]["pictures"]} if shown else {}
    last = {name: values[-1] for name, values in columns.items() if name in ("readable", "frechet")}
    return {
        "parameters": trained["parameters"],
        "seconds_a_step": trained["seconds"] / trained["steps"],
        "marks": list(marks),
        "at_marks": columns,
        **last,
        **kept,
    }


@torch.no_grad()
def floor(shared: Shared, row: Row, options: Row) -> Row:
    """What n real scenes reach that neither a training nor the statistics have seen."""
    index = shared.real.n + torch.arange(options["n"])
    pictures = as_float(draw(0, index, "test").render(SIZE))
    if row["space"] != "real":
        latents = [shared.vae.encode(part.to(shared.device)) for part in pictures.split(BATCH)]
        pictures = torch.cat([shared.vae.decode(part).clamp(-1, 1).cpu() for part in latents])
    return judged(shared, pictures)


def judged(shared: Shared, pictures: Tensor) -> Row:
    """How many of some pictures (n, 3, 64, 64) in [-1, 1] can be read, how far they are from real ones."""
    seen = read_scenes(to_uint8(pictures))
    right = sum(each is not None and 1 <= len(each) <= 3 for each in seen)
    features = vectors(shared.towers, pictures)
    return {
        "readable": right / len(seen),
        "interval": list(wilson_interval(right, len(seen))),
        "frechet": frechet_between(Statistics.of(features), shared.real),
        "uncertainty": frechet_error(features, shared.real),
        "pictures": zlib.compress(to_uint8(pictures[:SHOWN]).numpy().tobytes(), 9).hex(),
    }


COLUMNS = "space lr seed parameters seconds_a_step readable frechet seconds"
EXPERIMENT = Experiment(__name__, __doc__, COLUMNS, settings, prepare, measure)
