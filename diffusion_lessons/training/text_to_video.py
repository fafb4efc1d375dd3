"""The task of text to video: a picture network's layers over time learn to go on from frames.

Every frame has a time of its own (Chen et al. 2024, "Diffusion Forcing", algorithm 1), and some are clean: so
the network learns to draw one frame after those that are there, and several at once.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from diffusion_lessons.checkpoint import Checkpoint, save_checkpoint
from diffusion_lessons.conditions import Condition
from diffusion_lessons.data.clips import OPPOSITE, STILL, asked, clip_tokens, draw_clips, said
from diffusion_lessons.data.dataset import Dataset, Rows, as_float
from diffusion_lessons.data.tokenizer import Tokenizer
from diffusion_lessons.losses import diffusion_loss
from diffusion_lessons.networks import Vae, Video
from diffusion_lessons.paths import add_noise, same_shape
from diffusion_lessons.support.seeds import seeded
from diffusion_lessons.training.recipe import Recipe
from diffusion_lessons.training.tasks import Denoising, Forward
from diffusion_lessons.training.text_to_image import TIMES, latents_of

WINDOW = 4  # frames that are learnt from at a time
STEPS = 10  # in which a frame is drawn unless told otherwise: those before it leave little to decide
FIRST_CLEAN, CLEAN = 0.8, 0.3  # shares of the first frames of a window, and of the others, that are clean


class ClipBatch(NamedTuple):
    """This process's share of a step."""

    x0: Tensor  # (B, F, ...), windows of clips
    noise: Tensor  # like x0
    t: Tensor  # (B, F) float64 on the CPU, 0 where a frame is clean
    condition: Condition  # B rows, some of them the null condition


class TextToVideo(Denoising):
    """Learn to draw the frames of clips, told what is there and how it moves; the rows are latents of `vae`.

    Each step sees a window of so many frames of each row; that is also what the model is asked for at a time.
    A window longer than the clips is a ValueError.
    """

    def __init__(
        self,
        recipe: Recipe,
        dataset: Rows,
        network: Video,
        tokenizer: Tokenizer,
        vae: Vae | None = None,
        window: int = WINDOW,
        probe: "WrongMotions | None" = None,
        start: str | None = None,
    ) -> None:
        super().__init__(recipe, dataset, network, start)
        if not 2 <= window <= dataset.shape[0]:
            raise ValueError(f"a window has 2 frames or more, of clips of {dataset.shape[0]}; got {window}")
        self.tokenizer, self.vae, self.window, self.probe = tokenizer, vae, window, probe

    def batch(self, step: int, most: int | None = None) -> ClipBatch:  # type: ignore[override]
        clips, condition = self.batches(step, most)
        share, size = self.batches.share(most), (self.plan.batch, self.window)
        places = clips.shape[1] - self.window + 1
        starts = torch.randint(places, size[:1], generator=self.seeded("window", step))
        at = starts[share, None] + torch.arange(self.window)
        x0 = clips[torch.arange(len(clips), device=clips.device)[:, None], at.to(clips.device)]
        times = self.path.sample_times(size[0] * size[1], self.seeded("times", step), self.plan.build_warp())
        order = torch.randperm(
            len(times), generator=self.seeded("frames", step)
        )  # no clip has the early ones
        clean = torch.rand(size, generator=self.seeded("clean", step)) < self._clean_share()
        t = torch.where(clean, 0.0, times[order].view(size))[share]
        return ClipBatch(x0, self.noise(step, x0, most), t, condition)

    def loss(self, forward: Forward, batch: ClipBatch) -> Tensor:  # type: ignore[override]
        """The mean squared error of the frames that are not clean."""
        error = clip_error(forward, self, *batch)
        noisy = (batch.t > 0).to(error)
        return (error * noisy).sum() / noisy.sum().clamp(min=1)

    def watched(self, network: nn.Module) -> dict[str, float]:
        return {} if self.probe is None else self.probe(Checkpoint(network, self.path, self.target, (), ()))

    def write(self, file: Path, network: nn.Module, info: Mapping[str, Any]) -> None:
        shape, recipe = (self.window, *self.dataset.shape[1:]), self.plan.to_json()
        info = {**info, "usual": {"steps": STEPS}}
        model = Checkpoint(network, self.path, self.target, (), shape, recipe, info, self.vae, self.tokenizer)
        save_checkpoint(file, model)

    def _clean_share(self) -> Tensor:
        return torch.tensor([FIRST_CLEAN, *[CLEAN] * (self.window - 1)])


