"""Who handed in what: the layouts of learning platforms and of people, and what is one student or two."""

import re
import time
import unicodedata
from pathlib import PurePosixPath

import pytest

from diffusion_lessons.course.grading.intake.student import Whose, students

NB = "02_forward_process.ipynb"
OTHER = "03_reverse_process.ipynb"


def whose(*paths: str, stated: dict[str, str] | None = None) -> list[Whose]:
    """Whose the files are; one that is called "reverse" or 03 is of lesson 03, other notebooks are of 02."""

    def lesson(path: str) -> str:
        number = "03" if re.search(r"(?<!\d)03_|reverse", path) else "02"
        return number if path.endswith(".ipynb") else ""

    return students(
        [(PurePosixPath(path), lesson(path), (stated or {}).get(path, "")) for path in sorted(paths)]
    )


def grouped(*paths: str, stated: dict[str, str] | None = None) -> dict[tuple[str, str], int]:
    """(name, id) of each student -> how many files."""
    found: dict[str, list[Whose]] = {}
    for each in whose(*paths, stated=stated):
        found.setdefault(each.student.key, []).append(each)
    counts: dict[tuple[str, str], int] = {}
    for mine in found.values():
        key = (mine[0].student.name, mine[0].student.id)
        while key in counts:
            key = (key[0] + "'", key[1])
        counts[key] = len(mine)
    return counts


def plain(*people: str) -> dict[tuple[str, str], int]:
    return {(each, ""): 1 for each in people}


