"""The build: the same bytes each time, ids that stay, staleness, and nothing written where it fails."""

import base64
import io
import json
import re
from dataclasses import replace

import jupytext
import nbformat
import pytest
from PIL import Image

from diffusion_lessons.course.authoring import execute
from diffusion_lessons.course.authoring import repository as repositories
from diffusion_lessons.course.authoring.build import Refused, build, check, main
from diffusion_lessons.course.authoring.cells import ids
from diffusion_lessons.course.authoring.notebook import student_notebook, text_of, write
from diffusion_lessons.course.authoring.render import alike, card, header, pictures_in, small_picture
from diffusion_lessons.course.authoring.source import read
from diffusion_lessons.course.exercises.mark import KEY
from diffusion_lessons.course.lessons import repository_address
from tests.course.sample_lesson import BANK, SAMPLE, STEM, filler, repository, source


def changed(old, new, text=SAMPLE):
    assert old in text
    return text.replace(old, new, 1)


@pytest.fixture
def executions(monkeypatch):
    """Executes nothing: every cell gets a count and a printed line; returns the list of runs."""
    runs = []

    def run(notebook, threads=2, **options):
        runs.append(threads)
        for count, cell in enumerate((c for c in notebook.cells if c.cell_type == "code"), 1):
            cell.execution_count = count
            cell.outputs = [nbformat.v4.new_output("stream", text=f"run {len(runs)}: 1 ± 0.1\n")]
        return 41.0

    monkeypatch.setattr(execute, "run", run)
    machine = {"hardware": "2 CPU cores", "images_per_second": 500, "busy_percent": 3.0}
    monkeypatch.setattr(execute, "machine", lambda threads: dict(machine))
    return runs


def texts(context, stem=STEM):
    lesson = read(source(context, stem))
    return lesson.student.read_text(encoding="utf-8"), lesson.solved.read_text(encoding="utf-8")


# Reading -------------------------------------------------------------------------------------------


def test_cells_know_their_lines(tmp_path):
    lesson = read(source(repository(tmp_path)))
    lines = SAMPLE.split("\n")
    for cell in lesson.cells:
        if cell.kind == "code":
            assert [text for _, text in cell.lines()] == lines[
                cell.line - 1 : cell.line - 1 + cell.source.count("\n") + 1
            ]
    assert [cell.source for cell in lesson.cells] == [
        c.source for c in jupytext.reads(SAMPLE, "py:percent").cells
    ]


@pytest.mark.parametrize(
    ("text", "stem", "message"),
    [
        (SAMPLE, "forward_process", "two digits"),
        (SAMPLE.replace('tags=["header"]', 'tags=["head"]'), STEM, "first cell carries"),
        ("import torch\n\n" + SAMPLE, STEM, "start the file with a cell header"),
    ],
)
def test_a_source_that_is_no_lesson(tmp_path, text, stem, message):
    with pytest.raises(ValueError, match=message):
        read(source(repository(tmp_path, text, stem), stem))


# Bytes and ids -------------------------------------------------------------------------------------


def test_the_student_file_has_the_same_bytes_every_time(tmp_path, executions):
    made = []
    for folder in ("one", "two"):
        context = repository(tmp_path / folder)
        build(source(context), context)
        made.append(texts(context)[0])
    assert made[0] == made[1]
    notebook = nbformat.reads(made[0], as_version=4)
    nbformat.validate(notebook)
    assert set(notebook.metadata) == {"kernelspec", "language_info", KEY}
    assert all(set(cell.metadata) <= {"tags", "jupyter"} for cell in notebook.cells)


def test_ids_are_unique_and_valid(tmp_path):
    found = ids(read(source(repository(tmp_path, SAMPLE + "# %%\na = 1\n\n# %%\na = 1\n"))))
    assert len(set(found)) == len(found)
    assert all(re.fullmatch(r"[\w-]{1,64}", name) for name in found)
    assert {"header", "setup", "card-02-1", "exercise-02-1", "experiment"} <= set(found)


