"""The blocks against those of diffusers, with the same weights."""

import pytest
import torch
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from torch.nn import functional as F

from diffusion_lessons.networks.attention import SelfAttention
from diffusion_lessons.networks.blocks import ResidualBlock

NAMES = {
    "norm1": "norm_1",
    "conv1": "conv_1",
    "time_emb_proj": "to_scale_shift",
    "norm2": "norm_2",
    "conv2": "conv_2",
    "conv_shortcut": "shortcut",
}


@pytest.mark.parametrize("channels", [(16, 16), (16, 32)])
def test_residual_block_agrees_with_diffusers(channels: tuple[int, int], generator: torch.Generator) -> None:
    theirs = ResnetBlock2D(
        in_channels=channels[0],
        out_channels=channels[1],
        temb_channels=64,
        groups=8,
        eps=1e-5,
        time_embedding_norm="scale_shift",
    )
    ours = ResidualBlock(*channels, 64)
    for name, weight in theirs.state_dict().items():
        layer, kind = name.split(".")
        ours.get_parameter(f"{NAMES[layer]}.{kind}").data.copy_(weight)
    x, embedding = (torch.randn(2, *size, generator=generator) for size in ((16, 8, 6), (64,)))
    with torch.no_grad():  # theirs puts the SiLU on the embedding itself
        torch.testing.assert_close(ours(x, F.silu(embedding)), theirs(x, embedding))


def test_self_attention_agrees_with_diffusers(generator: torch.Generator) -> None:
    theirs = Attention(32, heads=2, dim_head=16, norm_num_groups=8, residual_connection=True, bias=False)
    weights = theirs.state_dict()
    ours = SelfAttention(32, head_dim=16)
    ours.load_state_dict(
        {
            "norm.weight": weights["group_norm.weight"],
            "norm.bias": weights["group_norm.bias"],
            "to_qkv.weight": torch.cat([weights[f"to_{kind}.weight"] for kind in "qkv"]),
            "to_out.weight": weights["to_out.0.weight"],
            "to_out.bias": weights["to_out.0.bias"],
        }
    )
    x = torch.randn(2, 32, 4, 6, generator=generator)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)
