"""Students of a bundled model: from 64 guided steps to 4, 2 and 1, each the teacher of the next."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from diffusion_lessons import zoo
from diffusion_lessons.checkpoint import Checkpoint, load_checkpoint
from diffusion_lessons.data import Dataset, load_dataset
from diffusion_lessons.makers.diffusion import RUNS, store, trained
from diffusion_lessons.support.machine import choose_device
from diffusion_lessons.training.distillation import Distillation
from diffusion_lessons.training.loop import train
from diffusion_lessons.training.recipe import Recipe
from diffusion_lessons.training.run_folder import METRICS, MODEL, STATE

STAGES = {32: 700, 16: 500, 8: 700, 4: 1500, 2: 2000, 1: 2600}  # steps of the student -> of its training


@dataclass(frozen=True)
class ChainRecipe:
    """How students are trained, one stage after the other.

    Args:
        teacher: bundled model that the first student learns from.
        guidance: at which that teacher is asked; students need none.
        stages: (sampling steps of the student, steps of its training), each with half the steps of the
            one before.
        lr: peak learning rate of each stage; it falls linearly to 0.
        weight: of the loss.
        seed: of the order of the pictures, times and noise.
    """

    teacher: str = "mnist-unet"
    guidance: float = 2.0
    stages: tuple[tuple[int, int], ...] = tuple(STAGES.items())
    lr: float = 1e-3
    weight: str = "truncated-snr"
    seed: int = 0

    def stage(self, training_steps: int, teacher: Checkpoint) -> Recipe:
        """The recipe of a stage: the teacher's own network, path and target, with another weight."""
        return replace(
            Recipe.from_json(dict(teacher.recipe)),
            steps=training_steps,
            lr=self.lr,
            decay="linear",
            weight=self.weight,
            class_dropout=0.0,
            precision="float32",
            seed=self.seed,
        )


def train_chain(
    chain: ChainRecipe, steps: int, dataset: Dataset, runs: Path, device: torch.device | str
) -> Path:
    """Train the students down to `steps`, each in a folder of `runs`; finished ones are kept.

    Returns:
        The folder of the student of `steps` steps.
    """
    teacher, guidance = zoo.load(chain.teacher), chain.guidance
    for student_steps, training_steps in chain.stages:
        run = runs / str(student_steps)
        if not (run / METRICS).exists():
            train(
                chain.stage(training_steps, teacher),
                dataset,
                run,
                resume=(run / STATE).exists(),
                device=device,
                distillation=Distillation(teacher, student_steps, guidance),
            )
        if student_steps == steps:
            return run
        teacher, guidance = load_checkpoint(run / MODEL), 1.0
    raise ValueError(f"no student of {steps} steps in this chain: it has {[s for s, _ in chain.stages]}")


def build_student(steps: int, name: str, folder: Path, chain: ChainRecipe = ChainRecipe()) -> None:
    """Train the student of `steps` steps and store it. All students share one chain, kept in `RUNS`."""
    device = choose_device()
    data = str(zoo.load(chain.teacher).recipe["data"])
    dataset, runs = load_dataset(data, "train"), RUNS / f"{chain.teacher}-students"
    run = train_chain(chain, steps, dataset, runs, device)
    stages = [stage for stage in chain.stages if stage[0] >= steps]
    recipe = asdict(chain) | {"stages": stages, "teacher_sha256": zoo.card(chain.teacher)["sha256"]}
    each = [trained(runs / str(student)) for student, _ in stages]
    sums = {key: sum(stage[key] for stage in each) for key in ("steps", "images", "seconds")}
    title = f"{chain.teacher} distilled: {data} in {steps} {'step' if steps == 1 else 'steps'}, unguided"
    store(run, name, folder, dataset, title, recipe, each[-1] | sums, device)
