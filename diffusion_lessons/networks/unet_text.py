"""The U-Net that is told a text by cross-attention, with Stable Diffusion's blocks and the published names.

Rombach et al. 2022, section 3.3. Beside lesson 6's `unet` it adds the time instead of scaling and shifting by
it, and has transformers where that one has self-attention.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffusion_lessons.conditions import Condition, as_dict
from diffusion_lessons.networks.attention import LayerNorm, attend
from diffusion_lessons.networks.embedding import sinusoidal_embedding
from diffusion_lessons.networks.published import Downsampler, Resnet, Upsampler

NO_MASK = (
    "this model paints over a mask: give a picture and a mask (`sample` with --init and --mask, or a "
    "canvas), or in the condition `known`, the mask beside the picture that it hides"
)
EPS, TRANSFORMER_EPS = 1e-5, 1e-6  # of the GroupNorms in blocks, and before a transformer


@dataclass(frozen=True)
class TextUNetConfig:
    """The shape of a text U-Net; the defaults are those of Stable Diffusion 1."""

    in_channels: int = 4  # of the latents; 9 with the mask and the masked latents of inpainting
    out_channels: int = 4
    widths: tuple[int, ...] = (320, 640, 1280, 1280)  # of the levels; each but the last halves the size
    attention: tuple[bool, ...] = (True, True, True, False)  # whether a level has transformers
    blocks_per_level: int = 2  # on the way down; one more on the way up
    heads: tuple[int, ...] = (8, 8, 8, 8)  # of attention, by level
    context: int = 768  # width of the text's tokens
    linear: bool = False  # whether transformers are entered by linear layers (Stable Diffusion 2)
    groups: int = 32  # of the GroupNorms; divides every width

    def __post_init__(self) -> None:
        for name in ("widths", "attention", "heads"):  # JSON has only lists
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not len(self.widths) == len(self.attention) == len(self.heads) > 0 or self.blocks_per_level < 1:
            raise ValueError(f"a text U-Net needs a width, attention and heads for each level, got {self}")
        for width, heads in zip(self.widths, self.heads, strict=True):
            if width % heads or width % self.groups:
                raise ValueError(f"{heads} heads and {self.groups} groups must divide a width, got {width}")


@dataclass(frozen=True)
class Told:
    """What the levels are told beside the picture."""

    embedding: Tensor  # (B, 4·first width), of the time
    context: Tensor  # (B, L, context), of the text
    seen: Tensor | None  # bool, spreads to (B, heads, positions, L), True for tokens to look at


class TextUNet(nn.Module):
    """Noisy latents (B, C, H, W), times (B,) and a text (B, L, context) to the output (B, C', H, W).

    The condition is a dict: "context", a text tower's output for each token; "seen" (B, L) bool, where given,
    False for tokens that must not be looked at; "known", where given, channels that are put behind those of x
    (inpainting: the mask, 1 where to paint, and the masked latents).
    """

    def __init__(self, config: TextUNetConfig) -> None:
        super().__init__()
        self.config = config
        widths, last, first = config.widths, len(config.widths) - 1, config.widths[0]
        down, middle, up = self.parts()
        self.time_embedding = TimeMlp(first, 4 * first)
        self.conv_in = nn.Conv2d(config.in_channels, first, 3, padding=1)

        self.down_blocks, skips = nn.ModuleList(), [first]
        for level, width in enumerate(widths):
            inputs = [skips[-1], *[width] * (config.blocks_per_level - 1)]
            self.down_blocks.append(down(config, level, inputs, change=level < last))
            skips += [width] * (config.blocks_per_level + (level < last))

        self.mid_block = middle(config)

        self.up_blocks, channels = nn.ModuleList(), widths[-1]
        for level in reversed(range(len(widths))):
            inputs = []
            for _ in range(config.blocks_per_level + 1):
                inputs.append(channels + skips.pop())
                channels = widths[level]
            self.up_blocks.append(up(config, level, inputs, change=level > 0))

        self.conv_norm_out = nn.GroupNorm(config.groups, first, EPS)
        self.conv_out = nn.Conv2d(first, config.out_channels, 3, padding=1)

    def parts(self) -> tuple[Any, Any, Any]:
        """What a level on the way down, the middle and a level on the way up are made by."""
        return DownLevel, TextMiddle, UpLevel

    def forward(self, x: Tensor, time: Tensor, condition: Condition) -> Tensor:
        """The output for x at `path.network_time`s; a condition or shapes that don't fit are a ValueError."""
        told = as_dict(condition)
        if "known" in told:
            x = torch.cat([x, told["known"].to(x)], 1)
        context, seen = told.get("context"), told.get("seen")
        self._check(x, time, context, seen)
        seen = None if seen is None else seen[:, None, None, :]  # (B, heads, positions, L)
        return self.out(self.entered(x), Told(self.time_embedding(time), context, seen))  # type: ignore[arg-type]

    def entered(self, x: Tensor) -> Tensor:
        """What the first level gets."""
        return self.conv_in(x.to(self.conv_in.weight.dtype))  # weights may be in half precision

    def out(self, h: Tensor, told: Told) -> Tensor:
        """From what the first level gets to the output."""
        skips = [h]
        for level in self.down_blocks:
            skips += level(skips[-1], told)
        h = self.mid_block(skips[-1], told)
        for level in self.up_blocks:
            h = level(h, skips, told)
        return self.conv_out(F.silu(self.conv_norm_out(h)))

    def _check(self, x: Tensor, time: Tensor, context: Tensor | None, seen: Tensor | None) -> None:
        channels, width, batch = self.config.in_channels, self.config.context, x.shape[0]
        if x.ndim == 4 and x.shape[1] == self.config.out_channels < channels:
            raise ValueError(NO_MASK)
        if x.ndim != 4 or x.shape[1] != channels:
            raise ValueError(f"the network takes (B, {channels}, H, W), got {tuple(x.shape)}")
        if time.shape != (batch,):
            raise ValueError(f"one time for each of {batch} pictures, got shape {tuple(time.shape)}")
        if context is None:
            raise ValueError(
                'the condition must hold the text as "context" (B, L, width); no text is that of ""'
            )
        if context.ndim != 3 or (context.shape[0], context.shape[2]) != (batch, width):
            raise ValueError(f"the context is ({batch}, L, {width}), got {tuple(context.shape)}")
        if seen is not None and (seen.shape != context.shape[:2] or seen.dtype != torch.bool):
            wanted = f"bool {tuple(context.shape[:2])}"
            raise ValueError(
                f"`seen` is {wanted}, True for tokens to look at; got {seen.dtype} {tuple(seen.shape)}"
            )


class TimeMlp(nn.Module):
    """Cosines, then sines of the time, through two linear layers: (B,) -> (B, out)."""

    def __init__(self, dim: int, out: int) -> None:
        super().__init__()
        self.dim = dim
        self.linear_1, self.linear_2 = nn.Linear(dim, out), nn.Linear(out, out)

    def forward(self, time: Tensor) -> Tensor:
        sines, cosines = sinusoidal_embedding(time, self.dim).chunk(2, 1)
        told = torch.cat([cosines, sines], 1).to(self.linear_1.weight.dtype)
        return self.linear_2(F.silu(self.linear_1(told)))


class TextLevel(nn.Module):
    """Blocks of one size, each with a transformer behind it where the level has any."""

    def __init__(self, config: TextUNetConfig, level: int, inputs: list[int]) -> None:
        super().__init__()
        width, time = config.widths[level], 4 * config.widths[0]
        self.resnets = nn.ModuleList(Resnet(each, width, time, config.groups, EPS) for each in inputs)
        self.attentions = None
        if config.attention[level]:
            heads = config.heads[level]
            self.attentions = nn.ModuleList(Transformer(config, width, heads) for _ in inputs)

    def block(self, k: int, h: Tensor, told: Told) -> Tensor:
        """The k-th block and its transformer."""
        h = self.resnets[k](h, told.embedding)
        return h if self.attentions is None else self.attentions[k](h, told.context, told.seen)


class DownLevel(TextLevel):
    """A level on the way down; all that it makes waits for the way up."""

    def __init__(self, config: TextUNetConfig, level: int, inputs: list[int], change: bool) -> None:
        super().__init__(config, level, inputs)
        self.downsamplers = nn.ModuleList([Downsampler(config.widths[level])]) if change else None

    def forward(self, h: Tensor, told: Told) -> list[Tensor]:
        made = []
        for k in range(len(self.resnets)):
            h = self.block(k, h, told)
            made.append(h)
        return made if self.downsamplers is None else [*made, self.downsamplers[0](h)]


class UpLevel(TextLevel):
    """A level on the way up; each block takes the last of the skips."""

    def __init__(self, config: TextUNetConfig, level: int, inputs: list[int], change: bool) -> None:
        super().__init__(config, level, inputs)
        self.upsamplers = nn.ModuleList([Upsampler(config.widths[level])]) if change else None

    def forward(self, h: Tensor, skips: list[Tensor], told: Told) -> Tensor:
        for k in range(len(self.resnets)):
            h = self.block(k, torch.cat([h, skips.pop()], 1), told)
        return h if self.upsamplers is None else self.upsamplers[0](h, skips[-1].shape[-2:])


class TextMiddle(nn.Module):
    """A block, a transformer, a block, at the coarsest level."""

    def __init__(self, config: TextUNetConfig) -> None:
        super().__init__()
        width, time = config.widths[-1], 4 * config.widths[0]
        self.resnets = nn.ModuleList(Resnet(width, width, time, config.groups, EPS) for _ in range(2))
        self.attentions = nn.ModuleList([Transformer(config, width, config.heads[-1])])

    def forward(self, x: Tensor, told: Told) -> Tensor:
        x = self.attentions[0](self.resnets[0](x, told.embedding), told.context, told.seen)
        return self.resnets[1](x, told.embedding)


class Transformer(nn.Module):
    """A transformer block over the positions of a picture (B, C, H, W), and a residual around it."""

    def __init__(self, config: TextUNetConfig, channels: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(config.groups, channels, TRANSFORMER_EPS)

        def project() -> nn.Module:
            return nn.Linear(channels, channels) if config.linear else nn.Conv2d(channels, channels, 1)

        self.proj_in = project()
        self.transformer_blocks = nn.ModuleList([TransformerBlock(channels, heads, config.context)])
        self.proj_out = project()

    def forward(self, x: Tensor, context: Tensor, seen: Tensor | None) -> Tensor:
        h = self.norm(x).flatten(2).transpose(1, 2)  # (B, HW, C)
        h = self.transformer_blocks[0](_each(self.proj_in, h), context, seen)
        return x + _each(self.proj_out, h).transpose(1, 2).reshape(x.shape)


def _each(layer: nn.Module, tokens: Tensor) -> Tensor:
    """A linear layer, or a convolution of one pixel, which is the same, of each token (B, N, in)."""
    return F.linear(tokens, layer.weight.flatten(1), layer.bias)  # type: ignore[arg-type, operator]


class TransformerBlock(nn.Module):
    """Self-attention, attention to the text, an MLP, each behind a norm and added: (B, N, C) -> the same."""

    def __init__(self, channels: int, heads: int, context: int) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (LayerNorm(channels) for _ in range(3))
        self.attn1 = CrossAttention(channels, channels, heads)
        self.attn2 = CrossAttention(channels, context, heads)
        self.ff = FeedForward(channels)

    def forward(self, x: Tensor, context: Tensor, seen: Tensor | None) -> Tensor:
        h = self.norm1(x)
        x = x + self.attn1(h, h, None)
        x = x + self.attn2(self.norm2(x), context, seen)
        return x + self.ff(self.norm3(x))


class CrossAttention(nn.Module):
    """Every position of x (B, N, C) looks at every token of the context (B, L, width): (B, N, C)."""

    def __init__(self, channels: int, context: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k, self.to_v = (nn.Linear(context, channels, bias=False) for _ in range(2))
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x: Tensor, context: Tensor, seen: Tensor | None) -> Tensor:
        query, key, value = self.to_q(x), self.to_k(context), self.to_v(context)
        return self.to_out[0](attend(query, key, value, self.heads, seen))


class FeedForward(nn.Module):
    """A gated MLP (GEGLU, Shazeer 2020), four times as wide inside."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.net = nn.ModuleList(
            [Geglu(channels, 4 * channels), nn.Identity(), nn.Linear(4 * channels, channels)]
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net[2](self.net[0](x))


class Geglu(nn.Module):
    """value · gelu(gate), both linear in x, the value in the first half."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.proj = nn.Linear(channels, 2 * out)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, -1)
        return value * F.gelu(gate)
