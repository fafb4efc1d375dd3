"""Lesson 18, flow matching: the straight path, its solvers, models of other paths, straightness, reflow."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from diffusion_lessons.course.bank import figures
from diffusion_lessons.course.bank.inputs import data, gaussian, normal, number, several
from diffusion_lessons.course.exercises.exercise import Case, Exercise, Misconception
from diffusion_lessons.denoiser import Denoiser, OnPath
from diffusion_lessons.paths import NoisePath, StraightPath, add_noise
from diffusion_lessons.targets import FLOW
from diffusion_lessons.training.recipe import PATHS

Make = Callable[[torch.Generator], dict[str, Any]]
Velocity = Callable[[Tensor, Any], Tensor]  # (x, t) -> dx/dt


def _flow(mean: float, spread: Tensor | float) -> Velocity:
    """The exact velocity of pictures whose pixels are N(mean, spread²), at t = 0, too."""

    def velocity(x: Tensor, t: Any) -> Tensor:
        t = torch.as_tensor(t, dtype=x.dtype).to(x.device)
        t = t.view(-1, *[1] * (x.ndim - 1)) if t.ndim else t
        variance = (1 - t) ** 2 * spread**2 + t**2
        return (t - (1 - t) * spread**2) / variance * (x - (1 - t) * mean) - mean

    return velocity


def _uneven(g: torch.Generator, n: int, last: float = 0.0) -> list[float]:
    """n + 1 times that fall from 1 to the last one, no two steps alike."""
    steps = torch.rand(n, generator=g, dtype=torch.float64) + 0.4
    done = (steps / steps.sum()).cumsum(0)[:-1]
    return [1.0, *(float(f"{1 - (1 - last) * float(each):.3g}") for each in done), last]


def _of_each(t: Tensor, x: Tensor) -> Tensor:
    """Times (B,) with the rank of x (B, ...)."""
    return t.view(-1, *[1] * (x.ndim - 1)).to(x)


# 18.1 The straight path and its velocity -------------------------------------------------------------


def straight_path(x0: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Liu et al. 2023, eq. 1, with t = 0 at the data: the point, and what a flow learns there."""
    level = StraightPath()(t)
    return add_noise(x0, noise, level), FLOW.of(x0, noise, level)


def _pair(made: Any, what: str = "a pair (x, v)") -> dict[str, Any] | None:
    if made is None:
        return None  # nothing was returned: the judge says so
    if not isinstance(made, tuple | list) or len(made) != 2:
        raise ValueError(f"the answer is {what}; you returned one {type(made).__name__}")
    return {"x": made[0], "v": made[1]}


def _on_the_line(answer: Callable[..., Any], x0: Tensor, noise: Tensor, t: Tensor) -> Any:
    return _pair(answer(x0, noise, t))


