"""The command line: train · sample · evaluate · experiment · lab · check · release · grade · zoo.

Every command says what is wrong in one line and exits with 2; no traceback reaches the user. With
--json the last line on standard output is one JSON object; progress goes to standard error.
"""

import json as json_module
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from tyro.conf import OmitArgPrefixes, Positional, arg

from diffusion_lessons.checkpoint import Checkpoint, load_checkpoint
from diffusion_lessons.experiments import MODULES as EXPERIMENTS
from diffusion_lessons.support.errors import unknown
from diffusion_lessons.support.files import writable
from diffusion_lessons.training.recipe import Recipe

Json = Annotated[bool, arg(help="end with one line of JSON on standard output")]
Device = Annotated[str | None, arg(help="cpu, cuda, mps; a GPU where there is one if left out")]
Model = Annotated[str, arg(help="a file, the folder of a training run, or a zoo name")]
Sampler = Annotated[str, arg(help="ddim, ddpm, heun or dpmpp-2m")]
Steps = Annotated[int | None, arg(help="25, or what a model was distilled for, if left out")]
Guidance = Annotated[float | None, arg(help="1 is plain conditional; 2, or 1 if distilled, if left out")]
Spacing = Annotated[str, arg(help="trailing, leading or linspace")]
Precision = Annotated[str, arg(help="auto (bf16 where the hardware has it) or float32")]


def open_model(name: str) -> Checkpoint:
    """A checkpoint by file, by the folder of a training run, or by its name in the zoo.

    Raises:
        ValueError: nothing of that name, or not a diffusion model; says what there is.
    """
    from diffusion_lessons import zoo

    file = Path(name)
    if file.is_dir():
        file = file / "model.safetensors"
    if file.exists() or file.suffix == ".safetensors":
        return load_checkpoint(file)
    models = [entry for entry in zoo.names() if zoo.card(entry)["kind"] == "diffusion"]
    if name not in models:
        known = ", ".join(models) or "none yet"
        raise ValueError(
            f"no checkpoint {name!r}: expected a file, a folder of a training run, or a zoo model ({known})"
        )
    return zoo.load(name)


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

    recipe = replace(recipe, data=data)
    writable(out)
    result = run(recipe, load_dataset(data, "train", recipe.size), out, resume=resume, device=device)
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
    import time

    from diffusion_lessons.generate import generate, labels_for, save_samples, save_trajectory

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
    seed: int = 0,
    device: Device = None,
    json: Json = False,
) -> None:
    """Measure a model's samples: Fréchet and kernel distance, precision, recall, accuracy."""
    from diffusion_lessons.generate import generate, labels_for
    from diffusion_lessons.metrics import evaluate as measure

    model = open_model(checkpoint)
    labels = labels_for(model, n)
    how = _settings(model, sampler, steps, guidance) | {"spacing": spacing, "precision": precision}
    pictures = generate(model, labels, seed=seed, n=n, device=device, progress=True, **how)
    result = measure(pictures, labels, model.recipe["data"])
    rows = "\n".join(
        f"  {name:10} {entry['value']:9.4f} ± {entry['uncertainty']:.4f}"
        for name, entry in result.items()
        if isinstance(entry, dict) and "value" in entry
    )
    report(json, {"checkpoint": checkpoint, "seed": seed, **how, **result}, f"n = {n}\n{rows}", [])


