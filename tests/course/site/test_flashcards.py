"""The flashcards hold every question once, survive CSV, and Anki's file has them under lasting ids."""

import csv
import io
import sqlite3
import zipfile
from pathlib import Path

from diffusion_lessons.course.lessons import entries
from diffusion_lessons.course.site.flashcards import Flashcard, flashcards, table, write_deck
from diffusion_lessons.course.site.reading import Interview, Study
from diffusion_lessons.course.student.quiz import Choice, Question

ASKED = Question('a < b, "and" `c`?', [Choice("x", False, "No, since y."), Choice("y", True, "So it is.")])
STUDY = Study(
    entries()["02"],
    "What is it?",
    1,
    Interview("Why <noise>?", "One.\n\nTwo.", (("How many?", "A few."), ("Unanswered?", ""))),
    (ASKED,),
)


def test_there_is_a_card_for_each_question_that_has_an_answer() -> None:
    interview, follow_up, quiz = flashcards([STUDY, Study(entries()["13"])])
    assert (interview.front, interview.back) == ("Why &lt;noise&gt;?", "<p>One.</p><p>Two.</p>")
    assert "How many?" in follow_up.front and "Why &lt;noise&gt;?" in follow_up.front
    assert quiz.front.count("<li>") == quiz.back.count("<li>") == 2
    assert quiz.back.startswith("<p><strong>B</strong></p>") and "No, since y." in quiz.back
    assert "So it is" not in quiz.front
    assert [card.tags for card in flashcards([STUDY])] == [
        ("lesson02", "interview"),
        ("lesson02", "follow-up"),
        ("lesson02", "quiz"),
    ]


def test_the_table_can_be_read_back() -> None:
    cards = flashcards([STUDY])
    head, *rows = csv.reader(io.StringIO(table(cards)))
    assert head == ["front", "back", "tags"]
    assert [tuple(row) for row in rows] == [(card.front, card.back, " ".join(card.tags)) for card in cards]


def test_the_deck_holds_the_cards_and_an_answer_may_change_without_a_new_card(tmp_path: Path) -> None:
    cards = flashcards([STUDY])
    write_deck(cards, tmp_path / "cards.apkg")
    with zipfile.ZipFile(tmp_path / "cards.apkg") as deck:
        deck.extract("collection.anki2", tmp_path)
    notes = (
        sqlite3.connect(tmp_path / "collection.anki2")
        .execute("select guid, flds, tags from notes")
        .fetchall()
    )
    assert {(guid, *fields.split("\x1f")) for guid, fields, _ in notes} == {
        (c.guid, c.front, c.back) for c in cards
    }
    assert all("lesson02" in tags.split() for _, _, tags in notes)
    card = cards[0]
    assert Flashcard(card.front, "another answer", card.tags).guid == card.guid
    assert len({each.guid for each in cards}) == len(cards)
