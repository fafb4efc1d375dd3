"""Points over the exact density and score of a mixture: what pulls them, level by level."""

from collections.abc import Sequence
from typing import Any

import torch

from diffusion_lessons.course.widgets.panels import Points
from diffusion_lessons.mixtures import GaussianMixture
from diffusion_lessons.paths import Level


def landscape(
    mixture: GaussianMixture,
    levels: Sequence[Level],
    points: Any,
    span: float = 3.0,
    arrows: int = 11,
    cells: int = 56,
) -> Points:
    """A panel for `scrub`: frame i shows points[i] over the density of noisy data at levels[i].

    Each arrow is a step of σ²·∇ log p(x), to α times the mean of the data that x may have come from; all are
    shortened alike, so that the longest of a frame spans one cell of their grid.

    Args:
        mixture: in two dimensions.
        points: (N, n, 2), one entry for each level.
        span: the square from −span to span is shown.
        arrows: along each side; 0 for none.
        cells: of the density along each side.
    """
    frames = list(levels)
    if len(points) != len(frames):
        raise ValueError(f"expected points for each of {len(frames)} levels, got {len(points)}")
    dtype = mixture.means.dtype
    fine, coarse = _grid(cells, span, dtype), _grid(arrows, span, dtype)
    density = torch.stack([mixture.log_prob(fine, level).exp().view(cells, cells) for level in frames])
    moves = torch.stack([_moves(mixture, coarse, level, 2 * span / max(arrows, 1)) for level in frames])
    return Points(points, span, density=density, arrows=moves)


def _grid(n: int, span: float, dtype: torch.dtype) -> torch.Tensor:
    """(n², 2) the middles of n × n cells of the square, row by row from the top."""
    middles = (torch.arange(n, dtype=dtype) + 0.5) / max(n, 1) * 2 * span - span
    return torch.cartesian_prod(middles.flip(0), middles).flip(1)


def _moves(mixture: GaussianMixture, grid: torch.Tensor, level: Level, longest: float) -> torch.Tensor:
    """(m, 4) from (x, y) by (dx, dy): σ²·score is α·x̂₀ − x, which is 0 where there is no noise."""
    mean, _ = mixture.component_moments(grid, level)
    move = float(level.alpha) * (mixture.posterior(grid, level)[..., None] * mean).sum(1) - grid
    most = max([*move.norm(dim=1).tolist(), 1e-6])
    return torch.cat([grid, move * longest / most], 1)
