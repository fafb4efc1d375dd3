"""Self-attention over the positions of a picture: every pixel looks at every other."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(QKᵀ/√d)·V, all (B, heads, positions, d), written out (Vaswani et al. 2017, eq. 1).

    The blocks below use PyTorch's fused version of it.
    """
    scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5  # (B, heads, N, N)
    return torch.softmax(scores, dim=-1) @ value


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int, seen: Tensor | None = None) -> Tensor:
    """Multi-head attention of tokens: query (B, N, heads·d), key and value (B, M, heads·d) -> like query.

    seen is True where a query may look at a key, of a shape that spreads to (B, heads, N, M).
    """
    query, key, value = (each.unflatten(2, (heads, -1)).transpose(1, 2) for each in (query, key, value))
    if query.device.type == "cpu" and query.dtype == torch.bfloat16 and torch.is_grad_enabled():
        # written out: the way back of the fused one is slow there, 38 pictures/s for 55 in the text U-Net
        scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
        scores = scores if seen is None else scores.masked_fill(~seen, -torch.inf)
        y = torch.softmax(scores, dim=-1).to(value.dtype) @ value
    else:
        y = F.scaled_dot_product_attention(query, key, value, attn_mask=seen)
    return y.transpose(1, 2).flatten(2)


class LayerNorm(nn.LayerNorm):
    """Layer normalisation in float32 at least, whatever comes in.

    On a CPU autocast leaves it in bf16, whose way back sums the gradient of the bias over thousands of tokens
    in bf16: it then has a cosine of 0.75 with the true one.
    """

    def forward(self, x: Tensor) -> Tensor:
        dtype = torch.promote_types(x.dtype, torch.float32)
        weight, bias = self.weight.to(dtype), self.bias.to(dtype)
        return F.layer_norm(x.to(dtype), self.normalized_shape, weight, bias, self.eps).to(x.dtype)


class SelfAttention(nn.Module):
    """GroupNorm, multi-head self-attention, a residual: (B, channels, H, W) -> the same.

    `head_dim` is the width of one head and divides the channels. It starts as the identity: its last layer
    starts at zero.
    """

    def __init__(self, channels: int, head_dim: int = 32, groups: int = 8) -> None:
        super().__init__()
        if channels % head_dim:
            raise ValueError(f"head_dim = {head_dim} does not divide the {channels} channels it splits")
        self.heads = channels // head_dim
        self.norm = nn.GroupNorm(groups, channels)
        self.to_qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.to_out = nn.Linear(channels, channels)
        nn.init.zeros_(self.to_out.weight)
        nn.init.zeros_(self.to_out.bias)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        tokens = self.norm(x).flatten(2).transpose(1, 2)  # (B, HW, C), a view where x is channels-last
        qkv = self.to_qkv(tokens).view(b, h * w, 3, self.heads, c // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, HW, C/heads)
        y = F.scaled_dot_product_attention(query, key, value)
        y = self.to_out(y.transpose(1, 2).reshape(b, h * w, c))
        return x + y.transpose(1, 2).reshape(b, c, h, w)
