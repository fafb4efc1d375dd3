import json

import pytest
import torch
from torch import nn

from diffusion_lessons.networks import Patched, UNet, UNetConfig, build, describe
from diffusion_lessons.networks.blocks import ResidualBlock

TINY = UNetConfig(base_channels=8, channel_mults=(1, 2), attention_levels=(1,), head_dim=8, num_classes=3)


def randomized(network: nn.Module, seed: int = 0) -> nn.Module:
    """The network with every weight drawn anew: a fresh one outputs zeros whatever it is told."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return network.eval()


@pytest.fixture
def inputs(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    x = torch.randn(4, 1, 8, 8, generator=generator)
    return x, torch.tensor([0.0, 10.0, 500.5, 999.0]), torch.tensor([0, 1, 2, 3])


def test_default_model_has_the_size_that_is_written_down() -> None:
    network = UNet(UNetConfig(num_classes=10))
    assert sum(p.numel() for p in network.parameters()) == 1_191_873


def test_weights_keep_the_names_that_checkpoints_know() -> None:
    names = UNet(TINY).state_dict().keys()
    layers = {".".join(name.split(".")[:3]) for name in names if name.startswith(("down", "up"))}
    blocks, changes = ("down.0.0", "down.2.0", "up.0.0", "up.1.0", "up.3.0", "up.4.0"), ("down.1", "up.2")
    attentions = ("down.2.1", "up.0.1", "up.1.1")
    assert layers == {*blocks, *attentions, *(f"{name}.conv" for name in changes)}
    assert {f"{name}.conv_1.weight" for name in (*blocks, "middle_1", "middle_2")} <= names
    assert {f"{name}.to_qkv.weight" for name in (*attentions, "middle_attention")} <= names
    assert {"time_embedding.linear_1.weight", "label_embedding.table.weight", "stem.weight"} <= names
    assert {"norm_out.weight", "conv_out.weight"} <= names


@pytest.mark.parametrize(
    "config",
    [
        TINY,
        UNetConfig(1, 2, 8, (1,), 1, (), 8),
        UNetConfig(3, 3, 8, (1, 2, 3), 2, (0, 2), 8, num_classes=1, dropout=0.1, groups=4),
    ],
)
@pytest.mark.parametrize("size", [(8, 8), (4, 12)])
def test_shapes(config: UNetConfig, size: tuple[int, int]) -> None:
    x = torch.zeros(3, config.in_channels, *size)
    y = UNet(config)(x, torch.zeros(3))
    assert y.shape == (3, config.out_channels, *size)
    assert not y.any()  # the last convolution starts at zero


def test_output_depends_on_picture_time_and_label(inputs: tuple[torch.Tensor, ...]) -> None:
    network, (x, time, labels) = randomized(UNet(TINY)), inputs
    with torch.no_grad():
        y = network(x, time, labels)
        for other in (
            network(x + 0.1, time, labels),
            network(x, time + 5, labels),
            network(x, time, labels % 3),
        ):
            assert (other[3] - y[3]).abs().max() > 1e-3


def test_a_sample_does_not_depend_on_its_batch(inputs: tuple[torch.Tensor, ...]) -> None:
    network, (x, time, labels) = randomized(UNet(TINY)), inputs
    with torch.no_grad():
        whole = network(x, time, labels)
        alone = torch.cat([network(x[i : i + 1], time[i : i + 1], labels[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(whole, alone, rtol=1e-4, atol=1e-5)


def test_every_weight_takes_part(inputs: tuple[torch.Tensor, ...]) -> None:
    network, (x, time, labels) = randomized(UNet(TINY)), inputs
    network(x, time, labels).square().sum().backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_conditions_of_all_forms_agree(inputs: tuple[torch.Tensor, ...]) -> None:
    network, (x, time, labels) = randomized(UNet(TINY)), inputs
    with torch.no_grad():
        assert torch.equal(network(x, time, labels), network(x, time, {"label": labels}))
        assert network.null_condition(4).tolist() == [3, 3, 3, 3]
        assert torch.equal(network(x, time), network(x, time, network.null_condition(4)))


def test_nothing_mutates_its_arguments(inputs: tuple[torch.Tensor, ...]) -> None:
    before = [t.clone() for t in inputs]
    randomized(UNet(TINY))(*inputs)
    assert all(torch.equal(a, b) for a, b in zip(before, inputs, strict=True))


def test_memory_layout_does_not_change_the_result(inputs: tuple[torch.Tensor, ...]) -> None:
    network, (x, time, labels) = randomized(UNet(TINY)), inputs
    with torch.no_grad():
        plain = network(x, time, labels)
        last = network.to(memory_format=torch.channels_last)
        swapped = last(x.contiguous(memory_format=torch.channels_last), time, labels)
    torch.testing.assert_close(plain, swapped, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(2, 1, 9, 8), torch.zeros(2)), "multiples of 2, got 9×8"),
        ((torch.zeros(2, 1, 0, 8), torch.zeros(2)), "multiples of 2, got 0×8"),
        ((torch.zeros(2, 3, 8, 8), torch.zeros(2)), r"takes \(B, 1, H, W\), got shape \(2, 3, 8, 8\)"),
        ((torch.zeros(1, 8, 8), torch.zeros(1)), "got shape"),
        ((torch.zeros(2, 1, 8, 8), torch.zeros(3)), "one time for each of 2 pictures"),
        ((torch.zeros(2, 1, 8, 8), torch.tensor(3.0)), "one time for each of 2 pictures"),
        ((torch.zeros(2, 1, 8, 8), torch.zeros(2), torch.tensor([1])), "1 labels for a batch of 2"),
        ((torch.zeros(2, 1, 8, 8), torch.zeros(2), torch.tensor([1, 4])), "label 4 is out of range"),
    ],
)
def test_bad_input_is_refused(arguments: tuple[torch.Tensor, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        UNet(TINY)(*arguments)


def test_labels_for_a_network_without_classes_are_refused() -> None:
    network = UNet(UNetConfig(base_channels=8, channel_mults=(1,), attention_levels=()))
    assert network.null_condition(2) is None
    with pytest.raises(ValueError, match="without classes"):
        network(torch.zeros(1, 1, 4, 4), torch.zeros(1), torch.tensor([0]))


@pytest.mark.parametrize(
    "wrong",
    [{"attention_levels": (3,)}, {"channel_mults": ()}, {"blocks_per_level": 0}, {"channel_mults": (0,)}],
)
def test_impossible_shapes_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"U-Net needs|attention_levels must"):
        UNetConfig(**wrong)  # type: ignore[arg-type]


def test_dropout_is_off_in_evaluation(inputs: tuple[torch.Tensor, ...]) -> None:
    config = UNetConfig(1, 1, 8, (1, 2), 1, (1,), 8, num_classes=3, dropout=0.5)
    network = randomized(UNet(config))
    assert torch.equal(network(*inputs), network(*inputs))
    assert not torch.equal(network.train()(*inputs), network(*inputs))


def test_residual_block_scales_and_shifts(generator: torch.Generator) -> None:
    block = randomized(ResidualBlock(8, 16, embedding_dim=4))
    x, embedding = torch.randn(2, 8, 4, 4, generator=generator), torch.randn(2, 4, generator=generator)
    scale, shift = (embedding @ block.to_scale_shift.weight.T + block.to_scale_shift.bias).split(16, dim=1)
    h = block.norm_2(block.conv_1(nn.functional.silu(block.norm_1(x))))
    h = h * (1 + scale.view(2, 16, 1, 1)) + shift.view(2, 16, 1, 1)
    expected = block.shortcut(x) + block.conv_2(nn.functional.silu(h))
    torch.testing.assert_close(block(x, embedding), expected, rtol=1e-5, atol=1e-6)


def test_fresh_residual_block_is_the_identity_with_and_without_embedding(generator: torch.Generator) -> None:
    x = torch.randn(2, 8, 4, 4, generator=generator)
    assert torch.equal(ResidualBlock(8, 8)(x), x)
    assert torch.equal(ResidualBlock(8, 8, embedding_dim=4)(x, torch.ones(2, 4)), x)


# Patching and descriptions -------------------------------------------------------------------------


def test_patching_folds_and_unfolds_without_loss(generator: torch.Generator) -> None:
    class Same(nn.Module):
        def forward(self, x: torch.Tensor, time: torch.Tensor, condition: object = None) -> torch.Tensor:
            assert x.shape == (2, 12, 4, 4)
            return x

    x = torch.randn(2, 3, 8, 8, generator=generator)
    assert torch.equal(Patched(Same(), 2)(x, torch.zeros(2)), x)


def test_patching_passes_time_condition_and_null_on(inputs: tuple[torch.Tensor, ...]) -> None:
    inner = randomized(UNet(UNetConfig(4, 4, 8, (1, 2), 1, (1,), 8, num_classes=3)))
    network, (x, time, labels) = Patched(inner, 2), inputs
    y = nn.functional.pixel_shuffle(inner(nn.functional.pixel_unshuffle(x, 2), time, labels), 2)
    assert torch.equal(network(x, time, labels), y)
    assert network.null_condition(2).tolist() == [3, 3]


@pytest.mark.parametrize("shape", [(1, 1, 9, 8), (1, 8, 8)])
def test_sizes_that_do_not_divide_into_patches_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="multiples of 2"):
        Patched(UNet(UNetConfig(4, 4, 8, (1,), 1, ())), 2)(torch.zeros(shape), torch.zeros(1))


def test_description_survives_json(inputs: tuple[torch.Tensor, ...]) -> None:
    network = Patched(UNet(UNetConfig(4, 4, 8, (1, 2), 1, (1,), 8, num_classes=3)), 2)
    again = build(json.loads(json.dumps(describe(network))))
    again.load_state_dict(network.state_dict())
    assert again.network.config == network.network.config
    assert torch.equal(randomized(again)(*inputs), randomized(network)(*inputs))


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({"name": "Unet", "config": {}}, "did you mean 'UNet'"),
        ({"name": "UNet"}, "not the description"),
        ({"name": "UNet", "config": {"width": 3}}, "not the description"),
        ({"name": "Patched", "patch": 2}, "not the description"),
        ([], "not the description"),
    ],
)
def test_wrong_descriptions_are_refused(description: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(description)  # type: ignore[arg-type]


def test_unknown_network_cannot_be_described() -> None:
    with pytest.raises(ValueError, match="unknown network 'Linear'"):
        describe(nn.Linear(1, 1))
