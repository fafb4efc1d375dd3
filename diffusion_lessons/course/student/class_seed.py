"""The seed of a class: `class.json`, which a release puts beside its notebooks, names other cases."""

import json
from pathlib import Path

NAME = "class.json"


def class_seed(folder: Path | None = None) -> int:
    """The seed in a folder's class.json, 0 where there is none.

    Args:
        folder: default the one that the notebook runs in.
    """
    try:
        seed = json.loads(((folder or Path.cwd()) / NAME).read_text(encoding="utf-8"))["seed"]
    except (OSError, ValueError, KeyError, TypeError):
        return 0
    return seed if isinstance(seed, int) else 0
