"""Costs against formulas and the network that runs, and receptive fields against gradients."""

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from diffusion_lessons.networks import UNet, UNetConfig
from diffusion_lessons.networks.counting import Cost, receptive_field, unet_costs

CONFIGS = [
    UNetConfig(num_classes=10),
    UNetConfig(base_channels=16, head_dim=16, attention_levels=()),
    UNetConfig(3, 6, 8, (1, 2, 3), 2, (0, 2), 8, num_classes=4, groups=4),
    UNetConfig(4, 4, 24, (1,), 2, (0,), 24),
]


def counted(network: UNet, size: tuple[int, int]) -> tuple[int, dict[str, int]]:
    """FLOPs of one picture by torch's counter: all of them, and of each part of the network."""
    x, time = torch.zeros(1, network.config.in_channels, *size), torch.zeros(1)
    # fused attention is one operation that the counter does not know on every device
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network(x, time)
    parts = {name: sum(ops.values()) for name, ops in counter.get_flop_counts().items()}
    return counter.get_total_flops(), parts


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("size", [(16, 16), (8, 12)])
def test_costs_agree_with_the_network_and_with_torchs_counter(
    config: UNetConfig, size: tuple[int, int]
) -> None:
    network = UNet(config)
    total = sum(unet_costs(config, *size).values(), Cost())
    assert total.parameters == sum(p.numel() for p in network.parameters())
    assert total.flops == counted(network, size)[0]


def test_costs_are_those_of_the_formulas() -> None:
    costs = unet_costs(UNetConfig(base_channels=16, head_dim=16, num_classes=10), 8, 8)

    def conv(channels: int, out: int, kernel: int, positions: int) -> int:
        return 2 * kernel**2 * channels * out * positions

    def block(channels: int, out: int, positions: int) -> int:
        shortcut = 0 if channels == out else conv(channels, out, 1, positions)
        told = 2 * 64 * 2 * out
        return conv(channels, out, 3, positions) + told + conv(out, out, 3, positions) + shortcut

    attention = conv(32, 4 * 32, 1, 4) + 4 * 4**2 * 32  # two projections, and QKᵀ and its product with V
    assert costs["embedding"].flops == 2 * 16 * 64 + 2 * 64 * 64
    assert costs["stem"].flops == conv(1, 16, 3, 64)
    assert costs["down 0"].flops == block(16, 16, 64) + conv(16, 16, 3, 16)
    assert costs["down 1"].flops == block(16, 32, 16) + conv(32, 32, 3, 4)
    assert costs["down 2"].flops == block(32, 32, 4) + attention
    assert costs["middle"].flops == 2 * block(32, 32, 4) + attention
    assert costs["up 2"].flops == 2 * (block(64, 32, 4) + attention) + conv(32, 32, 3, 16)
    assert costs["up 0"].flops == block(48, 16, 64) + block(32, 16, 64)
    assert costs["out"].flops == conv(16, 1, 3, 64)


def test_each_stage_holds_the_parameters_and_flops_of_its_layers() -> None:
    config = UNetConfig(base_channels=16, head_dim=16, num_classes=10)
    network, costs = UNet(config), unet_costs(config, 16, 16)
    layers: dict[str, list[nn.Module]] = {
        "embedding": [network.time_embedding, network.label_embedding],
        "stem": [network.stem],
        "down 0": [*network.down[:2]],
        "down 1": [*network.down[2:4]],
        "down 2": [network.down[4]],
        "middle": [network.middle_1, network.middle_attention, network.middle_2],
        "up 2": [*network.up[:3]],
        "up 1": [*network.up[3:6]],
        "up 0": [*network.up[6:]],
        "out": [network.norm_out, network.conv_out],
    }
    assert [*costs] == [*layers]
    for name, parts in layers.items():
        assert costs[name].parameters == sum(p.numel() for part in parts for p in part.parameters()), name
    flops = counted(network, (16, 16))[1]
    assert costs["down 0"].flops == flops["UNet.down.0.0"] + flops["UNet.down.1"]
    assert costs["up 1"].flops == sum(flops[f"UNet.up.{i}"] for i in ("3.0", "4.0", "5"))


@pytest.mark.parametrize("size", [(6, 8), (8, 2), (0, 4)])
def test_sizes_that_cannot_be_halved_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"multiples of 4, got {size[0]}×{size[1]}"):
        unet_costs(UNetConfig(), *size)


@pytest.mark.parametrize(
    "layers",
    [
        [],
        [(1, 1)],
        [(3, 1)] * 4,
        [(3, 2), (3, 2), (3, 1)],
        [(5, 1), (3, 2), (1, 1), (3, 3), (5, 1)],
        [(2, 2), (3, 1), (2, 2), (3, 1)],
    ],
)
def test_receptive_field_is_where_the_gradient_is_not_zero(layers: list[tuple[int, int]]) -> None:
    chain = nn.Sequential(*(nn.Conv1d(1, 1, kernel, stride) for kernel, stride in layers)).double()
    x = torch.zeros(1, 1, 101, dtype=torch.float64, requires_grad=True)
    with torch.no_grad():
        for weight in chain.parameters():
            weight.fill_(1.0)
    y = chain(x)
    y[0, 0, y.shape[2] // 2].backward()
    assert x.grad is not None
    assert receptive_field(layers) == int((x.grad != 0).sum())
