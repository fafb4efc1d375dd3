"""An exercise is known by its mark, and a cell is read as IPython reads it, with it and without."""

import ast
import time

import pytest

from diffusion_lessons.course.exercises import magics
from diffusion_lessons.course.exercises.magics import parsed, without_magics
from diffusion_lessons.course.exercises.mark import (
    STUB,
    cell_id,
    decorated,
    exercise_id,
    ids_in,
    ids_in_cell_id,
    is_stub,
    same_level,
    undecorated,
)


@pytest.fixture(params=["with IPython", "without"])
def reader(request, monkeypatch):
    """Both ways to read magics."""
    if request.param == "without":
        monkeypatch.setattr(magics, "TransformerManager", None)
    return request.param


@pytest.mark.parametrize(
    ("call", "id"),
    [
        ('exercise("02.1")', "02.1"),
        ('course.exercise("02.1")', "02.1"),
        ('exercise(id="02.1")', "02.1"),
        ("exercise", None),
        ("exercise()", None),
        ("exercise(number)", None),
        ('hint("02.1")', None),
    ],
)
def test_the_id_in_a_call(call, id):
    assert exercise_id(ast.parse(call, mode="eval").body) == id


def test_a_decorated_definition_with_and_without_its_mark():
    tree = ast.parse(
        '@cache\n@exercise("02.1")\ndef f(): pass\n\ndef g(): pass\n\n@exercise("02.2")\nclass C: pass'
    )
    assert [(node.name, id) for node, id in decorated(tree)] == [("f", "02.1"), ("C", "02.2")]
    assert ast.unparse(undecorated(tree.body[0])) == "@cache\ndef f():\n    pass"
    assert undecorated(tree.body[1]) is tree.body[1]
    assert len(tree.body[0].decorator_list) == 2


def test_ids_in_text_that_is_no_python():
    assert ids_in("@exercise('02.1')\ndef (:\n exercise( \"11.12\", x)\nexercise(2)") == ["02.1", "11.12"]


def test_the_ids_of_cells():
    assert (cell_id("02.1"), cell_id("02.1", "card")) == ("exercise-02-1", "card-02-1")
    assert ids_in_cell_id("exercise-02-1") == ids_in_cell_id("card-02-1-2") == ["02.1"]
    assert ids_in_cell_id("exercise-two") == []


def test_a_stub_is_known_whatever_is_written_behind_it():
    for line in (STUB, "raise NotImplementedError", "raise NotImplementedError()"):
        assert is_stub(ast.parse(line).body[0])
    assert not is_stub(ast.parse("raise ValueError").body[0])


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = !ls\ny = 1", "x = None\ny = 1"),
        ("%cd x\n!pip install y\n?z\nimport torch", "pass\npass\npass\nimport torch"),
        ("if x:\n    !ls\n    %cd ..\n    torch.ones??", "if x:\n    pass\n    pass\n    pass"),
        ("%%time\n!ls\nx = 1", "pass\npass\nx = 1"),
        ("%%bash\nls", ""),
        ('"""\n%time\n!ls\n"""\na = 10 %3', '"""\n%time\n!ls\n"""\na = 10 %3'),
        ("\n\n!ls\nx", "\n\npass\nx"),
        # what looks like a magic, and stands in a comment, a text or an expression
        ("%%time\nx = 1  # right?", "pass\nx = 1  # right?"),
        ("x = 1  # is it ?\n%timeit x", "x = 1  # is it ?\npass"),
        ("print('why?')\n!ls", "print('why?')\npass"),
        ("x = (a\n!= b)\nx?", "x = (a\n!= b)\npass"),
        ("x = (a\n%b)\n!ls", "x = (a\n%b)\npass"),
        ('text = """\n!ls\nwhy?\n"""\nx?', 'text = """\n!ls\nwhy?\n"""\npass'),
        ("if x:\n    y = 1  # = !no\n    !ls 'it", "if x:\n    y = 1  # = !no\n    pass"),
        # commands of more than a line, of every kind
        ("!ls \\\n  -l\nx = 1", "pass\n\nx = 1"),
        ("%timeit f(x) \\\n + 1\nx = 1", "pass\n\nx = 1"),
        ("files = !ls \\\n  -l\nx = 1", "files = None\n\nx = 1"),
        ("a.b = %magic\na[0], c = !ls (", "a.b = None\na[0], c = None"),
        ("?x.y\nx.y??\nz = x?", "pass\npass\npass"),
        ("/f x, 1\n,g a b\n;h a b\n/f", 'f(x, 1)\ng("a", "b")\nh("a b")\nf()'),
        # magics whose code runs in the notebook
        ("%time x = f(3)\ny = %time f(4)", "x = f(3)\ny = f(4)"),
        ("%timeit x = 3\n%time\n%time x = = 3", "pass\npass\npass"),
        ("%%capture out\n%%time\n    x = 1\n    y = 2", "pass\npass\nx = 1\ny = 2"),
        ("%%time\n%%writefile f.py\nx = 1", ""),
        # cells with something before every line
        ("    x = 1\n    if x:\n        y = 2", "x = 1\nif x:\n    y = 2"),
        ("\tx = 1\n\n\t!ls", "x = 1\n\npass"),
        ("\n>>> x = 1\n>>> if x:\n...     y = 2\n...", "\nx = 1\nif x:\n    y = 2\n"),
        ("In [3]: x = 1", "x = 1"),
        ("In [12]: if x:\n    ...:     y = 2\n    ...: ", "if x:\n    y = 2\n"),
    ],
)
def test_magics_become_python_and_lines_keep_their_numbers(reader, source, expected):
    assert parsed(source)[0] == expected


@pytest.mark.parametrize(
    "source", ["def (:", "!ls\nx = = 1", "if x:\n\tif y:\n ;)\x0c%x", "a?\n" * 300, "x" + "\n!" * 300]
)
def test_what_is_no_python_keeps_its_lines_too(reader, source):
    assert without_magics(source).count("\n") == source.count("\n")


LONG = [
    "!ls\n",
    "x?\n",
    "%time x = 1\n",
    "x = !ls\n",
    "(",
    "!\n(",
    "\n",
    " ",
    "?",
    "'",
    "\\\n",
    '"""?\n',
    ">>> x\n",
]


@pytest.mark.parametrize("source", LONG)
def test_a_long_cell_takes_no_more_time_than_its_length(reader, source):
    begin = time.process_time()
    text = "!ls\n" + source * (60_000 // len(source))
    assert without_magics(text).count("\n") == text.count("\n")
    assert ids_in("exercise(" * 20_000 + "exercise(" + " " * 10**6) == []
    assert time.process_time() - begin < 5


def test_statements_on_the_same_level():
    inner = "try:\n    a = 1\nexcept E:\n    for i in b:\n        def f():\n            c = 2\n"
    source = inner + "else:\n    with d: e = 3"
    lines = [each.lineno for each in same_level(ast.parse(source).body[0])]
    assert lines == [1, 2, 4, 5, 8, 8]


def test_an_error_names_the_line_of_the_cell(reader):
    with pytest.raises(SyntaxError) as caught:
        parsed("%cd x\n!ls\n\nx = = 1")
    assert caught.value.lineno == 4
