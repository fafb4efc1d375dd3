"""DDIM in 25 steps by the bundled MNIST model: exported, by ONNX Runtime, and by PyTorch as it is.

Both in float32 (no TF32 on a GPU), with one thread, without guidance: the batch is that of the network.
"""

from pathlib import Path

import torch

from diffusion_lessons.generate import generate, labels_for
from diffusion_lessons.onnx_files.session import checked_provider, needed
from diffusion_lessons.onnx_files.writing import write_onnx
from diffusion_lessons.support.machine import keep_freed_memory
from diffusion_lessons.training.speed import SpeedMode
from diffusion_lessons.zoo import load, open_model

from .timing import Work

MODEL, STEPS = "mnist-unet", 25
BARS = {1: 1.8, 2: 1.8, 64: 1.05}  # by pictures at a time
PROVIDERS = {"cpu": "cpu", "cuda": "cuda"}


def export(file: Path) -> Path:
    """The bundled model as ONNX."""
    write_onnx(load(MODEL), file)
    return file


def cannot_run(device: torch.device) -> str:
    """Why no exported model can be made and run on a device; nothing where it can."""
    try:
        for package in ("onnx", "onnxscript"):
            needed(package)
        checked_provider(PROVIDERS.get(device.type, device.type))
    except ValueError as error:
        return str(error)
    return ""


def exported(file: Path, images: int, device: torch.device) -> Work:
    """What `sample model.onnx` does, for so many pictures at a time."""
    return _sampling(str(file), PROVIDERS[device.type], images, device)


def eager(images: int, device: torch.device) -> Work:
    """What `sample mnist-unet --precision float32` does."""
    return _sampling(MODEL, None, images, device)


def _sampling(name: str, provider: str | None, images: int, device: torch.device) -> Work:
    keep_freed_memory()  # as the command line does
    torch.set_num_threads(1)
    model = open_model(name, provider)
    how = dict(steps=STEPS, guidance=1.0, precision="float32", device=device)
    return Work(lambda: generate(model, labels_for(model, images), **how), images, SpeedMode().matmuls)
