"""Targets and weights over training: every cell trains and is measured, at the rates that were tuned."""

from typing import Any

import pytest
import torch

from diffusion_lessons.experiments import find, recorded
from diffusion_lessons.experiments.snr_weighting import (
    EXPERIMENT,
    RATES,
    SEEDS,
    TRIED,
    ResidualMlp,
    Shared,
    measure,
    prepare,
)

OPTIONS = {"n": 70, "seed": 0, "device": "cpu"}  # more than a distance over 64 numbers needs
CELLS = [(name, *cell) for cell, rates in RATES.items() for name in rates]


def cell_of(settings: dict[str, Any]) -> tuple[str, str, str]:
    return settings["network"], settings["target"], settings["weight"]


@pytest.fixture(scope="module")
def shared() -> Shared:
    return prepare(OPTIONS)


def test_every_cell_has_its_seeds_and_rates_are_tried_on_another() -> None:
    assert find("snr-weighting") is EXPERIMENT
    rows = EXPERIMENT.settings(OPTIONS)
    compared, tried = ([row for row in rows if ("lr" in row) is each] for each in (False, True))
    assert sorted((*cell_of(row), row["seed"]) for row in compared) == sorted(
        (*cell, seed) for cell in CELLS for seed in range(SEEDS)
    )
    assert len(tried) == len(CELLS) * len(TRIED)
    assert {row["seed"] for row in tried}.isdisjoint(row["seed"] for row in compared)
    assert rows[: len(tried)] == tried
    assert [row["seed"] for row in compared] == sorted(row["seed"] for row in compared)


@pytest.mark.parametrize(("network", "target", "weight"), CELLS)
def test_a_row_has_the_quality_at_every_mark(shared: Shared, network: str, target: str, weight: str) -> None:
    cell = {"network": network, "target": target, "weight": weight}
    row = measure(shared, {**cell, "seed": 0}, OPTIONS, marks=(1, 2))
    assert row["marks"] == row["at_marks"]["step"] == [1, 2]
    assert row["rate"] == RATES[target, weight][network]
    assert row["frechet"] == row["at_marks"]["frechet"][-1] > 1  # hardly trained
    assert len(bytes.fromhex(row["pictures"])) == 10 * 16 * 16


def test_a_rate_that_is_tried_runs_to_the_first_mark_and_keeps_no_pictures(shared: Shared) -> None:
    cell = {"network": "mlp", "target": "v", "weight": "p2"}
    row = measure(shared, {**cell, "seed": 3, "lr": 5e-3}, OPTIONS, marks=(2, 4))
    assert (row["marks"], row["rate"]) == ([2], 5e-3)
    assert "pictures" not in row
    assert "pictures" not in measure(shared, {**cell, "seed": 1}, OPTIONS, marks=(1,))


def test_seeds_and_weights_change_what_is_drawn_and_the_same_row_is_the_same(shared: Shared) -> None:
    def frechet(seed: int, weight: str) -> float:
        row = {"network": "mlp", "target": "x0", "weight": weight, "seed": seed}
        return measure(shared, row, OPTIONS, marks=(20,))["frechet"]

    first = frechet(0, "plain")
    assert frechet(0, "plain") == first
    assert len({first, frechet(1, "plain"), frechet(0, "simple")}) == 3


def test_the_mlp_is_told_time_and_label() -> None:
    torch.manual_seed(0)
    network, x, time, labels = (
        ResidualMlp(),
        torch.randn(2, 1, 8, 8),
        torch.tensor([5.0, 900.0]),
        torch.tensor([1, 7]),
    )
    y = network(x, time, labels)
    assert y.shape == x.shape
    torch.testing.assert_close(network(x[1:], time[1:], labels[1:]), y[1:])  # each row for itself
    assert not torch.allclose(network(x, time.flip(0), labels), y)
    assert not torch.allclose(network(x, time, labels.flip(0)), y)
    with pytest.raises(ValueError, match="told a label"):
        network(x, time)


def test_the_rates_are_the_best_of_those_recorded() -> None:
    best: dict[tuple[str, str, str], tuple[float, float]] = {}
    rows = recorded("snr-weighting")["rows"]
    assert [row["settings"] for row in rows] == EXPERIMENT.settings({"seed": 0})
    for row in rows:
        if "lr" in row["settings"]:
            found, cell = (row["frechet"], row["settings"]["lr"]), cell_of(row["settings"])
            best[cell] = min(best.get(cell, found), found)
    assert {cell: lr for cell, (_, lr) in best.items()} == {
        (name, *cell): lr for cell, rates in RATES.items() for name, lr in rates.items()
    }
