"""A model of clips small enough to draw some in a moment; it was never trained."""

from typing import Any

import torch

from diffusion_lessons.checkpoint import Checkpoint
from diffusion_lessons.data.captioned import scene_tokenizer
from diffusion_lessons.data.tokenizer import Tokenizer
from diffusion_lessons.networks import Prompted, PromptedConfig, Vae, VaeConfig, Video
from diffusion_lessons.networks.unet_text import TextUNetConfig
from diffusion_lessons.networks.video import inflate
from diffusion_lessons.paths import DiscreteVP
from diffusion_lessons.schedules import cosine_betas
from diffusion_lessons.targets import V
from diffusion_lessons.training.text_to_image import text_config

WINDOW = 3


def tiny_network(tokenizer: Tokenizer, fresh: bool = False, **how: Any) -> Video:
    """An inflated network whose layers over time do something, unless it is to be fresh."""
    torch.manual_seed(0)
    unet = TextUNetConfig(
        widths=(8, 16), attention=(True, True), blocks_per_level=1, heads=(2, 2), context=32, groups=4
    )
    network = inflate(Prompted(PromptedConfig(text_config(tokenizer, 32, 1), unet)), **how)
    for weight in network.over_time().values() if not fresh else ():
        weight.data += 0.1 * torch.randn(weight.shape)
    return network


def tiny_vae() -> Vae:
    torch.manual_seed(0)
    return Vae(VaeConfig(widths=(8, 16), blocks_per_level=1, groups=4, patch=2, scale=1.0)).eval()


def tiny_video() -> Checkpoint:
    """A whole pipeline: windows of 3 frames of 8×8 latents, pictures of 32×32."""
    tokenizer = scene_tokenizer()
    network, path = tiny_network(tokenizer, reach=3).eval(), DiscreteVP(cosine_betas(100))
    parts: Any = {"vae": tiny_vae(), "tokenizer": tokenizer}
    return Checkpoint(network, path, V, (), (WINDOW, 4, 8, 8), {"data": "clips"}, **parts)
