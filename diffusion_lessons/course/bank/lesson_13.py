"""Lesson 13, diffusion against GANs: both losses, R1, a step of each player, modes counted, their width."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffusion_lessons import metrics
from diffusion_lessons.course.bank.descent import Descent
from diffusion_lessons.course.bank.inputs import normal, number
from diffusion_lessons.course.exercises.exercise import Case, Exercise, Misconception
from diffusion_lessons.training import adversarial

Make = Callable[[torch.Generator], dict[str, Any]]
Loss = Callable[[Tensor], Tensor]  # logits (B,) -> 0-d


# 13.1 The losses of both players --------------------------------------------------------------------


def gan_losses(real: Tensor, made: Tensor) -> tuple[Tensor, Tensor]:
    """The discriminator's and the generator's loss of `training.adversarial`."""
    return adversarial.discriminator_loss(real, made), adversarial.generator_loss(made)


def _both(answer: Callable[..., Any], real: Tensor, made: Tensor) -> Any:
    found = answer(real, made)
    if found is None:
        return None  # nothing was returned: the judge says so
    if not isinstance(found, tuple | list) or len(found) != 2:
        raise ValueError(f"two losses are asked for; you returned one {type(found).__name__}")
    return {"loss of the discriminator": found[0], "loss of the generator": found[1]}


def _low(logits: Tensor) -> Tensor:
    """−log D."""
    return F.softplus(-logits)


def _high(logits: Tensor) -> Tensor:
    """−log(1 − D)."""
    return F.softplus(logits)


def _losses(
    of_real: Callable[[Tensor], Tensor] = _low,
    of_made: Callable[[Tensor], Tensor] = _high,
    of_generator: Callable[[Tensor], Tensor] = _low,
    reduce: Callable[[Tensor], Tensor] = torch.mean,
    factor: float = 1.0,
) -> Callable[..., tuple[Tensor, Tensor]]:
    """Both losses in plain steps, with a place for each slip."""

    def answer(real: Tensor, made: Tensor) -> tuple[Tensor, Tensor]:
        judge = reduce(of_real(real)) + reduce(of_made(made))
        return factor * judge, reduce(of_generator(made))

    return answer


def _losses_by_torch(real: Tensor, made: Tensor) -> tuple[Tensor, Tensor]:
    bce = F.binary_cross_entropy_with_logits
    ones, zeros = torch.ones_like(made), torch.zeros_like(made)
    return bce(real, torch.ones_like(real)) + bce(made, zeros), bce(made, ones)


def _losses_by_logsigmoid(real: Tensor, made: Tensor) -> tuple[Tensor, Tensor]:
    judge = -(F.logsigmoid(real).mean() + F.logsigmoid(-made).mean())
    return judge, -F.logsigmoid(made).mean()


def _sigmoid_then_log(real: Tensor, made: Tensor) -> tuple[Tensor, Tensor]:
    p, q = real.sigmoid(), made.sigmoid()
    return -(p.log().mean() + (1 - q).log().mean()), -q.log().mean()


def _logits(n: int, m: int, spread: float, shift: float = 0.0) -> Make:
    """Logits of n real and m made samples; with a shift the discriminator is sure."""

    def make(g: torch.Generator) -> dict[str, Any]:
        return {"real": shift + spread * normal(g, n), "made": -shift + spread * normal(g, m)}

    return make


def _losses_figure(reference: Callable[..., Any]) -> Any:
    from matplotlib import pyplot

    logits = torch.linspace(-8, 8, 81)
    shown = [reference(logits[i : i + 1], logits[i : i + 1]) for i in range(len(logits))]
    figure, axis = pyplot.subplots(figsize=(4, 2.4))
    axis.plot(logits, [float(made) for _, made in shown], marker="", label="generator, of a made sample")
    axis.plot(logits, [-float(_high(each)) for each in logits], "--", marker="", label="log(1 − D), instead")
    axis.set(xlabel="logit of a made sample", ylabel="loss")
    axis.legend(fontsize=7)
    return figure


LOSSES = Exercise(
    id="13.1",
    name="gan_losses",
    title="Two players, two losses",
    kind="implement",
    difficulty=1,
    minutes=8,
    reference=gan_losses,
    call=_both,
    trains=("real", "made"),
    cases=[
        Case("logits of 6 real and 6 made samples", _logits(6, 6, 2.0)),
        Case("9 real and 4 made samples", _logits(9, 4, 1.5)),
        Case("a discriminator that is almost sure", _logits(5, 5, 1.0, 3.0)),
        Case("a discriminator that is quite sure: logits of ±200", _logits(5, 7, 5.0, 200.0)),
    ],
    misconceptions=[
        Misconception(
            "minimax",
            _losses(of_generator=lambda made: -_high(made)),
            "Your generator minimises log(1 − D), the loss of the minimax game. Its gradient vanishes when "
            "made samples are told with ease, that is, at the start. Use −log D.",
            about="formula",
        ),
        Misconception(
            "discriminator-upside-down",
            _losses(of_real=_high, of_made=_low),
            "Your discriminator learns to call real samples made and made ones real. A logit above 0 means "
            "real: −log D on real samples, −log(1 − D) on made ones.",
            about="swap",
        ),
        Misconception(
            "all-called-real",
            _losses(of_made=_low),
            "Your discriminator is rewarded for calling made samples real. That is the generator's wish; the "
            "discriminator's loss on made samples is −log(1 − D).",
            about="sign",
        ),
        Misconception(
            "generator-wants-to-be-caught",
            _losses(of_generator=_high),
            "Your generator is rewarded where its samples are called made. It wants them called real: use "
            "−log D.",
            about="sign",
        ),
        Misconception(
            "sigmoid-then-log",
            _sigmoid_then_log,
            "You took a sigmoid first and a logarithm after it. At a logit of −200 the sigmoid is 0 in "
            "float32, its logarithm is −∞ and nothing is learnt. softplus(−logit) is the same, and finite.",
            about="formula",
        ),
        Misconception(
            "real-samples-left-out",
            _losses(of_real=torch.zeros_like),
            "The real samples do not count in your discriminator's loss: it would call everything made.",
            about="missing",
        ),
        Misconception(
            "made-samples-left-out",
            _losses(of_made=torch.zeros_like),
            "The made samples do not count in your discriminator's loss: it would call everything real.",
            about="missing",
        ),
        Misconception(
            "summed-over-the-batch",
            _losses(reduce=torch.sum),
            "You summed over the batch. Take means, or the step would grow with the batch.",
            about="mean",
        ),
        Misconception(
            "halved",
            _losses(factor=0.5),
            "You took the mean of the discriminator's two parts. Here they are added, as in the paper: with "
            "D = ½ everywhere the loss is 2·ln 2.",
            about="factor",
        ),
    ],
    alternatives=[_losses_by_torch, _losses_by_logsigmoid],
    hints=(
        "D is the sigmoid of a logit, the share of belief in 'real'. The discriminator wants it high on real "
        "samples and low on made ones, the generator wants it high on made ones.",
        "L_D = −mean log D(real) − mean log(1 − D(made)); L_G = −mean log D(made); and −log sigmoid(l) = "
        "softplus(−l), −log(1 − sigmoid(l)) = softplus(l).",
        "`softplus = torch.nn.functional.softplus`, three of them, a mean over each.",
    ),
    figure=_losses_figure,
    figure_alt="Two curves over the logit of a made sample from −8 to 8. The generator's loss falls from 8 "
    "to 0, steepest on the left. log(1 − D) is flat at 0 on the left and falls on the right.",
)


# 13.2 R1 (debug) -------------------------------------------------------------------------------------


def r1_penalty(discriminator: Callable[[Tensor], Tensor], x: Tensor, gamma: float) -> Tensor:
    """The mean of `training.adversarial.r1_penalty` over a batch."""
    x = x.detach().requires_grad_()
    return adversarial.r1_penalty(x, discriminator(x), gamma).mean()


class Judge(nn.Module):
    """A small discriminator: samples (B, ...) to logits (B,), with weights (D, H) and (H,)."""

    def __init__(self, inner: Tensor, outer: Tensor) -> None:
        super().__init__()
        self.inner, self.outer = nn.Parameter(inner), nn.Parameter(outer)

    def forward(self, x: Tensor) -> Tensor:
        return (x.flatten(1) @ self.inner).tanh() @ self.outer


def _penalised(answer: Callable[..., Any], inner: Tensor, outer: Tensor, x: Tensor, gamma: float) -> Any:
    """The penalty, and the gradient that the discriminator's weights get from it."""
    judge = Judge(inner.clone(), outer.clone())
    found = answer(judge, x, gamma)
    if found is None:
        return None  # nothing was returned: the judge says so
    if not isinstance(found, Tensor):
        raise ValueError(f"the penalty is a tensor (); you returned one {type(found).__name__}")
    gradients = [torch.zeros_like(weight) for weight in judge.parameters()]
    if found.requires_grad:
        made = torch.autograd.grad(found.sum(), list(judge.parameters()), allow_unused=True)
        gradients = [zero if g is None else g for zero, g in zip(gradients, made, strict=True)]
    return {
        "penalty": found.detach(),
        "gradient of the inner weights": gradients[0],
        "gradient of the outer weights": gradients[1],
    }


