"""Clips drawn by `scenes-video`, with its layers over time and without (lesson 14).

n captions of the split "test" ask for a shape that moves, from a place with room for all of its way. The
ways:

- "apart": every frame is drawn by itself after the caption, without the layers over time;
- "held": a rendered first frame is shown again and again: what a clip is worth that does not move;
- "goes on": from a rendered first frame, one frame at a time, behind as many as the window has room for;
- "together": the same, as many frames at a time as the window has beside one before;
- "from text": the first frame is drawn after the caption, too, with the picture network's own guidance;
- "rendered": true clips, what the reader finds at best.

A row holds the shares of clips that meet their caption, with 95 % intervals (Wilson), and the mean error and
jitter, in pixels of 64, with two standard errors to each side: these are over clips that are readable.
"drift" has, for each frame, how many clips are readable up to it, and how far their object is from where it
should be, with one standard error. The intervals cover the clips, and no other training. Frames that go on
are drawn in 8 steps without guidance, frames apart as the model is usually drawn. All rows take about half
an hour on one core.
"""

from dataclasses import replace
from typing import Any

from diffusion_lessons import zoo
from diffusion_lessons.checkpoint import Checkpoint
from diffusion_lessons.data.clips import FRAMES
from diffusion_lessons.data.dataset import to_uint8
from diffusion_lessons.experiments import Experiment, Row
from diffusion_lessons.filming import clips_of, true_clips
from diffusion_lessons.metrics.motion import clips_met, drift
from diffusion_lessons.support.machine import choose_device

STEPS, LONG = 8, 16  # of a frame that goes on; frames of a long clip
KINDS = {
    "apart": "frames apart",
    "held": "one frame held",
    "goes on": "from a first frame",
    "together": "from a first frame",
    "from text": "from the caption",
    "rendered": "rendered",
}  # way -> what `clips_of` calls it


def settings(options: Row) -> list[Row]:
    rows = [("rendered", 4, FRAMES), ("held", 4, FRAMES), ("together", 4, FRAMES), ("goes on", 2, FRAMES)]
    rows += [("goes on", 4, FRAMES), ("apart", 4, FRAMES), ("from text", 4, FRAMES), ("goes on", 4, LONG)]
    return [dict(zip(("way", "window", "frames"), row, strict=True)) for row in rows]


def prepare(options: Row) -> Checkpoint:
    return zoo.load("scenes-video").on(choose_device(options["device"]))


def measure(model: Checkpoint, row: Row, options: Row) -> Row:
    window, way, n, frames = row["window"], row["way"], options["n"], row["frames"]
    model = replace(model, shape=(window, *model.shape[1:]))
    how: dict[str, Any] = {"seed": options["seed"], "device": choose_device(options["device"])}
    if way != "apart":
        how |= {"guidance": 1.0, "steps": STEPS, "together": window - 1 if way == "together" else 1}
    true, texts = true_clips(n, frames)
    clips = to_uint8(clips_of(KINDS[way], model, true, texts, **how).clamp(-1, 1))
    met = clips_met(clips, texts)
    figures = {
        what: None if mean != mean else [round(each, 4) for each in (mean, *ends)]
        for what, (mean, ends) in met.items()
    }  # what no clip shows is NaN
    return {
        "n": n,
        "moves": met["motion"][0],
        "met": figures,
        "drift": [[count, *(round(each, 4) for each in rest)] for count, *rest in drift(clips, texts)],
    }


COLUMNS = "way window frames n moves"
EXPERIMENT = Experiment(__name__, __doc__, COLUMNS, settings, prepare, measure)
