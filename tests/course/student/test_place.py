"""The class's seed and the progress lie beside the notebook, wherever its kernel runs."""

import codecs
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from diffusion_lessons.course.grading.marks import points
from diffusion_lessons.course.student import place, progress
from diffusion_lessons.course.student.class_seed import class_seed


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kernel that runs in another folder than its notebook's, and of which nobody says more."""
    (tmp_path / "workspace").mkdir()
    (tmp_path / "lessons").mkdir()
    (tmp_path / "lessons/class.json").write_text('{"seed": 4711}')
    monkeypatch.chdir(tmp_path / "workspace")
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    monkeypatch.delenv("DIFFUSION_LESSONS_PROGRESS", raising=False)
    monkeypatch.setattr(progress, "_session", None)
    return tmp_path


def kernel(monkeypatch: pytest.MonkeyPatch, **names: Any) -> None:
    """A notebook's IPython, with these names in the notebook."""
    shell = SimpleNamespace(user_ns=names, kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))  # type: ignore[arg-type]


def in_vs_code(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel(monkeypatch, __vsc_ipynb_file__=str(folder / "lessons/02.ipynb"))


def in_vs_code_main(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = str(folder / "lessons/02.ipynb")
    monkeypatch.setattr(sys.modules["__main__"], "__vsc_ipynb_file__", file, raising=False)


def in_jupyterlab(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel(monkeypatch)
    monkeypatch.setenv("JPY_SESSION_NAME", str(folder / "lessons/02.ipynb"))


def relative(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JPY_SESSION_NAME", "../lessons/02.ipynb")


@pytest.mark.parametrize("host", [in_vs_code, in_vs_code_main, in_jupyterlab, relative])
def test_they_are_found_beside_the_notebook(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, host: Any
) -> None:
    host(elsewhere, monkeypatch)
    assert class_seed() == 4711
    assert progress.default_file() is not None
    assert progress.default_file().resolve() == elsewhere / "lessons/progress.json"  # type: ignore[union-attr]
    assert progress.kept().news() == []


def test_what_lies_where_the_kernel_runs_is_not_lost(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (elsewhere / "workspace/progress.json").write_text("{}")
    (elsewhere / "workspace/class.json").write_text('{"seed": 1}')
    in_vs_code(elsewhere, monkeypatch)
    assert class_seed() == 4711
    assert progress.default_file() == elsewhere / "workspace/progress.json"


@pytest.mark.parametrize("file", ["nowhere/at/all/02.ipynb", ""])
def test_a_folder_that_is_not_there_is_not_taken(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    monkeypatch.setenv("JPY_SESSION_NAME", file)
    assert place.notebook_folder() is None
    assert class_seed() == 0


def test_where_nobody_tells_it_says_so_once(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel(monkeypatch)
    (said,) = progress.kept().news()
    assert said.startswith("Nobody tells where this notebook lies")
    assert said.endswith(f"{Path.cwd()}.")
    assert progress.kept().news() == []


@pytest.mark.parametrize("known", ["a notebook is here", "a place for the progress", "Colab", "no notebook"])
def test_it_says_nothing_where_nothing_is_missing(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, known: str
) -> None:
    if known != "no notebook":
        kernel(monkeypatch)
    if known == "a notebook is here":
        (elsewhere / "workspace/02.ipynb").touch()
    elif known == "a place for the progress":
        monkeypatch.setenv("DIFFUSION_LESSONS_PROGRESS", str(elsewhere / "p.json"))
    elif known == "Colab":
        monkeypatch.setitem(sys.modules, "google.colab", SimpleNamespace())  # type: ignore[arg-type]
    assert progress.kept().news() == []


MARKS = {
    "plain": b"",
    "UTF-8": codecs.BOM_UTF8,
    "UTF-16, as PowerShell writes": codecs.BOM_UTF16_LE,
    "UTF-16, the other way round": codecs.BOM_UTF16_BE,
}


@pytest.mark.parametrize("mark", MARKS)
def test_byte_order_marks_are_read(tmp_path: Path, mark: str) -> None:
    encoding = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}.get(MARKS[mark], "utf-8")
    (tmp_path / "class.json").write_bytes(MARKS[mark] + '{"seed": 12}\r\n'.encode(encoding))
    (tmp_path / "points.toml").write_bytes(
        MARKS[mark] + 'default = 3\r\n[points]\r\n"02.1" = 2\r\n'.encode(encoding)
    )
    assert class_seed(tmp_path) == 12
    assert points.load(tmp_path / "points.toml").default == 3


@pytest.mark.parametrize("text", ['{"seed": true}', '{"seed": 1.5}', '{"seed": "1"}', "12", "\xff"])
def test_what_is_no_seed_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "class.json").write_text(text, encoding="latin-1")
    assert class_seed(tmp_path) == 0
