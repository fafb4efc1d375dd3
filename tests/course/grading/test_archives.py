"""Files and archives that are damaged, hostile, locked or nobody's: each has a row, the class its report."""

import io
import json
import os
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from diffusion_lessons.__main__ import main
from diffusion_lessons.course.grading.intake import archives
from diffusion_lessons.course.grading.intake.files import find
from diffusion_lessons.course.grading.intake.found import Found
from diffusion_lessons.course.grading.intake.identify import Submission, identify, merges
from diffusion_lessons.course.grading.intake.notebook import NoNotebook, read
from diffusion_lessons.course.grading.results.feedback import _free
from diffusion_lessons.support import zips
from tests.course.grading.made import HEAD, RIGHT, SETUP, cells, content, write

NOTEBOOK = content(cells(SETUP, HEAD + RIGHT))


def known(*places: Path) -> dict[str, Submission]:
    return {each.path: each for each in identify(find(places))}


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return target.getvalue()


def with_flag(data: bytes, flag: int) -> bytes:
    """An archive whose files all have a flag: 1 says that there is a password."""
    changed = bytearray(data)
    for mark, skip in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = data.find(mark)
        while at >= 0:
            changed[at + skip] |= flag
            at = data.find(mark, at + 1)
    return bytes(changed)


def damaged(method: int) -> Iterator[bytes]:
    """An archive with a damage at each of many places."""
    whole = zipped({"02.ipynb": NOTEBOOK, "in/x.zip": zipped({"03.ipynb": NOTEBOOK})}, method)
    for at in range(0, len(whole), max(1, len(whole) // 60)):
        yield whole[:at] + bytes(byte ^ 0xA5 for byte in whole[at : at + 9]) + whole[at + 9 :]
        yield whole[:at]


@pytest.mark.parametrize(
    "method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_whatever_is_damaged_in_an_archive_its_student_has_a_row(method: int, tmp_path: Path) -> None:
    write(tmp_path / "bo.ipynb", HEAD + RIGHT)
    for data in damaged(method):
        (tmp_path / "ann.zip").write_bytes(data)
        found = known(tmp_path)
        assert found["bo.ipynb"].problem == ""
        mine = [each for each in found.values() if each is not found["bo.ipynb"]]
        assert mine
        assert all(each.problem or each.lesson for each in mine)


ARCHIVES: dict[str, tuple[bytes, str]] = {
    "password": (with_flag(zipped({"02.ipynb": NOTEBOOK, "03.ipynb": NOTEBOOK}), 1), "has a password"),
    "empty": (zipped({}), "is empty"),
    "only noise": (zipped({".DS_Store": b"x"}), "is empty"),
    "no archive": (b"something else", "can not be opened"),
    "many files": (
        zipped({f"{k}.ipynb": b"" for k in range(5001)}, zipfile.ZIP_STORED),
        "at most 5000 are read",
    ),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_that_nobody_can_read_has_one_row(name: str, tmp_path: Path) -> None:
    data, why = ARCHIVES[name]
    (tmp_path / "ann").mkdir()
    (tmp_path / "ann" / "work.zip").write_bytes(data)
    write(tmp_path / "ann" / "nb.ipynb", HEAD + RIGHT)
    write(tmp_path / "bo" / "nb.ipynb", HEAD + RIGHT)
    found = known(tmp_path)
    assert set(found) == {"ann/work.zip", "ann/nb.ipynb", "bo/nb.ipynb"}
    assert why in found["ann/work.zip"].problem
    assert found["ann/work.zip"].student.name == "ann"


@pytest.mark.parametrize("name", ["work.7z", "work.rar", "work.tar.gz", "work.tgz"])
def test_other_archives_have_a_row_beside_a_notebook(name: str, tmp_path: Path) -> None:
    (tmp_path / "ann").mkdir()
    (tmp_path / "ann" / name).write_bytes(b"x")
    write(tmp_path / "ann" / "nb.ipynb", HEAD + RIGHT)
    assert "not read: hand in the notebook itself" in known(tmp_path)[f"ann/{name}"].problem


def test_one_locked_file_of_a_class_costs_no_other(tmp_path: Path) -> None:
    first, second = (zipped({f"{name}.ipynb": NOTEBOOK}) for name in ("ann", "bo"))
    (tmp_path / "class.zip").write_bytes(zipped({"a.zip": with_flag(first, 1), "b.zip": second}))
    found = known(tmp_path / "class.zip")
    assert "has a password" in found["a.zip"].problem
    assert found["b/bo.ipynb"].problem == ""


def test_a_notebook_beside_its_archive_and_a_deep_path(tmp_path: Path) -> None:
    write(tmp_path / "ann.ipynb", HEAD + RIGHT)
    (tmp_path / "ann.ipynb.zip").write_bytes(zipped({"ann.ipynb": NOTEBOOK}))
    (tmp_path / "bo.zip").write_bytes(zipped({"d/" * 5000 + "nb.ipynb": NOTEBOOK}))
    found = known(tmp_path)
    assert sorted(each.student.name for each in found.values()) == ["ann", "ann", "bo"]
    assert all(not each.problem and len(each.path) < 100 for each in found.values())
    assert [(each.student.name, each.paths) for each in merges(found.values())] == [
        ("ann", ("ann.ipynb", "ann.ipynb/ann.ipynb"))
    ]


def test_names_in_utf_8_without_the_flag(tmp_path: Path) -> None:
    data = bytearray(zipped({"Zoë Müller/nb.ipynb": NOTEBOOK, "王伟/nb.ipynb": NOTEBOOK}))
    for mark, skip in ((b"PK\3\4", 7), (b"PK\1\2", 9)):
        for at in [k for k in range(len(data)) if data[k : k + 4] == mark]:
            data[at + skip] &= ~8 & 255
    (tmp_path / "class.zip").write_bytes(data)
    assert set(known(tmp_path / "class.zip")) == {"Zoë Müller/nb.ipynb", "王伟/nb.ipynb"}


@pytest.mark.skipif(os.name == "nt", reason="file names are text on Windows")
def test_names_that_are_no_text_stay_apart(tmp_path: Path) -> None:
    for name in (b"jos\xe9.ipynb", b"jos\xe8.ipynb"):
        (tmp_path / os.fsdecode(name)).write_bytes(NOTEBOOK)
    found = known(tmp_path)
    assert set(found) == {"jos%E9.ipynb", "jos%E8.ipynb"}
    assert len({each.student.key for each in found.values()}) == 2


def test_a_folder_that_can_not_be_read_has_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "ann" / "nb.ipynb", HEAD + RIGHT)
    write(tmp_path / "bo" / "nb.ipynb", HEAD + RIGHT)
    real = os.scandir

    def refuses(path: Any) -> Any:
        if os.fspath(path).endswith("ann"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", refuses)
    found = known(tmp_path)
    assert found["ann"].problem == "The folder can not be read: Permission denied."
    assert (found["ann"].student.name, found["bo/nb.ipynb"].problem) == ("ann", "")


@pytest.mark.parametrize("packed", [False, True])
def test_an_old_report_is_left_out(packed: bool, tmp_path: Path) -> None:
    files = {
        "ann/nb.ipynb",
        "bo/nb.ipynb",
        "old/grades.json",
        "old/.marked/1.json",
        "old/feedback/ann/nb.ipynb",
    }
    for name in files:
        (tmp_path / "class" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "class" / name).write_bytes(NOTEBOOK)
    place = tmp_path / "class"
    if packed:
        place = tmp_path / "class.zip"
        place.write_bytes(zipped({f"class/{name}": NOTEBOOK for name in sorted(files)}))
    assert set(known(place)) == {"ann/nb.ipynb", "bo/nb.ipynb"}


def test_files_of_the_teachers_have_a_row_and_no_student(tmp_path: Path) -> None:
    write(tmp_path / "ann" / "nb.ipynb", HEAD + RIGHT)
    write(tmp_path / "bo" / "nb.ipynb", HEAD + RIGHT)
    for name in ("README.md", "class.json", "ann/README.md", "ann/class.json"):
        (tmp_path / name).write_text("{}")
    found = known(tmp_path)
    assert set(found) == {"ann/nb.ipynb", "bo/nb.ipynb", "README.md", "class.json"}
    assert {found[name].problem for name in ("README.md", "class.json")} == {
        "This is no student's file: left out."
    }
    assert found["README.md"].student.key == ""


@pytest.mark.parametrize("packed", [False, True])
def test_every_student_who_handed_in_something_else_has_a_row(packed: bool, tmp_path: Path) -> None:
    files = {"Section A/ann.ipynb": NOTEBOOK, "Section B/eve.ipynb": NOTEBOOK}
    files |= {f"Section A/{name}": b"%PDF" for name in ("bo.pdf", "cy.docx", "di.pdf")}
    for name, data in files.items():
        (tmp_path / "class" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "class" / name).write_bytes(data)
    (tmp_path / "class.zip").write_bytes(zipped(files))
    found = known(tmp_path / ("class.zip" if packed else "class"))
    assert {each.student.name for each in found.values()} == {"ann", "bo", "cy", "di", "eve"}


def test_thousands_of_pictures_in_a_students_folder_cost_nothing(tmp_path: Path) -> None:
    for k in range(6000):
        (tmp_path / "ann" / "data" / f"{k}.png").parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "ann" / "data" / f"{k}.png").touch()
    write(tmp_path / "ann" / "nb.ipynb", HEAD + RIGHT)
    write(tmp_path / "bo" / "nb.ipynb", HEAD + RIGHT)
    assert set(known(tmp_path)) == {"ann/nb.ipynb", "bo/nb.ipynb"}


# What reading costs --------------------------------------------------------------------------------


def test_an_archive_in_an_archive_is_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = zipped({f"{k}/nb.ipynb": NOTEBOOK for k in range(20)})
    (tmp_path / "class.zip").write_bytes(zipped({"a.zip": inner, "b.zip": inner}))
    opened = []
    real = zips.read_entry

    def counted(archive: Any, entry: Any, *target: Any) -> Any:
        opened.append(entry.filename)
        return real(archive, entry, *target)

    monkeypatch.setattr(zips, "read_entry", counted)
    found = find([tmp_path / "class.zip"])
    assert len(identify(found)) == 40
    assert sum(name.endswith(".zip") for name in opened) <= 4  # to list them, to read them
    assert sum(name.endswith(".ipynb") for name in opened) == 40


def test_archives_that_would_unpack_to_more_than_they_are(tmp_path: Path) -> None:
    bomb = zipped({"bomb.ipynb": bytes(40 * 2**20), "ann.ipynb": NOTEBOOK})
    (tmp_path / "a.zip").write_bytes(bomb)
    nested = NOTEBOOK
    for name in ("nb.ipynb", "1.zip", "2.zip", "3.zip"):
        nested = zipped({name: nested})
    (tmp_path / "b.zip").write_bytes(nested)
    data = bytearray(zipped({f"{k}.ipynb": NOTEBOOK for k in range(9)}))
    for at in [k for k in range(len(data)) if data[k : k + 4] == b"PK\1\2"]:
        data[at + 20 : at + 24] = len(data).to_bytes(4, "little")  # packed bytes, of which others have a part
    (tmp_path / "c.zip").write_bytes(data)
    said = {path: each.problem for path, each in known(tmp_path).items()}
    assert "more than 200 times its size" in said["a/bomb.ipynb"]
    assert said["a/ann.ipynb"] == ""
    assert "more than 2 deep" in next(why for path, why in said.items() if path.startswith("b"))
    assert "lie over each other" in said["c.zip"]


def test_an_archive_with_an_endless_list_of_files_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MAX_DIRECTORY", 1000)
    (tmp_path / "ann.zip").write_bytes(zipped({f"{k}.txt": b"" for k in range(50)}))
    assert "its list of files is too long" in known(tmp_path)["ann.zip"].problem


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b'{"cells": [' + b"{}," * 30_000 + b"{}]}", "has 30001 cells"),
        (b'{"cells": [' + b"{}," * 4_000_000 + b"{}]}", "is made of 4000003 parts"),
        (b'{"cells": [], "metadata": ' + b"[[]," * 3_000_000 + b"1", "parts"),
    ],
)
def test_millions_of_empty_cells_are_not_made(data: bytes, why: str) -> None:
    begin = time.process_time()
    with pytest.raises(NoNotebook, match=why):
        read(data)
    assert time.process_time() - begin < 2


