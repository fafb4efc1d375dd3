"""The calculator: controls and boxes, a table that follows them, and words where a number makes no sense."""

from typing import Any

import pytest

from diffusion_lessons.course.widgets import explore_costs
from diffusion_lessons.course.widgets.calculator import lasting, number, paid, scaled
from diffusion_lessons.metrics.planning import counts, planned

CARDS = {"slow": 1e12, "fast": 4e12}


@pytest.fixture(scope="module")
def shown() -> Any:
    return explore_costs(CARDS, pixels=(64,))


def test_the_first_table_stands_in_pages_without_a_kernel(shown: Any) -> None:
    html = shown._repr_html_()
    assert "64×64 pixels, in latents, slow" in html
    assert html.count("<tr>") == 5 and "money, at your price" in html
    assert "share (any text)" in html and "gpu (slow, fast)" in html
    costs = planned(counts(64, True, 192), 25, 7.5, 1e9, 32, 1e12, 0.28, 2.0)
    assert lasting(costs.training_seconds) in html and scaled(costs.picture_flops) in html


def test_controls_change_the_table(shown: Any) -> None:
    pytest.importorskip("ipywidgets")
    _, _, width, _, _, gpu, share, pictures, price, status, failure, view = shown.widget().children
    width.value = "64"
    before = view.value
    gpu.value = "fast"
    costs = planned(counts(64, True, 64), 25, 7.5, 1e9, 32, 4e12, 0.28, 2.0)
    assert view.value != before and lasting(costs.training_seconds) in view.value
    share.value, price.value = "0,5", "4"
    costs = planned(counts(64, True, 64), 25, 7.5, 1e9, 32, 4e12, 0.5, 4.0)
    assert f"<td>{paid(costs.training_money)}</td>" in view.value
    assert failure.value == "" and "ready (" in status.value
    for box, wrong, message in (
        (share, "1.5", "a share in (0, 1]"),
        (share, "half", "share is a number such as 0.3"),
        (pictures, "-3", "expected positive numbers"),
        (price, "", "price is a number such as"),
    ):
        kept, good = view.value, box.value
        box.value = wrong
        assert message in failure.value and 'role="alert"' in failure.value
        assert view.value == kept and "setting before" in status.value
        box.value = good
        assert failure.value == ""


def test_numbers_are_read_and_written_as_people_do() -> None:
    assert (number("x", "1e9"), number("x", "0,3")) == (1e9, 0.3)
    assert [scaled(v) for v in (950, 999.9, 1500, 2e12, 7e21)] == ["950 ", "1 k", "1.5 k", "2 T", "7 Z"]
    assert [paid(v) for v in (0.0712, 13.46, 99.96, 3312, 1.5e6)] == [
        "0.0712",
        "13.5",
        "100",
        "3,312",
        "1,500,000",
    ]
    assert [lasting(v) for v in (0.002, 5, 90, 7200, 200000, 4e7)] == [
        "2 ms", "5 s", "1.5 minutes", "2 hours", "2.31 days", "1.27 years",
    ]  # fmt: skip
