"""Lesson 09, classifier guidance: the gradient, the guided ε, what the scale asks for, noise, the walk."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusion_lessons.course.bank import figures
from diffusion_lessons.course.bank.inputs import cosine, data, falling, linear, normal, number, several, whole
from diffusion_lessons.course.exercises.exercise import Case, Exercise, Misconception
from diffusion_lessons.guidance import ClassifierGuidance, Clip, class_gradient
from diffusion_lessons.losses import classifier_loss
from diffusion_lessons.mixtures import GaussianMixture
from diffusion_lessons.paths import DiscreteVP, Level
from diffusion_lessons.samplers import ddim_step, trajectory
from diffusion_lessons.schedules import cosine_betas
from diffusion_lessons.targets import Estimate

Make = Callable[[torch.Generator], dict[str, Any]]
MEANS, STDS = ((-1.0, -0.5), (1.0, -0.6), (0.1, 1.0)), (0.2, 0.1, 0.15)


# 09.1 The gradient of a classifier ------------------------------------------------------------------


def _class_gradient(classify: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    return class_gradient(classify, x, y)


def _gradient_of(value: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """The gradient in x of a number made of logits (B, K) and labels (B,)."""

    def gradient(classify: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
        with torch.enable_grad():
            point = x.detach().requires_grad_()
            return torch.autograd.grad(value(classify(point), y), point)[0]

    return gradient


def _switched_off(classify: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    point = x.detach().requires_grad_()
    return torch.autograd.grad(_chosen(classify(point).log_softmax(1), y).sum(), point)[0]


def _chosen(rows: Tensor, y: Tensor) -> Tensor:
    return rows.gather(1, y[:, None])


def _unit_gradient(classify: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    gradient = _class_gradient(classify, x, y)
    return gradient / gradient.flatten(1).norm(dim=1).view(-1, *[1] * (x.ndim - 1))


def _gradient_signs(classify: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    return _class_gradient(classify, x, y).sign()


def _by_backward(classify: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    with torch.enable_grad():
        point = x.clone().requires_grad_(True)
        F.cross_entropy(classify(point), y, reduction="sum").backward()
    assert point.grad is not None
    return -point.grad


def _one_by_one(classify: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    rows = []
    for one, label in zip(x, y, strict=True):
        with torch.set_grad_enabled(True):
            z = one[None].clone().requires_grad_()
            logits = classify(z)[0]
            rows += torch.autograd.grad(logits[label] - logits.logsumexp(0), z)
    return torch.cat(rows)


def _under_no_grad(answer: Callable[..., Any], x: Tensor, y: Tensor, inner: Tensor, outer: Tensor) -> Any:
    """As a sampler calls it: with gradients switched off. The classifier has one hidden layer."""

    def classify(x: Tensor) -> Tensor:
        return torch.tanh(x.flatten(1) @ inner) @ outer  # (B, K)

    with torch.no_grad():
        return answer(classify, x, y)


def _classified(labels: Callable[[torch.Generator], list[int]], classes: int, *shape: int) -> Make:
    def make(g: torch.Generator) -> dict[str, Any]:
        y = torch.tensor(labels(g))
        x = normal(g, len(y), *shape)
        inner = normal(g, x[0].numel(), 6) / x[0].numel() ** 0.5
        return {"x": x, "y": y, "inner": inner, "outer": 2 * normal(g, 6, classes)}

    return make


def _very_sure(g: torch.Generator) -> dict[str, Any]:
    """Logits of over a thousand, in float64: in float32 right answers would differ by their rounding."""
    made = {
        name: value.double() for name, value in _classified(_labels(6, 6), 6, 3)(g).items() if name != "y"
    }
    return made | {"outer": 500 * made["outer"], "y": torch.tensor(_labels(6, 6)(g))}


def _labels(n: int, classes: int) -> Callable[[torch.Generator], list[int]]:
    """n labels, all of the classes among them where there is room, in no order."""

    def draw(g: torch.Generator) -> list[int]:
        order = several(g, classes, 0, classes - 1)
        return [order[i % classes] for i in several(g, n, 0, n - 1)]

    return draw


def _of_one_class(g: torch.Generator) -> list[int]:
    return [whole(g, 0, 2)] * 2


def _quiver_figure(reference: Callable[..., Tensor]) -> Any:
    from matplotlib import pyplot

    mixture, path = GaussianMixture(MEANS, STDS), DiscreteVP(cosine_betas())
    side = torch.linspace(-1.8, 1.8, 10)
    x = torch.cartesian_prod(side, side)  # (100, 2)
    figure, axes = pyplot.subplots(1, 2, figsize=(5.6, 2.7), sharey=True, layout="constrained")
    for axis, t in zip(axes, (300, 700), strict=True):
        level = path(t)

        def classify(x: Tensor, level: Level = level) -> Tensor:
            return mixture.log_joint(x, level)

        arrows = reference(classify, x, torch.full((100,), 1))
        axis.quiver(*x.T.numpy(), *arrows.T.numpy(), color="#0072B2", width=0.007)
        for k, (mean, mark) in enumerate(zip(MEANS, "so^", strict=True)):
            place = float(level.alpha) * torch.tensor(mean)
            axis.plot(*place.tolist(), mark, color="#D55E00" if k == 1 else "black", ms=8)
        axis.set(title=f"t = {t}", xlim=(-2, 2), ylim=(-2, 2))
    return figure


CLASS_GRADIENT = Exercise(
    id="09.1",
    name="class_gradient",
    title="Which way is more like a 3?",
    kind="implement",
    difficulty=2,
    minutes=12,
    reference=_class_gradient,
    cases=[
        Case("five points in the plane, three classes", _classified(_labels(5, 3), 3, 2)),
        Case("three pictures, four classes", _classified(_labels(3, 4), 4, 1, 6, 5)),
        Case("two colour pictures of the same class", _classified(_of_one_class, 3, 3, 4, 5)),
        Case("a classifier that is very sure, and mostly of another class", _very_sure),
    ],
    misconceptions=[
        Misconception(
            "gradients-switched-off",
            _switched_off,
            "Autograd has recorded no way from log p back to x, so there is no gradient to ask for. A "
            "sampler runs under torch.no_grad(), and so do your lines: open `with torch.enable_grad():` "
            "around them, let a detached x require its gradient in there, and detach nothing after that.",
            about="gradient",
        ),
        Misconception(
            "gradient-of-the-logit",
            _gradient_of(lambda logits, y: _chosen(logits, y).sum()),
            "You took the gradient of the logit of class y. A logit can rise for all classes together, and "
            "then no class becomes more likely: log p(y|x) is the logit *minus* the logsumexp of them all, "
            "log_softmax.",
            about="missing",
        ),
        Misconception(
            "gradient-of-p",
            _gradient_of(lambda logits, y: _chosen(logits.softmax(1), y).sum()),
            "You took the gradient of p, not of log p. It is p times as long: where the class is far off and "
            "help is needed most, p is nearly 0 and so is your push.",
            about="formula",
        ),
        Misconception(
            "mean-over-the-batch",
            _gradient_of(lambda logits, y: _chosen(logits.log_softmax(1), y).mean()),
            "You differentiated the mean over the batch, so each gradient is divided by B: how hard a sample "
            "is pushed would depend on how many are drawn beside it. With the sum, each sample gets the "
            "gradient of its own term.",
            about="mean",
        ),
        Misconception(
            "uphill-for-the-loss",
            _gradient_of(lambda logits, y: F.cross_entropy(logits, y, reduction="sum")),
            "The sign is wrong: you have the gradient of the cross-entropy, −log p. It points away from the "
            "class. A loss is walked down; here we walk up.",
            about="sign",
        ),
        Misconception(
            "mean-of-the-loss",
            _gradient_of(lambda logits, y: F.cross_entropy(logits, y)),
            "You took the gradient of cross_entropy as training uses it. That is −log p, so the sign is "
            "wrong, and it is a mean over the batch, so it is divided by B.",
            about="sign",
        ),
        Misconception(
            "all-classes",
            _gradient_of(lambda logits, y: logits.log_softmax(1).sum()),
            "You added up the log-probabilities of all classes. That pushes towards a picture that could be "
            "anything: take only the wanted class of each sample, with gather(1, y[:, None]).",
            about="input",
        ),
        Misconception(
            "labels-of-the-others",
            _gradient_of(lambda logits, y: logits.log_softmax(1)[:, y].sum()),
            "log_p[:, y] takes the columns y in *every* row, so that each sample is pushed towards the "
            "labels of all the others too. One entry a row: log_p[range(len(y)), y], or gather.",
            about="batch",
        ),
        Misconception(
            "most-likely-class",
            _gradient_of(lambda logits, y: logits.log_softmax(1).amax(1).sum()),
            "You followed the class that the classifier already thinks most likely, and did not use y. The "
            "push must go to the wanted class, however unlikely it is now.",
            about="input",
        ),
        Misconception(
            "softmax-over-the-batch",
            _gradient_of(lambda logits, y: _chosen(logits.log_softmax(0), y).sum()),
            "Your softmax runs over the batch (dimension 0). The probabilities of one picture are over its "
            "classes: dimension 1.",
            about="axis",
        ),
        Misconception(
            "log-of-softmax",
            _gradient_of(lambda logits, y: _chosen(logits.softmax(1), y).log().sum()),
            "softmax, then log: where the classifier is sure of another class, p(y|x) rounds to 0, and the "
            "gradient of log 0 is not a number. log_softmax does both at once and stays finite.",
            about="order",
        ),
        Misconception(
            "gradient-of-all-logits",
            _gradient_of(lambda logits, y: logits.sum()),
            "You added up all logits, and y has no say. Take log_softmax, and of each sample the entry of "
            "its own class.",
            about="input",
        ),
        Misconception(
            "first-class-for-all",
            _gradient_of(lambda logits, y: logits.log_softmax(1)[:, int(y[0])].sum()),
            "You took the class of the first sample for all of them. Each has its own: gather(1, y[:, "
            "None]).",
            about="batch",
        ),
        Misconception(
            "unit-length",
            _unit_gradient,
            "You brought each gradient to length 1. Its length says how much there is to gain: it is used "
            "as it is.",
            about="extra",
        ),
        Misconception(
            "sign-of-the-gradient",
            _gradient_signs,
            "You took the sign of every entry. The gradient itself is asked for, with its lengths.",
            about="extra",
        ),
        Misconception(
            "step-taken",
            lambda classify, x, y: x + _class_gradient(classify, x, y),
            "You took the step: x plus the gradient. Asked is the gradient alone.",
            about="extra",
        ),
        Misconception(
            "log-p-returned",
            lambda classify, x, y: _chosen(classify(x).log_softmax(1), y)[:, 0],
            "You returned log p(y|x). Asked is its gradient in x, with the shape of x: torch.autograd.grad.",
            about="reading",
        ),
        Misconception(
            "rows-for-classes",
            _gradient_of(lambda logits, y: logits.log_softmax(1)[y].sum()),
            "log_p[y] takes rows, which are samples. The class is the second index, one entry a row: "
            "log_p[range(len(y)), y], or gather.",
            about="axis",
        ),
        Misconception(
            "sigmoid",
            _gradient_of(lambda logits, y: _chosen(F.logsigmoid(logits), y).sum()),
            "You took each class by itself, by a sigmoid. p(y|x) is a share among all classes: a softmax, "
            "log_softmax.",
            about="formula",
        ),
        Misconception(
            "log-of-the-logit",
            _gradient_of(lambda logits, y: _chosen(logits, y).log().sum()),
            "You took the logarithm of a logit. A logit is no probability: log p(y|x) is the logit minus the "
            "logsumexp of them all, log_softmax.",
            about="formula",
        ),
        Misconception(
            "largest-for-the-logsumexp",
            _gradient_of(lambda logits, y: (_chosen(logits, y)[:, 0] - logits.amax(1)).sum()),
            "You took the largest logit off. log p(y|x) is the logit minus the logsumexp of them all: "
            "log_softmax.",
            about="formula",
        ),
        Misconception(
            "mean-for-the-logsumexp",
            _gradient_of(lambda logits, y: (_chosen(logits, y)[:, 0] - logits.mean(1)).sum()),
            "You took the mean of the logits off. log p(y|x) is the logit minus the logsumexp of them all: "
            "log_softmax.",
            about="formula",
        ),
        Misconception(
            "indices-swapped",
            _gradient_of(lambda logits, y: logits.log_softmax(1)[y, torch.arange(len(y))].sum()),
            "The two indices have changed places: the sample comes first, and then its class, "
            "log_p[range(len(y)), y].",
            about="swap",
        ),
    ],
    alternatives=[_by_backward, _one_by_one],
    hints=(
        "You need the derivative of one number, log p(y|x), in every pixel of x. That is what autograd is "
        "for, only this time in the input and not in the weights; and gradients must be switched on.",
        "log p(y|x) = logit_y − log Σ_k exp(logit_k), one number a sample. The gradient of their *sum* over "
        "the batch is, for each sample, the gradient of its own.",
        "`with torch.enable_grad():`, then `z = x.detach().requires_grad_()`, then "
        "`log_p = classify(z).log_softmax(1)`, pick the entries of y, and "
        "`torch.autograd.grad(….sum(), z)[0]`.",
    ),
    call=_under_no_grad,
    figure=_quiver_figure,
    figure_alt="Three clusters and the gradient of log p(right cluster | x) on a grid, at t = 300 and t = "
    "700. All arrows point towards the side of the right cluster; near it they vanish, and at t = 300 they "
    "are long on the far side.",
)


# 09.2 The guided ε ----------------------------------------------------------------------------------


def guided_eps(eps: Tensor, gradient: Tensor, alpha_bar: Tensor, scale: float) -> Tensor:
    """ε − scale·σ·∇ log p(y | x_t), by the package's own guidance at that level."""
    level = Level(torch.zeros(()), alpha_bar.double().sqrt(), (1 - alpha_bar.double()).sqrt())

    def linear(x: Tensor, level: Level) -> Tensor:
        """Logits whose log-odds have this gradient at every x."""
        log_odds = (gradient * x).flatten(1).sum(1)
        return torch.stack([log_odds, 0 * log_odds], 1) + torch.tensor([-1e4, 0.0], device=x.device)

    def plain(x: Tensor, level: Level, condition: Any = None) -> Estimate:
        return Estimate(x, eps)

    guidance = ClassifierGuidance(plain, linear, scale)
    return guidance(
        torch.zeros_like(eps), level, torch.zeros(len(eps), dtype=torch.long, device=eps.device)
    ).eps


