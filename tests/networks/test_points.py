"""The network of points: shapes, what it is told, and that it learns what plain coordinates do not."""

from typing import Any

import pytest
import torch

from diffusion_lessons.networks import PointConfig, PointNetwork, build, describe
from diffusion_lessons.support.seeds import layers_seeded


def made(seed: int = 0, **changes: Any) -> PointNetwork:
    with layers_seeded(seed):
        return PointNetwork(PointConfig(**({"width": 16, "depth": 2} | changes)))


@pytest.mark.parametrize(
    ("changes", "seen"),
    [({}, 2), ({"in_dim": 5, "out_dim": 1}, 5), ({"octaves": 3}, 14), ({"depth": 1, "octaves": 1}, 6)],
)
def test_shapes_and_what_the_first_layer_sees(
    changes: dict[str, Any], seen: int, generator: torch.Generator
) -> None:
    network = made(**changes)
    x = torch.randn(7, network.config.in_dim, generator=generator)
    assert network(x).shape == (7, network.config.out_dim)
    assert network.hidden[0].in_features == seen
    assert torch.allclose(network(x)[3:4], network(x[3:4]), atol=1e-6)  # no sample sees its neighbours


def test_sines_are_of_doubled_frequencies(generator: torch.Generator) -> None:
    network, x = made(octaves=2), torch.randn(3, 2, generator=generator)
    seen: list[torch.Tensor] = []
    network.hidden[0].register_forward_pre_hook(lambda layer, given: seen.append(given[0]))
    network(x)
    expected = torch.cat([x, x.sin(), (2 * x).sin(), x.cos(), (2 * x).cos()], 1)
    assert torch.allclose(seen[0], expected)


def test_gain_scales_what_comes_out(generator: torch.Generator) -> None:
    x = torch.randn(3, 2, generator=generator)
    assert torch.allclose(made(gain=2.5)(x), 2.5 * made()(x))


@pytest.mark.parametrize("activation", ["relu", "silu"])
def test_it_hears_the_time_where_it_is_told_one(activation: str, generator: torch.Generator) -> None:
    network, x = made(time=True, activation=activation), torch.randn(4, 2, generator=generator)
    early, late = network(x, torch.full((4,), 10.0)), network(x, torch.full((4,), 900.0))
    assert not torch.allclose(early, late, atol=1e-3)


def test_its_description_builds_it_again(generator: torch.Generator) -> None:
    network = made(octaves=2, time=True, activation="silu")
    again = build(describe(network))
    again.load_state_dict(network.state_dict())
    x, time = torch.randn(4, 2, generator=generator), torch.tensor([1.0, 10, 100, 999])
    assert torch.equal(again(x, time), network(x, time))


def test_what_does_not_fit_is_said() -> None:
    with pytest.raises(ValueError, match=r"takes points \(B, 2\), got shape \(4, 3\)"):
        made()(torch.zeros(4, 3))
    with pytest.raises(ValueError, match="no time and no condition"):
        made()(torch.zeros(4, 2), torch.zeros(4))
    with pytest.raises(ValueError, match=r"a time of shape \(B,\)"):
        made(time=True)(torch.zeros(4, 2))
    with pytest.raises(ValueError, match="no condition"):
        made()(torch.zeros(4, 2), None, torch.zeros(4))


@pytest.mark.parametrize("changes", [{"width": 0}, {"depth": 0}, {"octaves": -1}, {"activation": "tanh"}])
def test_impossible_shapes_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="a network of points needs"):
        PointConfig(**changes)
