"""Winograd's weight gradients: exact in exact arithmetic, close in float32, used only where they fit."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffusion_lessons.networks import UNet, UNetConfig
from diffusion_lessons.precision import SpeedMode
from diffusion_lessons.recipe import Recipe
from diffusion_lessons.speed_check import choose
from diffusion_lessons.training import train
from diffusion_lessons.winograd import WinogradGradients, pays, weight_gradient
from tests.tiny_training import tiny_dataset

CPU = torch.device("cpu")


def drawn(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize(
    ("x_shape", "out_channels"),
    [
        ((1, 1, 4, 4), 1),
        ((3, 5, 8, 12), 7),
        ((2, 64, 32, 32), 3),  # one picture at a time
        ((37, 70, 8, 8), 64),  # many at a time, and a rest
    ],
)
def test_weight_gradient_is_that_of_the_convolution(x_shape: tuple[int, ...], out_channels: int) -> None:
    x = drawn(*x_shape, dtype=torch.float64)
    weight = drawn(out_channels, x_shape[1], 3, 3, dtype=torch.float64).requires_grad_()
    y = F.conv2d(x, weight, padding=1)
    grad = drawn(*y.shape, dtype=torch.float64)
    (expected,) = torch.autograd.grad(y, weight, grad)
    torch.testing.assert_close(weight_gradient(x, grad), expected, rtol=1e-10, atol=1e-10)
    rounded = weight_gradient(x.float(), grad.float())
    assert (rounded - expected).norm() < 1e-5 * expected.norm()


def test_inside_the_context_every_gradient_is_the_convolutions() -> None:
    conv = nn.Conv2d(64, 96, 3, padding=1)
    x = drawn(2, 64, 8, 8).requires_grad_()
    wanted = [x, conv.weight, conv.bias]
    expected = torch.autograd.grad(conv(x).square().sum(), wanted)  # type: ignore[arg-type]
    with WinogradGradients():
        y = conv(x)
        assert type(y.grad_fn).__name__ == "_ConvolutionBackward"
        found = torch.autograd.grad(y.square().sum(), wanted)  # type: ignore[arg-type]
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * float(b.abs().max()))
    assert type(conv(x).grad_fn).__name__ != "_ConvolutionBackward"


@pytest.mark.parametrize(
    ("conv", "size"),
    [
        (nn.Conv2d(64, 64, 3, padding=1), 6),  # 6 is not made of whole 4×4 tiles
        (nn.Conv2d(64, 64, 3, stride=2, padding=1), 8),
        (nn.Conv2d(64, 64, 3), 8),
        (nn.Conv2d(64, 64, 3, padding=1, padding_mode="circular"), 8),
        (nn.Conv2d(64, 64, 1), 8),
        (nn.Conv2d(128, 128, 3, padding=1, groups=2), 8),
        (nn.Conv2d(64, 32, 3, padding=1), 8),
    ],
)
def test_other_convolutions_are_left_alone(conv: nn.Conv2d, size: int) -> None:
    x = drawn(2, conv.in_channels, size, size)
    with WinogradGradients():
        y = conv(x)
    assert type(y.grad_fn).__name__ == "ConvolutionBackward0"
    assert torch.equal(y, conv(x))


@pytest.mark.parametrize(
    ("capability", "base_channels", "faster"),
    [("AVX2", 64, True), ("AVX2", 32, False), ("AVX512", 64, False), ("DEFAULT", 64, False)],
)
def test_it_pays_for_wide_networks_on_avx2(
    monkeypatch: pytest.MonkeyPatch, capability: str, base_channels: int, faster: bool
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    network = UNet(UNetConfig(base_channels=base_channels, channel_mults=(1,), attention_levels=()))
    assert pays(network, CPU) is faster
    assert not pays(network, torch.device("cuda"))


def test_training_uses_it_once_the_check_holds(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    recipe = Recipe(
        data="tiny", steps=3, base_channels=64, channel_mults=(1,), attention_levels=(), patch=1, batch=8
    )
    metrics = train(recipe, tiny_dataset(), tmp_path, device=CPU, progress=False)
    assert metrics["mode"] == "eager float32 with Winograd's weight gradients"
    assert "holds: against eager float32 its worst gradient" in metrics["checks"][0]


def test_a_wrong_gradient_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "diffusion_lessons.winograd.weight_gradient", lambda x, g: x.new_zeros(g.shape[1], x.shape[1], 3, 3)
    )
    network = UNet(UNetConfig(base_channels=64, channel_mults=(1,), attention_levels=()))
    x, time = drawn(2, 1, 8, 8), torch.tensor([10.0, 900.0])
    mode, _, checks = choose(
        network, lambda forward: forward(x, time).square().mean(), [SpeedMode(winograd=True), SpeedMode()]
    )
    assert mode == SpeedMode()
    assert "conv_" in checks[0].tensor
    assert 0 < checks[0].wrong < checks[0].tensors
