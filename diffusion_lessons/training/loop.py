"""Training: one function from a recipe and a data set to a folder with a model.

Nothing is lost: a run that is killed goes on from its last checkpoint, and with a budget in steps or
images reaches the same weights, bit for bit on a CPU, as if it had never stopped.
"""

import copy
import math
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffusion_lessons.checkpoint import Checkpoint, save_checkpoint
from diffusion_lessons.data.dataset import Dataset
from diffusion_lessons.losses import diffusion_loss
from diffusion_lessons.support.machine import keep_freed_memory, versions
from diffusion_lessons.training.batches import Batch, Batches, seed_of
from diffusion_lessons.training.distillation import Distillation
from diffusion_lessons.training.ema import EMA
from diffusion_lessons.training.processes import Processes, join
from diffusion_lessons.training.progress import Meter, catch_interrupts, progress_bar, show
from diffusion_lessons.training.recipe import Recipe
from diffusion_lessons.training.run_folder import (
    METRICS,
    MODEL,
    TrainingState,
    fingerprint,
    prepare,
    read_state,
    write_metrics,
)
from diffusion_lessons.training.speed import candidates
from diffusion_lessons.training.speed_check import choose
from diffusion_lessons.winograd import pays

CHECK_BATCH = 8  # pictures that an eager speed mode is checked on
AGREE_EVERY = 10  # steps after which several processes agree on the time
MAX_SKIPPED = 50  # steps in a row that fp16 may skip while it looks for its scale


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C: the run is saved; the message says how to go on."""


class NonFiniteLossError(ValueError):
    """The loss or the gradient became NaN or infinite; the message names the step and what was kept."""


def train(
    recipe: Recipe,
    dataset: Dataset,
    out: Path | str,
    resume: bool = False,
    device: torch.device | str | None = None,
    progress: bool = True,
    distillation: Distillation | None = None,
) -> dict[str, Any]:
    """Train a model by a recipe.

    Args:
        dataset: uint8 pictures (N, C, H, W) with labels.
        out: folder for model.safetensors, metrics.json and state.safetensors.
        resume: go on with the run in `out`, which must have the same recipe and data.
        device: None is a GPU where there is one.
        progress: show a bar with the time left.
        distillation: learn from a teacher of the same shape, path and target, instead of from the pictures.

    Returns:
        What metrics.json holds: steps, images_per_second, loss, seconds, seed, device, versions, curve …

    Raises:
        ValueError: a folder that holds another run or cannot be written; a loss that is not finite.
        TrainingInterrupted: after Ctrl-C, once the run is saved.
    """
    processes, folder = join(device), Path(out)
    keep_freed_memory()
    if processes.rank == 0:
        prepare(folder, resume)
    processes.wait()
    saved = read_state(folder, recipe, dataset) if resume else None
    devices = [processes.device] if processes.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):  # dropout layers draw from the global generator
        trainer = Trainer(recipe, dataset, folder, processes, saved, distillation)
        with trainer.mode.matmuls(), catch_interrupts() as interrupt:
            trainer.run(interrupt, progress and processes.rank == 0)
    return trainer.metrics()


class Trainer:
    """The parts of one run, put together; `train` is how it is used.

    Args:
        saved: what `read_state` gave; None for a fresh start.
    """

    def __init__(
        self,
        recipe: Recipe,
        dataset: Dataset,
        folder: Path,
        processes: Processes,
        saved: tuple[dict[str, Tensor], dict[str, Any]] | None,
        distillation: Distillation | None = None,
    ) -> None:
        self.recipe, self.dataset, self.folder, self.processes = recipe, dataset, folder, processes
        self.data, device = fingerprint(dataset), processes.device
        self.path, self.target = recipe.build_path(), recipe.build_target()
        self.weight = recipe.build_weight(self.path)
        self.batches = Batches(
            dataset, self.path, recipe.batch, recipe.class_dropout, recipe.seed, device, recipe.channels_last
        ).shared(processes.rank, processes.world)
        layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
        network = recipe.build_network(dataset).to(device=device, memory_format=layout)  # type: ignore[call-overload]
        self.distillation = distillation
        if distillation is not None:
            distillation.teacher.network.to(device=device, memory_format=layout)  # type: ignore[call-overload]
            network.load_state_dict(distillation.teacher.network.state_dict())

        modes = candidates(recipe.precision, recipe.compile, device, recipe.is_long, pays(network, device))
        sample = self.batch(0, most=None if modes[0].compile else CHECK_BATCH)
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
        self.forward = self.mode.cast(processes.wrap(compiled))
        self.meter = Meter(processes)
        self.skipped = 0  # steps in a row without a finite gradient
        self.saved = self.state.step
        self.resumed_at = self.state.step, self.state.seconds

    def batch(self, step: int, most: int | None = None) -> Batch:
        """What a step learns from."""
        batch = self.batches(step, most)
        return batch if self.distillation is None else self.distillation(batch)

    def loss(self, forward: Callable[..., Tensor], batch: Batch) -> Tensor:
        """The mean loss of a batch, 0-d."""
        return diffusion_loss(forward, self.path, self.target, *batch, self.weight).mean()  # type: ignore[arg-type]

    def run(self, interrupt: threading.Event, progress: bool) -> None:
        """Train to the end of the budget, saving now and then."""
        state, recipe = self.state, self.recipe
        agree_every = 1 if self.processes.world == 1 else AGREE_EVERY
        if state.step == 0:
            self.save(finished=False)  # a disk that cannot be written should fail now
        clock = time.perf_counter() - state.seconds  # what came before an interruption counts too
        read_at = saved_at = state.seconds
        with progress_bar(progress) as bar:
            while True:
                if state.step % agree_every == 0 or state.step == self.resumed_at[0]:
                    now = [time.perf_counter() - clock, float(interrupt.is_set())]
                    state.seconds, stop = self.processes.share(now)
                done = recipe.done(state.step, state.seconds)
                ending = stop > 0 or done == 1
                save = ending or state.seconds - saved_at >= recipe.checkpoint_every
                if save or self.meter.full or state.seconds - read_at >= 1:
                    self.read()
                    read_at = state.seconds
                    show(bar, done, state.curve.recent())
                if save:
                    self.save(finished=done == 1)
                    saved_at = state.seconds
                if ending:
                    break
                self.step(done)
        if done < 1:
            raise TrainingInterrupted(
                f"stopped at step {state.step}, {done:.0%} of the budget; the run is saved in {self.folder}: "
                "go on with the same command and --resume"
            )

    def step(self, done: float) -> None:
        """One step of training; nothing here waits for the device."""
        state, recipe, optimizer = self.state, self.recipe, self.state.optimizer
        if recipe.dropout:
            torch.manual_seed(seed_of(recipe.seed, "dropout", state.step, self.processes.rank))
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate(state.step, done)
        loss = self.loss(self.forward, self.batch(state.step))
        state.scaler.scale(loss).backward()
        state.scaler.unscale_(optimizer)
        norm = torch.nn.utils.clip_grad_norm_(state.network.parameters(), recipe.grad_clip)
        state.scaler.step(optimizer)
        state.scaler.update()
        optimizer.zero_grad(set_to_none=True)
        state.ema.update(state.network)
        self.meter.add(loss, norm)
        state.step += 1

    def read(self) -> None:
        """Read the losses since the last time, and stop where one is not finite."""
        first = self.state.step - self.meter.count
        for step, (loss, norm) in enumerate(self.meter.read(), start=first):
            self.skipped = 0 if math.isfinite(norm) else self.skipped + 1
            if not math.isfinite(loss) or self.skipped > MAX_SKIPPED * self.state.scaler.is_enabled():
                raise self.not_finite(step, f"the loss is {loss:g} and the gradient's norm {norm:g}")
            self.state.curve.add(loss)

    def not_finite(self, step: int, what: str) -> NonFiniteLossError:
        return NonFiniteLossError(
            f"training stopped at step {step}: {what} ({self.mode}). The good weights of step {self.saved} "
            f"are kept in {self.folder}; train in another folder with a lower lr than {self.recipe.lr:g}, "
            "or with precision float32"
        )

    def save(self, finished: bool) -> None:
        """Write what the folder of a run holds; the state comes last, since it is what says "finished"."""
        if not self.state.finite():
            raise self.not_finite(self.state.step, "a weight is not a finite number")
        if self.processes.rank == 0:
            if self.state.step:
                save_checkpoint(self.folder / MODEL, self.checkpoint())
            if finished:
                write_metrics(self.folder / METRICS, self.metrics())
            self.state.save(self.folder, self.recipe, self.data, finished)
        self.saved = self.state.step
        self.processes.wait()

    def checkpoint(self) -> Checkpoint:
        """The model as it is now, with averaged weights."""
        averaged = copy.deepcopy(self.state.network).eval()
        self.state.ema.copy_to(averaged)
        info = {"steps": self.state.step, "seconds": round(self.state.seconds, 3), "versions": versions()}
        if self.distillation is not None:
            info["sampling"] = self.distillation.sampling
        classes, shape = self.dataset.classes, self.dataset.shape
        return Checkpoint(averaged, self.path, self.target, classes, shape, self.recipe.to_json(), info)

    def metrics(self) -> dict[str, Any]:
        """The figures of the run."""
        state, batch = self.state, self.recipe.batch
        steps, seconds = state.step - self.resumed_at[0], state.seconds - self.resumed_at[1]
        device = self.processes.device
        return {
            "steps": state.step,
            "images": state.step * batch,
            "images_per_second": steps * batch / max(seconds, 1e-9),
            "loss": state.curve.recent(),
            "seconds": state.seconds,
            "seed": self.recipe.seed,
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            "processes": self.processes.world,
            "mode": str(self.mode),
            "checks": [str(check) for check in self.checks],
            "parameters": sum(p.numel() for p in state.network.parameters()),
            "curve": {"step": state.curve.steps, "loss": state.curve.points},
            "versions": versions(),
        }
