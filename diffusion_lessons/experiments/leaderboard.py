"""Every kind of model and sampler of the course, measured by every metric, with two seeds (lesson 20).

The models of digits, all on MNIST, with n pictures each, all classes in turn: the bundled U-Net with its
samplers, steps and guidance, on its own path and, the same denoiser, as a flow on the straight one; guided by
a classifier; its students, real pictures of the training split, and cheats made of training pictures
(`metric_damages`). Their rows hold every figure of `evaluate` with one standard error over the draw of the
samples; the share of pictures that are nearer to one of 10,000 training pictures than to one of the 10,000
test pictures; and the margin of the first pictures: by how much the classifier's logit of the wanted class is
above the best of the others. A simulated voter chooses by it.

The text models draw a fifth as many scenes, after captions of the test split: from noise alone, or in a hole
about the first object of the true scene ("a hole": the rest of the picture is real). Their rows hold the
captions met with their 95 % interval (Wilson), the CLIP score by `scenes-clip`, and the distances, precision
and recall of the features of this model from those of rendered scenes. Of the video model there are a tenth
as many clips, from their captions. The last frame of each is judged as a scene, against last frames of
rendered clips, and the share of clips that move as asked stands apart. The calls are those of the U-Net
alone, for a clip those of all its frames.

Models that only experiments train have no weights to draw with here: their figures are in the records of
those experiments, of other pictures and other budgets. All rows are measured with the seed and the next one,
which draws other samples of the same models, after other captions. They take about seventy minutes of one
core, clips a quarter of that.
"""

from functools import cached_property

from diffusion_lessons.experiments import Experiment, Row, guidance_scales, metric_damages
from diffusion_lessons.experiments.board import digits, scenes
from diffusion_lessons.support.machine import choose_device

SEEDS = 2


class Shared:
    """What the rows use, each opened when it is asked for."""

    def __init__(self, options: Row) -> None:
        self.options = options

    @cached_property
    def guided(self) -> guidance_scales.Shared:
        return guidance_scales.prepare(self.options)

    @cached_property
    def parts(self) -> metric_damages.Parts:
        return metric_damages.prepare(self.options)

    @cached_property
    def shelf(self) -> scenes.Shelf:
        return scenes.Shelf(choose_device(self.options["device"]))


def settings(options: Row) -> list[Row]:
    """The rows of one seed after those of the other: where a run is stopped, whole tables are there."""
    seeds = range(options["seed"], options["seed"] + SEEDS)
    return [{**row, "seed": seed} for seed in seeds for row in (*digits.ROWS, *scenes.ROWS)]


def prepare(options: Row) -> Shared:
    return Shared(options)


def measure(shared: Shared, row: Row, options: Row) -> Row:
    if row["model"] in {each["model"] for each in scenes.ROWS}:
        return scenes.measure(shared.shelf, row, max(options["n"] // 5, 4))
    return digits.measure(shared.guided, shared.parts, row, options["n"], options)


COLUMNS = (
    "model sampler steps guidance seed frechet frechet_error kernel precision recall accuracy "
    "nearer_to_training met clip moves seconds"
)
EXPERIMENT = Experiment(__name__, __doc__, COLUMNS, settings, prepare, measure)
