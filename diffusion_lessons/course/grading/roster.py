"""Who is in the class: a roster, and students found by an id or a name, however it is written."""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from diffusion_lessons.course.grading.intake.student import Student
from diffusion_lessons.course.grading.marks import sheets

COLUMNS = {
    "id": (
        *("id", "studentid", "sisuserid", "userid", "identifier", "idnumber", "matrikelnummer"),
        *("sisloginid", "username", "login", "emailaddress", "email"),
    ),
    "name": ("name", "student", "fullname", "studentname", "displayname"),
    "first": ("firstname", "givenname", "vorname"),
    "last": ("lastname", "surname", "familyname", "nachname"),
    "section": ("section", "sections", "group", "groups", "class", "course"),
}
NO_STUDENT = "points possible"  # the second line of Canvas's gradebook


@dataclass(frozen=True)
class Entry:
    """A student, and all that the student is known by."""

    student: Student
    ids: tuple[str, ...]


class Roster:
    """Students that are found by any of their ids, else by their name."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.students: list[Student] = []
        self._found: list[defaultdict[str, dict[str, Student]]] = [defaultdict(dict) for _ in range(3)]
        for entry in entries:
            student = entry.student
            self.students.append(student)
            for place, keys in enumerate((map(_id_key, entry.ids), *_name_keys(student.name))):
                for key in keys:
                    self._found[place][key][student.key] = student

    def by_id(self, *texts: str) -> list[Student]:
        """Those with this id."""
        return _first(self._found[0], [key for text in texts if (key := _id_key(text))])

    def by_name(self, name: str) -> list[Student]:
        """Those with this name, "Lee, Ann" being Ann Lee; without accents and spaces where none has it so."""
        strict, loose = _name_keys(name)
        return _first(self._found[1], strict) or _first(self._found[2], loose)

    def the(self, text: str) -> Student:
        """The one student whom a person means by an id or a name; else a ValueError."""
        found = self.by_id(text) or self.by_name(text)
        if len(found) == 1:
            return found[0]
        if found:
            ids = ", ".join(label(each) for each in found)
            raise ValueError(f"{len(found)} students are called {text!r} ({ids}): give the id")
        raise ValueError(f"no student {text!r} among the {len(self.students)} of this class")


def load(file: Path) -> Roster:
    """The roster in a CSV file: the columns id, name and section, in any order and as platforms head them.

    A file that has neither ids nor names, and a student who is in it twice, are a ValueError.
    """
    entries: dict[str, Entry] = {}
    places: dict[str, str] = {}
    for line in sheets.read(file, COLUMNS):
        ids = line.cells["id"]
        name = line["name"] or f"{line['first']} {line['last']}".strip()
        if name.casefold() == NO_STUDENT or not (ids or name):
            continue
        key = _id_key(ids[0]) if ids else name.casefold()
        if key in entries:
            raise ValueError(f"{line.place}: {ids[0] if ids else name} is in {places[key]}, too")
        student = Student(key, name or ids[0], ids[0] if ids else "", line["section"])
        entries[key], places[key] = Entry(student, ids), line.place
    if not entries:
        raise ValueError(f"{file}: no student in it; expected the columns id, name and section")
    return Roster(entries.values())


def found(students: Iterable[Student]) -> Roster:
    """The students that handed something in, where there is no roster."""
    return Roster(Entry(each, (each.id,) if each.id else ()) for each in students)


def matched(roster: Roster, students: Sequence[Student]) -> dict[Student, Student]:
    """Each student of whom there is work -> the same one as the roster has it; who is not on it is left out.

    An id counts before a name. Where several students with ids of their own have one name, that name tells
    nothing.
    """
    by_id = {each: roster.by_id(each.id, each.name) for each in students}
    made = {each: found[0] for each, found in by_id.items() if len(found) == 1}
    sure = {each.key for each in made.values()}
    by_name: defaultdict[Student, list[Student]] = defaultdict(list)
    for each in students:
        if each not in made and len(named := roster.by_name(each.name)) == 1:
            by_name[named[0]].append(each)
    for entry, claims in by_name.items():
        with_id = [each for each in claims if each.id]
        rivals = with_id if len(with_id) > 1 or entry.key in sure else []
        made |= {each: entry for each in claims if each not in rivals}
    return {
        each: replace(to, id=to.id or each.id, section=to.section or each.section)
        for each, to in made.items()
    }


def label(student: Student) -> str:
    """A student's name, with the id where one is known."""
    return f"{student.name} ({student.id})" if student.id and student.id != student.name else student.name


def _first(index: dict[str, dict[str, Student]], keys: Iterable[str]) -> list[Student]:
    """The students under the first of some keys that is known."""
    return next((list(index[key].values()) for key in keys if key in index), [])


def _id_key(text: str) -> str:
    """An id without case, zeros that a spreadsheet drops, and Moodle's "Participant"."""
    return text.strip().casefold().removeprefix("participant").strip(" _-").lstrip("0")


def _name_keys(name: str) -> tuple[list[str], list[str]]:
    """What a name is found by: its words in any order; and its letters without accents, from any word on."""
    last, comma, first = unicodedata.normalize("NFC", name).casefold().partition(",")
    words = f"{first} {last}".split() if comma else last.split()
    letters = ["".join(filter(str.isalnum, unicodedata.normalize("NFKD", word))) for word in words]
    turns = ["".join(letters[i:] + letters[:i]) for i in range(len(letters))]
    return [" ".join(sorted(words))] if words else [], list(filter(None, turns))
