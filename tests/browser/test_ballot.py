"""A blind vote in a browser, by mouse, finger and keyboard; a plain object is its model."""

import base64
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import numpy as np
import pytest

from diffusion_lessons.course.widgets.panels import png

pytestmark = pytest.mark.slow
PAIRS, HEIGHT, WIDTH = 4, 8, 6


def html() -> str:
    home = files("diffusion_lessons.course.widgets")
    script, style = (home.joinpath(name).read_text("utf-8") for name in ("ballot.js", "ballot.css"))
    shades = np.arange(2 * PAIRS, dtype=np.uint8).reshape(PAIRS, 2) * 30 + 10
    picture = base64.b64encode(png(np.kron(shades, np.ones((HEIGHT, WIDTH), np.uint8))[..., None])).decode()
    return f"""<style>{style}</style><div id="el"></div><script type="module">
    {script.replace("export default { render };", "")}
    const raw = Uint8Array.from(atob("{picture}"), (c) => c.charCodeAt(0));
    const spec = {{ question: "Which?", asked: ["a 3", "a 5", "", "a 7"], zoom: 24 }};
    Object.assign(spec, {{ width: {WIDTH}, height: {HEIGHT} }});
    const store = {{ spec, picture: new DataView(raw.buffer), choices: "", saved: "", sent: 0 }};
    const listeners = {{}};
    const model = {{
      get: (name) => store[name],
      set: (name, value) => {{ store[name] = value; }},
      save_changes: () => {{ store.sent += 1; }},
      on: (name, heard) => {{ listeners[name] = heard; }},
    }};
    window.store = store;
    window.kernel = (text) => {{ store.saved = text; listeners["change:saved"](); }};
    render({{ model, el: document.getElementById("el") }});
    </script>"""


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    context = browser.new_context(has_touch=True, viewport={"width": 390, "height": 700})
    opened = context.new_page()
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.set_content(html())
    opened.wait_for_selector(".dl-ballot[data-ready=true]")
    yield opened
    assert errors == []
    context.close()


def shades(page: Any) -> list[int]:
    """The grey in the middle of both pictures."""
    pixel = "(it) => it.getContext('2d').getImageData(it.width / 2, it.height / 2, 1, 1).data[0]"
    return [canvas.evaluate(pixel) for canvas in page.locator("canvas").all()]


def test_buttons_pictures_and_fingers_vote_and_the_next_pair_comes(page: Any) -> None:
    assert shades(page) == [10, 40]
    assert "Pair 1 of 4: a 3" in page.locator("output").inner_text()
    page.get_by_role("button", name="Right →").click()
    assert (page.evaluate("store.choices"), shades(page)) == ("R", [70, 100])
    page.get_by_role("button", name="The left picture is better").tap()
    assert (page.evaluate("store.choices"), shades(page)) == ("RL", [130, 160])
    assert page.locator("output").inner_text() == "Pair 3 of 4"
    page.get_by_role("button", name="Tie").tap()
    page.get_by_role("button", name="Back").click()
    assert (page.evaluate("store.choices"), shades(page)) == ("RL", [130, 160])


def test_the_keyboard_votes_and_goes_back(page: Any) -> None:
    page.locator(".dl-ballot").focus()
    for key in ("ArrowLeft", "ArrowDown", "Backspace", "ArrowRight"):
        page.keyboard.press(key)
    assert page.evaluate("store.choices") == "LR"
    assert page.evaluate("store.sent") == 4
    page.keyboard.press("Control+ArrowLeft")
    assert page.evaluate("store.choices") == "LR"


def test_a_key_that_is_held_down_is_one_vote(page: Any) -> None:
    page.locator(".dl-ballot").focus()
    for _ in range(3):
        page.keyboard.down("ArrowLeft")
    page.keyboard.up("ArrowLeft")
    assert page.evaluate("store.choices") == "L"


def test_after_the_last_pair_no_vote_counts_and_the_votes_can_be_saved(page: Any) -> None:
    page.locator(".dl-ballot").focus()
    for _ in range(6):
        page.keyboard.press("ArrowLeft")
    assert page.evaluate("store.choices") == "LLLL"
    assert page.locator("output").inner_text() == "Done: 4 votes. Run the next cell."
    assert page.get_by_role("button", name="Tie").is_disabled()
    save = page.get_by_role("button", name="Save the votes")
    assert save.is_disabled()  # the kernel has not said yet who was voted for
    page.evaluate("kernel('the votes')")
    with page.expect_download() as waited:
        save.click()
    assert waited.value.suggested_filename == "votes.json"
    assert waited.value.path().read_text() == "the votes"


def test_both_pictures_fit_a_telephone(page: Any) -> None:
    boxes = [canvas.bounding_box() for canvas in page.locator("canvas").all()]
    assert boxes[1]["x"] > boxes[0]["x"] + boxes[0]["width"] - 1
    assert boxes[1]["x"] + boxes[1]["width"] <= 390
