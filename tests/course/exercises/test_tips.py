"""Every exception that students meet has a tip that fits; all of these are really raised."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from diffusion_lessons.course.exercises.outputs import Failure, Frame
from diffusion_lessons.course.exercises.tips import BATCH, BROADCAST, SWAPPED, tip
from diffusion_lessons.course.exercises.values import plain

X = torch.ones(3, 1, 8, 6)
WHOLE: Any = 1.0
P = torch.ones(2, requires_grad=True)


def early() -> Any:
    if math.pi < 3:
        found = 1
    return found


def endless() -> Any:
    return endless()


def twice() -> Any:
    loss = (P**2).sum()
    loss.backward()
    loss.backward()


def changed_in_place() -> Any:
    hidden = P.exp()
    hidden += 1
    hidden.sum().backward()


def pairs() -> Any:
    first, second = X.shape
    return first, second


def assigned() -> Any:
    pair: Any = (1, 2)
    pair[0] = 3


def named(a: Any) -> Any:
    return a


RAISED: dict[str, tuple[Callable[[], Any], str]] = {
    "unknown name": (lambda: nothing, "spelt right, and was the cell"),  # type: ignore[name-defined]  # noqa: F821
    "unbound": (early, "a value before that line"),
    "exit": (lambda: exit(), "Leave exit() out"),
    "recursion": (endless, "calls itself without end"),
    "zero": (lambda: 1 / 0, "is 0 there"),
    "overflow": (lambda: math.exp(1000), "past all bounds"),
    "module": (lambda: __import__("numpie"), "what the lesson has imported"),
    "key": (lambda: {}["x0"], "print its keys()"),
    "next": (lambda: next(iter([])), "nothing left to take"),
    "list index": (lambda: [1, 2][2], "the last is the length − 1"),
    "tensor index": (lambda: torch.ones(3)[3], "the last is the length − 1"),
    "tensor of indices": (lambda: torch.ones(3)[torch.tensor([5])], "the last is the length − 1"),
    "pop": (lambda: [].pop(), "does a loop run too often?"),
    "too many indices": (lambda: torch.ones(3)[0, 1], "fewer dimensions"),
    "dimension": (lambda: torch.ones(3).sum(2), "fewer dimensions"),
    "float index": (lambda: [1, 2][WHOLE], "int(…)"),
    "float tensor index": (lambda: X[torch.tensor([0.0])], "int(…)"),
    "only integer tensors": (lambda: X[1.0], "int(…)"),  # type: ignore[index]
    "range of a float": (lambda: range(2.0), "int(…)"),  # type: ignore[arg-type]
    "keyword": (lambda: named(b=1), "no argument of this name"),  # type: ignore[call-arg]
    "torch keyword": (lambda: X.sum(dims=1), "line `def …`, or help(…)"),  # type: ignore[call-overload]
    "twice given": (lambda: named(1, a=2), "by place and by name"),  # type: ignore[misc]
    "positional": (lambda: named(1, 2), "Compare the arguments"),  # type: ignore[call-arg]
    "missing argument": (lambda: named(), "Compare the arguments"),  # type: ignore[call-arg]
    "stack of numbers": (lambda: torch.stack([1.0, 2.0]), "a list of tensors"),  # type: ignore[list-item]
    "sqrt of a number": (lambda: torch.sqrt(2.0), "torch.tensor(…) makes one"),  # type: ignore[arg-type]
    "math of a tensor": (lambda: math.sqrt(X), "reduce it first"),
    "float of many": (lambda: float(X), "reduce it first"),
    "item of many": (lambda: X.item(), "reduce it first"),
    "called": (lambda: X(0), "taken with […]"),  # type: ignore[operator]
    "subscript": (lambda: named[0], "a function to call"),  # type: ignore[index]
    "subscript of a number": (lambda: WHOLE[0], "a single number"),
    "item assignment": (assigned, "cannot be changed in place"),
    "drawn": (lambda: torch.multinomial(torch.ones(3), 5), "replacement=True"),
    "iterable": (lambda: list(3), "did you mean range(…)?"),  # type: ignore[call-overload]
    "0-d loop": (lambda: list(torch.tensor(1.0)), "did you mean range(…)?"),
    "unpack": (pairs, "as many as the results"),
    "unpack a number": (lambda: (lambda a: [*a])(*[3]), "did you mean range(…)?"),
    "length": (lambda: len(3), "no length"),  # type: ignore[arg-type]
    "length of a 0-d": (lambda: len(torch.tensor(1)), "no length"),
    "operands": (lambda: [1] - 2, "print type(…) of both"),  # type: ignore[operator]
    "None": (lambda: None * 2, "print type(…) of both"),  # type: ignore[operator]
    "a list times": (lambda: [1] * 2.0, "print type(…) of both"),  # type: ignore[operator]
    "compared": (lambda: "a" < 1, "print type(…) of both"),  # type: ignore[operator]
    "negative root": (lambda: math.sqrt(-1), "negative or 0"),
    "zip": (lambda: list(zip([1], [1, 2], strict=True)), "different lengths"),
    "attribute of None": (lambda: [2, 1].reverse().sum, "It is None"),  # type: ignore[attr-defined]
    "attribute of a float": (lambda: (2.0).sqrt(), "torch.tensor(…) makes one"),  # type: ignore[attr-defined]
    "attribute of a list": (lambda: [1].view(1), "torch.tensor(…) makes one"),  # type: ignore[attr-defined]
    "attribute of a function": (lambda: X.sum.item(), "call it, with (…)"),  # type: ignore[attr-defined]
    "attribute": (lambda: X.squared(), "spelt right? dir(…)"),  # type: ignore[operator]
    "if": (lambda: 1 if X > 0 else 2, "torch.where"),
    "numpy if": (lambda: 1 if np.ones(3) > 0 else 2, "torch.where"),
    "leaf": (lambda: P.mul_(2), "Make a new tensor"),
    "in place": (changed_in_place, "Make a new tensor"),
    "no grad": (lambda: X.sum().backward(), "No graph is kept"),
    "second backward": (twice, "call it once"),
    "backward of many": (lambda: (P * 2).backward(), "take .sum() or .mean()"),
    "unused": (lambda: torch.autograd.grad((2 * P).sum(), P.detach().requires_grad_()), "does not depend"),
    "numpy of a graph": (lambda: (2 * P).numpy(), "Stay with torch"),
    "mean of whole": (lambda: torch.arange(3).mean(), ".float() and .long()"),
    "matmul dtypes": (lambda: torch.ones(2, 2) @ torch.ones(2, 2).double(), "a.to(b.dtype)"),
    "index dtype": (lambda: torch.ones(3).gather(0, torch.zeros(1)), ".float() and .long()"),
    "into whole": (lambda: torch.arange(3).mul_(0.5), ".float() and .long()"),
    "view": (lambda: X.view(5, -1), "just as many numbers"),
    "reshape": (lambda: X.reshape(7, 7), "just as many numbers"),
    "expand": (lambda: torch.ones(3).expand(3, 4), "of size 1"),
    "mm": (lambda: torch.ones(2, 3) @ torch.ones(2, 3), "needs (n, k) times (k, m)"),
    "bmm": (lambda: torch.ones(2, 4, 3) @ torch.ones(2, 4, 3), "is the right pair of axes swapped"),
    "cat": (lambda: torch.cat([torch.ones(2, 3), torch.ones(2, 4)]), "along which cat joins"),
    "stack": (lambda: torch.stack([torch.ones(2), torch.ones(3)]), "along which cat joins"),
    "stack not cat": (lambda: torch.stack([torch.ones(1), torch.ones(7)]), "Is cat meant?"),
    "assert": (lambda: exec("assert 0 > 1, 'above 1'"), "this `assert` asks for"),
    "0-d": (lambda: torch.tensor(0.3)[0], "leave the […] out"),
    "pair plus": (lambda: (X, X) + X, "a tuple, several results in one"),  # type: ignore[operator]
    "tensor times pair": (lambda: torch.mul(X, (1.0, 2.0)), "a tuple, several results in one"),
    "number @": (lambda: 0.5 @ X, "@ multiplies matrices"),  # type: ignore[operator]
    "flat cdist": (lambda: torch.cdist(X.flatten(), X.flatten()), "flatten(1) keeps one for each sample"),
    "not a tensor's": (lambda: (3).walk, "Something else than this int"),  # type: ignore[attr-defined]
    "a tensor's": (lambda: (3).view(1), "torch.tensor(…) makes one"),  # type: ignore[attr-defined]
    "pairs by place": (lambda: pairwise([1, 2, 3])[0], "list(…) makes a list of it"),  # type: ignore[index]
    "length of zip": (lambda: len(zip([1], [2])), "list(…) makes a list of it"),  # type: ignore[arg-type]  # noqa: B905
    "a time's alpha": (lambda: (300).alpha, "path(t) makes one of a time"),  # type: ignore[attr-defined]
    "a tensor for a level": (lambda: X.like(X), "path(t) makes one of a time"),  # type: ignore[operator]
    "layer": (lambda: nn.Conv2d(3, 4, 1)(X), "another width"),
    "norm": (lambda: nn.GroupNorm(2, 4)(torch.ones(2, 6, 3)), "another width"),
    "permute": (lambda: X.permute(0, 1), "print both shapes"),
}  # fmt: skip


@pytest.mark.parametrize("name", RAISED)
def test_an_exception_has_a_tip_that_fits(name: str) -> None:
    function, expected = RAISED[name]
    with pytest.raises(BaseException) as caught:
        function()
    said = tip(Failure("exception", type(caught.value).__name__, str(caught.value)), {})
    assert expected in said, (type(caught.value), str(caught.value), said)


def of_shapes(a: torch.Tensor, b: torch.Tensor, line: str) -> str:
    with pytest.raises(RuntimeError) as caught:
        a @ b if "@" in line else a * b
    failure = Failure("exception", "RuntimeError", str(caught.value), (Frame(2, line, "f"),))
    return tip(failure, {"x": plain(X), "t": plain(torch.ones(3))})


def test_shapes_that_do_not_meet_are_told_apart() -> None:
    """One factor a sample is only one of the ways; a product of matrices is another."""
    assert of_shapes(torch.ones(3), X, "return factor * x") == BATCH
    assert of_shapes(X, torch.ones(3), "x * factor") == BATCH
    assert of_shapes(torch.ones(4), X, "x * factor") == BROADCAST  # no factor for each of three samples
    assert of_shapes(torch.ones(3, 2, 1, 1), torch.ones(3, 1, 8, 6).expand(3, 3, 8, 6), "a * b") == BROADCAST
    heads = torch.ones(2, 4, 5, 3)
    assert of_shapes(heads, heads.transpose(1, 2), "scores = query @ key.transpose(1, 2)") == SWAPPED


def test_a_product_inside_a_layer_is_not_the_students_own() -> None:
    said = "mat1 and mat2 shapes cannot be multiplied (5x10 and 2x2)"
    for line, expected in (
        ("classifier(x, t)", "takes another shape"),
        ("x @ weights", "(n, k) times (k, m)"),
    ):
        assert expected in tip(Failure("exception", "RuntimeError", said, (Frame(3, line, "f"),)), {})