def _pushed(
    factor: Callable[[Tensor, float], Tensor | float], keep: float = 1.0
) -> Callable[[Tensor, Tensor, Tensor, float], Tensor]:
    """keep·ε − factor(ᾱ, scale)·gradient."""
    return lambda eps, gradient, alpha_bar, scale: keep * eps - factor(alpha_bar, scale) * gradient


def _sigma(alpha_bar: Tensor) -> Tensor:
    return (1 - alpha_bar).sqrt()


def _through_the_score(eps: Tensor, gradient: Tensor, alpha_bar: Tensor, scale: float) -> Tensor:
    score = -eps / _sigma(alpha_bar)
    return -_sigma(alpha_bar) * (score + scale * gradient)


def _unit_length(eps: Tensor, gradient: Tensor, alpha_bar: Tensor, scale: float) -> Tensor:
    length = gradient.flatten(1).norm(dim=1).view(-1, *[1] * (gradient.ndim - 1))
    return eps - scale * _sigma(alpha_bar) * gradient / length


def _push(alpha_bar: tuple[float, float], scale: tuple[float, float], *shape: int) -> Make:
    """Each between two bounds."""
    return lambda g: {
        "eps": normal(g, *shape),
        "gradient": 2 * normal(g, *shape),
        "alpha_bar": torch.tensor(number(g, *alpha_bar)),
        "scale": number(g, *scale),
    }


def _push_figure(reference: Callable[..., Tensor]) -> Any:
    from matplotlib import pyplot

    mixture, path = GaussianMixture(MEANS, STDS), DiscreteVP(cosine_betas())
    level, side = path(500), torch.linspace(-1.8, 1.8, 10)
    x = torch.cartesian_prod(side, side)
    gradient = class_gradient(lambda x: mixture.log_joint(x, level), x, torch.full((100,), 1))
    figure, axes = pyplot.subplots(1, 2, figsize=(5.6, 2.7), sharey=True, layout="constrained")
    for axis, scale in zip(axes, (0.0, 1.0), strict=True):
        arrows = -reference(mixture(x, level).eps, gradient, level.alpha**2, scale)
        axis.quiver(*x.T.numpy(), *arrows.T.numpy(), color="#0072B2", width=0.007, scale=40)
        for k, (mean, mark) in enumerate(zip(MEANS, "so^", strict=True)):
            place = float(level.alpha) * torch.tensor(mean)
            axis.plot(*place.tolist(), mark, color="#D55E00" if k == 1 else "black", ms=8)
        axis.set(title=f"−ε̂ at t = 500, scale {scale:g}", xlim=(-2, 2), ylim=(-2, 2))
    return figure


GUIDED_EPS = Exercise(
    id="09.2",
    name="guided_eps",
    title="The guided noise",
    kind="reproduce",
    difficulty=1,
    minutes=8,
    reference=guided_eps,
    cases=[
        Case("two pictures, some noise, scale above 1", _push((0.55, 0.75), (2.0, 3.0), 2, 1, 6, 5)),
        Case("five points, little noise, scale 1", _push((0.9, 0.98), (1.0, 1.0), 5, 2)),
        Case("two colour pictures, mostly noise, a large scale", _push((0.05, 0.2), (5.0, 8.0), 2, 3, 4, 6)),
        Case("scale 0: the guess stays as it is", _push((0.4, 0.6), (0.0, 0.0), 2, 1, 5, 4)),
    ],
    misconceptions=[
        Misconception(
            "sign",
            _pushed(lambda alpha_bar, scale: -scale * _sigma(alpha_bar)),
            "The sign is wrong: you added. The score is −ε/σ, so what is added to the score is subtracted "
            "from the noise. As it is, samples are driven *away* from the class.",
            about="sign",
        ),
        Misconception(
            "sigma-forgotten",
            _pushed(lambda alpha_bar, scale: scale),
            "σ = √(1 − ᾱ) is missing. ε is −σ times the score, so the classifier's part of the score is "
            "multiplied by σ too. Without it the push is too strong wherever there is little noise.",
            about="missing",
        ),
        Misconception(
            "variance-for-sigma",
            _pushed(lambda alpha_bar, scale: scale * (1 - alpha_bar)),
            "You multiplied by 1 − ᾱ. That is the variance σ²; ε is −σ times the score, so the factor is its "
            "root. (σ² belongs to the shift of x̂₀ and of the posterior's mean.)",
            about="root",
        ),
        Misconception(
            "alpha-for-sigma",
            _pushed(lambda alpha_bar, scale: scale * alpha_bar.sqrt()),
            "You multiplied by √ᾱ, the factor of the picture. What turns a score into noise is the factor of "
            "the noise, σ = √(1 − ᾱ).",
            about="input",
        ),
        Misconception(
            "divided-by-sigma",
            _pushed(lambda alpha_bar, scale: scale / _sigma(alpha_bar)),
            "You divided by σ. That is the way from ε to the score; here the gradient is a score, and "
            "becomes a noise by multiplying.",
            about="direction",
        ),
        Misconception(
            "scale-forgotten",
            _pushed(lambda alpha_bar, scale: _sigma(alpha_bar)),
            "The scale has no say in your result: you pushed with 1 whatever it is. It multiplies the "
            "classifier's part, so that 0 leaves the model alone.",
            about="missing",
        ),
        Misconception(
            "scale-minus-one",
            _pushed(lambda alpha_bar, scale: (scale - 1) * _sigma(alpha_bar)),
            "You pushed with scale − 1. Some papers count so, from the conditional model. Here ε knows "
            "nothing of y: scale 0 leaves it as it is, and scale 1 is Bayes' rule.",
            about="factor",
        ),
        Misconception(
            "scale-plus-one",
            _pushed(lambda alpha_bar, scale: (scale + 1) * _sigma(alpha_bar)),
            "You pushed with scale + 1. At scale 0 nothing must be left of the push, and yours still has a "
            "whole one.",
            about="factor",
        ),
        Misconception(
            "scale-squared",
            _pushed(lambda alpha_bar, scale: scale**2 * _sigma(alpha_bar)),
            "The scale comes in twice. The logarithm of p(y|x)^s is s·log p(y|x): its gradient is s times as "
            "long, no more.",
            about="factor",
        ),
        Misconception(
            "push-alone",
            _pushed(lambda alpha_bar, scale: scale * _sigma(alpha_bar), keep=0.0),
            "You returned the push alone and lost ε, which is the part that knows what pictures look like. "
            "The classifier's term is added to the model's; it does not replace it.",
            about="missing",
        ),
        Misconception(
            "a-mixture",
            lambda eps, gradient, alpha_bar, scale: torch.lerp(eps, -_sigma(alpha_bar) * gradient, scale),
            "You mixed the two with weights 1 − scale and scale, so that at scale 1 nothing of the model is "
            "left. Bayes' rule *adds*: ε keeps its weight 1 at every scale.",
            about="formula",
        ),
        Misconception(
            "unit-length",
            _unit_length,
            "You brought each gradient to length 1. Its length says how unsure the classifier still is: "
            "where the class is plain to see it is 0, and the model must be left alone.",
            about="extra",
        ),
        Misconception(
            "variance-of-the-picture",
            _pushed(lambda alpha_bar, scale: scale * alpha_bar),
            "You multiplied by ᾱ, the picture's share of the variance. What turns a score into noise is σ = "
            "√(1 − ᾱ), the factor of the noise.",
            about="input",
        ),
        Misconception(
            "one-minus-the-root",
            _pushed(lambda alpha_bar, scale: scale * (1 - alpha_bar.sqrt())),
            "You multiplied by 1 − √ᾱ. It is √(1 − ᾱ), the root of the whole difference.",
            about="root",
        ),
        Misconception(
            "score-returned",
            lambda eps, gradient, alpha_bar, scale: -eps / _sigma(alpha_bar) + scale * gradient,
            "You returned the guided score. It is right; asked is the noise, ε = −σ·score.",
            about="reading",
        ),
        Misconception(
            "everything-scaled",
            lambda eps, gradient, alpha_bar, scale: scale * (eps - _sigma(alpha_bar) * gradient),
            "The scale multiplies ε as well. It belongs to the classifier's part alone: at scale 0 the "
            "model is left as it is.",
            about="factor",
        ),
        Misconception(
            "mean-shifted",
            _pushed(lambda alpha_bar, scale: scale * (1 - alpha_bar) / alpha_bar.sqrt()),
            "You multiplied by σ²/α. That is how x̂₀ is shifted (upwards); the noise is shifted by σ.",
            about="formula",
        ),
        Misconception(
            "scale-added",
            _pushed(lambda alpha_bar, scale: scale + _sigma(alpha_bar)),
            "You added scale and σ. They multiply: scale·σ·gradient.",
            about="formula",
        ),
        Misconception(
            "push-clipped",
            lambda eps, gradient, alpha_bar, scale: eps - (scale * _sigma(alpha_bar) * gradient).clamp(-1, 1),
            "You cut the push to [−1, 1]. How long it is says how much there is to gain: it is used as it "
            "is.",
            about="extra",
        ),
        Misconception(
            "all-times-sigma",
            lambda eps, gradient, alpha_bar, scale: _sigma(alpha_bar) * (eps - scale * gradient),
            "σ multiplies ε as well. ε is a noise already: only the gradient, which is a score, becomes one "
            "by σ.",
            about="factor",
        ),
        Misconception(
            "scale-at-least-1",
            lambda eps, gradient, alpha_bar, scale: eps - max(scale, 1) * _sigma(alpha_bar) * gradient,
            "You raise scales below 1 to 1. They are asked for, too: at scale 0 the model is left as it is.",
            about="boundary",
        ),
        Misconception(
            "noise-over-picture",
            _pushed(lambda alpha_bar, scale: scale * ((1 - alpha_bar) / alpha_bar).sqrt()),
            "You multiplied by σ/√ᾱ. What turns a score into noise is σ = √(1 − ᾱ) alone.",
            about="extra",
        ),
        Misconception(
            "no-push-up-to-1",
            lambda eps, gradient, alpha_bar, scale: guided_eps(
                eps, gradient, alpha_bar, scale if scale > 1 else 0.0
            ),
            "You push above scale 1 alone. Here 0 is no push, and 1 the push of Bayes' rule.",
            about="boundary",
        ),
    ],
    alternatives=[_pushed(lambda alpha_bar, scale: scale * _sigma(alpha_bar)), _through_the_score],
    hints=(
        "Bayes' rule adds two scores, the model's and the classifier's. You hold the model's as a noise, so "
        "bring the classifier's into the same units.",
        "score = −ε/σ with σ = √(1 − ᾱ). The guided score is −ε/σ + scale·gradient; solve "
        "−ε_guided/σ = that for ε_guided.",
        "One line: `return eps - scale * torch.sqrt(…) * gradient`.",
    ),
    figure=_push_figure,
    figure_alt="Arrows of −ε̂ on a grid around three noisy clusters at t = 500. At scale 0 they lead to "
    "whichever cluster is nearest; at scale 1 all of them lead to the right cluster.",
)


