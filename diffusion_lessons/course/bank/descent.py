"""The optimizer that exercises are checked with: plain gradient descent."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class Descent(torch.optim.Optimizer):
    """One of torch's kind, for what takes an optimizer; torch's own would load for seconds first."""

    def __init__(self, weights: Iterable[Tensor], lr: float) -> None:
        self.defaults, self.state = {"lr": lr}, defaultdict(dict)
        self.param_groups: list[dict[str, Any]] = [{"params": list(weights), "lr": lr}]
        self.made = 0  # steps with a gradient

    def zero_grad(self, set_to_none: bool = True) -> None:
        for group in self.param_groups:
            for weight in group["params"]:
                weight.grad = None

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Each weight less its gradient times the rate; a closure is asked for the loss first."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        pairs = [(group["lr"], weight) for group in self.param_groups for weight in group["params"]]
        self.made += any(weight.grad is not None for _, weight in pairs)
        for lr, weight in pairs:
            if weight.grad is not None:
                weight.sub_(lr * weight.grad)
        return loss
