"""A plain network of points: the denoiser, the generator and the discriminator of a plane are this one."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffusion_lessons.conditions import Condition
from diffusion_lessons.networks.embedding import TimeEmbedding

ACTIVATIONS = {"relu": F.relu, "silu": F.silu}
TIME_DIM = 32  # sines and cosines that the time is told by


@dataclass(frozen=True)
class PointConfig:
    """The shape of a `PointNetwork`."""

    in_dim: int = 2  # numbers of a point; of a generator, of its latent
    out_dim: int = 2
    width: int = 128  # of each hidden layer
    depth: int = 3  # hidden layers
    octaves: int = 0  # of sines and cosines of each number that the first layer sees beside the number itself
    time: bool = False  # whether the network is told the time of a noisy point
    activation: str = "relu"  # or silu
    gain: float = 1.0  # factor of what comes out, where data are larger than a fresh network's output

    def __post_init__(self) -> None:
        sizes = (self.in_dim, self.out_dim, self.width, self.depth)
        if min(sizes) < 1 or self.octaves < 0 or self.activation not in ACTIVATIONS:
            wanted = f"sizes of at least 1, octaves ≥ 0, an activation of {', '.join(ACTIVATIONS)}"
            raise ValueError(f"a network of points needs {wanted}; got {self}")


class PointNetwork(nn.Module):
    """Linear layers on points, with the time, if told, added to each hidden layer: (B, in) -> (B, out).

    With octaves, the first layer also sees sin(2^k·x) and cos(2^k·x), k = 0, 1, …: a network of plain
    coordinates learns fine detail last (Tancik et al. 2020, eq. 5 with σ_j = 2^j, without its 2π).
    """

    def __init__(self, config: PointConfig) -> None:
        super().__init__()
        self.config = config
        seen, width = config.in_dim * (1 + 2 * config.octaves), config.width
        inner = [nn.Linear(width, width) for _ in range(config.depth - 1)]
        self.hidden = nn.ModuleList([nn.Linear(seen, width), *inner])
        self.out = nn.Linear(width, config.out_dim)
        self.time_embedding = TimeEmbedding(TIME_DIM, width) if config.time else None

    @property
    def latent_dim(self) -> int:
        """Numbers of a latent, where the network is a generator."""
        return self.config.in_dim

    def forward(self, x: Tensor, time: Tensor | None = None, condition: Condition = None) -> Tensor:
        """The output (B, out) for points x (B, in); a time (B,), 0 to 1000, where the network is told one.

        Another shape, a time where none belongs, none where one does and any condition are a ValueError.
        """
        c = self.config
        if x.ndim != 2 or x.shape[1] != c.in_dim:
            raise ValueError(f"the network takes points (B, {c.in_dim}), got shape {tuple(x.shape)}")
        if c.time != (time is not None) or condition is not None:
            wanted = "a time of shape (B,) and" if c.time else "no time and"
            raise ValueError(f"this network takes points, {wanted} no condition")
        told = 0.0 if self.time_embedding is None else self.time_embedding(time)  # (B, width)
        activation, h = ACTIVATIONS[c.activation], _with_sines(x, c.octaves)
        for layer in self.hidden:
            h = activation(layer(h) + told)
        return c.gain * self.out(h)


def _with_sines(x: Tensor, octaves: int) -> Tensor:
    """x (B, D) with sines and cosines of 2^k·x beside it: (B, D·(1 + 2·octaves))."""
    angles = [2.0**k * x for k in range(octaves)]
    return torch.cat([x, *(a.sin() for a in angles), *(a.cos() for a in angles)], dim=1)
