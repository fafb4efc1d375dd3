"""Lesson 01, what a diffusion model is: noise, the way back, a check for copies, training and drawing."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from diffusion_lessons.course.bank import figures
from diffusion_lessons.course.bank.descent import Descent
from diffusion_lessons.course.bank.inputs import blobs, cosine, data, falling, normal, number, several, whole
from diffusion_lessons.course.exercises.exercise import Case, Exercise, Misconception
from diffusion_lessons.mixtures import GaussianMixture
from diffusion_lessons.paths import DiscreteVP, Level, StraightPath, add_noise
from diffusion_lessons.samplers import ddim_step, sample
from diffusion_lessons.schedules import cosine_betas
from diffusion_lessons.targets import Estimate

Make = Callable[[torch.Generator], dict[str, Any]]
Guess = Callable[[Tensor, Level], Tensor]


def _level(alpha: Any, sigma: Any) -> Level:
    """The level with these factors, numbers or tensors that multiply a batch; its time plays no part."""
    a, s = (torch.as_tensor(factor).detach().cpu().double() for factor in (alpha, sigma))
    a, s = (factor.flatten() if factor.ndim > 1 else factor for factor in (a, s))
    return Level(torch.zeros_like(a), a, s)


def _ring() -> GaussianMixture:
    angle = torch.arange(8) * (torch.pi / 4)
    return GaussianMixture(1.4 * torch.stack([angle.cos(), angle.sin()], dim=1), 0.1)


def _cloud(axis: Any, points: Tensor, title: str) -> None:
    axis.scatter(*points.T.numpy(), s=3, linewidths=0, color="#0072B2")
    axis.set(xlim=(-2.5, 2.5), ylim=(-2.5, 2.5), aspect="equal", xticks=[], yticks=[])
    axis.set_title(title, fontsize=10)


# 01.1 Noise -----------------------------------------------------------------------------------------


def noise_points(x0: Tensor, noise: Tensor, alpha: Any, sigma: Any) -> Tensor:
    """`add_noise` with the two factors given as numbers."""
    return add_noise(x0, noise, _level(alpha, sigma))


def _on_circle(g: torch.Generator, low: float, high: float) -> tuple[float, float]:
    """α and σ with α² + σ² = 1, and σ between two bounds."""
    sigma = number(g, low, high)
    return float(f"{(1 - sigma**2) ** 0.5:.5g}"), sigma


def _on_line(g: torch.Generator, low: float, high: float) -> tuple[float, float]:
    """α and σ with α + σ = 1, and σ between two bounds."""
    sigma = number(g, low, high)
    return round(1 - sigma, 4), sigma


def _data(g: torch.Generator, low: float, high: float) -> tuple[float, float]:
    return 1.0, 0.0


def _exploding(g: torch.Generator, low: float, high: float) -> tuple[float, float]:
    """Data at full strength and σ between two bounds, above 1 as well."""
    return 1.0, number(g, low, high)


Drawn = Callable[[torch.Generator, float, float], tuple[float, float]]  # α and σ


def _noised(draw: Drawn, low: float, high: float, *shape: int) -> Make:
    def make(g: torch.Generator) -> dict[str, Any]:
        alpha, sigma = draw(g, low, high)
        return {"x0": data(g, *shape), "noise": normal(g, *shape), "alpha": alpha, "sigma": sigma}

    return make


def _own_levels(g: torch.Generator) -> dict[str, Any]:
    angle = 1.5 * torch.rand(4, 1, generator=g)  # (4, 1): one level for each point
    return {"x0": normal(g, 4, 2), "noise": normal(g, 4, 2), "alpha": angle.cos(), "sigma": angle.sin()}


def _noise_figure(reference: Callable[..., Tensor]) -> Any:
    from matplotlib import pyplot

    generator = torch.Generator().manual_seed(0)
    x0 = _ring().sample(500, generator)[0]
    noise = torch.randn(500, 2, generator=generator)
    figure, axes = pyplot.subplots(1, 4, figsize=(6, 2))
    for axis, (alpha, sigma) in zip(axes, ((1.0, 0.0), (0.98, 0.2), (0.8, 0.6), (0.0, 1.0)), strict=True):
        _cloud(axis, reference(x0, noise, alpha, sigma), f"α = {alpha:g}\nσ = {sigma:g}")
    return figure


NOISE_POINTS = Exercise(
    id="01.1",
    name="noise_points",
    title="Put noise on data",
    kind="implement",
    difficulty=1,
    minutes=4,
    reference=noise_points,
    cases=[
        Case("six points at one level", _noised(_on_circle, 0.4, 0.8, 6, 2)),
        Case("two colour pictures, mostly noise, where α + σ = 1", _noised(_on_line, 0.6, 0.9, 2, 3, 6, 8)),
        Case("α = 1, σ = 0: the data itself", _noised(_data, 0.0, 0.0, 5, 2)),
        Case("four points, each at a level of its own", _own_levels),
        Case("five points where α stays 1 and σ is above 1", _noised(_exploding, 1.5, 4.0, 5, 2)),
    ],
    misconceptions=[
        Misconception(
            "factors-swapped",
            lambda x0, noise, alpha, sigma: sigma * x0 + alpha * noise,
            "The two factors are swapped: α belongs to the data and σ to the noise. At α = 1, σ = 0 the data "
            "should come back untouched.",
            about="swap",
        ),
        Misconception(
            "data-at-full-strength",
            lambda x0, noise, alpha, sigma: x0 + sigma * noise,
            "You added the noise and left the data at full strength. Here the data is turned down as well, "
            "by α, so that nothing of it is left at α = 0.",
            about="missing",
        ),
        Misconception(
            "noise-at-full-strength",
            lambda x0, noise, alpha, sigma: alpha * x0 + noise,
            "You turned the data down by α but added the noise at full strength. Its factor is σ: 0 at the "
            "data, 1 at pure noise.",
            about="missing",
        ),
        Misconception(
            "squares",
            lambda x0, noise, alpha, sigma: alpha**2 * x0 + sigma**2 * noise,
            "You squared the factors. α² and σ² are the two variances; what multiplies the data and the "
            "noise is α and σ.",
            about="root",
        ),
        Misconception(
            "roots",
            lambda x0, noise, alpha, sigma: alpha**0.5 * x0 + sigma**0.5 * noise,
            "You took roots of α and σ. Some papers call the variances α and σ; here both are already the "
            "factors themselves.",
            about="root",
        ),
        Misconception(
            "one-minus-alpha",
            lambda x0, noise, alpha, sigma: alpha * x0 + (1 - alpha) * noise,
            "You gave the noise the factor 1 − α. It has a factor of its own, σ, which is handed over: on "
            "most paths the squares α² and σ² add up to 1, and the factors themselves do not.",
            about="factor",
        ),
        Misconception(
            "sigma-from-alpha",
            lambda x0, noise, alpha, sigma: alpha * x0 + (1 - alpha**2) ** 0.5 * noise,
            "You worked the factor of the noise out of α. That is right where α² + σ² = 1, but not every "
            "path keeps to it: take σ, which is handed over.",
            about="input",
        ),
        Misconception(
            "alpha-from-sigma",
            lambda x0, noise, alpha, sigma: (1 - sigma**2) ** 0.5 * x0 + sigma * noise,
            "You worked the factor of the data out of σ. That is right where α² + σ² = 1, but not every path "
            "keeps to it: take α, which is handed over.",
            about="input",
        ),
        Misconception(
            "both-at-full-strength",
            lambda x0, noise, alpha, sigma: x0 + noise,
            "You added data and noise, both at full strength. α says how much of the data is in the mixture, "
            "σ how much of the noise.",
            about="missing",
        ),
        Misconception(
            "noise-subtracted",
            lambda x0, noise, alpha, sigma: alpha * x0 - sigma * noise,
            "You subtracted the noise. As noise that is as good, but everything later reads x as α·x₀ + σ·ε: "
            "add it.",
            about="sign",
        ),
        Misconception(
            "noise-forgotten",
            lambda x0, noise, alpha, sigma: alpha * x0,
            "You turned the data down by α and left the noise out. σ·noise is to be added.",
            about="missing",
        ),
        Misconception(
            "sigma-added",
            lambda x0, noise, alpha, sigma: alpha * x0 + sigma,
            "You added the number σ itself, the same to every entry. σ is the strength of the noise: it "
            "multiplies `noise`, which is another number for every entry.",
            about="input",
        ),
        Misconception(
            "weighted-mean",
            lambda x0, noise, alpha, sigma: (alpha * x0 + sigma * noise) / (alpha + sigma),
            "You divided by α + σ, as for a weighted mean. The two factors are used as they are, whatever "
            "their sum.",
            about="extra",
        ),
        Misconception(
            "alpha-on-both",
            lambda x0, noise, alpha, sigma: alpha * (x0 + sigma * noise),
            "You turned the noise down by α along with the data. α multiplies the data alone: the bracket is "
            "too wide.",
            about="factor",
        ),
        Misconception(
            "brought-to-variance-1",
            lambda x0, noise, alpha, sigma: ((x := alpha * x0 + sigma * noise) - x.mean()) / x.std(),
            "You brought the mixture to mean 0 and variance 1. Leave the numbers as α·x₀ + σ·noise gives "
            "them.",
            about="extra",
        ),
        Misconception(
            "one-minus-sigma",
            lambda x0, noise, alpha, sigma: (1 - sigma) * x0 + sigma * noise,
            "You gave the data the factor 1 − σ. It has a factor of its own, α, which is handed over: α and "
            "σ add up to 1 on some paths alone.",
            about="input",
        ),
    ],
    alternatives=[
        lambda x0, noise, alpha, sigma: torch.add(noise * sigma, x0 * alpha),
        lambda x0, noise, alpha, sigma: sum(f * part for f, part in ((alpha, x0), (sigma, noise))),
        lambda x0, noise, alpha, sigma: (torch.stack([x0 * alpha, noise * sigma])).sum(0),
    ],
    hints=(
        "A noisy point is a mixture of two ingredients. α says how much of the data is in it, σ how much of "
        "the noise.",
        "x = α·x₀ + σ·ε. Try the two ends: α = 1, σ = 0 must give the data, α = 0, σ = 1 the noise.",
        "One line: `return … * x0 + … * noise`. Nothing has to be reshaped, squared or rooted.",
    ),
    figure=_noise_figure,
    figure_alt="A ring of eight clusters at four levels: sharp at α = 1, clusters that begin to touch at "
    "α = 0.98, and at α = 0.8 and α = 0 a filled round cloud in which no ring can be seen.",
)


# 01.2 One step back ---------------------------------------------------------------------------------


def denoise_step(
    x: Tensor, x0_hat: Tensor, alpha: Any, sigma: Any, alpha_next: Any, sigma_next: Any
) -> Tensor:
    """`ddim_step` without new noise, with the levels given as numbers."""
    now, after = _level(alpha, sigma), _level(alpha_next, sigma_next)
    return ddim_step(x, Estimate.from_x0(x0_hat, x, now), now, after)


def _step(
    draw: Drawn, now_at: tuple[float, float], after_at: tuple[float, float], *shape: int, end: bool = False
) -> Make:
    """From a σ between the first two bounds to one between the others, or, with `end`, to the data."""

    def make(g: torch.Generator) -> dict[str, Any]:
        now, after = draw(g, *now_at), (1.0, 0.0) if end else draw(g, *after_at)
        x0 = data(g, *shape)
        x = now[0] * x0 + now[1] * normal(g, *shape)
        guess = x0 + 0.3 * normal(g, *shape)
        levels = {"alpha": now[0], "sigma": now[1], "alpha_next": after[0], "sigma_next": after[1]}
        return {"x": x, "x0_hat": guess, **levels}

    return make


def _from(eps: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A step whose noise is eps(x, x0_hat, alpha, sigma, sigma_next)."""

    def step(x: Tensor, x0_hat: Tensor, alpha: Any, sigma: Any, alpha_next: Any, sigma_next: Any) -> Tensor:
        return alpha_next * x0_hat + sigma_next * eps(x, x0_hat, alpha, sigma, sigma_next)

    return step


