"""References of lesson 14 that no single function of the system is: they say what the system does."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from diffusion_lessons.course.bank.lesson_14 import FILM, attention_pairs, clip_loss, film, frames_seen
from diffusion_lessons.course.exercises.check import check
from diffusion_lessons.experiments.attention_over_frames import WAYS, scores
from diffusion_lessons.targets import V
from diffusion_lessons.training.recipe import PATHS
from diffusion_lessons.training.text_to_video import clip_error


@pytest.mark.parametrize("path", ["cosine", "straight"])
def test_the_loss_is_that_of_the_task(path: str) -> None:
    g = torch.Generator().manual_seed(0)
    x0, noise = (torch.randn(2, 3, 4, 5, 5, generator=g) for _ in range(2))
    task: Any = SimpleNamespace(path=PATHS[path](), target=V)
    t = task.path.T * torch.tensor([[0.0, 0.5, 0.9], [0.0, 0.0, 0.4]]).double()

    def network(x: torch.Tensor, times: torch.Tensor, condition: Any = None) -> torch.Tensor:
        return 0.3 * x

    error, noisy = clip_error(network, task, x0, noise, t, None), (t > 0).float()
    wanted = (error * noisy).sum() / noisy.sum()
    torch.testing.assert_close(clip_loss(network, x0, noise, t, task.path), wanted)


def test_pairs_without_a_mask_are_the_scores_of_the_experiment() -> None:
    for way in WAYS:
        assert attention_pairs(6, 20, False)[way] == scores(way, 6, 20)
    seen = frames_seen(6, 6)
    assert attention_pairs(6, 20, True)["joint"] == 400 * int(seen.sum())


def test_a_clip_goes_on_from_what_it_was_given() -> None:
    """A denoiser that repeats the last frame it is shown makes a clip that stands still."""
    first, levels = (
        torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(1)),
        PATHS["cosine"]().levels(4),
    )

    def repeats(x: torch.Tensor, level: Any, before: torch.Tensor) -> Any:
        x0 = before[:, -1]
        return x0, (x - float(level.alpha) * x0) / float(level.sigma)

    clip = film(repeats, first, 5, 3, levels, lambda k: torch.randn(first.shape))
    torch.testing.assert_close(clip, first[:, None].expand_as(clip), rtol=0, atol=1e-5)


def test_asking_a_level_too_early_is_told_so_and_is_no_nan() -> None:
    """The last level has no noise: there is none to be guessed, and nothing is divided by it."""

    def answer(denoiser: Any, first: Any, frames: int, window: int, levels: Any, noises: Any) -> Any:
        shifted = [*levels[1:], levels[-1]]
        clip = first[:, None]
        for k in range(1, frames):
            x = noises(k)
            for level in shifted[:-1]:
                x0, eps = denoiser(x, level, clip[:, 1 - window :])
                x = float(level.alpha) * x0 + float(level.sigma) * eps
            clip = torch.cat([clip, x[:, None]], 1)
        return clip

    verdict = check(FILM, answer)
    assert verdict.misconception == "level-not-changed"
    assert "NaN" not in verdict.message + (verdict.first or "")
