"""A transformer in the place of the U-Net: the picture as a row of patches, each asking all others.

Peebles and Xie 2023, "Scalable Diffusion Models with Transformers" (DiT), section 3, with adaLN-Zero.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffusion_lessons.conditions import Condition, label_of
from diffusion_lessons.networks.embedding import LabelEmbedding, TimeEmbedding, sinusoidal_embedding


@dataclass(frozen=True)
class DiTConfig:
    """The shape of a diffusion transformer."""

    in_channels: int = 1  # of the picture
    out_channels: int = 1  # of the output
    patch: int = 2  # pixels a side that make one token
    width: int = 64  # of a token; a multiple of 4 and of head_dim
    depth: int = 4  # blocks
    head_dim: int = 16  # width of one attention head
    num_classes: int | None = None  # of the label condition; None for none

    def __post_init__(self) -> None:
        if self.patch < 1 or self.depth < 1:
            raise ValueError(f"a transformer needs a patch and at least one block, got {self}")
        if self.width < 4 or self.width % 4 or self.width % self.head_dim:
            raise ValueError(f"the width must be a multiple of 4 and of head_dim, got {self}")


class DiTBlock(nn.Module):
    """Attention, then two linear layers, on tokens (B, N, C); the embedding (B, E) says how: adaLN-Zero.

    Six vectors for each picture: a shift, a scale and a gate for the attention, and three more for the linear
    layers. They start at 0, so that at first the block is the identity.
    """

    def __init__(self, channels: int, embedding_dim: int, head_dim: int) -> None:
        super().__init__()
        self.heads = channels // head_dim
        self.norm_1 = nn.LayerNorm(channels, elementwise_affine=False)
        self.to_qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.to_out = nn.Linear(channels, channels)
        self.norm_2 = nn.LayerNorm(channels, elementwise_affine=False)
        self.widen = nn.Linear(channels, 4 * channels)
        self.narrow = nn.Linear(4 * channels, channels)
        self.to_six = zero_linear(embedding_dim, 6 * channels)

    def attend(self, tokens: Tensor) -> Tensor:
        """What each token gathers from all tokens: (B, N, C) -> (B, N, C)."""
        qkv = self.to_qkv(tokens).unflatten(2, (3, self.heads, -1))  # (B, N, 3, heads, d)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, N, d)
        seen = F.scaled_dot_product_attention(query, key, value)
        return self.to_out(seen.transpose(1, 2).flatten(2))

    def think(self, tokens: Tensor) -> Tensor:
        """Two linear layers on each token alone: (B, N, C) -> (B, N, C)."""
        return self.narrow(F.gelu(self.widen(tokens), approximate="tanh"))

    def forward(self, tokens: Tensor, embedding: Tensor) -> Tensor:
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = self.to_six(embedding)[:, None].chunk(6, dim=2)
        tokens = tokens + gate_1 * self.attend(self.norm_1(tokens) * (1 + scale_1) + shift_1)
        return tokens + gate_2 * self.think(self.norm_2(tokens) * (1 + scale_2) + shift_2)


class DiT(nn.Module):
    """A transformer with time and label: (B, C, H, W) -> (B, C', H, W), zero at its start."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config = config
        width, classes, pixels = config.width, config.num_classes, config.patch**2
        self.time_embedding = TimeEmbedding(width, width)
        self.label_embedding = None if classes is None else LabelEmbedding(classes, width)
        self.stem = nn.Linear(config.in_channels * pixels, width)
        blocks = [DiTBlock(width, width, config.head_dim) for _ in range(config.depth)]
        self.blocks = nn.ModuleList(blocks)
        self.norm_out = nn.LayerNorm(width, elementwise_affine=False)
        self.to_two = zero_linear(width, 2 * width)
        self.linear_out = zero_linear(width, config.out_channels * pixels)

    def null_condition(self, batch: int) -> Tensor | None:
        """(batch,) labels that mean "no label"; None where the network takes no labels."""
        return None if self.label_embedding is None else self.label_embedding.null(batch)

    def forward(self, x: Tensor, time: Tensor, condition: Condition = None) -> Tensor:
        """The output (B, C', H, W) for noisy pictures x (B, C, H, W) at `path.network_time`s (B,), 0 to 1000.

        As a `UNet`'s: `condition` is labels (B,) int64, a dict that holds them as "label", or None.
        """
        labels, p = label_of(condition), self.config.patch
        self._check(x, time, labels)
        embedding = self.time_embedding(time)  # (B, width)
        if self.label_embedding is not None:
            labels = self.label_embedding.null(x.shape[0]) if labels is None else labels
            embedding = embedding + self.label_embedding(labels)
        embedding = F.silu(embedding)

        patches = F.pixel_unshuffle(x, p)  # (B, C·p², H/p, W/p)
        rows, columns = patches.shape[2:]
        tokens = self.stem(patches.flatten(2).transpose(1, 2))  # (B, N, width)
        tokens = tokens + places(rows, columns, self.config.width).to(tokens)
        for block in self.blocks:
            tokens = block(tokens, embedding)
        shift, scale = self.to_two(embedding)[:, None].chunk(2, dim=2)
        out = self.linear_out(self.norm_out(tokens) * (1 + scale) + shift)  # (B, N, C'·p²)
        return F.pixel_shuffle(out.transpose(1, 2).unflatten(2, (rows, columns)), p)

    def _check(self, x: Tensor, time: Tensor, labels: Tensor | None) -> None:
        shape, channels, p = tuple(x.shape), self.config.in_channels, self.config.patch
        if len(shape) != 4 or shape[1] != channels or shape[2] % p or shape[3] % p or 0 in shape[2:]:
            needed = f"(B, {channels}, H, W) with H and W multiples of {p}"
            raise ValueError(f"the network takes {needed}, got shape {shape}")
        if time.shape != shape[:1]:
            given = tuple(time.shape)
            raise ValueError(f"one time for each of {shape[0]} pictures, shape ({shape[0]},), got {given}")
        if labels is not None and self.label_embedding is None:
            raise ValueError("this network was built without classes: set num_classes, or pass no labels")
        if labels is not None and labels.shape[0] != shape[0]:
            raise ValueError(f"{labels.shape[0]} labels for a batch of {shape[0]}: give one for each picture")


def zero_linear(in_features: int, out_features: int) -> nn.Linear:
    """A linear layer that starts at zero."""
    linear = nn.Linear(in_features, out_features)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


def places(rows: int, columns: int, width: int) -> Tensor:
    """(rows·columns, width): where each token lies, sines and cosines of its row, then of its column."""
    row, column = torch.arange(float(rows)), torch.arange(float(columns))
    down = sinusoidal_embedding(row, width // 2)[:, None].expand(-1, columns, -1)
    across = sinusoidal_embedding(column, width // 2)[None].expand(rows, -1, -1)
    return torch.cat([down, across], dim=2).flatten(0, 1)
