"""Pixels against latents: every space trains, is drawn from and read; patches and latents cost the same."""

import zlib

import numpy as np
import pytest

from diffusion_lessons.experiments import find
from diffusion_lessons.experiments.pixels_vs_latents import (
    EXPERIMENT,
    LR,
    SEEDS,
    SPACES,
    TRIED,
    UNTRAINED,
    Shared,
    measure,
    prepare,
)

OPTIONS = {"n": 66, "seed": 0, "device": "cpu"}  # as many as a distance over 64 numbers needs


@pytest.fixture(scope="module")
def shared() -> Shared:
    return prepare(OPTIONS, rows=32, real=80)


def test_it_is_found_and_every_space_has_its_seeds() -> None:
    assert find("pixels-vs-latents") is EXPERIMENT
    rows = EXPERIMENT.settings(OPTIONS)
    assert len(rows) == (SEEDS + len(TRIED)) * len(SPACES) + len(UNTRAINED)
    assert {row["space"] for row in rows} == {*SPACES, *UNTRAINED}


@pytest.mark.parametrize("space", SPACES)
def test_a_row_has_the_quality_at_every_mark(shared: Shared, space: str) -> None:
    row = measure(shared, {"seed": 0, "space": space, "lr": LR}, OPTIONS, marks=(0.01, 0.02))
    told = row["at_marks"]
    assert [len(values) for values in told.values()] == [2] * len(told)
    assert told["step"][0] <= told["step"][1]
    assert all(0 <= each <= 1 for each in told["readable"])
    assert row["frechet"] == told["frechet"][-1] > 0
    assert row["seconds_a_step"] > 0
    shown = np.frombuffer(zlib.decompress(bytes.fromhex(row["pictures"])), np.uint8)
    assert shown.size == 4 * 3 * 64 * 64


def test_another_seed_keeps_no_pictures(shared: Shared) -> None:
    row = measure(shared, {"seed": 1, "space": "latents", "lr": LR}, OPTIONS, marks=(0.01,))
    assert "pictures" not in row


def test_another_learning_rate_is_tried_up_to_the_first_mark(shared: Shared) -> None:
    row = measure(shared, {"seed": 0, "space": "latents", "lr": TRIED[0]}, OPTIONS, marks=(0.01, 60.0))
    assert row["marks"] == [0.01]
    assert "pictures" not in row


@pytest.mark.parametrize("space", UNTRAINED)
def test_real_scenes_are_read_and_are_near_to_others(shared: Shared, space: str) -> None:
    row = measure(shared, {"seed": 0, "space": space}, OPTIONS)
    assert row["readable"] > 0.9
    untrained = measure(shared, {"seed": 0, "space": "latents", "lr": LR}, OPTIONS, marks=(0.01,))
    assert row["frechet"] < untrained["frechet"]
