import json

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from diffusion_lessons.networks import DiT, DiTConfig, build, describe
from diffusion_lessons.networks.dit import DiTBlock, places

TINY = DiTConfig(patch=2, width=16, depth=2, head_dim=8, num_classes=3)


def randomized(network: nn.Module, seed: int = 0) -> nn.Module:
    """The network with every weight drawn anew: a fresh one outputs zeros whatever it is told."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return network.eval()


@pytest.mark.parametrize("config", [TINY, DiTConfig(3, 6, 4, 8, 1, 4), DiTConfig(1, 1, 1, 12, 3, 6)])
@pytest.mark.parametrize("size", [(8, 8), (4, 12)])
def test_shapes_and_zero_at_the_start(config: DiTConfig, size: tuple[int, int]) -> None:
    y = DiT(config)(torch.ones(3, config.in_channels, *size), torch.zeros(3))
    assert y.shape == (3, config.out_channels, *size)
    assert not y.any()


def test_a_fresh_block_is_the_identity_and_still_learns(generator: torch.Generator) -> None:
    block, tokens = DiTBlock(16, 12, 8), torch.randn(2, 5, 16, generator=generator)
    made = block(tokens, torch.randn(2, 12, generator=generator))
    assert torch.equal(made, tokens)
    made.square().sum().backward()
    assert block.to_six.weight.grad is not None and block.to_six.weight.grad.any()


def test_the_block_is_that_of_the_paper_with_torchs_attention(generator: torch.Generator) -> None:
    block = randomized(DiTBlock(16, 12, 8))
    tokens, embedding = torch.randn(2, 5, 16, generator=generator), torch.randn(2, 12, generator=generator)
    theirs = nn.MultiheadAttention(16, 2, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(block.to_qkv.weight)
        theirs.in_proj_bias.zero_()
        theirs.out_proj.load_state_dict(block.to_out.state_dict())
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = block.to_six(embedding)[:, None].chunk(6, 2)
        h = F.layer_norm(tokens, (16,)) * (1 + scale_1) + shift_1
        x = tokens + gate_1 * theirs(h, h, h)[0]
        h = F.layer_norm(x, (16,)) * (1 + scale_2) + shift_2
        x = x + gate_2 * block.narrow(F.gelu(block.widen(h), approximate="tanh"))
        assert torch.allclose(block(tokens, embedding), x, atol=1e-5)


def test_each_picture_hears_its_own_time_label_and_pixels(generator: torch.Generator) -> None:
    network, x = randomized(DiT(TINY)), torch.randn(2, 1, 8, 8, generator=generator)
    time, label = torch.tensor([10.0, 900.0]), torch.tensor([0, 2])
    with torch.no_grad():
        both = network(x, time, label)
        for i in range(2):
            alone = network(x[i : i + 1], time[i : i + 1], label[i : i + 1])
            assert torch.allclose(both[i : i + 1], alone, atol=1e-5)
        assert not torch.allclose(both, network(x, time.flip(0), label), atol=1e-3)
        assert not torch.allclose(both, network(x, time, label.flip(0)), atol=1e-3)
        assert torch.equal(network(x, time), network(x, time, network.null_condition(2)))


def test_places_tell_all_tokens_apart_and_rows_from_columns() -> None:
    where = places(4, 8, 16)
    assert where.shape == (32, 16)
    assert torch.cdist(where, where).fill_diagonal_(1.0).min() > 0.1
    row = torch.cat([torch.tensor([3.0, 0.03]).sin()])  # row 3 at frequencies 1 and 1/100 …
    assert torch.allclose(where[3 * 8, [0, 2]], row, atol=1e-6)  # … of 4


def test_it_is_made_again_from_its_description() -> None:
    described = describe(DiT(TINY))
    assert build(json.loads(json.dumps(described))).config == TINY


@pytest.mark.parametrize(
    ("shape", "time", "label", "words"),
    [
        ((2, 1, 8, 7), (2,), (2,), "multiples of 2"),
        ((2, 3, 8, 8), (2,), (2,), "takes"),
        ((2, 1, 8, 8), (1,), (2,), "one time for each"),
        ((2, 1, 8, 8), (2,), (3,), "3 labels for a batch of 2"),
    ],
)
def test_what_does_not_fit_is_refused(
    shape: tuple[int, ...], time: tuple[int, ...], label: tuple[int, ...], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        DiT(TINY)(torch.zeros(shape), torch.zeros(time), torch.zeros(label, dtype=torch.int64))


def test_labels_for_a_network_without_and_odd_widths_are_refused() -> None:
    with pytest.raises(ValueError, match="without classes"):
        DiT(DiTConfig(width=8, head_dim=4))(torch.zeros(1, 1, 4, 4), torch.zeros(1), torch.zeros(1).long())
    with pytest.raises(ValueError, match="multiple of 4"):
        DiTConfig(width=18, head_dim=6)
    with pytest.raises(ValueError, match="at least one block"):
        DiTConfig(depth=0)
