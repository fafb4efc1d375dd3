"""The one training loop: from a task to a folder with what it learnt.

A run that is killed goes on from its last checkpoint, and with a budget in steps or images reaches the same
weights, bit for bit on a CPU, as if it had never stopped.
"""

import copy
import math
import tempfile
import threading
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diffusion_lessons.support.machine import versions
from diffusion_lessons.support.processes import Device, Processes
from diffusion_lessons.support.seeds import seed_of
from diffusion_lessons.support.sharding import number
from diffusion_lessons.training import run_folder
from diffusion_lessons.training.ema import EMA
from diffusion_lessons.training.progress import Meter, catch_interrupts, progress_bar
from diffusion_lessons.training.run_folder import Saved, TrainingState
from diffusion_lessons.training.speed import candidates, choose
from diffusion_lessons.training.tasks import Task

CHECK_BATCH = 8  # rows that an eager speed mode is checked on
AGREE_EVERY = 10  # steps after which several processes agree on the time
MAX_SKIPPED = 50  # steps in a row that fp16 may skip while it looks for its scale


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C: the run is saved; the message says how to go on."""


class NonFiniteLossError(ValueError):
    """The loss or the gradient became NaN or infinite; the message names the step and what was kept."""


def train(
    task: Task, out: Path | str, resume: bool = False, device: Device = None, progress: bool = True
) -> dict[str, Any]:
    """Train what a task says, by its plan; gives what metrics.json holds (steps, loss, seconds, curve …).

    Args:
        task: `Denoising(recipe, dataset)`, or any other.
        out: folder for model.safetensors, metrics.json and state.safetensors.
        resume: go on with the run in `out`, which must have the same plan and data; a finished one needs a
            larger budget, whose learning rate it then follows from there.
        progress: show a bar with the time left.

    Raises:
        ValueError: a folder that holds another run or cannot be written; a loss that is not finite.
        TrainingInterrupted: after Ctrl-C, once the run is saved.
    """
    return _train(task, Path(out), resume, Processes(device), progress).metrics()


def fit(task: Task, device: Device = None, progress: bool = False) -> nn.Module:
    """Train in a folder that is thrown away: the network with averaged weights, in evaluation mode.

    Each process trains alone, also where there are several.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            processes = Processes(device, alone=True)
            trainer = _train(task, Path(folder), False, processes, progress)
            return trainer.averaged(trainer.state.tensors())
        except TrainingInterrupted as stop:
            raise KeyboardInterrupt("stopped; nothing of this training is kept") from stop


def _train(task: Task, folder: Path, resume: bool, processes: Processes, progress: bool) -> "Trainer":
    if processes.rank == 0:
        run_folder.prepare(folder, resume)
    processes.wait()
    saved = run_folder.read_state(folder, task) if resume else None
    devices = [processes.device] if processes.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):  # dropout layers draw from the global generator
        trainer = Trainer(task, folder, processes, saved)
        with trainer.mode.matmuls(), catch_interrupts() as interrupt:
            trainer.run(interrupt, progress and processes.rank == 0)
    return trainer


