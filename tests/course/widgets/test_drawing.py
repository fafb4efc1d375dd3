"""A hole drawn on a picture: what the kernel is told, what it shows, and what stays without it."""

from typing import Any

import pytest
import torch

from diffusion_lessons.course.widgets.drawing import Drawing, draw_hole

ALT = "A grey picture, its hole, and two fills."
PICTURE = torch.linspace(-1, 1, 3 * 8 * 6).view(3, 8, 6)


class Fill:
    """Remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[torch.Tensor, str]] = []

    def __call__(self, mask: torch.Tensor, way: str = "white") -> torch.Tensor:
        self.asked.append((mask, way))
        if way == "broken":
            raise ZeroDivisionError("no way")
        return torch.lerp(PICTURE, torch.ones(2, 3, 8, 6), mask)


def hole() -> torch.Tensor:
    mask = torch.zeros(1, 1, 8, 6)
    mask[..., 2:5, 1:4] = 1
    return mask


def drawing(fill: Fill | None = None, **how: Any) -> Drawing:
    return draw_hole(PICTURE, fill or Fill(), hole(), ALT, **how)


def test_the_hole_of_the_lesson_is_filled_at_once_and_stays_in_the_page() -> None:
    fill = Fill()
    shown = drawing(fill, way=["white", "broken"])
    assert [way for _, way in fill.asked] == ["white"]
    assert fill.asked[0][0].equal(hole())
    html = shown._repr_html_()
    assert f'<img alt="{ALT}"' in html
    assert "With a running kernel, draw a hole" in html
    assert "way (white, broken)" in html
    assert repr(shown) == f"Drawing: Picture: {ALT}"


def test_what_is_drawn_in_the_page_comes_to_the_function_when_it_is_asked_for() -> None:
    pytest.importorskip("anywidget")
    fill = Fill()
    way, canvas, status, failure, view = drawing(fill, way=["white", "broken"]).widget().children
    before = view.value
    drawn = torch.zeros(8, 6)
    drawn[7, 5] = drawn[0, 0] = 1
    canvas.mask = "".join(str(int(value)) for value in drawn.flatten().tolist())
    assert len(fill.asked) == 1  # drawing alone asks nobody
    canvas.asked += 1
    assert fill.asked[-1][0].equal(drawn[None, None])
    assert view.value != before
    assert "ready (" in status.value
    way.value = "broken"
    canvas.asked += 1
    assert "ZeroDivisionError: no way" in failure.value
    assert 'role="alert"' in failure.value
    way.value = "white"
    canvas.asked += 1
    assert failure.value == ""


def test_an_empty_hole_is_said_in_the_page() -> None:
    pytest.importorskip("anywidget")
    canvas, status, failure, view = drawing().widget().children
    before = view.value
    canvas.mask = "0" * 48
    canvas.asked += 1
    assert "the hole is empty: draw on the picture first" in status.value
    assert (failure.value, view.value) == ("", before)


def test_the_canvas_begins_with_the_picture_and_the_hole() -> None:
    pytest.importorskip("anywidget")
    canvas, *_ = drawing(title="A canvas").widget().children
    assert (canvas.spec["title"], canvas.spec["width"], canvas.spec["height"]) == ("A canvas", 6, 8)
    assert canvas.picture[:4] == b"\x89PNG"
    assert canvas.mask.count("1") == 9
    assert repr(canvas) == "drawing widget"


def test_without_ipywidgets_the_picture_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    assert sorted(drawing()._repr_mimebundle_()) == ["text/html", "text/plain"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: draw_hole(PICTURE[0], Fill(), hole(), ALT), r"expected a picture \(C, H, W\)"),
        (lambda: draw_hole(PICTURE, Fill(), hole()[0], ALT), r"a hole \(1, 1, H, W\)"),
        (lambda: draw_hole(PICTURE, Fill(), 0 * hole(), ALT), "the hole is empty"),
        (lambda: draw_hole(PICTURE, lambda mask: PICTURE, hole(), ALT), "must return 1 to 8 pictures"),
        (lambda: draw_hole(PICTURE, Fill(), hole(), "short"), "a picture needs alt text"),
        (lambda: drawing(way=[]), "needs values"),
    ],
)
def test_what_does_not_fit_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_choice_of_a_menu_breaks_between_its_words_and_comes_back_as_it_is() -> None:
    pytest.importorskip("anywidget")
    fill = Fill()
    ways = [f"the way number {k}" for k in range(7)]
    menu, canvas, *_ = drawing(fill, way=ways).widget().children
    assert menu.options[6] == ("the \u200bway \u200bnumber \u200b6", "the way number 6")
    menu.value = "the way number 6"
    canvas.asked += 1
    assert fill.asked[-1][1] == "the way number 6"
