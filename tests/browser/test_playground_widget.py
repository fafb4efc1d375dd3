"""The playground in notebooks: with and without a kernel, on a page of the site, and where it is not."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from diffusion_lessons.course.lessons import PLAYGROUND
from diffusion_lessons.course.student.lab import site_options
from diffusion_lessons.course.widgets import playground
from tests.browser.browser_harness import PATIENCE, JupyterLab, NotebookPage, screenshot, serious, served
from tests.exported_page import to_html

pytestmark = pytest.mark.slow
CELL = "from diffusion_lessons.course import playground\n\nplayground()"
BUTTON = "Draw here, in this page"


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A notebook whose one cell was run, as it is saved."""
    card = playground()
    data = {"text/plain": repr(card), "text/html": card._repr_html_()}
    output = nbformat.v4.new_output("execute_result", data=data, execution_count=1)
    cell = nbformat.v4.new_code_cell(CELL, execution_count=1, outputs=[output], id="play")
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    return nbformat.v4.new_notebook(cells=[cell], metadata=kernel)


@pytest.fixture(scope="module")
def lab(playing: Path, notebook: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterLab]:
    folder = tmp_path_factory.mktemp("lab")
    nbformat.write(notebook, folder / "play.ipynb")
    with JupyterLab(folder, site_options(playing)) as running:
        yield running


def run(opened: NotebookPage) -> None:
    opened.run_all()
    opened.page.get_by_role("button", name=BUTTON).wait_for(timeout=3 * PATIENCE)


def drawn(page: Any, tab: str = "digits") -> Any:
    """The playground's own page, once its button was pressed and it has drawn."""
    page.get_by_role("button", name=BUTTON).click()
    frame = page.frame_locator("iframe[title=Playground]")
    frame.locator(f"#{tab}[data-drawn]").wait_for(timeout=PATIENCE)
    return frame


def test_it_draws_in_jupyterlab(lab: JupyterLab, browser: Any, axe: str) -> None:
    with lab.notebook(browser, "play.ipynb") as opened:
        run(opened)
        assert opened.errors() == []
        frame = drawn(opened.page)
        frame.locator("#digits [data-do=at]").focus()
        for key in ("Home", "ArrowRight", "ArrowRight"):  # JupyterLab has arrow keys of its own
            opened.page.keyboard.press(key)
        assert frame.locator("#digits [data-do=where]").inner_text().startswith("step 2 of 10")
        whole = opened.page.locator("iframe[title=Playground]")
        opened.page.wait_for_function(  # it grows with what it holds
            "e => e.contentDocument.documentElement.scrollHeight <= e.clientHeight",
            arg=whole.element_handle(),
        )
        assert serious(opened.page, axe, "iframe[title=Playground]") == []
        opened.page.evaluate(
            "window.jupyterapp.commands.execute('apputils:change-theme', { theme: 'JupyterLab Dark' })"
        )
        frame.locator("html[data-theme=dark]").wait_for()
        opened.page.locator("#jupyterlab-splash").wait_for(state="detached")
        screenshot(opened.page, "playground_lab_dark")


def test_a_notebook_that_was_saved_draws_without_a_kernel(lab: JupyterLab, browser: Any) -> None:
    with lab.notebook(browser, "play.ipynb") as opened:
        run(opened)
        opened.save()
    with lab.notebook(browser, "play.ipynb") as opened:
        opened.shut_down_kernel()
        frame = drawn(opened.page)
        frame.locator("#digits [data-do=guidance]").fill("8")
        frame.locator("#digits[data-drawn='2']").wait_for(timeout=PATIENCE)
        assert frame.locator("[role=status]").inner_text().startswith("Drawn in ")
        screenshot(opened.page, "playground_lab")


def test_where_the_site_was_not_made_it_says_what_to_do(notebook: Any, browser: Any, tmp_path: Path) -> None:
    assert site_options(tmp_path) == []
    nbformat.write(notebook, tmp_path / "play.ipynb")
    with JupyterLab(tmp_path) as running, running.notebook(browser, "play.ipynb") as opened:
        with opened.page.expect_response(
            lambda answer: answer.url.endswith(PLAYGROUND), timeout=3 * PATIENCE
        ) as answer:
            opened.run_all()
        assert answer.value.status == 404
        assert opened.page.get_by_text("The playground draws in your browser").is_visible()
        assert opened.page.get_by_role("button", name=BUTTON).count() == 0
        assert opened.page.get_by_alt_text("Digits 0 to 9 drawn by").is_visible()


def test_a_page_in_a_folder_keeps_the_picture_and_says_what_to_do(
    notebook: Any, browser: Any, tmp_path: Path
) -> None:
    (tmp_path / "play.html").write_text(to_html(notebook), encoding="utf-8")
    page, wrong = browser.new_page(), []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto((tmp_path / "play.html").as_uri())
    assert page.get_by_text("The playground draws in your browser").is_visible()
    assert page.get_by_role("button", name=BUTTON).count() == 0
    page.close()
    assert wrong == []


def test_a_lesson_of_the_site_draws_in_its_page(playing: Path, notebook: Any, browser: Any) -> None:
    html = notebook.cells[0].outputs[0].data["text/html"]
    (playing / "lessons").mkdir(exist_ok=True)
    head = '<!DOCTYPE html><html lang="en" data-content_root="../" data-theme="dark"><meta charset="utf-8">'
    (playing / "lessons" / "10.html").write_text(head + html, encoding="utf-8")
    page, asked = browser.new_page(viewport={"width": 375, "height": 800}), []
    page.on("request", lambda request: asked.append(request.url))
    with served(playing) as address:
        page.goto(f"{address}/lessons/10.html")
        page.get_by_role("button", name=BUTTON).wait_for()
        assert not any(url.endswith((".wasm", ".onnx")) for url in asked)  # not before it is wanted
        frame = drawn(page)
        assert frame.locator("html").get_attribute("data-theme") == "dark"
        assert page.evaluate("document.documentElement.scrollWidth") <= 375
        assert frame.locator("html").evaluate("e => e.scrollWidth <= e.clientWidth")
        assert f"{address}/{PLAYGROUND}" in asked
        screenshot(page, "playground_lesson_375")
        page.close()


def test_what_the_notebook_keeps_is_small(notebook: Any) -> None:
    assert len(nbformat.writes(notebook)) < 30_000
