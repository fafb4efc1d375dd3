"""References of lesson 19 that are no functions of the system: held against PyTorch or a small example."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import mse_loss, scaled_dot_product_attention
from torch.utils.flop_counter import FlopCounterMode

from diffusion_lessons.course.bank.lesson_19 import (
    BLOCKS,
    accumulated,
    attention_in_blocks,
    count_flops,
    faster_together,
    own_seconds,
)
from diffusion_lessons.course.exercises.check import check
from diffusion_lessons.networks.attention import SelfAttention

DRAWN = torch.Generator().manual_seed(0)


def test_flops_are_those_of_the_counter() -> None:
    layers: list[tuple[Any, ...]] = [
        ("conv", 3, 8, 5, 2),
        ("conv", 8, 24, 3, 3),
        ("conv", 24, 24, 3, 1),
        ("attention", 24, 3),
    ]
    with torch.device("meta"):
        real: list[nn.Module] = [nn.Conv2d(i, o, k, s, k // 2) for _, i, o, k, s in layers[:3]]
        x = torch.empty(1, 3, 31, 22)
        real.append(SelfAttention(24, head_dim=8))
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            for layer, flops in zip(real, count_flops(layers, 31, 22), strict=True):
                with FlopCounterMode(display=False) as counter:
                    x = layer(x)
                assert counter.get_total_flops() == flops
    assert count_flops([("linear", 7, 9)], 31, 22) == [2 * 7 * 9]


@pytest.mark.parametrize("block", [1, 7, 64, 100])
def test_attention_in_blocks_is_attention(block: int) -> None:
    q, k, v = (3 * torch.randn(2, 3, n, 16, generator=DRAWN) for n in (40, 64, 64))
    true = scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(attention_in_blocks(q, k, v, block), true, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("alternative", [-1, *range(len(BLOCKS.alternatives))])
def test_every_right_way_to_take_blocks_passes_with_other_draws(alternative: int, seed: int) -> None:
    answer = BLOCKS.reference if alternative < 0 else BLOCKS.alternatives[alternative]
    assert check(BLOCKS, answer, seed=seed).passed


def _with_the_first_maximum(query: Tensor, key: Tensor, value: Tensor, block: int) -> Tensor:
    most: Any = None
    total: Any = 0.0
    mixed: Any = 0.0
    for keys, values in zip(key.split(block, -2), value.split(block, -2), strict=True):
        scores = query @ keys.mT / query.shape[-1] ** 0.5
        most = scores.amax(-1, keepdim=True) if most is None else most
        weights = torch.exp(scores - most)
        total, mixed = total + weights.sum(-1, keepdim=True), mixed + weights @ values
    return mixed / total


def _with_one_maximum(query: Tensor, key: Tensor, value: Tensor, block: int) -> Tensor:
    most: Any = torch.tensor(-torch.inf)
    total: Any = 0.0
    mixed: Any = 0.0
    for keys, values in zip(key.split(block, -2), value.split(block, -2), strict=True):
        scores = query @ keys.mT / query.shape[-1] ** 0.5
        higher = torch.maximum(most, scores.max())
        weights, kept, most = torch.exp(scores - higher), torch.exp(most - higher), higher
        total, mixed = kept * total + weights.sum(-1, keepdim=True), kept * mixed + weights @ values
    return mixed / total


@pytest.mark.parametrize(
    ("answer", "name"),
    [(_with_the_first_maximum, "maximum-of-the-first-block"), (_with_one_maximum, "maximum-of-all-queries")],
)
def test_a_maximum_that_does_not_follow_the_scores_is_named(answer: Any, name: str) -> None:
    assert check(BLOCKS, answer).misconception == name


@pytest.mark.parametrize("most", [0.3, 1e9])
def test_parts_have_the_gradient_of_the_whole_clipped_as_torch_clips(most: float) -> None:
    x, y = torch.randn(11, 4, generator=DRAWN), torch.randn(11, generator=DRAWN)
    weights = nn.Parameter(torch.randn(4, generator=DRAWN))

    def gradient_of(rows: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(mse_loss(rows @ weights, wanted), weights)[0]

    weights.grad = gradient_of(x, y)
    nn.utils.clip_grad_norm_([weights], most)
    for size in (1, 3, 4, 11, 20):
        torch.testing.assert_close(accumulated(gradient_of, x, y, size, most), weights.grad)


def test_own_seconds_of_a_small_trace() -> None:
    events = [
        ("step", 0.0, 10.0),
        ("conv", 1.0, 4.0),
        ("copy", 2.0, 3.0),
        ("conv", 5.0, 9.0),
        ("read", 12.0, 13.0),
    ]
    assert own_seconds(events) == {"step": 3.0, "conv": 6.0, "copy": 1.0, "read": 1.0}


def test_own_seconds_are_the_profilers() -> None:
    from torch.profiler import ProfilerActivity, profile

    layer, x = SelfAttention(16, head_dim=8), torch.randn(2, 16, 8, 8)
    with profile(activities=[ProfilerActivity.CPU]) as trace:
        layer(x).sum().backward()
    spans = [(each.name, each.time_range.start, each.time_range.end) for each in trace.events()]
    own = own_seconds(sorted(spans, key=lambda span: (span[1], -span[2])))
    theirs = {each.key: each.self_cpu_time_total for each in trace.key_averages()}
    whole = sum(theirs.values())
    assert own.keys() == theirs.keys()
    assert max(abs(own[name] - theirs[name]) for name in theirs) < 0.02 * whole


def test_amdahl() -> None:
    assert faster_together([0.5], [10.0]) == pytest.approx(1 / 0.55)
    assert faster_together([0.5, 0.5], [2.0, 4.0]) == pytest.approx(1 / 0.375)
    assert faster_together([], []) == 1
