"""Solvers that choose their own steps: two answers from the same slopes tell how wrong a step is.

They walk the straight path, where the slope dx/dt = ε − x₀ is all that there is to ask for. A denoiser of
another path comes onto it by `OnPath`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from diffusion_lessons.conditions import Condition
from diffusion_lessons.denoiser import Denoiser
from diffusion_lessons.paths import Level, StraightPath
from diffusion_lessons.samplers import Point, ddim_step
from diffusion_lessons.support.errors import unknown
from diffusion_lessons.targets import FLOW, Estimate

Slope = Callable[[float, Tensor], tuple[Tensor, Estimate]]  # (t, x) -> dx/dt, and what it was made from
SAFETY, SLOWER, FASTER = 0.9, 0.2, 10.0  # of the next step's length, and how far it may change


@dataclass(frozen=True)
class RungeKutta:
    """A pair of Runge–Kutta formulas over the same slopes; the last slope is the first of the next step."""

    order: int  # of the answer that is kept
    nodes: tuple[float, ...]  # of the slopes after the first, as shares of the step
    rows: tuple[tuple[float, ...], ...]  # weights of the earlier slopes, to reach each node
    error: tuple[float, ...]  # weights of all slopes, whose sum is the difference of both answers


PAIRS = {
    "rk23": RungeKutta(  # Bogacki and Shampine 1989
        3, (1 / 2, 3 / 4, 1), ((1 / 2,), (0, 3 / 4), (2 / 9, 1 / 3, 4 / 9)), (5 / 72, -1 / 12, -1 / 9, 1 / 8)
    ),
    "rk45": RungeKutta(  # Dormand and Prince 1980, table 2: "dopri5"
        5,
        (1 / 5, 3 / 10, 4 / 5, 8 / 9, 1, 1),
        (
            (1 / 5,),
            (3 / 40, 9 / 40),
            (44 / 45, -56 / 15, 32 / 9),
            (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
            (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
            (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
        ),
        (-71 / 57600, 0, 71 / 16695, -71 / 1920, 17253 / 339200, -22 / 525, 1 / 40),
    ),
}


@torch.no_grad()
def adaptive(
    denoiser: Denoiser,
    x: Tensor,
    levels: list[Level],
    condition: Condition = None,
    method: str = "rk45",
    rtol: float = 1e-3,
    atol: float = 1e-3,
    least: float = 1e-3,
) -> Iterator[Point]:
    """From the first to the last of the straight path's levels, in steps of its own choice.

    Yields (level, x, estimate) at the start and after every step that was accepted. All samples of a batch
    take the same steps: root mean square of error/(atol + rtol·|x|) is at most 1 (Hairer, Nørsett and Wanner
    1993, II.4). From t = `least` on one Euler step leads to t = 0, where no network was trained.

    Args:
        x: (B, ...) at levels[0].
        levels: of `StraightPath`, one time for all samples; those in between are not visited.
        method: "rk45", six evaluations a step that is tried, or "rk23", three; two more find the first step.
        rtol, atol: tolerance of the error of a step, relative to x and absolute.
    """
    if method not in PAIRS:
        raise unknown("method", method, PAIRS)
    if not (rtol > 0 and atol > 0 and 0 < least < 1):
        raise ValueError(f"tolerances and `least` must lie above 0, got {rtol=}, {atol=}, {least=}")
    t, last = _ends(levels)
    path, pair, end = StraightPath(), PAIRS[method], max(last, least)

    def slope(t: float, x: Tensor) -> tuple[Tensor, Estimate]:
        level = path(t)
        estimate = denoiser(x, level, condition)
        slope = FLOW.of(*estimate, level)
        if not bool(slope.isfinite().all()):
            raise ValueError(f"the denoiser's answer at t = {t:.3g} is not finite: {method} cannot go on")
        return slope, estimate

    first, estimate = slope(t, x)
    yield path(t), x, estimate
    length = _first_length(slope, t, end, x, first, pair.order, rtol, atol) if t > end else 0.0
    while t > end:
        most = FASTER
        while True:
            then = max(t - length, end)
            reached, slope_there, error, estimate = _tried(slope, pair, t, then, x, first)
            size = _norm(error, torch.maximum(x.abs(), reached.abs()), rtol, atol)
            change = SAFETY * size ** (-1 / pair.order) if size > 0 else FASTER
            if size < 1:
                break
            most, length = 1.0, (t - then) * max(SLOWER, change)
            if length < 1e-12:
                raise ValueError(f"no step from t = {t:.3g} is short enough for {rtol=} and {atol=}")
        length = (t - then) * min(most, change)
        t, x, first = then, reached, slope_there
        yield path(t), x, estimate
    if last < t:
        yield path(last), ddim_step(x, estimate, path(t), path(last)), estimate


def _tried(
    slope: Slope, pair: RungeKutta, t: float, then: float, x: Tensor, first: Tensor
) -> tuple[Tensor, Tensor, Tensor, Estimate]:
    """A step from t to `then`: x there, the slope there, the error, and the last estimate."""
    h, slopes = then - t, [first]
    for node, row in zip(pair.nodes, pair.rows, strict=True):
        reached = x + h * _weighted(row, slopes)
        last, estimate = slope(then if node == 1 else t + node * h, reached)
        slopes.append(last)
    return reached, last, h * _weighted(pair.error, slopes), estimate


def _weighted(weights: tuple[float, ...], slopes: list[Tensor]) -> Tensor:
    return torch.stack([w * each for w, each in zip(weights, slopes, strict=True) if w]).sum(0)


def _norm(x: Tensor, size: Tensor, rtol: float, atol: float) -> float:
    """Root mean square of x (B, ...) in units of the tolerance at a size like x; 0 for no samples."""
    return float((x / (atol + rtol * size)).double().square().mean().sqrt()) if x.numel() else 0.0


def _first_length(
    slope: Slope, t: float, end: float, x: Tensor, first: Tensor, order: int, rtol: float, atol: float
) -> float:
    """Hairer, Nørsett and Wanner 1993, II.4: from the size of x, of its slope and of the slope's change."""

    def norm(each: Tensor) -> float:
        return _norm(each, x.abs(), rtol, atol)

    size, steepness = norm(x), norm(first)
    guess = min(1e-6 if size < 1e-5 or steepness < 1e-5 else 0.01 * size / steepness, t - end)
    bend = norm(slope(t - guess, x - guess * first)[0] - first) / guess
    steepest = max(steepness, bend)
    short = max(1e-6, guess * 1e-3) if steepest <= 1e-15 else (0.01 / steepest) ** (1 / order)
    return min(100 * guess, short, t - end)


def _ends(levels: list[Level]) -> tuple[float, float]:
    """The first and the last time, if the levels fall along the straight path."""
    if len(levels) < 2:
        raise ValueError(
            f"an adaptive solver needs two levels, got {len(levels)}: use StraightPath().levels(1)"
        )
    if any(level.t.ndim for level in levels):
        raise ValueError("an adaptive solver takes the same steps for all samples: give one time for all")
    StraightPath.check(levels)
    start, end = float(levels[0].t), float(levels[-1].t)
    if not start > end:
        raise ValueError(f"the levels must fall, from noise to data, got t = {start:g} to {end:g}")
    return start, end
