"""Every kind of model and sampler of the course, measured by every metric (lesson 20).

The models of digits, all on MNIST, with n pictures each, all classes in turn: the bundled U-Net with its
samplers, steps and guidance, guided by a classifier, its students, real pictures of the training split, and
cheats made of training pictures (`metric_damages`). Their rows hold every figure of `evaluate` with one
standard error over the draw of the samples; the share of pictures that are nearer to one of 10,000 training
pictures than to one of the 10,000 test pictures; and the margin of the first pictures: by how much the
classifier's logit of the wanted class is above the best of the others. A simulated voter chooses by it.

The text models draw a fifth as many scenes, after the captions of the test split. Their rows hold the
captions met with their 95 % interval (Wilson), the CLIP score by `scenes-clip`, and the distances, precision
and recall of the features of this model from those of rendered scenes. The calls are those of the U-Net
alone. All rows together take about half an hour on two busy cores; another seed is another run.
"""

from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diffusion_lessons import zoo
from diffusion_lessons.checkpoint import Checkpoint
from diffusion_lessons.data import load_dataset, to_float, to_uint8
from diffusion_lessons.data.captions import captions
from diffusion_lessons.data.scenes import Scenes, draw
from diffusion_lessons.experiments import Experiment, Row, guidance_scales, metric_damages, pictures
from diffusion_lessons.generate import generate
from diffusion_lessons.metrics import (
    Statistics,
    frechet_between,
    frechet_error,
    kernel_distance,
    kernel_error,
    precision_recall,
    share_error,
)
from diffusion_lessons.metrics.captions_met import captions_met
from diffusion_lessons.metrics.clip_score import clip_scores
from diffusion_lessons.metrics.cost import count_evaluations

MARGINS = 200
REAL_SCENES = 2000  # that drawn scenes are compared with
DIGITS: tuple[Row, ...] = (
    {"model": "real"},
    {"model": "copies"},
    {"model": "one a class"},
    {"model": "means"},
    {"model": "1-step student", "steps": 1},
    {"model": "2-step student", "steps": 2},
    {"model": "4-step student", "steps": 4},
    *(
        {"model": "unet", "sampler": name, "steps": 10, "guidance": 1.0}
        for name in ("ddim", "ddpm", "dpmpp-2m")
    ),
    {"model": "unet", "sampler": "dpmpp-2m", "steps": 5, "guidance": 1.0},
    *({"model": "unet", "sampler": "dpmpp-2m", "steps": 10, "guidance": scale} for scale in (1.5, 2.0, 4.0)),
    {"model": "unet, interval", "sampler": "ddim", "steps": 10, "guidance": 2.0},
    {"model": "unet, classifier", "sampler": "ddim", "steps": 10, "guidance": 4.0},
    {"model": "unet", "sampler": "ddim", "steps": 25, "guidance": 1.0},
    {"model": "unet", "sampler": "ddpm", "steps": 25, "guidance": 1.0},
)
SCENES: tuple[Row, ...] = (
    {"model": "real scenes"},
    {"model": "real scenes, captions of others"},
    *({"model": "text", "sampler": "ddim", "steps": 10, "guidance": scale} for scale in (1.0, 2.0, 8.0)),
    {"model": "text", "sampler": "ddpm", "steps": 10, "guidance": 2.0},
)
METHODS = {"unet, interval": "interval", "unet, classifier": "classifier"}  # of `guidance_scales`


class Shared:
    """What the rows use, each opened when it is asked for."""

    def __init__(self, options: Row) -> None:
        self.options = options

    @cached_property
    def guided(self) -> guidance_scales.Shared:
        return guidance_scales.prepare(self.options)

    @cached_property
    def parts(self) -> metric_damages.Parts:
        return metric_damages.prepare(self.options)

    @cached_property
    def scenes(self) -> "RealScenes":
        return RealScenes.of()

    @cached_property
    def text(self) -> Any:
        return zoo.load("scenes-text")


class RealScenes(NamedTuple):
    """Rendered scenes that drawn ones are compared with, and what compares them."""

    towers: Any
    tokenizer: Any
    features: Tensor  # (REAL_SCENES, D)

    @classmethod
    def of(cls) -> "RealScenes":
        towers, tokenizer = zoo.load("scenes-clip")
        scenes = draw(1, torch.arange(REAL_SCENES), "test")
        return cls(towers, tokenizer, seen(towers, scenes.render(towers.vision.config.size)))


@torch.no_grad()
def seen(towers: Any, images: Tensor) -> Tensor:
    """Features (N, D) of pictures, bytes, in the space of pictures and captions; their length is 1."""
    each = [towers.vision(to_float(some)) for some in images.split(256)]
    return torch.nn.functional.normalize(torch.cat(each), dim=1).double()


