"""From a checkpoint and labels to pictures: guidance, sampler and batches put together once."""

import warnings
from collections import deque
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from diffusion_lessons.checkpoint import Checkpoint
from diffusion_lessons.conditions import Condition, rows_of, taken
from diffusion_lessons.data import to_uint8
from diffusion_lessons.denoiser import Autocast, Denoiser
from diffusion_lessons.guidance import ClassifierFreeGuidance, Clip
from diffusion_lessons.networks import Prompted
from diffusion_lessons.painting import Begun, Canvas
from diffusion_lessons.paths import Level
from diffusion_lessons.pictures import grid, save_gif, save_png
from diffusion_lessons.safety import SafetyCheck, covered
from diffusion_lessons.samplers import SAMPLERS, Noise, Point, Step
from diffusion_lessons.support.errors import unknown
from diffusion_lessons.support.files import atomic_write
from diffusion_lessons.support.machine import choose_device
from diffusion_lessons.support.seeds import checked_seed, seeded

PRECISIONS = ("auto", "float32")


def labels_for(checkpoint: Checkpoint, n: int, label: int | str | None = None) -> Tensor | None:
    """(n,) int64, all `label` (a number or a name) or going round the classes; None for a model without."""
    if n < 1:
        raise ValueError(f"the number of samples must be at least 1, got {n}")
    classes = checkpoint.classes
    if not classes:
        if label is not None:
            raise ValueError(f"this model was trained without labels: leave out the label {label!r}")
        return None
    if label is None:
        return torch.arange(n) % len(classes)
    wanted, names = normalize("NFC", str(label)), [normalize("NFC", name) for name in classes]
    if wanted in names:  # a Mac's "é" may be two characters
        return torch.full((n,), names.index(wanted))
    try:
        number = int(label)
    except ValueError:
        raise unknown("class", label, classes) from None
    if not 0 <= number < len(classes):
        raise ValueError(f"the label {label} is out of range: this model knows 0 to {len(classes) - 1}")
    return torch.full((n,), number)


def walk(
    checkpoint: Checkpoint,
    condition: Condition,
    noise: Tensor,
    sampler: str = "ddim",
    steps: int | None = None,
    guidance: float | None = None,
    spacing: str | None = None,
    clip: bool | None = None,
    negative: Condition = None,
    begun: Begun | None = None,
    precision: str = "auto",
    step: Step | None = None,
    generator: torch.Generator | Noise | None = None,
) -> Iterator[Point]:
    """Walk from noise to pictures with the canonical wrappers, guide, then clip; yields as `trajectory`.

    Args:
        condition: labels (N,) or the prompts' tokens, on the device of the noise, or None.
        noise: (N, C, H, W), N(0, I), on the device of the checkpoint's network.
        sampler: a name of `SAMPLERS`.
        steps: number of steps, at most the path's T; None is 25, or what the model was distilled for.
        guidance: scale, 1 is the plain conditional model; None is 2 with a condition and 1 without, or the
            model's own.
        clip: keep each estimate in [−1, 1]; None does so where samples are pictures and no latents.
        negative: a condition of 1 row or N to guide away from in the place of "no condition".
        begun: a picture to begin with, or to paint in.
        precision: "auto" is bf16 where the hardware really has it; or "float32".
        step: for "ddim", another step than its own: your own, or one with η.
        generator: of the steps' noise, as for `trajectory`.
    """
    if sampler not in SAMPLERS:
        raise unknown("sampler", sampler, SAMPLERS)
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    usual = checkpoint.sampling
    scale = (1.0 if condition is None else usual["guidance"]) if guidance is None else guidance
    if condition is None and scale != 1:
        raise ValueError(f"guidance {scale} needs a model with labels: this one has none, use guidance 1")
    if step is not None and sampler != "ddim":
        raise ValueError(f"a step of one's own goes with the sampler 'ddim', not {sampler!r}")
    network = checkpoint.denoiser()
    if condition is not None and isinstance(checkpoint.network, Prompted):  # a prompt is encoded once
        away = network.null_condition(1) if negative is None else negative
        with torch.no_grad():
            condition, negative = checkpoint.network.told(condition), checkpoint.network.told(away)
    denoiser: Denoiser = network
    if condition is not None:
        denoiser = ClassifierFreeGuidance(network, scale, negative)
    if clip or (clip is None and checkpoint.vae is None):
        denoiser = Clip(denoiser)
    if begun is not None:
        denoiser, condition = begun.wrapped(denoiser), begun.told(condition, len(noise))
    denoiser = Autocast(denoiser) if precision == "auto" else denoiser
    options: dict[str, Any] = {"generator": generator} if sampler in ("ddim", "ddpm") else {}
    options |= {} if step is None else {"step": step}
    steps = usual["steps"] if steps is None else steps
    levels = checkpoint.path.levels(steps, spacing or usual.get("spacing", "trailing"))
    if begun is not None:
        noise, levels = begun.start(noise, levels)
    if "sampling" in checkpoint.info:
        _warn_of_other_settings(checkpoint, levels, scale)
    return SAMPLERS[sampler](denoiser, noise, levels, condition, **options)


