"""Progressive distillation: a student learns to make in one step what its teacher makes in two.

From 64 steps to 32 and so on down to 1, each student starts from its teacher's weights and becomes the next
teacher (Salimans and Ho 2022). `train` trains it as every model: only x₀ and ε are replaced by the pair whose
single DDIM step lands where two of the teacher's do.
"""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from diffusion_lessons.checkpoint import Checkpoint
from diffusion_lessons.conditions import Condition
from diffusion_lessons.data.dataset import Rows
from diffusion_lessons.denoiser import Denoiser
from diffusion_lessons.guidance import ClassifierFreeGuidance, Clip
from diffusion_lessons.paths import Level, add_noise, cast, same_shape
from diffusion_lessons.samplers import ddim_step
from diffusion_lessons.targets import Estimate
from diffusion_lessons.training.recipe import Recipe
from diffusion_lessons.training.tasks import Batch, Denoising


def two_steps(
    teacher: Denoiser, x: Tensor, now: Level, middle: Level, next: Level, condition: Condition = None
) -> Tensor:
    """Where two DDIM steps of the teacher lead, from `now` by way of `middle` to `next`: (B, ...)."""
    halfway = ddim_step(x, teacher(x, now, condition), now, middle)
    return ddim_step(halfway, teacher(halfway, middle, condition), middle, next)


def distillation_target(x: Tensor, reached: Tensor, now: Level, next: Level) -> Tensor:
    """The x̃₀ with which one DDIM step takes x (B, ...) at `now` to `reached` (B, ...) at `next`.

    x̃₀ = (reached − (σ'/σ)·x)/(α' − (σ'/σ)·α); at t = 0, where σ' = 0 and α' = 1, it is what was reached
    (Salimans and Ho 2022, algorithm 2 and appendix G). Levels are of the batch or of each sample; `next` has
    more signal than `now`.
    """
    same_shape("x and reached", x, reached)
    keep = next.sigma / now.sigma
    signal = next.alpha - keep * now.alpha
    if not (signal > 0).all():
        raise ValueError(
            f"a step from t = {now.t.tolist()} to t = {next.t.tolist()} fixes no picture: "
            "distillation goes down, from T (noise) to 0 (data)"
        )
    return (reached - cast(keep, x) * x) / cast(signal, x)


class Distillation(Denoising):
    """Teach a student of `steps` steps what its teacher does in twice as many.

    The recipe is of the student's training; network, start, path and target are its teacher's, itself trained
    or taught. It is asked at a scale of guidance; its student needs none of its own (Meng et al. 2023).
    """

    def __init__(
        self, recipe: Recipe, dataset: Rows, teacher: Checkpoint, steps: int, guidance: float = 1.0
    ) -> None:
        super().__init__(recipe, dataset, copy.deepcopy(teacher.network))
        self.path, self.target = teacher.path, teacher.target
        self.teacher, self.steps, self.guidance = teacher, steps, guidance

    def place(self, device: torch.device | str = "cpu", rank: int = 0, world: int = 1) -> Self:
        super().place(device, rank, world)
        plain = self.teacher.on(self.device, self.layout).denoiser()
        self.denoiser = Clip(plain if self.guidance == 1 else ClassifierFreeGuidance(plain, self.guidance))
        return self

    def batch(self, step: int, most: int | None = None) -> Batch:
        return self.taught(super().batch(step, most))

    @torch.no_grad()
    def taught(self, batch: Batch) -> Batch:
        """The batch with its times rounded up to the student's, and with x̃₀ and ε̃ for x₀ and ε."""
        x0, noise, t, condition = batch
        path = self.teacher.path
        times = torch.stack([level.t for level in path.levels(2 * self.steps)]).flip(0)  # 0 … T
        place = (t * self.steps / path.T).ceil().clamp(1, self.steps).long()  # (B,) in 1 … steps
        now, middle, next = (path(times[2 * place - back]) for back in (0, 1, 2))
        x = add_noise(x0, noise, now)
        reached = two_steps(self.denoiser, x, now, middle, next, condition)
        x0 = distillation_target(x, reached, now, next)
        return Batch(*Estimate.from_x0(x0, x, now), now.t, condition)

    def write(self, file: Path, network: nn.Module, info: Mapping[str, Any]) -> None:
        super().write(file, network, {**info, "sampling": {"steps": self.steps, "guidance": 1.0}})