def _slope(
    of: Callable[[Tensor], Tensor] = torch.sum,
    size: Callable[[Tensor], Tensor] = lambda slope: slope.flatten(1).square().sum(1),
    reduce: Callable[[Tensor], Tensor] = torch.mean,
    factor: float = 0.5,
    learns: bool = True,
) -> Callable[..., Tensor]:
    """The penalty in plain steps, with a place for each slip."""

    def answer(discriminator: Callable[[Tensor], Tensor], x: Tensor, gamma: float) -> Tensor:
        x = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(of(discriminator(x)), x, create_graph=learns)
        return factor * gamma * reduce(size(slope))

    return answer


def _penalty_by_samples(discriminator: Callable[[Tensor], Tensor], x: Tensor, gamma: float) -> Tensor:
    total = torch.zeros(())
    for each in x.detach().split(1):
        each = each.clone().requires_grad_()
        (slope,) = torch.autograd.grad(discriminator(each).sum(), each, create_graph=True)
        total = total + gamma / 2 * (slope**2).sum()
    return total / len(x)


def _norm(slope: Tensor) -> Tensor:
    return slope.flatten(1).norm(dim=1)


def _judged(hidden: int, *shape: int) -> Make:
    def make(g: torch.Generator) -> dict[str, Any]:
        size = math.prod(shape[1:])
        return {
            "inner": normal(g, size, hidden) / size**0.5,
            "outer": 2 * normal(g, hidden),
            "x": normal(g, *shape),
            "gamma": number(g, 0.2, 5.0),
        }

    return make


