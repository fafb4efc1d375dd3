"""A class from end to end: rows, points, reports; again and resumed; and the commands."""

import csv
import io
import json
import re
import threading
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from diffusion_lessons.__main__ import main
from diffusion_lessons.course import bank
from diffusion_lessons.course.exercises.verdict import Verdict
from diffusion_lessons.course.grading import grade as grading
from diffusion_lessons.course.grading import marking
from diffusion_lessons.course.grading.grade import Graded, grade
from diffusion_lessons.course.grading.marks import points
from diffusion_lessons.course.grading.marks.rows import row, steady
from diffusion_lessons.course.grading.results import report
from diffusion_lessons.course.grading.sandbox import Ending
from tests.course.grading.made import (
    EQUAL,
    HEAD,
    LIMITS,
    RIGHT,
    SETUP,
    STUB,
    WRONG,
    body,
    cells,
    content,
    notebook,
    write,
)

OF = len(bank.exercises("02"))  # exercises of the lesson that is handed in

BORROWED = body(
    "from diffusion_lessons.paths import DiscreteVP, renoise",
    "path = DiscreteVP(beta.view(1))",
    "return renoise(x, path(0), path(1), noise)",
)
EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("a class with spaces")
    write(made / "Ann" / "nb.ipynb", SETUP, HEAD + RIGHT, EQUAL)
    write(made / "Bo Øst" / "übung 1.ipynb", SETUP, HEAD + WRONG)
    write(made / "cy" / "first.ipynb", SETUP, HEAD + STUB)
    write(made / "cy" / "second.ipynb", SETUP, HEAD + RIGHT)
    write(made / "dot" / "nb.ipynb", SETUP, BORROWED)
    write(made / "=eve()" / f"x{EVIL[1:7]}.ipynb", SETUP, body(f"'{EVIL}'", f"raise ValueError('{EVIL}')"))
    write(made / "fay" / "nb.ipynb", SETUP, body("import os; os._exit(1)"), EQUAL)
    write(made / "gus" / "nb.ipynb", "print('another course')")
    (made / "hal.ipynb").write_bytes(content(cells(SETUP))[:-50])
    write(made / "ida" / "start.ipynb", '@exercise("00.1")\ndef to_unit(x):\n    return x / 2')
    write(made / "jo" / "nb.ipynb", SETUP, HEAD + WRONG, body("while True: pass"))
    return made


@pytest.fixture(scope="module")
def graded(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Graded, Path]:
    out = tmp_path_factory.mktemp("report")
    done = grade([folder], out, jobs=2, limits=LIMITS)
    report.write(done, out)
    return done, out


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"))))


def table(out: Path) -> list[dict[str, str]]:
    return rows((out / "grades.csv").read_text(encoding="utf-8"))


# The class ------------------------------------------------------------------------------------------


def test_a_row_for_each_student_and_exercise_and_totals(graded: tuple[Graded, Path]) -> None:
    found = table(graded[1])
    first = {row["file"]: (row["status"], row["kind"]) for row in found if row["exercise"] == "02.1"}
    assert first == {
        "Ann/nb.ipynb": ("passed", "passed"),
        "Bo Øst/übung 1.ipynb": ("wrong", "misconception"),
        "cy/first.ipynb": ("not attempted", "untouched"),
        "cy/second.ipynb": ("passed", "passed"),
        "dot/nb.ipynb": ("passed", "passed"),
        "'=eve()/xscript.ipynb": ("wrong", "exception"),
        "fay/nb.ipynb": ("wrong", "ended"),
        "jo/nb.ipynb": ("wrong", "timeout"),
    }
    totals = {
        row["file"]: (row["status"], row["points"], row["of"]) for row in found if row["exercise"] == "total"
    }
    assert totals["Ann/nb.ipynb"] == (f"2 of {OF} passed", "2", str(OF))
    assert totals["fay/nb.ipynb"] == (f"1 of {OF} passed", "1", str(OF))
    assert totals["gus/nb.ipynb"] == totals["hal.ipynb"] == ("not marked", "0", "0")
    assert totals["ida/start.ipynb"] == ("0 of 1 passed", "0", "1")
    wrong = next(row for row in found if row["student"] == "Bo Øst")
    assert (wrong["misconception"], wrong["message"][:35]) == (
        "variance-for-std",
        "You multiplied the noise by β. But ",
    )


