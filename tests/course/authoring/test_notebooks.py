"""The lessons themselves: current, and executable untouched and with the solutions pasted in.

Both runs are at the small budget, in one process without a kernel. At the full budget every solved
notebook runs once in a real kernel: `python -m diffusion_lessons.course.authoring.rerun`.
"""

import inspect
import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from diffusion_lessons.course import bank
from diffusion_lessons.course.authoring.build import check
from diffusion_lessons.course.authoring.execute import environment_of
from diffusion_lessons.course.authoring.repository import bank_of, context_of, sources
from diffusion_lessons.course.authoring.rerun import TAG, unchecked
from diffusion_lessons.course.student.progress import Progress, keep
from diffusion_lessons.course.student.session import exercise

ROOT = Path(__file__).resolve().parents[3]
LESSONS = [file.stem for file in sources(ROOT)]
EXERCISES = [each for stem in LESSONS for each in bank_of(stem[:2]).values()]
WRONG = [(each, wrong) for each in EXERCISES for wrong in each.misconceptions]


@pytest.mark.parametrize("stem", LESSONS)
def test_the_lesson_is_current_and_breaks_no_rule(stem):
    problems = check(ROOT / "solutions" / f"{stem}.py", context_of(ROOT))
    assert problems == [], "\n" + "\n".join(map(str, problems))


def test_every_notebook_has_its_source():
    for folder in ("notebooks", "solutions"):
        assert sorted(file.stem for file in (ROOT / folder).glob("*.ipynb")) == LESSONS


@pytest.mark.parametrize("stem", LESSONS)
def test_what_is_compared_was_really_executed(stem):
    """nbval compares nothing where a cell has no execution count."""
    file = ROOT / "solutions" / f"{stem}.ipynb"
    assert unchecked(file) == []
    tagged = [
        cell for cell in nbformat.read(file, as_version=4).cells if TAG in cell.metadata.get("tags", ())
    ]
    if stem[:2] != "00":
        assert tagged, f"give the cells with deterministic, rounded output the tag {TAG}"


# At the small budget -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """stem -> what lesson_runner says of the student notebook, untouched and with the solutions pasted."""
    done = {}

    def of(stem):
        if stem not in done:
            done[stem] = _run(stem, tmp_path_factory.mktemp(stem))
        return done[stem]

    return of


def _run(stem, folder):
    student = nbformat.read(ROOT / "notebooks" / f"{stem}.ipynb", as_version=4)
    nbformat.write(student, folder / f"{stem}.ipynb")
    solved = nbformat.read(ROOT / "solutions" / f"{stem}.ipynb", as_version=4)
    answers = {cell.id: cell.source for cell in solved.cells if cell.id.startswith("exercise-")}
    for cell in student.cells:
        cell.source = answers.get(cell.id, cell.source)
    nbformat.write(student, folder / f"{stem}.pasted.ipynb")
    command = [sys.executable, Path(__file__).parent / "lesson_runner.py", folder]
    command += [folder / f"{stem}.ipynb", folder / f"{stem}.pasted.ipynb"]
    result = subprocess.run(
        command,
        cwd=folder,
        env=environment_of("small", 1, folder),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return [json.loads(line) for line in result.stdout.strip().split("\n")]


@pytest.mark.parametrize("stem", LESSONS)
def test_an_untouched_notebook_runs_to_its_end(runs, stem):
    untouched, _ = runs(stem)
    assert untouched["errors"] == []
    assert set(untouched["statuses"].values()) <= {"not attempted"}


@pytest.mark.parametrize("stem", LESSONS)
def test_the_solutions_pasted_in_pass_every_exercise(runs, stem):
    _, pasted = runs(stem)
    assert pasted["errors"] == []
    assert set(pasted["statuses"].values()) <= {"passed"}
    assert set(pasted["statuses"]) == set(bank_of(stem[:2]))


def named(function, name):
    """A function of the bank under the name that the student's has."""
    if isinstance(function, type):  # with its methods: a class without any reads as not attempted
        own = {key: each for key, each in vars(function).items() if inspect.isfunction(each)}
        return type(name, (function,), {**own, "__doc__": function.__doc__})

    def given(*args, **kwargs):
        return function(*args, **kwargs)

    given.__name__ = given.__qualname__ = name
    given.__signature__ = inspect.signature(function)
    return given


@pytest.mark.parametrize(("the", "wrong"), WRONG, ids=[f"{e.id}-{w.name}" for e, w in WRONG])
def test_a_wrong_answer_shows_its_own_sentence_at_the_second_attempt(the, wrong, capsys):
    keep(Progress(None))

    def attempt():
        exercise(the.id)(named(wrong.function, the.name))
        return " ".join(capsys.readouterr().out.split())

    sentence, shown = " ".join(wrong.sentence.split()), attempt()
    if wrong.name == the.planted:
        assert "planted bug is still there" in shown
    else:
        assert the.kind == "predict" or sentence not in shown
        shown = attempt()
        assert sentence in shown
        others = [each.sentence for each in the.misconceptions if each is not wrong]
        assert not any(" ".join(sentence.split()) in shown for sentence in others)


def test_every_lesson_with_exercises_is_there():
    """A bank without a lesson is an exercise that nobody meets."""
    there = {stem[:2] for stem in LESSONS}
    assert [number for number in bank.lessons() if number not in there] == []
