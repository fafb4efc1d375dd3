"""Lesson 03, the reverse process: the posterior, x₀ from ε, the ancestral step and walk, their variance."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from diffusion_lessons.course.bank import figures
from diffusion_lessons.course.bank.inputs import cosine, data, falling, linear, normal, number, whole
from diffusion_lessons.course.exercises.exercise import Case, Exercise, Misconception
from diffusion_lessons.paths import DiscreteVP, Level, add_noise, posterior
from diffusion_lessons.samplers import ddpm_step, trajectory
from diffusion_lessons.schedules import linear_betas
from diffusion_lessons.targets import EPSILON, Estimate

Make = Callable[[torch.Generator], dict[str, Any]]
Posterior = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
Betas = Callable[[torch.Generator], Tensor]
LINEAR = DiscreteVP(linear_betas())


def _level(alpha_bar: Tensor) -> Level:
    """The level with this ᾱ; which time it has does not matter here."""
    share = alpha_bar.double()
    return Level(torch.zeros_like(share), share.sqrt(), (1 - share).sqrt())


def _pair(path: DiscreteVP, t: int, next_t: int) -> dict[str, Tensor]:
    """ᾱ at two times, 0-d and float64 as a Level has them."""
    return {
        "alpha_bar": path.alphas_cumprod[t].clone(),
        "alpha_bar_next": path.alphas_cumprod[next_t].clone(),
    }


def _drawn_pair(
    g: torch.Generator, betas: Betas, t: tuple[int, int], step: tuple[int, int]
) -> dict[str, Tensor]:
    """ᾱ at a time between two bounds and at one that is so much earlier, at 0 where that is further."""
    now = whole(g, *t)
    return _pair(DiscreteVP(betas(g)), now, max(now - whole(g, *step), 0))


# 03.1 The posterior ---------------------------------------------------------------------------------


def posterior_mean_var(
    x0: Tensor, x: Tensor, alpha_bar: Tensor, alpha_bar_next: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean and variance of q(x_next | x, x0)."""
    return posterior(x0, x, _level(alpha_bar), _level(alpha_bar_next))


def _ends(betas: Betas, t: tuple[int, int], step: tuple[int, int], *shape: int) -> Make:
    return lambda g: {"x0": data(g, *shape), "x": normal(g, *shape), **_drawn_pair(g, betas, t, step)}


def _posterior_with(
    on_x0: Callable[[Tensor, Tensor, Tensor], Tensor] = lambda a, n, b: n.sqrt() * b / (1 - a),
    on_x: Callable[[Tensor, Tensor, Tensor], Tensor] = lambda a, n, b: (1 - b).sqrt() * (1 - n) / (1 - a),
    variance: Callable[[Tensor, Tensor, Tensor], Tensor] = lambda a, n, b: (1 - n) / (1 - a) * b,
    beta: Callable[[Tensor, Tensor], Tensor] = lambda a, n: 1 - a / n,
) -> Posterior:
    """The posterior with some of its parts replaced: a is ᾱ now, n is ᾱ next, b is β of the step."""

    def answer(x0: Tensor, x: Tensor, alpha_bar: Tensor, alpha_bar_next: Tensor) -> tuple[Tensor, Tensor]:
        parts = alpha_bar, alpha_bar_next, beta(alpha_bar, alpha_bar_next)
        return on_x0(*parts) * x0 + on_x(*parts) * x, variance(*parts)

    return answer


def _without_a_draw(
    x0: Tensor, x: Tensor, alpha_bar: Tensor, alpha_bar_next: Tensor
) -> tuple[Tensor, Tensor]:
    eps = (x - alpha_bar.sqrt() * x0) / (1 - alpha_bar).sqrt()
    variance = posterior_mean_var(x0, x, alpha_bar, alpha_bar_next)[1]
    return alpha_bar_next.sqrt() * x0 + (1 - alpha_bar_next).sqrt() * eps, variance


def _by_precision(x0: Tensor, x: Tensor, alpha_bar: Tensor, alpha_bar_next: Tensor) -> tuple[Tensor, Tensor]:
    """Bayes with precisions: what is known of x_next from x0, and from x, weighed (not at the data)."""
    if alpha_bar_next == 1:
        return x0, torch.zeros_like(alpha_bar)
    keep = alpha_bar / alpha_bar_next
    from_x0, from_x = 1 / (1 - alpha_bar_next), keep / (1 - keep)
    variance = 1 / (from_x0 + from_x)
    return variance * (from_x0 * alpha_bar_next.sqrt() * x0 + from_x * x / keep.sqrt()), variance


def _posterior_figure(reference: Callable[..., Any]) -> Any:
    x0, t = figures.digits(4)[3:], 300
    x = add_noise(x0, figures.noise(1, 1, 16, 16), LINEAR(t))
    times = [290, 200, 100, 0]
    means = [reference(x0, x, **_pair(LINEAR, t, next_t))[0][0] for next_t in times]
    titles = ["x₀", f"x, t = {t}", *(f"mean, {next_t}" for next_t in times)]
    return figures.strip([x0[0], x[0], *means], titles)


