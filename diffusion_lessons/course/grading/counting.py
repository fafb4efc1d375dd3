"""From marked submissions to what counts: which attempt, what the instructor gave by hand, what is alike."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from diffusion_lessons.course import bank
from diffusion_lessons.course.exercises.verdict import Verdict
from diffusion_lessons.course.grading.intake.found import Found
from diffusion_lessons.course.grading.intake.identify import Submission
from diffusion_lessons.course.grading.intake.student import Student
from diffusion_lessons.course.grading.marks.alike import alike, stubs
from diffusion_lessons.course.grading.marks.overrides import Override
from diffusion_lessons.course.grading.marks.points import Points
from diffusion_lessons.course.grading.marks.rows import row
from diffusion_lessons.course.grading.roster import Roster, label

RULES = ("best", "last")  # which of several attempts counts
ABSENT = "Nothing was handed in."
NOWHERE = Found(PurePosixPath())
DATE = re.compile(r"\d{4}-\d\d-\d\d(?:[-T_ ]\d\d(?:[-:.]?\d\d){1,2})?")
VERSION = re.compile(r"(?i)(?<![a-z])(?:version|attempt|versuch|v)[ _.-]?(\d{1,6})(?!\d)")


def counted(submissions: Iterable[Submission], points: Points, rule: str) -> list[Submission]:
    """The submissions, one of which counts of each student and lesson: the best, or the last.

    Where a platform hands out the attempts, `last` goes by its dates, then by its version or attempt numbers,
    then late after in time; where these leave it open, by the order of the paths.
    """
    ruled = [replace(each, rows=tuple(map(points.ruled, each.rows))) for each in submissions]
    attempts: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for i, each in enumerate(ruled):
        if each.rows:
            attempts[each.student.key, each.lesson].append(i)

    def rank(i: int) -> Any:
        return points.score(*ruled[i].rows).points if rule == "best" else when(ruled[i])

    for places in attempts.values():
        chosen = max(places, key=rank)
        note = f"Another attempt counts: {ruled[chosen].path}."
        for i in places:
            if i != chosen:
                ruled[i] = replace(ruled[i], notes=(*ruled[i].notes, note), counts=False)
    return ruled


def when(attempt: Submission) -> tuple[str, int, bool, list[Any]]:
    """What orders the attempts of one student at one lesson."""
    path = re.sub(r"(?i)\.ipynb(\.json|\.txt)?$", "", attempt.path)
    dates, versions = DATE.findall(path), VERSION.findall(DATE.sub("", path))
    natural = [int(part) if part.isdecimal() else part for part in re.split(r"(\d{1,18})", path)]
    date = re.sub(r"\D", "", dates[-1]) if dates else ""
    return date, int(versions[-1]) if versions else 0, attempt.late, natural


def absent(roster: Roster, submissions: Sequence[Submission]) -> list[Submission]:
    """An empty submission for each student of the roster and each lesson that others handed in.

    Who handed in something that nobody can read has no such row: it may have been this lesson.
    """
    lessons = sorted({each.lesson for each in submissions if not each.problem}) or [""]
    there = {(each.student.key, each.lesson) for each in submissions}
    return [
        Submission(NOWHERE, student=student, lesson=lesson, problem=ABSENT)
        for student in roster.students
        for lesson in lessons
        if not {(student.key, lesson), (student.key, "")} & there
    ]


def resolved(overrides: Iterable[Override], roster: Roster) -> dict[tuple[Student, str], Override]:
    """The overrides by student and exercise; who is unknown or in two of them is a ValueError."""
    found: dict[tuple[Student, str], Override] = {}
    for each in overrides:
        try:
            student = roster.the(each.student)
        except ValueError as error:
            raise ValueError(f"{each.place}: {error}") from None
        if before := found.get((student, each.exercise)):
            said = f"{label(student)}, exercise {each.exercise}, is in {before.place}, too"
            raise ValueError(f"{each.place}: {said}")
        found[student, each.exercise] = each
    return found


def overridden(
    submissions: list[Submission], overrides: Mapping[tuple[Student, str], Override]
) -> list[Submission]:
    """The submissions with the instructor's marks and comments; who handed in nothing gets a row for them."""
    made = list(submissions)
    for (student, exercise), override in overrides.items():
        mine = [
            i for i, each in enumerate(made) if (each.student.key, each.lesson) == (student.key, exercise[:2])
        ]
        place = next((i for i in mine if made[i].rows and made[i].counts), None)
        if place is None:
            place = next((i for i in mine if made[i].problem == ABSENT), len(made))
            none = Verdict("", "not attempted", "missing", "No notebook of this lesson was marked.")
            rows = tuple(row(each, none) for each in bank.exercises(exercise[:2]))
            made[place : place + 1] = [Submission(NOWHERE, student=student, lesson=exercise[:2], rows=rows)]
        rows = tuple(
            replace(one, given=override.points, comment=override.comment) if one.exercise == exercise else one
            for one in made[place].rows
        )
        made[place] = replace(made[place], rows=rows)
    return made


def compared(submissions: Sequence[Submission]) -> list[Submission]:
    """The submissions with a flag on answers that are equal or nearly equal to those of other students."""
    answers: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
    for i, each in enumerate(submissions):
        for one in each.rows if each.counts else ():
            if one.answer and one.status != "not attempted":
                answers[one.exercise].append((i, one.answer))
    flags: defaultdict[tuple[int, str], dict[str, list[str]]] = defaultdict(dict)
    for exercise, given in answers.items():
        stub = stubs(exercise[:2]).get(exercise, "")
        for group, equal in alike([answer for _, answer in given], stub):
            places = [given[each][0] for each in group]
            for i in places:
                others = [label(submissions[other].student) for other in places if other != i]
                how = "equal" if equal else "nearly equal"
                flags[i, exercise].setdefault(how, []).extend(others)
    said = {
        key: tuple(f"{how} to the answer of {', '.join(others)}" for how, others in seen.items())
        for key, seen in flags.items()
    }
    return [
        replace(
            each,
            rows=tuple(replace(one, flags=one.flags + said.get((i, one.exercise), ())) for one in each.rows),
        )
        for i, each in enumerate(submissions)
    ]
