"""The recorded comparison of lesson 15, and that its command measures every row."""

from itertools import pairwise
from typing import Any

import pytest
import torch

from diffusion_lessons import zoo
from diffusion_lessons.checkpoint import Checkpoint
from diffusion_lessons.data.captions import read
from diffusion_lessons.experiments import inpainting, recorded
from diffusion_lessons.experiments.inpainting import EXPERIMENT, Holes, filled, holes, judged, measure
from diffusion_lessons.metrics.captions_met import Met
from diffusion_lessons.samplers import there_and_back
from diffusion_lessons.training.text_to_image import widened


@pytest.fixture(scope="module")
def shared() -> tuple[Holes, dict[str, Checkpoint]]:
    text = zoo.load("scenes-text")
    wide = zoo.load("scenes-text")
    network: Any = wide.network
    object.__setattr__(wide, "network", widened(network, known=5).eval())  # new channels are 0: drawn alike
    return holes(2), {"scenes-text": text, "scenes-inpaint": wide}


def test_a_hole_covers_the_first_object_and_the_caption_has_it_in_another_colour() -> None:
    task = holes(6)
    for picture, mask, text in zip(task.pictures, task.masks, task.captions, strict=True):
        assert 0 < mask.mean() < 0.5
        assert len(read(text).objects) == 2
        assert picture.abs().max() <= 1
    assert holes(3).captions == task.captions[:3]


def test_calls_are_those_of_the_walk() -> None:
    levels: list[Any] = list(range(inpainting.STEPS + 1, -1, -1))[1:]
    walk = there_and_back(levels, inpainting.JUMP, inpainting.RESAMPLE)
    assert sum(b < a for a, b in pairwise(walk)) == inpainting.CALLS


@pytest.mark.parametrize("row", EXPERIMENT.settings({})[:4], ids=lambda row: row["way"])
def test_a_row_is_measured(shared: Any, row: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    figures = measure(shared, {**row, "steps": 2}, {"seed": 0})
    assert figures["n"] == 2
    assert figures["known_changed"] == 0
    assert set(figures["met"]) == {*Met.__dataclass_fields__, "everything"}
    assert figures["seam"] >= 0


def test_another_seed_is_another_fill(shared: Any) -> None:
    task, models = shared
    one, again, other = (
        filled(models["scenes-inpaint"], task, "trained", steps=1, **how)
        for how in ({}, {"seed": 0}, {"seed": 1})
    )
    torch.testing.assert_close(one, again, rtol=0, atol=0)
    assert (one - other).abs().max() > 0.1


def test_the_seed_of_the_command_is_that_of_the_noise(shared: Any) -> None:
    row = {"way": "trained", "step": "ddim", "steps": 1}
    one, other = (measure(shared, row, {"seed": seed}) for seed in (0, 1))
    assert one["known_changed_before"] != other["known_changed_before"]


def test_what_is_known_of_latents_is_exact_where_it_is_replaced(shared: Any) -> None:
    task, models = shared
    kept = task._replace(masks=torch.zeros_like(task.masks))  # nothing to paint
    model = models["scenes-text"]
    made = filled(model, kept, "replaced", steps=2)
    with torch.no_grad():
        again = model.vae.decode(model.vae.encode(task.pictures)).clamp(-1, 1)
    torch.testing.assert_close(made, again, rtol=0, atol=1e-4)


def test_real_scenes_have_their_own_seam(shared: Any) -> None:
    task, _ = shared
    figures = judged(task, task.pictures)
    assert figures["seam"] == figures["seam_real"]
    assert figures["known_changed_before"] == 0


def test_what_is_recorded_belongs_to_its_settings() -> None:
    result = recorded("inpainting")
    settings = [row["settings"] for row in result["rows"]]
    assert settings == [each for each in EXPERIMENT.settings({}) if each in settings]
    for row in result["rows"]:
        assert row["known_changed"] == 0
        assert all(low <= share <= high for share, low, high in row["met"].values())
