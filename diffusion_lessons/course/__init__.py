"""The course half: what a lesson needs around the system that it builds.

A lesson imports from here: `from diffusion_lessons.course import budget, exercise, hint, quiz, scrub`.
Names that need a notebook's libraries are looked up when they are first asked for. Those whose module
has the same name are imported here and now: a later import of the module would hide the function.
"""

from importlib import import_module
from typing import Any

from diffusion_lessons.course.student import budget
from diffusion_lessons.course.student.quiz import Choice, Question, interview_card, predict, quiz
from diffusion_lessons.course.student.session import exercise, hint, progress
from diffusion_lessons.course.widgets import PANELS, SHOWING

LATER = {
    "check_environment": "student.start",
    "setup": "student.setup",
    "Watched": "student.watch",
    **dict.fromkeys((*PANELS, *SHOWING), "widgets"),
}  # name -> the module that has it

__all__ = ["Choice", "Question", "budget", "exercise", "hint", "interview_card", "predict", "progress"]
__all__ += ["quiz", *LATER]


def __getattr__(name: str) -> Any:
    if name not in LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{LATER[name]}"), name)
