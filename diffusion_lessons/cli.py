"""The commands of the system: train · sample · evaluate · experiment · zoo; `__main__` adds the course's."""

import json as json_module
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
from tyro.conf import OmitArgPrefixes, Positional, arg

from diffusion_lessons.checkpoint import Checkpoint
from diffusion_lessons.experiments import names as experiment_names
from diffusion_lessons.support.console import Device, Json, report
from diffusion_lessons.support.errors import unknown
from diffusion_lessons.support.files import writable
from diffusion_lessons.training.recipe import Recipe

Model = Annotated[str, arg(help="a file, the folder of a training run, or a zoo name")]
Sampler = Annotated[str, arg(help="ddim, ddpm, heun or dpmpp-2m")]
Steps = Annotated[int | None, arg(help="25, or what a model was distilled for, if left out")]
Guidance = Annotated[float | None, arg(help="1 is plain conditional; 2, or 1 if distilled, if left out")]
Spacing = Annotated[str, arg(help="trailing, leading or linspace")]
Precision = Annotated[str, arg(help="auto (bf16 where the hardware has it) or float32")]


def train(
    data: Annotated[Positional[str], arg(help="digits, mnist, fashion_mnist, cifar10 or folder:PATH")],
    recipe: OmitArgPrefixes[Recipe],
    out: Annotated[Path, arg(help="folder for model.safetensors, metrics.json and what --resume needs")],
    resume: Annotated[bool, arg(help="go on where the run in --out stopped")] = False,
    device: Device = None,
    json: Json = False,
) -> None:
    """Train a class-conditional diffusion model."""
    from diffusion_lessons.data import load_dataset
    from diffusion_lessons.training.loop import train as run
    from diffusion_lessons.training.tasks import Denoising

    recipe = replace(recipe, data=data)
    writable(out)
    task = Denoising(recipe, load_dataset(data, "train", recipe.size))
    result = run(task, out, resume=resume, device=device)
    report(
        json,
        {"checkpoint": str(out / "model.safetensors"), **result},
        f"{result['steps']} steps, {result['images_per_second']:.0f} images/s, loss {result['loss']:.4f}",
        [out / "model.safetensors", out / "metrics.json"],
    )


def sample(
    checkpoint: Positional[Model],
    sampler: Sampler = "ddim",
    steps: Steps = None,
    guidance: Guidance = None,
    label: Annotated[str | None, arg(help="class number or name; all in turn if left out")] = None,
    n: Annotated[int, arg(help="number of pictures")] = 64,
    spacing: Spacing = "trailing",
    precision: Precision = "auto",
    seed: Annotated[int, arg(help="same seed, same machine, same pictures")] = 0,
    out: Annotated[Path, arg(help=".png grid, .gif of the trajectory, or .npz with x and y")] = Path(
        "samples.png"
    ),
    device: Device = None,
    json: Json = False,
) -> None:
    """Draw pictures from a trained model."""
    from diffusion_lessons.generate import generate, labels_for, save_samples, save_trajectory
    from diffusion_lessons.zoo import open_model

    if out.suffix not in (".png", ".gif", ".npz"):
        raise unknown("kind of output", out.suffix, (".png", ".gif", ".npz"))
    model = open_model(checkpoint)
    labels = labels_for(model, n, label)
    writable(out.parent)
    how = _settings(model, sampler, steps, guidance) | {"spacing": spacing, "precision": precision}
    started = time.perf_counter()
    if out.suffix == ".gif":
        save_trajectory(model, labels, n, out, seed=seed, device=device, **how)
    else:
        pictures = generate(model, labels, n, seed=seed, device=device, progress=True, **how)
        save_samples(pictures, labels, out)
    seconds = time.perf_counter() - started
    facts = {"out": str(out), "n": n, "seed": seed, "label": label, **how, "seconds": round(seconds, 3)}
    report(json, {**facts, "torch": torch.__version__}, f"{n} pictures in {seconds:.1f} s", [out])


