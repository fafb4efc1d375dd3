"""Factorised and joint attention: they see what they say, and cost what the formula says."""

import pytest
import torch

from diffusion_lessons.experiments import find
from diffusion_lessons.experiments.attention_over_frames import (
    EXPERIMENT,
    FRAMES,
    HEADS,
    WAYS,
    looked,
    measure,
    prepare,
    scores,
    settings,
)
from diffusion_lessons.experiments.clock import Largest
from diffusion_lessons.networks.attention import attention

CLIP = torch.randn(4, 9, 2, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("way", WAYS)
def test_the_scores_that_are_made_are_those_of_the_formula(way: str) -> None:
    made = []

    def watched(query, key, value):
        made.append(query.shape[0] * query.shape[2] * key.shape[2])
        return attention(query, key, value)

    looked(way, CLIP, watched)
    assert sum(made) == scores(way, 4, 9)


def test_joint_attention_sees_all_and_each_half_of_the_other_sees_a_line() -> None:
    """Of one frame there is nothing over time but the place itself, so both see the same."""
    one = CLIP[:1]
    torch.testing.assert_close(looked("factorised", one, attention), looked("joint", one, attention))
    moved = CLIP.clone()
    moved[2, 5] += 1
    assert bool((looked("joint", moved, attention) != looked("joint", CLIP, attention)).any(-1).all())
    # in space a place is seen by its frame, and over time by its place: after both, by all
    assert bool(
        (looked("factorised", moved, attention) != looked("factorised", CLIP, attention)).any(-1).all()
    )

    def time_alone(query, key, value):
        return value if query.shape[0] == 4 else attention(query, key, value)

    gap = (looked("factorised", moved, time_alone) != looked("factorised", CLIP, time_alone)).any(-1).any(-1)
    assert gap[:, 5].all() and not gap[:, :5].any()


def test_the_largest_tensor_of_joint_attention_is_its_scores() -> None:
    with Largest() as largest:
        looked("joint", CLIP, attention)
    assert largest.bytes == 4 * 2 * scores("joint", 4, 9)


def test_a_row_tells_the_formula_the_bytes_and_the_clock() -> None:
    options = {"n": 2, "seed": 0, "device": "cpu", "model": None}
    assert settings(options)[0] == {"frames": 1, "way": "factorised"} and len(settings(options)) == 2 * len(
        FRAMES
    )
    assert find("attention-over-frames") is EXPERIMENT
    few, many = (measure(prepare(options), {"frames": 4, "way": way}, options) for way in WAYS)
    assert few["scores"] == 4 * 256**2 + 256 * 16 and many["scores"] == 1024**2
    assert many["largest_bytes"] == 4 * HEADS * 1024**2
    assert few["calls"] == 2 and few["fused"] > 0 and few["written_quartiles"][0] <= few["written"]
