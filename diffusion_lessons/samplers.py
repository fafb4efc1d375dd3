"""Samplers: generators that walk down a list of levels and yield (level, x, estimate) at each.

The picture, the trajectory, the scrubber and the animation all come from the same loop. The last
yield is the finished sample at the last level, with the estimate it was made from.
"""

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from diffusion_lessons.conditions import Condition
from diffusion_lessons.denoiser import Denoiser
from diffusion_lessons.paths import Level, above_data, cast, forward_kernel, posterior, renoise, same_shape
from diffusion_lessons.support.errors import unknown
from diffusion_lessons.targets import Estimate

Point = tuple[Level, Tensor, Estimate]
Noise = Callable[[int], Tensor]  # from the number of a step, counted from 0, to its noise (B, ...)
PLMS = {  # weights of ε at this step and those before, by how many there are (Adams and Bashforth)
    1: (1.0,),
    2: (3 / 2, -1 / 2),
    3: (23 / 12, -16 / 12, 5 / 12),
    4: (55 / 24, -59 / 24, 37 / 24, -9 / 24),
}
# (x, estimate, now, next, noise) -> x at the level `next`; noise is N(0, I) in the shape of x
Step = Callable[[Tensor, Estimate, Level, Level, Tensor | None], Tensor]

# Steps ---------------------------------------------------------------------------------------------


