"""How often the reader of scenes is right, refuses and is wrong: clean, noisy, blurred and JPEG pictures.

It is the yardstick of the text-to-image models (lessons 11 to 16), so it is measured against the renderer
before anything is measured with it. Half of the scenes are of the split "test", half of "held-out", in all
forms. In each size a picture is read clean; with noise of 0.1 in [−1, 1]; blurred by 1 of 64 pixels; blurred
and then noisy; and saved as a JPEG of quality 75. "right" is every object with its colour, shape and size,
their number and the relation; "refused" is "I can't tell"; the rest is "wrong". Each is a share with its 95 %
interval (Wilson) over scenes. All rows of 2,000 scenes take a few minutes on one CPU core.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from diffusion_lessons.data.captions import wishes
from diffusion_lessons.data.scenes import SIDE, Scenes, draw
from diffusion_lessons.experiments import Experiment, Row
from diffusion_lessons.experiments.damages import jpeg, noisy
from diffusion_lessons.metrics.captions_met import met
from diffusion_lessons.metrics.intervals import wilson_interval
from diffusion_lessons.metrics.reader import read_scenes

SIZES = (32, 64, 128)
SPLITS = ("test", "held-out")
NOISE, BLUR, QUALITY = 0.1, 1.0, 75


def blurred(pictures: Tensor) -> Tensor:
    """Bytes, blurred by BLUR pixels of a picture of 64."""
    sigma = BLUR * pictures.shape[-1] / SIDE
    smooth = ndimage.gaussian_filter(pictures.numpy().astype(np.float32), (0, 0, sigma, sigma))
    return torch.from_numpy(smooth).round().byte()


DAMAGES: dict[str, Callable[[Tensor], Tensor]] = {
    "clean": lambda pictures: pictures,
    "noise": partial(noisy, spread=NOISE, seed=0),
    "blur": blurred,
    "blur and noise": lambda pictures: noisy(blurred(pictures), NOISE, 0),
    "jpeg": partial(jpeg, quality=QUALITY),
}


def tally(pictures: Tensor, scenes: Scenes) -> dict[str, int]:
    """How many pictures, bytes (B, 3, S, S), of these scenes are read right, refused, and read wrong."""
    seen = read_scenes(pictures)
    right = sum(met(wish, each).everything for wish, each in zip(wishes(scenes), seen, strict=True))
    refused = sum(each is None for each in seen)
    return {"right": right, "refused": refused, "wrong": len(seen) - right - refused}


def settings(options: Row) -> list[Row]:
    return [{"size": size, "damage": damage} for size in SIZES for damage in DAMAGES]


def prepare(options: Row) -> list[Scenes]:
    half = options["n"] // 2
    if half < 1:
        raise ValueError(f"half of the scenes are of each of two splits: take at least 2, got {options['n']}")
    return [draw(options["seed"], torch.arange(half), split) for split in SPLITS]


def measure(shared: list[Scenes], row: Row, options: Row) -> Row:
    counts = [tally(DAMAGES[row["damage"]](each.render(row["size"])), each) for each in shared]
    total = {name: sum(each[name] for each in counts) for name in counts[0]}
    n = sum(total.values())
    shares = {name: [count / n, *wilson_interval(count, n)] for name, count in total.items()}
    return {"n": n} | {name: [round(each, 4) for each in share] for name, share in shares.items()}


COLUMNS = "size damage n right refused wrong"
EXPERIMENT = Experiment(__name__, __doc__, COLUMNS, settings, prepare, measure)
