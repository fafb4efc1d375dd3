"""The module: whole with our solutions, right in every piece, and names of two lessons never meet."""

import ast
import builtins
import sys
from pathlib import Path
from types import ModuleType

import pytest

from diffusion_lessons.course import bank
from diffusion_lessons.course.exercises.check import check
from diffusion_lessons.course.grading.code.plan import plan
from diffusion_lessons.course.grading.code.statements import read
from diffusion_lessons.course.mine.assembly import USES, Module, assembled, given, glue
from diffusion_lessons.course.mine.ours import exercises, ours
from diffusion_lessons.course.mine.pieces import Piece, cut, obstacle
from diffusion_lessons.course.mine.trying import failures, tried

JUMP = """def jump(x0, noise, t, alphas_cumprod):
    kept = alphas_cumprod[t].view(-1, 1, 1, 1)
    return kept.sqrt() * x0 + (1 - kept).sqrt() * noise"""
STEP = "def one_step(x, noise, beta):\n    return (1 - beta).sqrt() * x + beta.sqrt() * noise"


def piece(id: str, *cells: str) -> Piece:
    """The first answer to an exercise in cells of code."""
    found = plan({i: (f"c{i}", text) for i, text in enumerate(cells)}, bank.exercises(id[:2]))
    return cut(found, bank.get(id), found[id]["answers"][0], f"{id[:2]}.ipynb")


def why_not(one: Piece) -> str:
    return obstacle(one, given(), bank.exercises(one.exercise.lesson))


def module_of(*pieces: Piece) -> Module:
    """These, and ours where there is none."""
    by_id = {each.exercise.id: each for each in pieces}
    return assembled([by_id.get(each.id) or ours(each) for each in exercises()], "A test.")


