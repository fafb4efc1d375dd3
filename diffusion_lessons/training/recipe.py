"""How a model is trained, as plain values: what to build, on what data, how long, how fast."""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Literal, Self, get_args

import torch
from torch import nn

from diffusion_lessons import losses
from diffusion_lessons.data.dataset import Rows
from diffusion_lessons.networks import Patched, UNet, UNetConfig, describe
from diffusion_lessons.paths import DiscreteVP, NoisePath, StraightPath
from diffusion_lessons.schedules import cosine_betas, linear_betas, scaled_linear_betas, sigmoid_betas
from diffusion_lessons.support.errors import unknown
from diffusion_lessons.support.machine import fastest_layout
from diffusion_lessons.support.seeds import checked_seed, layers_seeded
from diffusion_lessons.targets import TARGETS
from diffusion_lessons.times import Warp, logit_normal

PATHS: dict[str, Callable[[], NoisePath]] = {
    "cosine": lambda: DiscreteVP(cosine_betas()),
    "linear": lambda: DiscreteVP(linear_betas()),
    "scaled-linear": lambda: DiscreteVP(scaled_linear_betas()),
    "sigmoid": lambda: DiscreteVP(sigmoid_betas()),
    "straight": StraightPath,
}
TIMES: dict[str, Warp] = {"uniform": lambda shares: shares, "logit-normal": logit_normal()}
WEIGHTS: dict[str, Callable[[NoisePath], losses.Weight | None]] = {
    "plain": lambda path: None,  # the plain squared error of whatever the network outputs
    "simple": lambda path: losses.simple,
    "truncated-snr": lambda path: losses.truncated_snr,
    "snr-plus-one": lambda path: losses.snr_plus_one,
    "min-snr": lambda path: losses.min_snr(),
    "p2": lambda path: losses.p2(),
    "variational-bound": losses.variational_bound,
}
DECAYS: dict[str, Callable[[float], float]] = {
    "cosine": lambda done: (1 + math.cos(math.pi * done)) / 2,
    "linear": lambda done: 1 - done,
    "none": lambda done: 1.0,
}
Precision = Literal["auto", "float32", "tf32", "bf16", "fp16"]
Compile = Literal["auto", "on", "off"]
BUDGETS = ("minutes", "steps", "images")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long anything is trained, how fast, and in what precision."""

    # the comments behind the fields are what --help says
    minutes: float | None = None  # budget of training proper; setting up and compiling come on top
    steps: int | None = None  # budget in steps; exactly one of minutes, steps and images is given
    images: int | None = None  # budget in rows seen
    batch: int = 32  # rows a step, over all processes
    lr: float = 2e-3  # peak learning rate
    warmup: int = 30  # steps of linear warm-up
    decay: Literal["cosine", "linear", "none"] = "cosine"  # of the learning rate, to 0
    weight_decay: float = 0.01  # of AdamW
    grad_clip: float | None = 1.0  # largest norm of the gradient; None for no limit
    ema_decay: float = 0.999  # of the averaged weights that are kept; 0 keeps the plain ones
    precision: Precision = "auto"  # auto is the fastest that the hardware really has
    compile: Compile = "auto"  # auto compiles on CUDA where the budget is long enough to pay for it
    channels_last: bool | None = None  # memory layout of pictures and weights; None is the fastest here
    seed: int = 0  # of weights, data order, times, noise and dropout
    checkpoint_every: float = 30.0  # seconds between checkpoints

    # fields that hold a name with the names each knows, and fields that hold a share
    names: ClassVar[dict[str, Iterable[str]]] = {
        "decay": DECAYS,
        "precision": get_args(Precision),
        "compile": get_args(Compile),
    }
    shares: ClassVar[tuple[str, ...]] = ("ema_decay",)

    def __post_init__(self) -> None:
        for name, known in self.names.items():
            if getattr(self, name) not in list(known):
                raise unknown(name, getattr(self, name), known)
        given = {name: getattr(self, name) for name in BUDGETS if getattr(self, name) is not None}
        if len(given) != 1:
            got = given or "none"
            raise ValueError(f"training needs exactly one budget of minutes, steps or images, got {got}")
        for name in (*given, "batch", "lr", "grad_clip"):
            amount = getattr(self, name)
            if amount is not None and not (amount > 0 and math.isfinite(amount)):
                raise ValueError(f"{name} must be above 0, got {amount}")
            if name in ("steps", "images", "batch") and amount % 1:
                raise ValueError(f"{name} is a whole number, got {amount}")
        for name in self.shares:
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is a share in [0, 1), got {getattr(self, name)}")
        checked_seed(self.seed)
        for name in ("warmup", "weight_decay", "checkpoint_every"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} cannot be negative, got {getattr(self, name)}")

    def layout(self, device: torch.device) -> torch.memory_format:
        """Of pictures and of the weights of convolutions in memory."""
        if self.channels_last is None:
            return fastest_layout(device)
        return torch.channels_last if self.channels_last else torch.contiguous_format

    @property
    def budget(self) -> tuple[str, float]:
        """Its unit, one of `BUDGETS`, and how many of them there are."""
        return next((name, amount) for name in BUDGETS if (amount := getattr(self, name)) is not None)

    def spent(self, step: int, seconds: float) -> float:
        """What is used up after so many steps and seconds, in the unit of the budget."""
        return {"minutes": seconds / 60, "steps": step, "images": step * self.batch}[self.budget[0]]

    def done(self, step: int, seconds: float) -> float:
        """Share of the budget that is used up after so many steps and seconds, 0 to 1."""
        return min(1.0, self.spent(step, seconds) / self.budget[1])

    @property
    def is_long(self) -> bool:
        """Whether the budget pays for compiling the network: a minute, or 1000 steps."""
        return self.done(999, 0.0) < 1 if self.minutes is None else self.minutes >= 1

    def learning_rate(self, step: int, done: float) -> float:
        """Linear warm-up over the first steps, decay to 0 at the end of the budget."""
        return self.lr * min(1.0, (step + 1) / max(1, self.warmup)) * DECAYS[self.decay](done)

    def to_json(self) -> dict[str, Any]:
        """The fields as plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`; a field that this version does not know is a ValueError."""
        known = [f.name for f in fields(cls)]
        for name in values:
            if name not in known:
                raise unknown("field of a recipe", name, known)
        return cls(**values)


@dataclass(frozen=True)
class Recipe(Plan):
    """Everything that decides how a denoiser is trained. The same recipe and data give the same model."""

    data: str = "digits"  # name of the data set, as `load_dataset` knows it
    size: int | None = None  # height and width in pixels; None takes the data set's own
    base_channels: int = 24  # width of the U-Net's first level
    channel_mults: tuple[int, ...] = (1, 2, 2)  # width of each level as a multiple of it
    blocks_per_level: int = 1  # residual blocks on the way down; one more on the way up
    attention_levels: tuple[int, ...] = (2,)  # which levels attend, counted from 0, the finest
    head_dim: int = 24  # width of one attention head
    dropout: float = 0.0  # rate inside the residual blocks
    patch: int | None = None  # pixels a side folded into channels; None is 2 from 32 pixels on, else 1
    path: str = "cosine"  # noise schedule: cosine, linear, scaled-linear, sigmoid or straight
    target: str = "v"  # what the network outputs: epsilon, x0, v or flow
    weight: str = "plain"  # of the loss: plain, simple, truncated-snr, snr-plus-one, min-snr, p2 …
    times: str = "uniform"  # at which is trained: uniform, or logit-normal, most in the middle of the path
    time_power: float = 1.0  # the share of T is raised to it: 0.5 draws more times towards noise
    class_dropout: float = 0.1  # share of conditions that training drops, for classifier-free guidance

    names: ClassVar = {"path": PATHS, "target": TARGETS, "weight": WEIGHTS, "times": TIMES, **Plan.names}
    shares: ClassVar = ("class_dropout", "dropout", "ema_decay")

    def __post_init__(self) -> None:
        for name in ("channel_mults", "attention_levels"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # JSON has only lists
        super().__post_init__()
        if not (self.time_power > 0 and math.isfinite(self.time_power)):
            raise ValueError(f"time_power must be above 0, got {self.time_power}")
        path = self.build_path()
        if float(TARGETS[self.target].det(path(float(path.T)))) == 0:
            raise ValueError(
                f"the target {self.target!r} cannot be solved where the path {self.path!r} ends (no "
                "signal is left there): use the target 'v', or 'flow' on the straight path"
            )
        self.build_weight(path)  # one that this path does not have is refused

    def build_path(self) -> NoisePath:
        """The path that `path` names."""
        return PATHS[self.path]()

    def build_weight(self, path: NoisePath) -> losses.Weight | None:
        """The loss weight that `weight` names."""
        return WEIGHTS[self.weight](path)

    def build_warp(self) -> Warp:
        """What `times` and `time_power` do to uniform shares of T."""
        return lambda shares: TIMES[self.times](shares) ** self.time_power

    def build_network(self, dataset: Rows, start: nn.Module | None = None) -> nn.Module:
        """The U-Net for the data set's pictures and classes, its random start drawn from the seed.

        Where `start` is given, the weights are a copy of its; one of another shape is a ValueError.
        """
        *_, channels, height, _ = dataset.shape
        patch = self.patch or (2 if height >= 32 else 1)
        config = UNetConfig(
            in_channels=channels * patch**2,
            out_channels=channels * patch**2,
            base_channels=self.base_channels,
            channel_mults=self.channel_mults,
            blocks_per_level=self.blocks_per_level,
            attention_levels=self.attention_levels,
            head_dim=self.head_dim,
            num_classes=len(dataset.classes) or None,
            dropout=self.dropout,
        )
        with layers_seeded(self.seed):
            network: nn.Module = UNet(config)
        network = network if patch == 1 else Patched(network, patch)
        if start is not None:
            mine, theirs = _facts(network), _facts(start)
            odd = [name for name in mine if mine[name] != theirs.get(name)]
            if odd:
                words = ", ".join(f"{name} is {theirs.get(name)} there and {mine[name]} here" for name in odd)
                raise ValueError(f"the weights to start from are of another network: {words}")
            network.load_state_dict(start.state_dict())
        return network


def _facts(network: nn.Module) -> dict[str, str]:
    """What two networks must have in common for the weights of one to fit the other."""
    described = describe(network)
    inside = described.get("network", described)
    facts = {"network": inside["name"], "patch": described.get("patch", 1), **inside["config"]}
    return {name: json.dumps(value) for name, value in facts.items() if name != "dropout"}
