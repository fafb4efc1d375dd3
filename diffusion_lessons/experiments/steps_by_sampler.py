"""Quality over evaluations of the network: ancestral, DDIM, DPM-Solver++(2M), distilled (lesson 07).

The teacher runs at two scales of guidance. What is counted is what the network was asked: at scale 2 it sees
every picture twice in a step, at scale 1 once, and so does each student. Real digits of the training split
are measured in the same way: no sampler can be expected to come closer to the test split.
"""

from typing import Any

from diffusion_lessons import zoo
from diffusion_lessons.experiments import Experiment, Row
from diffusion_lessons.experiments.pictures import STUDENTS, generated, headline, opened, real
from diffusion_lessons.metrics.cost import count_evaluations

STEPS = (1, 2, 4, 8, 16, 32, 64)
GUIDANCE = (1.0, 2.0)  # of the teacher; its students were taught at the first


def settings(options: Row) -> list[Row]:
    students = [{"sampler": "distilled", "steps": steps, "guidance": GUIDANCE[0]} for steps in STUDENTS]
    samplers = [
        {"sampler": name, "steps": n, "guidance": guidance}
        for guidance in GUIDANCE
        for n in STEPS
        for name in ("ddpm", "ddim", "dpmpp-2m")
    ]
    return [{"sampler": "real", "steps": 0, "guidance": GUIDANCE[0]}, *students, *samplers]


def prepare(options: Row) -> Any:
    """The teacher by the name "", and each student by its number of steps."""
    students = {steps: zoo.open_model(f"{options['model']}-{end}") for steps, end in STUDENTS.items()}
    return {"": opened(options["model"]), **students}


def measure(models: Any, row: Row, options: Row) -> Row:
    """Sample with the row's settings; labels, seed and starting noise are the same in every row."""
    distilled = row["sampler"] == "distilled"
    model = models[row["steps"] if distilled else ""]
    how = {**row, "sampler": "ddim"} if distilled else row
    with count_evaluations(model.network) as count:
        figures = real(model.data, options) if row["sampler"] == "real" else generated(model, options, **how)
    return {
        "evaluations": count.pictures / options["n"],
        **headline(figures),
        "precision": figures["precision"],
        "recall": figures["recall"],
        "accuracy_uncertainty": figures["accuracy_error"],
    }


COLUMNS = "sampler guidance steps evaluations frechet uncertainty precision recall accuracy seconds"
EXPERIMENT = Experiment(__name__, __doc__, COLUMNS, settings, prepare, measure)