class Trainer:
    """The parts of one run, put together as new or as they were saved; `train` is how it is used."""

    def __init__(self, task: Task, folder: Path, processes: Processes, saved: Saved | None = None) -> None:
        self.task, self.plan, self.folder, self.processes = task, task.plan, folder, processes
        plan, device, self.data = task.plan, processes.device, task.dataset.fingerprint()
        network = task.place(device, processes.rank, processes.world).network

        compile = plan.compile
        if processes.sharded:
            compile = "off"
            if plan.compile == "on":
                raise ValueError("weights that are shared out are not compiled: leave out --compile on")
        modes = candidates(plan.precision, compile, device, plan.is_long)
        sample = task.batch(0, most=None if modes[0].compile else CHECK_BATCH)
        self.mode, compiled, self.checks = choose(network, lambda n: task.loss(n, sample), modes)
        for check in self.checks:
            if not check.holds and processes.rank == 0:
                warnings.warn(f"{check}; training goes on in {self.mode}", RuntimeWarning, stacklevel=4)

        mine = processes.sharded and processes.rank == 0
        self.plain = copy.deepcopy(network).cpu() if mine else None  # what is written is put together in it
        wrapped = processes.wrap(compiled)
        decay, fused = plan.weight_decay, device.type in ("cpu", "cuda")
        weights = network.parameters()
        optimizer = torch.optim.AdamW(weights, plan.lr, task.betas, weight_decay=decay, fused=fused)
        scaler = torch.amp.GradScaler(device.type, enabled=self.mode.precision == "fp16")
        self.state = TrainingState(network, optimizer, scaler, EMA(network, plan.ema_decay))
        if saved is not None:
            self.state.restore(*saved)
        self.forward = self.mode.cast(wrapped)
        self.meter = Meter(processes)
        self.skipped = 0  # steps in a row without a finite gradient
        self.saved = self.state.step
        self.resumed_at = self.state.step, self.state.seconds
        self.origin = {} if task.start is None else {"from": task.start}

    def run(self, interrupt: threading.Event, progress: bool) -> None:
        """Train to the end of the budget, saving now and then."""
        state, plan = self.state, self.plan
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
                done = plan.done(state.step, state.seconds)
                ending = stop > 0 or done == 1
                marked = self.marked() if done == 1 or not ending else []  # else when the run goes on
                save = ending or bool(marked) or state.seconds - saved_at >= plan.checkpoint_every
                if save or self.meter.full or state.seconds - read_at >= 1:
                    self.read()
                    read_at = state.seconds
                    bar.set_postfix_str(f"loss {state.curve.recent():.4f}", refresh=False)
                    bar.update(100 * done - bar.n)
                if marked:
                    self.save(finished=False)  # measuring may fail
                    clock += self.measure(marked)
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
        state, plan, optimizer = self.state, self.plan, self.state.optimizer
        seed = (
            torch.manual_seed if self.processes.device.type != "cpu" else torch.default_generator.manual_seed
        )
        seed(seed_of(plan.seed, "dropout", state.step, self.processes.rank))
        for group in optimizer.param_groups:
            group["lr"] = plan.learning_rate(state.step, done)
        loss = self.task.loss(self.forward, self.task.batch(state.step))
        state.scaler.scale(loss).backward()
        state.scaler.unscale_(optimizer)
        most = math.inf if plan.grad_clip is None else plan.grad_clip
        norm = torch.nn.utils.clip_grad_norm_(state.network.parameters(), most)
        state.scaler.step(optimizer)
        state.scaler.update()
        optimizer.zero_grad(set_to_none=True)
        state.ema.update(state.network)
        self.meter.add(loss, number(norm))
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
            f"are kept in {self.folder}; train in another folder with a lower lr than {self.plan.lr:g}, "
            "or with precision float32"
        )

    def marked(self) -> list[float]:
        """The task's marks that are reached and not measured yet."""
        spent = self.plan.spent(self.state.step, self.state.seconds)
        return [mark for mark in self.task.marks[len(self.state.measured) :] if mark <= spent]

    def measure(self, marks: list[float]) -> float:
        """Have the network as it is now measured for these marks; gives the seconds that it took."""
        begun = time.perf_counter()
        tensors = self.state.tensors()  # all processes send theirs
        figures = dict(self.task.measured(self.averaged(tensors))) if self.processes.rank == 0 else {}
        self.state.measured += [{"mark": mark, "step": self.state.step, **figures} for mark in marks]
        self.processes.wait()
        return time.perf_counter() - begun

    def save(self, finished: bool) -> None:
        """Write what the folder of a run holds; the state comes last, since it is what says "finished"."""
        if not self.state.finite():
            raise self.not_finite(self.state.step, "a weight is not a finite number")
        tensors = self.state.tensors()  # of weights that are shared out, all processes send theirs
        if self.processes.rank == 0:
            if self.state.step:
                seconds = round(self.state.seconds, 3)
                info = {"steps": self.state.step, "seconds": seconds, "versions": versions(), **self.origin}
                averaged = self.averaged(tensors)
                self.task.write(self.folder / run_folder.MODEL, averaged, info)
                if figures := self.task.watched(averaged):
                    run_folder.log(self.folder / run_folder.LOG, {"step": self.state.step, **figures})
            if finished:
                run_folder.write_metrics(self.folder / run_folder.METRICS, self.metrics())
            self.state.save(self.folder, self.task, self.data, finished, tensors)
        self.saved = self.state.step
        self.processes.wait()

    def averaged(self, tensors: Mapping[str, Tensor]) -> nn.Module:
        """The network with the averaged weights of a state's tensors, in evaluation mode."""
        averaged = copy.deepcopy(self.plain or self.state.network).eval()
        ema = self.state.ema
        ema.copy_to(averaged, {name: tensors[f"ema.{name}"] for name in ema.shadow})
        return averaged

    def metrics(self) -> dict[str, Any]:
        """The figures of the run."""
        state, batch, device = self.state, self.plan.batch, self.processes.device
        steps, seconds = state.step - self.resumed_at[0], state.seconds - self.resumed_at[1]
        return {
            "steps": state.step,
            "images": state.step * batch,
            "images_per_second": steps * batch / max(seconds, 1e-9),
            "loss": state.curve.recent(),
            "seconds": state.seconds,
            "seed": self.plan.seed,
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            "processes": self.processes.world,
            "mode": str(self.mode),
            "checks": [str(check) for check in self.checks],
            "parameters": sum(p.numel() for p in state.network.parameters()),
            "curve": {"step": state.curve.steps, "loss": state.curve.points},
            "measured": state.measured,
            "versions": versions(),
            **self.origin,
        }
