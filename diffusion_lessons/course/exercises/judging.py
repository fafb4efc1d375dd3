"""Judging outputs: no student code runs here, only the reference and the bank's wrong answers."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from diffusion_lessons.course.exercises import messages
from diffusion_lessons.course.exercises.compare import Difference, as_array, difference
from diffusion_lessons.course.exercises.exercise import Case, Exercise, Misconception
from diffusion_lessons.course.exercises.outputs import Failure, Outputs, Ran
from diffusion_lessons.course.exercises.running import Runner
from diffusion_lessons.course.exercises.slips import changing_factor, combination, parts_of, slip
from diffusion_lessons.course.exercises.supposing import SUPPOSED, Supposed, supposed
from diffusion_lessons.course.exercises.thumbnails import thumbnails
from diffusion_lessons.course.exercises.values import Plain, describe, plain
from diffusion_lessons.course.exercises.verdict import Verdict
from diffusion_lessons.course.exercises.watching import SEED

Problem = Failure | Difference
SLIPS = ("value", "shape", "length", "type", "nonfinite")  # the differences that a simple slip may explain
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
    return _Judge(exercise, cases, seed, outputs.device, given, outputs.unread).verdict()


@dataclass(frozen=True)
class _Judge:
    exercise: Exercise
    cases: tuple[Case, ...]
    seed: int
    device: str
    given: tuple[Ran, ...]
    unread: tuple[str, ...] = ()

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
        expected = self.expected
        pairs = list(zip(expected, self.given, strict=True))
        problems = [theirs.failure or self.difference(mine, theirs) for mine, theirs in pairs]
        effects = [self.effect(*pair) for pair in pairs]
        wrong = [i for i, problem in enumerate(problems) if problem is not None]
        wrong += [i for i, effect in enumerate(effects) if effect is not None]
        random = any(each.repeats is False for each in self.given)
        if not wrong and not random:
            message = messages.passed(len(self.cases))
            return Verdict(self.exercise.id, "passed", "passed", message, printed=self.given[0].printed)
        first = wrong[0] if wrong else 0
        problem, effect = problems[first], effects[first]
        fitting = [each for each in self.exercise.misconceptions if self.explains(each)]
        found = max(fitting, key=self.same_effects, default=None)
        inputs = self.arguments(first) if found is None else None  # a tip may be one for another mistake
        differs, about = messages.problem(self.exercise, problem, inputs, self.returns_at_times(first)), ""
        if found is not None:
            kind, message, about = "misconception", found.sentence, found.about
        elif random and not isinstance(problem, Failure):
            kind, message = "random", messages.RANDOM
        elif problem is not None:
            where, said, about = self.slip(problem)
            also = messages.beside(self.changed(expected[first], self.given[first]))
            names = messages.unread(self.exercise, self.unread)
            about = about or ("missing" if names else "")
            kind, message = problem.kind, " ".join(filter(None, (where, said, also, differs, names)))
            differs = f"{where} {differs}".strip()
        else:
            assert effect is not None
            kind, message = effect
        verdict = Verdict(self.exercise.id, "wrong", kind, message, found.name if found else None)
        seen = differs or (effect[1] if effect is not None else "")
        if message != seen and kind != "random":
            verdict = replace(verdict, first=messages.first(seen, about))
        return self.detailed(verdict, first, problem)

    @property
    def expected(self) -> tuple[Ran, ...]:
        return self.answers(self.exercise.reference)

    def effect(self, expected: Ran, given: Ran) -> tuple[str, str] | None:
        """What is wrong with a call beside its value, as the kind of a verdict and its sentence."""
        changed = self.changed(expected, given)
        if changed:
            return (
                ("seeded", messages.SEEDED) if changed == [SEED] else ("mutated", messages.mutated(changed))
            )
        if self.exercise.trains and given.failure is None:
            sentence = messages.gradient(expected.gradients, given.gradients)
            return ("gradient", sentence) if sentence else None
        return None

    @staticmethod
    def changed(expected: Ran, given: Ran) -> list[str]:
        return [name for name in given.mutated if name not in expected.mutated]

    def returns_at_times(self, place: int) -> bool:
        """Did a call return something? Calls are the cases, or, in a case of several, those in it."""
        values = [each.value for each in self.given]
        if values[place] is not None:
            several = len(self.expected[place].calls) > 1
            values = [part for value in values if several for part in parts_of(value).values()]
        return any(value is not None for value in values)

    def arguments(self, place: int) -> dict[str, Plain]:
        """What the answer is called with on a case; of several calls, what is the same in all."""
        calls = self.expected[place].calls
        if not calls:
            return {}
        return {
            name: value
            for name, value in calls[0].items()
            if all(name in call and difference(value, call[name], 0, 0) is None for call in calls[1:])
        }

    def difference(self, expected: Ran, given: Ran, strict: bool = True) -> Difference | None:
        return difference(expected.value, given.value, self.exercise.rtol, self.exercise.atol, strict)

    def explains(self, misconception: Misconception) -> bool:
        """Does a wrong answer of the bank give just what was given, on every case?

        Dtype, device and gradients are left aside, unless they are all that is wrong with the misconception.
        """
        theirs = self.answers(misconception.function)
        strict = all(self.same(*pair, strict=False) for pair in zip(self.expected, theirs, strict=True))
        return all(self.same(*pair, strict) for pair in zip(theirs, self.given, strict=True))

    def same_effects(self, misconception: Misconception) -> bool:
        """Does it change the same arguments, too? That tells apart two which give the same."""
        theirs = self.answers(misconception.function)
        return all(set(a.mutated) == set(b.mutated) for a, b in zip(theirs, self.given, strict=True))

    def same(self, one: Ran, other: Ran, strict: bool) -> bool:
        if one.failure is not None and other.failure is not None:
            return _cause(one.failure) == _cause(other.failure)
        if one.failure is not None or other.failure is not None or not set(one.mutated) <= set(other.mutated):
            return False
        gradients = one.gradients, other.gradients
        if strict and (messages.gradient(*gradients) or messages.gradient(*reversed(gradients))):
            return False
        return self.difference(one, other, strict) is None

    def slip(self, problem: Problem) -> tuple[str, str, str]:
        """Which part is wrong, the sentence of a slip that explains every case, and its kind; or nothing."""
        if problem.kind not in SLIPS or self.exercise.kind == "predict" or any(g.failure for g in self.given):
            return "", "", ""
        pairs = [(mine.value, theirs.value) for mine, theirs in zip(self.expected, self.given, strict=True)]
        where, part = "", self.wrong_part(pairs)
        if part is not None:
            where = messages.one_part(pairs[0][0], part)
            pairs = [(parts_of(mine)[part], parts_of(theirs)[part]) for mine, theirs in pairs]
        arguments = [self.arguments(place) for place in range(len(self.cases))]
        rtol, atol = self.exercise.rtol, self.exercise.atol
        found = slip(pairs, arguments, rtol, atol) or self.supposition(part)
        return where, *(found or changing_factor(pairs, rtol, atol) or ("", ""))

    def wrong_part(self, pairs: Sequence[tuple[Plain, Plain]]) -> Any:
        """The one part of several that is wrong in every case where anything is; None for other results."""
        parts = [(parts_of(mine), parts_of(theirs)) for mine, theirs in pairs]
        keys = list(parts[0][0])
        if not 2 <= len(keys) <= 4 or any(list(each) != keys for pair in parts for each in pair):
            return None
        rtol, atol = self.exercise.rtol, self.exercise.atol
        wrong = [
            key
            for key in keys
            if any(difference(mine[key], theirs[key], rtol, atol, strict=False) for mine, theirs in parts)
        ]
        return wrong[0] if len(wrong) == 1 else None

    def supposition(self, part: Any) -> tuple[str, str] | None:
        """The reference with another argument that gives just what was given, where one does.

        Where several do, the cases do not tell which it was: then two are said, and more are not.
        """
        tried = supposed(self.exercise, [ran.calls[0] for ran in self.expected if ran.calls])
        fits = list({each.sentence: each for each in tried if self.gives(each, part)}.values())
        arguments = [each.argument for each in fits if each.argument]
        if not 1 <= len(fits) <= 2 or len(set(arguments)) < len(arguments):
            return None
        same = fits[1].sentence.removeprefix(SUPPOSED).split(":")[0].rstrip(".") if len(fits) == 2 else ""
        return fits[0].sentence + (f" The same comes out{same}." if same else ""), fits[0].about

    def gives(self, wrong: Supposed, part: Any) -> bool:
        """Does it give what was given on every case, and not what is expected on two or more?

        One case may be left aside: that in which it raises or gives no finite number, dividing by a 0. Two
        that are NaN all over are alike and tell nothing: one at least must hold numbers.
        """
        exercise = wrong.exercise(self.exercise)
        runner = Runner(exercise, wrong.function, self.seed, self.device, watched=False)
        places = range(len(self.cases))
        quick = [self.expected[i].seconds for i in places]
        right = [not self.tells(self.expected[i], self.given[i], part) for i in places]
        telling, aside = [], 0
        for place in sorted(places, key=lambda i: (right[i], quick[i])):
            ran = runner.run([self.cases[place]])[0]
            nothing = self.given[place].value is None  # a loop of no round, with its `return` inside
            void = nothing or ran.failure is not None or not _finite(_part(ran.value, part))
            if ran.failure is None and not self.tells(ran, self.given[place], part):
                telling += [] if right[place] else [not void]
            elif void and not aside:
                aside = 1
            else:
                return False
        return len(telling) >= 2 and any(telling)

    def tells(self, one: Ran, other: Ran, part: Any) -> bool:
        """Do two results differ, or, of results in parts, that one part?"""
        mine, theirs = (_part(each.value, part) for each in (one, other))
        return difference(mine, theirs, self.exercise.rtol, self.exercise.atol, strict=False) is not None

    def detailed(self, verdict: Verdict, place: int, problem: Problem | None) -> Verdict:
        """The first case that differs: its inputs, what was expected and given, and pictures of both."""
        case, given, predicted = self.cases[place], self.given[place], self.exercise.kind == "predict"
        inputs = self.arguments(place) or plain(self.exercise.inputs(case, self.seed))
        words = tuple((name, describe(value)) for name, value in inputs.items())
        name = "" if predicted else case.name  # a prediction has one case, and it is no news
        verdict = replace(verdict, case=name, inputs=words, printed=given.printed)
        if isinstance(problem, Failure):
            return replace(verdict, frames=problem.frames)
        if predicted or problem is None:
            return replace(verdict, given=describe(given.value))
        weighed = combination(problem.expected, problem.given, inputs, problem.at)
        sentence = problem.sentence[:1].upper() + problem.sentence[1:] + "."
        said = [sentence] if verdict.kind == "misconception" else []  # else the message says it
        return replace(
            verdict,
            expected=describe(problem.expected, problem.at),
            given=describe(problem.given, problem.at),
            where=" ".join(said + ([weighed] if weighed else [])),
            thumbnails=thumbnails(problem.expected, problem.given, problem.at) if problem.at else (),
        )


def _part(value: Plain, part: Any) -> Plain:
    """The part of a result in parts; None is all of it."""
    return value if part is None else parts_of(value).get(part)


def _finite(value: Plain) -> bool:
    """Is there a finite number in a value, or something that is no number?"""
    numbers, parts = as_array(value), parts_of(value)
    if numbers is None and parts:
        return any(_finite(each) for each in parts.values())
    return numbers is None or not numbers.size or bool(np.isfinite(numbers).any())


def _cause(failure: Failure) -> tuple[Any, ...]:
    """What tells one failure from another: its words, and the sizes in it in any order."""
    words = re.sub(r"\d+", "#", failure.message)
    return failure.kind, failure.type, words, sorted(re.findall(r"\d+", failure.message))
