"""Whether a clip shows what its caption asks for: its object followed by the reader."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan, sqrt

import torch
from torch import Tensor

from diffusion_lessons.data.captions import SIZES, read
from diffusion_lessons.data.clips import SPEED, WAYS, asked, path
from diffusion_lessons.data.shapes import RADII, REACH
from diffusion_lessons.metrics.captions_met import met
from diffusion_lessons.metrics.intervals import wilson_interval
from diffusion_lessons.metrics.reader import Seen, read_scenes

NEAR = 0.25  # share of a moving object's whole way by which its last place may be off


@dataclass(frozen=True)
class Moved:
    """What of a caption a clip meets, and how evenly its object moves."""

    readable: bool  # the reader sees one object in every frame
    there: bool  # the first frame shows what the caption says is there
    kept: bool  # the object has one colour, shape and size throughout
    motion: bool  # it ends where it should, seen from where it starts
    error: float | None  # distance from where it should be, mean over the later frames, in units of SIDE
    jitter: float | None  # change of its step from frame to frame, root of the mean square, same units

    @property
    def everything(self) -> bool:
        return self.there and self.kept and self.motion


def track(frames: Tensor) -> list[Seen | None]:
    """The object of each frame, bytes (F, 3, S, S); None where the reader does not see one and only one."""
    return [seen[0] if seen is not None and len(seen) == 1 else None for seen in read_scenes(frames)]


def moved(caption: str, frames: Tensor) -> Moved:
    """How a clip, bytes (F, 3, S, S), meets its caption. A clip of fewer than 3 frames is a ValueError."""
    if frames.ndim != 4 or len(frames) < 3:
        raise ValueError(
            f"motion is seen in clips (F, 3, S, S) of 3 frames or more, got {tuple(frames.shape)}"
        )
    there, motion = asked(caption)
    objects = track(frames)
    first = objects[0]
    right = first is not None and met(read(there), (first,)).everything
    if first is None or None in objects:
        return Moved(False, right, False, False, None, None)
    seen = [each for each in objects if each is not None]
    kept = len({(each.shape, each.colour, each.size) for each in seen}) == 1
    at = torch.tensor([[each.x, each.y] for each in seen])  # (F, 2)
    off = _off(at, motion, first.size)
    whole = SPEED * (len(at) - 1)
    jitter = at.diff(dim=0).diff(dim=0).norm(dim=1).square().mean().sqrt()
    return Moved(True, right, kept, bool(off[-1] <= NEAR * whole), float(off[1:].mean()), float(jitter))


def _off(at: Tensor, motion: int, size: str) -> Tensor:
    """How far places (F, 2) lie from where an object that starts at the first should be: (F,)."""
    reach = torch.tensor([REACH * RADII[SIZES.index(size)]])
    return (at - path(at[:1], WAYS[motion][None], reach, len(at))[0]).norm(dim=1)


def drift(clips: Tensor, captions: Sequence[str]) -> list[tuple[int, float, float]]:
    """For each frame of clips, bytes (B, F, 3, S, S): how many are readable up to it, and how far off they
    are.

    That is the mean distance of the object from where it should be, seen from the first frame, with its
    standard error, in units of SIDE; NaN where too few are readable. The longer a model goes on from its own
    frames, the more of them are off or cannot be read.
    """
    if len(clips) != len(captions):
        raise ValueError(f"{len(captions)} captions for {len(clips)} clips")
    off = torch.full(clips.shape[:2], nan, dtype=torch.float64)
    for row, (text, clip) in enumerate(zip(captions, clips, strict=True)):
        objects = track(clip)
        seen = [each for each in objects[: (objects + [None]).index(None)] if each is not None]
        if seen:
            at = torch.tensor([[each.x, each.y] for each in seen])
            off[row, : len(seen)] = _off(at, asked(text).motion, seen[0].size).double()
    rows = [column[~column.isnan()] for column in off.unbind(1)]
    return [
        (len(each), float(each.mean()), float(each.std()) / sqrt(len(each)) if len(each) > 1 else nan)
        for each in rows
    ]


def clips_met(clips: Tensor, captions: Sequence[str]) -> dict[str, tuple[float, tuple[float, float]]]:
    """What clips, bytes (B, F, 3, S, S), meet of their captions.

    Of each attribute of `Moved`, and of "everything", the share with its 95 % interval; "error" and "jitter"
    are means over the readable clips, with two standard errors to each side, NaN where none is readable.
    Another number of captions is a ValueError.
    """
    if len(clips) != len(captions) or len(clips) == 0:
        raise ValueError(f"{len(captions)} captions for {len(clips)} clips")
    rows = [moved(text, clip) for text, clip in zip(captions, clips, strict=True)]
    found = {}
    for name in ("readable", "there", "kept", "motion", "everything"):
        count = sum(getattr(row, name) for row in rows)
        found[name] = count / len(rows), wilson_interval(count, len(rows))
    for name in ("error", "jitter"):
        values = torch.tensor([getattr(row, name) for row in rows if row.readable], dtype=torch.float64)
        mean = float(values.mean())
        spread = 2 * float(values.std()) / sqrt(len(values)) if len(values) > 1 else nan
        found[name] = mean, (mean - spread, mean + spread)
    return found
