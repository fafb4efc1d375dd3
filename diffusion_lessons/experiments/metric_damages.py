"""What each metric says of real digits that were damaged in a known way, and of cheats (lesson 20).

The pictures come from three parts of MNIST's training split: one is damaged, one plays the training set of a
model, one what was held out. All are measured against the test split. A row is one damage at one strength for
one draw of n pictures:

- "none"; "blur" (a Gaussian, its σ in pixels); "noise" (its standard deviation, of a range from −1 to 1);
  "shifted" (pixels to the right); "jpeg" (saved with that quality); "halved" (half the side and back, with
  antialiasing, or "halved, nearest" without);
- "classes dropped" (the last classes are replaced by the others); "wrong labels" (that share of them);
- "copies": pictures of the training set, unchanged; "one a class": the most certain picture of each class,
  again and again; "few": that many pictures, again and again; "means": the mean picture of each class.

A row holds every figure of `evaluate` with its standard error over the draw of the samples, and the share of
pictures that are nearer to a training picture than to one held out, in pixels. All take 15 minutes on a core.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusion_lessons import zoo
from diffusion_lessons.data import load_dataset, to_float
from diffusion_lessons.experiments import Experiment, Row, pictures
from diffusion_lessons.experiments.damages import jpeg, noisy
from diffusion_lessons.metrics import Yardstick, nearer_to_training

DATA, CLASSES, SEEDS, PART = "mnist", 10, 2, 10_000
DAMAGES: dict[str, tuple[float, ...]] = {
    "none": (0,),
    "blur": (0.5, 1, 1.5, 2),
    "noise": (0.1, 0.2, 0.4),
    "shifted": (1, 2),
    "jpeg": (90, 50, 10),
    "halved": (1,),
    "halved, nearest": (1,),
    "classes dropped": (1, 3),
    "wrong labels": (0.1, 0.5),
    "copies": (1,),
    "few": (200, 50),
    "one a class": (1,),
    "means": (1,),
}


class Parts(NamedTuple):
    """Real pictures, bytes, and their labels."""

    fresh: tuple[Tensor, Tensor]  # to be damaged
    training: tuple[Tensor, Tensor]
    held_out: tuple[Tensor, Tensor]
    yardstick: Yardstick


class Made(NamedTuple):
    """What a damage makes: pictures (N, 1, H, W), bytes, and the labels that are claimed."""

    images: Tensor
    labels: Tensor


def settings(options: Row) -> list[Row]:
    cells = [(name, each) for name, strengths in DAMAGES.items() for each in strengths]
    return [
        {"damage": name, "strength": each, "seed": options["seed"] + i}
        for i in range(SEEDS)
        for name, each in cells
    ]


def prepare(options: Row) -> Parts:
    """Three parts that share no picture."""
    whole = load_dataset(DATA, "train")
    if whole.labels is None or len(whole) < 3 * PART:
        raise ValueError(f"this needs {3 * PART} pictures with labels, got {len(whole)}")
    order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(0)).split(PART)[:3]
    fresh, training, held_out = ((whole.images[some], whole.labels[some]) for some in order)
    return Parts(fresh, training, held_out, zoo.yardstick(DATA))


def chosen(part: tuple[Tensor, Tensor], n: int, seed: int) -> Made:
    """n pictures of a part, going round the classes, drawn without replacement."""
    images, labels = part
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    members = [order[labels[order] == k] for k in range(CLASSES)]
    rows = torch.stack([members[i % CLASSES][i // CLASSES] for i in range(n)])
    return Made(images[rows], labels[rows])


def damaged(parts: Parts, name: str, strength: float, n: int, seed: int) -> Made:
    """n pictures with a damage of `DAMAGES`."""
    real = chosen(parts.fresh, n, seed)
    if name in ON_PICTURES:
        return Made(ON_PICTURES[name](real.images, strength, seed), real.labels)
    if name == "classes dropped":
        others = chosen(parts.fresh, 2 * n, seed + 100)
        kept = others.labels < CLASSES - strength
        gone = real.labels >= CLASSES - strength
        images, labels = real.images.clone(), real.labels.clone()
        images[gone], labels[gone] = (each[kept][: int(gone.sum())] for each in others)
        return Made(images, labels)
    if name == "wrong labels":
        labels = real.labels.clone()
        labels[: round(strength * n)] = (labels[: round(strength * n)] + 1) % CLASSES
        return Made(real.images, labels)
    return cheats(parts, name, strength, n, seed)


def cheats(parts: Parts, name: str, strength: float, n: int, seed: int) -> Made:
    """What a "generator" gives back that has learnt nothing but some pictures."""
    source = chosen(parts.training, n, seed)
    if name == "copies":
        return source
    if name == "few":
        return Made(*(each[torch.arange(n) % int(strength)] for each in source))
    images, labels = parts.training
    labels_made = torch.arange(n) % CLASSES
    if name == "means":
        means = [images[labels == k].double().mean(0).round() for k in range(CLASSES)]
        return Made(torch.stack(means).byte()[labels_made], labels_made)
    with torch.no_grad():
        sure = parts.yardstick.classifier(to_float(source.images)).log_softmax(1)
    best = [int(sure[:, k].argmax()) for k in range(CLASSES)]
    return Made(source.images[best][labels_made], labels_made)


def _blurred(images: Tensor, sigma: float, seed: int) -> Tensor:
    reach = int(3 * sigma + 1)
    weights = torch.exp(-(torch.arange(-reach, reach + 1.0) ** 2) / (2 * sigma**2))
    weights = weights / weights.sum()
    x = F.conv2d(images.float(), weights.view(1, 1, -1, 1), padding=(reach, 0))  # outside it is black
    return F.conv2d(x, weights.view(1, 1, 1, -1), padding=(0, reach)).round().byte()


def _shifted(images: Tensor, pixels: float, seed: int) -> Tensor:
    k = int(pixels)
    return F.pad(images, (k, -k, 0, 0))


def _halved(antialias: bool) -> Callable[[Tensor, float, int], Tensor]:
    def halved(images: Tensor, strength: float, seed: int) -> Tensor:
        x, size = images.float(), images.shape[-1]
        small = (
            F.interpolate(x, size=size // 2, mode="bilinear", antialias=True, align_corners=False)
            if antialias
            else x[..., ::2, ::2]
        )
        return F.interpolate(small, size=size, mode="bilinear").round().clamp(0, 255).byte()

    return halved


ON_PICTURES: dict[str, Callable[[Tensor, float, int], Tensor]] = {
    "none": lambda images, strength, seed: images,
    "blur": _blurred,
    "noise": noisy,
    "shifted": _shifted,
    "jpeg": lambda images, quality, seed: jpeg(images, int(quality)),
    "halved": _halved(True),
    "halved, nearest": _halved(False),
}


def copied(images: Tensor, training: Tensor, held_out: Tensor) -> Row:
    """The share of pictures nearer to training pictures than to those held out, and its 95 % interval."""
    share, low, high = nearer_to_training(*(each.flatten(1).float() for each in (images, training, held_out)))
    return {"nearer_to_training": share, "nearer_interval": [low, high]}


def measure(parts: Parts, row: Row, options: Row) -> Row:
    made = damaged(parts, row["damage"], row["strength"], options["n"], row["seed"])
    figures = pictures.measured(to_float(made.images), made.labels, DATA)
    return figures | copied(made.images, parts.training[0], parts.held_out[0])


COLUMNS = "damage strength seed frechet kernel precision recall accuracy nearer_to_training seconds"
EXPERIMENT: Any = Experiment(__name__, __doc__, COLUMNS, settings, prepare, measure)
