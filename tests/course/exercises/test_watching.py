"""What an answer does beside its value: arguments, seeds, graphs, and the gradients that training needs."""

import random
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from diffusion_lessons.course.exercises.check import check
from diffusion_lessons.course.exercises.exercise import Case, Exercise
from diffusion_lessons.course.exercises.judging import judge
from diffusion_lessons.course.exercises.outputs import Outputs
from diffusion_lessons.course.exercises.running import run


def walk(x: Tensor, levels: list[float], names: dict[str, int], network: nn.Module) -> Tensor:
    for level in levels:
        x = x * level
    return x + names["more"]


def make(n: int) -> Callable[[torch.Generator], dict[str, Any]]:
    return lambda g: {"x": torch.randn(2, n, generator=g), "n": n}


def use(answer: Any, x: Tensor, n: int) -> Any:
    """All but x is made here, where no case sees it."""
    network = nn.Sequential(nn.Linear(n, n), nn.Dropout(0.5))
    for parameter in network.parameters():
        nn.init.constant_(parameter, 0.1)
    return answer(x, [0.5 + 0.1 * k for k in range(n)], {"more": n}, network).detach()


WALK = Exercise(
    id="99.2",
    name="walk",
    title="Walk",
    kind="implement",
    difficulty=1,
    minutes=1,
    reference=walk,
    cases=[Case(f"{n} steps", make(n)) for n in (3, 4, 6)],
    misconceptions=[],
    alternatives=[],
    hints=("a", "b", "c"),
    call=use,
)


def beside(effect: Callable[[Any], Any]) -> Callable[..., Tensor]:
    """A right answer that does something beside, to all that it was given."""

    def answer(x: Tensor, levels: list[float], names: dict[str, int], network: nn.Module) -> Tensor:
        result = walk(x, levels, names, network)
        effect(SimpleNamespace(x=x, levels=levels, names=names, net=network))
        return result

    return answer


def trained(network: nn.Module, x: Tensor) -> None:
    with torch.enable_grad():
        network(x).sum().backward()


