"""A small Stable Diffusion of diffusers and transformers, with random weights and every bias disturbed."""

import json
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from torch import nn

from diffusion_lessons.data.tokenizer import Tokenizer

SCHEDULER: dict[str, Any] = dict(
    beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, clip_sample=False,
    set_alpha_to_one=False,
)  # fmt: skip


def disturbed(network: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(1)
    for weight in network.parameters():
        if weight.ndim == 1:
            weight.data += 0.2 * torch.randn(weight.shape, generator=generator)
    return network.eval()


def pipeline(
    folder: Path,
    in_channels: int = 4,
    attention: tuple[bool, ...] = (True, False),
    widths: tuple[int, ...] = (16, 32),
    blocks: int = 1,
    heads: int = 2,
    groups: int = 8,
    text: tuple[int, int] = (32, 4),
    scale: float = 0.3,
) -> Any:
    """The pipeline, written to a folder; `text` is the width of its text tower and the number of heads."""
    torch.manual_seed(0)
    own = Tokenizer.train(["a red circle left of a blue square"] * 2, 560)
    (folder / "tokenizer").mkdir(parents=True)
    merges = "\n".join(["#version: 0.2", *(" ".join(pair) for pair in own.merges)])
    (folder / "tokenizer" / "merges.txt").write_text(merges, "utf-8")
    (folder / "tokenizer" / "vocab.json").write_text(json.dumps(own.ids), "utf-8")
    tokenizer = transformers.CLIPTokenizer(vocab=own.ids, merges=list(own.merges), model_max_length=77)
    tower = transformers.CLIPTextModel(
        transformers.CLIPTextConfig(
            vocab_size=len(own), hidden_size=text[0], intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=text[1], max_position_embeddings=77, hidden_act="quick_gelu",
            bos_token_id=len(own) - 2, eos_token_id=len(own) - 1,
        )
    )  # fmt: skip
    unet = diffusers.UNet2DConditionModel(
        sample_size=8, in_channels=in_channels, out_channels=4,
        down_block_types=tuple("CrossAttnDownBlock2D" if each else "DownBlock2D" for each in attention),
        up_block_types=tuple("CrossAttnUpBlock2D" if each else "UpBlock2D" for each in attention[::-1]),
        block_out_channels=widths, layers_per_block=blocks, cross_attention_dim=text[0],
        attention_head_dim=heads, norm_num_groups=groups,
    )  # fmt: skip
    vae = diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths), block_out_channels=widths,
        layers_per_block=blocks, latent_channels=4, norm_num_groups=groups, scaling_factor=scale,
    )  # fmt: skip
    parts = dict(unet=disturbed(unet), vae=disturbed(vae), text_encoder=disturbed(tower))
    scheduler = diffusers.DDIMScheduler(**SCHEDULER)
    kind = diffusers.StableDiffusionPipeline if in_channels == 4 else diffusers.StableDiffusionInpaintPipeline
    made = kind(
        **parts, tokenizer=tokenizer, scheduler=scheduler, safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip
    for name, part in parts.items():
        part.save_pretrained(folder / name)
    scheduler.save_pretrained(folder / "scheduler")
    made.set_progress_bar_config(disable=True)
    return made
