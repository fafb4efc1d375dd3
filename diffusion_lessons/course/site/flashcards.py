"""The interview cards and the quizzes as flashcards: a deck for Anki and a table for everything else."""

import csv
import hashlib
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase

from diffusion_lessons.course.site.reading import Study
from diffusion_lessons.course.student.quiz import Question
from diffusion_lessons.course.widgets.page import markup

DECK = "Diffusion models: twenty questions"
CSS = ".card { font: 1.15em/1.5 sans-serif; text-align: left; max-width: 40em; margin: auto; }"


@dataclass(frozen=True)
class Flashcard:
    """One card: HTML on both sides, and tags such as "lesson02" and "interview"."""

    front: str
    back: str
    tags: tuple[str, ...]

    @property
    def guid(self) -> str:
        """What Anki knows the card by: a later deck renews the answer and keeps what was learnt."""
        return hashlib.sha256(f"{self.tags[0]}\n{self.front}".encode()).hexdigest()[:20]


def flashcards(studies: Iterable[Study]) -> list[Flashcard]:
    """The questions, what is asked next, and the quizzes, lesson by lesson."""
    return [card for study in studies for card in _of(study)]


def _of(study: Study) -> Iterator[Flashcard]:
    lesson = f"lesson{study.entry.number}"
    if study.interview:
        asked = markup(study.interview.question)
        yield Flashcard(asked, paragraphs(study.interview.answer), (lesson, "interview"))
        for question, answer in study.interview.follow_ups:
            if answer:
                front = f"<small>{asked}</small><br>{markup(question)}"
                yield Flashcard(front, paragraphs(answer), (lesson, "follow-up"))
    for each in study.questions:
        yield Flashcard(_asked(each), _explained(each), (lesson, "quiz"))


def paragraphs(text: str) -> str:
    """A text with blank lines as HTML paragraphs."""
    return "".join(f"<p>{markup(part)}</p>" for part in text.strip().split("\n\n"))


def _asked(question: Question) -> str:
    choices = "".join(f"<li>{markup(choice.text)}</li>" for choice in question.choices)
    note = " <em>(more than one is right)</em>" if question.several else ""
    return f'<p>{markup(question.text)}{note}</p><ol type="A">{choices}</ol>'


def _explained(question: Question) -> str:
    """Every choice with its explanation, the right ones first said by letter."""
    lettered = list(zip(ascii_uppercase, question.choices, strict=False))
    right = " and ".join(letter for letter, choice in lettered if choice.right)
    said = {True: "<strong>Right.</strong>", False: "No."}
    rows = "".join(f"<li>{said[choice.right]} {markup(choice.why)}</li>" for choice in question.choices)
    return f'<p><strong>{right}</strong></p><ol type="A">{rows}</ol>'


def table(cards: Iterable[Flashcard]) -> str:
    """The cards as CSV with the columns front, back and tags."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("front", "back", "tags"))
    rows.writerows((card.front, card.back, " ".join(card.tags)) for card in cards)
    return text.getvalue()


def write_deck(cards: Iterable[Flashcard], file: Path) -> None:
    """The cards as a deck that Anki imports."""
    import genanki

    model = genanki.Model(
        _number("model"),
        DECK,
        fields=[{"name": "front"}, {"name": "back"}],
        templates=[{"name": "card", "qfmt": "{{front}}", "afmt": '{{front}}<hr id="answer">{{back}}'}],
        css=CSS,
    )
    deck = genanki.Deck(_number("deck"), DECK)
    for card in cards:
        deck.add_note(genanki.Note(model, [card.front, card.back], guid=card.guid, tags=list(card.tags)))
    genanki.Package(deck).write_to_file(file)


def _number(kind: str) -> int:
    """The number that Anki knows this deck or its kind of card by, the same in every build."""
    return int(hashlib.sha256(f"{DECK} {kind}".encode()).hexdigest()[:8], 16)
