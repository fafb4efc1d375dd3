"""A denoiser is any callable that turns a noisy sample and its level into an estimate of x₀ and ε."""

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from diffusion_lessons.conditions import Condition
from diffusion_lessons.paths import Level, NoisePath, above_data, cast
from diffusion_lessons.support.machine import has_bf16
from diffusion_lessons.targets import Estimate, Target


class Denoiser(Protocol):
    """From x (B, ...), a level of the batch or of each sample, and a condition; keeps x = α·x₀ + σ·ε."""

    def __call__(self, x: Tensor, level: Level, condition: Any = None) -> Estimate: ...


class NetworkDenoiser:
    """The denoiser that asks a network for its `target`, as network(x, time, condition) with time (B,).

    A network that takes conditions owns `null_condition(batch)`; the path tells its time from t.
    """

    def __init__(self, network: nn.Module, path: NoisePath, target: Target) -> None:
        self.network, self.path, self.target = network, path, target

    def __call__(self, x: Tensor, level: Level, condition: Condition = None) -> Estimate:
        return self.target.solve(self.network(x, network_time(self.path, level, x), condition), x, level)

    def null_condition(self, batch: int) -> Condition:
        """The condition of `batch` rows that means "no condition"."""
        null_condition = getattr(self.network, "null_condition", None)
        if null_condition is None:
            raise ValueError(
                f"{type(self.network).__name__} has no null_condition(batch): classifier-free guidance "
                "needs a network that was also trained without its condition"
            )
        return null_condition(batch)


class OnPath:
    """A denoiser that was trained along `path`, to be asked at the levels of any other.

    x = α·x₀ + σ·ε times c is a sample of its own path, at the time with the same SNR: so the path of a
    training does not bind the sampler (Karras et al. 2022, section 3). Beyond the SNR that `path` has, it is
    asked at its nearest time.
    """

    def __init__(self, denoiser: Denoiser, path: NoisePath) -> None:
        self.denoiser, self.path = denoiser, path

    def __call__(self, x: Tensor, level: Level, condition: Condition = None) -> Estimate:
        above_data(level)
        own = self.path(self.path.time_at(level.log_snr))
        scale = ((own.alpha**2 + own.sigma**2) / (level.alpha**2 + level.sigma**2)).sqrt()
        return Estimate.from_x0(self.denoiser(cast(scale, x) * x, own, condition).x0, x, level)


class Autocast:
    """A denoiser, with all its wrappers, in bf16 where that is really faster; estimates stay like x."""

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser = denoiser

    def __call__(self, x: Tensor, level: Level, condition: Condition = None) -> Estimate:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=has_bf16(x.device)):
            return self.denoiser(x, level, condition)


def network_time(path: NoisePath, level: Level, x: Tensor) -> Tensor:
    """What a network is told of a level above t = 0: (B,) in the dtype and on the device of x (B, ...)."""
    above_data(level)
    return cast(path.network_time(level.t), x).to(x.device, non_blocking=True).flatten().expand(len(x))
