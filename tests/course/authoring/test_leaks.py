"""A solution never reaches a student: what strips is checked, and what is left is compared."""

import pytest

from diffusion_lessons.course.authoring.build import Refused, made_student
from diffusion_lessons.course.authoring.cells import blocks, solved_code, student_code
from diffusion_lessons.course.authoring.notebook import student_notebook
from diffusion_lessons.course.authoring.rules.leaks import leak_problems
from diffusion_lessons.course.authoring.rules.spelling import marker_problems
from diffusion_lessons.course.authoring.source import read
from tests.course.sample_lesson import BANK, SAMPLE, line_of, repository, source

CELL = """def f(x):
    if x:
        ### BEGIN SOLUTION
        y = x + 1
        ### END SOLUTION
    return y"""


@pytest.fixture
def refusals(tmp_path):
    def found(text):
        context = repository(tmp_path, text)
        try:
            made_student(read(source(context)), context)
        except Refused as refused:
            return [(problem.line, problem.rule) for problem in refused.problems]
        return []

    return found


def changed(old, new, text=SAMPLE):
    assert old in text
    return text.replace(old, new, 1)


# Stripping -----------------------------------------------------------------------------------------


def test_a_solution_becomes_one_line_at_its_indentation():
    assert student_code(CELL).split("\n")[2:] == [
        "        raise NotImplementedError  # your code here",
        "    return y",
    ]
    assert solved_code(CELL).split("\n")[2:] == ["        y = x + 1", "    return y"]


def test_a_student_block_takes_the_place_of_the_solution_before_it():
    planted = ["### BEGIN STUDENT", "# y = x - 1  # wrong", "#     # kept", "### END STUDENT"]
    cell = CELL.replace("    return y", "\n".join("        " + line for line in planted))
    assert student_code(cell).split("\n")[2:] == ["        y = x - 1  # wrong", "            # kept"]
    assert solved_code(cell).split("\n")[2:] == ["        y = x + 1"]


def test_two_solutions_leave_two_stubs():
    assert student_code(CELL + "\n" + CELL).count("raise NotImplementedError") == 2


@pytest.mark.parametrize(
    ("broken", "line"),
    [
        (CELL.replace("        ### END SOLUTION\n", ""), 2),
        (CELL.replace("        ### BEGIN SOLUTION\n", ""), 3),
        (CELL.replace("END SOLUTION", "BEGIN SOLUTION"), 4),
        (CELL.replace("END SOLUTION", "END STUDENT"), 4),
    ],
)
def test_markers_that_do_not_pair_are_refused_at_their_line(broken, line):
    with pytest.raises(ValueError) as caught:
        blocks(broken)
    assert caught.value.args[0] == line


@pytest.mark.parametrize(
    "slip",
    [
        "### begin solution",
        "## BEGIN SOLUTION",
        "### BEGIN SOLUTIONS",
        "### BEGIN SOLUTOIN",
        "#### BEGIN SOLUTION",
        "### BEGINSOLUTION",
        "# Begin of solution",
        "### BEGIN SOLUTION:",
    ],
)
def test_a_misspelt_marker_is_refused(tmp_path, slip):
    text = changed("    ### BEGIN SOLUTION", f"    {slip}")
    lesson = read(source(repository(tmp_path, text)))
    assert line_of(text, slip) in [line for line, _, _ in marker_problems(lesson)]


def test_ordinary_comments_are_no_markers(tmp_path):
    text = changed('print("idea", 1)', "# begin with the solution of the equation\n# The end\n### Student t")
    assert list(marker_problems(read(source(repository(tmp_path, text))))) == []


# Proof that nothing leaks --------------------------------------------------------------------------


def test_both_markers_misspelt_beyond_recognition(refusals):
    text = changed("### BEGIN SOLUTION", "### answer from here").replace("### END SOLUTION", "### to here", 1)
    assert (line_of(text, '@exercise("02.1")'), "stub") in refusals(text)


