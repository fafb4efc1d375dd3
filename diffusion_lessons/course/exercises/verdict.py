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
        frames: the student's own lines, outermost first.
        printed: the first of what the answer printed on that case.
        thumbnails: where pictures differ.
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
    frames: tuple[Frame, ...] = ()
    printed: str = ""
    thumbnails: tuple[Thumbnail, ...] = ()

    @property
    def passed(self) -> bool:
        return self.status == "passed"
