"""What a class is handed: the archive, the class's seed, and nbgrader's source notebooks."""

import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from diffusion_lessons.course import bank
from diffusion_lessons.course.exercises.exercise import Exercise
from diffusion_lessons.course.grading import nbgrader as export
from diffusion_lessons.course.grading import release as releasing
from diffusion_lessons.course.grading import wheel as wheels
from diffusion_lessons.course.grading.marks.points import Points
from diffusion_lessons.course.grading.nbgrader import must_pass
from diffusion_lessons.course.grading.release import release
from diffusion_lessons.course.student.class_seed import class_seed
from tests.course.grading.made import HEAD, STUB, cells
from tests.course.grading.test_grade import run

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    file = tmp_path / "diffusion_lessons-0.1.0-py3-none-any.whl"
    file.write_bytes(b"wheel")
    return file


def test_a_release_has_notebooks_and_how_to_install_and_no_solutions(tmp_path: Path, wheel: Path) -> None:
    names = release(["00"], tmp_path / "course.zip", seed=4711, wheel=wheel)
    assert names == ["README.md", wheel.name, "notebooks/00_start_here.ipynb", "notebooks/class.json"]
    with zipfile.ZipFile(tmp_path / "course.zip") as archive:
        assert sorted(archive.namelist()) == sorted(f"course/{name}" for name in names)
        readme = archive.read("course/README.md").decode()
        notebook = archive.read("course/notebooks/00_start_here.ipynb").decode()
    assert f'pip install "./{wheel.name}[lab]"' in readme
    assert "diffusion-lessons check notebooks/00_start_here.ipynb" in readme
    assert "{" not in readme
    assert "return (x + 1) / 2" not in notebook
    before = (tmp_path / "course.zip").read_bytes()
    release(["00"], tmp_path / "course.zip", seed=4711, wheel=wheel)
    assert (tmp_path / "course.zip").read_bytes() == before


def test_a_release_installs_from_the_repository_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(releasing, "repository_address", lambda: "https://github.com/a/b")
    assert release(["00"], tmp_path / "course.zip") == ["README.md", "notebooks/00_start_here.ipynb"]
    with zipfile.ZipFile(tmp_path / "course.zip") as archive:
        assert "git+https://github.com/a/b" in archive.read("course/README.md").decode()


def test_a_release_without_a_repository_makes_its_own_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(releasing, "repository_address", lambda: "")
    before = {file for file in ROOT.iterdir() if file.name != ".pytest_cache"}
    names = release(["00"], tmp_path / "course.zip")
    name = next(name for name in names if name.endswith(".whl"))
    assert {
        file for file in ROOT.iterdir() if file.name != ".pytest_cache"
    } == before  # no build/, no egg-info
    with zipfile.ZipFile(tmp_path / "course.zip") as archive:
        assert f'pip install "./{name}[lab]"' in archive.read("course/README.md").decode()
        wheel = zipfile.ZipFile(io.BytesIO(archive.read(f"course/{name}")))
    inside = wheel.namelist()
    assert "diffusion_lessons/course/grading/results/report.html.jinja" in inside
    assert any(each.endswith("notebooks/00_start_here.ipynb") for each in inside)
    assert not [each for each in inside if "__pycache__" in each or each.startswith(("tests", "solutions"))]


def test_without_a_source_tree_or_where_pip_fails_it_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        ValueError, match=r"its source is not here: run `pip wheel --no-deps \.` in a copy of"
    ):
        wheels.build(tmp_path, tmp_path / "site-packages")
    (tmp_path / "bad").mkdir()
    for part in wheels.PARTS:
        (tmp_path / "bad" / part).write_text("no TOML [")
    with pytest.raises(ValueError, match=r"pip could not make a wheel of this package \(.+\): run"):
        wheels.build(tmp_path, tmp_path / "bad")


def test_the_command_refuses_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for args, message in (
        (["98"], "unknown lesson '98'"),
        (["00", "--out", tmp_path / "x.tar"], "--out is a .zip file"),
        (["00", "--out", tmp_path / "x.zip", "--wheel", tmp_path / "no.whl"], "--wheel is a .whl file"),
    ):
        code, _, error = run(capsys, "release", *args)
        assert (code, len(error.strip().splitlines())) == (2, 1)
        assert message in error


def test_the_classes_seed_is_what_its_notebooks_and_check_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert class_seed(tmp_path) == 0
    for text, seed in (('{"seed": 12}', 12), ("{", 0), ("[]", 0), ('{"seed": "x"}', 0)):
        (tmp_path / "class.json").write_text(text)
        assert class_seed(tmp_path) == seed
    from diffusion_lessons.course.student import progress, session

    (tmp_path / "class.json").write_text('{"seed": 12}')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(progress, "_session", progress.Progress(None))
    seeds: list[int] = []
    real = session.check

    def noted(exercise: Exercise, function: Any, seed: int = 0) -> Any:
        seeds.append(seed)
        return real(exercise, function, seed)

    monkeypatch.setattr(session, "check", noted)
    session.exercise("00.1")(bank.get("00.1").reference)
    assert seeds[0] == 12


