import pytest
import torch
from torch.nn import functional as F

from diffusion_lessons.networks.attention import SelfAttention, attention


def test_written_out_attention_agrees_with_the_fused_function(generator: torch.Generator) -> None:
    query, key, value = (3 * torch.randn(2, 4, 9, 8, generator=generator) for _ in range(3))
    fused = F.scaled_dot_product_attention(query, key, value)
    torch.testing.assert_close(attention(query, key, value), fused, rtol=1e-5, atol=1e-5)
    by_channels = torch.softmax(query @ key.transpose(-2, -1) / (4 * 8) ** 0.5, -1) @ value
    assert (by_channels - fused).abs().max() > 0.1  # the scale of all channels is another function


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_block_is_attention_written_out_head_by_head(
    layout: torch.memory_format, generator: torch.Generator
) -> None:
    block = SelfAttention(channels=24, head_dim=8, groups=4)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    x = torch.randn(2, 24, 4, 6, generator=generator)
    tokens = block.norm(x).reshape(2, 24, 24).transpose(1, 2)  # (B, HW, C)
    parts = (tokens @ block.to_qkv.weight.T).split(24, dim=2)
    heads = [attention(*(part[:, :, 8 * h : 8 * h + 8] for part in parts)) for h in range(3)]
    merged = torch.cat(heads, dim=2) @ block.to_out.weight.T + block.to_out.bias
    expected = x + merged.transpose(1, 2).reshape(2, 24, 4, 6)
    torch.testing.assert_close(block(x.contiguous(memory_format=layout)), expected, rtol=1e-4, atol=1e-4)


def test_block_starts_as_the_identity(generator: torch.Generator) -> None:
    x = torch.randn(2, 16, 4, 4, generator=generator)
    assert torch.equal(SelfAttention(16, head_dim=8)(x), x)


def test_head_dim_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="head_dim = 32 does not divide the 48 channels"):
        SelfAttention(48, head_dim=32)
