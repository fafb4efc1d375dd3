"""What a U-Net costs and how far it sees: parameters and FLOPs of each stage, receptive fields.

A FLOP is one multiplication or addition: a product of (n, k) and (k, m) takes 2·n·k·m. Convolutions, linear
layers and attention count; norms, activations and biases do not, as in `torch.utils.flop_counter`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from diffusion_lessons.networks.blocks import Downsample, Upsample
from diffusion_lessons.networks.unet import UNet, UNetConfig


@dataclass(frozen=True)
class Cost:
    """Parameters, and FLOPs of one forward pass of one picture."""

    parameters: int = 0
    flops: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.parameters + other.parameters, self.flops + other.flops)


def unet_costs(config: UNetConfig, height: int, width: int) -> dict[str, Cost]:
    """The cost of a `UNet` by stage, for a picture of height × width as the network sees it.

    Stages are "embedding", "stem", "down 0", "down 1", …, "middle", …, "up 1", "up 0", "out", in the order in
    which a picture passes them. One on the way down ends with its downsampling, one on the way up with its
    upsampling. Behind `Patched(network, 2)` the network sees half the height and width; sizes that cannot be
    halved so often are a ValueError.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):  # shapes without numbers: nothing is computed
        network, x, time = UNet(config), torch.empty(1, config.in_channels, height, width), torch.empty(1)
    # fused attention is one operation that the counter does not know on every device
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network(x, time)
    flops = {name: sum(counts.values()) for name, counts in counter.get_flop_counts().items()}
    costs: dict[str, Cost] = {}
    for stage, name in stages(network):
        parameters = sum(p.numel() for p in network.get_submodule(name).parameters())
        costs[stage] = costs.get(stage, Cost()) + Cost(parameters, flops.get(f"UNet.{name}", 0))
    return costs


def stages(network: UNet) -> Iterator[tuple[str, str]]:
    """The stage and the name of each layer, in the order in which a picture passes them."""
    level = 0
    for name, layer in network.named_children():
        if not isinstance(layer, nn.ModuleList):
            yield next(stage for stage in ("embedding", "stem", "middle", "out") if stage in name), name
            continue
        for i, part in enumerate(layer):
            yield f"{name} {level}", f"{name}.{i}"
            level += isinstance(part, Downsample) - isinstance(part, Upsample)


def attention_flops(tokens: int, head_dim: int, heads: int = 1) -> int:
    """FLOPs of attention of so many tokens to each other, of one picture: QKᵀ, and the maps times V.

    Written out or fused, these are the same two products: 4·N²·d for each head.
    """
    return 4 * heads * tokens**2 * head_dim


def attention_bytes(tokens: int, head_dim: int, heads: int = 1, size: int = 4, written: bool = True) -> int:
    """Bytes of memory that attention reads and writes, of one picture; a number takes `size` bytes.

    Fused it reads Q, K and V once and writes the output: 4·N·d numbers a head, which is what is left where a
    block of keys fits on the chip (a lower bound: Dao et al. 2022, theorem 2, counts the rereading of K and
    V). As `attention.attention` writes it out, the N×N scores are written, read and written by the scaling,
    read and written by the softmax, and read once more: 6·N² on top.
    """
    return size * heads * (4 * tokens * head_dim + (6 * tokens**2 if written else 0))


def storage_of(tensor: Tensor) -> int:
    """Where the numbers of a tensor lie: views of one another lie in one place, and count once."""
    return tensor.untyped_storage()._cdata


def receptive_field(layers: Iterable[tuple[int, int]]) -> int:
    """How many pixels a side one number after a chain of convolutions depends on, each a (kernel, stride).

    Each layer widens the field by (kernel − 1) steps of the grid that it reads, and a stride makes
    the steps of all later grids longer (Araujo et al. 2019, eq. 2).
    """
    field, step = 1, 1  # in pixels; step: from one position of the grid to the next
    for kernel, stride in layers:
        field += (kernel - 1) * step
        step *= stride
    return field
