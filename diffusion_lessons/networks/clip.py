"""CLIP: a text tower and an image tower that meet in one space (Radford et al. 2021).

The towers are transformers with the names of the published weights, of any size. The text tower alone is what
tells Stable Diffusion's U-Net its prompt.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusion_lessons.networks.attention import LayerNorm, attend
from diffusion_lessons.support.errors import unknown

ACTIVATIONS = {"gelu": F.gelu, "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x)}
LARGEST_SCALE = 100.0  # of the logits, so that a temperature cannot run away


@dataclass(frozen=True)
class TextConfig:
    """The shape of a text tower; the defaults are those of Stable Diffusion 1."""

    vocabulary: int = 49408  # number of tokens
    context: int = 77  # tokens of a text, at most
    width: int = 768
    hidden: int = 3072  # width inside the MLPs
    layers: int = 12
    heads: int = 12
    activation: str = "quick_gelu"  # or "gelu", as in Stable Diffusion 2
    begin: int = 49406  # id of the token that a text begins with
    end: int = 49407  # id of the token that ends a text, where it is pooled
    projection: int = 0  # width of the shared space; 0 for no projection into one


@dataclass(frozen=True)
class VisionConfig:
    """The shape of an image tower."""

    size: int = 224  # of the pictures
    patch: int = 32  # side of a patch, each a token
    width: int = 768
    hidden: int = 3072
    layers: int = 12
    heads: int = 12
    activation: str = "quick_gelu"
    projection: int = 512  # width of the shared space


class TextFeatures(NamedTuple):
    """What a text tower says of B texts."""

    context: Tensor  # (B, context, width): every token, behind the last norm
    pooled: Tensor  # (B, width): the token that ends the text
    projected: Tensor | None  # (B, projection), in the space shared with pictures


class TextTransformer(nn.Module):
    """Tokens (B, L) to what they mean; each looks at those before it only.

    A token's output never depends on what follows it: what a text is filled up with changes nothing in it.
    """

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        tables = {
            "token_embedding": nn.Embedding(config.vocabulary, config.width),
            "position_embedding": nn.Embedding(config.context, config.width),
        }
        self.text_model = nn.ModuleDict(
            {
                "embeddings": nn.ModuleDict(tables),
                "encoder": TowerLayers(config),
                "final_layer_norm": LayerNorm(config.width),
            }
        )
        self.text_projection = (
            nn.Linear(config.width, config.projection, bias=False) if config.projection else None
        )

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> TextFeatures:
        """Features of tokens (B, L) int64. mask (B, L) bool hides tokens where it is False.

        More tokens than the context, ids that are none, and a text without an end are a ValueError; values
        are looked at only on the CPU.
        """
        length = tokens.shape[1] if tokens.ndim == 2 and tokens.shape[0] else -1
        if not 1 <= length <= self.config.context or tokens.dtype != torch.int64:
            given = f"{tokens.dtype} of shape {tuple(tokens.shape)}"
            raise ValueError(
                f"tokens are int64 (B, L), B at least 1 and L up to {self.config.context}, got {given}"
            )
        if tokens.device.type == "cpu" and not torch.compiler.is_compiling():
            self._check(tokens)
        parts, at = self.text_model, torch.arange(length, device=tokens.device)
        tables: Any = parts["embeddings"]
        x = tables["token_embedding"](tokens) + tables["position_embedding"](at)
        seen = at[:, None] >= at  # (L, L): a token sees itself and those before
        if mask is not None:
            seen = seen & mask[:, None, None, :]  # (B, 1, L, L)
        x = parts["final_layer_norm"](parts["encoder"](x, seen))
        end = (tokens == self.config.end).long().argmax(1)  # the first
        pooled = x[torch.arange(x.shape[0], device=x.device), end]
        return TextFeatures(x, pooled, None if self.text_projection is None else self.text_projection(pooled))

    def _check(self, tokens: Tensor) -> None:
        low, high = int(tokens.min()), int(tokens.max())
        if low < 0 or high >= self.config.vocabulary:
            raise ValueError(f"ids of tokens are 0 to {self.config.vocabulary - 1}, got {low} to {high}")
        without = (tokens != self.config.end).all(1).nonzero()[:, 0].tolist()
        if without:
            raise ValueError(f"text {without[0]} of the batch has no end: no token {self.config.end}")


class VisionTransformer(nn.Module):
    """Pictures (B, 3, size, size) to vectors (B, projection) in the space shared with texts."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        if config.size % config.patch:
            raise ValueError(f"patches of {config.patch} don't fill pictures of {config.size}")
        self.config = config
        self.vision_model = nn.ModuleDict(
            {
                "embeddings": PatchEmbeddings(config),
                "pre_layrnorm": LayerNorm(config.width),  # spelt as it was published
                "encoder": TowerLayers(config),
                "post_layernorm": LayerNorm(config.width),
            }
        )
        self.visual_projection = nn.Linear(config.width, config.projection, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Vectors (B, projection) of pictures (B, 3, size, size); another shape is a ValueError."""
        side = self.config.size
        if x.ndim != 4 or x.shape[1:] != (3, side, side):
            raise ValueError(f"the image tower takes (B, 3, {side}, {side}), got {tuple(x.shape)}")
        parts = self.vision_model
        x = parts["encoder"](parts["pre_layrnorm"](parts["embeddings"](x)), None)
        return self.visual_projection(parts["post_layernorm"](x[:, 0]))


class PatchEmbeddings(nn.Module):
    """Pictures to tokens, one a patch, behind one that is learnt and will stand for the whole picture."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.class_embedding = nn.Parameter(config.width**-0.5 * torch.randn(config.width))
        self.patch_embedding = nn.Conv2d(3, config.width, config.patch, config.patch, bias=False)
        self.position_embedding = nn.Embedding((config.size // config.patch) ** 2 + 1, config.width)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patch_embedding(x).flatten(2).transpose(1, 2)  # (B, patches, width)
        first = self.class_embedding.expand(x.shape[0], 1, -1)
        return torch.cat([first, patches], 1) + self.position_embedding.weight


class TwoTowers(nn.Module):
    """Both towers, and how sharply their similarities are told apart."""

    def __init__(self, text: TextConfig, vision: VisionConfig) -> None:
        super().__init__()
        if text.projection != vision.projection or not text.projection:
            raise ValueError(f"the towers meet in one width, got {text.projection} and {vision.projection}")
        self.text, self.vision = TextTransformer(text), VisionTransformer(vision)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, pictures: Tensor, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits (B, B'): the scaled cosine of each picture (B, ...) with each text (B', L)."""
        image = F.normalize(self.vision(pictures), dim=-1)
        text = F.normalize(self.text(tokens, mask).projected, dim=-1)
        return self.logit_scale.exp().clamp(max=LARGEST_SCALE) * image @ text.T


def contrastive_loss(logits: Tensor) -> Tensor:
    """The symmetric loss of B pictures and their B texts (Radford et al. 2021, figure 3), 0-d.

    Logits that are not square are a ValueError.
    """
    if logits.ndim != 2 or logits.shape[0] != logits.shape[1]:
        raise ValueError(f"every picture has one text: logits are (B, B), got {tuple(logits.shape)}")
    own = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


class TowerLayers(nn.Module):
    """The layers of a tower."""

    def __init__(self, config: TextConfig | VisionConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TowerLayer(config) for _ in range(config.layers))

    def forward(self, x: Tensor, seen: Tensor | None) -> Tensor:
        for layer in self.layers:
            x = layer(x, seen)
        return x


class TowerLayer(nn.Module):
    """Attention and an MLP, each behind a norm and added to what came in."""

    def __init__(self, config: TextConfig | VisionConfig) -> None:
        super().__init__()
        if config.activation not in ACTIVATIONS:
            raise unknown("activation", config.activation, ACTIVATIONS)
        self.activation = ACTIVATIONS[config.activation]
        self.self_attn = TowerAttention(config.width, config.heads)
        self.layer_norm1, self.layer_norm2 = LayerNorm(config.width), LayerNorm(config.width)
        up, down = nn.Linear(config.width, config.hidden), nn.Linear(config.hidden, config.width)
        self.mlp = nn.ModuleDict({"fc1": up, "fc2": down})

    def forward(self, x: Tensor, seen: Tensor | None) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x), seen)
        return x + self.mlp["fc2"](self.activation(self.mlp["fc1"](self.layer_norm2(x))))


class TowerAttention(nn.Module):
    """Multi-head self-attention, (B, L, width) -> the same; `seen` is True where a token may look."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"{heads} heads don't divide a width of {width}")
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(width, width) for _ in range(3))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, seen: Tensor | None) -> Tensor:
        query, key, value = self.q_proj(x), self.k_proj(x), self.v_proj(x)
        return self.out_proj(attend(query, key, value, self.heads, seen))
