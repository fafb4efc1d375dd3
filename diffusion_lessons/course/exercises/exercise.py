"""An exercise: cases to run an answer on, the reference, and the wrong answers people really give.

It is data. `running.run` gives its cases to an answer, `judging.judge` says what is wrong with what came
out, `check.check` does both.
"""

import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from diffusion_lessons.support.errors import unknown

KINDS = ("reproduce", "implement", "debug", "predict", "stretch")
ABOUT = {
    "swap": "two things that have changed places",
    "root": "a square or a root",
    "sign": "a sign",
    "direction": "the direction: from which end to which",
    "index": "an index: one place too early or too late in a list",
    "count": "a count: one too many or too few",
    "level": "a level or a time: which one belongs where",
    "boundary": "a boundary: whether it belongs in",
    "rounding": "how something is rounded",
    "shape": "a shape: which numbers meet where",
    "axis": "a dimension: along which one something is done",
    "mean": "a mean or a sum: which of the two, and over what",
    "batch": "the batch: each sample has numbers of its own",
    "missing": "a part that is left out",
    "extra": "a part that was not asked for",
    "factor": "a factor, a weight or a power",
    "order": "the order of the steps: what comes before what",
    "input": "an input: which one belongs where",
    "formula": "the formula: another one is asked for",
    "gradient": "gradients: what they flow through, and what they do not",
    "reading": "the task: what it asks for",
}  # the kinds of slips, in words that give no answer away


@dataclass(frozen=True)
class Case:
    """One set of inputs by name: the same state of the generator gives the same inputs."""

    name: str  # in words, as the student reads it: "three pictures, each at its own level"
    make: Callable[[torch.Generator], dict[str, Any]]


@dataclass(frozen=True)
class Misconception:
    """A wrong answer that people really give."""

    name: str  # short, with hyphens: "variance-for-std"
    function: Callable[..., Any]  # gives that wrong answer; takes what the reference takes, and may raise
    sentence: str  # to the student: what was done, and what is meant instead
    about: str = ""  # the kind of slip, one of ABOUT

    def __post_init__(self) -> None:
        if self.about and self.about not in ABOUT:
            raise unknown("kind of slip", self.about, list(ABOUT))


@dataclass(frozen=True, eq=False)
class Exercise:
    """One exercise of a lesson; title, kind, difficulty and minutes are for its card.

    An answer is right where |given − expected| ≤ atol + rtol·|expected|. `call` (answer, **inputs) -> result
    is for where calling the answer with the inputs is not the test: for a class, for a function with an
    effect, to look at gradients. `trains` names the inputs (tensors, or functions that stand for a network)
    that the lesson trains through the result: gradients must reach them. `builds_on` are exercises whose
    function the reference calls by its name: their misconceptions are known here, too.
    """

    id: str  # "02.1", the lesson's two digits and the number in it
    name: str  # of the function (or class) that the student writes
    title: str
    kind: str
    difficulty: int  # 1 to 3
    minutes: int
    reference: Callable[..., Any]  # right: the system half's own function, in the student's signature
    cases: Sequence[Case]  # at least three, one for "predict"; the first is the one a student sees most
    misconceptions: Sequence[Misconception]  # at least three besides the planted one
    alternatives: Sequence[Callable[..., Any]]  # two or more right answers written differently, for tests
    hints: Sequence[str]  # concept, equation, shape of the code
    planted: str | None = None  # (debug) the name of the misconception that the student starts from
    figure: Callable[[Callable[..., Any]], Any] | None = None  # (reference) -> matplotlib Figure to expect
    figure_alt: str = ""  # what the figure shows, in words
    call: Callable[..., Any] | None = None
    trains: Sequence[str] = ()
    builds_on: Sequence["Exercise"] = ()
    choices: Sequence[str] = ()  # (predict) the texts to choose from
    rtol: float = 1e-4
    atol: float = 1e-5
    timeout: float = 10.0  # seconds for one case

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
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"exercise {self.id}: two {what}s are named {twice[0]!r}")
        if self.planted is not None:
            self.misconception(self.planted)
        for name in self.trains:
            if name not in self.inputs(self.cases[0]):
                raise ValueError(f"exercise {self.id} trains {name!r}, and no case gives it as an input")

    @property
    def lesson(self) -> str:
        """Two digits."""
        return self.id.split(".")[0]

    def misconception(self, name: str) -> Misconception:
        """The misconception of that name."""
        known = {each.name: each for each in self.misconceptions}
        if name not in known:
            raise unknown(f"misconception of exercise {self.id}", name, list(known))
        return known[name]

    def inputs(self, case: Case, seed: int = 0) -> dict[str, Any]:
        """The inputs of a case, made anew: the same for the same seed, on every machine."""
        mixed = zlib.crc32(f"{self.id}/{case.name}/{seed}".encode())
        with torch.device("cpu"):  # whatever the notebook has made the default
            return case.make(torch.Generator().manual_seed(mixed))
