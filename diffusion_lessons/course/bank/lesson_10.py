"""Lesson 10, classifier-free guidance: labels dropped, the mix, its two passes, an interval, rescaling."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from diffusion_lessons.conditions import dropped
from diffusion_lessons.course.bank import figures
from diffusion_lessons.course.bank.inputs import blobs, normal
from diffusion_lessons.course.exercises.exercise import Case, Exercise, Misconception
from diffusion_lessons.denoiser import Denoiser
from diffusion_lessons.guidance import ClassifierFreeGuidance, Rescale, guidance_interval
from diffusion_lessons.paths import DiscreteVP, Level
from diffusion_lessons.schedules import cosine_betas, linear_betas
from diffusion_lessons.targets import Estimate
from diffusion_lessons.training.recipe import PATHS

Make = Callable[[torch.Generator], dict[str, Any]]


# 10.1 Label dropout ---------------------------------------------------------------------------------


def drop_labels(labels: Tensor, rate: float, num_classes: int, chance: Tensor) -> Tensor:
    """`conditions.dropped` for labels, with its random numbers given."""
    return dropped(labels, torch.full_like(labels, num_classes), chance < rate)  # type: ignore[return-value]


def _dropped_in_place(labels: Tensor, rate: float, num_classes: int, chance: Tensor) -> Tensor:
    labels[chance < rate] = num_classes
    return labels


def _dropped_by_list(labels: Tensor, rate: float, num_classes: int, chance: Tensor) -> Tensor:
    pairs = zip(labels.tolist(), chance.tolist(), strict=True)
    return torch.tensor([num_classes if c < rate else label for label, c in pairs])


def _dropped_on_a_copy(labels: Tensor, rate: float, num_classes: int, chance: Tensor) -> Tensor:
    return _dropped_in_place(labels.clone(), rate, num_classes, chance)


def _batch(n: int, rate: float, num_classes: int) -> Make:
    return lambda g: {
        "labels": torch.randint(num_classes, (n,), generator=g),
        "rate": rate,
        "num_classes": num_classes,
        "chance": torch.rand(n, generator=g),
    }


def _drop_figure(reference: Callable[..., Tensor]) -> Any:
    labels, chance = torch.arange(10), torch.rand(10, generator=torch.Generator().manual_seed(12))
    kept = reference(labels, 0.3, 10, chance).tolist()
    return figures.strip(list(figures.digits(10)), ["none" if label == 10 else str(label) for label in kept])


DROP = Exercise(
    id="10.1",
    name="drop_labels",
    title="Labels that go missing",
    kind="implement",
    difficulty=1,
    minutes=8,
    reference=drop_labels,
    cases=[
        Case("24 labels of ten classes, three in ten dropped", _batch(24, 0.3, 10)),
        Case("15 labels of four classes, half of them dropped", _batch(15, 0.5, 4)),
        Case("rate 0: every label stays", _batch(8, 0.0, 10)),
        Case("rate 1: no label stays", _batch(9, 1.0, 3)),
    ],
    misconceptions=[
        Misconception(
            "labels-changed-in-place",
            _dropped_in_place,
            "The result is right, but you wrote it into the caller's own labels. Next epoch they come "
            "without those labels, and are dropped again: after a while none is left. Make a new tensor.",
        ),
        Misconception(
            "last-class-for-none",
            lambda labels, rate, num_classes, chance: labels.masked_fill(chance < rate, num_classes - 1),
            "You put num_classes − 1 in the place of dropped labels. That is the last real class: the "
            "network would learn that any picture may be one of those. The first free id is num_classes.",
        ),
        Misconception(
            "class-0-for-none",
            lambda labels, rate, num_classes, chance: labels * (chance >= rate),
            "Dropped labels became 0, which is a real class: the network would learn that any picture may be "
            "a 0. The first id that is free is num_classes.",
        ),
        Misconception(
            "minus-1-for-none",
            lambda labels, rate, num_classes, chance: labels.masked_fill(chance < rate, -1),
            "Dropped labels became −1. A table of vectors has no row −1 (indexing would take the last one in "
            'silence). This network\'s row for "no label" is number num_classes.',
        ),
        Misconception(
            "rate-inverted",
            lambda labels, rate, num_classes, chance: labels.masked_fill(chance >= rate, num_classes),
            "You dropped the labels that should stay: with rate 0.1 nine in ten would be gone. `rate` is the "
            "share that is dropped, and chance < rate is true for that share.",
        ),
        Misconception(
            "whole-batch-or-nothing",
            lambda labels, rate, num_classes, chance: labels.masked_fill(chance[:1] < rate, num_classes),
            "You decided once for the whole batch. Each label has a chance of its own: compare all of "
            "chance, entry by entry.",
        ),
        Misconception(
            "rows-left-out",
            lambda labels, rate, num_classes, chance: labels[chance >= rate],
            "You took the dropped labels out, so that fewer labels than pictures are left. The picture stays "
            "in the batch and is trained on without its label: put num_classes there.",
        ),
        Misconception(
            "labels-as-floats",
            lambda labels, rate, num_classes, chance: labels.float().masked_fill(chance < rate, num_classes),
            "The numbers are right, but they are floats now. Labels are indices: keep them int64, as they "
            "came.",
        ),
    ],
    alternatives=[
        lambda labels, rate, num_classes, chance: torch.where(chance < rate, num_classes, labels),
        _dropped_on_a_copy,
        _dropped_by_list,
    ],
    hints=(
        'The network has one more row than there are classes, for "no label". Some labels, each by its '
        "own chance, are replaced by the number of that row. The caller's tensor must stay as it is.",
        "P(chance < rate) = rate, for chance uniform on [0, 1). Where it holds, the label becomes "
        "num_classes.",
        "`torch.where(…, num_classes, labels)` makes a new tensor; `labels[…] = …` would change the "
        "caller's.",
    ),
    figure=_drop_figure,
    figure_alt="Ten digits with their labels, three of them replaced by the word none.",
)


# 10.2 The mix ---------------------------------------------------------------------------------------


def mix(cond: Tensor, uncond: Tensor, scale: float) -> Tensor:
    """What `ClassifierFreeGuidance` does with x₀ and with ε."""
    return torch.lerp(uncond, cond, scale)


def _three_channels(cond: Tensor, uncond: Tensor, scale: float) -> Tensor:
    return torch.cat([torch.lerp(uncond[:, :3], cond[:, :3], scale), cond[:, 3:]], 1)


def _mixed_by_w(cond: Tensor, uncond: Tensor, scale: float) -> Tensor:
    w = scale - 1
    return (1 + w) * cond - w * uncond


def _two(scale: float, *shape: int) -> Make:
    def make(g: torch.Generator) -> dict[str, Any]:
        pictures = blobs if len(shape) > 2 else normal
        return {"cond": pictures(g, *shape), "uncond": 0.3 * normal(g, *shape), "scale": scale}

    return make


def _mix_figure(reference: Callable[..., Tensor]) -> Any:
    three, eight = figures.digits(9)[3:4], figures.digits(9)[8:9]
    scales = [0.0, 0.5, 1.0, 2.0, 4.0]
    return figures.strip([reference(three, eight, s)[0] for s in scales], [f"scale {s:g}" for s in scales])


MIX = Exercise(
    id="10.2",
    name="mix",
    title="Mix the two answers",
    kind="reproduce",
    difficulty=1,
    minutes=6,
    reference=mix,
    cases=[
        Case("two grey pictures at scale 3", _two(3.0, 2, 1, 8, 8)),
        Case("latents of four channels at scale 7.5", _two(7.5, 3, 4, 6, 6)),
        Case("scale 1 is the answer with the label", _two(1.0, 2, 1, 6, 5)),
        Case("scale 0 is the answer without", _two(0.0, 2, 3, 5, 6)),
        Case("twelve points in the plane at scale 1.5", _two(1.5, 12, 2)),
    ],
    misconceptions=[
        Misconception(
            "the-papers-w",
            lambda cond, uncond, scale: cond + scale * (cond - uncond),
            "You started from the answer with the label. That is the paper's w, which is one less than our "
            "scale. Here 0 is the answer without the label and 1 the one with it: start from uncond.",
        ),
        Misconception(
            "one-taken-off",
            lambda cond, uncond, scale: uncond + (scale - 1) * (cond - uncond),
            "You took 1 off the scale and started from uncond. The 1 comes off (w = scale − 1) only in the "
            "paper's form, which starts from cond. From uncond, all of the scale counts.",
        ),
        Misconception(
            "sign-swapped",
            lambda cond, uncond, scale: uncond + scale * (uncond - cond),
            "You went the wrong way: away from the answer with the label. The direction is cond − uncond.",
        ),
        Misconception(
            "roles-swapped",
            lambda cond, uncond, scale: cond + scale * (uncond - cond),
            "The two answers have changed places: your scale 0 gives the answer with the label and 1 the one "
            "without. Start from uncond, and go towards cond.",
        ),
        Misconception(
            "start-forgotten",
            lambda cond, uncond, scale: scale * (cond - uncond),
            "You returned the direction alone. It has to be added to where it starts: uncond.",
        ),
        Misconception(
            "second-weight-negative",
            lambda cond, uncond, scale: scale * cond - (1 - scale) * uncond,
            "One sign is wrong: written as two weights, they are scale and 1 − scale, and both are added. "
            "They sum to 1.",
        ),
        Misconception(
            "three-channels-only",
            _three_channels,
            "You guided the first three channels and left the others. Published code has done that, made for "
            "colour pictures and used on latents of four channels. Mix all of the tensor.",
        ),
    ],
    alternatives=[
        lambda cond, uncond, scale: uncond + scale * (cond - uncond),
        lambda cond, uncond, scale: scale * cond + (1 - scale) * uncond,
        _mixed_by_w,
    ],
    hints=(
        "The two answers are two points. Walk along the line through both: you are at the first for scale 0, "
        "at the second for scale 1, and beyond it for more.",
        "Start at the answer without the label and add the scale times the difference to the answer with it.",
        "One line: `return uncond + …`, where the dots hold scale, cond and uncond.",
    ),
    figure=_mix_figure,
    figure_alt="A mix of an 8, the answer without the label, and a 3, the one with it: the 8 at scale 0, "
    "both at 0.5, the 3 at 1, and beyond that a 3 that grows too bright, with black gaps where the 8 was.",
)


# 10.3 Debug: a scale that does nothing --------------------------------------------------------------


def guided(
    denoiser: Denoiser, x: Tensor, level: Level, labels: Tensor, away: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """`ClassifierFreeGuidance` with the labels to move away from given."""
    guidance = ClassifierFreeGuidance(denoiser, scale, away)  # type: ignore[arg-type]
    x0, eps = guidance.with_plain(x, level, labels)[0]
    return x0, eps


def _on_templates(
    answer: Callable[..., Any],
    x: Tensor,
    t: float,
    labels: Tensor,
    away: Tensor,
    scale: float,
    templates: Tensor,
) -> Any:
    """Call an answer with a denoiser that knows one picture for each label."""

    def draws_templates(x: Tensor, level: Level, labels: Tensor) -> Estimate:
        if labels.shape != x.shape[:1]:
            raise ValueError(f"one label for each of {len(x)} pictures, got {tuple(labels.shape)}")
        return Estimate.from_x0(torch.tanh(templates.to(x.device)[labels] + 0.3 * x), x, level)

    found = answer(draws_templates, x, DiscreteVP(cosine_betas())(t), labels, away, scale)
    return tuple(found) if isinstance(found, Estimate) else found


def _halves(
    conditions: Callable[[Tensor, Tensor], Tensor],
    combine: Callable[[Tensor, Tensor, float], Tensor] = torch.lerp,  # of (second half, first half, scale)
) -> Callable[..., tuple[Tensor, Tensor]]:
    def answer(
        denoiser: Denoiser, x: Tensor, level: Level, labels: Tensor, away: Tensor, scale: float
    ) -> tuple[Tensor, Tensor]:
        x0, eps = denoiser(torch.cat([x, x]), level, conditions(labels, away))
        (x0_to, x0_from), (eps_to, eps_from) = x0.chunk(2), eps.chunk(2)
        return combine(x0_from, x0_to, scale), combine(eps_from, eps_to, scale)

    return answer


def _stale_eps(
    denoiser: Denoiser, x: Tensor, level: Level, labels: Tensor, away: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    plain, other = denoiser(x, level, labels), denoiser(x, level, away)
    return torch.lerp(other.x0, plain.x0, scale), plain.eps


def _two_passes(
    denoiser: Denoiser, x: Tensor, level: Level, labels: Tensor, away: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    plain, other = denoiser(x, level, labels), denoiser(x, level, away)
    x0 = other.x0 + scale * (plain.x0 - other.x0)
    alpha, sigma = level.like(x)
    return x0, (x - alpha * x0) / sigma


def _templates(t: float, scale: float, batch: int, channels: int = 1) -> Make:
    def make(g: torch.Generator) -> dict[str, Any]:
        labels = torch.randint(4, (batch,), generator=g)
        return {
            "x": normal(g, batch, channels, 8, 8),
            "t": t,
            "labels": labels,
            "away": torch.full((batch,), 4),
            "scale": scale,
            "templates": 2 * blobs(g, 5, channels, 8, 8),
        }

    return make


def _away_from_classes(g: torch.Generator) -> dict[str, Any]:
    away = torch.tensor([1, 2, 3, 0, 2])
    return _templates(600.0, 2.0, 5)(g) | {"labels": torch.tensor([0, 1, 0, 3, 3]), "away": away}


def _guided_figure(reference: Callable[..., Any]) -> Any:
    x, labels, null = 0.3 * figures.noise(1, 1, 16, 16), torch.tensor([0]), torch.tensor([1])
    digits = figures.digits(10)
    templates = torch.stack([digits[3], digits.mean(0)])
    scales = [0.0, 1.0, 2.0, 4.0]
    drawn = [
        _on_templates(reference, x, 500.0, labels, null, scale, templates=2 * templates)[0][0]
        for scale in scales
    ]
    return figures.strip(drawn, [f"scale {scale:g}" for scale in scales])


GUIDED = Exercise(
    id="10.3",
    name="guided",
    title="The scale that does nothing",
    kind="debug",
    difficulty=2,
    minutes=10,
    reference=guided,
    cases=[
        Case("three pictures at scale 3", _templates(500.0, 3.0, 3)),
        Case("four colour pictures at scale 1.5, much noise", _templates(900.0, 1.5, 4, 3)),
        Case("away from another class, at scale 2", _away_from_classes),
        Case("scale 0: away alone counts", _templates(300.0, 0.0, 2)),
    ],
    planted="both-passes-given-the-label",
    misconceptions=[
        Misconception(
            "both-passes-given-the-label",
            _halves(lambda labels, away: torch.cat([labels, labels])),
            "Both halves of the batch are given the label, so their answers are equal and any mix of the two "
            "is that answer.",
        ),
        Misconception(
            "both-passes-without",
            _halves(lambda labels, away: torch.cat([away, away])),
            "Now both halves are asked with `away`: the difference is still zero, and the label is gone "
            "altogether. The first half needs labels, the second away.",
        ),
        Misconception(
            "class-0-for-away",
            _halves(lambda labels, away: torch.cat([labels, torch.zeros_like(away)])),
            "The second half is asked with zeros now. 0 is a class like any other, and the walk would move "
            "away from it. What to move away from is handed over: `away`.",
        ),
        Misconception(
            "halves-in-the-wrong-order",
            _halves(lambda labels, away: torch.cat([away, labels])),
            "The two passes differ now: the cause is found. But the halves are the other way round from how "
            "they are taken apart below, so your scale s works as 1 − s.",
        ),
        Misconception(
            "labels-interleaved",
            _halves(lambda labels, away: torch.stack([labels, away], 1).flatten()),
            "You put label and away next to each other for each picture, but the batch is all pictures, then "
            "all pictures again: cat([x, x]). So most pictures are asked with a neighbour's label.",
        ),
        Misconception(
            "symptom-hidden",
            _halves(lambda labels, away: torch.cat([labels, labels]), lambda no, yes, scale: scale * yes),
            "You made the scale do something, by multiplying with it. The mix was right: what is wrong is "
            "that both of its inputs are the same answer.",
        ),
        Misconception(
            "eps-left-behind",
            _stale_eps,
            "x̂₀ is guided now, but ε̂ is still that of the plain answer, and a step that mixes both walks "
            "astray. The two must keep x = α·x̂₀ + σ·ε̂: mix both.",
        ),
        Misconception(
            "the-papers-w",
            _halves(
                lambda labels, away: torch.cat([labels, away]),
                lambda no, yes, scale: yes + scale * (yes - no),
            ),
            "The two passes differ now: the cause is found. But your mix starts from the answer with the "
            "label, which is the paper's w; our scale starts from the other one.",
        ),
    ],
    alternatives=[_two_passes, _halves(lambda labels, away: torch.cat([labels, away]))],
    hints=(
        "If the scale makes no difference, then the difference that it multiplies is zero. Which two answers "
        "are subtracted, and what was each of them asked with?",
        "mix(a, a, s) = a + s·(a − a) = a for every s. The second half of the batch has to be asked with "
        "`away`.",
        "Only the line with `denoiser(…)` is wrong. The variable that should be its last argument is there, "
        "and nobody uses it.",
    ),
    call=_on_templates,
    figure=_guided_figure,
    figure_alt="The estimate at scales 0, 1, 2 and 4, for a denoiser that knows a 3 with its label and a "
    "blur of ten digits without: the blur, the 3, and a 3 that grows brighter than white.",
)


# 10.4 The interval ----------------------------------------------------------------------------------


def interval_scale(level: Level, scale: float, low: float, high: float) -> float:
    """`guidance_interval` at one level."""
    return guidance_interval(scale, low, high)(level)


def _at_levels(
    answer: Callable[..., Any], path: str, times: Sequence[float], scale: float, low: float, high: float
) -> list[Any]:
    """What an answer gives at each of several times."""
    made = PATHS[path]()
    return [answer(made(t), scale, low, high) for t in times]


def _where(inside: Callable[[Level, float, float], Any], otherwise: float = 1.0) -> Callable[..., float]:
    return lambda level, scale, low, high: scale if inside(level, low, high) else otherwise


def _noise(level: Level) -> Tensor:
    return level.sigma / level.alpha


def _by_snr(level: Level, scale: float, low: float, high: float) -> float:
    snr = float((level.alpha / level.sigma) ** 2)
    return scale if high**-2 <= snr < (low**-2 if low else math.inf) else 1.0


def _walk_of(path: str, times: Sequence[float], scale: float, low: float, high: float) -> Make:
    return lambda g: {"path": path, "times": list(times), "scale": scale, "low": low, "high": high}


def _interval_figure(reference: Callable[..., float]) -> Any:
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(4.4, 2.2), layout="constrained")
    for name, betas, line in (("cosine", cosine_betas(), "-"), ("linear", linear_betas(), "--")):
        path = DiscreteVP(betas)
        scales = [float(reference(path(t), 4.0, 0.2, 0.7)) for t in range(1, 1001)]
        axis.plot(range(1, 1001), scales, line, marker="", label=name)
    axis.set(xlabel="t", ylabel="scale", ylim=(0, 4.5))
    axis.legend(frameon=False, title="σ/α from 0.2 to 0.7")
    return figure


INTERVAL = Exercise(
    id="10.4",
    name="interval_scale",
    title="Guide only here",
    kind="implement",
    difficulty=1,
    minutes=8,
    reference=interval_scale,
    cases=[
        Case("the cosine path, σ/α from 0.2 to 1.5", _walk_of("cosine", range(50, 1000, 50), 4.0, 0.2, 1.5)),
        Case(
            "the straight path, where α + σ = 1, σ/α from 0.4 to 0.9",
            _walk_of("straight", [0.05 * k for k in range(1, 21)], 3.0, 0.4, 0.9),
        ),
        Case(
            "the linear path, everything below σ/α = 0.6",
            _walk_of("linear", range(25, 1000, 75), 2.5, 0.0, 0.6),
        ),
    ],
    misconceptions=[
        Misconception(
            "bounds-on-t",
            _where(lambda level, low, high: low < level.t <= high),
            "You compared t with the bounds. t depends on the schedule and on T; the bounds are noise "
            "levels: σ/α.",
        ),
        Misconception(
            "bounds-on-a-share-of-the-walk",
            _where(lambda level, low, high: low < level.t / 1000 <= high),
            "You compared t/1000, the share of the walk that is left. Some libraries do count their interval "
            "in steps; then it means other noise levels on each schedule. The bounds here are on σ/α.",
        ),
        Misconception(
            "bounds-on-sigma",
            _where(lambda level, low, high: low < level.sigma <= high),
            "You compared σ. The paper's σ is the noise on a picture at full strength. Ours is turned down "
            "by α, so theirs is σ/α.",
        ),
        Misconception(
            "bounds-on-snr",
            _where(lambda level, low, high: low < level.snr <= high),
            "You compared the SNR. It is (α/σ)², which falls as the noise grows; the bounds are on σ/α, "
            "which grows.",
        ),
        Misconception(
            "ratio-upside-down",
            _where(lambda level, low, high: low < level.alpha / level.sigma <= high),
            "The ratio is upside down: α/σ falls as the noise grows. The noise level is σ/α.",
        ),
        Misconception(
            "ratio-of-variances",
            _where(lambda level, low, high: low < _noise(level) ** 2 <= high),
            "You squared the ratio. The bounds are on σ/α, a ratio of factors, not of variances.",
        ),
        Misconception(
            "guided-outside",
            _where(lambda level, low, high: not low < _noise(level) <= high),
            "The mask is inverted: you guide outside the interval, and not within.",
        ),
        Misconception(
            "zero-outside",
            _where(lambda level, low, high: low < _noise(level) <= high, 0.0),
            "Outside the interval you returned 0. That is the unconditional model, which would forget the "
            "label there. No guidance is scale 1: the plain conditional model.",
        ),
        Misconception(
            "upper-bound-alone",
            _where(lambda level, low, high: _noise(level) <= high),
            "Only the upper bound counts in your answer. Below `low` there is to be no guidance either.",
        ),
        Misconception(
            "lower-bound-alone",
            _where(lambda level, low, high: low < _noise(level)),
            "Only the lower bound counts in your answer. Above `high`, at the start of the walk, there is to "
            "be no guidance either: that is where it does harm.",
        ),
    ],
    alternatives=[
        _where(lambda level, low, high: low * level.alpha < level.sigma <= high * level.alpha),
        _by_snr,
    ],
    hints=(
        "A level knows its α and σ. How noisy a picture is says their ratio, whatever the schedule and "
        "however t is counted.",
        "s = scale where low < σ/α ≤ high, and 1, the plain conditional model, elsewhere.",
        "`noise = level.sigma / level.alpha`, then `return scale if … else …`.",
    ),
    call=_at_levels,
    figure=_interval_figure,
    figure_alt="The scale over t: 4 where σ/α lies between 0.2 and 0.7, else 1. That is t from about 120 to "
    "385 of the cosine schedule, and from about 60 to 200 of the linear one.",
)


# 10.5 Rescaled guidance -----------------------------------------------------------------------------


def rescale_x0(x0: Tensor, x0_plain: Tensor, phi: float) -> Tensor:
    """x₀ of `Rescale` around a guidance that gives these two."""

    class Given:
        def with_plain(self, x: Tensor, level: Level, condition: Any) -> tuple[Estimate, Estimate]:
            return Estimate(x0, x0), Estimate(x0_plain, x0_plain)

    level = Level(*(torch.tensor(value, dtype=torch.float64) for value in (500.0, 0.6, 0.8)))
    return Rescale(Given(), phi)(x0, level).x0


def _spread(x: Tensor) -> Tensor:
    return x.flatten(1).std(1).view(-1, 1, 1, 1)


def _rescaled(factor: Callable[[Tensor, Tensor], Any]) -> Callable[..., Tensor]:
    return lambda x0, x0_plain, phi: (phi * factor(x0, x0_plain) + 1 - phi) * x0


def _around_the_mean(x0: Tensor, x0_plain: Tensor, phi: float) -> Tensor:
    mean = x0.mean((1, 2, 3), keepdim=True)
    moved = mean + (x0 - mean) * _spread(x0_plain) / _spread(x0)
    return phi * moved + (1 - phi) * x0


def _rescaled_one_by_one(x0: Tensor, x0_plain: Tensor, phi: float) -> Tensor:
    rows = [phi * b.std() / a.std() * a + (1 - phi) * a for a, b in zip(x0, x0_plain, strict=True)]
    return torch.stack(rows)


def _over_exposed(phi: float, *shape: int) -> Make:
    def make(g: torch.Generator) -> dict[str, Any]:
        plain = blobs(g, *shape)
        strength = 1.3 + 2 * torch.rand(shape[0], 1, 1, 1, generator=g)
        shade = 0.2 * normal(g, *shape[:2], 1, 1) + 0.1 * normal(g, *shape)
        return {"x0": strength * plain + shade, "x0_plain": plain, "phi": phi}

    return make


def _rescale_figure(reference: Callable[..., Tensor]) -> Any:
    plain = figures.digits(4)[3:]
    x0 = 2.2 * plain + 0.6
    phis = [0.0, 0.4, 0.7, 1.0]
    drawn = [plain[0], *(reference(x0, plain, phi)[0] for phi in phis)]
    return figures.strip(drawn, ["plain", *(f"φ = {phi:g}" for phi in phis)])


RESCALE = Exercise(
    id="10.5",
    name="rescale_x0",
    title="Pull the exposure back",
    kind="stretch",
    difficulty=2,
    minutes=12,
    reference=rescale_x0,
    cases=[
        Case("three colour pictures, φ = 0.7", _over_exposed(0.7, 3, 3, 8, 8)),
        Case("four grey pictures, φ = 1", _over_exposed(1.0, 4, 1, 8, 6)),
        Case("two pictures of four channels, φ = 0.3", _over_exposed(0.3, 2, 4, 6, 6)),
        Case("φ = 0: nothing changes", _over_exposed(0.0, 2, 1, 5, 5)),
    ],
    misconceptions=[
        Misconception(
            "spread-of-the-batch",
            _rescaled(lambda x0, plain: plain.std() / x0.std()),
            "You took one spread for the whole batch. Each picture is brought back to its own plain one, "
            "whatever else is in the batch: a standard deviation for each sample.",
        ),
        Misconception(
            "spread-of-each-channel",
            _rescaled(lambda x0, plain: plain.std((2, 3), keepdim=True) / x0.std((2, 3), keepdim=True)),
            "You took a spread for each channel, which changes the colours against each other. It is one "
            "number for a picture: over channels, rows and columns.",
        ),
        Misconception(
            "ratio-upside-down",
            _rescaled(lambda x0, plain: _spread(x0) / _spread(plain)),
            "The ratio is upside down: the guided picture, whose spread is too large, became larger still. "
            "Divide by the guided spread.",
        ),
        Misconception(
            "phi-the-other-way",
            lambda x0, x0_plain, phi: ((1 - phi) * _spread(x0_plain) / _spread(x0) + phi) * x0,
            "φ stands at the wrong one of the two: φ is the share of the rescaled picture, 1 − φ that of the "
            "guided one.",
        ),
        Misconception(
            "phi-forgotten",
            lambda x0, x0_plain, phi: _spread(x0_plain) / _spread(x0) * x0,
            "You returned the fully rescaled picture. φ mixes it with the guided one: that share of the one, "
            "1 − φ of the other.",
        ),
        Misconception(
            "pulled-to-the-plain-picture",
            lambda x0, x0_plain, phi: torch.lerp(x0, x0_plain, phi),
            "You mixed in the plain picture itself. That is only a lower guidance scale. What is taken from "
            "the plain picture is its spread, one number.",
        ),
        Misconception(
            "variance-for-spread",
            _rescaled(lambda x0, plain: (_spread(plain) / _spread(x0)) ** 2),
            "You took the ratio of variances. A factor c changes the standard deviation by c, so it is the "
            "ratio of standard deviations.",
        ),
        Misconception(
            "length-for-spread",
            _rescaled(
                lambda x0, plain: (plain.flatten(1).norm(dim=1) / x0.flatten(1).norm(dim=1)).view(-1, 1, 1, 1)
            ),
            "You compared the lengths of the two pictures as vectors. That counts their mean, too; the "
            "standard deviation is around the mean.",
        ),
        Misconception(
            "only-around-the-mean",
            _around_the_mean,
            "You kept the mean of the picture and pulled only what is around it. The paper multiplies the "
            "whole picture by one factor.",
        ),
    ],
    alternatives=[_rescaled(lambda x0, plain: _spread(plain) / _spread(x0)), _rescaled_one_by_one],
    hints=(
        "Guidance stretches the picture's contrast. One factor for each picture brings its standard "
        "deviation back to that of the plain estimate, and φ says how much of that you want.",
        "c = std(x0_plain)/std(x0) for each picture; the result is φ·c·x0 + (1 − φ)·x0.",
        "`x0.std(dim=(1, 2, 3), keepdim=True)` has shape (B, 1, 1, 1) and multiplies (B, C, H, W).",
    ),
    figure=_rescale_figure,
    figure_alt="A plain 3, then one with over twice its contrast pulled back by φ = 0, 0.4, 0.7 and 1: blown "
    "out to white at first, grey and white again at 1.",
)

EXERCISES = [DROP, MIX, GUIDED, INTERVAL, RESCALE]
