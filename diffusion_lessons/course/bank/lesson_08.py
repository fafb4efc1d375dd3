"""Lesson 08, DDIM: one update for every η, clipping, inversion, interpolation, DPM-Solver++(2M)."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from diffusion_lessons import samplers
from diffusion_lessons.conditions import Condition
from diffusion_lessons.course.bank import figures
from diffusion_lessons.course.bank.inputs import blobs, gaussian, normal
from diffusion_lessons.course.exercises.exercise import Case, Exercise, Misconception
from diffusion_lessons.denoiser import Denoiser
from diffusion_lessons.guidance import Clip
from diffusion_lessons.mixtures import GaussianMixture
from diffusion_lessons.paths import DiscreteVP, Level, add_noise
from diffusion_lessons.samplers import ddim_step, sample, slerp
from diffusion_lessons.schedules import cosine_betas
from diffusion_lessons.targets import Estimate

Make = Callable[[torch.Generator], dict[str, Any]]

PATH = DiscreteVP(cosine_betas())
CLUSTERS = GaussianMixture([[-1.0, -0.5], [1.0, -0.6], [0.1, 1.0]], [0.2, 0.1, 0.15], [0.5, 0.2, 0.3])


def _clouds(titles: list[str], clouds: list[Tensor]) -> Any:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(clouds), figsize=(2.1 * len(clouds), 2.1), layout="constrained")
    for axis, title, points in zip(axes, titles, clouds, strict=True):
        axis.scatter(*points.T.numpy(), s=2, color="#0072B2")
        axis.set(xlim=(-2.5, 2.5), ylim=(-2.5, 2.5), xticks=[-2, 0, 2], yticks=[-2, 0, 2])
        axis.set_title(title, fontsize=10)
    return figure


# 08.1 One update for every η ------------------------------------------------------------------------

Part = Callable[[Tensor, Tensor, float], Tensor]  # (σ', β̃, η) -> a factor


def _on_levels(
    answer: Callable[..., Any], x0: Tensor, eps: Tensor, noise: Tensor, t: float, t_next: float, eta: float
) -> Any:
    now, next = PATH(t), PATH(t_next)
    return answer(add_noise(x0, eps, now), Estimate(x0, eps), now, next, noise, eta)


def _small(now: Level, next: Level, power: int = 2) -> Tensor:
    return (next.sigma / now.sigma) ** 2 * (1 - (now.alpha / next.alpha) ** power)


def _large(now: Level, next: Level) -> Tensor:
    return 1 - (now.alpha / next.alpha) ** 2


def _update(direction: Part, kick: Part, variance: Callable[..., Tensor] = _small, early: bool = True) -> Any:
    """α'·x₀ + direction·ε + kick·noise; with `early`, η = 0 leaves the variance alone."""

    def step(
        x: Tensor, estimate: Estimate, now: Level, next: Level, noise: Tensor, eta: float = 0.0
    ) -> Tensor:
        if eta == 0 and early:
            return add_noise(*estimate, next)
        v = variance(now, next)
        old, new = direction(next.sigma, v, eta), kick(next.sigma, v, eta)
        return next.alpha * estimate.x0 + old * estimate.eps + new * noise

    return step


def _rest(sigma: Tensor, v: Tensor, eta: float) -> Tensor:
    return (sigma**2 - eta**2 * v).sqrt()


def _fresh(sigma: Tensor, v: Tensor, eta: float) -> Tensor:
    return eta * v.sqrt()


def _stays(x: Tensor, estimate: Estimate, now: Level, next: Level, noise: Tensor, eta: float = 0.0) -> Tensor:
    """The factors of the level where the step starts."""
    if eta == 0:
        return add_noise(*estimate, now)
    v = _small(now, next)
    return now.alpha * estimate.x0 + _rest(now.sigma, v, eta) * estimate.eps + _fresh(v, v, eta) * noise


def _from_posterior(
    x: Tensor, estimate: Estimate, now: Level, next: Level, noise: Tensor, eta: float = 0.0
) -> Tensor:
    """ε left out: what x holds beyond α·x₀, shrunk to what the new level has room for."""
    std = (eta * _small(now, next).clamp(min=0).sqrt()) if eta else torch.zeros(())
    rest = (next.sigma**2 - std**2).sqrt()
    beyond = (x - now.alpha * estimate.x0) / now.sigma if now.sigma > 0 else estimate.eps
    return next.alpha * estimate.x0 + rest * beyond + std * noise


def _move(t: float, t_next: float, eta: float, *shape: int) -> Make:
    return lambda g: {
        "x0": blobs(g, *shape),
        "eps": normal(g, *shape),
        "noise": normal(g, *shape),
        "t": t,
        "t_next": t_next,
        "eta": eta,
    }


