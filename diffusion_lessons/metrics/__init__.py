"""How good made pictures are: distances, precision and recall, accuracy, and what people choose.

`evaluate` measures pictures by a `Yardstick`, which it is handed; the others take features, points or votes.
"""

from diffusion_lessons.metrics.evaluate import evaluate
from diffusion_lessons.metrics.frechet import (
    Statistics,
    frechet_at_infinity,
    frechet_between,
    frechet_distance,
    frechet_error,
)
from diffusion_lessons.metrics.intervals import (
    bootstrap_counts,
    bootstrap_error,
    share_error,
    wilson_interval,
)
from diffusion_lessons.metrics.kernel import kernel_distance, kernel_error
from diffusion_lessons.metrics.memorised import Nearer, nearer_to_training
from diffusion_lessons.metrics.modes import Modes, count_modes
from diffusion_lessons.metrics.precision_recall import PrecisionRecall, precision_recall
from diffusion_lessons.metrics.preference import Ratings, Vote, bradley_terry, first_chosen
from diffusion_lessons.metrics.sliced_wasserstein import sliced_wasserstein
from diffusion_lessons.metrics.straightness import straightness
from diffusion_lessons.metrics.yardstick import Reference, Yardstick, features_and_classes

__all__ = [
    "Modes",
    "Nearer",
    "PrecisionRecall",
    "Ratings",
    "Reference",
    "Statistics",
    "Vote",
    "Yardstick",
    "bootstrap_counts",
    "bootstrap_error",
    "bradley_terry",
    "count_modes",
    "evaluate",
    "features_and_classes",
    "first_chosen",
    "frechet_at_infinity",
    "frechet_between",
    "frechet_distance",
    "frechet_error",
    "kernel_distance",
    "kernel_error",
    "nearer_to_training",
    "precision_recall",
    "share_error",
    "sliced_wasserstein",
    "straightness",
    "wilson_interval",
]
