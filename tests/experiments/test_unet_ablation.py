"""The ablation of lesson 06: what is taken out is out, all else is the shipped network."""

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from diffusion_lessons.experiments import find, recorded
from diffusion_lessons.experiments.unet_ablation import (
    CUT,
    EXPERIMENT,
    SEEDS,
    STEPS,
    TIMES,
    TRANSFORMER,
    VARIANTS,
    build,
    fit,
    losses,
    measure,
    prepare,
)
from diffusion_lessons.networks import DiT, UNet

LABELS = torch.tensor([3, 7])


def output(network: nn.Module, x: torch.Tensor, time: float = 300.0) -> torch.Tensor:
    with torch.no_grad():
        return network(x, torch.full((len(x),), time), LABELS)


def drawn_anew(network: nn.Module) -> nn.Module:
    """With weights that let everything through: a fresh network ends in zeros."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return network.eval()


def heard(network: nn.Module, x: torch.Tensor, layer: nn.Module) -> bool:
    """Does it matter to the output what a layer gives to the way up?"""
    plain = output(network, x)
    hook = layer.register_forward_hook(lambda module, given, made: made + 1)
    changed = output(network, x)
    hook.remove()
    return not torch.allclose(plain, changed, atol=1e-5)


def test_full_is_the_shipped_network_and_the_same_for_the_same_seed() -> None:
    one, two, other = build("full", 1), build("full", 1), build("full", 2)
    assert type(one) is UNet
    weights = [list(network.parameters()) for network in (one, two, other)]
    assert all(torch.equal(a, b) for a, b in zip(weights[0], weights[1], strict=True))
    assert not torch.equal(weights[0][0], weights[2][0])


def test_no_time_hears_the_label_and_not_the_time(generator: torch.Generator) -> None:
    network, x = drawn_anew(build("no time")), torch.randn(2, 1, 16, 16, generator=generator)
    assert torch.equal(output(network, x, 10.0), output(network, x, 900.0))
    assert not torch.equal(output(network, x)[0], network(x, torch.full((2,), 300.0), LABELS.flip(0))[0])
    full = drawn_anew(build("full"))
    assert not torch.allclose(output(full, x, 10.0), output(full, x, 900.0))


def test_no_skips_hears_the_way_down_only_through_the_middle(generator: torch.Generator) -> None:
    x = torch.randn(2, 1, 16, 16, generator=generator)
    for variant, expected in (("full", True), ("no skips", False), ("no skips, wider", False)):
        network = drawn_anew(build(variant))
        nn.init.zeros_(network.down[1].conv.weight)  # nothing of the first level goes on down …
        assert heard(network, x, network.down[0][1]) is expected, variant  # … so it is heard across or not


def test_what_a_variant_has_fewer_is_what_was_taken_out() -> None:
    parameters = {v: sum(p.numel() for p in build(v).parameters()) for v in VARIANTS}
    assert parameters["no time"] == parameters["full"]
    assert parameters["no attention"] < parameters["full"]
    assert parameters["no skips"] < parameters["full"] < parameters["no skips, wider"]


def test_the_transformer_is_as_large_and_as_costly_as_the_full_network() -> None:
    full, transformer = build("full"), build(TRANSFORMER)
    assert type(transformer) is DiT and TRANSFORMER not in CUT
    sizes = [sum(p.numel() for p in network.parameters()) for network in (full, transformer)]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.06)
    flops = []
    for network in (full, transformer):
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            network(torch.zeros(1, 1, 16, 16), torch.zeros(1))
        flops.append(counter.get_total_flops())
    assert flops[1] == pytest.approx(flops[0], rel=0.06)
    again = build(TRANSFORMER)
    assert all(torch.equal(a, b) for a, b in zip(transformer.parameters(), again.parameters(), strict=True))


def test_a_class_of_ones_own_is_built_cut_and_trained_in_place() -> None:
    class Mine(UNet):
        pass

    network, shared = build("no skips", unet=Mine), prepare({"device": "cpu"})
    before = [weight.clone() for weight in network.parameters()]
    assert type(network) is Mine
    assert fit(network, shared.train, shared.path, 3) is network  # no checkpoint could describe it
    assert any(not torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))
    assert not network.training


def test_training_lowers_the_loss_and_is_the_same_for_the_same_seed() -> None:
    shared = prepare({"device": "cpu"})
    before = losses(build("full"), shared.test, shared.path, (300,), 50).mean()
    once, twice = (fit(build("full"), shared.train, shared.path, 5) for _ in range(2))
    after = losses(once, shared.test, shared.path, (300,), 50).mean()
    assert after < before
    assert torch.equal(next(once.parameters()), next(twice.parameters()))


@pytest.mark.parametrize("variant", ["full", "no time", TRANSFORMER])
def test_a_row_is_measured(variant: str) -> None:
    options = {"n": 100, "seed": 0, "device": "cpu"}
    row = measure(prepare(options), {"seed": 0, "variant": variant}, options, steps=2)
    assert len(row["losses"]) == len(TIMES)
    assert row["frechet"] > 1  # two steps train nothing
    assert len(row["pictures"]) == 2 * 10 * 256


def test_the_recorded_result_has_every_variant_with_every_seed() -> None:
    assert find("unet-ablation") is EXPERIMENT
    result = recorded("unet-ablation")
    assert [row["settings"] for row in result["rows"]] == EXPERIMENT.settings({"seed": 0})
    assert len(result["rows"]) == len(SEEDS) * len(VARIANTS)
    for row in result["rows"]:
        assert row["steps"] == STEPS
        network = build(row["settings"]["variant"])
        assert row["parameters"] == sum(p.numel() for p in network.parameters())
