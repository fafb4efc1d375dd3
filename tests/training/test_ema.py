import pytest
import torch
from torch import nn

from diffusion_lessons.training.ema import EMA, named_weights


class Scalar(nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))
        self.register_buffer("seen", torch.tensor(value))
        self.register_buffer("count", torch.tensor(0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.value * x


def set_to(network: nn.Module, value: float) -> None:
    with torch.no_grad():
        network.value.fill_(value)
        network.seen.fill_(value)


def test_closed_form_on_a_scalar() -> None:
    """Constant decay, weights 1, 2, 3 …: shadow_n = dⁿ·w₀ + (1 − d)·Σ d^(n−k)·w_k."""
    network = Scalar(5.0)
    ema = EMA(network, decay=0.05)  # below 1/11, so that the warm-up never shows
    for k in range(1, 6):
        set_to(network, float(k))
        ema.update(network)
    expected = 0.05**5 * 5 + 0.95 * sum(0.05 ** (5 - k) * k for k in range(1, 6))
    assert ema.shadow["value"].item() == pytest.approx(expected, rel=1e-6)
    assert ema.shadow["seen"].item() == pytest.approx(expected, rel=1e-6)


def test_warm_up_follows_step_over_step_plus_ten_until_the_decay_is_reached() -> None:
    network = Scalar(0.0)
    ema = EMA(network, decay=0.3)
    set_to(network, 1.0)
    left = 1.0  # what is left of the start
    for step in range(1, 9):
        ema.update(network)
        left *= min(0.3, step / (step + 10))
        assert ema.shadow["value"].item() == pytest.approx(1 - left, abs=1e-7)
    assert ema.decay == 0.3  # the warm-up does not overwrite it
    assert ema.step == 8


def test_network_is_left_alone_and_copy_to_writes_the_average() -> None:
    network, other = Scalar(2.0), Scalar(7.0)
    ema = EMA(network, decay=0.5)
    ema.update(network)
    assert network.value.item() == 2.0
    ema.copy_to(other)
    assert other.value.item() == other.seen.item() == 2.0
    with torch.no_grad():
        other.value.fill_(9.0)
    assert ema.shadow["value"].item() == 2.0


def test_names_survive_compile_and_parallel_wrappers() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    ema = EMA(torch.compile(network), decay=0.0)
    assert ema.shadow.keys() == named_weights(network).keys() == network.state_dict().keys()

    class Wrapper(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

    with torch.no_grad():
        network[1].weight.fill_(4.0)
    for wrapped in (torch.compile(network), Wrapper(network), Wrapper(torch.compile(network))):
        ema.update(wrapped)
        assert torch.equal(ema.shadow["1.weight"], network[1].weight)


def test_another_network_is_refused() -> None:
    ema = EMA(Scalar(0.0))
    with pytest.raises(ValueError, match="belongs to another network"):
        ema.update(nn.Linear(1, 1))


@pytest.mark.parametrize("decay", [-0.1, 1.0, 1.5])
def test_decay_outside_its_range_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match="decay lies in"):
        EMA(Scalar(0.0), decay)
