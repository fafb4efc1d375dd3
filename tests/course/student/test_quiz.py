"""Quizzes and cards: what they refuse, and that every choice is explained in the page without a script."""

from html.parser import HTMLParser

import pytest

from diffusion_lessons.course.bank import get
from diffusion_lessons.course.exercises.verdict import Verdict
from diffusion_lessons.course.student.cards import verdict_card
from diffusion_lessons.course.student.quiz import Choice, Question, interview_card, predict, quiz

WRONG = Choice("0", False, "At t = 0 the signal is whole.")
RIGHT = Choice("1", True, "A product of no factors.")


class Outline(HTMLParser):
    """The nesting of tags, and every attribute."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_every_choice_stands_with_its_reason_in_a_details_element() -> None:
    html = quiz(Question("What is ᾱ₀?", [WRONG, RIGHT]))._repr_html_()
    outline = Outline(html)
    assert outline.open == []
    assert outline.tags.count("details") == outline.tags.count("summary") == 2
    assert ">A. 0</summary><div><strong>No.</strong> At t = 0 the signal is whole.</div>" in html
    assert ">B. 1</summary><div><strong>Right.</strong> A product of no factors.</div>" in html


def test_stressed_words_are_marked_and_products_stay() -> None:
    said = "told the *same* label, *half-known*, a * b * c, 2*x*3, a*b-c*d, `f(*args*)` and **all**"
    html = quiz(Question(said, [WRONG, RIGHT]))._repr_html_()
    assert "told the <em>same</em> label, <em>half-known</em>, a * b * c, 2*x*3, a*b-c*d, <code>f(*" in html
    assert html.count("<em>") == 2
    card = verdict_card(get("06.1"), Verdict("06.1", "wrong", "value", "It is *added*: `f(*args*)`."))
    assert "It is <em>added</em>: <code>f(*args*)</code>." in card._repr_html_()


def test_it_needs_no_script_and_no_address() -> None:
    for shown in (
        quiz(Question("q", [WRONG, RIGHT])),
        predict("q", [WRONG, RIGHT]),
        interview_card("q", "a"),
    ):
        html = shown._repr_html_()
        assert "script" not in html
        assert "http" not in html
        assert not any(name.startswith("on") for name, _ in Outline(html).attributes)


def test_text_is_escaped_and_marked_up() -> None:
    html = quiz(
        Question('Is x < 2 & "so" on?', [Choice("`a<b` **now**", True, "<b>w</b>"), WRONG])
    )._repr_html_()
    assert "Is x &lt; 2 &amp;" in html
    assert "<code>a&lt;b</code> <strong>now</strong>" in html
    assert "&lt;b&gt;w&lt;/b&gt;" in html
    labels = [value for name, value in Outline(html).attributes if name == "aria-label"]
    assert labels == ['Is x < 2 & "so" on?']


def test_questions_are_numbered_only_where_there_are_several() -> None:
    one = Question("q", [WRONG, RIGHT])
    assert "<strong>1.</strong>" not in quiz(one)._repr_html_()
    assert "<strong>2.</strong>" in quiz(one, one)._repr_html_()


def test_several_right_choices_are_announced() -> None:
    both = Question("q", [RIGHT, Choice("also 1", True, "the same"), WRONG], several=True)
    assert "more than one is right" in quiz(both)._repr_html_()


def test_plain_text_asks_and_keeps_the_answers_to_itself() -> None:
    assert (
        repr(quiz(Question("What is ᾱ₀?", [WRONG, RIGHT]), title="T")) == "T\n\nWhat is ᾱ₀?\n  A. 0\n  B. 1"
    )
    assert repr(interview_card("Why?", "Because.")) == "Interview card\n\nWhy?"


def test_a_card_folds_its_answer_and_what_comes_next() -> None:
    html = interview_card("Why?", "First.\n\nSecond.", ["Plain?", ("How?", "So.")])._repr_html_()
    assert "<p>First.</p><p>Second.</p>" in html
    assert "<li>Plain?</li>" in html
    assert ">How?</summary><div><p>So.</p>" in html
    assert Outline(html).open == []
    assert "What they ask next" not in interview_card("Why?", "Because.")._repr_html_()


@pytest.mark.parametrize(
    ("choices", "several", "message"),
    [
        ([RIGHT], False, "2 to 6 choices, got 1"),
        ([WRONG, Choice("2", False, "no")], False, "exactly one choice must be right, got 0"),
        ([RIGHT, Choice("2", True, "yes")], False, "exactly one choice must be right, got 2"),
        ([RIGHT, WRONG], True, "promises two or more right choices, got 1"),
        ([RIGHT, RIGHT], False, "have the same text"),
    ],
)
def test_a_question_refuses_what_cannot_be_answered(
    choices: list[Choice], several: bool, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Question("q", choices, several)


def test_every_choice_must_be_explained() -> None:
    with pytest.raises(ValueError, match="every choice needs a text and an explanation"):
        Choice("1", True, " ")
    with pytest.raises(ValueError, match="right=True or right=False, got 'yes'"):
        Choice("1", "yes", "why")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="needs at least one Question"):
        quiz()
    with pytest.raises(ValueError, match="a question and an answer"):
        interview_card("q", "")
