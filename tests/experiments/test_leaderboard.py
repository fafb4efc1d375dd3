"""The leaderboard: rows of both kinds, what is counted and kept, and that the recorded metrics contradict."""

from typing import Any

import pytest
import torch
from torch import Tensor

from diffusion_lessons.data.clips import FRAMES
from diffusion_lessons.data.scenes import draw
from diffusion_lessons.experiments import find, guidance_scales, leaderboard, recorded
from diffusion_lessons.experiments.board import digits, scenes
from diffusion_lessons.experiments.board.digits import margins, walked
from diffusion_lessons.experiments.leaderboard import EXPERIMENT, SEEDS
from diffusion_lessons.experiments.pictures import SHOWN
from diffusion_lessons.filming import asked_clips
from diffusion_lessons.generate import generate

ROWS = (*digits.ROWS, *scenes.ROWS)


def rows_of(seed: int, figure: str = "calls") -> list[dict[str, Any]]:
    """The recorded rows of a seed that have a figure."""
    return [
        row for row in recorded("leaderboard")["rows"] if row["settings"]["seed"] == seed and figure in row
    ]


def row_of(model: str, seed: int = 0, **wanted: Any) -> dict[str, Any]:
    wanted |= {"model": model}
    return next(row for row in rows_of(seed) if wanted.items() <= row["settings"].items())


def test_every_model_is_a_row_with_the_seed_of_the_run_and_the_next() -> None:
    assert find("leaderboard") is EXPERIMENT
    rows = EXPERIMENT.settings({"seed": 3})
    assert rows == [{**row, "seed": seed} for seed in (3, 4) for row in ROWS]
    assert len({tuple(row.items()) for row in rows}) == len(rows)


def test_a_margin_is_above_the_best_of_the_others() -> None:
    logits = torch.tensor([[1.0, 4.0, 2.0], [1.0, 4.0, 2.0]])
    found = margins(lambda x: logits, torch.zeros(2, 1, 4, 4), torch.tensor([1, 0]))
    assert found.tolist() == [2.0, -3.0]


def test_rows_of_scenes_go_to_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(scenes, "measure", lambda shelf, row, n: asked.append(("scenes", n)))
    monkeypatch.setattr(digits, "measure", lambda guided, parts, row, n, o: asked.append(("digits", n)))
    monkeypatch.setattr(guidance_scales, "prepare", lambda options: None)
    monkeypatch.setattr(leaderboard.metric_damages, "prepare", lambda options: None)
    options = {"n": 500, "device": "cpu"}
    for row in (digits.ROWS[0], scenes.ROWS[0], scenes.ROWS[-1], digits.ROWS[-1]):
        EXPERIMENT.measure(EXPERIMENT.prepare(options), row, options)
    assert asked == [("digits", 500), ("scenes", 100), ("scenes", 100), ("digits", 500)]


# Digits --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guided() -> guidance_scales.Shared:
    return guidance_scales.prepare({"model": "mnist-unet", "device": "cpu"})


def drawn(guided: Any, model: str, seed: int = 0, **how: Any) -> Tensor:
    return walked(guided, {"model": model, "guidance": 1.0, "seed": seed, **how}, torch.tensor([3, 8]))


def test_a_walk_starts_from_the_noise_that_generate_starts_from(guided: guidance_scales.Shared) -> None:
    labels = torch.tensor([3, 8])
    own = drawn(guided, "unet", sampler="ddim", steps=2)
    how: Any = {"sampler": "ddim", "steps": 2, "guidance": 1.0, "device": "cpu", "precision": "float32"}
    torch.testing.assert_close(own, generate(guided.model, labels, seed=0, **how), rtol=0, atol=1e-5)
    assert (own - drawn(guided, "unet", seed=1, sampler="ddim", steps=2)).abs().max() > 0.1


def test_a_flow_is_the_same_denoiser_on_other_levels(guided: guidance_scales.Shared) -> None:
    few, many = (dict[str, Any](sampler="euler", steps=steps) for steps in (3, 40))
    ends = drawn(guided, "unet", sampler="ddim", steps=40)
    apart = [float((drawn(guided, "unet, flow", **how) - ends).abs().mean()) for how in (few, many)]
    assert apart[1] < apart[0] / 3  # both walks are exact in the end
    assert (drawn(guided, "unet, flow", **few) - drawn(guided, "unet", sampler="ddim", steps=3)).std() > 0.01


def test_a_tolerance_is_what_an_adaptive_walk_goes_by(guided: guidance_scales.Shared) -> None:
    loose, tight = (drawn(guided, "unet, flow", sampler="rk23", tolerance=each) for each in (0.5, 0.02))
    ends = drawn(guided, "unet, flow", sampler="heun", steps=40)
    assert (tight - ends).abs().mean() < (loose - ends).abs().mean() / 2


