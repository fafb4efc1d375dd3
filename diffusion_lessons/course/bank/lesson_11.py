"""Lesson 11, latent diffusion: draws, their divergence, the scale, an autoencoder, the decoder, costs."""

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from diffusion_lessons.course.bank import figures
from diffusion_lessons.course.bank.descent import Descent
from diffusion_lessons.course.bank.inputs import blobs, gaussian, normal, number, whole
from diffusion_lessons.course.exercises.exercise import Case, Exercise, Misconception
from diffusion_lessons.denoiser import Denoiser
from diffusion_lessons.networks.vae import Latents
from diffusion_lessons.paths import DiscreteVP, Level
from diffusion_lessons.samplers import sample
from diffusion_lessons.schedules import cosine_betas
from diffusion_lessons.targets import Estimate
from diffusion_lessons.training.recipe import PATHS

Make = Callable[[torch.Generator], dict[str, Any]]


def _logvar(g: torch.Generator, *shape: int) -> Tensor:
    """Log-variances from narrow to wide: there logvar, variance and deviation are three numbers."""
    return -1 + 1.5 * normal(g, *shape)


# 11.1 A draw that gradients pass --------------------------------------------------------------------


def draw_latents(mean: Tensor, logvar: Tensor, noise: Tensor) -> Tensor:
    """`Latents.sample`."""
    return Latents(mean, logvar).sample(noise)


def _moments(batch: int, channels: int, height: int, width: int) -> Make:
    shape = batch, channels, height, width
    return lambda g: {
        "mean": 1.5 * normal(g, *shape),
        "logvar": _logvar(g, *shape),
        "noise": normal(g, *shape),
    }


def _no_gradients(mean: Tensor, logvar: Tensor, noise: Tensor) -> Tensor:
    with torch.no_grad():
        return draw_latents(mean, logvar, noise)


def _drawn_figure(reference: Callable[..., Tensor]) -> Any:
    mean = blobs(torch.Generator().manual_seed(3), 1, 1, 16, 16)
    logs = (-6.0, -2.0, 0.0)
    drawn = [reference(mean, torch.full_like(mean, log), figures.noise(1, 1, 16, 16))[0] for log in logs]
    return figures.strip(drawn, [f"logvar {log:g}" for log in logs])


DRAW = Exercise(
    id="11.1",
    name="draw_latents",
    title="A draw that gradients can pass",
    kind="reproduce",
    difficulty=1,
    minutes=5,
    reference=draw_latents,
    trains=("mean", "logvar"),
    cases=[
        Case("three pictures, latents of four channels", _moments(3, 4, 6, 5)),
        Case("two pictures, one channel", _moments(2, 1, 8, 7)),
        Case("five pictures, two channels", _moments(5, 2, 4, 3)),
    ],
    misconceptions=[
        Misconception(
            "logvar-for-the-deviation",
            lambda mean, logvar, noise: mean + logvar * noise,
            "You multiplied the noise by logvar itself. That is the logarithm of the variance, and it may be "
            "negative: the standard deviation is exp(logvar/2).",
            about="formula",
        ),
        Misconception(
            "variance-for-the-deviation",
            lambda mean, logvar, noise: mean + logvar.exp() * noise,
            "You multiplied the noise by the variance, exp(logvar). Noise is scaled by the standard "
            "deviation: its root, exp(logvar/2).",
            about="root",
        ),
        Misconception(
            "deviation-squared-twice",
            lambda mean, logvar, noise: mean + (2 * logvar).exp() * noise,
            "You doubled logvar, and that squares the variance. A root halves the logarithm: exp(logvar/2).",
            about="root",
        ),
        Misconception(
            "half-the-variance",
            lambda mean, logvar, noise: mean + 0.5 * logvar.exp() * noise,
            "You halved the variance. Its root has the half in the exponent: exp(logvar/2).",
            about="root",
        ),
        Misconception(
            "root-of-the-logarithm",
            lambda mean, logvar, noise: mean + logvar.abs().sqrt() * noise,
            "You took the root of the logarithm. First the exponential, which gives the variance, then the "
            "root of that.",
            about="order",
        ),
        Misconception(
            "mean-alone",
            lambda mean, logvar, noise: mean + 0 * logvar,
            "You returned the mean. That is the most likely latent, and no draw: the noise is missing.",
            about="missing",
        ),
        Misconception(
            "noise-alone",
            lambda mean, logvar, noise: (logvar / 2).exp() * noise + 0 * mean,
            "You returned the deviation from the mean. Add the mean.",
            about="missing",
        ),
        Misconception(
            "unit-noise",
            lambda mean, logvar, noise: mean + noise + 0 * logvar,
            "You added noise of standard deviation 1. Each number has a deviation of its own, exp(logvar/2).",
            about="missing",
        ),
        Misconception(
            "noise-divided",
            lambda mean, logvar, noise: mean + noise / (logvar / 2).exp(),
            "You divided by the standard deviation: so noise becomes what the model calls N(0, 1). Here it "
            "is the other way round.",
            about="direction",
        ),
        Misconception(
            "no-gradients",
            _no_gradients,
            "The numbers are right, but no gradient reaches mean and logvar, and the encoder would never "
            "learn. Write the draw as arithmetic on both, outside torch.no_grad().",
            about="gradient",
        ),
    ],
    alternatives=[
        lambda mean, logvar, noise: mean + (logvar / 2).exp() * noise,
        lambda mean, logvar, noise: torch.addcmul(mean, logvar.exp().sqrt(), noise),
    ],
    hints=(
        "A draw from N(m, s²) is m plus s times a draw from N(0, 1). The noise is given, so only arithmetic "
        "is left, and gradients pass through arithmetic.",
        "log s² = logvar, so s = exp(½·logvar).",
        "One line: `return mean + … * noise`.",
    ),
    figure=_drawn_figure,
    figure_alt="A soft bright spot as the mean, and draws around it. At a log-variance of −6 hardly any "
    "grain, at −2 some, at 0 the grain hides the spot.",
)


# 11.2 The divergence of each picture ----------------------------------------------------------------


def kl_of_pictures(mean: Tensor, logvar: Tensor) -> Tensor:
    """`Latents.kl`."""
    return Latents(mean, logvar).kl()


def _two_moments(batch: int, channels: int, height: int, width: int) -> Make:
    shape = batch, channels, height, width
    return lambda g: {"mean": 1.5 * normal(g, *shape), "logvar": _logvar(g, *shape)}


def _terms(mean: Tensor, logvar: Tensor) -> Tensor:
    return 0.5 * (mean**2 + logvar.exp() - logvar - 1)