def _update_figure(reference: Callable[..., Tensor]) -> Any:
    start, clouds = figures.noise(1500, 2), []
    for eta in (0.0, 0.5, 1.0):
        generator = torch.Generator().manual_seed(1)
        step = partial(reference, eta=eta)
        clouds.append(sample(CLUSTERS, start, PATH.levels(100), step=step, generator=generator))
    return _clouds(["η = 0", "η = 0.5", "η = 1"], clouds)


UPDATE = Exercise(
    id="08.1",
    name="ddim_step",
    title="One update for every η",
    kind="implement",
    difficulty=2,
    minutes=12,
    reference=ddim_step,
    cases=[
        Case("two pictures from t = 800 to 600, η = 0.5", _move(800, 600, 0.5, 2, 1, 8, 8)),
        Case("colour pictures from t = 500 to 400, η = 1", _move(500, 400, 1.0, 3, 3, 6, 8)),
        Case("points in the plane from t = 900 to 300, η = 0", _move(900, 300, 0.0, 7, 2)),
        Case("the last step, from t = 100 to 0, η = 1", _move(100, 0, 1.0, 2, 1, 4, 5)),
        Case("towards more noise, from t = 0 to 200, η = 0", _move(0, 200, 0.0, 2, 1, 5, 4)),
    ],
    call=_on_levels,
    misconceptions=[
        Misconception(
            "eta-not-squared",
            _update(lambda sigma, v, eta: (sigma**2 - eta * v).sqrt(), _fresh),
            "Under the root you subtracted η·β̃. The fresh noise has the standard deviation η·√β̃, so its "
            "variance, which the old noise makes room for, is η²·β̃.",
        ),
        Misconception(
            "variance-for-std",
            _update(_rest, lambda sigma, v, eta: eta * v),
            "You multiplied the fresh noise by η·β̃. β̃ is a variance: the factor is η·√β̃.",
        ),
        Misconception(
            "no-room-made",
            _update(lambda sigma, v, eta: sigma, _fresh),
            "You added fresh noise and kept all of the old, so the result is noisier than its level. The "
            "two variances add up to σ'²: the old noise gets √(σ'² − η²·β̃).",
        ),
        Misconception(
            "spreads-subtracted",
            _update(lambda sigma, v, eta: sigma - eta * v.sqrt(), _fresh),
            "You subtracted standard deviations, σ' − η·√β̃. Independent noises add up in variance: the old "
            "one gets √(σ'² − η²·β̃).",
        ),
        Misconception(
            "level-of-the-start",
            _stays,
            "Your α and σ are those of the level where the step starts, so the result stays there. It ends "
            "at `next`: the factors of x̂₀ and of the noise are next.alpha and next.sigma.",
        ),
        Misconception(
            "eta-ignored",
            lambda x, estimate, now, next, noise, eta=0.0: add_noise(estimate.x0, estimate.eps, next),
            "Your step draws nothing, whatever η is. That is right for η = 0. For η > 0 a part of the noise "
            "is fresh: s·noise with s = η·√β̃, and the old noise makes room for it.",
        ),
        Misconception(
            "alpha-for-its-square",
            _update(_rest, _fresh, lambda now, next: _small(now, next, power=1)),
            "In β̃ you took the ratio of the factors, α/α'. What the posterior compares are variances: "
            "ᾱ/ᾱ' = (α/α')², and (σ'/σ)².",
        ),
        Misconception(
            "forward-variance",
            _update(_rest, _fresh, _large),
            "You took β, the variance of the step forward. Here it is the posterior's, β̃, smaller by the "
            "factor σ'²/σ². Without that factor the root can turn negative, and the last step adds noise.",
        ),
        Misconception(
            "zero-times-nan",
            _update(_rest, _fresh, early=False),
            "Right where noise falls. But with η = 0 a step may also go towards more noise, or start at "
            "t = 0. There β̃ is negative or infinite, and 0 times that is NaN. With η = 0 leave it "
            "uncomputed.",
        ),
    ],
    alternatives=[
        _from_posterior,
        lambda x, estimate, now, next, noise, eta=0.0: (
            next.alpha * estimate.x0
            + (next.sigma**2 - eta**2 * _small(now, next)).sqrt() * estimate.eps
            + eta * _small(now, next).sqrt() * noise
            if eta > 0
            else next.alpha * estimate.x0 + next.sigma * estimate.eps
        ),
    ],
    hints=(
        "Build a picture at the next level out of three parts: the guess of x₀, the guess of the noise that "
        "is in it already, and fresh noise. The last two together have the variance σ'².",
        "x' = α'·x̂₀ + √(σ'² − s²)·ε̂ + s·z with s = η·√β̃ and β̃ = (σ'/σ)²·(1 − (α/α')²). With η = 0 only "
        "two parts are left, and β̃ is not needed.",
        "`if eta == 0: return …` with `next.alpha`, `next.sigma`, `estimate.x0` and `estimate.eps`; then β̃ "
        "from `now` and `next`, `std = eta * ….sqrt()`, and `return … + … + std * noise`.",
    ),
    figure=_update_figure,
    figure_alt="1,500 points after 100 steps with η = 0, 0.5 and 1, from the same start: each time the same "
    "three clusters.",
)