R1 = Exercise(
    id="13.2",
    name="r1_penalty",
    title="The penalty that fades away",
    kind="debug",
    difficulty=2,
    minutes=10,
    reference=r1_penalty,
    call=_penalised,
    planted="of-the-loss",
    cases=[
        Case("five points", _judged(6, 5, 2)),
        Case("three grey pictures", _judged(5, 3, 1, 3, 4)),
        Case("two colour pictures", _judged(7, 2, 3, 4, 5)),
        Case("a single point", _judged(4, 1, 2)),
    ],
    misconceptions=[
        Misconception(
            "of-the-loss",
            _slope(of=lambda logits: F.softplus(-logits).sum()),
            "The slope is that of the loss. Where the discriminator is sure, the loss is flat though the "
            "logit is steep, and nothing is penalised. R1 is the slope of the logit itself.",
            about="input",
        ),
        Misconception(
            "of-the-sigmoid",
            _slope(of=lambda logits: logits.sigmoid().sum()),
            "You took the slope of the sigmoid, which is flat where the discriminator is sure. R1 is the "
            "slope of the logit.",
            about="input",
        ),
        Misconception(
            "a-constant",
            _slope(learns=False),
            "The number is right, but the discriminator learns nothing from it: without create_graph=True "
            "the slope is a constant for the optimizer.",
            about="gradient",
        ),
        Misconception(
            "one-norm-for-the-batch",
            _slope(size=lambda slope: slope.square().sum()),
            "You summed the squares over the whole batch. Each sample has a slope of its own: sum over its "
            "numbers, then take the mean over the batch.",
            about="mean",
        ),
        Misconception(
            "mean-over-the-numbers",
            _slope(size=lambda slope: slope.flatten(1).square().mean(1)),
            "You averaged over the numbers of a sample. The squared length of the slope is their sum.",
            about="mean",
        ),
        Misconception(
            "over-the-channels",
            _slope(size=lambda slope: slope.square().sum(1)),
            "You summed over one dimension of the slope, the channels of a picture. The squared length of a "
            "sample's slope is the sum over all its numbers.",
            about="axis",
        ),
        Misconception(
            "slope-of-the-mean",
            _slope(of=torch.mean),
            "You took the slope of the mean of the logits: the slope of each sample comes out divided by the "
            "size of the batch. Take that of their sum.",
            about="mean",
        ),
        Misconception(
            "length-not-squared",
            _slope(size=_norm),
            "You took the length of the slope. Its square is asked for.",
            about="root",
        ),
        Misconception(
            "a-slope-of-one",
            _slope(size=lambda slope: (_norm(slope) - 1).square()),
            "You pull the length of the slope to 1: that is WGAN-GP. R1 pulls it to 0.",
            about="formula",
        ),
        Misconception(
            "not-halved",
            _slope(factor=1.0),
            "The half is missing: γ/2 times the squared length.",
            about="factor",
        ),
    ],
    alternatives=[_slope(), _penalty_by_samples],
    hints=(
        "A discriminator that is sure has logits of 20 or 200. What is the slope of softplus(−logit) there?",
        "γ/2 · mean over the samples of |∇ₓ D(x)|², D(x) being the logit.",
        "One expression is to be changed: what `torch.autograd.grad` takes the gradient of.",
    ),
)


# 13.3 A step of each player (build) -----------------------------------------------------------------