LAYOUTS: dict[str, tuple[list[str], dict[tuple[str, str], int]]] = {
    # Moodle
    "moodle, hidden names, folders": (
        [f"Participant_{id}_assignsubmission_file/{NB}" for id in (4711, 4712, 99)],
        {("Participant", id): 1 for id in ("4711", "4712", "99")},
    ),
    "moodle, hidden names, flat": (
        [f"Teilnehmer_in_{id}_assignsubmission_file_{NB}" for id in (4711, 4712)],
        {("Teilnehmer_in", id): 1 for id in ("4711", "4712")},
    ),
    "moodle, one name": (
        [f"Kim Lee_11_assignsubmission_file_/{NB}", f"Kim Lee_12_assignsubmission_file_/{NB}"],
        {("Kim Lee", "11"): 1, ("Kim Lee", "12"): 1},
    ),
    "moodle, one name, flat, other lessons": (
        [f"Kim Lee_11_assignsubmission_file_{NB}", f"Kim Lee_12_assignsubmission_file_{OTHER}"],
        {("Kim Lee", "11"): 1, ("Kim Lee", "12"): 1},
    ),
    "moodle, text and file": (
        [f"Ann_11_assignsubmission_file/{NB}", "Ann_11_assignsubmission_onlinetext/onlinetext.html"],
        {("Ann", "11"): 2},
    ),
    "moodle, two tasks, ids of each": (
        [
            *(
                f"hw{k}/{name}_{id + k}_assignsubmission_file/{file}"
                for k, file in ((1, NB), (2, OTHER))
                for name, id in (("Ann", 10), ("Bo", 20))
            )
        ],
        {("Ann", "11"): 2, ("Bo", "21"): 2},
    ),
    "moodle, two tasks, two of one name": (
        [
            f"a/Ann_1_assignsubmission_file/{NB}",
            f"a/Ann_2_assignsubmission_file/{NB}",
            f"b/Ann_3_assignsubmission_file/{OTHER}",
        ],
        {("Ann", "1"): 1, ("Ann", "2"): 1, ("Ann", "3"): 1},
    ),
    "moodle, sections with one name": (
        [f"Section A/Ann_1_assignsubmission_file/{NB}", f"Section B/Ann_2_assignsubmission_file/{NB}"],
        {("Ann", "1"): 1, ("Ann", "2"): 1},
    ),
    "moodle, group": (
        [f"Group 1-Ann_1_assignsubmission_file/{NB}", f"Group 2-Anna-Lena Berg_2_assignsubmission_file/{NB}"],
        {("Ann", "1"): 1, ("Anna-Lena Berg", "2"): 1},
    ),
    # Canvas
    "canvas": (
        [
            f"leejiwon_12345_67890_{NB}",
            f"bergann_LATE_12346_67891_{NB}",
            "bergann_12346_67892_02_forward_process-1.ipynb",
        ],
        {("leejiwon", "12345"): 1, ("bergann", "12346"): 2},
    ),
    "canvas, one name": (
        [f"leekim_11_67890_{NB}", f"leekim_12_67891_{NB}"],
        {("leekim", "11"): 1, ("leekim", "12"): 1},
    ),
    "canvas, one name, in a folder": (
        [f"autumn/leekim_101_67890_{NB}", f"autumn/leekim_102_67891_{NB}"],
        {("leekim", "101"): 1, ("leekim", "102"): 1},
    ),
    "canvas, anonymous": (
        [f"anon_4711_67890_{NB}", f"anon_aB1cD_67891_{NB}", f"anon_LATE_zz12Q_67892_{NB}"],
        {("anon", "4711"): 1, ("anon", "aB1cD"): 1, ("anon", "zz12Q"): 1},
    ),
    "no canvas": (["amy/hw_1_2026.ipynb", "bo/hw_1_2026.ipynb"], plain("amy", "bo")),
    "no canvas, dates": (
        ["ann_02_20261103.ipynb", "ann_03_20261104.ipynb", "bo_02_20261103.ipynb"],
        plain("ann_02_20261103", "ann_03_20261104", "bo_02_20261103"),
    ),
    # Others
    "blackboard": (
        [f"HW 2_ab12_attempt_2026-11-0{k}-12-00-00_{NB}" for k in (1, 2)]
        + [f"HW 2_cd3_attempt_2026-11-03-12-00-00_{NB}"],
        {("ab12", "ab12"): 2, ("cd3", "cd3"): 1},
    ),
    "brightspace": (
        [
            f"12345-67890 - Ann Lee - Nov 3, 2026 1159 PM/{NB}",
            f"12346-67890 - Ann Lee - Nov 4, 2026 101 AM/{NB}",
        ],
        {("Ann Lee", "12345"): 1, ("Ann Lee", "12346"): 1},
    ),
    "gradescope": (
        [f"assignment_export/submission_12345678{k}/{NB}" for k in (1, 2)],
        {("submission", "123456781"): 1, ("submission", "123456782"): 1},
    ),
    "teams": (
        [
            f"Submitted files/Lee, Ann/Forward/Version 1/{NB}",
            f"Submitted files/Lee, Ann/Forward/Version 2/{NB}",
            f"Submitted files/Berg, Bo/Forward/Version 1/{NB}",
        ],
        {("Lee, Ann", ""): 2, ("Berg, Bo", ""): 1},
    ),
    "teams, one student": ([f"Lee, Ann/Version {k}/{NB}" for k in (1, 2)], {("Lee, Ann", ""): 2}),
    "google classroom": (
        ["Ann Lee - Copy of 02_forward_process.ipynb", "Bo Berg - 02_forward_process.ipynb"],
        plain("Ann Lee", "Bo Berg"),
    ),
    "nbgrader": (
        [f"submitted/{name}/{file[:-6]}/{file}" for name in ("ann", "bo") for file in (NB, OTHER)],
        {("ann", ""): 2, ("bo", ""): 2},
    ),
    "github classroom": (
        [f"02-forward-{name}/{NB}" for name in ("ann", "bo-berg")] + [f"03-reverse-process-ann/{OTHER}"],
        {("ann", ""): 2, ("bo-berg", ""): 1},
    ),
    "several platforms": (
        [
            f"moodle/Ann Berg_4711_assignsubmission_file/{NB}",
            f"moodle/Bo_4712_assignsubmission_file/{NB}",
            f"canvas/leecy_4711_99001_{NB}",
            f"canvas/leedi_4713_99002_{NB}",
        ],
        {("Ann Berg", "4711"): 1, ("Bo", "4712"): 1, ("leecy", "4711"): 1, ("leedi", "4713"): 1},
    ),
    "several platforms, archives with names of their own": (
        [
            f"x1/Ann_7_assignsubmission_file_/{NB}",
            f"x2/leecy_4711_99001_{NB}",
            f"x2/leedi_4713_99002_{NB}",
            f"x3/Submitted files/Lee, Ed/Version 1/{NB}",
            f"x3/Submitted files/Lee, Fay/Version 1/{NB}",
        ],
        {
            ("Ann", "7"): 1,
            ("leecy", "4711"): 1,
            ("leedi", "4713"): 1,
            ("Lee, Ed", ""): 1,
            ("Lee, Fay", ""): 1,
        },
    ),
    "a platform and plain folders": (
        [f"Ann Berg_4711_assignsubmission_file/{NB}", f"Ann Berg/{OTHER}", f"Bo/{NB}"],
        {("Ann Berg", "4711"): 2, ("Bo", ""): 1},
    ),
    # Plain
    "sections": (
        [f"Section A/amy/{NB}", f"Section A/bo/{NB}", f"Section B/cy/{NB}"],
        plain("amy", "bo", "cy"),
    ),
    "days": ([f"Mon/ann/{NB}", f"Tue/bo/{NB}"], plain("ann", "bo")),
    "a student called Sun": ([f"Sun/work/{NB}", f"Li/work/{NB}", f"Wang/{NB}"], plain("Sun", "Li", "Wang")),
    "sections of any name": ([f"Blue/amy/{NB}", f"Blue/bo/{NB}", f"Green/cy/{NB}"], plain("amy", "bo", "cy")),
    "sections of any name, files": (
        ["Blue/amy.ipynb", "Blue/bo.ipynb", "Green/cy.ipynb", "di.ipynb"],
        plain("amy", "bo", "cy", "di"),
    ),
    "one name in two sections": (
        [f"{s}/{name}/{NB}" for s, name in (("Group 1", "kim"), ("Group 1", "lee"), ("Group 2", "kim"))],
        {("kim", ""): 1, ("kim'", ""): 1, ("lee", ""): 1},
    ),
    "one name in two sections of any name": (
        [
            f"{s}/{name}/{NB}"
            for s, name in (("Blue", "kim"), ("Blue", "lee"), ("Green", "kim"), ("Green", "mo"))
        ],
        {("kim", ""): 1, ("kim'", ""): 1, ("lee", ""): 1, ("mo", ""): 1},
    ),
    "homework folders": (
        [f"hw1/amy/{NB}", f"hw1/bo/{NB}", f"hw2/amy/{OTHER}", f"hw2/bo/{OTHER}"],
        {("amy", ""): 2, ("bo", ""): 2},
    ),
    "homework folders of any name": (
        [f"{t}/{name}/{f}" for t, f in (("Rauschen", NB), ("Entrauschen", OTHER)) for name in ("amy", "bo")],
        {("amy", ""): 2, ("bo", ""): 2},
    ),
    "weeks": (
        [f"week 2/amy/{NB}", f"week 3/amy/{OTHER}", f"week 3/bo/{OTHER}"],
        {("amy", ""): 2, ("bo", ""): 1},
    ),
    "lessons and names": (
        [
            f"02_forward_process-amy/{NB}",
            "02_forward_process_bo/work.ipynb",
            f"03 reverse process amy/{OTHER}",
        ],
        {("amy", ""): 2, ("bo", ""): 1},
    ),
    "homework and names": (
        [f"hw1-amy/{NB}", f"hw1-bo/{NB}", f"hw2-amy/{OTHER}"],
        {("amy", ""): 2, ("bo", ""): 1},
    ),
    "on time and late": (
        [f"on time/amy/{NB}", f"on time/bo/{NB}", f"late/amy/{NB}"],
        {("amy", ""): 2, ("bo", ""): 1},
    ),
    "late beside students": ([f"late/amy/{NB}", f"bo/{NB}", f"cy/{NB}"], plain("amy", "bo", "cy")),
    "copies": (
        [f"{name}/{file}" for name in ("amy", "bo") for file in (NB, "02_forward_process copy.ipynb")],
        {("amy", ""): 2, ("bo", ""): 2},
    ),
    "one folder with a copy": ([f"amy/{NB}", "amy/02_forward_process (1).ipynb"], {("amy", ""): 2}),
    "attempts": (
        [f"amy/{NB}", "amy/first.ipynb", f"bo/{NB}", "bo/first.ipynb"],
        {("amy", ""): 2, ("bo", ""): 2},
    ),
    "names of files that come again": (
        [f"{name}/{file}.ipynb" for name in ("amy", "bo") for file in ("sketch", "fair copy of it")],
        {("amy", ""): 2, ("bo", ""): 2},
    ),
    "an attempt of one in many": (
        [f"p{k}erson/mine{k}x.ipynb" for k in range(5)] + ["p0erson/again.ipynb"],
        {(f"p{k}erson", ""): 1 + (k == 0) for k in range(5)},
    ),
    "lessons hold students": (
        [
            f"{folder}/{name}.ipynb"
            for folder in ("02_forward_process", "03_reverse_process")
            for name in ("ann", "bo")
        ],
        {("ann", ""): 2, ("bo", ""): 2},
    ),
    "deep": (
        [f"course 2026/autumn/{s}/{name}/{NB}" for s, name in (("A", "amy"), ("A", "bo"), ("B", "cy"))],
        plain("amy", "bo", "cy"),
    ),
    "teams of students": (
        [f"Section A/group {k}/{NB}" for k in (1, 2)] + [f"Section B/group 3/{NB}"],
        plain("group 1", "group 2", "group 3"),
    ),
    "composed or not": (
        [
            f"{unicodedata.normalize('NFC', 'José')}/{NB}",
            f"{unicodedata.normalize('NFD', 'José')}/{OTHER}",
            f"Zoë/{NB}",
        ],
        {("José", ""): 2, ("Zoë", ""): 1},
    ),
    "case and spaces": (
        [f"hw1/Ann  Lee/{NB}", f"hw2/ann_lee/{OTHER}", f"hw1/bo/{NB}"],
        {("Ann Lee", ""): 2, ("bo", ""): 1},
    ),
    "no names at all": (
        [NB, "02_forward_process (1).ipynb", "Untitled.ipynb"],
        plain("02_forward_process", "02_forward_process (1)", "Untitled"),
    ),
    "no names, and a copy": (
        [NB, "02_forward_process-Copy1.ipynb", "02_forward_process (1).ipynb"],
        {("02_forward_process", ""): 2, ("02_forward_process (1)", ""): 1},
    ),
    "numbered namesakes": ([f"Kim Lee ({k})/{NB}" for k in (1, 2)], plain("Kim Lee (1)", "Kim Lee (2)")),
    "a name with a lesson's letters": ([f"Brunet/{NB}", f"Br/{NB}"], plain("Brunet", "Br")),
    "student numbers": ([f"20231234/{NB}", f"20231235/{NB}"], plain("20231234", "20231235")),
    "archives beside their notebook": (
        ["ann.ipynb", f"ann.ipynb/{NB}", "bo.ipynb"],
        {("ann", ""): 2, ("bo", ""): 1},
    ),
    "other files": (
        [f"amy/{NB}", "amy/a.png", "amy/b.csv", f"bo/{NB}", "cy.docx", "Blue/x.pdf"],
        {("amy", ""): 3, ("bo", ""): 1, ("cy", ""): 1, ("Blue", ""): 1},
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_students_of_a_layout(layout: str) -> None:
    paths, expected = LAYOUTS[layout]
    assert grouped(*paths) == expected


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_folder_around_all_changes_nothing(layout: str) -> None:
    paths, expected = LAYOUTS[layout]
    if layout not in (
        "no names at all",
        "no names, and a copy",
        "teams, one student",
        "one folder with a copy",
    ):
        assert grouped(*(f"everything/handed in/{path}" for path in paths)) == expected


# What is known besides --------------------------------------------------------------------------------


def test_late_work_and_sections_are_known() -> None:
    found = whose(
        f"Section A/on time/amy/{NB}",
        f"Section A/late/amy/{NB}",
        f"Section B/on time/bo/{NB}",
        f"Section B/cy (late)/{NB}",
        f"Section B/leedi_LATE_123_45678_{NB}",
    )
    assert [(each.student.name, each.student.section, each.late) for each in found] == [
        ("amy", "Section A", True),
        ("amy", "Section A", False),
        ("cy", "Section B", True),
        ("leedi", "Section B", True),
        ("bo", "Section B", False),
    ]


def test_a_section_is_shown_as_it_is_written() -> None:
    found = whose(f"Linné 1/amy/{NB}", f"Linné 1/bo/{NB}", f"Linné 2/cy/{NB}")
    assert [each.student.section for each in found] == ["Linné 1", "Linné 1", "Linné 2"]


def test_a_file_of_the_teachers_is_nobodys() -> None:
    found = whose(
        "README.md", "class.json", "Blue/README.md", "Blue/amy.ipynb", "Blue/bo.ipynb", "cy/README.md"
    )
    assert [each.student.name for each in found] == [
        "no student",
        "amy",
        "bo",
        "no student",
        "no student",
        "cy",
    ]


@pytest.mark.parametrize(
    ("stated", "names", "notes"),
    [
        ({"eve": "bo"}, ["bo", "eve"], [None, "says that it is by bo, who is another student"]),
        ({"eve": "Bo", "bo": "Bo"}, ["bo", "eve"], ["2 notebooks say that they are by Bo"] * 2),
        ({"eve": "Eve Ng"}, ["bo", "Eve Ng"], [None, None]),
        ({"eve": "Eve Ng", "bo": "Eve Ng"}, ["bo", "eve"], ["2 notebooks say that they are by Eve Ng"] * 2),
    ],
)
def test_a_name_in_a_notebook_never_takes_anothers_place(
    stated: dict[str, str], names: list[str], notes: list[str | None]
) -> None:
    found = whose(f"bo/{NB}", f"eve/{NB}", stated={f"{who}/{NB}": name for who, name in stated.items()})
    assert [each.student.name for each in found] == names
    assert len({each.student.key for each in found}) == 2
    for each, note in zip(found, notes, strict=True):
        assert note in each.notes[0] if note else not each.notes


def test_anothers_lesson_is_not_taken_by_a_name_in_a_notebook() -> None:
    found = whose(f"bo/{NB}", f"eve/{OTHER}", stated={f"eve/{OTHER}": "bo"})
    assert [each.student.name for each in found] == ["bo", "eve"]


def test_the_name_in_a_notebook_counts_where_the_path_says_none() -> None:
    copies = [f"Copy of {NB}", f"Copy of {NB[:-6]} (1).ipynb", f"Copy of {OTHER}"]
    stated = dict(zip(copies, ("Ann", "Bo", "Ann"), strict=True))
    assert grouped(*copies, stated=stated) == {("Ann", ""): 2, ("Bo", ""): 1}
    found = whose(
        NB, "02_forward_process (1).ipynb", stated={NB: "Ann", "02_forward_process (1).ipynb": "Ann"}
    )
    assert len({each.student.key for each in found}) == 2


def test_all_of_a_students_work_shows_one_name() -> None:
    found = whose(f"eve/{NB}", f"eve/{OTHER}", f"bo/{NB}", stated={f"eve/{NB}": "Eve Ng"})
    assert [each.student.name for each in found] == ["bo", "Eve Ng", "Eve Ng"]


def test_names_cost_no_more_than_their_length() -> None:
    long = ["_1" * 30_000, " " * 60_000, "-" * 60_000 + "copy", "02_forward_process" * 3_000, "a - " * 15_000]
    begin = time.process_time()
    assert len(whose(*(f"{name}x{k}/{NB}" for k, name in enumerate(long)))) == 5
    assert time.process_time() - begin < 2


def test_a_large_class_is_read_at_once() -> None:
    begin = time.process_time()
    paths = [f"week {w}/S{s}/student {s}-{k} x/{NB}" for w in range(5) for s in range(10) for k in range(80)]
    assert len(whose(*paths)) == 4000
    assert time.process_time() - begin < 20
