"""The task of text to image: denoising that is told a caption, in the latents of an autoencoder."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from diffusion_lessons.checkpoint import Checkpoint, save_checkpoint
from diffusion_lessons.data import FOLDER, SHARDS
from diffusion_lessons.data.captioned_folder import captioned_folder, tokenizer_of
from diffusion_lessons.data.captions import WRONGS, plain, wishes, wrong
from diffusion_lessons.data.dataset import Dataset, Rows, as_float
from diffusion_lessons.data.scenes import PAIR, draw
from diffusion_lessons.data.shards import Shards
from diffusion_lessons.data.tokenizer import BEGIN, END, Tokenizer
from diffusion_lessons.losses import diffusion_loss
from diffusion_lessons.networks import Prompted, PromptedConfig, Vae, Video
from diffusion_lessons.networks.clip import TextConfig, TextTransformer
from diffusion_lessons.networks.unet_text import TextUNetConfig
from diffusion_lessons.support.seeds import layers_seeded, seeded
from diffusion_lessons.training.recipe import Recipe
from diffusion_lessons.training.tasks import Denoising

ENCODED = 256  # pictures at a time
TOWER_WIDTH, TOWER_LAYERS = 96, 2  # of the text tower of a model of one's own pictures
READ = 10_000  # captions of shards that a tokenizer is learnt from
TIMES = (700.0, 950.0)  # at which wrong captions are tried: what is there, and where it is


class TextToImage(Denoising):
    """Learn to draw what a row's "tokens" say; the rows are latents of `vae`, or pictures without one.

    What is written is a whole pipeline: a prompt goes in, a picture comes out. `probe` is what the run logs.
    """

    def __init__(
        self,
        recipe: Recipe,
        dataset: Rows,
        network: Prompted,
        tokenizer: Tokenizer,
        vae: Vae | None = None,
        probe: "WrongCaptions | None" = None,
        start: str | None = None,
    ) -> None:
        super().__init__(recipe, dataset, network, start)
        self.tokenizer, self.vae, self.probe = tokenizer, vae, probe

    def watched(self, network: nn.Module) -> dict[str, float]:
        return {} if self.probe is None else self.probe(Checkpoint(network, self.path, self.target, (), ()))

    def write(self, file: Path, network: nn.Module, info: Mapping[str, Any]) -> None:
        shape, recipe = tuple(self.dataset.shape), self.plan.to_json()
        model = Checkpoint(network, self.path, self.target, (), shape, recipe, info, self.vae, self.tokenizer)
        save_checkpoint(file, model)


def text_config(tokenizer: Tokenizer, width: int, layers: int, projection: int = 0) -> TextConfig:
    """A text tower for a tokenizer, with heads that are 32 wide."""
    sizes: Any = {"width": width, "hidden": 4 * width, "layers": layers, "heads": width // 32}
    begin, end = tokenizer.ids[BEGIN], tokenizer.ids[END]
    return TextConfig(len(tokenizer), tokenizer.context, **sizes, begin=begin, end=end, projection=projection)


def prompted(
    recipe: Recipe,
    channels: int,
    text: TextConfig | TextTransformer,
    learn_text: bool = False,
    pooled: bool = False,
) -> Prompted:
    """The recipe's U-Net for samples of so many channels, told by a tower: a trained one, or one to train.

    A trained one stays as it is unless it is to learn on. All random starts are drawn from the seed.
    """
    tower = text if isinstance(text, TextConfig) else replace(text.config, projection=0)
    widths = tuple(recipe.base_channels * each for each in recipe.channel_mults)
    unet = TextUNetConfig(
        in_channels=channels,
        out_channels=channels,
        widths=widths,
        attention=tuple(level in recipe.attention_levels for level in range(len(widths))),
        blocks_per_level=recipe.blocks_per_level,
        heads=tuple(width // recipe.head_dim for width in widths),
        context=tower.width,
        groups=math.gcd(16, recipe.base_channels),
    )
    with layers_seeded(recipe.seed):
        network = Prompted(PromptedConfig(tower, unet, pooled))
    if isinstance(text, TextTransformer):
        weights = text.state_dict()
        network.text.load_state_dict({name: weights[name] for name in network.text.state_dict()})
        network.text.requires_grad_(learn_text)
    return network


def widened(network: Prompted, known: int) -> Prompted:
    """A copy that sees so many channels more, of what is known, and at first makes nothing of them."""
    config = network.config
    grown = replace(config, unet=replace(config.unet, in_channels=config.unet.in_channels + known))
    wider, weights = Prompted(grown), dict(network.state_dict())
    first = "unet.conv_in.weight"
    weights[first] = nn.functional.pad(weights[first], (0, 0, 0, 0, 0, known))
    wider.load_state_dict(weights)
    for mine, theirs in zip(wider.parameters(), network.parameters(), strict=True):
        mine.requires_grad_(theirs.requires_grad)
    return wider


@torch.no_grad()
def latents_of(vae: Vae, pictures: Dataset, seed: int, device: torch.device | str = "cpu") -> Dataset:
    """A data set of each picture's scaled latents, one draw of them, with the conditions it had.

    A row with a "hole" (1, H, W), 1 where to paint, gets "known" in its place: the hole in the latents' size,
    and the latents of the picture with grey in the hole (Rombach et al. 2022, section 4.5).
    """
    vae = vae.to(device).eval()
    latents, known, told = [], [], dict(pictures.conditions)
    holes = told.pop("hole", None)
    for at, index in enumerate(torch.arange(len(pictures)).split(ENCODED)):
        x = as_float(pictures.images[index].to(device))
        moments = vae.moments(x)
        noise = torch.randn(moments.mean.shape, generator=seeded("cpu", seed, "latents", at)).to(device)
        latents.append((vae.config.scale * moments.sample(noise)).cpu())
        if holes is not None:
            hole = holes[index].to(x)
            coarse = nn.functional.max_pool2d(hole, vae.config.factor)
            known.append(torch.cat([coarse, vae.encode(x * (1 - hole))], 1).cpu())
    if known:
        told["known"] = torch.cat(known)
    name, note = f"{pictures.name} in latents", pictures.note
    return Dataset(name, torch.cat(latents), conditions=told, note=note)


def from_folder(recipe: Recipe, start: Checkpoint | None = None, name: str | None = None) -> TextToImage:
    """What there is to learn from the recipe's "folder:PATH" with captions, from nothing or from a model.

    A new model has a tokenizer and a text tower of its own, and draws pixels. One to start from keeps its
    tokenizer and its autoencoder; one without captions is a ValueError.
    """
    size = recipe.size if start is None or start.vae is None else start.shape[-1] * start.vae.config.factor
    pictures, texts = captioned_folder(recipe.data.removeprefix(FOLDER), "train", size)
    if start is None:
        tokenizer, vae = tokenizer_of(texts), None
        network = prompted(recipe, pictures.shape[0], text_config(tokenizer, TOWER_WIDTH, TOWER_LAYERS))
    else:
        network, tokenizer, vae = parts_to_learn(start)
    dataset = replace(pictures, conditions=tokenizer(texts))
    if vae is not None:
        dataset = latents_of(vae, dataset, recipe.seed)
    return TextToImage(recipe, dataset, network, tokenizer, vae, start=name)


def from_shards(recipe: Recipe, start: Checkpoint | None = None, name: str | None = None) -> TextToImage:
    """What there is to learn from the recipe's "shards:PATTERN", from nothing or from a model of pixels.

    A new tokenizer is learnt from `READ` captions; one that draws latents is a ValueError, as is one without
    captions or in grey.
    """
    if start is not None and (start.vae is not None or start.shape[0] != 3):
        raise ValueError(
            "pictures in shards are learnt as pixels in colour, and the model to start from draws "
            f"{'in grey' if start.vae is None else 'latents'}: leave out --from, or give a folder"
        )
    size = recipe.size if start is None or recipe.size else start.shape[-1]
    shards = Shards.open(recipe.data.removeprefix(SHARDS), size)
    if start is None:
        tokenizer = tokenizer_of(shards.captions(READ))
        network = prompted(recipe, 3, text_config(tokenizer, TOWER_WIDTH, TOWER_LAYERS))
    else:
        network, tokenizer, _ = parts_to_learn(start)
    return TextToImage(recipe, replace(shards, told=tokenizer), network, tokenizer, start=name)


def parts_to_learn(start: Checkpoint) -> tuple[Prompted, Tokenizer, Vae | None]:
    """Network, tokenizer and autoencoder of a model with captions, all of its network free to learn.

    A model without captions, and one that has to be shown what it paints over, are a ValueError.
    """
    network, tokenizer = start.network, start.tokenizer
    if not isinstance(network, Prompted) or tokenizer is None:
        raise ValueError("the weights to start from are of a model without captions")
    if isinstance(network, Video):
        raise ValueError("the weights to start from are of a model of clips")
    if network.config.unet.in_channels > network.config.unet.out_channels:
        raise ValueError("the weights to start from are of a model that paints over a mask")
    return network.requires_grad_(True), tokenizer, start.vae


class WrongCaptions:
    """What a wrong caption costs: the loss with it minus that with the right one, attribute by attribute.

    A network that reads a bag of words draws well and has a falling loss; here its zeros show. Measured on
    pairs of the split "test", each wrong in one thing of `captions.WRONGS`, at each of `times`.
    """

    def __init__(
        self, vae: Vae | None, tokenizer: Tokenizer, rows: int = 256, times: tuple[float, ...] = TIMES
    ) -> None:
        scenes = draw(1, torch.arange(4 * rows), "test")
        kept: list[int] = []
        texts: list[list[str]] = []
        for i, wish in enumerate(wishes(scenes)):
            others = [wrong(wish, what, np.random.default_rng((1, i))) for what in WRONGS]
            if scenes.form[i] == PAIR and None not in others and len(kept) < rows:
                kept.append(i)
                texts.append([plain(each) for each in (wish, *filter(None, others))])
        pictures = Dataset("scenes", scenes[torch.tensor(kept)].render(64))
        self.x0 = as_float(pictures.images) if vae is None else latents_of(vae, pictures, seed=1).images
        self.told = {what: tokenizer([row[i] for row in texts]) for i, what in enumerate(("right", *WRONGS))}
        self.times = times

    @torch.no_grad()
    def __call__(self, model: Checkpoint) -> dict[str, float]:
        """{"relation at 950": extra loss …} of a model that draws from captions."""
        device, figures = next(model.network.parameters()).device, {}
        x0 = self.x0.to(device)
        noise = torch.randn(x0.shape, generator=seeded("cpu", "wrong captions")).to(device)
        for time in self.times:
            losses = {}
            for what, told in self.told.items():
                condition = {name: value.to(device) for name, value in told.items()}
                t = torch.full((len(x0),), time, dtype=torch.float64)
                losses[what] = diffusion_loss(
                    model.network, model.path, model.target, x0, noise, t, condition
                ).mean()
            for what in WRONGS:
                figures[f"{what} at {time:g}"] = round(float(losses[what] - losses["right"]), 5)
        return figures