def gan_step(
    generator: nn.Module,
    discriminator: nn.Module,
    of_generator: Any,
    of_discriminator: Any,
    real: Tensor,
    latents: Tensor,
    gamma: float,
) -> tuple[Tensor, Tensor]:
    """One turn of the discriminator, then one of the generator; gives both losses."""
    with torch.no_grad():
        made = generator(latents[0])
    judge, _ = gan_losses(discriminator(real), discriminator(made))
    judge = judge + r1_penalty(discriminator, real, gamma)
    of_discriminator.zero_grad()
    judge.backward()
    of_discriminator.step()
    _, loss = gan_losses(discriminator(real), discriminator(generator(latents[1])))
    of_generator.zero_grad()
    loss.backward()
    of_generator.step()
    return judge.detach(), loss.detach()


class Maker(nn.Module):
    """A small generator: latents (B, Z) to points (B, D)."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, latent: Tensor) -> Tensor:
        return 2 * (latent @ self.weight).tanh()


def _two_rounds(
    answer: Callable[..., Any],
    weight: Tensor,
    inner: Tensor,
    outer: Tensor,
    real: Tensor,
    latents: Tensor,
    gamma: float,
) -> Any:
    """Some steps of plain gradient descent; old gradients lie about."""
    maker, judge = Maker(weight.clone()), Judge(inner.clone(), outer.clone())
    for each in (*maker.parameters(), *judge.parameters()):
        each.grad = torch.ones_like(each)
    of_maker, of_judge = Descent(maker.parameters(), 0.3), Descent(judge.parameters(), 0.2)
    losses = [
        answer(maker, judge, of_maker, of_judge, *batch, gamma) for batch in zip(real, latents, strict=True)
    ]
    if losses[0] is None:
        return None
    if not all(isinstance(each, tuple | list) and len(each) == 2 for each in losses):
        raise ValueError("a step returns two losses: that of the discriminator and that of the generator")
    return {
        "loss of the discriminator": [torch.as_tensor(each[0]).detach() for each in losses],
        "loss of the generator": [torch.as_tensor(each[1]).detach() for each in losses],
        "weights of the generator": maker.weight.detach().clone(),
        "weights of the discriminator": torch.cat([each.detach().flatten() for each in judge.parameters()]),
    }


def _rounds(batch: int, z: int, size: int, hidden: int, steps: int = 2) -> Make:
    def make(g: torch.Generator) -> dict[str, Any]:
        return {
            "weight": normal(g, z, size),
            "inner": normal(g, size, hidden),
            "outer": normal(g, hidden),
            "real": 1.5 * normal(g, steps, batch, size) + 0.5,
            "latents": normal(g, steps, 2, batch, z),
            "gamma": number(g, 0.2, 1.0),
        }

    return make


def _stepped(
    clear_judge: bool = True,
    clear_maker: bool = True,
    clear_at_first: bool = False,
    cut: bool = True,
    second: int = 1,
    penalised: Callable[[Tensor, Tensor], Tensor | None] = lambda real, made: real,
    of_maker: Callable[[Tensor], Tensor] = adversarial.generator_loss,
    moves: tuple[bool, bool] = (True, True),
    generator_first: bool = False,
    at_once: bool = False,
) -> Callable[..., tuple[Tensor, Tensor]]:
    """Both turns in plain steps, with a place for each slip."""

    def answer(
        generator: nn.Module,
        discriminator: nn.Module,
        of_generator: Any,
        of_discriminator: Any,
        real: Tensor,
        latents: Tensor,
        gamma: float,
    ) -> tuple[Tensor, Tensor]:
        def judges_turn() -> Tensor:
            made = generator(latents[0])
            made = made.detach() if cut else made
            loss = adversarial.discriminator_loss(discriminator(real), discriminator(made))
            where = penalised(real, made)
            if where is not None:
                loss = loss + r1_penalty(discriminator, where, gamma)
            if clear_judge:
                of_discriminator.zero_grad()
            loss.backward()
            if moves[0] and not at_once:
                of_discriminator.step()
            return loss.detach()

        def makers_turn() -> Tensor:
            if at_once:  # the discriminator's gradient waits: the generator's turn must not touch it
                kept = [weight.grad for weight in discriminator.parameters()]
            loss = of_maker(discriminator(generator(latents[second])))
            if clear_maker:
                of_generator.zero_grad()
            loss.backward()
            if at_once:
                for weight, gradient in zip(discriminator.parameters(), kept, strict=True):
                    weight.grad = gradient
            if moves[1]:
                of_generator.step()
            return loss.detach()

        if clear_at_first:
            of_generator.zero_grad()
        if generator_first:
            loss = makers_turn()
            return judges_turn(), loss
        judge, loss = judges_turn(), makers_turn()
        if at_once:
            of_discriminator.step()
        return judge, loss

    return answer


def _at_once(
    generator: nn.Module,
    discriminator: nn.Module,
    of_generator: Any,
    of_discriminator: Any,
    real: Tensor,
    latents: Tensor,
    gamma: float,
) -> tuple[Tensor, Tensor]:
    """The generator's gradient through the discriminator as it was before its turn."""
    of_discriminator.zero_grad()
    of_generator.zero_grad()
    made = generator(latents[0]).detach()
    judge = adversarial.discriminator_loss(discriminator(real), discriminator(made))
    judge = judge + r1_penalty(discriminator, real, gamma)
    of_judge = torch.autograd.grad(judge, list(discriminator.parameters()))
    loss = adversarial.generator_loss(discriminator(generator(latents[1])))
    of_maker = torch.autograd.grad(loss, list(generator.parameters()))
    for player, gradients in ((discriminator, of_judge), (generator, of_maker)):
        for weight, gradient in zip(player.parameters(), gradients, strict=True):
            weight.grad = gradient
    of_discriminator.step()
    of_generator.step()
    return judge.detach(), loss.detach()


