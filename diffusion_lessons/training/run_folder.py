"""The folder of a training run: what it holds, and what going on with it needs.

`model.safetensors` (averaged weights, to sample from), `state.safetensors` (all that training goes on from)
and, at the end, `metrics.json`; where a task watches figures, they are lines of `log.jsonl`. Each is written
whole or not at all.
"""

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diffusion_lessons.checkpoint import read_tensors, write_tensors
from diffusion_lessons.support.files import atomic_write, writable
from diffusion_lessons.support.sharding import fill, here, whole
from diffusion_lessons.training.ema import EMA
from diffusion_lessons.training.progress import LossCurve
from diffusion_lessons.training.recipe import BUDGETS
from diffusion_lessons.training.tasks import Task

MODEL, STATE, METRICS = "model.safetensors", "state.safetensors", "metrics.json"
LOG = "log.jsonl"
NEEDED = {"recipe", "data", "finished", "step", "seconds", "ema_step", "scaler", "curve"}  # to go on
MOMENTS = ("exp_avg", "exp_avg_sq")  # of AdamW
UPDATES = "updates"  # how often AdamW changed a weight: not at every step where players take turns

Saved = tuple[dict[str, Tensor], dict[str, Any]]  # tensors and their description, as a state file holds them


@dataclass
class TrainingState:
    """All that changes while a network trains; `restore` changes it in place."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    ema: EMA
    curve: LossCurve = field(default_factory=LossCurve)
    step: int = 0
    seconds: float = 0.0
    measured: list[dict[str, Any]] = field(default_factory=list)  # the figures at each mark that is passed

    def finite(self) -> bool:
        """Whether every weight, raw and averaged, is a finite number."""
        weights = [*self.network.parameters(), *self.ema.shadow.values()]
        return bool(torch.stack(torch._foreach_norm([here(w.detach()) for w in weights])).isfinite().all())

    @torch.no_grad()
    def tensors(self) -> dict[str, Tensor]:
        """All tensors of the state by name; of those shared out as `whole` says, so that all must ask."""
        tensors = {f"ema.{name}": whole(weight) for name, weight in self.ema.shadow.items()}
        for name, parameter in self.network.named_parameters():
            tensors[f"network.{name}"] = whole(parameter)
            adam = self.optimizer.state.get(parameter, {})
            tensors |= {f"{moment}.{name}": whole(adam[moment]) for moment in MOMENTS if moment in adam}
            if "step" in adam:
                tensors[f"{UPDATES}.{name}"] = torch.as_tensor(adam["step"])
        return tensors

    def save(
        self, folder: Path, task: Task, data: str, finished: bool, tensors: Mapping[str, Tensor]
    ) -> None:
        """Write the state, with its `tensors` and the data's fingerprint; ValueError where that fails."""
        description = {
            "kind": "training state",
            "task": type(task).__name__,
            "recipe": task.plan.to_json(),
            "from": task.start,
            "marks": list(task.marks),
            "measured": self.measured,
            "data": data,
            "finished": finished,
            "step": self.step,
            "seconds": self.seconds,
            "ema_step": self.ema.step,
            "scaler": self.scaler.state_dict(),
            "curve": asdict(self.curve),
        }
        write_tensors(folder / STATE, tensors, description)

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
        """Go back to a saved state, layouts in memory as they are now."""
        self.step, self.seconds = description["step"], description["seconds"]
        self.ema.step = description["ema_step"]
        self.curve = LossCurve(**description["curve"])
        self.measured = list(description.get("measured", []))
        if description["scaler"] and self.scaler.is_enabled():
            self.scaler.load_state_dict(description["scaler"])
        for name, parameter in self.network.named_parameters():
            fill(parameter, tensors[f"network.{name}"])
            if f"{MOMENTS[0]}.{name}" in tensors:
                moments = {m: torch.zeros_like(parameter) for m in MOMENTS}
                for moment, value in moments.items():
                    fill(value, tensors[f"{moment}.{name}"])
                updates = tensors.get(f"{UPDATES}.{name}", torch.tensor(float(self.step)))
                updates = updates.to(parameter.device, copy=True)
                self.optimizer.state[parameter] = {"step": updates, **moments}
        for name, weight in self.ema.shadow.items():
            fill(weight, tensors[f"ema.{name}"])


def prepare(folder: Path, resume: bool) -> None:
    """Make the folder of a run; ValueError where it holds one already, or none to be resumed."""
    there = [name for name in (STATE, MODEL, METRICS) if (folder / name).exists()]
    if there and not resume:
        raise ValueError(
            f"{folder} already holds a run ({there[0]}): go on with it by --resume, or choose another folder"
        )
    if resume and STATE not in there:
        raise ValueError(f"nothing to resume in {folder}: there is no {STATE}; start without --resume")
    writable(folder)
    for name in (MODEL, STATE, METRICS, LOG):  # what a killed process left half written
        for partial in folder.glob(f".{name}.*.partial"):
            with suppress(OSError):
                partial.unlink()


def read_state(folder: Path, task: Task) -> Saved:
    """What a run saved; ValueError for a damaged file, and for another task, plan or data.

    The data are told by their checksum, wherever they lie now. A finished run goes on with a budget that it
    has not used up; with any other it is a ValueError too.
    """
    tensors, description = read_tensors(folder / STATE, kind="training state")
    lacks = NEEDED - description.keys()
    if lacks:
        what = f"is no run that this version can go on with: it lacks {min(lacks)!r}"
        raise ValueError(f"{folder / STATE} {what}")
    plan, finished = task.plan, description["finished"]
    own = {"task": type(task).__name__, "from": task.start, "marks": task.marks}
    mine = json.loads(json.dumps({**own, **plan.to_json()}))
    usual = {each.name: each.default for each in fields(plan)}  # of what an older version did not know yet
    usual |= {"task": mine["task"], "from": None, "marks": ()}
    saved = {**json.loads(json.dumps(usual)), **description["recipe"]}
    saved |= {name: description[name] for name in own if name in description}
    for name in sorted((mine.keys() | saved.keys()) - {"data", *(BUDGETS if finished else ())}):
        if mine.get(name) != saved.get(name):
            raise ValueError(
                f"the run in {folder} has another recipe: {name} is {saved.get(name)!r} there and "
                f"{mine.get(name)!r} here; resume with the same one, or train in another folder"
            )
    if description["data"] != (found := task.dataset.fingerprint()):
        raise ValueError(
            f"the run in {folder} was trained on other pictures than these ({task.dataset.name}): shape and "
            f"checksum are {description['data']} there and {found} here; go on with the same pictures, or "
            "train in another folder"
        )
    if finished and plan.done(description["step"], description["seconds"]) == 1:
        raise ValueError(
            f"the run in {folder} is finished: nothing to resume; it has {description['step']} steps and "
            f"{description['seconds'] / 60:.1f} minutes, and goes on with a larger budget"
        )
    return tensors, description


def log(file: Path, figures: Mapping[str, float]) -> None:
    """Add a line of figures at a "step"; lines of steps that a killed run had reached are replaced."""
    kept = [line for line in logged(file) if line["step"] < figures["step"]]
    with atomic_write(file) as partial:
        lines = (json.dumps(line) for line in [*kept, figures])
        partial.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def logged(file: Path) -> list[dict[str, float]]:
    """The figures of a run by step; none where it logged none."""
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def write_metrics(file: Path, metrics: Mapping[str, Any]) -> None:
    """Write figures as JSON, whole or not at all; what is not a finite number becomes null."""
    plain = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in metrics.items()}
    with atomic_write(file) as partial:
        partial.write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")
