"""The seed of a class: `class.json`, which a release puts beside its notebooks, names other cases."""

import json
from pathlib import Path

from diffusion_lessons.course.student.place import beside
from diffusion_lessons.support.files import read_text

NAME = "class.json"


def class_seed(folder: Path | None = None) -> int:
    """The seed in a folder's class.json, 0 where there is none.

    Args:
        folder: default the one of the notebook that runs.
    """
    file = beside(NAME) if folder is None else folder / NAME
    try:
        seed = json.loads(read_text(file))["seed"]
    except (OSError, ValueError, KeyError, TypeError):
        return 0
    return seed if type(seed) is int else 0
