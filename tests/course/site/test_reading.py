"""What the site reads of a lesson is what the lesson shows; what it cannot read is refused with a line."""

import re
from collections import Counter
from html import unescape
from pathlib import Path

import nbformat
import pytest

from diffusion_lessons.course.authoring.source import read
from diffusion_lessons.course.lessons import LESSONS
from diffusion_lessons.course.site.reading import Study, studies, study
from diffusion_lessons.course.widgets.page import markup

ROOT = Path(__file__).resolve().parents[3]
NEXT = '[("How many?", "A few."), "Why Gaussian?"]'
CARD = f'interview_card("Why noise?", "A ladder.\\n\\nOf easy" " steps.", {NEXT})'
PREDICTED = "predict('1 + 1?', [Choice('2', True, 'So it is.'), Choice('3', False, 'No.')])"
QUESTION = 'Question("2 + 2?", [Choice("4", True, "Yes."), Choice("5", False, "One too many.")])'
SOURCE = """# %% [markdown] tags=["header"]
# title: The forward process
# question: What is it?
# difficulty: 2

# %% [markdown]
# $$a = b$$
#
# <details><summary>Why</summary>
#
# $$c = d$$
#
# </details>

# %%
{code}
"""


@pytest.fixture(scope="module")
def course() -> list[Study]:
    return studies(ROOT)


def of(tmp_path: Path, code: str, text: str = SOURCE) -> Study:
    file = tmp_path / "solutions" / "02_forward_process.py"
    file.parent.mkdir()
    file.write_text(text.format(code=code), encoding="utf-8")
    return study(read(file))


def test_a_card_a_quiz_and_a_prediction_are_read(tmp_path: Path) -> None:
    found = of(tmp_path, f"{CARD}\nquiz({QUESTION}, title='Exit')\n{PREDICTED}")
    assert found.interview is not None
    assert (found.interview.question, found.interview.answer) == ("Why noise?", "A ladder.\n\nOf easy steps.")
    assert found.interview.follow_ups == (("How many?", "A few."), ("Why Gaussian?", ""))
    assert [question.text for question in found.questions] == ["2 + 2?", "1 + 1?"]
    assert [choice.right for choice in found.questions[0].choices] == [True, False]
    assert found.formulas == ("a = b",)  # that of the folded derivation is left out
    assert (found.question, found.difficulty) == ("What is it?", 2)


def test_what_stands_below_in_a_lesson_is_named_by_the_lesson(tmp_path: Path) -> None:
    whys = {
        "You measure it below, and more.": "You measure it in lesson 2, and more.",
        "So it is, as you see above.": "So it is, as you see in lesson 2.",
        "You compute 0.455·β below.": "You compute 0.455·β in lesson 2.",
        "By the step of this page.": "By the step of lesson 2.",
        "With the best sampler of this lesson.": "With the best sampler of lesson 2.",
        "It is above 0, and you know it.": "It is above 0, and you know it.",
    }
    choices = [f"Choice('{k}', {k == 0}, {why!r})" for k, why in enumerate(whys)]
    found = of(tmp_path, f"predict('How?', [{', '.join(choices)}])")
    assert [choice.why for choice in found.questions[0].choices] == list(whys.values())


@pytest.mark.parametrize(
    "code", ["name = 'x'\nquiz(Question(name, []))", "interview_card('Q', f'{1 + 1}')", "quiz(*many)"]
)
def test_what_would_have_to_be_run_is_refused_with_its_line(code: str, tmp_path: Path) -> None:
    line = SOURCE.count("\n", 0, SOURCE.index("{code}")) + code.count("\n") + 1
    with pytest.raises(ValueError, match=rf"02_forward_process\.py:{line}: .*without running"):
        of(tmp_path, code)


@pytest.mark.parametrize(
    ("code", "text", "says"),
    [
        (f"{CARD}\n{CARD}", SOURCE, "one interview card, here are 2"),
        (f"quiz({QUESTION.replace('True', 'False')})", SOURCE, "exactly one choice must be right"),
        (CARD, SOURCE.replace("difficulty: 2", "difficulty: 4"), "difficulty: 1"),
    ],
)
def test_two_cards_a_quiz_without_a_right_choice_and_a_bare_header_are_refused(
    code: str, text: str, says: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=says):
        of(tmp_path, code, text)


def test_all_twenty_are_there_in_order_and_unwritten_ones_say_nothing(course: list[Study]) -> None:
    assert [each.entry for each in course] == [entry for entry in LESSONS if entry.number != "00"]
    there = {file.stem for file in (ROOT / "solutions").glob("*.py")}
    for each in course:
        assert each.written == (each.entry.stem in there)
        assert bool(each.interview) == bool(each.questions) == bool(each.formulas) == each.written


def test_what_is_read_is_what_the_executed_lessons_show(course: list[Study]) -> None:
    """Held against the notebooks' outputs: another way to the same words."""
    for each in course:
        if each.written:
            assert each.interview is not None
            notebook = nbformat.read(ROOT / "solutions" / f"{each.entry.stem}.ipynb", as_version=4)
            shown = "".join(
                output.get("data", {}).get("text/html", "")
                for cell in notebook.cells
                for output in cell.get("outputs", ())
            )
            shown = re.sub("this (page|lesson)", f"lesson {int(each.entry.number)}", shown)
            assert len(re.findall('class="dl-question"', shown)) == len(each.questions), each.entry.stem
            for text in (each.interview.question, *(question.text for question in each.questions)):
                assert unescape(markup(text)) in unescape(shown), text
            assert all(markup(part) in shown for part in each.interview.answer.split("\n\n"))


def test_neither_place_nor_length_gives_a_right_answer_away(course: list[Study]) -> None:
    """Whoever takes always one letter, or the longest choice, is right in less than half of the questions."""
    questions = [question for each in course for question in each.questions if not question.several]
    places = Counter(next(i for i, c in enumerate(q.choices) if c.right) for q in questions)
    longest = sum(max(q.choices, key=lambda choice: len(choice.text)).right for q in questions)
    assert max(places.values()) < 0.45 * len(questions), places
    assert longest < 0.45 * len(questions)


def test_an_answer_of_half_a_minute_can_be_said_in_half_a_minute(course: list[Study]) -> None:
    """A hundred words, formulas counted by their symbols: three and a half a second are fast already."""
    for each in course:
        if each.interview is not None:
            assert len(each.interview.answer.split()) <= 100, each.entry.stem
