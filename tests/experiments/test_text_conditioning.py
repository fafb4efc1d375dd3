"""The recorded comparison of lesson 16, and that its command measures every row."""

from dataclasses import replace

import pytest

from diffusion_lessons.experiments import recorded
from diffusion_lessons.experiments.text_conditioning import EXPERIMENT, RECIPE, Shared, measure, prepare
from diffusion_lessons.metrics.captions_met import Met

OPTIONS = {"model": "scenes-text", "n": 1, "seed": 0, "device": "cpu"}
SHORT = replace(RECIPE, steps=2, batch=4, base_channels=24, precision="float32", compile="off")


@pytest.fixture(scope="module")
def shared() -> Shared:
    return prepare(OPTIONS, rows=8, probed=4)


def test_what_is_recorded_belongs_to_its_settings() -> None:
    result = recorded("text-conditioning")
    settings = [row["settings"] for row in result["rows"]]
    assert settings == [each for each in EXPERIMENT.settings({}) if each in settings]
    for row in result["rows"]:
        assert row["wrong_captions"][-1]["step"] == row["steps"] == RECIPE.steps
        for split in ("test", "held-out"):
            assert set(row[split]) == {*Met.__dataclass_fields__, "everything"}
            assert all(low <= share <= high for share, low, high in row[split].values())


@pytest.mark.parametrize(
    "row", EXPERIMENT.settings({})[::3], ids=lambda row: f"{row['tower']}, {row['told']}"
)
def test_a_row_is_measured_and_leaves_the_frozen_tower_as_it_was(shared: Shared, row: dict[str, str]) -> None:
    before = {name: value.clone() for name, value in shared.tower.state_dict().items()}
    figures = measure(shared, row, OPTIONS, SHORT)
    assert figures["steps"] == 2
    assert set(figures["test"]) == set(figures["held-out"]) == {*Met.__dataclass_fields__, "everything"}
    assert figures["wrong_captions"][-1]["step"] == 2
    assert all(before[name].equal(value) for name, value in shared.tower.state_dict().items())