def _end_where_alpha_is_1(
    x: Tensor, x0_hat: Tensor, alpha: Any, sigma: Any, alpha_next: Any, sigma_next: Any
) -> Tensor:
    if alpha_next == 1:
        return x0_hat
    return denoise_step(x, x0_hat, alpha, sigma, alpha_next, sigma_next)


def _on_the_circle(now: bool, after: bool) -> Callable[..., Tensor]:
    """The step with one σ, or both, worked out of its α."""

    def step(x: Tensor, x0_hat: Tensor, alpha: Any, sigma: Any, alpha_next: Any, sigma_next: Any) -> Tensor:
        sigma = (1 - alpha**2) ** 0.5 if now else sigma
        sigma_next = (1 - alpha_next**2) ** 0.5 if after else sigma_next
        return alpha_next * x0_hat + sigma_next * (x - alpha * x0_hat) / torch.as_tensor(sigma)

    return step


def _divided_by_the_next(
    x: Tensor, x0_hat: Tensor, alpha: Any, sigma: Any, alpha_next: Any, sigma_next: Any
) -> Tensor:
    eps = (x - alpha * x0_hat) / torch.as_tensor(sigma_next)  # a 0 gives an infinity, as a tensor's would
    return alpha_next * x0_hat + sigma_next * eps


def _step_figure(reference: Callable[..., Tensor]) -> Any:
    from matplotlib import pyplot

    generator = torch.Generator().manual_seed(1)
    path, ring = DiscreteVP(cosine_betas()), _ring()
    now, after = path(400.0), path(200.0)
    x0 = ring.sample(400, generator)[0]
    x = add_noise(x0, torch.randn(400, 2, generator=generator), now)
    guess = ring(x, now).x0
    there = reference(x, guess, float(now.alpha), float(now.sigma), float(after.alpha), float(after.sigma))
    figure, axes = pyplot.subplots(1, 3, figsize=(5, 2))
    for axis, points, title in zip(
        axes, (x, guess, there), ("x at t = 400", "the guess x̂₀", "the next x, t = 200"), strict=True
    ):
        _cloud(axis, points, title)
    return figure


