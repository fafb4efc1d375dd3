"""Progressive distillation: a student learns to make in one step what its teacher makes in two.

From 64 steps to 32, to 16, and so on down to 1, each student starts from its teacher's weights and
becomes the next teacher (Salimans and Ho 2022). A student is trained as every model here is, by
`train`: only x₀ and ε are replaced by the pair whose single DDIM step lands where two of the
teacher's do.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diffusion_lessons.checkpoint import Checkpoint
from diffusion_lessons.denoiser import Condition, Denoiser
from diffusion_lessons.guidance import ClassifierFreeGuidance, Clip
from diffusion_lessons.paths import Level, add_noise, cast, same_shape
from diffusion_lessons.samplers import ddim_step
from diffusion_lessons.training.batches import Batch


def two_steps(
    teacher: Denoiser, x: Tensor, now: Level, middle: Level, next: Level, condition: Condition = None
) -> Tensor:
    """Where two DDIM steps of the teacher lead, from `now` by way of `middle` to `next`: (B, ...)."""
    halfway = ddim_step(x, teacher(x, now, condition), now, middle)
    return ddim_step(halfway, teacher(halfway, middle, condition), middle, next)


def distillation_target(x: Tensor, reached: Tensor, now: Level, next: Level) -> Tensor:
    """The x̃₀ with which one DDIM step takes x at `now` to `reached` at `next`.

    x̃₀ = (reached − (σ'/σ)·x)/(α' − (σ'/σ)·α); at t = 0, where σ' = 0 and α' = 1, it is what was
    reached (Salimans and Ho 2022, algorithm 2 and appendix G).

    Args:
        x, reached: (B, ...), same shape.
        now, next: levels of the batch or of each sample; `next` has more signal than `now`.
    """
    same_shape("x and reached", x, reached)
    keep = next.sigma / now.sigma
    signal = next.alpha - keep * now.alpha
    if not bool((signal > 0).all()):
        raise ValueError(
            f"a step from t = {now.t.tolist()} to t = {next.t.tolist()} fixes no picture: "
            "distillation goes down, from T (noise) to 0 (data)"
        )
    return (reached - cast(keep, x) * x) / cast(signal, x)


@dataclass(frozen=True)
class Distillation:
    """What a student of `steps` steps learns from a teacher that takes twice as many.

    Args:
        teacher: a network that was trained, or a student; the weights a student starts from.
        steps: of the student.
        guidance: scale at which the teacher is asked. A student of a guided teacher needs no
            guidance of its own (Meng et al. 2023).
    """

    teacher: Checkpoint
    steps: int
    guidance: float = 1.0

    def denoiser(self) -> Denoiser:
        """The teacher as it is asked: guided, then clipped."""
        plain = self.teacher.denoiser()
        return Clip(plain if self.guidance == 1 else ClassifierFreeGuidance(plain, self.guidance))

    @property
    def sampling(self) -> Mapping[str, Any]:
        """How pictures are drawn from the student."""
        return {"steps": self.steps, "guidance": 1.0}

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Batch:
        """The batch with its times rounded up to the student's, and with x̃₀ and ε̃ for x₀ and ε."""
        path = self.teacher.path
        times = torch.stack([level.t for level in path.levels(2 * self.steps)]).flip(0)  # 0 … T
        place = (batch.t * self.steps / path.T).ceil().clamp(1, self.steps).long()  # (B,) in 1 … steps
        now, middle, next = (path(times[2 * place - back]) for back in (0, 1, 2))
        x = add_noise(batch.x0, batch.noise, now)
        reached = two_steps(self.denoiser(), x, now, middle, next, batch.labels)
        x0 = distillation_target(x, reached, now, next)
        alpha, sigma = now.like(x)
        return Batch(x0, (x - alpha * x0) / sigma, now.t, batch.labels)
