"""Time to quality: the same minute of training for both, the same number of steps to sample."""

import json
import time
from pathlib import Path
from typing import Any

import torch

from diffusion_lessons import zoo
from diffusion_lessons.checkpoint import load_checkpoint
from diffusion_lessons.data import load_dataset, to_uint8
from diffusion_lessons.generate import generate, labels_for
from diffusion_lessons.metrics import evaluate
from diffusion_lessons.pictures import grid, save_png
from diffusion_lessons.support.machine import keep_freed_memory
from diffusion_lessons.training.loop import train
from diffusion_lessons.training.recipe import Recipe
from diffusion_lessons.training.tasks import Denoising

from .peers import Example, finite, sample
from .sizes import SIZES

N, STEPS, GUIDANCE = 500, 25, 2.0


def time_to_quality(seconds: float, device: torch.device, folder: Path, seed: int = 0) -> dict[str, Any]:
    """Train both on MNIST for so many seconds, draw 500 pictures in 25 steps, measure them.

    Ours is asked for each class in turn; theirs knows no classes, so it is measured without.

    Args:
        folder: for the checkpoint and a picture of the samples of each.
    """
    theirs = their_pictures(seconds, device, seed)  # first: ours has this process keep freed memory
    ours = our_pictures(seconds, device, folder, seed)
    result: dict[str, Any] = {"n": N, "steps": STEPS, "guidance": GUIDANCE, "seconds": seconds}
    result["ours"] = ours.pop("facts") | figures(
        evaluate(ours["pictures"], ours["labels"], zoo.yardstick("mnist"))
    )
    save_png(grid(ours["pictures"][:80], columns=10), folder / "ours.png")
    result["theirs"] = theirs.pop("facts")
    for sampler, pictures in theirs.items():
        result["theirs"][sampler] = figures(evaluate(pictures, None, zoo.yardstick("mnist")))
        save_png(grid(pictures[:80], columns=10), folder / f"theirs-{sampler}.png")
    best = min(result["theirs"][sampler]["frechet"][0] for sampler in theirs)
    result["accuracy"] = result["ours"]["accuracy"][0]
    result["frechet_ratio"] = best / result["ours"]["frechet"][0]
    return result


def our_pictures(seconds: float, device: torch.device, folder: Path, seed: int) -> dict[str, Any]:
    """A minute of `train`, as the command line runs it."""
    keep_freed_memory()
    run = folder / "ours"
    for name in ("model.safetensors", "state.safetensors", "metrics.json"):
        (run / name).unlink(missing_ok=True)
    recipe = Recipe(data="mnist", minutes=seconds / 60, seed=seed)
    metrics = train(Denoising(recipe, load_dataset("mnist")), run, device=device, progress=False)
    model = load_checkpoint(run / "model.safetensors")
    labels = labels_for(model, N)
    started = time.perf_counter()
    pictures = to_uint8(generate(model, labels, seed=seed, steps=STEPS, guidance=GUIDANCE, device=device))
    facts = {name: metrics[name] for name in ("steps", "images_per_second", "parameters", "mode")}
    facts |= {
        "recipe": json.loads(json.dumps(recipe.to_json())),
        "sampling_seconds": time.perf_counter() - started,
    }
    return {"pictures": pictures, "labels": labels, "facts": facts}


def their_pictures(seconds: float, device: torch.device, seed: int) -> dict[str, Any]:
    """A minute of diffusers' training example with its UNet2DModel of 1.1 M parameters."""
    torch.manual_seed(seed)
    network = SIZES["small"].unet_2d_model(channels=1).to(device).train()
    example = Example(network, load_dataset("mnist").images, device, seed=seed)
    started = time.perf_counter()
    while time.perf_counter() - started < seconds:
        example.step()
    assert finite(example.losses)
    parameters = sum(p.numel() for p in network.parameters())
    facts = {"steps": len(example.losses), "images_per_second": len(example.losses) * example.batch / seconds}
    pictures: dict[str, Any] = {"facts": facts | {"parameters": parameters}}
    example.ema.copy_to(network.parameters())
    for sampler in ("ddpm", "ddim"):
        generator = torch.Generator(device).manual_seed(seed)
        pictures[sampler] = sample(network.eval(), sampler, N, STEPS, generator)
    return pictures


def figures(result: dict[str, Any]) -> dict[str, list[float]]:
    """[value, uncertainty] of each measure."""
    return {
        name: [entry["value"], entry["uncertainty"]]
        for name, entry in result.items()
        if isinstance(entry, dict) and "value" in entry
    }
