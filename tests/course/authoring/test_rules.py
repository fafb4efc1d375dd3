"""Each rule of the build fires at the line that breaks it, and a lesson that breaks none passes."""

import pkgutil
import re
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest

import diffusion_lessons
from diffusion_lessons import metrics, networks
from diffusion_lessons.course.authoring.build import Refused, made_student
from diffusion_lessons.course.authoring.notebook import code_digest, solved_notebook, student_notebook
from diffusion_lessons.course.authoring.repository import built
from diffusion_lessons.course.authoring.rules import time_problems
from diffusion_lessons.course.authoring.rules.anatomy import uncertainty_problems
from diffusion_lessons.course.authoring.rules.later import built_in
from diffusion_lessons.course.authoring.rules.limits import visible_words
from diffusion_lessons.course.authoring.source import read
from diffusion_lessons.course.lessons import LESSONS
from tests.course.sample_lesson import (
    ALT,
    BANK,
    PLANTED,
    SAMPLE,
    STEM,
    answer,
    filler,
    idea,
    line_of,
    repository,
    source,
)

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def problems(tmp_path):
    """What the build says of a source: a list of (line, rule, message)."""

    def refusals(text, stem=STEM, bank=None):
        context = repository(tmp_path, text, stem)
        if bank is not None:
            context = replace(context, bank=lambda number: bank)
        try:
            made_student(read(source(context, stem)), context)
        except Refused as refused:
            return [(problem.line, problem.rule, problem.message) for problem in refused.problems]
        return []

    return refusals


def changed(old, new, text=SAMPLE):
    assert old in text
    return text.replace(old, new, 1)


def the_one(found, rule):
    """The single problem found, which is of this rule."""
    assert [each[1] for each in found] == [rule], found
    return found[0]


def test_a_lesson_that_breaks_no_rule_passes(problems):
    assert problems(SAMPLE) == []


def test_a_problem_is_written_as_file_line_rule_message(tmp_path):
    context = repository(tmp_path, changed("# title: The forward process\n", ""))
    with pytest.raises(Refused, match=rf"^solutions/{STEM}\.py:2: header: .*'# title: …'"):
        made_student(read(source(context)), context)


# Anatomy -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["title", "question", "difficulty", "prerequisites"])
def test_each_key_of_the_header_is_asked_for(problems, key):
    line, _, message = the_one(problems(re.sub(rf"(?m)^# {key}:.*\n", "", SAMPLE, count=1)), "header")
    assert line == 2
    assert f"# {key}: …" in message


def test_a_lesson_to_know_before_is_there(problems):
    wrong = problems(changed("# prerequisites: 01,", "# prerequisites: 77,"))
    message = "there is no lesson 77: they are numbered 00 to 20, with two digits"
    assert the_one(wrong, "header") == (2, "header", message)


def test_difficulty_is_1_to_3(problems):
    assert "got '5'" in the_one(problems(changed("# difficulty: 2", "# difficulty: 5")), "header")[2]


@pytest.mark.parametrize(
    "tag",
    [
        "objectives",
        "setup",
        "see",
        "guess",
        "predict",
        "experiment",
        "play",
        "pitfalls",
        "interview",
        "exit-quiz",
        "references",
    ],
)
def test_a_missing_section_is_named(problems, tag):
    found = problems(changed(f'["{tag}"]', '["other"]'))
    assert f"no cell with the tag '{tag}'" in [message for _, rule, message in found if rule == "section"]


def test_a_guess_asks_and_folds_its_answer(problems):
    folded = "# <details><summary>One way</summary>\n# Blur it.\n# </details>\n"
    assert "folded in <details>" in the_one(problems(changed(folded, "")), "guess")[2]
    assert "an open question" in the_one(problems(changed("do it?", "do it.")), "guess")[2]


def test_agreement_may_be_declined_with_a_reason(problems):
    without = changed('["agreement"]', '["other"]')
    assert "no cell with the tag 'agreement'" in the_one(problems(without), "section")[2]
    reason = changed("# title:", "# agreement: none, because nobody wrote one\n# title:", without)
    assert problems(reason) == []


