"""How straight the ways of a flow are: straight ones can be walked in one step."""

from itertools import pairwise

import torch
from torch import Tensor

from diffusion_lessons.conditions import Condition
from diffusion_lessons.denoiser import Denoiser
from diffusion_lessons.paths import Level, StraightPath, cast
from diffusion_lessons.samplers import trajectory


def straightness(denoiser: Denoiser, x: Tensor, levels: list[Level], condition: Condition = None) -> Tensor:
    """∫|(x₁ − x₀) − v|² dt along each sample's way: (B,), 0 for a straight line at even speed.

    v = ε − x₀ is the slope on the way, x₁ the start x (B, ...), and x₀ where Euler steps along the levels
    lead it (Liu et al. 2023, section 2; S there is the mean). The levels are of `StraightPath`, from t = 1
    to 0, and many: a single step is straight, whatever the flow.
    """
    StraightPath.check(levels)
    points = list(trajectory(denoiser, x, levels, condition))
    chord = points[0][1] - points[-1][1]
    parts = [
        cast(now.t - next.t, x) * (chord - (estimate.eps - estimate.x0)) ** 2
        for (now, _, estimate), (next, _, _) in pairwise(points)
    ]
    return torch.stack(parts).sum(0).flatten(1).sum(1)
