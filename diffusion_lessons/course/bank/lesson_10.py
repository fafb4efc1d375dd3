"""Lesson 10, classifier-free guidance: labels dropped, the mix, intervals, rescaling, the whole sampler."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from diffusion_lessons.conditions import dropped
from diffusion_lessons.course.bank import figures
from diffusion_lessons.course.bank.inputs import blobs, data, normal, number, several, whole
from diffusion_lessons.course.exercises.exercise import Case, Exercise, Misconception
from diffusion_lessons.denoiser import Denoiser
from diffusion_lessons.guidance import ClassifierFreeGuidance, Clip, Rescale, guidance_interval
from diffusion_lessons.paths import DiscreteVP, Level
from diffusion_lessons.samplers import ddim_step, sample
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


def _first_ones_dropped(labels: Tensor, rate: float, num_classes: int, chance: Tensor) -> Tensor:
    first = torch.arange(len(labels)) < round(rate * len(labels))
    return labels.masked_fill(first, num_classes)


def _dropped_by_list(labels: Tensor, rate: float, num_classes: int, chance: Tensor) -> Tensor:
    pairs = zip(labels.tolist(), chance.tolist(), strict=True)
    return torch.tensor([num_classes if c < rate else label for label, c in pairs])


def _dropped_on_a_copy(labels: Tensor, rate: float, num_classes: int, chance: Tensor) -> Tensor:
    return _dropped_in_place(labels.clone(), rate, num_classes, chance)


def _batch(n: tuple[int, int], rate: tuple[int, int], classes: tuple[int, int]) -> Make:
    """Each between two bounds, the rate in 64ths: one chance is the rate itself, two are next to it."""

    def make(g: torch.Generator) -> dict[str, Any]:
        count, num_classes, share = whole(g, *n), whole(g, *classes), whole(g, *rate) / 64
        chance = torch.rand(count, generator=g)
        on, below, above = several(g, 3, 0, count - 1)
        chance[on] = min(share, 0.75)
        chance[below], chance[above] = max(share - 1 / 64, 0), min(share + 1 / 64, 0.75)
        labels = torch.randint(num_classes, (count,), generator=g)
        return {"labels": labels, "rate": share, "num_classes": num_classes, "chance": chance}

    return make


def _drop_figure(reference: Callable[..., Tensor]) -> Any:
    labels, chance = torch.arange(10), torch.rand(10, generator=torch.Generator().manual_seed(12))
    kept = reference(labels, 0.3, 10, chance).tolist()
    return figures.strip(list(figures.digits(10)), ["none" if label == 10 else str(label) for label in kept])


def _just_that_share(labels: Tensor, rate: float, num_classes: int, chance: Tensor) -> Tensor:
    least = chance.argsort()[: round(rate * len(labels))]
    return labels.index_fill(0, least, num_classes)


DROP = Exercise(
    id="10.1",
    name="drop_labels",
    title="Labels that go missing",
    kind="implement",
    difficulty=1,
    minutes=8,
    reference=drop_labels,
    cases=[
        Case(
            "labels of some ten classes, a few dropped, one chance is the rate",
            _batch((20, 26), (13, 26), (9, 12)),
        ),
        Case(
            "labels of a few classes, about half dropped, one chance is the rate",
            _batch((13, 17), (27, 40), (3, 6)),
        ),
        Case("rate 0, and one chance of 0: every label stays", _batch((7, 10), (0, 0), (8, 12))),
        Case("rate 1: no label stays", _batch((7, 10), (64, 64), (3, 6))),
    ],
    misconceptions=[
        Misconception(
            "labels-changed-in-place",
            _dropped_in_place,
            "The result is right, but you wrote it into the caller's own labels. Next epoch they come "
            "without those labels, and are dropped again: after a while none is left. Make a new tensor.",
            about="extra",
        ),
        Misconception(
            "last-class-for-none",
            lambda labels, rate, num_classes, chance: labels.masked_fill(chance < rate, num_classes - 1),
            "You put num_classes − 1 in the place of dropped labels. That is the last real class: the "
            "network would learn that any picture may be one of those. The first free id is num_classes.",
            about="index",
        ),
        Misconception(
            "class-0-for-none",
            lambda labels, rate, num_classes, chance: labels * (chance >= rate),
            "Dropped labels became 0, which is a real class: the network would learn that any picture may be "
            "a 0. The first id that is free is num_classes.",
            about="input",
        ),
        Misconception(
            "minus-1-for-none",
            lambda labels, rate, num_classes, chance: labels.masked_fill(chance < rate, -1),
            "Dropped labels became −1. A table of vectors has no row −1 (indexing would take the last one in "
            'silence). This network\'s row for "no label" is number num_classes.',
            about="input",
        ),
        Misconception(
            "rate-inverted",
            lambda labels, rate, num_classes, chance: labels.masked_fill(chance >= rate, num_classes),
            "You dropped the labels that should stay: with rate 0.1 nine in ten would be gone. `rate` is the "
            "share that is dropped, and chance < rate is true for that share.",
            about="direction",
        ),
        Misconception(
            "whole-batch-or-nothing",
            lambda labels, rate, num_classes, chance: labels.masked_fill(chance[:1] < rate, num_classes),
            "You decided once for the whole batch. Each label has a chance of its own: compare all of "
            "chance, entry by entry.",
            about="batch",
        ),
        Misconception(
            "rows-left-out",
            lambda labels, rate, num_classes, chance: labels[chance >= rate],
            "You took the dropped labels out, so that fewer labels than pictures are left. The picture stays "
            "in the batch and is trained on without its label: put num_classes there.",
            about="shape",
        ),
        Misconception(
            "labels-as-floats",
            lambda labels, rate, num_classes, chance: labels.float().masked_fill(chance < rate, num_classes),
            "The numbers are right, but they are floats now. Labels are indices: keep them int64, as they "
            "came.",
            about="reading",
        ),
        Misconception(
            "chance-of-the-rate-itself",
            lambda labels, rate, num_classes, chance: labels.masked_fill(chance <= rate, num_classes),
            "You drop where the chance *is* the rate, too. Chance runs over [0, 1), 0 included: with ≤, "
            "rate 0 would drop a label now and then.",
            about="boundary",
        ),
        Misconception(
            "one-minus-the-rate",
            lambda labels, rate, num_classes, chance: labels.masked_fill(chance < 1 - rate, num_classes),
            "You drop the share 1 − rate. `rate` itself is the share that is dropped: chance < rate.",
            about="direction",
        ),
        Misconception(
            "above-one-minus-the-rate",
            lambda labels, rate, num_classes, chance: labels.masked_fill(chance > 1 - rate, num_classes),
            "You drop where chance > 1 − rate. That is as many on average, but not the ones that are asked "
            "for: a label is dropped where its chance is below rate.",
            about="direction",
        ),
        Misconception(
            "one-past-the-free-id",
            lambda labels, rate, num_classes, chance: labels.masked_fill(chance < rate, num_classes + 1),
            "You put num_classes + 1 in the place of dropped labels. Classes are counted from 0, so the "
            "first free id is num_classes itself.",
            about="index",
        ),
        Misconception(
            "first-ones-dropped",
            _first_ones_dropped,
            "You drop the first labels of the batch, that share of them. Each label is dropped by its own "
            "chance.",
            about="input",
        ),
        Misconception(
            "mask-returned",
            lambda labels, rate, num_classes, chance: chance < rate,
            "You returned which labels are dropped. Asked are the new labels.",
            about="reading",
        ),
        Misconception(
            "dropped-above-the-rate",
            lambda labels, rate, num_classes, chance: labels.masked_fill(chance > rate, num_classes),
            "You drop where chance is above the rate, so nine in ten labels would go with rate 0.1. `rate` "
            "is the share that goes: chance < rate.",
            about="direction",
        ),
        Misconception(
            "just-that-share",
            _just_that_share,
            "You dropped just that share of the batch, where the chances are smallest. Each label is on its "
            "own: it is dropped where its chance is below the rate, however many that are.",
            about="batch",
        ),
        Misconception(
            "another-class",
            lambda labels, rate, num_classes, chance: torch.where(
                chance < rate, (labels + 1) % num_classes, labels
            ),
            "You put another class in the place of a dropped label. That is a wrong label, and not none: "
            "the id for none is num_classes.",
            about="input",
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


def _two(scale: tuple[float, float], *shape: int) -> Make:
    """The scale between two bounds."""
    return lambda g: {"cond": data(g, *shape), "uncond": 0.3 * normal(g, *shape), "scale": number(g, *scale)}


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
        Case("two grey pictures, scale above 1", _two((2.0, 4.0), 2, 1, 8, 6)),
        Case("latents of four channels, a large scale", _two((6.0, 9.0), 3, 4, 6, 5)),
        Case("scale 1 is the answer with the label", _two((1.0, 1.0), 2, 1, 6, 5)),
        Case("scale 0 is the answer without", _two((0.0, 0.0), 2, 3, 5, 6)),
        Case("twelve points in the plane, scale between 0 and 1", _two((0.3, 0.7), 12, 2)),
    ],
    misconceptions=[
        Misconception(
            "the-papers-w",
            lambda cond, uncond, scale: cond + scale * (cond - uncond),
            "You count the scale as the paper counts its w, which is one less than ours: your 0 is the "
            "answer with the label. Here 0 is the answer without it and 1 the one with it.",
            about="factor",
        ),
        Misconception(
            "one-taken-off",
            lambda cond, uncond, scale: uncond + (scale - 1) * (cond - uncond),
            "Your scale counts for one less than it should: 1 gives the answer without the label. The 1 "
            "comes off (w = scale − 1) only in the paper's form, which starts from cond; from uncond, all "
            "of it counts.",
            about="factor",
        ),
        Misconception(
            "sign-swapped",
            lambda cond, uncond, scale: uncond + scale * (uncond - cond),
            "You went the wrong way: away from the answer with the label. The direction is cond − uncond.",
            about="sign",
        ),
        Misconception(
            "roles-swapped",
            lambda cond, uncond, scale: cond + scale * (uncond - cond),
            "The two answers have changed places: your scale 0 gives the answer with the label and 1 the one "
            "without. Start from uncond, and go towards cond.",
            about="swap",
        ),
        Misconception(
            "start-forgotten",
            lambda cond, uncond, scale: scale * (cond - uncond),
            "You returned the direction alone. It has to be added to where it starts: uncond.",
            about="missing",
        ),
        Misconception(
            "second-weight-negative",
            lambda cond, uncond, scale: scale * cond - (1 - scale) * uncond,
            "One sign is wrong: written as two weights, they are scale and 1 − scale, and both are added. "
            "They sum to 1.",
            about="sign",
        ),
        Misconception(
            "three-channels-only",
            _three_channels,
            "You guided the first three channels and left the others. Published code has done that, made for "
            "colour pictures and used on latents of four channels. Mix all of the tensor.",
            about="missing",
        ),
        Misconception(
            "scaled-and-added",
            lambda cond, uncond, scale: uncond + scale * cond,
            "You added all of cond. It is the *difference* of the two that the scale multiplies: "
            "scale·(cond − uncond).",
            about="missing",
        ),
        Misconception(
            "brackets-missing",
            lambda cond, uncond, scale: uncond + scale * cond - uncond,
            "The scale multiplies cond alone: the brackets around cond − uncond are missing.",
            about="order",
        ),
        Misconception(
            "no-less-than-one",
            lambda cond, uncond, scale: torch.lerp(uncond, cond, max(scale, 1.0)),
            "You use no scale below 1. The scale counts as it is: at 0 the answer is uncond, and between 0 "
            "and 1 it is a mixture.",
            about="boundary",
        ),
        Misconception(
            "no-more-than-one",
            lambda cond, uncond, scale: torch.lerp(uncond, cond, min(scale, 1.0)),
            "You stop at scale 1. Guidance goes on beyond the answer with the label: that is what it is for.",
            about="boundary",
        ),
        Misconception(
            "clipped",
            lambda cond, uncond, scale: mix(cond, uncond, scale).clamp(-1, 1),
            "You cut the result to [−1, 1]. The answers may be noises or latents, which have no such range: "
            "return the mix as it is.",
            about="extra",
        ),
        Misconception(
            "divided-by-the-scale",
            lambda cond, uncond, scale: (uncond + scale * cond) / (1 + scale),
            "You took a weighted mean of the two, which never leaves the line between them. Go *beyond* "
            "cond: uncond + scale·(cond − uncond).",
            about="formula",
        ),
        Misconception(
            "not-mixed-below-1",
            lambda cond, uncond, scale: cond if 0 < scale < 1 else mix(cond, uncond, scale),
            "Between 0 and 1 you return cond. There the label is a weaker hint, and the same formula holds.",
            about="boundary",
        ),
        Misconception(
            "difference-without-its-sign",
            lambda cond, uncond, scale: uncond + scale * (cond - uncond).abs(),
            "You took the difference without its sign. It is a direction: where cond is darker than uncond, "
            "the mix gets darker.",
            about="sign",
        ),
        Misconception(
            "difference-of-the-whole-batch",
            lambda cond, uncond, scale: uncond + scale * (cond - uncond).mean(0, keepdim=True),
            "You averaged the difference over the batch. Each picture has its own.",
            about="batch",
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
    """Both questions in one batch, and the mix of their answers."""
    x0, eps = denoiser(torch.cat([x, x]), level, torch.cat([labels, away]))
    (x0_to, x0_from), (eps_to, eps_from) = x0.chunk(2), eps.chunk(2)
    return mix(x0_to, x0_from, scale), mix(eps_to, eps_from, scale)


def _package_guided(
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


def _plain_x0(
    denoiser: Denoiser, x: Tensor, level: Level, labels: Tensor, away: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    plain, other = denoiser(x, level, labels), denoiser(x, level, away)
    return plain.x0, torch.lerp(other.eps, plain.eps, scale)


def _two_passes(
    denoiser: Denoiser, x: Tensor, level: Level, labels: Tensor, away: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    plain, other = denoiser(x, level, labels), denoiser(x, level, away)
    x0 = other.x0 + scale * (plain.x0 - other.x0)
    alpha, sigma = level.like(x)
    return x0, (x - alpha * x0) / sigma


def _templates(t: tuple[int, int], scale: tuple[float, float], batch: int, channels: int = 1) -> Make:
    """Time and scale between two bounds."""

    def make(g: torch.Generator) -> dict[str, Any]:
        return {
            "x": normal(g, batch, channels, 8, 6),
            "t": float(whole(g, *t)),
            "labels": torch.tensor(several(g, batch, 0, 3)),
            "away": torch.full((batch,), 4),
            "scale": number(g, *scale),
            "templates": 2 * blobs(g, 5, channels, 8, 6),
        }

    return make


def _away_from_classes(g: torch.Generator) -> dict[str, Any]:
    """Four pictures, away from another class than their own."""
    made = _templates((550, 650), (1.5, 2.5), 4)(g)
    return made | {"away": (made["labels"] + whole(g, 1, 3)) % 4}


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


def _split_along_the_channels(
    denoiser: Denoiser, x: Tensor, level: Level, labels: Tensor, away: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    x0, eps = denoiser(torch.cat([x, x]), level, torch.cat([labels, away]))
    (x0_to, x0_from), (eps_to, eps_from) = x0.chunk(2, dim=1), eps.chunk(2, dim=1)
    return mix(x0_to, x0_from, scale), mix(eps_to, eps_from, scale)


def _joined_along_the_channels(
    denoiser: Denoiser, x: Tensor, level: Level, labels: Tensor, away: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    x0, eps = denoiser(torch.cat([x, x], dim=1), level, torch.cat([labels, away]))
    (x0_to, x0_from), (eps_to, eps_from) = x0.chunk(2, dim=1), eps.chunk(2, dim=1)
    return mix(x0_to, x0_from, scale), mix(eps_to, eps_from, scale)


def _plain_up_to_1(
    denoiser: Denoiser, x: Tensor, level: Level, labels: Tensor, away: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    if scale > 1:
        return guided(denoiser, x, level, labels, away, scale)
    plain = denoiser(x, level, labels)
    return plain.x0, plain.eps


def _zeros_for_x(
    denoiser: Denoiser, x: Tensor, level: Level, labels: Tensor, away: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    x0, eps = denoiser(torch.cat([x, torch.zeros_like(x)]), level, torch.cat([labels, away]))
    (x0_to, x0_from), (eps_to, eps_from) = x0.chunk(2), eps.chunk(2)
    return mix(x0_to, x0_from, scale), mix(eps_to, eps_from, scale)


GUIDED = Exercise(
    id="10.3",
    name="guided",
    title="The scale that does nothing",
    kind="debug",
    difficulty=2,
    minutes=10,
    reference=guided,
    builds_on=[MIX],
    cases=[
        Case("three pictures, a large scale", _templates((450, 550), (2.5, 4.0), 3)),
        Case("two colour pictures, a small scale, much noise", _templates((850, 950), (1.3, 1.8), 2, 3)),
        Case("four pictures, away from another class", _away_from_classes),
        Case("scale 0: away alone counts", _templates((250, 350), (0.0, 0.0), 2)),
    ],
    planted="both-passes-given-the-label",
    misconceptions=[
        Misconception(
            "both-passes-given-the-label",
            _halves(lambda labels, away: torch.cat([labels, labels])),
            "Both halves of the batch are given the label, so their answers are equal and any mix of the two "
            "is that answer.",
            about="input",
        ),
        Misconception(
            "both-passes-without",
            _halves(lambda labels, away: torch.cat([away, away])),
            "Now both halves are asked with `away`: the difference is still zero, and the label is gone "
            "altogether. The first half needs labels, the second away.",
            about="input",
        ),
        Misconception(
            "class-0-for-away",
            _halves(lambda labels, away: torch.cat([labels, torch.zeros_like(away)])),
            "The second half is asked with zeros now. 0 is a class like any other, and the walk would move "
            "away from it. What to move away from is handed over: `away`.",
            about="input",
        ),
        Misconception(
            "halves-in-the-wrong-order",
            _halves(lambda labels, away: torch.cat([away, labels])),
            "The two passes differ now: the cause is found. But the two answers are in each other's place, "
            "so your scale s works as 1 − s. `mix` takes the answer to labels first and the one to away "
            "second; the halves of the batch stand in the order in which they were asked.",
            about="order",
        ),
        Misconception(
            "labels-interleaved",
            _halves(lambda labels, away: torch.stack([labels, away], 1).flatten()),
            "You put label and away next to each other for each picture, but the batch is all pictures, then "
            "all pictures again: cat([x, x]). So most pictures are asked with a neighbour's label.",
            about="order",
        ),
        Misconception(
            "symptom-hidden",
            _halves(lambda labels, away: torch.cat([labels, labels]), lambda no, yes, scale: scale * yes),
            "You made the scale do something, by multiplying with it. The mix was right: what is wrong is "
            "that both of its inputs are the same answer.",
            about="formula",
        ),
        Misconception(
            "eps-left-behind",
            _stale_eps,
            "x̂₀ is guided now, but ε̂ is still that of the plain answer, and a step that mixes both walks "
            "astray. The two must keep x = α·x̂₀ + σ·ε̂: mix both.",
            about="missing",
        ),
        Misconception(
            "the-papers-w",
            _halves(
                lambda labels, away: torch.cat([labels, away]),
                lambda no, yes, scale: yes + scale * (yes - no),
            ),
            "The two passes differ now: the cause is found. But your scale counts as the paper's w, which "
            "is one less than ours: your 0 is the answer with the label.",
            about="factor",
        ),
        Misconception(
            "no-label-as-last-class",
            _halves(lambda labels, away: torch.cat([labels, torch.full_like(away, 3)])),
            "The second half is asked with a number of your own now. What to move away from is handed over: "
            "`away`.",
            about="input",
        ),
        Misconception(
            "away-shifted",
            _halves(lambda labels, away: torch.cat([labels, away.roll(1)])),
            "The second half is asked with `away`, but in another order. Each picture has its own label to "
            "move away from.",
            about="order",
        ),
        Misconception(
            "one-away-for-all",
            _halves(lambda labels, away: torch.cat([labels, away[:1].expand_as(away)])),
            "The second half is asked with the first of `away` for all pictures. Each has its own.",
            about="batch",
        ),
        Misconception(
            "one-label-for-all",
            _halves(lambda labels, away: torch.cat([labels[:1].expand_as(labels), away])),
            "The first half is asked with the first label for all pictures. Each has its own.",
            about="batch",
        ),
        Misconception(
            "plain-x0",
            _plain_x0,
            "ε̂ is guided now, but x̂₀ is still that of the plain answer, and a step that mixes both walks "
            "astray. The two must keep x = α·x̂₀ + σ·ε̂: mix both.",
            about="missing",
        ),
        Misconception(
            "signs-of-the-mix",
            _halves(
                lambda labels, away: torch.cat([labels, away]), lambda no, yes, scale: no - scale * (yes - no)
            ),
            "The two passes differ now: the cause is found. But your mix goes the wrong way, away from the "
            "label.",
            about="sign",
        ),
        Misconception(
            "split-along-the-channels",
            _split_along_the_channels,
            "You split the answers along the channels. The halves stand one behind the other in the batch, "
            "dimension 0: chunk(2).",
            about="axis",
        ),
        Misconception(
            "joined-along-the-channels",
            _joined_along_the_channels,
            "You gave twice as many labels as pictures. Both halves ask about the same x: join it with "
            "itself along the batch, torch.cat([x, x]), dimension 0.",
            about="axis",
        ),
        Misconception(
            "plain-up-to-1",
            _plain_up_to_1,
            "You guide above 1 only. At scale 0 the answer is that to away, and between 0 and 1 a mix: the "
            "same formula holds for every scale.",
            about="boundary",
        ),
        Misconception(
            "zeros-for-x",
            _zeros_for_x,
            "The second half is asked about a picture of zeros. Both answers are about the same x: "
            "torch.cat([x, x]).",
            about="input",
        ),
    ],
    alternatives=[_package_guided, _two_passes, _halves(lambda labels, away: torch.cat([labels, away]))],
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


Bounds = tuple[float, float]


def _walk_of(
    path: str, times: Sequence[float], moved: float, scale: Bounds, low: Bounds, high: Bounds
) -> Make:
    """Times, all moved by a little; scale, low and high each between two bounds."""

    def make(g: torch.Generator) -> dict[str, Any]:
        by = number(g, -moved, moved)
        return {
            "path": path,
            "times": [t + by for t in times],
            "scale": number(g, *scale),
            "low": number(g, *low),
            "high": number(g, *high),
        }

    return make


def _on_a_bound(low: Bounds, high: Bounds) -> Make:
    """Half-way along the straight path σ/α is 1 with no rounding, and so is one of the bounds."""

    def make(g: torch.Generator) -> dict[str, Any]:
        made = _walk_of("straight", [0.1 * k for k in range(1, 10)], 0.04, (2.5, 4.0), low, high)(g)
        return made | {"times": sorted([*made["times"], 0.5])}

    return make


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


def _ramp(level: Level, scale: float, low: float, high: float) -> float:
    noise = float(_noise(level))
    return 1 + (scale - 1) * (noise - low) / (high - low) if low < noise <= high else 1.0


INTERVAL = Exercise(
    id="10.4",
    name="interval_scale",
    title="Guide only here",
    kind="implement",
    difficulty=1,
    minutes=8,
    reference=interval_scale,
    cases=[
        Case(
            "the cosine path, a wide interval",
            _walk_of("cosine", range(60, 1000, 90), 40, (3.0, 5.0), (0.15, 0.25), (1.2, 1.8)),
        ),
        Case(
            "the straight path, where α + σ = 1, up to σ/α = 1, which one level has exactly",
            _on_a_bound((0.3, 0.5), (1.0, 1.0)),
        ),
        Case(
            "the straight path, from σ/α = 1 up, which one level has exactly",
            _on_a_bound((1.0, 1.0), (2.0, 4.0)),
        ),
        Case(
            "the linear path, everything below a bound",
            _walk_of("linear", range(45, 1000, 100), 40, (2.0, 3.0), (0.0, 0.0), (0.5, 0.8)),
        ),
    ],
    misconceptions=[
        Misconception(
            "bounds-on-t",
            _where(lambda level, low, high: low < level.t <= high),
            "You compared t with the bounds. t depends on the schedule and on T; the bounds are noise "
            "levels: σ/α.",
            about="input",
        ),
        Misconception(
            "bounds-on-a-share-of-the-walk",
            _where(lambda level, low, high: low < level.t / 1000 <= high),
            "You compared t/1000, the share of the walk that is left. Some libraries do count their interval "
            "in steps; then it means other noise levels on each schedule. The bounds here are on σ/α.",
            about="input",
        ),
        Misconception(
            "bounds-on-sigma",
            _where(lambda level, low, high: low < level.sigma <= high),
            "You compared σ. The paper's σ is the noise on a picture at full strength. Ours is turned down "
            "by α, so theirs is σ/α.",
            about="input",
        ),
        Misconception(
            "bounds-on-snr",
            _where(lambda level, low, high: low < level.snr <= high),
            "You compared the SNR. It is (α/σ)², which falls as the noise grows; the bounds are on σ/α, "
            "which grows.",
            about="input",
        ),
        Misconception(
            "ratio-upside-down",
            _where(lambda level, low, high: low < level.alpha / level.sigma <= high),
            "The ratio is upside down: α/σ falls as the noise grows. The noise level is σ/α.",
            about="swap",
        ),
        Misconception(
            "ratio-of-variances",
            _where(lambda level, low, high: low < _noise(level) ** 2 <= high),
            "You squared the ratio. The bounds are on σ/α, a ratio of factors, not of variances.",
            about="root",
        ),
        Misconception(
            "guided-outside",
            _where(lambda level, low, high: not low < _noise(level) <= high),
            "The mask is inverted: you guide outside the interval, and not within.",
            about="direction",
        ),
        Misconception(
            "zero-outside",
            _where(lambda level, low, high: low < _noise(level) <= high, 0.0),
            "Outside the interval you returned 0. That is the unconditional model, which would forget the "
            "label there. No guidance is scale 1: the plain conditional model.",
            about="reading",
        ),
        Misconception(
            "upper-bound-alone",
            _where(lambda level, low, high: _noise(level) <= high),
            "Only the upper bound counts in your answer. Below `low` there is to be no guidance either.",
            about="missing",
        ),
        Misconception(
            "lower-bound-alone",
            _where(lambda level, low, high: low < _noise(level)),
            "Only the lower bound counts in your answer. Above `high`, at the start of the walk, there is to "
            "be no guidance either: that is where it does harm.",
            about="missing",
        ),
        Misconception(
            "low-belongs-to-it",
            _where(lambda level, low, high: low <= _noise(level) <= high),
            "You take the lower bound in. Of the two only `high` belongs to the interval: low < σ/α.",
            about="boundary",
        ),
        Misconception(
            "high-left-out",
            _where(lambda level, low, high: low < _noise(level) < high),
            "You leave the upper bound out. Of the two `high` belongs to the interval: σ/α ≤ high.",
            about="boundary",
        ),
        Misconception(
            "bounds-the-other-way",
            _where(lambda level, low, high: low <= _noise(level) < high),
            "You take the lower bound in and leave the upper one out. It is the other way round: low < σ/α "
            "≤ high.",
            about="boundary",
        ),
        Misconception(
            "bounds-swapped",
            _where(lambda level, low, high: high < _noise(level) <= low),
            "The two bounds have changed places, and no level lies between them: low < σ/α ≤ high.",
            about="swap",
        ),
        Misconception(
            "always-guided",
            _where(lambda level, low, high: True),
            "You return the scale at every level. Outside the interval there is no guidance: 1.",
            about="missing",
        ),
        Misconception(
            "minus-one-outside",
            _where(lambda level, low, high: low < _noise(level) <= high, otherwise=-1.0),
            "Outside the interval you returned −1. No guidance is scale 1: the plain conditional model.",
            about="reading",
        ),
        Misconception(
            "bounds-on-alpha",
            _where(lambda level, low, high: low < level.alpha <= high),
            "You compared α, the factor of the picture. The bounds are on the noise level, σ/α.",
            about="input",
        ),
        Misconception(
            "bounds-on-the-variance",
            _where(lambda level, low, high: low < level.sigma**2 <= high),
            "You compared σ², the share of the noise. The bounds are on σ/α, a ratio of factors.",
            about="root",
        ),
        Misconception(
            "bounds-on-the-logarithm",
            _where(lambda level, low, high: low < _noise(level).log() <= high),
            "You compared the logarithm of σ/α. The bounds are on σ/α itself.",
            about="formula",
        ),
        Misconception(
            "ramp",
            _ramp,
            "Your scale rises from low to high. Within the interval it is `scale`, the same everywhere.",
            about="extra",
        ),
        Misconception(
            "whether-returned",
            lambda level, scale, low, high: bool(low < _noise(level) <= high),
            "You returned whether to guide. Asked is the scale: `scale` within the interval and 1 outside.",
            about="reading",
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


def _over_exposed(phi: Bounds, *shape: int) -> Make:
    """φ between two bounds."""

    def make(g: torch.Generator) -> dict[str, Any]:
        plain = blobs(g, *shape)
        strength = 1.3 + 2 * torch.rand(shape[0], 1, 1, 1, generator=g)
        shade = 0.2 * normal(g, *shape[:2], 1, 1) + 0.1 * normal(g, *shape)
        return {"x0": strength * plain + shade, "x0_plain": plain, "phi": number(g, *phi)}

    return make


def _duller(g: torch.Generator) -> dict[str, Any]:
    made = _over_exposed((0.5, 0.8), 3, 1, 6, 5)(g)
    return made | {"x0": made["x0"] / 6}


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
        Case("two colour pictures, φ above a half", _over_exposed((0.6, 0.8), 2, 3, 8, 6)),
        Case("four grey pictures, φ = 1", _over_exposed((1.0, 1.0), 4, 1, 8, 6)),
        Case("three pictures of four channels, φ below a half", _over_exposed((0.2, 0.4), 3, 4, 6, 5)),
        Case("a guided picture duller than the plain one", _duller),
        Case("φ = 0: nothing changes", _over_exposed((0.0, 0.0), 2, 1, 5, 4)),
    ],
    misconceptions=[
        Misconception(
            "spread-of-the-batch",
            _rescaled(lambda x0, plain: plain.std() / x0.std()),
            "You took one spread for the whole batch. Each picture is brought back to its own plain one, "
            "whatever else is in the batch: a standard deviation for each sample.",
            about="batch",
        ),
        Misconception(
            "spread-of-each-channel",
            _rescaled(lambda x0, plain: plain.std((2, 3), keepdim=True) / x0.std((2, 3), keepdim=True)),
            "You took a spread for each channel, which changes the colours against each other. It is one "
            "number for a picture: over channels, rows and columns.",
            about="axis",
        ),
        Misconception(
            "ratio-upside-down",
            _rescaled(lambda x0, plain: _spread(x0) / _spread(plain)),
            "The ratio is upside down: the guided picture, whose spread is too large, became larger still. "
            "Divide by the guided spread.",
            about="swap",
        ),
        Misconception(
            "phi-the-other-way",
            lambda x0, x0_plain, phi: ((1 - phi) * _spread(x0_plain) / _spread(x0) + phi) * x0,
            "φ stands at the wrong one of the two: φ is the share of the rescaled picture, 1 − φ that of the "
            "guided one.",
            about="swap",
        ),
        Misconception(
            "phi-forgotten",
            lambda x0, x0_plain, phi: _spread(x0_plain) / _spread(x0) * x0,
            "You returned the fully rescaled picture. φ mixes it with the guided one: that share of the one, "
            "1 − φ of the other.",
            about="missing",
        ),
        Misconception(
            "pulled-to-the-plain-picture",
            lambda x0, x0_plain, phi: torch.lerp(x0, x0_plain, phi),
            "You mixed in the plain picture itself. That is only a lower guidance scale. What is taken from "
            "the plain picture is its spread, one number.",
            about="input",
        ),
        Misconception(
            "variance-for-spread",
            _rescaled(lambda x0, plain: (_spread(plain) / _spread(x0)) ** 2),
            "You took the ratio of variances. A factor c changes the standard deviation by c, so it is the "
            "ratio of standard deviations.",
            about="root",
        ),
        Misconception(
            "length-for-spread",
            _rescaled(
                lambda x0, plain: (plain.flatten(1).norm(dim=1) / x0.flatten(1).norm(dim=1)).view(-1, 1, 1, 1)
            ),
            "You compared the lengths of the two pictures as vectors. That counts their mean, too; the "
            "standard deviation is around the mean.",
            about="formula",
        ),
        Misconception(
            "only-around-the-mean",
            _around_the_mean,
            "You kept the mean of the picture and pulled only what is around it. The paper multiplies the "
            "whole picture by one factor.",
            about="formula",
        ),
        Misconception(
            "spread-of-the-first",
            _rescaled(lambda x0, plain: _spread(plain)[:1] / _spread(x0)[:1]),
            "You took the factor of the first picture for all of them. Each has its own, shape (B, 1, 1, 1).",
            about="batch",
        ),
        Misconception(
            "spread-of-rows",
            _rescaled(lambda x0, plain: plain.std((1, 2), keepdim=True) / x0.std((1, 2), keepdim=True)),
            "You left the columns out, so that each column has a factor of its own. It is one number for a "
            "picture: over dimensions 1, 2 and 3.",
            about="axis",
        ),
        Misconception(
            "plain-rescaled",
            lambda x0, x0_plain, phi: phi * _spread(x0_plain) / _spread(x0) * x0_plain + (1 - phi) * x0,
            "You rescaled the plain picture. It is the guided one that is brought back: its factor is "
            "std(x0_plain)/std(x0).",
            about="input",
        ),
        Misconception(
            "mixed-with-the-plain-picture",
            lambda x0, x0_plain, phi: phi * _spread(x0_plain) / _spread(x0) * x0 + (1 - phi) * x0_plain,
            "You mixed the rescaled picture with the plain one. The other share, 1 − φ, is that of the "
            "guided picture as it was.",
            about="input",
        ),
        Misconception(
            "factor-of-phi",
            lambda x0, x0_plain, phi: phi * _spread(x0_plain) / _spread(x0) * x0,
            "You left the other part out: φ of the rescaled picture, and 1 − φ of the guided one.",
            about="missing",
        ),
        Misconception(
            "both-in-full",
            lambda x0, x0_plain, phi: phi * _spread(x0_plain) / _spread(x0) * x0 + x0,
            "You added all of the guided picture. Its share is 1 − φ: the two shares add up to 1.",
            about="factor",
        ),
        Misconception(
            "range-for-spread",
            _rescaled(
                lambda x0, plain: (
                    plain.flatten(1).abs().amax(1).view(-1, 1, 1, 1)
                    / x0.flatten(1).abs().amax(1).view(-1, 1, 1, 1)
                )
            ),
            "You compared the largest values. What is brought back is the spread: the standard deviation of "
            "all numbers of a picture.",
            about="formula",
        ),
        Misconception(
            "spread-of-one",
            _rescaled(lambda x0, plain: 1 / _spread(x0)),
            "You brought the spread to 1. It is to become that of the plain picture: std(x0_plain)/std(x0).",
            about="missing",
        ),
        Misconception(
            "spread-of-each-pixel",
            _rescaled(lambda x0, plain: plain.std(0) / x0.std(0)),
            "You took a spread for each pixel, over the batch: std(0). It is one number for a picture, over "
            "its channels, rows and columns: std((1, 2, 3), keepdim=True).",
            about="axis",
        ),
        Misconception(
            "power-of-phi",
            lambda x0, x0_plain, phi: (_spread(x0_plain) / _spread(x0)) ** phi * x0,
            "You took the factor to the power φ. The two pictures are mixed: φ·c·x0 + (1 − φ)·x0.",
            about="formula",
        ),
        Misconception(
            "never-more-contrast",
            _rescaled(lambda x0, plain: (_spread(plain) / _spread(x0)).clamp(max=1)),
            "You let the contrast shrink and never grow. The factor is std(x0_plain)/std(x0), above 1 as "
            "well.",
            about="extra",
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


# 10.6 The guided sampler ----------------------------------------------------------------------------


def draw_guided(
    denoiser: Denoiser,
    x: Tensor,
    labels: Tensor,
    no_label: Tensor,
    levels: list[Level],
    scale_at: Callable[[Level], float],
) -> Tensor:
    """`sample` with the two wrappers in their order: guide, then clip."""
    guidance = ClassifierFreeGuidance(denoiser, scale_at, no_label)  # type: ignore[arg-type]
    return sample(Clip(guidance), x, levels, labels)


def _counted(
    answer: Callable[..., Any],
    path: str,
    steps: int,
    stop: int,
    x: Tensor,
    labels: Tensor,
    no_label: Tensor,
    scale: float,
    low: float,
    high: float,
    templates: Tensor,
) -> dict[str, Any]:
    """What an answer draws down the first of the levels, and how many pictures it asks about at each."""
    levels = PATHS[path]().levels(steps)[:stop]
    rows = {float(level.t): 0 for level in levels}

    def knows_templates(x: Tensor, level: Level, labels: Tensor) -> Estimate:
        if labels.shape != x.shape[:1]:
            raise ValueError(f"one label for each of {len(x)} pictures, got {tuple(labels.shape)}")
        rows[float(level.t)] += len(x)
        return Estimate.from_x0(torch.tanh(0.3 * x) + 0.7 * templates.to(x.device)[labels], x, level)

    drawn = answer(knows_templates, x, labels, no_label, levels, guidance_interval(scale, low, high))
    return {"pictures": drawn, "pictures asked about, level by level": list(rows.values())}


Levels = list[Level]


def _walk(
    combine: Callable[[Tensor, Tensor, float], Tensor] = lambda to, away, s: torch.lerp(away, to, s),
    conditions: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = lambda labels, none: (labels, none),
    scale: Callable[[Any, Level, Level, Levels], float] = lambda scale_at, now, next, levels: scale_at(now),
    asked: Callable[[Level, Level], Level] = lambda now, next: now,
    one_pass: Callable[[Tensor, Tensor], Tensor | None] = lambda labels, none: labels,
    guides: Callable[[float], bool] = lambda s: s != 1,
    clip: str = "always",
    stale: bool = False,
    pairs: Callable[[Levels], Levels] = lambda levels: levels,
    result: str = "x",
    doubled: bool = True,
    noise: str = "estimated",
) -> Callable[..., Tensor]:
    """The sampler in plain steps, with a place for each slip."""

    def answer(
        denoiser: Denoiser, x: Tensor, labels: Tensor, no_label: Tensor, levels: Levels, scale_at: Any
    ) -> Tensor:
        start = x
        for now, next in pairwise(pairs(levels)):
            s, single = scale(scale_at, now, next, levels), one_pass(labels, no_label)
            alone = single is not None and not guides(s)
            if alone:
                x0, eps = denoiser(x, asked(now, next), single)
            else:
                two = conditions(labels, no_label)
                if doubled:
                    x0, eps = denoiser(torch.cat([x, x]), asked(now, next), torch.cat(two))
                else:
                    both = [denoiser(x, asked(now, next), each) for each in two]
                    x0, eps = (torch.cat([getattr(each, name) for each in both]) for name in ("x0", "eps"))
                if clip == "answers":
                    x0 = x0.clamp(-1, 1)
                (x0_to, x0_away), (eps_to, eps_away) = x0.chunk(2), eps.chunk(2)
                x0, eps = combine(x0_to, x0_away, s), combine(eps_to, eps_away, s)
            if clip == "always" or (clip == "where guided" and not alone):
                x0 = x0.clamp(-1, 1)
            if not stale:
                eps = Estimate.from_x0(x0, x, now).eps
            x = ddim_step(x, Estimate(x0, start if noise == "first" else eps), now, next)
            if clip == "x":
                x = x.clamp(-1, 1)
        if clip == "end":
            return x.clamp(-1, 1)
        return x if result == "x" else x0

    return answer


def _guided_rows(
    steps: tuple[int, int], path: str, bounds: tuple[Bounds, Bounds, Bounds], *shape: int, above: int = 0
) -> Make:
    """Pictures of some shape; scale, low and high each between two bounds; `above` levels are cut off."""

    def make(g: torch.Generator) -> dict[str, Any]:
        n = whole(g, *steps)
        scale, low, high = (number(g, *each) for each in bounds)
        return {
            "path": path,
            "steps": n,
            "stop": n + 1 - above,
            "x": normal(g, *shape),
            "labels": torch.tensor(several(g, shape[0], 0, 3)),
            "no_label": torch.full(shape[:1], 4),
            "scale": scale,
            "low": low,
            "high": high,
            "templates": 1.3 * blobs(g, 5, *shape[1:]),
        }

    return make


def _sampler_figure(reference: Callable[..., Any]) -> Any:
    digits = figures.digits(10)
    templates = torch.stack([digits[3], digits[5], digits[8], digits[9], digits.mean(0)])
    x, labels = figures.noise(3, 1, 16, 16), torch.tensor([0, 2, 3])
    drawn = []
    for scale in (1.0, 4.0):
        given: Any = {"scale": scale, "low": 0.2, "high": 2.0, "templates": 0.6 * templates}
        none = torch.full((3,), 4)
        drawn += [*_counted(reference, "cosine", 12, 13, x, labels, none, **given)["pictures"]]
    names = [f"scale {scale}" for scale in (1, 1, 1, 4, 4, 4)]
    return figures.strip(drawn, names)


SAMPLER = Exercise(
    id="10.6",
    name="draw_guided",
    title="The guided sampler",
    kind="implement",
    difficulty=3,
    minutes=25,
    reference=draw_guided,
    cases=[
        Case(
            "some eight steps of the cosine path, guided in the middle",
            _guided_rows((8, 10), "cosine", ((2.5, 3.5), (0.2, 0.3), (1.5, 3.0)), 3, 1, 8, 6),
        ),
        Case(
            "colour pictures on the straight path, guided from σ/α = 0.5 up",
            _guided_rows((5, 7), "straight", ((1.5, 2.0), (0.45, 0.55), (1e4, 1e5)), 2, 3, 6, 5),
        ),
        Case(
            "a list of levels that ends above data, guided everywhere",
            _guided_rows((6, 8), "cosine", ((3.0, 4.0), (0.0, 0.0), (1e9, 2e9)), 2, 1, 6, 5, above=2),
        ),
        Case(
            "scale between 0 and 1: two answers, too",
            _guided_rows((4, 5), "cosine", ((0.3, 0.7), (0.0, 0.0), (1e9, 2e9)), 2, 1, 5, 6),
        ),
        Case("two steps", _guided_rows((2, 2), "linear", ((2.0, 3.0), (0.0, 0.0), (5.0, 20.0)), 4, 1, 5, 6)),
    ],
    call=_counted,
    misconceptions=[
        Misconception(
            "always-doubled",
            _walk(one_pass=lambda labels, none: None),
            "The pictures are right, but you ask twice where the scale is 1, too. There the mix is the "
            "answer with the label: ask about that alone, and the step costs half.",
            about="extra",
        ),
        Misconception(
            "answers-clipped-before-the-mix",
            _walk(clip="answers"),
            "You clipped the two answers and mixed them then. The mix leaves [−1, 1] again: clip what was "
            "mixed.",
            about="order",
        ),
        Misconception(
            "not-clipped",
            _walk(clip="never"),
            "Nothing is clipped in your answer. A guided x₀ goes beyond white and black: after the mix it is "
            "cut to [−1, 1].",
            about="missing",
        ),
        Misconception(
            "clipped-where-guided-alone",
            _walk(clip="where guided"),
            "You clip x0 only where you ask twice. It is clipped in every step, where the scale is 1, too.",
            about="missing",
        ),
        Misconception(
            "clipped-at-the-end",
            _walk(clip="end"),
            "You clip once, at the end. What is cut to [−1, 1] is x0, in every step, before the step is "
            "made.",
            about="order",
        ),
        Misconception(
            "guided-above-1-alone",
            _walk(guides=lambda s: s > 1),
            "You ask twice above 1 only. Below 1 the result is a mix of both answers, too: ask once only "
            "where the scale is 1.",
            about="boundary",
        ),
        Misconception(
            "clipped-x",
            _walk(clip="x"),
            "You clipped x. It holds noise, which has no range: x0, the guess of the picture, is what is cut "
            "to [−1, 1].",
            about="input",
        ),
        Misconception(
            "eps-left-behind",
            _walk(stale=True),
            "You clipped x0 and kept ε as it was. The two must keep x = α·x0 + σ·ε: compute ε from the "
            "clipped x0.",
            about="missing",
        ),
        Misconception(
            "scale-of-the-next-level",
            _walk(scale=lambda scale_at, now, next, levels: scale_at(next) if next.t > 0 else 1.0),
            "You took the scale of the level where the step ends. The answers are those at `now`, and so is "
            "the scale.",
            about="level",
        ),
        Misconception(
            "scale-of-the-first-level",
            _walk(scale=lambda scale_at, now, next, levels: scale_at(levels[0])),
            "You asked for the scale once, at the first level. It may change on the way: ask scale_at(now) "
            "in each step.",
            about="level",
        ),
        Misconception(
            "the-papers-w",
            _walk(combine=lambda to, away, s: to + s * (to - away)),
            "You count the scale as the paper counts its w, which is one less than ours: it starts from the "
            "answer with the label. Start from the one without.",
            about="factor",
        ),
        Misconception(
            "both-passes-given-the-label",
            _walk(conditions=lambda labels, none: (labels, labels)),
            "Both halves of your batch are given the labels, so the mix is that answer at every scale. The "
            "second half is asked with no_label.",
            about="input",
        ),
        Misconception(
            "halves-swapped",
            _walk(conditions=lambda labels, none: (none, labels)),
            "The two halves have changed places: you move away from the label. Join labels first and "
            "no_label second: then the first half of the answers is the one with labels.",
            about="swap",
        ),
        Misconception(
            "no-label-where-the-scale-is-1",
            _walk(one_pass=lambda labels, none: none),
            "Where the scale is 1 you ask without the label. No guidance is the plain *conditional* model: "
            "ask with labels.",
            about="input",
        ),
        Misconception(
            "asked-at-the-next-level",
            _walk(asked=lambda now, next: next),
            "You told the denoiser the level where the step ends. x is at `now`, where the step starts.",
            about="level",
        ),
        Misconception(
            "one-step-short",
            _walk(pairs=lambda levels: levels[:-1]),
            "You stopped one level too early. A list of n + 1 levels has n steps: the last one ends at "
            "levels[−1].",
            about="count",
        ),
        Misconception(
            "first-step-skipped",
            _walk(pairs=lambda levels: levels[1:]),
            "You left the first step out. The noise is at levels[0]: the first step goes from there to "
            "levels[1].",
            about="count",
        ),
        Misconception(
            "guess-returned",
            _walk(result="x0"),
            "You returned the last x0. Asked is x at the last level, which may lie above data.",
            about="reading",
        ),
        Misconception(
            "start-noise-kept",
            _walk(noise="first"),
            "You put the noise of the start in the place of ε in every step. DDIM uses the ε that belongs to "
            "this x and this x0.",
            about="input",
        ),
    ],
    alternatives=[_walk(), _walk(doubled=False)],
    hints=(
        "It is the loop of a sampler, with your pieces in its middle: at each level find the scale, ask "
        "(once or about both), mix, clip x0, let ε follow, step.",
        "x̃₀ = x̂₀(∅) + s·(x̂₀(y) − x̂₀(∅)), clipped to [−1, 1]; ε = (x − α·x̃₀)/σ; x' = α'·x̃₀ + σ'·ε. At s = 1 "
        "x̂₀(y) alone is asked for.",
        "`for now, next in itertools.pairwise(levels):`, `scale = scale_at(now)`, `if scale == 1:` "
        "`x0, eps = denoiser(…)`, `else:` `x0, eps = guided(…)`; then three lines: clamp, ε, x.",
    ),
    figure=_sampler_figure,
    figure_alt="Three digits, drawn by a denoiser that knows them and, without a label, a blur of ten: grey "
    "at scale 1, with more contrast at scale 4.",
)

EXERCISES = [DROP, MIX, GUIDED, INTERVAL, RESCALE, SAMPLER]
