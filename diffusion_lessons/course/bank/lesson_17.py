"""Lesson 17, SNR weighting: the target v, one weight for every target, Min-SNR, what a weight gains."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from diffusion_lessons.course.bank import figures
from diffusion_lessons.course.bank.inputs import data, normal, number, several
from diffusion_lessons.course.exercises.exercise import Case, Exercise, Misconception
from diffusion_lessons.paths import DiscreteVP, Level, add_noise
from diffusion_lessons.schedules import cosine_betas, linear_betas, rescale_zero_terminal_snr
from diffusion_lessons.targets import TARGETS, V

Make = Callable[[torch.Generator], dict[str, Any]]

PATHS = {
    "cosine": DiscreteVP(cosine_betas()),
    "linear": DiscreteVP(linear_betas()),
    "zero": DiscreteVP(rescale_zero_terminal_snr(linear_betas())),
}


def _level(alpha: Tensor, sigma: Tensor) -> Level:
    """The level of factors (B,) or (B, 1, 1, 1), whatever its time."""
    a, s = (each.double().flatten().cpu() for each in (alpha, sigma))
    return Level(torch.full_like(a, math.nan), a, s)


def _factors(g: torch.Generator, path: str, batch: int, last: bool = False) -> tuple[Tensor, Tensor]:
    """(B,) alpha and sigma at times of their own; with `last`, one of them is T."""
    t = several(g, batch, 150, 850)
    level = PATHS[path](torch.tensor([*t[1:], 1000] if last else t))
    return level.alpha.float(), level.sigma.float()


def _wide(factors: Tensor, like: Tensor) -> Tensor:
    return factors.view(-1, *[1] * (like.ndim - 1))


# 17.1 The target v ------------------------------------------------------------------------------------


def v_target(x0: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """`targets.V`; alpha and sigma are (B, 1, 1, 1)."""
    return V.of(x0, noise, _level(alpha, sigma))


def _mixed(path: str, *shape: int, last: bool = False) -> Make:
    def make(g: torch.Generator) -> dict[str, Any]:
        x0, noise = data(g, *shape), normal(g, *shape)
        alpha, sigma = _factors(g, path, shape[0], last)
        return {"x0": x0, "noise": noise, "alpha": _wide(alpha, x0), "sigma": _wide(sigma, x0)}

    return make


def _v_figure(reference: Callable[..., Tensor]) -> Any:
    three, noise = figures.digits(4)[3:4], figures.noise(1, 1, 16, 16)
    shown = []
    for t in (50, 500, 950):
        level = PATHS["cosine"](torch.tensor([t]))
        alpha, sigma = (each.float().view(-1, 1, 1, 1) for each in (level.alpha, level.sigma))
        shown.append(reference(three, noise, alpha, sigma)[0])
    return figures.strip(shown, ["v at t = 50", "500", "950"])


V_TARGET = Exercise(
    id="17.1",
    name="v_target",
    title="The target v",
    kind="reproduce",
    difficulty=1,
    minutes=5,
    reference=v_target,
    cases=[
        Case("three pictures, each at its own level", _mixed("cosine", 3, 1, 8, 6)),
        Case("two colour pictures", _mixed("linear", 2, 3, 6, 7)),
        Case("one at the end, where nothing of the picture is left", _mixed("zero", 2, 1, 6, 6, last=True)),
    ],
    misconceptions=[
        Misconception(
            "sign-turned",
            lambda x0, noise, alpha, sigma: sigma * x0 - alpha * noise,
            "You returned −v. Near the data v is the noise itself, with a plus: α·ε − σ·x₀.",
            about="sign",
        ),
        Misconception(
            "added",
            lambda x0, noise, alpha, sigma: alpha * noise + sigma * x0,
            "You added the two parts. The picture comes in with a minus: only then do x and v together give "
            "both picture and noise back.",
            about="sign",
        ),
        Misconception(
            "parts-swapped",
            lambda x0, noise, alpha, sigma: alpha * x0 - sigma * noise,
            "Picture and noise have changed places. In v the noise has the factor α and the picture the "
            "factor −σ: the other way round than in x.",
            about="swap",
        ),
        Misconception(
            "factors-swapped",
            lambda x0, noise, alpha, sigma: sigma * noise - alpha * x0,
            "The factors have changed places. In v it is α that multiplies the noise, and σ the picture.",
            about="swap",
        ),
        Misconception(
            "squared-factors",
            lambda x0, noise, alpha, sigma: alpha**2 * noise - sigma**2 * x0,
            "You squared the factors. α² and σ² are shares of the variance; v has α and σ themselves.",
            about="root",
        ),
        Misconception(
            "noisy-picture",
            lambda x0, noise, alpha, sigma: alpha * x0 + sigma * noise,
            "That is x, the noisy picture that the network is shown. Asked is v, what it should answer.",
            about="formula",
        ),
        Misconception(
            "flow-velocity",
            lambda x0, noise, alpha, sigma: noise - x0,
            "You took the difference of noise and picture. That is the target on a straight path (lesson "
            "18); here both have a factor.",
            about="formula",
        ),
        Misconception(
            "noise-alone",
            lambda x0, noise, alpha, sigma: alpha * noise,
            "The picture is missing. At the noisiest level v is the picture alone (with a minus).",
            about="missing",
        ),
    ],
    alternatives=[
        lambda x0, noise, alpha, sigma: -(sigma * x0) + noise * alpha,
        lambda x0, noise, alpha, sigma: -(x0 * sigma - noise * alpha),
    ],
    hints=(
        "x = α·x₀ + σ·ε is one way to mix picture and noise. v is the mixture that is perpendicular to it: "
        "it holds what x does not say.",
        "v = α·ε − σ·x₀.",
        "One line with `alpha`, `noise`, `sigma` and `x0`; the factors have the right shape already.",
    ),
    figure=_v_figure,
    figure_alt="v at three times: at t = 50 noise with a faint dark 3, at t = 500 both, at t = 950 a "
    "clear 3 in negative under little noise.",
)


# 17.2 Back from v -------------------------------------------------------------------------------------


def from_v(v: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """`targets.V.solve`."""
    return V.solve(v, x, _level(alpha, sigma))


def _solved(answer: Callable[..., Any], **inputs: Any) -> Any:
    made = answer(**inputs)
    if made is None:
        return None  # nothing was returned: the judge says so
    if isinstance(made, Tensor) and made.ndim == inputs["x"].ndim + 1:
        made = made.unbind()  # a stacked pair
    if not isinstance(made, tuple | list) or len(made) != 2:
        raise ValueError(f"the answer is a pair (x0, eps); you returned one {type(made).__name__}")
    return {"x0": made[0], "eps": made[1]}


def _seen_and_answered(path: str, *shape: int, last: bool = False) -> Make:
    inputs = _mixed(path, *shape, last=last)

    def make(g: torch.Generator) -> dict[str, Any]:
        made = inputs(g)
        alpha, sigma = made["alpha"], made["sigma"]
        x = alpha * made["x0"] + sigma * made["noise"]
        v = v_target(**made) + 0.2 * normal(g, *shape)  # a network's answer is never exact
        return {"v": v, "x": x, "alpha": alpha, "sigma": sigma}

    return make


def _by_solving(v: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    pair = torch.stack([x.double(), v.double()], -1).unsqueeze(-1)
    a, s = (each.double().expand(x.shape) for each in (alpha, sigma))
    matrix = torch.stack([torch.stack([a, s], -1), torch.stack([-s, a], -1)], -2)
    x0, eps = torch.linalg.solve(matrix, pair).squeeze(-1).float().unbind(-1)
    return x0, eps


FROM_V = Exercise(
    id="17.2",
    name="from_v",
    title="Picture and noise from v",
    kind="implement",
    difficulty=2,
    minutes=10,
    reference=from_v,
    call=_solved,
    cases=[
        Case("three pictures, each at its own level", _seen_and_answered("cosine", 3, 1, 8, 6)),
        Case("two colour pictures", _seen_and_answered("linear", 2, 3, 6, 7)),
        Case("one of them at zero SNR", _seen_and_answered("zero", 2, 1, 6, 6, last=True)),
    ],
    misconceptions=[
        Misconception(
            "x0-plus",
            lambda v, x, alpha, sigma: (alpha * x + sigma * v, sigma * x + alpha * v),
            "The noise is right. In x₀ the answer v comes in with a minus: α·x − σ·v.",
            about="sign",
        ),
        Misconception(
            "eps-minus",
            lambda v, x, alpha, sigma: (alpha * x - sigma * v, sigma * x - alpha * v),
            "The picture is right. In ε the answer v comes in with a plus: σ·x + α·v.",
            about="sign",
        ),
        Misconception(
            "pair-swapped",
            lambda v, x, alpha, sigma: (sigma * x + alpha * v, alpha * x - sigma * v),
            "Both are right and stand in the wrong order: the picture comes first, then the noise.",
            about="order",
        ),
        Misconception(
            "factors-swapped",
            lambda v, x, alpha, sigma: (sigma * x - alpha * v, alpha * x + sigma * v),
            "α and σ have changed places. Near the data α is 1 and σ is 0: there x₀ has to be x.",
            about="swap",
        ),
        Misconception(
            "v-read-as-eps",
            lambda v, x, alpha, sigma: ((x - sigma * v) / alpha, v),
            "You took v for the noise. That was lesson 3's network; this one answers v = α·ε − σ·x₀.",
            about="formula",
        ),
        Misconception(
            "v-read-as-x0",
            lambda v, x, alpha, sigma: (v, (x - alpha * v) / sigma),
            "You took v for the picture. Even at the noisiest level it is −x₀, and elsewhere a mixture.",
            about="formula",
        ),
        Misconception(
            "alpha-forgotten-in-eps",
            lambda v, x, alpha, sigma: (alpha * x - sigma * v, (x - (alpha * x - sigma * v)) / sigma),
            "The picture is right. To get the noise from it, take α·x₀ away from x, not x₀.",
            about="missing",
        ),
        Misconception(
            "turned-onwards",
            lambda v, x, alpha, sigma: (alpha * x + sigma * v, sigma * x - alpha * v),
            "Both signs at v have changed places. You turned on in the direction of v; the picture lies "
            "behind: x₀ has −σ·v, and ε has +α·v.",
            about="sign",
        ),
    ],
    alternatives=[
        lambda v, x, alpha, sigma: (alpha * x - sigma * v, (x - alpha * (alpha * x - sigma * v)) / sigma),
        lambda v, x, alpha, sigma: torch.stack([alpha * x - sigma * v, sigma * x + alpha * v]),
        _by_solving,
    ],
    hints=(
        "You have two equations, x = α·x₀ + σ·ε and v = α·ε − σ·x₀, for two unknowns. Here α² + σ² = 1.",
        "Multiply the first by α, the second by σ, and subtract: α·x − σ·v = (α² + σ²)·x₀. The noise goes "
        "likewise: σ·x + α·v.",
        "`x0 = …`, `eps = …`, `return x0, eps`: each is one product with x and one with v.",
    ),
)


# 17.3 One weight, seen from every target ------------------------------------------------------------


def weight_for(target: str, weight: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """What `losses.diffusion_loss` does to a weight on the error in x₀."""
    level = _level(alpha, sigma)
    factor = (level.sigma / TARGETS[target].det(level)) ** 2
    return weight * factor.to(weight)


def _carried(
    eps: Callable[..., Tensor] = lambda w, a, s: w * (s / a) ** 2,
    v: Callable[..., Tensor] = lambda w, a, s: w * s**2,
    x0: Callable[..., Tensor] = lambda w, a, s: w,
) -> Callable[..., Tensor]:
    """The three cases, with a place for each slip."""

    def answer(target: str, weight: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return {"epsilon": eps, "v": v, "x0": x0}[target](weight, alpha, sigma)

    return answer


def _by_snr(target: str, weight: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    snr = alpha**2 / sigma**2
    return weight / {"x0": torch.ones_like(snr), "epsilon": snr, "v": snr + 1}[target]


def _weights(target: str, path: str, batch: int, last: bool = False) -> Make:
    def make(g: torch.Generator) -> dict[str, Any]:
        alpha, sigma = _factors(g, path, batch, last)
        weight = 0.5 + 2 * torch.rand(batch, generator=g)
        return {"target": target, "weight": weight, "alpha": alpha, "sigma": sigma}

    return make


WEIGHT_FOR = Exercise(
    id="17.3",
    name="weight_for",
    title="One weight, three targets",
    kind="implement",
    difficulty=2,
    minutes=12,
    reference=weight_for,
    cases=[
        Case("the noise, four levels", _weights("epsilon", "cosine", 4)),
        Case("the noise, levels with much and with little of it", _weights("epsilon", "linear", 5)),
        Case("v, four levels", _weights("v", "cosine", 4)),
        Case("the picture itself", _weights("x0", "linear", 3)),
        Case("v, with a level of zero SNR", _weights("v", "zero", 3, last=True)),
        Case("the picture, with a level of zero SNR", _weights("x0", "zero", 3, last=True)),
    ],
    misconceptions=[
        Misconception(
            "turned-round",
            _carried(eps=lambda w, a, s: w * (a / s) ** 2, v=lambda w, a, s: w / s**2),
            "The factor is upside down. Where noise is strong, an error in ε is a much larger error in x₀: "
            "the same weight on x₀ is a *larger* weight on ε there.",
            about="swap",
        ),
        Misconception(
            "not-squared",
            _carried(eps=lambda w, a, s: w * s / a, v=lambda w, a, s: w * s),
            "The loss is a *squared* error: if the errors differ by a factor, the weights differ by its "
            "square.",
            about="root",
        ),
        Misconception(
            "v-like-epsilon",
            _carried(v=lambda w, a, s: w * (s / a) ** 2),
            "For v you used the factor of ε. An error in v is enlarged by σ on the way to x₀, not by σ/α; "
            "as a weight that is a division by SNR + 1, not by SNR.",
            about="factor",
        ),
        Misconception(
            "v-with-alpha",
            _carried(v=lambda w, a, s: w * a**2),
            "For v you took α². From x₀ = α·x − σ·v, an error in v comes into x₀ with σ.",
            about="swap",
        ),
        Misconception(
            "v-turned-round",
            _carried(v=lambda w, a, s: w / s**2),
            "For ε it is right. For v you divided by σ²: multiply.",
            about="factor",
        ),
        Misconception(
            "nothing-carried",
            _carried(eps=lambda w, a, s: w, v=lambda w, a, s: w),
            "You left the weight as it is. It belongs to the error in x₀: the same pictures have another "
            "error in ε, and another one in v.",
            about="missing",
        ),
        Misconception(
            "x0-changed-too",
            _carried(x0=lambda w, a, s: w * s**2),
            "The weight is on the error in x₀ already. For that target nothing is to be done.",
            about="extra",
        ),
        Misconception(
            "epsilon-like-v",
            _carried(eps=lambda w, a, s: w * s**2),
            "For ε you used the factor of v. From x₀ = (x − σ·ε)/α, an error in ε comes into x₀ with σ/α.",
            about="factor",
        ),
        Misconception(
            "epsilon-turned-round",
            _carried(eps=lambda w, a, s: w * (a / s) ** 2),
            "For v it is right. For ε you multiplied by the SNR: divide by it.",
            about="factor",
        ),
        Misconception(
            "epsilon-not-carried",
            _carried(eps=lambda w, a, s: w),
            'For "epsilon" you gave the weight back as it came. Is the case missing, or its name spelt in '
            "another way?",
            about="missing",
        ),
        Misconception(
            "one-added-for-v",
            _carried(v=lambda w, a, s: w * ((s / a) ** 2 + 1)),
            "For v you added 1 to the factor of ε. The 1 is added to the SNR, before the division: "
            "weight/(SNR + 1).",
            about="order",
        ),
    ],
    alternatives=[_carried(), _by_snr],
    hints=(
        "How large is the error in x₀, if the output is wrong by 1? For ε look at x₀ = (x − σ·ε)/α, for v at "
        "x₀ = α·x − σ·v.",
        "w·|x₀ − x̂₀|² = w·(σ/α)²·|ε − ε̂|² = w·σ²·|v − v̂|².",
        "Three cases of `target`; each returns `weight` times a factor. Nothing divides by alpha for v.",
    ),
)


# 17.4 Min-SNR for v (debug) -------------------------------------------------------------------------


def min_snr_for_v(snr: Tensor, gamma: float) -> Tensor:
    """`losses.min_snr`, carried to v: Hang et al. 2023, section 3.4."""
    return snr.clamp(max=gamma) / (snr + 1)


def _snrs(path: str, batch: int, gamma: tuple[float, float], last: bool = False) -> Make:
    def make(g: torch.Generator) -> dict[str, Any]:
        t = torch.tensor([*several(g, batch - 3, 150, 850), 20, 60, 1000 if last else 999])
        return {"snr": PATHS[path](t).snr.float(), "gamma": number(g, *gamma)}

    return make


def _min_snr_figure(reference: Callable[..., Tensor]) -> Any:
    from matplotlib import pyplot

    snr = torch.logspace(-4, 4, 200)
    figure, axis = pyplot.subplots(figsize=(4, 2.4))
    for gamma, line in ((1.0, ":"), (5.0, "-"), (20.0, "--")):
        axis.plot(snr, reference(snr, gamma), line, marker="", label=f"γ = {gamma:g}")
    axis.set(xlabel="SNR", ylabel="weight on v's error", xscale="log")
    axis.legend(fontsize=8)
    return figure


MIN_SNR = Exercise(
    id="17.4",
    name="min_snr_for_v",
    title="A weight that never lets go",
    kind="debug",
    difficulty=2,
    minutes=10,
    reference=min_snr_for_v,
    planted="one-added-above-too",
    cases=[
        Case("ten levels", _snrs("cosine", 10, (3, 7))),
        Case("another γ", _snrs("linear", 8, (0.6, 1.5))),
        Case("with a level of zero SNR", _snrs("zero", 6, (4, 6), last=True)),
    ],
    misconceptions=[
        Misconception(
            "one-added-above-too",
            lambda snr, gamma: (snr + 1).clamp(max=gamma) / (snr + 1),
            "The 1 was added before the minimum was taken, so it stands above the line, too. As a weight on "
            "x₀ that is min(SNR + 1, γ), which is never below 1: pure noise counts as much as SNR = 1 "
            "should.",
            about="order",
        ),
        Misconception(
            "divided-by-snr",
            lambda snr, gamma: snr.clamp(max=gamma) / snr,
            "That is the weight on the error in ε. For v divide by SNR + 1 (and at zero SNR yours is 0/0).",
            about="formula",
        ),
        Misconception(
            "one-added-to-the-weight",
            lambda snr, gamma: snr.clamp(max=gamma) / snr + 1,
            "You added 1 to the finished weight of ε. The 1 belongs into the divisor alone.",
            about="order",
        ),
        Misconception(
            "max-for-min",
            lambda snr, gamma: snr.clamp(min=gamma) / (snr + 1),
            "You took the larger of SNR and γ. Min-SNR cuts the weight of clean levels: take the smaller.",
            about="swap",
        ),
        Misconception(
            "not-divided",
            lambda snr, gamma: snr.clamp(max=gamma),
            "That is the weight on the error in x₀. The network answers v: carry the weight over to v's "
            "error.",
            about="missing",
        ),
        Misconception(
            "cut-after-the-division",
            lambda snr, gamma: (snr / (snr + 1)).clamp(max=gamma),
            "You cut after the division. SNR/(SNR + 1) is below 1 anyway, so γ has no effect: cut the SNR.",
            about="order",
        ),
        Misconception(
            "multiplied",
            lambda snr, gamma: snr.clamp(max=gamma) * (snr + 1),
            "You multiplied by SNR + 1. Divide: an error in v is small on the way to x₀ where the SNR is "
            "large.",
            about="swap",
        ),
        Misconception(
            "zero-patched",
            lambda snr, gamma: torch.where(
                snr == 0, torch.zeros_like(snr), (snr + 1).clamp(max=gamma) / (snr + 1)
            ),
            "You mended pure noise alone. An SNR of 0.01 still gets a weight near 1, and all others are as "
            "they were: look for the line that makes them all wrong.",
            about="order",
        ),
        Misconception(
            "cut-below-too",
            lambda snr, gamma: snr.clamp(max=gamma) / (snr.clamp(max=gamma) + 1),
            "The divisor has the cut SNR, too. Only the upper part is cut: v's error is divided by the SNR "
            "+ 1 of the level itself.",
            about="order",
        ),
        Misconception(
            "gamma-raised-too",
            lambda snr, gamma: (snr + 1).clamp(max=gamma + 1) / (snr + 1),
            "That is (min(SNR, γ) + 1)/(SNR + 1). The 1 belongs below the line alone.",
            about="order",
        ),
    ],
    alternatives=[
        lambda snr, gamma: torch.minimum(snr, torch.full_like(snr, gamma)) / (1 + snr),
        lambda snr, gamma: torch.minimum(1 - 1 / (snr + 1), gamma / (snr + 1)),
    ],
    hints=(
        "Look at pure noise, SNR = 0. Which weight on the error in x₀ does the code give there, and which "
        "one does min(SNR, γ) ask for?",
        "The weight on x₀'s error is min(SNR, γ). On v's error that is a division by SNR + 1: above the line "
        "stands the SNR itself.",
        "Two lines are enough: the cut SNR, then the division. Which of the two needs `snr + 1`?",
    ),
    figure=_min_snr_figure,
    figure_alt="The weight over the SNR for γ = 1, 5 and 20: 0 at both ends, with its top of "
    "γ/(γ + 1) at SNR = γ.",
)


# 17.5 The whole loss --------------------------------------------------------------------------------


def weighted_loss(
    network: Callable[[Tensor, Tensor], Tensor],
    x0: Tensor,
    noise: Tensor,
    t: Tensor,
    alpha: Tensor,
    sigma: Tensor,
    target: str,
    weight: Callable[[Tensor], Tensor],
) -> Tensor:
    """The mean of `losses.diffusion_loss`; the network is told t itself."""
    level = _level(alpha, sigma)
    wanted = TARGETS[target].of(x0, noise, level)
    error = (network(add_noise(x0, noise, level), t) - wanted).square().flatten(1).mean(1)
    return (weight_for(target, weight(alpha**2 / sigma**2), alpha, sigma) * error).mean()


def _answering(x: Tensor, t: Tensor) -> Tensor:
    """Stands for a network: its answer depends on the picture and on the time."""
    if t.ndim != 1:
        raise ValueError(f"the network takes times (B,), one a picture, and got the shape {tuple(t.shape)}")
    return 0.7 * x + 0.3 * torch.sin(0.01 * t.float()).view(-1, *[1] * (x.ndim - 1))


def _cut(snr: Tensor) -> Tensor:
    """Min-SNR-5, of a tensor of SNRs."""
    return snr.clamp(max=5)


def _floored(snr: Tensor) -> Tensor:
    """Truncated SNR, of a tensor of SNRs."""
    return snr.clamp(min=1)


def _batch(target: str, weight: Callable[[Tensor], Tensor], path: str, *shape: int) -> Make:
    def make(g: torch.Generator) -> dict[str, Any]:
        t = torch.tensor(several(g, shape[0], 100, 900))
        level = PATHS[path](t)
        return {
            "network": _answering,
            "x0": data(g, *shape),
            "noise": normal(g, *shape),
            "t": t,
            "alpha": level.alpha.float(),
            "sigma": level.sigma.float(),
            "target": target,
            "weight": weight,
        }

    return make


def _losses(
    wanted: Callable[..., Tensor] | None = None,
    seen: Callable[..., Tensor] = lambda x0, noise, a, s: a * x0 + s * noise,
    factor: Callable[..., Tensor] = lambda target, weight, a, s: weight_for(
        target, weight(a**2 / s**2), a, s
    ),
    each: Callable[[Tensor], Tensor] = lambda error: error.square().flatten(1).mean(1),
    total: Callable[[Tensor, Tensor], Tensor] = lambda w, error: (w * error).mean(),
    answered: Callable[[Tensor], Tensor] = lambda y: y,
    told: Callable[[Tensor], Tensor] = lambda t: t,
) -> Callable[..., Tensor]:
    """The loss in plain steps, with a place for each slip."""

    def answer(
        network: Any,
        x0: Tensor,
        noise: Tensor,
        t: Tensor,
        alpha: Tensor,
        sigma: Tensor,
        target: str,
        weight: Any,
    ) -> Tensor:
        a, s = _wide(alpha, x0), _wide(sigma, x0)
        kinds = {"x0": x0, "epsilon": noise, "v": a * noise - s * x0}
        y = kinds[target] if wanted is None else wanted(kinds, target)
        error = each(answered(network(seen(x0, noise, a, s), told(t))) - y)
        return total(factor(target, weight, alpha, sigma), error)

    return answer


WEIGHTED = Exercise(
    id="17.5",
    name="weighted_loss",
    title="The loss, with any target and any weight",
    kind="implement",
    difficulty=3,
    minutes=20,
    reference=weighted_loss,
    trains=("network",),
    builds_on=(V_TARGET, WEIGHT_FOR),
    cases=[
        Case("v with Min-SNR, three pictures", _batch("v", _cut, "cosine", 3, 1, 8, 6)),
        Case("the noise with Min-SNR", _batch("epsilon", _cut, "cosine", 4, 3, 5, 6)),
        Case("the picture with truncated SNR", _batch("x0", _floored, "linear", 3, 1, 6, 7)),
        Case("v with truncated SNR", _batch("v", _floored, "linear", 5, 2, 4, 5)),
    ],
    misconceptions=[
        Misconception(
            "weight-not-carried",
            _losses(factor=lambda target, weight, a, s: weight(a**2 / s**2)),
            "You multiplied the target's error by the weight as it is. It belongs to the error in x₀: your "
            "weight_for carries it over.",
            about="missing",
        ),
        Misconception(
            "weight-of-the-ratio",
            _losses(factor=lambda target, weight, a, s: weight_for(target, weight(a / s), a, s)),
            "You gave α/σ to the weight. The SNR is a ratio of variances, α²/σ².",
            about="root",
        ),
        Misconception(
            "means-multiplied",
            _losses(total=lambda w, error: w.mean() * error.mean()),
            "You multiplied the mean weight by the mean error. Each sample has a weight of its own: multiply "
            "first, then take the mean.",
            about="batch",
        ),
        Misconception(
            "divided-by-the-weights",
            _losses(total=lambda w, error: (w * error).sum() / w.sum()),
            "You divided by the sum of the weights. In each batch that is another number, so a picture's "
            "weight would depend on its neighbours: take the plain mean.",
            about="extra",
        ),
        Misconception(
            "weight-inside-the-square",
            _losses(total=lambda w, error: (w**2 * error).mean()),
            "The weight came into the square. It multiplies the squared error.",
            about="order",
        ),
        Misconception(
            "always-the-noise",
            _losses(wanted=lambda kinds, target: kinds["epsilon"]),
            "You compared the answer with the noise, whatever the target. `target` says what is asked for.",
            about="input",
        ),
        Misconception(
            "clean-input",
            _losses(seen=lambda x0, noise, a, s: x0),
            "You showed the network the clean picture. It sees the noisy one, α·x₀ + σ·ε.",
            about="input",
        ),
        Misconception(
            "one-loss-a-picture",
            _losses(total=lambda w, error: w * error),
            "You returned a loss for each picture. Here the mean over the batch is asked for, one number.",
            about="mean",
        ),
        Misconception(
            "sum-over-the-pixels",
            _losses(each=lambda error: error.square().flatten(1).sum(1)),
            "You summed over the pixels. Take their mean, as lesson 4 did.",
            about="mean",
        ),
        Misconception(
            "no-weight",
            _losses(factor=lambda target, weight, a, s: torch.ones_like(a)),
            "The weight is missing: that is the plain error of the target.",
            about="missing",
        ),
        Misconception(
            "answer-detached",
            _losses(answered=lambda y: y.detach()),
            "The number is right, but you detached the answer, so no gradient gets back to the network.",
            about="gradient",
        ),
        Misconception(
            "ratio-turned-round",
            _losses(factor=lambda target, weight, a, s: weight_for(target, weight(s**2 / a**2), a, s)),
            "You gave σ²/α² to the weight. The SNR is signal over noise: α²/σ².",
            about="swap",
        ),
        Misconception(
            "v-target-turned",
            _losses(wanted=lambda kinds, target: -kinds[target] if target == "v" else kinds[target]),
            "For v you compared with −v. Your v_target gives it: α·ε − σ·x₀.",
            about="sign",
        ),
        Misconception(
            "times-scaled",
            _losses(told=lambda t: t / 1000),
            "You divided the times by 1000. The network is told t as it is.",
            about="input",
        ),
        Misconception(
            "root-of-the-error",
            _losses(each=lambda error: error.square().flatten(1).mean(1).sqrt()),
            "You took the root of the squared error. The weight is on the squared error: leave the root out.",
            about="root",
        ),
    ],
    alternatives=[
        _losses(),
        _losses(
            each=lambda error: error.pow(2).mean(dim=tuple(range(1, error.ndim))),
            total=lambda w, error: torch.dot(w, error) / len(w),
        ),
    ],
    hints=(
        "Four pieces: the noisy picture, what should be answered, an error for each picture, and the weight "
        "that belongs to this target's error. Two of them you have written already.",
        "mean over the batch of weight_for(target, w(SNR), α, σ) · mean over pixels of (answer − wanted)².",
        "`a = alpha.view(-1, 1, 1, 1)`, `x = …`, `wanted = …`, `error = (…).square().flatten(1).mean(1)`, "
        "`factor = weight_for(…)`, and the mean of their product.",
    ),
)


# 17.6 How many times sooner -------------------------------------------------------------------------


def speed_up(steps: Sequence[float], plain: Sequence[float], weighted: Sequence[float]) -> float:
    """Steps to plain's last distance, over those that `weighted` needs; 0 where it never gets there."""
    goal, logs = plain[-1], [math.log(each) for each in steps]
    if weighted[0] <= goal:
        return steps[-1] / steps[0]
    for (a, b), (high, low) in zip(pairwise(logs), pairwise(weighted), strict=True):
        if low <= goal:
            share = (math.log(high) - math.log(goal)) / (math.log(high) - math.log(low))
            return steps[-1] / math.exp(a + share * (b - a))
    return 0.0


