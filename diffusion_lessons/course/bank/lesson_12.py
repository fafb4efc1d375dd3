"""Lesson 12, Stable Diffusion's pieces: a batch, the pipeline, its cost, a scheduler, a loss, a check."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from diffusion_lessons import samplers
from diffusion_lessons.course.bank import figures
from diffusion_lessons.course.bank.inputs import normal, number, several, whole
from diffusion_lessons.course.exercises.exercise import Case, Exercise, Misconception
from diffusion_lessons.paths import Level
from diffusion_lessons.samplers import sample
from diffusion_lessons.targets import Estimate
from diffusion_lessons.training.recipe import PATHS

Make = Callable[[torch.Generator], dict[str, Any]]
Denoise = Callable[..., Any]

# 12.1 Several pictures for each prompt ---------------------------------------------------------------


def guided_batch(x: Tensor, context: Tensor, empty: Tensor) -> tuple[Tensor, Tensor]:
    """Pictures twice; beside them the context of each one's prompt, and that of the empty text."""
    n = len(x) // len(context)
    told = torch.cat([context.repeat_interleave(n, 0), empty.expand(len(x), -1, -1)])
    return torch.cat([x, x]), told


def _batched(
    rows: Callable[[Tensor, int], Tensor] = lambda context, n: context.repeat_interleave(n, 0),
    null: Callable[[Tensor, Tensor], Tensor] = lambda empty, rows: empty.expand_as(rows),
    pictures: Callable[[Tensor], Tensor] = lambda x: torch.cat([x, x]),
    halves: Callable[[Tensor, Tensor], Tensor] = lambda to, away: torch.cat([to, away]),
    each: Callable[[Tensor, Tensor], int] = lambda x, context: len(x) // len(context),
) -> Callable[..., Any]:
    """The batch in plain steps, with a place for each slip."""

    def answer(x: Tensor, context: Tensor, empty: Tensor) -> tuple[Tensor, Tensor]:
        told = rows(context, each(x, context))
        return pictures(x), halves(told, null(empty, told))

    return answer


def _batched_by_index(x: Tensor, context: Tensor, empty: Tensor) -> tuple[Tensor, Tensor]:
    own = torch.arange(len(x)) * len(context) // len(x)  # the prompt of each picture
    return x.repeat(2, 1, 1, 1), torch.cat([context[own], empty[torch.zeros_like(own)]])


def _pictures_moved(x: Tensor, context: Tensor, empty: Tensor) -> tuple[Tensor, Tensor]:
    n = len(x) // len(context)
    told = torch.cat([context.repeat(n, 1, 1), empty.expand(len(x), -1, -1)])
    return x.unflatten(0, (len(context), n)).transpose(0, 1).flatten(0, 1).repeat(2, 1, 1, 1), told


