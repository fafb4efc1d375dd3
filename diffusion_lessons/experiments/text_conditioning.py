"""Captions met by a U-Net that is told by a frozen or a joint text tower, in one vector or many (lesson 16).

All get the same latents, noise, captions and number of steps; they differ in what tells the U-Net:

- tower "frozen": the text tower of the bundled `scenes-clip`, as it is; "joint": a new one that learns, too;
- told "a vector a token": cross-attention to what the tower says of every token; "one vector": to what it
  says of the token that ends the caption, alone.

A row holds the shares of pictures that meet their caption, attribute by attribute, each with its 95 %
interval (Wilson), for captions like those of the training and for held-out pairs of colour and shape; and
over the training what a wrong caption adds to the loss. A row takes six minutes on an H100, and hours on two
cores. The recorded result says in its note which `scenes-clip` its frozen rows had.
"""

import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import torch

from diffusion_lessons import zoo
from diffusion_lessons.checkpoint import Checkpoint, load_checkpoint
from diffusion_lessons.data.captioned import scene_rows
from diffusion_lessons.data.captions import captions
from diffusion_lessons.data.dataset import Dataset, to_uint8
from diffusion_lessons.data.scenes import draw
from diffusion_lessons.data.tokenizer import Tokenizer
from diffusion_lessons.experiments import Experiment, Row
from diffusion_lessons.generate import generate
from diffusion_lessons.metrics.captions_met import captions_met
from diffusion_lessons.networks import Vae
from diffusion_lessons.networks.clip import TextTransformer
from diffusion_lessons.support.machine import choose_device, cores
from diffusion_lessons.training.loop import train
from diffusion_lessons.training.recipe import Recipe
from diffusion_lessons.training.run_folder import LOG, MODEL, logged
from diffusion_lessons.training.text_to_image import (
    TextToImage,
    WrongCaptions,
    latents_of,
    prompted,
    text_config,
)

TOWERS, TOLD = ("frozen", "joint"), ("a vector a token", "one vector")
ROWS, PROBED = 2**17, 256  # scenes to learn from, and those that wrong captions are tried on
WIDTH, LAYERS = 96, 3  # of a new tower, as of that of `scenes-clip`
RECIPE = Recipe(
    data="scenes",
    size=64,
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


class Shared(NamedTuple):
    """What all rows use."""

    latents: Dataset
    tokenizer: Tokenizer
    tower: TextTransformer
    vae: Vae
    probe: WrongCaptions
    device: torch.device


def settings(options: Row) -> list[Row]:
    return [{"tower": tower, "told": told} for tower in TOWERS for told in TOLD]


def prepare(options: Row, rows: int = ROWS, probed: int = PROBED) -> Shared:
    device, vae = choose_device(options["device"]), zoo.load("scenes-vae")
    towers, tokenizer = zoo.load("scenes-clip")  # whose tower knows no other tokens
    pictures = scene_rows(tokenizer, style="free").kept(rows, workers=cores() - 1)
    latents = latents_of(vae, pictures, options["seed"], device)
    probe = WrongCaptions(vae.cpu(), tokenizer, probed)
    return Shared(latents, tokenizer, towers.text, vae, probe, device)


def measure(shared: Shared, row: Row, options: Row, recipe: Recipe = RECIPE) -> Row:
    """Train one network in a folder that is thrown away, and read what it draws."""
    frozen = row["tower"] == "frozen"
    text = shared.tower if frozen else text_config(shared.tokenizer, WIDTH, LAYERS)
    network = prompted(recipe, shared.vae.config.latent_channels, text, pooled=row["told"] == "one vector")
    task = TextToImage(recipe, shared.latents, network, shared.tokenizer, shared.vae, shared.probe)
    with tempfile.TemporaryDirectory() as folder:
        seconds = train(task, folder, device=shared.device, progress=False)["seconds"]
        model, wrong = load_checkpoint(Path(folder) / MODEL), logged(Path(folder) / LOG)
    read = {split: shares(model, split, options["n"], shared.device) for split in ("test", "held-out")}
    return {
        "steps": recipe.steps,
        "parameters": sum(p.numel() for p in network.parameters()),
        "training_seconds": round(seconds, 1),
        "everything": read["test"]["everything"][0],
        "everything_held_out": read["held-out"]["everything"][0],
        **read,
        "wrong_captions": wrong,
    }


def shares(model: Checkpoint, split: str, n: int, device: torch.device) -> dict[str, Any]:
    """Of n pictures, by attribute, [share, low, high]: how many meet it, and the 95 % interval."""
    index = torch.arange(n)
    texts = captions(draw(0, index, split), 0, index, unsized=0)
    pictures = generate(model, model.prompts(texts), seed=0, device=device, precision="float32")
    met = captions_met(to_uint8(pictures.clamp(-1, 1)), texts)
    return {what: [round(each, 4) for each in (share, *ends)] for what, (share, ends) in met.items()}


COLUMNS = "tower told steps everything everything_held_out training_seconds"
EXPERIMENT = Experiment(__name__, __doc__, COLUMNS, settings, prepare, measure)
