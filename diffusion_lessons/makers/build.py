"""Make the bundled weights and their cards anew: `python -m diffusion_lessons.makers NAME`."""

import argparse
from functools import partial
from pathlib import Path

from diffusion_lessons.makers.classifiers import ClassifierRecipe
from diffusion_lessons.makers.diffusion import RUNS, build_diffusion, build_student
from diffusion_lessons.makers.measuring import build_classifier
from diffusion_lessons.makers.scenes.clip import build_clip
from diffusion_lessons.makers.scenes.inpaint import build_inpaint
from diffusion_lessons.makers.scenes.text import build_text
from diffusion_lessons.makers.scenes.vae import build_vae
from diffusion_lessons.makers.scenes.video import build_video
from diffusion_lessons.support.console import guarded
from diffusion_lessons.support.errors import unknown
from diffusion_lessons.support.files import writable
from diffusion_lessons.support.machine import keep_freed_memory
from diffusion_lessons.training.loop import TrainingInterrupted
from diffusion_lessons.training.recipe import Recipe
from diffusion_lessons.zoo import FOLDER

NOISY_MNIST = ClassifierRecipe("mnist", epochs=5, patch=2, path="cosine", batch=64, lr=2e-3)
BUILDERS: dict[str, partial[None]] = {
    "digits-classifier": partial(build_classifier, ClassifierRecipe("digits", epochs=100)),
    "mnist-classifier": partial(build_classifier, ClassifierRecipe("mnist", epochs=5, patch=2)),
    "mnist-noisy-classifier": partial(build_classifier, NOISY_MNIST),
    "mnist-unet": partial(build_diffusion, Recipe(data="mnist", steps=8000)),
    "mnist-unet-4-steps": partial(build_student, 4),
    "mnist-unet-2-steps": partial(build_student, 2),
    "mnist-unet-1-step": partial(build_student, 1),
    "scenes-vae": partial(build_vae),
    "scenes-clip": partial(build_clip),
    "scenes-text": partial(build_text),
    "scenes-inpaint": partial(build_inpaint),
    "scenes-video": partial(build_video),
}


def build(names: list[str], folder: Path = FOLDER, seed: int | None = None) -> None:
    """Make each of the named models; a diffusion model that was stopped goes on where it was.

    What a model is made of comes from the folder, or from the bundled shelf where the folder lacks it. With
    another seed a diffusion model is trained and measured again: the figures go onto its card. An unknown
    name and a folder that cannot be written, both said before anything is made, are a ValueError.
    """
    for name in names:
        if name not in BUILDERS:
            raise unknown("zoo model", name, BUILDERS)
        if seed is not None and BUILDERS[name].func not in (build_diffusion, build_student):
            raise ValueError(f"{name} is no diffusion model of digits: only those take another seed")
    how = {} if seed is None else {"seed": seed}
    writable(folder)
    try:
        for name in names:
            BUILDERS[name](name, folder, **how)
    except TrainingInterrupted as stop:
        raise KeyboardInterrupt(
            f"stopped; of a diffusion model the run is kept in {RUNS}, and the same command goes on with it"
        ) from stop


def main(args: list[str] | None = None) -> None:
    """Build the named models. Exit codes: 0 done, 2 bad input, 130 stopped."""
    parser = argparse.ArgumentParser(prog="python -m diffusion_lessons.makers", description=__doc__)
    parser.add_argument("names", nargs="+", metavar="NAME", help=", ".join(BUILDERS))
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder to write to (the package's own)")
    parser.add_argument("--seed", type=int, help="train with another seed, and add its figures to the card")
    given = parser.parse_args(args)
    keep_freed_memory()
    guarded(lambda: build(given.names, given.out, given.seed))
