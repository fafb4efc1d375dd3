"""The card beside bundled weights: what they are, on what data and where they were made, and their hash.

A card tells of the training that made its weights. Those of the bundled classifiers came from loops of their
own, before there was one loop for all; a rebuild trains on today's loop, by the same recipe.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from diffusion_lessons.data import Dataset
from diffusion_lessons.metrics.evaluate import figures
from diffusion_lessons.support.files import atomic_write
from diffusion_lessons.support.machine import hardware, versions

DATA_LICENCES = {
    "digits": "Optical Recognition of Handwritten Digits (Alpaydin and Kaynak 1998), CC BY 4.0, "
    "as bundled with scikit-learn",
    "mnist": "MNIST (LeCun, Cortes and Burges 1998), CC BY-SA 3.0",
}


def provenance(dataset: Dataset) -> dict[str, Any]:
    """How many pictures, and the hash of their bytes, so that a change in the data shows."""
    return {"n": len(dataset), "sha256": hashlib.sha256(dataset.images.numpy().tobytes()).hexdigest()}


def data_facts(splits: Mapping[str, Dataset]) -> dict[str, Any]:
    """What data a model was made of: name, licence, and the provenance of each split."""
    (name,) = {dataset.name for dataset in splits.values()}
    each = {split: provenance(dataset) for split, dataset in splits.items()}
    return {"name": name, "licence": DATA_LICENCES[name], **each}


def rounded(result: dict[str, Any]) -> dict[str, list[float]]:
    """[value, uncertainty] of each figure of an `evaluate`, to four digits."""
    return {k: [round(f["value"], 4), round(f["uncertainty"], 4)] for k, f in figures(result).items()}


def write_card(name: str, folder: Path, facts: dict[str, Any], device: object = "cpu") -> None:
    """Write NAME.json: the facts, the hash of NAME.safetensors, where and with what it was made, licence."""
    weights = (folder / f"{name}.safetensors").read_bytes()
    content = {
        "name": name,
        **facts,
        "sha256": hashlib.sha256(weights).hexdigest(),
        "bytes": len(weights),
        "rebuild": f"python -m diffusion_lessons.makers {name}",
        "hardware": {**hardware(str(device)), "threads": torch.get_num_threads(), "device": str(device)},
        "versions": versions("scikit-learn"),
        "licence": "MIT (the weights; the data has its own)",
    }
    save_card(name, folder, content)


def save_card(name: str, folder: Path, content: Mapping[str, Any]) -> None:
    """Write what a card says, whole or not at all."""
    with atomic_write(folder / f"{name}.json") as partial_file:
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
        partial_file.write_text(text + "\n", encoding="utf-8")