def _line(
    point: Callable[..., Tensor] = lambda x0, noise, t: (1 - t) * x0 + t * noise,
    slope: Callable[..., Tensor] = lambda x0, noise, t, x: noise - x0,
    times: Callable[[Tensor], Tensor] = lambda t: t,
) -> Callable[..., Any]:
    """The pair in plain steps, with a place for each slip."""

    def answer(x0: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        each = _of_each(times(t), x0)
        x = point(x0, noise, each)
        return x, slope(x0, noise, each, x)

    return answer


def _line_by_lerp(x0: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    x = torch.stack([torch.lerp(a, b, float(each)) for a, b, each in zip(x0, noise, t, strict=True)])
    return x, -(x0 - noise)


def _line_inputs(*shape: int) -> Make:
    def make(g: torch.Generator) -> dict[str, Any]:
        t = torch.tensor([number(g, 0.1, 0.9) for _ in range(shape[0])], dtype=torch.float64)
        return {"x0": data(g, *shape), "noise": normal(g, *shape), "t": t}

    return make


def _line_figure(reference: Callable[..., Any]) -> Any:
    three = figures.digits(4)[3:4].expand(4, -1, -1, -1)
    x, v = reference(three, figures.noise(1, 1, 16, 16).expand_as(three), torch.tensor([0.0, 0.3, 0.7, 1.0]))
    return figures.strip([*x, v[0] / 2], ["t = 0", "t = 0.3", "t = 0.7", "t = 1", "v, at all t"])


LINE = Exercise(
    id="18.1",
    name="straight_path",
    title="A straight line from data to noise",
    kind="reproduce",
    difficulty=1,
    minutes=6,
    reference=straight_path,
    call=_on_the_line,
    cases=[
        Case("three grey pictures, each at its own time", _line_inputs(3, 1, 8, 7)),
        Case("colours", _line_inputs(2, 3, 6, 6)),
        Case("points of a plane", _line_inputs(5, 2)),
        Case("clips: a frame axis more", _line_inputs(2, 3, 1, 4, 5)),
    ],
    misconceptions=[
        Misconception(
            "time-of-the-papers",
            _line(lambda x0, noise, t: t * x0 + (1 - t) * noise, lambda x0, noise, t, x: x0 - noise),
            "Your time runs as in the papers on flows, from noise at 0 to data at 1. Here t = 0 is data and "
            "t = 1 is noise: both the mixture and the slope turn round.",
            about="direction",
        ),
        Misconception(
            "ends-swapped",
            _line(lambda x0, noise, t: t * x0 + (1 - t) * noise),
            "Your x is data at t = 1 and noise at t = 0. It is the other way round: (1 − t) goes with x0.",
            about="swap",
        ),
        Misconception(
            "velocity-backwards",
            _line(slope=lambda x0, noise, t, x: x0 - noise),
            "Your x is right and your v points from noise to data. v is dx/dt, and t grows towards noise: "
            "noise − x0.",
            about="sign",
        ),
        Misconception(
            "way-so-far",
            _line(slope=lambda x0, noise, t, x: x - x0),
            "Your v is x − x0, the way so far. The velocity does not depend on t: it is that of the whole "
            "line, in a time of 1.",
            about="formula",
        ),
        Misconception(
            "rest-of-the-way",
            _line(slope=lambda x0, noise, t, x: noise - x),
            "Your v is noise − x, the rest of the way. The velocity is that of the whole line: noise − x0.",
            about="formula",
        ),
        Misconception(
            "noise-as-target",
            _line(slope=lambda x0, noise, t, x: noise),
            "Your v is the noise alone. That is the target of lesson 4; a flow learns noise − x0.",
            about="missing",
        ),
        Misconception(
            "target-v",
            _line(slope=lambda x0, noise, t, x: (1 - t) * noise - t * x0),
            "Your v is α·ε − σ·x0, the target v of a variance-preserving path. On a straight line the "
            "derivative of (1 − t)·x0 + t·noise is simpler.",
            about="formula",
        ),
        Misconception(
            "variance-preserved",
            _line(lambda x0, noise, t: (1 - t**2).sqrt() * x0 + t * noise),
            "Your x keeps its variance: √(1 − t²)·x0. The straight line has (1 − t)·x0, and its spread is "
            "smaller in the middle.",
            about="root",
        ),
        Misconception(
            "root-of-both",
            _line(lambda x0, noise, t: (1 - t).sqrt() * x0 + t.sqrt() * noise),
            "Your x is √(1 − t)·x0 + √t·noise. On a straight line both factors change evenly: 1 − t "
            "and t, without roots.",
            about="root",
        ),
        Misconception(
            "sum-as-slope",
            _line(slope=lambda x0, noise, t, x: noise + x0),
            "Your v is noise + x0. The derivative of (1 − t)·x0 + t·noise has a minus before x0.",
            about="sign",
        ),
        Misconception(
            "one-time-for-all",
            _line(times=lambda t: t[:1].expand_as(t)),
            "You took the first time for all samples. Each sample has its own: t[i] goes with x0[i].",
            about="batch",
        ),
        Misconception(
            "mean-time",
            _line(times=lambda t: t.mean().expand_as(t)),
            "You took the mean time for all samples. Each sample has its own: t[i] goes with x0[i].",
            about="batch",
        ),
        Misconception(
            "noise-added",
            _line(lambda x0, noise, t: x0 + t * noise),
            "Your x is x0 + t·noise: at t = 1 the data is still there. It fades as 1 − t.",
            about="missing",
        ),
    ],
    alternatives=[_line(), _line_by_lerp],
    hints=(
        "A point walks from x0 to noise at even speed and takes a time of 1. Where is it at t, and how fast?",
        "x = (1 − t)·x0 + t·noise, v = dx/dt.",
        "t is (B,): give it the rank of x0 with `t.view(-1, *[1] * (x0.ndim - 1))`, then two lines.",
    ),
    figure=_line_figure,
    figure_alt="A 3 at four times, from clean to pure noise, and its velocity: the noise with a dark 3 in "
    "it, the same at all times.",
)


# 18.2 Which way time runs (debug) ----------------------------------------------------------------------


def walk_down(velocity: Velocity, x: Tensor, times: Sequence[float]) -> Tensor:
    """Euler's method over falling times, one question a step."""
    for now, next in pairwise(times):
        x = x + (next - now) * velocity(x, now)
    return x


def _walked(answer: Callable[..., Any], mean: float, spread: float, x: Tensor, times: list[float]) -> Any:
    return answer(_flow(mean, spread), x, times)


def _steps(
    length: Callable[..., float] = lambda now, next, times: next - now,
    asked: Callable[[float, float], float] = lambda now, next: now,
    pairs: Callable[[Sequence[float]], Any] = pairwise,
    where: Callable[[Tensor, Tensor], Tensor] = lambda x, start: x,
) -> Callable[..., Tensor]:
    """Euler's method in plain steps, with a place for each slip."""

    def answer(velocity: Velocity, x: Tensor, times: Sequence[float]) -> Tensor:
        start = x
        for now, next in pairs(times):
            x = x + length(now, next, times) * velocity(where(x, start), asked(now, next))
        return x

    return answer


def _steps_by_index(velocity: Velocity, x: Tensor, times: Sequence[float]) -> Tensor:
    moved = x.clone()
    for i in range(1, len(times)):
        moved -= (times[i - 1] - times[i]) * velocity(moved, times[i - 1])
    return moved


def _walked_by_heun(velocity: Velocity, x: Tensor, times: Sequence[float]) -> Tensor:
    for now, next in pairwise(times):
        first = velocity(x, now)
        x = x + (next - now) * (first + velocity(x + (next - now) * first, next)) / 2
    return x


def _asked_once(velocity: Velocity, x: Tensor, times: Sequence[float]) -> Tensor:
    return x + (times[-1] - times[0]) * velocity(x, times[0])


def _walk_inputs(n: int, *shape: int, last: float = 0.0) -> Make:
    def make(g: torch.Generator) -> dict[str, Any]:
        return {
            "mean": number(g, -0.6, 0.6),
            "spread": number(g, 0.3, 0.7),
            "x": normal(g, *shape),
            "times": _uneven(g, n, last),
        }

    return make


def _walk_figure(reference: Callable[..., Tensor]) -> Any:
    three = figures.digits(4)[3:4]
    noise = figures.noise(1, 1, 16, 16)
    velocity = _flow(three, 0.15)  # type: ignore[arg-type]
    shown = [reference(velocity, noise, torch.linspace(1, 0, n + 1).tolist())[0] for n in (1, 2, 4, 16)]
    return figures.strip([noise[0], *shown], ["start", "1 step", "2 steps", "4 steps", "16 steps"])


WALK = Exercise(
    id="18.2",
    name="walk_down",
    title="Samples that flee from the data",
    kind="debug",
    difficulty=1,
    minutes=8,
    reference=walk_down,
    call=_walked,
    planted="walks-away",
    cases=[
        Case("four uneven steps to data", _walk_inputs(4, 3, 1, 6, 5)),
        Case("a single step", _walk_inputs(1, 4, 2)),
        Case("nine steps, colours", _walk_inputs(9, 2, 3, 4, 4)),
        Case("six steps that end above data", _walk_inputs(6, 5, 2, last=0.2)),
    ],
    misconceptions=[
        Misconception(
            "walks-away",
            _steps(length=lambda now, next, times: now - next),
            "The walk goes the wrong way: v points towards noise, and these steps follow it. From `now` to "
            "`next` the time changes by next − now, which is negative.",
            about="direction",
        ),
        Misconception(
            "time-turned-round",
            _steps(asked=lambda now, next: 1 - now),
            "The step is right, but you asked for the velocity at 1 − now. x is at `now`.",
            about="level",
        ),
        Misconception(
            "all-turned-round",
            _steps(lambda now, next, times: now - next, lambda now, next: 1 - now),
            "You turned the time of the question round, and the step still goes towards noise. Leave the "
            "time as it is, `now`, and step by next − now.",
            about="direction",
        ),
        Misconception(
            "asked-at-the-end",
            _steps(asked=lambda now, next: next),
            "You asked at the time where the step ends. Euler's method asks where x is: at `now`.",
            about="level",
        ),
        Misconception(
            "asked-in-the-middle",
            _steps(asked=lambda now, next: (now + next) / 2),
            "You asked at a time in the middle of the step, and x is not there. Euler's method asks at "
            "`now`.",
            about="level",
        ),
        Misconception(
            "even-steps",
            _steps(length=lambda now, next, times: -1 / (len(times) - 1)),
            "You made all steps equally long. The times may be uneven: each step is next − now.",
            about="formula",
        ),
        Misconception(
            "asked-once",
            _asked_once,
            "You asked once and went all the way. Each step asks again, at the place that it has reached.",
            about="count",
        ),
        Misconception(
            "asked-at-the-start",
            _steps(where=lambda x, start: start),
            "You ask about the first x in every step. Ask about the x that the step starts from.",
            about="input",
        ),
        Misconception(
            "one-step-short",
            _steps(pairs=lambda times: pairwise(times[:-1])),
            "You stopped one step early: the walk ends at times[−1].",
            about="count",
        ),
        Misconception(
            "times-as-lengths",
            _steps(length=lambda now, next, times: -now),
            "You stepped by the time itself, as if every step went down to 0. A step goes to `next`.",
            about="formula",
        ),
        Misconception(
            "steps-without-length",
            _steps(length=lambda now, next, times: -1.0),
            "You moved by the whole velocity in each step. A step is as long as its time: next − now.",
            about="missing",
        ),
        Misconception(
            "second-slope",
            _walked_by_heun,
            "You asked twice in each step and took the mean: that is Heun's method. Here one question "
            "is asked for each step.",
            about="extra",
        ),
        Misconception(
            "down-to-0",
            _steps(pairs=lambda times: pairwise([*times, 0.0])),
            "You added a step down to 0. The walk ends at times[−1], which may lie above 0.",
            about="boundary",
        ),
    ],
    alternatives=[_steps(), _steps_by_index],
    hints=(
        "v is dx/dt, and t grows towards noise. Which sign has the change of t in a step towards data?",
        "x' = x + (t' − t)·v(x, t), with t' < t.",
        "`for now, next in pairwise(times):` and one line in it.",
    ),
    figure=_walk_figure,
    figure_alt="Noise, and where 1, 2, 4 and 16 steps lead it: a smooth 3 after one step, and "
    "more grain with more.",
)


# 18.3 A model of another path as a flow --------------------------------------------------------------------


def as_flow(denoiser: Denoiser, path: NoisePath, x: Tensor, t: float) -> Tensor:
    """The slope on the straight path of a denoiser that knows another one: `OnPath`."""
    level = StraightPath()(t)
    return FLOW.of(*OnPath(lambda x, level, condition=None: denoiser(x, level), path)(x, level), level)


def _turned(answer: Callable[..., Any], path: str, mean: float, spread: float, x: Tensor, t: float) -> Any:
    exact = gaussian(mean, spread)

    def blurred(x: Tensor, level: Any) -> Any:
        """A denoiser that is wrong in its own way at each time, as networks are."""
        x0 = exact(x, level).x0 + 0.1 * torch.sin(8 * level.t / PATHS[path]().T)
        return type(exact(x, level)).from_x0(x0, x, level)

    return answer(blurred, PATHS[path](), x, t)


def _flowing(
    wanted: Callable[[float], float] = lambda t: ((1 - t) / t) ** 2,
    time: Callable[..., Any] = lambda path, snr, t: path.time_at(
        torch.tensor(snr, dtype=torch.float64).log()
    ),
    scale: Callable[..., Any] = lambda own, t: own.sigma / t,
    slope: Callable[..., Tensor] = lambda x0, eps, own, x, t: eps - x0,
) -> Callable[..., Tensor]:
    """The conversion in plain steps, with a place for each slip."""

    def answer(denoiser: Any, path: Any, x: Tensor, t: float) -> Tensor:
        own = path(time(path, wanted(t), t))
        x0, eps = denoiser((scale(own, t) * x).to(x.dtype), own)
        return slope(x0, eps, own, x, t)

    return answer


def _flowing_by_alpha(denoiser: Any, path: Any, x: Tensor, t: float) -> Tensor:
    own = path(path.time_at(StraightPath()(t).log_snr))
    x0 = denoiser(x * (own.alpha / (1 - t)).to(x.dtype), own)[0]
    return (x - x0) / t


def _turn_inputs(path: str, times: tuple[float, float], *shape: int) -> Make:
    def make(g: torch.Generator) -> dict[str, Any]:
        return {
            "path": path,
            "mean": number(g, -0.6, 0.6),
            "spread": number(g, 0.3, 0.7),
            "x": normal(g, *shape),
            "t": number(g, *times),
        }

    return make


TURN = Exercise(
    id="18.3",
    name="as_flow",
    title="A diffusion model as a flow",
    kind="implement",
    difficulty=2,
    minutes=15,
    reference=as_flow,
    call=_turned,
    cases=[
        Case("a model of the cosine path, in the middle", _turn_inputs("cosine", (0.4, 0.6), 3, 1, 6, 5)),
        Case("a model of the linear path, near noise", _turn_inputs("linear", (0.7, 0.85), 2, 3, 4, 4)),
        Case("points, near data", _turn_inputs("cosine", (0.1, 0.25), 5, 2)),
        Case("the sigmoid path", _turn_inputs("sigmoid", (0.3, 0.45), 3, 4)),
    ],
    misconceptions=[
        Misconception(
            "not-rescaled",
            _flowing(scale=lambda own, t: 1.0),
            "You asked about x as it is. On its own path a sample of this SNR is larger: multiply x until "
            "its noise is own.sigma.",
            about="missing",
        ),
        Misconception(
            "rescaled-backwards",
            _flowing(scale=lambda own, t: t / own.sigma),
            "You divided where you have to multiply: x has the noise t, and has to get the noise own.sigma.",
            about="factor",
        ),
        Misconception(
            "scaled-by-alpha-alone",
            _flowing(scale=lambda own, t: own.alpha),
            "You multiplied by own.alpha, as if x were clean. x holds 1 − t of the data: the factor is "
            "own.alpha/(1 − t).",
            about="factor",
        ),
        Misconception(
            "scaled-by-sigma-alone",
            _flowing(scale=lambda own, t: own.sigma),
            "You multiplied by own.sigma. x has the noise t already: the factor is own.sigma/t.",
            about="factor",
        ),
        Misconception(
            "same-share-of-time",
            _flowing(time=lambda path, snr, t: t * path.T),
            "You asked at the same share of the time. Paths do not run alike: look for the time with the "
            "same SNR, by path.time_at.",
            about="level",
        ),
        Misconception(
            "ratio-not-squared",
            _flowing(wanted=lambda t: (1 - t) / t),
            "Your SNR is α/σ. It is a ratio of variances: α²/σ².",
            about="root",
        ),
        Misconception(
            "noise-to-signal",
            _flowing(wanted=lambda t: (t / (1 - t)) ** 2),
            "You turned the SNR round. On the straight path α = 1 − t and σ = t.",
            about="swap",
        ),
        Misconception(
            "snr-without-log",
            _flowing(time=lambda path, snr, t: path.time_at(torch.tensor(snr, dtype=torch.float64))),
            "You gave path.time_at the SNR. It takes its logarithm.",
            about="formula",
        ),
        Misconception(
            "velocity-backwards",
            _flowing(slope=lambda x0, eps, own, x, t: x0 - eps),
            "Your velocity points to the data. t grows towards noise: ε − x0.",
            about="sign",
        ),
        Misconception(
            "velocity-of-its-own-path",
            _flowing(slope=lambda x0, eps, own, x, t: own.alpha.to(x) * eps - own.sigma.to(x) * x0),
            "Your velocity is α·ε − σ·x0, the target v of the model's own path. On the straight path it is "
            "ε − x0.",
            about="formula",
        ),
        Misconception(
            "guess-returned",
            _flowing(slope=lambda x0, eps, own, x, t: x0),
            "You returned the guess at the data. The velocity is ε − x0.",
            about="reading",
        ),
        Misconception(
            "noise-returned",
            _flowing(slope=lambda x0, eps, own, x, t: eps),
            "You returned the guess at the noise. The velocity is ε − x0.",
            about="missing",
        ),
        Misconception(
            "asked-as-it-is",
            _flowing(time=lambda path, snr, t: t * path.T, scale=lambda own, t: 1.0),
            "You asked about x as it is, at the same share of the time. Look for the time with the "
            "same SNR, and multiply x until its noise is own.sigma.",
            about="level",
        ),
        Misconception(
            "slope-from-the-larger-x",
            _flowing(slope=lambda x0, eps, own, x, t: ((own.sigma / t).to(x) * x - x0) / t),
            "You took the slope from the x that the model was asked about. It lies on the other path: "
            "take the x that came in, or ε − x0.",
            about="input",
        ),
    ],
    alternatives=[_flowing(), _flowing_by_alpha],
    hints=(
        "The picture in x and its noise are the same on both paths. Only how strong the two are together "
        "differs, and how the time is called.",
        "own = path(path.time_at(log((1 − t)²/t²))), x₀, ε = denoiser(x·own.σ/t, own), v = ε − x₀.",
        "`log_snr = 2 * torch.log(torch.tensor((1 - t) / t))`, the level, one question, one difference.",
    ),
)


# 18.4 A solver that chooses its steps --------------------------------------------------------------------


def adaptive_heun(
    velocity: Velocity, x: Tensor, start: float, end: float, tolerance: float
) -> tuple[Tensor, int]:
    """Heun's method with Euler's as its doubt: the smallest of the pairs of `runge_kutta`."""
    t, h, evaluations, slope = start, (start - end) / 10, 0, None
    while t - end > 1e-9:
        h = min(h, t - end)
        if slope is None:
            slope, evaluations = velocity(x, t), evaluations + 1
        euler = x - h * slope
        heun = x - h * (slope + velocity(euler, t - h)) / 2
        evaluations += 1
        error = max(float((heun - euler).square().mean().sqrt()), 1e-12)
        if error <= tolerance:
            x, t, slope = heun, t - h, None
        h *= min(5.0, max(0.2, 0.9 * (tolerance / error) ** 0.5))
    return x, evaluations


def _solved(
    answer: Callable[..., Any],
    mean: float,
    spread: float,
    x: Tensor,
    start: float,
    end: float,
    tolerance: float,
) -> Any:
    asked: list[float] = []
    flow = _flow(mean, spread)

    def velocity(x: Tensor, t: Any) -> Tensor:
        if len(asked) >= 400:
            raise ValueError("the velocity was asked 400 times: does a refused step become shorter?")
        asked.append(float(t))
        return flow(x, t)

    made = answer(velocity, x, start, end, tolerance)
    if made is None:
        return None
    if not isinstance(made, tuple | list) or len(made) != 2:
        raise ValueError(f"the answer is a pair (x, evaluations); you returned one {type(made).__name__}")
    return {"x": made[0], "evaluations": made[1], "asked": len(asked)}


def _chosen(
    accept: Callable[[float, float], bool] = lambda error, tolerance: error <= tolerance,
    size: Callable[[Tensor], Tensor] = lambda gap: gap.square().mean().sqrt(),
    change: Callable[[float, bool], float] = lambda ratio, fits: min(5.0, max(0.2, 0.9 * ratio**0.5)),
    better: Callable[..., Tensor] = lambda x, h, a, b, euler: x - h * (a + b) / 2,
    second: Callable[..., tuple[Tensor, float]] = lambda x, euler, t, h: (euler, t - h),
    keep: Callable[[Tensor, Tensor], Tensor] = lambda euler, heun: heun,
    again: bool = False,
    carried: bool = False,
    limit: bool = True,
    count: Callable[[int, int], int] = lambda asked, accepted: asked,
) -> Callable[..., Any]:
    """The solver in plain steps, with a place for each slip."""

    def answer(
        velocity: Velocity, x: Tensor, start: float, end: float, tolerance: float
    ) -> tuple[Tensor, int]:
        t, h, asked, accepted, a = start, (start - end) / 10, 0, 0, None
        while t > end + 1e-9:
            h = min(h, t - end) if limit else h
            if a is None or again:
                a, asked = velocity(x, t), asked + 1
            euler = x - h * a
            where, when = second(x, euler, t, h)
            b = velocity(where, when)
            heun = better(x, h, a, b, euler)
            asked += 1
            error = max(float(size(heun - euler)), 1e-12)
            fits = accept(error, tolerance)
            if fits:
                x, t, a, accepted = keep(euler, heun), t - h, b if carried else None, accepted + 1
            h = h * change(tolerance / error, fits)
        return x, count(asked, accepted)

    return answer


def _chosen_by_tries(
    velocity: Velocity, x: Tensor, start: float, end: float, tolerance: float
) -> tuple[Tensor, int]:
    left, h, n = start - end, (start - end) / 10, 0
    while left > 1e-9:
        a = velocity(x, end + left)
        n += 1
        while True:
            h = min(h, left)
            b = velocity(x - h * a, end + left - h)
            n += 1
            error = max((h / 2 * (b - a)).pow(2).mean().sqrt().item(), 1e-12)  # half the change of the slope
            step, h = h, h * min(max(0.9 * (tolerance / error) ** 0.5, 0.2), 5)
            if error <= tolerance:
                break
        x, left = x - step / 2 * (a + b), left - step
    return x, n


def _solver_inputs(
    tolerance: tuple[float, float], *shape: int, between: bool = False, size: float = 1.0
) -> Make:
    """`between`: the times lie within the path; `size`: of x, and with it of the errors."""

    def make(g: torch.Generator) -> dict[str, Any]:
        return {
            "mean": number(g, -0.6, 0.6),
            "spread": size * number(g, 0.08, 0.15),
            "x": size * normal(g, *shape),
            "start": number(g, 0.85, 0.95) if between else 1.0,
            "end": number(g, 0.1, 0.2) if between else 0.0,
            "tolerance": number(g, *tolerance),
        }

    return make


def _solver_figure(reference: Callable[..., Any]) -> Any:
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(4.4, 1.9))
    for row, tolerance in enumerate((0.1, 0.01, 0.001)):
        asked: list[float] = []
        flow = _flow(0.3, 0.1)

        def velocity(x: Tensor, t: float, seen: list[float] = asked, flow: Velocity = flow) -> Tensor:
            seen.append(t)
            return flow(x, t)

        reference(velocity, figures.noise(200, 2), 1.0, 0.0, tolerance)
        axis.plot(asked, [row] * len(asked), "|", markersize=12)
    axis.set_yticks(range(3), ["0.1", "0.01", "0.001"])
    axis.set_xlabel("t at which is asked")
    axis.set_ylabel("tolerance")
    figure.tight_layout()
    return figure


SOLVER = Exercise(
    id="18.4",
    name="adaptive_heun",
    title="A solver that chooses its own steps",
    kind="implement",
    difficulty=3,
    minutes=20,
    reference=adaptive_heun,
    call=_solved,
    cases=[
        Case("points on a large scale, a loose tolerance", _solver_inputs((0.9, 1.5), 6, 2, size=30.0)),
        Case("pictures, a tight tolerance", _solver_inputs((0.004, 0.008), 2, 1, 4, 5)),
        Case("between two times of the path", _solver_inputs((0.01, 0.02), 5, 3, between=True)),
        Case("so loose that the first step grows at once", _solver_inputs((3.2, 4.8), 4, 2, size=8.0)),
    ],
    misconceptions=[
        Misconception(
            "every-step-kept",
            _chosen(accept=lambda error, tolerance: True),
            "You keep steps whose error is above the tolerance. Such a step is refused: x and t stay, and "
            "the next try is shorter.",
            about="missing",
        ),
        Misconception(
            "euler-kept",
            _chosen(keep=lambda euler, heun: euler),
            "You go on from Euler's answer. Heun's is the better one of the two: keep that one, Euler's only "
            "tells the error.",
            about="swap",
        ),
        Misconception(
            "asked-again-after-a-refusal",
            _chosen(again=True),
            "The x is right, but after a refused step you ask for the same slope again. x and t have not "
            "changed: keep the slope.",
            about="extra",
        ),
        Misconception(
            "halved-after-a-refusal",
            _chosen(change=lambda ratio, fits: min(5.0, max(0.2, 0.9 * ratio**0.5)) if fits else 0.5),
            "You halve a refused step. The error says how much shorter it has to be: the same formula as for "
            "steps that are kept.",
            about="formula",
        ),
        Misconception(
            "never-lengthened",
            _chosen(change=lambda ratio, fits: min(1.0, max(0.2, 0.9 * ratio**0.5))),
            "Your steps never become longer. Where the error is small the next step may be up to five times "
            "as long.",
            about="boundary",
        ),
        Misconception(
            "without-limits",
            _chosen(change=lambda ratio, fits: 0.9 * ratio**0.5),
            "Your steps change by any factor. It is kept between 0.2 and 5: one lucky step is no promise.",
            about="missing",
        ),
        Misconception(
            "no-square-root",
            _chosen(change=lambda ratio, fits: min(5.0, max(0.2, 0.9 * ratio))),
            "You changed the step by tolerance/error. The error grows with the square of the step, so the "
            "step changes with the root.",
            about="root",
        ),
        Misconception(
            "no-safety",
            _chosen(change=lambda ratio, fits: min(5.0, max(0.2, ratio**0.5))),
            "The factor 0.9 is missing: without it about every second step is refused by a hair.",
            about="missing",
        ),
        Misconception(
            "largest-error",
            _chosen(size=lambda gap: gap.abs().max()),
            "You took the largest error of all entries. It is their root mean square that is held against "
            "the tolerance.",
            about="mean",
        ),
        Misconception(
            "mean-square",
            _chosen(size=lambda gap: gap.square().mean()),
            "You took the mean square of the error. The tolerance is in units of x: take the root.",
            about="root",
        ),
        Misconception(
            "summed-error",
            _chosen(size=lambda gap: gap.square().sum().sqrt()),
            "You summed the squares. With the sum a large batch would need shorter steps: take the mean.",
            about="mean",
        ),
        Misconception(
            "second-slope-at-the-first-time",
            _chosen(second=lambda x, euler, t, h: (euler, t)),
            "You asked for the second slope at t. Euler's answer is at t − h: ask there.",
            about="level",
        ),
        Misconception(
            "second-slope-at-the-first-place",
            _chosen(second=lambda x, euler, t, h: (x, t - h)),
            "You asked for the second slope at the old x. At t − h the sample is where Euler's step leads.",
            about="input",
        ),
        Misconception(
            "second-slope-alone",
            _chosen(better=lambda x, h, a, b, euler: x - h * b),
            "You stepped by the second slope alone. Heun takes the mean of both.",
            about="missing",
        ),
        Misconception(
            "slopes-added",
            _chosen(better=lambda x, h, a, b, euler: x - h * (a + b)),
            "You added both slopes and did not halve them: that step is twice as long as it says.",
            about="factor",
        ),
        Misconception(
            "heun-from-euler",
            _chosen(better=lambda x, h, a, b, euler: euler - h * (a + b) / 2),
            "You started Heun's step from Euler's answer. Both start from x.",
            about="input",
        ),
        Misconception(
            "beyond-the-end",
            _chosen(limit=False),
            "Your last step goes beyond the end. A step is at most as long as what is left: t − end.",
            about="boundary",
        ),
        Misconception(
            "kept-steps-counted",
            _chosen(count=lambda asked, accepted: 2 * accepted),
            "You counted two evaluations for each step that was kept. Refused tries cost one each as well: "
            "count every call.",
            about="count",
        ),
        Misconception(
            "first-slopes-counted",
            _chosen(count=lambda asked, accepted: accepted),
            "You counted the first slopes alone. The second slope of each try is an evaluation as "
            "well: count every call.",
            about="count",
        ),
        Misconception(
            "second-slopes-counted",
            _chosen(count=lambda asked, accepted: asked - accepted),
            "You counted the second slopes alone. The first slope of each step is an evaluation as "
            "well: count every call.",
            about="count",
        ),
        Misconception(
            "second-slope-carried-on",
            _chosen(carried=True),
            "After a step that was kept you go on with its second slope. That was asked at Euler's "
            "answer, and x is Heun's now: ask again.",
            about="input",
        ),
    ],
    alternatives=[_chosen(), _chosen_by_tries],
    hints=(
        "Two methods answer the same question. Where they agree the step is short enough; how far they are "
        "apart says how long the next one may be.",
        "euler = x − h·a, heun = x − h·(a + b)/2 with b = v(euler, t − h); "
        "h ← h·clip(0.9·√(tolerance/error), 0.2, 5).",
        "`while t - end > 1e-9:` cut h, ask for a where it is not known, both answers, error, keep or not, "
        "new h.",
    ),
    figure=_solver_figure,
    figure_alt="The times at which three tolerances ask: more of them the tighter the tolerance is, and "
    "closest together near t = 0.1, where the ways bend.",
)


# 18.5 Straightness ---------------------------------------------------------------------------------------


def straightness(velocity: Velocity, x: Tensor, times: Sequence[float]) -> Tensor:
    """`metrics.straightness` of a velocity, along Euler's steps."""
    start, slopes = x, []
    for now, next in pairwise(times):
        slopes.append((now - next, velocity(x, now)))
        x = x + (next - now) * slopes[-1][1]
    chord = start - x
    gaps = torch.stack([length * (chord - slope).square() for length, slope in slopes]).sum(0)
    return gaps.flatten(1).sum(1)


def _bends(answer: Callable[..., Any], mean: float, spread: float, x: Tensor, times: list[float]) -> Any:
    return answer(_flow(mean, spread), x, times)


def _straight(
    chord: Callable[..., Tensor] = lambda start, end, slopes: start - end,
    size: Callable[[Tensor], Tensor] = lambda gap: gap.square().flatten(1).sum(1),
    weight: Callable[[float, int], float] = lambda length, n: length,
    asked: Callable[[list[Tensor]], Tensor] = lambda way: way[-1],
    finish: Callable[[Tensor], Tensor] = lambda s: s,
) -> Callable[..., Tensor]:
    """The measure in plain steps, with a place for each slip."""

    def answer(velocity: Velocity, x: Tensor, times: Sequence[float]) -> Tensor:
        way, slopes = [x], []
        for now, next in pairwise(times):
            slopes.append(velocity(asked(way), now))
            way.append(way[-1] + (next - now) * slopes[-1])
        lengths = [now - next for now, next in pairwise(times)]
        line = chord(way[0], way[-1], slopes)
        parts = [
            weight(length, len(lengths)) * size(line - slope)
            for length, slope in zip(lengths, slopes, strict=True)
        ]
        return finish(torch.stack(parts).sum(0))

    return answer


def _straight_by_variance(velocity: Velocity, x: Tensor, times: Sequence[float]) -> Tensor:
    """∫|v|² less |∫v|²: what is left is the variance of the slope."""
    total, squares = torch.zeros_like(x), torch.zeros_like(x)
    for now, next in pairwise(times):
        slope = velocity(x, now)
        x = x - (now - next) * slope
        total, squares = total + (now - next) * slope, squares + (now - next) * slope**2
    return (squares - total**2).flatten(1).sum(1)


def _bend_inputs(n: int, *shape: int, size: float = 1.0) -> Make:
    def make(g: torch.Generator) -> dict[str, Any]:
        return {
            "mean": size * number(g, -0.6, 0.6),
            "spread": number(g, 0.2, 0.5),
            "x": size * normal(g, *shape),
            "times": _uneven(g, n),
        }

    return make


STRAIGHT = Exercise(
    id="18.5",
    name="straightness",
    title="How straight is a flow?",
    kind="implement",
    difficulty=2,
    minutes=12,
    reference=straightness,
    call=_bends,
    cases=[
        Case("points, six uneven steps", _bend_inputs(6, 5, 2)),
        Case("pictures far from the data, four steps", _bend_inputs(4, 3, 1, 4, 5, size=6.0)),
        Case("colours, nine steps", _bend_inputs(9, 2, 3, 3, 4)),
    ],
    misconceptions=[
        Misconception(
            "mean-over-entries",
            _straight(size=lambda gap: gap.square().flatten(1).mean(1)),
            "You took the mean over the entries of a sample. |…|² is their sum.",
            about="mean",
        ),
        Misconception(
            "length-not-squared",
            _straight(size=lambda gap: gap.flatten(1).norm(dim=1)),
            "You took the length of the gap. It is squared.",
            about="root",
        ),
        Misconception(
            "steps-counted-alike",
            _straight(weight=lambda length, n: 1 / n),
            "You gave all steps the same weight. It is an integral over t: each step counts with its length.",
            about="factor",
        ),
        Misconception(
            "steps-summed",
            _straight(weight=lambda length, n: 1.0),
            "You summed over the steps without their lengths, so more steps give more. Weigh each with the "
            "time that it takes.",
            about="missing",
        ),
        Misconception(
            "chord-backwards",
            _straight(chord=lambda start, end, slopes: end - start),
            "Your chord points to the data, and the slope to the noise: even a straight line is far from 0. "
            "The chord is start − end.",
            about="sign",
        ),
        Misconception(
            "chord-left-out",
            _straight(chord=lambda start, end, slopes: torch.zeros_like(start)),
            "You measured the slope itself. What counts is how far it is from the chord, start − end.",
            about="missing",
        ),
        Misconception(
            "first-slope-as-chord",
            _straight(chord=lambda start, end, slopes: slopes[0]),
            "You compared the slopes with the first one. The line to compare with leads from where the walk "
            "starts to where it ends.",
            about="input",
        ),
        Misconception(
            "noise-as-chord",
            _straight(chord=lambda start, end, slopes: start),
            "You compared the slope with the start alone. The chord is the start less the end of the walk.",
            about="missing",
        ),
        Misconception(
            "one-number-for-all",
            _straight(finish=lambda s: s.mean()),
            "You averaged over the samples. Each has a straightness of its own: the result is (B,).",
            about="batch",
        ),
        Misconception(
            "gap-before-square",
            _straight(size=lambda gap: gap.flatten(1).sum(1).square()),
            "You summed the gap before you squared it, so that plus and minus cancel. Square each entry.",
            about="order",
        ),
        Misconception(
            "never-walked",
            _straight(asked=lambda way: way[0], chord=lambda start, end, slopes: torch.zeros_like(start)),
            "Your x stays where it is, so the chord is 0. Walk: after each question x moves by (next "
            "− now)·v.",
            about="missing",
        ),
        Misconception(
            "asked-at-the-start",
            _straight(asked=lambda way: way[0]),
            "You asked about the first x in every step. Ask about the x that the step starts from.",
            about="input",
        ),
        Misconception(
            "mean-over-steps",
            _straight(weight=lambda length, n: length / n),
            "You divided by the number of steps. The lengths already sum to 1: add them up.",
            about="mean",
        ),
        Misconception(
            "lengths-squared",
            _straight(weight=lambda length, n: length**2),
            "You squared the length of the step as well. Each |gap|² counts with the length itself.",
            about="root",
        ),
        Misconception(
            "end-as-chord",
            _straight(chord=lambda start, end, slopes: end),
            "You compared the slope with the end of the walk. The chord is the start less the end.",
            about="missing",
        ),
    ],
    alternatives=[_straight(), _straight_by_variance],
    hints=(
        "Compare two things: the slope on the way, and the one slope that would lead from the start to the "
        "end directly.",
        "S = Σ (t − t')·|(x_start − x_end) − v(x, t)|², x from Euler's steps.",
        "One loop that walks and keeps `(now - next, velocity)`; the chord is known only after it.",
    ),
)


# 18.6 Reflow ---------------------------------------------------------------------------------------------


def reflow_batch(
    velocity: Velocity, noise: Tensor, times: Sequence[float], t: Tensor
) -> tuple[Tensor, Tensor]:
    """Liu et al. 2023, algorithm 1: a flow's own pairs, and the straight lines between them."""
    with torch.no_grad():
        x0 = walk_down(velocity, noise, times)
    return straight_path(x0, noise, t)


def _reflowed(
    answer: Callable[..., Any], mean: float, spread: float, noise: Tensor, times: list[float], t: Tensor
) -> Any:
    weight = torch.tensor(spread, requires_grad=True)  # of the network that plays the teacher
    made = _pair(answer(_flow(mean, weight), noise, times, t))
    if made is None:
        return None
    tracked = any(isinstance(each, Tensor) and each.requires_grad for each in made.values())
    found = {name: each.detach() if isinstance(each, Tensor) else each for name, each in made.items()}
    return {**found, "gradients into the teacher": tracked}


def _again(
    made: Callable[..., Tensor] = lambda velocity, noise, times: walk_down(velocity, noise, times),
    start: Callable[[Tensor], Tensor] = lambda noise: noise,
    slope: Callable[..., Tensor] = lambda x0, noise, velocity, x, t: noise - x0,
    times_of: Callable[[Tensor], Tensor] = lambda t: t,
    tracked: bool = False,
    point: Callable[..., Tensor] = lambda x0, noise, t: (1 - t) * x0 + t * noise,
) -> Callable[..., Any]:
    """The batch in plain steps, with a place for each slip."""

    def answer(velocity: Velocity, noise: Tensor, times: Sequence[float], t: Tensor) -> tuple[Tensor, Tensor]:
        with torch.set_grad_enabled(tracked):
            x0 = made(velocity, noise, times)
            each = _of_each(times_of(t), noise)
            beside = start(noise)
            x = point(x0, beside, each)
            return x, slope(x0, beside, velocity, x, t)

    return answer


def _again_by_parts(
    velocity: Velocity, noise: Tensor, times: Sequence[float], t: Tensor
) -> tuple[Tensor, Tensor]:
    x = noise
    for i in range(len(times) - 1):
        x = (x + (times[i + 1] - times[i]) * velocity(x, times[i])).detach()
    target = noise - x
    return x + _of_each(t, x) * target, target


def _reflow_inputs(n: int, *shape: int) -> Make:
    def make(g: torch.Generator) -> dict[str, Any]:
        return {
            "mean": number(g, 1.5, 2.5) * (-1) ** several(g, 1, 0, 1)[0],
            "spread": number(g, 0.3, 0.6),
            "noise": normal(g, *shape),
            "times": _uneven(g, n),
            "t": torch.tensor([number(g, 0.15, 0.85) for _ in range(shape[0])], dtype=torch.float64),
        }

    return make


REFLOW = Exercise(
    id="18.6",
    name="reflow_batch",
    title="Reflow: learn from your own pairs",
    kind="implement",
    difficulty=2,
    minutes=12,
    reference=reflow_batch,
    call=_reflowed,
    builds_on=[LINE, WALK],
    cases=[
        Case("points, five steps", _reflow_inputs(5, 6, 2)),
        Case("pictures, three steps", _reflow_inputs(3, 3, 1, 4, 5)),
        Case("colours, eight steps", _reflow_inputs(8, 2, 3, 3, 4)),
    ],
    misconceptions=[
        Misconception(
            "pairs-shuffled",
            _again(start=lambda noise: noise.roll(1, 0)),
            "The data are right, but they stand beside the noise of other samples. The whole point is the "
            "pair: each x0 with the noise that it was made from.",
            about="swap",
        ),
        Misconception(
            "slope-of-the-teacher",
            _again(slope=lambda x0, noise, velocity, x, t: velocity(x, t)),
            "Your target is the old flow's velocity: a student of that learns the same bent ways. The target "
            "is the line of the pair, noise − x0.",
            about="formula",
        ),
        Misconception(
            "data-in-one-step",
            _again(made=lambda velocity, noise, times: walk_down(velocity, noise, [times[0], times[-1]])),
            "You made the data in one step, where the old flow is worst. Walk along all of the times.",
            about="count",
        ),
        Misconception(
            "velocity-backwards",
            _again(slope=lambda x0, noise, velocity, x, t: x0 - noise),
            "Your target points to the data. As in straight_path it is noise − x0.",
            about="sign",
        ),
        Misconception(
            "gradients-into-the-teacher",
            _again(tracked=True),
            "The numbers are right, but gradients flow through all steps of the old flow. It is only asked: "
            "put the walk under torch.no_grad().",
            about="gradient",
        ),
        Misconception(
            "one-time-for-all",
            _again(times_of=lambda t: t[:1].expand_as(t)),
            "You took the first time for all samples. Each has its own: t[i].",
            about="batch",
        ),
        Misconception(
            "ends-swapped",
            _again(point=lambda x0, noise, t: t * x0 + (1 - t) * noise),
            "Your point on the line is x0 at t = 1. As in straight_path it is noise there.",
            about="swap",
        ),
        Misconception(
            "one-step-short",
            _again(made=lambda velocity, noise, times: walk_down(velocity, noise, times[:-1])),
            "Your data still hold noise: the walk ends at times[−1].",
            about="count",
        ),
        Misconception(
            "teachers-first-slope",
            _again(slope=lambda x0, noise, velocity, x, t: velocity(noise, 1.0)),
            "Your target is the velocity at the start of the way. It is the slope of the straight line from "
            "x0 to its noise.",
            about="formula",
        ),
        Misconception(
            "start-of-the-line",
            _again(point=lambda x0, noise, t: noise + 0 * t),
            "Your x is the noise itself, whatever t is. A flow has to learn every place of the line.",
            about="missing",
        ),
        Misconception(
            "ends-returned",
            _again(point=lambda x0, noise, t: x0 + 0 * t, slope=lambda x0, noise, velocity, x, t: noise),
            "You returned the ends of the line. A flow learns from a point between them and from the "
            "slope: what straight_path gives.",
            about="reading",
        ),
    ],
    alternatives=[_again(), _again_by_parts],
    hints=(
        "Let the flow itself say which data belong to a noise. Then forget how it went there, and draw a "
        "straight line.",
        "x0 = where the walk from noise ends; x = (1 − t)·x0 + t·noise, v = noise − x0.",
        "`with torch.no_grad(): x0 = walk_down(…)`, then `straight_path(…)`.",
    ),
)

EXERCISES = [LINE, WALK, TURN, SOLVER, STRAIGHT, REFLOW]
