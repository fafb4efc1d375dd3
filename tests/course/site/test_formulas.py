"""The formulas that are chosen exist, once; lessons that nobody named give their first."""

from dataclasses import replace
from pathlib import Path

import pytest

from diffusion_lessons.course.lessons import entries
from diffusion_lessons.course.site import formulas
from diffusion_lessons.course.site.formulas import KEY, first_sentences, formula, key_formula, pieces, sheet
from diffusion_lessons.course.site.reading import Study, studies

ROOT = Path(__file__).resolve().parents[3]
FLOW = Study(entries()["18"], "What is flow matching?", 2, formulas=("x = y", "u = v"))


def test_every_lesson_has_a_formula_and_every_one_that_is_named_is_there() -> None:
    course = studies(ROOT)
    for each in course:
        assert bool(key_formula(each)) == each.written
    topics = dict(sheet(course))
    assert list(topics)[:3] == ["The path", "Noise levels", "The way back"]
    assert all(line in study.formulas for rows in topics.values() for study, line in rows)
    assert {study.entry.number for rows in topics.values() for study, _ in rows} == {
        each.entry.number for each in course if each.written
    }


def test_a_lesson_that_is_named_nowhere_gives_its_first_formula_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(formulas, "SHEET", ())
    assert key_formula(FLOW) == "x = y"
    assert sheet([FLOW]) == [("More", [(FLOW, "x = y")])]
    assert sheet([replace(FLOW, formulas=())]) == []


def test_a_part_that_no_formula_or_several_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="0 formulas of lesson 18 hold 'z'"):
        formula(FLOW, "z")
    with pytest.raises(ValueError, match="2 formulas"):
        formula(FLOW, "=")
    with pytest.raises(ValueError, match=r"formulas\.py"):
        key_formula(replace(FLOW, entry=entries()[next(iter(KEY))]))


def test_the_beginning_of_an_answer_is_whole_sentences() -> None:
    assert first_sentences("Short. Then a second one. And a third.", least=10) == "Short. Then a second one."
    assert first_sentences("Only one, with no end", least=500) == "Only one, with no end"
    assert first_sentences("First.\n\nAnother paragraph.", least=500) == "First."


def test_a_formula_in_pieces_is_cut_between_them_alone() -> None:
    assert pieces(r"a = b,\quad c = d, \qquad e \qquad f") == ["a = b,", "c = d,", "e", "f"]
    assert pieces(r"a \quad\Longleftrightarrow\quad b") == [r"a \quad\Longleftrightarrow\quad b"]
