"""Rosters and overrides as people and platforms save them, and who in a class is who."""

import unicodedata
from pathlib import Path

import pytest

from diffusion_lessons.course.grading import counting, roster
from diffusion_lessons.course.grading.intake.student import Student
from diffusion_lessons.course.grading.marks import overrides

PLAIN = "id,name,section\n7,Ann Lee,A\n8,José Ruiz,B\n"


def loaded(folder: Path, content: str | bytes) -> roster.Roster:
    file = folder / "roster.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return roster.load(file)


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,
        "\ufeff" + PLAIN,
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", "\t"),
        PLAIN.replace(",", ";").encode("cp1252"),
        PLAIN.encode("utf-16"),
        PLAIN.replace("\n", "\r\n"),
        "\n" + PLAIN + "\n,,\n",
        "Section,NAME , ID\nA,Ann  Lee,7\nB,José Ruiz,8\n",
        'Student,ID,SIS User ID,SIS Login ID,Section\n"    Points Possible",,,,\n"Lee, Ann",7,s7,al,A\n'
        '"Ruiz, José",8,s8,jr,B\n',  # Canvas
        "Identifier,Full name,Email address,Group\nParticipant 7,Ann Lee,a@x.org,A\n"
        "Participant 8,José Ruiz,,B\n",  # Moodle
        "Last Name,First Name,Username,Student ID,Section\nLee,Ann,al,7,A\nRuiz,José,jr,8,B\n",  # Blackboard
        "Vorname;Nachname;Matrikelnummer;Gruppe;Section\nAnn;Lee;7;1;A\nJosé;Ruiz;8;1;B\n",
    ],
)
def test_a_roster_is_read_however_it_was_saved(content: str | bytes, tmp_path: Path) -> None:
    read = loaded(tmp_path, content)
    assert [each.section for each in read.students] == ["A", "B"]
    for text in ("7", "Ann Lee", "Lee, Ann", " LEE,  ann ", "participant_7", "007", "leeann", "Lee Ann"):
        assert read.the(text).section == "A", text
    for text in ("8", "josé ruiz", unicodedata.normalize("NFD", "José Ruiz"), "Jose Ruiz", "ruizjose"):
        assert read.the(text).section == "B", text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "roster.csv is empty: its first line names the columns id, name"),
        ("a,b\n1,2\n", "its first line names the columns id, name, .*; got a, b"),
        ("section\nA\n", "no student in it"),
        ("id,name\n", "no student in it"),
        ("id,name\n7,Ann\n8,Bo\n07,Cy\n", "roster.csv, line 4: 07 is in roster.csv, line 2, too"),
        ("name\nAnn\nann\n", "line 3: ann is in roster.csv, line 2, too"),
        (b"PK\x03\x04\x00\x00", "is a workbook, no CSV: save the sheet as CSV"),
        ('id,name\n7,"' + "x" * 200_000, "does not read as CSV"),
    ],
)
def test_a_bad_roster_is_one_clear_line(content: str | bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        loaded(tmp_path, content)
    assert "\n" not in str(caught.value)


def test_a_roster_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot read .*none\.csv: No such file"):
        roster.load(tmp_path / "none.csv")


KIMS = "id,name\n11,Kim Lee\n12,Kim Lee\n13,Ann Ray\n"


@pytest.mark.parametrize(
    ("content", "found", "expected"),
    [
        (KIMS, [("Kim Lee", "11"), ("Kim Lee", "12")], ["11", "12"]),
        (KIMS, [("Kim Lee", "")], [None]),  # nobody knows which
        (KIMS, [("Somebody", "013"), ("Ann Ray", "13")], ["13", "13"]),
        (KIMS, [("13", "")], ["13"]),  # a folder that is called by the id
        (KIMS, [("Ann Ray", "77")], ["13"]),  # the platform's own id is another than the roster's
        (KIMS, [("Ann Ray", "77"), ("Ann Ray", "78")], [None, None]),  # two people, one of them a stranger
        (KIMS, [("Ann Ray", "13"), ("Ann Ray", "78")], ["13", None]),
        (KIMS, [("Ann Ray", ""), ("Ray, Ann", "")], ["13", "13"]),
        ("name\nMüller\nMuller\n", [("Müller", ""), ("muller", "")], ["Müller", "Muller"]),
        ("name\nMüller\n", [("Mueller", ""), ("Muller", "")], [None, "Müller"]),
        ("id,name,SIS User ID\n5,Zoë Ng,s5\n", [("?", "s5"), ("x", "5")], ["5", "5"]),
        ("id\n4711\n", [("Participant 4711", "4711")], ["4711"]),
    ],
)
def test_who_is_who(
    content: str, found: list[tuple[str, str]], expected: list[str | None], tmp_path: Path
) -> None:
    students = [Student(f"{i}", name, id) for i, (name, id) in enumerate(found)]
    made = roster.matched(loaded(tmp_path, content), students)
    on_it = [made.get(each) for each in students]
    known = {each.key for each in loaded(tmp_path, content).students}
    assert [each and (each.id if "id" in content.split("\n")[0] else each.name) for each in on_it] == expected
    assert all(each is None or each.key in known for each in on_it)


# Overrides ------------------------------------------------------------------------------------------


def test_overrides_are_read_as_spreadsheets_leave_them(tmp_path: Path) -> None:
    text = "Student;Exercise;Points;Comment\n7;2.1;1,5;gut\nAnn Lee;02,4;;siehe Tafel\n"
    (tmp_path / overrides.NAME).write_bytes(("\ufeff" + text).encode())
    given = overrides.load(None, tmp_path)
    assert [(each.student, each.exercise, each.points, each.comment) for each in given] == [
        ("7", "02.1", 1.5, "gut"),
        ("Ann Lee", "02.4", None, "siehe Tafel"),
    ]
    assert overrides.load(None, tmp_path / "elsewhere") == []


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("7,02.9,1,", r"unknown exercise in overrides.csv, line 2: '02.9'.*did you mean"),
        ("7,,1,", "unknown exercise in overrides.csv, line 2"),
        (",02.1,1,", "overrides.csv, line 2: the column `student` is empty"),
        ("7,02.1,-1,", "line 2: points are a number from 0 on, or empty; got '-1'"),
        ("7,02.1,much,", "line 2: points are a number"),
        ("7,02.1,nan,", "line 2: points are a number"),
        ("7,02.1,1,\n\n9,02.1,1,", "overrides.csv, line 4: no student '9' among the 2 of this class"),
        (
            "Ann Lee,02.1,1,\n7,02.1,2,",
            r"line 3: Ann Lee \(7\), exercise 02.1, is in overrides.csv, line 2, too",
        ),
    ],
)
def test_bad_overrides_name_their_line(lines: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "overrides.csv").write_text(f"student,exercise,points,comment\n{lines}\n")
    with pytest.raises(ValueError, match=message):
        counting.resolved(overrides.load(None, tmp_path), loaded(tmp_path, PLAIN))


def test_a_name_that_two_have_asks_for_the_id(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"2 students are called 'Kim Lee' \(Kim Lee \(11\), Kim Lee \(12\)\)"
    ):
        loaded(tmp_path, KIMS).the("Kim Lee")
