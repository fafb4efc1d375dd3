"""Training: one function from a recipe and a data set to a folder with a model.

Nothing is lost: the run can be killed at any moment and goes on from its last checkpoint, to the
same weights, bit for bit on a CPU, as if it had not stopped (budgets in steps or images).
"""

import copy
import math
import platform
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from diffusion_lessons import run_folder
from diffusion_lessons.batches import Batch, Batches
from diffusion_lessons.checkpoint import Checkpoint, save_checkpoint
from diffusion_lessons.data.dataset import Dataset
from diffusion_lessons.ema import EMA
from diffusion_lessons.losses import diffusion_loss
from diffusion_lessons.precision import Check, SpeedMode, candidates, choose
from diffusion_lessons.processes import Processes, join
from diffusion_lessons.progress import Meter, catch_interrupts
from diffusion_lessons.recipe import Recipe
from diffusion_lessons.run_folder import METRICS, MODEL, TrainingState

CHECK_BATCH = 16  # pictures that an eager speed mode is checked on
AGREE_EVERY = 10  # steps after which several processes agree on the time
LONG_STEPS, LONG_MINUTES = 5000, 5  # budgets from which compiling pays for itself


class TrainingInterrupted(Exception):
    """Ctrl-C: the run is saved; the message says how to go on."""


class NonFiniteLossError(ValueError):
    """The loss or the gradient became NaN or infinite; the message names the step and the last good file."""


@dataclass(frozen=True)
class TrainingResult:
    """What `train` leaves behind.

    Args:
        file: the checkpoint with the averaged weights.
        metrics: as in metrics.json.
    """

    file: Path
    metrics: dict[str, Any]


def train(
    recipe: Recipe,
    dataset: Dataset,
    out: Path | str,
    resume: bool = False,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> TrainingResult:
    """Train a model by a recipe.

    Args:
        dataset: uint8 pictures (N, C, H, W) with labels.
        out: folder for model.safetensors, metrics.json and state.safetensors.
        resume: go on with the run in `out`, which must have the same recipe and data.
        device: None is a GPU where there is one.
        progress: show a bar with the time left.

    Raises:
        ValueError: a folder that holds another run or cannot be written; NonFiniteLossError among them.
        TrainingInterrupted: after Ctrl-C, once the run is saved.
    """
    clock = time.perf_counter()
    processes = join(device)
    folder = Path(out)
    if processes.rank == 0:
        run_folder.prepare(folder, resume)
    processes.wait()
    saved = run_folder.read_state(folder, recipe, dataset) if resume else None
    devices = [processes.device] if processes.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):  # dropout layers draw from the global generator
        trainer = Trainer(recipe, dataset, folder, processes, saved, clock)
        with trainer.mode.matmuls(), catch_interrupts() as interrupt:
            trainer.run(interrupt, progress and processes.rank == 0)
    return TrainingResult(folder / MODEL, trainer.metrics())


class Trainer:
    """The parts of one run, put together; `train` is how it is used.

    Args:
        saved: what `read_state` gave; None for a fresh start.
        clock: `time.perf_counter()` when the run began: the budget counts from there.
    """

    def __init__(
        self,
        recipe: Recipe,
        dataset: Dataset,
        folder: Path,
        processes: Processes,
        saved: tuple[dict[str, Tensor], dict[str, Any]] | None,
        clock: float,
    ) -> None:
        self.recipe, self.dataset, self.folder, self.processes = recipe, dataset, folder, processes
        self.data, self.clock = fingerprint(dataset), clock
        device = processes.device
        self.path, self.target = recipe.build_path(), recipe.build_target()
        self.weight = recipe.build_weight(self.path)
        self.batches = Batches(dataset, self.path, recipe, device, processes.rank, processes.world)
        layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
        network = recipe.build_network(dataset).to(device=device, memory_format=layout)  # type: ignore[call-overload]
        self.averaged = copy.deepcopy(network).eval()
        self.meter = Meter(processes)

        modes = candidates(recipe.precision, recipe.compile, device, recipe.is_long())
        few = None if modes[0].compile else slice(0, CHECK_BATCH)  # a compiled graph is made for one size
        sample = self.batches.draw(0, few)
        self.mode, compiled, self.checks = choose(network, lambda n: self.loss(n, sample), modes)
        for check in self.checks:
            if not check.holds and processes.rank == 0:
                warnings.warn(f"{check}; training goes on in {self.mode}", RuntimeWarning, stacklevel=3)

        fused = device.type in ("cpu", "cuda")
        optimizer = torch.optim.AdamW(
            network.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay, fused=fused
        )
        scaler = torch.amp.GradScaler(device.type, enabled=self.mode.precision == "fp16")
        self.state = TrainingState(network, optimizer, scaler, EMA(network, recipe.ema_decay))
        if saved is not None:
            self.state.restore(*saved)
        self.seconds_before, self.steps_before = self.state.seconds, self.state.step
        self.forward = self.mode.cast(processes.wrap(compiled))

    def loss(self, forward: Callable[..., Tensor], batch: Batch) -> Tensor:
        """The mean loss of a batch, 0-d, on the device."""
        return diffusion_loss(forward, self.path, self.target, *batch, self.weight).mean()  # type: ignore[arg-type]

    def run(self, interrupt: threading.Event, progress: bool) -> None:
        """Train to the end of the budget, saving now and then."""
        state, recipe = self.state, self.recipe
        agree_every = 1 if self.processes.world == 1 else AGREE_EVERY
        self.began = read_at = saved_at = state.seconds
        self.began_at = time.perf_counter()
        stop, seconds, fresh = False, state.seconds, True
        with progress_bar(progress) as bar:
            while True:
                if fresh or state.step % agree_every == 0:
                    now = self.seconds_before + time.perf_counter() - self.clock
                    seconds, asked = self.processes.share([now, float(interrupt.is_set())])
                    stop, fresh = asked > 0, False
                state.seconds = seconds
                done = recipe.done(state.step, seconds)
                ...