# 09.3 The wrong classifier --------------------------------------------------------------------------


def guided(denoiser: Any, classifier: Any, path: Any, x: Tensor, t: Tensor, y: Tensor, scale: float) -> Any:
    """ε pushed at the level of time t, and the x₀ that belongs to it."""
    level = path(t)
    gradient = _class_gradient(lambda z: classifier(z, level), x, y)
    eps = guided_eps(denoiser(x, level)[1], gradient, level.alpha**2, scale)
    alpha, sigma = level.like(x)
    return (x - sigma * eps) / alpha, eps


def _package_guided(
    denoiser: Any, classifier: Any, path: Any, x: Tensor, t: Tensor, y: Tensor, scale: float
) -> Any:
    """The package's guidance of a denoiser that takes no condition."""

    def alone(x: Tensor, level: Level, condition: Any = None) -> Estimate:
        return Estimate(*denoiser(x, level))

    estimate = ClassifierGuidance(alone, classifier, scale)(x, path(t), y)
    return estimate.x0, estimate.eps


def _guided_by(
    gradient: Callable[..., Tensor],
    strength: Callable[[Level], Tensor | float] = lambda level: 1.0,
    stale: bool = False,
) -> Callable[..., Any]:
    """Guidance put together from its parts; gradient(classifier, path, x, x0, level, y)."""

    def function(
        denoiser: Any, classifier: Any, path: Any, x: Tensor, t: Tensor, y: Tensor, scale: float
    ) -> Any:
        level = path(t)
        x0, eps = denoiser(x, level)
        push = gradient(classifier, path, x, x0, level, y)
        alpha, sigma = level.alpha.to(x.dtype), level.sigma.to(x.dtype)
        eps = eps - scale * strength(level) * sigma * push
        return (x0 if stale else (x - sigma * eps) / alpha), eps

    return function


def _at_level(classifier: Any, path: Any, x: Tensor, x0: Tensor, level: Level, y: Tensor) -> Tensor:
    return class_gradient(lambda z: classifier(z, level), x, y)


def _guess_moved(
    denoiser: Any, classifier: Any, path: Any, x: Tensor, t: Tensor, y: Tensor, scale: float
) -> Any:
    x0, eps = denoiser(x, path(t))
    pushed = guided(denoiser, classifier, path, x, t, y, scale)[1]
    return x0 + eps - pushed, pushed


def _as_if_clean(classifier: Any, path: Any, x: Tensor, x0: Tensor, level: Level, y: Tensor) -> Tensor:
    return class_gradient(lambda z: classifier(z, path(1)), x, y)


def _of_the_guess(classifier: Any, path: Any, x: Tensor, x0: Tensor, level: Level, y: Tensor) -> Tensor:
    return class_gradient(lambda z: classifier(z, path(1)), x0, y)


def _of_the_guess_at_level(
    classifier: Any, path: Any, x: Tensor, x0: Tensor, level: Level, y: Tensor
) -> Tensor:
    return class_gradient(lambda z: classifier(z, level), x0, y)


def _at_the_mean(classifier: Any, path: Any, x: Tensor, x0: Tensor, level: Level, y: Tensor) -> Tensor:
    return class_gradient(lambda z: classifier(z, level), level.alpha.to(x.dtype) * x0, y)


def _before(classifier: Any, path: Any, x: Tensor, x0: Tensor, level: Level, y: Tensor) -> Tensor:
    return class_gradient(lambda z: classifier(z, path(level.t - 1)), x, y)


def _after(classifier: Any, path: Any, x: Tensor, x0: Tensor, level: Level, y: Tensor) -> Tensor:
    return class_gradient(lambda z: classifier(z, path(level.t + 1)), x, y)


def _at_the_data(classifier: Any, path: Any, x: Tensor, x0: Tensor, level: Level, y: Tensor) -> Tensor:
    return class_gradient(lambda z: classifier(z, path(0)), x, y)


def _at_T(classifier: Any, path: Any, x: Tensor, x0: Tensor, level: Level, y: Tensor) -> Tensor:
    return class_gradient(lambda z: classifier(z, path(path.T)), x, y)


def _brightened(classifier: Any, path: Any, x: Tensor, x0: Tensor, level: Level, y: Tensor) -> Tensor:
    return class_gradient(lambda z: classifier(z, path(1)), x / level.alpha.to(x.dtype), y)


def _through_the_denoiser(
    denoiser: Any, classifier: Any, path: Any, x: Tensor, t: Tensor, y: Tensor, scale: float
) -> Any:
    def gradient(classifier: Any, path: Any, x: Tensor, x0: Tensor, level: Level, y: Tensor) -> Tensor:
        return class_gradient(lambda z: classifier(denoiser(z, level)[0], path(1)), x, y)

    return _guided_by(gradient)(denoiser, classifier, path, x, t, y, scale)


def _with_mixture(
    answer: Callable[..., Any], means: Tensor, stds: Tensor, x: Tensor, t: Tensor, y: Tensor, scale: float
) -> Any:
    """As a sampler asks: the exact denoiser and the exact classifier of a mixture, gradients off."""
    mixture, path = GaussianMixture(means, stds), DiscreteVP(cosine_betas())

    def denoiser(x: Tensor, level: Level) -> Estimate:
        return mixture(x, level)

    with torch.no_grad():
        x0, eps = answer(denoiser, mixture.log_joint, path, x, t, y, scale)
        return {"x0": x0, "eps": eps}


def _noisy_points(
    t: tuple[float, float], scale: tuple[float, float], n: int, classes: int, dims: int
) -> Make:
    """Time and scale between two bounds."""

    def make(g: torch.Generator) -> dict[str, Any]:
        means = normal(g, classes, dims).double()
        return {
            "means": means,
            "stds": 0.2 + 0.2 * torch.rand(classes, generator=g, dtype=torch.float64),
            "x": normal(g, n, dims).double(),
            "t": torch.tensor(number(g, *t), dtype=torch.float64),
            "y": torch.tensor(_labels(n, classes)(g)),
            "scale": number(g, *scale),
        }

    return make


def _between_times(g: torch.Generator) -> dict[str, Any]:
    made = _noisy_points((60, 90), (0.3, 0.7), 4, 3, 2)(g)
    return made | {"t": made["t"].floor() + number(g, 0.6, 0.8)}


def _guided_figure(reference: Callable[..., Any]) -> Any:
    from matplotlib import pyplot

    from diffusion_lessons.samplers import sample

    mixture, path = GaussianMixture(MEANS, STDS), DiscreteVP(cosine_betas())
    start, y = figures.noise(500, 2), torch.arange(3).repeat(167)[:500]

    def denoiser(x: Tensor, level: Level, condition: Any = None) -> Estimate:
        return Estimate(*reference(mixture, mixture.log_joint, path, x, level.t, y, 1.0))

    x = sample(denoiser, start, path.levels(40))
    figure, axis = pyplot.subplots(figsize=(3.4, 2.7), layout="constrained")
    for k, (mark, colour) in enumerate(zip("s^o", ("#0072B2", "#D55E00", "#009E73"), strict=True)):
        axis.plot(*x[y == k].T.numpy(), mark, color=colour, ms=3, label=f"asked for {k}", linestyle="")
    axis.set(xlim=(-2, 2), ylim=(-1.8, 1.8))
    axis.legend(frameon=False, fontsize=8, loc="upper right")
    return figure


