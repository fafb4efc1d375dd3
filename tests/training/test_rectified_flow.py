"""Pairs for flows: the right noise with the right data, in every epoch, and conditions that stay theirs."""

from itertools import permutations
from typing import Any

import ot
import pytest
import torch

from diffusion_lessons import (
    FLOW,
    GaussianMixture,
    NetworkDenoiser,
    StraightPath,
    add_noise,
    diffusion_loss,
    heun,
)
from diffusion_lessons import sample as walked
from diffusion_lessons.data import Dataset
from diffusion_lessons.training.loop import fit
from diffusion_lessons.training.rectified_flow import NOISE, Reflow, minibatch_ot, pairs
from diffusion_lessons.training.tasks import Denoising
from tests.oracles import randn
from tests.tiny_training import tiny_dataset, tiny_recipe

PATH = StraightPath()
FLOWING: dict[str, Any] = {"path": "straight", "target": "flow", "class_dropout": 0.0}
RING = GaussianMixture([[1.0, 0.0], [-0.5, 0.8], [-0.5, -0.8]], 0.1)


def made(n: int = 20) -> Dataset:
    """Pairs whose noise can be told from their data: x0 = tanh(noise), labels of three classes."""
    noise = randn(n, 1, 8, 8).float()
    return Dataset("pairs", noise.tanh(), torch.arange(n) % 3, ("a", "b", "c"), {NOISE: noise})


# Pairs ---------------------------------------------------------------------------------------------


def test_pairs_are_what_the_flow_makes_of_their_noise() -> None:
    noise, labels = randn(10, 2).float(), torch.arange(10) % 3
    rows = pairs(RING, noise, PATH.levels(8), labels, ("a", "b", "c"), batch=4)
    assert torch.equal(rows.conditions[NOISE], noise)
    assert torch.equal(rows.labels, labels)  # type: ignore[arg-type]
    torch.testing.assert_close(rows.images, walked(RING, noise, PATH.levels(8), labels, heun))
    bare = pairs(RING, noise, PATH.levels(2))
    assert (bare.labels, bare.classes) == (None, ())


def test_a_row_keeps_its_noise_in_every_epoch_and_a_first_flow_does_not() -> None:
    """Fixed pairs are right for reflow; a flow that learns from data needs fresh noise each time."""
    task = Reflow(tiny_recipe(**FLOWING), made()).place()
    for step in (0, 1, 7):  # three epochs of 20 rows in batches of 8
        x0, noise, t, labels = task.batch(step)
        torch.testing.assert_close(x0, noise.tanh())
        assert isinstance(labels, torch.Tensor) and t.shape == labels.shape == (8,)
    first = Denoising(tiny_recipe(**FLOWING), tiny_dataset()).place()
    seen: dict[bytes, list[torch.Tensor]] = {}
    for step in range(13):
        batch = first.batch(step)
        for x0, noise in zip(batch.x0, batch.noise, strict=True):
            seen.setdefault(x0.numpy().tobytes(), []).append(noise)
    twice = [noises for noises in seen.values() if len(noises) > 1]
    assert twice
    assert all(not torch.equal(*noises[:2]) for noises in twice)


def test_labels_are_dropped_and_noise_never_is() -> None:
    task = Reflow(tiny_recipe(**{**FLOWING, "class_dropout": 0.5, "batch": 20}), made()).place()
    x0, noise, _, labels = task.batch(0)
    assert 3 <= int((labels == 3).sum()) <= 17
    torch.testing.assert_close(x0, noise.tanh())


def test_processes_share_the_pairs_of_a_batch() -> None:
    whole = Reflow(tiny_recipe(**FLOWING), made()).place().batch(3)
    parts = [Reflow(tiny_recipe(**FLOWING), made()).place("cpu", rank, 2).batch(3) for rank in range(2)]
    for value, *shares in zip(whole, *parts, strict=True):
        assert torch.equal(torch.cat(shares), value)


def test_what_else_is_known_of_a_row_is_told() -> None:
    rows = Dataset(
        "pairs", randn(8, 2).float(), conditions={NOISE: randn(8, 2).float(), "mask": torch.ones(8, 1)}
    )
    task = Reflow(tiny_recipe(**FLOWING), rows, torch.nn.Linear(2, 2)).place()
    assert task.batch(0).condition.keys() == {"mask"}


def test_rows_without_their_noise_are_refused() -> None:
    with pytest.raises(ValueError, match="tiny has no 'noise' for its rows: make them with `pairs`"):
        Reflow(tiny_recipe(**FLOWING), tiny_dataset())


def test_reflow_trains_and_comes_close_to_its_pairs_in_one_step() -> None:
    rows = made(8)
    network = fit(Reflow(tiny_recipe(**FLOWING, steps=150, lr=1e-2, ema_decay=0.9), rows), "cpu")
    flow = NetworkDenoiser(network, PATH, FLOW)
    one = walked(flow, rows.conditions[NOISE], PATH.levels(1), rows.labels)
    unlearnt = walked(flow, rows.conditions[NOISE].flip(0), PATH.levels(1), rows.labels)
    error, other = ((x - rows.images).square().mean() for x in (one, unlearnt))
    assert error < 0.3 * other


# Times ---------------------------------------------------------------------------------------------