def _kl_figure(reference: Callable[..., Tensor]) -> Any:
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(4.4, 2.4), layout="constrained")
    logs = torch.linspace(-6, 2, 81)
    for m, line in ((0.0, "-"), (1.0, "--"), (2.0, ":")):
        values = reference(torch.full((81, 1, 1, 1), m), logs[:, None, None, None])
        axis.plot(logs.numpy(), values.numpy(), line, marker="", label=f"mean {m:g}")
    axis.set(xlabel="logvar", ylabel="nats", ylim=0)
    axis.legend(frameon=False)
    return figure


KL = Exercise(
    id="11.2",
    name="kl_of_pictures",
    title="How far from N(0, 1)?",
    kind="implement",
    difficulty=1,
    minutes=8,
    reference=kl_of_pictures,
    trains=("mean", "logvar"),
    cases=[
        Case("three pictures, latents of four channels", _two_moments(3, 4, 6, 5)),
        Case("two pictures, one channel", _two_moments(2, 1, 8, 7)),
        Case("five pictures, two channels", _two_moments(5, 2, 4, 3)),
    ],
    misconceptions=[
        Misconception(
            "mean-over-the-entries",
            lambda mean, logvar: _terms(mean, logvar).flatten(1).mean(1),
            "You took the mean over a picture's latents. A divergence of independent numbers is a sum. With "
            "a mean the weight of the divergence is wrong by the number of latents, and nothing warns you.",
            about="mean",
        ),
        Misconception(
            "mean-of-the-batch",
            lambda mean, logvar: _terms(mean, logvar).flatten(1).sum(1).mean(),
            "You returned one number for the batch. Each picture has its own: (B,).",
            about="batch",
        ),
        Misconception(
            "summed-over-the-batch",
            lambda mean, logvar: _terms(mean, logvar).sum(),
            "You summed over the batch, too, so that the divergence grows with it. Each picture has its "
            "own: (B,).",
            about="batch",
        ),
        Misconception(
            "summed-over-the-channels",
            lambda mean, logvar: _terms(mean, logvar).sum(1),
            "You summed over the channels alone. All numbers of a picture count: channels, rows and columns.",
            about="axis",
        ),
        Misconception(
            "half-forgotten",
            lambda mean, logvar: 2 * _terms(mean, logvar).flatten(1).sum(1),
            "The factor ½ is missing: your divergence is twice as large.",
            about="factor",
        ),
        Misconception(
            "sign-turned",
            lambda mean, logvar: -_terms(mean, logvar).flatten(1).sum(1),
            "The sign is turned: a divergence is never negative, and 0 only at mean 0 and variance 1.",
            about="sign",
        ),
        Misconception(
            "mean-not-squared",
            lambda mean, logvar: (_terms(mean, logvar) + 0.5 * (mean - mean**2)).flatten(1).sum(1),
            "The mean is not squared in your formula, so means far below 0 would even be rewarded.",
            about="root",
        ),
        Misconception(
            "one-forgotten",
            lambda mean, logvar: (_terms(mean, logvar) + 0.5).flatten(1).sum(1),
            "The −1 is missing. With mean 0 and variance 1 there is no divergence, and yours is not 0 there.",
            about="missing",
        ),
        Misconception(
            "logarithm-forgotten",
            lambda mean, logvar: (_terms(mean, logvar) + 0.5 * logvar).flatten(1).sum(1),
            "−logvar is missing: nothing would keep the variance from falling to 0.",
            about="missing",
        ),
        Misconception(
            "logarithm-added",
            lambda mean, logvar: (_terms(mean, logvar) + logvar).flatten(1).sum(1),
            "Your formula adds logvar. It is subtracted: that is what keeps the variance from falling to 0.",
            about="sign",
        ),
        Misconception(
            "half-of-the-mean-alone",
            lambda mean, logvar: (2 * _terms(mean, logvar) - 0.5 * mean**2).flatten(1).sum(1),
            "The factor ½ stands before the mean alone. It belongs to all four terms: mind the brackets.",
            about="factor",
        ),
        Misconception(
            "logvar-taken-for-log-deviation",
            lambda mean, logvar: _terms(mean, 2 * logvar).flatten(1).sum(1),
            "You took logvar for the logarithm of the standard deviation. It is that of the variance: "
            "exp(logvar) is σ² already.",
            about="root",
        ),
        Misconception(
            "logvar-taken-for-variance",
            lambda mean, logvar: (0.5 * (mean**2 + logvar - logvar.exp() - 1)).flatten(1).sum(1),
            "Variance and its logarithm have changed places: + exp(logvar) and − logvar.",
            about="swap",
        ),
        Misconception(
            "mean-forgotten",
            lambda mean, logvar: _terms(0 * mean, logvar).flatten(1).sum(1),
            "The mean is missing in your formula: latents could lie anywhere.",
            about="missing",
        ),
        Misconception(
            "turned-round",
            lambda mean, logvar: (0.5 * ((mean**2 + 1) * (-logvar).exp() - 1 + logvar)).flatten(1).sum(1),
            "That is the divergence of N(0, 1) from the latents. Asked is that of the latents from N(0, 1).",
            about="direction",
        ),
        Misconception(
            "in-bits",
            lambda mean, logvar: _terms(mean, logvar).flatten(1).sum(1) / math.log(2),
            "Your divergence is in bits. It is asked for in nats: natural logarithms, nothing to divide by.",
            about="factor",
        ),
    ],
    alternatives=[
        lambda mean, logvar: 0.5 * (mean**2 + logvar.exp() - 1 - logvar).sum((1, 2, 3)),
        lambda mean, logvar: -0.5 * (1 + logvar - mean.square() - logvar.exp()).flatten(1).sum(dim=1),
    ],
    hints=(
        "Each latent number is a bell curve N(m, s²). How far is it from N(0, 1)? The numbers are "
        "independent, so their divergences add up.",
        "KL = ½·Σ(m² + s² − 1 − log s²), with s² = exp(logvar), summed over all of a picture's latents.",
        "`terms = …` of shape (B, C, h, w), then `return terms.flatten(1)…`: one number for each picture.",
    ),
    figure=_kl_figure,
    figure_alt="The divergence of one number over its log-variance. For mean 0 it is 0 at log-variance 0 and "
    "rises to both sides; for means 1 and 2 the same curve lies half a nat and two nats higher.",
)


# 11.3 The autoencoder learns --------------------------------------------------------------------------


