"""Random models of Stable Diffusion's layout, of any size, written to folders by the reference libraries."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from diffusion_lessons.data.tokenizer import Tokenizer

SCHEDULER: dict[str, Any] = dict(
    beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, clip_sample=False,
    set_alpha_to_one=False,
)  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """The shape of all parts; the defaults are the smallest that has every kind of layer."""

    side: int = 8  # of the latents
    channels: int = 4  # of the U-Net's input, 9 for inpainting
    widths: tuple[int, ...] = (16, 32)  # of the U-Net's levels
    attention: tuple[bool, ...] = (True, False)  # levels with transformers
    blocks: int = 1  # a level, of U-Net and autoencoder
    heads: tuple[int, ...] = (2, 2)  # by level
    groups: int = 8
    text_width: int = 32
    text_layers: int = 2
    text_heads: int = 4
    vae_widths: tuple[int, ...] = (16, 32)
    vae_scale: float = 0.3

    @property
    def pixels(self) -> int:
        """The side of its pictures."""
        return self.side * 2 ** (len(self.vae_widths) - 1)


def pipeline(folder: Path, shape: Shape) -> Any:
    """A random pipeline of diffusers and transformers, every bias disturbed, written to a folder."""
    import diffusers  # here: what only needs a shape must not pay for them
    import transformers

    torch.manual_seed(0)
    own = Tokenizer.train(["a red circle left of a blue square"] * 2, 560)
    (folder / "tokenizer").mkdir(parents=True)
    merges = "\n".join(["#version: 0.2", *(" ".join(pair) for pair in own.merges)])
    (folder / "tokenizer" / "merges.txt").write_text(merges, "utf-8")
    (folder / "tokenizer" / "vocab.json").write_text(json.dumps(own.ids), "utf-8")
    tokenizer = transformers.CLIPTokenizer(vocab=own.ids, merges=list(own.merges), model_max_length=77)
    text = transformers.CLIPTextModel(
        transformers.CLIPTextConfig(
            vocab_size=len(own), hidden_size=shape.text_width, intermediate_size=4 * shape.text_width,
            num_hidden_layers=shape.text_layers, num_attention_heads=shape.text_heads,
            max_position_embeddings=77, hidden_act="quick_gelu", bos_token_id=len(own) - 2,
            eos_token_id=len(own) - 1,
        )
    )  # fmt: skip
    kinds = ["CrossAttn" if attends else "" for attends in shape.attention]
    unet = diffusers.UNet2DConditionModel(
        sample_size=shape.side, in_channels=shape.channels, out_channels=4,
        down_block_types=tuple(f"{kind}DownBlock2D" for kind in kinds),
        up_block_types=tuple(f"{kind}UpBlock2D" for kind in reversed(kinds)), block_out_channels=shape.widths,
        layers_per_block=shape.blocks, cross_attention_dim=shape.text_width,
        attention_head_dim=shape.heads,  # their name for the number of heads
        norm_num_groups=shape.groups,
    )  # fmt: skip
    levels = len(shape.vae_widths)
    vae = diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels, up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=shape.vae_widths, layers_per_block=shape.blocks, latent_channels=4,
        norm_num_groups=shape.groups, scaling_factor=shape.vae_scale,
    )  # fmt: skip
    parts = dict(unet=disturbed(unet), vae=disturbed(vae), text_encoder=disturbed(text))
    inpainting = shape.channels > 4
    kind = diffusers.StableDiffusionInpaintPipeline if inpainting else diffusers.StableDiffusionPipeline
    made = kind(
        **parts, tokenizer=tokenizer, scheduler=diffusers.DDIMScheduler(**SCHEDULER), safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    made.save_pretrained(folder)
    made.set_progress_bar_config(disable=True)
    return made


def disturbed(network: nn.Module) -> nn.Module:
    """A network whose biases and norms are not what they start as."""
    generator = torch.Generator().manual_seed(1)
    for weight in network.parameters():
        if weight.ndim == 1:
            weight.data += 0.2 * torch.randn(weight.shape, generator=generator)
    return network.eval()
