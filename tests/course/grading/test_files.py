"""What is handed in: layouts, archives, names, formats, and what is no notebook at all."""

import io
import json
import os
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from diffusion_lessons.course.grading.intake import archives
from diffusion_lessons.course.grading.intake.files import MAX_BYTES, find
from diffusion_lessons.course.grading.intake.identify import FOREIGN, Submission, identify
from diffusion_lessons.course.grading.intake.lesson import lesson_of
from diffusion_lessons.course.grading.intake.notebook import NoNotebook, parsed, read, with_notes
from tests.course.grading.made import EQUAL, HEAD, RIGHT, SETUP, cells, content, write

ANSWER = HEAD + RIGHT


def known(*places: Path, lesson: str | None = None) -> dict[str, Submission]:
    """What is known of each file before anything runs."""
    return {each.path: each for each in identify(find(places), lesson)}


def students(*places: Path) -> dict[str, str]:
    return {path: each.student.name for path, each in known(*places).items()}


# Layouts --------------------------------------------------------------------------------------------


def test_a_file_for_each_student(tmp_path: Path) -> None:
    for name in ("ann.ipynb", "Bo Øst_02_forward_process.ipynb", "02_forward_process_李雷 (1).ipynb"):
        write(tmp_path / name, ANSWER)
    assert sorted(students(tmp_path).values()) == ["Bo Øst", "ann", "李雷"]


def test_only_the_lessons_own_digits_are_taken_out_of_a_name(tmp_path: Path) -> None:
    for name in ("group 11", "group 12", "group 13_02", "02 group 14", "02_15"):
        write(tmp_path / f"{name}.ipynb", ANSWER)
    assert sorted(students(tmp_path).values()) == ["15", "group 11", "group 12", "group 13", "group 14"]


def test_a_damaged_file_is_named_like_the_others(tmp_path: Path) -> None:
    write(tmp_path / "ann_02.ipynb", ANSWER)
    for name in ("bo_02", "group 12"):
        (tmp_path / f"{name}.ipynb").write_text('{"cells": [')
    assert sorted(students(tmp_path).values()) == ["ann", "bo", "group 12"]


def test_a_folder_for_each_student_whatever_the_files_are_called(tmp_path: Path) -> None:
    write(tmp_path / "ann" / "02_forward_process.ipynb", ANSWER)
    write(tmp_path / "bo berg" / "deep" / "Untitled (3).ipynb", ANSWER)
    write(tmp_path / "cy" / "work" / ".ipynb_checkpoints" / "x-checkpoint.ipynb", ANSWER)
    write(tmp_path / "cy" / "work" / "x.ipynb", ANSWER)
    (tmp_path / "ann" / "picture.png").write_bytes(b"\x89PNG")
    (tmp_path / "ann" / "progress.json").write_text("{}")
    assert students(tmp_path) == {
        "ann/02_forward_process.ipynb": "ann",
        "bo berg/deep/Untitled (3).ipynb": "bo berg",
        "cy/work/x.ipynb": "cy",
    }


def test_folders_given_one_by_one(tmp_path: Path) -> None:
    for name in ("ann", "bo"):
        write(tmp_path / name / "nb.ipynb", ANSWER)
    assert sorted(students(tmp_path / "ann", tmp_path / "bo").values()) == ["ann", "bo"]
    assert students(tmp_path / "ann" / "nb.ipynb") == {"nb.ipynb": "nb"}


def test_folders_for_lessons_hold_a_file_for_each_student(tmp_path: Path) -> None:
    for lesson in ("lesson 02", "02_forward_process", "group a"):
        for name in ("ann", "bo", "cy"):
            write(tmp_path / lesson / f"{name}.ipynb", ANSWER)
    assert sorted(set(students(tmp_path).values())) == ["ann", "bo", "cy"]


PLATFORMS = {
    "Moodle": ("Ann Berg_12345_assignsubmission_file/02_forward_process.ipynb", "Ann Berg"),
    "Moodle, flat": ("Ann Berg_12345_assignsubmission_file_nb.ipynb", "Ann Berg"),
    "Canvas": ("bergann_4711_1234567_02_forward_process-1.ipynb", "bergann"),
    "Canvas, late": ("bergann_LATE_4711_1234567_nb.ipynb", "bergann"),
    "Blackboard": ("Exercise 2_ab123_attempt_2026-11-03-12-00-00_nb.ipynb", "ab123"),
}