# 08.2 Debug: clipped, and stale ---------------------------------------------------------------------


def clipped_step(
    x: Tensor, estimate: Estimate, now: Level, next: Level, noise: Tensor | None = None
) -> Tensor:
    """A DDIM step from the estimate that `Clip` makes of this one."""
    return ddim_step(x, Clip(lambda x, level, condition=None: estimate)(x, now), now, next)


def _with_guess(answer: Callable[..., Any], x: Tensor, x0: Tensor, t: float, t_next: float) -> Any:
    now = PATH(t)
    return answer(x, Estimate.from_x0(x0, x, now), now, PATH(t_next), torch.zeros_like(x))


def _stale(x: Tensor, estimate: Estimate, now: Level, next: Level, noise: Tensor | None = None) -> Tensor:
    return next.alpha * estimate.x0.clamp(-1, 1) + next.sigma * estimate.eps


def _remade(eps: Callable[[Tensor, Tensor, Level, Level], Tensor]) -> Callable[..., Tensor]:
    """Clipped, with another noise: a function of (x, clipped x₀, now, next)."""

    def step(x: Tensor, estimate: Estimate, now: Level, next: Level, noise: Tensor | None = None) -> Tensor:
        x0 = estimate.x0.clamp(-1, 1)
        return next.alpha * x0 + next.sigma * eps(x, x0, now, next)

    return step


def _clipped_by_scale(
    x: Tensor, estimate: Estimate, now: Level, next: Level, noise: Tensor | None = None
) -> Tensor:
    x0 = torch.maximum(torch.minimum(estimate.x0, torch.ones(())), -torch.ones(()))
    keep = next.sigma / now.sigma
    return keep * x + (next.alpha - keep * now.alpha) * x0


def _guess(t: float, t_next: float, strength: float, *shape: int) -> Make:
    def make(g: torch.Generator) -> dict[str, Any]:
        picture = blobs(g, *shape)
        x = add_noise(picture, normal(g, *shape), PATH(t))
        return {"x": x, "x0": strength * picture, "t": t, "t_next": t_next}

    return make


def _clip_figure(reference: Callable[..., Tensor]) -> Any:
    digit, levels = figures.digits(4)[3:], PATH.levels(10)

    def too_strong(x: Tensor, level: Level, condition: Condition = None) -> Estimate:
        return Estimate.from_x0(3 * digit, x, level)

    points = list(samplers.trajectory(too_strong, figures.noise(1, 1, 16, 16), levels, step=reference))
    shown = [points[i] for i in (0, 4, 6, 8, 10)]
    return figures.strip([x[0] for _, x, _ in shown], [f"t = {float(level.t):g}" for level, _, _ in shown])


