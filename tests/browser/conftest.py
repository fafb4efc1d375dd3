"""The browser, the notebook and the pages that all browser tests share."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jinja2 import Environment, FileSystemLoader
from nbclient import NotebookClient

from diffusion_lessons.course.lessons import PLAYGROUND
from diffusion_lessons.course.site import pages, playground
from tests.browser.browser_harness import ARGUMENTS, ROOT, JupyterLab, find_axe, find_chromium
from tests.browser.browser_lesson import lesson


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="the browser tests need the package playwright")
    chromium = find_chromium()
    if chromium is None:
        pytest.skip("no chromium here, and it could not be installed: apt-get install chromium")
    with api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield running
        running.close()


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterLab]:
    folder = tmp_path_factory.mktemp("lab")
    nbformat.write(lesson(), folder / "lesson.ipynb")
    with JupyterLab(folder) as running:
        yield running


@pytest.fixture(scope="session")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The notebook, run once, with its outputs."""
    file = tmp_path_factory.mktemp("executed") / "lesson.ipynb"
    notebook = lesson()
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    nbformat.write(notebook, file)
    return file


@pytest.fixture(scope="session")
def playing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The playground as the site has it, page and files, without the rest of the site."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="the playground's models are written with the extra onnx")
    site = tmp_path_factory.mktemp("playground")
    shutil.copytree(ROOT / "docs" / "site" / "static", site / "_static")
    try:
        play = playground.write_playground(ROOT, site / "_static" / "playground")
    except ValueError as error:
        pytest.skip(str(error))
    environment = Environment(loader=FileSystemLoader(ROOT / pages.TEMPLATES))
    environment.filters["linked"] = str
    page = environment.get_template(f"{PLAYGROUND}.jinja").render(play=play)
    (site / PLAYGROUND).write_text(page, encoding="utf-8")
    return site


@pytest.fixture(scope="session")
def axe() -> str:
    source = find_axe()
    if source is None:
        pytest.skip("axe-core is not here and could not be fetched: npm install --prefix out/node axe-core@4")
    return source
