"""The card of the reader: what is recorded, and that its command measures every row."""

from typing import Any

import pytest
import torch

from diffusion_lessons.data.scenes import draw
from diffusion_lessons.experiments import find, recorded
from diffusion_lessons.experiments.reader_accuracy import DAMAGES, EXPERIMENT, measure, prepare, tally


@pytest.mark.parametrize("row", EXPERIMENT.settings({}), ids=lambda row: f"{row['size']}-{row['damage']}")
def test_a_row_is_measured(row: dict[str, Any]) -> None:
    options = {"n": 8, "seed": 3}
    figures = measure(prepare(options), row, options)
    assert figures["n"] == 8
    assert sum(figures[name][0] for name in ("right", "refused", "wrong")) == 1
    assert figures["right"][0] >= 0.5


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_a_damage_leaves_bytes_of_the_same_shape_and_changes_nothing_in_place(damage: str) -> None:
    pictures = draw(0, torch.arange(3)).render(32)
    before = pictures.clone()
    made = DAMAGES[damage](pictures)
    assert (made.dtype, made.shape) == (torch.uint8, pictures.shape)
    assert torch.equal(pictures, before)
    assert torch.equal(made, pictures) == (damage == "clean")


def test_right_refused_and_wrong_are_told_apart() -> None:
    scenes = draw(0, torch.arange(3))
    pictures = scenes.render(64)
    pictures[1] = pictures[0]  # another scene
    pictures[2] = torch.randint(0, 256, (3, 64, 64), generator=torch.Generator().manual_seed(0)).byte()
    assert tally(pictures, scenes) == {"right": 1, "refused": 1, "wrong": 1}


def test_one_scene_is_too_few() -> None:
    with pytest.raises(ValueError, match="at least 2, got 1"):
        prepare({"n": 1, "seed": 0})


def test_what_is_recorded_holds_what_the_lessons_rest_on() -> None:
    result = recorded("reader-accuracy")
    assert find("reader-accuracy") is EXPERIMENT
    assert [row["settings"] for row in result["rows"]] == EXPERIMENT.settings({})
    for row in result["rows"]:
        if row["settings"]["size"] >= 64:
            assert row["right"][0] >= 0.99
            assert row["wrong"][0] == 0
