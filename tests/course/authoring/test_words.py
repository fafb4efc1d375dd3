"""Cards and quizzes are words: changed ones run no lesson again, and the page shows them all the same."""

import copy
from pathlib import Path

import nbformat
import pytest

from diffusion_lessons.course.authoring.words import card_of, digested, renew

ROOT = Path(__file__).resolve().parents[3]
CARD = 'from diffusion_lessons.course import interview_card\n\ninterview_card("What?", "That.")'
QUIZ = 'quiz(Question("Which?", [Choice("this", True, "so"), Choice("that", False, "no")]))'


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (CARD, CARD.replace("That.", "This, then.")),
        (QUIZ, QUIZ.replace('"this", True', '"that one", True')),
        (QUIZ, QUIZ.replace("quiz(", "quiz(  # two choices\n    ")),
    ],
)
def test_other_words_are_the_same_code(one: str, other: str) -> None:
    assert one != other
    assert digested(one) == digested(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (CARD, CARD.replace("import interview_card", "import interview_card, quiz")),
        (CARD, "import torch\n\n" + CARD),
        (CARD, CARD + "\nprint(1)"),
        (QUIZ, QUIZ.replace("quiz(", "predict(", 1)),
        (f"x = 1\n{QUIZ}", f"x = 2\n{QUIZ}"),
        (QUIZ.replace('"so"', "why"), QUIZ.replace('"so"', "reason")),
        (QUIZ.replace('"so"', "f'{1 + 1}'"), QUIZ.replace('"so"', "f'{2 + 2}'")),
        (QUIZ, QUIZ.replace(', "so"', "")),  # no card: running it says why
        ("%time " + QUIZ, "%time " + QUIZ.replace("this", "those")),
    ],
)
def test_other_code_is_other_code(one: str, other: str) -> None:
    assert digested(one) != digested(other)


def cell(source: str, *outputs: nbformat.NotebookNode) -> nbformat.NotebookNode:
    return nbformat.v4.new_code_cell(source, outputs=list(outputs), execution_count=3)


def result(html: str) -> nbformat.NotebookNode:
    data = {"text/html": html, "text/plain": "old"}
    return nbformat.v4.new_output("execute_result", data, execution_count=3)


def test_an_output_says_what_the_words_say_now() -> None:
    made = cell(QUIZ, result("<p>old</p>"))
    renew(made)
    (output,) = made.outputs
    assert "<p>old</p>" not in output.data["text/html"]
    assert all(word in output.data["text/html"] for word in ("Which?", "this", "that", "so", "no"))
    assert output.data["text/plain"].endswith("Which?\n  A. this\n  B. that")
    assert output.execution_count == 3


def test_what_is_no_card_or_was_not_executed_keeps_its_output() -> None:
    printed = nbformat.v4.new_output("stream", text="1")
    for each in (cell("figure(fig)", result("a picture")), cell(QUIZ), cell(QUIZ, printed)):
        before = copy.deepcopy(each)
        renew(each)
        assert each == before


def test_a_card_made_anew_is_what_executing_the_lesson_showed() -> None:
    """All cards of the course, against the outputs that the kernels left."""
    cards = 0
    for file in sorted((ROOT / "solutions").glob("*.ipynb")):
        for made in nbformat.read(file, as_version=4).cells:
            if made.cell_type == "code" and card_of(made.source) is not None:
                before, cards = copy.deepcopy(made), cards + 1
                renew(made)
                assert made == before, f"{file.name}: {made.source[:80]}"
    assert cards >= 3 * 20
