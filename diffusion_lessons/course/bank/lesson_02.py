"""Lesson 02, the forward process: one step, the jump, where SNR is 1, the chain, a batch, any two times."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from diffusion_lessons.course.bank import figures
from diffusion_lessons.course.bank.inputs import blobs, cosine, data, linear, normal, number, several, whole
from diffusion_lessons.course.exercises.exercise import Case, Exercise, Misconception
from diffusion_lessons.paths import DiscreteVP, Level, add_noise, renoise
from diffusion_lessons.schedules import cosine_betas, linear_betas

Make = Callable[[torch.Generator], dict[str, Any]]


# 02.1 One step --------------------------------------------------------------------------------------


def one_step(x: Tensor, noise: Tensor, beta: Tensor) -> Tensor:
    """From t = 0 to t = 1 of a chain whose only step is β."""
    path = DiscreteVP(beta.view(1))
    return renoise(x, path(0), path(1), noise)


def _step(low: float, high: float, *shape: int) -> Make:
    """A step whose β lies between two bounds."""
    return lambda g: {
        "x": data(g, *shape),
        "noise": normal(g, *shape),
        "beta": torch.tensor(number(g, low, high)),
    }


def _one_step_figure(reference: Callable[..., Tensor]) -> Any:
    x, noise = figures.digits(4)[3:], figures.noise(1, 1, 16, 16)
    betas = [0.0001, 0.02, 0.2, 0.5, 1.0]
    pictures = [reference(x, noise, torch.tensor(beta))[0] for beta in betas]
    return figures.strip(pictures, [f"β = {beta:g}" for beta in betas])


ONE_STEP = Exercise(
    id="02.1",
    name="one_step",
    title="One step of the chain",
    kind="implement",
    difficulty=1,
    minutes=5,
    reference=one_step,
    cases=[
        Case("two pictures, a small step", _step(0.01, 0.05, 2, 1, 8, 6)),
        Case("two colour pictures, a large step", _step(0.55, 0.8, 2, 3, 8, 6)),
        Case("β = 1: nothing but noise is left", _step(1.0, 1.0, 2, 1, 4, 5)),
        Case("seven points in the plane", _step(0.05, 0.3, 7, 2)),
    ],
    misconceptions=[
        Misconception(
            "variance-for-std",
            lambda x, noise, beta: (1 - beta).sqrt() * x + beta * noise,
            "You multiplied the noise by β. But β is the variance that a step adds, and c·noise has variance "
            "c²: the factor is √β.",
            about="root",
        ),
        Misconception(
            "no-root-on-the-picture",
            lambda x, noise, beta: (1 - beta) * x + beta.sqrt() * noise,
            "You multiplied the picture by 1 − β. That scales its variance by (1 − β)², so each step loses a "
            "little variance in all. With √(1 − β) the two parts, 1 − β and β, add up to 1.",
            about="root",
        ),
        Misconception(
            "no-roots",
            lambda x, noise, beta: (1 - beta) * x + beta * noise,
            "You used 1 − β and β as the factors. They are the two variances; the factors are their roots, "
            "√(1 − β) for the picture and √β for the noise.",
            about="root",
        ),
        Misconception(
            "picture-kept",
            lambda x, noise, beta: x + beta.sqrt() * noise,
            "You added noise and left the picture at full strength, so the variance grows with every step. "
            "This chain keeps the variance where it is: it turns the picture down, by √(1 − β).",
            about="missing",
        ),
        Misconception(
            "factors-swapped",
            lambda x, noise, beta: beta.sqrt() * x + (1 - beta).sqrt() * noise,
            "The two factors are swapped. With a small β a step keeps nearly all of the picture, √(1 − β), "
            "and adds a little noise, √β.",
            about="swap",
        ),
        Misconception(
            "noise-at-full-strength",
            lambda x, noise, beta: (1 - beta).sqrt() * x + noise,
            "You added the noise at full strength, variance 1. A step adds noise of variance β: its factor "
            "is √β.",
            about="missing",
        ),
        Misconception(
            "noise-added-alone",
            lambda x, noise, beta: x + beta * noise,
            "You left the picture at full strength and added β·noise. A step turns the picture down by √(1 "
            "− β), and the noise, of variance β, gets the factor √β.",
            about="missing",
        ),
        Misconception(
            "one-minus-the-root",
            lambda x, noise, beta: (1 - beta).sqrt() * x + (1 - (1 - beta).sqrt()) * noise,
            "You made the two factors add up to 1. It is the variances that add up to 1, so their squares "
            "do: √(1 − β) and √β.",
            about="root",
        ),
        Misconception(
            "root-of-one-part",
            lambda x, noise, beta: (1 - beta.sqrt()) * x + beta.sqrt() * noise,
            "You multiplied the picture by 1 − √β. It is √(1 − β), the root of the whole difference: the "
            "squares of the two factors add up to 1.",
            about="root",
        ),
        Misconception(
            "one-factor-for-both",
            lambda x, noise, beta: (1 - beta).sqrt() * x + (1 - beta).sqrt() * noise,
            "Both parts have the factor √(1 − β). That is the picture's; the noise has the variance β, so "
            "its factor is √β.",
            about="factor",
        ),
        Misconception(
            "noise-subtracted",
            lambda x, noise, beta: (1 - beta).sqrt() * x - beta.sqrt() * noise,
            "You subtracted the noise. As a draw that is as good, but what comes later reads x as picture "
            "plus noise: add it.",
            about="sign",
        ),
        Misconception(
            "noise-forgotten",
            lambda x, noise, beta: (1 - beta).sqrt() * x,
            "You turned the picture down and added nothing. The variance that was lost, β, comes back as "
            "noise: + √β·noise.",
            about="missing",
        ),
        Misconception(
            "squares",
            lambda x, noise, beta: (1 - beta**2).sqrt() * x + beta * noise,
            "You read β as a standard deviation: the factors √(1 − β²) and β fit that. But β is the variance "
            "that the step adds: √(1 − β) and √β.",
            about="root",
        ),
        Misconception(
            "root-of-the-whole",
            lambda x, noise, beta: ((1 - beta) * x + beta.sqrt() * noise).sqrt(),
            "A bracket closes too late: you took the root of the whole mixture, and numbers below 0 have "
            "none. The roots belong to the factors, √(1 − β) and √β.",
            about="order",
        ),
        Misconception(
            "half-of-beta",
            lambda x, noise, beta: (1 - beta / 2) * x + beta.sqrt() * noise,
            "You multiplied the picture by 1 − β/2. That is near √(1 − β) for a small β alone; the factor "
            "is the root itself.",
            about="formula",
        ),
        Misconception(
            "normalised-after",
            lambda x, noise, beta: (x + beta.sqrt() * noise) / (1 + beta).sqrt(),
            "You added the noise first and turned both down by √(1 + β). That keeps the variance, too, but "
            "it is another step: here the picture alone is turned down, by √(1 − β).",
            about="order",
        ),
        Misconception(
            "root-of-one-plus-beta",
            lambda x, noise, beta: (1 + beta).sqrt() * x + beta.sqrt() * noise,
            "You multiplied the picture by √(1 + β), which turns it up. It is turned down, by √(1 − β).",
            about="sign",
        ),
        Misconception(
            "picture-divided",
            lambda x, noise, beta: x / (1 - beta).sqrt() + beta.sqrt() * noise,
            "You divided the picture by √(1 − β), which turns it up, and at β = 1 divides by 0. Multiply.",
            about="factor",
        ),
        Misconception(
            "all-turned-down",
            lambda x, noise, beta: (1 - beta).sqrt() * (x + beta.sqrt() * noise),
            "You turned the noise down together with the picture: the bracket is too wide. √(1 − β) belongs "
            "to the picture alone.",
            about="factor",
        ),
    ],
    alternatives=[
        lambda x, noise, beta: math.sqrt(1 - beta) * x + math.sqrt(beta) * noise,
        lambda x, noise, beta: torch.add(x.mul((1 - beta) ** 0.5), noise * beta**0.5),
    ],
    hints=(
        "A step does two things: it turns the picture down a little, and it adds a little noise. The two are "
        "balanced, so that pixels with variance 1 keep variance 1.",
        "q(x_t | x_{t−1}) = N(√(1 − β)·x_{t−1}, β·I). What stands second is a variance, and a draw from "
        "N(mean, s²) is mean + s·noise. So what is s?",
        "One line: `return torch.sqrt(…) * x + torch.sqrt(…) * noise`, with something made of β in each "
        "root.",
    ),
    figure=_one_step_figure,
    figure_alt="One digit after a single step with β from 0.0001 to 1: sharp at first, grainy at 0.02, to be "
    "guessed at 0.5, nothing but noise at 1.",
)


# 02.2 The closed form -------------------------------------------------------------------------------


def jump(x0: Tensor, noise: Tensor, t: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """`add_noise` at the levels that ᾱ gives at each sample's time."""
    alpha_bar = alphas_cumprod.double()[t]
    return add_noise(x0, noise, Level(t, alpha_bar.sqrt(), (1 - alpha_bar).sqrt()))


