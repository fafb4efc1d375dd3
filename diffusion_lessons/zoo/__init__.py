"""The shelf: NAME.safetensors beside NAME.json, the card that says what they are.

The card holds the recipe, the measurements and the command that rebuilds the file (`diffusion_lessons.makers`
is the factory); a file is loaded only if its bytes are those that its card names.
"""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffusion_lessons.support.errors import unknown

if TYPE_CHECKING:
    from diffusion_lessons.checkpoint import Checkpoint
    from diffusion_lessons.metrics import Yardstick

FOLDER = Path(__file__).parent
KINDS = ("autoencoder", "classifier", "diffusion", "noisy-classifier", "towers")


def names(folder: Path = FOLDER) -> list[str]:
    """What there is, in alphabetical order."""
    return sorted(file.stem for file in folder.glob("*.json"))


def card(name: str, folder: Path = FOLDER) -> dict[str, Any]:
    """What a model is: kind, title, data, recipe, metrics, hash, licence, and the command that rebuilds it.

    An unknown name (with the nearest right one) and a card that is damaged are a ValueError.
    """
    if name not in names(folder):
        raise unknown("zoo model", name, names(folder))
    file = folder / f"{name}.json"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        complete = {"kind", "title", "sha256", "rebuild"} <= content.keys() and content["kind"] in KINDS
    except (OSError, ValueError, AttributeError, TypeError):
        complete = False
    if not complete:
        raise ValueError(f"{file} is damaged: restore it from the repository, or install the package again")
    return dict(content)


def load(name: str, folder: Path = FOLDER) -> Any:
    """A bundled model, on the CPU, in float32 and in evaluation mode.

    It is a `Checkpoint` for a diffusion model; a `Vae` for an autoencoder; (`TwoTowers`, `Tokenizer`) for
    towers; for a classifier the `Classifier`; for a classifier of noisy
    pictures a `NetworkClassifier`, called as (x, level) -> logits. An unknown name and a file that is
    missing, cut short or changed are a ValueError.
    """
    from diffusion_lessons.zoo.files import LOADERS

    return LOADERS[card(name, folder)["kind"]](checked(name, folder))


def shelf_of(name: str, folder: Path) -> Path:
    """The folder that a model is taken from: this one, or the bundled shelf where it lacks it."""
    return folder if name in names(folder) else FOLDER


def yardstick(name: str) -> "Yardstick":
    """What pictures of "mnist" or "digits" are measured by: the bundled classifier and its references.

    Another name (with the nearest right one) and a file that is missing or changed are a ValueError.
    """
    from diffusion_lessons.metrics import Yardstick

    known = [each.removesuffix("-classifier") for each in names() if card(each)["kind"] == "classifier"]
    if name not in known:
        raise unknown("yardstick", name, known)
    return Yardstick.load(checked(f"{name}-classifier"), name)


def open_model(name: str, provider: str | None = None) -> "Checkpoint":
    """A checkpoint by file, by the folder of a training run or of a published model, or by its zoo name.

    A file is one of ours, or a Stable Diffusion 1.x with its original names; a pickle is refused. What was
    exported as ONNX is evaluated by ONNX Runtime, on a provider of `onnx_files.session.PROVIDERS`.
    Nothing of that name, no diffusion model, and a provider for what is no ONNX file are a ValueError.
    """
    from diffusion_lessons.checkpoint import load_checkpoint
    from diffusion_lessons.onnx_files.opening import is_onnx, open_onnx
    from diffusion_lessons.zoo.published import is_published, open_published, refuse_pickle
    from diffusion_lessons.zoo.single_file import is_single_file, open_single_file

    file = Path(name)
    if is_onnx(file):
        return open_onnx(file, provider or "cpu")
    if provider is not None:
        raise ValueError(
            f"a provider runs ONNX files: export {name} first, as in export {name} --out model.onnx"
        )
    if is_published(file):
        return open_published(file)
    if file.is_dir():
        file = file / "model.safetensors"
    if file.exists():
        refuse_pickle(file)
    if is_single_file(file):
        return open_single_file(file)
    if file.exists() or file.suffix == ".safetensors":
        return load_checkpoint(file)
    models = [entry for entry in names() if card(entry)["kind"] == "diffusion"]
    if name not in models:
        known = ", ".join(models) or "none yet"
        raise ValueError(
            f"no checkpoint {name!r}: expected a file, a folder of a training run, or a zoo model ({known})"
        )
    return load(name)


def checked(name: str, folder: Path = FOLDER) -> Path:
    """The file of a bundled model, if its bytes are those that its card names; else a ValueError."""
    about, file = card(name, folder), folder / f"{name}.safetensors"
    remedy = (
        f"restore it from the repository, install the package again, or rebuild it with `{about['rebuild']}`"
    )
    try:
        found = hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise ValueError(f"cannot read {file} ({error.strerror}): {remedy}") from error
    if found != about["sha256"]:
        raise ValueError(
            f"{file} is damaged: its sha256 is {found[:12]}…, its card says {about['sha256'][:12]}…: {remedy}"
        )
    return file
