"""What is written at the end, from rows made by hand: nothing here runs a submission."""

import ast
import csv
import io
import json
import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from diffusion_lessons.course import bank
from diffusion_lessons.course.exercises.verdict import Verdict
from diffusion_lessons.course.grading import counting, roster
from diffusion_lessons.course.grading.grade import Graded, grade
from diffusion_lessons.course.grading.intake.found import Found
from diffusion_lessons.course.grading.intake.identify import Merge, Submission
from diffusion_lessons.course.grading.intake.student import Student
from diffusion_lessons.course.grading.marks.kinds import KINDS, explained
from diffusion_lessons.course.grading.marks.overrides import Override
from diffusion_lessons.course.grading.marks.points import Points
from diffusion_lessons.course.grading.marks.rows import LIMITS, Row, row
from diffusion_lessons.course.grading.results import feedback, report, tables
from diffusion_lessons.course.grading.results.page import page
from tests.course.grading.made import HEAD, RIGHT, STUB

OF = len(bank.exercises("02"))  # exercises of the lesson that is handed in

ROOT = Path(__file__).resolve().parents[3]
ANN, BO = Student("ann", "Ann Lee", "7", "A"), Student("bo", "Bo")
LESSON = {each.id: each for each in bank.exercises("02")}


def rows(*passed: str, **changes: Any) -> tuple[Row, ...]:
    made = []
    for id, exercise in LESSON.items():
        status, kind = ("passed", "passed") if id in passed else ("wrong", "value")
        answer = {"text": HEAD + RIGHT, "place": (1, 0)}
        made.append(replace(row(exercise, Verdict(id, status, kind, f"said of {id}"), answer), **changes))
    return tuple(made)


def submission(path: str, student: Student, made: tuple[Row, ...] = (), **more: Any) -> Submission:
    content = json.dumps({"nbformat": 4, "cells": [{"cell_type": "code", "source": "x"}] * 2, "metadata": {}})
    found = Found(PurePosixPath(path), lambda: io.BytesIO(content.encode()))
    return Submission(found, student=student, lesson="02", rows=made, **more)


def graded(*submissions: Submission, **more: Any) -> Graded:
    return Graded(submissions, Points(), 0, None, **more)


def sheet(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"))))


# Which attempt counts -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("paths", "last"),
    [
        (["ann/Version 2/nb.ipynb", "ann/Version 10/nb.ipynb"], 1),
        (["ann/Version 10/nb.ipynb", "ann/Version 2/nb.ipynb"], 0),
        (["x_attempt_2025-01-02-10-00-00_nb.ipynb", "a_attempt_2025-01-03-09-00-00_nb.ipynb"], 1),
        (["x_attempt_2025-01-02-10-00-00_nb.ipynb", "a_attempt_2025-01-02-09-59-00_nb.ipynb"], 0),
        (["lee_1_22_nb.ipynb", "lee_1_22_nb-1.ipynb"], 1),
        (["nb (2).ipynb", "nb.ipynb", "nb (10).ipynb"], 2),
        (["nb_v2.ipynb", "nb_v1.ipynb"], 0),
        (["b/nb.ipynb", "a/nb.ipynb"], 0),
        (["\u0662" * 30 + ".ipynb", "9" * 300 + ".ipynb"], 1),
    ],
)
def test_the_last_attempt(paths: list[str], last: int) -> None:
    attempts = [submission(path, ANN, rows("02.1")) for path in paths]
    done = counting.counted(attempts, Points(), "last")
    assert [each.counts for each in done] == [i == last for i in range(len(paths))]
    note = f"Another attempt counts: {paths[last]}."
    assert all(note in each.notes for each in done if not each.counts)


def test_late_comes_after_in_time_and_the_best_is_another_rule() -> None:
    late = submission("a/nb.ipynb", ANN, rows(), late=True)
    done = [late, submission("b/nb.ipynb", ANN, rows("02.1"))]
    assert [each.counts for each in counting.counted(done, Points(), "last")] == [True, False]
    assert [each.counts for each in counting.counted(done, Points(), "best")] == [False, True]
    with pytest.raises(ValueError, match="unknown rule --count 'first'"):
        grade([], Path("out"), count="first")


# A roster, and marks by hand ------------------------------------------------------------------------


