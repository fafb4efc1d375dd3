"""Alt texts leave the code that students read, and are found again when a figure is shown."""

import json
from pathlib import Path

import pytest

from diffusion_lessons.course.authoring import alts
from diffusion_lessons.course.authoring.source import read
from diffusion_lessons.course.widgets import page
from tests.course.sample_lesson import repository, source

TEXT = "From left to right ᾱ falls, and the loss with it"


@pytest.mark.parametrize(
    "code",
    [
        f'figure(fig, alt="{TEXT}")',
        f'"ᾱ"; figure(fig, alt="{TEXT[:9]}"\n    "{TEXT[9:]}", dpi=80)',
        f"%matplotlib inline\nshow(\n    strip(x, alt='{TEXT}', columns=3)\n)",
    ],
)
def test_a_text_is_replaced_wherever_it_stands(code: str) -> None:
    made = alts.replaced(code, {TEXT: "figure 02.1"})
    assert 'alt="figure 02.1"' in made
    assert "loss" not in made
    assert made.replace('"figure 02.1"', "").count("(") == code.count("(")
    assert alts.replaced(made, {TEXT: "figure 02.1"}) == made


@pytest.mark.parametrize(
    "code", ["figure(fig, alt=words)", f'alt = "{TEXT}"', 'f(alt=f"{x}")', "not python ("]
)
def test_what_is_no_text_of_a_call_stays(code: str) -> None:
    assert alts.replaced(code, {TEXT: "figure 02.1"}) == code


def test_a_name_gives_the_words_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lesson = read(source(repository(tmp_path)))
    names = alts.names(lesson)
    assert list(names.values()) == [f"figure 02.{i}" for i in range(1, len(names) + 1)]
    assert names
    monkeypatch.setattr(page, "_alts", lambda number: json.loads(alts.text(lesson)) if number == "02" else [])
    for text, name in names.items():
        assert page.required_alt(name) == " ".join(text.split())
    assert page.required_alt("figure 02.99") == "figure 02.99"
    assert page.required_alt("figure 77.01") == "figure 77.01"


def test_the_notebooks_hold_names_and_the_package_holds_the_words() -> None:
    root = Path(__file__).parents[3]
    for file in sorted((root / "solutions").glob("[0-9][0-9]_*.py")):
        lesson = read(file)
        notebook = json.loads(lesson.student.read_text(encoding="utf-8"))
        code = "\n".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code")
        for text, name in alts.names(lesson).items():
            assert f'alt="{name}"' in code
            assert text not in code
            assert page.required_alt(name) == " ".join(text.split())
