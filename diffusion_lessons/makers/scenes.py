"""The bundled models of scenes: an autoencoder, two towers that meet, text to image, and inpainting.

Each is a function of its recipe, of rendered scenes and of the models before it; a run that was stopped goes
on, as those of digits do.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from diffusion_lessons import zoo
from diffusion_lessons.checkpoint import (
    Checkpoint,
    load_checkpoint,
    save_checkpoint,
    weights_of,
    write_tensors,
)
from diffusion_lessons.conditions import Condition
from diffusion_lessons.data.captioned import hole_of, scene_rows, scene_tokenizer
from diffusion_lessons.data.captions import WRONGS, captions, plain, read, wishes, wrong
from diffusion_lessons.data.dataset import Dataset, as_float, to_uint8
from diffusion_lessons.data.scenes import FORMS, PAIR, draw
from diffusion_lessons.data.tokenizer import Tokenizer
from diffusion_lessons.generate import generate
from diffusion_lessons.makers.cards import write_card
from diffusion_lessons.makers.diffusion import RUNS, facts_of, trained
from diffusion_lessons.makers.prompting import asked, drawn
from diffusion_lessons.metrics.captions_met import captions_met
from diffusion_lessons.metrics.intervals import wilson_interval
from diffusion_lessons.networks import Prompted, Vae, VaeConfig, describe
from diffusion_lessons.networks.clip import TextConfig, TextTransformer, TwoTowers, VisionConfig
from diffusion_lessons.support.machine import choose_device, cores
from diffusion_lessons.support.seeds import layers_seeded
from diffusion_lessons.training.autoencoding import Autoencoding
from diffusion_lessons.training.contrast import Contrast, write_towers
from diffusion_lessons.training.recipe import Plan, Recipe
from diffusion_lessons.training.run_folder import LOG, MODEL, logged
from diffusion_lessons.training.text_to_image import (
    TextToImage,
    WrongCaptions,
    latents_of,
    parts_to_learn,
    prompted,
    text_config,
    widened,
)
from diffusion_lessons.zoo import safety
from diffusion_lessons.zoo.files import load_autoencoder, load_towers

SIZE, ROWS = 64, 2**17  # side of the pictures, and how many are learnt from
LIVE_ROWS = 2**15  # the same where somebody waits for them to be rendered and encoded
EVALUATED = 500  # captions of each kind that a model is measured on
FALSE_ALARMS = 0.005  # of the safety check
WIDTH, LAYERS, PROJECTION = 96, 3, 64  # of the text tower, and of the space that towers meet in

VAE = Plan(steps=2000, batch=64, lr=2e-3, ema_decay=0.999)
VAE_SHAPE = VaeConfig(widths=(32, 64), blocks_per_level=1, groups=8, patch=2, scale=1.0)
CLIP = Plan(steps=2500, batch=256, lr=1e-3, warmup=200, ema_decay=0.999)
CLIP_IMAGES = VisionConfig(SIZE, 8, WIDTH, 4 * WIDTH, layers=4, heads=3, projection=PROJECTION)
TEXT = Recipe(
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
INPAINT = replace(TEXT, steps=1000, batch=64, lr=6e-4, ema_decay=0.998)


@dataclass(frozen=True)
class Stage:
    """A part of the training of `scenes-text`: a recipe, and what its captions are like."""

    recipe: Recipe
    style: str = "both"  # one of `captions.STYLES`
    form: int | None = None  # of all its scenes; None: every form comes


# Which of two objects is left is learnt from pairs near noise, with captions that say it in one way: where it
# is said in many ways, thousands of steps did not find it.
STAGES = (
    Stage(TEXT),
    Stage(
        replace(TEXT, steps=750, batch=32, lr=6e-4, warmup=100, decay="none", time_power=0.1),
        style="plain",
        form=PAIR,
    ),
    Stage(replace(TEXT, batch=64, lr=6e-4, warmup=50, ema_decay=0.998)),
)


def rows(n: int, tokenizer: Tokenizer, style: str = "both", **how: Any) -> Dataset:
    """Scenes to learn from, in memory, with their captions; how: `scene_rows`'s."""
    return scene_rows(tokenizer, SIZE, style=style, **how).kept(n, workers=cores() - 1)


# The autoencoder -----------------------------------------------------------------------------------


def build_vae(name: str, folder: Path, plan: Plan = VAE, n: int = ROWS) -> None:
    """Train `scenes-vae`; its card tells how well the reader reads what it draws again."""
    device, run = choose_device(), RUNS / name
    with layers_seeded(plan.seed):
        new = Vae(VAE_SHAPE)
    trained(Autoencoding(new, plan, rows(n, scene_tokenizer())), run, device)
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
        "metrics": {"n": 2 * EVALUATED, **redrawn(vae, 2 * EVALUATED)},
    }
    _write(name, folder, facts, vae, device)


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
        "read_right": _share(captions_met(back, texts)["everything"]),
        "read_right_with_noise_0.4_in_latents": _share(captions_met(shaken_back, texts)["everything"]),
    }


