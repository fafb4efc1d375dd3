"""Judging outputs: no student code runs here, only the reference and the bank's wrong answers."""

from collections.abc import Sequence
from dataclasses import replace

from diffusion_lessons.course import messages
from diffusion_lessons.course.compare import Difference, difference
from diffusion_lessons.course.exercise import Case, Exercise, Misconception, Verdict
from diffusion_lessons.course.outputs import Failure, Outputs, Ran
from diffusion_lessons.course.pictures import pictures
from diffusion_lessons.course.running import answers
from diffusion_lessons.course.slips import combination, slip
from diffusion_lessons.course.values import Plain, describe, plain

Problem = Failure | Difference


def judge(exercise: Exercise, outputs: Outputs, cases: Sequence[Case] | None, seed: int) -> Verdict:
    """See `Exercise.judge`."""
    if outputs.exercise != exercise.id:
        raise ValueError(f"these outputs are of exercise {outputs.exercise}, this is {exercise.id}")
    cases = exercise.cases if cases is None else cases
    ran = [outputs[case.name] or Ran(case.name, failure=Failure("missing")) for case in cases]
    failures = [each.failure for each in ran if each.failure is not None]
    unwritten = [each for each in failures if each.kind in ("untouched", "not implemented")]
    if unwritten and len(failures) == len(ran):
        message = messages.not_attempted(unwritten[0])
        return Verdict(exercise.id, "not attempted", "untouched", message)
    if failures and failures[0].kind in ("not callable", "signature"):
        return Verdict(exercise.id, "wrong", failures[0].kind, messages.failed(exercise, failures[0]))
    if exercise.planted and _explains(exercise, exercise.misconception(exercise.planted), ran, cases, seed):
        return Verdict(exercise.id, "not attempted", "planted", messages.PLANTED)
    return _compared(exercise, ran, cases, seed)


def _compared(exercise: Exercise, ran: list[Ran], cases: Sequence[Case], seed: int) -> Verdict:
    expected = answers(exercise, exercise.reference, cases, seed).cases
    problems = [_problem(exercise, mine, theirs) for mine, theirs in zip(expected, ran, strict=True)]
    wrong = [i for i, problem in enumerate(problems) if problem is not None]
    wrong += [i for i, each in enumerate(ran) if each.mutated]
    if not wrong and all(each.repeats is not False for each in ran):
        return Verdict(exercise.id, "passed", "passed", "", printed=ran[0].printed)
    first = wrong[0] if wrong else 0
    problem, given = problems[first], ran[first]
    found = next((m for m in exercise.misconceptions if _explains(exercise, m, ran, cases, seed)), None)
    if found is not None:
        kind, message = "misconception", found.sentence
    elif any(each.repeats is False for each in ran) and not isinstance(problem, Failure):
        kind, message = "random", messages.RANDOM
    elif isinstance(problem, Failure):
        kind, message = problem.kind, messages.failed(exercise, problem)
    elif problem is None:
        kind, message = "mutated", messages.mutated(given)
    else:
        kind, message = problem.kind, messages.differs(exercise, problem)
        if exercise.kind != "predict":
            message = _slip(exercise, expected, ran, cases, seed) + message
    verdict = Verdict(exercise.id, "wrong", kind, message, found.name if found else None)
    return _with_details(verdict, exercise, cases[first], problem, given, seed)


def _problem(exercise: Exercise, expected: Ran, given: Ran) -> Problem | None:
    if given.failure is not None:
        return given.failure
    return difference(expected.value, given.value, exercise.rtol, exercise.atol)


def _explains(
    exercise: Exercise, misconception: Misconception, ran: list[Ran], cases: Sequence[Case], seed: int
) -> bool:
    """Does a wrong answer of the bank give just what was given, on every case?

    Dtype and device are left aside, unless they are all that is wrong with the misconception.
    """
    theirs = answers(exercise, misconception.function, cases, seed).cases
    expected = answers(exercise, exercise.reference, cases, seed).cases
    strict = all(
        _same(exercise, right, wrong, strict=False) for right, wrong in zip(expected, theirs, strict=True)
    )
    return all(_same(exercise, wrong, given, strict) for wrong, given in zip(theirs, ran, strict=True))


def _same(exercise: Exercise, one: Ran, other: Ran, strict: bool) -> bool:
    if one.failure is not None or other.failure is not None:
        return (
            one.failure is not None
            and other.failure is not None
            and (one.failure.kind, one.failure.type) == (other.failure.kind, other.failure.type)
        )
    if not set(one.mutated) <= set(other.mutated):
        return False
    return difference(one.value, other.value, exercise.rtol, exercise.atol, strict) is None


def _slip(
    exercise: Exercise, expected: Sequence[Ran], ran: list[Ran], cases: Sequence[Case], seed: int
) -> str:
    """The sentence of a simple slip that explains every case, or nothing."""
    if any(each.failure is not None for each in ran):
        return ""
    pairs = [(mine.value, theirs.value) for mine, theirs in zip(expected, ran, strict=True)]
    inputs = [plain(exercise.inputs(case, seed)) for case in cases]
    found = slip(pairs, inputs, exercise.rtol, exercise.atol)
    return f"{found} " if found else ""


def _with_details(
    verdict: Verdict, exercise: Exercise, case: Case, problem: Problem | None, given: Ran, seed: int
) -> Verdict:
    """The first case that differs: its inputs, what was expected and given, and pictures of both."""
    inputs: dict[str, Plain] = plain(exercise.inputs(case, seed))
    verdict = replace(
        verdict,
        case=case.name,
        inputs=tuple((name, describe(value)) for name, value in inputs.items()),
        printed=given.printed,
    )
    if isinstance(problem, Failure):
        frames = tuple((frame.line, frame.text, frame.function) for frame in problem.frames)
        return replace(verdict, frames=frames)
    verdict = replace(verdict, given=describe(given.value))
    if exercise.kind == "predict" or problem is None:
        return verdict
    weighed = combination(problem.expected, problem.given, inputs, problem.at)
    said = [problem.sentence + "."] if verdict.kind == "misconception" else []  # else the message says it
    return replace(
        verdict,
        expected=describe(problem.expected),
        given=describe(problem.given),
        where=" ".join(said + ([weighed] if weighed else [])),
        pictures=pictures(problem.expected, problem.given, problem.at),
    )