GUIDED = Exercise(
    id="09.3",
    name="guided",
    title="The best classifier, and no use",
    kind="debug",
    difficulty=2,
    minutes=12,
    reference=guided,
    builds_on=[CLASS_GRADIENT, GUIDED_EPS],
    cases=[
        Case("four points half-way, scale 1", _noisy_points((450, 550), (1.0, 1.0), 4, 3, 2)),
        Case("five points near the end, a large scale", _noisy_points((120, 200), (2.5, 4.0), 5, 2, 3)),
        Case(
            "six points that are mostly noise, scale above 1", _noisy_points((800, 880), (1.5, 2.5), 6, 4, 2)
        ),
        Case("four points at a time that is not whole, scale below 1", _between_times),
    ],
    planted="asked-as-if-clean",
    misconceptions=[
        Misconception(
            "asked-as-if-clean",
            _guided_by(_as_if_clean),
            "The classifier is asked as if x were a clean picture, at the level of t = 1, although x is at "
            "t.",
            about="level",
        ),
        Misconception(
            "gradient-at-the-guess",
            _guided_by(_of_the_guess),
            "You showed the clean classifier the guess x̂₀, and took the gradient *there*. Sampling moves "
            "x_t, so the gradient of log p(y|x_t) is needed at x_t itself. The classifier can do that: tell "
            "it the level of x.",
            about="input",
        ),
        Misconception(
            "guess-at-a-noisy-level",
            _guided_by(_of_the_guess_at_level),
            "The classifier is told the level of x now: half of the cause. But you give it x̂₀, which is no "
            "sample of that level. Give it x_t, and take the gradient there.",
            about="input",
        ),
        Misconception(
            "gradient-at-the-mean",
            _guided_by(_at_the_mean),
            "You took the gradient at α·x̂₀, the mean of x_t, where the noise is gone. In this form it "
            "belongs at x_t itself: Bayes' rule holds for the score at the very x that the denoiser was "
            "asked about.",
            about="input",
        ),
        Misconception(
            "brightened",
            _guided_by(_brightened),
            "You divided x by α so that the picture in it has its full strength. The noise has grown with "
            "it: for a classifier of clean pictures it is as foreign as before. Ask it at the level of x.",
            about="extra",
        ),
        Misconception(
            "through-the-denoiser",
            _through_the_denoiser,
            "You showed the clean classifier x̂₀ and took the gradient through the denoiser. That is a "
            "known way round (universal guidance), but an approximation: p(y|x_t) is the mean of p(y|x₀) "
            "over all x₀ that x_t may hold, not p at their mean. This classifier knows the levels, so ask "
            "it at level t.",
            about="formula",
        ),
        Misconception(
            "only-turned-down",
            _guided_by(_as_if_clean, strength=lambda level: level.alpha),
            "You turned the push down where there is much noise. It still has the wrong direction there: the "
            "classifier takes x for a clean picture. Tell it the level of x.",
            about="level",
        ),
        Misconception(
            "one-time-too-early",
            _guided_by(_before),
            "You asked the classifier at t − 1, where the step leads. (The ancestral form of guidance takes "
            "the slope at the mean of the step, and there that is right.) Here x is at t, and so is the "
            "classifier.",
            about="level",
        ),
        Misconception(
            "stale-guess",
            _guided_by(_at_level, stale=True),
            "The classifier is asked at the right level now, and ε is right. But x̂₀ is still the one of "
            "before the push, so that the two no longer make up x. Work it out anew from the guided ε.",
            about="missing",
        ),
        Misconception(
            "not-guided",
            lambda denoiser, classifier, path, x, t, y, scale: tuple(denoiser(x, path(t))),
            "You left the guidance out: that is the plain estimate, and y has no say in it. Keep the push, "
            "and ask the classifier at the level of x.",
            about="missing",
        ),
        Misconception(
            "one-time-too-late",
            _guided_by(_after),
            "You asked the classifier at t + 1. x is at t, and so is the classifier.",
            about="level",
        ),
        Misconception(
            "told-no-noise",
            _guided_by(_at_the_data),
            "You asked the classifier at t = 0, cleaner still. x is a sample of time t: tell it that "
            "`level`.",
            about="level",
        ),
        Misconception(
            "told-most-noise",
            _guided_by(_at_T),
            "You asked the classifier at T, where it can tell nothing. x is a sample of time t: tell it that "
            "`level`.",
            about="level",
        ),
        Misconception(
            "scale-forgotten",
            lambda denoiser, classifier, path, x, t, y, scale: _guided_by(_at_level)(
                denoiser, classifier, path, x, t, y, 1.0
            ),
            "The classifier is asked at the right level now. But the scale has no say: it multiplies the "
            "push.",
            about="missing",
        ),
        Misconception(
            "pushed-away",
            _guided_by(_at_level, strength=lambda level: -1.0),
            "The classifier is asked at the right level now. But the sign is turned, and samples are driven "
            "away from their class: ε − scale·σ·gradient.",
            about="sign",
        ),
        Misconception(
            "sigma-forgotten",
            _guided_by(_at_level, strength=lambda level: 1 / level.sigma),
            "The classifier is asked at the right level now. But σ is gone from the push: ε − "
            "scale·σ·gradient.",
            about="missing",
        ),
        Misconception(
            "alpha-for-alpha-bar",
            _guided_by(_at_level, strength=lambda level: (1 - level.alpha).sqrt() / level.sigma),
            "The classifier is asked at the right level now. But guided_eps takes ᾱ, and you gave it α: ᾱ = "
            "α², level.alpha**2.",
            about="root",
        ),
        Misconception(
            "denoiser-told-1-too",
            lambda denoiser, classifier, path, x, t, y, scale: _guided_by(_at_level)(
                denoiser, classifier, path, x, torch.ones_like(t), y, scale
            ),
            "Now the denoiser is told t = 1 as well. x is a sample of time t: both are told path(t).",
            about="level",
        ),
        Misconception(
            "time-from-the-other-end",
            _guided_by(
                lambda classifier, path, x, x0, level, y: class_gradient(
                    lambda z: classifier(z, path(path.T - level.t)), x, y
                )
            ),
            "You asked the classifier at T − t. x is a sample of time t: tell it that `level`, the one that "
            "the denoiser is told.",
            about="direction",
        ),
        Misconception(
            "half-the-time",
            _guided_by(
                lambda classifier, path, x, x0, level, y: class_gradient(
                    lambda z: classifier(z, path(level.t / 2)), x, y
                )
            ),
            "You asked the classifier at t/2. There is nothing to choose: x is a sample of time t, and the "
            "classifier is told that `level`.",
            about="level",
        ),
        Misconception(
            "not-divided-by-alpha",
            lambda denoiser, classifier, path, x, t, y, scale: (
                guided(denoiser, classifier, path, x, t, y, scale)[0] * path(t).alpha,
                guided(denoiser, classifier, path, x, t, y, scale)[1],
            ),
            "ε is right now. But x − σ·ε is α·x̂₀: to get x̂₀, divide by level.alpha.",
            about="missing",
        ),
        Misconception(
            "whole-time",
            lambda denoiser, classifier, path, x, t, y, scale: guided(
                denoiser, classifier, path, x, t.long(), y, scale
            ),
            "You turned t into a whole number. A time may lie between two of them: path(t) takes t as it "
            "comes.",
            about="rounding",
        ),
        Misconception(
            "time-rounded",
            lambda denoiser, classifier, path, x, t, y, scale: guided(
                denoiser, classifier, path, x, t.round(), y, scale
            ),
            "You rounded t. A time may lie between two whole ones: path(t) takes t as it comes.",
            about="rounding",
        ),
        Misconception(
            "scale-at-least-1",
            lambda denoiser, classifier, path, x, t, y, scale: guided(
                denoiser, classifier, path, x, t, y, max(scale, 1.0)
            ),
            "You raise scales below 1 to 1. They are asked for, too: use the scale as it is.",
            about="boundary",
        ),
        Misconception(
            "guess-pushed-by-sigma",
            _guess_moved,
            "You pushed x̂₀ by scale·σ·gradient. By that ε̂ is pushed, with a minus; x̂₀ then moves by "
            "scale·σ²/α·gradient: work it out from the pushed ε̂.",
            about="factor",
        ),
    ],
    alternatives=[
        _package_guided,
        _guided_by(_at_level),
        lambda denoiser, classifier, path, x, t, y, scale: tuple(
            _guided_by(
                lambda classifier, path, x, x0, level, y: _by_backward(lambda z: classifier(z, path(t)), x, y)
            )(denoiser, classifier, path, x, t, y, scale)
        ),
    ],
    hints=(
        "Which picture does the classifier think it sees? Compare the level that it is told with the level "
        "at which the denoiser was asked.",
        "p(y|x_t) is another function at each level: near t = 0 it is sharp, near T it is flat. The gradient "
        "is of log p(y|x_t), at x_t, at the level of t.",
        "Only the line `gradient = …` is wrong: `classifier(z, …)` must be told the `level` that the "
        "denoiser is told, two lines above.",
    ),
    call=_with_mixture,
    figure=_guided_figure,
    figure_alt="500 samples guided at scale 1, in three colours and markers by the cluster asked for: each "
    "colour fills its own cluster.",
)


# 09.4 What the scale asks for -----------------------------------------------------------------------


def sharpened(log_joint: Tensor, y: int, scale: float) -> Tensor:
    """log of p(x)·p(y | x)^scale, from log p(x, k) (G, K): (G,)."""
    return log_joint.logsumexp(1) + scale * log_joint.log_softmax(1)[:, y]


def _log_p(log_joint: Tensor) -> Tensor:
    return log_joint.logsumexp(1)


def _on_a_grid(y: int, scale: tuple[float, float], means: list[float], weights: list[float]) -> Make:
    """log p(x, k) at 40 places, means and spread moved a little by chance, the scale between two bounds."""

    def make(g: torch.Generator) -> dict[str, Any]:
        centres = torch.tensor(means)[:, None] + 0.1 * normal(g, len(means), 1)
        mixture = GaussianMixture(centres, number(g, 0.4, 0.7), weights)
        x = torch.linspace(-2, 2, 40)[:, None] + 0.1 * normal(g, 1)
        level = Level(torch.zeros(()), torch.ones(()), torch.zeros(()))
        return {"log_joint": mixture.log_joint(x, level), "y": y, "scale": number(g, *scale)}

    return make


def _far_away(g: torch.Generator) -> dict[str, Any]:
    """Where every density rounds to 0, beside places where none does."""
    made = _on_a_grid(0, (1.5, 2.5), [-1.0, 1.0], [0.4, 0.6])(g)
    lower = number(g, 800, 900) * (torch.arange(40) % 4 > 0)[:, None]
    return made | {"log_joint": made["log_joint"].double() - lower}


def _by_the_largest(log_joint: Tensor, y: int, scale: float) -> Tensor:
    """The sum of exponentials, from which the largest is taken out before it is made."""
    largest = log_joint.amax(1)
    log_p = largest + (log_joint - largest[:, None]).exp().sum(1).log()
    return log_p + scale * (log_joint[:, y] - log_p)


