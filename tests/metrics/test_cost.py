"""What a run of sampling costs."""

import pytest
import torch

from diffusion_lessons.generate import generate, labels_for
from diffusion_lessons.metrics.cost import count_evaluations, passes, run_seconds
from tests.tiny_checkpoint import tiny


def test_only_guidance_away_from_0_and_1_asks_twice() -> None:
    assert [passes(scale) for scale in (0.0, 0.5, 1.0, 2.0)] == [1, 2, 1, 2]


@pytest.mark.parametrize("guidance", [1.0, 2.0])
@pytest.mark.parametrize(("sampler", "asked"), [("ddim", 3), ("ddpm", 3), ("dpmpp-2m", 3), ("heun", 5)])
def test_what_the_network_was_asked_is_counted(sampler: str, asked: int, guidance: float) -> None:
    model = tiny()
    with count_evaluations(model.network) as count:
        how = {"sampler": sampler, "steps": 3, "guidance": guidance}
        generate(model, labels_for(model, 5), batch=2, device="cpu", **how)
    assert count.calls == 3 * asked  # three batches
    assert count.pictures == 5 * asked * passes(guidance)
    model.network(torch.zeros(1, 1, 8, 8), torch.zeros(1), None)
    assert count.calls == 3 * asked  # what comes after is not counted


def test_the_seconds_of_a_run_add_up_over_its_calls() -> None:
    calls = [0.1 + 0.01 * 2 * size for size in (64, 64, 22)]  # guided: each sees twice the pictures
    assert run_seconds(150, 64, 25, 2.0, 0.1, 0.01) == pytest.approx(25 * sum(calls))
    assert run_seconds(1, 64, 1, 1.0, 0.1, 0.01) == pytest.approx(0.11)
    with pytest.raises(ValueError, match="batch=0"):
        run_seconds(1, 0, 1, 1.0, 0.1, 0.01)
