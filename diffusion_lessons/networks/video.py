"""A picture network inflated to clips: layers over time between its own, which start as the identity.

Blattmann et al. 2023 ("Align your Latents", section 3.1) put layers over time behind the frozen ones of a
picture model; the blocks are those of the published text-to-video U-Net of ModelScope (Wang et al. 2023,
section 4.2), with its names. Everywhere else the frames are folded into the batch.
"""

from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffusion_lessons.conditions import Condition, as_dict
from diffusion_lessons.networks.embedding import sinusoidal_embedding
from diffusion_lessons.networks.prompted import Prompted, PromptedConfig
from diffusion_lessons.networks.unet_text import (
    EPS,
    TRANSFORMER_EPS,
    DownLevel,
    TextMiddle,
    TextUNet,
    TextUNetConfig,
    Told,
    TransformerBlock,
    UpLevel,
)

SPAN = 3  # frames that a convolution over time sees


@dataclass(frozen=True)
class VideoUNetConfig(TextUNetConfig):
    """The shape of a text U-Net with layers over time; defaults are the small model's."""

    causal: bool = True  # whether no frame sees a later one
    convolutions: int = 2  # in each block over time; 4 in the published network
    reach: int = 1  # side in space of the first of them; 1 is time alone, 3 sees the neighbours too
    gated: bool = False  # whether the text scales and shifts what enters the last of them
    places: bool = True  # whether the layers over time are told which frame is which
    told: bool = True  # whether they look at the text; if not, at the frames a second time
    entry: bool = False  # whether there is a transformer over time before the first level

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.convolutions < 1 or self.reach < 1 or self.reach % 2 == 0:
            raise ValueError(
                "a block over time has at least one convolution, of an odd side in space; got "
                f"convolutions = {self.convolutions} and reach = {self.reach}"
            )
        if self.gated and self.convolutions < 2:
            raise ValueError(
                "the text acts between two convolutions over time: take convolutions = 2 or more"
            )


@dataclass(frozen=True)
class ToldClip(Told):
    """What the levels are told of a clip; what `Told` has is for each of its B·F frames."""

    config: VideoUNetConfig
    frames: int  # F
    motion: Tensor  # (B, L, context): the text that layers over time look at