def test_logit_normal_times_change_what_is_asked_and_not_what_it_counts() -> None:
    """Drawn times as weights of the loss are another thing, and a bug elsewhere."""
    names = ("uniform", "logit-normal")
    recipes = [tiny_recipe(**FLOWING, batch=512, times=name) for name in names]
    uniform, middle = (Denoising(recipe, tiny_dataset()).place() for recipe in recipes)
    inside = [float(((t > 0.25) & (t < 0.75)).double().mean()) for t in (uniform.times(0), middle.times(0))]
    assert inside == pytest.approx([0.5, 0.728], abs=0.01)
    one, other = uniform.batch(0), middle.batch(0)
    assert torch.equal(one.x0, other.x0)
    losses = [
        float(task.loss(task.network, batch._replace(t=one.t)).detach())
        for task, batch in ((uniform, one), (middle, other))
    ]
    assert losses[0] == losses[1]


def test_times_of_a_recipe_and_its_power_are_told() -> None:
    with pytest.raises(ValueError, match="did you mean 'logit-normal'"):
        tiny_recipe(times="logit-norm")
    task = Denoising(tiny_recipe(**FLOWING, batch=512, times="logit-normal", time_power=0.5), tiny_dataset())
    assert float(task.place().times(0).median()) == pytest.approx(0.5**0.5, abs=0.01)


# Minibatch optimal transport -----------------------------------------------------------------------


def test_it_is_the_cheapest_of_all_orders() -> None:
    x0, noise = randn(6, 1, 2, 2, seed=1), randn(6, 1, 2, 2, seed=2)
    cost = [float((x0 - noise[list(order)]).square().sum()) for order in permutations(range(6))]
    again = minibatch_ot(x0, noise)
    assert float((x0 - again).square().sum()) == pytest.approx(min(cost))
    assert sorted(again.flatten().tolist()) == sorted(noise.flatten().tolist())  # the same draws, each once


def test_it_is_pots_plan_for_even_weights() -> None:
    """The plan of a linear program moves all of a row to one place: 1/B where data and noise are a pair."""
    x0, noise = randn(64, 1, 2, 2, seed=1) * 2 + 1, randn(64, 1, 2, 2, seed=2)
    costs = ot.dist(x0.flatten(1).numpy(), noise.flatten(1).numpy())  # of squares
    plan = torch.from_numpy(ot.emd([], [], costs))
    near = minibatch_ot(x0, noise)
    assert torch.equal(near, noise[plan.argmax(1)])
    assert float((x0 - near).square().sum()) / 64 == pytest.approx(ot.emd2([], [], costs), rel=1e-12)


def test_data_keep_their_places_and_so_their_conditions() -> None:
    """What is recovered from x_t and the slope, x0 = x_t − t·v, still has its label: data were not moved."""
    points, labels = RING.sample(64, torch.Generator().manual_seed(0))
    noise = minibatch_ot(points, torch.randn(64, 2, generator=torch.Generator().manual_seed(1)))
    level = PATH(torch.rand(64, generator=torch.Generator().manual_seed(2)).double())
    slope = FLOW.of(points, noise, level)
    recovered = add_noise(points, noise, level) - level.like(points)[1] * slope
    assert torch.equal(RING.posterior(recovered, PATH(1e-3)).argmax(1), labels)


def test_within_groups_every_condition_starts_from_all_of_the_noise() -> None:
    generator, starts = torch.Generator().manual_seed(0), {False: [], True: []}
    for _ in range(40):
        points, labels = RING.sample(64, generator)
        noise = torch.randn(64, 2, generator=generator)
        for within, kept in starts.items():
            kept.append(minibatch_ot(points, noise, labels if within else None)[labels == 0])
    skewed, fair = (torch.cat(starts[within])[:, 0].mean() for within in (False, True))
    assert float(skewed) > 0.5  # the first cluster lies to the right, and so does its noise
    assert abs(float(fair)) < 0.12


def test_within_a_group_it_is_optimal_too() -> None:
    x0, noise, groups = randn(10, 2, seed=1), randn(10, 2, seed=2), torch.arange(10) % 2
    both = minibatch_ot(x0, noise, groups)
    for k in range(2):
        assert torch.equal(both[groups == k], minibatch_ot(x0[groups == k], noise[groups == k]))


def test_lines_are_shorter_and_the_loss_of_a_flow_is_smaller() -> None:
    points, _ = RING.sample(256, torch.Generator().manual_seed(0))
    noise = torch.randn(256, 2, generator=torch.Generator().manual_seed(1))
    near = minibatch_ot(points, noise)
    assert float((points - near).square().mean()) < 0.6 * float((points - noise).square().mean())

    def best(x, time, condition=None):
        level = PATH((time / 1000).double())
        return FLOW.of(*RING(x, level), level)

    t = PATH.sample_times(256, torch.Generator().manual_seed(2))
    losses = [diffusion_loss(best, PATH, FLOW, points, each, t) for each in (noise, near)]
    assert losses[1].shape == (256,)
    assert float(losses[1].mean()) < float(losses[0].mean())


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="same shape"):
        minibatch_ot(randn(3, 2), randn(4, 2))
    with pytest.raises(ValueError, match=r"groups have shape \(3,\)"):
        minibatch_ot(randn(3, 2), randn(3, 2), torch.zeros(2))