POSTERIOR = Exercise(
    id="03.1",
    name="posterior_mean_var",
    title="Where did it come from?",
    kind="reproduce",
    difficulty=2,
    minutes=12,
    reference=posterior_mean_var,
    cases=[
        Case("two pictures, from t to t − 1", _ends(linear, (200, 400), (1, 1), 2, 1, 8, 6)),
        Case("two colour pictures, a large step", _ends(cosine, (550, 700), (300, 450), 2, 3, 6, 8)),
        Case("the last step, from t < 100 to the data", _ends(linear, (30, 90), (100, 100), 5, 2)),
        Case("seven points in the plane, mostly noise", _ends(cosine, (800, 950), (100, 250), 7, 2)),
    ],
    misconceptions=[
        Misconception(
            "factors-swapped",
            _posterior_with(
                on_x0=lambda a, n, b: (1 - b).sqrt() * (1 - n) / (1 - a),
                on_x=lambda a, n, b: n.sqrt() * b / (1 - a),
            ),
            "The two factors of the mean are swapped. After a small step x_next is still close to x, so x "
            "has the factor near 1, and x0 the small one with β in it.",
            about="swap",
        ),
        Misconception(
            "forward-variance",
            _posterior_with(variance=lambda a, n, b: b),
            "The mean is right. As variance you returned β, that of the step forward. Knowing x0 as well "
            "makes you more certain: β̃ = β·(1 − ᾱ_next)/(1 − ᾱ), smaller than β, and 0 on the step to "
            "the data.",
            about="formula",
        ),
        Misconception(
            "std-for-variance",
            _posterior_with(variance=lambda a, n, b: ((1 - n) / (1 - a) * b).sqrt()),
            "The mean is right, but you returned the standard deviation √β̃. The variance was asked for, "
            "without the root.",
            about="root",
        ),
        Misconception(
            "now-for-next",
            _posterior_with(on_x0=lambda a, n, b: a.sqrt() * b / (1 - a)),
            "In the factor of x0 you took √ᾱ of where we stand. It is √ᾱ_next, that of where we go: test it "
            "on the step to the data, where the mean must be x0 itself.",
            about="level",
        ),
        Misconception(
            "no-root-on-the-kept-share",
            _posterior_with(on_x=lambda a, n, b: (1 - b) * (1 - n) / (1 - a)),
            "In the factor of x you took 1 − β. The chain scales a picture by the root, √(1 − β): 1 − β is "
            "what happens to its variance.",
            about="root",
        ),
        Misconception(
            "beta-of-the-whole-way",
            _posterior_with(beta=lambda a, n: 1 - a),
            "Your β is 1 − ᾱ, the noise of the whole way from the data. Here it is that of this one step: "
            "1 − β = ᾱ/ᾱ_next, the share that the step keeps.",
            about="level",
        ),
        Misconception(
            "x-forgotten",
            _posterior_with(
                on_x0=lambda a, n, b: n.sqrt(),
                on_x=lambda a, n, b: torch.zeros_like(a),
                variance=lambda a, n, b: 1 - n,
            ),
            "This is q(x_next | x0), the jump from the data, as if x were not known. But x lies on the same "
            "chain, only a step away, and says a lot: weigh both ends.",
            about="missing",
        ),
        Misconception(
            "ratio-upside-down",
            _posterior_with(variance=lambda a, n, b: (1 - a) / (1 - n) * b),
            "The mean is right, but the ratio in the variance is upside down. β̃ is smaller than β: the "
            "smaller number, 1 − ᾱ_next, goes on top. On the step to the data yours divides by 0.",
            about="swap",
        ),
        Misconception(
            "log-variance",
            _posterior_with(variance=lambda a, n, b: ((1 - n) / (1 - a) * b).log()),
            "The mean is right, but you returned the logarithm of the variance, as some code keeps it. "
            "Asked is the variance itself; on the step to the data it is 0, and its logarithm is not finite.",
            about="formula",
        ),
        Misconception(
            "denominator-forgotten",
            _posterior_with(
                on_x0=lambda a, n, b: n.sqrt() * b, on_x=lambda a, n, b: (1 - b).sqrt() * (1 - n)
            ),
            "The variance is right. In the mean both factors are to be divided by 1 − ᾱ: only then is it x0 "
            "on the step to the data.",
            about="missing",
        ),
        Misconception(
            "no-root-on-the-next-share",
            _posterior_with(on_x0=lambda a, n, b: n * b / (1 - a)),
            "In the factor of x0 you took ᾱ_next. The picture is turned down by the root, √ᾱ_next.",
            about="root",
        ),
        Misconception(
            "noise-of-now-on-x",
            _posterior_with(on_x=lambda a, n, b: (1 - b).sqrt()),
            "The factor of x lacks (1 − ᾱ_next)/(1 − ᾱ), the share of the noise that is left. On the step "
            "to the data it is 0, for there x has no say any more.",
            about="missing",
        ),
        Misconception(
            "kept-for-beta",
            _posterior_with(on_x0=lambda a, n, b: n.sqrt() * (1 - b) / (1 - a)),
            "In the factor of x0 you took ᾱ/ᾱ_next, the share that the step keeps. It is β = 1 − ᾱ/ᾱ_next "
            "there.",
            about="factor",
        ),
        Misconception(
            "levels-swapped",
            lambda x0, x, alpha_bar, alpha_bar_next: _posterior_with()(x0, x, alpha_bar_next, alpha_bar),
            "The two levels have changed places. alpha_bar is where x is, and alpha_bar_next the cleaner "
            "level, with the larger ᾱ.",
            about="swap",
        ),
        Misconception(
            "variance-without-beta",
            _posterior_with(variance=lambda a, n, b: (1 - n) / (1 - a)),
            "The mean is right. The variance lacks its β: (1 − ᾱ_next)/(1 − ᾱ) alone is the share of β that "
            "is left.",
            about="missing",
        ),
        Misconception(
            "negative-beta",
            _posterior_with(beta=lambda a, n: 1 - n / a),
            "Your β is below 0: its ratio is upside down. What the step keeps is 1 − β = ᾱ/ᾱ_next, below 1, "
            "for ᾱ_next is the larger one.",
            about="swap",
        ),
        Misconception(
            "kept-share-forgotten",
            _posterior_with(on_x=lambda a, n, b: (1 - n) / (1 - a)),
            "The factor of x lacks √(1 − β), the factor with which the step forward scales a picture.",
            about="missing",
        ),
        Misconception(
            "whole-way-on-x",
            _posterior_with(on_x=lambda a, n, b: a.sqrt() * (1 - n) / (1 - a)),
            "In the factor of x you took √ᾱ, of the whole way from the data. What Ho et al. call α_t is "
            "that of one step: √(1 − β) = √(ᾱ/ᾱ_next).",
            about="level",
        ),
        Misconception(
            "mean-of-ddim",
            _without_a_draw,
            "The variance is right. Your mean is the step that draws nothing: it keeps the noise of x at "
            "full strength, √(1 − ᾱ_next). The posterior's mean weighs x0 and x by how much noise lies on "
            "each side.",
            about="formula",
        ),
        Misconception(
            "difference-for-beta",
            _posterior_with(beta=lambda a, n: n - a),
            "Your β is ᾱ_next − ᾱ. What a step keeps is a ratio: 1 − β = ᾱ/ᾱ_next.",
            about="formula",
        ),
        Misconception(
            "no-roots",
            _posterior_with(
                on_x0=lambda a, n, b: n * b / (1 - a), on_x=lambda a, n, b: (1 - b) * (1 - n) / (1 - a)
            ),
            "Both factors of the mean lack a root. ᾱ_next and 1 − β are shares of the variance; a picture is "
            "scaled by √ᾱ_next and √(1 − β).",
            about="root",
        ),
        Misconception(
            "forward-variance-at-the-end",
            _posterior_with(variance=lambda a, n, b: b if n == 1 else (1 - n) / (1 - a) * b),
            "On the step to the data you return another variance. The formula gives 0 there by itself: "
            "x_next is x0.",
            about="boundary",
        ),
    ],
    alternatives=[_posterior_with(), _by_precision],
    hints=(
        "Think of a string that is held at both ends: at the data x0 and at x. The point x_next lies between "
        "them, near x if the step is small, and how far it can swing depends on how much noise lies on each "
        "side.",
        "With 1 − β = ᾱ/ᾱ_next: μ̃ = (√ᾱ_next·β·x0 + √(1 − β)·(1 − ᾱ_next)·x) / (1 − ᾱ), and "
        "β̃ = β·(1 − ᾱ_next)/(1 − ᾱ).",
        "Three lines: `beta = 1 - …`, then `mean = (… * x0 + … * x) / (…)`, then `return mean, …`. Try "
        "alpha_bar_next = 1: the mean must be x0 and the variance 0.",
    ),
    figure=_posterior_figure,
    figure_alt="A digit 3; the same under noise at t = 300; and the posterior means at t = 290, 200, 100 and "
    "0: still nearly the noisy picture, then clearer, at last the digit itself.",
)


# 03.2 x0 from eps -----------------------------------------------------------------------------------


def x0_from_eps(x: Tensor, eps: Tensor, alpha_bar: Tensor) -> Tensor:
    """The picture that, with this noise, gives x."""
    return EPSILON.solve(eps, x, _level(alpha_bar)).x0


def _noisy(betas: Betas, t: tuple[int, int], *shape: int) -> Make:
    """The noise is a guess that is somewhat off, so that x₀ lies beyond ±1 as well."""

    def make(g: torch.Generator) -> dict[str, Any]:
        x0, noise = data(g, *shape), normal(g, *shape)
        alpha_bar = DiscreteVP(betas(g)).alphas_cumprod[whole(g, *t)].clone()
        x = add_noise(x0, noise, _level(alpha_bar))
        return {"x": x, "eps": noise + 0.3 * normal(g, *shape), "alpha_bar": alpha_bar}

    return make


def _x0_figure(reference: Callable[..., Tensor]) -> Any:
    x0, eps = figures.digits(6)[5:], figures.noise(1, 1, 16, 16)
    guess = eps + 0.1 * figures.noise(1, 1, 16, 16, seed=1)
    times = [100, 300, 500, 700]
    noisy = [add_noise(x0, eps, LINEAR(t)) for t in times]
    pictures = [reference(x, guess, LINEAR.alphas_cumprod[t])[0] for t, x in zip(times, noisy, strict=True)]
    return figures.strip([x0[0], *pictures], ["x₀", *(f"from t = {t}" for t in times)])


