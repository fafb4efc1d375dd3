"""`scenes-inpaint`: `scenes-text` with five channels more, of what is to be kept."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from diffusion_lessons import zoo
from diffusion_lessons.conditions import Condition
from diffusion_lessons.data.captioned import hole_of
from diffusion_lessons.data.captions import captions, plain, read, wrong
from diffusion_lessons.data.dataset import as_float, to_uint8
from diffusion_lessons.data.scenes import draw
from diffusion_lessons.generate import generate
from diffusion_lessons.makers.diffusion import RUNS, trained
from diffusion_lessons.makers.scenes.shared import EVALUATED, SIZE, rounded_share, rows
from diffusion_lessons.makers.scenes.text import RECIPE as TEXT
from diffusion_lessons.makers.scenes.text import store_pipeline
from diffusion_lessons.metrics.captions_met import captions_met
from diffusion_lessons.support.machine import choose_device
from diffusion_lessons.training.recipe import Recipe
from diffusion_lessons.training.text_to_image import TextToImage, latents_of, widened

ROWS = 2**16  # scenes with a hole to learn from
RECIPE = replace(TEXT, steps=1000, batch=64, lr=6e-4, ema_decay=0.998)


def build_inpaint(
    name: str, folder: Path, recipe: Recipe = RECIPE, n: int = ROWS, evaluated: int = EVALUATED
) -> None:
    """Train `scenes-inpaint`; its card tells how often a hole is painted as its caption says."""
    device, run, shelf = choose_device(), RUNS / name, zoo.shelf_of("scenes-text", folder)

    def task() -> TextToImage:
        start = zoo.load("scenes-text", shelf)
        assert start.vae is not None and start.tokenizer is not None
        pictures = rows(n, start.tokenizer, holes=True)
        dataset = latents_of(start.vae, pictures, recipe.seed, device)
        network = widened(start.network, known=1 + start.vae.config.latent_channels)
        network.text.requires_grad_(False)
        start.vae.cpu()
        return TextToImage(recipe, dataset, network, start.tokenizer, start.vae, start="scenes-text")

    trained(task, run, device)
    made_of = {"scenes-text": zoo.card("scenes-text", shelf)["sha256"]}
    title = f"inpainting: scenes at {SIZE}×{SIZE}, in latents, told a caption"
    told = {**recipe.to_json(), "made_of": made_of}
    store_pipeline([run], name, folder, device, title, told, holes_met, evaluated, n)


def holes_met(model: Any, device: torch.device, n: int) -> dict[str, Any]:
    """The share of pictures that meet their caption when an object of another scene is painted over.

    Each picture is a pair; the hole is a box about its first object, and the caption is that of the picture
    with this object in another colour.
    """
    index = torch.arange(4 * n)
    scenes = draw(0, index, "test")
    pairs = index[scenes.relation >= 0][:n]
    scenes = scenes[pairs]
    x, masks = as_float(scenes.render(SIZE)), scenes.masks(SIZE)[:, 0]
    holes = torch.stack([hole_of(mask, margin=3) for mask in masks])[:, None].float()
    texts = []
    for i, text in enumerate(captions(scenes, 0, pairs, unsized=0)):
        wish = read(text)
        first = wrong(
            replace(wish, objects=wish.objects[:1], relation=None), "colour", np.random.default_rng((0, i))
        )
        assert first is not None
        texts.append(plain(replace(wish, objects=(first.objects[0], *wish.objects[1:]))))
    painted = painted_over(model, x, holes, texts, device)
    met = captions_met(to_uint8(painted.clamp(-1, 1)), texts)
    return {"n": len(texts), **{what: rounded_share(each) for what, each in met.items()}}


def painted_over(model: Any, x: Tensor, holes: Tensor, texts: Sequence[str], device: torch.device) -> Tensor:
    """Each picture (N, 3, S, S) with its hole (N, 1, S, S) painted after its text, the rest put back."""
    vae = model.vae.to(device)
    factor = vae.config.factor
    coarse = nn.functional.max_pool2d(holes, factor)
    with torch.no_grad():
        hidden = vae.encode((x * (1 - holes)).to(device)).cpu()
    condition: Condition = {**model.prompts(texts), "known": torch.cat([coarse, hidden], 1)}
    painted = generate(model, condition, seed=0, device=device, precision="float32")
    return torch.lerp(x, painted, holes)