def _step_by_gradients(
    generator: nn.Module,
    discriminator: nn.Module,
    of_generator: Any,
    of_discriminator: Any,
    real: Tensor,
    latents: Tensor,
    gamma: float,
) -> tuple[Tensor, Tensor]:
    """Each player's gradients set by hand."""

    def follow(loss: Tensor, player: nn.Module, optimizer: Any) -> Tensor:
        gradients = torch.autograd.grad(loss, list(player.parameters()))
        for weight, gradient in zip(player.parameters(), gradients, strict=True):
            weight.grad = gradient
        optimizer.step()
        return loss.detach()

    made = generator(latents[0])
    judge = adversarial.discriminator_loss(discriminator(real), discriminator(made))
    judge = follow(judge + r1_penalty(discriminator, real, gamma), discriminator, of_discriminator)
    loss = adversarial.generator_loss(discriminator(generator(latents[1])))
    return judge, follow(loss, generator, of_generator)


STEP = Exercise(
    id="13.3",
    name="gan_step",
    title="One turn each",
    kind="implement",
    difficulty=3,
    minutes=20,
    reference=gan_step,
    builds_on=[LOSSES, R1],
    call=_two_rounds,
    cases=[
        Case("two steps on batches of 6 points", _rounds(6, 2, 2, 4)),
        Case("two steps with latents of 3 numbers", _rounds(5, 3, 2, 3)),
        Case("three steps on points of 4 numbers", _rounds(4, 5, 4, 5, steps=3)),
    ],
    misconceptions=[
        Misconception(
            "gradients-left-in-the-discriminator",
            _stepped(clear_judge=False),
            "You do not clear the discriminator's gradients before its turn. The generator's backward pass "
            "leaves gradients there, too: the next turn would follow them, towards being fooled.",
            about="gradient",
        ),
        Misconception(
            "gradients-left-in-the-generator",
            _stepped(clear_maker=False),
            "You do not clear the generator's gradients before its turn: they add up from step to step.",
            about="gradient",
        ),
        Misconception(
            "cleared-too-early",
            _stepped(clear_maker=False, clear_at_first=True, cut=False),
            "You clear the generator's gradients, but before the discriminator's turn. Its backward pass "
            "runs on into the generator, which then follows both losses. Cut the made samples off, or clear "
            "later.",
            about="gradient",
        ),
        Misconception(
            "made-samples-not-cut-off",
            _stepped(clear_maker=False, cut=False),
            "The discriminator's backward pass runs on into the generator, whose gradients you never clear: "
            "it follows both losses, and those of earlier steps.",
            about="gradient",
        ),
        Misconception(
            "same-latents-twice",
            _stepped(second=0),
            "Both turns use latents[0]. The generator's turn has latents of its own, latents[1].",
            about="index",
        ),
        Misconception(
            "generator-first",
            _stepped(generator_first=True),
            "The generator takes its turn first. Here the discriminator does, so that the generator learns "
            "from its newest verdict.",
            about="order",
        ),
        Misconception(
            "both-at-once",
            _at_once,
            "The generator learns from the discriminator as it was before its step. Let the discriminator "
            "step first, then ask it again.",
            about="order",
        ),
        Misconception(
            "penalty-left-out",
            _stepped(penalised=lambda real, made: None),
            "The penalty is missing in the discriminator's loss.",
            about="missing",
        ),
        Misconception(
            "penalty-on-made-samples",
            _stepped(penalised=lambda real, made: made),
            "You penalised the slope at made samples: that is R2. R1 is taken at the real ones.",
            about="input",
        ),
        Misconception(
            "minimax",
            _stepped(of_maker=lambda made: -F.softplus(made).mean()),
            "Your generator follows log(1 − D). Use the second loss of gan_losses, −log D.",
            about="formula",
        ),
        Misconception(
            "discriminator-stands-still",
            _stepped(moves=(False, True)),
            "The discriminator's weights never move: its optimizer does not step.",
            about="missing",
        ),
        Misconception(
            "generator-stands-still",
            _stepped(moves=(True, False)),
            "The generator's weights never move: its optimizer does not step.",
            about="missing",
        ),
    ],
    alternatives=[_stepped(), _step_by_gradients],
    hints=(
        "Two ordinary training steps after each other, each with its own loss and its own optimizer. The "
        "optimizer decides who moves; zero_grad sees to it that nothing old is followed.",
        "Discriminator: L_D(real, G(latents[0])) + R1(real), the made samples without a graph. Generator: "
        "L_G(G(latents[1])), with the graph, through the new discriminator.",
        "Twice: a loss, `optimizer.zero_grad()`, `loss.backward()`, `optimizer.step()`. In the first, "
        "`made` is drawn under `torch.no_grad()`.",
    ),
)