WRONG: dict[str, tuple[Callable[..., Any], str, str]] = {
    "a list reversed": (lambda it: it.levels.reverse(), "mutated", "argument `levels`, which"),
    "a list emptied": (lambda it: it.levels.clear(), "mutated", "argument `levels`, which"),
    "a list sorted": (lambda it: it.levels.sort(reverse=True), "mutated", "argument `levels`"),
    "a dict popped": (lambda it: it.names.pop("more"), "mutated", "argument `names`"),
    "a dict longer": (lambda it: it.names.update(less=1), "mutated", "argument `names`"),
    "a tensor": (lambda it: it.x.add_(1), "mutated", "argument `x`"),
    "its data": (lambda it: it.x.data.mul_(2), "mutated", "argument `x`"),
    "two": (lambda it: (it.x.zero_(), it.levels.pop()), "mutated", "`x` and `levels`"),
    "requires_grad_": (lambda it: it.x.requires_grad_(), "mutated", "calls requires_grad_ on"),
    "grad": (lambda it: trained(it.net, it.x), "mutated", "leaves a .grad on its argument `network`"),
    "eval": (lambda it: it.net.eval(), "mutated", "in another mode, train() or eval()"),
    "weights": (lambda it: nn.init.zeros_(it.net[0].weight), "mutated", "argument `network`, which"),
    "frozen": (lambda it: it.net.requires_grad_(False), "mutated", "requires_grad_ on"),
    "torch seed": (lambda it: torch.manual_seed(0), "seeded", "torch.manual_seed"),
    "numpy seed": (lambda it: np.random.seed(3), "seeded", "sets the seed"),
    "python seed": (lambda it: random.seed(3), "seeded", "sets the seed"),
    "seed and draw": (lambda it: (torch.manual_seed(1), torch.rand(3)), "seeded", "seed"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_a_right_answer_does_beside_is_noticed(name: str) -> None:
    effect, kind, said = WRONG[name]
    verdict = check(WALK, beside(effect))
    assert (verdict.status, verdict.kind) == ("wrong", kind), verdict
    assert verdict.message.startswith("The result is right, but your function ")
    assert said in verdict.message


RIGHT: dict[str, Callable[..., Any]] = {
    "drawing": lambda it: (torch.rand(2), np.random.rand(2), random.random()),
    "a generator of its own": lambda it: torch.Generator().manual_seed(0),
    "seed and take back": lambda it: forked(),
    "a copy reversed": lambda it: list(it.levels).reverse(),
    "a clone": lambda it: it.x.clone().requires_grad_().mul(2).sum().backward(),
    "there and back": lambda it: (it.net.eval(), it.net.train()),
    "asked": lambda it: it.net(it.x),
}


def forked() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)


@pytest.mark.parametrize("name", RIGHT)
def test_what_leaves_nothing_behind_is_right(name: str) -> None:
    assert check(WALK, beside(RIGHT[name])).passed


def test_what_the_reference_changes_too_may_be_changed() -> None:
    def step(x: Tensor, levels: list[float], names: dict[str, int], network: nn.Module) -> Tensor:
        nn.init.zeros_(network[0].weight)  # type: ignore[index, arg-type]
        return walk(x, levels, names, network)

    training = replace(WALK, reference=step)
    assert check(training, step).passed
    assert "argument `x`" in check(training, beside(lambda it: it.x.add_(1))).message


# Gradients ------------------------------------------------------------------------------------------


def loss(network: Callable[[Tensor], Tensor], x: Tensor, gain: Tensor) -> Tensor:
    return ((network(x) - gain * x) ** 2).mean(1)


def batch(n: int) -> Callable[[torch.Generator], dict[str, Any]]:
    def drawn(g: torch.Generator) -> dict[str, Any]:
        return {"network": torch.tanh, "x": torch.randn(n, 5, generator=g), "gain": torch.tensor(0.3 * n)}

    return drawn


LOSS = replace(
    WALK,
    reference=loss,
    call=None,
    trains=("network", "gain"),
    cases=[Case(f"{n} rows", batch(n)) for n in (3, 4, 6)],
)


def by_rows(network: Callable[[Tensor], Tensor], x: Tensor, gain: Tensor) -> Tensor:
    return torch.stack([((network(row[None])[0] - gain * row) ** 2).sum() / 5 for row in x])


def in_place(network: Callable[[Tensor], Tensor], x: Tensor, gain: Tensor) -> Tensor:
    error = network(x) - gain * x
    return error.pow_(2).double().mean(1).float()


def under_no_grad(network: Callable[[Tensor], Tensor], x: Tensor, gain: Tensor) -> Tensor:
    with torch.no_grad():
        return loss(network, x, gain)


CUT: dict[str, tuple[Callable[..., Tensor], str]] = {
    "detach": (
        lambda network, x, gain: loss(network, x, gain).detach(),
        "no gradient flows back through it to",
    ),
    "the answer": (lambda network, x, gain: loss(lambda x: network(x).detach(), x, gain), "to `network`"),
    "data": (lambda network, x, gain: loss(lambda x: network(x).data, x, gain), "to `network`"),
    "no grad": (under_no_grad, "to `network`"),
    "item": (lambda network, x, gain: loss(network, x, torch.tensor(gain.item())), "to `gain`"),
    "numpy": (
        lambda network, x, gain: torch.from_numpy(loss(network, x, gain).numpy()),
        "in training, where gradients are kept, your code raises RuntimeError: Can't call numpy()",
    ),
    "half of it": (
        lambda network, x, gain: ((network(x) - gain * x).detach() * (network(x) - gain * x)).mean(1),
        "is another one: part of it is cut off",
    ),
}


@pytest.mark.parametrize("name", CUT)
def test_a_gradient_that_does_not_arrive_is_noticed(name: str) -> None:
    answer, said = CUT[name]
    verdict = check(LOSS, answer)
    assert (verdict.status, verdict.kind) == ("wrong", "gradient"), verdict
    assert verdict.message.startswith("The result is right, but")
    assert said in verdict.message


@pytest.mark.parametrize("answer", [loss, by_rows, in_place], ids=lambda function: function.__name__)
def test_a_gradient_that_arrives_another_way_is_right(answer: Callable[..., Tensor]) -> None:
    assert check(LOSS, answer).passed
    assert check(replace(LOSS, trains=()), answer).passed


def test_where_nothing_is_trained_no_gradient_is_asked_for() -> None:
    assert check(replace(LOSS, trains=()), under_no_grad).passed


def test_a_result_that_keeps_its_graph_where_ours_does_not_is_told() -> None:
    weight = torch.ones(1, requires_grad=True)

    def kept(network: Any, x: Tensor, gain: Tensor) -> Tensor:
        return loss(network, x, gain) * weight

    plain = replace(LOSS, trains=())
    verdict = check(plain, kept)
    assert verdict.kind == "graph"
    assert "still holds the graph" in verdict.message
    assert "return x.detach()" in verdict.message
    number = replace(plain, reference=lambda network, x, gain: float(loss(network, x, gain).mean()))
    assert check(number, lambda network, x, gain: kept(network, x, gain).mean()).kind == "graph"
    assert check(number, lambda network, x, gain: kept(network, x, gain).mean().item()).passed
    assert check(number, lambda network, x, gain: loss(network, x, gain).mean()).passed


def test_gradients_and_graphs_survive_the_way_to_another_process(tmp_path: Any) -> None:
    file = tmp_path / "outputs.npz"
    for answer, kind in ((loss, "passed"), (CUT["the answer"][0], "gradient")):
        run(LOSS, answer).save(file)
        assert judge(LOSS, Outputs.load(file)).kind == kind
    assert all(ran.calls == () for ran in Outputs.load(file).cases)  # what is not needed there stays here
