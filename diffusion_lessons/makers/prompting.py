"""Text models measured: pictures drawn after captions, and held against them."""

import sys
from collections.abc import Iterator
from itertools import cycle
from typing import Any

import torch
from torch import Tensor

from diffusion_lessons import zoo
from diffusion_lessons.checkpoint import Checkpoint
from diffusion_lessons.conditions import Condition
from diffusion_lessons.data import FOLDER
from diffusion_lessons.data.captioned_folder import captioned_folder
from diffusion_lessons.data.captions import captions
from diffusion_lessons.data.dataset import to_uint8
from diffusion_lessons.data.scenes import Scenes, draw
from diffusion_lessons.generate import generate
from diffusion_lessons.makers.yardsticks import yardstick_for
from diffusion_lessons.metrics import Yardstick
from diffusion_lessons.metrics.captions_met import captions_met
from diffusion_lessons.metrics.clip_score import clip_scores
from diffusion_lessons.support.processes import Processes

ASKED = ("test", "held-out")  # splits of scenes: what training could show, and pairs that it never did
TOWERS = "scenes-clip"  # bundled, by which pictures and captions are compared
SIDE = 64  # of the real pictures, and of what the towers see


def asked(n: int, split: str) -> tuple[Scenes, list[str]]:
    """The scenes that text models are measured on, and what they are asked to draw."""
    index = torch.arange(n)
    scenes = draw(0, index, split)
    return scenes, captions(scenes, 0, index, unsized=0)


def drawn(model: Checkpoint, n: int, **how: Any) -> Iterator[tuple[str, list[str], Tensor]]:
    """Each split of `ASKED` with n captions and what the model draws after them, bytes; how: `generate`'s."""
    for split in ASKED:
        _, texts = asked(n, split)
        pictures = generate(model, model.prompts(texts), **how)
        yield split, texts, to_uint8(pictures.clamp(-1, 1))


def measure_scenes(
    model: Checkpoint, n: int, processes: Processes | None = None, **how: Any
) -> dict[str, Any]:
    """What of n captions of scenes, half of each split of `ASKED`, a text model meets, and its CLIP score.

    By split: n; of each attribute of `metrics.captions_met` the share of pictures that meet it, {"value",
    "interval"} with the 95 % interval; "clip_score" by the bundled towers and "real_clip_score", that of the
    rendered scenes, {"value", "uncertainty"} with one standard error. A model without captions and fewer than
    two pictures of each split are a ValueError. Of several processes, which share the drawing, the first
    measures, and the others get nothing.
    """
    if n < 4:
        raise ValueError(f"n = {n} is too few: captions of two kinds are met or not, take 4 or more")
    towers, tokenizer = zoo.load(TOWERS)
    told: dict[str, Any] = {"n": n // 2 * 2, "towers": TOWERS}
    every = list(drawn(model, n // 2, processes=processes, **how))
    if processes and processes.rank:
        return {}
    for split, texts, pictures in every:
        met = captions_met(pictures, texts)
        real = asked(n // 2, split)[0].render(SIDE)
        told[split] = {
            "n": len(texts),
            **{what: {"value": share, "interval": list(ends)} for what, (share, ends) in met.items()},
            "clip_score": _mean(clip_scores(towers, tokenizer, pictures, texts)),
            "real_clip_score": _mean(clip_scores(towers, tokenizer, real, texts)),
        }
    return told


def folder_prompts(
    model: Checkpoint, data: str, n: int, given: str | None = None
) -> tuple[Condition, Yardstick]:
    """n captions of the folder's pictures for testing, in turn, and what pictures drawn after them are
    measured by: their distance from the folder's, as `yardstick_for` does it.

    Data that are no folder with captions and classes are a ValueError that says what can be measured.
    """
    known = "a model with captions is measured on scenes (--data scenes), or on a folder with captions"
    if not data.startswith(FOLDER):
        raise ValueError(f"{known}, and not on {data}")
    side = model.shape[-1] * (1 if model.vae is None else model.vae.config.factor)
    _, texts = captioned_folder(data.removeprefix(FOLDER), "test", side)
    try:
        yardstick = yardstick_for(data, side, given)
        yardstick.check((n, model.shape[0] if model.vae is None else 3, side, side))
    except ValueError as error:
        told = "whether they show what their captions say can be measured of scenes alone, with --data scenes"
        raise ValueError(
            f"{error}; pictures drawn after captions of one's own are measured by their distance from "
            f"real ones, in a folder with classes or with a --yardstick; {told}"
        ) from error
    print("measured is the distance from real pictures, not whether captions are met", file=sys.stderr)
    return model.prompts([text for text, _ in zip(cycle(texts), range(n), strict=False)]), yardstick


def words_of(told: dict[str, Any]) -> str:
    """The figures of `measure_scenes` as a table."""
    lines = ["".join([f"{'':16}", *(f"{split} (n = {told[split]['n']})".ljust(25) for split in ASKED)])]
    for name in told[ASKED[0]]:
        if name != "n":
            cells = (_cell(told[split][name]).ljust(25) for split in ASKED)
            lines.append(f"  {name.replace('_', ' '):16}" + "".join(cells))
    return "\n".join(line.rstrip() for line in lines)


def _cell(figure: dict[str, Any]) -> str:
    if "interval" in figure:
        low, high = figure["interval"]
        return f"{figure['value']:6.1%} ({low:.1%} to {high:.1%})"
    return f"{figure['value']:6.3f} ± {figure['uncertainty']:.3f}"


def _mean(scores: Tensor) -> dict[str, float]:
    return {"value": float(scores.mean()), "uncertainty": float(scores.std() / len(scores) ** 0.5)}