DENOISE_STEP = Exercise(
    id="01.2",
    name="denoise_step",
    title="One step back",
    kind="implement",
    difficulty=2,
    minutes=10,
    reference=denoise_step,
    cases=[
        Case("six points, half-way down", _step(_on_circle, (0.7, 0.85), (0.4, 0.6), 6, 2)),
        Case(
            "two colour pictures, from nearly pure noise",
            _step(_on_circle, (0.985, 0.998), (0.9, 0.97), 2, 3, 6, 8),
        ),
        Case("the last step, to α = 1, σ = 0", _step(_on_circle, (0.2, 0.4), (0.0, 0.0), 5, 2, end=True)),
        Case("a path where α + σ = 1", _step(_on_line, (0.1, 0.2), (0.03, 0.06), 7, 2)),
        Case("a path where α stays 1 and σ begins above 1", _step(_exploding, (2.5, 4.0), (1.2, 1.8), 6, 2)),
    ],
    misconceptions=[
        Misconception(
            "noise-forgotten",
            _from(lambda x, x0_hat, alpha, sigma, sigma_next: torch.zeros_like(x)),
            "You turned the guess down to the next level and left the noise out. A point at the next level "
            "still holds noise: add σ_next·ε̂, with ε̂ = (x − α·x̂₀)/σ.",
            about="missing",
        ),
        Misconception(
            "back-at-the-old-level",
            lambda x, x0_hat, alpha, sigma, alpha_next, sigma_next: (
                alpha * x0_hat + sigma * ((x - alpha * x0_hat) / sigma)
            ),
            "You put guess and noise together at the old level, and that gives back x. Split x with α and σ; "
            "mix again with α_next and σ_next.",
            about="level",
        ),
        Misconception(
            "noise-not-divided",
            _from(lambda x, x0_hat, alpha, sigma, sigma_next: x - alpha * x0_hat),
            "You took x − α·x̂₀ for the noise. That is σ·ε̂, the noise as strong as it is at this level: "
            "divide it by σ before σ_next multiplies it.",
            about="missing",
        ),
        Misconception(
            "guess-not-turned-down",
            _from(lambda x, x0_hat, alpha, sigma, sigma_next: (x - x0_hat) / sigma),
            "You took the guess off x at full strength. x holds α·x̂₀, so the noise is (x − α·x̂₀)/σ.",
            about="factor",
        ),
        Misconception(
            "divided-by-the-next-sigma",
            _divided_by_the_next,
            "You divided by σ_next to get the noise. x is still at the old level, so its noise has the "
            "factor σ. (On the last step σ_next is 0, and you would divide by 0.)",
            about="level",
        ),
        Misconception(
            "next-alpha-in-the-noise",
            lambda x, x0_hat, alpha, sigma, alpha_next, sigma_next: (
                alpha_next * x0_hat + sigma_next * ((x - alpha_next * x0_hat) / sigma)
            ),
            "You took α_next·x̂₀ off x to find the noise. x is still at the old level and holds α·x̂₀: the "
            "noise is (x − α·x̂₀)/σ, and only the new mixture uses α_next.",
            about="level",
        ),
        Misconception(
            "brackets-missing",
            _from(lambda x, x0_hat, alpha, sigma, sigma_next: x - alpha * x0_hat / sigma),
            "You wrote x − α·x̂₀/σ, and the division comes before the difference. All that is left of x is "
            "divided: (x − α·x̂₀)/σ.",
            about="order",
        ),
        Misconception(
            "x-for-the-noise",
            _from(lambda x, x0_hat, alpha, sigma, sigma_next: x),
            "You took x itself for the noise. x holds the picture too: the noise in it is (x − α·x̂₀)/σ.",
            about="input",
        ),
        Misconception(
            "noise-returned",
            lambda x, x0_hat, alpha, sigma, alpha_next, sigma_next: (x - alpha * x0_hat) / sigma,
            "That is ε̂, and it is right. The step is not done yet: mix x̂₀ and ε̂ at the next level.",
            about="reading",
        ),
        Misconception(
            "picture-at-the-old-level",
            lambda x, x0_hat, alpha, sigma, alpha_next, sigma_next: (
                alpha * x0_hat + sigma_next * ((x - alpha * x0_hat) / sigma)
            ),
            "The noise is at the next level and the picture still at the old one: it gets the factor α_next, "
            "for it grows as the noise shrinks.",
            about="level",
        ),
        Misconception(
            "noise-at-the-old-level",
            lambda x, x0_hat, alpha, sigma, alpha_next, sigma_next: (
                alpha_next * x0_hat + sigma * ((x - alpha * x0_hat) / sigma)
            ),
            "The picture is at the next level and the noise still at the old one: ε̂ gets the factor σ_next.",
            about="level",
        ),
        Misconception(
            "factors-swapped",
            lambda x, x0_hat, alpha, sigma, alpha_next, sigma_next: (
                sigma_next * x0_hat + alpha_next * ((x - alpha * x0_hat) / sigma)
            ),
            "The two factors of the new mixture are swapped: α_next belongs to the guess, σ_next to the "
            "noise.",
            about="swap",
        ),
        Misconception(
            "split-with-swapped-factors",
            _from(lambda x, x0_hat, alpha, sigma, sigma_next: (x - sigma * x0_hat) / alpha),
            "You split x with α and σ in each other's place. x = α·x̂₀ + σ·ε̂: take α·x̂₀ off and divide by σ.",
            about="swap",
        ),
        Misconception(
            "noise-turned-round",
            _from(lambda x, x0_hat, alpha, sigma, sigma_next: (alpha * x0_hat - x) / sigma),
            "The sign of your noise is turned round: x = α·x̂₀ + σ·ε̂ gives ε̂ = (x − α·x̂₀)/σ.",
            about="sign",
        ),
        Misconception(
            "guess-clipped",
            lambda x, x0_hat, alpha, sigma, alpha_next, sigma_next: denoise_step(
                x, torch.as_tensor(x0_hat).clamp(-1, 1), alpha, sigma, alpha_next, sigma_next
            ),
            "You cut the guess to [−1, 1]. The points here lie outside it as well, and the step is for any "
            "data: use the guess as it is.",
            about="extra",
        ),
        Misconception(
            "variances",
            lambda x, x0_hat, alpha, sigma, alpha_next, sigma_next: (
                alpha_next**2 * x0_hat + sigma_next**2 * ((x - alpha * x0_hat) / sigma)
            ),
            "You squared the factors of the new mixture. α² and σ² are variances; what multiplies is α and "
            "σ.",
            about="root",
        ),
        Misconception(
            "straight-to-the-guess",
            lambda x, x0_hat, alpha, sigma, alpha_next, sigma_next: (
                x0_hat + sigma_next / sigma * (x - x0_hat)
            ),
            "You went straight from x towards the guess. That is right where the picture keeps the factor "
            "1; here α changes too: take x apart into α·x̂₀ and σ·ε̂, and mix the two again.",
            about="formula",
        ),
        Misconception(
            "x-kept-at-the-end",
            lambda x, x0_hat, alpha, sigma, alpha_next, sigma_next: (
                x if sigma_next == 0 else denoise_step(x, x0_hat, alpha, sigma, alpha_next, sigma_next)
            ),
            "Where σ_next is 0 you return x, which still holds noise. There the step ends in the guess: "
            "α_next·x̂₀ + 0·ε̂ says so by itself.",
            about="boundary",
        ),
        Misconception(
            "noise-brought-to-variance-1",
            _from(lambda x, x0_hat, alpha, sigma, sigma_next: (e := (x - alpha * x0_hat) / sigma) / e.std()),
            "You brought the noise to variance 1. It is what the guess leaves of x, divided by σ: use it as "
            "it is.",
            about="extra",
        ),
        Misconception(
            "alpha-1-for-the-end",
            _end_where_alpha_is_1,
            "You take α' = 1 for the end and return the guess. There are models whose α is 1 all the way; "
            "there, too, σ' says how much noise is left.",
            about="boundary",
        ),
        Misconception(
            "sigmas-from-alphas",
            _on_the_circle(True, True),
            "You worked both σ out of α, by √(1 − α²). Not every model keeps to α² + σ² = 1: take sigma and "
            "sigma_next as they are given.",
            about="input",
        ),
        Misconception(
            "sigma-from-alpha",
            _on_the_circle(True, False),
            "You worked σ out of α, by √(1 − α²). Not every model keeps to α² + σ² = 1: take sigma as it is "
            "given.",
            about="input",
        ),
        Misconception(
            "sigma-next-from-alpha-next",
            _on_the_circle(False, True),
            "You worked σ_next out of α_next, by √(1 − α²). Not every model keeps to α² + σ² = 1: take "
            "sigma_next as it is given.",
            about="input",
        ),
    ],
    alternatives=[
        lambda x, x0_hat, alpha, sigma, alpha_next, sigma_next: (
            (sigma_next / sigma) * x + (alpha_next - alpha * sigma_next / sigma) * x0_hat
        ),
        lambda x, x0_hat, alpha, sigma, alpha_next, sigma_next: torch.add(
            x0_hat.mul(alpha_next), x.sub(x0_hat.mul(alpha)).div(sigma).mul(sigma_next)
        ),
    ],
    hints=(
        "x and the guess x̂₀ together tell you which noise x must hold, if the guess is right. Keep that "
        "noise, and mix it with the guess again, at the next level.",
        "Solve x = α·x̂₀ + σ·ε̂ for ε̂. Then x' = α_next·x̂₀ + σ_next·ε̂.",
        "Two lines: `eps_hat = (x - …) / …` with the old level, then `return … * x0_hat + … * eps_hat` with "
        "the next.",
    ),
    figure=_step_figure,
    figure_alt="Left: noisy points at t = 400, a filled round cloud. Middle: the guesses, most of them on "
    "an octagon through the eight clusters, some inside it. Right: after one step to "
    "t = 200, a ring with a hole in the middle.",
)


# 01.3 Debug: the walk that stops one step short -----------------------------------------------------


def walk_down(x: Tensor, denoiser: Guess, levels: list[Level]) -> Tensor:
    """A step from each level to the next."""
    for now, after in pairwise(levels):
        x = denoise_step(x, denoiser(x, now), now.alpha, now.sigma, after.alpha, after.sigma)
    return x


def _by_the_package(x: Tensor, denoiser: Guess, levels: list[Level]) -> Tensor:
    """`sample` with a denoiser that gives its guess of x₀ alone."""

    def both(x: Tensor, level: Level, condition: Any = None) -> Estimate:
        return Estimate.from_x0(denoiser(x, level), x, level)

    return sample(both, x, levels)


def two_values(size: float) -> Guess:
    """The exact guess where every pixel is −size or size, as likely: size·tanh(α·size·x/σ²)."""

    def guess(x: Tensor, level: Level) -> Tensor:
        alpha, sigma = level.like(x)
        return size * torch.tanh(alpha * size * x / sigma**2)

    return guess


def _move(x: Tensor, guess: Tensor, now: Level, after: Level) -> Tensor:
    return denoise_step(x, guess, now.alpha, now.sigma, after.alpha, after.sigma)


def _walk(first: int = 0, last: int = 0, told: int = 0) -> Callable[..., Tensor]:
    """A walk over levels[first:len − last]; the denoiser is told the level `told` places further on."""

    def walk(x: Tensor, denoiser: Guess, levels: list[Level]) -> Tensor:
        for i in range(first, len(levels) - 1 - last):
            x = _move(x, denoiser(x, levels[i + told]), levels[i], levels[i + 1])
        return x

    return walk


def _always_from_the_noise(x: Tensor, denoiser: Guess, levels: list[Level]) -> Tensor:
    return _move(x, denoiser(x, levels[-2]), levels[-2], levels[-1])


def _one_guess_for_all(x: Tensor, denoiser: Guess, levels: list[Level]) -> Tensor:
    guess = denoiser(x, levels[0])
    for i in range(len(levels) - 1):
        x = _move(x, guess, levels[i], levels[i + 1])
    return x


def _past_the_end(x: Tensor, denoiser: Guess, levels: list[Level]) -> Tensor:
    for i in range(len(levels)):
        x = _move(x, denoiser(x, levels[i]), levels[i], levels[i + 1])
    return x


def _last_guess_of_the_short_loop(x: Tensor, denoiser: Guess, levels: list[Level]) -> Tensor:
    guess = x
    for i in range(len(levels) - 2):
        guess = denoiser(x, levels[i])
        x = _move(x, guess, levels[i], levels[i + 1])
    return guess


def _last_guess(x: Tensor, denoiser: Guess, levels: list[Level]) -> Tensor:
    """Right where the list ends at α = 1 and σ = 0."""
    *_, before_last, _ = levels
    return denoiser(_walk(last=1)(x, denoiser, levels), before_last)


def _by_halves(x: Tensor, denoiser: Guess, levels: list[Level]) -> Tensor:
    if len(levels) > 2:
        half = len(levels) // 2
        return _by_halves(_by_halves(x, denoiser, levels[: half + 1]), denoiser, levels[half:])
    now, after = levels
    eps = (x - now.alpha * denoiser(x, now)) / now.sigma
    return after.alpha * denoiser(x, now) + after.sigma * eps


def _told_the_first(x: Tensor, denoiser: Guess, levels: list[Level]) -> Tensor:
    for now, after in pairwise(levels):
        x = _move(x, denoiser(x, levels[0]), now, after)
    return x


def _guess_for_x(x: Tensor, denoiser: Guess, levels: list[Level]) -> Tensor:
    for level in levels[:-1]:
        x = denoiser(x, level)
    return x