def _density_figure(reference: Callable[..., Tensor]) -> Any:
    from matplotlib import pyplot

    mixture = GaussianMixture(torch.tensor([[-1.0], [1.0]]), 0.6)
    grid = torch.linspace(-3, 3, 301)
    log_joint = mixture.log_joint(
        grid[:, None], Level(torch.zeros(()), torch.ones(()), torch.zeros(()))
    )  # (301, 2)
    figure, axis = pyplot.subplots(figsize=(4.4, 2.4), layout="constrained")
    for scale, line in ((0, ":"), (1, "-"), (3, "--"), (10, "-.")):
        density = reference(log_joint, 1, float(scale)).softmax(0) / 0.02
        axis.plot(grid.numpy(), density.numpy(), line, marker="", label=f"scale {scale}")
    axis.set(xlabel="x", ylabel="density")
    axis.legend(frameon=False, fontsize=8)
    return figure


SHARPENED = Exercise(
    id="09.4",
    name="sharpened",
    title="What does scale 3 ask for?",
    kind="stretch",
    difficulty=2,
    minutes=12,
    reference=sharpened,
    cases=[
        Case("the right one of two bumps, scale above 1", _on_a_grid(1, (2.5, 3.5), [-1.0, 1.0], [0.5, 0.5])),
        Case(
            "the middle one of three, scale between 0 and 1",
            _on_a_grid(1, (0.3, 0.7), [-1.2, 0.1, 1.0], [0.5, 0.2, 0.3]),
        ),
        Case("a rare bump, a large scale", _on_a_grid(0, (8.0, 12.0), [-0.8, 0.7], [0.1, 0.9])),
        Case("scale 1: one bump alone", _on_a_grid(2, (1.0, 1.0), [-1.0, 0.0, 1.0], [0.2, 0.3, 0.5])),
        Case("places far from both bumps, and near ones", _far_away),
    ],
    misconceptions=[
        Misconception(
            "joint-to-the-power",
            lambda log_joint, y, scale: scale * log_joint[:, y],
            "You took p(x, y) to the power. That is p(x) to the power too, which squeezes the cluster "
            "towards its own centre. Only p(y|x) is sharpened; p(x) stays as it is.",
            about="input",
        ),
        Misconception(
            "joint-for-the-posterior",
            lambda log_joint, y, scale: _log_p(log_joint) + scale * log_joint[:, y],
            "You used p(x, y) where p(y|x) belongs. They differ by p(x): divide by it, that is, subtract the "
            "logsumexp over the classes.",
            about="input",
        ),
        Misconception(
            "posterior-alone",
            lambda log_joint, y, scale: scale * log_joint.log_softmax(1)[:, y],
            "p(x) is missing. p(y|x)^scale alone is large wherever the classifier is sure, far out where "
            "there is no data too; p(x) is what holds samples to the data.",
            about="missing",
        ),
        Misconception(
            "power-not-in-the-log",
            lambda log_joint, y, scale: _log_p(log_joint) + log_joint.softmax(1)[:, y] ** scale,
            "You added p(y|x)^scale itself to a logarithm. The logarithm of a product is the sum of "
            "logarithms: log p(x) + scale·log p(y|x).",
            about="formula",
        ),
        Misconception(
            "likelihood-for-the-posterior",
            lambda log_joint, y, scale: _log_p(log_joint) + scale * log_joint.log_softmax(0)[:, y],
            "Your softmax runs over the places x. p(y|x) says, at *one* place, which class it is: the "
            "softmax is over the classes, dimension 1.",
            about="axis",
        ),
        Misconception(
            "one-too-many",
            lambda log_joint, y, scale: log_joint[:, y] + scale * log_joint.log_softmax(1)[:, y],
            "You began with p(x, y), which holds p(y|x) once already, so your power is scale + 1. Begin with "
            "p(x).",
            about="factor",
        ),
        Misconception(
            "scale-forgotten",
            lambda log_joint, y, scale: log_joint[:, y],
            "That is p(x)·p(y|x), scale 1, whatever the scale is. The logarithm of a power is a factor in "
            "front: scale·log p(y|x).",
            about="missing",
        ),
        Misconception(
            "pushed-away",
            lambda log_joint, y, scale: _log_p(log_joint) - scale * log_joint.log_softmax(1)[:, y],
            "You divided by p(y|x)^scale, so that places are likelier the less they look like class y. The "
            "logarithm of a product is a sum.",
            about="sign",
        ),
        Misconception(
            "normalised",
            lambda log_joint, y, scale: sharpened(log_joint, y, scale).log_softmax(0),
            "You brought the sum over all places to 1. That is right for a density on this grid, but it "
            "adds a constant that depends on the grid; asked for is the logarithm as it is, not normalised.",
            about="extra",
        ),
        Misconception(
            "exponential-returned",
            lambda log_joint, y, scale: sharpened(log_joint, y, scale).exp(),
            "You returned the density. It is right; asked for is its logarithm, which does not round to 0 "
            "far from the data.",
            about="reading",
        ),
        Misconception(
            "p-of-x-alone",
            lambda log_joint, y, scale: _log_p(log_joint),
            "That is log p(x) alone, whatever y and the scale are. scale·log p(y|x) is to be added.",
            about="missing",
        ),
        Misconception(
            "scale-minus-one",
            lambda log_joint, y, scale: _log_p(log_joint) + (scale - 1) * log_joint.log_softmax(1)[:, y],
            "Your power is scale − 1. Here scale 1 asks for p(x)·p(y|x), and 0 for p(x) alone.",
            about="factor",
        ),
        Misconception(
            "all-to-the-power",
            lambda log_joint, y, scale: scale * (_log_p(log_joint) + log_joint.log_softmax(1)[:, y] * scale),
            "The scale multiplies log p(x) as well. Only p(y|x) is sharpened; p(x) stays as it is.",
            about="factor",
        ),
        Misconception(
            "sum-for-the-logsumexp",
            lambda log_joint, y, scale: log_joint.sum(1) + scale * (log_joint[:, y] - log_joint.sum(1)),
            "You added up logarithms to get log p(x). It is the probabilities that are added up: logsumexp "
            "over the classes.",
            about="formula",
        ),
        Misconception(
            "largest-for-the-sum",
            lambda log_joint, y, scale: log_joint.amax(1) + scale * (log_joint[:, y] - log_joint.amax(1)),
            "You took the largest class for log p(x). All classes add up to p(x): logsumexp.",
            about="formula",
        ),
        Misconception(
            "prior-forgotten",
            lambda log_joint, y, scale: _log_p(log_joint) + scale * (log_joint[:, y] - log_joint.mean(1)),
            "You took the mean of the classes off. p(y|x) = p(x, y)/p(x): subtract the logsumexp over the "
            "classes.",
            about="formula",
        ),
        Misconception(
            "sum-over-the-places",
            lambda log_joint, y, scale: (
                log_joint.logsumexp(0)[y] + scale * (log_joint[:, y] - log_joint.logsumexp(0)[y])
            ),
            "You added up over the places, dimension 0. p(x) is the sum over the classes: logsumexp over "
            "dimension 1.",
            about="axis",
        ),
        Misconception(
            "scale-on-p-of-x",
            lambda log_joint, y, scale: scale * _log_p(log_joint) + log_joint.log_softmax(1)[:, y],
            "The scale stands at p(x). It is p(y|x) that is sharpened.",
            about="input",
        ),
        Misconception(
            "mean-of-logarithms",
            lambda log_joint, y, scale: log_joint.mean(1) + scale * (log_joint[:, y] - log_joint.mean(1)),
            "You took the mean of the logarithms for log p(x). It is the probabilities that are added up: "
            "logsumexp over the classes.",
            about="mean",
        ),
        Misconception(
            "place-for-the-class",
            lambda log_joint, y, scale: _log_p(log_joint) + scale * (log_joint[y] - _log_p(log_joint)),
            "log_joint[y] is a row, one place. The class is the second index: log_joint[:, y].",
            about="axis",
        ),
        Misconception(
            "logarithms-multiplied",
            lambda log_joint, y, scale: _log_p(log_joint) * log_joint.log_softmax(1)[:, y] ** scale,
            "You multiplied logarithms. The logarithm of a product is a sum, and that of a power a product: "
            "log p(x) + scale·log p(y|x).",
            about="formula",
        ),
        Misconception(
            "sum-of-rounded-exponentials",
            lambda log_joint, y, scale: (
                log_joint.exp().sum(1).log() + scale * (log_joint[:, y] - log_joint.exp().sum(1).log())
            ),
            "Right where p(x) is not tiny. Far from all data exp() rounds to 0, and its logarithm is −∞. "
            "logsumexp does the same without that.",
            about="boundary",
        ),
        Misconception(
            "sharpened-and-normalised",
            lambda log_joint, y, scale: _log_p(log_joint) + (scale * log_joint).log_softmax(1)[:, y],
            "You sharpened p(y|x) and brought its sum over the classes to 1 again. Asked for is the power "
            "alone: scale·log p(y|x).",
            about="extra",
        ),
        Misconception(
            "sharpened-and-normalised-alone",
            lambda log_joint, y, scale: (scale * log_joint).log_softmax(1)[:, y],
            "p(x) is missing, and you brought the sum of the sharpened p(y|x) over the classes to 1 again. "
            "Asked for is log p(x) + scale·log p(y|x).",
            about="missing",
        ),
    ],
    alternatives=[
        lambda log_joint, y, scale: (1 - scale) * _log_p(log_joint) + scale * log_joint[:, y],
        _by_the_largest,
    ],
    hints=(
        "Walk back from gradients to densities. The guided score is ∇ log p(x) + scale·∇ log p(y|x): of "
        "which function of x is that the gradient?",
        "log p(x) + scale·log p(y|x). From the joint: p(x) = Σ_k p(x, k), and p(y|x) = p(x, y)/p(x).",
        "`log_p = torch.logsumexp(log_joint, …)`, then `return log_p + scale * (log_joint[:, y] - …)`.",
    ),
    figure=_density_figure,
    figure_alt="Density over x for scales 0, 1, 3 and 10. Scale 0: two wide bumps that run into each other. "
    "Scale 1: the right bump alone. Scales 3 and 10: the same bump with its left flank cut away, a little "
    "further right.",
)


# 09.5 A classifier that knows noise -----------------------------------------------------------------


def noisy_loss(
    classifier: Callable[[Tensor, Tensor], Tensor],
    x0: Tensor,
    noise: Tensor,
    t: Tensor,
    y: Tensor,
    alphas_cumprod: Tensor,
) -> Tensor:
    """`classifier_loss` of a classifier that is told t as it comes."""
    path = DiscreteVP(1 - alphas_cumprod[1:].double() / alphas_cumprod[:-1].double())

    def told(x: Tensor, time: Tensor) -> Tensor:
        return classifier(x, t)

    return classifier_loss(told, path, x0, noise, t, y)


def _seen(x0: Tensor, noise: Tensor, t: Tensor, alphas_cumprod: Tensor) -> Tensor:
    kept = alphas_cumprod[t].view(-1, *[1] * (x0.ndim - 1))
    return kept.sqrt() * x0 + (1 - kept).sqrt() * noise