def test_sections_stand_in_order(problems):
    swapped = (
        SAMPLE.replace('["play"]', '["x"]')
        .replace('["experiment"]', '["play"]')
        .replace('["x"]', '["experiment"]')
    )
    line, _, message = the_one(problems(swapped), "section")
    assert line == line_of(swapped, '["experiment"]') + 1
    assert message == "'experiment' stands before 'play' in a lesson"


def test_a_section_stands_once(problems):
    twice = changed('["pitfalls"]', '["play"]')
    assert (line_of(twice, "# ## Pitfalls"), "section", "a second cell with the tag 'play'") in problems(
        twice
    )


def test_three_to_five_ideas(problems):
    two = changed(idea(2), "") + filler(4)
    assert "2 ideas" in next(message for _, rule, message in problems(two) if rule == "section")
    five = changed(idea(3), idea(3) + idea(4) + idea(5))
    assert problems(five) == []
    six = changed(idea(4), idea(4) + idea(6), five)
    assert "6 ideas" in next(message for _, rule, message in problems(six) if rule == "section")


@pytest.mark.parametrize(
    ("old", "new", "missing"),
    [
        ("# $$x = \\alpha x_0 + \\sigma \\varepsilon$$\n", "", "equation"),
        ("# |---|---|\n", "", "table"),
        ("**What to notice:**", "So", "line 'What to notice: …'"),
        ('figure(fig, alt="A line that rises from nothing to 1")', "pass", "figure"),
    ],
)
def test_each_part_of_an_idea_is_asked_for(problems, old, new, missing):
    text = changed(old, new)
    line, _, message = the_one(problems(text), "idea")
    assert line == line_of(text, "# ## Idea 1")
    assert f"this idea has no {missing}" in message


def test_intuition_is_at_most_150_words(problems):
    long = changed("# Noise grows and the picture fades.", "# " + "word " * 170)
    assert "174 words" not in the_one(problems(long), "idea")[2]
    assert re.match(r"17\d words of intuition; 150 are allowed", the_one(problems(long), "idea")[2])


def test_code_of_an_idea_is_at_most_25_lines(problems):
    assert problems(changed('print("idea", 1)', "a = 1\n" * 24 + "a = 2")) == []
    assert (
        "more than 25 lines"
        in the_one(problems(changed('print("idea", 1)', "a = 1\n" * 25 + "a = 2")), "idea")[2]
    )


def test_objectives_name_exercises_that_exist(problems):
    text = changed(" (exercise 02.1)", "")
    assert the_one(problems(text), "objectives")[0] == line_of(text, "derive the jump")
    wrong = changed("(exercise 02.1)", "(exercise 02.9)")
    assert the_one(problems(wrong), "objectives")[2] == "this lesson has no exercise 02.9"


def test_three_to_five_objectives(problems):
    assert (
        "2 objectives"
        in the_one(problems(changed("# - mix two tensors (exercise 02.2)\n", "")), "objectives")[2]
    )


@pytest.mark.parametrize(
    ("tag", "old", "new"),
    [
        ("predict", 'predict("Which?"', 'print("Which?"'),
        ("interview", 'interview_card("What?", "That.")', "1"),
        ("exit-quiz", 'Question("Three?", two)', ""),
        ("play", 'print("play")', ""),
        ("references", ", section 2", ""),
        ("references", "{{lesson 03}}", "nothing"),
    ],
)
def test_the_parts_around_the_ideas_hold_what_they_must(problems, tag, old, new):
    text = changed(old, new)
    if tag == "play":
        text = text.replace(
            '# %%\n\n\n# %% [markdown] tags=["agreement"]', '# %% [markdown] tags=["agreement"]'
        )
    line, _, _ = the_one(problems(text), tag)
    assert line == line_of(text, f'["{tag}"]') + 1


# Exercises and bank --------------------------------------------------------------------------------


def test_an_exercise_with_no_entry_in_the_bank(problems):
    bank = {key: value for key, value in BANK.items() if key != "02.2"}
    found = problems(SAMPLE, bank=bank)
    assert (line_of(SAMPLE, "def mix"), "bank", "exercise 02.2 has no entry in bank/lesson_02.py") in found


