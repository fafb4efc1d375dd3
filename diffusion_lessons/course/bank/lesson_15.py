"""Lesson 15, inpainting: what is known put back, or into the guess; seams; RePaint; nine channels."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from operator import index
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from diffusion_lessons import samplers
from diffusion_lessons.course.bank import figures
from diffusion_lessons.course.bank.inputs import blobs, data, gaussian, normal, number, whole
from diffusion_lessons.course.exercises.exercise import Case, Exercise, Misconception
from diffusion_lessons.denoiser import Denoiser
from diffusion_lessons.guidance import Inpaint
from diffusion_lessons.metrics.seam import seam
from diffusion_lessons.paths import Level, add_noise
from diffusion_lessons.samplers import ddpm_step, sample, there_and_back
from diffusion_lessons.targets import Estimate
from diffusion_lessons.training.recipe import PATHS

Make = Callable[[torch.Generator], dict[str, Any]]


def _box(g: torch.Generator, batch: int, height: int, width: int) -> Tensor:
    """(B, 1, H, W) a box of ones in each, away from the border of the picture."""
    mask = torch.zeros(batch, 1, height, width)
    for each in mask:
        top, left = whole(g, 1, height // 2 - 1), whole(g, 1, width // 2 - 1)
        bottom, right = whole(g, height // 2 + 1, height - 1), whole(g, width // 2 + 1, width - 1)
        each[:, top:bottom, left:right] = 1
    return mask


# 15.1 What is known, at the right level -------------------------------------------------------------


def replace_known(x: Tensor, known: Tensor, mask: Tensor, noise: Tensor, level: Level) -> Tensor:
    """Lugmayr et al. 2022, eq. 8: x where painted, what is known at the level of x elsewhere."""
    return torch.lerp(add_noise(known, noise, level), x, mask)


def _at_a_time(
    answer: Callable[..., Any], path: str, t: float, x: Tensor, known: Tensor, mask: Tensor, noise: Tensor
) -> Any:
    return answer(x, known, mask, noise, PATHS[path]()(t))


def _replaced(
    noised: Callable[[Tensor, Tensor, Level], Tensor] = add_noise,
    weight: Callable[[Tensor], Tensor] = lambda mask: mask,
) -> Callable[..., Tensor]:
    """The replacement in plain steps, with a place for each slip."""

    def answer(x: Tensor, known: Tensor, mask: Tensor, noise: Tensor, level: Level) -> Tensor:
        m = weight(mask)
        return m * x + (1 - m) * noised(known, noise, level)

    return answer


def _noised_by_roots(known: Tensor, noise: Tensor, level: Level) -> Tensor:
    return level.alpha.sqrt() * known + (1 - level.alpha).sqrt() * noise


def _noised_on_one_path(known: Tensor, noise: Tensor, level: Level) -> Tensor:
    return level.alpha * known + (1 - level.alpha**2).sqrt() * noise


def _replaced_where(x: Tensor, known: Tensor, mask: Tensor, noise: Tensor, level: Level) -> Tensor:
    there = float(level.alpha) * known + float(level.sigma) * noise
    return there + mask * (x - there)


def _picture_with_hole(
    path: str, times: tuple[float, float], *shape: int, hole: tuple[float, float] | None = None
) -> Make:
    """A noisy picture, another that is known, noise and a mask: boxes, or numbers between two bounds."""

    def make(g: torch.Generator) -> dict[str, Any]:
        mask = _box(g, shape[0], *shape[2:])
        if hole is not None:  # a soft edge
            low, high = hole
            mask = low + (high - low) * torch.rand(mask.shape, generator=g)
        return {
            "path": path,
            "t": number(g, *times),
            "x": normal(g, *shape),
            "known": 1.5 * data(g, *shape),  # latents go beyond ±1
            "mask": mask,
            "noise": normal(g, *shape),
        }

    return make


def _replace_figure(reference: Callable[..., Tensor]) -> Any:
    three = figures.digits(4)[3:4]
    mask = torch.zeros_like(three)
    mask[:, :, 8:] = 1
    shown = [
        reference(torch.zeros_like(three), three, mask, figures.noise(1, 1, 16, 16), PATHS["cosine"]()(t))[0]
        for t in (800.0, 500.0, 200.0, 0.0)
    ]
    return figures.strip(shown, ["t = 800", "t = 500", "t = 200", "t = 0"])


REPLACE = Exercise(
    id="15.1",
    name="replace_known",
    title="What is known, at the right level",
    kind="reproduce",
    difficulty=1,
    minutes=8,
    reference=replace_known,
    call=_at_a_time,
    cases=[
        Case("three pictures, each with its own hole", _picture_with_hole("cosine", (400, 600), 3, 1, 8, 6)),
        Case("latents of four channels, much noise", _picture_with_hole("linear", (700, 900), 2, 4, 6, 8)),
        Case("a straight path, where α + σ = 1", _picture_with_hole("straight", (0.3, 0.6), 2, 3, 6, 7)),
        Case(
            "a mask with a soft edge", _picture_with_hole("cosine", (300, 500), 2, 1, 6, 6, hole=(0.1, 0.9))
        ),
        Case("t = 0: nothing is noisy any more", _picture_with_hole("cosine", (0, 0), 2, 1, 7, 6)),
    ],
    misconceptions=[
        Misconception(
            "mask-turned-round",
            _replaced(weight=lambda mask: 1 - mask),
            "You kept x where the picture is known, and put what is known into the hole. The mask is 1 where "
            "to paint: x belongs there.",
            about="swap",
        ),
        Misconception(
            "known-left-clean",
            _replaced(noised=lambda known, noise, level: known),
            "You put the clean picture beside noisy pixels. The network has never seen such a picture: bring "
            "what is known to the level of x, α·known + σ·noise.",
            about="level",
        ),
        Misconception(
            "variance-for-std",
            _replaced(noised=lambda known, noise, level: level.alpha * known + level.sigma**2 * noise),
            "You multiplied the noise by σ². It is a standard deviation that belongs there: σ.",
            about="root",
        ),
        Misconception(
            "signal-not-scaled",
            _replaced(noised=lambda known, noise, level: known + level.sigma * noise),
            "You added noise and left the picture at full strength. At this level it is α times as strong.",
            about="missing",
        ),
        Misconception(
            "noise-alone",
            _replaced(noised=lambda known, noise, level: level.sigma * noise),
            "What is known is not in your answer: only its noise. The picture comes in with α.",
            about="missing",
        ),
        Misconception(
            "without-noise",
            _replaced(noised=lambda known, noise, level: level.alpha * known),
            "You scaled the picture and added no noise. At this level it has noise with the standard "
            "deviation σ.",
            about="missing",
        ),
        Misconception(
            "noise-in-the-hole-too",
            lambda x, known, mask, noise, level: (
                mask * x + (1 - mask) * level.alpha * known + level.sigma * noise
            ),
            "You added the noise everywhere. In the hole x has noise of its own already: only what is known "
            "gets some.",
            about="extra",
        ),
        Misconception(
            "noised-after-the-mix",
            lambda x, known, mask, noise, level: add_noise(mask * x + (1 - mask) * known, noise, level),
            "You put the two together and noised all of it. x is noisy already: only what is known is "
            "brought to its level.",
            about="order",
        ),
        Misconception(
            "added-on-top",
            lambda x, known, mask, noise, level: x + (1 - mask) * add_noise(known, noise, level),
            "You added what is known to x. It takes the place of x there: x is multiplied by the mask.",
            about="missing",
        ),
        Misconception(
            "hole-left-black",
            lambda x, known, mask, noise, level: (1 - mask) * add_noise(known, noise, level),
            "Your hole is empty. There x stays as it was: add mask · x.",
            about="missing",
        ),
        Misconception(
            "mask-as-truth",
            _replaced(weight=lambda mask: mask.bool().float()),
            "You took all of a soft edge for hole: as a bool, 0.1 is true. Between 0 and 1 the mask mixes "
            "the two: mask · x + (1 − mask) · known.",
            about="extra",
        ),
        Misconception(
            "mask-cut-at-a-half",
            _replaced(weight=lambda mask: (mask > 0.5).float()),
            "You cut the mask at 0.5. Between 0 and 1 it mixes the two: mask · x + (1 − mask) · known.",
            about="extra",
        ),
        Misconception(
            "roots-of-alpha",
            _replaced(noised=_noised_by_roots),
            "You took roots of α and of 1 − α. That is right for ᾱ; a level's alpha and sigma are what "
            "multiplies picture and noise, as they are.",
            about="root",
        ),
        Misconception(
            "rest-of-alpha",
            _replaced(noised=lambda known, noise, level: level.alpha * known + (1 - level.alpha) * noise),
            "You took 1 − α for the noise. That is σ on a straight path alone: the level has its sigma.",
            about="formula",
        ),
        Misconception(
            "one-path-alone",
            _replaced(noised=_noised_on_one_path),
            "You took √(1 − α²) for the noise. That holds where α² + σ² = 1, and not on a straight path: the "
            "level has its sigma.",
            about="formula",
        ),
        Misconception(
            "soft-edge-kept",
            _replaced(weight=lambda mask: (mask == 1).float()),
            "You took all of a soft edge for known. Between 0 and 1 the mask mixes the two: mask · x + (1 − "
            "mask) · known.",
            about="extra",
        ),
    ],
    alternatives=[_replaced(), _replaced_where],
    hints=(
        "Two pictures are put together. Both have to be at the same level of noise, or the network sees "
        "something that training never showed.",
        "m·x + (1 − m)·(α·known + σ·noise).",
        "`there = level.alpha * known + level.sigma * noise`, then a mix with `mask` as the weight of x.",
    ),
    figure=_replace_figure,
    figure_alt="The upper half of a 3 at four times, above an empty lower half: noise at t = 800, a clean "
    "half 3 at t = 0.",
)


# 15.2 What is known, in the guess (debug) ------------------------------------------------------------


def keep_in_guess(denoiser: Denoiser, x: Tensor, level: Level, known: Tensor, mask: Tensor) -> Any:
    """`Inpaint` as one function, of a denoiser of x and level alone."""
    return Inpaint(lambda x, level, condition=None: denoiser(x, level), known, mask)(x, level)


def _guessing(
    answer: Callable[..., Any],
    path: str,
    t: float,
    x: Tensor,
    known: Tensor,
    mask: Tensor,
    mean: float,
    spread: float,
) -> Any:
    made = answer(gaussian(mean, spread), x, PATHS[path]()(t), known, mask)
    if made is None:
        return None  # nothing was returned: the judge says so
    if not isinstance(made, tuple | list) or len(made) != 2:
        several = f"{len(made)} results" if isinstance(made, tuple | list) else f"one {type(made).__name__}"
        raise ValueError(f"the guess is a pair (x0, eps); you returned {several}")
    return {"x0": made[0], "eps": made[1]}


def _kept(
    mix: Callable[[Tensor, Tensor, Tensor], Tensor] = lambda x0, known, mask: mask * x0 + (1 - mask) * known,
    solve: Callable[..., Tensor] = lambda x, level, x0, eps: (x - level.alpha * x0) / level.sigma,
    asked: Callable[..., Tensor] = lambda x, level, known, mask: x,
) -> Callable[..., Any]:
    """The guess in plain steps, with a place for each slip."""

    def answer(denoiser: Denoiser, x: Tensor, level: Level, known: Tensor, mask: Tensor) -> Any:
        x0, eps = denoiser(asked(x, level, known, mask), level)
        x0 = mix(x0, known, mask)
        return x0, solve(x, level, x0, eps)

    return answer


def _noised_in_the_guess(
    denoiser: Denoiser, x: Tensor, level: Level, known: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    alpha, sigma = level.like(x)
    x0 = mask * denoiser(x, level)[0] + (1 - mask) * alpha * known
    return x0, (x - alpha * x0) / sigma


def _sample_in_the_guess(
    denoiser: Denoiser, x: Tensor, level: Level, known: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    alpha, sigma = level.like(x)
    x0 = mask * x + (1 - mask) * known
    return x0, (x - alpha * x0) / sigma


def _no_noise_where_known(
    denoiser: Denoiser, x: Tensor, level: Level, known: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    x0, eps = denoiser(x, level)
    return mask * x0 + (1 - mask) * known, mask * eps


def _kept_by_differences(
    denoiser: Denoiser, x: Tensor, level: Level, known: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    x0, eps = denoiser(x, level)
    change = (1 - mask) * (known - x0)
    return x0 + change, eps - level.alpha / level.sigma * change


def _guess_figure(reference: Callable[..., Any]) -> Any:
    three, level = figures.digits(4)[3:4], PATHS["cosine"]()(500.0)
    mask = torch.zeros_like(three)
    mask[:, :, 8:] = 1
    x = add_noise(three, figures.noise(1, 1, 16, 16), level)
    denoiser = gaussian(-0.3, 0.6)
    x0, eps = reference(denoiser, x, level, three, mask)
    return figures.strip([x[0], denoiser(x, level).x0[0], x0[0], eps[0] / 3], ["x", "guess", "kept", "its ε"])


def _noisy_with_hole(
    path: str, times: tuple[float, float], *shape: int, hole: tuple[float, float] | None = None
) -> Make:
    inputs = _picture_with_hole(path, times, *shape, hole=hole)

    def make(g: torch.Generator) -> dict[str, Any]:
        made = inputs(g)
        del made["noise"]
        return {**made, "mean": number(g, -0.5, 0.5), "spread": number(g, 0.4, 0.8)}

    return make


KEEP = Exercise(
    id="15.2",
    name="keep_in_guess",
    title="The wrong part is painted",
    kind="debug",
    difficulty=2,
    minutes=10,
    reference=keep_in_guess,
    call=_guessing,
    planted="mask-turned-round",
    cases=[
        Case("two pictures, each with its own hole", _noisy_with_hole("cosine", (400, 600), 2, 1, 8, 7)),
        Case("latents of four channels, much noise", _noisy_with_hole("linear", (600, 800), 2, 4, 6, 8)),
        Case("a straight path", _noisy_with_hole("straight", (0.4, 0.7), 3, 3, 6, 6)),
        Case("a mask with a soft edge", _noisy_with_hole("cosine", (300, 500), 2, 1, 6, 6, hole=(0.1, 0.9))),
    ],
    misconceptions=[
        Misconception(
            "mask-turned-round",
            _kept(mix=lambda x0, known, mask: (1 - mask) * x0 + mask * known),
            "The mask is read the wrong way round: 1 is where to paint, so there the guess stays, and what "
            "is known goes where it is 0.",
            about="swap",
        ),
        Misconception(
            "eps-left-behind",
            _kept(solve=lambda x, level, x0, eps: eps),
            "The guess is right, but ε is still that of the old guess. The pair has to keep x = α·x₀ + σ·ε.",
            about="missing",
        ),
        Misconception(
            "variance-for-std",
            _kept(solve=lambda x, level, x0, eps: (x - level.alpha * x0) / level.sigma**2),
            "The guess is right. But you divided by σ² to get ε: x = α·x₀ + σ·ε is solved with σ.",
            about="root",
        ),
        Misconception(
            "known-shown-clean",
            _kept(asked=lambda x, level, known, mask: mask * x + (1 - mask) * known),
            "You put the clean picture into x before you asked. The denoiser expects x at its level: leave x "
            "as it is, and put what is known into the guess.",
            about="level",
        ),
        Misconception(
            "added-on-top",
            _kept(mix=lambda x0, known, mask: x0 + (1 - mask) * known),
            "You added what is known to the guess. It takes the guess's place there: the guess is multiplied "
            "by the mask.",
            about="missing",
        ),
        Misconception(
            "sigma-forgotten",
            _kept(solve=lambda x, level, x0, eps: x - level.alpha * x0),
            "The guess is right. But x − α·x₀ is the noise with its strength, σ·ε: divide by σ.",
            about="missing",
        ),
        Misconception(
            "hole-left-grey",
            _kept(mix=lambda x0, known, mask: (1 - mask) * known),
            "The hole of your guess is empty: 0 is grey. The denoiser's guess belongs there.",
            about="missing",
        ),
        Misconception(
            "nothing-kept",
            _kept(mix=lambda x0, known, mask: x0),
            "What is known is not in your guess: you returned the denoiser's own.",
            about="missing",
        ),
        Misconception(
            "alpha-forgotten",
            _kept(solve=lambda x, level, x0, eps: (x - x0) / level.sigma),
            "The guess is right. But ε is (x − α·x₀)/σ: the α is missing.",
            about="missing",
        ),
        Misconception(
            "mask-as-truth",
            _kept(mix=lambda x0, known, mask: torch.where(mask.bool(), x0, known)),
            "You took all of a soft edge for hole: as a bool, 0.1 is true. Between 0 and 1 the mask mixes "
            "guess and picture.",
            about="extra",
        ),
        Misconception(
            "mask-cut-at-a-half",
            _kept(mix=lambda x0, known, mask: torch.where(mask > 0.5, x0, known)),
            "You cut the mask at 0.5. Between 0 and 1 it mixes guess and picture, so that edges can be soft.",
            about="extra",
        ),
        Misconception(
            "noised-in-the-guess",
            _noised_in_the_guess,
            "You put α · known into the guess. x₀ is the clean picture: bringing it to a level is for x.",
            about="level",
        ),
        Misconception(
            "sample-in-the-guess",
            _sample_in_the_guess,
            "You left x in the hole of your guess. x is noisy: the denoiser's x₀ belongs there.",
            about="input",
        ),
        Misconception(
            "no-noise-where-known",
            _no_noise_where_known,
            "The guess is right. But your ε is 0 where the picture is known, and x is noisy there, too: ε = "
            "(x − α·x₀)/σ everywhere.",
            about="missing",
        ),
        Misconception(
            "brackets-forgotten",
            _kept(solve=lambda x, level, x0, eps: x - level.alpha * x0 / level.sigma),
            "The guess is right. But brackets are missing: all of x − α·x₀ is divided by σ.",
            about="order",
        ),
        Misconception(
            "alpha-and-sigma-swapped",
            _kept(solve=lambda x, level, x0, eps: (x - level.sigma * x0) / level.alpha),
            "The guess is right. But α and σ have changed places: ε = (x − α·x₀)/σ.",
            about="swap",
        ),
        Misconception(
            "guess-cut",
            _kept(mix=lambda x0, known, mask: (mask * x0 + (1 - mask) * known).clamp(-1, 1)),
            "You cut the guess to [−1, 1]. What is known may lie beyond, as latents do, and stays exact: "
            "nobody asked for a cut.",
            about="extra",
        ),
        Misconception(
            "soft-edge-kept",
            _kept(mix=lambda x0, known, mask: torch.where(mask == 1, x0, known)),
            "You took all of a soft edge for known. Between 0 and 1 the mask mixes guess and picture.",
            about="extra",
        ),
    ],
    alternatives=[_kept(), _kept_by_differences],
    hints=(
        "Try it in your head with a mask of ones alone: everything is to be painted. Which picture comes "
        "out?",
        "x₀ ← m·x₀ + (1 − m)·known, where m is 1 in the hole; then ε = (x − α·x₀)/σ.",
        "One line is to be changed: which of the two does `mask` multiply?",
    ),
    figure=_guess_figure,
    figure_alt="A noisy 3, a grey guess, the guess with the upper half of the true 3 in it, and the noise "
    "that belongs to it.",
)


# 15.3 The seam --------------------------------------------------------------------------------------


def seam_jumps(pictures: Tensor, mask: Tensor) -> Tensor:
    """`metrics.seam.seam`."""
    return seam(pictures, mask)


def _sum(parts: list[Tensor]) -> Tensor:
    return torch.stack(parts).sum(0)


def _mean_of_means(jumps: list[Tensor], pairs: list[Tensor]) -> Tensor:
    return _sum([each / n.clamp(min=1) for each, n in zip(jumps, pairs, strict=True)]) / 2


def _seams(
    size: Callable[[Tensor], Tensor] = lambda jump: jump.abs().mean(1, keepdim=True),
    counts: Callable[[Tensor, Tensor], Tensor] = lambda a, b: (a != b).float(),
    axes: Sequence[int] = (2, 3),
    total: Callable[[list[Tensor], list[Tensor]], Tensor] = lambda jumps, pairs: _sum(jumps) / _sum(pairs),
) -> Callable[[Tensor, Tensor], Tensor]:
    """The seam in plain steps, with a place for each slip."""

    def answer(pictures: Tensor, mask: Tensor) -> Tensor:
        jumps, pairs = [], []
        for axis in axes:
            n = pictures.shape[axis] - 1
            a, b = (pictures.narrow(axis, at, n) for at in (0, 1))
            border = counts(mask.narrow(axis, 0, n), mask.narrow(axis, 1, n))
            jumps.append((size(b - a) * border).sum((1, 2, 3)))
            pairs.append(border.sum((1, 2, 3)))
        return total(jumps, pairs)

    return answer


def _sum_of_means(jumps: list[Tensor], pairs: list[Tensor]) -> Tensor:
    return 2 * _mean_of_means(jumps, pairs)


def _over_the_hole(pictures: Tensor, mask: Tensor) -> Tensor:
    return _seams(total=lambda jumps, pairs: _sum(jumps))(pictures, mask) / mask.sum((1, 2, 3))


def _with_diagonals(pictures: Tensor, mask: Tensor) -> Tensor:
    height, width = pictures.shape[2:]
    jumps, pairs = torch.zeros(()), torch.zeros(())
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        here = slice(0, height - down), slice(max(-right, 0), width - max(right, 0))
        there = slice(down, height), slice(max(right, 0), width - max(-right, 0))
        border = mask[:, :, *here] != mask[:, :, *there]
        jump = (pictures[:, :, *here] - pictures[:, :, *there]).abs().mean(1, keepdim=True)
        jumps, pairs = jumps + (jump * border).sum((1, 2, 3)), pairs + border.sum((1, 2, 3))
    return jumps / pairs


def _rolled(pictures: Tensor, mask: Tensor) -> Tensor:
    jumps, pairs = torch.zeros(()), torch.zeros(())
    for axis in (2, 3):
        border = mask != mask.roll(1, axis)
        jump = (pictures - pictures.roll(1, axis)).abs().mean(1, keepdim=True)
        jumps, pairs = jumps + (jump * border).sum((1, 2, 3)), pairs + border.sum((1, 2, 3))
    return jumps / pairs


def _seam_by_loops(pictures: Tensor, mask: Tensor) -> Tensor:
    out = []
    for picture, hole in zip(pictures, mask[:, 0], strict=True):
        found = []
        height, width = hole.shape
        for row in range(height):
            for column in range(width):
                for down, right in ((1, 0), (0, 1)):
                    i, j = row + down, column + right
                    if i < height and j < width and hole[row, column] != hole[i, j]:
                        found.append(float((picture[:, row, column] - picture[:, i, j]).abs().mean()))
        out.append(sum(found) / len(found))
    return torch.tensor(out, device=pictures.device)


def _pictures_and_holes(*shape: int) -> Make:
    def make(g: torch.Generator) -> dict[str, Any]:
        pictures = blobs(g, *shape) + 0.2 * normal(g, *shape)
        return {"pictures": pictures, "mask": _box(g, shape[0], *shape[2:])}

    return make


def _half(*shape: int) -> Make:
    """The lower part is painted: all the border is horizontal."""

    def make(g: torch.Generator) -> dict[str, Any]:
        mask = torch.zeros(shape[0], 1, *shape[2:])
        mask[:, :, whole(g, 2, shape[2] - 2) :] = 1
        return {"pictures": normal(g, *shape), "mask": mask}

    return make


def _corner(*shape: int) -> Make:
    """The hole reaches to the end of rows and columns."""

    def make(g: torch.Generator) -> dict[str, Any]:
        mask = torch.zeros(shape[0], 1, *shape[2:])
        mask[..., whole(g, 2, shape[2] - 2) :, whole(g, 2, shape[3] - 2) :] = 1
        return {"pictures": normal(g, *shape), "mask": mask}

    return make


def _seam_figure(reference: Callable[..., Tensor]) -> Any:
    three, eight = figures.digits(9)[[3, 8]][:, None]
    mask = torch.zeros_like(three)
    mask[:, :, 8:] = 1
    shown = [three, torch.lerp(three, eight, mask), torch.lerp(three, eight.roll(3, -1), mask)]
    named = [f"seam {float(reference(each, mask)):.2f}" for each in shown]
    return figures.strip([each[0] for each in shown], named)


SEAM = Exercise(
    id="15.3",
    name="seam_jumps",
    title="How visible is the seam?",
    kind="implement",
    difficulty=2,
    minutes=15,
    reference=seam_jumps,
    cases=[
        Case("three pictures, each with its own hole", _pictures_and_holes(3, 1, 9, 7)),
        Case("colours", _pictures_and_holes(2, 3, 8, 10)),
        Case("the lower part is the hole", _half(2, 1, 8, 6)),
        Case("a high and narrow picture", _pictures_and_holes(2, 3, 14, 6)),
        Case("a hole in the lower right corner", _corner(2, 1, 7, 8)),
    ],
    misconceptions=[
        Misconception(
            "beside-alone",
            _seams(axes=(3,), total=lambda jumps, pairs: jumps[0] / pairs[0].clamp(min=1)),
            "You compared pixels that stand beside each other, and left out those below each other. A hole "
            "has an upper and a lower edge, too.",
            about="missing",
        ),
        Misconception(
            "below-alone",
            _seams(axes=(2,)),
            "You compared pixels below each other, and left out those beside each other. A hole has a left "
            "and a right edge, too.",
            about="missing",
        ),
        Misconception(
            "signed",
            _seams(size=lambda jump: jump.mean(1, keepdim=True)),
            "You summed differences with their sign. A step up on the left and a step down on the right "
            "cancel: take absolute values.",
            about="sign",
        ),
        Misconception(
            "squared",
            _seams(size=lambda jump: jump.square().mean(1, keepdim=True)),
            "You squared the differences. Their absolute value is asked for.",
            about="formula",
        ),
        Misconception(
            "rolled-round",
            _rolled,
            "You shifted with `roll`, which carries the last row in front of the first one. Pixels at "
            "opposite ends of a picture are no pair: take slices.",
            about="boundary",
        ),
        Misconception(
            "not-divided",
            _seams(total=lambda jumps, pairs: _sum(jumps)),
            "You summed the jumps. Their mean is asked for: divide by the number of pairs on the border.",
            about="mean",
        ),
        Misconception(
            "over-all-pairs",
            lambda pictures, mask: _over_all_pairs(pictures, mask),
            "You divided by the number of all pairs. The mean is over the pairs on the border.",
            about="count",
        ),
        Misconception(
            "every-pair",
            _seams(counts=lambda a, b: torch.ones_like(a)),
            "You counted all neighbours. Only pairs count of which one is known and one is painted.",
            about="input",
        ),
        Misconception(
            "inside-the-hole",
            _seams(counts=lambda a, b: a * b),
            "You compared pixels that are both in the hole. Of a pair on the border one is known and one is "
            "painted.",
            about="input",
        ),
        Misconception(
            "one-side-of-the-hole",
            _seams(counts=lambda a, b: (b > a).float()),
            "You counted pairs that go into the hole from the left or from above, and left out those that "
            "come out of it.",
            about="missing",
        ),
        Misconception(
            "other-side-of-the-hole",
            _seams(counts=lambda a, b: (a > b).float()),
            "You counted pairs that come out of the hole to the right or below, and left out those that go "
            "into it.",
            about="missing",
        ),
        Misconception(
            "mean-of-two-means",
            _seams(total=_mean_of_means),
            "You took a mean for each direction, and the mean of the two. All pairs count alike, and a high "
            "hole has more of one kind.",
            about="mean",
        ),
        Misconception(
            "channels-summed",
            _seams(size=lambda jump: jump.abs().sum(1, keepdim=True)),
            "You summed over the channels. Their mean is asked for.",
            about="mean",
        ),
        Misconception(
            "over-the-batch",
            _seams(total=lambda jumps, pairs: (_sum(jumps) / _sum(pairs)).mean()),
            "You returned one number for all. One for each picture is asked for.",
            about="batch",
        ),
        Misconception(
            "colour-by-its-length",
            _seams(size=lambda jump: jump.mean(1, keepdim=True).abs()),
            "You averaged the channels first and took the absolute value then. Red less and green more "
            "cancel so: absolute values first.",
            about="order",
        ),
        Misconception(
            "brackets-forgotten",
            _seams(total=lambda jumps, pairs: jumps[0] + jumps[1] / _sum(pairs)),
            "Only one of your two sums is divided: brackets are missing. The mean is of both directions "
            "together.",
            about="order",
        ),
        Misconception(
            "over-the-hole",
            _over_the_hole,
            "You divided by the number of pixels in the hole. The mean is over the pairs on its border.",
            about="count",
        ),
        Misconception(
            "over-the-borders-of-all",
            _seams(total=lambda jumps, pairs: _sum(jumps) / _sum(pairs).sum()),
            "You divided by the pairs of all pictures together. Each picture has a border of its own.",
            about="batch",
        ),
        Misconception(
            "sum-of-two-means",
            _seams(total=_sum_of_means),
            "You took a mean for each direction, and added the two. It is one mean over all pairs.",
            about="mean",
        ),
        Misconception(
            "border-with-a-sign",
            _seams(counts=lambda a, b: b - a),
            "Your border has a sign: +1 where the hole begins and −1 where it ends, and the two cancel in "
            "the count. Take `!=`, or the absolute value.",
            about="sign",
        ),
        Misconception(
            "outside-the-hole",
            _seams(counts=lambda a, b: (1 - a) * (1 - b)),
            "You compared pixels that are both known. Of a pair on the border one is known and one is "
            "painted.",
            about="input",
        ),
        Misconception(
            "all-that-touch-the-hole",
            _seams(counts=torch.maximum),
            "You counted every pair with a painted pixel. Pairs inside the hole are no border: of a pair one "
            "is known and one is painted.",
            about="input",
        ),
        Misconception(
            "diagonals-too",
            _with_diagonals,
            "You counted pairs on the diagonal, too. A pair is two pixels beside or below each other.",
            about="extra",
        ),
        Misconception(
            "colour-as-a-vector",
            _seams(size=lambda jump: jump.norm(dim=1, keepdim=True)),
            "You took the length of the difference as a vector of colours. It is the mean of the absolute "
            "differences over the channels.",
            about="formula",
        ),
        Misconception(
            "root-mean-square",
            _seams(
                size=lambda jump: jump.square().mean(1, keepdim=True),
                total=lambda jumps, pairs: (_sum(jumps) / _sum(pairs)).sqrt(),
            ),
            "You took the root of the mean square. It is the mean of the absolute differences, where a large "
            "jump counts no more than its size.",
            about="formula",
        ),
    ],
    alternatives=[_seams(), _seam_by_loops],
    hints=(
        "Shift the picture by one pixel and subtract: that gives all differences of neighbours. Do the same "
        "with the mask: where it changes, there is a border.",
        "Σ over the border of |x_a − x_b| (mean over channels), over the number of pairs there; for both "
        "directions together.",
        "`pictures[..., 1:] - pictures[..., :-1]`, `mask[..., 1:] != mask[..., :-1]`; the same with rows; "
        "sum over dims (1, 2, 3).",
    ),
    figure=_seam_figure,
    figure_alt="A 3, whose strokes cross the middle; its upper half above the lower half of an 8, which fits "
    "even better; and the same moved aside by three pixels: the seam is far larger.",
)


def _over_all_pairs(pictures: Tensor, mask: Tensor) -> Tensor:
    height, width = pictures.shape[2:]
    every = (height - 1) * width + height * (width - 1)
    return _seams(total=lambda jumps, pairs: _sum(jumps) / every)(pictures, mask)


# 15.4 RePaint's schedule ----------------------------------------------------------------------------


def resampled(levels: list[Any], jump: int, resample: int) -> list[Any]:
    """`there_and_back` of whole numbers: with others it would never end."""
    return there_and_back(levels, index(jump), index(resample))


def _resampled(
    times: Callable[[int], int] = lambda resample: resample - 1,
    places: Callable[[int, int], Any] = lambda steps, jump: range(0, steps - jump, jump),
    rise: Callable[[int, int], Any] = lambda place, jump: range(place + 1, place + jump + 1),
    count_from: str = "data",
) -> Callable[[list[Any], int, int], list[Any]]:
    """The schedule in plain steps, with a place for each slip."""

    def answer(levels: list[Any], jump: int, resample: int) -> list[Any]:
        steps = len(levels) - 1
        left = dict.fromkeys(places(steps, jump), times(resample))
        if count_from == "noise":
            left = {steps - jump - place: n for place, n in left.items()}
        place, walk = steps, [levels[0]]
        while place > 0:
            place -= 1
            walk.append(levels[steps - place])
            if left.get(place, 0) > 0:
                left[place] -= 1
                walk += [levels[steps - higher] for higher in rise(place, jump)]
                place += jump
        return walk

    return answer


def _resampled_by_stretches(levels: list[Any], jump: int, resample: int) -> list[Any]:
    """Each stretch from its upper to its lower end, as often as asked."""
    rising = levels[::-1]
    ends = [*range(0, len(levels) - 1 - jump, jump)]
    first = ends[-1] + jump if ends else 0
    walk = rising[first:][::-1]
    for end in reversed(ends):
        down = rising[end : end + jump][::-1]
        up = rising[end + 1 : end + jump + 1]
        walk += down
        for _ in range(resample - 1):
            walk += up + down
    return walk


def _all_at_the_end(levels: list[Any], jump: int, resample: int) -> list[Any]:
    return levels + (levels[::-1][1:] + levels[1:]) * (resample - 1)


def _times(steps: tuple[int, int], jump: tuple[int, int], resample: tuple[int, int]) -> Make:
    """Falling times that end at 0, and how they are to be walked."""

    def make(g: torch.Generator) -> dict[str, Any]:
        n = whole(g, *steps)
        levels = [round(1000 * k / n) for k in range(n, -1, -1)]
        return {"levels": levels, "jump": whole(g, *jump), "resample": whole(g, *resample)}

    return make


def _schedule_figure(reference: Callable[..., list[Any]]) -> Any:
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(6.0, 2.4), layout="constrained")
    axis.plot(reference(list(range(1000, -1, -50)), 5, 3), "o-", ms=3, lw=1)
    axis.set(xlabel="place in the walk", ylabel="t")
    return figure


SCHEDULE = Exercise(
    id="15.4",
    name="resampled",
    title="There and back",
    kind="implement",
    difficulty=3,
    minutes=20,
    reference=resampled,
    cases=[
        Case("some twenty steps, in stretches", _times((18, 22), (4, 6), (3, 4))),
        Case("each step walked again", _times((6, 9), (1, 1), (2, 5))),
        Case("steps that are a whole number of stretches", lambda g: _whole_stretches(g)),
        Case("walked once: the levels as they are", _times((10, 14), (3, 4), (1, 1))),
        Case("a stretch nearly as long as the walk", lambda g: _long_stretch(g)),
        Case("a stretch as long as the walk", lambda g: _long_stretch(g, short_of=0)),
    ],
    misconceptions=[
        Misconception(
            "one-time-too-many",
            _resampled(times=lambda resample: resample),
            "Stretches are walked once more than asked. The first way down counts: go up again "
            "resample − 1 times.",
            about="count",
        ),
        Misconception(
            "once-again-alone",
            _resampled(times=lambda resample: int(resample > 1)),
            "You went up once at each place. Each stretch is walked resample times.",
            about="count",
        ),
        Misconception(
            "up-in-one-leap",
            _resampled(rise=lambda place, jump: [place + jump]),
            "You went up in one leap. Each level on the way up stands in the list, too.",
            about="missing",
        ),
        Misconception(
            "up-one-too-few",
            _resampled(rise=lambda place, jump: range(place + 1, place + jump)),
            "Your way up ends one level too early: it goes up by jump levels.",
            about="count",
        ),
        Misconception(
            "lower-end-twice",
            _resampled(rise=lambda place, jump: range(place, place + jump + 1)),
            "The lower end of a stretch stands twice in a row. The way up begins one level above it.",
            about="count",
        ),
        Misconception(
            "stretches-counted-from-noise",
            _resampled(count_from="noise"),
            "You counted the places from the noisy end. They are 0, jump, 2·jump, … steps above the last "
            "level.",
            about="direction",
        ),
        Misconception(
            "not-at-the-end",
            _resampled(places=lambda steps, jump: range(jump, steps - jump, jump)),
            "You never went up from the last level. Place 0 is one of those where the walk turns.",
            about="boundary",
        ),
        Misconception(
            "first-stretch-too",
            _resampled(places=lambda steps, jump: range(0, steps - jump + 1, jump)),
            "You also went up to the first level. Only places below steps − jump are turned at.",
            about="boundary",
        ),
        Misconception(
            "all-at-the-end",
            _all_at_the_end,
            "You walked the whole list, and then the whole list again. Each stretch is repeated by itself, "
            "before the next one begins.",
            about="order",
        ),
        Misconception(
            "turned-at-every-level",
            _resampled(places=lambda steps, jump: range(0, steps - jump)),
            "You turned at every level. The walk turns at every jump-th one.",
            about="reading",
        ),
        Misconception(
            "way-up-left-out",
            _resampled(rise=lambda place, jump: []),
            "You went up again and wrote nothing down. Each level on the way up stands in the list, too: "
            "there the noise is added.",
            about="missing",
        ),
        Misconception(
            "way-up-backwards",
            _resampled(rise=lambda place, jump: range(place + jump, place, -1)),
            "On your way up the levels stand from the highest one down. The list goes up one level at a "
            "time.",
            about="direction",
        ),
        Misconception(
            "upper-end-twice",
            _resampled(rise=lambda place, jump: [*range(place + 1, place + jump + 1), place + jump]),
            "The upper end of a stretch stands twice in a row. The way down begins one level below it.",
            about="count",
        ),
    ],
    alternatives=[_resampled(), _resampled_by_stretches],
    hints=(
        "Walk down one place at a time, and write down where you are. At some places you owe a number of "
        "ways up.",
        "Places count from the end: 0, jump, 2·jump, … below steps − jump; each owes resample − 1 ways up "
        "of jump levels.",
        "A dict `left = {place: resample - 1 …}`, a loop `while place > 0:`, and within it a second loop for "
        "the way up.",
    ),
    timeout=1.0,
    figure=_schedule_figure,
    figure_alt="The time over the place in the walk: a saw that falls from 1000 to 0, with two teeth at each "
    "of three heights.",
)


def _whole_stretches(g: torch.Generator) -> dict[str, Any]:
    jump = whole(g, 3, 4)
    n = jump * whole(g, 3, 5)
    levels = [round(1000 * k / n) for k in range(n, -1, -1)]
    return {"levels": levels, "jump": jump, "resample": whole(g, 2, 3)}


def _long_stretch(g: torch.Generator, short_of: int = 1) -> dict[str, Any]:
    n = whole(g, 6, 9)
    levels = [round(1000 * k / n) for k in range(n, -1, -1)]
    return {"levels": levels, "jump": n - short_of, "resample": whole(g, 2, 4)}


# 15.5 RePaint ---------------------------------------------------------------------------------------

AncestralStep = Callable[[Tensor, Tensor, Level, Level, Tensor], Tensor]
Noises = Callable[[int], Tensor]


def repaint(
    denoiser: Denoiser,
    x: Tensor,
    levels: list[Level],
    known: Tensor,
    mask: Tensor,
    step: AncestralStep,
    noises: Noises,
) -> Tensor:
    """`samplers.repaint` of a denoiser that keeps what is known."""

    def kept(x: Tensor, level: Level, condition: Any = None) -> Estimate:
        return Estimate(*keep_in_guess(denoiser, x, level, known, mask))

    def taken(x: Tensor, guess: Estimate, now: Level, next: Level, noise: Tensor | None = None) -> Tensor:
        assert noise is not None
        return step(x, guess.x0, now, next, noise)

    return sample(kept, x, levels, sampler=samplers.repaint, step=taken, generator=noises)


def ancestral_step(x: Tensor, x0: Tensor, now: Level, next: Level, noise: Tensor) -> Tensor:
    """A draw from the posterior with x0 for the true one (lesson 3)."""
    return ddpm_step(x, Estimate.from_x0(x0, x, now), now, next, noise)


def _walked(
    answer: Callable[..., Any],
    path: str,
    steps: int,
    jump: int,
    resample: int,
    x: Tensor,
    known: Tensor,
    mask: Tensor,
    noise: Tensor,
    templates: Tensor,
) -> dict[str, Any]:
    """What an answer draws over levels that go up now and then, and where it asks the denoiser."""
    levels = there_and_back(PATHS[path]().levels(steps), jump, resample)
    asked: list[float] = []

    def knows(x: Tensor, level: Level, condition: Any = None) -> Estimate:
        asked.append(float(level.t))
        around = x.roll((x.shape[2] // 2, x.shape[3] // 2), (2, 3))  # so the hole sees what is known
        return Estimate.from_x0(0.3 * torch.tanh(x + around) + 0.9 * templates.to(x.device), x, level)

    def noises(k: int) -> Tensor:
        return noise[k].to(x.device)

    drawn = answer(knows, x, levels, known, mask, ancestral_step, noises)
    return {"pictures": drawn, "times asked at": asked}


def _ratio_up(now: Level, next: Level) -> tuple[Tensor, Tensor]:
    ratio = next.alpha / now.alpha
    return ratio, (next.sigma**2 - (ratio * now.sigma) ** 2).clamp(min=0).sqrt()


_KEPT = _kept()


def _repainted(
    up: Callable[..., Tensor] | None = None,
    rises: Callable[[Level, Level], bool] = lambda now, next: bool(next.sigma > now.sigma),
    guess: Callable[..., Any] = _KEPT,
    number: Callable[[int], int] = lambda k: k,
    pairs: Callable[[list[Level]], list[Level]] = lambda levels: levels,
    ask_always: bool = False,
    down: Callable[..., Tensor] = lambda step, x, x0, *others: step(x, x0, *others),
) -> Callable[..., Tensor]:
    """The walk in plain steps, with a place for each slip."""

    def forward(x: Tensor, now: Level, next: Level, noise: Tensor, *_: Any) -> Tensor:
        ratio, std = _ratio_up(now, next)
        return ratio * x + std * noise

    renoised = up or forward

    def answer(
        denoiser: Denoiser,
        x: Tensor,
        levels: list[Level],
        known: Tensor,
        mask: Tensor,
        step: AncestralStep,
        noises: Noises,
    ) -> Tensor:
        x0 = x
        for k, (now, next) in enumerate(pairwise(pairs(levels))):
            if rises(now, next):
                if ask_always and now.sigma > 0:
                    denoiser(x, now)
                x = renoised(x, now, next, noises(number(k)), known, mask, x0)
            else:
                x0, _ = guess(denoiser, x, now, known, mask)
                x = down(step, x, x0, now, next, noises(number(k)))
        return x

    return answer


def _repainted_by_variance(
    denoiser: Denoiser,
    x: Tensor,
    levels: list[Level],
    known: Tensor,
    mask: Tensor,
    step: AncestralStep,
    noises: Noises,
) -> Tensor:
    """By α² alone, on a variance-preserving path and any other."""
    for k in range(len(levels) - 1):
        now, next = levels[k], levels[k + 1]
        if float(next.alpha) < float(now.alpha):
            r = float(next.alpha) / float(now.alpha)
            added = float(next.sigma) ** 2 - r * r * float(now.sigma) ** 2
            x = r * x + max(added, 0.0) ** 0.5 * noises(k)
            continue
        guess = keep_in_guess(denoiser, x, now, known, mask)
        x = step(x, guess[0], now, next, noises(k))
    return x


def _up_to_the_level(x: Tensor, now: Level, next: Level, noise: Tensor, *_: Any) -> Tensor:
    return next.alpha * x + next.sigma * noise


def _up_without_shrinking(x: Tensor, now: Level, next: Level, noise: Tensor, *_: Any) -> Tensor:
    return x + _ratio_up(now, next)[1] * noise


def _up_in_variance(x: Tensor, now: Level, next: Level, noise: Tensor, *_: Any) -> Tensor:
    ratio, std = _ratio_up(now, next)
    return ratio * x + std**2 * noise


def _up_on_one_path(x: Tensor, now: Level, next: Level, noise: Tensor, *_: Any) -> Tensor:
    ratio = next.alpha / now.alpha
    return ratio * x + (1 - ratio**2).sqrt() * noise


def _up_by_all_of_sigma(x: Tensor, now: Level, next: Level, noise: Tensor, *_: Any) -> Tensor:
    return next.alpha / now.alpha * x + next.sigma * noise


def _up_with_sigma_alone(x: Tensor, now: Level, next: Level, noise: Tensor, *_: Any) -> Tensor:
    return _ratio_up(now, next)[0] * x + (next.sigma**2 - now.sigma**2).sqrt() * noise


def _up_by_the_ratio(x: Tensor, now: Level, next: Level, noise: Tensor, *_: Any) -> Tensor:
    ratio, _std = _ratio_up(now, next)
    return ratio * x + (next.sigma**2 - ratio * now.sigma**2).sqrt() * noise


def _up_with_a_plus(x: Tensor, now: Level, next: Level, noise: Tensor, *_: Any) -> Tensor:
    ratio, _std = _ratio_up(now, next)
    return ratio * x + (next.sigma**2 + (ratio * now.sigma) ** 2).sqrt() * noise


def _up_without_noise(x: Tensor, now: Level, next: Level, *_: Any) -> Tensor:
    return _ratio_up(now, next)[0] * x


def _up_with_known_anew(
    x: Tensor, now: Level, next: Level, noise: Tensor, known: Tensor, mask: Tensor, x0: Tensor
) -> Tensor:
    ratio, std = _ratio_up(now, next)
    return mask * (ratio * x + std * noise) + (1 - mask) * add_noise(known, noise, next)


def _down_by_ddim(
    step: AncestralStep, x: Tensor, x0: Tensor, now: Level, next: Level, noise: Tensor
) -> Tensor:
    return next.alpha * x0 + next.sigma * (x - now.alpha * x0) / now.sigma


def _pasted_at_the_end(
    denoiser: Denoiser,
    x: Tensor,
    levels: list[Level],
    known: Tensor,
    mask: Tensor,
    step: AncestralStep,
    noises: Noises,
) -> Tensor:
    free = _repainted(guess=_never_kept)(denoiser, x, levels, known, mask, step, noises)
    return torch.lerp(known, free, mask)


def _known_in_the_sample(
    denoiser: Denoiser,
    x: Tensor,
    levels: list[Level],
    known: Tensor,
    mask: Tensor,
    step: AncestralStep,
    noises: Noises,
) -> Tensor:
    for k, (now, next) in enumerate(pairwise(levels)):
        if next.sigma > now.sigma:
            ratio, std = _ratio_up(now, next)
            x = ratio * x + std * noises(k)
        else:
            x = mask * x + (1 - mask) * add_noise(known, noises(k), now)
            x = step(x, denoiser(x, now)[0], now, next, noises(k))
    return x


def _noises_of_steps_alone(
    denoiser: Denoiser,
    x: Tensor,
    levels: list[Level],
    known: Tensor,
    mask: Tensor,
    step: AncestralStep,
    noises: Noises,
) -> Tensor:
    asked = 0
    for now, next in pairwise(levels):
        if next.sigma > now.sigma:
            ratio, std = _ratio_up(now, next)
            x = ratio * x + std * noises(asked)
        else:
            x = step(x, _KEPT(denoiser, x, now, known, mask)[0], now, next, noises(asked))
            asked += 1
    return x


def _up_from_the_guess(
    x: Tensor, now: Level, next: Level, noise: Tensor, known: Tensor, mask: Tensor, x0: Tensor
) -> Tensor:
    return next.alpha * x0 + next.sigma * noise


def _up_in_the_hole(
    x: Tensor, now: Level, next: Level, noise: Tensor, known: Tensor, mask: Tensor, x0: Tensor
) -> Tensor:
    ratio, std = _ratio_up(now, next)
    return torch.where(mask > 0.5, ratio * x + std * noise, x)


def _up_by_difference(x: Tensor, now: Level, next: Level, noise: Tensor, *_: Any) -> Tensor:
    ratio, _std = _ratio_up(now, next)
    return ratio * x + (next.sigma - ratio * now.sigma) * noise


def _never_kept(denoiser: Denoiser, x: Tensor, level: Level, known: Tensor, mask: Tensor) -> Any:
    return denoiser(x, level)


def _painted(
    steps: tuple[int, int], jump: tuple[int, int], resample: tuple[int, int], path: str, *shape: int
) -> Make:
    def make(g: torch.Generator) -> dict[str, Any]:
        n, j, r = whole(g, *steps), whole(g, *jump), whole(g, *resample)
        walk = there_and_back(list(range(n + 1)), j, r)  # type: ignore[arg-type]
        return {
            "path": path,
            "steps": n,
            "jump": j,
            "resample": r,
            "x": normal(g, *shape),
            "known": 1.5 * data(g, *shape),
            "mask": _box(g, shape[0], *shape[2:]),
            "noise": normal(g, len(walk), *shape),  # one more than there are pairs
            "templates": blobs(g, *shape),
        }

    return make


def _repaint_figure(reference: Callable[..., Any]) -> Any:
    digits, g = figures.digits(9), torch.Generator().manual_seed(0)
    mask = torch.zeros(1, 1, 16, 16)
    mask[:, :, 8:] = 1
    shown = []
    for jump, resample in ((10, 1), (2, 3)):
        walk = there_and_back(list(range(13)), jump, resample)  # type: ignore[arg-type]
        noise = normal(g, len(walk), 1, 1, 16, 16)
        given = {"x": figures.noise(1, 1, 16, 16), "known": digits[3:4], "mask": mask, "noise": noise}
        shown += [
            _walked(reference, "cosine", 12, jump, resample, templates=0.7 * digits[8:9], **given)[
                "pictures"
            ][0]
        ]
    return figures.strip(shown, ["12 calls", "32 calls"])


REPAINT = Exercise(
    id="15.5",
    name="repaint",
    title="RePaint",
    kind="implement",
    difficulty=3,
    minutes=20,
    reference=repaint,
    call=_walked,
    builds_on=[KEEP],
    cases=[
        Case(
            "two stretches or three, each walked twice or more",
            _painted((8, 9), (3, 3), (2, 3), "cosine", 2, 1, 8, 6),
        ),
        Case("colours, every step walked again", _painted((4, 5), (1, 1), (2, 3), "linear", 2, 3, 6, 7)),
        Case("a straight path", _painted((6, 7), (2, 2), (2, 2), "straight", 3, 1, 6, 6)),
        Case("levels that only fall", _painted((5, 6), (2, 3), (1, 1), "cosine", 2, 1, 7, 6)),
    ],
    misconceptions=[
        Misconception(
            "noised-as-if-clean",
            _repainted(up=_up_to_the_level),
            "On the way up you noised x as if it were clean: α'·x + σ'·noise. It has noise of level `now` "
            "already. One step of the forward process adds only what is missing (lesson 2).",
            about="level",
        ),
        Misconception(
            "not-scaled-down",
            _repainted(up=_up_without_shrinking),
            "On the way up you added noise and left x as strong as it was. The forward process shrinks it by "
            "α'/α.",
            about="missing",
        ),
        Misconception(
            "variance-for-std",
            _repainted(up=_up_in_variance),
            "On the way up you multiplied the noise by the variance. Take its root.",
            about="root",
        ),
        Misconception(
            "one-path-alone",
            _repainted(up=_up_on_one_path),
            "On the way up you took √(1 − (α'/α)²) for the noise. That holds where α² + σ² = 1; on a "
            "straight path it is √(σ'² − (α'/α)²·σ²).",
            about="formula",
        ),
        Misconception(
            "all-of-sigma-added",
            _repainted(up=_up_by_all_of_sigma),
            "On the way up you added σ'·noise to an x that has noise already. Only what is missing is added: "
            "√(σ'² − (α'/α)²·σ²).",
            about="level",
        ),
        Misconception(
            "standard-deviations-subtracted",
            _repainted(up=_up_by_difference),
            "On the way up you subtracted standard deviations. Variances add up: "
            "σ'² = (α'/α)²·σ² + what you add, squared.",
            about="formula",
        ),
        Misconception(
            "back-from-the-guess",
            _repainted(up=_up_from_the_guess),
            "You went up from the guess x₀. Then all that the steps have drawn is lost: go up from x.",
            about="input",
        ),
        Misconception(
            "hole-alone-renoised",
            _repainted(up=_up_in_the_hole),
            "On the way up you renoised the hole alone. All of x has to be at the next level.",
            about="input",
        ),
        Misconception(
            "up-by-steps-down",
            _repainted(rises=lambda now, next: False),
            "You took the same step for all pairs. Where the levels rise there is nothing to denoise: add "
            "noise, and do not ask.",
            about="missing",
        ),
        Misconception(
            "rising-pairs-skipped",
            _repainted(up=lambda x, *_: x),
            "You left x as it was where the levels rise. It has to get the noise of the next level.",
            about="missing",
        ),
        Misconception(
            "asked-on-the-way-up",
            _repainted(ask_always=True),
            "The pictures are right, but you ask the denoiser on the way up, too. Nobody needs the answer "
            "there, and it costs a call.",
            about="extra",
        ),
        Misconception(
            "nothing-kept",
            _repainted(guess=_never_kept),
            "What is known is nowhere in your walk. Ask through keep_in_guess in each step.",
            about="missing",
        ),
        Misconception(
            "known-in-the-sample",
            _known_in_the_sample,
            "You put noisy known pixels into x, as in exercise 15.1 and in the paper. Here what is known "
            "goes into the guess: ask through keep_in_guess.",
            about="input",
        ),
        Misconception(
            "noises-of-steps-alone",
            _noises_of_steps_alone,
            "You counted k on the way down alone. Ways up are pairs, too: k counts all neighbours in levels.",
            about="count",
        ),
        Misconception(
            "one-noise-for-all",
            _repainted(number=lambda k: 0),
            "You took the same noise for all pairs. Each pair k has its own: noises(k).",
            about="index",
        ),
        Misconception(
            "noise-of-the-pair-before",
            _repainted(number=lambda k: max(k - 1, 0)),
            "Your noises are one place late. The pair k, counted from 0, has noises(k).",
            about="index",
        ),
        Misconception(
            "noises-counted-from-one",
            _repainted(number=lambda k: k + 1),
            "Your noises are one place early: pairs count from 0, and the pair k has noises(k).",
            about="index",
        ),
        Misconception(
            "one-pair-short",
            _repainted(pairs=lambda levels: levels[:-1]),
            "You stopped one pair too early: the walk ends at levels[−1].",
            about="count",
        ),
        Misconception(
            "sigma-alone",
            _repainted(up=_up_with_sigma_alone),
            "On the way up you took √(σ'² − σ²) for the noise. x shrinks by α'/α, and its noise with it: "
            "√(σ'² − (α'/α)²·σ²).",
            about="missing",
        ),
        Misconception(
            "ratio-not-squared",
            _repainted(up=_up_by_the_ratio),
            "On the way up α'/α stands under your root as it is. Variances shrink by its square: √(σ'² − "
            "(α'/α)²·σ²).",
            about="root",
        ),
        Misconception(
            "plus-under-the-root",
            _repainted(up=_up_with_a_plus),
            "On the way up there is a plus under your root. x brings noise along, so less is added: √(σ'² − "
            "(α'/α)²·σ²).",
            about="sign",
        ),
        Misconception(
            "shrunk-without-noise",
            _repainted(up=_up_without_noise),
            "On the way up you shrank x and added no noise. The forward process does both.",
            about="missing",
        ),
        Misconception(
            "known-noised-anew",
            _repainted(up=_up_with_known_anew),
            "On the way up you took what is known afresh and noised it. All of x goes up in the same way, by "
            "what noise is missing.",
            about="extra",
        ),
        Misconception(
            "step-of-your-own",
            _repainted(down=_down_by_ddim),
            "On the way down you made DDIM's step. Take the one that comes in: step(x, x0, now, next, "
            "noises(k)).",
            about="input",
        ),
        Misconception(
            "step-without-noise",
            _repainted(
                down=lambda step, x, x0, now, next, noise: step(x, x0, now, next, torch.zeros_like(x))
            ),
            "Your steps down add no noise. An ancestral step does: give it noises(k).",
            about="missing",
        ),
        Misconception(
            "x-and-x0-swapped",
            _repainted(down=lambda step, x, x0, *others: step(x0, x, *others)),
            "You gave `step` x and x0 in each other's place: step(x, x0, now, next, noises(k)).",
            about="swap",
        ),
        Misconception(
            "pasted-at-the-end",
            _pasted_at_the_end,
            "You walked freely and put what is known in at the end. Then the hole never hears of it: ask "
            "through keep_in_guess in each step.",
            about="missing",
        ),
    ],
    alternatives=[_repainted(), _repainted_by_variance],
    hints=(
        "The list says all: look at two neighbours. Falls the noise? Ask and step down. Rises it? Add the "
        "noise that is missing.",
        "Up: r = α'/α, x ← r·x + √(σ'² − r²σ²)·noise. Down: x₀ from keep_in_guess, x ← step(x, x₀, now, "
        "next, noise).",
        "`for k, (now, next) in enumerate(pairwise(levels)):` with an `if next.sigma > now.sigma:` in it.",
    ),
    figure=_repaint_figure,
    figure_alt="Two pictures with the upper half of a 3 and a blurred ring below: walked straight down, and "
    "with every stretch walked three times; here the two are nearly alike.",
)


# 15.6 The conditioning input ------------------------------------------------------------------------

Encode = Callable[[Tensor], Tensor]


def conditioning_input(x: Tensor, picture: Tensor, mask: Tensor, encode: Encode) -> Tensor:
    """What `painting.Begun` tells and `TextUNet` puts behind x, in Stable Diffusion's order."""
    factor = picture.shape[-1] // x.shape[-1]
    return torch.cat([x, F.max_pool2d(mask, factor), encode(picture * (1 - mask))], 1)


