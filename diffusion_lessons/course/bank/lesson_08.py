"""Lesson 08, DDIM: one update for every η, clipping, inversion, interpolation, DPM-Solver++(2M)."""

import math
from collections.abc import Callable
from functools import partial
from itertools import count, pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from diffusion_lessons import samplers
from diffusion_lessons.conditions import Condition
from diffusion_lessons.course.bank import figures
from diffusion_lessons.course.bank.inputs import (
    blobs,
    data,
    falling,
    gaussian,
    normal,
    number,
    several,
    whole,
)
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
    answer: Callable[..., Any],
    x0: Tensor,
    eps: Tensor,
    noise: Tensor | None,
    t: float,
    t_next: float,
    eta: float,
) -> Any:
    now, next = PATH(t), PATH(t_next)
    return answer(add_noise(x0, eps, now), Estimate(x0, eps), now, next, noise, eta)


def _small(now: Level, next: Level, power: int = 2) -> Tensor:
    return (next.sigma / now.sigma) ** 2 * (1 - (now.alpha / next.alpha) ** power)


def _large(now: Level, next: Level) -> Tensor:
    return 1 - (now.alpha / next.alpha) ** 2


def _update(
    direction: Part,
    kick: Part,
    variance: Callable[..., Tensor] = _small,
    early: bool = True,
    read: bool = True,
) -> Any:
    """α'·x₀ + direction·ε + kick·noise.

    With `early`, η = 0 leaves the variance alone; without `read`, a noise that is None is not read.
    """

    def step(
        x: Tensor, estimate: Estimate, now: Level, next: Level, noise: Tensor, eta: float = 0.0
    ) -> Tensor:
        if eta == 0 and early:
            return add_noise(*estimate, next)
        v = variance(now, next)
        old, new = direction(next.sigma, v, eta), kick(next.sigma, v, eta)
        moved = next.alpha * estimate.x0 + old * estimate.eps
        return moved if noise is None and not read else moved + new * noise

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
    return next.alpha * estimate.x0 + rest * beyond + (std * noise if eta else 0)


def _move(t: tuple[int, int], t_next: tuple[int, int], eta: tuple[float, float], *shape: int) -> Make:
    """Each between two bounds; the guess lies beyond ±1 as well."""
    return lambda g: {
        "x0": data(g, *shape) + 0.3 * normal(g, *shape),
        "eps": normal(g, *shape),
        "noise": normal(g, *shape),
        "t": float(whole(g, *t)),
        "t_next": float(whole(g, *t_next)),
        "eta": number(g, *eta),
    }


def _without_noise(g: torch.Generator) -> dict[str, Any]:
    return _move((500, 600), (300, 400), (0.0, 0.0), 5, 2)(g) | {"noise": None}


def _update_figure(reference: Callable[..., Tensor]) -> Any:
    start, clouds = figures.noise(1500, 2), []
    for eta in (0.0, 0.5, 1.0):
        generator = torch.Generator().manual_seed(1)
        step = partial(reference, eta=eta)
        clouds.append(sample(CLUSTERS, start, PATH.levels(100), step=step, generator=generator))
    return _clouds(["η = 0", "η = 0.5", "η = 1"], clouds)


def _rest_or_0(sigma: Tensor, v: Tensor, eta: float) -> Tensor:
    return (sigma**2 - eta**2 * v).clamp(min=0).sqrt()


def _without_the_root(
    x: Tensor, estimate: Estimate, now: Level, next: Level, noise: Tensor, eta: float = 0.0
) -> Tensor:
    rest = next.sigma**2 - eta**2 * _small(now, next) if eta else next.sigma**2
    fresh = eta * _small(now, next).sqrt() * noise if eta else 0.0
    return next.alpha * estimate.x0 + rest * estimate.eps + fresh


def _alpha_of_the_start(
    x: Tensor, estimate: Estimate, now: Level, next: Level, noise: Tensor, eta: float = 0.0
) -> Tensor:
    return ddim_step(x, estimate, now, next, noise, eta) + (now.alpha - next.alpha) * estimate.x0


def _room_of_the_start(
    x: Tensor, estimate: Estimate, now: Level, next: Level, noise: Tensor, eta: float = 0.0
) -> Tensor:
    if eta == 0:
        return add_noise(*estimate, next)
    v = _small(now, next)
    return next.alpha * estimate.x0 + _rest(now.sigma, v, eta) * estimate.eps + _fresh(v, v, eta) * noise


def _roots_again(
    x: Tensor, estimate: Estimate, now: Level, next: Level, noise: Tensor, eta: float = 0.0
) -> Tensor:
    s = eta * _small(now, next).sqrt() if eta else torch.zeros(())
    fresh = s * noise if eta else 0.0
    return next.alpha.sqrt() * estimate.x0 + (next.sigma - s**2).sqrt() * estimate.eps + fresh


