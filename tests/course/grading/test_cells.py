"""Notebooks in disorder: cells gone, doubled, moved, merged and renamed, and what an answer needs."""

import ast
import json

import pytest

from diffusion_lessons.course import bank
from diffusion_lessons.course.exercises.exercise import Exercise
from diffusion_lessons.course.exercises.magics import parsed
from diffusion_lessons.course.grading.code.plan import plan
from diffusion_lessons.course.grading.code.slicing import training
from diffusion_lessons.course.grading.code.statements import read
from diffusion_lessons.course.grading.intake import notebook as notebooks
from diffusion_lessons.course.grading.marking import mark
from diffusion_lessons.course.grading.sandbox import Worker
from tests.course.grading.made import (
    EQUAL,
    HEAD,
    RIGHT,
    SETUP,
    STUB,
    WRONG,
    body,
    cells,
    content,
    kinds,
    marked,
    notebook,
)

PASSED = ("passed", "passed")
PLAIN = HEAD.replace('@exercise("02.1")\n', "")
BETA = "def one_step(x, noise, beta):\n    return keep(beta) * x + torch.sqrt(beta) * noise"
KEEP = "def keep(beta):\n    return torch.sqrt(1 - beta)"

TRAINING = "for step in range(10**9):\n    loss.backward()"


def with_power(power: str) -> str:
    """The right expression, with ½ under another name."""
    return f"(1 - beta) ** ({power}) * x + beta ** ({power}) * noise"


def powered(power: str) -> str:
    """The cell of exercise 02.1 with ½ under another name."""
    return body(f"return {with_power(power)}")


def indented(text: str, by: str = "    ") -> str:
    """Every line of a cell with something before it."""
    return "\n".join(by + line for line in text.split("\n"))