# 13.4 Modes counted ----------------------------------------------------------------------------------


def modes_covered(x: Tensor, centres: Tensor, std: float) -> tuple[int, float]:
    """`metrics.count_modes`: modes covered and the KL of their shares."""
    found = metrics.count_modes(x, centres, std)
    return found.covered, found.kl


def _counted(answer: Callable[..., Any], x: Tensor, centres: Tensor, std: float) -> Any:
    found = answer(x, centres, std)
    if found is None:
        return None
    if not isinstance(found, tuple | list) or len(found) != 2:
        raise ValueError(f"a count and a KL are asked for; you returned one {type(found).__name__}")
    if not float(found[0]).is_integer():
        raise ValueError(f"modes covered come first, a whole number; you returned {float(found[0]):.3g}")
    return {"modes covered": int(found[0]), "KL": torch.as_tensor(found[1], dtype=torch.float32)}


def _modes(
    reach: float = 3.0,
    covers: Callable[[Tensor, int, int], Tensor] = lambda hits, n, k: hits >= 0.2 * n / k,
    chosen: Callable[[Tensor], Tensor] = torch.ones_like,
    kl: Callable[[Tensor, int], Tensor] = lambda p, k: torch.special.xlogy(p, p * k).sum(),
    good_counts: bool = True,
) -> Callable[..., tuple[int, float]]:
    """The count in plain steps, with a place for each slip."""

    def answer(x: Tensor, centres: Tensor, std: float) -> tuple[int, float]:
        n, k = len(x), len(centres)
        distance, nearest = torch.cdist(x, centres).min(1)
        good = distance <= reach * std
        hits = torch.bincount(nearest[good] if good_counts else nearest, minlength=k)
        counted = nearest[chosen(good).bool()]
        shares = torch.bincount(counted, minlength=k) / max(len(counted), 1)
        return int(covers(hits, n, k).sum()), float(kl(shares, k))

    return answer


def _modes_by_a_loop(x: Tensor, centres: Tensor, std: float) -> tuple[int, float]:
    n, k = len(x), len(centres)
    covered, kl = 0, 0.0
    distance = (x[:, None] - centres[None]).norm(dim=2)  # (N, K)
    nearest = distance.argmin(1)
    for mode in range(k):
        mine = distance[nearest == mode, mode]
        covered += int((mine <= 3 * std).sum()) >= 0.2 * n / k
        p = len(mine) / n
        kl += p * math.log(p * k) if p else 0.0
    return covered, kl


def _reverse(p: Tensor, k: int) -> Tensor:
    """KL of even shares from p, where p has no 0."""
    return -(p.clamp(min=1e-3) * k).log().sum() / k