CLIPPED = Exercise(
    id="08.2",
    name="clipped_step",
    title="Digits that flee from their label",
    kind="debug",
    difficulty=2,
    minutes=10,
    reference=clipped_step,
    cases=[
        Case("a guess twice too strong, from t = 700 to 600", _guess(700, 600, 2.0, 2, 1, 8, 8)),
        Case("colour, a guess five times too strong, from t = 950 to 800", _guess(950, 800, 5.0, 2, 3, 6, 8)),
        Case("nothing to clip, from t = 400 to 200", _guess(400, 200, 0.9, 3, 1, 5, 4)),
        Case("the last step, from t = 50 to 0", _guess(50, 0, 1.5, 2, 1, 4, 4)),
    ],
    call=_with_guess,
    planted="stale-noise",
    misconceptions=[
        Misconception(
            "stale-noise", _stale, "x̂₀ is clipped and ε̂ is left as it was: the two no longer make up x."
        ),
        Misconception(
            "clip-taken-out",
            ddim_step,
            "You took the clipping out. Then x̂₀ and ε̂ fit each other again, but guesses beyond white and "
            "beyond black are let through. Keep the clip, and bring ε̂ in step with it.",
        ),
        Misconception(
            "noise-clipped-too",
            lambda x, estimate, now, next, noise=None: (
                next.alpha * estimate.x0.clamp(-1, 1) + next.sigma * estimate.eps.clamp(-1, 1)
            ),
            "You clipped ε̂ as well. Noise has no such range, a third of it lies beyond ±1. What ε̂ must be "
            "follows from x and the clipped x̂₀: x = α·x̂₀ + σ·ε̂.",
        ),
        Misconception(
            "result-clipped",
            lambda x, estimate, now, next, noise=None: ddim_step(x, estimate, now, next).clamp(-1, 1),
            "You clipped the result. It is a noisy picture, and a noisy picture may lie outside ±1. What "
            "must stay in range is the guess x̂₀.",
        ),
        Misconception(
            "noise-of-the-next-level",
            _remade(lambda x, x0, now, next: (x - next.alpha * x0) / next.sigma),
            "You made ε̂ anew from x and the clipped x̂₀, but with α and σ of the next level. x is still at "
            "the level where the step starts: use `now`.",
        ),
        Misconception(
            "noise-not-divided",
            _remade(lambda x, x0, now, next: x - now.alpha * x0),
            "x − α·x̂₀ is σ·ε̂, the noise at its present strength. Divide by now.sigma to get ε̂ itself.",
        ),
    ],
    alternatives=[_clipped_by_scale, _remade(lambda x, x0, now, next: (x - now.alpha * x0) / now.sigma)],
    hints=(
        "Check what every estimate must keep: does α·x̂₀ + σ·ε̂ still give x after the clip? Which of the "
        "two has to be made anew?",
        "x = α·x̂₀ + σ·ε̂ at the level `now`. With x and the clipped x̂₀ given, solve it for ε̂.",
        "Put one line between the two: `eps = (x - … * x0) / …`, and step with that `eps`.",
    ),
    figure=_clip_figure,
    figure_alt="A denoiser that guesses three times too strong, walked with the right step: noise at "
    "t = 1000, a shape at 400, and a digit 3 in pure black and white at t = 0.",
)


# 08.3 Inversion -------------------------------------------------------------------------------------


def invert(denoiser: Denoiser, x0: Tensor, levels: list[Level]) -> Tensor:
    """`samplers.invert`, without a condition."""
    return samplers.invert(denoiser, x0, levels)


def _on_gaussian(
    answer: Callable[..., Any], x0: Tensor, mean: float, spread: float, times: list[float]
) -> Any:
    return answer(gaussian(mean, spread), x0, [PATH(t) for t in times])


def _rising(
    ask: Callable[[Level, Level], Level] = lambda now, next: now if now.sigma > 0 else next,
    keep_picture: bool = False,
    skip: int = 0,
    stop: int = 0,
) -> Callable[..., Tensor]:
    """Inversion that asks at another level, keeps x₀ in place of x̂₀, or leaves steps out."""

    def inverted(denoiser: Denoiser, x0: Tensor, levels: list[Level]) -> Tensor:
        x = x0
        rising = levels[::-1][skip:]
        for now, next in pairwise(rising[: len(rising) - stop]):
            eps = denoiser(x, ask(now, next)).eps
            guess = x0 if keep_picture else (x - now.sigma * eps) / now.alpha
            x = add_noise(guess, eps, next)
        return x

    return inverted


def _by_the_slope(denoiser: Denoiser, x0: Tensor, levels: list[Level]) -> Tensor:
    """The same, as Euler steps of x/α over σ/α."""
    x = x0
    for i in range(len(levels) - 1, 0, -1):
        now, next = levels[i], levels[i - 1]
        _, eps = denoiser(x, next if i == len(levels) - 1 else now)
        x = next.alpha * (x / now.alpha + (next.sigma / next.alpha - now.sigma / now.alpha) * eps)
    return x


def _picture(mean: float, spread: float, times: list[float], *shape: int) -> Make:
    return lambda g: {"x0": blobs(g, *shape), "mean": mean, "spread": spread, "times": times}


def _invert_figure(reference: Callable[..., Tensor]) -> Any:
    data, _ = CLUSTERS.sample(1500, torch.Generator().manual_seed(0))
    levels = PATH.levels(100)
    noise = reference(CLUSTERS, data, levels)
    return _clouds(["data", "inverted", "and sampled back"], [data, noise, sample(CLUSTERS, noise, levels)])