X0_FROM_EPS = Exercise(
    id="03.2",
    name="x0_from_eps",
    title="From the noise to the picture",
    kind="implement",
    difficulty=1,
    minutes=5,
    reference=x0_from_eps,
    cases=[
        Case("two pictures, some noise", _noisy(linear, (150, 300), 2, 1, 8, 6)),
        Case("two colour pictures, little noise", _noisy(cosine, (40, 90), 2, 3, 6, 8)),
        Case("two pictures, next to nothing but noise", _noisy(linear, (900, 960), 2, 1, 5, 4)),
        Case("seven points in the plane", _noisy(cosine, (400, 600), 7, 2)),
    ],
    misconceptions=[
        Misconception(
            "variance-for-std",
            lambda x, eps, alpha_bar: (x - (1 - alpha_bar) * eps) / alpha_bar.sqrt(),
            "You took 1 − ᾱ of the noise away. That is a variance; the forward process added √(1 − ᾱ) times "
            "the noise, so that is what has to go.",
            about="root",
        ),
        Misconception(
            "not-scaled-back",
            lambda x, eps, alpha_bar: x - (1 - alpha_bar).sqrt() * eps,
            "You took the noise away and stopped. What is left is √ᾱ·x0, the picture turned down: divide by "
            "√ᾱ.",
            about="missing",
        ),
        Misconception(
            "divided-by-alpha-bar",
            lambda x, eps, alpha_bar: (x - (1 - alpha_bar).sqrt() * eps) / alpha_bar,
            "You divided by ᾱ. The picture was turned down by the root, √ᾱ.",
            about="root",
        ),
        Misconception(
            "noise-added",
            lambda x, eps, alpha_bar: (x + (1 - alpha_bar).sqrt() * eps) / alpha_bar.sqrt(),
            "You added the noise once more. It is in x already and has to be taken away.",
            about="sign",
        ),
        Misconception(
            "only-the-picture-divided",
            lambda x, eps, alpha_bar: x / alpha_bar.sqrt() - (1 - alpha_bar).sqrt() * eps,
            "Only x was divided by √ᾱ, not the noise. Solve x = √ᾱ·x0 + √(1 − ᾱ)·ε for x0: the whole "
            "difference is divided.",
            about="order",
        ),
        Misconception(
            "one-minus-the-root",
            lambda x, eps, alpha_bar: (x - (1 - alpha_bar.sqrt()) * eps) / alpha_bar.sqrt(),
            "You took 1 − √ᾱ times the noise away. It is √(1 − ᾱ), the root of the whole difference.",
            about="root",
        ),
        Misconception(
            "multiplied-back",
            lambda x, eps, alpha_bar: (x - (1 - alpha_bar).sqrt() * eps) * alpha_bar.sqrt(),
            "You multiplied by √ᾱ, which turns the picture down a second time. Divide by it.",
            about="direction",
        ),
        Misconception(
            "no-roots",
            lambda x, eps, alpha_bar: (x - (1 - alpha_bar) * eps) / alpha_bar,
            "You used 1 − ᾱ and ᾱ as the factors. They are shares of the variance; the factors are their "
            "roots.",
            about="root",
        ),
        Misconception(
            "factors-swapped",
            lambda x, eps, alpha_bar: (x - alpha_bar.sqrt() * eps) / (1 - alpha_bar).sqrt(),
            "The two factors are swapped: √(1 − ᾱ) belongs to the noise, and what is left is divided by √ᾱ.",
            about="swap",
        ),
        Misconception(
            "noise-at-full-strength",
            lambda x, eps, alpha_bar: (x - eps) / alpha_bar.sqrt(),
            "You took the noise away at full strength. The forward process added √(1 − ᾱ)·ε: that is what "
            "has to go.",
            about="missing",
        ),
        Misconception(
            "divided-by-the-noise-factor",
            lambda x, eps, alpha_bar: (x - (1 - alpha_bar).sqrt() * eps) / (1 - alpha_bar).sqrt(),
            "You divided by √(1 − ᾱ), the factor of the noise. What is left is √ᾱ·x0: divide by √ᾱ.",
            about="factor",
        ),
        Misconception(
            "turned-round",
            lambda x, eps, alpha_bar: ((1 - alpha_bar).sqrt() * eps - x) / alpha_bar.sqrt(),
            "The sign is turned round: x0 is what is left of x when the noise is taken away, x − √(1 − ᾱ)·ε, "
            "divided by √ᾱ.",
            about="sign",
        ),
        Misconception(
            "noised-once-more",
            lambda x, eps, alpha_bar: alpha_bar.sqrt() * x + (1 - alpha_bar).sqrt() * eps,
            "This is the way up: you noised x once more. Solve x = √ᾱ·x0 + √(1 − ᾱ)·ε for x0.",
            about="direction",
        ),
        Misconception(
            "clipped",
            lambda x, eps, alpha_bar: x0_from_eps(x, eps, alpha_bar).clamp(-1, 1),
            "You cut the result to [−1, 1]. Samplers may do that later; asked is what x and eps say as they "
            "stand, and a wrong guess of the noise does lead beyond the range.",
            about="extra",
        ),
        Misconception(
            "only-the-noise-divided",
            lambda x, eps, alpha_bar: x - (1 - alpha_bar).sqrt() * eps / alpha_bar.sqrt(),
            "Only the noise was divided by √ᾱ, not x: the division comes before the difference. Put "
            "brackets round x − √(1 − ᾱ)·ε.",
            about="order",
        ),
        Misconception(
            "score",
            lambda x, eps, alpha_bar: -eps / (1 - alpha_bar).sqrt(),
            "That is the score, −ε/√(1 − ᾱ). Asked is the picture: solve x = √ᾱ·x0 + √(1 − ᾱ)·ε for x0.",
            about="reading",
        ),
        Misconception(
            "half-for-root",
            lambda x, eps, alpha_bar: (x - (1 - alpha_bar) / 2 * eps) / (alpha_bar / 2),
            "You have halves where roots belong: a ** 1 / 2 is a/2, for the power comes before the "
            "division. A root is a ** 0.5 or a.sqrt().",
            about="root",
        ),
        Misconception(
            "noise-brought-to-variance-1",
            lambda x, eps, alpha_bar: x0_from_eps(x, (eps - eps.mean()) / eps.std(), alpha_bar),
            "You brought the noise to mean 0 and variance 1 first. It is used as it comes: another noise "
            "belongs to another picture.",
            about="extra",
        ),
        Misconception(
            "noise-not-divided",
            lambda x, eps, alpha_bar: x / alpha_bar.sqrt() - eps,
            "You divided x by √ᾱ and took all of the noise away. The noise in x was divided along with it: "
            "its factor is √(1 − ᾱ)/√ᾱ.",
            about="factor",
        ),
        Misconception(
            "noise-divided-twice",
            lambda x, eps, alpha_bar: x / alpha_bar.sqrt() - (1 - alpha_bar).sqrt() / alpha_bar * eps,
            "x is divided by √ᾱ, as it should be, but the noise by ᾱ. The whole difference is divided by √ᾱ.",
            about="root",
        ),
        Misconception(
            "ratio-without-a-root",
            lambda x, eps, alpha_bar: x / alpha_bar.sqrt() - (1 / alpha_bar - 1) * eps,
            "In x/√ᾱ − √(1/ᾱ − 1)·ε you left out the root over 1/ᾱ − 1.",
            about="root",
        ),
    ],
    alternatives=[
        lambda x, eps, alpha_bar: (x - (1 - alpha_bar).sqrt() * eps) / alpha_bar.sqrt(),
        lambda x, eps, alpha_bar: x / math.sqrt(alpha_bar) - ((1 - alpha_bar) / alpha_bar) ** 0.5 * eps,
    ],
    hints=(
        "x was made from two parts, picture and noise. If you know x and one part, you know the other.",
        "x = √ᾱ·x₀ + √(1 − ᾱ)·ε. Solve this for x₀.",
        "One line: `return (x - … * eps) / …`.",
    ),
    figure=_x0_figure,
    figure_alt="A digit 5, and what the right formula gives for it from t = 100, 300, 500 and 700 where ε is "
    "a tenth off: nearly clean, a little grainy, grainy, drowned. The division makes the error larger and "
    "larger.",
)


# 03.3 The ancestral step ----------------------------------------------------------------------------


def ancestral_step(x: Tensor, x0: Tensor, alpha_bar: Tensor, alpha_bar_next: Tensor, noise: Tensor) -> Tensor:
    """A draw from the posterior, with a guess in the place of x0."""
    mean, variance = posterior_mean_var(x0, x, alpha_bar, alpha_bar_next)
    return mean + variance.sqrt() * noise


def _package_step(x: Tensor, x0: Tensor, alpha_bar: Tensor, alpha_bar_next: Tensor, noise: Tensor) -> Tensor:
    return ddpm_step(x, Estimate(x0, noise), _level(alpha_bar), _level(alpha_bar_next), noise)


def _step(betas: Betas, t: tuple[int, int], step: tuple[int, int], *shape: int) -> Make:
    """The guess lies beyond ±1 as well."""
    return lambda g: {
        "x": normal(g, *shape),
        "x0": data(g, *shape) + 0.3 * normal(g, *shape),
        **_drawn_pair(g, betas, t, step),
        "noise": normal(g, *shape),
    }


def _stepped(
    made: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor], around: str = "mean"
) -> Callable[..., Tensor]:
    """A step with the factor of the noise made from (β̃, β, ᾱ, ᾱ_next), around the mean, x or x0."""

    def step(x: Tensor, x0: Tensor, alpha_bar: Tensor, alpha_bar_next: Tensor, noise: Tensor) -> Tensor:
        mean, variance = posterior_mean_var(x0, x, alpha_bar, alpha_bar_next)
        factor = made(variance, 1 - alpha_bar / alpha_bar_next, alpha_bar, alpha_bar_next)
        return {"mean": mean, "x": x, "x0": x0}[around] + factor * noise

    return step


def _around_ddim(x: Tensor, x0: Tensor, alpha_bar: Tensor, alpha_bar_next: Tensor, noise: Tensor) -> Tensor:
    mean, variance = _without_a_draw(x0, x, alpha_bar, alpha_bar_next)
    return mean + variance.sqrt() * noise


def _renoised(x: Tensor, x0: Tensor, alpha_bar: Tensor, alpha_bar_next: Tensor, noise: Tensor) -> Tensor:
    return alpha_bar_next.sqrt() * x0 + (1 - alpha_bar_next).sqrt() * noise


def _ends_swapped(x: Tensor, x0: Tensor, alpha_bar: Tensor, alpha_bar_next: Tensor, noise: Tensor) -> Tensor:
    return ancestral_step(x0, x, alpha_bar, alpha_bar_next, noise)


def _one_noise_removed(
    x: Tensor, x0: Tensor, alpha_bar: Tensor, alpha_bar_next: Tensor, noise: Tensor
) -> Tensor:
    """The mean written with ε, as Ho et al. do in algorithm 2."""
    keep = alpha_bar / alpha_bar_next
    eps = (x - alpha_bar.sqrt() * x0) / (1 - alpha_bar).sqrt()
    mean = (x - (1 - keep) / (1 - alpha_bar).sqrt() * eps) / keep.sqrt()
    return mean + ((1 - keep) * (1 - alpha_bar_next) / (1 - alpha_bar)).sqrt() * noise


def _ancestral_figure(reference: Callable[..., Tensor]) -> Any:
    x0, x = figures.digits(8)[7:], figures.noise(1, 1, 16, 16)
    times, shown = list(range(1000, -1, -25)), []
    for place, (t, next_t) in enumerate(pairwise(times)):
        if t in (1000, 500, 200, 100, 50):
            shown.append((f"t = {t}", x[0]))
        x = reference(x, x0, **_pair(LINEAR, t, next_t), noise=figures.noise(1, 1, 16, 16, seed=place + 1))
    shown.append(("t = 0", x[0]))
    return figures.strip([picture for _, picture in shown], [title for title, _ in shown])