def train_autoencoder(
    encode: Callable[[Tensor], Any],
    decode: Callable[[Tensor], Tensor],
    optimizer: Any,
    draw: Callable[[], tuple[Tensor, Tensor]],
    watched: Any,
    kl_weight: float,
) -> list[tuple[float, float]]:
    """The loss of `training.autoencoding`, in a loop of its own."""
    history = []
    for _ in watched:
        x, noise = draw()
        mean, logvar = encode(x)
        wrong = decode(draw_latents(mean, logvar, noise)) - x
        error = (wrong.abs() + 2 * wrong.square()).mean()
        kl = kl_of_pictures(mean, logvar).mean()
        loss = error + kl_weight * kl / x[0].numel()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watched.tell(loss)
        history.append((error.item(), kl.item()))
    return history


class Told:
    """What `Watched` is to a loop: rounds, and the losses that it is told."""

    def __init__(self, rounds: int) -> None:
        self.rounds, self.begun, self.losses = rounds, 0, list[float]()

    def __len__(self) -> int:
        return self.rounds

    def __iter__(self) -> Iterator[int]:
        for k in range(self.rounds):
            self.begun += 1
            yield k

    def tell(self, loss: Any) -> None:
        self.losses.append(float(loss.detach() if isinstance(loss, Tensor) else loss))


def _on_tiny(
    answer: Callable[..., Any], x: Tensor, noise: Tensor, own: Tensor, kl_weight: float
) -> dict[str, Any]:
    """Some rounds with an autoencoder of eight weights: a round, a batch of x and of noise."""
    weights = own.double().requires_grad_()
    watched, rounds = Told(len(x)), iter(zip(x.double(), noise.double(), strict=True))

    def encode(x: Tensor) -> tuple[Tensor, Tensor]:
        small = F.avg_pool2d(x, 2)  # (B, 1, h, w)
        mean = torch.cat([weights[0] * small + weights[1], weights[2] * small], 1)
        logvar = torch.cat([weights[3] + weights[4] * small, weights[5] - small], 1)
        return mean, logvar

    def decode(z: Tensor) -> Tensor:
        return F.interpolate(weights[6] * z[:, :1] + weights[7] * z[:, 1:], scale_factor=2)

    def draw() -> tuple[Tensor, Tensor]:
        return next(rounds)

    history = answer(encode, decode, Descent([weights], lr=0.05), draw, watched, kl_weight)
    return {
        "losses that watched was told": torch.tensor(watched.losses, dtype=torch.float64),
        "error and divergence of each step": history,
        "weights behind the last step": weights.detach().clone(),
        "rounds that `watched` has counted": watched.begun,
    }


def _batches(rounds: int, batch: int, height: int, width: int, kl_weight: tuple[float, float]) -> Make:
    def make(g: torch.Generator) -> dict[str, Any]:
        return {
            "x": 1.2 * normal(g, rounds, batch, 1, height, width),
            "noise": normal(g, rounds, batch, 2, height // 2, width // 2),
            "own": torch.tensor([1.5, 0.4, -1.2, -1.0, 0.5, -0.6, 0.7, -0.5]) + 0.2 * normal(g, 8),
            "kl_weight": number(g, *kl_weight),
        }

    return make


def _loop(
    latents: Callable[[Tensor, Tensor, Tensor], Tensor] = draw_latents,
    error: Callable[[Tensor, Tensor], Tensor] = lambda drawn, x: (
        (drawn - x).abs() + 2 * (drawn - x).square()
    ).mean(),
    kl: Callable[[Tensor, Tensor], Tensor] = lambda mean, logvar: kl_of_pictures(mean, logvar).mean(),
    loss: Callable[[Tensor, Tensor, float, Tensor], Tensor] = lambda error, kl, weight, x: (
        error + weight * kl / x[0].numel()
    ),
    calls: tuple[str, ...] = ("zero_grad", "backward", "step", "tell"),
    kept: Callable[[Tensor, Tensor, Tensor], Any] = lambda error, kl, loss: (error.item(), kl.item()),
    learnt: bool = True,
    rounds: Callable[[Any], Any] = lambda watched: watched,
    found: Callable[[list[Any]], Any] = lambda history: history,
    first_alone: bool = False,
) -> Callable[..., Any]:
    """The loop of the exercise with one part changed."""

    def answer(
        encode: Callable[[Tensor], Any],
        decode: Callable[[Tensor], Tensor],
        optimizer: Any,
        draw: Callable[[], tuple[Tensor, Tensor]],
        watched: Any,
        kl_weight: float,
    ) -> Any:
        history = []
        for _ in rounds(watched):
            x, noise = draw()
            with torch.set_grad_enabled(learnt):
                mean, logvar = encode(x)
            e, d = error(decode(latents(mean, logvar, noise)), x), kl(mean, logvar)
            value = loss(e, d, kl_weight, x)
            for call in calls:
                if call == "backward":
                    value.backward()
                elif call == "tell":
                    watched.tell(value)
                else:
                    getattr(optimizer, call)()
            history.append(kept(e, d, value))
            if first_alone:
                break
        return found(history)

    return answer


def _detached(mean: Tensor, logvar: Tensor, noise: Tensor) -> Tensor:
    return draw_latents(mean, logvar, noise).detach() + 0 * (mean + logvar)


def _autoencoder_figure(reference: Callable[..., Any]) -> Any:
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(4.6, 2.6), layout="constrained")
    g = torch.Generator().manual_seed(0)
    given = AUTOENCODER.inputs(Case("figure", _batches(80, 16, 8, 8, (0.0, 0.0))), 0)
    given["x"] = blobs(g, 80, 16, 1, 8, 8)
    for weight, line in ((0.0, "-"), (2.0, "--")):
        found = _on_tiny(reference, **given | {"own": given["own"].clone(), "kl_weight": weight})
        history = torch.tensor(found["error and divergence of each step"])
        axis.plot(history[:, 0].numpy(), line, marker="", label=f"weight {weight:g}")
    axis.set(xlabel="training step", ylabel="error of the pictures", ylim=0)
    axis.legend(frameon=False)
    return figure


