"""Lesson 04, the training objective: KL of Gaussians, the bound, L_simple, training with averaged weights."""

import copy
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from diffusion_lessons.course.bank import figures
from diffusion_lessons.course.bank.descent import Descent
from diffusion_lessons.course.bank.inputs import blobs, cosine, linear, normal, number, several, whole
from diffusion_lessons.course.exercises.exercise import Case, Exercise, Misconception
from diffusion_lessons.losses import diffusion_loss, variational_bound
from diffusion_lessons.paths import DiscreteVP, posterior
from diffusion_lessons.schedules import cosine_betas, linear_betas
from diffusion_lessons.targets import EPSILON
from diffusion_lessons.training.ema import EMA

Make = Callable[[torch.Generator], dict[str, Any]]
Betas = Callable[[torch.Generator], Tensor]


def _short(g: torch.Generator) -> Tensor:
    """β of a chain of some ten steps."""
    return linear(g, whole(g, 9, 12))


# 04.1 KL between two Gaussians ----------------------------------------------------------------------


def gaussian_kl(mean_p: Tensor, std_p: Tensor, mean_q: Tensor, std_q: Tensor) -> Tensor:
    """KL(p ‖ q) of N(mean_p, std_p²) from N(mean_q, std_q²), in nats, entry by entry."""
    p, q = torch.distributions.Normal(mean_p, std_p), torch.distributions.Normal(mean_q, std_q)
    return torch.distributions.kl_divergence(p, q)


def _pair(*shape: int, equal: bool = False) -> Make:
    def make(g: torch.Generator) -> dict[str, Any]:
        stds = 2.5 * torch.rand(2, *shape, generator=g) + 0.3
        return {
            "mean_p": normal(g, *shape),
            "std_p": stds[0],
            "mean_q": normal(g, *shape),
            "std_q": stds[0].clone() if equal else stds[1],
        }

    return make


def _spread_of_colour(g: torch.Generator) -> dict[str, Any]:
    """Spreads of shape (1, 3, 1, 1): q much narrower than p, about as wide, and much wider."""
    pair = _pair(2, 3, 4, 5)(g)
    std_p, wider = 1 + torch.rand(2, 1, 3, 1, 1, generator=g)
    return pair | {"std_p": std_p, "std_q": torch.tensor([0.2, 0.7, 3.0]).view(1, 3, 1, 1) * wider * std_p}


def _kl(log: float, spread: float, half: float) -> Callable[..., Tensor]:
    """log·ln(std_q/std_p) + spread·(std_p² + d²)/(2·std_q²) − half."""

    def kl(mean_p: Tensor, std_p: Tensor, mean_q: Tensor, std_q: Tensor) -> Tensor:
        square = std_p**2 + (mean_p - mean_q) ** 2
        return log * (std_q / std_p).log() + spread * square / (2 * std_q**2) - half

    return kl


def _kl_with(formula: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """A divergence from std_p, std_q and the distance of the means."""
    return lambda mean_p, std_p, mean_q, std_q: formula(std_p, std_q, mean_p - mean_q)


def _kl_of_variances(mean_p: Tensor, std_p: Tensor, mean_q: Tensor, std_q: Tensor) -> Tensor:
    return gaussian_kl(mean_p, std_p.sqrt(), mean_q, std_q.sqrt())


def _kl_stds_not_squared(mean_p: Tensor, std_p: Tensor, mean_q: Tensor, std_q: Tensor) -> Tensor:
    return (std_q / std_p).log() + (std_p + (mean_p - mean_q) ** 2) / (2 * std_q) - 0.5


def _kl_of_means(mean_p: Tensor, std_p: Tensor, mean_q: Tensor, std_q: Tensor) -> Tensor:
    return (mean_p - mean_q) ** 2 / (2 * std_q**2)


def _kl_figure(reference: Callable[..., Tensor]) -> Any:
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(4, 2.4))
    distance, one = torch.linspace(-3, 3, 121), torch.ones(121)
    for std, line in ((0.7, "--"), (1.0, "-"), (2.0, ":")):
        kl = reference(0 * one, one, distance, std * one)
        axis.plot(distance.numpy(), kl.numpy(), line, marker="", label=f"std_q = {std:g}")
    axis.set(xlabel="mean_q", ylabel="KL in nats", ylim=(0, 6))
    axis.legend(fontsize=8)
    return figure


GAUSSIAN_KL = Exercise(
    id="04.1",
    name="gaussian_kl",
    title="How far apart are two Gaussians?",
    kind="reproduce",
    difficulty=1,
    minutes=8,
    reference=gaussian_kl,
    cases=[
        Case("six pairs of Gaussians", _pair(6)),
        Case("pairs with the same standard deviation", _pair(5, equal=True)),
        Case("a Gaussian for each pixel of two pictures, one spread for all of a colour", _spread_of_colour),
    ],
    misconceptions=[
        Misconception(
            "other-way-round",
            lambda mean_p, std_p, mean_q, std_q: gaussian_kl(mean_q, std_q, mean_p, std_p),
            "You computed KL(q ‖ p). The divergence is not symmetric: KL(p ‖ q) is an average over draws "
            "from p, so the squared distance is measured in units of std_q.",
            about="swap",
        ),
        Misconception(
            "log-upside-down",
            _kl(-1.0, 1.0, 0.5),
            "The logarithm has the wrong sign: you have log(std_p/std_q). If p is much narrower than q, a "
            "draw from p is *more* likely under p: the term is log(std_q/std_p), above 0.",
            about="sign",
        ),
        Misconception(
            "constant-missing",
            _kl(1.0, 1.0, 0.0),
            "The constant −½ is missing. Try two equal Gaussians: the divergence must be 0, and yours is ½.",
            about="missing",
        ),
        Misconception(
            "half-missing",
            _kl(1.0, 2.0, 0.5),
            "The fraction lacks its ½: it is (std_p² + distance²)/(2·std_q²), with the 2 from the exponent "
            "of the Gaussian. Two equal Gaussians must have divergence 0, and yours have ½.",
            about="factor",
        ),
        Misconception(
            "log-of-variances",
            _kl(2.0, 1.0, 0.5),
            "You took the logarithm of the ratio of the variances. The logarithm is of the standard "
            "deviations, or ½·log of the variances.",
            about="root",
        ),
        Misconception(
            "stds-taken-for-variances",
            _kl_of_variances,
            "You used std_p and std_q as if they were variances. They are standard deviations: square them "
            "where the formula has variances.",
            about="root",
        ),
        Misconception(
            "stds-not-squared",
            _kl_stds_not_squared,
            "The logarithm is right, but in the fraction the standard deviations are not squared: it is "
            "(std_p² + distance²)/(2·std_q²).",
            about="root",
        ),
        Misconception(
            "means-only",
            _kl_of_means,
            "You compared only the means. That is all that is left where the two standard deviations are "
            "equal, which is the case that the bound needs; here they may differ.",
            about="missing",
        ),
        Misconception(
            "distance-not-squared",
            _kl_with(lambda p, q, d: (q / p).log() + (p**2 + d.abs()) / (2 * q**2) - 0.5),
            "The distance of the means is not squared. In the fraction stand two squares: std_p² and "
            "distance².",
            about="root",
        ),
        Misconception(
            "distance-with-its-sign",
            _kl_with(lambda p, q, d: (q / p).log() + (p**2 + d) / (2 * q**2) - 0.5),
            "The distance of the means is not squared, so a q on the other side would come out nearer. In "
            "the fraction stand two squares: std_p² and distance².",
            about="root",
        ),
        Misconception(
            "sum-squared",
            _kl_with(lambda p, q, d: (q / p).log() + (p + d) ** 2 / (2 * q**2) - 0.5),
            "You squared the sum of std_p and the distance. Square each of them, then add.",
            about="order",
        ),
        Misconception(
            "measured-in-std-p",
            _kl_with(lambda p, q, d: (q / p).log() + (p**2 + d**2) / (2 * p**2) - 0.5),
            "You divided by 2·std_p². The draws come from p, but they are judged by q: divide by 2·std_q².",
            about="input",
        ),
        Misconception(
            "std-q-not-squared",
            _kl_with(lambda p, q, d: (q / p).log() + (p**2 + d**2) / (2 * q) - 0.5),
            "Below the fraction std_q is not squared: it is divided by 2·std_q².",
            about="root",
        ),
        Misconception(
            "log-forgotten",
            _kl_with(lambda p, q, d: (p**2 + d**2) / (2 * q**2) - 0.5),
            "The logarithm is missing: log(std_q/std_p) is added. Without it the divergence falls below 0 "
            "where p is narrower than q.",
            about="missing",
        ),
        Misconception(
            "constant-of-one",
            _kl(1.0, 1.0, 1.0),
            "The constant is ½, not 1. Try two equal Gaussians: the divergence must be 0, and yours is −½.",
            about="factor",
        ),
        Misconception(
            "own-spread-forgotten",
            _kl_with(lambda p, q, d: (q / p).log() + d**2 / (2 * q**2) - 0.5),
            "In the fraction std_p² is missing. Draws from p lie around mean_p, so their squared distance "
            "from mean_q is std_p² + distance² on average.",
            about="missing",
        ),
        Misconception(
            "bits",
            lambda mean_p, std_p, mean_q, std_q: gaussian_kl(mean_p, std_p, mean_q, std_q) / math.log(2),
            "You gave the divergence in bits. Asked are nats: the natural logarithm throughout.",
            about="factor",
        ),
        Misconception(
            "logarithm-to-base-2",
            _kl(1 / math.log(2), 1.0, 0.5),
            "Your logarithm is to base 2, while the other terms are in nats. Take the natural logarithm.",
            about="factor",
        ),
        Misconception(
            "means-left-out",
            lambda mean_p, std_p, mean_q, std_q: (std_q / std_p).log() + std_p**2 / (2 * std_q**2) - 0.5,
            "The means do not come in: you compared the widths alone. In the fraction stands std_p² + "
            "(mean_p − mean_q)².",
            about="missing",
        ),
        Misconception(
            "only-the-distance-divided",
            _kl_with(lambda p, q, d: (q / p).log() + p**2 + d**2 / (2 * q**2) - 0.5),
            "Only the distance of the means is divided by 2·std_q². Brackets are missing: the sum of both "
            "squares is divided, (std_p² + distance²)/(2·std_q²).",
            about="order",
        ),
        Misconception(
            "multiplied-by-the-variance",
            _kl_with(lambda p, q, d: (q / p).log() + (p**2 + d**2) / 2 * q**2 - 0.5),
            "You divided by 2 and then multiplied by std_q². Brackets are missing below the line: (…) / (2 "
            "* std_q**2).",
            about="order",
        ),
        Misconception(
            "both-directions",
            lambda mean_p, std_p, mean_q, std_q: (
                (gaussian_kl(mean_p, std_p, mean_q, std_q) + gaussian_kl(mean_q, std_q, mean_p, std_p)) / 2
            ),
            "You took the mean of both directions. The divergence is not symmetric, and one direction is "
            "asked for: from p to q.",
            about="formula",
        ),
    ],
    alternatives=[
        _kl(1.0, 1.0, 0.5),
        lambda mean_p, std_p, mean_q, std_q: (
            0.5
            * (
                (std_p / std_q).square()
                + ((mean_q - mean_p) / std_q).square()
                - 1
                - 2 * torch.log(std_p / std_q)
            )
        ),
    ],
    hints=(
        "KL(p ‖ q) is the average of log p(x) − log q(x) over draws x from p. Both logarithms are parabolas, "
        "so only two averages are needed: of (x − mean_p)² and of (x − mean_q)².",
        "KL = log(std_q/std_p) + (std_p² + (mean_p − mean_q)²)/(2·std_q²) − ½. Two equal Gaussians give 0.",
        "Two lines: `square = … + (mean_p - mean_q) ** 2`, then `return torch.log(…) + square / (…) - 0.5`.",
    ),
    figure=_kl_figure,
    figure_alt="KL of N(0, 1) from N(mean_q, std_q²) over mean_q: three parabolas. The one for std_q = 1 "
    "touches 0 at mean_q = 0, where the two Gaussians are equal; the others stay above 0, and the narrow one "
    "is steepest.",
)