def test_who_has_not_handed_in_has_a_row_and_a_line(tmp_path: Path) -> None:
    (tmp_path / "roster.csv").write_text("id,name,section\n7,Ann Lee,A\n9,Cy,B\n8,Dee,B\n")
    listed = roster.load(tmp_path / "roster.csv")
    ann, _, dee = listed.students
    done = [submission("ann/nb.ipynb", ann, rows("02.1"), late=True), submission("bo/nb.ipynb", BO, rows())]
    done.append(replace(submission("dee/x.pdf", dee), lesson="", problem="The file is a PDF."))
    done += counting.absent(listed, done)
    made = graded(*done, roster=tuple(listed.students))
    assert [
        (each["student"], each["status"]) for each in sheet(tables.as_csv(made)) if each["lesson"] != "02"
    ] == [("Dee", "not marked")]
    missing = [each for each in sheet(tables.as_csv(made)) if each["status"] == "not handed in"]
    assert [(each["student"], each["id"], each["section"], each["lesson"]) for each in missing] == [
        ("Cy", "9", "B", "02")
    ]
    assert sheet(tables.gradebook(made)) == [
        {"id": "7", "name": "Ann Lee", "section": "A", "lesson 02": "1", "total": "1", "late": "yes"},
        {"id": "9", "name": "Cy", "section": "B", "lesson 02": "", "total": "", "late": "no"},
        {"id": "8", "name": "Dee", "section": "B", "lesson 02": "", "total": "", "late": "no"},
        {"id": "", "name": "Bo", "section": "", "lesson 02": "0", "total": "0", "late": "no"},
    ]
    said = report.words(made)
    assert said.splitlines()[0].startswith(
        f"3 students: 3 submissions, 1 of {2 * OF} exercises passed; 1 not marked"
    )
    assert said.splitlines()[1:] == ["not handed in: 1 (Cy (9))", "not on the roster: 1 (Bo)"]
    text = page(made)
    assert "Not on the roster" in text
    assert "Nothing handed in" in text


def test_every_merge_is_told(tmp_path: Path) -> None:
    merge = Merge(ANN, ("Mon/ann", "Tue/ann"), "All carry the id 7.")
    made = graded(submission("Mon/ann/nb.ipynb", ANN, rows()), merges=(merge,))
    assert "one student: Ann Lee (7): Mon/ann, Tue/ann. All carry the id 7." in report.words(made)
    assert report.facts(made)["merges"][0]["paths"] == ("Mon/ann", "Tue/ann")
    assert "Mon/ann, Tue/ann" in page(made)


def test_marks_by_hand_are_in_every_table_and_in_the_feedback(tmp_path: Path) -> None:
    by_hand = {
        (ANN, "02.1"): Override("line 2", "7", "02.1", 0.5, "Shown at the board."),
        (ANN, "02.2"): Override("line 3", "7", "02.2", None, "See me."),
        (BO, "02.4"): Override("line 4", "bo", "02.4", 2.0, "On paper."),
    }
    first = submission("ann/nb.ipynb", ANN, rows("02.2", "02.3"))
    done = counting.overridden([first, submission("bo/x.pdf", BO, problem="a PDF")], by_hand)
    made = graded(*done)
    table = {(each["student"], each["exercise"]): each for each in sheet(tables.as_csv(made))}
    assert (table["Ann Lee", "02.1"]["points"], table["Ann Lee", "02.1"]["comment"]) == (
        "0.5",
        "Shown at the board.",
    )
    assert (table["Ann Lee", "02.2"]["points"], table["Ann Lee", "02.2"]["comment"]) == ("1", "See me.")
    assert [each["total"] for each in sheet(tables.gradebook(made))] == ["2.5", "2"]
    assert "0.5 points by hand</b> Shown at the board." in page(made)
    report.write(made, tmp_path)
    handed_back = (tmp_path / "feedback" / "ann" / "nb.ipynb").read_text(encoding="utf-8")
    assert f"2.5 of {OF} points" in handed_back
    assert "Shown at the board." in handed_back
    assert not (tmp_path / "feedback" / "bo").exists()


# Nothing stops the report ---------------------------------------------------------------------------

HALF = "\ud83d and \x00\x1b[31m"


@pytest.mark.parametrize(
    "field", ["message", "details", "answer", "comment", "flags", "notes", "misconception"]
)
def test_half_a_character_stops_no_file(field: str, tmp_path: Path) -> None:
    text: Any = (HALF,) if field in ("flags", "notes") else HALF
    odd = submission("a/nb.ipynb", Student("a", HALF, HALF, HALF), rows(**{field: text}), notes=(HALF,))
    files = report.write(graded(odd, submission("b/nb.ipynb", BO, rows("02.1"))), tmp_path)
    assert [file.name for file in files] == [*report.WRITERS, "feedback"]
    for file in filter(Path.is_file, tmp_path.rglob("*")):
        text = file.read_text(encoding="utf-8")
        assert "\x00" not in text
        assert "said of 02.2" in text or file.name in ("gradebook.csv", "feedback.json") or field == "message"
    json.loads((tmp_path / "grades.json").read_text(encoding="utf-8"))


class _Fails(str):
    """A text that no writer gets anything out of."""

    def __str__(self) -> str:
        raise RuntimeError("a bug of ours")

    split = __html__ = __str__


