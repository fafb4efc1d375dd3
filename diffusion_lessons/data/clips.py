"""Clips of scenes: one shape that moves in a straight line at one speed, with the motion in its caption.

    a small red circle moving left

A shape that comes to the edge of the picture stops there. As with pictures, whatever a clip shows is known
exactly.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from diffusion_lessons.data.captions import UNSIZED, Wish, captions, read
from diffusion_lessons.data.dataset import Rendered, Row
from diffusion_lessons.data.scenes import ONE, SIDE, SPLITS, Scenes, draw
from diffusion_lessons.data.shapes import RADII, REACH
from diffusion_lessons.data.tokenizer import Tokenizer

FRAMES = 8  # of a clip, unless told otherwise
LONGEST = 8  # frames in which every shape can move without coming to the edge
SPEED = 4.0  # of what moves, a frame, in units of scenes.SIDE
MOTIONS = ("left", "right", "up", "down")  # of the shape; y grows downwards
STILL = len(MOTIONS)  # the index of no motion
WAYS = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [0.0, -1.0], [0.0, 1.0], [0.0, 0.0]])  # x and y, by motion
OPPOSITE = (1, 0, 3, 2, STILL)  # of each motion
STILL_SHARE = 0.1  # of the clips
ROOM_SHARE = 0.75  # of the clips start where there is room for all of their way; the others anywhere
EDGE = 1.0  # between the edge of the picture and a shape, at least

_MOTION = 8  # the stream of random numbers that motion has to itself
_SAID = re.compile(
    r"[\s,]*\b(?:is |that is )?(?:moving|moves|going|goes)\s+(?:to the\s+)?"
    r"(left|right|up|down)(?:ward|wards)?\b[\s.]*$",
    re.IGNORECASE,
)
_MOVES = re.compile(r"\b(?:moving|moves|going|goes)\b", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Clips:
    """B clips: what the first frame of each shows, and how its one shape moves."""

    scenes: Scenes
    motion: Tensor  # int64 (B,), an index of MOTIONS, or STILL

    def __len__(self) -> int:
        return len(self.motion)

    def __getitem__(self, index: Tensor | slice) -> Self:
        return type(self)(self.scenes[index], self.motion[index])

    def places(self, frames: int = FRAMES) -> Tensor:
        """Where the shape is in each frame, float32 (B, frames, 2): x and y in units of SIDE."""
        reach = REACH * torch.tensor(RADII)[self.scenes.large[:, 0]]
        return path(self.scenes.place[:, 0], WAYS[self.motion], reach, frames)

    def render(self, size: int = 64, frames: int = FRAMES) -> Tensor:
        """The frames, uint8 (B, frames, 3, size, size)."""
        of = torch.arange(len(self)).repeat_interleave(frames)
        scenes = self.scenes[of]
        place = scenes.place.clone()
        place[:, 0] = self.places(frames).flatten(0, 1)
        return replace(scenes, place=place).render(size).unflatten(0, (-1, frames))

    def captions(self, seed: int, index: Tensor, unsized: float = UNSIZED) -> list[str]:
        """A caption for each clip, in the plain style, a function of the seed and its position alone."""
        texts = captions(self.scenes, seed, index, unsized=unsized)
        return [said(text, motion) for text, motion in zip(texts, self.motion.tolist(), strict=True)]


def path(start: Tensor, way: Tensor, reach: Tensor, frames: int) -> Tensor:
    """Places (B, frames, 2) of shapes that start at (B, 2), go `way` (B, 2) and reach so far (B,) around."""
    at = start[:, None] + SPEED * torch.arange(frames)[:, None] * way[:, None]
    edge = (EDGE + reach)[:, None, None]
    low, high = torch.minimum(edge, start[:, None]), torch.maximum(SIDE - edge, start[:, None])
    return torch.minimum(torch.maximum(at, low), high)


def draw_clips(seed: int, index: Tensor, split: str = "train", room: float = ROOM_SHARE) -> Clips:
    """The clips at positions (B,) of a split, each a function of the seed, the split and its position.

    Such a share of them starts where there is room for LONGEST frames of their motion.
    """
    scenes = draw(seed, index, split, form=ONE)
    stream = seed, _MOTION, SPLITS.index(split)
    chance = [np.random.default_rng((*stream, i)).random(5, np.float32) for i in index.tolist()]
    u = torch.from_numpy(np.stack(chance))
    motion = torch.where(u[:, 0] < STILL_SHARE, STILL, (4 * u[:, 1]).long())
    edge = EDGE + REACH * torch.tensor(RADII)[scenes.large[:, :1]]  # (B, 1)
    travel = SPEED * (LONGEST - 1) * (u[:, 2:3] < room)
    way = WAYS[motion]
    low = edge + travel * (way < 0)
    high = SIDE - edge - travel * (way > 0)
    place = scenes.place.clone()
    place[:, 0] = low + u[:, 3:] * (high - low)
    return Clips(replace(scenes, place=place), motion)


def clip_rows(
    tokenizer: Tokenizer, size: int = 64, frames: int = FRAMES, split: str = "train", seed: int = 0
) -> Rendered:
    """Clips without end, uint8 (frames, 3, size, size), with the condition that `clip_tokens` makes."""

    def render(seed: int, index: Tensor) -> Row:
        clips = draw_clips(seed, index, split)
        return clips.render(size, frames), clip_tokens(tokenizer, clips.captions(seed, index))

    return Rendered("clips", (frames, 3, size, size), render, seed)


# Captions ------------------------------------------------------------------------------------------


class Asked(NamedTuple):
    """The two parts of a clip's caption."""

    there: str  # what is to be seen, the caption of a picture
    motion: int  # how it moves, an index of MOTIONS, or STILL


def said(caption: str, motion: int) -> str:
    """The caption of a clip, from that of its first frame."""
    return caption if motion == STILL else f"{caption} moving {MOTIONS[motion]}"


def asked(caption: str) -> Asked:
    """What a clip's caption asks for; one that says nothing of motion asks for none."""
    found = _SAID.search(caption)
    if found is None:
        return Asked(caption, STILL)
    return Asked(caption[: found.start()], MOTIONS.index(found[1].lower()))


def read_clip(caption: str) -> Wish:
    """What a clip's caption says is there; what no caption of a clip says is a ValueError."""
    there = asked(caption).there
    if _MOVES.search(there):
        known = f"{', '.join(MOTIONS[:-1])} or {MOTIONS[-1]}"
        raise ValueError(f"{caption!r}: captions of clips end in 'moving' and one of {known}")
    wish = read(there)
    if sum(each.count for each in wish.objects) != 1:
        raise ValueError(f"{caption!r}: clips show one shape")
    return wish


def clip_tokens(tokenizer: Tokenizer, texts: Sequence[str]) -> dict[str, Tensor]:
    """The condition of clips: "tokens" and "mask" of what is there, "moving" those of all that is said."""
    parts = [asked(text) for text in texts]
    whole = [said(*each) for each in parts]
    return {**tokenizer([each.there for each in parts]), "moving": tokenizer(whole)["tokens"]}