def _seen_without_roots(x0: Tensor, noise: Tensor, t: Tensor, alphas_cumprod: Tensor) -> Tensor:
    kept = alphas_cumprod[t].view(-1, *[1] * (x0.ndim - 1))
    return kept * x0 + (1 - kept) * noise


def _seen_no_root_on_noise(x0: Tensor, noise: Tensor, t: Tensor, alphas_cumprod: Tensor) -> Tensor:
    kept = alphas_cumprod[t].view(-1, *[1] * (x0.ndim - 1))
    return kept.sqrt() * x0 + (1 - kept) * noise


def _classifier_loss(
    see: Callable[..., Tensor] = _seen,
    told: Callable[[Tensor], Tensor] = lambda t: t,
    loss: Callable[[Tensor, Tensor], Tensor] = lambda logits, y: F.cross_entropy(logits, y, reduction="none"),
) -> Callable[..., Tensor]:
    """The loss put together from its parts, each of which a misconception may replace."""

    def function(
        classifier: Any, x0: Tensor, noise: Tensor, t: Tensor, y: Tensor, alphas_cumprod: Tensor
    ) -> Tensor:
        return loss(classifier(see(x0, noise, t, alphas_cumprod), told(t)), y)

    return function


def _one_level(x0: Tensor, noise: Tensor, t: Tensor, alphas_cumprod: Tensor) -> Tensor:
    return _seen(x0, noise, t[:1].expand(len(t)), alphas_cumprod)


def _by_sigmoid(logits: Tensor, y: Tensor) -> Tensor:
    wanted = F.one_hot(y, logits.shape[1]).to(logits)
    return F.binary_cross_entropy_with_logits(logits, wanted, reduction="none").sum(1)


def _picked(logits: Tensor, y: Tensor) -> Tensor:
    return -logits.log_softmax(1)[torch.arange(len(y), device=y.device), y]


def _with_weights(answer: Callable[..., Any], weights: Tensor, **inputs: Tensor) -> Any:
    """The classifier is linear, and its first class is the likelier the later the time."""

    def classifier(x: Tensor, t: Tensor) -> Tensor:
        if t.shape != x.shape[:1]:
            raise ValueError(f"one time for each of {len(x)} samples, got {tuple(t.shape)}")
        logits = x.flatten(1) @ weights  # (B, K)
        later = t.to(x.dtype).view(-1, 1) / 100
        return logits + later * (torch.arange(weights.shape[1], device=x.device) == 0)

    return answer(classifier, **inputs)


