"""Judging outputs: no student code runs here, only the reference and the bank's wrong answers."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

from diffusion_lessons.course.exercises import messages
from diffusion_lessons.course.exercises.compare import Difference, difference
from diffusion_lessons.course.exercises.exercise import Case, Exercise, Misconception
from diffusion_lessons.course.exercises.outputs import Failure, Outputs, Ran
from diffusion_lessons.course.exercises.running import Runner
from diffusion_lessons.course.exercises.slips import combination, slip
from diffusion_lessons.course.exercises.thumbnails import thumbnails
from diffusion_lessons.course.exercises.values import Plain, describe, plain
from diffusion_lessons.course.exercises.verdict import Verdict

Problem = Failure | Difference
SLIPS = ("value", "shape", "length", "type")  # the differences that a simple slip may explain
_kept: WeakKeyDictionary[Exercise, dict[Any, tuple[Ran, ...]]] = WeakKeyDictionary()  # the bank's own answers


def judge(
    exercise: Exercise, outputs: Outputs, cases: Sequence[Case] | None = None, seed: int | None = None
) -> Verdict:
    """Judge what an answer gave; ValueError where the outputs are of another exercise.

    `cases` are those that it should have been run on, default all of the exercise's; `seed` the one that
    it should have been run with, default what the outputs say.
    """
    if outputs.exercise != exercise.id:
        raise ValueError(f"these outputs are of exercise {outputs.exercise}, this is {exercise.id}")
    cases = tuple(exercise.cases if cases is None else cases)
    given = tuple(outputs[case.name] or Ran(case.name, failure=Failure("missing")) for case in cases)
    seed = outputs.seed if seed is None else seed
    return _Judge(exercise, cases, seed, outputs.device, given).verdict()


@dataclass(frozen=True)
class _Judge:
    exercise: Exercise
    cases: tuple[Case, ...]
    seed: int
    device: str
    given: tuple[Ran, ...]

    def verdict(self) -> Verdict:
        id = self.exercise.id
        failures = [each.failure for each in self.given if each.failure is not None]
        unwritten = [each for each in failures if each.kind in ("untouched", "not implemented")]
        if unwritten and len(failures) == len(self.given):
            return Verdict(id, "not attempted", "untouched", messages.not_attempted(unwritten[0]))
        if failures and failures[0].kind in ("not callable", "signature"):
            return Verdict(id, "wrong", failures[0].kind, messages.failed(self.exercise, failures[0]))
        planted = self.exercise.planted
        if planted and self.explains(self.exercise.misconception(planted)):
            return Verdict(id, "not attempted", "planted", messages.PLANTED)
        return self.compared()

    def answers(self, function: Callable[..., Any]) -> tuple[Ran, ...]:
        """What a function of the bank's own gives: no limit, no second run, kept for the next time."""
        kept = _kept.setdefault(self.exercise, {})
        key = (function, tuple((case.name, case.make) for case in self.cases), self.seed, self.device)
        if key not in kept:
            kept[key] = Runner(self.exercise, function, self.seed, self.device).run(self.cases)
        return kept[key]

    def compared(self) -> Verdict:
        expected = self.answers(self.exercise.reference)
        pairs = zip(expected, self.given, strict=True)
        problems = [theirs.failure or self.difference(mine, theirs) for mine, theirs in pairs]
        wrong = [i for i, problem in enumerate(problems) if problem is not None]
        wrong += [i for i, each in enumerate(self.given) if each.mutated]
        random = any(each.repeats is False for each in self.given)
        if not wrong and not random:
            message = messages.passed(len(self.cases))
            return Verdict(self.exercise.id, "passed", "passed", message, printed=self.given[0].printed)
        first = wrong[0] if wrong else 0
        problem = problems[first]
        found = next((each for each in self.exercise.misconceptions if self.explains(each)), None)
        if found is not None:
            kind, message = "misconception", found.sentence
        elif random and not isinstance(problem, Failure):
            kind, message = "random", messages.RANDOM
        elif isinstance(problem, Failure):
            kind, message = problem.kind, messages.failed(self.exercise, problem)
        elif problem is None:
            kind, message = "mutated", messages.mutated(self.given[first])
        else:
            kind = problem.kind
            message = self.slip(problem, expected) + messages.differs(self.exercise, problem)
        verdict = Verdict(self.exercise.id, "wrong", kind, message, found.name if found else None)
        return self.detailed(verdict, first, problem)

    def difference(self, expected: Ran, given: Ran, strict: bool = True) -> Difference | None:
        return difference(expected.value, given.value, self.exercise.rtol, self.exercise.atol, strict)

    def explains(self, misconception: Misconception) -> bool:
        """Does a wrong answer of the bank give just what was given, on every case?

        Dtype and device are left aside, unless they are all that is wrong with the misconception.
        """
        theirs = self.answers(misconception.function)
        expected = self.answers(self.exercise.reference)
        strict = all(self.same(*pair, strict=False) for pair in zip(expected, theirs, strict=True))
        return all(self.same(*pair, strict) for pair in zip(theirs, self.given, strict=True))

    def same(self, one: Ran, other: Ran, strict: bool) -> bool:
        if one.failure is not None and other.failure is not None:
            return _cause(one.failure) == _cause(other.failure)
        if one.failure is not None or other.failure is not None or not set(one.mutated) <= set(other.mutated):
            return False
        return self.difference(one, other, strict) is None

    def slip(self, problem: Difference, expected: tuple[Ran, ...]) -> str:
        """The sentence of a simple slip that explains every case, or nothing."""
        if problem.kind not in SLIPS or self.exercise.kind == "predict" or any(g.failure for g in self.given):
            return ""
        pairs = [(mine.value, theirs.value) for mine, theirs in zip(expected, self.given, strict=True)]
        inputs = [plain(self.exercise.inputs(case, self.seed)) for case in self.cases]
        found = slip(pairs, inputs, self.exercise.rtol, self.exercise.atol)
        return f"{found} " if found else ""

    def detailed(self, verdict: Verdict, place: int, problem: Problem | None) -> Verdict:
        """The first case that differs: its inputs, what was expected and given, and pictures of both."""
        case, given, predicted = self.cases[place], self.given[place], self.exercise.kind == "predict"
        inputs: dict[str, Plain] = plain(self.exercise.inputs(case, self.seed))
        words = tuple((name, describe(value)) for name, value in inputs.items())
        name = "" if predicted else case.name  # a prediction has one case, and it is no news
        verdict = replace(verdict, case=name, inputs=words, printed=given.printed)
        if isinstance(problem, Failure):
            return replace(verdict, frames=problem.frames)
        if predicted or problem is None:
            return replace(verdict, given=describe(given.value))
        weighed = combination(problem.expected, problem.given, inputs, problem.at)
        said = [problem.sentence + "."] if verdict.kind == "misconception" else []  # else the message says it
        return replace(
            verdict,
            expected=describe(problem.expected),
            given=describe(problem.given),
            where=" ".join(said + ([weighed] if weighed else [])),
            thumbnails=thumbnails(problem.expected, problem.given, problem.at) if problem.at else (),
        )


def _cause(failure: Failure) -> tuple[str, str, str]:
    """What tells one failure from another: the words of its message, whatever the sizes in it."""
    return failure.kind, failure.type, re.sub(r"\d+", "#", failure.message)