def _encoded(
    answer: Callable[..., Any], x: Tensor, picture: Tensor, mask: Tensor, weights: Tensor
) -> dict[str, Any]:
    """The input, and what was encoded; the encoder is one convolution of whole squares."""
    seen: list[Tensor] = []

    def encode(each: Tensor) -> Tensor:
        seen.append(each)
        return F.conv2d(each, weights.to(each.device), stride=weights.shape[-1])

    made = answer(x, picture, mask, encode)
    return {"input": made, "encoded": torch.cat(seen)[-len(picture) :] if seen else None}


def _inputs(
    coarse: Callable[[Tensor, int], Tensor] = F.max_pool2d,
    hidden: Callable[[Tensor, Tensor, Encode, int], Tensor] = lambda picture, mask, encode, k: encode(
        picture * (1 - mask)
    ),
    order: Callable[..., list[Tensor]] = lambda x, m, z: [x, m, z],
) -> Callable[..., Tensor]:
    """The input in plain steps, with a place for each slip."""

    def answer(x: Tensor, picture: Tensor, mask: Tensor, encode: Encode) -> Tensor:
        k = picture.shape[2] // x.shape[2]
        return torch.cat(order(x, coarse(mask, k), hidden(picture, mask, encode, k)), 1)

    return answer


def _squares_hidden(picture: Tensor, mask: Tensor, encode: Encode, k: int) -> Tensor:
    return encode(picture * (1 - F.interpolate(F.max_pool2d(mask, k), scale_factor=k)))


