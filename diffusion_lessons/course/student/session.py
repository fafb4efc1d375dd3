"""What a lesson calls: `@exercise`, `hint` and `progress`.

Running an exercise's cell checks it at once. What comes back is the student's own function where it
passes and ours where it does not, so that every later cell runs and the lesson never gets stuck.
"""

import functools
from collections.abc import Callable
from typing import Any

from diffusion_lessons.course import bank
from diffusion_lessons.course.exercises.check import check, check_on_the_gpu, named
from diffusion_lessons.course.exercises.exercise import Exercise
from diffusion_lessons.course.exercises.stand_in import finds_itself, namespace, stand_in, students_own
from diffusion_lessons.course.exercises.verdict import Verdict
from diffusion_lessons.course.student.cards import hint_card, progress_card, verdict_card
from diffusion_lessons.course.student.class_seed import class_seed
from diffusion_lessons.course.student.progress import kept
from diffusion_lessons.course.widgets.page import show

_touched: set[str] = set()  # lessons of this session


def exercise(id: str) -> Callable[[Any], Any]:
    """Check the function below as the answer to an exercise, and keep the lesson running.

    Args:
        id: "02.1".

    Raises:
        ValueError: there is no exercise of that id.
    """
    if not isinstance(id, str):
        raise ValueError(f'@exercise needs the id of its exercise, as in @exercise("02.1"); got {id!r}')
    return functools.partial(_checked, bank.get(id))


def _checked(the: Exercise, given: Any) -> Any:
    yours = students_own(given)  # decorated twice: what is checked is never our own function
    with finds_itself(the, yours):
        verdict = check(the, yours, class_seed())
        verdict = check_on_the_gpu(the, yours) or verdict if verdict.passed else verdict
    name = getattr(yours, "__name__", the.name)
    verdict = named(the, verdict, name, name)
    before = kept()[the.id]
    if verdict.status != "not attempted":  # running the lesson again from the top takes nothing back
        kept().update(the.id, status=verdict.status, checks=before["checks"] + 1)
    _touched.add(the.lesson)
    used = yours if verdict.passed else stand_in(the, yours)
    if verdict.kind == "name":
        namespace(yours)[the.name] = used  # later cells call it by that name
    first = before["checks"] == 0
    notes = _notes(the, yours is not given, verdict, first)
    show(verdict_card(the, verdict, notes, first=first, hints=before["hints"]))
    return used


def _notes(the: Exercise, twice: bool, verdict: Verdict, first: bool) -> list[str]:
    notes = ["There are two @exercise lines above this function: one is enough."] if twice else []
    if verdict.passed and the.kind != "predict":
        notes.append(f"From here on the lesson runs on your `{the.name}`.")
    elif not verdict.passed:
        more = "The next attempt says more. " if first and (verdict.first or verdict.where) else ""
        notes.append(f'Using ours until yours passes: the lesson goes on. {more}A hint: `hint("{the.id}")`.')
    return notes + kept().news()


def hint(id: str) -> None:
    """Show the next of an exercise's three hints; after the last, the last again.

    Args:
        id: "02.1".
    """
    the = bank.get(id)
    taken = min(kept()[id]["hints"] + 1, len(the.hints))
    kept().update(id, hints=taken)
    _touched.add(the.lesson)
    show(hint_card(the, taken))


def progress(lesson: str | None = None) -> None:
    """Show what has been passed.

    Args:
        lesson: two digits; default the lessons with anything done so far.
    """
    lessons, rows = [], []
    for number in bank.lessons() if lesson is None else [lesson]:
        members = [(each, kept()[each.id]) for each in bank.exercises(number)]
        passed = sum(entry["status"] == "passed" for _, entry in members)
        lessons.append((number, passed, len(members)))
        if lesson or number in _touched or any(entry["checks"] + entry["hints"] for _, entry in members):
            rows += [_row(*member) for member in members]
    show(progress_card(lessons, rows, *kept().news()))


def _row(the: Exercise, entry: dict[str, Any]) -> tuple[str, ...]:
    hints = f"{entry['hints']} of {len(the.hints)}" if entry["hints"] else ""
    return the.id, the.title, entry["status"], str(entry["checks"] or ""), hints