def ddim_step(
    x: Tensor, estimate: Estimate, now: Level, next: Level, noise: Tensor | None = None, eta: float = 0.0
) -> Tensor:
    """x' = α'·x₀ + √(σ'² − η²·var)·ε + η·√var·noise (Song et al. 2021, eq. 12 and 16).

    η = 0 is DDIM, and the Euler step of flow matching on a straight path; η = 1 is ancestral DDPM. The
    estimate already holds all that the step needs of x (B, ...). η > 0 needs noise (B, ...), and is refused
    from t = 0 and towards more noise.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta lies between 0 (DDIM) and 1 (ancestral), got {eta}")
    alpha, sigma = next.like(x)
    if eta == 0:
        return alpha * estimate.x0 + sigma * estimate.eps
    if noise is None:
        raise ValueError(f"eta = {eta} adds noise at each step: pass `noise`, or eta = 0")
    same_shape("x and noise", x, noise)
    above_data(now)
    std = eta * next.sigma * forward_kernel(next, now)[1] / now.sigma
    direction = (next.sigma**2 - std**2).clamp(min=0).sqrt()
    return alpha * estimate.x0 + cast(direction, x) * estimate.eps + cast(std, x) * noise


def ddpm_step(
    x: Tensor,
    estimate: Estimate,
    now: Level,
    next: Level,
    noise: Tensor | None = None,
    variance: str = "small",
) -> Tensor:
    """Draw from the posterior with the estimated x₀ in the place of the true one (Ho et al. 2020, eq. 11).

    The variance is "small", the posterior's own, or "large", that of the forward step, σ̂ of Song et al. 2021
    (the two choices of Ho et al. 2020, section 3.2). The step to t = 0 adds no noise.
    """
    if variance not in ("small", "large"):
        raise unknown("variance", variance, ("small", "large"))
    mean, small = posterior(estimate.x0, x, now, next)
    if bool((next.sigma == 0).all()):
        return mean
    if noise is None:
        raise ValueError("an ancestral step adds noise: pass `noise`")
    same_shape("x and noise", x, noise)
    std = small.sqrt() if variance == "small" else forward_kernel(next, now)[1] * (next.sigma > 0)
    return mean + cast(std, x) * noise


# Samplers ------------------------------------------------------------------------------------------


@torch.no_grad()
def trajectory(
    denoiser: Denoiser,
    x: Tensor,
    levels: list[Level],
    condition: Condition = None,
    step: Step = ddim_step,
    generator: torch.Generator | Noise | None = None,
) -> Iterator[Point]:
    """One evaluation and one step for each pair of levels; yields (level, x, estimate) once for each level.

    x is (B, ...) at levels[0], N(0, I) where that is t = T; the levels are those of `path.levels(n)`. Noise,
    for steps that ask for some, comes from a generator, drawn on its device, or from a function of the step's
    number. None makes a generator, the same every time; the global one is never touched.
    """
    generator = torch.Generator() if generator is None else generator
    for number, (now, next) in enumerate(_pairs(levels)):
        estimate = denoiser(x, now, condition)
        yield now, x, estimate
        noise = _noise(generator, number, x) if asks_for_noise(step, next) else None
        x = step(x, estimate, now, next, noise)
    yield levels[-1], x, estimate


@torch.no_grad()
def repaint(
    denoiser: Denoiser,
    x: Tensor,
    levels: list[Level],
    condition: Condition = None,
    step: Step = ddpm_step,
    generator: torch.Generator | Noise | None = None,
) -> Iterator[Point]:
    """As `trajectory`, over levels that go up now and then: a pair that rises adds noise and asks nobody.

    With `Inpaint` and the levels of `there_and_back` it is RePaint (Lugmayr et al. 2022, algorithm 1): what
    was drawn is made to fit what is known again and again.
    """
    generator, estimate = torch.Generator() if generator is None else generator, None
    for number, (now, next) in enumerate(_pairs(levels)):
        if bool((next.sigma > now.sigma).all()):
            x = renoise(x, now, next, _noise(generator, number, x))
            continue
        estimate = denoiser(x, now, condition)
        yield now, x, estimate
        x = step(x, estimate, now, next, _noise(generator, number, x) if asks_for_noise(step, next) else None)
    if estimate is None:
        raise ValueError("the levels only rise: they have to end near the data")
    yield levels[-1], x, estimate


def there_and_back(levels: list[Level], jump: int = 10, resample: int = 10) -> list[Level]:
    """Falling levels, with every stretch of `jump` steps walked `resample` times (Lugmayr et al. 2022).

    Between two times it goes straight up again, one level after the other. A jump or a number that is not a
    whole one from 1 on is a ValueError.
    """
    if not all(isinstance(each, int) and each >= 1 for each in (jump, resample)):
        raise ValueError(
            f"a jump of steps and a number of times are whole and at least 1, got {jump} and {resample}"
        )
    steps = len(levels) - 1
    left = dict.fromkeys(
        range(0, steps - jump, jump), resample - 1
    )  # times to go up again, by place from data
    place, out = steps, [levels[0]]
    while place > 0:
        place -= 1
        out.append(levels[steps - place])
        if left.get(place):
            left[place] -= 1
            out += [levels[steps - higher] for higher in range(place + 1, place + jump + 1)]
            place += jump
    return out


def _noise(generator: torch.Generator | Noise, number: int, x: Tensor) -> Tensor:
    """The noise of a step, like x."""
    if not isinstance(generator, torch.Generator):
        return generator(number).to(x)
    return torch.randn(x.shape, generator=generator, dtype=x.dtype, device=generator.device).to(x.device)


def asks_for_noise(step: Step, next: Level) -> bool:
    """Whether a step to the level `next` uses noise; a step that is not ours may always."""
    function, options = (step.func, step.keywords) if isinstance(step, partial) else (step, {})
    if function is ddim_step:
        return options.get("eta", 0.0) > 0
    return function is not ddpm_step or bool((next.sigma > 0).any())


@torch.no_grad()
def heun(
    denoiser: Denoiser,
    x: Tensor,
    levels: list[Level],
    condition: Condition = None,
    coordinates: str = "velocity",
) -> Iterator[Point]:
    """Heun's second-order method: the mean of the slopes at both ends (Karras et al. 2022, algorithm 1).

    Two evaluations a step, one on a last step to t = 0. Arguments and yields as `trajectory`. The coordinates
    "velocity" average x₀·dα + ε·dσ and are regular everywhere, at α = 0 too; on a straight path that is the
    velocity. "scaled" averages the slope ε of x/α over σ/α as the paper does, which needs α well above 0.
    """
    if coordinates not in ("velocity", "scaled"):
        raise unknown("coordinates", coordinates, ("velocity", "scaled"))
    for now, next in _pairs(levels):
        estimate = denoiser(x, now, condition)
        yield now, x, estimate
        reached = ddim_step(x, estimate, now, next)
        if bool((next.sigma > 0).all()):
            there = denoiser(reached, next, condition)
            x0, eps = (estimate.x0 + there.x0) / 2, (estimate.eps + there.eps) / 2
            if coordinates == "velocity":
                slope = cast(next.alpha - now.alpha, x) * x0 + cast(next.sigma - now.sigma, x) * eps
                reached = x + slope
            elif bool((now.alpha == 0).any()):
                raise ValueError('at α = 0 there is no x/α: use coordinates="velocity"')
            else:
                ratio = next.alpha / now.alpha
                reached = cast(ratio, x) * x + cast(next.sigma - ratio * now.sigma, x) * eps
        x = reached
    yield levels[-1], x, estimate


@torch.no_grad()
def dpmpp_2m(
    denoiser: Denoiser, x: Tensor, levels: list[Level], condition: Condition = None
) -> Iterator[Point]:
    """DPM-Solver++(2M): second order at one evaluation a step (Lu et al. 2022, algorithm 2).

    The x₀ of the step before extrapolates this one's, in λ = log(α/σ). First order on the first
    step and on a last step to t = 0. Arguments and yields as `trajectory`.
    """
    before: tuple[Tensor, Tensor] | None = None  # (x₀, λ) of the last step
    for now, next in _pairs(levels):
        estimate = denoiser(x, now, condition)
        yield now, x, estimate
        log_now, log_next = now.log_snr / 2, next.log_snr / 2
        x0 = estimate.x0
        if before is not None and bool(log_next.isfinite().all()):
            weight = (log_next - log_now) / (log_now - before[1]) / 2  # 1/(2r)
            x0 = x0 + cast(weight, x) * (x0 - before[0])
        keep = next.sigma / now.sigma
        x = cast(keep, x) * x + cast(next.alpha - keep * now.alpha, x) * x0
        before = estimate.x0, log_now
    yield levels[-1], x, estimate


@torch.no_grad()
def plms(denoiser: Denoiser, x: Tensor, levels: list[Level], condition: Condition = None) -> Iterator[Point]:
    """The scheduler that Stable Diffusion 1 was published with: DDIM's step with ε of the last four steps
    extrapolated (Liu et al. 2022, section 3: a linear multistep method).

    One evaluation a step and one more: the first step is made twice, with the mean of ε at both of its ends.
    It needs α well above 0 at levels[0], as that model's levels have. Arguments and yields as `trajectory`.
    """
    before: list[Tensor] = []  # ε of the last steps, the newest in front
    for now, next in _pairs(levels):
        estimate = denoiser(x, now, condition)
        yield now, x, estimate
        before = [estimate.eps, *before[:3]]
        eps = torch.stack([w * each for w, each in zip(PLMS[len(before)], before, strict=True)]).sum(0)
        if len(before) == 1 and bool((next.sigma > 0).all()):
            eps = (eps + denoiser(ddim_step(x, estimate, now, next), next, condition).eps) / 2
        alpha, sigma = now.like(x)
        x = ddim_step(x, Estimate((x - sigma * eps) / alpha, eps), now, next)
    yield levels[-1], x, estimate


def sample(
    denoiser: Denoiser,
    x: Tensor,
    levels: list[Level],
    condition: Condition = None,
    sampler: Callable[..., Iterator[Point]] = trajectory,
    **options: Any,
) -> Tensor:
    """The last x (B, ...) of a sampler: `sample(denoiser, noise, path.levels(25), labels)`.

    The sampler is `trajectory`, `heun`, `dpmpp_2m`, or any generator of their kind, and takes the options,
    such as `step=ddpm_step` or `generator`.
    """
    *_, (_, last, _) = deque(sampler(denoiser, x, levels, condition, **options), maxlen=1)
    return last


def invert(denoiser: Denoiser, x0: Tensor, levels: list[Level], condition: Condition = None) -> Tensor:
    """The noise that DDIM would turn into x0 (B, ...): its update over rising levels (Song et al. 2021, 5.4).

    The levels are given as for sampling, falling, ending at t = 0. Networks never train at t = 0, so the
    first step uses the noise that the denoiser sees at the first time above it.
    """
    rising = levels[::-1]

    def never_at_zero(x: Tensor, level: Level, condition: Condition = None) -> Estimate:
        if bool((level.sigma > 0).all()):
            return denoiser(x, level, condition)
        return Estimate(x, denoiser(x, rising[1], condition).eps)

    return sample(never_at_zero, x0, rising, condition)


def slerp(a: Tensor, b: Tensor, weight: Tensor | float) -> Tensor:
    """Along the arc from noise a to noise b (Shoemake 1985; Song et al. 2021, appendix D.5).

    a·sin((1 − w)Ω)/sin Ω + b·sin(wΩ)/sin Ω, Ω being the angle between each sample of a and b (B, ...) as
    vectors: the result is as long as they are, so it is N(0, I) where they are. A straight line is shorter
    in the middle. The weight, a number or (B,), is 0 for a and 1 for b.
    """
    same_shape("a and b", a, b)
    one, other = a.flatten(1), b.flatten(1)
    cosine = torch.nn.functional.cosine_similarity(one, other, eps=1e-30).clamp(-1, 1)  # (B,)
    if bool((cosine < -1 + 1e-6).any()):
        raise ValueError("a and b point in opposite directions: many arcs lead from one to the other")
    weight = torch.as_tensor(weight, dtype=a.dtype, device=a.device).expand(len(a))
    angle = cosine.acos()
    straight = angle < 1e-3  # the arc is a line there, and 0/0 as a formula
    angle = torch.where(straight, 1.0, angle)
    of_a = torch.where(straight, 1 - weight, ((1 - weight) * angle).sin() / angle.sin())
    of_b = torch.where(straight, weight, (weight * angle).sin() / angle.sin())
    return cast(of_a, a) * a + cast(of_b, b) * b


SAMPLERS: dict[str, Callable[..., Iterator[Point]]] = {
    "ddim": trajectory,
    "ddpm": partial(trajectory, step=ddpm_step),
    "heun": heun,
    "dpmpp-2m": dpmpp_2m,
}


def _pairs(levels: list[Level]) -> Iterator[tuple[Level, Level]]:
    if len(levels) < 2:
        raise ValueError(f"sampling needs at least two levels, got {len(levels)}: use path.levels(n), n ≥ 1")
    return pairwise(levels)