def _empty_for_each_prompt(x: Tensor, context: Tensor, empty: Tensor) -> tuple[Tensor, Tensor]:
    prompts = context.repeat_interleave(len(x) // len(context), 0)
    return torch.cat([x, x]), torch.cat([prompts, empty.expand_as(context)])


def _woven(to: Tensor, away: Tensor) -> Tensor:
    return torch.stack([to, away], 1).flatten(0, 1)


def _prompts(prompts: int, each: int, *shape: int) -> Make:
    def make(g: torch.Generator) -> dict[str, Any]:
        length, width = whole(g, 3, 5), whole(g, 6, 8)
        return {
            "x": normal(g, prompts * each, *shape),
            "context": normal(g, prompts, length, width),
            "empty": normal(g, 1, length, width),
        }

    return make


BATCH = Exercise(
    id="12.1",
    name="guided_batch",
    title="Whose picture is it?",
    kind="debug",
    difficulty=2,
    minutes=8,
    reference=guided_batch,
    planted="contexts-tiled",
    cases=[
        Case("two prompts, three pictures each", _prompts(2, 3, 4, 5, 7)),
        Case("three prompts, two pictures each", _prompts(3, 2, 4, 6, 5)),
        Case("four prompts, one picture each", _prompts(4, 1, 2, 4, 3)),
        Case("one prompt, four pictures", _prompts(1, 4, 3, 4, 4)),
    ],
    misconceptions=[
        Misconception(
            "contexts-tiled",
            _batched(rows=lambda context, n: context.repeat(n, 1, 1)),
            "The prompts are in the order 1, 2, 1, 2, and the pictures in the order 1, 1, 2, 2.",
            about="order",
        ),
        Misconception(
            "halves-swapped",
            _batched(halves=lambda to, away: torch.cat([away, to])),
            "The prompts are in order now. But the half with the empty text stands in front: whoever cuts "
            "the answer in two would move away from the prompt.",
            about="swap",
        ),
        Misconception(
            "contexts-woven",
            _batched(halves=_woven),
            "You wove the two halves together: prompt, empty, prompt, empty. The pictures are in two whole "
            "halves, and so must be the contexts.",
            about="order",
        ),
        Misconception(
            "all-woven",
            _batched(halves=_woven, pictures=lambda x: x.repeat_interleave(2, 0)),
            "You wove the two halves together, pictures and contexts. They fit each other, but asked is one "
            "half behind the other: the answer is cut in the middle.",
            about="order",
        ),
        Misconception(
            "pictures-doubled-in-place",
            _batched(pictures=lambda x: x.repeat_interleave(2, 0)),
            "You doubled each picture where it stands: 1, 1, 2, 2. The second half of the batch is the "
            "first one again: 1, 2, 1, 2.",
            about="order",
        ),
        Misconception(
            "prompts-in-both-halves",
            _batched(null=lambda empty, rows: rows),
            "Both halves are told the prompts: guidance would change nothing. The second half is told the "
            "empty text.",
            about="input",
        ),
        Misconception(
            "empty-text-in-both-halves",
            _batched(halves=lambda to, away: torch.cat([away, away])),
            "Both halves are told the empty text: no prompt arrives. The first half is told the prompts.",
            about="input",
        ),
        Misconception(
            "empty-text-for-one-picture",
            _batched(null=lambda empty, rows: empty),
            "The second half has one row of the empty text. Each picture of it needs one: (P·n, L, D).",
            about="shape",
        ),
        Misconception(
            "empty-text-of-zeros",
            _batched(null=lambda empty, rows: torch.zeros_like(rows)),
            "You told the second half zeros. The empty text is a text: the tower has read it, and `empty` "
            "is what it says.",
            about="input",
        ),
        Misconception(
            "pictures-for-prompts",
            _batched(each=lambda x, context: len(context)),
            "You repeated each context as often as there are prompts. It is n times: pictures over prompts.",
            about="count",
        ),
        Misconception(
            "not-doubled",
            lambda x, context, empty: (x, context.repeat_interleave(len(x) // len(context), 0)),
            "You left the second half out. Guidance asks about every picture twice: with its prompt, and "
            "with the empty text.",
            about="missing",
        ),
        Misconception(
            "prompts-backwards",
            _batched(rows=lambda context, n: context.flip(0).repeat_interleave(n, 0)),
            "Your prompts are in the opposite order: the first pictures belong to the first prompt.",
            about="direction",
        ),
        Misconception(
            "pictures-moved",
            _pictures_moved,
            "You left the prompts in the order 1, 2, 1, 2 and moved the pictures there. Now they fit each "
            "other, but the answers come back in that order, too. Leave the pictures as they are, and repeat "
            "each prompt where it stands.",
            about="order",
        ),
        Misconception(
            "empty-text-for-each-prompt",
            _empty_for_each_prompt,
            "The second half has one row of the empty text for each prompt. Each picture needs one: (P·n, L, "
            "D).",
            about="shape",
        ),
        Misconception(
            "zeros-beside-the-empty-text",
            _batched(pictures=lambda x: torch.cat([x, torch.zeros_like(x)])),
            "Your second half has zeros in the place of the pictures. Guidance compares two answers about "
            "the same noisy picture: x stands there twice.",
            about="input",
        ),
    ],
    alternatives=[_batched(), _batched_by_index],
    hints=(
        "Write down, for two prompts with two pictures each, whose prompt stands beside which picture. With "
        "one prompt, or with one picture each, every order is right: that is why nobody saw it.",
        "The pictures are those of prompt 1, 1, …, 2, 2, …. The contexts must be so, too.",
        "One word is wrong: `repeat` gives 1, 2, 1, 2. Which function repeats each row where it stands?",
    ),
)


# 12.2 The whole pipeline ------------------------------------------------------------------------------


def text_to_pictures(
    prompt: Tensor,
    empty: Tensor,
    noise: Tensor,
    levels: list[Level],
    text: Denoise,
    unet: Denoise,
    decode: Denoise,
    guidance: float,
    factor: float,
) -> Tensor:
    """Tower, guided walk, decoder, with the package's own step."""
    context, nothing = text(prompt), text(empty)
    x = noise
    for now, following in pairwise(levels):
        both, told = guided_batch(x, context, nothing)
        time = torch.full((len(both),), float(now.t) - 1, device=x.device)
        to, away = unet(both, time, told).chunk(2)
        v = away + guidance * (to - away)
        x0, eps = now.alpha * x - now.sigma * v, now.sigma * x + now.alpha * v
        x = samplers.ddim_step(x, Estimate(x0, eps), now, following)
    return ((decode(x / factor) + 1) / 2).clamp(0, 1)


def _assembled(
    answer: Callable[..., Any],
    path: str,
    steps: int,
    spacing: str,
    prompt: Tensor,
    empty: Tensor,
    noise: Tensor,
    guidance: float,
    factor: float,
    table: Tensor,
    into: Tensor,
    out: Tensor,
) -> dict[str, Any]:
    """What an answer draws with three small networks, and how much it asks of each."""
    levels = PATHS[path]().levels(steps, spacing)
    rows = {"tower": 0, "U-Net": 0, "decoder": 0}

    def text(ids: Tensor) -> Tensor:
        rows["tower"] += len(ids)
        said = table.to(ids.device)[ids]  # (B, L, D)
        return said.cumsum(1) / torch.arange(1, ids.shape[1] + 1, device=ids.device)[:, None]

    def unet(x: Tensor, time: Tensor, context: Tensor) -> Tensor:
        if time.shape != x.shape[:1] or len(context) != len(x):
            given = f"{tuple(time.shape)} times and {len(context)} contexts"
            raise ValueError(f"a time and a context for each of {len(x)} pictures, got {given}")
        rows["U-Net"] += len(x)
        told = torch.tanh(context[:, -1] @ into.to(x.device))[:, :, None, None]  # (B, C, 1, 1)
        clock = torch.sin(time.to(x.dtype) / 150).view(-1, 1, 1, 1)
        return 0.5 * torch.tanh(x) + 0.8 * told * (1 + 0.3 * clock) + 0.2 * clock

    def decode(z: Tensor) -> Tensor:
        rows["decoder"] += len(z)
        pictures = torch.einsum("bchw,cp->bphw", torch.tanh(0.4 * z), out.to(z.device))
        return F.interpolate(pictures, scale_factor=2)

    drawn = answer(prompt, empty, noise, levels, text, unet, decode, guidance, factor)
    asked = {f"rows that the {name} saw": count for name, count in rows.items()}
    return {"pictures": drawn, **asked}


def _v_solved(x: Tensor, v: Tensor, level: Level) -> tuple[Tensor, Tensor]:
    alpha, sigma = level.like(x)
    return alpha * x - sigma * v, sigma * x + alpha * v


def _eps_solved(x: Tensor, eps: Tensor, level: Level) -> tuple[Tensor, Tensor]:
    alpha, sigma = level.like(x)
    return (x - sigma * eps) / alpha, eps


def _x0_solved(x: Tensor, x0: Tensor, level: Level) -> tuple[Tensor, Tensor]:
    alpha, sigma = level.like(x)
    return x0, (x - alpha * x0) / sigma


def _x0_off(x: Tensor, v: Tensor, level: Level) -> tuple[Tensor, Tensor]:
    return level.alpha * x + level.sigma * v, level.sigma * x + level.alpha * v


def _eps_off(x: Tensor, v: Tensor, level: Level) -> tuple[Tensor, Tensor]:
    return level.alpha * x - level.sigma * v, level.sigma * x - level.alpha * v


def _solved_the_other_way(x: Tensor, v: Tensor, level: Level) -> tuple[Tensor, Tensor]:
    return level.sigma * x - level.alpha * v, level.alpha * x + level.sigma * v


def _minus_v_solved(x: Tensor, v: Tensor, level: Level) -> tuple[Tensor, Tensor]:
    return _v_solved(x, -v, level)


def _pipeline(
    batch: Callable[..., Any] = guided_batch,
    time: Callable[[Level, Level], float] = lambda now, next: float(now.t) - 1,
    mix: Callable[[Tensor, Tensor, float], Tensor] = lambda to, away, s: torch.lerp(away, to, s),
    solve: Callable[..., Any] = _v_solved,
    guess: Callable[[Tensor], Tensor] = lambda x0: x0,
    pairs: Callable[[list[Level]], list[Level]] = lambda levels: levels,
    start: Callable[[Tensor, float], Tensor] = lambda noise, factor: noise,
    inside: Callable[[Tensor, float], Tensor] = lambda x, factor: x,
    latents: Callable[[Tensor, Tensor, float], Tensor] = lambda x, x0, factor: x / factor,
    finish: Callable[[Tensor], Tensor] = lambda drawn: (drawn / 2 + 0.5).clamp(0, 1),
    step: Callable[..., Tensor] = lambda x0, eps, now, next: next.alpha * x0 + next.sigma * eps,
    read: Callable[..., Tensor] = lambda text, prompt, pictures: text(prompt),
    each_step: str = "",
    two_calls: bool = False,
) -> Callable[..., Tensor]:
    """The pipeline in plain steps, with a place for each slip."""

    def answer(
        prompt: Tensor,
        empty: Tensor,
        noise: Tensor,
        levels: list[Level],
        text: Denoise,
        unet: Denoise,
        decode: Denoise,
        guidance: float,
        factor: float,
    ) -> Tensor:
        context, nothing = read(text, prompt, len(noise)), text(empty)
        x = x0 = start(noise, factor)
        for now, next in pairwise(pairs(levels)):
            if "read" in each_step:
                context, nothing = text(prompt), text(empty)
            both, told = batch(inside(x, factor), context, nothing)
            clock = torch.full((len(both),), time(now, next), device=x.device)
            if two_calls:
                parts = zip(both.chunk(2), clock.chunk(2), told.chunk(2), strict=True)
                to, away = (unet(*part) for part in parts)
            else:
                to, away = unet(both, clock, told).chunk(2)
            x0, eps = solve(x, mix(to, away, guidance), now)
            x0 = guess(x0)
            x = step(x0, eps, now, next)
            if "draw" in each_step:
                decode(x / factor)
        return finish(decode(latents(x, x0, factor)))

    return answer


def _noise_times_sigma(
    prompt: Tensor,
    empty: Tensor,
    noise: Tensor,
    levels: list[Level],
    text: Denoise,
    unet: Denoise,
    decode: Denoise,
    guidance: float,
    factor: float,
) -> Tensor:
    start = noise * levels[0].sigma.to(noise.dtype)
    return _pipeline()(prompt, empty, start, levels, text, unet, decode, guidance, factor)


def _words(
    path: str,
    steps: tuple[int, int],
    prompts: int,
    each: int,
    *shape: int,
    factor: tuple[float, float] = (0.5, 0.7),
    guidance: tuple[float, float] = (2.0, 4.0),
    spacing: str = "trailing",
) -> Make:
    def make(g: torch.Generator) -> dict[str, Any]:
        length, width, channels = whole(g, 4, 6), whole(g, 5, 7), shape[0]
        return {
            "path": path,
            "steps": whole(g, *steps),
            "spacing": spacing,
            "prompt": torch.randint(9, (prompts, length), generator=g),
            "empty": torch.randint(9, (1, length), generator=g),
            "noise": normal(g, prompts * each, *shape),
            "guidance": number(g, *guidance),
            "factor": number(g, *factor),
            "table": normal(g, 9, width),
            "into": normal(g, width, channels),
            "out": 1.3 * normal(g, channels, 3),
        }

    return make


PIPELINE = Exercise(
    id="12.2",
    name="text_to_pictures",
    title="From a sentence to pictures",
    kind="implement",
    difficulty=3,
    minutes=30,
    reference=text_to_pictures,
    call=_assembled,
    builds_on=[BATCH],
    cases=[
        Case("two prompts, two pictures each", _words("cosine", (5, 7), 2, 2, 4, 5, 6)),
        Case(
            "one prompt, a small factor, as Stable Diffusion's",
            _words("scaled-linear", (4, 6), 1, 3, 4, 6, 5, factor=(0.17, 0.2), guidance=(6.0, 8.0)),
        ),
        Case(
            "levels that end above data, as Stable Diffusion's",
            _words("scaled-linear", (6, 8), 3, 1, 3, 5, 5, spacing="stable-diffusion"),
        ),
        Case(
            "guidance between 0 and 1, a factor above 1",
            _words("linear", (4, 5), 3, 2, 2, 5, 4, factor=(1.5, 2.5), guidance=(0.3, 0.7)),
        ),
        Case("one step", _words("scaled-linear", (1, 1), 2, 1, 4, 4, 5)),
    ],
    misconceptions=[
        Misconception(
            "factor-forgotten",
            _pipeline(latents=lambda x, x0, factor: x),
            "You decoded the latents as the walk left them. They are `factor` times those of the "
            "autoencoder: divide first.",
            about="missing",
        ),
        Misconception(
            "factor-multiplied",
            _pipeline(latents=lambda x, x0, factor: factor * x),
            "You multiplied by the factor once more. The latents were multiplied before the training: now "
            "divide.",
            about="direction",
        ),
        Misconception(
            "factor-on-the-noise",
            _pipeline(start=lambda noise, factor: factor * noise),
            "You scaled the noise at the start. The U-Net was trained on noise of standard deviation 1: the "
            "factor belongs between walk and decoder alone.",
            about="extra",
        ),
        Misconception(
            "noise-divided",
            _pipeline(start=lambda noise, factor: noise / factor),
            "You divided the noise at the start by the factor. The walk is in the U-Net's own latents from "
            "its first step to its last: divide behind it.",
            about="extra",
        ),
        Misconception(
            "latents-divided-for-the-unet",
            _pipeline(inside=lambda x, factor: x / factor),
            "You divided the latents by the factor before you asked the U-Net. It knows latents times the "
            "factor, as they are in the walk: divide for the decoder alone.",
            about="extra",
        ),
        Misconception(
            "time-as-a-share",
            _pipeline(time=lambda now, next: float(now.t) / 1000),
            "You told the U-Net a time between 0 and 1. It counts steps from 0 to 999: tell it t − 1.",
            about="level",
        ),
        Misconception(
            "time-of-the-path",
            _pipeline(time=lambda now, next: float(now.t)),
            "You told the U-Net t. It counts from 0: tell it t − 1. One off gives no error, and slightly "
            "worse pictures.",
            about="count",
        ),
        Misconception(
            "time-of-the-next-level",
            _pipeline(time=lambda now, next: float(next.t) - 1),
            "You told the U-Net the time where the step ends. x is at `now`, where the step starts.",
            about="level",
        ),
        Misconception(
            "v-taken-for-eps",
            _pipeline(solve=_eps_solved),
            "You took the U-Net's output for ε. This one gives v = α·ε − σ·x₀: with x = α·x₀ + σ·ε that "
            "makes x₀ = α·x − σ·v.",
            about="formula",
        ),
        Misconception(
            "v-taken-for-x0",
            _pipeline(solve=_x0_solved),
            "You took the U-Net's output for x₀. This one gives v = α·ε − σ·x₀: with x = α·x₀ + σ·ε that "
            "makes x₀ = α·x − σ·v.",
            about="formula",
        ),
        Misconception(
            "v-for-eps-beside-the-right-x0",
            _pipeline(solve=lambda x, v, level: (level.alpha * x - level.sigma * v, v)),
            "Your x₀ is right, but you stepped with the U-Net's output in the place of ε. It gives v, and "
            "ε = σ·x + α·v.",
            about="formula",
        ),
        Misconception(
            "sign-of-v",
            _pipeline(solve=_minus_v_solved),
            "You gave v the opposite sign. It is α·ε − σ·x₀, so x₀ = α·x − σ·v and ε = σ·x + α·v.",
            about="sign",
        ),
        Misconception(
            "sign-in-x0",
            _pipeline(solve=_x0_off),
            "A sign in your x₀ is wrong: put v = α·ε − σ·x₀ and x = α·x₀ + σ·ε into α·x − σ·v, and x₀ is "
            "what is left.",
            about="sign",
        ),
        Misconception(
            "sign-in-eps",
            _pipeline(solve=_eps_off),
            "A sign in your ε is wrong: put v = α·ε − σ·x₀ and x = α·x₀ + σ·ε into σ·x + α·v, and ε is what "
            "is left.",
            about="sign",
        ),
        Misconception(
            "halves-swapped",
            _pipeline(mix=lambda to, away, s: torch.lerp(to, away, s)),
            "The two halves of the answer have changed places: you move away from the prompt. The first "
            "half is the one with prompts.",
            about="swap",
        ),
        Misconception(
            "the-papers-w",
            _pipeline(mix=lambda to, away, s: to + s * (to - away)),
            "You count guidance as the paper counts its w, which is one less than ours. Start from the "
            "answer of the empty text.",
            about="factor",
        ),
        Misconception(
            "prompt-alone",
            _pipeline(mix=lambda to, away, s: to),
            "You used the answer for the prompts alone: the guidance scale does nothing.",
            about="missing",
        ),
        Misconception(
            "difference-alone",
            _pipeline(mix=lambda to, away, s: s * (to - away)),
            "You used the difference of the two answers alone. It is added to the answer of the empty text.",
            about="missing",
        ),
        Misconception(
            "guess-clipped",
            _pipeline(guess=lambda x0: x0.clamp(-1, 1)),
            "You cut x̂₀ to [−1, 1], as with pictures. These are latents: with a standard deviation of 1 a "
            "third of them lie beyond.",
            about="extra",
        ),
        Misconception(
            "guess-decoded",
            _pipeline(latents=lambda x, x0, factor: x0 / factor),
            "You decoded the last x̂₀. Asked is x at the last level, which may lie above data.",
            about="reading",
        ),
        Misconception(
            "guess-walked",
            _pipeline(step=lambda x0, eps, now, next: x0),
            "You went on with x̂₀ in the place of x. A step goes to the next level, where there is noise: "
            "α′·x₀ + σ′·ε.",
            about="missing",
        ),
        Misconception(
            "step-without-noise",
            _pipeline(step=lambda x0, eps, now, next: next.alpha * x0),
            "Your steps have no noise in them: the next level is α′·x₀ + σ′·ε, and you left the second part "
            "out.",
            about="missing",
        ),
        Misconception(
            "stepped-to-the-same-level",
            _pipeline(step=lambda x0, eps, now, next: now.alpha * x0 + now.sigma * eps),
            "Your walk stands still: x₀ and ε were solved for at one level and put together at the same one, "
            "and that is x again. Solve with α and σ of `now`, put together with those of the next level.",
            about="level",
        ),
        Misconception(
            "range-left",
            _pipeline(finish=lambda drawn: drawn.clamp(-1, 1)),
            "Your pictures are in [−1, 1], as the decoder draws them. Asked are pictures in [0, 1].",
            about="missing",
        ),
        Misconception(
            "not-cut",
            _pipeline(finish=lambda drawn: (drawn + 1) / 2),
            "The decoder draws a little beyond [−1, 1]. Bring the pictures to [0, 1], and cut what is "
            "beyond: as bytes it would turn from white to black.",
            about="missing",
        ),
        Misconception(
            "cut-to-the-right-half",
            _pipeline(finish=lambda drawn: drawn.clamp(0, 1)),
            "You cut the decoder's pictures to [0, 1]. They lie in [−1, 1]: first shift and halve them, "
            "then cut.",
            about="order",
        ),
        Misconception(
            "half-added",
            _pipeline(finish=lambda drawn: (drawn + 1 / 2).clamp(0, 1)),
            "You added a half and did not halve: brackets are missing. From [−1, 1] to [0, 1] it is "
            "(picture + 1)/2.",
            about="order",
        ),
        Misconception(
            "one-added-to-the-half",
            _pipeline(finish=lambda drawn: (drawn / 2 + 1).clamp(0, 1)),
            "You halved first and added 1 then: that gives [0.5, 1.5]. Add 1 first, or add a half.",
            about="order",
        ),
        Misconception(
            "read-for-every-picture",
            _pipeline(read=lambda text, prompt, n: text(prompt.repeat_interleave(n // len(prompt), 0))),
            "The pictures are right, but the tower reads a prompt once for each of its pictures. Read it "
            "once, and repeat what the tower says.",
            about="extra",
        ),
        Misconception(
            "read-in-every-step",
            _pipeline(each_step="read"),
            "The pictures are right, but the tower reads the prompts in every step. They never change: read "
            "them once, before the loop.",
            about="extra",
        ),
        Misconception(
            "drawn-in-every-step",
            _pipeline(each_step="draw"),
            "The pictures are right, but the decoder draws in every step. It is needed once, at the end.",
            about="extra",
        ),
        Misconception(
            "one-step-short",
            _pipeline(pairs=lambda levels: levels[:-1] if len(levels) > 2 else levels[::-1]),
            "You stopped one level too early. A list of n + 1 levels has n steps.",
            about="count",
        ),
        Misconception(
            "first-step-skipped",
            _pipeline(pairs=lambda levels: levels[1:] if len(levels) > 2 else [levels[0], levels[0]]),
            "You left the first step out. The noise is at levels[0]: the first step goes from there to "
            "levels[1].",
            about="count",
        ),
        Misconception(
            "divided-twice",
            _pipeline(latents=lambda x, x0, factor: x / factor / factor),
            "You divided by the factor twice. The latents of the walk are `factor` times those of the "
            "autoencoder: divide once.",
            about="factor",
        ),
        Misconception(
            "prompt-added",
            _pipeline(mix=lambda to, away, s: away + s * to),
            "You added s times the answer for the prompt. It is s times the difference of the two answers "
            "that is added to the answer for the empty text.",
            about="missing",
        ),
        Misconception(
            "difference-turned-round",
            _pipeline(mix=lambda to, away, s: away + s * (away - to)),
            "Your difference is turned round: it is the answer for the prompt minus that for the empty text.",
            about="sign",
        ),
        Misconception(
            "empty-text-once",
            _pipeline(mix=lambda to, away, s: s * to - away),
            "You subtracted the answer for the empty text once, whatever the scale is. In v(∅) + "
            "s·(v(prompt) − v(∅)) its weight is 1 − s.",
            about="formula",
        ),
        Misconception(
            "x0-and-eps-swapped",
            _pipeline(step=lambda x0, eps, now, next: next.sigma * x0 + next.alpha * eps),
            "x₀ and ε have changed places in your step: α′ belongs to x₀, and σ′ to ε.",
            about="swap",
        ),
        Misconception(
            "alpha-and-sigma-swapped",
            _pipeline(solve=_solved_the_other_way),
            "α and σ have changed places where you solve for x₀ and ε: x₀ = α·x − σ·v, ε = σ·x + α·v.",
            about="swap",
        ),
        Misconception(
            "x0-at-full-strength",
            _pipeline(step=lambda x0, eps, now, next: x0 + next.sigma * eps),
            "Your step leaves x₀ at full strength. At the next level it is α′ times as strong.",
            about="missing",
        ),
        Misconception(
            "noise-of-the-old-level",
            _pipeline(step=lambda x0, eps, now, next: next.alpha * x0 + now.sigma * eps),
            "Your step puts ε back with the σ of the level where it starts. Both parts take the next level: "
            "α′·x₀ + σ′·ε.",
            about="level",
        ),
        Misconception(
            "noise-times-sigma",
            _noise_times_sigma,
            "You multiplied the noise at the start by σ. It is x at levels[0] already: take it as it is.",
            about="extra",
        ),
        Misconception(
            "cut-to-minus-one",
            _pipeline(finish=lambda drawn: ((drawn + 1) / 2).clamp(-1, 1)),
            "You brought the pictures to [0, 1], and then cut them to [−1, 1]: what is below 0 stays. Cut to "
            "[0, 1].",
            about="boundary",
        ),
    ],
    alternatives=[_pipeline(), _pipeline(two_calls=True)],
    hints=(
        "Four lines before and after a loop, and the loop is that of lesson 10: ask twice, mix, solve for "
        "x₀ and ε, step. Ask of each number: whose convention is it?",
        "v = v(∅) + s·(v(prompt) − v(∅)); x₀ = α·x − σ·v, ε = σ·x + α·v; x′ = α′·x₀ + σ′·ε; picture = "
        "(D(x/factor) + 1)/2, cut to [0, 1].",
        "`context, nothing = text(prompt), text(empty)`; `for now, after in pairwise(levels):` with "
        "`guided_batch`, `torch.full((len(both),), …)` and `.chunk(2)`; `decode(…)` behind the loop.",
    ),
)


# 12.3 What a picture costs ----------------------------------------------------------------------------


def flops_of_pictures(
    text: float, unet: float, decode: float, prompts: int, each: int, evaluations: int, guided: int
) -> float:
    """The tower once a text, the U-Net once or twice an evaluation, the decoder once a picture."""
    rows = evaluations + guided
    return text * (prompts + (guided > 0)) + prompts * each * (unet * rows + decode)


def _costs(
    texts: Callable[[int, int, int, int], float] = lambda prompts, each, evaluations, guided: (
        prompts + (guided > 0)
    ),
    rows: Callable[[int, int], float] = lambda evaluations, guided: evaluations + guided,
    drawn: Callable[[int], float] = lambda evaluations: 1,
    pictures: Callable[[int, int], float] = lambda prompts, each: prompts * each,
    decoded: Callable[[int, int], float] | None = None,
) -> Callable[..., float]:
    """The sum in plain steps, with a place for each slip."""

    def answer(
        text: float, unet: float, decode: float, prompts: int, each: int, evaluations: int, guided: int
    ) -> float:
        once = text * texts(prompts, each, evaluations, guided)
        walks = unet * rows(evaluations, guided) * pictures(prompts, each)
        return once + walks + decode * drawn(evaluations) * (decoded or pictures)(prompts, each)

    return answer


def _decoded_twice(
    text: float, unet: float, decode: float, prompts: int, each: int, evaluations: int, guided: int
) -> float:
    return _costs()(text, unet, decode * (1 + (guided > 0)), prompts, each, evaluations, guided)


def _empty_text_drawn(
    text: float, unet: float, decode: float, prompts: int, each: int, evaluations: int, guided: int
) -> float:
    rows = evaluations + guided
    return (prompts + (guided > 0)) * (text + each * (unet * rows + decode))


def _counted_one_by_one(
    text: float, unet: float, decode: float, prompts: int, each: int, evaluations: int, guided: int
) -> float:
    total = text if guided else 0
    for _ in range(prompts):
        total += text
        for _ in range(each):
            total += decode
            for step in range(evaluations):
                total += 2 * unet if step < guided else unet
    return total


def _bill(prompts: tuple[int, int], each: tuple[int, int], guided: str) -> Make:
    def make(g: torch.Generator) -> dict[str, Any]:
        evaluations = whole(g, 8, 12)
        asked = {"all": evaluations, "some": whole(g, 3, 6), "one": 1, "none": 0}
        return {
            "text": 10.0 * whole(g, 11, 19),  # floats, so that any kind of number is right
            "unet": 100.0 * whole(g, 21, 39),
            "decode": 1000.0 * whole(g, 7, 13),
            "prompts": whole(g, *prompts),
            "each": whole(g, *each),
            "evaluations": evaluations,
            "guided": asked[guided],
        }

    return make


def _bill_figure(reference: Callable[..., float]) -> Any:
    from matplotlib import pyplot

    steps = list(range(1, 51))
    figure, axis = pyplot.subplots(figsize=(4.6, 2.5), layout="constrained")
    for name, line, share in (("guided", "-", 1), ("not guided", "--", 0)):
        costs = [reference(13e9, 803e9, 2515e9, 1, 1, n, share * n) / 1e12 for n in steps]
        axis.plot(steps, costs, line, marker="", label=name)
    axis.set(xlabel="steps", ylabel="TFLOP a picture", ylim=0)
    axis.legend(frameon=False)
    return figure


BILL = Exercise(
    id="12.3",
    name="flops_of_pictures",
    title="The bill",
    kind="reproduce",
    difficulty=1,
    minutes=6,
    reference=flops_of_pictures,
    rtol=1e-6,  # a text more or less is a ten-thousandth
    atol=0.0,
    cases=[
        Case("some prompts, guided in every step", _bill((2, 4), (5, 7), "all")),
        Case("some prompts, guided in some of the steps", _bill((3, 4), (2, 2), "some")),
        Case("no guidance", _bill((2, 3), (4, 6), "none")),
        Case("one prompt, guided in one of the steps", _bill((1, 1), (3, 5), "one")),
    ],
    misconceptions=[
        Misconception(
            "guidance-forgotten",
            _costs(rows=lambda evaluations, guided: evaluations),
            "You counted one row of the U-Net in every evaluation. A guided one asks about every picture "
            "twice.",
            about="missing",
        ),
        Misconception(
            "always-doubled",
            _costs(rows=lambda evaluations, guided: 2 * evaluations),
            "You doubled every evaluation. Only `guided` of them ask about the empty text, too.",
            about="extra",
        ),
        Misconception(
            "guided-is-a-switch",
            _costs(rows=lambda evaluations, guided: evaluations * (1 + (guided > 0))),
            "You doubled all evaluations as soon as one is guided. `guided` says how many are, and these "
            "alone cost a row more.",
            about="extra",
        ),
        Misconception(
            "guided-rows-alone",
            _costs(rows=lambda evaluations, guided: 2 * guided),
            "You counted the guided evaluations alone. The others cost one row each.",
            about="missing",
        ),
        Misconception(
            "guided-on-top",
            _costs(rows=lambda evaluations, guided: evaluations + 2 * guided),
            "You counted three rows for a guided evaluation: its first one is among `evaluations` already.",
            about="count",
        ),
        Misconception(
            "text-in-every-step",
            _costs(texts=lambda prompts, each, evaluations, guided: prompts * evaluations + guided),
            "You let the tower read in every evaluation. A text never changes: it is read once.",
            about="extra",
        ),
        Misconception(
            "both-texts-in-every-step",
            _costs(texts=lambda prompts, each, evaluations, guided: (prompts + (guided > 0)) * evaluations),
            "You let the tower read the prompts and the empty text in every evaluation. What it says stays "
            "the same: each text is read once.",
            about="extra",
        ),
        Misconception(
            "one-text-for-all",
            _costs(texts=lambda prompts, each, evaluations, guided: 1 + (guided > 0)),
            "You counted one prompt. The tower reads each of the `prompts` texts.",
            about="missing",
        ),
        Misconception(
            "text-for-every-picture",
            _costs(texts=lambda prompts, each, evaluations, guided: prompts * each + (guided > 0)),
            "You let the tower read for every picture. Pictures of one prompt share what the tower says.",
            about="extra",
        ),
        Misconception(
            "empty-text-forgotten",
            _costs(texts=lambda prompts, each, evaluations, guided: prompts),
            "The empty text is missing. Where anything is guided, the tower reads it, once.",
            about="missing",
        ),
        Misconception(
            "empty-text-always",
            _costs(texts=lambda prompts, each, evaluations, guided: prompts + 1),
            "You always count the empty text. Without guidance nobody asks about it.",
            about="extra",
        ),
        Misconception(
            "empty-text-for-every-prompt",
            _costs(texts=lambda prompts, each, evaluations, guided: prompts * (1 + (guided > 0))),
            "You counted the empty text once for each prompt. It is one and the same: once is enough.",
            about="extra",
        ),
        Misconception(
            "decoded-in-every-step",
            _costs(drawn=lambda evaluations: evaluations),
            "You decode in every step. The decoder is needed once for each picture, at the end.",
            about="extra",
        ),
        Misconception(
            "decoder-forgotten",
            _costs(drawn=lambda evaluations: 0),
            "The decoder is missing. It costs as much as several rows of the U-Net, once a picture.",
            about="missing",
        ),
        Misconception(
            "decoded-once-for-all",
            _costs(decoded=lambda prompts, each: 1),
            "You counted one decoding for all pictures: are brackets missing? The decoder draws every "
            "picture.",
            about="missing",
        ),
        Misconception(
            "walk-shared-by-the-pictures",
            _costs(pictures=lambda prompts, each: prompts, decoded=lambda prompts, each: prompts * each),
            "You counted the U-Net once for each prompt. Pictures of one prompt share its text, but each "
            "has a walk of its own.",
            about="missing",
        ),
        Misconception(
            "one-picture-a-prompt",
            _costs(pictures=lambda prompts, each: prompts),
            "You counted one picture a prompt. It is `each` of them.",
            about="missing",
        ),
        Misconception(
            "pictures-of-one-prompt",
            _costs(pictures=lambda prompts, each: each),
            "You counted the pictures of one prompt. There are `prompts` times as many.",
            about="missing",
        ),
        Misconception(
            "walk-of-one-picture",
            _costs(pictures=lambda prompts, each: 1, decoded=lambda prompts, each: prompts * each),
            "You counted the U-Net for one picture alone: are brackets missing? Every picture has a walk of "
            "its own.",
            about="missing",
        ),
        Misconception(
            "pictures-added",
            _costs(pictures=lambda prompts, each: prompts + each),
            "You added prompts and pictures. Every prompt has `each` pictures: multiply.",
            about="formula",
        ),
        Misconception(
            "tower-forgotten",
            _costs(texts=lambda prompts, each, evaluations, guided: 0),
            "The tower is missing. It costs little, but it reads each text once.",
            about="missing",
        ),
        Misconception(
            "empty-text-in-every-guided-step",
            _costs(texts=lambda prompts, each, evaluations, guided: prompts + guided),
            "You let the tower read the empty text in every guided evaluation. It never changes: once is "
            "enough.",
            about="extra",
        ),
        Misconception(
            "empty-text-from-two-on",
            _costs(texts=lambda prompts, each, evaluations, guided: prompts + (guided > 1)),
            "You count the empty text only where more than one evaluation is guided. A single one needs it, "
            "too.",
            about="boundary",
        ),
        Misconception(
            "empty-text-if-all-are-guided",
            _costs(texts=lambda prompts, each, evaluations, guided: prompts + (guided == evaluations)),
            "You count the empty text only where all evaluations are guided. A single one needs it, too.",
            about="reading",
        ),
        Misconception(
            "both-texts-for-every-picture",
            _costs(texts=lambda prompts, each, evaluations, guided: prompts * each * (1 + (guided > 0))),
            "You let the tower read the prompt and the empty text for every picture. Pictures share what it "
            "says, and the empty text is one for all.",
            about="extra",
        ),
        Misconception(
            "empty-text-drawn",
            _empty_text_drawn,
            "You draw pictures of the empty text, too. It is a second row beside each picture, and no "
            "picture of its own.",
            about="extra",
        ),
        Misconception(
            "decoded-twice",
            _decoded_twice,
            "You decode twice where guidance is on. The two answers about a picture make one step, and at "
            "the end there is one picture.",
            about="extra",
        ),
    ],
    alternatives=[_costs(), _counted_one_by_one],
    hints=(
        "Three workers: who is called once a text, who once a picture, who in every step?",
        "text·(prompts + 1 if anything is guided) + pictures·(unet·(evaluations + guided) + decode).",
        "`pictures = prompts * each`; a bool counts as 0 or 1 in a sum.",
    ),
    figure=_bill_figure,
    figure_alt="TFLOP of one picture of 512 pixels over the number of steps: two straight lines that begin "
    "near 3; guided reaches about 83 at 50 steps, not guided about 43.",
)


# 12.4 The scheduler that came with it -----------------------------------------------------------------


def plms(denoiser: Denoise, x: Tensor, levels: list[Level]) -> Tensor:
    """The last x of `samplers.plms`."""

    def asked(x: Tensor, level: Level, condition: Any = None) -> Estimate:
        return denoiser(x, level)

    return sample(asked, x, levels, sampler=samplers.plms)


def _walked(
    answer: Callable[..., Any], path: str, steps: int, spacing: str, x: Tensor, template: Tensor
) -> dict[str, Any]:
    """Where an answer arrives, and the times at which it asks."""
    levels, asked = PATHS[path]().levels(steps, spacing)[: steps + 1], []

    def denoiser(x: Tensor, level: Level) -> Estimate:
        asked.append(float(level.t))
        return Estimate.from_x0(0.5 * torch.tanh(x) + template.to(x.device), x, level)

    return {"x": answer(denoiser, x, levels), "times that it asks at": asked}


WEIGHTS = {
    1: [1.0],
    2: [3 / 2, -1 / 2],
    3: [23 / 12, -16 / 12, 5 / 12],
    4: [55 / 24, -59 / 24, 37 / 24, -9 / 24],
}


def _mixed(history: list[Tensor]) -> Tensor:
    """The weighted sum of ε, the newest in front."""
    return sum(w * eps for w, eps in zip(WEIGHTS[len(history)], history, strict=True))  # type: ignore


def _multistep(
    mixed: Callable[[list[Tensor]], Tensor] = _mixed,
    first: str = "twice",
    keep: int = 4,
    asked: Callable[[Level, Level], Level] = lambda now, next: now,
    pairs: Callable[[list[Level]], list[Level]] = lambda levels: levels,
    stale: bool = False,
    again: Callable[[Level, Level], Level] = lambda now, next: next,
    second: Callable[[Tensor, Tensor], Tensor] = lambda eps, there: (eps + there) / 2,
    taken: int = 1,
    shrunk: bool = True,
    noise: Callable[[Tensor, Tensor], Tensor] = lambda mean, newest: mean,
    about: Callable[[Tensor, Tensor], Tensor] = lambda x, reached: reached,
) -> Callable[..., Tensor]:
    """The walk in plain steps, with a place for each slip."""

    def answer(denoiser: Denoise, x: Tensor, levels: list[Level]) -> Tensor:
        history: list[Tensor] = []
        for now, next in pairwise(pairs(levels)):
            (alpha, sigma), (alpha_next, sigma_next) = now.like(x), next.like(x)
            guess, eps = denoiser(x, asked(now, next))
            eps = (guess, eps)[taken]
            history = [eps, *history][:keep]
            mean = mixed(history)

            def step(x: Tensor, eps: Tensor, guess: Tensor = guess, newest: Tensor = eps) -> Tensor:
                x0 = guess if stale else (x - sigma * eps) / (alpha if shrunk else 1)  # noqa: B023
                return alpha_next * x0 + sigma_next * noise(eps, newest)  # noqa: B023

            if first == "always" or (len(history) == 1 and first != "once"):
                reached = step(x, eps)
                there = denoiser(about(x, reached), again(now, next))[taken]
                mean = second(eps, there)
                kept = {"kept": [there, eps], "replaced": [mean], "second": [there]}
                history = kept.get(first, history)
                if first == "from there":
                    x = reached
            x = step(x, mean)
        return x

    return answer


def _four_weights(history: list[Tensor]) -> Tensor:
    return sum(w * eps for w, eps in zip(WEIGHTS[4], history, strict=False))  # type: ignore


def _oldest_for_ever(history: list[Tensor]) -> Tensor:
    return _mixed(history[::-1][:4])


def _guesses_weighed(denoiser: Denoise, x: Tensor, levels: list[Level]) -> Tensor:
    history: list[Tensor] = []
    for now, next in pairwise(levels):
        guess, eps = denoiser(x, now)
        history = [guess, *history][:4]
        mean = _mixed(history)
        if len(history) == 1:
            mean = (guess + denoiser(next.alpha * guess + next.sigma * eps, next)[0]) / 2
        x = next.alpha * mean + next.sigma * (x - now.alpha * mean) / now.sigma
    return x


def _sums_kept(denoiser: Denoise, x: Tensor, levels: list[Level]) -> Tensor:
    history: list[Tensor] = []
    for now, next in pairwise(levels):
        ratio = next.alpha / now.alpha
        eps = denoiser(x, now)[1]
        mean = _mixed([eps, *history][:4])
        if not history:
            mean = (eps + denoiser(ratio * x + (next.sigma - ratio * now.sigma) * eps, next)[1]) / 2
        x = ratio * x + (next.sigma - ratio * now.sigma) * mean
        history = [mean, *history]
    return x


def _first_forgotten(denoiser: Denoise, x: Tensor, levels: list[Level]) -> Tensor:
    return _multistep(first="once")(denoiser, _multistep()(denoiser, x, levels[:2]), levels[1:])


def _by_recipe(denoiser: Denoise, x: Tensor, levels: list[Level]) -> Tensor:
    """The same with a list that grows, and the step as one line."""
    old: list[Tensor] = []
    for i in range(len(levels) - 1):
        (a, s), (b, r) = levels[i].like(x), levels[i + 1].like(x)
        e = denoiser(x, levels[i]).eps
        old.append(e)
        if i == 0:
            e = e / 2 + denoiser(b / a * x + (r - b / a * s) * e, levels[1]).eps / 2
        elif i == 1:
            e = 1.5 * old[1] - 0.5 * old[0]
        elif i == 2:
            e = (23 * old[2] - 16 * old[1] + 5 * old[0]) / 12
        else:
            e = (55 * old[i] - 59 * old[i - 1] + 37 * old[i - 2] - 9 * old[i - 3]) / 24
        x = b / a * x + (r - b / a * s) * e
    return x


def _levels(path: str, steps: tuple[int, int], *shape: int) -> Make:
    def make(g: torch.Generator) -> dict[str, Any]:
        return {
            "path": path,
            "steps": whole(g, *steps),
            "spacing": "stable-diffusion",
            "x": normal(g, *shape),
            "template": 0.6 * normal(g, *shape),
        }

    return make


def _plms_figure(reference: Callable[..., Tensor]) -> Any:
    from matplotlib import pyplot

    x, path = figures.noise(1, 1, 16, 16).double(), PATHS["scaled-linear"]()
    template = 0.6 * figures.noise(1, 1, 16, 16, seed=1).double()

    def denoiser(x: Tensor, level: Level, condition: Any = None) -> Estimate:
        return Estimate.from_x0(0.5 * torch.tanh(x) + template, x, level)

    truth = sample(denoiser, x, path.levels(500, "stable-diffusion"), sampler=samplers.dpmpp_2m)
    steps = [5, 10, 20, 40, 100]
    figure, axis = pyplot.subplots(figsize=(4.6, 2.6), layout="constrained")
    for name, walk in (("DDIM", lambda d, x, levels: sample(d, x, levels)), ("PLMS", reference)):
        ends = [walk(denoiser, x, path.levels(n, "stable-diffusion")) for n in steps]
        axis.plot(steps, [float((end - truth).square().mean().sqrt()) for end in ends], "o-", label=name)
    axis.set(xlabel="steps", ylabel="distance to 500 steps", xscale="log", yscale="log")
    axis.legend(frameon=False)
    return figure


SCHEDULER = Exercise(
    id="12.4",
    name="plms",
    title="The scheduler that came with it",
    kind="implement",
    difficulty=3,
    minutes=20,
    reference=plms,
    call=_walked,
    rtol=1e-3,
    atol=1e-4,
    cases=[
        Case("some eight steps of Stable Diffusion's levels", _levels("scaled-linear", (7, 9), 2, 4, 5, 6)),
        Case("as many steps as there are weights", _levels("scaled-linear", (5, 5), 3, 2, 4, 4)),
        Case("three steps", _levels("scaled-linear", (3, 3), 2, 3, 5, 4)),
        Case("one step", _levels("scaled-linear", (1, 1), 2, 2, 4, 5)),
    ],
    misconceptions=[
        Misconception(
            "first-order",
            _multistep(mixed=lambda history: history[0]),
            "You step with this step's ε alone, from the second step on: that is DDIM. Weigh it with those "
            "of the steps before.",
            about="missing",
        ),
        Misconception(
            "ddim",
            _multistep(mixed=lambda history: history[0], first="once"),
            "That is DDIM: one ε a step. Make the first step twice, and weigh ε with those before from the "
            "second step on.",
            about="missing",
        ),
        Misconception(
            "two-at-most",
            _multistep(keep=2),
            "You never look back further than one step. Up to four ε are weighed.",
            about="count",
        ),
        Misconception(
            "three-at-most",
            _multistep(keep=3),
            "You weigh three ε at most. From the fourth step on there are four.",
            about="count",
        ),
        Misconception(
            "oldest-in-front",
            _multistep(mixed=lambda history: _mixed(history[::-1])),
            "Your weights stand in the wrong order: the first one belongs to the newest ε.",
            about="order",
        ),
        Misconception(
            "oldest-for-ever",
            _multistep(mixed=_oldest_for_ever, keep=99),
            "You weigh the oldest ε, from the first step to the last: new ones stand behind them in your "
            "list. The newest belongs in front, and the fifth falls out.",
            about="order",
        ),
        Misconception(
            "sums-kept",
            _sums_kept,
            "You remembered the weighted sums ε̄. Remember the denoiser's own answers ε.",
            about="input",
        ),
        Misconception(
            "guesses-weighed",
            _guesses_weighed,
            "You weighed the guesses x₀. PLMS weighs ε, and x0 follows from the weighed ε̄.",
            about="input",
        ),
        Misconception(
            "guess-taken-for-eps",
            _multistep(taken=0),
            "You took the denoiser's x₀ for its ε: the pair is (x0, eps).",
            about="swap",
        ),
        Misconception(
            "plain-mean",
            _multistep(mixed=lambda history: torch.stack(history).mean(0)),
            "You took the mean of the last ε. That looks back; the weights of the task look ahead.",
            about="formula",
        ),
        Misconception(
            "first-step-once",
            _multistep(first="once"),
            "You made the first step once. Ask again where it ends, and make it again from the same x with "
            "the mean of both ε.",
            about="missing",
        ),
        Misconception(
            "every-step-twice",
            _multistep(first="always"),
            "You made every step twice: that costs two answers a step. Only the first step has nothing to "
            "look back to.",
            about="extra",
        ),
        Misconception(
            "first-answer-forgotten",
            _first_forgotten,
            "You did not remember the ε of the first step. It is weighed in the second step, and later.",
            about="missing",
        ),
        Misconception(
            "second-answer-in-its-place",
            _multistep(first="second"),
            "You remembered the second ε of the first step in the place of its first. Kept is the one at "
            "levels[0].",
            about="input",
        ),
        Misconception(
            "second-answer-kept",
            _multistep(first="kept"),
            "You kept the second ε of the first step among those to weigh. Only the first one is kept: the "
            "times of what is weighed are a step apart.",
            about="extra",
        ),
        Misconception(
            "mean-kept",
            _multistep(first="replaced"),
            "You kept the mean of the first step in the place of its ε. Kept are the denoiser's own answers "
            "at `now`.",
            about="input",
        ),
        Misconception(
            "first-step-made-on-top",
            _multistep(first="from there"),
            "You made the second version of the first step from where the first one ended. It starts from "
            "the same x again.",
            about="input",
        ),
        Misconception(
            "second-answer-alone",
            _multistep(second=lambda eps, there: there),
            "You made the first step with the second ε alone. It is the mean of both.",
            about="mean",
        ),
        Misconception(
            "asked-again-at-now",
            _multistep(again=lambda now, next: now),
            "You asked about the point that was reached, and told the denoiser the level where the step "
            "started. That point is at the next level.",
            about="level",
        ),
        Misconception(
            "stale-guess",
            _multistep(stale=True),
            "You stepped with the weighed ε and with the denoiser's own x₀. The two must keep x = α·x0 + "
            "σ·ε: compute x0 from the weighed ε.",
            about="missing",
        ),
        Misconception(
            "alpha-forgotten",
            _multistep(shrunk=False),
            "You did not divide by α: x = α·x₀ + σ·ε̄ gives x₀ = (x − σ·ε̄)/α.",
            about="missing",
        ),
        Misconception(
            "newest-noise-put-back",
            _multistep(noise=lambda mean, newest: newest),
            "Your x₀ comes from the weighed ε̄, but you put the newest ε back at the next level. Both parts "
            "of the step take ε̄.",
            about="input",
        ),
        Misconception(
            "asked-at-the-next-level",
            _multistep(asked=lambda now, next: next),
            "You told the denoiser the level where the step ends. x is at `now`, where the step starts.",
            about="level",
        ),
        Misconception(
            "one-step-short",
            _multistep(pairs=lambda levels: levels[:-1] if len(levels) > 2 else levels[::-1]),
            "You stopped one level too early. A list of n + 1 levels has n steps.",
            about="count",
        ),
        Misconception(
            "newest-dropped",
            _multistep(mixed=lambda history: _mixed(history[-4:]), keep=99),
            "From the fifth step on your list drops the newest ε and keeps the first four. The oldest one "
            "falls out: [eps, *history[:3]].",
            about="order",
        ),
        Misconception(
            "four-weights-from-the-start",
            _multistep(mixed=_four_weights),
            "You took the four weights with fewer answers, too. Cut short they no longer sum to 1: there is "
            "a row of weights for each number of answers.",
            about="missing",
        ),
        Misconception(
            "ddim-until-there-are-four",
            _multistep(mixed=lambda history: _mixed(history) if len(history) == 4 else history[0]),
            "You weigh nothing until there are four answers. With two and with three there are weights, too.",
            about="missing",
        ),
        Misconception(
            "sum-of-both",
            _multistep(second=lambda eps, there: eps + there),
            "You made the first step with the sum of both ε. It is their mean: halve it.",
            about="mean",
        ),
        Misconception(
            "asked-again-about-x",
            _multistep(about=lambda x, reached: x),
            "You asked again about x, at the next level. Ask about the point where the first version of the "
            "step ends.",
            about="input",
        ),
    ],
    alternatives=[_multistep(), _by_recipe],
    hints=(
        "Keep a list of the last answers. Where ε has been going tells where it will be in the middle of "
        "this step. Only the first step has nothing to look back to: it looks ahead, and starts again.",
        "x0 = (x − σ·ε̄)/α, then x′ = α′·x0 + σ′·ε̄, with ε̄ = Σ wᵢ·εᵢ; in the first step ε̄ = (ε + ε(x′, "
        "next))/2.",
        "`history = [eps, *history[:3]]`, `zip(WEIGHTS[len(history)], history)`, and `if len(history) == "
        "1:` for the first step.",
    ),
    figure=_plms_figure,
    figure_alt="Distance to a walk of 500 steps over the number of steps, both logarithmic. PLMS starts no "
    "better than DDIM at 5 steps and falls far more steeply.",
)


# 12.5 Steered by a loss -------------------------------------------------------------------------------


def steered(
    denoiser: Denoise, decode: Denoise, loss: Denoise, x: Tensor, level: Level, strength: float
) -> Estimate:
    """The guess, moved down the slope of a loss of the picture that it decodes to."""
    x0 = denoiser(x, level)[0].detach()
    with torch.enable_grad():
        guess = x0.requires_grad_()
        (slope,) = torch.autograd.grad(loss(decode(guess)).sum(), guess)
    return Estimate.from_x0(x0.detach() - strength * slope, x, level)


def _sloped(
    answer: Callable[..., Any], path: str, t: float, x: Tensor, strength: float, out: Tensor, wanted: Tensor
) -> Any:
    """What an answer makes of a small decoder and a loss; gradients are off, as in a sampler."""
    level = PATHS[path]()(t)

    def denoiser(x: Tensor, level: Level) -> Estimate:
        return Estimate.from_x0(1.7 * torch.tanh(x) + 0.2, x, level)

    def decode(z: Tensor) -> Tensor:
        return torch.tanh(torch.einsum("bchw,cp->bphw", z, out.to(z.device)))

    def loss(pictures: Tensor) -> Tensor:
        return (pictures - wanted.to(pictures.device)[:, None, None]).square().mean((1, 2, 3))

    with torch.no_grad():
        x0, eps = answer(denoiser, decode, loss, x, level, strength)
    return {"x0": x0, "eps": eps}


def _steering(
    sign: float = -1.0,
    stale: bool = False,
    slope: Callable[[Tensor], Tensor] = lambda slope: slope,
    total: Callable[[Tensor], Tensor] = lambda losses: losses.sum(),
    of: str = "guess",
    before: bool = False,
    solve: Callable[..., Tensor] = lambda x, x0, alpha, sigma: (x - alpha * x0) / sigma,
) -> Callable[..., Any]:
    """The steering in plain steps, with a place for each slip."""

    def answer(
        denoiser: Denoise, decode: Denoise, loss: Denoise, x: Tensor, level: Level, strength: float
    ) -> Any:
        alpha, sigma = level.like(x)
        with torch.enable_grad():
            start = x.detach().requires_grad_()
            x0, eps = denoiser(start, level)
            guess = x0 if of == "x" else x0.detach().requires_grad_()
            judged = start if of == "x itself" else guess
            losses = loss(decode(judged))
            (found,) = torch.autograd.grad(total(losses), start if of.startswith("x") else guess)
        moved = x0.detach() + sign * strength * slope(found)
        if before:
            moved = x0.detach()
        eps = eps.detach() if stale else solve(x, moved, alpha, sigma)
        return moved, eps

    return answer


def _eps_the_other_way(
    denoiser: Denoise, decode: Denoise, loss: Denoise, x: Tensor, level: Level, strength: float
) -> Any:
    moved, eps = _steering()(denoiser, decode, loss, x, level, strength)
    return moved, 2 * denoiser(x, level)[1] - eps


def _eps_as_with_a_classifier(
    denoiser: Denoise, decode: Denoise, loss: Denoise, x: Tensor, level: Level, strength: float
) -> Any:
    x0, eps = denoiser(x, level)
    moved, _ = _steering()(denoiser, decode, loss, x, level, strength)
    return moved, eps + level.sigma.to(x.dtype) * (x0 - moved)


def _sample_moved(
    denoiser: Denoise, decode: Denoise, loss: Denoise, x: Tensor, level: Level, strength: float
) -> Any:
    x0 = denoiser(x, level)[0]
    slope = x0 - _steering()(denoiser, decode, loss, x, level, 1.0)[0]
    return denoiser(x - strength * slope, level)


def _steered_by_backward(
    denoiser: Denoise, decode: Denoise, loss: Denoise, x: Tensor, level: Level, strength: float
) -> Any:
    x0 = denoiser(x, level).x0.clone()
    with torch.enable_grad():
        guess = x0.clone().requires_grad_()
        for one in loss(decode(guess)):
            one.backward(retain_graph=True)
    x0 = x0 - strength * guess.grad
    return x0, x / level.sigma.to(x.dtype) - x0 * (level.alpha / level.sigma).to(x.dtype)


def _wish(
    path: str, times: tuple[float, float], strength: tuple[float, float], batch: int, *shape: int
) -> Make:
    def make(g: torch.Generator) -> dict[str, Any]:
        return {
            "path": path,
            "t": number(g, *times),
            "x": normal(g, batch, *shape),
            "strength": number(g, *strength),
            "out": 0.8 * normal(g, shape[0], 3),
            "wanted": torch.tanh(normal(g, 3)),
        }

    return make


STEER = Exercise(
    id="12.5",
    name="steered",
    title="Steered by a wish in code",
    kind="stretch",
    difficulty=2,
    minutes=15,
    reference=steered,
    call=_sloped,
    cases=[
        Case("three pictures, much noise", _wish("cosine", (700, 900), (30, 60), 3, 4, 5, 6)),
        Case("two pictures, little noise", _wish("cosine", (200, 400), (5, 15), 2, 4, 6, 5)),
        Case("four pictures, two channels", _wish("scaled-linear", (400, 600), (60, 90), 4, 2, 4, 5)),
    ],
    misconceptions=[
        Misconception(
            "uphill",
            _steering(sign=1.0),
            "You move uphill: the loss rises. Subtract the gradient.",
            about="sign",
        ),
        Misconception(
            "not-moved",
            _steering(before=True),
            "You return the guess as it was. Move it: x0 − strength · gradient.",
            about="missing",
        ),
        Misconception(
            "eps-left-behind",
            _steering(stale=True),
            "You moved x0 and kept ε as it was. The two must keep x = α·x0 + σ·ε: compute ε from the moved "
            "x0.",
            about="missing",
        ),
        Misconception(
            "alpha-forgotten",
            _steering(solve=lambda x, x0, alpha, sigma: (x - x0) / sigma),
            "Your x0 is right. But ε is (x − α·x0)/σ: the α is missing.",
            about="missing",
        ),
        Misconception(
            "variance-for-std",
            _steering(solve=lambda x, x0, alpha, sigma: (x - alpha * x0) / sigma**2),
            "Your x0 is right. But you divided by σ²: x = α·x0 + σ·ε is solved with σ.",
            about="root",
        ),
        Misconception(
            "sample-moved",
            _sample_moved,
            "You moved x and asked the denoiser again. Move the guess x0 itself: x stays, and nobody is "
            "asked twice.",
            about="input",
        ),
        Misconception(
            "mean-over-the-batch",
            _steering(total=lambda losses: losses.mean()),
            "You took the mean of the losses: then a picture is steered less when it has company. Sum them: "
            "each depends on its own picture alone.",
            about="batch",
        ),
        Misconception(
            "strength-in-length-1",
            _steering(slope=lambda slope: slope / slope.norm()),
            "You brought the gradient to length 1. It is used as it comes: where the wish is met, nothing "
            "moves.",
            about="extra",
        ),
        Misconception(
            "each-strength-in-length-1",
            _steering(slope=lambda slope: slope / slope.flatten(1).norm(dim=1)[:, None, None, None]),
            "You brought each picture's gradient to length 1. Use it as it comes: a picture that is near "
            "its wish is to move little.",
            about="extra",
        ),
        Misconception(
            "sign-of-the-slope",
            _steering(slope=lambda slope: slope.sign()),
            "You used the sign of the gradient alone. Its size counts, too: where the wish is met, nothing "
            "moves.",
            about="extra",
        ),
        Misconception(
            "gradient-at-x",
            _steering(of="x"),
            "You took the gradient with respect to x, through the denoiser. Asked is the one with respect "
            "to the guess: the decoder alone is in between, and that is cheaper.",
            about="gradient",
        ),
        Misconception(
            "noisy-picture-judged",
            _steering(of="x itself"),
            "You decoded x, which is full of noise. The loss is to judge the picture of the guess x0.",
            about="input",
        ),
        Misconception(
            "one-slope-for-all",
            _steering(slope=lambda slope: slope.mean(0, keepdim=True).expand_as(slope)),
            "You moved all pictures in the same way. Each has a gradient of its own.",
            about="batch",
        ),
        Misconception(
            "eps-the-other-way",
            _eps_the_other_way,
            "Your x0 is right, and your ε has moved the same distance the other way. x = α·x0 + σ·ε stays: "
            "where x0 gets less, ε gets more.",
            about="sign",
        ),
        Misconception(
            "eps-as-with-a-classifier",
            _eps_as_with_a_classifier,
            "Your x0 is right. ε you moved by σ times the gradient, as with a classifier's gradient at x "
            "(lesson 9). Here x0 has moved, and ε = (x − α·x0)/σ follows from it.",
            about="formula",
        ),
    ],
    alternatives=[_steering(), _steered_by_backward],
    hints=(
        "The guess is latents. Decode them, ask the loss, and ask autograd which way the latents have to "
        "move for the loss to fall. Samplers switch gradients off: switch them on where you need them.",
        "x0′ = x0 − strength · ∂/∂x0 Σ loss(D(x0)), and ε′ = (x − α·x0′)/σ.",
        "`with torch.enable_grad():`, `guess = x0.detach().requires_grad_()`, `torch.autograd.grad(…, "
        "guess)`.",
    ),
)


# 12.6 Where to draw the line --------------------------------------------------------------------------


def choose_thresholds(scores: Tensor, shows: Tensor, share: float) -> Tensor:
    """For each concept the score that so many of the pictures without it are above, at most."""
    columns = zip(scores.T, shows.T, strict=True)
    return torch.stack([_line(each[~has], share) for each, has in columns])


def _line(clean: Tensor, share: float) -> Tensor:
    allowed = math.floor(share * len(clean))
    return clean.sort(descending=True).values[allowed]


def _lines(
    part: Callable[[Tensor, Tensor], Tensor] = lambda scores, has: scores[~has],
    place: Callable[[float, int], int] = lambda share, n: math.floor(share * n),
    order: bool = True,
    finish: Callable[[Tensor], Tensor] = lambda found: found,
    of: Callable[[Tensor, Tensor], int] = lambda clean, has: len(clean),
) -> Callable[..., Tensor]:
    """The choice in plain steps, with a place for each slip."""

    def answer(scores: Tensor, shows: Tensor, share: float) -> Tensor:
        found = []
        for k in range(scores.shape[1]):
            clean = part(scores[:, k], shows[:, k])
            at = min(place(share, of(clean, shows[:, k])), len(clean) - 1)
            found.append(clean.sort(descending=order).values[at])
        return finish(torch.stack(found))

    return answer


def _one_line_for_all(scores: Tensor, shows: Tensor, share: float) -> Tensor:
    clean = scores[~shows]
    return _line(clean, share).expand(scores.shape[1]).clone()


def _any_concept(scores: Tensor, shows: Tensor, share: float) -> Tensor:
    clean = scores[~shows.any(1)]
    return torch.stack([_line(each, share) for each in clean.T])


def _by_trying(scores: Tensor, shows: Tensor, share: float) -> Tensor:
    found = []
    for each, has in zip(scores.T, shows.T, strict=True):
        clean = each[~has]
        candidates = [t for t in clean if (clean > t).sum() <= share * len(clean)]
        found.append(min(candidates))
    return torch.stack(found)


def _false_among_alarms(scores: Tensor, shows: Tensor, share: float) -> Tensor:
    found = []
    for each, has in zip(scores.T, shows.T, strict=True):
        fits = [t for t in each[~has] if ((each > t) & ~has).sum() <= share * (each > t).sum()]
        found.append(min(fits))
    return torch.stack(found)


def _from_the_end(clean: Tensor, share: float) -> Tensor:
    return clean.sort().values[-int(share * len(clean))]


def _last_of_the_highest(clean: Tensor, share: float) -> Tensor:
    return clean.topk(int(share * len(clean))).values[-1]


def _half_way(clean: Tensor, share: float) -> Tensor:
    line, ordered = int(share * len(clean)), clean.sort(descending=True).values
    return (ordered[line] + ordered[max(line - 1, 0)]) / 2


def _each_line(line: Callable[[Tensor, float], Tensor]) -> Callable[..., Tensor]:
    """The choice with another way to find the line among the scores of clean pictures."""

    def answer(scores: Tensor, shows: Tensor, share: float) -> Tensor:
        columns = zip(scores.T, shows.T, strict=True)
        return torch.stack([line(each[~has], share) for each, has in columns])

    return answer


def _interpolated(scores: Tensor, shows: Tensor, share: float) -> Tensor:
    columns = zip(scores.T, shows.T, strict=True)
    return torch.stack([each[~has].quantile(1 - share) for each, has in columns])


def _scored(
    pictures: tuple[int, int],
    concepts: int,
    with_it: tuple[int, int],
    share: tuple[float, float] | float,
    clean: int | None = None,
) -> Make:
    """Cosines, higher where the concept is shown; each concept at a height of its own."""

    def make(g: torch.Generator) -> dict[str, Any]:
        n = whole(g, *pictures)
        shows = torch.zeros(n, concepts, dtype=torch.bool)
        for k in range(concepts):
            count = n - clean if clean is not None else whole(g, *with_it)
            shows[several(g, count, 0, n - 1), k] = True
        height = 0.2 + 0.4 * torch.rand(concepts, generator=g)
        scores = height + 0.12 * normal(g, n, concepts) + 0.15 * shows
        wanted = share if isinstance(share, float) else number(g, *share)
        return {"scores": scores, "shows": shows, "share": wanted}

    return make


def _line_figure(reference: Callable[..., Tensor]) -> Any:
    from matplotlib import pyplot

    shows = torch.arange(2000)[:, None] < 300
    scores = 0.3 + 0.1 * figures.noise(2000, 1) + 0.25 * shows
    figure, axis = pyplot.subplots(figsize=(4.8, 2.5), layout="constrained")
    bins = [k / 40 for k in range(36)]
    for name, part, look in (("without", ~shows, "#0072B2"), ("with it", shows, "#D55E00")):
        axis.hist(scores[part].numpy(), bins, alpha=0.6, label=name, color=look)
    axis.axvline(float(reference(scores, shows, 0.02)[0]), color="black", linestyle="--")
    axis.set(xlabel="score", ylabel="pictures")
    axis.legend(frameon=False)
    return figure


LINE = Exercise(
    id="12.6",
    name="choose_thresholds",
    title="Where to draw the line",
    kind="implement",
    difficulty=2,
    minutes=12,
    reference=choose_thresholds,
    cases=[
        Case("three concepts, a tenth of false alarms", _scored((72, 80), 3, (0, 0), (0.097, 0.1), clean=59)),
        Case("two concepts, a hundredth", _scored((240, 260), 2, (0, 0), (0.01198, 0.01201), clean=209)),
        Case("a quarter of sixteen pictures exactly", _scored((24, 28), 2, (0, 0), 0.25, clean=16)),
        Case("no false alarm at all", _scored((40, 50), 4, (5, 20), 0.0)),
        Case("concepts that most pictures show", _scored((80, 90), 2, (0, 0), 0.163, clean=31)),
    ],
    misconceptions=[
        Misconception(
            "all-pictures",
            _lines(part=lambda scores, has: scores),
            "You sorted all pictures. A false alarm is one of a picture *without* the concept: leave out "
            "those that show it.",
            about="input",
        ),
        Misconception(
            "of-those-that-show-it",
            _lines(part=lambda scores, has: scores[has]),
            "You sorted the pictures that show the concept. What is above the line there is found; false "
            "alarms are among the others.",
            about="swap",
        ),
        Misconception(
            "share-of-all-pictures",
            _lines(of=lambda clean, has: len(has)),
            "You took the share of all pictures. It is the share of those without the concept.",
            about="count",
        ),
        Misconception(
            "one-too-high",
            _lines(place=lambda share, n: max(math.floor(share * n) - 1, 0)),
            "Your line is one picture too high. An alarm is *above* the line, so the picture on it is none: "
            "one more is allowed.",
            about="boundary",
        ),
        Misconception(
            "one-too-low",
            _lines(place=lambda share, n: math.floor(share * n) + 1),
            "Your line is one picture too low: one false alarm more than the share allows.",
            about="boundary",
        ),
        Misconception(
            "rounded-up",
            _lines(place=lambda share, n: math.ceil(share * n)),
            "You rounded up. *At most* the share is allowed: round down.",
            about="rounding",
        ),
        Misconception(
            "rounded-to-the-nearest",
            _lines(place=lambda share, n: round(share * n)),
            "You rounded share · n to the nearest whole number. *At most* the share is allowed: 2.6 pictures "
            "are 2.",
            about="rounding",
        ),
        Misconception(
            "quantile-of-scores",
            _lines(place=lambda share, n: math.floor(share * (n - 1))),
            "Your line is one of the scores, but a place too high at times: `quantile` takes the share of "
            "n − 1, the steps between n scores. Count in pictures.",
            about="count",
        ),
        Misconception(
            "smallest-first",
            _lines(order=False),
            "You counted from the smallest score. Alarms are the largest ones: sort the other way round.",
            about="direction",
        ),
        Misconception(
            "one-for-all-concepts",
            _one_line_for_all,
            "You chose one line for all concepts. Each has scores at a height of its own, and a line of its "
            "own.",
            about="batch",
        ),
        Misconception(
            "without-any-concept",
            _any_concept,
            "You left out pictures that show *any* concept. For the line of one concept a picture that "
            "shows another one is clean, and counts.",
            about="input",
        ),
        Misconception(
            "interpolated",
            _interpolated,
            "Your line lies between two pictures, as `quantile` puts it. Asked is one of the scores: the "
            "lowest that is allowed.",
            about="rounding",
        ),
        Misconception(
            "rounded-to-three-places",
            _lines(finish=lambda found: (1000 * found).round() / 1000),
            "You rounded the line to three places. Scores lie closer than that: a picture beside the line "
            "would change sides.",
            about="rounding",
        ),
        Misconception(
            "from-the-end",
            _each_line(_from_the_end),
            "You took values[−m] of the sorted scores. Of those, m − 1 are above the line, and m are "
            "allowed; and for m = 0 it is the smallest of all, since −0 is 0.",
            about="boundary",
        ),
        Misconception(
            "last-of-the-highest",
            _each_line(_last_of_the_highest),
            "You took the last of the m highest scores. So m − 1 are above the line, and m are allowed; and "
            "for m = 0 there is none. Take the last of m + 1.",
            about="boundary",
        ),
        Misconception(
            "highest-clean-score",
            _each_line(lambda clean, share: clean.max()),
            "Your line is the highest score of the pictures without the concept, whatever the share is. Some "
            "false alarms are allowed.",
            about="missing",
        ),
        Misconception(
            "nearest-quantile",
            _lines(place=lambda share, n: round(share * (n - 1))),
            "Your line is one of the scores, but a place too low at times: `quantile` with the nearest score "
            "rounds share · (n − 1). At most the share is allowed: round share · n down.",
            about="rounding",
        ),
        Misconception(
            "fewer-than-the-share",
            _lines(place=lambda share, n: max(math.ceil(share * n) - 1, 0)),
            "You allowed fewer false alarms than the share. At most the share means that just the share is "
            "allowed, too.",
            about="boundary",
        ),
        Misconception(
            "share-of-those-that-show-it",
            _lines(of=lambda clean, has: int(has.sum())),
            "You took the share of the pictures that show the concept. It is the share of those without it.",
            about="count",
        ),
        Misconception(
            "false-among-alarms",
            _false_among_alarms,
            "You allowed a share of the alarms to be false. The share is that of the pictures without the "
            "concept.",
            about="reading",
        ),
        Misconception(
            "half-way",
            _each_line(_half_way),
            "Your line lies half-way between two scores. Asked is one of the scores: the lowest that is "
            "allowed.",
            about="mean",
        ),
        Misconception(
            "line-of-the-first-concept",
            lambda scores, shows, share: _line(scores[~shows[:, 0], 0], share).repeat(shows.shape[1]),
            "You took the line of the first concept for all of them. Each has scores at a height of its own, "
            "and a line of its own.",
            about="batch",
        ),
    ],
    alternatives=[_lines(), _by_trying],
    hints=(
        "Line up the pictures without the concept, the highest score first. How many may be in front of the "
        "line? Who stands on it?",
        "m = ⌊share · n⌋ for n clean pictures; the line is the (m + 1)-th largest of their scores.",
        "For each column: `clean = scores[~shows[:, k], k]`, `.sort(descending=True).values[…]`, then "
        "`torch.stack`.",
    ),
    figure=_line_figure,
    figure_alt="Two heaps of scores that overlap: many pictures without the concept at 0.3, fewer with it "
    "at 0.55. A dashed line at about 0.5 cuts off the last fiftieth of the first heap.",
)

EXERCISES = [BATCH, PIPELINE, BILL, SCHEDULER, STEER, LINE]
