"""How a network is told the time and the class: vectors of sines, and a table of learnt vectors."""

import math

import torch
from torch import Tensor, nn

MAX_PERIOD = 10_000.0


def sinusoidal_embedding(time: Tensor, dim: int) -> Tensor:
    """(B,) -> (B, dim): sines, then cosines, of the time at dim/2 frequencies from 1 to about 1/MAX_PERIOD.

    Neighbouring times get similar vectors, distant times different ones (Vaswani et al. 2017,
    section 3.5; the halves stand in the order of Ho et al. 2020). Times are real numbers on a scale of
    0 to 1000; the result is float32 whatever their dtype: bf16 cannot tell 999 from 998.
    """
    if time.ndim != 1:
        raise ValueError(f"the network's time has shape (B,), got {tuple(time.shape)}")
    if dim < 2 or dim % 2:
        raise ValueError(f"a sinusoidal embedding needs an even dim ≥ 2, got {dim}")
    index = torch.arange(dim // 2, dtype=torch.float32, device=time.device)
    frequencies = torch.exp(index * (-math.log(MAX_PERIOD) / (dim // 2)))  # (dim/2,)
    angles = time.float()[:, None] * frequencies  # (B, dim/2)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class TimeEmbedding(nn.Module):
    """Sinusoidal embedding, then two linear layers: (B,) -> (B, out_dim)."""

    def __init__(self, dim: int, out_dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.linear_1 = nn.Linear(dim, out_dim)
        self.linear_2 = nn.Linear(out_dim, out_dim)

    def forward(self, time: Tensor) -> Tensor:
        x = sinusoidal_embedding(time, self.dim).to(self.linear_1.weight.dtype)
        return self.linear_2(nn.functional.silu(self.linear_1(x)))


class LabelEmbedding(nn.Module):
    """(B,) int64 -> (B, dim): one learnt vector a class and one more, of id `num_classes`, for "no label".

    The null vector is trained by dropping labels, and is what classifier-free guidance asks for (Ho and
    Salimans 2022, section 3.2). Another label is a ValueError that names it; values are looked at only on
    the CPU: on a GPU that would wait for the device at every step.
    """

    def __init__(self, num_classes: int, dim: int) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"a label embedding needs at least one class, got {num_classes}")
        self.num_classes = num_classes
        self.table = nn.Embedding(num_classes + 1, dim)

    def null(self, batch: int) -> Tensor:
        """(batch,) null ids, on the device of the table."""
        return torch.full((batch,), self.num_classes, dtype=torch.int64, device=self.table.weight.device)

    def forward(self, labels: Tensor) -> Tensor:
        if labels.ndim != 1 or labels.dtype not in (torch.int64, torch.int32):
            raise ValueError(f"labels are int64 of shape (B,), got {labels.dtype} of {tuple(labels.shape)}")
        if labels.device.type == "cpu" and not torch.compiler.is_compiling():
            n = self.num_classes
            for wrong in labels[(labels < 0) | (labels > n)].tolist():
                known = f"classes are 0 to {n - 1}, and {n} means no label"
                raise ValueError(f"label {wrong} is out of range: {known}")
        return self.table(labels)