AUTOENCODER = Exercise(
    id="11.3",
    name="train_autoencoder",
    title="An autoencoder learns",
    kind="implement",
    difficulty=3,
    minutes=20,
    reference=train_autoencoder,
    builds_on=[DRAW, KL],
    call=_on_tiny,
    cases=[
        Case("four steps of three pictures, a small weight", _batches(4, 3, 8, 6, (0.02, 0.06))),
        Case("three steps of two pictures, a large weight", _batches(3, 2, 6, 10, (1.0, 2.0))),
        Case("five steps of five pictures", _batches(5, 5, 4, 6, (0.2, 0.4))),
    ],
    misconceptions=[
        Misconception(
            "means-decoded",
            _loop(latents=lambda mean, logvar, noise: mean),
            "You decode the means. The decoder has to learn from draws: otherwise nothing makes neighbouring "
            "latents decode to similar pictures.",
            about="missing",
        ),
        Misconception(
            "deviation-wrong",
            _loop(latents=lambda mean, logvar, noise: mean + logvar.exp() * noise),
            "You draw the latents with the variance in the place of the standard deviation. Your "
            "draw_latents does it right.",
            about="root",
        ),
        Misconception(
            "decoded-without-gradients",
            _loop(latents=_detached),
            "No gradient of the pictures' error reaches the encoder: the latents were cut off from it, by "
            "detach or torch.no_grad.",
            about="gradient",
        ),
        Misconception(
            "encoded-without-gradients",
            _loop(learnt=False),
            "The encoder does not learn: it was called under torch.no_grad, or its results were detached.",
            about="gradient",
        ),
        Misconception(
            "squared-with-the-factor",
            _loop(error=lambda drawn, x: ((drawn - x).abs() + (2 * (drawn - x)).square()).mean()),
            "You squared the factor 2 as well. The square is taken first: |x̂ − x| + 2·(x̂ − x)².",
            about="order",
        ),
        Misconception(
            "squares-alone",
            _loop(error=lambda drawn, x: 2 * (drawn - x).square().mean()),
            "The absolute difference is missing. The error is |x̂ − x| + 2·(x̂ − x)².",
            about="missing",
        ),
        Misconception(
            "absolute-alone",
            _loop(error=lambda drawn, x: (drawn - x).abs().mean()),
            "The squared difference is missing. The error is |x̂ − x| + 2·(x̂ − x)².",
            about="missing",
        ),
        Misconception(
            "factor-2-forgotten",
            _loop(error=lambda drawn, x: ((drawn - x).abs() + (drawn - x).square()).mean()),
            "The squared difference counts twice: |x̂ − x| + 2·(x̂ − x)².",
            about="factor",
        ),
        Misconception(
            "error-summed",
            _loop(
                error=lambda drawn, x: ((drawn - x).abs() + 2 * (drawn - x).square()).flatten(1).sum(1).mean()
            ),
            "You summed the error over a picture. It is a mean over all entries, and the divergence is "
            "divided by their number: so both are per entry.",
            about="mean",
        ),
        Misconception(
            "divergence-not-divided",
            _loop(loss=lambda error, kl, weight, x: error + weight * kl),
            "Your divergence is a sum over the latents, and the error a mean over the entries of a picture. "
            "Divide the divergence by the number of entries of one picture.",
            about="missing",
        ),
        Misconception(
            "divided-by-the-latents",
            _loop(  # here the latents are half as many as the entries
                loss=lambda error, kl, weight, x: error + weight * kl / (x[0].numel() / 2)
            ),
            "You divided the divergence by the number of latents. The error is per entry of a *picture*, so "
            "divide by the number of those: x[0].numel().",
            about="input",
        ),
        Misconception(
            "divided-by-the-whole-batch",
            _loop(loss=lambda error, kl, weight, x: error + weight * kl / x.numel()),
            "You divided by the entries of the whole batch. The mean over the batch is taken already: "
            "divide by the entries of *one* picture, x[0].numel().",
            about="batch",
        ),
        Misconception(
            "weight-forgotten",
            _loop(loss=lambda error, kl, weight, x: error + kl / x[0].numel()),
            "kl_weight is missing from your loss. With weight 1 the latents would be pressed to pure noise.",
            about="missing",
        ),
        Misconception(
            "divergence-left-out",
            _loop(loss=lambda error, kl, weight, x: error),
            "The divergence is missing from your loss: the encoder will make its variance as small as it "
            "can.",
            about="missing",
        ),
        Misconception(
            "divergence-subtracted",
            _loop(loss=lambda error, kl, weight, x: error - weight * kl / x[0].numel()),
            "The divergence is subtracted in your loss, so it would be made large. Add it.",
            about="sign",
        ),
        Misconception(
            "mean-over-the-latents",
            _loop(kl=lambda mean, logvar: _terms(mean, logvar).mean()),
            "You took the mean of the divergence over the latents. Sum it over a picture, as your "
            "kl_of_pictures does, and take the mean over the batch alone.",
            about="mean",
        ),
        Misconception(
            "summed-over-the-batch",
            _loop(kl=lambda mean, logvar: kl_of_pictures(mean, logvar).sum()),
            "You summed the divergence over the batch. Take its mean over the pictures, so that a larger "
            "batch does not weigh it more.",
            about="batch",
        ),
        Misconception(
            "gradients-never-cleared",
            _loop(calls=("backward", "step", "tell")),
            "optimizer.zero_grad() is missing. Gradients add up until they are cleared.",
            about="missing",
        ),
        Misconception(
            "weights-never-moved",
            _loop(calls=("zero_grad", "backward", "tell")),
            "The weights stay where they are: optimizer.step() is missing, or it comes before backward.",
            about="missing",
        ),
        Misconception(
            "step-without-a-gradient",
            _loop(calls=("backward", "zero_grad", "step", "tell")),
            "You clear the gradients between backward and step, so nothing moves. The order is zero_grad, "
            "backward, step.",
            about="order",
        ),
        Misconception(
            "loss-not-told",
            _loop(calls=("zero_grad", "backward", "step")),
            "Nobody hears of your losses: give each of them to watched.tell(loss).",
            about="missing",
        ),
        Misconception(
            "returned-inside-the-loop",
            _loop(first_alone=True),
            "Only one step was made: `return` stands inside the loop.",
            about="order",
        ),
        Misconception(
            "losses-returned",
            _loop(kept=lambda error, kl, loss: loss.item()),
            "You returned the losses. Asked are both parts of each step, the error and the divergence, as a "
            "pair.",
            about="reading",
        ),
        Misconception(
            "pairs-turned",
            _loop(kept=lambda error, kl, loss: (kl.item(), error.item())),
            "Your pairs hold the divergence first. The error comes first, then the divergence.",
            about="swap",
        ),
        Misconception(
            "weighted-divergence-kept",
            _loop(kept=lambda error, kl, loss: (error.item(), loss.item() - error.item())),
            "The second number of your pairs is the divergence as it stands in the loss. Asked is the mean "
            "divergence of a picture itself, in nats.",
            about="reading",
        ),
        Misconception(
            "last-pair-alone",
            _loop(found=lambda history: history[-1]),
            "You returned the pair of the last step. A list with the pairs of all steps is asked for.",
            about="reading",
        ),
        Misconception(
            "watched-passed-by",
            _loop(rounds=lambda watched: range(len(watched))),
            "The training is right, but your loop does not go over `watched` itself: it shows the loss and "
            "the time left only to `for step in watched:`.",
            about="reading",
        ),
    ],
    alternatives=[
        _loop(),
        _loop(
            error=lambda drawn, x: F.l1_loss(drawn, x) + 2 * F.mse_loss(drawn, x),
            kl=lambda mean, logvar: _terms(mean, logvar).sum() / len(mean),
        ),
    ],
    hints=(
        "It is the training loop that you know. The picture goes through encoder, draw and decoder; what "
        "comes out is compared with the picture itself, and the divergence is added.",
        "loss = mean(|x̂ − x| + 2·(x̂ − x)²) + kl_weight · mean(KL) / (entries of one picture). Then "
        "zero_grad, backward, step, tell.",
        "`for step in watched:`, `x, noise = draw()`, `mean, logvar = encode(x)`, `drawn = "
        "decode(draw_latents(…))`, error, kl, loss, three calls of the optimizer's and the loss's, "
        "`watched.tell(loss)`, `history.append((error.item(), …))`. After the loop, `return history`.",
    ),
    figure=_autoencoder_figure,
    figure_alt="Error of a tiny autoencoder's pictures over 60 training steps. Without the divergence it "
    "falls lower than with a large weight on it.",
)


