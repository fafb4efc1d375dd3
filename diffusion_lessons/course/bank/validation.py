"""What every exercise of the bank is held to."""

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

from diffusion_lessons.course.exercises.check import check
from diffusion_lessons.course.exercises.compare import difference
from diffusion_lessons.course.exercises.exercise import Exercise
from diffusion_lessons.course.exercises.judging import judge
from diffusion_lessons.course.exercises.running import run
from diffusion_lessons.course.exercises.values import Fields, Opaque, Plain, plain
from diffusion_lessons.course.exercises.watching import SEED


def validate(exercise: Exercise, seeds: Sequence[int] = (0, 1)) -> list[str]:
    """What is wrong with an exercise, in sentences; an empty list where it holds all that is asked."""
    problems = list(_counted(exercise))
    for rule in (_deterministic, _reference, _stubs, _misconceptions, _alternatives, _figure):
        for seed in seeds:
            problems += [each for each in rule(exercise, seed) if each not in problems]
    return [f"exercise {exercise.id}: {problem}" for problem in problems]


def _counted(exercise: Exercise) -> Iterator[str]:
    planted = exercise.planted is not None
    for what, least, given in (
        ("cases", 1 if exercise.kind == "predict" else 3, len(exercise.cases)),
        ("misconceptions besides the planted one", 3, len(exercise.misconceptions) - planted),
        ("alternatives", 2, len(exercise.alternatives)),
    ):
        if given < least:
            yield f"{given} {what}, at least {least} are needed"
    if len(exercise.hints) != 3 or len(set(exercise.hints)) != 3 or not all(map(str.strip, exercise.hints)):
        yield "three different hints are needed: concept, equation, shape of the code"
    sentences = [each.sentence.strip() for each in exercise.misconceptions]
    if len(set(sentences)) != len(sentences) or not all(len(each) >= 40 for each in sentences):
        yield "each misconception needs a sentence of its own that says what was done and what is meant"
    if exercise.kind != "predict":
        for each in exercise.misconceptions:
            if not each.about:
                yield f"the misconception {each.name!r} needs `about`, the kind of slip for a first attempt"
    if (exercise.kind == "debug") != planted:
        yield 'a "debug" exercise names its `planted` bug, and no other kind has one'


def _deterministic(exercise: Exercise, seed: int) -> Iterator[str]:
    for case in exercise.cases:
        one, two = plain(exercise.inputs(case, seed)), plain(exercise.inputs(case, seed))
        if difference(one, two, 0, 0) is not None:
            yield f"case {case.name!r} gives other inputs the second time: use the generator alone"


def _reference(exercise: Exercise, seed: int) -> Iterator[str]:
    outputs = run(exercise, exercise.reference, seed=seed)
    verdict = judge(exercise, outputs)
    if not verdict.passed:
        yield f"the reference does not pass: {verdict.message}"
    for case, ran in zip(exercise.cases, outputs.cases, strict=False):
        on = f"on case {ran.case!r}"
        for name in set(ran.mutated) & {*exercise.inputs(case, seed), SEED}:  # a network may learn
            yield f"the reference changes its input {name!r} {on}"
        if ran.failure is not None:
            yield f"the reference raises {on}: {ran.failure.message}"
        if ran.seconds > exercise.timeout / 4:
            yield f"the reference takes {ran.seconds:.1f} s {on}; the timeout is {exercise.timeout:g} s"
    if any(_has_opaque(ran.value) for ran in outputs.cases):
        yield "the reference returns what is not data: turn it into tensors with `call`"


def _has_opaque(value: Plain) -> bool:
    if isinstance(value, Fields):
        value = value.fields
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return any(map(_has_opaque, value))
    return isinstance(value, Opaque) or value is None


def _stubs(exercise: Exercise, seed: int) -> Iterator[str]:
    for body in ("raise NotImplementedError  # your code here", "pass", "..."):
        verdict = check(exercise, stub(exercise, body), seed)
        if verdict.status != "not attempted":
            yield f"a stub with `{body}` does not read as not attempted: {verdict.message}"


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


def _misconceptions(exercise: Exercise, seed: int) -> Iterator[str]:
    for each in exercise.misconceptions:
        verdict = check(exercise, each.function, seed)
        if each.name == exercise.planted:
            if verdict.kind != "planted":
                yield f"the planted bug {each.name!r} reads {verdict.status}, {verdict.kind}"
        elif verdict.passed:
            yield f"the misconception {each.name!r} passes: no case tells it from the reference"
        elif verdict.misconception != each.name:
            found = verdict.misconception or verdict.kind
            yield f"the misconception {each.name!r} reads {found!r}: {verdict.message}"


def _alternatives(exercise: Exercise, seed: int) -> Iterator[str]:
    for place, function in enumerate(exercise.alternatives, 1):
        verdict = check(exercise, function, seed)
        if not verdict.passed:
            yield f"alternative {place} does not pass, on case {verdict.case!r}: {verdict.message}"


def _figure(exercise: Exercise, seed: int) -> Iterator[str]:
    if exercise.figure is None:
        return
    if len(exercise.figure_alt.strip()) < 20:
        yield "its figure has no `figure_alt` that says what is to be seen"
        return
    from matplotlib import pyplot
    from matplotlib.figure import Figure

    figure = exercise.figure(exercise.reference)
    if isinstance(figure, Figure):
        pyplot.close(figure)
    else:
        yield "`figure` does not return a matplotlib Figure"