def _start(levels: Callable[[torch.Generator], list[Level]], size: float, *shape: int) -> Make:
    return lambda g: {"levels": levels(g), "x": normal(g, *shape), "denoiser": two_values(size)}


def _even(g: torch.Generator) -> list[Level]:
    return DiscreteVP(cosine(g)).levels(whole(g, 8, 12))


def _uneven(g: torch.Generator) -> list[Level]:
    path = DiscreteVP(cosine(g))
    return [path(t) for t in (*falling(g, 3, 400, 950, apart=80), 0)]


def _part_of_the_way(g: torch.Generator) -> list[Level]:
    """Ends above the data, as a walk does that is watched step by step."""
    path = DiscreteVP(cosine(g))
    return [path(t) for t in falling(g, whole(g, 3, 5), 150, 950, apart=80)]


def _straight(g: torch.Generator) -> list[Level]:
    return StraightPath().levels(whole(g, 2, 4))


def _walk_figure(reference: Callable[..., Tensor]) -> Any:
    from matplotlib import pyplot

    ring, path = _ring(), DiscreteVP(cosine_betas())
    noise = torch.randn(500, 2, generator=torch.Generator().manual_seed(2))
    figure, axes = pyplot.subplots(1, 3, figsize=(5, 2))
    for axis, steps in zip(axes, (2, 4, 10), strict=True):
        end = reference(noise, lambda x, level: ring(x, level).x0, path.levels(steps))
        _cloud(axis, end, f"{steps} steps")
    return figure


def _once_more(x: Tensor, denoiser: Guess, levels: list[Level]) -> Tensor:
    return denoiser(walk_down(x, denoiser, levels), levels[-1])


def _every_second(x: Tensor, denoiser: Guess, levels: list[Level]) -> Tensor:
    for now, after in zip(levels[::2], levels[1::2], strict=False):
        x = _move(x, denoiser(x, now), now, after)
    return x


WALK_DOWN = Exercise(
    id="01.3",
    name="walk_down",
    title="The samples that stay a little grainy",
    kind="debug",
    difficulty=2,
    minutes=10,
    reference=walk_down,
    builds_on=[DENOISE_STEP],
    cases=[
        Case("two pictures, even steps from T", _start(_even, 1.0, 2, 1, 8, 6)),
        Case("six points, three uneven steps, not from T", _start(_uneven, 1.4, 6, 2)),
        Case("five points, a few steps where α + σ = 1", _start(_straight, 2.0, 5, 2)),
        Case("six points, levels that end before the data", _start(_part_of_the_way, 1.4, 6, 2)),
    ],
    planted="last-step-missing",
    misconceptions=[
        Misconception(
            "last-step-missing",
            _walk(last=1),
            "The loop makes one step fewer than there are, and the one that is missing is the last: at the "
            "end of the list σ is 0, and the result is still at the level before it. What is left of the "
            "noise is the grain.",
            about="count",
        ),
        Misconception(
            "first-step-skipped",
            _walk(first=1),
            "The walk now reaches the data, but it starts at levels[1], and x is at levels[0]. Begin with "
            "i = 0: there is one step for each pair of neighbouring levels.",
            about="count",
        ),
        Misconception(
            "denoiser-told-the-next-level",
            _walk(told=1),
            "The denoiser is told levels[i + 1], and x is still at levels[i]. It would look for less noise "
            "than there is.",
            about="level",
        ),
        Misconception(
            "grain-hidden",
            _last_guess_of_the_short_loop,
            "You return the last guess of the loop, and that does look clean. But the loop still ends one "
            "step early, so it is the guess of a noisier x. Mend the number of steps.",
            about="count",
        ),
        Misconception(
            "last-guess-for-the-result",
            _last_guess,
            "You return the last guess. That is right where the list ends at the data, with σ = 0. But a "
            "list may end at a level on the way, and there the result still holds noise: take the last step.",
            about="input",
        ),
        Misconception(
            "past-the-end",
            _past_the_end,
            "The loop runs too often, and levels[i + 1] lies past the end of the list. Between n + 1 levels "
            "there are n steps, and n is another number for another list: len(levels) − 1.",
            about="count",
        ),
        Misconception(
            "always-from-the-noise",
            _always_from_the_noise,
            "Each step starts from the noise again, so that only the last one counts. A step starts from "
            "what the step before left: x = denoise_step(x, …).",
            about="input",
        ),
        Misconception(
            "one-guess-for-all",
            _one_guess_for_all,
            "The denoiser is asked once, before the loop, and its first guess is kept. Ask again at every "
            "step: each guess is better than the one before.",
            about="order",
        ),
        Misconception(
            "told-the-first-level",
            _told_the_first,
            "The denoiser is told levels[0] at every step. After the first step x is at levels[i], with less "
            "noise than that.",
            about="level",
        ),
        Misconception(
            "guess-for-x",
            _guess_for_x,
            "You put the guess in the place of x, and that jumps to clean data in one step. A step goes only "
            "to the next level: x = denoise_step(x, …).",
            about="input",
        ),
        Misconception(
            "result-clipped",
            lambda x, denoiser, levels: _walk(last=1)(x, denoiser, levels).clamp(-1, 1),
            "You cut the result to [−1, 1]. That hides the grain on black and white and leaves it in the "
            "greys; the last step is still missing.",
            about="extra",
        ),
        Misconception(
            "once-more-at-the-end",
            _once_more,
            "The walk is right, and after it you ask the denoiser once more, at the data. There is no noise "
            "left for it to find: return x.",
            about="extra",
        ),
        Misconception(
            "every-second-step",
            _every_second,
            "Your pairs do not overlap, so every second step is left out. A step goes from each level to "
            "the next: (0, 1), (1, 2), (2, 3), …",
            about="index",
        ),
    ],
    alternatives=[_by_the_package, _by_halves],
    hints=(
        "What is grain? Noise that is still there. Print the σ of the level at which the walk ends: it "
        "should be 0.",
        "n + 1 levels have n pairs of neighbours, (0, 1), (1, 2), …, (n − 1, n). Count how many of them the "
        "loop visits.",
        "The two lines inside the loop are right. Look at the number in `range(…)`: `levels[i + 1]` must be "
        "able to reach the last level, and no further.",
    ),
    figure=_walk_figure,
    figure_alt="500 points of noise walked down with the exact guess in 2, 4 and 10 steps. With 2 the result "
    "is a filled disc, with 4 an octagon through the clusters, with 10 eight clusters and a few points "
    "between them.",
)


# 01.4 Predict: everything in one step ---------------------------------------------------------------

CHOICES = (
    "in the eight clusters",
    "at the centre of the ring",
    "all around the ring, between the clusters too",
    "spread out like the noise",
)


def one_big_step() -> str:
    """Where points end that go from pure noise to data in a single step of the exact denoiser."""
    noise = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    ring, levels = _ring(), DiscreteVP(cosine_betas()).levels(1)
    end = walk_down(noise, lambda x, level: ring(x, level).x0, levels)
    if bool((end.norm(dim=1) < 0.1).all()):
        return CHOICES[1]
    near = nearest_distance(end, ring.means)
    return CHOICES[0] if bool((near < 0.4).all()) else CHOICES[3]


ONE_BIG_STEP = Exercise(
    id="01.4",
    name="one_big_step",
    title="Everything in one step",
    kind="predict",
    difficulty=1,
    minutes=3,
    reference=one_big_step,
    cases=[Case("500 points of pure noise, a single step to t = 0", lambda g: {})],
    misconceptions=[
        Misconception(
            "clusters",
            lambda: CHOICES[0],
            "To end in a cluster, the guess would have to choose one. From pure noise all eight are equally "
            "likely, and what is best in squared error then is not to choose.",
        ),
        Misconception(
            "ring",
            lambda: CHOICES[2],
            "That would need a guess that depends on the direction of the noise. At t = T, x holds almost "
            "nothing of the data, so its direction says nothing about where the data was.",
        ),
        Misconception(
            "like-the-noise",
            lambda: CHOICES[3],
            "The step ends at α = 1, σ = 0: no part of the noise is kept. What remains is the guess, and "
            "the guess is an average.",
        ),
    ],
    alternatives=[lambda: CHOICES[1], lambda: f" {CHOICES[1].upper()} "],
    hints=(
        "A single step to α = 1, σ = 0 keeps nothing but the guess. So the question is: what is the best "
        "guess of x₀ from pure noise?",
        "x̂₀ = E[x₀ | x]. If x says nothing about x₀, this is E[x₀], the mean of all the data.",
        "Return one of the four texts. Where is the mean of eight clusters that stand evenly on a ring?",
    ),
    choices=CHOICES,
)


# 01.5 How far from the training data? ---------------------------------------------------------------


def nearest_distance(samples: Tensor, training: Tensor) -> Tensor:
    """Distance of each sample to the nearest member of the training set, without the rounding of a matmul."""
    mode = "donot_use_mm_for_euclid_dist"
    return torch.cdist(samples.flatten(1), training.flatten(1), compute_mode=mode).min(dim=1).values


def _differences(samples: Tensor, training: Tensor) -> Tensor:
    return samples.flatten(1)[:, None] - training.flatten(1)[None]  # (N, M, D)


def _sets(made: int, trained: int, *shape: int, copies: int = 0) -> Make:
    def make(g: torch.Generator) -> dict[str, Any]:
        training, samples = data(g, trained, *shape), data(g, made, *shape)
        return {"samples": torch.cat([training[:copies], samples[copies:]]), "training": training}

    return make