def test_the_better_attempt_counts(graded: tuple[Graded, Path]) -> None:
    cy = [row for row in table(graded[1]) if row["student"] == "cy" and row["exercise"] == "total"]
    assert [(row["file"], row["counts"]) for row in cy] == [
        ("cy/first.ipynb", "no"),
        ("cy/second.ipynb", "yes"),
    ]
    assert "Another attempt counts: cy/second.ipynb." in cy[0]["notes"]


def test_a_spreadsheet_finds_no_formula(graded: tuple[Graded, Path]) -> None:
    raw = (graded[1] / "grades.csv").read_bytes()
    assert raw.startswith(b"\xef\xbb\xbfstudent,lesson,exercise,")
    assert not re.search(rb'(?m)(^|,)"?[=+@-]', raw)
    assert any(row["student"] == "'=eve()" for row in table(graded[1]))


def test_json_holds_the_answers(graded: tuple[Graded, Path]) -> None:
    stored = json.loads((graded[1] / "grades.json").read_text(encoding="utf-8"))
    ann = next(each for each in stored["submissions"] if each["student"] == "Ann")
    assert (ann["lesson"], ann["points"], ann["of"]) == ("02", 2.0, OF)
    assert ann["exercises"][0]["answer"] == HEAD + RIGHT
    assert stored["seed"] == 0


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, Any]]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_page_stands_alone_and_shows_what_students_wrote_as_text(graded: tuple[Graded, Path]) -> None:
    page = _Page()
    page.feed((graded[1] / "report.html").read_text(encoding="utf-8"))
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "img", "iframe", "object", "base"}
    assert not [about for _, about in page.tags if any(key in about for key in ("src", "onload", "onclick"))]
    links = [about["href"] for tag, about in page.tags if tag == "a"]
    assert all(link.startswith("#s") for link in links)
    assert {link[1:] for link in links} <= {about.get("id") for _, about in page.tags}
    words = " ".join(page.words)
    assert EVIL in words
    for expected in (
        "variance-for-std",  # of the most frequent mistakes
        "You multiplied the noise by β.",
        "calls the reference: renoise",
        "This is no notebook of this course",
        "ends in the middle",
        "torch.sqrt(1 - beta) * x",
    ):
        assert expected in words


def test_feedback_lies_below_each_answer(graded: tuple[Graded, Path]) -> None:
    folder = graded[1] / "feedback"
    bo = json.loads((folder / "Bo Øst" / "übung 1.ipynb").read_text(encoding="utf-8"))
    kinds = [cell["cell_type"] for cell in bo["cells"]]
    assert kinds == ["markdown", "code", "code", "markdown"]
    assert bo["cells"][0]["source"].startswith(f"## Feedback: 0 of {OF} points")
    assert "You multiplied the noise by β." in bo["cells"][3]["source"]
    written = sorted(str(file.relative_to(folder)) for file in folder.rglob("*.ipynb"))
    assert len(written) == 9
    import nbformat

    for file in folder.rglob("*.ipynb"):
        nbformat.validate(nbformat.read(file, as_version=4))


def test_the_same_folder_gives_the_same_files(
    folder: Path, graded: tuple[Graded, Path], tmp_path: Path
) -> None:
    report.write(grade([folder], tmp_path, jobs=1, limits=LIMITS), tmp_path)
    for name in ("grades.csv", "grades.json", "report.html"):
        assert (tmp_path / name).read_bytes() == (graded[1] / name).read_bytes()


def test_other_cases_give_the_same_verdicts(
    folder: Path, graded: tuple[Graded, Path], tmp_path: Path
) -> None:
    seeded = grade([folder / "Ann", folder / "Bo Øst"], tmp_path, limits=LIMITS, seed=99)
    assert [each.rows[0].kind for each in seeded.submissions] == ["passed", "misconception"]


# Again, and resumed ---------------------------------------------------------------------------------


