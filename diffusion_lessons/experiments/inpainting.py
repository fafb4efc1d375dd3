"""Holes in scenes, filled after a caption: pasted, replaced, resampled, and by trained channels (lesson 15).

Each scene is a pair. The hole is a box about its first object, and the caption is that of the scene with this
object in another colour: so a fill has to follow the caption, and to fit what is kept. The ways:

- "pasted": a picture is drawn from the caption alone, and what is known is put back at the end;
- "replaced": what is known is put into every guess (`Inpaint`), with steps of DDIM or ancestral ones;
- "clean": the same, but the network is shown what is known without noise, whatever the level;
- "resampled": as "replaced", with stretches of 5 levels walked 5 times (RePaint, `there_and_back`);
- "trained": the network of `scenes-inpaint` sees the mask and the masked picture.

All but the last draw with `scenes-text`. Known pixels are put back in all rows. A row holds the shares of
pictures that meet their caption, with 95 % intervals (Wilson); the seam, as bytes, with its standard error,
beside that of the real scenes; and how many calls a picture took. All rows together take about a minute on a
GPU, and a quarter of an hour on two cores.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from diffusion_lessons import zoo
from diffusion_lessons.checkpoint import Checkpoint
from diffusion_lessons.conditions import Condition
from diffusion_lessons.data.captioned import hole_of
from diffusion_lessons.data.captions import captions, plain, read, wrong
from diffusion_lessons.data.dataset import as_float, to_uint8
from diffusion_lessons.data.scenes import PAIR, Scenes, draw
from diffusion_lessons.denoiser import Denoiser
from diffusion_lessons.experiments import Experiment, Row
from diffusion_lessons.guidance import ClassifierFreeGuidance, Inpaint
from diffusion_lessons.metrics.captions_met import captions_met
from diffusion_lessons.metrics.seam import seam
from diffusion_lessons.paths import NoisePath
from diffusion_lessons.samplers import ddim_step, ddpm_step, repaint, sample, there_and_back, trajectory
from diffusion_lessons.support.machine import choose_device

SIZE, MARGIN, BATCH = 64, 3, 50
STEPS, JUMP, RESAMPLE, CALLS = 25, 5, 5, 105  # calls of the walk that is resampled
GUIDANCE = 2.0
APART = 10**6  # the noise of one seed from that of the next


class Holes(NamedTuple):
    """What there is to fill."""

    pictures: Tensor  # (N, 3, SIZE, SIZE) in [−1, 1]
    masks: Tensor  # (N, 1, SIZE, SIZE), 1 where to paint
    captions: list[str]


def holes(n: int, seed: int = 0, split: str = "test") -> Holes:
    """n pairs with a hole about the first object, and captions in which it has another colour."""
    index = torch.arange(n)
    scenes, texts = draw(seed, index, split, PAIR), []
    for i, text in enumerate(captions(scenes, seed, index, unsized=0)):
        wish = read(text)
        alone = replace(wish, objects=wish.objects[:1], relation=None)
        other = wrong(alone, "colour", np.random.default_rng((seed, i)))
        assert other is not None
        texts.append(plain(replace(wish, objects=(other.objects[0], *wish.objects[1:]))))
    return Holes(as_float(scenes.render(SIZE)), about_the_first(scenes), texts)


def about_the_first(scenes: Scenes) -> Tensor:
    """Masks (N, 1, SIZE, SIZE) of a hole about the first object of each scene."""
    return torch.stack([hole_of(mask, MARGIN) for mask in scenes.masks(SIZE)[:, 0]])[:, None].float()


def shown_clean(denoiser: Denoiser, known: Tensor, mask: Tensor) -> Denoiser:
    """The denoiser, asked about x with what is known in its place, without noise."""
    return lambda x, level, condition=None: denoiser(torch.lerp(known, x, mask), level, condition)


def walked(
    denoiser: Denoiser,
    x: Tensor,
    path: NoisePath,
    known: Tensor,
    mask: Tensor,
    way: str,
    step: str,
    steps: int,
    condition: Condition = None,
    seed: int = 0,
) -> Tensor:
    """x, noise, at the end of a walk in one of the ways; known is like x, mask (B, 1, ...), 1 where to paint.

    The seed is that of the noise in ancestral steps.
    """
    if way == "clean":
        denoiser = shown_clean(denoiser, known, mask)
    if way in ("replaced", "clean", "resampled"):
        denoiser = Inpaint(denoiser, known, mask)
    levels = path.levels(steps)
    if way == "resampled":
        levels = there_and_back(levels, JUMP, RESAMPLE)
    return sample(
        denoiser,
        x,
        levels,
        condition,
        repaint if way == "resampled" else trajectory,
        step=ddpm_step if step == "ancestral" else ddim_step,
        generator=torch.Generator().manual_seed(seed),
    )


@torch.no_grad()
def filled(
    model: Checkpoint, task: Holes, way: str, step: str = "ddim", steps: int = STEPS, seed: int = 0
) -> Tensor:
    """Each picture with its hole filled, (N, 3, SIZE, SIZE), as it was decoded: nothing is put back yet."""
    device = next(model.network.parameters()).device
    network: Any = model.network
    vae: Any = model.vae
    made = []
    for at in torch.arange(len(task.captions)).split(BATCH):
        pictures, masks = task.pictures[at].to(device), task.masks[at].to(device)
        prompts = model.prompts([task.captions[i] for i in at.tolist()])
        told = network.told({name: value.to(device) for name, value in prompts.items()})
        known, coarse = vae.encode(pictures), F.max_pool2d(masks, vae.config.factor)
        if way == "trained":
            told["known"] = torch.cat([coarse, vae.encode(pictures * (1 - masks))], 1)
        denoiser: Any = ClassifierFreeGuidance(
            model.denoiser(), GUIDANCE, network.told(network.null_condition(1))
        )
        first = seed * APART + int(at[0])
        noise = torch.randn(known.shape, generator=torch.Generator().manual_seed(first)).to(device)
        z = walked(denoiser, noise, model.path, known, coarse, way, step, steps, told, first + 1)
        made.append(vae.decode(z).clamp(-1, 1).cpu())
    return torch.cat(made)


def judged(task: Holes, made: Tensor) -> dict[str, Any]:
    """Captions met, the seam in bytes with its standard error, and what was changed of the known pixels."""
    back = torch.lerp(task.pictures, made, task.masks)
    met = captions_met(to_uint8(back), task.captions)
    jumps, real = (127.5 * seam(each, task.masks) for each in (back, task.pictures))
    known = 1 - task.masks
    return {
        "everything": met["everything"][0],
        "met": {what: [round(each, 4) for each in (share, *ends)] for what, (share, ends) in met.items()},
        "seam": round(float(jumps.mean()), 3),
        "seam_error": round(float(jumps.std() / len(jumps) ** 0.5), 3),
        "seam_real": round(float(real.mean()), 3),
        "known_changed_before": round(float(127.5 * ((made - task.pictures) * known).abs().max()), 2),
        "known_changed": float(127.5 * ((back - task.pictures) * known).abs().max()),
    }


def settings(options: Row) -> list[Row]:
    walks = [("pasted", "ddim", STEPS), ("replaced", "ddim", STEPS), ("clean", "ddim", STEPS)]
    walks += [
        ("trained", "ddim", STEPS),
        ("replaced", "ddim", CALLS),
        ("replaced", "ancestral", CALLS),
        ("resampled", "ancestral", STEPS),
    ]
    return [dict(zip(("way", "step", "steps"), walk, strict=True)) for walk in walks]


def prepare(options: Row) -> tuple[Holes, dict[str, Checkpoint]]:
    device = choose_device(options["device"])
    models = {name: zoo.load(name).on(device) for name in ("scenes-text", "scenes-inpaint")}
    return holes(options["n"], options["seed"]), models


def measure(shared: tuple[Holes, dict[str, Checkpoint]], row: Row, options: Row) -> Row:
    task, models = shared
    model = models["scenes-inpaint" if row["way"] == "trained" else "scenes-text"]
    calls = CALLS if row["way"] == "resampled" else row["steps"]
    made = filled(model, task, row["way"], row["step"], row["steps"], options["seed"])
    return {"n": len(made), "calls": calls, **judged(task, made)}


COLUMNS = "way step steps calls everything seam seam_error seam_real known_changed_before known_changed"
EXPERIMENT = Experiment(__name__, __doc__, COLUMNS, settings, prepare, measure)