def experiment(
    name: Annotated[Positional[str], arg(help=", ".join(EXPERIMENTS))],
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


def lab(
    folder: Annotated[
        Positional[Path], arg(help="what you work in; nothing there is ever overwritten")
    ] = Path("work"),
    port: Annotated[int | None, arg(help="the first free one from 8888 on if left out")] = None,
    browser: Annotated[bool, arg(help="open a browser")] = True,
) -> None:
    """Copy the lessons into a folder of your own and open JupyterLab there."""
    from diffusion_lessons.course.student.lab import lab as open_lab

    sys.exit(open_lab(folder, browser, port))


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


def check(
    notebook: Annotated[Positional[Path], arg(help="your notebook, NN_….ipynb")],
    seed: Annotated[
        int | None, arg(help="of the cases; your class's, or those of the lesson if left out")
    ] = None,
    json: Json = False,
) -> None:
    """Check a notebook as the grader will; exits with 0 only where every exercise passes."""
    from diffusion_lessons.course.grading.check import check as run

    checked = run(notebook, seed)
    rows = [row.to_json() for row in checked.rows]
    report(json, {"lesson": checked.lesson, "passed": checked.passed, "exercises": rows}, checked.words(), [])
    if not checked.passed:
        sys.exit(1)


def release(
    lessons: Annotated[Positional[tuple[str, ...]], arg(help="two digits each: 01 02 03")],
    out: Annotated[Path, arg(help="the archive, or with --nbgrader nbgrader's course folder")] = Path(
        "course.zip"
    ),
    seed: Annotated[int | None, arg(help="of cases that the published lessons do not show")] = None,
    wheel: Annotated[Path | None, arg(help="of this package, where it has no public repository")] = None,
    nbgrader: Annotated[bool, arg(help="write nbgrader's source notebooks instead")] = False,
    points: Annotated[Path | None, arg(help="points.toml; with --nbgrader")] = None,
    json: Json = False,
) -> None:
    """Put student notebooks, install lines and the class's seed into one archive."""
    from diffusion_lessons.course.grading import nbgrader as export
    from diffusion_lessons.course.grading import release as releasing
    from diffusion_lessons.course.grading.results import points as pointing

    if nbgrader:
        files = export.export(lessons, out, pointing.load(points), seed)
        report(json, {"files": [str(file) for file in files]}, f"{len(files)} source notebooks", files)
        return
    names = releasing.release(lessons, out, seed, wheel)
    report(
        json, {"out": str(out), "files": names, "seed": seed}, "\n".join(f"  {name}" for name in names), [out]
    )


def grade(
    folders: Annotated[
        Positional[tuple[Path, ...]], arg(help="what was handed in: folders, zips, notebooks")
    ],
    out: Annotated[Path, arg(help="folder for grades.csv, grades.json, report.html and feedback/")] = Path(
        "report"
    ),
    jobs: Annotated[int, arg(help="submissions at a time")] = 2,
    points: Annotated[Path | None, arg(help="points.toml; one point an exercise if left out")] = None,
    timeout: Annotated[float, arg(help="seconds for one exercise of one submission")] = 120.0,
    memory: Annotated[str, arg(help="for one submission: 4G, 500M")] = "4G",
    seed: Annotated[int, arg(help="of the cases; 0 is what the lessons show")] = 0,
    lesson: Annotated[str | None, arg(help="two digits: give notebooks of other lessons no marks")] = None,
    again: Annotated[tuple[str, ...], arg(help='mark anew: "timeouts", a student, a part of a path')] = (),
    json: Json = False,
) -> None:
    """Grade a class: run what was handed in, judge it, write a report. Goes on where it was stopped."""
    from diffusion_lessons.course.grading.command import run

    facts, words, files = run(
        folders, out, jobs, points, timeout, memory, seed, lesson, again, bar=sys.stderr.isatty() or not json
    )
    report(json, facts, words, files)


def report(json: bool, facts: dict[str, Any], words: str, files: Sequence[Path]) -> None:
    """The end of a command: words and paths for people, or one line for programs."""
    if json:
        print(json_module.dumps(facts))
        return
    print(words)
    for file in files:
        print(f"  {file}")


COMMANDS: dict[str, Callable[..., None]] = {
    "train": train,
    "sample": sample,
    "evaluate": evaluate,
    "experiment": experiment,
    "lab": lab,
    "check": check,
    "release": release,
    "grade": grade,
    "zoo": zoo,
}


def main(args: Sequence[str] | None = None) -> None:
    """Run one command. Exit codes: 0 done, 2 bad input, 130 stopped by Ctrl-C."""
    guarded(
        lambda: tyro.extras.subcommand_cli_from_dict(
            COMMANDS, prog="diffusion-lessons", description=__doc__.split("\n\n")[0], args=args
        )
    )


def guarded(command: Callable[[], object]) -> None:
    """Run a command; what goes wrong for a reason that a user can mend becomes one line and exit code 2.

    Warnings are one line too.
    """
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)
            command()
    except (MemoryError, torch.OutOfMemoryError):
        print("error: out of memory: try a smaller batch, size or n, or --device cpu", file=sys.stderr)
        sys.exit(2)
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as stop:
        print(f"\n{stop or 'stopped'}", file=sys.stderr)
        sys.exit(130)