INVERT = Exercise(
    id="08.3",
    name="invert",
    title="From the picture to its noise",
    kind="implement",
    difficulty=3,
    minutes=15,
    reference=invert,
    cases=[
        Case("four steps, 2 pictures", _picture(0.2, 0.5, [1000, 750, 500, 250, 0], 2, 1, 8, 8)),
        Case("uneven steps, colour pictures", _picture(-0.4, 0.3, [900, 700, 200, 50, 10, 0], 3, 3, 4, 6)),
        Case("a single step", _picture(0.0, 0.8, [600, 0], 2, 1, 5, 4)),
        Case("25 steps", _picture(0.5, 0.4, [40.0 * k for k in range(25, -1, -1)], 2, 1, 6, 6)),
    ],
    call=_on_gaussian,
    misconceptions=[
        Misconception(
            "asked-at-0",
            _rising(lambda now, next: now),
            "You asked the denoiser at t = 0, where there is no noise to be seen: no network is trained "
            "there. For the first step take the ε̂ that it sees in the same x at the first time above 0.",
        ),
        Misconception(
            "asked-at-the-next-level",
            _rising(lambda now, next: next),
            "You told the denoiser the level where each step ends. x is still at the level where it starts. "
            "Only the first step, which starts at t = 0, has to ask one level up.",
        ),
        Misconception(
            "picture-kept",
            _rising(keep_picture=True),
            "You put the given picture in the place of x̂₀ in every step. Sampling will not know that "
            "picture, so it takes other steps back. Use the x̂₀ that belongs to this ε̂: (x − σ·ε̂)/α.",
        ),
        Misconception(
            "walked-down",
            lambda denoiser, x0, levels: sample(denoiser, x0, levels),
            "You went through the levels as they are given, from noise to data: that samples, with the "
            "picture taken for noise. Turn the list round first.",
        ),
        Misconception(
            "first-step-skipped",
            _rising(skip=1),
            "Your first step leaves the picture as it is: you started at the first time above 0, or took "
            "the x̂₀ that the denoiser gives there. At t = 0, x̂₀ is the picture itself. Take the ε̂ alone, "
            "and scale the picture by α.",
        ),
        Misconception(
            "one-step-short",
            _rising(stop=1),
            "You stopped one level below the noisiest. A list of n + 1 levels has n steps: the last one ends "
            "at levels[0].",
        ),
    ],
    alternatives=[_rising(), _by_the_slope],
    hints=(
        "Inversion is the update with η = 0 over rising levels. Each step starts from x, asks for ε̂, and "
        "builds the noisier picture out of x̂₀ and ε̂.",
        "x' = α'·x̂₀ + σ'·ε̂ with x̂₀ = (x − σ·ε̂)/α. At t = 0 nobody can be asked: take ε̂ at the level "
        "that the first step leads to.",
        "`rising = levels[::-1]`; `for now, next in pairwise(rising):` find `asked`, which is `now`, or "
        "`next` where now.sigma is 0; `eps = denoiser(x, asked).eps`; then the new x.",
    ),
    figure=_invert_figure,
    figure_alt="Three clusters of points; inverted, a single round cloud as of N(0, I); sampled back from "
    "there, the three clusters again.",
)


# 08.4 Interpolation ---------------------------------------------------------------------------------

Angle = Callable[[Tensor, Tensor], Tensor]


def _flat_angle(a: Tensor, b: Tensor) -> Tensor:
    """(B, 1, …): one angle for each sample."""
    cosine = cosine_similarity(a.flatten(1), b.flatten(1)).clamp(-1, 1)
    return cosine.acos().view(-1, *[1] * (a.ndim - 1))


def _arc(angle: Angle = _flat_angle, parallel: bool = True) -> Callable[..., Tensor]:
    """The arc with another angle; `parallel`: a straight line where the angle is 0."""

    def along(a: Tensor, b: Tensor, weight: float) -> Tensor:
        omega = angle(a, b)
        one, other = ((1 - weight) * omega).sin() / omega.sin(), (weight * omega).sin() / omega.sin()
        if parallel:
            one = torch.where(omega < 1e-4, 1 - weight, one)
            other = torch.where(omega < 1e-4, weight, other)
        return one * a + other * b

    return along


def _one_angle(a: Tensor, b: Tensor) -> Tensor:
    return cosine_similarity(a.flatten(), b.flatten(), dim=0).clamp(-1, 1).acos()


def _angle_by_channel(a: Tensor, b: Tensor) -> Tensor:
    return cosine_similarity(a, b).clamp(-1, 1).acos()[:, None]


def _product_angle(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).flatten(1).sum(1).acos().view(-1, *[1] * (a.ndim - 1))


def _unit(x: Tensor) -> Tensor:
    return x / x.flatten(1).norm(dim=1).view(-1, *[1] * (x.ndim - 1))


def _by_turning(a: Tensor, b: Tensor, weight: float) -> Tensor:
    """From a, turn towards the part of b that stands at right angles to it."""
    mixed = []
    for one, other in zip(a.double(), b.double(), strict=True):
        u, v = one / one.norm(), other / other.norm()
        across = v - (u * v).sum() * u
        if across.norm() < 1e-6:
            mixed.append((1 - weight) * one + weight * other)
            continue
        omega = torch.atan2(across.norm(), (u * v).sum())
        first = ((1 - weight) * omega).sin() / omega.sin()
        second = (weight * omega).sin() / omega.sin()
        mixed.append(first * one + second * other)
    return torch.stack(mixed).to(a.dtype)