def test_rescaled_guidance_is_neither_the_full_one_nor_none(guided: guidance_scales.Shared) -> None:
    how: dict[str, Any] = {"sampler": "dpmpp-2m", "steps": 4}
    plain, less = drawn(guided, "unet", **how), drawn(guided, "unet, rescaled", **how | {"guidance": 4.0})
    options: Any = {**how, "guidance": 4.0, "device": "cpu", "precision": "float32"}
    strong = generate(guided.model, torch.tensor([3, 8]), seed=0, **options)
    assert (less - strong).abs().mean() > 0.01
    assert (less - plain).abs().mean() > 0.01


def test_the_recorded_metrics_contradict_each_other_beyond_their_errors() -> None:
    result = recorded("leaderboard")
    assert [row["settings"] for row in result["rows"]] == EXPERIMENT.settings(result["options"])
    for seed in range(SEEDS):
        weak, strong = (row_of("unet", seed, **digits.TEN, guidance=scale) for scale in (1.5, 4.0))
        for metric, sign in {"frechet": 1, "kernel": 1, "precision": 1, "recall": -1}.items():
            error = (weak[f"{metric}_error"] ** 2 + strong[f"{metric}_error"] ** 2) ** 0.5
            assert sign * (strong[metric] - weak[metric]) > 1.96 * error


def test_the_recorded_rows_keep_pictures_and_margins() -> None:
    for seed in range(SEEDS):
        found = rows_of(seed, "margins")
        assert len(found) == len(digits.ROWS)
        assert {len(row["margins"]) for row in found} == {digits.MARGINS}
    assert {len(row["pictures"]) for row in rows_of(0, "margins")} == {2 * SHOWN * 32 * 32}
    assert not rows_of(1, "pictures")


def test_recorded_calls_are_those_of_the_sampler() -> None:
    calls = {"ddim": 10, "ddpm": 10, "dpmpp-2m": 10, "plms": 11, "heun": 9}
    for sampler, wanted in calls.items():
        steps = 5 if sampler == "heun" else 10
        assert row_of("unet", sampler=sampler, steps=steps, guidance=1.0)["calls"] == wanted
    assert row_of("unet, flow", sampler="heun")["calls"] == 9
    assert row_of("unet, rescaled")["calls"] == 20


def test_other_seeds_draw_other_samples() -> None:
    for one, other in zip(rows_of(0, "margins"), rows_of(1, "margins"), strict=True):
        same = one["settings"]["model"] == "means"  # of all training pictures
        assert (one["margins"] == other["margins"]) == same, one["settings"]


# Scenes --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shelf() -> scenes.Shelf:
    return scenes.Shelf(torch.device("cpu"))


@pytest.mark.parametrize("model", ["real scenes", "real clips"])
def test_another_seed_is_judged_by_other_captions(shelf: scenes.Shelf, model: str) -> None:
    first, second = (scenes.seen(shelf, {"model": model, "seed": seed}, 3)[0] for seed in (0, 1))
    both = scenes.seen(shelf, {"model": model, "seed": 0}, 6)[0]
    assert both.texts == [*first.texts, *second.texts]
    torch.testing.assert_close(both.images, torch.cat([first.images, second.images]))


def test_what_a_hole_leaves_is_real(shelf: scenes.Shelf) -> None:
    row = {**scenes.GUIDED, "steps": 1, "seed": 0}
    some, calls = scenes.seen(shelf, {**row, "model": "inpaint, a hole"}, 2)
    whole, _ = scenes.seen(shelf, {**row, "model": "inpaint, all of it"}, 2)
    real = draw(0, torch.arange(2), "test").render(scenes.SIZE)
    assert calls == 2  # with guidance
    kept, left = ((each.images == real).all(1).float().mean((1, 2)) for each in (some, whole))
    assert (kept > 0.5).all()
    assert (kept < 1).all()
    assert (left < 0.5).all()


def test_a_clip_is_judged_by_its_last_frame(shelf: scenes.Shelf) -> None:
    found, calls = scenes.seen(shelf, {"model": "real clips", "seed": 0}, 4)
    assert calls == 0
    assert found.motion["moves"] == 1
    assert not any("moving" in text for text in found.texts)
    torch.testing.assert_close(found.images, asked_clips(4)[0].render(scenes.SIZE)[:, -1])
    assert scenes.captions_met(found.images, found.texts)["everything"][0] == 1


def test_a_drawn_clip_goes_on_from_a_first_frame(shelf: scenes.Shelf) -> None:
    row = {"model": "video", "sampler": "ddim", "steps": 1, "guidance": 1.0, "seed": 0}
    found, calls = scenes.seen(shelf, row, 2)
    usual = shelf.opened("scenes-video").sampling
    assert calls == 2 * usual["steps"] + (FRAMES - 1)  # guided, and then a step for each frame
    assert found.images.shape == (2, 3, scenes.SIZE, scenes.SIZE)
    assert found.images.dtype == torch.uint8


def test_only_captions_tell_pictures_from_pictures_of_something_else() -> None:
    for seed in range(SEEDS):
        right, others = row_of("real scenes", seed), row_of("real scenes, captions of others", seed)
        assert (right["met"], others["met"]) == (1.0, 0.0)
        assert right["clip"] - others["clip"] > 10 * (right["clip_error"] + others["clip_error"])
        assert right["frechet"] == others["frechet"]
