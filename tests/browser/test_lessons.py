"""The lessons themselves in a browser: one run and answered in JupyterLab, all of them exported."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from diffusion_lessons.course import bank
from diffusion_lessons.course.student.progress import VARIABLE
from tests.browser.browser_harness import JupyterLab, NotebookPage, screenshot, serious
from tests.exported_page import to_html

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
SOLVED = sorted((ROOT / "solutions").glob("[0-9][0-9]_*.ipynb"))
RUN = "02_forward_process.ipynb"
RIGHT = "return torch.sqrt(1 - beta) * x + torch.sqrt(beta) * noise"
WRONG = "return torch.sqrt(1 - beta) * x + beta * noise"


@pytest.fixture(scope="module")
def lesson(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NotebookPage]:
    """A student's copy of a lesson, opened; the tests of this file follow one another on it."""
    folder = tmp_path_factory.mktemp("work")
    (folder / RUN).write_bytes((ROOT / "notebooks" / RUN).read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIFFUSION_LESSONS_BUDGET", "small")
        patch.setenv(VARIABLE, str(folder / "progress.json"))
        with JupyterLab(folder) as lab, lab.notebook(browser, RUN) as opened:
            yield opened


def answer(lesson: NotebookPage, body: str) -> None:
    """Put a body into exercise 02.1 and run the cell."""
    index = lesson.find('@exercise("02.1")')
    source = "".join(lesson.cells()[index]["source"])
    old = r"(raise NotImplementedError.*|return torch\.sqrt.*)"
    lesson.edit_and_run(index, re.sub(old, lambda _: body, source))


def verdict(lesson: NotebookPage, text: str) -> str:
    """The verdict under exercise 02.1, once it shows a text."""
    output = lesson.output(lesson.find('@exercise("02.1")'))
    output.get_by_text(text).first.wait_for()
    return output.inner_text()


def test_an_untouched_lesson_runs_to_its_end(lesson: NotebookPage) -> None:
    lesson.run_all()
    assert lesson.errors() == []
    assert all(cell["execution_count"] for cell in lesson.cells() if cell["cell_type"] == "code")
    scrubbers = [
        i for i, cell in enumerate(lesson.cells()) if re.search(r"^scrub\(", "".join(cell["source"]), re.M)
    ]
    assert scrubbers
    for index in scrubbers:
        lesson.output(index).locator(".dl-scrub[data-ready=true]").wait_for()
    lesson.screenshot("lesson_in_lab")


def test_a_wrong_answer_is_explained_and_a_right_one_passes(lesson: NotebookPage) -> None:
    sentence = bank.get("02.1").misconception("variance-for-std").sentence
    assert sentence not in verdict(lesson, "not attempted yet")
    answer(lesson, WRONG)
    assert sentence not in verdict(lesson, "numbers differ")
    lesson.output(lesson.find('@exercise("02.1")')).get_by_text("Say more").click()
    verdict(lesson, sentence)
    lesson.screenshot("lesson_wrong_answer")
    answer(lesson, RIGHT)
    assert sentence not in verdict(lesson, "passed")


@pytest.mark.parametrize("solved", SOLVED, ids=lambda file: file.stem)
def test_an_exported_lesson_needs_no_kernel_and_no_network(
    browser: Any, axe: str, solved: Path, tmp_path: Path
) -> None:
    file = tmp_path / "lesson.html"
    file.write_text(to_html(solved), encoding="utf-8")
    context = browser.new_context(viewport={"width": 1100, "height": 1400}, offline=True)
    page, failures = context.new_page(), []
    page.on("pageerror", lambda error: failures.append(str(error)))
    page.goto(file.as_uri())
    for scrubber in page.locator("[data-dl-scrub]").all():
        scrubber.locator(".dl-scrub[data-ready=true]").wait_for()
    for summary in page.locator(".dl-quiz summary, [data-dl-scrub] > details > summary").all():
        if summary.is_visible():
            summary.click()
    assert failures == []
    assert "interview_card(" not in page.locator("body").inner_text()  # it is folded away in the notebook
    assert page.locator("img:not([alt]), img[alt='']").count() == 0
    if page.locator(".jp-OutputArea-output").count():
        assert serious(page, axe, ".jp-OutputArea-output") == []
    screenshot(page, f"exported_{solved.stem}")
    context.close()
