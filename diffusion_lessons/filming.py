"""Models of clips measured: clips drawn after captions, and beside them clips without layers over time."""

from typing import Any

import torch
from torch import Tensor

from diffusion_lessons.checkpoint import Checkpoint
from diffusion_lessons.clips import film
from diffusion_lessons.data.clips import FRAMES, STILL, Clips, draw_clips
from diffusion_lessons.data.dataset import as_float, to_uint8
from diffusion_lessons.metrics.motion import clips_met
from diffusion_lessons.support.errors import unknown

KINDS = ("from the caption", "from a first frame", "frames apart", "one frame held", "rendered")
SIDE = 64  # of what is drawn, in pixels

Met = dict[str, tuple[float, tuple[float, float]]]


def asked_clips(n: int, split: str = "test") -> tuple[Clips, list[str]]:
    """The n moving clips that models are measured on, with room for all of their way, and their captions."""
    index = torch.arange(2 * n)
    clips = draw_clips(0, index, split, room=1.0)
    kept = index[clips.motion != STILL][:n]
    clips = clips[kept]
    return clips, clips.captions(0, kept, unsized=0)


def true_clips(n: int, frames: int = FRAMES) -> tuple[Tensor, list[str]]:
    """The clips of `asked_clips`, (n, frames, 3, SIDE, SIDE), and their captions."""
    clips, texts = asked_clips(n)
    return as_float(clips.render(SIDE, frames)), texts


def clips_measured(
    model: Checkpoint, n: int, kinds: tuple[str, ...] = KINDS, frames: int = FRAMES, **how: Any
) -> dict[str, Met]:
    """{kind: what `clips_met` finds} in n clips of each kind; how: `film`'s.

    The clips are drawn from captions alone, or go on from a rendered first frame. Beside them stand what
    needs no layers over time: frames drawn apart after one caption, and a first frame that is held.
    "rendered" is what the reader finds in true clips. A guidance is that of frames which go on: those that
    are drawn from the caption alone have the model's own.
    """
    if n < 2:
        raise ValueError(f"n = {n} is too few: clips move as asked or not, take 2 or more")
    true, texts = true_clips(n, frames)
    drawn = {kind: clips_of(kind, model, true, texts, **how) for kind in kinds}
    return {kind: clips_met(to_uint8(each.clamp(-1, 1)), texts) for kind, each in drawn.items()}


def clips_of(kind: str, model: Checkpoint, true: Tensor, texts: list[str], **how: Any) -> Tensor:
    """Clips of one of `KINDS`, like the true ones (n, frames, 3, S, S), for their captions."""
    if kind not in KINDS:
        raise unknown("kind of clips", kind, KINDS)
    n, frames = true.shape[:2]
    if kind == "rendered":
        return true
    if kind == "one frame held":
        return true[:, :1].expand_as(true)
    alone = {name: value for name, value in how.items() if name not in ("guidance", "together")}
    if kind == "frames apart":
        every = model.prompts([text for text in texts for _ in range(frames)])
        return film(model, every, 1, **alone).unflatten(0, (n, frames))[:, :, 0]
    told = model.prompts(texts)
    first = film(model, told, 1, **alone) if kind == "from the caption" else true
    return film(model, told, frames, first=first[:, 0], **how)


def plainly(measured: dict[str, Met], n: int) -> dict[str, Any]:
    """The same as plain values; what no clip shows is None."""
    return {
        "n": n,
        **{
            kind: {
                what: {"value": mean, "interval": list(ends)} if mean == mean else None  # not NaN
                for what, (mean, ends) in met.items()
            }
            for kind, met in measured.items()
        },
    }


def words_of(measured: dict[str, Met]) -> str:
    """The figures as a table."""
    lines = ["".join([f"{'':20}", *(what.rjust(12) for what in next(iter(measured.values())))])]
    for kind, met in measured.items():
        lines.append(f"  {kind:18}" + "".join(f"{mean:12.3f}" for mean, _ in met.values()))
    return "\n".join(lines)
