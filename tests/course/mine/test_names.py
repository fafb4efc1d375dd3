"""Names are given anew where they mean the module's, and nowhere else."""

import ast

import pytest

from diffusion_lessons.course.mine.names import renamed

NAMES = {"T": "T_05", "helper": "helper_05"}


@pytest.mark.parametrize(
    ("code", "made"),
    [
        ("x = T + helper(T)", "x = T_05 + helper_05(T_05)"),
        ("def f(T):\n    return T * helper(2)", "def f(T):\n    return T * helper_05(2)"),
        ("def f(a=T, *, T=T):\n    return T", "def f(a=T_05, *, T=T_05):\n    return T"),
        ("def f(x: T) -> T:\n    return x", "def f(x: T_05) -> T_05:\n    return x"),
        ("@helper\ndef f(x):\n    return x", "@helper_05\ndef f(x):\n    return x"),
        ("def helper(x):\n    return helper(x - T)", "def helper_05(x):\n    return helper_05(x - T_05)"),
        ("def f(x):\n    T = x.T\n    return T", "def f(x):\n    T = x.T\n    return T"),
        ("def f():\n    global T\n    T = 2", "def f():\n    global T_05\n    T_05 = 2"),
        ("def f():\n    def helper():\n        T", "def f():\n    def helper():\n        T_05"),
        (
            "def f():\n    from x import helper\n    helper(T)",
            "def f():\n    from x import helper\n    helper(T_05)",
        ),
        ("def f(x):\n    try: g()\n    except E as T: T", "def f(x):\n    try: g()\n    except E as T: T"),
        ("def f(x):\n    g(T := 3)\n    return T", "def f(x):\n    g(T := 3)\n    return T"),
        ("f(T=T, key='T')", "f(T=T_05, key='T')"),
        ("y = [T for T in range(T)]", "y = [T for T in range(T_05)]"),
        ("y = {k: T for k in range(T)}", "y = {k: T_05 for k in range(T_05)}"),
        ("g = lambda T: T, lambda x: T", "g = lambda T: T, lambda x: T_05"),
        (
            "class A(helper):\n    T = T\n    def f(self):\n        return T",
            "class A(helper_05):\n    T = T\n    def f(self):\n        return T_05",
        ),
        ("'α → β'; x = T; y = T", "'α → β'; x = T_05; y = T_05"),
        ("x = f'{T}: {helper(1):>{T}}'", "x = f'{T_05}: {helper_05(1):>{T_05}}'"),
    ],
)
def test_what_is_renamed(code: str, made: str) -> None:
    assert ast.dump(ast.parse(renamed(code, NAMES))) == ast.dump(ast.parse(made))


def test_layout_and_comments_stay() -> None:
    code = "def f(x):\n    # T, twice\n    y = (x +\n         T)   # helper\n    return 'α', T"
    assert renamed(code, NAMES) == code.replace("T)", "T_05)").replace("'α', T", "'α', T_05")
    assert renamed(code, {}) == code
