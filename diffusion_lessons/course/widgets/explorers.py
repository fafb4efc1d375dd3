"""Two explorers that lessons share: noise schedules on real pictures, and guidance by the scale."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import matplotlib.pyplot as plt
import torch
from torch import Tensor
from torch.nn import functional

from diffusion_lessons.conditions import Condition
from diffusion_lessons.course.widgets.captions import describe
from diffusion_lessons.course.widgets.controls import Live, live
from diffusion_lessons.course.widgets.figures import COLOURS, house_style
from diffusion_lessons.course.widgets.scrubber import Scrubber, scrub
from diffusion_lessons.denoiser import Denoiser, NetworkDenoiser
from diffusion_lessons.guidance import ClassifierFreeGuidance
from diffusion_lessons.paths import Level, NoisePath, add_noise
from diffusion_lessons.samplers import trajectory

DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1)))


def explore_schedules(
    x0: Tensor, paths: Mapping[str, NoisePath], noise: Tensor, fractions: Sequence[float] | None = None
) -> Live:
    """Choose a schedule and a time: where it stands on the curves, and what it leaves of some pictures.

    Args:
        x0: (B, C, H, W) pictures in [−1, 1]; the first four are shown.
        paths: the schedules by name, five at most.
        noise: same shape as x0: all schedules get the same noise.
        fractions: times as fractions of T, in (0, 1]; ten of them where left out.
    """
    if not 1 <= len(paths) <= len(DASHES):
        raise ValueError(f"expected 1 to {len(DASHES)} schedules, got {len(paths)}")
    times = list(fractions or [k / 10 for k in range(1, 11)])
    curves = {
        name: [path(f * path.T) for f in torch.linspace(0.01, 1, 100).tolist()]
        for name, path in paths.items()
    }

    def draw(schedule: str, t_over_T: float) -> Any:
        level = paths[schedule](t_over_T * paths[schedule].T)
        return _schedule_figure(curves, schedule, t_over_T, level, add_noise(x0[:4], noise[:4], level))

    def alt(schedule: str, t_over_T: float) -> str:
        caption = describe([paths[schedule](t_over_T * paths[schedule].T)])[0]
        return f"Signal and log-SNR over time for {', '.join(paths)}, and four pictures noised at {caption}."

    return live(draw, alt, start={"t_over_T": times[len(times) // 2]}, schedule=list(paths), t_over_T=times)


def explore_guidance(
    guided: NetworkDenoiser | Mapping[str, Callable[[float], Denoiser]],
    noise: Tensor,
    levels: list[Level],
    condition: Condition,
    scales: Sequence[float] = (0.0, 1.0, 2.0, 4.0, 8.0),
) -> Live:
    """Sample from the same noise at several guidance scales; the scrubber keeps its frame.

    Args:
        guided: a conditional denoiser with a null condition, for classifier-free guidance; or ways to
            guide by name, each a function scale -> denoiser: then there is a control for the way, too.
        noise: (B, C, H, W) at levels[0]; four samples are plenty, and eight are shown at most.
        levels: from `path.levels(n)`; ten steps of the bundled MNIST model take four samples half a second.
        condition: labels (B,) or a dict, as for the denoiser.
        scales: guidance scales; 1 is the plain conditional model.
    """

    def draw(way: Callable[[float], Denoiser], scale: float, name: str = "") -> Scrubber:
        return scrub(
            trajectory(way(scale), noise, levels, condition),
            alt=f"From noise to {len(noise)} samples at guidance scale {scale:g}{name}.",
            samples=min(len(noise), 8),
            start=-1,
        )

    start = {"scale": 1.0} if 1.0 in scales else None
    if not isinstance(guided, Mapping):
        return live(partial(draw, partial(ClassifierFreeGuidance, guided)), start=start, scale=list(scales))
    ways = dict(guided)
    if not ways:
        raise ValueError("expected at least one way to guide, got none")

    def draw_named(way: str, scale: float) -> Scrubber:
        return draw(ways[way], scale, f", {way}")

    return live(draw_named, start=start, way=list(ways), scale=list(scales))


def _schedule_figure(
    curves: Mapping[str, list[Level]], chosen: str, fraction: float, level: Level, pictures: Tensor
) -> Any:
    with plt.rc_context({**house_style(), "figure.constrained_layout.use": False}):  # fixed places: faster
        fig = plt.figure(figsize=(7.4, 4.3))
        left, right = fig.add_axes((0.08, 0.5, 0.38, 0.4)), fig.add_axes((0.58, 0.5, 0.4, 0.4))
        below = fig.add_axes((0.02, 0.0, 0.96, 0.36))
        for (name, points), colour, dash in zip(curves.items(), COLOURS, DASHES, strict=False):
            style: Any = dict(color=colour, linestyle=dash, marker="", label=name)
            style["lw"] = 2.6 if name == chosen else 1.2
            x = [k / len(points) for k in range(1, len(points) + 1)]
            left.plot(x, [float(point.alpha**2) for point in points], **style)
            right.plot(x, [float(point.log_snr) for point in points], **style)
        left.plot(fraction, float(level.alpha**2), "o", color="#D55E00", ms=9)
        right.plot(fraction, max(float(level.log_snr), -14.5), "o", color="#D55E00", ms=9)
        left.set(xlabel="t / T", ylabel="α² (signal)")
        right.set(xlabel="t / T", ylabel="log-SNR", ylim=(-15, 12))
        left.legend(fontsize=8)
        row = torch.cat([functional.pad(picture, (1, 1), value=1.0) for picture in pictures], dim=-1)
        pixels = ((row.clamp(-1, 1) + 1) / 2).permute(1, 2, 0).squeeze(-1).numpy()
        below.imshow(pixels, cmap="gray", vmin=0, vmax=1)
        below.axis("off")
        fig.suptitle(describe([level])[0], fontsize=11)
    return fig