UPDATE = Exercise(
    id="08.1",
    name="ddim_step",
    title="One update for every η",
    kind="implement",
    difficulty=2,
    minutes=12,
    reference=ddim_step,
    cases=[
        Case(
            "two pictures, down from t > 700, η below a half",
            _move((700, 850), (500, 650), (0.25, 0.45), 2, 1, 8, 6),
        ),
        Case("colour pictures, half-way, η = 1", _move((480, 550), (350, 420), (1.0, 1.0), 2, 3, 6, 8)),
        Case("points in the plane, a large step, η = 0", _move((900, 980), (500, 700), (0.0, 0.0), 7, 2)),
        Case("the last step, to t = 0, η = 1", _move((60, 150), (0, 0), (1.0, 1.0), 6, 2)),
        Case("towards more noise, up from t = 0, η = 0", _move((0, 0), (150, 300), (0.0, 0.0), 2, 1, 5, 4)),
        Case("η = 0, and no noise is given", _without_noise),
    ],
    call=_on_levels,
    misconceptions=[
        Misconception(
            "eta-not-squared",
            _update(lambda sigma, v, eta: (sigma**2 - eta * v).sqrt(), _fresh),
            "Under the root you subtracted η·β̃. The fresh noise has the standard deviation η·√β̃, so its "
            "variance, which the old noise makes room for, is η²·β̃.",
            about="root",
        ),
        Misconception(
            "variance-for-std",
            _update(_rest, lambda sigma, v, eta: eta * v),
            "You multiplied the fresh noise by η·β̃. β̃ is a variance: the factor is η·√β̃.",
            about="root",
        ),
        Misconception(
            "no-room-made",
            _update(lambda sigma, v, eta: sigma, _fresh),
            "You added fresh noise and kept all of the old, so the result is noisier than its level. The "
            "two variances add up to σ'²: the old noise gets √(σ'² − η²·β̃).",
            about="missing",
        ),
        Misconception(
            "spreads-subtracted",
            _update(lambda sigma, v, eta: sigma - eta * v.sqrt(), _fresh),
            "You subtracted standard deviations, σ' − η·√β̃. Independent noises add up in variance: the old "
            "one gets √(σ'² − η²·β̃).",
            about="root",
        ),
        Misconception(
            "level-of-the-start",
            _stays,
            "Your α and σ are those of the level where the step starts, so the result stays there. It ends "
            "at `next`: the factors of x̂₀ and of the noise are next.alpha and next.sigma.",
            about="level",
        ),
        Misconception(
            "room-of-the-start",
            _room_of_the_start,
            "You made room for the fresh noise in σ of the level where the step starts. The two noises add "
            "up to the variance of the level where it ends: √(σ'² − η²·β̃) with next.sigma.",
            about="level",
        ),
        Misconception(
            "eta-ignored",
            lambda x, estimate, now, next, noise, eta=0.0: add_noise(estimate.x0, estimate.eps, next),
            "Your step draws nothing, whatever η is. That is right for η = 0. For η > 0 a part of the noise "
            "is fresh: s·noise with s = η·√β̃, and the old noise makes room for it.",
            about="missing",
        ),
        Misconception(
            "alpha-for-its-square",
            _update(_rest, _fresh, lambda now, next: _small(now, next, power=1)),
            "In β̃ you took the ratio of the factors, α/α'. What the posterior compares are variances: "
            "ᾱ/ᾱ' = (α/α')², and (σ'/σ)².",
            about="root",
        ),
        Misconception(
            "forward-variance",
            _update(_rest, _fresh, _large),
            "You took β, the variance of the step forward. Here it is the posterior's, β̃, smaller by the "
            "factor σ'²/σ². Without that factor the root can turn negative, and the last step adds noise.",
            about="formula",
        ),
        Misconception(
            "zero-times-nan",
            _update(_rest, _fresh, early=False, read=False),
            "Right where noise falls. But with η = 0 a step may also go towards more noise, or start at "
            "t = 0. There β̃ is negative or infinite, and 0 times that is NaN. With η = 0 leave it "
            "uncomputed.",
            about="boundary",
        ),
        Misconception(
            "eta-as-a-share",
            _update(lambda sigma, v, eta: sigma * (1 - eta**2) ** 0.5, lambda sigma, v, eta: sigma * eta),
            "You took η as the share of all the noise that is fresh. It is a share of the posterior's: the "
            "fresh noise has the standard deviation η·√β̃.",
            about="formula",
        ),
        Misconception(
            "eta-forgotten-in-the-fresh-noise",
            _update(_rest, lambda sigma, v, eta: v.sqrt()),
            "The fresh noise lacks its η: its standard deviation is s = η·√β̃, the same s for which the old "
            "noise makes room.",
            about="missing",
        ),
        Misconception(
            "eta-forgotten-in-the-room",
            _update(lambda sigma, v, eta: (sigma**2 - v).sqrt(), _fresh),
            "The room that you make lacks its η: the fresh noise has the variance η²·β̃, and the old one "
            "keeps σ'² − η²·β̃.",
            about="missing",
        ),
        Misconception(
            "eta-always-one",
            _update(lambda sigma, v, eta: (sigma**2 - v).sqrt(), lambda sigma, v, eta: v.sqrt()),
            "Your step draws as much as for η = 1, whatever η is. The fresh noise has the standard deviation "
            "η·√β̃.",
            about="missing",
        ),
        Misconception(
            "old-noise-forgotten",
            _update(lambda sigma, v, eta: 0 * sigma, _fresh),
            "With η > 0 you left the old noise out. It keeps the variance that the fresh one does not take: "
            "√(σ'² − η²·β̃)·ε̂.",
            about="missing",
        ),
        Misconception(
            "noises-swapped",
            _update(_fresh, _rest),
            "The two noises have changed places: √(σ'² − s²) belongs to the old one, ε̂, and s to the fresh "
            "one.",
            about="swap",
        ),
        Misconception(
            "guess-clipped",
            lambda x, estimate, now, next, noise, eta=0.0: ddim_step(
                x, Estimate(estimate.x0.clamp(-1, 1), estimate.eps), now, next, noise, eta
            ),
            "You cut the guess to [−1, 1]. That is for the next exercise, and takes another ε̂ as well; here "
            "the estimate is used as it comes.",
            about="extra",
        ),
        Misconception(
            "ratios-swapped",
            _update(
                _rest,
                _fresh,
                lambda now, next: (next.alpha / now.alpha) ** 2 * (1 - (now.sigma / next.sigma) ** 2),
            ),
            "In β̃ the two ratios have changed places: it is (σ'/σ)²·(1 − (α/α')²).",
            about="swap",
        ),
        Misconception(
            "root-forgotten",
            _without_the_root,
            "The root over σ'² − s² is missing: what multiplies ε̂ is a standard deviation.",
            about="root",
        ),
        Misconception(
            "sigmas-upside-down-in-the-variance",
            _update(
                _rest_or_0,
                _fresh,
                lambda now, next: (now.sigma / next.sigma) ** 2 * (1 - (now.alpha / next.alpha) ** 2),
            ),
            "In β̃ the ratio of the sigmas is upside down: it is (σ'/σ)², and shrinks what is drawn.",
            about="swap",
        ),
        Misconception(
            "forward-variance-cut",
            _update(_rest_or_0, _fresh, _large),
            "You took β, the variance of the step forward, and cut off what turns negative under the root. "
            "Here it is the posterior's, β̃, smaller by the factor σ'²/σ²: with it nothing turns negative.",
            about="formula",
        ),
        Misconception(
            "eta-under-the-root",
            _update(
                lambda sigma, v, eta: (sigma**2 - eta * v).sqrt(), lambda sigma, v, eta: (eta * v).sqrt()
            ),
            "η stands under the root. The fresh noise has the standard deviation s = η·√β̃, so its variance "
            "is η²·β̃.",
            about="root",
        ),
        Misconception(
            "variance-for-both",
            _update(lambda sigma, v, eta: (sigma**2 - (eta * v) ** 2).sqrt(), lambda sigma, v, eta: eta * v),
            "Your s is η·β̃. β̃ is a variance: the standard deviation is s = η·√β̃.",
            about="root",
        ),
        Misconception(
            "alpha-of-the-start",
            _alpha_of_the_start,
            "You multiplied x̂₀ by α of the level where the step starts. It ends at `next`: the picture "
            "there has the factor next.alpha.",
            about="level",
        ),
        Misconception(
            "roots-again",
            _roots_again,
            "You took roots of α and σ. They are factors already: ᾱ is α², of which one takes the root.",
            about="root",
        ),
        Misconception(
            "noise-read-at-eta-0",
            _update(
                _rest_or_0,
                _fresh,
                lambda now, next: _small(now, next).nan_to_num(0, 0, 0).clamp(min=0),
                early=False,
            ),
            "Right as long as there is noise. With η = 0 none is drawn, and `noise` may be None, as its "
            "default says: return before you use it.",
            about="boundary",
        ),
        Misconception(
            "zero-times-none",
            _update(_rest, _fresh, early=False),
            "With η = 0 a step may also go towards more noise, where β̃ is negative and the root NaN, and "
            "`noise` may be None. With η = 0 leave both alone: return before them.",
            about="boundary",
        ),
        Misconception(
            "no-square-on-the-sigmas",
            _update(
                _rest_or_0,
                _fresh,
                lambda now, next: next.sigma / now.sigma * (1 - (now.alpha / next.alpha) ** 2),
            ),
            "In β̃ you left out the square over σ'/σ: it is (σ'/σ)²·(1 − (α/α')²).",
            about="root",
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


def _at_zero_to_one(x: Tensor, estimate: Estimate, now: Level, next: Level) -> Tensor:
    return ddim_step(x, Estimate.from_x0(estimate.x0.clamp(0, 1), x, now), now, next)


def _brought_to_range(
    x: Tensor, estimate: Estimate, now: Level, next: Level, noise: Tensor | None = None
) -> Tensor:
    x0 = estimate.x0 / estimate.x0.abs().max().clamp(min=1)
    return ddim_step(x, Estimate.from_x0(x0, x, now), now, next)


def _clipped_by_scale(
    x: Tensor, estimate: Estimate, now: Level, next: Level, noise: Tensor | None = None
) -> Tensor:
    x0 = torch.maximum(torch.minimum(estimate.x0, torch.ones(())), -torch.ones(()))
    keep = next.sigma / now.sigma
    return keep * x + (next.alpha - keep * now.alpha) * x0


def _moved_the_wrong_way(
    x: Tensor, estimate: Estimate, now: Level, next: Level, noise: Tensor | None = None
) -> Tensor:
    x0 = estimate.x0.clamp(-1, 1)
    eps = estimate.eps - now.alpha / now.sigma * (estimate.x0 - x0)
    return next.alpha * x0 + next.sigma * eps


def _difference_not_scaled(
    x: Tensor, estimate: Estimate, now: Level, next: Level, noise: Tensor | None = None
) -> Tensor:
    x0 = estimate.x0.clamp(-1, 1)
    return next.alpha * x0 + next.sigma * (estimate.eps + estimate.x0 - x0)


def _guess(t: tuple[int, int], t_next: tuple[int, int], strength: tuple[float, float], *shape: int) -> Make:
    """Each between two bounds."""

    def make(g: torch.Generator) -> dict[str, Any]:
        picture, time = blobs(g, *shape), float(whole(g, *t))
        x = add_noise(picture, normal(g, *shape), PATH(time))
        guess = number(g, *strength) * picture
        return {"x": x, "x0": guess, "t": time, "t_next": float(whole(g, *t_next))}

    return make


def _clip_figure(reference: Callable[..., Tensor]) -> Any:
    digit, levels = figures.digits(4)[3:], PATH.levels(10)

    def too_strong(x: Tensor, level: Level, condition: Condition = None) -> Estimate:
        return Estimate.from_x0(3 * digit, x, level)

    points = list(samplers.trajectory(too_strong, figures.noise(1, 1, 16, 16), levels, step=reference))
    shown = [points[i] for i in (0, 4, 6, 8, 10)]
    return figures.strip([x[0] for _, x, _ in shown], [f"t = {float(level.t):g}" for level, _, _ in shown])


def _noise_shrunk_too(
    x: Tensor, estimate: Estimate, now: Level, next: Level, noise: Tensor | None = None
) -> Tensor:
    x0 = estimate.x0.clamp(-1, 1)
    return next.alpha * x0 + next.sigma * estimate.eps * x0 / estimate.x0


CLIPPED = Exercise(
    id="08.2",
    name="clipped_step",
    title="Digits that flee from their label",
    kind="debug",
    difficulty=2,
    minutes=10,
    reference=clipped_step,
    cases=[
        Case(
            "a guess about twice too strong, half-way", _guess((600, 750), (450, 550), (1.8, 2.4), 2, 1, 8, 6)
        ),
        Case(
            "colour, a guess about five times too strong, near T",
            _guess((900, 970), (750, 850), (4.0, 6.0), 2, 3, 6, 8),
        ),
        Case("nothing to clip", _guess((350, 450), (150, 250), (0.7, 0.95), 3, 1, 5, 4)),
        Case("the last step, to t = 0", _guess((40, 90), (0, 0), (1.3, 1.7), 2, 1, 4, 5)),
    ],
    call=_with_guess,
    planted="stale-noise",
    misconceptions=[
        Misconception(
            "stale-noise",
            _stale,
            "x̂₀ is clipped and ε̂ is left as it was: the two no longer make up x.",
            about="missing",
        ),
        Misconception(
            "clip-taken-out",
            ddim_step,
            "You took the clipping out. Then x̂₀ and ε̂ fit each other again, but guesses beyond white and "
            "beyond black are let through. Keep the clip, and bring ε̂ in step with it.",
            about="missing",
        ),
        Misconception(
            "noise-clipped-too",
            lambda x, estimate, now, next, noise=None: (
                next.alpha * estimate.x0.clamp(-1, 1) + next.sigma * estimate.eps.clamp(-1, 1)
            ),
            "You clipped ε̂ as well. Noise has no such range, a third of it lies beyond ±1. What ε̂ must be "
            "follows from x and the clipped x̂₀: x = α·x̂₀ + σ·ε̂.",
            about="extra",
        ),
        Misconception(
            "result-clipped",
            lambda x, estimate, now, next, noise=None: ddim_step(x, estimate, now, next).clamp(-1, 1),
            "You clipped the result. It is a noisy picture, and a noisy picture may lie outside ±1. What "
            "must stay in range is the guess x̂₀.",
            about="order",
        ),
        Misconception(
            "noise-of-the-next-level",
            _remade(lambda x, x0, now, next: (x - next.alpha * x0) / next.sigma),
            "You made ε̂ anew from x and the clipped x̂₀, but with α and σ of the next level. x is still at "
            "the level where the step starts: use `now`.",
            about="level",
        ),
        Misconception(
            "noise-not-divided",
            _remade(lambda x, x0, now, next: x - now.alpha * x0),
            "x − α·x̂₀ is σ·ε̂, the noise at its present strength. Divide by now.sigma to get ε̂ itself.",
            about="missing",
        ),
        Misconception(
            "clipped-to-0-and-1",
            lambda x, estimate, now, next, noise=None: _at_zero_to_one(x, estimate, now, next),
            "You kept the guess in [0, 1], the range of picture files. Here pictures run from −1 to 1.",
            about="boundary",
        ),
        Misconception(
            "guess-not-turned-down",
            _remade(lambda x, x0, now, next: (x - x0) / now.sigma),
            "You took the guess off x at full strength. x holds α·x̂₀: the noise is (x − α·x̂₀)/σ, at the "
            "level `now`.",
            about="missing",
        ),
        Misconception(
            "x-for-the-noise",
            _remade(lambda x, x0, now, next: x),
            "You took x itself for the noise. x holds the picture too: ε̂ = (x − α·x̂₀)/σ with the clipped x̂₀.",
            about="input",
        ),
        Misconception(
            "noise-turned-round",
            _remade(lambda x, x0, now, next: (now.alpha * x0 - x) / now.sigma),
            "The sign of your noise is turned round: x = α·x̂₀ + σ·ε̂ gives ε̂ = (x − α·x̂₀)/σ.",
            about="sign",
        ),
        Misconception(
            "divided-by-the-next-sigma",
            _remade(lambda x, x0, now, next: (x - now.alpha * x0) / next.sigma),
            "You divided by σ of the next level. x is still at the level where the step starts: `now` has "
            "both factors, α and σ.",
            about="level",
        ),
        Misconception(
            "difference-not-scaled",
            _difference_not_scaled,
            "You moved ε̂ by as much as the clip moved x̂₀. The two enter x with different factors, α and σ: "
            "solve x = α·x̂₀ + σ·ε̂ for ε̂.",
            about="factor",
        ),
        Misconception(
            "noise-of-the-next-alpha",
            _remade(lambda x, x0, now, next: (x - next.alpha * x0) / now.sigma),
            "You took α' of the next level when you made ε̂ anew. x is still at the level where the step "
            "starts: `now` has both factors.",
            about="level",
        ),
        Misconception(
            "squashed",
            lambda x, estimate, now, next, noise=None: ddim_step(
                x, Estimate.from_x0(estimate.x0.tanh(), x, now), now, next
            ),
            "You squashed the guess by tanh, which changes greys as well. What lies within [−1, 1] stays as "
            "it is; the rest is cut off.",
            about="formula",
        ),
        Misconception(
            "brought-to-range",
            _brought_to_range,
            "You divided the guess by its largest value, so that all of it fades. What lies within [−1, 1] "
            "stays as it is; the rest is cut off.",
            about="formula",
        ),
        Misconception(
            "variance-for-sigma",
            _remade(lambda x, x0, now, next: (x - now.alpha * x0) / now.sigma**2),
            "You divided by σ². x − α·x̂₀ is σ·ε̂: divide by σ, once.",
            about="root",
        ),
        Misconception(
            "clipped-above-only",
            lambda x, estimate, now, next, noise=None: ddim_step(
                x, Estimate.from_x0(estimate.x0.clamp(max=1), x, now), now, next
            ),
            "You cut off what is brighter than 1 and left what is darker than −1: clamp(-1, 1).",
            about="missing",
        ),
        Misconception(
            "noise-shrunk-too",
            _noise_shrunk_too,
            "You shrank ε̂ by the factor by which x̂₀ shrank. It is the other way round: what the picture "
            "loses, the noise must take up. Solve x = α·x̂₀ + σ·ε̂ for ε̂.",
            about="direction",
        ),
        Misconception(
            "fresh-noise",
            lambda x, estimate, now, next, noise=None: (
                next.alpha * estimate.x0.clamp(-1, 1) + next.sigma * noise
            ),
            "You put fresh noise in the place of ε̂. A DDIM step draws none: ε̂ is the noise that x holds "
            "beside the clipped x̂₀.",
            about="input",
        ),
        Misconception(
            "noise-moved-the-wrong-way",
            _moved_the_wrong_way,
            "You moved ε̂ the wrong way: where the clip makes x̂₀ smaller, ε̂ grows, since α·x̂₀ + σ·ε̂ is "
            "still x. It is (x − α·x̂₀)/σ.",
            about="sign",
        ),
        Misconception(
            "divided-by-one-minus-alpha",
            _remade(lambda x, x0, now, next: (x - now.alpha * x0) / (1 - now.alpha)),
            "You divided by 1 − α. What is left of x is σ·ε̂: divide by σ.",
            about="factor",
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


def _asked_at_the_first(denoiser: Denoiser, x0: Tensor, levels: list[Level]) -> Tensor:
    return _rising(lambda now, next: levels[-2])(denoiser, x0, levels)


def _clipped_rising(denoiser: Denoiser, x0: Tensor, levels: list[Level]) -> Tensor:
    x = x0
    for now, next in pairwise(levels[::-1]):
        eps = denoiser(x, now if now.sigma > 0 else next).eps
        x = add_noise(((x - now.sigma * eps) / now.alpha).clamp(-1, 1), eps, next)
    return x


def _last_noise(denoiser: Denoiser, x0: Tensor, levels: list[Level]) -> Tensor:
    x, eps = x0, x0
    for now, next in pairwise(levels[::-1]):
        eps = denoiser(x, now if now.sigma > 0 else next).eps
        x = add_noise((x - now.sigma * eps) / now.alpha, eps, next)
    return eps


def _not_scaled_back(denoiser: Denoiser, x0: Tensor, levels: list[Level]) -> Tensor:
    x = x0
    for now, next in pairwise(levels[::-1]):
        eps = denoiser(x, now if now.sigma > 0 else next).eps
        x = add_noise(x - now.sigma * eps, eps, next)
    return x


def _own_guesses(denoiser: Denoiser, x0: Tensor, levels: list[Level]) -> Tensor:
    x = x0
    for now, next in pairwise(levels[::-1]):
        estimate = denoiser(x, now if now.sigma > 0 else next)
        x = add_noise(estimate.x0, estimate.eps, next)
    return x


def _by_the_slope(denoiser: Denoiser, x0: Tensor, levels: list[Level]) -> Tensor:
    """The same, as Euler steps of x/α over σ/α."""
    x = x0
    for i in range(len(levels) - 1, 0, -1):
        now, next = levels[i], levels[i - 1]
        _, eps = denoiser(x, next if i == len(levels) - 1 else now)
        x = next.alpha * (x / now.alpha + (next.sigma / next.alpha - now.sigma / now.alpha) * eps)
    return x


Times = Callable[[torch.Generator], list[float]]


def _even(low: int, high: int) -> Times:
    """So many even steps from T, rounded."""
    return lambda g: [float(round(1000 * k / n)) for n in [whole(g, low, high)] for k in range(n, -1, -1)]


def _uneven(n: int, last: int, end: bool = True) -> Times:
    """n + 1 uneven times from below T; the lowest of several is about `last`, then comes 0 with `end`."""

    def times(g: torch.Generator) -> list[float]:
        drawn = falling(g, n + 1 - end, last, 960, apart=50)
        if len(drawn) > 1:
            drawn[-1] = whole(g, last, last + 9)
        return [float(t) for t in drawn] + [0.0] * end

    return times


def _picture(times: Times, *shape: int) -> Make:
    """Pictures, and the numbers of a denoiser whose guesses lie beyond ±1 as well."""
    return lambda g: {
        "x0": data(g, *shape),
        "mean": number(g, -0.5, 0.5),
        "spread": number(g, 0.4, 0.9),
        "times": times(g),
    }


def _invert_figure(reference: Callable[..., Tensor]) -> Any:
    data, _ = CLUSTERS.sample(1500, torch.Generator().manual_seed(0))
    levels = PATH.levels(100)
    noise = reference(CLUSTERS, data, levels)
    return _clouds(["data", "inverted", "and sampled back"], [data, noise, sample(CLUSTERS, noise, levels)])


def _sloped(
    turn: Callable[[list[Level]], list[Level]] = lambda levels: levels[::-1], sign: int = 1, back: bool = True
) -> Callable[..., Tensor]:
    """Inversion as Euler steps of x/α over σ/α, and what goes wrong in them."""

    def inverted(denoiser: Denoiser, x0: Tensor, levels: list[Level]) -> Tensor:
        x = x0
        for now, next in pairwise(turn(levels)):
            eps = denoiser(x, now if now.sigma > 0 else next).eps
            x = x / now.alpha + sign * (next.sigma / next.alpha - now.sigma / now.alpha) * eps
            x = next.alpha * x if back else x
        return x

    return inverted


def _slope_alone(denoiser: Denoiser, x0: Tensor, levels: list[Level]) -> Tensor:
    x = x0
    for now, next in pairwise(levels[::-1]):
        eps = denoiser(x, now if now.sigma > 0 else next).eps
        x = next.alpha * x / now.alpha + (next.sigma / next.alpha - now.sigma / now.alpha) * eps
    return x


INVERT = Exercise(
    id="08.3",
    name="invert",
    title="From the picture to its noise",
    kind="implement",
    difficulty=3,
    minutes=15,
    reference=invert,
    cases=[
        Case("a few even steps, two pictures", _picture(_even(3, 6), 2, 1, 8, 6)),
        Case("uneven steps, not up to T, colour pictures", _picture(_uneven(5, 10), 2, 3, 4, 6)),
        Case("a single step", _picture(_uneven(1, 400), 2, 1, 5, 4)),
        Case("some 12 steps, points beyond ±1", _picture(_even(11, 14), 6, 2)),
    ],
    call=_on_gaussian,
    misconceptions=[
        Misconception(
            "asked-at-0",
            _rising(lambda now, next: now),
            "You asked the denoiser at t = 0, where there is no noise to be seen: no network is trained "
            "there. For the first step take the ε̂ that it sees in the same x at the first time above 0.",
            about="level",
        ),
        Misconception(
            "asked-at-the-next-level",
            _rising(lambda now, next: next),
            "You told the denoiser the level where each step ends. x is still at the level where it starts. "
            "Only the first step, which starts at t = 0, has to ask one level up.",
            about="level",
        ),
        Misconception(
            "picture-kept",
            _rising(keep_picture=True),
            "You put the given picture in the place of x̂₀ in every step. Sampling will not know that "
            "picture, so it takes other steps back. Use the x̂₀ that belongs to this ε̂: (x − σ·ε̂)/α.",
            about="input",
        ),
        Misconception(
            "walked-down",
            lambda denoiser, x0, levels: sample(denoiser, x0, levels),
            "You went through the levels as they are given, from noise to data: that samples, with the "
            "picture taken for noise. Turn the list round first.",
            about="direction",
        ),
        Misconception(
            "first-step-skipped",
            _rising(skip=1),
            "Your first step leaves the picture as it is: you started at the first time above 0, or took "
            "the x̂₀ that the denoiser gives there. At t = 0, x̂₀ is the picture itself. Take the ε̂ alone, "
            "and scale the picture by α.",
            about="count",
        ),
        Misconception(
            "one-step-short",
            _rising(stop=1),
            "You stopped one level below the noisiest. A list of n + 1 levels has n steps: the last one ends "
            "at levels[0].",
            about="count",
        ),
        Misconception(
            "always-asked-at-the-first",
            _asked_at_the_first,
            "You ask at the first time above 0 in every step. Only the first step has to borrow it; after "
            "that x is at the level `now`.",
            about="level",
        ),
        Misconception(
            "jumped",
            lambda denoiser, x0, levels: add_noise(x0, denoiser(x0, levels[-2]).eps, levels[0]),
            "You jumped to levels[0] with the first ε̂. The noise that the denoiser sees changes on the way: "
            "walk up level by level, and ask at each.",
            about="missing",
        ),
        Misconception(
            "guess-returned",
            _last_noise,
            "You returned the last ε̂. Asked is x at levels[0], which the sampler starts from; at T, where α "
            "is nearly 0, the two are close.",
            about="reading",
        ),
        Misconception(
            "not-scaled-back",
            _not_scaled_back,
            "You took x − σ·ε̂ for x̂₀. That is α·x̂₀, the picture turned down: divide by now.alpha.",
            about="missing",
        ),
        Misconception(
            "walked-down-by-the-slope",
            _sloped(lambda levels: levels),
            "You walked from levels[0] to the data, which is sampling: the picture was taken for noise. "
            "Inversion goes the other way: turn the list round first.",
            about="direction",
        ),
        Misconception(
            "slope-subtracted",
            _sloped(sign=-1),
            "You subtracted the change of σ/α times ε̂. On the way up σ/α grows and noise is added: plus.",
            about="sign",
        ),
        Misconception(
            "not-multiplied-again",
            _sloped(back=False),
            "You divided x by α and did not multiply by α' again. The step is one of x/α: at its end bring "
            "x to the new level.",
            about="missing",
        ),
        Misconception(
            "jumped-from-the-top",
            lambda denoiser, x0, levels: add_noise(x0, denoiser(x0, levels[0]).eps, levels[0]),
            "You jumped to levels[0] at once, and told the denoiser that level, where x is not yet. Walk up "
            "level by level, and ask at each.",
            about="missing",
        ),
        Misconception(
            "guess-clipped",
            _clipped_rising,
            "You cut x̂₀ to [−1, 1] on the way. The noise must be that of this x: follow ε̂ as it comes.",
            about="extra",
        ),
        Misconception(
            "first-step-without-noise",
            lambda denoiser, x0, levels: _rising(skip=1)(denoiser, levels[-2].alpha * x0, levels),
            "Your first step turns the picture down and adds no noise. It takes the ε̂ that is seen in x at "
            "levels[-2].",
            about="missing",
        ),
        Misconception(
            "slope-not-multiplied",
            _slope_alone,
            "α' multiplies x/α alone in your step. The whole of x/α plus the slope's part is x'/α': "
            "multiply all of it by α'.",
            about="factor",
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


def _arc(
    angle: Angle = _flat_angle, parallel: bool = True, small: Callable[[Tensor], Tensor] = lambda omega: omega
) -> Callable[..., Tensor]:
    """The arc with another angle; `parallel`: a straight line where small(angle) is 0."""

    def along(a: Tensor, b: Tensor, weight: float) -> Tensor:
        omega = angle(a, b)
        one, other = ((1 - weight) * omega).sin() / omega.sin(), (weight * omega).sin() / omega.sin()
        if parallel:
            one = torch.where(small(omega) < 1e-4, 1 - weight, one)
            other = torch.where(small(omega) < 1e-4, weight, other)
        return one * a + other * b

    return along


def _arc_by(over_sine: Callable[[Tensor, float], tuple[Any, Any]]) -> Callable[..., Tensor]:
    """The arc with other weights above sin Ω."""

    def along(a: Tensor, b: Tensor, weight: float) -> Tensor:
        omega = _flat_angle(a, b)
        one, other = over_sine(omega, weight)
        flat = omega < 1e-4
        return (
            torch.where(flat, 1 - weight, one / omega.sin()) * a
            + torch.where(flat, weight, other / omega.sin()) * b
        )

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


def _pair(weight: tuple[float, float], *shape: int, stretch: float = 1.0, tilt: float = 0.0) -> Make:
    """A weight between two bounds; b leans towards a by `tilt`."""

    def make(g: torch.Generator) -> dict[str, Any]:
        a, b = normal(g, *shape), normal(g, *shape)
        return {"a": a, "b": stretch * (b + tilt * a), "weight": number(g, *weight)}

    return make


def _one_end(g: torch.Generator) -> dict[str, Any]:
    return _pair((0.0, 0.0), 2, 1, 5, 4)(g) | {"weight": float(whole(g, 0, 1))}


def _some_the_same(g: torch.Generator) -> dict[str, Any]:
    """Entries ±4, sixteen a noise: where two are the same, the cosine is 1 exactly.

    At one place in four they are, and at another b is twice as long.
    """
    a, b = torch.where(normal(g, 2, 4, 1, 2, 8) > 0, 4.0, -4.0)
    same, longer = several(g, 2, 1, 3)
    b[same], b[longer] = a[same], 2 * a[longer]
    return {"a": a, "b": b, "weight": number(g, 0.3, 0.4)}


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


def _angle_by_row(a: Tensor, b: Tensor) -> Tensor:
    return cosine_similarity(a, b, dim=-1).clamp(-1, 1).acos()[..., None]


def _angle_by_channel_or_sample(a: Tensor, b: Tensor) -> Tensor:
    return _angle_by_channel(a, b) if a.ndim > 2 else _flat_angle(a, b)


def _line_stretched(a: Tensor, b: Tensor, weight: float) -> Tensor:
    line = torch.lerp(a, b, weight)
    return _unit(line) * a.flatten(1).norm(dim=1).view(-1, *[1] * (a.ndim - 1))


def _at_parallel(other: Callable[[Tensor, Tensor, float], Tensor]) -> Callable[..., Tensor]:
    """Another answer where two noises point the same way."""

    def along(a: Tensor, b: Tensor, weight: float) -> Tensor:
        return torch.where(_flat_angle(a, b) < 1e-4, other(a, b, weight), _arc()(a, b, weight))

    return along


SLERP = Exercise(
    id="08.4",
    name="slerp",
    title="From noise to noise along the arc",
    kind="implement",
    difficulty=2,
    minutes=12,
    reference=slerp,
    cases=[
        Case("two pairs, about the middle", _pair((0.4, 0.6), 2, 1, 8, 6, tilt=0.5)),
        Case("colour, nearer to a, b twice as strong", _pair((0.2, 0.35), 2, 3, 4, 6, stretch=2.0)),
        Case("vectors that lean the same way", _pair((0.6, 0.85), 4, 12, tilt=1.5)),
        Case("at one end: a or b itself", _one_end),
        Case("four pairs: one is the same noise twice, another points the same way", _some_the_same),
    ],
    misconceptions=[
        Misconception(
            "straight-line",
            lambda a, b, weight: (1 - weight) * a + weight * b,
            "You took the straight line. Half-way between two noises it has only half of their variance, "
            "for the squares of its weights do not add up to 1. Go along the arc.",
            about="formula",
        ),
        Misconception(
            "root-weights",
            lambda a, b, weight: (1 - weight) ** 0.5 * a + weight**0.5 * b,
            "You took √(1 − w) and √w. That keeps the variance of two *independent* noises, but not of two "
            "that have something in common, and the pace is uneven. The weights come from the angle "
            "between a and b.",
            about="formula",
        ),
        Misconception(
            "right-angle-assumed",
            _arc(lambda a, b: torch.full((), torch.pi / 2), parallel=False),
            "You took the angle for 90°. Independent noises come near that, but inverted pictures need not, "
            "and the same noise twice does not at all. Compute Ω from a and b.",
            about="formula",
        ),
        Misconception(
            "one-angle-for-all",
            _arc(_one_angle),
            "You took one angle for the whole batch. Each pair has its own: flatten all dimensions but the "
            "first, and give Ω the shape (B, 1, 1, 1).",
            about="batch",
        ),
        Misconception(
            "angle-across-channels",
            lambda a, b, weight: _arc(_angle_by_channel if a.ndim > 2 else _flat_angle)(a, b, weight),
            "You took an angle at every pixel, across its channels: that is what cosine_similarity does to "
            "dimension 1 unless told otherwise. A sample is one vector: flatten it first.",
            about="axis",
        ),
        Misconception(
            "length-lost",
            lambda a, b, weight: _arc()(_unit(a), _unit(b), weight),
            "You divided a and b by their lengths, and left them so: the result has length 1. The unit "
            "vectors are for the angle only; the weights multiply a and b as they are.",
            about="missing",
        ),
        Misconception(
            "angle-not-normalised",
            _arc(_product_angle, parallel=False),
            "Every entry is NaN. Did you take the arc cosine of a·b itself? That is |a||b|·cos Ω, far "
            "outside −1 to 1: divide by the two lengths first.",
            about="missing",
        ),
        Misconception(
            "parallel-forgotten",
            _arc(parallel=False),
            "Right as long as a and b differ in direction. Where they do not, Ω is 0 and the weights are "
            "0/0 = NaN. There, pair by pair (torch.where), the arc is a line: use 1 − w and w.",
            about="boundary",
        ),
        Misconception(
            "ends-swapped",
            lambda a, b, weight: slerp(a, b, 1 - weight),
            "The ends are swapped: weight 0 is a, and weight 1 is b.",
            about="swap",
        ),
        Misconception(
            "line-for-all-where-one-is-parallel",
            lambda a, b, weight: (
                torch.lerp(a, b, weight) if bool((_flat_angle(a, b) < 1e-3).any()) else slerp(a, b, weight)
            ),
            "Where one pair of the batch is parallel you take the straight line for all of them. Each pair "
            "decides for itself: torch.where.",
            about="batch",
        ),
        Misconception(
            "sine-of-the-weight-forgotten",
            _arc_by(lambda omega, w: ((1 - w), w)),
            "Your weights are (1 − w)/sin Ω and w/sin Ω: the sines above are missing. They are sin((1 − "
            "w)Ω) and sin(wΩ), both divided by sin Ω.",
            about="missing",
        ),
        Misconception(
            "not-divided-by-the-sine",
            _arc_by(
                lambda omega, w: (((1 - w) * omega).sin() * omega.sin(), (w * omega).sin() * omega.sin())
            ),
            "You did not divide by sin Ω. Without it weight 0 is not a.",
            about="missing",
        ),
        Misconception(
            "cosines-for-sines",
            _arc_by(lambda omega, w: ((w * omega).cos() * omega.sin(), (w * omega).sin() * omega.sin())),
            "You turned from a by the angle wΩ, cos for a and sin for b. That holds where a and b stand at "
            "right angles; for any angle the weights are sin((1 − w)Ω)/sin Ω and sin(wΩ)/sin Ω.",
            about="formula",
        ),
        Misconception(
            "cosine-for-the-angle",
            _arc(lambda a, b: _flat_angle(a, b).cos(), parallel=False),
            "You took cos Ω for Ω itself: the arc cosine is missing.",
            about="missing",
        ),
        Misconception(
            "unit-vectors-then-one-length",
            lambda a, b, weight: (
                slerp(_unit(a), _unit(b), weight) * a.flatten(1).norm(dim=1).view(-1, *[1] * (a.ndim - 1))
            ),
            "You went along the arc of unit vectors and gave the result the length of a. The weights "
            "multiply a and b as they are, so that the length goes from that of a to that of b.",
            about="extra",
        ),
        Misconception(
            "cosine-for-the-angle-guarded",
            _arc(lambda a, b: _flat_angle(a, b).cos()),
            "You put cos Ω where Ω belongs. The angle is its arc cosine: acos().",
            about="missing",
        ),
        Misconception(
            "angle-of-each-row",
            _arc(_angle_by_row, small=torch.sin),
            "You took an angle for each row, along the last dimension. A sample is one long vector: "
            "flatten(1) first.",
            about="axis",
        ),
        Misconception(
            "angle-across-channels-guarded",
            _arc(_angle_by_channel_or_sample, small=torch.sin),
            "Your angle is one for each pixel: cosine_similarity compares along dimension 1, the channels, "
            "unless told otherwise. Make each sample one vector first, flatten(1).",
            about="axis",
        ),
        Misconception(
            "bracket-closed-early",
            _arc_by(lambda omega, w: (math.sin(1 - w) * omega, math.sin(w) * omega)),
            "Your weights are sin(1 − w)·Ω and sin(w)·Ω: a bracket closes too early. The sine is of the "
            "product, sin((1 − w)·Ω).",
            about="order",
        ),
        Misconception(
            "degrees",
            _arc(lambda a, b: _flat_angle(a, b).rad2deg(), small=torch.sin),
            "Your angle is in degrees, and sin takes radians. acos gives radians: leave them.",
            about="factor",
        ),
        Misconception(
            "angle-without-its-side",
            _arc(lambda a, b: _flat_angle(a, b).cos().abs().acos()),
            "You took cos Ω without its sign. Where a and b point away from each other it is negative, and "
            "Ω above 90°.",
            about="sign",
        ),
        Misconception(
            "line-stretched",
            _line_stretched,
            "You took the straight line and stretched it to the length of a. Even steps on the line are not "
            "even on the arc, and at weight 1 it is not b. Take the weights from the angle.",
            about="formula",
        ),
        Misconception(
            "start-where-parallel",
            _at_parallel(lambda a, b, weight: a),
            "You return a where a and b point the same way. They need not be equally long: take the "
            "straight line there, (1 − weight)·a + weight·b.",
            about="boundary",
        ),
        Misconception(
            "end-where-parallel",
            _at_parallel(lambda a, b, weight: b),
            "You return b where a and b point the same way. They need not be equally long: take the "
            "straight line there, (1 − weight)·a + weight·b.",
            about="boundary",
        ),
        Misconception(
            "zero-where-parallel",
            _at_parallel(lambda a, b, weight: 0 * a),
            "Your result is 0 where a and b point the same way. Take the straight line there, (1 − "
            "weight)·a + weight·b.",
            about="boundary",
        ),
        Misconception(
            "middle-where-parallel",
            _at_parallel(lambda a, b, weight: (a + b) / 2),
            "You return the middle of a and b where they point the same way. Take the straight line there, "
            "(1 − weight)·a + weight·b.",
            about="boundary",
        ),
        Misconception(
            "mean-angle",
            _arc(lambda a, b: _flat_angle(a, b).mean()),
            "You took the mean of all angles. Each pair has an angle of its own.",
            about="batch",
        ),
        Misconception(
            "length-of-a",
            lambda a, b, weight: (
                _unit(_arc()(a, b, weight)) * a.flatten(1).norm(dim=1).view(-1, *[1] * (a.ndim - 1))
            ),
            "You brought the result to the length of a. On the arc the length goes over from that of a to "
            "that of b: the two weights alone do it.",
            about="extra",
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
    keep: Callable[[Level, Level], Tensor] = lambda now, next: next.sigma / now.sigma,
    share: Callable[[Level, Level], Tensor] = lambda now, next: (
        next.alpha - next.sigma / now.sigma * now.alpha
    ),
    end: Callable[[Tensor, Tensor], Tensor] = lambda x, mixed: x,
) -> Callable[..., Tensor]:
    """Two-step walk with the extrapolation weight(before, now, next), and other changes."""

    def walk(denoiser: Denoiser, x: Tensor, levels: list[Level]) -> Tensor:
        mixed = x
        before: tuple[Level, Tensor] | None = None
        for now, next in pairwise(levels):
            guess = mixed = denoiser(x, now).x0
            if before is not None and (bool(next.sigma > 0) or not lower_at_the_end):
                mixed = guess + weight(before[0], now, next) * (guess - before[1])
            x = keep(now, next) * x + share(now, next) * mixed
            before = now, mixed if remember_mixed else guess
        return end(x, mixed)

    return walk


def _first_remembered(denoiser: Denoiser, x: Tensor, levels: list[Level]) -> Tensor:
    first: tuple[Level, Tensor] | None = None
    for now, next in pairwise(levels):
        guess = mixed = denoiser(x, now).x0
        if first is not None and next.sigma > 0:
            mixed = guess + _half_ratio(first[0], now, next) * (guess - first[1])
        keep = next.sigma / now.sigma
        x = keep * x + (next.alpha - keep * now.alpha) * mixed
        first = first or (now, guess)
    return x


def _asked_ahead(denoiser: Denoiser, x: Tensor, levels: list[Level]) -> Tensor:
    ahead = {id(now): after if after.sigma > 0 else now for now, after in pairwise(levels)}
    return dpmpp_2m(lambda x, level, condition=None: denoiser(x, ahead[id(level)]), x, levels)


def _lower_order_at_the_last(denoiser: Denoiser, x: Tensor, levels: list[Level]) -> Tensor:
    x = _multistep(_half_ratio)(denoiser, x, levels[:-1]) if len(levels) > 2 else x
    return sample(denoiser, x, levels[-2:])


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


def _solve(times: Times, *shape: int) -> Make:
    """Noise, and the numbers of a denoiser whose guesses lie beyond ±1 as well."""
    return lambda g: {
        "x": 2.5 * normal(g, *shape),
        "mean": number(g, -0.5, 0.5),
        "spread": number(g, 0.4, 0.9),
        "times": times(g),
    }


def _on_noise(answer: Callable[..., Any], x: Tensor, mean: float, spread: float, times: list[float]) -> Any:
    denoiser, steps = gaussian(mean, spread), len(times) - 1
    questions = count(1)  # a list would be seen to change

    def counted(x: Tensor, level: Level, condition: Condition = None) -> Estimate:
        if next(questions) > steps:
            raise ValueError(f"the denoiser was asked more often than there are steps, {steps}")
        return denoiser(x, level)

    return answer(counted, x, [PATH(t) for t in times])


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


def _snr(level: Level) -> Tensor:
    return level.alpha / level.sigma


def _asked_twice(denoiser: Denoiser, x: Tensor, levels: list[Level]) -> Tensor:
    before: tuple[Tensor, Level] | None = None
    for now, next in pairwise(levels):
        guess = denoiser(x, now).x0
        if before is not None:
            denoiser(*before)
        before = x, now
        x = next.sigma / now.sigma * x + (next.alpha - next.sigma / now.sigma * now.alpha) * guess
    return x


SOLVER = Exercise(
    id="08.5",
    name="dpmpp_2m",
    title="Second order from memory",
    kind="stretch",
    difficulty=3,
    minutes=20,
    reference=dpmpp_2m,
    cases=[
        Case("a few even steps, the last to t = 0", _solve(_even(4, 7), 2, 1, 8, 6)),
        Case("uneven steps, not from T, colour", _solve(_uneven(5, 20), 2, 3, 4, 6)),
        Case("uneven steps, not to the data", _solve(_uneven(4, 80, end=False), 5, 2)),
        Case("a single step", _solve(_uneven(1, 400), 2, 1, 5, 4)),
    ],
    call=_on_noise,
    misconceptions=[
        Misconception(
            "no-memory",
            lambda denoiser, x, levels: sample(denoiser, x, levels),
            "This is DDIM: each step uses its own x̂₀ alone. From the second step on, extrapolate with the "
            "x̂₀ of the step before.",
            about="missing",
        ),
        Misconception(
            "half-forgotten",
            _multistep(lambda before, now, next: 2 * _half_ratio(before, now, next)),
            "You extrapolated to the end of the step. The best constant for a step is x̂₀ at its *middle*: "
            "half as far, 1/(2r).",
            about="factor",
        ),
        Misconception(
            "ratio-turned",
            _multistep(lambda before, now, next: 1 / (4 * _half_ratio(before, now, next))),
            "The ratio is upside down. x̂₀ changed so much over the step before; over this one it changes by "
            "(this step)/(step before) times as much.",
            about="swap",
        ),
        Misconception(
            "steps-in-t",
            _multistep(lambda before, now, next: (next.t - now.t) / (now.t - before.t) / 2),
            "You measured the steps in t. The formula holds in λ = log(α²/σ²), in which the same steps are "
            "of quite different length.",
            about="input",
        ),
        Misconception(
            "turned-back",
            _multistep(lambda before, now, next: -_half_ratio(before, now, next)),
            "You went from x̂₀ back towards the one before. It is an extrapolation: on in the direction in "
            "which x̂₀ has been changing, x̂₀ + (x̂₀ − before)/(2r).",
            about="sign",
        ),
        Misconception(
            "noise-extrapolated",
            _noise_multistep,
            "You extrapolated ε̂. That is DPM-Solver, which came before. The ++ stands for the same with "
            "x̂₀, which changes less from step to step, and can be clipped.",
            about="input",
        ),
        Misconception(
            "remembers-the-mixture",
            _multistep(_half_ratio, remember_mixed=True),
            "You kept the extrapolated x̂₀ for the next step. Keep the one that the denoiser gave: what is "
            "compared are two real estimates.",
            about="input",
        ),
        Misconception(
            "infinite-at-0",
            _multistep(_half_ratio, lower_at_the_end=False),
            "Right until the last step. At t = 0, λ is infinite, and so is its step: NaN. A step that ends "
            "at σ = 0 uses its own x̂₀ alone.",
            about="boundary",
        ),
        Misconception(
            "log-snr-halved-in-one",
            _multistep(lambda before, now, next: _half_ratio(before, now, next) / 2),
            "You extrapolated a quarter of the way. With r = (λ − λ before)/(λ' − λ) the weight is 1/(2r): "
            "half of (this step)/(step before).",
            about="factor",
        ),
        Misconception(
            "always-a-half",
            _multistep(lambda before, now, next: torch.full((), 0.5)),
            "You extrapolated by ½, as if this step were as long as the one before. In λ the steps are of "
            "different length: the weight is 1/(2r).",
            about="factor",
        ),
        Misconception(
            "steps-in-sigma",
            _multistep(lambda before, now, next: (next.sigma - now.sigma) / (now.sigma - before.sigma) / 2),
            "You measured the steps in σ. The formula holds in λ = log(α²/σ²), in which the same steps are "
            "of quite different length.",
            about="input",
        ),
        Misconception(
            "mean-of-the-two",
            _multistep(lambda before, now, next: torch.full((), -0.5)),
            "You took the mean of the two x̂₀. That looks back to the middle of the step *before*; "
            "extrapolate on, to the middle of this one.",
            about="sign",
        ),
        Misconception(
            "memory-never-renewed",
            _first_remembered,
            "You compare each x̂₀ with the very first one. What is remembered is the x̂₀ of the step before: "
            "renew it in every step.",
            about="input",
        ),
        Misconception(
            "last-step-second-order-skipped-early",
            _lower_order_at_the_last,
            "Your last step is always of first order. Only a step that ends at σ = 0 has to be; one that "
            "ends above extrapolates like the others.",
            about="count",
        ),
        Misconception(
            "ratio-without-logarithm",
            _multistep(lambda before, now, next: (_snr(next) - _snr(now)) / (_snr(now) - _snr(before)) / 2),
            "You measured the steps in α/σ. λ is a logarithm, log(α²/σ²), in which the same steps are of "
            "quite different length.",
            about="missing",
        ),
        Misconception(
            "noise-factor-upside-down",
            _multistep(
                _half_ratio,
                keep=lambda now, next: now.sigma / next.sigma,
                share=lambda now, next: next.alpha - now.sigma / next.sigma * now.alpha,
            ),
            "Your ratio of the sigmas is upside down. What is left of x in a step has the factor σ'/σ: "
            "noise falls.",
            about="factor",
        ),
        Misconception(
            "part-of-the-factor-missing",
            _multistep(_half_ratio, share=lambda now, next: next.alpha),
            "The factor of D is α' alone in yours. A part of the picture stays in (σ'/σ)·x: the factor is "
            "α' − α·σ'/σ.",
            about="missing",
        ),
        Misconception(
            "guess-returned",
            _multistep(_half_ratio, end=lambda x, mixed: mixed),
            "You returned the last D. It is the same as x only where the levels end at the data: return x.",
            about="input",
        ),
        Misconception(
            "memory-renewed-too-early",
            _multistep(lambda before, now, next: torch.full((), math.nan)),
            "Your extrapolation is 0/0. Did you renew what is remembered before you used it? Then the x̂₀ "
            "before is the one of now. Renew it at the end of the round.",
            about="order",
        ),
        Misconception(
            "asked-twice",
            _asked_twice,
            "You asked the denoiser more than once a step. Remember the x̂₀ of the step before: that it "
            "costs no second question is what this method is for.",
            about="extra",
        ),
        Misconception(
            "asked-at-the-next-level",
            _asked_ahead,
            "You ask the denoiser at the level where the step ends. x is at `now`, where it starts.",
            about="level",
        ),
        Misconception(
            "snr-for-its-logarithm",
            _multistep(
                lambda before, now, next: (
                    (_snr(next) ** 2 - _snr(now) ** 2) / (_snr(now) ** 2 - _snr(before) ** 2) / 2
                )
            ),
            "You took the SNR itself, (α/σ)², for λ. λ is its logarithm, and half of it or all makes no "
            "difference here: .log_snr.",
            about="missing",
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

# 08.6 The sampler, up and down ----------------------------------------------------------------------


def edit(
    denoiser: Denoiser,
    x0: Tensor,
    old: Tensor,
    new: Tensor,
    levels: list[Level],
    noises: Tensor,
    eta: float = 0.0,
) -> Tensor:
    """`samplers.invert` under the old labels, then `ddim_step` with `Clip` under the new ones."""

    def about_old(x: Tensor, level: Level, condition: Condition = None) -> Estimate:
        return denoiser(x, level, old)

    x, clipped = invert(about_old, x0, levels), Clip(denoiser)
    for (now, next), noise in zip(pairwise(levels), noises, strict=True):
        x = ddim_step(x, clipped(x, now, new), now, next, noise, eta)
    return x


Ask = Callable[[Level, Level], Level]


def _there_and_back(
    up: Callable[[Tensor, Tensor], Tensor] = lambda old, new: old,
    down: Callable[[Tensor, Tensor], Tensor] = lambda old, new: new,
    clip_up: bool = False,
    clip_down: str = "guess",
    stale: bool = False,
    ask_up: Ask = lambda now, next: now if now.sigma > 0 else next,
    ask_down: Ask = lambda now, next: now,
    part: Part = _rest_or_0,
    kick: Part = _fresh,
    variance: Callable[[Level, Level], Tensor] = _small,
    draw: Callable[[Tensor, int], Tensor] = lambda noises, i: noises[i],
    rising: Callable[[list[Level]], list[Level]] = lambda levels: levels[::-1],
    falling: Callable[[list[Level]], list[Level]] = lambda levels: levels,
    start: Callable[[Tensor, Tensor, list[Level], Tensor], Tensor] | None = None,
    result: str = "x",
    kick_up: bool = False,
) -> Callable[..., Tensor]:
    """Both walks in plain steps, with a place for each slip."""

    def answer(
        denoiser: Denoiser,
        x0: Tensor,
        old: Tensor,
        new: Tensor,
        levels: list[Level],
        noises: Tensor,
        eta: float = 0.0,
    ) -> Tensor:
        x = guess = x0
        for i, (now, next) in enumerate(pairwise(rising(levels))):
            asked = ask_up(now, next)
            guess, eps = denoiser(x, asked, up(old, new))
            if clip_up:
                eps = Estimate.from_x0(guess.clamp(-1, 1), x, asked).eps
            x = add_noise((x - now.sigma * eps) / now.alpha, eps, next)
            if kick_up:
                x = x + eta * _small(next, now).sqrt() * noises[-1 - i]
        if start is not None:
            x = start(x, x0, levels, noises)
        for i, (now, next) in enumerate(pairwise(falling(levels))):
            asked = ask_down(now, next)
            guess, eps = denoiser(x, asked, down(old, new))
            if clip_down == "guess":
                guess = guess.clamp(-1, 1)
            if not stale:
                eps = Estimate.from_x0(guess, x, now).eps
            v = variance(now, next)
            old_noise, fresh = part(next.sigma, v, eta), kick(next.sigma, v, eta)
            x = next.alpha * guess + old_noise * eps + fresh * draw(noises, i)
            if clip_down == "x":
                x = x.clamp(-1, 1)
        return x if result == "x" else x.clamp(-1, 1)

    return answer


def _by_pieces(
    denoiser: Denoiser,
    x0: Tensor,
    old: Tensor,
    new: Tensor,
    levels: list[Level],
    noises: Tensor,
    eta: float = 0.0,
) -> Tensor:
    """The steps up by their slope, and those down as the old noise turned towards the fresh one."""
    x = _by_the_slope(lambda x, level, condition=None: denoiser(x, level, old), x0, levels)
    for i in range(len(levels) - 1):
        now, next = levels[i], levels[i + 1]
        guess = torch.minimum(torch.maximum(denoiser(x, now, new).x0, -torch.ones(())), torch.ones(()))
        std = eta * next.sigma / now.sigma * (1 - now.alpha**2 / next.alpha**2).sqrt()
        kept = (next.sigma**2 - std**2).clamp(min=0).sqrt() / now.sigma
        x = kept * x + (next.alpha - kept * now.alpha) * guess + std * noises[i]
    return x


def _on_templates(
    answer: Callable[..., Any],
    x0: Tensor,
    old: Tensor,
    new: Tensor,
    noises: Tensor,
    eta: float,
    templates: Tensor,
    spread: float,
    times: list[float],
) -> Any:
    """A denoiser for data N(template, spread²) of each label; it cannot be asked at t = 0."""

    def knows_templates(x: Tensor, level: Level, labels: Tensor) -> Estimate:
        if labels.shape != x.shape[:1]:
            raise ValueError(f"one label for each of {len(x)} pictures, got {tuple(labels.shape)}")
        alpha, sigma = level.like(x)
        mean = templates[labels]
        gain = alpha * spread**2 / (alpha**2 * spread**2 + sigma**2)
        return Estimate.from_x0(mean + gain * (x - alpha * mean), x, level)

    return answer(knows_templates, x0, old, new, [PATH(t) for t in times], noises, eta)


def _redraw(times: Times, eta: tuple[float, float], *shape: int) -> Make:
    """Pictures with an old and another new label each, η between two bounds."""

    def make(g: torch.Generator) -> dict[str, Any]:
        given = times(g)
        old = torch.tensor([whole(g, 0, 4) for _ in range(shape[0])])
        return {
            "x0": data(g, *shape),
            "old": old,
            "new": (old + whole(g, 1, 4)) % 5,
            "noises": normal(g, len(given) - 1, *shape),
            "eta": number(g, *eta),
            "templates": 1.2 * normal(g, 5, *shape[1:]),
            "spread": number(g, 0.4, 0.9),
            "times": given,
        }

    return make


def _edit_figure(reference: Callable[..., Any]) -> Any:
    digits = figures.digits(9)
    old, new = torch.tensor([3, 5, 8]), torch.tensor([8, 3, 5])
    times = [float(t) for t in range(700, -1, -50)]
    noises = figures.noise(14 * 3, 1, 16, 16).view(14, 3, 1, 16, 16)
    pictures = digits[old]
    made = _on_templates(reference, pictures, old, new, noises, 0.0, digits, 0.3, times)
    return figures.strip([*pictures, *made], ["before"] * 3 + ["after"] * 3)


EDIT = Exercise(
    id="08.6",
    name="edit",
    title="Up under one label, down under another",
    kind="implement",
    difficulty=3,
    minutes=25,
    reference=edit,
    cases=[
        Case("a few even steps up to T, η about a half", _redraw(_even(4, 7), (0.4, 0.7), 2, 1, 8, 6)),
        Case("colour, uneven, up to a level below T, η = 1", _redraw(_uneven(5, 10), (1.0, 1.0), 3, 3, 4, 6)),
        Case("points beyond ±1, η = 0", _redraw(_uneven(4, 30), (0.0, 0.0), 6, 2)),
        Case("a single step", _redraw(_uneven(1, 400), (0.5, 0.8), 2, 1, 5, 4)),
    ],
    call=_on_templates,
    builds_on=[UPDATE, INVERT],
    misconceptions=[
        Misconception(
            "old-label-both-ways",
            _there_and_back(down=lambda old, new: old),
            "You ask about the old labels on the way down, too: that is a round trip, and the picture comes "
            "back. On the way down ask about `new`.",
            about="input",
        ),
        Misconception(
            "new-label-both-ways",
            _there_and_back(up=lambda old, new: new),
            "You ask about the new labels on the way up, too. The picture is no such thing: its noise is "
            "found with the label that it has, `old`.",
            about="input",
        ),
        Misconception(
            "labels-swapped",
            _there_and_back(up=lambda old, new: new, down=lambda old, new: old),
            "The labels have changed places: up with `old`, the label that the picture has, down with `new`.",
            about="swap",
        ),
        Misconception(
            "clipped-on-the-way-up",
            _there_and_back(clip_up=True),
            "You clipped x̂₀ on the way up as well. There its ε̂ is followed as it comes, as in your "
            "`invert`: only the way down is clipped.",
            about="extra",
        ),
        Misconception(
            "not-clipped",
            _there_and_back(clip_down="never"),
            "Nothing is clipped in your answer. On the way down x̂₀ is cut to [−1, 1], and ε̂ follows.",
            about="missing",
        ),
        Misconception(
            "clipped-x",
            _there_and_back(clip_down="x"),
            "You clipped x on the way down. It holds noise, which has no range: x̂₀, the guess of the "
            "picture, is what is cut to [−1, 1].",
            about="input",
        ),
        Misconception(
            "eps-left-behind",
            _there_and_back(stale=True),
            "You clipped x̂₀ and kept ε̂ as it was: the bug of exercise 08.2. Take ε̂ from the clipped x̂₀, "
            "by x = α·x̂₀ + σ·ε̂.",
            about="missing",
        ),
        Misconception(
            "asked-at-0",
            _there_and_back(ask_up=lambda now, next: now),
            "You asked the denoiser at t = 0. Up: the first step takes the ε̂ that it sees in the same x at "
            "the first level above 0. Down: each step asks at the level where it starts, `now`.",
            about="level",
        ),
        Misconception(
            "asked-above-on-the-way-up",
            _there_and_back(ask_up=lambda now, next: next),
            "On the way up you told the denoiser the level where each step ends. Only the first step, from "
            "t = 0, has to ask one level up; after that x is at `now`.",
            about="level",
        ),
        Misconception(
            "fresh-noise-on-the-picture",
            _there_and_back(start=lambda x, x0, levels, noises: add_noise(x0, noises[0], levels[0])),
            "You put drawn noise on the picture. Here the noise is the picture's own: found by walking up "
            "the levels, as in your `invert`.",
            about="formula",
        ),
        Misconception(
            "start-from-noise",
            _there_and_back(start=lambda x, x0, levels, noises: noises[0]),
            "You start the way down from drawn noise, and nothing of the picture is left. Start where the "
            "way up has ended.",
            about="input",
        ),
        Misconception(
            "start-from-the-picture",
            _there_and_back(start=lambda x, x0, levels, noises: x0),
            "Your way down starts from the picture itself, as if it were at levels[0]. Start where the way "
            "up has ended.",
            about="input",
        ),
        Misconception(
            "eta-ignored",
            _there_and_back(kick=lambda sigma, v, eta: 0 * v, part=lambda sigma, v, eta: sigma),
            "Your way down draws nothing, whatever η is. With η > 0 a part of the noise is fresh: "
            "s·noises[i] with s = η·√β̃, and the old noise makes room for it.",
            about="missing",
        ),
        Misconception(
            "eta-not-squared",
            _there_and_back(part=lambda sigma, v, eta: (sigma**2 - eta * v).clamp(min=0).sqrt()),
            "Under the root you subtracted η·β̃. The fresh noise has the standard deviation η·√β̃, so its "
            "variance is η²·β̃.",
            about="root",
        ),
        Misconception(
            "variance-for-std",
            _there_and_back(kick=lambda sigma, v, eta: eta * v),
            "You multiplied the fresh noise by η·β̃. β̃ is a variance: the factor is η·√β̃.",
            about="root",
        ),
        Misconception(
            "no-room-made",
            _there_and_back(part=lambda sigma, v, eta: sigma),
            "You added fresh noise on the way down and kept all of the old. The old noise gets "
            "√(σ'² − η²·β̃).",
            about="missing",
        ),
        Misconception(
            "forward-variance",
            _there_and_back(variance=_large),
            "You took β, the variance of the step forward. Here it is the posterior's, β̃, smaller by the "
            "factor σ'²/σ².",
            about="formula",
        ),
        Misconception(
            "one-noise-for-all-steps",
            _there_and_back(draw=lambda noises, i: noises[0]),
            "You use the same draw in every step. Step i has its own: noises[i].",
            about="input",
        ),
        Misconception(
            "noises-from-the-end",
            _there_and_back(draw=lambda noises, i: noises[-1 - i]),
            "You take the draws from the last to the first. The first step down, from levels[0], has "
            "noises[0].",
            about="order",
        ),
        Misconception(
            "one-step-short-up",
            _there_and_back(rising=lambda levels: levels[:0:-1]),
            "Your way up ends one level below levels[0], where the way down starts.",
            about="count",
        ),
        Misconception(
            "first-step-up-skipped",
            _there_and_back(rising=lambda levels: levels[-2::-1]),
            "Your way up starts at the first level above 0 with the clean picture. The picture is at t = 0: "
            "the first step leads from there.",
            about="count",
        ),
        Misconception(
            "one-step-short-down",
            _there_and_back(falling=lambda levels: levels[:-1]),
            "Your way down ends one level too early, with noise still in the picture. A list of n + 1 levels "
            "has n steps.",
            about="count",
        ),
        Misconception(
            "result-clipped",
            _there_and_back(clip_down="never", result="clipped"),
            "You clipped the finished picture alone. It is x̂₀ that is cut to [−1, 1], in every step down.",
            about="order",
        ),
        Misconception(
            "noises-one-place-off",
            _there_and_back(draw=lambda noises, i: noises[i - 1]),
            "Your draws are one place off: the step from levels[i] has noises[i], counted from 0.",
            about="index",
        ),
    ],
    alternatives=[_there_and_back(), _by_pieces],
    hints=(
        "Two loops. The first is your `invert`, asked about the old labels. The second is your update, asked "
        "about the new ones, with the clip of 08.2 ahead of it.",
        "Up: x' = α'·(x − σ·ε̂)/α + σ'·ε̂. Down: x̂₀ clipped, ε̂ = (x − α·x̂₀)/σ, then "
        "x' = α'·x̂₀ + √(σ'² − η²·β̃)·ε̂ + η·√β̃·noises[i].",
        "`for now, next in pairwise(levels[::-1]):` find `asked`, ask for ε̂ with `old`, step; then `for i, "
        "(now, next) in enumerate(pairwise(levels)):` ask with `new`, clamp, ε̂, β̃, step.",
    ),
    figure=_edit_figure,
    figure_alt="A 3, a 5 and an 8; after the edit an 8, a 3 and a 5, by a denoiser that knows one digit of "
    "each kind.",
)

EXERCISES = [UPDATE, CLIPPED, INVERT, SLERP, SOLVER, EDIT]
