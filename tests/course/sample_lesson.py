"""A lesson that breaks no rule, with its own little bank, for the tests of the build.

`repository(folder, text)` puts a source into a repository; tests break the text in one place each.
"""

from pathlib import Path

import torch

from diffusion_lessons.course.authoring.render import Context
from diffusion_lessons.course.exercises.exercise import Case, Exercise, Misconception

STEM = "02_forward_process"
WORDS = "every word of this filler counts and none of it says anything at all about the topic "
BUILT = {"course": "00", "GaussianMixture": "01", "add_noise": "02", "samplers": "08", "ddim_step": "08"}
ALT = "A blurred square that fades into grey noise from left to right"


def _ours(x, noise, alpha, sigma):
    return alpha * x + sigma * noise


def _figure(reference):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2, 1))
    figure.subplots().imshow(reference(torch.eye(8), torch.ones(8, 8), 0.8, 0.6).numpy(), cmap="gray")
    return figure


def _exercise(number, name, kind, reference=_ours, planted=None, **options):
    wrong = Misconception(
        "variance", lambda x, noise, alpha, sigma: alpha * x + sigma**2 * noise, "σ is no variance."
    )
    cases = [
        Case(
            f"{rows} rows",
            lambda g, rows=rows: {
                "x": torch.randn(rows, 3, generator=g),
                "noise": torch.randn(rows, 3, generator=g),
                "alpha": 0.8,
                "sigma": 0.6,
            },
        )
        for rows in (1, 2, 5)
    ]
    return Exercise(
        id=number,
        name=name,
        title=f"Title of {number}",
        kind=kind,
        difficulty=2,
        minutes=5,
        reference=reference,
        cases=cases,
        misconceptions=[wrong],
        alternatives=[],
        hints=("a", "b", "c"),
        planted=planted,
        **options,
    )


BANK = {
    exercise.id: exercise
    for exercise in (
        _exercise("02.1", "add_noise", "implement", figure=_figure, figure_alt=ALT),
        _exercise("02.2", "mix", "reproduce"),
        _exercise("02.3", "repair", "debug", planted="variance"),
        _exercise("02.4", "again", "implement"),
    )
}


def answer(number, name, solution, student=""):
    """The two cells of an exercise: card and function."""
    body = "".join(f"    {line}\n" for line in solution.split("\n"))
    planted = f"    ### BEGIN STUDENT\n    # {student}\n    ### END STUDENT\n" if student else ""
    return (
        f'# %% [markdown] tags=["exercise-card"]\n# {{{{exercise {number}}}}}\n\n'
        f'# %% tags=["exercise"]\n@exercise("{number}")\ndef {name}(x, noise, alpha, sigma):\n'
        f'    """Mix."""\n    ### BEGIN SOLUTION\n{body}    ### END SOLUTION\n{planted}\n'
    )


def filler(cells, words=60):
    """Markdown cells of so many words."""
    text = (WORDS * 20).split()[:words]
    return "".join(f"# %% [markdown]\n# Paragraph {i}: {' '.join(text)}\n\n" for i in range(cells))


def idea(number):
    """One block: intuition, equation, symbols, code, figure, what to notice."""
    return f"""# %% [markdown] tags=["idea"]
# ## Idea {number}
# Noise grows and the picture fades.
#
# $$x = \\alpha x_0 + \\sigma \\varepsilon$$
#
# | symbol | shape |
# |---|---|
# | $x_0$ | (B, C, H, W) |

# %% tags=["nbval-check-output"]
print("idea", {number})

# %%
from matplotlib import pyplot as plt
from diffusion_lessons.course.widgets import figure
fig, ax = plt.subplots(figsize=(2, 1))
ax.plot([0, {number}])
figure(fig, alt="A line that rises from nothing to {number}")

# %% [markdown]
# **What to notice:** the line rises.

"""


HEAD = """# %% [markdown] tags=["header"]
# title: The forward process
# question: What is the forward process?
# difficulty: 2
# prerequisites: 01, linear algebra

# %% [markdown] tags=["objectives"]
# ## What you will be able to do
# - derive the jump (exercise 02.1)
# - mix two tensors (exercise 02.2)
# - find a planted bug (exercise 02.3)

# %% tags=["setup"]
# {{setup}}

# %%
def exercise(number):
    return lambda function: function

"""
SEE = """# %% [markdown] tags=["see"]
# ## See it first
# Numbers before theory.

# %%
print("a first picture")

# %% [markdown] tags=["guess"]
# ## Guess
# How would you do it?
#
# <details><summary>One way</summary>
# Blur it.
# </details>

# %% [markdown] tags=["predict"]
# ## Predict

# %%
from diffusion_lessons.course.student.quiz import Choice, Question, interview_card, predict, quiz
predict("Which?", [Choice("this", True, "because"), Choice("that", False, "no")])

"""
TAIL = """# %% [markdown] tags=["experiment"]
# ## Experiment

# %%
print("0.50 ± 0.02")

# %% [markdown] tags=["play"]
# ## Play

# %%
print("play")

# %% [markdown] tags=["agreement"]
# ## Agreement

# %%
print("largest difference: 0")

# %% [markdown] tags=["pitfalls"]
# ## Pitfalls
# Mind the root.

# %% [markdown] tags=["interview"]
# ## Interview card

# %%
interview_card("What?", "That.")

# %% [markdown] tags=["exit-quiz"]
# ## Exit quiz

# %%
two = [Choice("this", True, "because"), Choice("that", False, "no")]
quiz(Question("One?", two), Question("Two?", two), Question("Three?", two))

# %% [markdown] tags=["references"]
# ## References
# Ho et al. 2020, section 2. Next: {{lesson 03}}.
"""
PLANTED = "return alpha * x + sigma**2 * noise  # one thing here is wrong"
SAMPLE = (
    HEAD
    + SEE
    + idea(1)
    + answer("02.1", "add_noise", "return alpha * x + sigma * noise")
    + idea(2)
    + answer("02.2", "mix", "kept = alpha * x\nreturn kept + sigma * noise")
    + idea(3)
    + answer("02.3", "repair", "return sigma * noise + alpha * x", PLANTED)
    + answer("02.4", "again", "return alpha * x + noise * sigma")
    + filler(12, 125)
    + TAIL
)


def repository(folder: Path, text: str = SAMPLE, stem: str = STEM) -> Context:
    """A repository in a folder with one lesson, and what its build needs to know."""
    (folder / "solutions").mkdir(parents=True, exist_ok=True)
    (folder / "solutions" / f"{stem}.py").write_text(text, encoding="utf-8")
    (folder / "pyproject.toml").write_text('[project]\nname = "sample"\nversion = "1"\n', encoding="utf-8")
    return Context(
        root=folder,
        stems=(stem,),
        bank=lambda number: BANK if number == stem[:2] else {},
        built={
            "course": "00",
            "GaussianMixture": "01",
            "add_noise": "02",
            "samplers": "08",
            "ddim_step": "08",
        },
    )


def source(context: Context, stem: str = STEM) -> Path:
    """The file of the lesson."""
    return context.root / "solutions" / f"{stem}.py"


def line_of(text: str, part: str) -> int:
    """The number of the first line that holds a text."""
    return next(number for number, line in enumerate(text.split("\n"), 1) if part in line)