def _settings(model: Checkpoint, sampler: str, steps: int | None, guidance: float | None) -> dict[str, Any]:
    """What a model is sampled with: what was asked for, and its own where nothing was."""
    asked = {"steps": steps, "guidance": guidance}
    return {"sampler": sampler, **model.sampling} | {k: v for k, v in asked.items() if v is not None}


def evaluate(
    checkpoint: Positional[Model],
    n: Annotated[int, arg(help="number of samples to measure on")] = 1000,
    sampler: Sampler = "ddim",
    steps: Steps = None,
    guidance: Guidance = None,
    spacing: Spacing = "trailing",
    precision: Precision = "auto",
    data: Annotated[
        str | None, arg(help="data set to compare with; what it was trained on if left out")
    ] = None,
    yardstick: Annotated[
        str | None,
        arg(
            help="file or zoo name of a classifier to measure by; the bundled one, or one trained on the data"
        ),
    ] = None,
    seed: int = 0,
    device: Device = None,
    json: Json = False,
) -> None:
    """Measure a model's samples: Fréchet and kernel distance, precision, recall, accuracy."""
    from diffusion_lessons.generate import generate, labels_for
    from diffusion_lessons.makers.yardsticks import yardstick_for
    from diffusion_lessons.metrics import evaluate as measure
    from diffusion_lessons.zoo import open_model

    model = open_model(checkpoint)
    labels = labels_for(model, n)
    data = data or model.recipe.get("data")
    if data is None:
        raise ValueError(f"{checkpoint} does not say what it was trained on: name the data set with --data")
    measured_by = yardstick_for(data, model.shape[-1], yardstick)
    measured_by.check((n, *model.shape))
    how = _settings(model, sampler, steps, guidance) | {"spacing": spacing, "precision": precision}
    pictures = generate(model, labels, seed=seed, n=n, device=device, progress=True, **how)
    result = measure(pictures.clamp(-1, 1), labels, measured_by)
    rows = "\n".join(
        f"  {name:10} {entry['value']:9.4f} ± {entry['uncertainty']:.4f}"
        for name, entry in result.items()
        if isinstance(entry, dict) and "value" in entry
    )
    report(json, {"checkpoint": checkpoint, "seed": seed, **how, **result}, f"n = {n}\n{rows}", [])


def experiment(
    name: Annotated[Positional[str], arg(help=", ".join(experiment_names()))],
    model: Model = "mnist-unet",
    n: Annotated[int, arg(help="number of samples a row")] = 1000,
    seed: int = 0,
    out: Annotated[
        Path | None, arg(help="result file; out/NAME.json if left out. Gone on with where it exists")
    ] = None,
    device: Device = None,
    json: Json = False,
) -> None:
    """Run a long measurement; a stopped one goes on where it was."""
    from diffusion_lessons import experiments

    chosen = experiments.find(name)
    file = out or Path("out") / f"{name}.json"
    result = experiments.run(chosen, file, {"model": model, "n": n, "seed": seed, "device": device})
    report(json, result, experiments.table(chosen, result), [file])


def zoo(
    name: Annotated[Positional[str | None], arg(help="show one card; all names if left out")] = None,
    json: Json = False,
) -> None:
    """List the bundled weights, or show the card of one."""
    from diffusion_lessons import zoo as bundled

    if name is not None:
        print(json_module.dumps(bundled.card(name), indent=None if json else 2, ensure_ascii=False))
        return
    cards = {entry: bundled.card(entry) for entry in bundled.names()}
    report(json, cards, "\n".join(f"  {entry:22} {card['title']}" for entry, card in cards.items()), [])


COMMANDS: dict[str, Callable[..., None]] = {
    "train": train,
    "sample": sample,
    "evaluate": evaluate,
    "experiment": experiment,
    "zoo": zoo,
}
