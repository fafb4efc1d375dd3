"""Denoisers that wrap denoisers: guide, then rescale, then clip, and last of all inpaint.

The order matters: `Clip(Rescale(ClassifierFreeGuidance(denoiser, 3), 0.7))` keeps pictures in range,
whereas clipping what guidance then stretches does not. Every wrapper keeps x = α·x₀ + σ·ε.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from diffusion_lessons.conditions import Condition, label_of, replaced, stacked
from diffusion_lessons.denoiser import Denoiser, NetworkDenoiser, network_time
from diffusion_lessons.paths import Level, NoisePath, cast
from diffusion_lessons.targets import Estimate

Scale = float | Callable[[Level], float]
Logits = Callable[[Tensor, Level], Tensor]  # (x, level) -> logits (B, classes), trained on noisy samples


class Guidance(Protocol):
    """A wrapper that can also say what the plain conditional estimate was."""

    def with_plain(self, x: Tensor, level: Level, condition: Condition) -> tuple[Estimate, Estimate]: ...


def guidance_interval(scale: float, low: float, high: float) -> Callable[[Level], float]:
    """A scale for `ClassifierFreeGuidance`: `scale` where low < σ/α ≤ high, and 1 elsewhere.

    From 0 to infinity is everywhere. Outside the interval one pass of the network is enough (Kynkäänniemi et
    al. 2024, section 3; they write σ for σ/α). Levels are of the whole batch.
    """
    _checked_scale(scale)
    if not 0 <= low < high:
        raise ValueError(f"the interval of σ/α is empty or below 0: low = {low}, high = {high}")
    return lambda level: scale if low < float(level.sigma / level.alpha) <= high else 1.0


class ClassifierFreeGuidance:
    """Move from the unconditional estimate past the conditional one (Ho and Salimans 2022, eq. 6).

    x₀ = x₀(∅) + scale·(x₀(c) − x₀(∅)), likewise ε. Scale 1 is the plain conditional model and 0 the
    unconditional one; the paper's w is scale − 1.

    The denoiser is trained with and without its condition. The scale is ≥ 0, or a function of the level, such
    as a `guidance_interval`. `negative` is a condition to move away from in place of the null condition;
    entries of a dict that it leaves out, such as inpainting channels, are kept from the condition.
    """

    def __init__(self, denoiser: NetworkDenoiser, scale: Scale, negative: Condition = None) -> None:
        if not callable(scale):
            _checked_scale(scale)
        self.denoiser, self.scale, self.negative = denoiser, scale, negative

    def __call__(self, x: Tensor, level: Level, condition: Condition = None) -> Estimate:
        if self._scale_at(level) == 0:
            return self.denoiser(x, level, self._null(condition, len(x)))
        return self.with_plain(x, level, condition)[0]

    def with_plain(self, x: Tensor, level: Level, condition: Condition) -> tuple[Estimate, Estimate]:
        """(guided, plain conditional) estimates from one pass over a doubled batch."""
        scale = self._scale_at(level)
        if scale == 1:
            plain = self.denoiser(x, level, condition)
            return plain, plain
        twice = Level(*(value.repeat(2) if value.ndim else value for value in vars(level).values()))
        both = self.denoiser(torch.cat([x, x]), twice, stacked(condition, self._null(condition, len(x))))
        (plain_x0, null_x0), (plain_eps, null_eps) = both.x0.chunk(2), both.eps.chunk(2)
        guided = Estimate(torch.lerp(null_x0, plain_x0, scale), torch.lerp(null_eps, plain_eps, scale))
        return guided, Estimate(plain_x0, plain_eps)

    def _scale_at(self, level: Level) -> float:
        return _checked_scale(self.scale(level) if callable(self.scale) else self.scale)

    def _null(self, condition: Condition, batch: int) -> Condition:
        if condition is None:
            raise ValueError("guidance needs a condition to guide towards, got None: pass condition=labels")
        null = self.denoiser.null_condition(batch) if self.negative is None else self.negative
        return replaced(condition, null, batch)


class ClassifierGuidance:
    """Follow the gradient of log p(y | x_t): ε − scale·σ·∇ (Dhariwal and Nichol 2021, algorithm 2).

    The denoiser, conditional or not, is passed the condition. At α = 0, where x says nothing about y, the
    classifier's gradient is taken to be 0. scale ≥ 0.
    """

    def __init__(self, denoiser: Denoiser, classifier: Logits, scale: float) -> None:
        self.denoiser, self.classifier, self.scale = denoiser, classifier, _checked_scale(scale)

    def __call__(self, x: Tensor, level: Level, condition: Condition = None) -> Estimate:
        return self.with_plain(x, level, condition)[0]

    def with_plain(self, x: Tensor, level: Level, condition: Condition) -> tuple[Estimate, Estimate]:
        """(guided, unguided) estimates."""
        plain = self.denoiser(x, level, condition)
        if self.scale == 0 or bool((level.alpha == 0).all()):
            return plain, plain
        labels = label_of(condition)
        if labels is None or labels.shape != (len(x),):
            given = None if labels is None else f"shape {tuple(labels.shape)}"
            raise ValueError(
                f"classifier guidance needs one wanted label a sample, got {given}: pass condition=labels"
            )
        if torch.is_inference_mode_enabled():
            raise ValueError(
                "classifier guidance needs gradients, which inference_mode rules out: use no_grad instead"
            )
        gradient = class_gradient(lambda point: self.classifier(point, level), x, labels)
        strength = self.scale * level.sigma * (level.alpha > 0)
        ratio = level.sigma / torch.where(level.alpha > 0, level.alpha, 1.0)
        x0 = plain.x0 + cast(strength * ratio, x) * gradient
        return Estimate(x0, plain.eps - cast(strength, x) * gradient), plain


def class_gradient(classifier: Callable[[Tensor], Tensor], x: Tensor, labels: Tensor) -> Tensor:
    """∇ log p(y | x) of each sample of x (B, ...), with gradients switched on whatever the caller has set.

    The classifier is x -> logits (B, classes), each row of its own sample alone; labels (B,) are the wanted
    classes. Nothing flows back into x.
    """
    with torch.enable_grad():
        point = x.detach().requires_grad_()
        log_p = classifier(point).log_softmax(-1).gather(-1, labels[:, None])  # (B, 1)
        (gradient,) = torch.autograd.grad(log_p.sum(), point)
    return gradient


class NetworkClassifier:
    """The classifier of noisy samples, (x, level) -> logits (B, classes), that asks network(x, time (B,))."""

    def __init__(self, network: nn.Module, path: NoisePath) -> None:
        self.network, self.path = network, path

    def __call__(self, x: Tensor, level: Level) -> Tensor:
        return self.network(x, network_time(self.path, level, x))


class Rescale:
    """Pull the spread of a guided x₀ back to that of the plain one (Lin et al. 2023, eq. 15 and 16).

    phi is the share of the rescaled picture, 0 (none) to 1 (all); the paper uses 0.7.
    """

    def __init__(self, guidance: Guidance, phi: float = 0.7) -> None:
        if not 0 <= phi <= 1:
            raise ValueError(f"phi is a share from 0 to 1, got {phi}")
        self.guidance, self.phi = guidance, phi

    def __call__(self, x: Tensor, level: Level, condition: Condition = None) -> Estimate:
        guided, plain = self.guidance.with_plain(x, level, condition)
        spread = _spread(guided.x0)
        factor = torch.where(spread > 0, _spread(plain.x0) / spread, 1.0)  # one entry has no spread
        return Estimate.from_x0(guided.x0 * torch.lerp(torch.ones_like(factor), factor, self.phi), x, level)


class Clip:
    """Clamp a denoiser's x₀ to the range of the data; ε follows (Ho et al. 2020, section 3.4)."""

    def __init__(self, denoiser: Denoiser, low: float = -1.0, high: float = 1.0) -> None:
        if not low < high:
            raise ValueError(f"the range to clip to is empty: low = {low}, high = {high}")
        self.denoiser, self.low, self.high = denoiser, low, high

    def __call__(self, x: Tensor, level: Level, condition: Condition = None) -> Estimate:
        return Estimate.from_x0(self.denoiser(x, level, condition).x0.clamp(self.low, self.high), x, level)


