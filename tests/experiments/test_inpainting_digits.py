"""The recorded fills of digits (lesson 15), and that their command measures every row."""

from typing import Any

import pytest
import torch

from diffusion_lessons.experiments import find, recorded
from diffusion_lessons.experiments.inpainting_digits import EXPERIMENT, filled, measure, prepare

OPTIONS = {"model": "mnist-unet", "n": 4, "seed": 0, "device": "cpu"}


@pytest.fixture(scope="module")
def halves() -> Any:
    return prepare(OPTIONS)


def test_digits_are_of_all_classes_in_turn_and_their_lower_half_is_the_hole(halves: Any) -> None:
    assert find("inpainting-digits") is EXPERIMENT
    assert halves.labels.tolist() == [0, 1, 2, 3]
    assert halves.mask[0, 0].mean(1).tolist() == [0] * 16 + [1] * 16
    assert halves.reader(halves.digits).argmax(1).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("row", EXPERIMENT.settings({}), ids=lambda row: f"{row['way']}-{row['steps']}")
def test_a_row_is_measured(halves: Any, row: dict[str, Any]) -> None:
    steps = 6 if row["way"] == "resampled" else min(row["steps"], 2)
    figures = measure(halves, {**row, "steps": steps}, OPTIONS)
    assert figures["n"] == 4
    assert 0 <= figures["low"] <= figures["read"] <= figures["high"] <= 1
    if row["way"] == "original":
        assert (figures["read"], figures["calls"]) == (1, 0)


def test_upper_halves_stay_and_lower_halves_are_new(halves: Any) -> None:
    made = filled(halves, "replaced", "ddim", 2, seed=0)
    change = (made - halves.digits).abs().amax((1, 3))  # (4, 32), of each line
    assert change[:, :16].max() == 0
    assert change[:, 16:].amax(1).min() > 0.1


def test_nobody_tells_the_network_the_digit(halves: Any) -> None:
    turned = halves._replace(labels=halves.labels.flip(0))
    made, again = (filled(each, "clean", "ddim", 2, seed=0) for each in (halves, turned))
    torch.testing.assert_close(made, again, rtol=0, atol=0)


def test_what_is_recorded_belongs_to_its_settings() -> None:
    rows = recorded("inpainting-digits")["rows"]
    assert [row["settings"] for row in rows] == EXPERIMENT.settings({})
    assert all(row["low"] <= row["read"] <= row["high"] for row in rows)
