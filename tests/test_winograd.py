"""Winograd's weight gradients: exact in exact arithmetic, close in float32, used only where they fit."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffusion_lessons.networks import UNet, UNetConfig
from diffusion_lessons.training.loop import train
from diffusion_lessons.training.speed import SpeedMode
from diffusion_lessons.training.speed_check import choose
from diffusion_lessons.winograd import WinogradGradients, parameter_gradients, pays
from tests.tiny_training import assert_same_run, tiny_dataset, tiny_recipe

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
def test_parameter_gradients_are_those_of_the_convolution(
    x_shape: tuple[int, ...], out_channels: int
) -> None:
    x = drawn(*x_shape, dtype=torch.float64)
    weight = drawn(out_channels, x_shape[1], 3, 3, dtype=torch.float64).requires_grad_()
    bias = drawn(out_channels, dtype=torch.float64).requires_grad_()
    y = F.conv2d(x, weight, bias, padding=1)
    grad = drawn(*y.shape, dtype=torch.float64)
    expected = torch.autograd.grad(y, (weight, bias), grad)
    torch.testing.assert_close(parameter_gradients(x, grad), expected, rtol=1e-10, atol=1e-10)
    for rounded, exact in zip(parameter_gradients(x.float(), grad.float()), expected, strict=True):
        assert (rounded - exact).norm() < 1e-5 * exact.norm()


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
        (nn.Conv2d(256, 32, 3, padding=1), 8),
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
    [("AVX2", 64, True), ("AVX2", 56, False), ("AVX512", 64, False), ("DEFAULT", 64, False)],
)
def test_it_pays_for_wide_networks_on_avx2(
    monkeypatch: pytest.MonkeyPatch, capability: str, base_channels: int, faster: bool
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    network = UNet(UNetConfig(base_channels=base_channels, channel_mults=(1,), attention_levels=()))
    assert pays(network, CPU) is faster
    assert not pays(network, torch.device("cuda"))


def test_training_uses_it_once_the_check_holds_and_repeats_itself(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    recipe = tiny_recipe(steps=3, base_channels=64, channel_mults=(1,), attention_levels=())
    metrics, _ = (
        train(recipe, tiny_dataset(), tmp_path / run, device=CPU, progress=False) for run in ("one", "two")
    )
    assert metrics["mode"] == "eager float32 with Winograd's weight gradients"
    assert "holds: against eager float32 its worst gradient" in metrics["checks"][0]
    assert_same_run(tmp_path / "one", tmp_path / "two")


def test_a_wrong_gradient_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgotten(x: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
        return x.new_zeros(grad.shape[1], x.shape[1], 3, 3), grad.sum((0, 2, 3))

    monkeypatch.setattr("diffusion_lessons.winograd.parameter_gradients", forgotten)
    network = UNet(UNetConfig(base_channels=64, channel_mults=(1,), attention_levels=()))
    x, time = drawn(2, 1, 8, 8), torch.tensor([10.0, 900.0])
    mode, _, checks = choose(
        network, lambda forward: forward(x, time).square().mean(), [SpeedMode(winograd=True), SpeedMode()]
    )
    assert mode == SpeedMode()
    assert "conv_" in checks[0].tensor
    assert 0 < checks[0].wrong < checks[0].tensors