class Inpaint:
    """Put what is known into a denoiser's x₀; ε follows, so that it stays at the right level of noise.

    Every step then moves the known part from its first noise straight to what is known, where a walk that
    ends at t = 0 has it exactly (training-free; Lugmayr et al. 2022, eq. 8, with one noise for all steps).

    known is like x; mask (B, 1, ...) or (1, 1, ...), 1 where to paint and 0 where known, between them at a
    soft edge; one for each channel, (B, C, ...), is taken too. Another shape or range is a ValueError.
    """

    def __init__(self, denoiser: Denoiser, known: Tensor, mask: Tensor) -> None:
        if mask.shape[1:] not in ((1, *known.shape[2:]), known.shape[1:]):
            wanted = f"(B, 1, {', '.join(map(str, known.shape[2:]))})"
            raise ValueError(f"the mask is {wanted} for what is known, got {tuple(mask.shape)}")
        if bool(((mask < 0) | (mask > 1)).any()):
            raise ValueError(
                f"a mask is 1 where to paint and 0 where known, got {mask.min():g} to {mask.max():g}"
            )
        self.denoiser, self.known, self.mask = denoiser, known, mask

    def __call__(self, x: Tensor, level: Level, condition: Condition = None) -> Estimate:
        x0 = self.denoiser(x, level, condition).x0
        return Estimate.from_x0(torch.lerp(self.known.to(x0), x0, self.mask.to(x0)), x, level)


def _spread(x: Tensor) -> Tensor:
    """Standard deviation of each sample, shaped to multiply x."""
    return x.flatten(1).std(1, correction=0).view(-1, *[1] * (x.ndim - 1))


def _checked_scale(scale: float) -> float:
    if not 0 <= scale < float("inf"):
        raise ValueError(
            f"a guidance scale is a number ≥ 0 (1 is the plain conditional model, 0 the unconditional one), "
            f"got {scale}; to move away from a condition, pass it as `negative`"
        )
    return float(scale)
