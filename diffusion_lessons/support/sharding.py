"""Weights shared out over processes: each keeps a part of every tensor, and gathers a block while it runs.

Zhao et al. 2023 (fully sharded data parallel); PyTorch's `fully_shard`, which leaves a network's names and
structure as they are. Gradients, moments and averages of such weights are shared out in the same way.
"""

from typing import Any

import torch
from torch import Tensor, nn


def shard(network: nn.Module, device: torch.device) -> nn.Module:
    """Share out a network's weights in place, over all processes; each block of a list is gathered alone."""
    from torch import distributed
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    mesh = init_device_mesh(device.type, (distributed.get_world_size(),))
    for blocks in [each for each in network.modules() if isinstance(each, nn.ModuleList)]:
        for block in blocks:
            if not any(isinstance(inside, nn.ModuleList) for inside in block.modules()):
                fully_shard(block, mesh=mesh)
    fully_shard(network, mesh=mesh)
    return network


def is_shared(tensor: Tensor) -> bool:
    """Whether this process has a part of the tensor only."""
    return hasattr(tensor, "full_tensor")


def here(tensor: Any) -> Tensor:
    """The part of a tensor that lies in this process; all of one that is not shared out."""
    return tensor.to_local() if is_shared(tensor) else tensor


def number(tensor: Any) -> Tensor:
    """A 0-d tensor, such as a norm, as all processes have it; all must ask."""
    return tensor.full_tensor() if is_shared(tensor) else tensor


def whole(tensor: Any) -> Tensor:
    """All of a tensor; of one that is shared out on the first process, in the CPU's memory, and all must ask.

    There the others get an empty one.
    """
    if not is_shared(tensor):
        return tensor
    from torch import distributed

    full = tensor.full_tensor()
    return full.cpu() if distributed.get_rank() == 0 else torch.empty(0)


@torch.no_grad()
def fill(tensor: Any, full: Tensor) -> None:
    """Write what all processes have into a tensor, whether it is shared out or not."""
    if is_shared(tensor):
        from torch.distributed.tensor import distribute_tensor

        device = tensor.device
        full = distribute_tensor(full.to(device), tensor.device_mesh, tensor.placements)
    tensor.copy_(full)