# 04.2 The bound's weight on the error in ε ----------------------------------------------------------


def vlb_weight(t: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """The bound's weight on the x₀-error, carried over to ε by (σ/α)²."""
    path = DiscreteVP(1 - alphas_cumprod[1:] / alphas_cumprod[:-1])
    level = path(t)
    return variational_bound(path)(level) * (level.sigma / level.alpha) ** 2


def _snr(alphas_cumprod: Tensor) -> Tensor:
    return alphas_cumprod / (1 - alphas_cumprod)


def _on_x0(t: Tensor, alphas_cumprod: Tensor) -> Tensor:
    snr = _snr(alphas_cumprod)
    return (snr[t - 1] - snr[t]) / 2


def _no_half(t: Tensor, alphas_cumprod: Tensor) -> Tensor:
    return 2 * vlb_weight(t, alphas_cumprod)


def _over_the_cleaner(t: Tensor, alphas_cumprod: Tensor) -> Tensor:
    snr = _snr(alphas_cumprod)
    return (1 - snr[t] / snr[t - 1]) / 2


def _on_the_mean(t: Tensor, alphas_cumprod: Tensor) -> Tensor:
    return 1 / (2 * _posterior_variance(t, alphas_cumprod))


def _posterior_variance(t: Tensor, alphas_cumprod: Tensor) -> Tensor:
    now, before = alphas_cumprod[t], alphas_cumprod[t - 1]
    return (1 - now / before) * (1 - before) / (1 - now)


def _eq_12(t: Tensor, alphas_cumprod: Tensor, variance: Tensor) -> Tensor:
    """β²/(2·variance·(1 − β)·(1 − ᾱ)) (Ho et al. 2020, eq. 12)."""
    now = alphas_cumprod[t]
    beta = 1 - now / alphas_cumprod[t - 1]
    return beta**2 / (2 * variance * (1 - beta) * (1 - now))


def _larger_variance(t: Tensor, alphas_cumprod: Tensor) -> Tensor:
    return _eq_12(t, alphas_cumprod, 1 - alphas_cumprod[t] / alphas_cumprod[t - 1])


def _amplitudes(t: Tensor, alphas_cumprod: Tensor) -> Tensor:
    ratio = _snr(alphas_cumprod).sqrt()
    return (ratio[t - 1] / ratio[t] - 1) / 2


def _next_step(t: Tensor, alphas_cumprod: Tensor) -> Tensor:
    snr = _snr(alphas_cumprod)
    return (snr[t] / snr[t + 1] - 1) / 2


def _times_snr(t: Tensor, alphas_cumprod: Tensor) -> Tensor:
    return _on_x0(t, alphas_cumprod) * _snr(alphas_cumprod)[t]


def _weights_at(betas: Betas, times: Callable[[torch.Generator, int], list[int]]) -> Make:
    def make(g: torch.Generator) -> dict[str, Any]:
        alphas_cumprod = DiscreteVP(betas(g)).alphas_cumprod
        return {"t": torch.tensor(times(g, len(alphas_cumprod) - 1)), "alphas_cumprod": alphas_cumprod}

    return make


def _weight_figure(reference: Callable[..., Tensor]) -> Any:
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(4, 2.4))
    t = torch.arange(2, 1001)
    for name, betas, line in (("linear", linear_betas(), "-"), ("cosine", cosine_betas(), "--")):
        weights = reference(t, DiscreteVP(betas).alphas_cumprod)
        axis.loglog(t.numpy(), weights.numpy(), line, marker="", label=name)
    axis.set(xlabel="t", ylabel="weight on ε", ylim=(1e-3, 10))
    axis.legend(fontsize=8)
    return figure


VLB_WEIGHT = Exercise(
    id="04.2",
    name="vlb_weight",
    title="What the bound asks of ε",
    kind="implement",
    difficulty=2,
    minutes=12,
    reference=vlb_weight,
    cases=[
        Case(
            "four times of a linear schedule, t = 2 and T among them",
            _weights_at(linear, lambda g, T: [2, *several(g, 2, 20, 900), T]),
        ),
        Case("five times of a cosine schedule", _weights_at(cosine, lambda g, T: several(g, 5, 3, 900))),
        Case("all times of a short chain", _weights_at(_short, lambda g, T: list(range(2, T + 1)))),
    ],
    misconceptions=[
        Misconception(
            "weight-on-x0",
            _on_x0,
            "This is the weight on the error in x₀, ½·(SNR(t−1) − SNR(t)). The question is for the error in "
            "ε: x₀ − x̂₀ is the error in ε times −σ/α, so the weight gets the factor σ²/α² = 1/SNR(t).",
            about="missing",
        ),
        Misconception(
            "half-missing",
            _no_half,
            "A factor ½ is missing. It comes from the exponent of the Gaussian: KL = distance²/(2·variance).",
            about="factor",
        ),
        Misconception(
            "divided-by-the-cleaner-snr",
            _over_the_cleaner,
            "You divided by SNR(t−1). The network sees x_t, so an error in ε becomes one in x₀ by σ/α at "
            "time t: divide by SNR(t).",
            about="level",
        ),
        Misconception(
            "weight-on-the-mean",
            _on_the_mean,
            "This is the weight on the error in the mean, 1/(2·β̃). The mean moves with x̂₀ only by a small "
            "factor, and x̂₀ with ε̂ by σ/α: square both and multiply them in.",
            about="formula",
        ),
        Misconception(
            "variance-beta",
            _larger_variance,
            "You put β_t for the variance of the reverse step. Ho et al. allow that choice in sampling, but "
            "here both Gaussians of the KL have the posterior's variance β̃_t.",
            about="formula",
        ),
        Misconception(
            "ratio-of-amplitudes",
            _amplitudes,
            "You used α/σ for the SNR. The SNR is the ratio of the variances, α²/σ² = ᾱ/(1 − ᾱ).",
            about="root",
        ),
        Misconception(
            "one-step-late",
            _next_step,
            "You compared t with t + 1. L_{t−1} is about the step from t down to t − 1; beyond T there is no "
            "level to look up.",
            about="index",
        ),
        Misconception(
            "factor-upside-down",
            _times_snr,
            "You multiplied by SNR(t) where you should divide. At a noisy level a small error in ε is a "
            "large one in x₀: |x₀ − x̂₀|² = |ε − ε̂|²/SNR(t).",
            about="swap",
        ),
        Misconception(
            "one-not-subtracted",
            lambda t, alphas_cumprod: 0.5 * _snr(alphas_cumprod)[t - 1] / _snr(alphas_cumprod)[t],
            "You took ½·SNR(t−1)/SNR(t). The weight is of a *difference* of two SNRs: divided by SNR(t), it "
            "leaves the ratio minus 1.",
            about="missing",
        ),
        Misconception(
            "log-of-the-ratio",
            lambda t, alphas_cumprod: 0.5 * (_snr(alphas_cumprod)[t - 1] / _snr(alphas_cumprod)[t]).log(),
            "You took the logarithm of the ratio of the two SNRs. Where the steps are small that is nearly "
            "the same; the bound has the difference, SNR(t−1) − SNR(t), divided by SNR(t).",
            about="formula",
        ),
        Misconception(
            "ratio-of-alpha-bar",
            lambda t, alphas_cumprod: 0.5 * (alphas_cumprod[t - 1] / alphas_cumprod[t] - 1),
            "You took ᾱ for the SNR. SNR is the ratio of the picture's variance to the noise's, ᾱ/(1 − ᾱ).",
            about="formula",
        ),
        Misconception(
            "times-turned",
            lambda t, alphas_cumprod: 0.5 * (_snr(alphas_cumprod)[t] / _snr(alphas_cumprod)[t - 1] - 1),
            "The two SNRs have changed places, and the weight is negative. SNR falls with t: SNR(t−1) is the "
            "larger one, and it stands on top.",
            about="swap",
        ),
        Misconception(
            "root-of-the-snr",
            lambda t, alphas_cumprod: _on_x0(t, alphas_cumprod) / _snr(alphas_cumprod)[t].sqrt(),
            "You divided by the root of SNR(t). An error in ε becomes one in x₀ by σ/α; it is the *squared* "
            "errors that are compared, so the factor is σ²/α² = 1/SNR(t).",
            about="root",
        ),
        Misconception(
            "times-one-minus-alpha-bar",
            lambda t, alphas_cumprod: _on_x0(t, alphas_cumprod) * (1 - alphas_cumprod[t]),
            "You multiplied by σ² = 1 − ᾱ. An error in ε becomes one in x₀ by σ/α: the factor is σ²/α², so "
            "divide by ᾱ too.",
            about="factor",
        ),
        Misconception(
            "one-minus-beta-left-out",
            lambda t, alphas_cumprod: (
                (1 - alphas_cumprod[t] / alphas_cumprod[t - 1]) / (2 * (1 - alphas_cumprod[t - 1]))
            ),
            "The factor 1 − β is missing below the line: β/(2·(1 − β)·(1 − ᾱ_{t−1})).",
            about="missing",
        ),
        Misconception(
            "bits",
            lambda t, alphas_cumprod: vlb_weight(t, alphas_cumprod) / math.log(2),
            "You gave the weight in bits. Asked are nats: nothing is divided by log 2.",
            about="factor",
        ),
        Misconception(
            "neighbours-in-the-batch",
            lambda t, alphas_cumprod: (lambda snr: 0.5 * (snr.roll(1) / snr - 1))(_snr(alphas_cumprod)[t]),
            "You compared neighbours in the batch. What stands before t in time is t − 1: look up snr[t] "
            "and snr[t - 1].",
            about="index",
        ),
        Misconception(
            "mean-divided-out",
            lambda t, alphas_cumprod: (lambda w: w / w.mean())(vlb_weight(t, alphas_cumprod)),
            "You divided the weights by their mean. A weight belongs to its t alone, whatever else stands "
            "in the batch.",
            about="extra",
        ),
    ],
    alternatives=[
        lambda t, alphas_cumprod: 0.5 * (_snr(alphas_cumprod)[t - 1] / _snr(alphas_cumprod)[t] - 1),
        lambda t, alphas_cumprod: _eq_12(t, alphas_cumprod, _posterior_variance(t, alphas_cumprod)),
        lambda t, alphas_cumprod: torch.stack(
            [torch.expm1(alphas_cumprod[i - 1].logit() - alphas_cumprod[i].logit()) / 2 for i in t.tolist()]
        ),
    ],
    hints=(
        "You know the weight on |x₀ − x̂₀|². How large is |x₀ − x̂₀|² if |ε − ε̂|² is 1? Both come from the "
        "same x_t, so x_t = α·x̂₀ + σ·ε̂ and x_t = α·x₀ + σ·ε.",
        "|x₀ − x̂₀|² = (σ²/α²)·|ε − ε̂|² = |ε − ε̂|²/SNR(t). So the weight is ½·(SNR(t−1) − SNR(t))/SNR(t).",
        "`snr = …` for the whole list of ᾱ, then one line that looks up `snr[t]` and `snr[t - 1]`. The entry "
        "snr[0] is infinite and never asked for.",
    ),
    figure=_weight_figure,
    figure_alt="The weight over t, both on a logarithmic scale. Linear schedule: 0.6 at t = 2, falling to "
    "about 0.005 near t = 400 and rising to 0.01 at t = 1000. Cosine: similar, but rising steeply at the "
    "very end.",
)