def _labelled(
    betas: Callable[[torch.Generator], Tensor], classes: int, *size: int, ends: bool = False
) -> Make:
    """Samples at times of their own, with `ends` at 1 and T too."""

    def make(g: torch.Generator) -> dict[str, Any]:
        alphas_cumprod = DiscreteVP(betas(g)).alphas_cumprod.float()
        x0, n, T = data(g, *size), size[0], len(alphas_cumprod) - 1
        times = [*several(g, n - 2, 2, T - 1), 1, T] if ends else several(g, n, max(T // 20, 1), T)
        return {
            "x0": x0,
            "noise": normal(g, *size),
            "t": torch.tensor(times),
            "y": torch.tensor(_labels(n, classes)(g)),
            "alphas_cumprod": alphas_cumprod,
            "weights": 2 * normal(g, x0[0].numel(), classes) / x0[0].numel() ** 0.5,
        }

    return make


def _noisy_loss_figure(reference: Callable[..., Tensor]) -> Any:
    from matplotlib import pyplot

    path, mixture = DiscreteVP(cosine_betas()), GaussianMixture(MEANS, STDS)
    x0, y = mixture.sample(400, torch.Generator().manual_seed(0))
    noise, times = figures.noise(400, 2), range(1, 1000, 37)
    figure, axis = pyplot.subplots(figsize=(4.4, 2.4), layout="constrained")
    classifiers = {
        "knows the level": (lambda x, t: mixture.log_joint(x, path(t.double())), "-"),
        "takes all for nearly clean": (lambda x, t: mixture.log_joint(x, path(1)), "--"),
    }
    alphas_cumprod = path.alphas_cumprod.float()
    for name, (classifier, line) in classifiers.items():
        losses = [
            reference(classifier, x0, noise, torch.full((400,), t), y, alphas_cumprod).mean() for t in times
        ]
        axis.semilogy(list(times), torch.stack(losses).clamp(min=1e-3).numpy(), line, marker="", label=name)
    axis.axhline(torch.log(torch.tensor(3.0)).item(), color="gray", linestyle=":", label="guessing, log 3")
    axis.set(xlabel="t", ylabel="loss in nats", ylim=(1e-3, 200))
    axis.legend(frameon=False, fontsize=8)
    return figure


def _seen_one_minus_root(x0: Tensor, noise: Tensor, t: Tensor, alphas_cumprod: Tensor) -> Tensor:
    kept = alphas_cumprod[t].view(-1, *[1] * (x0.ndim - 1))
    return kept.sqrt() * x0 + (1 - kept.sqrt()) * noise


def _seen_as_pictures(x0: Tensor, noise: Tensor, t: Tensor, alphas_cumprod: Tensor) -> Tensor:
    kept = alphas_cumprod[t].view(-1, 1, 1, 1)
    return kept.sqrt() * x0 + (1 - kept).sqrt() * noise


NOISY_LOSS = Exercise(
    id="09.5",
    name="noisy_loss",
    title="A classifier that knows noise",
    kind="implement",
    difficulty=2,
    minutes=10,
    reference=noisy_loss,
    trains=("weights",),
    cases=[
        Case("four pictures, each at a time of its own", _labelled(cosine, 3, 4, 1, 6, 5)),
        Case("five points in the plane, at t = 1 and T too", _labelled(linear, 2, 5, 2, ends=True)),
        Case(
            "two colour pictures on a short chain",
            _labelled(lambda g: linear(g, whole(g, 8, 12)), 4, 2, 3, 4, 6),
        ),
    ],
    misconceptions=[
        Misconception(
            "clean-pictures",
            _classifier_loss(see=lambda x0, noise, t, alphas_cumprod: x0),
            "You showed the classifier the clean x0. In sampling it will be asked about x_t, which it then "
            "has never seen, and its gradient there is arbitrary: noise the pictures first.",
            about="input",
        ),
        Misconception(
            "time-not-told",
            _classifier_loss(told=torch.zeros_like),
            "You told the classifier t = 0 for every picture. Give it t: how sure it may be depends on how "
            "much noise there is.",
            about="level",
        ),
        Misconception(
            "one-level-for-all",
            _classifier_loss(see=_one_level),
            "All pictures got the noise level of the first. Each has a time of its own: alphas_cumprod[t] "
            "has shape (B,), and becomes (B, 1, 1, 1) before it meets the pictures.",
            about="batch",
        ),
        Misconception(
            "no-roots",
            _classifier_loss(see=_seen_without_roots),
            "You noised the pictures with ᾱ and 1 − ᾱ. Those are shares of the variance; the factors are "
            "their roots (lesson 2).",
            about="root",
        ),
        Misconception(
            "index-off-by-one",
            _classifier_loss(
                see=lambda x0, noise, t, alphas_cumprod: _seen(x0, noise, t - 1, alphas_cumprod)
            ),
            "You looked up ᾱ one place too early. The list starts with ᾱ₀ = 1, so the entry for time t is "
            "alphas_cumprod[t].",
            about="index",
        ),
        Misconception(
            "softmax-twice",
            _classifier_loss(loss=lambda logits, y: F.cross_entropy(logits.softmax(1), y, reduction="none")),
            "You gave cross_entropy probabilities, and it takes a softmax of its own: with both, the loss "
            "cannot get near 0 however sure the classifier is. It wants the logits.",
            about="extra",
        ),
        Misconception(
            "no-softmax",
            _classifier_loss(loss=lambda logits, y: F.nll_loss(logits, y, reduction="none")),
            "nll_loss takes log-probabilities, and you gave it logits: the loss can be made as low as you "
            "like by making all logits large. cross_entropy takes the logits as they are.",
            about="missing",
        ),
        Misconception(
            "mean-over-the-batch",
            _classifier_loss(loss=F.cross_entropy),
            "You averaged over the batch. Return one loss for each picture, shape (B,), so that one can see "
            'at which times it is high: reduction="none".',
            about="mean",
        ),
        Misconception(
            "probability-for-the-loss",
            _classifier_loss(loss=lambda logits, y: 1 - (-_picked(logits, y)).exp()),
            "You took 1 − p(y|x) as the loss. Its gradient dies where the classifier is surely wrong; the "
            "cross-entropy is −log p(y|x), and only its minimum is the true posterior.",
            about="formula",
        ),
        Misconception(
            "sign",
            _classifier_loss(loss=lambda logits, y: -_picked(logits, y)),
            "The sign is wrong: you returned log p(y|x). A loss is made small in training, so it is −log p.",
            about="sign",
        ),
        Misconception(
            "time-as-a-fraction",
            lambda classifier, x0, noise, t, y, alphas_cumprod: F.cross_entropy(
                classifier(_seen(x0, noise, t, alphas_cumprod), t / (len(alphas_cumprod) - 1)),
                y,
                reduction="none",
            ),
            "You told the classifier t/T. Give it t as it comes: in sampling it will be told whole times, "
            "and a classifier that was trained on fractions would not know them.",
            about="level",
        ),
        Misconception(
            "sum-over-the-batch",
            _classifier_loss(loss=lambda logits, y: F.cross_entropy(logits, y, reduction="sum")),
            "You added the losses of the batch up. Return one for each picture, shape (B,), so that one can "
            "see "
            'at which times it is high: reduction="none".',
            about="mean",
        ),
        Misconception(
            "time-one-early",
            _classifier_loss(told=lambda t: t - 1),
            "You told the classifier t − 1. It is told the time that the picture was noised to, t itself.",
            about="level",
        ),
        Misconception(
            "noise-factor-without-root",
            _classifier_loss(see=_seen_no_root_on_noise),
            "You noised the pictures with 1 − ᾱ on the noise. That is its variance; the factor is the root.",
            about="root",
        ),
        Misconception(
            "factors-swapped",
            _classifier_loss(see=lambda x0, noise, t, alphas_cumprod: _seen(noise, x0, t, alphas_cumprod)),
            "The two factors are swapped when you noise the pictures: √ᾱ belongs to x0 and √(1 − ᾱ) to the "
            "noise.",
            about="swap",
        ),
        Misconception(
            "shown-the-noise",
            _classifier_loss(see=lambda x0, noise, t, alphas_cumprod: noise),
            "You showed the classifier the noise alone. It is to see x_t = √ᾱ·x0 + √(1 − ᾱ)·noise.",
            about="input",
        ),
        Misconception(
            "softmax-over-the-batch",
            _classifier_loss(loss=lambda logits, y: -logits.log_softmax(0)[torch.arange(len(y)), y]),
            "Your softmax runs over the batch (dimension 0). The probabilities of one picture are over its "
            "classes: dimension 1.",
            about="axis",
        ),
        Misconception(
            "wrong-guesses-counted",
            _classifier_loss(loss=lambda logits, y: (logits.argmax(1) != y).to(logits.dtype)),
            "You counted wrong guesses. That has no gradient to learn from: the loss is −log p(y|x_t, t).",
            about="formula",
        ),
        Misconception(
            "squared-error",
            _classifier_loss(
                loss=lambda logits, y: (logits.softmax(1) - F.one_hot(y, logits.shape[1])).square().sum(1)
            ),
            "You took the squared error of the probabilities. The loss of a classifier is the cross-entropy, "
            "−log p(y|x_t, t).",
            about="formula",
        ),
        Misconception(
            "answer-detached",
            _classifier_loss(loss=lambda logits, y: F.cross_entropy(logits.detach(), y, reduction="none")),
            "The numbers are right, but you detached the classifier's answer, so that no gradient gets back "
            "to its weights: nothing would be learnt.",
            about="gradient",
        ),
        Misconception(
            "time-over-1000",
            _classifier_loss(told=lambda t: t / 1000),
            "You told the classifier t/1000. It is called with the time as it comes, classifier(x, t).",
            about="factor",
        ),
        Misconception(
            "factor-for-pictures-only",
            _classifier_loss(see=_seen_as_pictures),
            "You gave ᾱ the shape (B, 1, 1, 1), which fits pictures alone. Points have the shape (B, 2): "
            "take as many 1s as x0 has dimensions beside the first.",
            about="shape",
        ),
        Misconception(
            "one-minus-the-root",
            _classifier_loss(see=_seen_one_minus_root),
            "You noised the pictures with 1 − √ᾱ on the noise. Its factor is √(1 − ᾱ), the root of the whole "
            "difference.",
            about="root",
        ),
        Misconception(
            "one-time-told",
            _classifier_loss(told=lambda t: t[:1].expand_as(t)),
            "You told the classifier the first time for the whole batch. Each sample has its own: t.",
            about="batch",
        ),
        Misconception(
            "time-one-late",
            _classifier_loss(told=lambda t: t + 1),
            "You told the classifier t + 1. It is told the time that the picture was noised to, t itself.",
            about="level",
        ),
        Misconception(
            "clipped",
            _classifier_loss(see=lambda *given: _seen(*given).clamp(-1, 1)),
            "You cut the noised samples to [−1, 1]. Noise has no range: the classifier is to know it as it "
            "is.",
            about="extra",
        ),
        Misconception(
            "sigmoid",
            _classifier_loss(loss=_by_sigmoid),
            "You took each class by itself, by a sigmoid. The classes exclude each other: softmax, as "
            "cross_entropy has it.",
            about="formula",
        ),
    ],
    alternatives=[
        _classifier_loss(loss=_picked),
        lambda classifier, x0, noise, t, y, alphas_cumprod: torch.cat(
            [
                _classifier_loss()(classifier, *one, alphas_cumprod)
                for one in zip(x0.split(1), noise.split(1), t.split(1), y.split(1), strict=True)
            ]
        ),
    ],
    hints=(
        "It is the loss of an ordinary classifier, with one move before it: the picture is taken to its time "
        "by the jump of lesson 2, and the classifier is told that time.",
        "loss_b = −log p(y_b | x_t, t) with x_t = √ᾱ_t·x₀ + √(1 − ᾱ_t)·ε, one number for each picture b.",
        "`kept = alphas_cumprod[t]` viewed as (B, 1, …, 1), `x = …`, then "
        '`torch.nn.functional.cross_entropy(classifier(x, …), y, reduction="none")`.',
    ),
    call=_with_weights,
    figure=_noisy_loss_figure,
    figure_alt="Loss over t on points of three clusters, on a logarithmic scale. A classifier that knows the "
    "level rises from near 0 to the line of guessing, log 3. One that takes every point for a nearly clean "
    "one crosses that line at about t = 220 and is far above it after.",
)

# 09.6 The guided walk -------------------------------------------------------------------------------


def guided_walk(
    denoiser: Any,
    classifier: Any,
    x: Tensor,
    levels: Sequence[Level],
    y: Tensor,
    scale: float,
    bound: float = float("inf"),
) -> Tensor:
    """The x of every level on the way of DDIM, guided by a classifier: (len(levels), B, ...)."""
    walk = [x]
    for now, next in pairwise(levels):
        _, eps = denoiser(x, now)
        gradient = _class_gradient(lambda z, now=now: classifier(z, now), x, y)  # type: ignore[misc]
        eps = guided_eps(eps, gradient, now.alpha**2, scale)
        x0 = ((x - now.sigma * eps) / now.alpha).clamp(-bound, bound)
        x = ddim_step(x, Estimate.from_x0(x0, x, now), now, next)
        walk.append(x)
    return torch.stack(walk)


Walk = Callable[..., Tensor]


def _package_walk(
    denoiser: Any,
    classifier: Any,
    x: Tensor,
    levels: list[Level],
    y: Tensor,
    scale: float,
    bound: float = float("inf"),
) -> Tensor:
    """The package's sampler with the package's guidance and clipping."""

    def alone(x: Tensor, level: Level, condition: Any = None) -> Estimate:
        return Estimate(*denoiser(x, level))

    guide = Clip(ClassifierGuidance(alone, classifier, scale), -bound, bound)
    return torch.stack([x for _, x, _ in trajectory(guide, x, levels, y)])


def _walk_by(
    estimate: Callable[..., tuple[Tensor, Tensor]] | None = None,
    asked: Callable[[Level, Level], Level] = lambda now, next: now,
    place: Callable[[Tensor, Tensor, Tensor], Tensor] = lambda x, x0, start: x,
    landed: Callable[[Level, Level], Level] = lambda now, next: next,
    alpha_bar: Callable[[Level], Tensor] = lambda level: level.alpha**2,
    strength: float = 1.0,
) -> Walk:
    """A walk put together from its parts, each of which a misconception may replace.

    Args:
        estimate: (plain x0, plain eps, guided eps, x, now, bound) -> (x0, eps) that the step is made of.
        asked: the level that the classifier is told.
        place: where the gradient is taken.
        landed: the level whose factors the step uses.
    """

    def walk(
        denoiser: Any,
        classifier: Any,
        x: Tensor,
        levels: list[Level],
        y: Tensor,
        scale: float,
        bound: float = float("inf"),
    ) -> Tensor:
        seen = [x]
        for now, next in pairwise(levels):
            x0, eps = denoiser(x, now)
            level = asked(now, next)
            gradient = class_gradient(lambda z, level=level: classifier(z, level), place(x, x0, seen[0]), y)  # type: ignore[misc]
            pushed = eps - strength * scale * (1 - alpha_bar(now)).sqrt() * gradient
            x0, eps = (estimate or _clipped_after)(x0, eps, pushed, x, now, bound)
            to = landed(now, next)
            x = to.alpha * x0 + to.sigma * eps
            seen.append(x)
        return torch.stack(seen)

    return walk


def _cleaned(eps: Tensor, x: Tensor, now: Level) -> Tensor:
    return (x - now.sigma * eps) / now.alpha


def _clipped_after(
    plain: Tensor, eps: Tensor, pushed: Tensor, x: Tensor, now: Level, bound: float
) -> tuple[Tensor, Tensor]:
    x0 = _cleaned(pushed, x, now).clamp(-bound, bound)
    return x0, (x - now.alpha * x0) / now.sigma


def _clipped_before(
    plain: Tensor, eps: Tensor, pushed: Tensor, x: Tensor, now: Level, bound: float
) -> tuple[Tensor, Tensor]:
    clipped = plain.clamp(-bound, bound)
    eps = (x - now.alpha * clipped) / now.sigma + pushed - eps
    return _cleaned(eps, x, now), eps


def _never_clipped(
    plain: Tensor, eps: Tensor, pushed: Tensor, x: Tensor, now: Level, bound: float
) -> tuple[Tensor, Tensor]:
    return _cleaned(pushed, x, now), pushed


def _clipped_to_one(
    plain: Tensor, eps: Tensor, pushed: Tensor, x: Tensor, now: Level, bound: float
) -> tuple[Tensor, Tensor]:
    return _clipped_after(plain, eps, pushed, x, now, 1.0)


def _cut(cut: Callable[[Tensor, float], Tensor]) -> Callable[..., tuple[Tensor, Tensor]]:
    """x̂₀ kept within the bound in another way."""

    def estimate(
        plain: Tensor, eps: Tensor, pushed: Tensor, x: Tensor, now: Level, bound: float
    ) -> tuple[Tensor, Tensor]:
        x0 = cut(_cleaned(pushed, x, now), bound)
        return x0, (x - now.alpha * x0) / now.sigma

    return estimate


def _stale_noise(
    plain: Tensor, eps: Tensor, pushed: Tensor, x: Tensor, now: Level, bound: float
) -> tuple[Tensor, Tensor]:
    return _cleaned(pushed, x, now).clamp(-bound, bound), pushed


def _stale_picture(
    plain: Tensor, eps: Tensor, pushed: Tensor, x: Tensor, now: Level, bound: float
) -> tuple[Tensor, Tensor]:
    return plain.clamp(-bound, bound), pushed


def _guess_pushed_by_sigma(
    plain: Tensor, eps: Tensor, pushed: Tensor, x: Tensor, now: Level, bound: float
) -> tuple[Tensor, Tensor]:
    x0 = (plain + eps - pushed).clamp(-bound, bound)
    return x0, (x - now.alpha * x0) / now.sigma


def _unguided(
    plain: Tensor, eps: Tensor, pushed: Tensor, x: Tensor, now: Level, bound: float
) -> tuple[Tensor, Tensor]:
    return _clipped_after(plain, eps, eps, x, now, bound)


def _of_the_start(
    denoiser: Any,
    classifier: Any,
    x: Tensor,
    levels: list[Level],
    y: Tensor,
    scale: float,
    bound: float = float("inf"),
) -> Tensor:
    """Every step noises the guess with the noise of the start."""
    seen = [x]
    for now, next in pairwise(levels):
        x0, _ = guided_pair(denoiser, classifier, seen[-1], now, y, scale, bound)
        seen.append(next.alpha * x0 + next.sigma * x)
    return torch.stack(seen)


def _pushed_after_the_step(
    denoiser: Any,
    classifier: Any,
    x: Tensor,
    levels: list[Level],
    y: Tensor,
    scale: float,
    bound: float = float("inf"),
) -> Tensor:
    """The plain step, and then a move along the gradient."""
    seen = [x]
    for now, next in pairwise(levels):
        x0, eps = guided_pair(denoiser, classifier, x, now, y, 0.0, bound)
        gradient = class_gradient(lambda z, now=now: classifier(z, now), x, y)  # type: ignore[misc]
        x = next.alpha * x0 + next.sigma * eps + scale * next.sigma**2 * gradient
        seen.append(x)
    return torch.stack(seen)


def guided_pair(
    denoiser: Any, classifier: Any, x: Tensor, now: Level, y: Tensor, scale: float, bound: float
) -> tuple[Tensor, Tensor]:
    """Guided and clipped guesses (x0, eps) at one level."""
    gradient = class_gradient(lambda z: classifier(z, now), x, y)
    pushed = denoiser(x, now)[1] - scale * now.sigma * gradient
    return _clipped_after(x, x, pushed, x, now, bound)


def _walk_of_points(
    answer: Callable[..., Any],
    means: Tensor,
    stds: Tensor,
    x: Tensor,
    times: list[int],
    y: Tensor,
    scale: float,
    bound: float,
) -> Any:
    """The exact denoiser and the exact classifier of a mixture take the places of the networks."""
    mixture, path = GaussianMixture(means, stds), DiscreteVP(cosine_betas())

    def denoiser(x: Tensor, level: Level) -> Estimate:
        return mixture(x, level)

    return answer(denoiser, mixture.log_joint, x, [path(t) for t in times], y, scale, bound)


def _start(
    times: Callable[[torch.Generator], list[int]],
    scale: tuple[float, float],
    bound: tuple[float, float] | None,
    n: int,
    classes: int,
    dims: int,
) -> Make:
    """Noise to walk from; scale and bound between two numbers, None for no bound."""

    def make(g: torch.Generator) -> dict[str, Any]:
        return {
            "means": 1.3 * normal(g, classes, dims).double(),
            "stds": 0.3 + 0.2 * torch.rand(classes, generator=g, dtype=torch.float64),
            "x": 1.5 * normal(g, n, dims).double(),
            "times": times(g),
            "y": torch.tensor(_labels(n, classes)(g)),
            "scale": number(g, *scale),
            "bound": float("inf") if bound is None else number(g, *bound),
        }

    return make


def _walk_figure(reference: Walk) -> Any:
    from matplotlib import pyplot

    mixture, path = GaussianMixture(MEANS, STDS), DiscreteVP(cosine_betas())
    start = figures.noise(60, 2).double()
    mixture = GaussianMixture(mixture.means.double(), mixture.stds.double())
    figure, axes = pyplot.subplots(1, 2, figsize=(5.6, 2.8), sharey=True, layout="constrained")
    for axis, scale in zip(axes, (0.0, 1.0), strict=True):
        y = torch.full((60,), 2)
        walk = reference(mixture, mixture.log_joint, start, path.levels(40), y, scale)  # (41, 60, 2)
        axis.plot(*walk.permute(2, 0, 1).numpy(), color="#56B4E9", lw=0.7, marker="")
        axis.plot(*walk[-1].T.numpy(), "o", color="#0072B2", ms=3)
        axis.plot(*MEANS[2], "^", color="#D55E00", ms=8)
        axis.set(title=f"scale {scale:g}", xlim=(-2.2, 2.2), ylim=(-2.2, 2.2))
    return figure


GUIDED_WALK = Exercise(
    id="09.6",
    name="guided_walk",
    title="From noise to what was asked for",
    kind="implement",
    difficulty=3,
    minutes=25,
    reference=guided_walk,
    builds_on=[CLASS_GRADIENT, GUIDED_EPS],
    cases=[
        Case(
            "five points, a few steps from noise to data, no bound",
            _start(lambda g: [*falling(g, 3, 300, 950, apart=100), 0], (1.0, 2.0), None, 5, 3, 2),
        ),
        Case(
            "six points, a large scale, x̂₀ kept within a bound below 1",
            _start(lambda g: [*falling(g, 4, 200, 950, apart=100), 0], (3.0, 5.0), (0.5, 0.7), 6, 2, 3),
        ),
        Case(
            "four points, x̂₀ kept within a bound above 1, not down to data",
            _start(lambda g: falling(g, 4, 150, 900, apart=100), (1.5, 3.0), (1.2, 1.4), 4, 4, 2),
        ),
        Case(
            "scale 0: the walk of the model alone, one step",
            _start(lambda g: [whole(g, 500, 700), 0], (0.0, 0.0), (0.6, 0.8), 4, 3, 2),
        ),
    ],
    misconceptions=[
        Misconception(
            "asked-at-the-next-level",
            _walk_by(asked=lambda now, next: next),
            "You told the classifier the level of the step's end. x is still at the level of its start, and "
            "there the gradient is needed.",
            about="level",
        ),
        Misconception(
            "gradient-at-the-guess",
            _walk_by(place=lambda x, x0, start: x0),
            "You took the gradient at x̂₀. The classifier is asked about x itself, at the level of x.",
            about="input",
        ),
        Misconception(
            "gradient-at-the-start",
            _walk_by(place=lambda x, x0, start: start),
            "You took the gradient at the noise of the start in every step. It is taken anew at each level, "
            "at the x of that level.",
            about="input",
        ),
        Misconception(
            "bound-forgotten",
            _walk_by(_never_clipped),
            "The bound has no say in your result: x̂₀ is kept within −bound and bound, after the push.",
            about="missing",
        ),
        Misconception(
            "clipped-to-one",
            _walk_by(_clipped_to_one),
            "You kept x̂₀ within −1 and 1. Pictures lie there, points need not: use `bound`.",
            about="input",
        ),
        Misconception(
            "clipped-before-the-push",
            _walk_by(_clipped_before),
            "You clipped the model's x̂₀, and pushed afterwards. The push then carries x̂₀ out of its range "
            "again: first guide, then clip.",
            about="order",
        ),
        Misconception(
            "noise-not-renewed",
            _walk_by(_stale_noise),
            "You clipped x̂₀ and kept ε̂ as it was, so that the two no longer make up x. After the clip, ε̂ "
            "is (x − α·x̂₀)/σ (lesson 8).",
            about="missing",
        ),
        Misconception(
            "guess-not-renewed",
            _walk_by(_stale_picture),
            "You pushed ε̂ and kept the model's own x̂₀. After the push x̂₀ is (x − σ·ε̂)/α.",
            about="missing",
        ),
        Misconception(
            "not-guided",
            _walk_by(_unguided),
            "That is the walk of the model alone: y and the scale have no say in it.",
            about="missing",
        ),
        Misconception(
            "pushed-away",
            _walk_by(strength=-1.0),
            "You push away from the class: the gradient is subtracted from ε̂, not added.",
            about="sign",
        ),
        Misconception(
            "alpha-for-alpha-bar",
            _walk_by(alpha_bar=lambda level: level.alpha),
            "guided_eps takes ᾱ, which is α². You gave it α.",
            about="root",
        ),
        Misconception(
            "pushed-after-the-step",
            _pushed_after_the_step,
            "You took the plain step, and moved x along the gradient afterwards. The push belongs into ε̂, "
            "before the step: then x̂₀ changes with it.",
            about="order",
        ),
        Misconception(
            "noise-of-the-start",
            _of_the_start,
            "You noised x̂₀ with the noise of the start in every step. The step uses the ε̂ of its own level.",
            about="input",
        ),
        Misconception(
            "landed-where-it-was",
            _walk_by(landed=lambda now, next: now),
            "You put x̂₀ and ε̂ together at the level where x is already, so x never moves. The step leads "
            "to the next level: its α and σ.",
            about="level",
        ),
        Misconception(
            "only-the-last",
            lambda denoiser, classifier, x, levels, y, scale, bound: _package_walk(
                denoiser, classifier, x, levels, y, scale, bound
            )[-1],
            "You returned the last x alone. Asked is the x of every level, stacked: first the noise, last "
            "the samples.",
            about="reading",
        ),
        Misconception(
            "start-left-out",
            lambda denoiser, classifier, x, levels, y, scale, bound: _package_walk(
                denoiser, classifier, x, levels, y, scale, bound
            )[1:],
            "The first entry is missing: the noise itself, the x of the first level.",
            about="count",
        ),
        Misconception(
            "last-step-left-out",
            lambda denoiser, classifier, x, levels, y, scale, bound: _package_walk(
                denoiser, classifier, x, levels, y, scale, bound
            )[:-1],
            "The last step is missing: n levels have n − 1 steps between them.",
            about="count",
        ),
        Misconception(
            "guess-pushed-by-sigma",
            _walk_by(_guess_pushed_by_sigma),
            "You pushed x̂₀ by scale·σ·gradient. By that ε̂ is pushed, with a minus; x̂₀ then moves by "
            "scale·σ²/α·gradient. Push ε̂, and work out x̂₀ from it.",
            about="factor",
        ),
        Misconception(
            "cut-from-above-alone",
            _walk_by(_cut(lambda x0, bound: x0.clamp(max=bound))),
            "You cut x̂₀ from above alone. It is kept within both: −bound and bound.",
            about="missing",
        ),
        Misconception(
            "cut-at-0",
            _walk_by(_cut(lambda x0, bound: x0.clamp(0, bound))),
            "You cut x̂₀ at 0. It is kept within −bound and bound.",
            about="input",
        ),
        Misconception(
            "clipped-without-a-bound",
            _walk_by(
                _cut(lambda x0, bound: x0.clamp(-1, 1) if bound == float("inf") else x0.clamp(-bound, bound))
            ),
            "You cut x̂₀ to [−1, 1] where no bound is given. With the bound infinite nothing is cut.",
            about="boundary",
        ),
        Misconception(
            "bound-of-1-at-most",
            _walk_by(_cut(lambda x0, bound: x0.clamp(-min(bound, 1.0), min(bound, 1.0)))),
            "You keep x̂₀ within 1 where the bound is larger. The bound is used as it is.",
            about="input",
        ),
        Misconception(
            "one-tensor-for-all",
            lambda denoiser, classifier, x, levels, y, scale, bound: _package_walk(
                denoiser, classifier, x, levels, y, scale, bound
            )[-1:].expand(len(levels), *x.shape),
            "All entries of your result are the same: x was changed in place, or put in again and again. "
            "Make a new x in each step, and keep that.",
            about="extra",
        ),
    ],
    alternatives=[_package_walk, _walk_by()],
    hints=(
        "One round for each pair of neighbouring levels: ask the model, push its ε̂, clean up, clip, step. "
        "All but the push is the DDIM of lesson 8.",
        "ε̂ = guided_eps(…) at the level of x; x̂₀ = (x − σ·ε̂)/α, clamped; ε̂ = (x − α·x̂₀)/σ; "
        "x' = α'·x̂₀ + σ'·ε̂ with the α' and σ' of the next level.",
        "`walk = [x]`, `for now, after in itertools.pairwise(levels):`, in it "
        "`gradient = class_gradient(lambda z: classifier(z, …), …, y)` and the four lines above, "
        "`walk.append(x)`; at the end `torch.stack(walk)`.",
    ),
    call=_walk_of_points,
    figure=_walk_figure,
    figure_alt="Paths of 60 points from noise to the data of three clusters. At scale 0 they end in all "
    "three; at scale 1, asked for the upper one, all of them end there.",
)

EXERCISES = [CLASS_GRADIENT, GUIDED_EPS, GUIDED, SHARPENED, NOISY_LOSS, GUIDED_WALK]
