"""Lesson 05, noise schedules: cosine, zero terminal SNR, log-SNR, where to start, larger sizes, one class."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from diffusion_lessons.conditions import Condition
from diffusion_lessons.course.bank import figures
from diffusion_lessons.course.bank.inputs import cosine, linear, normal, number, whole
from diffusion_lessons.course.exercises.exercise import Case, Exercise, Misconception
from diffusion_lessons.denoiser import Denoiser
from diffusion_lessons.paths import DiscreteVP, Level, add_noise
from diffusion_lessons.samplers import sample
from diffusion_lessons.schedules import (
    cosine_betas,
    linear_betas,
    rescale_zero_terminal_snr,
    scaled_linear_betas,
    sigmoid_betas,
)
from diffusion_lessons.targets import Estimate

Make = Callable[[torch.Generator], dict[str, Any]]
Betas = Callable[[torch.Generator], Tensor]


def _betas(alphas_cumprod: Tensor) -> Tensor:
    """β_1 … β_T (T,) from ᾱ_0 … ᾱ_T (T + 1,)."""
    return 1 - alphas_cumprod[1:] / alphas_cumprod[:-1]


def _from_one(alphas_cumprod: Tensor) -> Tensor:
    """ᾱ_0 = 1 put before ᾱ_1 … ᾱ_T."""
    return torch.cat([alphas_cumprod.new_ones(1), alphas_cumprod])


# 05.1 The cosine schedule ---------------------------------------------------------------------------


def _times(T: int) -> Tensor:
    return torch.arange(T + 1, dtype=torch.float64) / T


def _angle(T: int, s: float) -> Tensor:
    return (_times(T) + s) / (1 + s) * math.pi / 2


def _cosine_at(times: Tensor, s: float, max_beta: float) -> Tensor:
    return _betas(torch.cos((times + s) / (1 + s) * math.pi / 2) ** 2).clamp(max=max_beta)


def _from_curve(T: int, s: float, made: Callable[[Tensor], Tensor]) -> Tensor:
    """What is made of ᾱ_0 … ᾱ_T."""
    return made(torch.cos(_angle(T, s)) ** 2)


def _cosine_by_loop(T: int, s: float, max_beta: float) -> Tensor:
    def curve(t: int) -> float:
        return math.cos((t / T + s) / (1 + s) * math.pi / 2) ** 2

    betas = [min(1 - curve(t + 1) / curve(t), max_beta) for t in range(T)]
    return torch.tensor(betas, dtype=torch.float64)


def _cosine_normalised(T: int, s: float, max_beta: float) -> Tensor:
    curve = (1 + torch.cos(2 * _angle(T, s))) / 2
    return torch.minimum(_betas(curve / curve[0]), torch.tensor(max_beta, dtype=torch.float64))


def _cosine(
    T: tuple[int, int], s: tuple[float, float] = (0.006, 0.01), max_beta: tuple[float, float] = (0.997, 0.999)
) -> Make:
    """Each between two bounds."""
    return lambda g: {"T": whole(g, *T), "s": number(g, *s), "max_beta": number(g, *max_beta)}


def _cosine_figure(reference: Callable[..., Tensor]) -> Any:
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(6, 2.2), layout="constrained")
    for name, betas, line in (("linear", linear_betas(), "-"), ("cosine", reference(1000), "--")):
        left.plot(DiscreteVP(betas).alphas_cumprod.numpy(), line, marker="", label=name)
        right.semilogy(range(1, 1001), betas.numpy(), line, marker="", label=name)
    left.set(xlabel="t", ylabel="ᾱ, share of signal")
    right.set(xlabel="t", ylabel="β", ylim=(1e-5, 2))
    left.legend(frameon=False)
    return figure


COSINE = Exercise(
    id="05.1",
    name="cosine_schedule",
    title="The cosine schedule and its clip",
    kind="reproduce",
    difficulty=2,
    minutes=12,
    reference=cosine_betas,
    cases=[
        Case("some 1000 steps", _cosine((950, 1050))),
        Case("some ten large steps, a wider offset", _cosine((9, 12), s=(0.03, 0.08))),
        Case("some 50 steps, no β above a low max_beta", _cosine((45, 55), max_beta=(0.3, 0.6))),
        Case("a few steps", _cosine((3, 5))),
        Case("a single step", _cosine((1, 1))),
    ],
    misconceptions=[
        Misconception(
            "square-forgotten",
            lambda T, s, max_beta: _betas(torch.cos(_angle(T, s))).clamp(max=max_beta),
            "You took the cosine itself for ᾱ. The cosine is √ᾱ, the factor of the picture; ᾱ, the share of "
            "its variance, is the square of it.",
            about="root",
        ),
        Misconception(
            "not-clipped",
            lambda T, s, max_beta: _betas(torch.cos(_angle(T, s)) ** 2),
            "The curve is right, but nothing holds β at max_beta. The curve ends at 0, so its last β is 1, "
            "and a step back from there would divide by √(1 − β) = 0.",
            about="missing",
        ),
        Misconception(
            "alpha-bar-clipped",
            lambda T, s, max_beta: _betas((torch.cos(_angle(T, s)) ** 2).clamp(min=1 - max_beta)),
            "You clipped ᾱ. That cuts off the whole noisy end of the curve: those steps do nothing, and T is "
            "left with signal. It is β that stays at or below max_beta, and ᾱ then follows from it.",
            about="input",
        ),
        Misconception(
            "offset-forgotten",
            lambda T, s, max_beta: _betas(torch.cos(_angle(T, 0.0)) ** 2).clamp(max=max_beta),
            "You left out the offset s. Without it the curve starts flat, and the first steps add next to no "
            "noise; s starts it a little way down.",
            about="missing",
        ),
        Misconception(
            "offset-not-divided-out",
            lambda T, s, max_beta: _betas(torch.cos((_times(T) + s) * math.pi / 2) ** 2).clamp(max=max_beta),
            "You added s, but did not divide by 1 + s. Then the angle runs past π/2 before t = T, where the "
            "cosine is squared on its way up again: signal would come back.",
            about="missing",
        ),
        Misconception(
            "one-time-too-few",
            lambda T, s, max_beta: _cosine_at(torch.linspace(0, 1, T, dtype=torch.float64), s, max_beta),
            "You took T times, and there are only T − 1 steps between them. T steps lie between T + 1 "
            "times: t = 0, 1, …, T.",
            about="count",
        ),
        Misconception(
            "single-precision",
            lambda T, s, max_beta: _cosine_at(torch.arange(T + 1) / T, s, max_beta),
            "The formula is right, in float32. Near t = 0 two neighbours of ᾱ agree in four digits, and "
            "single precision holds seven, so little of β is left. Start with torch.arange(…, "
            "dtype=torch.float64).",
            about="rounding",
        ),
        Misconception(
            "difference-for-ratio",
            lambda T, s, max_beta: _from_curve(T, s, lambda a: a[:-1] - a[1:]).clamp(max=max_beta),
            "You took the difference of two neighbours of ᾱ. A step keeps a *share* of what is left, 1 − "
            "β_t = ᾱ_t/ᾱ_{t−1}: take the ratio.",
            about="formula",
        ),
        Misconception(
            "ratio-upside-down",
            lambda T, s, max_beta: _from_curve(T, s, lambda a: 1 - a[:-1] / a[1:]).clamp(max=max_beta),
            "Your ratio is upside down: 1 − β_t = ᾱ_t/ᾱ_{t−1}, the later over the earlier, which is below 1.",
            about="swap",
        ),
        Misconception(
            "kept-for-beta",
            lambda T, s, max_beta: _from_curve(T, s, lambda a: a[1:] / a[:-1]),
            "You returned 1 − β_t, the share that a step keeps. Asked is β_t, the share that it replaces by "
            "noise.",
            about="reading",
        ),
        Misconception(
            "alpha-bar-returned",
            lambda T, s, max_beta: _from_curve(T, s, lambda a: a[1:] / a[0]),
            "You returned ᾱ_1 … ᾱ_T. They are right; asked are the steps β that lead to them.",
            about="reading",
        ),
        Misconception(
            "noise-so-far",
            lambda T, s, max_beta: _from_curve(T, s, lambda a: 1 - a[1:] / a[0]).clamp(max=max_beta),
            "You returned 1 − ᾱ_t, all the noise up to t. β_t is what one step adds: 1 − ᾱ_t/ᾱ_{t−1}.",
            about="formula",
        ),
        Misconception(
            "offset-below-only",
            lambda T, s, max_beta: _betas(torch.cos(_times(T) / (1 + s) * math.pi / 2) ** 2).clamp(
                max=max_beta
            ),
            "You divided by 1 + s, but did not add s to t/T: the curve starts flat, and never comes down to "
            "0.",
            about="missing",
        ),
        Misconception(
            "pi-for-half-of-it",
            lambda T, s, max_beta: _betas(torch.cos(2 * _angle(T, s)) ** 2).clamp(max=max_beta),
            "Your angle goes to π. It goes to π/2, where the cosine is 0 for the first time.",
            about="factor",
        ),
        Misconception(
            "clipped-from-below",
            lambda T, s, max_beta: _betas(torch.cos(_angle(T, s)) ** 2).clamp(min=max_beta),
            "You made max_beta the smallest β. It is the largest: `.clamp(max=max_beta)`.",
            about="direction",
        ),
        Misconception(
            "usual-clip",
            lambda T, s, max_beta: _betas(torch.cos(_angle(T, s)) ** 2).clamp(max=0.999),
            "You clipped at 0.999, whatever max_beta is. That is only its default.",
            about="input",
        ),
        Misconception(
            "usual-offset",
            lambda T, s, max_beta: _betas(torch.cos(_angle(T, 0.008)) ** 2).clamp(max=max_beta),
            "You took 0.008 for the offset, whatever s is. That is only its default.",
            about="input",
        ),
        Misconception(
            "last-beta-only-clipped",
            lambda T, s, max_beta: torch.cat(
                [(b := _betas(torch.cos(_angle(T, s)) ** 2))[:-1], b.new_full((1,), max_beta)]
            ),
            "You set the last β to max_beta. *No* β lies above it, and others may come near: clamp them all.",
            about="missing",
        ),
        Misconception(
            "one-in-front",
            lambda T, s, max_beta: _from_curve(T, s, lambda a: _betas(_from_one(a[1:]))).clamp(max=max_beta),
            "You put a 1 in front of the curve. But f(0) lies a little below 1, because of s, and ᾱ_t is "
            "f(t)/f(0). Take f at t = 0 … T: in the ratio of neighbours f(0) cancels.",
            about="input",
        ),
        Misconception(
            "only-the-offset-divided",
            lambda T, s, max_beta: _betas(torch.cos((_times(T) + s / (1 + s)) * math.pi / 2) ** 2).clamp(
                max=max_beta
            ),
            "Only s is divided by 1 + s. Brackets are missing: (t/T + s)/(1 + s).",
            about="order",
        ),
        Misconception(
            "noise-below-the-curve",
            lambda T, s, max_beta: _from_curve(T, s, lambda a: 1 - a[1:]).clamp(max=max_beta),
            "You returned 1 − f, all the noise up to t. β_t is what one step adds: 1 − f(t)/f(t − 1).",
            about="formula",
        ),
        Misconception(
            "scaled-for-clipped",
            lambda T, s, max_beta: _from_curve(T, s, lambda a: _betas(a) / _betas(a).max() * max_beta),
            "You scaled the whole list until its largest β is max_beta. Only what lies above max_beta is "
            "cut; all other β stay as they are.",
            about="formula",
        ),
    ],
    alternatives=[_cosine_by_loop, _cosine_normalised],
    hints=(
        "Nichol and Dhariwal draw the curve they want, ᾱ, and work out the steps from it. You need ᾱ at "
        "T + 1 times: t = 0, …, T.",
        "ᾱ_t = cos²((t/T + s)/(1 + s)·π/2) up to a constant factor, which the ratio in "
        "β_t = 1 − ᾱ_t/ᾱ_{t−1} removes. Then no β above max_beta.",
        "`t = torch.arange(…, dtype=torch.float64) / T`, then the curve, then `betas_of(…)`, and "
        "`.clamp(max=…)`.",
    ),
    atol=1e-8,
    figure=_cosine_figure,
    figure_alt="Left, ᾱ over t: the linear schedule is below 0.1 from t = 476 on, the cosine one falls "
    "evenly through 0.5 at t = 497. Right, β on a logarithmic scale: cosine starts at 0.00004 and shoots up "
    "to 0.999 at the end.",
)


# 05.2 Zero terminal SNR -----------------------------------------------------------------------------


def _roots(betas: Tensor) -> Tensor:
    return (1 - betas).cumprod(0).sqrt()


def _rescaled_by_alpha_bar(betas: Tensor) -> Tensor:
    a = (1 - betas).cumprod(0)
    return _betas(_from_one((a - a[-1]) * a[0] / (a[0] - a[-1])))


def _rescaled_without_scale(betas: Tensor) -> Tensor:
    root = _roots(betas)
    return _betas(_from_one((root - root[-1]) ** 2))


def _rescaled_from_zero(betas: Tensor) -> Tensor:
    root = _from_one(_roots(betas))
    return _betas(((root - root[-1]) / (1 - root[-1])) ** 2)


def _rescaled_to_one(betas: Tensor) -> Tensor:
    root = _roots(betas)
    return _betas(_from_one(((root - root[-1]) / (root[0] - root[-1])) ** 2))


def _last_beta_set(betas: Tensor) -> Tensor:
    return torch.cat([betas[:-1], betas.new_ones(1)])


def _rescaled_roots(betas: Tensor) -> Tensor:
    return _rescaled_of(_roots(betas))


def _rescaled_of(root: Tensor) -> Tensor:
    return (root - root[-1]) * root[0] / (root[0] - root[-1])


def _rescaled_affine(betas: Tensor) -> Tensor:
    """The map written as a·√ᾱ + b, solved for a and b."""
    root = _roots(betas)
    a, b = torch.linalg.solve(
        torch.stack([torch.stack([root[0], root[-1]]), torch.ones_like(root[:2])], 1),
        torch.stack([root[0], torch.zeros_like(root[0])]),
    )
    squared = (a * root + b) ** 2
    squared[-1] = 0
    return _betas(_from_one(squared))


def _rescaled_by_loop(betas: Tensor) -> Tensor:
    kept = _rescaled_roots(betas) ** 2
    before, steps = 1.0, []
    for each in kept.tolist():
        steps.append(1 - each / before)
        before = each
    return torch.tensor(steps, dtype=betas.dtype)


def _chain(betas: Betas) -> Make:
    return lambda g: {"betas": betas(g)}


def _latent(g: torch.Generator) -> Tensor:
    """As Stable Diffusion has it, with ends of its own."""
    return scaled_linear_betas(1000, number(g, 0.0006, 0.0011), number(g, 0.01, 0.014))


def _steep(low: int, high: int) -> Betas:
    return lambda g: linear_betas(whole(g, low, high), number(g, 0.1, 0.3), number(g, 0.4, 0.7))


def _zero_at_the_end(g: torch.Generator) -> Tensor:
    return rescale_zero_terminal_snr(linear_betas(whole(g, 40, 60), 0.01, number(g, 0.08, 0.12)))


def _rescale_figure(reference: Callable[..., Tensor]) -> Any:
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(4.2, 2.3), layout="constrained")
    before = scaled_linear_betas()
    for name, betas, line in (("scaled-linear", before, "-"), ("rescaled", reference(before), "--")):
        root = DiscreteVP(betas).alphas_cumprod.sqrt()
        axis.plot(root.numpy(), line, marker="", label=f"{name}: {root[-1]:.3f}")
    axis.axhline(0, color="gray", linewidth=0.8)
    axis.set(xlabel="t", ylabel="√ᾱ, factor of the data")
    axis.legend(frameon=False, title="at T")
    return figure


RESCALE = Exercise(
    id="05.2",
    name="rescale_to_zero_snr",
    title="No signal left at T",
    kind="implement",
    difficulty=2,
    minutes=12,
    reference=rescale_zero_terminal_snr,
    cases=[
        Case("1000 steps like Stable Diffusion's", _chain(_latent)),
        Case("a few large steps", _chain(_steep(4, 7))),
        Case("two steps", _chain(_steep(2, 2))),
        Case("rescaled before: nothing changes", _chain(_zero_at_the_end)),
    ],
    misconceptions=[
        Misconception(
            "alpha-bar-for-its-root",
            _rescaled_by_alpha_bar,
            "You shifted and scaled ᾱ itself. It is the factor of the data, √ᾱ, that is moved, and squared "
            "again afterwards.",
            about="root",
        ),
        Misconception(
            "shift-alone",
            _rescaled_without_scale,
            "√ᾱ is shifted down to 0 at T, and the start has moved down with it. The factor "
            "(√ᾱ_1)/(√ᾱ_1 − √ᾱ_T), of the two as they were before the shift, brings ᾱ_1 back to where it "
            "was.",
            about="missing",
        ),
        Misconception(
            "zeroth-kept",
            _rescaled_from_zero,
            "You kept ᾱ_0 = 1 in its place. What stays here is ᾱ_1, the first noisy level: the least noise "
            "that the network is ever shown.",
            about="index",
        ),
        Misconception(
            "first-moved-to-one",
            _rescaled_to_one,
            "Your first β is 0, and it should stay as it was. Either you stretched the curve until it begins "
            "at 1, and the factor √ᾱ_1 is missing; or the first step, from ᾱ_0 = 1 to ᾱ_1, is left out.",
            about="missing",
        ),
        Misconception(
            "last-beta-set",
            _last_beta_set,
            "You set the last β to 1. Then T is pure noise, but T − 1 still holds all its signal, and the "
            "last step jumps there at once. Rescaling spreads the change over all steps.",
            about="formula",
        ),
        Misconception(
            "roots-not-squared",
            lambda betas: _betas(_from_one(_rescaled_roots(betas))),
            "You shifted and scaled √ᾱ, and went on with it as if it were ᾱ. Square it before you turn it "
            "into steps.",
            about="root",
        ),
        Misconception(
            "betas-rescaled",
            lambda betas: (betas - betas[0]) / (betas[-1] - betas[0]) * (1 - betas[0]) + betas[0],
            "You stretched the β themselves until the last is 1. It is √ᾱ, the factor of the data, that is "
            "shifted and scaled; the β follow from it.",
            about="input",
        ),
        Misconception(
            "roots-of-the-steps",
            lambda betas: _betas(_from_one(_rescaled_of((1 - betas).sqrt()) ** 2)),
            "You left out the product: √(1 − β) is what one step keeps. √ᾱ_t is the product of all of them "
            "up to t: cumprod.",
            about="missing",
        ),
        Misconception(
            "roots-returned",
            _rescaled_roots,
            "You returned the new √ᾱ_1 … √ᾱ_T. They are right; what is asked for are the steps β that lead "
            "to them: square, and take ratios.",
            about="reading",
        ),
        Misconception(
            "alpha-bar-returned",
            lambda betas: _rescaled_roots(betas) ** 2,
            "You returned the new ᾱ_1 … ᾱ_T. They are right; what is asked for are the steps β that lead to "
            "them.",
            about="reading",
        ),
        Misconception(
            "first-beta-lost",
            lambda betas: _betas(_rescaled_roots(betas) ** 2),
            "One β is missing: the first step goes from ᾱ_0 = 1 to ᾱ_1, so put a 1 in front of the list "
            "before you take ratios of neighbours.",
            about="count",
        ),
        Misconception(
            "stretch-upside-down",
            lambda betas: (
                lambda root: _betas(_from_one(((root - root[-1]) * (root[0] - root[-1]) / root[0]) ** 2))
            )(_roots(betas)),
            "The stretch is upside down. To bring the first value back from √ᾱ_1 − √ᾱ_T to √ᾱ_1, multiply "
            "by √ᾱ_1/(√ᾱ_1 − √ᾱ_T).",
            about="swap",
        ),
    ],
    alternatives=[_rescaled_affine, _rescaled_by_loop],
    hints=(
        "√ᾱ is the factor of the data. Move that curve so that its last value becomes 0 and its first stays; "
        "a shift and a stretch do it.",
        "√ᾱ'_t = (√ᾱ_t − √ᾱ_T)·√ᾱ_1/(√ᾱ_1 − √ᾱ_T) for t = 1 … T. Then square, and go back to "
        "β_t = 1 − ᾱ'_t/ᾱ'_{t−1} with ᾱ'_0 = 1.",
        "`root = torch.cumprod(1 - betas, 0)` and its root; `root[0]` is √ᾱ_1, `root[-1]` is √ᾱ_T; then "
        "`betas_of(torch.cat([root.new_ones(1), …]))`.",
    ),
    figure=_rescale_figure,
    figure_alt="√ᾱ over t for Stable Diffusion's scaled-linear schedule, which ends at 0.068, and rescaled, "
    "which ends at 0. Both start at the same place.",
)


# 05.3 A schedule from log-SNR -----------------------------------------------------------------------


def schedule_from_log_snr(log_snr: Tensor) -> Tensor:
    """β (T,) of the variance-preserving path whose log-SNR at t = 1 … T is given."""
    return _betas(_from_one(log_snr.sigmoid()))


def _from_snr(log_snr: Tensor) -> Tensor:
    snr = log_snr.exp()
    return _betas(_from_one(snr / (1 + snr)))


def _from_snr_by_loop(log_snr: Tensor) -> Tensor:
    before, betas = 1.0, []
    for each in log_snr.tolist():
        alphas_cumprod = 1 / (1 + math.exp(-each)) if math.isfinite(each) else 0.0
        betas.append(1 - alphas_cumprod / before)
        before = alphas_cumprod
    return torch.tensor(betas, dtype=log_snr.dtype)


def _line(ends: tuple[float, float], low: int, high: int) -> Make:
    """A straight line between a number near the larger end and minus one near it."""
    return lambda g: {"log_snr": _straight(g, ends, whole(g, low, high))}


def _straight(g: torch.Generator, ends: tuple[float, float], T: int) -> Tensor:
    return torch.linspace(number(g, *ends), -number(g, *ends), T, dtype=torch.float64)


def _no_signal(g: torch.Generator) -> dict[str, Any]:
    line = _straight(g, (3, 5), whole(g, 20, 40))
    return {"log_snr": torch.cat([line, line.new_full((1,), -math.inf)])}


def _falling(g: torch.Generator) -> dict[str, Any]:
    values = torch.rand(20, generator=g, dtype=torch.float64).sort(descending=True).values
    return {"log_snr": 12 * values - 6}


def _log_snr_figure(reference: Callable[..., Tensor]) -> Any:
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(6, 2.2), layout="constrained")
    log_snr = torch.linspace(8, -8, 1000, dtype=torch.float64)
    left.plot(range(1, 1001), log_snr.numpy(), marker="")
    left.set(xlabel="t", ylabel="log-SNR given")
    right.plot(DiscreteVP(reference(log_snr)).alphas_cumprod.numpy(), marker="")
    right.set(xlabel="t", ylabel="ᾱ of the schedule")
    return figure


FROM_LOG_SNR = Exercise(
    id="05.3",
    name="schedule_from_log_snr",
    title="A schedule from its log-SNR",
    kind="implement",
    difficulty=1,
    minutes=8,
    reference=schedule_from_log_snr,
    cases=[
        Case("a straight line in 1000 steps", _line((7, 9), 1000, 1000)),
        Case("a line in a few large steps", _line((2, 4), 7, 11)),
        Case("20 falling values", _falling),
        Case("no signal at the end: −∞ is the last value", _no_signal),
    ],
    misconceptions=[
        Misconception(
            "snr-for-alpha-bar",
            lambda log_snr: _betas(_from_one(log_snr.exp())),
            "You took exp(log-SNR), which is the SNR, for ᾱ. But SNR = ᾱ/(1 − ᾱ): solve that for ᾱ.",
            about="formula",
        ),
        Misconception(
            "ratio-of-factors",
            lambda log_snr: _betas(_from_one((2 * log_snr).sigmoid())),
            "You read the input as log(α/σ), the ratio of the factors. Here log-SNR is log(α²/σ²), the ratio "
            "of the variances: there is no factor 2 to add.",
            about="factor",
        ),
        Misconception(
            "sign-turned",
            lambda log_snr: _betas(_from_one((-log_snr).sigmoid())),
            "The sign is turned: your ᾱ is small where log-SNR is large. A large log-SNR is nearly clean, "
            "with ᾱ near 1.",
            about="sign",
        ),
        Misconception(
            "factor-for-variance",
            lambda log_snr: _betas(_from_one(log_snr.sigmoid().sqrt())),
            "You took a root: that gives α, the factor of the picture. The ratios are of ᾱ = α².",
            about="root",
        ),
        Misconception(
            "variance-squared",
            lambda log_snr: _betas(_from_one(log_snr.sigmoid() ** 2)),
            "You squared the sigmoid. It is ᾱ already, the share of the variance.",
            about="root",
        ),
        Misconception(
            "half-of-the-log",
            lambda log_snr: _betas(_from_one((log_snr / 2).sigmoid())),
            "You halved log-SNR before the sigmoid. SNR = ᾱ/(1 − ᾱ) is a ratio of variances: its logarithm "
            "is the logit of ᾱ as it stands.",
            about="factor",
        ),
        Misconception(
            "ratio-upside-down",
            lambda log_snr: 1 - (a := _from_one(log_snr.sigmoid()))[:-1] / a[1:],
            "Your ratio is upside down: 1 − β_t = ᾱ_t/ᾱ_{t−1}, the later over the earlier, which is below 1.",
            about="swap",
        ),
        Misconception(
            "kept-for-beta",
            lambda log_snr: 1 - _betas(_from_one(log_snr.sigmoid())),
            "You returned 1 − β_t, the share that a step keeps. Asked is β_t.",
            about="reading",
        ),
        Misconception(
            "difference-for-ratio",
            lambda log_snr: (a := _from_one(log_snr.sigmoid()))[:-1] - a[1:],
            "You took the difference of two neighbours of ᾱ. A step keeps a *share* of what is left, 1 − "
            "β_t = ᾱ_t/ᾱ_{t−1}: take the ratio.",
            about="formula",
        ),
        Misconception(
            "zero-in-front",
            lambda log_snr: _betas(torch.cat([log_snr.new_zeros(1), log_snr]).sigmoid()),
            "You put a 0 in front of log-SNR, which is ᾱ_0 = ½. At t = 0 there is no noise at all: put ᾱ_0 "
            "= 1 in front, after the sigmoid.",
            about="input",
        ),
        Misconception(
            "one-in-front-too-early",
            lambda log_snr: _betas(torch.cat([log_snr.new_ones(1), log_snr]).sigmoid()),
            "You put the 1 in front of log-SNR and took the sigmoid of it as well. It is ᾱ_0 that is 1: "
            "first the sigmoid, then the 1.",
            about="order",
        ),
        Misconception(
            "all-noise-so-far",
            lambda log_snr: (-log_snr).sigmoid(),
            "You returned σ² = 1 − ᾱ_t, all the noise up to t. β_t is what one step adds: 1 − ᾱ_t/ᾱ_{t−1}.",
            about="formula",
        ),
        Misconception(
            "alpha-bar-returned",
            lambda log_snr: log_snr.sigmoid(),
            "You returned ᾱ_1 … ᾱ_T. They are right; what is asked for are the steps β that lead to them.",
            about="reading",
        ),
        Misconception(
            "first-beta-lost",
            lambda log_snr: _betas(log_snr.sigmoid()),
            "One β is missing: the first step goes from ᾱ_0 = 1 to ᾱ_1, so put a 1 in front of the list "
            "before you take ratios of neighbours.",
            about="count",
        ),
        Misconception(
            "decibels",
            lambda log_snr: schedule_from_log_snr(log_snr * math.log(10) / 10),
            "You took log-SNR for decibels. It is the natural logarithm: SNR = exp(log-SNR).",
            about="formula",
        ),
        Misconception(
            "logarithm-kept",
            lambda log_snr: _betas(_from_one(log_snr / (1 + log_snr))),
            "You used log-SNR as if it were the SNR. Undo the logarithm first: ᾱ = SNR/(1 + SNR) with SNR = "
            "exp(log-SNR), which is the sigmoid.",
            about="missing",
        ),
        Misconception(
            "first-one-twice",
            lambda log_snr: _betas(torch.cat([log_snr[:1], log_snr]).sigmoid()),
            "Your first β is 0: ᾱ_1 stands in front twice. What stands before it is ᾱ_0 = 1.",
            about="input",
        ),
        Misconception(
            "one-at-the-end",
            lambda log_snr: _betas(torch.cat([log_snr.sigmoid(), log_snr.new_ones(1)])),
            "You put the 1 at the end of the list. It is ᾱ_0, and t = 0 comes first.",
            about="direction",
        ),
        Misconception(
            "zero-for-one-in-front",
            lambda log_snr: _betas(torch.cat([log_snr.new_zeros(1), log_snr.sigmoid()])),
            "You put a 0 in front, and the first ratio divides by it. At t = 0 all is signal: ᾱ_0 = 1.",
            about="input",
        ),
        Misconception(
            "softmax",
            lambda log_snr: _betas(_from_one(log_snr.softmax(0))),
            "You took the softmax, which spreads a total of 1 over the whole list. Each ᾱ_t belongs to its "
            "own log-SNR: the sigmoid.",
            about="formula",
        ),
    ],
    alternatives=[_from_snr, _from_snr_by_loop],
    hints=(
        "On a variance-preserving path signal and noise add up to 1, so their ratio alone fixes both.",
        "λ = log(ᾱ/(1 − ᾱ)) is the logit of ᾱ. Its inverse has a name of its own in PyTorch.",
        "`betas_of(torch.cat([log_snr.new_ones(1), …]))`, with ᾱ_1 … ᾱ_T in the place of the dots.",
    ),
    figure=_log_snr_figure,
    figure_alt="Left, a straight line of log-SNR from 8 to −8 over 1000 steps. Right, the ᾱ that belongs to "
    "it: a falling S-curve, near 1 for a quarter of the time and near 0 for the last quarter.",
)


# 05.4 Debug: the walk that starts too low -----------------------------------------------------------


def walk_from_noise(denoiser: Denoiser, path: DiscreteVP, steps: int, noise: Tensor) -> Tensor:
    """DDIM in `steps` equal steps from T to 0, with a denoiser that is asked as denoiser(x, level)."""

    def asked(x: Tensor, level: Level, condition: Condition = None) -> Estimate:
        return denoiser(x, level)

    return sample(asked, noise, path.levels(steps, "trailing"))


def cards(mean: float, spread: float) -> Denoiser:
    """The exact denoiser of cards of one shade each: x₀ = b everywhere, b ~ N(mean, spread²)."""

    def denoise(x: Tensor, level: Level, condition: Condition = None) -> Estimate:
        alpha, sigma = float(level.alpha), float(level.sigma)
        variance = (alpha * spread) ** 2 + sigma**2 / x[0].numel()
        seen = x.mean((1, 2, 3), keepdim=True)
        shade = mean + alpha * spread**2 / variance * (seen - alpha * mean)
        return Estimate.from_x0(shade.expand_as(x), x, level)

    return denoise


class _EqualSteps(DiscreteVP):
    """A path for which times that were rounded, up, down or not at all, are the same equal steps."""

    def __init__(self, betas: Tensor, steps: int) -> None:
        super().__init__(betas)
        self.stride = self.T / steps

    def __call__(self, t: Tensor | float) -> Level:
        given = torch.as_tensor(t, dtype=torch.float64)
        even = (given / self.stride).round() * self.stride
        return super().__call__(torch.where((even - given).abs() < 1, even.clamp(0, self.T), given))


def _on_cards(
    answer: Callable[..., Any], betas: Tensor, mean: float, spread: float, steps: int, noise: Tensor
) -> Any:
    return answer(cards(mean, spread), _EqualSteps(betas, steps), steps, noise)


def _walk(
    times: Callable[[int, int], Sequence[float]],
    start: Callable[[Tensor, Level], Tensor] = lambda noise, level: noise,
) -> Callable[..., Tensor]:
    """A walk over other times, or from another start."""

    def walk(denoiser: Denoiser, path: DiscreteVP, steps: int, noise: Tensor) -> Tensor:
        levels = [path(float(t)) for t in times(path.T, steps)]
        return sample(denoiser, start(noise, levels[0]), levels)

    return walk


def _leading(T: int, n: int) -> list[int]:
    return [1 + T // n * k for k in reversed(range(n))] + [0]


def _walk_by_hand(denoiser: Denoiser, path: DiscreteVP, steps: int, noise: Tensor) -> Tensor:
    x, now = noise, path(float(path.T))
    for k in range(1, steps + 1):
        next = path(float(path.T - k * path.T // steps))
        estimate = denoiser(x, now)
        x = add_noise(estimate.x0, estimate.eps, next)
        now = next
    return x


def _walk_on_linspace(denoiser: Denoiser, path: DiscreteVP, steps: int, noise: Tensor) -> Tensor:
    levels = [path(t) for t in torch.linspace(path.T, 0, steps + 1, dtype=torch.float64)]
    x = noise
    for i in range(steps):
        x0, eps = denoiser(x, levels[i])
        x = levels[i + 1].alpha * x0 + levels[i + 1].sigma * eps
    return x


def _cards(
    betas: Betas,
    mean: tuple[float, float],
    spread: tuple[float, float],
    steps: Callable[[torch.Generator], int],
    *shape: int,
) -> Make:
    return lambda g: {
        "betas": betas(g),
        "mean": number(g, *mean),
        "spread": number(g, *spread),
        "steps": steps(g),
        "noise": normal(g, *shape),
    }


def _one_of(*numbers: int) -> Callable[[torch.Generator], int]:
    return lambda g: numbers[whole(g, 0, len(numbers) - 1)]


def _walk_figure(reference: Callable[..., Tensor]) -> Any:
    path = DiscreteVP(rescale_zero_terminal_snr(scaled_linear_betas()))
    x = reference(cards(0.8, 0.1), path, 10, figures.noise(6, 1, 16, 16))
    return figures.strip(list(x), [f"{float(card.mean()):.2f}" for card in x])


def _walk_with(
    mixed: Callable[[Level, Tensor, Tensor], Tensor], asked: int = 0, rounds: int | None = None
) -> Callable[..., Tensor]:
    """Equal steps from T, mixed(level, x0, eps) at each; `asked` places on along the levels."""

    def walk(denoiser: Denoiser, path: DiscreteVP, steps: int, noise: Tensor) -> Tensor:
        levels, x = path.levels(steps, "trailing"), noise
        for i in range(steps if rounds is None else rounds):
            estimate = denoiser(x, levels[i + asked])
            x = mixed(levels[i + 1], estimate.x0, estimate.eps)
        return x

    return walk


WALK = Exercise(
    id="05.4",
    name="walk_from_noise",
    title="Still grey",
    kind="debug",
    difficulty=2,
    minutes=10,
    reference=walk_from_noise,
    cases=[
        Case(
            "white cards, a rescaled schedule, steps that divide T",
            _cards(
                lambda g: rescale_zero_terminal_snr(_latent(g)),
                (0.7, 0.9),
                (0.1, 0.2),
                _one_of(5, 8, 10),
                4,
                1,
                16,
                12,
            ),
        ),
        Case(
            "black cards, a cosine schedule, steps that do not divide T",
            _cards(cosine, (-0.9, -0.6), (0.2, 0.3), _one_of(7, 11), 3, 1, 8, 6),
        ),
        Case(
            "colour cards, beyond white and black, on a chain of 100, steps that do not divide T",
            _cards(
                lambda g: sigmoid_betas(100, -number(g, 2.5, 3.5), 2.0),
                (0.9, 1.2),
                (0.4, 0.6),
                _one_of(8, 12),
                2,
                3,
                8,
                6,
            ),
        ),
    ],
    planted="starts-below-T",
    misconceptions=[
        Misconception(
            "starts-below-T",
            _walk(_leading),
            "The walk starts a whole stride below T, at a level where the training pictures still held "
            "signal, with noise that holds none.",
            about="level",
        ),
        Misconception(
            "noise-turned-down",
            _walk(_leading, lambda noise, level: float(level.sigma) * noise),
            "You gave the noise the strength σ that it has at the first time. It is the signal that is "
            "missing there, and you cannot put it in: start where there is none, at T.",
            about="factor",
        ),
        Misconception(
            "first-time-moved",
            _walk(lambda T, n: [T, *_leading(T, n)[1:]]),
            "The walk now starts at T: the cause is found. But you moved that one time alone, so the first "
            "step is nearly two strides long and the last is a single unit. Space all times evenly from T "
            "to 0.",
            about="level",
        ),
        Misconception(
            "one-step-too-many",
            _walk(lambda T, n: [T, *_leading(T, n)]),
            "The walk now starts at T: the cause is found. But you put T in front of the old times, so "
            "there is one step too many, and the last is a single unit. Space steps + 1 times evenly from T "
            "to 0.",
            about="count",
        ),
        Misconception(
            "last-step-wasted",
            _walk(lambda T, n: [round(T - k * (T - 1) / (n - 1)) for k in range(n)] + [0]),
            "The walk now starts at T, but it goes evenly down to t = 1 and spends its last step from 1 to "
            "0, where next to no noise is left. Space the times evenly from T to 0 itself.",
            about="level",
        ),
        Misconception(
            "stops-above-zero",
            _walk(lambda T, n: [T * k / n for k in range(n, 0, -1)]),
            "The walk now starts at T, but it never gets to 0: it stops one stride above, with that level's "
            "noise still in the picture. It takes steps + 1 times to make that many steps.",
            about="count",
        ),
        Misconception(
            "one-step-too-few",
            _walk(lambda T, n: [T * k / n for k in reversed(range(n))]),
            "The walk now ends at 0 in even strides, but its first time is still a whole stride below T. "
            "From T to 0 there are steps + 1 times, not steps.",
            about="count",
        ),
        Misconception(
            "starts-at-T-minus-1",
            _walk(lambda T, n: [(T - 1) * k / n for k in reversed(range(n + 1))]),
            "The walk starts at T − 1. Where lists begin with the first noisy level, that is the last "
            "index; here t = 0 is the data and T the noisiest time.",
            about="index",
        ),
        Misconception(
            "whole-stride-from-0",
            _walk(lambda T, n: [T // n * k for k in reversed(range(n + 1))]),
            "The walk goes evenly down to 0, but in whole strides of T // steps: where steps does not "
            "divide T it still starts below T, by the remainder. Take T·k/steps, rounded each time by "
            "itself.",
            about="rounding",
        ),
        Misconception(
            "whole-stride-from-T",
            _walk(lambda T, n: [T - T // n * k for k in range(n + 1)]),
            "The walk starts at T, but goes in whole strides of T // steps: where steps does not divide T "
            "it ends above 0, by the remainder. Take T·k/steps, rounded each time by itself.",
            about="rounding",
        ),
        Misconception(
            "whole-stride-and-a-long-last-step",
            _walk(lambda T, n: [T - T // n * k for k in range(n)] + [0]),
            "The walk goes from T to 0, but in whole strides of T // steps: where steps does not divide T "
            "the remainder makes the last step longer than all others. Take T·k/steps, rounded each time by "
            "itself.",
            about="rounding",
        ),
        Misconception(
            "one-equal-step-too-many",
            _walk(lambda T, n: [T * k / (n + 1) for k in reversed(range(n + 2))]),
            "The walk goes evenly from T to 0, but in steps + 1 steps. Between steps + 1 times there are "
            "`steps` steps.",
            about="count",
        ),
        Misconception(
            "one-equal-step-too-few",
            _walk(lambda T, n: [T * k / (n - 1) for k in reversed(range(n))]),
            "The walk goes evenly from T to 0, but in steps − 1 steps: that many lie between `steps` times. "
            "It takes steps + 1 times.",
            about="count",
        ),
        Misconception(
            "return-in-the-loop",
            _walk_with(lambda level, x0, eps: level.alpha * x0 + level.sigma * eps, rounds=1),
            "The walk starts at T, and ends after its first step: the `return` stands inside the loop.",
            about="count",
        ),
        Misconception(
            "factors-swapped",
            _walk_with(lambda level, x0, eps: level.sigma * x0 + level.alpha * eps),
            "The two factors are swapped: α belongs to x₀ and σ to ε.",
            about="swap",
        ),
        Misconception(
            "asked-at-the-next-level",
            _walk_with(lambda level, x0, eps: level.alpha * x0 + level.sigma * eps, asked=1),
            "The denoiser is told the level that the step leads to, at last t = 0. x is still at the level "
            "before: ask first, then move on.",
            about="order",
        ),
        Misconception(
            "whole-stride-below-T",
            _walk(lambda T, n: [T // n * k for k in reversed(range(n))]),
            "You took the 1 + away, but the first time is still a whole stride below T: from T to 0 there "
            "are steps + 1 times, not steps.",
            about="count",
        ),
        Misconception(
            "whole-stride-above-0",
            _walk(lambda T, n: [T - T // n * k for k in range(n)]),
            "The walk now starts at T, and ends a whole stride above 0, with noise still in the picture: "
            "from T to 0 there are steps + 1 times, not steps.",
            about="count",
        ),
        Misconception(
            "times-that-rise",
            _walk(lambda T, n: [T * k / n for k in range(1, n + 1)]),
            "Your times rise, from data to noise. The walk goes the other way: from T down to 0.",
            about="direction",
        ),
        Misconception(
            "place-for-time",
            _walk(lambda T, n: list(range(n, -1, -1))),
            "You gave the path the place in the list, steps … 0, where it wants a time: T … 0, in so many "
            "equal steps.",
            about="input",
        ),
    ],
    alternatives=[_walk_by_hand, _walk_on_linspace],
    hints=(
        "A network knows what a picture at time t looks like, and at T it is pure noise. Print the first of "
        "the times: is what you hand over a picture of that time?",
        "The walk needs steps + 1 times from T down to 0, both included: T − k·T/steps for k = 0 … steps. "
        "The step itself, x' = α'·x̂₀ + σ'·ε̂, is right.",
        "Only the lines that make `times` are wrong. The list is `[round(path.T * … / steps) for k in "
        "reversed(range(…))]`, and its first entry is T, its last 0, whether or not steps divides T.",
    ),
    call=_on_cards,
    figure=_walk_figure,
    figure_alt="Six nearly white cards with shades around 0.8, sampled in 10 steps.",
)


# 05.5 Larger pictures -------------------------------------------------------------------------------


def shift_schedule(betas: Tensor, k: float) -> Tensor:
    """β (T,) with log-SNR lower by 2·log k at each time (Hoogeboom et al. 2023)."""
    return schedule_from_log_snr((1 - betas).cumprod(0).logit() - 2 * math.log(k))


def _shifted(by: Callable[[float], float]) -> Callable[..., Tensor]:
    return lambda betas, k: schedule_from_log_snr((1 - betas).cumprod(0).logit() + by(k))


def _noise_times(betas: Tensor, k: float, keep: bool = True) -> Tensor:
    signal = (1 - betas).cumprod(0)
    noise = k**2 * (1 - signal)
    return _betas(_from_one(signal / (signal + noise) if keep else 1 - noise))


def _shift_by_loop(betas: Tensor, k: float) -> Tensor:
    signal, before, shifted = 1.0, 1.0, []
    for beta in betas.tolist():
        signal *= 1 - beta
        alphas_cumprod = signal / (signal + k * k * (1 - signal))
        shifted.append(1 - alphas_cumprod / before)
        before = alphas_cumprod
    return torch.tensor(shifted, dtype=betas.dtype)


def _shift(betas: Betas, low: float, high: float) -> Make:
    return lambda g: {"betas": betas(g), "k": number(g, low, high)}


def _shift_figure(reference: Callable[..., Tensor]) -> Any:
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(4.2, 2.3), layout="constrained")
    for k, line in ((1, "-"), (2, "--"), (4, "-."), (8, ":")):
        axis.plot(
            DiscreteVP(reference(cosine_betas(), k)).alphas_cumprod.numpy(), line, marker="", label=f"k = {k}"
        )
    axis.set(xlabel="t", ylabel="ᾱ, share of signal")
    axis.legend(frameon=False)
    return figure


SHIFT = Exercise(
    id="05.5",
    name="shift_schedule",
    title="A schedule for larger pictures",
    kind="stretch",
    difficulty=2,
    minutes=10,
    reference=shift_schedule,
    builds_on=[FROM_LOG_SNR],
    cases=[
        Case("a cosine schedule, about twice the side", _shift(cosine, 1.8, 2.5)),
        Case("some ten large steps, about three times the side", _shift(lambda g: linear(g, 10), 2.7, 3.5)),
        Case("no signal at T, about eight times the side", _shift(_zero_at_the_end, 7.0, 9.0)),
        Case("the same size: nothing changes", _shift(lambda g: cosine(g, 100), 1.0, 1.0)),
        Case("half the side or a little less", _shift(cosine, 0.4, 0.6)),
    ],
    misconceptions=[
        Misconception(
            "half-the-shift",
            _shifted(lambda k: -math.log(k)),
            "You shifted by log k. Averaging k × k pixels divides the variance of the noise by k², and SNR "
            "compares variances, so the shift is log k² = 2·log k.",
            about="factor",
        ),
        Misconception(
            "cleaner-not-noisier",
            _shifted(lambda k: 2 * math.log(k)),
            "You shifted the wrong way. A larger picture keeps more of its coarse content under the same "
            "noise, so its schedule needs a lower SNR: less log-SNR at each time.",
            about="sign",
        ),
        Misconception(
            "twice-the-shift",
            _shifted(lambda k: -4 * math.log(k)),
            "You shifted by 4·log k. The k² pixels of a block divide the variance of the noise by k², once: "
            "that is log k² = 2·log k.",
            about="factor",
        ),
        Misconception(
            "betas-multiplied",
            lambda betas, k: (k**2 * betas).clamp(max=1.0),
            "You multiplied β by k². What a shift moves is log-SNR, the sum of all steps so far; for late "
            "times its steps are hardly larger than before.",
            about="input",
        ),
        Misconception(
            "signal-divided",
            lambda betas, k: _betas(_from_one((1 - betas).cumprod(0) / k**2)),
            "You divided ᾱ by k². SNR is ᾱ/(1 − ᾱ): with less signal the noise grows as well, and nearly "
            "clean levels are moved far too much. Shift log-SNR, and turn it back.",
            about="input",
        ),
        Misconception(
            "noise-multiplied",
            lambda betas, k: _noise_times(betas, k, keep=False),
            "You multiplied 1 − ᾱ by k² and took the signal as what is left of 1. The ratio of the two is "
            "what must fall by k²; that keeps both between 0 and 1.",
            about="formula",
        ),
        Misconception(
            "log-snr-returned",
            lambda betas, k: (1 - betas).cumprod(0).logit() - 2 * math.log(k),
            "You returned the shifted log-SNR. It is right; your schedule_from_log_snr turns it into the "
            "steps β that are asked for.",
            about="reading",
        ),
        Misconception(
            "k-itself",
            _shifted(lambda k: -k),
            "You shifted by k itself. It is the SNR that falls by the factor k²; its logarithm falls by log "
            "k² = 2·log k.",
            about="formula",
        ),
        Misconception(
            "square-without-the-log",
            _shifted(lambda k: -(k**2)),
            "You shifted by k². It is the SNR that falls by the factor k²; its logarithm falls by log k² = "
            "2·log k.",
            about="formula",
        ),
        Misconception(
            "log-divided",
            lambda betas, k: schedule_from_log_snr((1 - betas).cumprod(0).logit() / k**2),
            "You divided log-SNR by k². It is the SNR that is divided: its logarithm is shifted by −2·log k.",
            about="formula",
        ),
        Misconception(
            "log2",
            _shifted(lambda k: -2 * math.log2(k)),
            "You took the logarithm to base 2. log-SNR is a natural logarithm, and so is the shift.",
            about="factor",
        ),
        Misconception(
            "alpha-bar-for-the-snr",
            lambda betas, k: schedule_from_log_snr((1 - betas).cumprod(0).log() - 2 * math.log(k)),
            "You took log ᾱ for log-SNR. SNR = ᾱ/(1 − ᾱ), so its logarithm is the logit of ᾱ.",
            about="formula",
        ),
        Misconception(
            "product-forgotten",
            lambda betas, k: schedule_from_log_snr((1 - betas).logit() - 2 * math.log(k)),
            "You left out the product: 1 − β_t is what one step keeps. ᾱ_t is the product of all of them up "
            "to t: cumprod.",
            about="missing",
        ),
        Misconception(
            "roots-shifted",
            lambda betas, k: schedule_from_log_snr((1 - betas).cumprod(0).sqrt().logit() - 2 * math.log(k)),
            "You took a root of ᾱ before the logit. ᾱ is the share of the variance already.",
            about="root",
        ),
        Misconception(
            "log10",
            _shifted(lambda k: -2 * math.log10(k)),
            "You took the logarithm to base 10. log-SNR is a natural logarithm, and so is the shift: "
            "math.log(k).",
            about="formula",
        ),
        Misconception(
            "betas-multiplied-and-clipped",
            lambda betas, k: (k**2 * betas).clamp(max=0.999),
            "You multiplied β by k² and clipped it. It is log-SNR, made by all steps so far, that is "
            "shifted: turn it into β afterwards.",
            about="input",
        ),
        Misconception(
            "shift-of-each-step",
            lambda betas, k: 1 - ((1 - betas).logit() - 2 * math.log(k)).sigmoid(),
            "You shifted each step by itself. SNR belongs to a level: take the product ᾱ = cumprod(1 − β) "
            "first, shift its logit, and turn that into β.",
            about="missing",
        ),
        Misconception(
            "minus-below-the-line",
            lambda betas, k: (lambda snr: _betas(_from_one(snr / (1 - snr))))(
                (1 - betas).cumprod(0) / (1 - (1 - betas).cumprod(0)) / k**2
            ),
            "On the way back from SNR you divided by 1 − SNR. SNR = ᾱ/(1 − ᾱ) gives ᾱ = SNR/(1 + SNR).",
            about="sign",
        ),
        Misconception(
            "factors-shifted",
            lambda betas, k: _betas(
                _from_one(((1 - betas).cumprod(0).sqrt().logit() - 2 * math.log(k)).sigmoid() ** 2)
            ),
            "You took the logit of √ᾱ and squared afterwards. log-SNR is the logit of ᾱ itself, for SNR "
            "compares variances.",
            about="root",
        ),
    ],
    alternatives=[_noise_times, _shift_by_loop],
    hints=(
        "Averaging k × k pixels makes the noise weaker and leaves coarse content as it is. The new schedule "
        "takes back what averaging would gain.",
        "λ'_t = λ_t − 2·log k with λ = log(ᾱ/(1 − ᾱ)), the logit of ᾱ.",
        "`alphas_cumprod = torch.cumprod(…, 0)`, then `torch.logit(…)`, the shift, and your "
        "`schedule_from_log_snr(…)`.",
    ),
    figure=_shift_figure,
    figure_alt="ᾱ over t of the cosine schedule for pictures of 1, 2, 4 and 8 times the side: the larger, "
    "the earlier it falls; ᾱ is one half at t = 497, 290, 150 and 73.",
)


# 05.6 The schedule as one piece ---------------------------------------------------------------------


class Schedule:
    """The variance-preserving path, in the student's words: α and σ at real times, and a sampler's levels."""

    def __init__(self, betas: Tensor) -> None:
        self.path = DiscreteVP(betas)
        self.T, self.alphas_cumprod = self.path.T, self.path.alphas_cumprod

    @classmethod
    def from_log_snr(cls, log_snr: Callable[[Tensor], Tensor], T: int) -> "Schedule":
        return cls(schedule_from_log_snr(log_snr(torch.arange(1, T + 1, dtype=torch.float64) / T)))

    def at(self, t: Tensor) -> tuple[Tensor, Tensor]:
        level = self.path(t.flatten())
        return level.alpha.view_as(t), level.sigma.view_as(t)

    def levels(self, n: int) -> list[tuple[Tensor, Tensor, Tensor]]:
        t = torch.arange(n, -1, -1, dtype=torch.float64) * self.T / n
        return list(zip(t, *self.at(t), strict=True))


class _ByLerp(Schedule):
    """All times at once, on the logits."""

    def __init__(self, betas: Tensor) -> None:
        self.T = len(betas)
        self.alphas_cumprod = _from_one((1 - betas).cumprod(0))

    def at(self, t: Tensor) -> tuple[Tensor, Tensor]:
        below = t.floor().clamp(max=self.T - 1).long()
        low, high = self.alphas_cumprod[below], self.alphas_cumprod[below + 1]
        line = torch.lerp(low.logit(), high.logit(), t - below).sigmoid()
        signal = torch.where((low == 1) | (high == 0), torch.lerp(low, high, t - below), line)
        return signal.sqrt(), (1 - signal).sqrt()


class _ByLoop(Schedule):
    """One time after the other, on SNR."""

    def __init__(self, betas: Tensor) -> None:
        kept = [1.0]
        for beta in betas.tolist():
            kept.append(kept[-1] * (1 - beta))
        self.T, self.alphas_cumprod = len(kept) - 1, torch.tensor(kept, dtype=torch.float64)

    def _signal(self, t: float) -> float:
        before = min(math.floor(t), self.T - 1)
        low, high = self.alphas_cumprod[before : before + 2].tolist()
        rest = t - before
        if low == 1 or high == 0:
            return low + rest * (high - low)
        snr = (low / (1 - low)) ** (1 - rest) * (high / (1 - high)) ** rest
        return snr / (1 + snr)

    def at(self, t: Tensor) -> tuple[Tensor, Tensor]:
        signal = torch.tensor([self._signal(each) for each in t.flatten().tolist()], dtype=torch.float64)
        return signal.sqrt().view_as(t), (1 - signal).sqrt().view_as(t)

    def levels(self, n: int) -> list[tuple[Tensor, Tensor, Tensor]]:
        times = [torch.tensor(self.T * (1 - k / n), dtype=torch.float64) for k in range(n + 1)]
        return [(t, *self.at(t)) for t in times]


def _schedule_output(
    answer: Any, betas: Tensor, times: Tensor, n: int, ends: tuple[float, float], T: int
) -> dict[str, Any]:
    """What the four methods give; the log-SNR handed over is a line from one end to minus the other."""
    betas, times = betas.cpu(), times.cpu()  # schedules are on the CPU everywhere
    made = answer(betas)
    drawn = answer.from_log_snr(lambda u: ends[0] - (ends[0] + ends[1]) * u, T)
    factors, levels = made.at(times), made.levels(n)
    if factors is not None:
        factors = torch.stack(list(factors))
    if levels is not None:
        triples = ([torch.as_tensor(each, dtype=torch.float64) for each in level] for level in levels)
        levels = torch.stack([torch.stack(triple) for triple in triples])
    return {
        "T": made.T,
        "alphas_cumprod": made.alphas_cumprod,
        "at": factors,
        "levels": levels,
        "from_log_snr": None if drawn is None else drawn.alphas_cumprod,
    }


def _other(**methods: Any) -> type[Schedule]:
    """A schedule with other methods."""
    return type("Schedule", (_ByLerp,), methods)


def _tabled(table: Callable[[Tensor], Tensor], more: int = 0) -> type[Schedule]:
    """A schedule that keeps another table, table(betas), and counts so many steps more."""

    def init(self: Schedule, betas: Tensor) -> None:
        self.T, self.alphas_cumprod = len(betas) + more, table(betas)

    return _other(__init__=init)


def _neighbours(self: Schedule, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """ᾱ at the whole times before and after t, and the share of the way between them."""
    below = t.floor().clamp(max=self.T - 1).long()
    return self.alphas_cumprod[below], self.alphas_cumprod[below + 1], t - below


def _between(mixed: Callable[[Tensor, Tensor, Tensor], Tensor], ends: bool = False) -> type[Schedule]:
    """A schedule whose ᾱ between two whole times is mixed(ᾱ before, ᾱ after, share of the way).

    With `ends` it is right where log-SNR is infinite.
    """

    def at(self: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
        low, high, way = _neighbours(self, t)
        signal = mixed(low, high, way)
        if ends:
            signal = torch.where((low == 1) | (high == 0), torch.lerp(low, high, way), signal)
        return signal.sqrt(), (1 - signal).sqrt()

    return _other(at=at)


def _by_log_snr(low: Tensor, high: Tensor, way: Tensor) -> Tensor:
    return torch.lerp(low.logit(), high.logit(), way).sigmoid()


def _by_both_factors(self: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
    low, high, way = _neighbours(self, t)
    return torch.lerp(low.sqrt(), high.sqrt(), way), torch.lerp((1 - low).sqrt(), (1 - high).sqrt(), way)


def _level_early(self: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
    """The neighbours are taken one place too early."""
    below = t.floor().clamp(max=self.T - 1).long()
    before, after = self.alphas_cumprod[(below - 1).clamp(min=0)], self.alphas_cumprod[below]
    signal = _by_log_snr(before, after, t - below)
    signal = torch.where((before == 1) | (after == 0), torch.lerp(before, after, t - below), signal)
    return signal.sqrt(), (1 - signal).sqrt()


def _beyond_the_table(self: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
    """At t = T the neighbour after is looked for."""
    below = t.floor().long()
    signal = _by_log_snr(self.alphas_cumprod[below], self.alphas_cumprod[below + 1], t - below)
    return signal.sqrt(), (1 - signal).sqrt()


def _levels_at(times: Callable[[int, int], Tensor]) -> type[Schedule]:
    """A schedule whose sampler goes by other times, times(T, n)."""

    def levels(self: Schedule, n: int) -> list[tuple[Tensor, Tensor, Tensor]]:
        t = times(self.T, n)
        return list(zip(t, *self.at(t), strict=True))

    return _other(levels=levels)


def _listed(made: Callable[..., Any]) -> type[Schedule]:
    """A schedule whose levels are made(t, α, σ) of all times at once."""

    def levels(self: Schedule, n: int) -> Any:
        t = _downwards(self.T, n)
        return made(t, *self.at(t))

    return _other(levels=levels)


def _downwards(T: float, n: int) -> Tensor:
    return torch.arange(n, -1, -1, dtype=torch.float64) * T / n


def _drawn(made: Callable[[Any, Callable[[Tensor], Tensor], int], Any]) -> type[Schedule]:
    """A schedule that is designed otherwise: made(cls, log_snr, T)."""
    return _other(from_log_snr=classmethod(made), at=_ByLerp.at)


def _drawn_at(times: Callable[[int], Tensor]) -> type[Schedule]:
    """A schedule that asks for log-SNR at other u, times(T)."""
    return _drawn(lambda cls, log_snr, T: cls(schedule_from_log_snr(log_snr(times(T)))))


def _upwards(T: int) -> Tensor:
    return torch.arange(1, T + 1, dtype=torch.float64)


def _factors(made: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> type[Schedule]:
    """A schedule that gives made(α, σ) in the place of α and σ."""
    return _other(at=lambda self, t: made(*_ByLerp.at(self, t)))


def _schedule_case(betas: Betas, shape: tuple[int, ...]) -> Make:
    """Times at both ends, between t = 0 and 1, in the last step, and anywhere."""

    def make(g: torch.Generator) -> dict[str, Any]:
        steps = betas(g)
        T, count = len(steps), math.prod(shape)
        anywhere = torch.rand(count, generator=g, dtype=torch.float64) * T
        fixed = torch.tensor(
            [0.0, float(T), number(g, 0.3, 0.7), T - number(g, 0.3, 0.7), float(whole(g, 2, T - 2))]
        )
        times = torch.cat([fixed.double(), anywhere])[:count].view(shape)
        ends = (number(g, 4, 9), number(g, 4, 9))
        return {"betas": steps, "times": times, "n": _one_of(3, 4, 7)(g), "ends": ends, "T": whole(g, 6, 12)}

    return make


def _schedule_figure(reference: Callable[..., Any]) -> Any:
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(4.6, 2.4), layout="constrained")
    made = reference(cosine_betas(8))
    t, whole_times = torch.linspace(0, 8, 200, dtype=torch.float64), torch.arange(9, dtype=torch.float64)
    for i, name in enumerate(("α", "σ")):
        (line,) = axis.plot(t.numpy(), made.at(t)[i].numpy(), marker="", label=name)
        axis.plot(whole_times.numpy(), made.at(whole_times)[i].numpy(), "o", color=line.get_color())
    axis.set(xlabel="t, eight steps", ylabel="factor")
    axis.legend(frameon=False)
    return figure


SCHEDULE = Exercise(
    id="05.6",
    name="Schedule",
    title="The whole piece: a schedule at any time",
    kind="implement",
    difficulty=3,
    minutes=25,
    reference=Schedule,
    cases=[
        Case("some ten large steps, times between whole ones", _schedule_case(lambda g: linear(g, 10), (8,))),
        Case("a short cosine schedule, a table of times", _schedule_case(lambda g: cosine(g, 12), (2, 4))),
        Case(
            "no signal at T, many steps",
            _schedule_case(lambda g: rescale_zero_terminal_snr(linear(g, whole(g, 20, 30))), (9,)),
        ),
    ],
    misconceptions=[
        Misconception(
            "alpha-bar-between",
            _between(lambda low, high, rest: torch.lerp(low, high, rest)),
            "Between whole times you drew a straight line in ᾱ. The line is asked for in log-SNR, the logit "
            "of ᾱ: go there, mix, and come back with the sigmoid.",
            about="input",
        ),
        Misconception(
            "alpha-between",
            _between(lambda low, high, rest: torch.lerp(low.sqrt(), high.sqrt(), rest) ** 2),
            "Between whole times you drew a straight line in α. The line is asked for in log-SNR, the logit "
            "of ᾱ.",
            about="input",
        ),
        Misconception(
            "nearest-time",
            _other(at=lambda self, t: _ByLerp.at(self, t.round())),
            "You rounded the time. Times are real numbers here: between two whole times log-SNR is a "
            "straight line.",
            about="rounding",
        ),
        Misconception(
            "time-before",
            _other(at=lambda self, t: _ByLerp.at(self, t.floor())),
            "You took the whole time below t. Between two whole times log-SNR is a straight line.",
            about="rounding",
        ),
        Misconception(
            "way-upside-down",
            _between(
                lambda low, high, way: torch.where(
                    (low == 1) | (high == 0), torch.lerp(high, low, way), _by_log_snr(high, low, way)
                )
            ),
            "Your two neighbours have changed places: at t = 3.1 the level of t = 3 counts 0.9 and that of "
            "t = 4 counts 0.1.",
            about="swap",
        ),
        Misconception(
            "variances-returned",
            _factors(lambda alpha, sigma: (alpha**2, sigma**2)),
            "You returned ᾱ and 1 − ᾱ, shares of the variance. α and σ, the factors of data and noise, are "
            "their roots.",
            about="root",
        ),
        Misconception(
            "sigma-as-the-rest",
            _factors(lambda alpha, sigma: (alpha, 1 - alpha)),
            "You took σ = 1 − α. It is the variances that add up to 1: σ² = 1 − α².",
            about="root",
        ),
        Misconception(
            "factors-swapped",
            _factors(lambda alpha, sigma: (sigma, alpha)),
            "α and σ have changed places: α is the factor of the data, 1 at t = 0.",
            about="swap",
        ),
        Misconception(
            "levels-rise",
            _levels_at(lambda T, n: _downwards(T, n).flip(0)),
            "Your levels go from data to noise. A sampler walks from T down to 0.",
            about="direction",
        ),
        Misconception(
            "levels-stop-above-0",
            _levels_at(lambda T, n: _downwards(T, n)[:-1]),
            "Your levels end one stride above 0, with that noise still in the picture. n strides have n + 1 "
            "ends: from T to 0, both included.",
            about="count",
        ),
        Misconception(
            "levels-start-below-T",
            _levels_at(lambda T, n: _downwards(T, n)[1:]),
            "Your levels start one stride below T. A sampler starts at T, where nothing but noise is left.",
            about="level",
        ),
        Misconception(
            "n-levels",
            _levels_at(lambda T, n: torch.linspace(T, 0, n, dtype=torch.float64)),
            "You made n levels, and between them lie n − 1 strides. n strides have n + 1 ends.",
            about="count",
        ),
        Misconception(
            "levels-rounded",
            _levels_at(lambda T, n: _downwards(T, n).round()),
            "You rounded the times of the levels. With real times no rounding is needed: n equal strides.",
            about="rounding",
        ),
        Misconception(
            "u-from-0",
            _drawn_at(lambda T: torch.arange(T, dtype=torch.float64) / T),
            "You asked for log-SNR at u = 0 … (T − 1)/T. The steps lead to t = 1 … T, so u goes from 1/T "
            "to 1.",
            about="index",
        ),
        Misconception(
            "t-for-u",
            _drawn_at(_upwards),
            "You handed whole times to log_snr. It wants the share of the way, u = t/T, from 1/T to 1.",
            about="input",
        ),
        Misconception(
            "u-by-linspace",
            _drawn_at(lambda T: torch.linspace(0, 1, T, dtype=torch.float64)),
            "You took T values of u from 0 to 1. The steps lead to t = 1 … T: u = 1/T, 2/T … 1.",
            about="count",
        ),
        Misconception(
            "both-factors-between",
            _other(at=_by_both_factors),
            "You drew straight lines in α and in σ. Then α² + σ² falls below 1 between whole times. The "
            "line is asked for in log-SNR; α and σ follow from it.",
            about="input",
        ),
        Misconception(
            "log-of-alpha-bar-between",
            _between(lambda low, high, way: torch.lerp(low.log(), high.log(), way).exp(), ends=True),
            "Between whole times you drew a straight line in log ᾱ. log-SNR is the logit of ᾱ, log(ᾱ/(1 "
            "− ᾱ)).",
            about="formula",
        ),
        Misconception(
            "infinite-at-both-ends",
            _between(_by_log_snr),
            "Where ᾱ is 1 or 0 its logit is infinite, and a mixture with infinity is infinite or NaN. "
            "Between such a time and its neighbour draw the straight line in ᾱ itself.",
            about="boundary",
        ),
        Misconception(
            "infinite-at-T",
            _between(
                lambda low, high, way: torch.where(
                    low == 1, torch.lerp(low, high, way), _by_log_snr(low, high, way)
                )
            ),
            "The start is right. But a schedule may end with ᾱ_T = 0, where the logit is infinite as "
            "well: in that last step, too, draw the line in ᾱ itself.",
            about="boundary",
        ),
        Misconception(
            "infinite-at-0",
            _between(
                lambda low, high, way: torch.where(
                    high == 0, torch.lerp(low, high, way), _by_log_snr(low, high, way)
                )
            ),
            "The end is right. But ᾱ_0 = 1, and its logit is infinite, too: in the first step draw the "
            "line in ᾱ itself.",
            about="boundary",
        ),
        Misconception(
            "sigmoid-forgotten",
            _between(lambda low, high, way: torch.lerp(low.logit(), high.logit(), way), ends=True),
            "You mixed log-SNR and took it for ᾱ. The sigmoid leads back from log-SNR to ᾱ.",
            about="missing",
        ),
        Misconception(
            "exp-for-sigmoid",
            _between(lambda low, high, way: torch.lerp(low.logit(), high.logit(), way).exp(), ends=True),
            "You went back from log-SNR by exp. That gives the SNR, ᾱ/(1 − ᾱ), and not ᾱ: take the sigmoid.",
            about="formula",
        ),
        Misconception(
            "one-place-too-early",
            _other(at=_level_early),
            "Your table is read one place too early: ᾱ_0 … ᾱ_T stand at the places 0 … T, so a time "
            "between k and k + 1 has the neighbours k and k + 1.",
            about="index",
        ),
        Misconception(
            "beyond-the-table",
            _other(at=_beyond_the_table),
            "At t = T you looked for a neighbour beyond the table. T is the number of steps, len(betas), "
            "and the last pair of neighbours is T − 1 and T.",
            about="boundary",
        ),
        Misconception(
            "sigma-not-rooted",
            _factors(lambda alpha, sigma: (alpha, sigma**2)),
            "α is right, and σ is not: you returned 1 − ᾱ, the variance of the noise. σ is its root.",
            about="root",
        ),
        Misconception(
            "one-not-in-front",
            _tabled(lambda betas: (1 - betas).cumprod(0)),
            "Your table begins with ᾱ_1. ᾱ_0 = 1 belongs in front, the data: T steps have T + 1 entries.",
            about="count",
        ),
        Misconception(
            "product-forgotten",
            _tabled(lambda betas: _from_one(1 - betas)),
            "Your table holds 1 − β_t, what one step keeps. ᾱ_t is the product of all steps up to t: "
            "cumprod.",
            about="missing",
        ),
        Misconception(
            "roots-in-the-table",
            _tabled(lambda betas: _from_one((1 - betas).cumprod(0).sqrt())),
            "Your table holds √ᾱ, the factor of the data. self.alphas_cumprod is ᾱ itself.",
            about="root",
        ),
        Misconception(
            "T-one-too-small",
            _tabled(lambda betas: _from_one((1 - betas).cumprod(0)), more=-1),
            "Your T is the last place of betas. It is the number of steps, len(betas): t runs from 0 to T.",
            about="count",
        ),
        Misconception(
            "levels-from-T-minus-1",
            _levels_at(lambda T, n: _downwards(T - 1, n)),
            "Your levels start at T − 1. The noisiest time is T itself.",
            about="index",
        ),
        Misconception(
            "levels-down-to-1",
            _levels_at(lambda T, n: torch.linspace(T, 1, n + 1, dtype=torch.float64)),
            "Your levels end at t = 1, with a little noise. The data are at t = 0.",
            about="index",
        ),
        Misconception(
            "whole-strides",
            _levels_at(lambda T, n: _downwards(T // n * n, n)),
            "Your strides are T // n, a whole number, so the walk starts below T where n does not divide "
            "T. Strides are T / n.",
            about="rounding",
        ),
        Misconception(
            "leading-levels",
            _levels_at(
                lambda T, n: torch.tensor(
                    [1 + T // n * k for k in reversed(range(n))] + [0], dtype=torch.float64
                )
            ),
            "This is the spacing of the colleague in exercise 05.4: it starts below T. n equal strides "
            "go from T itself to 0.",
            about="level",
        ),
        Misconception(
            "time-forgotten",
            _listed(lambda t, alpha, sigma: list(zip(alpha, sigma, strict=True))),
            "You listed α and σ without their time. Each level is a triple (t, α, σ).",
            about="missing",
        ),
        Misconception(
            "three-columns",
            _listed(lambda t, alpha, sigma: (t, alpha, sigma)),
            "You returned three tensors. Asked is a list of levels, each a triple (t, α, σ): zip turns "
            "columns into triples.",
            about="shape",
        ),
        Misconception(
            "u-with-0",
            _drawn_at(lambda T: torch.arange(T + 1, dtype=torch.float64) / T),
            "You asked for log-SNR at T + 1 values of u, 0 among them, and got one step too many. ᾱ_0 = "
            "1 is put in front by schedule_from_log_snr; u goes from 1/T to 1.",
            about="count",
        ),
        Misconception(
            "log-snr-for-betas",
            _drawn(lambda cls, log_snr, T: cls(log_snr(_upwards(T) / T))),
            "You made a schedule of log-SNR as if it were β. Your schedule_from_log_snr turns it into "
            "the steps first.",
            about="missing",
        ),
        Misconception(
            "alpha-bar-for-betas",
            _drawn(lambda cls, log_snr, T: cls(log_snr(_upwards(T) / T).sigmoid())),
            "You made a schedule of ᾱ as if it were β. Your schedule_from_log_snr goes all the way to "
            "the steps.",
            about="missing",
        ),
        Misconception(
            "steps-for-a-schedule",
            _drawn(lambda cls, log_snr, T: schedule_from_log_snr(log_snr(_upwards(T) / T))),
            "from_log_snr returned the steps β. Asked is a schedule made of them: cls(…).",
            about="reading",
        ),
    ],
    alternatives=[_ByLerp, _ByLoop],
    hints=(
        "Keep one table, ᾱ at the whole times 0 … T. Everything else is read from it.",
        "For t between the whole times k and k + 1: logit ᾱ = (1 − w)·logit ᾱ_k + w·logit ᾱ_{k+1} with "
        "w = t − k, then ᾱ by the sigmoid. If ᾱ_k = 1 or ᾱ_{k+1} = 0 a logit is infinite: mix ᾱ itself.",
        "`k = t.floor().clamp(max=self.T - 1).long()`, then `low, high = self.alphas_cumprod[k], …`, "
        "`torch.lerp(low.logit(), …, t - k).sigmoid()` and `torch.where((low == 1) | (high == 0), …, …)`. "
        "`levels` calls `at` with all its times at once, and `zip` makes the triples.",
    ),
    call=_schedule_output,
    figure=_schedule_figure,
    figure_alt="α and σ over real times of a cosine schedule of eight steps: two curves through the dots at "
    "whole times; α falls from 1, σ rises from 0, they cross near t = 4.",
    atol=1e-6,
)

EXERCISES = [COSINE, RESCALE, FROM_LOG_SNR, WALK, SHIFT, SCHEDULE]
