"""Drawing pictures, one rung at a time: the network run in other ways, and models asked less often."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from diffusion_lessons import zoo
from diffusion_lessons.denoiser import NetworkDenoiser
from diffusion_lessons.experiments.clock import peak_bytes
from diffusion_lessons.experiments.ladder.shared import Bench, Row
from diffusion_lessons.experiments.ladder.training import compiling
from diffusion_lessons.experiments.pictures import STUDENTS
from diffusion_lessons.guidance import ClassifierFreeGuidance, Clip
from diffusion_lessons.onnx_files.opening import open_onnx
from diffusion_lessons.onnx_files.session import PROVIDERS, checked_provider
from diffusion_lessons.onnx_files.writing import write_onnx
from diffusion_lessons.samplers import SAMPLERS
from diffusion_lessons.support.errors import first_line
from diffusion_lessons.training.speed import SpeedMode

STEPS, BATCH = 25, 16


@dataclass(frozen=True)
class Way:
    """How pictures are drawn; as it stands the way that others are held against."""

    batch: int = BATCH
    steps: int = STEPS
    sampler: str = "ddim"
    guidance: float = 1.0
    student: str = ""  # in the place of the model
    provider: str = ""  # of ONNX Runtime; without one the network is PyTorch's
    channels_last: bool = False
    precision: str = "float32"
    compile: bool = False

    @property
    def evaluations(self) -> int:
        """Of a picture: every sampler here asks once a step, twice with guidance."""
        return self.steps * (1 if self.guidance == 1 else 2)


PLAIN = Way()


def ways(cuda: bool) -> dict[str, tuple[Way, Way]]:
    """Each rung's way and the one it is held against, by name."""
    alone = {
        "as it is": PLAIN,
        "guidance 2": replace(PLAIN, guidance=2.0),
        "channels-last": replace(PLAIN, channels_last=True),
        "bf16": replace(PLAIN, precision="bf16"),
        "compiled": replace(PLAIN, compile=True),
        "batch of 1": replace(PLAIN, batch=1),
        "batch of 64": replace(PLAIN, batch=64),
        "DPM-Solver++(2M), 8 steps": replace(PLAIN, sampler="dpmpp-2m", steps=8),
    } | {
        f"student of {end.replace('-', ' ')}": replace(PLAIN, student=f"mnist-unet-{end}", steps=steps)
        for steps, end in sorted(STUDENTS.items(), reverse=True)
    }
    found = {name: (way, PLAIN) for name, way in alone.items()}
    providers = ("cuda", "tensorrt") if cuda else ("cpu",)
    for provider in providers:
        for batch in (1, BATCH, 64):
            base = replace(PLAIN, batch=batch)
            found[f"ONNX Runtime, {provider}, batch of {batch}"] = replace(base, provider=provider), base
    fast = replace(PLAIN, student=f"mnist-unet-{STUDENTS[4]}", steps=4, provider=providers[0])
    return found | {"ONNX Runtime and student of 4 steps": (fast, PLAIN)}


def settings(cuda: bool) -> list[Row]:
    return [{"part": "sampling", "rung": name} for name in ways(cuda)]


def measure(bench: Bench, row: Row) -> Row:
    """A way against its base; evaluations, bytes at the peak, and how far its pictures are from those."""
    way, base = ways(bench.cuda)[row["rung"]]
    found: Row = {"way": asdict(way), "evaluations": way.evaluations, "base_evaluations": base.evaluations}
    with ExitStack() as stack, torch.no_grad():
        drawing, plain = Drawing(bench, way), Drawing(bench, base)
        try:
            found |= stack.enter_context(drawing.ready())
            ours = drawing()
        except Exception as error:  # a provider or a compiler that is not here
            return {**found, "missing": first_line(error)}
        stack.enter_context(plain.ready())
        if (way.batch, way.steps, way.guidance) == (base.batch, base.steps, base.guidance):
            apart = (ours - plain()).square().mean().sqrt()
            found["pictures_apart"] = float(f"{float(apart):.2g}")
        if not (way.compile or way.provider):
            found["peak_bytes"] = peak_bytes(drawing, bench.device)
        return found | bench.against(plain, drawing, way.batch, base.batch)


class Drawing:
    """A batch of pictures by a way, from the same noise each time."""

    def __init__(self, bench: Bench, way: Way) -> None:
        self.bench, self.way, model = bench, way, bench.model
        drawn = torch.Generator().manual_seed(bench.seed)
        self.noise = torch.randn(way.batch, *model.shape, generator=drawn).to(bench.device)
        self.labels = (torch.arange(way.batch) % len(model.classes)).to(bench.device)
        self.mode = SpeedMode(way.precision, way.compile)

    @contextmanager
    def ready(self) -> Iterator[Row]:
        """Make the network: compilation and export say what the first call took beyond a later one."""
        way, device, clock = self.way, self.bench.device, self.bench.clock
        model = zoo.load(way.student) if way.student else self.bench.model
        with ExitStack() as stack:
            stack.enter_context(self.mode.matmuls())
            begun, facts = clock.now(), {}
            if way.provider:
                checked_provider(way.provider)
                folder = stack.enter_context(tempfile.TemporaryDirectory())
                write_onnx(model, Path(folder) / "model.onnx")
                self.network = open_onnx(Path(folder) / "model.onnx", way.provider).network.to(device)
                self.network(self.noise, torch.ones(way.batch, device=device), self.labels)
                facts = {
                    "setup_seconds": round(clock.now() - begun, 2),
                    "provider": PROVIDERS[way.provider][0],
                }
            else:
                layout = torch.channels_last if way.channels_last else torch.contiguous_format
                network = deepcopy(model.network).to(device=device, memory_format=layout).eval()  # type: ignore[call-overload]
                if way.compile:
                    stack.enter_context(compiling())
                    network = self.mode.compiled(network)
                self.network = network
            denoiser = NetworkDenoiser(self.mode.cast(self.network), model.path, model.target)  # type: ignore[arg-type]
            guided = (
                denoiser if way.guidance == 1 else ClassifierFreeGuidance(denoiser, way.guidance, self.null())
            )
            self.denoiser, self.levels = Clip(guided), model.path.levels(way.steps)
            if way.compile:
                first, _, later = (clock.seconds(self) for _ in range(3))
                facts = {"setup_seconds": round(first - later, 2)}
            yield facts

    def null(self) -> Tensor:
        """The labels that mean "no label"."""
        null: Tensor = self.bench.model.network.null_condition(1)  # type: ignore[operator]
        return null.to(self.bench.device)

    def __call__(self) -> Tensor:
        *_, (_, x, _) = SAMPLERS[self.way.sampler](self.denoiser, self.noise, self.levels, self.labels)
        return x
