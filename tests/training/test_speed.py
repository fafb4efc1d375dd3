"""Speed modes: which are tried where, and what running a network in one does."""

import pytest
import torch

from diffusion_lessons.denoiser import Autocast, NetworkDenoiser
from diffusion_lessons.networks import UNet, UNetConfig
from diffusion_lessons.paths import DiscreteVP, add_noise
from diffusion_lessons.schedules import cosine_betas
from diffusion_lessons.support.machine import fastest_layout, has_bf16
from diffusion_lessons.targets import V
from diffusion_lessons.training.recipe import Plan
from diffusion_lessons.training.speed import SpeedMode, candidates, perturbed

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
EAGER = SpeedMode()


@pytest.fixture
def network() -> UNet:
    torch.manual_seed(0)
    return UNet(UNetConfig(base_channels=8, attention_levels=()))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("float32", "auto", CPU, True), [EAGER]),
        (("bf16", "off", CPU, True), [SpeedMode("bf16"), EAGER]),
        (("float32", "on", CPU, False), [SpeedMode("float32", True), EAGER]),
        (
            ("bf16", "on", CPU, False),
            [SpeedMode("bf16", True), SpeedMode("bf16"), SpeedMode("float32", True), EAGER],
        ),
        (("fp16", "auto", CUDA, False), [SpeedMode("fp16"), SpeedMode("tf32"), EAGER]),
        (("float32", "auto", CUDA, True), [SpeedMode("float32", True), EAGER]),
        (("float32", "auto", torch.device("mps"), True), [EAGER]),
    ],
)
def test_candidates_go_from_fast_to_sure(arguments: tuple, expected: list[SpeedMode]) -> None:
    assert candidates(*arguments) == expected


def test_bf16_is_chosen_only_where_the_hardware_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def supported(including_emulation: bool = True) -> bool:
        asked.append(including_emulation)
        return including_emulation  # a T4: emulated only

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert candidates("auto", "off", CUDA, False)[0] == SpeedMode("fp16")
    with pytest.raises(ValueError, match="only emulates bf16"):
        candidates("bf16", "off", CUDA, False)
    assert asked == [False, False]
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    assert candidates("auto", "off", CUDA, False)[0] == SpeedMode("bf16")


@pytest.mark.parametrize(
    ("capabilities", "native"),
    [
        ({"amx_bf16": True}, True),
        ({"avx512_bf16": True}, True),
        ({"avx512_f": True, "amx_bf16": False}, False),
    ],
)
def test_on_a_cpu_bf16_needs_instructions_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], native: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert has_bf16(CPU) is native
    assert (candidates("auto", "auto", CPU, False) == [EAGER]) is not native
    fastest = torch.contiguous_format if native else torch.channels_last
    assert Plan(steps=1).layout(CPU) == fastest_layout("cpu") == fastest
    assert fastest_layout("cuda") == torch.channels_last


@pytest.mark.parametrize(("asked", "layout"), [(True, torch.channels_last), (False, torch.contiguous_format)])
def test_a_layout_that_is_asked_for_is_taken(asked: bool, layout: torch.memory_format) -> None:
    assert Plan(steps=1, channels_last=asked).layout(CPU) == layout


@pytest.mark.parametrize("native", [True, False])
def test_sampling_computes_in_bf16_only_where_it_is_native(
    monkeypatch: pytest.MonkeyPatch, network: UNet, native: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": native}, raising=False)
    path = DiscreteVP(cosine_betas(100))
    x, level = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)), path(50)
    exact = NetworkDenoiser(network, path, V)
    with perturbed(network), torch.no_grad():
        plain, made = exact(x, level), Autocast(exact)(x, level)
    assert made.x0.dtype == torch.float32
    torch.testing.assert_close(add_noise(*made, level), x)
    assert torch.equal(made.x0, plain.x0) is not native
    torch.testing.assert_close(made.x0, plain.x0, atol=0.05, rtol=0)


def test_autocast_gives_float32_outputs(network: UNet) -> None:
    with perturbed(network), torch.no_grad():
        x, times = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.zeros(2)
        exact, rounded = network(x, times), SpeedMode("bf16").cast(network)(x, times)
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - exact).abs().max() < 0.1


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_tf32_is_refused_where_no_tensor_cores_are(device: str) -> None:
    with pytest.raises(ValueError, match=f"tf32 is a mode of NVIDIA GPUs, not of {device}: use float32"):
        candidates("tf32", "auto", torch.device(device), False)
