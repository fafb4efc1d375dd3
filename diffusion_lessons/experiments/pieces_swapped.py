"""Captions met by a text-to-image model while one of its pieces is swapped for another (lesson 12).

All rows draw the same captions from the same noise with the bundled model; each names the piece and what is
in its place. Nothing is trained again. A row holds the shares of pictures that meet their caption, attribute
by attribute, each with its 95 % interval (Wilson), and how many rows the U-Net saw for each picture. A row
takes a minute or two on a core. The tower of `scenes-clip` is no stranger: its training began with the same
random weights as that of the model's own.
"""

from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusion_lessons import zoo
from diffusion_lessons.checkpoint import Checkpoint
from diffusion_lessons.data.captions import captions
from diffusion_lessons.data.dataset import to_float, to_uint8
from diffusion_lessons.data.scenes import draw
from diffusion_lessons.data.tokenizer import Tokenizer
from diffusion_lessons.experiments import Experiment, Row
from diffusion_lessons.guidance import ClassifierFreeGuidance
from diffusion_lessons.metrics.captions_met import captions_met
from diffusion_lessons.metrics.cost import count_evaluations
from diffusion_lessons.networks.clip import TextTransformer
from diffusion_lessons.networks.vae import Vae
from diffusion_lessons.samplers import SAMPLERS, plms, sample
from diffusion_lessons.support.machine import choose_device

MODEL = "scenes-text"
AS_IT_IS = {"sampler": "ddim", "steps": 25, "guidance": 2.0, "tower": "its own", "decoder": "its own"}
TOWERS = ("padded with 0", "without its last layer", "of scenes-clip", "channels in another order")
SWAPS: dict[str, list[Row]] = {
    "nothing": [{}],
    "decoder": [{"decoder": name} for name in ("linear", "in bfloat16", "never divided", "divided twice")],
    "sampler": [
        *({"sampler": name, "steps": n} for n in (25, 10, 5) for name in ("ddim", "dpmpp-2m", "plms", "ddpm"))
    ],
    "guidance": [{"guidance": scale} for scale in (0.0, 1.0, 4.0, 8.0)],
    "tower": [{"tower": name} for name in TOWERS],
}
PUBLISHED = ("plms",)  # walked down the levels that Stable Diffusion was published with
FITTED = 256  # scenes that the linear decoder is fitted to


class Shared(NamedTuple):
    """What all rows use."""

    model: Checkpoint
    clip: TextTransformer
    words: Tokenizer  # of that tower, which numbers the tokens in its own way
    linear: Tensor
    texts: list[str]
    noise: Tensor
    latents: dict[str, Tensor]  # of rows that differ in the decoder alone


def settings(options: Row) -> list[Row]:
    rows = [{"piece": piece, **AS_IT_IS, **row} for piece, rows in SWAPS.items() for row in rows]
    return [row for row in rows if row["piece"] == "nothing" or row != {**row, **AS_IT_IS}]


def prepare(options: Row) -> Shared:
    device, index = choose_device(options["device"]), torch.arange(options["n"])
    model = zoo.load(MODEL).on(device)
    towers, words = zoo.load("scenes-clip")
    texts = captions(draw(options["seed"], index, "test"), options["seed"], index, unsized=0)
    noise = torch.randn((len(texts), *model.shape), generator=torch.Generator().manual_seed(options["seed"]))
    clip, linear = towers.text.to(device), linear_decoder(model.vae)
    return Shared(model, clip, words, linear, texts, noise.to(device), {})


@torch.no_grad()
def measure(shared: Shared, row: Row, options: Row) -> Row:
    """Draw with one piece swapped, and read what the pictures show."""
    drawn = {name: row[name] for name in ("sampler", "steps", "guidance", "tower")}
    key = repr(drawn)
    network: Any = shared.model.network
    with count_evaluations(network.unet) as count:
        if key not in shared.latents:
            shared.latents[key] = latents(shared, **drawn)
    pictures = decoded(shared, shared.latents[key], row["decoder"]).float().clamp(-1, 1)
    met = captions_met(to_uint8(pictures.cpu()), shared.texts)
    shares = {what: [round(each, 4) for each in (share, *ends)] for what, (share, ends) in met.items()}
    seen = count.pictures / len(shared.texts) if count.pictures else None  # drawn for a row before
    return {"rows_seen": seen, "right": shares["everything"][0], **shares}