# name -> (cells, status, kind)
ARRANGED: dict[str, tuple[tuple[str, ...], str, str]] = {
    "deleted": ((SETUP, EQUAL), "not attempted", "missing"),
    "empty": ((), "not attempted", "missing"),
    "duplicated, the second solved": ((SETUP, HEAD + STUB, HEAD + RIGHT), *PASSED),
    "duplicated, the first solved": ((SETUP, HEAD + RIGHT, HEAD + STUB), *PASSED),
    "redefined, the last counts": ((SETUP, HEAD + RIGHT, HEAD + WRONG), "wrong", "misconception"),
    "redefined in one cell": ((SETUP, f"{HEAD}{WRONG}\n\n{HEAD}{RIGHT}"), *PASSED),
    "reordered, the setup last": ((HEAD + RIGHT, SETUP), *PASSED),
    "merged into one": ((f"{SETUP}\n\n{EQUAL}\n\n{HEAD}{RIGHT}\n\nprint(one_step)",), *PASSED),
    "in another cell, without decorator": ((SETUP, HEAD + STUB, PLAIN + RIGHT), *PASSED),
    "decorator removed": ((SETUP, PLAIN + RIGHT), *PASSED),
    "decorated twice": ((SETUP, '@exercise("02.1")\n' + HEAD + RIGHT), *PASSED),
    "decorated by keyword": ((SETUP, HEAD.replace('"02.1"', 'id="02.1"') + RIGHT), *PASSED),
    "a lambda": ((SETUP, f"one_step = lambda x, noise, beta: {with_power('0.5')}"), *PASSED),
    "handed to exercise()": ((SETUP, f"{BETA}\n{KEEP}\none_step = exercise('02.1')(one_step)"), *PASSED),
    "function renamed": ((SETUP, HEAD.replace("one_step", "my_step") + RIGHT), "wrong", "name"),
    "arguments renamed": ((SETUP, HEAD.replace("beta", "b") + RIGHT), "wrong", "signature"),
    "async": ((SETUP, "async " + PLAIN + RIGHT), "wrong", "type"),
    "async, decorated": ((SETUP, HEAD.replace("def ", "async def ") + RIGHT), "wrong", "type"),
    "awaited constant": (
        (SETUP, "async def half():\n    return 0.5", "power = await half()", powered("power")),
        *PASSED,
    ),
    "helper above": ((SETUP, KEEP, '@exercise("02.1")\n' + BETA), *PASSED),
    "helper below": ((SETUP, '@exercise("02.1")\n' + BETA, KEEP), *PASSED),
    "helper of a helper, and a constant": (
        (SETUP, "POWER = 1 / 2", "root = lambda x: x ** POWER", "def keep(b):\n    return root(1 - b)", BETA),
        *PASSED,
    ),
    "a constant that is filled later": (
        (SETUP, "powers = {}", "powers['half'] = 0.5", powered("powers['half']")),
        *PASSED,
    ),
    "a name that only exec makes": ((SETUP, "exec('half = 0.5')", powered("half")), *PASSED),
    "a star": (("from torch import *", HEAD + RIGHT.replace("torch.", "")), *PASSED),
    "one import missing": (("import nowhere, torch", HEAD + RIGHT), *PASSED),
    "a name that nobody makes": ((SETUP, body("return alpha * x")), "wrong", "exception"),
    "no Python": ((SETUP, body("return x +")), "wrong", "syntax"),
    "no Python elsewhere": ((SETUP, "def (:", HEAD + RIGHT), *PASSED),
    "no Python elsewhere, as its names tell": ((SETUP, "nonlocal x", HEAD + RIGHT), *PASSED),
    "no Python, and solved below": ((SETUP, body("return x +"), HEAD + RIGHT), *PASSED),
    "other cells fail": ((SETUP, "1 / 0", "raise SystemExit", HEAD + RIGHT, "exit(1)"), *PASSED),
    "magics and shell lines": (
        ("%cd x\n!pip install y\n?z\nimport torch", "%%bash\nls", "files = !ls", f"%%time\n{HEAD}{RIGHT}"),
        *PASSED,
    ),
    "magics in the answer": ((SETUP, body("%timeit x", "!ls", RIGHT.strip())), *PASSED),
    "a string with a per cent sign": ((SETUP, body('"""\n%time\n!ls"""', RIGHT.strip())), *PASSED),
    "names that are no ASCII": (
        (SETUP, "def ß(β):\n    return torch.sqrt(β)", body("return ß(1 - beta) * x + ß(beta) * noise")),
        *PASSED,
    ),
    "a cell above that never ends": ((SETUP, "while True:\n    pass", HEAD + RIGHT), *PASSED),
    "training above": (
        (SETUP, "from diffusion_lessons.training.loop import train\nx = train(1, 2)", TRAINING, HEAD + RIGHT),
        *PASSED,
    ),
    "parentheses without end": ((SETUP, "x = " + "(" * 10**4 + ")" * 10**4, HEAD + RIGHT), *PASSED),
    "signs without end": ((SETUP, "x = " + "-" * 10**5 + "1", HEAD + RIGHT), *PASSED),
    "all lines indented": ((SETUP, indented(HEAD + RIGHT)), *PASSED),
    "all lines indented by a tab": ((SETUP, indented(HEAD + RIGHT, "\t")), *PASSED),
    "pasted with prompts": ((SETUP, indented(HEAD + RIGHT, ">>> ")), *PASSED),
    "under if": ((SETUP, f"if torch.ones(1) > 0:\n{indented(HEAD + RIGHT)}"), *PASSED),
    "under else": ((SETUP, "LATE = False", f"if LATE:\n    pass\nelse:\n{indented(HEAD + RIGHT)}"), *PASSED),
    "under try": ((SETUP, f"try:\n{indented(HEAD + RIGHT)}\nfinally:\n    pass"), *PASSED),
    "under with, without decorator": (
        (SETUP, "from contextlib import nullcontext", f"with nullcontext():\n{indented(PLAIN + RIGHT)}"),
        *PASSED,
    ),
    "under for": ((SETUP, f"for i in range(2):\n{indented(HEAD + RIGHT)}"), *PASSED),
    "under if and try, with one that trains": (
        (SETUP, f"if True:\n    try:\n{indented(HEAD + RIGHT, ' ' * 8)}\n    finally:\n        pass\n"
         "    def fit(loss):\n        loss.backward()"),
        *PASSED,
    ),
    "under a condition that does not hold": (
        (SETUP, f"if torch.ones(1) < 0:\n{indented(HEAD + RIGHT)}"), "not attempted", "missing"
    ),
    "one of them under a condition that does not hold": (
        (SETUP, HEAD + RIGHT, f"if not torch:\n{indented(HEAD + WRONG)}"), *PASSED
    ),
    "annotations that nobody evaluates": (
        (SETUP, "from __future__ import annotations",
         "def keep(beta: Tensor) -> Root:\n    return (1 - beta) ** 0.5",
         '@exercise("02.1")\n' + BETA.replace("x,", "x: Array,")),
        *PASSED,
    ),
    "a package that is not there": (
        (SETUP, "import some_package as some", KEEP + " * some.one", '@exercise("02.1")\n' + BETA),
        "wrong", "environment",
    ),
    "a package that is not there, in the answer": (
        (SETUP, body("from some_package.inner import one", RIGHT.strip())), "wrong", "environment"
    ),
    "a file that is not there": (
        (SETUP, "with open('betas.txt') as file:\n    half = float(file.read())", powered("half")),
        "wrong", "environment",
    ),
    "a part of a package that is not there": (
        (SETUP, body("import torch.some_package", RIGHT.strip())), "wrong", "exception"
    ),
    "a package that is not there, and not asked for": (
        (SETUP, "import some_package", "exec('half = 0.5')", powered("half")), *PASSED
    ),
    "no Python, as compiling tells": ((SETUP, body("break")), "wrong", "syntax"),
    "no Python, as its names tell": ((SETUP, body("x = 1", "global x")), "wrong", "syntax"),
    "no Python below": ((SETUP, f"{HEAD}{RIGHT}\n\ndef f(a, a): pass"), *PASSED),
    "no Python above in its cell": ((SETUP, f"def f(a, a): pass\n\n{HEAD}{RIGHT}"), "wrong", "syntax"),
    "texts that cannot be written back": (
        (SETUP, body("text = f\"{dict(a=1)['a']}\\xa0{'\xa0'}\"", f"large = 0x{'f' * 5000}", RIGHT.strip())),
        *PASSED,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ARRANGED)
def test_an_answer_is_found_wherever_it_stands(name: str, worker: Worker) -> None:
    sources, status, kind = ARRANGED[name]
    row = marked(worker, *sources)["02.1"]
    assert kinds(row) == (status, kind), (row.message, row.notes)


def test_a_renamed_function_without_decorator_is_known_by_its_cell(worker: Worker) -> None:
    renamed = PLAIN.replace("one_step", "my_step") + RIGHT
    row = marked(worker, SETUP, renamed, ids=("setup", "exercise-02-1"))["02.1"]
    assert kinds(row) == ("wrong", "name")
    assert "called `my_step`: call it `one_step`" in row.message


def test_what_the_rows_say_of_disorder(worker: Worker) -> None:
    row = marked(worker, SETUP, HEAD + RIGHT, HEAD + WRONG)["02.1"]
    assert row.notes == ("2 answers were found; the one in cell 3 counts.",)
    assert row.cell == 2
    row = marked(worker, SETUP, body("return x +"))["02.1"]
    assert row.message == "Cell 2, line 4 is not Python: invalid syntax."
    row = marked(worker, "import nowhere", body("return nowhere.step(x)"))["02.1"]
    assert row.notes == ("line 1 of cell 1 raised ModuleNotFoundError: No module named 'nowhere'",)


# Cells that Python does not read, each in its own way
UNREADABLE = (
    "def f(a, a): pass",
    "def f():\n    x = 1\n    global x",
    "def f():\n    from math import *",
    "def f():\n    nonlocal x",
    "return 3",
    "break",
    "def f():\n    await x",
    "class A:\n    return",
    "f'{x!z}'",
    "f'{x\xa0}'",
    "x = “text”",
    "x = 'text\0",
    "x = " + "9" * 5000,
    "x = 1\n  y = 2",
    "'text",
    "from __future__ import braces",
    "f(a=1, a=1)",
    "x is 1 = 2",
    "match x:\n    case a: 1\n    case b: 2",
    "x" + "[0]" * 10**4,
    "f" + "()" * 10**4,
    "1" + "+1" * 10**4,
    "if x: pass\n" + "elif x: pass\n" * 5000,
    "lambda: " * 5000 + "1",
    "(" * 150 + "1",
    "x = " + "not " * 10**5 + "1",
    "%%time\ndef f(a, a): pass",
    "!ls\nreturn 3",
)


@pytest.mark.parametrize("cell", range(len(UNREADABLE)), ids=lambda i: UNREADABLE[i][:16])
def test_a_cell_that_python_does_not_read_costs_itself_alone(cell: int) -> None:
    sources = (UNREADABLE[cell], HEAD + RIGHT, UNREADABLE[cell])
    code = read(dict(enumerate(sources)))
    assert [each.cell for each in code.broken] == [0, 2]
    found = plan({i: ("", source) for i, source in enumerate(sources)}, bank.exercises("02"))["02.1"]
    assert [each["place"][0] for each in found["answers"]] == [1]
    assert found["broken"] == []
    json.dumps(found)


@pytest.mark.parametrize(
    ("kind", "source", "id", "said"),
    [
        ("markdown", HEAD + RIGHT, "", "Cell 2 holds this exercise and is Markdown now: turn it"),
        ("markdown", f"```python\n{HEAD}{RIGHT}\n```", "", "Markdown now"),
        ("raw", "def one_step(", "exercise-02-1", "Raw now"),
        ("markdown", '`@exercise("02.1")` marks an answer.', "", "No cell of this exercise"),
        ("markdown", "", "exercise-02-1", "No cell of this exercise"),
        ("code", "", "exercise-02-1", "No cell of this exercise"),
    ],
)
def test_an_answers_cell_that_is_no_code_says_so(
    kind: str, source: str, id: str, said: str, worker: Worker
) -> None:
    raw = cells(SETUP, source, ids=("setup", id))
    raw["cells"][1]["cell_type"] = kind
    row = mark(notebooks.read(content(raw)), "02", worker)[0]
    assert kinds(row) == ("not attempted", "missing")
    assert said in row.message
    assert row.cell == (1 if "holds" in row.message else None)


CHAIN = (
    '@exercise("02.4")\ndef run_chain(x0, noises, betas):\n'
    "    for noise, beta in zip(noises, betas):\n        x0 = one_step(x0, noise, beta)\n    return x0"
)


def test_a_later_exercise_is_not_there_yet(worker: Worker) -> None:
    """Neither ours nor the student's own, as in the notebook; nor its stub."""
    calls = body("return run_chain(x, noise[None], beta.view(1))")
    own = CHAIN.replace("one_step(x0, noise, beta)", "(1 - beta).sqrt() * x0 + beta.sqrt() * noise")
    stub = CHAIN.split("    for")[0] + STUB
    for later in (stub, own, own.split("\n", 1)[1], f"if True:\n{indented(own)}", "x = 1"):
        row = marked(worker, SETUP, calls, later)["02.1"]
        assert kinds(row) == ("wrong", "exception"), later
        assert "NameError" in row.message


@pytest.mark.parametrize(
    "first", ["", "x = = 3", HEAD + "    return x +", "def one_step(x, x): pass", HEAD + STUB]
)
def test_an_earlier_exercise_is_ours_where_there_is_none(first: str, worker: Worker) -> None:
    row = marked(worker, SETUP, first, CHAIN)["02.4"]
    assert kinds(row) == PASSED, row.message
    assert row.flags == ()


def test_each_exercise_is_judged_on_its_own(worker: Worker) -> None:
    rows = marked(worker, SETUP, body("import os; os._exit(1)"), "def (", EQUAL)
    found = {number: kinds(row) for number, row in rows.items()}
    assert (found.pop("02.1"), found.pop("02.3")) == (("wrong", "ended"), PASSED)
    assert set(found.values()) == {("not attempted", "missing")}


@pytest.mark.parametrize("lines", [RIGHT, WRONG, STUB])
def test_an_answer_that_builds_on_another_gets_ours_until_that_passes(lines: str, worker: Worker) -> None:
    rows = marked(worker, SETUP, HEAD + lines, CHAIN)
    assert kinds(rows["02.4"]) == PASSED, rows["02.4"].message
    assert rows["02.4"].flags == ()


@pytest.mark.parametrize(
    "exercise", [each for number in ("00", "02") for each in bank.exercises(number)], ids=lambda e: e.id
)
def test_each_misconception_is_told_its_sentence(exercise: Exercise, worker: Worker) -> None:
    """Through all of the grader, in cells that fetch the wrong answer from a copy of the bank."""
    import importlib

    file = importlib.import_module(f"diffusion_lessons.course.bank.lesson_{exercise.lesson}").__file__
    fetch = (
        "import importlib.util as util\n"
        f"spec = util.spec_from_file_location('copy', {file!r})\n"
        "copy = util.module_from_spec(spec)\nspec.loader.exec_module(copy)\n"
        f"the = {{each.id: each for each in copy.EXERCISES}}[{exercise.id!r}]"
    )
    for each in exercise.misconceptions:
        head = f"@exercise({exercise.id!r})\ndef {exercise.name}(*args, **named):\n"
        answer = f"{head}    return wrong(*args, **named)"
        made = notebook(fetch, f"wrong = the.misconception({each.name!r}).function", answer)
        row = next(row for row in mark(made, exercise.lesson, worker, 7) if row.exercise == exercise.id)
        if each.name == exercise.planted:
            assert kinds(row) == ("not attempted", "planted")
        else:
            assert (row.misconception, row.message) == (each.name, each.sentence)


# Slices ---------------------------------------------------------------------------------------------


def places(*sources: str) -> list[tuple[int, int]]:
    """The slice of exercise 02.1."""
    found = plan({i: ("", source) for i, source in enumerate(sources)}, bank.exercises("02"))
    return found["02.1"]["answers"][0]["slices"][0]["pieces"]


def test_only_what_an_answer_needs_is_run() -> None:
    sources = (
        "import torch\nimport os\nfrom math import sqrt",
        "SIZE = 3\nunused = 4",
        "def keep(x):\n    return other(x)\n\ndef other(x):\n    return x ** SIZE",
        "unused = train()",
        body("return keep(x)"),
        "keep = None",
    )
    assert places(*sources) == [(1, 0), (2, 0), (2, 1)]


def test_names_of_its_own_are_not_looked_for() -> None:
    assert places("x = 1\nbeta = 2\ntorch = 3", body("y = [x for x in noise]", "return torch")) == [(0, 2)]


def test_what_changes_a_constant_in_place_belongs_to_it() -> None:
    assert places("a = []", "a.append(1)\nprint(a)\na[0] = 2", "a += [3]", body("return a")) == [
        (0, 0),
        (1, 0),
        (1, 2),
        (2, 0),
    ]


def test_training_is_known_by_what_it_calls() -> None:
    source = (
        "from diffusion_lessons.training.loop import train, Recipe\n"
        "recipe = Recipe()\n"
        "model = train(recipe)\n"
        "def step(loss):\n    loss.backward()\n"
        "def fit(n):\n    for _ in range(n): step(1)\n"
        "fit(3)\n"
        "for i in range(budget.steps(100)): pass\n"
        "count = budget.steps(100)\n"
        "weights = [1, 2]\n"
    )
    statements = read({0: source}).statements
    assert sorted(each.place[1] for each in training(statements)) == [2, 5, 6]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = !ls\ny = 1", "x = None\ny = 1"),
        ("if x:\n    !ls\n    %cd ..", "if x:\n    pass\n    pass"),
        ("%%time\nx = 1", "pass\nx = 1"),
        ("%%html\n<b>", ""),
        ("torch.ones?", "pass"),
        ("a = 10 %3", "a = 10 %3"),
    ],
)
def test_magics_leave_their_lines(source: str, expected: str) -> None:
    text, tree = parsed(source)
    assert text == expected
    assert isinstance(tree, ast.Module)