def _places(k: int, n: int, blur: int) -> Make:
    """k modes, some full, some with a fifth of their due or a single hit, and samples far from all."""

    def make(g: torch.Generator) -> dict[str, Any]:
        side = math.ceil(k**0.5)
        grid = torch.cartesian_prod(torch.arange(float(side)), torch.arange(float(side)))[:k]
        centres = 2 * grid - side + 1
        std, due = number(g, 0.05, 0.09), n / k
        hits = torch.full((k,), int(due))
        hits[0], hits[1], hits[2] = 1, int(0.1 * due), math.ceil(0.2 * due) + 1
        hits[3], hits[-1] = int(0.6 * due), 0  # all that is near the last mode is not near enough
        mode = torch.arange(k).repeat_interleave(hits)
        near = centres[mode] + std * normal(g, len(mode), 2).clamp(-1.9, 1.9)
        near[hits[:4].sum() :: 3] = centres[mode][hits[:4].sum() :: 3] + 0.7 * std  # within one deviation
        where = torch.cat(
            [
                torch.full((blur // 2,), k - 1),
                torch.arange(2).repeat(blur // 8),
                torch.randint(4, k - 1, (blur // 4,), generator=g),
            ]
        )
        away = F.normalize(normal(g, len(where), 2), dim=1)
        far = centres[where] + std * (4 + 3 * torch.rand(len(where), 1, generator=g)) * away
        return {"x": torch.cat([near, far]), "centres": centres, "std": std}

    return make


def _at_the_borders(g: torch.Generator) -> dict[str, Any]:
    """400 samples, 8 modes, due 50 each: two have a fifth of it, two a little less, two far less, one none.

    A sixth mode has most of its good samples between two and three deviations off, a seventh has samples
    within three on each axis and yet farther off; the last has the rest.
    """
    centres = 2 * torch.cartesian_prod(torch.arange(4.0), torch.arange(2.0)) - 3
    std = number(g, 0.05, 0.09)
    few = torch.tensor([7, 7, 3, 3]) + torch.randint(3, (4,), generator=g)
    hits = torch.cat([torch.tensor([10, 10, 0]), few, 240 - few.sum()[None]])
    off = torch.tensor([15, 15, 0, 30, 30, 20, 30, 0])
    near = normal(g, int(hits.sum()), 2).clamp(-1, 1)  # in deviations
    mode = torch.arange(8).repeat_interleave(off)
    way, share = F.normalize(normal(g, len(mode), 2), dim=1), torch.rand(len(mode), 1, generator=g)
    away = torch.where(mode[:, None] == 5, 2.3 + 0.5 * share, 4 + 3 * share) * way
    away = torch.where(mode[:, None] == 6, (2.6 + 0.3 * share) * way.sign(), away)
    places = torch.cat([torch.arange(8).repeat_interleave(hits), mode])
    return {"x": centres[places] + std * torch.cat([near, away]), "centres": centres, "std": std}


MODES = Exercise(
    id="13.4",
    name="modes_covered",
    title="Count what is covered",
    kind="implement",
    difficulty=2,
    minutes=12,
    reference=modes_covered,
    call=_counted,
    rtol=1e-3,
    cases=[
        Case("9 modes, one with a single hit", _places(9, 450, 60)),
        Case("16 modes, a quarter of the samples far from all", _places(16, 640, 200)),
        Case("8 modes, two with a fifth of their due, one without a sample", _at_the_borders),
    ],
    misconceptions=[
        Misconception(
            "one-hit-is-enough",
            _modes(covers=lambda hits, n, k: hits >= 1),
            "You count a mode from its first good sample on. A blur that hits each mode once would cover "
            "all. Ask for a fifth of its due: 0.2·N/K.",
            about="boundary",
        ),
        Misconception(
            "far-ones-counted",
            _modes(good_counts=False),
            "You counted samples far from their mode as well. Only those within three deviations are good.",
            about="missing",
        ),
        Misconception(
            "a-fifth-of-all",
            _modes(covers=lambda hits, n, k: hits >= 0.2 * n),
            "You ask each mode for a fifth of all samples. Its due is N/K, and a fifth of that is enough.",
            about="factor",
        ),
        Misconception(
            "a-fifth-of-the-good",
            _modes(covers=lambda hits, n, k: hits >= 0.2 * hits.sum() / k),
            "You took a mode's due from the good samples alone. A model with few good ones would be asked "
            "for less: N counts all samples.",
            about="input",
        ),
        Misconception(
            "more-than-a-fifth",
            _modes(covers=lambda hits, n, k: hits > 0.2 * n / k),
            "You ask for more than a fifth of a mode's due. A fifth is enough: 0.2·N/K or more.",
            about="boundary",
        ),
        Misconception(
            "within-one-deviation",
            _modes(reach=1.0, covers=lambda hits, n, k: hits >= 0.6 * n / k),
            "You count samples within one deviation, and ask for 60 %. A sample is good within three, and a "
            "mode needs a fifth of its due.",
            about="formula",
        ),
        Misconception(
            "kl-the-other-way-round",
            _modes(kl=_reverse),
            "You took the KL of even shares from the found ones. It is infinite as soon as one mode is lost. "
            "The found shares come first: Σ p·log(p·K).",
            about="swap",
        ),
        Misconception(
            "zero-times-minus-infinity",
            _modes(kl=lambda p, k: (p * (p * k).log()).sum()),
            "A mode without a sample has p = 0, and 0·ln 0 is NaN on a computer. Its part of the sum is 0: "
            "torch.special.xlogy gives that.",
            about="formula",
        ),
        Misconception(
            "kl-of-good-ones-alone",
            _modes(chosen=lambda good: good),
            "Your KL is of the good samples alone. Here every sample counts for its nearest mode.",
            about="input",
        ),
        Misconception(
            "bits",
            _modes(kl=lambda p, k: torch.special.xlogy(p, p * k).sum() / math.log(2)),
            "Your KL is in bits. Nats are asked for: the natural logarithm.",
            about="factor",
        ),
        Misconception(
            "entropy",
            _modes(kl=lambda p, k: -torch.special.xlogy(p, p).sum()),
            "You returned the entropy of the shares. Their KL from even ones is log K less that.",
            about="formula",
        ),
    ],
    alternatives=[_modes(), _modes_by_a_loop],
    hints=(
        "Each sample belongs to its nearest centre. Of those, only near ones are good; and one good one is "
        "not yet a mode.",
        "covered = number of modes with at least 0.2·N/K samples within 3·std; KL = Σ p_k·ln(K·p_k), p_k the "
        "share of all samples whose nearest centre is k, and 0·ln 0 = 0.",
        "`distance, nearest = torch.cdist(x, centres).min(1)`, `torch.bincount(…, minlength=K)` twice, and "
        "`torch.special.xlogy(p, K * p).sum()`.",
    ),
)


# 13.5 How wide a mode comes out ---------------------------------------------------------------------


def width_of_last_step(std: float, alpha: float, sigma: float) -> float:
    """Deviation of x̂₀ of an exact denoiser, over that of the data: α·s/√(α²s² + σ²)."""
    return alpha * std / math.hypot(alpha * std, sigma)


def _widths(ratio: Callable[[float, float, float], float]) -> Callable[..., float]:
    return lambda std, alpha, sigma: ratio(std, alpha, sigma)


def _width_by_gain(std: float, alpha: float, sigma: float) -> float:
    noisy = alpha**2 * std**2 + sigma**2
    gain = alpha * std**2 / noisy
    return float(gain * noisy**0.5 / std)


def _width_by_snr(std: float, alpha: float, sigma: float) -> float:
    snr = (alpha * std / sigma) ** 2
    return float((snr / (1 + snr)) ** 0.5)


def _levels_of_a_mode(std: tuple[float, float], sigma: tuple[float, float]) -> Make:
    def make(g: torch.Generator) -> dict[str, Any]:
        noise = number(g, *sigma)
        return {"std": number(g, *std), "alpha": math.sqrt(1 - noise**2), "sigma": noise}

    return make


WIDTH = Exercise(
    id="13.5",
    name="width_of_last_step",
    title="Why the modes are too narrow",
    kind="reproduce",
    difficulty=2,
    minutes=10,
    reference=width_of_last_step,
    cases=[
        Case("a narrow mode, little noise", _levels_of_a_mode((0.015, 0.025), (0.03, 0.06))),
        Case("a wide mode, little noise", _levels_of_a_mode((0.3, 0.6), (0.05, 0.2))),
        Case("much noise", _levels_of_a_mode((0.2, 0.5), (0.6, 0.9))),
    ],
    misconceptions=[
        Misconception(
            "the-gain-alone",
            _widths(lambda s, a, n: a * s**2 / (a**2 * s**2 + n**2)),
            "That is the factor between x and the guess. x itself is wider than the data: multiply by its "
            "deviation, √(α²s² + σ²), and divide by s.",
            about="missing",
        ),
        Misconception(
            "ratio-of-variances",
            _widths(lambda s, a, n: a**2 * s**2 / (a**2 * s**2 + n**2)),
            "That is a ratio of variances. Of deviations it is the root.",
            about="root",
        ),
        Misconception(
            "alpha-forgotten",
            _widths(lambda s, a, n: s / math.hypot(s, n)),
            "At this level the mode is α·s wide, no longer s: put α·s into the formula.",
            about="missing",
        ),
        Misconception(
            "deviations-added",
            _widths(lambda s, a, n: a * s / (a * s + n)),
            "You added deviations. Of independent parts the variances add: √(α²s² + σ²).",
            about="formula",
        ),
        Misconception(
            "upside-down",
            _widths(lambda s, a, n: math.hypot(a * s, n) / (a * s)),
            "Upside down: a guess is a mean of what is possible, so its spread is below that of the data.",
            about="swap",
        ),
        Misconception(
            "noise-over-all",
            _widths(lambda s, a, n: n / math.hypot(a * s, n)),
            "That is the noise's part of x. What is left of the data is the other part.",
            about="swap",
        ),
    ],
    alternatives=[_width_by_gain, _width_by_snr],
    hints=(
        "Close to one mode the data are a Gaussian of deviation s. Then the guess of an exact denoiser is a "
        "straight line in x, and you know how wide x is.",
        "x̂₀ − μ = α·s²/(α²s² + σ²) · (x − α·μ), and x has the variance α²s² + σ².",
        "Multiply the factor by the deviation of x, divide by s, and simplify.",
    ),
)

EXERCISES = [LOSSES, R1, STEP, MODES, WIDTH]
