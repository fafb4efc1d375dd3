"""The grader's report in a real browser, on a phone and on a screen."""

from pathlib import Path
from typing import Any

import pytest

from diffusion_lessons.course.grading.intake.student import Student
from diffusion_lessons.course.grading.results.page import page
from tests.browser.browser_harness import screenshot, serious
from tests.course.grading.test_results import graded, rows, submission

LONG = "x" * 300


@pytest.mark.parametrize(("width", "scheme"), [(375, "light"), (375, "dark"), (1200, "light")])
def test_the_report_fits_and_can_be_read(
    width: int, scheme: str, browser: Any, axe: str, tmp_path: Path
) -> None:
    """Nothing but the tables' own boxes scrolls sideways, whatever is in it; axe finds nothing serious."""
    students = [Student(f"{i}", f"Student {LONG[:i]}") for i in range(1, 40)]
    made = [
        submission(f"{LONG}/{i}.ipynb", student, rows("02.1", "02.2"), notes=(LONG,))
        for i, student in enumerate(students)
    ]
    made.append(
        submission(LONG, Student("a", LONG), rows(message=LONG, answer=LONG, details=LONG, flags=(LONG,)))
    )
    made.append(submission(f"{LONG}.pdf", Student("b", "Bo"), problem=LONG))
    file = tmp_path / "report.html"
    file.write_text(page(graded(*made)), encoding="utf-8")
    opened = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    try:
        opened.goto(file.as_uri())
        opened.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
        assert opened.evaluate("document.documentElement.scrollWidth") <= width
        assert serious(opened, axe, "html") == []
        screenshot(opened, f"report-{width}-{scheme}")
    finally:
        opened.close()
