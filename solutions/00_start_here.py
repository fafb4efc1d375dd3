# %% [markdown] tags=["header"]
# title: Start here

# %% [markdown]
# {{opening}}
#
# Twenty lessons, one question each. Every lesson *builds* its answer in small pieces of code and *measures*
# what it claims. You need Python, a little PyTorch, calculus and basic probability; nothing of diffusion.
#
# This page takes two minutes: run its cells with **Shift + Enter** and see that all is well.
#
# {{colab}}

# %% tags=["setup"]
# {{setup}}

# %% [markdown]
# ## Is everything here, and how fast is this machine?
#
# Every lesson says how long its cells take on the machine on which they were timed. The last line below
# says how to read those times here.

# %%
from diffusion_lessons.course import check_environment

check_environment(reference={{speed}})

# %% [markdown]
# ## How exercises work
#
# An exercise is a function with a gap. Put your code in the place of `raise NotImplementedError`, run the
# cell, and it is checked at once: passed, not attempted yet, or *what* is wrong. Until yours passes, the
# lesson goes on with ours, so you are never stuck, and you can run a whole notebook untouched. From then on
# it runs on your code.
#
# Try it: first run the cell below as it is, then write `return x / 2`. The first wrong attempt says
# where it differs; *Say more*, or a second attempt, says why. Then get it right.

# %% [markdown] tags=["exercise-card"]
# {{exercise 00.1}}

# %% tags=["exercise"]
from diffusion_lessons.course import exercise, hint, progress


@exercise("00.1")
def to_unit(x):
    """Map x, of any shape, from [−1, 1] (what networks see) to [0, 1] (what pictures are)."""
    ### BEGIN SOLUTION
    return (x + 1) / 2
    ### END SOLUTION

# %% [markdown]
# Three hints belong to each exercise: the idea, the equation, the shape of the code. Each call gives the next.

# %%
hint("00.1")

# %% [markdown]
# Your progress is kept from one day to the next, over all lessons:

# %%
progress()

# %% [markdown]
# ## The capstone: your own system
#
# What you write in the lessons is a whole diffusion system. Put this into a cell of its own whenever some of your
# exercises pass; it takes two minutes:
#
# ```
# !diffusion-lessons mine .
# ```
#
# It collects your answers that pass into one file, `my_diffusion/my_diffusion.py`, with ours, marked, where yours is
# missing. Then that file trains on handwritten digits for a minute, with nothing but PyTorch, and draws ten of
# them: `my_diffusion/ten.png`. It is a program of your own: keep it, read it, hand it in.

# %% [markdown]
# ## The lessons
#
# {{lessons}}
#
# Take them in their order, with one exception: lesson 12 uses the text tower that lesson 16 builds, so read 16 before
# it. Each starts with a picture, asks you to predict something, builds and measures, and ends with a quiz and an
# interview card. Wrong quiz choices are explained too: open them. This folder holds *your* copies. Nothing
# overwrites them; delete one, start the lab again, and you get a fresh copy.
