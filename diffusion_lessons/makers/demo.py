"""`make demo`: train on real handwritten digits for a minute, draw them, measure them."""

import argparse
from pathlib import Path

import torch

from diffusion_lessons import zoo
from diffusion_lessons.checkpoint import load_checkpoint
from diffusion_lessons.data import load_dataset
from diffusion_lessons.generate import generate, labels_for, save_trajectory
from diffusion_lessons.metrics import evaluate
from diffusion_lessons.pictures import grid, save_loss, save_png
from diffusion_lessons.support.console import guarded
from diffusion_lessons.support.files import writable
from diffusion_lessons.support.machine import choose_device, hardware, keep_freed_memory
from diffusion_lessons.training.loop import train
from diffusion_lessons.training.recipe import Recipe
from diffusion_lessons.training.run_folder import METRICS, MODEL, STATE, write_metrics
from diffusion_lessons.training.tasks import Denoising

SAMPLES = 500  # pictures that are measured
SEED = 0  # of training and sampling


def demo(out: Path, minutes: float = 1.0) -> None:
    """Train for so many minutes, sample and measure.

    Writes samples.png, trajectory.gif, loss.png, the model and metrics.json into a folder; what an earlier
    demo left there is replaced.
    """
    writable(out)
    for name in (MODEL, STATE, METRICS):
        (out / name).unlink(missing_ok=True)
    device = choose_device()
    here = hardware(device)
    print(
        f"training on scikit-learn's handwritten digits, {minutes:g} min on "
        f"{here.get('gpu') or here['processor']} ({torch.get_num_threads()} threads)"
    )
    task = Denoising(Recipe("digits", minutes=minutes, seed=SEED), load_dataset("digits"))
    run = train(task, out, device=device)

    model = load_checkpoint(out / MODEL)
    labels = labels_for(model, SAMPLES)
    assert labels is not None  # digits have classes
    save_png(grid(generate(model, labels[:80], seed=SEED, device=device), columns=10), out / "samples.png")
    save_trajectory(model, labels[:20], 20, out / "trajectory.gif", seed=SEED, device=device)
    save_loss(run["curve"]["step"], run["curve"]["loss"], out / "loss.png", "Training on digits")

    pictures = generate(model, labels, seed=SEED + 1, device=device, progress=True)
    measured = evaluate(pictures, labels, zoo.yardstick("digits"))
    metrics = {key: run[key] for key in ("steps", "images_per_second", "loss")}
    metrics |= {name: measured[name]["value"] for name in ("frechet", "accuracy")}
    metrics |= {name: run[name] for name in ("seconds", "seed", "device", "versions")}
    write_metrics(out / METRICS, metrics)
    rows = {
        "training steps": f"{metrics['steps']}",
        "images per second": f"{metrics['images_per_second']:.0f}",
        "loss": f"{metrics['loss']:.4f}",
        "wanted digit recognised": f"{metrics['accuracy']:.1%} of {SAMPLES}",
        "Fréchet distance": f"{metrics['frechet']:.2f} (n = {SAMPLES})",
    }
    for name, value in rows.items():
        print(f"  {name:<24} {value}")
    for name in ("samples.png", "trajectory.gif", "loss.png", MODEL, METRICS):
        print(f"  {out / name}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/demo"))
    parser.add_argument("--minutes", type=float, default=1.0)
    options = parser.parse_args()
    keep_freed_memory()
    guarded(lambda: demo(options.out, options.minutes))


if __name__ == "__main__":
    main()
