"""How well pictures go with their captions, by the angle between the two in the space of two towers."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusion_lessons.data.dataset import resize, to_float
from diffusion_lessons.data.tokenizer import Tokenizer
from diffusion_lessons.networks.clip import TwoTowers

WEIGHT = 2.5  # with which the scores of published towers and real captions lie about between 0 and 1
BATCH = 256  # pictures at a time


@torch.no_grad()
def clip_scores(towers: TwoTowers, tokenizer: Tokenizer, pictures: Tensor, captions: Sequence[str]) -> Tensor:
    """CLIPScore = 2.5·max(cos, 0) of each picture with its caption, (B,), from 0 to 2.5 (Hessel et al. 2021).

    Pictures are bytes (B, 3, S, S), brought to the size that the towers take. Scores of other towers are
    other figures: compare those of the same towers alone, and real pictures' as a yardstick beside them.
    Another number of captions is a ValueError.
    """
    if len(pictures) != len(captions):
        raise ValueError(f"{len(captions)} captions for {len(pictures)} pictures")
    device = towers.logit_scale.device
    x, tokens = resize(pictures, towers.vision.config.size), tokenizer(captions)["tokens"]
    scores = []
    for some, said in zip(x.split(BATCH), tokens.split(BATCH), strict=True):
        image, text = towers.vision(to_float(some.to(device))), towers.text(said.to(device)).projected
        scores.append(WEIGHT * F.cosine_similarity(image, text).clamp(min=0).cpu())
    return torch.cat(scores)
