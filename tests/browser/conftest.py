"""The browser, the notebook and the pages that all browser tests share."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.browser.browser_harness import ARGUMENTS, JupyterLab, find_axe, find_chromium
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
def axe() -> str:
    source = find_axe()
    if source is None:
        pytest.skip("axe-core is not here and could not be fetched: npm install --prefix out/node axe-core@4")
    return source