def _one_by_one(samples: Tensor, training: Tensor) -> Tensor:
    return torch.stack([min((s - x).square().sum().sqrt() for x in training) for s in samples])


def _nearest_figure(reference: Callable[..., Tensor]) -> Any:
    from diffusion_lessons.data import load_dataset, to_float

    training = to_float(load_dataset("digits", "train", 24).images)
    held_out = to_float(load_dataset("digits", "test", 24).images)[20:23]
    shown = torch.cat([training[:1], held_out])
    distances = reference(shown, training)
    titles = [f"{'trained on' if i == 0 else 'never seen'}\n{d:.2f}" for i, d in enumerate(distances)]
    return figures.strip(list(shown), titles)


NEAREST_DISTANCE = Exercise(
    id="01.5",
    name="nearest_distance",
    title="Is it a copy?",
    kind="implement",
    difficulty=2,
    minutes=10,
    reference=nearest_distance,
    cases=[
        Case("four made pictures, six to learn from", _sets(4, 6, 1, 8, 7)),
        Case("five colour pictures, two of them copies", _sets(5, 9, 3, 6, 8, copies=2)),
        Case("seven points in the plane, three to learn from", _sets(7, 3, 2)),
        Case("a single picture, four to learn from", _sets(1, 4, 1, 5, 6)),
    ],
    misconceptions=[
        Misconception(
            "the-other-way-round",
            lambda samples, training: nearest_distance(training, samples),
            "You looked for the nearest sample to each training picture. Asked is the nearest training "
            "picture to each sample: one number for each sample, the minimum over the training set.",
            about="swap",
        ),
        Misconception(
            "mean-over-the-training-set",
            lambda samples, training: _differences(samples, training).norm(dim=-1).mean(dim=1),
            "You averaged the distances over the whole training set. A copy is close to one picture and "
            "far from all others, so an average hides it: take the minimum.",
            about="mean",
        ),
        Misconception(
            "squared",
            lambda samples, training: _differences(samples, training).square().sum(-1).min(dim=1).values,
            "You left out the root: these are squared distances. The distance is the root of the sum of "
            "squares over all pixels.",
            about="root",
        ),
        Misconception(
            "mean-over-the-pixels",
            lambda samples, training: (
                _differences(samples, training).square().mean(-1).sqrt().min(dim=1).values
            ),
            "You averaged the squares over the pixels. That divides every distance by the root of the number "
            "of pixels; the distance here is the root of their sum.",
            about="mean",
        ),
        Misconception(
            "one-number-for-all",
            lambda samples, training: _differences(samples, training).norm(dim=-1).min(),
            "You took the minimum over everything and got one number. Each sample has a nearest picture of "
            "its own: take the minimum over the training set alone, with dim=1.",
            about="axis",
        ),
        Misconception(
            "values-and-places",
            lambda samples, training: _differences(samples, training).norm(dim=-1).min(dim=1),
            "`.min(dim=1)` gives two things, the values and the places where they stand. The distances are "
            "the first of the two: `.values`.",
            about="extra",
        ),
        Misconception(
            "which-one-not-how-far",
            lambda samples, training: _differences(samples, training).norm(dim=-1).argmin(dim=1),
            "You returned which training picture is the nearest. That is useful to look at; asked is how far "
            "away it is.",
            about="reading",
        ),
        Misconception(
            "farthest",
            lambda samples, training: _differences(samples, training).norm(dim=-1).max(dim=1).values,
            "You took the largest distance. A copy is known by its smallest: .min in place of .max.",
            about="direction",
        ),
        Misconception(
            "absolute-differences",
            lambda samples, training: _differences(samples, training).abs().sum(-1).min(dim=1).values,
            "You added up absolute differences. The distance asked for is the root of the sum of squares.",
            about="formula",
        ),
        Misconception(
            "signs-cancel",
            lambda samples, training: _differences(samples, training).sum(-1).abs().min(dim=1).values,
            "You added up the differences before squaring, so that brighter and darker pixels cancel out. "
            "Square each pixel's difference, then add.",
            about="order",
        ),
        Misconception(
            "nearest-in-each-pixel",
            lambda samples, training: (
                _differences(samples, training).abs().min(dim=1).values.square().sum(-1).sqrt()
            ),
            "You took the minimum for each pixel by itself, so that each pixel may be compared with another "
            "picture. Sum over the pixels first; the minimum over the pictures comes last.",
            about="order",
        ),
        Misconception(
            "distance-to-the-mean",
            lambda samples, training: (samples.flatten(1) - training.flatten(1).mean(0)).norm(dim=1),
            "You measured the distance to the mean of the training set. A copy is close to one picture: "
            "compare with each of them.",
            about="mean",
        ),
        Misconception(
            "largest-pixel",
            lambda samples, training: _differences(samples, training).abs().amax(-1).min(dim=1).values,
            "You took the pixel that differs most. The distance asked for is over all pixels: the root of "
            "the sum of their squares.",
            about="formula",
        ),
        Misconception(
            "same-place-only",
            lambda samples, training: (lambda n: (samples[:n] - training[:n]).flatten(1).norm(dim=1))(
                min(len(samples), len(training))
            ),
            "You compared sample i with training picture i alone. A copy may come from any place in the "
            "training set: compare each sample with all of it.",
            about="formula",
        ),
        Misconception(
            "copies-left-out",
            lambda samples, training: torch.stack(
                [d[d > 1e-3].min() for d in _differences(samples, training).norm(dim=-1)]
            ),
            "You left out distances of 0. No sample meets itself in the training set: a distance of 0 is a "
            "copy, which is just what is looked for.",
            about="boundary",
        ),
        Misconception(
            "angle",
            lambda samples, training: (
                (1 - torch.cosine_similarity(samples.flatten(1)[:, None], training.flatten(1)[None], dim=-1))
                .min(dim=1)
                .values
            ),
            "You measured the angle between pictures. The distance asked for is the root of the sum of "
            "squared differences.",
            about="formula",
        ),
        Misconception(
            "cut-first",
            lambda samples, training: nearest_distance(samples.clamp(-1, 1), training.clamp(-1, 1)),
            "You cut the pictures to [−1, 1] first, and that changes the distances of those that lie "
            "outside. Compare them as they are.",
            about="extra",
        ),
        Misconception(
            "rows-of-pixels",
            lambda samples, training: torch.cdist(samples, training).min(-1).values,
            "torch.cdist compares what lies along the last dimension, here single rows of pixels. Make one "
            "row of each picture first: .flatten(1).",
            about="shape",
        ),
    ],
    alternatives=[
        _one_by_one,
        lambda samples, training: torch.cdist(samples.flatten(1), training.flatten(1)).amin(1),
        lambda samples, training: _differences(samples, training).norm(dim=-1).min(dim=1)[0],
    ],
    hints=(
        "Compare each sample with every training picture. A copy gives itself away by one very small "
        "distance, however far the others are.",
        "d(s) = min over x of ‖s − x‖, where ‖·‖ is the root of the sum of squares over all pixels. "
        "N samples and M training pictures have N × M distances; the minimum runs over the M.",
        "Flatten both to rows, `samples.flatten(1)`. `torch.cdist` gives all distances as (N, M); then one "
        "`.min(dim=…)`, which returns values and indices.",
    ),
    figure=_nearest_figure,
    figure_alt="Four real digits with their distance to the nearest training picture: 0.00 for one that is "
    "in the training set, and 5.37, 5.03 and 4.69 for three that are not.",
    rtol=1e-3,
    atol=1e-2,
)


# 01.6 The training loop ------------------------------------------------------------------------------

Report = Callable[[float], None]


def train_network(
    network: nn.Module, optimizer: Any, path: DiscreteVP, batches: Iterable[Any], after_step: Report
) -> None:
    """Squared error in x₀ at the times of each batch."""
    for x0, noise, t, label in batches:
        alpha, sigma = path(t).like(x0)
        x = noise_points(x0, noise, alpha, sigma)
        guess = network(x, t, label)
        loss = (guess - x0).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        after_step(loss.item())


