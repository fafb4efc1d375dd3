"""The exported page with no kernel and no network: scrubber and quiz work, and nothing is left out."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
import torch

from diffusion_lessons.course.widgets import scrub
from tests.browser.browser_harness import pixels, screenshot, serious
from tests.browser.browser_lesson import FIGURE, SETUP
from tests.exported_page import freeze, to_html

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def exported(executed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("exported") / "lesson.html"
    file.write_text(to_html(executed), encoding="utf-8")
    return file


@pytest.fixture
def page(browser: Any, exported: Path) -> Iterator[Any]:
    with_touch = browser.new_context(viewport={"width": 1100, "height": 1400}, has_touch=True, offline=True)
    opened = with_touch.new_page()
    opened.failures = []
    opened.on("pageerror", lambda error: opened.failures.append(str(error)))
    opened.goto(exported.as_uri())
    opened.locator(".dl-scrub[data-ready=true]").first.wait_for()
    yield opened
    with_touch.close()


def test_scrubber_plays_steps_and_answers_to_keys(page: Any) -> None:
    root = page.locator(".dl-scrub").first
    noise, before = root.locator("canvas").first, pixels(root.locator("canvas").first)
    root.locator("input").focus()
    page.keyboard.press("End")
    assert root.locator("output").inner_text() == "t = 0 · ᾱ_t = 1.0000 · SNR = ∞"
    ramp = pixels(noise)
    assert ramp[:28] == sorted(ramp[:28])  # the first picture is a ramp from black to white
    assert (ramp[0], ramp[27]) == (0, 255)
    assert before != ramp
    root.get_by_role("button", name="One frame back").click()
    assert root.get_attribute("data-frame") == "9"
    root.get_by_role("button", name="Play").click()
    page.wait_for_function("() => document.querySelector('.dl-scrub').dataset.frame === '10'")
    root.get_by_role("button", name="Play").wait_for()  # it stops at the end, and starts over from there
    root.get_by_role("button", name="Play").click()
    page.wait_for_function("() => document.querySelector('.dl-scrub').dataset.frame === '1'")
    root.get_by_role("button", name="Pause").click()
    assert not page.locator("em", has_text="Run this cell").count()
    assert page.failures == []


def test_all_panels_show_the_same_frame(page: Any) -> None:
    root = page.locator(".dl-scrub").first
    canvases = root.locator("canvas")
    assert canvases.count() == 4
    first = [pixels(canvases.nth(k)) for k in range(4)]
    root.locator("input").fill("10")
    last = [pixels(canvases.nth(k)) for k in range(4)]
    assert first[0] != last[0]  # x goes from noise to ramps
    assert first[1] == last[1]  # the exact x̂₀ is the data at every level
    assert first[3] != last[3]  # and the histogram follows x
    assert last[0] == last[1]


def test_a_finger_on_the_picture_scrubs(page: Any) -> None:
    canvas = page.locator(".dl-scrub canvas").first
    box = canvas.bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] * 0.52, box["y"] + 10)
    assert page.locator(".dl-scrub").first.get_attribute("data-frame") == "5"


def test_a_scrubber_starts_where_it_was_told_to(page: Any) -> None:
    second = page.locator(".dl-scrub[data-ready=true]").nth(1)
    assert second.locator("output").inner_text() == "t = 3"


def test_quiz_prediction_and_card_open_with_keys(page: Any) -> None:
    summaries = page.locator(".dl-quiz summary")
    assert summaries.count() == 2 + 3 + 2 + 2 + 1
    summaries.nth(0).focus()
    page.keyboard.press("Enter")
    assert page.locator(".dl-quiz details[open] > div").inner_text().startswith("No. At t = 0")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    assert page.locator(".dl-quiz details[open] > div").nth(1).inner_text().startswith("Right.")
    page.locator("summary", has_text="What they ask next").click()
    page.locator("summary", has_text="How many?").click()
    assert page.locator("p", has_text="A few dozen.").is_visible()


def test_live_drawings_remain_as_pictures(page: Any) -> None:
    assert page.locator("img[alt='A power of x. Setting: power 1, shape even.']").is_visible()
    assert page.get_by_text(
        "With a running kernel, change: power (1, 2, 3, 4), shape (even, odd)."
    ).is_visible()


def test_every_picture_has_alt_text_and_axe_finds_nothing_serious(page: Any, axe: str) -> None:
    for summary in page.locator(".dl-quiz summary, [data-dl-scrub] > details > summary").all():
        if summary.is_visible():
            summary.click()
    assert page.locator("img:not([alt])").count() == 0
    assert serious(page, axe, ".jp-OutputArea-output") == []
    screenshot(page, "exported")


def test_axe_would_find_a_picture_without_words(page: Any, axe: str) -> None:
    page.locator("img:visible").first.evaluate("picture => picture.removeAttribute('alt')")
    assert any(line.startswith("image-alt") for line in serious(page, axe, ".jp-OutputArea-output"))


def test_dark_theme_keeps_contrast(browser: Any, executed: Path, axe: str, tmp_path: Path) -> None:
    from nbconvert import HTMLExporter

    dark, _ = HTMLExporter(theme="dark").from_notebook_node(freeze(nbformat.read(executed, as_version=4)))
    (tmp_path / "dark.html").write_text(dark, encoding="utf-8")
    page = browser.new_page(viewport={"width": 1100, "height": 1400})
    page.goto((tmp_path / "dark.html").as_uri())
    page.locator(".dl-scrub[data-ready=true]").first.wait_for()
    for summary in page.locator(".dl-quiz summary").all()[:3]:
        summary.click()
    assert serious(page, axe, ".dl-scrub, .dl-quiz") == []
    screenshot(page, "exported_dark")
    page.close()


def test_reduced_motion_plays_slowly(browser: Any, exported: Path) -> None:
    page = browser.new_page(reduced_motion="reduce")
    page.goto(exported.as_uri())
    root = page.locator(".dl-scrub[data-ready=true]").first
    root.wait_for()
    took = root.evaluate(
        """(root) => new Promise((done) => {
            const times = [];
            new MutationObserver(() => {
                times.push(performance.now());
                if (times.length === 3) done(times[2] - times[0]);
            }).observe(root, { attributeFilter: ["data-frame"] });
            root.querySelector("button").click();
        })"""
    )
    assert took > 900  # two frames of 0.6 s each; otherwise of a quarter
    page.close()


def test_damaged_frames_are_an_error_in_the_page(browser: Any, tmp_path: Path) -> None:
    names: dict[str, Any] = {}
    exec(SETUP, names)
    made = scrub(names["x0"], alt="Two ramps, one after the other.")
    made.sprite = b"not a picture"
    (tmp_path / "damaged.html").write_text(f"<meta charset='utf-8'>{made._repr_html_()}", encoding="utf-8")
    page = browser.new_page()
    page.goto((tmp_path / "damaged.html").as_uri())
    page.locator("[role=alert]").wait_for()
    assert "The scrubber failed" in page.locator("[role=alert]").inner_text()
    assert page.locator("img").is_visible()  # the strip remains
    page.close()


def test_narrow_screens_need_no_sideways_scrolling(browser: Any, exported: Path) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.goto(exported.as_uri())
    page.locator(".dl-scrub[data-ready=true]").first.wait_for()
    for part in page.locator(".dl-scrub, .dl-quiz").all():
        assert part.evaluate("part => part.scrollWidth <= part.clientWidth + 1")
    page.close()


def test_nbconvert_alone_keeps_the_figure_and_its_words(exported: Path) -> None:
    text = exported.read_text(encoding="utf-8")
    assert 'alt="A line that falls from 1 at t = 0 to 0 at t = 1."' in text
    assert "application/vnd.jupyter.widget-view+json" not in text
    assert "figure(fig" in FIGURE


def test_frames_on_two_axes_have_a_slider_for_each(browser: Any, tmp_path: Path) -> None:
    greys = torch.linspace(-1, 1, 6)[:, None, None, None].expand(6, 1, 8, 8)
    made = scrub(greys, axes={"t": [900, 0], "frame": range(3)})
    file = tmp_path / "axes.html"
    file.write_text(f"<!DOCTYPE html><meta charset=utf-8>{made._repr_html_()}", encoding="utf-8")
    page = browser.new_context(offline=True).new_page()
    page.goto(file.as_uri())
    root = page.locator(".dl-scrub[data-ready=true]")
    root.wait_for()
    frame, t = root.locator("input").nth(0), root.locator("input").nth(1)
    assert "frame" in frame.get_attribute("aria-label") and ": t" in t.get_attribute("aria-label")
    t.focus()
    page.keyboard.press("ArrowRight")
    assert root.get_attribute("data-frame") == "3"
    assert root.locator("output").inner_text() == "t = 0 · frame = 0"
    page.keyboard.press("ArrowRight")  # the end of this axis, and not the next of the other
    assert root.get_attribute("data-frame") == "3"
    frame.fill("2")
    assert root.get_attribute("data-frame") == "5"
    frame.focus()
    page.keyboard.press("Home")
    assert root.get_attribute("data-frame") == "3"
    t.focus()
    page.keyboard.press("Home")
    assert t.input_value() == "0"
    root.get_by_role("button", name="One frame on").click()
    root.get_by_role("button", name="Play").click()
    page.wait_for_function("() => document.querySelector('.dl-scrub').dataset.frame === '2'")
    root.get_by_role("button", name="Play").wait_for()  # it stops at the end of its axis
    assert root.get_attribute("data-frame") == "2" and t.input_value() == "0"
    page.context.close()


def test_a_name_stands_under_the_middle_of_its_picture(browser: Any, tmp_path: Path) -> None:
    """Where a picture is enlarged by a whole number, it does not fill its panel."""
    greys = torch.zeros(3, 1, 130, 130)
    file = tmp_path / "page.html"
    made = scrub({"one": greys, "another": greys}, alt="Grey squares.")
    file.write_text(f"<!DOCTYPE html><meta charset=utf-8>{made._repr_html_()}", encoding="utf-8")
    page = browser.new_page(viewport={"width": 1100, "height": 800})
    page.goto(file.as_uri())
    page.locator(".dl-scrub[data-ready=true]").wait_for()
    boxes = page.locator(".dl-scrub figure").evaluate_all(
        "all => all.map(f => [f, f.querySelector('canvas')].map(e => e.getBoundingClientRect()))"
    )
    assert len(boxes) == 2 and all(canvas["width"] < panel["width"] - 20 for panel, canvas in boxes)
    for panel, canvas in boxes:  # the name is centred in the panel
        assert canvas["x"] + canvas["width"] / 2 == pytest.approx(panel["x"] + panel["width"] / 2, abs=1)
    page.close()