def loaded(module: Module, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module, imported where the package cannot be."""
    made = ModuleType("my_diffusion")
    made.__file__ = "my_diffusion.py"
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "diffusion_lessons", None)
        exec(compile(module.text, "my_diffusion.py", "exec"), vars(made))
    return made


# Whole ---------------------------------------------------------------------------------------------


def test_the_glue_is_thin_and_calls_pieces_of_the_bank() -> None:
    code = [
        each for name in ("given", "system") for each in glue(name) if not each.startswith(("import", "from"))
    ]
    assert sum(each.count("\n") + 3 for each in code) <= 150
    statements = read(dict(enumerate([*glue("given"), *glue("system")]))).statements
    needs = (
        {name for each in statements for name in each.needs} - set(dir(builtins)) - {"__name__", "__file__"}
    )
    asked = needs - {name for each in statements for name in each.binds}
    assert asked == set(USES), "the glue calls what USES does not name, or the other way round"
    assert {name: bank.get(id).name for name, id in USES.items()} == {name: name for name in USES}


def test_our_solutions_stand_alone_and_name_no_two_exercises_alike() -> None:
    pieces = [ours(exercise) for exercise in exercises()]
    assert {each.exercise.id: why for each in pieces if (why := why_not(each))} == {}
    assert {each.whose for each in pieces} == {"ours"}
    names = [(each.lesson, each.name) for each in exercises()]
    assert len(names) == len(set(names))
    assert not any(exercise.kind == "predict" for exercise in exercises())


def test_every_piece_passes_its_check_in_the_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = module_of()
    loaded(module, monkeypatch)
    assert set(module.names) == {exercise.id for exercise in exercises()}
    assert len(set(module.names.values())) == len(module.names)
    file = tmp_path / "my_diffusion.py"
    file.write_text(module.text, encoding="utf-8")
    assert failures(file, module.names) == {}
    text = module.text.split("\n")
    for id, line in module.lines.items():
        assert text[line - 1].startswith(f"# {id} {bank.get(id).title} · ours")


def test_it_imports_once_on_top_and_torch_alone() -> None:
    tree = ast.parse(module_of().text)
    places = [i for i, node in enumerate(tree.body) if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert places == list(range(1, len(places) + 1))
    found = ast.unparse(tree)
    assert "diffusion_lessons" not in found
    assert "exercise(" not in found


# Pieces --------------------------------------------------------------------------------------------


def test_a_piece_takes_along_what_it_needs_and_no_more() -> None:
    cells = (
        "import torch\nimport matplotlib.pyplot as plt\nROOT = 0.5",
        "def power(x):  # a helper of mine\n    return x ** ROOT",
        '@exercise("02.1")\ndef one_step(x, noise, beta):\n    return power(1 - beta) * x',
        "plt.plot([1])",
    )
    one = piece("02.1", *cells)
    assert one.code == (
        "ROOT = 0.5",
        cells[1],
        "def one_step(x, noise, beta):\n    return power(1 - beta) * x",
    )
    assert why_not(one) == ""


@pytest.mark.parametrize(
    ("cells", "code"),
    [
        ((f'{STEP}\none_step = exercise("02.1")(one_step)',), STEP),
        (('one_step = exercise("02.1")(lambda x, noise, beta: x)',), "one_step = lambda x, noise, beta: x"),
        (
            ('%time\nif True:\n    @exercise("02.1")\n    def one_step(x): return x',),
            "if True:\n    def one_step(x): return x",
        ),
        (('a = 1; f = 2\n@exercise("02.1")\ndef one_step(x): return f',), "f = 2\ndef one_step(x): return f"),
        ((f"from __future__ import annotations\n{STEP}",), STEP),
    ],
)
def test_the_mark_of_the_exercise_goes(cells: tuple[str, ...], code: str) -> None:
    assert "\n".join(piece("02.1", *cells).code) == code


@pytest.mark.parametrize(
    ("above", "said"),
    [
        ("from diffusion_lessons.paths import add_noise as aid", "`diffusion_lessons.paths.add_noise`"),
        ("from diffusion_lessons import course\naid = course", "`diffusion_lessons.course`"),
        ("def aid():\n    from diffusion_lessons.networks.blocks import zero_conv", "`diffusion_lessons."),
        ("import scipy.special as aid", "`scipy.special`"),
        ("from mine import aid", "`mine.aid`"),
        ("from .mine import aid", "`.mine.aid`"),
        ("from math import *", "import *"),
        ("from math import tau as aid\naid = await aid", "notebook only"),
        ("aid = display", "`display`"),
        ("x = 1", "`aid`"),
    ],
)
def test_what_cannot_stand_alone_says_why(above: str, said: str) -> None:
    assert said in why_not(piece("02.1", above, "def one_step(x, noise, beta):\n    return aid"))


def test_what_the_glue_makes_anew_may_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    one = piece(
        "02.1",
        "from diffusion_lessons.paths import Level as L",
        "from diffusion_lessons.networks.blocks import zero_conv",
        "def one_step(x, noise, beta):\n    return L(0, x, noise), zero_conv(1, 1)",
    )
    assert why_not(one) == ""
    made = loaded(module_of(one), monkeypatch)
    assert isinstance(made.one_step(1, 2, 3)[0], made.Level)


# Names that would meet -----------------------------------------------------------------------------


def test_names_of_two_lessons_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    first = piece("02.2", "T = 1000\ndef scale(x): return x / T", f"{JUMP} + 0 * scale(0)")
    other = (
        "T = 400\ndef scale(x): return x / T\ndef gaussian_kl(mean_p, std_p, mean_q, std_q): return scale(T)"
    )
    module = module_of(first, piece("04.1", other))
    made = loaded(module, monkeypatch)
    assert made.gaussian_kl(1, 1, 1, 1) == 1
    assert (made.T, made.T_02, made.T_04) == (1000, 1000, 400)  # the glue has a T, too
    assert check(bank.get("02.2"), made.jump).status == "passed"
    assert made.guided is not made.guided_09
    assert "· ours, here guided_09" in module.text


def test_what_is_the_same_in_two_lessons_is_there_once() -> None:
    helper = "def half(x):\n    return x / 2"
    a = piece("02.1", "from torch.nn import functional as F", helper, f"{STEP} + 0 * half(F.relu(x))")
    b = piece(
        "04.1", "import torch.nn.functional as F", helper, "def gaussian_kl(*a): return half(F.relu(a))"
    )
    text = module_of(a, b).text
    assert text.count("def half(") == 1
    assert text.count(" as F") == 1
    assert "half_" not in text


def test_helpers_alike_that_call_different_ones_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    same = "def outer(): return inner()"
    a = piece("02.1", "def inner(): return 2", same, "def one_step(*a): return outer()")
    b = piece("04.1", "def inner(): return 4", same, "def gaussian_kl(*a): return outer()")
    made = loaded(module_of(a, b), monkeypatch)
    assert (made.one_step(), made.gaussian_kl()) == (2, 4)


def test_a_helper_called_like_a_builtin_or_the_glue_disturbs_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    helpers = "def sum(x): return 7\ndef train(): return sum(0)\ndef draw(x): return train()"
    module = module_of(piece("02.1", helpers, "def one_step(x, noise, beta): return draw(x)"))
    made = loaded(module, monkeypatch)
    assert made.one_step(0, 0, 0) == 7
    assert not hasattr(made, "sum")
    assert made.train.__code__.co_varnames[:3] == ("network", "images", "labels")


def test_an_exercise_finds_the_others_of_its_lesson_whosever_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cell = '@exercise("03.1")\ndef posterior_mean_var(x0, x, a, b):\n    return x0, x'
    step = "def ancestral_step(x, x0, alpha_bar, alpha_bar_next, noise):\n"
    step += "    mean, variance = posterior_mean_var(x0, x, alpha_bar, alpha_bar_next)\n"
    one = piece("03.3", cell, f"{step}    return mean + variance.sqrt() * noise")
    assert "posterior_mean_var(x0, x, a, b)" not in "".join(one.code)
    module = module_of(one)
    assert f"# 03.3 {bank.get('03.3').title} · yours" in module.text
    assert f"# 03.1 {bank.get('03.1').title} · ours" in module.text
    assert tried(module, ["03.3"]) == {}


def test_what_fails_in_the_file_is_found_and_said() -> None:
    right = piece("02.2", JUMP)
    wrong = piece("02.1", "def one_step(x, noise, beta): return x")
    failed = tried(module_of(right, wrong), ["02.1", "02.2"])
    assert list(failed) == ["02.1"]
    broken = piece("02.1", "LEFT = 1 / 0", f"{STEP} * LEFT")
    assert tried(module_of(right, broken), ["02.1", "02.2"]) == {
        "02.1": "ZeroDivisionError: division by zero"
    }