def clip_error(
    forward: Forward, task: Denoising, x0: Tensor, noise: Tensor, t: Tensor, condition: Condition
) -> Tensor:
    """Squared error of each frame (B, F) of forward(x, times, condition), each at a time of its own (B, F).

    Clean frames, t = 0, are told time 0: the network hears of no less noise than that of its first time.
    """
    same_shape("x0 and noise", x0, noise)
    level = task.path(t.flatten())
    clean, drawn = x0.flatten(0, 1), noise.flatten(0, 1)
    x = add_noise(clean, drawn, level).unflatten(0, t.shape)
    output = forward(x, task.path.network_time(t).clamp(min=0).to(x), condition)
    same_shape("the network's output and x0", output, x0)
    aim = task.target.of(clean, drawn, level).unflatten(0, t.shape)
    return (output.float() - aim.float()).square().flatten(2).mean(2)


@torch.no_grad()
def clip_latents(vae: Vae, clips: Dataset, seed: int, device: torch.device | str = "cpu") -> Dataset:
    """A data set of the latents of each frame, with the conditions of the clips."""
    frames = clips.images.shape[1]
    latents = latents_of(vae, Dataset(clips.name, clips.images.flatten(0, 1)), seed, device)
    return replace(
        latents,
        images=latents.images.unflatten(0, (-1, frames)),
        conditions=clips.conditions,
        note=clips.note,
    )


class WrongMotions:
    """What the opposite motion costs: the loss of a frame with it minus that with the right one.

    Measured of a second frame after the first, where the text alone tells of the way, and of a third after
    two, which show it too; on clips of the split "test", at each of `times`.
    """

    def __init__(
        self, vae: Vae | None, tokenizer: Tokenizer, rows: int = 64, times: tuple[float, ...] = TIMES
    ) -> None:
        index = torch.arange(4 * rows)
        clips = draw_clips(1, index, "test", room=1.0)
        kept = (clips.motion != STILL).nonzero()[:rows, 0]
        clips = clips[kept]
        texts = clips.captions(1, kept)
        self.told = {
            "right": clip_tokens(tokenizer, texts),
            "wrong": clip_tokens(tokenizer, reversed_(texts)),
        }
        frames = Dataset("clips", clips.render(64, 3))
        self.x0 = as_float(frames.images) if vae is None else clip_latents(vae, frames, seed=1).images
        self.times = times

    @torch.no_grad()
    def __call__(self, model: Checkpoint) -> dict[str, float]:
        """{"frame 2 at 950": extra loss …, "frame 2 at 950, right": the loss itself …}."""
        device, figures = next(model.network.parameters()).device, {}
        x0 = self.x0.to(device)
        noise = torch.randn(x0[:, :1].shape, generator=seeded("cpu", "wrong motions")).to(device)
        for time in self.times:
            t = torch.full((len(x0),), time, dtype=torch.float64)
            for frame in (1, 2):
                losses = {}
                for what, told in self.told.items():
                    condition = {name: value.to(device) for name, value in told.items()}
                    condition["before"] = x0[:, :frame]
                    now = x0[:, frame : frame + 1]
                    given = model.network, model.path, model.target, now, noise, t, condition
                    losses[what] = diffusion_loss(*given).mean()
                figures[f"frame {frame + 1} at {time:g}"] = round(float(losses["wrong"] - losses["right"]), 5)
                figures[f"frame {frame + 1} at {time:g}, right"] = round(float(losses["right"]), 5)
        return figures


def reversed_(captions: list[str]) -> list[str]:
    """The same captions with the opposite motion."""
    parts = [asked(caption) for caption in captions]
    return [said(each.there, OPPOSITE[each.motion]) for each in parts]
