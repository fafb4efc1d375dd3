"""The canvas to draw a hole on, in a browser, by mouse, finger and keyboard; a plain object is its model."""

import base64
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import pytest
import torch

from diffusion_lessons.course.widgets.panels import png, to_pixels

pytestmark = pytest.mark.slow
SIZE = 64


def html() -> str:
    home = files("diffusion_lessons.course.widgets")
    script, style = (home.joinpath(name).read_text("utf-8") for name in ("drawing.js", "drawing.css"))
    ramp = torch.linspace(-1, 1, 3 * SIZE * SIZE).view(1, 3, SIZE, SIZE).numpy()
    picture = base64.b64encode(png(to_pixels(ramp)[0])).decode()
    return f"""<style>{style}</style><div id="el"></div><script type="module">
    {script.replace("export default { render };", "")}
    const raw = Uint8Array.from(atob("{picture}"), (c) => c.charCodeAt(0));
    const spec = {{ title: "A scene", width: {SIZE}, height: {SIZE}, brush: 10 }};
    const store = {{ spec, picture: new DataView(raw.buffer), asked: 0, saved: 0 }};
    store.mask = "0".repeat({SIZE * SIZE});
    const model = {{
      get: (name) => store[name],
      set: (name, value) => {{ store[name] = value; }},
      save_changes: () => {{ store.saved += 1; }},
    }};
    window.store = store;
    render({{ model, el: document.getElementById("el") }});
    </script>"""


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    context = browser.new_context(has_touch=True)
    opened = context.new_page()
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.set_content(html())
    opened.wait_for_selector(".dl-draw[data-ready=true]")
    yield opened
    assert errors == []
    context.close()


def rows(page: Any) -> dict[int, tuple[int, int]]:
    """Of each row of the mask that was sent, the first and the last column of its hole."""
    text = page.evaluate("store.mask")
    lines = {row: text[row * SIZE : (row + 1) * SIZE] for row in range(SIZE)}
    return {row: (line.index("1"), line.rindex("1")) for row, line in lines.items() if "1" in line}


def test_a_stroke_of_the_mouse_is_a_hole_and_fill_sends_it(page: Any) -> None:
    box = page.locator("canvas").bounding_box()
    zoom = box["width"] / SIZE
    page.mouse.move(box["x"] + 10 * zoom, box["y"] + 10 * zoom)
    page.mouse.down()
    page.mouse.move(box["x"] + 30 * zoom, box["y"] + 10 * zoom, steps=4)
    page.mouse.up()
    assert page.evaluate("store.asked") == 0  # drawing alone asks nobody
    page.get_by_role("button", name="Fill").click()
    assert page.evaluate("[store.asked, store.saved]") == [1, 1]
    assert rows(page) == dict.fromkeys(range(5, 15), (5, 34))
    page.get_by_role("button", name="Clear").click()
    page.get_by_role("button", name="Fill").click()
    assert rows(page) == {}


def test_the_keyboard_moves_paints_erases_and_fills(page: Any) -> None:
    page.locator("canvas").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", " ", "Enter"):
        page.keyboard.press(key)
    assert rows(page) == dict.fromkeys(range(29, 39), (31, 40))
    for key in ("ArrowUp", "Delete", "Enter"):
        page.keyboard.press(key)
    assert rows(page) == dict.fromkeys(range(37, 39), (31, 40))
    assert page.evaluate("store.asked") == 2
    assert "Brush at column 36, row 32" in page.locator("output").inner_text()


def test_a_finger_paints_and_erases(page: Any) -> None:
    box = page.locator("canvas").bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.touchscreen.tap(*middle)
    assert "Hole: 2 %" in page.locator("output").inner_text()
    page.get_by_role("button", name="Erase").click()
    page.touchscreen.tap(*middle)
    assert "Hole: 0 %" in page.locator("output").inner_text()


def test_the_brush_stays_on_the_picture_where_the_pointer_leaves_it(page: Any) -> None:
    box = page.locator("canvas").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + 3 * box["width"], box["y"] + box["height"] / 2, steps=4)
    page.mouse.up()
    assert "Brush at column 64, row 32" in page.locator("output").inner_text()
    page.get_by_role("button", name="Fill").click()
    assert rows(page) == dict.fromkeys(range(27, 37), (27, 63))