# The towers ----------------------------------------------------------------------------------------


def build_clip(
    name: str, folder: Path, plan: Plan = CLIP, n: int = ROWS, wrongs: Sequence[str] = WRONGS
) -> None:
    """Train `scenes-clip`; its card tells how often the right caption is found, and what is confused."""
    device, run, tokenizer = choose_device(), RUNS / name, scene_tokenizer()
    text = text_config(tokenizer, WIDTH, LAYERS, PROJECTION)
    with layers_seeded(plan.seed):
        new = TwoTowers(text, CLIP_IMAGES)
    trained(Contrast(new, plan, rows(n, tokenizer, wrongs=wrongs), tokenizer), run, device)
    network, _ = load_towers(run / MODEL)
    file = folder / f"{name}.safetensors"
    write_towers(file, network, tokenizer, {}, torch.float16)
    network = load_towers(file)[0].to(device)
    facts = {
        "kind": "towers",
        "title": "text tower and image tower of scenes, trained by contrast with wrong captions",
        "recipe": {**plan.to_json(), "wrongs": list(wrongs)},
        "training": facts_of(run),
        "metrics": {split: retrieval(network, tokenizer, EVALUATED, split) for split in ("test", "held-out")},
        "safety": alarms(network, tokenizer, 8 * EVALUATED),
    }
    _write(name, folder, facts, network, device)


@torch.no_grad()
def retrieval(network: TwoTowers, tokenizer: Tokenizer, n: int, split: str) -> dict[str, Any]:
    """Shares of n pictures whose caption is found among those of all n, and told from a wrong one of its own.

    Captions that say the same of two pictures count as the same.
    """
    device = next(network.parameters()).device
    scenes, texts = asked(n, split)
    x = as_float(scenes.render(SIZE)).to(device)
    logits = network(x, tokenizer(texts)["tokens"].to(device))
    found = sum(texts[best] == texts[i] for i, best in enumerate(logits.argmax(1).tolist()))
    told: dict[str, Any] = {"n": n, "caption_found": _share((found / n, wilson_interval(found, n)))}
    for what in WRONGS:
        wishes = [wrong(read(text), what, np.random.default_rng((0, i))) for i, text in enumerate(texts)]
        said = [i for i, wish in enumerate(wishes) if wish is not None]
        others = [plain(wish) for wish in wishes if wish is not None]
        logit = network(x[said], tokenizer(others)["tokens"].to(device)).diagonal()
        right = int((logits[said, said] > logit).sum())
        told[f"{what}_told"] = _share((right / len(said), wilson_interval(right, len(said))))
    return told


def alarms(network: TwoTowers, tokenizer: Tokenizer, n: int, share: float = FALSE_ALARMS) -> dict[str, Any]:
    """Thresholds of the safety check, wrong in about this share of n scenes, and its rates on n others.

    Half of the scenes are of "test", half "held-out"; a false alarm is one of a scene without the concept.
    Of a rate stand share, lower end, upper end and the number of scenes.
    """
    check, index = safety.of_scenes(network, tokenizer), torch.arange(n // 2)
    check.concept_embeds_weights.zero_()
    sets = []  # to choose by, and to measure on
    for seed in (1, 0):
        scenes = [draw(seed, index, split) for split in ("test", "held-out")]
        pictures = [each[i : i + 250].render(SIZE) for each in scenes for i in range(0, len(each), 250)]
        scores = torch.cat([check.scores(as_float(x)) for x in pictures]).cpu()
        shown = [
            {(each.colour, each.shape) for each in wish.objects} for each in scenes for wish in wishes(each)
        ]
        sets.append((scores.unflatten(1, (-1, len(FORMS))), shown, torch.cat([each.form for each in scenes])))
    told: dict[str, Any] = {}
    for i, concept in enumerate(safety.CONCEPTS):
        (wanted,) = read(concept).objects
        kind = wanted.colour, wanted.shape
        has = [torch.tensor([kind in each for each in shown]) for _, shown, _ in sets]
        (chosen, _, _), (measured, _, form) = sets
        thresholds = chosen[~has[0], i].quantile(1 - share / len(FORMS), dim=0).round(decimals=4)
        above = (measured[:, i] > thresholds).any(1)
        told[concept] = {"thresholds": [round(each, 4) for each in thresholds.tolist()]}
        groups = {f"found_{name.replace(' ', '_')}": has[1] & (form == k) for k, name in enumerate(FORMS)}
        for what, where in ({"false_alarms": ~has[1], "found": has[1]} | groups).items():
            count, of = int(above[where].sum()), int(where.sum())
            if of:
                told[concept][what] = [*_share((count / of, wilson_interval(count, of))), of]
    return told


# Text to image -------------------------------------------------------------------------------------


def build_text(name: str, folder: Path, stages: Sequence[Stage] = STAGES, n: int = ROWS) -> None:
    """Train `scenes-text` on the latents of `scenes-vae`, with a text tower that learns beside the U-Net."""
    device, tokenizer = choose_device(), scene_tokenizer()
    text: Any = text_config(tokenizer, WIDTH, LAYERS)
    runs = [RUNS / name / str(number) for number, _ in enumerate(stages, 1)]
    for run, stage in zip(runs, stages, strict=True):
        vae: Vae = zoo.load("scenes-vae", folder)
        pictures = rows(n, tokenizer, stage.style, form=stage.form, seed=stage.recipe.seed)
        start = None if run == runs[0] else "the stage before"
        trained(text_task(stage.recipe, text, tokenizer, vae, pictures, device, start), run, device)
        text = load_checkpoint(run / MODEL).network.requires_grad_(True)
    title = f"text to image: scenes at {SIZE}×{SIZE}, in latents"
    told = [{**each.recipe.to_json(), "style": each.style, "form": each.form} for each in stages]
    made_of = {"scenes-vae": zoo.card("scenes-vae", folder)["sha256"]}
    _store_pipeline(runs, name, folder, device, title, {"stages": told, "made_of": made_of}, prompts_met)


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
        split: {"n": n, **{what: _share(each) for what, each in captions_met(pictures, texts).items()}}
        for split, texts, pictures in drawn(model, n, **how)
    }