def test_a_new_cell_changes_no_other_id(tmp_path):
    before = ids(read(source(repository(tmp_path))))
    text = changed('# %% [markdown] tags=["see"]', '# %%\nnew = 1\n\n# %% [markdown] tags=["see"]')
    after = ids(read(source(repository(tmp_path, text))))
    assert [name for name in after if name in before] == before
    assert len(after) == len(before) + 1


def test_another_solution_keeps_the_id_of_its_exercise(tmp_path):
    before = ids(read(source(repository(tmp_path))))
    after = ids(read(source(repository(tmp_path, changed("return alpha * x +", "return x * alpha +")))))
    assert after == before


# What depends on what ------------------------------------------------------------------------------


def test_an_unchanged_lesson_is_not_executed_again(tmp_path, executions):
    context = repository(tmp_path)
    first = build(source(context), context)
    assert first == [f"notebooks/{STEM}.ipynb: written", f"solutions/{STEM}.ipynb: written, executed in 41 s"]
    before = texts(context)
    assert all("unchanged" in line for line in build(source(context), context))
    assert texts(context) == before
    assert len(executions) == 1
    build(source(context), context, again=True)
    assert len(executions) == 2


def test_new_prose_renews_the_page_without_executing(tmp_path, executions):
    context = repository(tmp_path)
    build(source(context), context)
    repository(tmp_path, changed("Mind the root.", "Mind the square root."))
    assert [problem.rule for problem in check(source(context), context)] == ["stale", "stale"]
    build(source(context), context)
    assert len(executions) == 1
    student, solved = texts(context)
    assert "Mind the square root." in student
    assert "Mind the square root." in solved
    assert "run 1" in solved
    fresh = replace(context, timings=json.loads((tmp_path / "solutions" / "timings.json").read_text()))
    assert check(source(context), fresh) == []


def test_new_code_is_executed(tmp_path, executions):
    context = repository(tmp_path)
    build(source(context), context)
    repository(tmp_path, changed("alpha * x + sigma * noise", "x * alpha + sigma * noise"))
    build(source(context), context)
    assert len(executions) == 2


@pytest.mark.parametrize("broken", ["student", "solved", "metadata", "output"])
def test_a_file_changed_by_hand_is_stale(tmp_path, executions, broken):
    context = repository(tmp_path)
    build(source(context), context)
    context = replace(context, timings=json.loads((tmp_path / "solutions" / "timings.json").read_text()))
    assert check(source(context), context) == []
    lesson = read(source(context))
    file = lesson.student if broken == "student" else lesson.solved
    text = file.read_text(encoding="utf-8")
    old, new = {
        "student": ("filler", "filling"),
        "solved": ("sigma * noise", "noise * sigma"),
        "metadata": ('"source_sha256": "', '"source_sha256": "0'),
        "output": ('"execution_count": 3', '"execution_count": null'),
    }[broken]
    assert old in text
    file.write_text(text.replace(old, new, 1), encoding="utf-8")
    assert len(check(source(context), context)) == 1


@pytest.mark.parametrize("lost", ["student", "solved"])
def test_a_missing_file_is_stale(tmp_path, executions, lost):
    context = repository(tmp_path)
    build(source(context), context)
    context = replace(context, timings=json.loads((tmp_path / "solutions" / "timings.json").read_text()))
    getattr(read(source(context)), lost).unlink()
    assert [problem.rule for problem in check(source(context), context)] == ["stale"]


def test_the_solved_file_carries_the_hash_of_its_source(tmp_path, executions):
    import hashlib

    context = repository(tmp_path)
    build(source(context), context)
    metadata = json.loads(texts(context)[1])["metadata"][KEY]
    assert metadata["source_sha256"] == hashlib.sha256(source(context).read_bytes()).hexdigest()


# Whole or not at all -------------------------------------------------------------------------------