class _Tiny(nn.Module):
    """The smallest network that can be trained: a·x + b·t/1000 and a number for each label."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights, self.labels = nn.Parameter(weights[:2].clone()), nn.Parameter(weights[2:].clone())

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        _one_for_each("t", t, x)
        offset = self.weights[1] * t.to(x.dtype) / 1000
        if label is not None:
            _one_for_each("label", label, x)
            offset = offset + self.labels[label]
        return self.weights[0] * x + offset.view(-1, *[1] * (x.ndim - 1))


def _one_for_each(name: str, given: Tensor, x: Tensor) -> None:
    """What the real network refuses, too."""
    if x.dtype != torch.float32:
        raise ValueError(f"the network wants x in float32, as its weights are, got {x.dtype}")
    if tuple(given.shape) != (len(x),):
        shapes = f"{tuple(given.shape)} for x {tuple(x.shape)}"
        raise ValueError(f"the network wants {name} of shape (B,), one for each picture, got {shapes}")
    if name == "label" and given.is_floating_point():
        raise ValueError(
            f"the network wants whole numbers for label, as in network(x, t, label), got {given.dtype}"
        )


def _on_tiny(
    answer: Callable[..., Any],
    path: DiscreteVP,
    weights: Tensor,
    x0: Tensor,
    noise: Tensor,
    t: Tensor,
    label: Tensor,
) -> dict[str, Any]:
    """A step of plain gradient descent for each entry of x0, noise, t and label, which come one by one."""
    network, losses, made = _Tiny(weights), list[float](), list[int]()
    optimizer = Descent(network.parameters(), lr=0.3)
    batches = (list(batch) for batch in zip(x0, noise, t, label, strict=True))

    def after_step(loss: Any) -> None:
        losses.append(float(loss.detach() if isinstance(loss, Tensor) else loss))
        made.append(optimizer.made)

    kept = [each.clone() for each in (x0, noise, t, label)]
    answer(network, optimizer, path, batches, after_step)
    return {
        "the losses told to after_step": losses,
        "steps of the optimizer before each after_step": made,
        "weights after the last step": torch.cat([network.weights, network.labels]).detach().clone(),
        "batches left as they came": all(map(torch.equal, kept, (x0, noise, t, label))),
    }


def _some_batches(draw: Callable[..., Tensor], steps: int, *shape: int, between: bool = False) -> Make:
    """Some batches of one shape, each picture at a time of its own; `between` whole times, too."""

    def make(g: torch.Generator) -> dict[str, Any]:
        size = (steps, *shape)
        return {
            "path": DiscreteVP(cosine(g)),
            "weights": torch.cat([0.3 + 0.2 * torch.rand(1, generator=g), 0.3 * normal(g, 11)]),
            "x0": draw(g, *size) if len(shape) < 4 else draw(g, steps * shape[0], *shape[1:]).view(size),
            "noise": normal(g, *size),
            "t": torch.tensor([several(g, shape[0], 1, 999) for _ in range(steps)]).float()
            + between * torch.rand(steps, shape[0], generator=g),
            "label": torch.tensor([several(g, shape[0], 0, 9) for _ in range(steps)]),
        }

    return make


Loop = Callable[..., None]
Loss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # of guess, x0, noise and x


def _mean_square(guess: Tensor, x0: Tensor, noise: Tensor, x: Tensor) -> Tensor:
    return (guess - x0).square().mean()


def _loop(
    loss: Loss = _mean_square,
    told: Callable[..., tuple[Any, ...]] = lambda x, t, label, x0: (x, t, label),
    calls: Sequence[str] = ("zero_grad", "backward", "step", "report"),
    at: Callable[[Tensor], Tensor] = lambda t: t,
    batches_used: int | None = None,
) -> Loop:
    """The loop of the exercise with one thing changed."""

    def train(
        network: nn.Module, optimizer: Any, path: DiscreteVP, batches: Iterable[Any], after_step: Report
    ) -> None:
        for x0, noise, t, label in list(batches)[:batches_used]:
            x = noise_points(x0, noise, *path(at(t)).like(x0))
            found = loss(network(*told(x, t, label, x0)), x0, noise, x)
            does = {
                "zero_grad": optimizer.zero_grad,
                "backward": found.backward,
                "step": optimizer.step,
                "report": partial(after_step, float(found.detach())),
            }
            for call in calls:
                does[call]()

    return train


def _loss_after_the_step(
    network: nn.Module, optimizer: Any, path: DiscreteVP, batches: Iterable[Any], after_step: Report
) -> None:
    for x0, noise, t, label in batches:
        x = noise_points(x0, noise, *path(t).like(x0))
        optimizer.zero_grad()
        (network(x, t, label) - x0).square().mean().backward()
        optimizer.step()
        after_step((network(x, t, label) - x0).square().mean().item())


def _running_mean(
    network: nn.Module, optimizer: Any, path: DiscreteVP, batches: Iterable[Any], after_step: Report
) -> None:
    losses: list[float] = []

    def report(loss: float) -> None:
        losses.append(loss)
        after_step(sum(losses) / len(losses))

    train_network(network, optimizer, path, batches, report)


def _reported_once(
    network: nn.Module, optimizer: Any, path: DiscreteVP, batches: Iterable[Any], after_step: Report
) -> None:
    losses: list[float] = []
    train_network(network, optimizer, path, batches, losses.append)
    after_step(losses[-1])


def _reported_at_the_end(
    network: nn.Module, optimizer: Any, path: DiscreteVP, batches: Iterable[Any], after_step: Report
) -> None:
    losses: list[float] = []
    train_network(network, optimizer, path, batches, losses.append)
    for loss in losses:
        after_step(loss)


def _one_step_at_the_end(
    network: nn.Module, optimizer: Any, path: DiscreteVP, batches: Iterable[Any], after_step: Report
) -> None:
    optimizer.zero_grad()
    _loop(calls=("backward", "report"))(network, optimizer, path, batches, after_step)
    optimizer.step()


def _noise_in_place(
    network: nn.Module, optimizer: Any, path: DiscreteVP, batches: Iterable[Any], after_step: Report
) -> None:
    def strengthened() -> Any:
        for x0, noise, t, label in batches:
            kept = noise.clone()
            noise.mul_(path(t).like(x0)[1])
            yield x0, kept, t, label

    train_network(network, optimizer, path, strengthened(), after_step)


def _loop_with_factors(factors: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> Loop:
    """The loop with other factors in the noisy picture."""

    def train(
        network: nn.Module, optimizer: Any, path: DiscreteVP, batches: Iterable[Any], after_step: Report
    ) -> None:
        for x0, noise, t, label in batches:
            x = noise_points(x0, noise, *factors(*path(t).like(x0)))
            loss = (network(x, t, label) - x0).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            after_step(loss.item())

    return train


def _by_torch(
    network: nn.Module, optimizer: Any, path: DiscreteVP, batches: Iterable[Any], after_step: Report
) -> None:
    for x0, noise, t, label in batches:
        level = path(t)
        alpha, sigma = (factor.to(x0).view(-1, *[1] * (x0.ndim - 1)) for factor in (level.alpha, level.sigma))
        loss = nn.functional.mse_loss(network(alpha * x0 + sigma * noise, t, label), x0)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        after_step(float(loss.detach()))


def _losses(train: Loop, steps: int = 60) -> list[float]:
    """Of a tiny network on pictures of one brightness for each label."""
    g = torch.Generator().manual_seed(0)
    network, losses = _Tiny(torch.zeros(12)), list[float]()

    def batches() -> Any:
        for _ in range(steps):
            label = torch.randint(10, (32,), generator=g)
            x0 = (label.float() / 4.5 - 1).view(-1, 1, 1, 1).expand(-1, 1, 4, 4)
            yield x0, normal(g, 32, 1, 4, 4), 1000 * torch.rand(32, generator=g), label

    train(
        network, Descent(network.parameters(), lr=0.3), DiscreteVP(cosine_betas()), batches(), losses.append
    )
    return losses


def _train_figure(reference: Loop) -> Any:
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(4.4, 2.4))
    axis.plot(_losses(reference), "-", marker="", label="the loop")
    never = TRAIN_NETWORK.misconception("gradients-never-cleared").function
    axis.plot(_losses(never), "--", marker="", label="gradients never cleared")
    axis.set(xlabel="step", ylabel="loss", ylim=(0, 1.4))
    axis.legend()
    return figure


TRAIN_NETWORK = Exercise(
    id="01.6",
    name="train_network",
    title="The loop that trains",
    kind="implement",
    difficulty=2,
    minutes=20,
    reference=train_network,
    call=_on_tiny,
    builds_on=[NOISE_POINTS],
    cases=[
        Case("four steps on five pictures each", _some_batches(blobs, 4, 5, 1, 6, 4)),
        Case(
            "three steps on four colour pictures each, at times that are not whole",
            _some_batches(blobs, 3, 4, 3, 4, 5, between=True),
        ),
        Case("five steps on six points each, beyond ±1", _some_batches(normal, 5, 6, 2)),
    ],
    misconceptions=[
        Misconception(
            "noise-for-the-target",
            _loop(loss=lambda guess, x0, noise, x: (guess - noise).square().mean()),
            "You compare the network's answer with the noise. Many published models are trained so; here the "
            "network is to guess the clean picture, x0.",
            about="input",
        ),
        Misconception(
            "noisy-picture-for-the-target",
            _loop(loss=lambda guess, x0, noise, x: (guess - x).square().mean()),
            "You compare the answer with the noisy picture, which the network sees. It would learn to return "
            "its input. Compare with the clean picture, x0.",
            about="input",
        ),
        Misconception(
            "clean-picture-shown",
            _loop(told=lambda x, t, label, x0: (x0, t, label)),
            "The network is shown the clean picture, so there is nothing to guess. Show it the noisy one, "
            "x = α·x₀ + σ·ε.",
            about="input",
        ),
        Misconception(
            "label-forgotten",
            _loop(told=lambda x, t, label, x0: (x, t)),
            "The network is not told the label. Then nobody could ask it for a digit later: "
            "network(x, t, label).",
            about="missing",
        ),
        Misconception(
            "time-as-a-share",
            _loop(told=lambda x, t, label, x0: (x, t / 1000, label)),
            "You tell the network t/T. It wants the time as it is given, from 1 to T, because the walk will "
            "tell it that time, too.",
            about="input",
        ),
        Misconception(
            "one-level-for-all",
            _loop(at=lambda t: t[:1].expand(len(t))),
            "You noise the whole batch to the time of its first picture. Each picture has a time of its own: "
            "path(t) with all of t.",
            about="batch",
        ),
        Misconception(
            "gradients-never-cleared",
            _loop(calls=("backward", "step", "report")),
            "The losses begin right, but gradients are never cleared. They add up from batch to batch, and "
            "each step also goes where all steps before it went: optimizer.zero_grad().",
            about="gradient",
        ),
        Misconception(
            "weights-never-move",
            _loop(calls=("backward", "zero_grad", "report")),
            "The weights never move: optimizer.step() is missing, or it comes where there is no gradient. "
            "The order is zero_grad, backward, step.",
            about="order",
        ),
        Misconception(
            "two-steps-with-one-gradient",
            _loop(calls=("zero_grad", "backward", "step", "step", "report")),
            "The optimizer steps twice with one gradient. One batch, one loss, one step.",
            about="count",
        ),
        Misconception(
            "loop-left-early",
            _loop(batches_used=1),
            "The loop ends after the first batch. Is there a `return` inside of it? It should go on until "
            "the batches are used up.",
            about="count",
        ),
        Misconception(
            "loss-summed",
            _loop(loss=lambda guess, x0, noise, x: (guess - x0).square().sum()),
            "You added the squared errors up. Take their mean, so that a step does not grow with the size of "
            "the batch and of the pictures.",
            about="mean",
        ),
        Misconception(
            "absolute-error",
            _loop(loss=lambda guess, x0, noise, x: (guess - x0).abs().mean()),
            "You took absolute errors. The best guess in absolute error is a median; the walk needs the mean "
            "of all that is possible, and that is the best guess in squared error.",
            about="formula",
        ),
        Misconception(
            "root-of-the-mean",
            _loop(loss=lambda guess, x0, noise, x: (guess - x0).square().mean().sqrt()),
            "You took the root of the mean squared error. Its smallest value is at the same guess, but its "
            "gradients are others: leave the root out.",
            about="root",
        ),
        Misconception(
            "after-step-never-called",
            _loop(calls=("zero_grad", "backward", "step")),
            "The training is right, but after_step is never called: nobody sees the loss, and the learning "
            "rate, which the lesson lowers there, stays where it is.",
            about="missing",
        ),
        Misconception(
            "after-step-called-once",
            _reported_once,
            "You call after_step once, after the loop. Call it inside of the loop, at the end of every step.",
            about="order",
        ),
        Misconception(
            "loss-after-the-step",
            _loss_after_the_step,
            "The weights are right, but the loss that you report is that of the network after the step. "
            "Report the loss whose gradient made the step: it costs no second evaluation.",
            about="order",
        ),
        Misconception(
            "mean-of-all-steps",
            _running_mean,
            "The training is right, but you report the mean over all steps so far. after_step wants the loss "
            "of this batch alone.",
            about="mean",
        ),
        Misconception(
            "after-step-too-early",
            _loop(calls=("zero_grad", "backward", "report", "step")),
            "The training is right, but you call after_step before optimizer.step(). It belongs to the end "
            "of the step: the lesson changes the learning rate there, for the next one.",
            about="order",
        ),
        Misconception(
            "all-reported-at-the-end",
            _reported_at_the_end,
            "You keep the losses and hand all of them to after_step when the loop is over. Call it inside of "
            "the loop, at the end of every step.",
            about="order",
        ),
        Misconception(
            "whole-times",
            _loop(told=lambda x, t, label, x0: (x, t.long(), label)),
            "You turn t into whole numbers before the network is told. A time may lie between two of them: "
            "hand t over as it comes.",
            about="rounding",
        ),
        Misconception(
            "whole-times-for-the-noise",
            _loop(at=torch.Tensor.long),
            "You turn t into whole numbers before the path is asked. A time may lie between two of them: "
            "path(t) takes t as it comes.",
            about="rounding",
        ),
        Misconception(
            "loss-divided-by-the-batch",
            _loop(loss=lambda guess, x0, noise, x: (guess - x0).square().sum() / len(x0)),
            "You added the squared errors of each picture up and took the mean over the batch alone. It is "
            "the mean over all entries: of the batch, the channels, rows and columns.",
            about="mean",
        ),
        Misconception(
            "half-of-the-loss",
            _loop(loss=lambda guess, x0, noise, x: (guess - x0).square().mean() / 2),
            "You halved the mean squared error, so that its gradient has no 2. Leave the half out: the loss "
            "is the mean itself.",
            about="factor",
        ),
        Misconception(
            "factors-swapped",
            _loop_with_factors(lambda alpha, sigma: (sigma, alpha)),
            "The two factors have changed places in your noisy picture: α belongs to x0, σ to the noise.",
            about="swap",
        ),
        Misconception(
            "data-at-full-strength",
            _loop_with_factors(lambda alpha, sigma: (torch.ones_like(alpha), sigma)),
            "You added the noise and left x0 at full strength. The noisy picture is α·x0 + σ·noise.",
            about="missing",
        ),
        Misconception(
            "one-step-for-all-batches",
            _one_step_at_the_end,
            "The optimizer steps once, after the loop. Each batch has a step of its own.",
            about="count",
        ),
        Misconception(
            "whole-times-for-both",
            _loop(told=lambda x, t, label, x0: (x, t.long(), label), at=torch.Tensor.long),
            "You turn t into whole numbers. A time may lie between two of them: hand t over as it comes, to "
            "the path and to the network.",
            about="rounding",
        ),
        Misconception(
            "batch-changed-in-place",
            _noise_in_place,
            "The training is right, but you change a tensor of the batch in place (*=, mul_). The caller "
            "may still need it: make a new one, as noise_points does.",
            about="extra",
        ),
    ],
    alternatives=[_by_torch, _loop(calls=("backward", "step", "zero_grad", "report"))],
    hints=(
        "Each batch is an exercise with its answer. Make the noisy picture, let the network guess, and "
        "compare the guess with the clean picture. Then the three calls of every training loop in PyTorch.",
        "x = α·x₀ + σ·ε with the α and σ of each picture's time; the loss is the mean of "
        "(network(x, t, label) − x₀)²; then clear the gradients, compute them, step.",
        "`for x0, noise, t, label in batches:`, then `alpha, sigma = path(t).like(x0)`, your `noise_points`, "
        "the guess, the loss, `optimizer.zero_grad()`, `loss.backward()`, `optimizer.step()`, and "
        "`after_step(loss.item())`.",
    ),
    figure=_train_figure,
    figure_alt="The loss of a tiny network over 60 steps. With the loop it falls from 0.46 to nearly 0. With "
    "gradients that are never cleared it falls at first, and then jumps up and down between 0.1 and 1.",
)


# 01.7 Drawing ----------------------------------------------------------------------------------------


def draw_digits(network: nn.Module, label: Tensor, noise: Tensor, levels: list[Level]) -> Tensor:
    """`walk_down` with the network's guess of pictures with these labels."""

    def denoiser(x: Tensor, level: Level) -> Tensor:
        guess: Tensor = network(x, level.t.to(x).expand(len(x)), label)
        return guess

    with torch.no_grad():
        return walk_down(noise, denoiser, levels)


