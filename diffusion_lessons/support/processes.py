"""One process or several: the few things that work asks of the others, with nothing to ask when alone.

Starting them and telling them of each other is the launcher's matter (`accelerate launch` or `torchrun`).
"""

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TypeVar

import torch
from torch import Tensor, nn

from diffusion_lessons.support.machine import choose_device
from diffusion_lessons.support.sharding import shard

Device = torch.device | str | None  # where to work; None is a GPU where there is one
Part = TypeVar("Part")


def part(n: int, rank: int, world: int) -> range:
    """The rank-th of `world` parts of n rows, as equal as can be; some are empty where n is below `world`."""
    return range(rank * n // world, (rank + 1) * n // world)


def is_first() -> bool:
    """Whether this is the first of a launcher's processes, or alone; asks nothing of the others."""
    return _started() <= 1 or os.environ.get("RANK", "0") == "0"


def _started() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def launcher(processes: int, how: tuple[str, ...] = ()) -> list[str]:
    """The start of a command that runs a program in so many processes here, by `accelerate launch`.

    They meet at a port that is free now; `how` is more for the launcher.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "accelerate.commands.launch", "--num_machines", "1"]
    command += ["--num_processes", str(processes), "--main_process_port", str(port)]
    command += ["--mixed_precision", "no", "--dynamo_backend", "no"]
    several = ("--multi_gpu",) * (processes > 1)  # its word for it, on a CPU too
    return [*command, *(how or several)]


class Processes:
    """This process among those that a launcher started; alone where there are no others, or when told so."""

    rank, world = 0, 1
    sharded = False  # whether weights are shared out, too: `accelerate launch --use_fsdp`

    def __init__(self, device: Device = None, alone: bool = False) -> None:
        self.accelerator = None
        if alone or _started() <= 1:
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
        self.sharded = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network, its gradients averaged over the processes; `shard` it where that was asked for."""
        if self.sharded:
            return shard(network, self.device)
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

    def gathered(self, mine: Part) -> list[Part]:
        """What each process has, in their order, on the first; on another, what it has itself alone.

        It travels as it is on the CPU: tensors in it should lie there.
        """
        if self.accelerator is None:
            return [mine]
        from torch import distributed

        by_cpu = distributed.new_group(backend="gloo")  # NCCL would need room for all of it on a GPU
        found: list[Part] | None = [mine] * self.world if self.rank == 0 else None
        distributed.gather_object(mine, found, dst=0, group=by_cpu)
        return [mine] if found is None else found

    @contextmanager
    def ahead(self) -> Iterator[None]:
        """A block that the first process of a machine runs before the others, who find what it has kept."""
        with self.accelerator.local_main_process_first() if self.accelerator else nullcontext():
            yield

    def wait(self) -> None:
        """Go on when all have come here."""
        if self.accelerator:
            self.accelerator.wait_for_everyone()
