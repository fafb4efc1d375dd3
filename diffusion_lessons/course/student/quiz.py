"""Multiple choice that explains every choice, and interview cards: folding HTML with no script.

Each choice is a <details> element: it opens with a click, a tap, Enter or Space and shows why the
choice is right or wrong. It needs no kernel, no script, no network and no trust, and is announced by
screen readers as what it is. Libraries were looked at first: jupyterquiz 2.9 draws its questions with
a script (nothing in an untrusted notebook or on GitHub), takes an explanation as optional and has no
ARIA at all; ipywidgets quizzes die with the kernel and in exported HTML. Formulas are best written in
Unicode (ᾱₜ, x̂₀): in exported HTML, LaTeX waits for a network.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase

from diffusion_lessons.course.widgets.page import Card, markup

STYLE = """<style>
.dl-quiz { max-width: 46em; margin: 0.5em 0; line-height: 1.5; }
.dl-quiz .dl-question { margin: 0 0 1.2em; }
.dl-quiz .dl-question > p { margin: 0 0 0.4em; }
.dl-quiz details { border: 1px solid #8884; border-radius: 6px; margin: 0.3em 0; }
.dl-quiz summary { cursor: pointer; padding: 0.45em 0.8em; list-style: none; border-radius: 6px; }
.dl-quiz summary::-webkit-details-marker { display: none; }
.dl-quiz summary::before { content: "○"; display: inline-block; width: 1.5em; font-weight: bold; }
.dl-quiz summary:hover { background: #8882; }
.dl-quiz summary:focus-visible { outline: 3px solid #1a73e8; outline-offset: -3px; }
.dl-quiz details > div { padding: 0 0.8em 0.6em 2.3em; }
.dl-quiz details.dl-right[open] { border-left: 5px solid #1b7f4b; }
.dl-quiz details.dl-wrong[open] { border-left: 5px solid #c2571a; }
.dl-quiz details.dl-right[open] > summary::before { content: "✓"; }
.dl-quiz details.dl-wrong[open] > summary::before { content: "✗"; }
.dl-quiz details.dl-card > summary::before { content: "▸"; }
.dl-quiz details.dl-card[open] > summary::before { content: "▾"; }
</style>"""
# JupyterLab takes Enter for "edit this cell" unless the focused element itself says otherwise.
SUMMARY = '<summary data-lm-suppress-shortcuts="true">'


@dataclass(frozen=True)
class Choice:
    """One choice: its text, whether it is right, and why."""

    text: str
    right: bool
    why: str

    def __post_init__(self) -> None:
        if not isinstance(self.right, bool):
            raise ValueError(f"choice {self.text!r} must be right=True or right=False, got {self.right!r}")
        if not self.text.strip() or not self.why.strip():
            raise ValueError(f"every choice needs a text and an explanation, got {self.text!r}, {self.why!r}")


@dataclass(frozen=True)
class Question:
    """One question with its choices.

    Args:
        text: the question; `code` and **bold** are understood.
        choices: 2 to 6, no two with the same text.
        several: more than one choice is right, and the page says so; otherwise exactly one is.

    Raises:
        ValueError: too few choices, equal choices, or not the stated number of right ones.
    """

    text: str
    choices: Sequence[Choice]
    several: bool = False

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise ValueError("a question needs a text")
        if not 2 <= len(self.choices) <= 6:
            raise ValueError(f"a question has 2 to 6 choices, got {len(self.choices)}: {self.text!r}")
        if len({choice.text for choice in self.choices}) < len(self.choices):
            raise ValueError(f"two choices of {self.text!r} have the same text")
        right = sum(choice.right for choice in self.choices)
        of = f"got {right}: {self.text!r}"
        if self.several and right < 2:
            raise ValueError(f"several=True promises two or more right choices, {of}")
        if not self.several and right != 1:
            raise ValueError(f"exactly one choice must be right, {of} (or several=True)")

    def html(self, number: int | None = None) -> str:
        lead = f"<strong>{number}.</strong> " if number else ""
        note = " <em>(more than one is right)</em>" if self.several else ""
        name = re.sub("</?(code|strong|em)>", "", markup(self.text)).replace('"', "&quot;")
        choices = "".join(map(_choice, ascii_uppercase, self.choices))
        return (
            f'<div class="dl-question" role="group" aria-label="{name}">'
            f"<p>{lead}{markup(self.text)}{note}</p>{choices}</div>"
        )

    def plain(self) -> str:
        choices = zip(ascii_uppercase, self.choices, strict=False)
        return "\n".join([self.text, *(f"  {letter}. {choice.text}" for letter, choice in choices)])


def _choice(letter: str, choice: Choice) -> str:
    kind, verdict = ("dl-right", "Right.") if choice.right else ("dl-wrong", "No.")
    why = f"<strong>{verdict}</strong> {markup(choice.why)}"
    return _folded(kind, f"{letter}. {choice.text}", why)


def _folded(kind: str, summary: str, inside: str) -> str:
    return f'<details class="{kind}">{SUMMARY}{markup(summary)}</summary><div>{inside}</div></details>'


def quiz(
    *questions: Question, title: str = "Check yourself: open the choice you would give", note: str = ""
) -> Card:
    """Multiple choice in the page: `quiz(Question("…", [Choice("…", True, "why"), …]), Question(…))`."""
    if not questions:
        raise ValueError("a quiz needs at least one Question")
    numbers = [None] if len(questions) == 1 else range(1, len(questions) + 1)
    body = "".join(question.html(number) for question, number in zip(questions, numbers, strict=True))
    note = f"<p>{markup(note)}</p>" if note else ""
    html = f'<div class="dl-quiz">{STYLE}<p><strong>{markup(title)}</strong></p>{note}{body}</div>'
    return Card("\n\n".join([title, *(question.plain() for question in questions)]), html)


def predict(text: str, choices: Sequence[Choice], several: bool = False) -> Card:
    """The one question that a reader answers before running on; arguments as for `Question`."""
    note = "Choose before you read on, then see whether the numbers of the lesson agree."
    return quiz(Question(text, choices, several), title="Predict first", note=note)


def interview_card(question: str, answer: str, follow_ups: Sequence[str | tuple[str, str]] = ()) -> Card:
    """A question, a 30-second answer and what an interviewer asks next, each folded.

    Args:
        question: what the interviewer asks.
        answer: what one can say in half a minute; blank lines separate paragraphs.
        follow_ups: the next questions, each alone or with its answer: (question, answer).
    """
    if not question.strip() or not answer.strip():
        raise ValueError("an interview card needs a question and an answer")
    plain = "".join(f"<li>{markup(item)}</li>" for item in follow_ups if isinstance(item, str))
    listed = f"<ul>{plain}</ul>" if plain else ""
    answered = [
        _folded("dl-card", item[0], _paragraphs(item[1])) for item in follow_ups if not isinstance(item, str)
    ]
    folds = _folded("dl-card", "The answer in 30 seconds", _paragraphs(answer))
    if follow_ups:
        folds += _folded("dl-card", "What they ask next", listed + "".join(answered))
    top = f"<p>Interview card</p><p><strong>{markup(question)}</strong></p>"
    return Card(f"Interview card\n\n{question}", f'<div class="dl-quiz">{STYLE}{top}{folds}</div>')


def _paragraphs(text: str) -> str:
    return "".join(f"<p>{markup(paragraph)}</p>" for paragraph in text.strip().split("\n\n"))
