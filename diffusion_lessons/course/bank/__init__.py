"""The bank: the exercises of every lesson, one file a lesson, each with its list `EXERCISES`."""

import pkgutil
from functools import cache
from importlib import import_module

from diffusion_lessons.course.exercises.exercise import Exercise
from diffusion_lessons.support.errors import unknown


def lessons() -> list[str]:
    """The lessons that have a bank, as two digits."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return [name.removeprefix("lesson_") for name in names if name.startswith("lesson_")]


@cache
def _of_lesson(lesson: str) -> tuple[Exercise, ...]:
    found = tuple(import_module(f"{__name__}.lesson_{lesson}").EXERCISES)
    ids = [exercise.id for exercise in found]
    if any(exercise.lesson != lesson for exercise in found) or len(set(ids)) != len(ids):
        raise ValueError(f"lesson_{lesson}.py holds exercises {ids}: each id once, all of lesson {lesson}")
    return found


def exercises(lesson: str | None = None) -> list[Exercise]:
    """The exercises of a lesson in order, or of all lessons.

    Args:
        lesson: two digits, "02".
    """
    if lesson is None:
        return [exercise for each in lessons() for exercise in _of_lesson(each)]
    if lesson not in lessons():
        raise unknown("lesson with exercises", lesson, lessons())
    return list(_of_lesson(lesson))


def get(id: str) -> Exercise:
    """The exercise of an id such as "02.1"."""
    lesson = str(id).split(".")[0]
    for exercise in _of_lesson(lesson) if lesson in lessons() else ():
        if exercise.id == id:
            return exercise
    raise unknown("exercise", id, [exercise.id for exercise in exercises()])
