"""What a lesson calls: `@exercise`, `hint` and `progress`.

Running an exercise's cell checks it at once. What comes back is the student's own function where it
passes and ours where it does not, so that every later cell runs and the lesson never gets stuck.
"""

import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from diffusion_lessons.course import bank
from diffusion_lessons.course.exercises import messages
from diffusion_lessons.course.exercises.exercise import Exercise, Verdict
from diffusion_lessons.course.student.cards import hint_card, progress_card, show, verdict_card
from diffusion_lessons.course.student.class_seed import class_seed
from diffusion_lessons.course.student.progress import Record, default_file

_record: Record | None = None
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
    return functools.partial(_check, bank.get(id))


def _check(the: Exercise, given: Any) -> Any:
    yours = getattr(given, "_yours", given)  # decorated twice: what is checked is never our own function
    with _named(the, yours):
        verdict = the.check(yours, class_seed())
        verdict = _on_the_gpu(the, yours) or verdict if verdict.passed else verdict
    verdict = _right_name(the, yours, verdict)
    entry = record()[the.id]
    if verdict.status != "not attempted":  # running the lesson again from the top takes nothing back
        record().update(the.id, status=verdict.status, checks=entry["checks"] + 1)
    _touched.add(the.lesson)
    used = yours if verdict.passed else stand_in(the, yours)
    if verdict.kind == "name":
        _namespace(yours)[the.name] = used  # later cells call it by that name
    show(verdict_card(the, verdict, _notes(the, given, verdict)))
    return used


def _on_the_gpu(the: Exercise, yours: Any) -> Verdict | None:
    """Where the lesson runs on a GPU: what is wrong there with an answer that is right on the CPU."""
    if not torch.cuda.is_available():
        return None
    cases = the.cases[:1]
    try:
        if the.run(the.reference, cases, device="cuda").cases[0].failure is not None:
            return None  # an exercise that belongs on the CPU
        verdict = the.judge(the.run(yours, cases, device="cuda"), cases)
    except RuntimeError:
        return None  # there is a GPU, and nothing can be put on it
    if verdict.kind not in ("exception", "device", "type"):
        return None  # the numbers were judged on the CPU, and are rounded otherwise here
    message = (
        f"On the CPU your function is right; on the GPU, where this lesson runs, it is not. {verdict.message}"
    )
    return replace(verdict, message=message)


def _right_name(the: Exercise, yours: Any, verdict: Verdict) -> Verdict:
    name = getattr(yours, "__name__", the.name)
    if verdict.status == "not attempted" or verdict.kind == "not callable" or name in (the.name, "<lambda>"):
        return verdict
    return Verdict(the.id, "wrong", "name", messages.misnamed(the, name))


def _notes(the: Exercise, given: Any, verdict: Verdict) -> list[str]:
    notes = []
    if hasattr(given, "_yours"):
        notes.append("There are two @exercise lines above this function: one is enough.")
    if verdict.passed and the.kind != "predict":
        notes.append(f"From here on the lesson runs on your `{the.name}`.")
    elif not verdict.passed:
        hints = f'hint("{the.id}")'
        notes.append(f"Using ours until yours passes: the lesson goes on. A hint: `{hints}`.")
    if trouble := record().trouble:
        notes.append(trouble)
        record().trouble = ""
    return notes


def stand_in(the: Exercise, yours: Any) -> Any:
    """Our own function under the name and the help of the student's."""
    reference = the.reference
    if inspect.isclass(reference):
        return type(the.name, (reference,), {"_yours": yours, "__doc__": yours.__doc__})

    def ours(*args: Any, **kwargs: Any) -> Any:
        return reference(*args, **kwargs)

    ours.__name__ = ours.__qualname__ = the.name
    ours.__doc__ = getattr(yours, "__doc__", None)
    ours.__signature__ = _signature(reference)  # type: ignore[attr-defined]
    ours._yours = yours  # type: ignore[attr-defined]
    return ours


def _signature(function: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None


@contextmanager
def _named(the: Exercise, yours: Any) -> Iterator[None]:
    """While it is checked, an answer that calls itself finds itself, and not ours from an earlier run."""
    names = _namespace(yours)
    missing = object()
    before = names.get(the.name, missing)
    if getattr(yours, "__name__", None) == the.name:
        names[the.name] = yours
    try:
        yield
    finally:
        if before is missing:
            names.pop(the.name, None)
        else:
            names[the.name] = before


def _namespace(yours: Any) -> dict[str, Any]:
    """Where the answer was written: the notebook's own names."""
    module = sys.modules.get(getattr(yours, "__module__", None) or "")
    return getattr(yours, "__globals__", None) or (vars(module) if module else {})


# Hints and progress --------------------------------------------------------------------------------


def hint(id: str) -> None:
    """Show the next of an exercise's three hints; after the last, the last again.

    Args:
        id: "02.1".
    """
    the = bank.get(id)
    taken = min(record()[id]["hints"] + 1, len(the.hints))
    record().update(id, hints=taken)
    _touched.add(the.lesson)
    show(hint_card(the, taken))


def progress(lesson: str | None = None) -> None:
    """Show what has been passed.

    Args:
        lesson: two digits; default the lessons with anything done so far.
    """
    kept = record()
    everything = bank.exercises() if lesson is None else bank.exercises(lesson)
    lessons = []
    rows = []
    for number in dict.fromkeys(each.lesson for each in everything):
        members = [each for each in everything if each.lesson == number]
        lessons.append((number, sum(kept[e.id]["status"] == "passed" for e in members), len(members)))
        if lesson or number in _touched or any(kept[e.id]["checks"] + kept[e.id]["hints"] for e in members):
            rows += [_row(each, kept[each.id]) for each in members]
    note, kept.trouble = kept.trouble, ""
    show(progress_card(lessons, rows, note))


def _row(the: Exercise, entry: dict[str, Any]) -> tuple[str, ...]:
    hints = f"{entry['hints']} of {len(the.hints)}" if entry["hints"] else ""
    return the.id, the.title, entry["status"], str(entry["checks"] or ""), hints


def record() -> Record:
    """The record of this session."""
    global _record
    if _record is None:
        _record = Record(default_file())
    return _record


def use_record(kept: Record) -> None:
    """Keep progress in another record from now on."""
    global _record
    _record = kept
