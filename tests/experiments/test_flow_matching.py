"""Diffusion against flows: every model trains, is drawn from on both paths, and counts what it asked."""

import pytest
import torch

from diffusion_lessons.denoiser import NetworkDenoiser
from diffusion_lessons.experiments import find, recorded
from diffusion_lessons.experiments.flow_matching import (
    AFTER,
    EVALUATIONS,
    EXPERIMENT,
    FEW,
    FLOOR,
    MODELS,
    SEEDS,
    STEPS,
    Consistency,
    Shared,
    drawn,
    fresh_step,
    measure,
    prepare,
    recipe_of,
    trained,
    walks,
)
from diffusion_lessons.paths import StraightPath
from diffusion_lessons.samplers import heun, trajectory
from diffusion_lessons.targets import FLOW
from tests.oracles import TrueX0, randn

OPTIONS = {"n": 100, "seed": 0, "device": "cpu"}


@pytest.fixture(scope="module")
def shared() -> Shared:
    return prepare(OPTIONS)


def test_it_is_found_and_every_model_has_its_seeds() -> None:
    assert find("flow-matching") is EXPERIMENT
    rows = EXPERIMENT.settings(OPTIONS)
    assert len(rows) == SEEDS * (len(MODELS) + len(AFTER)) + 1
    assert {row["model"] for row in rows} == {*MODELS, *AFTER, FLOOR}


@pytest.mark.parametrize("model", MODELS)
def test_each_solver_is_given_the_evaluations_that_it_says(shared: Shared, model: str) -> None:
    row = {"seed": 0, "model": model}
    network = trained(shared, row, 2)
    for name, each in walks(row).items():
        if name not in ("rk23", "rk45"):
            asked = FEW if name != "euler" else EVALUATIONS
            assert len(each) == len(asked)
            found = drawn(shared, row, network, OPTIONS, **each[0])
            assert found["evaluations"] == asked[0]
            assert found["frechet"] > 1  # two steps train nothing
    loose = drawn(shared, row, network, OPTIONS, **walks(row)["rk23"][0])
    assert loose["evaluations"] % 3 == 2  # two for the first step, three for each one tried


def test_models_differ_in_path_target_and_times_alone() -> None:
    recipes = [recipe_of({"seed": 1, "model": name}, STEPS) for name in MODELS]
    told = [(recipe.path, recipe.target, recipe.times) for recipe in recipes]
    assert told == [
        (*how, times)
        for how in (("cosine", "v"), ("straight", "flow"))
        for times in ("uniform", "logit-normal")
    ]
    alike = [{**recipe.to_json(), "path": 0, "target": 0, "times": 0} for recipe in recipes]
    assert all(each == alike[0] for each in alike)


@pytest.mark.parametrize("model", AFTER)
def test_a_row_that_goes_on_starts_from_the_flow_of_its_seed_and_leaves_it_alone(
    shared: Shared, model: str
) -> None:
    flow = trained(shared, {"seed": 0, "model": "flow"}, 2)
    before = [weight.clone() for weight in flow.parameters()]
    row = measure(shared, {"seed": 0, "model": model}, OPTIONS, steps=2, rows=20)
    assert all(torch.equal(*both) for both in zip(before, flow.parameters(), strict=True))
    after = list(shared.flows)
    assert after == [0]  # one flow a seed
    (solver,) = row["solvers"].values()
    assert solver["evaluations"][:3] == [1, 2, 3]
    assert row["one_step"] == solver["frechet"][0]
    assert row["straightness"] > 0
    assert len(row["pictures_1"]) == 2 * 10 * 256


def test_a_consistency_model_learns_the_end_of_the_teachers_way(shared: Shared) -> None:
    """With a teacher that knows the data, its answers are right at once: the loss is 0."""

    class Answers(torch.nn.Module):
        def __init__(self, x0: torch.Tensor) -> None:
            super().__init__()
            self.x0 = x0

        def forward(self, x: torch.Tensor, time: torch.Tensor, condition: object = None) -> torch.Tensor:
            return (x - self.x0) / (time / 1000).view(-1, 1, 1, 1)

    task = Consistency(
        recipe_of({"seed": 0, "model": "consistency"}, 2), shared.digits.train, torch.nn.Identity()
    )
    batch = task.place().batch(0)
    assert set((batch.t * task.intervals).round(decimals=6).tolist()) <= set(range(1, task.intervals + 1))
    right = Answers(batch.x0)
    task.teacher = NetworkDenoiser(right, StraightPath(), FLOW)
    assert float(task.loss(right, batch)) < 1e-9

    def still(x: torch.Tensor, time: torch.Tensor, condition: object = None) -> torch.Tensor:
        """A student without any slope answers with x: it is wrong by a step of the teacher."""
        return torch.zeros_like(x)

    step = (batch.noise - batch.x0) / task.intervals
    assert float(task.loss(still, batch)) == pytest.approx(float(step.square().mean()), rel=1e-3)


def test_fresh_steps_end_in_the_answer_and_forget_the_noise_before() -> None:
    oracle, path = TrueX0(randn(3, 2)), StraightPath()
    *_, (_, x, _) = trajectory(oracle, randn(3, 2, seed=1), path.levels(3), step=fresh_step)
    torch.testing.assert_close(x, oracle.x0)
    (_, _, estimate), (level, x, _), *_ = trajectory(
        oracle, randn(3, 2, seed=1), path.levels(3), step=fresh_step, generator=lambda k: randn(3, 2, seed=7)
    )
    torch.testing.assert_close(x, level.alpha * estimate.x0 + level.sigma * randn(3, 2, seed=7))


def test_heun_is_asked_as_often_as_the_others() -> None:
    for n, how in zip(FEW, walks({"model": "flow"})["heun"], strict=True):
        assert how["sampler"] is heun
        assert 2 * how["n"] - 1 == n


def test_the_floor_is_real_digits(shared: Shared) -> None:
    row = measure(shared, {"seed": 0, "model": FLOOR}, OPTIONS)
    assert row["frechet"] < 1
    assert row["accuracy"] > 0.95


def test_the_recorded_result_has_every_row_and_shows_what_reflow_does() -> None:
    result = recorded("flow-matching")
    assert [row["settings"] for row in result["rows"]] == EXPERIMENT.settings(result["options"])
    rows = {(row["settings"]["model"], row["settings"]["seed"]): row for row in result["rows"]}
    for seed in range(SEEDS):
        assert rows["reflow", seed]["straightness"] < rows["trained on", seed]["straightness"]
        assert rows["reflow", seed]["one_step"] < rows["trained on", seed]["one_step"]
