"""Speed modes: how a network is run in training, each held to eager float32 before it is trusted.

Where hardware or versions get lower precision or compilation wrong, training does not fail: it silently
learns less. So loss and gradient of one batch are computed both ways and compared, tensor by tensor.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from diffusion_lessons.support.errors import first_line
from diffusion_lessons.support.machine import has_bf16

AGREEMENT = 0.98  # eager bf16 reaches 0.998 on the worst tensor; a tensor of zeros has 0

LossOf = Callable[[Any], Tensor]  # network -> mean loss of one fixed batch
Found = tuple[float, dict[str, Tensor]]  # its loss, and the gradient of each parameter by name


@dataclass(frozen=True)
class SpeedMode:
    """A precision ("float32", "tf32" on CUDA, autocast "bf16" or "fp16"), with torch.compile or without."""

    precision: str = "float32"
    compile: bool = False

    def __str__(self) -> str:
        return f"{'compiled' if self.compile else 'eager'} {self.precision}"

    def compiled(self, network: nn.Module) -> nn.Module:
        """The network, compiled where the mode says so; weights are shared.

        On CUDA its kernels are recorded and replayed as one: small networks wait for each to be launched,
        more than for its work.
        """
        if not self.compile:
            return network
        on_gpu = next(network.parameters()).is_cuda
        return torch.compile(network, backend="cudagraphs" if on_gpu else "inductor")  # type: ignore[return-value]

    def cast(self, network: nn.Module) -> Callable[..., Any]:
        """The network under autocast, what it gives (a tensor or several) in float32."""
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.precision)

        def forward(x: Tensor, *rest: Any) -> Any:
            with torch.autocast(x.device.type, dtype):
                given = network(x, *rest)
            return given.float() if isinstance(given, Tensor) else tuple(part.float() for part in given)

        return network if dtype is None else forward

    @contextmanager
    def matmuls(self) -> Iterator[None]:
        """On CUDA, allow TF32 in every mode but float32, and forbid it there, for the length of a block."""
        if not torch.cuda.is_available():
            yield
            return
        cudnn, fast = torch.backends.cudnn, self.precision != "float32"
        before = torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.benchmark
        torch.set_float32_matmul_precision("high" if fast else "highest")
        cudnn.allow_tf32 = cudnn.benchmark = fast
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before[0])
            cudnn.allow_tf32, cudnn.benchmark = before[1:]


def candidates(precision: str, compile: str, device: torch.device, long_budget: bool) -> list[SpeedMode]:
    """The modes to try for what a `Plan` says, fastest first; the last is eager float32, which always holds.

    A budget is long where it pays for compilation. A precision that the device lacks is a ValueError.
    """
    cuda = device.type == "cuda"
    if precision == "auto":
        precision = "bf16" if has_bf16(device) else "fp16" if cuda else "float32"
    elif precision == "bf16" and cuda and not has_bf16(device):
        raise ValueError("this GPU only emulates bf16, slowly: use precision fp16 or auto")
    elif precision == "tf32" and not cuda:
        raise ValueError(f"tf32 is a mode of NVIDIA GPUs, not of {device.type}: use float32 or auto")
    compiled = compile == "on" or (compile == "auto" and cuda and long_budget)
    ladder = (precision, "tf32", "float32") if cuda and precision != "float32" else (precision, "float32")
    return [SpeedMode(p, c) for p in dict.fromkeys(ladder) for c in (True, False) if compiled or not c]


@dataclass(frozen=True)
class Check:
    """A mode against eager float32: each gradient's `agreement`, by name, and the loss's relative error."""

    mode: str
    scores: dict[str, float] = field(default_factory=dict)
    loss_error: float = 0.0
    error: str = ""  # what stopped the mode from running at all

    @property
    def wrong(self) -> list[str]:
        """The tensors under `AGREEMENT`, the worst first."""
        return sorted((n for n, s in self.scores.items() if not s >= AGREEMENT), key=self.scores.__getitem__)

    @property
    def holds(self) -> bool:
        """Whether the mode may be used."""
        return not self.error and not self.wrong and self.loss_error <= 1 - AGREEMENT

    def __str__(self) -> str:
        if self.error:
            return f"{self.mode} does not run here ({self.error})"
        score, worst = min((score, name) for name, score in self.scores.items())
        return (
            f"{self.mode} {'holds' if self.holds else 'refused'}: against eager float32 its worst gradient, "
            f"of {worst}, agrees to {score:.4f}, {len(self.wrong)} of {len(self.scores)} are under "
            f"{AGREEMENT}, and the loss differs by {self.loss_error:.2%}"
        )


def choose(
    network: nn.Module, loss_of: LossOf, modes: list[SpeedMode]
) -> tuple[SpeedMode, nn.Module, list[Check]]:
    """The first mode that holds, the network ready for it (before `cast`), and what the checks found."""
    checks: list[Check] = []
    true = None if len(modes) == 1 else reference(network, loss_of)
    for mode in modes[:-1]:  # the last needs no check: it is what the others are compared with
        compiled = mode.compiled(network)
        checks.append(compare(network, compiled, loss_of, mode, true))
        if checks[-1].holds:
            return mode, compiled, checks
    return modes[-1], network, checks


def reference(network: nn.Module, loss_of: LossOf) -> Found:
    """Loss and gradients of one batch in eager float32, on perturbed weights: the truth for every mode."""
    with perturbed(network):
        return gradients(network, network, loss_of, SpeedMode())


def compare(
    network: nn.Module, compiled: nn.Module, loss_of: LossOf, mode: SpeedMode, true: Found | None = None
) -> Check:
    """Loss and gradients of one batch in a mode against the `reference`, which is made if it is left out."""
    true_loss, true_gradients = true or reference(network, loss_of)
    with perturbed(network):
        try:
            loss, found = gradients(network, compiled, loss_of, mode)
        except Exception as error:  # no compiler, an unsupported operation: the mode is out, not the run
            return Check(str(mode), error=first_line(error))
    typical = torch.stack([g.norm() for g in true_gradients.values()]).median()
    # a bias that a GroupNorm takes away again has no gradient but rounding noise: it must stay small
    floors = {
        name: typical * (0.2 if g.norm() < 1e-4 * typical else 1e-3) for name, g in true_gradients.items()
    }
    scores = {name: float(agreement(found[name], g, floors[name])) for name, g in true_gradients.items()}
    return Check(str(mode), scores, abs(loss - true_loss) / max(abs(true_loss), 1e-12))


def agreement(g: Tensor, r: Tensor, floor: Tensor | float = 0.0) -> Tensor:
    """2⟨g, r⟩/(|g|² + |r|²): the cosine for equal lengths, less for others, 0 where one is zero or NaN.

    Both are taken to have a length `floor` in common, so that mere rounding noise agrees.
    """
    g, r = g.float().flatten(), r.float().flatten()
    common = torch.as_tensor(floor, dtype=torch.float32, device=g.device) ** 2
    return ((2 * (g @ r + common)) / (g @ g + r @ r + 2 * common).clamp(min=1e-30)).nan_to_num(0.0)


def gradients(network: nn.Module, compiled: nn.Module, loss_of: LossOf, mode: SpeedMode) -> Found:
    """The loss, and the gradient of every parameter that is trained by name, in a mode."""
    scale = 1024.0 if mode.precision == "fp16" else 1.0  # or small gradients would vanish
    trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
    with mode.matmuls():
        loss = loss_of(mode.cast(compiled))
        found = torch.autograd.grad(loss * scale, list(trained.values()), materialize_grads=True)
    return float(loss.detach()), {name: g / scale for name, g in zip(trained, found, strict=True)}


@contextmanager
def perturbed(network: nn.Module, std: float = 0.02) -> Iterator[None]:
    """Shake every weight for the length of a block, then put all back exactly.

    A fresh network ends in layers of zeros, behind which every gradient is zero in every mode.
    """
    saved, generator = deepcopy(network.state_dict()), torch.Generator().manual_seed(0)
    try:
        for weight in network.parameters():
            shake = torch.randn(weight.shape, generator=generator) * std
            weight.detach().add_(shake.to(weight.device, weight.dtype))
        yield
    finally:
        network.load_state_dict(saved)
