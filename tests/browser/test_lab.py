"""JupyterLab in a real browser: everything that we draw, run, played, answered and left without a kernel."""

from collections.abc import Iterator
from typing import Any

import nbformat
import pytest
import torch

from diffusion_lessons import Estimate, trajectory
from tests.browser.browser_harness import JupyterLab, NotebookPage, pixels, serious
from tests.browser.browser_lesson import SETUP, lesson

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def notebook(browser: Any, lab: JupyterLab) -> Iterator[NotebookPage]:
    """The lesson, opened and run once; the tests of this file follow one another on it."""
    with lab.notebook(browser, "lesson.ipynb") as opened:
        opened.run_all()
        yield opened


@pytest.fixture(scope="module")
def expected() -> list[Any]:
    """x at each of the 11 levels as red values, row by row, computed without our drawing code."""
    names: dict[str, Any] = {}
    exec(SETUP, names)
    x0, noise, path = names["x0"], names["noise"], names["path"]

    def exact(x: torch.Tensor, level: Any, condition: Any = None) -> Estimate:
        return Estimate.from_x0(x0, x, level)

    frames = []
    for _, x, _ in trajectory(exact, noise, path.levels(10)):
        tiled = torch.cat([x[0, 0], x[1, 0]], dim=1)  # (28, 56)
        frames.append(((tiled.double() + 1) * 127.5).clamp(0, 255).round().long().flatten().tolist())
    return frames


def of_one_cell(lab: JupyterLab, name: str, code: str) -> str:
    """The file, written beside the lesson, of a notebook with its kernel and this cell alone."""
    made = lesson()
    made.cells = [nbformat.v4.new_code_cell(code.strip(), id="one")]
    nbformat.write(made, lab.folder / f"{name}.ipynb")
    return f"{name}.ipynb"


def scrubber(notebook: NotebookPage) -> Any:
    root = notebook.output(2).locator(".dl-scrub[data-ready=true]")
    root.wait_for()
    root.scroll_into_view_if_needed()
    return root


def test_run_all_ends_without_an_error(notebook: NotebookPage) -> None:
    assert notebook.errors() == []
    assert all(cell["execution_count"] for cell in notebook.cells() if cell["cell_type"] == "code")


@pytest.mark.parametrize("frame", [0, 5, 10])
def test_scrubber_draws_the_pixels_of_its_frame(
    notebook: NotebookPage, expected: list[Any], frame: int
) -> None:
    root = scrubber(notebook)
    root.locator("input").fill(str(frame))
    drawn = pixels(root.locator("canvas").first)
    assert len(drawn) == 28 * 56
    assert max(abs(a - b) for a, b in zip(drawn, expected[frame], strict=True)) <= 1
    assert drawn != expected[(frame + 1) % 11]