def _read(
    goal: Callable[[Sequence[float], Sequence[float]], float] = lambda plain, weighted: plain[-1],
    between: Callable[..., float] = lambda a, b, share: math.exp(
        math.log(a) + share * (math.log(b) - math.log(a))
    ),
    height: Callable[[float], float] = math.log,
    swapped: bool = False,
    last: bool = False,
    ratio: Callable[[float, float], float] = lambda end, at: end / at,
    never: float | None = 0.0,
) -> Callable[..., float]:
    """The reading of two curves, with a place for each slip."""

    def answer(steps: Sequence[float], plain: Sequence[float], weighted: Sequence[float]) -> float:
        wanted, curve = goal(plain, weighted), plain if swapped else weighted
        if curve[0] <= wanted and not last:
            return ratio(steps[-1], steps[0])
        found = None
        for (a, b), (high, low) in zip(pairwise(steps), pairwise(curve), strict=True):
            if low <= wanted < high:
                share = (height(high) - height(wanted)) / (height(high) - height(low))
                found = between(a, b, share)
                if not last:
                    break
        if found is None:
            return (1.0 if never is None else never) if curve[0] > wanted else ratio(steps[-1], steps[0])
        return ratio(steps[-1], found)

    return answer


def _falling_curve(g: torch.Generator, n: int, low: float, high: float) -> list[float]:
    drawn = (low + (high - low) * torch.rand(n, generator=g, dtype=torch.float64)).sort(descending=True)
    return [float(f"{each:.3g}") for each in drawn.values.tolist()]


