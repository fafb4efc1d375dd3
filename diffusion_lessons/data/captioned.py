"""Scenes with their captions as rows to train on: tokens beside pictures."""

from collections.abc import Collection, Sequence

import numpy as np
import torch
from torch import Tensor

from diffusion_lessons.data.captions import UNSIZED, captions, phrase, read, wrong
from diffusion_lessons.data.dataset import Rendered, Row
from diffusion_lessons.data.scenes import HELD_OUT, Scenes, draw
from diffusion_lessons.data.tokenizer import Tokenizer

TOKENS, CONTEXT = 768, 24  # at most, and of a caption; every word of the captions becomes one token
ABOUT, ALL = 0.6, 0.1  # shares of the holes about an object, and of those that are the whole picture
READ = 4096  # captions that the tokenizer learns from
WRONG, HOLE = 5, 6  # random numbers of a row: a stream for each use


def scene_tokenizer() -> Tokenizer:
    """The tokenizer of the bundled models, learnt from captions of scenes."""
    index = torch.arange(READ)
    return Tokenizer.train(captions(draw(0, index), 0, index, "free"), TOKENS, CONTEXT)


def scene_rows(
    tokenizer: Tokenizer,
    size: int = 64,
    split: str = "train",
    style: str = "plain",
    seed: int = 0,
    wrongs: Sequence[str] = (),
    holes: bool = False,
    form: int | None = None,
) -> Rendered:
    """Scenes without end, uint8 (3, size, size), with "tokens" (context,) and "mask".

    With wrongs, of `captions.WRONGS`, a row also has "wrong" (len(wrongs), context): the tokens of captions
    that are wrong in one thing each. Where a scene has no such thing, its colour is wrong. Those of "train"
    name no held-out pair: since that would be wrong each time, such pairs would be learnt never to be there.
    With holes it has a "hole" (1, size, size), True where to paint: about an object, or anywhere. Where a
    form is given, all scenes are of it.
    """
    hidden = HELD_OUT if split == "train" else ()

    def render(seed: int, index: Tensor) -> Row:
        scenes = draw(seed, index, split, form)
        texts = captions(scenes, seed, index, style, UNSIZED)
        told = tokenizer(texts)
        if wrongs:
            others = [
                _others(text, wrongs, hidden, style, i, np.random.default_rng((seed, WRONG, i)))
                for text, i in zip(texts, index.tolist(), strict=True)
            ]
            told["wrong"] = torch.stack([tokenizer(each)["tokens"] for each in others])
        if holes:
            told["hole"] = _holes(scenes, size, seed, index)
        return scenes.render(size), told

    return Rendered("scenes", (3, size, size), render, seed)


def _others(
    text: str,
    wrongs: Sequence[str],
    hidden: Collection[tuple[str, str]],
    style: str,
    i: int,
    chance: np.random.Generator,
) -> list[str]:
    """Wrong captions in the style of the right one: how a caption is worded tells nothing."""
    wish = read(text)
    found = [wrong(wish, what, chance, hidden) or wrong(wish, "colour", chance, hidden) for what in wrongs]
    return [phrase(each or wish, style, i, chance) for each in found]


def _holes(scenes: Scenes, size: int, seed: int, index: Tensor) -> Tensor:
    """A hole for each scene, bool (B, 1, size, size): a box about an object, any box, or everything."""
    holes = torch.zeros(len(scenes), 1, size, size, dtype=torch.bool)
    for hole, masks, present, i in zip(
        holes, scenes.masks(size), scenes.present.tolist(), index.tolist(), strict=True
    ):
        chance = np.random.default_rng((seed, HOLE, i))
        kind = chance.random()
        low, high = np.sort(chance.integers(0, size + 1, (2, 2)), axis=0)  # y and x of a box's corners
        if kind < ABOUT:
            hole[0] = hole_of(masks[chance.integers(sum(present))], int(chance.integers(1, 1 + size // 8)))
        elif kind > 1 - ALL:
            hole[:] = True
        else:
            hole[:, low[0] : high[0], low[1] : high[1]] = True
    return holes


def hole_of(mask: Tensor, margin: int) -> Tensor:
    """A box about what a mask (H, W) shows, so many pixels wider to each side: bool (H, W)."""
    seen = mask.nonzero()
    top, left = (seen.amin(0) - margin).clamp(min=0).tolist()
    bottom, right = (seen.amax(0) + margin + 1).tolist()
    hole = torch.zeros_like(mask, dtype=torch.bool)
    hole[top:bottom, left:right] = True
    return hole