def test_an_entry_of_the_bank_with_no_exercise(problems):
    gone = changed(answer("02.2", "mix", "kept = alpha * x\nreturn kept + sigma * noise"), filler(2))
    gone = changed("# - mix two tensors (exercise 02.2)", "# - mix (exercise 02.1)", gone)
    assert (1, "bank", "the bank's exercise 02.2 is not in the lesson") in problems(gone)


def test_an_exercise_twice_and_under_another_name(problems):
    again = SAMPLE + answer("02.2", "mix", "return alpha * x + sigma * noise")
    assert "exercise 02.2 is there twice" in [message for _, _, message in problems(again)]
    named = SAMPLE.replace("def mix(", "def blend(")
    assert "exercise 02.2 is called 'mix' in the bank and 'blend' here" in the_one(problems(named), "bank")[2]


def test_the_card_stands_above_its_exercise(problems):
    text = changed("# {{exercise 02.1}}", "# An exercise")
    assert the_one(problems(text), "exercise") == (
        line_of(text, '@exercise("02.1")'),
        "exercise",
        "the cell above holds no {{exercise 02.1}}",
    )


def test_the_cell_of_an_exercise_is_tagged(problems):
    text = changed('# %% tags=["exercise"]\n@exercise("02.2")', '# %%\n@exercise("02.2")')
    assert 'needs tags=["exercise"]' in the_one(problems(text), "exercise")[2]


def test_kinds_differ_and_one_is_debug(problems):
    alike = {key: replace(each, kind="implement") for key, each in BANK.items()}
    messages = " ".join(message for _, _, message in problems(SAMPLE, bank=alike))
    assert "mix them" in messages
    assert "no exercise is of the kind 'debug'" in messages


def test_a_solution_that_the_bank_disagrees_with(problems):
    text = changed("return alpha * x + sigma * noise", "return alpha * x - sigma * noise")
    line, _, message = the_one(problems(text), "bank")
    assert line == line_of(text, "def add_noise")
    assert message.startswith("the solution of 02.1 does not pass it: ")


def test_a_solution_that_needs_a_variable_of_the_notebook(problems):
    text = changed("return alpha * x + sigma * noise", "return alpha * x + sigma * noise + offset")
    text = text.replace('print("idea", 1)', "offset = 0.0")
    assert "no variables" in the_one(problems(text), "bank")[2]


def test_a_solution_may_use_imports_constants_and_functions(problems):
    text = changed(
        "return alpha * x + sigma * noise", "return torch.add(double(x) * alpha / TWO, sigma * noise)"
    )
    text = text.replace('print("idea", 1)', "import torch\nTWO = 2\ndef double(x):\n    return 2 * x")
    assert problems(text) == []


def test_what_the_student_finds_can_be_run(problems):
    body = "### BEGIN SOLUTION\n    pass\n    ### END SOLUTION\n    ### BEGIN STUDENT\n    # nowhere\n"
    given = answer("02.3", "repair", "return sigma * noise + alpha * x", PLANTED)
    card, _ = given.split("def repair")
    text = changed(given, f"{card}class repair:\n    {body}    ### END STUDENT\n\n")
    message = "what the student finds at 02.3 cannot be run: NameError: name 'nowhere' is not defined"
    assert (line_of(text, "class repair"), "bank", message) in problems(text)


def test_a_planted_bug_that_is_no_bug(problems):
    text = changed(
        "# return alpha * x + sigma**2 * noise  # one", "# return (sigma * noise) + alpha * x + 0  # one"
    )
    found = problems(text)
    assert any("reads 'passed', not 'not attempted'" in message for _, _, message in found)


# Budgets, setup, placeholders ----------------------------------------------------------------------


def test_a_cell_over_40_lines(problems):
    text = changed('print("play")', "a = 1\n" * 40 + "a = 2")
    assert the_one(problems(text), "cell") == (
        line_of(text, '["play"]') + 4,
        "cell",
        "41 lines; a cell has at most 40: split it",
    )
    assert problems(changed('print("play")', "a = 1\n" * 39 + "a = 2")) == []