def _inputs_by_squares(x: Tensor, picture: Tensor, mask: Tensor, encode: Encode) -> Tensor:
    batch, _, height, width = x.shape
    squares = mask.reshape(batch, 1, height, -1, width, mask.shape[-1] // width)
    made = x.new_empty(batch, 9, height, width)
    made[:, :4], made[:, 4] = x, squares.amax((1, 3, 5))
    made[:, 5:] = encode(torch.where(mask > 0, 0, picture))
    return made


def _masked_pictures(batch: int, size: tuple[int, int], factor: int, thin: bool = False) -> Make:
    """Pictures with a hole, a box or a line of one pixel; noisy latents, and the weights of an encoder."""

    def make(g: torch.Generator) -> dict[str, Any]:
        height, width = size
        mask = _box(g, batch, height, width)
        if thin:
            mask = torch.zeros_like(mask)
            mask[..., factor * whole(g, 1, width // factor - 2) + 1] = 1
        return {
            "x": normal(g, batch, 4, height // factor, width // factor),
            "picture": blobs(g, batch, 3, height, width),
            "mask": mask,
            "weights": normal(g, 4, 3, factor, factor) / factor,
        }

    return make


def _input_figure(reference: Callable[..., Tensor]) -> Any:
    g = torch.Generator().manual_seed(2)
    given = _masked_pictures(1, (32, 32), 4)(g)
    given["weights"] = torch.ones(4, 3, 4, 4) / 48

    def encode(each: Tensor) -> Tensor:
        return F.conv2d(each, given["weights"], stride=4)

    made = reference(given["x"], given["picture"], given["mask"], encode)[0]
    return figures.strip(
        [given["picture"][0], made[:1] / 3, 2 * made[4:5] - 1, made[5:6]],
        ["picture", "channel 0", "channel 4", "channel 5"],
    )


INPUT = Exercise(
    id="15.6",
    name="conditioning_input",
    title="Nine channels",
    kind="implement",
    difficulty=2,
    minutes=12,
    reference=conditioning_input,
    call=_encoded,
    cases=[
        Case("two pictures, latents of a quarter of the side", _masked_pictures(2, (24, 16), 4)),
        Case("latents of an eighth of the side", _masked_pictures(2, (32, 40), 8)),
        Case("a hole that is a line of one pixel", _masked_pictures(2, (16, 24), 4, thin=True)),
        Case("one picture, half the side", _masked_pictures(1, (12, 14), 2)),
    ],
    misconceptions=[
        Misconception(
            "nearest-mask",
            _inputs(coarse=lambda mask, k: mask[..., ::k, ::k]),
            "You took every k-th pixel of the mask. A thin hole falls between them and is never painted: a "
            "place is 1 where *any* of its pixels is.",
            about="formula",
        ),
        Misconception(
            "mean-mask",
            _inputs(coarse=F.avg_pool2d),
            "You averaged the mask. A place is to be painted or not: 1 where any of its pixels is.",
            about="mean",
        ),
        Misconception(
            "mask-rounded",
            _inputs(coarse=lambda mask, k: (F.avg_pool2d(mask, k) > 0.5).float()),
            "A place of your mask is 1 where most of its pixels are. It is 1 where any of them is.",
            about="boundary",
        ),
        Misconception(
            "mask-turned-round",
            _inputs(
                coarse=lambda mask, k: F.max_pool2d(1 - mask, k),
                hidden=lambda picture, mask, encode, k: encode(picture * mask),
            ),
            "You turned the mask round: 1 is where to paint. So the picture is hidden there, and the mask "
            "channel is 1 there.",
            about="swap",
        ),
        Misconception(
            "mask-channel-turned-round",
            _inputs(coarse=lambda mask, k: 1 - F.max_pool2d(mask, k)),
            "The masked picture is right, but your mask channel is turned round: it is 1 where to paint.",
            about="swap",
        ),
        Misconception(
            "mask-eroded",
            _inputs(coarse=lambda mask, k: -F.max_pool2d(-mask, k)),
            "A place of your mask is 1 where all of its pixels are. It is 1 where any of them is.",
            about="boundary",
        ),
        Misconception(
            "picture-not-hidden",
            _inputs(hidden=lambda picture, mask, encode, k: encode(picture)),
            "You encoded the whole picture. The network would learn to copy what it is to paint: hide the "
            "hole first.",
            about="missing",
        ),
        Misconception(
            "hidden-after-encoding",
            _inputs(hidden=lambda picture, mask, encode, k: encode(picture) * (1 - F.max_pool2d(mask, k))),
            "You encoded the whole picture and set latents to 0 then. Latents next to the hole have seen "
            "what is in it: hide it before you encode.",
            about="order",
        ),
        Misconception(
            "hidden-in-black",
            _inputs(hidden=lambda picture, mask, encode, k: encode(picture * (1 - mask) - mask)),
            "You painted the hole black (−1). Stable Diffusion was trained with 0: grey.",
            about="formula",
        ),
        Misconception(
            "hole-alone-shown",
            _inputs(hidden=lambda picture, mask, encode, k: encode(picture * mask)),
            "You encoded what is in the hole, and hid the rest. The other way round: the network has to see "
            "what is kept.",
            about="swap",
        ),
        Misconception(
            "mask-last",
            _inputs(order=lambda x, m, z: [x, z, m]),
            "The mask stands behind the masked picture. The order is x, mask, masked picture: published "
            "weights expect it.",
            about="order",
        ),
        Misconception(
            "mask-first",
            _inputs(order=lambda x, m, z: [m, z, x]),
            "The mask stands first. The order is x, mask, masked picture.",
            about="order",
        ),
        Misconception(
            "pixel-of-the-middle",
            _inputs(coarse=lambda mask, k: mask[..., k // 2 :: k, k // 2 :: k]),
            "You took the pixel in the middle of each square of the mask. A thin hole beside it is never "
            "painted: a place is 1 where any of its pixels is.",
            about="formula",
        ),
        Misconception(
            "mask-blended",
            _inputs(coarse=lambda mask, k: F.interpolate(mask, scale_factor=1 / k, mode="bilinear")),
            "You blended neighbours of the mask (bilinear). It is 1 or 0: 1 where any of a place's pixels "
            "is.",
            about="formula",
        ),
        Misconception(
            "half-or-more",
            _inputs(coarse=lambda mask, k: (F.avg_pool2d(mask, k) >= 0.5).float()),
            "A place of your mask is 1 where half of its pixels are, or more. It is 1 where any of them is.",
            about="boundary",
        ),
        Misconception(
            "mask-from-minus-one",
            _inputs(coarse=lambda mask, k: 2 * F.max_pool2d(mask, k) - 1),
            "Your mask channel is −1 and 1, as in the older `inpaint.py` of latent diffusion. Stable "
            "Diffusion's is 0 and 1.",
            about="formula",
        ),
        Misconception(
            "squares-hidden",
            _inputs(hidden=_squares_hidden),
            "You hid whole squares of the picture. Only the mask channel is coarse: hide the hole itself, "
            "pixel by pixel.",
            about="extra",
        ),
        Misconception(
            "hidden-twice",
            _inputs(
                hidden=lambda picture, mask, encode, k: (
                    encode(picture * (1 - mask)) * (1 - F.max_pool2d(mask, k))
                )
            ),
            "You hid the hole before encoding, which is right, and set latents to 0 as well. Leave them as "
            "the encoder gives them.",
            about="extra",
        ),
        Misconception(
            "hidden-in-half-grey",
            _inputs(hidden=lambda picture, mask, encode, k: encode(picture * (1 - mask) + 0.5 * mask)),
            "You painted the hole with 0.5. Grey is 0 in [−1, 1].",
            about="formula",
        ),
        Misconception(
            "picture-from-zero-to-one",
            _inputs(hidden=lambda picture, mask, encode, k: encode((picture + 1) / 2 * (1 - mask))),
            "You brought the picture to [0, 1] first. The encoder knows [−1, 1]: hide the hole and leave the "
            "rest as it is.",
            about="extra",
        ),
        Misconception(
            "scaled-again",
            _inputs(hidden=lambda picture, mask, encode, k: 0.18215 * encode(picture * (1 - mask))),
            "You multiplied the latents by Stable Diffusion's factor. What `encode` gives is scaled already.",
            about="factor",
        ),
        Misconception(
            "x-in-the-hole-alone",
            _inputs(order=lambda x, m, z: [x * m, m, z]),
            "You set x to 0 where nothing is to be painted. The network sees all of x, as it is.",
            about="extra",
        ),
        Misconception(
            "known-in-x",
            _inputs(order=lambda x, m, z: [m * x + (1 - m) * z, m, z]),
            "You put known latents into x. Here they come in as channels of their own: x stays as it is.",
            about="extra",
        ),
        Misconception(
            "masked-picture-first",
            _inputs(order=lambda x, m, z: [z, m, x]),
            "x and the masked picture have changed places. The order is x, mask, masked picture.",
            about="order",
        ),
        Misconception(
            "masked-picture-before-x",
            _inputs(order=lambda x, m, z: [z, x, m]),
            "The masked picture stands first. The order is x, mask, masked picture.",
            about="order",
        ),
        Misconception(
            "mask-before-x",
            _inputs(order=lambda x, m, z: [m, x, z]),
            "The mask stands in front of x. The order is x, mask, masked picture.",
            about="order",
        ),
    ],
    alternatives=[_inputs(), _inputs_by_squares],
    hints=(
        "Three things go in: what is being drawn, where to draw, and what is there already. All have the "
        "size of the latents.",
        "[x, max-pooled mask, E(picture·(1 − mask))]: 4 + 1 + 4 channels.",
        "`torch.nn.functional.max_pool2d(mask, factor)`, and `torch.cat([…], dim=1)`.",
    ),
    figure=_input_figure,
    figure_alt="A picture of a soft spot, a channel of noise, the coarse mask with a white box, and the "
    "masked picture with a grey box.",
)

EXERCISES = [REPLACE, KEEP, SEAM, SCHEDULE, REPAINT, INPUT]
