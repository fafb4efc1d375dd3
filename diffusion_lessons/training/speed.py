"""Speed modes: how a network is run in training, and in what precision it samples."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from diffusion_lessons.denoiser import Condition, Denoiser
from diffusion_lessons.paths import Level
from diffusion_lessons.targets import Estimate
from diffusion_lessons.winograd import WinogradGradients


@dataclass(frozen=True)
class SpeedMode:
    """How a network is run in training.

    Args:
        precision: "float32", "tf32" (CUDA), "bf16" or "fp16" (autocast).
        compile: whether torch.compile is used.
        winograd: whether weight gradients are found Winograd's way (in eager float32).
    """

    precision: str = "float32"
    compile: bool = False
    winograd: bool = False

    def __str__(self) -> str:
        gradients = " with Winograd's weight gradients" if self.winograd else ""
        return f"{'compiled' if self.compile else 'eager'} {self.precision}{gradients}"

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of autocast; float32 for none."""
        return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.precision, torch.float32)

    def compiled(self, network: nn.Module) -> nn.Module:
        """The network, compiled where the mode says so; weights are shared."""
        return torch.compile(network) if self.compile else network  # type: ignore[return-value]

    def cast(self, network: nn.Module) -> Callable[..., Tensor]:
        """The network under autocast, its output in float32, or with Winograd's weight gradients."""
        if self.dtype == torch.float32 and not self.winograd:
            return network

        def forward(x: Tensor, time: Tensor, condition: Any = None) -> Tensor:
            with WinogradGradients() if self.winograd else torch.autocast(x.device.type, self.dtype):
                return network(x, time, condition).float()

        return forward

    @contextmanager
    def matmuls(self) -> Iterator[None]:
        """On CUDA, allow TF32 in every mode but float32, and forbid it there, for the length of a block."""
        if not torch.cuda.is_available():
            yield
            return
        cudnn, fast = torch.backends.cudnn, self.precision != "float32"
        before = torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.benchmark
        torch.set_float32_matmul_precision("high" if fast else "highest")
        cudnn.allow_tf32, cudnn.benchmark = fast, fast
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before[0])
            cudnn.allow_tf32, cudnn.benchmark = before[1:]


class Autocast:
    """A denoiser whose network computes in bf16 where that is really faster; estimates stay like x.

    Args:
        denoiser: with all its wrappers.
    """

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser = denoiser

    def __call__(self, x: Tensor, level: Level, condition: Condition = None) -> Estimate:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=has_bf16(x.device)):
            return self.denoiser(x, level, condition)


def has_bf16(device: torch.device) -> bool:
    """Whether bf16 is really faster: native on a CUDA GPU, instructions for it on a CPU; never emulated."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return device.type == "cpu" and any(capabilities.get(name) for name in ("amx_bf16", "avx512_bf16"))


def candidates(
    precision: str, compile: str, device: torch.device, long_budget: bool, winograd: bool = False
) -> list[SpeedMode]:
    """The modes to try, fastest first; the last is eager float32, which always holds.

    Args:
        precision, compile: as in a `Recipe`.
        long_budget: whether training is long enough to pay for compilation.
        winograd: whether Winograd's weight gradients are faster for the network (`winograd.pays`).
    """
    if precision == "auto":
        fallback = "fp16" if device.type == "cuda" else "float32"
        precision = "bf16" if has_bf16(device) else fallback
    elif precision == "bf16" and device.type == "cuda" and not has_bf16(device):
        raise ValueError("this GPU only emulates bf16, slowly: use precision fp16 or auto")
    if compile == "auto":
        compile = "on" if device.type == "cuda" and long_budget else "off"
    wanted = SpeedMode(precision, compile == "on")
    modes = [wanted, replace(wanted, compile=False)]
    if device.type == "cuda" and precision != "float32":
        modes += [SpeedMode("tf32", wanted.compile), SpeedMode("tf32")]
    modes += [SpeedMode("float32", wanted.compile)]
    sure = [SpeedMode(winograd=True), SpeedMode()] if winograd else [SpeedMode()]
    return list(dict.fromkeys(mode for mode in modes if mode != SpeedMode())) + sure