ANCESTRAL_STEP = Exercise(
    id="03.3",
    name="ancestral_step",
    title="One ancestral step",
    kind="implement",
    difficulty=2,
    minutes=8,
    reference=ancestral_step,
    builds_on=[POSTERIOR],
    cases=[
        Case("two pictures, a small step", _step(linear, (200, 400), (10, 30), 2, 1, 8, 6)),
        Case("two colour pictures, a large step", _step(cosine, (600, 750), (300, 450), 2, 3, 6, 8)),
        Case("the last step, from t < 100 to the data", _step(linear, (30, 90), (100, 100), 2, 1, 5, 4)),
        Case("two pictures, to t < 5, nearly the data", _step(linear, (41, 42), (38, 40), 2, 1, 4, 5)),
        Case("seven points in the plane, half-way", _step(cosine, (450, 550), (80, 150), 7, 2)),
    ],
    misconceptions=[
        Misconception(
            "variance-for-std",
            _stepped(lambda small, beta, a, n: small),
            "You multiplied the noise by the variance. c·noise has variance c², so the factor is the root of "
            "the variance that posterior_mean_var returns.",
            about="root",
        ),
        Misconception(
            "no-noise",
            _stepped(lambda small, beta, a, n: torch.zeros_like(small)),
            "You returned the mean. A step is a *draw* from the Gaussian: mean + standard deviation · noise. "
            "What becomes of samples without the noise is the question of exercise 03.5.",
            about="missing",
        ),
        Misconception(
            "forward-variance",
            _stepped(lambda small, beta, a, n: beta.sqrt()),
            "The mean is right, and your noise has variance β, that of the step forward. Here it is the "
            "posterior's own β̃, the second value that posterior_mean_var returns. (β is another sampler; "
            "you meet it in exercise 03.4.)",
            about="formula",
        ),
        Misconception(
            "noised-afresh",
            _renoised,
            "You went to x0 and noised that afresh. Then the step forgets x: each picture keeps its guess "
            "and nothing else. Draw around the posterior's mean, which weighs x0 and x.",
            about="formula",
        ),
        Misconception(
            "around-x",
            _stepped(lambda small, beta, a, n: small.sqrt(), around="x"),
            "You added the noise to x itself. Noise is added to the posterior's mean, which lies a little "
            "nearer to the picture than x.",
            about="input",
        ),
        Misconception(
            "around-x0",
            _stepped(lambda small, beta, a, n: small.sqrt(), around="x0"),
            "You added the noise to x0. That jumps to the end at once; one step goes to the posterior's "
            "mean, which is still close to x.",
            about="input",
        ),
        Misconception(
            "ends-swapped",
            _ends_swapped,
            "x0 and x have changed places in the call: posterior_mean_var(x0, x, …) takes the clean picture "
            "first, ancestral_step(x, x0, …) the noisy one.",
            about="swap",
        ),
        Misconception(
            "noise-subtracted",
            _stepped(lambda small, beta, a, n: -small.sqrt()),
            "You subtracted the noise. That is as good a draw, since −noise is as likely as noise; but to "
            "compare numbers the check needs mean + std · noise, as everybody writes it.",
            about="sign",
        ),
        Misconception(
            "noise-at-full-strength",
            _stepped(lambda small, beta, a, n: torch.ones_like(small)),
            "You added the noise at full strength. Its factor is the standard deviation of the posterior: "
            "the root of the variance that posterior_mean_var returns.",
            about="missing",
        ),
        Misconception(
            "variance-squared",
            _stepped(lambda small, beta, a, n: small**2),
            "You squared the variance. The factor of the noise is the standard deviation, the *root* of the "
            "variance.",
            about="root",
        ),
        Misconception(
            "noise-of-the-next-level",
            _stepped(lambda small, beta, a, n: (1 - n).sqrt()),
            "The mean is right, and your noise is that of the whole next level, √(1 − ᾱ_next). The mean "
            "holds most of it already: what is added is only the posterior's own, √β̃.",
            about="level",
        ),
        Misconception(
            "noise-of-this-level",
            _stepped(lambda small, beta, a, n: (1 - a).sqrt()),
            "The mean is right, and your noise is that of the whole level of x, √(1 − ᾱ). What is added is "
            "only the posterior's own, √β̃, the root of what posterior_mean_var returns second.",
            about="level",
        ),
        Misconception(
            "guess-clipped",
            lambda x, x0, alpha_bar, alpha_bar_next, noise: ancestral_step(
                x, x0.clamp(-1, 1), alpha_bar, alpha_bar_next, noise
            ),
            "You cut the guess to [−1, 1]. Samplers may do that before they call you; here the guess is "
            "used as it comes.",
            about="extra",
        ),
        Misconception(
            "levels-swapped",
            lambda x, x0, alpha_bar, alpha_bar_next, noise: _stepped(lambda small, beta, a, n: small.sqrt())(
                x, x0, alpha_bar_next, alpha_bar, noise
            ),
            "The two levels have changed places in the call: alpha_bar is where x is, alpha_bar_next where "
            "the step leads.",
            about="swap",
        ),
        Misconception(
            "kicked-by-eps",
            lambda x, x0, alpha_bar, alpha_bar_next, noise: (
                alpha_bar_next.sqrt() * x0
                + (1 - alpha_bar_next).sqrt() * (x - alpha_bar.sqrt() * x0) / (1 - alpha_bar).sqrt()
            ),
            "This is a step without any draw, with the noise that x holds already: DDIM, of lesson 8. Here "
            "the step is a draw around the posterior's mean.",
            about="formula",
        ),
        Misconception(
            "noise-before-the-mean",
            lambda x, x0, alpha_bar, alpha_bar_next, noise: posterior_mean_var(
                x0,
                x + posterior_mean_var(x0, x, alpha_bar, alpha_bar_next)[1].sqrt() * noise,
                alpha_bar,
                alpha_bar_next,
            )[0],
            "You put the noise into x, before the mean is taken, and the mean turns it down. It is added "
            "last: mean + std·noise.",
            about="order",
        ),
        Misconception(
            "forward-variance-but-at-the-end",
            _stepped(lambda small, beta, a, n: beta.sqrt() * (n < 1)),
            "Your noise has the variance β of the step forward, and none on the step to the data. This step "
            "draws from the posterior: β̃, from posterior_mean_var, which is 0 there by itself.",
            about="formula",
        ),
        Misconception(
            "draw-around-the-step-without-one",
            _around_ddim,
            "You added the noise to the step that draws nothing, which keeps all of the noise in x: the "
            "result is noisier than its level. It is added to the posterior's mean.",
            about="formula",
        ),
    ],
    alternatives=[
        _stepped(lambda small, beta, a, n: small**0.5),
        _stepped(lambda small, beta, a, n: (beta * (1 - n) / (1 - a)).sqrt()),
        _one_noise_removed,
        _package_step,
    ],
    hints=(
        "You have all of it: exercise 03.1 gives a mean and a variance. What remains is to draw from that "
        "Gaussian, with the guess in the place of the true x0.",
        "x_next = μ̃(x̂₀, x) + √β̃ · noise.",
        "Two lines: `mean, variance = posterior_mean_var(…)`, then `return mean + … * noise`.",
    ),
    figure=_ancestral_figure,
    figure_alt="Forty ancestral steps where the guess is always the same true digit 7: pure noise at t = "
    "1000, still nothing to see at 500, a grainy 7 at 200, a clear one at 50, exactly the digit at 0.",
)


# 03.4 Debug: noise at the last step -----------------------------------------------------------------


def walk_back(
    predict_x0: Callable[[Tensor, int], Tensor], x: Tensor, noises: Tensor, alpha_bars: Tensor
) -> Tensor:
    """All steps back to the data, with the larger variance."""
    for i, noise in enumerate(noises):
        mean, _ = posterior_mean_var(predict_x0(x, i), x, alpha_bars[i], alpha_bars[i + 1])
        last = i == len(noises) - 1
        x = mean if last else mean + (1 - alpha_bars[i] / alpha_bars[i + 1]).sqrt() * noise
    return x


def _package_walk(
    predict_x0: Callable[[Tensor, int], Tensor], x: Tensor, noises: Tensor, alpha_bars: Tensor
) -> Tensor:
    for i, noise in enumerate(noises):
        guess = Estimate(predict_x0(x, i), noise)
        x = ddpm_step(x, guess, _level(alpha_bars[i]), _level(alpha_bars[i + 1]), noise, "large")
    return x


def _walk(answer: Callable[..., Tensor], x: Tensor, noises: Tensor, alpha_bars: Tensor) -> Tensor:
    """With the exact guess for data from N(0, ½²)."""
    gain = (alpha_bars.sqrt() / (4 - 3 * alpha_bars)).to(x.dtype)
    return answer(lambda x, i: gain[i] * x, x, noises, alpha_bars)


def _back(betas: Betas, steps: tuple[int, int], *shape: int) -> Make:
    """So many even steps from T."""

    def make(g: torch.Generator) -> dict[str, Any]:
        path, n = DiscreteVP(betas(g)), whole(g, *steps)
        return _chain_of(g, path, [round(path.T * k / n) for k in range(n, -1, -1)], *shape)

    return make


def _chain_of(g: torch.Generator, path: DiscreteVP, times: list[int], *shape: int) -> dict[str, Any]:
    return {
        "x": normal(g, *shape),
        "noises": normal(g, len(times) - 1, *shape),
        "alpha_bars": path.alphas_cumprod[times],
    }


def _back_unevenly(g: torch.Generator) -> dict[str, Any]:
    times = falling(g, whole(g, 4, 7), 60, 900, apart=40)
    return _chain_of(g, DiscreteVP(linear(g)), [*times, whole(g, 5, 15), 0], 5, 2)


def _walked(
    noisy: Callable[[int, int], bool], small: bool = False, steps: Callable[[int], int] = lambda n: n
) -> Callable[..., Tensor]:
    """A walk that adds noise at step i of n where noisy(i, n), and takes steps(n) steps."""

    def walk(
        predict_x0: Callable[[Tensor, int], Tensor], x: Tensor, noises: Tensor, alpha_bars: Tensor
    ) -> Tensor:
        n = len(noises)
        for i in range(steps(n)):
            mean, variance = posterior_mean_var(predict_x0(x, i), x, alpha_bars[i], alpha_bars[i + 1])
            if not small:
                variance = 1 - alpha_bars[i] / alpha_bars[i + 1]
            x = mean + variance.sqrt() * noises[i] if noisy(i, n) else mean
        return x

    return walk


