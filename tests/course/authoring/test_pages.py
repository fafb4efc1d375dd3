"""Links lead somewhere, pictures have words, stored outputs are fit to be read."""

import nbformat
import pytest

from diffusion_lessons.course.authoring.notebook import solved_notebook, student_notebook
from diffusion_lessons.course.authoring.rules.pages import alt_problems, link_problems, output_problems
from diffusion_lessons.course.authoring.source import read
from tests.course.sample_lesson import SAMPLE, line_of, repository, source


@pytest.fixture
def page(tmp_path):
    """(lesson, student notebook, root) of the sample with a paragraph of its own."""

    def made(paragraph):
        text = SAMPLE.replace("# Mind the root.", "# " + paragraph)
        context = repository(tmp_path, text)
        lesson = read(source(context))
        return lesson, student_notebook(lesson, context), context.root, line_of(text, paragraph)

    return made


@pytest.mark.parametrize(
    "link",
    [
        "[a](07_nowhere.ipynb)",
        "[a](../pyproject.toml)",
        '<a href="nowhere.html">a</a>',
        "[a](#no-such-heading)",
        "[**bold** and [nested]](gone.ipynb)",
        "[a](02_forward_process.ipynb#no-such-heading)",
    ],
)
def test_a_dead_link(page, link):
    lesson, student, root, line = page(f"See {link}.")
    assert [said[:2] for said in link_problems(lesson, student, root)] == [(line, "link")]


@pytest.mark.parametrize(
    "link",
    [
        "[a](02_forward_process.ipynb)",
        "[a](#Exit-quiz)",
        "[a](02_forward_process.ipynb#exit-quiz)",
        "[a](https://example.org/x) and [b](mailto:a@b.c)",
        '<a id="here"></a>[a](#here)',
    ],
)
def test_a_link_that_leads_somewhere(page, link):
    lesson, student, root, _ = page(link)
    assert list(link_problems(lesson, student, root)) == []


@pytest.mark.parametrize(
    "picture", ["![](a.png)", "![fig](a.png)", '<img src="a.png">', '<img alt="" src="a.png">']
)
def test_a_picture_without_words(page, picture):
    lesson, student, _, line = page(picture)
    assert [said[:2] for said in alt_problems(lesson, student)] == [(line, "alt")]


def test_a_picture_with_words(page):
    lesson, student, _, _ = page(
        '![Noise that becomes a seven](a.png) <img src="x" alt="Noise that becomes a seven">'
    )
    assert list(alt_problems(lesson, student)) == []


@pytest.fixture
def executed(tmp_path):
    """The problems of a solved notebook in which the first cell of code shows something."""

    def found(*outputs, tags=""):
        context = repository(
            tmp_path,
            SAMPLE.replace('# %%\nprint("a first picture")', f'# %%{tags}\nprint("a first picture")'),
        )
        lesson = read(source(context))
        solved = solved_notebook(lesson, context)
        for count, cell in enumerate((cell for cell in solved.cells if cell.cell_type == "code"), 1):
            cell.execution_count = count
            if "nbval-check-output" in cell.metadata.get("tags", ()):
                cell.outputs = [nbformat.v4.new_output("stream", text="1")]
            if "a first picture" in cell.source:
                cell.outputs = list(outputs)
        return [said[1:] for said in output_problems(lesson, solved)]

    return found


def display(**data):
    return nbformat.v4.new_output(
        "display_data", {key.replace("_", "/"): value for key, value in data.items()}
    )


def test_a_clean_notebook(executed):
    html = '<script>const a = "<img>";</script>'
    html += '<img alt="Noise that becomes a seven" src="data:image/png;base64,/tmp/A">'
    assert executed(display(text_html=html), nbformat.v4.new_output("stream", text="loss 0.1")) == []


def test_stored_errors_and_warnings(executed):
    error = nbformat.v4.new_output("error", ename="ValueError", evalue="no")
    assert executed(error) == [("output", "an error is stored: ValueError: no")]
    warning = nbformat.v4.new_output("stream", name="stderr", text="UserWarning: old")
    assert "standard error" in executed(warning)[0][1]


@pytest.mark.parametrize(
    "output",
    [
        display(image_png="AAAA", text_plain="<Figure>"),
        display(text_html="<img src='x'>"),
        display(text_html='<img alt="fig">'),
    ],
)
def test_figures_without_words(executed, output):
    assert [rule for rule, _ in executed(output)] == ["alt"]


@pytest.mark.parametrize("path", ["/home/someone/lessons/x.py", "/tmp/ipykernel_12/3.py", "/root/data"])
def test_paths_of_the_machine_that_built_it(executed, path):
    assert path in executed(nbformat.v4.new_output("stream", text=f"read {path}"))[0][1]


def test_a_tagged_cell_that_prints_nothing(executed):
    found = executed(tags=' tags=["nbval-check-output"]')
    assert found == [("output", "tagged nbval-check-output, but nothing is printed to check")]


def test_a_cell_that_was_never_executed(tmp_path):
    context = repository(tmp_path)
    lesson = read(source(context))
    messages = {said[2] for said in output_problems(lesson, solved_notebook(lesson, context))}
    assert "this cell was never executed" in messages