def latents(shared: Shared, sampler: str, steps: int, guidance: float, tower: str) -> Tensor:
    """What the model draws of the captions, before the decoder."""
    model = shared.model
    said = context(shared, shared.texts, tower)
    nothing = context(shared, [""], tower)
    spacing = "stable-diffusion" if sampler in PUBLISHED else "trailing"
    levels = model.path.levels(steps, spacing)
    walk: Any = {**SAMPLERS, "plms": plms}[sampler]
    if sampler == "ddpm":
        walk = partial(walk, generator=torch.Generator().manual_seed(1))
    denoiser = ClassifierFreeGuidance(model.denoiser(), guidance, {"context": nothing})
    parts = zip(shared.noise.split(64), said.split(64), strict=True)
    return torch.cat([sample(denoiser, x, levels, {"context": c}, sampler=walk) for x, c in parts])


def context(shared: Shared, texts: list[str], tower: str) -> Tensor:
    """What a text tower says of every token of some texts, (B, L, width)."""
    network: Any = shared.model.network
    own, device = network.text, shared.noise.device
    told = {name: each.to(device) for name, each in shared.model.prompts(texts).items()}
    tokens = told["tokens"]
    if tower == "padded with 0":
        tokens = torch.where(told["mask"], tokens, 0)
    if tower == "of scenes-clip":
        return shared.clip(shared.words(texts)["tokens"].to(device)).context
    if tower == "without its last layer":
        return one_layer_less(own, tokens)
    said = own(tokens).context
    return said[..., shuffled(said.shape[-1])] if tower == "channels in another order" else said


def shuffled(width: int) -> Tensor:
    """An order of the channels of a tower: what it knows is the same, and nobody else knows where."""
    return torch.randperm(width, generator=torch.Generator().manual_seed(0))


def one_layer_less(tower: TextTransformer, tokens: Tensor) -> Tensor:
    """The output of the last but one layer, behind the last norm: "clip skip 2"."""
    parts: Any = tower.text_model
    layers = parts["encoder"].layers
    kept = layers[-1]
    del layers[-1]
    try:
        return tower(tokens).context
    finally:
        layers.append(kept)


@torch.no_grad()
def linear_decoder(vae: Vae) -> Tensor:
    """The best linear map from the numbers of one place, and 1, to the square of pixels there: (5, 48).

    It is fitted to samples of latents, as a model draws them: with their means it would trust channels that
    hold noise.
    """
    device, square = next(vae.parameters()).device, vae.config.factor
    pictures = to_float(draw(1, torch.arange(FITTED)).render(64))
    side = pictures.shape[-1] // square
    shape = (FITTED, vae.config.latent_channels, side, side)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    pictures = pictures.to(device)
    pixels = F.unfold(pictures, square, stride=square).transpose(1, 2).flatten(0, 1)
    return torch.linalg.lstsq(places(vae.encode(pictures, noise.to(device))), pixels).solution


def places(z: Tensor) -> Tensor:
    """Latents (B, C, h, w) as rows of numbers, with a 1 behind: (B·h·w, C + 1)."""
    rows = z.flatten(2).transpose(1, 2).flatten(0, 1)
    return torch.cat([rows, torch.ones_like(rows[:, :1])], 1)


def decoded(shared: Shared, z: Tensor, decoder: str) -> Tensor:
    """Pictures of latents by one of the decoders."""
    vae: Any = shared.model.vae
    if decoder == "linear":
        square, batch = vae.config.factor, len(z)
        pixels = (places(z) @ shared.linear).unflatten(0, (batch, -1)).transpose(1, 2)
        return F.fold(pixels, z.shape[-1] * square, square, stride=square)
    if decoder == "in bfloat16":
        with torch.autocast(z.device.type, torch.bfloat16):
            return torch.cat([vae.decode(each) for each in z.split(64)])
    factor = {"never divided": vae.config.scale, "divided twice": 1 / vae.config.scale}.get(decoder, 1.0)
    return torch.cat([vae.decode(factor * each) for each in z.split(64)])


COLUMNS = "piece sampler steps guidance tower decoder rows_seen right seconds"
EXPERIMENT = Experiment(__name__, __doc__, COLUMNS, settings, prepare, measure)