def test_finished_submissions_are_not_run_again(
    graded: tuple[Graded, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "class" / "ann.ipynb", SETUP, HEAD + RIGHT)
    write(tmp_path / "class" / "bo.ipynb", SETUP, HEAD + WRONG)
    out, ran = tmp_path / "out", []
    real = marking.mark

    def noted(notebook: Any, *args: Any) -> Any:
        ran.append(notebook.code[1].source)
        return real(notebook, *args)

    monkeypatch.setattr(grading, "mark", noted)

    def run(**how: Any) -> list[str]:
        ran.clear()
        grade([tmp_path / "class"], out, jobs=1, **{"limits": LIMITS, **how})
        return sorted(ran)

    assert run() == sorted([HEAD + RIGHT, HEAD + WRONG])
    assert run() == []
    assert run(points=points.Points(default=3)) == []
    assert run(seed=5) == sorted([HEAD + RIGHT, HEAD + WRONG])
    assert run(again={"ann"}) == [HEAD + RIGHT]
    write(tmp_path / "class" / "bo.ipynb", SETUP, HEAD + STUB)
    assert run() == [HEAD + STUB]


def test_a_timeout_is_run_again_alone_or_with_another_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "class" / "ann.ipynb", SETUP, HEAD + RIGHT)
    write(tmp_path / "class" / "bo.ipynb", SETUP, body("while True: pass"))
    ran = []
    real = marking.mark

    def noted(notebook: Any, *args: Any) -> Any:
        ran.append(notebook.code[1].source[-4:])
        return real(notebook, *args)

    monkeypatch.setattr(grading, "mark", noted)
    for how, expected in (
        ({}, {"pass", "oise"}),
        ({}, set()),
        ({"again": {"timeouts"}}, {"pass"}),
        ({"limits": grading.Limits(5.0, LIMITS.memory, 0.5)}, {"pass"}),
    ):
        ran.clear()
        done = grade([tmp_path / "class"], tmp_path / "out", jobs=1, **{"limits": LIMITS, **how})
        assert set(ran) == expected
        assert done.submissions[1].rows[0].kind == "timeout"


@pytest.mark.parametrize("how", ["timeout", "memory"])
def test_a_limit_that_ends_the_reading_is_found_by_again_timeouts(how: str) -> None:
    class Slow:
        limits = LIMITS

        def ask(self, request: Any) -> tuple[Ending, bytes]:
            return Ending(how), b""

    made = marking.mark(notebook(SETUP, HEAD + RIGHT), "02", Slow())  # type: ignore[arg-type]
    assert {(each.status, each.kind, each.limited) for each in made} == {("wrong", how, True)}


def test_nothing_that_goes_wrong_with_one_stops_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ann", "bo", "cy"):
        write(tmp_path / "class" / f"{name}.ipynb", SETUP, HEAD + RIGHT, f"# {name}")
    real = marking.mark

    def fails(notebook: Any, *args: Any) -> Any:
        if notebook.code[2].source == "# bo":
            raise RuntimeError("a bug of ours")
        return real(notebook, *args)

    monkeypatch.setattr(grading, "mark", fails)
    done = grade([tmp_path / "class"], tmp_path / "out", limits=LIMITS)
    assert [each.passed for each in done.submissions] == [1, 0, 1]
    problem = done.submissions[1].problem
    assert problem == "The grader could not mark this notebook (RuntimeError: a bug of ours)."


def test_the_bar_counts_what_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow first one holds up nobody's count; what is kept from before is done already."""
    for name in ("ann", "bo", "cy"):
        write(tmp_path / "class" / f"{name}.ipynb", SETUP, HEAD + RIGHT, f"# {name}")
    counted, went_on, said = threading.Event(), [], []

    class Bar:
        def __init__(self, total: int, initial: int, **_: Any) -> None:
            said.append((initial, total))

        def __enter__(self) -> "Bar":
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def update(self) -> None:
            counted.set()

    def slow(notebook: Any, *_: Any) -> Any:
        if notebook.code[2].source == "# ann":
            went_on.append(counted.wait(20))
        return (row(bank.get("02.1"), Verdict("02.1", "passed", "passed", "right")),)

    monkeypatch.setattr(grading, "tqdm", Bar)
    monkeypatch.setattr(grading, "mark", slow)
    grade([tmp_path / "class"], tmp_path / "out", jobs=2, limits=LIMITS)
    grade([tmp_path / "class"], tmp_path / "out", jobs=2, limits=LIMITS, again={"ann"})
    assert went_on[0]
    assert said == [(0, 3), (2, 3)]


