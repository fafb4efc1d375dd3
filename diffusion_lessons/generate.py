"""From a checkpoint and labels to pictures: guidance, sampler and batches put together once."""

import warnings
from collections import deque
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unicodedata import normalize

import torch
from torch import Tensor
from tqdm import tqdm

from diffusion_lessons.checkpoint import Checkpoint
from diffusion_lessons.conditions import Condition, rows_of, taken
from diffusion_lessons.denoiser import Autocast, Denoiser
from diffusion_lessons.guidance import ClassifierFreeGuidance, Clip
from diffusion_lessons.networks import Prompted
from diffusion_lessons.painting import Begun, Canvas
from diffusion_lessons.paths import Level
from diffusion_lessons.pictures import grid, save_gif, save_npz, save_png
from diffusion_lessons.safety import SafetyCheck, covered
from diffusion_lessons.samplers import SAMPLERS, Noise, Point, Step
from diffusion_lessons.support.errors import unknown
from diffusion_lessons.support.processes import Device, Processes, part
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
    device: Device = None,
    batch: int = 256,
    progress: bool = False,
    canvas: Canvas | None = None,
    check: SafetyCheck | None = None,
    processes: Processes | None = None,
    **how: Any,
) -> Tensor:
    """Sample pictures (N, C, H, W) in batches: float32 in about [−1, 1], on the CPU.

    All noise of a picture depends on the seed, its place and the step alone. The condition is labels (N,),
    the prompts of `checkpoint.prompts`, or None for n pictures without; the device None is a GPU where there
    is one; `progress` shows a bar of the pictures finished; the canvas is a picture to begin with; `how` is
    for `walk`. The checkpoint's network stays where it is and as it is. A picture in which the check finds
    something is replaced by plain grey, and a warning says what it shows; without a check nothing is hidden.

    With `processes`, all of which must come here, each draws its part of the n places on its own device, and
    the first has all pictures in the end; the others have their own, which may be none.
    """
    n = rows_of(condition) or n or 0
    processes = processes or Processes(device, alone=True)
    model = checkpoint.on(processes.device)
    if canvas is not None:
        how["begun"] = Begun(canvas, model)
    walks = _walks(model, condition, n, batch, processes, seed, **how)
    pictures = []
    mine = part(n, processes.rank, processes.world)
    outermost = torch.autocast(processes.device.type, enabled=False)  # what is cast inside stays till its end
    with outermost, tqdm(total=len(mine), desc="sampling", unit="image", disable=not progress) as bar:
        for points in walks:
            last = deque(points, maxlen=1)[0][1].float()
            drawn = model.pictures(last).float().cpu()
            pictures.append(drawn if canvas is None else canvas.finished(drawn))
            bar.update(len(pictures[-1]))
    return _together(processes, check, [torch.cat(pictures)] if pictures else [])[-1]


def _together(processes: Processes, check: SafetyCheck | None, frames: list[Tensor]) -> list[Tensor]:
    """What the processes drew, pictures (N, ...) last and what they came from before; none for an empty part.

    All are grey where the check finds something in the last.
    """
    found: list[list[str]] = []
    if check is not None and frames:
        found = [each for batch in frames[-1].split(64) for each in check(batch)]
        frames = [covered(each, found) for each in frames]
    drawn = processes.gathered((frames, found))
    said = "" if check is None or processes.rank else check.said([each for _, seen in drawn for each in seen])
    if said:
        warnings.warn(said, RuntimeWarning, stacklevel=3)
    together = [torch.cat(parts) for parts in zip(*(each for each, _ in drawn if each), strict=True)]
    return together or [torch.empty(0)]


def _walks(
    model: Checkpoint,
    condition: Condition,
    n: int,
    batch: int,
    processes: Processes,
    seed: int = 0,
    **how: Any,
) -> list[Iterator[Point]]:
    """The walks of this process's part of n samples, a batch each, made before the first is walked.

    So bad settings are said first.
    """
    if n < 1 or batch < 1:
        raise ValueError(f"the number of samples must be at least 1, got {n} in batches of {batch}")
    device, shape, seed = next(model.network.parameters()).device, model.shape, checked_seed(seed)
    start = torch.randn((n, *shape), generator=torch.Generator().manual_seed(seed))

    def fresh(places: Tensor, step: int) -> Tensor:
        """The noise of a step for the pictures at these places, each from its own stream: (B, C, H, W)."""
        streams = (seeded("cpu", seed, "step", place, step) for place in places.tolist())
        return torch.stack([torch.randn(shape, generator=stream) for stream in streams])

    walks, mine = [], part(n, processes.rank, processes.world)
    for at in mine[::batch]:
        places = torch.arange(at, min(at + batch, mine.stop))
        wanted = taken(condition, places, device)
        walks.append(walk(model, wanted, start[places].to(device), generator=partial(fresh, places), **how))
    return walks


def save_samples(pictures: Tensor, labels: Tensor | None, file: Path, columns: int | None = None) -> None:
    """Write pictures (N, C, H, W) as a .png grid or as .npz: x uint8 (N, H, W) or (N, H, W, 3), and y.

    Without `columns` the grid is about a square.
    """
    if file.suffix == ".npz":
        save_npz(pictures, file, **({} if labels is None else {"y": labels}))
    else:
        save_png(grid(pictures, columns), file)


def save_trajectory(
    checkpoint: Checkpoint,
    condition: Condition,
    n: int,
    file: Path,
    device: Device = None,
    canvas: Canvas | None = None,
    check: SafetyCheck | None = None,
    columns: int | None = None,
    processes: Processes | None = None,
    **how: Any,
) -> None:
    """Write the walk of `generate` to n pictures as a .gif: what the sampler holds at each level.

    Of several processes the first writes.
    """
    processes = processes or Processes(device, alone=True)
    model = checkpoint.on(processes.device)
    if canvas is not None:
        how["begun"] = Begun(canvas, model)
    walks = _walks(model, condition, n, n, processes, **how)
    frames = [model.pictures(x).cpu() for points in walks for _, x, _ in points]
    together = _together(processes, check, frames)
    if processes.rank == 0:
        save_gif([grid(each, columns) for each in together], file)