def test_anything_in_a_notebook_is_a_row_and_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = cells(SETUP, HEAD + RIGHT)
    half["metadata"] |= {"authors": [{"name": "A\ud83d"}], "diffusion_lessons": {"student": "B\udcff"}}
    half["cells"][1] |= {"id": "exercise-02-1\ud800", "source": [HEAD, RIGHT, "  # \udfff"]}
    (tmp_path / "ann.ipynb").write_bytes(json.dumps(half).encode())
    write(tmp_path / "bo.ipynb", HEAD + RIGHT)
    found = known(tmp_path)
    assert found["ann.ipynb"].problem == ""
    json.dumps(found["ann.ipynb"].student.name, ensure_ascii=False).encode()
    assert all((cell.id + cell.source).encode() for cell in found["ann.ipynb"].notebook.cells)  # type: ignore[union-attr]
    real = Found.content

    def breaks(self: Found) -> bytes:
        if self.path.name == "ann.ipynb":
            raise MemoryError
        return real(self)

    monkeypatch.setattr(Found, "content", breaks)
    found = known(tmp_path)
    assert found["ann.ipynb"].problem == "The file can not be read as a notebook (MemoryError)."
    assert found["bo.ipynb"].problem == ""


# To the end ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["x.ipynb", "x.ipynb/nb.ipynb", "x/nb.ipynb"], ["x.ipynb", "x/nb.ipynb", "x/nb (2).ipynb"]),
        (["X.ipynb", "x.ipynb.txt"], ["X.ipynb", "x (2).ipynb"]),
        (["a.ipynb.ipynb/b.ipynb", "a:?/b.ipynb"], ["a/b.ipynb", "a__/b.ipynb"]),
        (["进" * 82 + ".ipynb", "进" * 81 + ".ipynb"], ["进" * 40 + ".ipynb", "进" * 40 + " (2).ipynb"]),
        (["/".join("abcdefgh" * 19) + ".ipynb"], ["a/g/h.ipynb"]),
        ([".ipynb", "../nb.ipynb"], ["ipynb.ipynb", "_/nb.ipynb"]),
    ],
)
def test_every_notebook_has_a_place_for_its_feedback(paths: list[str], expected: list[str]) -> None:
    taken: set[str] = set()
    made = [_free(PurePosixPath(path), taken) for path in paths]
    assert [each.as_posix() for each in made] == expected
    assert all(len(os.fsencode(part)) < 200 for each in made for part in each.parts)


