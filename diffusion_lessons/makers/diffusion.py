"""How bundled diffusion models are trained, measured as they are stored, and described on their cards.

Students of a bundled model come from a chain, from 64 steps down to 4, 2 and 1: each is the teacher of the
next.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from diffusion_lessons import zoo
from diffusion_lessons.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from diffusion_lessons.data import Dataset, load_dataset
from diffusion_lessons.generate import generate, labels_for
from diffusion_lessons.makers.cards import data_facts, rounded, save_card, write_card
from diffusion_lessons.metrics import evaluate
from diffusion_lessons.support.machine import choose_device, hardware
from diffusion_lessons.training.distillation import Distillation
from diffusion_lessons.training.loop import train
from diffusion_lessons.training.recipe import Recipe
from diffusion_lessons.training.run_folder import METRICS, MODEL, STATE
from diffusion_lessons.training.tasks import Denoising, Task

RUNS = Path("out/zoo")  # of trainings, so that a build that was stopped goes on
EVALUATED = 1000  # pictures that a model is measured on
STAGES = {32: 700, 16: 500, 8: 700, 4: 1500, 2: 2000, 1: 2600}  # steps of the student -> of its training


def build_diffusion(recipe: Recipe, name: str, folder: Path, seed: int | None = None) -> None:
    """Train a diffusion model and store it, or `repeat` it with another seed; the run stays in `RUNS`."""
    if seed is not None:
        recipe = replace(recipe, seed=seed)
    device, run = choose_device(), _run_of(name, seed)
    dataset = load_dataset(recipe.data, "train", recipe.size)
    trained(lambda: Denoising(recipe, dataset), run, device)
    if seed is not None:
        return repeat(run, name, folder, seed, device, facts_of(run))
    title = f"class-conditional diffusion of {recipe.data} at {dataset.shape[1]}×{dataset.shape[2]}"
    told = {"recipe": recipe.to_json(), "training": facts_of(run)}
    return store(run, name, folder, dataset, device, title=title, **told)


@dataclass(frozen=True)
class ChainRecipe:
    """How students are trained, one stage after the other."""

    teacher: str = "mnist-unet"  # bundled model that the first student learns from
    guidance: float = 1.0  # at which that teacher is asked; students need none, whatever it is
    # (sampling steps of the student, steps of its training), each with half the steps of the one before
    stages: tuple[tuple[int, int], ...] = tuple(STAGES.items())
    lr: float = 1e-3  # peak learning rate of each stage; it falls linearly to 0
    weight: str = "truncated-snr"  # of the loss
    seed: int = 0  # of the order of the pictures, times and noise

    def stage(self, training_steps: int, teacher: Checkpoint) -> Recipe:
        """The recipe of a stage: the teacher's own network, path and target, with another weight."""
        own = Recipe.from_json(teacher.recipe)
        how: Any = {"lr": self.lr, "decay": "linear", "weight": self.weight, "precision": "float32"}
        return replace(own, steps=training_steps, class_dropout=0.0, seed=self.seed, **how)


def build_student(
    steps: int, name: str, folder: Path, seed: int | None = None, chain: ChainRecipe = ChainRecipe()
) -> None:
    """Train the student of `steps` steps and store it, or `repeat` it with another seed.

    All students of a seed share one chain, kept in `RUNS`.
    """
    if seed is not None:
        chain = replace(chain, seed=seed)
    device = choose_device()
    data = str(zoo.load(chain.teacher).recipe["data"])
    dataset, runs = load_dataset(data, "train"), _run_of(f"{chain.teacher}-students", seed)
    run = train_chain(chain, steps, dataset, runs, device)
    stages = [stage for stage in chain.stages if stage[0] >= steps]
    recipe = asdict(chain) | {"stages": stages, "teacher_sha256": zoo.card(chain.teacher)["sha256"]}
    training = facts_of(*(runs / str(student) for student, _ in stages))
    if seed is not None:
        return repeat(run, name, folder, seed, device, training)
    title = f"{chain.teacher} distilled: {data} in {steps} {'step' if steps == 1 else 'steps'}, unguided"
    return store(run, name, folder, dataset, device, title=title, recipe=recipe, training=training)