# nbgrader -------------------------------------------------------------------------------------------


def made(seed: int | None = None) -> dict[str, Any]:
    debug = '@exercise("02.4")\ndef run_chain(x0, noises, betas):\n    return x0 + betas'
    raw = cells("x = 1", HEAD + STUB, debug)
    return export.marked(raw, "02", Points(default=2, points={"02.1": 3}), seed)


def test_answers_and_tests_carry_nbgraders_metadata() -> None:
    first, answer, test, debug, other = made()["cells"]
    assert "nbgrader" not in first["metadata"]
    assert "nbgrader" not in debug["metadata"]  # its code is the student's to change, not a stub's place
    assert answer["metadata"]["nbgrader"] == {
        "grade": False,
        "grade_id": "exercise-02-1",
        "locked": False,
        "schema_version": 3,
        "solution": True,
        "task": False,
    }
    assert answer["source"].endswith(
        "    ### BEGIN SOLUTION\n    raise NotImplementedError  # your code here\n    ### END SOLUTION"
    )
    about = test["metadata"]["nbgrader"]
    assert (about["grade"], about["locked"], about["solution"], about["points"]) == (True, True, False, 3)
    assert other["metadata"]["nbgrader"]["points"] == 2
    assert test["source"].endswith('must_pass("02.1", one_step)')
    hidden = made(seed=5)["cells"][2]["source"]
    assert '### BEGIN HIDDEN TESTS\nmust_pass("02.1", one_step, seed=5)\n### END HIDDEN TESTS' in hidden


def test_must_pass_looks_at_the_students_own_function() -> None:
    from diffusion_lessons.course.exercises.stand_in import stand_in

    the = bank.get("00.1")
    must_pass("00.1", lambda x: (x + 1) / 2)
    must_pass("00.1", lambda x: (x + 1) / 2, seed=9)
    with pytest.raises(AssertionError, match=r"You wrote x \+ 1/2"):
        must_pass("00.1", stand_in(the, lambda x: x + 1 / 2))


def test_the_command_writes_nbgraders_course_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(capsys, "release", "00", "--nbgrader", "--out", tmp_path, "--json")
    file = tmp_path / "source" / "00_start_here" / "00_start_here.ipynb"
    assert code == 0
    assert json.loads(out)["files"] == [str(file)]
    assert "must_pass" in file.read_text(encoding="utf-8")


def test_nbgrader_itself_validates_and_grades(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Generates the assignment, takes in a right and a wrong submission, grades both."""
    pytest.importorskip(
        "nbgrader", reason="nbgrader is not installed: pip install -c constraints.txt nbgrader"
    )
    import nbformat
    from nbgrader.nbgraderformat import read, write

    code, _, _ = run(capsys, "release", "00", "--nbgrader", "--out", tmp_path, "--seed", "5")
    assert code == 0
    name = "00_start_here"
    source = tmp_path / "source" / name / f"{name}.ipynb"
    write(read(str(source), as_version=4), io.StringIO())  # both validate its metadata
    (tmp_path / "nbgrader_config.py").write_text("c = get_config()\nc.CourseDirectory.course_id = 'test'\n")
    nbgrader(tmp_path, "generate_assignment", name)
    handed_out = tmp_path / "release" / name / f"{name}.ipynb"
    text = handed_out.read_text(encoding="utf-8")
    assert "HIDDEN" not in text
    assert "# YOUR CODE HERE" in text
    for student, line in (("ann", "return (x + 1) / 2"), ("bo", "return x / 2")):
        notebook = nbformat.read(handed_out, as_version=4)
        for cell in notebook.cells:
            cell.source = cell.source.replace("# YOUR CODE HERE\n    raise NotImplementedError()", line)
            if "check_environment" in cell.source:
                cell.source = ""  # it measures for seconds
        file = tmp_path / "submitted" / student / name / f"{name}.ipynb"
        file.parent.mkdir(parents=True)
        nbformat.write(notebook, file)
    nbgrader(tmp_path, "autograde", name)
    nbgrader(tmp_path, "export")
    scores = (tmp_path / "grades.csv").read_text().splitlines()
    head = scores[0].split(",")
    found = {
        row.split(",")[head.index("student_id")]: row.split(",")[head.index("raw_score")]
        for row in scores[1:]
    }
    assert found == {"ann": "1.0", "bo": "0.0"}


def nbgrader(folder: Path, *args: str) -> None:
    command = [sys.executable, "-m", "nbgrader", *args]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    home = {"PATH": path, "HOME": str(folder), "OMP_NUM_THREADS": "1", "DIFFUSION_LESSONS_PROGRESS": "off"}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=os.environ | home)
    assert done.returncode == 0, done.stderr[-2000:]