def _factors(a: Tensor, b: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x0, noise: a.view(-1, 1, 1, 1) * x0 + b.view(-1, 1, 1, 1) * noise


def _jump(
    betas: Callable[[torch.Generator], Tensor],
    draw: Callable[..., Tensor],
    *shape: int,
    times: Callable[[torch.Generator, int], list[int]] = lambda g, T: several(g, 4, T // 10, T - T // 10),
) -> Make:
    def make(g: torch.Generator) -> dict[str, Any]:
        alphas_cumprod = DiscreteVP(betas(g)).alphas_cumprod.float()
        t = torch.tensor(times(g, len(alphas_cumprod) - 1))
        size = (len(t), *shape)
        return {"x0": draw(g, *size), "noise": normal(g, *size), "t": t, "alphas_cumprod": alphas_cumprod}

    return make


def _both_ends(g: torch.Generator, T: int) -> list[int]:
    return [0, T]


def _jump_no_root_on_noise(x0: Tensor, noise: Tensor, t: Tensor, alphas_cumprod: Tensor) -> Tensor:
    a = alphas_cumprod[t]
    return _factors(a.sqrt(), 1 - a)(x0, noise)


def _jump_no_roots(x0: Tensor, noise: Tensor, t: Tensor, alphas_cumprod: Tensor) -> Tensor:
    a = alphas_cumprod[t]
    return _factors(a, 1 - a)(x0, noise)


def _jump_one_minus_root(x0: Tensor, noise: Tensor, t: Tensor, alphas_cumprod: Tensor) -> Tensor:
    a = alphas_cumprod[t].sqrt()
    return _factors(a, 1 - a)(x0, noise)


def _jump_index(x0: Tensor, noise: Tensor, t: Tensor, alphas_cumprod: Tensor) -> Tensor:
    a = alphas_cumprod[t - 1]
    return _factors(a.sqrt(), (1 - a).sqrt())(x0, noise)


def _jump_swapped(x0: Tensor, noise: Tensor, t: Tensor, alphas_cumprod: Tensor) -> Tensor:
    a = alphas_cumprod[t]
    return _factors((1 - a).sqrt(), a.sqrt())(x0, noise)


def _jump_without_shape(x0: Tensor, noise: Tensor, t: Tensor, alphas_cumprod: Tensor) -> Tensor:
    a = alphas_cumprod[t]
    return a.sqrt() * x0 + (1 - a).sqrt() * noise


def _jump_first_time(x0: Tensor, noise: Tensor, t: Tensor, alphas_cumprod: Tensor) -> Tensor:
    a = alphas_cumprod[t[0]]
    return a.sqrt() * x0 + (1 - a).sqrt() * noise


def _jump_index_late(x0: Tensor, noise: Tensor, t: Tensor, alphas_cumprod: Tensor) -> Tensor:
    a = alphas_cumprod[t + 1]
    return _factors(a.sqrt(), (1 - a).sqrt())(x0, noise)


def _jump_accumulated(x0: Tensor, noise: Tensor, t: Tensor, alphas_cumprod: Tensor) -> Tensor:
    a = alphas_cumprod.cumprod(0)[t]
    return _factors(a.sqrt(), (1 - a).sqrt())(x0, noise)


def _jump_one_step(x0: Tensor, noise: Tensor, t: Tensor, alphas_cumprod: Tensor) -> Tensor:
    a = alphas_cumprod[t] / alphas_cumprod[t - 1]
    return _factors(a.sqrt(), (1 - a).sqrt())(x0, noise)


def _jump_full_noise(x0: Tensor, noise: Tensor, t: Tensor, alphas_cumprod: Tensor) -> Tensor:
    a = alphas_cumprod[t]
    return _factors(a.sqrt(), torch.ones_like(a))(x0, noise)


def _jump_picture_kept(x0: Tensor, noise: Tensor, t: Tensor, alphas_cumprod: Tensor) -> Tensor:
    a = alphas_cumprod[t]
    return _factors(torch.ones_like(a), (1 - a).sqrt())(x0, noise)


def _jump_no_root_on_picture(x0: Tensor, noise: Tensor, t: Tensor, alphas_cumprod: Tensor) -> Tensor:
    a = alphas_cumprod[t]
    return _factors(a, (1 - a).sqrt())(x0, noise)


def _jump_exploding(x0: Tensor, noise: Tensor, t: Tensor, alphas_cumprod: Tensor) -> Tensor:
    a = alphas_cumprod[t]
    return _factors(torch.ones_like(a), ((1 - a) / a).sqrt())(x0, noise)


def _jump_divided(x0: Tensor, noise: Tensor, t: Tensor, alphas_cumprod: Tensor) -> Tensor:
    a = alphas_cumprod[t]
    return _factors(a.rsqrt(), (1 - a).sqrt())(x0, noise)


def _jump_subtracted(x0: Tensor, noise: Tensor, t: Tensor, alphas_cumprod: Tensor) -> Tensor:
    a = alphas_cumprod[t]
    return _factors(a.sqrt(), -(1 - a).sqrt())(x0, noise)


def _jump_figure(reference: Callable[..., Tensor]) -> Any:
    times = [0, 50, 150, 300, 500, 1000]
    x0, alphas_cumprod = (
        figures.digits(6)[5:].expand(6, 1, 16, 16),
        DiscreteVP(linear_betas()).alphas_cumprod.float(),
    )
    pictures = reference(x0, figures.noise(6, 1, 16, 16), torch.tensor(times), alphas_cumprod)
    return figures.strip(list(pictures), [f"t = {t}" for t in times])


JUMP = Exercise(
    id="02.2",
    name="jump",
    title="Jump to any time",
    kind="implement",
    difficulty=2,
    minutes=10,
    reference=jump,
    cases=[
        Case("four pictures, each at a time of its own", _jump(linear, blobs, 1, 8, 6)),
        Case("four colour pictures, 4 pixels wide", _jump(cosine, blobs, 3, 6, 4)),
        Case(
            "t = 0 is the picture itself, t = T nearly all noise",
            _jump(linear, blobs, 1, 8, 6, times=_both_ends),
        ),
        Case(
            "a short chain, numbers beyond ±1",
            _jump(
                lambda g: linear(g, whole(g, 8, 12)), normal, 2, 4, 7, times=lambda g, T: several(g, 5, 1, T)
            ),
        ),
    ],
    misconceptions=[
        Misconception(
            "variance-for-std",
            _jump_no_root_on_noise,
            "You multiplied the noise by 1 − ᾱ. That is its variance; multiplied by c, noise has variance "
            "c², so the factor is the standard deviation √(1 − ᾱ).",
            about="root",
        ),
        Misconception(
            "no-roots",
            _jump_no_roots,
            "You used ᾱ and 1 − ᾱ as the factors. They are the shares of the variance; the factors are their "
            "roots, √ᾱ for the picture and √(1 − ᾱ) for the noise.",
            about="root",
        ),
        Misconception(
            "one-minus-the-root",
            _jump_one_minus_root,
            "You multiplied the noise by 1 − √ᾱ. The squares of the two factors add up to 1, not the "
            "factors: it is √(1 − ᾱ), the root of the whole difference.",
            about="root",
        ),
        Misconception(
            "index-off-by-one",
            _jump_index,
            "You looked up ᾱ one place too early. Here the list starts with ᾱ₀ = 1, the clean picture, so "
            "that the entry for time t is alphas_cumprod[t], without a −1.",
            about="index",
        ),
        Misconception(
            "factors-swapped",
            _jump_swapped,
            "The two factors are swapped: ᾱ is the share of the picture and falls from 1 to 0 as t grows, so "
            "√ᾱ belongs to x0 and √(1 − ᾱ) to the noise.",
            about="swap",
        ),
        Misconception(
            "factor-without-shape",
            _jump_without_shape,
            "Your factors have shape (B,), and broadcasting lines that up with the last dimension, the "
            "width. Here it fails; where B happens to equal the width it runs and gives each column of "
            "pixels a time of its own. Give the factors shape (B, 1, 1, 1): factor.view(-1, 1, 1, 1).",
            about="shape",
        ),
        Misconception(
            "first-time-for-all",
            _jump_first_time,
            "You used the first time for the whole batch. Each picture has a time of its own: index with all "
            "of t and give the result shape (B, 1, 1, 1).",
            about="batch",
        ),
        Misconception(
            "index-one-late",
            _jump_index_late,
            "You looked up ᾱ one place too late, and at t = T there is no such place. The list starts with "
            "ᾱ₀ = 1, so that the entry for time t is alphas_cumprod[t], without a +1.",
            about="index",
        ),
        Misconception(
            "accumulated-again",
            _jump_accumulated,
            "You multiplied the ᾱ up. They are products already: alphas_cumprod[t] holds all 1 − β up to t.",
            about="extra",
        ),
        Misconception(
            "one-step-of-the-chain",
            _jump_one_step,
            "You took a single step of the chain, the one at t. The jump goes from t = 0 all the way: its "
            "share of the picture is alphas_cumprod[t] itself.",
            about="formula",
        ),
        Misconception(
            "noise-at-full-strength",
            _jump_full_noise,
            "You added the noise at full strength. Its share of the variance is 1 − ᾱ, so its factor is "
            "√(1 − ᾱ).",
            about="missing",
        ),
        Misconception(
            "picture-kept",
            _jump_picture_kept,
            "You left the picture at full strength. It is turned down by √ᾱ, so that nothing of it is left "
            "at T.",
            about="missing",
        ),
        Misconception(
            "no-root-on-the-picture",
            _jump_no_root_on_picture,
            "You multiplied the picture by ᾱ. That is its share of the variance; the factor is the root, √ᾱ.",
            about="root",
        ),
        Misconception(
            "noise-subtracted",
            _jump_subtracted,
            "You subtracted the noise. As a draw that is as good, but what comes later reads x as picture "
            "plus noise: add it.",
            about="sign",
        ),
        Misconception(
            "mean-level-for-all",
            lambda x0, noise, t, alphas_cumprod: (lambda a: a.sqrt() * x0 + (1 - a).sqrt() * noise)(
                alphas_cumprod[t].mean()
            ),
            "You used the mean of the levels for the whole batch. Each picture has a time of its own: give "
            "alphas_cumprod[t] the shape (B, 1, 1, 1) and leave the mean out.",
            about="batch",
        ),
        Misconception(
            "last-time-for-all",
            lambda x0, noise, t, alphas_cumprod: _jump_first_time(x0, noise, t.flip(0), alphas_cumprod),
            "You used the last time for the whole batch, as a loop leaves it behind. Each picture has a "
            "time of its own: index with all of t.",
            about="batch",
        ),
        Misconception(
            "factors-on-the-channels",
            lambda x0, noise, t, alphas_cumprod: (lambda a: a.sqrt() * x0 + (1 - a).sqrt() * noise)(
                alphas_cumprod[t].view(1, -1, 1, 1)
            ),
            "Your factors lie along the second dimension, the channels. The pictures are counted along the "
            "first: shape (B, 1, 1, 1), factor.view(-1, 1, 1, 1).",
            about="shape",
        ),
        Misconception(
            "straight-line",
            lambda x0, noise, t, alphas_cumprod: (lambda a: _factors(a.sqrt(), (1 - a).sqrt())(x0, noise))(
                1 - t / (len(alphas_cumprod) - 1)
            ),
            "You let ᾱ fall evenly from 1 to 0. How it falls depends on the steps: look it up, "
            "alphas_cumprod[t].",
            about="formula",
        ),
        Misconception(
            "zero-lifted-to-one",
            lambda x0, noise, t, alphas_cumprod: jump(x0, noise, t.clamp(min=1), alphas_cumprod),
            "You took t = 0 for t = 1. t = 0 is a time like any other, the clean picture: the list starts "
            "with ᾱ₀ = 1.",
            about="boundary",
        ),
        Misconception(
            "noise-at-the-ratio",
            _jump_exploding,
            "You left the picture at full strength and added √((1 − ᾱ)/ᾱ)·noise. The ratio is right, but "
            "this chain turns the picture down: √ᾱ·x0 + √(1 − ᾱ)·noise.",
            about="formula",
        ),
        Misconception(
            "picture-divided",
            _jump_divided,
            "You divided the picture by √ᾱ, which turns it up. Multiply: √ᾱ falls from 1 to 0.",
            about="factor",
        ),
    ],
    alternatives=[
        lambda x0, noise, t, alphas_cumprod: (
            alphas_cumprod[t][:, None, None, None] ** 0.5 * x0
            + (1 - alphas_cumprod[t][:, None, None, None]) ** 0.5 * noise
        ),
        lambda x0, noise, t, alphas_cumprod: torch.stack(
            [
                math.sqrt(alphas_cumprod[i]) * x + math.sqrt(1 - alphas_cumprod[i]) * n
                for x, n, i in zip(x0, noise, t, strict=True)
            ]
        ),
    ],
    hints=(
        "Many small Gaussian steps in a row are one large Gaussian step, so nothing has to be simulated: how "
        "much of the picture is left at time t is a single number, ᾱ_t.",
        "x_t = √ᾱ_t · x₀ + √(1 − ᾱ_t) · ε, with ᾱ_t another number for each picture of the batch.",
        "`a = alphas_cumprod[t].view(-1, 1, 1, 1)` has shape (B, 1, 1, 1) and multiplies (B, C, H, W); then "
        "`return … * x0 + … * noise`.",
    ),
    figure=_jump_figure,
    figure_alt="One digit at t = 0, 50, 150, 300, 500 and 1000 of the linear schedule: clean, a little "
    "grainy, grainy, hard to read, gone, pure noise.",
)


# 02.3 Where signal and noise are equal --------------------------------------------------------------


def equal_time(alphas_cumprod: Tensor) -> int:
    """The first whole time whose level has SNR ≤ 1."""
    alpha_bar = alphas_cumprod.double()
    level = Level(torch.arange(len(alpha_bar)), alpha_bar.sqrt(), (1 - alpha_bar).sqrt())
    return int((level.snr <= 1).nonzero()[0])


def _first(below: Callable[[Tensor], Tensor]) -> Callable[[Tensor], int]:
    return lambda alphas_cumprod: int(below(alphas_cumprod).nonzero()[0])


def _schedule(betas: Callable[[torch.Generator], Tensor]) -> Make:
    return lambda g: {"alphas_cumprod": DiscreteVP(betas(g)).alphas_cumprod}


def _exactly_one(g: torch.Generator) -> dict[str, Any]:
    """ᾱ falls in even steps to ½ itself at one time, and in other steps from there."""
    until = torch.linspace(1, 0.5, whole(g, 4, 9) + 1, dtype=torch.float64)
    return {"alphas_cumprod": torch.cat([until, torch.linspace(0.45, 0.01, whole(g, 4, 9)).double()])}


def _across(above: float, below: float) -> Make:
    """A few steps down to `above`, more than ½, and from `below` on: which of the two is nearer to ½?"""

    def make(g: torch.Generator) -> dict[str, Any]:
        before = torch.linspace(1, above + number(g, 0, 0.02), whole(g, 3, 8) + 1, dtype=torch.float64)
        after = torch.linspace(below - number(g, 0, 0.02), 0.02, whole(g, 3, 12), dtype=torch.float64)
        return {"alphas_cumprod": torch.cat([before, after])}

    return make


def _equal_time_figure(reference: Callable[..., int]) -> Any:
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(4, 2.2))
    for name, betas, line in (("linear", linear_betas(), "-"), ("cosine", cosine_betas(), "--")):
        alphas_cumprod = DiscreteVP(betas).alphas_cumprod
        t = reference(alphas_cumprod)
        (drawn,) = axis.plot(alphas_cumprod.numpy(), line, label=f"{name}: t = {t}")
        axis.plot([t, t], [0, 0.5], ":", color=drawn.get_color())
    axis.axhline(0.5, color="gray", linewidth=0.8)
    axis.set(xlabel="t", ylabel="ᾱ, the signal's variance", ylim=(0, 1))
    axis.legend(frameon=False)
    return figure


EQUAL_TIME = Exercise(
    id="02.3",
    name="equal_time",
    title="Where signal and noise are equal",
    kind="implement",
    difficulty=1,
    minutes=8,
    reference=equal_time,
    cases=[
        Case("a linear schedule of 1000 steps", _schedule(linear)),
        Case("a cosine schedule of 1000 steps", _schedule(cosine)),
        Case("a few large steps, of which one ends exactly at SNR = 1", _exactly_one),
        Case("a few large steps, of which one ends just below SNR = 1", _across(0.65, 0.495)),
        Case("a few large steps, of which one ends far below SNR = 1", _across(0.505, 0.4)),
    ],
    misconceptions=[
        Misconception(
            "one-too-early",
            lambda alphas_cumprod: equal_time(alphas_cumprod) - 1,
            "You are one step early: at that time there is still more signal than noise. Look for the first "
            "time with SNR ≤ 1; and as the list starts with ᾱ₀ = 1, the place in it is the time itself.",
            about="index",
        ),
        Misconception(
            "one-too-late",
            lambda alphas_cumprod: equal_time(alphas_cumprod) + 1,
            "You are one step late. The list starts with ᾱ₀ = 1, so the place in it is the time itself, and "
            "nothing has to be added.",
            about="index",
        ),
        Misconception(
            "root-below-a-half",
            _first(lambda a: a.sqrt() <= 0.5),
            "You looked for √ᾱ = ½, and there the variances are ¼ and ¾. SNR compares variances: "
            "ᾱ/(1 − ᾱ) = 1.",
            about="root",
        ),
        Misconception(
            "squared-twice",
            _first(lambda a: a**2 <= 1 - a**2),
            "You took ᾱ for the factor of the picture and squared it. ᾱ is already a variance, the square of "
            "the factor √ᾱ: SNR = ᾱ/(1 − ᾱ).",
            about="root",
        ),
        Misconception(
            "counted-from-noise",
            lambda alphas_cumprod: len(alphas_cumprod) - 1 - equal_time(alphas_cumprod),
            "You counted from the wrong end. Time runs from the data: t = 0 is the picture, t = T is noise.",
            about="direction",
        ),
        Misconception(
            "middle-of-the-chain",
            lambda alphas_cumprod: (len(alphas_cumprod) - 1) // 2,
            "Half of the steps is not half of the signal: that depends on the schedule. Use the numbers in "
            "alphas_cumprod.",
            about="formula",
        ),
        Misconception(
            "strictly-below",
            _first(lambda a: a < 1 - a),
            "You looked for SNR < 1. The first time with SNR ≤ 1 may have exactly 1, and then it is the one.",
            about="boundary",
        ),
        Misconception(
            "last-time-with-more-signal",
            lambda alphas_cumprod: int((alphas_cumprod >= 0.5).sum()) - 1,
            "You took the last time that still has SNR ≥ 1. Asked is the first one with SNR ≤ 1: most often "
            "that is the time after it.",
            about="boundary",
        ),
        Misconception(
            "nearest-to-one",
            lambda alphas_cumprod: int((alphas_cumprod - 0.5).abs().argmin()),
            "You took the time that comes nearest to SNR = 1. It may lie before the crossing; asked is the "
            "first time with SNR ≤ 1.",
            about="rounding",
        ),
        Misconception(
            "two-factors-compared",
            _first(lambda a: a.sqrt() <= 1 - a),
            "You compared √ᾱ, a factor, with 1 − ᾱ, a variance. SNR is a ratio of two variances: ᾱ/(1 − ᾱ).",
            about="root",
        ),
        Misconception(
            "half-for-one",
            _first(lambda a: a / (1 - a) <= 0.5),
            "You looked for SNR = ½. The signal's share ᾱ is ½ where SNR = ᾱ/(1 − ᾱ) is 1.",
            about="factor",
        ),
        Misconception(
            "how-much-for-when",
            lambda alphas_cumprod: alphas_cumprod[equal_time(alphas_cumprod)],
            "You returned ᾱ at that time. Asked is the time itself, the place in the list.",
            about="reading",
        ),
        Misconception(
            "share-of-the-chain",
            lambda alphas_cumprod: equal_time(alphas_cumprod) / (len(alphas_cumprod) - 1),
            "You returned t/T. Asked is the time itself, a whole number of steps.",
            about="reading",
        ),
        Misconception(
            "other-side-counted",
            lambda alphas_cumprod: alphas_cumprod[alphas_cumprod <= 0.5].shape[0],
            "You counted the times that come after the crossing. Asked is the time of the crossing: count "
            "those before it, from t = 0.",
            about="direction",
        ),
        Misconception(
            "zero",
            lambda alphas_cumprod: 0,
            "You got t = 0, where there is no noise at all. Either the comparison is turned round, or you "
            "took the place of the first False: look for the first True of SNR ≤ 1.",
            about="direction",
        ),
        Misconception(
            "last-for-first",
            lambda alphas_cumprod: len(alphas_cumprod) - 1,
            "You took the last time with SNR ≤ 1, and that is always T. Asked is the first.",
            about="direction",
        ),
        Misconception(
            "snr-returned",
            lambda alphas_cumprod: (lambda a: a / (1 - a))(alphas_cumprod[equal_time(alphas_cumprod)]),
            "You returned the SNR that there is at that time. Asked is the time itself, the place in the "
            "list.",
            about="reading",
        ),
        Misconception(
            "decibels",
            _first(lambda a: 10 * torch.log10(a / (1 - a)) <= 1),
            "You compared decibels with 1. SNR = 1 is 0 decibels, for the logarithm of 1 is 0.",
            about="formula",
        ),
        Misconception(
            "logarithm",
            _first(lambda a: a.logit() <= 1),
            "You compared log-SNR with 1. Where SNR is 1, its logarithm is 0.",
            about="formula",
        ),
        Misconception(
            "list-that-falls",
            lambda alphas_cumprod: int(torch.searchsorted(alphas_cumprod, 0.5)),
            "torch.searchsorted needs a list that rises, and this one falls. Compare the whole list with ½ "
            "and look for the first True.",
            about="direction",
        ),
        Misconception(
            "never-found",
            lambda alphas_cumprod: int(alphas_cumprod[len(alphas_cumprod)]),
            "Your loop runs past the end: what it waits for never comes. Compare the two variances with "
            "each other: until ᾱ ≤ 1 − ᾱ.",
            about="formula",
        ),
        Misconception(
            "a-float",
            lambda alphas_cumprod: float(equal_time(alphas_cumprod)),
            "The number is right, but it is a float. A time is a place in the list here: return an int.",
            about="reading",
        ),
    ],
    alternatives=[
        lambda alphas_cumprod: int((alphas_cumprod > 0.5).sum()),
        lambda alphas_cumprod: next(t for t, a in enumerate(alphas_cumprod.tolist()) if a <= 0.5),
        lambda alphas_cumprod: torch.argmax((alphas_cumprod <= 1 - alphas_cumprod).int()),
    ],
    hints=(
        "The signal-to-noise ratio compares two variances: that of the picture's part and that of the "
        "noise's. It is huge at t = 0 and falls with every step.",
        "x_t = √ᾱ_t·x₀ + √(1 − ᾱ_t)·ε, so SNR(t) = ᾱ_t/(1 − ᾱ_t). For which ᾱ is that 1?",
        "Compare the whole list at once, `alphas_cumprod <= …`, and return the place of the first True as a "
        "whole number.",
    ),
    figure=_equal_time_figure,
    figure_alt="ᾱ falling over t for the linear and the cosine schedule, each with the time marked at which "
    "it crosses one half: 260 for the linear one, 497 for the cosine one.",
)


# 02.4 Debug: a variance where a standard deviation belongs ------------------------------------------


def run_chain(x0: Tensor, noises: Tensor, betas: Tensor) -> Tensor:
    """All steps of the chain, one after another."""
    path = DiscreteVP(betas)
    x = x0
    for t in range(path.T):
        x = renoise(x, path(t), path(t + 1), noises[t])
    return x


def _chain(
    keep: Callable[[Tensor], Tensor], add: Callable[[Tensor], Tensor], skip: int = 0
) -> Callable[..., Tensor]:
    """A chain with the factors keep(β) and add(β), its first `skip` steps left out."""

    def chain(x0: Tensor, noises: Tensor, betas: Tensor) -> Tensor:
        x = x0
        for beta, noise in list(zip(betas, noises, strict=True))[skip:]:
            x = keep(beta) * x + add(beta) * noise
        return x

    return chain


def _one_noise_for_all(x0: Tensor, noises: Tensor, betas: Tensor) -> Tensor:
    return run_chain(x0, noises[:1].expand_as(noises), betas)


def _clipped_chain(x0: Tensor, noises: Tensor, betas: Tensor) -> Tensor:
    x = x0
    for beta, noise in zip(betas, noises, strict=True):
        x = one_step(x, noise, beta).clamp(-1, 1)
    return x


def _from_the_picture(x0: Tensor, noises: Tensor, betas: Tensor) -> Tensor:
    return one_step(x0, noises[-1], betas[-1])


def _run(low: int, high: int, draw: Callable[..., Tensor], *shape: int) -> Make:
    """A chain of so many steps."""

    def make(g: torch.Generator) -> dict[str, Any]:
        betas = linear(g, whole(g, low, high)) if high > 1 else torch.tensor([number(g, 0.2, 0.4)])
        return {"x0": draw(g, *shape), "noises": normal(g, len(betas), *shape), "betas": betas.float()}

    return make


def _run_chain_figure(reference: Callable[..., Tensor]) -> Any:
    steps, betas = [0, 5, 10, 20, 50], linear_betas(50, 0.001, 0.2).float()
    x0, noises = figures.digits(8)[7:], figures.noise(50, 1, 1, 16, 16)
    pictures = [reference(x0, noises[:n], betas[:n])[0] if n else x0[0] for n in steps]
    return figures.strip(pictures, [f"{n} steps" for n in steps])


def _brought_to_variance_1(x0: Tensor, noises: Tensor, betas: Tensor) -> Tensor:
    x = x0
    for beta, noise in zip(betas, noises, strict=True):
        x = (1 - beta).sqrt() * x + beta * noise
        x = x / x.std()
    return x


def _scaled_up_at_the_end(x0: Tensor, noises: Tensor, betas: Tensor) -> Tensor:
    x = _chain(lambda b: (1 - b).sqrt(), lambda b: b)(x0, noises, betas)
    return x / x.std()


RUN_CHAIN = Exercise(
    id="02.4",
    name="run_chain",
    title="The chain that fades to grey",
    kind="debug",
    difficulty=2,
    minutes=10,
    reference=run_chain,
    cases=[
        Case("two pictures, some 50 steps", _run(40, 60, blobs, 2, 1, 8, 6)),
        Case("two colour pictures, a few large steps", _run(4, 7, blobs, 2, 3, 6, 8)),
        Case("a single step, numbers beyond ±1", _run(1, 1, normal, 2, 1, 5, 4)),
    ],
    planted="variance-for-std",
    misconceptions=[
        Misconception(
            "variance-for-std",
            _chain(lambda b: (1 - b).sqrt(), lambda b: b),
            "The noise is multiplied by β, its variance. c·noise has variance c², so the factor is the "
            "standard deviation √β; with β the noise is far too weak, and the picture fades to grey.",
            about="root",
        ),
        Misconception(
            "wrong-factor-mended",
            _chain(lambda b: 1 - b, lambda b: b),
            "You took the root off the picture's factor to match the noise's. It is the other way round: β "
            "and 1 − β are variances, and both factors are roots.",
            about="root",
        ),
        Misconception(
            "symptom-hidden",
            _chain(lambda b: torch.ones_like(b), lambda b: b.sqrt()),
            "You took away what made the picture fade, its factor √(1 − β). Now the variance grows with "
            "every step. The fading is right; what is wrong is how much noise comes in.",
            about="missing",
        ),
        Misconception(
            "noise-factor-one-minus",
            _chain(lambda b: (1 - b).sqrt(), lambda b: (1 - b).sqrt()),
            "Both parts now have the factor √(1 − β). One step adds noise of variance β: its factor is √β.",
            about="factor",
        ),
        Misconception(
            "same-noise-every-step",
            _one_noise_for_all,
            "The factors are right, but every step gets the same noise. Then it adds up in place of "
            "averaging out: step t needs its own, noises[t].",
            about="input",
        ),
        Misconception(
            "first-step-skipped",
            _chain(lambda b: (1 - b).sqrt(), lambda b: b.sqrt(), skip=1),
            "The factors are right, but the first step is left out. Go through all of betas, from index 0.",
            about="count",
        ),
        Misconception(
            "always-from-the-picture",
            _from_the_picture,
            "Each step starts again from x0, so that only the last one counts. A step starts from what the "
            "step before left: x = … * x + ….",
            about="input",
        ),
        Misconception(
            "picture-kept",
            _chain(lambda b: torch.ones_like(b), lambda b: b),
            "You took the picture's factor away and left the noise's as it was. The fading is right; it is "
            "the noise that is too weak: √β in place of β.",
            about="missing",
        ),
        Misconception(
            "noise-at-full-strength",
            _chain(lambda b: (1 - b).sqrt(), lambda b: torch.ones_like(b)),
            "You took the noise's factor away, so that each step adds variance 1. It adds variance β: the "
            "factor is √β.",
            about="missing",
        ),
        Misconception(
            "root-on-the-wrong-side",
            _chain(lambda b: 1 - b, lambda b: b.sqrt()),
            "The noise has its root now, and the picture has lost its own: both factors are roots, √(1 − β) "
            "and √β.",
            about="root",
        ),
        Misconception(
            "one-minus-the-root",
            _chain(lambda b: (1 - b).sqrt(), lambda b: 1 - (1 - b).sqrt()),
            "You made the two factors add up to 1. It is the variances, 1 − β and β, that add up to 1: the "
            "noise's factor is √β.",
            about="root",
        ),
        Misconception(
            "noise-squared",
            _chain(lambda b: (1 - b).sqrt(), lambda b: b**2),
            "You squared β, and the noise became weaker still. c·noise has variance c²: for variance β the "
            "factor is the root √β.",
            about="root",
        ),
        Misconception(
            "one-jump",
            lambda x0, noises, betas: (lambda kept: kept.sqrt() * x0 + (1 - kept).sqrt() * noises[-1])(
                (1 - betas).prod()
            ),
            "You jumped to the end at once, with the last noise. That has the right distribution, and it is "
            "not this chain: each step adds its own noises[t].",
            about="reading",
        ),
        Misconception(
            "one-jump-with-the-mean",
            lambda x0, noises, betas: (lambda kept: kept.sqrt() * x0 + (1 - kept).sqrt() * noises.mean(0))(
                (1 - betas).prod()
            ),
            "You jumped to the end at once, with the mean of all noises. A mean of T draws has variance "
            "1/T, far too little; each step adds its own noises[t].",
            about="mean",
        ),
        Misconception(
            "brought-to-variance-1",
            _brought_to_variance_1,
            "You bring x back to variance 1 after each step, and that hides what is wrong: the noise is "
            "still too weak. Its factor is √β, and then the variance keeps itself.",
            about="formula",
        ),
        Misconception(
            "noises-from-the-end",
            lambda x0, noises, betas: run_chain(x0, noises.flip(0), betas),
            "The factors are right, but you take the noises from the end of the list. The first step has "
            "noises[0].",
            about="direction",
        ),
        Misconception(
            "noises-one-place-off",
            lambda x0, noises, betas: run_chain(x0, noises.roll(1, 0), betas),
            "The factors are right, but the noises are one place off: step i, counted from 0, has noises[i].",
            about="index",
        ),
        Misconception(
            "clipped-in-each-step",
            _clipped_chain,
            "The factors are right, but you cut x to [−1, 1] in each step. Noisy pictures have no range: "
            "leave them as they are.",
            about="extra",
        ),
        Misconception(
            "mean-beta",
            lambda x0, noises, betas: run_chain(x0, noises, betas.mean().expand_as(betas)),
            "You used the mean of the betas in every step. Step i has its own: betas[i].",
            about="mean",
        ),
        Misconception(
            "scaled-up-at-the-end",
            _scaled_up_at_the_end,
            "The noise is as weak as before, and you scale the result up to spread 1. That scales the rest "
            "of the picture, too. The noise's factor is √β in each step.",
            about="order",
        ),
    ],
    alternatives=[
        _chain(lambda b: (1 - b).sqrt(), lambda b: b.sqrt()),
        lambda x0, noises, betas: (
            (1 - betas).prod().sqrt() * x0
            + sum((betas[t] * (1 - betas[t + 1 :]).prod()).sqrt() * noises[t] for t in range(len(betas)))
        ),
    ],
    hints=(
        "Measure what the line should keep: start from pixels with variance 1 and print the variance after "
        "each step. It should stay at 1. Which of the two parts loses it?",
        "x_t = √(1 − β_t)·x_{t−1} + √β_t·ε. The variances of the two parts are 1 − β_t and β_t, and add up "
        "to 1.",
        "The loop and the indices are right. One factor in the line that begins with `x =` lacks a root.",
    ),
    figure=_run_chain_figure,
    figure_alt="One digit after 0, 5, 10, 20 and 50 steps of the right chain: it sinks into noise that stays "
    "as strong as the picture was, and does not fade to grey.",
)


# 02.5 A batch for training ---------------------------------------------------------------------------

Batch = tuple[Tensor, Tensor, Tensor, Tensor]
CHANCE = 5.0  # standard errors that a count or a mean may lie off


def training_batch(data: Tensor, n: int, alphas_cumprod: Tensor, generator: torch.Generator) -> Batch:
    """Samples drawn from the data, each noised to a time of its own, and what they were made of."""
    rows = torch.randint(len(data), (n,), generator=generator)
    t = torch.randint(1, len(alphas_cumprod), (n,), generator=generator)
    noise = torch.randn((n, *data.shape[1:]), generator=generator).to(data)
    alpha_bar = alphas_cumprod.double()[t]
    return add_noise(data[rows], noise, Level(t, alpha_bar.sqrt(), (1 - alpha_bar).sqrt())), t, noise, rows


def _parts(made: Any, data: Tensor, n: int, T: int) -> Batch:
    """The four parts of a batch, refused where they do not have the shapes that the task asks for."""
    if not isinstance(made, (tuple, list)) or len(made) != 4:
        found = f"{len(made)} things" if isinstance(made, (tuple, list)) else type(made).__name__
        raise ValueError(f"a batch is (x, t, noise, rows), four tensors; you returned {found}")
    x, t, noise, rows = made
    wanted = dict(x=(n, *data.shape[1:]), t=(n,), noise=(n, *data.shape[1:]), rows=(n,))
    for name, part in zip(wanted, (x, t, noise, rows), strict=True):
        shape = tuple(part.shape) if isinstance(part, Tensor) else type(part).__name__
        if shape != wanted[name]:
            raise ValueError(f"{name} should have the shape {wanted[name]}, yours has {shape}")
        if name in ("t", "rows") and part.is_floating_point():
            raise ValueError(f"{name} holds whole numbers, yours has the dtype {part.dtype}")
        if name in ("x", "noise") and part.dtype != data.dtype:
            raise ValueError(f"{name} should have the dtype of the data, {data.dtype}, not {part.dtype}")
        if not bool(part.isfinite().all()):
            raise ValueError(f"{name} holds numbers that are NaN or infinite")
    if int(rows.min()) < 0 or int(rows.max()) >= len(data) or int(t.min()) < 0 or int(t.max()) > T:
        raise ValueError(f"rows are places in the data, 0 to {len(data) - 1}, and times lie in 0 to T = {T}")
    return x, t, noise, rows


def _fair(drawn: Tensor, among: Tensor) -> Tensor:
    """Does each of these values come as often as chance allows if all are equally likely? (K,)"""
    n, share = len(drawn), 1 / len(among)
    counts = (drawn[:, None] == among).double().sum(0)
    return (counts - n * share).abs() <= CHANCE * (n * share * (1 - share)) ** 0.5 + 1e-9


def _gaussian(noise: Tensor) -> bool:
    """Do the mean, the variance and the share within ±1 agree with N(0, 1)?"""
    z, m = noise.double().flatten(), noise.numel()
    inside = math.erf(0.5**0.5)  # 68 %
    wanted = ((z, 0, 1), (z**2, 1, 2), ((z.abs() < 1).double(), inside, inside * (1 - inside)))
    return all(abs(float(each.mean()) - mean) <= CHANCE * (var / m) ** 0.5 for each, mean, var in wanted)


def _factors_by_time(batch: Batch, data: Tensor, T: int) -> tuple[Tensor, Tensor, bool]:
    """(T,) factors of picture and noise, fitted to the samples of each time 1 … T; and is that all of x?"""
    x, t, noise, rows = batch
    found, left = torch.zeros(T, 2, dtype=torch.float64), 0.0
    for time in t.unique().tolist():
        here = t == time
        parts = torch.stack([data[rows[here]].flatten(), noise[here].flatten()], 1).double()
        wanted = x[here].flatten().double()
        factors = torch.linalg.lstsq(parts, wanted[:, None], driver="gelsd").solution[:, 0]
        left = max(left, float((parts @ factors - wanted).abs().max()))
        if time:
            found[time - 1] = factors
    whole = left < 1e-4
    return *((found if whole else torch.zeros_like(found)).float().T), whole


def _holds(x: Tensor, part: Tensor) -> bool:
    """Is there some of this part in x? For many samples: of another draw there is none."""
    x, part = x.double().flatten(), part.double().flatten()
    return bool((x @ part).abs() > 0.1 * (part @ part))


def _read(answer: Callable[..., Any], data: Tensor, n: int, alphas_cumprod: Tensor, seed: int) -> Any:
    """What holds for every right batch, in whatever order its random numbers are drawn."""
    data, alphas_cumprod = data.cpu(), alphas_cumprod.cpu()  # where the generator draws
    T = len(alphas_cumprod) - 1
    generator = torch.Generator().manual_seed(seed)
    first = answer(data, n, alphas_cumprod, generator)
    if first is None:
        return None
    later = answer(data, n, alphas_cumprod, generator)
    again = answer(data, n, alphas_cumprod, torch.Generator().manual_seed(seed))
    x, t, noise, rows = batch = _parts(first, data, n, T)
    others = [_parts(made, data, n, T) for made in (later, again)]
    each = _fair(t, torch.arange(1, T + 1))
    of_picture, of_noise, whole = _factors_by_time(batch, data, T)
    return {
        "x lies within −1 and 1": bool((x.abs() <= 1).all()),
        "x holds the rows that are returned": n == 1 or _holds(x, data[rows] - data.mean(0)),
        "x holds the noise that is returned": n == 1 or _holds(x, noise),
        "x is made of data[rows] and noise": whole,
        "t = 0 comes": bool((t == 0).any()),
        "t = 1 comes as often as it should": bool(each[0]),
        "t = T comes as often as it should": bool(each[-1]),
        "every time comes as often as it should": bool(each.all()),
        "the factor of the data at t = 1, 2, … T": of_picture,
        "the factor of the noise at t = 1, 2, … T": of_noise,
        "every row comes as often as it should": bool(_fair(rows, torch.arange(len(data))).all()),
        "noise is from N(0, 1)": _gaussian(noise),
        "every number of the noise is drawn for itself": len(noise.unique()) > 0.98 * noise.numel(),
        "each sample has noise of its own": n == 1 or not torch.equal(noise[0], noise[-1]),
        "the next batch has other rows": n == 1 or not torch.equal(rows, others[0][3]),
        "the next batch has other times": n == 1 or not torch.equal(t, others[0][1]),
        "the next batch has other noise": not torch.equal(noise, others[0][2]),
        "a generator in the same state gives the same batch": all(map(torch.equal, batch, others[1])),
    }


def _batch_of(
    samples: int, n: int, low: int, high: int, *shape: int, dtype: torch.dtype = torch.float32
) -> Make:
    """A few samples, beyond ±1, a chain of so many steps, and a batch of n or a few more."""

    def make(g: torch.Generator) -> dict[str, Any]:
        betas = linear(g, whole(g, low, high)) if high > 1 else torch.tensor([number(g, 0.2, 0.4)]).double()
        alphas_cumprod = DiscreteVP(betas).alphas_cumprod.float()
        data, many = normal(g, samples, *shape).to(dtype), whole(g, n, n + n // 4)
        return {"data": data, "n": many, "alphas_cumprod": alphas_cumprod, "seed": whole(g, 0, 10**6)}

    return make


def _made(
    times: Callable[[int, int, torch.Generator], Tensor] = lambda n, T, g: torch.randint(
        1, T + 1, (n,), generator=g
    ),
    rows: Callable[[int, int, torch.Generator], Tensor] = lambda n, N, g: torch.randint(N, (n,), generator=g),
    noise: Callable[..., Tensor] = lambda shape, g: torch.randn(shape, generator=g),
    mixed: Callable[[Tensor], tuple[Tensor, Tensor]] = lambda a: (a.sqrt(), (1 - a).sqrt()),
    place: int = 0,
    seeded: bool = False,
) -> Callable[..., Any]:
    """The batch with one thing changed."""

    def batch(data: Tensor, n: int, alphas_cumprod: Tensor, generator: torch.Generator) -> Any:
        if seeded:
            generator.manual_seed(0)
        t = times(n, len(alphas_cumprod) - 1, generator)
        chosen = rows(n, len(data), generator)
        shape = (n, *data.shape[1:])
        eps = noise(shape, generator).expand(shape).to(data)
        a, b = (
            each.view(n, *[1] * (data.ndim - 1))
            for each in mixed(alphas_cumprod[(t + place).clamp(max=len(alphas_cumprod) - 1)])
        )
        return a * data[chosen] + b * eps, t, eps, chosen

    return batch


def _noise_drawn_twice(data: Tensor, n: int, alphas_cumprod: Tensor, generator: torch.Generator) -> Any:
    x, t, noise, rows = training_batch(data, n, alphas_cumprod, generator)
    return x, t, torch.randn(noise.shape, generator=generator).to(data), rows


def _rows_drawn_twice(data: Tensor, n: int, alphas_cumprod: Tensor, generator: torch.Generator) -> Any:
    x, t, noise, rows = training_batch(data, n, alphas_cumprod, generator)
    return x, t, noise, torch.randint(len(data), rows.shape, generator=generator)


def _cut(data: Tensor, n: int, alphas_cumprod: Tensor, generator: torch.Generator) -> Any:
    x, *others = training_batch(data, n, alphas_cumprod, generator)
    return x.clamp(-1, 1), *others


def _noise_turned_down(data: Tensor, n: int, alphas_cumprod: Tensor, generator: torch.Generator) -> Any:
    x, t, noise, rows = training_batch(data, n, alphas_cumprod, generator)
    return x, t, (1 - alphas_cumprod[t]).sqrt().view(n, *[1] * (data.ndim - 1)) * noise, rows


def _factors_for_pictures(data: Tensor, n: int, alphas_cumprod: Tensor, generator: torch.Generator) -> Any:
    _, t, noise, rows = training_batch(data, n, alphas_cumprod, generator)
    a = alphas_cumprod[t].view(-1, 1, 1, 1)
    return a.sqrt() * data[rows] + (1 - a).sqrt() * noise, t, noise, rows


def _factors_without_shape(data: Tensor, n: int, alphas_cumprod: Tensor, generator: torch.Generator) -> Any:
    _, t, noise, rows = training_batch(data, n, alphas_cumprod, generator)
    a = alphas_cumprod[t]
    return a.sqrt() * data[rows] + (1 - a).sqrt() * noise, t, noise, rows


def _batch_by_layers(data: Tensor, n: int, alphas_cumprod: Tensor, generator: torch.Generator) -> Any:
    """One time from each of n equal parts, shuffled; noise first."""
    noise = torch.randn(n, *data.shape[1:], generator=generator).to(data)
    T, u = len(alphas_cumprod) - 1, torch.rand(n, generator=generator)
    t = ((torch.arange(n) + u) / n * T).long().clamp(max=T - 1)[torch.randperm(n, generator=generator)] + 1
    rows = torch.multinomial(torch.ones(len(data)), n, replacement=True, generator=generator)
    shape = (-1, *[1] * (data.ndim - 1))
    kept, added = alphas_cumprod[t].sqrt().view(shape), (1 - alphas_cumprod[t]).sqrt().view(shape)
    return kept * data[rows] + added * noise, t, noise, rows


def _batch_figure(reference: Callable[..., Batch]) -> Any:
    generator = torch.Generator().manual_seed(1647)
    x, t, _, _ = reference(figures.digits(10), 6, DiscreteVP(linear_betas()).alphas_cumprod, generator)
    order = t.argsort()
    return figures.strip(list(x[order]), [f"t = {int(time)}" for time in t[order]])


TRAINING_BATCH = Exercise(
    id="02.5",
    name="training_batch",
    title="A batch for training",
    kind="implement",
    difficulty=2,
    minutes=20,
    reference=training_batch,
    call=_read,
    cases=[
        Case("some 900 samples of a few pictures, a short chain", _batch_of(5, 800, 5, 8, 1, 3, 4)),
        Case("some 1000 samples of a few colour pictures, a short chain", _batch_of(7, 900, 4, 6, 3, 2, 3)),
        Case("some 800 points in the plane, float64", _batch_of(6, 700, 5, 7, 2, dtype=torch.float64)),
        Case("a single sample, a chain of one step", _batch_of(3, 1, 1, 1, 1, 12, 13)),
    ],
    misconceptions=[
        Misconception(
            "times-from-0",
            _made(times=lambda n, T, g: torch.randint(0, T, (n,), generator=g)),
            "Your times run from 0 to T − 1. At t = 0 there is no noise, and nothing to learn; and T, where "
            "sampling starts, never comes. torch.randint leaves its upper end out: randint(1, T + 1).",
            about="index",
        ),
        Misconception(
            "last-time-never",
            _made(times=lambda n, T, g: torch.randint(1, max(T, 2), (n,), generator=g)),
            "t = T never comes: torch.randint leaves its upper end out. Sampling will start at T: "
            "randint(1, T + 1).",
            about="boundary",
        ),
        Misconception(
            "zero-taken-in",
            _made(times=lambda n, T, g: torch.randint(0, T + 1, (n,), generator=g)),
            "Your times begin with 0. There x is the picture itself: no noise to find, nothing to learn. "
            "They run from 1 to T.",
            about="boundary",
        ),
        Misconception(
            "one-time-for-all",
            _made(times=lambda n, T, g: torch.randint(1, T + 1, (1,), generator=g).expand(n)),
            "The whole batch has one time. Each sample gets a time of its own: draw n of them.",
            about="batch",
        ),
        Misconception(
            "one-noise-for-all",
            _made(noise=lambda shape, g: torch.randn(1, *shape[1:], generator=g)),
            "The whole batch has one noise. Each sample gets noise of its own: as many numbers as x has.",
            about="batch",
        ),
        Misconception(
            "uniform-noise",
            _made(noise=lambda shape, g: torch.rand(shape, generator=g)),
            "Your noise is uniform on 0 to 1: torch.rand. Noise from N(0, 1) is torch.randn.",
            about="formula",
        ),
        Misconception(
            "generator-forgotten",
            _made(noise=lambda shape, g: torch.randn(shape)),
            "Some of your random numbers do not come from the generator, so nobody can repeat your batch. "
            "Give `generator=generator` to each function that draws.",
            about="input",
        ),
        Misconception(
            "generator-seeded-anew",
            _made(seeded=True),
            "You seed the generator, so that every batch is the same one. Draw from it as it is.",
            about="extra",
        ),
        Misconception(
            "rows-in-order",
            _made(rows=lambda n, N, g: torch.arange(n) % N),
            "You take the rows in order, so every batch has the same ones. Draw them: "
            "torch.randint(len(data), (n,), …).",
            about="reading",
        ),
        Misconception(
            "first-row-alone",
            _made(rows=lambda n, N, g: torch.zeros(n, dtype=torch.long)),
            "All of your samples are made of the first row. Draw a row for each: torch.randint(len(data), "
            "(n,), …).",
            about="batch",
        ),
        Misconception(
            "noise-drawn-twice",
            _noise_drawn_twice,
            "x is not made of the noise that you return: you drew it twice. A network would be trained to "
            "find noise that is not there. Draw once, keep it, use it for both.",
            about="input",
        ),
        Misconception(
            "rows-drawn-twice",
            _rows_drawn_twice,
            "x is not made of the rows that you return: you drew them twice. Whoever looks up the label of a "
            "sample by its row would find a wrong one. Draw once, keep them, use them for both.",
            about="input",
        ),
        Misconception(
            "last-row-never",
            _made(rows=lambda n, N, g: torch.randint(N - 1, (n,), generator=g)),
            "The last row of the data never comes: torch.randint leaves its upper end out. All rows from 0 "
            "to len(data) − 1 are torch.randint(len(data), (n,), …).",
            about="boundary",
        ),
        Misconception(
            "cut-to-a-range",
            _cut,
            "You cut x to [−1, 1]. Noisy samples have no range: leave them as they are.",
            about="extra",
        ),
        Misconception(
            "variance-for-std",
            _made(mixed=lambda a: (a.sqrt(), 1 - a)),
            "You multiplied the noise by 1 − ᾱ, its variance. The factor is the root, √(1 − ᾱ).",
            about="root",
        ),
        Misconception(
            "no-roots",
            _made(mixed=lambda a: (a, 1 - a)),
            "You used ᾱ and 1 − ᾱ as the factors. They are shares of the variance; the factors are their "
            "roots.",
            about="root",
        ),
        Misconception(
            "no-root-on-the-data",
            _made(mixed=lambda a: (a, (1 - a).sqrt())),
            "You multiplied the data by ᾱ. That is its share of the variance; the factor is the root, √ᾱ.",
            about="root",
        ),
        Misconception(
            "one-minus-the-root",
            _made(mixed=lambda a: (a.sqrt(), 1 - a.sqrt())),
            "You multiplied the noise by 1 − √ᾱ. The squares of the two factors add up to 1, not the "
            "factors: it is √(1 − ᾱ).",
            about="root",
        ),
        Misconception(
            "factors-swapped",
            _made(mixed=lambda a: ((1 - a).sqrt(), a.sqrt())),
            "The two factors are swapped: √ᾱ belongs to the data and √(1 − ᾱ) to the noise.",
            about="swap",
        ),
        Misconception(
            "index-off-by-one",
            _made(place=-1),
            "You looked up ᾱ one place too early. The list starts with ᾱ₀ = 1, so that the entry for time t "
            "is alphas_cumprod[t].",
            about="index",
        ),
        Misconception(
            "index-one-late",
            _made(place=1),
            "You looked up ᾱ one place too late. The list starts with ᾱ₀ = 1, so that the entry for time t "
            "is alphas_cumprod[t].",
            about="index",
        ),
        Misconception(
            "factors-without-shape",
            _factors_without_shape,
            "Your factors have the shape (n,), and broadcasting lines that up with the last dimension of the "
            "data. Give them the shape (n, 1, 1, 1) for pictures and (n, 1) for points: "
            "factor.view(n, *[1] * (data.ndim - 1)).",
            about="shape",
        ),
        Misconception(
            "one-noise-for-all-channels",
            _made(noise=lambda shape, g: torch.randn(shape[0], 1, *shape[2:], generator=g).expand(shape)),
            "The channels of a sample share their noise. Every number gets noise of its own: as many "
            "numbers as x has.",
            about="batch",
        ),
        Misconception(
            "last-time-never-nor-the-only-one",
            _made(times=lambda n, T, g: torch.randint(1, T, (n,), generator=g)),
            "t = T never comes, and with T = 1 there is no time left: torch.randint leaves its upper end "
            "out. Sampling will start at T: randint(1, T + 1).",
            about="boundary",
        ),
        Misconception(
            "noise-returned-turned-down",
            _noise_turned_down,
            "x is right, but the noise that you return is multiplied by its factor already. Return it as it "
            "was drawn: the network is to find that.",
            about="input",
        ),
        Misconception(
            "factors-for-pictures-only",
            _factors_for_pictures,
            "Your factors have the shape (n, 1, 1, 1), which fits pictures alone. Data may be points (N, "
            "2): take as many 1s as the data has dimensions beside the first.",
            about="shape",
        ),
        Misconception(
            "without-putting-back",
            _made(rows=lambda n, N, g: torch.randperm(N, generator=g)[:n]),
            "You draw rows without putting them back, so there are no more than the data has. The same row "
            "may come twice: torch.randint(len(data), (n,), …).",
            about="formula",
        ),
    ],
    alternatives=[_made(), _batch_by_layers],
    hints=(
        "Three things are drawn for each sample: a row of the data, a time, and noise. The rest is the "
        "jump, for data of any shape.",
        "t is uniform on {1, …, T}, and T = len(alphas_cumprod) − 1. Then x = √ᾱ_t · data[rows] + √(1 − "
        "ᾱ_t) · noise, with one ᾱ_t for each sample.",
        "`rows = torch.randint(len(data), (n,), generator=generator)`, likewise `t` between 1 and T + 1, and "
        "`noise = torch.randn(…)` in the shape of `data[rows]`; then "
        "`kept = alphas_cumprod[t].view(n, *[1] * (data.ndim - 1))`.",
    ),
    figure=_batch_figure,
    figure_alt="Six digits of a batch, in the order of their times: the earliest can be read, the last are "
    "noise.",
)


# 02.6 From one time to a later one -------------------------------------------------------------------


def onward(x: Tensor, noise: Tensor, s: Tensor, t: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """`renoise` from the levels at the times s to those at t."""
    alpha_bar = alphas_cumprod.double()
    now, later = (Level(at, alpha_bar[at].sqrt(), (1 - alpha_bar[at]).sqrt()) for at in (s, t))
    return renoise(x, now, later, noise)


def _onward(
    draw: Callable[..., Tensor],
    times: Callable[[torch.Generator, int], tuple[list[int], list[int]]],
    *shape: int,
    betas: Callable[[torch.Generator], Tensor] = linear,
) -> Make:
    def make(g: torch.Generator) -> dict[str, Any]:
        alphas_cumprod = DiscreteVP(betas(g)).alphas_cumprod.float()
        s, t = times(g, len(alphas_cumprod) - 1)
        size = (len(s), *shape)
        inputs = {"x": draw(g, *size), "noise": normal(g, *size)}
        return inputs | {"s": torch.tensor(s), "t": torch.tensor(t), "alphas_cumprod": alphas_cumprod}

    return make


def _far(g: torch.Generator, T: int) -> tuple[list[int], list[int]]:
    """Early times, and later ones."""
    return several(g, 4, T // 10, T // 3), several(g, 4, T // 2, T - T // 5)


def _near(g: torch.Generator, T: int) -> tuple[list[int], list[int]]:
    """From the data; a single step; to the same time; to the end."""
    a, b, c = several(g, 3, T // 4, T // 2)
    return [0, a, b, c], [whole(g, T // 4, T // 2), a + 1, b, T]


def _with_kept(
    factors: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
) -> Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]:
    """The answer with factors made of ᾱ at s and at t."""

    def answer(x: Tensor, noise: Tensor, s: Tensor, t: Tensor, alphas_cumprod: Tensor) -> Tensor:
        return _factors(*factors(alphas_cumprod[s], alphas_cumprod[t]))(x, noise)

    return answer


def _onward_figure(reference: Callable[..., Tensor]) -> Any:
    alphas_cumprod, times = DiscreteVP(linear_betas()).alphas_cumprod.float(), [0, 50, 100, 200, 300, 500]
    pictures = [figures.digits(6)[5:]]
    for i, (s, t) in enumerate(pairwise(times)):
        noise = figures.noise(1, 1, 16, 16, seed=i)
        pictures.append(reference(pictures[-1], noise, torch.tensor([s]), torch.tensor([t]), alphas_cumprod))
    return figures.strip([each[0] for each in pictures], [f"t = {t}" for t in times])


ONWARD = Exercise(
    id="02.6",
    name="onward",
    title="From one time to a later one",
    kind="stretch",
    difficulty=3,
    minutes=15,
    reference=onward,
    cases=[
        Case("four pictures, each from a time of its own to a later one", _onward(blobs, _far, 1, 8, 6)),
        Case("four colour pictures of the cosine schedule", _onward(blobs, _far, 3, 6, 5, betas=cosine)),
        Case(
            "from t = 0, one step, to the same time, to T; numbers beyond ±1", _onward(normal, _near, 2, 4, 7)
        ),
    ],
    misconceptions=[
        Misconception(
            "jump-once-more",
            _with_kept(lambda s, t: (t.sqrt(), (1 - t).sqrt())),
            "You jumped as if x were the clean picture. A part of the way is done: the picture was turned "
            "down by √ᾱ_s already, so what is missing is √(ᾱ_t/ᾱ_s).",
            about="formula",
        ),
        Misconception(
            "full-noise-again",
            _with_kept(lambda s, t: ((t / s).sqrt(), (1 - t).sqrt())),
            "The picture is right, and there is too much noise: x holds noise already. What is added has the "
            "variance 1 − ᾱ_t/ᾱ_s.",
            about="formula",
        ),
        Misconception(
            "difference-of-variances",
            _with_kept(lambda s, t: ((t / s).sqrt(), (s - t).sqrt())),
            "You added what the noise's variance grows by, ᾱ_s − ᾱ_t. But the noise in x is turned down, "
            "too, with the picture: to make up for that it takes 1 − ᾱ_t/ᾱ_s.",
            about="formula",
        ),
        Misconception(
            "difference-of-deviations",
            _with_kept(lambda s, t: ((t / s).sqrt(), (1 - t).sqrt() - (t / s * (1 - s)).sqrt())),
            "Your factor of the noise is the difference of two standard deviations. (It comes out, too, if "
            "you take the new noise for the noise that is in x.) Variances add up, so subtract those: what "
            "is added has the variance (1 − ᾱ_t) − (ᾱ_t/ᾱ_s)·(1 − ᾱ_s), which is 1 − ᾱ_t/ᾱ_s.",
            about="formula",
        ),
        Misconception(
            "picture-kept",
            _with_kept(lambda s, t: (torch.ones_like(s), (1 - t / s).sqrt())),
            "You left x at full strength. It is turned down by √(ᾱ_t/ᾱ_s), else the variance grows.",
            about="missing",
        ),
        Misconception(
            "no-roots",
            _with_kept(lambda s, t: (t / s, 1 - t / s)),
            "Your factors are shares of the variance. Their roots are the factors: √(ᾱ_t/ᾱ_s) and "
            "√(1 − ᾱ_t/ᾱ_s).",
            about="root",
        ),
        Misconception(
            "variance-for-std",
            _with_kept(lambda s, t: ((t / s).sqrt(), 1 - t / s)),
            "You multiplied the noise by 1 − ᾱ_t/ᾱ_s, its variance. The factor is the root.",
            about="root",
        ),
        Misconception(
            "no-root-on-the-picture",
            _with_kept(lambda s, t: (t / s, (1 - t / s).sqrt())),
            "You multiplied x by ᾱ_t/ᾱ_s. That is a ratio of variances; the factor is its root.",
            about="root",
        ),
        Misconception(
            "product-for-ratio",
            _with_kept(lambda s, t: ((t * s).sqrt(), (1 - t * s).sqrt())),
            "You multiplied the two ᾱ. ᾱ_t holds all steps up to t, those up to s among them: divide, so "
            "that the steps after s are left.",
            about="formula",
        ),
        Misconception(
            "steps-counted",
            lambda x, noise, s, t, alphas_cumprod: jump(x, noise, t - s, alphas_cumprod),
            "You jumped t − s steps from the start of the list. The steps after s are not as large as the "
            "first ones: their product is ᾱ_t/ᾱ_s.",
            about="index",
        ),
        Misconception(
            "factors-swapped",
            _with_kept(lambda s, t: ((1 - t / s).sqrt(), (t / s).sqrt())),
            "The two factors are swapped: √(ᾱ_t/ᾱ_s) belongs to x, and the rest is noise.",
            about="swap",
        ),
        Misconception(
            "factor-without-shape",
            lambda x, noise, s, t, alphas_cumprod: (
                (alphas_cumprod[t] / alphas_cumprod[s]).sqrt() * x
                + (1 - alphas_cumprod[t] / alphas_cumprod[s]).sqrt() * noise
            ),
            "Your factors have shape (B,), and broadcasting lines that up with the last dimension, the "
            "width. Give them shape (B, 1, 1, 1): factor.view(-1, 1, 1, 1).",
            about="shape",
        ),
        Misconception(
            "ratio-upside-down",
            _with_kept(lambda s, t: ((s / t).sqrt(), (1 - t / s).sqrt())),
            "The ratio on x is upside down, so x is turned up. ᾱ falls with time: √(ᾱ_t/ᾱ_s) is below 1.",
            about="swap",
        ),
        Misconception(
            "first-times-for-all",
            lambda x, noise, s, t, alphas_cumprod: onward(
                x, noise, s[:1].expand_as(s), t[:1].expand_as(t), alphas_cumprod
            ),
            "You used the first two times for the whole batch. Each picture has an s and a t of its own: "
            "index with all of s and t.",
            about="batch",
        ),
        Misconception(
            "step-too-many",
            lambda x, noise, s, t, alphas_cumprod: onward(x, noise, (s - 1).clamp(min=0), t, alphas_cumprod),
            "You took the step at s once more. ᾱ_s holds the steps up to s, so the quotient ᾱ_t/ᾱ_s holds "
            "those from s + 1 to t.",
            about="index",
        ),
        Misconception(
            "levels-of-noise-subtracted",
            _with_kept(lambda s, t: ((t / s).sqrt(), (1 - t).sqrt() - (1 - s).sqrt())),
            "You subtracted two standard deviations, that of the end and that of the start. Variances add "
            "up, and the noise in x is turned down too: what is added has the variance 1 − ᾱ_t/ᾱ_s.",
            about="formula",
        ),
        Misconception(
            "root-taken-too-early",
            _with_kept(lambda s, t: ((t / s).sqrt(), (1 - (t / s).sqrt()).sqrt())),
            "You took the root of the ratio before the difference. The noise's factor is √(1 − ᾱ_t/ᾱ_s).",
            about="order",
        ),
    ],
    alternatives=[
        _with_kept(lambda s, t: ((t / s).sqrt(), (1 - t / s).sqrt())),
        _with_kept(lambda s, t: ((t / s) ** 0.5, ((1 - t) - t / s * (1 - s)).clamp(min=0) ** 0.5)),
    ],
    hints=(
        "All steps up to t are those up to s and then the others. x has the first ones behind it. Which "
        "number says how much the others leave?",
        "Each step multiplies the picture's variance by 1 − β, and ᾱ_t is the product of all. So the steps "
        "from s + 1 to t leave ᾱ_t/ᾱ_s, and add noise of variance 1 − ᾱ_t/ᾱ_s.",
        "As in `jump`, with another number: `kept = (alphas_cumprod[t] / alphas_cumprod[s]).view(-1, 1, 1, "
        "1)`.",
    ),
    figure=_onward_figure,
    figure_alt="One digit that goes on from t = 0 to 50, 100, 200, 300 and 500, from each time to the next: "
    "grainier each time, and gone at 500.",
)

EXERCISES = [ONE_STEP, JUMP, EQUAL_TIME, RUN_CHAIN, TRAINING_BATCH, ONWARD]