def test_lines_that_only_the_source_has_are_not_counted(problems):
    planted = "# return alpha * x + sigma**2 * noise  # one"
    assert problems(changed(planted, "# a = 1\n    " * 40 + planted)) == []


def test_words_cells_and_code_have_limits(problems):
    assert "cells; a lesson has 45 to 80" in the_one(problems(SAMPLE + filler(50, 1)), "budget")[2]
    assert (
        "visible words; a lesson has 1500 to 3000" in the_one(problems(SAMPLE + filler(8, 250)), "budget")[2]
    )
    code = "# %%\n" + "a = 1\n" * 39
    assert "visible lines of code" in the_one(problems(SAMPLE + code * 8), "budget")[2]
    hidden = '# %% jupyter={"source_hidden": true}\n' + "a = 1\n" * 39
    assert problems(SAMPLE + hidden * 8) == []


def test_folded_text_formulas_and_tables_are_no_visible_words():
    text = (
        "Two words.\n<details>\nmany folded words\n</details>\n$$a = b$$\n\n| a | b |\n|---|---|\n| c | d |\n"
    )
    assert visible_words(text) == 2
    assert visible_words("See [the *next* one](03.ipynb) {{lesson 03}} ![alt text](x.png) `code` α.") == 6


def test_a_notebook_over_a_megabyte(problems):
    text = SAMPLE + "# %% [markdown]\n# <!-- " + "x" * 1_000_000 + " -->\n"
    line, _, message = the_one(problems(text), "budget")
    assert "1.0" in message
    assert line == line_of(text, "<!-- xxx")


def test_setup_is_the_one_text_within_8_lines(problems):
    text = changed("# {{setup}}", "import torch")
    assert the_one(problems(text), "setup")[0] == line_of(text, '["setup"]') + 1
    assert problems(changed("# {{setup}}", "# {{setup}}\nimport torch\nimport math")) == []
    assert (
        "9 lines of setup"
        in the_one(problems(changed("# {{setup}}", "# {{setup}}" + "\nimport torch" * 3)), "setup")[2]
    )


def test_a_placeholder_that_does_not_exist(problems):
    text = changed("# Mind the root.", "# Mind {{the-root}} and {{lesson 77}}.")
    assert problems(text)[0][:2] == (line_of(text, "the-root"), "placeholder")
    assert "there is no lesson 77" in problems(changed("# Mind the root.", "# Mind {{lesson 77}}."))[0][2]


# What later lessons build --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code",
    [
        "from diffusion_lessons import ddim_step",
        "from diffusion_lessons.samplers import ddim_step",
        "import diffusion_lessons.samplers",
        "import diffusion_lessons\ndiffusion_lessons.ddim_step",
    ],
)
def test_what_a_later_lesson_builds_needs_its_link(problems, code):
    text = changed('print("idea", 1)', code)
    line, _, message = the_one(problems(text), "later")
    assert line == line_of(text, code.split("\n")[-1])
    assert "is built in lesson 08: say so with {{built-in 08}}" in message
    assert problems(changed("# Mind the root.", "# A closed box: {{built-in 08}}.", text)) == []


def test_what_earlier_lessons_build_needs_nothing(problems):
    assert (
        problems(changed('print("idea", 1)', "from diffusion_lessons import GaussianMixture, add_noise"))
        == []
    )


def test_a_name_that_no_lesson_builds_is_refused(problems):
    found = problems(changed('print("idea", 1)', "from diffusion_lessons.nowhere import nothing"))
    assert "nothing says which lesson builds nowhere.nothing" in the_one(found, "later")[2]


@pytest.fixture(scope="module")
def says():
    """What the headers of this repository say."""
    return built(ROOT)


def test_the_headers_know_every_public_name(says):
    for package, module in ((diffusion_lessons, ""), (metrics, "metrics"), (networks, "networks")):
        assert [name for name in package.__all__ if built_in(says, module, name) is None] == []
    modules = [module.name for module in pkgutil.iter_modules(diffusion_lessons.__path__)]
    assert [name for name in modules if built_in(says, name) is None and name != "__main__"] == []