def test_a_class_of_twelve(tmp_path: Path) -> None:
    """Sixty in under six minutes: twelve, with one that loops, in under 72 seconds, tests beside them."""
    import time

    for i in range(12):
        last = body("while True: pass") if i == 5 else HEAD + (RIGHT if i % 2 else WRONG)
        write(tmp_path / "class" / f"{i}.ipynb", SETUP, f"# {i}", EQUAL, last)
    begin = time.monotonic()
    done = grade([tmp_path / "class"], tmp_path / "out", jobs=2, limits=LIMITS)
    assert time.monotonic() - begin < 72
    assert sum(each.passed for each in done.submissions) == 12 + 5


# Points ---------------------------------------------------------------------------------------------


def test_points_and_the_rule_on_the_reference(
    graded: tuple[Graded, Path], folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "points.toml"
    file.write_text('default = 2\nwrong = 0.25\nreference = "fail"\n[points]\n"02.1" = 4\n')
    out = graded[1]
    worth = points.load(file)
    done = {each.path: each for each in grade([folder], out, limits=LIMITS, points=worth).submissions}
    dot, bo = done["dot/nb.ipynb"].rows[0], done["Bo Øst/übung 1.ipynb"].rows[0]
    assert (dot.status, dot.kind, worth.of(dot)) == ("wrong", "reference", 0)
    assert dot.message == "Your answer calls `renoise`, which is what this exercise asks you to write."
    assert worth.of(bo) == 1.0
    assert sum(map(worth.of, done["Ann/nb.ipynb"].rows)) == 6
    dot = grade([folder], out, limits=LIMITS).submissions[5].rows[0]
    allowed = points.Points(reference="allow").ruled(dot)
    assert "renoise" not in " ".join(allowed.flags)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("defautl = 1", "unknown key in points.toml 'defautl'.*did you mean 'default'"),
        ('reference = "fial"', "unknown rule `reference` in points.toml 'fial'.*did you mean 'fail'"),
        ('[points]\n"2.1" = 1', "unknown exercise in points.toml '2.1'.*did you mean '02.1'"),
        ('[points]\n"02.1" = -1', "`02.1` is a number from 0 on, got -1"),
        ("default = true", "`default` is a number from 0 on, got True"),
        ("wrong = 2", "`wrong` is a share from 0 to 1, got 2"),
        ("points = 3", "`points` is a table"),
        ("default = ", "is no TOML"),
    ],
)
def test_bad_points_are_one_line(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "points.toml").write_text(text)
    with pytest.raises(ValueError, match=message):
        points.load(tmp_path / "points.toml")


def test_addresses_and_lengths_do_not_vary() -> None:
    assert steady("<object at 0x7f3a12bc>") == "<object at 0x…>"
    assert len(steady("x" * 10**6)) < 2100


# Commands -------------------------------------------------------------------------------------------


def run(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    """(exit code, standard output, standard error)."""
    code = 0
    try:
        main([str(arg) for arg in args])
    except SystemExit as stop:
        code = int(stop.code or 0)
    said = capsys.readouterr()
    return code, said.out, said.err


def test_check_says_what_passes_and_exits_with_0_only_then(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unit = '@exercise("00.1")\ndef to_unit(x):\n    return '
    right = write(tmp_path / "right.ipynb", unit + "(x + 1) / 2")
    code, out, _ = run(capsys, "check", right)
    assert code == 0
    assert out == "✓ 00.1  From [−1, 1] to [0, 1]  passed\n1 of 1 exercises passed\n"
    code, out, _ = run(capsys, "check", write(tmp_path / "wrong.ipynb", unit + "x + 1 / 2"))
    assert code == 1
    assert "✗ 00.1" in out
    assert "You wrote x + 1/2: the division comes before the sum" in out
    code, out, _ = run(
        capsys, "check", write(tmp_path / "stub.ipynb", unit.replace("return ", "pass")), "--json"
    )
    assert code == 1
    facts = json.loads(out)
    assert (facts["passed"], facts["exercises"][0]["status"]) == (False, "not attempted")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["check", "nowhere.ipynb"], "no notebook nowhere.ipynb"),
        (["check", "{folder}/bad.ipynb"], "bad.ipynb: The file is empty."),
        (["check", "{folder}/other.ipynb"], "other.ipynb: This is no notebook of this course"),
        (["grade", "nowhere"], "no folder, archive or notebook nowhere"),
        (["grade", "{folder}", "--jobs", "0"], "--jobs is at least 1, got 0"),
        (["grade", "{folder}", "--memory", "much"], "--memory is a size such as 4G or 500M, got 'much'"),
        (["grade", "{folder}", "--memory", "4K"], "--memory is at least 64M"),
        (["grade", "{folder}", "--timeout", "-1"], "--timeout is a number of seconds above 0, got -1"),
        (["grade", "{folder}", "--lesson", "2"], "unknown lesson with exercises '2'"),
        (["grade", "{folder}", "--points", "{folder}/none.toml"], "none.toml: No such file"),
        (["grade"], "nothing to grade"),
    ],
)
def test_bad_arguments_are_one_line(
    args: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "other.ipynb", "x = 1")
    (tmp_path / "bad.ipynb").touch()
    code, _, error = run(capsys, *(arg.format(folder=tmp_path) for arg in args))
    assert code == 2
    assert error.startswith("error: ")
    assert message in error
    assert len(error.strip().splitlines()) == 1


