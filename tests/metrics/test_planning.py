"""The calculator's formulas, against networks with numbers in them and against the page on scale."""

import math
from typing import Any

import pytest
import torch

from diffusion_lessons.metrics.planning import HALF, counts, planned
from diffusion_lessons.metrics.training_cost import BYTES, PEAK
from diffusion_lessons.networks import UNet, UNetConfig
from diffusion_lessons.networks.counting import attention_bytes, attention_flops, unet_costs

SMALL = counts(64, True, 32)  # latents of 8×8
EASY: dict[str, Any] = dict(steps=10, guidance=1.0, pictures=1e6, batch=4, peak=1e12, share=0.5, price=3.0)


def test_counts_are_those_of_the_network() -> None:
    config = UNetConfig(4, 4, 32, (1, 2, 4, 4), 2, (0, 1, 2, 3), 32)
    costs = unet_costs(config, 8, 8).values()
    assert SMALL.parameters == sum(p.numel() for p in UNet(config).parameters())
    assert SMALL.flops == sum(each.flops for each in costs)
    assert 2.9 * SMALL.flops < SMALL.training_flops <= 3 * SMALL.flops


def test_what_is_kept_grows_with_the_places_and_has_no_maps() -> None:
    """Four times the places keep about four times as much: of grids of 16 and 32, which attend everywhere.

    What the vector of the time leaves does not grow; a map of attention would grow sixteen-fold.
    """
    small, large = counts(128, True, 32), counts(256, True, 32)
    assert 3.4 < large.kept / small.kept < 4
    assert large.parameters == small.parameters == SMALL.parameters
    assert large.training_flops > 4.2 * small.training_flops  # the maps are computed


def test_pixels_need_no_decoder() -> None:
    pixels = counts(64, False, 32)
    assert (pixels.decoder_flops, pixels.decoder_parameters) == (0, 0)
    assert SMALL.decoder_flops > 0 and pixels.flops > 20 * SMALL.flops


def test_the_formulas() -> None:
    found = planned(SMALL, **EASY)
    assert found.picture_flops == 10 * SMALL.flops + SMALL.decoder_flops
    assert found.picture_seconds == pytest.approx(found.picture_flops / 0.5e12)
    assert found.training_flops == 1e6 * SMALL.training_flops
    assert found.training_money == pytest.approx(found.training_seconds / 3600 * 3)
    assert found.training_bytes == sum(BYTES.values()) * SMALL.parameters + HALF * 4 * SMALL.kept
    guided = planned(SMALL, **EASY | {"guidance": 7.5})
    assert guided.picture_flops - SMALL.decoder_flops == 2 * 10 * SMALL.flops
    assert planned(SMALL, **EASY | {"price": 0.0}).training_money == 0


@pytest.mark.parametrize(
    "wrong",
    [
        *({"share": 0.0}, {"share": 1.2}, {"price": -1.0}, {"steps": 0}, {"pictures": 0}),
        *(
            {name: number}
            for name in ("share", "price", "pictures", "peak")
            for number in (math.nan, math.inf)
        ),
    ],
)
def test_numbers_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"a share in \(0, 1\]"):
        planned(SMALL, **EASY | wrong)


@pytest.mark.parametrize(("pixels", "latents", "width"), [(64, True, 33), (36, True, 32), (60, False, 32)])
def test_networks_that_cannot_be_are_refused(pixels: int, latents: bool, width: int) -> None:
    with pytest.raises(
        ValueError, match=r"expected a width .* and a grid that halves 3 times, got .*grid of"
    ):
        counts(pixels, latents, width)


def test_attention_by_formula_is_what_the_counter_says() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    from diffusion_lessons.networks.attention import attention

    q, k, v = (torch.zeros(1, 3, 50, 8, device="meta") for _ in range(3))
    with FlopCounterMode(display=False) as counter:
        attention(q, k, v)
    assert counter.get_total_flops() == attention_flops(50, 8, 3)


def test_the_bytes_of_attention_are_what_its_operations_read_and_write() -> None:
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    from diffusion_lessons.networks.attention import attention

    moved: list[int] = []

    class Traffic(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            made = function(*args, **(kwargs or {}))
            shared = {x.untyped_storage()._cdata for x in tree_leaves(args) if isinstance(x, torch.Tensor)}
            if made.untyped_storage()._cdata not in shared:  # no view
                moved.extend(x.nbytes for x in tree_leaves((args, made)) if isinstance(x, torch.Tensor))
            return made

    q, k, v = (torch.randn(1, 3, 50, 8) for _ in range(3))
    with Traffic():
        attention(q, k, v)
    assert sum(moved) == attention_bytes(50, 8, 3)
    assert attention_bytes(50, 8, 3, size=2, written=False) == 2 * 3 * 4 * 50 * 8


def test_the_share_that_a_training_reached_gives_its_hours() -> None:
    """A quarter of an A100's peak, one hour: as many FLOPs as the data sheet says."""
    pictures = 0.25 * PEAK["A100"] * 3600 / SMALL.training_flops
    found = planned(SMALL, **EASY | {"pictures": pictures, "peak": PEAK["A100"], "share": 0.25, "price": 2.0})
    assert found.training_seconds == pytest.approx(3600) and found.training_money == pytest.approx(2)
