"""What became of an answer, and why, in words and small pictures."""

from dataclasses import dataclass

from diffusion_lessons.course.exercises.outputs import Frame


@dataclass(frozen=True)
class Thumbnail:
    """A small picture of a verdict, as PNG, with its text for who can not see it."""

    label: str
    png: bytes
    alt: str


@dataclass(frozen=True)
class Verdict:
    """What became of an answer, and why, in words.

    Its `kind` is "passed", "untouched", "planted", "misconception", or that of what is wrong: "value",
    "shape", "dtype", "device", "type", "keys", "length", "none", "nonfinite", "graph", "mutated", "seeded",
    "gradient", "random", "exception", "timeout", "signature", "name", "not callable", "not implemented" (in
    part), "missing" (a case without a result).
    """

    exercise: str  # id
    status: str  # "passed", "not attempted" or "wrong"
    kind: str
    message: str  # what is wrong, one to three sentences
    misconception: str | None = None  # the name of the one that explains every case, if one does
    case: str = ""  # the first that differs
    inputs: tuple[tuple[str, str], ...] = ()  # of that case, as (name, in words)
    expected: str = ""  # on that case, in words; empty for a prediction
    given: str = ""
    where: str = ""
    frames: tuple[Frame, ...] = ()  # the student's own lines, outermost first
    printed: str = ""  # the first of what the answer printed on that case
    thumbnails: tuple[Thumbnail, ...] = ()  # where pictures differ
    first: str = ""  # what to read at a first attempt in place of a message that gives the answer away

    @property
    def passed(self) -> bool:
        return self.status == "passed"
