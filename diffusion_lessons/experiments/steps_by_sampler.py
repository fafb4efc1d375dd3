"""Quality over evaluations of the network: ancestral, DDIM, DPM-Solver++(2M), distilled (lesson 07).

What is counted is what the network was asked: a guided step shows it every picture twice. The students
need no guidance.
"""

from typing import Any

from diffusion_lessons import zoo
from diffusion_lessons.experiments import Experiment, Row
from diffusion_lessons.experiments.pictures import generated, headline
from diffusion_lessons.metrics.cost import count_evaluations

STEPS = (1, 2, 4, 8, 16, 32, 64)
STUDENTS = {1: "1-step", 2: "2-steps", 4: "4-steps"}  # steps -> end of the student's name
GUIDANCE = 2.0  # of the teacher


def settings(options: Row) -> list[Row]:
    students = [{"sampler": "distilled", "steps": steps} for steps in STUDENTS]
    samplers = [{"sampler": name, "steps": n} for n in STEPS for name in ("ddpm", "ddim", "dpmpp-2m")]
    return students + samplers


def prepare(options: Row) -> Any:
    """The teacher by the name "", and each student by its number of steps."""
    students = {steps: zoo.open_model(f"{options['model']}-{end}") for steps, end in STUDENTS.items()}
    return {"": zoo.open_model(options["model"]), **students}


def measure(models: Any, row: Row, options: Row) -> Row:
    """Sample with the row's settings; labels, seed and starting noise are the same in every row."""
    distilled = row["sampler"] == "distilled"
    model = models[row["steps"] if distilled else ""]
    how = {**row, "sampler": "ddim", "guidance": 1.0} if distilled else {**row, "guidance": GUIDANCE}
    with count_evaluations(model.network) as count:
        figures = generated(model, options, **how)
    return {
        "evaluations": count.pictures / options["n"],
        "guidance": how["guidance"],
        **headline(figures),
        "precision": figures["precision"],
        "recall": figures["recall"],
        "accuracy_uncertainty": figures["accuracy_error"],
    }


COLUMNS = "sampler steps evaluations frechet uncertainty accuracy recall seconds"
EXPERIMENT = Experiment(__name__, __doc__, COLUMNS, settings, prepare, measure)