def test_whatever_a_class_hands_in_its_report_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    right = '@exercise("00.1")\ndef to_unit(x):\n    return (x + 1) / 2'
    notebook = content(cells(right, "# \ud83d"))
    place = tmp_path / "class"
    for name in ("x.ipynb", "进" * 82 + ".ipynb", "amy/nb.ipynb"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(notebook)
    (place / "x.ipynb.zip").write_bytes(zipped({"nb.ipynb": notebook}))
    (place / "deep.zip").write_bytes(zipped({"d/" * 3000 + "nb.ipynb": notebook}))
    (place / "locked.zip").write_bytes(with_flag(zipped({"nb.ipynb": notebook}), 1))
    (place / "broken.zip").write_bytes(bytes(len(notebook)))
    (place / "README.md").write_text("Hand in by Monday.")
    main(["grade", str(place), "--out", str(tmp_path / "out")])
    assert "6 students: 8 submissions, 5 of 5 exercises passed; 3 not marked" in capsys.readouterr().out
    stored = json.loads((tmp_path / "out" / "grades.json").read_text(encoding="utf-8"))
    problems = {each["file"]: each["problem"] for each in stored["submissions"] if each["problem"]}
    assert set(problems) == {"README.md", "broken.zip", "locked.zip"}
    assert len(list((tmp_path / "out" / "feedback").rglob("*.ipynb"))) == 5
