"""How a bundled diffusion model is trained, measured as it is stored, and described on its card."""

import json
from pathlib import Path
from typing import Any

import torch

from diffusion_lessons.checkpoint import load_checkpoint, save_checkpoint
from diffusion_lessons.data import Dataset, load_dataset
from diffusion_lessons.generate import generate, labels_for
from diffusion_lessons.makers.cards import DATA_LICENCES, figures, provenance, write_card
from diffusion_lessons.metrics import evaluate
from diffusion_lessons.support.machine import choose_device
from diffusion_lessons.training.loop import train
from diffusion_lessons.training.recipe import Recipe
from diffusion_lessons.training.run_folder import METRICS, MODEL, STATE

RUNS = Path("out/zoo")  # of trainings, so that a build that was stopped goes on
EVALUATED = 1000  # pictures that a model is measured on


def build_diffusion(recipe: Recipe, name: str, folder: Path) -> None:
    """Train a diffusion model and store it; the run itself stays in `RUNS`."""
    device, run = choose_device(), RUNS / name
    dataset = load_dataset(recipe.data, "train", recipe.size)
    if not (run / METRICS).exists():
        train(recipe, dataset, run, resume=(run / STATE).exists(), device=device)
    title = f"class-conditional diffusion of {recipe.data} at {dataset.shape[1]}×{dataset.shape[2]}"
    store(run, name, folder, dataset, title, recipe.to_json(), trained(run), device)


def trained(run: Path) -> dict[str, Any]:
    """What the card of a model tells of its training run."""
    metrics = json.loads((run / METRICS).read_text())
    return {key: metrics[key] for key in ("steps", "images", "seconds", "loss", "mode")}


def store(
    run: Path,
    name: str,
    folder: Path,
    dataset: Dataset,
    title: str,
    recipe: dict[str, Any],
    training: dict[str, Any],
    device: torch.device,
) -> None:
    """Write NAME.safetensors in half precision and NAME.json from a finished run, and print its figures.

    The model is measured with the steps and the guidance that it asks for, and the seed of its recipe.
    """
    file = folder / f"{name}.safetensors"
    save_checkpoint(file, load_checkpoint(run / MODEL), dtype=torch.float16)

    model = load_checkpoint(file)  # what is measured is what was stored
    parameters = sum(p.numel() for p in model.network.parameters())
    labels = labels_for(model, EVALUATED)
    sampled = {"sampler": "ddim", **model.sampling, "precision": "float32"}
    pictures = generate(model, labels, seed=recipe["seed"], device=device, progress=True, **sampled)
    measured = figures(evaluate(pictures, labels, dataset.name))
    write_card(
        name,
        folder,
        {
            "kind": "diffusion",
            "title": title,
            "classes": list(model.classes),
            "network": {"parameters": parameters, "precision": "weights float16"},
            "data": {
                "name": dataset.name,
                "licence": DATA_LICENCES[dataset.name],
                "train": provenance(dataset),
            },
            "recipe": recipe,
            "metrics": {"n": EVALUATED, "sampling": sampled, "against": "test split", **measured},
            "training": training,
        },
        str(device),
    )
    print(f"{file}: {measured} (n = {EVALUATED}), {file.stat().st_size:,} bytes")