def test_a_refused_lesson_leaves_the_files_of_before(tmp_path, executions):
    context = repository(tmp_path)
    build(source(context), context)
    before = texts(context)
    repository(tmp_path, changed("return alpha * x + sigma * noise", "return x"))
    with pytest.raises(Refused):
        build(source(context), context)
    assert texts(context) == before


def test_a_failed_execution_leaves_nothing_and_names_its_line(tmp_path, monkeypatch):
    def run(notebook, threads=2, **options):
        raise execute.Failed(6, "ZeroDivisionError: no")

    monkeypatch.setattr(execute, "run", run)
    context = repository(tmp_path)
    with pytest.raises(Refused) as refused:
        build(source(context), context, timed=False)
    cell = read(source(context)).cells[6]
    assert [(p.line, p.rule, p.message) for p in refused.value.problems] == [
        (cell.line, "execution", "ZeroDivisionError: no")
    ]
    assert not (tmp_path / "notebooks").exists()
    assert not (tmp_path / "solutions" / f"{STEM}.ipynb").exists()


def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path, monkeypatch):
    from pathlib import Path

    file = tmp_path / "a.ipynb"
    assert write(file, "old")
    assert not write(file, "old")
    monkeypatch.setattr(
        Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    with pytest.raises(ValueError, match="No space left"):
        write(file, "new")
    assert [(f.name, f.read_text()) for f in tmp_path.iterdir()] == [("a.ipynb", "old")]


# Times ---------------------------------------------------------------------------------------------


def test_the_header_states_the_measured_time(tmp_path, executions):
    context = repository(tmp_path)
    build(source(context), context)
    student, solved = texts(context)
    for text in (student, solved):
        assert "all cells run in about 40 s on 2 CPU cores (measured)" in text
    assert json.loads((tmp_path / "solutions" / "timings.json").read_text())[STEM]["seconds"] == 41.0


def test_a_time_from_a_busy_machine_is_not_stated(tmp_path, executions, monkeypatch):
    monkeypatch.setattr(
        execute, "machine", lambda threads: {"hardware": "x", "busy_percent": 60.0, "images_per_second": 1}
    )
    context = repository(tmp_path)
    assert "not recorded" in build(source(context), context)[1]
    assert "has not been measured yet" in texts(context)[0]


def test_a_busy_run_takes_away_no_time_but_that_of_other_code(tmp_path, executions, monkeypatch):
    context = repository(tmp_path)
    build(source(context), context)
    busy = {"hardware": "x", "busy_percent": 60.0, "images_per_second": 1}
    monkeypatch.setattr(execute, "machine", lambda threads: busy)
    build(source(context), context, again=True)
    assert "about 40 s on 2 CPU cores (measured)" in texts(context)[0]
    repository(tmp_path, changed("return alpha * x +", "return x * alpha +"))
    build(source(context), context)
    assert "has not been measured yet" in texts(context)[0]


def test_reading_time_counts_words_code_and_exercises(tmp_path):
    context = repository(tmp_path)
    lesson = read(source(context))
    more = read(source(repository(tmp_path / "more", SAMPLE + filler(10, 150))))
    minutes = [int(re.search(r"about (\d+) minutes", header(each, context))[1]) for each in (lesson, more)]
    assert minutes[1] - minutes[0] == 10


# Cards and pictures --------------------------------------------------------------------------------


def test_the_picture_of_before_is_kept_where_it_looks_the_same(tmp_path):
    from matplotlib.figure import Figure

    def figure(width, value=1.0):
        made = Figure(figsize=(2, 1))
        made.subplots().bar([0, 1], [0.5, value], width=width)
        return made

    old = small_picture(figure(0.8))
    assert small_picture(figure(0.8)) == old
    hair = small_picture(figure(0.803))
    assert hair != old
    assert alike(hair, old)
    assert small_picture(figure(0.803), old) == old
    other = small_picture(figure(0.8, 0.1), old)
    assert other != old
    assert not alike(other, old)
    assert len(old) < 8000


def test_a_built_notebook_gives_its_pictures_back(tmp_path):
    context = repository(tmp_path)
    student = student_notebook(read(source(context)), context)
    found = pictures_in(nbformat.reads(text_of(student), as_version=4))
    assert list(found) == ["02.1"]
    again = io.BytesIO()
    Image.open(io.BytesIO(base64.b64decode(found["02.1"]))).save(again, format="PNG", compress_level=1)
    same_look = base64.b64encode(again.getvalue()).decode()
    assert same_look != found["02.1"]
    assert same_look in card(context.bank("02")["02.1"], replace(context, old={"02.1": same_look}))


def test_a_card_names_title_kind_difficulty_and_minutes(tmp_path):
    context = repository(tmp_path)
    text = card(context.bank("02")["02.3"], context)
    assert text.split("\n")[0] == "### Exercise 02.3 · Title of 02.3"
    assert text.split("\n")[2] == '*debug* · difficulty 2 of 3 ●●○ · about 5 min · stuck? `hint("02.3")`'


def test_the_card_of_a_prediction_lists_its_choices(tmp_path):
    context = repository(tmp_path)
    predicted = replace(context.bank("02")["02.2"], kind="predict", choices=("up", "down"))
    assert 'Return one of: `"up"` · `"down"`' in card(predicted, context)
    assert "Return one of" not in card(context.bank("02")["02.2"], context)


# Repository address --------------------------------------------------------------------------------


def test_no_address_means_upload_instructions_and_no_badge(tmp_path):
    context = repository(tmp_path)
    student = text_of(student_notebook(read(source(context)), context))
    assert "colab.research" not in student
    assert "Upload notebook" in student
    assert "--find-links=." in student
    assert "github" not in student.lower()


def test_an_address_means_a_badge_and_an_install_from_it(tmp_path):
    context = repository(tmp_path)
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "s"\n[project.urls]\nRepository = "https://github.com/someone/lessons"\n'
    )
    context = replace(context, repository=repository_address(tmp_path))
    student = text_of(student_notebook(read(source(context)), context))
    assert f"colab.research.google.com/github/someone/lessons/blob/main/notebooks/{STEM}.ipynb" in student
    assert '\\"git+https://github.com/someone/lessons\\"' in student
    assert "Upload notebook" not in student


