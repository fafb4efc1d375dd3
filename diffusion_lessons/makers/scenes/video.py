"""`scenes-video`: `scenes-text` with layers over time, which alone have learnt."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from diffusion_lessons import zoo
from diffusion_lessons.data.clips import clip_rows
from diffusion_lessons.filming import clips_measured
from diffusion_lessons.makers.diffusion import RUNS, trained
from diffusion_lessons.makers.scenes.shared import SIZE, rounded_share
from diffusion_lessons.makers.scenes.text import RECIPE as TEXT
from diffusion_lessons.makers.scenes.text import store_pipeline
from diffusion_lessons.networks.video import inflate
from diffusion_lessons.support.machine import choose_device, cores
from diffusion_lessons.support.seeds import layers_seeded
from diffusion_lessons.training.recipe import Recipe
from diffusion_lessons.training.text_to_video import TextToVideo, WrongMotions, clip_latents

ROWS = 2**11  # clips to learn from
EVALUATED = 50  # clips of each kind that it is measured on
PROBED = 24  # clips on which wrong motions are tried
# Motion is a matter of neighbours: the first convolution sees them, and the text says which of them to take.
# The loss falls at once, for what is learnt first is the mean over all directions; which of them is learnt
# after some 250 steps. (Not gated, where the text reaches attention alone, it began as early: the measure
# "frame 2 at 950" was 0.037 at step 293, one seed; that was not trained to the end.)
SHAPE: dict[str, Any] = {"reach": 3, "convolutions": 2, "gated": True}
RECIPE = replace(
    TEXT, data="clips", steps=1200, batch=8, lr=2e-3, warmup=50, ema_decay=0.99, checkpoint_every=150.0
)


def build_video(
    name: str, folder: Path, recipe: Recipe = RECIPE, n: int = ROWS, evaluated: int = EVALUATED
) -> None:
    """Train `scenes-video`; its card tells how often a clip moves as its caption says."""
    device, run, shelf = choose_device(), RUNS / name, zoo.shelf_of("scenes-text", folder)
    trained(lambda: video_task(recipe, shelf, n, device), run, device)
    made_of = {"scenes-text": zoo.card("scenes-text", shelf)["sha256"]}
    title = f"text to video: clips of scenes at {SIZE}×{SIZE}, in latents, frame by frame"
    told = {**recipe.to_json(), "made_of": made_of}
    store_pipeline([run], name, folder, device, title, told, motions_met, evaluated, n)


def video_task(recipe: Recipe, folder: Path, n: int, device: torch.device) -> TextToVideo:
    """What there is to learn: the layers over time of `scenes-text`, from latents of n clips."""
    start = zoo.load("scenes-text", folder)
    vae, tokenizer = start.vae, start.tokenizer
    assert vae is not None and tokenizer is not None
    clips = clip_rows(tokenizer, SIZE, seed=recipe.seed).kept(n, workers=cores() - 1)
    dataset = clip_latents(vae, clips, recipe.seed, device)
    vae.cpu()
    with layers_seeded(recipe.seed):
        network = inflate(start.network, **SHAPE)
    probe = WrongMotions(vae, tokenizer, PROBED)
    return TextToVideo(recipe, dataset, network, tokenizer, vae, probe=probe, start="scenes-text")


def motions_met(model: Any, device: torch.device, n: int) -> dict[str, Any]:
    """What n clips meet of their captions, by how frames were drawn; those behind a first one unguided."""
    measured = clips_measured(model, n, device=device, guidance=1.0)
    behind = {kind: {"guidance_behind": 1.0} for kind in ("from the caption", "from a first frame")}
    return {
        kind: {
            "n": n,
            **behind.get(kind, {}),
            **{what: rounded_share(each) for what, each in met.items() if each[0] == each[0]},
        }
        for kind, met in measured.items()
    }  # what no clip shows is NaN, which is no JSON
