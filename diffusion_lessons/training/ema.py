"""The exponential moving average of the weights: what is sampled from, while the raw weights train."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

PREFIXES = ("_orig_mod.", "module.")  # what torch.compile and DistributedDataParallel put before names


def named_weights(network: nn.Module) -> dict[str, Tensor]:
    """Parameters and floating buffers by the names they have outside any compile or parallel wrapper."""
    weights = {}
    for name, tensor in network.state_dict(keep_vars=True).items():
        for prefix in PREFIXES:
            name = name.replace(prefix, "")
        if tensor.is_floating_point():
            weights[name] = tensor.detach()
    return weights


class EMA:
    """shadow ← d·shadow + (1 − d)·weights after every step, with d = min(decay, step/(step + 10)).

    The warm-up forgets the random start: until the decay is reached, in [0, 1), it is roughly the mean of the
    last n/10 of n steps. Weights are copied; the network's own are never changed.
    """

    def __init__(self, network: nn.Module, decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"an EMA's decay lies in [0, 1), got {decay}")
        self.decay, self.step = decay, 0
        self.shadow = {name: weight.clone() for name, weight in named_weights(network).items()}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take in the weights of the network after one more step of training."""
        self.step += 1
        decay = min(self.decay, self.step / (self.step + 10))
        torch._foreach_lerp_(list(self.shadow.values()), self._aligned(network), 1 - decay)

    @torch.no_grad()
    def copy_to(self, network: nn.Module, shadow: Mapping[str, Tensor] | None = None) -> None:
        """Write the averaged weights into a network of the same shape; `shadow` is them, gathered."""
        shadow = self.shadow if shadow is None else shadow
        torch._foreach_copy_(self._aligned(network), [shadow[name] for name in self.shadow])

    def _aligned(self, network: nn.Module) -> list[Tensor]:
        weights = named_weights(network)
        if weights.keys() != self.shadow.keys():
            odd = min(weights.keys() ^ self.shadow.keys())
            raise ValueError(f"the EMA belongs to another network: {odd!r} is in one of them only")
        return [weights[name] for name in self.shadow]
