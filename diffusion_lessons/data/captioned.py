"""Scenes with their captions as rows to train on: tokens beside pictures."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from diffusion_lessons.data.captions import UNSIZED, WRONGS, captions, plain, read, wrong
from diffusion_lessons.data.dataset import Rendered, Row
from diffusion_lessons.data.scenes import draw
from diffusion_lessons.data.tokenizer import Tokenizer


def scene_rows(
    tokenizer: Tokenizer,
    size: int = 64,
    split: str = "train",
    style: str = "plain",
    seed: int = 0,
    wrongs: Sequence[str] = (),
) -> Rendered:
    """Scenes without end, uint8 (3, size, size), with "tokens" (context,) and "mask".

    With wrongs, of `captions.WRONGS`, a row also has "wrong" (len(wrongs), context): the tokens of captions
    that are wrong in one thing each. Where a scene has no such thing, its colour is wrong.
    """

    def render(seed: int, index: Tensor) -> Row:
        scenes = draw(seed, index, split)
        texts = captions(scenes, seed, index, style, UNSIZED)
        told = tokenizer(texts)
        if wrongs:
            chances = (np.random.default_rng((seed, len(WRONGS), i)) for i in index.tolist())
            others = [_others(text, wrongs, chance) for text, chance in zip(texts, chances, strict=False)]
            told["wrong"] = torch.stack([tokenizer(each)["tokens"] for each in others])
        return scenes.render(size), told

    return Rendered("scenes", (3, size, size), render, seed)


def _others(text: str, wrongs: Sequence[str], chance: np.random.Generator) -> list[str]:
    wish = read(text)
    found = [wrong(wish, what, chance) or wrong(wish, "colour", chance) for what in wrongs]
    return [plain(each or wish) for each in found]