def test_half_of_a_solution_outside_of_the_markers(refusals):
    text = changed(
        "    ### END SOLUTION", "    ### END SOLUTION\n    x = alpha * x + sigma * noise\n    return x"
    )
    assert (line_of(text, '@exercise("02.1")'), "stub") in refusals(text)
    fine = changed(
        "    return alpha * x + sigma * noise\n    ### END SOLUTION",
        "    y = alpha * x + sigma * noise\n    ### END SOLUTION\n    return y",
    )
    assert refusals(fine) == []


@pytest.mark.parametrize(
    "leak",
    [
        "shown = lambda x, noise, alpha, sigma: alpha * x + sigma * noise",
        "x = (alpha*x + sigma*noise)  # spaced in another way",
        "# y = alpha * x + sigma * noise",
        "if True:\n    z = [alpha * x + sigma * noise for alpha in (1,)]",
    ],
)
def test_a_solution_in_another_cell_of_code(refusals, leak):
    text = changed('print("idea", 1)', leak)
    assert refusals(text)[0] == (line_of(text, "### BEGIN SOLUTION"), "leak")


@pytest.mark.parametrize(
    "leak", ["# Write `alpha * x + sigma * noise`.", "# ```python\n# y = alpha * x + sigma * noise\n# ```"]
)
def test_a_solution_in_the_prose(refusals, leak):
    text = changed("# Mind the root.", leak)
    assert refusals(text) == [(line_of(text, "### BEGIN SOLUTION"), "leak")]


def test_a_long_solution_under_other_names(tmp_path):
    long = "return (alpha * x + sigma * noise) * alpha / (alpha**2 + sigma**2)"
    renamed = "(a * b + c * d) * a / (a**2 + c**2)"
    for shown, leaks in ((renamed, 1), (renamed.replace("* a /", "* b /"), 0), ("a * b + c * d", 0)):
        text = changed("return alpha * x + sigma * noise", long)
        text = changed('print("idea", 1)', f"a = b = c = d = 1\nprint({shown})", text)
        context = repository(tmp_path, text)
        lesson = read(source(context))
        assert len(list(leak_problems(lesson, student_notebook(lesson, context)))) == leaks


def test_what_a_debug_exercise_hands_out_is_no_secret(refusals):
    solution = "a = alpha * x + x * 0\nreturn a + sigma * noise * 1"
    planted = "a = alpha * x + x * 0\n    # return a + sigma**2 * noise * 1"
    text = changed("return sigma * noise + alpha * x", solution.replace("\n", "\n    "))
    text = changed("# return alpha * x + sigma**2 * noise  # one thing here is wrong", f"# {planted}", text)
    assert refusals(text) == []
    told = changed('print("idea", 1)', "a = sigma = noise = 1\nprint(a + sigma * noise * 1)", text)
    assert (line_of(told, "a = alpha * x + x * 0") - 1, "leak") in refusals(told)


def test_a_solution_block_of_half_a_statement(refusals):
    text = changed(
        "    return alpha * x + sigma * noise", "    return (alpha * x +\n    ### END SOLUTION\n    sigma)"
    )
    assert {rule for _, rule in refusals(text)} <= {"syntax", "marker"}
    assert refusals(text)


def test_a_lesson_that_is_not_python(refusals):
    text = changed('print("play")', "print('play'")
    assert refusals(text) == [(line_of(text, "print('play'"), "syntax")]


def test_no_byte_of_a_solution_is_in_the_student_file(tmp_path):
    context = repository(tmp_path)
    lesson = read(source(context))
    student = made_student(lesson, context)
    text = "\n".join(cell.source for cell in student.cells)
    assert "kept" not in text
    assert "SOLUTION" not in text
    assert "STUDENT" not in text
    assert text.count("raise NotImplementedError  # your code here") == len(BANK) - 1  # one has a planted bug
    assert "sigma**2 * noise" in text  # the planted bug
    assert all(not cell.get("outputs") for cell in student.cells)
