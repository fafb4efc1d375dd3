"""`scenes-vae`: the autoencoder whose latents the other models of scenes draw."""

from pathlib import Path
from typing import Any

import torch

from diffusion_lessons.checkpoint import weights_of, write_tensors
from diffusion_lessons.data.captioned import scene_tokenizer
from diffusion_lessons.data.dataset import as_float, to_uint8
from diffusion_lessons.makers.diffusion import RUNS, facts_of, trained
from diffusion_lessons.makers.prompting import asked
from diffusion_lessons.makers.scenes.shared import EVALUATED, ROWS, SIZE, rounded_share, rows, write
from diffusion_lessons.metrics.captions_met import captions_met
from diffusion_lessons.networks import Vae, VaeConfig, describe
from diffusion_lessons.support.machine import choose_device
from diffusion_lessons.support.seeds import layers_seeded
from diffusion_lessons.training.autoencoding import Autoencoding
from diffusion_lessons.training.recipe import Plan
from diffusion_lessons.training.run_folder import MODEL
from diffusion_lessons.zoo.files import load_autoencoder

PLAN = Plan(steps=2000, batch=64, lr=2e-3, ema_decay=0.999)
SHAPE = VaeConfig(widths=(32, 64), blocks_per_level=1, groups=8, patch=2, scale=1.0)


def build_vae(
    name: str, folder: Path, plan: Plan = PLAN, n: int = ROWS, evaluated: int = 2 * EVALUATED
) -> None:
    """Train `scenes-vae`; its card tells how well the reader reads what it draws again."""
    device, run = choose_device(), RUNS / name

    def task() -> Autoencoding:
        with layers_seeded(plan.seed):
            new = Vae(SHAPE)
        return Autoencoding(new, plan, rows(n, scene_tokenizer()))

    trained(task, run, device)
    vae = load_autoencoder(run / MODEL)
    about = {"kind": "autoencoder", "network": describe(vae)}
    write_tensors(folder / f"{name}.safetensors", weights_of(vae, torch.float16), about)
    vae = load_autoencoder(folder / f"{name}.safetensors").to(device)
    facts = {
        "kind": "autoencoder",
        "title": f"autoencoder of scenes: {SIZE}×{SIZE} pictures to 16×16 latents of 4 channels",
        "recipe": plan.to_json(),
        "training": facts_of(run),
        "network": about["network"],
        "metrics": {"n": evaluated, **redrawn(vae, evaluated)},
    }
    write(name, folder, facts, vae, device)


@torch.no_grad()
def redrawn(vae: Vae, n: int) -> dict[str, Any]:
    """How well pictures of the split "test" survive: PSNR in dB, and the share that is read as it was."""
    device = next(vae.parameters()).device
    scenes, texts = asked(n, "test")
    x = as_float(scenes.render(SIZE)).to(device)
    z = vae.encode(x)
    shaken = z + 0.4 * torch.randn(z.shape, generator=torch.Generator().manual_seed(0)).to(device)
    back, shaken_back = (to_uint8(vae.decode(each).clamp(-1, 1)).cpu() for each in (z, shaken))
    error = (as_float(back) - x.cpu()).square().mean()
    return {
        "psnr": round(float(10 * torch.log10(4 / error)), 2),
        "latents_std": round(float(z.std()), 4),
        "read_right": rounded_share(captions_met(back, texts)["everything"]),
        "read_right_with_noise_0.4_in_latents": rounded_share(captions_met(shaken_back, texts)["everything"]),
    }
