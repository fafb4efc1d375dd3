"""A step of training, one rung at a time: what it takes, what it holds, and whether its gradient is right."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor, nn

from diffusion_lessons.experiments.clock import peak_bytes
from diffusion_lessons.experiments.ladder.shared import Bench, Row
from diffusion_lessons.losses import diffusion_loss
from diffusion_lessons.metrics.training_cost import counted
from diffusion_lessons.networks import Patched, UNet
from diffusion_lessons.networks.recomputed import recomputed
from diffusion_lessons.networks.unet import Stage
from diffusion_lessons.support.errors import first_line
from diffusion_lessons.training.speed import SpeedMode

BATCH = 32  # of the bundled model's training
WIDTHS, NARROW_BATCH = (24, 48, 96, 192), 8  # for bf16 over the width


@dataclass(frozen=True)
class Way:
    """How a step is made; as it stands the way that others are held against."""

    batch: int = BATCH
    width: int | None = None  # of a fresh network of the model's kind; None is the model itself
    channels_last: bool = False
    precision: str = "float32"
    compile: bool = False
    fused: bool = False  # the optimizer, one loop over all weights
    checkpointed: bool = False  # blocks are computed again on the way back
    parts: int = 1  # micro-batches that the gradient is summed over


PLAIN = Way()
ALONE = {
    "channels-last": replace(PLAIN, channels_last=True),
    "bf16": replace(PLAIN, precision="bf16"),
    "fused AdamW": replace(PLAIN, fused=True),
    "compiled": replace(PLAIN, compile=True),
    "batch of 8": replace(PLAIN, batch=8),
    "batch of 128": replace(PLAIN, batch=128),
    "checkpointed": replace(PLAIN, checkpointed=True),
    "4 micro-batches of 8": replace(PLAIN, parts=4),
}
ALL = Way(channels_last=True, precision="bf16", fused=True)
TOGETHER = {
    "channels-last and fused AdamW": replace(ALL, precision="float32"),
    "bf16 and fused AdamW": replace(ALL, channels_last=False),
    "the three together": ALL,
    "the three and compiled": replace(ALL, compile=True),
}
ON_CUDA = {"tf32": replace(PLAIN, precision="tf32")}


def ways(cuda: bool) -> dict[str, tuple[Way, Way]]:
    """Each rung's way and the one it is held against, by name."""
    rungs = {**ALONE, **(ON_CUDA if cuda else {}), **TOGETHER}
    found = {"as it is": (PLAIN, PLAIN)} | {name: (way, PLAIN) for name, way in rungs.items()}
    for width in WIDTHS:
        base = Way(NARROW_BATCH, width, channels_last=True)
        found[f"bf16 at width {width}"] = replace(base, precision="bf16"), base
    return found


def settings(cuda: bool) -> list[Row]:
    return [{"part": "training", "rung": name} for name in ways(cuda)]


def measure(bench: Bench, row: Row) -> Row:
    """A way against its base; the bytes at the peak, the FLOPs, and how far apart the gradients are."""
    way, base = ways(bench.cuda)[row["rung"]]
    with ExitStack() as stack:
        plain, step = (Step(bench, each) for each in (base, way))
        found: Row = {"way": asdict(way), "mode": str(SpeedMode(way.precision, way.compile))}
        try:
            found |= stack.enter_context(step.ready())
        except Exception as error:  # no compiler, an operation that is not there
            return {**found, "missing": first_line(error)}
        stack.enter_context(plain.ready())
        if way.batch == base.batch and way.width is None:  # a fresh network ends in zeros
            found |= difference(step.gradient(), plain.gradient())
        if not way.compile:
            found["peak_bytes"] = peak_bytes(step, bench.device)
        if way.width is None:
            found["flops"] = plain.flops()
        found |= bench.against(plain, step, way.batch, base.batch)
    if way.compile:
        saved = way.batch * (found["base_seconds_a_picture"][1] - found["seconds_a_picture"][1])
        found["pays_after_steps"] = round(found["setup_seconds"] / saved) if saved > 0 else None
    return found