def settings(options: Row) -> list[Row]:
    return [{**row, "seed": options["seed"]} for row in (*DIGITS, *SCENES)]


def prepare(options: Row) -> Shared:
    return Shared(options)


def measure(shared: Shared, row: Row, options: Row) -> Row:
    if row["model"] in {each["model"] for each in SCENES}:
        return measured_scenes(shared, row, max(options["n"] // 5, 2))
    return measured_digits(shared, row, options["n"], options)


def drawn_digits(shared: Shared, row: Row, n: int, options: Row) -> tuple[Tensor, Tensor, float]:
    """Pictures (N, C, H, W) in [−1, 1], the labels asked for, and the calls for each picture."""
    name, seed = row["model"], row["seed"]
    if name in ("real", "copies", "one a class", "means"):
        damage = "none" if name == "real" else name
        made = metric_damages.damaged(shared.parts, damage, 1, n, seed)
        return to_float(made.images), made.labels, 0.0
    model: Checkpoint = shared.guided.model
    if name.endswith("student"):
        model = zoo.load(f"{options['model']}-{pictures.STUDENTS[row['steps']]}")
    labels = pictures.labels_of(model, n)
    with count_evaluations(model.network) as count:
        if name in METHODS:
            made_so = METHODS[name], row["guidance"], labels, seed, row["steps"]
            x = guidance_scales.draw(shared.guided, *made_so)
        else:
            how = {key: row[key] for key in ("sampler", "steps", "guidance") if key in row and name == "unet"}
            x = generate(model, labels, seed=seed, device=options["device"], precision="float32", **how)
    return x.clamp(-1, 1).cpu(), labels.cpu(), count.pictures / n


@torch.no_grad()
def margins(classifier: Any, x: Tensor, labels: Tensor) -> Tensor:
    """The logit of the wanted class above the best of the others: (N,)."""
    logits = classifier(x)
    wanted = logits.gather(1, labels[:, None])[:, 0]
    return wanted - logits.scatter(1, labels[:, None], -torch.inf).max(1).values


def measured_digits(shared: Shared, row: Row, n: int, options: Row) -> Row:
    x, labels, calls = drawn_digits(shared, row, n, options)
    images, yardstick = to_uint8(x), shared.parts.yardstick
    test = load_dataset(metric_damages.DATA, "test").images
    some = margins(yardstick.classifier, to_float(images[:MARGINS]), labels[:MARGINS])
    shown = images[: pictures.SHOWN].numpy().tobytes().hex()
    return {
        "n": n,
        "calls": calls,
        **pictures.measured(to_float(images), labels, metric_damages.DATA),
        **metric_damages.copied(images, shared.parts.training[0], test),
        "margins": [round(each, 2) for each in some.tolist()],
        "pictures": shown,
    }


def measured_scenes(shared: Shared, row: Row, n: int) -> Row:
    """As the digits, with what the captions say."""
    real, index = shared.scenes, torch.arange(n)
    scenes: Scenes = draw(0, index, "test")
    texts = captions(scenes, 0, index, unsized=0)
    size, calls = real.towers.vision.config.size, 0.0
    if row["model"].startswith("real"):
        images = scenes.render(size)
        texts = [*texts[1:], texts[0]] if row["model"] != "real scenes" else texts
    else:
        model = shared.text
        how = {key: row[key] for key in ("sampler", "steps", "guidance")}
        with count_evaluations(model.network.unet) as count:
            made = generate(model, model.prompts(texts), seed=row["seed"], precision="float32", **how)
        images, calls = to_uint8(made.clamp(-1, 1)), count.pictures / n
    met, scores = captions_met(images, texts), clip_scores(real.towers, real.tokenizer, images, texts)
    features, reference = seen(real.towers, images), Statistics.of(real.features)
    shares = precision_recall(real.features[:n], features)
    everything, interval = met["everything"]
    return {
        "n": n,
        "calls": calls,
        "frechet": frechet_between(Statistics.of(features), reference),
        "frechet_error": frechet_error(features, reference),
        "kernel": kernel_distance(features, real.features),
        "kernel_error": kernel_error(features, real.features),
        "precision": shares.precision,
        "precision_error": share_error(shares.precise, n),
        "recall": shares.recall,
        "recall_error": share_error(shares.recalled, n),
        "met": everything,
        "met_error": share_error(round(everything * n), n),
        "met_interval": list(interval),
        "clip": float(scores.mean()),
        "clip_error": float(scores.std() / n**0.5),
    }


COLUMNS = (
    "model sampler steps guidance seed frechet frechet_error kernel precision recall accuracy "
    "nearer_to_training met clip seconds"
)
EXPERIMENT = Experiment(__name__, __doc__, COLUMNS, settings, prepare, measure)
