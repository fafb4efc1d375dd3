"""Distances over n: what is drawn, and that the recorded bias falls as 1/n."""

from typing import Any

import pytest
import torch

from diffusion_lessons.experiments import find, recorded
from diffusion_lessons.experiments.metric_bias import EXPERIMENT, MODELS, PAIRS, SIZES, measure
from diffusion_lessons.metrics import Reference, Statistics


class Known:
    """Pools of a Gaussian that is the reference, too, and of one that is shifted."""

    def __init__(self) -> None:
        g = torch.Generator().manual_seed(0)
        features = torch.randn(8000, 6, generator=g, dtype=torch.float64)
        sample = torch.randn(2000, 6, generator=g, dtype=torch.float64)
        exact = Statistics(torch.zeros(6).double(), torch.eye(6).double(), 10_000)
        self.reference, self.pools = Reference(exact, sample), {"real": features, "shifted": features + 0.5}

    def __getitem__(self, pool: str) -> torch.Tensor:
        return self.pools["shifted" if pool in MODELS else "real"]


def measured(pool: str, n: int) -> Any:
    shared: Any = Known()
    return measure(shared, {"pool": pool, "n": n}, {"seed": 1}, draws=6)


def test_every_size_of_every_pool_is_a_row() -> None:
    assert find("metric-bias") is EXPERIMENT
    rows = EXPERIMENT.settings({})
    assert [(row["pool"], row["n"]) for row in rows] == [(pool, n) for pool in PAIRS for n in SIZES]


def test_two_sets_of_one_pool_are_apart_by_bias_alone() -> None:
    few, many = measured("real", 200), measured("real", 1600)
    assert few["frechet"] > 4 * many["frechet"]
    assert abs(many["kernel"]) < 4 * many["kernel_sd"]
    assert "at_infinity" not in few  # both sides would have to grow


def test_a_true_distance_stays() -> None:
    row = measured("1-step student", 1600)
    assert row["frechet"] == pytest.approx(6 * 0.25, rel=0.15)
    assert abs(row["at_infinity"] - 1.5) < 3 * row["at_infinity_sd"] + 0.1
    assert measured("1-step student", 1600) == row


def test_the_recorded_bias_falls_as_one_over_n() -> None:
    result = recorded("metric-bias")
    assert [row["settings"] for row in result["rows"]] == EXPERIMENT.settings(result["options"])
    rows = {(row["settings"]["pool"], row["settings"]["n"]): row for row in result["rows"]}
    constants = [n * rows["real", n]["frechet"] for n in SIZES]
    assert max(constants) < 1.3 * min(constants)
    for n in SIZES:
        row = rows["real", n]
        assert abs(row["kernel"]) < 3.5 * row["kernel_sd"] / row["draws"] ** 0.5
        assert rows["4-step student", n]["frechet"] < rows["1-step student", n]["frechet"]
    # unfair: the better student, by a quarter of the samples
    assert rows["4-step student", 400]["frechet"] > rows["1-step student", 1600]["frechet"]