def test_grade_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "class" / "ann.ipynb", '@exercise("00.1")\ndef to_unit(x):\n    return (x + 1) / 2')
    (tmp_path / "class" / "bo.ipynb").touch()
    out = tmp_path / "class" / "report"  # inside: its feedback is no submission
    for _ in range(2):
        code, said, error = run(capsys, "grade", tmp_path / "class", "--out", out)
        assert code == 0
        assert "2 submissions, 1 of 1 exercises passed; 1 not marked (see the report)" in said
        assert "0 students" not in error
    assert sorted(file.name for file in out.iterdir() if not file.name.startswith(".")) == [
        "feedback",
        "gradebook.csv",
        "grades.csv",
        "grades.json",
        "report.html",
    ]
    code, said, _ = run(capsys, "grade", tmp_path / "class", "--out", out, "--json")
    facts = json.loads(said)
    assert (facts["submissions"], facts["passed"], facts["not marked"]) == (2, 1, 1)


def test_grade_with_a_roster_and_marks_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unit = '@exercise("00.1")\ndef to_unit(x):\n    return '
    for folder, answer in (
        ("Ann Lee_11_assignsubmission_file/v1", "(x + 1) / 2"),
        ("Ann Lee_11_assignsubmission_file/v2", "x / 2"),
        ("Kim Lee_12_assignsubmission_file", "(x + 1) / 2"),
    ):
        write(tmp_path / "class" / folder / "00_start_here.ipynb", unit + answer)
    (tmp_path / "roster.csv").write_text("Name;ID;Group\nLee, Kim;12;B\nLee, Ann;11;A\nRay, Bo;13;A\n")
    out, listed = tmp_path / "report", tmp_path / "roster.csv"
    call = ("grade", tmp_path / "class", "--out", out, "--roster", listed, "--count", "last")

    def book() -> list[tuple[str, str]]:
        return [(each["id"], each["total"]) for each in rows((out / "gradebook.csv").read_text("utf-8"))]

    code, said, error = run(capsys, *call)
    assert (code, book()) == (0, [("12", "1"), ("11", "0"), ("13", "")]), error
    assert "2 students: 3 submissions" in said
    assert re.search(r"(?m)^one student: Lee, Ann \(11\): .*/v1/.*/v2/.* One student on the roster\.$", said)
    assert "not handed in: 1 (Ray, Bo (13))" in said
    by_hand = "student,exercise,points,comment\nBo Ray,0.1,0.5,By mail.\n11,00.1,,See me.\n"
    (out / "overrides.csv").write_text(by_hand)
    for _ in range(2):
        assert run(capsys, *call)[0] == 0
        assert book() == [("12", "1"), ("11", "0"), ("13", "0.5")]
        assert (out / "overrides.csv").read_text() == by_hand
        assert [each["comment"] for each in table(out) if each["comment"]] == ["See me.", "By mail."]
    (out / "overrides.csv").write_text(by_hand + "Nobody,00.1,1,\n")
    code, _, error = run(capsys, *call)
    assert (code, error) == (
        2,
        "error: overrides.csv, line 4: no student 'Nobody' among the 3 of this class\n",
    )
    assert book()[2] == ("13", "0.5")
