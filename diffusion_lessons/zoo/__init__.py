"""Bundled weights: NAME.safetensors beside NAME.json, the card that says what they are.

The card holds the recipe, the measurements and the command that rebuilds the file; a file is loaded only
if its bytes are those that its card names.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diffusion_lessons.support.errors import unknown

FOLDER = Path(__file__).parent


def names(folder: Path = FOLDER) -> list[str]:
    """What there is, in alphabetical order."""
    return sorted(file.stem for file in folder.glob("*.json"))


def card(name: str, folder: Path = FOLDER) -> dict[str, Any]:
    """What a model is: kind, title, data, recipe, metrics, hash, licence, and the command that rebuilds it.

    Raises:
        ValueError: for an unknown name (with the nearest right one), or a card that is damaged.
    """
    if name not in names(folder):
        raise unknown("zoo model", name, names(folder))
    file = folder / f"{name}.json"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        complete = {"kind", "title", "sha256", "rebuild"} <= content.keys() and content["kind"] in LOADERS
    except (OSError, ValueError, AttributeError, TypeError):
        complete = False
    if not complete:
        raise ValueError(f"{file} is damaged: restore it from the repository, or install the package again")
    return dict(content)


def load(name: str, folder: Path = FOLDER) -> Any:
    """A bundled model, on the CPU, in float32 and in evaluation mode.

    Returns:
        a `Checkpoint` for a diffusion model; for a classifier a `Classifier` with its `reference`; for a
        classifier of noisy pictures a `NetworkClassifier`, called as (x, level) -> logits.

    Raises:
        ValueError: for an unknown name, or a file that is missing, cut short or changed.
    """
    about, file = card(name, folder), folder / f"{name}.safetensors"
    try:
        found = hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise ValueError(f"cannot read {file} ({error.strerror}): {_remedy(about)}") from error
    if found != about["sha256"]:
        raise ValueError(
            f"{file} is damaged: its sha256 is {found[:12]}…, its card says {about['sha256'][:12]}…: "
            f"{_remedy(about)}"
        )
    return LOADERS[about["kind"]](file)


def _remedy(about: dict[str, Any]) -> str:
    return (
        f"restore it from the repository, install the package again, or rebuild it with `{about['rebuild']}`"
    )


def _load_classifier(file: Path) -> Any:
    from diffusion_lessons.makers.classifiers import load_classifier

    return load_classifier(file)


def _load_noisy_classifier(file: Path) -> Any:
    from diffusion_lessons.makers.noisy import load_noisy_classifier

    return load_noisy_classifier(file)


def _load_diffusion(file: Path) -> Any:
    from diffusion_lessons.checkpoint import load_checkpoint

    return load_checkpoint(file)


LOADERS: dict[str, Callable[[Path], Any]] = {
    "classifier": _load_classifier,
    "diffusion": _load_diffusion,
    "noisy-classifier": _load_noisy_classifier,
}
