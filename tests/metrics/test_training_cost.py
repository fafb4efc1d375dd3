"""The figures of docs/scale.md, counted again, and held against what is known of the real networks."""

from pathlib import Path

import pytest

from diffusion_lessons.metrics.training_cost import (
    PEAK,
    SD1,
    SD2,
    Throughput,
    counted,
    drawing,
    hours,
    learning,
    parameters,
    tables,
)

PAGE = Path(__file__).parents[2] / "docs" / "scale.md"


@pytest.mark.slow
def test_every_computed_line_of_the_page_is_what_is_counted_now() -> None:
    page, lines = PAGE.read_text(encoding="utf-8").splitlines(), [line for line in tables() if line]
    assert [line for line in lines if line not in page] == []
    assert [line for line in page if line.startswith("|") and line not in lines] == []


def test_counts_are_those_of_the_published_networks() -> None:
    assert parameters(SD1) == 859_520_964
    assert parameters(SD2) == 865_910_724
    assert drawing(SD1, 256) == pytest.approx(180e9, rel=0.01)
    assert 2.9 < learning(SD1, 256) / drawing(SD1, 256) < 3  # no gradient of pictures and texts is wanted


def test_hours_and_shares_are_inverse() -> None:
    assert hours(PEAK["A100"] * 3600, 0.5) == 2
    one = Throughput(256, 1, PEAK["A100"] / learning(SD1, 256))
    assert one.used(SD1) == pytest.approx(1)


def test_what_is_no_product_is_not_counted() -> None:
    assert counted(lambda: None) == 0
