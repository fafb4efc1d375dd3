"""The check that holds each speed mode to eager float32 before it is trusted.

Lower precision, compilation and other algorithms are faster where the hardware and the versions in
use get them right. Where they don't, training does not fail: it silently learns less. So the loss
and the gradient of one batch are computed both ways and compared tensor by tensor.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from diffusion_lessons.training.speed import SpeedMode

AGREEMENT = 0.98  # eager bf16 reaches 0.998 on the worst tensor; a tensor of zeros has 0
LOSS_SCALE = 1024.0  # keeps small fp16 gradients from vanishing in the check

LossOf = Callable[[Any], Tensor]  # network -> mean loss of one fixed batch


@dataclass(frozen=True)
class Check:
    """What a comparison of a mode with eager float32 found.

    Args:
        mode: the mode that was compared.
        holds: whether it may be used.
        agreement: of the worst gradient tensor: 2⟨g, r⟩/(|g|² + |r|²), the cosine where the lengths
            agree and less where they don't.
        tensor: the name of that tensor.
        wrong, tensors: how many of how many tensors stay under `AGREEMENT`.
        loss_error: relative difference of the losses.
        seconds: that the check took, compilation included.
        error: what stopped the mode from running at all.
    """

    mode: str
    holds: bool
    agreement: float = 0.0
    tensor: str = ""
    wrong: int = 0
    tensors: int = 0
    loss_error: float = 0.0
    seconds: float = 0.0
    error: str = ""

    def __str__(self) -> str:
        if self.error:
            return f"{self.mode} does not run here ({self.error})"
        verdict = "holds" if self.holds else "refused"
        return (
            f"{self.mode} {verdict}: against eager float32 its worst gradient, of {self.tensor}, agrees to "
            f"{self.agreement:.4f}, {self.wrong} of {self.tensors} are under {AGREEMENT}, and the loss "
            f"differs by {self.loss_error:.2%}"
        )


def choose(
    network: nn.Module, loss_of: LossOf, modes: list[SpeedMode]
) -> tuple[SpeedMode, nn.Module, list[Check]]:
    """The first mode that holds, the network ready for it (before `cast`), and what the checks found."""
    checks: list[Check] = []
    reference = None
    for mode in modes:
        if mode == SpeedMode():
            break
        with perturbed(network):
            if reference is None:
                reference = gradients(network, network, loss_of, SpeedMode())
            compiled = mode.compiled(network)
            checks.append(compare(network, compiled, loss_of, mode, reference))
        if checks[-1].holds:
            return mode, compiled, checks
    return SpeedMode(), network, checks


def compare(
    network: nn.Module,
    compiled: nn.Module,
    loss_of: LossOf,
    mode: SpeedMode,
    reference: tuple[float, dict[str, Tensor]],
) -> Check:
    """Loss and gradients of one batch in a mode against those of eager float32."""
    start = time.perf_counter()
    try:
        loss, found = gradients(network, compiled, loss_of, mode)
    except Exception as error:  # a missing compiler, an unsupported operation: the mode is out, not the run
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return Check(str(mode), False, seconds=time.perf_counter() - start, error=reason[:200])
    true_loss, true = reference
    typical = torch.stack([g.norm() for g in true.values()]).median()

    def score(name: str) -> float:
        # a bias that a GroupNorm takes away again has no gradient but rounding noise: it must stay small
        noise = bool(true[name].norm() < 1e-4 * typical)
        return float(agreement(found[name], true[name], typical * (0.2 if noise else 1e-3)))

    scores = {name: score(name) for name in true}
    worst = min(scores, key=lambda name: scores[name])
    wrong = sum(not score >= AGREEMENT for score in scores.values())
    loss_error = abs(loss - true_loss) / max(abs(true_loss), 1e-12)
    return Check(
        str(mode),
        wrong == 0 and loss_error <= 1 - AGREEMENT,
        scores[worst],
        worst,
        wrong,
        len(scores),
        loss_error,
        time.perf_counter() - start,
    )


def agreement(g: Tensor, r: Tensor, floor: Tensor | float = 0.0) -> Tensor:
    """2⟨g, r⟩/(|g|² + |r|²): 1 for equal vectors, 0 where one is zero, NaN as 0.

    Args:
        floor: a length both are taken to have in common, so that mere rounding noise agrees.
    """
    g, r = g.float().flatten(), r.float().flatten()
    common = torch.as_tensor(floor, dtype=torch.float32, device=g.device) ** 2
    return ((2 * (g @ r + common)) / (g @ g + r @ r + 2 * common).clamp(min=1e-30)).nan_to_num(0.0)


def gradients(
    network: nn.Module, compiled: nn.Module, loss_of: LossOf, mode: SpeedMode
) -> tuple[float, dict[str, Tensor]]:
    """The loss and the gradient of every parameter in a mode; the network is left without gradients."""
    scale = LOSS_SCALE if mode.precision == "fp16" else 1.0
    with mode.matmuls():
        loss = loss_of(mode.cast(compiled))
        (loss * scale).backward()
    found = {
        name: torch.zeros_like(p) if p.grad is None else p.grad / scale
        for name, p in network.named_parameters()
    }
    network.zero_grad(set_to_none=True)
    return float(loss.detach()), found


@contextmanager
def perturbed(network: nn.Module, std: float = 0.02) -> Iterator[None]:
    """Shake every weight for the length of a block, then put all back exactly.

    A fresh network ends in layers of zeros, behind which every gradient is zero in every mode.
    """
    weights: list[Tensor] = list(network.parameters())
    saved = [weight.detach().clone() for weight in weights]
    try:
        with torch.no_grad():
            generator = torch.Generator().manual_seed(0)
            for weight in weights:
                shake = torch.randn(weight.shape, generator=generator) * std
                weight.add_(shake.to(weight.device, weight.dtype))
        yield
    finally:
        with torch.no_grad():
            torch._foreach_copy_(weights, saved)
        network.zero_grad(set_to_none=True)