# 04.3 The simple loss -------------------------------------------------------------------------------


def simple_loss(
    network: Callable[[Tensor, Tensor], Tensor], x0: Tensor, noise: Tensor, t: Tensor, alphas_cumprod: Tensor
) -> Tensor:
    """`diffusion_loss` on ε with no weight; the network is told t itself."""
    path = DiscreteVP(1 - alphas_cumprod[1:].double() / alphas_cumprod[:-1].double())

    def told(x: Tensor, time: Tensor, condition: Any) -> Tensor:
        return network(x, t)

    return diffusion_loss(told, path, EPSILON, x0, noise, t)


def a_small_network(x: Tensor, t: Tensor) -> Tensor:
    """Stands for a network: its answer depends on the picture and on the time."""
    if t.ndim > x.ndim:
        raise TypeError("network(x, t) takes the pictures first and then the times")
    return 0.7 * x + 0.3 * torch.sin(0.01 * t.float()).view(-1, 1, 1, 1)


def _batch(betas: Betas, draw: Callable[..., Tensor], *size: int) -> Make:
    """A batch at times of which one is T."""

    def make(g: torch.Generator) -> dict[str, Any]:
        alphas_cumprod = DiscreteVP(betas(g)).alphas_cumprod.float()
        T = len(alphas_cumprod) - 1
        return {
            "network": a_small_network,
            "x0": draw(g, *size),
            "noise": normal(g, *size),
            "t": torch.tensor([*several(g, size[0] - 1, max(T // 10, 2), T - 1), T]),
            "alphas_cumprod": alphas_cumprod,
        }

    return make


Loss = Callable[..., Tensor]


def _noised(x0: Tensor, noise: Tensor, t: Tensor, alphas_cumprod: Tensor) -> Tensor:
    kept = alphas_cumprod[t].view(-1, *[1] * (x0.ndim - 1))
    return kept.sqrt() * x0 + (1 - kept).sqrt() * noise


def _error(
    target: Callable[[Tensor, Tensor, Tensor], Tensor] = lambda x0, noise, kept: noise,
    reduce: Callable[[Tensor], Tensor] = lambda error: error.square().flatten(1).mean(1),
    told: Callable[[Tensor, int], Tensor] = lambda t, T: t,
    see: Callable[..., Tensor] = _noised,
) -> Loss:
    """The loss with one of its parts exchanged."""

    def loss(network: Any, x0: Tensor, noise: Tensor, t: Tensor, alphas_cumprod: Tensor) -> Tensor:
        x = see(x0, noise, t, alphas_cumprod)
        kept = alphas_cumprod[t].view(-1, *[1] * (x0.ndim - 1))
        return reduce(network(x, told(t, len(alphas_cumprod) - 1)) - target(x0, noise, kept))

    return loss


def _seen_without_roots(x0: Tensor, noise: Tensor, t: Tensor, alphas_cumprod: Tensor) -> Tensor:
    kept = alphas_cumprod[t].view(-1, *[1] * (x0.ndim - 1))
    return kept * x0 + (1 - kept) * noise


def _seen_no_root_on_noise(x0: Tensor, noise: Tensor, t: Tensor, alphas_cumprod: Tensor) -> Tensor:
    kept = alphas_cumprod[t].view(-1, *[1] * (x0.ndim - 1))
    return kept.sqrt() * x0 + (1 - kept) * noise


def _seen_swapped(x0: Tensor, noise: Tensor, t: Tensor, alphas_cumprod: Tensor) -> Tensor:
    kept = alphas_cumprod[t].view(-1, *[1] * (x0.ndim - 1))
    return (1 - kept).sqrt() * x0 + kept.sqrt() * noise


def _weighted_by_the_bound(
    network: Any, x0: Tensor, noise: Tensor, t: Tensor, alphas_cumprod: Tensor
) -> Tensor:
    return vlb_weight(t, alphas_cumprod) * simple_loss(network, x0, noise, t, alphas_cumprod)


def _simple_loss_figure(reference: Callable[..., Tensor]) -> Any:
    from matplotlib import pyplot

    alphas_cumprod = DiscreteVP(linear_betas()).alphas_cumprod.float()
    times = torch.arange(1, 1001, 37).repeat_interleave(8)
    x0, noise = figures.digits(8).repeat(len(times) // 8, 1, 1, 1), figures.noise(len(times), 1, 16, 16)
    figure, axis = pyplot.subplots(figsize=(4, 2.4))
    guesses: dict[str, tuple[Any, str]] = {
        "answers 0": (lambda x, t: torch.zeros_like(x), "-"),
        "hands x back": (lambda x, t: x, "--"),
    }
    for name, (network, line) in guesses.items():
        loss = reference(network, x0, noise, times, alphas_cumprod).view(-1, 8).mean(1)
        axis.plot(times[::8].numpy(), loss.numpy(), line, marker="", label=f"a network that {name}")
    axis.set(xlabel="t", ylabel="loss", ylim=(0, None))
    axis.legend(fontsize=8)
    return figure


SIMPLE_LOSS = Exercise(
    id="04.3",
    name="simple_loss",
    title="The loss that DDPM trains on",
    kind="implement",
    difficulty=2,
    minutes=10,
    reference=simple_loss,
    trains=("network",),
    cases=[
        Case("three pictures, each at a time of its own", _batch(linear, blobs, 3, 1, 8, 6)),
        Case("four colour pictures", _batch(cosine, blobs, 4, 3, 5, 6)),
        Case("a short chain, numbers beyond ±1", _batch(_short, normal, 5, 2, 4, 7)),
    ],
    misconceptions=[
        Misconception(
            "clean-input",
            _error(see=lambda x0, noise, t, alphas_cumprod: x0),
            "You gave the network the clean x0. It would be asked for noise that it cannot see: noise the "
            "picture first, x_t = √ᾱ_t·x₀ + √(1 − ᾱ_t)·ε, and give it that.",
            about="input",
        ),
        Misconception(
            "target-x0",
            _error(target=lambda x0, noise, kept: x0),
            "You compared the answer with x0. That trains a network for x₀, a target that exists too; here "
            "the network is asked for ε, the argument `noise`.",
            about="input",
        ),
        Misconception(
            "target-is-the-noise-as-added",
            _error(target=lambda x0, noise, kept: (1 - kept).sqrt() * noise),
            "You compared the answer with √(1 − ᾱ)·ε, the noise as it was added. The target is ε itself, "
            "with variance 1 at every t; that keeps the network's output at one scale.",
            about="factor",
        ),
        Misconception(
            "no-roots",
            _error(see=_seen_without_roots),
            "You noised the picture with ᾱ and 1 − ᾱ. Those are shares of the variance; the factors are "
            "their roots (lesson 2).",
            about="root",
        ),
        Misconception(
            "index-off-by-one",
            _error(see=lambda x0, noise, t, alphas_cumprod: _noised(x0, noise, t - 1, alphas_cumprod)),
            "You looked up ᾱ one place too early. The list starts with ᾱ₀ = 1, so the entry for time t is "
            "alphas_cumprod[t].",
            about="index",
        ),
        Misconception(
            "mean-over-the-batch",
            _error(reduce=lambda error: error.square().mean()),
            "You averaged over the batch too. Return one loss for each picture, shape (B,): a weight that "
            "depends on t can then still be multiplied in.",
            about="mean",
        ),
        Misconception(
            "sum-over-the-pixels",
            _error(reduce=lambda error: error.square().flatten(1).sum(1)),
            "You added the pixels up. Take their mean, so that the loss does not grow with the size of the "
            "picture and 1 is the loss of a network that answers 0.",
            about="mean",
        ),
        Misconception(
            "absolute-error",
            _error(reduce=lambda error: error.abs().flatten(1).mean(1)),
            "You took the absolute error. The KL of two Gaussians is a *squared* distance; it is also the "
            "squared error whose minimum is the mean E[ε | x_t].",
            about="formula",
        ),
        Misconception(
            "time-as-a-fraction",
            _error(told=lambda t, T: t / T),
            "You told the network t/T. Give it t as it comes: in sampling it will be told whole times too, "
            "and a network that was trained on fractions would not know them.",
            about="level",
        ),
        Misconception(
            "time-one-early",
            _error(told=lambda t, T: t - 1),
            "You told the network t − 1. Here it is told the time that the picture was noised to, t itself.",
            about="level",
        ),
        Misconception(
            "one-time-for-all",
            _error(
                see=lambda x0, noise, t, alphas_cumprod: _noised(
                    x0, noise, t[:1].expand_as(t), alphas_cumprod
                )
            ),
            "All pictures got the noise level of the first. Each has a time of its own: alphas_cumprod[t] "
            "has shape (B,), and becomes (B, 1, 1, 1) before it meets the pictures.",
            about="batch",
        ),
        Misconception(
            "noise-factor-without-root",
            _error(see=_seen_no_root_on_noise),
            "You noised the picture with 1 − ᾱ on the noise. That is its variance; the factor is the root.",
            about="root",
        ),
        Misconception(
            "factors-swapped",
            _error(see=_seen_swapped),
            "The two factors are swapped when you noise the picture: √ᾱ belongs to x0 and √(1 − ᾱ) to the "
            "noise.",
            about="swap",
        ),
        Misconception(
            "target-is-the-input",
            lambda network, x0, noise, t, alphas_cumprod: (
                (network(_noised(x0, noise, t, alphas_cumprod), t) - _noised(x0, noise, t, alphas_cumprod))
                .square()
                .flatten(1)
                .mean(1)
            ),
            "You compared the answer with the noisy picture, which the network was shown. Asked is the noise "
            "in it, the argument `noise`.",
            about="input",
        ),
        Misconception(
            "target-v",
            _error(target=lambda x0, noise, kept: kept.sqrt() * noise - (1 - kept).sqrt() * x0),
            "You compared the answer with v = √ᾱ·ε − √(1 − ᾱ)·x₀. That is a target too, of a later lesson; "
            "here it is ε.",
            about="input",
        ),
        Misconception(
            "root-of-the-mean",
            _error(reduce=lambda error: error.square().flatten(1).mean(1).sqrt()),
            "You took a root at the end. The loss is the mean of the squares itself.",
            about="root",
        ),
        Misconception(
            "half-of-it",
            _error(reduce=lambda error: error.square().flatten(1).mean(1) / 2),
            "You halved it. The ½ of the bound is part of the weight that this loss leaves out.",
            about="factor",
        ),
        Misconception(
            "mean-over-the-channels",
            _error(reduce=lambda error: error.square().mean(1)),
            "You averaged over the channels alone. One number for each picture: the mean runs over channels, "
            "rows and columns.",
            about="axis",
        ),
        Misconception(
            "bounds-weight",
            _weighted_by_the_bound,
            "You weighted the error as the bound does. This loss leaves the weight out: every t counts the "
            "same.",
            about="extra",
        ),
        Misconception(
            "answer-detached",
            lambda network, x0, noise, t, alphas_cumprod: (
                (network(_noised(x0, noise, t, alphas_cumprod), t).detach() - noise)
                .square()
                .flatten(1)
                .mean(1)
            ),
            "The numbers are right, but you detached the network's answer, so that no gradient gets back to "
            "its weights: nothing would be learnt.",
            about="gradient",
        ),
        Misconception(
            "square-of-the-mean",
            _error(reduce=lambda error: error.flatten(1).mean(1).square()),
            "You squared the mean of the errors, and errors of opposite sign cancel out in it. Square each "
            "first, then take the mean.",
            about="order",
        ),
        Misconception(
            "mean-over-the-pictures",
            _error(reduce=lambda error: error.square().mean(0)),
            "You averaged over the pictures, dimension 0, and kept the pixels. It is the other way round: "
            "one loss for each picture, the mean over dimensions 1, 2 and 3.",
            about="axis",
        ),
        Misconception(
            "channels-kept",
            _error(reduce=lambda error: error.square().mean((2, 3))),
            "You averaged over height and width and kept the channels. One loss for each picture is the "
            "mean over dimensions 1, 2 and 3.",
            about="axis",
        ),
    ],
    alternatives=[
        _error(),
        lambda network, x0, noise, t, alphas_cumprod: torch.stack(
            [
                nn.functional.mse_loss(network(x, t[i : i + 1]), noise[i : i + 1])
                for i in range(len(t))
                for x in [_noised(x0[i : i + 1], noise[i : i + 1], t[i : i + 1], alphas_cumprod)]
            ]
        ),
    ],
    hints=(
        "Three moves: noise the pictures to their times, ask the network, compare its answer with the noise "
        "that you used. There is no loop over t and no chain.",
        "loss_b = mean over the pixels of (ε − network(x_t, t))², with x_t = √ᾱ_t·x₀ + √(1 − ᾱ_t)·ε; one "
        "number for each picture b of the batch.",
        "`kept = alphas_cumprod[t].view(-1, 1, 1, 1)`, then `x = …`, then "
        "`(network(x, t) - …).square()` and a mean over all dimensions but the first: `.flatten(1).mean(1)`.",
    ),
    figure=_simple_loss_figure,
    figure_alt="The loss over t of two networks that have learnt nothing, on eight digits. One that answers "
    "0 stays at 1 at every t. One that hands its input back starts near 1.7 and falls to 0 at t = 1000, "
    "where the input is nothing but the noise.",
)


# 04.4 One training step -----------------------------------------------------------------------------


def training_step(
    network: nn.Module, optimizer: Any, x0: Tensor, noise: Tensor, t: Tensor, alphas_cumprod: Tensor
) -> Tensor:
    """One step on the mean of `simple_loss`; returns it."""
    loss = simple_loss(network, x0, noise, t, alphas_cumprod).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


class _TwoWeights(nn.Module):
    """The smallest network that can be trained: a·x + b·t/10."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.tensor(0.3)), nn.Parameter(torch.tensor(-0.2))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.a * x + self.b * t.to(x.dtype).view(-1, *[1] * (x.ndim - 1)) / 10


def _three_steps(
    answer: Callable[..., Any], x0: Tensor, noise: Tensor, t: Tensor, alphas_cumprod: Tensor
) -> dict[str, Any]:
    """Three steps of plain gradient descent, each on a batch of its own; old gradients lie about."""
    network = _TwoWeights().to(x0.device)
    network.a.grad, network.b.grad = torch.ones_like(network.a), torch.ones_like(network.b)
    optimizer = Descent(network.parameters(), lr=0.2)
    losses = [answer(network, optimizer, *batch, alphas_cumprod) for batch in zip(x0, noise, t, strict=True)]
    return {
        "loss of each step": losses,
        "weights after them": torch.stack([network.a, network.b]).detach().clone(),
    }


def _unsorted(g: torch.Generator, n: int, T: int) -> Tensor:
    """n different times, in an order that sorting twice does not undo."""
    while True:
        t = torch.tensor(several(g, n, 1, T))
        if not torch.equal(t.argsort(), t.argsort().argsort()):
            return t


def _batches(draw: Callable[..., Tensor], *size: int) -> Make:
    """Three batches of one short chain."""

    def make(g: torch.Generator) -> dict[str, Any]:
        alphas_cumprod = DiscreteVP(_short(g)).alphas_cumprod.float()
        return {
            "x0": draw(g, 3, *size),
            "noise": normal(g, 3, *size),
            "t": torch.stack([_unsorted(g, size[0], len(alphas_cumprod) - 1) for _ in range(3)]),
            "alphas_cumprod": alphas_cumprod,
        }

    return make


def _sorted_step(
    x0_too: bool = True,
    noise_too: bool = True,
    t_too: bool = True,
    target: Callable[[Tensor, Tensor], Tensor] = lambda noise, order: noise[order],
    output: Callable[[Tensor, Tensor], Tensor] = lambda output, order: output,
    tell_sorted: bool = True,
) -> Callable[..., Tensor]:
    """The step of the exercise, with each use of the new order switched on or off."""

    def step(
        network: nn.Module, optimizer: Any, x0: Tensor, noise: Tensor, t: Tensor, alphas_cumprod: Tensor
    ) -> Tensor:
        order = t.argsort()
        x = _noised(
            x0[order] if x0_too else x0,
            noise[order] if noise_too else noise,
            t[order] if t_too else t,
            alphas_cumprod,
        )
        given = output(network(x, t[order] if tell_sorted else t), order)
        loss = (given - target(noise, order)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def _learnt(*calls: str) -> Callable[..., Tensor]:
    """The right loss, with these calls after it, in this order."""

    def step(
        network: nn.Module, optimizer: Any, x0: Tensor, noise: Tensor, t: Tensor, alphas_cumprod: Tensor
    ) -> Tensor:
        loss = simple_loss(network, x0, noise, t, alphas_cumprod).mean()
        for call in calls:
            (loss if call == "backward" else optimizer).__getattribute__(call)()
        return loss.detach()

    return step


def _by_another_loss(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The step of the exercise on loss(network, x0, noise, t, alphas_cumprod)."""

    def step(
        network: nn.Module, optimizer: Any, x0: Tensor, noise: Tensor, t: Tensor, alphas_cumprod: Tensor
    ) -> Tensor:
        found = loss(network, x0, noise, t, alphas_cumprod)
        optimizer.zero_grad()
        found.backward()
        optimizer.step()
        return found.detach()

    return step


def _loss_of_the_new_weights(
    network: nn.Module, optimizer: Any, x0: Tensor, noise: Tensor, t: Tensor, alphas_cumprod: Tensor
) -> Tensor:
    training_step(network, optimizer, x0, noise, t, alphas_cumprod)
    return simple_loss(network, x0, noise, t, alphas_cumprod).mean().detach()


def _training_step_figure(reference: Callable[..., Any]) -> Any:
    from matplotlib import pyplot

    alphas_cumprod = DiscreteVP(linear_betas(10, 0.1, 0.5)).alphas_cumprod.float()
    figure, axis = pyplot.subplots(figsize=(4, 2.4))
    for name, step, line in (
        ("as you find it", TRAINING_STEP.misconception("target-out-of-step").function, "--"),
        ("mended", reference, "-"),
    ):
        generator, network = torch.Generator().manual_seed(0), _TwoWeights()
        optimizer, losses = Descent(network.parameters(), lr=0.05), []
        for _ in range(60):
            x0, noise = blobs(generator, 64, 1, 4, 4), normal(generator, 64, 1, 4, 4)
            t = torch.randint(1, 11, (64,), generator=generator)
            losses.append(float(step(network, optimizer, x0, noise, t, alphas_cumprod)))
        axis.plot(losses, line, marker="", label=name)
    axis.axhline(1, color="gray", linewidth=0.8)
    axis.set(xlabel="step", ylabel="loss", ylim=(0, None))
    axis.legend(fontsize=8)
    return figure


def _two_rounds(
    network: nn.Module, optimizer: Any, x0: Tensor, noise: Tensor, t: Tensor, alphas_cumprod: Tensor
) -> Tensor:
    training_step(network, optimizer, x0, noise, t, alphas_cumprod)
    return training_step(network, optimizer, x0, noise, t, alphas_cumprod)


def _step_for_each(
    network: nn.Module, optimizer: Any, x0: Tensor, noise: Tensor, t: Tensor, alphas_cumprod: Tensor
) -> Tensor:
    losses = []
    for i in range(len(x0)):
        x0_i, noise_i, t_i = (each[i : i + 1] for each in (x0, noise, t))
        losses.append(training_step(network, optimizer, x0_i, noise_i, t_i, alphas_cumprod))
    return torch.stack(losses).mean()


TRAINING_STEP = Exercise(
    id="04.4",
    name="training_step",
    title="The loss that sticks at 1",
    kind="debug",
    difficulty=2,
    minutes=10,
    reference=training_step,
    builds_on=[SIMPLE_LOSS],
    call=_three_steps,
    cases=[
        Case("three steps on four pictures each", _batches(blobs, 4, 1, 4, 5)),
        Case("three steps on five colour pictures each", _batches(blobs, 5, 3, 6, 4)),
        Case("three steps on three pictures of two pixels, beyond ±1", _batches(normal, 3, 1, 1, 2)),
    ],
    planted="target-out-of-step",
    misconceptions=[
        Misconception(
            "target-out-of-step",
            _sorted_step(target=lambda noise, order: noise),
            "The pictures are noised in the new order and compared with the noise in the old order. So the "
            "target has nothing to do with the input, and the best answer is 0, with loss 1.",
            about="order",
        ),
        Misconception(
            "answer-sorted-once-more",
            _sorted_step(target=lambda noise, order: noise, output=lambda output, order: output[order]),
            "You put the answers into the order a second time. Sorting is not undone by sorting again: that "
            "takes the inverse, order.argsort(), or a target in the same order as the input.",
            about="order",
        ),
        Misconception(
            "noise-left-unsorted",
            _sorted_step(noise_too=False, target=lambda noise, order: noise),
            "Input and target now use the same noise, but x0 and t are sorted and the noise is not, so each "
            "picture gets another one's noise. It would train; but a batch should be used as it was given, "
            "all of it in one order.",
            about="order",
        ),
        Misconception(
            "wrong-time-told",
            _sorted_step(tell_sorted=False),
            "The target is right now, but the network is told the times in the old order, so each picture is "
            "announced with another one's t. Tell it the times that the pictures were noised to.",
            about="level",
        ),
        Misconception(
            "target-is-the-picture",
            _sorted_step(target=lambda noise, order: torch.zeros_like(noise)),
            "The loss falls now because the target is gone: a network that learns to answer 0 has learnt "
            "nothing. Compare its answer with the noise that made its input.",
            about="input",
        ),
        Misconception(
            "gradients-never-cleared",
            _learnt("backward", "step"),
            "The loss is right, but optimizer.zero_grad() is gone. Gradients add up over the steps until "
            "they are cleared: the second step would also go where the first one went.",
            about="gradient",
        ),
        Misconception(
            "step-without-a-gradient",
            _learnt("backward", "zero_grad", "step"),
            "The loss is right, but the weights never move: optimizer.step() is missing, or it comes where "
            "there is no gradient, which was cleared just before or is computed only afterwards. The order "
            "is zero_grad, backward, step.",
            about="order",
        ),
        Misconception(
            "stepped-twice",
            _learnt("zero_grad", "backward", "step", "step"),
            "The loss is right, but the optimizer steps twice with one gradient. One loss, one step.",
            about="count",
        ),
        Misconception(
            "all-in-the-old-order-but-x0",
            _sorted_step(noise_too=False, t_too=False, tell_sorted=False, target=lambda noise, order: noise),
            "Input and target now use the same noise, but x0 is still sorted and nothing else is, so each "
            "picture gets another one's time. It would train; but a batch should be used as it was given, "
            "all of it in one order.",
            about="order",
        ),
        Misconception(
            "loss-summed",
            _by_another_loss(lambda network, *batch: simple_loss(network, *batch).sum()),
            "The target is right now, but you added the losses of the pictures up. Return and follow their "
            "*mean*, so that a step does not grow with the batch.",
            about="mean",
        ),
        Misconception(
            "loss-of-the-new-weights",
            _loss_of_the_new_weights,
            "The weights are right, but the loss that you return is that of the network after the step. "
            "Return the loss whose gradient made the step.",
            about="order",
        ),
        Misconception(
            "two-rounds",
            _two_rounds,
            "You take two steps on one batch, and return the loss of the second. One batch, one loss, one "
            "step.",
            about="count",
        ),
        Misconception(
            "step-for-each-picture",
            _step_for_each,
            "You take a step for each picture. Asked is one step for the batch, by the mean of its losses.",
            about="batch",
        ),
        Misconception(
            "pixels-summed",
            _by_another_loss(
                lambda network, x0, noise, *rest: (
                    simple_loss(network, x0, noise, *rest).mean() * noise.numel()
                )
            ),
            "The target is right now, but you added up all pixels of all pictures. Return and follow their "
            "*mean*, so that a step does not grow with the size of the pictures.",
            about="mean",
        ),
        Misconception(
            "only-the-times-sorted",
            _sorted_step(x0_too=False, noise_too=False, target=lambda noise, order: noise),
            "Input and target use the same noise now, but the times are still sorted and nothing else is: "
            "each picture is noised to the time of another, and told so.",
            about="order",
        ),
        Misconception(
            "only-the-levels-sorted",
            _sorted_step(x0_too=False, noise_too=False, tell_sorted=False, target=lambda noise, order: noise),
            "Input and target use the same noise now, but the levels are still sorted: each picture is "
            "noised to the time of another. Use t in place of t[order] there too.",
            about="order",
        ),
    ],
    alternatives=[
        _sorted_step(),
        _sorted_step(target=lambda noise, order: noise, output=lambda output, order: output[order.argsort()]),
        _learnt("zero_grad", "backward", "step"),
    ],
    hints=(
        "Ask what a network could learn here. It sees x_t, which holds the noise that it was made with. Is "
        "that the noise in the next line? Print the first row of both.",
        "The pair (x_t, target) must satisfy x_t = √ᾱ_t·x₀ + √(1 − ᾱ_t)·target, row by row. What is the loss "
        "of the best guess at a target that is independent of x_t? E[ε²] = 1.",
        "Follow `order` through the lines: every tensor of the batch has to go through it wherever it is "
        "used, or none. One of them is used twice.",
    ),
    figure=_training_step_figure,
    figure_alt="The loss over 60 steps of a network with two weights. As you find it, it settles at 1, the "
    "loss of answering 0. Mended, it falls well below 1, to about 0.3.",
)


# 04.5 The best constant variance ---------------------------------------------------------------------


def best_variance(error: Tensor, t: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """The posterior's variance and the mean squared error of its mean (Bao et al. 2022, theorem 1)."""
    path = DiscreteVP(1 - alphas_cumprod[1:] / alphas_cumprod[:-1])
    one = torch.ones_like(error)
    factor, variance = posterior(one, 0 * one, path(t), path(t - 1))
    return variance + factor.square() * error


def _parts(t: Tensor, alphas_cumprod: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """β_t, β̃_t and the factor of x₀ in the posterior's mean."""
    now, before = alphas_cumprod[t], alphas_cumprod[t - 1]
    beta = 1 - now / before
    return beta, beta * (1 - before) / (1 - now), before.sqrt() * beta / (1 - now)


Variance = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # of the error and the three parts


def _variance(formula: Variance) -> Callable[..., Tensor]:
    """A variance from the error and the parts."""

    def variance(error: Tensor, t: Tensor, alphas_cumprod: Tensor) -> Tensor:
        return formula(error, *_parts(t, alphas_cumprod))

    return variance


def _error_of_x_t(error: Tensor, t: Tensor, alphas_cumprod: Tensor) -> Tensor:
    now, before = alphas_cumprod[t], alphas_cumprod[t - 1]
    from_x = (now / before).sqrt() * (1 - before) / (1 - now)
    return _parts(t, alphas_cumprod)[1] + from_x**2 * error


def _variance_with(formula: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """A variance from the error, ᾱ_t and ᾱ_{t−1}."""
    return lambda error, t, alphas_cumprod: formula(error, alphas_cumprod[t], alphas_cumprod[t - 1])


def _by_the_weight(error: Tensor, t: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """β̃·(1 + 2·L) with the divergence L at variance β̃, ½·(SNR(t−1) − SNR(t))·error."""
    return _parts(t, alphas_cumprod)[1] * (1 + 2 * _on_x0(t, alphas_cumprod) * error)


def _errors_at(betas: Betas, low: float, high: float) -> Make:
    def make(g: torch.Generator) -> dict[str, Any]:
        alphas_cumprod = DiscreteVP(betas(g)).alphas_cumprod
        T = len(alphas_cumprod) - 1
        share = torch.rand(4, generator=g, dtype=torch.float64)
        return {
            "error": low + (high - low) * share,
            "t": torch.tensor([2, *several(g, 2, 3, T - 1), T]),
            "alphas_cumprod": alphas_cumprod,
        }

    return make


def _best_variance_figure(reference: Callable[..., Tensor]) -> Any:
    from matplotlib import pyplot

    alphas_cumprod = DiscreteVP(linear_betas(25, 0.1 / 25, 20 / 25)).alphas_cumprod
    t = torch.arange(2, 26)
    beta, tilde, _ = _parts(t, alphas_cumprod)
    figure, axis = pyplot.subplots(figsize=(4.4, 2.6))
    for name, values, line in (
        ("β", beta, ":"),
        ("best, error 0.03", reference(torch.full((24,), 0.03).double(), t, alphas_cumprod), "-"),
        ("best, error 0.01", reference(torch.full((24,), 0.01).double(), t, alphas_cumprod), "-."),
        ("β̃", tilde, "--"),
    ):
        axis.semilogy(t.numpy(), values.numpy(), line, marker="", label=name)
    axis.set(xlabel="t, of 25", ylabel="variance of the step")
    axis.legend(fontsize=9)
    return figure


BEST_VARIANCE = Exercise(
    id="04.5",
    name="best_variance",
    title="How wide should the guess be?",
    kind="stretch",
    difficulty=3,
    minutes=15,
    reference=best_variance,
    cases=[
        Case("four times of a short chain, large errors", _errors_at(_short, 0.05, 0.5)),
        Case("four times of a linear schedule, small errors", _errors_at(linear, 0.0005, 0.01)),
        Case("four times of a cosine schedule", _errors_at(cosine, 0.001, 0.3)),
    ],
    misconceptions=[
        Misconception(
            "posterior-variance-alone",
            _variance(lambda error, beta, tilde, factor: tilde + 0 * error),
            "This is β̃, the variance of the posterior for a *known* x₀. The model does not know x₀: the "
            "error in its mean has to be covered, too.",
            about="missing",
        ),
        Misconception(
            "forward-variance",
            _variance(lambda error, beta, tilde, factor: beta + 0 * error),
            "This is β_t, the variance of the step up. It is the best choice for data of variance 1; here "
            "the error that was measured decides.",
            about="formula",
        ),
        Misconception(
            "error-alone",
            _variance(lambda error, beta, tilde, factor: factor**2 * error),
            "You covered the error in the mean alone. The posterior has a width of its own, β̃_t: add it.",
            about="missing",
        ),
        Misconception(
            "factor-not-squared",
            _variance(lambda error, beta, tilde, factor: tilde + factor * error),
            "The mean moves with x̂₀ by a factor, and the error that you are given is a square: the factor "
            "has to be squared.",
            about="root",
        ),
        Misconception(
            "error-in-x0-not-in-the-mean",
            _variance(lambda error, beta, tilde, factor: tilde + error),
            "You added the error in x₀. What counts is the error in the *mean* of the step, which moves with "
            "x̂₀ only by the factor α_{t−1}·β_t/σ_t².",
            about="missing",
        ),
        Misconception(
            "error-squared-again",
            _variance(lambda error, beta, tilde, factor: tilde + (factor * error) ** 2),
            "The error that you are given is a mean of squares already. Square the factor alone.",
            about="root",
        ),
        Misconception(
            "standard-deviation",
            _variance(lambda error, beta, tilde, factor: (tilde + factor**2 * error).sqrt()),
            "You returned a standard deviation. Asked is the variance: leave the root out.",
            about="root",
        ),
        Misconception(
            "error-subtracted",
            _variance(lambda error, beta, tilde, factor: tilde - factor**2 * error),
            "You made the step narrower where the model errs more. A guess that may be wrong has to be "
            "wider: add the error.",
            about="sign",
        ),
        Misconception(
            "error-halved",
            _variance(lambda error, beta, tilde, factor: tilde + factor**2 * error / 2),
            "The ½ of the divergence stands before both parts, the logarithm and the fraction. It drops out "
            "where the derivative is 0.",
            about="factor",
        ),
        Misconception(
            "error-added-to-beta",
            _variance(lambda error, beta, tilde, factor: beta + factor**2 * error),
            "You started from β_t. The posterior is narrower: its variance is β̃_t = β_t·σ²_{t−1}/σ²_t.",
            about="formula",
        ),
        Misconception(
            "factor-of-x-t",
            _error_of_x_t,
            "You took the factor of x_t in the posterior's mean. The model knows x_t; the error is in x̂₀, "
            "whose factor is α_{t−1}·β_t/σ_t².",
            about="swap",
        ),
        Misconception(
            "weight-on-eps",
            lambda error, t, alphas_cumprod: (
                _parts(t, alphas_cumprod)[1]
                * (1 + 2 * _on_x0(t, alphas_cumprod) / _snr(alphas_cumprod)[t] * error)
            ),
            "You weighted the error as if it were in ε. It is in x₀: the weight is ½·(SNR(t−1) − SNR(t)).",
            about="input",
        ),
        Misconception(
            "noise-level-for-the-posterior",
            _variance_with(
                lambda error, now, before: 1 - before + before * ((1 - now / before) / (1 - now)) ** 2 * error
            ),
            "You started from σ²_{t−1}, the noise of the cleaner level. Whoever knows x_t and x₀ knows more: "
            "the posterior's variance is β̃_t = β_t·σ²_{t−1}/σ²_t.",
            about="formula",
        ),
        Misconception(
            "sigma-not-squared",
            _variance_with(
                lambda error, now, before: (
                    (1 - now / before) * (1 - before) / (1 - now)
                    + before * (1 - now / before) ** 2 / (1 - now) * error
                )
            ),
            "In the factor of x₀ you divided by σ_t. It is divided by σ_t², which is 1 − ᾱ_t: "
            "α_{t−1}·β_t/σ_t².",
            about="root",
        ),
        Misconception(
            "larger-of-the-two",
            _variance(lambda error, beta, tilde, factor: torch.maximum(tilde, factor**2 * error)),
            "You took the larger of the two variances. The step has to cover both at once: add them.",
            about="formula",
        ),
        Misconception(
            "ratio-of-the-variances",
            lambda error, t, alphas_cumprod: 1 + 2 * _on_x0(t, alphas_cumprod) * error,
            "This says how many times wider than β̃_t the guess should be. Multiply it by β̃_t.",
            about="missing",
        ),
        Misconception(
            "alpha-bar-for-alpha",
            _variance_with(
                lambda error, now, before: (
                    (1 - now / before) * (1 - before) / (1 - now)
                    + (before * (1 - now / before) / (1 - now)) ** 2 * error
                )
            ),
            "In the factor of x₀ you put ᾱ_{t−1} for α_{t−1}. But α² = ᾱ: take the root.",
            about="root",
        ),
        Misconception(
            "alpha-of-time-t",
            _variance_with(
                lambda error, now, before: (
                    (1 - now / before) * (1 - before) / (1 - now)
                    + now * ((1 - now / before) / (1 - now)) ** 2 * error
                )
            ),
            "In the factor of x₀ you put α_t. The mean belongs to the cleaner level, so it is α_{t−1}: "
            "α_{t−1}·β_t/σ_t².",
            about="level",
        ),
        Misconception(
            "posterior-variance-upside-down",
            _variance(lambda error, beta, tilde, factor: beta**2 / tilde + factor**2 * error),
            "β̃_t is smaller than β_t: it is β_t·σ²_{t−1}/σ²_t, with the cleaner level on top. You divided "
            "the other way round.",
            about="swap",
        ),
        Misconception(
            "deviations-added",
            _variance(lambda error, beta, tilde, factor: (tilde.sqrt() + factor * error.sqrt()) ** 2),
            "You added two standard deviations and squared their sum. The spread of the posterior and the "
            "error of the mean are independent: their *squares* add up.",
            about="order",
        ),
        Misconception(
            "mean-over-the-times",
            _variance(lambda error, beta, tilde, factor: tilde + (factor**2 * error).mean()),
            "You averaged over the entries. Each stands for another time t, with an error and a variance of "
            "its own.",
            about="mean",
        ),
    ],
    alternatives=[_variance(lambda error, beta, tilde, factor: tilde + factor**2 * error), _by_the_weight],
    hints=(
        "Draws from the posterior lie around its mean, with variance β̃. The model's Gaussian stands around "
        "another mean. How far from the model's mean are the draws, in the mean square?",
        "E KL = ½·(ln(v/β̃) + (β̃ + c²·error)/v − 1), where c = α_{t−1}·β_t/σ_t² is the factor of x₀ in the "
        "posterior's mean. Set the derivative by v to 0.",
        "`now, before = alphas_cumprod[t], alphas_cumprod[t - 1]`, then β from their ratio, then "
        "`tilde = beta * (1 - before) / (1 - now)` and the factor; the answer is a sum of two terms.",
    ),
    figure=_best_variance_figure,
    figure_alt="Variance of the step over t for a chain of 25 steps, the variance on a logarithmic scale. "
    "At t = 2 β̃ is one tenth of β. The best variance for an error of 0.03 starts a little below β, that "
    "for 0.01 between the two. From t = 10 on all four are close together.",
)


# 04.6 The average of the weights ----------------------------------------------------------------------


def average_weights(average: nn.Module, network: nn.Module, step: int, decay: float) -> None:
    """One update of `EMA`, whose shadow lies in `average`."""
    ema = EMA(average, decay)
    ema.step = step - 1
    ema.update(network)
    ema.copy_to(average)


class _Weights(nn.Module):
    """A network that is its weights: a picture's and a number."""

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.picture, self.number = nn.Parameter(values[:-1].clone()), nn.Parameter(values[-1].clone())


def _all_weights(network: nn.Module) -> Tensor:
    """The parameters of a network in one row, apart from it."""
    return torch.cat([weight.detach().flatten() for weight in network.parameters()]).clone()


def _moved(
    answer: Callable[..., Any], start: Tensor, weights: Tensor, first: int, decay: float
) -> dict[str, Any]:
    """One call for each row of weights, after steps number first, first + 1, …"""
    average, network = _Weights(start), _Weights(start)
    for i, values in enumerate(weights):
        with torch.no_grad():
            network.picture.copy_(values[:-1])
            network.number.copy_(values[-1])
        answer(average, network, first + i, decay)
    return {"the averages": _all_weights(average), "the network's own weights": _all_weights(network)}


def _some_weights(rows: int, first: tuple[int, int], decay: tuple[float, float]) -> Make:
    def make(g: torch.Generator) -> dict[str, Any]:
        return {
            "start": normal(g, 6),
            "weights": normal(g, rows, 6),
            "first": whole(g, *first),
            "decay": number(g, *decay),
        }

    return make


Average = Callable[[nn.Module, nn.Module, int, float], None]


def _moving(
    rate: Callable[[int, float], float] = lambda step, decay: min(decay, step / (step + 10)),
    into: str = "average",
) -> Average:
    """The update with another decay, or into the other network."""

    @torch.no_grad()
    def move(average: nn.Module, network: nn.Module, step: int, decay: float) -> None:
        d = rate(step, decay)
        for kept, now in zip(average.parameters(), network.parameters(), strict=True):
            mixed = d * kept + (1 - d) * now
            if into != "network":
                kept.copy_(mixed)
            if into != "average":
                now.copy_(mixed)

    return move


@torch.no_grad()
def _by_names(average: nn.Module, network: nn.Module, step: int, decay: float) -> None:
    now, d = dict(network.named_parameters()), min(decay, step / (step + 10))
    average.load_state_dict(
        {name: d * kept + (1 - d) * now[name] for name, kept in average.named_parameters()}
    )


def _by_lerp(average: nn.Module, network: nn.Module, step: int, decay: float) -> None:
    for kept, now in zip(average.parameters(), network.parameters(), strict=True):
        kept.data.lerp_(now.data, 1 - min(decay, step / (step + 10)))


@torch.no_grad()
def _first_alone(average: nn.Module, network: nn.Module, step: int, decay: float) -> None:
    first, d = next(average.parameters()), min(decay, step / (step + 10))
    first.copy_(d * first + (1 - d) * next(network.parameters()))


def _with_gradients(average: nn.Module, network: nn.Module, step: int, decay: float) -> None:
    d = min(decay, step / (step + 10))
    for kept, now in zip(average.parameters(), network.parameters(), strict=True):
        kept.mul_(d).add_((1 - d) * now)


@torch.no_grad()
def _adding(average: nn.Module, network: nn.Module, step: int, decay: float) -> None:
    for kept, now in zip(average.parameters(), network.parameters(), strict=True):
        kept.add_((1 - min(decay, step / (step + 10))) * now)


def _names_rebound(average: nn.Module, network: nn.Module, step: int, decay: float) -> None:
    d = min(decay, step / (step + 10))
    kept: Tensor
    for kept, now in zip(average.parameters(), network.parameters(), strict=True):
        kept = d * kept + (1 - d) * now


def _average_figure(reference: Average) -> Any:
    from matplotlib import pyplot

    g = torch.Generator().manual_seed(0)
    wander = [1 - 2 ** (-n / 30) + 0.25 * float(torch.randn((), generator=g)) for n in range(1, 301)]
    figure, axis = pyplot.subplots(figsize=(4.4, 2.6))
    axis.plot(range(1, 301), wander, "-", marker="", linewidth=0.6, color="gray", label="a weight")
    fixed = AVERAGE_WEIGHTS.misconception("no-warm-up").function
    for name, answer, line in (("its average", reference, "-"), ("with 0.999 from the start", fixed, "--")):
        average, network, values = _Weights(torch.zeros(2)), _Weights(torch.zeros(2)), []
        for step, value in enumerate(wander, 1):
            network.number.data.fill_(value)
            answer(average, network, step, 0.999)
            values.append(average.number.item())
        axis.plot(range(1, 301), values, line, marker="", label=name)
    axis.set(xlabel="step", ylim=(-0.6, 2.8))
    axis.legend(fontsize=9, loc="upper left")
    return figure


AVERAGE_WEIGHTS = Exercise(
    id="04.6",
    name="average_weights",
    title="An average that forgets its start",
    kind="implement",
    difficulty=2,
    minutes=12,
    reference=average_weights,
    call=_moved,
    cases=[
        Case("three steps from the first on", _some_weights(3, (1, 1), (0.9, 0.99))),
        Case("two steps in the middle of training", _some_weights(2, (40, 80), (0.95, 0.999))),
        Case("four steps, where the decay is reached", _some_weights(4, (100, 200), (0.5, 0.8))),
    ],
    misconceptions=[
        Misconception(
            "shares-swapped",
            _moving(rate=lambda step, decay: 1 - min(decay, step / (step + 10))),
            "The two shares have changed places. The average keeps the share d of itself and takes 1 − d of "
            "the new weights: with d near 1 it moves slowly.",
            about="swap",
        ),
        Misconception(
            "no-warm-up",
            _moving(rate=lambda step, decay: decay),
            "You use the decay from the first step on. Then the average holds on to the random start: "
            "0.999⁶⁰⁰ is 55 %. Early on the share is step/(step + 10). Are its brackets there? Without them, "
            "step/step + 10 is 11, and never the smaller one.",
            about="missing",
        ),
        Misconception(
            "larger-of-the-two",
            _moving(rate=lambda step, decay: max(decay, step / (step + 10))),
            "You took the larger of the two shares. The decay is the limit that the share does not pass: the "
            "smaller one.",
            about="swap",
        ),
        Misconception(
            "warm-up-alone",
            _moving(rate=lambda step, decay: step / (step + 10)),
            "The share grows without a limit, so that in the end hardly anything new comes in. It stops "
            "growing at the decay.",
            about="missing",
        ),
        Misconception(
            "mean-of-all-steps",
            _moving(rate=lambda step, decay: (step - 1) / step),
            "This is the plain mean of all steps. The early ones are bad: an average is asked for that "
            "forgets them, with the share step/(step + 10).",
            about="formula",
        ),
        Misconception(
            "one-step-on",
            _moving(rate=lambda step, decay: min(decay, (step + 1) / (step + 10))),
            "Some libraries use (step + 1)/(step + 10), with steps counted from 0. Here they are counted "
            "from 1: step/(step + 10).",
            about="index",
        ),
        Misconception(
            "network-changed",
            _moving(into="network"),
            "You wrote the average into the network that is being trained. It goes on with its own weights; "
            "only `average` changes.",
            about="swap",
        ),
        Misconception(
            "both-changed",
            _moving(into="both"),
            "The average is right, but you wrote it into the network, too. The network in training goes on "
            "with its own weights.",
            about="extra",
        ),
        Misconception(
            "first-weight-alone",
            _first_alone,
            "Only the first of the network's tensors is averaged. Go through all of them, in pairs: "
            "zip(average.parameters(), network.parameters()).",
            about="count",
        ),
        Misconception(
            "weights-copied",
            _moving(rate=lambda step, decay: 0.0),
            "The average is a copy of the network's weights now. It should keep a share d of what it was.",
            about="missing",
        ),
        Misconception(
            "gradients-recorded",
            _with_gradients,
            "torch refuses to change a weight in place while it records gradients. Averaging is no part of "
            "what is learnt: do it under torch.no_grad().",
            about="gradient",
        ),
        Misconception(
            "nothing-written",
            _names_rebound,
            "Nothing changes in `average`. `kept = …` only gives the name to a new tensor, and what is "
            "written into a copy of the network is lost. Write into the weight that is there: kept.copy_(…).",
            about="missing",
        ),
        Misconception(
            "one-in-place-of-ten",
            _moving(rate=lambda step, decay: min(decay, step / (step + 1))),
            "You took step/(step + 1), which averages the start and all steps alike. The 10 lets the early "
            "steps be forgotten: step/(step + 10).",
            about="formula",
        ),
        Misconception(
            "decay-multiplied",
            _moving(rate=lambda step, decay: decay * step / (step + 10)),
            "You multiplied the decay by step/(step + 10). The share is the *smaller* of the two: min(…, …).",
            about="formula",
        ),
        Misconception(
            "nothing-given-up",
            _adding,
            "You add to the average and take nothing away, so it grows with each step. It keeps the share d "
            "of itself: the two shares, d and 1 − d, add up to 1.",
            about="missing",
        ),
        Misconception(
            "away-from-the-network",
            _moving(rate=lambda step, decay: 2 - min(decay, step / (step + 10))),
            "The average moves away from the network. Towards it is + (1 − d)·(network − average).",
            about="sign",
        ),
    ],
    alternatives=[_moving(), _by_names, _by_lerp],
    hints=(
        "Two networks of the same shape: go through their weights in pairs. The average moves a little way "
        "towards the network; how far depends on the number of the step.",
        "d = min(decay, step/(step + 10)); average ← d·average + (1 − d)·network, for each weight.",
        "`with torch.no_grad():`, a loop `for kept, now in zip(average.parameters(), "
        "network.parameters()):`, and in it `kept.copy_(d * kept + …)`.",
    ),
    figure=_average_figure,
    figure_alt="A weight over 300 steps: it rises from 0 to 1 and jitters by 0.25. Its average follows as a "
    "smooth line, a little late. The average with 0.999 from the start is at about 0.2 after 300 steps.",
)


# 04.7 The training loop -------------------------------------------------------------------------------

BATCH, DECAY = 32, 0.999
Report = Callable[[Tensor], object]


class _Labelled(nn.Module):
    """a·x + b·t/10 and a number for each of four labels; `of` is the network for pictures with these."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(weights[0].clone()), nn.Parameter(weights[1].clone())
        self.labels = nn.Parameter(weights[2:].clone())

    def of(self, labels: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        def network(x: Tensor, t: Tensor) -> Tensor:
            if tuple(labels.shape) != (len(x),) or t.shape != labels.shape:
                raise ValueError(
                    f"the network wants one time and one label for each of {len(x)} pictures, got t of shape "
                    f"{tuple(t.shape)} and labels of shape {tuple(labels.shape)}"
                )
            number = self.b * t.to(x.dtype) / 10 + self.labels[labels]
            return self.a * x + number.view(-1, *[1] * (x.ndim - 1))

        return network


def train_averaged(
    network: Any,
    optimizer: Any,
    pictures: Tensor,
    labels: Tensor,
    alphas_cumprod: Tensor,
    shares: Tensor,
    steps: Iterable[int],
    generator: torch.Generator,
    after_step: Report,
) -> nn.Module:
    """The loop, with `EMA` for the average."""
    average, ema = copy.deepcopy(network), EMA(network, DECAY)
    for _ in steps:
        chosen = torch.randint(len(pictures), (BATCH,), generator=generator)
        t = torch.multinomial(shares, BATCH, replacement=True, generator=generator)
        x0 = pictures[chosen]
        noise = torch.randn(x0.shape, generator=generator)
        loss = training_step(network.of(labels[chosen]), optimizer, x0, noise, t, alphas_cumprod)
        ema.update(network)
        after_step(loss)
    ema.copy_to(average)
    return average


def _a_training(
    answer: Callable[..., Any],
    pictures: Tensor,
    labels: Tensor,
    alphas_cumprod: Tensor,
    shares: Tensor,
    steps: int,
    seed: int,
    weights: Tensor,
) -> dict[str, Any]:
    """A short training of the network with labels, on the CPU, where its generator draws."""
    given = (pictures, labels, alphas_cumprod, shares, weights)
    pictures, labels, alphas_cumprod, shares, weights = (each.cpu() for each in given)
    network, losses = _Labelled(weights), list[float]()
    average = answer(
        network,
        Descent(network.parameters(), lr=0.2),
        pictures,
        labels,
        alphas_cumprod,
        shares,
        range(steps),
        torch.Generator().manual_seed(seed),
        lambda loss: losses.append(float(loss.detach() if isinstance(loss, Tensor) else loss)),
    )
    return {
        "the losses told to after_step": losses,
        "the network's weights at the end": _all_weights(network),
        "the averaged weights that come back": _all_weights(average)
        if isinstance(average, nn.Module)
        else average,
    }


def _trainings(draw: Callable[..., Tensor], steps: tuple[int, int], *shape: int) -> Make:
    def make(g: torch.Generator) -> dict[str, Any]:
        alphas_cumprod = DiscreteVP(_short(g)).alphas_cumprod.float()
        shares = torch.rand(len(alphas_cumprod), generator=g)
        shares[0] = 0
        return {
            "pictures": draw(g, *shape),
            "labels": torch.randint(4, shape[:1], generator=g),
            "alphas_cumprod": alphas_cumprod,
            "shares": shares.square(),
            "steps": whole(g, *steps),
            "seed": whole(g, 0, 10_000),
            "weights": 0.5 * normal(g, 6),
        }

    return make


def _training(
    order: str = "chosen times noise",
    once: bool = False,
    evenly: bool = False,
    told: Callable[[Tensor, list[Tensor]], Any] = lambda loss, losses: loss,
    returned: str = "average",
    averaged_before: bool = False,
    averaged_at_the_end: bool = False,
    counted_from: int = 1,
    rounds: int | None = None,
    report: bool = True,
    told_of: Callable[[Tensor], Tensor] = lambda chosen: chosen,
    bound: bool = True,
    swapped: bool = False,
    one_noise: bool = False,
    uniform: bool = False,
    fewer: int = 0,
    asked: str = "network",
) -> Callable[..., Any]:
    """The loop of the exercise with one thing changed."""

    def train(
        network: Any,
        optimizer: Any,
        pictures: Tensor,
        labels: Tensor,
        alphas_cumprod: Tensor,
        shares: Tensor,
        steps: Iterable[int],
        generator: torch.Generator,
        after_step: Report,
    ) -> Any:
        average, losses = copy.deepcopy(network), list[Tensor]()
        T = len(alphas_cumprod) - 1

        def draw() -> dict[str, Tensor]:
            drawn = {}
            for what in order.split():
                if what == "chosen":
                    drawn[what] = torch.randint(len(pictures) - fewer, (BATCH,), generator=generator)
                elif what == "times" and evenly:
                    drawn[what] = torch.randint(1, T + 1, (BATCH,), generator=generator)
                elif what == "times":
                    drawn[what] = torch.multinomial(shares, BATCH, replacement=True, generator=generator)
                else:
                    different, law = 1 if one_noise else BATCH, torch.rand if uniform else torch.randn
                    noise = law(different, *pictures.shape[1:], generator=generator)
                    drawn[what] = noise.expand(BATCH, *pictures.shape[1:])
            return drawn

        kept, step = draw() if once else None, 0
        for step, _ in enumerate(list(steps)[:rounds], counted_from):
            batch = kept or draw()
            if averaged_before:
                average_weights(average, network, step, DECAY)
            x0 = pictures[batch["chosen"]]
            one = network if asked == "network" else average
            ask = one.of(labels[told_of(batch["chosen"])]) if bound else one
            loss = training_step(ask, optimizer, x0, batch["noise"], batch["times"], alphas_cumprod)
            losses.append(loss)
            if swapped:
                average_weights(network, average, step, DECAY)
            elif not averaged_before and not averaged_at_the_end:
                average_weights(average, network, step, DECAY)
            if report:
                after_step(told(loss, losses))
        if averaged_at_the_end:
            average_weights(average, network, step, DECAY)
        return {"average": average, "network": network, "nothing": None}[returned]

    return train


def _average_not_apart(
    network: Any,
    optimizer: Any,
    pictures: Tensor,
    labels: Tensor,
    alphas_cumprod: Tensor,
    shares: Tensor,
    steps: Iterable[int],
    generator: torch.Generator,
    after_step: Report,
) -> nn.Module:
    train_averaged(network, optimizer, pictures, labels, alphas_cumprod, shares, steps, generator, after_step)
    return network


def _average_trained(
    network: Any,
    optimizer: Any,
    pictures: Tensor,
    labels: Tensor,
    alphas_cumprod: Tensor,
    shares: Tensor,
    steps: Iterable[int],
    generator: torch.Generator,
    after_step: Report,
) -> nn.Module:
    """The average is written back into the network after each step."""
    average = copy.deepcopy(network)
    for step, _ in enumerate(steps, 1):
        chosen = torch.randint(len(pictures), (BATCH,), generator=generator)
        t = torch.multinomial(shares, BATCH, replacement=True, generator=generator)
        noise = torch.randn(BATCH, *pictures.shape[1:], generator=generator)
        loss = training_step(
            network.of(labels[chosen]), optimizer, pictures[chosen], noise, t, alphas_cumprod
        )
        average_weights(average, network, step, DECAY)
        network.load_state_dict(average.state_dict())
        after_step(loss)
    return average


def _on_the_first_picture(
    network: Any,
    optimizer: Any,
    pictures: Tensor,
    labels: Tensor,
    alphas_cumprod: Tensor,
    shares: Tensor,
    steps: Iterable[int],
    generator: torch.Generator,
    after_step: Report,
) -> nn.Module:
    same = pictures[:1].expand_as(pictures)
    return train_averaged(
        network, optimizer, same, labels, alphas_cumprod, shares, steps, generator, after_step
    )


def _by_hand(
    network: Any,
    optimizer: Any,
    pictures: Tensor,
    labels: Tensor,
    alphas_cumprod: Tensor,
    shares: Tensor,
    steps: Iterable[int],
    generator: torch.Generator,
    after_step: Report,
) -> nn.Module:
    """Without the other pieces, and the average kept as a list of tensors."""
    kept = [weight.detach().clone() for weight in network.parameters()]
    for step in steps:
        chosen = torch.randint(0, len(pictures), (BATCH,), generator=generator)
        x0 = pictures[chosen]
        t = torch.multinomial(shares, BATCH, True, generator=generator)
        noise = torch.randn(*x0.shape, generator=generator)
        signal = alphas_cumprod[t].view(-1, 1, 1, 1)
        x = signal.sqrt() * x0 + (1 - signal).sqrt() * noise
        loss = nn.functional.mse_loss(network.of(labels[chosen])(x, t), noise)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        d = min(DECAY, (step + 1) / (step + 11))
        kept = [d * old + (1 - d) * new.detach() for old, new in zip(kept, network.parameters(), strict=True)]
        after_step(loss.detach().clone())
    average = copy.deepcopy(network)
    for weight, value in zip(average.parameters(), kept, strict=True):
        weight.data.copy_(value)
    return average


def _train_figure(reference: Callable[..., Any]) -> Any:
    from matplotlib import pyplot

    generator = torch.Generator().manual_seed(0)
    alphas_cumprod = DiscreteVP(linear_betas(10, 0.1, 0.5)).alphas_cumprod.float()
    network, losses, values = _Labelled(torch.zeros(6)), list[float](), list[float]()

    def after_step(loss: Tensor) -> None:
        losses.append(float(loss))
        values.append(network.a.item())

    shares = torch.tensor([0.0] + [1.0] * 10)
    pictures = blobs(generator, 200, 1, 4, 4)
    labels, optimizer = torch.zeros(200, dtype=torch.int64), Descent(network.parameters(), 0.4)
    average = reference(
        network, optimizer, pictures, labels, alphas_cumprod, shares, range(80), generator, after_step
    )
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(6, 2.5))
    left.plot(losses, "-", marker="")
    left.set(xlabel="step", ylabel="loss", ylim=(0, None))
    right.plot(values, "-", marker="", label="a weight")
    right.axhline(average.a.item(), color="gray", linestyle="--", label="in the network\nthat comes back")
    right.set(xlabel="step")
    right.legend(fontsize=9)
    return figure


TRAIN_AVERAGED = Exercise(
    id="04.7",
    name="train_averaged",
    title="The whole training",
    kind="implement",
    difficulty=3,
    minutes=25,
    reference=train_averaged,
    call=_a_training,
    builds_on=[TRAINING_STEP],
    cases=[
        Case("a few steps on ten pictures", _trainings(blobs, (4, 6), 10, 1, 4, 5)),
        Case("a few steps on six colour pictures", _trainings(blobs, (3, 5), 6, 3, 5, 4)),
        Case("more steps on forty pictures, beyond ±1", _trainings(normal, (12, 15), 40, 1, 3, 4)),
    ],
    misconceptions=[
        Misconception(
            "network-returned",
            _average_not_apart,
            "You return the trained network itself. Return the copy with the averaged weights. Is it a copy, "
            "copy.deepcopy(network), or a second name for the same network?",
            about="input",
        ),
        Misconception(
            "nothing-returned",
            _training(returned="nothing"),
            "The training is right, but nothing comes back: return the network with the averaged weights.",
            about="missing",
        ),
        Misconception(
            "averaged-before-the-step",
            _training(averaged_before=True),
            "The average takes the weights in before the step, so the last step never reaches it. First the "
            "step, then the average.",
            about="order",
        ),
        Misconception(
            "averaged-once",
            _training(averaged_at_the_end=True),
            "The average takes the weights in once, after the loop. It is a mean over the steps: move it "
            "after each one.",
            about="order",
        ),
        Misconception(
            "steps-counted-from-0",
            _training(counted_from=0),
            "You count the steps from 0. `average_weights` wants the number of the steps that are done: 1 "
            "after the first.",
            about="index",
        ),
        Misconception(
            "loop-left-early",
            _training(rounds=1),
            "The loop ends after the first step. Is there a `return` inside of it? It should go on until "
            "steps are used up.",
            about="count",
        ),
        Misconception(
            "one-batch-for-all",
            _training(once=True),
            "Pictures, times and noise are drawn once, before the loop. Draw them anew in each step: the "
            "network is to learn all pictures, all times and any noise.",
            about="order",
        ),
        Misconception(
            "times-drawn-evenly",
            _training(evenly=True),
            "You draw every t as often as any other. Draw t in proportion to `shares`: "
            "torch.multinomial(shares, 32, replacement=True, generator=generator).",
            about="input",
        ),
        Misconception(
            "times-first",
            _training(order="times chosen noise"),
            "All is right but the order of the draws: first the pictures, then the times, then the noise. "
            "It is prescribed so that your numbers can be compared.",
            about="order",
        ),
        Misconception(
            "noise-before-times",
            _training(order="chosen noise times"),
            "All is right but the order of the draws: the times come before the noise. It is prescribed so "
            "that your numbers can be compared.",
            about="order",
        ),
        Misconception(
            "noise-first",
            _training(order="noise chosen times"),
            "All is right but the order of the draws: the noise comes last. It is prescribed so that your "
            "numbers can be compared.",
            about="order",
        ),
        Misconception(
            "average-written-back",
            _average_trained,
            "The average is written back into the network, which makes each step smaller. The network goes "
            "on with its own weights; the average only watches.",
            about="extra",
        ),
        Misconception(
            "average-and-network-swapped",
            _training(swapped=True),
            "You handed `average_weights` the two networks in the wrong order, so the network in training is "
            "pulled back to its start. First the average, then the network.",
            about="swap",
        ),
        Misconception(
            "one-noise-for-all",
            _training(one_noise=True),
            "All pictures of a batch get the same noise. Draw it in the shape of the 32 pictures, "
            "torch.randn(x0.shape, generator=generator).",
            about="batch",
        ),
        Misconception(
            "uniform-noise",
            _training(uniform=True),
            "Your noise is uniform between 0 and 1, from torch.rand. Gaussian noise is torch.randn.",
            about="input",
        ),
        Misconception(
            "last-picture-never-drawn",
            _training(fewer=1),
            "The last picture is never drawn. torch.randint(N, …) gives 0 to N − 1 already: no −1 is needed.",
            about="index",
        ),
        Misconception(
            "average-asked",
            _training(asked="average"),
            "The loss is that of the average, so the network gets no gradient and its weights never move. "
            "Hand network.of(…) to `training_step`; the average only follows.",
            about="swap",
        ),
        Misconception(
            "labels-not-chosen",
            _training(told_of=lambda chosen: torch.arange(BATCH) % 6),
            "Each picture is announced with another one's label. Take the labels of the pictures that were "
            "drawn: labels[chosen].",
            about="index",
        ),
        Misconception(
            "network-never-told-the-labels",
            _training(bound=False),
            "You handed the network itself to `training_step`. It has to know the labels: "
            "network.of(labels of these pictures) is a function of x and t.",
            about="missing",
        ),
        Misconception(
            "never-told",
            _training(report=False),
            "The training is right, but after_step is never called: call it with the loss of each step.",
            about="missing",
        ),
        Misconception(
            "mean-told",
            _training(told=lambda loss, losses: sum(losses) / len(losses)),
            "You tell after_step the mean of all losses so far. It wants the loss of this step alone.",
            about="mean",
        ),
        Misconception(
            "one-picture-alone",
            _on_the_first_picture,
            "The same picture is used all the time. Draw 32 numbers below len(pictures), and take those "
            "pictures.",
            about="index",
        ),
    ],
    alternatives=[_training(), _by_hand],
    hints=(
        "Before the loop: a copy of the network, for the average. In the loop: draw a batch, take one step, "
        "let the average follow, tell the loss. You have built the step and the average already.",
        "chosen ~ U{0 … N − 1}, t ~ shares, ε ~ N(0, I), 32 of each; then one `training_step` and one "
        "`average_weights` with the number of steps done, from 1 on, and 0.999.",
        "`average = copy.deepcopy(network)`, then `for step in steps:` with `torch.randint`, "
        "`torch.multinomial`, `torch.randn`, `training_step(network.of(…), …)`, `average_weights(…)`, "
        "`after_step(loss)`.",
    ),
    figure=_train_figure,
    figure_alt="A training of 80 steps of a network with two weights. Left, the loss falls quickly and then "
    "jitters. Right, one of its weights, which jitters too, and a dashed line through the middle of its "
    "last values: the averaged weight.",
)

EXERCISES = [
    GAUSSIAN_KL,
    VLB_WEIGHT,
    SIMPLE_LOSS,
    TRAINING_STEP,
    BEST_VARIANCE,
    AVERAGE_WEIGHTS,
    TRAIN_AVERAGED,
]
