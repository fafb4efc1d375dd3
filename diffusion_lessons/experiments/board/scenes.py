"""Models of scenes on the leaderboard: after a caption, in a hole, and as a frame of a clip."""

from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diffusion_lessons import zoo
from diffusion_lessons.checkpoint import Checkpoint
from diffusion_lessons.clips import film
from diffusion_lessons.data import to_float, to_uint8
from diffusion_lessons.data.captions import captions
from diffusion_lessons.data.clips import FRAMES, STILL, asked, draw_clips
from diffusion_lessons.data.scenes import Scenes, draw
from diffusion_lessons.experiments import Row, clips_by_layers, inpainting
from diffusion_lessons.filming import asked_clips
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
from diffusion_lessons.metrics.motion import clips_met

REAL = 2000  # rendered pictures that drawn ones are compared with
SIZE = inpainting.SIZE
GUIDED: Row = {"sampler": "ddim", "steps": 10, "guidance": inpainting.GUIDANCE}
CLIPS = ("real clips", "video")
ROWS: tuple[Row, ...] = (
    {"model": "real scenes"},
    {"model": "real scenes, captions of others"},
    *({**GUIDED, "model": "text", "guidance": scale} for scale in (1.0, 2.0, 8.0)),
    {**GUIDED, "model": "text", "sampler": "ddpm"},
    {**GUIDED, "model": "inpaint, all of it"},
    {**GUIDED, "model": "text, a hole"},
    {**GUIDED, "model": "inpaint, a hole"},
    {"model": "real clips"},
    {"model": "video", "sampler": "ddim", "steps": clips_by_layers.STEPS, "guidance": 1.0},
)


class Seen(NamedTuple):
    """What a row is judged by."""

    images: Tensor  # bytes (N, 3, SIZE, SIZE)
    texts: list[str]  # what each of them should show
    motion: Row  # of the clips whose last frames the pictures are; empty for others


class Shelf:
    """What the rows use, each opened when it is asked for."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def opened(self, name: str) -> Any:
        return zoo.load(name).on(self.device)

    @cached_property
    def towers(self) -> tuple[Any, Any]:
        return zoo.load("scenes-clip")

    @cached_property
    def scenes(self) -> Tensor:
        """Features of REAL rendered scenes."""
        return self.features(draw(1, torch.arange(REAL), "test").render(SIZE))

    @cached_property
    def frames(self) -> Tensor:
        """Features of the last frames of as many rendered clips, all of which move."""
        clips = draw_clips(1, torch.arange(2 * REAL), "test", room=1.0)
        return self.features(clips[clips.motion != STILL][:REAL].render(SIZE)[:, -1])

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """(N, D) of pictures, bytes, in the space of pictures and captions; their length is 1."""
        each = [self.towers[0].vision(to_float(some)) for some in images.split(256)]
        return torch.nn.functional.normalize(torch.cat(each), dim=1).double()


def seen(shelf: Shelf, row: Row, n: int) -> tuple[Seen, float]:
    """What a row shows, and the calls for each picture or clip; other seeds have other captions."""
    name, seed = row["model"], row["seed"]
    if name in CLIPS:
        return of_clips(shelf, row, n)
    index = torch.arange(n * seed, n * (seed + 1))
    scenes = draw(0, index, "test")
    texts = captions(scenes, 0, index, unsized=0)
    if name.startswith("real"):
        texts = [*texts[1:], texts[0]] if name.endswith("of others") else texts
        return Seen(scenes.render(SIZE), texts, {}), 0.0
    model = shelf.opened("scenes-inpaint" if name.startswith("inpaint") else "scenes-text")
    with count_evaluations(model.network.unet) as count:
        if name == "text":
            how = {key: row[key] for key in ("sampler", "steps", "guidance")}
            made = generate(model, model.prompts(texts), seed=seed, precision="float32", **how)
            images = to_uint8(made.clamp(-1, 1))
        else:
            images = in_holes(model, row, scenes, texts)
    return Seen(images, texts, {}), count.pictures / n


def in_holes(model: Checkpoint, row: Row, scenes: Scenes, texts: list[str]) -> Tensor:
    """The scenes, bytes, with a box about the first object, or all of them, painted after their captions."""
    real, masks = to_float(scenes.render(SIZE)), inpainting.about_the_first(scenes)
    if row["model"].endswith("all of it"):
        masks = torch.ones_like(masks)
    way = "trained" if row["model"].startswith("inpaint") else "replaced"
    task = inpainting.Holes(real, masks, texts)
    made = inpainting.filled(model, task, way, row["sampler"], row["steps"], row["seed"])
    return to_uint8(torch.lerp(real, made, masks))


def of_clips(shelf: Shelf, row: Row, n: int) -> tuple[Seen, float]:
    """The last frame of each clip as a scene; the motion of all frames is a figure of its own."""
    seed = row["seed"]
    asked_for, texts = asked_clips(n * (seed + 1))
    texts, calls = texts[n * seed :], 0.0
    if row["model"] == "real clips":
        clips = asked_for[n * seed :].render(SIZE)
    else:
        model = shelf.opened("scenes-video")
        told, alone = model.prompts(texts), {"seed": seed, "device": shelf.device, "precision": "float32"}
        how = {key: row[key] for key in ("sampler", "steps", "guidance")}
        with count_evaluations(model.network.unet) as count:
            first = film(model, told, 1, **alone)[:, 0]  # as the model is usually drawn
            clips = to_uint8(film(model, told, FRAMES, first=first, **alone, **how).clamp(-1, 1))
        calls = count.pictures / n
    share, (low, high) = clips_met(clips, texts)["motion"]
    motion = {"moves": share, "moves_interval": [low, high], "frames": FRAMES}
    return Seen(clips[:, -1], [asked(text).there for text in texts], motion), calls


def measure(shelf: Shelf, row: Row, n: int) -> Row:
    """n pictures of a row: captions met, CLIP score, and what the features say; of clips a half."""
    n = n // 2 if row["model"] in CLIPS else n
    (images, texts, motion), calls = seen(shelf, row, n)
    met, scores = captions_met(images, texts), clip_scores(*shelf.towers, images, texts)
    real = shelf.frames if row["model"] in CLIPS else shelf.scenes
    features, reference = shelf.features(images), Statistics.of(real)
    shares = precision_recall(real[:n], features)
    everything, interval = met["everything"]
    return {
        "n": n,
        "calls": calls,
        "frechet": frechet_between(Statistics.of(features), reference),
        "frechet_error": frechet_error(features, reference),
        "kernel": kernel_distance(features, real),
        "kernel_error": kernel_error(features, real),
        "precision": shares.precision,
        "precision_error": share_error(shares.precise, n),
        "recall": shares.recall,
        "recall_error": share_error(shares.recalled, n),
        "met": everything,
        "met_error": share_error(round(everything * n), n),
        "met_interval": list(interval),
        "clip": float(scores.mean()),
        "clip_error": float(scores.std() / n**0.5),
        **motion,
    }