@pytest.mark.parametrize("field", ["message", "answer", "details"])
def test_what_a_writer_stumbles_over_is_left_out_and_its_row_says_so(field: str, tmp_path: Path) -> None:
    odd = submission("a/nb.ipynb", ANN, rows("02.1", **{field: _Fails("x")}))
    report.write(graded(odd, submission("b/nb.ipynb", BO, rows("02.1"))), tmp_path)
    found = sheet((tmp_path / "grades.csv").read_text(encoding="utf-8"))
    totals = {each["student"]: each["points"] for each in found if each["exercise"] == "total"}
    assert totals == {"Ann Lee": "1", "Bo": "1"}
    assert {each["message"] for each in found if each["student"] == "Bo" and each["exercise"] == "02.2"} == {
        "said of 02.2"
    }
    if field != "details":  # which only the page and the feedback show
        assert any(
            "could not be written" in each["message"] for each in found if each["student"] == "Ann Lee"
        )
    assert (tmp_path / "report.html").exists()


def test_feedback_that_fails_is_told_and_the_others_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = feedback.noted

    def fails(each: Submission, points: Points) -> Any:
        if each.student == ANN:
            raise KeyError("source")
        return real(each, points)

    monkeypatch.setattr(feedback, "noted", fails)
    report.write(graded(submission("a/n.ipynb", ANN, rows()), submission("b/n.ipynb", BO, rows())), tmp_path)
    totals = [
        each for each in sheet((tmp_path / "grades.csv").read_text("utf-8")) if each["exercise"] == "total"
    ]
    assert [each["notes"] for each in totals] == ["No feedback could be written ('source').", ""]
    assert [file.name for file in (tmp_path / "feedback").rglob("*.ipynb")] == ["n.ipynb"]


def test_feedback_of_what_is_gone_goes_and_what_others_wrote_stays(tmp_path: Path) -> None:
    folder = tmp_path / "feedback"
    three = [submission(f"{name}/nb.ipynb", Student(name, name), rows()) for name in ("ann", "bo", "cy")]
    report.write(graded(*three), tmp_path)
    (folder / "cy" / "nb.ipynb").write_text("changed by hand")
    (folder / "my own.ipynb").write_text("{}")
    (folder / "notes.txt").write_text("mine")
    for _ in range(2):
        told: list[str] = []
        report.write(graded(three[0]), tmp_path, told.append)
        there = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
        assert there == {"ann/nb.ipynb", "cy/nb.ipynb", "my own.ipynb", "notes.txt"}
        assert told[-1].endswith("but not of this run: cy/nb.ipynb, my own.ipynb")
    assert not (folder / "bo").exists()