def _race(kind: str) -> Make:
    """Two curves at marks that double; the weighted one comes to the goal as `kind` says."""

    def make(g: torch.Generator) -> dict[str, Any]:
        first = several(g, 1, 60, 150)[0]
        n = several(g, 1, 3, 6)[0]
        if kind == "at the first mark":
            steps = [first * 2**k for k in range(n)]
            plain, weighted = _falling_curve(g, n, 4, 9), _falling_curve(g, n, 1, 3.5)
        elif kind == "never":
            steps = [first, 2 * first, 4 * first]
            plain, weighted = _falling_curve(g, 3, 1, 3), _falling_curve(g, 3, 3.5, 9)
        elif kind in ("just at a mark", "then worse"):
            steps = [first * 2**k for k in range(n + 1)]
            plain, higher = _falling_curve(g, n + 1, 2, 5), _falling_curve(g, n, 6, 9)
            place = several(g, 1, 1, n - 1)[0] if kind == "just at a mark" else 0
            weighted = [*higher[:place], plain[-1], *higher[place:]]
        elif kind == "and plain was better before":
            steps = [first, 2 * first, 4 * first, 8 * first]
            plain = [*_falling_curve(g, 2, 5, 9), number(g, 1, 1.4), number(g, 3, 3.5)]
            weighted = [number(g, 6, 8), number(g, 4, 5), number(g, 2, 2.6), number(g, 1.5, 1.9)]
        elif kind == "and leaves again":
            steps = [first * 2**k for k in range(5)]
            plain = [*_falling_curve(g, 4, 6, 9), number(g, 3, 3.5)]
            down, up = number(g, 2, 2.5), number(g, 4, 5)
            weighted = [number(g, 7, 8), down, up, number(g, 2.6, 2.8), number(g, 1.5, 1.9)]
        else:
            steps = [first, 2 * first, 4 * first, 8 * first]
            plain = [*_falling_curve(g, 3, 5, 9), number(g, 3, 3.5)]
            weighted = [number(g, 6, 8), number(g, 4, 5), number(g, 2, 2.6), number(g, 1, 1.5)]
        return {"steps": steps, "plain": plain, "weighted": weighted}

    return make