def test_links_to_lessons_that_are_not_written_are_plain_words(tmp_path):
    context = repository(tmp_path)
    lesson = read(source(context))
    assert "Next: 03 The reverse process (to come)." in text_of(student_notebook(lesson, context))
    there = replace(context, stems=(STEM, "03_reverse_process"))
    assert "Next: [03 The reverse process](03_reverse_process.ipynb)." in text_of(
        student_notebook(lesson, there)
    )


# The command line, and one real run ----------------------------------------------------------------


def test_the_command_line(tmp_path, executions, monkeypatch, capsys):
    context = repository(tmp_path)
    monkeypatch.setattr(repositories, "bank_of", lambda number: BANK)
    assert main(["--root", str(tmp_path), "--check"]) == 1
    assert (
        f"solutions/{STEM}.py:1: stale: notebooks/{STEM}.ipynb is not what the source says"
        in capsys.readouterr().out
    )
    assert main(["--root", str(tmp_path), "02"]) == 0
    assert main(["--root", str(tmp_path), "--check"]) == 0
    assert main(["--root", str(tmp_path), "07"]) == 2
    assert capsys.readouterr().err == f"no solutions/07_….py: there are {STEM}\n"
    source(context).write_text(changed("# difficulty: 2\n", ""), encoding="utf-8")
    assert main(["--root", str(tmp_path), "--student"]) == 1