# 11.4 The scale --------------------------------------------------------------------------------------


def scaled_latents(mean: Tensor, logvar: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """One draw of the latents with a standard deviation of 1, and the factor that gave it to them."""
    latents = Latents(mean, logvar).sample(noise)
    scale = 1 / latents.std()
    return scale * latents, scale


def _with_number(answer: Callable[..., Any], mean: Tensor, logvar: Tensor, noise: Tensor) -> Any:
    """The scale may be a number or a tensor."""
    found = answer(mean, logvar, noise)
    if isinstance(found, tuple) and len(found) == 2 and isinstance(found[1], float):
        return found[0], torch.tensor(found[1], device=mean.device)
    return found


def _data_set(pictures: tuple[int, int], offset: tuple[float, float], spread: tuple[float, float]) -> Make:
    """Latents of some pictures: their channels have means and spreads of their own."""

    def make(g: torch.Generator) -> dict[str, Any]:
        shape = whole(g, *pictures), 4, 5, 6
        own = torch.tensor([1.6, 0.3, 0.7, 1.0]).view(1, 4, 1, 1)
        centre = number(g, *offset) * torch.tensor([1.0, -0.5, 0.4, 0.2]).view(1, 4, 1, 1)
        size = (0.5 + torch.rand(shape[0], 1, 1, 1, generator=g)) * number(g, *spread)
        return {
            "mean": (own * normal(g, *shape) + centre) * size,
            "logvar": -1 + 0.5 * normal(g, *shape) + 2 * size.log(),
            "noise": normal(g, *shape),
        }

    return make


def _scaled_by(scale: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[..., tuple[Tensor, Tensor]]:
    """With another scale of (latents, mean, logvar)."""

    def answer(mean: Tensor, logvar: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        latents = draw_latents(mean, logvar, noise)
        found = scale(latents, mean, logvar)
        return found * latents, found

    return answer


def _centred(mean: Tensor, logvar: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    latents = draw_latents(mean, logvar, noise)
    return (latents - latents.mean()) / latents.std(), 1 / latents.std()


def _of_means(mean: Tensor, logvar: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    return mean / mean.std(), 1 / mean.std()


def _not_scaled(mean: Tensor, logvar: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    latents = draw_latents(mean, logvar, noise)
    return latents, 1 / latents.std()


def _divided_by_the_scale(mean: Tensor, logvar: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    latents = draw_latents(mean, logvar, noise)
    return latents * latents.std(), 1 / latents.std()


def _scaled_twice(mean: Tensor, logvar: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    latents, scale = scaled_latents(mean, logvar, noise)
    return scale * latents, scale


def _divided_in_place(mean: Tensor, logvar: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    mean += (logvar / 2).exp() * noise
    scale = mean.std() ** -1
    mean *= scale
    return mean, scale


def _by_numbers(mean: Tensor, logvar: Tensor, noise: Tensor) -> tuple[Tensor, float]:
    latents = mean + (logvar / 2).exp() * noise
    deviation = float(latents.var(correction=0)) ** 0.5
    return latents / deviation, 1 / deviation


SCALE = Exercise(
    id="11.4",
    name="scaled_latents",
    title="One number for all latents",
    kind="implement",
    difficulty=1,
    minutes=8,
    reference=scaled_latents,
    cases=[
        Case("large latents of some twenty pictures", _data_set((18, 22), (1.0, 2.0), (3.0, 5.0))),
        Case("small latents of a dozen pictures", _data_set((11, 14), (0.5, 1.5), (0.15, 0.25))),
        Case("latents of about the right size", _data_set((15, 18), (-1.0, -0.5), (0.8, 1.0))),
    ],
    misconceptions=[
        Misconception(
            "deviation-for-scale",
            _scaled_by(lambda z, mean, logvar: z.std()),
            "You multiplied by the standard deviation, which makes large latents larger. To bring it to 1, "
            "multiply by 1 over it.",
            about="direction",
        ),
        Misconception(
            "by-the-variance",
            _scaled_by(lambda z, mean, logvar: 1 / z.var()),
            "You divided by the variance. The standard deviation, its root, has to become 1.",
            about="root",
        ),
        Misconception(
            "scale-of-the-means",
            _scaled_by(lambda z, mean, logvar: 1 / mean.std()),
            "You measured the scale on the means. What the diffusion model will see are draws, and they are "
            "wider.",
            about="input",
        ),
        Misconception(
            "means-scaled",
            _of_means,
            "You took the means for the latents. A draw is asked for: your draw_latents makes it.",
            about="missing",
        ),
        Misconception(
            "one-for-each-channel",
            _scaled_by(lambda z, mean, logvar: 1 / z.std((0, 2, 3), keepdim=True)),
            "You gave each channel a scale of its own. That can be done, but then four numbers have to be "
            "kept. Here it is one number for all.",
            about="axis",
        ),
        Misconception(
            "one-for-each-picture",
            _scaled_by(lambda z, mean, logvar: 1 / z.std((1, 2, 3), keepdim=True)),
            "You gave each picture a scale of its own. When new pictures are drawn, nobody knows theirs: it "
            "is one number, of all pictures together.",
            about="batch",
        ),
        Misconception(
            "first-picture-alone",
            _scaled_by(lambda z, mean, logvar: 1 / z[0].std()),
            "You measured the scale on the first picture. Pictures differ: take all of them together.",
            about="batch",
        ),
        Misconception(
            "mean-deviation-of-channels",
            _scaled_by(lambda z, mean, logvar: 1 / z.std((0, 2, 3)).mean()),
            "You took the mean of the four channels' standard deviations. That is not the deviation of all "
            "entries together: channels with other means lie further apart.",
            about="axis",
        ),
        Misconception(
            "mean-deviation-of-pictures",
            _scaled_by(lambda z, mean, logvar: 1 / z.std((1, 2, 3)).mean()),
            "You took the mean of the pictures' standard deviations. Asked is that of all entries together.",
            about="batch",
        ),
        Misconception(
            "stable-diffusions",
            _scaled_by(lambda z, mean, logvar: torch.tensor(0.18215)),
            "0.18215 belongs to Stable Diffusion's autoencoder. Another one has another number: measure it.",
            about="input",
        ),
        Misconception(
            "root-of-squares",
            _scaled_by(lambda z, mean, logvar: z.square().mean() ** -0.5),
            "You took the root of the mean square, which counts the distance from 0. The standard deviation "
            "counts from the mean of the latents.",
            about="formula",
        ),
        Misconception(
            "largest-for-deviation",
            _scaled_by(lambda z, mean, logvar: 1 / z.abs().max()),
            "You divided by the largest latent. That brings them between −1 and 1, as pictures are. It is "
            "the standard deviation that has to become 1.",
            about="formula",
        ),
        Misconception(
            "centred",
            _centred,
            "You took the mean away, too. Latents are multiplied by one number and by nothing else, or the "
            "decoder would have to know the mean.",
            about="extra",
        ),
        Misconception(
            "divided-by-the-scale",
            _divided_by_the_scale,
            "The scale is right, but you divided the latents by it. They are multiplied by it.",
            about="direction",
        ),
        Misconception(
            "not-scaled",
            _not_scaled,
            "The scale is right, but the latents that you returned are not multiplied by it.",
            about="missing",
        ),
        Misconception(
            "scaled-twice",
            _scaled_twice,
            "The scale is right, but you multiplied the latents by it twice.",
            about="extra",
        ),
        Misconception(
            "divided-in-place",
            _divided_in_place,
            "The numbers are right, but you wrote them into the caller's own mean: it is not the mean any "
            "more. Make new tensors.",
            about="extra",
        ),
        Misconception(
            "inverse-returned",
            lambda mean, logvar, noise: (
                scaled_latents(mean, logvar, noise)[0],
                1 / scaled_latents(mean, logvar, noise)[1],
            ),
            "The latents are right. Beside them you returned the standard deviation: asked is the factor "
            "that they were multiplied by.",
            about="direction",
        ),
    ],
    alternatives=[_by_numbers, _scaled_by(lambda z, mean, logvar: ((z - z.mean()) ** 2).mean() ** -0.5)],
    builds_on=[DRAW],
    call=_with_number,
    hints=(
        "The noise schedule takes for granted that its data have a standard deviation of about 1. So draw "
        "the latents, measure theirs, and divide it away.",
        "s = 1/std(z), over all pictures, channels and places together; the latents are s·z.",
        "`latents = draw_latents(…)`, `scale = 1 / …`, `return …, scale`: two things.",
    ),
    rtol=5e-3,
)


# 11.5 Debug: the scale, twice -------------------------------------------------------------------------


def draw_pictures(denoiser: Denoiser, vae: Any, noise: Tensor, levels: list[Level]) -> Tensor:
    """`sample`, then the decoder, which knows its scale; the denoiser is one of x and level alone."""
    return vae.decode(sample(lambda x, level, condition=None: denoiser(x, level), noise, levels))


def _with_decoder(
    answer: Callable[..., Any],
    path: str,
    steps: int,
    noise: Tensor,
    scale: float,
    centre: float,
    spread: float,
    mixed: Tensor,
) -> dict[str, Any]:
    """What an answer draws with an exact denoiser of latents and a small decoder, and what was decoded."""
    exact, decoded = gaussian(centre, spread), list[int]()

    def denoiser(x: Tensor, level: Level, condition: Any = None) -> Any:
        return exact(x, level)

    def decode(z: Tensor) -> Tensor:
        decoded.append(len(z))
        colours = torch.einsum("oc,bchw->bohw", mixed.to(z), z / scale)
        return F.interpolate(1.8 * torch.tanh(colours), scale_factor=2)

    vae = SimpleNamespace(config=SimpleNamespace(scale=scale), decode=decode)
    pictures = answer(denoiser, vae, noise, PATHS[path]().levels(steps))
    return {"pictures": pictures, "latents that were decoded": sum(decoded)}


def _walk(
    end: Callable[[Tensor, Any], Tensor] = lambda x, vae: vae.decode(x),
    start: Callable[[Tensor, Any], Tensor] = lambda noise, vae: noise,
    seen: Callable[[Tensor, Any], Tensor] = lambda x, vae: x,
    guess: Callable[[Tensor], Tensor] = lambda x0: x0,
    each: Callable[[Tensor, Any], Any] = lambda x0, vae: None,
    pairs: Callable[[list[Level]], list[tuple[Level, Level]]] = lambda levels: list(pairwise(levels)),
) -> Callable[..., Tensor]:
    """The sampler with one part changed."""

    def answer(denoiser: Denoiser, vae: Any, noise: Tensor, levels: list[Level]) -> Tensor:
        x = start(noise, vae)
        for now, after in pairs(levels):
            x0, eps = denoiser(seen(x, vae), now)
            x0 = guess(x0)
            each(x0, vae)
            x = (after.alpha * x0 + after.sigma * eps).to(noise.dtype)
        return end(x, vae)

    return answer


def _latent_noise(
    path: str,
    steps: tuple[int, int],
    scale: tuple[float, float],
    batch: int,
    channels: int,
    height: int,
    width: int,
) -> Make:
    def make(g: torch.Generator) -> dict[str, Any]:
        return {
            "path": path,
            "steps": whole(g, *steps),
            "noise": normal(g, batch, channels, height, width),
            "scale": number(g, *scale),
            "centre": number(g, 0.2, 0.4),
            "spread": number(g, 0.9, 1.2),
            "mixed": 0.3 * normal(g, 3, channels),
        }

    return make


def _twice_figure(reference: Callable[..., Any]) -> Any:
    """A digit as the latent, so that one sees what a wrong scale does."""
    digit, scale = 0.8 * figures.digits(9)[3:4], 0.6
    vae = SimpleNamespace(config=SimpleNamespace(scale=scale), decode=lambda z: 0.6 * z / scale)
    level = DiscreteVP(cosine_betas())(0)

    def knows(x: Tensor, level: Level, condition: Any = None) -> Any:
        return Estimate.from_x0(digit, x, level)

    levels = [DiscreteVP(cosine_betas())(500), level]
    right = reference(knows, vae, figures.noise(1, 1, 16, 16), levels)[0]
    return figures.strip([right, right / scale], ["right", "with the bug"])


PICTURES = Exercise(
    id="11.5",
    name="draw_pictures",
    title="Colours that shout",
    kind="debug",
    difficulty=2,
    minutes=10,
    reference=draw_pictures,
    call=_with_decoder,
    planted="scale-applied-twice",
    cases=[
        Case(
            "three pictures from latents of four channels",
            _latent_noise("cosine", (6, 9), (0.5, 0.7), 3, 4, 5, 6),
        ),
        Case(
            "two pictures, a small scale, as Stable Diffusion's",
            _latent_noise("linear", (4, 6), (0.17, 0.2), 2, 4, 6, 5),
        ),
        Case("a scale above 1", _latent_noise("straight", (5, 7), (1.5, 2.5), 4, 2, 3, 5)),
        Case("one step", _latent_noise("cosine", (1, 1), (0.3, 0.4), 2, 3, 6, 4)),
    ],
    misconceptions=[
        Misconception(
            "scale-applied-twice",
            _walk(end=lambda x, vae: vae.decode(x / vae.config.scale)),
            "vae.decode divides by the scale already: here it is divided by twice.",
            about="extra",
        ),
        Misconception(
            "multiplied-at-the-end",
            _walk(end=lambda x, vae: vae.decode(x * vae.config.scale)),
            "Now the latents are multiplied by the scale, and vae.decode divides by it: the decoder gets "
            "them as the diffusion model made them. Hand them over as they are: the scale is the decoder's "
            "business.",
            about="direction",
        ),
        Misconception(
            "divided-in-every-step",
            _walk(seen=lambda x, vae: x / vae.config.scale),
            "You divide by the scale before each call of the denoiser. It was trained on scaled latents: "
            "give it x as it is.",
            about="input",
        ),
        Misconception(
            "spread-brought-to-1",
            _walk(end=lambda x, vae: vae.decode(x / x.std())),
            "You brought what the sampler ends with to a standard deviation of 1. The scale is one number of "
            "the whole data set: hand the latents over as they are.",
            about="extra",
        ),
        Misconception(
            "noise-scaled",
            _walk(
                start=lambda noise, vae: noise * vae.config.scale,
                end=lambda x, vae: vae.decode(x / vae.config.scale),
            ),
            "You scaled the noise at the start, and the bug is still there. The model was trained on noise "
            "of standard deviation 1: leave it as it is. Who divides by the scale at the end?",
            about="input",
        ),
        Misconception(
            "noise-scaled-alone",
            _walk(start=lambda noise, vae: noise * vae.config.scale),
            "The decoder gets the right thing now: the cause is found. But you scale the noise at the start, "
            "and the model was trained on noise of standard deviation 1.",
            about="extra",
        ),
        Misconception(
            "guesses-clipped",
            _walk(guess=lambda x0: x0.clamp(-1, 1)),
            "The cause is found. But you cut x̂₀, or the latents at the end, to [−1, 1], as with pictures. "
            "Latents have a standard deviation of 1, so a third of them lie beyond.",
            about="extra",
        ),
        Misconception(
            "symptom-hidden",
            _walk(end=lambda x, vae: vae.decode(x / vae.config.scale).clamp(-1, 1)),
            "You cut the pictures to [−1, 1]. That hides the symptom where it is strongest: the latents are "
            "still divided by the scale twice.",
            about="reading",
        ),
        Misconception(
            "pictures-clipped",
            _walk(end=lambda x, vae: vae.decode(x).clamp(-1, 1)),
            "The cause is found. But you cut the pictures to [−1, 1]; asked are they as the decoder draws "
            "them.",
            about="extra",
        ),
        Misconception(
            "pictures-scaled",
            _walk(end=lambda x, vae: vae.decode(x / vae.config.scale) * vae.config.scale),
            "You multiply the pictures to make up for the latents. A real decoder is not linear, so that "
            "does not help: hand it the right latents.",
            about="order",
        ),
        Misconception(
            "last-step-left-out",
            _walk(pairs=lambda levels: list(pairwise(levels))[:-1] or list(pairwise(levels[::-1]))),
            "The last step, to t = 0, is left out now: the latents still hold noise.",
            about="index",
        ),
        Misconception(
            "decoded-in-every-step",
            _walk(each=lambda x0, vae: vae.decode(x0)),
            "The pictures are right, but you decode in every step. The decoder is needed once, at the end: "
            "that is where the saving comes from.",
            about="extra",
        ),
        Misconception(
            "latents-returned",
            _walk(end=lambda x, vae: x),
            "You returned the latents. Pictures are asked for: decode them.",
            about="missing",
        ),
        Misconception(
            "guess-decoded",
            _walk(end=lambda x, vae: vae.decode(2 * x)),
            "The decoder gets latents that are too large by a constant. What the sampler ends with is what "
            "vae.decode takes.",
            about="factor",
        ),
    ],
    alternatives=[
        _walk(),
        lambda denoiser, vae, noise, levels: torch.cat(
            [vae.decode(sample(denoiser, one[None], levels)) for one in noise]
        ),
    ],
    hints=(
        "Read what vae.decode promises. Which latents does it take: those of the diffusion model, or those "
        "of the encoder?",
        "The encoder's latents times the scale are the diffusion model's. vae.decode takes the latter and "
        "divides by the scale itself.",
        "Only the last line is wrong.",
    ),
    figure=_twice_figure,
    figure_alt="A grey digit 3, and the same with the planted bug: its contrast is too strong.",
)


# 11.6 When the autoencoder has paid for itself ---------------------------------------------------------


def break_even(pixel: float, latent: float, training: float, encoding: float, rows: int) -> int:
    """Steps until what is saved in each makes up for the autoencoder and for encoding the data."""
    return math.ceil((training + encoding * rows) / (pixel - latent))


def _run(
    pixel: tuple[float, float],
    latent: tuple[float, float],
    training: tuple[float, float],
    rows: tuple[int, int],
    encoding: tuple[float, float] = (0.002, 0.02),
) -> Make:
    return lambda g: {
        "pixel": number(g, *pixel),
        "latent": number(g, *latent),
        "training": number(g, *training),
        "encoding": number(g, *encoding),
        "rows": whole(g, *rows),
    }


def _just(g: torch.Generator, later: float = 0) -> dict[str, Any]:
    """Fractions that have no rounding: the costs are equal after a whole number of steps, or a part later."""
    saved, steps = whole(g, 4, 30) / 16, whole(g, 100, 300)
    rows, latent = whole(g, 64, 128), whole(g, 2, 9) / 16
    return {
        "pixel": latent + saved,
        "latent": latent,
        "training": saved * (steps + later) - rows / 64,
        "encoding": 1 / 64,
        "rows": rows,
    }


def _costs(change: Callable[[float, float, float, float, int], float]) -> Callable[..., Any]:
    return lambda pixel, latent, training, encoding, rows: change(pixel, latent, training, encoding, rows)


def _by_whole_steps(pixel: float, latent: float, training: float, encoding: float, rows: int) -> int:
    steps = 0
    while steps * pixel < training + encoding * rows + steps * latent:
        steps += 1
    return steps


def _even_figure(reference: Callable[..., Any]) -> Any:
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(4.6, 2.6), layout="constrained")
    costs = {"pixel": 0.5, "latent": 0.1, "training": 120.0, "encoding": 0.01, "rows": 4000}
    steps = torch.arange(0, 801)
    axis.plot(steps.numpy(), (0.5 * steps).numpy(), "--", marker="", label="pixels")
    axis.plot(steps.numpy(), (160 + 0.1 * steps).numpy(), "-", marker="", label="latents")
    axis.axvline(reference(**costs), color="gray", linestyle=":")
    axis.set(xlabel="training steps", ylabel="seconds in all", ylim=0)
    axis.legend(frameon=False)
    return figure


EVEN = Exercise(
    id="11.6",
    name="break_even",
    title="When has it paid?",
    kind="stretch",
    difficulty=1,
    minutes=6,
    reference=break_even,
    cases=[
        Case(
            "pixels that cost a few times as much", _run((0.4, 0.6), (0.08, 0.12), (100, 200), (3000, 5000))
        ),
        Case("a large data set", _run((1.0, 2.0), (0.2, 0.3), (50, 90), (40000, 60000))),
        Case(
            "hardly a difference in each step",
            _run((0.3, 0.32), (0.26, 0.28), (30, 60), (40, 90), (0.2, 0.4)),
        ),
        Case("costs that are equal after a whole number of steps", _just),
        Case("costs that are equal a quarter of a step later", lambda g: _just(g, 0.25)),
    ],
    misconceptions=[
        Misconception(
            "rounded-down",
            _costs(lambda p, z, a, e, n: math.floor((a + e * n) / (p - z))),
            "You rounded down. After so many steps latents are still a little dearer: take the next whole "
            "number.",
            about="rounding",
        ),
        Misconception(
            "rounded-to-the-nearest",
            _costs(lambda p, z, a, e, n: round((a + e * n) / (p - z))),
            "You rounded to the nearest whole number. After so many steps latents may still be a little "
            "dearer: round up.",
            about="rounding",
        ),
        Misconception(
            "one-more",
            _costs(lambda p, z, a, e, n: math.floor((a + e * n) / (p - z)) + 1),
            "You count one step too many where both cost the same: as cheap is enough. Round up.",
            about="boundary",
        ),
        Misconception(
            "not-whole",
            _costs(lambda p, z, a, e, n: (a + e * n) / (p - z)),
            "You returned a fraction. Steps are whole: round up.",
            about="rounding",
        ),
        Misconception(
            "by-the-pixel-step",
            _costs(lambda p, z, a, e, n: math.ceil((a + e * n) / p)),
            "You divided by the cost of a pixel step. Each step saves the *difference* of the two.",
            about="missing",
        ),
        Misconception(
            "by-the-latent-step",
            _costs(lambda p, z, a, e, n: math.ceil((a + e * n) / z)),
            "You divided by the cost of a latent step. Each step saves the *difference* of the two.",
            about="input",
        ),
        Misconception(
            "by-the-sum",
            _costs(lambda p, z, a, e, n: math.ceil((a + e * n) / (p + z))),
            "You divided by the sum of both costs. Each step saves the *difference* of the two.",
            about="sign",
        ),
        Misconception(
            "encoding-forgotten",
            _costs(lambda p, z, a, e, n: math.ceil(a / (p - z))),
            "Encoding the data is missing: each of the rows costs `encoding` seconds, once.",
            about="missing",
        ),
        Misconception(
            "one-row-encoded",
            _costs(lambda p, z, a, e, n: math.ceil((a + e) / (p - z))),
            "You counted the encoding of one picture. All rows are encoded, once each.",
            about="missing",
        ),
        Misconception(
            "training-forgotten",
            _costs(lambda p, z, a, e, n: math.ceil(e * n / (p - z))),
            "The autoencoder's own training is missing. It has to be paid, too.",
            about="missing",
        ),
        Misconception(
            "encoding-subtracted",
            _costs(lambda p, z, a, e, n: math.ceil((a - e * n) / (p - z))),
            "You subtracted the seconds of the encoding. They come on top.",
            about="sign",
        ),
        Misconception(
            "encoded-in-every-step",
            _costs(lambda p, z, a, e, n: math.ceil(a / max(p - z - e, 1e-3))),
            "You encode in every step. The data are encoded once, before training: encoding·rows seconds.",
            about="reading",
        ),
    ],
    alternatives=[
        _by_whole_steps,
        lambda pixel, latent, training, encoding, rows: math.ceil(
            (rows * encoding + training) / -(latent - pixel)
        ),
    ],
    hints=(
        "Two straight lines over the number of steps. One starts at 0 and is steep, the other starts higher "
        "and is flat. Where do they meet?",
        "k·pixel ≥ training + encoding·rows + k·latent. Solve it for k, and take the first whole number.",
        "`math.ceil(… / …)`: what has to be paid once, over what each step saves.",
    ),
    figure=_even_figure,
    figure_alt="Seconds over training steps as two lines. Pixels start at 0 and are steep, latents start at "
    "160 and are flat; they meet at 400 steps.",
)

EXERCISES = [DRAW, KL, AUTOENCODER, SCALE, PICTURES, EVEN]