class VideoUNet(TextUNet):
    """Noisy clips (B, F, C, H, W), times (B,) or (B, F) and a text to the output (B, F, C', H, W).

    The condition is that of a `TextUNet`, of B rows, and may have: "motion" (B, L, context), the text for the
    layers over time, where it is another; "before" (B, M, C, H, W), clean frames that the clip goes on from.
    These are told time 0, and are not in the output. Pictures (B, C, H, W) pass through without the layers
    over time.
    """

    config: VideoUNetConfig

    def __init__(self, config: VideoUNetConfig) -> None:
        super().__init__(config)
        self.transformer_in = TemporalTransformer(config, config.widths[0], 8) if config.entry else None

    def parts(self) -> tuple[Any, Any, Any]:
        return ClipDown, ClipMiddle, ClipUp

    def forward(self, x: Tensor, time: Tensor, condition: Condition) -> Tensor:
        """The output for x; a condition or shapes that don't fit are a ValueError."""
        if x.ndim == 4:
            return super().forward(x, time, condition)
        told = as_dict(condition)
        before = told.get("before", x[:, :0])
        self._check_clip(x, time, before)
        clip, frames = torch.cat([before.to(x), x], 1), before.shape[1] + x.shape[1]
        times = time[:, None].expand(-1, x.shape[1]) if time.ndim == 1 else time
        times = torch.cat([times.new_zeros(len(x), before.shape[1]), times], 1)
        each = {name: told[name].repeat_interleave(frames, 0) for name in ("context", "seen") if name in told}
        seen = each.get("seen")
        self._check(clip.flatten(0, 1), times.flatten(), each.get("context"), seen)
        motion = told.get("motion", told["context"])
        if motion.ndim != 3 or (len(motion), motion.shape[2]) != (len(x), self.config.context):
            raise ValueError(f"the motion is ({len(x)}, L, {self.config.context}), got {tuple(motion.shape)}")
        looked = None if seen is None else seen[:, None, None, :]
        embedding = self.time_embedding(times.flatten())
        about = ToldClip(embedding, each["context"], looked, self.config, frames, motion)
        y = self.out(self.entered(clip.flatten(0, 1)), about)
        return y.unflatten(0, (-1, frames))[:, before.shape[1] :]

    def out(self, h: Tensor, told: Told) -> Tensor:
        if self.transformer_in is not None and isinstance(told, ToldClip):
            h = self.transformer_in(h, told)
        return super().out(h, told)

    def _check_clip(self, x: Tensor, time: Tensor, before: Tensor) -> None:
        channels = self.config.in_channels
        if x.ndim != 5 or x.shape[2] != channels or 0 in x.shape:
            raise ValueError(
                f"the network takes clips (B, F, {channels}, H, W) or pictures (B, {channels}, H, W), got "
                f"{tuple(x.shape)}"
            )
        if time.shape not in ((len(x),), x.shape[:2]):
            raise ValueError(
                f"one time for each of {len(x)} clips, or for each of their frames {tuple(x.shape[:2])}, got "
                f"shape {tuple(time.shape)}"
            )
        if before.ndim != 5 or (len(before), *before.shape[2:]) != (len(x), *x.shape[2:]):
            wanted = f"({len(x)}, M, {', '.join(map(str, x.shape[2:]))})"
            raise ValueError(f"the frames before are {wanted}, got {tuple(before.shape)}")


# Layers over time ----------------------------------------------------------------------------------


def causal_mask(frames: int, device: torch.device | None = None) -> Tensor:
    """(F, F) bool, True where a frame (row) may look at another (column): at itself and at earlier ones."""
    at = torch.arange(frames, device=device)
    return at[:, None] >= at


