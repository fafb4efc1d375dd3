"""A notebook with one of everything that we draw."""

from typing import Any

import nbformat

SETUP = """
import torch
from diffusion_lessons import DiscreteVP, Estimate, linear_betas, trajectory
from diffusion_lessons.course.student.quiz import Choice, Question, interview_card, predict, quiz
from diffusion_lessons.course.widgets import Histogram, Points, figure, live, picture, scrub, strip

path = DiscreteVP(linear_betas())
generator = torch.Generator().manual_seed(0)
rows = torch.linspace(-1, 1, 28)
x0 = torch.stack([rows.expand(28, 28), rows.expand(28, 28).T])[:, None]  # (2, 1, 28, 28)
noise = torch.randn(x0.shape, generator=generator)
"""
SCRUB = """
def exact(x, level, condition=None):
    return Estimate.from_x0(x0, x, level)

scrub(trajectory(exact, noise, path.levels(10)), alt="Noise turns into two ramps in ten steps.",
      extra={"values of x": lambda x: Histogram(x, normal=True)})
"""
POINTS = """
cloud = torch.randn(200, 2, generator=generator) * torch.linspace(2, 0.5, 12)[:, None, None]
scrub({"points": Points(cloud, behind=cloud[-1] * 0.5)}, [f"t = {t}" for t in range(12)], start=3)
"""
QUIZ = """
quiz(
    Question("What is `ᾱ_t` at **t = 0**?", [
        Choice("0", False, "At t = 0 nothing has been added: the signal is whole."),
        Choice("1", True, "The product of no factors is 1."),
    ]),
    Question("Which hold at t = T?", [
        Choice("SNR is small", True, "ᾱ_T is about 4e−5."),
        Choice("x is near N(0, I)", True, "Little of the data is left."),
        Choice("x equals the data", False, "That is t = 0."),
    ], several=True),
)
"""
PREDICT = """
predict("Does the loss rise with t?", [Choice("yes", False, "ε is easier to see where there is more of it."),
                                       Choice("no", True, "At t = T, x is nearly ε.")])
"""
CARD = """
interview_card("Why add noise at all?", "It makes a ladder of easy steps.",
               [("How many?", "A few dozen."), "Why Gaussian?"])
"""
FIGURE = """
import matplotlib.pyplot as plt
fig, ax = plt.subplots()
ax.plot([0, 1], [1, 0], label="ᾱ")
ax.set(xlabel="t", ylabel="ᾱ")
figure(fig, alt="A line that falls from 1 at t = 0 to 0 at t = 1.")
"""
LIVE = """
def draw(power, shape):
    if power == 3:
        raise ZeroDivisionError("power three is planted")
    fig, ax = plt.subplots(figsize=(3, 2))
    ax.plot(rows, rows.abs() ** power if shape == "even" else rows**power)
    return fig

live(draw, alt="A power of x.", power=[1, 2, 3, 4], shape=["even", "odd"])
"""
LIVE_SCRUB = """
def frames(level):
    greys = torch.linspace(-1, 1, 5)[:, None, None, None].expand(5, 1, 8, 8)
    return scrub(greys * level, alt="Grey squares.")

live(frames, level=[1.0, 0.5])
"""
CELLS = [SETUP, SCRUB, POINTS, QUIZ, PREDICT, CARD, FIGURE, LIVE, LIVE_SCRUB]


def lesson() -> Any:
    """A notebook with one of everything that we draw; stable ids."""
    notebook = nbformat.v4.new_notebook(
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    )
    title = nbformat.v4.new_markdown_cell("# Everything that we draw", id="title")
    notebook.cells = [title] + [
        nbformat.v4.new_code_cell(source.strip(), id=f"cell{i}") for i, source in enumerate(CELLS)
    ]
    return notebook
