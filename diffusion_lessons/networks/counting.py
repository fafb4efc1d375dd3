"""What a U-Net costs and how far it sees, by formula: parameters and FLOPs of each stage, receptive fields.

A FLOP is one multiplication or one addition, so that a product of (n, k) and (k, m) takes 2·n·k·m.
Convolutions, linear layers and attention count; norms, activations and biases are left out, as in
`torch.utils.flop_counter`, which these formulas agree with.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from diffusion_lessons.networks.unet import UNetConfig


@dataclass(frozen=True)
class Cost:
    """Parameters, and FLOPs of one forward pass of one picture."""

    parameters: int = 0
    flops: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.parameters + other.parameters, self.flops + other.flops)


# Layers --------------------------------------------------------------------------------------------


def conv(in_channels: int, out_channels: int, kernel: int, positions: int) -> Cost:
    """A convolution with a bias. Every one of the positions of its output takes a k²·C → C' product.

    Args:
        kernel: its side k.
        positions: height × width of the output.
    """
    weights = kernel**2 * in_channels * out_channels
    return Cost(weights + out_channels, 2 * weights * positions)


def linear(in_features: int, out_features: int, rows: int = 1, bias: bool = True) -> Cost:
    """A linear layer on so many rows of one picture."""
    weights = in_features * out_features
    return Cost(weights + out_features * bias, 2 * weights * rows)


def norm(channels: int) -> Cost:
    """A GroupNorm: a factor and an offset for each channel."""
    return Cost(2 * channels)


def residual_block(in_channels: int, out_channels: int, embedding_dim: int, positions: int) -> Cost:
    """A `ResidualBlock` that is told an embedding, on height × width positions."""
    cost = norm(in_channels) + conv(in_channels, out_channels, 3, positions)
    cost += linear(embedding_dim, 2 * out_channels)
    cost += norm(out_channels) + conv(out_channels, out_channels, 3, positions)
    return cost if in_channels == out_channels else cost + conv(in_channels, out_channels, 1, positions)


def self_attention(channels: int, positions: int) -> Cost:
    """A `SelfAttention`: two projections, and two products of positions × positions × channels.

    The number of heads does not matter: h heads of width C/h take as many FLOPs as one of width C.
    """
    cost = norm(channels) + linear(channels, 3 * channels, positions, bias=False)
    return cost + Cost(0, 4 * positions**2 * channels) + linear(channels, channels, positions)


# The whole network ---------------------------------------------------------------------------------


def unet_costs(config: UNetConfig, height: int, width: int) -> dict[str, Cost]:
    """The cost of a `UNet` by stage, for a picture of height × width as the network sees it.

    A stage on the way down ends with its downsampling, one on the way up with its upsampling. Behind
    `Patched(network, 2)` the network sees half the height and width.

    Returns:
        "embedding", "stem", "down 0", "down 1", …, "middle", …, "up 1", "up 0", "out", in the order
        in which a picture passes them.

    Raises:
        ValueError: a height or width that cannot be halved so often.
    """
    last = len(config.channel_mults) - 1
    if height < 1 or width < 1 or height % 2**last or width % 2**last:
        raise ValueError(
            f"{last + 1} levels halve height and width {last} times: both must be multiples of "
            f"{2**last}, got {height}×{width}"
        )
    base, dim = config.base_channels, 4 * config.base_channels

    def positions(level: int) -> int:
        return height * width // 4**level

    def stage(in_channels: int, out_channels: int, level: int) -> Cost:
        cost = residual_block(in_channels, out_channels, dim, positions(level))
        attends = level in config.attention_levels
        return cost + self_attention(out_channels, positions(level)) if attends else cost

    costs = {"embedding": linear(base, dim) + linear(dim, dim)}
    if config.num_classes is not None:
        costs["embedding"] += Cost((config.num_classes + 1) * dim)  # a table: nothing is multiplied
    costs["stem"] = conv(config.in_channels, base, 3, positions(0))
    channels, skips = base, [base]
    for level, mult in enumerate(config.channel_mults):
        cost = Cost()
        for _ in range(config.blocks_per_level):
            cost += stage(channels, base * mult, level)
            channels = base * mult
            skips.append(channels)
        if level < last:
            cost += conv(channels, channels, 3, positions(level + 1))
            skips.append(channels)
        costs[f"down {level}"] = cost
    middle = residual_block(channels, channels, dim, positions(last))
    costs["middle"] = stage(channels, channels, last) + middle
    for level in range(last, -1, -1):
        cost, out_channels = Cost(), base * config.channel_mults[level]
        for _ in range(config.blocks_per_level + 1):
            cost += stage(channels + skips.pop(), out_channels, level)
            channels = out_channels
        if level > 0:
            cost += conv(channels, channels, 3, positions(level - 1))
        costs[f"up {level}"] = cost
    costs["out"] = norm(channels) + conv(channels, config.out_channels, 3, positions(0))
    return costs


def receptive_field(layers: Iterable[tuple[int, int]]) -> int:
    """How many pixels a side one number after a chain of convolutions depends on.

    Each layer widens the field by (kernel − 1) steps of the grid that it reads, and a stride makes
    the steps of all later grids longer (Araujo et al. 2019, eq. 2).

    Args:
        layers: (kernel, stride) of each convolution, the first one first.
    """
    field, step = 1, 1  # in pixels; step: from one position of the grid to the next
    for kernel, stride in layers:
        field += (kernel - 1) * step
        step *= stride
    return field