def _warn_of_other_settings(checkpoint: Checkpoint, levels: list[Level], guidance: float) -> None:
    """A distilled model knows the times of its own few steps, and needs no guidance."""
    usual = checkpoint.sampling
    known = {float(level.t) for level in checkpoint.path.levels(usual["steps"])}
    odd = [f"{float(level.t):g}" for level in levels if float(level.t) not in known]
    if odd or guidance != usual["guidance"]:
        what = f"t = {odd[0]}" if odd else f"guidance {guidance:g}"
        warnings.warn(
            f"this model was distilled for {usual['steps']} steps at guidance {usual['guidance']:g} and "
            f"knows nothing of {what}: leave out steps, guidance and spacing",
            RuntimeWarning,
            stacklevel=3,
        )


def generate(
    checkpoint: Checkpoint,
    condition: Condition,
    n: int | None = None,
    seed: int = 0,
    device: torch.device | str | None = None,
    batch: int = 256,
    progress: bool = False,
    canvas: Canvas | None = None,
    check: SafetyCheck | None = None,
    **how: Any,
) -> Tensor:
    """Sample pictures (N, C, H, W) in batches: float32 in about [−1, 1], on the CPU.

    All noise of a picture depends on the seed, its place and the step alone. The condition is labels (N,),
    the prompts of `checkpoint.prompts`, or None for n pictures without; the device None is a GPU where there
    is one; `progress` shows a bar of the pictures finished; the canvas is a picture to begin with; `how` is
    for `walk`. The checkpoint's network stays where it is and as it is. A picture in which the check finds
    something is replaced by plain grey, and a warning says what it shows; without a check nothing is hidden.
    """
    n = rows_of(condition) or n or 0
    model = checkpoint.on(choose_device(device))
    if canvas is not None:
        how["begun"] = Begun(canvas, model)
    walks = _walks(model, condition, n, batch, seed, **how)
    pictures = []
    with tqdm(total=n, desc="sampling", unit="image", disable=not progress) as bar:
        for points in walks:
            last = deque(points, maxlen=1)[0][1].float()
            drawn = model.pictures(last).float().cpu()
            pictures.append(drawn if canvas is None else canvas.finished(drawn))
            bar.update(len(pictures[-1]))
    return torch.cat(pictures) if check is None else _checked(check, torch.cat(pictures))[0]


def _checked(check: SafetyCheck, last: Tensor, *before: Tensor) -> list[Tensor]:
    """Finished pictures (N, ...), and what they came from, grey where the check finds something in them."""
    found = [each for batch in last.split(64) for each in check(batch)]
    if said := check.said(found):
        warnings.warn(said, RuntimeWarning, stacklevel=3)
    return [covered(each, found) for each in (last, *before)]


def _walks(
    model: Checkpoint, condition: Condition, n: int, batch: int, seed: int = 0, **how: Any
) -> list[Iterator[Point]]:
    """The walks of n samples, a batch each, made before the first is walked: bad settings are said first."""
    if n < 1 or batch < 1:
        raise ValueError(f"the number of samples must be at least 1, got {n} in batches of {batch}")
    device, shape, seed = next(model.network.parameters()).device, model.shape, checked_seed(seed)
    start = torch.randn((n, *shape), generator=torch.Generator().manual_seed(seed))

    def fresh(places: Tensor, step: int) -> Tensor:
        """The noise of a step for the pictures at these places, each from its own stream: (B, C, H, W)."""
        streams = (seeded("cpu", seed, "step", place, step) for place in places.tolist())
        return torch.stack([torch.randn(shape, generator=stream) for stream in streams])

    walks = []
    for places in torch.arange(n).split(batch):
        wanted = taken(condition, places, device)
        walks.append(walk(model, wanted, start[places].to(device), generator=partial(fresh, places), **how))
    return walks


def save_samples(pictures: Tensor, labels: Tensor | None, file: Path, columns: int | None = None) -> None:
    """Write pictures (N, C, H, W) as a .png grid or as .npz: x uint8 (N, H, W) or (N, H, W, 3), and y.

    Without `columns` the grid is about a square.
    """
    if file.suffix == ".npz":
        x = to_uint8(pictures).permute(0, 2, 3, 1).numpy()
        arrays = {"x": x[..., 0] if x.shape[-1] == 1 else x}
        if labels is not None:
            arrays["y"] = labels.numpy()
        with atomic_write(file) as partial, partial.open("wb") as handle:
            np.savez_compressed(handle, **arrays)  # type: ignore[arg-type]
    else:
        save_png(grid(pictures, columns), file)


def save_trajectory(
    checkpoint: Checkpoint,
    condition: Condition,
    n: int,
    file: Path,
    device: torch.device | str | None = None,
    canvas: Canvas | None = None,
    check: SafetyCheck | None = None,
    columns: int | None = None,
    **how: Any,
) -> None:
    """Write the walk of `generate` to n pictures as a .gif: what the sampler holds at each level."""
    model = checkpoint.on(choose_device(device))
    if canvas is not None:
        how["begun"] = Begun(canvas, model)
    (points,) = _walks(model, condition, n, batch=n, **how)
    frames = [model.pictures(x).cpu() for _, x, _ in points]
    if check is not None:
        last, *before = _checked(check, frames[-1], *frames[:-1])
        frames = [*before, last]
    save_gif([grid(each, columns) for each in frames], file)
