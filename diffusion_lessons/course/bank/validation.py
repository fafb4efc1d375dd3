"""What every exercise of the bank is held to."""

import inspect
from collections.abc import Sequence
from typing import Any

from diffusion_lessons.course.exercises.compare import difference
from diffusion_lessons.course.exercises.exercise import Exercise
from diffusion_lessons.course.exercises.values import Opaque, Plain, Record, plain


def validate(exercise: Exercise, seeds: Sequence[int]) -> list[str]:
    """See `diffusion_lessons.course.bank.validate`."""
    problems = _counted(exercise)
    for check in (_deterministic, _reference, _stubs, _misconceptions, _alternatives, _figure):
        for seed in seeds:
            problems += [each for each in check(exercise, seed) if each not in problems]
    return [f"exercise {exercise.id}: {problem}" for problem in problems]


def _counted(exercise: Exercise) -> list[str]:
    planted = [exercise.misconception(exercise.planted)] if exercise.planted else []
    cases = 1 if exercise.kind == "predict" else 3
    problems = []
    for what, least, given in (
        ("cases", cases, len(exercise.cases)),
        ("misconceptions besides the planted one", 3, len(exercise.misconceptions) - len(planted)),
        ("alternatives", 2, len(exercise.alternatives)),
    ):
        if given < least:
            problems.append(f"{given} {what}, at least {least} are needed")
    if len(exercise.hints) != 3 or len(set(exercise.hints)) != 3 or not all(map(str.strip, exercise.hints)):
        problems.append("three different hints are needed: concept, equation, shape of the code")
    sentences = [each.sentence.strip() for each in exercise.misconceptions]
    if len(set(sentences)) != len(sentences) or not all(len(each) >= 40 for each in sentences):
        problems.append(
            "each misconception needs a sentence of its own that says what was done and what is meant"
        )
    if (exercise.kind == "debug") != (exercise.planted is not None):
        problems.append('a "debug" exercise names its `planted` bug, and no other kind has one')
    return problems


def _deterministic(exercise: Exercise, seed: int) -> list[str]:
    problems = []
    for case in exercise.cases:
        one, two = plain(exercise.inputs(case, seed)), plain(exercise.inputs(case, seed))
        if difference(one, two, 0, 0) is not None:
            problems.append(f"case {case.name!r} gives other inputs the second time: use the generator alone")
    return problems


def _reference(exercise: Exercise, seed: int) -> list[str]:
    outputs = exercise.run(exercise.reference, seed=seed)
    verdict = exercise.judge(outputs)
    problems = [] if verdict.passed else [f"the reference does not pass: {verdict.message}"]
    problems += [
        f"the reference changes its input {name!r} on case {ran.case!r}"
        for ran in outputs.cases
        for name in ran.mutated
    ]
    problems += [
        f"the reference raises on case {ran.case!r}: {ran.failure.message}"
        for ran in outputs.cases
        if ran.failure is not None
    ]
    problems += [
        f"the reference takes {ran.seconds:.1f} s on case {ran.case!r}; the timeout is {exercise.timeout:g} s"
        for ran in outputs.cases
        if ran.seconds > exercise.timeout / 4
    ]
    if any(_has_opaque(ran.value) for ran in outputs.cases):
        problems.append("the reference returns what is not data: turn it into tensors with `call`")
    return problems


def _has_opaque(value: Plain) -> bool:
    if isinstance(value, Record):
        return any(_has_opaque(each) for each in value.fields.values())
    if isinstance(value, (list, tuple)):
        return any(_has_opaque(each) for each in value)
    if isinstance(value, dict):
        return any(_has_opaque(each) for each in value.values())
    return isinstance(value, Opaque) or value is None


def _stubs(exercise: Exercise, seed: int) -> list[str]:
    problems = []
    for body in ("raise NotImplementedError  # your code here", "pass", "..."):
        verdict = exercise.judge(exercise.run(stub(exercise, body), seed=seed))
        if verdict.status != "not attempted":
            problems.append(f"a stub with `{body}` does not read as not attempted: {verdict.message}")
    return problems


def stub(exercise: Exercise, body: str) -> Any:
    """The function (or class) of the exercise's name and arguments with one line for a body."""
    if inspect.isclass(exercise.reference):
        inside = body if body in ("pass", "...") else f"def __init__(self, *args, **kwargs):\n        {body}"
        source = f"class {exercise.name}:\n    {inside}\n"
    else:
        names = ", ".join(inspect.signature(exercise.reference).parameters)
        source = f"def {exercise.name}({names}):\n    {body}\n"
    namespace: dict[str, Any] = {"__name__": "stub"}
    exec(compile(source, "<stub>", "exec"), namespace)
    return namespace[exercise.name]


def _misconceptions(exercise: Exercise, seed: int) -> list[str]:
    problems = []
    for each in exercise.misconceptions:
        verdict = exercise.judge(exercise.run(each.function, seed=seed))
        if each.name == exercise.planted:
            if verdict.kind != "planted":
                problems.append(f"the planted bug {each.name!r} reads {verdict.status}, {verdict.kind}")
        elif verdict.passed:
            problems.append(f"the misconception {each.name!r} passes: no case tells it from the reference")
        elif verdict.misconception != each.name:
            found = verdict.misconception or verdict.kind
            problems.append(f"the misconception {each.name!r} reads {found!r}: {verdict.message}")
    return problems


def _alternatives(exercise: Exercise, seed: int) -> list[str]:
    problems = []
    for place, function in enumerate(exercise.alternatives, 1):
        verdict = exercise.judge(exercise.run(function, seed=seed))
        if not verdict.passed:
            problems.append(f"alternative {place} does not pass, on case {verdict.case!r}: {verdict.message}")
    return problems


def _figure(exercise: Exercise, seed: int) -> list[str]:
    if exercise.figure is None:
        return []
    if len(exercise.figure_alt.strip()) < 20:
        return ["its figure has no `figure_alt` that says what is to be seen"]
    from matplotlib import pyplot
    from matplotlib.figure import Figure

    figure = exercise.figure(exercise.reference)
    if not isinstance(figure, Figure):
        return ["`figure` does not return a matplotlib Figure"]
    pyplot.close(figure)
    return []
