import json

import pytest
import torch

from diffusion_lessons.data import Dataset
from diffusion_lessons.networks import Patched, UNet
from diffusion_lessons.training.recipe import PATHS, WEIGHTS, Recipe


def pictures(size: int, channels: int = 1) -> Dataset:
    return Dataset(
        "p", torch.zeros(4, channels, size, size, dtype=torch.uint8), torch.arange(4) % 2, ("a", "b")
    )


def test_round_trip_through_json() -> None:
    recipe = Recipe(data="mnist", images=1000, channel_mults=(1, 2), precision="bf16", lr=1e-3)
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe
    with pytest.raises(ValueError, match=r"field of a recipe 'chanel_mults'.*did you mean 'channel_mults'"):
        Recipe.from_json({"chanel_mults": [1]})


@pytest.mark.parametrize(
    "budget", [{}, {"steps": 3, "minutes": 1.0}, {"steps": 1, "images": 1, "minutes": 1.0}]
)
def test_exactly_one_budget(budget: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="exactly one budget"):
        Recipe(**budget)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": 0}, "steps must be above 0, got 0"),
        ({"steps": None, "minutes": float("inf")}, "minutes must be above 0, got inf"),
        ({"batch": 0}, "batch must be above 0"),
        ({"batch": 1.5}, "batch is a whole number, got 1.5"),
        ({"steps": 2.5}, "steps is a whole number, got 2.5"),
        ({"lr": float("nan")}, "lr must be above 0"),
        ({"class_dropout": 1.5}, "class_dropout is a share"),
        ({"ema_decay": 1.0}, "ema_decay is a share"),
        ({"seed": -1}, "a seed is a whole number from 0 to 2.63 - 1 = .*, got -1"),
        ({"seed": 2**63}, "a seed is a whole number"),
        ({"seed": 2**64 - 1}, "a seed is a whole number"),
        ({"path": "cosin"}, "did you mean 'cosine'"),
        ({"target": "eps"}, "unknown target 'eps'"),
        ({"weight": "min_snr"}, "did you mean 'min-snr'"),
        ({"precision": "float16"}, "unknown precision 'float16'"),
        ({"compile": "yes"}, "unknown compile 'yes'"),
        ({"decay": "cos"}, "did you mean 'cosine'"),
        ({"path": "straight", "target": "epsilon"}, "cannot be solved where the path 'straight' ends"),
        ({"path": "straight", "target": "flow", "weight": "variational-bound"}, "ends at T = 1"),
    ],
)
def test_bad_values_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recipe(**({"steps": 1} | wrong))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("recipe", "steps"),
    [(Recipe(steps=7), 7), (Recipe(images=100, batch=32), 4), (Recipe(images=64, batch=64), 1)],
)
def test_budgets_in_steps_and_images_end_exactly(recipe: Recipe, steps: int) -> None:
    assert recipe.done(steps, seconds=1e9) == 1
    assert recipe.done(steps - 1, seconds=1e9) < 1
    assert recipe.done(0, 0.0) == 0


def test_budget_in_minutes_looks_at_the_clock_alone() -> None:
    recipe = Recipe(minutes=2)
    assert recipe.done(10**9, 60.0) == 0.5
    assert recipe.done(0, 121.0) == 1


def test_learning_rate_warms_up_and_decays_to_the_end() -> None:
    recipe = Recipe(steps=100, lr=1.0, warmup=10)
    rates = [recipe.learning_rate(step, recipe.done(step, 0.0)) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[4] == pytest.approx(0.5, rel=0.01)
    assert rates[50] == pytest.approx(0.5)
    assert max(rates) < 1
    assert 0 < rates[99] < 1e-3
    assert rates[100] == 0
    linear = Recipe(steps=100, lr=1.0, warmup=0, decay="linear")
    assert linear.learning_rate(25, 0.25) == pytest.approx(0.75)
    assert Recipe(steps=100, lr=1.0, warmup=0, decay="none").learning_rate(99, 0.99) == 1


def test_network_fits_the_pictures_and_starts_from_the_seed() -> None:
    small = Recipe(steps=1).build_network(pictures(16))
    large = Recipe(steps=1).build_network(pictures(32, 3))
    assert isinstance(small, UNet)
    assert isinstance(large, Patched)
    assert large.patch == 2
    for network, data in ((small, pictures(16)), (large, pictures(32, 3))):
        assert network(torch.zeros(2, *data.shape), torch.zeros(2), torch.tensor([0, 2])).shape == (
            2,
            *data.shape,
        )
    before = torch.get_rng_state()
    again, other = (Recipe(steps=1, seed=seed).build_network(pictures(16)) for seed in (0, 1))
    assert torch.equal(again.stem.weight, small.stem.weight)
    assert not torch.equal(other.stem.weight, small.stem.weight)
    assert torch.equal(torch.get_rng_state(), before)  # the caller's generator is left alone
    assert isinstance(Recipe(steps=1, patch=1).build_network(pictures(32)), UNet)


def test_every_named_path_and_weight_can_be_built() -> None:
    for name in PATHS:
        for weight in WEIGHTS.keys() - ({"variational-bound"} if name == "straight" else set()):
            recipe = Recipe(steps=1, path=name, weight=weight, target="v")
            path = recipe.build_path()
            built = recipe.build_weight(path)
            if built is not None:
                assert (built(path(path.T * 0.5)) > 0).all()


def test_long_budgets() -> None:
    assert Recipe(minutes=1).is_long
    assert not Recipe(minutes=0.9).is_long
    assert Recipe(steps=1000).is_long
    assert not Recipe(steps=999).is_long
    assert not Recipe(images=31_968).is_long
