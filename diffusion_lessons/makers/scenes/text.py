"""`scenes-text`: text to image, in the latents of `scenes-vae`, with a tower that learns beside the U-Net."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from diffusion_lessons import zoo
from diffusion_lessons.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from diffusion_lessons.data.captioned import scene_tokenizer
from diffusion_lessons.data.dataset import Dataset
from diffusion_lessons.data.scenes import PAIR
from diffusion_lessons.data.tokenizer import Tokenizer
from diffusion_lessons.makers.diffusion import facts_of
from diffusion_lessons.makers.prompting import drawn
from diffusion_lessons.makers.scenes.shared import (
    EVALUATED,
    LAYERS,
    ROWS,
    SIZE,
    WIDTH,
    Stage,
    rounded_share,
    rows,
    seen_in,
    train_stages,
    write,
)
from diffusion_lessons.metrics.captions_met import captions_met
from diffusion_lessons.networks import Prompted, Vae
from diffusion_lessons.networks.clip import TextConfig, TextTransformer
from diffusion_lessons.support.machine import choose_device
from diffusion_lessons.training.recipe import Recipe
from diffusion_lessons.training.run_folder import LOG, MODEL, logged
from diffusion_lessons.training.text_to_image import (
    TextToImage,
    WrongCaptions,
    latents_of,
    parts_to_learn,
    prompted,
    text_config,
)

LIVE_ROWS = 2**15  # learnt from where somebody waits for them to be rendered and encoded
RECIPE = Recipe(
    data="scenes",
    size=SIZE,
    steps=3000,
    batch=256,
    lr=1e-3,
    warmup=200,
    base_channels=48,
    channel_mults=(1, 2),
    attention_levels=(0, 1),
    time_power=0.5,  # what stands where is decided near noise
    ema_decay=0.999,
    checkpoint_every=20.0,
)

# Which of two objects is left is learnt from pairs near noise, with captions that say it in one way: where it
# is said in many ways, thousands of steps did not find it. The last stage took what is right from 85 to 99 %,
# in five and a half minutes on a GPU.
STAGES = (
    Stage(RECIPE),
    Stage(
        replace(RECIPE, steps=750, batch=32, lr=6e-4, warmup=100, decay="none", time_power=0.1),
        style="plain",
        form=PAIR,
    ),
    Stage(replace(RECIPE, batch=64, lr=6e-4, warmup=50, ema_decay=0.998)),
    Stage(replace(RECIPE, steps=6000, seed=1), rows=2**18),
)


def build_text(
    name: str, folder: Path, stages: Sequence[Stage[Recipe]] = STAGES, evaluated: int = EVALUATED
) -> None:
    """Train `scenes-text`; its card tells what of a caption its pictures meet."""
    device, tokenizer = choose_device(), scene_tokenizer()
    shelf = zoo.shelf_of("scenes-vae", folder)

    def task(stage: Stage[Recipe], before: Path | None) -> TextToImage:
        vae: Vae = zoo.load("scenes-vae", shelf)
        pictures = rows(stage.rows, tokenizer, stage.style, form=stage.form, seed=stage.plan.seed)
        if before is None:
            text = text_config(tokenizer, WIDTH, LAYERS)
            return text_task(stage.plan, text, tokenizer, vae, pictures, device)
        network: Any = load_checkpoint(before).network.requires_grad_(True)
        return text_task(stage.plan, network, tokenizer, vae, pictures, device, "the stage before")

    runs = train_stages(name, stages, device, task)
    title = f"text to image: scenes at {SIZE}×{SIZE}, in latents"
    made_of = {"scenes-vae": zoo.card("scenes-vae", shelf)["sha256"]}
    recipe = {"stages": [each.to_json() for each in stages], "made_of": made_of}
    store_pipeline(runs, name, folder, device, title, recipe, prompts_met, evaluated, seen_in(stages))


def text_task(
    recipe: Recipe,
    text: TextConfig | TextTransformer | Prompted,
    tokenizer: Tokenizer,
    vae: Vae,
    pictures: Dataset,
    device: torch.device,
    start: str | None = None,
    **how: Any,
) -> TextToImage:
    """What there is to learn: latents of scenes, and a U-Net told by a tower; `how` is for `prompted`.

    A network that is there already, with its tower, learns on; `start` is the name of its weights.
    """
    network = (
        text if isinstance(text, Prompted) else prompted(recipe, vae.config.latent_channels, text, **how)
    )
    dataset = latents_of(vae, pictures, recipe.seed, device)
    vae.cpu()
    return TextToImage(recipe, dataset, network, tokenizer, vae, WrongCaptions(vae, tokenizer), start)


def live_task(
    recipe: Recipe,
    device: torch.device | str | None = None,
    start: Checkpoint | None = None,
    name: str | None = None,
    n: int = LIVE_ROWS,
) -> TextToImage:
    """What `train scenes` learns: what `scenes-text` does, or with the weights of `start`, called `name`.

    Pictures of another size than `SIZE`, and weights of a model that has no captions, draws no latents of
    this size or has another shape than the recipe's are a ValueError.
    """
    if recipe.size not in (None, SIZE):
        raise ValueError(f"scenes are learnt at {SIZE} pixels, in latents of scenes-vae; got {recipe.size}")
    if start is None:
        tokenizer, vae = scene_tokenizer(), zoo.load("scenes-vae")
        text: Any = text_config(tokenizer, WIDTH, LAYERS)
    else:
        text, tokenizer, vae = parts_to_learn(start)
        if vae is None or start.shape[-1] * vae.config.factor != SIZE:
            raise ValueError(f"the weights to start from draw no latents of {SIZE}×{SIZE} pictures")
        wanted = prompted(recipe, vae.config.latent_channels, text.config.text).config.unet
        for field, mine in vars(wanted).items():
            if mine != (theirs := getattr(text.config.unet, field)):
                of = "the weights to start from are of another network"
                raise ValueError(f"{of}: {field} is {theirs} there and {mine} here")
    print(f"rendering and encoding {n:,} scenes", file=sys.stderr)
    pictures = rows(n, tokenizer, seed=recipe.seed)
    return text_task(recipe, text, tokenizer, vae, pictures, choose_device(device), name)


def prompts_met(model: Any, device: torch.device, n: int) -> dict[str, Any]:
    """The share of pictures that meet captions of scenes that training could show, and of held-out ones."""
    how: Any = {"device": device, "precision": "float32"}
    return {
        split: {"n": n, **{what: rounded_share(each) for what, each in captions_met(pictures, texts).items()}}
        for split, texts, pictures in drawn(model, n, **how)
    }


def store_pipeline(
    runs: Sequence[Path],
    name: str,
    folder: Path,
    device: torch.device,
    title: str,
    recipe: dict[str, Any],
    measure: Callable[[Checkpoint, torch.device, int], dict[str, Any]],
    evaluated: int,
    seen: int = ROWS,
) -> None:
    """Store what the last run learnt; the card tells of all."""
    file = folder / f"{name}.safetensors"
    save_checkpoint(file, load_checkpoint(runs[-1] / MODEL), dtype=torch.float16)
    model = load_checkpoint(file)
    facts: dict[str, Any] = {
        "kind": "diffusion",
        "title": title,
        "classes": [],
        "recipe": recipe,
        "training": facts_of(*runs),
        "metrics": {"sampling": {"sampler": "ddim", **model.sampling}, **measure(model, device, evaluated)},
    }
    figures = [{"stage": i, **row} for i, run in enumerate(runs, 1) for row in logged(run / LOG)]
    if figures:
        facts["wrong_captions"] = figures
    write(name, folder, facts, model.network, device, seen)