def test_what_the_headers_name_is_there(says):
    modules = {
        module.name.removeprefix("diffusion_lessons.")
        for module in pkgutil.walk_packages(diffusion_lessons.__path__, "diffusion_lessons.")
        if not module.name.endswith("__main__")
    }
    system = [each for each in modules if each.split(".")[0] not in ("course", "experiments", "makers")]
    names = {name for each in system for name in vars(import_module(f"diffusion_lessons.{each}"))}
    assert [name for name in says if name not in modules | names] == []


def test_the_headers_name_the_lessons_of_the_syllabus(says):
    assert [entry.number for entry in LESSONS] == [f"{i:02d}" for i in range(21)]
    assert set(says.values()) <= {entry.number for entry in LESSONS}
    found = {
        ("networks", "UNet"): "06",
        ("networks.unet", "UNet"): "06",
        ("networks", "Classifier"): "09",
        ("networks.classifier", None): "09",
        ("metrics", "frechet_distance"): "20",
        ("metrics", "sliced_wasserstein"): "00",
        ("zoo", "load"): "00",
        ("samplers", "ddpm_step"): "03",
        ("samplers", "ddim_step"): "08",
        ("", "V"): "17",
        ("", "nothing"): None,
    }
    assert {key: built_in(says, *key) for key in found} == found


def test_nobody_builds_the_same_twice(tmp_path):
    repository(tmp_path, "# %% [markdown]\n# builds: metrics\n", "18_flow_matching")
    assert built(tmp_path)["metrics"] == "18"
    repository(tmp_path, "# %% [markdown]\n# builds: losses, metrics\n", "20_evaluation")
    with pytest.raises(ValueError, match="lessons 18 and 20 both say that they build metrics"):
        built(tmp_path)


def test_the_line_of_a_header_is_for_the_build_alone(tmp_path):
    context = repository(tmp_path)
    plain = read(source(context))
    repository(
        tmp_path, changed("# title:", "# builds: Level, paths, " + "many.names, " * 200 + "\n# title:")
    )
    lesson = read(source(context))
    assert code_digest(lesson, context) == code_digest(plain, context)
    assert student_notebook(lesson, context) == student_notebook(plain, context)


# The executed notebook -----------------------------------------------------------------------------


def test_an_experiment_without_uncertainty(tmp_path):
    context = repository(tmp_path, changed("0.50 ± 0.02", "0.50"))
    lesson = read(source(context))
    found = list(uncertainty_problems(lesson, solved_notebook(lesson, context)))
    assert [rule for _, rule, _ in found] == ["experiment"]


def test_run_times_are_measured_and_at_most_90_s(tmp_path):
    context = repository(tmp_path)
    lesson = read(source(context))
    assert "never measured" in time_problems(lesson, context)[0].message
    code = code_digest(lesson, context)
    slow = replace(context, timings={STEM: {"seconds": 91.0, "code_sha256": code}})
    assert "ran for 91 s" in time_problems(lesson, slow)[0].message
    fine = replace(context, timings={STEM: {"seconds": 89.0, "code_sha256": code}})
    assert time_problems(lesson, fine) == []
    other = replace(context, timings={STEM: {"seconds": 89.0, "code_sha256": "0"}})
    assert "that of other code" in time_problems(lesson, other)[0].message


def test_the_start_page_has_no_anatomy(problems):
    page = '# %% [markdown] tags=["header"]\n# title: Start\n\n# %%\nprint(1)\n'
    assert problems(page, "00_start_here", bank={}) == []
    assert the_one(problems(page + "# %%\n" + "a = 1\n" * 41, "00_start_here", bank={}), "cell")


def test_the_alt_text_of_the_figure_is_on_the_card(tmp_path):
    context = repository(tmp_path)
    student = made_student(read(source(context)), context)
    card = next(cell for cell in student.cells if cell.id == "card-02-1")
    assert f"![{ALT}](data:image/png;base64," in card.source


def test_the_expected_figure_needs_alt_text(problems):
    silent = {**BANK, "02.1": replace(BANK["02.1"], figure_alt="")}
    assert the_one(problems(SAMPLE, bank=silent), "alt")[0] == line_of(SAMPLE, "{{exercise 02.1}}")