@pytest.mark.parametrize("platform", PLATFORMS)
def test_the_archive_of_a_learning_platform(platform: str, tmp_path: Path) -> None:
    name, student = PLATFORMS[platform]
    with zipfile.ZipFile(tmp_path / "class.zip", "w") as archive:
        archive.writestr(f"all/{name}", content(cells(ANSWER)))
        archive.writestr("all/__MACOSX/._x.ipynb", b"noise")
        archive.writestr("all/other/nb.ipynb", content(cells(ANSWER)))
    found = students(tmp_path / "class.zip")
    assert sorted(found.values()) == sorted([student, "other"])
    assert students(tmp_path) == found  # the folder that the archive lies in, too


def test_an_archive_for_each_student_and_archives_in_archives(tmp_path: Path) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("my work/nb.ipynb", content(cells(ANSWER)))
    (tmp_path / "ann.zip").write_bytes(inner.getvalue())
    with zipfile.ZipFile(tmp_path / "bo.zip", "w") as archive:
        archive.writestr("inner.zip", inner.getvalue())
    (tmp_path / "cy.zip").write_bytes(inner.getvalue()[:50])
    found = known(tmp_path)
    assert {each.student.name for each in found.values()} == {"ann", "bo", "cy"}
    assert "can not be opened" in found["cy.zip"].problem


def test_an_archive_can_neither_climb_nor_explode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_BYTES", 10_000)
    with zipfile.ZipFile(tmp_path / "class.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../up.ipynb", content(cells(ANSWER)))
        archive.writestr("/etc/root.ipynb", content(cells(ANSWER)))
        archive.writestr("bomb.ipynb", bytes(10**7))
    found = known(tmp_path)
    assert set(found) == {"up.ipynb", "etc/root.ipynb", "bomb.ipynb"}
    assert "Clear all outputs" in found["bomb.ipynb"].problem


def test_a_damaged_file_in_an_archive_is_said_and_the_others_are_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "class.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ann.ipynb", content(cells(ANSWER)))
        archive.writestr("bo.ipynb", content(cells(SETUP, ANSWER)))
    data = bytearray((tmp_path / "class.zip").read_bytes())
    start = data.rindex(b"PK\3\4") + 30 + len("bo.ipynb")
    data[start : start + 20] = b"\xff" * 20  # no block of deflate begins so
    (tmp_path / "class.zip").write_bytes(data)
    found = known(tmp_path)
    assert found["bo.ipynb"].problem.startswith("The file can not be read: ")
    assert found["ann.ipynb"].problem == ""


def test_places_that_are_not_there_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no folder, archive or notebook .*nowhere"):
        find([tmp_path / "nowhere"])


# Files that are no notebooks ------------------------------------------------------------------------

BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "The file is empty."),
    "blank": (b" \n", "The file is empty."),
    "truncated": (content(cells(SETUP, ANSWER))[:-200], "ends in the middle"),
    "damaged": (content(cells(SETUP)).replace(b'"source":', b'"source"'), "is damaged in line 1"),
    "PDF": (b"%PDF-1.7 ...", "is a PDF, not a notebook"),
    "zip": (b"PK\x03\x04...", "is a zip archive"),
    "picture": (b"\x89PNG\r\n...", "is a PNG picture"),
    "web page": (b"<!doctype html><title>Colab</title>", "is a web page"),
    "JSON": (b'{"a": 1}', "is JSON, but not a notebook"),
    "a list": (b"[1, 2]", "is JSON, but not a notebook"),
    "deep": (b"[" * 10**6, "does not read as a notebook"),
    "a number too long": (b'{"cells": [], "n": ' + b"9" * 10**5 + b"}", "does not read as a notebook"),
    "bytes": (bytes(range(256)), "is damaged in line"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_notebook_is_said(name: str, tmp_path: Path) -> None:
    data, message = BAD[name]
    (tmp_path / "ann.ipynb").write_bytes(data)
    marked = known(tmp_path)["ann.ipynb"]
    assert message in marked.problem
    assert (marked.student.name, marked.lesson) == ("ann", "")


def test_a_student_who_handed_in_something_else_has_a_row(tmp_path: Path) -> None:
    (tmp_path / "ann").mkdir()
    (tmp_path / "ann" / "report.pdf").write_bytes(b"%PDF-1.7")
    (tmp_path / "ann" / "zebra.txt").write_bytes(b"x")
    (tmp_path / "bo.docx").write_bytes(b"PK\x03\x04")
    write(tmp_path / "cy.ipynb", ANSWER)
    found = known(tmp_path)
    assert {path: each.student.name for path, each in found.items()} == {
        "ann/report.pdf": "ann",
        "bo.docx": "bo",
        "cy.ipynb": "cy",
    }
    assert "is a PDF" in found["ann/report.pdf"].problem


def test_a_file_of_200_mb_is_not_opened(tmp_path: Path) -> None:
    with open(tmp_path / "ann.ipynb", "wb") as file:
        file.truncate(200 * 2**20)
    assert known(tmp_path)["ann.ipynb"].problem.startswith("The file has 200 MB; at most 50 are read.")
    assert MAX_BYTES == 50 * 2**20


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
def test_links_are_not_followed(tmp_path: Path) -> None:
    outside = write(tmp_path / "outside" / "nb.ipynb", ANSWER)
    folder = tmp_path / "class"
    write(folder / "ann.ipynb", ANSWER)
    (folder / "bo.ipynb").symlink_to(outside)
    (folder / "cy").symlink_to(outside.parent)
    os.mkfifo(folder / "di.ipynb")
    found = known(folder)
    assert "links are not followed" in found["bo.ipynb"].problem
    assert "links are not followed" in found["cy"].problem
    assert "no ordinary file" in found["di.ipynb"].problem
    assert found["ann.ipynb"].problem == ""


# Who and which ---------------------------------------------------------------------------------------


def test_the_notebooks_own_name_counts_before_its_path(tmp_path: Path) -> None:
    write(
        tmp_path / "a.ipynb",
        ANSWER,
        diffusion_lessons={"student": "Ann  Berg", "lesson": "02_forward_process"},
    )
    write(tmp_path / "b.ipynb", ANSWER, authors=[{"name": "Bo"}])
    raw = cells(SETUP, ANSWER)
    for cell, name in zip(raw["cells"], ("Cy Dee", "Cy Dee"), strict=True):
        cell["metadata"]["executionInfo"] = {"user": {"displayName": name, "userId": "1"}}
    (tmp_path / "c.ipynb").write_bytes(content(raw))
    write(tmp_path / "d.ipynb", ANSWER, authors="nonsense", diffusion_lessons=[3])
    assert students(tmp_path) == {"a.ipynb": "Ann Berg", "b.ipynb": "Bo", "c.ipynb": "Cy Dee", "d.ipynb": "d"}


def test_a_notebook_made_from_anothers_is_named_by_its_path(tmp_path: Path) -> None:
    for name in ("ann", "bo"):
        write(tmp_path / name / "nb.ipynb", ANSWER, authors=[{"name": "Ann"}])
    found = known(tmp_path)
    assert [each.student.name for each in found.values()] == ["ann", "bo"]
    assert all("2 notebooks say that they are by Ann" in each.notes[0] for each in found.values())


def lesson(*sources: str, path: str = "x.ipynb", **metadata: Any) -> tuple[str, str]:
    raw = cells(*sources)
    raw["metadata"] |= metadata
    return lesson_of(read(content(raw)), PurePosixPath(path))


def test_the_lesson_is_found_from_cells_then_metadata_then_content() -> None:
    own = {"diffusion_lessons": {"lesson": "02_forward_process"}}
    assert lesson(ANSWER) == ("02", "")
    assert lesson("x = 1", **own) == ("02", "")
    assert lesson("def jump(): pass\ndef run_chain(): pass\nequal_time = 3") == ("02", "")
    assert lesson("def jump(): pass", path="forward_process.ipynb") == ("02", "")
    wrong = lesson('@exercise("00.1")\ndef to_unit(x): pass', **own)
    assert wrong == ("00", "The notebook says lesson 02; its exercises are those of 00.")


def test_a_name_alone_makes_no_lesson(tmp_path: Path) -> None:
    write(tmp_path / "02_forward_process.ipynb", "x = 1")
    write(tmp_path / "99.ipynb", '@exercise("99.1")\ndef f(): pass', diffusion_lessons={"lesson": "99_x"})
    assert {each.problem for each in known(tmp_path).values()} == {FOREIGN}


def test_another_lessons_notebook(tmp_path: Path) -> None:
    write(tmp_path / "ann.ipynb", '@exercise("00.1")\ndef to_unit(x): pass')
    assert known(tmp_path)["ann.ipynb"].lesson == "00"
    asked = known(tmp_path, lesson="02")["ann.ipynb"]
    assert asked.problem == "This is the notebook of lesson 00; lesson 02 was asked for."


# Formats ---------------------------------------------------------------------------------------------


def test_old_nbformats() -> None:
    old = {
        "nbformat": 3,
        "nbformat_minor": 0,
        "metadata": {"name": ""},
        "worksheets": [
            {
                "cells": [
                    {
                        "cell_type": "code",
                        "language": "python",
                        "input": [SETUP + "\n", "x = 1"],
                        "outputs": [],
                    }
                ]
            },
            {
                "cells": [
                    {"cell_type": "heading", "level": 1, "source": "T"},
                    {"cell_type": "code", "input": EQUAL},
                ]
            },
        ],
    }
    notebook = read(content(old))
    assert [(cell.place, cell.source) for cell in notebook.code] == [(0, SETUP + "\nx = 1"), (2, EQUAL)]
    noted = with_notes(content(old), {2: "below"}, "on top")
    assert [len(sheet["cells"]) for sheet in noted["worksheets"]] == [2, 3]
    assert noted["worksheets"][1]["cells"][2]["source"] == "below"


def test_saved_by_colab_and_by_vs_code() -> None:
    colab = cells(SETUP, ANSWER)
    colab |= {"nbformat_minor": 0}
    colab["metadata"] = {"colab": {"provenance": []}, "accelerator": "GPU"}
    for i, cell in enumerate(colab["cells"]):
        cell["metadata"] = {"id": f"exercise-02-{i}"}
        del cell["id"]
    assert [cell.id for cell in read(content(colab)).code] == ["exercise-02-0", "exercise-02-1"]
    code = cells(ANSWER)
    code["metadata"] = {"vscode": {"interpreter": {"hash": "1"}}}
    code["cells"][0] = {"cell_type": "code", "source": ANSWER.replace("\n", "\r\n"), "metadata": None}
    assert read(b"\xef\xbb\xbf" + content(code)).code[0].source == ANSWER


@pytest.mark.parametrize(
    "source", [None, 3, ["a", 1, None], {"a": 1}, "half \ud83d of a character", "nul \0 byte"]
)
def test_cells_of_any_content_read_as_text(source: Any) -> None:
    raw = cells(ANSWER)
    raw["cells"] += [{"cell_type": "code", "source": source}, {"source": "x"}, 3, None, {}]
    for cell in read(json.dumps(raw).encode()).cells:
        assert isinstance(cell.source, str)
        cell.source.encode()
        assert "\0" not in cell.source


def test_notes_go_below_their_cells_and_change_nothing_else() -> None:
    raw = cells(SETUP, ANSWER)
    raw["cells"].insert(0, 3)
    noted = with_notes(content(raw), {2: "below"}, "on top")
    kinds = [cell if cell == 3 else (cell["cell_type"], cell["id"]) for cell in noted["cells"]]
    assert kinds == [
        ("markdown", "feedback-summary"),
        3,
        ("code", "cell-0"),
        ("code", "cell-1"),
        ("markdown", "feedback-2"),
    ]
    assert parsed(content(raw)) == raw
    with pytest.raises(NoNotebook):
        with_notes(b"", {}, "")
