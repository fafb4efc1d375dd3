"""An exercise: cases to run an answer on, the reference, and the wrong answers people really give.

Running an answer and judging what it gave are separate. `exercise.run(function)` needs no expected
value and returns plain data; `exercise.judge(outputs)` needs no student code. So the two can stand
in different processes.
"""

import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from diffusion_lessons.course.exercises.outputs import Outputs
from diffusion_lessons.support.errors import unknown

KINDS = ("reproduce", "implement", "debug", "predict", "stretch")


@dataclass(frozen=True)
class Case:
    """One set of inputs.

    Args:
        name: in words, as the student reads it: "three pictures, each at its own level".
        make: (generator) -> the inputs by name; the same generator state gives the same inputs.
    """

    name: str
    make: Callable[[torch.Generator], dict[str, Any]]


@dataclass(frozen=True)
class Misconception:
    """A wrong answer that people really give.

    Args:
        name: short, with hyphens: "variance-for-std".
        function: gives that wrong answer; takes what the reference takes, and may raise.
        sentence: to the student: what was done, and what is meant instead.
    """

    name: str
    function: Callable[..., Any]
    sentence: str


@dataclass(frozen=True, eq=False)
class Exercise:
    """One exercise of a lesson.

    Args:
        id: "02.1", the lesson's two digits and the number in it.
        name: of the function (or class) that the student writes.
        title, kind, difficulty (1 to 3), minutes: for its card.
        reference: the right answer: the system half's own function, in the student's signature.
        cases: at least three, one for "predict"; the first is the one a student sees most.
        misconceptions: at least three besides the planted one.
        alternatives: right answers written differently, at least two, for the tests.
        hints: concept, equation, shape of the code.
        planted: (debug) the name of the misconception that the student starts from.
        figure: (reference) -> matplotlib Figure of what to expect, with `figure_alt` in words.
        call: (answer, **inputs) -> result, where calling the answer with the inputs is not the
            test: for a class, for a function with an effect, to look at gradients.
        choices: (predict) the texts to choose from.
        rtol, atol: |given − expected| ≤ atol + rtol·|expected|.
        timeout: seconds for one case.
    """

    id: str
    name: str
    title: str
    kind: str
    difficulty: int
    minutes: int
    reference: Callable[..., Any]
    cases: Sequence[Case]
    misconceptions: Sequence[Misconception]
    alternatives: Sequence[Callable[..., Any]]
    hints: Sequence[str]
    planted: str | None = None
    figure: Callable[[Callable[..., Any]], Any] | None = None
    figure_alt: str = ""
    call: Callable[..., Any] | None = None
    choices: Sequence[str] = ()
    rtol: float = 1e-4
    atol: float = 1e-5
    timeout: float = 10.0
    _answers: dict[Any, Outputs] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\d\d\.\d+", self.id):
            raise ValueError(f'an exercise\'s id is like "02.1": lesson, dot, number; got {self.id!r}')
        if self.kind not in KINDS:
            raise unknown("kind of exercise", self.kind, KINDS)
        if self.difficulty not in (1, 2, 3):
            raise ValueError(f"exercise {self.id}: difficulty is 1, 2 or 3, got {self.difficulty!r}")
        for what, names in (
            ("case", [case.name for case in self.cases]),
            ("misconception", [each.name for each in self.misconceptions]),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"exercise {self.id}: two {what}s are named {twice[0]!r}")
        if self.planted is not None:
            self.misconception(self.planted)

    @property
    def lesson(self) -> str:
        """Two digits."""
        return self.id.split(".")[0]

    def misconception(self, name: str) -> Misconception:
        """The misconception of that name."""
        for each in self.misconceptions:
            if each.name == name:
                return each
        raise unknown(f"misconception of exercise {self.id}", name, [m.name for m in self.misconceptions])

    def inputs(self, case: Case, seed: int = 0) -> dict[str, Any]:
        """The inputs of a case, made anew: the same for the same seed, on every machine."""
        mixed = zlib.crc32(f"{self.id}/{case.name}/{seed}".encode())
        with torch.device("cpu"):  # whatever the notebook has made the default
            return case.make(torch.Generator().manual_seed(mixed))

    def run(
        self,
        function: Any,
        cases: Sequence[Case] | None = None,
        seed: int = 0,
        timeout: float | None = None,
        device: str = "cpu",
    ) -> Outputs:
        """Run an answer on the cases. Never raises for what the answer does.

        Args:
            function: the answer, whatever it is.
            cases: default all of the exercise's.
            seed: another seed gives other numbers in the same cases.
            timeout: seconds for one case, default the exercise's own.
            device: where the input tensors are.
        """
        from diffusion_lessons.course.exercises.running import run

        return run(self, function, cases, seed, timeout, device)

    def judge(
        self, outputs: Outputs, cases: Sequence[Case] | None = None, seed: int | None = None
    ) -> "Verdict":
        """Judge what an answer gave.

        Args:
            cases: that the answer should have been run on, default all of the exercise's.
            seed: that it should have been run with, default what the outputs say.
        """
        from diffusion_lessons.course.exercises.judging import judge

        return judge(self, outputs, cases, outputs.seed if seed is None else seed)

    def check(self, function: Any, seed: int = 0) -> "Verdict":
        """Run and judge in one."""
        return self.judge(self.run(function, seed=seed), seed=seed)


@dataclass(frozen=True)
class Picture:
    """A small picture of a verdict, as PNG, with its text for who can not see it."""

    label: str
    png: bytes
    alt: str


@dataclass(frozen=True)
class Verdict:
    """What became of an answer, and why, in words.

    Args:
        exercise: id.
        status: "passed", "not attempted" or "wrong".
        kind: "passed", "untouched", "planted", "misconception", or the kind of what is wrong:
            "value", "shape", "dtype", "device", "type", "keys", "length", "none", "nonfinite",
            "mutated", "random", "exception", "timeout", "signature", "name", "not callable",
            "not implemented" (in part), "missing" (a case without a result).
        message: what to read first, one to three sentences.
        misconception: the name of the one that explains every case, if one does.
        case, inputs: the first case that differs, and its inputs as (name, in words).
        expected, given, where: on that case, in words; expected is empty for a prediction.
        frames: the student's own lines, outermost first, as (line, text, function).
        printed: the first of what the answer printed on that case.
        pictures: where pictures differ.
    """

    exercise: str
    status: str
    kind: str
    message: str
    misconception: str | None = None
    case: str = ""
    inputs: tuple[tuple[str, str], ...] = ()
    expected: str = ""
    given: str = ""
    where: str = ""
    frames: tuple[tuple[int, str, str], ...] = ()
    printed: str = ""
    pictures: tuple[Picture, ...] = ()

    @property
    def passed(self) -> bool:
        return self.status == "passed"