def test_scrubber_answers_to_the_keyboard(notebook: NotebookPage) -> None:
    root, keyboard = scrubber(notebook), notebook.page.keyboard
    slider, caption = root.locator("input"), root.locator("output")
    slider.focus()
    keyboard.press("Home")
    assert caption.inner_text().startswith("t = 1000 · ᾱ_t = 4.0e−05 · SNR = 4.04e−05 (−43.9 dB)")
    for key, frame in [("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("End", 10), ("Home", 0)]:
        keyboard.press(key)
        assert root.get_attribute("data-frame") == str(frame), key
        assert slider.get_attribute("aria-valuetext") == caption.inner_text()
    keyboard.press("End")
    assert caption.inner_text() == "t = 0 · ᾱ_t = 1.0000 · SNR = ∞"
    keyboard.press("Home")
    keyboard.press("Space")
    notebook.page.wait_for_function("() => document.querySelector('.dl-scrub').dataset.frame > 2")
    keyboard.press("Space")
    assert "Play" in root.locator("button").first.inner_text()
    assert slider.evaluate("slider => slider === document.activeElement")


def test_the_next_frame_comes_within_17_ms(notebook: NotebookPage, expected: list[Any]) -> None:
    """All panels are drawn in the event itself, so the frame is on the screen at the next refresh.

    The quickest of 60 counts: it says what drawing takes, the others what else runs on this machine.
    """
    place = max(range(28 * 56), key=lambda i: len({frame[i] for frame in expected}))
    shades = [frame[place] for frame in expected]
    red, took = scrubber(notebook).evaluate(
        """async (root, [y, x]) => {
            const [slider, canvas] = ['input', 'canvas'].map((name) => root.querySelector(name));
            const took = [], red = [];
            for (let k = 0; k < 60; k++) {
                await new Promise(requestAnimationFrame);
                const before = performance.now();
                slider.value = k % 11;
                slider.dispatchEvent(new Event('input'));
                took.push(performance.now() - before);
                red.push(canvas.getContext('2d').getImageData(x, y, 1, 1).data[0]); // at once
            }
            return [red, Math.min(...took)];
        }""",
        divmod(place, 56),
    )
    print(f"the quickest of 60 was drawn after {took:.2f} ms")
    assert max(abs(drawn - shades[k % 11]) for k, drawn in enumerate(red)) <= 1
    assert len(set(shades)) > 5  # the pixel tells the frames apart
    assert took < 8  # less than half a refresh


def test_quiz_answers_to_the_keyboard_and_explains(notebook: NotebookPage) -> None:
    output = notebook.output(4)
    output.scroll_into_view_if_needed()
    wrong, right = output.locator("details").nth(0), output.locator("details").nth(1)
    assert not wrong.locator("div").is_visible()
    wrong.locator("summary").focus()
    notebook.page.keyboard.press("Enter")
    assert wrong.locator("div").inner_text() == "No. At t = 0 nothing has been added: the signal is whole."
    assert notebook.page.locator(".jp-Notebook.jp-mod-editMode").count() == 0
    notebook.page.keyboard.press("Tab")
    notebook.page.keyboard.press("Space")
    assert right.locator("div").inner_text() == "Right. The product of no factors is 1."
    notebook.screenshot("lab_quiz")


def test_live_answers_and_shows_errors_in_the_page(notebook: NotebookPage) -> None:
    output = notebook.output(8)
    output.scroll_into_view_if_needed()
    picture, status = output.locator("img"), output.locator("[role=status]")
    picture.wait_for()
    first = picture.get_attribute("src")
    assert picture.get_attribute("alt") == "A power of x. Setting: power 1, shape even."
    slider = output.get_by_role("slider", name="power", exact=True)
    assert slider.get_attribute("aria-valuetext") == "1"
    slider.focus()
    notebook.page.keyboard.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") == output.locator(".dl-slider output").inner_text() == "2"
    output.locator("img[alt*='power 2']").wait_for()
    assert picture.get_attribute("src") != first
    notebook.page.keyboard.press("ArrowRight")
    output.locator("[role=alert]").wait_for()
    assert "ZeroDivisionError: power three is planted" in output.locator("[role=alert]").inner_text()
    assert "setting before" in status.inner_text()
    notebook.screenshot("lab_live")
    notebook.page.keyboard.press("ArrowLeft")
    output.locator("[role=alert]").wait_for(state="detached")
    output.get_by_role("button", name="odd").click()
    output.locator("img[alt*='shape odd']").wait_for()


def test_live_scrubber_keeps_its_frame_from_one_setting_to_the_next(notebook: NotebookPage) -> None:
    output = notebook.output(9)
    output.scroll_into_view_if_needed()
    root = output.locator(".dl-scrub[data-ready=true]")
    root.wait_for()
    root.locator("input").focus()
    notebook.page.keyboard.press("End")
    assert set(pixels(root.locator("canvas"))) == {255}
    output.get_by_role("slider", name="level", exact=True).focus()
    notebook.page.keyboard.press("ArrowRight")
    notebook.page.wait_for_function(
        """() => [...document.querySelectorAll('.jp-OutputArea .dl-scrub canvas')].at(-1)
                 .getContext('2d').getImageData(0, 0, 1, 1).data[0] === 191"""
    )
    assert root.get_attribute("data-frame") == "4"


def test_everything_drawn_has_alt_text_or_a_name(notebook: NotebookPage, axe: str) -> None:
    assert serious(notebook.page, axe, ".jp-OutputArea-output .dl-scrub, .dl-slider, .dl-quiz") == []
    alts = notebook.page.locator(".jp-OutputArea-output img").evaluate_all("all => all.map(i => i.alt)")
    assert len(alts) >= 4
    assert all(len(alt) > 10 for alt in alts)


def test_scrubber_and_quiz_outlive_the_kernel(notebook: NotebookPage, expected: list[Any]) -> None:
    notebook.shut_down_kernel()
    root = scrubber(notebook)
    root.locator("input").focus()
    notebook.page.keyboard.press("Home")
    notebook.page.keyboard.press("ArrowRight")
    drawn = pixels(root.locator("canvas").first)
    assert max(abs(a - b) for a, b in zip(drawn, expected[1], strict=True)) <= 1
    summary = notebook.output(5).locator("summary").first
    summary.click()
    assert notebook.output(5).locator("details[open]").count() == 1
    notebook.screenshot("lab_without_kernel")


def test_saved_and_reopened_the_scrubber_plays_before_anything_runs(
    notebook: NotebookPage, browser: Any, lab: JupyterLab, expected: list[Any]
) -> None:
    notebook.save()
    with lab.notebook(browser, "lesson.ipynb") as opened:
        root = scrubber(opened)
        root.locator("input").fill("10")
        assert (
            max(abs(a - b) for a, b in zip(pixels(root.locator("canvas").first), expected[10], strict=True))
            <= 1
        )
        opened.screenshot("lab_reopened")


def test_reopened_without_trust_the_strip_and_the_quiz_remain(
    browser: Any, lab: JupyterLab, executed: Any
) -> None:
    (lab.folder / "downloaded.ipynb").write_bytes(executed.read_bytes())
    with lab.notebook(browser, "downloaded.ipynb") as opened:
        strip = opened.output(2).locator("img")
        strip.wait_for()
        assert strip.get_attribute("alt") == "Noise turns into two ramps in ten steps."
        assert opened.output(2).locator("canvas").count() == 0
        opened.output(4).locator("summary").first.click()
        assert opened.output(4).locator("details[open]").inner_text().count("No. At t = 0") == 1
        opened.output(4).locator("summary").nth(1).focus()
        opened.page.keyboard.press("Space")
        assert opened.output(4).locator("details[open]").count() == 2
        opened.screenshot("lab_untrusted")


def test_a_cell_can_be_edited_and_its_output_read(browser: Any, lab: JupyterLab) -> None:
    with lab.notebook(browser, of_one_cell(lab, "small", "pass")) as opened:
        opened.edit_and_run(opened.find("pass"), "print(6 * 7)")
        opened.output(0).get_by_text("42", exact=True).wait_for()
        opened.edit_and_run(0, "1 / 0")
        assert opened.errors() == ["cell 0: ZeroDivisionError: division by zero"]


MENU = """
import torch
from diffusion_lessons.course.widgets import draw_hole

hole = torch.ones(1, 1, 64, 64)
captions = [f"a large {colour} square to the right of a large green triangle" for colour in "abcdefg"]
draw_hole(torch.zeros(3, 64, 64), lambda mask, caption, way: mask.expand(1, 3, 64, 64), hole,
          alt="A grey picture, all of it a hole.", caption=captions,
          way=["trained", "a way with a long name of its own"])
"""
COSTS = """
from diffusion_lessons.course.widgets import explore_costs

explore_costs({"slow": 1e12, "fast": 4e12}, pixels=(64, 128))
"""
WIDE = """
import torch
from diffusion_lessons.course.widgets import scrub

rows = torch.linspace(-1, 1, 192).expand(2, 3, 64, 192)
scrub({"one": rows, "two": -rows, "three": rows}, ["a", "b"],
      alt="Three grey ramps, each three times as wide as high.")
"""
ROOM = """(menu) => {  // the width of the choice, the room for it, and how many lines there are
    const style = getComputedStyle(menu), pen = document.createElement('canvas').getContext('2d');
    pen.font = style.font;
    const sides = parseFloat(style.paddingLeft) + parseFloat(style.paddingRight);
    const line = 1.15 * parseFloat(style.fontSize);
    const lines = style.whiteSpace === 'normal' ? Math.floor(menu.clientHeight / line) : 1;
    return [pen.measureText(menu.selectedOptions[0].text).width, menu.clientWidth - sides, lines];
}"""


@pytest.mark.parametrize("width", [1280, 390])
def test_a_long_caption_and_a_long_button_are_shown_whole(browser: Any, lab: JupyterLab, width: int) -> None:
    with lab.notebook(browser, of_one_cell(lab, f"menu{width}", MENU)) as opened:
        opened.page.keyboard.press("Control+b")  # the files aside
        opened.run_all()
        opened.page.set_viewport_size({"width": width, "height": 1000})
        menu, button = opened.output(0).locator("select"), opened.output(0).locator("button").nth(1)
        menu.wait_for()
        opened.output(0).locator(".dl-draw[data-ready=true]").wait_for()
        text, room, lines = menu.evaluate(ROOM)
        assert text <= room * lines
        assert button.evaluate("(it) => it.scrollWidth <= it.clientWidth")
        opened.screenshot(f"lab_menu_{width}")


def test_a_screen_reader_is_told_what_each_control_of_the_calculator_sets(
    browser: Any, lab: JupyterLab, axe: str
) -> None:
    with lab.notebook(browser, of_one_cell(lab, "costs", COSTS)) as opened:
        opened.run_all()
        output = opened.output(0)
        output.get_by_role("slider", name="guidance", exact=True).wait_for()
        assert output.get_by_role("slider").count() == 4
        assert serious(opened.page, axe, ".jp-OutputArea-output") == []
        for name, before, after in (("side", "64", "128"), ("width", "192", "320"), ("steps", "25", "50")):
            slider = output.get_by_role("slider", name=name, exact=True)
            assert slider.get_attribute("aria-valuetext") == before
            slider.focus()
            opened.page.keyboard.press("ArrowRight")
            assert slider.get_attribute("aria-valuetext") == after
        output.get_by_text("128×128 pixels, in latents, slow").wait_for()
        opened.screenshot("lab_costs")


def test_three_wide_panels_and_their_slider_fit_a_small_screen(browser: Any, lab: JupyterLab) -> None:
    with lab.notebook(browser, of_one_cell(lab, "wide", WIDE)) as opened:
        opened.run_all()
        root = opened.output(0).locator(".dl-scrub[data-ready=true]")
        root.wait_for()
        assert root.bounding_box()["height"] < 768
        widths = {canvas.bounding_box()["width"] for canvas in root.locator("canvas").all()}
        assert widths == {576}  # 192 pixels, each of them 3 wide


MANY = """
import torch
from diffusion_lessons.course.widgets import scrub

squares = torch.linspace(-1, 1, 64).expand(2, 3, 64, 64)
scrub({f"map {k}": squares for k in range(7)}, ["a", "b"], alt="Seven grey ramps.")
"""


def test_a_panel_alone_in_the_last_row_is_as_large_as_the_others(browser: Any, lab: JupyterLab) -> None:
    with lab.notebook(browser, of_one_cell(lab, "many", MANY)) as opened:
        opened.run_all()
        root = opened.output(0).locator(".dl-scrub[data-ready=true]")
        root.wait_for()
        boxes = [canvas.bounding_box() for canvas in root.locator("canvas").all()]
        assert len({box["y"] for box in boxes}) > 1  # they do not fit into one row
        assert len({box["width"] for box in boxes}) == 1
        opened.screenshot("lab_many_panels")
