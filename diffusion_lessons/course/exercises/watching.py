"""What a call leaves behind: arguments that changed, a seed that was set, gradients that arrive or do not."""

import functools
import inspect
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from types import FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from diffusion_lessons.course.exercises.compare import difference
from diffusion_lessons.course.exercises.values import Plain, plain

DEPTH = 6  # of containers, objects and closures that are looked into
GRADIENTS = "/gradients"  # stands for torch.is_grad_enabled() among the names of what was changed
SEED = "/seed"  # stands for the global random generators among the names of what was changed


@dataclass
class Watched:
    """A function that notes what it is called with, and which of that the call changes.

    A name of `changed` is an argument's whose numbers or entries changed, or `name/graph` (requires_grad was
    set), `name/grad` (a .grad was left on it) or `name/mode` (between train and eval); or GRADIENTS, that
    gradients are kept or not, for all that comes after.
    """

    function: Callable[..., Any]
    names: inspect.Signature | None = None
    changed: dict[str, None] = field(default_factory=dict)
    calls: list[dict[str, Plain]] = field(default_factory=list)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        given = self._named(args, kwargs)
        before = {name: _state(value) for name, value in given.items()}
        self.calls.append({name: plain(value) for name, value in given.items()})
        kept = torch.is_grad_enabled()
        try:
            return self.function(*args, **kwargs)
        finally:
            if torch.is_grad_enabled() != kept:
                torch.set_grad_enabled(kept)
                self.changed[GRADIENTS] = None
            self.changed |= dict.fromkeys(_changes(before, given))

    def _named(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        if self.names is not None:
            with suppress(TypeError):  # the call itself will say so
                return dict(self.names.bind(*args, **kwargs).arguments)
        return {f"argument {place}": value for place, value in enumerate(args, 1)} | kwargs


def _changes(before: dict[str, dict[str, Plain]], given: dict[str, Any]) -> Iterator[str]:
    for name, was in before.items():
        now = _state(given[name])
        for aspect in was:
            data = aspect in ("", "/grad")
            same = (
                difference(was[aspect], now[aspect], 0, 0, False) is None
                if data
                else was[aspect] == now[aspect]
            )
            if not same:
                yield name + aspect


def _state(value: Any) -> dict[str, Plain]:
    tensors: list[Tensor] = []
    modules: list[nn.Module] = []
    _collect(value, tensors, modules, set(), 0)
    return {
        "": [plain(value), *map(plain, () if isinstance(value, Tensor) else tensors)],
        "/graph": [each.requires_grad for each in tensors],
        "/grad": [plain(each.grad) for each in tensors if each.is_leaf],
        "/mode": [each.training for module in modules for each in module.modules()],
    }


def _collect(value: Any, tensors: list[Tensor], modules: list[nn.Module], seen: set[int], depth: int) -> None:
    """All tensors and modules in a value: in lists, objects, and what a function was made with."""
    if depth > DEPTH or id(value) in seen or isinstance(value, (str, int, float, type, np.ndarray)):
        return
    seen.add(id(value))
    inside: Any = ()
    if isinstance(value, Tensor):
        tensors.append(value)
    elif isinstance(value, nn.Module):
        modules.append(value)
        tensors += [*value.parameters(), *value.buffers()]
    elif isinstance(value, dict):
        inside = value.values()
    elif isinstance(value, (list, tuple, set)):
        inside = value
    elif isinstance(value, functools.partial):
        inside = (value.func, *value.args, *value.keywords.values())
    elif isinstance(value, MethodType):
        inside = (value.__self__,)
    elif isinstance(value, FunctionType):
        with suppress(ValueError):  # a name that is not bound yet
            inside = [cell.cell_contents for cell in value.__closure__ or ()]
    elif hasattr(value, "__dict__"):
        inside = vars(value).values()
    for each in list(inside)[:1000]:
        _collect(each, tensors, modules, seen, depth + 1)


# Random generators ---------------------------------------------------------------------------------


def stir(seed: int) -> None:
    """Bring the global generators into a state of their own."""
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def generators() -> tuple[Any, ...]:
    """The states of the global generators; equal after calls that began with others, they were set."""
    _, key, place, *_ = np.random.get_state()
    return torch.get_rng_state().numpy().tobytes(), (key.tobytes(), place), random.getstate()  # type: ignore


# Gradients -----------------------------------------------------------------------------------------


def learning(value: Any) -> tuple[Any, Tensor]:
    """A tensor, or a function that stands for a network, with the tensor that a gradient should reach."""
    if isinstance(value, Tensor):
        leaf = value.detach().clone().requires_grad_()
        return leaf, leaf
    gain = torch.ones((), requires_grad=True)
    return (lambda *args, **kwargs: value(*args, **kwargs) * gain), gain


def reached(result: Any, leaves: dict[str, Tensor]) -> dict[str, Plain]:
    """For each leaf the gradient of a weighted sum of all numbers of a result; None where none arrives."""
    tensors: list[Tensor] = []
    _collect(result, tensors, [], set(), 0)
    total = torch.zeros((), dtype=torch.float64)
    for each in tensors:
        if each.requires_grad:
            total = total + (each.double().flatten() * torch.arange(1, each.numel() + 1).cos()).sum().cpu()
    if not total.requires_grad:
        return dict.fromkeys(leaves)
    found = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    return {name: plain(each) for name, each in zip(leaves, found, strict=True)}