class Step:
    """A step of a way: loss, gradient, optimizer, on pictures of noise: what they show costs nothing."""

    def __init__(self, bench: Bench, way: Way) -> None:
        self.bench, self.way, model = bench, way, bench.model
        network = deepcopy(model.network) if way.width is None else fresh(model.network, way.width)
        layout = torch.channels_last if way.channels_last else torch.contiguous_format
        self.network = network.to(device=bench.device, memory_format=layout).train()  # type: ignore[call-overload]
        drawn = torch.Generator().manual_seed(bench.seed)
        shape = way.batch, *model.shape
        pictures, noise = (torch.randn(shape, generator=drawn).to(bench.device) for _ in range(2))
        self.pictures, self.noise = (x.contiguous(memory_format=layout) for x in (pictures, noise))
        self.times = 1 + (model.path.T - 1) * torch.rand(way.batch, generator=drawn, dtype=torch.float64)
        self.labels = torch.randint(len(model.classes), (way.batch,), generator=drawn).to(bench.device)
        self.mode = SpeedMode(way.precision, way.compile)
        self.forward: Callable[..., Tensor] = self.mode.cast(self.network)
        weights, fused = self.network.parameters(), way.fused
        self.optimizer = torch.optim.AdamW(weights, 1e-6, fused=fused, foreach=False if not fused else None)

    @contextmanager
    def ready(self) -> Iterator[Row]:
        """Set it up: with compilation, how many seconds the first gradient took beyond a later one."""
        with ExitStack() as stack:
            stack.enter_context(self.mode.matmuls())
            if self.way.checkpointed:
                stack.enter_context(recomputed(self.network, (Stage,)))
            facts: Row = {}
            if self.way.compile:
                stack.enter_context(compiling())
                self.forward = self.mode.cast(self.mode.compiled(self.network))
                first, _, later = (self.bench.clock.seconds(self.gradient) for _ in range(3))
                facts = {"setup_seconds": round(first - later, 2)}
            yield facts

    def __call__(self) -> None:
        self._backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def gradient(self) -> list[Tensor]:
        """Of every weight; weights stay as they are."""
        self._backward()
        found = [p.grad.float().cpu() for p in self.network.parameters() if p.grad is not None]
        self.optimizer.zero_grad(set_to_none=True)
        return found

    def flops(self) -> int:
        """Of the forward and the backward pass of a picture, by count."""
        one = Step(replace(self.bench, device=torch.device("cpu")), replace(self.way, batch=1))
        return counted(one._backward)

    def _backward(self) -> None:
        model, parts = self.bench.model, self.way.parts
        for rows in torch.arange(self.way.batch).chunk(parts):
            mine = slice(int(rows[0]), int(rows[-1]) + 1)
            given = self.pictures[mine], self.noise[mine], self.times[mine], self.labels[mine]
            (diffusion_loss(self.forward, model.path, model.target, *given).mean() / parts).backward()


def fresh(network: nn.Module, width: int) -> nn.Module:
    """A new network of the model's shape but with another width."""
    assert isinstance(network, Patched) and isinstance(network.network, UNet)
    config = replace(network.network.config, base_channels=width)
    return Patched(UNet(config), network.patch)


@contextmanager
def compiling() -> Iterator[None]:
    """Compile in this process, with nothing kept from before: else the set-up would not be what it takes."""
    from torch._inductor import config

    before, name = os.environ.get("TORCHINDUCTOR_CACHE_DIR"), "TORCHINDUCTOR_CACHE_DIR"
    with tempfile.TemporaryDirectory() as folder, config.patch(compile_threads=1):
        os.environ[name] = folder
        torch.compiler.reset()
        try:
            yield
        finally:
            torch.compiler.reset()
            os.environ.pop(name)
            os.environ |= {} if before is None else {name: before}


def difference(found: list[Tensor], true: list[Tensor]) -> Row:
    """|g − r|/|r| over all weights, and how many tensors of g are zero where r is not."""
    apart = sum(float((g - r).square().sum()) for g, r in zip(found, true, strict=True))
    length = sum(float(r.square().sum()) for r in true)
    lost = sum(bool(r.any()) and not bool(g.any()) for g, r in zip(found, true, strict=True))
    return {"gradient_apart": float(f"{(apart / max(length, 1e-30)) ** 0.5:.2g}"), "gradients_lost": lost}