class _ExactDigits(nn.Module):
    """The exact guess where the pixels of label k are N(centre_k, spread²), each for itself."""

    def __init__(self, path: DiscreteVP, centres: Tensor, spread: float) -> None:
        super().__init__()
        self.path, self.spread, self.centres = path, spread, nn.Parameter(centres)

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        _one_for_each("t", t, x)
        if t.dtype != x.dtype:
            raise ValueError(f"the network wants t in the dtype of x, {x.dtype}, got {t.dtype}")
        if label is not None:
            _one_for_each("label", label, x)
        alpha, sigma = self.path(t).like(x)
        centre = self.centres.mean().expand(len(x)) if label is None else self.centres[label]
        centre = centre.view(-1, *[1] * (x.ndim - 1))
        gain = alpha * self.spread**2 / ((alpha * self.spread) ** 2 + sigma**2)
        return centre + gain * (x - alpha * centre)


def _drawn(
    answer: Callable[..., Any],
    path: DiscreteVP,
    centres: Tensor,
    spread: float,
    times: list[float],
    label: Tensor,
    noise: Tensor,
) -> Any:
    """With an exact network, along the levels of these times."""
    network = _ExactDigits(path, centres, spread).eval()  # a call of .eval() changes nothing
    return answer(network, label, noise, [path(t) for t in times])


def _asked(high: tuple[int, int], *shape: int, between: bool = False) -> Make:
    """Pictures of several labels, from a time between the two, with a network that knows each brightness.

    `between`: the times lie between whole numbers, as those of even levels may.
    """

    def make(g: torch.Generator) -> dict[str, Any]:
        by = number(g, 0.55, 0.85) if between else 0.0
        return {
            "path": DiscreteVP(cosine(g)),
            "centres": 3 * torch.rand(10, generator=g) - 1.5,
            "spread": number(g, 0.2, 0.4),
            "times": [*(t + by for t in falling(g, whole(g, 4, 7), 100, whole(g, *high), apart=60)), 0.0],
            "label": torch.tensor(several(g, shape[0], 0, 9)),
            "noise": normal(g, *shape),
        }

    return make