class TemporalTransformer(nn.Module):
    """Every place looks at itself in the other frames: (B·F, C, H, W) -> the same; it starts as the identity.

    Its second attention looks at the text, or at the frames again, as in the published network. A causal one
    normalises each frame by itself: over a whole clip, the statistics would tell of later frames.
    """

    def __init__(self, config: VideoUNetConfig, channels: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(config.groups, channels, TRANSFORMER_EPS)
        self.proj_in = nn.Linear(channels, channels)
        context = config.context if config.told else channels
        self.transformer_blocks = nn.ModuleList([FrameBlock(channels, heads, context)])
        self.proj_out = nn.Linear(channels, channels)
        nn.init.zeros_(self.proj_out.weight)
        nn.init.zeros_(self.proj_out.bias)

    def forward(self, x: Tensor, told: ToldClip) -> Tensor:
        clip = x.unflatten(0, (-1, told.frames))  # (B, F, C, H, W)
        h = _normed(self.norm, clip, told.config.causal)
        h = h.permute(0, 3, 4, 1, 2).flatten(0, 2)  # (B·H·W, F, C)
        h = self.proj_out(self.transformer_blocks[0](self.proj_in(h), told))
        h = h.unflatten(0, (len(clip), *x.shape[2:])).permute(0, 3, 4, 1, 2)
        return x + h.flatten(0, 1)


class FrameBlock(TransformerBlock):
    """A transformer block over the frames of each place: (B·H·W, F, C) -> the same."""

    def forward(self, x: Tensor, told: ToldClip) -> Tensor:  # type: ignore[override]
        config, frames = told.config, x.shape[1]
        seen = causal_mask(frames, x.device) if config.causal else None
        place = frame_embedding(frames, x.shape[2], x) if config.places else 0.0
        h = self.norm1(x) + place
        x = x + self.attn1(h, h, seen)
        h = self.norm2(x)
        if config.told:  # all frames and places of a clip look at one text
            said = h.reshape(len(told.motion), -1, x.shape[2])
            x = x + self.attn2(said, told.motion, None).reshape(x.shape)
        else:
            x = x + self.attn2(h + place, h + place, seen)
        return x + self.ff(self.norm3(x))


def frame_embedding(frames: int, channels: int, like: Tensor) -> Tensor:
    """(F, C): for the number of each frame, sines and cosines in turn (Vaswani et al. 2017, section 3.5)."""
    sines, cosines = sinusoidal_embedding(torch.arange(frames, device=like.device), channels).chunk(2, 1)
    return torch.stack([sines, cosines], 2).flatten(1).to(like.dtype)


class TemporalConv(nn.Module):
    """Convolutions over time and a residual: (B·F, C, H, W) -> the same; it starts as the identity.

    One over SPAN frames is one over pictures with the channels of SPAN frames. A causal one sees the frames
    before; the other sees as many to each side. Gated, the text scales and shifts what enters the last one
    (Perez et al. 2018, "FiLM"): the first collects what lies around, the text says what of it is used.
    """

    def __init__(self, config: VideoUNetConfig, channels: int) -> None:
        super().__init__()
        for k in range(1, config.convolutions + 1):
            side = config.reach if k == 1 else 1
            norm = nn.GroupNorm(config.groups, channels, EPS)
            conv = nn.Conv2d(SPAN * channels, channels, side, padding=side // 2)
            self.add_module(f"conv{k}", nn.ModuleList([norm, conv]))
        nn.init.zeros_(conv.weight)
        nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        self.gate = nn.Linear(config.context, 2 * channels) if config.gated else None

    def forward(self, x: Tensor, told: ToldClip) -> Tensor:
        causal, clip = told.config.causal, x.unflatten(0, (-1, told.frames))  # (B, F, C, H, W)
        for k in range(1, told.config.convolutions + 1):
            norm, conv = getattr(self, f"conv{k}")
            h = _normed(norm, clip, causal)
            if self.gate is not None and k == told.config.convolutions:
                scale, shift = self.gate(told.motion.mean(1))[:, None, :, None, None].chunk(2, 2)
                h = h * (1 + scale) + shift
            near = neighbours(F.silu(h), causal)
            clip = conv(near.flatten(0, 1)).unflatten(0, clip.shape[:2])
        return x + clip.flatten(0, 1)


def neighbours(clip: Tensor, causal: bool) -> Tensor:
    """For each frame of (B, F, C, H, W) the channels of the SPAN frames at it, in turn: (B, F, SPAN·C, H, W).

    They are those up to it, or as many on each side of it; where there is none, zeros.
    """
    early, frames = SPAN - 1 if causal else SPAN // 2, clip.shape[1]
    padded = F.pad(clip, (0, 0, 0, 0, 0, 0, early, SPAN - 1 - early))
    return torch.cat([padded[:, k : k + frames] for k in range(SPAN)], 2)


def _normed(norm: nn.Module, clip: Tensor, causal: bool) -> Tensor:
    """A GroupNorm of a clip (B, F, C, H, W): over each frame, or over all of them together."""
    if not clip.requires_grad:  # channels-last, its way back to the weights alone crashes (PyTorch 2.13, CPU)
        clip = clip.contiguous()
    if causal:
        return norm(clip.flatten(0, 1)).unflatten(0, clip.shape[:2])
    return norm(clip.transpose(1, 2)).transpose(1, 2)


# Levels --------------------------------------------------------------------------------------------


class ClipLevel(nn.Module):
    """A level with a convolution over time behind each block, and attention behind each transformer."""

    def __init__(self, config: VideoUNetConfig, level: int, inputs: list[int], change: bool) -> None:
        super().__init__(config, level, inputs, change)
        width, heads = config.widths[level], config.heads[level]
        self.temp_convs = nn.ModuleList(TemporalConv(config, width) for _ in inputs)
        self.temp_attentions = None
        if config.attention[level]:
            self.temp_attentions = nn.ModuleList(TemporalTransformer(config, width, heads) for _ in inputs)

    def block(self, k: int, h: Tensor, told: Told) -> Tensor:
        """The k-th block, its transformer, and what there is over time."""
        if not isinstance(told, ToldClip):
            return super().block(k, h, told)  # type: ignore[misc]
        h = self.temp_convs[k](self.resnets[k](h, told.embedding), told)  # type: ignore[index, operator]
        if self.temp_attentions is None:
            return h
        return self.temp_attentions[k](self.attentions[k](h, told.context, told.seen), told)  # type: ignore[index, operator]


class ClipDown(ClipLevel, DownLevel):
    """A level on the way down."""


class ClipUp(ClipLevel, UpLevel):
    """A level on the way up."""


class ClipMiddle(TextMiddle):
    """The middle, with a convolution over time behind each block and a transformer over time."""

    def __init__(self, config: VideoUNetConfig) -> None:
        super().__init__(config)
        width, heads = config.widths[-1], config.heads[-1]
        self.temp_convs = nn.ModuleList(TemporalConv(config, width) for _ in range(2))
        self.temp_attentions = nn.ModuleList([TemporalTransformer(config, width, heads)])

    def forward(self, x: Tensor, told: Told) -> Tensor:
        if not isinstance(told, ToldClip):
            return super().forward(x, told)
        x = self.temp_convs[0](self.resnets[0](x, told.embedding), told)
        x = self.temp_attentions[0](self.attentions[0](x, told.context, told.seen), told)
        return self.temp_convs[1](self.resnets[1](x, told.embedding), told)


# With its text tower -------------------------------------------------------------------------------


@dataclass(frozen=True)
class VideoConfig(PromptedConfig):
    """Both parts of a `Video`."""

    kinds: ClassVar = {**PromptedConfig.kinds, "unet": VideoUNetConfig}


class Video(Prompted):
    """A text tower and a U-Net for clips. The condition may have "moving", the tokens of another text.

    Those are for the layers over time: the picture network hears what is there, the layers over time what it
    does.
    """

    drawn_by = VideoUNet

    def null_condition(self, batch: int) -> Condition:
        """The tokens of the empty text, for both."""
        null = as_dict(super().null_condition(batch))
        return {**null, "moving": null["tokens"]}

    def told(self, condition: Condition) -> dict[str, Tensor]:
        entries = super().told(condition)
        if "moving" not in entries:
            return entries
        kept = {name: value for name, value in entries.items() if name != "moving"}
        return {**kept, "motion": self.text(entries["moving"]).context}

    def over_time(self) -> dict[str, nn.Parameter]:
        """The weights that a picture network does not have."""
        return {name: weight for name, weight in self.named_parameters() if is_over_time(name)}


def is_over_time(name: str) -> bool:
    """Whether a weight is one of a layer over time."""
    return any(part in name.split(".") for part in ("temp_convs", "temp_attentions", "transformer_in"))


def inflate(network: Prompted, **how: Any) -> Video:
    """A `Video` with the weights of a picture network, which at first draws every frame as that would alone.

    `how` are fields of `VideoUNetConfig`. The picture network's weights are frozen, the new ones learn.
    """
    config = network.config
    shape = {each.name: getattr(config.unet, each.name) for each in fields(config.unet)}
    video = Video(VideoConfig(config.text, VideoUNetConfig(**shape | how), config.pooled))
    video.to(next(network.parameters()))
    own = {name: weight for name, weight in video.state_dict().items() if is_over_time(name)}
    video.load_state_dict({**own, **network.state_dict()})
    for name, weight in video.named_parameters():
        weight.requires_grad_(is_over_time(name))
    return video.train(network.training)
