"""One process or several: the few things training asks of the others, with nothing to ask when alone.

Starting processes and telling them of each other is the launcher's matter (`accelerate launch` or
`torchrun`); Accelerate is imported only where it has done so.
"""

import os

import torch
from torch import Tensor, nn

from diffusion_lessons.support.machine import choose_device


class Processes:
    """A single process: everything stays as it is. It trains on a device; None is a GPU where there is one."""

    rank, world = 0, 1

    def __init__(self, device: torch.device | str | None = None) -> None:
        self.device = choose_device(device)

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network, its gradients averaged over the processes."""
        return network

    def share(self, values: list[float]) -> list[float]:
        """The values that the first process has."""
        return values

    def mean(self, tensor: Tensor) -> Tensor:
        """The mean of a tensor over the processes."""
        return tensor

    def wait(self) -> None:
        """Go on when all have come here."""


class LaunchedProcesses(Processes):
    """One of several processes that a launcher started, each with its share of every batch."""

    def __init__(self, device: torch.device | str | None = None) -> None:
        try:
            from accelerate import Accelerator
        except ImportError as error:
            raise ValueError("several processes need Accelerate: pip install accelerate") from error
        cpu = device is not None and torch.device(device).type == "cpu"
        self.accelerator = Accelerator(cpu=cpu, mixed_precision="no")  # precision is our own matter
        self.device = self.accelerator.device
        self.rank, self.world = self.accelerator.process_index, self.accelerator.num_processes

    def wrap(self, network: nn.Module) -> nn.Module:
        return self.accelerator.prepare_model(network)

    def share(self, values: list[float]) -> list[float]:
        from accelerate.utils import broadcast

        dtype = torch.float32 if self.device.type == "mps" else torch.float64
        return broadcast(torch.tensor(values, dtype=dtype, device=self.device)).tolist()

    def mean(self, tensor: Tensor) -> Tensor:
        return self.accelerator.reduce(tensor, "mean")

    def wait(self) -> None:
        self.accelerator.wait_for_everyone()


def join(device: torch.device | str | None = None) -> Processes:
    """This process among those that a launcher started; alone where WORLD_SIZE is not above 1."""
    launched = int(os.environ.get("WORLD_SIZE", "1")) > 1
    return LaunchedProcesses(device) if launched else Processes(device)
