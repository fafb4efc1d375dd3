"""Clips from a model of clips: a first frame as a picture, and one frame after the other behind it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffusion_lessons.checkpoint import Checkpoint
from diffusion_lessons.conditions import Condition, as_dict, rows_of
from diffusion_lessons.data.clips import FRAMES
from diffusion_lessons.generate import generate
from diffusion_lessons.networks import Video
from diffusion_lessons.pictures import grid, save_gif, save_npz, save_png
from diffusion_lessons.support.errors import unknown
from diffusion_lessons.support.machine import choose_device
from diffusion_lessons.support.seeds import checked_seed, seed_of

KINDS = (".gif", ".png", ".npz")  # of files that clips are written to
DECODED = 32  # clips at a time
SECONDS = 0.12  # that a frame of a GIF is shown


def film(
    checkpoint: Checkpoint,
    condition: Condition,
    frames: int = FRAMES,
    seed: int = 0,
    first: Tensor | None = None,
    together: int = 1,
    device: torch.device | str | None = None,
    **how: Any,
) -> Tensor:
    """Clips (N, frames, C, H, W), float32 in about [−1, 1], on the CPU.

    The first frame is drawn by the picture network alone, or is `first`, pictures (N, C, H, W) or one for
    all. Then `together` frames at a time are drawn, seeing as many of those before them as the window has in
    which the model learnt. How it is drawn depends on the seed, its place and the frame alone.

    Args:
        checkpoint: of a `Video`; its shape is (window, C, H, W).
        condition: N rows, of `checkpoint.prompts`.
        how: for `generate`: steps, guidance, sampler, batch …

    Raises:
        ValueError: a model of pictures; fewer than 1 frame; more together than the window has beside one
        before; first frames that are no finite floats.
    """
    if not isinstance(checkpoint.network, Video):
        raise ValueError("this model draws pictures and no clips: take one that was trained on clips")
    checked_seed(seed)
    window, n = checkpoint.shape[0], rows_of(condition) or 0
    if frames < 1 or frames % 1:
        raise ValueError(f"a clip has at least 1 frame, and whole ones; got {frames}")
    if not 1 <= together < window:
        raise ValueError(f"this model draws 1 to {window - 1} frames at a time, got {together}")
    model, told = checkpoint.on(choose_device(device)), as_dict(condition)
    bare = replace(model, vae=None, shape=checkpoint.shape[1:])  # nothing is decoded on the way
    how = {"clip": checkpoint.vae is None, "device": device, **how}
    drawn = (generate(bare, told, seed=seed, **how) if first is None else _encoded(model, first, n))[:, None]
    while (now := drawn.shape[1]) < frames:
        number = min(together, frames - now)
        seen = {**told, "before": drawn[:, -(window - number) :]}
        wanted = replace(bare, shape=(number, *bare.shape))
        more = generate(wanted, seen, seed=seed_of(seed, "frame", now), **how)
        drawn = torch.cat([drawn, more], 1)
    place = next(model.network.parameters()).device
    return torch.cat([model.pictures(clip.to(place)).float().cpu() for clip in drawn.split(DECODED)])


@torch.no_grad()
def _encoded(model: Checkpoint, first: Tensor, n: int) -> Tensor:
    """First frames (N, C, H, W) for the model, of pictures (N, C, H, W) or (1, C, H, W)."""
    if not first.is_floating_point() or not bool(first.isfinite().all()):
        given = first.dtype if not first.is_floating_point() else "NaN or infinity"
        raise ValueError(f"first frames are floats in [−1, 1], as `data.to_float` makes them; got {given}")
    x = first.to(next(model.network.parameters()).device)
    x = x if model.vae is None else model.vae.encode(x)
    if len(x) not in (1, n) or x.shape[1:] != model.shape[1:]:
        raise ValueError(f"first frames of {n} clips of {model.shape[1:]}: got {tuple(x.shape)}")
    return x.expand(n, *x.shape[1:]).float().cpu()


def save_clips(clips: Sequence[Tensor] | Tensor, file: Path, columns: int | None = None) -> None:
    """Write clips (N, F, C, H, W): as a .gif that plays them side by side, as a .png with a row of frames for
    each, or as .npz: x uint8 (N, F, H, W) or (N, F, H, W, 3). Another kind of file is a ValueError.
    """
    clips = torch.stack(list(clips))
    if file.suffix == ".gif":
        sheets = [grid(frame, columns) for frame in clips.transpose(0, 1)]
        save_gif(sheets, file, seconds=SECONDS * len(sheets), hold=5 * SECONDS)
    elif file.suffix == ".png":
        save_png(grid(clips.flatten(0, 1), columns=clips.shape[1]), file)
    elif file.suffix == ".npz":
        save_npz(clips, file)
    else:
        raise unknown("kind of file for clips", file.suffix, KINDS)
