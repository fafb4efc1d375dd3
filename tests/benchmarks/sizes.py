"""The networks that are compared: the same widths, blocks and attention on both sides, and proof of it."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from diffusion_lessons.networks import UNet, UNetConfig


@dataclass(frozen=True)
class Size:
    """One size of network, for pictures of 32×32.

    Args:
        title: in words.
        widths: of the levels.
        blocks: residual blocks a level on the way down, one more on the way up.
        attention: levels that attend, from 0.
        theirs: further arguments of UNet2DModel. A wider time embedding makes up for the parameters that
            our blocks' scales (theirs only shift) have on top; it costs next to nothing in time.
        parameters_within: largest relative difference of the parameters.
    """

    title: str
    widths: tuple[int, ...]
    blocks: int
    attention: tuple[int, ...]
    theirs: dict[str, Any] = field(default_factory=dict)
    parameters_within: float = 0.05

    def recipe(self) -> dict[str, Any]:
        """The arguments of a `Recipe` that shape the network."""
        base = self.widths[0]
        return {
            "base_channels": base,
            "channel_mults": tuple(width // base for width in self.widths),
            "blocks_per_level": self.blocks,
            "attention_levels": self.attention,
            "head_dim": 32,
            "patch": 1,
        }

    def ours(self, channels: int = 3) -> nn.Module:
        """Our U-Net, without classes."""
        shape = {name: value for name, value in self.recipe().items() if name != "patch"}
        return UNet(UNetConfig(channels, channels, **shape))

    def unet_2d_model(self, channels: int = 3, size: int = 32) -> nn.Module:
        """diffusers' network of the same shape; what is not named here is its default."""
        from diffusers import UNet2DModel

        kinds = ["Attn" if level in self.attention else "" for level in range(len(self.widths))]
        return UNet2DModel(
            sample_size=size,
            in_channels=channels,
            out_channels=channels,
            block_out_channels=self.widths,
            layers_per_block=self.blocks,
            down_block_types=tuple(f"{kind}DownBlock2D" for kind in kinds),
            up_block_types=tuple(f"{kind}UpBlock2D" for kind in reversed(kinds)),
            **self.theirs,
        )


SIZES = {
    "small": Size("1 M", (32, 64, 64), 1, (2,), {"time_embedding_dim": 192}),
    "medium": Size("9 M", (64, 128, 128, 128), 2, (2,), {"time_embedding_dim": 384}),
    # Theirs is the usual 35.75 M; ours has 6.4 % more parameters, for its scales, at the same FLOPs.
    "large": Size("36 M", (128, 256, 256, 256), 2, (1,), parameters_within=0.07),
}
FLOPS_WITHIN = 0.05


@dataclass(frozen=True)
class Cost:
    """Parameters, and floating-point operations of a forward and backward pass of one picture."""

    parameters: int
    flops: int


def cost(network: nn.Module, channels: int = 3, size: int = 32) -> Cost:
    """What a network costs, by torch's own counter (it leaves out everything but matrix products)."""
    x, time = torch.zeros(1, channels, size, size), torch.zeros(1)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        Plain(network)(x, time).sum().backward()
    network.zero_grad(set_to_none=True)
    return Cost(sum(p.numel() for p in network.parameters()), counter.get_total_flops())


def parity(size: Size) -> tuple[Cost, Cost]:
    """The cost of ours and theirs.

    Raises:
        ValueError: where they are too far apart for a comparison to mean anything.
    """
    ours, theirs = cost(size.ours()), cost(size.unet_2d_model())
    for name, within in (("parameters", size.parameters_within), ("flops", FLOPS_WITHIN)):
        ratio = getattr(ours, name) / getattr(theirs, name)
        if abs(ratio - 1) > within:
            raise ValueError(
                f"{size.title}: ours has {ratio:.3f} times their {name}, allowed is ±{within:.0%}"
            )
    return ours, theirs


class Plain(nn.Module):
    """Any network as (x, time) -> tensor: diffusers' returns an object around it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor, time: torch.Tensor, condition: Any = None) -> torch.Tensor:
        y = self.network(x, time)
        return getattr(y, "sample", y)