def _pair(weight: float, *shape: int, stretch: float = 1.0, tilt: float = 0.0) -> Make:
    def make(g: torch.Generator) -> dict[str, Any]:
        a, b = normal(g, *shape), normal(g, *shape)
        return {"a": a, "b": stretch * (b + tilt * a), "weight": weight}

    return make


def _signs(g: torch.Generator) -> dict[str, Any]:
    """Entries ±1, sixteen of them: the cosine is 1 with no rounding."""
    a = torch.where(normal(g, 2, 1, 4, 4) > 0, 1.0, -1.0)
    return {"a": a, "b": a.clone(), "weight": 0.3}


def _slerp_figure(reference: Callable[..., Tensor]) -> Any:
    from matplotlib import pyplot

    a, b = torch.tensor([[1.0, 0.1]]), torch.tensor([[-0.2, 1.0]])
    arc = torch.cat([reference(a, b, k / 10) for k in range(11)])
    figure, axis = pyplot.subplots(figsize=(2.7, 2.5), layout="constrained")
    axis.plot(*arc.T.numpy(), "o-", color="#0072B2", label="slerp")
    axis.plot(*torch.cat([a, b]).T.numpy(), "--", marker="", color="#D55E00", label="straight")
    axis.annotate("a", (1.05, 0.1))
    axis.annotate("b", (-0.2, 1.07))
    axis.set(xlim=(-0.4, 1.25), ylim=(-0.1, 1.25), aspect="equal")
    axis.legend(frameon=False, loc="lower left")
    return figure


SLERP = Exercise(
    id="08.4",
    name="slerp",
    title="From noise to noise along the arc",
    kind="implement",
    difficulty=2,
    minutes=12,
    reference=slerp,
    cases=[
        Case("two pairs, in the middle", _pair(0.5, 2, 1, 8, 8, tilt=0.5)),
        Case("colour, a quarter of the way, b twice as strong", _pair(0.25, 3, 3, 4, 4, stretch=2.0)),
        Case("vectors that lean the same way", _pair(0.7, 4, 12, tilt=1.5)),
        Case("at the start: a itself", _pair(0.0, 2, 1, 5, 4)),
        Case("the same noise twice", _signs),
    ],
    misconceptions=[
        Misconception(
            "straight-line",
            lambda a, b, weight: (1 - weight) * a + weight * b,
            "You took the straight line. Half-way between two noises it has only half of their variance, "
            "for the squares of its weights do not add up to 1. Go along the arc.",
        ),
        Misconception(
            "root-weights",
            lambda a, b, weight: (1 - weight) ** 0.5 * a + weight**0.5 * b,
            "You took √(1 − w) and √w. That keeps the variance of two *independent* noises, but not of two "
            "that have something in common, and the pace is uneven. The weights come from the angle "
            "between a and b.",
        ),
        Misconception(
            "right-angle-assumed",
            _arc(lambda a, b: torch.full((), torch.pi / 2), parallel=False),
            "You took the angle for 90°. Independent noises come near that, but inverted pictures need not, "
            "and the same noise twice does not at all. Compute Ω from a and b.",
        ),
        Misconception(
            "one-angle-for-all",
            _arc(_one_angle),
            "You took one angle for the whole batch. Each pair has its own: flatten all dimensions but the "
            "first, and give Ω the shape (B, 1, 1, 1).",
        ),
        Misconception(
            "angle-across-channels",
            lambda a, b, weight: _arc(_angle_by_channel if a.ndim > 2 else _flat_angle)(a, b, weight),
            "You took an angle at every pixel, across its channels: that is what cosine_similarity does to "
            "dimension 1 unless told otherwise. A sample is one vector: flatten it first.",
        ),
        Misconception(
            "length-lost",
            lambda a, b, weight: _arc()(_unit(a), _unit(b), weight),
            "You divided a and b by their lengths, and left them so: the result has length 1. The unit "
            "vectors are for the angle only; the weights multiply a and b as they are.",
        ),
        Misconception(
            "angle-not-normalised",
            _arc(_product_angle, parallel=False),
            "You took the arc cosine of a·b. That is |a||b|·cos Ω, far outside −1 to 1: divide by the two "
            "lengths first.",
        ),
        Misconception(
            "parallel-forgotten",
            _arc(parallel=False),
            "Right as long as a and b differ in direction. Where they do not, Ω is 0 and the weights are "
            "0/0 = NaN. There the arc is a line: use 1 − w and w.",
        ),
        Misconception(
            "ends-swapped",
            lambda a, b, weight: slerp(a, b, 1 - weight),
            "The ends are swapped: weight 0 is a, and weight 1 is b.",
        ),
    ],
    alternatives=[_arc(), _by_turning],
    hints=(
        "Long random vectors all have about the same length, so they lie on a sphere. Stay on it: walk along "
        "the arc from a to b, not through the ball.",
        "Ω is the angle between a and b, cos Ω = a·b/(|a||b|). The weights are sin((1 − w)Ω)/sin Ω for a "
        "and sin(wΩ)/sin Ω for b; where Ω is 0 they are 1 − w and w.",
        "`torch.cosine_similarity(a.flatten(1), b.flatten(1))` has shape (B,); `.clamp(-1, 1).acos()`, then "
        "shape (B, 1, …); two weights, each through `torch.where(omega < 1e-4, …, …)`.",
    ),
    figure=_slerp_figure,
    figure_alt="Two vectors of about the same length in the plane. Eleven evenly spaced points lead from one "
    "to the other along the arc of a circle; the straight line between them runs nearer to the middle.",
)


