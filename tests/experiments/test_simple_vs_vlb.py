"""The three objectives of lesson 04: what is drawn and weighed, and that all train on the one loop."""

from dataclasses import replace

import pytest
import torch

from diffusion_lessons.experiments import find, recorded, simple_vs_vlb
from diffusion_lessons.experiments.pictures import Digits
from diffusion_lessons.experiments.simple_vs_vlb import (
    EXPERIMENT,
    OBJECTIVES,
    RECIPE,
    Bounding,
    measure,
    prepare,
    train,
    weights,
)

OPTIONS = {"n": 100, "seed": 0, "device": "cpu"}


@pytest.fixture(scope="module")
def shared() -> Digits:
    return prepare(OPTIONS)


def test_both_ways_to_the_bound_have_the_same_mean_and_simple_is_flat(shared: Digits) -> None:
    simple, weighted, drawn = (Bounding(name, RECIPE, shared).place() for name in OBJECTIVES)
    assert simple.weight is drawn.weight is None
    assert weighted.weight is not None
    t = torch.arange(1, 1001, dtype=torch.float64)
    level = shared.path(t)
    on_eps = weighted.weight(level) * (level.sigma / level.alpha) ** 2
    assert float(on_eps.mean()) == pytest.approx(1)
    torch.testing.assert_close(simple.batch(3).t, weighted.batch(3).t)
    times = torch.cat([drawn.times(step) for step in range(400)])
    assert times.min() >= 1
    for low, high in ((1, 10), (11, 100), (101, 1000)):
        share = ((times >= low) & (times <= high)).double().mean()
        wanted = weights(shared.path)[low : high + 1].sum() / weights(shared.path).sum()
        assert float(share) == pytest.approx(float(wanted), abs=0.01)


def test_training_is_the_same_for_the_same_seed_and_differs_by_objective(shared: Digits) -> None:
    one, again, other = (
        [*train(shared, OBJECTIVES[which], 0, steps=3).parameters()][-1] for which in (0, 0, 2)
    )
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_a_row_is_measured_with_the_columns_that_are_recorded(
    shared: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simple_vs_vlb, "SAMPLING_STEPS", 5)
    few = replace(shared.test, images=shared.test.images[:40], labels=shared.test.labels[:40])
    shared = shared._replace(test=few)
    row = measure(shared, {"objective": OBJECTIVES[2], "seed": 0}, OPTIONS, steps=2)
    result = recorded("simple-vs-vlb")
    assert {*row, "settings", "seconds"} == set(result["rows"][0])
    assert row["bits"] == pytest.approx(row["prior"] + row["steps"] + row["decoder"])
    assert len(row["pictures"]) == len(result["rows"][0]["pictures"])
    assert row["frechet"] > 1  # two steps train nothing


def test_the_recorded_result_has_every_objective_with_every_seed() -> None:
    assert find("simple-vs-vlb") is EXPERIMENT
    rows = recorded("simple-vs-vlb")["rows"]
    assert [row["settings"] for row in rows] == EXPERIMENT.settings({})