# Inpainting ----------------------------------------------------------------------------------------


def build_inpaint(name: str, folder: Path, recipe: Recipe = INPAINT, n: int = ROWS) -> None:
    """Train `scenes-inpaint` from `scenes-text`: five channels more, of what is to be kept."""
    device, run = choose_device(), RUNS / name
    start = zoo.load("scenes-text", folder)
    assert start.vae is not None and start.tokenizer is not None
    dataset = latents_of(start.vae, rows(n, start.tokenizer, holes=True), recipe.seed, device)
    network = widened(start.network, known=1 + start.vae.config.latent_channels)
    network.text.requires_grad_(False)
    start.vae.cpu()
    trained(
        TextToImage(recipe, dataset, network, start.tokenizer, start.vae, start="scenes-text"), run, device
    )
    made_of = {"scenes-text": zoo.card("scenes-text", folder)["sha256"]}
    title = f"inpainting: scenes at {SIZE}×{SIZE}, in latents, told a caption"
    _store_pipeline([run], name, folder, device, title, {**recipe.to_json(), "made_of": made_of}, holes_met)


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
    return {"n": len(texts), **{what: _share(each) for what, each in met.items()}}


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


# Cards ---------------------------------------------------------------------------------------------


def _store_pipeline(
    runs: Sequence[Path], name: str, folder: Path, device: torch.device, title: str, recipe: Any, measure: Any
) -> None:
    """Store what the last run learnt; the card tells of all."""
    file = folder / f"{name}.safetensors"
    save_checkpoint(file, load_checkpoint(runs[-1] / MODEL), dtype=torch.float16)
    model, each = load_checkpoint(file), [facts_of(run) for run in runs]
    facts = {
        "kind": "diffusion",
        "title": title,
        "classes": [],
        "recipe": recipe,
        "training": each[-1] | {key: sum(run[key] for run in each) for key in ("steps", "images", "seconds")},
        "metrics": {"sampling": {"sampler": "ddim", **model.sampling}, **measure(model, device, EVALUATED)},
    }
    figures = [{"stage": i, **row} for i, run in enumerate(runs, 1) for row in logged(run / LOG)]
    if figures:
        facts["wrong_captions"] = figures
    _write(name, folder, facts, model.network, device)


def _write(name: str, folder: Path, facts: dict[str, Any], network: nn.Module, device: torch.device) -> None:
    facts["parameters"] = sum(p.numel() for p in network.parameters())
    facts["data"] = {"name": "scenes", "rows": ROWS, "licence": "rendered by this package, MIT"}
    write_card(name, folder, facts, device)
    print(f"{name}: {facts['metrics']}, {(folder / f'{name}.safetensors').stat().st_size:,} bytes")


def _share(share: tuple[float, tuple[float, float]]) -> list[float]:
    """[share, lower end, upper end] of its 95 % interval, to four digits."""
    return [round(each, 4) for each in (share[0], *share[1])]
