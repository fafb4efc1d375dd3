"""One process or several: the few things training asks of the others, with nothing to ask when alone.

Starting them and telling them of each other is the launcher's matter (`accelerate launch` or `torchrun`).
"""

import os

import torch
from torch import Tensor, nn

from diffusion_lessons.support.machine import choose_device

Device = torch.device | str | None  # where to train; None is a GPU where there is one


class Processes:
    """This process among those that a launcher started; where WORLD_SIZE is not above 1 it is alone."""

    rank, world = 0, 1

    def __init__(self, device: Device = None) -> None:
        self.accelerator = None
        if int(os.environ.get("WORLD_SIZE", "1")) <= 1:
            self.device = choose_device(device)
            return
        try:
            from accelerate import Accelerator
        except ImportError as error:
            raise ValueError("several processes need Accelerate: pip install accelerate") from error
        cpu = device is not None and torch.device(device).type == "cpu"
        self.accelerator = Accelerator(cpu=cpu, mixed_precision="no")  # precision is our own matter
        self.device = self.accelerator.device
        self.rank, self.world = self.accelerator.process_index, self.accelerator.num_processes

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network, its gradients averaged over the processes."""
        return self.accelerator.prepare_model(network) if self.accelerator else network

    def share(self, values: list[float]) -> list[float]:
        """The values that the first process has."""
        if self.accelerator is None:
            return values
        from accelerate.utils import broadcast

        dtype = torch.float32 if self.device.type == "mps" else torch.float64
        return broadcast(torch.tensor(values, dtype=dtype, device=self.device)).tolist()

    def mean(self, tensor: Tensor) -> Tensor:
        """The mean of a tensor over the processes."""
        return self.accelerator.reduce(tensor, "mean") if self.accelerator else tensor

    def wait(self) -> None:
        """Go on when all have come here."""
        if self.accelerator:
            self.accelerator.wait_for_everyone()