def _ask(
    told: Callable[..., tuple[Any, ...]] = lambda x, t, label: (x, t, label),
    start: Callable[[Tensor], Tensor] = lambda noise: noise,
    end: Callable[[Tensor], Tensor] = lambda x: x,
    until: int | None = None,
    further: int = 0,
) -> Callable[..., Tensor]:
    """The drawing with one thing changed; the network is told the time of the level `further` places on."""

    @torch.no_grad()
    def draw(network: nn.Module, label: Tensor, noise: Tensor, levels: list[Level]) -> Tensor:
        x = start(noise)
        for i, (now, after) in enumerate(pairwise(levels[:until])):
            t = levels[i + further].t.to(x).expand(len(x))
            x = _move(x, network(*told(x, t, label)), now, after)
        return end(x)

    return draw


@torch.no_grad()
def _clipped_guesses(network: nn.Module, label: Tensor, noise: Tensor, levels: list[Level]) -> Tensor:
    def denoiser(x: Tensor, level: Level) -> Tensor:
        guess: Tensor = network(x, level.t.to(x).expand(len(x)), label)
        return guess.clamp(-1, 1)

    return walk_down(noise, denoiser, levels)


@torch.no_grad()
def _in_one_go(network: nn.Module, label: Tensor, noise: Tensor, levels: list[Level]) -> Tensor:
    guess: Tensor = network(noise, levels[0].t.to(noise).expand(len(noise)), label)
    return guess


@torch.no_grad()
def _first_time_only(network: nn.Module, label: Tensor, noise: Tensor, levels: list[Level]) -> Tensor:
    t = levels[0].t.to(noise).expand(len(noise))
    return walk_down(noise, lambda x, level: network(x, t, label), levels)


@torch.no_grad()
def _told_the_step(network: nn.Module, label: Tensor, noise: Tensor, levels: list[Level]) -> Tensor:
    x = noise
    for i, (now, after) in enumerate(pairwise(levels)):
        x = _move(x, network(x, torch.full((len(x),), float(i)), label), now, after)
    return x


@torch.no_grad()
def _always_about_the_noise(network: nn.Module, label: Tensor, noise: Tensor, levels: list[Level]) -> Tensor:
    def denoiser(x: Tensor, level: Level) -> Tensor:
        guess: Tensor = network(noise, level.t.to(x).expand(len(x)), label)
        return guess

    return walk_down(noise, denoiser, levels)


def _draw_figure(reference: Callable[..., Tensor]) -> Any:
    """With the best guess for the training digits of a label in the place of the network."""
    from torch.nn import functional

    from diffusion_lessons.data import load_dataset, to_float

    train, path = load_dataset("digits", "train", 24), DiscreteVP(cosine_betas())
    digits = functional.pad(to_float(train.images), (4, 4, 4, 4), value=-1.0).flatten(1)

    def network(x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        level = path(t[0])
        guess = [
            GaussianMixture(digits[train.labels == k], 0.0)(row[None], level).x0
            for row, k in zip(x.flatten(1), label, strict=True)
        ]
        return torch.cat(guess).view_as(x)

    label, g = torch.tensor([2, 3, 6, 8]), torch.Generator().manual_seed(3)
    made = reference(network, label, torch.randn(4, 1, 32, 32, generator=g), path.levels(10))
    return figures.strip(list(made), [str(int(k)) for k in label])


DRAW_DIGITS = Exercise(
    id="01.7",
    name="draw_digits",
    title="Draw with the network",
    kind="implement",
    difficulty=2,
    minutes=12,
    reference=draw_digits,
    call=_drawn,
    builds_on=[WALK_DOWN],
    cases=[
        Case("three pictures of three labels", _asked((1000, 1000), 3, 1, 6, 4)),
        Case(
            "two colour pictures, at times that are not whole", _asked((950, 999), 2, 3, 4, 5, between=True)
        ),
        Case("five points of five labels, not from T", _asked((600, 750), 5, 2)),
    ],
    misconceptions=[
        Misconception(
            "first-guess-returned",
            _in_one_go,
            "You return the first guess, which is an average. Let `walk_down` go from level to level, and "
            "ask the network at each.",
            about="count",
        ),
        Misconception(
            "label-forgotten",
            _ask(told=lambda x, t, label: (x, t)),
            "The network is not told the label, so it guesses whatever it likes: network(x, t, label).",
            about="missing",
        ),
        Misconception(
            "one-label-for-all",
            _ask(told=lambda x, t, label: (x, t, label[:1].expand(len(x)))),
            "All pictures get the label of the first. Hand over the whole of `label`: one for each picture.",
            about="batch",
        ),
        Misconception(
            "first-time-kept",
            _first_time_only,
            "The network is told the first time at every step. Inside of the denoiser, take the time of the "
            "level that it is given: level.t.",
            about="level",
        ),
        Misconception(
            "next-time-told",
            _ask(further=1),
            "The network is told the time of the next level, and x is still at this one. The time belongs to "
            "the x that is shown.",
            about="level",
        ),
        Misconception(
            "always-shown-the-noise",
            _always_about_the_noise,
            "The network is shown the starting noise at every step. Inside of the denoiser, show it the x "
            "that the denoiser is given: it gets cleaner on the way.",
            about="input",
        ),
        Misconception(
            "time-as-a-share",
            _ask(told=lambda x, t, label: (x, t / 1000, label)),
            "You tell the network t/T. It was trained with times from 1 to T: level.t as it is.",
            about="input",
        ),
        Misconception(
            "no-noise-to-start-from",
            _ask(start=torch.zeros_like),
            "The walk starts from zeros. It starts from `noise`: without it, all pictures of a label would "
            "be one and the same.",
            about="input",
        ),
        Misconception(
            "last-step-missing",
            _ask(until=-1),
            "The walk ends one level early, and a little noise is left. Give `walk_down` all of the levels.",
            about="count",
        ),
        Misconception(
            "result-clipped",
            _ask(end=lambda x: x.clamp(-1, 1)),
            "You cut the result to [−1, 1]. Nothing asks for that here: what the walk gives is the result.",
            about="extra",
        ),
        Misconception(
            "result-to-unit",
            _ask(end=lambda x: (x + 1) / 2),
            "You moved the result to [0, 1]. The pictures of this course lie in [−1, 1], and what the walk "
            "gives is the result.",
            about="extra",
        ),
        Misconception(
            "whole-times",
            _ask(told=lambda x, t, label: (x, t.long(), label)),
            "You tell the network the time as whole numbers (int64). It wants t in the dtype of x: a time "
            "may lie between two whole numbers. torch.full((len(x),), float(level.t), dtype=x.dtype, …)",
            about="rounding",
        ),
        Misconception(
            "time-cut-off",
            _ask(told=lambda x, t, label: (x, t.floor(), label)),
            "You cut the fraction of the time off. A level may lie between two whole times: float(level.t), "
            "not int(level.t).",
            about="rounding",
        ),
        Misconception(
            "time-rounded",
            _ask(told=lambda x, t, label: (x, t.round(), label)),
            "You rounded the time to a whole number. A level may lie between two whole times: "
            "float(level.t).",
            about="rounding",
        ),
        Misconception(
            "time-in-double-precision",
            _ask(told=lambda x, t, label: (x, t.double(), label)),
            "You tell the network the time in float64, as level.t has it. It wants t in the dtype of x: "
            "level.t.to(x.dtype), or dtype=x.dtype in torch.full.",
            about="reading",
        ),
        Misconception(
            "one-time-alone",
            _ask(told=lambda x, t, label: (x, t[0], label)),
            "You hand the network one time. It wants one for each picture, t of shape (N,): "
            "torch.full((len(x),), float(level.t), …)",
            about="shape",
        ),
        Misconception(
            "guess-clipped",
            _clipped_guesses,
            "You cut the network's guess to [−1, 1] before the step. Later lessons do so; here the guess is "
            "used as it comes.",
            about="extra",
        ),
        Misconception(
            "first-step-skipped",
            lambda network, label, noise, levels: _ask()(network, label, noise, levels[1:]),
            "The walk starts at levels[1], but the noise is at levels[0]. Give `walk_down` all of the "
            "levels.",
            about="count",
        ),
        Misconception(
            "number-of-the-step-told",
            _told_the_step,
            "You tell the network the number of the step. It was trained with times: level.t.",
            about="input",
        ),
    ],
    alternatives=[
        _ask(),
        lambda network, label, noise, levels: walk_down(
            noise, lambda x, level: network(x, torch.full((len(x),), float(level.t)), label).detach(), levels
        ).detach(),
    ],
    hints=(
        "`walk_down` wants a denoiser: a function of x and a level that gives a guess. The network gives "
        "guesses, too, but it wants a time for each picture, and the label. Write the function in between.",
        "The denoiser is (x, level) ↦ network(x, t, label), with t = (level.t, …, level.t), N of them. No "
        "gradient is needed: torch.no_grad().",
        "`def denoiser(x, level):` inside of your function, with "
        "`t = torch.full((len(x),), float(level.t), …)` and `return network(…)`. Then "
        "`with torch.no_grad(): return walk_down(…)`.",
    ),
    figure=_draw_figure,
    figure_alt="A 2, a 3, a 6 and an 8, drawn from noise, with the best guess for the training digits of a "
    "label in the place of the network.",
)

EXERCISES = [
    NOISE_POINTS,
    DENOISE_STEP,
    WALK_DOWN,
    ONE_BIG_STEP,
    NEAREST_DISTANCE,
    TRAIN_NETWORK,
    DRAW_DIGITS,
]
