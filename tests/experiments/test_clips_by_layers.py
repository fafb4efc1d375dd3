"""The recorded measurement of lesson 14, and that its command measures every row."""

from typing import Any

import pytest

from diffusion_lessons import filming
from diffusion_lessons.experiments import find, recorded
from diffusion_lessons.experiments.clips_by_layers import EXPERIMENT, measure, settings
from tests.tiny_video import tiny_video

OPTIONS: dict[str, Any] = {"n": 2, "seed": 0, "device": "cpu", "model": None}


@pytest.mark.parametrize("way", ["rendered", "held", "goes on", "together", "apart", "from text"])
def test_a_row_is_measured(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filming, "SIDE", 32)
    monkeypatch.setattr("diffusion_lessons.experiments.clips_by_layers.STEPS", 2)
    figures = measure(tiny_video(), {"way": way, "window": 3, "frames": 4}, OPTIONS)
    assert figures["n"] == 2 and len(figures["drift"]) == 4
    assert figures["moves"] == figures["met"]["motion"][0]
    if way in ("rendered", "held"):
        assert figures["moves"] == (way == "rendered")
        assert figures["met"]["kept"][0] == 1 and figures["drift"][-1][0] == 2


def test_what_is_recorded_belongs_to_its_settings() -> None:
    assert find("clips-by-layers") is EXPERIMENT
    result = recorded("clips-by-layers")
    assert [row["settings"] for row in result["rows"]] == settings(result["options"])
    by_way = {(row["settings"]["way"], row["settings"]["frames"]): row for row in result["rows"]}
    assert by_way["rendered", 8]["moves"] == 1 and by_way["held", 8]["moves"] == 0
    for row in result["rows"]:
        assert row["n"] == result["options"]["n"] and len(row["drift"]) == row["settings"]["frames"]
        for what in ("readable", "there", "kept", "motion", "everything"):
            share, low, high = row["met"][what]
            assert low <= share <= high