def train_chain(
    chain: ChainRecipe, steps: int, dataset: Dataset, runs: Path, device: torch.device | str
) -> Path:
    """The folder in `runs` of the student of `steps` steps; it is trained with all before it, once."""
    teacher, guidance = zoo.load(chain.teacher), chain.guidance
    for student_steps, training_steps in chain.stages:
        recipe, run = chain.stage(training_steps, teacher), runs / str(student_steps)
        task_of = partial(Distillation, recipe, dataset, teacher, student_steps, guidance)
        trained(task_of, run, device)
        if student_steps == steps:
            return run
        teacher, guidance = load_checkpoint(run / MODEL), 1.0
    raise ValueError(f"no student of {steps} steps in this chain: it has {[s for s, _ in chain.stages]}")


def trained(task_of: Callable[[], Task], run: Path, device: torch.device | str) -> None:
    """Train in a folder, unless that is done: then no task is made. What was stopped goes on."""
    if not (run / METRICS).exists():
        train(task_of(), run, resume=(run / STATE).exists(), device=device)


def facts_of(*runs: Path) -> dict[str, Any]:
    """What the card of a model tells of its training, run after run: sums, and how the last one ended."""
    each = [json.loads((run / METRICS).read_text()) for run in runs]
    sums = {key: sum(run[key] for run in each) for key in ("steps", "images", "seconds")}
    return sums | {key: each[-1][key] for key in ("loss", "mode")}


def store(run: Path, name: str, folder: Path, dataset: Dataset, device: torch.device, **told: Any) -> None:
    """Write NAME.safetensors in half precision and NAME.json from a finished run, and print its figures.

    The model is measured as it is stored, with the steps and the guidance that it asks for, and the seed of
    its recipe; `told` is what else its card says: title, recipe, training.
    """
    file = folder / f"{name}.safetensors"
    save_checkpoint(file, load_checkpoint(run / MODEL), dtype=torch.float16)
    model, seed = load_checkpoint(file), told["recipe"]["seed"]
    sampled = _sampled(model)
    measured = _measured(model, dataset.name, device, seed)
    parameters = sum(p.numel() for p in model.network.parameters())
    facts = {
        "kind": "diffusion",
        **told,
        "classes": list(model.classes),
        "network": {"parameters": parameters, "precision": "weights float16"},
        "data": data_facts({"train": dataset}),
        "metrics": {"n": EVALUATED, "sampling": sampled, "against": "test split", **measured},
    }
    write_card(name, folder, facts, device)
    print(f"{file}: {measured} (n = {EVALUATED}), {file.stat().st_size:,} bytes")


def repeat(
    run: Path, name: str, folder: Path, seed: int, device: torch.device, training: dict[str, Any]
) -> None:
    """Measure a training with another seed as the stored one was, and add that to the card.

    The weights on the shelf stay what they are.
    """
    told = zoo.card(name, folder)
    figures = _measured(load_checkpoint(run / MODEL), told["data"]["name"], device, told["recipe"]["seed"])
    where = {**hardware(device), "device": str(device)}
    told.setdefault("other_seeds", {})[str(seed)] = {**figures, "training": training, "hardware": where}
    save_card(name, folder, told)
    print(f"{name}, seed {seed}: {figures} (n = {EVALUATED})")


def _run_of(name: str, seed: int | None) -> Path:
    return RUNS / (name if seed is None else f"{name}-seed-{seed}")


def _sampled(model: Checkpoint) -> dict[str, Any]:
    """How a model is sampled to be measured: with the steps and the guidance that it asks for."""
    return {"sampler": "ddim", **model.sampling, "precision": "float32"}


def _measured(model: Checkpoint, data: str, device: torch.device, seed: int) -> dict[str, list[float]]:
    labels = labels_for(model, EVALUATED)
    pictures = generate(model, labels, seed=seed, device=device, progress=True, **_sampled(model))
    return rounded(evaluate(pictures, labels, zoo.yardstick(data)))
