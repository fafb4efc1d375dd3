"""The course half: what a lesson needs around the system that it builds.

A lesson's first cell imports from here: `from diffusion_lessons.course import exercise, hint, progress`.
Names that need a notebook's libraries are looked up when they are first asked for.
"""

from importlib import import_module
from typing import Any

from diffusion_lessons.course import budget
from diffusion_lessons.course.session import exercise, hint, progress

LATER: dict[str, str] = {}  # name -> the module that defines it

__all__ = ["budget", "exercise", "hint", "progress"]


def __getattr__(name: str) -> Any:
    if name not in LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{LATER[name]}"), name)
    globals()[name] = value  # the function, where its module has the same name
    return value
