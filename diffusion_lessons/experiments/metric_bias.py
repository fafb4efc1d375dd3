"""Fréchet and kernel distance over the number of samples, and what is left at infinitely many (lesson 20).

Each row takes n pictures at random out of a pool, measures them, and does so `DRAWS` times; it holds the mean
over the draws and their standard deviation. The pools:

- "real": the training split of MNIST, against as many other pictures of it: the truth is 0;
- "real, reference": the same, against the features of the whole test split;
- the bundled students of one and of four steps, `POOL` drawings each, against the test split.

"at infinity" is the intercept of a line over 1/n through distances of parts of the n samples
(`frechet_at_infinity`): what one can know who has these n. All rows take about five minutes on a core.
"""

from typing import Any

import torch
from torch import Tensor

from diffusion_lessons import zoo
from diffusion_lessons.data import load_dataset, to_uint8
from diffusion_lessons.experiments import Experiment, Row
from diffusion_lessons.experiments.pictures import STUDENTS, labels_of
from diffusion_lessons.generate import generate
from diffusion_lessons.metrics import (
    Reference,
    Statistics,
    Yardstick,
    features_and_classes,
    frechet_at_infinity,
    frechet_between,
    kernel_distance,
)

SIZES = (100, 200, 400, 800, 1600, 3200)
DRAWS, POOL = 20, 6400
DATA = "mnist"
MODELS = {f"{steps}-step student": f"mnist-unet-{STUDENTS[steps]}" for steps in (1, 4)}
PAIRS = ("real", "real, reference", *MODELS)


def settings(options: Row) -> list[Row]:
    return [{"pool": pool, "n": n} for pool in PAIRS for n in SIZES]


class Pools:
    """Features of each pool, drawn when they are asked for the first time."""

    def __init__(self, options: Row) -> None:
        self.options, self.known = options, dict[str, Tensor]()
        self.yardstick: Yardstick = zoo.yardstick(DATA)
        self.reference: Reference = self.yardstick.references["test"]

    def __getitem__(self, pool: str) -> Tensor:
        name = MODELS.get(pool, "real")
        if name not in self.known:
            pictures = load_dataset(DATA, "train").images if name == "real" else self._drawn(name)
            self.known[name] = features_and_classes(self.yardstick.classifier, pictures)[0].double()
        return self.known[name]

    def _drawn(self, name: str) -> Tensor:
        model, own = zoo.load(name), {key: self.options[key] for key in ("seed", "device")}
        made = generate(model, labels_of(model, POOL), precision="float32", **own)
        return to_uint8(made.clamp(-1, 1))


def measure(pools: Pools, row: Row, options: Row, draws: int = DRAWS) -> Row:
    """Mean and standard deviation over the draws of both distances, and of what is left at infinity."""
    features, n = pools[row["pool"]], row["n"]
    generator = torch.Generator().manual_seed(options["seed"])
    found: dict[str, list[float]] = {"frechet": [], "kernel": [], "at_infinity": []}
    for _ in range(draws):
        order = torch.randperm(len(features), generator=generator)
        some, statistics, sample = features[order[:n]], pools.reference.statistics, pools.reference.sample
        if row["pool"] == "real":
            sample = features[order[n : 2 * n]]
            statistics = Statistics.of(sample)
        found["frechet"].append(frechet_between(Statistics.of(some), statistics))
        found["kernel"].append(kernel_distance(some, sample))
        if row["pool"] != "real" and n >= 400:
            found["at_infinity"].append(frechet_at_infinity(some, statistics, generator=generator))
    told: Row = {"draws": draws, "of": len(features)}
    for name, values in found.items():
        if values:
            drawn = torch.tensor(values, dtype=torch.float64)
            told |= {name: float(drawn.mean()), f"{name}_sd": float(drawn.std())}
    return told


def prepare(options: Row) -> Any:
    return Pools(options)


COLUMNS = "pool n frechet frechet_sd kernel kernel_sd at_infinity at_infinity_sd seconds"
EXPERIMENT = Experiment(__name__, __doc__, COLUMNS, settings, prepare, measure)
