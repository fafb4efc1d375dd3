"""Models of digits on the leaderboard: the bundled U-Net and all that walks with it, its students, cheats."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from diffusion_lessons import zoo
from diffusion_lessons.checkpoint import Checkpoint
from diffusion_lessons.data import load_dataset, to_float, to_uint8
from diffusion_lessons.denoiser import Denoiser, OnPath
from diffusion_lessons.experiments import Row, guidance_scales, metric_damages, pictures
from diffusion_lessons.experiments.flow_matching import LEAST
from diffusion_lessons.generate import generate
from diffusion_lessons.guidance import ClassifierFreeGuidance, Clip, Rescale
from diffusion_lessons.metrics.cost import count_evaluations
from diffusion_lessons.paths import StraightPath
from diffusion_lessons.runge_kutta import adaptive
from diffusion_lessons.samplers import SAMPLERS, plms, trajectory

MARGINS = 200
PLAIN: Row = {"model": "unet", "guidance": 1.0}
FLOW: Row = {**PLAIN, "model": "unet, flow"}
TEN: Row = {"sampler": "dpmpp-2m", "steps": 10}
ROWS: tuple[Row, ...] = (
    {"model": "real"},
    {"model": "copies"},
    {"model": "one a class"},
    {"model": "means"},
    {"model": "1-step student", "steps": 1},
    {"model": "2-step student", "steps": 2},
    {"model": "4-step student", "steps": 4},
    *({**PLAIN, "sampler": name, "steps": 10} for name in ("ddim", "ddpm", "dpmpp-2m", "plms")),
    {**PLAIN, "sampler": "heun", "steps": 5},  # 9 calls
    {**PLAIN, "sampler": "dpmpp-2m", "steps": 5},
    {**FLOW, "sampler": "euler", "steps": 10},
    {**FLOW, "sampler": "heun", "steps": 5},
    {**FLOW, "sampler": "rk23", "tolerance": 0.1},
    *({**PLAIN, **TEN, "guidance": scale} for scale in (1.5, 2.0, 4.0)),
    {**TEN, "model": "unet, rescaled", "guidance": 4.0},
    {"model": "unet, interval", "sampler": "ddim", "steps": 10, "guidance": 2.0},
    {"model": "unet, classifier", "sampler": "ddim", "steps": 10, "guidance": 4.0},
    {**PLAIN, "sampler": "ddim", "steps": 25},
    {**PLAIN, "sampler": "ddpm", "steps": 25},
)
METHODS = {"unet, interval": "interval", "unet, classifier": "classifier"}  # of `guidance_scales`
RESCALED = 0.7  # share of the rescaled x₀ (Lin et al. 2023)
SPACING = {"plms": "leading"}  # where α is well above 0, as that sampler needs
WALKS: dict[str, Any] = {
    **SAMPLERS,
    "euler": trajectory,
    "plms": plms,
    "rk23": partial(adaptive, method="rk23"),
}


def drawn(
    guided: guidance_scales.Shared, parts: metric_damages.Parts, row: Row, n: int, options: Row
) -> tuple[Tensor, Tensor, float]:
    """Pictures (N, C, H, W) in [−1, 1], the labels asked for, and the calls for each picture."""
    name, seed = row["model"], row["seed"]
    if name in ("real", "copies", "one a class", "means"):
        damage = "none" if name == "real" else name
        made = metric_damages.damaged(parts, damage, 1, n, seed)
        return to_float(made.images), made.labels, 0.0
    model: Checkpoint = guided.model
    if name.endswith("student"):
        model = zoo.load(f"{options['model']}-{pictures.STUDENTS[row['steps']]}")
    labels = pictures.labels_of(model, n)
    with count_evaluations(model.network) as count:
        if name in METHODS:
            made_so = METHODS[name], row["guidance"], labels, seed, row["steps"]
            x = guidance_scales.draw(guided, *made_so)
        elif name in (FLOW["model"], "unet, rescaled") or row.get("sampler") == "plms":
            x = walked(guided, row, labels.to(guided.device))
        else:
            how = {key: row[key] for key in ("sampler", "steps", "guidance") if key in row and name == "unet"}
            x = generate(model, labels, seed=seed, device=options["device"], precision="float32", **how)
    return x.clamp(-1, 1).cpu(), labels, count.pictures / n


def walked(guided: guidance_scales.Shared, row: Row, labels: Tensor) -> Tensor:
    """Pictures (N, C, H, W) of a path, a guidance or a sampler that `generate` does not know.

    They start from the noise that it starts from. The same denoiser is a flow on the straight path.
    """
    network, path = guided.model.denoiser(), guided.model.path
    denoiser: Denoiser = network
    how: Row = {"sampler": WALKS[row["sampler"]]}
    if row["model"] == FLOW["model"]:
        denoiser, path = OnPath(network, path), StraightPath()
    elif row["model"] == "unet, rescaled":
        denoiser = Rescale(ClassifierFreeGuidance(network, row["guidance"]), RESCALED)
    if "tolerance" in row:
        how |= {"rtol": row["tolerance"], "atol": row["tolerance"], "least": LEAST}
    levels = path.levels(row.get("steps", 1), SPACING.get(row["sampler"], "trailing"))
    return pictures.draw(Clip(denoiser), levels, labels, guided.model.shape, row["seed"], **how)


@torch.no_grad()
def margins(classifier: Any, x: Tensor, labels: Tensor) -> Tensor:
    """The logit of the wanted class above the best of the others: (N,)."""
    logits = classifier(x)
    wanted = logits.gather(1, labels[:, None])[:, 0]
    return wanted - logits.scatter(1, labels[:, None], -torch.inf).max(1).values


def measure(
    guided: guidance_scales.Shared, parts: metric_damages.Parts, row: Row, n: int, options: Row
) -> Row:
    """n digits of a row by every metric, with what a voter goes by; pictures of the run's own seed alone."""
    x, labels, calls = drawn(guided, parts, row, n, options)
    images, yardstick = to_uint8(x), parts.yardstick
    test = load_dataset(metric_damages.DATA, "test").images
    some = margins(yardstick.classifier, to_float(images[:MARGINS]), labels[:MARGINS])
    first = images[: pictures.SHOWN].numpy().tobytes().hex()
    return {
        "n": n,
        "calls": calls,
        **pictures.measured(to_float(images), labels, metric_damages.DATA),
        **metric_damages.copied(images, parts.training[0], test),
        "margins": [round(each, 2) for each in some.tolist()],
        **({"pictures": first} if row["seed"] == options["seed"] else {}),
    }