def test_bad_input_is_one_line_and_no_traceback(tmp_path, executions, monkeypatch, capsys):
    def said(*arguments):
        assert main(["--root", str(tmp_path), *arguments]) == 2
        return capsys.readouterr().err

    context = repository(tmp_path)
    assert said("--jobs", "0") == "--jobs and --threads are whole numbers from 1 on\n"
    monkeypatch.setattr(repositories.bank, "exercises", lambda number: 1 / 0)
    assert said("02") == "bank/lesson_02.py: ZeroDivisionError: division by zero\n"
    source(context).write_bytes(b"# %%\n\xff")
    assert said("02").startswith(f"{STEM}.py: no text in UTF-8")
    (tmp_path / "solutions" / "timings.json").write_text("{")
    source(context).write_text(SAMPLE, encoding="utf-8")
    assert said("02").startswith("solutions/timings.json: ")
    (tmp_path / "pyproject.toml").unlink()
    assert "pyproject.toml" in said("02")


def test_a_draft_that_never_ends_is_refused_with_its_line(tmp_path, monkeypatch, capsys):
    def run(notebook, threads=2, **options):
        raise execute.Failed(6, "this cell did not end within 180 s")

    monkeypatch.setattr(execute, "run", run)
    monkeypatch.setattr(repositories, "bank_of", lambda number: BANK)
    line = read(source(repository(tmp_path))).cells[6].line
    assert main(["--root", str(tmp_path), "--draft", str(tmp_path / "out")]) == 1
    said = f"solutions/{STEM}.py:{line}: execution: this cell did not end within 180 s\n"
    assert capsys.readouterr().out == said


def test_a_draft_is_made_whatever_the_rules_say(tmp_path, executions, monkeypatch, capsys):
    monkeypatch.setattr(repositories, "bank_of", lambda number: BANK)
    repository(tmp_path, changed("# difficulty: 2\n", "").split('# %% [markdown] tags=["play"]')[0])
    assert main(["--root", str(tmp_path), "--draft", str(tmp_path / "out")]) == 1
    assert "header" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
    repository(tmp_path, SAMPLE.split('# %% [markdown] tags=["play"]')[0])
    assert main(["--root", str(tmp_path), "--draft", str(tmp_path / "out")]) == 1
    assert {file.name for file in (tmp_path / "out").iterdir()} == {f"{STEM}.ipynb", f"{STEM}.solved.ipynb"}
    assert not (tmp_path / "notebooks").exists()


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The sample lesson, built for real."""
    context = repository(tmp_path_factory.mktemp("real"))
    build(source(context), context, threads=1, timed=False)
    return context


def test_a_real_execution_stores_clean_outputs(executed):
    solved = nbformat.reads(texts(executed)[1], as_version=4)
    nbformat.validate(solved)
    code = [cell for cell in solved.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    printed = [output.text for cell in code for output in cell.outputs if output.output_type == "stream"]
    assert {"idea 1\n", "a first picture\n", "0.50 ± 0.02\n"} <= set(printed)
    pictures = [
        o
        for cell in code
        for o in cell.outputs
        if 'alt="A line that rises' in o.get("data", {}).get("text/html", "")
    ]
    assert len(pictures) == 3
    assert solved.metadata.language_info == {"name": "python"}
    assert "widgets" not in solved.metadata


def test_a_real_execution_is_current(executed):
    problems = check(source(executed), replace(executed, timings={}))
    assert [problem.rule for problem in problems] == ["time"]


@pytest.mark.parametrize(
    ("code", "message", "timeout"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero", 120),
        ("import time\ntime.sleep(60)", "did not end within 6 s", 6),
        ("import os\nos._exit(1)", "the kernel died in this cell", 120),
    ],
)
def test_a_cell_that_fails_hangs_or_dies(tmp_path, code, message, timeout):
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell("a = 1"), nbformat.v4.new_code_cell(code)]
    )
    with pytest.raises(execute.Failed, match=message) as failed:
        execute.run(notebook, threads=1, timeout=timeout)
    assert failed.value.cell == 1