# 08.5 DPM-Solver++(2M) ------------------------------------------------------------------------------


def dpmpp_2m(denoiser: Denoiser, x: Tensor, levels: list[Level]) -> Tensor:
    """The last x of `samplers.dpmpp_2m`."""
    return sample(denoiser, x, levels, sampler=samplers.dpmpp_2m)


def _multistep(
    weight: Callable[[Level, Level, Level], Tensor],
    lower_at_the_end: bool = True,
    remember_mixed: bool = False,
) -> Callable[..., Tensor]:
    """Two-step walk with the extrapolation weight(before, now, next)."""

    def walk(denoiser: Denoiser, x: Tensor, levels: list[Level]) -> Tensor:
        before: tuple[Level, Tensor] | None = None
        for now, next in pairwise(levels):
            guess = mixed = denoiser(x, now).x0
            if before is not None and (bool(next.sigma > 0) or not lower_at_the_end):
                mixed = guess + weight(before[0], now, next) * (guess - before[1])
            keep = next.sigma / now.sigma
            x = keep * x + (next.alpha - keep * now.alpha) * mixed
            before = now, mixed if remember_mixed else guess
        return x

    return walk


def _noise_multistep(denoiser: Denoiser, x: Tensor, levels: list[Level]) -> Tensor:
    """The same with ε in the place of x₀."""
    before: tuple[Level, Tensor] | None = None
    for now, next in pairwise(levels):
        guess = mixed = denoiser(x, now).eps
        if before is not None and bool(next.sigma > 0):
            mixed = guess + _half_ratio(before[0], now, next) * (guess - before[1])
        keep = next.alpha / now.alpha
        x = keep * x + (next.sigma - keep * now.sigma) * mixed
        before = now, guess
    return x


def _half_ratio(before: Level, now: Level, next: Level) -> Tensor:
    return (next.log_snr - now.log_snr) / (now.log_snr - before.log_snr) / 2


def _by_exponentials(denoiser: Denoiser, x: Tensor, levels: list[Level]) -> Tensor:
    """As the paper writes it, with h and r."""
    known: list[Tensor] = []
    lambdas = [(level.alpha / level.sigma).log() for level in levels]
    for i, (now, next) in enumerate(pairwise(levels)):
        known.append(denoiser(x, now).x0)
        h, d = lambdas[i + 1] - lambdas[i], known[-1]
        if i > 0 and torch.isfinite(h):
            r = (lambdas[i] - lambdas[i - 1]) / h
            d = (1 + 1 / (2 * r)) * known[-1] - 1 / (2 * r) * known[-2]
        x = next.sigma / now.sigma * x - next.alpha * torch.expm1(-h) * d
    return x


def _solve(mean: float, spread: float, times: list[float], *shape: int) -> Make:
    return lambda g: {"x": normal(g, *shape), "mean": mean, "spread": spread, "times": times}


def _on_noise(answer: Callable[..., Any], x: Tensor, mean: float, spread: float, times: list[float]) -> Any:
    return answer(gaussian(mean, spread), x, [PATH(t) for t in times])