def _by_tensors(steps: Sequence[float], plain: Sequence[float], weighted: Sequence[float]) -> float:
    x, y = (torch.tensor(each, dtype=torch.float64) for each in (steps, weighted))
    reached = (y <= plain[-1]).nonzero()
    if not len(reached):
        return 0.0
    [k], x, y = reached[0].tolist(), x.log(), y.log()
    if k == 0:
        return float((x[-1] - x[0]).exp())
    share = (y[k - 1] - math.log(plain[-1])) / (y[k - 1] - y[k])
    return float((x[-1] - torch.lerp(x[k - 1], x[k], share)).exp())


def _by_slope(steps: Sequence[float], plain: Sequence[float], weighted: Sequence[float]) -> float:
    for k, height in enumerate(weighted):
        if height <= plain[-1]:
            if k == 0:
                return steps[-1] / steps[0]
            slope = math.log(height / weighted[k - 1]) / math.log(steps[k] / steps[k - 1])
            return steps[-1] / steps[k - 1] / (plain[-1] / weighted[k - 1]) ** (1 / slope)
    return 0.0


SPEED_UP = Exercise(
    id="17.6",
    name="speed_up",
    title="How many times sooner?",
    kind="stretch",
    difficulty=2,
    minutes=15,
    reference=speed_up,
    cases=[
        Case("reached between two marks", _race("between")),
        Case("reached at the first mark already", _race("at the first mark")),
        Case("never reached", _race("never")),
        Case("reached, left, and reached again", _race("and leaves again")),
        Case("reached, though plain was better before", _race("and plain was better before")),
        Case("just reached at a mark", _race("just at a mark")),
        Case("as good at the first mark, worse afterwards", _race("then worse")),
    ],
    misconceptions=[
        Misconception(
            "next-mark",
            _read(between=lambda a, b, share: b),
            "You took the mark at which the goal is reached. It was reached somewhere before: interpolate.",
            about="rounding",
        ),
        Misconception(
            "straight-in-steps",
            _read(between=lambda a, b, share: a + share * (b - a)),
            "You interpolated the steps themselves. The marks double: interpolate their logarithms.",
            about="formula",
        ),
        Misconception(
            "straight-in-distance",
            _read(height=lambda y: y),
            "You interpolated the distances themselves. Interpolate their logarithms, as those of the steps.",
            about="formula",
        ),
        Misconception(
            "turned-round",
            _read(ratio=lambda end, at: at / end),
            "Your ratio is upside down: twice as soon is 2, not ½.",
            about="swap",
        ),
        Misconception(
            "ratio-of-distances",
            lambda steps, plain, weighted: plain[-1] / weighted[-1],
            "You divided the distances after as many steps. Asked is the other way to read the picture: the "
            "steps to the same distance.",
            about="reading",
        ),
        Misconception(
            "first-goal",
            _read(goal=lambda plain, weighted: plain[0]),
            "You took the first distance of plain for the goal. The goal is its last one.",
            about="index",
        ),
        Misconception(
            "last-crossing",
            _read(last=True),
            "The weighted curve reached the goal before and left it again; you took the last time. The first "
            "time is asked for.",
            about="index",
        ),
        Misconception(
            "one-for-never",
            _read(never=None),
            "Where the goal is never reached you returned 1, which says: just as fast. Return 0 there.",
            about="boundary",
        ),
        Misconception(
            "straight-in-both",
            _read(between=lambda a, b, share: a + share * (b - a), height=lambda y: y),
            "You interpolated distances and steps themselves. Take the logarithms of both, and go back with "
            "exp at the end.",
            about="formula",
        ),
        Misconception(
            "curves-swapped",
            lambda steps, plain, weighted: speed_up(steps, weighted, plain),
            "The curves have changed places. The goal is the last distance of plain, and weighted is the "
            "one that gets there.",
            about="swap",
        ),
        Misconception(
            "place-itself",
            _read(ratio=lambda end, at: at),
            "You returned the steps at which the goal is reached. Asked is how many times sooner: the last "
            "number of steps over these.",
            about="missing",
        ),
        Misconception(
            "share-turned-round",
            _read(between=lambda a, b, share: math.exp(math.log(b) - share * (math.log(b) - math.log(a)))),
            "You went from the later mark back. The share of the way is measured from the earlier mark, "
            "where the distance is still large.",
            about="swap",
        ),
        Misconception(
            "smallest-as-goal",
            _read(goal=lambda plain, weighted: min(plain)),
            "You took the smallest distance of plain for the goal. The goal is its last one, even if plain "
            "was better before.",
            about="index",
        ),
    ],
    alternatives=[_by_slope, _by_tensors],
    hints=(
        "Draw a level line at plain's last distance. Where does the weighted curve cross it for the "
        "first time?",
        "Between the marks a and b: log s = log a + (log d_a − log goal)/(log d_a − log d_b) · (log b − log "
        "a). The answer is the last number of steps over s.",
        "First the case of the first mark. Then a loop over neighbouring marks that returns at the first one "
        "whose distance is at most the goal. After the loop: 0.",
    ),
)


EXERCISES = [V_TARGET, FROM_V, WEIGHT_FOR, MIN_SNR, WEIGHTED, SPEED_UP]