@pytest.mark.parametrize("name", ["empty", "hidden", "readme"])
def test_an_empty_folder_is_an_error_and_overwrites_nothing(name: str, tmp_path: Path) -> None:
    for file in ("empty", "hidden/.DS_Store", "readme/README.md", "readme/class.json"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("{}") if "." in file else (tmp_path / file).mkdir()
    before = graded(submission("a/nb.ipynb", ANN, rows()))
    report.write(before, tmp_path / "out")
    with pytest.raises(
        ValueError, match=rf"nothing was handed in: no notebook in .*{name}; the report is left"
    ):
        grade([tmp_path / name], tmp_path / "out")
    assert "Ann Lee" in (tmp_path / "out" / "grades.csv").read_text(encoding="utf-8")


# The page -------------------------------------------------------------------------------------------


class _Outline(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, *names: str) -> list[tuple[str, dict[str, str | None]]]:
        return [each for each in self.tags if each[0] in names]


@pytest.fixture
def a_class() -> Graded:
    return graded(
        submission("ann/nb.ipynb", ANN, rows("02.1")),
        submission("bo/nb.ipynb", BO, rows("02.1", "02.2", flags=("equal to the answer of Ann",))),
        submission("cy/x.pdf", Student("cy", "Cy"), problem="The file is a PDF."),
        merges=(Merge(ANN, ("a", "b"), "why"),),
    )


def test_the_page_has_landmarks_headings_in_order_and_tables_with_names(a_class: Graded) -> None:
    outline = _Outline(page(a_class))
    assert [tag for tag, _ in outline.all("header", "main")] == ["header", "main"]
    assert all(about["aria-label"] for _, about in outline.all("nav"))
    levels = [int(tag[1]) for tag, _ in outline.all("h1", "h2", "h3", "h4", "h5", "h6")]
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert len(outline.all("caption")) == len(outline.all("table")) > 3
    assert all(about.get("scope") in ("col", "row") for _, about in outline.all("th"))
    ids = [about["id"] for _, about in outline.tags if "id" in about]
    assert len(ids) == len(set(ids))
    assert {str(about["href"])[1:] for _, about in outline.all("a")} <= set(ids)


def test_every_count_leads_to_those_answers(a_class: Graded) -> None:
    text = page(a_class)
    found = re.findall(r"<summary>([^<]*)</summary>(.*?)</details>", text, re.DOTALL)
    lists = [(count, re.findall(r'href="#(s\d+-\d+-02\.\d)"', inside)) for count, inside in found]
    lists = [(count, links) for count, links in lists if links]
    assert all(int(count.split()[0]) == len(links) for count, links in lists)
    assert ("2", ["s0-0-02.1", "s1-0-02.1"]) in lists
    assert ("1 ×", ["s0-0-02.2"]) in lists


def test_the_matrix_says_in_words_what_became_of_each_answer(a_class: Graded) -> None:
    matrix = page(a_class).split("Students and exercises of lesson 02")[2]
    lines = [re.sub(r"<[^>]+>|\s+", " ", line).split() for line in matrix.split("<tr>")[1:5]]
    assert " ".join(lines[1]) == f"Ann Lee (7) ✓ passed{' ✗ wrong' * (OF - 1)} 1 of {OF}"
    assert " ".join(lines[2]) == f"Bo ✓ passed ✓ passed{' ✗ wrong' * (OF - 2)} 2 of {OF}"
    assert " ".join(lines[3]).startswith("Cy – nothing that could be marked")


def kinds_in_the_code() -> set[str]:
    """Every text that the code hands out as the kind of something wrong."""
    found = {*LIMITS, *re.findall('"([a-z ]+)"', Verdict.__doc__ or "")}
    places = {"Verdict": 2, "verdict": 1, "Difference": 0, "Failure": 0}
    course = ROOT / "diffusion_lessons" / "course"
    for folder in ("exercises", "grading"):
        for file in (each for each in (course / folder).rglob("*.py") if each.parent.name != "intake"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call):
                    place = places.get(getattr(node.func, "id", getattr(node.func, "attr", "")), 99)
                    found |= _texts(node.args[place]) if len(node.args) > place else set()
                for name, value in _named(node):
                    if name == "kind":
                        found |= _texts(value)
    return found


def _named(node: ast.AST) -> list[tuple[str, ast.expr]]:
    """Names that a node gives a value to."""
    if isinstance(node, ast.keyword):
        return [(node.arg or "", node.value)]
    if not isinstance(node, ast.Assign):
        return []
    (target,), value = node.targets[:1], node.value
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        return [(getattr(t, "id", ""), v) for t, v in zip(target.elts, value.elts, strict=False)]
    return [(getattr(target, "id", ""), value)]


def _texts(value: ast.expr) -> set[str]:
    if isinstance(value, ast.IfExp):
        return _texts(value.body) | _texts(value.orelse)
    return {value.value} if isinstance(value, ast.Constant) and isinstance(value.value, str) else set()


def test_every_kind_of_verdict_is_explained_in_the_page_and_in_the_guide(a_class: Graded) -> None:
    found = kinds_in_the_code() - {""}
    assert {"value", "signature", "random", "reference", "syntax", "forged", "misconception"} <= found
    assert [kind for kind in found if not explained(kind)] == []
    text, guide = unescape(page(a_class)), (ROOT / "docs" / "instructors.md").read_text(encoding="utf-8")
    for status, meanings in KINDS.items():
        for kind, meaning in meanings.items():
            assert meaning in text
            assert f"| {status} | `{kind}` | {meaning} |" in guide


def test_a_kind_that_a_submission_made_up_is_forged() -> None:
    assert row(LESSON["02.1"], Verdict("02.1", "wrong", "<b>mine", "said")).kind == "forged"


def test_equal_answers_are_flagged_between_students_only() -> None:
    text = HEAD + "".join(f"    y{i} = x * {i} + noise.sqrt()\n" for i in range(6)) + "    return y5"
    mine = tuple(replace(each, answer=text) for each in rows("02.1"))
    stub = tuple(replace(each, answer=HEAD + STUB, status="not attempted") for each in rows())
    cy, dee = Student("cy", "Cy"), Student("dee", "Dee")
    done = [
        submission("ann/1.ipynb", ANN, mine),
        submission("ann/2.ipynb", ANN, mine, counts=False),
        submission("bo/1.ipynb", BO, tuple(replace(each, answer=text.replace("y", "z")) for each in mine)),
        submission("cy/1.ipynb", cy, stub),
        submission("dee/1.ipynb", dee, stub),
    ]
    flags = [each.rows[0].flags for each in counting.compared(done)]
    assert flags == [("equal to the answer of Bo",), (), ("equal to the answer of Ann Lee (7)",), (), ()]