def _order_figure(reference: Callable[..., Tensor]) -> Any:
    from matplotlib import pyplot

    counts = [4, 8, 16, 32, 64]
    figure, axis = pyplot.subplots(figsize=(3.6, 2.4), layout="constrained")
    first: list[float] = []
    second: list[float] = []
    for n in counts:
        levels = [PATH(900 - 800 * k / n) for k in range(n + 1)]
        std = [float((0.25 * level.alpha**2 + level.sigma**2).sqrt()) for level in (levels[0], levels[-1])]
        one = torch.ones(1, 1, dtype=torch.float64)
        for errors, walk in ((first, sample), (second, reference)):
            errors.append(abs(float(walk(gaussian(0.0, 0.5), one, levels)) - std[1] / std[0]))
    axis.loglog(counts, first, "s--", color="#0072B2", label="DDIM")
    axis.loglog(counts, second, "o-", color="#D55E00", label="dpmpp_2m")
    axis.set(xlabel="steps", ylabel="error of the spread")
    axis.set_xticks(counts, [str(n) for n in counts])
    axis.minorticks_off()
    axis.legend(frameon=False)
    return figure


SOLVER = Exercise(
    id="08.5",
    name="dpmpp_2m",
    title="Second order from memory",
    kind="stretch",
    difficulty=3,
    minutes=20,
    reference=dpmpp_2m,
    cases=[
        Case("four steps, the last to t = 0", _solve(0.2, 0.5, [1000, 750, 500, 250, 0], 2, 1, 8, 8)),
        Case("uneven steps, colour", _solve(-0.4, 0.3, [950, 800, 300, 200, 20, 0], 3, 3, 4, 6)),
        Case("from t = 900 to 100, not to the data", _solve(0.0, 0.5, [900, 700, 450, 250, 100], 5, 2)),
        Case("a single step", _solve(0.3, 0.7, [600, 0], 2, 1, 5, 4)),
    ],
    call=_on_noise,
    misconceptions=[
        Misconception(
            "no-memory",
            lambda denoiser, x, levels: sample(denoiser, x, levels),
            "This is DDIM: each step uses its own x̂₀ alone. From the second step on, extrapolate with the "
            "x̂₀ of the step before.",
        ),
        Misconception(
            "half-forgotten",
            _multistep(lambda before, now, next: 2 * _half_ratio(before, now, next)),
            "You extrapolated to the end of the step. The best constant for a step is x̂₀ at its *middle*: "
            "half as far, 1/(2r).",
        ),
        Misconception(
            "ratio-turned",
            _multistep(lambda before, now, next: 1 / (4 * _half_ratio(before, now, next))),
            "The ratio is upside down. x̂₀ changed so much over the step before; over this one it changes by "
            "(this step)/(step before) times as much.",
        ),
        Misconception(
            "steps-in-t",
            _multistep(lambda before, now, next: (next.t - now.t) / (now.t - before.t) / 2),
            "You measured the steps in t. The formula holds in λ = log(α/σ), in which the same steps are of "
            "quite different length.",
        ),
        Misconception(
            "turned-back",
            _multistep(lambda before, now, next: -_half_ratio(before, now, next)),
            "You went from x̂₀ back towards the one before. It is an extrapolation: on in the direction in "
            "which x̂₀ has been changing, x̂₀ + (x̂₀ − before)/(2r).",
        ),
        Misconception(
            "noise-extrapolated",
            _noise_multistep,
            "You extrapolated ε̂. That is DPM-Solver, which came before. The ++ stands for the same with x̂₀, "
            "which changes less from step to step, and can be clipped.",
        ),
        Misconception(
            "remembers-the-mixture",
            _multistep(_half_ratio, remember_mixed=True),
            "You kept the extrapolated x̂₀ for the next step. Keep the one that the denoiser gave: what is "
            "compared are two real estimates.",
        ),
        Misconception(
            "infinite-at-0",
            _multistep(_half_ratio, lower_at_the_end=False),
            "Right until the last step. At t = 0, λ is infinite, and so is its step: NaN. A step that ends "
            "at σ = 0 uses its own x̂₀ alone.",
        ),
    ],
    alternatives=[_multistep(_half_ratio), _by_exponentials],
    hints=(
        "Keep the x̂₀ of the step before, and its λ. If x̂₀ changes evenly in λ, you know what it will be in "
        "the middle of the step that you are about to take.",
        "D = x̂₀ + (x̂₀ − x̂₀ before)/(2r) with r = (λ − λ before)/(λ' − λ), then "
        "x' = (σ'/σ)·x + (α' − α·σ'/σ)·D. First step, and a step to σ' = 0: D = x̂₀.",
        "`before = None` ahead of the loop over `pairwise(levels)`; `guess = denoiser(x, now).x0`; "
        "`if before is not None and next.sigma > 0:` extrapolate; step; `before = guess, …`.",
    ),
    figure=_order_figure,
    figure_alt="Error of the spread of samples from a Gaussian over 4 to 64 steps, both axes logarithmic: "
    "DDIM falls by half with each doubling, dpmpp_2m by about a quarter, and starts lower.",
)

EXERCISES = [UPDATE, CLIPPED, INVERT, SLERP, SOLVER]