def _changed_noise(change: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """The right walk with another strength of its noise."""

    def walk(
        predict_x0: Callable[[Tensor, int], Tensor], x: Tensor, noises: Tensor, alpha_bars: Tensor
    ) -> Tensor:
        for i, (now, then) in enumerate(pairwise(alpha_bars)):
            std = change((1 - now / then).sqrt()) if i < len(noises) - 1 else 0.0
            x = posterior_mean_var(predict_x0(x, i), x, now, then)[0] + std * noises[i]
        return x

    return walk


def _clamped(
    predict_x0: Callable[[Tensor, int], Tensor], x: Tensor, noises: Tensor, alpha_bars: Tensor
) -> Tensor:
    return _walked(lambda i, n: True)(predict_x0, x, noises, alpha_bars).clamp(-1, 1)


def _same_noise(
    predict_x0: Callable[[Tensor, int], Tensor], x: Tensor, noises: Tensor, alpha_bars: Tensor
) -> Tensor:
    return walk_back(predict_x0, x, noises[:1].expand_as(noises), alpha_bars)


def _guess_at_the_end(
    predict_x0: Callable[[Tensor, int], Tensor], x: Tensor, noises: Tensor, alpha_bars: Tensor
) -> Tensor:
    last = len(noises) - 1
    x = _walked(lambda i, n: True, steps=lambda n: n - 1)(predict_x0, x, noises, alpha_bars)
    return predict_x0(x, last)


def _one_more_guess(
    predict_x0: Callable[[Tensor, int], Tensor], x: Tensor, noises: Tensor, alpha_bars: Tensor
) -> Tensor:
    return predict_x0(_walked(lambda i, n: True)(predict_x0, x, noises, alpha_bars), len(noises) - 1)


def _factor_zero_at_the_end(
    predict_x0: Callable[[Tensor, int], Tensor], x: Tensor, noises: Tensor, alpha_bars: Tensor
) -> Tensor:
    for i, (now, then) in enumerate(pairwise(alpha_bars)):
        factor = (1 - now / then) ** 0.5 * (then < 1)
        x = posterior_mean_var(predict_x0(x, i), x, now, then)[0] + factor * noises[i]
    return x


def _walk_back_figure(reference: Callable[..., Tensor]) -> Any:
    x0, n = figures.digits(10)[[2, 5, 6]], 10
    alpha_bars = torch.stack([level.alpha**2 for level in LINEAR.levels(n)])
    noises, x = figures.noise(n, 3, 1, 16, 16), figures.noise(3, 1, 16, 16, seed=1)
    planted, right = (
        walk(lambda x, i: 0.9 * x0, x, noises, alpha_bars) for walk in (_walked(lambda i, n: True), reference)
    )
    return figures.strip([*planted, *right], ["with the bug", "", "", "mended", "", ""])


def _with_std(std: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """A walk that adds noise of strength std(ᾱ, ᾱ_next) in every step."""

    def walk(
        predict_x0: Callable[[Tensor, int], Tensor], x: Tensor, noises: Tensor, alpha_bars: Tensor
    ) -> Tensor:
        for i, (now, then) in enumerate(pairwise(alpha_bars)):
            x = posterior_mean_var(predict_x0(x, i), x, now, then)[0] + std(now, then) * noises[i]
        return x

    return walk


WALK_BACK = Exercise(
    id="03.4",
    name="walk_back",
    title="The grainy samples",
    kind="debug",
    difficulty=2,
    minutes=10,
    reference=walk_back,
    builds_on=[POSTERIOR],
    call=_walk,
    cases=[
        Case("two pictures, some ten steps", _back(linear, (9, 13), 2, 1, 8, 6)),
        Case("two colour pictures, a few large steps", _back(cosine, (3, 5), 2, 3, 6, 5)),
        Case("five points in the plane, uneven steps, not from T, small at the end", _back_unevenly),
        Case("a single step from noise to data", _back(linear, (1, 1), 2, 1, 4, 6)),
    ],
    planted="noise-at-the-last-step",
    misconceptions=[
        Misconception(
            "noise-at-the-last-step",
            _walked(lambda i, n: True),
            "The last step adds noise too, and no later step takes it away again: it stays in the picture "
            "as grain. The step to the data returns its mean.",
            about="extra",
        ),
        Misconception(
            "no-noise-at-all",
            _walked(lambda i, n: False),
            "You took the noise out of every step. The grain is gone, and with it the draw; what that does "
            "to the samples is the question of exercise 03.5. Only the last step does without noise.",
            about="missing",
        ),
        Misconception(
            "smaller-variance",
            _walked(lambda i, n: True, small=True),
            "You replaced the variance by the posterior's β̃. That ends the grain, for β̃ is 0 at the data, "
            "and it is a sound sampler: your ancestral_step. But this loop keeps the larger variance in "
            "its other steps. Leave `std` as it is, and leave only the last noise out.",
            about="formula",
        ),
        Misconception(
            "first-noise-left-out",
            _walked(lambda i, n: i > 0),
            "You left out the noise of the first step. The list runs from noise to data: i = 0 is the "
            "noisiest step, and the one to the data is i = len(noises) − 1.",
            about="index",
        ),
        Misconception(
            "last-step-left-out",
            _walked(lambda i, n: True, steps=lambda n: n - 1),
            "You left the whole last step out, its mean too, and returned a picture that is still noisy. "
            "Take the step to the data, but return its mean.",
            about="count",
        ),
        Misconception(
            "clamped",
            _clamped,
            "You cut the result to [−1, 1]. That hides the grain on black and white and leaves it in the "
            "greys. The noise of the last step should not be added in the first place.",
            about="extra",
        ),
        Misconception(
            "last-two-without-noise",
            _walked(lambda i, n: i < n - 2),
            "You left out the noise of the last two steps. Off by one: the last index is len(noises) − 1, "
            "and only there is no noise added.",
            about="count",
        ),
        Misconception(
            "noise-at-the-first-step-alone",
            _walked(lambda i, n: i == 0),
            "Noise comes in at the first step alone. Every step draws, and only the one to the data, the "
            "last, returns its mean.",
            about="boundary",
        ),
        Misconception(
            "condition-turned",
            _walked(lambda i, n: i == n - 1),
            "The condition is turned round: noise comes in at the last step alone. It is the last step that "
            "does without, and all others that draw.",
            about="direction",
        ),
        Misconception(
            "first-and-last-without-noise",
            _walked(lambda i, n: 0 < i < n - 1),
            "The last step does without noise now, and so does the first. The first one is at the noisy "
            "end, and draws like all others but the last.",
            about="boundary",
        ),
        Misconception(
            "same-noise-every-step",
            _same_noise,
            "The last noise is gone, as it should be. But every step now draws with the same numbers: step "
            "i has its own, noises[i].",
            about="index",
        ),
        Misconception(
            "root-taken-off",
            _with_std(lambda now, then: 1 - now / then),
            "You took the root off, and the grain is only fainter: the last step still adds it. Leave `std` "
            "as it is, and leave the last noise out.",
            about="root",
        ),
        Misconception(
            "noise-of-the-whole-level",
            _with_std(lambda now, then: (1 - then).sqrt()),
            "Each step now adds all the noise of its level, √(1 − ᾱ_next). The mean holds most of it "
            "already: leave `std` as it is, and leave the last noise out.",
            about="formula",
        ),
        Misconception(
            "return-in-the-loop",
            _walked(lambda i, n: i < n - 1, steps=lambda n: 1),
            "The walk ends after its first step: the `return` stands inside the loop.",
            about="count",
        ),
        Misconception(
            "told-the-level",
            lambda predict_x0, x, noises, alpha_bars: predict_x0(x, alpha_bars[0]),
            "predict_x0 is asked with a level. It wants the number of the step: predict_x0(x, i).",
            about="input",
        ),
        Misconception(
            "told-the-next-step",
            lambda predict_x0, x, noises, alpha_bars: walk_back(
                lambda x, i: predict_x0(x, min(i + 1, len(noises) - 1)), x, noises, alpha_bars
            ),
            "The last noise is gone, as it should be. But predict_x0 is told the step after this one, and x "
            "is still at step i.",
            about="index",
        ),
        Misconception(
            "variance-for-std-in-the-steps",
            _changed_noise(lambda std: std**2),
            "The last noise is gone, as it should be. But you took the root off in the other steps: c·noise "
            "has variance c², so the factor is √β.",
            about="root",
        ),
        Misconception(
            "half-of-the-last-noise",
            _with_std(lambda now, then: (1 - now / then).sqrt() * (0.5 if then == 1 else 1.0)),
            "You made the last noise weaker. None belongs there: the last step leads to the data, and "
            "returns its mean.",
            about="factor",
        ),
        Misconception(
            "guess-clipped",
            lambda predict_x0, x, noises, alpha_bars: walk_back(
                lambda x, i: predict_x0(x, i).clamp(-1, 1), x, noises, alpha_bars
            ),
            "The last noise is gone, as it should be. But you cut the guesses to [−1, 1]: nothing asks for "
            "that here.",
            about="extra",
        ),
        Misconception(
            "noises-one-place-off",
            lambda predict_x0, x, noises, alpha_bars: walk_back(predict_x0, x, noises.roll(1, 0), alpha_bars),
            "The last noise is gone, as it should be. But the noises are one place off: step i has "
            "noises[i].",
            about="index",
        ),
        Misconception(
            "one-more-guess",
            _one_more_guess,
            "The noise of the last step stays, and you ask for one more guess to wipe it off. Leave that "
            "noise out: the last step leads to the data.",
            about="extra",
        ),
    ],
    alternatives=[_package_walk, _walked(lambda i, n: i < n - 1), _guess_at_the_end, _factor_zero_at_the_end],
    hints=(
        "Every step but one is followed by another, which takes noise away again. Follow a speck of noise "
        "that comes in at the last step.",
        "At the data ᾱ_next = 1, and x_next = μ̃ = x̂₀. There is nothing left to draw: β̃ = 0. But the "
        "larger variance, 1 − ᾱ/ᾱ_next, is not 0 there.",
        "The mean and `std` are right. Let the line that adds `std * noises[i]` depend on whether i is the "
        "last index.",
    ),
    figure=_walk_back_figure,
    figure_alt="Three digits from 10 steps, with the bug and mended: grainy on the left, clean on the right.",
)


# 03.5 Predict: the noise left out -------------------------------------------------------------------

CHOICES = (
    "like the data: the mean is the best guess in each step",
    "three clusters in the right shares, each one too tight",
    "one tiny spot: nearly all points in the same place",
    "smeared out: no clusters can be seen",
)


def without_noise() -> str:
    """Nearly all points end in the same place."""
    return CHOICES[2]


WITHOUT_NOISE = Exercise(
    id="03.5",
    name="without_noise",
    title="What if the noise is left out?",
    kind="predict",
    difficulty=2,
    minutes=4,
    reference=without_noise,
    cases=[Case("4,000 points, 50 steps, means only", lambda g: {})],
    misconceptions=[
        Misconception(
            "like-the-data",
            lambda: CHOICES[0],
            "Best in squared error is not the same as right in distribution. A step should leave the spread "
            "that its level has; its mean alone has less, by the variance of the noise that is missing.",
        ),
        Misconception(
            "too-tight",
            lambda: CHOICES[1],
            "Too tight is right, but go further back. The spread is missing at the noisy levels already, "
            "before any cluster has been chosen. If all points stand close together there, what do they "
            "choose?",
        ),
        Misconception(
            "smeared-out",
            lambda: CHOICES[3],
            "Leaving noise out takes spread away, and adds none. Samples smear out where a step adds too "
            "*much* noise.",
        ),
    ],
    alternatives=[lambda: CHOICES[2], lambda: f" {CHOICES[2].upper()} "],
    hints=(
        "Ask what happens to the spread of all points, not to one point. A draw is mean + noise, and both "
        "parts hold some of the spread.",
        "Take data from N(0, 1), where every level is N(0, 1) too. Then the mean of x_{t−1} is "
        "√(1 − β_t)·x_t. Multiply all these factors.",
        "Return one of the four texts. The product of all √(1 − β_t) is √ᾱ_T = 0.006: what is left of "
        "the spread, long before the data has clusters?",
    ),
    choices=CHOICES,
)

# 03.6 The ancestral sampler -------------------------------------------------------------------------

Guess = Callable[[Tensor, Level], Tensor]  # of the noise in x, at a level


def ancestral_sample(
    predict_eps: Guess, x: Tensor, levels: list[Level], noises: Tensor, limit: float | None = None
) -> list[Tensor]:
    """x at each level, by the functions of this lesson: their misconceptions are known here, too."""
    walk = [x]
    for now, next, noise in zip(levels[:-1], levels[1:], noises, strict=True):
        x0 = x0_from_eps(walk[-1], predict_eps(walk[-1], now), now.alpha**2)
        x0 = x0 if limit is None else x0.clamp(-limit, limit)
        walk.append(ancestral_step(walk[-1], x0, now.alpha**2, next.alpha**2, noise))
    return walk


def _package_sample(
    predict_eps: Guess, x: Tensor, levels: list[Level], noises: Tensor, limit: float | None = None
) -> list[Tensor]:
    """The package's walk with its ancestral step, and x at each level."""

    def denoiser(x: Tensor, level: Level, condition: Any = None) -> Estimate:
        x0 = EPSILON.solve(predict_eps(x, level), x, level).x0
        return Estimate.from_x0(x0 if limit is None else x0.clamp(-limit, limit), x, level)

    return [x for _, x, _ in trajectory(denoiser, x, levels, None, ddpm_step, lambda i: noises[i])]


def _sampled(
    answer: Callable[..., Any],
    betas: Tensor,
    times: list[int],
    x: Tensor,
    noises: Tensor,
    limit: float | None,
    spread: float,
) -> Any:
    """With the exact guess for pixels from N(0.2, spread²), bent a little: it is no straight line of x."""
    path = DiscreteVP(betas)

    def predict_eps(x: Tensor, level: Level) -> Tensor:
        alpha, sigma = level.like(x)
        gain = alpha * spread**2 / (alpha**2 * spread**2 + sigma**2)
        x0 = 0.2 + gain * (x - 0.2 * alpha) + 0.1 * torch.sin(2 * x)
        return (x - alpha * x0) / sigma

    return answer(predict_eps, x, [path(t) for t in times], noises, limit)


def _down(
    betas: Betas,
    steps: tuple[int, int],
    spread: float,
    limit: tuple[float, float] | None,
    *shape: int,
    end: tuple[int, int] = (0, 0),
) -> Make:
    """So many uneven steps from much noise, to data or to a level above."""

    def make(g: torch.Generator) -> dict[str, Any]:
        n = whole(g, *steps)
        return {
            "betas": betas(g),
            "times": [whole(g, 640, 700), *falling(g, n - 1, 90, 590, apart=50), whole(g, *end)],
            "x": normal(g, *shape),
            "noises": normal(g, n, *shape),
            "limit": None if limit is None else number(g, *limit),
            "spread": spread + number(g, 0.0, 0.2),
        }

    return make


def _sampler(
    guess: Callable[..., Tensor] = lambda predict, x, now, next, limit: x0_from_eps(
        x, predict(x, now), now.alpha**2
    ),
    clip: str = "x0",
    step: Callable[..., Tensor] = lambda x, x0, now, next, noise: ancestral_step(
        x, x0, now.alpha**2, next.alpha**2, noise
    ),
    noise: Callable[[Tensor, int], Tensor] = lambda noises, i: noises[i],
    pairs: Callable[[list[Level]], list[Level]] = lambda levels: levels,
    kept: Callable[[list[Tensor]], Any] = lambda walk: walk,
    from_start: bool = False,
    result: str = "x",
) -> Callable[..., Any]:
    """The walk in plain steps, with a place for each slip."""

    def answer(
        predict_eps: Guess, x: Tensor, levels: list[Level], noises: Tensor, limit: float | None = None
    ) -> Any:
        start, walk = x, [x]
        for i, (now, next) in enumerate(pairwise(pairs(levels))):
            x0 = guess(predict_eps, start if from_start else x, now, next, limit)
            if limit is not None and clip == "x0":
                x0 = x0.clamp(-limit, limit)
            x = step(start if from_start else x, x0, now, next, noise(noises, i))
            if limit is not None and clip == "x":
                x = x.clamp(-limit, limit)
            walk.append(x if result == "x" else x0)
        return kept(walk)

    return answer


def _with_factor(factor: Callable[[Tensor, Level, Level], Tensor]) -> Callable[..., Tensor]:
    """The step with another factor of its noise, made from (β̃, now, next)."""

    def step(x: Tensor, x0: Tensor, now: Level, next: Level, noise: Tensor) -> Tensor:
        mean, variance = posterior_mean_var(x0, x, now.alpha**2, next.alpha**2)
        return mean + factor(variance, now, next) * noise

    return step


def _clip_by(cut: Callable[[Tensor, float], Tensor]) -> Callable[..., Tensor]:
    """x̂₀, cut to the limit in another way."""

    def guess(predict: Guess, x: Tensor, now: Level, next: Level, limit: float | None) -> Tensor:
        x0 = x0_from_eps(x, predict(x, now), now.alpha**2)
        return x0 if limit is None else cut(x0, limit)

    return guess


def _clip_always(predict: Guess, x: Tensor, now: Level, next: Level, limit: float | None) -> Tensor:
    bound = 1.0 if limit is None else limit
    return x0_from_eps(x, predict(x, now), now.alpha**2).clamp(-bound, bound)


def _clip_to_one(predict: Guess, x: Tensor, now: Level, next: Level, limit: float | None) -> Tensor:
    x0 = x0_from_eps(x, predict(x, now), now.alpha**2)
    return x0 if limit is None else x0.clamp(-1, 1)


def _clip_at_zero(predict: Guess, x: Tensor, now: Level, next: Level, limit: float | None) -> Tensor:
    x0 = x0_from_eps(x, predict(x, now), now.alpha**2)
    return x0 if limit is None else x0.clamp(0, limit)


def _clip_eps(predict: Guess, x: Tensor, now: Level, next: Level, limit: float | None) -> Tensor:
    eps = predict(x, now)
    return x0_from_eps(x, eps if limit is None else eps.clamp(-limit, limit), now.alpha**2)


def _sampler_figure(reference: Callable[..., Any]) -> Any:
    x0, x = figures.digits(9)[8:], figures.noise(1, 1, 16, 16)
    levels = LINEAR.levels(40)

    def knows(x: Tensor, level: Level) -> Tensor:
        return Estimate.from_x0(0.9 * x0, x, level).eps

    walk = reference(knows, x, levels, figures.noise(40, 1, 1, 16, 16, seed=1), 1.0)
    shown = [0, 20, 30, 35, 38, 40]
    return figures.strip([walk[i][0] for i in shown], [f"t = {levels[i].t:.0f}" for i in shown])


ANCESTRAL_SAMPLE = Exercise(
    id="03.6",
    name="ancestral_sample",
    title="The ancestral sampler",
    kind="implement",
    difficulty=3,
    minutes=20,
    reference=ancestral_sample,
    builds_on=[POSTERIOR, X0_FROM_EPS, ANCESTRAL_STEP],
    call=_sampled,
    cases=[
        Case("two pictures, some six steps to the data", _down(linear, (5, 7), 0.5, (0.5, 0.7), 2, 1, 8, 6)),
        Case("nine points in the plane, nothing is clipped", _down(cosine, (4, 6), 0.8, None, 9, 2)),
        Case(
            "colour pictures, a list of levels that ends above data",
            _down(linear, (4, 5), 1.4, (1.1, 1.2), 2, 3, 5, 4, end=(20, 60)),
        ),
        Case("one step from noise to data", _down(linear, (1, 1), 0.7, (0.2, 0.3), 3, 1, 4, 5)),
    ],
    misconceptions=[
        Misconception(
            "only-the-last",
            _sampler(kept=lambda walk: walk[-1]),
            "You returned the last x alone. Asked is a list: x at each of the levels, the start first.",
            about="reading",
        ),
        Misconception(
            "start-left-out",
            _sampler(kept=lambda walk: walk[1:]),
            "Your list lacks the start. It has one x for each level: n + 1 of them, the noise itself first.",
            about="count",
        ),
        Misconception(
            "last-left-out",
            _sampler(kept=lambda walk: walk[:-1]),
            "Your list lacks the end. Either the last step is not taken (n + 1 levels have n steps), or x is "
            "put into the list before its step, and the last one never is.",
            about="count",
        ),
        Misconception(
            "not-clipped",
            _sampler(clip="never"),
            "Nothing is clipped in your answer. Where `limit` is given, x̂₀ is cut to [−limit, limit] before "
            "it goes into the step.",
            about="missing",
        ),
        Misconception(
            "x-clipped",
            _sampler(clip="x"),
            "You clipped x. It holds noise, which has no range: the guess x̂₀ is what is cut to the limit.",
            about="input",
        ),
        Misconception(
            "eps-clipped",
            _sampler(_clip_eps, clip="never"),
            "You clipped the guess of the noise. Noise has no range: x̂₀, the guess of the picture, is what "
            "is cut to the limit.",
            about="input",
        ),
        Misconception(
            "clipped-to-one",
            _sampler(_clip_to_one, clip="never"),
            "You clip to [−1, 1] whatever `limit` is. It is the number that is given.",
            about="input",
        ),
        Misconception(
            "clipped-at-zero",
            _sampler(_clip_at_zero, clip="never"),
            "You cut x̂₀ to [0, limit]. Its range has both signs: [−limit, limit].",
            about="input",
        ),
        Misconception(
            "eps-taken-for-x0",
            _sampler(lambda predict, x, now, next, limit: predict(x, now)),
            "You put the guess of the noise into the step as if it were x̂₀. Turn it into a picture first: "
            "x0_from_eps.",
            about="input",
        ),
        Misconception(
            "alpha-for-alpha-bar",
            _sampler(
                lambda predict, x, now, next, limit: x0_from_eps(x, predict(x, now), now.alpha),
                step=lambda x, x0, now, next, noise: ancestral_step(x, x0, now.alpha, next.alpha, noise),
            ),
            "You passed α where your functions want ᾱ. A level's alpha is the factor of the picture: ᾱ is "
            "its square.",
            about="root",
        ),
        Misconception(
            "asked-at-the-next-level",
            _sampler(lambda predict, x, now, next, limit: x0_from_eps(x, predict(x, next), now.alpha**2)),
            "You ask for the noise at the level where the step ends. x is at the level where it starts.",
            about="level",
        ),
        Misconception(
            "solved-at-the-next-level",
            _sampler(lambda predict, x, now, next, limit: x0_from_eps(x, predict(x, now), next.alpha**2)),
            "x0_from_eps is told the ᾱ of the next level. x and its noise are at the level where the step "
            "starts.",
            about="level",
        ),
        Misconception(
            "same-noise-every-step",
            _sampler(noise=lambda noises, i: noises[0]),
            "Every step draws with the same numbers. Step i has its own: noises[i].",
            about="index",
        ),
        Misconception(
            "noises-from-the-end",
            _sampler(noise=lambda noises, i: noises[len(noises) - 1 - i]),
            "You take the noises from the end of the list. The first step has noises[0].",
            about="direction",
        ),
        Misconception(
            "start-as-noise",
            _sampler(noise=lambda noises, i: noises[i - 1] if i else noises[-1]),
            "Your noises are one place off: step i has noises[i], counted from 0.",
            about="index",
        ),
        Misconception(
            "no-noise",
            _sampler(noise=lambda noises, i: torch.zeros_like(noises[i])),
            "Your steps draw nothing: they return means. Give noises[i] to ancestral_step.",
            about="missing",
        ),
        Misconception(
            "last-step-without-noise",
            _sampler(noise=lambda noises, i: noises[i] if i < len(noises) - 1 else 0 * noises[i]),
            "You leave the noise out of the last step. A list of levels may end above data, and there the "
            "last step draws, too. At data its variance is 0 of its own: no rule is needed.",
            about="extra",
        ),
        Misconception(
            "variance-of-the-step-forward",
            _sampler(
                step=_with_factor(
                    lambda small, now, next: (1 - (now.alpha / next.alpha) ** 2).sqrt() * (next.sigma > 0)
                )
            ),
            "Your noise has the variance β of the step forward. This sampler uses the posterior's own, as "
            "your ancestral_step does.",
            about="formula",
        ),
        Misconception(
            "around-the-start",
            _sampler(from_start=True),
            "Each step starts from the first x again. It starts from where the step before has ended.",
            about="input",
        ),
        Misconception(
            "first-step-skipped",
            _sampler(pairs=lambda levels: levels[1:] if len(levels) > 2 else levels),
            "You left the first step out. x is at levels[0]: the first step goes from there to levels[1].",
            about="count",
        ),
        Misconception(
            "guesses-returned",
            _sampler(result="x0"),
            "Your list holds the guesses x̂₀. Asked is x, where each step has ended.",
            about="reading",
        ),
        Misconception(
            "renoised",
            _sampler(step=lambda x, x0, now, next, noise: next.like(x)[0] * x0 + next.like(x)[1] * noise),
            "You go to x̂₀ and noise it afresh. Then each step forgets x. Call ancestral_step: it weighs "
            "both.",
            about="formula",
        ),
        Misconception(
            "cut-from-above-alone",
            _sampler(_clip_by(lambda x0, limit: x0.clamp(max=limit)), clip="never"),
            "You cut x̂₀ from above alone. Its range has two ends: [−limit, limit].",
            about="missing",
        ),
        Misconception(
            "cut-from-below-alone",
            _sampler(_clip_by(lambda x0, limit: x0.clamp(min=-limit)), clip="never"),
            "You cut x̂₀ from below alone. Its range has two ends: [−limit, limit].",
            about="missing",
        ),
        Misconception(
            "squashed",
            _sampler(_clip_by(lambda x0, limit: limit * torch.tanh(x0 / limit)), clip="never"),
            "You squashed x̂₀ by tanh, which changes what is in range, too. Clipping leaves that alone: "
            "clamp(−limit, limit).",
            about="formula",
        ),
        Misconception(
            "clipped-without-a-limit",
            _sampler(_clip_always, clip="never"),
            "You clip to [−1, 1] where no limit is given. With limit = None nothing is clipped.",
            about="boundary",
        ),
        Misconception(
            "list-turned-round",
            _sampler(kept=lambda walk: walk[::-1]),
            "Your list has the end first. The start comes first, and the last x at the end.",
            about="direction",
        ),
        Misconception(
            "one-tensor-for-all",
            _sampler(kept=lambda walk: [walk[-1]] * len(walk)),
            "All entries of your list are the same tensor: it was changed in place, or put in again and "
            "again. Make a new x in each step, and append that.",
            about="extra",
        ),
        Misconception(
            "stacked",
            _sampler(kept=torch.stack),
            "Your numbers are right, but stacked to one tensor. Asked is a list of x at each level.",
            about="reading",
        ),
        Misconception(
            "end-clipped",
            _sampler(kept=lambda walk: [*walk[:-1], walk[-1].clamp(-1, 1)]),
            "You cut the last x to [−1, 1]. Only x̂₀ is clipped, to the limit, before its step.",
            about="extra",
        ),
    ],
    alternatives=[
        _package_sample,
        _sampler(),
        _sampler(step=_with_factor(lambda small, now, next: small.sqrt())),
    ],
    hints=(
        "It is a loop over pairs of neighbouring levels. In each round: ask for the noise, turn it into a "
        "picture, clip it, take your step. Nothing new is computed.",
        "ᾱ = α² at a level. ε̂ = predict_eps(x, now); x̂₀ = x0_from_eps(x, ε̂, ᾱ_now), cut to ±limit; x = "
        "ancestral_step(x, x̂₀, ᾱ_now, ᾱ_next, noises[i]).",
        "`walk = [x]`, then `for i in range(len(levels) - 1):` with `now, after = levels[i], levels[i + 1]`, "
        "four lines as above and `walk.append(x)`; at the end `return walk`.",
    ),
    atol=5e-5,
    figure=_sampler_figure,
    figure_alt="Forty steps with a guess that is always nearly the same digit 8: noise at t = 1000 and at "
    "500, the shape of an 8 in it at 250, a grainy 8 at 125 and 50, a clean one at 0.",
)


# 03.7 The variance of the whole step ----------------------------------------------------------------


def step_variance(variance_x0: Tensor, alpha_bar: Tensor, alpha_bar_next: Tensor) -> Tensor:
    """The law of total variance: the posterior's own, and what the doubt about x0 adds."""
    one, zero = torch.ones_like(variance_x0), torch.zeros_like(variance_x0)
    factor, own = posterior(one, zero, _level(alpha_bar), _level(alpha_bar_next))  # of the mean on x0
    return own + factor.square() * variance_x0


Parts = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def _total(
    made: Parts = lambda own, c, v, b: own + c**2 * v,
    on_x0: Callable[[Tensor, Tensor, Tensor], Tensor] = lambda a, n, b: n.sqrt() * b / (1 - a),
) -> Callable[..., Tensor]:
    """The variance made from (β̃, factor of x0, variance of x0, β)."""

    def answer(variance_x0: Tensor, alpha_bar: Tensor, alpha_bar_next: Tensor) -> Tensor:
        beta = 1 - alpha_bar / alpha_bar_next
        own = beta * (1 - alpha_bar_next) / (1 - alpha_bar)
        return made(own, on_x0(alpha_bar, alpha_bar_next, beta), variance_x0, beta)

    return answer


def _by_drawing_it_out(variance_x0: Tensor, alpha_bar: Tensor, alpha_bar_next: Tensor) -> Tensor:
    """Both parts over one denominator."""
    a, n = alpha_bar, alpha_bar_next
    top = (n - a) * ((1 - n) * (1 - a) + (n - a) * variance_x0)
    return top / (n * (1 - a) ** 2)


def _doubt(betas: Betas, t: tuple[int, int], step: tuple[int, int], high: float, *shape: int) -> Make:
    def make(g: torch.Generator) -> dict[str, Any]:
        return {
            "variance_x0": high * (0.1 + torch.rand(*shape, generator=g)),
            **_drawn_pair(g, betas, t, step),
        }

    return make


def _variance_figure(reference: Callable[..., Tensor]) -> Any:
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(5.0, 2.4), constrained_layout=True)
    times = range(0, 400, 5)
    for doubt, style in ((1.0, ":"), (0.3, "-"), (0.0, "--")):
        made = [reference(torch.tensor([doubt]), **_pair(LINEAR, 400, t)) for t in times]
        axis.plot(times, [float(each) for each in made], style, label=f"variance_x0 = {doubt:g}")
    axis.set(xlabel="where a step from t = 400 leads", ylabel="variance")
    axis.legend(fontsize=9, frameon=False)
    return figure


STEP_VARIANCE = Exercise(
    id="03.7",
    name="step_variance",
    title="What the doubt about x₀ adds",
    kind="stretch",
    difficulty=3,
    minutes=10,
    reference=step_variance,
    cases=[
        Case("seven points in the plane, a large step", _doubt(linear, (350, 450), (200, 300), 4.0, 7, 2)),
        Case("pictures, a small step", _doubt(cosine, (500, 700), (10, 30), 0.6, 2, 1, 5, 4)),
        Case("the last step, from t < 100 to the data", _doubt(linear, (30, 90), (100, 100), 0.5, 5, 2)),
        Case("nine numbers, mostly noise", _doubt(cosine, (850, 950), (200, 400), 0.9, 9)),
    ],
    misconceptions=[
        Misconception(
            "doubt-forgotten",
            _total(lambda own, c, v, b: own + 0 * v),
            "This is the posterior's own variance, as if x0 were known. The mean of the posterior moves with "
            "x0, and x0 is in doubt: that adds a second part.",
            about="missing",
        ),
        Misconception(
            "doubt-alone",
            _total(lambda own, c, v, b: c**2 * v),
            "This is only what the doubt about x0 adds. With a known x0 there would still be the posterior's "
            "own variance: add the two.",
            about="missing",
        ),
        Misconception(
            "factor-not-squared",
            _total(lambda own, c, v, b: own + c * v),
            "x0 stands in the mean with a factor c, so its variance counts with c²: Var[c·x0] = c²·Var[x0].",
            about="root",
        ),
        Misconception(
            "no-factor",
            _total(lambda own, c, v, b: own + v),
            "You added the variance of x0 in full. In the posterior's mean x0 has a factor, which is small "
            "for a small step.",
            about="missing",
        ),
        Misconception(
            "forward-variance",
            _total(lambda own, c, v, b: b + c**2 * v),
            "You started from β, the variance of the step forward. It is the posterior's own, β̃, that the "
            "doubt is added to.",
            about="formula",
        ),
        Misconception(
            "std-returned",
            _total(lambda own, c, v, b: (own + c**2 * v).sqrt()),
            "You returned a standard deviation. The variance was asked for, without the root.",
            about="root",
        ),
        Misconception(
            "stds-added",
            _total(lambda own, c, v, b: (own.sqrt() + c * v.sqrt()).square()),
            "You added standard deviations. Independent parts add their variances: β̃ + c²·Var[x0].",
            about="formula",
        ),
        Misconception(
            "factor-of-x",
            _total(on_x0=lambda a, n, b: (1 - b).sqrt() * (1 - n) / (1 - a)),
            "You took the factor of x. What is in doubt is x0: take the factor that x0 has in the mean.",
            about="factor",
        ),
        Misconception(
            "now-for-next",
            _total(on_x0=lambda a, n, b: a.sqrt() * b / (1 - a)),
            "In the factor of x0 you took √ᾱ of where we stand. It is √ᾱ_next, that of where we go.",
            about="level",
        ),
        Misconception(
            "doubt-subtracted",
            _total(lambda own, c, v, b: own - c**2 * v),
            "You subtracted the second part. Doubt about x0 makes the step wider, never narrower.",
            about="sign",
        ),
        Misconception(
            "std-of-x0",
            _total(lambda own, c, v, b: own + c**2 * v.sqrt()),
            "You took the root of variance_x0. It is a variance already, and variances add.",
            about="root",
        ),
        Misconception(
            "variance-squared",
            _total(lambda own, c, v, b: own + (c * v) ** 2),
            "You squared variance_x0 along with its factor. Only the factor is squared: c²·Var[x0].",
            about="root",
        ),
        Misconception(
            "jump-from-the-guess",
            lambda variance_x0, alpha_bar, alpha_bar_next: 1 - alpha_bar_next + alpha_bar_next * variance_x0,
            "This is the variance of noising x0 afresh to the next level, as if x were not known. x is "
            "known: take the posterior's variance and its factor of x0.",
            about="formula",
        ),
        Misconception(
            "denominator-forgotten",
            _total(on_x0=lambda a, n, b: n.sqrt() * b),
            "In the factor of x0 you left out the denominator 1 − ᾱ: it is √ᾱ_next·β/(1 − ᾱ).",
            about="missing",
        ),
        Misconception(
            "no-root-on-the-next-share",
            _total(on_x0=lambda a, n, b: n * b / (1 - a)),
            "In the factor of x0 you took ᾱ_next. It is the root: √ᾱ_next·β/(1 − ᾱ).",
            about="root",
        ),
        Misconception(
            "next-share-forgotten",
            _total(on_x0=lambda a, n, b: b / (1 - a)),
            "In the factor of x0 you left out √ᾱ_next: it is √ᾱ_next·β/(1 − ᾱ).",
            about="missing",
        ),
        Misconception(
            "beta-for-the-factor",
            _total(on_x0=lambda a, n, b: b),
            "You took β as the factor of x0. In the posterior's mean it is √ᾱ_next·β/(1 − ᾱ).",
            about="factor",
        ),
        Misconception(
            "mean-of-the-doubt",
            _total(lambda own, c, v, b: own + c**2 * v.mean() + 0 * v),
            "You took the mean of variance_x0. Each entry keeps its own.",
            about="mean",
        ),
    ],
    alternatives=[_total(), _by_drawing_it_out],
    hints=(
        "Two things are uncertain: where x_next lies if x0 is known, and x0 itself. Their variances add.",
        "Var[x_next | x] = β̃ + c²·Var[x0 | x]. c is the factor of x0 in μ̃: √ᾱ_next·β/(1 − ᾱ).",
        "Either four lines with `beta`, `own`, `factor`; or ask your posterior_mean_var with x0 = 1 and "
        "x = 0: its mean is the factor, its variance is β̃.",
    ),
    figure=_variance_figure,
    figure_alt="The variance of a step from t = 400 over the time where it leads. With variance_x0 = 0 it "
    "is near 0 at t = 400, rises and comes back to 0 at the data. With 0.3 and with 1 it lies above, and "
    "reaches 0.3 and 1.",
)

EXERCISES = [
    POSTERIOR,
    X0_FROM_EPS,
    ANCESTRAL_STEP,
    WALK_BACK,
    WITHOUT_NOISE,
    ANCESTRAL_SAMPLE,
    STEP_VARIANCE,
]
