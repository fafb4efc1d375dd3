"""From a prompt to a picture: DDIM in 25 guided steps, each project by its own pipeline, from one folder.

The folder holds random weights in the published layout. Theirs computes in float32, its safety checker and
its progress bar off; ours in the same, as shipped, or exported and by ONNX Runtime.
"""

import logging
from pathlib import Path

import torch

from diffusion_lessons.checkpoint import Checkpoint
from diffusion_lessons.data.tokenizer import BEGIN, END, Tokenizer
from diffusion_lessons.generate import generate
from diffusion_lessons.networks import Prompted, PromptedConfig, Vae, VaeConfig
from diffusion_lessons.networks.clip import TextConfig
from diffusion_lessons.networks.unet_text import TextUNetConfig
from diffusion_lessons.onnx_files.opening import is_onnx
from diffusion_lessons.onnx_files.writing import write_onnx
from diffusion_lessons.paths import DiscreteVP
from diffusion_lessons.schedules import scaled_linear_betas
from diffusion_lessons.support.machine import keep_freed_memory
from diffusion_lessons.targets import EPSILON
from diffusion_lessons.zoo import open_model
from diffusion_lessons.zoo.published import USUAL
from tests.published_folder import Shape

from .exported import PROVIDERS
from .timing import Work

STEPS, GUIDANCE, PROMPT = 25, 7.5, "a red circle left of a blue square"
SHAPES = {
    # scenes-text: 64 px, whose autoencoder has patches of 2 where this has a level more
    "small": Shape(
        16, widths=(48, 96), attention=(True, True), heads=(2, 4), text_width=96, text_layers=3,
        text_heads=3, vae_widths=(32, 64, 64),
    ),
    # Stable Diffusion 1's levels and blocks at a fifth of its widths, 256 px
    "medium": Shape(
        32, widths=(64, 128, 256, 256), attention=(True, True, True, False), blocks=2, heads=(2, 4, 8, 8),
        groups=32, text_width=256, text_layers=6, text_heads=4, vae_widths=(32, 64, 128, 128),
    ),
}  # fmt: skip


def export_prompting(folder: Path, place: Path) -> Path:
    """The folder's model as ONNX, in a folder of its own."""
    write_onnx(open_model(str(folder)), place)
    return place


def our_prompting(folder: Path, precision: str, device: torch.device) -> Work:
    """`sample --prompt`, as the command line calls it: of a folder, or of an exported model."""
    keep_freed_memory()  # as the command line does
    model = open_model(str(folder), PROVIDERS[device.type] if is_onnx(folder) else None)
    how = dict(steps=STEPS, guidance=GUIDANCE, precision=precision, device=device)
    return Work(lambda: generate(model, model.prompts([PROMPT]), **how), 1)


def their_prompting(folder: Path, device: torch.device) -> Work:
    """diffusers' StableDiffusionPipeline."""
    from diffusers import StableDiffusionPipeline

    logging.getLogger("diffusers").setLevel(logging.ERROR)
    pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None).to(device)
    pipeline.set_progress_bar_config(disable=True)
    how = dict(num_inference_steps=STEPS, guidance_scale=GUIDANCE, output_type="pt")
    return Work(lambda: pipeline(PROMPT, **how), 1)


def real_size(device: torch.device) -> Work:
    """One guided step of Stable Diffusion 1's real size, 512 px, from prompt to picture: weights in bf16."""
    keep_freed_memory()
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        network, vae = Prompted(PromptedConfig(TextConfig(), TextUNetConfig())), Vae(VaeConfig())
    finally:
        torch.set_default_dtype(before)
    letters, ends = Tokenizer(), {BEGIN: TextConfig.begin, END: TextConfig.end}
    model = Checkpoint(
        network, DiscreteVP(scaled_linear_betas()), EPSILON, (), (4, 64, 64), info={"usual": USUAL}, vae=vae,
        tokenizer=Tokenizer(vocabulary=letters.ids | ends),
    ).on(device)  # fmt: skip

    def step() -> None:
        picture = generate(model, model.prompts([PROMPT]), steps=1, device=device)
        if picture.shape != (1, 3, 512, 512) or not picture.isfinite().all():
            raise ValueError(f"no picture came out: {tuple(picture.shape)}")

    return Work(step, 1)
